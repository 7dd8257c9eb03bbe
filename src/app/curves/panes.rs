//! The table of panes: which metrics share one, and in what order. A new method's metrics need no change here.

use crate::domain::RunState;

/// A pane that shows when at least one of its metrics was logged.
struct PaneSpec {
    title: &'static str,
    /// Each metric and its label in the pane; empty if the title is enough.
    curves: &'static [(&'static str, &'static str)],
    /// Whether the range is fixed to 0–1.
    share: bool,
}

const fn row(title: &'static str, curves: &'static [(&'static str, &'static str)]) -> PaneSpec {
    PaneSpec { title, curves, share: false }
}

/// A pane with the fixed range 0–1.
const fn share(title: &'static str, curves: &'static [(&'static str, &'static str)]) -> PaneSpec {
    PaneSpec { title, curves, share: true }
}

/// The panes of all methods, most informative first. A method shows only those whose metrics it logs. Metrics that no
/// row names get a pane of their own after these.
const PANES: &[PaneSpec] = &[
    // With scored answers, the reward says more than the loss, which is near 0 by construction.
    row("reward", &[("objective/rlhf_reward", "net of kl"), ("objective/scores", "score"), ("reward", "")]),
    row("loss", &[("loss", "")]),
    row("rewards", &[("rewards/chosen", "chosen"), ("rewards/rejected", "rejected")]),
    row("margin", &[("rewards/margins", ""), ("margin", "")]),
    share("accuracy", &[("rewards/accuracies", ""), ("accuracy", "")]),
    share("token accuracy", &[("mean_token_accuracy", "")]),
    row("mean reward", &[("mean_reward", "")]),
    row("kl to reference", &[("kl/chosen", "chosen"), ("kl/rejected", "rejected"), ("kl", ""), ("objective/kl", "")]),
    row("policy loss", &[("loss/policy_avg", "")]),
    row("value loss", &[("loss/value_avg", "")]),
    row("answer length", &[("completions/mean_length", "all"), ("completions/mean_terminated_length", "ended")]),
    row("entropy", &[("entropy", ""), ("policy/entropy_avg", "")]),
    share("clipped", &[("val/clipfrac_avg", "value"), ("policy/clipfrac_avg", "policy")]),
    share("clipped ratios", &[("clip_ratio/low_mean", "low"), ("clip_ratio/high_mean", "high")]),
    row("gradient norm", &[("grad_norm", "")]),
    // Forgetting beside learning.
    row("general text, nll", &[("probe/nll", "")]),
    row("general text, kl", &[("probe/kl", "")]),
    row("mixed-in loss", &[("mix/loss", "")]),
    row("log-probs", &[("logps/chosen", "chosen"), ("logps/rejected", "rejected")]),
    row("learning rate", &[("learning_rate", "")]),
    row("tokens/s", &[("tokens_per_second", "")]),
    row("prompts waiting", &[("queue_depth", "")]),
    row("log odds", &[("log_odds_chosen", ""), ("log_odds_ratio", "ratio")]),
    row("nll", &[("nll_loss", "")]),
    share("groups with equal rewards", &[("frac_reward_zero_std", "")]),
    row("reward spread", &[("reward_std", "")]),
    share("truncated answers", &[("completions/clipped_ratio", "")]),
    row("score", &[("rewards/model/std", "spread"), ("rewards/model/mean", "mean")]),
    row("checks", &[("rewards/checks/std", "spread"), ("rewards/checks/mean", "mean")]),
    row("minimum and maximum reward", &[("min_reward", "min"), ("max_reward", "max")]),
    row("kl coefficient", &[("kl_coef", "")]),
    row("seconds per step", &[("step_seconds", "")]),
    row("peak memory, MiB", &[("peak_mib", "")]),
    row("logits", &[("logits/chosen", "chosen"), ("logits/rejected", "rejected")]),
    row("shortest answer", &[("completions/min_length", "all"), ("completions/min_terminated_length", "ended")]),
    row("longest answer", &[("completions/max_length", "all"), ("completions/max_terminated_length", "ended")]),
];

