//! How much work a device takes on, by its battery and its temperature.
//! Owns: the decision. Never: reading sensors, a clock, telling the gateway.

/// What the device's sensors say; what it does not have is absent and limits nothing.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Power {
    /// Charge of the battery, 0 to 1.
    pub battery_ratio: Option<f32>,
    /// Whether it is plugged in.
    pub charging: bool,
    /// The hottest sensor, degrees Celsius.
    pub temperature_celsius: Option<f32>,
}

/// Work that a device takes on, from most to least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Intake {
    /// Whatever comes.
    #[default]
    All,
    /// Nothing new; what runs may end.
    Nothing,
}

impl Intake {
    /// From most to least.
    pub const LEVELS: [Self; 2] = [Self::All, Self::Nothing];

    /// `all` or `nothing`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Nothing => "nothing",
        }
    }
}

/// Where the lines are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PowerLimits {
    /// Unplugged below this charge: nothing.
    pub battery_empty: f32,
    /// From this temperature on, degrees Celsius: nothing.
    pub hot_celsius: f32,
}

impl Default for PowerLimits {
    fn default() -> Self {
        Self { battery_empty: 0.1, hot_celsius: 95.0 }
    }
}

/// To take on more again a value must be this far on the good side of its line, so that a device at
/// the line does not flap: charge as a ratio, temperature in degrees.
const BATTERY_MARGIN: f32 = 0.02;
const TEMPERATURE_MARGIN: f32 = 5.0;

/// What a device takes on now, given what it took on `before`.
pub fn intake(before: Intake, now: &Power, limits: PowerLimits) -> Intake {
    let allowed = judge(now, limits, 0.0);
    if allowed >= before {
        return allowed;
    }
    judge(now, limits, 1.0).min(before)
}

fn judge(power: &Power, limits: PowerLimits, margin: f32) -> Intake {
    let temperature = power.temperature_celsius.filter(|value| value.is_finite());
    let battery = power.battery_ratio.filter(|value| value.is_finite() && !power.charging);
    let above = |line: f32| temperature.is_some_and(|t| t >= line - margin * TEMPERATURE_MARGIN);
    let below = |line: f32| battery.is_some_and(|b| b < line + margin * BATTERY_MARGIN);
    if above(limits.hot_celsius) || below(limits.battery_empty) {
        Intake::Nothing
    } else {
        Intake::All
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(before: Intake, battery: f32, temperature: f32) -> Intake {
        let now = Power {
            battery_ratio: Some(battery),
            charging: false,
            temperature_celsius: Some(temperature),
        };
        intake(before, &now, PowerLimits::default())
    }

    #[test]
    fn a_machine_without_battery_and_sensors_takes_all() {
        let now = intake(Intake::Nothing, &Power::default(), PowerLimits::default());
        assert_eq!(now, Intake::All);
    }

    #[test]
    fn an_empty_battery_or_a_hot_chip_stops_new_work() {
        assert_eq!(decide(Intake::All, 0.11, 94.0), Intake::All);
        assert_eq!(decide(Intake::All, 0.09, 40.0), Intake::Nothing);
        assert_eq!(decide(Intake::All, 0.5, 95.0), Intake::Nothing);
    }

    #[test]
    fn a_plugged_in_device_works_on_an_empty_battery_but_not_when_hot() {
        let plugged = |temperature| Power {
            battery_ratio: Some(0.01),
            charging: true,
            temperature_celsius: Some(temperature),
        };
        let decide =
            |temperature| intake(Intake::All, &plugged(temperature), PowerLimits::default());
        assert_eq!((decide(40.0), decide(96.0)), (Intake::All, Intake::Nothing));
    }

    #[test]
    fn a_device_at_the_line_does_not_flap() {
        assert_eq!(decide(Intake::Nothing, 0.5, 94.0), Intake::Nothing);
        assert_eq!(decide(Intake::Nothing, 0.5, 89.0), Intake::All);
        assert_eq!(decide(Intake::Nothing, 0.11, 40.0), Intake::Nothing);
        assert_eq!(decide(Intake::Nothing, 0.13, 40.0), Intake::All);
    }

    #[test]
    fn a_sensor_that_says_nonsense_limits_nothing() {
        assert_eq!(decide(Intake::All, f32::NAN, f32::INFINITY), Intake::All);
    }
}
