//! Reference log-probs: computed once per (weights, tokens), kept on disk, shared by all runs.
//!
//! Owns the cache's keys and files. The reference is the model before the first update: for adapters the model without them,
//! for full weights the weights as loaded, so that no second copy of them is needed. Refuses to trust a file: an entry that is
//! damaged or of the wrong length is computed again.
//!
//! **Invariant.** An entry depends on its key alone: every pair is scored in a batch of its own, so that a cache that is full,
//! empty or half there gives the same bits.

use super::error::Error;
use super::policy::{Batch, Policy, Row, TokenScores};
use super::rows::TokenPair;
use sha2::{Digest, Sha256};
use std::io::Write;
use std::path::{Path, PathBuf};

/// First bytes of an entry; the digit is the format.
const MAGIC: &[u8; 8] = b"tbref 1\n";

/// Reference log-probs of a pair's answer tokens, in nats.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reference {
    /// Of the chosen answer.
    pub chosen: Vec<f64>,
    /// Of the rejected answer.
    pub rejected: Vec<f64>,
}

/// Reference log-probs on disk, one file a pair.
pub struct ReferenceCache {
    dir: PathBuf,
    identity: String,
}

/// How the cache was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheUse {
    /// Entries read.
    pub found: usize,
    /// Entries computed.
    pub computed: usize,
    /// Of those, entries that were there and damaged.
    pub damaged: usize,
}

impl ReferenceCache {
    /// The cache in folder `dir` for a reference of that `identity`: a hash over weights, tokenizer and template.
    #[must_use]
    pub fn new(dir: &Path, identity: &str) -> Self {
        Self { dir: dir.into(), identity: identity.into() }
    }

    /// Log-probs of every pair, read or computed with the policy as it is. `adapter`: whether its adapter is part of the
    /// reference. `watch(done)` is called after every computed pair.
    ///
    /// # Errors
    /// When a tensor operation fails. A cache that cannot be written is no error: the run goes on without it.
    pub fn get(
        &self,
        policy: &Policy,
        adapter: bool,
        pairs: &[&TokenPair],
        mut watch: impl FnMut(usize) -> Result<(), Error>,
    ) -> Result<(Vec<Reference>, CacheUse), Error> {
        let mut used = CacheUse::default();
        let mut out = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let path = self.path(pair);
            let bytes = std::fs::read(&path).ok();
            if let Some(entry) = bytes.as_deref().and_then(|b| parse(b, pair)) {
                used.found += 1;
                out.push(entry);
                continue;
            }
            used.damaged += usize::from(bytes.is_some());
            let entry = score(policy, adapter, pair)?;
            // What is not finite is the trainer's to report, with the pair's name; it must not outlive this run.
            if entry.chosen.iter().chain(&entry.rejected).all(|x| x.is_finite()) {
                keep(&path, &entry);
            }
            out.push(entry);
            used.computed += 1;
            watch(used.computed)?;
        }
        Ok((out, used))
    }

    fn path(&self, pair: &TokenPair) -> PathBuf {
        let mut hash = Sha256::new();
        for part in [self.identity.as_bytes().to_vec(), bytes(&pair.prompt), bytes(&pair.chosen), bytes(&pair.rejected)]
        {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let key = hex(&hash.finalize());
        self.dir.join(&key[..2]).join(format!("{key}.ref"))
    }
}

/// The two rows of a pair for the policy; with `prompt` the chosen row's prompt is scored too.
#[must_use]
pub(super) fn rows(pair: &TokenPair, prompt: bool) -> [Row; 2] {
    let row = |answer: &[u32], from: usize| {
        let ids: Vec<u32> = pair.prompt.iter().chain(answer).copied().collect();
        Row { scored: (from.max(1)..ids.len()).collect(), ids }
    };
    [row(&pair.chosen, if prompt { 1 } else { pair.prompt.len() }), row(&pair.rejected, pair.prompt.len())]
}

fn score(policy: &Policy, adapter: bool, pair: &TokenPair) -> Result<Reference, Error> {
    let TokenScores { rows } = policy.score(&Batch { rows: rows(pair, false).to_vec() }, adapter)?;
    let mut sides = rows.into_iter().map(|r| r.logp);
    Ok(Reference { chosen: sides.next().unwrap_or_default(), rejected: sides.next().unwrap_or_default() })
}

