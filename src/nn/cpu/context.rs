//! The context of a pass on the CPU: the decoder, the batch's layout, the mode, and the arena for buffers.

use crate::nn::decoder::Decoder;
use crate::nn::layout::BatchLayout;
use crate::nn::pass::Mode;
use tiebreak_kernels::arena::Arena;

/// A pass in progress.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) arena: &'a Arena,
    pub(super) decoder: &'a Decoder,
    pub(super) layout: &'a BatchLayout,
    pub(super) mode: Mode,
}
