//! The commands that open a screen of the workbench.

use super::super::bundle::{Fresh, Untouched};
use super::super::cli::ScreenArgs;
use super::super::error::{Error, Result};
use super::super::journal::Journal;
use super::super::plan::{self, SampleOrder};
use super::super::run::{Opening, workbench};
use super::super::run_name::RunName;
use super::super::{bundle, models, out, supervisor};
use super::context::CommandContext;
use crate::app::{Goal, Show};
use crate::demo::{self, Split};
use crate::domain::{
    Filter, OVERALL, Prompt, PromptBody, PromptId, QueueOrder, Rater, RubricPass, RunId, Sampler, nearest,
};
use crate::protocol::{ServerOptions, SessionMeta, SessionRecord};
use crate::storage::{Home, SessionDir};

/// Opens the workbench, on a screen of a session if one is named.
pub fn open(
    context: CommandContext,
    goal: Option<(String, Goal)>,
    rater: Option<String>,
    args: &ScreenArgs,
) -> Result<()> {
    open_in(context, goal, rater, Asking::default(), args)
}

/// Which pairs `label` asks for.
#[derive(Debug)]
pub struct LabelQueue {
    /// Their order.
    pub order: QueueOrder,
    /// What they match.
    pub filter: Option<Filter>,
    /// The criterion, `all` or `overall`.
    pub rubric: String,
}

/// The same, checked against the session.
#[derive(Default)]
struct Asking {
    order: QueueOrder,
    filter: Option<Filter>,
    rubric: RubricPass,
}

/// Opens the labelling screen, with these pairs.
pub fn label(
    context: CommandContext,
    session: String,
    queue: LabelQueue,
    rater: Option<String>,
    args: &ScreenArgs,
) -> Result<()> {
    let LabelQueue { order, filter, rubric } = queue;
    let mut pass = RubricPass::Overall;
    if rubric != OVERALL {
        let (state, _) = SessionDir::find(&context.home, &session)?.state()?;
        pass = RubricPass::parse(&rubric, state.criteria()).map_err(Error::failed)?;
    }
    if filter.as_ref().is_some_and(Filter::unblinds) {
        out::note("a filter by model may tell you who wrote an answer");
    }
    open_in(context, Some((session, Goal::to("label"))), rater, Asking { order, filter, rubric: pass }, args)
}

fn open_in(
    context: CommandContext,
    goal: Option<(String, Goal)>,
    rater: Option<String>,
    asking: Asking,
    args: &ScreenArgs,
) -> Result<()> {
    if context.json {
        return Err(Error::Usage("--json is for commands, and this opens a screen: leave it out".into()));
    }
    if let Some((session, _)) = &goal {
        // A wrong name is said here in a sentence, not on a screen that opens for nothing.
        SessionDir::find(&context.home, session)?;
    }
    let (Asking { order, filter, rubric }, rater) = (asking, rater_named(rater)?);
    workbench(Opening { home: context.home, goal, rater, order, filter, rubric, synchronise: !args.no_sync })
}

/// The rater of that name, or of the user's.
pub(super) fn rater_named(name: Option<String>) -> Result<Rater> {
    let name = name.or_else(|| std::env::var("USER").ok()).filter(|name| !name.trim().is_empty());
    let name = name.unwrap_or_else(|| "me".into());
    if let Some(why) = Rater::reserved(&name) {
        return Err(Error::Usage(why.into()));
    }
    Ok(Rater::new(name))
}

/// Prompts of the live demo.
const LIVE_PROMPTS: usize = 60;

/// Opens a copy of a bundled session; without a name, a fresh session on the model that the binary carries, which answers
/// its first prompts at once. A build without the model opens its first bundled session instead.
pub fn demo(context: CommandContext, name: Option<&str>, args: &ScreenArgs) -> Result<()> {
    if name.is_none_or(|name| name == LIVE)
        && let Some(dir) = live(&context.home)?
    {
        let path = dir.path().display().to_string();
        return open(context, Some((path, Goal::to("label"))), None, args);
    }
    let names = bundle::names();
    let name = match name {
        Some(name) => names.iter().find(|n| **n == name).copied(),
        None => names.first().copied(),
    };
    let Some(name) = name else {
        return Err(Error::Usage(match nearest(name.unwrap_or_default(), names) {
            Some(near) => format!("there is no bundled session of that name; did you mean `{near}`?"),
            None => "this build carries no session: make one with `tiebreak new`".into(),
        }));
    };
    let Fresh { demo: dir, kept } = bundle::unpack(&context.home, name)?;
    say_kept(&context.home, kept);
    let path = dir.path().display().to_string();
    open(context, Some((path, Goal::to("watch"))), None, args)
}

/// Says where the labels of the last demo are.
fn say_kept(home: &Home, kept: Option<SessionDir>) {
    let Some(session) = kept else { return };
    let name = if session.path().parent() == Some(home.sessions().as_path()) {
        session.name()
    } else {
        session.path().display().to_string()
    };
    out::note(&format!("your work in the last demo is kept: open it with `tiebreak label {name}`"));
}

/// The live demo's name.
const LIVE: &str = "live";

/// A fresh session on the embedded model with a sampling run under way; none where the binary carries no model.
fn live(home: &Home) -> Result<Option<SessionDir>> {
    let Some(model) = models::embedded(home)? else { return Ok(None) };
    // The prompts below and the run that answers them.
    let untouched = Untouched { records: LIVE_PROMPTS as u64, runs: 1 };
    let Fresh { demo: target, kept } = bundle::fresh(home, LIVE, untouched)?;
    say_kept(home, kept);
    let meta = SessionMeta {
        format: 1,
        name: String::new(),
        model: model.name.clone(),
        created_ms: plan::wall_ms(),
        app: env!("CARGO_PKG_VERSION").into(),
    };
    let dir = SessionDir::create(home, &target.display().to_string(), &meta)?;
    let mut journal = Journal::require(&dir)?;
    for (n, text) in demo::prompts(plan::wall_ms(), LIVE_PROMPTS, Split::HeldOut).into_iter().enumerate() {
        journal.append(&SessionRecord::Prompted(
            Prompt {
                id: PromptId::new(format!("p{}", n + 1)),
                body: PromptBody::user(text),
                source: "demo".into(),
                tags: [].into(),
            }
            .into(),
        ))?;
    }
    journal.sync()?;
    let order = SampleOrder {
        models: Vec::new(),
        servers: ServerOptions::default(),
        adapters: Vec::new(),
        per_prompt: 2,
        sampler: Sampler { temperature: 1.0, top_p: 1.0, max_new_tokens: 64, ..Sampler::default() },
        count_seed: true,
        device: "cpu".into(),
        upto: None,
    };
    let (spec, data) = plan::sample(home, &dir, order)?;
    supervisor::launch(&dir, Some(&mut journal), &spec, &data, RunName::NextWithSeed)?;
    journal.close()?;
    Ok(Some(dir))
}

/// Opens the charts of a session or of one run of it.
pub fn watch(context: CommandContext, target: &str, args: &ScreenArgs) -> Result<()> {
    let whole = SessionDir::find(&context.home, target);
    let goal = match (whole, target.trim_end_matches('/').rsplit_once('/')) {
        (Ok(_), _) => (target.to_owned(), Goal::to("watch")),
        (Err(_), Some((session, run))) => {
            let run = RunId::new(run);
            SessionDir::find(&context.home, session)?.run(&run)?;
            (session.to_owned(), Goal::with("watch", Show::Run(run)))
        }
        (Err(error), None) => return Err(error.into()),
    };
    open(context, Some(goal), None, args)
}
