//! A sampling run: the candidates of one prompt after another, decoded together, made unique, and paired.
//!
//! Owns the decoding loop, the pairing strategy `random`, and the order of its events. Refuses to know logs: the caller says how
//! many prompts are done already, and the same seed gives the same candidates whenever a prompt is sampled.
//!
//! **Pairs.** A prompt's distinct candidates are shuffled and taken two by two: every disjoint pair of a uniformly random
//! matching, so that no candidate is judged twice while another waits. Of n candidates each pair is chosen with probability
//! `⌊n/2⌋ / C(n, 2)`; for two or three candidates that is one uniformly random pair.

use super::decoder::{Cache, Decoder};
use super::error::Error;
use super::language_model::LanguageModel;
use super::random::{stream, uniform};
use super::sampler::draw;
use super::sink::Sink;
use super::trained::Trained;
use super::tune::Tune;
use crate::domain::{
    Completion, CompletionId, Finding, Finish, Metrics, Pair, PairId, Prompt, RunId, Sampler, Severity, hash64,
};
use crate::protocol::{Plan, RunEvent, SampleSpec};
use candle_core::{Device, Tensor};
use rand_chacha::ChaCha8Rng;
use std::path::Path;
use std::time::Instant;

/// One decoded row.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// Its tokens, the ending one left out.
    pub ids: Vec<u32>,
    /// Sum of the log-probs under the sampling policy, the ending token's included.
    pub logp: f64,
    /// Why it ended.
    pub finish: Finish,
    /// The token that ended it, where one did.
    pub end: Option<u32>,
}

/// Continues one prompt once for each generator, all rows together: one prefill, then one step a token for the rows that are
/// still open. A row's tokens depend on its own generator only, not on its company.
///
/// # Errors
/// When the prompt is empty or a tensor operation fails.
pub fn generate(
    decoder: &Decoder,
    prompt: &[u32],
    stops: &[u32],
    sampler: &Sampler,
    rngs: &mut [ChaCha8Rng],
    adapter: bool,
) -> Result<Vec<Generated>, Error> {
    if prompt.is_empty() {
        return Err(Error::Asked("an empty prompt cannot be continued; give it at least one token of text".into()));
    }
    let mut out: Vec<Generated> =
        rngs.iter().map(|_| Generated { ids: Vec::new(), logp: 0.0, finish: Finish::Length, end: None }).collect();
    if rngs.is_empty() || sampler.max_new_tokens == 0 {
        return Ok(out);
    }
    let device = decoder.device();
    let mut cache: Cache = decoder.cache(1, prompt.len() + sampler.max_new_tokens)?;
    let ids = Tensor::new(prompt, device)?.unsqueeze(0)?;
    let first = logits(&decoder.step(&ids, &mut cache, adapter)?)?;
    // Every row starts from the same logits.
    let mut rows = vec![first.concat(); rngs.len()];
    cache.select(&vec![0; rngs.len()])?;
    let mut open: Vec<usize> = (0..rngs.len()).collect();
    loop {
        let mut kept = Vec::new();
        let mut next = Vec::new();
        for (at, &row) in open.iter().enumerate() {
            let drawn = draw(&rows[at], sampler, &mut rngs[row]);
            out[row].logp += drawn.logp;
            if stops.contains(&drawn.token) {
                out[row].finish = Finish::Eos;
                out[row].end = Some(drawn.token);
                continue;
            }
            out[row].ids.push(drawn.token);
            if out[row].ids.len() < sampler.max_new_tokens {
                kept.push(at as u32);
                next.push(drawn.token);
            }
        }
        if kept.is_empty() {
            return Ok(out);
        }
        if kept.len() < open.len() {
            cache.select(&kept)?;
            open = kept.iter().map(|at| open[*at as usize]).collect();
        }
        let ids = Tensor::from_vec(next, (open.len(), 1), device)?;
        rows = logits(&decoder.step(&ids, &mut cache, adapter)?)?;
    }
}

fn logits(tensor: &Tensor) -> Result<Vec<Vec<f32>>, Error> {
    Ok(tensor.to_dtype(candle_core::DType::F32)?.to_vec2()?)
}

/// A loaded model and the name its completions carry.
struct Voice {
    name: String,
    model: LanguageModel,
    decoder: Decoder,
}

/// A sampling run in progress.
pub struct Sampling {
    run: RunId,
    spec: SampleSpec,
    prompts: Vec<Prompt>,
    next: usize,
    voices: Vec<Voice>,
    tokens: u64,
    seconds: f64,
    empty: usize,
    planned: bool,
}

