//! What judges are measured on before they judge, and which judges and suites do not go together.
//!
//! Owns the two sets: LLMBar natural from the folder of data, and the session's labels by people, frozen at launch. A judge
//! that is a run gets only labels on prompts that it was not trained on. Refuses to measure: the worker does.

use super::super::error::{Error, Result};
use super::trained::{EvalNotes, trained_prompts};
use crate::domain::{
    Choice, GatePair, JudgeOperand, LLMBAR, OWN_LABELS, Outcome, PromptId, Session, Side, counted, hash64, judges,
    suite,
};
use crate::protocol::{DataSnapshot, EvalSide, GateSet, JudgeSpec, SuiteSpec};
use crate::storage::formats::{ImportedVotes, recognise};
use crate::storage::import::{self, ImportedRows};
use crate::storage::{DataFile, SessionDir, sha256};
use std::collections::BTreeSet;
use std::path::Path;

/// The names of LLMBar natural's file.
const LLMBAR_FILES: [&str; 2] = ["llmbar_natural.json", "llmbar_natural.jsonl"];
/// The most own labels that a judge is measured on, by a fixed shuffle.
const MOST_LABELS: usize = 200;

/// Refuses a judge that is named twice, and two runs of one kind.
pub(super) fn check_judges(specs: &[JudgeSpec]) -> Result<()> {
    for (at, spec) in specs.iter().enumerate() {
        let before = &specs[..at];
        if before.iter().any(|other| other.name() == spec.name()) {
            return Err(Error::Usage(format!("--judge {} is named twice: name it once", spec.name())));
        }
        if let Some(other) = before.iter().find(|other| other.kind == spec.kind && spec.run.is_some()) {
            return Err(Error::Usage(format!(
                "{} and {} are two judges of one kind: evaluate twice, the answers are reused",
                other.name(),
                spec.name()
            )));
        }
    }
    Ok(())
}

/// Refuses suites that a contestant behind a server cannot do.
pub(super) fn check_suites(specs: &[SuiteSpec], sides: [&EvalSide; 2]) -> Result<()> {
    let Some(remote) = sides.into_iter().find(|side| side.server.is_some()) else { return Ok(()) };
    match specs.iter().find(|spec| suite(&spec.name).is_some_and(|row| row.max_new_tokens == 0)) {
        Some(spec) => Err(Error::Usage(format!(
            "the suite {} reads log-probs or rewards, which the server of {} does not give: leave it out, or compare models \
             on this machine",
            spec.name, remote.name
        ))),
        None => Ok(()),
    }
}

/// Freezes what each judge is measured on.
pub(super) fn measure(
    dir: &SessionDir,
    session: &Session,
    seq: u64,
    specs: &mut [JudgeSpec],
    data: Option<&Path>,
    files: &mut Vec<DataFile>,
    notes: &mut EvalNotes,
) -> Result<()> {
    let rows = judges();
    let operand = |spec: &JudgeSpec| rows.iter().find(|row| row.name == spec.kind).map(|row| row.takes);
    let learned = |spec: &JudgeSpec| matches!(operand(spec), Some(JudgeOperand::Run | JudgeOperand::Model));
    if !specs.iter().any(learned) {
        return Ok(());
    }
    let llmbar = data.map(|folder| llmbar(folder, seq, files, notes)).transpose()?.flatten();
    for (at, spec) in specs.iter_mut().enumerate().filter(|(_, spec)| learned(spec)) {
        spec.gate.extend(llmbar.clone());
        let trained = trained_prompts(dir, spec.run.iter().cloned().collect())?;
        let (pairs, seen) = own_labels(session, &trained.ids);
        if seen > 0 {
            notes.0.push(format!(
                "{} on {} left out of the measure of {}: it learned from them",
                counted(seen, "label"),
                if seen == 1 { "its prompt" } else { "their prompts" },
                spec.name()
            ));
        }
        if pairs.is_empty() {
            continue;
        }
        let name = format!("gate-own-{}.jsonl", at + 1);
        let data = freeze(&name, &pairs, seq, files)?;
        spec.gate.push(GateSet { set: OWN_LABELS.into(), data, file: format!("session {}", dir.name()) });
    }
    Ok(())
}

