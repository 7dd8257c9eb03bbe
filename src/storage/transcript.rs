//! Conversations written as one text: `\n\nHuman: …\n\nAssistant: …`.
//!
//! Owns the marks. Refuses a text that does not begin with one: it is no transcript.

use crate::domain::{Conversation, Message, PromptBody};

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

/// What NVIDIA's SteerLM puts in front of a turn.
const STEER: &str = "<extra_id_1>";

/// A prompt whose only turn holds several with SteerLM's marks (`<extra_id_1>Assistant`), as its turns. Another stays as it is.
pub(super) fn steered(prompt: PromptBody) -> PromptBody {
    let PromptBody::Chat(talk) = &prompt else { return prompt };
    let Some((first, rest)) = talk.last().and_then(|turn| turn.content.split_once(STEER)) else { return prompt };
    let mut turns = vec![Message::new("user", first.trim())];
    for part in rest.split(STEER) {
        let Some((role, text)) = part.split_once('\n') else { return prompt };
        let role = match role.trim() {
            "User" => "user",
            "Assistant" => "assistant",
            _ => return prompt,
        };
        turns.push(Message::new(role, text.trim()));
    }
    if turns.last().is_some_and(|turn| turn.role != "user") {
        return prompt;
    }
    let mut whole: Conversation = talk.first(talk.len() - 1);
    whole.turns.change(|whole| whole.append(&mut turns));
    PromptBody::Chat(whole)
}
