//! What people did in another copy of a session that this one does not know yet.
//!
//! Owns how verdicts, adjudications, corrections, notes, tags and criteria of two copies are matched: by content, never by number or name
//! alone, so that each is taken once whatever the order of taking. An id of the other copy is used only where it means the
//! same content here. Refuses to take runs, scores, settings and imported rows: those stay where they are.

use super::super::canonical::CanonicalHash;
use super::super::ids::{CompletionId, PairId, PromptId, Rater};
use super::super::text::{Completion, Pair, Prompt, PromptBody};
use super::super::verdict::{Choice, Side, Verdict};
use super::super::votes::Adjudication;
use super::{Correction, Session, TagChange};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// Something a person did in another copy, in terms of this one.
#[derive(Debug, Clone, PartialEq)]
pub enum ActKind {
    /// A prompt that this session lacks; needed by an act that follows.
    Prompt(Prompt),
    /// An answer that this session lacks.
    Completion(Completion),
    /// A pair that this session lacks.
    Pair(Pair),
    /// A verdict.
    Verdict(Verdict),
    /// A decision on a dispute.
    Adjudication(Adjudication),
    /// A better version of an answer.
    Correction(Correction),
    /// A note on a pair; an empty text removes it.
    Note(PairId, Rater, String),
    /// A tag set on a prompt, or taken off.
    Tag(TagChange),
    /// A criterion's name and sentence; none removes it.
    Criterion(String, Option<String>),
    /// An act that is known here, under this record's number, was undone (true) or redone there.
    Toggle(u64, bool),
}

/// An act and when it happened on the other copy's clock.
#[derive(Debug, Clone, PartialEq)]
pub struct Act {
    /// The time.
    pub at: u64,
    /// What was done.
    pub kind: ActKind,
    /// When it was last undone (true) or redone there; none if never.
    pub toggled: Option<(u64, bool)>,
}

/// What is to be taken from another copy, and what is not.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Copied {
    /// The acts, in an order in which they can be folded.
    pub acts: Vec<Act>,
    /// Acts of the other copy that this session has already.
    pub known: usize,
    /// Acts on pairs of the other copy whose prompt or answers are missing there.
    pub unreadable: usize,
    /// Runs, scores, imported texts and ratings of the other copy: they are not taken.
    pub left: LeftThere,
}

/// What stays in the other copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LeftThere {
    /// Runs that this session does not have.
    pub runs: usize,
    /// Pairs without any act on them that this session does not have.
    pub pairs: usize,
    /// Imported texts and ratings, where the other copy has more.
    pub rows: usize,
    /// Prompts that were imported with other tags there, and tags of prompts that this session does not have.
    pub tags: usize,
}

/// A name under which people labelled in both copies after they parted: one person, or two.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{rater} has labelled in both copies since they parted")]
pub struct SharedName {
    /// The name.
    pub rater: Rater,
}

/// What an act is, whatever its number: equal acts have equal keys.
type ContentKey = String;

/// An act of one copy, under its record's number.
struct Known {
    seq: u64,
    rater: Rater,
    toggled: u64,
}

