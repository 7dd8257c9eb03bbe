//! What is said of a loop: its plan, its rounds, its end.

use crate::domain::{
    LoopProgress, LoopPrompts, LoopRows, LoopSpec, LoopState, LoopStep, RoundProgress, RunStatus, Session, counted,
    sanitise,
};

/// How a loop's process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoopEnd {
    /// Every round is done.
    Done,
    /// This round is not better than the one before.
    NoGain(u32),
    /// People have to judge: the round, the step, the pairs.
    Waits(u32, LoopStep, usize),
    /// It was stopped on command.
    Stopped,
    /// It was interrupted.
    Interrupted,
}

impl LoopEnd {
    /// What a loop that has nothing to do by itself waits for or ended with.
    #[must_use]
    pub fn of(found: &LoopProgress) -> Self {
        match &found.state {
            LoopState::NoGain { round } => Self::NoGain(*round),
            LoopState::Waits { round, step, left } => Self::Waits(*round, *step, *left),
            LoopState::Done | LoopState::Next { .. } => Self::Done,
        }
    }
}

/// The plan, line by line.
#[must_use]
pub fn plan_words(session_name: &str, spec: &LoopSpec, session: &Session) -> Vec<String> {
    let prompts = LoopPrompts::of(spec, session);
    let start = spec.init.as_ref().map_or_else(|| "the session's model".to_owned(), ToString::to_string);
    let limit = spec.limit.map_or_else(String::new, |n| format!(", at most {n}"));
    let score = spec.score.as_ref().map_or_else(String::new, |source| format!(" by {}", sanitise(source)));
    let rows = match spec.rows {
        LoopRows::Round => "the round's rows",
        LoopRows::All => "the rows of all rounds so far",
    };
    let beside = if spec.suites.is_empty() { String::new() } else { format!(" and {}", spec.suites.join(", ")) };
    let compared = spec.eval_limit.map_or(prompts.held_out.len(), |n| n.min(prompts.held_out.len()));
    let stop = if spec.all_rounds {
        "does every round, better or not"
    } else {
        "stops after a round that is not better than the one before: its 95 % interval does not lie above 50 %"
    };
    vec![
        format!("{} of session {session_name}: {}, from {start}", spec.name, counted(spec.rounds as usize, "round")),
        format!(
            "sample    {} a round, {} to each, temperature {}, seed {} and up",
            counted(spec.prompts_per_round, "prompt"),
            counted(spec.per_prompt, "answer"),
            spec.sampler.temperature,
            spec.sampler.seed
        ),
        format!("pair      {}{score}{limit}", spec.strategy),
        format!("judge     {}", sanitise(&spec.judge)),
        format!("train     {} on {rows}, from the round before, which is the reference", spec.method),
        format!(
            "evaluate  winrate{beside} by {} on {} of {}, against the round before",
            sanitise(&spec.eval_judge),
            compared,
            counted(prompts.held_out.len(), "held-out prompt")
        ),
        format!("{} {stop}", spec.name),
    ]
}

/// A round in one line.
#[must_use]
pub fn round_words(round: &RoundProgress) -> String {
    let of = |status: &Option<RunStatus>| status.as_ref().map_or("–", RunStatus::word);
    let win = match (&round.runs.win, &round.runs.evaluation) {
        (Some(win), Some(RunStatus::Finished)) => format!("win rate {}  {}", win.numbers(), win.word()),
        (_, status) => of(status).to_owned(),
    };
    format!(
        "round {:<3} sample {:<9} pairs {:<5} judged {:<5} ties {:<4} train {:<9} evaluate {win}",
        round.round,
        of(&round.runs.sampling),
        round.pairs,
        round.judged,
        round.ties,
        of(&round.runs.training),
    )
}

/// Where it stands, in one sentence.
#[must_use]
pub fn standing(session_name: &str, spec: &LoopSpec, found: &LoopProgress, running: bool) -> String {
    let name = &spec.name;
    let go_on = format!("go on with `tiebreak loop {session_name} --resume {name}`");
    match &found.state {
        LoopState::Next { round, step, status } => {
            let what = match status {
                Some(RunStatus::Failed(why)) => format!("failed: {}", sanitise(why)),
                Some(status) => status.word().to_owned(),
                None => "to do".into(),
            };
            let tail = if running { "it is running".to_owned() } else { go_on };
            format!("{name} is at round {round} of {}, {} ({what}); {tail}", spec.rounds, step.word())
        }
        LoopState::Waits { .. } | LoopState::Done | LoopState::NoGain { .. } => {
            end_words(session_name, spec, found, &LoopEnd::of(found))
        }
    }
}

/// How it ended, in one sentence with the numbers.
#[must_use]
pub fn end_words(session_name: &str, spec: &LoopSpec, found: &LoopProgress, end: &LoopEnd) -> String {
    let name = &spec.name;
    let go_on = format!("`tiebreak loop {session_name} --resume {name}`");
    let numbers = |round: u32| {
        let win = found.rounds.iter().find(|r| r.round == round).and_then(|r| r.runs.win.as_ref());
        win.map_or_else(|| "nothing could be compared".to_owned(), |win| format!("win rate {}", win.numbers()))
    };
    let word = |round: u32| {
        let win = found.rounds.iter().find(|r| r.round == round).and_then(|r| r.runs.win.as_ref());
        win.map_or("cannot tell", crate::domain::RoundWin::word)
    };
    let result = match found.result(spec) {
        Some(run) => format!("the result is {run}"),
        None => "the result is the model that it started from".into(),
    };
    match end {
        LoopEnd::Done => format!(
            "{name} did all of its {}; the last against the one before: {}, {}; {result}",
            counted(spec.rounds as usize, "round"),
            numbers(spec.rounds),
            word(spec.rounds)
        ),
        LoopEnd::NoGain(round) => {
            let all = if *round < spec.rounds { "; plan one with --all-rounds to go on anyway" } else { "" };
            format!(
                "{name} ends after round {round} of {}, which is not better than the model before: {}, {}; {result}{all}",
                spec.rounds,
                numbers(*round),
                word(*round)
            )
        }
        LoopEnd::Waits(round, LoopStep::Judge, left) => format!(
            "{name} waits at round {round}: {} to judge; label them with `tiebreak label {session_name} --filter model:{}`, then run \
             {go_on}",
            counted(*left, "pair"),
            spec.sampling(*round)
        ),
        LoopEnd::Waits(round, _, left) => format!(
            "{name} waits at round {round}: {} of its evaluation to judge, blind; label them with `tiebreak label {session_name} \
             --filter eval:{}`, then run {go_on}",
            counted(*left, "pair"),
            spec.evaluation(*round)
        ),
        LoopEnd::Stopped => format!("{name} was stopped; go on with {go_on}"),
        LoopEnd::Interrupted => {
            format!("{name} was left; a run that it had begun continues in the background; go on with {go_on}")
        }
    }
}
