//! Supervised fine-tuning: conversations, prompts with a completion, plain text; both losses; packed rows.
//!
//! Intended differences: rows longer than `max_length` are left out and counted, where TRL truncates them.

use super::{
    Measured, Stepped, answer, compare, count, covers, find, golden, messages, numbers, open, prompt, scores, settings,
    spec, start, steps, tries,
};
use serde_json::Value;
use tiebreak::domain::{PairId, PromptId, SftBody, SftRow};
use tiebreak::protocol::RunEvent;
use tiebreak::train::{Rows, RunPaths, Trainer};

const LOGGED: &[&str] = &["loss", "grad_norm", "learning_rate", "num_tokens"];

fn rows(list: &Value) -> Vec<SftRow> {
    let body = |r: &Value| {
        if r["messages"].is_array() {
            SftBody::Messages(messages(&r["messages"]).into())
        } else if let Some(text) = r["text"].as_str() {
            SftBody::Text(text.to_owned())
        } else {
            SftBody::Completion { prompt: prompt(&r["prompt"]), completion: answer(&r["completion"]) }
        }
    };
    let row =
        |(i, r)| SftRow { id: PairId::new(format!("t{i}")), prompt_id: PromptId::new(format!("p{i}")), body: body(r) };
    list.as_array().unwrap().iter().enumerate().map(row).collect()
}

/// Metrics of every token in the mask.
fn tokens(trainer: &Trainer, i: usize) -> Measured {
    let mut out = Vec::new();
    for row in scores(trainer, i) {
        out.extend(row.entropy.iter().map(|x| ("entropy", *x)));
        out.extend(row.top1.iter().map(|hit| ("mean_token_accuracy", f64::from(*hit))));
    }
    out
}

/// Trains a case with `more` settings. TRL's default loss covers the whole conversation.
fn train<'a>(case: &'a Value, rows: Vec<SftRow>, more: &[(&'a str, &str)]) -> (Trainer, Vec<Stepped>) {
    let mut all = vec![("assistant_only_loss", "false".to_owned())];
    all.extend(settings(case));
    all.extend(more.iter().map(|(key, value)| (*key, (*value).to_owned())));
    let dir = tempfile::tempdir().unwrap();
    let spec = spec("sft", &all);
    let init = start(case, "sft", &spec, dir.path());
    let mut trainer = open(&spec, Rows::Examples(rows), init.as_deref(), dir.path());
    let steps = steps(case, &mut trainer, &mut tokens);
    (trainer, steps)
}

fn of<'a>(doc: &'a Value, name: &str) -> (&'a Value, Vec<SftRow>) {
    let case = find(doc, name);
    let mut rows = rows(&doc["rows"][case["data"].as_str().unwrap()]);
    rows.truncate(count(&case["rows"]));
    (case, rows)
}

fn run(name: &str) {
    let doc = golden("sft");
    let (case, rows) = of(&doc, name);
    let (trainer, steps) = train(case, rows, &[]);
    let theirs = case["ids"].as_array().unwrap();
    assert_eq!(trainer.examples().len(), theirs.len());
    for (ours, theirs) in trainer.examples().iter().zip(theirs) {
        let row = &ours.rows[0];
        assert_eq!(row.ids, numbers(&theirs["input_ids"]));
        let lengths = theirs.get("seq_lengths").map_or_else(|| vec![row.ids.len() as u32], numbers);
        let starts: Vec<usize> = (0..lengths.len()).map(|n| lengths[..n].iter().sum::<u32>() as usize).collect();
        assert!(row.starts == starts || (row.starts.is_empty() && starts == [0]), "{:?}, {starts:?}", row.starts);
        let learned = numbers(&theirs["mask"]).into_iter().enumerate();
        let learned: Vec<usize> = learned.filter(|(i, m)| *m == 1 && !starts.contains(i)).map(|(i, _)| i).collect();
        assert_eq!(row.scored, learned);
    }
    compare(case, &steps, LOGGED, &|_, _| 0.0);
}

tries! { TESTED run:
    sft_messages_lora sft_messages_dft_lora sft_assistant_only_lora sft_completion_lora sft_completion_dft_lora
    sft_completion_all_lora sft_plain_completion_lora sft_text_lora sft_packed_lora sft_messages_full sft_completion_full
    sft_text_dft_full sft_text_full
}

#[test]
fn every_case_is_tested() {
    covers("sft", TESTED, &["sft_truncated_lora"]);
}

/// All five rows are longer than the case's `max_length`. With a larger one two remain, untruncated.
#[test]
fn sft_truncated_lora() {
    let doc = golden("sft");
    let (case, rows) = of(&doc, "sft_truncated_lora");
    let open = |max_length: &str| {
        let mut settings = settings(case);
        settings.push(("max_length", max_length.to_owned()));
        let (spec, dir) = (spec("sft", &settings), tempfile::tempdir().unwrap());
        let mut events: Vec<RunEvent> = Vec::new();
        let rows = Rows::Examples(rows.clone()).into();
        Trainer::open(&spec, &rows, &RunPaths::new(dir.path()), &mut events).map(|trainer| (trainer, events))
    };
    let max_length = case["own"]["max_length"].to_string();
    let none = open(&max_length).err().unwrap().to_string();
    assert!(none.contains("5 longer than max_length"), "{none}");
    let (trainer, events) = open("60").unwrap();
    let lengths: Vec<usize> = trainer.examples().iter().map(|e| e.rows[0].ids.len()).collect();
    assert_eq!(lengths, [48, 60]);
    let planned = events.iter().find_map(|e| if let RunEvent::Planned(p) = e { Some(p) } else { None }).unwrap();
    assert_eq!((planned.train_rows, planned.dropped[0].count), (2, 3));
}

/// Packed and unpacked texts give the same loss, gradient and metrics in every step.
#[test]
fn packed_and_unpacked_texts_train_alike() {
    let doc = golden("sft");
    let (case, rows) = of(&doc, "sft_packed_lora");
    let five = ("gradient_accumulation_steps", "5");
    let (packed, one) = train(case, rows.clone(), &[five]);
    let (apart, other) = train(case, rows, &[five, ("packing", "false")]);
    assert_eq!((packed.examples().len(), apart.examples().len()), (3, 5));
    for (a, b) in one.iter().zip(&other) {
        for key in ["loss", "grad_norm", "entropy", "mean_token_accuracy", "num_tokens"] {
            let (a, b) = (a.ours.get(key).unwrap(), b.ours.get(key).unwrap());
            assert!((a - b).abs() <= 1e-5 * b.abs(), "{key}: {a} packed, {b} apart");
        }
    }
}
