//! The process's own use of the machine, under the names that every Prometheus client uses.
//! Source: Prometheus "Writing client libraries", process metrics. Linux only; absent elsewhere.

use std::time::SystemTime;

use prometheus::{Counter, Gauge, IntGauge, Registry};

/// `/proc/<pid>/stat` counts in USER_HZ, which the Linux ABI fixes at 100 on every port we build for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Memory, file descriptors and CPU time; refreshed when the metrics are read.
#[derive(Debug)]
pub(crate) struct ProcessMetrics {
    resident_bytes: IntGauge,
    open_fds: IntGauge,
    max_fds: IntGauge,
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
        let start = "Start time of the process since the Unix epoch, in seconds.";
        let start_seconds =
            Gauge::new("process_start_time_seconds", start).expect("the name is valid");
        registry.register(Box::new(start_seconds.clone())).expect("the registry is new");
        start_seconds.set(started(SystemTime::now()).unwrap_or_default());
        Self {
            resident_bytes: gauge("process_resident_memory_bytes", "Resident memory."),
            open_fds: gauge("process_open_fds", "Open file descriptors."),
            max_fds: gauge("process_max_fds", "File descriptors that may be open."),
            cpu_seconds,
        }
    }

    /// Reads `/proc/self`; what cannot be read keeps its last value.
    pub(crate) fn refresh(&self) {
        let read = |path| std::fs::read_to_string(path).ok();
        if let Some(bytes) = read("/proc/self/status").and_then(|text| resident_bytes(&text)) {
            self.resident_bytes.set(bytes);
        }
        if let Some(most) = read("/proc/self/limits").and_then(|text| max_fds(&text)) {
            self.max_fds.set(most);
        }
        if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
            self.open_fds.set(i64::try_from(entries.count()).unwrap_or(i64::MAX));
        }
        if let Some(seconds) = read("/proc/self/stat").and_then(|text| cpu_seconds(&text)) {
            self.cpu_seconds.inc_by((seconds - self.cpu_seconds.get()).max(0.0));
        }
    }
}

/// Seconds since 1970 at which this process began: its age in ticks since the boot, taken from now.
fn started(now: SystemTime) -> Option<f64> {
    let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let ticks: f64 = field(&stat, 22)?.parse().ok()?;
    let now = now.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs_f64();
    Some(now - (uptime - ticks / TICKS_PER_SECOND).max(0.0))
}

fn max_fds(limits: &str) -> Option<i64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn resident_bytes(status: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// User and system time.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let ticks = |number| field(stat, number)?.parse::<f64>().ok();
    Some((ticks(14)? + ticks(15)?) / TICKS_PER_SECOND)
}

/// A field of `/proc/<pid>/stat` by its number from 1, above 2: field 2, the command, may hold spaces
/// and brackets.
fn field(stat: &str, number: usize) -> Option<&str> {
    let (_, after_command) = stat.rsplit_once(')')?;
    after_command.split_whitespace().nth(number - 3)
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

    #[cfg(target_os = "linux")]
    #[test]
    fn the_start_is_before_now_and_after_the_boot() {
        let now = SystemTime::now();
        let started = started(now).expect("Linux says so");
        let age =
            now.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs_f64() - started;
        assert!((-1.0..3600.0).contains(&age), "{age} s old");
    }

    #[test]
    fn the_limit_of_open_files_is_the_soft_one() {
        let limits =
            "Limit   Soft Limit  Hard Limit  Units\nMax open files   1024   4096   files\n";
        assert_eq!(max_fds(limits), Some(1024));
        assert_eq!(max_fds("Max open files unlimited unlimited files"), None);
    }

    #[test]
    fn resident_memory_is_read_in_bytes() {
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2048 * 1024));
        assert_eq!(resident_bytes("Name:\tx\n"), None);
    }
}
