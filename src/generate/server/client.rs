//! The HTTP client of one server: its list of models, and single requests.
//!
//! Owns the key: read from the environment here, put into one header, cut out of every text that comes back.

use super::fault::{FaultKind, ServerFault, said};
use super::reply::ServerReply;
use crate::domain::{PromptBody, Sampler, nearest};
use crate::model::error::Error;
use crate::protocol::{ServerInput, ServerRef};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

/// The longest time to connect.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// The longest time for one answer, in time limits of silence.
const WHOLE: u32 = 20;
/// Most bytes of an error's text or a list of models.
const MOST_TEXT: u64 = 4 << 20;
/// Most models named in a message.
const MOST_NAMES: usize = 8;

/// A client of one server.
pub struct Client {
    server: ServerRef,
    agent: ureq::Agent,
    key: Option<String>,
}

/// The key stays out of debug texts.
impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Client {
    /// A client with the key from the environment; nothing is sent yet.
    ///
    /// # Errors
    /// When the variable of the key is missing or no header can carry its value.
    pub fn new(server: &ServerRef) -> Result<Self, Error> {
        let url = &server.url;
        let key = match &server.key_env {
            None => None,
            Some(name) => match std::env::var(name) {
                Ok(key) if !key.trim().is_empty() && key.trim().bytes().all(|b| b.is_ascii_graphic()) => {
                    Some(key.trim().to_owned())
                }
                Ok(_) => {
                    return Err(Error::Invalid(format!(
                        "the environment variable {name} holds no usable key for server {url}: it is empty, or has spaces or \
                         special characters; set it again"
                    )));
                }
                Err(_) => {
                    return Err(Error::Invalid(format!(
                        "the environment variable {name} is not set: set it to the key of server {url} and try again"
                    )));
                }
            },
        };
        let silence = Duration::from_secs(server.timeout_s.max(1));
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("tiebreak/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT_TIME))
            .timeout_recv_response(Some(silence))
            .timeout_per_read(Some(silence))
            .timeout_global(Some(silence * WHOLE));
        if is_local(server.host()) {
            // A proxy does not reach this computer.
            config = config.proxy(None);
        }
        Ok(Self { server: server.clone(), agent: config.build().into(), key })
    }

    /// The server.
    pub(super) fn server(&self) -> &ServerRef {
        &self.server
    }

    /// A text of the server without the key.
    pub(super) fn clean(&self, text: String) -> String {
        match &self.key {
            Some(key) if text.contains(key.as_str()) => text.replace(key.as_str(), "[key]"),
            _ => text,
        }
    }

    fn fault(&self, error: &ureq::Error) -> ServerFault {
        let fault = ServerFault::transport(&self.server.url, self.server.timeout_s, error);
        ServerFault { text: self.clean(fault.text), ..fault }
    }

    /// Posts a request; the response has a good status.
    pub(super) fn post(&self, path: &str, body: &Value) -> Result<impl Read, ServerFault> {
        let mut request = self
            .agent
            .post(format!("{}/{path}", self.server.url))
            .header("Content-Type", "application/json")
            .header("Accept", "text/event-stream, application/json");
        if let Some(key) = &self.key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        let response = request.send(body.to_string()).map_err(|e| self.fault(&e))?;
        Ok(self.good(response)?.into_body().into_reader())
    }

    /// A response with a good status.
    fn good(
        &self,
        mut response: ureq::http::Response<ureq::Body>,
    ) -> Result<ureq::http::Response<ureq::Body>, ServerFault> {
        let status = response.status().as_u16();
        if (200..300).contains(&status) {
            return Ok(response);
        }
        let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        // The other form, a date, is not used by model servers; it counts as no wish.
        let seconds = header("retry-after").and_then(|text| text.trim().parse::<f64>().ok());
        let moved = header("location");
        let mut body = Vec::new();
        // What cannot be read of an error's text is only missing in the message.
        let _ = response.body_mut().as_reader().take(MOST_TEXT).read_to_end(&mut body);
        let mut body = String::from_utf8_lossy(&body).into_owned();
        if let Some(to) = moved.filter(|_| (300..400).contains(&status)) {
            body = format!("to {to}");
        }
        let key_env = self.server.key_env.as_deref();
        let mut fault = ServerFault::status(&self.server.url, status, &self.clean(body), key_env);
        fault.retry_after =
            seconds.filter(|s| s.is_finite() && *s >= 0.0).map(|s| Duration::from_secs_f64(s.min(3600.0)));
        Err(fault)
    }

    /// Asks for one answer to a prompt: a conversation as a chat, plain text to be continued. `grown` sees it as it arrives.
    pub(super) fn answer(
        &self,
        prompt: &PromptBody,
        sampler: &Sampler,
        seed: u64,
        grown: &mut dyn FnMut(&ServerReply),
    ) -> Result<ServerReply, ServerFault> {
        let (path, mut body) = match prompt {
            PromptBody::Chat(talk) => {
                let mut body = json!({ "messages": talk.turns });
                if !talk.tools().is_empty() {
                    body["tools"] = talk.tools().into();
                }
                if !talk.variables().is_empty() {
                    body["chat_template_kwargs"] = talk.variables().clone().into();
                }
                ("chat/completions", body)
            }
            PromptBody::Text(text) => ("completions", json!({ "prompt": text })),
        };
        let settings = json!({
            "model": self.server.model,
            "temperature": sampler.temperature,
            "top_p": sampler.top_p,
            "max_tokens": sampler.max_new_tokens,
            "seed": seed,
            "stream": true,
            "stream_options": { "include_usage": true },
        });
        if let (Value::Object(body), Value::Object(settings)) = (&mut body, settings) {
            body.extend(settings);
        }
        let response = self.post(path, &body)?;
        ServerReply::read(&self.server.url, response, |line| self.clean(line), grown)
    }

    /// The server's list of models; none where it has no such page.
    fn models(&self) -> Result<Option<Vec<BTreeMap<String, Value>>>, ServerFault> {
        let url = &self.server.url;
        let list = self.models_under(url)?;
        let v1 = format!("{url}/v1");
        if list.is_none() && !url.ends_with("/v1") && matches!(self.models_under(&v1), Ok(Some(_))) {
            let text = format!("server {url} answers under {v1}: write {v1}#NAME");
            return Err(ServerFault::new(FaultKind::Every, text));
        }
        Ok(list)
    }

    fn models_under(&self, url: &str) -> Result<Option<Vec<BTreeMap<String, Value>>>, ServerFault> {
        let mut request = self.agent.get(format!("{url}/models"));
        if let Some(key) = &self.key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        let response = request.call().map_err(|e| self.fault(&e))?;
        if matches!(response.status().as_u16(), 404 | 405 | 501) {
            return Ok(None);
        }
        let mut text = String::new();
        let mut response = self.good(response)?;
        let read = response.body_mut().as_reader().take(MOST_TEXT).read_to_string(&mut text);
        read.map_err(|e| {
            ServerFault::passing(format!("server {url} broke off its list of models ({e}): look at its log"))
        })?;
        let text = self.clean(text);
        let list = serde_json::from_str::<Value>(&text).ok();
        let list = list.as_ref().and_then(|value| value.get("data").or(Some(value))?.as_array());
        let Some(list) = list else {
            let what = format!("no list of models under {url}/models ({})", said(&text));
            return Err(ServerFault::new(
                FaultKind::Every,
                format!("server {url} sent {what}: correct the address; most servers answer under /v1"),
            ));
        };
        let entry = |value: &Value| {
            value.as_object().map(|o| o.iter().map(|(k, v)| (k.clone(), v.clone())).collect::<BTreeMap<_, _>>())
        };
        Ok(Some(list.iter().filter_map(entry).collect()))
    }
}

/// Whether a host is this computer.
fn is_local(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name.eq_ignore_ascii_case("localhost") || name.starts_with("127.") || name == "[::1]"
}

/// The names of the models that a server has.
///
/// # Errors
/// When the server does not answer, asks for another key, or names no model: one sentence that names the server and the remedy.
pub fn names(server: &ServerRef) -> Result<Vec<String>, Error> {
    let url = &server.url;
    let list = Client::new(server)?.models().map_err(|fault| Error::Invalid(fault.text))?;
    let list = list.ok_or_else(|| {
        Error::Invalid(format!("server {url} answers but has no list of models: name one as {url}#NAME"))
    })?;
    let names: Vec<String> =
        list.iter().filter_map(|entry| Some(entry.get("id")?.as_str()?.to_owned())).filter(|n| !n.is_empty()).collect();
    if names.is_empty() {
        return Err(Error::Invalid(format!("server {url} has no model loaded: load one there, then try again")));
    }
    Ok(names)
}

/// Looks a model up in its server's list. A name without a tag means `:latest`, as for Ollama; no name means the only model.
///
/// # Errors
/// When the server does not answer, asks for another key, or does not have the model: one sentence that names the server and the
/// remedy.
pub fn look_up(server: &ServerRef) -> Result<ServerInput, Error> {
    let url = &server.url;
    let client = Client::new(server)?;
    let list = client.models().map_err(|fault| Error::Invalid(fault.text))?;
    let Some(list) = list else {
        if server.model.is_empty() {
            return Err(Error::Invalid(format!("server {url} has no list of models: name one as {url}#NAME")));
        }
        return Ok(ServerInput { url: url.clone(), model: server.model.clone(), entry: BTreeMap::new() });
    };
    let id = |entry: &BTreeMap<String, Value>| entry.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    let names: Vec<String> = list.iter().map(id).filter(|name| !name.is_empty()).collect();
    let wanted = server.model.as_str();
    let found = match (wanted, names.as_slice()) {
        ("", [one]) => Some(one),
        ("", _) => None,
        _ => names.iter().find(|n| *n == wanted).or_else(|| names.iter().find(|n| **n == format!("{wanted}:latest"))),
    };
    let Some(found) = found else {
        let shown: Vec<String> = names.iter().take(MOST_NAMES).map(|n| crate::domain::sanitise(n)).collect();
        let more =
            if names.len() > MOST_NAMES { format!(" and {} more", names.len() - MOST_NAMES) } else { String::new() };
        let has = if names.is_empty() { "no model loaded".into() } else { format!("{}{more}", shown.join(", ")) };
        return Err(Error::Invalid(match nearest(wanted, names.iter().map(String::as_str)) {
            _ if wanted.is_empty() => format!("server {url} has {has}: name one of them as {url}#NAME"),
            Some(near) => format!("server {url} has no model `{wanted}`; did you mean `{near}`?"),
            None => format!("server {url} has no model `{wanted}`, but {has}: name one of them"),
        }));
    };
    let entry = list.iter().find(|entry| id(entry) == *found);
    let entry = entry.into_iter().flatten().map(|(key, value)| (key.clone(), value.to_string())).collect();
    Ok(ServerInput { url: url.clone(), model: found.clone(), entry })
}
