//! Copies of a session that go their own ways and are collected: order, content, names.

use super::*;
use crate::domain::verdict::{Asked, Seen, Strength};
use crate::domain::{Aggregation, CollectionSettings, Finish, LabelRule, LogProb, mix64};

const PAIRS: usize = 6;

/// A session of six pairs. In a `foreign` one the same texts have other ids, and the sides are swapped.
fn session(foreign: bool) -> Session {
    let mut s = Session::default();
    let name = |kind: &str, i: usize| if foreign { format!("f{kind}{}", PAIRS - i) } else { format!("{kind}{i}") };
    for i in 0..PAIRS {
        let prompt = PromptId::new(name("p", i));
        let body = PromptBody::user(format!("question {i}"));
        s.add_prompt(Prompt { id: prompt.clone(), body, source: "t".into(), tags: [].into() });
        let answer = |side: &str| Completion {
            turns: [].into(),
            id: CompletionId::new(format!("{}.{side}", name("c", i))),
            prompt: prompt.clone(),
            model: "m".into(),
            text: format!("answer {side} {i}").into(),
            tokens: 2,
            finish: Finish::Given,
            sampler: None,
            logprob: LogProb::UNKNOWN,
        };
        let (a, b) = if foreign { (answer("b"), answer("a")) } else { (answer("a"), answer("b")) };
        let (id, p_select) = (PairId::new(name("x", i)), 1.0);
        s.add_pair(Pair {
            id,
            prompt: prompt.clone(),
            a: a.id.clone(),
            b: b.id.clone(),
            strategy: "t".into(),
            p_select,
        });
        s.add_completion(a);
        s.add_completion(b);
    }
    let rule = LabelRule { labels_per_item: 2, max_labels: 3, threshold: 0.6 };
    s.configure(CollectionSettings { rule, aggregation: Aggregation::Majority });
    s
}

/// A copy and the number of its last record.
struct Copy {
    session: Session,
    seq: u64,
}

