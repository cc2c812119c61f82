//! Jobs, files and batches through the router, done by the runner, answered by mock nodes.

use std::time::{Duration, Instant};

use axum::body::Body;
use http::{Method, Request, header};
use protocol::ErrorCode;
use serde_json::{Value, json};
use store::registry::{JobState, Jobs as _, PageRequest};

use super::mock::{Script, error};
use super::rig::{Reply, Rig, bearer, request};
use crate::jobs;

const BOUNDARY: &str = "line";
const PATIENCE: Duration = Duration::from_secs(20);

fn upload(purpose: &str, name: &str, content: &str) -> Request<Body> {
    let disposition = "content-disposition: form-data; name=";
    let body = format!(
        "--{BOUNDARY}\r\n{disposition}\"purpose\"\r\n\r\n{purpose}\r\n\
         --{BOUNDARY}\r\n{disposition}\"file\"; filename=\"{name}\"\r\n\r\n{content}\r\n--{BOUNDARY}--\r\n"
    );
    let mut request = request(Method::POST, "/v1/files", None);
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    request.headers_mut().insert(header::CONTENT_TYPE, kind.parse().expect("a value"));
    *request.body_mut() = Body::from(body);
    request
}

fn keyed(mut request: Request<Body>, key: &str) -> Request<Body> {
    request.headers_mut().insert("idempotency-key", key.parse().expect("a value"));
    request
}

async fn file(rig: &Rig, purpose: &str, content: &str) -> String {
    let reply = rig.send(upload(purpose, "lines.jsonl", content)).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply.json()["id"].as_str().expect("an id").to_owned()
}

fn chat_line(id: &str) -> String {
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let body = json!({"model": "tiny", "messages": messages});
    line(id, "/v1/chat/completions", &body)
}

fn line(id: &str, url: &str, body: &Value) -> String {
    json!({"custom_id": id, "method": "POST", "url": url, "body": body}).to_string()
}

fn chats(count: usize) -> String {
    (0..count).map(|number| chat_line(&format!("c{number}")) + "\n").collect()
}

fn bulk(input: &str) -> Value {
    json!({"kind": "bulk", "input_file_id": input})
}

async fn create(rig: &Rig, spec: Value) -> Value {
    let reply = rig.post("/v1/jobs", spec).await;
    assert_eq!(reply.status, 202, "{}", reply.body);
    assert!(reply.header("location").ends_with(reply.json()["id"].as_str().expect("an id")));
    reply.json()
}

/// Runs the rig's own runner.
fn run(rig: &Rig) {
    let (app, scope) = (rig.app.clone(), rig.scope.clone());
    rig.scope.spawn("jobs", jobs::keep_running(app, scope));
}

async fn over(rig: &Rig, id: &str) -> Value {
    let began = Instant::now();
    loop {
        let reply = rig.get(&format!("/v1/jobs/{id}")).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        let job = reply.json();
        if !["queued", "running"].contains(&job["state"].as_str().expect("a state")) {
            return job;
        }
        assert!(began.elapsed() < PATIENCE, "{job}");
        tokio::time::sleep(Duration::from_millis(2)).await; // the database has one writer
    }
}

async fn done(rig: &Rig, spec: Value) -> Value {
    let id = create(rig, spec).await["id"].as_str().expect("an id").to_owned();
    over(rig, &id).await
}

async fn lines(rig: &Rig, id: &Value) -> Vec<Value> {
    let id = id.as_str().expect("a file's id");
    let content = rig.get(&format!("/v1/files/{id}/content")).await;
    assert_eq!(content.status, 200, "{}", content.body);
    content.body.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test]
