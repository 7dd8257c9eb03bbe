//! Conversations written as one text: `\n\nHuman: …\n\nAssistant: …`.
//!
//! Owns the marks. Refuses a text that does not begin with one: it is no transcript.

use crate::domain::Message;

/// A transcript as messages; none of another text.
pub(super) fn transcript(text: &str) -> Option<Vec<Message>> {
    const MARKS: [(&str, &str); 2] = [("\n\nHuman:", "user"), ("\n\nAssistant:", "assistant")];
    let mut rest = text;
    let mut turns = Vec::new();
    if !rest.starts_with(MARKS[0].0) {
        return None;
    }
    while !rest.is_empty() {
        let (mark, role) = MARKS.iter().find(|(mark, _)| rest.starts_with(mark))?;
        rest = &rest[mark.len()..];
        let end = MARKS.iter().filter_map(|(mark, _)| rest.find(mark)).min().unwrap_or(rest.len());
        turns.push(Message::new(*role, rest[..end].trim()));
        rest = &rest[end..];
    }
    Some(turns)
}

/// A transcript that ends where the assistant is to answer; none of another text.
pub(super) fn asked(text: &str) -> Option<Vec<Message>> {
    let mut turns = transcript(text)?;
    if turns.last().is_some_and(|turn| turn.role == "assistant" && turn.is_blank()) {
        turns.pop();
    }
    Some(turns).filter(|turns| turns.last().is_some_and(|turn| turn.role == "user"))
}
