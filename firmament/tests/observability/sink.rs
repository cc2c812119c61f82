//! A collector of traces that keeps what it gets, as bytes and as spans.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use telemetry::Scope;

/// What came in so far; clones share it.
#[derive(Clone, Default)]
pub struct Sink(Arc<Mutex<Vec<Bytes>>>);

impl Sink {
    /// Listens on a free port until `scope` ends; its address.
    pub async fn start(&self, scope: &Scope) -> String {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = tokio::net::TcpListener::bind(listen).await.expect("a free port");
        let address = listener.local_addr().expect("it has one");
        let router = Router::new().route("/v1/traces", post(keep)).with_state(self.clone());
        let ended = scope.token().cancelled_owned();
        scope.spawn("sink", async move {
            axum::serve(listener, router).with_graceful_shutdown(ended).await.expect("it serves");
        });
        format!("http://{address}")
    }

    /// All that came, as it came.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().expect("nobody panicked").concat()
    }

    /// All spans of one trace.
    pub fn spans(&self, trace: &str) -> Vec<Span> {
        let messages = self.0.lock().expect("nobody panicked").clone();
        let decode = |bytes: Bytes| ExportTraceServiceRequest::decode(bytes).expect("OTLP");
        let resources = messages.into_iter().flat_map(|bytes| decode(bytes).resource_spans);
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        let spans = scopes.flat_map(|scope| scope.spans);
        spans.filter(|span| hex(&span.trace_id) == trace).collect()
    }
}

async fn keep(State(sink): State<Sink>, body: Bytes) {
    sink.0.lock().expect("nobody panicked").push(body);
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// An attribute as text.
pub fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    found.value.as_ref().map(shown)
}

fn shown(value: &AnyValue) -> String {
    match &value.value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::ArrayValue(array)) => {
            array.values.iter().map(shown).collect::<Vec<_>>().join(",")
        }
        other => format!("{other:?}"),
    }
}