/// Counters that only rise. They are not drawn.
const COUNTERS: &[&str] = &["epoch", "num_tokens", "step", "total_flos"];

/// A pane of the watch screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurvePane {
    /// What it shows.
    pub title: String,
    /// Metric names and labels; the last one is drawn on top.
    pub curves: Vec<(String, String)>,
    /// Whether its values lie between 0 and 1.
    pub share: bool,
}

/// The panes of a run, from the metrics it logged.
#[must_use]
pub fn panes(run: &RunState) -> Vec<CurvePane> {
    let has = |name: &str| run.series(name).is_some() || run.eval_series(name).is_some();
    let mut out = Vec::new();
    for row in PANES {
        let curves: Vec<(String, String)> = row
            .curves
            .iter()
            .filter(|(name, _)| has(name))
            .map(|(name, label)| ((*name).to_owned(), (*label).to_owned()))
            .collect();
        if !curves.is_empty() {
            out.push(CurvePane { title: row.title.to_owned(), curves, share: row.share });
        }
    }
    for name in run.metrics() {
        let name = name.strip_prefix("eval_").unwrap_or(name);
        let named = PANES.iter().any(|r| r.curves.iter().any(|(n, _)| *n == name));
        let runtime = name.ends_with("runtime") || name.ends_with("per_second");
        if named
            || runtime
            || COUNTERS.contains(&name)
            || out.iter().any(|p| p.curves.iter().any(|(known, _)| known == name))
        {
            continue;
        }
        // What differs stands first, as a narrow pane cuts the end.
        let title = name.strip_prefix("suite/").unwrap_or(name);
        out.push(CurvePane { title: title.into(), curves: vec![(name.to_owned(), String::new())], share: false });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Metrics;

    #[test]
    fn every_logged_metric_but_counters_has_a_pane() {
        let mut run = RunState::default();
        let mut m = Metrics::new();
        for name in
            ["grad_norm", "rewards/rejected", "suite/ifeval/strict", "loss", "my/new", "num_tokens", "rewards/chosen"]
        {
            m.set(name, 1.0);
        }
        run.advance(1, 0.1, &m);
        let mut eval = Metrics::new();
        eval.set("eval_loss", 0.5);
        eval.set("eval_other", 0.5);
        run.measure(1, &eval);
        let titles: Vec<String> = panes(&run).into_iter().map(|p| p.title).collect();
        assert_eq!(titles, ["loss", "rewards", "gradient norm", "ifeval/strict", "my/new", "other"]);
    }

    #[test]
    fn a_methods_own_curves_come_first() {
        let first = |names: &[&str]| {
            let (mut run, mut m) = (RunState::default(), Metrics::new());
            for name in names {
                m.set(name, 0.5);
            }
            run.advance(1, 0.1, &m);
            panes(&run).into_iter().map(|p| p.title).take(4).collect::<Vec<_>>()
        };
        let shared = ["learning_rate", "grad_norm", "loss", "step_seconds"];
        let with = |own: &[&'static str]| first(&[&shared, own].concat());
        assert_eq!(with(&["entropy", "mean_token_accuracy"]), ["loss", "token accuracy", "entropy", "gradient norm"]);
        assert_eq!(with(&["accuracy", "margin", "mean_reward"]), ["loss", "margin", "accuracy", "mean reward"]);
        let ppo = ["objective/kl", "objective/scores", "loss/policy_avg", "loss/value_avg", "policy/clipfrac_avg"];
        assert_eq!(with(&ppo), ["reward", "loss", "kl to reference", "policy loss"]);
        let grpo = ["reward", "kl", "completions/mean_length", "entropy", "clip_ratio/low_mean"];
        assert_eq!(with(&grpo), ["reward", "loss", "kl to reference", "answer length"]);
    }

    #[test]
    fn no_metric_is_in_two_panes() {
        let mut names: Vec<&str> = PANES.iter().flat_map(|r| r.curves.iter().map(|c| c.0)).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