impl Session {
    /// What `theirs` has that this session lacks. `rename` gives raters of the other copy another name here.
    ///
    /// # Errors
    /// When a name has acts in each copy that the other lacks, unless `one_person` says that it is the same person.
    pub fn missing_from(
        &self,
        theirs: &Self,
        rename: &HashMap<Rater, Rater>,
        one_person: bool,
    ) -> Result<Copied, SharedName> {
        let mut map = PairMap::new(self, theirs);
        let mut out = Copied::default();
        let here = self.acts_by_content();
        let named = |rater: &Rater| rename.get(rater).unwrap_or(rater).clone();
        let mut met: HashSet<ContentKey> = HashSet::new();
        let mut only_there: BTreeSet<Rater> = BTreeSet::new();
        let mut take = |key: ContentKey, rater: &Rater, act: Act, out: &mut Copied| {
            if let Some(known) = here.get(&key) {
                out.known += 1;
                if let Some((at, undone)) = act.toggled.filter(|(at, _)| *at > known.toggled) {
                    out.acts.push(Act { at, kind: ActKind::Toggle(known.seq, undone), toggled: None });
                }
            } else if met.contains(&key) {
                out.known += 1;
            } else {
                only_there.insert(rater.clone());
                out.acts.push(act);
            }
            met.insert(key);
        };
        for (seq, judged) in theirs.verdicts() {
            let Some(here) = map.pair(&judged.verdict.pair, &mut out.acts) else {
                out.unreadable += 1;
                continue;
            };
            let verdict = Verdict { rater: named(&judged.verdict.rater), ..here.verdict(judged.verdict) };
            let verdict = Verdict { pair: here.id.clone(), ..verdict };
            let key = verdict_key(theirs, seq, &verdict.rater);
            let toggled = (judged.toggled > 0).then_some((judged.toggled, judged.undone));
            let rater = verdict.rater.clone();
            take(key, &rater, Act { at: judged.at, kind: ActKind::Verdict(verdict), toggled }, &mut out);
        }
        for (seq, a) in &theirs.adjudications {
            let Some(here) = map.pair(&a.adjudication.pair, &mut out.acts) else {
                out.unreadable += 1;
                continue;
            };
            let rater = named(&a.adjudication.rater);
            let key = adjudication_key(theirs, *seq, &rater);
            let choice = here.choice(a.adjudication.choice);
            let toggled = (a.toggled > 0).then_some((a.toggled, a.undone));
            let (pair, criterion) = (here.id.clone(), a.adjudication.criterion.clone());
            let kind = ActKind::Adjudication(Adjudication { pair, rater: rater.clone(), choice, criterion });
            take(key, &rater, Act { at: a.at, kind, toggled }, &mut out);
        }
        for c in &theirs.corrections {
            let correction = &c.correction;
            let (pair, completion) =
                (map.pair(&correction.pair, &mut out.acts), map.completion(&correction.completion));
            let (Some(pair), Some(completion)) = (pair, completion) else {
                out.unreadable += 1;
                continue;
            };
            let rater = named(&correction.rater);
            let key = correction_key(theirs, c, &rater);
            let toggled = (c.toggled > 0).then_some((c.toggled, c.undone));
            let text = correction.text.clone();
            let kind = ActKind::Correction(Correction { pair: pair.id, completion, rater: rater.clone(), text });
            take(key, &rater, Act { at: c.at, kind, toggled }, &mut out);
        }
        for ((pair, rater), at) in &theirs.note_times {
            let Some(here) = map.pair(pair, &mut out.acts) else {
                out.unreadable += 1;
                continue;
            };
            let text = theirs.notes.get(&(pair.clone(), rater.clone())).cloned().unwrap_or_default();
            let rater = named(rater);
            let key = (here.id.clone(), rater.clone());
            let written = self.note_times.get(&key).copied().unwrap_or(0);
            let mine = self.notes.get(&key).map_or("", String::as_str);
            if *at < written || (*at == written && *mine >= *text) {
                out.known += 1;
            } else {
                out.acts.push(Act { at: *at, kind: ActKind::Note(here.id, rater, text), toggled: None });
            }
        }
        let mut elsewhere = 0;
        for (seq, r) in &theirs.retagged {
            let Some(prompt) = map.known_prompt(&r.change.prompt) else {
                elsewhere += 1;
                continue;
            };
            let rater = named(&r.change.rater);
            let key = tag_key(theirs, *seq, &rater);
            let toggled = (r.toggled > 0).then_some((r.toggled, r.undone));
            let change = TagChange { prompt, rater: rater.clone(), ..r.change.clone() };
            take(key, &rater, Act { at: r.at, kind: ActKind::Tag(change), toggled }, &mut out);
        }
        for (name, at) in &theirs.criterion_times {
            let sentence = |session: &Self| session.criterion(name).map(|c| c.sentence.clone());
            let written = self.criterion_times.get(name).copied().unwrap_or(0);
            if *at < written || (*at == written && sentence(self) >= sentence(theirs)) {
                out.known += 1;
            } else {
                out.acts.push(Act { at: *at, kind: ActKind::Criterion(name.clone(), sentence(theirs)), toggled: None });
            }
        }
        if !one_person {
            let theirs_keys = met;
            let only_here: HashSet<&Rater> =
                here.iter().filter(|(key, _)| !theirs_keys.contains(*key)).map(|(_, known)| &known.rater).collect();
            let shared = only_there.iter().find(|rater| rater.is_person() && only_here.contains(rater));
            if let Some(rater) = shared {
                return Err(SharedName { rater: rater.clone() });
            }
        }
        out.left = LeftThere {
            runs: theirs.runs.iter().filter(|run| !self.runs.contains(run)).count(),
            pairs: theirs.pairs.iter().filter(|pair| !map.touched(&pair.id) && map.known(&pair.id).is_none()).count(),
            tags: self.imported_with_other_tags(theirs) + elsewhere,
            rows: (theirs.texts.len() + theirs.ratings.len()).saturating_sub(self.texts.len() + self.ratings.len()),
        };
        Ok(out)
    }

