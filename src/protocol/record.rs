//! Records of a session's log: everything a person did, in order. Nothing is rewritten; undo is a record.

use super::inputs::Inputs;
use super::spec::RunSpec;
use crate::domain::{
    Adjudication, CollectionSettings, Completion, CompletionId, LoopSpec, Num, Pair, PairId, Prompt, RatedRow, Rater,
    Repeats, RunId, SftRow, TagChange, TextSet, Verdict,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The first line of every log file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// `tiebreak`.
    pub magic: String,
    /// Major format version; a newer one is opened read-only.
    pub major: u32,
    /// Minor format version: additive changes.
    pub minor: u32,
    /// `session` or `run`.
    pub log: String,
    /// How many records at the start of this file may also be in an earlier one, where the disk failed.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub again: u64,
}

/// `session.json`: written once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionMeta {
    /// Format version of the folder.
    pub format: u32,
    /// The session's name (its folder's slug).
    pub name: String,
    /// The model it samples from and trains, under the user's name for it.
    pub model: String,
    /// Wall clock at creation, milliseconds since 1970.
    pub created_ms: u64,
    /// Version of the program that made it.
    pub app: String,
}

/// One record of a session's log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "k", content = "d", rename_all = "snake_case")]
pub enum SessionRecord {
    /// A prompt was added.
    Prompted(Arc<Prompt>),
    /// A completion was imported.
    Completed(Arc<Completion>),
    /// An import paired two completions.
    Paired(Arc<Pair>),
    /// A pair was judged. The verdict's identity is this record's sequence number.
    Judged(Arc<Verdict>),
    /// A verdict no longer counts.
    Undone {
        /// Sequence number of the `Judged` or `Adjudicated` record.
        of: u64,
    },
    /// An undone verdict counts again.
    Redone {
        /// Sequence number of the `Judged` record.
        of: u64,
    },
    /// A note on a pair; a later one by the same rater replaces it, an empty one removes it.
    Noted {
        /// The pair.
        pair: PairId,
        /// Who wrote it.
        rater: Rater,
        /// The note.
        text: String,
    },
    /// A rater wrote a better version of a completion.
    Corrected {
        /// The pair in which it was shown.
        pair: PairId,
        /// The completion corrected.
        completion: CompletionId,
        /// Who wrote it.
        rater: Rater,
        /// The corrected text.
        text: String,
    },
    /// A correction or a tag no longer counts. Older versions ignore this kind and still count the correction.
    Withdrawn {
        /// Sequence number of the `Corrected` or `Tagged` record.
        of: u64,
    },
    /// A withdrawn correction or tag counts again.
    Restored {
        /// Sequence number of the `Corrected` or `Tagged` record.
        of: u64,
    },
    /// How many labels pairs need and how they become an outcome was set; a later record replaces it.
    Configured(CollectionSettings),
    /// A person settled a pair whose raters disagree. Its identity is this record's sequence number.
    Adjudicated(Adjudication),
    /// A criterion to judge pairs by was added, or its sentence changed; without a sentence it was removed.
    CriterionSet {
        /// Its name.
        name: String,
        /// The question that raters answer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sentence: Option<String>,
    },
    /// How pairs come back for self-consistency was set; a later record replaces it.
    RepeatsSet(Repeats),
    /// A tag was set on a prompt or taken off. Its identity is this record's sequence number; `Withdrawn` undoes it.
    Tagged(TagChange),
    /// Something that a person did in another copy of the session was taken from there, in terms of this log.
    Collected {
        /// When it happened, on the other session's clock, in milliseconds since 1970.
        at: u64,
        /// What was done: a verdict, an adjudication, a correction, a note, a tag, a criterion, or an undo or redo of one under
        /// its number in this log. Versions before tags and criteria were collected ignore those.
        record: Box<SessionRecord>,
    },
    /// A text for SFT, or one to measure forgetting on, was imported.
    Taught {
        /// What it is for.
        set: TextSet,
        /// The text. Shared, as the next kind: of the frequent kinds a long log has hundreds of thousands, and each is moved often.
        row: Arc<SftRow>,
    },
    /// An answer with a thumb up or down was imported.
    Rated(Arc<RatedRow>),
    /// A file states by how much the preferred answer of an imported pair is better; a later record replaces it.
    MarginStated {
        /// The pair.
        pair: PairId,
        /// The margin of its first answer over the second.
        margin: Num,
    },
    /// A run scored a completion; a later score replaces it.
    Scored {
        /// The completion.
        completion: CompletionId,
        /// The run.
        run: RunId,
        /// A reward run's score, in standard deviations from the mean of its calibration answers; else the implicit reward.
        score: Num,
    },
    /// A judge model was about to judge pairs: what it is. A later vote by the same rater is compared with it.
    JudgeRecorded {
        /// The judge as a rater, `model:judge:NAME`.
        rater: Rater,
        /// The files of a local model, or its server's address, name and entry.
        inputs: Box<Inputs>,
    },
    /// A loop of rounds was planned; where it stands follows from its runs, pairs and verdicts.
    LoopPlanned(Box<LoopSpec>),
    /// A run was launched; its folder has the same specification.
    Launched(Box<RunSpec>),
    /// The hash of the state folded from this log up to here, as releases up to 2026-11-26 computed it. It is verified
    /// but no longer written.
    Hashed {
        /// [`crate::domain::Session::state_hash_2026_11`].
        state: String,
    },
    /// The hash of the state folded from this log up to here, for `replay --check`.
    StateHashed {
        /// [`crate::domain::Session::state_hash`].
        state: String,
    },
    /// Bytes were cut from the end of the log after a crash.
    Repaired {
        /// Byte offset of the cut.
        offset: u64,
        /// How many bytes went to quarantine.
        bytes: u64,
        /// How many whole lines were among them: records that were written completely and damaged later.
        #[serde(default, skip_serializing_if = "super::is_zero")]
        lines: u64,
    },
}

impl SessionRecord {
    /// Whether a later record can undo it by its sequence number.
    #[must_use]
    pub fn can_be_undone(&self) -> bool {
        matches!(self, Self::Judged(_) | Self::Corrected { .. } | Self::Adjudicated(_) | Self::Tagged(_))
    }

    /// Whether it is something that a person did: what can be collected from another copy.
    #[must_use]
    pub fn is_act(&self) -> bool {
        matches!(
            self,
            Self::Judged(_)
                | Self::Adjudicated(_)
                | Self::Corrected { .. }
                | Self::Noted { .. }
                | Self::Undone { .. }
                | Self::Redone { .. }
                | Self::Withdrawn { .. }
                | Self::Restored { .. }
                | Self::Tagged(_)
                | Self::CriterionSet { .. }
        )
    }

    /// The record itself, or what was taken from another copy.
    #[must_use]
    pub fn act(&self) -> &Self {
        match self {
            Self::Collected { record, .. } if record.is_act() => record,
            _ => self,
        }
    }
}
