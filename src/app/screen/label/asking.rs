//! What the label screen asks for and of whom: the order of the queue, its filter, the criterion; and the prompt's tags.
//!
//! ```text
//! demo › label › helpful › 12 match tag:code        3 of 12 ██░░░░   ✓ saved
//! ── helpful (2 of 3): Which answer does more of what the user asked for? · p4 ──
//! ┌ label the pairs that match ─────────────────────────────────────────────┐
//! │ tag:code -verdict:tie▏                                                  │
//! │ tag: source: prompt: text: … · empty clears                             │
//! └─────────────────────────────────────────────────────────────────────────┘
//! ```

use super::card::Card;
use crate::app::edit::EditBuffer;
use crate::app::effect::Effect;
use crate::app::flow;
use crate::app::palette::{Palette, PaletteEntry, Pick};
use crate::app::popup::{InputPurpose, Popup, TextInput};
use crate::app::shared::Shared;
use crate::app::wrap::presentable;
use crate::domain::{
    CRITERIA, Criterion, Filter, OVERALL, PairId, PromptId, QueueOrder, RubricPass, TagChange, counted, filter_words,
    quoted_words, tag_problem,
};
use crate::protocol::SessionRecord;

/// What was asked for, to be told once its queue is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// An order, with the number of contested labels or disputes.
    Order(usize),
    /// A filter.
    Filter,
}

/// Switches the order of the queue to the next one that has pairs. None if it stays as it is.
pub(super) fn toggle_order(model: &mut Shared) -> Option<Awaited> {
    let open = model.open.as_mut()?;
    if open.is_blind() {
        let key = model.keys.key("label", "filter");
        model.warn(format!("an evaluation's pairs have an order of their own: clear the filter first ({key})"));
        return None;
    }
    let (session, criterion) = (&open.session, open.rubric.criterion());
    // How many pairs an order has: only that there are any matters of those that are not shown.
    let pairs = |order: QueueOrder| match order {
        QueueOrder::Uncertain => {
            let scored = |id: &PairId| session.pair(id).is_some_and(|pair| session.score_gap(pair).is_some());
            usize::from(session.has_scores() && open.queue.iter().any(scored))
        }
        QueueOrder::Contested => session.queue_by(&open.rater, order, &open.rubric).len(),
        QueueOrder::Disputed => session.disputes_on(criterion).len(),
        QueueOrder::Arrival | QueueOrder::Random | QueueOrder::BestWorst => 1,
    };
    let cycle = [QueueOrder::Arrival, QueueOrder::Uncertain, QueueOrder::Contested, QueueOrder::Disputed];
    let at = cycle.iter().position(|order| *order == open.order).unwrap_or(0);
    let following = (1..=cycle.len()).map(|i| cycle[(at + i) % cycle.len()]);
    let next = following.map(|order| (order, pairs(order))).find(|(_, any)| *any > 0);
    let (order, any) = next.unwrap_or((QueueOrder::Arrival, 1));
    if order == open.order {
        let name = open.meta.name.clone();
        model.warn(format!("no pair left to label has scores; `tiebreak score {name} --with RUN` adds them"));
        return None;
    }
    open.set_order(order);
    model.order = order;
    Some(Awaited::Order(any))
}

/// Says what the queue is now that was asked for.
pub(super) fn tell(model: &mut Shared, awaited: Awaited) {
    let Some(open) = &model.open else { return };
    let notice = match awaited {
        Awaited::Filter => return tell_filter(model),
        Awaited::Order(any) => match open.order {
            QueueOrder::Uncertain => {
                let (scored, left) = (open.scored, open.queue.len());
                format!("least certain scores first: {scored} of {left} pairs have scores")
            }
            QueueOrder::Contested => {
                format!("{}, widest gap first: what you say now counts", counted(any, "contested label"))
            }
            QueueOrder::Disputed => {
                format!("{}, lowest agreement first: your decision settles each", counted(any, "dispute"))
            }
            QueueOrder::Arrival | QueueOrder::Random | QueueOrder::BestWorst => "pairs in order of arrival".to_owned(),
        },
    };
    model.say(notice);
}

