//! What is trained: nothing, LoRA adapters, or every weight.

use super::error::Error;
use serde::{Deserialize, Serialize};

/// The linear modules of a decoder layer that an adapter may sit on, in the layer's order.
pub const LINEARS: [&str; 7] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/// LoRA (Hu et al. 2021) as in peft: `y = Wx + s·B(A(dropout x))`, `s = alpha/r`, or `alpha/√r` with `rslora`
/// (Kalajdzievski 2023). With `dora` (Liu et al. 2024) each output is put on a trained length:
/// `y = m/‖W + s·BA‖ ⊙ (Wx + s·B(A(dropout x)))`, the norms over the rows of W and constants of the gradient, m first ‖W‖. peft
/// drops inputs of W too where DoRA and dropout meet; here only A's are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoraSpec {
    /// Rank of the update.
    pub r: usize,
    /// Numerator of the scale.
    pub alpha: f64,
    /// Scale by `alpha/√r` (rank-stabilised).
    pub rslora: bool,
    /// Weight-decomposed: a trained length for each output.
    #[serde(default)]
    pub dora: bool,
    /// Probability that an input of A is dropped while training; 0 drops none.
    pub dropout: f64,
    /// Which of [`LINEARS`] get an adapter.
    pub targets: Vec<String>,
    /// Seed of A's first values and of dropout.
    pub seed: u64,
}

impl LoraSpec {
    /// The factor on B·A.
    #[must_use]
    pub fn scale(&self) -> f64 {
        let r = self.r as f64;
        self.alpha / if self.rslora { r.sqrt() } else { r }
    }

    /// Refuses what cannot be built.
    ///
    /// # Errors
    /// When the rank is 0, dropout is not in 0..1, or a target is no linear module.
    pub fn check(&self) -> Result<(), Error> {
        if self.r == 0 {
            return Err(Error::Asked("lora_r=0 trains nothing; set it to 1 or more".into()));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Error::Asked(format!("lora_dropout={} is not in 0..1", self.dropout)));
        }
        match self.targets.iter().find(|t| !LINEARS.contains(&t.as_str())) {
            _ if self.targets.is_empty() => Err(Error::Asked("LoRA without target modules trains nothing".into())),
            Some(t) => Err(Error::Asked(format!("`{t}` is no linear module; there are {}", LINEARS.join(", ")))),
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
