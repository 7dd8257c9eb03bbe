//! Exports a checkpoint as a GGUF file for llama.cpp and the programs on top of it, with an Ollama Modelfile beside it.
//!
//! Owns the choice of each tensor's type and llama.cpp's RoPE order. A model that was a GGUF file keeps its metadata as they are.
//! Refuses families that have no GGUF files here.

use super::gguf_architecture;
use super::gguf_vocabulary::{self, Vocabulary};
use super::modelfile::modelfile;
use crate::domain::{Finding, Severity};
use crate::model::config::Config;
use crate::model::error::Error;
use crate::model::family;
use crate::model::gguf::row_order::RowOrder;
use crate::model::gguf::write::{MetaValue, TensorPlan, WrittenType, write};
use crate::model::gguf::{Gguf, gguf_name, gguf_shape, is_router};
use crate::model::language_model::LanguageModel;
use crate::model::merge::{ExportPart, merge};
use crate::model::sink::Sink;
use crate::model::staged_folder::StagedFolder;
use crate::model::trained::{LORA_A, LORA_B, MAGNITUDE, Trained};
use crate::model::tune::Tune;
use crate::protocol::{ModelRef, RunEvent};
use candle_core::{DType, Device, Tensor};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

/// Writes the model at `base` with the checkpoint `trained` merged in, as `OUT/model-TYPE.gguf` and `OUT/Modelfile`. `written` is the
/// type of the matrices; norms and biases stay f32.
///
/// # Errors
/// When the checkpoint does not fit the model, the family or its tokenizer has no faithful GGUF form, or `out` is not empty or cannot
/// be written.
pub fn to_gguf(base: &ModelRef, trained: &Path, out: &Path, written: &str, sink: &mut dyn Sink) -> Result<(), Error> {
    let written = WrittenType::named(written)?;
    let mut trained = Trained::read(trained)?;
    // A value head has no place in a language model.
    ExportPart::Policy.split(&mut trained)?;
    let model = LanguageModel::open(Path::new(&base.path))?;
    check_family(&model)?;
    fits(&trained, &model.config)?;
    let folder = StagedFolder::new(out)?;
    let names: Vec<(String, Vec<usize>)> = model.config.tensors().collect();
    let total = names.len() as u64 + 1;
    sink.emit(RunEvent::Progressed { stage: "reading the tokenizer".into(), done: 0, total })?;
    let source = source(&model)?;
    let vocabulary = if source.is_some() { None } else { Some(gguf_vocabulary::of(&model)?) };
    let meta = metadata(&model, base, source.as_ref(), vocabulary.as_ref(), written)?;

    // What a GGUF file holds besides the model's tensors stays as it is; RoPE's divisors of a folder are computed.
    let mut plans = Vec::new();
    let mut ready: Vec<Vec<u8>> = Vec::new();
    for (name, shape, kind, bytes) in source.as_ref().map(|gguf| gguf.others(&model.config)).unwrap_or_default() {
        plans.push(TensorPlan { name, shape, kind, bytes: bytes.len() as u64 });
        ready.push(bytes.to_vec());
    }
    if source.is_none() {
        for (name, numbers) in gguf_architecture::factors(&model.config) {
            plans.push(TensorPlan::new(name, &[numbers.len()], WrittenType::F32));
            ready.push(numbers.iter().flat_map(|x| x.to_le_bytes()).collect());
        }
    }
    let extra = plans.len();
    let stacks = stacks(&names, &model.config)?;
    let mut types = Vec::new();
    let mut narrow = 0;
    for stack in &stacks {
        let (name, shape) = stack.first(&names)?;
        let kind = type_of(name, shape, &model.config, written);
        narrow += usize::from(shape.len() == 2 && kind == WrittenType::F16 && written.is_quantised());
        types.push(kind);
        plans.push(TensorPlan::new(stack.name.clone(), &stack.shape, kind));
    }
    let mut weights = model.weights(&Device::Cpu, DType::F32)?;
    let file = format!("model-{}.gguf", written.label());
    let mut done = 0;
    write(&folder.file(&file), &meta, &plans, |i| {
        let Some(i) = i.checked_sub(extra) else { return Ok(std::mem::take(&mut ready[i])) };
        let mut bytes = Vec::new();
        for (name, shape) in stacks[i].members.iter().filter_map(|member| names.get(*member)) {
            sink.emit(RunEvent::Progressed { stage: format!("merging {name}"), done, total })?;
            done += 1;
            let mut one = BTreeMap::from([(name.clone(), weights.take(name, shape)?)]);
            merge(&part(&trained, name), &mut one)?;
            let tensor = one.remove(name).ok_or_else(|| Error::Invalid(format!("the tensor {name} is lost")))?;
            bytes.extend(types[i].encode(name, &stored(name, &tensor, &model.config)?)?);
        }
        Ok(bytes)
    })?;
    weights.finish()?;
    let made = modelfile(&model, &file, adds_bos(source.as_ref(), vocabulary.as_ref()));
    let path = folder.file("Modelfile");
    std::fs::write(&path, &made.text).map_err(|e| Error::write(&path, &e))?;
    folder.finish()?;
    let mut notes = vocabulary.map(|v| v.notes).unwrap_or_default();
    notes.extend(made.note);
    let computed = model.config.family.gguf.windows;
    if let Some(window) = model.config.window.filter(|window| !computed && *window < model.config.context) {
        notes.push(format!(
            "Layers here see the last {window} tokens; llama.cpp computes this architecture without a window, so longer rows \
             get other answers there."
        ));
    }
    notes.extend(gguf_architecture::near(&model.config).map(str::to_owned));
    if narrow > 0 {
        let what =
            format!("{narrow} matrices are stored as F16: their rows are no multiple of {}'s block.", written.label());
        notes.push(what);
    }
    notes.into_iter().try_for_each(|text| note(text, sink))?;
    sink.emit(RunEvent::Progressed { stage: "written".into(), done: total, total })
}

