//! A sampling run: candidates of many prompts, decoded in batches, deduplicated and paired.
//!
//! Owns the decoding loop and the order of its events. Refuses to know logs: the caller passes how
//! many prompts are done, and a prompt's candidates depend only on the seed.
//!
//! **While it runs** the sink may ask what is being written, as pairs under the identity that they will have.

use super::decode::{PackedDecoder, PromptRequest, Queue};
use super::ends::UnendedAnswers;
pub use super::generated::Generated;
use super::growing::{CandidateParts, SoFar, growing};
use super::pairing::{candidate_id, distinct, pairs};
use super::sampler::draw;
use super::server::{Asking, Servers};
use crate::domain::{Completion, Finding, Finish, Metrics, Prompt, RunId, Sampler, Severity, hash64};
use crate::model::error::Error;
use crate::model::language_model::LanguageModel;
use crate::model::sink::Sink;
use crate::model::trained::Trained;
use crate::model::tune::Tune;
use crate::nn::decoder::Decoder;
use crate::nn::random::stream;
use crate::nn::reference::Cache;
use crate::protocol::{Growing, Plan, Rendering, RunEvent, SampleSpec, ServerLog};
use candle_core::{Device, Tensor};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Continues one prompt once per random generator, in one batch: one prefill, then one step per token for the unfinished
/// rows. A row's tokens depend only on its own generator.
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
    let request = PromptRequest { number: 0, prompt: prompt.to_vec(), rngs: rngs.to_vec(), sampler: *sampler };
    Ok(generate_all(decoder, vec![request], stops, adapter)?.concat())
}

/// Continues several prompts; on the CPU, with packed weights and rows of different prompts in one batch. A row's tokens are those
/// of [`generate`].
///
/// # Errors
/// When a prompt is empty or a tensor operation fails.
pub fn generate_all(
    decoder: &Decoder,
    requests: Vec<PromptRequest>,
    stops: &[u32],
    adapter: bool,
) -> Result<Vec<Vec<Generated>>, Error> {
    if requests.iter().any(|a| a.prompt.is_empty()) {
        return Err(Error::Invalid("an empty prompt cannot be continued; give it at least one token of text".into()));
    }
    if !decoder.device().is_cpu() {
        return requests.into_iter().map(|mut a| stepwise(decoder, &mut a, stops, adapter, &mut |_| ())).collect();
    }
    let widest = requests.iter().map(|a| a.rngs.len()).max().unwrap_or(0);
    let decode = PackedDecoder::of(decoder, adapter)?;
    let mut queue = Queue::new(rows(widest), stops);
    let numbers: Vec<usize> = requests.iter().map(|a| a.number).collect();
    for request in requests {
        queue.push(request);
    }
    while queue.step(&decode)? > 0 {}
    Ok(numbers.into_iter().map(|n| queue.take(n).unwrap_or_default()).collect())
}

/// Prompts from the next one on whose answers can be read while they are written.
const AHEAD: usize = 32;

/// Rows per batch when a prompt has `candidates`: the weights are read once for all of them, and while a prompt's last
/// candidates are decoded, the next prompt's start.
fn rows(candidates: usize) -> usize {
    (2 * candidates).clamp(8, 16).max(candidates)
}

