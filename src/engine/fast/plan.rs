//! How a batch lies in memory: rows one after another without padding, what they share only once.
//!
//! Owns the map from (row, token) to a place in memory. Consecutive rows that begin with the same tokens become a prefix and
//! their branches: the prefix goes through the decoder once and every branch sees it, which gives the same numbers, since a
//! token depends on those before it alone. Refuses batches that name tokens or positions that do not exist.

use crate::engine::decoder::Decoder;
use crate::engine::error::Error;
use crate::engine::policy::Batch;
use tiebreak_kernels::attention::Segment;

/// Fewer tokens in common are not worth a prefix of their own.
const SHARED: usize = 8;

/// The tokens of a batch as they go through the decoder.
pub(super) struct Plan {
    /// The tokens.
    pub(super) ids: Vec<u32>,
    /// What sees what.
    pub(super) segments: Vec<Segment>,
    /// Cosines of each token's position, (tokens, head_dim/2).
    pub(super) cos: Vec<f32>,
    /// Sines, as the cosines.
    pub(super) sin: Vec<f32>,
    /// The place that predicts each scored token.
    pub(super) from: Vec<usize>,
    /// Each scored token.
    pub(super) target: Vec<u32>,
    /// Each valued place.
    pub(super) valued: Vec<usize>,
    /// 1 / temperature.
    pub(super) cold: f64,
    /// For every row its stretch of places and the first of them in the padded batch, by which dropout masks are drawn.
    pub(super) padded: Vec<(usize, usize, usize)>,
    /// Scored tokens and valued positions of each row.
    counts: Vec<(usize, usize)>,
}

/// Where a row lies: its first `prefix` tokens from one place on, the rest from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lie {
    shared: usize,
    prefix: usize,
    own: usize,
}

impl Lie {
    fn at(&self, token: usize) -> usize {
        if token < self.prefix { self.shared + token } else { self.own + token - self.prefix }
    }
}

impl Plan {
    /// Lays out a batch; with `share` common beginnings lie in memory once.
    ///
    /// # Errors
    /// When there is no token, or a row names one that the model or the row does not have.
    pub(super) fn new(decoder: &Decoder, batch: &Batch, share: bool) -> Result<Self, Error> {
        let longest = batch.check(decoder.config().vocab)?;
        let mut out = Self {
            ids: Vec::new(),
            segments: Vec::new(),
            cos: Vec::new(),
            sin: Vec::new(),
            from: Vec::new(),
            target: Vec::new(),
            valued: Vec::new(),
            cold: 1.0 / batch.temperature,
            padded: Vec::new(),
            counts: Vec::new(),
        };
        let mut positions = Vec::new();
        let mut lies = Vec::with_capacity(batch.rows.len());
        let mut r = 0;
        while r < batch.rows.len() {
            let (rows, prefix) = if share { family(batch, r) } else { (1, 0) };
            let shared = out.ids.len();
            out.lay(&batch.rows[r].ids[..prefix], 0, 0..0, &mut positions);
            for row in &batch.rows[r..r + rows] {
                let own = out.ids.len();
                lies.push(Lie { shared, prefix, own });
                if row.starts.len() > 1 {
                    let ends = row.starts[1..].iter().copied().chain([row.ids.len()]);
                    for (start, end) in row.starts.iter().zip(ends) {
                        out.lay(&row.ids[*start..end], 0, 0..0, &mut positions);
                    }
                } else {
                    out.lay(&row.ids[prefix..], prefix, shared..shared + prefix, &mut positions);
                }
            }
            r += rows;
        }
        for (r, (row, lie)) in batch.rows.iter().zip(&lies).enumerate() {
            out.from.extend(row.scored.iter().map(|at| lie.at(at - 1)));
            out.target.extend(row.scored.iter().map(|at| row.ids[*at]));
            out.valued.extend(row.valued.iter().map(|at| lie.at(*at)));
            out.counts.push((row.scored.len(), row.valued.len()));
            out.padded.push((lie.own, lie.own + row.ids.len() - lie.prefix, r * longest));
        }
        let angles = decoder.angles(positions.into_iter());
        out.cos = angles.iter().map(|a| a.cos() as f32).collect();
        out.sin = angles.iter().map(|a| a.sin() as f32).collect();
        Ok(out)
    }

    /// Adds tokens from a position on as a segment that sees `prefix`.
    fn lay(&mut self, ids: &[u32], first: usize, prefix: std::ops::Range<usize>, positions: &mut Vec<usize>) {
        if ids.is_empty() {
            return;
        }
        let start = self.ids.len();
        self.ids.extend_from_slice(ids);
        positions.extend(first..first + ids.len());
        self.segments.push(Segment { prefix, own: start..self.ids.len() });
    }

    /// Tokens.
    pub(super) fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Scored tokens and valued positions of each row.
    pub(super) fn counts(&self) -> impl Iterator<Item = (usize, usize)> {
        self.counts.iter().copied()
    }
}

/// How many rows from `first` on share a beginning, and how long it is.
fn family(batch: &Batch, first: usize) -> (usize, usize) {
    let head = &batch.rows[first];
    if head.starts.len() > 1 {
        return (1, 0);
    }
    let (mut rows, mut prefix) = (1, head.ids.len());
    for row in &batch.rows[first + 1..] {
        let common = head.ids.iter().zip(&row.ids).take_while(|(a, b)| a == b).count().min(prefix);
        // A row that shares much less than the others would cost them more than it saves.
        let worth = common >= SHARED && (rows == 1 || 2 * common >= prefix);
        if row.starts.len() > 1 || !worth {
            break;
        }
        prefix = common;
        rows += 1;
    }
    if rows == 1 { (1, 0) } else { (rows, prefix) }
}

/// Whether some adapter of `decoder` has dropout.
pub(super) fn drops(decoder: &Decoder) -> bool {
    let all = |l: &crate::engine::decoder::Layer| {
        [&l.q, &l.k, &l.v, &l.o, &l.gate, &l.up, &l.down]
            .iter()
            .any(|linear| linear.lora.as_ref().is_some_and(|lora| lora.dropout > 0.0))
    };
    decoder.layers().iter().any(all)
}
