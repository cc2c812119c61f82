//! One trace from the app to the engine, and nothing of what was said in it, or anywhere else.

use std::fs::{self, File};
use std::path::Path;

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::{Value, json};
use telemetry::Scope;
use testkit::{eventually, tiny_lora, write_lora};

use crate::common::{self, Role, done, firmament, tiny};
use crate::sink::{Sink, attribute, hex};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const UNSAMPLED: &str = "5bf92f3577b34da6a3ce929d0e0e4737";
/// Stands in every prompt and nowhere else.
const MARKER: &str = "canary-5d1f0c";

struct Server {
    role: Role,
    data: tempfile::TempDir,
    logs: tempfile::NamedTempFile,
    key: String,
}

impl Server {
    /// The whole server with JSON logs in all detail, an adapter, and a key.
    fn start(collector: &str) -> Self {
        let data = tiny();
        let scopes = ["--scopes", "inference,adapters,admin"];
        let made =
            common::json(data.path(), &[&["key", "create", "--offline"][..], &scopes].concat());
        let logs = tempfile::NamedTempFile::new().expect("a file");
        let mut command = firmament(data.path());
        command.args(["up", "--listen", "127.0.0.1:0", "--threads", "1", "-vv"]);
        command.args(["--log-format", "json", "--otlp-endpoint", collector]);
        command.stderr(File::options().append(true).open(logs.path()).expect("it is there"));
        let role = Role::run(command, "ready ");
        let folder = tempfile::tempdir().expect("a folder");
        write_lora(folder.path(), &tiny_lora(3)).expect("written");
        let lora = folder.path().display().to_string();
        done(data.path(), &["adapter", "add", &lora, "--name", "mood", "--url", &role.said]);
        let key = made["secret"].as_str().expect("a key").to_owned();
        Self { role, data, logs, key }
    }

    async fn post(&self, path: &str, trace: &str, flags: &str, body: &Value) -> String {
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build();
        let request = http.expect("a client").post(format!("{}{path}", self.role.said));
        let request = request.header("traceparent", format!("00-{trace}-{CALLER}-{flags}"));
        let answer = request.bearer_auth(&self.key).json(body).send().await.expect("it answers");
        answer.text().await.expect("text")
    }

    async fn metrics(&self) -> String {
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build();
        let asked = http.expect("a client").get(format!("{}/metrics", self.role.said)).send();
        asked.await.expect("it answers").text().await.expect("text")
    }
}

fn chat(stream: bool) -> Value {
    json!({
        "model": "mood", "messages": [{"role": "user", "content": format!("{MARKER} says hello")}],
        "stop": [format!("{MARKER} stop")], "max_tokens": 80, "ignore_eos": true, "seed": 7,
        "temperature": 0.5, "stream": stream,
    })
}

fn one<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    let mut found = spans.iter().filter(|span| span.name == name);
    let span = found.next().unwrap_or_else(|| panic!("no span `{name}` in {names:?}"));
    assert!(found.next().is_none(), "`{name}` is there twice in {names:?}");
    span
}

fn is_under(spans: &[Span], name: &str, parent: &str) {
    let (span, parent) = (one(spans, name), one(spans, parent));
    assert_eq!(hex(&span.parent_span_id), hex(&parent.span_id), "{name} under {}", parent.name);
    assert!(span.start_time_unix_nano >= parent.start_time_unix_nano, "{name} begins later");
}

fn check_tree(spans: &[Span]) {
    let served = one(spans, "POST /v1/chat/completions");
    assert_eq!((hex(&served.parent_span_id).as_str(), served.kind()), (CALLER, SpanKind::Server));
    assert_eq!(attribute(&served.attributes, "http.response.status_code").as_deref(), Some("200"));
    assert_eq!(attribute(&served.attributes, "firmament.outcome").as_deref(), Some("ok"));
    for part in ["auth", "admit", "schedule", "chat mood"] {
        is_under(spans, part, "POST /v1/chat/completions");
    }
    is_under(spans, "work", "chat mood");
    for part in ["queue", "prefill", "decode"] {
        is_under(spans, part, "work");
    }
    let choice = one(spans, "schedule");
    let candidates = choice.events.iter().filter(|event| event.name == "candidate").count();
    assert_eq!(attribute(&choice.attributes, "firmament.candidates"), Some(candidates.to_string()));
    assert_eq!(candidates, 2, "a device and a worker");
}

