//! Why requests move to another node, and what came of it, in numbers.

use prometheus::IntCounterVec;
use protocol::ErrorCode;
use telemetry::Metrics;

/// Why a request that had begun left its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MigrationReason {
    /// The node vanished.
    NodeLost,
    /// The node shuts down.
    Draining,
    /// The node said nothing for too long.
    Stalled,
    /// The node could not go on.
    Failed,
}

impl MigrationReason {
    const ALL: [Self; 4] = [Self::NodeLost, Self::Draining, Self::Stalled, Self::Failed];

    pub(super) const fn of(code: ErrorCode) -> Self {
        match code {
            ErrorCode::NodeLost => Self::NodeLost,
            ErrorCode::Draining => Self::Draining,
            _ => Self::Failed,
        }
    }

    /// The reason as a label and a span show it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NodeLost => "node_lost",
            Self::Draining => "draining",
            Self::Stalled => "stalled",
            Self::Failed => "failed",
        }
    }
}

/// Whether another node went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MigrationResult {
    Moved,
    Lost,
}

impl MigrationResult {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Moved => "moved",
            Self::Lost => "lost",
        }
    }
}

/// Requests that moved.
#[derive(Debug)]
pub struct MigrationMetrics {
    migrations: IntCounterVec,
    quarantined: IntCounterVec,
}

impl MigrationMetrics {
    /// Registers them, at 0.
    pub fn new(metrics: &Metrics) -> Self {
        let this = Self {
            migrations: metrics.counter(
                "migrations_total",
                "Requests that had begun and went on at another node, or could not.",
                &["reason", "result"],
            ),
            quarantined: metrics.counter(
                "quarantined_total",
                "Requests that were given up because two nodes were lost while they ran them.",
                &[],
            ),
        };
        for reason in MigrationReason::ALL {
            for result in [MigrationResult::Moved, MigrationResult::Lost] {
                this.migrations.with_label_values(&[reason.as_str(), result.as_str()]);
            }
        }
        this.quarantined.with_label_values::<&str>(&[]);
        this
    }

    pub(super) fn count(&self, reason: MigrationReason, result: MigrationResult) {
        self.migrations.with_label_values(&[reason.as_str(), result.as_str()]).inc();
    }

    pub(super) fn quarantined(&self) {
        self.quarantined.with_label_values::<&str>(&[]).inc();
    }
}
