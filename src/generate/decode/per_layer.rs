//! The layers' second input in the packed decoder: what every token gives to every layer, and what a layer makes of its part.

use super::linear::{PackedLinear, linear, multiply};
use super::norm::PackedNorm;
use crate::model::config::Config;
use crate::model::layer::{LayerParts, PerLayerParts};
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

    /// (n, layers · width) of tokens and their embeddings (n, H).
    pub(super) fn inputs(&self, tokens: &[u32], x: &[f32], c: &Config) -> Vec<f32> {
        let mut seen = multiply(&[&self.projection], x).concat();
        let scale = PerLayerInputs::projection_scale(c.hidden) as f32;
        for x in &mut seen {
            *x *= scale;
        }
        let (mut all, own) = (self.norm.of(&seen, c.rms_eps as f32), (self.width as f32).sqrt());
        let stacked = self.projection.out();
        all.par_chunks_mut(stacked).zip(tokens).with_min_len(16).for_each_init(
            || vec![0.0; stacked],
            |row, (all, token)| {
                self.table.row(*token as usize, row);
                all.iter_mut().zip(row).for_each(|(x, of_token)| *x = (*x + own * *of_token) * HALF as f32);
            },
        );
        all
    }
}

/// Adds to the stream x (n, H) what layer `i` makes of its part of the second input `all`, and multiplies by the layer's factor.
pub(super) fn close_layer(
    c: &Config,
    i: usize,
    layer: &LayerParts<PackedLinear, PackedNorm>,
    x: &mut [f32],
    all: &[f32],
) {
    if let Some(PerLayerParts { gate, out, norm }) = &layer.per_layer {
        let width = gate.weight.out();
        let part: Vec<f32> =
            all.chunks_exact(c.layers * width).flat_map(|row| &row[i * width..(i + 1) * width]).copied().collect();
        let gated = linear(&[gate], x).concat();
        let mut inner = vec![0.0; gated.len()];
        gate::gated_split(c.layer.activation, &gated, &part, &mut inner);
        leaf::add(x, &norm.of(&linear(&[out], &inner).concat(), c.rms_eps as f32));
    }
    if let Some(factor) = layer.factor {
        for x in x {
            *x *= factor as f32;
        }
    }
}
