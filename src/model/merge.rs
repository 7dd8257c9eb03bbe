//! Exports a checkpoint: a merged Hugging Face folder for `transformers`, a PEFT adapter folder, or GGUF files (`gguf`,
//! `gguf_adapter`).
//!
//! Owns the arithmetic of merging and the files of the first two; `head` decides what becomes of a scalar head. Refuses to export a
//! full run as an adapter.

pub mod gguf;
pub mod gguf_adapter;
mod gguf_architecture;
mod gguf_vocabulary;
mod head;
mod modelfile;

pub use head::ExportPart;

use super::config::{Config, RopeScaling, text_part};
use super::error::Error;
use super::language_model::LanguageModel;
use super::layer::activation_name;
use super::sink::Sink;
use super::staged_folder::StagedFolder;
use super::template::TOOL_USE_FILE;
use super::trained::{LORA_A, LORA_B, MAGNITUDE, SCORE, Trained, write_tensors};
use super::tune::{LoraSpec, Tune};
use crate::domain::{Finding, Severity};
use crate::foreign;
use crate::protocol::{ModelRef, RunEvent};
use candle_core::{D, DType, Device, Tensor};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// The type of merged weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// f32: the merged model computes what base and adapter compute.
    Exact,
    /// The base model's type: half the size for bf16, with rounded weights.
    AsBase,
}

/// Files copied unchanged with the weights.
const COMPANIONS: [&str; 11] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "generation_config.json",
    "chat_template.jinja",
    TOOL_USE_FILE,
    "LICENSE",
];

/// Writes `part` of the model at `base` with the checkpoint `trained` merged in as a Hugging Face folder at `out`. A scorer is a
/// folder for `AutoModelForSequenceClassification` with one label.
///
/// # Errors
/// When the checkpoint does not fit the model or has no such part, or `out` is not empty or cannot be written.
pub fn to_hf(
    base: &ModelRef,
    trained: &Path,
    out: &Path,
    part: ExportPart,
    precision: Precision,
    sink: &mut dyn Sink,
) -> Result<(), Error> {
    let mut trained = Trained::read(trained)?;
    let head = part.split(&mut trained)?;
    let model = LanguageModel::open(Path::new(&base.path))?;
    let class = if head.is_some() { Some(head::classifier(&model)?) } else { None };
    let folder = StagedFolder::new(out)?;
    let total = 3;
    sink.emit(RunEvent::Progressed { stage: "reading weights".into(), done: 0, total })?;
    let mut weights = model.weights(&Device::Cpu, DType::F32)?;
    let mut tensors = BTreeMap::new();
    for (name, shape) in model.config.tensors() {
        let tensor = weights.take(&name, &shape)?;
        tensors.insert(name, tensor);
    }
    weights.finish()?;
    let quantised = weights.quantised();
    sink.emit(RunEvent::Progressed { stage: "merging".into(), done: 1, total })?;
    merge(&trained, &mut tensors)?;
    if let Some(head) = head {
        // The scalar head stands in place of an untied language-model head.
        tensors.remove(&format!("{}.weight", model.config.family.names.head.hf));
        tensors.insert(SCORE.into(), head.to_dtype(DType::F32)?);
    }
    let mut config = hf_config(&model)?;
    let dtype = match precision {
        Precision::Exact => DType::F32,
        Precision::AsBase => base_type(&config),
    };
    for tensor in tensors.values_mut() {
        *tensor = tensor.to_dtype(dtype)?;
    }
    let name = if dtype == DType::BF16 {
        "bfloat16"
    } else if dtype == DType::F16 {
        "float16"
    } else {
        "float32"
    };
    if let Some(map) = config.as_object_mut() {
        // The weights are written unquantised.
        map.remove("quantization_config");
        let key = if map.contains_key("torch_dtype") { "torch_dtype" } else { "dtype" };
        map.insert(key.into(), name.into());
        map.insert("tie_word_embeddings".into(), model.config.tied.into());
    }
    let padding = if class.is_some() { head::padding(&model)? } else { None };
    if let (Some(class), Some(map)) = (class, config.as_object_mut()) {
        head::classify(map, class, padding.as_ref());
    }
    sink.emit(RunEvent::Progressed { stage: "writing".into(), done: 2, total })?;
    let tensors = weights.written(tensors)?;
    write_tensors(
        &folder.file("model.safetensors"),
        &tensors,
        HashMap::from([("format".to_owned(), "pt".to_owned())]),
    )?;
    folder.json("config.json", &config)?;
    companions(&model, &folder)?;
    if let Some(padding) = &padding {
        head::write_padding(&folder, padding)?;
    }
    folder.finish()?;
    if class.is_some() {
        head::note_padding(padding.as_ref(), false, sink)?;
    }
    if quantised > 0 {
        let text =
            format!("The base model's experts are in MXFP4; those of the merged folder are unquantised, in {name}.");
        let (rule, severity) = ("merge".to_owned(), Severity::Note);
        sink.emit(RunEvent::Found(Finding { rule, step: 0, severity, text, remedy: String::new(), pair: None }))?;
    }
    sink.emit(RunEvent::Progressed { stage: "written".into(), done: total, total })
}

