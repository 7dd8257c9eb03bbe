//! How many tokens go through a layer at once: fewer after memory ran out.
//!
//! Splits a batch along its rows (or families of rows), layer by layer, and concatenates the parts. Rows do not attend to each
//! other, and a layer's gradients are added only when all are computed, so a split costs time but changes no result. Refuses to
//! split a row: attention needs it whole.

use crate::model::error::Error;
use candle_core::Tensor;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Tokens, including padding, that go through a layer at once.
#[derive(Debug)]
pub(crate) struct TokenBudget {
    tokens: AtomicUsize,
    /// Simulates running out of memory above this many tokens.
    #[cfg(test)]
    pub(super) test_limit: usize,
}

impl Default for TokenBudget {
    fn default() -> Self {
        Self {
            tokens: AtomicUsize::new(usize::MAX),
            #[cfg(test)]
            test_limit: usize::MAX,
        }
    }
}

impl TokenBudget {
    /// Calls `part(first, count)` on consecutive runs of `pieces` (tokens each) and returns the results in order. When memory runs
    /// out, it first retries after `relieve`, which returns whether it freed something, then with fewer pieces.
    pub(crate) fn parts<T>(
        &self,
        pieces: &[usize],
        mut relieve: impl FnMut() -> bool,
        mut part: impl FnMut(usize, usize) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let mut parts = Vec::new();
        let mut first = 0;
        while first < pieces.len() {
            let most = self.tokens.load(Ordering::Relaxed);
            let mut sum = 0;
            let fits = |tokens: &&usize| {
                sum += **tokens;
                sum <= most
            };
            let count = pieces[first..].iter().take_while(fits).count().max(1);
            let tokens: usize = pieces[first..first + count].iter().sum();
            match self.check(tokens).and_then(|()| part(first, count)) {
                Ok(done) => {
                    parts.push(done);
                    first += count;
                }
                Err(e) if !e.is_out_of_memory() => return Err(e),
                Err(_) if relieve() => {}
                Err(_) if count > 1 => {
                    self.tokens.store(pieces[first..first + count / 2].iter().sum(), Ordering::Relaxed);
                }
                Err(e) => {
                    return Err(Error::Invalid(format!(
                        "memory is too small for a single sequence of {tokens} tokens ({e}); lower max_length, or use a \
                         smaller model"
                    )));
                }
            }
        }
        Ok(parts)
    }

    /// Most tokens that go through a layer at once since memory ran out; none if it never did.
    pub(crate) fn token_limit(&self) -> Option<usize> {
        Some(self.tokens.load(Ordering::Relaxed)).filter(|tokens| *tokens < usize::MAX)
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "tests run out of memory here")]
    fn check(&self, _tokens: usize) -> Result<(), Error> {
        Ok(())
    }

    #[cfg(test)]
    fn check(&self, tokens: usize) -> Result<(), Error> {
        let full = || candle_core::Error::Msg("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")".into());
        if tokens > self.test_limit { Err(full().into()) } else { Ok(()) }
    }
}

/// Concatenates parts along the rows.
pub(crate) fn concat_rows(mut parts: Vec<Tensor>) -> Result<Tensor, Error> {
    if parts.len() == 1 { Ok(parts.swap_remove(0)) } else { Ok(Tensor::cat(&parts, 0)?) }
}
