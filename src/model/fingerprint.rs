//! The fingerprint of a model on disk: SHA-256 of every byte of every file that decides what it computes or reads.
//!
//! Owns which files these are, and a cache of digests, so that gigabytes are hashed once. Refuses to trust an entry of that
//! cache whose file has another length, inode, or time of change; a digest that may be out of date is not kept at all.

use super::error::Error;
use super::gguf::Gguf;

use super::template::Template;
use super::tokenizer::SpecialTokens;
use super::weights::files as weight_files;
use crate::protocol::{FileDigest, ModelInput};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{File, Metadata};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Files of a folder that decide how it is read, beside the weights; those that are there count.
const COMPANIONS: [&str; 8] = [
    "config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
];
/// Bytes read at a time.
const PIECE: usize = 4 << 20;
/// How often it is said how far the hashing is.
const TELL_EVERY: Duration = Duration::from_millis(200);
/// A file changed this recently may change again within one tick of the file system's clock: its digest is not kept.
const SETTLED: Duration = Duration::from_secs(2);

/// Fingerprints with the cache of file digests behind them.
#[derive(Debug, Clone, Default)]
pub struct Fingerprints {
    cache: Option<PathBuf>,
}

/// What makes a cached digest good: the file it was made of, as the file system describes it. The time of change (`ctime`) is
/// there because a program can set the time of modification back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    path: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    modified_ns: i128,
    changed_ns: i128,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    stamp: Stamp,
    sha256: String,
}

impl Fingerprints {
    /// Fingerprints that keep the digests of files in the folder `cache`. [`Fingerprints::default`] keeps nothing.
    #[must_use]
    pub fn new(cache: &Path) -> Self {
        Self { cache: Some(cache.into()) }
    }

    /// The fingerprint of the Hugging Face folder or `.gguf` file at `path`; `name` is the path as the specification writes it.
    /// `watch(done, total)` hears how many bytes are hashed of those that have to be; nothing is said of a model in the cache.
    ///
    /// # Errors
    /// When a file is missing, cannot be read, or changes meanwhile; or what `watch` returns.
    pub fn of(
        &self,
        name: &str,
        path: &Path,
        mut watch: impl FnMut(u64, u64) -> Result<(), Error>,
    ) -> Result<ModelInput, Error> {
        let (paths, template) = if path.is_dir() {
            let companions = COMPANIONS.iter().map(|name| path.join(name)).filter(|p| p.is_file());
            let paths: Vec<PathBuf> = companions.chain(weight_files(path)?).collect();
            (paths, Template::read(path, &SpecialTokens::default())?.map(|t| t.source().to_owned()))
        } else if path.exists() {
            (vec![path.to_owned()], Gguf::open(path)?.template().map(str::to_owned))
        } else {
            return Err(Error::file(path, "does not exist"));
        };
        let digests = self.digests(&paths, &mut watch)?;
        let named = |(path, digest): (&PathBuf, FileDigest)| {
            (path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(), digest)
        };
        Ok(ModelInput {
            path: name.into(),
            files: paths.iter().zip(digests).map(named).collect(),
            template: template.map(|source| hex::encode(Sha256::digest(source.as_bytes()))),
        })
    }

