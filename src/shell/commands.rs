//! The headless commands. Each runs the same code as a screen and answers in text or JSON.

mod agreement;
mod bench;
mod check;
mod config;
mod contest;
mod context;
mod copies;
mod doctor;
mod dry_run;
mod evaluate;
mod follow;
mod hub;
mod launch;
mod make;
mod models;
mod pair;
mod picture;
mod report;
mod rounds;
mod rubric;
mod runs;
mod score;
mod screens;
mod session;
mod tag;

use super::cli::{Cli, Command, DataAction, ModelsAction, definition};
use super::error::Result;
use crate::app::{Goal, Show};
use crate::protocol::RunCommand;
use crate::storage::Home;
use context::CommandContext;
use rustix::fs::Mode;

/// Runs the command.
///
/// # Errors
/// When it fails.
pub fn run(cli: Cli) -> Result<()> {
    // The files of this process and its workers hold the user's texts: keep them private.
    let users = rustix::process::umask(Mode::from_raw_mode(0o077));
    let home = Home::resolve(cli.home.as_deref())?;
    if let Some(warning) = home.open_to_others() {
        super::out::note(&warning);
    }
    let context = CommandContext { home, json: cli.json };
    let Some(command) = cli.command else {
        return screens::open(context, None, None, &cli.screen);
    };
    match command {
        Command::Demo { name, screen } => screens::demo(context, name.as_deref(), &screen),
        // Models get the user's own umask: they may be shared.
        Command::Models { action } => {
            if matches!(action, Some(ModelsAction::Make(_) | ModelsAction::Get { .. })) {
                rustix::process::umask(users);
            }
            models::run(&context, action)
        }
        Command::Data { action: DataAction::Get { name, to } } => {
            rustix::process::umask(users);
            hub::data(&context, &name, to.as_deref())
        }
        Command::Render(args) => models::render(&context, &args),
        Command::New(args) => session::new(&context, &args),
        Command::Import(args) => session::import(&context, &args),
        Command::Export(args) => session::export(&context, &args),
        Command::Sample(args) => launch::sample(&context, args),
        Command::Train(args) => launch::train(&context, args),
        Command::Eval(args) => evaluate::evaluate(&context, *args),
        Command::Loop(args) => rounds::run(&context, *args),
        Command::Merge(args) => {
            rustix::process::umask(users);
            runs::merge(&context, &args)
        }
        Command::Runs { session } => runs::list(&context, &session),
        Command::Pause(args) => runs::send(&context, &args.run, RunCommand::Pause),
        Command::Resume(args) => runs::resume(&context, &args.run),
        Command::Checkpoint(args) => runs::send(&context, &args.run, RunCommand::Checkpoint),
        Command::Stop(args) => runs::send(&context, &args.run, RunCommand::Stop),
        Command::Pair(args) => pair::pair(&context, args),
        Command::Agreement(args) => agreement::agreement(&context, &args),
        Command::Rule(args) => agreement::rule(&context, &args),
        Command::Pack(args) => copies::pack(&context, &args),
        Command::Unpack(args) => copies::unpack(&context, &args),
        Command::Collect(args) => copies::collect(&context, &args),
        Command::Score(args) => score::run(&context, &args),
        Command::Rubric(args) => rubric::run(&context, &args),
        Command::Tag(args) => tag::run(&context, &args),
        Command::Label { session, order, filter, rubric, rater, screen } => {
            screens::label(context, session, screens::LabelQueue { order, filter, rubric }, rater, &screen)
        }
        Command::Watch { target, screen } => screens::watch(context, &target, &screen),
        Command::Replay(args) if args.check => check::run(&context, &args.session),
        Command::Replay(args) => {
            let goal = Goal::with("replay", args.speed.map_or(Show::Default, Show::Speed));
            screens::open(context, Some((args.session, goal)), None, &args.screen)
        }
        Command::Report(args) => report::run(&context, &args),
        Command::Bench { action } => bench::run(&context, action),
        Command::Config => config::config(&context),
        Command::Doctor => doctor::run(&context),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut definition(), "tiebreak", &mut script);
            super::out::raw(&script)
        }
    }
}
