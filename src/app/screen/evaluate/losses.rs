//! The way of an evaluation's items to the label queue: as ordinary pairs of the session.
//!
//! Owns the records and what the status line says. Refuses to label: a person does, blind.

use crate::app::effect::Effect;
use crate::app::flow;
use crate::app::open::{OpenSession, RunView};
use crate::app::shared::Shared;
use crate::domain::{
    Completion, CompletionId, Contestant, ItemKey, LogProb, Pair, PairId, Prompt, RunId, Sampler, counted,
};
use crate::protocol::{SessionRecord, Task};
use std::sync::Arc;

/// The strategy of these pairs.
pub const STRATEGY: &str = "evaluation losses";

/// What became of the items.
#[derive(Debug, Default)]
struct SentItems {
    records: Vec<SessionRecord>,
    sent: usize,
    /// Those that were sent before.
    known: usize,
    /// Those whose answers are the same.
    equal: usize,
    /// Those without two answers.
    unanswered: usize,
}

/// Sends these items of an evaluation.
pub fn send(shared: &mut Shared, run: &RunId, keys: &[ItemKey]) -> Vec<Effect> {
    if !flow::writable(shared) {
        return Vec::new();
    }
    let Some((open, run)) = shared.open.as_ref().and_then(|open| Some((open, open.run(run)?))) else {
        return Vec::new();
    };
    let sent = pairs(open, run, keys);
    write(shared, &sent)
}

fn write(shared: &mut Shared, sent: &SentItems) -> Vec<Effect> {
    let left =
        [(sent.known, "sent before"), (sent.equal, "with equal answers"), (sent.unanswered, "without two answers")];
    let left: Vec<String> = left.iter().filter(|(n, _)| *n > 0).map(|(n, why)| format!("{n} {why}")).collect();
    let left = if left.is_empty() { String::new() } else { format!(" ({})", left.join(", ")) };
    if sent.sent == 0 {
        shared.warn(format!("no pair is new in the label queue{left}"));
        return Vec::new();
    }
    let these = if sent.sent == 1 { "its prompt is" } else { "their prompts are" };
    let text = format!("{} in the label queue{left}: {these} no longer held out", counted(sent.sent, "pair"));
    let effects = shared.open.as_mut().map(|open| open.write_all(&sent.records)).unwrap_or_default();
    shared.say(text);
    effects
}

/// The records of these items: a prompt that the session lacks, both answers, and the pair.
fn pairs(open: &OpenSession, run: &RunView, keys: &[ItemKey]) -> SentItems {
    let mut out = SentItems::default();
    let mut added: Vec<Prompt> = Vec::new();
    let spec = run.spec.as_ref().and_then(|spec| match &spec.task {
        Task::Eval(eval) => Some(eval),
        _ => None,
    });
    for key in keys {
        let both = Contestant::BOTH.map(|side| run.state.eval.answer_of(key, side));
        let [Some(a), Some(b)] = both else {
            out.unanswered += 1;
            continue;
        };
        if a.text == b.text {
            out.equal += 1;
            continue;
        }
        let seed = if key.seed > 0 { format!("/{}", key.seed) } else { String::new() };
        let id = format!("{}/{}/{}{seed}", run.id, key.suite, key.item);
        if open.session.pair(&PairId::new(&id)).is_some() {
            out.known += 1;
            continue;
        }
        let all = open.session.prompts().iter().map(|prompt| &**prompt);
        let known = all.chain(&added).find(|prompt| prompt.body == a.prompt);
        let prompt = if let Some(prompt) = known {
            prompt.id.clone()
        } else {
            let prompt = Prompt {
                id: a.prompt.derived_id(),
                body: a.prompt.clone(),
                source: format!("{}/{}", run.id, key.suite).into(),
                tags: [].into(),
            };
            out.records.push(SessionRecord::Prompted(Arc::new(prompt.clone())));
            added.push(prompt);
            a.prompt.derived_id()
        };
        let sampler = spec.and_then(|eval| eval.suites.iter().find(|suite| suite.name == key.suite));
        let sampler = sampler.map(|suite| Sampler { seed: suite.sampler.seed + u64::from(key.seed), ..suite.sampler });
        let ids = Contestant::BOTH.map(|side| CompletionId::new(format!("{id}/{}", side.word())));
        for (side, answer) in [(Contestant::A, a), (Contestant::B, b)] {
            out.records.push(SessionRecord::Completed(Arc::new(Completion {
                turns: [].into(),
                id: ids[side.index()].clone(),
                prompt: prompt.clone(),
                model: spec.map_or_else(|| side.word().to_owned(), |eval| eval.side(side).name.clone()).into(),
                text: answer.text.as_str().into(),
                tokens: answer.tokens as u32,
                finish: answer.finish,
                sampler: sampler.map(Arc::new),
                logprob: LogProb::UNKNOWN,
            })));
        }
        let [a, b] = ids;
        let id = PairId::new(id);
        let pair = Pair { id, prompt, a, b, strategy: STRATEGY.into(), p_select: 1.0 };
        out.records.push(SessionRecord::Paired(Arc::new(pair)));
        out.sent += 1;
    }
    out
}
