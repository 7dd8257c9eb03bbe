//! What is trained: nothing, LoRA adapters, or all weights.

use super::error::Error;
use super::layer::LinearSpec;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The linear modules of a decoder layer that can have an adapter, in the layer's order.
pub const LINEARS: [&str; 7] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/// Modules of families that have them instead of [`LINEARS`], with those that each stands for.
pub const FUSED: [(&str, &[&str]); 9] = [
    ("qkv_proj", &["q_proj", "k_proj", "v_proj"]),
    ("gate_up_proj", &["gate_proj", "up_proj"]),
    ("c_fc", &["gate_proj", "up_proj"]),
    ("c_proj", &["down_proj"]),
    ("c_attn", &["q_proj", "k_proj", "v_proj"]),
    ("query_key_value", &["q_proj", "k_proj", "v_proj"]),
    ("dense", &["o_proj"]),
    ("dense_h_to_4h", &["gate_proj", "up_proj"]),
    ("dense_4h_to_h", &["down_proj"]),
];

/// The modules of [`LINEARS`] that a module stands for; none where it is one of them.
fn parts(module: &LinearSpec) -> &'static [&'static str] {
    // GPT-2 calls two modules `c_proj`.
    if module.name.hf == "attn.c_proj" {
        return &["o_proj"];
    }
    FUSED.iter().find(|(name, _)| *name == module.target()).map_or(&[][..], |(_, parts)| parts)
}

/// LoRA (Hu et al. 2021) as in peft: `y = Wx + s·B(A(dropout x))`, `s = alpha/r`, or `alpha/√r` with `rslora`
/// (Kalajdzievski 2023). With `dora` (Liu et al. 2024) each output has a trained magnitude:
/// `y = m/‖W + s·BA‖ ⊙ (Wx + s·B(A(dropout x)))`, with norms over the rows of W, detached, and m initialised to ‖W‖. With DoRA and dropout,
/// peft drops inputs of W too; here only those of A.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoraSpec {
    /// Rank of the update.
    pub r: usize,
    /// Numerator of the scale.
    pub alpha: f64,
    /// Scale by `alpha/√r` (rank-stabilised).
    pub rslora: bool,
    /// Weight-decomposed (DoRA): a trained magnitude for each output.
    #[serde(default)]
    pub dora: bool,
    /// Dropout probability of A's inputs in training.
    pub dropout: f64,
    /// Which of [`LINEARS`] and their fused forms (`FUSED`) get an adapter.
    pub targets: Vec<String>,
    /// Seed of A's initialisation and of dropout.
    pub seed: u64,
    /// The adapted modules by their full names, of an adapter made elsewhere whose modules differ; empty: every target has `r`
    /// and `alpha`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub modules: BTreeMap<String, ModuleRank>,
}

/// Rank and alpha of one module.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ModuleRank {
    /// Rank of the update.
    pub r: usize,
    /// Numerator of the scale.
    pub alpha: f64,
}

impl LoraSpec {
    /// LoRA of one rank on each of [`LINEARS`], without dropout.
    #[must_use]
    pub fn plain(r: usize, alpha: f64) -> Self {
        Self {
            r,
            alpha,
            rslora: false,
            dora: false,
            dropout: 0.0,
            targets: LINEARS.map(str::to_owned).into(),
            seed: 1,
            modules: BTreeMap::new(),
        }
    }

    /// The factor on B·A.
    #[must_use]
    pub fn scale(&self) -> f64 {
        self.scale_by(ModuleRank { r: self.r, alpha: self.alpha })
    }

    fn scale_by(&self, module: ModuleRank) -> f64 {
        let r = module.r as f64;
        module.alpha / if self.rslora { r.sqrt() } else { r }
    }

    /// Rank and scale of the adapter of a module with that full name; none if it has none.
    #[must_use]
    pub fn adapter_of(&self, name: &str, spec: &LinearSpec) -> Option<(usize, f64)> {
        let module = if self.modules.is_empty() || !spec.adaptable {
            let own = ModuleRank { r: self.r, alpha: self.alpha };
            self.adapts(spec).then_some(own)
        } else {
            self.modules.get(name).copied()
        };
        module.map(|module| (module.r, self.scale_by(module)))
    }

    /// The factor on B·A of a module that has an adapter, by its full name.
    #[must_use]
    pub fn scale_of(&self, name: &str) -> f64 {
        self.modules.get(name).map_or_else(|| self.scale(), |module| self.scale_by(*module))
    }

    /// The largest rank.
    #[must_use]
    pub fn largest_rank(&self) -> usize {
        self.modules.values().map(|module| module.r).max().unwrap_or(self.r)
    }

    /// Whether the module gets an adapter. A fused module does too when every module that it stands for is a target.
    #[must_use]
    pub fn adapts(&self, module: &LinearSpec) -> bool {
        if !module.adaptable {
            return false;
        }
        let named = |name: &str| self.targets.iter().any(|target| target == name);
        let parts = parts(module);
        named(module.target()) || (!parts.is_empty() && parts.iter().all(|part| named(part)))
    }

    /// Checks that each target is a module of a model with these modules, or all parts of a fused one are targets. All of
    /// [`LINEARS`] are targets of every model.
    ///
    /// # Errors
    /// With the first target that is not, and the model's own modules.
    pub fn check_modules(&self, modules: &[LinearSpec]) -> Result<(), Error> {
        let adapted = |name: &str| {
            let part_of = |module: &LinearSpec| module.target() == name || parts(module).contains(&name);
            modules.iter().any(|module| part_of(module) && self.adapts(module))
        };
        // All of them mean what the model has: one with experts has adapters on attention only.
        if LINEARS.iter().all(|name| self.targets.iter().any(|target| target == name)) {
            return Ok(());
        }
        let Some(target) = self.targets.iter().find(|target| !adapted(target)) else { return Ok(()) };
        let names: Vec<&str> = modules.iter().map(LinearSpec::target).collect();
        Err(Error::Invalid(format!(
            "the model has no module `{target}` of its own; set lora_target_modules to all-linear or to some of {}",
            names.join(", ")
        )))
    }

    /// Checks the values.
    ///
    /// # Errors
    /// When the rank is 0, dropout is not in 0..1, or a target is not a linear module.
    pub fn check(&self) -> Result<(), Error> {
        if self.r == 0 || self.modules.values().any(|module| module.r == 0) {
            return Err(Error::Invalid("lora_r=0 trains nothing; set it to 1 or more".into()));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Error::Invalid(format!("lora_dropout={} is not in 0..1", self.dropout)));
        }
        let known = |t: &String| LINEARS.contains(&t.as_str()) || FUSED.iter().any(|(name, _)| name == t);
        match self.targets.iter().find(|t| !known(t)) {
            _ if self.targets.is_empty() => Err(Error::Invalid("LoRA without target modules trains nothing".into())),
            Some(t) => Err(Error::Invalid(format!("`{t}` is not a linear module; expected {}", LINEARS.join(", ")))),
            None => Ok(()),
        }
    }
}

/// What is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tune {
    /// Nothing: for scoring and sampling.
    None,
    /// Adapters on frozen weights.
    Lora(LoraSpec),
    /// Every weight.
    Full,
}
