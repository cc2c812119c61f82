//! The routing snapshot and the number of gateways: looked at over and over.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::Digest;
use tokio::sync::{Mutex, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::Redis;
use super::error::LiveError;
use super::script::{Invocation, KEEP, PUBLISH};
use crate::StoreError;

/// A snapshot reaches the other gateways within this.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long a gateway that is silent counts as one.
const GATEWAY_TTL: Duration = Duration::from_mins(10);

/// How long a snapshot outlives who published it; while that one is there it puts it back.
const SNAPSHOT_TTL: Duration = Duration::from_hours(1);

/// The latest snapshot that is known here.
pub(super) struct Routing {
    snapshot: watch::Sender<Bytes>,
    /// Held during a call, so that an older answer never comes after a newer one.
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    version: String,
    /// Published here: put back if Redis loses it.
    ours: bool,
}

impl Default for Routing {
    fn default() -> Self {
        Self { snapshot: watch::channel(Bytes::new()).0, known: Mutex::default() }
    }
}

impl Routing {
    pub(super) fn watch(&self) -> watch::Receiver<Bytes> {
        self.snapshot.subscribe()
    }

    fn latest(&self) -> Bytes {
        self.snapshot.borrow().clone()
    }
}

/// Follows the snapshot and counts the gateways, until it is dropped.
pub(super) async fn keep(redis: Arc<Redis>) {
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut fails = false;
    loop {
        looks.tick().await;
        let look = redis.look().await;
        if let (Err(error), false) = (&look, fails) {
            tracing::warn!(error.code = error.code(), "routing stays as it is: {error}");
        }
        fails = look.is_err();
    }
}

impl Redis {
    pub(super) async fn publish_routing(&self, snapshot: Bytes) -> Result<(), StoreError> {
        let limit = self.config.limits.routing_bytes;
        if snapshot.len() > limit {
            return Err(StoreError::TooLarge { limit_bytes: limit as u64 });
        }
        let mut known = self.routing.known.lock().await;
        self.write(&mut known, snapshot.clone()).await?;
        self.routing.snapshot.send_replace(snapshot);
        Ok(())
    }

    /// Says that this gateway is there, and takes over what others have published.
    pub(super) async fn look(&self) -> Result<(), LiveError> {
        let mut known = self.routing.known.lock().await;
        let keys = ["gateways", "birth", "routing"].map(|name| self.key(name));
        let look = Invocation::new(&KEEP, keys).arg(format!("{:032x}", self.config.gateway));
        let look = look.arg(GATEWAY_TTL.as_millis() as u64).arg(known.version.as_str());
        let (gateways, all_spoke, version, snapshot): (usize, bool, String, Vec<u8>) =
            self.run(look).await?;
        self.quotas.know_gateways(gateways, all_spoke);
        if version.is_empty() {
            let latest = self.routing.latest();
            return if known.ours { self.write(&mut known, latest).await } else { Ok(()) };
        }
        if version != known.version {
            *known = Known { version, ours: false };
            self.routing.snapshot.send_replace(snapshot.into());
        }
        Ok(())
    }

    async fn write(&self, known: &mut Known, snapshot: Bytes) -> Result<(), LiveError> {
        let version = Digest::of(&snapshot).to_string();
        let publish = Invocation::new(&PUBLISH, [self.key("routing")]);
        let publish =
            publish.arg(version.as_str()).arg(&*snapshot).arg(SNAPSHOT_TTL.as_millis() as u64);
        self.run::<()>(publish).await?;
        *known = Known { version, ours: true };
        Ok(())
    }
}
