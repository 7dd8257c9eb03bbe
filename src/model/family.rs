//! The model families, one file each: config fields and class defaults, the layer, tensor names, GGUF.
//!
//! Owns their table, which the build script generates from the folder, and look-up by the name in a file. To add a family,
//! add its file: every backend, the packed decoder, the loader, merging and the memory formula read its `LayerSpec`.

use super::layer::TensorName;
use std::collections::HashSet;
use std::fmt::Write as _;

pub use super::family_spec::{Defaults, ExpertNames, Family, GgufExperts, GgufFamily, PerLayerNames, TensorNames};

// Declares the modules, and `FAMILIES: &[&Family]`.
include!(concat!(env!("OUT_DIR"), "/family.rs"));

/// The family of a `model_type` in config.json.
#[must_use]
pub fn by_model_type(name: &str) -> Option<&'static Family> {
    FAMILIES.iter().copied().find(|family| family.model_types.contains(&name))
}

/// The family of a `general.architecture` in GGUF metadata; where several share one, the first with or without experts.
#[must_use]
pub fn by_gguf(architecture: &str, experts: bool) -> Option<&'static Family> {
    let named = |family: &&Family| !architecture.is_empty() && family.gguf.architecture == architecture;
    let all = || FAMILIES.iter().copied().filter(named);
    all().find(|family| family.gguf.experts.is_some() == experts).or_else(|| all().next())
}

/// The architectures that config.json may name, for messages.
#[must_use]
pub fn known() -> String {
    listed(FAMILIES.iter().flat_map(|family| family.model_types).copied().collect())
}

/// The architectures that GGUF metadata may name, for messages.
#[must_use]
pub fn known_gguf() -> String {
    let names = FAMILIES.iter().map(|family| family.gguf.architecture).filter(|name| !name.is_empty());
    let mut names: Vec<&str> = names.collect();
    names.dedup();
    listed(names)
}

/// The README's table of families.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::from("| `model_type` | models | modules that get adapters | GGUF |\n|---|---|---|---|\n");
    for family in FAMILIES {
        let types: Vec<String> = family.model_types.iter().map(|name| format!("`{name}`")).collect();
        let last = |name: &TensorName| name.hf.rsplit('.').next().unwrap_or(name.hf);
        let mut modules: Vec<&str> = match &family.names.fused {
            Some([qkv, gate_up]) => [qkv, &family.names.linears[3], gate_up, &family.names.linears[6]].map(last).into(),
            None => family.names.linears.iter().map(last).collect(),
        };
        if (family.layer)().experts.is_some() {
            modules.truncate(4);
        }
        // Each name once: as a target it means every module of that name.
        let mut seen = HashSet::new();
        modules.retain(|name| seen.insert(*name));
        let gguf = if family.gguf.architecture.is_empty() { "" } else { "yes" };
        let _ = writeln!(out, "| {} | {} | `{}` | {gguf} |", types.join(", "), family.models, modules.join("`, `"));
    }
    out
}

fn listed(mut names: Vec<&str>) -> String {
    let last = names.pop().unwrap_or_default();
    if names.is_empty() { last.to_owned() } else { format!("{} and {last}", names.join(", ")) }
}
