//! The nouns and the rules of preference alignment: prompts, completions, pairs, verdicts, runs, metrics, findings.
//!
//! Owns what these things mean and how they fold from a log. Refuses files, clocks, terminals, candle and tokio: everything
//! here is a value or a pure function of values.
//!
//! **Invariant:** folding the same records gives the same state, whichever process does it.

mod adapter_base;
mod agreement;
mod axis;
mod bradley_terry;
mod canonical;
mod check;
mod common_text;
mod conclusion;
mod contest;
mod conversation;
mod dawid_skene;
mod eval_items;
mod evaluation;
mod filter;
mod hash;
mod health;
mod hyper;
mod identity;
mod ids;
mod log_prob;
mod lone_list;
mod loop_progress;
mod loop_spec;
mod measured;
mod method;
mod metric;
mod model_vote;
mod nearest;
mod newton;
mod param;
mod part_list;
mod partial;
mod people;
mod posed;
mod rubric;
mod run;
mod run_state;
mod safe_text;
mod sampled;
mod scorecard;
mod select;
mod series;
mod session;
mod standings;
mod stats;
mod suite;
mod template_variables;
mod text;
mod thought;
mod verdict;
mod votes;
mod winner_hash;

#[cfg(test)]
mod tests;

pub use adapter_base::adapter_base_note;
pub use agreement::{
    ItemLabels, Scale, bootstrap, cohen_kappa, fleiss_kappa, item_agreement, krippendorff_alpha, percent_agreement,
    quadratic_kappa,
};
pub use axis::{StepRange, ValueRange, nice_step};
pub use bradley_terry::{BradleyTerry, Win, bradley_terry};
pub use check::{Check, CheckError, Checks, Takes, checks};
pub use common_text::CommonText;
pub use conclusion::Conclusion;
pub use contest::{Contestant, ItemKey};
pub use conversation::{Conversation, JsonFields, Message, MessageFields, PairTurns, ReplyRef, readable_turns};
pub use dawid_skene::{DawidSkene, RaterLabel, dawid_skene};
pub use eval_items::{EvalItem, ItemFilter, ItemOutcome, eval_items};
pub use evaluation::{
    BETTER_NEEDS, CannotTell, ComparisonVerdict, ConfidenceInterval, DRAWS, FEWEST_LENGTHS, Game, GateFailure,
    IntervalMethod, JudgeFigures, LengthControlled, LengthFit, LengthRow, LengthTercile, LogisticCalibration,
    MIN_ACCURACY, MIN_CONSISTENCY, McNemar, PairCounts, PairedDifference, PairedWinRate, PromptScore, RatedContender,
    Ratings, RewardFigures, RewardedPair, SeedsFigure, TieKind, TieModel, Undefined, davidson, fit_length, holm,
    judge_gate, length_controlled, length_thirds, logistic_calibration, mcnemar, over_seeds, paired_difference,
    paired_win_rate, prompts_to_tell, rao_kupper, ratings, reward_figures, sign_test,
};
pub use filter::{Bound, Filter, FilterError, FilterTerm, FilterTest, VerdictWord, filter_words, quoted_words};
pub use hash::{Fold64, IdMap, hash64, mix64};
pub use health::{Health, HealthState, PairMargin, RunFacts};
pub use hyper::{FromText, Hyperparameters};
pub use identity::identity_words;
pub use ids::{CompletionId, PairId, PromptId, Rater, RunId, is_name};
pub use log_prob::LogProb;
pub use lone_list::LoneList;
pub use loop_progress::{
    LOOP_SUITE, LoopProgress, LoopPrompts, LoopState, LoopStep, RoundProgress, RoundRuns, RoundWin,
};
pub use loop_spec::{LOOP_HELD_OUT, LoopRows, LoopSpec, PEOPLE};
pub use measured::{Comparison, EvalAnswer, EvalState, GatePair, Measurement};
pub use method::{
    Condition, Dependency, EngineKind, Method, MixOrder, MixParams, Needs, ProbeParams, RolloutParams, SchedulerKind,
    TrainerParams, TuneKind, method, methods,
};
pub use metric::{Metrics, Num};
pub use model_vote::{DISTANCES, GAPS, TIE_GAP, TIE_PROBABILITY, vote_by_gap, vote_by_probability};
pub use nearest::{hint, nearest};
pub use param::{ParamError, ParamKind, ParamRow, Params};
pub use part_list::PartList;
pub use partial::{PartialCounts, PartialFate, PartialView, ShownPart};
pub use people::with_people;
pub use posed::{BlindSet, EVALUATION, HUMAN, PosedPair, Revealed, giveaways};
pub use rubric::{CRITERIA, Criterion, OVERALL, RowChoice, Rubric, RubricPass};
pub use run::{DroppedRows, Finding, LOST_WORKER, Plan, RunStatus, Severity};
pub use run_state::{Checkpoint, Obeyed, RunState, Sample, Stage};
pub use safe_text::{is_shown, one_line, sanitise, shown_json, table_cell};
pub use sampled::SampledHash;
pub use scorecard::{
    EvalReport, FEWEST_LABELS, GateReport, JudgeReport, LLMBAR, LengthReport, MeasureReport, MeasureValues, OWN_LABELS,
    SuiteReport, eval_report, gate_suite, is_gate, logit, measure_values, pooled_value,
};
pub use select::{
    Against, Allocation, Candidate, CandidatePair, Chosen, Pool, PromptFacts, STRATEGIES, SelectError, SelectOptions,
    Strategy, StratumKey, StratumSize, allocate,
};
pub use series::{Axis, Bucket, Line, Series};
pub use session::{
    Act, ActKind, AgreementReport, BEST_OF, BuiltQueue, Coefficient, Confusion, Contested, Copied, Correction,
    CriterionReport, Dispute, FilterView, Judged, LabelledPair, Lack, LeftOut, ModelContest, PairSet, PairVote,
    QueueBuild, QueueOrder, QueueRequest, RANK, RaterFigures, Score, ScoreSource, Session, SessionPool, SharedName,
    Supply, TagChange, VerdictSummary, WinRate, agreement_report, tag_problem,
};
pub use standings::{RatedEvaluation, Standing, Standings, standings};
pub use stats::{ece, median, quantile, wilson};
pub use suite::{Better, JudgeOperand, JudgeRow, Measure, Pooling, REWARD_MARGIN, SuiteRow, judges, suite, suites};
pub use template_variables::{KNOWN_VARIABLES, RESERVED_VARIABLES, template_variables, variable_value};
pub use text::{
    CORRECTION, Completion, Finish, Pair, PairRow, Prompt, PromptBody, RatedRow, Sampler, SftBody, SftRow, TextSet,
    counted, is_held_out, model_name,
};
pub use thought::{Thought, answer_after_thoughts, ends_inside_thought, leading_thought, thoughts};
pub use verdict::{Asked, Choice, Seen, Showing, Side, Strength, Verdict};
pub use votes::{
    Adjudication, Aggregate, Aggregation, CollectionSettings, ItemState, LabelRule, Outcome, Repeats, VotedPair,
    aggregate, majority, nominal, signed,
};
pub use winner_hash::WinnerHash;

pub(crate) use hyper::{choices, hyperparameters, read, row};
pub(crate) use method::{
    ANSWERS_BATCH, ANSWERS_BEST, ANSWERS_EVAL, ANSWERS_RATE, CHECKS_WEIGHT_DEPENDENCY, EPSILON, EPSILON_HIGH,
    SOFT_LABELS, nothing, reward_formula,
};
