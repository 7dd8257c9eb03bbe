//! Options that every method shares: what they ask to be trained, and which of them contradict each other.

use crate::domain::{Params, contradiction};
use crate::model::error::Error;
use crate::model::tune::{LINEARS, LoraSpec, Tune};
use crate::nn::decoder::Decoder;
use crate::nn::policy::Policy;

/// What is trained, by `tune` and the `lora_*` parameters.
#[must_use]
pub fn tune_of(params: &Params) -> Tune {
    if params.text("tune") == "full" {
        return Tune::Full;
    }
    let modules: Vec<&str> = params.text("lora_target_modules").split(',').map(str::trim).collect();
    let wanted = |name: &&&str| modules.contains(&"all-linear") || modules.contains(*name);
    Tune::Lora(LoraSpec {
        r: params.usize("lora_r"),
        alpha: params.f64("lora_alpha"),
        rslora: params.bool("use_rslora"),
        dora: params.bool("use_dora"),
        dropout: params.f64("lora_dropout"),
        targets: LINEARS.iter().filter(wanted).map(|name| (*name).to_owned()).collect(),
        seed: params.i64("seed") as u64,
    })
}

/// The policy on the path that `params` ask for.
pub(super) fn policy_of(decoder: Decoder, params: &Params) -> Result<Policy, Error> {
    if params.text("engine") == "reference" { Ok(Policy::reference(decoder)) } else { Policy::new(decoder) }
}

/// Refuses options that would be without effect.
///
/// # Errors
/// With a sentence that names the option and what to do.
pub(crate) fn check(params: &Params) -> Result<(), Error> {
    contradiction(params).map_or(Ok(()), |sentence| Err(Error::Asked(sentence)))
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
    fn defaults_make_sense_and_what_has_no_effect_is_refused_by_name() {
        check(&with(&[])).unwrap();
        let sentence = check(&with(&[("early_stopping_patience", "2")])).unwrap_err().to_string();
        assert!(sentence.contains("set eval_steps"), "{sentence}");
    }

    #[test]
    fn the_adapter_is_scaled_and_decomposed_as_asked() {
        let Tune::Lora(spec) = tune_of(&with(&[("use_rslora", "true"), ("use_dora", "true")])) else {
            panic!("no LoRA")
        };
        assert!(spec.dora);
        // 32 / √16.
        assert_eq!(spec.scale(), 8.0);
        // A run from before the options were there.
        let Tune::Lora(old) = tune_of(&Params::default()) else { panic!("no LoRA") };
        assert!(!old.dora && !old.rslora);
    }
}
