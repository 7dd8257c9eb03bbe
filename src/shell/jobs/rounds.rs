//! Loops in the background of the workbench: planning one, starting its process, stopping it.
//!
//! Owns nothing: the process of a loop lives on its own, and what it records comes back through the session's inbox.

use super::super::error::{Error, Result};
use super::super::job_context::JobContext;
use super::super::reply::Replies;
use super::super::{rounds, supervisor, tails};
use super::context::run_in_background;
use crate::app::{LoopRequest, Msg};
use crate::protocol::RunCommand;
use crate::storage::{Home, LoopFolder};
use std::sync::mpsc::Sender;

/// What is asked of a loop.
#[derive(Debug)]
pub enum LoopJob {
    /// Check it and say what it would do.
    Plan {
        /// Identifies the question in the answer.
        ticket: u64,
        /// The loop.
        request: Box<LoopRequest>,
    },
    /// Plan it and start its process.
    Start(Box<LoopRequest>),
    /// Start the process of a planned one.
    Resume(String),
    /// Stop its process.
    Stop(String),
}

/// Does it in its own thread.
pub(super) fn start(
    home: &Home,
    context: JobContext,
    job: LoopJob,
    replies: &Replies,
    tails: &Sender<tails::TailRequest>,
) {
    let (home, answers, tails) = (home.clone(), replies.clone(), tails.clone());
    run_in_background(replies, "loops", move || {
        let opening = context.opening;
        let done = match job {
            LoopJob::Plan { ticket, request } => {
                let answer = plan(&home, &context, &request).map_err(|e| e.to_string());
                answers.of(opening, Msg::LoopPlanned { ticket, answer });
                return;
            }
            LoopJob::Start(request) => rounds::enter(&home, &context.dir, &request).and_then(|spec| {
                // The writer takes the plan from the inbox; the loop's process waits for that.
                let _ = tails.send(tails::TailRequest::Poll);
                supervisor::start_loop(&home, &context.dir, &spec.name, &request.key_envs)?;
                Ok(format!("{} started: it goes on without this window", spec.name))
            }),
            LoopJob::Resume(name) => supervisor::start_loop(&home, &context.dir, &name, &[])
                .map(|()| format!("{name} goes on in the background")),
            LoopJob::Stop(name) => stop(&context, &name),
        };
        let _ = tails.send(tails::TailRequest::Poll);
        answers.of(opening, done.map_or_else(|error| Msg::Failed(error.to_string()), Msg::Note));
    });
}

fn plan(home: &Home, context: &JobContext, request: &LoopRequest) -> Result<Vec<String>> {
    let spec = rounds::plan(home, &context.dir, request)?;
    let (session, ..) = context.dir.snapshot(context.upto)?;
    Ok(rounds::plan_words(&context.dir.name(), &spec, &session))
}

fn stop(context: &JobContext, name: &str) -> Result<String> {
    let folder = LoopFolder::of(&context.dir, name);
    if !folder.is_running() {
        return Err(Error::failed(format!("{name} is not running")));
    }
    folder.post(RunCommand::Stop)?;
    Ok(format!("{name} stops after a checkpoint of its run"))
}