    /// Every verdict, adjudication and correction of this session by its content.
    fn acts_by_content(&self) -> HashMap<ContentKey, Known> {
        let mut out = HashMap::new();
        for (seq, judged) in self.verdicts.iter() {
            let rater = judged.verdict.rater.clone();
            let known = Known { seq, rater: rater.clone(), toggled: judged.toggled };
            out.entry(verdict_key(self, seq, &rater)).or_insert(known);
        }
        for (seq, a) in &self.adjudications {
            let rater = a.adjudication.rater.clone();
            let known = Known { seq: *seq, rater: rater.clone(), toggled: a.toggled };
            out.entry(adjudication_key(self, *seq, &rater)).or_insert(known);
        }
        for c in &self.corrections {
            let rater = c.correction.rater.clone();
            let known = Known { seq: c.seq, rater: rater.clone(), toggled: c.toggled };
            out.entry(correction_key(self, c, &rater)).or_insert(known);
        }
        for (seq, r) in &self.retagged {
            let rater = r.change.rater.clone();
            let known = Known { seq: *seq, rater: rater.clone(), toggled: r.toggled };
            out.entry(tag_key(self, *seq, &rater)).or_insert(known);
        }
        out
    }

    /// A prompt's tags before anybody changed them.
    fn first_tags<'a>(&'a self, prompt: &'a Prompt) -> &'a [String] {
        self.imported_tags.get(&prompt.id).unwrap_or(&prompt.tags)
    }

    /// How many prompts of both copies were imported with other tags there.
    fn imported_with_other_tags(&self, theirs: &Self) -> usize {
        let mine: HashMap<&PromptBody, BTreeSet<&String>> =
            self.prompts.iter().map(|p| (&p.body, self.first_tags(p).iter().collect())).collect();
        let other =
            |p: &&Arc<Prompt>| mine.get(&p.body).is_some_and(|tags| *tags != theirs.first_tags(p).iter().collect());
        theirs.prompts.iter().filter(other).count()
    }

    fn text_of(&self, id: &CompletionId) -> Option<&str> {
        self.completion(id).map(|c| &*c.text)
    }

    /// The prompt and the two texts of a pair, in an order that does not depend on which is `a`.
    fn pair_content(&self, id: &PairId) -> Option<PairContent<'_>> {
        let pair = self.pair(id)?;
        let (a, b) = (self.text_of(&pair.a)?, self.text_of(&pair.b)?);
        Some(PairContent { prompt: &self.prompt(&pair.prompt)?.body, texts: if a <= b { [a, b] } else { [b, a] } })
    }
}

/// What a pair is, whatever its ids.
#[derive(PartialEq, Eq, Hash, Serialize)]
struct PairContent<'a> {
    prompt: &'a PromptBody,
    texts: [&'a str; 2],
}

/// The time of a person's act is part of what it is: the same choice twice is two acts. Imported and computed verdicts are
/// the same wherever the same file was imported.
fn time_of(rater: &Rater, at: u64) -> Option<u64> {
    rater.is_person().then_some(at)
}

fn verdict_key(session: &Session, seq: u64, rater: &Rater) -> ContentKey {
    let mut h = CanonicalHash::default();
    let Some(judged) = session.verdicts.get(seq) else { return String::new() };
    let v = &judged.verdict;
    // What was chosen and shown, as texts: sides differ between copies.
    let text = |side: Side| {
        let pair = session.pair(&v.pair)?;
        session.text_of(if side == Side::A { &pair.a } else { &pair.b })
    };
    let chosen = match v.choice {
        Choice::Prefer(side, strength) => (text(side), Some(strength)),
        _ => (None, None),
    };
    let kind = match v.choice {
        Choice::Prefer(..) => "prefer",
        Choice::Tie => "tie",
        Choice::BothBad => "both_bad",
        Choice::Skip => "skip",
    };
    h.add(&("verdict", rater, time_of(rater, judged.at), session.pair_content(&v.pair), kind, chosen));
    h.add(&(text(v.left), v.seen, v.ms, &v.asked));
    h.hex()
}

