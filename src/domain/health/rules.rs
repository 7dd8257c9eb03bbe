//! The health rules, one row each. Owns the thresholds and the findings' sentences.

use super::past::{EpochMargins, LENGTH_PAIRS, Misranked, RunSoFar};
use crate::domain::counted;
use crate::domain::ids::PairId;
use crate::domain::run::Severity;

/// A rule: its name in a [`crate::domain::Finding`], its severity and its check.
pub(super) struct Rule {
    pub(super) name: &'static str,
    pub(super) severity: Severity,
    pub(super) check: fn(&RunSoFar<'_>) -> Option<Evidence>,
}

/// A rule's result.
pub(super) struct Evidence {
    /// How bad it is, above 0; compared with the last report.
    pub(super) magnitude: f64,
    /// The problem, with its numbers.
    pub(super) text: String,
    /// What to do about it.
    pub(super) remedy: String,
    /// The pair concerned, if one is.
    pub(super) pair: Option<PairId>,
}

const fn rule(name: &'static str, severity: Severity, check: fn(&RunSoFar<'_>) -> Option<Evidence>) -> Rule {
    Rule { name, severity, check }
}

/// The table.
pub(super) const RULES: &[Rule] = &[
    rule("dropped_rows", Severity::Warn, dropped_rows),
    rule("divergence", Severity::Warn, divergence),
    rule("gradient_vanished", Severity::Warn, gradient_vanished),
    rule("entropy_gone", Severity::Warn, entropy_gone),
    rule("no_movement", Severity::Warn, no_movement),
    rule("chosen_falling", Severity::Warn, chosen_falling),
    rule("margin_collapse", Severity::Warn, margin_collapse),
    rule("saturation", Severity::Note, saturation),
    rule("kl_beyond", Severity::Warn, kl_beyond),
    rule("length_only", Severity::Warn, length_only),
    rule("pair_fights", Severity::Note, pair_fights),
    rule("not_learned", Severity::Warn, not_learned),
    rule("zero_std", Severity::Warn, zero_std),
    rule("reward_hacking", Severity::Warn, reward_hacking),
    rule("answers_cut", Severity::Note, answers_cut),
];

/// Tracked beside the metrics: the share of a step's pairs where the loss has less than 1 % of its maximum slope.
pub(super) const SATURATED_SHARE: &str = "flat";

/// The metrics that rules read.
pub(super) const METRICS: &[&str] = &[
    "accuracy",
    "completions/clipped_ratio",
    "completions/mean_length",
    "entropy",
    "frac_reward_zero_std",
    "grad_norm",
    "kl",
    "kl/chosen",
    "learning_rate",
    "logps/chosen",
    "loss",
    "margin",
    "objective/kl",
    "objective/scores",
    "policy/entropy_avg",
    "reward",
    "reward_std",
    "rewards/accuracies",
    "rewards/margins",
];

/// Share of rows left out above which a finding is reported.
const DROPPED: f64 = 0.05;
/// Tolerated drop of the chosen answers' log-probs, in nats per token.
const FALL: f64 = 0.1;
/// The smallest margin that can collapse.
const MARGIN: f64 = 0.1;
/// Tolerated KL to the reference per answer in nats, without a target.
const FAR: f64 = 10.0;
/// Consecutive rounds with equal rewards before a finding.
const SAME_ROUNDS: usize = 5;
/// Rise of the mean loss above its start, as a share of the start.
const RISE: f64 = 0.5;
/// The least rise in the loss's own unit: smaller ones are noise around a loss near 0.
const LEAST_RISE: f64 = 0.1;
/// The gradient norm at and below which there is no gradient.
const NO_GRADIENT: f64 = 1e-7;
/// The share of its start at which a policy's entropy is gone.
const GONE: f64 = 0.1;

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn dropped_rows(past: &RunSoFar<'_>) -> Option<Evidence> {
    let f = past.facts;
    let all = f.kept + f.dropped;
    let share = f.dropped as f64 / all.max(1) as f64;
    (share >= DROPPED).then(|| Evidence {
        magnitude: 1.0,
        text: format!(
            "{} of {} are left out ({}); main reason: {}.",
            f.dropped,
            counted(all, "row"),
            percent(share),
            f.dropped_why
        ),
        remedy: if f.dropped_why.contains("max_length") {
            "Raise max_length, if memory allows.".into()
        } else if f.dropped_why.contains("context") {
            "Shorten those rows, or train a model with a longer context; max_length changes nothing here.".into()
        } else {
            "Check those rows before trusting the result.".into()
        },
        pair: None,
    })
}

