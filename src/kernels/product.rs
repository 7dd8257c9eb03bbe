//! Matrix products on strided views of f32: the only caller of the gemm crate.
//!
//! Owns the check that a view is within its slice. Panics when dimensions do not fit.

use crate::transpose::transpose;
use gemm::Parallelism;
use rayon::prelude::*;
use std::cell::Cell;

/// Rows of gemm's inner kernel.
const TILE: usize = 16;

/// Rows per thread from which they are split over threads here.
const SHARED: usize = 64;

/// Rows from which a column-major factor is transposed first.
const TRANSPOSE_ROWS: usize = 64;

/// Elements of a product up to which gemm uses another algorithm.
const SMALLEST: usize = 16 * 16;

thread_local! {
    /// Buffer for a transposed factor.
    static TRANSPOSED: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// A matrix within a slice: element (i, j) is `data[i · rows + j · columns]`.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    data: &'a [f32],
    /// Distance from one row to the next.
    rows: usize,
    /// Distance from one column to the next.
    columns: usize,
}

impl<'a> View<'a> {
    /// Rows one after another, `stride` numbers apart.
    #[must_use]
    pub fn rows(data: &'a [f32], stride: usize) -> Self {
        Self { data, rows: stride, columns: 1 }
    }

    /// The transpose of [`View::rows`].
    #[must_use]
    pub fn columns(data: &'a [f32], stride: usize) -> Self {
        Self { data, rows: 1, columns: stride }
    }

    /// The transpose.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self { data: self.data, rows: self.columns, columns: self.rows }
    }

    fn holds(&self, m: usize, n: usize) -> bool {
        m == 0
            || n == 0
            || last(m, self.rows)
                .zip(last(n, self.columns))
                .and_then(|(i, j)| i.checked_add(j))
                .is_some_and(|at| at < self.data.len())
    }
}

/// Whether a product overwrites the destination or is added to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteMode {
    /// It is overwritten, whatever it holds.
    Overwrite,
    /// The product is added.
    Add,
}

/// `c (m×n, rows stride apart) = [c +] factor · a (m×k) · b (k×n)` on the calling thread.
///
/// # Panics
/// When a view is too short for its dimensions.
pub fn product_here(
    c: &mut [f32],
    stride: usize,
    write: WriteMode,
    a: View<'_>,
    b: View<'_>,
    (m, n, k): (usize, usize, usize),
    factor: f32,
) {
    run(c, stride, write, a, b, (m, n, k), factor, Parallelism::None);
}

/// As [`product_here`] on all threads of rayon's pool.
///
/// # Panics
/// When a view is too short for its dimensions.
pub fn product(
    c: &mut [f32],
    stride: usize,
    write: WriteMode,
    a: View<'_>,
    b: View<'_>,
    (m, n, k): (usize, usize, usize),
    factor: f32,
) {
    if m == 0 || n == 0 || k == 0 {
        // Empty sums; gemm sets them to 0 if it overwrites.
        run(c, stride, write, a, b, (m, n, k), factor, Parallelism::None);
        return;
    }
    // gemm packs a column-major factor element by element, once per thread: slower than transposing it first. The sums stay
    // the same.
    // It also has another algorithm for the smallest products, with another order of sums: transposed, they use the usual one,
    // so that a row's bits do not depend on the number of rows. Adapters' few columns keep it: it rounds less.
    if (m >= TRANSPOSE_ROWS || (m * n <= SMALLEST && n >= TILE)) && b.rows == 1 && b.columns > 1 {
        assert!(b.holds(k, n), "a factor is too short");
        // Taken, not borrowed: this thread may run another product while it waits for the others.
        let mut copy = TRANSPOSED.take();
        copy.resize(copy.len().max(n * k), 0.0);
        transpose(b.data, b.columns, (n, k), &mut copy[..n * k]);
        shared(c, stride, write, a, View::rows(&copy[..n * k], n), (m, n, k), factor);
        TRANSPOSED.set(copy);
        return;
    }
    shared(c, stride, write, a, b, (m, n, k), factor);
}

/// As [`product`], without transposing.
fn shared(
    c: &mut [f32],
    stride: usize,
    write: WriteMode,
    a: View<'_>,
    b: View<'_>,
    (m, n, k): (usize, usize, usize),
    factor: f32,
) {
    let threads = rayon::current_num_threads();
    if threads == 1 || m < SHARED * threads {
        run(c, stride, write, a, b, (m, n, k), factor, Parallelism::Rayon(threads));
        return;
    }
    assert!(fits(c, stride, (m, n)) && a.holds(m, k), "a matrix is too short");
    // gemm alone leaves threads idle at the sizes of small models, so many rows are split here. Sums run along
    // k, which is not split.
    let part = m.div_ceil(threads).next_multiple_of(TILE);
    c.par_chunks_mut(part * stride).take(m.div_ceil(part)).enumerate().for_each(|(i, c)| {
        let first = i * part;
        let a = View { data: &a.data[first * a.rows..], ..a };
        run(c, stride, write, a, b, (part.min(m - first), n, k), factor, Parallelism::None);
    });
}

/// Whether m rows of n elements, `stride` apart, are within `c`.
fn fits(c: &[f32], stride: usize, (m, n): (usize, usize)) -> bool {
    n <= stride && last(m, stride).and_then(|at| at.checked_add(n)).is_some_and(|end| end <= c.len())
}

/// Offset of the last of `n` items `apart` from each other; none on overflow.
fn last(n: usize, apart: usize) -> Option<usize> {
    n.checked_sub(1)?.checked_mul(apart)
}

