//! The store of evaluations' pairs with their prompts and answers. Owns the order of arrival; refuses the rules, which are in
//! `held_out`.

use super::super::ids::{CompletionId, PairId, PromptId};
use super::super::posed::PosedPair;
use super::super::text::{Completion, Pair, Prompt};
use std::collections::HashMap;
use std::sync::Arc;

/// What evaluations put up for judging.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct HeldOut {
    pub(super) prompts: HashMap<PromptId, Prompt>,
    pub(super) completions: HashMap<CompletionId, Completion>,
    /// Pairs in order of arrival.
    pub(super) pairs: Vec<Arc<Pair>>,
    pub(super) at: HashMap<PairId, usize>,
    pub(super) posed: HashMap<PairId, PosedPair>,
}

impl HeldOut {
    pub(super) fn add(&mut self, pair: Arc<Pair>) {
        if !self.at.contains_key(&pair.id) {
            self.at.insert(pair.id.clone(), self.pairs.len());
            self.pairs.push(pair);
        }
    }
}
