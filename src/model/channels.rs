//! Answers in channels, as GPT-OSS writes them (harmony): `<|channel|>analysis<|message|>…<|end|>` and a `final` message behind it.
//!
//! Owns their text: the analysis as a thought, `<think>…</think>`, and back. A message that is cut stays an open thought, so that it
//! is no answer. Refuses to look for channels in plain text: only the control tokens begin one.

use super::error::Error;
use crate::domain::{Message, leading_thought};

/// The field in which templates with channels expect a thought.
const THINKING: &str = "thinking";

/// The control tokens of a tokenizer with channels.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChannelTokens {
    start: u32,
    channel: u32,
    message: u32,
    end: u32,
}

impl ChannelTokens {
    /// Those of a tokenizer that has all of them.
    pub(super) fn of(id: impl Fn(&str) -> Option<u32>) -> Option<Self> {
        Some(Self {
            start: id("<|start|>")?,
            channel: id("<|channel|>")?,
            message: id("<|message|>")?,
            end: id("<|end|>")?,
        })
    }

    /// Whether a channel begins in these tokens.
    pub(super) fn begin_in(&self, ids: &[u32]) -> bool {
        ids.contains(&self.channel)
    }

    /// The text of drawn tokens: a message of the channel `analysis` is a thought, closed where the message ends; others are the
    /// answer, a call of a tool with its recipient. `plain` decodes tokens without special ones.
    ///
    /// # Errors
    /// Those of `plain`.
    pub(super) fn text(&self, ids: &[u32], plain: impl Fn(&[u32]) -> Result<String, Error>) -> Result<String, Error> {
        let mut out = String::new();
        let mut rest = ids;
        // A header that is cut says nothing yet.
        while let Some(at) = rest.iter().position(|id| *id == self.message) {
            let (header, body) = (&rest[..at], &rest[at + 1..]);
            let ends = body.iter().position(|id| [self.end, self.start].contains(id));
            let (content, after) = body.split_at(ends.unwrap_or(body.len()));
            let at = header.iter().rposition(|id| *id == self.channel).unwrap_or(header.len());
            let (role, named) = header.split_at(at);
            let (role, channel, content) = (plain(role)?, plain(named)?, plain(content)?);
            if channel.trim_start().starts_with("analysis") {
                out.push_str("<think>\n");
                out.push_str(&content);
                if after.first() == Some(&self.end) {
                    out.push_str("\n</think>\n\n");
                }
            } else {
                // The recipient stands behind the role or behind the channel.
                let mut words = role.split_whitespace().chain(channel.split_whitespace());
                out.extend(words.find(|word| word.starts_with("to=")).map(|to| format!("{to} ")));
                out.push_str(&content);
            }
            rest = after.strip_prefix(&[self.end]).unwrap_or(after);
        }
        Ok(out)
    }
}

/// Whether a template writes channels and reads thoughts in a field of their own.
pub(super) fn has_channels(template: &str) -> bool {
    ["<|channel|>analysis<|message|>", "<|channel|>final<|message|>", THINKING]
        .iter()
        .all(|part| template.contains(part))
}

/// An answer as an assistant's turn for such a template: the thought that it begins with in a field of its own.
pub(crate) fn turn(answer: &str) -> Message {
    let Some((inner, rest)) = leading_thought(answer) else { return Message::assistant(answer) };
    let mut turn = Message::assistant(rest);
    if !inner.trim().is_empty() {
        turn.more.set(THINKING, inner.into());
    }
    turn
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{answer_after_thoughts, ends_inside_thought};

    const TOKENS: ChannelTokens = ChannelTokens { start: 1, channel: 2, message: 3, end: 4 };

    /// One token a byte; smaller ones are special.
    fn said(ids: &[u32]) -> String {
        let plain = |part: &[u32]| Ok(part.iter().filter(|id| **id > 9).filter_map(|id| char::from_u32(*id)).collect());
        TOKENS.text(ids, plain).unwrap()
    }

    fn ids(text: &str) -> Vec<u32> {
        let named = text.replace("<start>", "\u{1}").replace("<channel>", "\u{2}").replace("<message>", "\u{3}");
        named.replace("<end>", "\u{4}").chars().map(u32::from).collect()
    }

    fn text(drawn: &str) -> String {
        said(&ids(drawn))
    }

    #[test]
    fn an_analysis_is_a_thought_and_the_final_message_the_answer() {
        let drawn = "<channel>analysis<message>two and two<end><start>assistant<channel>final<message>Four.";
        let whole = text(drawn);
        assert_eq!(whole, "<think>\ntwo and two\n</think>\n\nFour.");
        assert_eq!(answer_after_thoughts(&whole, false), "Four.");
        let turn = turn(&whole);
        assert_eq!((turn.content.as_str(), turn.reasoning()), ("Four.", Some("two and two")));
        assert_eq!(text("<channel>final<message>Four."), "Four.");
        assert_eq!(super::turn("Four.").reasoning(), None);
        for (answer, text, thought) in [
            ("<thinking>two</thinking> Four.", "Four.", Some("two")),
            ("\n<think>\n\ntwo\n</think>\nFour.", "Four.", Some("\ntwo")),
            ("<think>\n\n</think>\n\nFour.", "Four.", None),
            ("<think>\ntwo", "<think>\ntwo", None),
            ("Four.\n<think>\nlate\n</think>\n", "Four.\n<think>\nlate\n</think>\n", None),
        ] {
            let turn = super::turn(answer);
            assert_eq!((turn.content.as_str(), turn.reasoning()), (text, thought), "{answer:?}");
        }
    }

    /// Cut anywhere, the first message is no answer.
    #[test]
    fn an_unfinished_analysis_is_no_answer() {
        let drawn = ids("<channel>analysis<message>two and two<end><start>assistant<channel>final<message>Four.");
        let answers: Vec<String> =
            (0..=drawn.len()).map(|n| answer_after_thoughts(&said(&drawn[..n]), false)).collect();
        let begun = drawn.len() - "Four.".len();
        assert!(answers[..=begun].iter().all(String::is_empty), "{answers:?}");
        assert_eq!(answers[begun + 1..], ["F", "Fo", "Fou", "Four", "Four."]);
        let cut = text("<channel>analysis<message>two and");
        assert!(ends_inside_thought(&cut, false), "{cut}");
    }

    #[test]
    fn a_call_of_a_tool_keeps_its_recipient() {
        let drawn =
            "<channel>analysis<message>look<end><start>assistant to=functions.get<channel>commentary json<message>{}";
        assert_eq!(text(drawn), "<think>\nlook\n</think>\n\nto=functions.get {}");
    }
}
