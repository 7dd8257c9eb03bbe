//! The state of a session: what its logs fold to.
//!
//! Owns prompts, completions, pairs, verdicts and corrections with undo and redo, notes, imported rows, and the rules
//! that turn them into training rows. Verdicts and the pairs they judge come from different logs, so they may arrive in
//! either order. Prompts, completions and pairs are shared with the records that brought them: a long session holds its texts
//! once.

mod agree;
mod arrivals;
mod clock;
mod collect;
mod copies;
mod corrections;
mod find;
mod held_out;
mod labelled;
mod lacking;
mod ledger;
mod loops;
mod margins;
mod partial;
mod pool;
mod posed_pairs;
mod queue;
mod rows;
mod seq_stack;
mod state_hash;
mod summary;
mod tags;
#[cfg(test)]
mod tests;
mod verdict_book;

pub use agree::{AgreementReport, Coefficient, Confusion, CriterionReport, RaterFigures, agreement_report};
use collect::Adjudicated;
pub use collect::Dispute;
pub use copies::{Act, ActKind, Copied, SharedName};
pub use find::FilterView;
pub use labelled::{LabelledPair, PairVote};
pub use ledger::Score;
pub use pool::{ScoreSource, SessionPool};
pub use queue::{BuiltQueue, Contested, PairSet, QueueBuild, QueueOrder, QueueRequest};
pub use rows::{Lack, LeftOut, Supply};
pub use summary::{BEST_OF, ModelContest, RANK, VerdictSummary, WinRate};
use tags::Retagged;
pub use tags::{TagChange, tag_problem};
pub use verdict_book::Judged;
use verdict_book::{VerdictBook, later};

use super::ids::{CompletionId, PairId, PromptId, Rater, RunId};
use super::loop_spec::LoopSpec;
use super::posed::EVALUATION;
use super::rubric::Criterion;
use super::text::{Completion, Pair, Prompt, RatedRow, SftRow, TextSet};
use super::verdict::Verdict;
use super::votes::{CollectionSettings, Repeats};
use arrivals::Arrivals;
use clock::Clock;
use lacking::LackingSides;
use ledger::Ledger;
use posed_pairs::HeldOut;
use seq_stack::SeqStack;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use thin_vec::ThinVec;

/// A rater's better version of a completion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correction {
    /// The pair in which it was shown.
    pub pair: PairId,
    /// The completion corrected.
    pub completion: CompletionId,
    /// Who wrote it.
    pub rater: Rater,
    /// The corrected text.
    pub text: String,
}

/// A correction under its record's number, and whether it still counts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Corrected {
    seq: u64,
    correction: Correction,
    undone: bool,
    at: u64,
    toggled: u64,
}

/// A rater's undo and redo stacks: the sequence numbers of verdicts and corrections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct History {
    done: SeqStack,
    undone: SeqStack,
}

/// The folded state.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Session {
    prompts: Arrivals<Prompt>,
    completions: Arrivals<Completion>,
    pairs: Arrivals<Pair>,
    lacking: LackingSides,
    verdicts: VerdictBook,
    history: HashMap<Rater, History>,
    notes: BTreeMap<(PairId, Rater), String>,
    corrections: Vec<Corrected>,
    texts: Vec<(TextSet, Arc<SftRow>)>,
    ratings: Vec<Arc<RatedRow>>,
    scores: Ledger<CompletionId>,
    runs: Vec<RunId>,
    loops: Vec<LoopSpec>,
    settings: Option<CollectionSettings>,
    adjudications: BTreeMap<u64, Adjudicated>,
    criteria: Vec<Criterion>,
    repeats: Option<Repeats>,
    retagged: BTreeMap<u64, Retagged>,
    /// The tags of prompts as they were before anybody changed them.
    imported_tags: HashMap<PromptId, ThinVec<String>>,
    note_times: BTreeMap<(PairId, Rater), u64>,
    /// What evaluations put up for judging.
    held_out: Arc<HeldOut>,
    clock: Clock,
    /// The clock of tags and criteria: one of its own, so that it changes no time of a verdict in older logs.
    marks: Clock,
    /// When a criterion was last set or removed.
    criterion_times: BTreeMap<String, u64>,
    /// Margins that files state of their pairs: scores of no run.
    margins: Ledger<PairId>,
}