/// The loss ends above its start: the recent mean against the known start, or against the mean of the first steps; a loss that blew up
/// within those, against the first step's, which every recent one is then far above.
fn divergence(past: &RunSoFar<'_>) -> Option<Evidence> {
    if !past.facts.loss_falls {
        return None;
    }
    let (losses, first) = (past.last("loss")?, past.first("loss")?);
    let now = losses.iter().sum::<f64>() / losses.len() as f64;
    let above = |loss: f64, start: f64, share: f64| loss - start > share * start.abs() + LEAST_RISE;
    let usual = past.facts.start_loss.or_else(|| past.begin("loss"))?;
    let start = if above(now, usual, RISE) {
        usual
    } else if losses.iter().all(|loss| above(*loss, first, 2.0 * RISE)) {
        first
    } else {
        return None;
    };
    Some(Evidence {
        magnitude: (now - start) / (start.abs() + LEAST_RISE),
        text: format!(
            "The loss was {start:.2} at the start and is {now:.2} in steps {} – {}: the updates are too large{}.",
            past.begun(),
            past.step,
            at_rate(past)
        ),
        remedy: "Lower learning_rate or raise warmup_steps, and start again: later steps seldom repair it.".into(),
        pair: None,
    })
}

/// The recent learning rate, in brackets.
fn at_rate(past: &RunSoFar<'_>) -> String {
    past.recent("learning_rate").map_or_else(String::new, |rate| format!(" (learning_rate {rate:.1e})"))
}

/// Updates no longer have a gradient although the loss has not fallen.
fn gradient_vanished(past: &RunSoFar<'_>) -> Option<Evidence> {
    let (norms, begin) = (past.last("grad_norm")?, past.begin("grad_norm")?);
    if norms.iter().any(|norm| *norm > NO_GRADIENT) {
        return None;
    }
    // Equal rewards have no gradient, which is said of the rewards.
    let rounds = past.state.tracks.get("frac_reward_zero_std");
    if rounds.is_some_and(|rounds| rounds.recent.back().is_some_and(|share| *share >= 0.9)) {
        return None;
    }
    // A loss that is learned has none either.
    let loss = past.recent("loss").filter(|_| past.facts.loss_falls);
    let start = past.facts.start_loss.or_else(|| past.first("loss"));
    if loss.zip(start).is_some_and(|(now, start)| now < start / 2.0) {
        return None;
    }
    let loss = loss.map_or_else(String::new, |loss| format!(" at a loss of {loss:.2}"));
    let (since, last) = (past.begun(), past.step);
    Some(if begin > NO_GRADIENT {
        Evidence {
            magnitude: 1.0,
            text: format!(
                "The gradient is 0 in steps {since} – {last}{loss}; before, its norm was {begin:.2e} in the mean: an update has \
                 driven the model's outputs into saturation{}.",
                at_rate(past)
            ),
            remedy: "Lower learning_rate, or set max_grad_norm=1, and start again.".into(),
            pair: None,
        }
    } else {
        Evidence {
            magnitude: 1.0,
            text: format!(
                "The gradient is 0 in steps {since} – {last}{loss}: the loss does not depend on the weights."
            ),
            remedy: "Check the model with `tiebreak models show`, and that no weight of the loss is 0.".into(),
            pair: None,
        }
    })
}

