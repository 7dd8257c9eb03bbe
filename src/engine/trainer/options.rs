//! Options that every method shares: what they ask to be trained, and which of them contradict each other.

use crate::domain::Params;
use crate::engine::error::Error;
use crate::engine::tune::{LINEARS, LoraSpec, Tune};

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

/// Refuses options that would be without effect.
///
/// # Errors
/// With a sentence that names the option and what to do.
pub(in crate::engine) fn check(params: &Params) -> Result<(), Error> {
    let refuse = |sentence: &str| Err(Error::Asked(sentence.into()));
    let adapters = ["use_dora", "use_rslora"].iter().find(|key| params.bool(key));
    if let Some(key) = adapters.filter(|_| params.text("tune") == "full") {
        return refuse(&format!("{key} has no meaning for tune=full; set it to false or take tune=lora"));
    }
    if params.bool("group_by_length") && !params.bool("shuffle") {
        return refuse(
            "group_by_length changes the order that shuffle=false keeps; set one of them to the other value",
        );
    }
    if params.usize("early_stopping_patience") > 0 {
        if params.usize("eval_steps") == 0 {
            return refuse(
                "early_stopping_patience counts evaluations and eval_steps=0 makes none on the way; set eval_steps",
            );
        }
        if params.f64("eval_fraction") == 0.0 {
            return refuse(
                "early_stopping_patience counts evaluations and eval_fraction=0 keeps no rows for them; raise it",
            );
        }
        if params.text("metric_for_best_model").is_empty() {
            return refuse("early_stopping_patience watches metric_for_best_model, which is empty; name a metric");
        }
    }
    Ok(())
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
        check(&with(&[("early_stopping_patience", "2"), ("eval_steps", "5")])).unwrap();
        let refused: [(&[(&str, &str)], &str); 6] = [
            (&[("use_dora", "true"), ("tune", "full")], "use_dora has no meaning"),
            (&[("use_rslora", "true"), ("tune", "full")], "use_rslora has no meaning"),
            (&[("group_by_length", "true"), ("shuffle", "false")], "group_by_length"),
            (&[("early_stopping_patience", "2")], "set eval_steps"),
            (&[("early_stopping_patience", "2"), ("eval_steps", "5"), ("eval_fraction", "0")], "eval_fraction"),
            (&[("early_stopping_patience", "2"), ("eval_steps", "5"), ("metric_for_best_model", "")], "name a metric"),
        ];
        for (settings, part) in refused {
            let sentence = check(&with(settings)).unwrap_err().to_string();
            assert!(sentence.contains(part), "{settings:?}: {sentence}");
        }
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
