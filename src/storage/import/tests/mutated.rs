//! Damaged files: every fixture, changed in many ways, through every reader. Nothing panics, nothing hangs.

use super::*;
use crate::storage::formats::{imports, recognise};

/// A small generator: the same numbers each time (Steele et al., SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
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
