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

/// A rope as a file has it.
struct RopeFields<'a> {
    /// Its object, if there is one.
    map: Option<&'a Map<String, Value>>,
    /// The field beside it that names the base of the frequencies, and what the base is without.
    theta: (&'a str, f64),
    /// Whether fields of it may stand beside it.
    beside: bool,
    /// Whether it is for one kind of layers.
    nested: bool,
    /// Dimensions of a head that are rotated.
    rotary: usize,
}

/// The rope of the model's layers, and that of its sliding layers where they have their own.
pub(crate) fn read(f: &Fields<'_>, d: &Defaults, bounds: RopeBounds) -> Result<(RopeSpec, Option<RopeSpec>), Error> {
    let (older, newer) = (object(f, "rope_scaling")?, object(f, "rope_parameters")?);
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
        let of = |map, theta, rotary| RopeFields { map: Some(map), theta, beside: false, nested: true, rotary };
        let global = one(f, &of(&full, (d.theta_key, d.rope_theta), bounds.rotary), d, bounds.context)?;
        // A class without the older form reads no field beside the ropes.
        let key = if d.theta_key.is_empty() { "" } else { "rope_local_base_freq" };
        return Ok((global, Some(one(f, &of(&own, (key, local), bounds.local), d, bounds.context)?)));
    }
    // The older key wins, as in `transformers`: model cards tell people to add it. An empty object is no rope, but the class's own is
    // for a file without the key alone.
    let said = f.get("rope_parameters").is_some();
    let class: Option<Map<String, Value>> =
        d.rope_parameters.filter(|_| !said).and_then(|text| serde_json::from_str(text).ok());
    let map = older.or(newer).or(class.as_ref());
    if map.is_some_and(|map| KINDS.iter().any(|kind| map.contains_key(*kind))) {
        return Err(f.refuse("`rope_parameters` for each kind of layer", "this family has one rope for all layers"));
    }
    let theta = (d.theta_key, d.rope_theta);
    let rope = RopeFields { map, theta, beside: true, nested: false, rotary: bounds.rotary };
    Ok((one(f, &rope, d, bounds.context)?, None))
}

/// An object that is not empty: an empty one counts as missing, as in `transformers`.
fn object<'a>(f: &'a Fields<'_>, key: &str) -> Result<Option<&'a Map<String, Value>>, Error> {
    let Some(value) = f.get(key) else { return Ok(None) };
    let wrong = || Error::file(f.path, format!("the field `{key}` is {value}, not an object"));
    Ok(Some(value.as_object().ok_or_else(wrong)?).filter(|map| !map.is_empty()))
}

fn one(f: &Fields<'_>, rope: &RopeFields<'_>, d: &Defaults, context: usize) -> Result<RopeSpec, Error> {
    let (key, default) = rope.theta;
    let theta = match rope.number("rope_theta", f)? {
        Some(theta) => theta,
        None if key.is_empty() => default,
        None => f.real(key, default)?,
    };
    let scaling = if rope.map.is_some() { scaling(f, rope, d, context)? } else { RopeScaling::None };
    Ok(RopeSpec { theta, scaling })
}

impl RopeFields<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.map.and_then(|map| map.get(key)).filter(|value| !value.is_null())
    }

    /// A positive number, if it is there.
    fn number(&self, key: &str, f: &Fields<'_>) -> Result<Option<f64>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let wrong = || Error::file(f.path, format!("the rope's `{key}` is {value}, not a positive number"));
        value.as_f64().filter(|x| x.is_finite() && *x > 0.0).map(Some).ok_or_else(wrong)
    }

    /// The same, where 0 means that it is not there.
    fn number_or_zero(&self, key: &str, f: &Fields<'_>) -> Result<Option<f64>, Error> {
        if self.get(key).and_then(Value::as_f64) == Some(0.0) { Ok(None) } else { self.number(key, f) }
    }

    fn kind(&self) -> &str {
        let named = self.map.and_then(|map| map.get("rope_type").or(map.get("type")));
        named.and_then(Value::as_str).unwrap_or("default")
    }

    /// Refuses a share of the head that only some classes rotate: where frequencies are scaled, the others fail on it.
    fn check_share(&self, f: &Fields<'_>, d: &Defaults) -> Result<(), Error> {
        let key = "partial_rotary_factor";
        let share = self.get(key).or(f.get(key).filter(|_| self.beside));
        match share.filter(|share| !d.rotates_a_share && share.as_f64() != Some(1.0)) {
            Some(share) => {
                let what = format!("`{key}={share}` with the rope scaling `{}`", self.kind());
                Err(f.refuse(what, "this family rotates whole heads"))
            }
            None => Ok(()),
        }
    }
}

