//! AdamW (Loshchilov & Hutter 2019) with f32 moments, decoupled decay and clipping by the global norm.
//!
//! Owns the moments and saves and restores them exactly. Refuses gradients that are not finite, and then changes nothing.
//! As in Hugging Face's trainer, norms and biases have no weight decay, DoRA's magnitudes have it, and gradients are scaled by
//! min(1, max/(norm + 1e-6)).

mod device;

use super::contract::Gradients;
use super::cpu::values;
use crate::domain::TrainerParams;
use crate::model::error::Error;
use crate::model::trained::{MAGNITUDE, write_tensors};
use candle_core::{CpuStorage, D, DType, InplaceOp1, Layout, Tensor, Var};
pub(super) use device::DeviceUpdate;
use safetensors::{Dtype, View};
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::Path;
use tiebreak_kernels::adam::{self, Adam};

/// The optimizer and its state.
pub struct AdamW {
    beta1: f64,
    beta2: f64,
    eps: f64,
    decay: f64,
    /// 0 never clips.
    max_norm: f64,
    count: u64,
    /// First and second moment of each trainable.
    moments: Vec<Moments>,
}

/// The moments of a trainable, of its shape.
enum Moments {
    /// Of an f32 parameter on the CPU: one loop updates parameter and moments.
    Host { m: Vec<f32>, v: Vec<f32> },
    /// Of any other parameter; see [`DeviceUpdate`].
    Tensors { m: Tensor, v: Tensor },
}

impl Moments {
    /// The given moments, stored as `var` needs them.
    fn of(var: &Var, m: Tensor, v: Tensor) -> Result<Self, Error> {
        if !(var.device().is_cpu() && var.dtype() == DType::F32) {
            return Ok(Self::Tensors { m, v });
        }
        let numbers = |t: Tensor| t.flatten_all()?.to_vec1::<f32>();
        Ok(Self::Host { m: numbers(m)?, v: numbers(v)? })
    }

    /// Views of both for writing, first moment first.
    fn both<'a>(&'a self, shape: &'a [usize]) -> [Written<'a>; 2] {
        match self {
            Self::Tensors { m, v } => [m, v].map(Written::Tensor),
            Self::Host { m, v } => [m, v].map(|numbers| Written::Numbers { shape, numbers }),
        }
    }
}

/// A moment being written to a file, without a copy of all moments.
enum Written<'a> {
    Numbers { shape: &'a [usize], numbers: &'a [f32] },
    Tensor(&'a Tensor),
}

impl View for Written<'_> {
    fn dtype(&self) -> Dtype {
        match self {
            Self::Numbers { .. } => Dtype::F32,
            Self::Tensor(tensor) => View::dtype(tensor),
        }
    }

    fn shape(&self) -> &[usize] {
        match self {
            Self::Numbers { shape, .. } => shape,
            Self::Tensor(tensor) => tensor.dims(),
        }
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Numbers { numbers, .. } => numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::Tensor(tensor) => View::data(tensor),
        }
    }

    fn data_len(&self) -> usize {
        match self {
            Self::Numbers { numbers, .. } => size_of_val(*numbers),
            Self::Tensor(tensor) => View::data_len(tensor),
        }
    }
}

/// The update of one parameter on the CPU.
struct Step<'a> {
    gradient: &'a [f32],
    moments: RefCell<(&'a mut [f32], &'a mut [f32])>,
    by: Adam,
    /// Whether it changed anything.
    moved: Cell<bool>,
}

impl InplaceOp1 for Step<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let (CpuStorage::F32(all), Some((first, end))) = (storage, layout.contiguous_offsets()) else {
            candle_core::bail!("adamw: a parameter of f32 in one piece is updated here");
        };
        let (m, v) = &mut *self.moments.borrow_mut();
        self.moved.set(adam::adamw(&mut all[first..end], self.gradient, m, v, self.by));
        Ok(())
    }
}

/// What an update did.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Update {
    /// Trainables whose gradient was absent or zero in every element.
    pub without_gradient: Vec<usize>,
    /// Trainables that had a gradient and yet have the same value as before.
    pub unmoved: Vec<usize>,
}