/// Bytes as hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).filter_map(|d| char::from_digit(u32::from(d), 16)).collect()
}

fn bytes(ids: &[u32]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.to_le_bytes()).collect()
}

/// Magic, the values of chosen and rejected as little-endian f64, then the first eight bytes of the SHA-256 of all that.
fn format(entry: &Reference) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    entry.chosen.iter().chain(&entry.rejected).for_each(|x| out.extend(x.to_le_bytes()));
    let check = Sha256::digest(&out);
    out.extend(&check[..8]);
    out
}

fn parse(bytes: &[u8], pair: &TokenPair) -> Option<Reference> {
    let (body, check) = bytes.split_at_checked(bytes.len().checked_sub(8)?)?;
    if Sha256::digest(body)[..8] != *check {
        return None;
    }
    let values = body.strip_prefix(MAGIC)?;
    let mut values: Vec<f64> =
        values.chunks_exact(8).filter_map(|c| Some(f64::from_le_bytes(c.try_into().ok()?))).collect();
    if values.len() != pair.chosen.len() + pair.rejected.len() {
        return None;
    }
    let rejected = values.split_off(pair.chosen.len());
    Some(Reference { chosen: values, rejected })
}

/// Writes an entry so that it is there whole or not at all.
fn keep(path: &Path, entry: &Reference) {
    let Some(dir) = path.parent() else { return };
    let part = path.with_extension(format!("{}.part", std::process::id()));
    let written = std::fs::create_dir_all(dir)
        .and_then(|()| std::fs::File::create(&part))
        .and_then(|mut f| f.write_all(&format(entry)))
        .and_then(|()| std::fs::rename(&part, path));
    if written.is_err() {
        // A cache that cannot be written costs time next time, nothing else.
        let _ = std::fs::remove_file(&part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{PairId, PromptId};
    use crate::engine::{LanguageModel, Tune};
    use candle_core::Device;

    fn policy() -> Policy {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama");
        Policy::new(LanguageModel::open(&dir).unwrap().decoder(&Device::Cpu, &Tune::None).unwrap())
    }

    fn pair(n: u32) -> TokenPair {
        TokenPair {
            pair: PairId::new(format!("q{n}")),
            prompt_id: PromptId::new(format!("p{n}")),
            row: 0,
            prompt: vec![1, 40 + n, 50],
            chosen: vec![60, 61 + n, 2],
            rejected: vec![70 + n, 2],
        }
    }

    #[test]
    fn kept_shared_and_computed_again_where_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let policy = policy();
        let (a, b) = (pair(1), pair(2));
        let cache = ReferenceCache::new(dir.path(), "m");
        let (first, used) = cache.get(&policy, false, &[&a, &b], |_| Ok(())).unwrap();
        assert_eq!(used, CacheUse { found: 0, computed: 2, damaged: 0 });
        assert_eq!((first[0].chosen.len(), first[0].rejected.len()), (3, 2));
        let (again, used) = cache.get(&policy, false, &[&b, &a], |_| Ok(())).unwrap();
        assert_eq!(used, CacheUse { found: 2, computed: 0, damaged: 0 });
        assert_eq!(again, [first[1].clone(), first[0].clone()]);

        let path = cache.path(&a);
        let whole = std::fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[12] ^= 1;
        for bad in [flipped.as_slice(), &whole[..whole.len() - 3], b""] {
            std::fs::write(&path, bad).unwrap();
            let (mended, used) = cache.get(&policy, false, &[&a], |_| Ok(())).unwrap();
            assert_eq!(used, CacheUse { found: 0, computed: 1, damaged: 1 });
            assert_eq!(mended[0], first[0]);
            assert_eq!(std::fs::read(&path).unwrap(), whole);
        }
        let other = ReferenceCache::new(dir.path(), "n");
        assert_eq!(other.get(&policy, false, &[&a], |_| Ok(())).unwrap().1.computed, 1, "another model, another key");
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_no_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let cache = ReferenceCache::new(file.path(), "m");
        let (got, used) = cache.get(&policy(), false, &[&pair(1)], |_| Ok(())).unwrap();
        assert_eq!((got.len(), used.computed), (1, 1));
    }
}
