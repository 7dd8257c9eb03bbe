//! What rows hold that the model's chat template does not write: tools, thoughts, calls of tools, template variables; and turns
//! that say nothing.
//!
//! Owns finding it, counting it, and its words. A part is overlooked where the conversation's tokens are the same without it. Refuses
//! to learn a turn that is nothing but a call which no token writes: the model would learn to say nothing.

use super::encode::Encode;
use super::rows::Rows;
use crate::domain::{
    Conversation, Finding, Message, PairId, PromptBody, ReplyRef, Severity, SftBody, counted, sanitise,
};
use std::collections::BTreeMap;

/// The rule of these findings.
pub(crate) const RULE: &str = "template_overlooks";

/// The reason of a row whose answer is a call that is not written.
const UNWRITTEN_CALL: &str = "an answer that is a call of a tool, which the chat template does not write";

/// The names under which a message holds its reasoning.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// What was overlooked, each with the number of rows and the first of them.
#[derive(Default)]
pub(super) struct Overlooked {
    found: BTreeMap<String, (usize, PairId)>,
    /// The variables that the template reads, once asked for; none where that is not known.
    reads: Option<Vec<String>>,
    asked: bool,
}

impl Overlooked {
    /// Looks at row `i`. Returns why it is to be left out.
    pub(super) fn look(&mut self, encode: &dyn Encode, rows: &Rows, i: usize) -> Option<&'static str> {
        let (id, talks) = talks(rows, i);
        let mut parts: Vec<String> = Vec::new();
        let mut why = None;
        for talk in talks {
            let (seen, unwritten) = self.parts(encode, &talk);
            parts.extend(seen);
            why = why.or(unwritten);
        }
        parts.sort();
        parts.dedup();
        for part in parts {
            self.found.entry(part).or_insert_with(|| (0, id.clone())).0 += 1;
        }
        why
    }

    /// The parts of a conversation that are not written.
    fn parts(&mut self, encode: &dyn Encode, talk: &Conversation) -> (Vec<String>, Option<&'static str>) {
        let mut parts = Vec::new();
        let mut why = None;
        let same = |other: &Conversation| {
            let whole = encode.conversation(talk, false);
            // A template that refuses one of the two reads what differs.
            whole.and_then(|whole| Ok(whole == encode.conversation(other, false)?)).unwrap_or(false)
        };
        if !talk.tools().is_empty() {
            let mut without = talk.clone();
            without.set_tools(Vec::new());
            if same(&without) {
                parts.push("tools".into());
            }
        }
        let without = |names: &[&str]| talk.with_turns(talk.iter().map(|turn| turn.without(names)).collect());
        if talk.iter().any(|turn| turn.reasoning().is_some()) && same(&without(&REASONING)) {
            parts.push("thoughts".into());
        }
        if talk.iter().any(|turn| !turn.tool_calls().is_empty()) && same(&without(&["tool_calls"])) {
            parts.push("calls of tools".into());
            let bare =
                |turn: &Message| learned(turn) && turn.content.trim().is_empty() && !turn.tool_calls().is_empty();
            why = talk.iter().any(bare).then_some(UNWRITTEN_CALL);
        }
        if talk.iter().any(|turn| learned(turn) && turn.is_blank()) {
            parts.push(EMPTY_TURNS.into());
        }
        if !talk.variables().is_empty() && !self.asked {
            (self.reads, self.asked) = (encode.variables(), true);
        }
        if let Some(reads) = &self.reads {
            let unread = talk.variables().keys().filter(|name| !reads.contains(name));
            parts.extend(unread.map(|name| format!("`{}`", sanitise(name))));
        }
        (parts, why)
    }

    /// A finding for each.
    pub(super) fn findings(self) -> impl Iterator<Item = Finding> {
        self.found.into_iter().map(|(part, (rows, first))| {
            let of = counted(rows, "row");
            let (has, sets) = if rows == 1 { ("has", "sets") } else { ("have", "set") };
            let (text, remedy) = if part == EMPTY_TURNS {
                let text = format!("{of} {has} an answer without a text among the turns: it is read, not learned.");
                (text, "Remove such turns, or give them a text.")
            } else if part.starts_with('`') {
                let text = format!("The chat template never reads {part}, which {of} {sets}.");
                (text, "Use a name that the template reads: `tiebreak models show MODEL` lists them.")
            } else {
                let text = format!(
                    "The chat template does not write {part}: {of} {has} some, and the model does not read them."
                );
                (text, "Use a model whose template writes them, or write them into the texts.")
            };
            let remedy = remedy.to_owned();
            Finding { rule: RULE.into(), step: 0, severity: Severity::Warn, text, remedy, pair: Some(first) }
        })
    }
}

