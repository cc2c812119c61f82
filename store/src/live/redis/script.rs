//! The scripts of `store/scripts`: each call of Redis is one of them, so each is atomic.
//!
//! A script is asked for by its hash; where the server does not know it, the same call brings its text
//! and says so in its last argument. A server forgets scripts when it starts, so that argument tells a
//! script that what the server remembers may be old.

use std::sync::LazyLock;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, RedisResult, ServerErrorKind, ToRedisArgs};

/// A script and how it is called in errors.
pub(super) struct Script {
    pub(super) name: &'static str,
    source: &'static str,
    hash: String,
}

macro_rules! scripts {
    ($($script:ident = $file:literal: $name:literal;)*) => {
        $(pub(super) static $script: LazyLock<Script> = LazyLock::new(|| {
            let source = include_str!(concat!("../../../scripts/", $file, ".lua"));
            let hash = redis::Script::new(source).get_hash().to_owned();
            Script { name: $name, source, hash }
        });)*

        /// Every script's name.
        pub(super) const NAMES: &[&str] = &[$($name),*];
    };
}

scripts! {
    BUCKET = "bucket": "rate bucket";
    PUT_PRESENCE = "put_presence": "put presence";
    DROP_PRESENCE = "drop_presence": "drop presence";
    PRESENT = "present": "list presence";
    PUBLISH = "publish": "publish routing";
    KEEP = "keep": "follow routing";
    APPEND = "append": "append to a stream";
    END_STREAM = "end_stream": "end a stream";
    READ = "read": "read a stream";
}

/// A script with what it works on.
pub(super) struct Invocation {
    pub(super) script: &'static Script,
    keys: Vec<String>,
    arguments: Vec<Vec<u8>>,
}

impl Invocation {
    pub(super) fn new(script: &'static Script, keys: impl IntoIterator<Item = String>) -> Self {
        Self { script, keys: keys.into_iter().collect(), arguments: Vec::new() }
    }

    pub(super) fn arg(mut self, argument: impl ToRedisArgs) -> Self {
        argument.write_redis_args(&mut self.arguments);
        self
    }

    pub(super) async fn ask<T: FromRedisValue>(
        &self,
        mut connection: MultiplexedConnection,
    ) -> RedisResult<T> {
        let answer =
            self.command("EVALSHA", &self.script.hash, 0).query_async(&mut connection).await;
        match answer {
            Err(error) if error.kind() == ServerErrorKind::NoScript.into() => {
                self.command("EVAL", self.script.source, 1).query_async(&mut connection).await
            }
            answer => answer,
        }
    }

    fn command(&self, name: &str, script: &str, was_unknown: u8) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(script).arg(self.keys.len()).arg(&self.keys).arg(&self.arguments);
        command.arg(was_unknown);
        command
    }
}
