//! Imported rows as records of a session's log.

use super::super::error::Result;
use super::super::given::GivenAnswer;
use super::super::log::LogWriter;
use super::super::schema::{ImportedPair, ImportedPrompt, ImportedRating};
use crate::domain::{
    Choice, Completion, CompletionId, Finish, LogProb, Num, Pair, PairId, Prompt, PromptBody, PromptId, RatedRow,
    Rater, Seen, Session, SftBody, SftRow, Side, Strength, TextSet, Verdict, hash64,
};
use crate::protocol::SessionRecord;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What an import added to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Added {
    /// New prompts.
    pub prompts: usize,
    /// Prompts already in the session.
    pub known_prompts: usize,
    /// New pairs with their verdicts, or known ones with new verdicts.
    pub pairs: usize,
    /// New pairs without a verdict, to judge.
    pub unjudged: usize,
    /// Pairs already in the session: the same prompt with the same two answers from the same file.
    pub known_pairs: usize,
    /// New texts for SFT or to measure forgetting on, or new ratings.
    pub rows: usize,
    /// Texts or ratings already in the session.
    pub known_rows: usize,
}

/// Assigns prompt ids: equal bodies are one prompt.
pub(super) struct Prompts {
    next: u64,
    known: HashMap<String, PromptId>,
}

impl Prompts {
    pub(super) fn of(session: &Session) -> Self {
        let known = session.prompts().iter().map(|p| (key(&p.body), p.id.clone())).collect();
        let next = next_number(session.prompts().iter().map(|p| p.id.as_str()), 'p');
        Self { next, known }
    }

    /// The prompt's id. A new prompt is appended; `added` counts it, or that it was known.
    pub(super) fn add(
        &mut self,
        body: &PromptBody,
        source: &str,
        tags: &[String],
        writer: &mut LogWriter<SessionRecord>,
        added: &mut Added,
    ) -> Result<PromptId> {
        let (id, record) = self.get(body, source, tags);
        match record {
            Some(record) => {
                writer.append(&record)?;
                added.prompts += 1;
            }
            None => added.known_prompts += 1,
        }
        Ok(id)
    }

    /// The prompt's id, and its record when it is new. A known prompt keeps the tags it has.
    pub(super) fn get(
        &mut self,
        body: &PromptBody,
        source: &str,
        tags: &[String],
    ) -> (PromptId, Option<SessionRecord>) {
        let key = key(body);
        if let Some(id) = self.known.get(&key) {
            return (id.clone(), None);
        }
        let id = PromptId::new(format!("p{}", self.next));
        self.next += 1;
        self.known.insert(key, id.clone());
        let prompt =
            Prompt { id: id.clone(), body: body.clone(), source: source.into(), tags: tags.iter().cloned().collect() };
        (id, Some(SessionRecord::Prompted(prompt.into())))
    }
}

fn key(body: &PromptBody) -> String {
    serde_json::to_string(body).unwrap_or_default()
}

/// One more than the largest number after `letter` among the ids.
pub(super) fn next_number<'a>(ids: impl Iterator<Item = &'a str>, letter: char) -> u64 {
    ids.filter_map(|id| id.strip_prefix(letter)?.parse::<u64>().ok()).max().unwrap_or(0) + 1
}

/// Appends the prompts that `session` does not have yet.
pub(super) fn prompts(
    file: &str,
    rows: &[ImportedPrompt],
    session: &Session,
    writer: &mut LogWriter<SessionRecord>,
) -> Result<Added> {
    let mut prompts = Prompts::of(session);
    let mut added = Added::default();
    for row in rows {
        match prompts.get(&row.body, file, &row.tags) {
            (_, Some(record)) => {
                writer.append(&record)?;
                added.prompts += 1;
            }
            (_, None) => added.known_prompts += 1,
        }
    }
    Ok(added)
}

