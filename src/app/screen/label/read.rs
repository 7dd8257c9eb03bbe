//! Reading the shown pair: scrolling the prompt, Markdown or raw, thoughts, finding, copying.
//!
//! Owns what these keys do. Refuses everything that decides: no key here writes a record.

use super::card::{Card, Pane};
use super::reading::AnswerView;
use super::score::verdict_words;
use crate::app::effect::Effect;
use crate::app::find::{Find, FindPlace, FoundPair};
use crate::app::palette::{Palette, PaletteEntry, Pick};
use crate::app::popup::Popup;
use crate::app::shared::Shared;
use crate::app::wrap::{clip, presentable};
use crate::domain::{PairId, PromptBody};

/// The most base64 bytes that terminals take as a copy; longer ones drop it without a word.
const MOST_BASE64: usize = 74_994;

/// The actions of these keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadAction {
    /// Scroll the prompt a line down.
    PromptDown,
    /// Scroll the prompt a line up.
    PromptUp,
    /// Give the prompt most of the screen, or take it back.
    Expand,
    /// Show Markdown as styles, or as written.
    Raw,
    /// Unfold the thoughts, or fold them.
    Thoughts,
    /// Find pairs by their text.
    Find,
    /// Choose a pair.
    GoTo,
    /// Copy the focused answer.
    CopyAnswer,
    /// Copy the prompt.
    CopyPrompt,
}

/// Runs an action; the card must be laid out afterwards.
pub fn act(
    card: Option<&mut Card>,
    view: &mut AnswerView,
    diff: bool,
    model: &mut Shared,
    action: ReadAction,
) -> Vec<Effect> {
    let find = |title| Popup::Find(Box::new(Find::new(title)));
    match action {
        ReadAction::Find => model.popups.push(find("find in prompts, answers, corrections and notes")),
        ReadAction::GoTo => model.popups.push(find("go to a pair, by name or text")),
        _ => {}
    }
    if matches!(action, ReadAction::Find | ReadAction::GoTo) {
        return Vec::new();
    }
    let Some(card) = card else {
        model.warn("no pair is shown");
        return Vec::new();
    };
    match action {
        ReadAction::PromptDown | ReadAction::PromptUp => {
            let down = action == ReadAction::PromptDown;
            if !card.prompt.is_cut() {
                model.say("the whole prompt is on the screen");
            }
            card.prompt.scroll_by(if down { 1 } else { -1 });
        }
        ReadAction::Expand => {
            card.prompt.toggle();
        }
        ReadAction::Raw => {
            let markdown = card.shown.iter().any(|shown| shown.markdown);
            view.raw = !view.raw;
            let key = model.keys.key("label", "diff");
            model.say(match (view.raw, diff, markdown) {
                (_, true, _) => format!("differences are marked in the raw text: {key} turns them off"),
                (_, _, false) => "neither answer has Markdown: raw and rendered are the same".into(),
                (true, ..) => "answers as written".into(),
                (false, ..) => "answers with Markdown rendered".into(),
            });
        }
        ReadAction::Thoughts => {
            if card.thoughts.iter().all(Vec::is_empty) {
                model.say("neither answer has a thought");
                return Vec::new();
            }
            view.unfolded = !view.unfolded;
        }
        ReadAction::CopyAnswer => return copy_answer(card, model),
        ReadAction::CopyPrompt => return copy_prompt(card, model),
        ReadAction::Find | ReadAction::GoTo => {}
    }
    Vec::new()
}

/// The pane of the first (0) or second (1) answer.
fn pane(i: usize) -> Pane {
    if i == 0 { Pane::First } else { Pane::Second }
}

/// The shown text that a match is in, unsanitised, the place of the match in it, and its pane; none for a match that is
/// not on the card.
fn found_text<'a>(card: &Card, model: &'a Shared, found: &FoundPair) -> Option<(&'a str, usize, Pane)> {
    let (place, at) = found.place.filter(|_| card.pair == found.pair)?;
    let open = model.open.as_ref()?;
    let text = match place {
        FindPlace::Answer(i) if !card.corrected[i] => &open.session.completion(card.completion(pane(i)))?.text,
        FindPlace::Correction(i) if card.corrected[i] => {
            open.session.correction_of(card.completion(pane(i)), &open.rater)?
        }
        _ => return None,
    };
    let (FindPlace::Answer(i) | FindPlace::Correction(i)) = place else { return None };
    Some((text, at, pane(i)))
}