fn check_attempt(spans: &[Span]) {
    let attempt = one(spans, "chat mood");
    assert_eq!(attempt.kind(), SpanKind::Client);
    let value = |key: &str| attribute(&attempt.attributes, key).unwrap_or_default();
    for (key, expected) in [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "firmament"),
        ("gen_ai.request.model", "mood"),
        ("gen_ai.request.max_tokens", "80"),
        ("gen_ai.request.temperature", "0.5"),
        ("gen_ai.request.seed", "7"),
        ("gen_ai.usage.output_tokens", "80"),
        ("gen_ai.response.finish_reasons", "length"),
        ("firmament.adapter.name", "mood"),
        ("firmament.attempt", "1"),
        ("firmament.node.kind", "device"),
    ] {
        assert_eq!(value(key), expected, "{key}");
    }
    assert_eq!(value("firmament.adapter.base"), value("gen_ai.response.model"));
    assert_eq!(value("firmament.adapter.generation").len(), 64);
    assert!(value("gen_ai.usage.input_tokens").parse::<u32>().is_ok_and(|tokens| tokens > 0));
    for name in ["chat mood", "decode"] {
        let marks = one(spans, name).events.iter().filter(|event| event.name == "token").count();
        assert_eq!(marks, 2, "{name}: at the first token and about the 64th");
    }
}

/// Every file below `folder` that holds `text`.
fn holders(folder: &Path, text: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            holders(&path, text, found);
        } else if fs::read(&path).is_ok_and(|bytes| holds(&bytes, text)) {
            found.push(path.display().to_string());
        }
    }
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_leads_from_the_app_to_the_engine_and_nothing_tells_what_was_said() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (sink, scope) = (Sink::default(), Scope::new());
    let collector = sink.start(&scope).await;
    let server = Server::start(&collector);
    let path = "/v1/chat/completions";
    let said = server.post(path, TRACE, "01", &chat(false)).await;
    assert!(said.contains("\"completion_tokens\":80"), "{said}");
    server.post(path, UNSAMPLED, "00", &chat(true)).await;
    let embed = json!({ "model": "default", "input": format!("{MARKER} to embed") });
    server.post("/v1/embeddings", UNSAMPLED, "00", &embed).await;
    let wrong = json!({ "model": "default", "messages": [], "wrong": MARKER });
    server.post(path, UNSAMPLED, "01", &wrong).await;
    let metrics = server.metrics().await;
    let Server { role, data, logs, key } = server;
    assert!(role.stop().success());

    // What was not sent by then never will be: the server has ended.
    eventually("the trace is there", async || sink.spans(TRACE).len() >= 9).await;
    let spans = sink.spans(TRACE);
    check_tree(&spans);
    check_attempt(&spans);
    let refused = sink.spans(UNSAMPLED);
    let served = one(&refused, &format!("POST {path}"));
    assert!(attribute(&served.attributes, "error.type").is_some(), "{served:?}");

    let secret = key.rsplit('_').next().expect("a key has parts");
    let logs = fs::read(logs.path()).expect("the logs");
    assert!(String::from_utf8_lossy(&logs).contains(TRACE), "the log names the trace");
    let first = logs.split(|byte| *byte == b'\n').next().expect("a line");
    assert!(serde_json::from_slice::<Value>(first).is_ok(), "the log is JSON");
    for hidden in [MARKER, secret] {
        assert!(!holds(&sink.bytes(), hidden), "`{hidden}` is in the traces");
        assert!(!holds(&logs, hidden), "`{hidden}` is in the logs");
        assert!(!metrics.contains(hidden), "`{hidden}` is in the metrics");
        let mut files = Vec::new();
        holders(data.path(), hidden, &mut files);
        assert!(files.is_empty(), "`{hidden}` is in {files:?}");
    }
    scope.shutdown(testkit::PATIENCE).await;
}
