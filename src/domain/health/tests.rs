//! Each rule on short series: where it fires, where it must not, and that nothing is reported twice.

use super::*;
use crate::domain::PairId;

fn facts() -> RunFacts {
    RunFacts { method: "dpo".into(), steps: 100, kept: 100, kl_key: "kl_coef", ..RunFacts::default() }
}

/// The rules that fire within `steps` steps of metrics given as a function of the step, each with its step.
fn fired(facts: RunFacts, steps: u64, of: impl Fn(u64) -> Vec<(&'static str, f64)>) -> Vec<(String, u64)> {
    let mut health = Health::new(facts);
    let mut out = Vec::new();
    for step in 1..=steps {
        let mut metrics = Metrics::new();
        for (name, value) in of(step) {
            metrics.set(name, value);
        }
        out.extend(health.observe(step, &metrics, &[]).into_iter().map(|f| (f.rule, f.step)));
    }
    out
}

fn once(found: &[(String, u64)], rule: &str) -> u64 {
    let hits: Vec<u64> = found.iter().filter(|(r, _)| r == rule).map(|(_, step)| *step).collect();
    assert_eq!(hits.len(), 1, "{rule}: {found:?}");
    hits[0]
}

#[test]
fn a_healthy_run_has_no_findings() {
    let found = fired(facts(), 100, |s| {
        let x = s as f64 / 100.0;
        vec![
            ("rewards/margins", x),
            ("rewards/accuracies", 0.5 + 0.4 * x),
            ("kl/chosen", 0.1 * x),
            ("learning_rate", 1e-5 * (1.0 - x)),
            ("objective/kl", 4.0 * x),
            ("reward", x),
            ("completions/mean_length", 40.0 + 10.0 * x),
            ("completions/clipped_ratio", 0.1),
            ("frac_reward_zero_std", 0.5),
        ]
    });
    assert_eq!(found, []);
}

#[test]
fn falling_chosen_log_probs_are_reported_again_at_twice_the_fall() {
    // The mean of the last 20 steps is 0.01·(step − 9.5): 0.115 when a later window than the first is there, at step 21,
    // twice that at 33, where it is 0.235, and again at 57.
    let of = |s: u64| vec![("kl/chosen", -0.01 * s as f64), ("rewards/margins", 0.05 * s as f64)];
    let found = fired(facts(), 60, of);
    assert_eq!(found.iter().map(|(_, step)| *step).collect::<Vec<_>>(), [21, 33, 57]);
    assert!(found.iter().all(|(rule, _)| rule == "chosen_falling"));
    // Neither a shrinking margin nor jitter of the chosen answers counts.
    let shrinking = |s: u64| vec![("kl/chosen", -0.01 * s as f64), ("rewards/margins", 1.0 - 0.001 * s as f64)];
    assert_eq!(fired(facts(), 60, shrinking), []);
    let below = |s: u64| vec![("kl/chosen", -0.01 * s as f64), ("rewards/margins", -9.0 + 0.05 * s as f64)];
    assert_eq!(fired(facts(), 60, below), [], "a margin below 0 has not grown to anything");
    let jitter =
        |s: u64| vec![("kl/chosen", if s.is_multiple_of(2) { -0.3 } else { 0.2 }), ("rewards/margins", s as f64)];
    assert_eq!(fired(facts(), 60, jitter), []);
    // Without a reference the log-prob a token is held against the beginning's.
    let of = |s: u64| vec![("logps/chosen", -1.0 - 0.01 * s as f64), ("rewards/margins", 0.001 * s as f64)];
    assert_eq!(fired(facts(), 60, of), []);
    let orpo = RunFacts { method: "orpo".into(), mean_logps: true, ..facts() };
    once(&fired(orpo, 36, of), "chosen_falling");
}

#[test]
fn saturation_needs_all_of_the_window() {
    let margins = |m: f64| move |_| vec![("rewards/accuracies", 1.0), ("rewards/margins", m)];
    assert_eq!(once(&fired(facts(), 60, margins(12.0)), "saturation"), 20);
    assert_eq!(fired(facts(), 60, margins(9.0)), []);
    let pairs = |margin: f64, n: usize| {
        let pair =
            |i| PairMargin { id: PairId::new(format!("p{i}")), margin: if i < n { margin } else { 1.0 }, longer: None };
        (0..20).map(pair).collect::<Vec<_>>()
    };
    // σ(−4.6) is just below a hundredth, σ(−4.5) just above.
    for (margin, n, speaks) in [(4.6, 19, true), (4.5, 20, false), (4.6, 18, false)] {
        let mut health = Health::new(RunFacts { sigmoid: true, ..facts() });
        let found: Vec<_> = (1..=30).flat_map(|s| health.observe(s, &Metrics::new(), &pairs(margin, n))).collect();
        assert_eq!(found.len(), usize::from(speaks), "{margin} {n}: {found:?}");
        assert!(found.iter().all(|f| f.rule == "saturation" && f.text.contains("95 %")));
    }
}

#[test]
fn the_kl_is_compared_with_its_target_or_ten_nats() {
    let at = |kl: f64| move |_| vec![("objective/kl", kl)];
    assert_eq!(once(&fired(facts(), 60, at(10.5)), "kl_beyond"), 20);
    assert_eq!(fired(facts(), 60, at(9.5)), []);
    let target = |kl| fired(RunFacts { kl_target: Some(3.0), ..facts() }, 60, at(kl));
    once(&target(6.1), "kl_beyond");
    assert_eq!(target(5.9), []);
    // By tokens and length: 0.3 · 40 = 12.
    let of = |_| vec![("kl", 0.3), ("completions/mean_length", 40.0)];
    once(&fired(facts(), 60, of), "kl_beyond");
    assert_eq!(fired(facts(), 60, |_| vec![("kl", 0.3)]), [], "without a length there are no nats an answer");
}

#[test]
fn only_a_margin_that_existed_can_collapse() {
    let of = |s: u64| vec![("rewards/margins", if s < 40 { 0.8 } else { -0.11 })];
    // 16 steps at −0.11 after 4 at 0.8 make 0.072, the first mean at or below 0.08.
    assert_eq!(once(&fired(facts(), 80, of), "margin_collapse"), 55);
    assert_eq!(fired(facts(), 80, |_| vec![("rewards/margins", -0.1)]), []);
    assert_eq!(fired(facts(), 80, |s| vec![("rewards/margins", if s < 40 { 0.8 } else { 0.4 })]), []);
}

#[test]
fn nothing_moves() {
    let still = |rate: f64| move |_| vec![("rewards/margins", 1e-8), ("learning_rate", rate)];
    assert_eq!(once(&fired(facts(), 60, still(1e-5)), "no_movement"), 20);
    assert_eq!(fired(facts(), 60, still(0.0)), [], "a step of size 0 moves nothing by design");
    let late = |s: u64| vec![("rewards/margins", if s < 19 { 0.0 } else { 0.01 }), ("learning_rate", 1e-5)];
    assert_eq!(fired(facts(), 60, late), []);
    // A run of thirty steps has a shorter window.
    assert_eq!(once(&fired(RunFacts { steps: 30, ..facts() }, 30, still(1e-5)), "no_movement"), 6);
}

/// What a rule says, of the first time it fires.
fn said(facts: RunFacts, steps: u64, rule: &str, of: impl Fn(u64) -> Vec<(&'static str, f64)>) -> Finding {
    let mut health = Health::new(facts);
    let mut step = |step| {
        let mut metrics = Metrics::new();
        for (name, value) in of(step) {
            metrics.set(name, value);
        }
        health.observe(step, &metrics, &[])
    };
    (1..=steps).flat_map(&mut step).find(|found| found.rule == rule).unwrap()
}

fn falling() -> RunFacts {
    RunFacts { loss_falls: true, ..facts() }
}

#[test]
fn a_loss_above_its_start_has_diverged() {
    let rises = |s: u64| vec![("loss", if s < 40 { 0.76 } else { 147.0 }), ("learning_rate", 0.02)];
    let found = fired(falling(), 100, rises);
    // One step at 147 among twenty lifts the mean to 8; it is said again as the mean doubles, up to 147 at step 59.
    assert_eq!((found[0].1, found.iter().all(|(rule, _)| rule == "divergence")), (40, true), "{found:?}");
    assert!((3..=5).contains(&found.len()) && found.iter().all(|(_, step)| *step < 60), "{found:?}");
    let first = said(falling(), 100, "divergence", rises);
    assert!(first.text.contains("was 0.76 at the start and is 8.07 in steps 21 – 40"), "{}", first.text);
    assert!(first.text.contains("learning_rate 2.0e-2") && first.remedy.contains("Lower learning_rate"), "{first:?}");
    // It blew up within the first window, whose mean says nothing.
    let at_once = |s: u64| vec![("loss", if s == 1 { 0.76 } else { 147.0 })];
    assert_eq!(once(&fired(falling(), 30, at_once), "divergence"), 21);
    // Against a known start a smaller rise counts.
    let known = RunFacts { start_loss: Some(0.693), ..falling() };
    let slow = |s: u64| vec![("loss", 1.0 + 0.01 * s as f64)];
    assert_eq!(once(&fired(known, 60, slow), "divergence"), 24);
    assert_eq!(fired(falling(), 60, slow), []);
    // Neither noise, a loss that falls, a rise near 0, nor the loss of an online method.
    let noisy = |s: u64| vec![("loss", [0.4, 1.9, 1.2, 0.9][s as usize % 4])];
    assert_eq!(fired(falling(), 100, noisy), []);
    let low = |s: u64| vec![("loss", [0.01, 0.05][usize::from(s > 50)])];
    assert_eq!(fired(falling(), 100, low), []);
    assert_eq!(fired(facts(), 100, rises), []);
}

#[test]
fn gradients_that_vanish_after_an_update_are_told_from_learned_rows_and_equal_rewards() {
    let of = |loss: f64| {
        move |s: u64| vec![("grad_norm", if s < 30 { 0.5 } else { 0.0 }), ("loss", if s < 30 { 0.693 } else { loss })]
    };
    let known = || RunFacts { start_loss: Some(0.693), ..falling() };
    assert_eq!(once(&fired(known(), 80, of(0.9)), "gradient_vanished"), 49);
    let text = said(known(), 80, "gradient_vanished", of(0.9)).text;
    assert!(text.contains("0 in steps 30 – 49 at a loss of 0.90") && text.contains("5.00e-1"), "{text}");
    assert_eq!(fired(known(), 80, of(0.001)), [], "a learned loss has no gradient");
    assert_eq!(fired(known(), 80, |_| vec![("grad_norm", 1e-5), ("loss", 0.6)]), []);
    let never = |s: u64| vec![("grad_norm", 0.0), ("reward", s as f64), ("frac_reward_zero_std", 0.0)];
    let found = said(facts(), 40, "gradient_vanished", never);
    assert!(found.text.contains("does not depend on the weights"), "{found:?}");
    // Equal rewards explain it: that is said, and nothing of the learning rate.
    let equal = |s: u64| {
        let mut all = vec![("grad_norm", 0.0), ("kl", 0.0), ("objective/kl", 0.0), ("learning_rate", 1e-5)];
        if s % 4 == 1 {
            all.extend([("frac_reward_zero_std", 1.0), ("reward_std", 0.0), ("reward", 0.5)]);
        }
        all
    };
    let found = fired(facts(), 80, equal);
    assert_eq!(found, [("zero_std".to_owned(), 17)]);
    let found = said(facts(), 80, "zero_std", equal);
    assert!(found.text.contains("every answer got the reward 0.50") && found.remedy.contains("reward_checks"));
}

#[test]
fn a_policy_without_entropy_is_named_with_the_key_that_keeps_it() {
    let of = |name: &'static str, end: f64| move |s: u64| vec![(name, if s <= 20 { 2.0 } else { end })];
    // Nineteen of twenty values at 0.1 make a mean of 0.195.
    assert_eq!(once(&fired(facts(), 80, of("entropy", 0.1)), "entropy_gone"), 39);
    assert_eq!(fired(facts(), 80, of("entropy", 0.3)), []);
    assert_eq!(fired(falling(), 80, of("entropy", 0.0)), [], "imitated rows may leave nothing open");
    let ppo = RunFacts { entropy_key: "entropy_coef", ..facts() };
    let found = said(ppo, 80, "entropy_gone", of("policy/entropy_avg", 0.0));
    assert!(found.remedy.contains("Raise entropy_coef or kl_coef") && found.text.contains("2.00 to 0."), "{found:?}");
}

#[test]
fn rounds_with_equal_rewards_are_counted_by_round() {
    let of = |s: u64| if s.is_multiple_of(4) { vec![("frac_reward_zero_std", 1.0)] } else { Vec::new() };
    assert_eq!(once(&fired(facts(), 60, of), "zero_std"), 20);
    let one_good = |s: u64| vec![("frac_reward_zero_std", if s.is_multiple_of(5) { 0.5 } else { 1.0 })];
    assert_eq!(fired(facts(), 60, one_good), []);
}

#[test]
fn a_score_that_climbs_with_length() {
    let of = |grow: f64, climb: f64| {
        move |s: u64| vec![("objective/scores", climb * s as f64), ("completions/mean_length", 20.0 + grow * s as f64)]
    };
    assert_eq!(once(&fired(facts(), 100, of(0.8, 0.1)), "reward_hacking"), 56);
    assert_eq!(fired(facts(), 100, of(0.1, 0.1)), []);
    assert_eq!(fired(facts(), 100, of(0.8, -0.1)), []);
    assert_eq!(once(&fired(facts(), 60, |_| vec![("completions/clipped_ratio", 0.6)]), "answers_cut"), 20);
}

#[test]
fn rows_left_out_are_reported_before_the_first_step() {
    let planned = |dropped| {
        let why = "longer than max_length".to_owned();
        Health::new(RunFacts { kept: 100 - dropped, dropped, dropped_why: why, ..facts() }).planned()
    };
    let found = planned(5);
    assert_eq!((found.len(), found[0].rule.as_str(), found[0].step), (1, "dropped_rows", 0));
    assert!(found[0].text.contains("5 of 100 rows") && found[0].remedy.contains("max_length"), "{found:?}");
    assert_eq!(planned(4), []);
    let why = "longer than the model's context".to_owned();
    let found = Health::new(RunFacts { kept: 1, dropped: 1, dropped_why: why, ..facts() }).planned();
    assert!(!found[0].remedy.contains("Raise max_length") && found[0].remedy.contains("longer context"), "{found:?}");
}

/// One epoch over pairs `a` to `d`, a step each, with these margins.
fn pass(health: &mut Health, from: u64, margins: [f64; 4]) -> Vec<Finding> {
    let pairs = margins.iter().zip(["a", "b", "c", "d"]).enumerate();
    pairs
        .flat_map(|(i, (margin, id))| {
            let pair = PairMargin { id: PairId::new(id), margin: *margin, longer: None };
            health.observe(from + i as u64 + 1, &Metrics::new(), &[pair])
        })
        .collect()
}

#[test]
fn a_wrongly_ranked_pair_is_named_at_the_end_of_an_epoch() {
    let mut health = Health::new(RunFacts { steps_per_epoch: 4, ..facts() });
    assert_eq!(pass(&mut health, 0, [0.2, -0.1, 0.1, -0.3]), []);
    let found = pass(&mut health, 4, [0.9, -0.8, -0.1, 0.4]);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].rule.as_str(), found[0].step, &found[0].pair), ("pair_fights", 8, &Some(PairId::new("b"))));
    assert!(found[0].text.contains("margin -0.80, mean 0.10"), "{}", found[0].text);
    // Reported again only at twice as many pairs.
    assert_eq!(pass(&mut health, 8, [0.9, -0.8, 0.2, 0.4]), []);
    assert_eq!(pass(&mut health, 12, [0.9, -0.8, -0.2, -0.4]), []);
    let found = pass(&mut health, 16, [0.9, -0.8, -0.9, 1.4]);
    assert_eq!(found[0].pair, Some(PairId::new("c")), "the worst comes first");
    assert!(found[0].text.contains("Also: b."), "{}", found[0].text);
    // While the mean margin is not positive, three epochs are needed instead of two.
    let mut health = Health::new(RunFacts { steps_per_epoch: 4, ..facts() });
    assert!((0..2).all(|n| pass(&mut health, n * 4, [-1.0, 0.1, 0.1, 0.1]).is_empty()));
    assert_eq!(pass(&mut health, 8, [-1.0, 0.1, 0.1, 0.1]).len(), 1);
}