/// A tensor of the file, and the model's tensors in it: one, or those of all experts.
struct TensorStack {
    name: String,
    shape: Vec<usize>,
    /// Their numbers among the model's.
    members: Vec<usize>,
}

impl TensorStack {
    fn first<'a>(&self, names: &'a [(String, Vec<usize>)]) -> Result<&'a (String, Vec<usize>), Error> {
        let first = self.members.first().and_then(|member| names.get(*member));
        first.ok_or_else(|| Error::Invalid(format!("the tensor {} has no parts", self.name)))
    }
}

/// The tensors of the file in the model's order; experts are in the order of their numbers.
fn stacks(names: &[(String, Vec<usize>)], config: &Config) -> Result<Vec<TensorStack>, Error> {
    let (mut all, mut known): (Vec<TensorStack>, HashMap<String, usize>) = (Vec::new(), HashMap::new());
    for (i, (name, shape)) in names.iter().enumerate() {
        let gguf = gguf_name(name, config);
        let gguf = gguf.ok_or_else(|| Error::Invalid(format!("the tensor {name} has no name in GGUF files")))?;
        let at = *known.entry(gguf.clone()).or_insert(all.len());
        match all.get_mut(at) {
            Some(stack) => stack.members.push(i),
            None => all.push(TensorStack { name: gguf, shape: shape.clone(), members: vec![i] }),
        }
        let Some(stack) = all.get_mut(at) else { continue };
        stack.shape = gguf_shape(name, shape, stack.members.len(), config);
    }
    Ok(all)
}

/// Tells the person something about the file.
pub(super) fn note(text: String, sink: &mut dyn Sink) -> Result<(), Error> {
    let (rule, severity) = ("gguf".to_owned(), Severity::Note);
    sink.emit(RunEvent::Found(Finding { rule, step: 0, severity, text, remedy: String::new(), pair: None }))
}

/// Refuses a family without GGUF files.
pub(super) fn check_family(model: &LanguageModel) -> Result<(), Error> {
    if !model.config.family.gguf.architecture.is_empty() {
        return Ok(());
    }
    let what = format!("writing the family {} as GGUF", model.config.family.name());
    let known = format!(
        "{} are; merge with --format hf and convert the folder with llama.cpp's convert_hf_to_gguf.py",
        family::known_gguf()
    );
    Err(Error::unsupported(&model.path, what, known))
}

/// The file of a model that is one.
pub(super) fn source(model: &LanguageModel) -> Result<Option<Gguf>, Error> {
    if model.path.is_dir() { Ok(None) } else { Gguf::open(&model.path).map(Some) }
}

