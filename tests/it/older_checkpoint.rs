//! A run whose newest checkpoint is damaged: whoever goes on from it says that an older one is used.

use crate::cli::{text, tiebreak, with_pairs};
use std::fs;

const SAID: &str = "are damaged (step 2): that of step 1 is used";

#[test]
fn what_goes_on_from_an_older_checkpoint_than_the_newest_says_so() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    with_pairs(home);
    let run = |words: &[&str]| {
        let output = tiebreak(home, words);
        let said = text(&output.stderr);
        assert!(output.status.success(), "{words:?}: {said}");
        said
    };
    for method in ["dpo", "reward"] {
        let short =
            ["train", "tone", method, "--set", "max_steps=2", "--set", "save_steps=1", "--set", "eval_fraction=0"];
        run(&short);
        let newest = home.join(format!("sessions/tone/runs/{method}-1/ckpt/step-00000002/trainer.json"));
        assert!(newest.is_file(), "{}", newest.display());
    }
    let out = |name: &str| home.join(name).to_str().unwrap().to_owned();
    let (before, after) = (out("before"), out("after"));
    let init = ["train", "tone", "dpo", "--init", "dpo-1", "--set", "max_steps=1", "--set", "eval_fraction=0"];
    let commands = |to: &str| -> Vec<Vec<String>> {
        let merge = ["merge", "tone/dpo-1", "--to", to];
        let sample = ["sample", "tone", "--adapter", "dpo-1", "--per-prompt", "1", "--max-new-tokens", "2"];
        let score = ["score", "tone", "--with", "reward-1"];
        let all: [&[&str]; 4] = [&merge, &sample, &score, &init];
        all.iter().map(|words| words.iter().map(|word| (*word).to_owned()).collect()).collect()
    };
    for words in commands(&before) {
        let said = run(&words.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(!said.contains("damaged"), "{words:?}: {said}");
    }
    for method in ["dpo", "reward"] {
        fs::write(home.join(format!("sessions/tone/runs/{method}-1/ckpt/step-00000002/trainer.json")), "{}").unwrap();
    }
    for words in commands(&after) {
        let said = run(&words.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(said.contains(SAID), "{words:?}: {said}");
    }
}
