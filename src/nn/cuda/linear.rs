//! Linear modules that read one input, fused, with their adapters: `y = x·Wᵀ + scale·drop(x)·Aᵀ·Bᵀ (+ b)`, with DoRA
//! rescaled per output.
//!
//! Weights and the adapters' A are stacked; their B are diagonal blocks of one matrix. So one product
//! computes all modules, and two more add their adapters.

use super::composed::stack;
use super::gradients::{ModuleGroup, ModuleParam, Slot};
use super::layout::Part;
use super::leaf::{AdapterPart, LeafOps};
use crate::model::error::Error;
use crate::nn::linear::{Linear, Lora};
use crate::nn::pass::Mode;
use candle_core::{DType, Tensor};

/// Fused modules, ready for a pass.
pub(super) struct FusedLinear<'a> {
    parts: Vec<&'a Linear>,
    tensors: FusedTensors,
}

/// The tensors of fused modules, in the type of the pass.
#[derive(Clone)]
pub(super) struct FusedTensors {
    /// (out, in).
    weight: Tensor,
    /// (out).
    bias: Option<Tensor>,
    adapter: Option<FusedAdapter>,
}

/// The adapters of several modules as one.
#[derive(Clone)]
struct FusedAdapter {
    /// (R, in): every module's A, stacked.
    a: Tensor,
    /// (out, R): every module's scale·B as a diagonal block.
    b: Tensor,
    /// DoRA's factors, (out) in f32; 1 for modules without one.
    dora_scale: Option<Tensor>,
    /// DoRA's factors divided by its magnitudes, (out) in f32.
    inverse: Option<Tensor>,
}

fn rows(linear: &Linear) -> usize {
    linear.weight.stored().dims().first().copied().unwrap_or(0)
}

fn rank(linear: &Linear) -> usize {
    linear.lora.as_ref().map_or(0, |l| l.a.dims().first().copied().unwrap_or(0))
}

impl FusedTensors {
    /// The tensors of `parts` in `dtype`; `fused` is the matrix that their frozen weights are views of.
    pub(super) fn new(
        ops: &LeafOps,
        parts: &[&Linear],
        fused: Option<&Tensor>,
        mode: Mode,
        dtype: DType,
    ) -> Result<Self, Error> {
        let weight = match fused {
            Some(fused) => fused.clone(),
            None => stack(&parts.iter().map(|p| p.weight.cast(false, dtype)).collect::<Result<Vec<_>, _>>()?)?,
        };
        let bias = if parts.iter().any(|p| p.bias.is_some()) {
            let one = |p: &&Linear| match &p.bias {
                Some(bias) => bias.cast(false, dtype),
                None => Ok(Tensor::zeros(rows(p), dtype, weight.device())?),
            };
            Some(stack(&parts.iter().map(one).collect::<Result<Vec<_>, _>>()?)?)
        } else {
            None
        };
        let adapted = mode.adapter && parts.iter().any(|p| p.lora.is_some());
        let adapter = if adapted { Some(FusedAdapter::new(ops, parts, dtype)?) } else { None };
        Ok(Self { weight, bias, adapter })
    }
}

impl FusedAdapter {
    fn new(ops: &LeafOps, parts: &[&Linear], dtype: DType) -> Result<Self, Error> {
        let loras: Vec<&Lora> = parts.iter().filter_map(|p| p.lora.as_ref()).collect();
        let detached: Vec<Option<(Tensor, Tensor, f64)>> = parts
            .iter()
            .map(|p| p.lora.as_ref().map(|l| (l.a.as_detached_tensor(), l.b.as_detached_tensor(), l.scale)))
            .collect();
        let own = parts.iter().zip(&detached).map(|(part, lora)| AdapterPart {
            adapter: lora.as_ref().map(|(a, b, scale)| (a, b, *scale)),
            rows: rows(part),
            device: part.weight.stored().device(),
        });
        let all: Vec<AdapterPart<'_>> = own.collect();
        let (a, b) = (ops.stack_adapters)(&all, dtype)?;
        let (mut dora_scale, mut inverse) = (None, None);
        if loras.iter().any(|l| l.dora.is_some()) {
            let (mut all, mut over) = (Vec::new(), Vec::new());
            for part in parts {
                let magnitude =
                    part.lora.as_ref().and_then(|l| l.dora.as_ref()).map(|d| d.magnitude.as_detached_tensor());
                // dora_scale = m/‖·‖, so 1/‖·‖ = dora_scale/m.
                let (s, i) = if let (Some(s), Some(m)) = (part.dora_scale()?, magnitude) {
                    (s.clone(), s.div(&m)?)
                } else {
                    let ones = Tensor::ones(rows(part), DType::F32, part.weight.stored().device())?;
                    (ones.clone(), ones)
                };
                all.push(s);
                over.push(i);
            }
            (dora_scale, inverse) = (Some(stack(&all)?), Some(stack(&over)?));
        }
        Ok(Self { a, b, dora_scale, inverse })
    }
}

impl<'a> FusedLinear<'a> {
    /// `parts` with their tensors.
    pub(super) fn of(parts: Vec<&'a Linear>, tensors: FusedTensors) -> Self {
        Self { parts, tensors }
    }

