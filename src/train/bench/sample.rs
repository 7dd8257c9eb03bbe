//! The sampling benchmark: candidates of one prompt, with prefill and decoding timed separately.
//!
//! Owns the timing. Refuses stop tokens, so that every repetition does the same work.

use crate::domain::{PromptBody, Sampler};
use crate::generate::decode::{PackedDecoder, PromptRequest, Queue};
use crate::generate::sampling::{Generated, generate};
use crate::model::error::Error;
use crate::model::language_model::LanguageModel;
use crate::model::tune::Tune;
use crate::nn::decoder::Decoder;
use crate::nn::random::stream;
use crate::nn::{describe, device};
use crate::protocol::{BenchAnswer, RowsFigures, SampleBench, SampleFigures, SampleRun};
use crate::train::trainer::peak_mib;
use candle_core::Device;
use rand_chacha::ChaCha8Rng;
use std::path::Path;
use std::time::Instant;

/// Runs the benchmark `ask`; `tell` receives progress. Prefill is the time of a run that samples one token per candidate; decoding
/// is the extra time of a full run.
///
/// # Errors
/// When the model cannot be loaded, the tokens do not fit its context, or a tensor operation fails.
pub fn sample(
    ask: &SampleBench,
    tell: &mut dyn FnMut(BenchAnswer) -> Result<(), Error>,
) -> Result<SampleFigures, Error> {
    let began = Instant::now();
    if ask.tokens < 2 {
        return Err(Error::Invalid("one token per candidate measures no decoding: raise --tokens".into()));
    }
    let model = LanguageModel::open(Path::new(&ask.model.path))?;
    let device = device(&ask.device)?;
    let voice = Generator::open(&model, &device)?;
    let load_seconds = began.elapsed().as_secs_f64();
    let body = if model.template.is_some() {
        PromptBody::user(ask.prompt.clone())
    } else {
        PromptBody::Text(ask.prompt.clone())
    };
    let prompt = model.encode_prompt(&body)?;
    let context = model.config.context;
    if context > 0 && prompt.len() + ask.tokens > context {
        return Err(Error::Invalid(format!(
            "{} prompt tokens and {} sampled ones exceed the model's context of {context}: lower --tokens",
            prompt.len(),
            ask.tokens
        )));
    }
    let timed = |rows: usize, tokens: usize, run: u64| -> Result<f64, Error> {
        let sampler = Sampler { max_new_tokens: tokens, ..Sampler::default() };
        let mut rngs: Vec<_> = (0..rows as u64).map(|row| stream(run, row)).collect();
        let began = Instant::now();
        let made = voice.write(&prompt, sampler, &mut rngs)?;
        let seconds = began.elapsed().as_secs_f64();
        if made.len() != rows || made.iter().any(|g| g.ids.len() != tokens) {
            return Err(Error::Invalid("a candidate ended before its last token".into()));
        }
        Ok(seconds)
    };
    let total = (ask.rows.len() * (ask.runs + 1)) as u64;
    let mut done = 0;
    let mut out = Vec::new();
    for rows in ask.rows.iter().copied() {
        let mut runs = Vec::new();
        // The first is the warm-up.
        for run in 0..=ask.runs {
            tell(BenchAnswer::Progressed { stage: format!("sampling {rows} in parallel"), done, total })?;
            let prefill = timed(rows, 1, run as u64)?;
            let whole = timed(rows, ask.tokens, run as u64)?;
            if run > 0 {
                runs.push(SampleRun { prefill_seconds: prefill, decode_seconds: (whole - prefill).max(f64::EPSILON) });
            }
            done += 1;
        }
        out.push(RowsFigures { rows, tokens: ask.tokens - 1, runs });
    }
    Ok(SampleFigures {
        device: describe(&device),
        parameters: model.config.parameters(),
        prompt_tokens: prompt.len(),
        load_seconds,
        rows: out,
        peak_mib: peak_mib(),
    })
}

/// The decoder of a sampling run: packed weights on the CPU, read once for all rows; elsewhere the plain decoder.
enum Generator {
    Packed(Box<PackedDecoder>),
    Stepwise(Box<Decoder>),
}

impl Generator {
    fn open(model: &LanguageModel, device: &Device) -> Result<Self, Error> {
        if device.is_cpu() {
            return Ok(Self::Packed(Box::new(PackedDecoder::open(model)?)));
        }
        Ok(Self::Stepwise(Box::new(model.decoder(device, &Tune::None)?)))
    }

    /// Continues the prompt once per random generator, without stop tokens.
    fn write(&self, prompt: &[u32], sampler: Sampler, rngs: &mut [ChaCha8Rng]) -> Result<Vec<Generated>, Error> {
        let decode = match self {
            Self::Stepwise(decoder) => return generate(decoder, prompt, &[], &sampler, rngs, true),
            Self::Packed(decode) => decode,
        };
        let mut queue = Queue::new(rngs.len(), &[]);
        queue.push(PromptRequest { number: 0, prompt: prompt.to_vec(), rngs: rngs.to_vec(), sampler });
        while queue.step(decode)? > 0 {}
        Ok(queue.take(0).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ModelRef;

    #[test]
    fn every_number_of_candidates_is_measured_runs_times() {
        let model = format!("{}/tests/fixtures/tiny-llama", env!("CARGO_MANIFEST_DIR"));
        let ask = SampleBench {
            model: ModelRef { name: "tiny-llama".into(), path: model },
            device: "cpu".into(),
            prompt: "Tell me about the sea.".into(),
            rows: vec![1, 3],
            tokens: 6,
            runs: 2,
        };
        let figures = sample(&ask, &mut |_| Ok(())).unwrap();
        let got: Vec<_> = figures.rows.iter().map(|r| (r.rows, r.tokens, r.runs.len())).collect();
        assert_eq!(got, [(1, 5, 2), (3, 5, 2)]);
        assert!(figures.prompt_tokens > 4);
        let said = sample(&SampleBench { tokens: 1_000_000, ..ask }, &mut |_| Ok(())).unwrap_err().to_string();
        assert!(said.contains("lower --tokens"), "{said}");
    }
}