impl Session {
    /// Sets the wall time, in milliseconds since 1970, of the records folded from here on.
    pub fn set_wall_time(&mut self, wall_ms: u64) {
        self.clock.set_wall(wall_ms);
        self.marks.set_wall(wall_ms);
    }

    /// Folds, in `fold`, an act that was taken from another copy, where it happened at `at` on that session's clock.
    pub fn copied(&mut self, at: u64, fold: impl FnOnce(&mut Self)) {
        let outer = (self.clock.copy_from(Some(at)), self.marks.copy_from(Some(at)));
        fold(self);
        self.clock.copy_from(outer.0);
        self.marks.copy_from(outer.1);
    }

    /// An empty session that shares what this one holds: what the same records fold to in it takes little room of its own.
    #[must_use]
    pub fn rewound(&self) -> Self {
        let mut prompts = self.prompts.clone();
        // They arrived with the tags that they had before anybody changed them.
        for (id, tags) in &self.imported_tags {
            if let Some(place) = prompts.place(id) {
                prompts.change(place, |prompt| prompt.tags.clone_from(tags));
            }
        }
        Self {
            prompts: prompts.rewound(),
            completions: self.completions.rewound(),
            pairs: self.pairs.rewound(),
            verdicts: self.verdicts.rewound(),
            scores: self.scores.rewound(),
            margins: self.margins.rewound(),
            ..Self::default()
        }
    }

    /// This session without its prompts, answers and pairs, which no hash of the state covers. The rest is shared.
    #[must_use]
    pub fn without_texts(&self) -> Self {
        Self {
            prompts: Arrivals::default(),
            completions: Arrivals::default(),
            pairs: Arrivals::default(),
            lacking: LackingSides::default(),
            imported_tags: HashMap::new(),
            ..self.clone()
        }
    }

    /// A prompt of this session in place of an equal one that was read again, so that its texts are held once.
    #[must_use]
    pub fn shared_prompt(&self, read: Arc<Prompt>) -> Arc<Prompt> {
        self.prompts.get(&read.id).filter(|known| **known == read).cloned().unwrap_or(read)
    }

    /// As [`Session::shared_prompt`], of a completion.
    #[must_use]
    pub fn shared_completion(&self, read: Arc<Completion>) -> Arc<Completion> {
        self.completions.get(&read.id).filter(|known| **known == read).cloned().unwrap_or(read)
    }

    /// As [`Session::shared_prompt`], of a pair.
    #[must_use]
    pub fn shared_pair(&self, read: Arc<Pair>) -> Arc<Pair> {
        self.pairs.get(&read.id).filter(|known| **known == read).cloned().unwrap_or(read)
    }

    /// As [`Session::shared_prompt`], of the verdict of a record: of its ids.
    #[must_use]
    pub fn shared_verdict(&self, seq: u64, read: Arc<Verdict>) -> Arc<Verdict> {
        let known = self.verdicts.get(seq).map(|judged| judged.verdict).filter(|known| **known == *read);
        known.filter(|known| known.pair.is_long()).map_or(read, |known| Arc::new(known.clone()))
    }

    /// How many verdicts there are that count, and how many that are undone.
    #[must_use]
    pub fn verdict_counts(&self) -> (usize, usize) {
        let undone = self.verdicts.undone();
        (self.verdicts.len() - undone, undone)
    }

