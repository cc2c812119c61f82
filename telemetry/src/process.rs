//! The process's own use of the machine, under the names that every Prometheus client uses.
//! Source: Prometheus "Writing client libraries", process metrics. Linux only; absent elsewhere.

use prometheus::{Counter, IntGauge, Registry};

/// `/proc/<pid>/stat` counts in USER_HZ, which the Linux ABI fixes at 100 on every port we build for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Memory, file descriptors and CPU time; refreshed when the metrics are read.
#[derive(Debug)]
pub(crate) struct ProcessMetrics {
    resident_bytes: IntGauge,
    open_fds: IntGauge,
    cpu_seconds: Counter,
}

impl ProcessMetrics {
    pub(crate) fn register(registry: &Registry) -> Self {
        let gauge = |name, help| {
            let gauge = IntGauge::new(name, help).expect("the name is valid");
            registry.register(Box::new(gauge.clone())).expect("the registry is new");
            gauge
        };
        let cpu_seconds = Counter::new("process_cpu_seconds_total", "User and system CPU time.")
            .expect("the name is valid");
        registry.register(Box::new(cpu_seconds.clone())).expect("the registry is new");
        Self {
            resident_bytes: gauge("process_resident_memory_bytes", "Resident memory."),
            open_fds: gauge("process_open_fds", "Open file descriptors."),
            cpu_seconds,
        }
    }

    /// Reads `/proc/self`; what cannot be read keeps its last value.
    pub(crate) fn refresh(&self) {
        let read = |path| std::fs::read_to_string(path).ok();
        if let Some(bytes) = read("/proc/self/status").and_then(|text| resident_bytes(&text)) {
            self.resident_bytes.set(bytes);
        }
        if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
            self.open_fds.set(i64::try_from(entries.count()).unwrap_or(i64::MAX));
        }
        if let Some(seconds) = read("/proc/self/stat").and_then(|text| cpu_seconds(&text)) {
            self.cpu_seconds.inc_by((seconds - self.cpu_seconds.get()).max(0.0));
        }
    }
}

fn resident_bytes(status: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Fields 14 and 15 (user and system ticks). Field 2, the command, may hold spaces and brackets.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_command) = stat.rsplit_once(')')?;
    let mut ticks = after_command.split_whitespace().skip(11);
    let (user, system) = (ticks.next()?, ticks.next()?);
    Some((user.parse::<f64>().ok()? + system.parse::<f64>().ok()?) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 5 6 7";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("7 (short) S 1"), None);
    }

    #[test]
    fn resident_memory_is_read_in_bytes() {
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2048 * 1024));
        assert_eq!(resident_bytes("Name:\tx\n"), None);
    }
}
