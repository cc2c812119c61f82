//! The accept loop. It is our own because `axum::serve` gives hyper no timer, and without one a head
//! that never ends holds its connection for ever.
//! Owns: connections, their caps and deadlines, their TLS, draining. Never: what a request means.

mod admission;
mod door;
mod stall;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use telemetry::Scope;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};
use tower::ServiceExt as _;

use crate::app::App;
use crate::config::GatewayConfig;
use crate::http::Peer;
use admission::Connections;
use door::Door;
use stall::StallGuard;

const HEADER_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 100;
const H2_STREAMS_MAX: u32 = 256;
const H2_PING_EVERY: Duration = Duration::from_secs(20);
/// For the answers to requests that did not end within the drain time.
const FAREWELL_MAX: Duration = Duration::from_secs(2);
/// Pause after the system refused to accept, mostly for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `scope` is cancelled and a little longer; then takes no more and lets what runs end within
/// the drain time. Returns when `scope` was cancelled.
pub async fn serve(
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
    app: &App,
    scope: &Scope,
) -> Instant {
    let connections = Arc::new(Connections::new(&app.config, Arc::clone(&app.metrics)));
    let door = app.secure.as_ref().map(|secure| {
        let acceptor = secure.certificate.listener().into();
        Door::new(acceptor, app.config.header_timeout, Arc::clone(&app.metrics))
    });
    let running = Scope::new();
    let mut over = pin!(async {
        scope.cancelled().await;
        let told = Instant::now();
        sleep(app.config.linger).await;
        told
    });
    let told = loop {
        let accepted = tokio::select! {
            biased;
            told = &mut over => break told,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(error.message = %error, "accept failed: {error}");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(place) = connections.enter(peer.ip()) else { continue };
        let _ = stream.set_nodelay(true);
        let (router, config, ending) = (router.clone(), app.config.clone(), running.clone());
        let peer = Peer { address: peer, listener: address };
        let door = door.clone();
        running.spawn("connection", async move {
            match door {
                None => connection(stream, peer, router, &config, &ending).await,
                Some(door) => {
                    if let Some(stream) = door.open(stream, &ending).await {
                        connection(stream, peer, router, &config, &ending).await;
                    }
                }
            }
            drop(place);
        });
    };
    drop(listener);
    let mut left = running.shutdown(app.config.drain_timeout).await.len();
    if left > 0 {
        app.drained.cancel(); // a request that is told so has an answer, a cut connection none
        left = running.shutdown(FAREWELL_MAX).await.len();
    }
    if left > 0 {
        tracing::warn!(connections = left, "{left} connections did not end in time");
    }
    told
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    router: Router,
    config: &GatewayConfig,
    scope: &Scope,
) {
    let began = Arc::new(AtomicBool::new(false));
    let noted = Arc::clone(&began);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        noted.store(true, Ordering::Relaxed);
        answer(router.clone(), request, peer)
    });
    let io = TokioIo::new(StallGuard::new(stream, config.stall_timeout));
    let builder = builder(config, scope);
    let mut served = pin!(builder.serve_connection_with_upgrades(io, service));
    // hyper's own timer starts once it knows which HTTP is spoken: this one covers what comes before.
    let mut patience = pin!(sleep(config.header_timeout));
    let mut waits = true;
    loop {
        tokio::select! {
            ended = served.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(error.message = %error, "connection ended: {error}");
                }
                return;
            }
            () = patience.as_mut(), if waits => {
                if !began.load(Ordering::Relaxed) {
                    return;
                }
                waits = false;
            }
            () = scope.cancelled() => break,
        }
    }
    served.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(config.drain_timeout + FAREWELL_MAX, served).await;
}

async fn answer(
    router: Router,
    request: Request<Incoming>,
    peer: Peer,
) -> Result<Response<Body>, Infallible> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(peer);
    router.oneshot(request).await
}

fn builder(config: &GatewayConfig, scope: &Scope) -> Builder<ScopeExecutor> {
    let mut builder = Builder::new(ScopeExecutor(scope.clone()));
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEADER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEADER_BYTES_MAX as u32)
        .max_concurrent_streams(H2_STREAMS_MAX)
        .keep_alive_interval(H2_PING_EVERY)
        .keep_alive_timeout(config.stall_timeout);
    builder
}

/// Runs HTTP/2 streams as tasks of the connection's scope.
#[derive(Clone)]
struct ScopeExecutor(Scope);

impl<F> hyper::rt::Executor<F> for ScopeExecutor
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn("http2-stream", future);
    }
}
