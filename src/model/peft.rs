//! Adapters made elsewhere: a folder of Python's peft, `adapter_config.json` with `adapter_model.safetensors`.
//!
//! Owns which modules it adapts, with which ranks and scales, by peft's own rules. Refuses by name what is not LoRA on the
//! linear modules of the decoder's layers.

use super::config::Config;
use super::error::Error;
use super::fields::json;
use super::layer::LinearSpec;
use super::trained::{LORA_A, LORA_B, MAGNITUDE, Trained};
use super::tune::{FUSED, LINEARS, LoraSpec, ModuleRank, Tune};
use candle_core::{Device, Tensor};
use regex::Regex;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// The files of such a folder.
pub const ADAPTER_FILES: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];

/// What peft writes before a module's name.
const PREFIX: &str = "base_model.model.";

/// Fields that change nothing here: other names for what is known, versions, settings of other programs, and how the adapter
/// was first initialised.
const IGNORED: &[&str] = &[
    "alpha_pattern",
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "eva_config",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "lora_dropout",
    "megatron_config",
    "megatron_core",
    "modules_to_save",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "use_dora",
    "use_rslora",
];

/// An adapter made elsewhere.
#[derive(Debug)]
pub struct PeftAdapter {
    /// Its modules with their ranks and scales.
    pub spec: LoraSpec,
    /// The base model that it names; empty if it names none.
    pub base: String,
    /// Its tensors, by names as in a checkpoint of this program.
    pub tensors: BTreeMap<String, Tensor>,
}

impl PeftAdapter {
    /// Reads the adapter in `dir` for a model of that configuration.
    ///
    /// # Errors
    /// When it is of another kind, damaged, or does not fit the model; the message names the field or the tensor.
    pub fn read(dir: &Path, config: &Config) -> Result<Self, Error> {
        let [settings, weights] = ADAPTER_FILES.map(|name| dir.join(name));
        let Some(fields) = json(&settings)? else {
            let why = "is no adapter of peft: it has no adapter_config.json; name a folder that has one";
            return Err(Error::file(dir, why));
        };
        let bad = |why: String| Error::file(&settings, why);
        check_kind(&fields).map_err(bad)?;
        let modules = modules(&fields, config).map_err(bad)?;
        if !weights.is_file() {
            let why = if dir.join("adapter_model.bin").is_file() {
                "has pickled weights (adapter_model.bin), which are not read: save it again with peft's \
                 save_pretrained(DIR, safe_serialization=True)"
            } else {
                "has no adapter_model.safetensors: copy it from where the adapter came from"
            };
            return Err(Error::file(dir, why));
        }
        let read = candle_core::safetensors::load(&weights, &Device::Cpu);
        let read = read.map_err(|e| Error::file(&weights, format!("is not valid safetensors: {e}")))?;
        let mut tensors = BTreeMap::new();
        for (name, tensor) in read {
            let own = name.strip_prefix(PREFIX).unwrap_or(&name);
            let own =
                own.strip_suffix(&format!("{MAGNITUDE}.weight")).map_or(own.to_owned(), |m| format!("{m}{MAGNITUDE}"));
            let tensor = if own.ends_with(MAGNITUDE) { tensor.flatten_all()? } else { tensor };
            tensors.insert(in_text_model(&own), tensor);
        }
        let dora = flag(&fields, "use_dora");
        check_tensors(&tensors, &modules, config, dora).map_err(|why| Error::file(&weights, why))?;
        let known = LINEARS.iter().copied().chain(FUSED.iter().map(|(name, _)| *name));
        let kinds = |kind: &&str| modules.keys().any(|name| name.ends_with(&format!(".{kind}")));
        let spec = LoraSpec {
            r: number(&fields, "r").unwrap_or(8.0) as usize,
            alpha: number(&fields, "lora_alpha").unwrap_or(8.0),
            rslora: flag(&fields, "use_rslora"),
            dora,
            dropout: number(&fields, "lora_dropout").unwrap_or(0.0),
            targets: known.filter(kinds).map(str::to_owned).collect(),
            seed: 0,
            modules,
        };
        spec.check()?;
        let base = fields.get("base_model_name_or_path").and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(Self { spec: spec.simplified(config), base, tensors })
    }

    /// Writes it as a checkpoint's file of trained tensors.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, dir: &Path) -> Result<(), Error> {
        let tensors = self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.clone()));
        Trained::write_values(dir, &Tune::Lora(self.spec.clone()), tensors)
    }
}

impl LoraSpec {
    /// Without its list of modules, if that says no more than rank, alpha and targets do.
    fn simplified(self, config: &Config) -> Self {
        let plain = |m: &ModuleRank| m.r == self.r && m.alpha == self.alpha;
        let all = all_modules(config).filter(|(_, kind, _)| self.targets.iter().any(|target| target == kind)).count();
        if all == self.modules.len() && self.modules.values().all(plain) {
            return Self { modules: BTreeMap::new(), ..self };
        }
        self
    }
}