/// Asks for a filter.
pub(super) fn ask_filter(model: &mut Shared) {
    let Some(open) = &model.open else { return };
    let text = open.filter().map(ToString::to_string).unwrap_or_default();
    let hint = format!("empty clears · -term: not · {}", filter_words());
    flow::input(model, "label the pairs that match", &hint, InputPurpose::Filter, &text);
}

/// Sets the filter that was typed, or asks again: then false.
pub(super) fn set_filter(model: &mut Shared, input: TextInput) -> bool {
    let filter = match Filter::parse(input.buffer.text()) {
        Ok(filter) => Some(filter).filter(|filter| !filter.is_empty()),
        Err(error) => {
            model.popups.push(Popup::Input(TextInput { error: Some(error.to_string()), ..input }));
            return false;
        }
    };
    let Some(open) = &mut model.open else { return false };
    open.set_filter(filter.clone());
    model.filter = filter;
    true
}

fn tell_filter(model: &mut Shared) {
    let Some(open) = &model.open else { return };
    let (matching, left) = (open.matching(), open.queue.len());
    let notice = open.filter().map(|filter| {
        let counts = format!(
            "{} of {} match, {left} to label",
            matching,
            counted(open.session.pairs_for(Some(filter)).count(), "pair")
        );
        let unblinds = filter.unblinds() && matching > 0;
        if unblinds { format!("{counts}. A filter by model may tell you who wrote an answer.") } else { counts }
    });
    let unblinds = open.filter().is_some_and(Filter::unblinds);
    match notice {
        Some(notice) if unblinds => model.warn(notice),
        Some(notice) => model.say(notice),
        None => model.say("no filter: every pair"),
    }
}

/// Asks what to judge by.
pub(super) fn ask_rubric(model: &mut Shared) {
    let Some(open) = &model.open else { return };
    let criteria = open.session.criteria();
    if criteria.is_empty() {
        return ask_criterion(model);
    }
    let entry = |title: &str, about: String, rubric: RubricPass| PaletteEntry {
        about,
        ..PaletteEntry::new(presentable(title), String::new(), Pick::Rubric(rubric))
    };
    let mut entries = vec![entry(OVERALL, "Which answer is better?".into(), RubricPass::Overall)];
    entries.extend(criteria.iter().map(|c| entry(&c.name, presentable(&c.sentence), RubricPass::One(c.name.clone()))));
    entries.push(entry("all", "overall, then each criterion, before the next pair".into(), RubricPass::All));
    entries.push(PaletteEntry::new("add a criterion".into(), String::new(), Pick::NewCriterion));
    model.popups.push(Popup::Palette(Palette::new("judge by", entries)));
}

/// Asks for a new criterion.
pub(super) fn ask_criterion(model: &mut Shared) {
    if flow::writable(model) {
        let known: Vec<&str> = CRITERIA.iter().map(|(name, _)| *name).collect();
        let hint = format!("{}, or a name with its question: kind: Which answer is kinder?", known.join(", "));
        flow::input(model, "add a criterion to judge by", &hint, InputPurpose::Criterion, "");
    }
}

/// Adds the typed criterion and judges by it, or asks again.
pub(super) fn save_criterion(model: &mut Shared, input: TextInput) -> Vec<Effect> {
    let Criterion { name, sentence } = match Criterion::parse(input.buffer.text()) {
        Ok(criterion) => criterion,
        Err(error) => {
            model.popups.push(Popup::Input(TextInput { error: Some(error), ..input }));
            return Vec::new();
        }
    };
    let Some(open) = &mut model.open else { return Vec::new() };
    let said = format!("judging by {name}: {sentence}");
    let effects = open.write(&SessionRecord::CriterionSet { name: name.clone(), sentence: Some(sentence) });
    set_rubric(model, RubricPass::One(name));
    model.say(presentable(&said));
    effects
}

