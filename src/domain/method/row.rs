//! A method's row in the method table, and the rules about options that depend on each other.
//!
//! Owns the types. Refuses the list of methods: each recipe declares its own row.

use super::shared::{MixOrder, MixParams, ProbeParams, RolloutParams, TrainerParams};
use crate::domain::hyper::Hyperparameters;
use crate::domain::param::{ParamRow, Params};
use std::borrow::Cow;

/// What a method learns from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Preference pairs ([`crate::domain::PairRow`]): prompt, chosen, rejected.
    Pairs,
    /// Texts for supervised fine-tuning ([`crate::domain::SftRow`]).
    Examples,
    /// Single answers labelled desirable or undesirable ([`crate::domain::RatedRow`]).
    Ratings,
    /// Prompts ([`crate::domain::Prompt`]) that the policy answers (online methods).
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
    /// Whether it uses a frozen reference model.
    pub reference: bool,
    /// Whether it trains a language model, so that forgetting can be measured on general text.
    pub probes: bool,
    /// Whether SFT rows can be mixed in against forgetting.
    pub mixes: bool,
    /// Shared hyper-parameters that do not apply to it.
    pub without: &'static [&'static str],
    /// Its own hyper-parameters; the shared ones follow in [`Method::rows`].
    pub own: fn() -> Vec<ParamRow>,
    /// Overridden defaults of shared rows: `(key, default, usual)`.
    pub defaults: &'static [(&'static str, &'static str, &'static str)],
    /// Options that take effect only under another option's setting, beside the shared ones.
    pub dependencies: fn() -> Vec<Dependency>,
    /// Any contradiction that [`Method::dependencies`] cannot express, as one sentence.
    pub refuse: fn(&Params) -> Option<String>,
    /// The objective as a formula in plain text, with the run's values.
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

    /// The objective with the loss of mixed SFT rows.
    #[must_use]
    pub fn formula(&self, params: &Params) -> String {
        let own = (self.objective)(params);
        let mix = match MixParams::read(params) {
            Ok(mix) if self.mixes && mix.mix_ratio > 0.0 => mix,
            _ => return own,
        };
        let weight = if mix.mix_weight == 1.0 { String::new() } else { format!("{}·", mix.mix_weight) };
        let order = if mix.mix_order == MixOrder::Sequential { "then" } else { "+" };
        format!("{own},  {order} {weight}NLL(mixed SFT rows, {} of all)", mix.mix_ratio)
    }
}

/// Options that take effect only under another option's setting; at their defaults they are not checked.
#[derive(Debug, Clone)]
pub struct Dependency {
    /// The dependent options.
    pub keys: &'static [&'static str],
    /// The condition under which they take effect.
    pub condition: Condition,
    /// The option that the condition is about.
    pub on: &'static str,
    /// How to satisfy it, as the end of a sentence: `set tune=lora`.
    pub remedy: Cow<'static, str>,
}

/// A condition on one option's value.
#[derive(Debug, Clone, Copy)]
pub enum Condition {
    /// The list contains this word.
    Includes(&'static str),
    /// The value is not this word.
    Not(&'static str),
    /// The predicate holds for some word of the list.
    AnyItem(fn(&str) -> bool),
    /// A number above 0.
    Positive,
    /// Not a number above 0.
    NotPositive,
    /// Not empty.
    Set,
}

impl Condition {
    /// Whether `value` satisfies it.
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

/// Shared by the online methods.
pub(crate) const CHECKS_WEIGHT_DEPENDENCY: Dependency = Dependency {
    keys: &["checks_weight"],
    condition: Condition::Set,
    on: "reward_checks",
    remedy: Cow::Borrowed("set reward_checks"),
};

/// For a method without contradictions of its own.
pub(crate) fn nothing(_: &Params) -> Option<String> {
    None
}
