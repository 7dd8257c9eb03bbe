//! The CPU's inner loops: matrix products, norms, RoPE, attention, softmax, packed weights.
//!
//! Owns arithmetic on slices and its parallelism over threads and SIMD lanes (chosen at run time). Refuses to know
//! models, tensors, files and errors: slices of the wrong length are a caller's bug and panic.
//!
//! A package of its own, so that builds that do not optimise the rest still compute at full speed.
//!
//! **Invariants.** Results do not depend on parallelism: every sum has one order, whatever the number of threads. Every kernel
//! propagates NaN to every output that depends on it.
#![allow(clippy::inline_always, reason = "what is dispatched to SIMD lanes must be inlined into the dispatch")]

pub mod adam;
pub mod arena;
pub mod attention;
pub mod cached;
pub mod finite;
pub mod gate;
pub mod lanes;
pub mod leaf;
pub mod logits;
pub mod memory;
pub mod packed;
pub mod product;
pub mod softmax;
#[cfg(test)]
mod tests;
mod transpose;
