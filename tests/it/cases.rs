//! Inputs of public bug reports and published schemas: each gives its right value.
//!
//! `tests/fixtures/cases` holds the models of the numbered cases: a folder has the files that differ from `base`.
//! `expected.json` holds the sums of answers' log-probs and the tokens of a DPO run's first step by transformers 5.23 in f32.
//!
//! | case | test |
//! |---|---|
//! | 01, 03, 26, B01 | `storage::import::tests::cases::the_question_is_the_prompt_under_every_name`, `fields` (dolly, intel-orca) |
//! | 05, 06, 08, B03 | `cases::reasoning_calls_and_weights_stay_with_their_turns`, `fields` (tool-calls, sharegpt) |
//! | 10 | `cases::ratings_are_not_imitated` |
//! | 11, 13, 14 | `cases::judged_rows_are_never_mere_prompts`, `fields` (safe-rlhf, nectar) |
//! | 15, 19, 21, 22 | `cases::tables_and_arrays_hold_the_same_rows` |
//! | 17, 18 | `storage::container::tests` |
//! | 23, 29, B13 | `cases::answers_are_read_in_every_shape` |
//! | 24 | `fields` (openai-preference) |
//! | 28 | `cases::a_prompt_that_the_answers_repeat_is_taken_once_and_said` |
//! | 40 to 46, 50 to 54, 60 to 65, 70 to 76 | here |
//! | 78 | `a_model_that_cannot_be_read_says_why` here, or the GGUF's own tests |
//! | B04 | `train::data::tests::the_end_of_a_cut_answer_is_read_and_not_learned`, `generate::ends`, and here |
//! | B05 | `train::data::tests::an_answer_that_ends_inside_its_thought_is_left_out_and_said`, and here |
//! | B07 | `train::data::tests::a_row_that_the_template_refuses_is_left_out_in_its_words` |
//! | B09 | `model::discover` (a download that was not finished) |
//! | B10 | `model::tests::answers_end_where_the_template_ends_them` |
//! | B11 | `model::gguf::tests` |
//! | B16 | the tests of exported adapters |
//! | B19 | here, and `app::bindings` (presets, remapped keys), `judge` (keys follow the settings) |
//! | C01 | `train::data::tests::not_every_row_is_held_out`, `the_split_depends_on_the_prompt_alone` |

use serde_json::Value;
use std::path::{Path, PathBuf};
use tiebreak::domain::{DroppedRows, Message, PairId, PairRow, PairTurns, Params, PromptBody, PromptId, RunId, method};
use tiebreak::model::LanguageModel;
use tiebreak::protocol::{DataSnapshot, Inputs, ModelRef, RunEvent, RunSpec, Task, TrainSpec};
use tiebreak::storage::formats::import_named;
use tiebreak::storage::import::{ImportedRows, read};
use tiebreak::train::{Rows, RunPaths, TokeniseOptions, Tokenised, Trainer, tokenise};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cases")
}

/// A case's model: a file, or a folder of the base's files under its own.
fn model(name: &str, dir: &Path) -> PathBuf {
    let own = fixtures().join(name);
    if own.join("model.gguf").exists() {
        return own.join("model.gguf");
    }
    for from in [fixtures().join("base"), own] {
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), dir.join(entry.file_name())).unwrap();
        }
    }
    dir.to_owned()
}

/// The pairs of a file.
fn pairs(path: &Path) -> Vec<PairRow> {
    let imported = read(path, import_named("pairs").unwrap(), None).unwrap();
    let ImportedRows::Pairs(rows) = imported.rows else { panic!("no pairs") };
    rows.into_iter()
        .enumerate()
        .map(|(i, row)| PairRow {
            turns: PairTurns::of(&row.chosen.turns, &row.rejected.turns),
            pair: PairId::new(format!("i{}", i + 1)),
            prompt_id: PromptId::new("p1"),
            prompt: row.prompt,
            chosen: row.chosen.text,
            rejected: row.rejected.text,
            margin: None,
            agreed: None,
            strategy: None,
            rater: None,
        })
        .collect()
}

