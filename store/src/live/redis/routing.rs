//! The routing snapshot and the number of gateways: looked at over and over.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::Digest;
use tokio::sync::{Mutex, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::Redis;
use super::error::LiveError;
use super::presence::digits;
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
    /// The epoch of the leader who published it.
    leader: u64,
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
    pub(super) async fn publish_routing(
        &self,
        leader: u64,
        snapshot: Bytes,
    ) -> Result<(), StoreError> {
        let limit = self.config.limits.routing_bytes;
        if snapshot.len() > limit {
            return Err(StoreError::TooLarge { limit_bytes: limit as u64 });
        }
        let mut known = self.routing.known.lock().await;
        let current = match known.leader {
            later if later > leader => later, // also if Redis has lost it
            _ => self.write(&mut known, leader, snapshot.clone()).await?,
        };
        if current > leader {
            return Err(StoreError::OldLeader { epoch: leader, current });
        }
        self.routing.snapshot.send_replace(snapshot);
        Ok(())
    }

    /// Says that this gateway is there, and takes over what others have published.
    pub(super) async fn look(&self) -> Result<(), LiveError> {
        let mut known = self.routing.known.lock().await;
        let keys = ["gateways", "birth", "routing"].map(|name| self.key(name));
        let look = Invocation::new(&KEEP, keys).arg(format!("{:032x}", self.config.gateway));
        let look = look.arg(GATEWAY_TTL.as_millis() as u64).arg(known.version.as_str());
        let (gateways, all_spoke, version, leader, snapshot): (usize, bool, String, u64, Vec<u8>) =
            self.run(look).await?;
        self.quotas.know_gateways(gateways, all_spoke);
        if version.is_empty() || leader < known.leader {
            // Lost, or an earlier leader used the loss: whoever published it puts it back.
            if known.ours {
                let (leader, latest) = (known.leader, self.routing.latest());
                self.write(&mut known, leader, latest).await?;
            }
        } else if version != known.version {
            *known = Known { version, leader, ours: false };
            self.routing.snapshot.send_replace(snapshot.into());
        }
        Ok(())
    }

    /// The epoch of the latest leader; above `leader`, nothing was written.
    async fn write(
        &self,
        known: &mut Known,
        leader: u64,
        snapshot: Bytes,
    ) -> Result<u64, LiveError> {
        let version = version(leader, &snapshot);
        let publish = Invocation::new(&PUBLISH, [self.key("routing")]);
        let publish = publish.arg(version.as_str()).arg(&*snapshot);
        let publish = publish.arg(SNAPSHOT_TTL.as_millis() as u64).arg(digits(leader));
        let current: u64 = self.run(publish).await?;
        if current > leader {
            known.ours = false; // not ours to put back any more
        } else {
            *known = Known { version, leader, ours: true };
        }
        Ok(current)
    }
}

/// What tells a snapshot from others. The same nodes by another leader are another snapshot.
fn version(leader: u64, snapshot: &Bytes) -> String {
    format!("{leader}:{}", Digest::of(snapshot))
}
