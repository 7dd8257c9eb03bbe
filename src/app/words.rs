//! Words that several screens share: for models and runs.

use super::open::RunView;
use super::wrap::presentable;
use crate::domain::model_name;
use crate::protocol::{EvalSpec, JudgeSpec, ModelCard, RunSpec, ServerOptions, ServerRef, Task};

/// A run's settings to show beside its curves, as name and value.
#[must_use]
pub fn run_facts(run: &RunView) -> Vec<(&'static str, String)> {
    run.spec.as_ref().map_or_else(Vec::new, spec_facts)
}

/// A model's name without its folders; `owner/name` stays whole, and a server's model is `NAME@HOST:PORT`.
#[must_use]
pub fn short_model_name(name: &str) -> String {
    if ServerRef::is_address(name)
        && let Ok(server) = ServerRef::parse(name, &ServerOptions::default())
    {
        return server.name();
    }
    let path = name.starts_with(['/', '.', '~']) || name.matches('/').count() > 1;
    if path { model_name(name) } else { name.to_owned() }
}

/// What a run compares.
#[must_use]
pub fn eval_spec(spec: Option<&RunSpec>) -> Option<&EvalSpec> {
    match &spec?.task {
        Task::Eval(eval) => Some(eval),
        _ => None,
    }
}

/// A run's settings from its specification, as name and value.
#[must_use]
pub fn spec_facts(spec: &RunSpec) -> Vec<(&'static str, String)> {
    match &spec.task {
        Task::Train(train) => {
            let start = train
                .init
                .as_ref()
                .map(crate::domain::RunId::as_str)
                .or_else(|| train.adapter.as_ref().map(|a| a.path.as_str()));
            let from = start.map_or(String::new(), |start| format!(" + {start}"));
            let p = &train.params;
            let mut out = vec![
                ("method", format!("{} · {}", train.method, p.text("tune"))),
                ("model", format!("{}{from}", short_model_name(&train.model.name))),
                ("learning rate", format!("{} {}", p.text("learning_rate"), p.text("lr_scheduler_type"))),
            ];
            if !p.text("beta").is_empty() {
                out.push(("beta", p.text("beta").to_owned()));
            }
            let chosen = [("rubric", &train.rubric), ("filter", &train.filter)];
            out.extend(chosen.into_iter().filter_map(|(name, text)| Some((name, presentable(text.as_deref()?)))));
            out
        }
        Task::Sample(sample) => {
            let adapter = |i| sample.adapter_of(i).map_or(String::new(), |(_, run)| format!(" + {run}"));
            let local = sample.models.iter().enumerate();
            let local = local.map(|(i, m)| format!("{}{}", short_model_name(&m.name), adapter(i)));
            let models: Vec<String> = local.chain(sample.servers.iter().map(ServerRef::name)).collect();
            vec![
                ("model", models.join(", ")),
                ("answers", format!("{} a prompt", sample.per_prompt)),
                ("temperature", format!("{} · top-p {}", sample.sampler.temperature, sample.sampler.top_p)),
            ]
        }
        Task::Eval(eval) => {
            let names = |names: Vec<String>| names.iter().map(|name| presentable(name)).collect::<Vec<_>>().join(", ");
            let mut out = vec![
                ("compares", presentable(&eval.a.name)),
                ("with", presentable(&eval.b.name)),
                ("suites", names(eval.suites.iter().map(|suite| suite.name.clone()).collect())),
            ];
            if !eval.judges.is_empty() {
                out.push(("judges", names(eval.judges.iter().map(JudgeSpec::name).collect())));
            }
            out
        }
    }
}

/// A model's size, family and format.
#[must_use]
pub fn model_summary(card: &ModelCard) -> String {
    let size = match card.parameters {
        0 => String::new(),
        n if n >= 1_000_000_000 => format!("{:.1} B  ", n as f64 / 1e9),
        n => format!("{:.0} M  ", n as f64 / 1e6),
    };
    format!("{size}{}  {}", card.family, card.format)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_behind_a_server_keeps_its_name() {
        assert_eq!(short_model_name("http://127.0.0.1:8080/v1#qwen/qwen3"), "qwen/qwen3@127.0.0.1:8080");
        assert_eq!(short_model_name("org/name"), "org/name");
    }
}
