//! What a method is: its row in the method table, with the rules about options that go together.
//!
//! Owns the type. Which methods there are is the business of their recipes: each declares its row beside its mathematics.

use super::shared::{MixOrder, MixParams, ProbeParams, RolloutParams, TrainerParams};
use crate::domain::hyper::Hyperparameters;
use crate::domain::param::{ParamRow, Params};
use std::borrow::Cow;

/// What a method learns from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Preference pairs ([`crate::domain::PairRow`]): prompt, chosen, rejected.
    Pairs,
    /// Texts to imitate ([`crate::domain::SftRow`]).
    Examples,
    /// Single answers with a thumb up or down ([`crate::domain::RatedRow`]).
    Ratings,
    /// Prompts ([`crate::domain::Prompt`]) that the policy itself answers.
    Prompts,
}

/// A training method.
#[derive(Debug, Clone, Copy)]
pub struct Method {
    /// Its name on the command line: `dpo`.
    pub name: &'static str,
    /// Its name in full.
    pub title: &'static str,
    /// One line on when to use it.
    pub help: &'static str,
    /// What it learns from.
    pub needs: Needs,
    /// Whether it compares with a frozen reference.
    pub reference: bool,
    /// Whether it trains on the answers' tokens, so that forgetting can be measured on general text.
    pub probes: bool,
    /// Whether supervised rows can be mixed in against forgetting.
    pub mixes: bool,
    /// Shared hyper-parameters that mean nothing to it.
    pub without: &'static [&'static str],
    /// Its own hyper-parameters; the shared ones follow in [`Method::rows`].
    pub own: fn() -> Vec<ParamRow>,
    /// Defaults that differ from the shared rows': `(key, default, usual)`.
    pub defaults: &'static [(&'static str, &'static str, &'static str)],
    /// Options that mean something only under another one's setting, beside the shared ones.
    pub dependencies: fn() -> Vec<Dependency>,
    /// Why these options cannot stand together, as one sentence, where it is no matter of [`Method::under`].
    pub refuse: fn(&Params) -> Option<String>,
    /// The resolved objective as a formula in plain characters.
    pub objective: fn(&Params) -> String,
}

impl Method {
    /// Every hyper-parameter of the method: its own, then the shared ones.
    #[must_use]
    pub fn rows(&self) -> Vec<ParamRow> {
        let mut rows = (self.own)();
        let mix = MixParams::ROWS.iter().filter(|_| self.mixes);
        let probe = ProbeParams::ROWS.iter().filter(|_| self.probes);
        let rollout = RolloutParams::ROWS.iter().filter(|_| self.needs == Needs::Prompts);
        for row in
            rollout.chain(TrainerParams::ROWS).chain(mix).chain(probe).filter(|row| !self.without.contains(&row.key))
        {
            let mut row = *row;
            if let Some((_, default, usual)) = self.defaults.iter().find(|(key, ..)| *key == row.key) {
                row.default = default;
                row.usual = usual;
            }
            rows.push(row);
        }
        rows
    }

    /// The whole objective as a formula in plain characters, with what is mixed in.
    #[must_use]
    pub fn formula(&self, params: &Params) -> String {
        let own = (self.objective)(params);
        let mix = match MixParams::read(params) {
            Ok(mix) if self.mixes && mix.mix_ratio > 0.0 => mix,
            _ => return own,
        };
        let weight = if mix.mix_weight == 1.0 { String::new() } else { format!("{}·", mix.mix_weight) };
        let order = if mix.mix_order == MixOrder::Sequential { "then" } else { "+" };
        format!("{own},  {order} {weight}NLL(mixed rows, {} of all)", mix.mix_ratio)
    }
}

/// Options that mean something only under another one's setting. At their defaults they are not asked about.
#[derive(Debug, Clone)]
pub struct Dependency {
    /// These options …
    pub keys: &'static [&'static str],
    /// … mean something where this holds …
    pub condition: Condition,
    /// … of this option.
    pub on: &'static str,
    /// What makes it hold, as the end of a sentence: `take tune=lora`.
    pub remedy: Cow<'static, str>,
}

/// A condition on one option's value.
#[derive(Debug, Clone, Copy)]
pub enum Condition {
    /// It is this word, or names it among others.
    Includes(&'static str),
    /// It is another word than this.
    Not(&'static str),
    /// It names a word for which this holds.
    AnyItem(fn(&str) -> bool),
    /// It is a number above 0.
    Positive,
    /// It is a number that is not above 0.
    NotPositive,
    /// Something is set.
    Set,
}

impl Condition {
    /// Whether it holds of `value`.
    #[must_use]
    pub fn holds(self, value: &str) -> bool {
        let mut words = value.split(',').filter(|word| !word.is_empty());
        let above_0 = || value.parse::<f64>().is_ok_and(|x| x > 0.0);
        match self {
            Self::Includes(word) => words.any(|w| w == word),
            Self::Not(word) => value != word,
            Self::AnyItem(holds) => words.any(holds),
            Self::Positive => above_0(),
            Self::NotPositive => !above_0(),
            Self::Set => !value.is_empty(),
        }
    }
}

/// What the methods share that learn from their own answers.
pub(crate) const CHECKS_WEIGHT_DEPENDENCY: Dependency = Dependency {
    keys: &["checks_weight"],
    condition: Condition::Set,
    on: "reward_checks",
    remedy: Cow::Borrowed("name checks"),
};

/// Of a method whose options all go together.
pub(crate) fn nothing(_: &Params) -> Option<String> {
    None
}
