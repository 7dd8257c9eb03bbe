//! Every kernel propagates NaN.

use crate::adam::{Adam, adamw, squares};
use crate::attention::{AttentionSegment, AttentionShape, BackwardInputs, backward, fold, forward};
use crate::cached::{CachedShape, LayerCache, SeenPositions, attend};
use crate::leaf;
use crate::logits::{LogitStats, OnlineKl, OnlineSoftmax, accumulate, accumulate_kl, logits_backward};
use crate::packed::{Matrix, PackedInput, QuantFormat, TILE, products, untile};
use crate::product::{View, WriteMode, product};
use crate::softmax::{exp_weights, max_or_nan};

fn noise(n: usize, seed: f32) -> Vec<f32> {
    (0..n).map(|i| ((i as f32 + seed) * 12.9898).sin() * 1.3).collect()
}

/// Runs a kernel with NaN at each place of one input in turn; `depends(place, output)` says which outputs must then be NaN.
fn poison(
    what: &str,
    inputs: &[Vec<f32>],
    kernel: impl Fn(&[Vec<f32>]) -> Vec<f32>,
    depends: impl Fn(usize, usize, usize) -> bool,
) {
    assert!(kernel(inputs).iter().all(|x| x.is_finite()), "{what}");
    for input in 0..inputs.len() {
        for place in 0..inputs[input].len() {
            for nan in [f32::NAN, -f32::NAN] {
                let mut inputs = inputs.to_vec();
                inputs[input][place] = nan;
                for (i, y) in kernel(&inputs).iter().enumerate() {
                    assert!(
                        !depends(input, place, i) || y.is_nan(),
                        "{what}: input {input}[{place}], output {i} is {y}"
                    );
                }
            }
        }
    }
}

