//! Preference rows to tokens and masks, once, before anything is trained.
//!
//! Owns the boundary between prompt and answer, the end-of-text token, what is left out, the split into training and
//! evaluation, and the order of rows. Refuses to cut: a row that does not fit is left out and counted.
//!
//! * A conversation goes through the chat template: the prompt alone with the head of the assistant's turn, prompt and answer
//!   whole. Whatever the template emits stays as it is; nothing is added.
//! * Plain text gets the end-of-text token's text after the answer if it does not end in it, and whatever the tokenizer puts
//!   before a text, once.
//! * The boundary is the longest prefix that the prompt shares with both whole texts (TRL ≥ 1). Every answer token counts,
//!   the end-of-text token too. There is no padding here, so none can be in a mask.
//!
//! ORPO's rows are made the same way. TRL's ORPO trainer differs: it appends the end-of-text id again behind a template that
//! ends in a newline, and cuts long answers.

use super::error::Error;
use super::language_model::LanguageModel;
use super::random::{stream, uniform};
use crate::domain::{Finding, Message, PairId, PairRow, PromptBody, PromptId, Severity, hash64};
use crate::protocol::DroppedRows;

/// Turns rows' texts into tokens: a model's tokenizer and chat template.
pub trait Encode {
    /// The prompt as the model continues it.
    ///
    /// # Errors
    /// When the template or the tokenizer refuses it.
    fn prompt(&self, prompt: &PromptBody) -> Result<Vec<u32>, Error>;

    /// Prompt and answer whole, to the answer's end.
    ///
    /// # Errors
    /// When the template or the tokenizer refuses it.
    fn answered(&self, prompt: &PromptBody, answer: &str) -> Result<Vec<u32>, Error>;

    /// The most tokens the model was made for.
    fn context(&self) -> usize;
}

impl Encode for LanguageModel {
    fn context(&self) -> usize {
        self.config.context
    }

    fn prompt(&self, prompt: &PromptBody) -> Result<Vec<u32>, Error> {
        self.encode_prompt(prompt)
    }

    fn answered(&self, prompt: &PromptBody, answer: &str) -> Result<Vec<u32>, Error> {
        match prompt {
            PromptBody::Chat(messages) => {
                let mut messages = messages.clone();
                messages.push(Message { role: "assistant".into(), content: answer.into() });
                self.tokenizer.encode(&self.render(&messages, false)?, false)
            }
            PromptBody::Text(text) => {
                let mut whole = format!("{text}{answer}");
                if let Some(eos) = self.tokenizer.eos_text().filter(|eos| !whole.ends_with(eos)) {
                    whole.push_str(eos);
                }
                self.tokenizer.encode(&whole, true)
            }
        }
    }
}

/// A preference row in tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenPair {
    /// The pair it came from.
    pub pair: PairId,
    /// The prompt's id.
    pub prompt_id: PromptId,
    /// Index of the row it came from.
    pub row: usize,
    /// What both whole texts begin with; never empty.
    pub prompt: Vec<u32>,
    /// The chosen answer behind it; never empty.
    pub chosen: Vec<u32>,
    /// The rejected answer behind it; never empty.
    pub rejected: Vec<u32>,
}

impl TokenPair {
    /// Tokens of the longer side.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.prompt.len() + self.chosen.len().max(self.rejected.len())
    }

    /// Tokens of both sides, the prompt counted twice, as a trainer without prefix sharing computes them.
    #[must_use]
    pub fn tokens(&self) -> usize {
        2 * self.prompt.len() + self.chosen.len() + self.rejected.len()
    }
}

/// Rows in tokens, split, and what was left out.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tokenised {
    /// Rows to train on, in the file's order.
    pub train: Vec<TokenPair>,
    /// Rows kept for evaluation, in the file's order.
    pub eval: Vec<TokenPair>,
    /// Rows left out, by reason.
    pub dropped: Vec<DroppedRows>,
    /// What the user should know about the rows.
    pub findings: Vec<Finding>,
}

