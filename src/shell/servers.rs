//! Models behind servers, looked up by a short-lived worker before a run exists.
//!
//! Owns the list of servers that got a key from here. Refuses to resume a run of a foreign session that would send a key of this
//! computer to a server of its choice.

use super::error::{Error, Result};
use super::supervisor::{Deadline, ask_within};
use crate::protocol::{ServerInput, ServerOptions, ServerRef};
use crate::storage::{Home, RunDir, write_private};
use std::ffi::OsStr;
use std::time::Duration;

/// Added to the server's own time limit for the look-up.
const ASK_TIME: Duration = Duration::from_secs(30);

/// The file of servers that got a key, below the data folder: lines of an address and a variable's name.
const KNOWN: &str = "server-keys.txt";

fn line(server: &ServerRef) -> Option<String> {
    Some(format!("{} {}", server.url, server.key_env.as_ref()?))
}

fn known(home: &Home) -> Vec<String> {
    let text = crate::foreign::read_text(&home.root().join(KNOWN), crate::foreign::CONFIG).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Remembers which key goes to which server, as the user said on a launch.
///
/// # Errors
/// When the file cannot be written.
pub fn remember_keys(home: &Home, servers: &[ServerRef]) -> Result<()> {
    let mut lines = known(home);
    let before = lines.len();
    for line in servers.iter().filter_map(line) {
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    if lines.len() > before {
        write_private(&home.root().join(KNOWN), (lines.join("\n") + "\n").as_bytes())?;
    }
    Ok(())
}

/// Refuses a run that would send a key to a server that got none from here before.
///
/// # Errors
/// When it would, or its specification cannot be read.
pub fn check_keys(home: &Home, run: &RunDir) -> Result<()> {
    let (spec, known) = (run.spec()?, known(home));
    match spec.servers().iter().find(|server| line(server).is_some_and(|line| !known.contains(&line))) {
        None => Ok(()),
        Some(server) => Err(Error::failed(format!(
            "run {} would send the key in {} to server {}, which got none from here before: if you trust that server, sample from it \
             once yourself, then resume",
            run.id(),
            server.key_env.as_deref().unwrap_or_default(),
            crate::domain::sanitise(&server.url)
        ))),
    }
}

/// The servers' models of `URL#NAME`, under the servers' own names for them. The servers are asked.
///
/// # Errors
/// When an address is invalid, a server does not answer, or it does not have the model.
pub fn find(words: &[&String], options: &ServerOptions) -> Result<Vec<ServerRef>> {
    let parsed = words.iter().map(|word| ServerRef::parse(word, options)).collect::<Result<Vec<_>, String>>();
    let servers = parsed.and_then(|servers| options.check(&servers).map(|()| servers)).map_err(Error::Usage)?;
    servers.into_iter().map(look_up).collect()
}

/// The names of the models that a server has. The server is asked.
///
/// # Errors
/// When the address is invalid, or the server does not answer or names no model.
pub fn models(url: &str, options: &ServerOptions) -> Result<Vec<String>> {
    let server = ServerRef::parse(url, options).map_err(Error::Usage)?;
    options.check(std::slice::from_ref(&server)).map_err(Error::Usage)?;
    let json = serde_json::to_string(&server).map_err(|e| Error::bug("write a server as JSON", e))?;
    let mut names = Vec::new();
    // A form waits for it: a server that is silent for this long is down.
    let limit = ASK_TIME.min(Duration::from_secs(server.timeout_s.max(1)));
    ask_within(Some(&Deadline::of(limit)), &[OsStr::new("server-models"), OsStr::new(&json)], |name: String| {
        names.push(name);
        Ok(())
    })?;
    Ok(names)
}

fn look_up(server: ServerRef) -> Result<ServerRef> {
    let json = serde_json::to_string(&server).map_err(|e| Error::bug("write a server as JSON", e))?;
    let mut found = None;
    let limit = ASK_TIME + Duration::from_secs(server.timeout_s);
    ask_within(Some(&Deadline::of(limit)), &[OsStr::new("server"), OsStr::new(&json)], |input: ServerInput| {
        found = Some(input);
        Ok(())
    })?;
    let found = found.ok_or_else(|| Error::failed(format!("server {} gave no answer: try again", server.url)))?;
    Ok(ServerRef { model: found.model, ..server })
}
