//! The registry of methods: one row each, for methods that learn from rows and for those that learn from their own answers.
//!
//! Owns the list and nothing else. A method's loss, gradient and metrics are its file's; what a recipe is, `contract.rs` says.

mod contract;
mod cpo;
mod dpo;
mod grpo;
mod kto;
mod orpo;
mod ppo;
mod reward;
mod rloo;
mod sft;

pub use contract::Answer;
pub(super) use contract::{AnyRecipe, Apart, Loss, OnlineRecipe, Recipe, Seen, UpdateWindow, Window};
pub(super) use sft::imitate;

use crate::domain::Params;
use crate::model::error::Error;
use contract::RecipeRow;

/// One row a method; the names are those of the method table.
const RECIPES: &[RecipeRow] = &[
    dpo::RECIPE,
    orpo::RECIPE,
    sft::RECIPE,
    reward::RECIPE,
    ppo::RECIPE,
    grpo::RECIPE,
    rloo::RECIPE,
    cpo::CPO,
    cpo::SIMPO,
    kto::RECIPE,
];

/// The recipe of a method.
///
/// # Errors
/// When there is none of that name, or its options contradict each other.
pub(crate) fn recipe(method: &str, params: &Params) -> Result<AnyRecipe, Error> {
    if let Some(sentence) = crate::domain::method(method).and_then(|m| m.contradiction(params)) {
        return Err(Error::Asked(sentence));
    }
    match RECIPES.iter().find(|row| row.name == method) {
        Some(row) => (row.open)(params),
        None => Err(Error::Asked(format!("there is no recipe for the method `{method}`"))),
    }
}

#[cfg(test)]
mod tests;
