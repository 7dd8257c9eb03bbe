//! Criteria, repeats and contested labels: what is asked, and what counts.

use super::super::collect::tests::{session, verdict};
use super::super::*;
use super::QueueOrder;
use crate::domain::verdict::{Asked, Side, Strength};
use crate::domain::{Adjudication, Choice, Outcome, Repeats, RowChoice, Rubric, RubricPass, agreement_report, mix64};
use std::collections::HashSet;

const A: Choice = Choice::Prefer(Side::A, Strength::Better);
const B: Choice = Choice::Prefer(Side::B, Strength::Much);
const SLIGHTLY_B: Choice = Choice::Prefer(Side::B, Strength::Slight);

fn id(pair: usize) -> PairId {
    PairId::new(format!("x{pair}"))
}

fn asked(pair: usize, rater: &str, choice: Choice, asked: Asked) -> Verdict {
    Verdict { asked, ..verdict(pair, rater, choice) }
}

fn by(pair: usize, rater: &str, choice: Choice, criterion: &str) -> Verdict {
    asked(pair, rater, choice, Asked::by(Some(criterion)))
}

fn names(pairs: &[PairId]) -> Vec<&str> {
    pairs.iter().map(PairId::as_str).collect()
}

fn with_criteria(pairs: usize) -> Session {
    let mut s = session(pairs);
    for name in ["helpful", "harmless"] {
        s.set_criterion(name, Some("Which?"));
    }
    s
}

#[test]
fn each_criterion_has_its_own_queue_outcomes_and_disputes() {
    let mut s = with_criteria(2);
    let (ana, helpful) = (Rater::new("ana"), RubricPass::One("helpful".into()));
    s.judge(1, verdict(0, "ana", A));
    s.judge(2, by(1, "ana", B, "helpful"));
    assert_eq!(names(&s.queue(&ana)), ["x1"]);
    assert_eq!(names(&s.queue_by(&ana, QueueOrder::Arrival, &helpful)), ["x0"]);
    assert_eq!((s.outcome(&id(0)), s.outcome(&id(1))), (Outcome::Prefer(Side::A, 2.0 / 3.0), Outcome::Open));
    assert_eq!(s.outcomes_on(Some("helpful"))[&id(1)].outcome, Outcome::Prefer(Side::B, 1.0));
    s.judge(3, by(1, "ben", A, "helpful"));
    assert_eq!((s.disputes().len(), s.disputes_on(Some("helpful")).len()), (0, 1));
    let adjudication = Adjudication { pair: id(1), rater: ana.clone(), choice: A, criterion: Some("helpful".into()) };
    s.adjudicate(4, adjudication);
    assert_eq!((s.disputes_on(Some("helpful")).len(), s.outcome(&id(1))), (0, Outcome::Open));
    assert_eq!(s.outcomes_on(Some("helpful"))[&id(1)].outcome, Outcome::Prefer(Side::A, 2.0 / 3.0));
    let report = agreement_report(&s);
    assert_eq!((report.overlapping, report.criteria.len()), (0, 1));
    assert_eq!((report.criteria[0].criterion.as_str(), report.criteria[0].report.overlapping), ("helpful", 1));
}

#[test]
fn beside_each_other_a_pair_is_asked_for_every_criterion_before_the_next() {
    let mut s = with_criteria(3);
    let ana = Rater::new("ana");
    let next = |s: &Session| {
        let queue = s.queue_by(&ana, QueueOrder::Arrival, &RubricPass::All);
        let pair = queue.first()?.clone();
        let question = s.asks(&pair, &ana, QueueOrder::Arrival, &RubricPass::All);
        Some((pair.to_string(), question.criterion, question.pass))
    };
    let mut seen = Vec::new();
    let mut seq = 0;
    // The second pair is put off overall, the third by one criterion.
    while let Some((pair, criterion, pass)) = next(&s).filter(|_| seq < 12) {
        seq += 1;
        let number = pair[1..].parse().unwrap();
        let skip = (pair == "x1" && criterion.is_none() && seq < 8)
            || (pair == "x2" && criterion.as_deref() == Some("helpful") && seq < 8);
        assert_eq!(pass, 0);
        seen.push(format!("{pair} {}", criterion.as_deref().unwrap_or("overall")));
        s.judge(seq, asked(number, "ana", if skip { Choice::Skip } else { A }, Asked::by(criterion.as_deref())));
    }
    assert_eq!(
        seen,
        [
            "x0 overall",
            "x0 helpful",
            "x0 harmless",
            "x1 overall",
            "x2 overall",
            "x2 helpful",
            "x2 harmless",
            "x1 overall",
            "x1 helpful",
            "x1 harmless",
            "x2 helpful"
        ]
    );
    assert_eq!(s.judged_by(&ana, &RubricPass::All, |_| true), 3);
}