fn freeze(name: &str, pairs: &[GatePair], seq: u64, files: &mut Vec<DataFile>) -> Result<DataSnapshot> {
    let mut bytes = Vec::new();
    for pair in pairs {
        serde_json::to_writer(&mut bytes, pair).map_err(|e| Error::bug("write a pair as JSON", e))?;
        bytes.push(b'\n');
    }
    let snapshot = DataSnapshot { file: name.to_owned(), sha256: sha256(&bytes), rows: pairs.len(), session_seq: seq };
    files.push(DataFile { name: name.to_owned(), bytes });
    Ok(snapshot)
}

/// LLMBar natural, where the folder has it.
fn llmbar(folder: &Path, seq: u64, files: &mut Vec<DataFile>, notes: &mut EvalNotes) -> Result<Option<GateSet>> {
    let Some(path) = LLMBAR_FILES.iter().map(|name| folder.join(name)).find(|path| path.is_file()) else {
        notes.0.push(format!(
            "{} has no {}: judges are not measured on LLMBar (get it from github.com/princeton-nlp/LLMBar)",
            folder.display(),
            LLMBAR_FILES[0]
        ));
        return Ok(None);
    };
    let imported = import::read(&path, recognise(&path)?, None)?;
    let ImportedRows::Votes(rows) = imported.rows else {
        return Err(Error::failed(format!(
            "{} is not in LLMBar's form: it needs the fields input, output_1, output_2 and label",
            path.display()
        )));
    };
    let all = rows.len();
    let pair = |(at, row): (usize, ImportedVotes)| {
        let reference = match row.votes.last()?.choice {
            Choice::Prefer(Side::A, _) => 1.0,
            Choice::Prefer(Side::B, _) => 0.0,
            Choice::Tie | Choice::BothBad | Choice::Skip => return None,
        };
        Some(GatePair { name: (at + 1).to_string(), prompt: row.prompt, a: row.a.0.text, b: row.b.0.text, reference })
    };
    let pairs: Vec<GatePair> = rows.into_iter().enumerate().filter_map(pair).collect();
    if pairs.is_empty() {
        return Err(Error::failed(format!("{} has no pair with a label 1 or 2", path.display())));
    }
    if pairs.len() < all {
        notes.0.push(format!("{} of {} left out: no label 1 or 2", counted(all - pairs.len(), "pair"), path.display()));
    }
    let data = freeze("gate-llmbar.jsonl", &pairs, seq, files)?;
    Ok(Some(GateSet { set: LLMBAR.into(), data, file: path.display().to_string() }))
}

/// The pairs that people or imported files labelled, and how many were left out since the judge learned from their prompts.
fn own_labels(session: &Session, trained: &BTreeSet<PromptId>) -> (Vec<GatePair>, usize) {
    let outcomes = session.outcomes();
    let (mut out, mut seen) = (Vec::new(), 0);
    for pair in session.pairs() {
        let people = session.deciding_on(&pair.id, None).iter().any(|(_, v)| !v.rater.is_model())
            || session.adjudication_of(&pair.id).is_some();
        let reference = match outcomes.get(&pair.id).map(|found| found.outcome) {
            Some(Outcome::Prefer(Side::A, _)) => 1.0,
            Some(Outcome::Prefer(Side::B, _)) => 0.0,
            Some(Outcome::Tie) => 0.5,
            _ => continue,
        };
        let (Some((a, b)), Some(prompt)) = (session.sides(pair), session.prompt(&pair.prompt)) else { continue };
        if !people {
            continue;
        }
        if trained.contains(&prompt.body.derived_id()) {
            seen += 1;
            continue;
        }
        out.push(GatePair {
            name: pair.id.to_string(),
            prompt: prompt.body.clone(),
            a: a.text.to_string(),
            b: b.text.to_string(),
            reference,
        });
    }
    out.sort_by_key(|pair| hash64(pair.name.as_bytes()));
    out.truncate(MOST_LABELS);
    (out, seen)
}