/// The name of turns that say nothing.
const EMPTY_TURNS: &str = "empty turns";

fn learned(turn: &Message) -> bool {
    turn.role == "assistant" && turn.trains() != Some(false)
}

/// A row's conversations that hold more than texts.
fn talks(rows: &Rows, i: usize) -> (PairId, Vec<Conversation>) {
    let (id, prompt, answers): (PairId, &PromptBody, Vec<ReplyRef<'_>>) = match rows {
        Rows::Pairs(rows) => {
            (rows[i].pair.clone(), &rows[i].prompt, vec![rows[i].chosen_reply(), rows[i].rejected_reply()])
        }
        Rows::Ratings(rows) => (rows[i].id.clone(), &rows[i].prompt, vec![rows[i].reply()]),
        Rows::Prompts(rows) => (PairId::new(rows[i].id.as_str()), &rows[i].body, vec![]),
        Rows::Examples(rows) => match &rows[i].body {
            SftBody::Messages(talk) => {
                return (rows[i].id.clone(), has_more(talk).then(|| talk.clone()).into_iter().collect());
            }
            SftBody::Completion { prompt, .. } => (rows[i].id.clone(), prompt, vec![]),
            SftBody::Text(_) => return (rows[i].id.clone(), Vec::new()),
        },
    };
    let PromptBody::Chat(talk) = prompt else { return (id, Vec::new()) };
    if !has_more(talk) && !answers.iter().any(|answer| answer.turns.iter().any(says_more)) {
        return (id, Vec::new());
    }
    // What a prompt's own turns say is not learned.
    let asked = talk.with_turns(talk.iter().map(Message::untrained).collect());
    let turns = answers.iter().filter(|answer| !answer.turns.is_empty());
    let mut talks: Vec<Conversation> = turns.map(|answer| asked.followed_by(answer.turns)).collect();
    if talks.is_empty() {
        talks.push(asked);
    }
    (id, talks)
}

fn has_more(talk: &Conversation) -> bool {
    !talk.is_plain() || talk.iter().any(says_more)
}

/// Whether a turn holds more than its text, or nothing.
fn says_more(turn: &Message) -> bool {
    turn.reasoning().is_some() || !turn.tool_calls().is_empty() || learned(turn) && turn.is_blank()
}

#[cfg(test)]
mod tests {
    use super::super::{TokeniseOptions, Tokenised, tokenise};
    use super::*;
    use crate::domain::{PairRow, PromptId, SftRow};
    use crate::model::error::Error;
    use serde_json::{Value, json};

    /// A template that writes the turns' texts, and with `all` tools, thoughts and calls too. A turn ends with 0.
    struct Writes {
        all: bool,
    }

    impl Encode for Writes {
        fn context(&self) -> usize {
            0
        }

        fn conversation(&self, talk: &Conversation, open: bool) -> Result<Vec<u32>, Error> {
            let mut text = if self.all { Value::from(talk.tools()).to_string() } else { String::new() };
            for turn in talk {
                text.push_str(&turn.role.as_str()[..1]);
                text.push_str(&if self.all { turn.readable() } else { turn.content.clone() });
                text.push('\0');
            }
            text.push_str(if open { "a" } else { "" });
            Ok(text.bytes().map(u32::from).collect())
        }

        fn separator(&self, _turn: &[u32]) -> usize {
            0
        }

        fn ending(&self, _turn: &[u32]) -> usize {
            1
        }

        fn opens_thought(&self, _prompt: &PromptBody) -> Result<bool, Error> {
            Ok(false)
        }

        fn text(&self, text: &str) -> Result<Vec<u32>, Error> {
            Ok(text.bytes().map(u32::from).collect())
        }

        fn variables(&self) -> Option<Vec<String>> {
            Some(vec!["known".into()])
        }

        fn prompt(&self, prompt: &PromptBody) -> Result<Vec<u32>, Error> {
            match prompt {
                PromptBody::Chat(talk) => self.conversation(talk, true),
                PromptBody::Text(text) => self.text(text),
            }
        }

        fn answered(&self, prompt: &PromptBody, answer: &str) -> Result<Vec<u32>, Error> {
            let PromptBody::Chat(talk) = prompt else { return self.text(answer) };
            self.conversation(&talk.followed_by(&[Message::assistant(answer)]), false)
        }
    }

