//! What this machine is: its memory and its processor.

use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

/// Memory in all and still available, in bytes; 0 where the platform does not say.
pub fn memory() -> (u64, u64) {
    let asked = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    System::new_with_specifics(asked).map_or((0, 0), |system| (system.total_memory(), system.available_memory()))
}

/// The processor's name; its architecture where the platform does not say.
pub fn processor() -> String {
    let asked = RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing());
    let name = System::new_with_specifics(asked).ok().and_then(|s| Some(s.cpus().first()?.brand().trim().to_owned()));
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// Threads that run at once.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Cores, of which each may run several threads.
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
