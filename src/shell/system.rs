//! Facts about this machine: memory and processor.

use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

/// Total and available memory in bytes; 0 where unknown.
pub fn memory() -> (u64, u64) {
    let refresh = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    System::new_with_specifics(refresh).map_or((0, 0), |system| (system.total_memory(), system.available_memory()))
}

/// The processor's name, else its architecture.
pub fn processor() -> String {
    let refresh = RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing());
    let name = System::new_with_specifics(refresh).ok().and_then(|s| Some(s.cpus().first()?.brand().trim().to_owned()));
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// Hardware threads.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Physical cores.
pub fn cores() -> usize {
    System::physical_core_count().unwrap_or_else(|_| threads()).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_memory_and_cores() {
        let (total, available) = memory();
        assert!(total > 1 << 28 && available > 0 && available <= total, "{available} of {total} bytes");
        assert!(cores() >= 1 && threads() >= 1);
        assert!(!processor().is_empty());
    }
}
