//! How far a session's raters agree: with each other, by stratum, and with themselves.

use super::super::agreement::{
    ItemLabels, Scale, bootstrap, cohen_kappa, fleiss_kappa, krippendorff_alpha, percent_agreement, quadratic_kappa,
};
use super::super::ids::Rater;
use super::super::partial::PartialCounts;
use super::super::select::StratumKey;
use super::super::verdict::{Choice, Side, Verdict};
use super::super::votes::{nominal, signed};
use super::Session;
use super::pool::{ScoreSource, pair_strata};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Draws of the bootstrap.
const DRAWS: usize = 1000;
/// Its seed: the same log gives the same intervals.
const SEED: u64 = 17;

/// A coefficient with its interval.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Coefficient {
    /// What it is, and of whom.
    pub name: String,
    /// Its value; none where it is undefined.
    pub value: Option<f64>,
    /// The 95 % bootstrap interval over pairs.
    pub interval: Option<(f64, f64)>,
    /// Pairs that it is computed from.
    pub items: usize,
}

/// How often two raters gave which labels: tie, a, b, both bad.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Confusion {
    /// The rater of the rows.
    pub first: String,
    /// The rater of the columns.
    pub second: String,
    /// Counts by the first's label, then the second's.
    pub counts: [[usize; 4]; 4],
}

/// What a rater's labels say about the rater.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RaterFigures {
    /// The rater.
    pub name: String,
    /// Labels that count, skips aside.
    pub labels: usize,
    /// Of these, those given before both answers had ended.
    pub partial: usize,
    /// Preferences with a known screen side.
    pub preferences: usize,
    /// Of these, those for the answer on the left.
    pub chose_left: usize,
    /// Preferences between answers of different length.
    pub unequal_length: usize,
    /// Of these, those for the longer one.
    pub chose_longer: usize,
    /// Pairs judged again.
    pub repeated: usize,
    /// Of these, those judged the same.
    pub repeated_same: usize,
    /// Of the pairs judged again with swapped sides, those where the same side was chosen both times.
    pub repeated_same_side: usize,
}

/// Agreement within a session.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AgreementReport {
    /// Pairs with two or more labels.
    pub overlapping: usize,
    /// Over all raters, then for each two of them.
    pub coefficients: Vec<Coefficient>,
    /// Krippendorff's alpha of each stratum, where there are several.
    pub by_stratum: Vec<Coefficient>,
    /// Of the two raters with most pairs in common.
    pub confusion: Option<Confusion>,
    /// Each rater.
    pub raters: Vec<RaterFigures>,
    /// Disputed pairs.
    pub disputed: usize,
    /// Verdicts given before both answers had ended, by any criterion. The coefficients count those that count at all.
    #[serde(skip_serializing_if = "PartialCounts::is_empty")]
    pub partial: PartialCounts,
    /// The same by each criterion that has verdicts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub criteria: Vec<CriterionReport>,
}

/// Agreement by a criterion.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CriterionReport {
    /// The criterion's name.
    pub criterion: String,
    /// The agreement.
    pub report: AgreementReport,
}

/// One item: who gave which choice.
type Item<'a> = Vec<(&'a Rater, Choice)>;

/// Agreement on a session's verdicts overall, and by each criterion that has any.
#[must_use]
pub fn agreement_report(session: &Session) -> AgreementReport {
    let given: BTreeSet<&str> = session
        .verdicts()
        .filter(|(_, judged)| !judged.undone)
        .filter_map(|(_, judged)| judged.verdict.asked.criterion.as_deref())
        .collect();
    let one = |criterion: &str| CriterionReport {
        criterion: criterion.to_owned(),
        report: report_on(session, Some(criterion)),
    };
    AgreementReport { criteria: given.into_iter().map(one).collect(), ..report_on(session, None) }
}

