//! Accumulates the CUDA backend's gradients in f32: modules that read one input share one tensor.

use crate::model::error::Error;
use crate::nn::contract::Gradients;
use crate::nn::decoder::{Decoder, Layer};
use crate::nn::linear::Linear;
use candle_core::{Tensor, TensorId, Var};
use std::collections::HashMap;
use std::ops::Range;

/// The key of an accumulated gradient tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Slot {
    /// The embedding (V, H), and a tied head.
    Embedding,
    /// Learned position embeddings, (context, H).
    Positions,
    /// An untied head (V, H).
    Head,
    /// The final norm (H).
    LastNorm,
    /// The scalar head (1, H).
    Score,
    /// The final norm's bias (H).
    LastNormBias,
    /// A norm of a layer.
    Norm(usize, ModuleGroup),
    /// Its bias.
    NormBias(usize, ModuleGroup),
    /// One parameter of a layer's group of modules.
    Module(usize, ModuleGroup, ModuleParam),
}

/// Modules of a layer that read one input, and norms by the same keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum ModuleGroup {
    /// Queries, keys and values; their norm.
    Qkv,
    /// The norm of queries.
    Query,
    /// The norm of keys.
    Key,
    /// Attention's output projection; the norm after it.
    Out,
    /// Gate and up; their norm.
    GateUp,
    /// Down; the norm after it.
    Down,
}

/// The parameters of modules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum ModuleParam {
    /// (out, in).
    Weight,
    /// (out).
    Bias,
    /// (Σ r, in).
    A,
    /// (out, Σ r), of which only the diagonal blocks count; without the adapters' scale.
    B,
    /// DoRA's magnitudes, (out).
    Magnitude,
}

/// Where a trainable's gradient is in the accumulated tensors.
struct ParamLocation {
    slot: Slot,
    rows: Range<usize>,
    /// Columns of a matrix; none: all.
    columns: Option<Range<usize>>,
    factor: f64,
}

/// dL/dθ so far; none until the first is added.
#[derive(Default)]
pub(super) struct CudaGradients {
    locations: HashMap<TensorId, ParamLocation>,
    all: HashMap<Slot, Tensor>,
}

impl CudaGradients {
    /// No gradients yet, for the trainables of `decoder`.
    pub(super) fn new(decoder: &Decoder) -> Self {
        let mut grads = Self::default();
        let mut whole = |var: Option<&Var>, slot| grads.register(var, slot, None, None, 1.0);
        whole(decoder.trained_embedding(), Slot::Embedding);
        whole(decoder.positions().and_then(|table| table.trained()), Slot::Positions);
        if decoder.trained_embedding().map(|v| v.as_tensor().id()) != decoder.trained_head().map(|v| v.as_tensor().id())
        {
            whole(decoder.trained_head(), Slot::Head);
        }
        whole(decoder.last_norm().weight.trained(), Slot::LastNorm);
        whole(decoder.last_norm().bias.as_ref().and_then(|b| b.trained()), Slot::LastNormBias);
        whole(decoder.score(), Slot::Score);
        for (i, layer) in decoder.layers().iter().enumerate() {
            let mut norm = |var: Option<&Var>, slot| grads.register(var, slot, None, None, 1.0);
            for (norm_of, group) in [
                (&layer.attention_norm, ModuleGroup::Qkv),
                (&layer.attention_out_norm, ModuleGroup::Out),
                (&layer.mlp_norm, ModuleGroup::GateUp),
                (&layer.mlp_out_norm, ModuleGroup::Down),
                (&layer.q_norm, ModuleGroup::Query),
                (&layer.k_norm, ModuleGroup::Key),
            ] {
                norm(norm_of.as_ref().and_then(|n| n.weight.trained()), Slot::Norm(i, group));
                let bias = norm_of.as_ref().and_then(|n| n.bias.as_ref());
                norm(bias.and_then(|b| b.trained()), Slot::NormBias(i, group));
            }
            for group in [ModuleGroup::Qkv, ModuleGroup::Out, ModuleGroup::GateUp, ModuleGroup::Down] {
                let (mut row, mut low) = (0, 0);
                for module in modules_of(layer, group) {
                    let rows = row..row + module.weight.stored().dims().first().copied().unwrap_or(0);
                    row = rows.end;
                    let slot = |kind| Slot::Module(i, group, kind);
                    grads.register(module.weight.trained(), slot(ModuleParam::Weight), Some(rows.clone()), None, 1.0);
                    let bias = module.bias.as_ref().and_then(|b| b.trained());
                    grads.register(bias, slot(ModuleParam::Bias), Some(rows.clone()), None, 1.0);
                    let Some(lora) = &module.lora else { continue };
                    let ranks = low..low + lora.a.dims().first().copied().unwrap_or(0);
                    low = ranks.end;
                    grads.register(Some(&lora.a), slot(ModuleParam::A), Some(ranks.clone()), None, 1.0);
                    grads.register(Some(&lora.b), slot(ModuleParam::B), Some(rows.clone()), Some(ranks), lora.scale);
                    let magnitude = lora.dora.as_ref().map(|d| &d.magnitude);
                    grads.register(magnitude, slot(ModuleParam::Magnitude), Some(rows), None, 1.0);
                }
            }
        }
        grads
    }

