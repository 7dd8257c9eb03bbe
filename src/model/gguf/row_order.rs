//! The order of a tensor's rows in a GGUF file, where it is another than Hugging Face's.
//!
//! Owns the two orders that llama.cpp has, and the permutation in both directions. Refuses to know files.

use crate::model::config::Config;
use crate::model::error::Error;
use candle_core::Tensor;

/// A file's rows are (outer, first, second, inner), Hugging Face's (outer, second, first, inner). The same holds for a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::model) struct RowOrder {
    outer: usize,
    first: usize,
    second: usize,
    inner: usize,
}

impl RowOrder {
    /// That of the tensor of a Hugging Face name with so many rows; none if it is Hugging Face's.
    ///
    /// # Errors
    /// When the heads do not share the rows evenly.
    pub(in crate::model) fn of(name: &str, rows: usize, config: &Config) -> Result<Option<Self>, Error> {
        let Some((_, part)) = config.named(name) else { return Ok(None) };
        let [q, k, ..] = config.family.names.linears;
        let uneven = |heads: usize| {
            Error::Invalid(format!("the tensor {name} has {rows} rows, which {heads} heads do not share evenly"))
        };
        if config.layer.by_head {
            // Files have all queries, all keys and all values; the module has them head by head.
            let heads = config.heads;
            if part != q {
                return Ok(None);
            }
            if heads == 0 || !rows.is_multiple_of(3 * heads) {
                return Err(uneven(heads));
            }
            return Ok(Some(Self { outer: 1, first: 3, second: heads, inner: rows / heads / 3 }));
        }
        if !config.family.gguf.interleaved {
            return Ok(None);
        }
        // llama.cpp pairs rows (2i, 2i+1) of a head, Hugging Face pairs (i, i + head_dim/2).
        let heads = if part == q {
            config.heads
        } else if part == k {
            config.kv_heads
        } else {
            return Ok(None);
        };
        if heads == 0 || !rows.is_multiple_of(2 * heads) {
            return Err(uneven(heads));
        }
        Ok(Some(Self { outer: heads, first: rows / heads / 2, second: 2, inner: 1 }))
    }

    /// A file's tensor in Hugging Face's order.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub(in crate::model) fn read(self, tensor: &Tensor) -> Result<Tensor, Error> {
        self.swapped(tensor, self.first, self.second)
    }

    /// A tensor in the file's order.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub(in crate::model) fn written(self, tensor: &Tensor) -> Result<Tensor, Error> {
        self.swapped(tensor, self.second, self.first)
    }

    fn swapped(self, tensor: &Tensor, first: usize, second: usize) -> Result<Tensor, Error> {
        let shape = tensor.dims().to_vec();
        let rest: usize = shape.iter().skip(1).product();
        let split = tensor.reshape((self.outer, first, second, self.inner * rest))?;
        Ok(split.transpose(1, 2)?.contiguous()?.reshape(shape)?)
    }

    /// The row of the file that is row `o` of Hugging Face.
    pub(in crate::model) fn row(self, o: usize) -> usize {
        let Self { first, second, inner, .. } = self;
        let (outer, place) = (o / (first * second * inner), o % (first * second * inner));
        let (at_second, at_first, at) = (place / (first * inner), place / inner % first, place % inner);
        ((outer * first + at_first) * second + at_second) * inner + at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn rows_are_found_and_written_where_they_lie() {
        for order in
            [RowOrder { outer: 2, first: 3, second: 2, inner: 1 }, RowOrder { outer: 1, first: 3, second: 4, inner: 5 }]
        {
            let rows = order.outer * order.first * order.second * order.inner;
            let file: Vec<u32> = (0..rows as u32 * 2).collect();
            let file = Tensor::from_vec(file, (rows, 2), &Device::Cpu).unwrap();
            let read = order.read(&file).unwrap();
            let first = |t: &Tensor| t.to_vec2::<u32>().unwrap().iter().map(|row| row[0] / 2).collect::<Vec<_>>();
            assert_eq!(first(&read), (0..rows).map(|o| order.row(o) as u32).collect::<Vec<_>>(), "{order:?}");
            assert_ne!(first(&read), first(&file), "{order:?}");
            assert_eq!(first(&order.written(&read).unwrap()), first(&file), "{order:?}");
        }
    }
}
