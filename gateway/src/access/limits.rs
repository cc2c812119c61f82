//! How much a tenant may ask for: requests at once, requests a minute, tokens a minute.
//!
//! Buckets live in the live state, so that several gateways share them. A request reserves its
//! estimated tokens; at its end it gives back what it did not use and owes what it used beyond that.
//! Capacity is one minute's worth.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;
use protocol::TenantId;
use store::LiveState;
use store::live::{Bucket, Take};
use telemetry::{Clock, Scope};

use crate::config::GatewayConfig;
use crate::core::Cost;
use crate::error::ApiError;

/// Every tenant's limits.
pub struct Limits {
    live: Arc<dyn LiveState>,
    clock: Arc<dyn Clock>,
    scope: Scope,
    concurrent_max: u32,
    requests: Bucket,
    tokens: Bucket,
    running: Mutex<HashMap<TenantId, u32>>,
}

/// A tenant's permission to run one request. Dropping it settles what was reserved with what was used.
pub struct Permit {
    limits: Arc<Limits>,
    tenant: TenantId,
    reserved: f64,
    spent: AtomicU64,
    headers: HeaderMap,
}

impl Limits {
    /// As configured; `scope` runs the settlements.
    pub fn new(
        config: &GatewayConfig,
        live: Arc<dyn LiveState>,
        clock: Arc<dyn Clock>,
        scope: Scope,
    ) -> Arc<Self> {
        Arc::new(Self {
            live,
            clock,
            scope,
            concurrent_max: config.tenant_concurrent_max,
            requests: per_minute(config.tenant_requests_per_minute),
            tokens: per_minute(config.tenant_tokens_per_minute),
            running: Mutex::default(),
        })
    }

    /// Lets a request of this cost in.
    ///
    /// # Errors
    /// [`ApiError::Quota`], with the time after which it may succeed.
    pub async fn admit(
        self: &Arc<Self>,
        tenant: &TenantId,
        cost: Cost,
    ) -> Result<Arc<Permit>, ApiError> {
        let mut permit = self.enter(tenant)?;
        let asked = self.take(tenant, "requests", 1.0, self.requests).await?;
        let mut headers = headers("requests", self.requests, asked);
        if let Take::Denied { retry_after } = asked {
            return Err(quota("requests", retry_after, headers));
        }
        // What is larger than the bucket is let in when the bucket is full.
        let cost = f64::from(cost.total()).min(self.tokens.capacity);
        let asked = self.take(tenant, "tokens", cost, self.tokens).await?;
        headers.extend(self::headers("tokens", self.tokens, asked));
        if let Take::Denied { retry_after } = asked {
            self.give(tenant, "requests", 1.0, self.requests).await;
            return Err(quota("tokens", retry_after, headers));
        }
        permit.reserved = cost;
        permit.headers = headers;
        Ok(Arc::new(permit))
    }

    fn enter(self: &Arc<Self>, tenant: &TenantId) -> Result<Permit, ApiError> {
        let mut running = self.running.lock();
        let count = running.entry(tenant.clone()).or_default();
        if *count >= self.concurrent_max {
            let message = format!("at most {} requests at once", self.concurrent_max);
            let (retry_after, headers) = (Duration::from_secs(1), Box::default());
            return Err(ApiError::Quota { message, retry_after, headers });
        }
        *count += 1;
        let (limits, tenant) = (Arc::clone(self), tenant.clone());
        let (spent, headers) = (AtomicU64::new(0), HeaderMap::new());
        Ok(Permit { limits, tenant, reserved: 0.0, spent, headers })
    }

    fn leave(&self, tenant: &TenantId) {
        let mut running = self.running.lock();
        if let Some(count) = running.get_mut(tenant) {
            *count -= 1;
            if *count == 0 {
                running.remove(tenant);
            }
        }
    }

    async fn take(
        &self,
        tenant: &TenantId,
        what: &str,
        cost: f64,
        bucket: Bucket,
    ) -> Result<Take, ApiError> {
        let key = format!("rate/{tenant}/{what}");
        Ok(self.live.take(&key, cost, bucket, self.clock.now().into()).await?)
    }

    /// Settles a request that reserved `rest` tokens more than it used, or fewer.
    async fn settle(&self, tenant: &TenantId, rest: f64) {
        if rest >= 0.0 {
            return self.give(tenant, "tokens", rest, self.tokens).await;
        }
        let key = format!("rate/{tenant}/tokens");
        if let Err(error) =
            self.live.charge(&key, -rest, self.tokens, self.clock.now().into()).await
        {
            tracing::warn!(error.message = %error, "a charge was lost: {error}");
        }
    }

    async fn give(&self, tenant: &TenantId, what: &str, cost: f64, bucket: Bucket) {
        let key = format!("rate/{tenant}/{what}");
        if let Err(error) = self.live.refund(&key, cost, bucket, self.clock.now().into()).await {
            tracing::warn!(error.message = %error, "a refund was lost: {error}");
        }
    }
}

impl Permit {
    /// Counts tokens that the request really used.
    pub fn spent(&self, tokens: u64) {
        self.spent.fetch_add(tokens, Ordering::Relaxed);
    }

    /// `x-ratelimit-*`.
    pub const fn headers(&self) -> &HeaderMap {
        &self.headers
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limits.leave(&self.tenant);
        let rest = self.reserved - self.spent.load(Ordering::Relaxed) as f64;
        if rest.abs() < 1.0 {
            return;
        }
        let (limits, tenant) = (Arc::clone(&self.limits), self.tenant.clone());
        self.limits.scope.spawn("settle", async move { limits.settle(&tenant, rest).await });
    }
}

fn per_minute(count: u32) -> Bucket {
    Bucket { capacity: f64::from(count), refill_per_second: f64::from(count) / 60.0 }
}

fn quota(what: &str, retry_after: Duration, headers: HeaderMap) -> ApiError {
    let message = format!("this tenant's {what} per minute are used up");
    ApiError::Quota { message, retry_after, headers: Box::new(headers) }
}

/// What is left, and when: all of it again, or, where nothing is, enough for what was asked.
fn headers(what: &str, bucket: Bucket, take: Take) -> HeaderMap {
    let (remaining, reset) = match take {
        Take::Allowed { remaining } => {
            (remaining, (bucket.capacity - remaining) / bucket.refill_per_second)
        }
        Take::Denied { retry_after } => (0.0, retry_after.as_secs_f64()),
        Take::AboveCapacity => return HeaderMap::new(),
    };
    let values = [
        ("limit", (bucket.capacity as u64).to_string()),
        ("remaining", (remaining as u64).to_string()),
        ("reset", reset_text(reset.ceil() as u64)),
    ];
    let header = |(name, value): (&str, String)| {
        let name = HeaderName::try_from(format!("x-ratelimit-{name}-{what}")).ok()?;
        Some((name, HeaderValue::try_from(value).ok()?))
    };
    values.into_iter().filter_map(header).collect()
}

/// `1s`, `6m0s`: as OpenAI's clients read it.
fn reset_text(seconds: u64) -> String {
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reset_times_read_as_openai_writes_them() {
        assert_eq!([0, 1, 360].map(reset_text), ["0s", "1s", "6m0s"]);
    }
}
