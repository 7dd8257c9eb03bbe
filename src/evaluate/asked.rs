//! What an evaluation asks of its contestants before it begins: who can give it, and what to say first.
//!
//! Owns the refusal of a contestant that cannot give what a suite asks for, and the count of items that a contestant was
//! trained on. Refuses models and answers.

use super::item::{Item, ItemRequest};
use crate::domain::{Contestant, Finding, Severity, counted};
use crate::model::error::Error;
use crate::protocol::EvalSpec;
use std::collections::BTreeSet;

/// Refuses an evaluation in which a contestant cannot give what a suite asks for. `rewards` says who is a reward run.
///
/// # Errors
/// One sentence that names the contestant, the suite and the remedy.
pub(super) fn check_asked<'a>(
    spec: &EvalSpec,
    rewards: [bool; 2],
    suites: impl Iterator<Item = (&'a str, &'a [Item])>,
) -> Result<(), Error> {
    for (suite, items) in suites {
        let asks = |of: fn(&ItemRequest) -> bool| items.iter().any(|item| of(&item.ask));
        for side in Contestant::BOTH {
            let named = spec.side(side);
            if named.server.is_some() && asks(|ask| *ask != ItemRequest::Answer) {
                return Err(Error::Invalid(format!(
                    "the suite {suite} reads log-probs of given texts, which {} behind a server does not give: name a model on \
                     this machine, or leave out the suite",
                    named.name
                )));
            }
            if rewards[side.index()] && asks(|ask| matches!(ask, ItemRequest::Answer | ItemRequest::Text)) {
                return Err(Error::Invalid(format!(
                    "run {} is a reward model and gives neither answers nor log-probs, which the suite {suite} asks for: name \
                     another run, or leave out the suite",
                    named.name
                )));
            }
        }
        if rewards == [false; 2] && asks(|ask| matches!(ask, ItemRequest::Rewards(_))) {
            return Err(Error::Invalid(format!(
                "the suite {suite} asks for rewards, and neither {} nor {} is a reward run: name one with --a",
                spec.a.name, spec.b.name
            )));
        }
    }
    Ok(())
}

/// How often an item is measured for a side: once for each seed that draws an answer, and not at all where it asks for rewards
/// of another kind of model.
pub(super) fn measured(item: &Item, rewards: bool, seeds: usize) -> usize {
    match item.ask {
        ItemRequest::Answer => seeds,
        ItemRequest::Rewards(_) => usize::from(rewards),
        ItemRequest::Choices(_) | ItemRequest::Text => 1,
    }
}

/// The items of a suite whose prompt occurs in a contestant's training rows, as a finding; `trained` are hashes of these.
pub(super) fn trained_on(suite: &str, items: &[Item], trained: &BTreeSet<String>) -> Option<Finding> {
    let known: Vec<&Item> = items.iter().filter(|item| trained.contains(&item.prompt.asked_hash())).collect();
    let first = known.first()?;
    Some(Finding {
        rule: "trained_on".into(),
        step: 0,
        severity: Severity::Warn,
        text: format!(
            "A contestant was trained on the prompts of {} of the {} of suite {suite}, {} the first: its numbers are not held \
             out.",
            known.len(),
            counted(items.len(), "item"),
            first.name
        ),
        remedy: "Take these prompts out of the training rows and train again.".into(),
        pair: None,
    })
}

/// That two contestants cannot be compared token by token.
pub(super) fn other_vocabulary(spec: &EvalSpec) -> Finding {
    Finding {
        rule: "other_vocabulary".into(),
        step: 0,
        severity: Severity::Note,
        text: format!(
            "{} and {} have different tokenizers, so there is no KL between them, and nats per token are not comparable.",
            spec.a.name, spec.b.name
        ),
        remedy: "Compare the bits per character.".into(),
        pair: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::PromptBody;
    use crate::protocol::{EvalSide, ServerRef};

    fn side(name: &str, server: Option<ServerRef>) -> EvalSide {
        EvalSide { name: name.into(), model: None, adapter: None, server }
    }

    fn item(ask: ItemRequest) -> Item {
        Item { name: "one".into(), prompt: PromptBody::user("Is it?"), ask, data: serde_json::Value::Null }
    }

    fn refused(a: EvalSide, rewards: [bool; 2], ask: ItemRequest) -> Option<String> {
        let spec = EvalSpec { a, b: side("base", None), suites: Vec::new(), judges: Vec::new(), seeds: 1 };
        check_asked(&spec, rewards, [("x", &[item(ask)][..])].into_iter()).err().map(|e| e.to_string())
    }

    #[test]
    fn a_contestant_that_cannot_give_what_is_asked_is_refused_in_one_sentence() {
        let answers = || vec!["Yes.".to_owned(), "No.".to_owned()];
        let run = || side("reward-1", None);
        assert_eq!(refused(run(), [true, false], ItemRequest::Choices(answers())), None);
        assert_eq!(refused(run(), [true, false], ItemRequest::Rewards(answers())), None);
        for ask in [ItemRequest::Answer, ItemRequest::Text] {
            let why = refused(run(), [true, false], ask).unwrap();
            assert!(why.starts_with("run reward-1 is a reward model") && why.contains("suite x"), "{why}");
        }
        let why = refused(side("dpo-1", None), [false; 2], ItemRequest::Rewards(answers())).unwrap();
        assert!(why.contains("neither dpo-1 nor base is a reward run"), "{why}");
        let server = ServerRef::parse("http://localhost:1#m", &crate::protocol::ServerOptions::default()).unwrap();
        let why = refused(side("m", Some(server)), [false; 2], ItemRequest::Text).unwrap();
        assert!(why.contains("m behind a server does not give"), "{why}");
    }

    #[test]
    fn a_prompt_is_recognised_in_training_rows_in_any_form() {
        let trained = BTreeSet::from([PromptBody::Text(" Is it?\n".into()).asked_hash()]);
        let found = trained_on("x", &[item(ItemRequest::Answer)], &trained).unwrap();
        assert!(found.text.contains("1 of the 1 item of suite x"), "{}", found.text);
        let other = Item { prompt: PromptBody::user("Was it?"), ..item(ItemRequest::Answer) };
        assert_eq!(trained_on("x", &[other], &trained), None);
    }
}