fn scaling(f: &Fields<'_>, rope: &RopeFields<'_>, d: &Defaults, context: usize) -> Result<RopeScaling, Error> {
    let kind = rope.kind();
    let number = |key: &str| {
        let lacks = || Error::file(f.path, format!("the rope scaling `{kind}` lacks a positive `{key}`"));
        rope.number(key, f)?.ok_or_else(lacks)
    };
    // A field beside the rope wins, as in `transformers`; without any it is the context.
    let original = || {
        let key = "original_max_position_embeddings";
        let beside = if rope.beside { f.size_or(key, d.original_context)?.map(|n| n as f64) } else { None };
        let found = match beside {
            Some(n) => Some(n),
            None => rope.number(key, f)?,
        };
        found
            .or(Some(context as f64).filter(|n| *n > 0.0))
            .ok_or_else(|| Error::file(f.path, format!("the rope scaling `{kind}` lacks `{key}`")))
    };
    if kind != "default" && kind != "proportional" {
        rope.check_share(f, d)?;
    }
    match kind {
        "default" => Ok(RopeScaling::None),
        // Phi-3's class knows no other; its first files called it `su`, and `yarn`.
        _ if d.original_context.is_some() && !["longrope", "su", "yarn"].contains(&kind) => {
            Err(f.refuse(format!("the rope scaling `{kind}`"), "this family has default and longrope"))
        }
        "linear" => Ok(RopeScaling::Linear(number("factor")?)),
        "dynamic" if context > 0 => Ok(RopeScaling::Dynamic(number("factor")?)),
        "dynamic" => Err(f.refuse("the rope scaling `dynamic` without `max_position_embeddings`", "add that field")),
        "proportional" => {
            let share = rope.get("partial_rotary_factor").map_or(Some(1.0), Value::as_f64);
            let share = share.filter(|share| *share > 0.0 && *share <= 1.0).ok_or_else(|| {
                let why =
                    format!("the `partial_rotary_factor` of the rope scaling `{kind}` is not a share between 0 and 1");
                Error::file(f.path, why)
            })?;
            Ok(RopeScaling::Proportional { share, factor: rope.number("factor", f)?.unwrap_or(1.0) })
        }
        "llama3" => Ok(RopeScaling::Llama3 {
            factor: number("factor")?,
            low: number("low_freq_factor")?,
            high: number("high_freq_factor")?,
            original: original()?,
        }),
        "yarn" if d.original_context.is_none() => yarn(f, rope, number("factor")?, original()?),
        "longrope" | "su" | "yarn" => {
            let original = original()?;
            let factor = rope.number("factor", f)?.unwrap_or(context as f64 / original);
            let attention = rope
                .number("attention_factor", f)?
                .unwrap_or_else(|| if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / original.ln()).sqrt() });
            Ok(RopeScaling::LongRope {
                short: factors(f, rope, "short_factor")?,
                long: factors(f, rope, "long_factor")?,
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

fn yarn(f: &Fields<'_>, rope: &RopeFields<'_>, factor: f64, original: f64) -> Result<RopeScaling, Error> {
    let log = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 };
    let scales = rope.number_or_zero("mscale", f)?.zip(rope.number_or_zero("mscale_all_dim", f)?);
    let attention = match (rope.number("attention_factor", f)?, scales) {
        (Some(own), _) => own,
        (None, Some((scale, all))) => log(scale) / log(all),
        (None, None) => log(1.0),
    };
    // `transformers` looks for it beside the kinds of layers, where no file has it. Null is false.
    let truncate = rope.map.and_then(|map| map.get("truncate")).filter(|_| !rope.nested);
    Ok(RopeScaling::Yarn {
        factor,
        fast: rope.number_or_zero("beta_fast", f)?.unwrap_or(32.0),
        slow: rope.number_or_zero("beta_slow", f)?.unwrap_or(1.0),
        original,
        truncate: truncate.is_none_or(|truncate| truncate.as_bool() == Some(true)),
        attention,
    })
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
fn factors(f: &Fields<'_>, rope: &RopeFields<'_>, key: &str) -> Result<Vec<f32>, Error> {
    let count = rope.rotary / 2;
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