/// Writes the checkpoint's adapter as a folder that Python's peft loads on the model named `base`. A scorer's adapter is one for
/// sequence classification, with the score head saved whole beside it.
///
/// # Errors
/// When the checkpoint is of a full run or has no such part, or `out` is not empty or cannot be written.
pub fn to_peft(
    base: &ModelRef,
    trained: &Path,
    out: &Path,
    part: ExportPart,
    sink: &mut dyn Sink,
) -> Result<(), Error> {
    let mut trained = Trained::read(trained)?;
    let head = part.split(&mut trained)?;
    let Tune::Lora(spec) = &trained.tune else {
        return Err(Error::Invalid("this run trained every weight, so it has no adapter; use --format hf".into()));
    };
    let (mut task, mut saved, mut padding) = ("CAUSAL_LM", Value::Null, None);
    if head.is_some() {
        let model = LanguageModel::open(Path::new(&base.path))?;
        head::classifier(&model)?;
        padding = head::padding(&model)?;
        (task, saved) = ("SEQ_CLS", json!(["score"]));
    }
    let folder = StagedFolder::new(out)?;
    // In a whole model the text model is a part.
    let whole = super::fields::json(&Path::new(&base.path).join("config.json"))?.unwrap_or_default();
    let inside = whole.get("text_config").is_some();
    let kind = whole.get("model_type").and_then(Value::as_str).and_then(super::family::by_model_type);
    let transposed = kind.is_some_and(|family| family.names.transposed);
    let named = |name: &str| match name.strip_prefix("model.").filter(|_| inside) {
        Some(rest) => format!("base_model.model.model.language_model.{rest}"),
        None => format!("base_model.model.{name}"),
    };
    let mut tensors: Vec<_> = trained.tensors.iter().map(|(n, t)| (named(n), t.clone())).collect();
    tensors.extend(head.as_ref().map(|head| (format!("base_model.model.{SCORE}"), head.clone())));
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    write_tensors(&folder.file("adapter_model.safetensors"), tensors, metadata)?;
    // peft reads alpha as a whole number where it is one.
    let alpha: Value = if spec.alpha.fract() == 0.0 { (spec.alpha as i64).into() } else { spec.alpha.into() };
    let (name, revision) = match on_hub(Path::new(&base.path)) {
        Some((name, commit)) => (name, Some(commit)),
        None => (base.path.clone(), None),
    };
    // Modules that differ are named in full.
    let full = |name: &String| match name.strip_prefix("model.").filter(|_| inside) {
        Some(rest) => format!("language_model.{rest}"),
        None => name.clone(),
    };
    let targets: Value = match (spec.modules.is_empty(), inside) {
        (false, _) => spec.modules.keys().map(full).collect(),
        (true, false) => adapted_modules(&trained, spec).into(),
        // Names alone would also select modules of the model's other parts, some of which peft cannot adapt.
        (true, true) => {
            let names = adapted_modules(&trained, spec).join("|");
            format!(r"(.*language_model\.|model\.)layers\.\d+\.(.*\.)?({names})").into()
        }
    };
    let ranks: BTreeMap<String, usize> =
        spec.modules.iter().filter(|(_, m)| m.r != spec.r).map(|(name, m)| (full(name), m.r)).collect();
    let alphas: BTreeMap<String, f64> =
        spec.modules.iter().filter(|(_, m)| m.alpha != spec.alpha).map(|(name, m)| (full(name), m.alpha)).collect();
    let config = json!({
        "peft_type": "LORA", "task_type": task, "base_model_name_or_path": name, "revision": revision, "inference_mode": true,
        "r": spec.r, "lora_alpha": alpha, "lora_dropout": spec.dropout, "use_rslora": spec.rslora, "use_dora": spec.dora,
        "bias": "none",
        "target_modules": targets, "rank_pattern": ranks, "alpha_pattern": alphas, "fan_in_fan_out": transposed, "init_lora_weights": true, "modules_to_save": saved,
    });
    folder.json("adapter_config.json", &config)?;
    folder.finish()?;
    if head.is_some() {
        head::note_padding(padding.as_ref(), true, sink)?;
    }
    sink.emit(RunEvent::Progressed { stage: "written".into(), done: 1, total: 1 })
}

