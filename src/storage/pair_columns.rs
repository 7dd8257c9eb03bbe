//! The columns of an exported preference: TRL's, then what else is known of the pair.
//!
//! Owns the names and types of the columns. Every column is in every row and neither null nor an empty list in all of them, so that
//! a reader which takes the types from the first rows (`datasets`) can read the rest. Refuses to drop a vote: earlier ones of a rater are in the format `votes`.

use super::chat_json::{add_extras, answer_turns};
use crate::domain::{Choice, LabelledPair, PairRow, PromptBody, ReplyRef, Seen, Side, Strength};
use serde_json::{Value, json};

/// A preference with an explicit prompt.
pub(super) fn explicit(row: &PairRow, all: Option<&LabelledPair<'_>>) -> Value {
    let columns = match &row.prompt {
        PromptBody::Chat(talk) => {
            let (chosen, rejected) = (answer_turns(row.chosen_reply()), answer_turns(row.rejected_reply()));
            let mut columns = json!({"prompt": talk.turns, "chosen": chosen, "rejected": rejected});
            add_extras(&mut columns, talk);
            columns
        }
        PromptBody::Text(text) => json!({"prompt": text, "chosen": row.chosen, "rejected": row.rejected}),
    };
    with_labels(columns, row, all)
}

/// A preference with the prompt in front of both answers.
pub(super) fn implicit(row: &PairRow, all: Option<&LabelledPair<'_>>) -> Value {
    let columns = match &row.prompt {
        PromptBody::Chat(talk) => {
            let whole = |answer: ReplyRef<'_>| talk.followed_by(&answer_turns(answer)).turns;
            let mut columns = json!({"chosen": whole(row.chosen_reply()), "rejected": whole(row.rejected_reply())});
            add_extras(&mut columns, talk);
            columns
        }
        PromptBody::Text(text) => {
            json!({"chosen": format!("{text}{}", row.chosen), "rejected": format!("{text}{}", row.rejected)})
        }
    };
    with_labels(columns, row, all)
}

/// Adds what was said of the pair, or who corrected the rejected answer.
fn with_labels(mut columns: Value, row: &PairRow, all: Option<&LabelledPair<'_>>) -> Value {
    let more = all.map_or_else(|| correction(row), |all| labels(row, all));
    if let (Value::Object(columns), Value::Object(more)) = (&mut columns, more) {
        columns.extend(more);
    }
    columns
}

/// The columns of a corrected answer over its original: no vote and no strength.
fn correction(row: &PairRow) -> Value {
    json!({
        "id": row.pair,
        "strength": "",
        "margin": 0.0,
        "agreement": 1.0,
        "raters": row.rater.iter().collect::<Vec<_>>(),
        "votes": [],
        "adjudicated_by": "",
        "seen": "full",
        "partial": false,
        "model_chosen": "",
        "model_rejected": "",
        "adapter_chosen": "",
        "adapter_rejected": "",
        "strategy": row.strategy.as_deref().unwrap_or_default(),
        "p_select": 1.0,
        "tags": "",
        "note": "",
    })
}

fn labels(row: &PairRow, all: &LabelledPair<'_>) -> Value {
    let margin = row.margin.unwrap_or_default();
    let a_won = *all.a.text == *row.chosen;
    let (winner, loser) = if a_won { (all.a, all.b) } else { (all.b, all.a) };
    let (winner_run, loser_run) = if a_won { all.adapters } else { (all.adapters.1, all.adapters.0) };
    let latest: Vec<_> = all.votes.iter().filter(|vote| vote.latest).map(|vote| vote.verdict).collect();
    let votes: Vec<Value> = latest
        .iter()
        .map(|verdict| {
            let choice = match verdict.choice {
                Choice::Prefer(side, _) if (side == Side::A) == a_won => "chosen",
                Choice::Prefer(..) => "rejected",
                other => choice_word(other),
            };
            json!({
                "rater": verdict.rater, "choice": choice, "strength": strength_of(verdict.choice).unwrap_or_default(),
                "criterion": verdict.asked.criterion.as_deref().unwrap_or_default(), "partial": verdict.is_partial(),
            })
        })
        .collect();
    let seen = match () {
        () if latest.iter().any(|v| v.seen == Seen::Partial) => "partial",
        () if latest.iter().any(|v| v.seen == Seen::Unknown) => "unknown",
        () => "full",
    };
    let mut raters: Vec<&str> = Vec::new();
    for verdict in &latest {
        if !raters.contains(&verdict.rater.as_str()) {
            raters.push(verdict.rater.as_str());
        }
    }
    json!({
        "id": row.pair,
        "strength": strength_word(nearest(margin)),
        "margin": margin,
        "agreement": all.found.agreement,
        "raters": raters,
        "votes": votes,
        "adjudicated_by": all.adjudications.first().map_or("", |a| a.rater.as_str()),
        "seen": seen,
        "partial": latest.iter().any(|v| v.is_partial()),
        "model_chosen": winner.model,
        "model_rejected": loser.model,
        "adapter_chosen": winner_run.unwrap_or_default(),
        "adapter_rejected": loser_run.unwrap_or_default(),
        "strategy": all.pair.strategy,
        "p_select": all.pair.p_select,
        "tags": all.prompt.tags.join(", "),
        "note": note(all),
    })
}

/// The notes on a pair as one text; with several, each after its rater's name.
fn note(all: &LabelledPair<'_>) -> String {
    match all.notes.as_slice() {
        [] => String::new(),
        [(_, one)] => (*one).to_owned(),
        many => many.iter().map(|(rater, text)| format!("{rater}: {text}")).collect::<Vec<_>>().join("\n"),
    }
}

/// A choice without its strength, in the pair's own order.
pub(super) fn choice_word(choice: Choice) -> &'static str {
    match choice {
        Choice::Prefer(Side::A, _) => "a",
        Choice::Prefer(Side::B, _) => "b",
        Choice::Tie => "tie",
        Choice::BothBad => "both_bad",
        Choice::Skip => "skip",
    }
}

/// A choice's strength, in words.
pub(super) fn strength_of(choice: Choice) -> Option<&'static str> {
    match choice {
        Choice::Prefer(_, strength) => Some(strength_word(strength)),
        Choice::Tie | Choice::BothBad | Choice::Skip => None,
    }
}

fn strength_word(strength: Strength) -> &'static str {
    match strength {
        Strength::Slight => "slight",
        Strength::Better => "better",
        Strength::Much => "much",
    }
}

/// The strength whose margin is nearest to the mean margin of several votes.
fn nearest(margin: f64) -> Strength {
    match margin {
        m if m <= 0.5 => Strength::Slight,
        m if m <= 5.0 / 6.0 => Strength::Better,
        _ => Strength::Much,
    }
}
