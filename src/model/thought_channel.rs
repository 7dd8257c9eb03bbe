//! Thoughts in a channel, as Gemma 4 writes them: `<|channel>thought\n…<channel|>` in front of the answer.
//!
//! Owns their text, `<think>…</think>`, and the way back into a template's own field. A thought that is cut stays open, so that it is
//! no answer; an empty one, which the larger models write with thinking off, is left out. Refuses to look for channels in plain text:
//! only the control tokens begin and end one.

use super::error::Error;
use super::template::Template;
use crate::domain::{Message, leading_thought};

/// What stands before the thought.
const HEADER: &str = "thought\n";
/// A template's text before a thought.
const OPENING: &str = "<|channel>thought";
/// The field in which the template expects a thought.
const FIELD: &str = "reasoning";

/// The control tokens of a tokenizer with a thought channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct ThoughtTokens {
    open: u32,
    close: u32,
}

impl ThoughtTokens {
    /// Those of a tokenizer that has both.
    pub(super) fn of(id: impl Fn(&str) -> Option<u32>) -> Option<Self> {
        Some(Self { open: id("<|channel>")?, close: id("<channel|>")? })
    }

    /// Whether a channel begins or ends in these tokens.
    pub(super) fn occur_in(self, ids: &[u32]) -> bool {
        ids.iter().any(|id| [self.open, self.close].contains(id))
    }

    /// The text of drawn tokens. `plain` decodes tokens without special ones. Where the prompt opened the thought, its end alone is
    /// among them.
    ///
    /// # Errors
    /// Those of `plain`.
    pub(super) fn text(self, ids: &[u32], plain: impl Fn(&[u32]) -> Result<String, Error>) -> Result<String, Error> {
        let mut out = String::new();
        let mut rest = ids;
        while let Some(at) = rest.iter().position(|id| [self.open, self.close].contains(id)) {
            let before = plain(&rest[..at])?;
            if rest[at] == self.close {
                out.push_str(&format!("{}\n</think>\n\n", before.trim_end_matches('\n')));
                rest = &rest[at + 1..];
                continue;
            }
            out.push_str(&before);
            let body = &rest[at + 1..];
            let end = body.iter().position(|id| *id == self.close);
            let whole = plain(&body[..end.unwrap_or(body.len())])?;
            let thought = match whole.strip_prefix(HEADER) {
                Some(thought) => thought,
                // A header that is cut says nothing yet.
                None if HEADER.starts_with(&whole) => "",
                None => &whole,
            };
            let Some(end) = end else { return Ok(out + "<think>\n" + thought) };
            if !thought.trim().is_empty() {
                out.push_str(&format!("<think>\n{}\n</think>\n\n", thought.trim_end_matches('\n')));
            }
            rest = &body[end + 1..];
        }
        let last = plain(rest)?;
        Ok(out + if rest.len() < ids.len() { last.trim_start_matches('\n') } else { &last })
    }
}

/// Whether a rendered prompt opens a thought in its channel.
pub(super) fn opens(rendered: &str) -> bool {
    rendered.trim_end().ends_with(OPENING)
}

/// An answer as an assistant's turn for `template`: its thought in the field from which the template writes the channel. As it is where
/// the template writes none behind the last prompt.
pub(crate) fn turn(template: Option<&Template>, answer: &str) -> Message {
    let plain = || Message::assistant(answer);
    let (Some((thought, text)), Some(template)) = (leading_thought(answer), template) else { return plain() };
    let with = |thought: &str, text: &str| {
        let mut turn = Message::assistant(text);
        turn.more.set(FIELD, thought.into());
        turn
    };
    let written = template.source().contains(OPENING)
        && template
            .render(&[Message::new("user", "a"), with("tiebreak", "b")], false)
            .is_ok_and(|text| text.contains(&format!("{OPENING}\ntiebreak")));
    match (written, thought.trim().is_empty()) {
        (true, false) => with(thought, text),
        (true, true) => Message::assistant(text),
        (false, _) => plain(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{answer_after_thoughts, ends_inside_thought};
    use crate::model::special_tokens::SpecialTokens;

    const TOKENS: ThoughtTokens = ThoughtTokens { open: 1, close: 2 };

    /// One token a byte; smaller ones are special.
    #[expect(clippy::unnecessary_wraps, reason = "as the tokenizer decodes")]
    fn plain(ids: &[u32]) -> Result<String, Error> {
        Ok(ids.iter().filter(|id| **id > 9).filter_map(|id| char::from_u32(*id)).collect())
    }

    fn ids(text: &str) -> Vec<u32> {
        text.replace("<open>", "\u{1}").replace("<close>", "\u{2}").chars().map(u32::from).collect()
    }

    fn text(drawn: &str) -> String {
        TOKENS.text(&ids(drawn), plain).unwrap()
    }

    #[test]
    fn a_channel_is_a_thought_and_an_empty_one_is_none() {
        assert_eq!(text("<open>thought\ntwo and two\n<close>Four."), "<think>\ntwo and two\n</think>\n\nFour.");
        assert_eq!(text("<open>thought\n<close>Four."), "Four.");
        assert_eq!(text("two and two\n<close>Four."), "two and two\n</think>\n\nFour.");
        assert_eq!(text("Four."), "Four.");
        assert!(TOKENS.occur_in(&ids("a<close>b")) && !TOKENS.occur_in(&ids("ab")));
    }

    #[test]
    fn an_answers_thought_goes_into_the_field_however_it_is_tagged() {
        let source = "{% for m in messages %}{% if m.reasoning %}<|channel>thought\n{{ m.reasoning }}\n<channel|>{% endif %}\
                      {{ m.content }}<turn|>{% endfor %}";
        let template = Template::new(source, "m", &SpecialTokens::default()).unwrap();
        for answer in ["<think>\ntwo\n</think>\n\nFour.", "<thinking>two</thinking>\nFour."] {
            let turn = turn(Some(&template), answer);
            assert_eq!((turn.content.as_str(), turn.reasoning()), ("Four.", Some("two")), "{answer}");
        }
        assert_eq!(turn(Some(&template), "<think>\n\n</think>\n\nFour."), Message::assistant("Four."));
        assert_eq!(turn(None, "<think>\ntwo\n</think>\n\nFour.").reasoning(), None);
    }

    /// Cut anywhere, a thought is no answer.
    #[test]
    fn an_unfinished_thought_is_no_answer() {
        let drawn = ids("<open>thought\ntwo and two\n<close>Four.");
        let answers: Vec<String> = (1..=drawn.len())
            .map(|n| answer_after_thoughts(&TOKENS.text(&drawn[..n], plain).unwrap(), false))
            .collect();
        let begun = drawn.len() - "Four.".len();
        assert!(answers[..begun].iter().all(String::is_empty), "{answers:?}");
        assert_eq!(answers[begun..], ["F", "Fo", "Fou", "Four", "Four."]);
        assert!(ends_inside_thought(&text("<open>thought\ntwo and"), false));
    }
}