/// The policy of an online method gives nearly the same answer every time, so that answers have nothing to be compared by.
fn entropy_gone(past: &RunSoFar<'_>) -> Option<Evidence> {
    if past.facts.loss_falls {
        return None;
    }
    let name = if past.recent("policy/entropy_avg").is_some() { "policy/entropy_avg" } else { "entropy" };
    let (before, now) = (past.begin(name)?, past.recent(name)?);
    (before > 0.0 && now <= GONE * before).then(|| Evidence {
        magnitude: 1.0,
        text: format!(
            "The policy's entropy fell from {before:.2} to {now:.3} nats per token by step {}: it draws nearly the same answer \
             every time.",
            past.step
        ),
        remedy: match past.facts.entropy_key {
            "" => format!("Raise {}, or lower learning_rate; resume from an earlier checkpoint.", past.facts.kl_key),
            key => format!("Raise {key} or {}, or lower learning_rate; resume from an earlier checkpoint.", past.facts.kl_key),
        },
        pair: None,
    })
}

/// The policy still equals the reference although updates are made.
fn no_movement(past: &RunSoFar<'_>) -> Option<Evidence> {
    let names = ["rewards/margins", "objective/kl", "kl"];
    let (name, values) = names.iter().find_map(|name| Some((name, past.last(name)?)))?;
    let rates = past.last("learning_rate")?;
    // Without a gradient no learning rate moves anything; the rules of rewards and gradients say why.
    if past.last("grad_norm").is_some_and(|norms| norms.iter().all(|norm| *norm <= NO_GRADIENT)) {
        return None;
    }
    let still = values.iter().all(|x| x.abs() < 1e-6);
    (still && rates.iter().all(|rate| *rate > 0.0)).then(|| Evidence {
        magnitude: 1.0,
        text: format!(
            "`{name}` has been 0 for {} steps with a learning rate above 0: the policy still equals the reference.",
            values.len()
        ),
        remedy: "Raise learning_rate.".into(),
        pair: None,
    })
}

/// The margin grows by pushing the rejected answers down further than the chosen ones (Pal et al. 2024; Razin et al. 2024).
fn chosen_falling(past: &RunSoFar<'_>) -> Option<Evidence> {
    let fallen = match past.recent("kl/chosen") {
        Some(ratio) => -ratio,
        None if past.facts.mean_logps => past.begin("logps/chosen")? - past.recent("logps/chosen")?,
        None => return None,
    };
    let (before, now) = (past.begin("rewards/margins")?, past.recent("rewards/margins")?);
    (fallen > FALL && now > before.max(0.0)).then(|| Evidence {
        magnitude: fallen,
        text: format!(
            "The chosen answers' log-probs fell by {fallen:.2} nats per token while the margin grew to {now:.2}: the \
             rejected ones fall faster."
        ),
        remedy: if past.facts.method == "dpo" {
            "Add an SFT term (loss_type=sigmoid,sft and loss_weights=1,0.1), or lower learning_rate.".into()
        } else {
            "Lower learning_rate.".into()
        },
        pair: None,
    })
}

