//! The machine that a benchmark ran on.

use super::super::super::system;
use serde_json::{Value, json};

/// Processor, threads, memory, instruction sets, system and build.
pub fn facts() -> Value {
    json!({
        "cpu": system::processor(),
        "threads": system::threads(),
        "memory_bytes": system::memory().0,
        "features": features(),
        "system": format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        "build": build(),
        "version": env!("CARGO_PKG_VERSION"),
    })
}

/// The same as one line.
pub fn words() -> String {
    let gib = system::memory().0 as f64 / f64::from(1 << 30);
    let threads = system::threads();
    format!(
        "{} · {threads} threads · {gib:.0} GiB · {} · {} build · tiebreak {}",
        system::processor(),
        features().join(" "),
        build(),
        env!("CARGO_PKG_VERSION")
    )
}

/// `debug` or `release`: only the kernels are optimised in both.
fn build() -> &'static str {
    if cfg!(debug_assertions) { "debug" } else { "release" }
}

/// The instruction sets that select the matrix product and the kernels.
fn features() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        [
            ("avx2", std::arch::is_x86_feature_detected!("avx2")),
            ("fma", std::arch::is_x86_feature_detected!("fma")),
            ("f16c", std::arch::is_x86_feature_detected!("f16c")),
            ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
            ("avx512vnni", std::arch::is_x86_feature_detected!("avx512vnni")),
            ("avx512bf16", std::arch::is_x86_feature_detected!("avx512bf16")),
        ]
        .into_iter()
        .filter_map(|(name, has)| has.then_some(name))
        .collect()
    }
    #[cfg(target_arch = "aarch64")]
    {
        vec!["neon"]
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        Vec::new()
    }
}
