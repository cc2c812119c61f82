//! What this machine is and how it feels: processor, memory, battery, heat.
//! Source: Linux `Documentation/ABI/testing/sysfs-class-power` and `sysfs-class-thermal`.

use std::path::Path;

/// The machine under a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Threads that run at once.
    pub threads: usize,
    /// Instructions that the kernels can use, best first.
    pub features: Vec<&'static str>,
    /// Memory, where it can be read.
    pub memory_bytes: Option<u64>,
}

/// What a node's load says of its machine.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Vitals {
    /// Charge of the battery, 0 to 1.
    pub battery_ratio: Option<f32>,
    /// The hottest sensor, degrees Celsius.
    pub temperature_celsius: Option<f32>,
}

impl Machine {
    /// Looks at this machine.
    pub fn probe() -> Self {
        let memory = std::fs::read_to_string("/proc/meminfo").ok();
        Self {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            features: features(),
            memory_bytes: memory.and_then(|text| memory_total(&text)),
        }
    }

    /// Such as `cpu (2 threads, avx512-vnni)`.
    pub fn device(&self) -> String {
        let best = self.features.first().map(|best| format!(", {best}")).unwrap_or_default();
        format!("cpu ({} threads{best})", self.threads)
    }
}

impl Vitals {
    /// Reads the sensors now; what cannot be read is absent.
    pub fn read() -> Self {
        Self {
            battery_ratio: battery(Path::new("/sys/class/power_supply")),
            temperature_celsius: hottest(Path::new("/sys/class/thermal")),
        }
    }
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn features() -> Vec<&'static str> {
    let known = [
        ("amx", engine::instruction_set() == "amx"),
        ("avx512-vnni", std::arch::is_x86_feature_detected!("avx512vnni")),
        ("avx512", std::arch::is_x86_feature_detected!("avx512f")),
        ("avx-vnni", std::arch::is_x86_feature_detected!("avxvnni")),
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("f16c", std::arch::is_x86_feature_detected!("f16c")),
    ];
    known.into_iter().filter_map(|(name, here)| here.then_some(name)).collect()
}

#[cfg(target_arch = "aarch64")]
fn features() -> Vec<&'static str> {
    let known = [
        ("i8mm", std::arch::is_aarch64_feature_detected!("i8mm")),
        ("dotprod", std::arch::is_aarch64_feature_detected!("dotprod")),
        ("neon", std::arch::is_aarch64_feature_detected!("neon")),
    ];
    known.into_iter().filter_map(|(name, here)| here.then_some(name)).collect()
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
fn features() -> Vec<&'static str> {
    Vec::new()
}

fn memory_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The charge of the emptiest battery.
fn battery(supplies: &Path) -> Option<f32> {
    let supplies = std::fs::read_dir(supplies).ok()?.filter_map(Result::ok);
    let batteries = supplies.filter(|supply| {
        let is = |file, value| read(&supply.path().join(file)).is_some_and(|text| text == value);
        is("type", "Battery") && !is("scope", "Device") // a mouse has a battery too
    });
    let charges = batteries.filter_map(|battery| {
        let percent: f32 = read(&battery.path().join("capacity"))?.parse().ok()?;
        (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
    });
    charges.min_by(f32::total_cmp)
}

fn hottest(zones: &Path) -> Option<f32> {
    let zones = std::fs::read_dir(zones).ok()?.filter_map(Result::ok);
    let celsius = zones.filter_map(|zone| {
        let millidegrees: f32 = read(&zone.path().join("temp"))?.parse().ok()?;
        let celsius = millidegrees / 1000.0;
        (-50.0..200.0).contains(&celsius).then_some(celsius)
    });
    celsius.max_by(f32::total_cmp)
}

fn read(file: &Path) -> Option<String> {
    Some(std::fs::read_to_string(file).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        std::fs::create_dir_all(path.parent().expect("it has a parent")).expect("it is made");
        std::fs::write(path, text).expect("it is written");
    }

    #[test]
    fn the_emptiest_battery_of_the_machine_itself_counts() {
        let home = tempfile::tempdir().expect("a directory");
        for (supply, kind, capacity) in
            [("BAT0", "Battery", "80\n"), ("BAT1", "Battery", "35\n"), ("AC", "Mains", "1\n")]
        {
            write(home.path(), &format!("{supply}/type"), &format!("{kind}\n"));
            write(home.path(), &format!("{supply}/capacity"), capacity);
        }
        write(home.path(), "mouse/type", "Battery\n");
        write(home.path(), "mouse/scope", "Device\n");
        write(home.path(), "mouse/capacity", "2\n");
        assert_eq!(battery(home.path()), Some(0.35));
    }

    #[test]
    fn the_hottest_plausible_sensor_counts_and_none_is_no_temperature() {
        let home = tempfile::tempdir().expect("a directory");
        assert_eq!(hottest(home.path()), None);
        for (zone, temp) in [("zone0", "41500\n"), ("zone1", "63000\n"), ("zone2", "9999000\n")] {
            write(home.path(), &format!("{zone}/temp"), temp);
        }
        write(home.path(), "zone3/temp", "broken\n");
        assert_eq!(hottest(home.path()), Some(63.0));
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let text = "MemFree: 1 kB\nMemTotal:       24576 kB\n";
        assert_eq!(memory_total(text), Some(24_576 * 1024));
        assert_eq!(memory_total("MemTotal: lots"), None);
    }

    #[test]
    fn a_device_names_its_best_instructions() {
        let machine = Machine { threads: 2, features: vec!["avx2", "fma"], memory_bytes: None };
        assert_eq!(machine.device(), "cpu (2 threads, avx2)");
    }
}
