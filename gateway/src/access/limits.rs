//! How much a tenant may ask for: requests at once, requests a minute, tokens a minute and a day.
//!
//! Buckets live in the live state, so that several gateways share them. A request reserves its
//! estimated tokens; at its end it gives back what it did not use and owes what it used beyond that.
//! A bucket holds what its time brings: a minute's worth, or a day's. Requests at once are counted by
//! each gateway for itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;
use protocol::TenantId;
use store::LiveState;
use store::live::{Bucket, Take};
use telemetry::{Clock, Scope};

use super::quota::{Limit, Quota};
use crate::core::{Cost, Share};
use crate::error::ApiError;
use crate::metrics::AdmissionMetrics;

/// Why a tenant with too many requests at once is turned away, in metrics.
pub const CONCURRENT: &str = "concurrent";

/// Every tenant's limits.
pub struct Limits {
    live: Arc<dyn LiveState>,
    clock: Arc<dyn Clock>,
    scope: Scope,
    metrics: Arc<AdmissionMetrics>,
    running: Mutex<HashMap<TenantId, u32>>,
}

/// A tenant's permission to run one request. Dropping it settles what was reserved with what was used.
pub struct Permit {
    limits: Arc<Limits>,
    tenant: TenantId,
    quota: Quota,
    share: Share,
    reserved: f64,
    spent: AtomicU64,
    begun: AtomicBool,
    headers: HeaderMap,
}

impl Limits {
    /// Nobody runs anything yet; `scope` runs the settlements.
    pub fn new(
        live: Arc<dyn LiveState>,
        clock: Arc<dyn Clock>,
        scope: Scope,
        metrics: Arc<AdmissionMetrics>,
    ) -> Arc<Self> {
        Arc::new(Self { live, clock, scope, metrics, running: Mutex::default() })
    }

    /// Lets a request of this cost in.
    ///
    /// # Errors
    /// [`ApiError::Quota`], with the time after which it may succeed.
    pub async fn admit(
        self: &Arc<Self>,
        tenant: &TenantId,
        (quota, share): (Quota, Share),
        cost: Cost,
    ) -> Result<Arc<Permit>, ApiError> {
        let mut permit = self.enter(tenant, quota, share)?;
        let reserved = f64::from(cost.total());
        let mut taken = Vec::new();
        for limit in Limit::ALL {
            let Some(bucket) = quota.bucket(limit) else { continue };
            let cost = within(limit, reserved, bucket);
            let asked = self.take(tenant, limit, cost, bucket).await?;
            permit.headers.extend(headers(limit, bucket, asked));
            if let Take::Denied { retry_after } = asked {
                for (limit, cost, bucket) in taken {
                    self.give(tenant, limit, cost, bucket).await;
                }
                self.metrics.refused(share.priority, limit.as_str());
                return Err(quota_error(limit, retry_after, permit.headers.clone()));
            }
            taken.push((limit, cost, bucket));
        }
        permit.reserved = reserved;
        Ok(Arc::new(permit))
    }

    /// How much of a limit is left, and of how much; none where there is no such limit.
    ///
    /// # Errors
    /// The live state's.
    pub async fn left(
        &self,
        tenant: &TenantId,
        quota: &Quota,
        limit: Limit,
    ) -> Result<Option<(u64, u64)>, ApiError> {
        let Some(bucket) = quota.bucket(limit) else { return Ok(None) };
        let left = match self.take(tenant, limit, 0.0, bucket).await? {
            Take::Allowed { remaining } => remaining as u64,
            Take::Denied { .. } | Take::AboveCapacity => 0,
        };
        Ok(Some((bucket.capacity as u64, left)))
    }

    /// Requests that a tenant has at this gateway now.
    pub fn running(&self, tenant: &TenantId) -> u32 {
        self.running.lock().get(tenant).copied().unwrap_or(0)
    }

