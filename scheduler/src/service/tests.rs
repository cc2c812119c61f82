use std::collections::BTreeMap;
use std::time::SystemTime;

use protocol::{NodeCapabilities, NodeKind, NodeLoad};
use store::live::Presence;
use store::{MemoryLimits, MemoryLiveState};
use telemetry::{ManualClock, Metrics};
use tokio::sync::watch;

use super::*;
use crate::core::{GatewayPresence, Snapshot, Standing};

struct Rig {
    live: Arc<MemoryLiveState>,
    clock: ManualClock,
    metrics: Arc<Metrics>,
    routing: watch::Receiver<Bytes>,
    scope: Scope,
}

impl Rig {
    fn start() -> Self {
        let live = Arc::new(MemoryLiveState::new(MemoryLimits::default()));
        let clock = ManualClock::at(SystemTime::UNIX_EPOCH);
        let metrics = Arc::new(Metrics::new());
        let routing = live.watch_routing();
        let context = SchedulerContext {
            live: live.clone(),
            leadership: Leadership::Alone,
            clock: Arc::new(clock.clone()),
            metrics: SchedulerMetrics::new(&metrics),
        };
        let scope = Scope::new();
        scope.spawn("scheduler", run(SchedulerConfig::default(), context, scope.child()));
        Self { live, clock, metrics, routing, scope }
    }

    async fn beat(&self, name: &str, beat: u64) {
        let value = Bytes::from(presence(name, beat).to_bytes());
        let said = Presence { node: name.into(), epoch: 1, value };
        let kept = self.live.put_presence(said, Duration::from_secs(30), self.clock.now().into());
        kept.await.expect("there is room");
    }

    /// The next snapshot that differs from the last.
    async fn routed(&mut self) -> Vec<(String, Standing)> {
        self.routing.changed().await.expect("the live state is there");
        let snapshot = Snapshot::from_bytes(&self.routing.borrow_and_update()).expect("valid");
        let nodes = snapshot.nodes.into_iter();
        nodes.map(|node| (node.presence.id.0, node.standing)).collect()
    }
}

pub(crate) fn presence(name: &str, beat: u64) -> NodePresence {
    let capabilities = NodeCapabilities {
        kind: NodeKind::Worker,
        name: name.into(),
        version: "0".into(),
        device: "cpu".into(),
        firmwares: Vec::new(),
        slots: 1,
        adapter_budget_bytes: 0,
        replays: true,
        metrics: None,
    };
    NodePresence {
        id: name.into(),
        tenant: "local".into(),
        epoch: 1,
        beat,
        capabilities,
        load: NodeLoad::default(),
        gateway: GatewayPresence::default(),
        open: BTreeMap::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_is_published_as_suspect_and_then_not_at_all() {
    let mut rig = Rig::start();
    assert!(rig.routed().await.is_empty(), "no node yet");
    rig.beat("a", 1).await;
    assert_eq!(rig.routed().await, [("a".to_owned(), Standing::Alive)]);
    rig.clock.advance(Duration::from_secs(16));
    assert_eq!(rig.routed().await, [("a".to_owned(), Standing::Suspect)]);
    assert!(rig.metrics.encode().contains("firmament_agents{state=\"suspect\"} 1"));
    rig.clock.advance(Duration::from_secs(15));
    assert!(rig.routed().await.is_empty());
    assert!(rig.metrics.encode().contains("firmament_agent_changes_total{change=\"gone\"} 1"));
    assert!(rig.scope.shutdown(Duration::from_secs(5)).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn when_all_of_four_nodes_fall_silent_they_stay_on_the_list_and_the_brake_shows() {
    let mut rig = Rig::start();
    assert!(rig.routed().await.is_empty());
    for name in ["a", "b", "c", "d"] {
        rig.beat(name, 1).await;
    }
    assert_eq!(rig.routed().await.len(), 4);
    rig.clock.advance(Duration::from_secs(31));
    let kept = rig.routed().await;
    assert_eq!(kept.len(), 4);
    assert!(kept.iter().all(|(_, standing)| *standing == Standing::Suspect));
    assert!(rig.metrics.encode().contains("firmament_agents_brake 1"));
}

#[tokio::test]
async fn periods_that_contradict_each_other_are_refused() {
    let config =
        SchedulerConfig { gone_after: Duration::from_secs(1), ..SchedulerConfig::default() };
    assert_eq!(config.limits().expect_err("gone before suspect").code(), "scheduler_config");
}
