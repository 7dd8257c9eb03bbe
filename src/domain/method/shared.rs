//! The hyper-parameters that methods share: one struct for every method, one each for rollouts, mixed rows and the probe.
//!
//! Owns their keys, ranges and help. Refuses what belongs to one method: that is in its recipe's file.

use crate::domain::check::Checks;
use crate::domain::hyper::{choices, hyperparameters, row};
use crate::domain::param::{ParamKind, ParamRow};

/// Linear layers that adapters can be put on.
const TARGETS: &[&str] = &["all-linear", "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

choices! {
    /// What is trained.
    pub enum TuneKind {
        /// Small adapters.
        Lora = "lora",
        /// Every weight.
        Full = "full",
    }
}

choices! {
    /// How the learning rate falls after the warm-up.
    pub enum SchedulerKind {
        /// In a straight line to 0.
        Linear = "linear",
        /// Along half a cosine to 0.
        Cosine = "cosine",
        /// Not at all.
        Constant = "constant",
        /// As 1/√step.
        InverseSqrt = "inverse_sqrt",
        /// Not at all until the last `lr_decay_share` of the run, then in a straight line to 0.
        WarmupStableDecay = "warmup_stable_decay",
    }
}

choices! {
    /// Which code computes a training step.
    pub enum EngineKind {
        /// Written by hand.
        Fast = "fast",
        /// The plain path it is checked against.
        Reference = "reference",
    }
}

choices! {
    /// When mixed rows are learned.
    pub enum MixOrder {
        /// In every step.
        Interleaved = "interleaved",
        /// In steps of their own behind the others.
        Sequential = "sequential",
    }
}

hyperparameters! {
    /// What every method reads.
    pub struct TrainerParams {
        learning_rate: f64 = row(ParamKind::Float(0.0, 1.0), "1e-5", "1e-6 – 2e-5", "size of a step", true);
        num_train_epochs: f64 = row(ParamKind::Float(0.01, 1000.0), "1", "1 – 3", "passes over the data", true);
        max_steps: i64 = row(
            ParamKind::Int(-1, 100_000_000),
            "-1",
            "",
            "stop after this many steps; -1 follows the epochs",
            true,
        );
        per_device_train_batch_size: usize = row(ParamKind::Int(1, 4096), "4", "1 – 16", "rows worked on at once", true);
        gradient_accumulation_steps: usize = row(
            ParamKind::Int(1, 4096),
            "1",
            "1 – 32",
            "batches added up into one step",
            true,
        );
        max_length: usize = row(
            ParamKind::Int(8, 1_048_576),
            "1024",
            "256 – 4096",
            "longest prompt + answer in tokens; longer pairs are left out and counted",
            true,
        );
        tune: TuneKind = row(ParamKind::Choice(TuneKind::WORDS), "lora", "", "train small adapters or every weight", true);
        lora_r: usize = row(ParamKind::Int(1, 1024), "16", "8 – 64", "rank of the adapters", true);
        lora_alpha: f64 = row(ParamKind::Float(0.0, 4096.0), "32", "r – 2r", "scale of the adapters (alpha / r)", true);
        lora_dropout: f64 = row(
            ParamKind::Float(0.0, 0.99),
            "0",
            "0 – 0.1",
            "dropout before the adapters; 0 is the rule for preference training",
            false,
        );
        use_rslora: bool = row(ParamKind::Bool, "false", "", "scale the adapters by alpha / √r, for high ranks", false);
        use_dora: bool = row(
            ParamKind::Bool,
            "false",
            "",
            "train each output's length beside its direction (DoRA); slower",
            false,
        );
        lora_target_modules: Vec<String> = row(
            ParamKind::List(TARGETS),
            "all-linear",
            "",
            "layers that get adapters",
            false,
        );
        lr_scheduler_type: SchedulerKind = row(
            ParamKind::Choice(SchedulerKind::WORDS),
            "linear",
            "",
            "how the step size falls after the warm-up",
            false,
        );
        lr_decay_share: f64 = row(
            ParamKind::Float(0.01, 1.0),
            "0.2",
            "0.1 – 0.2",
            "warmup_stable_decay: share of all steps, at the end, in which the step size falls to 0",
            false,
        );
        warmup_steps: f64 = row(
            ParamKind::Float(0.0, 1e9),
            "0",
            "0 – 0.1",
            "steps of rising step size; below 1 it is a share of all steps",
            false,
        );
        weight_decay: f64 = row(ParamKind::Float(0.0, 10.0), "0", "0 – 0.1", "AdamW's pull towards zero", false);
        adam_beta1: f64 = row(ParamKind::Float(0.0, 0.9999), "0.9", "", "AdamW's memory of the gradient", false);
        adam_beta2: f64 = row(ParamKind::Float(0.0, 0.999_999), "0.999", "", "AdamW's memory of its square", false);
        adam_epsilon: f64 = row(ParamKind::Float(1e-12, 1.0), "1e-8", "", "AdamW's guard against division by zero", false);
        max_grad_norm: f64 = row(
            ParamKind::Float(0.0, 1e9),
            "1",
            "0.5 – 10",
            "gradients are scaled down to this norm; 0 never",
            false,
        );
        seed: u64 = row(ParamKind::Int(0, i64::MAX), "42", "", "seed of order, adapters and dropout", false);
        shuffle: bool = row(ParamKind::Bool, "true", "", "false keeps the file's order", false);
        group_by_length: bool = row(
            ParamKind::Bool,
            "false",
            "",
            "rows of like length together, the longest first: out of memory at once or never",
            false,
        );
        max_tokens_per_batch: usize = row(
            ParamKind::Int(0, 10_000_000),
            "0",
            "1024 – 16384",
            "batches filled up to so many tokens, padding counted, the longest first; 0: rows",
            false,
        );
        eval_fraction: f64 = row(
            ParamKind::Float(0.0, 0.9),
            "0.1",
            "0 – 0.2",
            "share of prompts kept for evaluation, by hash of the prompt",
            false,
        );
        eval_steps: u64 = row(
            ParamKind::Int(0, 1_000_000),
            "0",
            "10 – 200",
            "evaluate every so many steps; 0 only at the end",
            false,
        );
        metric_for_best_model: String = row(
            ParamKind::Metric,
            "eval_loss",
            "",
            "the evaluation's metric by which ckpt/best is kept; empty keeps none",
            false,
        ), before "";
        early_stopping_patience: u64 = row(
            ParamKind::Int(0, 1_000_000),
            "0",
            "2 – 10",
            "end after so many evaluations without a better one; 0 never",
            false,
        );
        save_steps: u64 = row(
            ParamKind::Int(0, 1_000_000),
            "50",
            "20 – 500",
            "checkpoint every so many steps; 0 only at the end",
            false,
        );
        save_total_limit: usize = row(ParamKind::Int(1, 1000), "2", "1 – 5", "checkpoints kept", false);
        engine: EngineKind = row(
            ParamKind::Choice(EngineKind::WORDS),
            "fast",
            "",
            "fast: written by hand; reference: the plain path it is checked against, slow",
            false,
        );
        sample_steps: u64 = row(
            ParamKind::Int(0, 1_000_000),
            "0",
            "20 – 200",
            "show sampled answers every so many steps; 0 only before and after",
            false,
        );
    }
}

hyperparameters! {
    /// Of methods that can mix supervised rows in.
    pub struct MixParams {
        mix_ratio: f64 = row(
            ParamKind::Float(0.0, 0.9),
            "0",
            "0.1 – 0.3",
            "share of supervised rows mixed in against forgetting",
            false,
        );
        mix_order: MixOrder = row(
            ParamKind::Choice(MixOrder::WORDS),
            "interleaved",
            "",
            "mixed into every step, or in steps of their own behind the others",
            false,
        );
        mix_weight: f64 = row(ParamKind::Float(0.0, 1000.0), "1", "0.1 – 1", "weight of the mixed rows' loss", false);
    }
}

hyperparameters! {
    /// Of methods under which general text can be forgotten.
    pub struct ProbeParams {
        probe_steps: u64 = row(
            ParamKind::Int(0, 1_000_000),
            "0",
            "10 – 100",
            "measure general text every so many steps; 0 does not measure it",
            false,
        );
        probe_alarm: f64 = row(
            ParamKind::Float(0.0, 100.0),
            "0.1",
            "0.05 – 0.5",
            "nats a token of KL to the base model on general text that are too much; 0 never",
            false,
        );
    }
}

hyperparameters! {
    /// How the policy answers, and what its answers are worth: of the methods that learn from their own answers.
    pub struct RolloutParams {
        reward_model: String = row(
            ParamKind::Word,
            "",
            "",
            "a reward run whose score the answers climb; RUN@best: its best checkpoint",
            true,
        );
        reward_checks: Checks = row(
            ParamKind::Checks,
            "",
            "any_of=…;max_words=…",
            "verifiable checks: the share that holds is the reward",
            true,
        );
        checks_weight: f64 = row(
            ParamKind::Float(0.0, 1000.0),
            "1",
            "",
            "weight of the checks beside the reward model",
            false,
        );
        num_generations: usize = row(ParamKind::Int(1, 256), "4", "2 – 16", "answers to each prompt", true);
        max_completion_length: usize = row(
            ParamKind::Int(1, 100_000),
            "64",
            "16 – 512",
            "the most tokens of an answer",
            true,
        );
        temperature: f64 = row(
            ParamKind::Float(0.01, 100.0),
            "1",
            "0.7 – 1",
            "divides the logits of policy and reference alike",
            false,
        );
        missing_eos_penalty: f64 = row(
            ParamKind::Float(0.0, 1000.0),
            "0",
            "0 – 1",
            "taken off the reward of an answer that did not end",
            false,
        );
        num_iterations: usize = row(ParamKind::Int(1, 100), "1", "1 – 4", "passes over each round of answers", false);
        num_mini_batches: usize = row(
            ParamKind::Int(1, 1024),
            "1",
            "1 – 4",
            "updates that a pass over a round is cut into",
            false,
        );
    }
}

/// How far a ratio may fall, of the methods that compare an answer with its group.
pub(crate) const EPSILON: ParamRow =
    row(ParamKind::Float(0.0, 10.0), "0.2", "0.1 – 0.3", "a ratio this far below 1 counts no more", false);

/// How far it may rise.
pub(crate) const EPSILON_HIGH: ParamRow =
    row(ParamKind::Float(0.0, 10.0), "0.2", "0.2 – 0.4", "a ratio this far above 1 counts no more", false);

/// A pair's own share of wrong labels, from its votes or from its rater's second judgements.
pub(crate) const SOFT_LABELS: ParamRow = row(
    ParamKind::Bool,
    "false",
    "",
    "a pair's own label smoothing: the votes against it, or how often its one rater judged other pairs otherwise again",
    false,
);

/// A default of a shared row that is another one for a method: `(key, default, usual)`.
pub(crate) type MethodDefault = (&'static str, &'static str, &'static str);

/// Defaults of the methods that learn from their own answers.
pub(crate) const ANSWERS_RATE: MethodDefault = ("learning_rate", "1e-4", "LoRA 1e-5 – 3e-4, full 1e-6 – 1e-5");
pub(crate) const ANSWERS_BATCH: MethodDefault = ("per_device_train_batch_size", "16", "8 – 64");
pub(crate) const ANSWERS_EVAL: MethodDefault = ("eval_fraction", "0", "0 – 0.2");
pub(crate) const ANSWERS_BEST: MethodDefault = ("metric_for_best_model", "eval_reward", "");

/// Where the reward comes from, as part of a formula.
pub(crate) fn reward_formula(p: &RolloutParams) -> String {
    let weight = if p.checks_weight == 1.0 { String::new() } else { format!("{}·", p.checks_weight) };
    let penalty = match p.missing_eos_penalty {
        0.0 => String::new(),
        x => format!(" − {x}·[no end]"),
    };
    let (run, checks) = (&p.reward_model, &p.reward_checks);
    let from = match (run.is_empty(), checks.is_empty()) {
        (true, true) => "none yet: set reward_model or reward_checks".to_owned(),
        (false, true) => format!("score of {run}"),
        (true, false) => format!("{weight}checks({checks})"),
        (false, false) => format!("score of {run} + {weight}checks({checks})"),
    };
    format!("R = {from}{penalty}")
}
