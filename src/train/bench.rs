//! Benchmarks of the trainer and the sampler, with the matrix product alone as the limit.
//!
//! Owns the choice of pairs, the FLOP count of a step, and what the timing excludes. Refuses to judge: it reports figures. Run a
//! benchmark in its own process, since peak memory is per process.

mod pairs;
mod product;
mod sample;
mod train;

pub use sample::sample;
pub use train::train;
