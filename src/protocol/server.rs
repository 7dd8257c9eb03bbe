//! A model behind an OpenAI-compatible server: how a run names it, what was recorded of it, and what it answered.
//!
//! Owns the grammar of `URL#NAME`. Refuses keys: a record holds the name of an environment variable, never its value, and an
//! address with a password or a query is invalid.

use crate::domain::{Completion, CompletionId, PairId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A model that an OpenAI-compatible server runs: llama.cpp, Ollama, vLLM, LM Studio and others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRef {
    /// The base address without a slash at its end: `http://127.0.0.1:8080/v1`.
    pub url: String,
    /// The server's name for the model; empty for the only one it has, until the launch has asked for it.
    pub model: String,
    /// The environment variable that holds the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_env: Option<String>,
    /// Requests in flight at once.
    pub in_flight: usize,
    /// The longest silence of the server in seconds.
    pub timeout_s: u64,
    /// How often a failed request is repeated.
    pub retries: u32,
}

/// How servers are asked, beside their address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerOptions {
    /// Variables of keys: NAME for the only server, or HOST:PORT=NAME.
    pub key_envs: Vec<String>,
    /// See [`ServerRef::in_flight`].
    pub in_flight: usize,
    /// See [`ServerRef::timeout_s`].
    pub timeout_s: u64,
    /// See [`ServerRef::retries`].
    pub retries: u32,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self { key_envs: Vec::new(), in_flight: 4, timeout_s: 120, retries: 5 }
    }
}

impl ServerRef {
    /// Whether a model's name is an address.
    #[must_use]
    pub fn is_address(word: &str) -> bool {
        let lower = word.to_ascii_lowercase();
        lower.starts_with("http://") || lower.starts_with("https://")
    }

    /// The server and model of `URL#NAME`, or of `URL` alone.
    ///
    /// # Errors
    /// One sentence when it is no usable address.
    pub fn parse(word: &str, options: &ServerOptions) -> Result<Self, String> {
        let (url, model) = word.split_once('#').unwrap_or((word, ""));
        let url = url.trim_end_matches('/');
        let rest = url.split_once("://").map_or("", |(_, rest)| rest);
        let host = rest.split('/').next().unwrap_or_default();
        // The word itself is not repeated: it may hold a secret.
        if host.contains('@') {
            return Err(
                "the server's address holds a user or a password, which would end up in the run's files: leave it \
                        out, and name the environment variable of the key with --key-env NAME"
                    .into(),
            );
        }
        if rest.contains('?') {
            return Err(
                "the server's address holds a query, which would end up in the run's files: leave it out, and name \
                        the environment variable of a key with --key-env NAME"
                    .into(),
            );
        }
        if !Self::is_address(url) || host.is_empty() || url.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(format!("`{word}` is no address of a server: write it as http://127.0.0.1:8080/v1#NAME"));
        }
        if model.chars().any(char::is_control) {
            return Err("a model's name has no control characters: copy it from the server's list of models".into());
        }
        let ServerOptions { key_envs, in_flight, timeout_s, retries } = options;
        let (in_flight, timeout_s, retries) = (*in_flight, *timeout_s, *retries);
        let key_env = key_of(host, key_envs)?;
        Ok(Self { url: url.into(), model: model.into(), key_env, in_flight, timeout_s, retries })
    }

    /// Host and port.
    #[must_use]
    pub fn host(&self) -> &str {
        let rest = self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest);
        rest.split('/').next().unwrap_or(rest)
    }

    /// The model's name in completions: `NAME@HOST:PORT`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}@{}", self.model, self.host())
    }
}

/// The variable of a host's key. A name without a host is everyone's: [`ServerOptions::check`] allows it for one server only.
fn key_of(host: &str, key_envs: &[String]) -> Result<Option<String>, String> {
    let mut found = None;
    for word in key_envs {
        let (whose, name) = word.rsplit_once('=').map_or((None, word.as_str()), |(whose, name)| (Some(whose), name));
        if !is_variable(name) {
            return Err(
                "--key-env takes the name of an environment variable (capital letters, digits and _), not the key \
                        itself: put the key into a variable, such as OPENAI_API_KEY, and give its name"
                    .into(),
            );
        }
        if whose.is_none_or(|whose| whose.eq_ignore_ascii_case(host)) {
            found = Some(name.to_owned());
        }
    }
    Ok(found)
}