fn pair_of(name: &str) -> Vec<PairRow> {
    let own = fixtures().join(name).join("pair.jsonl");
    pairs(&if own.exists() { own } else { fixtures().join("base/pair.jsonl") })
}

/// What the first step of a DPO run logs: log-probs of both answers, and tokens.
fn first_step(path: &Path, rows: &[PairRow]) -> [f64; 3] {
    let table = method("dpo").unwrap().rows();
    let mut params = Params::defaults(&table);
    for pair in ["max_steps=1", "eval_fraction=0"] {
        params.set_pair(&table, "dpo", pair).unwrap();
    }
    let model = ModelRef { name: "case".into(), path: path.display().to_string() };
    let data = DataSnapshot { file: "data.jsonl".into(), sha256: String::new(), rows: rows.len(), session_seq: 0 };
    let spec = RunSpec {
        id: RunId::new("dpo-1"),
        task: Task::Train(TrainSpec::new("dpo", model, params, data)),
        device: "cpu".into(),
        created_ms: 0,
        app: "test".into(),
        inputs: Inputs::default(),
    };
    let dir = tempfile::tempdir().unwrap();
    let mut events: Vec<RunEvent> = Vec::new();
    let rows = Rows::Pairs(rows.to_vec()).into();
    let mut trainer = Trainer::open(&spec, &rows, &RunPaths::new(dir.path()), &mut events).unwrap();
    trainer.step(&mut events).unwrap();
    let metrics = events.iter().find_map(|event| match event {
        RunEvent::Stepped { metrics, .. } => Some(metrics.clone()),
        _ => None,
    });
    let metrics = metrics.expect("a step");
    ["logps/chosen", "logps/rejected", "num_tokens"].map(|name| metrics.get(name).unwrap())
}

#[test]
fn models_of_every_case_compute_what_transformers_computes() {
    let text = std::fs::read_to_string(fixtures().join("expected.json")).unwrap();
    let expected: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
    let mut compared = 0;
    for (name, want) in &expected {
        let Value::Array(want) = want else { continue };
        let dir = tempfile::tempdir().unwrap();
        let found = first_step(&model(name, dir.path()), &pair_of(name));
        for (found, want) in found.iter().zip(want) {
            let want = want.as_f64().unwrap();
            assert!((found - want).abs() <= 1e-3, "{name}: {found} instead of {want}");
        }
        compared += 1;
    }
    assert_eq!(compared, 14);
}

#[test]
fn a_date_in_a_template_is_local() {
    let dir = tempfile::tempdir().unwrap();
    let path = model("46-date-in-utc", dir.path());
    let prompt = |date: &str| {
        let how = tiebreak::protocol::Rendering::from(date);
        LanguageModel::open(&path).unwrap().rendering(&how).unwrap().render(&[Message::new("user", "a")], true).unwrap()
    };
    let (utc, ahead) = (prompt("2026-11-28T22:55:28"), prompt("2026-11-29T12:55:28"));
    assert!(utc.starts_with("28 Nov 2026 22") && ahead.starts_with("29 Nov 2026 12"), "{utc}{ahead}");
}

#[test]
fn a_model_that_cannot_be_read_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |path: &Path| LanguageModel::open(path).err().map(|e| e.to_string());
    let small = refused(&model("63-embedding-smaller-than-vocabulary", dir.path())).expect("refused");
    assert!(small.contains("the embedding only 257 rows"), "{small}");
    let part = refused(&model("75-gguf-split-part", dir.path())).expect("refused");
    assert!(part.contains("1 of 3"), "{part}");
}

fn tokens(model: &LanguageModel, rows: Vec<PairRow>) -> Tokenised {
    tokenise(model, &Rows::Pairs(rows), &TokeniseOptions::new(4096), |_| Ok(())).unwrap()
}

