//! Keeps the connection to one gateway: dials, serves it to its end, dials again.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use protocol::link::{decode, encode};
use protocol::peer::{ToDialler, ToHolder};

use super::dial::{Dialled, PeerError, dial, frame};
use super::{Peer, Peers};
use crate::link::{FAREWELL_MAX, Mux, MuxLimits, pump};

const WAIT_BASE: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Requests that one gateway may have open at another, over all of its nodes.
const STREAMS_MAX: usize = 8192;

/// Runs until the gateway is not to be dialled any more.
pub(super) async fn keep(peers: Peers, peer: Arc<Peer>) {
    let mut attempt = 0_u32;
    while !peer.gone.is_cancelled() {
        let dialled = tokio::select! {
            () = peer.gone.cancelled() => break,
            dialled = dial(&peer.address, &peers.0.me, &peer.id, &peers.0.keys) => dialled,
        };
        let ended = match dialled {
            Ok(dialled) => {
                attempt = 0;
                serve(&peers, &peer, dialled).await
            }
            Err(error) => error,
        };
        // Full jitter, as for nodes: gateways that lost one together do not come back together.
        let ceiling = WAIT_BASE.saturating_mul(1 << attempt.min(16)).min(WAIT_MAX);
        let wait = ceiling.mul_f64(rand::random::<f64>());
        attempt = attempt.saturating_add(1);
        if !peer.gone.is_cancelled() {
            let cause = std::error::Error::source(&ended).map(ToString::to_string);
            tracing::warn!(
                gateway.id = %peer.id,
                error.cause = cause,
                "gateway {} is out of reach: {ended}; dialling again in {wait:.1?}",
                peer.id
            );
        }
        tokio::select! {
            () = peer.gone.cancelled() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Serves one connection to its end; why it ended.
async fn serve(peers: &Peers, peer: &Peer, dialled: Dialled) -> PeerError {
    let Dialled { socket, mut assembler } = dialled;
    let config = &peers.0.config;
    let limits = MuxLimits { streams_max: STREAMS_MAX, events_max: config.events_max };
    let cancel = |stream| encode(&ToHolder::Cancel { stream });
    let mux = Arc::new(Mux::new(limits, cancel, peer.gone.child_token()));
    peers.set(peer, Some(Arc::clone(&mux)));
    tracing::info!(gateway.id = %peer.id, "gateway {} is in reach", peer.id);
    let (mut sink, mut stream) = socket.split();
    let read = async {
        loop {
            let got = tokio::time::timeout(config.peer_silence_max, stream.next()).await;
            let Some(frame) = frame(got.map_err(|_| PeerError::Silent)?)? else { continue };
            let Some(message) = assembler.accept(&frame)? else { continue };
            match decode(&message.bytes)? {
                ToDialler::Event { stream, event } => {
                    mux.deliver(stream, event);
                }
                ToDialler::Failed { stream, error } => mux.fail(stream, error),
                ToDialler::Proof { .. } | ToDialler::Welcome { .. } => {
                    return Err::<(), _>(PeerError::OutOfTurn);
                }
            }
        }
    };
    // Side by side in one task: to write never waits for long, and to read never but for the other side.
    let ended = tokio::select! {
        ended = read => ended.err(),
        () = pump(&mux, &mut sink, config.ping_every, config.write_stall_max) => None,
    };
    peers.set(peer, None);
    peers.0.metrics.lost(mux.end());
    let _ = tokio::time::timeout(FAREWELL_MAX, sink.close()).await;
    ended.unwrap_or(PeerError::Closed)
}