    /// Every adapted module's dropout mask of the part's tokens, (tokens, in).
    fn masks(&self, part: &Part, mode: Mode, x: &Tensor) -> Result<Option<Vec<Tensor>>, Error> {
        let Some(number) = mode.dropout else { return Ok(None) };
        let width = x.dim(1)?;
        let mask = |lora: &Lora| {
            let mut mask = vec![1f32; part.tokens() * width];
            if lora.dropout > 0.0 {
                for (places, padded) in &part.padded {
                    lora.fill_dropout_mask(number, padded * width, &mut mask[places.start * width..places.end * width]);
                }
            }
            Ok(Tensor::from_vec(mask, x.shape(), x.device())?.to_dtype(x.dtype())?)
        };
        Ok(Some(self.parts.iter().filter_map(|p| p.lora.as_ref()).map(mask).collect::<Result<_, Error>>()?))
    }

    /// First row and number of rows of each adapted module in A.
    fn ranks(&self) -> Vec<(usize, usize)> {
        let mut end = 0;
        let range = |r: usize| {
            end += r;
            (end - r, r)
        };
        self.parts.iter().map(|p| rank(p)).filter(|r| *r > 0).map(range).collect()
    }

    /// drop(x)·Aᵀ, (tokens, R).
    fn low(&self, adapter: &FusedAdapter, part: &Part, mode: Mode, x: &Tensor) -> Result<Tensor, Error> {
        let Some(masks) = self.masks(part, mode, x)? else { return Ok(x.matmul(&adapter.a.t()?)?) };
        let one = |((first, r), mask): ((usize, usize), &Tensor)| {
            Ok((x * mask)?.matmul(&adapter.a.narrow(0, first, r)?.t()?)?)
        };
        let all = self.ranks().into_iter().zip(&masks).map(one).collect::<Result<Vec<Tensor>, Error>>()?;
        Ok(if all.len() == 1 { all[0].clone() } else { Tensor::cat(&all, 1)? })
    }

    /// Outputs (tokens, out) for x (tokens, in), and drop(x)·Aᵀ.
    pub(super) fn forward(
        &self,
        ops: &LeafOps,
        part: &Part,
        mode: Mode,
        x: &Tensor,
    ) -> Result<(Tensor, Option<Tensor>), Error> {
        let t = &self.tensors;
        let mut y = x.matmul(&t.weight.t()?)?;
        let mut low = None;
        if let Some(adapter) = &t.adapter {
            let xa = self.low(adapter, part, mode, x)?;
            y = (ops.add_product)(y, &xa, &adapter.b.t()?)?;
            if let Some(dora_scale) = &adapter.dora_scale {
                y = y.broadcast_mul(&dora_scale.to_dtype(y.dtype())?)?;
            }
            low = Some(xa);
        }
        if let Some(bias) = &t.bias {
            y = y.broadcast_add(bias)?;
        }
        Ok((y, low))
    }

    /// dL/dx from dL/dy (tokens, out), and the trainables' gradients. `x` and `low` are the forward's input and drop(x)·Aᵀ.
    #[expect(clippy::too_many_arguments, reason = "modules, their position, inputs and outputs")]
    pub(super) fn backward(
        &self,
        ops: &LeafOps,
        part: &Part,
        mode: Mode,
        (layer, group): (usize, ModuleGroup),
        (x, low): (&Tensor, Option<&Tensor>),
        dy: &Tensor,
        grads: &mut Vec<(Slot, Tensor)>,
    ) -> Result<Tensor, Error> {
        let t = &self.tensors;
        let slot = |kind| Slot::Module(layer, group, kind);
        if self.parts.iter().any(|p| p.bias.as_ref().is_some_and(|b| b.trained().is_some())) {
            grads.push((slot(ModuleParam::Bias), dy.to_dtype(DType::F32)?.sum(0)?));
        }
        let adapter = t.adapter.as_ref().zip(low);
        let mut dy = dy.clone();
        if let Some((adapter, low)) = adapter
            && let (Some(dora_scale), Some(inverse)) = (&adapter.dora_scale, &adapter.inverse)
        {
            // The output before DoRA's rescaling: recomputed, since only the rescaled output was saved.
            let before = (ops.add_product)(x.matmul(&t.weight.t()?)?, low, &adapter.b.t()?)?;
            let through = (dy.to_dtype(DType::F32)? * before.to_dtype(DType::F32)?)?.sum(0)?;
            grads.push((slot(ModuleParam::Magnitude), (through * inverse)?));
            dy = dy.broadcast_mul(&dora_scale.to_dtype(dy.dtype())?)?;
        }
        if self.parts.iter().any(|p| p.weight.trained().is_some()) {
            grads.push((slot(ModuleParam::Weight), (ops.product_f32)(&dy.t()?, x)?));
        }
        let dx = dy.matmul(&t.weight)?;
        let Some((adapter, low)) = adapter else { return Ok(dx) };
        grads.push((slot(ModuleParam::B), (ops.product_f32)(&dy.t()?, low)?));
        let dlow = dy.matmul(&adapter.b)?;
        let Some(masks) = self.masks(part, mode, x)? else {
            grads.push((slot(ModuleParam::A), (ops.product_f32)(&dlow.t()?, x)?));
            return (ops.add_product)(dx, &dlow, &adapter.a);
        };
        let (mut dx, mut da) = (dx, Vec::new());
        for ((first, r), mask) in self.ranks().into_iter().zip(&masks) {
            let own = dlow.narrow(1, first, r)?.contiguous()?;
            da.push((ops.product_f32)(&own.t()?, &(x * mask)?)?);
            dx = (dx + (own.matmul(&adapter.a.narrow(0, first, r)?)? * mask)?)?;
        }
        grads.push((slot(ModuleParam::A), stack(&da)?));
        Ok(dx)
    }
}