#[test]
fn a_mix_is_the_weighted_mean_of_signed_strengths() {
    let mut s = with_criteria(7);
    let both = [
        (A, SLIGHTLY_B), // 0.7·2/3 − 0.3·1/3 = 11/30
        (SLIGHTLY_B, B), // −(0.7/3 + 0.3) = −16/30
        (Choice::Tie, B),
        (Choice::BothBad, Choice::BothBad),
        (Choice::BothBad, A),
        (A, Choice::Skip),
    ];
    let mut seq = 0;
    for (pair, (helpful, harmless)) in both.into_iter().enumerate() {
        for (criterion, choice) in [("helpful", helpful), ("harmless", harmless)] {
            seq += 1;
            s.judge(seq, by(pair, "ana", choice, criterion));
        }
    }
    let mix = RowChoice { rubric: Rubric::parse("helpful=0.7,harmless=0.3").unwrap(), ..RowChoice::default() };
    let (rows, left) = s.rows_of(&mix);
    let found: Vec<(&str, &str, f64)> =
        rows.iter().map(|r| (r.pair.as_str(), &r.chosen[..8], r.margin.unwrap())).collect();
    let want = [
        ("x0", "answer a", 11.0 / 30.0),
        ("x1", "answer b", 16.0 / 30.0),
        ("x2", "answer b", 0.3),
        ("x4", "answer a", 0.2),
    ];
    for (found, want) in found.iter().zip(want) {
        assert!(found.0 == want.0 && found.1 == want.1 && (found.2 - want.2).abs() < 1e-12, "{found:?} {want:?}");
    }
    assert_eq!((rows.len(), left.both_bad, left.incomplete, left.total()), (4, 1, 1, 2));
    assert!(rows.iter().all(|row| row.agreed.is_none()));
    let one = RowChoice { rubric: Rubric::one(Some("helpful")), ..RowChoice::default() };
    let (rows, left) = s.rows_of(&one);
    assert_eq!((rows.len(), left.ties, left.both_bad), (3, 1, 2));
    assert_eq!(s.rows(), (Vec::new(), LeftOut::default()), "nothing was judged overall");
    // A draw of strengths is a tie, and swapping every side swaps every row.
    s.judge(90, by(6, "ana", Choice::Prefer(Side::A, Strength::Better), "helpful"));
    s.judge(91, by(6, "ana", Choice::Prefer(Side::B, Strength::Better), "harmless"));
    let even = RowChoice { rubric: Rubric::parse("helpful,harmless").unwrap(), ..RowChoice::default() };
    assert_eq!(s.rows_of(&even).1.ties, 1);
    // An unresolved criterion leaves the pair unresolved.
    s.judge(92, by(0, "ben", B, "harmless"));
    s.judge(93, by(0, "cyd", A, "harmless"));
    s.judge(94, by(0, "dot", A, "harmless"));
    assert_eq!(s.rows_of(&mix).1.unresolved, 1);
    let supply = s.supply_of(&one);
    assert_eq!((supply.pairs, supply.verdicts), (4, 7));
}

