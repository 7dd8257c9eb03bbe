//! Training: rows to batches, batches to losses, losses to updates, and monitoring.
//!
//! Owns `data/` (rows as tokens and masks), `loss/` (pure functions of f64, without candle), `recipe/` (one file per method),
//! the trainer with checkpoints, evaluation and health, the cache of reference log-probs, scoring with reward models, the
//! estimate before a run, and the benchmark. Refuses the terminal, tokio and the layout of session folders: it reports through
//! a [`Sink`](crate::model::Sink) of run events and its return values.
//!
//! **Invariant.** A step is a function of (specification, rows, step): a resumed run is the same run.

pub mod bench;
pub(crate) mod data;
mod estimate;
pub mod fresh;
mod implicit;
mod loss;
mod masks;
mod recipe;
mod reference;
mod schedule;
mod scorer;
mod trainer;

pub use data::{Encode, Example, Rows, TokeniseOptions, Tokenised, order, tokenise};
pub use estimate::estimate;
pub use implicit::ImplicitScorer;
pub use loss::{
    AdaptiveKl, Calibration, Cpo, CpoForm, CpoPair, Divergence, Dpo, DpoForm, DpoPair, DpoTerm, FORMS, Grpo, GrpoRow,
    KlEstimator, Kto, KtoForm, KtoRow, Orpo, OrpoNll, OrpoPair, PairGradient, PairLoss, Ppo, PpoLoss, PpoRow,
    RatioLevel, Reduction, Reward, RewardLoss, RewardPair, RewardScale, Rloo, RlooRow, Rollout, RowLoss, Sft, SftForm,
    Tally, calibrate, fit_temperature, gae, group_advantages, leave_one_out, reward_metrics, rollout_metrics,
    token_rewards, whiten,
};
pub use masks::{as_read, masks};
pub use recipe::SampledAnswer;
pub(crate) use recipe::{METHODS, ScalarHead, scalar_head};
pub use reference::{CacheStats, Reference, ReferenceCache};
pub use schedule::{Decay, Schedule};
pub use scorer::RewardScorer;
pub use trainer::{PeriodicSuites, RunPaths, RunRows, StepOutcome, Trainer, tune_of};
