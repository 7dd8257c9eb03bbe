//! The layers' second input in the packed decoder: what every token gives to every layer, and what a layer makes of its part.

use super::linear::{linear, multiply};
use super::{PackedDecoder, PackedLayer, PackedNorm};
use crate::model::layer::PerLayerParts;
use crate::nn::per_layer::{HALF, PerLayerInputs};
use rayon::prelude::*;
use tiebreak_kernels::gate;
use tiebreak_kernels::leaf;
use tiebreak_kernels::packed::Matrix;

/// What makes the second input.
pub(super) struct PackedPerLayer {
    /// Width of a layer's part.
    pub(super) width: usize,
    /// (rows, layers · width).
    pub(super) table: Matrix,
    /// (layers · width, H).
    pub(super) projection: Matrix,
    /// Over each part.
    pub(super) norm: PackedNorm,
}

impl PackedPerLayer {
    /// Memory of the weights in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.table.bytes() + self.projection.bytes()
    }
}

impl PackedDecoder {
    /// (n, layers · width) of tokens and their embeddings (n, H); empty where the layers have no second input.
    pub(super) fn per_layer_inputs(&self, tokens: &[u32], x: &[f32]) -> Vec<f32> {
        let Some(inputs) = &self.per_layer else { return Vec::new() };
        let mut seen = multiply(&[&inputs.projection], x).concat();
        let scale = PerLayerInputs::projection_scale(self.config.hidden) as f32;
        for x in &mut seen {
            *x *= scale;
        }
        let (mut all, own) = (self.normed(&seen, &inputs.norm), (inputs.width as f32).sqrt());
        let stacked = inputs.projection.out();
        all.par_chunks_mut(stacked).zip(tokens).with_min_len(16).for_each_init(
            || vec![0.0; stacked],
            |row, (all, token)| {
                inputs.table.row(*token as usize, row);
                all.iter_mut().zip(row).for_each(|(x, own_x)| *x = (*x + own * *own_x) * HALF as f32);
            },
        );
        all
    }

    /// Adds to the stream x (n, H) what layer `i` makes of its part of `all`, and multiplies by the layer's factor.
    pub(super) fn close_layer(&self, i: usize, layer: &PackedLayer, x: &mut [f32], all: &[f32]) {
        if let (Some(PerLayerParts { gate, out, norm }), Some(inputs)) = (&layer.per_layer, &self.per_layer) {
            let (width, stacked) = (inputs.width, inputs.projection.out());
            let part: Vec<f32> =
                all.chunks_exact(stacked).flat_map(|row| &row[i * width..(i + 1) * width]).copied().collect();
            let gated = linear(&[gate], x).concat();
            let mut inner = vec![0.0; gated.len()];
            gate::gated_split(self.config.layer.activation, &gated, &part, &mut inner);
            leaf::add(x, &self.normed(&linear(&[out], &inner).concat(), norm));
        }
        if let Some(factor) = layer.factor {
            for x in x {
                *x *= factor as f32;
            }
        }
    }
}
