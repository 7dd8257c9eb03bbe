//! The pure state machine of the workbench.
