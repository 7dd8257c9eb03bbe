//! Agreement and aggregation on a real set of labels: PandaLM's 999 pairs with three annotators each.

use serde_json::Value;
use std::path::Path;
use tiebreak::domain::{
    Aggregation, Choice, CompletionId, ItemLabels, ItemState, LabelRule, Outcome, PromptId, Rater, RaterLabel, Scale,
    Side, Strength, VotedPair, Win, aggregate, bradley_terry, cohen_kappa, dawid_skene, fleiss_kappa,
    krippendorff_alpha, majority,
};

/// Annotators' labels: 0 tie, 1 and 2 the better answer.
fn rows() -> (Vec<ItemLabels>, Vec<Value>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/pandalm_testset_v1.json");
    let rows: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let label = |row: &Value, who: usize| row[format!("annotator{who}")].as_i64().unwrap();
    (rows.iter().map(|row| (1..=3).map(|who| label(row, who)).collect()).collect(), rows)
}

fn near(got: Option<f64>, want: f64) {
    let got = got.unwrap();
    assert!((got - want).abs() < 1e-6, "{got} is not {want}");
}

fn choice(label: i64) -> Choice {
    match label {
        1 => Choice::Prefer(Side::A, Strength::Better),
        2 => Choice::Prefer(Side::B, Strength::Better),
        _ => Choice::Tie,
    }
}

#[test]
#[ignore = "needs the published labels in ../shared/data"]
fn agreement_of_three_annotators_shared_data() {
    let (items, _) = rows();
    let pairs = |i: usize, j: usize| items.iter().map(|l| (l[i], l[j])).collect::<Vec<_>>();
    near(cohen_kappa(&pairs(0, 1)), 0.852_023);
    near(cohen_kappa(&pairs(0, 2)), 0.878_944);
    near(cohen_kappa(&pairs(1, 2)), 0.861_661);
    near(fleiss_kappa(&items).0, 0.864_175);
    near(krippendorff_alpha(&items, Scale::Nominal), 0.864_221);
    let sided: Vec<ItemLabels> = items.iter().map(|l| l.iter().map(|l| [0, -1, 1][*l as usize]).collect()).collect();
    near(krippendorff_alpha(&sided, Scale::Ordinal), 0.877_464);
    near(krippendorff_alpha(&sided, Scale::Interval), 0.877_217);
    assert_eq!(items.iter().filter(|l| l.iter().all(|x| *x == l[0])).count(), 879);
}

#[test]
#[ignore = "needs the published labels in ../shared/data"]
fn three_annotators_labels_become_outcomes_shared_data() {
    let (items, rows) = rows();
    let choices = |labels: &ItemLabels| labels.iter().map(|l| choice(*l)).collect::<Vec<_>>();
    let mut counts = [0; 4];
    for labels in &items {
        counts[match majority(&choices(labels)).outcome {
            Outcome::Tie => 0,
            Outcome::Prefer(Side::A, _) => 1,
            Outcome::Prefer(Side::B, _) => 2,
            _ => 3,
        }] += 1;
    }
    assert_eq!(counts, [105, 422, 472, 0]);
    let rule = LabelRule { labels_per_item: 3, max_labels: 3, threshold: 0.6 };
    let disputed = items.iter().filter(|l| rule.state(&choices(l)) == ItemState::Disputed).count();
    assert_eq!(disputed, 120, "two against one is an agreement of a third");

    // Dawid-Skene agrees with the majority on every pair.
    let votes: Vec<Vec<RaterLabel>> = items
        .iter()
        .map(|l| l.iter().enumerate().map(|(rater, l)| RaterLabel { rater, label: *l as usize }).collect())
        .collect();
    let found = dawid_skene(&votes, 3, 3, 0.0);
    assert!((found.log_likelihood + 1507.9272).abs() < 1e-3, "{}", found.log_likelihood);
    let diagonals: Vec<f64> = found.confusion.iter().flat_map(|r| (0..3).map(|k| r[k][k])).collect();
    let want = [0.8833, 0.9732, 0.9676, 0.9581, 0.9440, 0.9526, 0.9589, 0.9516, 0.9813];
    assert!(diagonals.iter().zip(want).all(|(d, w)| (d - w).abs() < 1e-4), "{diagonals:?}");
    let raters: Vec<Rater> = ["1", "2", "3"].map(Rater::new).into();
    let (prompt, a, b) = (PromptId::new("p"), CompletionId::new("a"), CompletionId::new("b"));
    let pairs: Vec<VotedPair<'_>> = items
        .iter()
        .map(|l| VotedPair { prompt: &prompt, a: &a, b: &b, votes: raters.iter().zip(choices(l)).collect() })
        .collect();
    let by = |how| aggregate(&pairs, how).into_iter().map(|a| a.outcome).collect::<Vec<_>>();
    assert_eq!(by(Aggregation::DawidSkene), by(Aggregation::Majority));

    // Bradley-Terry over the five models.
    let mut models: Vec<String> = rows
        .iter()
        .flat_map(|r| r["cmp_key"].as_str().unwrap().split('_').map(str::to_owned).collect::<Vec<_>>())
        .collect();
    models.sort();
    models.dedup();
    let mut wins = Vec::new();
    for (row, labels) in rows.iter().zip(&items) {
        let at = |name: &str| models.iter().position(|m| m == name).unwrap();
        let (a, b) = row["cmp_key"].as_str().unwrap().split_once('_').unwrap();
        let share = match majority(&choices(labels)).outcome {
            Outcome::Prefer(Side::A, _) => 1.0,
            Outcome::Prefer(Side::B, _) => 0.0,
            _ => 0.5,
        };
        wins.push(Win { winner: at(a), loser: at(b), weight: share });
        wins.push(Win { winner: at(b), loser: at(a), weight: 1.0 - share });
    }
    let found = bradley_terry(models.len(), &wins);
    let want = [-0.01819, -0.53675, 0.72432, -0.24298, 0.07361];
    assert!(found.strength.iter().zip(want).all(|(t, w)| (t - w).abs() < 1e-5), "{models:?} {:?}", found.strength);
    assert!((found.loss - 641.1366).abs() < 1e-4 && !found.regularised, "{}", found.loss);
}
