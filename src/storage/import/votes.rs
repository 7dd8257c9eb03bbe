//! Pairs with any number of votes as records of a session's log.
//!
//! Owns matching a row to the pair that an earlier import of it made, so that a file may be imported again with more votes. Refuses
//! to rewrite: a changed vote is a new verdict, and the latest counts.

use super::super::error::Result;
use super::super::given::GivenAnswer;
use super::super::log::LogWriter;
use super::super::schema::{ImportedVote, ImportedVotes};
use super::records::{Added, Prompts, imported_answer, next_number};
use crate::domain::{
    Adjudication, Choice, CompletionId, Pair, PairId, PromptId, Rater, Session, Side, Verdict, hash64,
};
use crate::protocol::SessionRecord;
use std::collections::{HashMap, VecDeque};

/// A prompt and its two answers, by their texts.
type Key = (PromptId, u64, u64);

fn hash(text: &str) -> u64 {
    hash64(text.as_bytes())
}

/// A rater of a file, within the session. One that was imported before keeps its name.
fn rater(file: &str, name: &str) -> Rater {
    let known = Rater::new(name);
    if known.is_import() { known } else { Rater::new(format!("import:{file}#{name}")) }
}

/// The imported pairs of a session that a row of a file may be: its own, and those that nobody judged yet.
fn known_pairs(file: &str, rows: &[ImportedVotes], session: &Session) -> HashMap<Key, VecDeque<PairId>> {
    let own = format!("import:{file}#");
    let mut named: Vec<Rater> = rows.iter().flat_map(|row| &row.votes).map(|vote| rater(file, &vote.rater)).collect();
    named.sort();
    named.dedup();
    let mut known: HashMap<Key, VecDeque<PairId>> = HashMap::new();
    for pair in session.pairs().iter().filter(|p| p.id.as_str().starts_with('i')) {
        let votes = session.counting(&pair.id);
        let mut imported = votes.iter().map(|(_, v)| &v.rater).filter(|r| r.is_import()).peekable();
        let ours = |r: &Rater| r.as_str().starts_with(&own) || named.binary_search(r).is_ok();
        if imported.peek().is_some() && !imported.any(ours) {
            continue;
        }
        if let Some((a, b)) = session.sides(pair) {
            known.entry((pair.prompt.clone(), hash(&a.text), hash(&b.text))).or_default().push_back(pair.id.clone());
        }
    }
    known
}

/// Appends the new prompts, completions, pairs and votes of the file. Each of its raters is a rater of the session,
/// `import:FILE#NAME`. A file may hold the same two answers several times: its first occurrence takes the first such pair, and so
/// on.
pub(super) fn votes(
    file: &str,
    rows: &[ImportedVotes],
    session: &Session,
    writer: &mut LogWriter<SessionRecord>,
) -> Result<Added> {
    let mut prompts = Prompts::of(session);
    let mut next = next_number(session.pairs().iter().map(|p| p.id.as_str()), 'i');
    let mut known = known_pairs(file, rows, session);
    let mut added = Added::default();
    let mut shared = Shared::new();
    for row in rows {
        let prompt = prompts.add(&row.prompt, file, &row.tags, writer, &mut added)?;
        let key = (prompt.clone(), hash(&row.a.0.text), hash(&row.b.0.text));
        let existing = known.get_mut(&key).and_then(VecDeque::pop_front);
        let is_new = existing.is_none();
        let pair = if let Some(pair) = existing {
            pair
        } else {
            let id = PairId::new(format!("i{next}"));
            next += 1;
            append_pair(file, row, &id, prompt, &mut shared, writer)?;
            id
        };
        let said = append_votes(file, row, &pair, session, writer)?;
        match (is_new, said) {
            (true, _) if row.votes.is_empty() => added.unjudged += 1,
            (false, false) => added.known_pairs += 1,
            _ => added.pairs += 1,
        }
    }
    Ok(added)
}

/// The answers of a file's rankings that are in the log already: a ranking's number, the text, and who wrote it.
type Shared = HashMap<(usize, u64, Option<String>), CompletionId>;

