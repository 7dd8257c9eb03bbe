//! Several raters on one session: who is asked, what is disputed, and that the order of records does not matter.

use super::super::*;
use crate::domain::verdict::{Seen, Side, Strength};
use crate::domain::{
    Adjudication, Aggregation, Choice, CollectionSettings, Finish, ItemState, LabelRule, LogProb, Outcome, PromptBody,
    mix64,
};
use std::collections::HashSet;

const A: Choice = Choice::Prefer(Side::A, Strength::Better);
const B: Choice = Choice::Prefer(Side::B, Strength::Much);
const SLIGHTLY_B: Choice = Choice::Prefer(Side::B, Strength::Slight);

pub(in crate::domain::session) fn session(pairs: usize) -> Session {
    let mut s = Session::default();
    for i in 0..pairs {
        let prompt = PromptId::new(format!("p{i}"));
        s.add_prompt(Prompt { id: prompt.clone(), body: PromptBody::user("q"), source: "t".into(), tags: [].into() });
        for side in ["a", "b"] {
            s.add_completion(Completion {
                turns: [].into(),
                id: CompletionId::new(format!("c{i}.{side}")),
                prompt: prompt.clone(),
                model: "m".into(),
                text: format!("answer {side} {i}").into(),
                tokens: 2,
                finish: Finish::Given,
                sampler: None,
                logprob: LogProb::UNKNOWN,
            });
        }
        s.add_pair(Pair {
            id: PairId::new(format!("x{i}")),
            prompt,
            a: CompletionId::new(format!("c{i}.a")),
            b: CompletionId::new(format!("c{i}.b")),
            strategy: "random".into(),
            p_select: 1.0,
        });
    }
    s
}

pub(in crate::domain::session) fn verdict(pair: usize, rater: &str, choice: Choice) -> Verdict {
    Verdict {
        pair: PairId::new(format!("x{pair}")),
        rater: Rater::new(rater),
        choice,
        left: Side::A,
        seen: Seen::Full,
        ms: 1,
        winner_hash: None,
        asked: crate::domain::Asked::default(),
        showing: crate::domain::Showing::default(),
    }
}

fn settings(labels: usize, max: usize) -> CollectionSettings {
    let rule = LabelRule { labels_per_item: labels, max_labels: max, threshold: 0.6 };
    CollectionSettings { rule, aggregation: Aggregation::Majority }
}

fn asked(s: &Session, rater: &str) -> usize {
    s.queue(&Rater::new(rater)).len()
}

#[test]
fn a_pair_is_asked_of_others_until_its_labels_agree() {
    let mut s = session(1);
    assert_eq!((asked(&s, "ana"), asked(&s, "ben")), (1, 1));
    s.judge(1, verdict(0, "ana", A));
    assert_eq!(asked(&s, "ben"), 1, "without a rule everybody judges everything");
    s.configure(settings(1, 3));
    assert_eq!(asked(&s, "ben"), 0, "one label is enough");
    s.configure(settings(2, 3));
    assert_eq!((asked(&s, "ana"), asked(&s, "ben")), (0, 1));
    s.judge(2, verdict(0, "ben", B));
    assert_eq!(s.item_state(&PairId::new("x0")), Some(ItemState::OneMore));
    assert_eq!((asked(&s, "ben"), asked(&s, "cy")), (0, 1));
    s.judge(3, verdict(0, "cy", A));
    assert_eq!(asked(&s, "dot"), 0, "after three labels there is no fourth");
    let disputes = s.disputes();
    assert_eq!((disputes.len(), disputes[0].votes), (1, 3));
    assert!((disputes[0].agreement - 1.0 / 3.0).abs() < 1e-12);
    assert_eq!(s.outcome(&PairId::new("x0")), Outcome::Prefer(Side::A, 2.0 / 3.0));
}

#[test]
fn an_adjudication_settles_a_dispute_and_can_be_undone_and_redone() {
    let mut s = session(1);
    s.configure(settings(2, 2));
    s.judge(1, verdict(0, "ana", A));
    s.judge(2, verdict(0, "ben", B));
    assert_eq!(s.outcome(&PairId::new("x0")), Outcome::Unresolved);
    assert_eq!((s.rows().0.len(), s.rows().1.unresolved), (0, 1));
    let eva = Rater::new("eva");
    s.adjudicate(3, Adjudication { pair: PairId::new("x0"), rater: eva.clone(), choice: B, criterion: None });
    assert_eq!(s.outcome(&PairId::new("x0")), Outcome::Prefer(Side::B, 1.0));
    let rows = s.rows().0;
    assert_eq!((rows[0].chosen.as_str(), rows[0].agreed), ("answer b 0", None));
    assert!(s.disputes().is_empty());
    assert_eq!(s.undoable(&eva), Some(3));
    let settled = s.state_hash();
    s.undo(3);
    assert_eq!((s.disputes().len(), s.redoable(&eva)), (1, Some(3)));
    assert_ne!(s.state_hash(), settled);
    s.redo(3);
    assert_eq!((s.disputes().len(), s.state_hash()), (0, settled));
    // While it is on its way to the disk it has another number.
    s.adjudicate(u64::MAX, Adjudication { pair: PairId::new("x0"), rater: eva.clone(), choice: A, criterion: None });
    s.renumber(u64::MAX, 9);
    assert_eq!((s.undoable(&eva), s.adjudication_of(&PairId::new("x0")).map(|(n, _)| n)), (Some(9), Some(9)));
}

