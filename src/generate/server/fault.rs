//! What can go wrong with a server, in plain sentences.
//!
//! Owns the difference between a fault that a retry may mend, one of this request alone, and one of every request.

use crate::domain::sanitise;
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::time::Duration;

/// Most characters of a server's own words in a message.
const MOST_WORDS: usize = 300;

/// What a fault says about further requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FaultKind {
    /// The same request may succeed later.
    Passing,
    /// This request fails always, another one may succeed.
    Request,
    /// Every request fails.
    Every,
}

/// A request that brought no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerFault {
    /// What it says about further requests.
    pub kind: FaultKind,
    /// What happened and the remedy: `server http://… does not answer …`.
    pub text: String,
    /// How long the server asks to wait.
    pub retry_after: Option<Duration>,
    /// The server ended an answer without a reason, as some do when the next request arrives.
    pub dropped: bool,
}

impl ServerFault {
    pub(super) fn new(kind: FaultKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), retry_after: None, dropped: false }
    }

    pub(super) fn passing(text: impl Into<String>) -> Self {
        Self::new(FaultKind::Passing, text)
    }

    /// A request that no response came to.
    pub(super) fn transport(url: &str, timeout_s: u64, error: &ureq::Error) -> Self {
        match error {
            ureq::Error::Io(e) if e.kind() == ErrorKind::ConnectionRefused => {
                Self::passing(format!("server {url} is not running: start it, or correct the address"))
            }
            ureq::Error::HostNotFound => {
                Self::passing(format!("server {url} has an unknown host: correct the address"))
            }
            ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => Self::passing(format!(
                "server {url} takes no connection: correct the address, or use http:// for a server without TLS"
            )),
            ureq::Error::Timeout(ureq::Timeout::Global) => Self::passing(format!(
                "server {url} did not end its answer in time: lower --max-new-tokens, or raise --timeout"
            )),
            ureq::Error::Timeout(_) => {
                Self::passing(format!("server {url} was silent for {timeout_s} s: look at its log, or raise --timeout"))
            }
            ureq::Error::Io(e) if matches!(e.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {
                Self::passing(format!("server {url} was silent for {timeout_s} s: look at its log, or raise --timeout"))
            }
            ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::Pem(_) => Self::tls(url, &error.to_string()),
            ureq::Error::Io(e) if is_tls(e) => Self::tls(url, &e.to_string()),
            ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl => Self::new(
                FaultKind::Every,
                format!("server {url}: the address is invalid ({error}): write it as http://127.0.0.1:8080/v1#NAME"),
            ),
            ureq::Error::Protocol(e) => Self::passing(format!(
                "server {url} does not speak HTTP ({e}): correct the address or its port, or use https:// for a server with TLS"
            )),
            _ => Self::passing(format!("the connection to server {url} failed ({error}): look at the server's log")),
        }
    }

    fn tls(url: &str, why: &str) -> Self {
        let why = cut(why);
        Self::new(
            FaultKind::Every,
            format!(
                "the secure connection to server {url} failed ({why}): use http:// for a server without TLS, or give the \
                 server a certificate that this computer trusts"
            ),
        )
    }

    /// A response with an error status; `body` is its text, without the key.
    pub(super) fn status(url: &str, status: u16, body: &str, key_env: Option<&str>) -> Self {
        let said = said(body);
        let said = if said.is_empty() { String::new() } else { format!(" ({said})") };
        let kind = match status {
            429 | 408 | 425 | 500..=599 => FaultKind::Passing,
            401 | 403 | 404 | 405 | 300..=399 => FaultKind::Every,
            _ => FaultKind::Request,
        };
        let text = match status {
            401 | 403 => match key_env {
                Some(name) => format!("server {url} refuses the key in {name}, status {status}{said}: correct the key"),
                None => format!(
                    "server {url} asks for a key, status {status}{said}: put it into an environment variable and name that \
                     with --key-env NAME"
                ),
            },
            404 | 405 => format!(
                "server {url} has no such page or model, status {status}{said}: correct the address (most servers answer \
                 under /v1) or the model's name"
            ),
            300..=399 => format!("server {url} redirects to another address, status {status}{said}: name that address"),
            429 => format!("server {url} is overloaded or limits the rate, status 429{said}: lower --in-flight"),
            500..=599 => format!("server {url} failed, status {status}{said}: look at its log"),
            _ => format!("server {url} refused the request, status {status}{said}: change the prompt or the settings"),
        };
        Self::new(kind, text)
    }

    /// An answer that the server ended without a reason.
    pub(super) fn drop_of(url: &str) -> Self {
        let text = format!(
            "server {url} ended an answer without saying why: some servers drop an answer when the next request arrives; use \
             --in-flight 1"
        );
        Self { dropped: true, ..Self::passing(text) }
    }

    /// A response that is no answer.
    pub(super) fn nonsense(url: &str, what: &str) -> Self {
        Self::passing(format!(
            "server {url} sent {what}: check that it is an OpenAI-compatible server and look at its log"
        ))
    }
}

/// Whether a connection failed on TLS.
fn is_tls(error: &std::io::Error) -> bool {
    let text = error.to_string().to_lowercase();
    error.kind() == ErrorKind::InvalidData
        || ["certificate", "tls", "handshake", "invalid peer"].iter().any(|word| text.contains(word))
}

/// The server's own words: the message in a JSON error, or plain text; nothing of a web page.
pub(super) fn said(body: &str) -> String {
    let body = body.trim();
    if let Ok(value) = serde_json::from_str::<serde_json::Value>(body) {
        let error = value.get("error").unwrap_or(&value);
        let found = [error.get("message"), error.get("detail"), value.get("message"), Some(error)];
        let found = found.into_iter().flatten().find(|value| !value.is_null());
        return found
            .map_or_else(String::new, |value| cut(&value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
    }
    if body.starts_with('<') { "a web page instead of JSON".into() } else { cut(body) }
}

/// One line, sanitised and not too long.
pub(super) fn cut(text: &str) -> String {
    let line: Vec<&str> = text.split_whitespace().collect();
    let line = sanitise(&line.join(" "));
    if line.chars().count() <= MOST_WORDS {
        return line;
    }
    line.chars().take(MOST_WORDS).chain("…".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_whether_to_try_again() {
        let of = |status| ServerFault::status("http://h", status, r#"{"error":{"message":"no\u001b such"}}"#, None);
        for (status, kind) in [
            (429, FaultKind::Passing),
            (503, FaultKind::Passing),
            (400, FaultKind::Request),
            (401, FaultKind::Every),
            (404, FaultKind::Every),
        ] {
            assert_eq!(of(status).kind, kind, "{status}");
            assert!(of(status).text.contains("http://h") && of(status).text.contains("no\u{241b} such"));
        }
        assert_eq!(said("<html><body>x"), "a web page instead of JSON");
        assert_eq!(said(r#"{"detail":"gone"}"#), "gone");
        assert_eq!(said(&"x".repeat(999)).chars().count(), MOST_WORDS + 1);
    }
}
