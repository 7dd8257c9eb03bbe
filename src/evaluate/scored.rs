//! A judge that scores answers: the higher score is better.
//!
//! Owns the probability: of the raw difference, as Bradley–Terry training means it, or calibrated to people's labels. Refuses
//! a calibration against which the scores rank: who is better never depends on it.

use super::judge::{Bout, Referee, Ruling};
use crate::domain::{PromptBody, counted, logistic_calibration};
use crate::model::error::Error;

/// Scores an answer; none where it does not fit the model.
pub(super) type ScoreAnswer = Box<dyn Fn(&PromptBody, &str) -> Result<Option<f64>, Error>>;

/// A judge by scores.
pub(super) struct ScoredReferee {
    score: ScoreAnswer,
    /// Log-odds a unit of score.
    slope: f64,
}

impl ScoredReferee {
    pub(super) fn new(score: ScoreAnswer) -> Self {
        Self { score, slope: 1.0 }
    }
}

impl Referee for ScoredReferee {
    fn rule(&mut self, bout: &Bout) -> Result<Ruling, Error> {
        let scores = [(self.score)(bout.prompt, bout.a)?, (self.score)(bout.prompt, bout.b)?];
        let [Some(a), Some(b)] = scores else {
            return Ok(Ruling {
                problem: Some("an answer does not fit the model's context".into()),
                ..Ruling::default()
            });
        };
        let difference = a - b;
        if !difference.is_finite() {
            return Err(Error::NotFinite(format!(
                "The judge's scores of two answers are {a} and {b}: use another judge."
            )));
        }
        let p = 1.0 / (1.0 + (-self.slope * difference).exp());
        Ok(Ruling { p: Some(p), difference: Some(difference), ..Ruling::default() })
    }

    fn calibrate(&mut self, rows: &[(f64, f64)], fewest: usize) -> Option<(String, &'static str)> {
        Some((self.calibrated(rows, fewest), "Nothing needs to be done: who is better does not depend on it."))
    }
}

impl ScoredReferee {
    /// Calibrates, and says what the probabilities are.
    fn calibrated(&mut self, rows: &[(f64, f64)], fewest: usize) -> String {
        let raw = "the probability is the sigmoid of the difference of scores, as trained";
        if rows.len() < fewest {
            let labels = counted(rows.len(), "label");
            return format!("{raw}: {labels} that it did not learn from are fewer than {fewest}");
        }
        match logistic_calibration(rows) {
            Ok(found) if found.slope > 0.0 => {
                self.slope = found.slope;
                let held = if found.held { ", held by a ridge since they separate without an error" } else { "" };
                format!(
                    "probabilities are calibrated to {} that it did not learn from (slope {:.3}{held}, expected calibration \
                     error {:.3})",
                    counted(found.labels, "label"),
                    found.slope,
                    found.ece
                )
            }
            Ok(_) => format!("{raw}: its scores rank against your labels, which gives no calibration"),
            Err(why) => format!("{raw}: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_length(scale: f64) -> ScoredReferee {
        ScoredReferee::new(Box::new(move |_, text| Ok(Some(scale * text.len() as f64))))
    }

    fn ruled(referee: &mut ScoredReferee, a: &str, b: &str) -> Ruling {
        referee.rule(&Bout { prompt: &PromptBody::Text(String::new()), a, b }).unwrap()
    }

    #[test]
    fn the_sign_decides_and_swapping_mirrors() {
        let mut referee = by_length(0.5);
        let p = ruled(&mut referee, "aaaa", "bb").p.unwrap();
        assert!((p - 1.0 / (1.0 + (-1f64).exp())).abs() < 1e-12);
        assert!((ruled(&mut referee, "bb", "aaaa").p.unwrap() - (1.0 - p)).abs() < 1e-12);
        assert_eq!(ruled(&mut referee, "cc", "dd").p, Some(0.5));
    }

    #[test]
    fn few_labels_or_reversed_ones_leave_the_raw_probability_and_enough_calibrate() {
        let mut referee = by_length(1.0);
        let before = ruled(&mut referee, "aaaa", "bb");
        assert!(referee.calibrated(&[(1.0, 1.0)], 4).contains("1 label that it did not learn from are fewer than 4"));
        let against = [(1.0, 0.0), (2.0, 0.0), (1.0, 1.0), (3.0, 0.0)];
        assert!(referee.calibrated(&against, 4).contains("rank against your labels"));
        assert_eq!(ruled(&mut referee, "aaaa", "bb"), before);
        // At difference 2, three of four prefer the first: slope·2 = ln 3.
        let rows = [(2.0, 1.0), (2.0, 1.0), (-2.0, 0.0), (2.0, 0.0)];
        let said = referee.calibrated(&rows, 4);
        assert!(said.contains("calibrated to 4 labels") && said.contains("slope 0.549"), "{said}");
        let after = ruled(&mut referee, "aaaa", "bb");
        assert!((after.p.unwrap() - 0.75).abs() < 1e-9 && after.difference == before.difference);
    }

    #[test]
    fn an_answer_that_does_not_fit_gives_no_opinion() {
        let mut referee = ScoredReferee::new(Box::new(|_, text| Ok((text.len() < 3).then_some(1.0))));
        let found = ruled(&mut referee, "aaaa", "b");
        assert!(found.p.is_none() && found.problem.unwrap().contains("context"));
    }
}
