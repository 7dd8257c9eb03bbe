//! Forward and backward pass of one micro-batch.
//!
//! Owns how examples are grouped into decoder passes. On the fast path rows are packed without padding and independent of each
//! other, so examples share passes of up to [`PACKED_TOKENS`] tokens. On the reference path on the CPU an example with a
//! reference runs alone, without padding: the same sums as for its reference log-probs, so that margins start at 0. Others share
//! passes of up to [`PADDED_TOKENS`] tokens, padding included, to amortise the overhead per operation. Refuses losses.

use crate::domain::PairId;
use crate::model::error::Error;
use crate::nn::policy::{Batch, Policy, RowScores, TokenScores};
use crate::train::data::Example;
use crate::train::recipe::{BatchLoss, ScoredExample, Separable};
use crate::train::reference::Reference;

/// Maximum tokens of a padded pass on the CPU.
const PADDED_TOKENS: usize = 1024;

/// Maximum tokens of a packed pass: more are hardly faster, and their activations take memory.
pub(super) const PACKED_TOKENS: usize = 1024;

/// How a micro-batch is split into decoder passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grouping {
    /// One example per pass, as for its reference.
    Single,
    /// As many as fit, padded.
    Padded,
    /// As many as fit, packed without padding.
    Packed,
}

impl Grouping {
    /// The grouping for rows with or without a `reference`; `packs`: whether the policy packs rows.
    pub(crate) fn new(reference: bool, packs: bool) -> Self {
        match (packs, reference) {
            (true, _) => Self::Packed,
            (false, true) => Self::Single,
            (false, false) => Self::Padded,
        }
    }

    /// The number of leading `examples` that share a pass; `cpu`: whether the device is the CPU.
    pub(crate) fn group_len(self, examples: &[&Example], cpu: bool) -> usize {
        let packed = |e: &&Example| e.rows.iter().any(|r| r.starts.len() > 1);
        if examples.first().is_some_and(packed) {
            return 1;
        }
        let plain = examples.iter().position(packed).unwrap_or(examples.len());
        if !cpu {
            return plain;
        }
        if self == Self::Single {
            return 1;
        }
        let (mut longest, mut sequences, mut tokens) = (0, 0, 0);
        let fits = |e: &&&Example| {
            longest = longest.max(e.longest());
            sequences += e.rows.len();
            tokens += e.tokens();
            if self == Self::Packed { tokens <= PACKED_TOKENS } else { longest * sequences <= PADDED_TOKENS }
        };
        examples[..plain].iter().take_while(fits).count().max(1)
    }
}

/// Token counts of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct StepTokens {
    /// New tokens, counted in `num_tokens`.
    pub(super) new: u64,
    /// Tokens of forward and backward passes, for the reported speed.
    pub(super) processed: u64,
}

/// Examples with their reference log-probs; `references` is empty where the method has none.
#[derive(Default)]
pub(super) struct ExampleSet {
    pub(super) examples: Vec<Example>,
    pub(super) references: Vec<Reference>,
}

/// Policy scores of one example.
pub(super) struct Scored {
    pub(super) rows: Vec<RowScores>,
    kl_scores: Vec<RowScores>,
}

/// Scores examples without gradient, each in its own batch.
pub(super) fn score(policy: &Policy, examples: &[&Example]) -> Result<Vec<Scored>, Error> {
    examples
        .iter()
        .map(|e| {
            Ok(Scored {
                rows: policy.score(&Batch::new(e.rows.clone()), true)?.rows,
                kl_scores: score_kl_rows(policy, e)?,
            })
        })
        .collect()
}

fn score_kl_rows(policy: &Policy, example: &Example) -> Result<Vec<RowScores>, Error> {
    if example.kl_rows.is_empty() {
        return Ok(Vec::new());
    }
    Ok(policy.score(&Batch::new(example.kl_rows.clone()), true)?.rows)
}

/// Examples with their scores, as a recipe's input.
pub(super) fn scored_examples<'a>(
    examples: &[&'a Example],
    scores: &'a [Scored],
    references: &[Option<&'a Reference>],
) -> Vec<ScoredExample<'a>> {
    let all = examples.iter().zip(scores).zip(references);
    all.map(|((example, scored), reference)| ScoredExample {
        example,
        scores: &scored.rows,
        kl_scores: &scored.kl_scores,
        reference: *reference,
        answer: None,
    })
    .collect()
}

/// Options of a micro-batch's pass.
#[derive(Debug, Clone, Copy)]
pub(super) struct PassOptions {
    /// Number of the first pass, which seeds dropout: the number of examples before it, also in a resumed run.
    pub first_pass: u64,
    /// Divides the logits.
    pub temperature: f64,
    /// How examples are grouped.
    pub grouping: Grouping,
    /// Whether parts may run backward one after another.
    pub separable: Separable,
}

/// A non-finite value and its example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NonFiniteScores {
    pub(super) pair: PairId,
    /// The values as the start of a sentence: `The log-probs`.
    pub(super) what: String,
}

/// The name of the first non-finite scores of an example or its reference.
pub(super) fn not_finite(scored: &Scored, reference: Option<&Reference>) -> Option<String> {
    let bad = |x: &[f64]| x.iter().any(|x| !x.is_finite());
    let which = |what: &str, i: usize| format!("The {what} of sequence {}", i + 1);
    let own = scored.rows.iter().chain(&scored.kl_scores).enumerate();
    own.clone()
        .find_map(|(i, row)| bad(&row.logp).then(|| which("log-probs", i)))
        .or_else(|| own.clone().find_map(|(i, row)| bad(&row.value).then(|| which("values", i))))
        .or_else(|| reference?.iter().position(|row| bad(row)).map(|i| which("reference log-probs", i)))
}

