//! Linear modules with their adapters, and parameters, frozen or trained.
//!
//! Owns the arithmetic of LoRA and DoRA, their initialisation and dropout. Refuses to know a module's position in the layer.

use super::frozen;
use super::pass::Pass;
use super::random::{stream, uniform};
use crate::model::error::Error;
use crate::model::tune::LoraSpec;
use crate::model::weights::trained_dtype;
use candle_core::{D, DType, Device, Tensor, Var};

/// A parameter, frozen or trained.
pub(crate) enum Weight {
    Frozen(Tensor),
    Trained(Var),
}

impl Weight {
    /// Its tensor, without a copy.
    pub(crate) fn stored(&self) -> &Tensor {
        match self {
            Self::Frozen(t) => t,
            Self::Trained(v) => v.as_tensor(),
        }
    }

    /// The variable, if it is trained.
    pub(crate) fn trained(&self) -> Option<&Var> {
        if let Self::Trained(v) = self { Some(v) } else { None }
    }

    pub(super) fn tensor(&self, grad: bool) -> Tensor {
        match self {
            Self::Frozen(t) => t.clone(),
            Self::Trained(v) => read(v, grad),
        }
    }

    /// Its values in that type, tracked by the graph if `grad`.
    pub(crate) fn cast(&self, grad: bool, dtype: DType) -> Result<Tensor, Error> {
        Ok(self.tensor(grad).to_dtype(dtype)?)
    }
}

/// Concatenates the frozen weights of `parts` (which read one input) and makes their weights views of the result; none if one is
/// trained.
pub(super) fn fuse_weights(parts: &mut [Linear]) -> Result<Option<Tensor>, Error> {
    if parts.iter().any(|part| part.weight.trained().is_some()) {
        return Ok(None);
    }
    let all: Vec<&Tensor> = parts.iter().map(|part| part.weight.stored()).collect();
    let fused = Tensor::cat(&all, 0)?;
    let mut first = 0;
    for part in parts {
        let rows = part.weight.stored().dim(0)?;
        part.weight = Weight::Frozen(fused.narrow(0, first, rows)?);
        first += rows;
    }
    Ok(Some(fused))
}

/// A variable's values, tracked by the graph if `grad`.
fn read(var: &Var, grad: bool) -> Tensor {
    if grad { var.as_tensor().clone() } else { var.as_detached_tensor() }
}

/// An adapter.
pub(crate) struct Lora {
    /// (r, in).
    pub(crate) a: Var,
    /// (out, r).
    pub(crate) b: Var,
    pub(crate) scale: f64,
    pub(crate) dropout: f64,
    seed: u64,
    /// The module's number in the model, for its dropout stream.
    module: u64,
    pub(crate) dora: Option<Dora>,
}

/// The magnitudes of a DoRA adapter.
pub(crate) struct Dora {
    /// (out).
    pub(crate) magnitude: Var,
    /// Σ W² over each row of the frozen weight, (out).
    squares: Tensor,
}

/// `y = x·Wᵀ (+ b) (+ scale·dropout(x)·Aᵀ·Bᵀ)`; with DoRA all but the bias times `m / ‖W + scale·B·A‖`.
pub(crate) struct Linear {
    pub(crate) weight: Weight,
    pub(crate) bias: Option<Weight>,
    pub(crate) lora: Option<Lora>,
}

impl Linear {
    /// (…, in) to (…, out). `cached` is a [`Linear::dora_scale`] that is still valid; none: it is computed.
    pub(super) fn forward(&self, x: &Tensor, pass: &Pass, cached: Option<&Tensor>) -> Result<Tensor, Error> {
        let mut dims = x.dims().to_vec();
        let width = dims.pop().unwrap_or(0);
        let flat = x.reshape(((), width))?;
        let mut y = match &self.weight {
            Weight::Frozen(w) => flat.apply_op1(frozen::Product { weight: w.clone() })?,
            trained @ Weight::Trained(_) => flat.matmul(&trained.cast(pass.grad, flat.dtype())?.t()?)?,
        };
        let lora = self.lora.as_ref().filter(|_| pass.adapter);
        let dora = lora.and_then(|l| l.dora.as_ref().map(|d| (l, d)));
        if let Some((lora, dora)) = dora {
            y = (y + lora.update(flat.clone(), pass)?)?;
            let dora_scale = match cached {
                Some(dora_scale) => dora_scale.clone(),
                None => read(&dora.magnitude, pass.grad).div(&self.norms(lora, dora)?)?,
            };
            y = y.broadcast_mul(&dora_scale.to_dtype(y.dtype())?)?;
        }
        y = match &self.bias {
            None => y,
            Some(Weight::Frozen(b)) => y.apply_op1(frozen::Plus { constant: b.clone() })?,
            Some(trained @ Weight::Trained(_)) => y.broadcast_add(&trained.cast(pass.grad, y.dtype())?)?,
        };
        if let Some(lora) = lora.filter(|_| dora.is_none()) {
            y = (y + lora.update(flat, pass)?)?;
        }
        dims.push(y.dim(1)?);
        Ok(y.reshape(dims)?)
    }