    /// The digests of files in their order: from the cache, or hashed by as many threads as there are cores.
    fn digests(
        &self,
        paths: &[PathBuf],
        watch: &mut dyn FnMut(u64, u64) -> Result<(), Error>,
    ) -> Result<Vec<FileDigest>, Error> {
        let mut found = Vec::with_capacity(paths.len());
        for path in paths {
            found.push(self.cached(&stamp(path)?));
        }
        let open: Vec<usize> = (0..paths.len()).filter(|i| found[*i].is_none()).collect();
        let total: u64 = open.iter().filter_map(|i| Some(std::fs::metadata(&paths[*i]).ok()?.len())).sum();
        let (next, done, ended) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicBool::new(false));
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(open.len());
        let hashed = std::thread::scope(|scope| {
            let (send, receive) = std::sync::mpsc::channel();
            for _ in 0..threads {
                let (send, open, next, done, ended) = (send.clone(), &open, &next, &done, &ended);
                scope.spawn(move || {
                    while let Some(i) = open.get(next.fetch_add(1, Ordering::Relaxed)) {
                        // Nobody listens any more when the watcher has refused.
                        let _ = send.send((*i, self.hash(&paths[*i], done, ended)));
                    }
                });
            }
            drop(send);
            let mut hashed = Vec::new();
            let mut told = Ok(());
            loop {
                match receive.recv_timeout(TELL_EVERY) {
                    Ok(one) => hashed.push(one),
                    Err(std::sync::mpsc::RecvTimeoutError::Timeout) if told.is_ok() => {
                        told = watch(done.load(Ordering::Relaxed), total);
                        ended.store(told.is_err(), Ordering::Relaxed);
                    }
                    Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
                    Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                }
            }
            told.map(|()| hashed)
        })?;
        for (i, digest) in hashed {
            found[i] = Some(digest?);
        }
        // Every file was in the cache or has been hashed.
        Ok(found.into_iter().flatten().collect())
    }

    /// Hashes a file, and keeps the digest where it is certain to stay right.
    fn hash(&self, path: &Path, done: &AtomicU64, ended: &AtomicBool) -> Result<FileDigest, Error> {
        let fail = |e: std::io::Error| Error::file(path, format!("cannot be read: {e}"));
        let before = stamp(path)?;
        let mut file = File::open(path).map_err(fail)?;
        let mut hash = Sha256::new();
        let mut piece = vec![0; PIECE.min(before.size as usize + 1)];
        loop {
            let n = file.read(&mut piece).map_err(fail)?;
            if n == 0 {
                break;
            }
            if ended.load(Ordering::Relaxed) {
                return Err(Error::file(path, "was not read to its end"));
            }
            hash.update(&piece[..n]);
            done.fetch_add(n as u64, Ordering::Relaxed);
        }
        if stamp(path)? != before {
            return Err(Error::file(path, "changed while it was being read: try again when nothing writes to it"));
        }
        let digest = FileDigest { size: before.size, sha256: hex::encode(hash.finalize()) };
        self.keep(&Entry { stamp: before, sha256: digest.sha256.clone() });
        Ok(digest)
    }

    fn cached(&self, stamp: &Stamp) -> Option<FileDigest> {
        let text = std::fs::read(self.place(stamp)?).ok()?;
        let entry: Entry = serde_json::from_slice(&text).ok()?;
        (entry.stamp == *stamp).then_some(FileDigest { size: stamp.size, sha256: entry.sha256 })
    }

    /// Keeps a digest. A cache that cannot be written costs time next time, nothing else.
    fn keep(&self, entry: &Entry) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i128);
        let age = now - entry.stamp.changed_ns.max(entry.stamp.modified_ns);
        let Some(place) = self.place(&entry.stamp).filter(|_| age >= SETTLED.as_nanos() as i128) else { return };
        let Some(dir) = place.parent() else { return };
        let Ok(text) = serde_json::to_vec(entry) else { return };
        let _ = std::fs::create_dir_all(dir).and_then(|()| tempfile_in(dir)).and_then(|(part, mut file)| {
            file.write_all(&text)?;
            std::fs::rename(part, &place)
        });
    }

    /// One file of the cache for every path.
    fn place(&self, stamp: &Stamp) -> Option<PathBuf> {
        let name = hex::encode(Sha256::digest(stamp.path.as_os_str().as_encoded_bytes()));
        Some(self.cache.as_ref()?.join(format!("{name}.json")))
    }
}