#[test]
fn leaf_operations_propagate_nan() {
    let (rows, width) = (3, 21);
    let (x, gamma, dy) = (noise(rows * width, 0.1), noise(width, 0.7), noise(rows * width, 0.5));
    poison(
        "rms_norm",
        &[x.clone(), gamma.clone()],
        |v| {
            let mut y = vec![0.0; rows * width];
            leaf::rms_norm(&v[0], &v[1], 1e-5, &mut y);
            y
        },
        |input, place, out| if input == 0 { place / width == out / width } else { place == out % width },
    );
    poison(
        "rms_norm_back",
        &[x.clone(), gamma.clone(), dy.clone()],
        |v| {
            let (mut dx, mut dgamma) = (vec![0.0; rows * width], vec![0.0; width]);
            leaf::rms_norm_back(&v[0], &v[1], 1e-5, &v[2], &mut dx, Some(&mut dgamma));
            dx.extend(dgamma);
            dx
        },
        |input, place, out| match (input, out < rows * width) {
            (1, true) => true,
            (_, true) => place / width == out / width,
            (0, false) => true,
            (1, false) => false,
            (_, false) => place % width == out - rows * width,
        },
    );
    let (both, d) = (noise(rows * 2 * width, 0.3), noise(rows * width, 0.4));
    poison(
        "swiglu",
        std::slice::from_ref(&both),
        |v| {
            let mut y = vec![0.0; rows * width];
            leaf::swiglu(&v[0], width, &mut y);
            y
        },
        |_, place, out| place / (2 * width) == out / width && place % width == out % width,
    );
    poison(
        "swiglu_back",
        &[both, d],
        |v| {
            let mut back = vec![0.0; rows * 2 * width];
            leaf::swiglu_back(&v[0], width, &v[1], &mut back);
            back
        },
        |input, place, out| {
            let (row, column, is_up) = (out / (2 * width), out % width, out % (2 * width) >= width);
            match input {
                // dL/dup does not depend on up.
                0 => place / (2 * width) == row && place % width == column && !(is_up && place % (2 * width) >= width),
                _ => place / width == row && place % width == column,
            }
        },
    );
    poison(
        "gated",
        &[x.clone(), dy.clone()],
        |v| {
            let mut y = vec![0.0; rows * width];
            leaf::gated(&v[0], &v[1], &mut y);
            y
        },
        |_, place, out| place == out,
    );
    let (tokens, stride, head) = (3, 12, 6);
    let tables = [noise(tokens * head / 2, 0.2), noise(tokens * head / 2, 0.9)];
    poison(
        "heads",
        &[noise(tokens * stride, 0.5), tables[0].clone(), tables[1].clone()],
        |v| {
            let mut y = vec![0.0; 2 * tokens * head];
            leaf::split_heads(&v[0], stride, 0, head, Some((&v[1], &v[2])), &mut y);
            let mut back = vec![0.0; tokens * stride];
            leaf::merge_heads(&y, stride, 0, head, Some((&v[1], &v[2])), &mut back);
            y.extend(back);
            y
        },
        |input, place, out| {
            let half = head / 2;
            let (token, k) = if out < 2 * tokens * head {
                (out / head % tokens, out % half)
            } else {
                ((out - 2 * tokens * head) / stride, (out - 2 * tokens * head) % half)
            };
            let at_head =
                if out < 2 * tokens * head { out / head / tokens } else { (out - 2 * tokens * head) % stride / head };
            match input {
                0 => place / stride == token && place % stride / head == at_head && place % half == k,
                _ => place / half == token && place % half == k,
            }
        },
    );
    poison(
        "sums and products",
        &[x.clone(), dy.clone()],
        |v| {
            let (mut sum, mut times, mut bias, mut columns) = (v[0].clone(), v[0].clone(), v[0].clone(), v[0].clone());
            leaf::scale_add(&mut sum, 0.5, &v[1]);
            leaf::multiply(&mut times, &v[1]);
            leaf::add_bias(&mut bias, width, 0, &v[1][..width]);
            leaf::scale_columns(&mut columns, width, &v[1][..width]);
            [sum, times, bias, columns].concat()
        },
        |input, place, out| {
            let n = rows * width;
            let (kind, out) = (out / n, out % n);
            if input == 0 || kind < 2 { place == out } else { place < width && place == out % width }
        },
    );
    let by = Adam { scale: 0.5, beta1: 0.9, beta2: 0.99, bias2: 0.3, eps: 1e-8, rate: 0.01, keep: 0.999 };
    let positive: Vec<f32> = noise(width, 0.8).iter().map(|x| x.abs()).collect();
    poison(
        "adamw",
        &[noise(width, 0.1), noise(width, 0.2), noise(width, 0.3), positive],
        |v| {
            let [mut x, mut m, mut s] = [v[0].clone(), v[2].clone(), v[3].clone()];
            assert!(adamw(&mut x, &v[1], &mut m, &mut s, by));
            x.push(squares(&v[1]) as f32);
            x
        },
        |input, place, out| if out == width { input == 1 } else { place == out },
    );
}