#[test]
fn unfinished_thoughts_are_no_answers_whoever_opened_them() {
    let template = |source: &str| {
        let dir = tempfile::tempdir().unwrap();
        model("base", dir.path());
        std::fs::write(dir.path().join("chat_template.jinja"), source).unwrap();
        (LanguageModel::open(dir.path()).unwrap(), dir)
    };
    let asked = |chosen: &str, rejected: &str| PairRow {
        turns: None,
        pair: PairId::new("i1"),
        prompt_id: PromptId::new("p1"),
        prompt: PromptBody::user("Hi"),
        chosen: chosen.into(),
        rejected: rejected.into(),
        margin: None,
        agreed: None,
        strategy: None,
        rater: None,
    };
    let unfinished = [DroppedRows { reason: "an answer that ends inside its thought".into(), count: 1 }];
    // The template opens the thought, and answers are as a model samples them behind it.
    let opens = "{%- for m in messages %}{%- if m.role == 'assistant' and '</think>' in m.content %}{{- '<|im_start|>assistant\n<think>\n' \
                 + m.content.split('</think>')[0].split('<think>')[-1].strip('\n') + '\n</think>\n\n' + \
                 m.content.split('</think>')[-1].lstrip('\n') + '<|im_end|>\n' }}{%- else %}{{- '<|im_start|>' + m.role + '\n' + m.content \
                 + '<|im_end|>\n' }}{%- endif %}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n<think>\n' }}{%- endif %}";
    let (model, _dir) = template(opens);
    let cut = tokens(&model, vec![asked("Okay, the user", "fine\n</think>\n\nHello")]);
    assert_eq!((cut.dropped.as_slice(), cut.train.len()), (unfinished.as_slice(), 0));
    assert_eq!(cut.findings.iter().map(|f| f.rule.as_str()).collect::<Vec<_>>(), ["thought_unfinished"]);
    // The boundary stays behind the opened thought.
    let whole = tokens(&model, vec![asked("Yes.\n</think>\n\nHello", "fine\n</think>\n\nHo")]);
    let pair = &whole.train[0];
    let text = model.tokenizer.decode_all(&pair.rows[0].ids[..pair.prompt]).unwrap();
    assert!(text.ends_with("<think>\n") && whole.findings.is_empty(), "{text:?} {:?}", whole.findings);
    // The answer opens it itself; a thought alone is an empty answer.
    let (model, _dir) = template(
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}",
    );
    let cut = tokens(&model, vec![asked("<think>\nOkay, the user", "<think>\nfine\n</think>\n\nHello")]);
    assert_eq!(cut.dropped, unfinished);
    let empty = tokens(&model, vec![asked("<think>\na\n</think>\n\n", "Hello")]);
    assert_eq!(empty.dropped, [DroppedRows { reason: "an empty answer".into(), count: 1 }]);
}

#[test]
fn the_end_token_behind_a_cut_answer_is_read_and_not_learned() {
    let dir = tempfile::tempdir().unwrap();
    let model = LanguageModel::open(&model("base", dir.path())).unwrap();
    let mut row = pair_of("base").remove(0);
    let learned = |row: &PairRow| {
        let made = tokens(&model, vec![row.clone()]);
        let side = &made.train[0].rows[0];
        let ids: Vec<u32> = side.scored.iter().map(|at| side.ids[*at]).collect();
        (model.tokenizer.decode_all(&ids).unwrap(), side.ids.len())
    };
    let (whole, length) = learned(&row);
    row.turns = Some(Box::new(PairTurns { chosen_cut: true, ..PairTurns::default() }));
    let (cut, same) = learned(&row);
    assert!(whole.starts_with("Red.<|im_end|>") && cut == "Red.", "{whole:?} {cut:?}");
    assert_eq!(length, same, "it is still read");
}

#[test]
fn a_key_of_another_keyboard_is_named_and_judges_nothing() {
    let mut desk = crate::support::Desk::with_session(120, 40, crate::support::pairs(3));
    for key in ['&', 'é', '"', 'à'] {
        desk.type_text(&key.to_string());
        let text = desk.screen();
        assert!(text.contains(&format!("{key} does nothing here; ? shows the keys")), "{key}: {text}");
    }
    assert_eq!(desk.session().verdicts().count(), 0);
}