fn adjudication_key(session: &Session, seq: u64, rater: &Rater) -> ContentKey {
    let mut h = CanonicalHash::default();
    let Some(a) = session.adjudications.get(&seq) else { return String::new() };
    h.add(&("adjudication", rater, a.at, session.pair_content(&a.adjudication.pair)));
    h.add(&a.adjudication.criterion);
    h.hex()
}

fn correction_key(session: &Session, c: &super::Corrected, rater: &Rater) -> ContentKey {
    let mut h = CanonicalHash::default();
    let completion = session.completion(&c.correction.completion);
    let prompt = completion.and_then(|c| session.prompt(&c.prompt)).map(|p| &p.body);
    h.add(&("correction", rater, time_of(rater, c.at), prompt, completion.map(|c| &c.text), &c.correction.text));
    h.hex()
}

fn tag_key(session: &Session, seq: u64, rater: &Rater) -> ContentKey {
    let mut h = CanonicalHash::default();
    let Some(r) = session.retagged.get(&seq) else { return String::new() };
    let prompt = session.prompt(&r.change.prompt).map(|p| &p.body);
    h.add(&("tag", rater, r.at, prompt, &r.change.tag, r.change.on));
    h.hex()
}

/// A pair of the other copy as it is called here.
#[derive(Clone)]
struct HerePair {
    id: PairId,
    /// Whether its `a` is the other copy's `b`.
    swapped: bool,
}

impl HerePair {
    fn side(&self, side: Side) -> Side {
        if self.swapped { side.other() } else { side }
    }

    fn choice(&self, choice: Choice) -> Choice {
        match choice {
            Choice::Prefer(side, strength) => Choice::Prefer(self.side(side), strength),
            other => other,
        }
    }

    fn verdict(&self, v: &Verdict) -> Verdict {
        let mut out = Verdict { choice: self.choice(v.choice), left: self.side(v.left), ..v.clone() };
        if self.side(Side::A) == Side::B {
            out.showing.partial = v.showing.partial.as_ref().map(|view| Box::new(view.swapped()));
        }
        out
    }
}

/// The other copy's prompts, answers and pairs in terms of this session's. New ones get ids from their content.
struct PairMap<'a> {
    mine: &'a Session,
    theirs: &'a Session,
    by_content: HashMap<PairContent<'a>, &'a PairId>,
    prompts: HashMap<&'a PromptBody, &'a PromptId>,
    texts: HashMap<(&'a PromptId, &'a str), &'a CompletionId>,
    pairs: BTreeMap<PairId, Option<HerePair>>,
    completions: HashMap<CompletionId, CompletionId>,
    new_prompts: HashMap<&'a PromptBody, PromptId>,
}

impl<'a> PairMap<'a> {
    fn new(mine: &'a Session, theirs: &'a Session) -> Self {
        let mut by_content = HashMap::new();
        for pair in &mine.pairs {
            if let Some(content) = mine.pair_content(&pair.id) {
                by_content.entry(content).or_insert(&pair.id);
            }
        }
        let mut texts: HashMap<(&PromptId, &str), &CompletionId> = HashMap::new();
        for c in &mine.completions {
            // Of equal answers the one with the smallest id, whatever the order of the map.
            let id = texts.entry((&c.prompt, &c.text)).or_insert(&c.id);
            *id = (*id).min(&c.id);
        }
        let mut prompts = HashMap::new();
        for p in &mine.prompts {
            prompts.entry(&p.body).or_insert(&p.id);
        }
        let (pairs, completions, new_prompts) = (BTreeMap::new(), HashMap::new(), HashMap::new());
        Self { mine, theirs, by_content, prompts, texts, pairs, completions, new_prompts }
    }

    fn touched(&self, id: &PairId) -> bool {
        self.pairs.contains_key(id)
    }

    /// The pair here, if there is one; the same id first.
    fn known(&self, id: &PairId) -> Option<HerePair> {
        let content = self.theirs.pair_content(id)?;
        let same = self.mine.pair_content(id).filter(|mine| *mine == content).map(|_| id);
        let here = same.or_else(|| self.by_content.get(&content).copied())?;
        let (mine, theirs) = (self.mine.pair(here)?, self.theirs.pair(id)?);
        let swapped = self.mine.text_of(&mine.a) != self.theirs.text_of(&theirs.a);
        Some(HerePair { id: here.clone(), swapped })
    }