/// Judges what the queue shows, `n` times; returns which pairs came and in which pass.
fn work(s: &mut Session, rater: &str, n: usize, from: u64) -> Vec<(usize, u32)> {
    let name = Rater::new(rater);
    let mut out = Vec::new();
    for seq in (from..).take(n) {
        let Some(pair) = s.queue(&name).first().cloned() else { break };
        let question = s.asks(&pair, &name, QueueOrder::Arrival, &RubricPass::Overall);
        let number: usize = pair.as_str()[1..].parse().unwrap();
        out.push((number, question.pass));
        let choice = if question.pass == 0 { A } else { B };
        s.judge(seq, asked(number, rater, choice, question));
    }
    out
}

#[test]
fn a_share_of_the_pairs_comes_back_once_after_a_distance_and_does_not_count() {
    let mut s = session(400);
    assert_eq!(work(&mut s, "ana", 400, 1).iter().filter(|(_, pass)| *pass > 0).count(), 0, "repeats are off");
    let mut s = session(400);
    s.set_repeats(Repeats { share: 0.1, distance: 20, after_ms: 0 });
    let order = work(&mut s, "ana", 1000, 1);
    let repeats: Vec<usize> = (0..order.len()).filter(|at| order[*at].1 > 0).collect();
    // 400 pairs at 10 %: 40 ± 6 (one standard deviation).
    assert!((22..=58).contains(&repeats.len()), "{}", repeats.len());
    for at in &repeats {
        let first = order.iter().position(|(pair, pass)| *pair == order[*at].0 && *pass == 0).unwrap();
        assert!(at - first > 20, "{at} {first}");
        assert_eq!(order.iter().filter(|(pair, _)| *pair == order[*at].0).count(), 2, "once");
    }
    let early = repeats.iter().filter(|at| **at < 400);
    let early: Vec<&usize> = early.collect();
    assert!(early.windows(2).all(|w| w[1] - w[0] >= 10), "never in a row while there are new pairs: {repeats:?}");
    // The first verdict counts, although the repeat says otherwise.
    assert!((0..400).all(|pair| s.outcome(&id(pair)) == Outcome::Prefer(Side::A, 2.0 / 3.0)));
    assert_eq!(s.rows().0.len(), 400);
    let figures = &agreement_report(&s).raters[0];
    assert_eq!((figures.labels, figures.repeated, figures.repeated_same), (400, repeats.len(), 0));
    assert_eq!(s.slip_rate(&Rater::new("ana")), Some(0.5), "every repeat differs");
    assert_eq!(s.judged_by(&Rater::new("ana"), &RubricPass::Overall, |_| true), 400 + repeats.len());
    // Another rater gets other repeats, and each gets the same ones again.
    let other: Vec<(usize, u32)> =
        work(&mut s, "ben", 1000, 10_000).into_iter().filter(|(_, pass)| *pass > 0).collect();
    assert_ne!(other, repeats.iter().map(|at| order[*at]).collect::<Vec<_>>());
}

#[test]
fn an_undone_repeat_comes_back_at_once_and_a_skipped_one_after_the_distance() {
    let mut s = session(40);
    s.set_repeats(Repeats { share: 1.0, distance: 3, after_ms: 0 });
    let ana = Rater::new("ana");
    assert_eq!(work(&mut s, "ana", 5, 1), [(0, 0), (1, 0), (2, 0), (3, 0), (0, 1)]);
    assert_eq!(s.undoable(&ana), Some(5));
    s.undo(5);
    assert_eq!(s.queue(&ana)[0], id(0));
    s.judge(6, asked(0, "ana", Choice::Skip, Asked { pass: 1, ..Asked::default() }));
    assert_eq!(s.outcome(&id(0)), Outcome::Prefer(Side::A, 2.0 / 3.0), "a skipped repeat leaves the verdict");
    let rest = work(&mut s, "ana", 8, 7);
    let again = rest.iter().position(|(pair, _)| *pair == 0).unwrap();
    assert!(again >= 3 && rest[again].1 == 1, "{rest:?}");
    // Without the first verdict the pair is asked as if it had never been.
    let mut s = session(2);
    s.set_repeats(Repeats { share: 1.0, distance: 1, after_ms: 0 });
    assert_eq!(work(&mut s, "ana", 3, 1), [(0, 0), (1, 0), (0, 1)]);
    s.undo(1);
    assert_eq!((s.queue(&ana)[0].clone(), s.outcome(&id(0))), (id(0), Outcome::Open));
    assert_eq!(s.asks(&id(0), &ana, QueueOrder::Arrival, &RubricPass::Overall).pass, 0);
}