/// Whether a match lies in a thought, which must be unfolded to show it.
pub fn is_in_thought(card: &Card, model: &Shared, found: &FoundPair) -> bool {
    let Some((raw, at, pane)) = found_text(card, model, found) else { return false };
    let place = presentable(&raw[..raw.floor_char_boundary(at)]).len();
    card.thoughts[pane.index()].iter().any(|thought| thought.range.contains(&place))
}

/// Scrolls to a match.
pub fn reveal(card: &mut Card, model: &mut Shared, found: &FoundPair) {
    if let Some((raw, at, pane)) = found_text(card, model, found) {
        return card.reveal(pane, raw, at);
    }
    match found.place.filter(|_| card.pair == found.pair) {
        Some((FindPlace::Prompt(turn), at)) => reveal_prompt(card, turn, at),
        Some((FindPlace::Answer(i) | FindPlace::Correction(i), _)) => {
            card.focus = pane(i);
            let (key, other) =
                (model.keys.key("label", "original"), if card.corrected[i] { "original" } else { "correction" });
            model.say(format!("the match is in the {other} of answer {}: {key} shows it", i + 1));
        }
        _ => {}
    }
}

/// Scrolls to a place of a turn. Sanitising may move it by a few bytes, never out of its turn.
fn reveal_prompt(card: &mut Card, turn: usize, at: usize) {
    if let Some(shown) = card.prompt.turns.get(turn) {
        let place = (shown.role.end + at).min(shown.range.end);
        card.prompt.reveal(place);
    }
}

fn copy_answer(card: &Card, model: &mut Shared) -> Vec<Effect> {
    let Some(open) = &model.open else { return Vec::new() };
    let (answer, number) = (card.completion(card.focus), card.focus.number());
    if card.corrected[card.focus.index()]
        && let Some(text) = open.session.correction_of(answer, &open.rater).map(str::to_owned)
    {
        return copy(model, format!("your correction of answer {number}"), text);
    }
    if let Some(writing) = &card.writing {
        return copy(model, format!("what there is of answer {number}"), writing.raw[card.focus.index()].clone());
    }
    let Some(text) = open.session.completion(answer).map(|answer| answer.text.to_string()) else { return Vec::new() };
    copy(model, format!("answer {number}"), text)
}

fn copy_prompt(card: &Card, model: &mut Shared) -> Vec<Effect> {
    let Some(open) = &model.open else { return Vec::new() };
    let Some(prompt) = open.session.prompt(&card.prompt_id) else { return Vec::new() };
    let text = match &prompt.body {
        PromptBody::Text(text) => text.clone(),
        PromptBody::Chat(turns) => match &turns[..] {
            [one] => one.content.clone(),
            turns => {
                let turns: Vec<String> = turns.iter().map(|t| format!("{}: {}", t.role, t.readable())).collect();
                turns.join("\n\n")
            }
        },
    };
    copy(model, format!("prompt of {}", card.name), text)
}

/// Asks the shell to copy a text, exactly as it is.
fn copy(model: &mut Shared, what: String, text: String) -> Vec<Effect> {
    let encoded = text.len().div_ceil(3) * 4;
    if text.is_empty() {
        model.warn(format!("{what} is empty: nothing to copy"));
        return Vec::new();
    }
    if encoded > MOST_BASE64 {
        let (has, most) = (text.len(), MOST_BASE64 / 4 * 3);
        model
            .warn(format!("{what} has {has} bytes, and a terminal copies at most {most}: `tiebreak export` writes it"));
        return Vec::new();
    }
    vec![Effect::Copy { what, text }]
}

/// Asks for one of the pairs that `among` accepts, and shows it.
pub fn ask_pair(model: &mut Shared, among: impl Fn(&PairId) -> bool) {
    let Some(open) = &model.open else { return };
    let entries = open.session.pairs_for(open.filter()).filter(|pair| among(&pair.id)).filter_map(|pair| {
        let prompt = open.session.prompt(&pair.prompt)?;
        let verdict = open.session.verdict_of(&pair.id, &open.rater).map(|(_, verdict)| verdict_words(verdict));
        Some(PaletteEntry::new(
            format!("{}  {}", open.names.name(&open.session, pair), clip(&presentable(prompt.body.headline()), 60)),
            verdict.unwrap_or_default(),
            Pick::Pair(pair.id.clone()),
        ))
    });
    let palette = Palette::new("which pair", entries.collect());
    model.popups.push(Popup::Palette(palette));
}
