//! The shared hyper-parameters: one struct for all methods, one each for rollouts, mixed SFT rows and the forgetting probe.
//!
//! Owns their keys, ranges and help. Refuses the hyper-parameters of a single method: those are in its recipe's file.

use crate::domain::check::Checks;
use crate::domain::conversation::JsonFields;
use crate::domain::hyper::{choices, hyperparameters, row};
use crate::domain::param::{ParamKind, ParamRow};

/// Linear modules that adapters can be attached to.
const TARGETS: &[&str] = &[
    "all-linear",
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
    "qkv_proj",
    "gate_up_proj",
    "c_fc",
    "c_proj",
    "c_attn",
    "query_key_value",
    "dense",
    "dense_h_to_4h",
    "dense_4h_to_h",
];

choices! {
    /// Which parameters are trained.
    pub enum TuneKind {
        /// LoRA adapters.
        Lora = "lora",
        /// All weights.
        Full = "full",
    }
}

choices! {
    /// The learning-rate schedule after the warm-up.
    pub enum SchedulerKind {
        /// Linear decay to 0.
        Linear = "linear",
        /// Half a cosine to 0.
        Cosine = "cosine",
        /// No decay.
        Constant = "constant",
        /// As 1/√step.
        InverseSqrt = "inverse_sqrt",
        /// Constant until the last `lr_decay_share` of the run, then linear to 0.
        WarmupStableDecay = "warmup_stable_decay",
    }
}

choices! {
    /// Which code computes a training step.
    pub enum EngineKind {
        /// Hand-written kernels.
        Fast = "fast",
        /// Plain autograd, which the fast path is tested against.
        Reference = "reference",
    }
}

choices! {
    /// When mixed SFT rows are trained on.
    pub enum MixOrder {
        /// In every step.
        Interleaved = "interleaved",
        /// In separate steps after all others.
        Sequential = "sequential",
    }
}