async fn each_line_is_answered_once_and_in_its_order() {
    let rig = Rig::start().await;
    run(&rig);
    let more = [
        line("t", "/v1/completions", &json!({"model": "tiny", "prompt": "Hi"})),
        line("e", "/v1/embeddings", &json!({"model": "tiny", "input": "Hi"})),
        line("nobody", "/v1/completions", &json!({"model": "nobody", "prompt": "Hi"})),
    ];
    let input = file(&rig, "batch", &(chats(5) + &more.join("\n"))).await;
    let mut spec = bulk(&input);
    spec["lines_per_step"] = json!(3);
    let job = done(&rig, spec).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    assert_eq!((&job["result"]["completed"], &job["result"]["failed"]), (&json!(7), &json!(1)));
    let answers = lines(&rig, &job["result"]["output_file_id"]).await;
    let ids: Vec<_> =
        answers.iter().map(|answer| answer["custom_id"].as_str().unwrap_or("")).collect();
    assert_eq!(ids, ["c0", "c1", "c2", "c3", "c4", "t", "e"]);
    let first = &answers[0]["response"];
    assert_eq!((&first["status_code"], &answers[0]["error"]), (&json!(200), &Value::Null));
    assert_eq!(first["body"]["choices"][0]["message"]["content"], "Hello there");
    let failures = lines(&rig, &job["result"]["error_file_id"]).await;
    assert_eq!((failures.len(), &failures[0]["response"]["status_code"]), (1, &json!(404)));
    assert_eq!(failures[0]["response"]["body"]["error"]["code"], "model_not_found");
    // The steps' own blobs go once the job is over: input, output and errors are left.
    let began = Instant::now();
    while rig.blobs_now() != 3 {
        assert!(began.elapsed() < PATIENCE, "{} blobs", rig.blobs_now());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let metrics = rig.get("/metrics").await.body;
    assert!(metrics.contains("firmament_job_attempts_total 1"), "{metrics}");
}

#[tokio::test]
async fn a_faulty_line_fails_the_job_by_its_number_before_anything_is_sent() {
    let rig = Rig::start().await;
    run(&rig);
    let twice = format!("{}\n\n{}\n", chat_line("a"), chat_line("a"));
    let streamed =
        line("s", "/v1/completions", &json!({"model": "m", "prompt": "x", "stream": true}));
    for (content, number, word) in [
        (chats(2) + "{", 3, "EOF"),
        (twice, 3, "custom_id"),
        (line("x", "/v1/audio", &json!({})), 1, "/v1/audio"),
        (line("x", "/v1/completions", &json!({"model": "m"})), 1, "prompt"),
        (streamed, 1, "streamed"),
    ] {
        let job = done(&rig, bulk(&file(&rig, "batch", &content).await)).await;
        assert_eq!(job["state"], "failed", "{content}");
        let message = job["error"]["message"].as_str().expect("a message");
        assert!(message.starts_with(&format!("line {number}: ")), "{message}");
        assert!(message.contains(word), "{message}");
        assert_eq!(job["error"]["errors"][0]["line"], number);
    }
    assert!(rig.nodes.works().is_empty());
    let empty = done(&rig, bulk(&file(&rig, "batch", "\n").await)).await;
    assert_eq!(empty["error"]["code"], "empty_file");
}

#[tokio::test]
async fn a_job_goes_on_from_its_checkpoint_with_another_holder() {
    let rig = Rig::start().await;
    let input = file(&rig, "batch", &chats(6)).await;
    let mut spec = bulk(&input);
    spec["lines_per_step"] = json!(1);
    spec["lines_at_once"] = json!(1);
    let id = create(&rig, spec).await["id"].as_str().expect("an id").to_owned();
    // The third line is never answered: its holder is shut down.
    for node in ["phone", "gpu"] {
        rig.nodes.script(node, Script::Events(super::mock::hello(1)));
    }
    let first = rig.scope.child();
    let runner = jobs::keep_running(rig.app.clone(), first.clone());
    rig.nodes.script("phone", Script::Events(super::mock::hello(1)));
    rig.nodes.script("phone", Script::Hang(Vec::new()));
    rig.scope.spawn("jobs", runner);
    let began = Instant::now();
    let done = async || rig.get(&format!("/v1/jobs/{id}")).await.json()["progress"]["done"].clone();
    while done().await != 2 || rig.nodes.works().len() < 3 {
        assert!(began.elapsed() < PATIENCE);
        tokio::task::yield_now().await;
    }
    first.shutdown(PATIENCE).await;
    let given_back = rig.get(&format!("/v1/jobs/{id}")).await.json();
    assert_eq!((&given_back["state"], &given_back["attempt"]), (&json!("queued"), &json!(0)));
    let sent = rig.nodes.works().len();
    run(&rig);
    let job = over(&rig, &id).await;
    assert_eq!(job["result"]["completed"], 6, "{job}");
    assert_eq!(rig.nodes.works().len() - sent, 4, "what was recorded is not sent again");
    let effects = rig.registry.effects(&id.as_str().into(), &PageRequest::longest()).await;
    assert_eq!(effects.expect("they are there").items.len(), 6);
    assert_eq!(lines(&rig, &job["result"]["output_file_id"]).await.len(), 6);
}

#[tokio::test]
async fn a_line_waits_for_a_node_and_one_that_breaks_nodes_is_given_up() {
    let rig = Rig::start().await;
    let busy = || error(ErrorCode::Busy);
    for node in ["phone", "gpu"] {
        rig.nodes.script(node, Script::Refuse(busy()));
        rig.nodes.script(node, Script::Refuse(busy()));
    }
    run(&rig);
    let job = done(&rig, bulk(&file(&rig, "batch", &chats(1)).await)).await;
    assert_eq!((&job["state"], &job["result"]["completed"]), (&json!("succeeded"), &json!(1)));
    for _ in 0..6 {
        for node in ["phone", "gpu"] {
            rig.nodes.script(node, Script::Refuse(error(ErrorCode::NodeLost)));
        }
    }
    let job = done(&rig, bulk(&file(&rig, "batch", &chats(1)).await)).await;
    assert_eq!((&job["state"], &job["result"]["failed"]), (&json!("succeeded"), &json!(1)));
}

#[tokio::test]
async fn a_job_that_is_called_off_keeps_the_answers_that_it_has() {
    let rig = Rig::start().await;
    let input = file(&rig, "batch", &chats(4)).await;
    let mut spec = bulk(&input);
    spec["lines_per_step"] = json!(1);
    spec["lines_at_once"] = json!(1);
    let waiting = create(&rig, spec.clone()).await["id"].as_str().expect("an id").to_owned();
    let cancelled = rig.post(&format!("/v1/jobs/{waiting}/cancel"), json!({})).await.json();
    assert_eq!(cancelled["state"], "cancelled", "one that waits is over at once");

    rig.nodes.script("phone", Script::Events(super::mock::hello(1)));
    rig.nodes.script("phone", Script::Hang(Vec::new()));
    let id = create(&rig, spec).await["id"].as_str().expect("an id").to_owned();
    run(&rig);
    let began = Instant::now();
    while rig.nodes.works().len() < 2 {
        assert!(began.elapsed() < PATIENCE);
        tokio::task::yield_now().await;
    }
    rig.post(&format!("/v1/jobs/{id}/cancel"), json!({})).await;
    let job = over(&rig, &id).await;
    assert_eq!((&job["state"], &job["result"]["completed"]), (&json!("cancelled"), &json!(1)));
    assert_eq!(lines(&rig, &job["result"]["output_file_id"]).await.len(), 1);
    let events = rig.get(&format!("/v1/jobs/{id}/events")).await;
    let kinds: Vec<Value> = events.events().iter().map(|event| event["kind"].clone()).collect();
    assert_eq!(kinds, ["queued", "running", "progress", "cancelling", "cancelled"]);
}

#[tokio::test]
async fn events_resume_after_the_last_one_that_the_caller_has() {
    let rig = Rig::start().await;
    run(&rig);
    let job = done(&rig, bulk(&file(&rig, "batch", &chats(1)).await)).await;
    let path = format!("/v1/jobs/{}/events", job["id"].as_str().expect("an id"));
    let all = rig.get(&path).await;
    assert!(all.body.contains("id: 1\n") && all.body.contains("event: queued\n"), "{}", all.body);
    assert_eq!(all.events().len(), 4);
    let mut resumed = request(Method::GET, &path, None);
    resumed.headers_mut().insert("last-event-id", "3".parse().expect("a value"));
    assert_eq!(rig.send(resumed).await.events().len(), 1);
    let mut wrong = request(Method::GET, &path, None);
    wrong.headers_mut().insert("last-event-id", "x".parse().expect("a value"));
    assert_eq!(rig.send(wrong).await.error().0, 400);
}

#[tokio::test]
async fn what_belongs_to_another_tenant_is_not_there() {
    let rig = Rig::start().await;
    let key = rig.key("other", &["inference"]).await;
    let input = file(&rig, "batch", &chats(1)).await;
    let job = create(&rig, bulk(&input)).await;
    let batch = json!({
        "input_file_id": input, "endpoint": "/v1/chat/completions", "completion_window": "24h"
    });
    let batch = rig.post("/v1/batches", batch).await.json();
    let (job, batch) = (job["id"].as_str().expect("an id"), batch["id"].as_str().expect("an id"));
    for (method, path) in [
        (Method::GET, format!("/v1/jobs/{job}")),
        (Method::GET, format!("/v1/jobs/{job}/events")),
        (Method::POST, format!("/v1/jobs/{job}/cancel")),
        (Method::POST, format!("/v1/jobs/{job}/retry")),
        (Method::GET, format!("/v1/batches/{batch}")),
        (Method::POST, format!("/v1/batches/{batch}/cancel")),
        (Method::GET, format!("/v1/files/{input}")),
        (Method::GET, format!("/v1/files/{input}/content")),
        (Method::DELETE, format!("/v1/files/{input}")),
    ] {
        let reply = rig.send(bearer(request(method, &path, None), &key)).await;
        assert_eq!(reply.error().0, 404, "{path}");
    }
    for path in ["/v1/jobs", "/v1/batches", "/v1/files"] {
        let listed = rig.send(bearer(request(Method::GET, path, None), &key)).await.json();
        assert_eq!(listed["data"], json!([]), "{path}");
    }
    let stolen =
        rig.send(bearer(request(Method::POST, "/v1/jobs", Some(bulk(&input))), &key)).await;
    assert_eq!(stolen.error(), (400, "invalid_request".into(), Some("input_file_id".into())));
}

#[tokio::test]
async fn the_same_key_is_the_same_job_file_and_batch_and_never_another() {
    let rig = Rig::start().await;
    let one = rig.send(keyed(upload("batch", "a", "{}"), "f")).await.json();
    let again = rig.send(keyed(upload("batch", "a", "{}"), "\"f\"")).await.json();
    assert_eq!(one, again, "with and without quotes");
    let other = rig.send(keyed(upload("batch", "a", "[]"), "f")).await;
    assert_eq!(other.error(), (422, "idempotency_key_reused".into(), None));
    let input = one["id"].as_str().expect("an id");

    let post = |path: &str, body: Value| keyed(request(Method::POST, path, Some(body)), "k");
    let job: Reply = rig.send(post("/v1/jobs", bulk(input))).await;
    let again = rig.send(post("/v1/jobs", bulk(input))).await;
    assert_eq!((job.status, job.json()), (again.status, again.json()));
    let mut more = bulk(input);
    more["lines_per_step"] = json!(7);
    assert_eq!(rig.send(post("/v1/jobs", more)).await.error().0, 422);
    let batch = json!({
        "input_file_id": input, "endpoint": "/v1/completions", "completion_window": "24h"
    });
    assert_eq!(rig.send(post("/v1/batches", batch)).await.error().0, 422, "one key, one request");
    assert_eq!(rig.get("/v1/jobs").await.json()["data"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_batch_has_openais_shape_at_each_step() {
    let rig = Rig::start().await;
    let input = file(&rig, "batch", &chats(2)).await;
    let body = json!({
        "input_file_id": input, "endpoint": "/v1/chat/completions", "completion_window": "24h",
        "metadata": {"for": "test"}
    });
    let batch = rig.post("/v1/batches", body.clone()).await.json();
    assert_eq!((&batch["status"], &batch["object"]), (&json!("validating"), &json!("batch")));
    assert_eq!(batch["metadata"]["for"], "test");
    run(&rig);
    over(&rig, batch["job_id"].as_str().expect("an id")).await;
    let path = format!("/v1/batches/{}", batch["id"].as_str().expect("an id"));
    let batch = rig.get(&path).await.json();
    assert_eq!(batch["status"], "completed", "{batch}");
    assert_eq!(batch["request_counts"], json!({"total": 2, "completed": 2, "failed": 0}));
    assert!(batch["completed_at"].is_i64() && batch["error_file_id"].is_null());
    assert_eq!(lines(&rig, &batch["output_file_id"]).await.len(), 2);
    let outputs = rig.get("/v1/files?purpose=batch_output").await.json();
    assert_eq!(outputs["data"][0]["id"], batch["output_file_id"]);

    let mut wrong_route = body.clone();
    wrong_route["endpoint"] = json!("/v1/embeddings");
    let failed = rig.post("/v1/batches", wrong_route).await.json();
    over(&rig, failed["job_id"].as_str().expect("an id")).await;
    let path = format!("/v1/batches/{}", failed["id"].as_str().expect("an id"));
    let failed = rig.get(&path).await.json();
    assert_eq!(
        (&failed["status"], &failed["errors"]["data"][0]["line"]),
        (&json!("failed"), &json!(1))
    );
    for (field, value) in
        [("completion_window", "1h"), ("endpoint", "/v1/models"), ("input_file_id", "x")]
    {
        let mut wrong = body.clone();
        wrong[field] = json!(value);
        assert_eq!(rig.post("/v1/batches", wrong).await.error().2.as_deref(), Some(field));
    }
    let listed = rig.get("/v1/batches?limit=1").await.json();
    assert_eq!((&listed["has_more"], &listed["data"][0]["id"]), (&json!(true), &failed["id"]));
}

#[tokio::test]
async fn a_batch_whose_time_is_over_expires_line_by_line() {
    let rig = Rig::start().await;
    let mut spec = bulk(&file(&rig, "batch", &chats(2)).await);
    spec["window_seconds"] = json!(1);
    let id = create(&rig, spec).await["id"].as_str().expect("an id").to_owned();
    let began = Instant::now();
    let age = || async { rig.registry.job_age(&id.as_str().into()).await.expect("it is there") };
    while age().await.expect("an age") < Duration::from_secs(1) {
        assert!(began.elapsed() < PATIENCE);
        tokio::task::yield_now().await;
    }
    run(&rig);
    let job = over(&rig, &id).await;
    assert_eq!((&job["result"]["expired"], &job["result"]["failed"]), (&json!(true), &json!(2)));
    let failures = lines(&rig, &job["result"]["error_file_id"]).await;
    assert_eq!(failures[0]["error"]["code"], "batch_expired");
    assert!(rig.nodes.works().is_empty());

    // The time of day that this gateway believes in does not count.
    rig.clock.advance(Duration::from_hours(48));
    let job = done(&rig, bulk(&file(&rig, "batch", &chats(1)).await)).await;
    assert_eq!((&job["result"]["expired"], &job["result"]["failed"]), (&json!(false), &json!(0)));
}

#[tokio::test]
async fn a_deleted_files_blob_goes_with_the_last_file_that_has_it() {
    let rig = Rig::start().await;
    let (one, other) = (file(&rig, "batch", "same").await, file(&rig, "user_data", "same").await);
    assert_eq!(rig.kept().await, 1);
    let deleted = rig.call(Method::DELETE, &format!("/v1/files/{one}"), None).await.json();
    assert_eq!(deleted, json!({"id": one, "object": "file", "deleted": true}));
    assert_eq!(rig.kept().await, 1);
    assert_eq!(rig.get(&format!("/v1/files/{other}/content")).await.body, "same");
    rig.call(Method::DELETE, &format!("/v1/files/{other}"), None).await;
    assert_eq!(rig.kept().await, 0);
    for (purpose, name) in [("batch_output", "a"), ("x", "a"), ("batch", "")] {
        assert_eq!(rig.send(upload(purpose, name, "x")).await.error().0, 400, "{purpose} {name}");
    }
}

#[tokio::test]
async fn an_evaluation_measures_both_sides_and_says_when_they_are_equal() {
    let rig = Rig::start().await;
    super::adapters::uploaded(&rig, "mood", "weights").await;
    run(&rig);
    // The mock node answers everything with the same words, whatever the grammar.
    let examples = [("Good.", "Hello there"), ("Bad.", "Goodbye")];
    let content: Vec<String> = examples
        .iter()
        .map(|(text, label)| json!({"text": text, "label": label}).to_string())
        .collect();
    let input = file(&rig, "evaluate", &content.join("\n")).await;
    let spec = json!({
        "kind": "evaluate", "input_file_id": input, "model": "mood",
        "template": "Review: {text}\nMood:"
    });
    let job = done(&rig, spec).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    let result = &job["result"];
    assert_eq!((&result["model"]["accuracy"], &result["examples"]), (&json!(0.5), &json!(2)));
    assert_eq!((&result["base"]["name"], &result["equal"]), (&json!("tiny"), &json!(true)));
    assert!(result["note"].as_str().expect("a note").contains("mood"));
    let f1 = result["model"]["macro_f1"].as_f64().expect("a number");
    assert!((f1 - 1.0 / 3.0).abs() < 1e-9, "{f1}");
    let prompts: Vec<_> = rig.nodes.works().into_iter().skip(1).collect();
    assert_eq!(prompts.len(), 4, "two examples on two sides");

    for (content, code) in [("{}", "invalid_input"), ("", "empty_file")] {
        let input = file(&rig, "evaluate", content).await;
        let spec = json!({"kind": "evaluate", "input_file_id": input, "model": "mood"});
        assert_eq!(done(&rig, spec).await["error"]["code"], code);
    }
}

#[tokio::test]
async fn a_silent_holders_job_is_taken_away_and_what_it_writes_then_is_refused() {
    let rig = Rig::start().await;
    let input = file(&rig, "batch", &chats(1)).await;
    let id = create(&rig, bulk(&input)).await["id"].as_str().expect("an id").to_owned();
    let lost = rig.registry.claim_jobs("silent", Duration::from_millis(1), 1).await;
    let lost = lost.expect("it can be claimed").remove(0).claim();
    let began = Instant::now();
    while rig.get(&format!("/v1/jobs/{id}")).await.json()["state"] == "running" {
        assert!(began.elapsed() < PATIENCE);
        crate::jobs::reap(&rig.app).await.expect("the registry is there");
    }
    let refused = rig.registry.fail_job(&lost, &json!({}), None).await;
    assert_eq!(refused.map(JobState::as_str).unwrap_err().code(), "job_fenced");
    let metrics = rig.get("/metrics").await.body;
    for line in ["firmament_job_lease_expired_total 1", "firmament_jobs{state=\"queued\"} 1"] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn what_no_job_can_be_asked_for_is_refused_by_name() {
    let rig = Rig::start().await;
    let input = file(&rig, "batch", &chats(1)).await;
    for (spec, param) in [
        (json!({"kind": "bulk", "input_file_id": input, "lines_per_step": 0}), "lines_per_step"),
        (json!({"kind": "bulk", "input_file_id": input, "lines_at_once": 65}), "lines_at_once"),
        (json!({"kind": "bulk", "input_file_id": input, "endpoint": "/v1/x"}), "endpoint"),
        (json!({"kind": "bulk", "input_file_id": "file-x"}), "input_file_id"),
        (json!({"kind": "evaluate", "input_file_id": input, "model": "tiny"}), "input_file_id"),
        (
            json!({"kind": "evaluate", "input_file_id": input, "model": "m", "template": "x"}),
            "template",
        ),
    ] {
        let refused = rig.post("/v1/jobs", spec.clone()).await.error();
        assert_eq!((refused.0, refused.2.as_deref()), (400, Some(param)), "{spec}");
    }
    for spec in [json!({"kind": "train"}), json!({"kind": "bulk", "input_file_id": input, "x": 1})]
    {
        assert_eq!(rig.post("/v1/jobs", spec).await.error().0, 400);
    }
}

#[tokio::test]
async fn the_lines_of_a_job_are_no_more_urgent_than_batch_and_than_their_tenant_may() {
    for (allowed, priority) in [("interactive", "batch"), ("background", "background")] {
        let rig = Rig::start().await;
        run(&rig);
        let (path, limits) = ("/v1/tenants/local/limits", json!({ "priority": allowed }));
        assert_eq!(rig.call(Method::PUT, path, Some(limits)).await.status, 200);
        let job = done(&rig, bulk(&file(&rig, "batch", &chats(2)).await)).await;
        assert_eq!(job["result"]["completed"], 2, "{job}");
        let metrics = rig.get("/metrics").await.body;
        let line = format!("firmament_queue_seconds_count{{priority=\"{priority}\"}} 2");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
}
