//! Training rows from verdicts, corrections and imported files, and missing inputs of a run.

use super::super::*;

fn prompt(n: usize) -> Prompt {
    let body = PromptBody::user(format!("question {n}"));
    Prompt { id: PromptId::new(format!("p{n}")), body, source: "test".into(), tags: [].into() }
}

/// A session of pairs `x0`, `x1` … with these two texts each.
fn session(texts: &[[&str; 2]]) -> Session {
    let mut s = Session::default();
    for (n, sides) in texts.iter().enumerate() {
        let prompt = prompt(n);
        let id = |k: usize| CompletionId::new(format!("c{n}.{k}"));
        for (k, text) in sides.iter().enumerate() {
            s.add_completion(Completion {
                turns: [].into(),
                id: id(k),
                prompt: prompt.id.clone(),
                model: "m".into(),
                text: (*text).into(),
                tokens: 3,
                finish: Finish::Eos,
                sampler: None,
                logprob: LogProb::UNKNOWN,
            });
        }
        s.add_pair(Pair {
            id: PairId::new(format!("x{n}")),
            prompt: prompt.id.clone(),
            a: id(0),
            b: id(1),
            strategy: "random".into(),
            p_select: 1.0,
        });
        s.add_prompt(prompt);
    }
    s
}

fn judge(s: &mut Session, seq: u64, pair: &str, rater: &str, choice: Choice) {
    s.judge(
        seq,
        Verdict {
            pair: PairId::new(pair),
            rater: Rater::new(rater),
            choice,
            left: Side::A,
            seen: Seen::Full,
            ms: 1000,
            winner_hash: None,
            asked: crate::domain::Asked::default(),
            showing: crate::domain::Showing::default(),
        },
    );
}

fn correct(s: &mut Session, completion: &str, rater: &str, text: &str) {
    let seq = 1000 + s.corrections().len() as u64;
    let correction = Correction {
        pair: PairId::new(completion.replace('c', "x").split('.').next().unwrap()),
        completion: CompletionId::new(completion),
        rater: Rater::new(rater),
        text: text.into(),
    };
    s.correct(seq, correction);
}

const A: Choice = Choice::Prefer(Side::A, Strength::Better);
const B: Choice = Choice::Prefer(Side::B, Strength::Much);

fn text_row(id: &str, text: &str) -> SftRow {
    let body = SftBody::Text(text.into());
    SftRow { id: PairId::new(id), prompt_id: body.prompt().derived_id(), body }
}

fn rating(id: &str, prompt: PromptBody, text: &str, good: bool) -> RatedRow {
    let prompt_id = prompt.derived_id();
    RatedRow { turns: [].into(), cut: false, id: PairId::new(id), prompt_id, prompt, completion: text.into(), good }
}

#[test]
fn agreement_is_the_share_of_the_votes_for_a_side() {
    let mut s = session(&[["a", "b"], ["c", "d"], ["e", "f"], ["g", "h"]]);
    judge(&mut s, 1, "x0", "ann", A);
    judge(&mut s, 2, "x1", "ann", A);
    judge(&mut s, 3, "x1", "bob", A);
    for (seq, rater) in [(4, "ann"), (5, "bob")] {
        judge(&mut s, seq, "x2", rater, B);
    }
    judge(&mut s, 6, "x2", "cat", A);
    judge(&mut s, 7, "x2", "dan", Choice::Tie);
    judge(&mut s, 8, "x2", "eve", Choice::Skip);
    judge(&mut s, 9, "x3", "ann", A);
    judge(&mut s, 10, "x3", "bob", A);
    judge(&mut s, 11, "x3", "cat", Choice::Tie);
    let agreed: Vec<Option<f64>> = s.rows().0.iter().map(|row| row.agreed).collect();
    assert_eq!(agreed, [None, None, Some(2.0 / 3.0), None]);
    // The dissenting verdict is undone: all agree.
    s.undo(6);
    assert_eq!(s.rows().0[2].agreed, None);
}

