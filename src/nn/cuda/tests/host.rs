//! The kernels' sources, compiled by a C++ compiler and run on the CPU, against the composed operations. Skipped without
//! a compiler.

use super::super::blocks::{self, MatrixLayout, matrix_layout};
use super::super::composed::COMPOSED;
use super::super::layout::Part;
use super::super::leaf::{AdapterPart, HeadShape, LogitGradInput};
use crate::model::layer::Activation;
use crate::nn::toy::flat;
use crate::nn::{stream, uniform};
use candle_core::{DType, Device, Tensor};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tiebreak_kernels::adam::Adam;
use tiebreak_kernels::attention::AttentionSegment;

/// The program that runs kernels, in a temporary folder; none without a compiler.
struct Host(tempfile::TempDir);

impl Host {
    fn new() -> Option<Self> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/nn/cuda/kernels/host.cpp");
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("c++");
        command.args(["-std=c++20", "-O1", "-pthread", "-o"]).arg(folder.path().join("host")).arg(here);
        let Ok(done) = command.output() else {
            eprintln!("no C++ compiler here: the kernels' sources were not run");
            return None;
        };
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        Some(Self(folder))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("host")
    }

    /// Runs a kernel and returns the arrays afterwards. An empty tensor is passed as null.
    fn run(&self, name: &str, grid: [usize; 3], counts: &[usize], reals: &[f64], arrays: &[&Tensor]) -> Vec<Tensor> {
        let mut bytes = Vec::new();
        let mut number = |n: usize| bytes.extend(u32::try_from(n).unwrap().to_le_bytes());
        number(name.len());
        bytes.extend(name.as_bytes());
        let mut number = |n: usize| bytes.extend(u32::try_from(n).unwrap().to_le_bytes());
        for n in grid {
            number(n);
        }
        number(counts.len());
        for n in counts {
            number(*n);
        }
        number(reals.len());
        for x in reals {
            number((*x as f32).to_bits() as usize);
        }
        number(arrays.len());
        for array in arrays {
            let own = raw(array);
            bytes.extend((own.len() as u32).to_le_bytes());
            bytes.extend(own);
        }
        let mut child = Command::new(self.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success(), "{name}: {:?}", done.status);
        let mut left = &done.stdout[..];
        let back = |array: &&Tensor| {
            let (own, rest) = left.split_at(array.elem_count() * array.dtype().size_in_bytes());
            left = rest;
            Tensor::from_raw_buffer(own, array.dtype(), array.dims(), &Device::Cpu).unwrap()
        };
        arrays.iter().map(back).collect()
    }
}

fn raw(t: &Tensor) -> Vec<u8> {
    let t = t.flatten_all().unwrap();
    match t.dtype() {
        DType::U32 => t.to_vec1::<u32>().unwrap().iter().flat_map(|x| x.to_le_bytes()).collect(),
        DType::BF16 => t.to_vec1::<half::bf16>().unwrap().iter().flat_map(|x| x.to_le_bytes()).collect(),
        _ => t.to_vec1::<f32>().unwrap().iter().flat_map(|x| x.to_le_bytes()).collect(),
    }
}

