//! Sampling on the tiny Llama: replay, batching, deduplication, pairs, resumption.

use super::*;
use crate::domain::{Pair, PromptBody, PromptId};
use crate::protocol::{DataSnapshot, ModelRef};
use std::path::PathBuf;

fn tiny() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama")
}

fn spec(per_prompt: usize, temperature: f64, models: usize) -> SampleSpec {
    let model = |i| ModelRef { name: format!("tiny{i}"), path: tiny().display().to_string() };
    SampleSpec {
        models: (0..models).map(model).collect(),
        servers: Vec::new(),
        adapter: None,
        adapters: Vec::new(),
        per_prompt,
        sampler: Sampler { temperature, max_new_tokens: 12, ..Sampler::default() },
        data: DataSnapshot { file: "data.jsonl".into(), sha256: String::new(), rows: 3, session_seq: 0 },
        unpaired: false,
    }
}

fn prompts() -> Vec<Prompt> {
    let prompt = |(i, text): (usize, &str)| Prompt {
        id: PromptId::new(format!("p{i}")),
        body: PromptBody::user(text),
        source: "typed".into(),
        tags: [].into(),
    };
    ["Hello", "What is the sea?", "Write."].into_iter().enumerate().map(prompt).collect()
}

fn run(spec: &SampleSpec, done: usize) -> Vec<RunEvent> {
    let mut events: Vec<RunEvent> = Vec::new();
    let id = RunId::new("sample-1");
    let mut s = Sampling::open(&id, spec, prompts(), done, &[], &Device::Cpu, &mut events).unwrap();
    while s.next(&mut events).unwrap() {}
    events
}

fn completions(events: &[RunEvent]) -> Vec<Completion> {
    events.iter().filter_map(|e| if let RunEvent::Completed(c) = e { Some(c.as_ref().clone()) } else { None }).collect()
}

fn paired(events: &[RunEvent]) -> Vec<Pair> {
    events.iter().filter_map(|e| if let RunEvent::Paired(p) = e { Some(p.as_ref().clone()) } else { None }).collect()
}

#[test]
fn a_run_repeats_and_resumes() {
    let all = run(&spec(4, 1.0, 1), 0);
    let made = completions(&all);
    assert!(made.len() > 6, "{}", made.len());
    assert_eq!(made, completions(&run(&spec(4, 1.0, 1), 0)));
    let rest: Vec<_> = made.iter().filter(|c| c.prompt.as_str() != "p0").cloned().collect();
    let resumed = run(&spec(4, 1.0, 1), 1);
    assert_eq!(rest, completions(&resumed));
    assert!(resumed.iter().any(|e| matches!(e, RunEvent::Planned(p) if p.total_steps == 12)));
    let progress = all.iter().rev().find_map(|event| match event {
        RunEvent::Progressed { done, total, .. } => Some((*done, *total)),
        _ => None,
    });
    assert_eq!(progress, Some((3, 3)));
    let Some(RunEvent::Found(cut)) = all.last() else { panic!("{:?}", all.last()) };
    assert!(cut.rule == "answers_cut" && cut.text.contains("cut at max_new_tokens"), "{cut:?}");
}

#[test]
fn a_candidate_does_not_depend_on_how_many_there_are() {
    let four = completions(&run(&spec(4, 1.0, 1), 0));
    for one in completions(&run(&spec(1, 1.0, 1), 0)) {
        assert!(four.iter().any(|c| c.id == one.id && c.text == one.text), "{one:?}");
    }
}

#[test]
fn several_models_take_turns_and_pairs_are_disjoint() {
    let events = run(&spec(5, 1.2, 2), 0);
    let made = completions(&events);
    for c in &made {
        let k: usize = c.id.as_str().rsplit('.').next().unwrap().parse().unwrap();
        assert_eq!(c.model, format!("tiny{}", k % 2));
        assert!(c.logprob.known().unwrap() < 0.0 && c.tokens <= 12);
    }
    let pairs = paired(&events);
    let mut sides: Vec<_> = pairs.iter().flat_map(|p| [p.a.clone(), p.b.clone()]).collect();
    let count = sides.len();
    sides.sort();
    sides.dedup();
    assert_eq!(sides.len(), count);
    for p in &pairs {
        let n = made.iter().filter(|c| c.prompt == p.prompt).count() as f64;
        assert!((p.p_select - (n / 2.0).floor() / (n * (n - 1.0) / 2.0)).abs() < 1e-12);
        assert!(p.id.as_str().starts_with(&format!("{}:sample-1.", p.prompt)));
    }
}

#[test]
fn identical_candidates_are_dropped_and_counted() {
    let events = run(&spec(4, 0.0, 1), 0);
    let dropped: usize =
        events.iter().map(|e| if let RunEvent::Deduplicated { count, .. } = e { *count } else { 0 }).sum();
    let kept = completions(&events).len();
    assert!(kept >= 1 && dropped == 3 * kept && paired(&events).is_empty(), "{kept} {dropped}");
}

#[test]
fn every_pair_of_three_is_equally_likely() {
    let three = completions(&run(&spec(8, 1.2, 1), 0)).into_iter().take(3).collect::<Vec<_>>();
    let mut seen = std::collections::BTreeMap::new();
    for seed in 0..3000 {
        let made = pairs(&RunId::new("sample-1"), &prompts()[0], &three, 8, seed);
        assert_eq!(made.len(), 1);
        let mut sides = [made[0].a.clone(), made[0].b.clone()];
        sides.sort();
        *seen.entry(sides).or_insert(0) += 1;
    }
    assert!(seen.len() == 3 && seen.values().all(|n| (900..1100).contains(n)), "{seen:?}");
}

