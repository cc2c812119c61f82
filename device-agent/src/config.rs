//! What the device's owner may set.

use std::time::Duration;

use humantime::parse_duration;

use crate::policy::PowerLimits;

/// Device settings. A flag wins over its `FIRMAMENT_*` variable, which wins over the default.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct DeviceAgentConfig {
    /// A name for people.
    #[arg(
        id = "device_name",
        long = "device-name",
        env = "FIRMAMENT_DEVICE_NAME",
        default_value = "device"
    )]
    pub name: String,
    /// Requests that run at once on the device; more go to a worker.
    #[arg(id = "device_slots", long = "device-slots", env = "FIRMAMENT_DEVICE_SLOTS", default_value_t = 4,
          value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub slots: u32,
    /// Unplugged below this charge (0 to 1) the device takes no new work.
    #[arg(long, env = "FIRMAMENT_BATTERY_EMPTY", default_value_t = 0.1)]
    pub battery_empty: f32,
    /// From this temperature on (degrees Celsius) it takes no new work.
    #[arg(long, env = "FIRMAMENT_HOT_CELSIUS", default_value_t = 95.0)]
    pub hot_celsius: f32,
    /// How often charge and heat are looked at.
    #[arg(long, env = "FIRMAMENT_SENSE_EVERY", default_value = "5s", value_parser = parse_duration)]
    pub sense_every: Duration,
}

impl Default for DeviceAgentConfig {
    fn default() -> Self {
        let limits = PowerLimits::default();
        Self {
            name: "device".to_owned(),
            slots: 4,
            battery_empty: limits.battery_empty,
            hot_celsius: limits.hot_celsius,
            sense_every: Duration::from_secs(5),
        }
    }
}

impl DeviceAgentConfig {
    pub(crate) fn limits(&self) -> PowerLimits {
        PowerLimits { battery_empty: self.battery_empty, hot_celsius: self.hot_celsius }
    }
}
