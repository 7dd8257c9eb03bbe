//! Packs a model from its files, or from a decoder in memory with its adapters.

use super::linear::{PackedLinear, PackedLora};
use super::{PackedDecoder, PackedLayer, PackedNorm, PackedPerLayer};
use crate::model::config::Config;
use crate::model::error::Error;
use crate::model::language_model::LanguageModel;
use crate::model::layer::{LayerReader, LinearSpec, NormKind, NormSpec, TensorName};
use crate::model::layer_kinds::PerLayerSpec;
use crate::model::weights::Weights;
use crate::nn::decoder::Decoder;
use crate::nn::linear::{Linear, Weight};
use crate::nn::norm::Norm;
use crate::nn::rotary::Rotary;
use candle_core::{DType, Device, Tensor};
use tiebreak_kernels::packed::Matrix;

fn floats(tensor: &Tensor) -> Result<Vec<f32>, Error> {
    Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

fn matrix(tensor: &Tensor) -> Result<Matrix, Error> {
    let (out, width) = tensor.dims2()?;
    Ok(Matrix::floats(&floats(tensor)?, out, width))
}

impl PackedLinear {
    fn of(loaded: &Linear, adapter: bool) -> Result<Self, Error> {
        let lora = match loaded.lora.as_ref().filter(|_| adapter) {
            None => None,
            Some(l) => Some(PackedLora {
                a: matrix(l.a.as_tensor())?,
                b: matrix(l.b.as_tensor())?,
                scale: l.scale as f32,
                dora_scale: loaded.dora_scale()?.map(|s| floats(&s)).transpose()?,
            }),
        };
        let bias = loaded.bias.as_ref().map(|b| floats(b.stored())).transpose()?;
        Ok(Self { weight: matrix(loaded.weight.stored())?, bias, lora })
    }
}

impl PackedDecoder {
    /// Packs the current weights of `decoder`: after an update, pack again. `adapter` false leaves the adapters out.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn of(decoder: &Decoder, adapter: bool) -> Result<Self, Error> {
        let norm = |n: &Norm| {
            let bias = n.bias.as_ref().map(|b| floats(b.stored())).transpose()?;
            Ok::<_, Error>(PackedNorm { gamma: floats(&n.gamma()?)?, centred: n.centred, bias })
        };
        let linear = |l: &Linear| PackedLinear::of(l, adapter);
        let layers = decoder.layers().iter().map(|l| l.map(linear, norm)).collect::<Result<_, Error>>()?;
        let c = decoder.config();
        let head = |w: &Weight| matrix(w.stored());
        Ok(Self {
            config: c.clone(),
            embed: matrix(decoder.embedding().stored())?,
            positions: decoder.positions().map(|table| floats(table.stored())).transpose()?.unwrap_or_default(),
            per_layer: match decoder.per_layer() {
                Some(inputs) => Some(PackedPerLayer {
                    width: inputs.width,
                    table: matrix(inputs.table.stored())?,
                    projection: matrix(inputs.projection.weight.stored())?,
                    norm: norm(&inputs.norm)?,
                }),
                None => None,
            },
            layers,
            norm: norm(decoder.last_norm())?,
            head: if c.tied { None } else { Some(head(decoder.head_weight())?) },
            rotary: Rotary::new(c),
            quantised: false,
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
        let names = &c.family.names;
        let weight = |name: &str| format!("{name}.weight");
        let embed = weights.pack(&weight(names.embedding.hf), c.vocab, c.hidden)?;
        let positions = if c.layer.positions {
            weights.floats(&weight(names.positions.hf), &[c.context, c.hidden])?
        } else {
            Vec::new()
        };
        let per_layer = match c.layer.per_layer {
            Some(PerLayerSpec { width, vocab }) => {
                let (stacked, names) = (c.layers.saturating_mul(width), &names.per_layer);
                Some(PackedPerLayer {
                    width,
                    table: weights.pack(&weight(names.table.hf), vocab, stacked)?,
                    projection: weights.pack(&weight(names.projection.hf), stacked, c.hidden)?,
                    norm: norm_named(c, weights, names.projection_norm.hf, width)?,
                })
            }
            None => None,
        };
        let mut layers: Vec<PackedLayer> = Vec::new();
        for layer in 0..c.layers {
            layers.push(c.read_layer(layer, &mut Packer { config: c, weights, layer })?);
            // A configuration with a huge layer count and no weights stops at its first missing layer.
            weights.finish()?;
        }
        let norm = norm_named(c, weights, names.last_norm.hf, c.hidden)?;
        let quantised = layers.iter().any(|layer| layer.linears().into_iter().any(|l| l.weight.is_quantised()));
        let head = if c.tied { None } else { Some(weights.pack(&weight(names.head.hf), c.vocab, c.hidden)?) };
        weights.finish()?;
        let rotary = Rotary::new(c);
        Ok(Self { config: c.clone(), embed, positions, per_layer, layers, norm, head, rotary, quantised })
    }
}

/// Packs a layer from a model's files.
struct Packer<'a> {
    config: &'a Config,
    weights: &'a mut Weights,
    layer: usize,
}

impl LayerReader for Packer<'_> {
    type Linear = PackedLinear;
    type Norm = PackedNorm;
    type Error = Error;

    fn linear(&mut self, spec: &LinearSpec) -> Result<PackedLinear, Error> {
        let name = self.config.linear_name(self.layer, spec);
        let weight = self.weights.pack(&format!("{name}.weight"), spec.out, spec.width)?;
        let bias = if spec.bias { Some(self.weights.floats(&format!("{name}.bias"), &[spec.out])?) } else { None };
        Ok(PackedLinear { weight, bias, lora: None })
    }

    fn norm(&mut self, spec: &NormSpec) -> Result<PackedNorm, Error> {
        norm_named(self.config, self.weights, &self.config.layer_name(self.layer, spec.name), spec.width)
    }

    fn factor(&mut self, name: TensorName) -> Result<f64, Error> {
        self.weights.number(&self.config.layer_name(self.layer, name))
    }
}

/// The norm of that name.
fn norm_named(c: &Config, weights: &mut Weights, name: &str, width: usize) -> Result<PackedNorm, Error> {
    let mut gamma = weights.floats(&format!("{name}.weight"), &[width])?;
    let offset = c.layer.norm_offset as f32;
    if offset != 0.0 {
        for g in &mut gamma {
            *g += offset;
        }
    }
    let bias = if c.norm_bias() { Some(weights.floats(&format!("{name}.bias"), &[width])?) } else { None };
    Ok(PackedNorm { gamma, centred: c.layer.norm != NormKind::Rms, bias })
}
