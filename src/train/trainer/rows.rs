//! Learning from rows that exist before the run: a step's micro-batches, and the evaluation.
//!
//! Owns what a micro-batch counts for in its step. How it goes through the policy is `pass.rs`'s; answers are `rounds.rs`'s.

use super::pass::{Grouping, How, forward_backward, not_finite, score, see};
use super::state::{Data, Trainer, Way, Work};
use crate::domain::Metrics;
use crate::model::error::Error;
use crate::model::sink::Sink;
use crate::train::data::Example;
use crate::train::loss::Tally;
use crate::train::recipe::Window;
use crate::train::reference::Reference;

impl Trainer {
    /// Adds up the gradient of the next step's own rows; gives its loss and the work it was.
    pub(super) fn gather(&mut self, tally: &mut Tally, sink: &mut dyn Sink) -> Result<(f64, Work), Error> {
        if let Way::Answers(_) = self.way {
            return self.learn_from_answers(tally, sink);
        }
        let (micro, mut before) = self.batches.window(self.step);
        let examples = || micro.iter().flatten().map(|i| &self.train.examples[*i]);
        let (all, scored) = (examples().count(), examples().map(Example::scored).sum());
        let tokens: usize = examples().map(Example::tokens).sum();
        let mut loss = 0.0;
        for rows in &micro {
            // Micro-batches of the same size count alike, also a shorter last one, as TRL has it.
            let share =
                if self.batches.by_tokens() { rows.len() as f64 / all as f64 } else { 1.0 / micro.len() as f64 };
            let window = Window { share, tokens: scored };
            loss += self.pass(rows, before, &window, tally, sink)?;
            before += rows.len() as u64;
        }
        Ok((loss, Work { seen: tokens as u64, done: tokens as u64 }))
    }

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
        let grouping = Grouping::of(recipe.needs_reference(), self.policy.packs());
        let how = How { number: before, temperature: 1.0, grouping, apart: recipe.apart() };
        let health = &mut self.health;
        let done = forward_backward(&mut self.policy, &examples, &references, how, &mut |seen| {
            for one in seen {
                health.see(one);
            }
            recipe.loss(seen, window, tally)
        })?;
        tally.close();
        match done {
            Ok(loss) => Ok(loss),
            Err(bad) => Err(self.bad_scores(bad, sink)?),
        }
    }

    /// Measures the evaluation examples; every metric is weighted by examples or tokens, not by batches.
    pub(super) fn evaluate(&mut self) -> Result<Metrics, Error> {
        let mut tally = Tally::default();
        let Way::Rows(recipe) = &mut self.way else { return self.evaluate_answers() };
        let Data { examples, references } = &self.eval;
        let mut all = Vec::with_capacity(examples.len());
        let size = self.batches.rows_at_once();
        for first in (0..examples.len()).step_by(size) {
            let end = (first + size).min(examples.len());
            let batch: Vec<&Example> = examples[first..end].iter().collect();
            let scores = score(&self.policy, &batch)?;
            let references: Vec<Option<&Reference>> = (first..end).map(|i| references.get(i)).collect();
            for ((example, scored), reference) in batch.iter().zip(&scores).zip(&references) {
                if let Some(what) = not_finite(scored, *reference) {
                    return Err(Error::NotFinite(format!(
                        "{what} of the held-out pair {} are not finite.",
                        example.id
                    )));
                }
            }
            let seen = see(&batch, &scores, &references);
            let window = Window { share: 1.0, tokens: batch.iter().map(|e| e.scored()).sum() };
            let out = recipe.loss(&seen, &window, &mut tally)?;
            tally.close();
            tally.add("loss", out.loss, recipe.weight(&seen));
            all.extend(scores.into_iter().map(|s| s.rows));
        }
        let mut metrics = Metrics::new();
        tally.write("eval_", &mut metrics);
        recipe.evaluated(&all, &mut metrics);
        Ok(metrics)
    }
}
