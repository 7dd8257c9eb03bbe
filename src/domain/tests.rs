//! Laws of the session fold, parameters, metrics and sanitising.

use super::*;
use std::collections::BTreeSet;

fn session() -> (Session, Rater) {
    let mut s = Session::default();
    for p in 0..3 {
        let prompt = PromptId::new(format!("p{p}"));
        s.add_prompt(Prompt {
            id: prompt.clone(),
            body: PromptBody::user(format!("question {p}")),
            source: "test".into(),
            tags: [].into(),
        });
        for k in 0..2 {
            s.add_completion(Completion {
                turns: [].into(),
                id: CompletionId::new(format!("c{p}.{k}")),
                prompt: prompt.clone(),
                model: "m".into(),
                text: format!("answer {p} {k}").into(),
                tokens: 3,
                finish: Finish::Eos,
                sampler: None,
                logprob: LogProb::UNKNOWN,
            });
        }
        s.add_pair(Pair {
            id: PairId::new(format!("x{p}")),
            prompt,
            a: CompletionId::new(format!("c{p}.0")),
            b: CompletionId::new(format!("c{p}.1")),
            strategy: "random".into(),
            p_select: 1.0,
        });
    }
    (s, Rater::new("me"))
}

fn verdict(pair: &str, rater: &Rater, choice: Choice) -> Verdict {
    Verdict {
        pair: PairId::new(pair),
        rater: rater.clone(),
        choice,
        left: Side::A,
        seen: Seen::Full,
        ms: 1000,
        winner_hash: None,
        asked: crate::domain::Asked::default(),
        showing: crate::domain::Showing::default(),
    }
}

const A: Choice = Choice::Prefer(Side::A, Strength::Better);
const B: Choice = Choice::Prefer(Side::B, Strength::Much);

#[test]
fn undo_removes_a_verdict_and_redo_restores_it() {
    let (mut s, me) = session();
    let before = s.queue(&me);
    s.judge(1, verdict("x0", &me, A));
    s.judge(2, verdict("x1", &me, B));
    assert_eq!(s.queue(&me), [PairId::new("x2")]);
    assert_eq!(s.undoable(&me), Some(2));
    s.undo(2);
    s.undo(1);
    assert_eq!(s.queue(&me), before);
    assert_eq!(s.undoable(&me), None);
    assert_eq!(s.redoable(&me), Some(1));
    s.redo(1);
    s.redo(2);
    assert_eq!(s.queue(&me), [PairId::new("x2")]);
    assert_eq!(s.outcome(&PairId::new("x1")), Outcome::Prefer(Side::B, 1.0));
}

#[test]
fn a_new_verdict_clears_the_redo_stack() {
    let (mut s, me) = session();
    s.judge(1, verdict("x0", &me, A));
    s.undo(1);
    s.judge(2, verdict("x0", &me, B));
    assert_eq!(s.redoable(&me), None);
    assert_eq!(s.outcome(&PairId::new("x0")), Outcome::Prefer(Side::B, 1.0));
}

#[test]
fn a_raters_later_verdict_replaces_the_earlier_one_and_undo_restores_it() {
    let (mut s, me) = session();
    s.judge(1, verdict("x0", &me, A));
    s.judge(2, verdict("x0", &me, Choice::Tie));
    assert_eq!(s.outcome(&PairId::new("x0")), Outcome::Tie);
    s.undo(2);
    assert_eq!(s.outcome(&PairId::new("x0")), Outcome::Prefer(Side::A, 2.0 / 3.0));
}

#[test]
fn skipped_pairs_return_last_and_imported_ones_are_not_queued() {
    let (mut s, me) = session();
    s.judge(1, verdict("x0", &me, Choice::Skip));
    assert_eq!(s.queue(&me), [PairId::new("x1"), PairId::new("x2"), PairId::new("x0")]);
    s.judge(2, verdict("x1", &Rater::new("import:file"), A));
    assert_eq!(s.queue(&me), [PairId::new("x2"), PairId::new("x0")]);
}

#[test]
fn the_pairs_whose_scores_differ_least_can_come_first() {
    let (mut s, me) = session();
    let ids = |s: &Session, order| s.queue_in(&me, order).into_iter().map(PairId::into_string).collect::<Vec<_>>();
    let (hash, run) = (s.state_hash(), RunId::new("reward-1"));
    assert_eq!(ids(&s, QueueOrder::Uncertain), ["x0", "x1", "x2"], "without scores the order of arrival holds");
    for (completion, score) in [("c1.0", 0.5), ("c1.1", -1.5), ("c2.0", 1.0), ("c2.1", 1.25), ("c0.0", 0.0)] {
        s.score(CompletionId::new(completion), &run, score);
    }
    assert_eq!(ids(&s, QueueOrder::Uncertain), ["x2", "x1", "x0"], "a pair without both scores comes last");
    assert_eq!(ids(&s, QueueOrder::Arrival), ["x0", "x1", "x2"]);
    assert_eq!(s.score_gap(s.pair(&PairId::new("x1")).unwrap()), Some(2.0));
    assert_ne!(s.state_hash(), hash, "scores are part of the state");
    // Scores of two runs are on two scales.
    s.score(CompletionId::new("c2.0"), &RunId::new("reward-2"), 1.0);
    assert_eq!(ids(&s, QueueOrder::Uncertain), ["x1", "x0", "x2"]);
    s.score(CompletionId::new("c2.1"), &RunId::new("reward-2"), f64::NAN);
    assert_eq!(ids(&s, QueueOrder::Uncertain), ["x1", "x0", "x2"]);
}

