//! Exports a run's LoRA as a GGUF adapter, which llama.cpp applies to the base model's GGUF file (`--lora`).
//!
//! Owns the adapter's metadata and its tensors' names and order of rows. Refuses full runs, DoRA, and quantised types.

use super::gguf::{check_family, source};
use crate::model::error::Error;
use crate::model::gguf::gguf_name;
use crate::model::gguf::row_order::RowOrder;
use crate::model::gguf::write::{MetaValue, TensorPlan, WrittenType, write};
use crate::model::language_model::LanguageModel;
use crate::model::sink::Sink;
use crate::model::staged_folder::StagedFolder;
use crate::model::trained::{LORA_A, LORA_B, Trained};
use crate::model::tune::Tune;
use crate::protocol::{ModelRef, RunEvent};
use candle_core::Tensor;
use std::path::Path;

/// Writes the checkpoint's adapter as `OUT/adapter-TYPE.gguf`, with a Modelfile where the base is a GGUF file.
///
/// # Errors
/// When the checkpoint has no adapter that llama.cpp applies, or `out` is not empty or cannot be written.
pub fn to_gguf_adapter(
    base: &ModelRef,
    trained: &Path,
    out: &Path,
    written: &str,
    sink: &mut dyn Sink,
) -> Result<(), Error> {
    let written = WrittenType::named(written)?;
    if written.is_quantised() {
        let label = written.label().to_lowercase();
        return Err(Error::Invalid(format!("an adapter is not quantised to {label}: use --type f32 or f16")));
    }
    let trained = Trained::read(trained)?;
    let Tune::Lora(spec) = &trained.tune else {
        return Err(Error::Invalid("this run trained every weight, so it has no adapter; use --format gguf".into()));
    };
    if spec.dora {
        return Err(Error::Invalid("llama.cpp applies no DoRA adapters; use --format gguf, which merges it".into()));
    }
    let model = LanguageModel::open(Path::new(&base.path))?;
    check_family(&model)?;
    let unfit = |name: &str| {
        Error::Invalid(format!("the checkpoint's {name} does not fit the model; it belongs to another one"))
    };
    let mut tensors: Vec<(String, Tensor)> = Vec::new();
    for (name, a) in &trained.tensors {
        let Some(module) = name.strip_suffix(LORA_A) else { continue };
        let weight = format!("{module}.weight");
        let b = trained.tensors.get(&format!("{module}{LORA_B}")).ok_or_else(|| unfit(name))?;
        let gguf = gguf_name(&weight, &model.config).ok_or_else(|| unfit(name))?;
        // The rows of B are those of the weight, so they are in its order.
        let order = RowOrder::of(&weight, b.dim(0)?, &model.config).map_err(|_| unfit(name))?;
        let b = order.map_or_else(|| Ok(b.clone()), |order| order.written(b))?;
        tensors.push((format!("{gguf}.lora_a"), a.clone()));
        tensors.push((format!("{gguf}.lora_b"), b));
    }
    if tensors.is_empty() {
        return Err(Error::Invalid("the checkpoint holds no adapter; use --format gguf".into()));
    }
    let folder = StagedFolder::new(out)?;
    let text = |text: &str| MetaValue::Text(text.to_owned());
    // llama.cpp multiplies by alpha/r; another scale (rsLoRA's alpha/√r) becomes such an alpha.
    let meta = [
        ("general.architecture", text(model.config.family.gguf.architecture)),
        ("general.type", text("adapter")),
        ("general.name", text(base.name.rsplit('/').next().unwrap_or(&base.name))),
        ("general.file_type", MetaValue::U32(written.file_type())),
        ("adapter.type", text("lora")),
        ("adapter.lora.alpha", MetaValue::F32((spec.scale() * spec.r as f64) as f32)),
    ];
    let meta: Vec<(String, MetaValue)> = meta.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let plans: Vec<TensorPlan> =
        tensors.iter().map(|(name, tensor)| TensorPlan::new(name, tensor.dims(), written)).collect();
    let file = format!("adapter-{}.gguf", written.label());
    write(&folder.file(&file), &meta, &plans, |i| written.encode(&tensors[i].0, &tensors[i].1))?;
    if source(&model)?.is_some() {
        let path = folder.file("Modelfile");
        let text =
            format!("# The base model's path holds on this machine only.\nFROM {}\nADAPTER ./{file}\n", base.path);
        std::fs::write(&path, text).map_err(|e| Error::write(&path, &e))?;
    }
    folder.finish()?;
    sink.emit(RunEvent::Progressed { stage: "written".into(), done: 1, total: 1 })
}
