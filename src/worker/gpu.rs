//! GPU name, memory, utilisation and temperature from NVIDIA's management library (NVML).
//!
//! Owns the queries. The library comes with the driver and is loaded at run time. Refuses to fail: without the library or a
//! figure, the figure is absent.

use crate::domain::Metrics;
use crate::protocol::GpuCard;
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::{Device, Nvml};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The library's names; without the driver's development files only the second exists.
const LIBRARIES: [&str; 2] = ["libnvidia-ml.so", "libnvidia-ml.so.1"];
/// Polling interval of the memory peak.
const POLL_EVERY: Duration = Duration::from_millis(20);

fn library() -> Option<Nvml> {
    LIBRARIES.iter().find_map(|name| Nvml::builder().lib_path(name.as_ref()).init().ok())
}

/// All GPUs of the machine.
#[must_use]
pub(crate) fn cards() -> Vec<GpuCard> {
    let Some(nvml) = library() else { return Vec::new() };
    let driver = nvml.sys_driver_version().unwrap_or_default();
    let cuda =
        nvml.sys_cuda_driver_version().map_or_else(|_| String::new(), |v| format!("{}.{}", v / 1000, v % 1000 / 10));
    (0..nvml.device_count().unwrap_or(0))
        .filter_map(|i| nvml.device_by_index(i).ok())
        .enumerate()
        .map(|(index, device)| {
            let memory = device.memory_info().ok();
            GpuCard {
                index,
                name: device.name().unwrap_or_else(|_| "NVIDIA".into()),
                memory_bytes: memory.as_ref().map(|m| m.total),
                memory_used_bytes: memory.as_ref().map(|m| m.used),
                utilisation: device.utilization_rates().ok().map(|u| u.gpu),
                temperature: device.temperature(TemperatureSensor::Gpu).ok(),
                driver: driver.clone(),
                cuda: cuda.clone(),
            }
        })
        .collect()
}

/// The GPU of a run.
pub(crate) struct RunGpu {
    nvml: Nvml,
    selector: GpuSelector,
}

/// How NVML selects it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum GpuSelector {
    Index(u32),
    Uuid(String),
}

impl RunGpu {
    /// The GPU of a device's description (`CUDA 0`); none on another device or without the library.
    pub(crate) fn of(device: &str) -> Option<Self> {
        let selector = selector(device, std::env::var("CUDA_VISIBLE_DEVICES").ok().as_deref())?;
        let gpu = Self { nvml: library()?, selector };
        gpu.device().is_some().then_some(gpu)
    }

    fn device(&self) -> Option<Device<'_>> {
        match &self.selector {
            GpuSelector::Index(i) => self.nvml.device_by_index(*i).ok(),
            GpuSelector::Uuid(uuid) => self.nvml.device_by_uuid(uuid.as_str()).ok(),
        }
    }

    /// The GPU's name.
    pub(crate) fn name(&self) -> Option<String> {
        self.device()?.name().ok()
    }

    /// Bytes in use by all processes.
    fn used(&self) -> Option<u64> {
        Some(self.device()?.memory_info().ok()?.used)
    }

    /// Sets the known ones of `gpu/utilisation` (percent), `gpu/memory_mib` (all processes) and `gpu/temperature` (°C).
    pub(crate) fn report(&self, metrics: &mut Metrics) {
        let Some(device) = self.device() else { return };
        if let Ok(rates) = device.utilization_rates() {
            metrics.set("gpu/utilisation", rates.gpu.into());
        }
        if let Ok(memory) = device.memory_info() {
            metrics.set("gpu/memory_mib", memory.used as f64 / f64::from(1 << 20));
        }
        if let Ok(temperature) = device.temperature(TemperatureSensor::Gpu) {
            metrics.set("gpu/temperature", temperature.into());
        }
    }
}

/// Resolves `CUDA 0` under `visible` (`CUDA_VISIBLE_DEVICES`), which renumbers GPUs.
fn selector(device: &str, visible: Option<&str>) -> Option<GpuSelector> {
    let digits: String = device.strip_prefix("CUDA ")?.chars().take_while(char::is_ascii_digit).collect();
    let ordinal: usize = digits.parse().ok()?;
    match visible.map(str::trim).filter(|list| !list.is_empty()) {
        None => Some(GpuSelector::Index(ordinal as u32)),
        Some(list) => {
            let named = list.split(',').nth(ordinal)?.trim();
            Some(named.parse().map_or_else(|_| GpuSelector::Uuid(named.into()), GpuSelector::Index))
        }
    }
}

/// Polls a GPU's memory in a thread to find the peak.
pub(crate) struct Peak {
    before: u64,
    most: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Peak {
    /// Starts polling; none without a GPU.
    pub(crate) fn watch(device: &str) -> Option<Self> {
        let gpu = RunGpu::of(device)?;
        let before = gpu.used()?;
        let (most, ended) = (Arc::new(AtomicU64::new(before)), Arc::new(AtomicBool::new(false)));
        let (seen, stop) = (Arc::clone(&most), Arc::clone(&ended));
        let look = move || {
            while !stop.load(Ordering::Relaxed) {
                if let Some(used) = gpu.used() {
                    seen.fetch_max(used, Ordering::Relaxed);
                }
                std::thread::sleep(POLL_EVERY);
            }
        };
        let thread = std::thread::Builder::new().name("gpu memory".into()).spawn(look).ok()?;
        Some(Self { before, most, ended, thread })
    }

    /// The peak above the initial use, in MiB.
    pub(crate) fn mib(self) -> f64 {
        self.ended.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
        self.most.load(Ordering::Relaxed).saturating_sub(self.before) as f64 / f64::from(1 << 20)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gpu_of_a_run_is_found_by_number_or_by_name() {
        assert_eq!(selector("CUDA 1", None), Some(GpuSelector::Index(1)));
        assert_eq!(selector("CUDA 1 · bf16", Some("")), Some(GpuSelector::Index(1)));
        assert_eq!(selector("CUDA 1", Some("3, 2")), Some(GpuSelector::Index(2)));
        assert_eq!(selector("CUDA 0", Some("GPU-8f")), Some(GpuSelector::Uuid("GPU-8f".into())));
        assert_eq!(selector("CUDA 2", Some("0,1")), None);
        assert_eq!(selector("CPU · 2 threads", None), None);
    }

    #[test]
    fn a_run_on_the_cpu_has_no_gpu_and_nothing_fails() {
        assert!(RunGpu::of("CPU · 2 threads").is_none());
        assert!(Peak::watch("Metal").is_none());
        // Whatever this machine has, asking is no error.
        let _ = cards();
    }
}
