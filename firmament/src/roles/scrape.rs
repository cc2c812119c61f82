//! A listener for Prometheus and health checks in processes without a REST API.
//! Owns: `/metrics` and `/health/*` of a node. Never: anything that changes something.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use secrecy::{ExposeSecret as _, SecretString};
use telemetry::{Metrics, Scope};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::failure::{Exit, Failure};
use crate::secret;

/// Connections at once; more wait to be taken.
const CONNECTIONS_MAX: usize = 16;
/// How long a request's head may take, and a connection may last.
const HEAD_MAX: Duration = Duration::from_secs(5);
const CONNECTION_MAX: Duration = Duration::from_mins(10);

/// Settings of the listener.
#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_field_names, reason = "they name the flags")]
pub struct ScrapeArguments {
    /// Answer /metrics and /health/* on this address, such as 127.0.0.1:9464 [default: nowhere].
    #[arg(long, env = "FIRMAMENT_METRICS_LISTEN", value_name = "ADDRESS")]
    metrics_listen: Option<SocketAddr>,
    /// How others reach that address, as host:port, for the gateway's list of scrape targets
    /// [default: the address itself, if it is not every address].
    #[arg(
        long,
        env = "FIRMAMENT_METRICS_ADDRESS",
        value_name = "HOST:PORT",
        requires = "metrics_listen"
    )]
    metrics_address: Option<String>,
    /// Bearer token that /metrics asks for; needed on any other than a loopback address.
    #[arg(long, env = "FIRMAMENT_METRICS_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    metrics_token: Option<SecretString>,
    /// Read the token from this file, as a container is given secrets.
    #[arg(
        long,
        env = "FIRMAMENT_METRICS_TOKEN_FILE",
        value_name = "FILE",
        conflicts_with = "metrics_token"
    )]
    metrics_token_file: Option<PathBuf>,
}

/// A listener that has its address and does not answer yet.
pub struct Scrape {
    listener: TcpListener,
    address: Option<String>,
    token: Option<SecretString>,
}

impl ScrapeArguments {
    /// Takes the address, if one was named.
    pub async fn bind(&self) -> Result<Option<Scrape>, Failure> {
        let Some(listen) = self.metrics_listen else { return Ok(None) };
        let token = self.token()?;
        if token.is_none() && !listen.ip().is_loopback() {
            let what = anyhow::anyhow!("{listen} can be reached from elsewhere");
            return Err(Failure::with(Exit::Usage, what, "set --metrics-token-file"));
        }
        let failed = |error: std::io::Error| {
            let what = anyhow::Error::new(error).context(format!("cannot listen on {listen}"));
            Failure::with(Exit::InUse, what, "choose another address with --metrics-listen")
        };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let own = listener.local_addr().map_err(failed)?;
        let own = (!own.ip().is_unspecified()).then(|| own.to_string());
        let address = self.metrics_address.clone().or(own);
        Ok(Some(Scrape { listener, address, token }))
    }

    fn token(&self) -> Result<Option<SecretString>, Failure> {
        let said = self.metrics_token.clone().filter(|token| !token.expose_secret().is_empty());
        match &self.metrics_token_file {
            Some(path) if said.is_none() => Ok(Some(secret::read(path)?.into())),
            _ => Ok(said),
        }
    }
}

impl Scrape {
    /// What the gateway is told.
    pub fn address(&self) -> Option<String> {
        self.address.clone()
    }

    /// Answers until `scope` is cancelled.
    pub async fn serve(
        self,
        metrics: Arc<Metrics>,
        ready: impl Fn() -> bool + Send + Sync + 'static,
        scope: Scope,
    ) {
        let (listener, token) = (self.listener, self.token);
        let page = Arc::new(Page { metrics, token, ready: Box::new(ready) });
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let place = Arc::clone(&places).acquire_owned().await.expect("it is never closed");
            let accepted = tokio::select! {
                () = scope.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(Duration::from_millis(100)).await; // out of file descriptors
                continue;
            };
            let (page, ended) = (Arc::clone(&page), scope.clone());
            scope.spawn("scrape", async move {
                let _place = place;
                tokio::select! {
                    () = ended.cancelled() => {}
                    () = answer(stream, page) => {}
                    () = tokio::time::sleep(CONNECTION_MAX) => {}
                }
            });
        }
    }
}

