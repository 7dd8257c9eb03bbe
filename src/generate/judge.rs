//! A judge model: which of two answers is better, asked in both orders.
//!
//! Owns the question and its two readings: the exact next-token probabilities of the letters A and B for a model on this
//! machine, a server's log-probs or text for one behind a server. Refuses to decide: it gives probabilities.

use super::server::{FaultKind, LetterServer, Letters};
use crate::domain::{PairId, PromptBody};
use crate::model::error::Error;
use crate::model::language_model::LanguageModel;
use crate::model::tune::Tune;
use crate::nn::decoder::Decoder;
use crate::protocol::{JudgeModel, Judgement};
use candle_core::{DType, Device, Tensor};
use std::path::Path;

/// A judge that can be asked.
pub enum Judge {
    /// A model on this machine.
    Local(Box<LocalJudge>),
    /// A server's model.
    Server(Box<LetterServer>),
}

/// A loaded model with the tokens of both letters.
pub struct LocalJudge {
    model: LanguageModel,
    decoder: Decoder,
    a: Vec<u32>,
    b: Vec<u32>,
}

/// What is asked about two answers.
fn question(prompt: &PromptBody, first: &str, second: &str) -> String {
    let asked = match prompt {
        PromptBody::Text(text) => text.clone(),
        PromptBody::Chat(messages) => {
            let turns: Vec<String> = messages.iter().map(|m| format!("{}: {}", m.role, m.readable())).collect();
            turns.join("\n\n")
        }
    };
    format!(
        "Compare two answers to the same prompt. Judge how helpful, correct and clear they are. Their order and their length do \
         not matter.\n\n[Prompt]\n{asked}\n\n[Answer A]\n{first}\n\n[Answer B]\n{second}\n\n[End]\n\nWhich answer is better? Reply \
         with one letter, A or B, and nothing else."
    )
}

impl Judge {
    /// Loads the model, or prepares the client.
    ///
    /// # Errors
    /// When the model cannot be loaded or has no token for a letter, or the server's key is missing.
    pub fn open(judge: &JudgeModel, device: &Device) -> Result<Self, Error> {
        match judge {
            JudgeModel::Server(server) => Ok(Self::Server(Box::new(LetterServer::open(server)?))),
            JudgeModel::Local(path) => {
                let model = LanguageModel::open(Path::new(path))?;
                let decoder = model.decoder(device, &Tune::None)?;
                let (a, b) = (letter_tokens(&model, "A")?, letter_tokens(&model, "B")?);
                Ok(Self::Local(Box::new(LocalJudge { model, decoder, a, b })))
            }
        }
    }

    /// Checks without loading weights that a model can be asked for letters.
    ///
    /// # Errors
    /// When the model cannot be read or its tokenizer has no single token for a letter, or the server's key is missing.
    pub fn check(judge: &JudgeModel) -> Result<(), Error> {
        match judge {
            JudgeModel::Server(server) => LetterServer::open(server).map(|_| ()),
            JudgeModel::Local(path) => {
                let model = LanguageModel::open(Path::new(path))?;
                letter_tokens(&model, "A")?;
                letter_tokens(&model, "B").map(|_| ())
            }
        }
    }

    /// Judges two answers in both orders. What concerns this pair alone is in the judgement.
    ///
    /// # Errors
    /// When no pair can be judged.
    pub fn judge(&mut self, pair: &PairId, prompt: &PromptBody, a: &str, b: &str) -> Result<Judgement, Error> {
        let mut out = Judgement { pair: pair.clone(), a_first: None, b_first: None, mass: None, problem: None };
        let one = match self.ask(&question(prompt, a, b))? {
            Ok(letters) => letters,
            Err(problem) => return Ok(Judgement { problem: Some(problem), ..out }),
        };
        let two = match self.ask(&question(prompt, b, a))? {
            Ok(letters) => letters,
            Err(problem) => return Ok(Judgement { problem: Some(problem), ..out }),
        };
        out.a_first = Some(one.a);
        // There, b is answer A.
        out.b_first = Some(1.0 - two.a);
        out.mass = one.mass.zip(two.mass).map(|(x, y)| f64::midpoint(x, y));
        Ok(out)
    }

    /// The letters, or why this question has no answer.
    fn ask(&mut self, question: &str) -> Result<Result<Letters, String>, Error> {
        match self {
            Self::Local(judge) => judge.ask(question),
            Self::Server(server) => match server.ask(question) {
                Ok(letters) => Ok(Ok(letters)),
                Err(fault) if fault.kind == FaultKind::Request => Ok(Err(fault.text)),
                Err(fault) => Err(Error::Invalid(fault.text)),
            },
        }
    }
}

impl LocalJudge {
    fn ask(&self, question: &str) -> Result<Result<Letters, String>, Error> {
        let body = if self.model.template.is_some() {
            PromptBody::user(question)
        } else {
            // A base model continues a text.
            PromptBody::Text(format!("{question}\n\nThe better answer is answer"))
        };
        let ids = self.model.encode_prompt(&body)?;
        let context = self.model.config.context;
        if context > 0 && ids.len() >= context {
            return Ok(Err("prompt and both answers do not fit the judge's context".into()));
        }
        let mut cache = self.decoder.cache(1, ids.len() + 1)?;
        let ids = Tensor::new(ids.as_slice(), self.decoder.device())?.unsqueeze(0)?;
        let logits =
            self.decoder.step(&ids, &mut cache, false)?.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        // The last position's logits, whatever positions the decoder returns.
        let vocabulary = self.model.config.vocab;
        let logits = &logits[logits.len().saturating_sub(vocabulary)..];
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max) as f64;
        let sum: f64 = logits.iter().map(|x| (*x as f64 - most).exp()).sum();
        let of = |tokens: &[u32]| -> f64 {
            tokens.iter().filter_map(|t| logits.get(*t as usize)).map(|x| (*x as f64 - most).exp() / sum).sum()
        };
        Letters::of(of(&self.a), of(&self.b)).map(Ok).ok_or_else(|| {
            Error::NotFinite("the judge's next-token probabilities are infinite or NaN: use another judge".into())
        })
    }
}

/// The tokens that are this letter, with or without a space before it.
fn letter_tokens(model: &LanguageModel, letter: &str) -> Result<Vec<u32>, Error> {
    let mut out = Vec::new();
    for text in [letter.to_owned(), format!(" {letter}")] {
        // A tokenizer without the letter may leave it out, and give one token for the space alone.
        if let [one] = model.tokenizer.encode(&text, false)?.as_slice()
            && !out.contains(one)
            && model.tokenizer.decode(&[*one])?.trim() == letter
        {
            out.push(*one);
        }
    }
    if out.is_empty() {
        return Err(Error::Invalid(format!(
            "{}: the tokenizer has no single token for the letter {letter}: use another judge",
            model.path.display()
        )));
    }
    Ok(out)
}