    /// The pair here; one that is missing is added to `acts` with its prompt and answers. None if the other copy lacks
    /// them too.
    fn pair(&mut self, id: &PairId, acts: &mut Vec<Act>) -> Option<HerePair> {
        if let Some(done) = self.pairs.get(id) {
            return done.clone();
        }
        let here = self.known(id).or_else(|| self.add(id, acts));
        self.pairs.insert(id.clone(), here.clone());
        here
    }

    fn add(&mut self, id: &PairId, acts: &mut Vec<Act>) -> Option<HerePair> {
        // A pair of an evaluation belongs to its run, which stays in the other copy.
        let pair = self.theirs.pair(id).filter(|pair| !self.theirs.is_held_out(&pair.id))?;
        let content = self.theirs.pair_content(id)?;
        let new = PairId::new(format!("x{}", hash(&content)));
        // Two pairs of the other copy may have one content.
        if let Some(same) = self.pairs.values().flatten().find(|here| here.id == new) {
            return Some(same.clone());
        }
        let prompt = self.prompt(&pair.prompt, acts)?;
        let a = self.answer(&pair.a, &prompt, acts)?;
        let b = self.answer(&pair.b, &prompt, acts)?;
        let pair = Pair { id: new.clone(), prompt, a, b, ..pair.clone() };
        acts.push(Act { at: 0, kind: ActKind::Pair(pair), toggled: None });
        Some(HerePair { id: new, swapped: false })
    }

    /// The prompt here, or the one that is being added.
    fn known_prompt(&self, id: &PromptId) -> Option<PromptId> {
        let body = &self.theirs.prompt(id)?.body;
        self.prompts.get(body).copied().or_else(|| self.new_prompts.get(body)).cloned()
    }

    fn prompt(&mut self, id: &PromptId, acts: &mut Vec<Act>) -> Option<PromptId> {
        if let Some(known) = self.known_prompt(id) {
            return Some(known);
        }
        let prompt = self.theirs.prompt(id)?;
        let new = PromptId::new(format!("x{}", hash(&prompt.body)));
        // What was changed since follows as acts of its own.
        let tags = self.theirs.first_tags(prompt).to_vec();
        let here = Prompt { id: new.clone(), tags: tags.into(), ..prompt.clone() };
        acts.push(Act { at: 0, kind: ActKind::Prompt(here), toggled: None });
        self.new_prompts.insert(&prompt.body, new.clone());
        Some(new)
    }

    fn answer(&mut self, id: &CompletionId, prompt: &PromptId, acts: &mut Vec<Act>) -> Option<CompletionId> {
        if let Some(known) = self.completions.get(id) {
            return Some(known.clone());
        }
        let theirs = self.theirs.completion(id)?;
        let same = self.mine.completion(id).filter(|c| c.prompt == *prompt && c.text == theirs.text).map(|c| &c.id);
        let known = same.or_else(|| self.texts.get(&(prompt, &*theirs.text)).copied()).cloned();
        let here = known.unwrap_or_else(|| {
            let new = CompletionId::new(format!("x{}", hash(&(prompt, &theirs.text, &theirs.model))));
            let completion = Completion { id: new.clone(), prompt: prompt.clone(), ..theirs.clone() };
            acts.push(Act { at: 0, kind: ActKind::Completion(completion), toggled: None });
            new
        });
        self.completions.insert(id.clone(), here.clone());
        Some(here)
    }

    /// The answer here; only answers of pairs that were looked up are known.
    fn completion(&mut self, id: &CompletionId) -> Option<CompletionId> {
        if let Some(known) = self.completions.get(id) {
            return Some(known.clone());
        }
        let theirs = self.theirs.completion(id)?;
        let body = &self.theirs.prompt(&theirs.prompt)?.body;
        let prompt = self.prompts.get(body).copied()?;
        let same = self.mine.completion(id).filter(|c| c.prompt == *prompt && c.text == theirs.text).map(|c| &c.id);
        same.or_else(|| self.texts.get(&(prompt, &*theirs.text)).copied()).cloned()
    }
}

fn hash(value: &impl Serialize) -> String {
    let mut h = CanonicalHash::default();
    h.add(value);
    h.hex()
}
