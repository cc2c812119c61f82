//! Keeps a link honest: presence at each heartbeat; revocation, later sessions and pins in between.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::link::Refusal;
use protocol::{GatewayId, GenerationId, NodeKind, NodeLoad};
use scheduler::core::NodePresence;
use store::StoreError;
use store::live::Presence;
use store::registry::{Adapter, Current, GenerationState};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::Links;
use super::live::Link;

/// Adapters that presence names.
const RESIDENT_MAX: usize = 256;

/// The latest heartbeat; the link's opening is the first.
#[derive(Debug, Clone)]
pub(super) struct Beat {
    count: u64,
    load: NodeLoad,
    /// What was open on the link then, by the gateway whose it is.
    open: BTreeMap<GatewayId, u32>,
}

impl Beat {
    pub(super) fn first() -> Self {
        Self { count: 1, load: NodeLoad::default(), open: BTreeMap::new() }
    }

    pub(super) fn next(&mut self, load: NodeLoad, open: BTreeMap<GatewayId, u32>) {
        self.count += 1;
        (self.load, self.open) = (plausible(load), open);
    }
}

/// What a node says of itself, with what cannot be true taken out.
fn plausible(mut load: NodeLoad) -> NodeLoad {
    load.resident.truncate(RESIDENT_MAX);
    let rates = [
        &mut load.kv_used_ratio,
        &mut load.prefill_tokens_per_second,
        &mut load.decode_tokens_per_second,
    ];
    for rate in rates {
        *rate = if rate.is_finite() { rate.max(0.0) } else { 0.0 };
    }
    load.battery_ratio = load.battery_ratio.filter(|ratio| (0.0..=1.0).contains(ratio));
    load.temperature_celsius = load.temperature_celsius.filter(|celsius| celsius.is_finite());
    load
}

/// Runs until the link closes, then takes the presence away. A store that fails is worked around:
/// links do not fall because a database does.
pub(super) async fn keep(links: Links, link: Arc<Link>, mut beats: watch::Receiver<Beat>) {
    let config = &links.0.config;
    let mut check = tokio::time::interval(config.check_every);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut touch_at = Instant::now() + config.touch_every;
    let mut pins = None;
    beats.mark_changed();
    loop {
        let kept = tokio::select! {
            () = link.mux.closing.cancelled() => break,
            changed = beats.changed() => {
                if changed.is_err() {
                    break;
                }
                let beat = beats.borrow_and_update().clone();
                announce(&links, &link, beat).await
            }
            _ = check.tick() => match look(&links, &link, &mut touch_at).await {
                Ok(()) => pin(&links, &link, &mut pins).await,
                failed => failed,
            },
        };
        if let Err(error) = kept {
            judge(&links, &link, &error);
        }
    }
    let dropped = links.0.context.live.drop_presence(link.node(), link.epoch).await;
    if let Err(error) = dropped {
        judge(&links, &link, &error);
    }
}

async fn announce(links: &Links, link: &Link, beat: Beat) -> Result<(), StoreError> {
    let presence = NodePresence {
        id: link.node().clone(),
        tenant: link.record.tenant.clone(),
        epoch: link.epoch,
        beat: beat.count,
        capabilities: link.capabilities.clone(),
        load: beat.load,
        gateway: links.0.context.gateway.clone(),
        open: beat.open,
    };
    let value = presence.to_bytes().into();
    let presence = Presence { node: presence.id, epoch: presence.epoch, value };
    let lease = links.0.config.lease;
    links.0.context.live.put_presence(presence, lease, links.now()).await
}

/// Is the node still welcome, and is this still its latest session?
async fn look(links: &Links, link: &Link, touch_at: &mut Instant) -> Result<(), StoreError> {
    let registry = &links.0.context.registry;
    if *touch_at <= Instant::now() {
        *touch_at = Instant::now() + links.0.config.touch_every;
        return registry.touch_node(link.node(), link.epoch, links.now()).await;
    }
    match registry.node(link.node()).await? {
        None => link.close(Refusal::UnknownNode),
        Some(record) if record.revoked_at.is_some() => link.close(Refusal::Revoked),
        Some(record) if record.session_epoch > link.epoch => replaced(links, link),
        Some(_) => {}
    }
    Ok(())
}

/// Tells the node which adapters to keep in memory, when it links and whenever that has changed: no
/// others than it may fetch.
async fn pin(
    links: &Links,
    link: &Link,
    told: &mut Option<Vec<GenerationId>>,
) -> Result<(), StoreError> {
    let adapters = links.0.context.registry.pinned_adapters().await?;
    let firmwares = &link.capabilities.firmwares;
    let runs = |current: &Current| {
        let here = firmwares.iter().any(|info| info.id == current.firmware);
        here && current.state == GenerationState::Serving
    };
    let node = &link.record;
    let may_fetch = |one: &Adapter| node.kind == NodeKind::Worker || one.usable_by(&node.tenant);
    let current = adapters.into_iter().filter(may_fetch).filter_map(|adapter| adapter.current);
    let wanted: Vec<GenerationId> = current.filter(runs).map(|current| current.id).collect();
    if told.as_ref() != Some(&wanted) && link.pin(wanted.clone()) {
        *told = Some(wanted);
    }
    Ok(())
}

/// A later session elsewhere: another holder of the key, or the node itself, which was asked to move and
/// ends here what runs.
fn replaced(links: &Links, link: &Link) {
    if !links.is_draining() {
        link.close(Refusal::Fenced);
    }
}

fn judge(links: &Links, link: &Link, error: &StoreError) {
    match error {
        StoreError::Fenced { .. } => replaced(links, link),
        StoreError::NodeRevoked(_) => link.close(Refusal::Revoked),
        StoreError::NotFound { .. } => link.close(Refusal::UnknownNode),
        error => tracing::warn!(
            node.id = %link.node(),
            error.code = error.code(),
            "node {} cannot be kept in the store: {error}",
            link.node()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_that_cannot_be_true_is_made_plausible() {
        let mut beat = Beat::first();
        let load = NodeLoad {
            kv_used_ratio: f32::NAN,
            decode_tokens_per_second: -1.0,
            prefill_tokens_per_second: f32::INFINITY,
            battery_ratio: Some(7.0),
            temperature_celsius: Some(f32::NAN),
            ..NodeLoad::default()
        };
        beat.next(load, BTreeMap::new());
        assert_eq!((beat.count, beat.load), (2, NodeLoad::default()));
    }
}
