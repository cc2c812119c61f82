//! The queue over nodes of so many slots, in the runtime's own time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use http::Method;
use protocol::{NodeKind, Priority};
use scheduler::core::{NodeState, PlaceError, PlaceRequest, Snapshot};
use serde_json::json;
use telemetry::{Metrics, Scope};
use tokio::time::{Instant, advance, sleep, sleep_until};

use super::mock::{MockNodes, Script, hello};
use super::rig::{Rig, bearer, firmware_id, node, request};
use crate::GatewayConfig;
use crate::core::{QueueLimits, Share};
use crate::dispatch::{Lease, LeaseAsk, Placements};
use crate::metrics::AdmissionMetrics;

const ROOMY: QueueLimits = QueueLimits { requests_max: 1024, tokens_max: 1 << 30 };
/// How long the nodes take for each request.
const SERVICE: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(2);

fn placements(limits: QueueLimits, nodes: Vec<NodeState>) -> Arc<Placements> {
    let metrics = Arc::new(AdmissionMetrics::new(&Metrics::new()));
    let placements = Placements::new(limits, metrics);
    route(&placements, nodes);
    placements
}

fn route(placements: &Arc<Placements>, nodes: Vec<NodeState>) {
    placements.update(&Bytes::from(Snapshot { nodes }.to_bytes()), &MockNodes::default());
}

fn worker(slots: u32) -> NodeState {
    let mut worker = node("gpu", NodeKind::Worker);
    worker.presence.capabilities.slots = slots;
    worker
}

fn ask(tenant: &str, priority: Priority) -> LeaseAsk {
    let request = PlaceRequest {
        tenant: tenant.into(),
        firmware: firmware_id(),
        adapters: Vec::new(),
        prompt_tokens: 100,
        wants: None,
        exclude: Vec::new(),
        spread: 0,
        within: None,
    };
    LeaseAsk {
        request,
        share: Share { priority, weight: 1 },
        moves: false,
        tokens: 200,
        wait_until: Instant::now() + PATIENCE,
        deadline: None,
    }
}

/// Asks, and takes its place in the queue before it is waited for.
fn queued(
    placements: &Arc<Placements>,
    ask: LeaseAsk,
) -> BoxFuture<'static, Result<Lease, PlaceError>> {
    let placements = Arc::clone(placements);
    let mut lease = async move { placements.lease(ask).await }.boxed();
    assert!((&mut lease).now_or_never().is_none(), "it waits");
    lease
}

