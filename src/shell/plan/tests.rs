//! What launches freeze, what they refuse, and in which words.

use super::*;
use crate::domain::{PairRow, ParamRow, Prompt, RatedRow, SftBody, SftRow};
use crate::protocol::SessionMeta;
use crate::shell::intake;
use crate::shell::journal::Journal;
use crate::storage::formats::import_named;
use serde::de::DeserializeOwned;
use std::path::Path;

/// A session on the tiny model, in a data folder of its own.
fn session() -> (tempfile::TempDir, Home, SessionDir) {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::resolve(Some(folder.path())).unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama");
    let meta = SessionMeta {
        format: 1,
        name: String::new(),
        model: model.display().to_string(),
        created_ms: 1,
        app: "0".into(),
    };
    let dir = SessionDir::create(&home, "tone", &meta).unwrap();
    (folder, home, dir)
}

fn import(dir: &SessionDir, format: &str, text: &str) {
    let file = dir.path().join(format!("{format}.jsonl"));
    std::fs::write(&file, text).unwrap();
    let mut journal = Journal::require(dir).unwrap();
    intake::bring_in(&mut journal, &file, Some(import_named(format).unwrap()), None).unwrap();
    journal.close().unwrap();
}

fn order(set: &[(&str, &str)]) -> TrainOrder {
    let mut params = params("dpo", &[]).unwrap();
    for (key, value) in set {
        params.0.insert((*key).into(), (*value).into());
    }
    TrainOrder {
        choice: RowChoice::default(),
        method: "dpo".into(),
        params,
        name: None,
        init: None,
        adapter: None,
        device: "cpu".into(),
        allow_damaged: false,
        suites: None,
        upto: None,
    }
}

fn refused(home: &Home, dir: &SessionDir, order: TrainOrder) -> String {
    train(home, dir, order).unwrap_err().to_string()
}

