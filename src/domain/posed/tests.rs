//! Blind pairs of a built evaluation.

use super::*;
use crate::domain::{
    Asked, CompletionId, EvalReport, Filter, Finish, LogProb, PairId, PromptBody, PromptId, RowChoice, ScoreSource,
    Seen, Showing, Strength, Verdict, agreement_report, eval_report,
};
use crate::domain::{Comparison, EvalState, Rater, Session, with_people};

fn posed(n: usize, first: Contestant) -> PosedPair {
    let (name, prompt) = (format!("eval-1.p{n}"), PromptId::new(format!("eval-1.p{n}")));
    let completion = |i: usize, side: Contestant| Completion {
        turns: [].into(),
        id: CompletionId::new(format!("{name}.{i}")),
        prompt: prompt.clone(),
        model: if side == Contestant::A { "dpo-1".into() } else { "base".into() },
        text: format!("{} {n}", side.word()).into(),
        tokens: 3,
        finish: Finish::Eos,
        sampler: None,
        logprob: LogProb::UNKNOWN,
    };
    let other = if first == Contestant::A { Contestant::B } else { Contestant::A };
    let answers = [completion(1, first), completion(2, other)];
    PosedPair {
        key: ItemKey { suite: "winrate".into(), item: format!("p{n}"), seed: 0 },
        cluster: format!("c{n}"),
        run: RunId::new("eval-1"),
        pair: Pair {
            id: PairId::new(name),
            prompt: prompt.clone(),
            a: answers[0].id.clone(),
            b: answers[1].id.clone(),
            strategy: EVALUATION.into(),
            p_select: 1.0,
        },
        first,
        prompt: Prompt { id: prompt, body: PromptBody::user("Why?"), source: "eval-1".into(), tags: [].into() },
        answers,
    }
}

fn verdict(pair: &PosedPair, rater: &str, choice: Choice) -> Verdict {
    Verdict {
        pair: pair.pair.id.clone(),
        rater: Rater::new(rater),
        choice,
        left: Side::A,
        seen: Seen::Full,
        ms: 1,
        winner_hash: None,
        asked: Asked::default(),
        showing: Showing::default(),
    }
}

/// Twelve pairs, every third with b's answer first.
fn built() -> (Vec<PosedPair>, EvalState, Session) {
    let pairs: Vec<PosedPair> =
        (0..12).map(|n| posed(n, if n % 3 == 0 { Contestant::B } else { Contestant::A })).collect();
    let (mut eval, mut session) = (EvalState::default(), Session::default());
    for pair in &pairs {
        eval.pose(pair.clone());
        session.pose(pair.clone());
    }
    (pairs, eval, session)
}

fn for_a(pair: &PosedPair) -> Choice {
    Choice::Prefer(if pair.first == Contestant::A { Side::A } else { Side::B }, Strength::Better)
}

fn human(report: &EvalReport) -> &crate::domain::JudgeReport {
    report.judges.iter().find(|judge| judge.judge.starts_with(HUMAN)).unwrap()
}

#[test]
fn verdicts_become_comparisons_whichever_answer_came_first() {
    let (pairs, eval, mut session) = built();
    let ana = Rater::new("ana");
    assert_eq!(session.blind_queue(&ana).len(), 12);
    let before = eval_report(&with_people(&eval, &session), &[]);
    assert_eq!((human(&before).judge.as_str(), human(&before).unjudged), ("human", 12));
    for (seq, pair) in pairs.iter().enumerate().take(11) {
        session.judge(seq as u64 + 1, verdict(pair, "ana", for_a(pair)));
    }
    let set = &session.blind_sets(&ana)[0];
    assert_eq!((set.pairs, set.judged, &set.revealed), (12, 11, &None), "names stay hidden");
    let partly = eval_report(&with_people(&eval, &session), &[]);
    assert!(human(&partly).not_headline[0].contains("1 of 12 pairs are still to be judged"), "{partly:?}");
    session.judge(99, verdict(&pairs[11], "ana", Choice::BothBad));
    let report = eval_report(&with_people(&eval, &session), &[]);
    let judge = human(&report);
    assert_eq!((judge.judge.as_str(), judge.wins, judge.ties, judge.losses), ("human:ana", 11, 1, 0));
    assert_eq!((judge.conclusion.word, judge.not_headline.len()), ("better", 0));
    let revealed = session.blind_sets(&ana)[0].revealed.clone().unwrap();
    assert_eq!((revealed.names, revealed.wins, revealed.ties), (["dpo-1".into(), "base".into()], [11, 0], 1));
    // Undo is a record like any other: the set is open again.
    session.undo(99);
    assert_eq!(session.blind_queue(&ana), [pairs[11].pair.id.clone()]);
    assert!(session.blind_sets(&ana)[0].revealed.is_none());
    assert_eq!(session.blind_queue(&Rater::new("ben")).len(), 12, "each person judges all");
}