#[tokio::test(start_paused = true)]
async fn a_place_goes_to_the_most_urgent_and_to_nobody_who_left() {
    let placements = placements(ROOMY, vec![worker(1)]);
    let held = placements.lease(ask("a", Priority::Interactive)).await.expect("it is free");
    let batch = queued(&placements, ask("a", Priority::Batch));
    let left = queued(&placements, ask("b", Priority::Interactive));
    let chat = queued(&placements, ask("c", Priority::Interactive));
    drop(left);
    assert_eq!(placements.waiting(), 2, "who leaves, leaves at once");
    drop(held);
    let served = chat.now_or_never().expect("it is its turn").expect("it has a place");
    drop(served);
    assert!(batch.now_or_never().expect("it is its turn").is_ok());
    assert_eq!((placements.waiting(), placements.inflight()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn one_that_no_node_can_take_holds_up_nobody() {
    let placements = placements(ROOMY, vec![worker(1)]);
    let held = placements.lease(ask("a", Priority::Interactive)).await.expect("it is free");
    let mut picky = ask("a", Priority::Interactive);
    picky.request.wants = Some(NodeKind::Device);
    let picky = queued(&placements, picky);
    let easy = queued(&placements, ask("a", Priority::Interactive));
    drop(held);
    assert!(easy.now_or_never().expect("it is its turn").is_ok());
    let mut phone = node("phone", NodeKind::Device);
    phone.presence.tenant = "a".into();
    route(&placements, vec![phone]);
    assert!(picky.now_or_never().expect("its node has come").is_ok());
}

#[tokio::test(start_paused = true)]
async fn where_too_much_waits_the_newest_of_the_least_urgent_is_told_at_once() {
    let limits = QueueLimits { requests_max: 2, ..ROOMY };
    let placements = placements(limits, vec![worker(1)]);
    let held = placements.lease(ask("a", Priority::Interactive)).await.expect("it is free");
    let batch = queued(&placements, ask("a", Priority::Batch));
    let first = queued(&placements, ask("a", Priority::Interactive));
    let second = queued(&placements, ask("b", Priority::Interactive));
    let refused = batch.now_or_never().expect("it gave way");
    assert_eq!(refused.err(), Some(PlaceError::AllBusy));
    let third = placements.lease(ask("b", Priority::Interactive)).now_or_never();
    assert_eq!(third.expect("it is refused at once").err(), Some(PlaceError::AllBusy));
    drop((held, first, second));
    assert_eq!((placements.waiting(), placements.inflight()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn whoever_cannot_meet_its_deadline_any_more_is_told_then_and_not_later() {
    let mut slow = worker(1);
    slow.presence.load.prefill_tokens_per_second = 100.0;
    let placements = placements(ROOMY, vec![slow]);
    let held = placements.lease(ask("a", Priority::Interactive)).await.expect("it is free");
    let began = Instant::now();
    let mut late = ask("a", Priority::Interactive);
    late.deadline = Some(began + Duration::from_millis(1500));
    let refused = placements.lease(late).await;
    assert_eq!(refused.err(), Some(PlaceError::TooSlow));
    assert_eq!(began.elapsed(), Duration::from_millis(500), "its prompt alone takes a second");
    drop(held);
    let refused = placements.lease(ask("a", Priority::Interactive)).await;
    assert!(refused.is_ok(), "others have time");
}

/// What came of one tenant's requests.
#[derive(Debug, Default)]
struct Outcome {
    waits: Vec<Duration>,
    refusals: Vec<Duration>,
    ended: Vec<Instant>,
}

impl Outcome {
    fn p99(times: &[Duration]) -> Duration {
        let mut times = times.to_vec();
        times.sort_unstable();
        times.get(times.len().saturating_sub(1) * 99 / 100).copied().unwrap_or_default()
    }
}

/// Sends requests at a fixed pace, whatever comes of them: an open loop.
async fn offer(
    placements: Arc<Placements>,
    tenant: &str,
    per_second: u32,
    span: Duration,
) -> Outcome {
    let start = Instant::now();
    let pause = Duration::from_secs(1) / per_second;
    let count = (span.as_secs_f64() * f64::from(per_second)) as u32;
    let calls = (0..count).map(|number| {
        let placements = Arc::clone(&placements);
        async move {
            sleep_until(start + pause * number).await;
            let began = Instant::now();
            match placements.lease(ask(tenant, Priority::Interactive)).await {
                Ok(lease) => {
                    let waited = began.elapsed();
                    sleep(SERVICE).await;
                    drop(lease);
                    Ok((waited, Instant::now()))
                }
                Err(_) => Err(began.elapsed()),
            }
        }
    });
    let mut outcome = Outcome::default();
    for answer in join_all(calls).await {
        match answer {
            Ok((waited, ended)) => {
                outcome.waits.push(waited);
                outcome.ended.push(ended);
            }
            Err(after) => outcome.refusals.push(after),
        }
    }
    outcome
}

#[tokio::test(start_paused = true)]
async fn a_quiet_tenant_is_served_beside_one_that_asks_for_ten_times_what_there_is() {
    // 4 slots of 100 ms: 40 requests a second. A tenth of them is the victim's.
    let placements = placements(ROOMY, vec![worker(4)]);
    let span = Duration::from_secs(20);
    let (victim, noisy) = tokio::join!(
        offer(Arc::clone(&placements), "victim", 4, span),
        offer(Arc::clone(&placements), "noisy", 400, span),
    );
    let wait = Outcome::p99(&victim.waits);
    println!(
        "victim: {} served, {} refused, waited p99 {wait:?}; noisy: {} served, {} refused, p99 {:?}",
        victim.waits.len(),
        victim.refusals.len(),
        noisy.waits.len(),
        noisy.refusals.len(),
        Outcome::p99(&noisy.waits),
    );
    assert_eq!((victim.waits.len(), victim.refusals.len()), (80, 0));
    assert!(wait <= SERVICE, "{wait:?}: the next place that came free was not its own");
    assert!(
        noisy.waits.len() > 36 * 19,
        "what the victim leaves is the other's: {}",
        noisy.waits.len()
    );
    assert_eq!((placements.waiting(), placements.inflight()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn five_times_too_much_costs_no_goodput_and_refusals_come_at_once() {
    let placements = placements(ROOMY, vec![worker(4)]);
    let span = Duration::from_secs(30);
    let start = Instant::now();
    let outcome = offer(Arc::clone(&placements), "all", 200, span).await;
    let in_time = outcome.ended.iter().filter(|at| **at <= start + span).count();
    let goodput = in_time as f64 / (span.as_secs_f64() * 40.0);
    let later: Vec<Duration> = outcome.refusals.iter().rev().take(4000).copied().collect();
    let (refused, waited) = (Outcome::p99(&later), Outcome::p99(&outcome.waits));
    println!(
        "goodput {goodput:.3} of capacity, refused after p99 {refused:?} (all {:?}), {} served, \
         waited p99 {waited:?}, {} refused",
        Outcome::p99(&outcome.refusals),
        outcome.waits.len(),
        outcome.refusals.len(),
    );
    assert!(goodput >= 0.95, "{goodput}");
    assert!(refused <= Duration::from_millis(20), "{refused:?}");
    assert!(waited <= PATIENCE, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stopped_scope_leaves_nothing_behind() {
    let placements = placements(ROOMY, vec![worker(1)]);
    let scope = Scope::new();
    let held = placements.lease(ask("a", Priority::Interactive)).await.expect("it is free");
    for _ in 0..10 {
        let (placements, stopped) = (Arc::clone(&placements), scope.clone());
        scope.spawn("caller", async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                lease = placements.lease(ask("a", Priority::Batch)) => drop(lease),
            }
        });
    }
    advance(Duration::from_millis(1)).await;
    assert_eq!(placements.waiting(), 10);
    assert!(scope.shutdown(PATIENCE).await.is_empty());
    assert_eq!(placements.waiting(), 0);
    drop(held);
    assert_eq!(placements.inflight(), 0);
}

/// Chats of one tenant at a fixed pace, over HTTP; returns how long each took that was answered, and each
/// that was not.
async fn chats(rig: &Rig, key: &str, per_second: u32, count: u32) -> [Vec<Duration>; 2] {
    let start = Instant::now();
    let calls = (0..count).map(async |number| {
        sleep_until(start + Duration::from_secs(1) / per_second * number).await;
        let body = json!({"model": "default", "messages": [{"role": "user", "content": "Hi"}]});
        let asked = bearer(request(Method::POST, "/v1/chat/completions", Some(body)), key);
        let began = Instant::now();
        let reply = rig.send(asked).await;
        let good = reply.status == 200;
        assert!(
            good || (reply.error().1 == "overloaded" && !reply.header("retry-after").is_empty())
        );
        (good, began.elapsed())
    });
    let (good, bad): (Vec<_>, Vec<_>) =
        join_all(calls).await.into_iter().partition(|(good, _)| *good);
    [good, bad].map(|part| part.into_iter().map(|(_, took)| took).collect())
}

#[tokio::test]
async fn over_http_a_flood_of_one_tenant_costs_another_no_request() {
    let rig = Rig::with(GatewayConfig::default()).await;
    rig.route(vec![worker(4)]);
    for _ in 0..2000 {
        rig.nodes.script("gpu", Script::After(SERVICE, hello(1)));
    }
    let [quiet, loud] =
        [rig.key("other", &["inference"]).await, rig.key("local", &["inference"]).await];
    let ([served, refused], [flood, shed]) =
        tokio::join!(chats(&rig, &quiet, 4, 16), chats(&rig, &loud, 400, 1600));
    println!(
        "victim: {} served in p99 {:?}, {} refused; noisy: {} served, {} refused after p99 {:?}",
        served.len(),
        Outcome::p99(&served),
        refused.len(),
        flood.len(),
        shed.len(),
        Outcome::p99(&shed),
    );
    assert_eq!((served.len(), refused.len()), (16, 0));
    assert!(Outcome::p99(&served) < PATIENCE, "{served:?}");
    assert!(shed.len() > 1000, "the flood was one: {}", shed.len());
}