fn margin_name(past: &RunSoFar<'_>) -> &'static str {
    if past.recent("rewards/margins").is_some() { "rewards/margins" } else { "margin" }
}

fn margin_collapse(past: &RunSoFar<'_>) -> Option<Evidence> {
    let name = margin_name(past);
    let (best, now) = (past.best(name)?, past.recent(name)?);
    (best >= MARGIN && now <= 0.1 * best).then(|| Evidence {
        magnitude: 1.0,
        text: format!("The margin fell from {best:.2} to {now:.2}."),
        remedy: "Resume from an earlier checkpoint with a lower learning_rate.".into(),
        pair: None,
    })
}

fn saturation(past: &RunSoFar<'_>) -> Option<Evidence> {
    let flat = past.recent(SATURATED_SHARE).filter(|share| *share > 0.9);
    let accuracy = past.recent("rewards/accuracies").or_else(|| past.recent("accuracy"));
    let margin = past.recent(margin_name(past));
    let text = match (flat, accuracy, margin) {
        (Some(share), ..) => format!(
            "For {} of recent pairs the loss has less than 1 % of its slope left: further steps change almost nothing.",
            percent(share)
        ),
        (None, Some(accuracy), Some(margin)) if accuracy >= 1.0 && margin > 10.0 => format!(
            "All recent pairs are ranked correctly, with a mean margin of {margin:.1}: further steps change almost nothing."
        ),
        _ => return None,
    };
    Some(Evidence { magnitude: 1.0, text, remedy: "Stop here, or add harder pairs.".into(), pair: None })
}

fn kl_beyond(past: &RunSoFar<'_>) -> Option<Evidence> {
    let kl = match past.recent("objective/kl") {
        Some(kl) => kl,
        // `kl` is a mean over tokens.
        None => past.recent("kl")? * past.recent("completions/mean_length")?,
    };
    let limit = past.facts.kl_target.map_or(FAR, |target| 2.0 * target);
    (kl > limit).then(|| Evidence {
        magnitude: kl / limit,
        text: match past.facts.kl_target {
            Some(target) => format!("The KL to the reference is {kl:.1} nats per answer; the target is {target}."),
            None => format!("The KL to the reference is {kl:.1} nats per answer, above {FAR}."),
        },
        remedy: format!("Raise {}, or lower learning_rate.", past.facts.kl_key),
        pair: None,
    })
}

/// The model ranks nearly every pair by length, and the data rewards length (Singhal et al. 2023).
fn length_only(past: &RunSoFar<'_>) -> Option<Evidence> {
    let lengths = &past.state.lengths;
    if lengths.len() < LENGTH_PAIRS {
        return None;
    }
    let share = |f: fn(&(bool, bool)) -> bool| lengths.iter().filter(|x| f(x)).count() as f64 / lengths.len() as f64;
    let (longer, by_length) = (share(|x| x.0), share(|x| x.1));
    (longer >= 0.8 && by_length >= 0.95).then(|| Evidence {
        magnitude: 1.0,
        text: format!(
            "The longer answer is chosen in {} of the last {LENGTH_PAIRS} pairs, and the model prefers the longer one in {}.",
            percent(longer),
            percent(by_length)
        ),
        remedy: if past.facts.method == "dpo" {
            "Set ld_alpha below 1, or add pairs whose better answer is the shorter one.".into()
        } else {
            "Add pairs whose better answer is the shorter one.".into()
        },
        pair: None,
    })
}

/// The pairs that the model has ranked wrongly for two epochs, or for three while it has learned little.
fn fights<'a>(past: &RunSoFar<'a>) -> Option<Vec<(&'a PairId, &'a Misranked)>> {
    let EpochMargins { mean, passes, .. } = past.state.last_epoch?;
    let learned = passes >= 2 && mean > 0.0;
    Some(past.state.misranked.iter().filter(|(_, a)| a.passes >= 3 || (learned && a.passes >= 2)).collect())
}

/// The model ranks most pairs wrongly epoch after epoch.
fn not_learned(past: &RunSoFar<'_>) -> Option<Evidence> {
    let EpochMargins { mean, pairs, passes } = past.state.last_epoch?;
    let wrong = fights(past)?.len();
    (2 * wrong > pairs).then(|| Evidence {
        magnitude: 1.0,
        text: format!(
            "After {passes} epochs the model still prefers the rejected answer of {wrong} of {pairs} pairs (mean margin \
             {mean:.2}): it has not learned the preferences{}.",
            at_rate(past)
        ),
        remedy: "Check that chosen and rejected are not swapped; then try another learning_rate.".into(),
        pair: None,
    })
}

