//! The one connection that all calls share, and what becomes of them when it breaks.
//!
//! No call outlives its deadline. One that got no answer gives the connection up, so that a server
//! that vanished without a word is noticed; what is still under way on it may end. The next call makes
//! a new connection, one at a time.

use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, FromRedisValue, RedisResult};
use tokio::time::{Instant, timeout_at};

use super::error::LiveError;
use super::script::Invocation;
use crate::metrics::LiveMetrics;

pub(super) struct Connection {
    client: Client,
    open: Mutex<Open>,
    connecting: tokio::sync::Mutex<()>,
    metrics: LiveMetrics,
}

/// `count` tells a connection from the ones before it.
#[derive(Default)]
struct Open {
    count: u64,
    connection: Option<MultiplexedConnection>,
}

impl Connection {
    pub(super) fn new(client: Client, metrics: LiveMetrics) -> Self {
        let (open, connecting) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { client, open, connecting, metrics }
    }

    /// Runs a script, all in all within `deadline`.
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        invocation: &Invocation,
        deadline: Duration,
    ) -> Result<T, LiveError> {
        let began = Instant::now();
        let answer = self.ask(invocation, deadline).await;
        self.metrics.called(invocation.script.name, began.elapsed(), answer.is_err());
        answer
    }

    async fn ask<T: FromRedisValue>(
        &self,
        invocation: &Invocation,
        deadline: Duration,
    ) -> Result<T, LiveError> {
        let (call, due) = (invocation.script.name, Instant::now() + deadline);
        let late = |_| LiveError::Timeout { call, deadline };
        let failed = |error| LiveError::new(call, error);
        let (count, connection) =
            timeout_at(due, self.connected()).await.map_err(late)?.map_err(failed)?;
        let answer = timeout_at(due, invocation.ask(connection)).await;
        let answer = answer.map_err(late).and_then(|answer| answer.map_err(failed));
        if answer.as_ref().is_err_and(LiveError::is_lost) {
            self.give_up(count);
        }
        answer
    }

    async fn connected(&self) -> RedisResult<(u64, MultiplexedConnection)> {
        if let Some(open) = self.opened() {
            return Ok(open);
        }
        let _one_at_a_time = self.connecting.lock().await;
        if let Some(open) = self.opened() {
            return Ok(open);
        }
        // Each call has its own deadline, for the connecting too.
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        let mut open = self.open.lock();
        open.count += 1;
        open.connection = Some(connection.clone());
        Ok((open.count, connection))
    }

    fn opened(&self) -> Option<(u64, MultiplexedConnection)> {
        let open = self.open.lock();
        Some((open.count, open.connection.clone()?))
    }

    fn give_up(&self, count: u64) {
        let mut open = self.open.lock();
        if open.count == count {
            open.connection = None;
        }
    }
}
