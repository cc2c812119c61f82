//! Who is alive: nodes by their lease's end, and what each said of itself behind its epoch.

use std::time::Duration;

use protocol::NodeId;
use time::OffsetDateTime;

use super::script::{DROP_PRESENCE, Invocation, PRESENT, PUT_PRESENCE};
use super::{Redis, lease, milliseconds};
use crate::StoreError;
use crate::live::Presence;

/// An epoch has as many digits as the largest, so that it sorts as text: scripts know no whole numbers
/// above 2⁵³.
const EPOCH_DIGITS: usize = 20;

impl Redis {
    pub(super) async fn put_presence(
        &self,
        presence: Presence,
        ttl: Duration,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let limits = &self.config.limits;
        if presence.value.len() > limits.presence_bytes {
            return Err(StoreError::TooLarge { limit_bytes: limits.presence_bytes as u64 });
        }
        let (ends_at, length) = lease(ttl, now);
        let Presence { node, epoch, value } = presence;
        let put = Invocation::new(&PUT_PRESENCE, self.presence_keys());
        let put = put.arg(node.as_str()).arg(digits(epoch)).arg(&*value);
        let put = put.arg(ends_at).arg(milliseconds(now)).arg(length).arg(limits.nodes);
        let (answer, current): (String, String) = self.run(put).await?;
        match answer.as_str() {
            "ok" => Ok(()),
            "full" => Err(StoreError::Full { what: "nodes", limit: limits.nodes }),
            _ => Err(StoreError::Fenced {
                node,
                epoch,
                current: current.parse().unwrap_or(u64::MAX),
            }),
        }
    }

    pub(super) async fn drop_presence(&self, node: &NodeId, epoch: u64) -> Result<(), StoreError> {
        let drop = Invocation::new(&DROP_PRESENCE, self.presence_keys());
        Ok(self.run(drop.arg(node.as_str()).arg(digits(epoch))).await?)
    }

    pub(super) async fn present(&self, now: OffsetDateTime) -> Result<Vec<Presence>, StoreError> {
        let list = Invocation::new(&PRESENT, self.presence_keys()).arg(milliseconds(now));
        let found: Vec<(String, Vec<u8>)> = self.run(list).await?;
        let mut present: Vec<Presence> = found.into_iter().filter_map(read).collect();
        present.sort_by(|one, other| one.node.cmp(&other.node));
        Ok(present)
    }

    fn presence_keys(&self) -> [String; 2] {
        [self.key("presence"), self.key("leases")]
    }
}

pub(super) fn digits(epoch: u64) -> String {
    format!("{epoch:0EPOCH_DIGITS$}")
}

/// What a script wrote; anything else is nobody's presence.
fn read((node, mut held): (String, Vec<u8>)) -> Option<Presence> {
    let epoch = str::from_utf8(held.get(..EPOCH_DIGITS)?).ok()?.parse().ok()?;
    let value = held.split_off(EPOCH_DIGITS).into();
    Some(Presence { node: NodeId::from(node.as_str()), epoch, value })
}