#[test]
fn conflicting_votes_are_not_resolved_by_order() {
    let (mut s, me) = session();
    s.judge(1, verdict("x0", &me, A));
    s.judge(2, verdict("x0", &Rater::new("you"), B));
    assert_eq!(s.outcome(&PairId::new("x0")), Outcome::Unresolved);
    let (rows, left) = s.rows();
    assert!(rows.is_empty());
    assert_eq!(left.unresolved, 1);
    s.judge(3, verdict("x0", &Rater::new("third"), B));
    let (rows, _) = s.rows();
    assert_eq!((rows[0].chosen.as_str(), rows[0].rejected.as_str()), ("answer 0 1", "answer 0 0"));
}

#[test]
fn a_verdict_may_arrive_before_its_pair() {
    let (mut late, me) = session();
    late.judge(1, verdict("x9", &me, A));
    let add = |s: &mut Session| {
        s.add_pair(Pair {
            id: PairId::new("x9"),
            prompt: PromptId::new("p0"),
            a: CompletionId::new("c0.0"),
            b: CompletionId::new("c0.1"),
            strategy: "random".into(),
            p_select: 1.0,
        });
    };
    add(&mut late);
    let (mut early, _) = session();
    add(&mut early);
    early.judge(1, verdict("x9", &me, A));
    assert_eq!(late, early);
    assert_eq!(late.state_hash(), early.state_hash());
}

#[test]
fn ties_and_equal_texts_make_no_rows_and_are_counted() {
    let (mut s, me) = session();
    s.judge(1, verdict("x0", &me, Choice::Tie));
    s.judge(2, verdict("x1", &me, Choice::BothBad));
    s.judge(3, verdict("x2", &me, A));
    let (rows, left) = s.rows();
    assert_eq!(rows.len(), 1);
    assert_eq!((left.ties, left.both_bad, left.total()), (1, 1, 2));
}

#[test]
fn unknown_options_suggest_the_nearest_and_bad_values_name_the_accepted_ones() {
    let rows = method("dpo").expect("dpo is a method").rows();
    let mut p = Params::defaults(&rows);
    let e = p.set_pair(&rows, "dpo", "learning_rat=1e-5").unwrap_err();
    assert!(e.to_string().contains("`learning_rate`"), "{e}");
    let e = p.set_pair(&rows, "dpo", "beta=-1").unwrap_err();
    assert!(e.to_string().contains("from"), "{e}");
    let e = p.set_pair(&rows, "dpo", "loss_type=sigmoidal").unwrap_err();
    assert!(e.to_string().contains("sigmoid, ipo"), "{e}");
    p.set_pair(&rows, "dpo", "lora_target_modules=q_proj, v_proj").expect("a list");
    assert_eq!(p.text("lora_target_modules"), "q_proj,v_proj");
}

#[test]
fn comma_separated_numbers_are_checked_one_by_one() {
    let row = |kind| ParamRow { key: "loss_weights", kind, default: "1", usual: "", help: "", basic: false };
    let row = row(ParamKind::Floats(0.0, 10.0));
    assert_eq!(row.parse(" 0.8, 0.2,1e0 ").as_deref(), Ok("0.8,0.2,1e0"));
    assert_eq!(row.parse("1").as_deref(), Ok("1"));
    for bad in ["", "1,", "1,-1", "1,11", "NaN", "0.5;0.5"] {
        let e = row.parse(bad).unwrap_err();
        assert!(e.to_string().contains("numbers from 0 to 10"), "{e}");
    }
}

#[test]
fn every_method_default_is_accepted_by_its_row_and_keys_are_unique() {
    for m in methods() {
        let rows = m.rows();
        let mut seen = BTreeSet::new();
        for row in &rows {
            assert_eq!(row.parse(row.default).as_deref(), Ok(row.default), "{} {}", m.name, row.key);
            assert!(seen.insert(row.key), "{} has {} twice", m.name, row.key);
        }
        for (key, ..) in m.defaults {
            assert!(rows.iter().any(|r| r.key == *key), "{} has a default for {key}", m.name);
        }
    }
}