impl Tokenised {
    /// Tokens of the longest row, 0 without rows.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.train.iter().chain(&self.eval).map(TokenPair::longest).max().unwrap_or(0)
    }

    fn drop(&mut self, reason: &str) {
        match self.dropped.iter_mut().find(|d| d.reason == reason) {
            Some(d) => d.count += 1,
            None => self.dropped.push(DroppedRows { reason: reason.into(), count: 1 }),
        }
    }
}

/// Whether a prompt's rows are kept for evaluation: the same for every run with the same `fraction`.
#[must_use]
pub fn is_eval(prompt: &PromptId, fraction: f64) -> bool {
    // 53 bits of the hash as a number in 0..1.
    ((hash64(prompt.as_str().as_bytes()) >> 11) as f64 / (1u64 << 53) as f64) < fraction
}

/// Tokenises `rows`; none longer than `max_length` stays. `watch(done)` is called after every row.
///
/// # Errors
/// When the template or the tokenizer refuses a row; the sentence names its pair.
pub fn tokenise(
    encode: &dyn Encode,
    rows: &[PairRow],
    max_length: usize,
    eval_fraction: f64,
    mut watch: impl FnMut(usize) -> Result<(), Error>,
) -> Result<Tokenised, Error> {
    let mut out = Tokenised::default();
    let mut parted: Vec<&PairId> = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        watch(i)?;
        if row.chosen.trim().is_empty() || row.rejected.trim().is_empty() {
            out.drop("an empty answer");
            continue;
        }
        let fail = |e: Error| Error::Asked(format!("pair {}: {e}", row.pair));
        let prompt = encode.prompt(&row.prompt).map_err(fail)?;
        let mut chosen = encode.answered(&row.prompt, &row.chosen).map_err(fail)?;
        let mut rejected = encode.answered(&row.prompt, &row.rejected).map_err(fail)?;
        let boundary = common(&prompt, &chosen).min(common(&prompt, &rejected));
        if boundary < prompt.len() {
            parted.push(&row.pair);
        }
        if boundary == 0 {
            out.drop("no common beginning of prompt and answers");
            continue;
        }
        let (chosen, rejected) = (chosen.split_off(boundary), rejected.split_off(boundary));
        let prompt = prompt[..boundary].to_vec();
        let pair =
            TokenPair { pair: row.pair.clone(), prompt_id: row.prompt_id.clone(), row: i, prompt, chosen, rejected };
        if pair.chosen.is_empty() || pair.rejected.is_empty() {
            out.drop("an empty answer");
        } else if pair.chosen == pair.rejected {
            out.drop("equal answers");
        } else if pair.longest() > max_length {
            out.drop("longer than max_length");
        } else if pair.longest() > encode.context() {
            out.drop("longer than the model's context");
        } else if is_eval(&row.prompt_id, eval_fraction) {
            out.eval.push(pair);
        } else {
            out.train.push(pair);
        }
    }
    watch(rows.len())?;
    if let Some(first) = parted.first() {
        out.findings.push(Finding {
            rule: "prompt_not_a_prefix".into(),
            step: 0,
            severity: Severity::Warn,
            text: format!(
                "In {} of {} rows the prompt is not how prompt and answer together begin; the tokens from where they \
                 part on count as the answer.",
                parted.len(),
                rows.len()
            ),
            remedy: "Look at the chat template, or end plain prompts with a space or newline.".into(),
            pair: Some((*first).clone()),
        });
    }
    Ok(out)
}

/// Length of the common prefix.
fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