/// Checks that every trained tensor belongs to a tensor of the model.
fn fits(trained: &Trained, config: &Config) -> Result<(), Error> {
    let known: HashSet<String> = config.tensors().map(|(name, _)| name).collect();
    let module = |name: &str| {
        [LORA_A, LORA_B, MAGNITUDE]
            .iter()
            .find_map(|end| name.strip_suffix(end))
            .map(|module| format!("{module}.weight"))
    };
    let is_known = |name: &String| match trained.tune {
        Tune::Full => known.contains(name),
        Tune::Lora(_) => module(name).is_some_and(|weight| known.contains(&weight)),
        Tune::None => true,
    };
    match trained.tensors.keys().find(|name| !is_known(name)) {
        None => Ok(()),
        Some(name) => {
            Err(Error::Invalid(format!("the checkpoint's {name} does not fit the model; it belongs to another one")))
        }
    }
}

/// The trained tensors of one weight.
fn part(trained: &Trained, weight: &str) -> Trained {
    let module = weight.strip_suffix(".weight").unwrap_or(weight);
    let belongs = |name: &str| {
        name == weight || [LORA_A, LORA_B, MAGNITUDE].iter().any(|end| name.strip_suffix(end) == Some(module))
    };
    let tensors = trained.tensors.iter().filter(|(name, _)| belongs(name));
    Trained { tune: trained.tune.clone(), tensors: tensors.map(|(name, t)| (name.clone(), t.clone())).collect() }
}

/// The type of a tensor: vectors and routers stay f32, rows that are not whole blocks f16; with 4 bits, the matrix of the output is finer, as
/// llama.cpp's own quantiser chooses.
fn type_of(name: &str, shape: &[usize], config: &Config, written: WrittenType) -> WrittenType {
    let [_, width] = *shape else { return WrittenType::F32 };
    if is_router(name, config) {
        return WrittenType::F32;
    }
    let names = &config.family.names;
    let output = if config.tied { names.embedding } else { names.head };
    let is_output = name.strip_suffix(".weight") == Some(output.hf);
    let wished = match written {
        WrittenType::Q4_0 if is_output && WrittenType::Q6K.fits(width) => WrittenType::Q6K,
        WrittenType::Q4_0 if is_output => WrittenType::Q8_0,
        other => other,
    };
    if wished.fits(width) { wished } else { WrittenType::F16 }
}

/// A tensor as the file stores it: the rows of q and k in llama.cpp's RoPE order, norms with the model's offset.
fn stored(name: &str, tensor: &Tensor, config: &Config) -> Result<Tensor, Error> {
    if config.layer.norm_offset != 0.0 && config.is_norm(name) {
        return Ok((tensor + config.layer.norm_offset)?);
    }
    match RowOrder::of(name, tensor.dims().first().copied().unwrap_or(0), config)? {
        Some(order) => order.written(tensor),
        None => Ok(tensor.clone()),
    }
}

/// Whether the file's tokenizer puts the starting token before a text.
fn adds_bos(source: Option<&Gguf>, vocabulary: Option<&Vocabulary>) -> bool {
    match (source, vocabulary) {
        (Some(gguf), _) => gguf.adds_bos(),
        (None, Some(vocabulary)) => vocabulary.adds_bos,
        (None, None) => false,
    }
}

fn metadata(
    model: &LanguageModel,
    base: &ModelRef,
    source: Option<&Gguf>,
    vocabulary: Option<&Vocabulary>,
    written: WrittenType,
) -> Result<Vec<(String, MetaValue)>, Error> {
    let mut meta = Vec::new();
    let own = ["general.file_type", "general.quantization_version", "general.alignment"];
    if let Some(gguf) = source {
        let kept = gguf.raw_meta().filter(|(key, _)| !own.contains(key) && !key.starts_with("split."));
        meta.extend(kept.map(|(key, bytes)| (key.to_owned(), MetaValue::Copied(bytes.to_vec()))));
    } else {
        meta.push(("general.architecture".into(), MetaValue::Text(model.config.family.gguf.architecture.into())));
        meta.push(("general.type".into(), MetaValue::Text("model".into())));
        let name = base.name.rsplit('/').next().unwrap_or(&base.name);
        meta.push(("general.name".into(), MetaValue::Text(name.into())));
        meta.extend(gguf_architecture::keys(model)?);
        meta.extend(vocabulary.map(|v| v.meta.clone()).unwrap_or_default());
    }
    meta.push((own[0].into(), MetaValue::U32(written.file_type())));
    if written.is_quantised() {
        meta.push((own[1].into(), MetaValue::U32(2)));
    }
    Ok(meta)
}

#[cfg(test)]
mod tests;
