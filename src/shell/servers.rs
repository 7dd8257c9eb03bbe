//! Models behind servers, looked up by a short-lived worker before a run exists.

use super::error::{Error, Result};
use super::supervisor::{Deadline, ask_within};
use crate::protocol::{ServerInput, ServerOptions, ServerRef};
use std::ffi::OsStr;
use std::time::Duration;

/// Added to the server's own time limit for the look-up.
const ASK_TIME: Duration = Duration::from_secs(30);

/// The servers' models of `URL#NAME`, under the servers' own names for them. The servers are asked.
///
/// # Errors
/// When an address is invalid, a server does not answer, or it does not have the model.
pub fn find(words: &[&String], options: &ServerOptions) -> Result<Vec<ServerRef>> {
    let parsed = words.iter().map(|word| ServerRef::parse(word, options)).collect::<Result<Vec<_>, String>>();
    let servers = parsed.and_then(|servers| options.check(&servers).map(|()| servers)).map_err(Error::Usage)?;
    servers.into_iter().map(look_up).collect()
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