/// Appends the new prompts, completions, pairs and verdicts of the file.
pub(super) fn pairs(
    file: &str,
    rows: &[ImportedPair],
    session: &Session,
    writer: &mut LogWriter<SessionRecord>,
) -> Result<Added> {
    let rater = Rater::new(format!("import:{file}"));
    let mut prompts = Prompts::of(session);
    let mut next = next_number(session.pairs().iter().map(|p| p.id.as_str()), 'i');
    let mut known: HashMap<(PromptId, u64, u64), PairId> = HashMap::new();
    for pair in session.pairs().iter().filter(|p| p.id.as_str().starts_with('i')) {
        // A pair whose file names the models has the file in its rater's name alone.
        let own = |a: &Completion| a.model == *file || session.verdict_of(&pair.id, &rater).is_some();
        if let Some((a, b)) = session.sides(pair).filter(|(a, _)| own(a)) {
            let key = (pair.prompt.clone(), hash64(a.text.as_bytes()), hash64(b.text.as_bytes()));
            known.insert(key, pair.id.clone());
        }
    }
    let mut added = Added::default();
    for row in rows {
        let prompt = prompts.add(&row.prompt, file, &row.tags, writer, &mut added)?;
        let winner = hash64(row.chosen.text.as_bytes());
        let key = (prompt.clone(), winner, hash64(row.rejected.text.as_bytes()));
        if known.get(&key).is_some_and(|pair| session.verdict_of(pair, &rater).is_some()) {
            added.known_pairs += 1;
            continue;
        }
        // A crash in an earlier import may have left a pair without its verdict: then only the verdict is added.
        let pair = if let Some(pair) = known.get(&key) {
            pair.clone()
        } else {
            let id = PairId::new(format!("i{next}"));
            next += 1;
            let side = |name: &str, answer: &GivenAnswer, model: &Option<String>| {
                imported_answer(answer, &id, name, &prompt, model.as_deref().unwrap_or(file))
            };
            let (a, b) = (side("a", &row.chosen, &row.models.0), side("b", &row.rejected, &row.models.1));
            let pair = Pair {
                id: id.clone(),
                prompt: prompt.clone(),
                a: a.id.clone(),
                b: b.id.clone(),
                strategy: "import".into(),
                p_select: 1.0,
            };
            writer.append(&SessionRecord::Completed(a.into()))?;
            writer.append(&SessionRecord::Completed(b.into()))?;
            writer.append(&SessionRecord::Paired(pair.into()))?;
            id
        };
        let strength = row.strength.unwrap_or(Strength::Better);
        // What the verdict's strength says already needs no record.
        if let Some(margin) = row.margin.filter(|margin| (margin - strength.margin()).abs() > 1e-9) {
            writer.append(&SessionRecord::MarginStated { pair: pair.clone(), margin: Num(margin) })?;
        }
        writer.append(&SessionRecord::Judged(
            Verdict {
                pair,
                rater: rater.clone(),
                choice: Choice::Prefer(Side::A, strength),
                left: Side::A,
                seen: Seen::Unknown,
                ms: 0,
                winner_hash: Some(winner.into()),
                asked: crate::domain::Asked::default(),
                showing: crate::domain::Showing::default(),
            }
            .into(),
        ))?;
        added.pairs += 1;
    }
    Ok(added)
}

/// Appends the texts that `session` does not have in that set yet. Their prompts are not added to the session: they are
/// answered already.
pub(super) fn texts(
    rows: &[SftBody],
    set: TextSet,
    session: &Session,
    writer: &mut LogWriter<SessionRecord>,
) -> Result<Added> {
    let mut known: HashSet<&SftBody> =
        session.imported_texts().iter().filter(|(s, _)| *s == set).map(|(_, row)| &row.body).collect();
    let mut next = next_number(session.imported_texts().iter().map(|(_, row)| row.id.as_str()), 't');
    let mut added = Added::default();
    for body in rows {
        if !known.insert(body) {
            added.known_rows += 1;
            continue;
        }
        let id = PairId::new(format!("t{next}"));
        next += 1;
        let row = SftRow { id, prompt_id: body.prompt().derived_id(), body: body.clone() };
        writer.append(&SessionRecord::Taught { set, row: row.into() })?;
        added.rows += 1;
    }
    Ok(added)
}

/// Appends the ratings that `session` does not have yet.
pub(super) fn ratings(
    rows: &[ImportedRating],
    session: &Session,
    writer: &mut LogWriter<SessionRecord>,
) -> Result<Added> {
    let mut known: HashSet<(&PromptBody, &str, bool)> =
        session.imported_ratings().iter().map(|row| (&row.prompt, row.completion.as_str(), row.good)).collect();
    let mut next = next_number(session.imported_ratings().iter().map(|row| row.id.as_str()), 'r');
    let mut added = Added::default();
    for row in rows {
        if !known.insert((&row.prompt, &row.completion.text, row.good)) {
            added.known_rows += 1;
            continue;
        }
        let id = PairId::new(format!("r{next}"));
        next += 1;
        writer.append(&SessionRecord::Rated(Arc::new(RatedRow {
            cut: false,
            id,
            prompt_id: row.prompt.derived_id(),
            prompt: row.prompt.clone(),
            completion: row.completion.text.clone(),
            good: row.good,
            turns: row.completion.turns.clone(),
        })))?;
        added.rows += 1;
    }
    Ok(added)
}

/// An answer from a file as the side `name` of a pair; `model` wrote it.
pub(super) fn imported_answer(
    answer: &GivenAnswer,
    pair: &PairId,
    name: &str,
    prompt: &PromptId,
    model: &str,
) -> Completion {
    Completion {
        id: CompletionId::new(format!("{pair}.{name}")),
        prompt: prompt.clone(),
        model: model.into(),
        text: answer.text.as_str().into(),
        tokens: 0,
        finish: Finish::Given,
        sampler: None,
        logprob: LogProb::UNKNOWN,
        turns: answer.turns.iter().cloned().collect(),
    }
}