fn append_pair(
    file: &str,
    row: &ImportedVotes,
    id: &PairId,
    prompt: PromptId,
    shared: &mut Shared,
    writer: &mut LogWriter<SessionRecord>,
) -> Result<()> {
    let mut side = |name: &str, (answer, model): &(GivenAnswer, Option<String>)| -> Result<CompletionId> {
        let key = row.ranking.map(|ranking| (ranking, hash(&answer.text), model.clone()));
        if let Some(known) = key.as_ref().and_then(|key| shared.get(key)) {
            return Ok(known.clone());
        }
        let completion = imported_answer(answer, id, name, &prompt, model.as_deref().unwrap_or(file));
        let of = completion.id.clone();
        writer.append(&SessionRecord::Completed(completion.into()))?;
        if let Some(key) = key {
            shared.insert(key, of.clone());
        }
        Ok(of)
    };
    let (a, b) = (side("a", &row.a)?, side("b", &row.b)?);
    let (strategy, p_select) = row.selected.clone().unwrap_or_else(|| ("import".into(), 1.0));
    writer.append(&SessionRecord::Paired(
        Pair { id: id.clone(), prompt, a, b, strategy: strategy.into(), p_select }.into(),
    ))?;
    Ok(())
}

/// Appends the votes, notes, corrections and adjudications that the pair does not have. Says whether there were any.
fn append_votes(
    file: &str,
    row: &ImportedVotes,
    pair: &PairId,
    session: &Session,
    writer: &mut LogWriter<SessionRecord>,
) -> Result<bool> {
    let mut any = false;
    for (i, vote) in row.votes.iter().enumerate() {
        let rater = rater(file, &vote.rater);
        let by = vote.asked.criterion.as_deref();
        let same = |later: &ImportedVote| later.rater == vote.rater && later.asked.criterion.as_deref() == by;
        let is_last = vote.asked.pass == 0 && !row.votes[i + 1..].iter().any(|v| same(v) && v.asked.pass == 0);
        // A rater known here has the earlier votes and repeats already; the latest is appended where it says something else.
        match session.verdict_by(pair, &rater, by) {
            Some((_, known)) if !is_last || known.choice == vote.choice => continue,
            _ => {}
        }
        // What was judged before it had ended is bound by what was shown of it.
        let winner = match vote.choice {
            _ if vote.partial.is_some() => None,
            Choice::Prefer(Side::A, _) => Some(hash(&row.a.0.text)),
            Choice::Prefer(Side::B, _) => Some(hash(&row.b.0.text)),
            Choice::Tie | Choice::BothBad | Choice::Skip => None,
        };
        writer.append(&SessionRecord::Judged(
            Verdict {
                pair: pair.clone(),
                rater,
                choice: vote.choice,
                left: vote.left,
                seen: vote.seen,
                ms: vote.ms,
                winner_hash: winner.map(Into::into),
                asked: vote.asked.clone(),
                showing: crate::domain::Showing {
                    partial: vote.partial.clone().map(Box::new),
                    ..crate::domain::Showing::default()
                },
            }
            .into(),
        ))?;
        any = true;
    }
    for (name, text) in &row.notes {
        let rater = rater(file, name);
        if session.note_of(pair, &rater) != Some(text.as_str()) {
            writer.append(&SessionRecord::Noted { pair: pair.clone(), rater, text: text.clone() })?;
            any = true;
        }
    }
    for (side, name, text) in &row.corrections {
        let rater = rater(file, name);
        // The pair was made from the row, or has its two answers.
        let completion = match session.pair(pair) {
            Some(known) => {
                if *side == Side::A {
                    known.a.clone()
                } else {
                    known.b.clone()
                }
            }
            None => CompletionId::new(format!("{pair}.{}", if *side == Side::A { "a" } else { "b" })),
        };
        if session.correction_of(&completion, &rater) != Some(text.as_str()) {
            let (pair, text) = (pair.clone(), text.clone());
            writer.append(&SessionRecord::Corrected { pair, completion, rater, text })?;
            any = true;
        }
    }
    for (name, choice, criterion) in &row.adjudications {
        let known = session.adjudication_on(pair, criterion.as_deref());
        if known.is_none_or(|(_, known)| known.choice != *choice) {
            let (rater, criterion) = (rater(file, name), criterion.clone());
            let settled = Adjudication { pair: pair.clone(), rater, choice: *choice, criterion };
            writer.append(&SessionRecord::Adjudicated(settled))?;
            any = true;
        }
    }
    Ok(any)
}
