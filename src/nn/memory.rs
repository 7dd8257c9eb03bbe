//! How much memory a pass may keep.

use super::device::free;
use candle_core::Device;

/// Bytes of activations that may be kept beside the layers' inputs, as it is when a run begins: half of what is free on a
/// device with a memory of its own, a third of what is free to the processor. The rest is for moments, gradients, logits, one
/// layer at work, and on the CPU weights still to be read.
pub(crate) fn activation_budget(device: &Device) -> usize {
    free(device).map_or_else(host_budget, |bytes| bytes / 2)
}

fn host_budget() -> usize {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<usize>().ok());
    kib.map_or(1 << 30, |kib| kib * 1024 / 3)
}
