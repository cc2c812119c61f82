//! What Linux says of the device's power: battery and heat from the node, the plug from here.
//! Owns: reading whether the device is plugged in. Never: what follows from it.
//! Source: the kernel's `Documentation/ABI/testing/sysfs-class-power`, `status`.

use std::path::Path;

use node::Vitals;

use crate::policy::Power;

const SUPPLIES: &str = "/sys/class/power_supply";

/// Reads the sensors now.
pub(crate) fn read() -> Power {
    let Vitals { battery_ratio, temperature_celsius } = Vitals::read();
    let charging = plugged_in(Path::new(SUPPLIES));
    Power { battery_ratio, charging, temperature_celsius }
}

/// Whether no battery of the machine itself is being emptied.
fn plugged_in(supplies: &Path) -> bool {
    let Ok(supplies) = std::fs::read_dir(supplies) else { return false };
    let word = |folder: &Path, file| std::fs::read_to_string(folder.join(file)).ok();
    let is = |folder: &Path, file, value| word(folder, file).is_some_and(|w| w.trim() == value);
    let folders: Vec<_> = supplies.flatten().map(|supply| supply.path()).collect();
    let own = folders.iter().filter(|s| is(s, "type", "Battery") && !is(s, "scope", "Device"));
    let emptied: Vec<bool> = own.map(|supply| is(supply, "status", "Discharging")).collect();
    !emptied.is_empty() && emptied.iter().all(|emptied| !emptied)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn battery(root: &Path, name: &str, status: &str, scope: &str) {
        let folder = root.join(name);
        std::fs::create_dir_all(&folder).expect("made");
        for (file, text) in [("type", "Battery"), ("status", status), ("scope", scope)] {
            std::fs::write(folder.join(file), format!("{text}\n")).expect("written");
        }
    }

    #[test]
    fn a_device_is_plugged_in_unless_a_battery_of_its_own_is_emptied() {
        let root = tempfile::tempdir().expect("a folder");
        assert!(!plugged_in(root.path()), "no battery, so nothing to plug in");
        battery(root.path(), "mouse", "Discharging", "Device");
        battery(root.path(), "BAT0", "Charging", "System");
        assert!(plugged_in(root.path()));
        battery(root.path(), "BAT1", "Discharging", "System");
        assert!(!plugged_in(root.path()));
    }
}
