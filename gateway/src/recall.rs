//! What the registry said lately, for when it cannot be asked: running traffic goes on without it.
//! Owns: who called and what they used within five minutes. Never: an answer while the registry answers.
//!
//! A key is forgotten as soon as the registry, or this gateway, says that it is revoked.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;
use protocol::{AdapterName, Digest, GenerationId, KeyId, TenantId};
use store::StoreError;
use store::registry::{ApiKey, Generation};
use tokio::time::{Instant, timeout};

/// How long an answer may stand in for the registry.
const KEPT_FOR: Duration = Duration::from_mins(5);
/// Answers of one kind; at most so many keys and adapters are in use at once.
const KEPT_MAX: usize = 10_000;
/// How long the registry may take where an older answer would do.
const PATIENCE: Duration = Duration::from_millis(300);
/// How long it is left alone after it did not answer.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The answers that a running request needs.
#[derive(Debug, Default)]
pub struct Recall {
    keys: Kept<Digest, ApiKey>,
    adapters: Kept<(TenantId, Named), Generation>,
    /// Since when the registry does not answer, or when it last failed to.
    away: Mutex<Option<Instant>>,
}

/// How a request names an adapter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Named {
    /// By a name or alias.
    Name(AdapterName),
    /// By a generation.
    Id(GenerationId),
    /// By both.
    Both(AdapterName, GenerationId),
}

impl Recall {
    /// The key of a secret.
    ///
    /// # Errors
    /// The registry's, if nothing lately known can stand in.
    pub async fn key(
        &self,
        secret: Digest,
        ask: impl Future<Output = Result<Option<ApiKey>, StoreError>>,
    ) -> Result<Option<ApiKey>, StoreError> {
        let known = self.keys.get(&secret);
        let found = self.ask(known, ask).await?;
        if let Fresh::Yes(key) = &found {
            let valid = key.clone().filter(|key| key.revoked_at.is_none());
            self.keys.put(secret, valid);
        }
        Ok(found.into_inner())
    }

    /// The adapter that a tenant means.
    ///
    /// # Errors
    /// As [`Self::key`].
    pub async fn adapter(
        &self,
        tenant: &TenantId,
        named: Named,
        ask: impl Future<Output = Result<Option<Generation>, StoreError>>,
    ) -> Result<Option<Generation>, StoreError> {
        let place = (tenant.clone(), named);
        let found = self.ask(self.adapters.get(&place), ask).await?;
        if let Fresh::Yes(generation) = &found {
            self.adapters.put(place, generation.clone());
        }
        Ok(found.into_inner())
    }

    /// A key that was revoked through this gateway.
    pub fn forget(&self, key: &KeyId) {
        self.keys.kept.lock().retain(|_, (_, kept)| kept.id != *key);
    }

    /// What the registry says; where it cannot say anything, what is `known`.
    ///
    /// # Errors
    /// The registry's, if nothing is.
    pub async fn ask<T>(
        &self,
        known: Option<T>,
        ask: impl Future<Output = Result<Option<T>, StoreError>>,
    ) -> Result<Fresh<T>, StoreError> {
        let Some(known) = known else { return ask.await.map(Fresh::Yes) };
        if self.is_left_alone() {
            return Ok(Fresh::No(known));
        }
        let failure = match timeout(PATIENCE, ask).await {
            Ok(Ok(found)) => {
                if self.away.lock().take().is_some() {
                    tracing::warn!("the registry answers again");
                }
                return Ok(Fresh::Yes(found));
            }
            Ok(Err(error)) if !is_away(&error) => return Err(error),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the registry is slow".to_owned(),
        };
        if self.away.lock().replace(Instant::now()).is_none() {
            tracing::error!(error.message = failure, "going on with what is known: {failure}");
        }
        Ok(Fresh::No(known))
    }

    fn is_left_alone(&self) -> bool {
        self.away.lock().is_some_and(|failed_at| failed_at.elapsed() < ASK_AGAIN)
    }
}

/// An answer, and whether it is the registry's of now.
#[derive(Debug)]
pub enum Fresh<T> {
    /// It is.
    Yes(Option<T>),
    /// It is of some minutes ago.
    No(T),
}

impl<T> Fresh<T> {
    fn into_inner(self) -> Option<T> {
        match self {
            Self::Yes(found) => found,
            Self::No(known) => Some(known),
        }
    }
}

