//! Reading a server's response: a stream of events or one JSON object, chat or plain text.
//!
//! Refuses a response without a choice, a stream that breaks off, lines that are not JSON, web pages and endless texts.

use super::fault::{FaultKind, ServerFault, said};
use crate::domain::Finish;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};

/// Most bytes of a response.
const MOST_BYTES: u64 = 32 << 20;

/// A server's answer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct ServerReply {
    /// The answer.
    pub(super) text: String,
    /// A thought that was sent apart from the answer.
    pub(super) thought: String,
    /// Why it ended, in the server's word.
    pub(super) finish: Option<String>,
    /// Tokens of answer and thought; 0 where the server does not say.
    pub(super) tokens: usize,
    /// The server's fingerprint of its setup.
    pub(super) fingerprint: Option<String>,
    /// A choice arrived.
    chosen: bool,
}

impl ServerReply {
    /// Why it ended.
    ///
    /// # Errors
    /// When it ended in another way than by the model's turn or the limit: such a text is no answer.
    pub(super) fn finish(&self, url: &str) -> Result<Finish, ServerFault> {
        let cut = |what: &str| Err(ServerFault::new(FaultKind::Request, format!("server {url} {what}")));
        match self.finish.as_deref() {
            Some("stop" | "eos" | "end_turn") => Ok(Finish::Eos),
            Some("length" | "max_tokens") => Ok(Finish::Length),
            Some("content_filter") => cut("cut the answer by its content filter: change the prompt"),
            Some("tool_calls" | "function_call") => cut("answered with a tool call: use a server without tools"),
            Some(_) | None => Ok(Finish::Given),
        }
    }

    /// Thought and answer as one text, the thought as models with open thoughts write it.
    pub(super) fn whole(&self) -> String {
        if self.thought.trim().is_empty() {
            return self.text.clone();
        }
        format!("<think>\n{}\n</think>\n\n{}", self.thought.trim(), self.text)
    }

    /// The beginning of what [`ServerReply::whole`] will be, while the response is read.
    pub(super) fn so_far(&self) -> String {
        if self.text.is_empty() && !self.thought.trim().is_empty() {
            return format!("<think>\n{}", self.thought.trim());
        }
        self.whole()
    }

    /// Reads a response body, each line without the key. `grown` sees what there is after every part.
    pub(super) fn read(
        url: &str,
        body: impl Read,
        clean: impl Fn(String) -> String,
        grown: &mut dyn FnMut(&Self),
    ) -> Result<Self, ServerFault> {
        let mut reader = BufReader::new(body.take(MOST_BYTES));
        let mut out = Self::default();
        let (mut whole, mut first, mut done, mut bytes) = (String::new(), true, false, 0);
        loop {
            let mut raw = Vec::new();
            bytes += reader.read_until(b'\n', &mut raw).map_err(|e| broken(url, &e))?;
            if raw.is_empty() {
                break;
            }
            let line = clean(String::from_utf8_lossy(&raw).into_owned());
            if first && !line.trim().is_empty() {
                first = false;
                if line.trim_start().starts_with('<') {
                    let what = "a web page instead of JSON (most servers answer under /v1)";
                    return Err(ServerFault::nonsense(url, what));
                }
                if line.trim_start().starts_with('{') {
                    whole = line;
                    reader.read_to_string(&mut whole).map_err(|e| broken(url, &e))?;
                    break;
                }
            }
            let Some(data) = line.trim().strip_prefix("data:") else { continue };
            if data.trim() == "[DONE]" {
                done = true;
                break;
            }
            if !data.trim().is_empty() {
                out.add(url, data)?;
                grown(&out);
            }
        }
        let streamed = whole.is_empty();
        if !streamed {
            out.add(url, &clean(whole))?;
            done = true;
        }
        if bytes as u64 >= MOST_BYTES {
            return Err(ServerFault::nonsense(url, "an endless answer"));
        }
        if !out.chosen {
            return Err(ServerFault::nonsense(url, "a response without an answer in it"));
        }
        if done && streamed && out.finish.is_none() {
            return Err(ServerFault::drop_of(url));
        }
        if !done && out.finish.is_none() {
            return Err(ServerFault::passing(format!(
                "server {url} broke off in the middle of an answer: look at its log"
            )));
        }
        Ok(out)
    }

