//! The process, by the names that Prometheus' client libraries have agreed on. What the kernel does not tell is
//! left out.

use cidery_registry::ops::Reading;
use std::fs;

/// Linux counts processor time in hundredths of a second for whoever reads `/proc`, on every architecture.
const TICKS: f64 = 100.0;

/// Memory, processor time, file descriptors.
pub fn readings() -> Vec<Reading> {
    let mut all = Vec::new();
    if let Some(resident) = resident() {
        all.push(Reading::gauge("process_resident_memory_bytes", "Bytes of memory", resident));
    }
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    if let Some(ticks) = processor(&stat) {
        let (name, help) = ("process_cpu_seconds", "Seconds of processor time");
        all.push(Reading::counter(name, help, 0).value(ticks as f64 / TICKS));
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        all.push(Reading::gauge("process_open_fds", "File descriptors", files.count() as u64));
    }
    all
}

/// Bytes of the process that are in memory.
pub fn resident() -> Option<u64> {
    resident_in(&fs::read_to_string("/proc/self/status").ok()?)
}

fn resident_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// In user and system mode.
fn processor(stat: &str) -> Option<u64> {
    // The name in front may contain anything, spaces and parentheses too.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    user.checked_add(system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_understood() {
        assert_eq!(resident_in("Name:\tx\nVmRSS:\t   12 kB\n"), Some(12 << 10));
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 150 25 0 0 20 0 1 0 99";
        assert_eq!(processor(stat), Some(175));
        assert_eq!((resident_in(""), processor("")), (None, None));
        let names: Vec<_> = readings().iter().map(|reading| reading.name).collect();
        assert_eq!(names, ["process_resident_memory_bytes", "process_cpu_seconds", "process_open_fds"]);
    }
}
