//! The fingerprint of a model on disk: SHA-256 of every file that affects what it computes or how it tokenises.
//!
//! Owns the list of these files, and a cache of digests, so that gigabytes are hashed once. Refuses a cache entry
//! whose file has another length, inode, or ctime; a digest that may be out of date is not cached.

use super::error::Error;
use super::gguf::Gguf;
use super::threads;

use super::special_tokens::SpecialTokens;
use super::template::{TOOL_USE_FILE, Template};
use super::weights::files as weight_files;
use crate::foreign;
use crate::protocol::{FileDigest, ModelInput};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{File, Metadata};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Files besides the weights that affect a model; those present count.
const COMPANIONS: [&str; 9] = [
    "config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    TOOL_USE_FILE,
];
/// Bytes read at a time.
const PIECE: usize = 4 << 20;
/// Interval of progress reports.
const REPORT_EVERY: Duration = Duration::from_millis(200);
/// A file changed more recently may change again within one tick of the file system's clock: its digest is not cached.
const SETTLED: Duration = Duration::from_secs(2);

/// Computes fingerprints, with a cache of file digests.
#[derive(Debug, Clone, Default)]
pub struct Fingerprints {
    cache: Option<PathBuf>,
}

/// Validates a cached digest: the file's metadata. It includes ctime because a program can set mtime back.
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
    /// Caches digests of files in the folder `cache`. [`Fingerprints::default`] caches nothing.
    #[must_use]
    pub fn new(cache: &Path) -> Self {
        Self { cache: Some(cache.into()) }
    }

    /// The fingerprint of the Hugging Face folder or `.gguf` file at `path`; `name` is the path in the specification.
    /// `watch(done, total)` receives the bytes hashed and to hash; it is not called if all digests are cached.
    ///
    /// # Errors
    /// When a file is missing, unreadable, or changes meanwhile; or the error of `watch`.
    pub fn of(
        &self,
        name: &str,
        path: &Path,
        mut watch: impl FnMut(u64, u64) -> Result<(), Error>,
    ) -> Result<ModelInput, Error> {
        let (paths, template) = if path.is_dir() {
            let companions = COMPANIONS.iter().map(|name| path.join(name)).filter(|p| p.is_file());
            // It is read only where there is no tokenizer.json.
            let pieces =
                Some(path.join("tokenizer.model")).filter(|p| p.is_file() && !path.join("tokenizer.json").is_file());
            let paths: Vec<PathBuf> = companions.chain(pieces).chain(weight_files(path)?).collect();
            (paths, Template::read(path, &SpecialTokens::default())?.map(|t| t.sources()))
        } else if path.exists() {
            (vec![path.to_owned()], Gguf::open(path)?.templates())
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

    /// The digests of files in order: from the cache, or hashed by one thread per core.
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
            for n in 0..threads {
                let (send, open, next, done, ended) = (send.clone(), &open, &next, &done, &ended);
                let hash = move || {
                    while let Some(i) = open.get(next.fetch_add(1, Ordering::Relaxed)) {
                        // The receiver is gone if the watcher returned an error.
                        let _ = send.send((*i, self.hash(&paths[*i], done, ended)));
                    }
                };
                let started = threads::room(threads::STACK);
                match started.and_then(|()| std::thread::Builder::new().spawn_scoped(scope, hash).map(drop)) {
                    Ok(()) => {}
                    // The first one can do it all.
                    Err(_) if n > 0 => break,
                    Err(e) => return Err(threads::refused("the fingerprint", threads::STACK, &e)),
                }
            }
            drop(send);
            let mut hashed = Vec::new();
            let mut watched = Ok(());
            loop {
                match receive.recv_timeout(REPORT_EVERY) {
                    Ok(one) => hashed.push(one),
                    Err(std::sync::mpsc::RecvTimeoutError::Timeout) if watched.is_ok() => {
                        watched = watch(done.load(Ordering::Relaxed), total);
                        ended.store(watched.is_err(), Ordering::Relaxed);
                    }
                    Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
                    Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                }
            }
            watched.map(|()| hashed)
        })?;
        for (i, digest) in hashed {
            found[i] = Some(digest?);
        }
        // Every file was in the cache or has been hashed.
        Ok(found.into_iter().flatten().collect())
    }

    /// Hashes a file, and caches the digest if it cannot be stale.
    fn hash(&self, path: &Path, done: &AtomicU64, ended: &AtomicBool) -> Result<FileDigest, Error> {
        let fail = |e: std::io::Error| Error::read(path, &e);
        let before = stamp(path)?;
        let mut file = foreign::open(path).map_err(fail)?;
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
        let text = foreign::read(&self.cache_file(stamp)?, foreign::CONFIG).ok()?;
        let entry: Entry = serde_json::from_slice(&text).ok()?;
        (entry.stamp == *stamp).then_some(FileDigest { size: stamp.size, sha256: entry.sha256 })
    }

    /// Caches a digest. A cache that cannot be written only costs time on the next call.
    fn keep(&self, entry: &Entry) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i128);
        let age = now - entry.stamp.changed_ns.max(entry.stamp.modified_ns);
        let Some(file_path) = self.cache_file(&entry.stamp).filter(|_| age >= SETTLED.as_nanos() as i128) else {
            return;
        };
        let Some(dir) = file_path.parent() else { return };
        let Ok(text) = serde_json::to_vec(entry) else { return };
        // Private whatever the umask: a path says what a person works on.
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        let _ = made.and_then(|()| tempfile_in(dir)).and_then(|(part, mut file)| {
            file.write_all(&text)?;
            std::fs::rename(part, &file_path)
        });
    }

    /// The cache file of a path.
    fn cache_file(&self, stamp: &Stamp) -> Option<PathBuf> {
        let name = hex::encode(Sha256::digest(stamp.path.as_os_str().as_encoded_bytes()));
        Some(self.cache.as_ref()?.join(format!("{name}.json")))
    }
}

