//! What the scheduler measures.

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec};
use telemetry::Metrics;

use crate::core::{Change, Standing, Swept};

/// Registered once a process, passed by `Arc`.
#[derive(Debug, Clone)]
pub struct SchedulerMetrics {
    /// `firmament_agents{state}`: nodes on the list, by standing.
    pub agents: IntGaugeVec,
    /// `firmament_agent_changes_total{change}`: what became of nodes.
    pub changes: IntCounterVec,
    /// `firmament_agents_brake`: 1 while most nodes are silent and none is taken off the list.
    pub brake: IntGauge,
    /// `firmament_scheduler_sweeps_failed_total`: sweeps that the live state did not allow.
    pub sweeps_failed: prometheus::IntCounter,
    /// `firmament_scheduler_leads`: 1 while this scheduler is the one that publishes.
    pub leads: IntGauge,
    /// `firmament_leader_epoch`: the epoch in which this scheduler leads; 0 while it does not.
    pub leader_epoch: IntGauge,
}

impl SchedulerMetrics {
    /// Registers them, each at 0.
    pub fn new(metrics: &Metrics) -> Self {
        let agents = metrics.gauge("agents", "Nodes on the list, by standing.", &["state"]);
        let changes = metrics.counter("agent_changes_total", "Changes of nodes.", &["change"]);
        for state in Standing::ALL {
            agents.with_label_values(&[state.as_str()]).set(0);
        }
        for change in Change::ALL {
            changes.with_label_values(&[change.as_str()]);
        }
        let brake = "1 while most nodes are silent and none is taken off the list.";
        let failed = "Sweeps that the live state did not allow.";
        let leads = "1 while this scheduler is the one that publishes.";
        let epoch = "The epoch in which this scheduler leads, or 0.";
        Self {
            agents,
            changes,
            brake: metrics.gauge("agents_brake", brake, &[]).with_label_values::<&str>(&[]),
            sweeps_failed: metrics
                .counter("scheduler_sweeps_failed_total", failed, &[])
                .with_label_values::<&str>(&[]),
            leads: metrics.gauge("scheduler_leads", leads, &[]).with_label_values::<&str>(&[]),
            leader_epoch: metrics.gauge("leader_epoch", epoch, &[]).with_label_values::<&str>(&[]),
        }
    }

    /// Shows whether this scheduler leads; what another leader knows of nodes is not shown here.
    pub(crate) fn lead(&self, epoch: Option<u64>) {
        self.leads.set(epoch.is_some().into());
        let shown = epoch.map_or(0, |epoch| i64::try_from(epoch).unwrap_or(i64::MAX));
        self.leader_epoch.set(shown);
        if epoch.is_none() {
            for state in Standing::ALL {
                self.agents.with_label_values(&[state.as_str()]).set(0);
            }
            self.brake.set(0);
        }
    }

    pub(crate) fn show(&self, swept: &Swept) {
        for state in Standing::ALL {
            let count = swept.snapshot.nodes.iter().filter(|node| node.standing == state).count();
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.agents.with_label_values(&[state.as_str()]).set(count);
        }
        for (_, change) in &swept.changes {
            self.changes.with_label_values(&[change.as_str()]).inc();
        }
        self.brake.set(swept.braked.into());
    }
}
