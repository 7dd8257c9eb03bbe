//! `rubric`: the criteria by which a session's pairs are judged.

use super::super::cli::RubricArgs;
use super::super::error::{Error, Result};
use super::super::journal::Journal;
use super::super::out;
use super::context::CommandContext;
use crate::domain::{Criterion, Session, counted, nearest, sanitise};
use crate::protocol::SessionRecord;
use crate::storage::SessionDir;
use serde_json::json;

/// Adds and removes criteria where some are given, and lists them.
pub fn run(context: &CommandContext, args: &RubricArgs) -> Result<()> {
    let added: Vec<Criterion> =
        args.add.iter().map(|text| Criterion::parse(text).map_err(Error::Usage)).collect::<Result<_>>()?;
    let dir = SessionDir::find(&context.home, &args.session)?;
    let (mut session, found) = dir.state()?;
    out::warn_of_damage(&found);
    let mut records = Vec::new();
    for name in &args.remove {
        if session.criterion(name).is_none() {
            let near = nearest(name, session.criteria().iter().map(|c| c.name.as_str()));
            let near = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            return Err(Error::failed(format!("session {} has no criterion `{name}`{near}", dir.name())));
        }
        records.push((name.clone(), None));
        session.set_criterion(name, None);
    }
    for Criterion { name, sentence } in added {
        if session.criterion(&name).map(|c| &c.sentence) != Some(&sentence) {
            session.set_criterion(&name, Some(&sentence));
            records.push((name, Some(sentence)));
        }
    }
    if !records.is_empty() {
        let mut journal = Journal::require(&dir)?;
        for (name, sentence) in records {
            journal.append(&SessionRecord::CriterionSet { name, sentence })?;
        }
        journal.close()?;
    }
    for name in &args.remove {
        let n = verdicts(&session, name);
        if n > 0 && session.criterion(name).is_none() {
            out::note(&format!("{} by {name} stay in the log and count again if it is added", counted(n, "verdict")));
        }
    }
    list(context, &dir, &session)
}

fn list(context: &CommandContext, dir: &SessionDir, session: &Session) -> Result<()> {
    if session.criteria().is_empty() && !context.json {
        let name = dir.name();
        return out::line(&format!(
            "session {name} has no criteria: pairs are judged overall; `tiebreak rubric {name} --add helpful` adds one"
        ));
    }
    for Criterion { name, sentence } in session.criteria() {
        let n = verdicts(session, name);
        if context.json {
            out::json(&json!({ "criterion": name, "sentence": sentence, "verdicts": n }))?;
        } else {
            out::line(&format!("{name}: {}  ({})", sanitise(sentence).replace('\n', " "), counted(n, "verdict")))?;
        }
    }
    Ok(())
}

/// How many verdicts by a criterion count.
fn verdicts(session: &Session, name: &str) -> usize {
    let by = |(_, judged): &(u64, crate::domain::Judged<'_>)| {
        !judged.undone && judged.verdict.asked.criterion.as_deref() == Some(name)
    };
    session.verdicts().filter(by).count()
}
