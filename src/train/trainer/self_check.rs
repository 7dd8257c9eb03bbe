//! Self-checks of a run: it starts at the reference, every trained tensor moves, all values are finite.
//!
//! Owns when a check is due, and its messages. A failed check emits a `Found` of severity stop and returns an error before the
//! next update; an odd but possible result is a warning. Refuses to continue after a failed check.

use super::pass::NonFiniteScores;
use crate::domain::{Finding, PairId, Severity};
use crate::model::error::Error;
use crate::model::sink::Sink;
use crate::nn::optim::Update;
use crate::nn::policy::Policy;
use crate::protocol::RunEvent;
use crate::train::loss::Tally;
use crate::train::recipe::LossAtReference;
use candle_core::Var;

/// Tolerance of loss and margins at the reference, for β up to 0.1. For larger β it scales, as rounding errors do.
const TOLERANCE: f64 = 1e-4;
/// The same for 16-bit products: rounding depends on the batch's shape, and the reference is computed in other batches.
const TOLERANCE_16: f64 = 5e-2;

/// The share of the largest entropy above which a model says nothing about the next token.
const UNIFORM: f64 = 0.999_99;
/// The mean entropy per token, by the methods' names.
const ENTROPIES: [&str; 2] = ["entropy", "policy/entropy_avg"];

/// Which checks are still due.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct SelfCheck {
    /// The expected loss at the reference, until the first batch.
    start: Option<LossAtReference>,
    /// Updates with a learning rate above 0 so far, up to 2: LoRA's A moves only after B did.
    pub(super) moves: u64,
    /// The learning rate of the last checked update.
    rate: f64,
    /// The method's remedy for a step without any gradient.
    remedy: &'static str,
    /// Whether the lack of memory has been reported.
    narrowed: bool,
}

impl SelfCheck {
    /// `remedy`: what to check where a step has no gradient at all.
    pub(super) fn new(at_reference: Option<LossAtReference>, remedy: &'static str) -> Self {
        Self { start: at_reference, moves: 0, rate: 0.0, remedy, narrowed: false }
    }

    /// Whether to check the update with this learning rate.
    pub(super) fn checks_update(&self, rate: f64) -> bool {
        rate > 0.0 && self.moves < 2
    }

    /// Before the first update the policy equals the reference, so loss and margins are known. `low_precision`: 16-bit products.
    pub(super) fn check_start(
        &mut self,
        step: u64,
        loss: f64,
        tally: &Tally,
        low_precision: bool,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        let Some(LossAtReference { loss: want, beta }) = self.start.take().filter(|_| step == 0) else { return Ok(()) };
        let margin = tally.mean("rewards/margins").unwrap_or(0.0);
        let least = if low_precision { TOLERANCE_16 } else { TOLERANCE };
        let tolerance = least * (beta / 0.1).max(1.0);
        if (loss - want).abs() <= tolerance.max(least * want) && margin.abs() <= tolerance {
            return Ok(());
        }
        Err(stop(
            step,
            "step0_self_check",
            format!(
                "Before the first update the loss is {loss:.6} and the mean margin {margin:.6} instead of {want:.6} and 0: \
                 the policy does not equal its reference."
            ),
            "Delete the reference cache and start again; if it happens again, report it with the model's name.".into(),
            None,
            sink,
        )?)
    }

    /// After each of the first two updates with a learning rate above 0. `vocab`: the size of the vocabulary.
    #[expect(clippy::too_many_arguments, reason = "all of what an update shows")]
    pub(super) fn check_moved(
        &mut self,
        step: u64,
        rate: f64,
        update: &Update,
        names: &[(String, Var)],
        tally: &Tally,
        vocab: usize,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        self.moves += 1;
        let before = std::mem::replace(&mut self.rate, rate);
        // B starts at 0, so A has no gradient before B has moved.
        let moved = |i: &&usize| self.moves > 1 || !names[**i].0.contains(".lora_A.");
        // An expert that no token chose has none.
        let of_expert = |i: usize| names[i].0.contains(".experts.");
        let some_chosen = (0..names.len()).any(|i| of_expert(i) && !update.without_gradient.contains(&i));
        let counts = |i: &&usize| moved(i) && !(some_chosen && of_expert(**i));
        let cut: Vec<&str> = update.without_gradient.iter().filter(counts).map(|i| names[*i].0.as_str()).collect();
        if let Some(first) = cut.first() {
            let (text, remedy) = if update.without_gradient.len() < names.len() {
                (
                    format!("{} of {} trained tensors got no gradient; the first is {first}.", cut.len(), names.len()),
                    "Leave such modules out of lora_target_modules; if they should be trained, report it with the model's \
                     name."
                        .to_owned(),
                )
            } else {
                self.without_any(step, before, tally, vocab)
            };
            return Err(stop(step, "no_gradient", text, remedy, None, sink)?);
        }
        if let Some(first) = update.unmoved.iter().find(counts) {
            let text = format!(
                "{} trained tensors did not change in this update; the first is {}: its steps are below f32 precision.",
                update.unmoved.len(),
                names[*first].0
            );
            sink.emit(RunEvent::Found(Finding {
                rule: "did_not_move".into(),
                step,
                severity: Severity::Warn,
                text,
                remedy: "Raise learning_rate.".into(),
                pair: None,
            }))?;
        }
        Ok(())
    }