fn noise(seed: u64, shape: &[usize], dtype: DType) -> Tensor {
    let rng = &mut stream(seed, 9);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| (uniform(rng) * 4.0 - 2.0) as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

fn zeros(shape: &[usize], dtype: DType) -> Tensor {
    Tensor::zeros(shape, dtype, &Device::Cpu).unwrap()
}

/// Equal within the type's precision, relative to the largest value.
fn near(what: &str, got: &Tensor, want: &Tensor) {
    let (dtype, shape) = (got.dtype(), got.dims().to_vec());
    let (got, want) = (flat(got), flat(want));
    assert!(got.len() == want.len(), "{what}: {shape:?}");
    let most = want.iter().fold(1e-3, |m: f64, x| m.max(x.abs()));
    let tolerance = if dtype == DType::BF16 { 1e-2 } else { 1e-5 };
    for (i, (a, b)) in got.iter().zip(&want).enumerate() {
        assert!((a - b).abs() <= tolerance * most, "{what}, number {i} of {shape:?}: {a} and not {b}");
    }
}

#[test]
fn row_kernels_equal_the_composed_operations() {
    let Some(host) = Host::new() else { return };
    let (f, b) = (DType::F32, DType::BF16);
    let (n, width, eps) = (5, 70, 1e-5);
    for (x, gamma, y, name) in [(f, b, b, "norm_fbb"), (b, f, b, "norm_bfb"), (f, f, f, "norm_fff")] {
        let (x, gamma) = (noise(1, &[n, width], x), noise(2, &[width], gamma));
        let got = host.run(name, [n, 1, 64], &[width], &[eps], &[&x, &gamma, &zeros(&[n, width], y)]);
        near(name, &got[2], &(COMPOSED.norm)(&x, &gamma, eps, y).unwrap());
    }
    let on = noise(3, &[n, width], f);
    for (x, name, on) in [(f, "norm_back_fbb", Some(&on)), (b, "norm_back_bbb", None)] {
        let (x, gamma, dy) = (noise(4, &[n, width], x), noise(5, &[width], b), noise(6, &[n, width], b));
        let none = zeros(&[0], f);
        let arrays = [&x, &gamma, &dy, on.unwrap_or(&none), &zeros(&[n, width], f)];
        let got = host.run(name, [n, 1, 64], &[width], &[eps], &arrays);
        near(name, &got[4], &(COMPOSED.norm_back)(&x, &gamma, eps, &dy, on, false).unwrap().0);
    }
    let shape = HeadShape::full(4, 2, 6);
    for (dtype, name) in [(b, "turn_b"), (f, "turn_f")] {
        let (x, cos, sin) = (noise(7, &[n, 48], dtype), noise(8, &[n, 3], f), noise(9, &[n, 3], f));
        for back in [false, true] {
            let side = if back { -1.0 } else { 1.0 };
            let got = host.run(name, [n, 1, 32], &[6, 8, 3], &[side], &[&x, &cos, &sin, &zeros(&[n, 48], dtype)]);
            near(name, &got[3], &(COMPOSED.rotate)(&x, &cos, &sin, shape, back).unwrap());
        }
    }
    let (both, d) = (noise(10, &[n, 86], b), noise(11, &[n, 43], b));
    let got = host.run("swiglu_b", [n, 1, 64], &[43], &[], &[&both, &zeros(&[n, 43], b)]);
    near("swiglu", &got[1], &(COMPOSED.gated)(&both, Activation::Silu).unwrap());
    let got = host.run("swiglu_back_b", [n, 1, 64], &[43], &[], &[&both, &d, &zeros(&[n, 86], b)]);
    near("swiglu_back", &got[2], &(COMPOSED.gated_back)(&both, &d, Activation::Silu).unwrap());
    let got =
        host.run("plus_b", [2, 1, 64], &[n * width], &[], &[&on, &noise(12, &[n, width], b), &zeros(&[n, width], f)]);
    near("plus", &got[2], &(COMPOSED.add_f32)(&on, &noise(12, &[n, width], b)).unwrap());
}

#[test]
fn logit_and_update_kernels_equal_the_composed_operations() {
    let Some(host) = Host::new() else { return };
    let (f, vocab, inv_temp) = (DType::F32, 301, 0.8);
    let z = (noise(1, &[4, vocab], f) * 3.0).unwrap();
    // One token is the argmax, one ties with an earlier one.
    let mut logits = flat(&z);
    (logits[vocab + 7], logits[2 * vocab + 3], logits[2 * vocab + 90]) = (9.0, 9.0, 9.0);
    let z = Tensor::from_vec(logits, (4, vocab), &Device::Cpu).unwrap().to_dtype(f).unwrap();
    let target = Tensor::new(&[0u32, 7, 90, 300], &Device::Cpu).unwrap();
    for (dtype, name) in [(DType::BF16, "tell_b"), (f, "tell_f")] {
        let arrays = [&z, &target, &zeros(&[4, 5], f), &zeros(&[4, vocab], dtype)];
        let got = host.run(name, [4, 1, 64], &[vocab], &[inv_temp], &arrays);
        let want = (COMPOSED.logit_stats)(&z, &target, inv_temp, dtype).unwrap();
        near(name, &got[2], &want.stats);
        near(name, &got[3], &want.p);
        assert_eq!([flat(&got[2])[7], flat(&got[2])[12]], [1.0, 0.0], "the first of equals is the argmax");
    }
    let (logp, entropy) = (noise(2, &[4, 1], f), noise(3, &[4, 1], f));
    let none = zeros(&[0], f);
    for bend in [None, Some(&entropy)] {
        let arrays = [&z, &target, &logp, bend.unwrap_or(&none), &zeros(&[4, vocab], f)];
        let got = host.run("tell_back_f", [4, 1, 64], &[vocab], &[inv_temp], &arrays);
        let input = LogitGradInput { target: &target, logp: &logp, entropy: bend, inv_temp };
        near("tell_back", &got[4], &(COMPOSED.logits_backward)(&z, &input, f).unwrap());
    }
    let by = Adam { scale: 0.5, beta1: 0.9, beta2: 0.99, bias2: 0.3, eps: 1e-8, rate: 0.01, keep: 0.999 };
    let numbers = [by.scale, by.beta1, by.beta2, 1.0 - by.beta1, 1.0 - by.beta2, 1.0 / by.bias2, by.eps, by.rate];
    let four = |n: usize, seed: u64| {
        let [x, g, m, v] = [0, 1, 2, 3].map(|i| noise(seed + i, &[n], f));
        [x, g, m, v.abs().unwrap()]
    };
    let both: Vec<Tensor> = four(333, 20).into_iter().chain(four(40, 30)).collect();
    let keep = Tensor::new(&[by.keep as f32, 1.0], &Device::Cpu).unwrap();
    let arrays: Vec<&Tensor> = both.iter().chain([&keep]).collect();
    let got = host.run("adamw", [3, 2, 32], &[333, 40], &numbers, &arrays);
    for (first, keep) in [(0, by.keep), (4, 1.0)] {
        let mut four: Vec<Vec<f32>> = both[first..first + 4].iter().map(|t| t.to_vec1().unwrap()).collect();
        let [x, g, m, v] = &mut four[..] else { panic!("four") };
        tiebreak_kernels::adam::adamw(x, g, m, v, Adam { keep, ..by });
        for i in [0, 2, 3] {
            near("adamw", &got[first + i], &Tensor::new(four[i].as_slice(), &Device::Cpu).unwrap());
        }
    }
    let got = host.run("squares", [3, 2, 32], &[333, 40], &[], &[&both[1], &both[5], &zeros(&[2, 3], f)]);
    let want: Vec<f64> = [&both[1], &both[5]].map(|t| flat(t).iter().map(|x| x * x).sum()).into();
    near("squares", &got[2].sum(1).unwrap(), &Tensor::new(want, &Device::Cpu).unwrap());
}

#[test]
fn stacked_adapters_equal_the_composed_operation() {
    let Some(host) = Host::new() else { return };
    let f = DType::F32;
    let (a, b) = (noise(1, &[2, 9], f), noise(2, &[5, 2], f));
    let (a2, b2) = (noise(3, &[3, 9], f), noise(4, &[4, 3], f));
    let device = &Device::Cpu;
    let parts = [
        AdapterPart { adapter: Some((&a, &b, 0.5)), rows: 5, device },
        AdapterPart { adapter: None, rows: 3, device },
        AdapterPart { adapter: Some((&a2, &b2, 2.0)), rows: 4, device },
    ];
    let (want_a, want_b) = (COMPOSED.stack_adapters)(&parts, DType::BF16).unwrap();
    assert_eq!((want_a.dims(), want_b.dims()), (&[5, 9][..], &[12, 5][..]));
    let none = zeros(&[0], f);
    let out = [zeros(&[5, 9], DType::BF16), zeros(&[12, 5], DType::BF16)];
    let arrays = [&a, &b, &none, &none, &a2, &b2, &out[0], &out[1]];
    let got = host.run("join_b", [2, 1, 32], &[2, 5, 0, 3, 3, 4, 9], &[0.5, 0.0, 2.0], &arrays);
    near("A", &got[6], &want_a);
    near("B", &got[7], &want_b);
}

/// A prompt with two branches, one of them of one token, and a document of its own.
fn segments() -> Vec<AttentionSegment> {
    let lie = |prefix, own| AttentionSegment { prefix, own };
    vec![lie(0..0, 0..70), lie(0..70, 70..171), lie(0..70, 171..172), lie(0..0, 172..205)]
}

#[test]
fn attention_kernels_equal_the_composed_operation() {
    let Some(host) = Host::new() else { return };
    let (segments, n) = (segments(), 205);
    let part = Part::of(segments.clone(), &Device::Cpu).unwrap();
    let queries = blocks::queries(&segments);
    let keys = blocks::keys(&segments);
    assert_eq!(keys[..2], [[0, 64, 172], [64, 70, 172]], "branches attend to the prefix");
    let tensor = |x: Vec<u32>| Tensor::new(x, &Device::Cpu).unwrap();
    let (all, of_keys) = (tensor(queries.concat()), tensor(keys.concat()));
    for (width, heads, kv_heads) in [(64, 4, 2), (128, 2, 1)] {
        let shape = HeadShape::full(heads, kv_heads, width);
        let (wide, stride) = (heads * width, (heads + 2 * kv_heads) * width);
        let (qkv, dout) = (noise(30, &[n, stride], DType::BF16), noise(31, &[n, wide], DType::BF16));
        let (counts, scale) = ([heads, kv_heads], [1.0 / (width as f64).sqrt()]);
        let name = |what: &str| format!("{what}_{width}");
        let threads = blocks::THREADS;
        let outs = [&qkv, &all, &zeros(&[n, wide], DType::BF16), &zeros(&[n, heads], DType::F32)];
        let got = host.run(&name("attend"), [queries.len(), heads, threads], &counts, &scale, &outs);
        let (out, lse) = (COMPOSED.attend)(&qkv, &part, shape).unwrap();
        near("attention", &got[2], &out);
        near("log-sums", &got[3], &lse);
        let along =
            host.run(&name("delta"), [n, 1, 32], &counts[..1], &[], &[&out, &dout, &zeros(&[n, heads], DType::F32)]);
        let mut dqkv = zeros(&[n, stride], DType::BF16);
        for (what, blocks, of, columns) in
            [("queries_back", &all, queries.len(), heads), ("keys_back", &of_keys, keys.len(), kv_heads)]
        {
            let arrays = [&qkv, blocks, &dout, &lse, &along[2], &dqkv];
            dqkv = host.run(&name(what), [of, columns, threads], &counts, &scale, &arrays).remove(5);
        }
        let want = (COMPOSED.attend_back)(&qkv, &out, &lse, &dout, &part, shape).unwrap();
        for (what, first, columns) in [("queries", 0, wide), ("keys and values", wide, stride - wide)] {
            let cut = |t: &Tensor| t.narrow(1, first, columns).unwrap().contiguous().unwrap();
            near(what, &cut(&dqkv), &cut(&want));
        }
        let most = 100 << 10;
        assert!(blocks::shared_back(width) < most && blocks::shared_forward(width) < blocks::shared_back(width));
    }
}

/// cuBLAS as its manual describes it: column-major, `c = op(a)·op(b)`.
fn columns(
    (a, left): (&[f64], MatrixLayout),
    (b, right): (&[f64], MatrixLayout),
    (m, n, k): (usize, usize, usize),
) -> Vec<f64> {
    let at = |x: &[f64], layout: MatrixLayout, i: usize, j: usize| {
        if layout.transposed { x[j + i * layout.ld] } else { x[i + j * layout.ld] }
    };
    let cell = |i: usize, j: usize| (0..k).map(|l| at(a, left, i, l) * at(b, right, l, j)).sum();
    (0..n).flat_map(|j| (0..m).map(move |i| (i, j))).map(|(i, j)| cell(i, j)).collect()
}

#[test]
fn matrix_layouts_are_what_cublas_expects() {
    for (m, k, n) in [(3, 4, 5), (1, 4, 5), (3, 1, 5), (3, 4, 1), (1, 1, 7), (1, 6, 1)] {
        for turned in 0..4 {
            let matrix = |seed: u64, rows: usize, columns: usize, turned: bool| {
                if turned {
                    noise(seed, &[columns, rows], DType::F32).t().unwrap()
                } else {
                    noise(seed, &[rows, columns], DType::F32)
                }
            };
            let (a, b) = (matrix(1, m, k, turned & 1 == 1), matrix(2, k, n, turned & 2 == 2));
            let lies = |t: &Tensor, turned: bool| {
                let stored = if turned { t.t().unwrap() } else { t.clone() };
                (flat(&stored.contiguous().unwrap()), matrix_layout(t.dims(), t.stride()).unwrap())
            };
            let ((a_values, left), (b_values, right)) = (lies(&a, turned & 1 == 1), lies(&b, turned & 2 == 2));
            // In columns cᵀ = bᵀ·aᵀ, and c in rows is cᵀ in columns.
            let got = columns((&b_values, right), (&a_values, left), (n, m, k));
            let want = flat(&a.matmul(&b).unwrap());
            assert!(got.iter().zip(&want).all(|(x, y)| (x - y).abs() < 1e-5), "{m} {k} {n} {turned}");
        }
    }
    // Columns of a wider matrix are fine, every second number is not.
    assert_eq!(matrix_layout(&[3, 4], &[9, 1]), Some(MatrixLayout { transposed: false, ld: 9 }));
    assert_eq!(matrix_layout(&[3, 4], &[8, 2]), None);
}

/// With NaN at one place.
fn poisoned(t: &Tensor, at: usize) -> Tensor {
    let mut values: Vec<f32> = flat(t).into_iter().map(|x| x as f32).collect();
    values[at] = f32::NAN;
    Tensor::from_vec(values, t.dims(), &Device::Cpu).unwrap().to_dtype(t.dtype()).unwrap()
}

#[test]
fn every_kernel_propagates_nan() {
    let Some(host) = Host::new() else { return };
    let (f, b) = (DType::F32, DType::BF16);
    let (n, width, eps, vocab) = (3, 70, 1e-5, 301);
    let none = |what: &str, t: &Tensor, at: &dyn Fn(usize) -> bool| {
        for (i, x) in flat(t).iter().enumerate() {
            assert!(x.is_nan() == at(i) || x.is_nan(), "{what}: number {i} is {x}");
        }
    };
    let row = |of: usize, width: usize| move |i: usize| i / width == of;
    let (x, gamma) = (poisoned(&noise(1, &[n, width], f), width + 5), noise(2, &[width], f));
    let got = host.run("norm_fff", [n, 1, 64], &[width], &[eps], &[&x, &gamma, &zeros(&[n, width], f)]);
    none("norm", &got[2], &row(1, width));
    none("norm", &(COMPOSED.norm)(&x, &gamma, eps, f).unwrap(), &row(1, width));
    let (both, d) = (poisoned(&noise(10, &[n, 86], b), 86 + 4), noise(11, &[n, 43], b));
    let got = host.run("swiglu_b", [n, 1, 64], &[43], &[], &[&both, &zeros(&[n, 43], b)]);
    none("swiglu", &got[1], &|i| i == 43 + 4);
    none("swiglu", &(COMPOSED.gated)(&both, Activation::Silu).unwrap(), &|i| i == 43 + 4);
    let got = host.run("swiglu_back_b", [n, 1, 64], &[43], &[], &[&both, &d, &zeros(&[n, 86], b)]);
    none("swiglu_back", &got[2], &|i| i == 86 + 4 || i == 86 + 43 + 4);
    // The vocabulary: all statistics of the row, and its whole gradient.
    let target = Tensor::new(&[0u32, 7, 90], &Device::Cpu).unwrap();
    for at in [0, 8, 300] {
        let z = poisoned(&noise(1, &[3, vocab], f), vocab + at);
        let arrays = [&z, &target, &zeros(&[3, 5], f), &zeros(&[3, vocab], f)];
        let got = host.run("tell_f", [3, 1, 64], &[vocab], &[0.8], &arrays);
        let want = (COMPOSED.logit_stats)(&z, &target, 0.8, f).unwrap();
        for (stats, p) in [(&got[2], &got[3]), (&want.stats, &want.p)] {
            none("tell", stats, &row(1, 5));
            none("softmax", p, &row(1, vocab));
        }
        let logp = noise(2, &[3, 1], f);
        let arrays = [&z, &target, &logp, &zeros(&[0], f), &zeros(&[3, vocab], f)];
        none("tell_back", &host.run("tell_back_f", [3, 1, 64], &[vocab], &[0.8], &arrays)[4], &row(1, vocab));
        let input = LogitGradInput { target: &target, logp: &logp, entropy: None, inv_temp: 0.8 };
        none("tell_back", &(COMPOSED.logits_backward)(&z, &input, f).unwrap(), &row(1, vocab));
    }
    // Attention: a query affects itself, a key and a value all queries that attend to them.
    let (segments, n, heads, kv_heads, width) = (segments(), 205, 2, 1, 64);
    let part = Part::of(segments.clone(), &Device::Cpu).unwrap();
    let queries = blocks::queries(&segments);
    let all = Tensor::new(queries.concat(), &Device::Cpu).unwrap();
    let (shape, stride) = (HeadShape::full(heads, kv_heads, width), (heads + 2 * kv_heads) * width);
    let clean = noise(30, &[n, stride], b);
    let sees = |query: usize, key: usize| {
        let own = segments.iter().find(|s| s.own.contains(&query)).unwrap();
        own.prefix.contains(&key) || (own.own.contains(&key) && key <= query)
    };
    for token in [0, 69, 100] {
        for (column, what) in [(3, "query"), (heads * width + 3, "key"), ((heads + 1) * width + 3, "value")] {
            let qkv = poisoned(&clean, token * stride + column);
            let outs = [&qkv, &all, &zeros(&[n, heads * width], b), &zeros(&[n, heads], f)];
            let got = host.run(
                "attend_64",
                [queries.len(), heads, blocks::THREADS],
                &[heads, kv_heads],
                &[1.0 / (width as f64).sqrt()],
                &outs,
            );
            let (out, lse) = (COMPOSED.attend)(&qkv, &part, shape).unwrap();
            for (out, lse) in [(&got[2], &got[3]), (&out, &lse)] {
                none(what, out, &|i| {
                    let (t, h, k) = (i / (heads * width), i / width % heads, i % width);
                    match what {
                        "query" => t == token && h == 0,
                        "key" => sees(t, token),
                        _ => sees(t, token) && k == 3,
                    }
                });
                none(what, lse, &|i| {
                    let (t, h) = (i / heads, i % heads);
                    match what {
                        "query" => t == token && h == 0,
                        "key" => sees(t, token),
                        _ => false,
                    }
                });
            }
        }
    }
}