/// Continues one prompt with the decoder itself, on any device. `watch` sees the rows after every token.
fn stepwise(
    decoder: &Decoder,
    request: &mut PromptRequest,
    stops: &[u32],
    adapter: bool,
    watch: &mut dyn FnMut(&[Generated]),
) -> Result<Vec<Generated>, Error> {
    let PromptRequest { prompt, rngs, sampler, .. } = request;
    sampler.max_new_tokens = sampler.max_new_tokens.min(decoder.config().room_after(prompt.len()));
    let mut out: Vec<Generated> =
        rngs.iter().map(|_| Generated { ids: Vec::new(), logp: 0.0, finish: Finish::Length, end: None }).collect();
    if rngs.is_empty() || sampler.max_new_tokens == 0 {
        return Ok(out);
    }
    let device = decoder.device();
    let mut cache: Cache = decoder.cache(1, prompt.len() + sampler.max_new_tokens)?;
    let ids = Tensor::new(prompt.as_slice(), device)?.unsqueeze(0)?;
    let first = logits(&decoder.step(&ids, &mut cache, adapter)?)?;
    // Every row starts from the same logits.
    let mut rows = vec![first.concat(); rngs.len()];
    cache.select(&vec![0; rngs.len()])?;
    let mut open: Vec<usize> = (0..rngs.len()).collect();
    loop {
        let mut kept = Vec::new();
        let mut next = Vec::new();
        for (at, &row) in open.iter().enumerate() {
            let drawn = draw(&rows[at], sampler, &mut rngs[row])?;
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
        watch(&out);
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

/// A loaded model and its name in completions.
struct SampledModel {
    name: String,
    model: LanguageModel,
    decoding: Decoding,
}

/// How a model decodes.
enum Decoding {
    /// On the CPU: rows of several prompts in one batch.
    Queued(Box<PackedDecoder>, Queue),
    /// On other devices: one prompt at a time; finished candidates by the prompt's number.
    Stepwise(Box<Decoder>, BTreeMap<usize, Vec<Generated>>),
}

/// A sampling run in progress.
pub struct Sampling {
    run: RunId,
    spec: SampleSpec,
    prompts: Vec<Prompt>,
    next: usize,
    /// The prompts before this one have been submitted to the models.
    submitted: usize,
    /// Prompts that a model is not asked, by the prompt's number and the model's index.
    left_out: BTreeMap<(usize, usize), LeftOut>,
    models: Vec<SampledModel>,
    /// The models behind servers.
    servers: Option<Servers>,
    tokens: u64,
    seconds: f64,
    empty: usize,
    unended: UnendedAnswers,
    planned: bool,
}

impl Sampling {
    /// Loads the models. `done` prompts are already in the run's log and are not sampled again. `adapters` holds
    /// for each model the checkpoint folder of the run that [`SampleSpec::adapter_of`] names; it may be shorter.
    ///
    /// # Errors
    /// When a model cannot be loaded, or the adapter does not fit it.
    pub fn open(
        run: &RunId,
        spec: &SampleSpec,
        prompts: Vec<Prompt>,
        done: usize,
        adapters: &[Option<&Path>],
        device: &Device,
        sink: &mut dyn Sink,
    ) -> Result<Self, Error> {
        if spec.models.len() + spec.servers.len() == 0 || spec.per_prompt == 0 {
            return Err(Error::Invalid("a sampling run needs a model and at least one candidate a prompt".into()));
        }
        if spec.adapter.is_some() && (spec.models.len(), spec.servers.len()) != (1, 0) {
            return Err(Error::Invalid("an adapter goes on one model; sample several models without one".into()));
        }
        let total = spec.models.len() as u64;
        let mut models = Vec::new();
        for (i, model_ref) in spec.models.iter().enumerate() {
            sink.emit(RunEvent::Progressed { stage: format!("loading {}", model_ref.name), done: i as u64, total })?;
            let model = LanguageModel::open(Path::new(&model_ref.path))?;
            let trained = adapters.get(i).copied().flatten().map(Trained::read).transpose()?;
            let mut name = model_ref.name.clone();
            let decoding = if device.is_cpu() && trained.is_none() {
                PackedDecoder::open(&model)?
            } else {
                let tune = trained.as_ref().map_or(&Tune::None, |t| &t.tune);
                let decoder = model.decoder(device, tune)?;
                if let Some(trained) = &trained {
                    trained.put_on(decoder.trainables())?;
                    if let Some((_, from)) = spec.adapter_of(i) {
                        name = format!("{name}+{from}");
                    }
                }
                if !device.is_cpu() {
                    let decoding = Decoding::Stepwise(Box::new(decoder), BTreeMap::new());
                    models.push(SampledModel { name, model, decoding });
                    continue;
                }
                PackedDecoder::of(&decoder, true)?
            };
            let queue = Queue::new(
                rows(spec.per_prompt.div_ceil(spec.models.len() + spec.servers.len())),
                model.tokenizer.stops(),
            );
            models.push(SampledModel { name, model, decoding: Decoding::Queued(Box::new(decoding), queue) });
        }
        let next = done.min(prompts.len());
        Ok(Self {
            run: run.clone(),
            spec: spec.clone(),
            prompts,
            next,
            submitted: next,
            left_out: BTreeMap::new(),
            models,
            servers: None,
            tokens: 0,
            seconds: 0.0,
            empty: 0,
            unended: UnendedAnswers::since(next > 0),
            planned: false,
        })
    }

    /// Renders prompts as the run does, those that servers are asked too; see [`LanguageModel::rendering`].
    ///
    /// # Errors
    /// When it is not a date.
    pub fn rendering(mut self, how: &Rendering) -> Result<Self, Error> {
        let told = |sampled: SampledModel| Ok(SampledModel { model: sampled.model.rendering(how)?, ..sampled });
        self.models = self.models.into_iter().map(told).collect::<Result<_, Error>>()?;
        self.prompts.iter_mut().for_each(|prompt| prompt.body.add_variables(&how.variables));
        Ok(self)
    }

    /// Asks the run's servers, through the process `asking` where there is one; what an earlier worker logged of their answers is taken over,
    /// so that none is asked for again. A run with servers needs this.
    ///
    /// # Errors
    /// When a key is missing or a thread cannot be started.
    pub fn asking(mut self, log: ServerLog, asking: Option<Arc<Asking>>) -> Result<Self, Error> {
        self.servers = Servers::open(&self.run, &self.spec, self.next, asking)?;
        if let Some(servers) = &mut self.servers {
            servers.remember(log, &self.prompts);
        }
        Ok(self)
    }

    /// Samples the next prompt, or waits a moment for servers. False when none was left.
    ///
    /// # Errors
    /// When the template refuses a prompt, or a tensor operation fails.
    pub fn next(&mut self, sink: &mut dyn Sink) -> Result<bool, Error> {
        if !self.planned {
            self.planned = true;
            sink.emit(RunEvent::Planned(self.plan()))?;
        }
        let Some(prompt) = self.prompts.get(self.next).cloned() else { return Ok(false) };
        let number = self.next;
        let before = Instant::now();
        if let Some(servers) = &mut self.servers {
            let complete = servers.wait_for(number, &self.prompts, sink);
            self.seconds += before.elapsed().as_secs_f64();
            if !complete? {
                sink.show(&mut || self.growing(number, &[]));
                return Ok(true);
            }
        }
        self.next += 1;
        let before = Instant::now();
        let completions = match self.candidates(number, &prompt, sink) {
            Err(Error::NotFinite(what)) => return Err(self.not_finite(&what, &prompt, sink)?),
            generated => generated?,
        };
        self.seconds += before.elapsed().as_secs_f64();
        let (distinct, same) = distinct(completions);
        for c in &distinct {
            sink.emit(RunEvent::Completed(c.clone().into()))?;
        }
        if same > 0 {
            sink.emit(RunEvent::Deduplicated { prompt: prompt.id.clone(), count: same })?;
        }
        if !self.spec.unpaired {
            for pair in pairs(&self.run, &prompt, &distinct, self.spec.per_prompt, self.spec.sampler.seed) {
                sink.emit(RunEvent::Paired(pair.into()))?;
            }
        }
        let (done, total) = (self.next as u64, self.prompts.len() as u64);
        let mut metrics = Metrics::new();
        metrics.set("tokens_per_second", self.tokens_per_second());
        metrics.set("num_tokens", self.tokens as f64);
        metrics.set("queue_depth", (self.prompts.len() - self.next) as f64);
        metrics.set("rows", self.active_rows() as f64);
        let step = done * self.spec.per_prompt as u64;
        sink.emit(RunEvent::Stepped { step, epoch: done as f64 / total as f64, metrics })?;
        sink.emit(RunEvent::Progressed { stage: "sampling".into(), done, total })?;
        if done == total && self.empty > 0 {
            sink.emit(RunEvent::Found(self.empty_finding()))?;
        }
        if done == total
            && let Some(finding) = self.unended.finding(step)
        {
            sink.emit(RunEvent::Found(finding))?;
        }
        if done == total
            && let Some(servers) = &self.servers
        {
            for finding in servers.findings(self.prompts.len(), step) {
                sink.emit(RunEvent::Found(finding))?;
            }
        }
        Ok(true)
    }

    /// Prompts done, including those of earlier attempts.
    #[must_use]
    pub fn done(&self) -> usize {
        self.next
    }

    /// Completions requested so far: the run's step count.
    #[must_use]
    pub fn step_count(&self) -> u64 {
        (self.next * self.spec.per_prompt) as u64
    }

    /// Tokens drawn per second so far, including prefill time.
    #[must_use]
    pub fn tokens_per_second(&self) -> f64 {
        if self.seconds > 0.0 { self.tokens as f64 / self.seconds } else { 0.0 }
    }

    /// Active rows of all queues.
    fn active_rows(&self) -> usize {
        self.models.iter().map(|v| if let Decoding::Queued(_, queue) = &v.decoding { queue.active() } else { 0 }).sum()
    }

    fn plan(&self) -> Plan {
        Plan {
            total_steps: (self.prompts.len() * self.spec.per_prompt) as u64,
            train_rows: self.prompts.len(),
            parameters: self.models.iter().map(|v| v.model.config.parameters()).max().unwrap_or(0),
            ..Plan::default()
        }
    }

    /// The numbers of the candidates that a model decodes.
    fn numbers(&self, model_index: usize) -> Vec<usize> {
        let generators = self.models.len() + self.servers.as_ref().map_or(0, Servers::count);
        (0..self.spec.per_prompt).filter(|k| k % generators == model_index).collect()
    }

    /// Submits a prompt to the models.
    fn submit(&mut self, number: usize, sink: &mut dyn Sink) -> Result<(), Error> {
        let prompt = &self.prompts[number];
        // Encodes for all models first, so that an error submits nothing.
        let encode = |v: &SampledModel| match v.model.encode_prompt(&prompt.body) {
            Err(Error::Template { why, .. }) => Ok(Err(LeftOut::Refused(why))),
            other => other.map(Ok),
        };
        let encoded: Vec<Result<Vec<u32>, LeftOut>> = self.models.iter().map(encode).collect::<Result<_, Error>>()?;
        let name = |k: &usize| hash64(format!("{} {k}", prompt.id).as_bytes());
        for (v, ids) in encoded.into_iter().enumerate() {
            let ids = match ids {
                Ok(ids) => ids,
                Err(why) => {
                    self.left_out.insert((number, v), why);
                    continue;
                }
            };
            let mut sampler = self.spec.sampler;
            let context = self.models[v].model.config.context;
            if context > 0 {
                let room = context.saturating_sub(ids.len());
                if room == 0 {
                    self.left_out.insert((number, v), LeftOut::TooLong(ids.len()));
                    continue;
                }
                sampler.max_new_tokens = sampler.max_new_tokens.min(room);
            }
            let numbers = self.numbers(v);
            let rngs = numbers.iter().map(|k| stream(sampler.seed, name(k))).collect();
            let mut request = PromptRequest { number, prompt: ids, rngs, sampler };
            // What the other generators have written of the same prompt.
            let others = if matches!(self.models[v].decoding, Decoding::Stepwise(..)) {
                self.parts(number)
            } else {
                CandidateParts::new()
            };
            let SampledModel { model, decoding, .. } = &mut self.models[v];
            match decoding {
                Decoding::Queued(_, queue) => queue.push(request),
                Decoding::Stepwise(decoder, generated) => {
                    let (run, prompt, most) = (&self.run, &self.prompts[number], sampler.max_new_tokens);
                    // Without candidates no pair is foreseen.
                    let per_prompt = if self.spec.unpaired { 0 } else { self.spec.per_prompt };
                    let seed = self.spec.sampler.seed;
                    let tokenizer = &model.tokenizer;
                    let so_far =
                        |g: &Generated| SoFar::of(tokenizer, &g.ids, g.finish == Finish::Eos || g.ids.len() >= most);
                    let mut watch = |rows: &[Generated]| {
                        sink.show(&mut || {
                            let mut parts = others.clone();
                            parts.extend(numbers.iter().copied().zip(rows.iter().map(so_far)));
                            growing(run, [(prompt, parts)].into_iter(), per_prompt, seed)
                        });
                    };
                    let rows = stepwise(decoder, &mut request, tokenizer.stops(), true, &mut watch)?;
                    generated.insert(number, rows);
                }
            }
        }
        self.submitted = self.submitted.max(number + 1);
        Ok(())
    }

    /// Submits later prompts while slots are free. An error is reported when the prompt's own turn comes.
    fn submit_ahead(&mut self, sink: &mut dyn Sink) {
        let idle = |v: &SampledModel| matches!(&v.decoding, Decoding::Queued(_, queue) if queue.waiting() == 0);
        while self.submitted < self.prompts.len()
            && self.models.iter().any(idle)
            && self.submit(self.submitted, sink).is_ok()
        {}
    }

    /// The prompt's non-empty candidates in order.
    fn candidates(&mut self, number: usize, prompt: &Prompt, sink: &mut dyn Sink) -> Result<Vec<Completion>, Error> {
        if self.submitted <= number {
            self.submit(number, sink)?;
        }
        let mut out = Vec::new();
        for v in 0..self.models.len() {
            if let Some(why) = self.left_out.remove(&(number, v)) {
                sink.emit(RunEvent::Found(why.finding(prompt, &self.models[v], self.next)))?;
                continue;
            }
            let generated = loop {
                self.submit_ahead(sink);
                match &mut self.models[v].decoding {
                    Decoding::Queued(decode, queue) => {
                        if let Some(generated) = queue.take(number) {
                            break generated;
                        }
                        self.tokens += queue.step(decode)? as u64;
                        sink.show(&mut || self.growing(number, &out));
                    }
                    Decoding::Stepwise(_, generated) => {
                        let generated = generated.remove(&number).unwrap_or_default();
                        let ended = |g: &Generated| u64::from(g.finish == Finish::Eos);
                        self.tokens += generated.iter().map(|g| g.ids.len() as u64 + ended(g)).sum::<u64>();
                        break generated;
                    }
                }
            };
            let sampled = &self.models[v];
            let mut sampler = self.spec.sampler;
            if sampled.model.config.context > 0 {
                let room =
                    sampled.model.config.context.saturating_sub(sampled.model.encode_prompt(&prompt.body)?.len());
                sampler.max_new_tokens = sampler.max_new_tokens.min(room);
            }
            let opened = sampled.model.opens_thought(&prompt.body)?;
            for (k, g) in self.numbers(v).into_iter().zip(generated) {
                let text = sampled.model.answer_text(&prompt.body, &g.ids)?;
                if text.trim().is_empty() {
                    self.empty += 1;
                    continue;
                }
                let answer = Completion {
                    turns: [].into(),
                    id: candidate_id(&self.run, prompt, k),
                    prompt: prompt.id.clone(),
                    model: sampled.name.as_str().into(),
                    text: text.into(),
                    tokens: g.ids.len() as u32,
                    finish: g.finish,
                    sampler: Some(sampler.into()),
                    logprob: g.logp.into(),
                };
                self.unended.count(&answer, opened);
                out.push(answer);
            }
        }
        for answer in self.servers.iter_mut().flat_map(|servers| servers.take(number)) {
            self.tokens += answer.tokens as u64;
            if answer.text.trim().is_empty() {
                self.empty += 1;
            } else {
                self.unended.count(&answer, false);
                out.push(answer);
            }
        }
        // `RUN.PROMPT.K`: in the order of K, whichever model they came from.
        out.sort_by_key(|c| c.id.as_str().rsplit('.').next().and_then(|k| k.parse::<usize>().ok()));
        Ok(out)
    }

    /// What is being written of prompt `first` and the next ones; `taken` are finished candidates of the first.
    fn growing(&self, first: usize, taken: &[Completion]) -> Growing {
        let prompts = (first..self.prompts.len().min(first + AHEAD)).map(|number| {
            let prompt = &self.prompts[number];
            let mut parts = self.parts(number);
            for k in (0..self.spec.per_prompt).filter(|_| !taken.is_empty()) {
                let id = candidate_id(&self.run, prompt, k);
                if let Some(c) = taken.iter().find(|c| c.id == id) {
                    parts.insert(k, SoFar { text: c.text.to_string(), tokens: c.tokens as usize, ended: true });
                }
            }
            (prompt, parts)
        });
        let begun = prompts.filter(|(_, parts)| !parts.is_empty() && !self.spec.unpaired);
        growing(&self.run, begun, self.spec.per_prompt, self.spec.sampler.seed)
    }

    /// A prompt's candidates so far.
    fn parts(&self, number: usize) -> CandidateParts {
        let mut parts = self.servers.as_ref().map_or_else(CandidateParts::new, |servers| servers.parts(number));
        for (v, sampled) in self.models.iter().enumerate() {
            let tokenizer = &sampled.model.tokenizer;
            match &sampled.decoding {
                Decoding::Queued(_, queue) => {
                    let rows = self.numbers(v).into_iter().enumerate();
                    parts.extend(rows.filter_map(|(candidate, k)| {
                        let (ids, ended) = queue.progress(number, candidate)?;
                        Some((k, SoFar::of(tokenizer, ids, ended)))
                    }));
                }
                Decoding::Stepwise(_, generated) => {
                    let rows = generated.get(&number).into_iter().flatten();
                    parts.extend(self.numbers(v).into_iter().zip(rows.map(|g| SoFar::ended(tokenizer, g))));
                }
            }
        }
        parts
    }

    /// Emits the finding that stops sampling, and returns its error.
    fn not_finite(&self, what: &str, prompt: &Prompt, sink: &mut dyn Sink) -> Result<Error, Error> {
        let what = format!("At prompt {}: {what}", prompt.id);
        let remedy = "Sample with another model, or with an earlier checkpoint of the run.".to_owned();
        let step = self.next.saturating_sub(1) as u64 * self.spec.per_prompt as u64;
        sink.emit(RunEvent::Found(Finding {
            rule: "non_finite".into(),
            step,
            severity: Severity::Stop,
            text: what.clone(),
            remedy: remedy.clone(),
            pair: None,
        }))?;
        Ok(Error::Unsound { step, what, remedy })
    }

    fn empty_finding(&self) -> Finding {
        Finding {
            rule: "empty_completions".into(),
            step: self.next as u64,
            severity: Severity::Note,
            text: format!("{} candidates were empty and were dropped{}.", self.empty, self.unended.when()),
            remedy: "a model that ends at once may not know this chat template; try an instruct model".into(),
            pair: None,
        }
    }
}

/// Why a model is not asked a prompt.
enum LeftOut {
    /// It has as many tokens as the context, or more.
    TooLong(usize),
    /// The chat template refuses it, in its own words.
    Refused(String),
}

impl LeftOut {
    fn finding(&self, prompt: &Prompt, sampled: &SampledModel, step: usize) -> Finding {
        let (rule, text, remedy) = match self {
            Self::TooLong(tokens) => (
                "prompt_too_long",
                format!(
                    "the prompt {} has {tokens} tokens, the model's context is {}; it was left out.",
                    prompt.id, sampled.model.config.context
                ),
                "Shorten the prompt, or use a model with a longer context.",
            ),
            Self::Refused(why) => (
                "template_refused",
                format!(
                    "the chat template of {} refuses the prompt {}: {why}; it was left out.",
                    sampled.name, prompt.id
                ),
                "Change the conversation's roles, or use a model whose template takes them.",
            ),
        };
        let (severity, remedy) = (Severity::Warn, remedy.to_owned());
        Finding { rule: rule.into(), step: step as u64, severity, text, remedy, pair: None }
    }
}

#[cfg(test)]
mod tests;