impl AdamW {
    /// An optimizer for `trainables`, with zero moments.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn new(params: &TrainerParams, trainables: &[(String, Var)]) -> Result<Self, Error> {
        let zeros = |v: &Var| Tensor::zeros(v.shape(), DType::F32, v.device());
        let moments = trainables.iter().map(|(_, v)| Moments::of(v, zeros(v)?, zeros(v)?)).collect::<Result<_, _>>()?;
        Ok(Self {
            beta1: params.adam_beta1,
            beta2: params.adam_beta2,
            eps: params.adam_epsilon,
            decay: params.weight_decay,
            max_norm: params.max_grad_norm,
            count: 0,
            moments,
        })
    }

    /// The L2 norm of all gradients together; NaN or infinite if any element is.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn norm(gradients: &Gradients) -> Result<f64, Error> {
        let (mut sum, mut elsewhere) = (0.0, Vec::new());
        for g in gradients.iter().flatten() {
            if g.device().is_cpu() {
                sum += squares(g)?;
            } else {
                elsewhere.push(g);
            }
        }
        if !elsewhere.is_empty() {
            sum += squares_elsewhere(&elsewhere)?;
        }
        Ok(sum.sqrt())
    }

    /// Makes one update with learning rate `rate`; `norm` is [`AdamW::norm`] of the gradients. `watch` also checks which
    /// trainables changed, at the cost of a comparison each.
    ///
    /// # Errors
    /// When the norm is not finite, or a tensor operation fails.
    pub fn update(
        &mut self,
        trainables: &[(String, Var)],
        gradients: &Gradients,
        norm: f64,
        rate: f64,
        watch: bool,
    ) -> Result<Update, Error> {
        if !norm.is_finite() {
            return Err(Error::Invalid(format!("an update was asked for with a gradient norm of {norm}")));
        }
        let scale = if self.max_norm > 0.0 { (self.max_norm / (norm + 1e-6)).min(1.0) } else { 1.0 };
        self.count += 1;
        let count = self.count as f64;
        let (bias1, bias2) = (1.0 - self.beta1.powf(count), 1.0 - self.beta2.powf(count));
        let (beta1, beta2, eps) = (self.beta1, self.beta2, self.eps);
        let mut done = Update::default();
        let (mut before, mut elsewhere) = (Vec::new(), Vec::new());
        for (i, ((name, var), moments)) in trainables.iter().zip(&mut self.moments).enumerate() {
            let Some(gradient) = gradients.get(i) else {
                done.without_gradient.push(i);
                continue;
            };
            if watch && squares(gradient)? == 0.0 {
                done.without_gradient.push(i);
            }
            let decay = if decays(name, var) { self.decay } else { 0.0 };
            let by = Adam { scale, beta1, beta2, bias2, eps, rate: rate / bias1, keep: 1.0 - rate * decay };
            match moments {
                Moments::Host { m, v } => {
                    let gradient = gradient.to_dtype(DType::F32)?.contiguous()?;
                    let gradient = values(&gradient)?;
                    let step = Step { gradient: &gradient, moments: RefCell::new((m, v)), by, moved: Cell::new(true) };
                    var.as_tensor().inplace_op1(&step)?;
                    if watch && !step.moved.get() && !done.without_gradient.contains(&i) {
                        done.unmoved.push(i);
                    }
                }
                Moments::Tensors { m, v } => {
                    if watch {
                        before.push((i, var.as_tensor().copy()?));
                    }
                    elsewhere.push(DeviceUpdate {
                        var,
                        gradient: gradient.to_dtype(DType::F32)?.contiguous()?,
                        m,
                        v,
                        by,
                    });
                }
            }
        }
        update_elsewhere(&mut elsewhere)?;
        for (i, before) in before {
            let same = squares(&(before - trainables[i].1.as_tensor())?)? == 0.0;
            if same && !done.without_gradient.contains(&i) {
                done.unmoved.push(i);
            }
        }
        Ok(done)
    }

    /// Updates made.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Writes the moments to a safetensors file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, trainables: &[(String, Var)], path: &Path) -> Result<(), Error> {
        let mut all = Vec::with_capacity(2 * trainables.len());
        for ((name, var), moments) in trainables.iter().zip(&self.moments) {
            for (kind, moment) in ["m", "v"].into_iter().zip(moments.both(var.dims())) {
                all.push((format!("{kind}.{name}"), moment));
            }
        }
        write_tensors(path, all, HashMap::new())
    }

    /// Takes the moments from a file that [`AdamW::save`] wrote, after `count` updates.
    ///
    /// # Errors
    /// When the file cannot be read or belongs to other trainables.
    pub fn restore(&mut self, trainables: &[(String, Var)], path: &Path, count: u64) -> Result<(), Error> {
        let mut all = read(path, trainables.first().map(|(_, v)| v.device()))?;
        let mut moments = Vec::with_capacity(trainables.len());
        for (name, var) in trainables {
            let mut take = |kind: &str| {
                all.remove(&format!("{kind}.{name}")).filter(|t| t.dims() == var.dims()).ok_or_else(|| {
                    Error::file(path, format!("has no fitting {kind}.{name}; the checkpoint belongs to another run"))
                })
            };
            moments.push(Moments::of(var, take("m")?, take("v")?)?);
        }
        self.moments = moments;
        self.count = count;
        Ok(())
    }
}

