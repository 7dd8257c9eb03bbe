//! Session folders on disk: append-only logs, repair, tailing, locks, atomic checkpoints, import and export formats.
