//! A command that failed: one line for what happened, one for what to do, and an exit code.

use std::fmt;
use std::process::ExitCode;

/// How the process ends. 0 is success and 2 is `clap`'s answer to arguments that it cannot read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It was tried and did not work.
    Failed = 1,
    /// The arguments or settings make no sense.
    Usage = 2,
    /// What was named does not exist.
    NotFound = 3,
    /// No server answers.
    Unreachable = 4,
    /// The server does not allow it.
    Denied = 5,
    /// Another process holds the port or the data directory.
    InUse = 6,
    /// A signal came before it was done; the shell's own number for that.
    Interrupted = 130,
}

/// Why a command failed and what its user can do.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    cause: anyhow::Error,
    advice: String,
}

impl Failure {
    /// A plain failure.
    pub fn new(cause: impl Into<anyhow::Error>, advice: impl Into<String>) -> Self {
        Self::with(Exit::Failed, cause, advice)
    }

    /// A failure with its own exit code.
    pub fn with(exit: Exit, cause: impl Into<anyhow::Error>, advice: impl Into<String>) -> Self {
        Self { exit, cause: cause.into(), advice: advice.into() }
    }

    /// Arguments or settings that make no sense.
    pub fn usage(cause: impl Into<anyhow::Error>) -> Self {
        Self::with(Exit::Usage, cause, "see `firmament --help`")
    }

    /// Something named that does not exist.
    pub fn not_found(what: impl fmt::Display, advice: impl Into<String>) -> Self {
        Self::with(Exit::NotFound, anyhow::anyhow!("{what} does not exist"), advice)
    }

    /// A signal that ended something before it was done.
    pub fn interrupted(what: impl fmt::Display, advice: impl Into<String>) -> Self {
        Self::with(Exit::Interrupted, anyhow::anyhow!("{what} was interrupted"), advice)
    }

    /// How the process shall end.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.exit as u8)
    }

    /// What to do.
    pub fn advice(&self) -> &str {
        &self.advice
    }
}

/// What happened, with its causes, on one line.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = format!("{:#}", self.cause);
        let words: Vec<&str> = line.split_whitespace().collect();
        f.write_str(&words.join(" "))
    }
}

impl From<node::fetch::FetchError> for Failure {
    fn from(error: node::fetch::FetchError) -> Self {
        let advice = error.advice();
        Self::new(error, advice)
    }
}

impl From<engine::firmware::FirmwareError> for Failure {
    fn from(error: engine::firmware::FirmwareError) -> Self {
        Self::new(error, "remove the firmware with `firmament firmware rm` and pull it again")
    }
}

impl From<tls::TlsError> for Failure {
    fn from(error: tls::TlsError) -> Self {
        let advice = error.advice();
        Self::with(Exit::Usage, error, advice)
    }
}

/// Work on a blocking thread that broke; its panic was reported already.
impl From<tokio::task::JoinError> for Failure {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::new(error, "this is a fault of the program: please report it")
    }
}
