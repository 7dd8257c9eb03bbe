//! A run's servers: looked up, recorded by the first worker, compared by every later one; and what the log says of their answers.
//!
//! Refuses to go on with another model behind the same name. The weights behind a server have no fingerprint: the run says so.

use super::error::Error;
use super::log::Log;
use super::out::say;
use crate::domain::{Finding, Severity};
use crate::generate::server::{look_up, names};
use crate::protocol::{Inputs, RunEvent, RunSpec, ServerInput, ServerLog, ServerRef};
use crate::storage::RunDir;

/// Looks up every server of the run and compares it with its record; says once what cannot be checked.
///
/// # Errors
/// When a server does not answer, does not have the model, or has another one under its name.
pub(super) fn check_servers(spec: &RunSpec, known: &Inputs, log: &mut Log) -> Result<Vec<ServerInput>, Error> {
    let mut out = Vec::new();
    for server in spec.servers() {
        let now = look_up(server)?;
        match known.server(&server.url, &server.model) {
            Some(then) => compare(spec, server, then, &now)?,
            None => log.put(&RunEvent::Found(Finding {
                rule: "server_weights".into(),
                step: log.step,
                severity: Severity::Note,
                text: format!(
                    "The weights behind {} cannot be fingerprinted: the run is bound to the server's address, the model's name and \
                     its entry in the server's list.",
                    server.name()
                ),
                remedy: "Note the model's file and version if the answers must be repeatable.".into(),
                pair: None,
            }))?,
        }
        out.push(now);
    }
    Ok(out)
}

fn compare(spec: &RunSpec, server: &ServerRef, then: &ServerInput, now: &ServerInput) -> Result<(), Error> {
    let differences = then.differences(now);
    if differences.is_empty() {
        return Ok(());
    }
    Err(Error::Changed {
        what: format!("the model {} of server {} has another {}", server.model, server.url, differences.join(", ")),
        since: format!("run {} began", spec.id),
    })
}

/// What the run's log says about answers of servers.
pub(super) fn logged_answers(run: &RunDir) -> Result<ServerLog, Error> {
    let mut log = ServerLog::default();
    for envelope in run.tail().poll()? {
        match envelope.data {
            Ok(RunEvent::Requested { completion }) => drop(log.under_way.insert(completion)),
            Ok(RunEvent::Answered(answer)) => {
                log.under_way.remove(&answer.completion.id);
                log.answers.push(answer);
            }
            Ok(RunEvent::Unanswered { completion, reason }) => {
                log.under_way.remove(&completion);
                log.unanswered.push((completion, reason));
            }
            _ => {}
        }
    }
    Ok(log)
}

/// The servers of a run in the place of its device: `server 127.0.0.1:8080`.
pub(super) fn device_name(servers: &[ServerRef]) -> String {
    let mut hosts: Vec<&str> = servers.iter().map(ServerRef::host).collect();
    hosts.dedup();
    format!("server {}", hosts.join(", "))
}

/// `worker server JSON`: the [`ServerInput`] of a [`ServerRef`]; otherwise the reason as an error.
pub(super) fn server(json: &str) -> Result<(), Error> {
    let server: ServerRef = serde_json::from_str(json).map_err(|e| Error::Failed(format!("invalid server: {e}")))?;
    say(&look_up(&server)?)
}

/// `worker server-models JSON`: the name of each model that a server has, a line each; otherwise the reason as an error.
pub(super) fn models(json: &str) -> Result<(), Error> {
    let server: ServerRef = serde_json::from_str(json).map_err(|e| Error::Failed(format!("invalid server: {e}")))?;
    names(&server)?.iter().try_for_each(say)
}
