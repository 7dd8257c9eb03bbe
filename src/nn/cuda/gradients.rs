//! Sums of gradients in f32, in the pieces in which they are made: modules that read one input have theirs together.

use crate::model::error::Error;
use crate::nn::contract::Gradients;
use crate::nn::decoder::{Decoder, Layer};
use crate::nn::linear::Linear;
use candle_core::{Tensor, TensorId, Var};
use std::collections::HashMap;
use std::ops::Range;

/// What a piece belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Slot {
    /// The embedding (V, H), and the head where it is the same.
    Embedding,
    /// A head of its own (V, H).
    Head,
    /// The final norm (H).
    LastNorm,
    /// The scalar head (1, H).
    Score,
    /// A norm of a layer.
    Norm(usize, Place),
    /// A part of the modules that stand at a place of a layer.
    Module(usize, Place, Kind),
}

/// Places in a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// Queries, keys and values; their norm.
    Qkv,
    /// The norm of queries.
    Query,
    /// The norm of keys.
    Key,
    /// Attention's output; the norm after it.
    Out,
    /// Gate and up; their norm.
    GateUp,
    /// Down; the norm after it.
    Down,
}

/// Parts of modules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// (out, in).
    Weight,
    /// (out).
    Bias,
    /// (Σ r, in).
    A,
    /// (out, Σ r), of which the blocks on the diagonal count; without the adapters' scale.
    B,
    /// DoRA's lengths, (out).
    Magnitude,
}

/// Where a trained parameter's sum is.
struct Within {
    slot: Slot,
    rows: Range<usize>,
    /// Of a matrix's columns; none: all.
    columns: Option<Range<usize>>,
    times: f64,
}

/// dL/dθ so far; none until something was added.
#[derive(Default)]
pub(super) struct Sums {
    within: HashMap<TensorId, Within>,
    all: HashMap<Slot, Tensor>,
}

impl Sums {
    /// Nothing yet, for the trainables of `decoder`.
    pub(super) fn new(decoder: &Decoder) -> Self {
        let mut sums = Self::default();
        let mut whole = |var: Option<&Var>, slot| sums.place(var, slot, None, None, 1.0);
        whole(decoder.trained_embedding(), Slot::Embedding);
        if decoder.trained_embedding().map(|v| v.as_tensor().id()) != decoder.trained_head().map(|v| v.as_tensor().id())
        {
            whole(decoder.trained_head(), Slot::Head);
        }
        whole(decoder.last_norm().weight.trained(), Slot::LastNorm);
        whole(decoder.score(), Slot::Score);
        for (i, layer) in decoder.layers().iter().enumerate() {
            let mut norm = |var: Option<&Var>, place| sums.place(var, Slot::Norm(i, place), None, None, 1.0);
            for (norm_of, place) in [
                (&layer.attention_norm, Place::Qkv),
                (&layer.attention_out_norm, Place::Out),
                (&layer.mlp_norm, Place::GateUp),
                (&layer.mlp_out_norm, Place::Down),
                (&layer.q_norm, Place::Query),
                (&layer.k_norm, Place::Key),
            ] {
                norm(norm_of.as_ref().and_then(|n| n.weight.trained()), place);
            }
            for place in [Place::Qkv, Place::Out, Place::GateUp, Place::Down] {
                let (mut row, mut low) = (0, 0);
                for module in at(layer, place) {
                    let rows = row..row + module.weight.stored().dims().first().copied().unwrap_or(0);
                    row = rows.end;
                    let slot = |kind| Slot::Module(i, place, kind);
                    sums.place(module.weight.trained(), slot(Kind::Weight), Some(rows.clone()), None, 1.0);
                    let bias = module.bias.as_ref().and_then(|b| b.trained());
                    sums.place(bias, slot(Kind::Bias), Some(rows.clone()), None, 1.0);
                    let Some(lora) = &module.lora else { continue };
                    let ranks = low..low + lora.a.dims().first().copied().unwrap_or(0);
                    low = ranks.end;
                    sums.place(Some(&lora.a), slot(Kind::A), Some(ranks.clone()), None, 1.0);
                    sums.place(Some(&lora.b), slot(Kind::B), Some(rows.clone()), Some(ranks), lora.scale);
                    let lengths = lora.dora.as_ref().map(|d| &d.magnitude);
                    sums.place(lengths, slot(Kind::Magnitude), Some(rows), None, 1.0);
                }
            }
        }
        sums
    }

    fn place(
        &mut self,
        var: Option<&Var>,
        slot: Slot,
        rows: Option<Range<usize>>,
        columns: Option<Range<usize>>,
        times: f64,
    ) {
        let Some(var) = var else { return };
        let rows = rows.unwrap_or(0..var.dims().first().copied().unwrap_or(0));
        self.within.insert(var.as_tensor().id(), Within { slot, rows, columns, times });
    }

    /// Adds all of them, or none where there is no memory for it.
    pub(super) fn add_all(&mut self, more: &[(Slot, Tensor)]) -> Result<(), Error> {
        let sum = |(slot, more): &(Slot, Tensor)| {
            Ok(match self.all.get(slot) {
                None => more.clone(),
                Some(sum) => (sum + more)?,
            })
        };
        let sums = more.iter().map(sum).collect::<Result<Vec<Tensor>, Error>>()?;
        for ((slot, _), sum) in more.iter().zip(sums) {
            self.all.insert(*slot, sum);
        }
        Ok(())
    }

    /// Gives the sums, one for each trainable, and starts again from none.
    pub(super) fn take(&mut self, decoder: &Decoder) -> Result<Gradients, Error> {
        let all = std::mem::take(&mut self.all);
        let of = |(_, var): &(String, Var)| -> Result<Option<Tensor>, Error> {
            let Some(within) = self.within.get(&var.as_tensor().id()) else { return Ok(None) };
            let Some(sum) = all.get(&within.slot) else { return Ok(None) };
            let mut part = sum.narrow(0, within.rows.start, within.rows.len())?;
            if let Some(columns) = &within.columns {
                part = part.narrow(1, columns.start, columns.len())?;
            }
            let part = if within.times == 1.0 { part } else { (part * within.times)? };
            Ok(Some(part.contiguous()?.reshape(var.shape())?.to_dtype(var.dtype())?))
        };
        Ok(Gradients::of(decoder.trainables().iter().map(of).collect::<Result<_, _>>()?))
    }
}

/// The modules that read one input.
pub(super) fn at(layer: &Layer, place: Place) -> Vec<&Linear> {
    match place {
        Place::Qkv => vec![&layer.q, &layer.k, &layer.v],
        Place::Query | Place::Key => Vec::new(),
        Place::Out => vec![&layer.o],
        Place::GateUp => vec![&layer.gate, &layer.up],
        Place::Down => vec![&layer.down],
    }
}