impl Sampling {
    /// Loads the models. `done` prompts are already in the run's log and are not sampled again. `adapter` is the checkpoint
    /// folder of the run that [`SampleSpec::adapter`] names.
    ///
    /// # Errors
    /// When a model cannot be loaded, or the adapter does not fit it.
    pub fn open(
        run: &RunId,
        spec: &SampleSpec,
        prompts: Vec<Prompt>,
        done: usize,
        adapter: Option<&Path>,
        device: &Device,
        sink: &mut dyn Sink,
    ) -> Result<Self, Error> {
        if spec.models.is_empty() || spec.per_prompt == 0 {
            return Err(Error::Asked("a sampling run needs a model and at least one candidate a prompt".into()));
        }
        let trained = adapter.map(Trained::read).transpose()?;
        if trained.is_some() && spec.models.len() != 1 {
            return Err(Error::Asked("an adapter goes on one model; sample several models without one".into()));
        }
        let total = spec.models.len() as u64;
        let mut voices = Vec::new();
        for (i, asked) in spec.models.iter().enumerate() {
            sink.emit(RunEvent::Progressed { stage: format!("loading {}", asked.name), done: i as u64, total })?;
            let model = LanguageModel::open(Path::new(&asked.path))?;
            let tune = trained.as_ref().map_or(&Tune::None, |t| &t.tune);
            let decoder = model.decoder(device, tune)?;
            let mut name = asked.name.clone();
            if let Some(trained) = &trained {
                trained.put_on(decoder.trainables())?;
                if let Some(from) = &spec.adapter {
                    name = format!("{name}+{from}");
                }
            }
            voices.push(Voice { name, model, decoder });
        }
        let (run, spec) = (run.clone(), spec.clone());
        let next = done.min(prompts.len());
        Ok(Self { run, spec, prompts, next, voices, tokens: 0, seconds: 0.0, empty: 0, planned: false })
    }

    /// Samples the next prompt. False when none was left.
    ///
    /// # Errors
    /// When the template refuses a prompt, or a tensor operation fails.
    pub fn next(&mut self, sink: &mut dyn Sink) -> Result<bool, Error> {
        if !self.planned {
            self.planned = true;
            sink.emit(RunEvent::Planned(self.plan()))?;
        }
        let Some(prompt) = self.prompts.get(self.next).cloned() else { return Ok(false) };
        self.next += 1;
        let before = Instant::now();
        let completions = self.candidates(&prompt, sink)?;
        self.seconds += before.elapsed().as_secs_f64();
        let (distinct, same) = distinct(completions);
        for c in &distinct {
            sink.emit(RunEvent::Completed(c.clone()))?;
        }
        if same > 0 {
            sink.emit(RunEvent::Deduplicated { prompt: prompt.id.clone(), count: same })?;
        }
        for pair in pairs(&self.run, &prompt, &distinct, self.spec.sampler.seed) {
            sink.emit(RunEvent::Paired(pair))?;
        }
        let (done, total) = (self.next as u64, self.prompts.len() as u64);
        let mut metrics = Metrics::new();
        metrics.set("tokens_per_second", self.tokens_per_second());
        metrics.set("num_tokens", self.tokens as f64);
        let step = done * self.spec.per_prompt as u64;
        sink.emit(RunEvent::Stepped { step, epoch: done as f64 / total as f64, metrics })?;
        sink.emit(RunEvent::Progressed { stage: "sampling".into(), done, total })?;
        if done == total && self.empty > 0 {
            sink.emit(RunEvent::Found(self.empty_finding()))?;
        }
        Ok(true)
    }

    /// Prompts done, those of earlier attempts included.
    #[must_use]
    pub fn done(&self) -> usize {
        self.next
    }

    /// Completions asked for so far: the run's step count.
    #[must_use]
    pub fn step_count(&self) -> u64 {
        (self.next * self.spec.per_prompt) as u64
    }

    /// Tokens drawn a second so far, prefill time included.
    #[must_use]
    pub fn tokens_per_second(&self) -> f64 {
        if self.seconds > 0.0 { self.tokens as f64 / self.seconds } else { 0.0 }
    }

    fn plan(&self) -> Plan {
        Plan {
            total_steps: (self.prompts.len() * self.spec.per_prompt) as u64,
            train_rows: self.prompts.len(),
            parameters: self.voices.iter().map(|v| v.model.config.parameters()).max().unwrap_or(0),
            ..Plan::default()
        }
    }

