//! What a device measures besides what every node does.

use prometheus::IntGaugeVec;
use telemetry::Metrics;

use crate::policy::Intake;

/// Registered once a process.
#[derive(Debug, Clone)]
pub struct DeviceMetrics {
    /// `firmament_device_intake{intake}`: 1 at what the device takes on now, 0 at the others.
    pub intake: IntGaugeVec,
}

impl DeviceMetrics {
    /// Registers them; a device starts by taking on all.
    pub fn new(metrics: &Metrics) -> Self {
        let help = "1 at the work that the device takes on now.";
        let this = Self { intake: metrics.gauge("device_intake", help, &["intake"]) };
        this.show(Intake::All);
        this
    }

    pub(crate) fn show(&self, now: Intake) {
        for intake in Intake::LEVELS {
            self.intake.with_label_values(&[intake.as_str()]).set((intake == now).into());
        }
    }
}