/// The order of `n` rows in an epoch: the file's, or a permutation that depends on nothing but seed and epoch.
#[must_use]
pub fn order(n: usize, shuffle: bool, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    if shuffle {
        // Streams from 2^40 on are the epochs'; modules' adapters and dropout lie below.
        let mut rng = stream(seed, (1 << 40) + epoch);
        for i in (1..n).rev() {
            let j = (uniform(&mut rng) * (i + 1) as f64) as usize;
            order.swap(i, j.min(i));
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One token a byte; a conversation ends its turns with 0, plain text ends in 1.
    struct Bytes;

    impl Encode for Bytes {
        fn context(&self) -> usize {
            50
        }

        fn prompt(&self, prompt: &PromptBody) -> Result<Vec<u32>, Error> {
            Ok(match prompt {
                PromptBody::Text(t) => t.bytes().map(u32::from).collect(),
                PromptBody::Chat(m) => m.iter().flat_map(|m| m.content.bytes().map(u32::from).chain([0])).collect(),
            })
        }

        fn answered(&self, prompt: &PromptBody, answer: &str) -> Result<Vec<u32>, Error> {
            let mut ids = self.prompt(prompt)?;
            // As a byte-pair tokenizer may: a space and what follows it become one token.
            if answer.starts_with('!') {
                ids.pop();
                ids.push(999);
            }
            ids.extend(answer.bytes().map(u32::from));
            ids.push(1);
            Ok(ids)
        }
    }

    fn row(n: usize, prompt: &str, chosen: &str, rejected: &str) -> PairRow {
        PairRow {
            pair: PairId::new(format!("q{n}")),
            prompt_id: PromptId::new(format!("p{n}")),
            prompt: PromptBody::Text(prompt.into()),
            chosen: chosen.into(),
            rejected: rejected.into(),
            margin: None,
            agreed: None,
        }
    }

    fn tokens(rows: &[PairRow], max: usize) -> Tokenised {
        tokenise(&Bytes, rows, max, 0.0, |_| Ok(())).unwrap()
    }

    #[test]
    fn the_answer_begins_behind_the_prompt_and_its_end_counts() {
        let out = tokens(&[row(1, "ab", "cd", "e")], 100);
        let pair = &out.train[0];
        assert_eq!(pair.prompt, [97, 98]);
        assert_eq!(pair.chosen, [99, 100, 1]);
        assert_eq!(pair.rejected, [101, 1]);
        assert_eq!((pair.longest(), pair.tokens()), (5, 9));
        assert!(out.findings.is_empty() && out.dropped.is_empty());
    }

    #[test]
    fn where_a_token_spans_the_boundary_both_sides_begin_before_it() {
        let out = tokens(&[row(7, "ab ", "x", "!y")], 100);
        assert_eq!(out.train[0].prompt, [97, 98]);
        assert_eq!(out.train[0].chosen, [32, 120, 1]);
        assert_eq!(out.train[0].rejected[0], 999);
        assert_eq!(out.findings[0].pair, Some(PairId::new("q7")));
        assert_eq!(out.findings[0].severity, Severity::Warn);
    }

    #[test]
    fn what_does_not_fit_is_counted_and_not_cut() {
        let rows = [row(1, "ab", "cdefg", "e"), row(2, "ab", " ", "x"), row(3, "ab", "x", "x"), row(4, "ab", "x", "y")];
        let out = tokens(&rows, 7);
        let counts: Vec<_> = out.dropped.iter().map(|d| (d.reason.as_str(), d.count)).collect();
        assert_eq!(counts, [("longer than max_length", 1), ("an empty answer", 1), ("equal answers", 1)]);
        assert_eq!(out.train.len(), 1);
        assert_eq!(out.train[0].row, 3);
        let out = tokens(&[row(1, "ab", &"c".repeat(60), "e")], 100);
        assert_eq!(out.dropped[0].reason, "longer than the model's context");
    }

    #[test]
    fn the_split_goes_by_the_prompt_alone() {
        let ids: Vec<_> = (0..2000).map(|i| PromptId::new(format!("p{i}"))).collect();
        let share = ids.iter().filter(|p| is_eval(p, 0.2)).count();
        assert!((300..500).contains(&share), "{share} of 2000");
        assert!(ids.iter().all(|p| !is_eval(p, 0.0)));
        assert!(ids.iter().filter(|p| is_eval(p, 0.1)).all(|p| is_eval(p, 0.2)), "a smaller share is part of a larger");
    }

    #[test]
    fn the_order_is_a_permutation_of_seed_and_epoch() {
        let a = order(50, true, 1, 0);
        let mut sorted = a.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
        assert_eq!(a, order(50, true, 1, 0));
        assert!(a != order(50, true, 1, 1) && a != order(50, true, 2, 0));
        assert_eq!(order(3, false, 1, 5), [0, 1, 2]);
    }
}