impl ServerOptions {
    /// Refuses a key that would go to a server that it is not for.
    ///
    /// # Errors
    /// When a key without a host meets several servers, or its host is none of them.
    pub fn check(&self, servers: &[ServerRef]) -> Result<(), String> {
        let hosts: std::collections::BTreeSet<&str> = servers.iter().map(ServerRef::host).collect();
        for word in &self.key_envs {
            match word.rsplit_once('=') {
                None if hosts.len() > 1 => {
                    return Err("there are several servers: say whose key it is with --key-env HOST:PORT=NAME".into());
                }
                None if hosts.is_empty() => {
                    return Err("--key-env is for a server: name one with --model URL#NAME".into());
                }
                Some((whose, _)) if !hosts.iter().any(|host| host.eq_ignore_ascii_case(whose)) => {
                    let hosts: Vec<&str> = hosts.into_iter().collect();
                    return Err(format!("--key-env: no server has the host {whose}, only {}", hosts.join(", ")));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether a text can name an environment variable. Keys mostly have other characters or lower-case letters.
fn is_variable(name: &str) -> bool {
    name.len() <= 64
        && name.bytes().next().is_some_and(|b| b.is_ascii_uppercase() || b == b'_')
        && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

/// A server's model as a run found it. The weights are out of reach: the record has no fingerprint of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInput {
    /// The base address.
    pub url: String,
    /// The server's name for the model.
    pub model: String,
    /// The server's own words about the model, from its list of models, by key as JSON; empty where it has no list.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub entry: BTreeMap<String, String>,
}

impl ServerInput {
    /// The keys whose values say nothing about the model: new in every answer of some servers.
    const FLEETING: [&'static str; 8] =
        ["created", "modified", "modified_at", "permission", "permissions", "status", "state", "loaded"];

    /// Address, model and what the server says of it, as one text: equal where nothing differs.
    #[must_use]
    pub fn identity(&self) -> String {
        let entry = self.entry.iter().filter(|(key, _)| !Self::FLEETING.contains(&key.as_str()));
        let entry: Vec<String> = entry.map(|(key, value)| format!("{key}={value}")).collect();
        format!("{}#{} {}", self.url, self.model, entry.join(" "))
    }

    /// The keys whose values differ from the record. Times and permissions are new in every answer of some servers.
    #[must_use]
    pub fn differences<'a>(&'a self, now: &'a Self) -> Vec<&'a str> {
        let keys: std::collections::BTreeSet<&String> = self.entry.keys().chain(now.entry.keys()).collect();
        let differs =
            |key: &&String| !Self::FLEETING.contains(&key.as_str()) && self.entry.get(*key) != now.entry.get(*key);
        keys.into_iter().filter(differs).map(String::as_str).collect()
    }
}

/// An answer of a server, as it arrived.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerAnswer {
    /// The answer. It becomes a candidate once its prompt has all of its answers.
    pub completion: Completion,
    /// Whether the server sent a thought apart from the text, which now stands before it in `<think>…</think>`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub thought: bool,
    /// The server's own fingerprint of its setup, if it sent one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_fingerprint: Option<String>,
}

/// What a sampling run's log says about its servers: for a worker that resumes it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ServerLog {
    /// Answers.
    pub answers: Vec<ServerAnswer>,
    /// Answers that could not be had, and why.
    pub unanswered: Vec<(CompletionId, String)>,
    /// Answers that were asked for and came to nothing before the worker ended.
    pub under_way: BTreeSet<CompletionId>,
}

/// A judge model: one on this machine or one behind a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JudgeModel {
    /// The folder or `.gguf` file of a model on this machine.
    Local(String),
    /// A server's.
    Server(ServerRef),
}

/// A judge's decision on a pair, asked in both orders.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// The pair.
    pub pair: PairId,
    /// The probability that its `a` is better, where `a` is shown first; none where the judge could not be asked.
    pub a_first: Option<f64>,
    /// The same, where `b` is shown first.
    pub b_first: Option<f64>,
    /// The probability of the two letters together, by the judge's next-token distribution; none where a text was read.
    pub mass: Option<f64>,
    /// Why there is no decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Judgement {
    /// The mean over both orders.
    #[must_use]
    pub fn probability(&self) -> Option<f64> {
        Some(f64::midpoint(self.a_first?, self.b_first?))
    }

    /// Whether the order decides: each order prefers another answer.
    #[must_use]
    pub fn flips(&self) -> bool {
        matches!((self.a_first, self.b_first), (Some(x), Some(y)) if (x - 0.5) * (y - 0.5) < 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_server_and_model() {
        let server = ServerRef::parse("http://127.0.0.1:8080/v1/#org/m:4b", &ServerOptions::default()).unwrap();
        assert_eq!((server.url.as_str(), server.model.as_str()), ("http://127.0.0.1:8080/v1", "org/m:4b"));
        assert_eq!(server.name(), "org/m:4b@127.0.0.1:8080");
        assert_eq!(ServerRef::parse("https://h", &ServerOptions::default()).unwrap().model, "");
    }

    #[test]
    fn secrets_are_refused_and_not_repeated() {
        let options = |key: &str| ServerOptions { key_envs: vec![key.into()], ..ServerOptions::default() };
        for (word, options) in [
            ("http://me:hunter2@h/v1#m", ServerOptions::default()),
            ("http://h/v1?key=hunter2#m", ServerOptions::default()),
            ("http://h/v1#m", options("sk-hunter2")),
        ] {
            let why = ServerRef::parse(word, &options).unwrap_err();
            assert!(!why.contains("hunter2") && why.contains("--key-env"), "{why}");
        }
        let two = |keys: &[&str]| {
            let options =
                ServerOptions { key_envs: keys.iter().map(|k| (*k).to_owned()).collect(), ..Default::default() };
            let servers: Vec<ServerRef> =
                ["http://a:1/v1#m", "http://b/v1#m"].map(|w| ServerRef::parse(w, &options).unwrap()).into();
            options.check(&servers).map(|()| servers[0].key_env.clone())
        };
        assert!(two(&["KEY"]).is_err(), "one server's key is not for another");
        assert!(two(&["c=KEY"]).is_err());
        assert_eq!(two(&["a:1=KEY"]), Ok(Some("KEY".into())));
        assert_eq!(two(&["b=KEY"]), Ok(None));
        assert!(ServerRef::parse("http://", &ServerOptions::default()).is_err());
        assert!(ServerRef::parse("http://h/v1#m", &options("MY_KEY")).is_ok());
    }

    #[test]
    fn times_are_no_difference() {
        let of = |created: &str, n: &str| ServerInput {
            url: "u".into(),
            model: "m".into(),
            entry: [("created", created), ("meta", n)].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        };
        assert_eq!(of("1", "5").differences(&of("2", "5")), [""; 0]);
        assert_eq!(of("1", "5").differences(&of("2", "6")), ["meta"]);
    }
}
