//! What a method's row says, and the hyper-parameters that methods share.
//!
//! Owns [`Method`], the shared rows and their defaults. Refuses to know any method: each has a file of its own.

use crate::domain::param::{Kind, ParamRow, Params};

/// What a method learns from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Preference pairs ([`crate::domain::PairRow`]): prompt, chosen, rejected.
    Pairs,
    /// Texts to imitate ([`crate::domain::SftRow`]).
    Examples,
    /// Single answers with a thumb up or down ([`crate::domain::RatedRow`]).
    Ratings,
    /// Prompts ([`crate::domain::Prompt`]) that the policy itself answers.
    Prompts,
}

/// A training method.
#[derive(Debug, Clone, Copy)]
pub struct Method {
    /// Its name on the command line: `dpo`.
    pub name: &'static str,
    /// Its name in full.
    pub title: &'static str,
    /// One line on when to use it.
    pub help: &'static str,
    /// What it learns from.
    pub needs: Needs,
    /// Whether it compares with a frozen reference.
    pub reference: bool,
    /// Whether it trains on the answers' tokens, so that forgetting can be measured on general text.
    pub probes: bool,
    /// Whether supervised rows can be mixed in against forgetting.
    pub mixes: bool,
    /// Shared hyper-parameters that mean nothing to it.
    pub without: &'static [&'static str],
    /// Its own hyper-parameters; the shared ones follow in [`Method::rows`].
    pub own: &'static [ParamRow],
    /// Defaults that differ from the shared rows': `(key, default, usual)`.
    pub defaults: &'static [(&'static str, &'static str, &'static str)],
    /// Options that mean something only under another one's setting, beside the shared ones.
    pub under: &'static [Under],
    /// Why these options cannot stand together, as one sentence, where it is no matter of [`Method::under`].
    pub refuse: fn(&Params) -> Option<String>,
    /// The resolved objective as a formula in plain characters.
    pub objective: fn(&Params) -> String,
}

impl Method {
    /// Every hyper-parameter of the method: its own, then the shared ones.
    #[must_use]
    pub fn rows(&self) -> Vec<ParamRow> {
        let mut rows = self.own.to_vec();
        let mix = MIX.iter().filter(|_| self.mixes);
        let probe = PROBE.iter().filter(|_| self.probes);
        let online = ONLINE.iter().filter(|_| self.needs == Needs::Prompts);
        for row in online.chain(SHARED).chain(mix).chain(probe).filter(|row| !self.without.contains(&row.key)) {
            let mut row = *row;
            if let Some((_, default, usual)) = self.defaults.iter().find(|(key, ..)| *key == row.key) {
                row.default = default;
                row.usual = usual;
            }
            rows.push(row);
        }
        rows
    }
}

impl Method {
    /// The whole objective as a formula in plain characters, with what is mixed in.
    #[must_use]
    pub fn formula(&self, params: &Params) -> String {
        let own = (self.objective)(params);
        let ratio = params.f64("mix_ratio");
        if !self.mixes || ratio.is_nan() || ratio <= 0.0 {
            return own;
        }
        let weight = match params.text("mix_weight") {
            "1" => String::new(),
            w => format!("{w}·"),
        };
        let order = if params.text("mix_order") == "sequential" { "then" } else { "+" };
        format!("{own},  {order} {weight}NLL(mixed rows, {} of all)", params.text("mix_ratio"))
    }
}

pub(super) const fn row(
    key: &'static str,
    kind: Kind,
    default: &'static str,
    usual: &'static str,
    help: &'static str,
    basic: bool,
) -> ParamRow {
    ParamRow { key, kind, default, usual, help, basic }
}