    /// The verdict with that record number, and whether it counts.
    #[must_use]
    pub fn judged_at(&self, seq: u64) -> Option<Judged<'_>> {
        self.verdicts.get(seq)
    }

    /// Adds a prompt; an earlier one with the same id stays.
    pub fn add_prompt(&mut self, prompt: impl Into<Arc<Prompt>>) {
        let prompt = prompt.into();
        let id = prompt.id.clone();
        if self.prompts.push(prompt) {
            self.retag(&id);
        }
    }

    /// Adds a completion; an earlier one with the same id stays.
    pub fn add_completion(&mut self, completion: impl Into<Arc<Completion>>) {
        self.completions.push(completion.into());
    }

    /// Adds a pair; an earlier one with the same id stays. One of an evaluation is held out.
    pub fn add_pair(&mut self, pair: impl Into<Arc<Pair>>) {
        let pair = pair.into();
        if pair.strategy == EVALUATION {
            return Arc::make_mut(&mut self.held_out).add(pair);
        }
        let lacks = !(self.completions.contains(&pair.a) && self.completions.contains(&pair.b));
        if self.pairs.push(pair) && lacks {
            self.lacking.add(self.pairs.len() - 1);
        }
    }

    /// Adds a verdict under its record's sequence number. The rater's redo stack is cleared.
    pub fn judge(&mut self, seq: u64, verdict: impl Into<Arc<Verdict>>) {
        let verdict: Arc<Verdict> = verdict.into();
        let mut verdict = Arc::unwrap_or_clone(verdict);
        self.push_done(&verdict.rater, seq);
        let at = self.clock.stamp();
        if verdict.pair.is_long()
            && let Some(pair) = self.pair(&verdict.pair)
        {
            // The same id, held once.
            verdict.pair = pair.id.clone();
        }
        self.verdicts.add(seq, at, verdict);
    }

    fn push_done(&mut self, rater: &Rater, seq: u64) {
        if self.clock.copying() {
            return;
        }
        let history = self.history.entry(rater.clone()).or_default();
        history.done.push(seq);
        history.undone.clear();
    }

    /// Replaces the provisional number of a verdict, correction, adjudication or tag by its number in the log, once it is written.
    pub fn renumber(&mut self, provisional: u64, seq: u64) {
        let rater = if let Some(rater) = self.verdicts.renumber(provisional, seq) {
            rater
        } else if let Some(corrected) = self.corrections.iter_mut().rfind(|c| c.seq == provisional) {
            corrected.seq = seq;
            corrected.correction.rater.clone()
        } else if let Some(adjudicated) = self.adjudications.remove(&provisional) {
            let rater = adjudicated.adjudication.rater.clone();
            self.adjudications.insert(seq, adjudicated);
            rater
        } else if let Some(retagged) = self.retagged.remove(&provisional) {
            let TagChange { prompt, rater, .. } = retagged.change.clone();
            self.retagged.insert(seq, retagged);
            self.retag(&prompt);
            rater
        } else {
            return;
        };
        let history = self.history.entry(rater).or_default();
        history.done.replace(provisional, seq);
        history.undone.replace(provisional, seq);
    }

    /// Undoes a verdict, a correction, an adjudication or a tag. An unknown number changes nothing.
    pub fn undo(&mut self, of: u64) {
        self.set_undone(of, true);
    }

    /// Redoes an undone verdict, correction, adjudication or tag. An unknown number changes nothing.
    pub fn redo(&mut self, of: u64) {
        self.set_undone(of, false);
    }

    fn set_undone(&mut self, of: u64, undone: bool) {
        if self.retagged.contains_key(&of) {
            return self.set_tag_undone(of, undone);
        }
        let at = self.clock.stamp();
        let (mut verdict, rater) = match self.verdicts.get(of) {
            Some(judged) => (Some((judged.undone, judged.toggled)), Some(judged.verdict.rater.clone())),
            None => (None, None),
        };
        let (flag, toggled, rater) = if let (Some((undone, toggled)), Some(rater)) = (&mut verdict, &rater) {
            (undone, toggled, rater)
        } else if let Some(corrected) = self.corrections.iter_mut().rfind(|c| c.seq == of) {
            (&mut corrected.undone, &mut corrected.toggled, &corrected.correction.rater)
        } else if let Some(adjudicated) = self.adjudications.get_mut(&of) {
            (&mut adjudicated.undone, &mut adjudicated.toggled, &adjudicated.adjudication.rater)
        } else {
            return;
        };
        if at < *toggled || (at == *toggled && *flag) {
            return;
        }
        *toggled = at;
        let changed = *flag != undone;
        *flag = undone;
        let rater = rater.clone();
        if verdict.is_some() {
            self.verdicts.toggle(of, undone, at);
        }
        if !changed {
            return;
        }
        if self.clock.copying() {
            // What was done in another copy is not what `undo` takes back here.
            let history = self.history.entry(rater).or_default();
            history.done.remove(of);
            history.undone.remove(of);
            return;
        }
        self.move_done(&rater, of, undone);
    }

    fn set_tag_undone(&mut self, of: u64, undone: bool) {
        let at = self.marks.stamp();
        let Some(retagged) = self.retagged.get_mut(&of) else { return };
        if at < retagged.toggled || (at == retagged.toggled && retagged.undone) {
            return;
        }
        retagged.toggled = at;
        if retagged.undone == undone {
            return;
        }
        retagged.undone = undone;
        let TagChange { prompt, rater, .. } = retagged.change.clone();
        self.retag(&prompt);
        if self.clock.copying() {
            let history = self.history.entry(rater).or_default();
            history.done.remove(of);
            history.undone.remove(of);
        } else {
            self.move_done(&rater, of, undone);
        }
    }

    /// Moves a record of a rater between the undo and the redo stack.
    fn move_done(&mut self, rater: &Rater, of: u64, undone: bool) {
        let history = self.history.entry(rater.clone()).or_default();
        let (from, to) =
            if undone { (&mut history.done, &mut history.undone) } else { (&mut history.undone, &mut history.done) };
        from.remove(of);
        to.push(of);
    }

    /// Sets a rater's note on a pair; an empty text removes it.
    pub fn note(&mut self, pair: PairId, rater: Rater, text: String) {
        let at = self.clock.stamp();
        let key = (pair, rater);
        let written = self.note_times.get(&key).copied().unwrap_or(0);
        let older = at < written || (at == written && self.notes.get(&key).is_some_and(|known| *known >= text));
        if older {
            return;
        }
        self.note_times.insert(key.clone(), at);
        if text.trim().is_empty() {
            self.notes.remove(&key);
        } else {
            self.notes.insert(key, text);
        }
    }

    /// Adds a correction under its record's sequence number. The rater's redo stack is cleared.
    pub fn correct(&mut self, seq: u64, correction: Correction) {
        self.push_done(&correction.rater, seq);
        let at = self.clock.stamp();
        let new = Corrected { seq, correction, undone: false, at, toggled: 0 };
        let key = |c: &Corrected| (c.at, c.correction.text.clone());
        let place = self.corrections.partition_point(|c| key(c) <= key(&new));
        self.corrections.insert(place, new);
    }

    /// Adds a criterion, replaces its sentence, or removes it. Verdicts by it stay.
    pub fn set_criterion(&mut self, name: &str, sentence: Option<&str>) {
        let (at, written) = (self.marks.stamp(), self.criterion_times.get(name).copied().unwrap_or(0));
        // What was set in another copy may be older than what was set here.
        if at < written || (at == written && self.criterion(name).map(|c| c.sentence.as_str()) >= sentence) {
            return;
        }
        self.criterion_times.insert(name.to_owned(), at);
        let at = self.criteria.iter().position(|c| c.name == name);
        match (at, sentence) {
            (Some(at), Some(sentence)) => sentence.clone_into(&mut self.criteria[at].sentence),
            (Some(at), None) => drop(self.criteria.remove(at)),
            (None, Some(sentence)) => {
                self.criteria.push(Criterion { name: name.to_owned(), sentence: sentence.to_owned() });
            }
            (None, None) => {}
        }
    }

    /// The session's criteria, in the order in which they were added.
    #[must_use]
    pub fn criteria(&self) -> &[Criterion] {
        &self.criteria
    }

    /// The criterion of that name.
    #[must_use]
    pub fn criterion(&self, name: &str) -> Option<&Criterion> {
        self.criteria.iter().find(|c| c.name == name)
    }

    /// Sets how pairs come back for self-consistency.
    pub fn set_repeats(&mut self, repeats: Repeats) {
        self.repeats = Some(repeats);
    }

    /// How pairs come back for self-consistency; none where it was never set.
    #[must_use]
    pub fn repeats(&self) -> Option<Repeats> {
        self.repeats
    }

    /// Adds an imported text for SFT, or one to measure forgetting on.
    pub fn add_text(&mut self, set: TextSet, row: impl Into<Arc<SftRow>>) {
        self.texts.push((set, row.into()));
    }

    /// Adds an imported rating.
    pub fn add_rating(&mut self, row: impl Into<Arc<RatedRow>>) {
        self.ratings.push(row.into());
    }

    /// Sets a reward run's score of a completion; a later score replaces an earlier one.
    pub fn score(&mut self, completion: CompletionId, run: &RunId, value: f64) {
        let known = if completion.is_long() { self.completions.get(&completion) } else { None };
        // The same id, held once.
        let completion = known.map_or(completion, |known| known.id.clone());
        self.scores.add(completion, run, value);
    }

    /// Adds a launched run.
    pub fn launch(&mut self, run: RunId) {
        if !self.runs.contains(&run) {
            self.runs.push(run);
        }
    }

    /// Prompts in order of arrival.
    #[must_use]
    pub fn prompts(&self) -> &[Arc<Prompt>] {
        self.prompts.as_slice()
    }

    /// The prompt of that id.
    #[must_use]
    pub fn prompt(&self, id: &PromptId) -> Option<&Prompt> {
        self.prompts.get(id).map(|own| &**own).or_else(|| self.held_out.prompts.get(id))
    }

    /// The completion of that id.
    #[must_use]
    pub fn completion(&self, id: &CompletionId) -> Option<&Completion> {
        self.completions.get(id).map(|own| &**own).or_else(|| self.held_out.completions.get(id))
    }

    /// Every completion, in order of their ids.
    #[must_use]
    pub fn completions(&self) -> Vec<&Completion> {
        let mut all: Vec<&Completion> = self.completions.iter().map(|completion| &**completion).collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    /// The latest score of a completion.
    #[must_use]
    pub fn score_of(&self, completion: &CompletionId) -> Option<Score<'_>> {
        self.scores.latest(completion)
    }

    /// Whether any completion has a score.
    #[must_use]
    pub fn has_scores(&self) -> bool {
        !self.scores.is_empty()
    }

    /// A run's latest score of a completion, whichever run scored it last.
    #[must_use]
    pub fn score_by(&self, run: &RunId, completion: &CompletionId) -> Option<f64> {
        self.scores.by(run, completion)
    }

    /// The absolute difference of a pair's two scores; none unless the same run scored both.
    #[must_use]
    pub fn score_gap(&self, pair: &Pair) -> Option<f64> {
        let (a, b) = (self.score_of(&pair.a)?, self.score_of(&pair.b)?);
        (a.run == b.run).then_some((a.value - b.value).abs()).filter(|gap| gap.is_finite())
    }

    /// How many completions there are.
    #[must_use]
    pub fn completion_count(&self) -> usize {
        self.completions.len()
    }

    /// Pairs in order of arrival.
    #[must_use]
    pub fn pairs(&self) -> &[Arc<Pair>] {
        self.pairs.as_slice()
    }

    /// The pair of that id.
    #[must_use]
    pub fn pair(&self, id: &PairId) -> Option<&Pair> {
        let held_out = || self.held_out.at.get(id).map(|i| &*self.held_out.pairs[*i]);
        self.pairs.get(id).map(|own| &**own).or_else(held_out)
    }

    /// Where a pair is in the order of arrival.
    #[must_use]
    pub fn pair_place(&self, id: &PairId) -> Option<usize> {
        self.pairs.place(id)
    }

    /// Where a prompt is in the order of arrival.
    #[must_use]
    pub fn prompt_place(&self, id: &PromptId) -> Option<usize> {
        self.prompts.place(id)
    }

    /// A pair's two completions, `a` then `b`.
    #[must_use]
    pub fn sides(&self, pair: &Pair) -> Option<(&Completion, &Completion)> {
        Some((self.completion(&pair.a)?, self.completion(&pair.b)?))
    }

    /// Every verdict with its sequence number, undone ones too, oldest first.
    pub fn verdicts(&self) -> impl DoubleEndedIterator<Item = (u64, Judged<'_>)> {
        self.verdicts.iter()
    }

    /// Every verdict on a pair, undone ones too, oldest first.
    pub fn verdicts_on(&self, pair: &PairId) -> impl DoubleEndedIterator<Item = Judged<'_>> {
        let latest_first: Vec<Judged<'_>> = self.verdicts.latest_on(pair).map(|(_, judged)| judged).collect();
        latest_first.into_iter().rev()
    }

    /// The verdict or correction that `undo` by this rater would undo.
    #[must_use]
    pub fn undoable(&self, rater: &Rater) -> Option<u64> {
        self.history.get(rater)?.done.last()
    }

    /// The verdict or correction that `redo` by this rater would redo.
    #[must_use]
    pub fn redoable(&self, rater: &Rater) -> Option<u64> {
        self.history.get(rater)?.undone.last()
    }

    /// A rater's note on a pair.
    #[must_use]
    pub fn note_of(&self, pair: &PairId, rater: &Rater) -> Option<&str> {
        self.notes.get(&(pair.clone(), rater.clone())).map(String::as_str)
    }

    /// The verdict with that record number, undone or not.
    #[must_use]
    pub fn verdict_at(&self, seq: u64) -> Option<&Verdict> {
        self.verdicts.get(seq).map(|judged| judged.verdict)
    }

    /// The pair of the verdict with that record number.
    #[must_use]
    pub fn judged_pair(&self, seq: u64) -> Option<&PairId> {
        self.verdicts.get(seq).map(|judged| &judged.verdict.pair)
    }

    /// The correction with that record number, undone or not.
    #[must_use]
    pub fn correction_at(&self, seq: u64) -> Option<&Correction> {
        self.corrections.iter().rfind(|c| c.seq == seq).map(|c| &c.correction)
    }

    /// Corrections in order, without undone ones. An empty text withdraws the ones before it.
    #[must_use]
    pub fn corrections(&self) -> Vec<&Correction> {
        self.corrections.iter().filter(|c| !c.undone).map(|c| &c.correction).collect()
    }

    /// A rater's current correction of a completion.
    #[must_use]
    pub fn correction_of(&self, completion: &CompletionId, rater: &Rater) -> Option<&str> {
        let all = self.corrections.iter().rev().filter(|c| !c.undone).map(|c| &c.correction);
        let last = all.filter(|c| c.completion == *completion && c.rater == *rater).map(|c| c.text.as_str()).next()?;
        (!last.trim().is_empty()).then_some(last)
    }

    /// Imported texts of both sets, in order of arrival.
    #[must_use]
    pub fn imported_texts(&self) -> &[(TextSet, Arc<SftRow>)] {
        &self.texts
    }

    /// Imported ratings in order of arrival.
    #[must_use]
    pub fn imported_ratings(&self) -> &[Arc<RatedRow>] {
        &self.ratings
    }

    /// Runs in order of launch.
    #[must_use]
    pub fn runs(&self) -> &[RunId] {
        &self.runs
    }
}
