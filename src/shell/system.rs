//! Facts about this machine: memory and processor.

use sysinfo::{
    CpuRefreshKind, MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, RefreshKind, System,
};

/// Total and available memory in bytes; 0 where unknown.
pub fn memory() -> (u64, u64) {
    let refresh = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    System::new_with_specifics(refresh).map_or((0, 0), |system| (system.total_memory(), system.available_memory()))
}

/// Whether a process is stopped by a signal; false where it is gone.
pub fn is_stopped(pid: u32) -> bool {
    let Ok(mut system) = System::new_with_specifics(RefreshKind::nothing()) else { return false };
    let pid = Pid::from_u32(pid);
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, ProcessRefreshKind::nothing());
    system.process(pid).is_some_and(|process| process.status() == ProcessStatus::Stop)
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

    #[test]
    fn a_stopped_process_is_known_until_it_goes_on() {
        use rustix::process::{Pid, Signal, kill_process};
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_child(&child);
        let mut seen = Vec::new();
        for signal in [Signal::STOP, Signal::CONT] {
            kill_process(pid, signal).unwrap();
            let wanted = signal == Signal::STOP;
            let until = std::time::Instant::now() + std::time::Duration::from_secs(5);
            while is_stopped(child.id()) != wanted && std::time::Instant::now() < until {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            seen.push(is_stopped(child.id()));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(seen, [true, false]);
        assert!(!is_stopped(child.id()));
    }
}