    fn talk(value: Value) -> Conversation {
        serde_json::from_value(value).unwrap()
    }

    fn texts(all: bool, talks: Vec<Value>) -> Tokenised {
        let row = |(i, value): (usize, Value)| SftRow {
            id: PairId::new(format!("t{i}")),
            prompt_id: PromptId::new("p"),
            body: SftBody::Messages(talk(value)),
        };
        let rows = Rows::Examples(talks.into_iter().enumerate().map(row).collect());
        let options = TokeniseOptions { assistant_only: true, ..TokeniseOptions::new(1000) };
        tokenise(&Writes { all }, &rows, &options, |_| Ok(())).unwrap()
    }

    fn said(out: &Tokenised) -> Vec<&str> {
        out.findings.iter().map(|finding| finding.text.as_str()).collect()
    }

    #[test]
    fn what_a_template_does_not_write_is_counted_and_one_that_writes_it_says_nothing() {
        let asked = json!({"role": "user", "content": "q"});
        let rows = || {
            vec![
                json!({"messages": [asked, {"role": "assistant", "content": "x", "thinking": "t"}], "tools": [{"name": "f"}]}),
                json!({"messages": [asked, {"role": "assistant", "content": "y"}], "tools": [{"name": "f"}]}),
                json!({"messages": [asked, {"role": "assistant", "content": "z"}],
                       "chat_template_kwargs": {"known": 1, "other": 2}}),
            ]
        };
        let out = texts(false, rows());
        assert_eq!(
            said(&out),
            [
                "The chat template never reads `other`, which 1 row sets.",
                "The chat template does not write thoughts: 1 row has some, and the model does not read them.",
                "The chat template does not write tools: 2 rows have some, and the model does not read them.",
            ]
        );
        assert_eq!((out.train.len(), out.findings[2].pair.clone()), (3, Some(PairId::new("t0"))));
        assert_eq!(said(&texts(true, rows())), ["The chat template never reads `other`, which 1 row sets."]);
    }

    #[test]
    fn a_call_that_no_token_writes_is_not_learned_as_an_empty_answer() {
        let call = json!({"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]});
        let row = json!([{"role": "user", "content": "q"}, call]);
        let out = texts(false, vec![row.clone()]);
        assert_eq!((out.train.len(), out.dropped[0].reason.as_str(), out.dropped[0].count), (0, UNWRITTEN_CALL, 1));
        assert_eq!(texts(true, vec![row]).train.len(), 1);
        // The same of a pair's answer; a call in the prompt is only read.
        let pair = |prompt: Value, turns: Value| PairRow {
            turns: crate::domain::PairTurns::of(&talk(turns), &[]),
            pair: PairId::new("q"),
            prompt_id: PromptId::new("p"),
            prompt: PromptBody::Chat(talk(prompt)),
            chosen: "→ f()".into(),
            rejected: "no".into(),
            margin: None,
            agreed: None,
            strategy: None,
            rater: None,
        };
        let made = |row: PairRow| {
            tokenise(&Writes { all: false }, &Rows::Pairs(vec![row]), &TokeniseOptions::new(1000), |_| Ok(())).unwrap()
        };
        let user = json!({"role": "user", "content": "q"});
        let out = made(pair(json!([user]), json!([call])));
        assert_eq!((out.train.len(), out.dropped[0].reason.as_str()), (0, UNWRITTEN_CALL));
        let out = made(pair(json!([user, call, {"role": "tool", "content": "1"}]), json!([])));
        assert_eq!((out.train.len(), out.dropped.len(), said(&out).len()), (1, 0, 1));
    }

    #[test]
    fn a_turn_that_says_nothing_is_read_and_not_learned() {
        let user = json!({"role": "user", "content": "q"});
        let turn = |text: &str| json!({"role": "assistant", "content": text});
        let out = texts(true, vec![json!([user, turn(""), user, turn("xy")])]);
        assert_eq!(said(&out), ["1 row has an answer without a text among the turns: it is read, not learned."]);
        let row = &out.train[0].rows[0];
        let learned: Vec<u32> = row.scored.iter().map(|at| row.ids[*at]).collect();
        assert_eq!(learned, [u32::from(b'x'), u32::from(b'y'), 0]);
        // One that is not trained on anyway is not worth a word.
        let quiet = json!({"role": "assistant", "content": "", "train": false});
        assert_eq!(said(&texts(true, vec![json!([user, quiet, user, turn("xy")])])).len(), 0);
    }
}