/// Every linear module of the layers: its name, its kind, its layer.
fn all_modules(config: &Config) -> impl Iterator<Item = (String, &'static str, usize)> + '_ {
    (0..config.layers).flat_map(move |layer| {
        config
            .linears_of(layer)
            .into_iter()
            .map(move |spec| (config.layer_name(layer, spec.name), spec.target(), layer))
    })
}

/// What stands before the names of a text model's modules within a whole model, as transformers 5 and 4 have it.
const WITHIN: [&str; 2] = ["model.language_model.", "language_model.model."];

/// The name of a tensor of a whole model as the text model has it.
fn in_text_model(name: &str) -> String {
    let rest = WITHIN.iter().find_map(|within| name.strip_prefix(within));
    rest.map_or_else(|| name.to_owned(), |rest| format!("model.{rest}"))
}

/// The names of a module: its own, and those that it has within a whole model.
fn names_of(name: &str) -> impl Iterator<Item = String> + '_ {
    let within = name.strip_prefix("model.").map(|rest| WITHIN.map(|within| format!("{within}{rest}")));
    std::iter::once(name.to_owned()).chain(within.into_iter().flatten())
}

fn flag(fields: &Value, key: &str) -> bool {
    fields.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn number(fields: &Value, key: &str) -> Option<f64> {
    fields.get(key).and_then(Value::as_f64)
}

/// Whether a field asks for something.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::Array(all) => !all.is_empty(),
        Value::Object(all) => !all.is_empty(),
        _ => true,
    }
}

/// Refuses what is not plain LoRA.
fn check_kind(fields: &Value) -> Result<(), String> {
    let kind = fields.get("peft_type").and_then(Value::as_str).unwrap_or_default();
    if kind != "LORA" {
        let name = if kind.is_empty() { "no peft_type" } else { kind };
        return Err(format!(
            "is of the kind {name}, and only LORA is read: merge it into its model with peft's merge_and_unload, and start from \
             that model"
        ));
    }
    let task = fields.get("task_type").and_then(Value::as_str).unwrap_or("CAUSAL_LM");
    if task != "CAUSAL_LM" {
        return Err(format!("is for the task {task}, and only CAUSAL_LM is read: name an adapter of a language model"));
    }
    let bias = fields.get("bias").and_then(Value::as_str).unwrap_or("none");
    if bias != "none" {
        return Err(format!(
            "has bias={bias}, which trained the model's biases too: merge it into its model with peft's merge_and_unload, and \
             start from that model"
        ));
    }
    let merge = "merge it into its model with peft's merge_and_unload, and start from that model";
    if fields.get("modules_to_save").is_some_and(is_set) {
        let what = fields.get("modules_to_save").map(Value::to_string).unwrap_or_default();
        return Err(format!("has modules_to_save={what}, modules that were trained whole: {merge}"));
    }
    if let Some(start) = fields.get("init_lora_weights").and_then(Value::as_str) {
        let start = start.to_lowercase();
        if ["pissa", "olora", "corda", "loftq", "lora_ga"].iter().any(|name| start.starts_with(name)) {
            return Err(format!(
                "has init_lora_weights={start}, which changed the model's own weights: convert it with peft's \
                 save_pretrained(path_initial_model_for_weight_conversion=…), or {merge}"
            ));
        }
    }
    let map = fields.as_object().ok_or("is not a JSON object")?;
    match map.iter().find(|(key, value)| !IGNORED.contains(&key.as_str()) && is_set(value)) {
        Some((key, value)) => Err(format!("has {key}={value}, which is not implemented: {merge}")),
        None => Ok(()),
    }
}

/// A pattern in full, as Python's `re.fullmatch`.
fn full(pattern: &str) -> Result<Regex, String> {
    let read = Regex::new(&format!("^(?:{pattern})$"));
    read.map_err(|_| format!("has the pattern {pattern:?}, which cannot be read as a regular expression"))
}

/// Whether a list of names, or a pattern, selects a module, as peft does.
fn selects(value: &Value, key: &str) -> Result<impl Fn(&str) -> bool, String> {
    let (mut pattern, mut names) = (None, Vec::new());
    match value {
        Value::String(text) => pattern = Some(full(text)?),
        Value::Array(all) => {
            for one in all {
                names.push(one.as_str().ok_or_else(|| format!("has {key} of an unknown form"))?.to_owned());
            }
        }
        _ => return Err(format!("has {key} of an unknown form: expected a list of names or a regular expression")),
    }
    Ok(move |name: &str| {
        pattern.as_ref().is_some_and(|pattern| pattern.is_match(name))
            || names.iter().any(|own| name == own || name.ends_with(&format!(".{own}")))
    })
}

