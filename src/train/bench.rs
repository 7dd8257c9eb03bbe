//! Measuring the engine by what users run: the trainer, the sampler, and beside them the matrix product alone.
//!
//! Owns which pairs are measured, what a step's mathematics costs, and what is left out of the clock. Refuses to judge: it
//! gives figures. A benchmark is meant to have a process to itself, since peak memory is a process's.

mod pairs;
mod product;
mod sample;
mod train;

pub use sample::sample;
pub use train::train;