/// Every coefficient over a session's counting verdicts by a criterion, none for overall. Skips are no labels; both bad is a label of its own on the nominal
/// scale and 0 on the scales of strength.
fn report_on(session: &Session, criterion: Option<&str>) -> AgreementReport {
    let items: Vec<Item<'_>> = session
        .voted_on(criterion)
        .into_iter()
        .map(|pair| pair.votes.into_iter().filter(|(_, c)| nominal(*c).is_some()).collect())
        .collect();
    let overlapping: Vec<&Item<'_>> = items.iter().filter(|item| item.len() >= 2).collect();
    let labels = |of: fn(Choice) -> Option<i64>| -> Vec<ItemLabels> {
        overlapping.iter().map(|item| item.iter().filter_map(|(_, c)| of(*c)).collect()).collect()
    };
    let (plain, scaled) = (labels(nominal), labels(signed));
    let mut coefficients = vec![
        coefficient("percent agreement", &plain, percent_agreement),
        coefficient("Fleiss kappa", &plain, |items| fleiss_kappa(items).0),
        coefficient("Krippendorff alpha, nominal", &plain, |items| krippendorff_alpha(items, Scale::Nominal)),
        coefficient("Krippendorff alpha, ordinal", &scaled, |items| krippendorff_alpha(items, Scale::Ordinal)),
        coefficient("Krippendorff alpha, interval", &scaled, |items| krippendorff_alpha(items, Scale::Interval)),
    ];
    let mut raters: BTreeMap<&Rater, usize> = BTreeMap::new();
    items.iter().flatten().for_each(|(rater, _)| *raters.entry(rater).or_default() += 1);
    let names: Vec<&Rater> = raters.keys().copied().collect();
    let mut confusion: Option<Confusion> = None;
    let mut most = 0;
    for (i, first) in names.iter().copied().enumerate() {
        for second in names[i + 1..].iter().copied() {
            let both: Vec<(Choice, Choice)> = overlapping.iter().filter_map(|item| both(item, first, second)).collect();
            if both.is_empty() {
                continue;
            }
            let of = |f: fn(Choice) -> Option<i64>| -> Vec<(i64, i64)> {
                both.iter().filter_map(|(x, y)| Some((f(*x)?, f(*y)?))).collect()
            };
            coefficients.push(coefficient(
                &format!("Cohen kappa, {} and {}", short(first), short(second)),
                &of(nominal),
                cohen_kappa,
            ));
            let name = format!("quadratic kappa, {} and {}", short(first), short(second));
            coefficients.push(coefficient(&name, &of(signed), quadratic_kappa));
            if both.len() > most {
                most = both.len();
                let mut counts = [[0; 4]; 4];
                for (x, y) in of(nominal) {
                    counts[x as usize][y as usize] += 1;
                }
                confusion = Some(Confusion { first: short(first).into(), second: short(second).into(), counts });
            }
        }
    }
    AgreementReport {
        overlapping: overlapping.len(),
        coefficients,
        by_stratum: by_stratum(session, &items),
        confusion,
        raters: names.into_iter().map(|rater| figures(session, rater, criterion)).collect(),
        disputed: session.disputes_on(criterion).len(),
        criteria: Vec::new(),
        partial: session.partial_counts(),
    }
}

/// A rater's name without the file that it was imported from.
fn short(rater: &Rater) -> &str {
    rater.as_str().rsplit_once('#').filter(|_| rater.is_import()).map_or(rater.as_str(), |(_, name)| name)
}

fn coefficient<T: Clone>(name: &str, items: &[T], of: impl Fn(&[T]) -> Option<f64>) -> Coefficient {
    let value = of(items);
    let interval = value.and_then(|_| bootstrap(items, DRAWS, SEED, &of));
    Coefficient { name: name.into(), value, interval, items: items.len() }
}

fn both(item: &Item<'_>, first: &Rater, second: &Rater) -> Option<(Choice, Choice)> {
    let of = |rater: &Rater| item.iter().find(|(r, _)| *r == rater).map(|(_, c)| *c);
    Some((of(first)?, of(second)?))
}

/// Alpha within tags and within sources, where there are several.
fn by_stratum(session: &Session, items: &[Item<'_>]) -> Vec<Coefficient> {
    let mut out = Vec::new();
    for key in [StratumKey::Tag, StratumKey::Source, StratumKey::LengthGap] {
        let names = pair_strata(session, &ScoreSource::None, key);
        let mut of: BTreeMap<String, Vec<ItemLabels>> = BTreeMap::new();
        for (item, name) in items.iter().zip(names).filter(|(item, _)| item.len() >= 2) {
            let Some(name) = name else { continue };
            of.entry(name).or_default().push(item.iter().filter_map(|(_, c)| nominal(*c)).collect());
        }
        if of.len() > 1 {
            out.extend(of.into_iter().map(|(name, labels)| {
                let name = format!("Krippendorff alpha, {name}");
                coefficient(&name, &labels, |items| krippendorff_alpha(items, Scale::Nominal))
            }));
        }
    }
    out
}

/// What one rater's labels say: biases by side and length, and agreement with the rater's own first judgement.
fn figures(session: &Session, rater: &Rater, criterion: Option<&str>) -> RaterFigures {
    let mut out = RaterFigures {
        name: short(rater).into(),
        labels: 0,
        partial: 0,
        preferences: 0,
        chose_left: 0,
        unequal_length: 0,
        chose_longer: 0,
        repeated: 0,
        repeated_same: 0,
        repeated_same_side: 0,
    };
    for pair in session.pairs() {
        let last = session.verdict_by(&pair.id, rater, criterion).map(|(_, v)| v);
        let Some(last) = last.filter(|v| nominal(v.choice).is_some()) else { continue };
        out.labels += 1;
        out.partial += usize::from(last.is_partial());
        if let (Choice::Prefer(side, _), Some((a, b))) = (last.choice, session.sides(pair)) {
            out.preferences += usize::from(!rater.is_import());
            out.chose_left += usize::from(!rater.is_import() && side == last.left);
            let (a, b) = (a.text.chars().count(), b.text.chars().count());
            out.unequal_length += usize::from(a != b);
            out.chose_longer += usize::from(a != b && (side == Side::A) == (a > b));
        }
        let label = |v: &Verdict| nominal(v.choice).is_some();
        if let Some((first, second)) = session.judged_twice(&pair.id, rater, criterion, label) {
            out.repeated += 1;
            out.repeated_same += usize::from(nominal(first.choice) == nominal(second.choice));
            if let (Choice::Prefer(x, _), Choice::Prefer(y, _)) = (first.choice, second.choice) {
                let swapped = first.left != second.left;
                out.repeated_same_side += usize::from(swapped && x != y);
            }
        }
    }
    out
}
