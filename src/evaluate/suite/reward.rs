//! The suite `reward`: how well a reward run ranks pairs whose better answer is known.
//!
//! A pair is right where the reward of the better answer is higher; equal rewards are half right. The thirds of length are those
//! of the whole file, by how many characters longer the better answer is. Prompts are rendered as in the reward run's training.

use crate::domain::{Better, Measure, Metrics, Pooling, REWARD_MARGIN, SuiteRow, length_thirds};
use crate::evaluate::item::{Given, Item, ItemRequest, ReadItems};
use crate::evaluate::ranked::{RankedPair, credit, read_pairs};
use crate::evaluate::suite::{Suite, SuiteInput};
use crate::model::error::Error;

/// The thirds by length, in order.
const THIRDS: [&str; 3] = ["shorter", "similar", "longer"];

pub(crate) static SUITE: Suite = Suite {
    row: SuiteRow {
        name: "reward",
        help: "how well a reward run ranks pairs",
        files: &["llmbar_natural.json", "hhh_alignment_bigbench.json", "pairs.jsonl"],
        source: "LLMBar's Natural set, BIG-bench's hhh_alignment, or your own pairs as JSONL",
        max_new_tokens: 0,
        judged: false,
        measures: &[
            Measure::mean("accuracy", "ranked right", Better::Higher),
            Measure::mean("accuracy/helpful", "… of helpful", Better::Higher),
            Measure::mean("accuracy/harmless", "… of harmless", Better::Higher),
            Measure::mean("accuracy/honest", "… of honest", Better::Higher),
            Measure::mean("accuracy/other", "… of other", Better::Higher),
            Measure::mean("accuracy/shorter", "… better is shorter", Better::Higher),
            Measure::mean("accuracy/similar", "… similar length", Better::Higher),
            Measure::mean("accuracy/longer", "… better is longer", Better::Higher),
            Measure::mean(REWARD_MARGIN, "mean margin", Better::Neither),
            Measure { key: "median_margin", title: "median margin", better: Better::Neither, pooling: Pooling::Median },
            Measure { key: "ece", title: "calibration error", better: Better::Lower, pooling: Pooling::Calibration },
        ],
    },
    read,
    measure,
};

fn read(input: &SuiteInput) -> Result<ReadItems, Error> {
    let pairs = read_pairs(input)?;
    let chars = |pair: &RankedPair| (pair.chosen.chars().count(), pair.rejected.chars().count());
    let thirds = length_thirds(&pairs.iter().map(chars).collect::<Vec<_>>());
    let item = |(pair, third): (RankedPair, usize)| Item {
        name: pair.name,
        prompt: pair.prompt,
        ask: ItemRequest::Rewards(vec![pair.chosen, pair.rejected]),
        data: serde_json::json!({ "subset": pair.subset, "length": THIRDS.get(third) }),
    };
    Ok(ReadItems { items: pairs.into_iter().zip(thirds).map(item).collect(), left_out: Vec::new() })
}

fn measure(item: &Item, given: &Given) -> Result<Metrics, Error> {
    let [better, other] = given.rewards()? else {
        return Err(Error::Invalid(format!("{} has not two rewards: please report it", item.name)));
    };
    let margin = better - other;
    let right = credit(margin);
    let mut values = Metrics::new();
    values.set("accuracy", right);
    for group in ["subset", "length"].into_iter().filter_map(|key| item.data[key].as_str()) {
        values.set(&format!("accuracy/{group}"), right);
    }
    for key in [REWARD_MARGIN, "median_margin", "ece"] {
        values.set(key, margin);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        Contestant, EvalState, ItemKey, Measurement, RewardedPair, eval_report, reward_figures, suite,
    };

    #[test]
    fn the_report_has_the_figures_of_a_reward_model() {
        let lines = (0..30).map(|i| {
            let (chosen, rejected) = ("x".repeat(5 + i % 7), "y".repeat(4 + i % 5));
            format!("{{\"prompt\": \"p{i}\", \"chosen\": \"{chosen}\", \"rejected\": \"{rejected}\"}}\n")
        });
        let text = lines.collect::<Vec<String>>().concat();
        let items = read(&SuiteInput { text: &text, file: "pairs.jsonl" }).unwrap().items;
        let margin = |i: usize| if i.is_multiple_of(10) { 0.0 } else { (i as f64 * 1.3).sin() * 2.0 };
        let mut state = EvalState::default();
        let mut pairs = Vec::new();
        for (i, item) in items.iter().enumerate() {
            let values = measure(item, &Given::Rewards(&[margin(i) + 1.0, 1.0])).unwrap();
            let key = ItemKey { suite: "reward".into(), item: item.name.clone(), seed: 0 };
            state.measure(Measurement { key, side: Contestant::A, cluster: item.cluster(), values });
            let ItemRequest::Rewards(answers) = &item.ask else { unreachable!("a suite of rewards") };
            let [chosen_chars, rejected_chars] = [0, 1].map(|k: usize| answers[k].chars().count());
            pairs.push(RewardedPair { margin: (margin(i) + 1.0) - 1.0, chosen_chars, rejected_chars });
        }
        let want = reward_figures(&pairs).unwrap();
        let report = eval_report(&state, &[]);
        let found = |key: &str| report.suites[0].measures.iter().find(|m| m.key == key).unwrap();
        let close = |key: &str, want: f64| {
            let got = found(key).a.unwrap();
            assert!((got - want).abs() < 1e-12, "{key}: {got} and {want}");
        };
        close("accuracy", want.accuracy);
        close(REWARD_MARGIN, want.mean_margin);
        close("median_margin", want.median_margin);
        close("ece", want.ece);
        assert_eq!(want.terciles.len(), 3);
        for (third, name) in want.terciles.iter().zip(THIRDS) {
            close(&format!("accuracy/{name}"), third.accuracy);
            assert_eq!(found(&format!("accuracy/{name}")).items, third.pairs);
        }
        let alone = found("accuracy").alone.unwrap();
        assert!(alone[0] < want.accuracy && want.accuracy < alone[1] && found("ece").alone.is_some());
        assert!(suite("reward").unwrap().takes_rewards() && !suite("winrate").unwrap().takes_rewards());
    }
}
