//! Where live state is: in this process, or in a Redis that several gateways share.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use secrecy::{ExposeSecret as _, SecretString};
use store::{RedisConfig, RedisLiveState, StoreError};
use tls::Authorities;

use super::record::Record;
use crate::failure::{Exit, Failure};
use crate::secret;

/// Settings of the live state.
#[derive(Debug, Clone, Args)]
pub struct LiveArguments {
    /// Redis for presence, routing, rate limits and stream logs, as redis://user:password@host:6379/0, or
    /// with rediss:// over TLS [default: in this process].
    #[arg(long, env = "FIRMAMENT_LIVE", hide_env_values = true, value_name = "URL")]
    live: Option<SecretString>,
    /// Read that address from this file, as a container is given secrets.
    #[arg(long, env = "FIRMAMENT_LIVE_FILE", value_name = "FILE", conflicts_with = "live")]
    live_file: Option<PathBuf>,
    /// PEM file with the authority that the certificate of a rediss:// server comes from [default: those that
    /// this system trusts].
    #[arg(long, env = "FIRMAMENT_LIVE_CA", value_name = "FILE")]
    live_ca: Option<PathBuf>,
}

impl LiveArguments {
    /// Whether live state is where several processes see it.
    pub const fn is_shared(&self) -> bool {
        self.live.is_some() || self.live_file.is_some()
    }

    /// The record with its live state where it was said to be.
    pub async fn open(&self, record: Record) -> Result<Record, Failure> {
        let address: SecretString = match (&self.live, &self.live_file) {
            (Some(address), _) => address.clone(),
            (None, Some(path)) => secret::read(path)?.into(),
            (None, None) => return Ok(record),
        };
        let address = address.expose_secret();
        let mut config = RedisConfig::new(address, rand::random()).map_err(Failure::usage)?;
        if let Some(file) = &self.live_ca {
            let pem = Authorities::read(file)?.to_pem().into_bytes();
            config = config.with_authorities(pem).map_err(Failure::usage)?;
        }
        config.metrics = Arc::clone(&record.metrics);
        let live = RedisLiveState::connect(config).await.map_err(away)?;
        Ok(Record { live: Arc::new(live), shared: true, ..record })
    }
}

fn away(error: StoreError) -> Failure {
    if error.retryable() {
        return Failure::with(Exit::Unreachable, error, "start Redis, or check --live");
    }
    Failure::with(Exit::Denied, error, "check the user and password of --live")
}

#[cfg(test)]
mod tests {
    use protocol::NodeId;
    use store::live::Presence;
    use testkit::Redis;
    use time::OffsetDateTime;

    use super::*;
    use crate::data::DataDir;
    use crate::roles::record::RegistryArguments;

    async fn open(folder: &tempfile::TempDir, live: Option<String>) -> Result<Record, Failure> {
        let data = DataDir::new(Some(folder.path().to_owned()))?;
        let record = Record::open(&data, &RegistryArguments::default()).await?;
        let live = live.map(SecretString::from);
        LiveArguments { live, live_file: None, live_ca: None }.open(record).await
    }

    #[tokio::test]
    async fn what_one_server_knows_in_redis_another_sees_and_without_it_does_not() {
        let folders =
            [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("another")];
        let redis = Redis::start();
        let one = open(&folders[0], Some(redis.url())).await.expect("Redis is there");
        let node = NodeId::from("a");
        let presence = Presence { node, epoch: 1, value: "here".into() };
        let (now, lease) = (OffsetDateTime::now_utc(), std::time::Duration::from_secs(30));
        one.live.put_presence(presence.clone(), lease, now).await.expect("Redis is there");
        let other = open(&folders[1], Some(redis.url())).await.expect("Redis is there");
        assert_eq!(other.live.present(now).await.expect("Redis is there"), [presence]);
        let alone = open(&folders[1], None).await.expect("nothing is needed");
        assert_eq!(alone.live.present(now).await.expect("memory is there"), []);
    }

    #[tokio::test]
    async fn an_address_that_leads_nowhere_is_refused_without_showing_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut redis = Redis::with_password("hush");
        let (right, wrong) = (redis.url(), redis.url().replace("hush", "hash"));
        let denied = open(&folder, Some(wrong)).await.err().expect("the password is wrong");
        redis.stop();
        let away = open(&folder, Some(right.clone())).await.err().expect("nobody is there");
        let other = right.replace("redis://", "http://");
        let usage = open(&folder, Some(other)).await.err().expect("that is no Redis");
        for failure in [denied, away, usage] {
            let shown = format!("{failure} {failure:?}");
            assert!(shown.contains("live state"), "{shown}");
            assert!(!shown.contains("hush") && !shown.contains("hash"), "{shown}");
        }
        let arguments = LiveArguments { live: Some(right.into()), live_file: None, live_ca: None };
        assert!(!format!("{arguments:?}").contains("hush"));
    }
}