fn read<T: DeserializeOwned>(file: &DataFile) -> Vec<T> {
    let text = std::str::from_utf8(&file.bytes).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

const PAIR: &str = "{\"prompt\":\"q\",\"chosen\":\"good\",\"rejected\":\"bad\"}\n";

/// A run of that method whose folder is there, with a checkpoint or without.
fn trained_run(home: &Home, dir: &SessionDir, method: &str, checkpoint: bool) -> RunId {
    let (mut spec, files) = train(home, dir, order(&[])).unwrap();
    spec.id = dir.next_run_id(method).unwrap();
    let Task::Train(train) = &mut spec.task else { unreachable!() };
    train.method = method.into();
    let run = dir.create_run_with(&spec, &files).unwrap();
    if checkpoint {
        run.write_checkpoint(1, |folder| {
            std::fs::write(folder.join("adapter"), "x").unwrap();
            Ok::<(), crate::storage::Error>(())
        })
        .unwrap();
    }
    run.id()
}

#[test]
fn what_is_mixed_in_and_probed_is_frozen_beside_the_data() {
    let (_folder, home, dir) = session();
    import(&dir, "pairs", PAIR);
    let asked = || order(&[("mix_ratio", "0.1"), ("probe_steps", "5")]);
    assert!(refused(&home, &dir, asked()).contains("`tiebreak import tone FILE --as sft`"));
    import(&dir, "sft", "{\"prompt\":\"q\",\"completion\":\"good\"}\n{\"text\":\"all\"}\n");
    assert!(refused(&home, &dir, asked()).contains("`tiebreak import tone FILE --as probe`"));
    import(&dir, "probe", "{\"text\":\"general\"}\n");

    let (spec, files) = train(&home, &dir, asked()).unwrap();
    assert_eq!(files.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["data.jsonl", "mix.jsonl", "probe.jsonl"]);
    let (pairs, mix, probe) = (read::<PairRow>(&files[0]), read::<SftRow>(&files[1]), read::<SftRow>(&files[2]));
    assert_eq!((pairs.len(), mix.len(), probe.len()), (1, 2, 1));
    assert_eq!(mix[0].prompt_id, pairs[0].prompt_id, "one prompt, one side of the split");
    assert_eq!(probe[0].body, SftBody::Text("general".into()));
    let Task::Train(task) = &spec.task else { panic!("{spec:?}") };
    assert_eq!((task.mix.as_ref().unwrap().rows, task.probe.as_ref().unwrap().rows), (2, 1));

    let run = dir.create_run_with(&spec, &files).unwrap();
    for data in spec.data() {
        assert_eq!(sha256(&std::fs::read(run.path().join(&data.file)).unwrap()), data.sha256);
    }
    // A folder without a file that its specification names would fail only in the worker.
    let error = dir.create_run(&RunSpec { id: RunId::new("dpo-9"), ..spec }, &files[0].bytes).unwrap_err();
    assert!(error.to_string().contains("mix.jsonl"), "{error}");
    assert!(!dir.path().join("runs/dpo-9").exists());

    // Nothing asked for: nothing frozen beside the pairs.
    let (spec, files) = train(&home, &dir, order(&[("mix_ratio", "0"), ("probe_steps", "0")])).unwrap();
    assert_eq!((spec.data().len(), files.len()), (1, 1));
}

#[test]
fn a_reward_model_is_a_reward_run_with_a_checkpoint_and_starts_no_policy() {
    let (_folder, home, dir) = session();
    import(&dir, "pairs", PAIR);
    let with = |run: &str| order(&[("reward_model", run)]);
    assert!(refused(&home, &dir, with("reward-1")).contains("has no run `reward-1`"));
    let bare = trained_run(&home, &dir, "reward", false);
    assert!(refused(&home, &dir, with(bare.as_str())).contains("`tiebreak checkpoint tone/reward-1`"));
    let policy = trained_run(&home, &dir, "dpo", true);
    assert!(refused(&home, &dir, with(policy.as_str())).contains("run dpo-1 is a dpo run and scores no answers"));
    let reward = trained_run(&home, &dir, "reward", true);
    let (spec, _) = train(&home, &dir, with(reward.as_str())).unwrap();
    let Task::Train(task) = spec.task else { panic!() };
    assert_eq!(task.reward, Some(reward.clone()));

    // Its implicit reward scores answers, but a policy is no reward model.
    assert_eq!(scoring_run(&dir, &policy).unwrap().id(), policy);
    let from = |init: &RunId| TrainOrder { init: Some(init.clone()), ..order(&[]) };
    assert!(refused(&home, &dir, from(&reward)).contains("is a reward model and writes no answers"));
    let Task::Train(task) = train(&home, &dir, from(&policy)).unwrap().0.task else { panic!() };
    assert_eq!((task.init, task.reward), (Some(policy), None));
}

#[test]
fn the_best_checkpoint_of_a_run_is_asked_for_by_name_and_must_be_there() {
    let (_folder, home, dir) = session();
    import(&dir, "pairs", PAIR);
    let policy = trained_run(&home, &dir, "dpo", true);
    let best = policy.at_best();
    let from = |init: &RunId| TrainOrder { init: Some(init.clone()), ..order(&[]) };
    let said = refused(&home, &dir, from(&best));
    assert!(said.contains("run dpo-1 has no best checkpoint") && said.contains("name dpo-1"), "{said}");
    let other = TrainOrder { init: Some(policy.clone()), ..order(&[("lora_r", "8")]) };
    assert!(refused(&home, &dir, other).contains("run dpo-1 was trained with lora_r=16"));
    let same = TrainOrder { init: Some(policy.clone()), ..order(&[("lora_alpha", "32.0")]) };
    train(&home, &dir, same).unwrap();
    dir.run(&policy).unwrap().mark_best(1).unwrap();
    let Task::Train(task) = train(&home, &dir, from(&best)).unwrap().0.task else { panic!() };
    assert_eq!(task.init, Some(RunId::new("dpo-1@best")));
    assert!(refused(&home, &dir, from(&RunId::new("dpo-7@best"))).contains("has no run `dpo-7`"));
    assert_eq!(super::trained_run(&dir, &best).unwrap().id(), policy);
    // A reward run's best is still a reward run.
    let reward = trained_run(&home, &dir, "reward", true);
    dir.run(&reward).unwrap().mark_best(1).unwrap();
    assert!(refused(&home, &dir, from(&reward.at_best())).contains("is a reward model and writes no answers"));
    assert_eq!(scoring_run(&dir, &reward.at_best()).unwrap().id(), reward);
}

#[test]
fn each_need_gets_its_own_rows() {
    let (_folder, _home, dir) = session();
    import(&dir, "pairs", PAIR);
    import(&dir, "ratings", "{\"prompt\":\"q\",\"completion\":\"fine\",\"label\":true}\n");
    import(&dir, "sft", "{\"text\":\"all\"}\n");
    let (session, _) = dir.state().unwrap();
    let mut frozen = Frozen { seq: 7, files: Vec::new() };
    let needs = [Needs::Pairs, Needs::Examples, Needs::Ratings, Needs::Prompts];
    let rows: Vec<usize> =
        needs.iter().map(|needs| frozen.rows_for(*needs, &session, &RowChoice::default()).unwrap().rows).collect();
    assert_eq!(rows, [1, 1, 3, 1]);
    assert_eq!(rows, needs.map(|needs| session.supply().rows(needs)));
    assert_eq!(read::<PairRow>(&frozen.files[0])[0].chosen, "good");
    assert_eq!(read::<SftRow>(&frozen.files[1])[0].body, SftBody::Text("all".into()));
    let ratings: Vec<(String, bool)> =
        read::<RatedRow>(&frozen.files[2]).into_iter().map(|row| (row.completion, row.good)).collect();
    assert_eq!(ratings, [("fine".to_owned(), true), ("good".to_owned(), true), ("bad".to_owned(), false)]);
    assert_eq!(read::<Prompt>(&frozen.files[3]).len(), 1);
}

#[test]
fn what_is_lacking_is_one_sentence_with_its_remedy() {
    let dpo = method("dpo").unwrap();
    let params = Params::defaults(&dpo.rows());
    let left = LeftOut { ties: 2, both_bad: 1, ..LeftOut::default() };
    for (lack, says) in [
        (
            Lack::Rows(Needs::Pairs),
            "all 3 judged pairs are ties, both bad, unresolved, equal or empty; label some with `tiebreak label s`",
        ),
        (Lack::Rows(Needs::Examples), "`tiebreak import s FILE --as sft`"),
        (Lack::Rows(Needs::Ratings), "`tiebreak import s FILE --as ratings`"),
        (Lack::Rows(Needs::Prompts), "`tiebreak import s FILE`"),
        (Lack::Mix, "`tiebreak import s FILE --as sft`, or set mix_ratio=0"),
        (Lack::Probe, "`tiebreak import s FILE --as probe`, or set probe_steps=0"),
    ] {
        let text = lacking("s", lack, dpo, &params, &left, &Rubric::default());
        assert!(text.contains(says), "{text}");
        assert!(!text.contains("  ") && text.lines().count() == 1, "{text}");
    }
    let (_folder, home, dir) = session();
    assert!(
        refused(&home, &dir, order(&[])).contains("no pair has been judged; label some with `tiebreak label tone`")
    );
    let ppo = Method {
        name: "ppo",
        own: || {
            vec![
                ParamRow { key: "reward_model", kind: ParamKind::Word, default: "", usual: "", help: "", basic: true },
                ParamRow { key: "checks", kind: ParamKind::Checks, default: "", usual: "", help: "", basic: true },
            ]
        },
        ..*dpo
    };
    let text = lacking("s", Lack::Scorer, &ppo, &params, &left, &Rubric::default());
    assert!(text.contains("--set reward_model=RUN or --set \"checks=contains=please;max_words=40\""), "{text}");
}

#[test]
fn options_that_contradict_each_other_are_refused_before_there_is_a_run() {
    let (_folder, home, dir) = session();
    import(&dir, "prompts", "{\"prompt\":\"q\"}\n");
    let with = |method: &str, set: &[&str]| {
        let set: Vec<String> = ["reward_checks=max_words=5"].iter().chain(set).map(|s| (*s).to_owned()).collect();
        TrainOrder { method: method.into(), params: params(method, &set).unwrap(), ..order(&[]) }
    };
    assert!(refused(&home, &dir, with("ppo", &["num_generations=3"])).contains("not a multiple of num_generations=3"));
    assert!(refused(&home, &dir, with("grpo", &["num_generations=1"])).contains("set it to 2 or more"));
    assert!(refused(&home, &dir, with("ppo", &["kl_horizon=50"])).contains("kl_target"));
    train(&home, &dir, with("ppo", &["kl_horizon=50", "kl_target=6"])).unwrap();
}