    /// Why no tensor got a gradient, and what to do: an earlier update with learning rate `before`, the model, or the loss.
    fn without_any(&self, step: u64, before: f64, tally: &Tally, vocab: usize) -> (String, String) {
        let most = (vocab.max(2) as f64).ln();
        let entropy = ENTROPIES.iter().find_map(|name| tally.mean(name));
        let scores = tally.mean("min_reward").zip(tally.mean("max_reward"));
        if self.moves > 1 {
            return (
                format!(
                    "No trained tensor got a gradient in step {}, after the update of step {step} with learning_rate {before:.1e}: \
                     that update has driven the model's outputs into saturation.",
                    step + 1
                ),
                "Lower learning_rate or raise warmup_steps, and start again.".into(),
            );
        }
        let dead = if let Some(entropy) = entropy.filter(|entropy| *entropy >= UNIFORM * most) {
            Some(format!("the model predicts every token alike (entropy {entropy:.2} of at most {most:.2} nats)"))
        } else {
            scores.filter(|(low, high)| low == high).map(|(score, _)| format!("every answer has the score {score:.2}"))
        };
        match dead {
            Some(what) => (
                format!("No trained tensor got a gradient in step {}: {what}, as if its weights were 0.", step + 1),
                "Check the model's files: copy or download its weights again.".into(),
            ),
            None => (
                format!(
                    "No trained tensor got a gradient in step {}: the loss of its rows does not depend on them.",
                    step + 1
                ),
                self.remedy.into(),
            ),
        }
    }

    /// Reports once that memory ran out and how the run continues.
    pub(super) fn report_narrowed(&mut self, step: u64, policy: &Policy, sink: &mut dyn Sink) -> Result<(), Error> {
        let Some(tokens) = policy.token_limit().filter(|_| !self.narrowed) else { return Ok(()) };
        self.narrowed = true;
        sink.emit(RunEvent::Found(Finding {
            rule: "memory_full".into(),
            step,
            severity: Severity::Note,
            text: format!(
                "Out of memory: from now on a layer processes at most {tokens} tokens at a time. Results are the same; steps \
                 are slower."
            ),
            remedy: "Lower per_device_train_batch_size and raise gradient_accumulation_steps by the same factor.".into(),
            pair: None,
        }))
    }
}

/// Reports non-finite scores of a pair.
pub(super) fn non_finite_scores(step: u64, bad: NonFiniteScores, sink: &mut dyn Sink) -> Result<Error, Error> {
    let NonFiniteScores { pair, what } = bad;
    let text = format!("{what} of pair {pair} are not finite; no weight was changed.");
    stop(step, "non_finite", text, REMEDY.into(), Some(pair), sink)
}

/// Reports non-finite values outside the training rows: a held-out pair's scores, the logits of a sample.
pub(super) fn not_finite(step: u64, what: String, sink: &mut dyn Sink) -> Result<Error, Error> {
    stop(step, "non_finite", what, REMEDY.into(), None, sink)
}

/// Reports a non-finite gradient with finite losses; `culprit`: the example that causes it, if it is a single one.
pub(super) fn non_finite_gradient(step: u64, culprit: Option<PairId>, sink: &mut dyn Sink) -> Result<Error, Error> {
    let whose = match &culprit {
        Some(pair) => format!("The gradient of pair {pair} is not finite"),
        None => "The summed gradient of this step's rows is not finite".to_owned(),
    };
    let text = format!("{whose}; no weight was changed.");
    stop(step, "non_finite", text, REMEDY.into(), culprit, sink)
}

/// Emits why the run stops, and returns the error to stop it with.
fn stop(
    step: u64,
    rule: &str,
    text: String,
    remedy: String,
    pair: Option<PairId>,
    sink: &mut dyn Sink,
) -> Result<Error, Error> {
    let finding =
        Finding { rule: rule.into(), step, severity: Severity::Stop, text: text.clone(), remedy: remedy.clone(), pair };
    sink.emit(RunEvent::Found(finding))?;
    Ok(Error::Unsound { step, what: text, remedy })
}

const REMEDY: &str = "Lower learning_rate and resume from the last checkpoint, or leave the pair out.";

/// The process's peak resident memory in MiB, if the system reports it.
pub(crate) fn peak_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<f64>().ok()? / 1024.0)
}
