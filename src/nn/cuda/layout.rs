//! A batch's layout on the device.
//!
//! Owns the tensors of a [`BatchLayout`], and splits it between families of rows. Refuses to compute a layout itself.

#[cfg(feature = "cuda")]
use super::blocks::Blocks;
use crate::model::error::Error;
use crate::nn::contract::Batch;
use crate::nn::decoder::Decoder;
use crate::nn::layout::BatchLayout;
use candle_core::{Device, Tensor};
use std::ops::Range;
use tiebreak_kernels::attention::AttentionSegment;

/// The tokens of a batch as they go through the decoder.
pub(super) struct DeviceLayout {
    /// The layout on the CPU.
    pub(super) places: BatchLayout,
    /// The tokens, (tokens).
    pub(super) ids: Tensor,
    /// Each token's position in its row or document, (tokens).
    pub(super) positions: Tensor,
    /// The packed position that predicts each scored token, (n).
    pub(super) from: Tensor,
    /// Each scored token, (n).
    pub(super) target: Tensor,
    /// The packed position of each value.
    pub(super) valued: Tensor,
    /// Tokens of each family of rows.
    pub(super) pieces: Vec<usize>,
    whole: Part,
}

/// Families of rows that go through a layer together.
#[derive(Clone)]
pub(super) struct Part {
    /// Whether it is the whole batch.
    pub(super) whole: bool,
    /// Its packed positions in the batch.
    pub(super) places: Range<usize>,
    /// Which tokens attend to which, by positions in the part.
    pub(super) segments: Vec<AttentionSegment>,
    /// The segments as blocks for attention's kernels.
    #[cfg(feature = "cuda")]
    pub(super) blocks: Blocks,
    /// Cosines and sines of each token's position, (tokens, rotary/2), f32, from each RoPE table.
    pub(super) rope: Vec<(Tensor, Tensor)>,
    /// Ranges of packed positions, with each one's start in the padded batch, which seeds dropout masks.
    pub(super) padded: Vec<(Range<usize>, usize)>,
}

impl DeviceLayout {
    /// Lays out a batch; with `share`, shared prefixes are stored once.
    ///
    /// # Errors
    /// When there is no token, or a row names one that the model or the row does not have.
    pub(super) fn new(decoder: &Decoder, batch: &Batch, share: bool) -> Result<Self, Error> {
        let at = BatchLayout::new(decoder, batch, share)?;
        let device = decoder.device();
        let n = at.tokens();
        let table = |i: usize, values: &[f32]| Tensor::from_slice(values, (n, decoder.rotary().half(i)), device);
        let indices = |x: &[usize]| indices(x, device);
        let ends = at.families.iter().skip(1).copied().chain([n]);
        let whole = Part {
            whole: true,
            places: 0..n,
            #[cfg(feature = "cuda")]
            blocks: Blocks::new(&at.segments, device)?,
            segments: at.segments.clone(),
            rope: at
                .rope
                .iter()
                .enumerate()
                .map(|(i, (cos, sin))| Ok((table(i, cos)?, table(i, sin)?)))
                .collect::<Result<_, Error>>()?,
            padded: at.padded.iter().map(|(start, end, at)| (*start..*end, *at)).collect(),
        };
        Ok(Self {
            ids: Tensor::from_slice(&at.ids, n, device)?,
            positions: indices(&at.positions)?,
            from: indices(&at.from)?,
            target: Tensor::from_slice(&at.target, at.target.len(), device)?,
            valued: indices(&at.valued)?,
            pieces: at.families.iter().zip(ends).map(|(start, end)| end - start).collect(),
            whole,
            places: at,
        })
    }

    /// `count` families of rows from number `first` on.
    pub(super) fn part(&self, first: usize, count: usize) -> Result<Part, Error> {
        if count == self.pieces.len() {
            return Ok(self.whole.clone());
        }
        let start: usize = self.pieces[..first].iter().sum();
        let places = start..start + self.pieces[first..first + count].iter().sum::<usize>();
        let moved = |r: &Range<usize>| r.start.saturating_sub(start)..r.end.saturating_sub(start);
        let inside = |r: &&AttentionSegment| places.contains(&r.own.start);
        let shifted = |s: &AttentionSegment| AttentionSegment { prefix: moved(&s.prefix), own: moved(&s.own) };
        let segments: Vec<AttentionSegment> = self.whole.segments.iter().filter(inside).map(shifted).collect();
        let cut = |(cos, sin): &(Tensor, Tensor)| {
            Ok((cos.narrow(0, start, places.len())?, sin.narrow(0, start, places.len())?))
        };
        let padded = self.whole.padded.iter().filter(|(r, _)| places.contains(&r.start) && !r.is_empty());
        Ok(Part {
            whole: false,
            #[cfg(feature = "cuda")]
            blocks: Blocks::new(&segments, self.ids.device())?,
            segments,
            rope: self.whole.rope.iter().map(cut).collect::<Result<_, Error>>()?,
            padded: padded.map(|(r, at)| (moved(r), *at)).collect(),
            places,
        })
    }

    /// Scored tokens and valued positions of each row.
    pub(super) fn counts(&self) -> impl Iterator<Item = (usize, usize)> {
        self.places.counts()
    }
}

impl Part {
    /// Segments only, without RoPE tables.
    #[cfg(test)]
    pub(super) fn of(segments: Vec<AttentionSegment>, device: &Device) -> Result<Self, Error> {
        let places = 0..segments.last().map_or(0, |s| s.own.end);
        let none = Tensor::zeros((places.len(), 0), candle_core::DType::F32, device)?;
        Ok(Self {
            whole: true,
            #[cfg(feature = "cuda")]
            blocks: Blocks::new(&segments, device)?,
            places,
            segments,
            rope: vec![(none.clone(), none)],
            padded: Vec::new(),
        })
    }

    /// Tokens.
    pub(super) fn tokens(&self) -> usize {
        self.places.len()
    }

    /// Its rows of (tokens of the batch, …).
    pub(super) fn cut(&self, x: &Tensor) -> Result<Tensor, Error> {
        if self.whole { Ok(x.clone()) } else { Ok(x.narrow(0, self.places.start, self.places.len())?) }
    }
}

fn indices(x: &[usize], device: &Device) -> Result<Tensor, Error> {
    let narrow: Vec<u32> = x.iter().map(|at| *at as u32).collect();
    Ok(Tensor::from_vec(narrow, x.len(), device)?)
}
