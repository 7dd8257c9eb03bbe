//! Fuzzing without libFuzzer: the entry functions of `tests/fuzz` over valid inputs, over every input that once failed, and
//! over random changes of both.
//!
//! `TIEBREAK_FUZZ_SECONDS=600 cargo test --test it fuzz::long -- --ignored --nocapture` goes on for so long;
//! `TIEBREAK_FUZZ_ENTRY` names one reader. An input that fails is written to the folder `tiebreak-fuzz` of the temporary
//! folder; with its cure it belongs into `tests/fuzz/failed/READER`.

use crate::chance::{Chance, change};
use crate::entries::{ENTRIES, Entry};
use crate::support::count;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The longest that one input may take in a debug build.
const LONGEST: Duration = Duration::from_secs(20);
/// The most memory that the process may hold, in MiB.
const LARGEST_MIB: u64 = 3072;

fn held_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// How long this thread has computed: a busy machine lets it wait. Without Linux's count, the time that has passed.
fn computed() -> Duration {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let count = fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = count.and_then(|text| text.split_whitespace().next()?.parse().ok());
    nanoseconds.map_or_else(|| BEGAN.get_or_init(Instant::now).elapsed(), Duration::from_nanos)
}

/// Inputs that failed before their cure.
fn failed(entry: &Entry) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/failed").join(entry.name);
    let mut found: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().map(|file| file.path()).collect();
    found.sort();
    found.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// When the running input began, in milliseconds of the wall clock; 0 while none runs.
static RUNNING_SINCE: AtomicU64 = AtomicU64::new(0);

/// A reader that hangs ends the process: its input lies in the folder.
fn watch() {
    static WATCHER: std::sync::Once = std::sync::Once::new();
    WATCHER.call_once(|| {
        std::thread::spawn(|| {
            loop {
                std::thread::sleep(Duration::from_millis(500));
                let since = RUNNING_SINCE.load(Ordering::SeqCst);
                if since > 0 && tiebreak::storage::wall_ms().saturating_sub(since) > 6 * LONGEST.as_millis() as u64 {
                    std::process::abort();
                }
            }
        });
    });
}

/// Runs one input; the input's file and the reason where it fails.
fn tried(entry: &Entry, bytes: &[u8]) -> Result<Duration, String> {
    watch();
    let kept = keep(entry, bytes, "running");
    let began = computed();
    RUNNING_SINCE.store(tiebreak::storage::wall_ms(), Ordering::SeqCst);
    let outcome = std::panic::catch_unwind(|| (entry.run)(bytes));
    RUNNING_SINCE.store(0, Ordering::SeqCst);
    let took = computed().saturating_sub(began);
    fs::remove_file(&kept).unwrap();
    match outcome {
        Ok(()) if took <= LONGEST => Ok(took),
        Ok(()) => Err(format!("{} took {took:?}: {}", entry.name, keep(entry, bytes, "slow").display())),
        Err(_) => Err(format!("{} panicked: {}", entry.name, keep(entry, bytes, "panic").display())),
    }
}

fn keep(entry: &Entry, bytes: &[u8], why: &str) -> PathBuf {
    let folder = std::env::temp_dir().join("tiebreak-fuzz").join(std::process::id().to_string());
    fs::create_dir_all(&folder).unwrap();
    let number = if why == "running" { 0 } else { tiebreak::storage::wall_ms() };
    let path = folder.join(format!("{}-{why}-{number}", entry.name));
    fs::write(&path, bytes).unwrap();
    path
}

/// What running one reader for so long found: one line, or the inputs that failed.
fn run(entry: &Entry, seconds: f64, least: usize, seed: u64) -> Result<String, Vec<String>> {
    let mut chance = Chance(seed);
    let mut seeds = (entry.seeds)();
    assert!(!seeds.is_empty(), "{} has no input to begin with", entry.name);
    let mut failures = Vec::new();
    for bytes in &seeds {
        failures.extend(tried(entry, bytes).err());
    }
    for (path, bytes) in failed(entry) {
        failures.extend(tried(entry, &bytes).err().map(|why| format!("{}: {why}", path.display())));
        seeds.push(bytes);
    }
    let (began, mut inputs, mut slowest) = (Instant::now(), seeds.len(), Duration::ZERO);
    while failures.len() < 8 && (inputs < least || began.elapsed().as_secs_f64() < seconds) {
        let mut bytes = seeds[chance.below(seeds.len())].clone();
        let other = chance.below(seeds.len());
        change(&mut bytes, &seeds[other], &mut chance);
        inputs += 1;
        match tried(entry, &bytes) {
            Ok(took) => slowest = slowest.max(took),
            Err(why) => failures.push(why),
        }
        if inputs.is_multiple_of(64) && held_mib() > LARGEST_MIB {
            failures.push(format!("{}: {} MiB held after {inputs} inputs", entry.name, held_mib()));
        }
    }
    let line = format!("{}: {inputs} inputs, slowest {} ms, seed {seed}", entry.name, slowest.as_millis());
    if failures.is_empty() { Ok(line) } else { Err(failures) }
}

#[test]
fn no_reader_panics_hangs_or_grows_on_changed_files() {
    let failures: Vec<_> = ENTRIES.iter().filter_map(|entry| run(entry, 0.0, 60, 11).err()).flatten().collect();
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
#[ignore = "runs as long as TIEBREAK_FUZZ_SECONDS says, for each reader"]
fn long_fuzz() {
    let only = std::env::var("TIEBREAK_FUZZ_ENTRY").ok();
    let (seconds, seed) = (count("TIEBREAK_FUZZ_SECONDS", 60), count("TIEBREAK_FUZZ_SEED", 1) as u64);
    let mut failures = Vec::new();
    for entry in ENTRIES.iter().filter(|entry| only.as_deref().is_none_or(|name| name == entry.name)) {
        match run(entry, seconds as f64, 0, seed) {
            Ok(line) => println!("{line}"),
            Err(more) => failures.extend(more),
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
