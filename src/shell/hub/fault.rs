//! What can go wrong with the hub, in plain sentences.

use super::super::error::Error;
use super::place::HubPlace;
use super::reply::HubReply;
use crate::domain::sanitise;
use std::io::ErrorKind;

/// Why a request brought nothing.
#[derive(Debug)]
pub(super) enum HubFault {
    /// Nobody answers: what is in the cache may do.
    Unreachable(String),
    /// The same request may succeed later.
    Passing(String),
    /// There is no such repository, revision or file.
    Missing(String),
    /// Any other.
    Failed(Error),
}

impl From<Error> for HubFault {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<HubFault> for Error {
    fn from(fault: HubFault) -> Self {
        match fault {
            HubFault::Unreachable(text) | HubFault::Passing(text) | HubFault::Missing(text) => Self::failed(text),
            HubFault::Failed(error) => error,
        }
    }
}

/// A request that no response came to.
pub(super) fn transport(place: &HubPlace, error: &ureq::Error) -> HubFault {
    let hub = &place.endpoint;
    let remedy = "connect to the internet, or set HF_ENDPOINT to a mirror";
    HubFault::Unreachable(match error {
        ureq::Error::HostNotFound => format!("the host of {hub} is unknown: {remedy}"),
        ureq::Error::Timeout(_) => format!("{hub} does not answer in time: {remedy}"),
        ureq::Error::Io(e) if e.kind() == ErrorKind::ConnectionRefused => {
            format!("{hub} takes no connection: {remedy}")
        }
        other => format!("the connection to {hub} failed ({}): {remedy}", sanitise(&other.to_string())),
    })
}

/// A response with an error status to a request about `what`, a file or a revision of `repo`.
pub(super) fn status(place: &HubPlace, repo: &str, what: &str, reply: &HubReply) -> HubFault {
    let (hub, status) = (&place.endpoint, reply.status);
    let code = reply.header("x-error-code").unwrap_or_default();
    let said = reply.header("x-error-message").map(|text| text.chars().take(200).collect::<String>());
    let said = said.map_or_else(String::new, |text| format!(" ({})", sanitise(text.trim())));
    let token = place.token.is_some();
    match (status, code.as_str()) {
        (401 | 403, "GatedRepo") | (403, "") if !token => HubFault::Failed(Error::failed(format!(
            "{repo} is gated: accept its terms at {hub}/{repo}, then set HF_TOKEN to your token and try again"
        ))),
        (401 | 403, "GatedRepo") => HubFault::Failed(Error::failed(format!(
            "{repo} is gated and your token has no access{said}: accept its terms at {hub}/{repo} with the token's account, \
             then try again"
        ))),
        (401, _) if token => HubFault::Failed(Error::failed(format!(
            "the hub refuses the token for {repo}, status 401{said}: correct the name, or set HF_TOKEN to a valid token"
        ))),
        (401, _) => HubFault::Failed(Error::failed(format!(
            "{repo} does not exist on {hub}, or is private, status 401: correct the name, or set HF_TOKEN to a token that may read it"
        ))),
        (403, _) => HubFault::Failed(Error::failed(format!(
            "the token may not read {repo}, status 403{said}: set HF_TOKEN to one that may"
        ))),
        (404, "RepoNotFound") => HubFault::Missing(format!("there is no {repo} on {hub}: correct the name")),
        (404, "RevisionNotFound") => {
            HubFault::Missing(format!("{repo} has no such revision as {what}: correct what stands behind @"))
        }
        (404, _) => HubFault::Missing(format!("{repo} has no {what} on {hub}: correct the name")),
        (429, _) => HubFault::Passing(format!("{hub} limits the rate, status 429{said}: try again later")),
        (500..=599, _) => HubFault::Passing(format!("{hub} failed, status {status}{said}: try again later")),
        _ => HubFault::Failed(Error::failed(format!(
            "{hub} refused the request for {what} of {repo}, status {status}{said}: check HF_ENDPOINT"
        ))),
    }
}
