//! A caller: a tenant with rights.

use std::collections::BTreeSet;

use axum::extract::FromRequestParts;
use http::request::Parts;
use protocol::{KeyId, TenantId};

use crate::error::ApiError;

/// The tenant of callers without a key, and of the operator.
pub const LOCAL_TENANT: &str = "local";

/// What a key may do; the text is the key's scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    /// Run models.
    Inference,
    /// Bring, move and delete adapters.
    Adapters,
    /// Keys, nodes and join tokens of its tenant; in the tenant `local`, what belongs to all: workers,
    /// adapters from the server's disk, metrics.
    Admin,
    /// In the tenant `local`: see the metrics, and where nodes have theirs. Nothing else.
    Metrics,
}

/// A set of rights.
pub type Rights = BTreeSet<Right>;

impl Right {
    /// Every right.
    pub const ALL: [Self; 4] = [Self::Inference, Self::Adapters, Self::Admin, Self::Metrics];

    /// The scope's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inference => "inference",
            Self::Adapters => "adapters",
            Self::Admin => "admin",
            Self::Metrics => "metrics",
        }
    }

    /// The right of this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|right| right.as_str() == text)
    }
}

/// Who calls. It is in a request only behind [`super::guard`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Whose adapters and limits apply.
    pub tenant: TenantId,
    /// What the caller may do.
    pub rights: Rights,
    /// The key that was shown.
    pub key: Option<KeyId>,
}

impl Caller {
    /// A program on this machine, without a key.
    pub fn local() -> Self {
        Self { tenant: TenantId::from(LOCAL_TENANT), rights: Right::ALL.into(), key: None }
    }

    /// Whether the caller runs this installation, and not only a tenant of it.
    pub fn is_operator(&self) -> bool {
        self.tenant.as_str() == LOCAL_TENANT && self.rights.contains(&Right::Admin)
    }

    /// Whether the caller may see the metrics of this installation.
    pub fn sees_metrics(&self) -> bool {
        let scraper = self.tenant.as_str() == LOCAL_TENANT && self.rights.contains(&Right::Metrics);
        scraper || self.is_operator()
    }

    /// Whether the caller is there to see metrics and for nothing else.
    pub fn only_sees_metrics(&self) -> bool {
        self.rights.iter().eq([&Right::Metrics])
    }

    /// How the audit log names the caller.
    pub fn actor(&self) -> String {
        self.key.as_ref().map_or_else(|| "loopback".to_owned(), |key| format!("key/{key}"))
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or(ApiError::Internal("a route without a guard asked for its caller"))
    }
}
