//! One comparison by a judge.
//!
//! Owns the rule for empty answers: an empty answer loses, two empty or equal ones tie, and no judge is asked. Refuses to
//! choose what is compared.

use super::item::Item;
use super::judge::{Bout, Referee, Ruling};
use crate::domain::{Comparison, ItemKey, Num};
use crate::model::error::Error;
use std::collections::VecDeque;

/// A judge judging.
pub(super) struct Judging {
    pub(super) name: String,
    /// None for a person.
    pub(super) referee: Option<Box<dyn Referee>>,
    /// Pairs with a known better answer, by set and place, that it has still to judge.
    pub(super) gate: VecDeque<(usize, usize)>,
    pub(super) calibrated: bool,
    pub(super) waiting: VecDeque<(usize, usize, u32)>,
}

/// The probability that a is better where nobody has to be asked; none where a judge decides.
pub(super) fn decided(a: &str, b: &str) -> Option<f64> {
    match (a.trim().is_empty(), b.trim().is_empty()) {
        (true, true) => Some(0.5),
        (true, false) => Some(0.0),
        (false, true) => Some(1.0),
        (false, false) => (a == b).then_some(0.5),
    }
}

/// Compares the two answers of an item, without thoughts.
pub(super) fn compare(
    referee: &mut dyn Referee,
    judge: &str,
    key: &ItemKey,
    item: &Item,
    a: &str,
    b: &str,
) -> Result<Comparison, Error> {
    let ruling = match decided(a, b) {
        Some(p) => Ruling::sure(p),
        None => referee.rule(&Bout { prompt: &item.prompt, a, b })?,
    };
    Ok(Comparison {
        key: key.clone(),
        judge: judge.to_owned(),
        cluster: item.cluster(),
        p: ruling.p.map(Num),
        a_first: ruling.a_first.map(Num),
        b_first: ruling.b_first.map(Num),
        chars: [a.chars().count(), b.chars().count()],
        problem: ruling.problem,
        reference: None,
        difference: ruling.difference.map(Num),
    })
}
