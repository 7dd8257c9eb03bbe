//! `pair`: chooses pairs of answers by a strategy and puts them up for labelling.

use super::super::cli::PairArgs;
use super::super::error::Result;
use super::super::journal::Journal;
use super::super::{out, pairing};
use super::context::CommandContext;
use crate::app::PairRequest;
use crate::protocol::SessionRecord;
use crate::storage::SessionDir;

/// Chooses pairs and writes them to the session's log.
pub fn pair(context: &CommandContext, args: PairArgs) -> Result<()> {
    let name = args.session.clone();
    let request = PairRequest {
        strategy: args.strategy,
        by: args.by,
        quota: args.quota,
        score: args.score,
        against: args.against,
        filter: args.filter,
        limit: args.limit,
        across: args.across,
        seed: args.seed,
    };
    // The words are checked before any file.
    pairing::read(&name, &request)?;
    let dir = SessionDir::find(&context.home, &name)?;
    let mut journal = Journal::require_for(&dir, "pair")?;
    let (session, found) = dir.state()?;
    out::warn_of_damage(&found);
    let chosen = pairing::choose(&session, &dir.name(), &request)?;
    for pair in &chosen.pairs {
        if context.json {
            out::json(pair)?;
        }
        journal.append(&SessionRecord::Paired(pair.clone().into()))?;
    }
    journal.close()?;
    if context.json {
        return Ok(());
    }
    out::line(&chosen.text(&request.strategy))
}
