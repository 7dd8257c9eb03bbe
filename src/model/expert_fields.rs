//! Reads the fields of config.json that describe experts. Refuses by name what changes the training of a router and is not
//! implemented.

use super::error::Error;
use super::fields::Fields;
use super::layer::{LayerPattern, LayerSpec};
use serde_json::Value;

/// Experts in a layer at most: a larger number is damage, and costs memory before the first tensor is missing.
pub(crate) const MOST: usize = 4096;

/// The fields that only some classes read.
pub(crate) struct ExpertFields {
    /// An expert's width.
    pub(crate) width: &'static str,
    /// Whether `norm_topk_prob` is read.
    pub(crate) normalised: bool,
    /// Whether `decoder_sparse_step` and `mlp_only_layers` are read.
    pub(crate) some_layers: bool,
}

/// Reads a model's experts over the class's defaults, which `layer` has; none where the file asks for none.
pub(crate) fn read(f: &Fields<'_>, layer: &mut LayerSpec, fields: &ExpertFields) -> Result<(), Error> {
    let Some(mut spec) = layer.experts.take() else { return Ok(()) };
    if f.flag("output_router_logits", false) {
        let known = "the loss that balances the experts is not computed: set it to false";
        return Err(f.refuse("`output_router_logits=true`", known));
    }
    if let Some(noise) = f.get("router_jitter_noise").and_then(Value::as_f64).filter(|noise| *noise != 0.0) {
        let known = "noise on the router's inputs in training is not implemented: set it to 0";
        return Err(f.refuse(format!("`router_jitter_noise={noise}`"), known));
    }
    // Both names are read, as in `transformers` 5.
    let key = if f.get("num_local_experts").is_some() { "num_local_experts" } else { "num_experts" };
    spec.count = f.count_or(key, spec.count)?;
    if spec.count > MOST {
        return Err(f.refuse(format!("`{key}={}`", spec.count), &format!("at most {MOST} experts are read")));
    }
    if spec.count == 0 {
        return Ok(());
    }
    spec.chosen = f.size_if("num_experts_per_tok")?.unwrap_or(spec.chosen);
    if spec.chosen > spec.count {
        let why =
            format!("`num_experts_per_tok` is {}, but the model has {} experts (`{key}`)", spec.chosen, spec.count);
        return Err(Error::file(f.path, why));
    }
    spec.width = f.size_if(fields.width)?.unwrap_or(spec.width);
    if fields.normalised {
        spec.normalised = f.flag("norm_topk_prob", spec.normalised);
    }
    if let Some(shared) = &mut spec.shared {
        *shared = f.size_if("shared_expert_intermediate_size")?.unwrap_or(*shared);
    }
    if fields.some_layers {
        spec.layers = sparse_layers(f)?;
    }
    layer.experts = Some(spec);
    Ok(())
}

/// The layers of `decoder_sparse_step` and `mlp_only_layers`, which have experts.
fn sparse_layers(f: &Fields<'_>) -> Result<LayerPattern, Error> {
    let step = f.size_if("decoder_sparse_step")?.unwrap_or(1);
    let Some(list) = f.get("mlp_only_layers") else { return Ok(every(step, Vec::new())) };
    let wrong = || Error::file(f.path, format!("the field `mlp_only_layers` is {list}, not a list of layers"));
    let number = |v: &Value| v.as_u64().map(|n| n as usize);
    let dense: Option<Vec<usize>> = list.as_array().and_then(|list| list.iter().map(number).collect());
    Ok(every(step, dense.ok_or_else(wrong)?))
}

fn every(step: usize, mut but: Vec<usize>) -> LayerPattern {
    but.sort_unstable();
    but.dedup();
    match (step, but.is_empty()) {
        (1, true) => LayerPattern::All,
        (_, true) => LayerPattern::Every(step),
        (_, false) => LayerPattern::EveryBut(step, but),
    }
}
