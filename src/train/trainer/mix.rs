//! SFT rows mixed into a preference run against forgetting.
//!
//! Owns their assignment to steps and their weight. `mix_ratio` is their share of all training rows. Interleaved: every step has
//! its share; sequential: they follow in separate steps. Their loss, the mean over their tokens times `mix_weight`, is added to
//! the step's. Refuses other losses.

use super::batches::Batches;
use super::pass::{Grouping, PassOptions, forward_backward};
use super::self_check::non_finite_scores;
use crate::domain::{DroppedRows, MixOrder, MixParams, SftRow, TrainerParams};
use crate::model::error::Error;
use crate::model::language_model::LanguageModel;
use crate::model::sink::Sink;
use crate::nn::policy::Policy;
use crate::train::data::{Example, Rows, TokeniseOptions, order, remedies, tokenise};
use crate::train::loss::{SftForm, Tally};
use crate::train::recipe::{Separable, sft_loss};

/// First pass number of mixed rows, so that their dropout masks differ from the preference rows'.
const FIRST_PASS: u64 = 1 << 44;

/// How mixed rows are tokenised; none where the run mixes nothing.
pub(crate) fn tokenise_options(shared: &TrainerParams, mix: &MixParams) -> Option<TokeniseOptions> {
    (mix.mix_ratio > 0.0).then(|| TokeniseOptions { assistant_only: true, ..TokeniseOptions::new(shared.max_length) })
}

/// The mixed rows of a run.
pub(super) struct Mix {
    pub(super) examples: Vec<Example>,
    /// Mixed rows per preference row.
    rate: f64,
    weight: f64,
    pub(super) sequential: bool,
}

impl Mix {
    /// Tokenises `rows`; none where the run mixes nothing.
    pub(super) fn new(
        model: &LanguageModel,
        rows: &[SftRow],
        shared: &TrainerParams,
        mix: &MixParams,
        dropped: &mut Vec<DroppedRows>,
    ) -> Result<Option<Self>, Error> {
        let Some(options) = tokenise_options(shared, mix) else { return Ok(None) };
        let ratio = mix.mix_ratio;
        let made = tokenise(model, &Rows::Examples(rows.to_vec()), &options, |_| Ok(()))?;
        if made.train.is_empty() {
            return Err(Error::Invalid(format!(
                "mix_ratio={ratio} needs SFT rows and none of {} is left; import some as sft: {}, or set mix_ratio=0",
                rows.len(),
                remedies(&made.dropped, false).join(", or ")
            )));
        }
        let left_out = made.dropped.into_iter();
        dropped.extend(left_out.map(|d| DroppedRows { reason: format!("mixed in: {}", d.reason), count: d.count }));
        Ok(Some(Self {
            examples: made.train,
            rate: ratio / (1.0 - ratio),
            weight: mix.mix_weight,
            sequential: mix.mix_order == MixOrder::Sequential,
        }))
    }

    /// Separate steps of mixed rows, after the preference steps.
    pub(super) fn extra_steps(&self, batches: &Batches) -> u64 {
        if !self.sequential {
            return 0;
        }
        let rows = self.rate * batches.rows_seen(batches.total);
        (rows / batches.rows_per_step().ceil()).ceil() as u64
    }

    /// Indices of the mixed rows of the step after `done` steps, and the number of mixed rows before them.
    fn window(&self, done: u64, batches: &Batches) -> (Vec<usize>, u64) {
        let per_step = batches.rows_per_step().ceil() as u64;
        let (from, to) = if self.sequential {
            let all = (self.rate * batches.rows_seen(batches.total)).round() as u64;
            let first = done.saturating_sub(batches.total) * per_step;
            if done < batches.total { (0, 0) } else { (first, (first + per_step).min(all.max(first + 1))) }
        } else {
            let so_far = |done| (self.rate * batches.rows_seen(done)).floor() as u64;
            (so_far(done), so_far(done + 1))
        };
        let n = self.examples.len() as u64;
        let mut epoch = (u64::MAX, Vec::new());
        let mut rows = Vec::new();
        for k in from..to {
            if epoch.0 != k / n {
                // Another stream than the preference rows' order.
                epoch = (k / n, order(self.examples.len(), true, batches.seed ^ 0x006d_6978, k / n));
            }
            rows.push(epoch.1[(k % n) as usize]);
        }
        (rows, from)
    }

    /// Accumulates the gradient of this step's mixed rows; returns their loss and token count.
    pub(super) fn accumulate_gradients(
        &self,
        policy: &mut Policy,
        batches: &Batches,
        step: u64,
        tally: &mut Tally,
        sink: &mut dyn Sink,
    ) -> Result<(f64, u64), Error> {
        let (rows, before) = self.window(step, batches);
        let tokens: usize = rows.iter().map(|i| self.examples[*i].scored()).sum();
        let all: usize = rows.iter().map(|i| self.examples[*i].tokens()).sum();
        let (mut loss, mut unweighted, weight) = (0.0, 0.0, self.weight);
        let grouping = Grouping::new(false, policy.packs());
        let size = batches.rows_per_micro_batch();
        for (n, chunk) in rows.chunks(size).enumerate() {
            let examples: Vec<&Example> = chunk.iter().map(|i| &self.examples[*i]).collect();
            let first_pass = FIRST_PASS + before + (n * size) as u64;
            let no_references = vec![None; examples.len()];
            let options = PassOptions { first_pass, temperature: 1.0, grouping, separable: Separable::Sum };
            let done = forward_backward(policy, &examples, &no_references, options, &mut |seen| {
                let mut out = sft_loss(seen, tokens as f64, SftForm::Nll, &mut Tally::default());
                unweighted += out.loss;
                out.loss *= weight;
                out.g.iter_mut().flat_map(|g| &mut g.logp).for_each(|x| *x *= weight);
                Ok(out)
            })?;
            match done {
                Ok(part) => loss += part,
                Err(bad) => return Err(non_finite_scores(step, bad, sink)?),
            }
        }
        if tokens > 0 {
            tally.add("mix/loss", unweighted, 1.0);
            tally.add("mix/rows", rows.len() as f64, 1.0);
        }
        Ok((loss, all as u64))
    }
}
