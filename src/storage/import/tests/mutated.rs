//! Damaged files: every fixture, changed in many ways, through every reader. Nothing panics, nothing hangs, nothing grows.
//!
//! The quick test runs always. `TIEBREAK_FUZZ_SECONDS=3600 cargo test --lib fuzz -- --ignored --nocapture` goes on for an hour with
//! wilder changes; an input that fails is kept in the temporary folder `tiebreak-fuzz`.

use super::*;
use crate::storage::formats::{imports, recognise};

/// A small generator: the same numbers each time (Steele et al., SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        // The finaliser adds the step itself.
        let number = crate::domain::mix64(self.0);
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        number
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// Bytes that matter to a parser.
const TOKENS: [&[u8]; 16] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b",",
    b":",
    b"null",
    b"\\",
    b"\n",
    b"\xff",
    b"\0",
    b"-1e999",
    b"[{}]",
    b"\xef\xbb\xbf",
    b"true",
];

fn mutate(bytes: &mut Vec<u8>, numbers: &mut Numbers) {
    for _ in 0..=numbers.below(4) {
        let (a, b) = (numbers.below(bytes.len()), numbers.below(bytes.len()));
        let (from, to) = (a.min(b), a.max(b));
        match numbers.below(6) {
            0 if !bytes.is_empty() => bytes[a] ^= 1 << numbers.below(8),
            1 => bytes.truncate(a),
            2 => drop(bytes.drain(from..to.min(from + 64))),
            3 => {
                let copy = bytes[from..to.min(from + 256)].to_vec();
                bytes.splice(a..a, copy);
            }
            _ => {
                let token = TOKENS[numbers.below(TOKENS.len())];
                bytes.splice(a..a, token.iter().copied());
            }
        }
    }
}

#[test]
fn damaged_files_are_refused_or_counted_and_never_a_panic() {
    let seeds = seeds();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows");
    let formats: Vec<_> = imports().collect();
    let mut numbers = Numbers(2026);
    let (mut read, mut failed) = (0, 0);
    for round in 0..4000 {
        let mut bytes = seeds[round % seeds.len()].clone();
        mutate(&mut bytes, &mut numbers);
        std::fs::write(&path, &bytes).unwrap();
        let own = recognise(&path).ok();
        let others = (0..4).map(|_| formats[numbers.below(formats.len())]);
        for format in own.into_iter().chain(others) {
            match super::super::read(&path, format, None) {
                Ok(imported) => {
                    read += imported.rows.len();
                    let _ = (imported.left_out(), imported.notes());
                }
                Err(error) => {
                    failed += 1;
                    assert!(!error.to_string().contains('\u{1b}'));
                }
            }
        }
    }
    assert!(read > 1000 && failed > 1000, "{read} rows, {failed} refusals: the mutations are too wild or too tame");
}

/// A file of every kind.
fn seeds() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/formats");
    let mut seeds: Vec<Vec<u8>> =
        std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
    seeds.sort();
    seeds.push(b"prompt,chosen,rejected\na,\"b, c\",d\ne,f,g\n".to_vec());
    let array: Vec<serde_json::Value> =
        String::from_utf8(seeds[0].clone()).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    seeds.push(serde_json::to_vec_pretty(&array).unwrap());
    for packed in [seeds[0].clone(), seeds[1].clone()] {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gzip, &packed).unwrap();
        seeds.push(gzip.finish().unwrap());
        seeds.push(zstd::encode_all(packed.as_slice(), 1).unwrap());
    }
    let parquet = crate::storage::container::written_parquet(
        &["prompt", "chosen", "rejected"],
        &[&["a", "b", "c"], &["d", "e", "f"]],
    );
    seeds.push(parquet);
    seeds
}

