//! Asking a server's model for one letter, A or B: by the log-probs of its next token, or else by its text.
//!
//! Refuses to guess: a text with both letters or none is no answer.

use super::client::Client;
use super::fault::{FaultKind, ServerFault};
use super::reply::ServerReply;
use super::retry::with_retries;
use crate::model::error::Error;
use crate::protocol::ServerRef;
use serde_json::{Value, json};
use std::io::Read;

/// Most bytes of a response.
const MOST_BYTES: u64 = 8 << 20;
/// Tokens of an answer in words; a model with open thoughts needs many.
const WORDS: usize = 1024;

/// A preference between two letters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Letters {
    /// The probability of A among the two.
    pub a: f64,
    /// The probability of the two letters together; none where a text was read.
    pub mass: Option<f64>,
}

impl Letters {
    /// From the probabilities of both letters; none where both are 0.
    #[must_use]
    pub fn of(a: f64, b: f64) -> Option<Self> {
        let mass = a + b;
        (mass > 0.0 && mass.is_finite()).then(|| Self { a: a / mass, mass: Some(mass) })
    }
}

/// A server's model that answers with a letter.
#[derive(Debug)]
pub struct LetterServer {
    client: Client,
    /// The server sends no log-probs: its texts are read.
    by_text: bool,
}

impl LetterServer {
    /// A client; nothing is sent yet.
    ///
    /// # Errors
    /// When the key is missing.
    pub fn open(server: &ServerRef) -> Result<Self, Error> {
        Ok(Self { client: Client::new(server)?, by_text: false })
    }

    /// The preference between the letters A and B in the model's answer to `question`.
    ///
    /// # Errors
    /// When the server does not answer, or the answer is no letter.
    pub fn ask(&mut self, question: &str) -> Result<Letters, ServerFault> {
        if !self.by_text {
            match self.by_logprobs(question) {
                Ok(Some(letters)) => return Ok(letters),
                Ok(None) => self.by_text = true,
                // Some servers refuse a request for log-probs instead of leaving them out.
                Err(fault) if fault.text.to_lowercase().contains("logprob") || fault.text.contains("logits_all") => {
                    self.by_text = true;
                }
                Err(fault) => return Err(fault),
            }
        }
        self.in_words(question)
    }

    /// By the next token's log-probs; none where the server sends none.
    fn by_logprobs(&self, question: &str) -> Result<Option<Letters>, ServerFault> {
        let body = json!({
            "model": self.client.server().model,
            "messages": [{ "role": "user", "content": question }],
            "temperature": 0.0,
            "max_tokens": 1,
            "logprobs": true,
            "top_logprobs": 20,
        });
        let value = self.json(&body)?;
        if value.pointer("/choices/0").is_none() {
            return Err(ServerFault::nonsense(&self.client.server().url, "a response without an answer in it"));
        }
        Ok(letters_of(&value))
    }

    fn in_words(&self, question: &str) -> Result<Letters, ServerFault> {
        let server = self.client.server();
        let body = json!({
            "model": server.model,
            "messages": [{ "role": "user", "content": question }],
            "temperature": 0.0,
            "max_tokens": WORDS,
        });
        let read = || {
            ServerReply::read(
                &server.url,
                self.client.post("chat/completions", &body)?,
                |line| self.client.clean(line),
                &mut |_| (),
            )
        };
        let reply = repeated(server, read)?;
        match letter(&reply.text) {
            Some(a) => Ok(Letters { a: f64::from(u8::from(a)), mass: None }),
            None => Err(ServerFault::new(
                FaultKind::Request,
                "the judge's answer names neither A nor B alone: use a larger judge".to_owned(),
            )),
        }
    }

    fn json(&self, body: &Value) -> Result<Value, ServerFault> {
        let url = &self.client.server().url;
        repeated(self.client.server(), || {
            let mut text = String::new();
            let response = self.client.post("chat/completions", body)?;
            response.take(MOST_BYTES).read_to_string(&mut text).map_err(|e| {
                ServerFault::passing(format!("server {url} broke off its answer ({e}): look at its log"))
            })?;
            serde_json::from_str(&self.client.clean(text))
                .map_err(|e| ServerFault::nonsense(url, &format!("invalid JSON ({e})")))
        })
    }
}

/// A request with the server's number of repetitions.
fn repeated<T>(server: &ServerRef, request: impl FnMut() -> Result<T, ServerFault>) -> Result<T, ServerFault> {
    let wait = |pause| {
        std::thread::sleep(pause);
        true
    };
    // One request at a time: nothing to spread.
    with_retries(server.retries, || 1.0, wait, request)
}

/// The preference in a response with log-probs; none where it holds no probability of either letter.
#[must_use]
pub fn letters_of(response: &Value) -> Option<Letters> {
    let all = next_token(response.pointer("/choices/0")?)?;
    let of = |letter: &str| all.iter().filter(|(t, _)| t.trim() == letter).map(|(_, p)| p.exp()).sum::<f64>();
    Letters::of(of("A"), of("B"))
}

/// The likeliest next tokens with their log-probs: in the form of chats, or in the older form of plain texts.
fn next_token(choice: &Value) -> Option<Vec<(String, f64)>> {
    let logprobs = choice.get("logprobs")?;
    if let Some(list) = logprobs.pointer("/content/0/top_logprobs").and_then(Value::as_array) {
        let one = |v: &Value| Some((v.get("token")?.as_str()?.to_owned(), v.get("logprob")?.as_f64()?));
        return Some(list.iter().filter_map(one).collect());
    }
    let map = logprobs.pointer("/top_logprobs/0")?.as_object()?;
    Some(map.iter().filter_map(|(token, p)| Some((token.clone(), p.as_f64()?))).collect())
}

/// Whether a text names A; none where it names both letters or none. Text before `</think>` does not count.
fn letter(text: &str) -> Option<bool> {
    let answer = text.rsplit_once("</think>").map_or(text, |(_, rest)| rest);
    let words: Vec<&str> = answer.split(|c: char| !c.is_alphanumeric()).filter(|w| *w == "A" || *w == "B").collect();
    // `A` begins many sentences: the article does not count where a B is named too.
    match (words.contains(&"A"), words.contains(&"B")) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_probs_are_read_in_both_forms() {
        let chat = json!({"logprobs":{"content":[{"token":"A","top_logprobs":[
            {"token":"A","logprob":-0.5},{"token":" A","logprob":-3.0},{"token":"B","logprob":-1.5}]}]}});
        let old = json!({"logprobs":{"tokens":["A"],"top_logprobs":[{"A":-0.5," A":-3.0,"B":-1.5}]}});
        for value in [chat, old] {
            assert_eq!(next_token(&value).unwrap().len(), 3);
        }
        assert_eq!(next_token(&json!({"logprobs":null})), None);
        let letters = Letters::of(0.6, 0.2).unwrap();
        assert!((letters.a - 0.75).abs() < 1e-12 && (letters.mass.unwrap() - 0.8).abs() < 1e-12);
        assert_eq!(Letters::of(0.0, 0.0), None);
    }

    #[test]
    fn a_text_must_name_one_letter() {
        assert_eq!(letter("A"), Some(true));
        assert_eq!(letter("The better one is **B**."), Some(false));
        assert_eq!(letter("<think>A? B?</think> B"), Some(false));
        assert_eq!(letter("A or B"), None);
        assert_eq!(letter("Both"), None);
    }
}
