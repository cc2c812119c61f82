//! What a tenant may ask for: what the registry says, and the gateway's settings for the rest.
//!
//! The registry's word is at most [`FRESH_FOR`] old while it answers. While it does not, the last one
//! stands, or the settings for a tenant that was never seen.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use protocol::{Priority, TenantId};
use store::live::Bucket;
use store::registry::TenantLimits;
use tokio::time::Instant;

use crate::app::App;
use crate::config::GatewayConfig;
use crate::core::Share;
use crate::error::ApiError;
use crate::recall::Fresh;

/// How long an answer of the registry is not asked for again.
const FRESH_FOR: Duration = Duration::from_secs(3);
/// Tenants whose limits are remembered; others are asked for each time.
const KEPT_MAX: usize = 10_000;

/// A tenant's limits as they apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// How large its share is where requests wait.
    pub weight: u32,
    /// The most urgent that it may ask for.
    pub priority: Priority,
    /// Requests at once.
    pub concurrent_max: u32,
    /// Requests in a minute.
    pub requests_per_minute: u32,
    /// Tokens in a minute.
    pub tokens_per_minute: u32,
    /// Tokens in a day.
    pub tokens_per_day: Option<u64>,
}

/// What a tenant has a limit for, over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Requests in a minute.
    Requests,
    /// Tokens in a minute.
    Tokens,
    /// Tokens in a day.
    DailyTokens,
}

impl Limit {
    /// Every one, in the order in which a request meets them.
    pub const ALL: [Self; 3] = [Self::Requests, Self::Tokens, Self::DailyTokens];

    /// Its name in the live state, in metrics, and for the first two in headers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::DailyTokens => "daily_tokens",
        }
    }

    /// The code of the answer when it is used up.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Requests | Self::Tokens => "rate_limit_exceeded",
            Self::DailyTokens => "insufficient_quota",
        }
    }

    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Requests => "requests per minute",
            Self::Tokens => "tokens per minute",
            Self::DailyTokens => "tokens per day",
        }
    }
}

impl Quota {
    /// What is set for a tenant, and the gateway's settings for the rest.
    pub fn of(config: &GatewayConfig, set: &TenantLimits) -> Self {
        let or = |set: Option<u32>, usual| set.unwrap_or(usual);
        Self {
            weight: or(set.weight, 1),
            priority: set.priority.unwrap_or_default(),
            concurrent_max: or(set.concurrent_max, config.tenant_concurrent_max),
            requests_per_minute: or(set.requests_per_minute, config.tenant_requests_per_minute),
            tokens_per_minute: or(set.tokens_per_minute, config.tenant_tokens_per_minute),
            tokens_per_day: set.tokens_per_day.or(config.tenant_tokens_per_day),
        }
    }

    /// The tenant's part in the queue at the priority that was asked for; none asked means the highest.
    ///
    /// # Errors
    /// 403 for a priority that the tenant may not have.
    pub fn share(&self, asked: Option<Priority>) -> Result<Share, ApiError> {
        let (most, weight) = (self.priority, self.weight);
        match asked {
            Some(asked) if asked < most => {
                let message = format!("this tenant's requests are `{most}` at most, not `{asked}`");
                Err(ApiError::Forbidden { code: "priority_not_allowed", message })
            }
            asked => Ok(Share { priority: asked.unwrap_or(most), weight }),
        }
    }

    /// The bucket of a limit; its capacity is what its time brings.
    pub fn bucket(&self, limit: Limit) -> Option<Bucket> {
        const MINUTE: f64 = 60.0;
        const DAY: f64 = 86_400.0;
        let (capacity, seconds) = match limit {
            Limit::Requests => (f64::from(self.requests_per_minute), MINUTE),
            Limit::Tokens => (f64::from(self.tokens_per_minute), MINUTE),
            Limit::DailyTokens => (self.tokens_per_day? as f64, DAY),
        };
        Some(Bucket { capacity, refill_per_second: capacity / seconds })
    }
}