    /// Adds a response or a part of a streamed one.
    fn add(&mut self, url: &str, json: &str) -> Result<(), ServerFault> {
        let value: Value =
            serde_json::from_str(json).map_err(|e| ServerFault::nonsense(url, &format!("invalid JSON ({e})")))?;
        if value.get("error").is_some_and(|e| !e.is_null()) {
            return Err(ServerFault::passing(format!("server {url} reports an error: {}", said(json))));
        }
        if let Some(print) = value.get("system_fingerprint").and_then(Value::as_str) {
            self.fingerprint = Some(print.to_owned());
        }
        if let Some(tokens) = value.pointer("/usage/completion_tokens").and_then(Value::as_u64) {
            self.tokens = tokens as usize;
        }
        let Some(choice) = value.pointer("/choices/0") else { return Ok(()) };
        self.chosen = true;
        // Streamed chats have a delta, whole ones a message, plain texts neither.
        let message = choice.get("delta").or_else(|| choice.get("message")).unwrap_or(choice);
        let part = |key: &str| message.get(key).and_then(Value::as_str).unwrap_or_default();
        self.text.push_str(part("content"));
        self.text.push_str(part("text"));
        let thought = part("reasoning_content");
        self.thought.push_str(if thought.is_empty() { part("reasoning") } else { thought });
        if let Some(finish) = choice.get("finish_reason").and_then(Value::as_str) {
            self.finish = Some(finish.to_owned());
        }
        Ok(())
    }
}

/// The text of a response body, and why it ended, as a run reads them.
///
/// # Errors
/// When it is no answer: one sentence that names the remedy.
pub fn read_answer(body: impl Read) -> Result<(String, Finish), ServerFault> {
    let url = "the server";
    let reply = ServerReply::read(url, body, |line| line, &mut |_| ())?;
    Ok((reply.whole(), reply.finish(url)?))
}

/// A response whose body cannot be read to its end.
fn broken(url: &str, e: &std::io::Error) -> ServerFault {
    if matches!(e.kind(), std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock) {
        return ServerFault::passing(format!(
            "server {url} fell silent in the middle of an answer: look at its log, or raise --timeout"
        ));
    }
    ServerFault::passing(format!("server {url} broke off in the middle of an answer ({e}): look at its log"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<ServerReply, ServerFault> {
        ServerReply::read("http://h", body.as_bytes(), |line| line, &mut |_| ())
    }

    #[test]
    fn a_stream_is_put_together() {
        let reply = read(concat!(
            ": a comment\n\n",
            "data: {\"system_fingerprint\":\"fp\",\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":null}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"Well.\"}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"content\":\"Ye\"}}]}\r\n\r\n",
            "data: {\"choices\":[{\"delta\":{\"content\":\"s\"},\"finish_reason\":\"stop\"}]}\n\n",
            "data: {\"choices\":[],\"usage\":{\"completion_tokens\":7}}\n\ndata: [DONE]\n",
        ))
        .unwrap();
        assert_eq!((reply.text.as_str(), reply.thought.as_str(), reply.tokens), ("Yes", "Well.", 7));
        assert_eq!(reply.whole(), "<think>\nWell.\n</think>\n\nYes");
        assert_eq!(reply.finish("u"), Ok(Finish::Eos));
        assert_eq!(reply.fingerprint.as_deref(), Some("fp"));
    }

    #[test]
    fn what_grows_is_the_beginning_of_the_whole() {
        let part =
            |key: &str, text: &str| format!("data: {{\"choices\":[{{\"delta\":{{\"{key}\":\"{text}\"}}}}]}}\n\n");
        let end = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n";
        let thought = part("reasoning_content", "Well, ") + &part("reasoning_content", "so. ");
        for body in
            [part("content", "Ye") + &part("content", "s "), thought + &part("content", " Ye") + &part("content", "s")]
        {
            let mut seen: Vec<String> = Vec::new();
            let body = body + end;
            let reply =
                ServerReply::read("u", body.as_bytes(), |line| line, &mut |reply| seen.push(reply.so_far())).unwrap();
            assert!(seen.len() >= 3 && seen.iter().all(|text| reply.whole().starts_with(text.as_str())), "{seen:?}");
            assert_eq!(seen.last(), Some(&reply.whole()));
        }
    }

    #[test]
    fn a_response_in_one_piece_is_read_too() {
        let chat = read("{\"choices\":[{\"message\":\n{\"content\":\"a\"},\"finish_reason\":\"length\"}]}").unwrap();
        assert_eq!((chat.text.as_str(), chat.finish("u")), ("a", Ok(Finish::Length)));
        assert_eq!(read("{\"choices\":[{\"text\":\"b\"}]}").unwrap().whole(), "b");
    }

    #[test]
    fn nonsense_is_named() {
        for (body, word) in [
            ("<html>", "web page"),
            ("data: {oops\n\n", "invalid JSON"),
            ("{}", "without an answer"),
            ("", "without an answer"),
            ("data: {\"choices\":[]}\n\ndata: [DONE]\n\n", "without an answer"),
            ("data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n", "broke off"),
            ("data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\ndata: [DONE]\n\n", "--in-flight 1"),
            ("data: {\"error\":{\"message\":\"too long\"}}\n\n", "too long"),
        ] {
            let text = read(body).unwrap_err().text;
            assert!(text.contains(word) && text.contains("http://h"), "{body}: {text}");
        }
        let filtered = ServerReply { finish: Some("content_filter".into()), ..ServerReply::default() };
        assert_eq!(filtered.finish("u").unwrap_err().kind, FaultKind::Request);
    }
}
