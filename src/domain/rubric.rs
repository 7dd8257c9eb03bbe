//! Rubrics: the criteria of a session, what a rater is asked by them, and which of them a run trains on.
//!
//! Owns names, sentences and the notation `helpful=0.7,harmless=0.3`. Verdicts without a criterion are overall, as in every
//! log that knows no criteria.

use super::filter::Filter;
use super::ids::is_name;
use super::nearest::nearest;
use std::fmt;

/// The name of the verdict without a criterion.
pub const OVERALL: &str = "overall";

/// Criteria that need no sentence of one's own.
pub const CRITERIA: &[(&str, &str)] = &[
    ("helpful", "Which answer does more of what the user asked for?"),
    ("harmless", "Which answer is less likely to harm the user or anyone else?"),
    ("honest", "Which answer is more truthful, also about what it does not know?"),
];

/// What answers are compared by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Criterion {
    /// Its name: letters, digits, `-`, `_`, `.`.
    pub name: String,
    /// The question that the rater answers.
    pub sentence: String,
}

impl Criterion {
    /// Reads `NAME` or `NAME: SENTENCE`. A name of [`CRITERIA`] needs no sentence.
    ///
    /// # Errors
    /// When the name cannot be one, or has no sentence; one sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, sentence) = text.split_once(':').map_or((text, ""), |(name, sentence)| (name, sentence));
        let (name, sentence) = (name.trim(), sentence.trim());
        if !is_name(name) || matches!(name, OVERALL | "all") {
            return Err(format!(
                "invalid criterion `{name}`: a name takes letters, digits, - _ . and is neither `overall` nor `all`"
            ));
        }
        let known = CRITERIA.iter().find(|(known, _)| *known == name).map(|(_, sentence)| *sentence);
        match (sentence, known) {
            ("", None) => Err(format!(
                "the criterion {name} needs a sentence: `{name}: Which answer …?`; without one there are {}",
                CRITERIA.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
            )),
            ("", Some(known)) => Ok(Self { name: name.into(), sentence: known.into() }),
            (own, _) => Ok(Self { name: name.into(), sentence: own.into() }),
        }
    }
}

/// What a rater is asked of each pair.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum RubricPass {
    /// Which answer is better overall.
    #[default]
    Overall,
    /// Which is better by this criterion.
    One(String),
    /// Overall, then by each criterion, before the next pair.
    All,
}

impl RubricPass {
    /// Reads a criterion's name, `all` or `overall`.
    ///
    /// # Errors
    /// When the session has no such criterion; one sentence.
    pub fn parse(text: &str, criteria: &[Criterion]) -> Result<Self, String> {
        match text {
            OVERALL => Ok(Self::Overall),
            "all" if criteria.is_empty() => Err("the session has no criteria: `tiebreak rubric` adds some".into()),
            "all" => Ok(Self::All),
            name => {
                known(name, criteria.iter().map(|c| c.name.as_str()))?;
                Ok(Self::One(name.into()))
            }
        }
    }

    /// The criterion of a pass by one; none otherwise.
    #[must_use]
    pub fn criterion(&self) -> Option<&str> {
        match self {
            Self::One(name) => Some(name),
            Self::Overall | Self::All => None,
        }
    }
}

/// Whether a criterion of that name exists.
fn known<'a>(name: &str, names: impl Iterator<Item = &'a str> + Clone) -> Result<(), String> {
    if names.clone().any(|known| known == name) {
        return Ok(());
    }
    let all: Vec<&str> = names.clone().collect();
    let near = nearest(name, names).map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"));
    Err(if all.is_empty() {
        format!("there is no criterion `{name}`, as the session has none: `tiebreak rubric` adds some")
    } else {
        format!("there is no criterion `{name}`{near}; there are {}", all.join(", "))
    })
}

/// The criteria that a run trains on, with their weights. Without any, it trains on verdicts overall.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rubric {
    /// Names in the order given, with weights that sum to 1.
    weights: Vec<(String, f64)>,
}

