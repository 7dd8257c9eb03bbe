//! A linear module with its adapter, forward and backward: `y = x·Wᵀ + scale·drop(x)·Aᵀ·Bᵀ (+ b)`, with DoRA rescaled per output.

use super::context::Context;
use super::gradients::CpuGradients;
use super::values::values;
use crate::model::error::Error;
use crate::nn::linear::{Linear, Lora};
use tiebreak_kernels::arena::Buffer;
use tiebreak_kernels::leaf;
use tiebreak_kernels::product::{View, WriteMode, product};

/// The columns of a wider row-major matrix that hold a module's outputs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Columns {
    /// Distance from one row to the next.
    pub(super) stride: usize,
    /// The first column.
    pub(super) first: usize,
}

impl Columns {
    /// The whole matrix: rows of `width` numbers.
    pub(super) fn all(width: usize) -> Self {
        Self { stride: width, first: 0 }
    }
}

impl Linear {
    /// (out, in).
    fn sizes(&self) -> (usize, usize) {
        self.weight.stored().dims2().unwrap_or((0, 0))
    }
}

/// Dropout of x, the input of A; none without dropout.
fn dropped(context: &Context<'_>, lora: &Lora, x: &[f32], width: usize) -> Option<Buffer> {
    let number = context.mode.dropout.filter(|_| lora.dropout > 0.0)?;
    let mut dropped_x = mask(context, lora, number, width);
    leaf::multiply(&mut dropped_x, x);
    Some(dropped_x)
}

/// The dropout mask of the packed rows.
fn mask(context: &Context<'_>, lora: &Lora, number: u64, width: usize) -> Buffer {
    let mut mask = context.arena.take(context.layout.tokens() * width);
    for (start, end, padded) in &context.layout.padded {
        lora.fill_dropout_mask(number, padded * width, &mut mask[start * width..end * width]);
    }
    mask
}

/// Writes the module's outputs into the columns `at` of `y`, or adds them with [`WriteMode::Add`]; returns `drop(x)·Aᵀ`.
pub(super) fn forward(
    context: &Context<'_>,
    linear: &Linear,
    x: &[f32],
    y: &mut [f32],
    at: Columns,
    write: WriteMode,
) -> Result<Option<Buffer>, Error> {
    let (out, width) = linear.sizes();
    let n = x.len() / width.max(1);
    let weight = values(linear.weight.stored())?;
    let lora = linear.lora.as_ref().filter(|_| context.mode.adapter);
    let dora_scale = if lora.is_some() { linear.dora_scale()? } else { None };
    // DoRA rescales the product before it may be added to `y`.
    let mut apart = dora_scale.as_ref().map(|_| context.arena.take(n * out));
    let (to, columns, write_here) = match &mut apart {
        Some(buffer) => (&mut buffer[..], Columns::all(out), WriteMode::Overwrite),
        None => (&mut *y, at, write),
    };
    let x_view = View::rows(x, width);
    product(
        &mut to[columns.first..],
        columns.stride,
        write_here,
        x_view,
        View::columns(&weight, width),
        (n, out, width),
        1.0,
    );
    let mut low = None;
    if let Some(lora) = lora {
        let (a, b) = (values(lora.a.as_tensor())?, values(lora.b.as_tensor())?);
        let r = a.len() / width;
        let mut xa = context.arena.take(n * r);
        let dropped_x = dropped(context, lora, x, width);
        let input = View::rows(dropped_x.as_deref().unwrap_or(x), width);
        product(&mut xa, r, WriteMode::Overwrite, input, View::columns(&a, width), (n, r, width), 1.0);
        let (low_view, b_view, scale) = (View::rows(&xa, r), View::columns(&b, r), lora.scale as f32);
        product(&mut to[columns.first..], columns.stride, WriteMode::Add, low_view, b_view, (n, out, r), scale);
        low = Some(xa);
    }
    if let (Some(mut stretched), Some(dora_scale)) = (apart, dora_scale) {
        leaf::scale_columns(&mut stretched, out, &values(&dora_scale)?);
        let rows = y.chunks_mut(at.stride).zip(stretched.chunks_exact(out));
        for (y, s) in rows {
            let y = &mut y[at.first..at.first + out];
            match write {
                WriteMode::Overwrite => y.copy_from_slice(s),
                WriteMode::Add => y.iter_mut().zip(s).for_each(|(y, s)| *y += s),
            }
        }
    }
    if let Some(bias) = &linear.bias {
        leaf::add_bias(y, at.stride, at.first, &values(bias.stored())?);
    }
    Ok(low)
}