/// A private file that nobody else writes to.
fn tempfile_in(dir: &Path) -> std::io::Result<(PathBuf, File)> {
    use std::os::unix::fs::OpenOptionsExt;
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    let part = dir.join(format!(".tmp-{}-{nanos}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    let file = File::options().write(true).create_new(true).mode(0o600).open(&part)?;
    Ok((part, file))
}

fn stamp(path: &Path) -> Result<Stamp, Error> {
    let fail = |e: std::io::Error| Error::file(path, format!("cannot be read: {e}"));
    // The real path: a link that points elsewhere is another file.
    let real = path.canonicalize().map_err(fail)?;
    let meta: Metadata = std::fs::metadata(&real).map_err(fail)?;
    let ns = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    Ok(Stamp {
        path: real,
        device: meta.dev(),
        inode: meta.ino(),
        size: meta.len(),
        modified_ns: ns(meta.mtime(), meta.mtime_nsec()),
        changed_ns: ns(meta.ctime(), meta.ctime_nsec()),
    })
}

/// The fingerprint as one hash: what depends on the whole model is kept under it.
#[must_use]
pub fn identity(model: &ModelInput) -> String {
    let mut hash = Sha256::new();
    for (name, digest) in &model.files {
        hash.update(format!("{name} {} {}\n", digest.size, digest.sha256));
    }
    hash.update(model.template.as_deref().unwrap_or_default());
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A copy of the tiny Llama whose weights have `more` bytes at their end that belong to no tensor.
    fn model() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m");
        std::fs::create_dir(&path).unwrap();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama");
        for file in
            ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]
        {
            std::fs::copy(from.join(file), path.join(file)).unwrap();
        }
        (dir, path)
    }

    fn flip(path: &Path, at: usize) {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[at] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }

    /// Makes a file look as if nobody had touched it for an hour.
    fn age(path: &Path) {
        let then = SystemTime::now() - Duration::from_hours(1);
        File::options().append(true).open(path).unwrap().set_modified(then).unwrap();
    }

    #[test]
    fn every_byte_of_every_file_counts() {
        let (_dir, path) = model();
        let now = || Fingerprints::default().of("m", &path, |_, _| Ok(())).unwrap();
        let first = now();
        assert_eq!((first.files.len(), first.template.is_some()), (5, true));
        assert_eq!(now(), first);
        let len = std::fs::metadata(path.join("model.safetensors")).unwrap().len() as usize;
        for (file, at) in
            [("model.safetensors", len / 2 + 777), ("model.safetensors", len - 1), ("tokenizer.json", 4000)]
        {
            flip(&path.join(file), at);
            let said = first.differences(&now());
            assert_eq!(said.iter().map(|d| d.file.as_str()).collect::<Vec<_>>(), [file]);
            assert_ne!(identity(&now()), identity(&first));
            flip(&path.join(file), at);
        }
        assert_eq!(now(), first);
    }

    #[test]
    fn a_file_is_hashed_once_and_again_when_it_was_touched() {
        let (dir, path) = model();
        let kept = Fingerprints::new(&dir.path().join("cache"));
        let weights = path.join("model.safetensors");
        let first = kept.of("m", &path, |_, _| Ok(())).unwrap();
        // Files made a moment ago may change again unseen.
        assert!(!dir.path().join("cache").exists());
        std::thread::sleep(SETTLED + Duration::from_millis(100));
        assert_eq!(kept.of("m", &path, |_, _| Ok(())).unwrap(), first);
        let entries: Vec<PathBuf> =
            std::fs::read_dir(dir.path().join("cache")).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(entries.len(), first.files.len());
        // What the cache says is taken as it is: nothing is read.
        let place = kept.place(&stamp(&weights).unwrap()).unwrap();
        let mut entry: Entry = serde_json::from_slice(&std::fs::read(&place).unwrap()).unwrap();
        entry.sha256 = "from the cache".into();
        std::fs::write(&place, serde_json::to_vec(&entry).unwrap()).unwrap();
        assert_eq!(kept.of("m", &path, |_, _| Ok(())).unwrap().files["model.safetensors"].sha256, "from the cache");
        // A change with the time of modification set back is still a change.
        let then = std::fs::metadata(&weights).unwrap().modified().unwrap();
        flip(&weights, 50_000);
        File::options().append(true).open(&weights).unwrap().set_modified(then).unwrap();
        let now = kept.of("m", &path, |_, _| Ok(())).unwrap();
        assert_eq!(first.differences(&now).len(), 1);
        assert_ne!(now.files["model.safetensors"].sha256, "from the cache");
        age(&weights);
        // An entry that does not read is no entry.
        std::fs::write(&place, "{").unwrap();
        assert_eq!(kept.of("m", &path, |_, _| Ok(())).unwrap(), now);
    }

    #[test]
    fn a_watcher_ends_the_hashing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("big");
        // Sparse: a tebibyte that nobody could hash while this test runs.
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let refuse = |done: u64, total: u64| {
            assert!(done < total && total == 1 << 40);
            Err(Error::Sink("told to end".into()))
        };
        let said = Fingerprints::default().digests(&[path], &mut { refuse }).unwrap_err().to_string();
        assert!(said.contains("told to end"), "{said}");
    }
}