impl Rubric {
    /// Reads `helpful` or `helpful=0.7,harmless=0.3`; `overall` is the verdict without a criterion. Weights are divided by
    /// their sum.
    ///
    /// # Errors
    /// When a name comes twice or a weight is no positive number; one sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut weights: Vec<(String, f64)> = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, weight) =
                part.split_once('=').map_or((part, "1"), |(name, weight)| (name.trim(), weight.trim()));
            let weight = weight.parse::<f64>().ok().filter(|w| w.is_finite() && *w > 0.0).ok_or_else(|| {
                format!(
                    "invalid weight `{weight}` of {name}: expected a number above 0, as in helpful=0.7,harmless=0.3"
                )
            })?;
            if !is_name(name) {
                return Err(format!("invalid criterion `{name}`: a name takes letters, digits, - _ ."));
            }
            if weights.iter().any(|(known, _)| known == name) {
                return Err(format!("the criterion {name} is given twice"));
            }
            weights.push((name.into(), weight));
        }
        let sum: f64 = weights.iter().map(|(_, w)| w).sum();
        for (_, weight) in &mut weights {
            *weight /= sum;
        }
        if matches!(weights.as_slice(), [(name, _)] if name == OVERALL) {
            weights.clear();
        }
        Ok(Self { weights })
    }

    /// The verdicts by one criterion.
    #[must_use]
    pub fn one(criterion: Option<&str>) -> Self {
        Self { weights: criterion.map(|name| (name.to_owned(), 1.0)).into_iter().collect() }
    }

    /// Refuses criteria that a session does not have.
    ///
    /// # Errors
    /// Names the first, and those that there are.
    pub fn check(&self, criteria: &[Criterion]) -> Result<(), String> {
        let names = criteria.iter().map(|c| c.name.as_str()).chain([OVERALL]);
        self.weights.iter().try_for_each(|(name, _)| known(name, names.clone()))
    }

    /// The one criterion that it is about, or none for overall; none at all for a mix.
    #[must_use]
    pub fn single(&self) -> Option<Option<&str>> {
        match self.weights.as_slice() {
            [] => Some(None),
            [(name, _)] => Some(Some(name)),
            _ => None,
        }
    }

    /// The parts of a mix: criteria, none for overall, with weights that sum to 1.
    pub fn parts(&self) -> impl Iterator<Item = (Option<&str>, f64)> {
        let overall = self.weights.is_empty().then_some((None, 1.0));
        self.weights.iter().map(|(name, w)| (Some(name.as_str()).filter(|n| *n != OVERALL), *w)).chain(overall)
    }

    /// Whether verdicts by this criterion, none for overall, are part of it.
    #[must_use]
    pub fn has(&self, criterion: Option<&str>) -> bool {
        self.parts().any(|(name, _)| name == criterion)
    }
}

impl fmt::Display for Rubric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.weights.as_slice() {
            [] => f.write_str(OVERALL),
            [(name, _)] => f.write_str(name),
            all => {
                let part = |(name, w): &(String, f64)| format!("{name}={}", (w * 1e6).round() / 1e6);
                f.write_str(&all.iter().map(part).collect::<Vec<_>>().join(","))
            }
        }
    }
}

/// Which of a session's rows are meant.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RowChoice {
    /// The pairs that match; none for all.
    pub filter: Option<Filter>,
    /// The criteria by which they were judged.
    pub rubric: Rubric,
}

impl RowChoice {
    /// Reads a filter and a rubric; an empty one is none.
    ///
    /// # Errors
    /// What is wrong with the first wrong one, in one sentence.
    pub fn parse(filter: &str, rubric: &str) -> Result<Self, String> {
        let filter = Filter::parse(filter).map_err(|e| e.to_string())?;
        Ok(Self { filter: Some(filter).filter(|f| !f.is_empty()), rubric: Rubric::parse(rubric)? })
    }

    /// What was chosen, in words; empty where everything is meant.
    #[must_use]
    pub fn words(&self) -> String {
        let rubric = (self.rubric != Rubric::default()).then(|| format!("rubric {}", self.rubric));
        let filter = self.filter.as_ref().map(|filter| format!("filter {filter}"));
        rubric.into_iter().chain(filter).collect::<Vec<_>>().join(" · ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_criterion_is_a_known_name_or_has_a_sentence() {
        assert!(Criterion::parse("helpful").unwrap().sentence.ends_with('?'));
        let own = Criterion::parse("kind: Which answer is kinder: the first?").unwrap();
        assert_eq!((own.name.as_str(), own.sentence.as_str()), ("kind", "Which answer is kinder: the first?"));
        for bad in ["kind", "", "two words: Which?", "overall", "all: Which?"] {
            let why = Criterion::parse(bad).unwrap_err();
            assert!(why.contains("criterion") && why.lines().count() == 1, "{bad}: {why}");
        }
    }

    #[test]
    fn a_rubric_is_read_and_written_with_weights_that_sum_to_one() {
        let mix = Rubric::parse("helpful=7, harmless=3").unwrap();
        assert_eq!(mix.to_string(), "helpful=0.7,harmless=0.3");
        assert_eq!(Rubric::parse(&mix.to_string()).unwrap(), mix);
        assert_eq!(mix.parts().collect::<Vec<_>>(), [(Some("helpful"), 0.7), (Some("harmless"), 0.3)]);
        assert_eq!((mix.single(), Rubric::parse("helpful").unwrap().single()), (None, Some(Some("helpful"))));
        assert_eq!(Rubric::parse("overall").unwrap(), Rubric::default());
        assert_eq!(Rubric::parse("").unwrap(), Rubric::default());
        assert!(Rubric::parse("overall,helpful").unwrap().has(None));
        for (bad, why) in [("helpful=0", "above 0"), ("helpful=x", "above 0"), ("a,a", "twice"), ("a b=1", "letters")] {
            assert!(Rubric::parse(bad).unwrap_err().contains(why), "{bad}");
        }
        let criteria = [Criterion::parse("helpful").unwrap()];
        assert!(mix.check(&criteria).unwrap_err().contains("`harmless`; there are helpful, overall"));
        assert!(RubricPass::parse("helpfull", &criteria).unwrap_err().contains("did you mean `helpful`"));
        assert!(RubricPass::parse("all", &[]).unwrap_err().contains("tiebreak rubric"));
    }
}