#[test]
fn no_verdict_is_to_blame_where_a_model_ranks_nothing_or_most_pairs_wrongly() {
    // A dead model: margins of rounding.
    let mut health = Health::new(RunFacts { steps_per_epoch: 4, ..facts() });
    assert!((0..5).all(|n| pass(&mut health, n * 4, [-1e-7, -3e-6, 0.0, -0.0]).is_empty()));
    let mut health = Health::new(RunFacts { steps_per_epoch: 4, ..facts() });
    let found: Vec<Finding> = (0..4).flat_map(|n| pass(&mut health, n * 4, [-1.0, -0.5, -0.2, 0.1])).collect();
    assert_eq!(found.iter().map(|f| (f.rule.as_str(), f.step)).collect::<Vec<_>>(), [("not_learned", 12)]);
    assert!(found[0].text.contains("3 of 4 pairs (mean margin -0.40)") && found[0].pair.is_none(), "{found:?}");
}

#[test]
fn length_alone() {
    let run = |longer_wins: usize, by_length: usize| {
        let mut health = Health::new(facts());
        (0..LENGTH_PAIRS)
            .flat_map(|i| {
                let longer = i * 7 % LENGTH_PAIRS < longer_wins;
                let agrees = i * 3 % LENGTH_PAIRS < by_length;
                let margin = if longer == agrees { 0.5 } else { -0.5 };
                let pair = PairMargin { id: PairId::new(format!("p{i}")), margin, longer: Some(longer) };
                health.observe(i as u64 + 1, &Metrics::new(), &[pair])
            })
            .map(|f| f.rule)
            .collect::<Vec<_>>()
    };
    assert_eq!(run(84, 97), ["length_only"]);
    assert_eq!(run(84, 90), [] as [&str; 0], "the model sees more than length");
    assert_eq!(run(70, 97), [] as [&str; 0], "the data does not reward length");
}

