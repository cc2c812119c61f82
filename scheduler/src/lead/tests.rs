//! Several schedulers on one registry and one live state, in real time: leases are short instead.

use store::live::Presence;
use store::{LiveState, MemoryLimits, MemoryLiveState, Registry, SqliteRegistry};
use telemetry::{Metrics, Scope, SystemClock};
use tokio::task::JoinHandle;

use super::*;
use crate::core::{NodeState, Snapshot, Standing};
use crate::service::tests::presence;
use crate::{SchedulerConfig, SchedulerContext, SchedulerError, SchedulerMetrics};

const PATIENCE: Duration = Duration::from_secs(20);

struct Rig {
    live: Arc<MemoryLiveState>,
    registry: Arc<dyn Registry>,
    lease: Duration,
    /// Where the registry is: one in memory is gone with its connection, which a scheduler that dies in a
    /// query may take along.
    _home: tempfile::TempDir,
}

struct Running {
    metrics: Arc<Metrics>,
    scope: Scope,
    task: JoinHandle<Result<(), SchedulerError>>,
}

impl Rig {
    async fn with(lease: Duration) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let registry = SqliteRegistry::open(&home.path().join("registry.sqlite")).await;
        let registry = Arc::new(registry.expect("it opens"));
        let live = Arc::new(MemoryLiveState::new(MemoryLimits::default()));
        Self { live, registry, lease, _home: home }
    }

    fn start(&self, holder: &str) -> Running {
        let (metrics, scope) = (Arc::new(Metrics::new()), Scope::new());
        let (leases, holder) = (Arc::clone(&self.registry) as _, holder.to_owned());
        let context = SchedulerContext {
            live: self.live.clone(),
            leadership: Leadership::Elected { leases, holder },
            clock: Arc::new(SystemClock),
            metrics: SchedulerMetrics::new(&metrics),
        };
        let config = SchedulerConfig {
            sweep_every: Duration::from_millis(5),
            leader_lease: self.lease,
            ..SchedulerConfig::default()
        };
        let task = scope.spawn("scheduler", crate::run(config, context, scope.child()));
        Running { metrics, scope, task }
    }

    async fn announce(&self, name: &str) {
        let said =
            Presence { node: name.into(), epoch: 1, value: presence(name, 1).to_bytes().into() };
        let kept = self.live.put_presence(said, PATIENCE, SystemClock.now().into()).await;
        kept.expect("there is room");
    }

    fn routed(&self) -> Vec<(String, Standing)> {
        let routing = self.live.watch_routing();
        let snapshot = Snapshot::from_bytes(&routing.borrow()).expect("valid");
        let nodes = snapshot.nodes.into_iter();
        nodes.map(|node| (node.presence.id.0, node.standing)).collect()
    }

    /// What a leader of this epoch is told that publishes nothing new.
    async fn publishes_as(&self, epoch: u64) -> Result<(), StoreError> {
        let routing = self.live.watch_routing().borrow().clone();
        self.live.publish_routing(epoch, routing).await
    }
}

impl Running {
    fn shows(&self, line: &str) -> bool {
        self.metrics.encode().lines().any(|shown| shown == line)
    }

    async fn leads(&self) {
        until(async || self.shows("firmament_scheduler_leads 1")).await;
    }
}

async fn until(mut check: impl AsyncFnMut() -> bool) {
    let looks = async {
        let mut looks = tokio::time::interval(Duration::from_millis(2));
        while !check().await {
            looks.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, looks).await.expect("it happens in time");
}

#[tokio::test]
async fn one_leads_and_when_it_dies_another_does_within_its_lease_and_a_third() {
    let lease = Duration::from_secs(3);
    let rig = Rig::with(lease).await;
    let first = rig.start("first");
    first.leads().await;
    let second = rig.start("second");
    rig.announce("a").await;
    until(async || rig.routed() == [("a".to_owned(), Standing::Alive)]).await;
    assert!(second.shows("firmament_scheduler_leads 0"));
    first.task.abort(); // it dies without a word
    let died = Instant::now();
    second.leads().await;
    let took = died.elapsed();
    assert!(took < lease + lease / 3, "{took:?}");
    assert!(second.shows("firmament_leader_epoch 2"));
    until(async || rig.publishes_as(1).await.is_err()).await;
    rig.announce("b").await;
    until(async || rig.routed().len() == 2).await;
    assert!(second.scope.shutdown(PATIENCE).await.is_empty());
}

#[tokio::test]
async fn a_leader_that_stops_in_good_order_hands_over_at_once() {
    let rig = Rig::with(PATIENCE * 100).await;
    let first = rig.start("first");
    first.leads().await;
    assert!(first.scope.shutdown(PATIENCE).await.is_empty());
    let now = SystemClock.now().into();
    let epoch = rig.registry.acquire_lease(LEASE, "second", PATIENCE, now).await;
    assert_eq!(epoch.expect("the registry answers"), Some(2));
}

#[tokio::test]
async fn a_leader_whose_registry_is_gone_stops_within_its_lease_and_routing_stays() {
    let lease = Duration::from_secs(3);
    let rig = Rig::with(lease).await;
    let only = rig.start("only");
    only.leads().await;
    rig.announce("a").await;
    until(async || rig.routed().len() == 1).await;
    rig.registry.close().await;
    let gone = Instant::now();
    until(async || only.shows("firmament_scheduler_leads 0")).await;
    let took = gone.elapsed();
    assert!(took < lease, "it may have been another's by then: {took:?}");
    rig.announce("b").await;
    assert_eq!(rig.routed(), [("a".to_owned(), Standing::Alive)]);
    rig.publishes_as(1).await.expect("nobody else led");
    assert!(only.scope.shutdown(PATIENCE).await.is_empty());
}

#[tokio::test]
async fn a_leader_that_is_told_of_a_later_one_leads_no_more() {
    let rig = Rig::with(PATIENCE * 100).await;
    let only = rig.start("only");
    only.leads().await;
    rig.publishes_as(7).await.expect("it is later");
    rig.announce("a").await;
    until(async || only.shows("firmament_scheduler_leads 0")).await;
    assert!(rig.routed().is_empty(), "it published nothing");
    assert!(only.scope.shutdown(PATIENCE).await.is_empty());
}

#[tokio::test]
async fn a_new_leader_does_not_forget_who_fell_silent_meanwhile() {
    let rig = Rig::with(PATIENCE * 100).await;
    let nodes = vec![NodeState::new(presence("gone", 1), Standing::Alive)];
    let before = Snapshot { nodes }.to_bytes().into();
    rig.live.publish_routing(1, before).await.expect("nobody led before");
    rig.announce("here").await;
    let next = rig.start("next");
    let both = [("gone".to_owned(), Standing::Suspect), ("here".to_owned(), Standing::Alive)];
    until(async || rig.routed() == both).await;
    assert!(next.scope.shutdown(PATIENCE).await.is_empty());
}