    fn enter(
        self: &Arc<Self>,
        tenant: &TenantId,
        quota: Quota,
        share: Share,
    ) -> Result<Permit, ApiError> {
        let mut running = self.running.lock();
        let count = running.entry(tenant.clone()).or_default();
        if *count >= quota.concurrent_max {
            self.metrics.refused(share.priority, CONCURRENT);
            let message = format!("at most {} requests at once", quota.concurrent_max);
            let (retry_after, headers) = (Duration::from_secs(1), Box::default());
            let code = Limit::Requests.code();
            return Err(ApiError::Quota { code, message, retry_after, headers });
        }
        *count += 1;
        drop(running);
        Ok(Permit {
            limits: Arc::clone(self),
            tenant: tenant.clone(),
            quota,
            share,
            reserved: 0.0,
            spent: AtomicU64::new(0),
            begun: AtomicBool::new(false),
            headers: HeaderMap::new(),
        })
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
        limit: Limit,
        cost: f64,
        bucket: Bucket,
    ) -> Result<Take, ApiError> {
        let now = self.clock.now().into();
        Ok(self.live.take(&key(tenant, limit), cost, bucket, now).await?)
    }

    /// Settles what a request used less than it reserved, or more.
    async fn settle(&self, tenant: &TenantId, rests: Vec<(Limit, f64, Bucket)>) {
        for (limit, rest, bucket) in rests {
            if rest >= 0.0 {
                self.give(tenant, limit, rest, bucket).await;
                continue;
            }
            let now = self.clock.now().into();
            if let Err(error) = self.live.charge(&key(tenant, limit), -rest, bucket, now).await {
                tracing::warn!(error.message = %error, "a charge was lost: {error}");
            }
        }
    }

    async fn give(&self, tenant: &TenantId, limit: Limit, cost: f64, bucket: Bucket) {
        let now = self.clock.now().into();
        if let Err(error) = self.live.refund(&key(tenant, limit), cost, bucket, now).await {
            tracing::warn!(error.message = %error, "a refund was lost: {error}");
        }
    }
}

impl Permit {
    /// Counts tokens that the request really used.
    pub fn spent(&self, tokens: u64) {
        self.spent.fetch_add(tokens, Ordering::Relaxed);
    }

    /// Whether nothing of the request has run before, which is asked once for each part of it.
    pub fn begins(&self) -> bool {
        !self.begun.swap(true, Ordering::Relaxed)
    }

    /// The request's part in the queue.
    pub const fn share(&self) -> Share {
        self.share
    }

    /// How many tokens fewer, or more, were used than reserved, where that is one at least.
    fn rests(&self) -> Vec<(Limit, f64, Bucket)> {
        let spent = self.spent.load(Ordering::Relaxed) as f64;
        let rest = |limit| {
            let bucket = self.quota.bucket(limit)?;
            Some((limit, within(limit, self.reserved, bucket) - spent, bucket))
        };
        let rests = [Limit::Tokens, Limit::DailyTokens].into_iter().filter_map(rest);
        rests.filter(|(_, rest, _)| rest.abs() >= 1.0).collect()
    }

    /// `x-ratelimit-*`.
    pub const fn headers(&self) -> &HeaderMap {
        &self.headers
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limits.leave(&self.tenant);
        let rests = self.rests();
        if rests.is_empty() {
            return;
        }
        let (limits, tenant) = (Arc::clone(&self.limits), self.tenant.clone());
        let settled = async move { limits.settle(&tenant, rests).await };
        self.limits.scope.spawn("settle", settled);
    }
}

fn key(tenant: &TenantId, limit: Limit) -> String {
    format!("rate/{tenant}/{}", limit.as_str())
}

/// What a request of so many tokens takes from a bucket: what is larger than it is let in when it is full.
fn within(limit: Limit, tokens: f64, bucket: Bucket) -> f64 {
    match limit {
        Limit::Requests => 1.0,
        Limit::Tokens | Limit::DailyTokens => tokens.min(bucket.capacity),
    }
}

fn quota_error(limit: Limit, retry_after: Duration, headers: HeaderMap) -> ApiError {
    let message = format!("this tenant's {} are used up", limit.words());
    ApiError::Quota { code: limit.code(), message, retry_after, headers: Box::new(headers) }
}

/// What is left, and when: all of it again, or, where nothing is, enough for what was asked. A day's limit
/// has no such headers.
fn headers(limit: Limit, bucket: Bucket, take: Take) -> HeaderMap {
    let what = limit.as_str();
    if limit == Limit::DailyTokens {
        return HeaderMap::new();
    }
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
