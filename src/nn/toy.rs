//! Random models, adapters and batches, and the comparison of a backend with the reference in f64. For tests only.

use crate::model::family::{Defaults, Family, GgufFamily, TensorNames};
use crate::model::layer::{Activation, LayerPattern, LayerSpec, LogitCurve, NormKind, NormPlacement, QkNorm};
use crate::model::layer_kinds::{GlobalHeads, KeySharing, LayerKinds, PerLayerSpec};
use crate::model::{Config, LoraSpec, Tune, Weights};
use crate::model::{RopeScaling, RopeSpec};
use crate::nn::policy::{Batch, Policy, Row, RowGradient, TokenScores};
use crate::nn::{Decoder, stream, uniform};
use candle_core::{DType, Device, Tensor};
use rand_chacha::ChaCha8Rng;
use std::collections::HashMap;
use std::path::Path;

/// A model drawn at random.
pub(crate) struct Toy {
    pub(crate) config: Config,
    tensors: HashMap<String, Tensor>,
    score: Vec<f64>,
}

fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    (uniform(rng) * n as f64) as usize
}

fn noise(rng: &mut ChaCha8Rng, shape: &[usize]) -> Tensor {
    let n: usize = shape.iter().product();
    let width = *shape.last().unwrap() as f64;
    let values: Vec<f64> = (0..n).map(|_| (uniform(rng) - 0.5) * 4.0 / width.sqrt()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// A family with norms wherever a layer may have one, and these names.
const fn any(model_types: &'static [&'static str], names: &TensorNames) -> Family {
    Family {
        model_types,
        models: "",
        class: "",
        classifier: None,
        reads: &[],
        layer: LayerSpec::default,
        read: |_, _| Ok(()),
        defaults: Defaults::LLAMA,
        embedding_scale: |_| 1.0,
        names: *names,
        gguf: GgufFamily { architecture: "toy", ..GgufFamily::NONE },
    }
}

static PLAIN: Family = any(&["toy"], &TensorNames::SANDWICH);
static FUSED: Family = any(&["fused"], &TensorNames { fused: TensorNames::FUSED.fused, ..TensorNames::SANDWICH });
/// Without a gate.
static UNGATED: Family =
    any(&["ungated"], &TensorNames { linears: TensorNames::CODE.linears, ..TensorNames::SANDWICH });
/// Without a gate and fused.
static BY_HEAD: Family = any(
    &["by_head"],
    &TensorNames { linears: TensorNames::NEOX.linears, fused: TensorNames::NEOX.fused, ..TensorNames::SANDWICH },
);

/// Draws what a layer computes. A third of the models stay what their family says.
pub(crate) fn vary(rng: &mut ChaCha8Rng, config: &mut Config) {
    if below(rng, 3) == 0 {
        return;
    }
    config.family = [&PLAIN, &PLAIN, &FUSED, &UNGATED, &BY_HEAD][below(rng, 5)];
    let layer = &mut config.layer;
    layer.norms = [NormPlacement::Pre, NormPlacement::Post, NormPlacement::Sandwich][below(rng, 3)];
    layer.norm_offset = [0.0, 1.0][below(rng, 2)];
    layer.qk_norm = [QkNorm::No, QkNorm::Head, QkNorm::Width][below(rng, 3)];
    layer.activation =
        [Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::ReluSquared]
            [below(rng, 5)];
    (layer.qkv_bias, layer.o_bias, layer.mlp_bias) = (below(rng, 2) == 0, below(rng, 2) == 0, below(rng, 2) == 0);
    layer.norm = if layer.norm_offset == 0.0 && layer.qk_norm == QkNorm::No && below(rng, 2) == 0 {
        [NormKind::Layer, NormKind::Centred][below(rng, 2)]
    } else {
        NormKind::Rms
    };
    layer.gated = config.family != &UNGATED && config.family != &BY_HEAD;
    layer.parallel = below(rng, 3) == 0;
    layer.shared_norm = layer.parallel && layer.norms != NormPlacement::Post && below(rng, 2) == 0;
    layer.rope_pairs = layer.qk_norm == QkNorm::No && below(rng, 3) == 0;
    layer.by_head = config.heads == config.kv_heads && config.family.names.fused.is_some();
    layer.rope = if below(rng, 2) == 0 { LayerPattern::All } else { LayerPattern::Listed(vec![below(rng, 2) == 0]) };
    layer.windows = [LayerPattern::None, LayerPattern::All, LayerPattern::ExceptEvery(2)][below(rng, 3)].clone();
    layer.attention_scale = [None, Some(0.4)][below(rng, 2)];
    layer.attention_cap = [None, Some(1.3)][below(rng, 2)];
    layer.residual_scale = [1.0, 0.6][below(rng, 2)];
    layer.logits = [LogitCurve::NONE, LogitCurve { scale: 0.7, cap: None }, LogitCurve { scale: 1.2, cap: Some(2.5) }]
        [below(rng, 3)];
    config.window = (layer.windows != LayerPattern::None).then(|| 2 + below(rng, 60));
    config.embedding_scale = [1.0, 1.7][below(rng, 2)];
    config.rotary = [config.head_dim, 2 * config.head_dim.div_ceil(4)][below(rng, 2)];
    let factors = |by: f32| (0..config.rotary / 2).map(|i| 1.0 + by * i as f32).collect();
    config.rope_scaling = match below(rng, 4) {
        0 => RopeScaling::Yarn { factor: 4.0, fast: 8.0, slow: 1.0, original: 40.0, truncate: true, attention: 1.1 },
        1 => RopeScaling::LongRope { short: factors(0.5), long: factors(1.5), original: 40, attention: 1.2 },
        _ => RopeScaling::None,
    };
    layer_positions(rng, config);
    config.local_rope = [None, Some(RopeSpec { theta: 30.0, scaling: RopeScaling::None })][below(rng, 2)].clone();
}

/// Draws layers of several kinds, as Gemma 4 has them, for a model of four layers: the last reads the keys of an earlier one.
fn vary_kinds(rng: &mut ChaCha8Rng, config: &mut Config) {
    config.family = &PLAIN;
    let layer = &mut config.layer;
    (layer.gated, layer.by_head) = (true, false);
    let first = [false, true][below(rng, 2)];
    layer.windows = LayerPattern::Listed(vec![first, !first, first, !first]);
    let kv_heads = [1, config.kv_heads][below(rng, 2)];
    layer.kinds = LayerKinds {
        global_heads: Some(GlobalHeads { head_dim: 2 * (1 + below(rng, 6)), kv_heads }),
        keys_as_values: below(rng, 2) == 0,
        sharing: (below(rng, 3) > 0).then(|| KeySharing {
            first: 2 + below(rng, 2),
            windowed: usize::from(!first),
            full: usize::from(first),
            double_ff: below(rng, 2) == 0,
        }),
    };
    (layer.value_norm, layer.output_factor) = (below(rng, 2) == 0, below(rng, 2) == 0);
    layer.per_layer =
        (below(rng, 3) > 0).then(|| PerLayerSpec { width: 4 + below(rng, 9), vocab: config.vocab + below(rng, 4) });
    config.window = Some(2 + below(rng, 60));
    config.local_rope = Some(RopeSpec { theta: 30.0, scaling: RopeScaling::None });
}

/// Learned positions in some models.
fn layer_positions(rng: &mut ChaCha8Rng, config: &mut Config) {
    config.layer.positions = below(rng, 4) == 0;
    config.context = 200;
}

impl Toy {
    /// The model of that seed: a family, sizes and numbers.
    pub(crate) fn new(seed: u64) -> Self {
        let rng = &mut stream(seed, 1);
        let head_dim = 2 * (1 + below(rng, 6));
        Self::with(rng, head_dim, None)
    }

    /// The model of that seed with layers of several kinds.
    pub(crate) fn of_kinds(seed: u64) -> Self {
        let rng = &mut stream(seed, 1);
        let head_dim = 2 * (1 + below(rng, 6));
        Self::with(rng, head_dim, Some(vary_kinds))
    }

    /// The model of that seed with heads of width `head_dim`.
    pub(super) fn with_heads(seed: u64, head_dim: usize) -> Self {
        Self::with(&mut stream(seed, 1), head_dim, None)
    }

    fn with(rng: &mut ChaCha8Rng, head_dim: usize, more: Option<fn(&mut ChaCha8Rng, &mut Config)>) -> Self {
        let kind = ["llama", "qwen2", "qwen3"][below(rng, 3)];
        let kv = 1 + below(rng, 3);
        let heads = kv * (1 + below(rng, 3));
        let (hidden, ff) = (3 + below(rng, 40), 1 + below(rng, 50));
        let (vocab, tied) = (11 + below(rng, 90), below(rng, 2) == 0);
        let text = format!(
            r#"{{"model_type":"{kind}","hidden_size":{hidden},"num_attention_heads":{heads},"num_key_value_heads":{kv},
            "head_dim":{head_dim},"num_hidden_layers":2,"intermediate_size":{ff},"vocab_size":{vocab},"rope_theta":100.0,
            "tie_word_embeddings":{tied}}}"#
        );
        let mut config = Config::parse(&text, Path::new("toy")).unwrap();
        vary(rng, &mut config);
        if let Some(more) = more {
            config.layers = 4;
            more(rng, &mut config);
        }
        let names: Vec<(String, Vec<usize>)> = config.tensors().collect();
        let offset = config.layer.norm_offset;
        let tensors = names.into_iter().map(|(name, shape)| {
            let t = noise(rng, &shape);
            // Norms multiply by nearly 1, as in models that learned something.
            let t = if name.contains("norm") { t.affine(0.2, 1.0 - offset).unwrap() } else { t };
            // In twice the layers the same weights would blow rounding up.
            let damped = more.is_some() && !name.contains("norm");
            let t = if damped { t.affine(0.5, 0.0).unwrap() } else { t };
            let t = if name.ends_with("layer_scalar") { t.affine(0.1, 0.8).unwrap() } else { t };
            (name, t)
        });
        let tensors = tensors.collect();
        Self { config, tensors, score: (0..hidden).map(|_| uniform(rng) - 0.5).collect() }
    }

    /// Its weights in that type.
    pub(crate) fn weights(&self, device: &Device, dtype: DType) -> Weights {
        let tensors = self.tensors.iter().map(|(k, t)| (k.clone(), t.to_dtype(dtype).unwrap())).collect();
        Weights::memory(tensors, Path::new("toy"), device, dtype)
    }

    /// The same model with its numbers rounded to what bf16 holds.
    pub(crate) fn rounded(mut self) -> Self {
        for t in self.tensors.values_mut() {
            *t = t.to_dtype(DType::BF16).unwrap().to_dtype(DType::F64).unwrap();
        }
        self
    }

    /// Its decoder in that type, with trainables moved away from their initial values.
    pub(crate) fn decoder(&self, dtype: DType, tune: &Tune) -> Decoder {
        self.decoder_on(&Device::Cpu, dtype, tune)
    }

    /// The same on a device.
    pub(super) fn decoder_on(&self, device: &Device, dtype: DType, tune: &Tune) -> Decoder {
        let mut weights = self.weights(device, dtype);
        let mut decoder = Decoder::new(&self.config, &mut weights, tune).unwrap();
        decoder.add_score(self.score.clone(), false).unwrap();
        // LoRA's B starts at 0.
        for (i, (_, var)) in decoder.trainables().iter().enumerate() {
            let rng = &mut stream(77, i as u64);
            let values: Vec<f64> = (0..var.elem_count()).map(|_| (uniform(rng) - 0.5) * 0.3).collect();
            let off = Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap().to_dtype(var.dtype()).unwrap();
            let off = off.to_device(device).unwrap();
            var.set(&(var.as_tensor() + off).unwrap()).unwrap();
        }
        decoder
    }

    fn ids(&self, rng: &mut ChaCha8Rng, n: usize) -> Vec<u32> {
        (0..n).map(|_| below(rng, self.config.vocab) as u32).collect()
    }

    /// Rows of every kind: alone, with a one-token completion, with a shared prefix, a prefix of another row, duplicates.
    pub(crate) fn batch(&self, seed: u64) -> Batch {
        let rng = &mut stream(seed, 2);
        let mut rows = Vec::new();
        for _ in 0..2 {
            let n = 2 + below(rng, 80);
            let ids = self.ids(rng, n);
            rows.push(Row::new(ids, vec![n - 1]));
        }
        let n = 8 + below(rng, 70);
        let prompt = self.ids(rng, n);
        for extra in [1 + below(rng, 70), 1, 0, 0, 3] {
            let mut ids = prompt.clone();
            ids.extend(self.ids(rng, extra));
            // Some of the prefix is scored too, for every row of the family.
            let first = prompt.len() - below(rng, 3);
            let scored = (first.min(ids.len() - 1)..ids.len()).collect();
            rows.push(Row { valued: vec![1, ids.len() - 1], ..Row::new(ids, scored) });
        }
        Batch { temperature: 0.8, ..Batch::new(rows) }
    }

    /// A row of several documents.
    pub(crate) fn packed(&self, seed: u64) -> Batch {
        let rng = &mut stream(seed, 3);
        let ids = self.ids(rng, 90);
        let starts = vec![0, 1, 30, 31, 77];
        let row = Row { starts, valued: vec![29, 89], ..Row::new(ids, (2..30).chain(32..76).chain(78..90).collect()) };
        Batch::new(vec![row])
    }
}

