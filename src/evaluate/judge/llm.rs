//! The judge `llm`: a model on this machine or behind a server, by its log-probs of two letters in both orders.
//!
//! With l1 the log-odds of a over b when a comes first, and l2 when b does, both read for the first answer, the debiased
//! log-odds of a are (l1 − l2)/2 and the position bias is (l1 + l2)/2.

use crate::domain::{JudgeOperand, JudgeRow, PairId, logit};
use crate::evaluate::judge::{Bout, JudgeKind, Referee, Ruling};
use crate::generate::Judge;
use crate::model::error::Error;
use crate::protocol::{JudgeModel, JudgeSpec, Judgement};

pub(crate) static JUDGE: JudgeKind = JudgeKind {
    row: JudgeRow {
        name: "llm",
        takes: JudgeOperand::Model,
        help: "a model by its log-probs of two letters, in both orders",
    },
    check: Some(|spec| Judge::check(&model_of(spec)?)),
    open: Some(|spec, _, device| {
        Ok(Box::new(LetterReferee { judge: Judge::open(&model_of(spec)?, device)?, mass: Vec::new() }))
    }),
};

fn model_of(spec: &JudgeSpec) -> Result<JudgeModel, Error> {
    match (&spec.model, &spec.server) {
        (Some(model), _) => Ok(JudgeModel::Local(model.path.clone())),
        (None, Some(server)) => Ok(JudgeModel::Server(server.clone())),
        (None, None) => Err(Error::Invalid("the judge llm has no model: write --judge llm:MODEL".into())),
    }
}

/// Below this mean probability of both letters together, the judge does not answer what it is asked.
const LEAST_MASS: f64 = 0.1;

struct LetterReferee {
    judge: Judge,
    /// The probability of both letters together, of each answer.
    mass: Vec<f64>,
}

impl Referee for LetterReferee {
    fn rule(&mut self, bout: &Bout) -> Result<Ruling, Error> {
        let judgement = self.judge.judge(&PairId::new(""), bout.prompt, bout.a, bout.b)?;
        self.mass.extend(judgement.mass);
        Ok(ruling(judgement))
    }

    fn calibrate(&mut self, _: &[(f64, f64)], _: usize) -> Option<(String, &'static str)> {
        let n = self.mass.len() as f64;
        let mean = self.mass.iter().sum::<f64>() / n;
        (n > 0.0 && mean < LEAST_MASS).then(|| {
            let text = format!(
                "the letters A and B have a mean probability of {:.1} % together: it mostly wants to say something else",
                100.0 * mean
            );
            (text, "Use a judge that follows such questions.")
        })
    }
}

fn ruling(judgement: Judgement) -> Ruling {
    let Judgement { a_first, b_first, problem, .. } = judgement;
    let (Some(one), Some(two)) = (a_first, b_first) else {
        return Ruling { problem: problem.or_else(|| Some("the judge gave no letter".into())), ..Ruling::default() };
    };
    // `two` is the probability of a, so that l2 = −logit(two).
    let debiased = f64::midpoint(logit(one), logit(two));
    Ruling { p: Some(1.0 / (1.0 + (-debiased).exp())), a_first, b_first, ..Ruling::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(one: f64, two: f64) -> Ruling {
        ruling(Judgement { pair: PairId::new(""), a_first: Some(one), b_first: Some(two), mass: None, problem: None })
    }

    #[test]
    fn the_position_cancels() {
        // l1 = logit .9 for the first answer in both orders: nothing but position.
        assert!((of(0.9, 0.1).p.unwrap() - 0.5).abs() < 1e-12);
        // The same opinion in both orders stays what it is.
        assert!((of(0.8, 0.8).p.unwrap() - 0.8).abs() < 1e-12);
        // l1 = 2, l2 = 1: debiased ½, bias 3/2.
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        assert!((of(sigmoid(2.0), 1.0 - sigmoid(1.0)).p.unwrap() - sigmoid(0.5)).abs() < 1e-12);
        // A judge in words gives 0 or 1; contradicting itself is a tie.
        assert_eq!(of(1.0, 0.0).p, Some(0.5));
        assert!(of(1.0, 1.0).p.unwrap() > 0.999);
    }

    #[test]
    fn no_letter_is_no_opinion() {
        let judgement = Judgement {
            pair: PairId::new(""),
            a_first: Some(0.9),
            b_first: None,
            mass: None,
            problem: Some("x".into()),
        };
        assert_eq!(ruling(judgement), Ruling { problem: Some("x".into()), ..Ruling::default() });
    }
}