/// The name and the commit on the Hugging Face hub of a model in its cache: `…/models--ORG--NAME/snapshots/COMMIT`.
fn on_hub(path: &Path) -> Option<(String, String)> {
    let commit = path.file_name()?.to_str()?;
    let all = path.parent().filter(|all| all.ends_with("snapshots"))?;
    let name = all.parent()?.file_name()?.to_str()?.strip_prefix("models--")?.replacen("--", "/", 1);
    (commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit())).then(|| (name, commit.to_owned()))
}

/// The names of the modules with adapters: the targets, or the fused modules that they became.
fn adapted_modules(trained: &Trained, spec: &LoraSpec) -> Vec<String> {
    let module = |name: &String| Some(name.strip_suffix(LORA_A)?.rsplit('.').next()?.to_owned());
    let adapted: BTreeSet<String> = trained.tensors.keys().filter_map(module).collect();
    let same = spec.targets.len() == adapted.len() && spec.targets.iter().all(|target| adapted.contains(target));
    if same { spec.targets.clone() } else { adapted.into_iter().collect() }
}

/// Applies the trained tensors: full weights replace, adapters are added as `W + scale·B·A`, whose rows DoRA rescales to its
/// magnitudes.
fn merge(trained: &Trained, tensors: &mut BTreeMap<String, Tensor>) -> Result<(), Error> {
    let unfit = |name: &str| {
        Error::Invalid(format!("the checkpoint's {name} does not fit the model; it belongs to another one"))
    };
    match &trained.tune {
        Tune::None => Ok(()),
        Tune::Full => {
            for (name, tensor) in &trained.tensors {
                let old = tensors.get_mut(name).filter(|t| t.dims() == tensor.dims()).ok_or_else(|| unfit(name))?;
                *old = tensor.to_dtype(DType::F32)?;
            }
            Ok(())
        }
        Tune::Lora(spec) => {
            for (name, a) in &trained.tensors {
                let Some(module) = name.strip_suffix(LORA_A) else { continue };
                let b = trained.tensors.get(&format!("{module}{LORA_B}")).ok_or_else(|| unfit(name))?;
                let update =
                    b.to_dtype(DType::F32)?.matmul(&a.to_dtype(DType::F32)?)?.affine(spec.scale_of(module), 0.0)?;
                let weight = tensors.get_mut(&format!("{module}.weight")).filter(|w| w.dims() == update.dims());
                let weight = weight.ok_or_else(|| unfit(name))?;
                *weight = (&*weight + update)?;
                if spec.dora {
                    let magnitude = trained.tensors.get(&format!("{module}{MAGNITUDE}"));
                    let magnitude = magnitude.filter(|m| m.dims() == &weight.dims()[..1]).ok_or_else(|| unfit(name))?;
                    let dora_scale = magnitude.to_dtype(DType::F32)?.div(&weight.sqr()?.sum(D::Minus1)?.sqrt()?)?;
                    *weight = weight.broadcast_mul(&dora_scale.unsqueeze(1)?)?;
                }
            }
            Ok(())
        }
    }
}

fn base_type(config: &Value) -> DType {
    match config.get("dtype").or(config.get("torch_dtype")).and_then(Value::as_str) {
        Some("bfloat16") => DType::BF16,
        Some("float16") => DType::F16,
        // As `transformers` dequantises.
        None if config.get("quantization_config").is_some() => DType::BF16,
        _ => DType::F32,
    }
}