#[test]
fn a_raters_slip_rate_comes_from_second_judgements_and_softens_pairs_with_one_rater() {
    let texts: Vec<[&str; 2]> = vec![["a", "b"]; 12];
    let mut s = session(&texts);
    let mut seq = 0;
    let mut say = |s: &mut Session, pair: usize, rater: &str, choice| {
        seq += 1;
        judge(s, seq, &format!("x{pair}"), rater, choice);
    };
    (0..12).for_each(|pair| say(&mut s, pair, "ann", A));
    (0..9).for_each(|pair| say(&mut s, pair, "ann", if pair < 2 { B } else { A }));
    assert_eq!(s.slip_rate(&Rater::new("ann")), None, "nine pairs judged twice are too few");
    assert!(s.rows().0.iter().all(|row| row.agreed.is_none()));
    // A tie is no preference and does not count; the tenth pair does.
    say(&mut s, 10, "ann", Choice::Tie);
    say(&mut s, 9, "ann", A);
    // 2 of 10 differ: 2e(1 − e) = 0.2.
    let e = s.slip_rate(&Rater::new("ann")).unwrap();
    assert!((2.0 * e * (1.0 - e) - 0.2).abs() < 1e-12 && e < 0.5, "{e}");
    say(&mut s, 11, "bob", A);
    let agreed: Vec<Option<f64>> = s.rows().0.iter().map(|row| row.agreed).collect();
    assert_eq!(agreed.len(), 11, "the tie makes no row");
    assert_eq!(
        (agreed[0], agreed[9], agreed[10]),
        (Some(1.0 - e), Some(1.0 - e), None),
        "two raters agree on the last"
    );
    assert_eq!(s.slip_rate(&Rater::new("bob")), None);
    // A rater who reverses every judgement is uninformative: as likely wrong as right.
    (0..11).for_each(|pair| say(&mut s, pair, "cat", A));
    (0..11).for_each(|pair| say(&mut s, pair, "cat", B));
    assert_eq!(s.slip_rate(&Rater::new("cat")), Some(0.5));
}

#[test]
fn examples_are_imported_texts_and_the_latest_corrections() {
    let mut s = session(&[["a", "b"], ["c", "d"]]);
    correct(&mut s, "c0.0", "ann", "first");
    correct(&mut s, "c1.1", "ann", "withdrawn");
    correct(&mut s, "c0.0", "bob", "bob's");
    correct(&mut s, "c0.0", "ann", "second");
    correct(&mut s, "c1.1", "ann", " \n");
    correct(&mut s, "c9.9", "ann", "of nothing known");
    s.add_text(TextSet::Sft, text_row("t1", "plain"));
    s.add_text(TextSet::Probe, text_row("t2", "general"));
    let rows = s.sft_rows();
    let completion = |text: &str| SftBody::Completion { prompt: prompt(0).body, completion: text.into() };
    assert_eq!(rows[0], text_row("t1", "plain"));
    assert_eq!(rows.iter().skip(1).map(|r| &r.body).collect::<Vec<_>>(), [&completion("bob's"), &completion("second")]);
    assert_eq!((rows[1].id.as_str(), rows[1].prompt_id.as_str()), ("x0", "p0"));
    assert_eq!(s.probe_rows(), [text_row("t2", "general")]);
    let supply = s.supply();
    assert_eq!((supply.examples, supply.corrections, supply.probe), (3, 2, 1));
}