/// Changes that only a long run makes: nesting, huge numbers, parts of other files, invalid UTF-8, another container.
fn wilder(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], numbers: &mut Numbers) {
    let at = numbers.below(bytes.len() + 1);
    match numbers.below(10) {
        0 => {
            let (open, close) = [("[", "]"), ("{\"a\":", "}")][numbers.below(2)];
            let depth = [10, 127, 128, 1000, 20_000][numbers.below(5)];
            let nested = format!(
                "{}1{}",
                open.repeat(depth),
                if numbers.below(2) == 0 { close.repeat(depth) } else { String::new() }
            );
            bytes.splice(at..at, nested.into_bytes());
        }
        1 => {
            let number =
                ["1e308", "-1e400", "99999999999999999999999999", "18446744073709551616", "NaN", "-0", "1e-400"];
            bytes.splice(at..at, number[numbers.below(number.len())].bytes());
        }
        2 => {
            let other = &seeds[numbers.below(seeds.len())];
            let (a, b) = (numbers.below(other.len()), numbers.below(other.len()));
            bytes.splice(at..at, other[a.min(b)..a.max(b)].iter().copied());
        }
        3 => {
            let bad: [&[u8]; 7] = [
                b"\xc3\x28",
                b"\xed\xa0\x80",
                b"\xf4\x90\x80\x80",
                b"\\ud800",
                b"\\u0000",
                b"\xe2\x80\xa8",
                b"\x1b[31m",
            ];
            bytes.splice(at..at, bad[numbers.below(bad.len())].iter().copied());
        }
        4 => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut gzip, bytes).unwrap();
            *bytes = gzip.finish().unwrap();
        }
        5 => *bytes = zstd::encode_all(bytes.as_slice(), 1).unwrap(),
        6 => {
            let lines: Vec<&[u8]> = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()).collect();
            *bytes = [b"[".as_slice(), &lines.join(b",".as_slice()), b"]"].concat();
        }
        7 => {
            let many =
                [b" ".as_slice(), b"\n", b"a", b"\"", b"\\", b","][numbers.below(6)].repeat(1 << numbers.below(18));
            bytes.splice(at..at, many);
        }
        8 => {
            let magic: [&[u8]; 5] = [b"PAR1", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"[", b"\xef\xbb\xbf"];
            bytes.splice(0..0, magic[numbers.below(magic.len())].iter().copied());
        }
        _ => mutate(bytes, numbers),
    }
    bytes.truncate(4 << 20);
}

/// The longest that one input may take with one reader.
const LONGEST: std::time::Duration = std::time::Duration::from_secs(20);

/// The most memory that the process may hold, in MiB.
const LARGEST_MIB: u64 = 3072;

fn held_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}

#[test]
#[ignore = "runs as long as TIEBREAK_FUZZ_SECONDS says"]
fn fuzz_every_reader() {
    let number = |name: &str, or| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(or);
    let (seconds, seed) = (number("TIEBREAK_FUZZ_SECONDS", 60), number("TIEBREAK_FUZZ_SEED", 1));
    let kept = std::env::temp_dir().join("tiebreak-fuzz").join(std::process::id().to_string());
    std::fs::create_dir_all(&kept).unwrap();
    let path = kept.join("rows");
    let (seeds, formats) = (seeds(), imports().collect::<Vec<_>>());
    let mut numbers = Numbers(seed);
    let began = std::time::Instant::now();
    let (mut inputs, mut read, mut refused, mut slowest, mut most) = (0u64, 0usize, 0u64, 0u128, 0u64);
    let mut failures = Vec::new();
    while began.elapsed().as_secs() < seconds {
        let mut bytes = seeds[numbers.below(seeds.len())].clone();
        for _ in 0..=numbers.below(3) {
            wilder(&mut bytes, &seeds, &mut numbers);
        }
        std::fs::write(&path, &bytes).unwrap();
        let others: Vec<_> = (0..3).map(|_| formats[numbers.below(formats.len())]).collect();
        let start = std::time::Instant::now();
        // A reader that hangs ends the process: its input is kept.
        let (done, watched) = std::sync::mpsc::channel::<()>();
        let watch = std::thread::spawn(move || {
            if watched.recv_timeout(4 * LONGEST).is_err_and(|e| e == std::sync::mpsc::RecvTimeoutError::Timeout) {
                std::process::abort();
            }
        });
        let tried = std::panic::catch_unwind(|| {
            let own = recognise(&path).ok();
            let (mut rows, mut none) = (0, 0);
            for format in own.into_iter().chain(others.iter().copied()) {
                match super::super::read(&path, format, None) {
                    Ok(imported) => {
                        rows += imported.rows.len();
                        let said = imported.left_out().into_iter().chain(imported.notes()).collect::<String>();
                        assert!(!said.contains('\u{1b}'), "an escape in {said:?}");
                    }
                    Err(error) => {
                        none += 1;
                        assert!(!error.to_string().contains('\u{1b}'), "an escape in {error:?}");
                    }
                }
            }
            (rows, none)
        });
        drop(done);
        watch.join().unwrap();
        let took = start.elapsed();
        inputs += 1;
        slowest = slowest.max(took.as_millis());
        match tried {
            Ok((rows, none)) if took <= LONGEST => (read, refused) = (read + rows, refused + none),
            _ => {
                let saved = kept.join(format!("failed-{inputs}"));
                std::fs::write(&saved, &bytes).unwrap();
                failures.push(saved);
                assert!(failures.len() < 50, "{failures:?}");
            }
        }
        if inputs.is_multiple_of(256) {
            most = most.max(held_mib());
            assert!(most < LARGEST_MIB, "{most} MiB held after {inputs} inputs");
        }
    }
    println!("{inputs} inputs, {read} rows read, {refused} refusals, slowest {slowest} ms, {most} MiB, seed {seed}");
    assert!(failures.is_empty(), "{failures:?}");
    std::fs::remove_dir_all(&kept).unwrap();
}