#[test]
fn every_option_of_a_loss_shows_in_the_objective() {
    for (m, key, value) in [
        ("dpo", "beta", "0.3"),
        ("dpo", "loss_type", "ipo"),
        ("dpo", "loss_type", "ipo_sum"),
        ("dpo", "loss_type", "hinge"),
        ("dpo", "loss_type", "sigmoid_norm"),
        ("dpo", "loss_type", "sigmoid,sft"),
        ("dpo", "loss_weights", "0.5"),
        ("dpo", "label_smoothing", "0.1"),
        ("dpo", "f_divergence_type", "js_divergence"),
        ("dpo", "ld_alpha", "0.5"),
        ("dpo", "use_weighting", "true"),
        ("cpo", "beta", "0.3"),
        ("cpo", "loss_type", "ipo"),
        ("cpo", "loss_type", "hinge"),
        ("cpo", "cpo_alpha", "0.5"),
        ("cpo", "label_smoothing", "0.1"),
        ("cpo", "soft_labels", "true"),
        ("simpo", "beta", "3"),
        ("simpo", "simpo_gamma", "1"),
        ("simpo", "cpo_alpha", "0.5"),
        ("simpo", "label_smoothing", "0.1"),
        ("simpo", "soft_labels", "true"),
        ("kto", "beta", "0.3"),
        ("kto", "loss_type", "apo_zero_unpaired"),
        ("kto", "desirable_weight", "1.2"),
        ("kto", "undesirable_weight", "1.2"),
        ("orpo", "beta", "0.3"),
        ("orpo", "orpo_nll", "completion_token_mean"),
        ("orpo", "orpo_nll", "completion_seq_mean"),
    ] {
        let m = method(m).expect("a method");
        let rows = m.rows();
        let mut p = Params::defaults(&rows);
        let before = (m.objective)(&p);
        p.set(&rows, m.name, key, value).expect("a value");
        assert_ne!((m.objective)(&p), before, "{key}={value}");
    }
}

#[test]
fn every_loss_type_has_its_own_formula_that_shows_its_options() {
    let m = method("dpo").expect("a method");
    let rows = m.rows();
    let with = |settings: &[(&str, &str)]| {
        let mut p = Params::defaults(&rows);
        for (key, value) in settings {
            p.set(&rows, m.name, key, value).expect("a value");
        }
        (m.objective)(&p)
    };
    let row = rows.iter().find(|r| r.key == "loss_type").expect("a row");
    let ParamKind::List(words) = row.kind else { panic!("loss_type is no list") };
    let formulas: BTreeSet<String> =
        words.iter().map(|w| with(&[("loss_type", *w), ("label_smoothing", "0.1")])).collect();
    assert_eq!(formulas.len(), words.len());
    for (loss, key, value) in [
        ("robust", "label_smoothing", "0.123"),
        ("exo_pair", "label_smoothing", "0.123"),
        ("sigmoid_norm", "label_smoothing", "0.123"),
        ("aot", "label_smoothing", "0.123"),
        ("aot_unpaired", "label_smoothing", "0.123"),
        ("discopop", "discopop_tau", "0.123"),
        ("dpop", "dpop_lambda", "123"),
        ("nca_pair", "beta", "0.123"),
    ] {
        let text = with(&[("loss_type", loss), (key, value)]);
        assert!(text.contains(value), "{loss}: {text}");
    }
    let alpha = with(&[("f_divergence_type", "alpha_divergence"), ("f_alpha_divergence_coef", "0.3")]);
    assert!(alpha.contains("0.3"), "{alpha}");
    let two = with(&[("loss_type", "sigmoid,sft"), ("loss_weights", "1,0.25")]);
    assert!(two.contains(" + 0.25·NLL"), "{two}");
}

#[test]
fn metrics_keep_order_and_non_finite_numbers() {
    let mut m = Metrics::new();
    m.set("loss", f64::NAN);
    m.set("grad_norm", f64::INFINITY);
    m.set("a", 0.1);
    let text = serde_json::to_string(&m).expect("serialises");
    assert_eq!(text, r#"{"loss":"NaN","grad_norm":"Infinity","a":0.1}"#);
    let back: Metrics = serde_json::from_str(&text).expect("parses");
    assert!(back.get("loss").is_some_and(f64::is_nan));
    assert_eq!(back.get("grad_norm"), Some(f64::INFINITY));
}

#[test]
fn no_control_character_survives_sanitising() {
    let hostile = "a\u{1b}[31mred\u{1b}]0;title\u{7}\u{9b}2J\r\nb\rc\td\u{0}\u{7f}\u{202e}x\u{e0041}";
    let safe = sanitise(hostile);
    assert!(safe.chars().all(|c| c == '\n' || !c.is_control()), "{safe:?}");
    assert!(safe.contains('\u{241b}'));
    assert_eq!(sanitise(&safe), safe);
    assert_eq!(sanitise("plain — text 你好 👩‍🚀"), "plain — text 你好 👩‍🚀");
}

#[test]
fn a_generic_folder_name_falls_back_to_the_parent_folder() {
    let hash = "0123456789abcdef0123456789abcdef01234567";
    let snapshot = format!("/c/models--acme--tiny/snapshots/{hash}");
    for (path, name) in [
        ("/m/smollm2/hf", "smollm2"),
        ("/m/smollm2/gguf/", "smollm2"),
        ("/m/smollm2/model", "smollm2"),
        ("/m/q/Smol.Q4_1.gguf", "Smol.Q4_1"),
        (snapshot.as_str(), "acme/tiny"),
        ("/m/smollm2", "smollm2"),
        ("hf", "hf"),
        ("/", "/"),
    ] {
        assert_eq!(model_name(path), name, "{path}");
    }
}