/// `rank_pattern` or `alpha_pattern`: the first pattern that a module's name ends with decides.
fn by_pattern(fields: &Value, key: &str) -> Result<Vec<(Regex, f64)>, String> {
    let Some(map) = fields.get(key).and_then(Value::as_object) else { return Ok(Vec::new()) };
    map.iter()
        .map(|(pattern, value)| {
            let value = value.as_f64().ok_or_else(|| format!("has {key} with {pattern}={value}: expected a number"))?;
            Ok((full(&format!("(.*\\.)?({pattern})"))?, value))
        })
        .collect()
}

/// The adapted modules with their ranks and alphas.
fn modules(fields: &Value, config: &Config) -> Result<BTreeMap<String, ModuleRank>, String> {
    let targets = fields.get("target_modules").ok_or("has no target_modules")?;
    let every = targets.as_str().is_some_and(|text| text.eq_ignore_ascii_case("all-linear"));
    let wanted = selects(targets, "target_modules")?;
    let excluded = match fields.get("exclude_modules").filter(|value| is_set(value)) {
        Some(value) => Some(selects(value, "exclude_modules")?),
        None => None,
    };
    let layers: Option<Vec<u64>> = match fields.get("layers_to_transform").filter(|value| is_set(value)) {
        None => None,
        Some(one @ Value::Number(_)) => Some(one.as_u64().into_iter().collect()),
        Some(Value::Array(all)) => Some(all.iter().filter_map(Value::as_u64).collect()),
        Some(other) => return Err(format!("has layers_to_transform={other} of an unknown form")),
    };
    if layers.is_some() && targets.is_string() {
        return Err("has layers_to_transform beside a target_modules that is no list, which peft refuses too".into());
    }
    let (ranks, alphas) = (by_pattern(fields, "rank_pattern")?, by_pattern(fields, "alpha_pattern")?);
    let (r, alpha) = (number(fields, "r").unwrap_or(8.0), number(fields, "lora_alpha").unwrap_or(8.0));
    let of = |all: &[(Regex, f64)], name: &str, usual: f64| {
        let found = all.iter().find(|(pattern, _)| names_of(name).any(|name| pattern.is_match(&name)));
        found.map_or(usual, |(_, value)| *value)
    };
    let mut out = BTreeMap::new();
    for (name, _, layer) in all_modules(config) {
        let chosen = (every || names_of(&name).any(|name| wanted(&name)))
            && !excluded.as_ref().is_some_and(|excluded| names_of(&name).any(|name| excluded(&name)))
            && layers.as_ref().is_none_or(|layers| layers.contains(&(layer as u64)));
        if chosen {
            let rank = ModuleRank { r: of(&ranks, &name, r) as usize, alpha: of(&alphas, &name, alpha) };
            out.insert(name, rank);
        }
    }
    if out.is_empty() {
        let own: Vec<&str> = config.linears().iter().map(LinearSpec::target).collect();
        return Err(format!(
            "has target_modules={targets}, none of which is a linear module of this model's layers ({}): name the model it was \
             made for",
            own.join(", ")
        ));
    }
    Ok(out)
}

/// Compares the tensors with the modules: every one has its own, in its shape, and no other is left over.
fn check_tensors(
    tensors: &BTreeMap<String, Tensor>,
    modules: &BTreeMap<String, ModuleRank>,
    config: &Config,
    dora: bool,
) -> Result<(), String> {
    let mut shapes: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for layer in 0..config.layers {
        for spec in config.linears_of(layer) {
            let name = config.layer_name(layer, spec.name);
            let Some(rank) = modules.get(&name) else { continue };
            shapes.insert(format!("{name}{LORA_A}"), vec![rank.r, spec.width]);
            shapes.insert(format!("{name}{LORA_B}"), vec![spec.out, rank.r]);
            if dora {
                shapes.insert(format!("{name}{MAGNITUDE}"), vec![spec.out]);
            }
        }
    }
    let left: Vec<&String> = tensors.keys().filter(|name| !shapes.contains_key(*name)).collect();
    if let Some(first) = left.first() {
        return Err(format!(
            "holds {} tensors that are not read, such as {first}: only linear modules of the decoder's layers are; merge it into \
             its model with peft's merge_and_unload, and start from that model",
            left.len()
        ));
    }
    for (name, shape) in &shapes {
        match tensors.get(name) {
            None => return Err(format!("lacks the tensor {name}, which adapter_config.json asks for: it is damaged")),
            Some(found) if found.dims() != shape.as_slice() => {
                return Err(format!(
                    "has {name} of shape {:?} where this model needs {shape:?}: name the model it was made for",
                    found.dims()
                ));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
