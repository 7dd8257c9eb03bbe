//! The hashes of a session's state in its log, for `replay --check`.
//!
//! Owns both schemes: the canonical one, and the one that releases up to 2026-11-26 wrote, which is only verified.

use super::super::canonical::CanonicalHash;
use super::super::hash::{Fold64, hash64};
use super::super::metric::Num;
use super::super::verdict::{Choice, Side, Strength};
use super::collect::Adjudicated;
use super::tags::Retagged;
use super::{Corrected, Session};
use serde_json::json;

impl Session {
    /// A hash of all verdicts with their undo state, notes, corrections, imported rows and scores: equal for equal
    /// logs. It covers the records' serialised form as canonical JSON, so that no name in the code is part of it.
    #[must_use]
    pub fn state_hash(&self) -> String {
        let mut h = CanonicalHash::default();
        for (seq, judged) in self.verdicts.iter() {
            h.add(&json!({"kind": "verdict", "n": seq, "verdict": judged.verdict, "undone": judged.undone}));
        }
        for ((pair, rater), text) in &self.notes {
            h.add(&json!({"kind": "note", "pair": pair, "rater": rater, "text": text}));
        }
        for Corrected { correction: c, undone, .. } in &self.corrections {
            let (pair, completion, rater) = (&c.pair, &c.completion, &c.rater);
            let mut value = json!({
                "kind": "correction", "pair": pair, "completion": completion, "rater": rater, "text": c.text,
            });
            if *undone {
                value["undone"] = true.into();
            }
            h.add(&value);
        }
        if let Some(settings) = &self.settings {
            h.add(&json!({"kind": "settings", "settings": settings}));
        }
        for (seq, Adjudicated { adjudication, undone, .. }) in &self.adjudications {
            h.add(&json!({"kind": "adjudication", "n": seq, "adjudication": adjudication, "undone": undone}));
        }
        for criterion in &self.criteria {
            h.add(&json!({"kind": "criterion", "name": criterion.name, "sentence": criterion.sentence}));
        }
        if let Some(repeats) = &self.repeats {
            h.add(&json!({"kind": "repeats", "repeats": repeats}));
        }
        for (seq, Retagged { change, undone, .. }) in &self.retagged {
            h.add(&json!({"kind": "tag", "n": seq, "tag": change, "undone": undone}));
        }
        for spec in &self.loops {
            h.add(&json!({"kind": "loop", "spec": spec}));
        }
        for (set, row) in &self.texts {
            h.add(&json!({"kind": "taught", "set": set, "row": row}));
        }
        for row in &self.ratings {
            h.add(&json!({"kind": "rated", "row": row}));
        }
        for (pair, margin) in self.margins.in_order() {
            h.add(&json!({"kind": "margin", "pair": pair, "margin": Num(margin.value)}));
        }
        for (completion, score) in self.scores.in_order() {
            let value = Num(score.value);
            h.add(&json!({"kind": "score", "completion": completion, "run": score.run, "score": value}));
        }
        h.hex()
    }

    /// The hash that releases up to 2026-11-26 wrote to a log. It used the `Debug` text of a choice, which is frozen
    /// here.
    #[must_use]
    pub fn state_hash_2026_11(&self) -> String {
        let mut h = Fold64::default();
        for (seq, judged) in self.verdicts.iter() {
            h.add(&seq.to_le_bytes());
            h.add(judged.verdict.pair.as_str().as_bytes());
            h.add(judged.verdict.rater.as_str().as_bytes());
            h.add(format!("{} {}", choice_2026_11(judged.verdict.choice), judged.undone).as_bytes());
        }
        for ((pair, rater), text) in &self.notes {
            h.add(pair.as_str().as_bytes());
            h.add(rater.as_str().as_bytes());
            h.add(text.as_bytes());
        }
        // Corrections could not be undone then.
        for Corrected { correction: c, .. } in &self.corrections {
            h.add(c.completion.as_str().as_bytes());
            h.add(&hash64(c.text.as_bytes()).to_le_bytes());
        }
        for (set, row) in &self.texts {
            h.add(set.word().as_bytes());
            h.add(row.id.as_str().as_bytes());
            row.body.fold(&mut h);
        }
        for row in &self.ratings {
            h.add(row.id.as_str().as_bytes());
            row.prompt.fold(&mut h);
            h.add(row.completion.as_bytes());
            h.add(&[u8::from(row.good)]);
        }
        for (completion, score) in self.scores.in_order() {
            h.add(completion.as_str().as_bytes());
            h.add(score.run.as_str().as_bytes());
            h.add(&score.value.to_le_bytes());
        }
        h.hex()
    }
}

/// The `Debug` text of a choice at that time.
fn choice_2026_11(choice: Choice) -> &'static str {
    match choice {
        Choice::Prefer(Side::A, Strength::Slight) => "Prefer(A, Slight)",
        Choice::Prefer(Side::A, Strength::Better) => "Prefer(A, Better)",
        Choice::Prefer(Side::A, Strength::Much) => "Prefer(A, Much)",
        Choice::Prefer(Side::B, Strength::Slight) => "Prefer(B, Slight)",
        Choice::Prefer(Side::B, Strength::Better) => "Prefer(B, Better)",
        Choice::Prefer(Side::B, Strength::Much) => "Prefer(B, Much)",
        Choice::Tie => "Tie",
        Choice::BothBad => "BothBad",
        Choice::Skip => "Skip",
    }
}
