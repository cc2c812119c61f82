//! The node's link: dialled, proved, kept up, dialled again when it breaks.
//! Owns: the socket and the heartbeat. Never: what the work on it means.

mod backoff;
mod dial;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use protocol::frame::Assembler;
use protocol::link::{FromNode, Hello, JoinToken, PROTOCOL, Refusal, ToNode, Welcome, decode};
use protocol::{NodeCapabilities, NodeId};
use telemetry::Scope;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_tungstenite::tungstenite;

use crate::adapters::Session;
use crate::enroll::enrol;
use crate::executor::Executor;
use crate::http::Gateway;
use crate::metrics::NodeMetrics;
use crate::trust::Known;
use crate::work::LinkWork;
use crate::{Identity, NodeConfig, NodeError};

use dial::Linked;

/// A gateway pings every 5 s; one that says nothing for this long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How long the last words may take.
const FAREWELL_MAX: Duration = Duration::from_secs(5);
/// A link that lived this long was a good one: the next wait is short again.
const GOOD_AFTER: Duration = Duration::from_secs(10);

/// Everything that a link needs and that outlives it.
pub(crate) struct Links {
    config: NodeConfig,
    identity: Identity,
    gateways: Vec<Gateway>,
    known: Known,
    capabilities: NodeCapabilities,
    executor: Arc<Executor>,
    metrics: Arc<NodeMetrics>,
    /// The epoch of the latest session.
    latest: watch::Sender<u64>,
}

/// Links to gateways that are about to stop: they end with what runs on them.
type Left<'a> = FuturesUnordered<BoxFuture<'a, Result<(), NodeError>>>;

impl Links {
    /// # Errors
    /// [`NodeError::NoGateway`].
    pub(crate) fn new(
        config: NodeConfig,
        identity: Identity,
        (gateways, known): (Vec<Gateway>, Known),
        capabilities: NodeCapabilities,
        executor: Arc<Executor>,
        metrics: Arc<NodeMetrics>,
    ) -> Result<Self, NodeError> {
        if gateways.is_empty() {
            return Err(NodeError::NoGateway);
        }
        let latest = watch::channel(0).0;
        Ok(Self { config, identity, gateways, known, capabilities, executor, metrics, latest })
    }

    /// Keeps a link until `scope` is cancelled or a gateway asks the node to leave.
    ///
    /// # Errors
    /// Only what dialling again cannot mend.
    pub(crate) async fn keep(&self, scope: &Scope) -> Result<(), NodeError> {
        let (mut left, mut attempt) = (Left::new(), 0);
        for gateway in self.gateways.iter().cycle() {
            let started = Instant::now();
            let moves = Arc::new(Notify::new());
            let mut link = self.link_once(gateway, scope, Arc::clone(&moves)).boxed();
            let ended = beside(&mut left, async {
                tokio::select! {
                    ended = &mut link => Some(ended),
                    () = moves.notified() => None,
                }
            });
            let ended = ended.await;
            self.metrics.linked(false);
            let wait = match ended {
                Some(Ok(())) => break,
                // The gateway may close first where both were told to stop: that is no loss.
                Some(Err(_)) if scope.is_cancelled() => break,
                Some(Err(error)) if !error.retryable() => return Err(error),
                Some(Err(error)) => {
                    if started.elapsed() >= GOOD_AFTER {
                        attempt = 0;
                    }
                    let wait = backoff::wait(attempt, rand::random());
                    report(self.identity.node(), &error, wait);
                    wait
                }
                None => {
                    left.push(link);
                    attempt = 0;
                    tracing::info!("the gateway is about to stop: linking to another");
                    backoff::wait(0, rand::random())
                }
            };
            attempt = attempt.saturating_add(1);
            tokio::select! {
                () = scope.cancelled() => break,
                () = beside(&mut left, tokio::time::sleep(wait)) => self.metrics.reconnect(),
            }
        }
        while left.next().await.is_some() {}
        Ok(())
    }

    /// One link to its end; `moves` is told when the node shall have another.
    async fn link_once(
        &self,
        gateway: &Gateway,
        scope: &Scope,
        moves: Arc<Notify>,
    ) -> Result<(), NodeError> {
        let linked = tokio::select! {
            () = scope.cancelled() => return Ok(()),
            linked = self.dial(gateway) => linked?,
        };
        self.known.keep()?;
        let epoch = linked.welcome.epoch;
        tracing::info!(
            node.id = %self.identity.node(),
            link.epoch = epoch,
            "linked to the gateway in session {epoch}"
        );
        self.metrics.linked(true);
        self.latest.send_replace(epoch);
        if let Some(tell) = self.config.on_link {
            tell(&self.config, &gateway.base, self.identity.node());
        }
        self.serve(gateway, linked, &moves, scope).await
    }

