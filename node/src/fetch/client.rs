//! The HTTP client of the downloads.
//! Owns: redirects, timeouts, trust, retries. Never: what is asked for, files.
//!
//! Trust comes from the system's store or from `SSL_CERT_FILE`, proxies from the usual variables.

use std::time::Duration;

use reqwest::header::{ACCEPT, HeaderMap};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Response, Url};

use super::error::{FetchError, shown};

const REDIRECTS_MAX: usize = 5;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// How patient the downloads are.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Longest silence of a server before the connection is given up.
    pub silence: Duration,
    /// Attempts after the first that bring nothing new.
    pub retries: u32,
    /// Pause before the first of them; doubles each time.
    pub backoff: Duration,
    /// Longest wait for another process that fetches the same firmware.
    pub lock_wait: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            silence: Duration::from_secs(30),
            retries: 3,
            backoff: Duration::from_millis(500),
            lock_wait: Duration::from_mins(30),
        }
    }
}

impl Patience {
    /// How long to wait before attempt `retry` (from 1) of the retries.
    pub(super) fn pause(&self, retry: u32) -> Duration {
        self.backoff * 2_u32.saturating_pow(retry.saturating_sub(1)).min(64)
    }
}

/// A client and its patience.
#[derive(Debug, Clone)]
pub(super) struct Http {
    client: Client,
    pub(super) patience: Patience,
}

impl Http {
    pub(super) fn new(patience: Patience) -> Result<Self, FetchError> {
        // Fails only if the process has chosen already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .user_agent(concat!("firmament/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(patience.silence)
            .redirect(Policy::custom(follow))
            .build()
            .map_err(|source| FetchError::Trust { source })?;
        Ok(Self { client, patience })
    }

    /// One answer with a good status.
    pub(super) async fn get(&self, url: &Url, headers: HeaderMap) -> Result<Response, FetchError> {
        let request = self.client.get(url.clone()).headers(headers);
        let response = request.send().await.map_err(|error| FetchError::transport(url, error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(FetchError::Status { url: shown(url), status: response.status() })
    }

    /// A small document in one of the types that `accept` names; retried.
    pub(super) async fn page(
        &self,
        url: &Url,
        accept: &'static str,
        limit_bytes: u64,
    ) -> Result<Page, FetchError> {
        let mut retry = 0;
        loop {
            match self.page_once(url, accept, limit_bytes).await {
                Err(error) if error.retryable() && retry < self.patience.retries => {
                    retry += 1;
                    tokio::time::sleep(self.patience.pause(retry)).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn page_once(
        &self,
        url: &Url,
        accept: &'static str,
        limit_bytes: u64,
    ) -> Result<Page, FetchError> {
        let accept = reqwest::header::HeaderValue::from_static(accept);
        let headers = HeaderMap::from_iter([(ACCEPT, accept)]);
        let mut response = self.get(url, headers).await?;
        let kind = response.headers().get(reqwest::header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_owned();
        let mut page = Page { url: response.url().clone(), kind, body: Vec::new() };
        while let Some(chunk) =
            response.chunk().await.map_err(|error| FetchError::transport(url, error))?
        {
            if (page.body.len() + chunk.len()) as u64 > limit_bytes {
                return Err(FetchError::TooLarge { name: shown(url), limit_bytes });
            }
            page.body.extend_from_slice(&chunk);
        }
        Ok(page)
    }
}

/// A document and where it was found after redirects.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) url: Url,
    pub(super) kind: String,
    pub(super) body: Vec<u8>,
}

/// Follows up to five redirects, never from https to http.
fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let unsafe_step = attempt.previous().last().is_some_and(|from| from.scheme() == "https")
        && attempt.url().scheme() != "https";
    if unsafe_step || attempt.previous().len() > REDIRECTS_MAX {
        return attempt.error("redirect refused");
    }
    attempt.follow()
}

/// An http or https address.
pub(super) fn address(text: &str) -> Result<Url, FetchError> {
    let refused = || FetchError::Address { text: text.to_owned() };
    let url = Url::parse(text).map_err(|_| refused())?;
    if matches!(url.scheme(), "http" | "https") && url.has_host() {
        Ok(url)
    } else {
        Err(refused())
    }
}