#[test]
fn a_resumed_run_repeats_no_finding_and_keeps_its_state() {
    let of = |s: u64| {
        let mut m = Metrics::new();
        m.set("objective/kl", 12.0);
        m.set("rewards/margins", f64::NAN);
        let pair = PairMargin { id: PairId::new("a"), margin: -0.1, longer: Some(true) };
        (s, m, [pair])
    };
    let mut whole = Health::new(RunFacts { steps_per_epoch: 10, ..facts() });
    let mut said = Vec::new();
    let mut kept = String::new();
    for s in 1..=40 {
        let (s, m, pairs) = of(s);
        said.extend(whole.observe(s, &m, &pairs));
        if s == 25 {
            kept = serde_json::to_string(whole.state()).unwrap();
        }
    }
    let mut again = Health::new(RunFacts { steps_per_epoch: 10, ..facts() });
    again.restore(serde_json::from_str(&kept).unwrap());
    let mut more = Vec::new();
    for s in 26..=40 {
        let (s, m, pairs) = of(s);
        more.extend(again.observe(s, &m, &pairs));
    }
    assert_eq!(said.iter().filter(|f| f.step > 25).cloned().collect::<Vec<_>>(), more);
    assert_eq!(again.state(), whole.state());
    assert!(said.iter().any(|f| f.rule == "kl_beyond" && f.step == 20));
}