    /// The prompt's candidates, empty ones dropped, in the candidates' order.
    fn candidates(&mut self, prompt: &Prompt, sink: &mut dyn Sink) -> Result<Vec<Completion>, Error> {
        let mut out = Vec::new();
        for (v, voice) in self.voices.iter().enumerate() {
            let numbers: Vec<usize> = (0..self.spec.per_prompt).filter(|k| k % self.voices.len() == v).collect();
            let ids = voice.model.encode_prompt(&prompt.body)?;
            let mut sampler = self.spec.sampler;
            let context = voice.model.config.context;
            if context > 0 {
                let room = context.saturating_sub(ids.len());
                if room == 0 {
                    sink.emit(RunEvent::Found(too_long(prompt, ids.len(), context, self.next)))?;
                    continue;
                }
                sampler.max_new_tokens = sampler.max_new_tokens.min(room);
            }
            let name = |k: usize| hash64(format!("{} {k}", prompt.id).as_bytes());
            let mut rngs: Vec<ChaCha8Rng> = numbers.iter().map(|k| stream(sampler.seed, name(*k))).collect();
            let stops = voice.model.tokenizer.stops();
            let made = generate(&voice.decoder, &ids, stops, &sampler, &mut rngs, true)?;
            for (k, g) in numbers.into_iter().zip(made) {
                self.tokens += g.ids.len() as u64 + u64::from(g.finish == Finish::Eos);
                let text = voice.model.tokenizer.decode(&g.ids)?;
                if text.trim().is_empty() {
                    self.empty += 1;
                    continue;
                }
                out.push(Completion {
                    id: CompletionId::new(format!("{}.{}.{k}", self.run, prompt.id)),
                    prompt: prompt.id.clone(),
                    model: voice.name.clone(),
                    text,
                    tokens: g.ids.len(),
                    finish: g.finish,
                    sampler: Some(sampler),
                    logprob: Some(g.logp),
                });
            }
        }
        // `RUN.PROMPT.K`: in the order of K, whichever model they came from.
        out.sort_by_key(|c| c.id.as_str().rsplit('.').next().and_then(|k| k.parse::<usize>().ok()));
        Ok(out)
    }

    fn empty_finding(&self) -> Finding {
        Finding {
            rule: "empty_completions".into(),
            step: self.next as u64,
            severity: Severity::Note,
            text: format!("{} candidates were empty and were dropped", self.empty),
            remedy: "a model that ends at once may not know this chat template; try an instruct model".into(),
            pair: None,
        }
    }
}

fn too_long(prompt: &Prompt, tokens: usize, context: usize, step: usize) -> Finding {
    Finding {
        rule: "prompt_too_long".into(),
        step: step as u64,
        severity: Severity::Warn,
        text: format!(
            "the prompt {} has {tokens} tokens, the model's context is {context}; it was left out",
            prompt.id
        ),
        remedy: "shorten the prompt, or use a model with a longer context".into(),
        pair: None,
    }
}

/// The completions whose texts differ by more than surrounding white space, first come first kept, and how many were dropped.
fn distinct(completions: Vec<Completion>) -> (Vec<Completion>, usize) {
    let all = completions.len();
    let mut kept: Vec<Completion> = Vec::new();
    for c in completions {
        if kept.iter().all(|k| k.text.trim() != c.text.trim()) {
            kept.push(c);
        }
    }
    let same = all - kept.len();
    (kept, same)
}

/// The disjoint pairs of a uniformly random matching.
fn pairs(run: &RunId, prompt: &Prompt, distinct: &[Completion], seed: u64) -> Vec<Pair> {
    let n = distinct.len();
    if n < 2 {
        return Vec::new();
    }
    let mut order: Vec<usize> = (0..n).collect();
    let mut rng = stream(seed, hash64(format!("{} pairs", prompt.id).as_bytes()));
    for i in (1..n).rev() {
        order.swap(i, (uniform(&mut rng) * (i + 1) as f64) as usize);
    }
    let p_select = (n / 2) as f64 / (n * (n - 1) / 2) as f64;
    let number = |c: &Completion| c.id.as_str().rsplit('.').next().unwrap_or_default().to_owned();
    order
        .chunks_exact(2)
        .map(|two| {
            let (a, b) = (&distinct[two[0]], &distinct[two[1]]);
            Pair {
                id: PairId::new(format!("{}:{run}.{}-{}", prompt.id, number(a), number(b))),
                prompt: prompt.id.clone(),
                a: a.id.clone(),
                b: b.id.clone(),
                strategy: "random".into(),
                p_select,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests;