    fn register(
        &mut self,
        var: Option<&Var>,
        slot: Slot,
        rows: Option<Range<usize>>,
        columns: Option<Range<usize>>,
        factor: f64,
    ) {
        let Some(var) = var else { return };
        let rows = rows.unwrap_or(0..var.dims().first().copied().unwrap_or(0));
        self.locations.insert(var.as_tensor().id(), ParamLocation { slot, rows, columns, factor });
    }

    /// Adds all of them, or none if memory runs out.
    pub(super) fn add_all(&mut self, more: &[(Slot, Tensor)]) -> Result<(), Error> {
        // A norm before two blocks has two gradients.
        let mut sums: HashMap<Slot, Tensor> = HashMap::new();
        for (slot, more) in more {
            let sum = match sums.get(slot).or_else(|| self.all.get(slot)) {
                None => more.clone(),
                Some(sum) => (sum + more)?,
            };
            sums.insert(*slot, sum);
        }
        self.all.extend(sums);
        Ok(())
    }

    /// Returns the gradients, one for each trainable, and resets them.
    pub(super) fn take(&mut self, decoder: &Decoder) -> Result<Gradients, Error> {
        let all = std::mem::take(&mut self.all);
        let of = |(_, var): &(String, Var)| -> Result<Option<Tensor>, Error> {
            let Some(location) = self.locations.get(&var.as_tensor().id()) else { return Ok(None) };
            let Some(sum) = all.get(&location.slot) else { return Ok(None) };
            let mut part = sum.narrow(0, location.rows.start, location.rows.len())?;
            if let Some(columns) = &location.columns {
                part = part.narrow(1, columns.start, columns.len())?;
            }
            let part = if location.factor == 1.0 { part } else { (part * location.factor)? };
            Ok(Some(part.contiguous()?.reshape(var.shape())?.to_dtype(var.dtype())?))
        };
        Ok(Gradients::of(decoder.trainables().iter().map(of).collect::<Result<_, _>>()?))
    }
}

/// The modules of a group.
pub(super) fn modules_of(layer: &Layer, group: ModuleGroup) -> Vec<&Linear> {
    // A layer with experts is not computed here.
    let mlp = layer.dense().ok();
    match group {
        ModuleGroup::Qkv => layer.qkv.iter().collect(),
        ModuleGroup::Query | ModuleGroup::Key => Vec::new(),
        ModuleGroup::Out => vec![&layer.o],
        ModuleGroup::GateUp => mlp.into_iter().flat_map(|mlp| &mlp.gate_up).collect(),
        ModuleGroup::Down => mlp.into_iter().map(|mlp| &mlp.down).collect(),
    }
}