#[test]
fn products_propagate_nan() {
    let (m, n, k) = (5, 19, 7);
    poison(
        "product",
        &[noise(m * k, 0.1), noise(n * k, 0.2)],
        |v| {
            let mut c = vec![f32::NAN; m * n];
            product(&mut c, n, WriteMode::Overwrite, View::rows(&v[0], k), View::columns(&v[1], k), (m, n, k), 1.0);
            c
        },
        |input, place, out| if input == 0 { place / k == out / n } else { place / k == out % n },
    );
    let (out, width, rows) = (11, 64, 5);
    let bytes = |format: QuantFormat| -> (usize, &'static [usize], Vec<u8>) {
        let (size, scales): (usize, &[usize]) = match format {
            QuantFormat::Q4_0 => (18, &[0]),
            QuantFormat::Q4_1 => (20, &[0, 2]),
            _ => (34, &[0]),
        };
        let mut all: Vec<u8> = (0..out * width / 32 * size).map(|i| (i * 37 % 251) as u8).collect();
        for block in all.chunks_exact_mut(size) {
            for at in scales {
                (block[*at], block[at + 1]) = (0x10, 0x24);
            }
        }
        (size, scales, all)
    };
    let multiplied = |matrix: &Matrix, x: &[f32]| {
        let mut y = vec![0.0; matrix.tiles() * rows * TILE];
        products(&[matrix], &PackedInput::new(x, width, &[matrix]), &mut y);
        let mut to = vec![0.0; rows * out];
        untile(&y, rows, 0, out, &mut to);
        to
    };
    for format in [QuantFormat::Q4_0, QuantFormat::Q4_1, QuantFormat::Q8_0] {
        let (size, scales, all) = bytes(format);
        let of = |bytes: &[u8]| Matrix::blocks(format, bytes, out, width, |o| o).unwrap();
        let matrix = of(&all);
        poison(
            &format!("{format:?}"),
            &[noise(rows * width, 0.1)],
            |v| multiplied(&matrix, &v[0]),
            |_, place, y| place / width == y / out,
        );
        // Infinities are propagated as non-finite values.
        let mut x = noise(rows * width, 0.1);
        x[width + 3] = f32::INFINITY;
        let y = multiplied(&matrix, &x);
        assert!(y[out..2 * out].iter().all(|y| !y.is_finite()) && y[..out].iter().all(|y| y.is_finite()), "{format:?}");
        for (block, at) in (0..out * width / 32).flat_map(|block| scales.iter().map(move |at| (block, *at))) {
            let mut bad = all.clone();
            bad[block * size + at + 1] = 0x7e;
            let y = multiplied(&of(&bad), &noise(rows * width, 0.1));
            let o = block / (width / 32);
            assert!((0..rows).all(|r| y[r * out + o].is_nan()), "{format:?}, a scale of output {o}");
        }
    }
    for half in [false, true] {
        let weights: Vec<f32> = noise(out * width, 0.4);
        let cut = |x: &f32| if half { f32::from_bits(x.to_bits() & 0xffff_0000) } else { *x };
        let weights: Vec<f32> = weights.iter().map(cut).collect();
        poison(
            "floats",
            &[noise(rows * width, 0.1), weights],
            |v| multiplied(&Matrix::floats(&v[1], out, width), &v[0]),
            |input, place, y| if input == 0 { place / width == y / out } else { place / width == y % out },
        );
    }
}

#[test]
fn attention_propagates_nan() {
    let shape = AttentionShape::full(70, 2, 1, 4);
    let segments = [AttentionSegment { prefix: 0..0, own: 0..3 }, AttentionSegment { prefix: 0..3, own: 3..70 }];
    let (n, w) = (shape.tokens, shape.width);
    let size = n * w;
    let all = [noise(2 * size, 0.1), noise(size, 0.2), noise(size, 0.3), noise(2 * size, 0.4)];
    let run = |v: &[Vec<f32>]| {
        let (mut out, mut lse) = (vec![0.0; 2 * size], vec![0.0; 2 * n]);
        forward(&segments, shape, &v[0], &v[1], &v[2], &mut out, &mut lse);
        let [mut dq, mut dk, mut dv] = [0, 1, 2].map(|_| vec![0.0; 2 * size]);
        let inputs = BackwardInputs { q: &v[0], k: &v[1], v: &v[2], out: &out, lse: &lse, dout: &v[3] };
        backward(&segments, shape, inputs, &mut dq, &mut dk, &mut dv);
        let (mut dk_all, mut dv_all) = (vec![0.0; size], vec![0.0; size]);
        fold(&dk, shape, &mut dk_all);
        fold(&dv, shape, &mut dv_all);
        [out, lse, dq, dk_all, dv_all].concat()
    };
    // Every query attends to itself and all before it.
    let sees = |query: usize, key: usize| key <= query;
    poison("attention", &all, run, |input, place, y| {
        let (out, lse, dq) = (2 * size, 2 * size + 2 * n, 4 * size + 2 * n);
        let (head, token) = (place / size, place / w % n);
        if y < out {
            let (h, t, column) = (y / size, y / w % n, y % w);
            return match input {
                0 => head == h && token == t,
                1 => sees(t, token),
                2 => sees(t, token) && place % w == column,
                _ => false,
            };
        }
        if y < lse {
            let (h, t) = ((y - out) / n, (y - out) % n);
            return match input {
                0 => head == h && token == t,
                1 => sees(t, token),
                _ => false,
            };
        }
        if y < dq {
            let (h, t) = ((y - lse) / size, (y - lse) / w % n);
            return match input {
                0 | 3 => head == h && token == t,
                _ => sees(t, token),
            };
        }
        // A key's gradient: NaN from every query that attends to it.
        let (t, values, column) = ((y - dq) / w % n, y >= dq + size, y % w);
        match (input, values) {
            (0, _) => sees(token, t),
            (1, _) => token == t,
            (2, true) => false,
            (2, false) => token == t,
            (_, true) => sees(token, t) && place % w == column,
            (_, false) => sees(token, t),
        }
    });
}

