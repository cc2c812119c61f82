//! Tenants' own limits, priorities, deadlines, and what they used.

use std::time::Duration;

use http::{HeaderName, Method, Request};
use protocol::{ErrorCode, NodeKind};
use serde_json::{Value, json};
use store::registry::Access as _;

use super::mock::{STARTED, Script, error};
use super::rig::{Reply, Rig, bearer, node, request};

fn chat_request(content: &str, header: Option<(&'static str, &str)>) -> Request<axum::body::Body> {
    let body = json!({"model": "default", "messages": [{"role": "user", "content": content}]});
    let mut request = request(Method::POST, "/v1/chat/completions", Some(body));
    if let Some((name, value)) = header {
        let value = value.parse().expect("a value");
        request.headers_mut().insert(HeaderName::from_static(name), value);
    }
    request
}

async fn chat(rig: &Rig, header: Option<(&'static str, &str)>) -> Reply {
    rig.send(chat_request("Hi", header)).await
}

async fn limit(rig: &Rig, tenant: &str, limits: Value) -> Reply {
    rig.call(Method::PUT, &format!("/v1/tenants/{tenant}/limits"), Some(limits)).await
}

async fn settled(rig: &Rig) {
    while rig.scope.running() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_tenants_own_limits_apply_at_once_and_to_nobody_else() {
    let rig = Rig::start().await;
    let other = rig.key("other", &["inference"]).await;
    let as_other = async || rig.send(bearer(chat_request("Hi", None), &other)).await.status;
    assert_eq!(as_other().await, 200);
    let set = limit(&rig, "other", json!({"requests_per_minute": 2, "weight": 7})).await;
    assert_eq!(set.status, 200, "{}", set.body);
    assert_eq!(set.json()["requests_per_minute"], json!({"limit": 2, "left": 2}));
    assert_eq!(
        (set.json()["weight"].as_u64(), &set.json()["tokens_per_day"]),
        (Some(7), &Value::Null)
    );
    assert_eq!([as_other().await, as_other().await, as_other().await], [200, 200, 429]);
    for _ in 0..3 {
        assert_eq!(chat(&rig, None).await.status, 200, "this is another tenant");
    }
    let own = rig.send(bearer(request(Method::GET, "/v1/limits", None), &other)).await.json();
    assert_eq!((&own["tenant"], &own["requests_per_minute"]["left"]), (&json!("other"), &json!(0)));
    assert_eq!(own["concurrent"], json!({"limit": 1024, "left": 1024}));

    let listed = rig.get("/v1/tenants").await.json();
    let limits: Vec<_> =
        listed["data"].as_array().expect("a list").iter().map(|t| &t["limits"]["weight"]).collect();
    assert_eq!(limits, [&Value::Null, &json!(7)]);
    assert_eq!(limit(&rig, "other", json!({})).await.status, 200);
    rig.clock.advance(Duration::from_secs(1));
    assert_eq!(as_other().await, 200, "back to the server's settings");
}

#[tokio::test]
async fn limits_that_cannot_be_are_refused_by_name_and_so_are_tenants_that_are_not() {
    let rig = Rig::start().await;
    for (wrong, param) in [
        (json!({"weight": 0}), "weight"),
        (json!({"weight": 1001}), "weight"),
        (json!({"concurrent_max": 0}), "concurrent_max"),
        (json!({"tokens_per_minute": -1}), "tokens_per_minute"),
        (json!({"requests_per_minute": 4_294_967_296_u64}), "requests_per_minute"),
        (json!({"tokens_per_day": u64::MAX}), "tokens_per_day"),
        (json!({"priority": "urgent"}), "priority"),
    ] {
        let (status, _, named) = limit(&rig, "other", wrong.clone()).await.error();
        assert_eq!((status, named.as_deref()), (400, Some(param)), "{wrong}");
    }
    assert_eq!(limit(&rig, "other", json!({"wait": 1})).await.error().0, 400);
    assert_eq!(limit(&rig, "nobody", json!({})).await.error().0, 404);
    assert_eq!(rig.get("/v1/tenants/nobody/limits").await.error().0, 404);
}

#[tokio::test]
async fn a_tenant_that_used_up_its_day_is_told_so_and_when_to_return() {
    let rig = Rig::start().await;
    limit(&rig, "local", json!({"tokens_per_day": 400})).await;
    rig.nodes.script("phone", Script::Hang(vec![STARTED]));
    let (first, second) = {
        let mut streaming =
            json!({"model": "default", "messages": [{"role": "user", "content": "Hi"}]});
        streaming["stream"] = true.into();
        let open = rig.open(request(Method::POST, "/v1/chat/completions", Some(streaming))).await;
        (open, chat(&rig, None).await)
    };
    assert_eq!((second.error().0, second.error().1.as_str()), (429, "insufficient_quota"));
    let seconds: u64 = second.header("retry-after").parse().expect("seconds");
    assert!(seconds > 3600, "{seconds}: tokens come back over a day");
    drop(first);
    settled(&rig).await;
    let left = rig.get("/v1/limits").await.json()["tokens_per_day"].clone();
    assert_eq!(left, json!({"limit": 400, "left": 391}), "what was not used came back");
    let metrics = rig.get("/metrics").await.body;
    let line = "firmament_refused_total{priority=\"interactive\",reason=\"daily_tokens\"} 1";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn without_the_registry_the_limits_that_it_told_last_stand() {
    let rig = Rig::start().await;
    let other = "other".into();
    limit(&rig, "other", json!({"weight": 5})).await;
    assert_eq!(rig.app.quotas.of(&rig.app, &other).await.weight, 5);
    rig.app.registry.close().await;
    rig.app.quotas.age(Duration::from_mins(10));
    assert_eq!(rig.app.quotas.of(&rig.app, &other).await.weight, 5);
    assert_eq!(rig.app.quotas.of(&rig.app, &"new".into()).await.weight, 1, "never seen");
}

#[tokio::test]
async fn what_another_gateway_set_is_known_here_after_a_moment() {
    let rig = Rig::start().await;
    let (other, set) =
        ("other".into(), store::registry::TenantLimits { weight: Some(5), ..Default::default() });
    assert_eq!(rig.app.quotas.of(&rig.app, &other).await.weight, 1);
    rig.registry.put_tenant_limits(&other, &set, rig.app.now()).await.expect("it is kept");
    assert_eq!(rig.app.quotas.of(&rig.app, &other).await.weight, 1, "not asked again so soon");
    rig.app.quotas.age(Duration::from_secs(4));
    assert_eq!(rig.app.quotas.of(&rig.app, &other).await.weight, 5);
}

const PRIORITY: &str = "x-firmament-priority";
const DEADLINE: &str = "x-firmament-deadline-ms";

#[tokio::test]
async fn a_caller_says_how_urgent_it_is_within_what_its_tenant_may() {
    let rig = Rig::start().await;
    for priority in ["interactive", "batch", "background"] {
        assert_eq!(chat(&rig, Some((PRIORITY, priority))).await.status, 200, "{priority}");
    }
    let (status, _, param) = chat(&rig, Some((PRIORITY, "urgent"))).await.error();
    assert_eq!((status, param.as_deref()), (400, Some(PRIORITY)));
    limit(&rig, "local", json!({"priority": "batch"})).await;
    assert_eq!(chat(&rig, Some((PRIORITY, "interactive"))).await.error().1, "priority_not_allowed");
    assert_eq!(chat(&rig, Some((PRIORITY, "background"))).await.status, 200);
    assert_eq!(chat(&rig, None).await.status, 200, "it gets what it may");
    let metrics = rig.get("/metrics").await.body;
    for (priority, count) in [("interactive", 1), ("batch", 2), ("background", 2)] {
        let line = format!("firmament_queue_seconds_count{{priority=\"{priority}\"}} {count}");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn a_deadline_goes_along_to_the_node_and_bounds_the_whole_request() {
    let rig = Rig::start().await;
    assert_eq!(chat(&rig, Some((DEADLINE, "5000"))).await.status, 200);
    let sent = rig.nodes.sent.lock().pop().expect("one request").2.deadline;
    assert!(sent <= Duration::from_secs(5) && sent > Duration::from_secs(4), "{sent:?}");

    rig.nodes.script("phone", Script::Hang(vec![STARTED]));
    let began = std::time::Instant::now();
    let reply = chat(&rig, Some((DEADLINE, "200"))).await;
    assert_eq!((reply.error().0, reply.error().1.as_str()), (504, "deadline_exceeded"));
    assert!(began.elapsed() >= Duration::from_millis(200));
    for wrong in ["", "0", "-5", "1.5", "soon", "86400001", "99999999999999999999"] {
        let (status, _, param) = chat(&rig, Some((DEADLINE, wrong))).await.error();
        assert_eq!((status, param.as_deref()), (400, Some(DEADLINE)), "{wrong}");
    }
}

#[tokio::test]
async fn what_cannot_be_done_in_time_goes_to_a_faster_node_or_is_refused_before_it_is_sent() {
    let rig = Rig::start().await;
    // About 1000 tokens: 10 s for a device that has not measured itself, and 1 s for a worker.
    let long = "word ".repeat(800);
    let ask = async |ms: &str| rig.send(chat_request(&long, Some((DEADLINE, ms)))).await;
    let reply = ask("5000").await;
    assert_eq!(reply.header("x-firmament-placement"), "worker/gpu");
    assert_eq!(reply.header("x-firmament-reason"), "device_too_slow");
    let sent = rig.nodes.sent.lock().len();
    let reply = ask("500").await;
    assert_eq!((reply.error().0, reply.error().1.as_str()), (504, "deadline_exceeded"));
    assert_eq!(rig.nodes.sent.lock().len(), sent, "nothing was sent");
}

async fn usage(rig: &Rig, query: &str) -> Vec<Value> {
    rig.app.usage.flush(&rig.app).await;
    let answer = rig.get(&format!("/v1/usage{query}")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["data"].as_array().expect("a list").clone()
}

#[tokio::test]
async fn what_was_used_is_told_by_tenant_and_node_and_refusals_are_too() {
    let rig = Rig::start().await;
    let other = rig.key("other", &["inference", "admin"]).await;
    assert_eq!(chat(&rig, None).await.status, 200);
    let prompts = json!({"model": "default", "prompt": ["a", "b", "c"]});
    let asked = request(Method::POST, "/v1/completions", Some(prompts));
    assert_eq!(rig.send(bearer(asked, &other)).await.status, 200);
    limit(&rig, "other", json!({"tokens_per_minute": 1})).await;
    for _ in 0..2 {
        rig.send(bearer(chat_request("Hi", None), &other)).await;
    }
    let sums = usage(&rig, "?by=tenant").await;
    let counts = |sum: &Value| {
        ["requests", "refused", "prompt_tokens", "cached_tokens", "completion_tokens"]
            .map(|name| sum[name].as_u64().expect("a count"))
    };
    assert_eq!((&sums[0]["tenant"], counts(&sums[0])), (&json!("local"), [1, 0, 9, 4, 2]));
    // Three prompts are one request; of the two that follow, at least the second is refused.
    let [requests, refused, prompt, ..] = counts(&sums[1]);
    assert!(refused >= 1 && requests + refused == 3, "{sums:?}");
    assert_eq!(prompt, 27 + 9 * (requests - 1));

    let nodes = usage(&rig, "?by=node,hour,adapter&tenant=local").await;
    assert_eq!((nodes.len(), &nodes[0]["node"]), (1, &json!("phone")));
    assert_eq!((&nodes[0]["adapter"], &nodes[0]["tenant"]), (&json!(""), &Value::Null));
    let hour = nodes[0]["hour"].as_i64().expect("a time");
    assert_eq!((hour % 3600, hour <= rig.app.now().unix_timestamp()), (0, true));

    let own =
        |query: &str| bearer(request(Method::GET, &format!("/v1/usage{query}"), None), &other);
    let seen = rig.send(own("?by=tenant")).await.json();
    assert_eq!(seen["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(seen["data"][0]["tenant"], "other");
    assert_eq!(rig.send(own("?tenant=local")).await.error().1, "operator_only");
    let before = format!("?to={}", rig.app.now().unix_timestamp() - 7200);
    assert!(usage(&rig, &before).await.is_empty());
    for wrong in ["?by=colour", "?from=5&to=5", "?from=x", "?limit=5", "?to=999999999999999"] {
        assert_eq!(rig.get(&format!("/v1/usage{wrong}")).await.error().0, 400, "{wrong}");
    }
}

#[tokio::test]
async fn what_no_node_took_is_a_refusal_and_what_no_node_did_is_nothing() {
    let rig = Rig::start().await;
    rig.nodes.script("phone", Script::Refuse(error(ErrorCode::ContextLengthExceeded)));
    assert_eq!(chat(&rig, None).await.status, 400);
    assert!(usage(&rig, "").await.is_empty());
    let mut full = node("phone", NodeKind::Device);
    full.presence.capabilities.slots = 0;
    rig.route(vec![full]);
    assert_eq!(chat(&rig, None).await.status, 503);
    let sums = usage(&rig, "").await;
    assert_eq!((&sums[0]["requests"], &sums[0]["refused"]), (&json!(0), &json!(1)));
}

#[tokio::test]
async fn what_the_registry_did_not_take_is_kept() {
    let rig = Rig::start().await;
    assert_eq!(chat(&rig, None).await.status, 200);
    rig.app.registry.close().await;
    rig.app.usage.flush(&rig.app).await;
    assert_eq!(rig.app.usage.waiting(), 1);
}