hyperparameters! {
    /// Hyper-parameters of every method.
    pub struct TrainerParams {
        learning_rate: f64 = row(ParamKind::Float(0.0, 1.0), "1e-5", "1e-6 – 2e-5", "peak learning rate of AdamW", true);
        num_train_epochs: f64 = row(ParamKind::Float(0.01, 1000.0), "1", "1 – 3", "number of epochs", true);
        max_steps: i64 = row(
            ParamKind::Int(-1, 100_000_000),
            "-1",
            "",
            "number of optimizer steps, overrides num_train_epochs; -1: not set",
            true,
        );
        per_device_train_batch_size: usize = row(ParamKind::Int(1, 4096), "4", "1 – 16", "rows in a micro-batch", true);
        gradient_accumulation_steps: usize = row(
            ParamKind::Int(1, 4096),
            "1",
            "1 – 32",
            "micro-batches accumulated into one optimizer step",
            true,
        );
        max_length: usize = row(
            ParamKind::Int(8, 1_048_576),
            "1024",
            "256 – 4096",
            "maximum tokens of prompt + answer; longer rows are left out and counted",
            true,
        );
        tune: TuneKind = row(ParamKind::Choice(TuneKind::WORDS), "lora", "", "train LoRA adapters or all weights", true);
        lora_r: usize = row(ParamKind::Int(1, 1024), "16", "8 – 64", "LoRA rank", true);
        lora_alpha: f64 = row(ParamKind::Float(0.0, 4096.0), "32", "r – 2r", "LoRA alpha; adapters are scaled by alpha / r", true);
        lora_dropout: f64 = row(
            ParamKind::Float(0.0, 0.99),
            "0",
            "0 – 0.1",
            "LoRA dropout; usually 0 for preference training",
            false,
        );
        use_rslora: bool = row(ParamKind::Bool, "false", "", "rank-stabilised LoRA: scale by alpha / √r", false);
        use_dora: bool = row(
            ParamKind::Bool,
            "false",
            "",
            "weight-decomposed LoRA (DoRA): magnitude and direction apart; slower",
            false,
        );
        lora_target_modules: Vec<String> = row(
            ParamKind::List(TARGETS),
            "all-linear",
            "",
            "modules that get adapters",
            false,
        );
        lr_scheduler_type: SchedulerKind = row(
            ParamKind::Choice(SchedulerKind::WORDS),
            "linear",
            "",
            "learning-rate schedule after the warm-up",
            false,
        );
        lr_decay_share: f64 = row(
            ParamKind::Float(0.01, 1.0),
            "0.2",
            "0.1 – 0.2",
            "warmup_stable_decay: share of all steps spent on the final decay",
            false,
        );
        warmup_steps: f64 = row(
            ParamKind::Float(0.0, 1e9),
            "0",
            "0 – 0.1",
            "warm-up steps; below 1 a share of all steps",
            false,
        );
        weight_decay: f64 = row(ParamKind::Float(0.0, 10.0), "0", "0 – 0.1", "AdamW weight decay", false);
        adam_beta1: f64 = row(ParamKind::Float(0.0, 0.9999), "0.9", "", "AdamW: decay rate of the first moment", false);
        adam_beta2: f64 = row(ParamKind::Float(0.0, 0.999_999), "0.999", "", "AdamW: decay rate of the second moment", false);
        adam_epsilon: f64 = row(ParamKind::Float(1e-12, 1.0), "1e-8", "", "AdamW: added to the denominator for stability", false);
        max_grad_norm: f64 = row(
            ParamKind::Float(0.0, 1e9),
            "1",
            "0.5 – 10",
            "gradient clipping: maximum global norm; 0 disables it",
            false,
        );
        seed: u64 = row(ParamKind::Int(0, i64::MAX), "42", "", "random seed of data order, adapter initialisation and dropout", false);
        shuffle: bool = row(ParamKind::Bool, "true", "", "shuffle rows every epoch; false keeps the file's order", false);
        group_by_length: bool = row(
            ParamKind::Bool,
            "false",
            "",
            "batch rows of similar length, longest first: runs out of memory at once or never",
            false,
        );
        max_tokens_per_batch: usize = row(
            ParamKind::Int(0, 10_000_000),
            "0",
            "1024 – 16384",
            "fill micro-batches by tokens, padding included, longest first; 0: by rows",
            false,
        );
        eval_fraction: f64 = row(
            ParamKind::Float(0.0, 0.9),
            "0.1",
            "0 – 0.2",
            "share of prompts held out for evaluation, chosen by hash",
            false,
        );
        eval_steps: u64 = row(
            ParamKind::Int(0, 1_000_000),
            "0",
            "10 – 200",
            "evaluate every N steps; 0: only at the end",
            false,
        );
        metric_for_best_model: String = row(
            ParamKind::Metric,
            "eval_loss",
            "",
            "evaluation metric that selects ckpt/best; empty: keep no best checkpoint",
            false,
        ), before "";
        early_stopping_patience: u64 = row(
            ParamKind::Int(0, 1_000_000),
            "0",
            "2 – 10",
            "stop after N evaluations without improvement; 0: never",
            false,
        );
        save_steps: u64 = row(
            ParamKind::Int(0, 1_000_000),
            "50",
            "20 – 500",
            "save a checkpoint every N steps; 0: only at the end",
            false,
        );
        save_total_limit: usize = row(ParamKind::Int(1, 1000), "2", "1 – 5", "number of checkpoints kept", false);
        engine: EngineKind = row(
            ParamKind::Choice(EngineKind::WORDS),
            "fast",
            "",
            "fast: optimised kernels; reference: plain autograd, slow",
            false,
        );
        sample_steps: u64 = row(
            ParamKind::Int(0, 1_000_000),
            "0",
            "20 – 200",
            "log sample answers every N steps; 0: only before and after",
            false,
        );
        chat_template_kwargs: JsonFields = row(
            ParamKind::Variables,
            "",
            "",
            "variables of the chat template as JSON, such as {\"enable_thinking\": false}; a row's own go first",
            false,
        );
    }
}

hyperparameters! {
    /// Hyper-parameters of methods that can mix in SFT rows.
    pub struct MixParams {
        mix_ratio: f64 = row(
            ParamKind::Float(0.0, 0.9),
            "0",
            "0.1 – 0.3",
            "share of SFT rows mixed in against forgetting",
            false,
        );
        mix_order: MixOrder = row(
            ParamKind::Choice(MixOrder::WORDS),
            "interleaved",
            "",
            "SFT rows in every step, or in separate steps after all others",
            false,
        );
        mix_weight: f64 = row(ParamKind::Float(0.0, 1000.0), "1", "0.1 – 1", "weight of the SFT rows' loss", false);
    }
}