/// Linear layers that adapters can be put on.
pub const TARGETS: &[&str] =
    &["all-linear", "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

const SHARED: &[ParamRow] = &[
    row("learning_rate", Kind::Float(0.0, 1.0), "1e-5", "1e-6 – 2e-5", "size of a step", true),
    row("num_train_epochs", Kind::Float(0.01, 1000.0), "1", "1 – 3", "passes over the data", true),
    row("max_steps", Kind::Int(-1, 100_000_000), "-1", "", "stop after this many steps; -1 follows the epochs", true),
    row("per_device_train_batch_size", Kind::Int(1, 4096), "4", "1 – 16", "rows worked on at once", true),
    row("gradient_accumulation_steps", Kind::Int(1, 4096), "1", "1 – 32", "batches added up into one step", true),
    row(
        "max_length",
        Kind::Int(8, 1_048_576),
        "1024",
        "256 – 4096",
        "longest prompt + answer in tokens; longer pairs are left out and counted",
        true,
    ),
    row("tune", Kind::Choice(&["lora", "full"]), "lora", "", "train small adapters or every weight", true),
    row("lora_r", Kind::Int(1, 1024), "16", "8 – 64", "rank of the adapters", true),
    row("lora_alpha", Kind::Float(0.0, 4096.0), "32", "r – 2r", "scale of the adapters (alpha / r)", true),
    row(
        "lora_dropout",
        Kind::Float(0.0, 0.99),
        "0",
        "0 – 0.1",
        "dropout before the adapters; 0 is the rule for preference training",
        false,
    ),
    row("use_rslora", Kind::Bool, "false", "", "scale the adapters by alpha / √r, for high ranks", false),
    row("use_dora", Kind::Bool, "false", "", "train each output's length beside its direction (DoRA); slower", false),
    row("lora_target_modules", Kind::List(TARGETS), "all-linear", "", "layers that get adapters", false),
    row(
        "lr_scheduler_type",
        Kind::Choice(&["linear", "cosine", "constant", "inverse_sqrt", "warmup_stable_decay"]),
        "linear",
        "",
        "how the step size falls after the warm-up",
        false,
    ),
    row(
        "lr_decay_share",
        Kind::Float(0.01, 1.0),
        "0.2",
        "0.1 – 0.2",
        "warmup_stable_decay: share of all steps, at the end, in which the step size falls to 0",
        false,
    ),
    row(
        "warmup_steps",
        Kind::Float(0.0, 1e9),
        "0",
        "0 – 0.1",
        "steps of rising step size; below 1 it is a share of all steps",
        false,
    ),
    row("weight_decay", Kind::Float(0.0, 10.0), "0", "0 – 0.1", "AdamW's pull towards zero", false),
    row("adam_beta1", Kind::Float(0.0, 0.9999), "0.9", "", "AdamW's memory of the gradient", false),
    row("adam_beta2", Kind::Float(0.0, 0.999_999), "0.999", "", "AdamW's memory of its square", false),
    row("adam_epsilon", Kind::Float(1e-12, 1.0), "1e-8", "", "AdamW's guard against division by zero", false),
    row(
        "max_grad_norm",
        Kind::Float(0.0, 1e9),
        "1",
        "0.5 – 10",
        "gradients are scaled down to this norm; 0 never",
        false,
    ),
    row("seed", Kind::Int(0, i64::MAX), "42", "", "seed of order, adapters and dropout", false),
    row("shuffle", Kind::Bool, "true", "", "false keeps the file's order", false),
    row(
        "group_by_length",
        Kind::Bool,
        "false",
        "",
        "rows of like length together, the longest first: out of memory at once or never",
        false,
    ),
    row(
        "max_tokens_per_batch",
        Kind::Int(0, 10_000_000),
        "0",
        "1024 – 16384",
        "batches filled up to so many tokens, padding counted, the longest first; 0: rows",
        false,
    ),
    row(
        "eval_fraction",
        Kind::Float(0.0, 0.9),
        "0.1",
        "0 – 0.2",
        "share of prompts kept for evaluation, by hash of the prompt",
        false,
    ),
    row(
        "eval_steps",
        Kind::Int(0, 1_000_000),
        "0",
        "10 – 200",
        "evaluate every so many steps; 0 only at the end",
        false,
    ),
    row(
        "metric_for_best_model",
        Kind::Metric,
        "eval_loss",
        "",
        "the evaluation's metric by which ckpt/best is kept; empty keeps none",
        false,
    ),
    row(
        "early_stopping_patience",
        Kind::Int(0, 1_000_000),
        "0",
        "2 – 10",
        "end after so many evaluations without a better one; 0 never",
        false,
    ),
    row(
        "save_steps",
        Kind::Int(0, 1_000_000),
        "50",
        "20 – 500",
        "checkpoint every so many steps; 0 only at the end",
        false,
    ),
    row("save_total_limit", Kind::Int(1, 1000), "2", "1 – 5", "checkpoints kept", false),
    row(
        "engine",
        Kind::Choice(&["fast", "reference"]),
        "fast",
        "",
        "fast: written by hand; reference: the plain path it is checked against, slow",
        false,
    ),
    row(
        "sample_steps",
        Kind::Int(0, 1_000_000),
        "0",
        "20 – 200",
        "show sampled answers every so many steps; 0 only before and after",
        false,
    ),
];

/// Hyper-parameters of methods that can mix supervised rows in.
const MIX: &[ParamRow] = &[
    row(
        "mix_ratio",
        Kind::Float(0.0, 0.9),
        "0",
        "0.1 – 0.3",
        "share of supervised rows mixed in against forgetting",
        false,
    ),
    row(
        "mix_order",
        Kind::Choice(&["interleaved", "sequential"]),
        "interleaved",
        "",
        "mixed into every step, or in steps of their own behind the others",
        false,
    ),
    row("mix_weight", Kind::Float(0.0, 1000.0), "1", "0.1 – 1", "weight of the mixed rows' loss", false),
];

/// Hyper-parameters of methods under which general text can be forgotten.
const PROBE: &[ParamRow] = &[
    row(
        "probe_steps",
        Kind::Int(0, 1_000_000),
        "0",
        "10 – 100",
        "measure general text every so many steps; 0 does not measure it",
        false,
    ),
    row(
        "probe_alarm",
        Kind::Float(0.0, 100.0),
        "0.1",
        "0.05 – 0.5",
        "nats a token of KL to the base model on general text that are too much; 0 never",
        false,
    ),
];

/// How the policy answers, and what its answers are worth: shared by the methods that learn from their own answers.
const ONLINE: &[ParamRow] = &[
    row(
        "reward_model",
        Kind::Word,
        "",
        "",
        "a reward run whose score the answers climb; RUN@best: its best checkpoint",
        true,
    ),
    row(
        "reward_checks",
        Kind::Checks,
        "",
        "any_of=…;max_words=…",
        "verifiable checks: the share that holds is the reward",
        true,
    ),
    row("checks_weight", Kind::Float(0.0, 1000.0), "1", "", "weight of the checks beside the reward model", false),
    row("num_generations", Kind::Int(1, 256), "4", "2 – 16", "answers to each prompt", true),
    row("max_completion_length", Kind::Int(1, 100_000), "64", "16 – 512", "the most tokens of an answer", true),
    row(
        "temperature",
        Kind::Float(0.01, 100.0),
        "1",
        "0.7 – 1",
        "divides the logits of policy and reference alike",
        false,
    ),
    row(
        "missing_eos_penalty",
        Kind::Float(0.0, 1000.0),
        "0",
        "0 – 1",
        "taken off the reward of an answer that did not end",
        false,
    ),
    row("num_iterations", Kind::Int(1, 100), "1", "1 – 4", "passes over each round of answers", false),
    row("num_mini_batches", Kind::Int(1, 1024), "1", "1 – 4", "updates that a pass over a round is cut into", false),
];

/// How far a ratio may fall, of the methods that compare an answer with its group.
pub(super) const EPSILON: ParamRow =
    row("epsilon", Kind::Float(0.0, 10.0), "0.2", "0.1 – 0.3", "a ratio this far below 1 counts no more", false);

/// How far it may rise.
pub(super) const EPSILON_HIGH: ParamRow =
    row("epsilon_high", Kind::Float(0.0, 10.0), "0.2", "0.2 – 0.4", "a ratio this far above 1 counts no more", false);

/// A pair's own share of wrong labels, from its votes or from its rater's second judgements.
pub(super) const SOFT_LABELS: ParamRow = row(
    "soft_labels",
    Kind::Bool,
    "false",
    "",
    "a pair's own label smoothing: the votes against it, or how often its one rater judged other pairs otherwise again",
    false,
);

/// What the methods share that learn from their own answers.
pub(super) const CHECKS_UNDER: Under = Under {
    keys: &["checks_weight"],
    holds: |p| !p.text("reward_checks").is_empty(),
    of: "reward_checks",
    remedy: "name checks",
};

/// Of a method whose options all go together.
pub(super) fn nothing(_: &Params) -> Option<String> {
    None
}

/// A default of a shared row that is another one for a method: `(key, default, usual)`.
pub(super) type Default = (&'static str, &'static str, &'static str);

/// Defaults of the methods that learn from their own answers.
pub(super) const ANSWERS_RATE: Default = ("learning_rate", "1e-4", "LoRA 1e-5 – 3e-4, full 1e-6 – 1e-5");
pub(super) const ANSWERS_BATCH: Default = ("per_device_train_batch_size", "16", "8 – 64");
pub(super) const ANSWERS_EVAL: Default = ("eval_fraction", "0", "0 – 0.2");
pub(super) const ANSWERS_BEST: Default = ("metric_for_best_model", "eval_reward", "");

/// Where the reward comes from, as part of a formula.
pub(super) fn reward_formula(p: &Params) -> String {
    let weight = match p.text("checks_weight") {
        "1" => String::new(),
        w => format!("{w}·"),
    };
    let penalty = match p.text("missing_eos_penalty") {
        "0" => String::new(),
        x => format!(" − {x}·[no end]"),
    };
    let from = match (p.text("reward_model"), p.text("reward_checks")) {
        ("", "") => "none yet: set reward_model or reward_checks".to_owned(),
        (run, "") => format!("score of {run}"),
        ("", checks) => format!("{weight}checks({checks})"),
        (run, checks) => format!("score of {run} + {weight}checks({checks})"),
    };
    format!("R = {from}{penalty}")
}

/// Options that mean something only under another one's setting. At their defaults they are not asked about.
#[derive(Debug, Clone, Copy)]
pub struct Under {
    /// These options …
    pub keys: &'static [&'static str],
    /// … mean something where this holds …
    pub holds: fn(&Params) -> bool,
    /// … of this option.
    pub of: &'static str,
    /// What makes it hold, as the end of a sentence: `take tune=lora`.
    pub remedy: &'static str,
}