#[test]
fn rows_that_end_early_do_not_change_the_others() {
    let model = LanguageModel::open(&tiny()).unwrap();
    let decoder = model.decoder(&Device::Cpu, &Tune::None).unwrap();
    let ids = model.encode_prompt(&PromptBody::user("Hello")).unwrap();
    let sampler = Sampler { temperature: 1.0, top_p: 1.0, max_new_tokens: 40, ..Sampler::default() };
    // Many stops, so that rows end at different times.
    let stops: Vec<u32> = (0..304).step_by(9).collect();
    let rng = |k| stream(5, k);
    let mut rngs: Vec<_> = (0..6).map(rng).collect();
    let together = generate(&decoder, &ids, &stops, &sampler, &mut rngs, true).unwrap();
    let lengths: std::collections::BTreeSet<usize> = together.iter().map(|g| g.ids.len()).collect();
    assert!(lengths.len() > 2, "{lengths:?}");
    for (k, row) in together.iter().enumerate() {
        let alone = generate(&decoder, &ids, &stops, &sampler, &mut [rng(k as u64)], true).unwrap();
        assert_eq!(alone[0].ids, row.ids);
        assert!((alone[0].logp - row.logp).abs() < 1e-4);
    }
    assert!(generate(&decoder, &[], &stops, &sampler, &mut rngs, true).is_err());
}

#[test]
fn nan_weights_stop_the_run() {
    let dir = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(tiny()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
    }
    let path = dir.path().join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    for tensor in tensors.values_mut() {
        *tensor = tensor.affine(f64::NAN, 0.0).unwrap();
    }
    candle_core::safetensors::save(&tensors, &path).unwrap();
    for temperature in [0.0, 1.0] {
        let mut spec = spec(4, temperature, 1);
        spec.models[0].path = dir.path().display().to_string();
        let mut events: Vec<RunEvent> = Vec::new();
        let id = RunId::new("sample-1");
        let mut s = Sampling::open(&id, &spec, prompts(), 0, &[], &Device::Cpu, &mut events).unwrap();
        let error = s.next(&mut events).unwrap_err().to_string();
        assert!(error.contains("prompt p0") && error.contains("logits are not finite"), "{error}");
        let found = events.iter().find_map(|e| if let RunEvent::Found(f) = e { Some(f) } else { None }).unwrap();
        assert_eq!((found.rule.as_str(), found.severity), ("non_finite", Severity::Stop));
        assert!(completions(&events).is_empty());
    }
}

/// Takes events, and everything that could be read along.
#[derive(Default)]
struct Watching {
    events: Vec<RunEvent>,
    seen: Vec<Growing>,
}

impl Sink for Watching {
    fn emit(&mut self, event: RunEvent) -> Result<(), Error> {
        self.events.push(event);
        Ok(())
    }

    fn show(&mut self, answers: &mut dyn FnMut() -> Growing) {
        self.seen.push(answers());
    }
}

/// A whole run, watched after every token.
fn watched(spec: &SampleSpec) -> Watching {
    let mut sink = Watching::default();
    let id = RunId::new("sample-1");
    let mut sampling = Sampling::open(&id, spec, prompts(), 0, &[], &Device::Cpu, &mut sink).unwrap();
    while sampling.next(&mut sink).unwrap() {}
    sink
}

#[test]
fn answers_can_be_read_while_they_are_written_and_that_changes_none() {
    for models in [1, 2] {
        let spec = spec(4, 1.0, models);
        let found = watched(&spec);
        let made = completions(&found.events);
        assert_eq!(made, completions(&run(&spec, 0)));
        let paired = paired(&found.events);
        let mut begun = 0;
        for growing in &found.seen {
            for answer in &growing.answers {
                // Empty answers and equal ones drop out in the end.
                let Some(whole) = made.iter().find(|c| c.id == answer.completion) else { continue };
                assert!(whole.text.starts_with(&answer.text), "{answer:?} {whole:?}");
                assert!(answer.tokens <= whole.tokens as usize && (!answer.ended || *answer.text == *whole.text));
                begun += usize::from(!answer.ended);
            }
            for pair in &growing.pairs {
                let remains = |id: &crate::domain::CompletionId| made.iter().any(|c| c.id == *id);
                let foreseen = paired.iter().any(|p| p.id == pair.id && (&p.a, &p.b) == (&pair.a, &pair.b));
                assert!(foreseen || !(remains(&pair.a) && remains(&pair.b)), "{pair:?}");
            }
        }
        assert!(begun > 20, "{begun} answers were seen before their end");
        assert!(paired.iter().any(|pair| found.seen.iter().any(|g| g.pairs.iter().any(|p| p.id == pair.id))));
    }
}

#[test]
fn rows_of_the_plain_decoder_are_seen_after_every_token() {
    let model = LanguageModel::open(&tiny()).unwrap();
    let decoder = model.decoder(&Device::Cpu, &Tune::None).unwrap();
    let prompt = model.encode_prompt(&PromptBody::user("Hello")).unwrap();
    let sampler = Sampler { temperature: 1.0, top_p: 1.0, max_new_tokens: 12, ..Sampler::default() };
    let mut request = PromptRequest { number: 0, prompt, rngs: vec![stream(5, 0), stream(5, 1)], sampler };
    let mut lengths: Vec<Vec<usize>> = Vec::new();
    let mut watch = |rows: &[Generated]| lengths.push(rows.iter().map(|g| g.ids.len()).collect());
    let rows = stepwise(&decoder, &mut request, &[], false, &mut watch).unwrap();
    assert!(rows.iter().all(|g| g.ids.len() == 12));
    assert_eq!(lengths, (1..12).map(|n| vec![n, n]).collect::<Vec<_>>());
}
