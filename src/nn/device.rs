//! Which device computes (`auto`, `cpu`, `cuda`, `cuda:1`, `metal`), and how much of its memory activations may take.

use crate::model::error::Error;
use crate::model::threads;
use candle_core::{DType, Device};
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

/// The device of that name. `auto` takes a GPU that this build can use and the machine has, else the CPU.
///
/// # Errors
/// When there is no such device; the sentence names those present.
pub fn device(name: &str) -> Result<Device, Error> {
    let absent = || Error::Device { asked: name.to_owned(), present: present().join(", ") };
    match name.trim() {
        "" | "auto" => Ok(Device::new_cuda(0).or_else(|_| Device::new_metal(0)).unwrap_or(Device::Cpu)),
        "cpu" => Ok(Device::Cpu),
        "metal" => Device::new_metal(0).map_err(|_| absent()),
        other => {
            let ordinal = match other.strip_prefix("cuda") {
                Some("") => 0,
                Some(rest) => rest.strip_prefix(':').and_then(|n| n.parse().ok()).ok_or_else(absent)?,
                None => return Err(absent()),
            };
            Device::new_cuda(ordinal).map_err(|_| absent())
        }
    }
}

/// Starts the threads that tensor operations share, which otherwise start with the first operation.
///
/// # Errors
/// When the system refuses a thread.
pub(crate) fn start_threads() -> Result<(), Error> {
    let start = |thread: rayon::ThreadBuilder| {
        threads::room(threads::STACK)?;
        std::thread::Builder::new().stack_size(threads::STACK).spawn(|| thread.run()).map(drop)
    };
    let Err(e) = rayon::ThreadPoolBuilder::new().spawn_handler(start).build_global() else { return Ok(()) };
    // Without a cause in the system, they were started before.
    let cause = std::error::Error::source(&e).and_then(|cause| cause.downcast_ref());
    cause.map_or(Ok(()), |refused| Err(threads::refused("tensor operations", threads::STACK, refused)))
}

/// The type of frozen weights on a device: bf16 on CUDA, f32 elsewhere.
pub(crate) fn weights_dtype(device: &Device) -> DType {
    if device.is_cuda() { DType::BF16 } else { DType::F32 }
}

/// Free bytes of a device with its own memory, if the driver reports them.
#[cfg(feature = "cuda")]
pub(crate) fn free(device: &Device) -> Option<usize> {
    let Device::Cuda(cuda) = device else { return None };
    cuda.cuda_stream().context().mem_get_info().ok().map(|(free, _)| free)
}

/// Free bytes of a device with its own memory: this build supports none.
#[cfg(not(feature = "cuda"))]
pub(crate) fn free(_device: &Device) -> Option<usize> {
    None
}

/// Bytes of activations that may be saved besides the layers' inputs, measured when a run starts: half of a device's own free
/// memory, a third of free RAM. The rest is for moments, gradients, logits, the layer being computed, and on the CPU weights not
/// yet read.
pub(crate) fn activation_budget(device: &Device) -> usize {
    free(device).map_or_else(host_budget, |bytes| bytes / 2)
}

fn host_budget() -> usize {
    let asked = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let free = System::new_with_specifics(asked).map_or(0, |system| system.available_memory());
    if free == 0 { 1 << 30 } else { free as usize / 3 }
}

/// The device in words for headers: `CPU · 2 threads`, `CUDA 0`, `Metal`.
#[must_use]
pub fn describe(device: &Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cpu => format!("CPU · {} threads", rayon::current_num_threads()),
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("CUDA {gpu_id}"),
        candle_core::DeviceLocation::Metal { .. } => "Metal".to_owned(),
    }
}

/// Names of the devices present on this machine.
fn present() -> Vec<String> {
    let mut names = vec!["cpu".to_owned()];
    names.extend((0..16).take_while(|n| Device::new_cuda(*n).is_ok()).map(|n| format!("cuda:{n}")));
    if Device::new_metal(0).is_ok() {
        names.push("metal".to_owned());
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_always_there_and_an_unknown_name_lists_it() {
        assert!(device("cpu").unwrap().is_cpu());
        let message = device("tpu").unwrap_err().to_string();
        assert!(message.contains("`tpu`") && message.contains("cpu"), "{message}");
    }
}
