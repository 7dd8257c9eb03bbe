//! The forgetting probe: general text that is never trained on, measured regularly.
//!
//! Owns `probe/nll`, the policy's NLL per token in nats, and `probe/kl`, the mean over tokens of KL(base ‖ policy) over the
//! whole vocabulary. Keeps the base model's final hidden states (and its head, if trained) from before the first update.
//! Refuses a second copy of the model.

use super::pass::PACKED_TOKENS;
use crate::domain::{DroppedRows, Finding, Metrics, ProbeParams, Severity, SftRow};
use crate::model::error::Error;
use crate::model::language_model::LanguageModel;
use crate::model::sink::Sink;
use crate::nn::policy::{Batch, Policy, Row};
use crate::protocol::RunEvent;
use crate::train::data::{Example, Rows, TokeniseOptions, tokenise};
use candle_core::Tensor;

/// Maximum measured tokens per text; more add time but little information.
const TOKENS: usize = 256;

/// The probe of a run.
pub(super) struct Probe {
    /// The texts.
    batches: Vec<Batch>,
    /// The base model's final hidden states (n, H) of each batch.
    base: Vec<Tensor>,
    /// The base model's head (V, H), if trained.
    head: Option<Tensor>,
    /// KL per token in nats above which a finding is reported.
    alarm: f64,
    alarmed: bool,
    /// Steps between measurements; 0: only at start and end.
    pub(super) every: u64,
}

impl Probe {
    /// Records the base model's states from the untrained policy; none where the run has no probe. Also says which texts are not
    /// measured.
    pub(super) fn new(
        model: &LanguageModel,
        policy: &Policy,
        rows: &[SftRow],
        params: &ProbeParams,
    ) -> Result<(Option<Self>, Option<Finding>), Error> {
        if rows.is_empty() {
            return Ok((None, None));
        }
        let options = TokeniseOptions { assistant_only: true, ..TokeniseOptions::new(usize::MAX) };
        let made = tokenise(model, &Rows::Examples(rows.to_vec()), &options, |_| Ok(()))?;
        let unread = unread(&made.dropped, rows.len());
        let mut examples = made.train;
        for row in examples.iter_mut().flat_map(|e| &mut e.rows) {
            row.scored.truncate(TOKENS);
            row.ids.truncate(row.scored.last().map_or(0, |at| at + 1));
        }
        examples.retain(|e| e.scored() > 0);
        if examples.is_empty() {
            return Ok((None, unread));
        }
        let batches = pack_batches(examples, policy.packs());
        let states = |batch: &Batch| Ok(policy.states(batch, false)?.0);
        let base = batches.iter().map(states).collect::<Result<_, Error>>()?;
        let head = match policy.decoder().trained_head() {
            Some(_) => Some(policy.decoder().head()?.copy()?),
            None => None,
        };
        let alarm = params.probe_alarm;
        Ok((Some(Self { batches, base, head, alarm, alarmed: false, every: params.probe_steps }), unread))
    }

    /// Measures the probe and emits `Evaluated`, and once a finding above the alarm level.
    pub(super) fn measure(&mut self, policy: &Policy, step: u64, sink: &mut dyn Sink) -> Result<(), Error> {
        let head = match &self.head {
            Some(head) => head.clone(),
            None => policy.decoder().head()?,
        };
        let (mut kl, mut nll, mut n) = (0.0, 0.0, 0.0);
        for (batch, base) in self.batches.iter().zip(&self.base) {
            let (now, targets) = policy.states(batch, true)?;
            let (diverged, logp) = policy.divergence(base, &head, &now, &targets)?;
            kl += diverged.iter().sum::<f64>();
            nll -= logp.iter().sum::<f64>();
            n += targets.len() as f64;
        }
        let mut metrics = Metrics::new();
        metrics.set("probe/nll", nll / n);
        metrics.set("probe/kl", kl / n);
        sink.emit(RunEvent::Evaluated { step, metrics })?;
        if !self.alarmed && self.alarm > 0.0 && kl / n > self.alarm {
            self.alarmed = true;
            let text = format!(
                "The KL to the base model on general text is {:.3} nats per token, above probe_alarm={}.",
                kl / n,
                self.alarm
            );
            sink.emit(RunEvent::Found(Finding {
                rule: "forgetting".into(),
                step,
                severity: Severity::Warn,
                text,
                remedy: "Mix in SFT rows (mix_ratio=0.2), lower learning_rate, or stop earlier.".into(),
                pair: None,
            }))?;
        }
        Ok(())
    }
}

/// The texts that are not measured, with the reasons.
fn unread(dropped: &[DroppedRows], all: usize) -> Option<Finding> {
    let count: usize = dropped.iter().map(|row| row.count).sum();
    let why: Vec<String> = dropped.iter().map(|row| format!("{} {}", row.count, row.reason)).collect();
    (count > 0).then(|| Finding {
        rule: "probe_rows".into(),
        step: 0,
        severity: Severity::Warn,
        text: if count == all {
            format!("The forgetting probe is off: none of its {all} texts can be measured ({}).", why.join(", "))
        } else {
            format!("The forgetting probe leaves out {count} of its {all} texts: {}.", why.join(", "))
        },
        remedy: "Import shorter texts as probe, so that all of it is measured.".into(),
        pair: None,
    })
}

/// The texts in batches: one each, or up to [`PACKED_TOKENS`] if the policy packs rows.
fn pack_batches(examples: Vec<Example>, packs: bool) -> Vec<Batch> {
    let mut batches: Vec<Vec<Row>> = Vec::new();
    let mut tokens = 0;
    for example in examples {
        tokens += example.tokens();
        match batches.last_mut() {
            Some(rows) if packs && tokens <= PACKED_TOKENS => rows.extend(example.rows),
            _ => {
                tokens = example.tokens();
                batches.push(example.rows);
            }
        }
    }
    batches.into_iter().map(Batch::new).collect()
}
