//! One value anywhere in a model's weights is found and named; what the model does not read is not.

use super::*;
use std::fs;

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(path)
}

/// A model's files with those bytes of a tensor written over, from the start of its value or block number `at`.
fn damaged(model: &LanguageModel, dir: &Path, tensor: &str, at: usize, bad: &[u8]) -> PathBuf {
    let weights = model.weights(&Device::Cpu, DType::F32).unwrap();
    let (_, shape) = model.config.tensors().find(|(name, _)| name == tensor).unwrap();
    let (_, form, bytes) = weights.stored(tensor, &shape).unwrap();
    let source = if model.path.is_dir() { model.path.join("model.safetensors") } else { model.path.clone() };
    let mut file = fs::read(&source).unwrap();
    let places: Vec<usize> = memchr::memmem::find_iter(&file, &bytes[..]).collect();
    let [start] = places[..] else { panic!("{tensor} lies at {places:?}") };
    let from = start + at * form.size();
    file[from..from + bad.len()].copy_from_slice(bad);
    let place = dir.join(source.file_name().unwrap());
    fs::write(&place, file).unwrap();
    place
}

fn copied(folder: &Path, to: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn one_value_of_a_folder_names_its_file_and_tensor() {
    let tiny = LanguageModel::open(&fixture("tiny-llama")).unwrap();
    assert_eq!(not_finite(&tiny).unwrap(), None);
    let tensor = "model.layers.1.mlp.down_proj.weight";
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let dir = tempfile::tempdir().unwrap();
        copied(&tiny.path, dir.path());
        let (_, shape) = tiny.config.tensors().find(|(name, _)| name == tensor).unwrap();
        let form = tiny.weights(&Device::Cpu, DType::F32).unwrap().stored(tensor, &shape).unwrap().1;
        let bytes = match form {
            Stored::F32 => bad.to_le_bytes().to_vec(),
            Stored::Bf16 => half::bf16::from_f32(bad).to_le_bytes().to_vec(),
            _ => half::f16::from_f32(bad).to_le_bytes().to_vec(),
        };
        let file = damaged(&tiny, dir.path(), tensor, 7, &bytes);
        let said = not_finite(&LanguageModel::open(dir.path()).unwrap()).unwrap().unwrap();
        let start = format!("{}: the tensor {tensor} is not finite (1 of ", file.display());
        assert!(said.starts_with(&start) && said.contains(" values NaN or infinite): download"), "{said}");
    }
}

#[test]
fn the_factor_of_a_quantised_block_is_found() {
    for name in ["qwen3", "gemma3"] {
        let model = LanguageModel::open(&fixture(&format!("families/{name}.gguf"))).unwrap();
        assert_eq!(not_finite(&model).unwrap(), None, "{name}");
        let weights = model.weights(&Device::Cpu, DType::F32).unwrap();
        for (tensor, shape) in model.config.tensors() {
            let Some((stored, form, bytes)) = weights.stored(&tensor, &shape) else { continue };
            // Equal norms lie in a file several times.
            if bytes.len() < 1000 {
                continue;
            }
            let bad = match form {
                Stored::F32 => f32::NAN.to_le_bytes().to_vec(),
                _ => 0x7e00_u16.to_le_bytes().to_vec(),
            };
            let dir = tempfile::tempdir().unwrap();
            let at = bytes.len() / form.size() - 1;
            let factor = if let Stored::Blocks(_, factors) = form { factors[0] } else { 0 };
            let mut block = bytes[at * form.size()..].to_vec();
            block[factor..factor + bad.len()].copy_from_slice(&bad);
            let file = damaged(&model, dir.path(), &tensor, at, &block);
            let said = not_finite(&LanguageModel::open(&file).unwrap()).unwrap().unwrap();
            let start = format!("{}: the tensor {stored} is not finite (1 of ", file.display());
            assert!(said.starts_with(&start), "{said}");
        }
    }
}

#[test]
fn several_tensors_are_counted_and_a_checkpoint_is_looked_through() {
    let dir = tempfile::tempdir().unwrap();
    let tensor = |x: f32| candle_core::Tensor::new(&[1f32, x], &Device::Cpu).unwrap();
    let write = |b: f32| {
        let tensors = [("a", 1.0), ("b", b), ("c", 2.0), ("d", f32::NAN)].map(|(name, x)| (name.to_owned(), tensor(x)));
        let tensors = if b.is_finite() { tensors[..3].to_vec() } else { tensors.to_vec() };
        crate::model::Trained::write_values(dir.path(), &crate::model::Tune::Full, tensors).unwrap();
    };
    write(3.0);
    assert_eq!(not_finite_trained(dir.path()).unwrap(), None);
    write(f32::INFINITY);
    let said = not_finite_trained(dir.path()).unwrap().unwrap();
    let expected =
        "the tensor b is not finite (1 of 2 values NaN or infinite; the first of 2 such tensors of 4): take an earlier";
    assert!(said.contains(expected), "{said}");
}