/// A private temporary file.
fn tempfile_in(dir: &Path) -> std::io::Result<(PathBuf, File)> {
    use std::os::unix::fs::OpenOptionsExt;
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    let part = dir.join(format!(".tmp-{}-{nanos}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    let file = File::options().write(true).create_new(true).mode(0o600).open(&part)?;
    Ok((part, file))
}

fn stamp(path: &Path) -> Result<Stamp, Error> {
    let fail = |e: std::io::Error| Error::read(path, &e);
    // The real path: a link that was redirected is another file.
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

/// The fingerprint as one hash: the key for what depends on the whole model.
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
            let differences = first.differences(&now());
            assert_eq!(differences.iter().map(|d| d.file.as_str()).collect::<Vec<_>>(), [file]);
            assert_ne!(identity(&now()), identity(&first));
            flip(&path.join(file), at);
        }
        assert_eq!(now(), first);
    }

    #[test]
    fn a_file_is_hashed_once_and_again_after_a_change() {
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
        // A valid cache entry is used without reading the file.
        let place = kept.cache_file(&stamp(&weights).unwrap()).unwrap();
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
        // An unreadable entry is ignored.
        std::fs::write(&place, "{").unwrap();
        assert_eq!(kept.of("m", &path, |_, _| Ok(())).unwrap(), now);
    }

    #[test]
    fn an_error_of_the_watcher_stops_the_hashing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("big");
        // Sparse: a tebibyte that nobody could hash while this test runs.
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let refuse = |done: u64, total: u64| {
            assert!(done < total && total == 1 << 40);
            Err(Error::Sink("told to end".into()))
        };
        let message = Fingerprints::default().digests(&[path], &mut { refuse }).unwrap_err().to_string();
        assert!(message.contains("told to end"), "{message}");
    }
}
