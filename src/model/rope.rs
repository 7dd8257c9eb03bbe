//! Rotary position embeddings as config.json describes them: their base, and how their frequencies are scaled.
//!
//! Owns reading `rope_parameters`, `rope_scaling` and the fields beside them, in both spellings. Refuses by name every scaling
//! that is not implemented, and a scaling without the values it needs. Computes no frequencies: `nn::rotary` does.

use super::error::Error;
use super::family_spec::Defaults;
use super::fields::Fields;
use serde_json::{Map, Value};

/// How RoPE frequencies are scaled for longer contexts.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Unscaled.
    None,
    /// Every frequency divided by the factor.
    Linear(f64),
    /// Each frequency divided by its own factor, (rotary/2): how GGUF files store Llama 3's scaling.
    Divided(Vec<f32>),
    /// Llama 3: low frequencies divided, high ones unchanged, interpolated between.
    Llama3 {
        /// Divides the low frequencies.
        factor: f64,
        /// Frequencies with wavelengths above `original / low` are divided.
        low: f64,
        /// Frequencies with wavelengths below `original / high` are unchanged.
        high: f64,
        /// The context length before scaling.
        original: f64,
    },
    /// A larger base for rows longer than `max_position_embeddings` (dynamic NTK). Such rows do not fit the context here, so
    /// that nothing is scaled; `transformers` computes the same for rows within the context.
    Dynamic(f64),
    /// YaRN (Peng et al. 2023): low frequencies divided, high ones unchanged, a linear ramp between.
    Yarn {
        /// Divides the low frequencies.
        factor: f64,
        /// Rotations within the original context above which a frequency is unchanged.
        fast: f64,
        /// Rotations below which it is divided.
        slow: f64,
        /// The context length before scaling.
        original: f64,
        /// Whether the ramp begins and ends at whole dimensions.
        truncate: bool,
        /// Factor on cosines and sines.
        attention: f64,
    },
    /// The frequencies of whole heads, of which the last are 0, so that only a share of a head is rotated.
    Proportional {
        /// The share that is rotated.
        share: f64,
        /// Divides the frequencies.
        factor: f64,
    },
    /// LongRoPE (Ding et al. 2024): each frequency divided by its own factor, one list for rows within the original context
    /// and one for longer rows.
    LongRope {
        /// Factors of rows of at most `original` tokens, (rotary/2).
        short: Vec<f32>,
        /// Factors of longer rows, (rotary/2).
        long: Vec<f32>,
        /// The context length before scaling.
        original: usize,
        /// Factor on cosines and sines.
        attention: f64,
    },
}

/// The rotary embedding of some layers.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeSpec {
    /// Base of the frequencies.
    pub theta: f64,
    /// Their scaling.
    pub scaling: RopeScaling,
}

/// What the scalings depend on besides their own fields.
#[derive(Clone, Copy)]
pub(crate) struct RopeBounds {
    /// `max_position_embeddings`; 0 when unknown.
    pub(crate) context: usize,
    /// Dimensions of a head that are rotated.
    pub(crate) rotary: usize,
    /// The same in the layers with a window.
    pub(crate) local: usize,
}

const KINDS: [&str; 2] = ["full_attention", "sliding_attention"];

/// The rope of the model's layers, and that of its sliding layers where they have their own.
pub(crate) fn read(f: &Fields<'_>, d: &Defaults, bounds: RopeBounds) -> Result<(RopeSpec, Option<RopeSpec>), Error> {
    // An empty object counts as missing, as in `transformers`.
    let object = |key: &str| f.get(key).and_then(Value::as_object).filter(|map| !map.is_empty());
    let (older, newer) = (object("rope_scaling"), object("rope_parameters"));
    if let Some(local) = d.local_theta {
        let part = |kind: &str| newer.and_then(|map| map.get(kind)).and_then(Value::as_object);
        if newer.is_some() && KINDS.iter().all(|kind| part(kind).is_none()) {
            return Err(f.refuse("`rope_parameters` without `full_attention`", "name the rope of each kind of layer"));
        }
        let mut full = part("full_attention").cloned().unwrap_or_default();
        full.extend(older.cloned().unwrap_or_default());
        if let Some(share) = d.proportional.filter(|_| newer.is_none() && older.is_none()) {
            full.insert("rope_type".into(), "proportional".into());
            full.insert("partial_rotary_factor".into(), share.into());
        }
        let own = part("sliding_attention").cloned().unwrap_or_default();
        let global = one(f, Some(&full), (d.theta_key, d.rope_theta), d, bounds)?;
        let bounds = RopeBounds { rotary: bounds.local, ..bounds };
        return Ok((global, Some(one(f, Some(&own), ("rope_local_base_freq", local), d, bounds)?)));
    }
    // The older key wins, as in `transformers`: model cards tell people to add it.
    let class: Option<Map<String, Value>> = d.rope_parameters.and_then(|text| serde_json::from_str(text).ok());
    let rope = older.or(newer).or(class.as_ref());
    if rope.is_some_and(|map| KINDS.iter().any(|kind| map.contains_key(*kind))) {
        return Err(f.refuse("`rope_parameters` for each kind of layer", "this family has one rope for all layers"));
    }
    Ok((one(f, rope, (d.theta_key, d.rope_theta), d, bounds)?, None))
}