    /// Links; a node that is not known spends its join token and tries once more.
    async fn dial(&self, gateway: &Gateway) -> Result<Linked, NodeError> {
        match self.dial_once(gateway).await {
            Err(NodeError::Refused { code: Refusal::UnknownNode, .. }) => {
                self.enrol(gateway, self.config.join_token.as_ref()).await?;
                self.dial_once(gateway).await
            }
            dialled => dialled,
        }
    }

    async fn dial_once(&self, gateway: &Gateway) -> Result<Linked, NodeError> {
        let hello = Hello {
            node: self.identity.node().clone(),
            protocol: PROTOCOL,
            capabilities: self.capabilities.clone(),
        };
        dial::dial(gateway, &self.identity, hello).await
    }

    async fn enrol(&self, gateway: &Gateway, token: Option<&JoinToken>) -> Result<(), NodeError> {
        let node = self.identity.node();
        let token = token.ok_or_else(|| NodeError::NotEnrolled(node.clone()))?;
        enrol(gateway, &self.identity, &self.config, token, rand::random()).await?;
        tracing::info!(node.id = %node, join_token.id = token.id(), "enrolled as node {node}");
        Ok(())
    }

    /// Serves one link to its end. `Ok` means that the node has drained and left.
    async fn serve(
        &self,
        gateway: &Gateway,
        linked: Linked,
        moves: &Notify,
        scope: &Scope,
    ) -> Result<(), NodeError> {
        let Linked { socket, assembler, welcome } = linked;
        let (sink, stream) = socket.split();
        let (out, queue) = mpsc::channel(writer::QUEUE_MAX);
        // It does not watch the scope: it must still send what is said while the node drains.
        let writer = writer::write(sink, queue);
        let mut written = self.executor.scope().spawn("link-writer", writer);
        let Welcome { epoch, session_token, heartbeat_every_ms, .. } = welcome;
        let session = Session { gateway: gateway.clone(), token: session_token };
        let work = LinkWork::new(Arc::clone(&self.executor), session, out.clone());
        work.follow_deletions();
        let mut reader = Reader::new(stream, assembler);
        let beat = Duration::from_millis(u64::from(heartbeat_every_ms.max(10)));
        let talk = Talk { links: self, out: &out, work: &work, epoch, moves };
        let talk = talk.run(&mut reader, beat, scope);
        tokio::select! {
            left = talk => left?,
            broke = &mut written => {
                return Err(broke.ok().and_then(Result::err).unwrap_or(NodeError::Closed));
            }
        }
        drop((work, out)); // the writer says goodbye when nobody can say more
        // Reading on until the gateway closes: to drop a socket with bytes unread makes the system
        // reset the connection, and the gateway would lose the last events.
        let farewell = async { tokio::join!(written, reader.hear_out()) };
        let _ = tokio::time::timeout(FAREWELL_MAX, farewell).await;
        Ok(())
    }
}

/// Waits for `main`, while links that were left go on to their end.
async fn beside<T>(left: &mut Left<'_>, main: impl Future<Output = T>) -> T {
    let mut main = std::pin::pin!(main);
    loop {
        tokio::select! {
            done = &mut main => return done,
            Some(_) = left.next() => {}
        }
    }
}

/// One link, from its welcome on.
struct Talk<'a> {
    links: &'a Links,
    out: &'a mpsc::Sender<FromNode>,
    work: &'a LinkWork,
    epoch: u64,
    moves: &'a Notify,
}