#[test]
fn cached_attention_propagates_nan() {
    let (heads, kv, width, n) = (4, 2, 5, 7);
    let all = [noise(heads * width, 0.1), noise(n * kv * width, 0.2), noise(n * kv * width, 0.3)];
    let run = |v: &[Vec<f32>]| {
        let stride = kv * width;
        let mut spans = [LayerCache::default(), LayerCache::default()];
        for (at, (keys, values)) in v[1].chunks(stride).zip(v[2].chunks(stride)).enumerate() {
            spans[usize::from(at >= 3)].push(keys, values);
        }
        let mut out = vec![0.0; heads * width];
        let seen = SeenPositions { spans: [spans[0].first(3, stride), spans[1].first(n - 3, stride)], skipped: 0 };
        attend(&[seen], &v[0], CachedShape::full(heads, kv, width), &mut out);
        out
    };
    poison("attend", &all, run, |input, place, y| match input {
        0 => place / width == y / width,
        1 => place / width % kv == y / width / (heads / kv),
        _ => place / width % kv == y / width / (heads / kv) && place % width == y % width,
    });
}

#[test]
fn logit_statistics_propagate_nan() {
    let n = 37;
    for (target, block, inv_temp) in [(5, 37, 1.0), (5, 16, 0.7), (36, 10, 1.0)] {
        let stats = |z: &[f32]| {
            let (mut softmax, mut kept, mut last) = (OnlineSoftmax::new(target), 0.0, Vec::new());
            for part in z.chunks(block) {
                last = part.to_vec();
                let factor = accumulate(&mut softmax, &mut last, inv_temp);
                kept = kept * factor + last.iter().sum::<f32>();
            }
            (softmax, kept, last)
        };
        poison(
            "tell",
            &[noise(n, 0.1)],
            |v| {
                let (softmax, kept, _) = stats(&v[0]);
                let t = softmax.stats();
                let all = [t.logp, t.entropy, t.mean, t.collision, t.log_sum].map(|x| x as f32);
                let mut y = all.to_vec();
                y.extend([softmax.inverse_sum(), kept]);
                y
            },
            |_, _, _| true,
        );
        // There is no argmax with NaN.
        let mut z = noise(n, 0.1);
        z[target] = 9.0;
        assert!(stats(&z).0.stats().top1);
        z[(target + 1) % n] = f32::NAN;
        assert!(!stats(&z).0.stats().top1);
        for e in [0.0, -0.3] {
            let back = |v: &[Vec<f32>]| {
                let row: LogitStats = stats(&v[0]).0.stats();
                let mut z = v[0].clone();
                logits_backward(&mut z, 0, target, &row, inv_temp, 0.8, e);
                z
            };
            poison("logits_backward", &[noise(n, 0.1)], back, |_, _, _| true);
        }
        poison(
            "diverge",
            &[noise(n, 0.1), noise(n, 0.4)],
            |v| {
                let (mut kl, mut softmax) = (OnlineKl::default(), OnlineSoftmax::new(0));
                for (q, p) in v[0].chunks(block).zip(v[1].chunks(block)) {
                    accumulate_kl(&mut kl, q, p);
                    accumulate(&mut softmax, &mut p.to_vec(), 1.0);
                }
                vec![kl.from(&softmax.stats()) as f32]
            },
            |_, _, _| true,
        );
        poison(
            "weigh",
            &[noise(n, 0.1)],
            |v| {
                let mut w = vec![0.0; n];
                let mass = exp_weights(&v[0], 1.3, 0.8, &mut w);
                w.push(mass);
                w.push(f64::from(max_or_nan(&v[0])));
                w.iter().map(|w| *w as f32).collect()
            },
            |_, place, y| y == place || y >= n,
        );
    }
    assert!(
        max_or_nan(&[f32::NAN; 40]).is_nan() && exp_weights(&[f32::NAN; 40], f32::NAN, 1.0, &mut [0.0; 40]).is_nan()
    );
}
