//! Reference log-probs: computed once per (weights, tokens), cached on disk, shared by all runs.
//!
//! Owns the cache's keys and files. The reference is the model before the first update: the base model for adapters, the
//! loaded weights for full fine-tuning, so no second copy is needed. Refuses damaged entries and entries of the wrong length:
//! they are recomputed.
//!
//! **Invariant.** An entry depends on its key alone: every example is scored in its own batch, so that a full, empty or partial
//! cache gives the same bits.

use super::data::Example;
use crate::model::error::Error;
use crate::nn::policy::{Batch, Policy, Row};
use sha2::{Digest, Sha256};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// First bytes of an entry; the digit is the format.
const MAGIC: &[u8; 8] = b"tbref 2\n";

/// Reference log-probs of an example's scored tokens: one entry per sequence, KL sequences last.
pub type Reference = Vec<Vec<f64>>;

/// The on-disk cache of reference log-probs, one file per example.
pub struct ReferenceCache {
    dir: PathBuf,
    identity: String,
}

/// Usage counts of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStats {
    /// Entries read.
    pub hits: usize,
    /// Entries computed.
    pub computed: usize,
    /// Computed entries that were present but damaged.
    pub damaged: usize,
}

impl ReferenceCache {
    /// The cache in folder `dir` for the reference `identity`: a hash over weights, tokenizer and template.
    #[must_use]
    pub fn new(dir: &Path, identity: &str) -> Self {
        Self { dir: dir.into(), identity: identity.into() }
    }

    /// Log-probs of every example, from the cache or computed with the current policy. `adapter`: whether the adapter is part
    /// of the reference. Calls `progress(done)` after every computed entry.
    ///
    /// # Errors
    /// When a tensor operation fails. A cache that cannot be written is ignored.
    pub fn get(
        &self,
        policy: &Policy,
        adapter: bool,
        examples: &[&Example],
        mut progress: impl FnMut(usize) -> Result<(), Error>,
    ) -> Result<(Vec<Reference>, CacheStats), Error> {
        let mut used = CacheStats::default();
        let mut out = Vec::with_capacity(examples.len());
        for example in examples {
            let path = self.path(example);
            let bytes = crate::foreign::read(&path, crate::foreign::ROWS).ok();
            if let Some(entry) = bytes.as_deref().and_then(|b| parse(b, example)) {
                used.hits += 1;
                out.push(entry);
                continue;
            }
            used.damaged += usize::from(bytes.is_some());
            let entry = score(policy, adapter, example)?;
            // The trainer reports non-finite values with the pair's name; they must not be cached.
            if entry.iter().flatten().all(|x| x.is_finite()) {
                store(&path, &entry);
            }
            out.push(entry);
            used.computed += 1;
            progress(used.computed)?;
        }
        Ok((out, used))
    }

    fn path(&self, example: &Example) -> PathBuf {
        let mut hash = Sha256::new();
        let mut add = |part: &[u8]| {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        add(self.identity.as_bytes());
        for row in sequences(example) {
            add(&row.ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>());
            add(&row.scored.iter().flat_map(|at| (*at as u64).to_le_bytes()).collect::<Vec<u8>>());
        }
        let key = hex::encode(hash.finalize());
        self.dir.join(&key[..2]).join(format!("{key}.ref"))
    }
}

/// All sequences of an example in the order of its reference.
fn sequences(example: &Example) -> impl Iterator<Item = &Row> {
    example.rows.iter().chain(&example.kl_rows)
}

/// The log-probs of an example, batched as the trainer does on the CPU.
fn score(policy: &Policy, adapter: bool, example: &Example) -> Result<Reference, Error> {
    let mut out = Vec::new();
    for rows in [&example.rows, &example.kl_rows] {
        if !rows.is_empty() {
            let scores = policy.score(&Batch::new(rows.clone()), adapter)?;
            out.extend(scores.rows.into_iter().map(|r| r.logp));
        }
    }
    Ok(out)
}

/// Magic, the values of all sequences as little-endian f64, then the first eight bytes of their SHA-256.
fn serialise(entry: &Reference) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    entry.iter().flatten().for_each(|x| out.extend(x.to_le_bytes()));
    let check = Sha256::digest(&out);
    out.extend(&check[..8]);
    out
}

fn parse(bytes: &[u8], example: &Example) -> Option<Reference> {
    let (body, check) = bytes.split_at_checked(bytes.len().checked_sub(8)?)?;
    if Sha256::digest(body)[..8] != *check {
        return None;
    }
    let values = body.strip_prefix(MAGIC)?;
    let mut values = values.chunks_exact(8).filter_map(|c| Some(f64::from_le_bytes(c.try_into().ok()?)));
    let entry: Reference = sequences(example).map(|row| values.by_ref().take(row.scored.len()).collect()).collect();
    let whole = entry.iter().zip(sequences(example)).all(|(x, row)| x.len() == row.scored.len());
    (whole && values.next().is_none()).then_some(entry)
}

/// Writes an entry atomically.
fn store(path: &Path, entry: &Reference) {
    let Some(dir) = path.parent() else { return };
    // A failed write only costs time in the next run; the temporary file is removed.
    let _ = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).and_then(|()| {
        let mut part = tempfile::NamedTempFile::new_in(dir)?;
        part.write_all(&serialise(entry))?;
        part.persist(path).map(drop).map_err(|e| e.error)
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{PairId, PromptId};
    use crate::model::{LanguageModel, Tune};
    use candle_core::Device;

    fn policy() -> Policy {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama");
        Policy::new(LanguageModel::open(&dir).unwrap().decoder(&Device::Cpu, &Tune::None).unwrap()).unwrap()
    }

    fn pair(n: u32) -> Example {
        Example {
            id: PairId::new(format!("q{n}")),
            prompt_id: PromptId::new(format!("p{n}")),
            row: 0,
            prompt: 3,
            rows: vec![
                Row::new(vec![1, 40 + n, 50, 60, 61 + n, 2], vec![3, 4, 5]),
                Row::new(vec![1, 40 + n, 50, 70 + n, 2], vec![3, 4]),
            ],
            kl_rows: Vec::new(),
            margin: None,
            agreed: None,
            desirable: true,
        }
    }

    #[test]
    fn entries_are_reused_and_recomputed_where_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let policy = policy();
        let (a, b) = (pair(1), pair(2));
        let cache = ReferenceCache::new(dir.path(), "m");
        let (first, used) = cache.get(&policy, false, &[&a, &b], |_| Ok(())).unwrap();
        assert_eq!(used, CacheStats { hits: 0, computed: 2, damaged: 0 });
        assert_eq!((first[0][0].len(), first[0][1].len()), (3, 2));
        let (again, used) = cache.get(&policy, false, &[&b, &a], |_| Ok(())).unwrap();
        assert_eq!(used, CacheStats { hits: 2, computed: 0, damaged: 0 });
        assert_eq!(again, [first[1].clone(), first[0].clone()]);

        let path = cache.path(&a);
        let whole = std::fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[12] ^= 1;
        for bad in [flipped.as_slice(), &whole[..whole.len() - 3], b""] {
            std::fs::write(&path, bad).unwrap();
            let (mended, used) = cache.get(&policy, false, &[&a], |_| Ok(())).unwrap();
            assert_eq!(used, CacheStats { hits: 0, computed: 1, damaged: 1 });
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