/// Backward: writes dL/dx into `dx`, or adds it with [`WriteMode::Add`], and adds gradients of trainable parameters to `grads`.
/// `x` and `low` are the forward's input and its returned `drop(x)·Aᵀ`; `dy` holds dL/dy in the columns `at`.
pub(super) fn backward(
    context: &Context<'_>,
    linear: &Linear,
    (x, low): (&[f32], Option<&Buffer>),
    (dy, at): (&[f32], Columns),
    (dx, write): (&mut [f32], WriteMode),
    grads: &mut CpuGradients,
) -> Result<(), Error> {
    let (out, width) = linear.sizes();
    let n = x.len() / width.max(1);
    let weight = values(linear.weight.stored())?;
    if let Some(sum) = linear.bias.as_ref().and_then(|b| b.trained()).and_then(|var| grads.of(var)) {
        for row in dy.chunks(at.stride) {
            leaf_add(sum, &row[at.first..at.first + out]);
        }
    }
    let lora = linear.lora.as_ref().filter(|_| context.mode.adapter);
    let mut stretched = None;
    if let Some((lora, dora)) = lora.and_then(|l| l.dora.as_ref().map(|d| (l, d))) {
        let (Some(dora_scale), Some(low)) = (linear.dora_scale()?, low) else {
            return Err(Error::Invalid("a DoRA adapter has no magnitudes; this is a bug".into()));
        };
        // The output before DoRA's rescaling: recomputed, since only the rescaled output was saved.
        let mut before = context.arena.take(n * out);
        let b = values(lora.b.as_tensor())?;
        let r = b.len() / out;
        product(
            &mut before,
            out,
            WriteMode::Overwrite,
            View::rows(x, width),
            View::columns(&weight, width),
            (n, out, width),
            1.0,
        );
        let (low_view, b_view) = (View::rows(low, r), View::columns(&b, r));
        product(&mut before, out, WriteMode::Add, low_view, b_view, (n, out, r), lora.scale as f32);
        let (dora_scale, magnitude) = (values(&dora_scale)?, values(dora.magnitude.as_tensor())?);
        if let Some(sum) = grads.of(&dora.magnitude) {
            // dora_scale = m/‖·‖, so 1/‖·‖ = dora_scale/m.
            let mut through = vec![0f64; out];
            for (row, pre) in dy.chunks(at.stride).zip(before.chunks_exact(out)) {
                let d = &row[at.first..at.first + out];
                through.iter_mut().zip(d).zip(pre).for_each(|((t, d), p)| *t += f64::from(*d) * f64::from(*p));
            }
            for (i, t) in through.iter().enumerate() {
                sum[i] += (t * f64::from(dora_scale[i] / magnitude[i])) as f32;
            }
        }
        for (row, to) in dy.chunks(at.stride).zip(before.chunks_exact_mut(out)) {
            to.copy_from_slice(&row[at.first..at.first + out]);
        }
        leaf::scale_columns(&mut before, out, &dora_scale);
        stretched = Some(before);
    }
    let (dy, at) = match &stretched {
        Some(d) => (&d[..], Columns::all(out)),
        None => (dy, at),
    };
    let dy_view = View::rows(&dy[at.first..], at.stride);
    if let Some(sum) = linear.weight.trained().and_then(|var| grads.of(var)) {
        product(sum, width, WriteMode::Add, dy_view.transposed(), View::rows(x, width), (out, width, n), 1.0);
    }
    product(dx, width, write, dy_view, View::rows(&weight, width), (n, width, out), 1.0);
    let Some(lora) = lora else { return Ok(()) };
    let Some(low) = low else {
        return Err(Error::Invalid("an adapter's activations were not saved; this is a bug".into()));
    };
    let (a, b, scale) = (values(lora.a.as_tensor())?, values(lora.b.as_tensor())?, lora.scale as f32);
    let r = b.len() / out;
    let mut dlow = context.arena.take(n * r);
    product(&mut dlow, r, WriteMode::Overwrite, dy_view, View::rows(&b, r), (n, r, out), scale);
    if let Some(sum) = grads.of(&lora.b) {
        product(sum, r, WriteMode::Add, dy_view.transposed(), View::rows(low, r), (out, r, n), scale);
    }
    let dropped_x = dropped(context, lora, x, width);
    if let Some(sum) = grads.of(&lora.a) {
        let input = View::rows(dropped_x.as_deref().unwrap_or(x), width);
        product(sum, width, WriteMode::Add, View::rows(&dlow, r).transposed(), input, (r, width, n), 1.0);
    }
    let (dlow_view, a_view) = (View::rows(&dlow, r), View::rows(&a, width));
    match context.mode.dropout.filter(|_| lora.dropout > 0.0) {
        None => product(dx, width, WriteMode::Add, dlow_view, a_view, (n, width, r), 1.0),
        Some(number) => {
            let mut part = context.arena.take(n * width);
            product(&mut part, width, WriteMode::Overwrite, dlow_view, a_view, (n, width, r), 1.0);
            leaf::multiply(&mut part, &mask(context, lora, number, width));
            leaf::add(dx, &part);
        }
    }
    Ok(())
}

fn leaf_add(sum: &mut [f32], row: &[f32]) {
    sum.iter_mut().zip(row).for_each(|(s, x)| *s += x);
}