#[test]
fn verdicts_become_ratings_once_per_pair() {
    let mut s =
        session(&[["a0", "b0"], ["a1", "b1"], ["a2", "b2"], ["a3", "b3"], ["same", " same"], [" ", "b5"], ["x", "x"]]);
    for rater in ["ann", "bob"] {
        judge(&mut s, 1 + u64::from(rater == "bob"), "x0", rater, A);
    }
    judge(&mut s, 3, "x1", "ann", Choice::BothBad);
    judge(&mut s, 4, "x2", "ann", Choice::Tie);
    judge(&mut s, 5, "x3", "ann", A);
    judge(&mut s, 6, "x3", "bob", B);
    judge(&mut s, 7, "x4", "ann", A);
    judge(&mut s, 8, "x5", "ann", B);
    judge(&mut s, 9, "x6", "ann", Choice::BothBad);
    s.add_rating(rating("r1", PromptBody::Text("Sky?".into()), " Blue.", true));
    let rows = s.rated_rows();
    let got: Vec<(&str, &str, bool)> = rows.iter().map(|r| (r.id.as_str(), r.completion.as_str(), r.good)).collect();
    assert_eq!(
        got,
        [
            ("r1", " Blue.", true),
            ("x0", "a0", true),
            ("x0", "b0", false),
            ("x1", "a1", false),
            ("x1", "b1", false),
            ("x5", "b5", true),
            ("x6", "x", false),
        ]
    );
    let supply = s.supply();
    assert_eq!((supply.good, supply.bad), (3, 4));
    assert_eq!((supply.verdicts, supply.pairs, supply.left.total()), (9, 1, 6));
}

#[test]
fn a_prompt_has_one_id_whatever_its_source() {
    let mut s = Session::default();
    let asked = prompt(3).body;
    let turns = |answer: &str| {
        let PromptBody::Chat(mut turns) = prompt(3).body else { unreachable!() };
        turns.turns.change(|turns| turns.push(Message::new("assistant", answer)));
        SftBody::Messages(turns)
    };
    for (id, answer) in [("t1", "one"), ("t2", "two")] {
        let body = turns(answer);
        s.add_text(TextSet::Sft, SftRow { id: PairId::new(id), prompt_id: body.prompt().derived_id(), body });
    }
    s.add_rating(rating("r1", asked.clone(), "three", false));
    let ids = |s: &Session| {
        let mut ids: Vec<String> = s.sft_rows().iter().map(|r| r.prompt_id.to_string()).collect();
        ids.extend(s.rated_rows().iter().map(|r| r.prompt_id.to_string()));
        ids
    };
    assert_eq!(ids(&s), vec![asked.derived_id().to_string(); 3]);
    assert_ne!(asked.derived_id(), prompt(4).body.derived_id());
    // The same prompt arrives later from a file of prompts: they adopt its id.
    s.add_prompt(prompt(3));
    assert_eq!(ids(&s), ["p3"; 3]);
}

#[test]
fn imported_rows_are_part_of_the_state_and_nothing_else_changes_it() {
    let mut s = session(&[["a", "b"]]);
    judge(&mut s, 1, "x0", "ann", A);
    let before = s.state_hash();
    // Hashes of folded logs must not change: sessions store them.
    assert_eq!(s.state_hash_2026_11(), "59ae2faa831ce01f");
    assert_eq!(before, "53030b3380305848");
    s.add_text(TextSet::Sft, text_row("t1", "one"));
    let taught = s.state_hash();
    assert_ne!(taught, before);
    s.add_rating(rating("r1", PromptBody::Text("q".into()), "a", true));
    assert_ne!(s.state_hash(), taught);
}

/// A method that requires every kind of input.
const GREEDY: Method = Method {
    probes: false,
    mixes: false,
    without: &[],
    name: "greedy",
    title: "",
    help: "",
    needs: Needs::Prompts,
    reference: false,
    own: || {
        vec![
            ParamRow {
                key: "mix_ratio",
                kind: ParamKind::Float(0.0, 1.0),
                default: "0",
                usual: "",
                help: "",
                basic: true,
            },
            ParamRow { key: "probe_steps", kind: ParamKind::Int(0, 9), default: "0", usual: "", help: "", basic: true },
            ParamRow { key: "reward_model", kind: ParamKind::Word, default: "", usual: "", help: "", basic: true },
            ParamRow { key: "checks", kind: ParamKind::Checks, default: "", usual: "", help: "", basic: true },
        ]
    },
    defaults: &[],
    dependencies: Vec::new,
    refuse: |_| None,
    objective: |_| String::new(),
};

