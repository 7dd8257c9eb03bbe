//! One comparison by a judge.
//!
//! Owns the rule for empty answers: an empty answer loses, two empty or equal ones tie, and no judge is asked. Refuses to
//! choose what is compared.

use super::item::Item;
use super::judge::{Bout, Referee, Ruling};
use crate::domain::{Comparison, ItemKey, Num};
use crate::model::error::Error;

/// Compares the two answers of an item, without thoughts.
pub(super) fn compare(
    referee: &mut dyn Referee,
    judge: &str,
    key: &ItemKey,
    item: &Item,
    a: &str,
    b: &str,
) -> Result<Comparison, Error> {
    let blank = |text: &str| text.trim().is_empty();
    let ruling = match (blank(a), blank(b)) {
        (true, true) => Ruling::sure(0.5),
        (true, false) => Ruling::sure(0.0),
        (false, true) => Ruling::sure(1.0),
        (false, false) if a == b => Ruling::sure(0.5),
        (false, false) => referee.rule(&Bout { prompt: &item.prompt, a, b })?,
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
    })
}
