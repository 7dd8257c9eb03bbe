//! The health rules: one row each, and what each looks for.

use super::past::{LENGTH_PAIRS, Misranked, RunSoFar};
use crate::domain::counted;
use crate::domain::ids::PairId;
use crate::domain::run::Severity;

/// A rule: its name in a [`crate::domain::Finding`], how much it matters, and when it speaks.
pub(super) struct Rule {
    pub(super) name: &'static str,
    pub(super) severity: Severity,
    pub(super) check: fn(&RunSoFar<'_>) -> Option<Evidence>,
}

/// What a rule found.
pub(super) struct Evidence {
    /// How bad it is, above 0, so that worse is told from the same again.
    pub(super) magnitude: f64,
    /// What is the case, with the numbers.
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
    rule("no_movement", Severity::Warn, no_movement),
    rule("chosen_falling", Severity::Warn, chosen_falling),
    rule("margin_collapse", Severity::Warn, margin_collapse),
    rule("saturation", Severity::Note, saturation),
    rule("kl_beyond", Severity::Warn, kl_beyond),
    rule("length_only", Severity::Warn, length_only),
    rule("pair_fights", Severity::Note, pair_fights),
    rule("zero_std", Severity::Warn, zero_std),
    rule("reward_hacking", Severity::Warn, reward_hacking),
    rule("answers_cut", Severity::Note, answers_cut),
];

/// The share of a step's pairs whose margin leaves the loss less than a hundredth of its slope.
pub(super) const SATURATED_SHARE: &str = "flat";

/// The metrics that rules read.
pub(super) const METRICS: &[&str] = &[
    "accuracy",
    "completions/clipped_ratio",
    "completions/mean_length",
    "frac_reward_zero_std",
    "kl",
    "kl/chosen",
    "learning_rate",
    "logps/chosen",
    "margin",
    "objective/kl",
    "objective/scores",
    "reward",
    "rewards/accuracies",
    "rewards/margins",
];

/// Share of rows left out that is worth a word.
const DROPPED: f64 = 0.05;
/// Nats a token by which chosen answers may become less likely.
const FALL: f64 = 0.1;
/// A margin that counts as one.
const MARGIN: f64 = 0.1;
/// Nats an answer of distance from the reference where no target is set.
const FAR: f64 = 10.0;
/// Rounds of answers that all earned the same.
const SAME_ROUNDS: usize = 5;

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
            "{} of {} are left out ({}), mostly: {}.",
            f.dropped,
            counted(all, "row"),
            percent(share),
            f.dropped_why
        ),
        remedy: if f.dropped_why.contains("max_length") {
            "Raise max_length, if memory allows.".into()
        } else {
            "Look at those rows before trusting the result.".into()
        },
        pair: None,
    })
}

/// Policy and reference are still the same although updates are made.
fn no_movement(past: &RunSoFar<'_>) -> Option<Evidence> {
    let names = ["rewards/margins", "objective/kl", "kl"];
    let (name, values) = names.iter().find_map(|name| Some((name, past.last(name)?)))?;
    let rates = past.last("learning_rate")?;
    let still = values.iter().all(|x| x.abs() < 1e-6);
    (still && rates.iter().all(|rate| *rate > 0.0)).then(|| Evidence {
        magnitude: 1.0,
        text: format!(
            "For {} steps with a learning rate above 0, `{name}` has stayed at 0: the policy still is its reference.",
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
            "The chosen answers have become less likely by {fallen:.2} nats a token while the margin has grown to \
             {now:.2}: it grows by pushing the rejected ones down further."
        ),
        remedy: if past.facts.method == "dpo" {
            "Hold the chosen answers with loss_type=sigmoid,sft and loss_weights=1,0.1, or lower learning_rate.".into()
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
        text: format!("The margin had reached {best:.2} and has fallen back to {now:.2}."),
        remedy: "Go back to an earlier checkpoint and lower learning_rate.".into(),
        pair: None,
    })
}

fn saturation(past: &RunSoFar<'_>) -> Option<Evidence> {
    let flat = past.recent(SATURATED_SHARE).filter(|share| *share > 0.9);
    let accuracy = past.recent("rewards/accuracies").or_else(|| past.recent("accuracy"));
    let margin = past.recent(margin_name(past));
    let text = match (flat, accuracy, margin) {
        (Some(share), ..) => format!(
            "{} of the last pairs have less than a hundredth of their slope left: further steps teach almost nothing.",
            percent(share)
        ),
        (None, Some(accuracy), Some(margin)) if accuracy >= 1.0 && margin > 10.0 => format!(
            "Every one of the last pairs is ordered right, by a margin of {margin:.1}: further steps teach almost nothing."
        ),
        _ => return None,
    };
    Some(Evidence {
        magnitude: 1.0,
        text,
        remedy: "Stop here, or add pairs that are harder to tell apart.".into(),
        pair: None,
    })
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
            Some(target) => format!("The answers are {kl:.1} nats from the reference where the target is {target}."),
            None => format!("The answers are {kl:.1} nats from the reference, more than {FAR}."),
        },
        remedy: format!("Raise {}, or lower learning_rate.", past.facts.kl_key),
        pair: None,
    })
}