/// Forward pass, loss and backward pass. Returns the loss, or the example with non-finite scores or loss, after which no update
/// may follow.
pub(super) fn forward_backward(
    policy: &mut Policy,
    examples: &[&Example],
    references: &[Option<&Reference>],
    options: PassOptions,
    loss: &mut dyn FnMut(&[ScoredExample<'_>]) -> Result<BatchLoss, Error>,
) -> Result<Result<f64, NonFiniteScores>, Error> {
    let cpu = policy.decoder().device().is_cpu();
    if options.separable == Separable::No {
        return forward_backward_at_once(policy, examples, references, options, loss);
    }
    let mut sum = 0.0;
    let mut done = 0;
    while done < examples.len() {
        let n = options.grouping.group_len(&examples[done..], cpu);
        let share = if options.separable == Separable::Mean { n as f64 / examples.len() as f64 } else { 1.0 };
        let (group, compared) = (&examples[done..done + n], &references[done..done + n]);
        let options = PassOptions { first_pass: options.first_pass + done as u64, ..options };
        done += n;
        let mut shared = |seen: &[ScoredExample<'_>]| {
            let mut out = loss(seen)?;
            out.loss *= share;
            for g in &mut out.g {
                g.logp.iter_mut().chain(&mut g.entropy).chain(&mut g.value).for_each(|x| *x *= share);
            }
            Ok(out)
        };
        match forward_backward_at_once(policy, group, compared, options, &mut shared)? {
            Ok(part) => sum += part,
            Err(bad) => return Ok(Err(bad)),
        }
    }
    Ok(Ok(sum))
}

/// As [`forward_backward`], with one loss over all examples.
fn forward_backward_at_once(
    policy: &mut Policy,
    examples: &[&Example],
    references: &[Option<&Reference>],
    options: PassOptions,
    loss: &mut dyn FnMut(&[ScoredExample<'_>]) -> Result<BatchLoss, Error>,
) -> Result<Result<f64, NonFiniteScores>, Error> {
    let (mut scores, mut tapes) = (Vec::with_capacity(examples.len()), Vec::new());
    let mut left = examples;
    while !left.is_empty() {
        let (group, rest) =
            left.split_at(options.grouping.group_len(left, policy.decoder().device().is_cpu()).min(left.len()));
        policy.set_passes(options.first_pass + (examples.len() - left.len()) as u64);
        left = rest;
        let rows = group.iter().flat_map(|e| e.rows.iter().cloned()).collect();
        // Batched exactly as for the reference.
        let compared = references.iter().any(Option::is_some);
        let families = if compared { group.iter().map(|e| e.rows.len()).collect() } else { Vec::new() };
        let (part, tape) = policy.score_train(&Batch { rows, temperature: options.temperature, families })?;
        let TokenScores { rows } = part;
        let mut rows = rows.into_iter();
        for example in group {
            let own = rows.by_ref().take(example.rows.len()).collect();
            scores.push(Scored { rows: own, kl_scores: score_kl_rows(policy, example)? });
        }
        tapes.push((tape, group.iter().map(|e| e.rows.len()).sum::<usize>()));
    }
    for ((example, scored), reference) in examples.iter().zip(&scores).zip(references) {
        if let Some(what) = not_finite(scored, *reference) {
            return Ok(Err(NonFiniteScores { pair: example.id.clone(), what }));
        }
    }
    let out = loss(&scored_examples(examples, &scores, references))?;
    if !out.loss.is_finite() {
        return Ok(Err(NonFiniteScores { pair: examples[0].id.clone(), what: "The loss and its parts".into() }));
    }
    let mut from = 0;
    for (tape, rows) in tapes {
        let g = out
            .g
            .get(from..from + rows)
            .ok_or_else(|| Error::Invalid(format!("the loss gave {} gradients for more sequences", out.g.len())))?;
        policy.backward(tape, g)?;
        from += rows;
    }
    Ok(Ok(out.loss))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::PromptId;
    use crate::nn::policy::Row;

    fn example(lengths: [usize; 2]) -> Example {
        Example {
            id: PairId::new("p"),
            prompt_id: PromptId::new("q"),
            row: 0,
            prompt: 1,
            rows: lengths.map(|n| Row::new(vec![1; n], vec![1])).into(),
            kl_rows: Vec::new(),
            margin: None,
            agreed: None,
            desirable: true,
        }
    }

    #[test]
    fn packed_groups_are_larger_than_padded_ones() {
        let all = [[100, 400], [400, 100], [10, 10], [600, 600], [600, 600]].map(example);
        let all: Vec<&Example> = all.iter().collect();
        assert_eq!(Grouping::new(true, false).group_len(&all, true), 1, "as the reference was computed");
        assert_eq!(Grouping::new(false, false).group_len(&all, true), 1, "four rows of 400 with padding");
        assert_eq!(Grouping::new(true, true).group_len(&all, true), 3, "1020 tokens");
        assert_eq!(Grouping::new(true, true).group_len(&all[3..], true), 1, "too long to share a pass");
        assert_eq!(Grouping::new(true, false).group_len(&all, false), 5, "other devices take all");
    }

    #[test]
    fn packed_documents_stay_alone() {
        let mut packed = example([9, 9]);
        packed.rows.truncate(1);
        packed.rows[0].starts = vec![0, 4];
        let plain = example([3, 3]);
        assert_eq!(Grouping::Packed.group_len(&[&packed, &plain], true), 1);
        assert_eq!(Grouping::Packed.group_len(&[&plain, &plain, &packed], true), 2);
    }
}