/// What the registry last said of tenants' limits.
#[derive(Debug, Default)]
pub struct Quotas {
    kept: Mutex<HashMap<TenantId, Kept>>,
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    limits: TenantLimits,
    asked_at: Instant,
}

impl Quotas {
    /// What applies to a tenant now.
    pub async fn of(&self, app: &App, tenant: &TenantId) -> Quota {
        let (limits, is_fresh) = self.known(tenant);
        if is_fresh {
            return Quota::of(&app.config, &limits);
        }
        let asked = async { Ok(app.registry.tenant(tenant).await?.map(|found| found.limits)) };
        let limits = match app.recall.ask(Some(limits), asked).await {
            Ok(Fresh::Yes(found)) => self.keep(tenant, found.unwrap_or_default()),
            Ok(Fresh::No(known)) => known,
            Err(error) => {
                tracing::warn!(error.message = %error, "a tenant's limits cannot be read: {error}");
                limits
            }
        };
        Quota::of(&app.config, &limits)
    }

    /// Asks again next time: this gateway has changed them.
    pub fn forget(&self, tenant: &TenantId) {
        self.kept.lock().remove(tenant);
    }

    /// Makes what was said last older.
    #[cfg(test)]
    pub fn age(&self, by: Duration) {
        for known in self.kept.lock().values_mut() {
            known.asked_at -= by;
        }
    }

    /// What was said last, and whether that is good enough. Whoever is told that it is not asks, and the
    /// others go on with it meanwhile.
    fn known(&self, tenant: &TenantId) -> (TenantLimits, bool) {
        let mut kept = self.kept.lock();
        let Some(known) = kept.get_mut(tenant) else { return (TenantLimits::default(), false) };
        let is_fresh = known.asked_at.elapsed() < FRESH_FOR;
        if !is_fresh {
            known.asked_at = Instant::now();
        }
        (known.limits, is_fresh)
    }

    fn keep(&self, tenant: &TenantId, limits: TenantLimits) -> TenantLimits {
        let (mut kept, asked_at) = (self.kept.lock(), Instant::now());
        if kept.len() >= KEPT_MAX && !kept.contains_key(tenant) {
            kept.retain(|_, known| known.asked_at.elapsed() < FRESH_FOR);
        }
        if kept.len() < KEPT_MAX || kept.contains_key(tenant) {
            kept.insert(tenant.clone(), Kept { limits, asked_at });
        }
        limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_wins_over_the_settings_one_by_one() {
        let config = GatewayConfig { tenant_tokens_per_day: Some(7), ..GatewayConfig::default() };
        let set = TenantLimits { weight: Some(3), concurrent_max: Some(2), ..Default::default() };
        let quota = Quota::of(&config, &set);
        assert_eq!((quota.weight, quota.concurrent_max), (3, 2));
        assert_eq!(quota.requests_per_minute, config.tenant_requests_per_minute);
        assert_eq!(quota.bucket(Limit::DailyTokens).map(|bucket| bucket.capacity), Some(7.0));
        let none = Quota::of(&GatewayConfig::default(), &set);
        assert_eq!(none.bucket(Limit::DailyTokens), None);
    }

    #[test]
    fn nobody_gets_more_urgent_than_it_may_and_who_asks_for_nothing_gets_the_most() {
        let set = TenantLimits { priority: Some(Priority::Batch), ..Default::default() };
        let quota = Quota::of(&GatewayConfig::default(), &set);
        let asked = |priority| quota.share(priority).map(|share| share.priority);
        assert_eq!(asked(None).ok(), Some(Priority::Batch));
        assert_eq!(asked(Some(Priority::Background)).ok(), Some(Priority::Background));
        let refused = asked(Some(Priority::Interactive)).expect_err("it may not");
        assert_eq!((refused.status().as_u16(), refused.code()), (403, "priority_not_allowed"));
    }
}