#[test]
fn a_run_names_its_missing_input() {
    let params = |set: &[&str]| {
        let rows = GREEDY.rows();
        let mut params = Params::defaults(&rows);
        for pair in set {
            params.set_pair(&rows, "greedy", pair).unwrap();
        }
        params
    };
    let all = Supply { prompts: 1, examples: 1, mixed: 1, probe: 1, ..Supply::default() };
    let scored = params(&["checks= json ; max_words=3"]);
    assert_eq!(scored.text("checks"), "json;max_words=3");
    assert_eq!(Supply::default().lacks(&GREEDY, &scored), Some(Lack::Rows(Needs::Prompts)));
    assert_eq!(all.lacks(&GREEDY, &params(&[])), Some(Lack::Scorer));
    assert_eq!(all.lacks(&GREEDY, &params(&["reward_model=reward-1"])), None);
    assert_eq!(all.lacks(&GREEDY, &scored), None);
    let both = params(&["mix_ratio=0.1", "probe_steps=2", "checks=json"]);
    assert_eq!(all.lacks(&GREEDY, &both), None);
    assert_eq!(Supply { mixed: 0, ..all }.lacks(&GREEDY, &both), Some(Lack::Mix));
    assert_eq!(Supply { probe: 0, ..all }.lacks(&GREEDY, &both), Some(Lack::Probe));
    assert_eq!(Supply { mixed: 0, probe: 0, ..all }.lacks(&GREEDY, &scored), None);
    // A method without such keys can only lack its rows.
    let dpo = method("dpo").unwrap();
    let pairs = Supply { pairs: 1, ..Supply::default() };
    assert_eq!(pairs.lacks(dpo, &Params::defaults(&dpo.rows())), None);
    assert_eq!(all.lacks(dpo, &Params::defaults(&dpo.rows())), Some(Lack::Rows(Needs::Pairs)));
}

#[test]
fn words_and_checks_are_accepted_or_refused_with_a_message() {
    let row = |key: &str| (GREEDY.own)().into_iter().find(|row| row.key == key).unwrap();
    assert_eq!(row("reward_model").parse(" reward-1 ").as_deref(), Ok("reward-1"));
    assert_eq!(row("reward_model").parse("").as_deref(), Ok(""));
    assert!(row("reward_model").parse("a b").unwrap_err().to_string().contains("a run's name"));
    let error = row("checks").parse("max_word=3").unwrap_err().to_string();
    assert_eq!(error, "invalid checks=max_word=3: `max_word` is not a check; did you mean `max_words`?");
}

#[test]
fn both_hashes_of_every_choice_are_independent_of_names_in_the_code() {
    let mut s = session(&[["a", "b"]]);
    let sides = [Side::A, Side::B].into_iter();
    let prefer = sides.flat_map(|side| {
        [Strength::Slight, Strength::Better, Strength::Much].map(|strength| Choice::Prefer(side, strength))
    });
    let choices: Vec<Choice> = prefer.chain([Choice::Tie, Choice::BothBad, Choice::Skip]).collect();
    for (seq, choice) in (1..).zip(choices) {
        judge(&mut s, seq, "x0", "ann", choice);
    }
    s.undo(3);
    assert_eq!((s.state_hash_2026_11().as_str(), s.state_hash().as_str()), ("f9af872853babb78", "dd1b140292b50d68"));
}

#[test]
fn undoing_a_correction_changes_the_state_hash_and_redoing_restores_it() {
    let mut s = Session::default();
    correct(&mut s, "c0.0", "ann", "first");
    // As the release of 2026-11-26 computes it.
    let mut h = crate::domain::Fold64::default();
    h.add(b"c0.0");
    h.add(&crate::domain::hash64(b"first").to_le_bytes());
    assert_eq!(s.state_hash_2026_11(), h.hex());
    let before = s.state_hash();
    let seq = s.undoable(&Rater::new("ann")).unwrap();
    s.undo(seq);
    assert_ne!(s.state_hash(), before, "an undone one is another state");
    s.redo(seq);
    assert_eq!(s.state_hash(), before);
}