#[test]
fn disputes_come_with_the_lowest_agreement_first() {
    let mut s = session(2);
    s.configure(settings(3, 3));
    for (n, (pair, rater, choice)) in
        [(0, "ana", A), (0, "ben", A), (0, "cy", B), (1, "ana", A), (1, "ben", B), (1, "cy", Choice::Tie)]
            .into_iter()
            .enumerate()
    {
        s.judge(n as u64, verdict(pair, rater, choice));
    }
    let found: Vec<String> = s.disputes().into_iter().map(|d| d.pair.to_string()).collect();
    assert_eq!(found, ["x1", "x0"]);
}

#[test]
fn the_aggregation_decides_rows_and_soft_labels() {
    let mut s = session(1);
    for (n, (rater, choice)) in
        [("ana", SLIGHTLY_B), ("ben", SLIGHTLY_B), ("cy", Choice::Prefer(Side::A, Strength::Much))]
            .into_iter()
            .enumerate()
    {
        s.judge(n as u64, verdict(0, rater, choice));
    }
    let chosen = |s: &Session| s.rows().0[0].chosen.clone();
    assert_eq!(chosen(&s), "answer b 0", "two of three");
    assert_eq!(s.rows().0[0].agreed, Some(2.0 / 3.0));
    s.configure(CollectionSettings { aggregation: Aggregation::MeanStrength, ..settings(3, 3) });
    assert_eq!(chosen(&s), "answer a 0", "much better once outweighs slightly better twice");
    for how in [Aggregation::DawidSkene, Aggregation::BradleyTerry] {
        s.configure(CollectionSettings { aggregation: how, ..settings(3, 3) });
        let agreed = s.rows().0[0].agreed.expect("a model's probability");
        assert!((0.5..1.0).contains(&agreed), "{how:?} {agreed}");
    }
}

/// Verdicts of several raters, undo, redo and adjudications, each rater's own in order, interleaved at random.
#[test]
fn a_thousand_interleavings_of_the_raters_records_give_one_outcome() {
    // Each rater's own records: which pair, and the choice, or none for an undo of the rater's last.
    let raters = ["ana", "ben", "cy"];
    let all = [A, B, SLIGHTLY_B, Choice::Tie, Choice::BothBad, Choice::Skip];
    let scripts: Vec<Vec<Option<(usize, Choice)>>> = (0..3)
        .map(|r| {
            (0..12)
                .map(|i| {
                    let draw = mix64(r * 100 + i);
                    (!draw.is_multiple_of(5)).then_some(((draw >> 8) as usize % 4, all[(draw >> 16) as usize % 6]))
                })
                .collect()
        })
        .collect();
    let mut outcomes = HashSet::new();
    for seed in 0..1000u64 {
        let mut s = session(4);
        s.configure(settings(2, 3));
        let mut at = [0usize; 3];
        let mut seq = 0;
        while at.iter().zip(&scripts).any(|(at, script)| *at < script.len()) {
            seq += 1;
            let open: Vec<usize> = (0..3).filter(|r| at[*r] < scripts[*r].len()).collect();
            let r = open[(mix64(seed * 1000 + seq) % open.len() as u64) as usize];
            match scripts[r][at[r]] {
                Some((pair, choice)) => s.judge(seq, verdict(pair, raters[r], choice)),
                None => {
                    if let Some(of) = s.undoable(&Rater::new(raters[r])) {
                        s.undo(of);
                    }
                }
            }
            at[r] += 1;
        }
        s.adjudicate(
            seq + 1,
            Adjudication { pair: PairId::new("x3"), rater: Rater::new("eva"), choice: A, criterion: None },
        );
        let all: Vec<String> = (0..4).map(|i| format!("{:?}", s.outcome(&PairId::new(format!("x{i}"))))).collect();
        let disputes: Vec<String> = s.disputes().iter().map(|d| d.pair.to_string()).collect();
        outcomes.insert((all, disputes));
    }
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
}

#[test]
fn a_models_vote_decides_only_what_nobody_else_judged() {
    let mut s = session(2);
    let model = "model:reward-1";
    s.judge(1, verdict(0, model, B));
    s.judge(2, verdict(1, model, B));
    assert_eq!(s.outcome(&PairId::new("x0")), Outcome::Prefer(Side::B, 1.0));
    assert_eq!(asked(&s, "ana"), 2, "its labels are not those that people are asked for");
    s.configure(settings(1, 1));
    assert_eq!(asked(&s, "ana"), 2);
    s.judge(3, verdict(0, "ana", A));
    assert_eq!((s.outcome(&PairId::new("x0")), s.rows().0.len()), (Outcome::Prefer(Side::A, 2.0 / 3.0), 2));
    assert_eq!(s.rows().0[0].agreed, None, "it does not soften a person's label");
    assert!(s.disputes().is_empty());
    assert_eq!(s.item_state(&PairId::new("x0")), Some(ItemState::Done));
    // Where raters are weighed it counts beside them, and agreement reports it.
    s.configure(CollectionSettings { aggregation: Aggregation::DawidSkene, ..settings(1, 1) });
    assert_ne!(s.outcome(&PairId::new("x0")), Outcome::Prefer(Side::A, 2.0 / 3.0));
    assert_eq!(crate::domain::agreement_report(&s).overlapping, 1);
}