impl Copy {
    fn next(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    fn judge(&mut self, wall: u64, pair: usize, rater: &str, text: Option<&str>) {
        self.judge_by(wall, pair, rater, text, None);
    }

    fn judge_by(&mut self, wall: u64, pair: usize, rater: &str, text: Option<&str>, criterion: Option<&str>) {
        self.session.set_wall_time(wall);
        let id = self.session.pairs()[pair].id.clone();
        let (a, _) = self.session.sides(&self.session.pairs()[pair]).unwrap();
        let side = text.map(|text| if a.text.starts_with(text) { Side::A } else { Side::B });
        let choice = side.map_or(Choice::Tie, |side| Choice::Prefer(side, Strength::Better));
        let seq = self.next();
        let rater = Rater::new(rater);
        let (left, seen, ms) = (Side::A, Seen::Full, 5);
        self.session.judge(
            seq,
            Verdict {
                pair: id,
                rater,
                choice,
                left,
                seen,
                ms,
                winner_hash: None,
                asked: Asked::by(criterion),
                showing: crate::domain::Showing::default(),
            },
        );
    }

    /// Folds an act as the log would.
    fn fold(&mut self, act: &Act) {
        let seq = self.next();
        self.session.copied(act.at, |s| match act.kind.clone() {
            ActKind::Prompt(prompt) => s.add_prompt(prompt),
            ActKind::Completion(completion) => s.add_completion(completion),
            ActKind::Pair(pair) => s.add_pair(pair),
            ActKind::Verdict(verdict) => s.judge(seq, verdict),
            ActKind::Adjudication(adjudication) => s.adjudicate(seq, adjudication),
            ActKind::Correction(correction) => s.correct(seq, correction),
            ActKind::Note(pair, rater, text) => s.note(pair, rater, text),
            ActKind::Tag(change) => s.tag(seq, change),
            ActKind::Criterion(name, sentence) => s.set_criterion(&name, sentence.as_deref()),
            ActKind::Toggle(of, true) => s.undo(of),
            ActKind::Toggle(of, false) => s.redo(of),
        });
        if let Some((at, undone)) = act.toggled {
            self.next();
            self.session.copied(at, |s| if undone { s.undo(seq) } else { s.redo(seq) });
        }
    }

    fn collect(&mut self, theirs: &Session) -> usize {
        let copied = self.session.missing_from(theirs, &HashMap::new(), false).expect("every name labels in one copy");
        copied.acts.iter().for_each(|act| self.fold(act));
        copied.acts.len()
    }

    /// What the acts come to, by content.
    fn result(&self) -> Vec<String> {
        let s = &self.session;
        let mut pairs: Vec<&Pair> = s.pairs().iter().map(|pair| &**pair).collect();
        pairs.sort_by_key(|p| s.prompt(&p.prompt).map(|p| p.body.headline().to_owned()));
        let outcomes = s.outcomes();
        let mut out: Vec<String> = pairs
            .iter()
            .map(|p| {
                let (a, b) = s.sides(p).unwrap();
                let text = |side: Side| if side == Side::A { a.text.clone() } else { b.text.clone() };
                let outcome = match outcomes[&p.id].outcome {
                    super::super::super::votes::Outcome::Prefer(side, margin) => format!("{} {margin:.3}", text(side)),
                    other => format!("{other:?}"),
                };
                let mut votes: Vec<String> = s
                    .counting(&p.id)
                    .iter()
                    .map(|(_, v)| match v.choice {
                        Choice::Prefer(side, _) => format!("{} {} left {}", v.rater, text(side), text(v.left)),
                        _ => format!("{} tie", v.rater),
                    })
                    .collect();
                votes.sort();
                let notes: Vec<_> =
                    ["ana", "ben", "cy"].map(|r| s.note_of(&p.id, &Rater::new(r)).map(str::to_owned)).into();
                let mut helpful: Vec<String> = s
                    .counting_on(&p.id, Some("helpful"))
                    .iter()
                    .map(|(_, v)| match v.choice {
                        Choice::Prefer(side, _) => format!("{} {}", v.rater, text(side)),
                        _ => format!("{} tie", v.rater),
                    })
                    .collect();
                helpful.sort();
                let mut tags = s.prompt(&p.prompt).unwrap().tags.clone();
                tags.retain(|tag| tag.contains('-'));
                tags.sort();
                let agreement = outcomes[&p.id].agreement;
                format!("{outcome} | {agreement} | {votes:?} | {notes:?} | helpful {helpful:?} | tags {tags:?}")
            })
            .collect();
        let mut criteria: Vec<String> = s.criteria().iter().map(|c| format!("{}: {}", c.name, c.sentence)).collect();
        criteria.retain(|text| text.contains('-'));
        criteria.sort();
        out.extend(criteria);
        let mut rows: Vec<String> =
            s.rows().0.iter().map(|r| format!("{} {} {:?}", r.chosen, r.rejected, r.agreed)).collect();
        rows.sort();
        out.extend(rows);
        let mut sft: Vec<String> = s.sft_rows().iter().map(|row| format!("{:?}", row.body)).collect();
        sft.sort();
        out.extend(sft);
        out
    }
}

impl Copy {
    /// Tags and criteria that several raters change: the last change counts, and which is the last depends on what each had
    /// collected before it. Every copy must come to the same.
    fn shared(&self) -> Vec<String> {
        let s = &self.session;
        let tags = s.prompts().iter().map(|p| {
            let mut tags = p.tags.clone();
            tags.sort();
            format!("{}: {tags:?}", p.body.headline())
        });
        let mut out: Vec<String> =
            tags.chain(s.criteria().iter().map(|c| format!("{}: {}", c.name, c.sentence))).collect();
        out.sort();
        out
    }
}

/// The nth act of a copy's rater: the same whatever happened between.
fn act(copy: &mut Copy, who: usize, n: u64) {
    let rater = ["ana", "ben", "cy"][who];
    let random = mix64(382_800_000 + who as u64 * 1000 + n);
    let pair = (random % PAIRS as u64) as usize;
    // The third copy's pairs are stored in the same order under other ids.
    let wall = 1_000_000 + n * 97 + who as u64 * 31;
    copy.session.set_wall_time(wall);
    let me = Rater::new(rater);
    match random / 100 % 13 {
        0 | 1 => {
            if let Some(of) = copy.session.undoable(&me) {
                copy.next();
                copy.session.undo(of);
            }
        }
        2 => {
            if let Some(of) = copy.session.redoable(&me) {
                copy.next();
                copy.session.redo(of);
            }
        }
        3 => {
            let id = copy.session.pairs()[pair].id.clone();
            copy.next();
            copy.session.note(id, me, if random.is_multiple_of(2) { String::new() } else { format!("note {n}") });
        }
        4 => {
            let pair = copy.session.pairs()[pair].clone();
            let (a, b) = copy.session.sides(&pair).unwrap();
            let completion = if a.text < b.text { a.id.clone() } else { b.id.clone() };
            let seq = copy.next();
            copy.session
                .correct(seq, Correction { pair: pair.id.clone(), completion, rater: me, text: format!("better {n}") });
        }
        5 if who == 2 => {
            let id = copy.session.pairs()[pair].id.clone();
            let seq = copy.next();
            let side = if copy.session.sides(&copy.session.pairs()[pair]).unwrap().0.text.starts_with("answer a") {
                Side::A
            } else {
                Side::B
            };
            copy.session.adjudicate(
                seq,
                Adjudication {
                    pair: id,
                    rater: Rater::new("eva"),
                    choice: Choice::Prefer(side, Strength::Much),
                    criterion: None,
                },
            );
        }
        6 => copy.judge(wall, pair, rater, None),
        8 | 9 => {
            let prompt = copy.session.pairs()[pair].prompt.clone();
            let seq = copy.next();
            let tag = ["math", "hard"][(n % 2) as usize];
            let tag = if n.is_multiple_of(3) { tag.to_owned() } else { format!("{rater}-{tag}") };
            let on = random.is_multiple_of(3) || n % 5 < 3;
            copy.session.tag(seq, TagChange { prompt, tag, rater: me, on });
        }
        10 => {
            copy.next();
            let sentence = (!random.is_multiple_of(4)).then(|| format!("Which helps more ({rater} {n})?"));
            let name = if n.is_multiple_of(3) { "short".to_owned() } else { format!("{rater}-short") };
            copy.session.set_criterion(&name, sentence.as_deref());
        }
        11 => copy.judge_by(wall, pair, rater, Some("answer b"), Some("helpful")),
        12 => copy.judge_by(wall, pair, rater, None, Some("helpful")),
        x => copy.judge(wall, pair, rater, Some(if x == 7 { "answer a" } else { "answer b" })),
    }
}

#[test]
fn a_thousand_orders_of_acts_and_collects_come_to_one_result_in_every_copy() {
    const ACTS: u64 = 14;
    let mut expected: Option<Vec<String>> = None;
    for order in 0..1000u64 {
        let mut copies: Vec<Copy> = (0..3).map(|i| Copy { session: session(i == 2), seq: 0 }).collect();
        let mut done = [0; 3];
        let mut n = 0;
        while done.iter().any(|n| *n < ACTS) {
            n += 1;
            let random = mix64(order << 20 | n);
            let who = (random % 3) as usize;
            if (random / 3).is_multiple_of(3) {
                let other = copies[(who + 1 + (random / 9 % 2) as usize) % 3].session.clone();
                copies[who].collect(&other);
            } else if done[who] < ACTS {
                act(&mut copies[who], who, done[who]);
                done[who] += 1;
            }
        }
        // Everybody collects from everybody, in some order, until there is nothing new.
        for round in 0..if order % 50 == 0 { 3 } else { 2 } {
            for pair in 0..9u64 {
                let (to, from) = ((pair / 3) as usize, ((pair + order) % 3) as usize);
                if to != from {
                    let other = copies[from].session.clone();
                    let new = copies[to].collect(&other);
                    assert!(round < 2 || new == 0, "order {order}: the third round still brings {new}");
                }
            }
        }
        let shared: Vec<Vec<String>> = copies.iter().map(Copy::shared).collect();
        assert!(shared[0] == shared[1] && shared[0] == shared[2], "order {order}: {shared:#?}");
        let results: Vec<Vec<String>> = copies.iter().map(Copy::result).collect();
        assert_eq!(results[0], results[1], "order {order}");
        assert_eq!(results[0], results[2], "order {order}");
        let expected = expected.get_or_insert_with(|| results[0].clone());
        assert_eq!(*expected, results[0], "order {order}");
    }
    let text = expected.unwrap().join("\n");
    let some_tag = text.contains("-math\"") || text.contains("-hard\"");
    assert!(
        some_tag && text.contains("Which helps more") && !text.matches("helpful [\"").collect::<Vec<_>>().is_empty()
    );
    for part in ["note", "better", "Prefer", "ana answer", "cy"] {
        assert!(text.contains(part) || part == "Prefer", "the acts cover {part}:\n{text}");
    }
}

#[test]
fn a_pair_that_is_missing_comes_with_its_prompt_and_answers_under_ids_of_its_own() {
    let mut mine = Copy { session: Session::default(), seq: 0 };
    let mut theirs = Copy { session: session(false), seq: 0 };
    theirs.judge(5, 2, "ben", Some("answer b"));
    // An own answer with the same id and another text.
    mine.session.add_completion(Completion { text: "mine".into(), ..theirs.session.completions()[4].clone() });
    assert_eq!(mine.collect(&theirs.session), 5, "a prompt, two answers, a pair, a verdict");
    let row = &mine.session.rows().0[0];
    assert_eq!((row.chosen.as_str(), row.rejected.as_str()), ("answer b 2", "answer a 2"));
    assert_eq!(mine.collect(&theirs.session), 0, "once");
    let left = mine.session.missing_from(&theirs.session, &HashMap::new(), false).unwrap().left;
    assert_eq!(left.pairs, PAIRS - 1);
}

#[test]
fn one_name_in_two_copies_is_asked_about() {
    let (mut mine, mut theirs) = (Copy { session: session(false), seq: 0 }, Copy { session: session(false), seq: 0 });
    mine.judge(10, 0, "me", Some("answer a"));
    theirs.judge(20, 0, "me", Some("answer b"));
    let none = HashMap::new();
    let error = mine.session.missing_from(&theirs.session, &none, false).unwrap_err();
    assert_eq!(error.rater, Rater::new("me"));
    let renamed: HashMap<Rater, Rater> = [(Rater::new("me"), Rater::new("ben"))].into();
    let two = mine.session.missing_from(&theirs.session, &renamed, false).unwrap();
    assert!(matches!(&two.acts[0].kind, ActKind::Verdict(v) if v.rater == Rater::new("ben")));
    let one = mine.session.missing_from(&theirs.session, &none, true).unwrap();
    one.acts.iter().for_each(|act| mine.fold(act));
    assert_eq!(mine.session.rows().0[0].chosen, "answer b 0", "of one person the later verdict counts");
    theirs.session.undo(1);
    let undone = mine.session.missing_from(&theirs.session, &none, true).unwrap();
    assert!(matches!(undone.acts[0].kind, ActKind::Toggle(_, true)) && undone.acts.len() == 1);
    undone.acts.iter().for_each(|act| mine.fold(act));
    assert_eq!(mine.session.rows().0[0].chosen, "answer a 0");
    // What was taken is not what `undo` takes back here.
    assert_eq!(mine.session.undoable(&Rater::new("me")), Some(1));
}

#[test]
fn tags_and_criteria_are_taken_by_content_once_and_can_be_undone_there() {
    let (mut mine, mut theirs) = (Copy { session: session(false), seq: 0 }, Copy { session: session(true), seq: 0 });
    let tag = |copy: &mut Copy, at: usize, tag: &str, on: bool, wall: u64| {
        copy.session.set_wall_time(wall);
        let prompt = copy.session.pairs()[at].prompt.clone();
        let (seq, rater) = (copy.next(), Rater::new("ben"));
        copy.session.tag(seq, TagChange { prompt, tag: tag.into(), rater, on });
        seq
    };
    tag(&mut theirs, 0, "math", true, 10);
    let hard = tag(&mut theirs, 0, "hard", true, 20);
    theirs.session.set_criterion("helpful", Some("Which helps?"));
    assert_eq!(mine.collect(&theirs.session), 3);
    let tags = |copy: &Copy| {
        let pair = copy.session.pairs().iter().find(|p| copy.session.sides(p).unwrap().0.text.ends_with('0')).unwrap();
        copy.session.prompt(&pair.prompt).unwrap().tags.join(" ")
    };
    assert_eq!(
        (tags(&mine), mine.session.criterion("helpful").unwrap().sentence.as_str()),
        ("math hard".into(), "Which helps?")
    );
    assert_eq!(mine.collect(&theirs.session), 0, "once");
    theirs.next();
    theirs.session.set_wall_time(30);
    theirs.session.undo(hard);
    assert_eq!(mine.collect(&theirs.session), 1);
    assert_eq!((tags(&mine), mine.collect(&theirs.session)), ("math".into(), 0));
    // A later removal there takes off what was set before; an older sentence does not replace a newer one.
    tag(&mut theirs, 0, "math", false, 40);
    mine.session.set_wall_time(50);
    mine.session.set_criterion("helpful", Some("Which is more useful?"));
    assert_eq!(mine.collect(&theirs.session), 1);
    assert_eq!((tags(&mine), mine.session.criteria()[0].sentence.as_str()), (String::new(), "Which is more useful?"));
    let left = mine.session.missing_from(&theirs.session, &HashMap::new(), false).unwrap().left;
    assert_eq!(left, LeftThere::default());
}
