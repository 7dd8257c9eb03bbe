//! Packing a model: from its files, or from a decoder in memory with its adapters.

use super::{Decode, Layer, Linear, Lora};
use crate::model::config::Config;
use crate::model::error::Error;
use crate::model::language_model::LanguageModel;
use crate::model::tune::LINEARS;
use crate::model::weights::Weights;
use crate::nn::decoder::Decoder;
use crate::nn::linear::{Linear as Loaded, Weight};
use crate::nn::norm::Norm;
use crate::nn::rotary::frequencies;
use candle_core::{DType, Device, Tensor};
use tiebreak_kernels::packed::Matrix;

fn floats(tensor: &Tensor) -> Result<Vec<f32>, Error> {
    Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

fn matrix(tensor: &Tensor) -> Result<Matrix, Error> {
    let (out, width) = tensor.dims2()?;
    Ok(Matrix::floats(&floats(tensor)?, out, width))
}

impl Linear {
    fn of(loaded: &Loaded, adapter: bool) -> Result<Self, Error> {
        let lora = match loaded.lora.as_ref().filter(|_| adapter) {
            None => None,
            Some(l) => Some(Lora {
                a: matrix(l.a.as_tensor())?,
                b: matrix(l.b.as_tensor())?,
                scale: l.scale as f32,
                stretch: loaded.stretch()?.map(|s| floats(&s)).transpose()?,
            }),
        };
        let bias = loaded.bias.as_ref().map(|b| floats(b.stored())).transpose()?;
        Ok(Self { weight: matrix(loaded.weight.stored())?, bias, lora })
    }
}

impl Decode {
    /// Packs `decoder` as it is now: after an update, pack again. `adapter` false leaves the adapters out.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn of(decoder: &Decoder, adapter: bool) -> Result<Self, Error> {
        let norm = |n: &Norm| floats(n.gamma.stored());
        let some = |n: &Option<Norm>| n.as_ref().map(norm).transpose();
        let linear = |l: &Loaded| Linear::of(l, adapter);
        let mut layers = Vec::with_capacity(decoder.depth());
        for l in decoder.layers() {
            layers.push(Layer {
                input_norm: norm(&l.input_norm)?,
                q: linear(&l.q)?,
                k: linear(&l.k)?,
                v: linear(&l.v)?,
                o: linear(&l.o)?,
                q_norm: some(&l.q_norm)?,
                k_norm: some(&l.k_norm)?,
                ff_norm: norm(&l.ff_norm)?,
                gate: linear(&l.gate)?,
                up: linear(&l.up)?,
                down: linear(&l.down)?,
            });
        }
        let c = decoder.config();
        let head = |w: &Weight| matrix(w.stored());
        Ok(Self {
            config: c.clone(),
            embed: matrix(decoder.embedding().stored())?,
            layers,
            norm: norm(decoder.last_norm())?,
            head: if c.tied { None } else { Some(head(decoder.head_weight())?) },
            frequencies: frequencies(c),
        })
    }

    /// Packs a model from its files, tensor by tensor: quantised blocks stay quantised, bf16 stays bf16.
    ///
    /// # Errors
    /// When a tensor is missing or has the wrong shape.
    pub fn open(model: &LanguageModel) -> Result<Self, Error> {
        Self::read(&model.config, &mut model.weights(&Device::Cpu, DType::F32)?)
    }

    pub(super) fn read(c: &Config, weights: &mut Weights) -> Result<Self, Error> {
        let (q, kv) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
        let embed = weights.pack("model.embed_tokens.weight", c.vocab, c.hidden)?;
        let mut layers = Vec::new();
        for i in 0..c.layers {
            let at = |part: &str| format!("model.layers.{i}.{part}");
            let mut linear = |j: usize, out: usize, width: usize, bias: bool| -> Result<Linear, Error> {
                let name = at(&format!("{}.{}", if j < 4 { "self_attn" } else { "mlp" }, LINEARS[j]));
                let weight = weights.pack(&format!("{name}.weight"), out, width)?;
                let bias = if bias { Some(weights.floats(&format!("{name}.bias"), &[out])?) } else { None };
                Ok(Linear { weight, bias, lora: None })
            };
            let (q, k, v) = (
                linear(0, q, c.hidden, c.qkv_bias)?,
                linear(1, kv, c.hidden, c.qkv_bias)?,
                linear(2, kv, c.hidden, c.qkv_bias)?,
            );
            let o = linear(3, c.hidden, c.heads * c.head_dim, c.o_bias)?;
            let (gate, up) = (linear(4, c.ff, c.hidden, c.mlp_bias)?, linear(5, c.ff, c.hidden, c.mlp_bias)?);
            let down = linear(6, c.hidden, c.ff, c.mlp_bias)?;
            let mut norm = |part: &str, n: usize| weights.floats(&format!("{}.weight", at(part)), &[n]);
            let mut of_heads = |part: &str| if c.qk_norm { norm(part, c.head_dim).map(Some) } else { Ok(None) };
            let (q_norm, k_norm) = (of_heads("self_attn.q_norm")?, of_heads("self_attn.k_norm")?);
            let input_norm = norm("input_layernorm", c.hidden)?;
            let ff_norm = norm("post_attention_layernorm", c.hidden)?;
            layers.push(Layer { input_norm, q, k, v, o, q_norm, k_norm, ff_norm, gate, up, down });
            // A configuration with a huge layer count and no weights stops at its first missing layer.
            weights.finish()?;
        }
        let norm = weights.floats("model.norm.weight", &[c.hidden])?;
        let head = if c.tied { None } else { Some(weights.pack("lm_head.weight", c.vocab, c.hidden)?) };
        weights.finish()?;
        Ok(Self { config: c.clone(), embed, layers, norm, head, frequencies: frequencies(c) })
    }
}
