//! A server on loopback that answers as a test scripts it, and remembers what it was asked.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use axum::response::Response;
use futures_util::{StreamExt as _, stream};
use telemetry::Scope;

/// What a server was asked: a path, and the `Range` header.
pub(super) type Asked = (String, Option<String>);

pub(super) struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    scope: Scope,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.scope.cancel();
    }
}

impl Server {
    /// Serves `answer(path, range start, how often it was asked before)`.
    pub(super) async fn start(
        answer: impl Fn(&str, u64, usize) -> Response + Clone + Send + Sync + 'static,
    ) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (scope, book) = (Scope::new(), Arc::clone(&asked));
        let service = axum::Router::new().fallback(async move |request: Request| {
            let path = request.uri().path().to_owned();
            let range =
                request.headers().get(RANGE).map(|range| range.to_str().expect("text").to_owned());
            let start = range.as_deref().map_or(0, start_of);
            let mut book = book.lock().expect("no test panics here");
            book.push((path.clone(), range));
            Ok::<_, Infallible>(answer(&path, start, book.len() - 1))
        });
        let stop = scope.clone();
        scope.spawn("test server", async move {
            let serving = axum::serve(listener, service);
            tokio::select! {
                () = stop.cancelled() => {}
                outcome = serving => outcome.expect("serves"),
            }
        });
        Self { address, asked, scope }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no test panics here").clone()
    }
}

fn start_of(range: &str) -> u64 {
    let digits = range.strip_prefix("bytes=").and_then(|range| range.strip_suffix('-'));
    digits.and_then(|digits| digits.parse().ok()).expect("an open range of bytes")
}

/// The bytes from `start` on, as a server answers that knows ranges.
pub(super) fn bytes_from(bytes: &[u8], start: u64) -> Response {
    let rest = bytes[start as usize..].to_vec();
    let answer = Response::builder().status(if start == 0 { 200 } else { 206 });
    let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
    answer.header(CONTENT_RANGE, range).body(Body::from(rest)).expect("valid")
}

/// Promises all of `bytes`, sends the first `cut` and breaks the connection.
pub(super) fn cut_after(bytes: &[u8], cut: usize) -> Response {
    let first = stream::iter([Ok(Bytes::copy_from_slice(&bytes[..cut]))]);
    let broken = stream::once(async {
        tokio::task::yield_now().await; // a pause, in which the server sends what it has
        Err(std::io::Error::other("cut by the test"))
    });
    let answer = Response::builder().header(CONTENT_LENGTH, bytes.len());
    answer.body(Body::from_stream(first.chain(broken))).expect("valid")
}

pub(super) fn status(status: u16) -> Response {
    Response::builder().status(status).body(Body::empty()).expect("valid")
}

pub(super) fn typed(kind: &str, body: String) -> Response {
    Response::builder().header("content-type", kind).body(Body::from(body)).expect("valid")
}