/// Pairs that the model ranks wrongly epoch after epoch: mislabelled, or unlike the others.
fn pair_fights(past: &RunSoFar<'_>) -> Option<Evidence> {
    let EpochMargins { mean, pairs, passes } = past.state.last_epoch?;
    let mut fights = fights(past)?;
    // Where most pairs are ranked wrongly, no single verdict is to blame.
    if 2 * fights.len() > pairs {
        return None;
    }
    fights.sort_by(|(_, a), (_, b)| a.margin.total_cmp(&b.margin));
    let (worst, against) = fights.first()?;
    let others: Vec<&str> = fights.iter().skip(1).take(2).map(|(id, _)| id.as_str()).collect();
    let others = match (others.as_slice(), fights.len()) {
        ([], _) => String::new(),
        ([one], _) => format!(" Also: {one}."),
        (named, n) if n <= 3 => format!(" Also: {}.", named.join(" and ")),
        (named, n) => format!(" Also: {} and {} more.", named.join(", "), n - 3),
    };
    Some(Evidence {
        magnitude: fights.len() as f64,
        text: format!(
            "After {passes} epochs the model still prefers the rejected answer of pair {worst} (margin {:.2}, mean {mean:.2}).\
             {others}",
            against.margin
        ),
        remedy: "Review it: the verdict may be a mistake.".into(),
        pair: Some((*worst).clone()),
    })
}

fn zero_std(past: &RunSoFar<'_>) -> Option<Evidence> {
    let rounds = &past.state.tracks.get("frac_reward_zero_std")?.recent;
    let last = rounds.iter().rev().take(SAME_ROUNDS);
    if rounds.len() < SAME_ROUNDS || !last.clone().all(|share| *share >= 0.9) {
        return None;
    }
    // One value for all answers of all prompts says something of the reward, not of the prompts.
    let spread = past.state.tracks.get("reward_std").map(|track| track.recent.iter().rev().take(SAME_ROUNDS));
    let constant = spread.is_some_and(|mut spread| spread.all(|std| *std <= 1e-8));
    let value = past.state.tracks.get("reward").and_then(|track| track.recent.back());
    let (text, remedy) = match value.filter(|_| constant) {
        Some(value) => (
            format!(
                "For {SAME_ROUNDS} rounds every answer got the reward {value:.2}: all advantages are 0, and nothing is learned."
            ),
            "Read the samples: does reward_checks or the reward model tell such answers apart?".to_owned(),
        ),
        None => (
            format!(
                "For {SAME_ROUNDS} rounds, all answers of {} of the groups had equal rewards: their advantages are 0.",
                percent(last.sum::<f64>() / SAME_ROUNDS as f64)
            ),
            "Use prompts the model answers well only sometimes, raise temperature, or use a finer reward.".to_owned(),
        ),
    };
    Some(Evidence { magnitude: 1.0, text, remedy, pair: None })
}

/// The score rises while answers double in length: the reward may favour length (Gao et al. 2022).
fn reward_hacking(past: &RunSoFar<'_>) -> Option<Evidence> {
    let name = if past.recent("objective/scores").is_some() { "objective/scores" } else { "reward" };
    let (before, now) = (past.begin(name)?, past.recent(name)?);
    let (short, long) = (past.begin("completions/mean_length")?, past.recent("completions/mean_length")?);
    (now > before && short > 0.0 && long >= 2.0 * short).then(|| Evidence {
        magnitude: long / short,
        text: format!(
            "The score rose from {before:.2} to {now:.2} while answers grew from {short:.0} to {long:.0} tokens: the reward \
             may favour length."
        ),
        remedy: "Read the samples; add a length check to reward_checks (max_words=…).".into(),
        pair: None,
    })
}

fn answers_cut(past: &RunSoFar<'_>) -> Option<Evidence> {
    let cut = past.recent("completions/clipped_ratio")?;
    (cut >= 0.5).then(|| Evidence {
        magnitude: 1.0,
        text: format!("{} of recent answers reached max_completion_length and were scored unfinished.", percent(cut)),
        remedy: "Raise max_completion_length, or set missing_eos_penalty.".into(),
        pair: None,
    })
}