async fn answer(stream: TcpStream, page: Arc<Page>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = page.answer(&request);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_MAX);
    // Whoever broke off does not wait for an answer.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

struct Page {
    metrics: Arc<Metrics>,
    token: Option<SecretString>,
    ready: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Page {
    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n");
        }
        match request.uri().path() {
            "/metrics" if self.lets_in(request) => {
                let mut page = plain(StatusCode::OK, self.metrics.encode());
                let format = "text/plain; version=0.0.4; charset=utf-8";
                page.headers_mut().insert(CONTENT_TYPE, format.parse().expect("a header"));
                page
            }
            "/metrics" => plain(StatusCode::UNAUTHORIZED, "send --metrics-token as bearer token\n"),
            "/health/live" | "/healthz" => plain(StatusCode::OK, "ok\n"),
            "/health/ready" | "/health/startup" | "/health" if (self.ready)() => {
                plain(StatusCode::OK, "ok\n")
            }
            "/health/ready" | "/health/startup" | "/health" => {
                plain(StatusCode::SERVICE_UNAVAILABLE, "not linked\n")
            }
            _ => plain(StatusCode::NOT_FOUND, "there are /metrics and /health/{live,ready}\n"),
        }
    }

    /// Compares in a time that does not depend on how much is equal.
    fn lets_in<B>(&self, request: &Request<B>) -> bool {
        let Some(token) = &self.token else { return true };
        let said = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let said = said.and_then(|value| value.strip_prefix(b"Bearer ")).unwrap_or_default();
        let token = token.expose_secret().as_bytes();
        let pairs = token.iter().zip(said);
        token.len() == said.len() && pairs.fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(token: Option<&str>, ready: bool) -> Page {
        let token = token.map(SecretString::from);
        Page { metrics: Arc::new(Metrics::new()), token, ready: Box::new(move || ready) }
    }

    fn status(page: &Page, path: &str, token: Option<&str>) -> u16 {
        let mut request = Request::get(path);
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        page.answer(&request.body(()).expect("a request")).status().as_u16()
    }

    #[test]
    fn a_token_opens_the_metrics_and_nothing_else_does() {
        let page = page(Some("right"), true);
        assert_eq!(status(&page, "/metrics", Some("right")), 200);
        for wrong in [None, Some(""), Some("righ"), Some("wrong")] {
            assert_eq!(status(&page, "/metrics", wrong), 401, "{wrong:?}");
        }
        assert_eq!(status(&page, "/health/live", None), 200);
        assert_eq!(status(&page, "/v1/models", Some("right")), 404);
    }

    #[test]
    fn a_node_that_is_not_linked_lives_and_is_not_ready() {
        let page = page(None, false);
        assert_eq!(status(&page, "/health/live", None), 200);
        assert_eq!(status(&page, "/health/ready", None), 503);
    }

    #[tokio::test]
    async fn an_address_that_others_reach_asks_for_a_token() {
        let arguments = |listen: &str, token: Option<&str>| ScrapeArguments {
            metrics_listen: Some(listen.parse().expect("an address")),
            metrics_address: None,
            metrics_token: token.map(SecretString::from),
            metrics_token_file: None,
        };
        assert!(arguments("0.0.0.0:0", None).bind().await.is_err());
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "hush\n").expect("written");
        let mut by_file = arguments("0.0.0.0:0", None);
        by_file.metrics_token_file = Some(file.path().to_owned());
        let bound = by_file.bind().await.expect("it has a token").expect("it listens");
        assert_eq!(bound.token.expect("from the file").expose_secret(), "hush");
        let bound = arguments("0.0.0.0:0", Some("t")).bind().await.expect("it has a token");
        assert_eq!(bound.expect("it listens").address(), None, "nobody reaches 0.0.0.0");
        let bound = arguments("127.0.0.1:0", None).bind().await.expect("only this machine");
        assert!(bound.expect("it listens").address().is_some_and(|a| a.starts_with("127.0.0.1:")));
    }
}