/// The base folder's own config.json, or one made from a GGUF file's metadata.
fn hf_config(model: &LanguageModel) -> Result<Value, Error> {
    if model.path.is_dir() {
        let path = model.path.join("config.json");
        let text = foreign::read_text(&path, foreign::CONFIG).map_err(|e| Error::read(&path, &e))?;
        let whole: Value =
            serde_json::from_str(&text).map_err(|e| Error::file(&path, format!("is not valid JSON: {e}")))?;
        // Of a whole model only the text model is merged.
        let Some(mut part) = whole.as_object().and_then(text_part) else { return Ok(whole) };
        part.insert("architectures".into(), json!([model.config.family.class]));
        for key in ["dtype", "torch_dtype"] {
            if let Some(value) = whole.get(key).filter(|_| !part.contains_key(key)) {
                part.insert(key.into(), value.clone());
            }
        }
        return Ok(part.into());
    }
    let c: &Config = &model.config;
    let mut rope = json!({"rope_type": "default", "rope_theta": c.rope_theta});
    match &c.rope_scaling {
        RopeScaling::None => {}
        RopeScaling::Linear(factor) => {
            rope = json!({"rope_type": "linear", "factor": factor, "rope_theta": c.rope_theta});
        }
        RopeScaling::Llama3 { factor, low, high, original } => {
            rope = json!({"rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": high,
                "original_max_position_embeddings": original, "rope_theta": c.rope_theta});
        }
        RopeScaling::Divided(_)
        | RopeScaling::Dynamic(_)
        | RopeScaling::Yarn { .. }
        | RopeScaling::Proportional { .. }
        | RopeScaling::LongRope { .. } => {
            let known = "merge from the model's Hugging Face folder instead";
            return Err(Error::unsupported(
                &model.path,
                "writing a config.json for rope frequencies of a GGUF file",
                known,
            ));
        }
    }
    Ok(json!({
        "architectures": [c.family.class], "model_type": c.family.name(), "hidden_size": c.hidden, "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads, "num_key_value_heads": c.kv_heads, "head_dim": c.head_dim,
        "intermediate_size": c.ff, "vocab_size": c.vocab, "rope_parameters": rope, "rope_theta": c.rope_theta,
        "rms_norm_eps": c.rms_eps, "tie_word_embeddings": c.tied, "hidden_act": activation_name(c.layer.activation), "attention_bias": c.layer.o_bias,
        "mlp_bias": c.layer.mlp_bias, "max_position_embeddings": c.context, "eos_token_id": c.eos.first(),
        "bos_token_id": c.bos, "pad_token_id": c.pad, "dtype": "float32",
    }))
}

/// Copies tokenizer and template of a folder, or extracts those of a GGUF file.
fn companions(model: &LanguageModel, folder: &StagedFolder) -> Result<(), Error> {
    if model.path.is_dir() {
        for name in COMPANIONS {
            let from = model.path.join(name);
            if from.is_file() {
                let to = folder.file(name);
                in_folder(&to)?;
                std::fs::copy(&from, &to).map_err(|e| Error::file(&from, format!("cannot be copied: {e}")))?;
            }
        }
        return Ok(());
    }
    let write = |name: &str, text: &str| {
        let path = folder.file(name);
        in_folder(&path)?;
        std::fs::write(&path, text).map_err(|e| Error::write(&path, &e))
    };
    write("tokenizer.json", &model.tokenizer.to_json()?)?;
    let s = &model.tokenizer.special;
    let mut config = json!({"tokenizer_class": "PreTrainedTokenizerFast"});
    for (key, text) in [("bos_token", &s.bos), ("eos_token", &s.eos), ("pad_token", &s.pad), ("unk_token", &s.unk)] {
        if let Some(text) = text {
            config[key] = text.clone().into();
        }
    }
    folder.json("tokenizer_config.json", &config)?;
    folder.json("generation_config.json", &json!({"eos_token_id": model.tokenizer.stops()}))?;
    let Some(template) = &model.template else { return Ok(()) };
    write("chat_template.jinja", template.source())?;
    template.tool_use().map_or(Ok(()), |source| write(TOOL_USE_FILE, source))
}

/// Makes the folder of a file.
fn in_folder(file: &Path) -> Result<(), Error> {
    let folder = file.parent().unwrap_or(file);
    std::fs::create_dir_all(folder).map_err(|e| Error::write(folder, &e))
}

#[cfg(test)]
mod tests;