/// An adapter on every linear module; with `dora` also rank-stabilised.
pub(crate) fn lora(dora: bool, dropout: f64) -> Tune {
    Tune::Lora(LoraSpec { rslora: dora, dora, dropout, seed: 11, ..LoraSpec::plain(3, 5.0) })
}

/// Arbitrary gradients of a batch's scores.
pub(crate) fn gradients(batch: &Batch, entropy: bool) -> Vec<RowGradient> {
    let mut k = 0.0;
    let mut some = |n: usize| -> Vec<f64> {
        let next = |_| {
            k += 1.0;
            (k * 1.7_f64).sin()
        };
        (0..n).map(next).collect()
    };
    let one = |r: &Row| RowGradient {
        logp: some(r.scored.len()),
        entropy: if entropy { some(r.scored.len()) } else { Vec::new() },
        value: some(r.valued.len()),
    };
    batch.rows.iter().map(one).collect()
}

/// A tensor's numbers.
pub(crate) fn flat(t: &Tensor) -> Vec<f64> {
    t.to_device(&Device::Cpu).unwrap().flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// Tolerances of a comparison with the reference.
#[derive(Debug, Clone, Copy)]
pub(super) struct Near {
    /// Log-probs and the like, beside their size and 1.
    pub(crate) scores: f64,
    /// A gradient's distance beside its norm.
    pub(crate) gradient: f64,
    /// A share of the largest gradient's norm below which a gradient is only rounding.
    pub(crate) floor: f64,
    /// All gradients' distance beside the norm of all.
    pub(crate) whole: f64,
}

/// f32 throughout.
pub(super) const F32: Near = Near { scores: 1e-5, gradient: 1e-4, floor: 0.0, whole: 1e-4 };

impl Near {
    fn holds(self, a: &TokenScores, b: &TokenScores) {
        assert_eq!(a.rows.len(), b.rows.len());
        for (a, b) in a.rows.iter().zip(&b.rows) {
            // Which of two nearly equal tokens is the likelier one, rounding decides.
            assert!(self.scores > 1e-4 || a.top1 == b.top1);
            let pairs = [
                (&a.logp, &b.logp),
                (&a.entropy, &b.entropy),
                (&a.mean_logit, &b.mean_logit),
                (&a.collision, &b.collision),
                (&a.value, &b.value),
            ];
            for (a, b) in pairs {
                assert_eq!(a.len(), b.len());
                for (a, b) in a.iter().zip(b) {
                    assert!((a - b).abs() < self.scores * (1.0 + b.abs()), "{a} {b}");
                }
            }
        }
    }
}

/// Asserts that a fast backend gives the reference's scores and gradients, with the same dropout masks.
pub(super) fn equal(exact: Policy, fast: Policy, batch: &Batch, entropy: bool, near: Near) {
    assert_eq!((exact.path(), fast.path()), ("reference", "fast"));
    same(exact, fast, batch, entropy, near);
}

/// As [`equal`], for any two backends.
pub(super) fn same(mut exact: Policy, mut other: Policy, batch: &Batch, entropy: bool, near: Near) {
    for adapter in [true, false] {
        near.holds(&other.score(batch, adapter).unwrap(), &exact.score(batch, adapter).unwrap());
    }
    let g = gradients(batch, entropy);
    for policy in [&mut exact, &mut other] {
        policy.set_passes(5);
    }
    let (want, tape) = exact.score_train(batch).unwrap();
    exact.backward(tape, &g).unwrap();
    let (got, tape) = other.score_train(batch).unwrap();
    near.holds(&got, &want);
    other.backward(tape, &g).unwrap();
    let (want, got) = (exact.take_gradients().unwrap(), other.take_gradients().unwrap());
    let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    let (mut apart, mut size) = (0.0, 0.0);
    let largest = want.iter().flatten().map(|t| norm(&flat(t))).fold(0.0, f64::max);
    for (i, (name, _)) in exact.trainables().iter().enumerate() {
        let want = flat(want.get(i).unwrap_or_else(|| panic!("no gradient of {name}")));
        let got = flat(got.get(i).unwrap_or_else(|| panic!("no fast gradient of {name}")));
        let off: Vec<f64> = want.iter().zip(&got).map(|(a, b)| a - b).collect();
        let most = near.gradient * norm(&want).max(near.floor * largest);
        assert!(norm(&off) <= most, "{name}: off by {} of {}", norm(&off), norm(&want));
        (apart, size) = (apart + norm(&off).powi(2), size + norm(&want).powi(2));
    }
    let share = (apart / size).sqrt();
    assert!(share <= near.whole, "all gradients together are off by {share} of their norm");
}