fn one(
    f: &Fields<'_>,
    rope: Option<&Map<String, Value>>,
    (key, default): (&str, f64),
    d: &Defaults,
    bounds: RopeBounds,
) -> Result<RopeSpec, Error> {
    let own = rope.and_then(|map| map.get("rope_theta")).and_then(Value::as_f64);
    let theta = match own.filter(|theta| theta.is_finite() && *theta > 0.0) {
        Some(theta) => theta,
        None => f.real(key, default)?,
    };
    let scaling = match rope {
        Some(rope) => scaling(f, rope, d, bounds)?,
        None => RopeScaling::None,
    };
    Ok(RopeSpec { theta, scaling })
}

fn scaling(f: &Fields<'_>, rope: &Map<String, Value>, d: &Defaults, bounds: RopeBounds) -> Result<RopeScaling, Error> {
    let kind = rope.get("rope_type").or(rope.get("type")).and_then(Value::as_str).unwrap_or("default");
    let optional = |key: &str| rope.get(key).and_then(Value::as_f64).filter(|x| x.is_finite() && *x > 0.0);
    let number = |key: &str| {
        optional(key).ok_or_else(|| Error::file(f.path, format!("the rope scaling `{kind}` lacks a positive `{key}`")))
    };
    // A field beside the rope wins, as in `transformers`; without any it is the context.
    let original = || {
        let beside = f.size_or("original_max_position_embeddings", d.original_context)?.map(|n| n as f64);
        let found = beside.or_else(|| optional("original_max_position_embeddings"));
        found.or(Some(bounds.context as f64).filter(|n| *n > 0.0)).ok_or_else(|| {
            Error::file(f.path, format!("the rope scaling `{kind}` lacks `original_max_position_embeddings`"))
        })
    };
    match kind {
        "default" => Ok(RopeScaling::None),
        "linear" => Ok(RopeScaling::Linear(number("factor")?)),
        "dynamic" if bounds.context > 0 => Ok(RopeScaling::Dynamic(number("factor")?)),
        "dynamic" => Err(f.refuse("the rope scaling `dynamic` without `max_position_embeddings`", "add that field")),
        "proportional" => {
            let share = rope.get("partial_rotary_factor").map_or(Some(1.0), Value::as_f64);
            let share = share.filter(|share| *share > 0.0 && *share <= 1.0).ok_or_else(|| {
                let why =
                    format!("the `partial_rotary_factor` of the rope scaling `{kind}` is not a share between 0 and 1");
                Error::file(f.path, why)
            })?;
            let factor = if rope.contains_key("factor") { number("factor")? } else { 1.0 };
            Ok(RopeScaling::Proportional { share, factor })
        }
        "llama3" => Ok(RopeScaling::Llama3 {
            factor: number("factor")?,
            low: number("low_freq_factor")?,
            high: number("high_freq_factor")?,
            original: original()?,
        }),
        "yarn" if d.original_context.is_none() => {
            let factor = number("factor")?;
            let log = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 };
            let attention = optional("attention_factor").unwrap_or_else(|| {
                match (optional("mscale"), optional("mscale_all_dim")) {
                    (Some(scale), Some(all)) => log(scale) / log(all),
                    _ => log(1.0),
                }
            });
            Ok(RopeScaling::Yarn {
                factor,
                fast: optional("beta_fast").unwrap_or(32.0),
                slow: optional("beta_slow").unwrap_or(1.0),
                original: original()?,
                truncate: rope.get("truncate").and_then(Value::as_bool).unwrap_or(true),
                attention,
            })
        }
        // Phi-3's first files called it `su`, and `yarn`.
        "longrope" | "su" | "yarn" => {
            let original = original()?;
            let factor = optional("factor").unwrap_or(bounds.context as f64 / original);
            let attention = optional("attention_factor")
                .unwrap_or_else(|| if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / original.ln()).sqrt() });
            Ok(RopeScaling::LongRope {
                short: factors(f, rope, "short_factor", bounds.rotary / 2)?,
                long: factors(f, rope, "long_factor", bounds.rotary / 2)?,
                original: original as usize,
                attention,
            })
        }
        other => Err(f.refuse(
            format!("the rope scaling `{other}`"),
            "default, linear, dynamic, llama3, yarn, longrope and proportional are implemented",
        )),
    }
}

/// The share of a head that is rotated: within the rope, or beside it under `key`.
pub(crate) fn rotary_share(f: &Fields<'_>, key: &str, default: f64) -> Result<f64, Error> {
    let rope = |key: &str| f.get(key).filter(|rope| rope.as_object().is_some_and(|map| !map.is_empty()));
    let within = rope("rope_scaling").or(rope("rope_parameters")).and_then(|rope| rope.get("partial_rotary_factor"));
    let share = within.or(f.get(key)).map_or(Some(default), Value::as_f64);
    share
        .filter(|share| *share > 0.0 && *share <= 1.0)
        .ok_or_else(|| Error::file(f.path, format!("the field `{key}` is not a share between 0 and 1")))
}

/// A positive factor for each frequency.
fn factors(f: &Fields<'_>, rope: &Map<String, Value>, key: &str, count: usize) -> Result<Vec<f32>, Error> {
    let list = rope.get(key).and_then(Value::as_array);
    let number = |v: &Value| v.as_f64().filter(|x| x.is_finite() && *x > 0.0).map(|x| x as f32);
    let list: Option<Vec<f32>> = list.and_then(|list| list.iter().map(number).collect());
    match list {
        Some(list) if list.len() == count => Ok(list),
        Some(list) => Err(Error::file(
            f.path,
            format!("the rope's `{key}` has {} factors, but the model has {count} frequencies", list.len()),
        )),
        None => Err(Error::file(f.path, format!("the rope scaling lacks `{key}`, a list of {count} positive numbers"))),
    }
}