    /// DoRA's factor on each output, (out), `m / ‖W + scale·B·A‖`, detached; none without DoRA.
    pub(crate) fn dora_scale(&self) -> Result<Option<Tensor>, Error> {
        let Some((lora, dora)) = self.lora.as_ref().and_then(|l| l.dora.as_ref().map(|d| (l, d))) else {
            return Ok(None);
        };
        Ok(Some(read(&dora.magnitude, false).div(&self.norms(lora, dora)?)?))
    }

    fn norms(&self, lora: &Lora, dora: &Dora) -> Result<Tensor, Error> {
        norms(&self.weight.tensor(false), &dora.squares, &read(&lora.a, false), &read(&lora.b, false), lora.scale)
    }
}

/// ‖W + scale·B·A‖ of every row, (out): the root of `Σ W² + 2·scale·Σ_r B ⊙ W·Aᵀ + scale²·Σ_r B ⊙ B·(A·Aᵀ)`, which needs no
/// matrix of W's size. With B = 0 it is √Σ W² to the bit, so an untrained adapter changes nothing.
fn norms(w: &Tensor, squares: &Tensor, a: &Tensor, b: &Tensor, scale: f64) -> Result<Tensor, Error> {
    let cross = (b * w.matmul(&a.to_dtype(w.dtype())?.t()?)?.to_dtype(b.dtype())?)?.sum(D::Minus1)?;
    let own = (b * b.matmul(&a.matmul(&a.t()?)?)?)?.sum(D::Minus1)?;
    Ok(((squares + (cross * (2.0 * scale))?)? + (own * (scale * scale))?)?.sqrt()?)
}

impl Lora {
    /// `scale·dropout(x)·Aᵀ·Bᵀ` for x (N, in).
    fn update(&self, x: Tensor, pass: &Pass) -> Result<Tensor, Error> {
        let input = match pass.dropout.filter(|_| self.dropout > 0.0) {
            None => x,
            Some(number) => x.apply_op1(frozen::Times { constant: self.mask(&x, number, pass.skipped)? })?,
        };
        let (a, b) =
            (read(&self.a, pass.grad).to_dtype(input.dtype())?, read(&self.b, pass.grad).to_dtype(input.dtype())?);
        let update = input.matmul(&a.t()?)?.matmul(&b.t()?)?;
        Ok(update.affine(self.scale, 0.0)?)
    }

    /// The dropout mask of training pass `number` after its first `skipped` tokens, scaled by 1/(1−p): the same whenever the
    /// pass is recomputed, whole or in parts.
    fn mask(&self, like: &Tensor, number: u64, skipped: usize) -> Result<Tensor, Error> {
        let mut values = vec![0.0; like.elem_count()];
        self.fill_dropout_mask(number, skipped * like.dim(D::Minus1)?, &mut values);
        Ok(Tensor::from_vec(values, like.shape(), like.device())?.to_dtype(like.dtype())?)
    }

    /// Fills `mask` with the elements from `skipped` on of the dropout mask of training pass `number`.
    pub(crate) fn fill_dropout_mask(&self, number: u64, skipped: usize, mask: &mut [f32]) {
        let mut rng = stream(self.seed ^ 0x6472_6f70, (number << 16) | self.module);
        // Each draw takes two words.
        rng.set_word_pos(2 * skipped as u128);
        let keep = (1.0 / (1.0 - self.dropout)) as f32;
        for m in mask {
            *m = if uniform(&mut rng) < self.dropout { 0.0 } else { keep };
        }
    }
}

impl Lora {
    /// A new adapter of rank `r` for module number `module` on `weight` (out, in). A is drawn from U(−1/√in, 1/√in), torch's
    /// kaiming_uniform with a = √5; B is zero; DoRA's magnitudes are the row norms.
    pub(super) fn init(spec: &LoraSpec, (r, scale): (usize, f64), weight: &Tensor, module: u64) -> Result<Self, Error> {
        let (out, width) = weight.dims2()?;
        let mut rng = stream(spec.seed, module);
        let bound = 1.0 / (width as f64).sqrt();
        let first: Vec<f64> = (0..r * width).map(|_| (2.0 * uniform(&mut rng) - 1.0) * bound).collect();
        let (device, dtype) = (weight.device(), trained_dtype(weight.dtype()));
        let a = Tensor::from_vec(first, (r, width), &Device::Cpu)?.to_dtype(dtype)?.to_device(device)?;
        let a = Var::from_tensor(&a)?;
        let b = Var::zeros((out, r), dtype, device)?;
        let dora = if spec.dora {
            let squares = weight.to_dtype(dtype)?.sqr()?.sum(D::Minus1)?;
            let magnitude = Var::from_tensor(&norms(weight, &squares, &read(&a, false), &read(&b, false), 1.0)?)?;
            Some(Dora { magnitude, squares })
        } else {
            None
        };
        Ok(Self { a, b, scale, dropout: spec.dropout, seed: spec.seed, module, dora })
    }
}