impl Talk<'_> {
    /// Reads, beats and drains. `Ok` once the node was told to leave and nothing runs any more, or has
    /// moved and nothing runs here any more.
    async fn run(
        &self,
        reader: &mut Reader<impl Stream<Item = Got> + Unpin>,
        heartbeat_every: Duration,
        scope: &Scope,
    ) -> Result<(), NodeError> {
        let executor = &self.links.executor;
        let mut beat = tokio::time::interval(heartbeat_every);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut leave_by, mut moving) = (None, false);
        loop {
            let draining = leave_by.is_some();
            let leave_at = leave_by.unwrap_or_else(Instant::now);
            let drain = tokio::select! {
                () = scope.cancelled(), if !draining => true,
                () = executor.idle(), if draining => return Ok(()),
                () = tokio::time::sleep_until(leave_at), if draining => return Ok(()),
                () = self.moved(), if moving => return Ok(()),
                _ = beat.tick() => {
                    self.beat().await?;
                    false
                }
                message = reader.next() => match message? {
                    ToNode::Execute(execute) => {
                        self.work.execute(*execute).await;
                        false
                    }
                    ToNode::Cancel { stream } => {
                        self.work.cancel(stream);
                        false
                    }
                    ToNode::Pin { generations } => {
                        self.work.pin(generations);
                        false
                    }
                    ToNode::Drain => true,
                    ToNode::Move => {
                        moving = !draining && self.begin_move();
                        false
                    }
                    ToNode::Refused { code, message } => {
                        return Err(NodeError::Refused { code, message });
                    }
                    ToNode::Challenge { .. } | ToNode::Welcome(_) => {
                        return Err(NodeError::OutOfTurn);
                    }
                },
            };
            if drain && leave_by.is_none() {
                executor.drain();
                leave_by = Some(Instant::now() + self.links.config.drain_max);
                beat.reset_immediately(); // the gateway shall know at once
            }
        }
    }

    async fn beat(&self) -> Result<(), NodeError> {
        if !self.links.executor.is_alive() {
            return Err(NodeError::EngineStopped);
        }
        let load = self.links.executor.load().await;
        self.out.send(FromNode::Heartbeat { load }).await.map_err(|_| NodeError::Closed)
    }

    /// Asks for another link; false where there is no other gateway: what runs here goes on to the end.
    fn begin_move(&self) -> bool {
        if self.links.gateways.len() < 2 {
            return false;
        }
        self.work.let_go();
        self.moves.notify_one();
        true
    }

    /// Ends when the node has a later session and nothing runs in this one.
    async fn moved(&self) {
        let mut latest = self.links.latest.subscribe();
        // The sender lives as long as this link.
        let _ = latest.wait_for(|latest| *latest > self.epoch).await;
        self.work.idle().await;
    }
}

/// What a socket yields.
type Got = Result<tungstenite::Message, tungstenite::Error>;

/// Messages from the gateway.
struct Reader<S> {
    stream: S,
    assembler: Assembler,
    /// When the gateway last said anything. It is kept here because whoever waits for [`Self::next`]
    /// stops waiting at each heartbeat of its own, which must not make the gateway seem alive.
    heard_at: Instant,
}

impl<S: Stream<Item = Got> + Unpin> Reader<S> {
    fn new(stream: S, assembler: Assembler) -> Self {
        Self { stream, assembler, heard_at: Instant::now() }
    }

    /// The next message. Cancel safe: what was read is in the assembler or returned.
    async fn next(&mut self) -> Result<ToNode, NodeError> {
        loop {
            let silent_at = self.heard_at + SILENCE_MAX;
            let got = tokio::time::timeout_at(silent_at, self.stream.next()).await;
            let frame = dial::next_frame(got.map_err(|_| NodeError::Silent)?)?;
            self.heard_at = Instant::now();
            let Some(frame) = frame else { continue };
            if let Some(message) = self.assembler.accept(&frame)? {
                return Ok(decode(&message.bytes)?);
            }
        }
    }

    /// Until the gateway has closed; what it still says does not matter any more.
    async fn hear_out(&mut self) {
        while let Some(Ok(_)) = self.stream.next().await {}
    }
}

fn report(node: &NodeId, error: &NodeError, wait: Duration) {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    tracing::warn!(
        node.id = %node,
        error.code = error.code(),
        error.cause = cause,
        "no link: {error}; dialling again in {wait:.1?}"
    );
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use protocol::frame::Limits;
    use tungstenite::{Bytes, Message};

    use super::*;

    /// Waits as a link does: each of the node's own heartbeats interrupts the wait.
    async fn hear(gateway: impl Stream<Item = Got> + Unpin) -> Result<ToNode, NodeError> {
        let mut reader = Reader::new(gateway, Assembler::new(Limits::default()));
        let mut beat = tokio::time::interval(SILENCE_MAX / 6);
        loop {
            tokio::select! {
                _ = beat.tick() => {}
                heard = reader.next() => return heard,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_that_says_nothing_is_given_up_although_the_node_goes_on_beating() {
        let started = Instant::now();
        let silent = tokio::time::timeout(2 * SILENCE_MAX, hear(stream::pending())).await;
        assert!(matches!(silent, Ok(Err(NodeError::Silent))), "{silent:?}");
        assert_eq!(started.elapsed(), SILENCE_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_that_only_pings_is_there() {
        let pings = stream::unfold((), |()| async {
            tokio::time::sleep(SILENCE_MAX / 2).await;
            Some((Ok(Message::Ping(Bytes::new())), ()))
        });
        let heard = tokio::time::timeout(3 * SILENCE_MAX, hear(Box::pin(pings))).await;
        assert!(heard.is_err(), "no message and no end: {heard:?}");
    }
}