#[expect(clippy::too_many_arguments, reason = "a matrix product has that many")]
fn run(
    c: &mut [f32],
    stride: usize,
    write: WriteMode,
    a: View<'_>,
    b: View<'_>,
    (m, n, k): (usize, usize, usize),
    factor: f32,
    parallelism: Parallelism,
) {
    if m == 0 || n == 0 {
        return;
    }
    assert!(fits(c, stride, (m, n)), "the destination is too short");
    assert!(a.holds(m, k) && b.holds(k, n), "a factor is too short");
    let steps = [stride, a.columns, a.rows, b.columns, b.rows];
    assert!(steps.iter().all(|step| isize::try_from(*step).is_ok()), "a step is beyond any address");
    #[expect(unsafe_code, reason = "gemm takes pointers")]
    // SAFETY: the assertions above keep every access within the three slices, and `c` is borrowed mutably.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            stride as isize,
            write == WriteMode::Add,
            a.data.as_ptr(),
            a.columns as isize,
            a.rows as isize,
            b.data.as_ptr(),
            b.columns as isize,
            b.rows as isize,
            1.0,
            factor,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strided_products_equal_their_definition() {
        let (m, n, k) = (5, 7, 3);
        let a: Vec<f32> = (0..m * 4).map(|i| (i as f32 * 0.7).sin()).collect();
        let b: Vec<f32> = (0..n * 6).map(|i| (i as f32 * 0.3).cos()).collect();
        for write in [WriteMode::Overwrite, WriteMode::Add] {
            let mut c = vec![0.5f32; m * 9];
            // a (m×k) with rows 4 apart, b the transpose of (n×k) with rows 6 apart.
            product(&mut c, 9, write, View::rows(&a, 4), View::columns(&b, 6), (m, n, k), 2.0);
            for i in 0..m {
                for j in 0..9 {
                    let sum: f32 = (0..k).map(|p| a[i * 4 + p] * if j < n { b[j * 6 + p] } else { 0.0 }).sum();
                    let before = if write == WriteMode::Add || j >= n { 0.5 } else { 0.0 };
                    assert!((c[i * 9 + j] - before - 2.0 * sum).abs() < 1e-5);
                }
            }
        }
    }

    #[test]
    fn rows_split_over_threads_equal_those_of_one_thread() {
        let (m, n, k, stride, first) = (SHARED * rayon::current_num_threads() + 37, 5, 33, 17, 12);
        let a: Vec<f32> = (0..m * k).map(|i| (i as f32 * 0.7).sin()).collect();
        let b: Vec<f32> = (0..n * k).map(|i| (i as f32 * 0.3).cos()).collect();
        // Columns 12 to 16 of rows of 17: the last row ends where the slice does.
        let (mut here, mut there) = (vec![0.5f32; m * stride], vec![0.5f32; m * stride]);
        let (x, w) = (View::rows(&a, k), View::columns(&b, k));
        product_here(&mut here[first..], stride, WriteMode::Add, x, w, (m, n, k), 1.0);
        product(&mut there[first..], stride, WriteMode::Add, x, w, (m, n, k), 1.0);
        for (i, (a, b)) in here.iter().zip(&there).enumerate() {
            assert!((a - b).abs() < 1e-5 && (i % stride >= first || *b == 0.5), "{i}: {a} {b}");
        }
    }

    #[test]
    fn empty_sums_are_0() {
        for m in [0, 1, 500] {
            let mut c = vec![1.0f32; m * 3];
            product(&mut c, 3, WriteMode::Add, View::rows(&[], 0), View::rows(&[], 3), (m, 3, 0), 1.0);
            assert!(c.iter().all(|x| *x == 1.0));
            product(
                &mut c,
                3,
                WriteMode::Overwrite,
                View::rows(&[], 1).transposed(),
                View::columns(&[], 1),
                (m, 3, 0),
                1.0,
            );
            assert!(c.iter().all(|x| *x == 0.0));
        }
    }

    #[test]
    fn a_row_has_the_same_bits_whatever_the_other_rows() {
        for (n, k) in [(192, 576), (576, 192), (2048, 64), (16, 16), (16, 48), (40, 12)] {
            let a: Vec<f32> = (0..900 * k).map(|i| (i as f32 * 0.7).sin()).collect();
            let b: Vec<f32> = (0..n * k).map(|i| (i as f32 * 0.3).cos()).collect();
            let of = |m: usize| {
                let mut c = vec![0.0f32; m * n];
                product(&mut c, n, WriteMode::Overwrite, View::rows(&a, k), View::columns(&b, k), (m, n, k), 1.0);
                c
            };
            let most = of(900);
            for m in [2, 3, 5, 17, 64, 97, 128, 231, 512] {
                assert!(of(m) == most[..m * n], "{m} rows of {k} into {n}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "too short")]
    fn a_step_that_overflows_is_refused() {
        let mut c = [0.0; 4];
        // (3 − 1) · 2^63 is 0 in 64 bits.
        let far = View::rows(&[0.0; 8], 1 << 63);
        product_here(&mut c[..3], 1, WriteMode::Overwrite, far, View::rows(&[0.0; 4], 1), (3, 1, 2), 1.0);
    }

    #[test]
    #[should_panic(expected = "too short")]
    fn a_view_beyond_its_slice_is_refused() {
        let mut c = vec![0.0; 4];
        product_here(
            &mut c,
            2,
            WriteMode::Overwrite,
            View::rows(&[0.0; 3], 2),
            View::rows(&[0.0; 4], 2),
            (2, 2, 2),
            1.0,
        );
    }
}
