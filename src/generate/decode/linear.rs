//! Linear modules packed for decoding, with their adapters, and their products.

use tiebreak_kernels::leaf;
use tiebreak_kernels::packed::{Matrix, PackedInput, TILE, products, untile};

/// An adapter's matrices.
pub(super) struct PackedLora {
    /// (r, in).
    pub(super) a: Matrix,
    /// (out, r).
    pub(super) b: Matrix,
    pub(super) scale: f32,
    /// DoRA's factor on each output.
    pub(super) dora_scale: Option<Vec<f32>>,
}

/// A linear module.
pub(super) struct PackedLinear {
    pub(super) weight: Matrix,
    pub(super) bias: Option<Vec<f32>>,
    pub(super) lora: Option<PackedLora>,
}

/// Outputs of linear modules with the same input x, (rows, out) each.
pub(super) fn linear(parts: &[&PackedLinear], x: &[f32]) -> Vec<Vec<f32>> {
    // The adapters read the same input: one product for all.
    let adapters = parts.iter().filter_map(|l| l.lora.as_ref());
    let matrices: Vec<&Matrix> = parts.iter().map(|l| &l.weight).chain(adapters.map(|lora| &lora.a)).collect();
    let mut out = multiply(&matrices, x);
    let mut low = out.split_off(parts.len()).into_iter();
    for (part, y) in parts.iter().zip(&mut out) {
        let width = part.weight.out();
        if let Some(lora) = &part.lora {
            let up = multiply(&[&lora.b], &low.next().unwrap_or_default()).concat();
            leaf::scale_add(y, lora.scale, &up);
            if let Some(dora_scale) = &lora.dora_scale {
                leaf::scale_columns(y, width, dora_scale);
            }
        }
        if let Some(bias) = &part.bias {
            leaf::add_bias(y, width, 0, bias);
        }
    }
    out
}

/// The products of rows with matrices, (rows, out) each.
pub(super) fn multiply(parts: &[&Matrix], x: &[f32]) -> Vec<Vec<f32>> {
    let width = parts.first().map_or(1, |m| m.width());
    let n = x.len() / width;
    let tiles: usize = parts.iter().map(|m| m.tiles()).sum();
    let mut tiled = vec![0.0; tiles * n * TILE];
    products(parts, &PackedInput::new(x, width, parts), &mut tiled);
    let mut first = 0;
    parts
        .iter()
        .map(|m| {
            if n == 1 && parts.len() == 1 && m.out() == m.tiles() * TILE {
                return std::mem::take(&mut tiled);
            }
            let mut y = vec![0.0; n * m.out()];
            untile(&tiled, n, first, m.out(), &mut y);
            first += m.tiles();
            y
        })
        .collect()
}

/// The outputs of modules, one for each width: those of a fused module taken apart.
pub(super) fn apart(outputs: Vec<Vec<f32>>, widths: &[usize]) -> Vec<Vec<f32>> {
    let [fused] = &outputs[..] else { return outputs };
    let stride: usize = widths.iter().sum();
    let mut first = 0;
    let part = |width: &usize| {
        first += width;
        fused.chunks_exact(stride).flat_map(|row| &row[first - width..first]).copied().collect()
    };
    widths.iter().map(part).collect()
}