/// Whether the registry could not be asked, and did not answer otherwise.
fn is_away(error: &StoreError) -> bool {
    match error {
        StoreError::Unreachable { .. } | StoreError::TimedOut { .. } | StoreError::Busy { .. } => {
            true
        }
        // A connection that broke in the middle of an answer.
        StoreError::Query { source, .. } => source.as_database_error().is_none(),
        _ => false,
    }
}

/// Answers by what was asked, each with its time.
#[derive(Debug)]
struct Kept<K, V> {
    kept: Mutex<HashMap<K, (Instant, V)>>,
}

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self { kept: Mutex::default() }
    }
}

impl<K: Eq + Hash, V: Clone> Kept<K, V> {
    fn get(&self, key: &K) -> Option<V> {
        let kept = self.kept.lock();
        let (at, value) = kept.get(key)?;
        (at.elapsed() < KEPT_FOR).then(|| value.clone())
    }

    /// Keeps an answer, or forgets the one before.
    fn put(&self, key: K, value: Option<V>) {
        let mut kept = self.kept.lock();
        let Some(value) = value else {
            kept.remove(&key);
            return;
        };
        if kept.len() >= KEPT_MAX && !kept.contains_key(&key) {
            kept.retain(|_, (at, _)| at.elapsed() < KEPT_FOR);
            if kept.len() >= KEPT_MAX {
                return; // who was here first is kept; the others wait for the registry
            }
        }
        kept.insert(key, (Instant::now(), value));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::future::ready;

    use time::OffsetDateTime;

    use super::*;

    fn secret() -> Digest {
        Digest::of(b"secret")
    }

    fn key() -> ApiKey {
        ApiKey {
            id: KeyId::from("k"),
            tenant: TenantId::from("t"),
            name: "test".to_owned(),
            scopes: BTreeSet::default(),
            created_at: OffsetDateTime::UNIX_EPOCH,
            expires_at: None,
            revoked_at: None,
        }
    }

    fn away() -> Result<Option<ApiKey>, StoreError> {
        Err(StoreError::TimedOut { query: "key_by_secret", source: "gone".into() })
    }

    async fn known(recall: &Recall) -> bool {
        recall.key(secret(), ready(away())).await.is_ok_and(|found| found.is_some())
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_was_seen_lately_is_known_while_the_registry_is_away_and_no_longer() {
        let recall = Recall::default();
        assert!(recall.key(secret(), ready(away())).await.is_err(), "never seen");
        recall.key(secret(), ready(Ok(Some(key())))).await.expect("it is there");
        assert!(known(&recall).await);
        tokio::time::advance(KEPT_FOR.saturating_sub(Duration::from_secs(1))).await;
        assert!(known(&recall).await);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(!known(&recall).await, "too long ago");
    }

    #[tokio::test(start_paused = true)]
    async fn a_registry_that_is_slow_or_away_is_left_alone_for_a_moment() {
        let recall = Recall::default();
        recall.key(secret(), ready(Ok(Some(key())))).await.expect("it is there");
        let began = Instant::now();
        let slow = std::future::pending::<Result<Option<ApiKey>, StoreError>>;
        for _ in 0..10 {
            assert!(recall.key(secret(), slow()).await.expect("it is known").is_some());
        }
        assert_eq!(began.elapsed(), PATIENCE, "the first waits, the others need not");
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_was_seen_revoked_or_revoked_here_is_not_known() {
        let recall = Recall::default();
        recall.key(secret(), ready(Ok(Some(key())))).await.expect("it is there");
        let revoked = ApiKey { revoked_at: Some(OffsetDateTime::UNIX_EPOCH), ..key() };
        recall.key(secret(), ready(Ok(Some(revoked)))).await.expect("it is there");
        assert!(!known(&recall).await, "seen revoked");
        recall.key(secret(), ready(Ok(Some(key())))).await.expect("it is there");
        recall.forget(&KeyId::from("k"));
        assert!(!known(&recall).await, "revoked here");
    }

    #[tokio::test]
    async fn an_answer_of_the_registry_is_never_replaced() {
        let recall = Recall::default();
        recall.key(secret(), ready(Ok(Some(key())))).await.expect("it is there");
        assert!(recall.key(secret(), ready(Ok(None))).await.expect("it answers").is_none());
        assert!(!known(&recall).await);
        let broken = ready(Err(StoreError::Unreadable("key")));
        recall.key(secret(), ready(Ok(Some(key())))).await.expect("it is there");
        assert!(recall.key(secret(), broken).await.is_err(), "an error that is no absence");
    }
}
