//! The innermost loops of the engine on the CPU: matrix products, norms, rotations, attention, softmax, packed weights.
//!
//! Owns arithmetic on slices of numbers and its spreading over threads and SIMD lanes (chosen at run time). Refuses to know
//! models, tensors, files and errors: a caller that gives slices of the wrong length is wrong, and an assertion says so.
//!
//! A package of its own, so that the builds in which the rest is not optimised still compute at full speed.
//!
//! **Invariants.** Results do not depend on how work is spread: every sum has one order, whatever the number of threads. A number
//! that is none (NaN) comes out of every kernel that it went into, in every output that depends on it.
#![allow(clippy::inline_always, reason = "what is dispatched to SIMD lanes must be inlined into the dispatch")]

pub mod adam;
pub mod arena;
pub mod attention;
pub mod cached;
pub mod gate;
pub mod lanes;
pub mod leaf;
pub mod logits;
pub mod packed;
pub mod product;
pub mod softmax;
#[cfg(test)]
mod tests;
mod transpose;