#[test]
fn what_was_decided_without_asking_counts_for_everybody() {
    let (pairs, mut eval, mut session) = built();
    let auto = Comparison {
        key: ItemKey { item: "same".into(), ..pairs[0].key.clone() },
        ..super::super::people::comparison(&pairs[0], HUMAN, Some(0.5), None)
    };
    eval.compare(auto);
    session.judge(1, verdict(&pairs[0], "ana", for_a(&pairs[0])));
    session.judge(2, verdict(&pairs[1], "ben", Choice::Tie));
    // A model's vote is none of a person's.
    session.judge(3, verdict(&pairs[2], "model:m", for_a(&pairs[2])));
    let with = with_people(&eval, &session);
    assert_eq!(with.judges(), ["human:ana", "human:ben"]);
    let report = eval_report(&with, &[]);
    let of = |name: &str| report.judges.iter().find(|j| j.judge == name).unwrap();
    assert_eq!((of("human:ana").wins, of("human:ana").ties, of("human:ana").unjudged), (1, 1, 11));
    assert_eq!((of("human:ben").wins, of("human:ben").ties), (0, 2));
}

#[test]
fn pairs_of_an_evaluation_are_held_out_of_everything_that_trains() {
    let (pairs, _, mut session) = built();
    let ana = Rater::new("ana");
    for (seq, pair) in pairs.iter().enumerate() {
        session.judge(seq as u64 + 1, verdict(pair, "ana", for_a(pair)));
        session.judge(seq as u64 + 100, verdict(pair, "ben", Choice::Tie));
    }
    session.correct(
        200,
        crate::domain::Correction {
            pair: pairs[0].pair.id.clone(),
            completion: pairs[0].answers[0].id.clone(),
            rater: ana.clone(),
            text: "better".into(),
        },
    );
    assert!(session.pairs().is_empty() && session.prompts().is_empty() && session.completions().is_empty());
    let (rows, left) = session.rows();
    assert!(rows.is_empty() && left.total() == 0 && session.sft_rows().is_empty() && session.rated_rows().is_empty());
    let supply = session.supply();
    assert_eq!((supply.verdicts, supply.pairs, supply.examples, supply.corrections), (0, 0, 0, 0));
    // Not even a filter that names it makes it train.
    let choice = RowChoice { filter: Some(Filter::parse("eval:eval-1").unwrap()), ..RowChoice::default() };
    assert!(session.rows_of(&choice).0.is_empty() && session.supply_of(&choice).pairs == 0);
    assert!(session.labelled(&choice, true).0.is_empty());
    assert!(session.queue(&ana).is_empty() && session.queue(&Rater::new("new")).is_empty());
    assert!(session.disputes().is_empty() && agreement_report(&session).overlapping == 0);
    assert!(session.pool(&ScoreSource::None, true, &[]).pool.answers.is_empty());
    assert_eq!(session.slip_rate(&ana), None);
    // By its id, and by a filter that names the evaluation, each is found.
    let of = |text: &str| {
        let filter = Filter::parse(text).unwrap();
        session.view(&filter).pairs().len()
    };
    assert_eq!(
        (of("eval:eval-1"), of("eval:EVAL-1 text:why"), of("eval:eval-2"), of("text:why"), of("-eval:eval-1")),
        (12, 12, 0, 0, 0)
    );
    let pair = session.pair(&pairs[0].pair.id).unwrap();
    assert!(session.sides(pair).is_some() && session.prompt(&pair.prompt).is_some());
    assert!(
        !session.asks(&pair.id, &ana, crate::domain::QueueOrder::Arrival, &crate::domain::RubricPass::Overall).review
    );
}

#[test]
fn a_pair_that_is_put_off_comes_last_and_keeps_the_set_open() {
    let (pairs, _, mut session) = built();
    let ana = Rater::new("ana");
    session.judge(1, verdict(&pairs[0], "ana", Choice::Skip));
    let queue = session.blind_queue(&ana);
    assert_eq!((queue.len(), queue.last()), (12, Some(&pairs[0].pair.id)));
}

#[test]
fn answers_that_tell_who_wrote_them_are_flagged() {
    let giveaways = |prompt: &str, answer: &str| giveaways(&PromptBody::user(prompt), answer);
    assert_eq!(giveaways("Hi", "As an AI developed by Qwen, no."), ["ai developed by", "qwen"]);
    assert!(giveaways("Is Qwen good?", "Qwen is fine.").is_empty(), "the prompt names it itself");
    assert!(giveaways("Hi", "Hello there.").is_empty());
}