hyperparameters! {
    /// Hyper-parameters of measurements beside the training: the forgetting probe and suites.
    pub struct ProbeParams {
        probe_steps: u64 = row(
            ParamKind::Int(0, 1_000_000),
            "0",
            "10 – 100",
            "measure forgetting on general text every N steps; 0: never",
            false,
        );
        probe_alarm: f64 = row(
            ParamKind::Float(0.0, 100.0),
            "0.1",
            "0.05 – 0.5",
            "warn above this KL to the base model on general text (nats per token); 0: never",
            false,
        );
        eval_suites: String = row(
            ParamKind::Names,
            "",
            "degenerate,ifeval",
            "suites measured on answers while training; empty: none",
            false,
        );
        eval_every: u64 = row(
            ParamKind::Int(1, 1_000_000),
            "50",
            "25 – 500",
            "measure the suites every N steps, before the first and after the last",
            false,
        );
        eval_limit: usize =
            row(ParamKind::Int(1, 100_000), "32", "16 – 128", "most items of each suite while training", false);
    }
}

hyperparameters! {
    /// Sampling and rewards of the online methods.
    pub struct RolloutParams {
        reward_model: String = row(
            ParamKind::Word,
            "",
            "",
            "reward run that scores the answers; RUN@best: its best checkpoint",
            true,
        );
        reward_checks: Checks = row(
            ParamKind::Checks,
            "",
            "any_of=…;max_words=…",
            "verifiable checks; the share that passes is the reward",
            true,
        );
        checks_weight: f64 = row(
            ParamKind::Float(0.0, 1000.0),
            "1",
            "",
            "weight of the checks relative to the reward model",
            false,
        );
        num_generations: usize = row(ParamKind::Int(1, 256), "4", "2 – 16", "answers sampled per prompt", true);
        max_completion_length: usize = row(
            ParamKind::Int(1, 100_000),
            "64",
            "16 – 512",
            "maximum tokens of an answer",
            true,
        );
        temperature: f64 = row(
            ParamKind::Float(0.01, 100.0),
            "1",
            "0.7 – 1",
            "sampling temperature; also divides the logits in the loss",
            false,
        );
        missing_eos_penalty: f64 = row(
            ParamKind::Float(0.0, 1000.0),
            "0",
            "0 – 1",
            "subtracted from the reward of an answer without an EOS token",
            false,
        );
        num_iterations: usize = row(ParamKind::Int(1, 100), "1", "1 – 4", "epochs over each round of answers", false);
        num_mini_batches: usize = row(
            ParamKind::Int(1, 1024),
            "1",
            "1 – 4",
            "optimizer steps per epoch over a round",
            false,
        );
    }
}

/// Lower clip range of GRPO and RLOO.
pub(crate) const EPSILON: ParamRow =
    row(ParamKind::Float(0.0, 10.0), "0.2", "0.1 – 0.3", "clip the probability ratio below 1 − epsilon", false);

/// Upper clip range of GRPO and RLOO.
pub(crate) const EPSILON_HIGH: ParamRow =
    row(ParamKind::Float(0.0, 10.0), "0.2", "0.2 – 0.4", "clip the probability ratio above 1 + epsilon_high", false);

/// Label smoothing per pair, from its votes or from how consistent its rater is.
pub(crate) const SOFT_LABELS: ParamRow = row(
    ParamKind::Bool,
    "false",
    "",
    "label smoothing per pair: its share of contrary votes, or its only rater's inconsistency on repeats",
    false,
);

/// An overridden default of a shared row: `(key, default, usual)`.
pub(crate) type MethodDefault = (&'static str, &'static str, &'static str);

/// Defaults of the online methods.
pub(crate) const ANSWERS_RATE: MethodDefault = ("learning_rate", "1e-4", "LoRA 1e-5 – 3e-4, full 1e-6 – 1e-5");
pub(crate) const ANSWERS_BATCH: MethodDefault = ("per_device_train_batch_size", "16", "8 – 64");
pub(crate) const ANSWERS_EVAL: MethodDefault = ("eval_fraction", "0", "0 – 0.2");
pub(crate) const ANSWERS_BEST: MethodDefault = ("metric_for_best_model", "eval_reward", "");

/// The reward as part of a formula.
pub(crate) fn reward_formula(p: &RolloutParams) -> String {
    let weight = if p.checks_weight == 1.0 { String::new() } else { format!("{}·", p.checks_weight) };
    let penalty = match p.missing_eos_penalty {
        0.0 => String::new(),
        x => format!(" − {x}·[no EOS]"),
    };
    let (run, checks) = (&p.reward_model, &p.reward_checks);
    let from = match (run.is_empty(), checks.is_empty()) {
        (true, true) => "unset: set reward_model or reward_checks".to_owned(),
        (false, true) => format!("score of {run}"),
        (true, false) => format!("{weight}checks({checks})"),
        (false, false) => format!("score of {run} + {weight}checks({checks})"),
    };
    format!("R = {from}{penalty}")
}
