#!/usr/bin/env bash
# all.sh SECONDS [READER…]: builds the readers with coverage and runs each for so long under libFuzzer.
# What it found lies in target/fuzz/found: failing inputs by reader, and a log with the number of inputs.
set -eu
cd "$(dirname "$0")/../.."
seconds=${1:?usage: all.sh SECONDS [READER...]}
shift
[ -f tests/fuzz/Cargo.lock ] || cp Cargo.lock tests/fuzz/Cargo.lock
# Coverage needs a flag that the stable compiler keeps behind this variable.
export RUSTC_BOOTSTRAP=1
cargo fuzz build --fuzz-dir tests/fuzz --target-dir target/fuzz -s none -O --debug-assertions reader
reader=$(ls target/fuzz/*/release/reader)
readers=${*:-$(sed -n 's/.*Entry { name: "\([a-z_]*\)".*/\1/p' tests/fuzz/entries.rs)}
for name in $readers; do
    corpus=target/fuzz/corpus/$name found=target/fuzz/found/$name
    mkdir -p "$corpus" "$found"
    # Go on after a failing input: libFuzzer ends at the first.
    TIEBREAK_FUZZ_ENTRY=$name TIEBREAK_FUZZ_SEEDS=$corpus "$reader" "$corpus" -max_total_time="$seconds" -timeout=20 \
        -rss_limit_mb=2048 -malloc_limit_mb=1024 -max_len=100000 -len_control=0 -print_final_stats=1 \
        -artifact_prefix="$found/" >"$found.log" 2>&1 || echo "$name: FAILED, see $found.log"
    inputs=$(sed -n 's/stat::number_of_executed_units: *//p' "$found.log")
    slowest=$(sed -n 's/stat::slowest_unit_time_sec: *//p' "$found.log")
    peak=$(sed -n 's/stat::peak_rss_mb: *//p' "$found.log")
    echo "$name: ${inputs:-?} inputs, slowest ${slowest:-?} s, peak ${peak:-?} MiB"
done