/// The model orders nearly every pair by length, and length is what the data rewards (Singhal et al. 2023).
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
            "The longer answer wins {} of the last {LENGTH_PAIRS} pairs, and the model orders {} of them by length alone.",
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

/// Pairs that the model holds against, pass after pass: mislabelled, or what the others teach does not cover them.
fn pair_fights(past: &RunSoFar<'_>) -> Option<Evidence> {
    let (mean, passes) = past.state.last_epoch?;
    let learned = passes >= 2 && mean > 0.0;
    let mut fights: Vec<(&PairId, &Misranked)> =
        past.state.misranked.iter().filter(|(_, a)| a.passes >= 3 || (learned && a.passes >= 2)).collect();
    fights.sort_by(|(_, a), (_, b)| a.margin.total_cmp(&b.margin));
    let (worst, against) = fights.first()?;
    let others: Vec<&str> = fights.iter().skip(1).take(2).map(|(id, _)| id.as_str()).collect();
    let others = match (others.as_slice(), fights.len()) {
        ([], _) => String::new(),
        ([one], _) => format!(" So does {one}."),
        (named, n) if n <= 3 => format!(" So do {}.", named.join(" and ")),
        (named, n) => format!(" So do {} and {} more.", named.join(", "), n - 3),
    };
    Some(Evidence {
        magnitude: fights.len() as f64,
        text: format!(
            "After {passes} passes the model still prefers the rejected answer of pair {worst} (margin {:.2}, the mean is \
             {mean:.2}).{others}",
            against.margin
        ),
        remedy: "Look at it again: the verdict may be a slip.".into(),
        pair: Some((*worst).clone()),
    })
}

fn zero_std(past: &RunSoFar<'_>) -> Option<Evidence> {
    let rounds = &past.state.tracks.get("frac_reward_zero_std")?.recent;
    let last = rounds.iter().rev().take(SAME_ROUNDS);
    (rounds.len() >= SAME_ROUNDS && last.clone().all(|share| *share >= 0.9)).then(|| Evidence {
        magnitude: 1.0,
        text: format!(
            "For {SAME_ROUNDS} rounds, in {} of the groups every answer earned the same: there is nothing to tell them apart.",
            percent(last.sum::<f64>() / SAME_ROUNDS as f64)
        ),
        remedy: "Take prompts the model answers well only sometimes, raise temperature, or take a finer reward.".into(),
        pair: None,
    })
}

/// The score climbs while answers double in length: what is rewarded may be length (Gao et al. 2022).
fn reward_hacking(past: &RunSoFar<'_>) -> Option<Evidence> {
    let name = if past.recent("objective/scores").is_some() { "objective/scores" } else { "reward" };
    let (before, now) = (past.begin(name)?, past.recent(name)?);
    let (short, long) = (past.begin("completions/mean_length")?, past.recent("completions/mean_length")?);
    (now > before && short > 0.0 && long >= 2.0 * short).then(|| Evidence {
        magnitude: long / short,
        text: format!(
            "The score has risen from {before:.2} to {now:.2} while the answers have grown from {short:.0} to {long:.0} \
             tokens: it may be length that is rewarded."
        ),
        remedy: "Read the samples; add a length check to reward_checks (max_words=…).".into(),
        pair: None,
    })
}

fn answers_cut(past: &RunSoFar<'_>) -> Option<Evidence> {
    let cut = past.recent("completions/clipped_ratio")?;
    (cut >= 0.5).then(|| Evidence {
        magnitude: 1.0,
        text: format!("{} of the last answers were cut at max_completion_length and scored unfinished.", percent(cut)),
        remedy: "Raise max_completion_length, or set missing_eos_penalty.".into(),
        pair: None,
    })
}
