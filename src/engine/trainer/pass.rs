//! One micro-batch through the policy and back, and the evaluation.
//!
//! On the CPU each example goes through the decoder alone, without the batch's padding: the same sums, less work, and the
//! same bits as its reference log-probs, so that margins start at exactly 0.

use super::{Data, Trainer, Way};
use crate::domain::{Metrics, PairId};
use crate::engine::error::Error;
use crate::engine::loss::Tally;
use crate::engine::policy::{Batch, Policy, RowScores, TokenScores};
use crate::engine::recipe::{Loss, Seen, Window};
use crate::engine::reference::Reference;
use crate::engine::rows::Example;
use crate::engine::sink::Sink;
use crate::protocol::RunEvent;

impl Trainer {
    /// Scores a micro-batch of the training examples, adds its gradient, and gives its part of the window's loss. `before`
    /// is how many examples the run has seen before it.
    pub(super) fn pass(
        &mut self,
        micro: &[usize],
        before: u64,
        window: &Window,
        tally: &mut Tally,
        sink: &mut dyn Sink,
    ) -> Result<f64, Error> {
        let examples: Vec<&Example> = micro.iter().map(|i| &self.train.examples[*i]).collect();
        let references: Vec<Option<&Reference>> = micro.iter().map(|i| self.train.references.get(*i)).collect();
        let Way::Rows(recipe) = &self.way else { return Ok(0.0) };
        let done = forward_backward(&mut self.policy, &examples, &references, before, 1.0, &mut |seen| {
            recipe.loss(seen, window, tally)
        })?;
        match done {
            Ok(loss) => Ok(loss),
            Err(bad) => Err(self.bad_scores(bad, sink)?),
        }
    }

    /// Measures the evaluation examples and says `Evaluated`; every metric is weighted by examples or tokens, not by batches.
    pub(super) fn evaluate(&mut self, sink: &mut dyn Sink) -> Result<(), Error> {
        let mut tally = Tally::default();
        let Way::Rows(recipe) = &mut self.way else { return self.evaluate_answers(sink) };
        let Data { examples, references } = &self.eval;
        let mut all = Vec::with_capacity(examples.len());
        for first in (0..examples.len()).step_by(self.batches.size) {
            let end = (first + self.batches.size).min(examples.len());
            let batch: Vec<&Example> = examples[first..end].iter().collect();
            let scores = score(&self.policy, &batch)?;
            let references: Vec<Option<&Reference>> = (first..end).map(|i| references.get(i)).collect();
            let seen = see(&batch, &scores, &references);
            let window = Window { micro: 1, tokens: batch.iter().map(|e| e.scored()).sum() };
            let out = recipe.loss(&seen, &window, &mut tally)?;
            tally.add("loss", out.loss, recipe.weight(&seen));
            all.extend(scores.into_iter().map(|s| s.rows));
        }
        let mut metrics = Metrics::new();
        tally.write("eval_", &mut metrics);
        recipe.evaluated(&all, &mut metrics);
        sink.emit(RunEvent::Evaluated { step: self.step, metrics })
    }
}

/// What the policy says about one example.
pub(super) struct Scored {
    rows: Vec<RowScores>,
    aside: Vec<RowScores>,
}

/// Scores examples without a gradient, each in batches of its own.
fn score(policy: &Policy, examples: &[&Example]) -> Result<Vec<Scored>, Error> {
    examples
        .iter()
        .map(|e| Ok(Scored { rows: policy.score(&Batch::new(e.rows.clone()), true)?.rows, aside: aside(policy, e)? }))
        .collect()
}

fn aside(policy: &Policy, example: &Example) -> Result<Vec<RowScores>, Error> {
    if example.aside.is_empty() {
        return Ok(Vec::new());
    }
    Ok(policy.score(&Batch::new(example.aside.clone()), true)?.rows)
}

fn see<'a>(examples: &[&'a Example], scores: &'a [Scored], references: &[Option<&'a Reference>]) -> Vec<Seen<'a>> {
    let all = examples.iter().zip(scores).zip(references);
    all.map(|((example, scored), reference)| Seen {
        example,
        scores: &scored.rows,
        aside: &scored.aside,
        reference: *reference,
    })
    .collect()
}

/// Scores examples, computes their loss, and adds its gradient; gives the loss, or the example whose scores or loss are not
/// finite, before any gradient was added. `number` is the first training pass's, for dropout: a function of how many
/// examples came before, however the run got here.
pub(super) fn forward_backward(
    policy: &mut Policy,
    examples: &[&Example],
    references: &[Option<&Reference>],
    number: u64,
    temperature: f64,
    loss: &mut dyn FnMut(&[Seen<'_>]) -> Result<Loss, Error>,
) -> Result<Result<f64, PairId>, Error> {
    let together = if policy.decoder().device().is_cpu() { 1 } else { examples.len() };
    let (mut scores, mut tapes) = (Vec::with_capacity(examples.len()), Vec::new());
    for (i, group) in examples.chunks(together.max(1)).enumerate() {
        policy.set_passes(number + i as u64);
        let rows = group.iter().flat_map(|e| e.rows.iter().cloned()).collect();
        let (part, tape) = policy.score_train(&Batch { rows, temperature })?;
        let TokenScores { rows } = part;
        let mut rows = rows.into_iter();
        for example in group {
            let own = rows.by_ref().take(example.rows.len()).collect();
            scores.push(Scored { rows: own, aside: aside(policy, example)? });
        }
        tapes.push((tape, group.iter().map(|e| e.rows.len()).sum::<usize>()));
    }
    let finite =
        |s: &Scored| s.rows.iter().chain(&s.aside).all(|r| r.logp.iter().chain(&r.value).all(|x| x.is_finite()));
    if let Some(bad) = scores.iter().position(|s| !finite(s)) {
        return Ok(Err(examples[bad].id.clone()));
    }
    let out = loss(&see(examples, &scores, references))?;
    if !out.loss.is_finite() {
        return Ok(Err(examples[0].id.clone()));
    }
    let mut from = 0;
    for (tape, rows) in tapes {
        let g = out
            .g
            .get(from..from + rows)
            .ok_or_else(|| Error::Asked(format!("the loss gave {} gradients for more sequences", out.g.len())))?;
        policy.backward(tape, g)?;
        from += rows;
    }
    Ok(Ok(out.loss))
}