/// Sets what to judge by.
pub(super) fn set_rubric(model: &mut Shared, rubric: RubricPass) {
    let Some(open) = &mut model.open else { return };
    open.set_rubric(rubric.clone());
    model.rubric = rubric;
    model.touch();
}

/// Asks for the tags of the shown prompt.
pub(super) fn ask_tags(card: Option<&Card>, model: &mut Shared) {
    if !flow::writable(model) {
        return;
    }
    let (Some(open), Some(card)) = (&model.open, card) else {
        return model.warn("no prompt is shown");
    };
    let quoted = |tag: &str| if tag.contains(char::is_whitespace) { format!("\"{tag}\"") } else { tag.to_owned() };
    let tags = open.session.prompt(&card.prompt_id).map_or(&[][..], |prompt| prompt.tags.as_slice());
    let text: Vec<String> = tags.iter().map(|tag| quoted(tag)).collect();
    let known: Vec<String> = open.session.known_tags().into_iter().map(quoted).collect();
    let hint = if known.is_empty() {
        "tags with blanks between them; none takes all off".to_owned()
    } else {
        format!("tab completes: {}", presentable(&known.join(" ")))
    };
    model.popups.push(Popup::Input(TextInput {
        title: format!("tags of prompt {}", card.prompt_id),
        hint,
        buffer: EditBuffer::line(if text.is_empty() { String::new() } else { text.join(" ") + " " }),
        purpose: InputPurpose::Tags { prompt: card.prompt_id.clone(), known },
        error: None,
    }));
}

/// Records the difference between a prompt's tags and those typed, or asks again.
pub(super) fn save_tags(model: &mut Shared, prompt: &PromptId, input: TextInput) -> Vec<Effect> {
    let words = quoted_words(input.buffer.text()).map_err(|e| e.what);
    let words = words.and_then(|words| match words.iter().find_map(|tag| tag_problem(tag)) {
        Some(problem) => Err(problem),
        None => Ok(words),
    });
    let words = match words {
        Ok(words) => words,
        Err(error) => {
            model.popups.push(Popup::Input(TextInput { error: Some(error), ..input }));
            return Vec::new();
        }
    };
    let Some(open) = &mut model.open else { return Vec::new() };
    let before: Vec<String> = open.session.prompt(prompt).map(|p| p.tags.to_vec()).unwrap_or_default();
    let off = before.iter().filter(|tag| !words.contains(tag)).map(|tag| (tag.clone(), false));
    let on = words.iter().filter(|tag| !before.contains(tag)).map(|tag| (tag.clone(), true));
    let mut changes: Vec<(String, bool)> = Vec::new();
    for change in off.chain(on) {
        if !changes.contains(&change) {
            changes.push(change);
        }
    }
    let mut effects = Vec::new();
    for (tag, on) in &changes {
        let rater = open.rater.clone();
        let change = TagChange { prompt: prompt.clone(), tag: tag.clone(), rater, on: *on };
        effects.extend(open.write(&SessionRecord::Tagged(change)));
    }
    let undo = model.keys.key("label", "undo");
    match changes.as_slice() {
        [] => model.say("nothing changed"),
        [_] => model.say(format!("tag changed; {undo} undoes it")),
        many => model.say(format!("{} changed; {undo} undoes them one by one", counted(many.len(), "tag"))),
    }
    effects
}

/// Says that a tag was undone or redone.
pub(super) fn say_retagged(model: &mut Shared, change: &TagChange, undo: bool) {
    let (tag, prompt) = (presentable(&change.tag), &change.prompt);
    model.say(if change.on == undo { format!("{prompt}: {tag} taken off") } else { format!("{prompt}: {tag} set") });
}

/// Gives the shown card the tags of its prompt as they are now.
pub(super) fn show_tags(card: Option<&mut Card>, model: &mut Shared) {
    if let (Some(open), Some(card)) = (&model.open, card)
        && let Some(prompt) = open.session.prompt(&card.prompt_id)
    {
        card.tags = prompt.tags.iter().map(|tag| presentable(tag)).collect();
    }
    model.touch();
}
