//! Maps shared options to the model: trainable parameters and engine. Refuses options of single methods.

use crate::domain::{EngineKind, Hyperparameters, ParamError, Params, TrainerParams, TuneKind};
use crate::model::error::Error;
use crate::model::trained::Trained;
use crate::model::tune::{FUSED, LINEARS, LoraSpec, Tune};
use crate::nn::decoder::Decoder;
use crate::nn::policy::Policy;
use crate::protocol::{RunSpec, Task, TrainSpec};
use std::collections::BTreeMap;
use std::path::Path;

/// The training task of a specification.
///
/// # Errors
/// When it is a sampling run.
pub(crate) fn train_spec(spec: &RunSpec) -> Result<&TrainSpec, Error> {
    match &spec.task {
        Task::Train(t) => Ok(t),
        Task::Eval(_) => Err(Error::Invalid(format!("run {} is an evaluation and trains nothing", spec.id))),
        Task::Sample(_) => Err(Error::Invalid(format!("run {} is a sampling run and trains nothing", spec.id))),
    }
}

/// The policy on the engine of `params`.
pub(super) fn new_policy(decoder: Decoder, params: &TrainerParams) -> Result<Policy, Error> {
    match params.engine {
        EngineKind::Reference => Ok(Policy::reference(decoder)),
        EngineKind::Fast => Policy::new(decoder),
    }
}

/// The trainable parameters, from a run's `tune` and `lora_*` options.
///
/// # Errors
/// With the key whose value is invalid.
pub fn tune_of(params: &Params) -> Result<Tune, ParamError> {
    Ok(tune(&TrainerParams::read(params)?))
}

/// The trainable parameters of a run that starts from the checkpoint in `init`: modules with ranks of their own stay as they are.
pub(super) fn tune_from(params: &TrainerParams, init: Option<&Path>) -> Result<Tune, Error> {
    let own = tune(params);
    let (Tune::Lora(spec), Some(dir)) = (&own, init) else { return Ok(own) };
    match Trained::read(dir)?.tune {
        Tune::Lora(theirs) if !theirs.modules.is_empty() => {
            Ok(Tune::Lora(LoraSpec { dropout: spec.dropout, seed: spec.seed, ..theirs }))
        }
        _ => Ok(own),
    }
}

/// The trainable parameters.
pub(crate) fn tune(params: &TrainerParams) -> Tune {
    if params.tune == TuneKind::Full {
        return Tune::Full;
    }
    let named = |name: &str| params.lora_target_modules.iter().any(|module| module == name);
    let wanted = |name: &&&str| named("all-linear") || named(name);
    let fused = FUSED.iter().map(|(name, _)| *name).filter(|name| named(name));
    Tune::Lora(LoraSpec {
        r: params.lora_r,
        alpha: params.lora_alpha,
        rslora: params.use_rslora,
        dora: params.use_dora,
        dropout: params.lora_dropout,
        targets: LINEARS.iter().filter(wanted).copied().chain(fused).map(str::to_owned).collect(),
        seed: params.seed,
        modules: BTreeMap::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::method;

    fn with(settings: &[(&str, &str)]) -> Params {
        let rows = method("dpo").unwrap().rows();
        let mut params = Params::defaults(&rows);
        for (key, value) in settings {
            params.set(&rows, "dpo", key, value).unwrap();
        }
        params
    }

    #[test]
    fn rslora_and_dora_reach_the_adapter() {
        let Tune::Lora(spec) = tune_of(&with(&[("use_rslora", "true"), ("use_dora", "true")])).unwrap() else {
            panic!("no LoRA")
        };
        assert!(spec.dora);
        // 32 / √16.
        assert_eq!(spec.scale(), 8.0);
        // A run from before the options existed.
        let Tune::Lora(old) = tune_of(&Params::default()).unwrap() else { panic!("no LoRA") };
        assert!(!old.dora && !old.rslora);
    }
}
