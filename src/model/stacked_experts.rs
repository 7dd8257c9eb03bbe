//! Where an expert's tensors are in files that hold those of all experts of a layer in one.
//!
//! Owns the three forms: rows (transformers 5), columns with gate and up in turn (GPT-OSS), and the same in MXFP4. Refuses to know
//! the names of files and of families.

use super::error::Error;
use super::mxfp4;
use candle_core::{Device, Tensor};
use std::collections::BTreeMap;
use std::ops::Range;

/// How the one tensor lies in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StackedForm {
    /// (experts, out, in): the gate's rows, then those of up.
    Rows,
    /// (experts, in, out), a bias (experts, out): gate and up in turn.
    Columns,
    /// MXFP4 blocks (experts, out, in/32, 16) with their scales (experts, out, in/32): gate and up in turn.
    Blocks,
}

/// Where the tensor of an expert is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StackedExpert {
    /// The tensor of all experts; of blocks without `_blocks` and `_scales`.
    pub(super) name: String,
    /// The expert's number.
    pub(super) expert: usize,
    /// 0 the gate, 1 up; none: all.
    pub(super) half: Option<usize>,
    /// How it lies there.
    pub(super) form: StackedForm,
}

impl StackedExpert {
    /// The name of the tensor that holds its values.
    pub(super) fn stored_name(&self) -> String {
        if self.form == StackedForm::Blocks { self.blocks() } else { self.name.clone() }
    }

    /// The name of the tensor of blocks.
    pub(super) fn blocks(&self) -> String {
        format!("{}_blocks", self.name)
    }

    /// The name of the tensor of scales.
    pub(super) fn scales(&self) -> String {
        format!("{}_scales", self.name)
    }

    /// The shape that the tensor of [`StackedExpert::stored_name`] must have, where one of `shape` is in it; `found` is its own.
    pub(super) fn asked(&self, shape: &[usize], found: &[usize]) -> Vec<usize> {
        let experts = found.first().copied().unwrap_or(0).max(self.expert + 1);
        let out = shape.first().copied().unwrap_or(0) * if self.half.is_some() { 2 } else { 1 };
        let inputs = shape.get(1).copied();
        match (self.form, inputs) {
            (_, None) => vec![experts, out],
            (StackedForm::Rows, Some(inputs)) => vec![experts, out, inputs],
            (StackedForm::Columns, Some(inputs)) => vec![experts, inputs, out],
            (StackedForm::Blocks, Some(inputs)) => vec![experts, out, inputs.div_ceil(mxfp4::BLOCK), mxfp4::BYTES],
        }
    }

    /// Its expert's range in the tensor of shape `all`, in units of `size` for each number.
    pub(super) fn whole(&self, all: &[usize], size: usize) -> Range<usize> {
        let one: usize = all.iter().skip(1).product::<usize>() * size;
        self.expert * one..(self.expert + 1) * one
    }

    /// Its own range, where it is one ([`StackedForm::Rows`]); `shape` is its own.
    pub(super) fn rows(&self, all: &[usize], shape: &[usize], size: usize) -> Range<usize> {
        let one: usize = shape.iter().product::<usize>() * size;
        let first = self.whole(all, size).start + self.half.unwrap_or(0) * one;
        first..first + one
    }

    /// Its tensor of `shape` from its expert's of [`StackedForm::Columns`], (in, out) or (out).
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub(super) fn column(&self, expert: &Tensor, shape: &[usize]) -> Result<Tensor, Error> {
        let own = match self.half {
            None => expert.clone(),
            Some(half) => {
                let last = expert.rank();
                let mut pairs = expert.dims().to_vec();
                pairs[last - 1] /= 2;
                pairs.push(2);
                expert.reshape(pairs)?.narrow(last, half, 1)?.squeeze(last)?
            }
        };
        Ok(if shape.len() == 2 { own.t()?.contiguous()? } else { own.contiguous()? })
    }

    /// Its tensor of `shape` (out, in) in f32 from the bytes of its expert's blocks and scales.
    ///
    /// # Errors
    /// When the width is no multiple of a block's.
    pub(super) fn dequantised(&self, blocks: &[u8], scales: &[u8], shape: &[usize]) -> Result<Tensor, Error> {
        let (out, width) = (shape[0], shape[1]);
        if !width.is_multiple_of(mxfp4::BLOCK) {
            return Err(Error::Invalid(format!(
                "{} is in MXFP4, whose blocks have {} values, but a row has {width}: the file and config.json do not belong \
                 together; download both again",
                self.name,
                mxfp4::BLOCK
            )));
        }
        let groups = width / mxfp4::BLOCK;
        let (step, first) = self.half.map_or((1, 0), |half| (2, half));
        let mut values = Vec::with_capacity(out * width);
        for row in (0..out).map(|row| row * step + first) {
            let blocks = &blocks[row * groups * mxfp4::BYTES..(row + 1) * groups * mxfp4::BYTES];
            mxfp4::dequantise(blocks, &scales[row * groups..(row + 1) * groups], &mut values);
        }
        Ok(Tensor::from_vec(values, (out, width), &Device::Cpu)?)
    }
}

/// Tensors with those of experts that lie in [`StackedForm::Columns`] joined to one of all experts; `place` says where a tensor
/// belongs.
///
/// # Errors
/// When an expert is missing.
pub(super) fn joined(
    tensors: BTreeMap<String, Tensor>,
    place: impl Fn(&str) -> Option<StackedExpert>,
) -> Result<BTreeMap<String, Tensor>, Error> {
    let mut rest = BTreeMap::new();
    let mut stacks: BTreeMap<String, BTreeMap<(usize, Option<usize>), Tensor>> = BTreeMap::new();
    for (name, tensor) in tensors {
        match place(&name) {
            Some(part) => {
                stacks.entry(part.name).or_default().insert((part.expert, part.half), tensor);
            }
            None => {
                rest.insert(name, tensor);
            }
        }
    }
    for (name, parts) in stacks {
        let count = parts.keys().map(|(expert, _)| expert + 1).max().unwrap_or(0);
        let mut experts = Vec::with_capacity(count);
        for expert in 0..count {
            let turned = |half: Option<usize>| {
                let part = parts.get(&(expert, half));
                part.map(|part| if part.rank() == 2 { part.t()?.contiguous() } else { Ok(part.clone()) }).transpose()
            };
            experts.push(match (turned(None)?, turned(Some(0))?, turned(Some(1))?) {
                (Some(all), ..) => all,
                (None, Some(gate), Some(up)) => {
                    let last = gate.rank();
                    let mut shape = gate.dims().to_vec();
                    shape[last - 1] *= 2;
                    Tensor::stack(&[gate, up], last)?.reshape(shape)?
                }
                _ => return Err(Error::Invalid(format!("{name} lacks expert {expert}; this is a bug"))),
            });
        }
        rest.insert(name, Tensor::stack(&experts, 0)?);
    }
    Ok(rest)
}
