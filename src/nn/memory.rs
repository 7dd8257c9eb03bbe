//! How much memory a pass may keep.

use super::device::free;
use candle_core::Device;
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

/// Bytes of activations that may be kept beside the layers' inputs, as it is when a run begins: half of what is free on a
/// device with a memory of its own, a third of what is free to the processor. The rest is for moments, gradients, logits, one
/// layer at work, and on the CPU weights still to be read.
pub(crate) fn activation_budget(device: &Device) -> usize {
    free(device).map_or_else(host_budget, |bytes| bytes / 2)
}

fn host_budget() -> usize {
    let asked = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let free = System::new_with_specifics(asked).map_or(0, |system| system.available_memory());
    if free == 0 { 1 << 30 } else { free as usize / 3 }
}