#[test]
fn a_repeat_waits_for_its_time_and_its_distance() {
    const HOUR: u64 = 3_600_000;
    let mut s = session(6);
    let ana = Rater::new("ana");
    s.set_repeats(Repeats { share: 1.0, distance: 1, after_ms: 2 * HOUR });
    let begin = 1_760_000_000_000;
    s.set_wall_time(begin);
    assert_eq!(work(&mut s, "ana", 3, 1), [(0, 0), (1, 0), (2, 0)], "the distance alone does not bring them back");
    s.set_wall_time(begin + 2 * HOUR - 1000);
    assert_eq!(s.queue(&ana)[0], id(3));
    s.set_wall_time(begin + 2 * HOUR + 1000);
    assert_eq!(s.queue(&ana)[0], id(0), "after two hours");
    // The repeat itself and a verdict that is given later start the time anew.
    assert_eq!(work(&mut s, "ana", 2, 10), [(0, 1), (3, 0)]);
    s.set_wall_time(begin + 3 * HOUR);
    let due: Vec<PairId> = s.queue(&ana);
    assert!(!due.contains(&id(0)) && !due.contains(&id(3)), "{due:?}");
    assert_eq!(work(&mut s, "ana", 1, 20), [(1, 1)]);
    s.set_wall_time(begin + 5 * HOUR);
    assert!(s.queue(&ana).contains(&id(3)), "three hours and one verdict later");
    // Old records have no time.
    let old: Repeats = serde_json::from_str(r#"{"share":0.1,"distance":20}"#).unwrap();
    assert_eq!(old.after_ms, 0);
    assert!(!serde_json::to_string(&old).unwrap().contains("after_ms"));
}

fn scored(s: &mut Session, pair: usize, a: f64, b: f64) {
    for (side, value) in [("a", a), ("b", b)] {
        s.score(CompletionId::new(format!("c{pair}.{side}")), &RunId::new("reward-1"), value);
    }
}

#[test]
fn labels_that_scores_contradict_are_asked_again_widest_gap_first() {
    let mut s = session(6);
    let ana = Rater::new("ana");
    let reviews = |s: &Session| s.queue_in(&ana, QueueOrder::Contested);
    for (pair, gap) in [(0, 1.0), (1, -0.5), (2, -2.0), (3, -1.0), (4, -3.0)] {
        scored(&mut s, pair, gap, 0.0);
    }
    assert!(reviews(&s).is_empty(), "nothing is labelled");
    for pair in 0..6 {
        s.judge(pair as u64 + 1, verdict(pair, "ana", if pair == 4 { Choice::Tie } else { A }));
    }
    assert_eq!(names(&reviews(&s)), ["x2", "x3", "x1"], "x0 agrees, x4 is a tie, x5 has no scores");
    let question = s.asks(&id(2), &ana, QueueOrder::Contested, &RubricPass::Overall);
    assert!(question.review && question.pass == 0);
    // Put off: it comes last, and the label stays. Confirmed: it does not come again. Changed: it is not contested.
    s.judge(11, asked(2, "ana", Choice::Skip, question.clone()));
    assert_eq!((names(&reviews(&s)), s.outcome(&id(2))), (vec!["x3", "x1", "x2"], Outcome::Prefer(Side::A, 2.0 / 3.0)));
    s.judge(12, asked(3, "ana", A, question.clone()));
    s.judge(13, asked(1, "ana", B, question));
    assert_eq!(names(&reviews(&s)), ["x2"]);
    assert_eq!(s.outcome(&id(1)), Outcome::Prefer(Side::B, 1.0));
    assert_eq!(names(&s.contested(None).into_iter().map(|c| c.pair).collect::<Vec<_>>()), ["x2", "x3"]);
    s.undo(13);
    assert_eq!(names(&reviews(&s)), ["x1", "x2"]);
    assert_eq!(agreement_report(&s).raters[0].repeated, 0, "a review is no repeat");
}

#[test]
fn random_and_widest_orders_show_every_pair() {
    let mut s = session(30);
    let of = |s: &Session, rater: &str, order| s.queue_in(&Rater::new(rater), order);
    let (ana, ben) = (of(&s, "ana", QueueOrder::Random), of(&s, "ben", QueueOrder::Random));
    assert!(ana != ben && ana != of(&s, "ana", QueueOrder::Arrival));
    assert_eq!(ana, of(&s, "ana", QueueOrder::Random));
    let all: HashSet<&PairId> = ana.iter().collect();
    assert_eq!(all.len(), 30);
    scored(&mut s, 3, 1.0, 0.0);
    scored(&mut s, 7, 0.0, 4.0);
    assert_eq!(names(&of(&s, "ana", QueueOrder::BestWorst))[..3], ["x7", "x3", "x0"]);
    assert_eq!(names(&of(&s, "ana", QueueOrder::Uncertain))[..3], ["x3", "x7", "x0"]);
}

/// As the interleavings of several raters: repeats, reviews, criteria and their undo do not depend on the order either.
#[test]
fn a_thousand_interleavings_with_repeats_and_criteria_give_one_outcome() {
    let raters = ["ana", "ben", "cy"];
    let choices = [A, B, SLIGHTLY_B, Choice::Tie, Choice::BothBad, Choice::Skip];
    let scripts: Vec<Vec<Option<Verdict>>> = (0..3u64)
        .map(|r| {
            let step = |i: u64| {
                let draw = mix64(r * 1000 + i);
                let criterion = [None, Some("helpful"), Some("harmless")][(draw >> 24) as usize % 3];
                let question = Asked {
                    pass: u32::from((draw >> 32).is_multiple_of(3)),
                    review: (draw >> 40).is_multiple_of(4),
                    ..Asked::by(criterion)
                };
                let choice = choices[(draw >> 16) as usize % 6];
                (!draw.is_multiple_of(5)).then(|| asked((draw >> 8) as usize % 4, raters[r as usize], choice, question))
            };
            (0..16).map(step).collect()
        })
        .collect();
    let mix = RowChoice { rubric: Rubric::parse("overall=1,helpful=2,harmless=1").unwrap(), ..RowChoice::default() };
    let mut found = HashSet::new();
    for seed in 0..1000u64 {
        let mut s = with_criteria(4);
        let (mut at, mut seq) = ([0usize; 3], 0);
        while (0..3).any(|r| at[r] < scripts[r].len()) {
            seq += 1;
            let open: Vec<usize> = (0..3).filter(|r| at[*r] < scripts[*r].len()).collect();
            let r = open[(mix64(seed * 1000 + seq) % open.len() as u64) as usize];
            match &scripts[r][at[r]] {
                Some(verdict) => s.judge(seq, verdict.clone()),
                None => s.undoable(&Rater::new(raters[r])).into_iter().for_each(|of| s.undo(of)),
            }
            at[r] += 1;
        }
        let outcomes = |criterion| (0..4).map(|i| s.outcomes_on(criterion)[&id(i)].outcome).collect::<Vec<_>>();
        let all = [None, Some("helpful"), Some("harmless")].map(outcomes);
        let figures =
            raters.map(|r| (s.slip_rate(&Rater::new(r)), s.judged_by(&Rater::new(r), &RubricPass::All, |_| true)));
        found.insert(format!("{all:?} {figures:?} {:?}", s.rows_of(&mix)));
    }
    assert_eq!(found.len(), 1, "{found:?}");
}

/// A pair that is moved alone lands where the whole queue, computed again, has it.
#[test]
fn moving_one_pair_gives_the_queue_of_all() {
    let ana = Rater::new("ana");
    for rubric in [RubricPass::Overall, RubricPass::All, RubricPass::One("helpful".into())] {
        for order in [QueueOrder::Arrival, QueueOrder::Random, QueueOrder::Uncertain, QueueOrder::BestWorst] {
            let mut s = with_criteria(12);
            for i in 0..8u32 {
                for side in ["a", "b"] {
                    let value = f64::from(i) * if side == "a" { 1.5 } else { 1.0 };
                    s.score(CompletionId::new(format!("c{i}.{side}")), &RunId::new("reward-1"), value);
                }
            }
            let mut queue = s.queue_by(&ana, order, &rubric);
            let mut done = s.judged_by(&ana, &rubric, |_| true);
            for step in 0..300u64 {
                let random = mix64(step);
                let pair = (random % 12) as usize;
                let rater = if (random / 12).is_multiple_of(4) { "ben" } else { "ana" };
                let before = s.judged_on(&id(pair), &ana, &rubric);
                let mut touched = pair;
                match random / 100 % 8 {
                    0 => {
                        let Some(of) = s.undoable(&ana) else { continue };
                        touched = s.judged_pair(of).unwrap().as_str()[1..].parse().unwrap();
                        done += s.judged_on(&id(pair), &ana, &rubric);
                        done -= before;
                        let before = s.judged_on(&id(touched), &ana, &rubric);
                        s.undo(of);
                        done = done + s.judged_on(&id(touched), &ana, &rubric) - before;
                    }
                    n => {
                        let choice = [A, B, Choice::Skip, Choice::Tie][n as usize % 4];
                        let question = [None, Some("helpful"), Some("harmless")][(random / 1000 % 3) as usize];
                        s.judge(step, asked(pair, rater, choice, Asked::by(question)));
                        done = done + s.judged_on(&id(pair), &ana, &rubric) - before;
                    }
                }
                assert!(s.move_in_queue(&mut queue, &id(touched), &ana, order, &rubric, true));
                assert_eq!(names(&queue), names(&s.queue_by(&ana, order, &rubric)), "{order:?} {rubric:?} step {step}");
                assert_eq!(done, s.judged_by(&ana, &rubric, |_| true));
            }
            assert!(!s.move_in_queue(&mut queue, &id(0), &ana, QueueOrder::Disputed, &rubric, true));
        }
    }
}

#[test]
fn a_queue_that_is_built_in_slices_is_the_one_that_is_built_at_once() {
    let mut s = with_criteria(40);
    let ana = Rater::new("ana");
    for pair in 0..40 {
        for side in ["a", "b"] {
            let score = (mix64(pair as u64 * 2 + u64::from(side == "a")) % 100) as f64;
            if pair % 3 > 0 {
                s.score(CompletionId::new(format!("c{pair}.{side}")), &RunId::new("r"), score);
            }
        }
    }
    for (n, pair) in (0..40).step_by(3).enumerate() {
        let choice = [A, B, Choice::Skip, Choice::Tie][n % 4];
        s.judge(n as u64 * 2 + 1, verdict(pair, "ana", choice));
        s.judge(n as u64 * 2 + 2, by(pair, "ben", if n % 2 == 0 { A } else { B }, "helpful"));
    }
    let filters = [
        None,
        Some("verdict:none"),
        Some("text:\"answer a 1\""),
        Some("-rater:ana"),
        Some("contested"),
        Some("gap:<20"),
    ];
    for (_, order, _) in QueueOrder::ALL {
        for rubric in [RubricPass::Overall, RubricPass::One("helpful".into()), RubricPass::All] {
            for filter in filters {
                let filter = filter.map(|text| crate::domain::Filter::parse(text).expect("a filter"));
                let request =
                    QueueRequest { rater: ana.clone(), order, rubric: rubric.clone(), filter: filter.clone() };
                let whole = QueueBuild::new(request.clone()).finish(&s);
                let mut sliced = QueueBuild::new(request);
                while !sliced.advance(&s, 3) {}
                assert_eq!(sliced.finish(&s), whole, "{order:?} {rubric:?}");
                // The same by the ways that look at everything.
                let matching = filter.as_ref().map(|filter| s.view(filter).pairs());
                let meant = |pair: &PairId| matching.as_ref().is_none_or(|m| m.contains(pair));
                let mut queue = s.queue_by(&ana, order, &rubric);
                queue.retain(meant);
                assert_eq!(whole.queue, queue);
                assert_eq!(whole.done, s.judged_by(&ana, &rubric, meant));
            }
        }
    }
}