/// Whether a parameter has weight decay. Hugging Face's trainer leaves out norms and biases by their names: all other vectors that
/// are trained are DoRA's magnitudes.
fn decays(name: &str, var: &Var) -> bool {
    var.rank() > 1 || name.ends_with(MAGNITUDE)
}

/// The tensors of a safetensors file on `device` (the CPU if none).
fn read(path: &Path, device: Option<&candle_core::Device>) -> Result<HashMap<String, Tensor>, Error> {
    candle_core::safetensors::load(path, device.unwrap_or(&candle_core::Device::Cpu))
        .map_err(|e| Error::tensors(path, "cannot be read", &e))
}

/// Updates all of them in one kernel if there is one, else one by one.
fn update_elsewhere(all: &mut [DeviceUpdate<'_>]) -> Result<(), Error> {
    #[cfg(feature = "cuda")]
    if super::cuda::adamw(all)? {
        return Ok(());
    }
    for one in all {
        one.step()?;
    }
    Ok(())
}

/// Σ x² of gradients on another device, read back once: every read-back waits for the device.
fn squares_elsewhere(all: &[&Tensor]) -> Result<f64, Error> {
    #[cfg(feature = "cuda")]
    if let Some(sum) = super::cuda::squares(all)? {
        return Ok(sum);
    }
    let sums: Vec<Tensor> =
        all.iter().map(|g| Ok(g.to_dtype(DType::F32)?.sqr()?.sum_all()?)).collect::<Result<_, Error>>()?;
    Ok(Tensor::stack(&sums, 0)?.to_vec1::<f32>()?.into_iter().map(f64::from).sum())
}

/// Σ x².
fn squares(x: &Tensor) -> Result<f64, Error> {
    if x.device().is_cpu() && x.dtype() == DType::F32 {
        return Ok(adam::squares(&values(&x.contiguous()?)?));
    }
    let rows = x.sqr()?.sum(D::Minus1)?;
    Ok(rows.to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Hyperparameters, Params};
    use candle_core::Device;

    fn params(pairs: &[(&str, &str)]) -> TrainerParams {
        let mut p = Params::default();
        let base = [
            ("adam_beta1", "0.9"),
            ("adam_beta2", "0.999"),
            ("adam_epsilon", "1e-8"),
            ("weight_decay", "0"),
            ("max_grad_norm", "1"),
        ];
        for (k, v) in base.iter().chain(pairs) {
            p.0.insert((*k).into(), (*v).into());
        }
        TrainerParams::read(&p).unwrap()
    }

    fn trainables() -> Vec<(String, Var)> {
        let var = |x: &[f32], shape: &[usize]| {
            Var::from_tensor(&Tensor::from_slice(x, shape, &Device::Cpu).unwrap()).unwrap()
        };
        vec![("w".into(), var(&[1.0, -2.0, 0.5, 3.0], &[2, 2])), ("norm".into(), var(&[1.0, 1.0], &[2]))]
    }

    fn gradients(k: usize) -> Gradients {
        let t = |x: &[f32], shape: &[usize]| Some(Tensor::from_slice(x, shape, &Device::Cpu).unwrap());
        let k = k as f32;
        Gradients::of(vec![t(&[0.5 + k, -1.0, 0.25, 2.0 - k], &[2, 2]), t(&[0.1, -0.2 * k], &[2])])
    }

    /// The textbook update in f64, element by element.
    fn plain(steps: usize, decay: f64, max: f64) -> Vec<f64> {
        let mut x = vec![1.0, -2.0, 0.5, 3.0, 1.0, 1.0];
        let (mut m, mut v) = (vec![0.0; 6], vec![0.0; 6]);
        for k in 0..steps {
            let kf = k as f64;
            let mut g = [0.5 + kf, -1.0, 0.25, 2.0 - kf, 0.1, -0.2 * kf];
            let norm = g.iter().map(|g| g * g).sum::<f64>().sqrt();
            let scale = (max / (norm + 1e-6)).min(1.0);
            let t = (k + 1) as i32;
            for i in 0..6 {
                g[i] *= scale;
                m[i] = 0.9 * m[i] + 0.1 * g[i];
                v[i] = 0.999 * v[i] + 0.001 * g[i] * g[i];
                let (mh, vh) = (m[i] / (1.0 - 0.9f64.powi(t)), v[i] / (1.0 - 0.999f64.powi(t)));
                let d = if i < 4 { decay } else { 0.0 };
                x[i] = x[i] * (1.0 - 0.1 * d) - 0.1 * mh / (vh.sqrt() + 1e-8);
            }
        }
        x
    }

    fn values(t: &[(String, Var)]) -> Vec<f32> {
        t.iter().flat_map(|(_, v)| v.flatten_all().unwrap().to_vec1::<f32>().unwrap()).collect()
    }

    #[test]
    fn equals_the_textbook_with_decay_and_clipping() {
        for (decay, max) in [("0", "1"), ("0.1", "1"), ("0", "0.001"), ("0.3", "100")] {
            let t = trainables();
            let mut adam = AdamW::new(&params(&[("weight_decay", decay), ("max_grad_norm", max)]), &t).unwrap();
            for k in 0..4 {
                let g = gradients(k);
                adam.update(&t, &g, AdamW::norm(&g).unwrap(), 0.1, false).unwrap();
            }
            for (got, want) in values(&t).iter().zip(plain(4, decay.parse().unwrap(), max.parse().unwrap())) {
                assert!((f64::from(*got) - want).abs() < 2e-6, "{got} {want}");
            }
        }
    }

    /// TRL's trainer (transformers 5.23, `get_decay_parameter_names`) leaves out names with `bias` or `norm`, which
    /// `lora_magnitude_vector` is none of.
    #[test]
    fn doras_magnitudes_decay_and_norms_do_not() {
        let vector = || Var::from_tensor(&Tensor::new(&[2.0f32, -4.0], &Device::Cpu).unwrap()).unwrap();
        let names = ["model.layers.0.self_attn.q_proj.lora_magnitude_vector", "model.layers.0.input_layernorm.weight"];
        let t: Vec<(String, Var)> = names.iter().map(|name| ((*name).to_owned(), vector())).collect();
        let mut adam = AdamW::new(&params(&[("weight_decay", "0.5")]), &t).unwrap();
        // Without a gradient only the decay moves a parameter.
        let zero = || Some(Tensor::zeros(2, DType::F32, &Device::Cpu).unwrap());
        let gradients = Gradients::of(vec![zero(), zero()]);
        adam.update(&t, &gradients, 0.0, 0.1, false).unwrap();
        assert_eq!(values(&t), [1.9, -3.8, 2.0, -4.0]);
    }

    #[test]
    fn saved_and_restored_it_goes_on_bit_for_bit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("optim.safetensors");
        let run = |t: &[(String, Var)], adam: &mut AdamW, k: usize| {
            let g = gradients(k);
            adam.update(t, &g, AdamW::norm(&g).unwrap(), 0.1, false).unwrap();
        };
        let t = trainables();
        let mut adam = AdamW::new(&params(&[]), &t).unwrap();
        run(&t, &mut adam, 0);
        adam.save(&t, &path).unwrap();
        let mut again = AdamW::new(&params(&[]), &t).unwrap();
        again.restore(&t, &path, adam.count()).unwrap();
        let copy = trainables();
        for ((_, to), (_, from)) in copy.iter().zip(&t) {
            to.set(from.as_tensor()).unwrap();
        }
        run(&t, &mut adam, 1);
        run(&copy, &mut again, 1);
        assert_eq!(values(&t), values(&copy));
    }

    #[test]
    fn says_what_stood_still_and_refuses_what_is_not_finite() {
        let t = trainables();
        let mut adam = AdamW::new(&params(&[]), &t).unwrap();
        let zero = Tensor::zeros((2, 2), DType::F32, &Device::Cpu).unwrap();
        let g = Gradients::of(vec![Some(zero), gradients(1).get(1).cloned()]);
        let done = adam.update(&t, &g, AdamW::norm(&g).unwrap(), 0.0, true).unwrap();
        assert_eq!(done, Update { without_gradient: vec![0], unmoved: vec![1] });
        let before = values(&t);
        assert!(adam.update(&t, &gradients(0), f64::NAN, 0.1, false).is_err());
        assert_eq!(before, values(&t));
    }
}
