//! Runs the built binary as a user does: with arguments, a data directory and little environment.
#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longest wait for a server to say that it is ready, or to end.
const PATIENCE: Duration = Duration::from_mins(2);

/// The binary with a clean environment.
pub fn firmament(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firmament"));
    command.env_clear().env("FIRMAMENT_DATA", data).stdin(Stdio::null());
    if authority(data).is_file() {
        command.env("FIRMAMENT_CA_FILE", authority(data));
    }
    for kept in ["PATH", "HOME", "SSL_CERT_FILE", "HTTPS_PROXY", "https_proxy", "PIP_INDEX_URL"] {
        command.envs(std::env::var_os(kept).map(|value| (kept, value)));
    }
    command
}

/// Where a data directory has the authority of the gateways that its commands ask, if they speak TLS.
pub fn authority(data: &Path) -> PathBuf {
    data.join("ca/ca.crt")
}

/// Runs a command to its end.
pub fn run(data: &Path, arguments: &[&str]) -> Output {
    firmament(data).args(arguments).output().expect("the binary starts")
}

/// Runs a command that must succeed; its standard output.
pub fn done(data: &Path, arguments: &[&str]) -> String {
    let output = run(data, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

/// Runs a command with `--json` that must succeed.
pub fn json(data: &Path, arguments: &[&str]) -> Value {
    let text = done(data, &[arguments, &["--json"]].concat());
    serde_json::from_str(&text).expect("JSON")
}

/// Runs a command that must fail with `exit`; its standard error.
pub fn refused(data: &Path, arguments: &[&str], exit: i32) -> String {
    let output = run(data, arguments);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {errors}");
    errors
}

/// A role in a process of its own.
pub struct Role {
    child: Child,
    /// What followed in the line of its output that said that it runs.
    pub said: String,
    /// What it says later; read on, so that it can.
    lines: mpsc::Receiver<String>,
}

impl Role {
    /// Starts it and waits for a line of its output that begins with `begins`.
    pub fn start(data: &Path, arguments: &[&str], begins: &str) -> Self {
        let mut command = firmament(data);
        command.args(arguments);
        Self::run(command, begins)
    }

    /// The same for a command that was made ready.
    pub fn run(mut command: Command, begins: &str) -> Self {
        let started = command.stdout(Stdio::piped()).spawn();
        let mut child = started.expect("the binary starts");
        let out = BufReader::new(child.stdout.take().expect("it is piped"));
        let (send, lines) = mpsc::sync_channel(16);
        std::thread::spawn(move || {
            out.lines()
                .map_while(Result::ok)
                .take_while(|line| send.send(line.clone()).is_ok())
                .count()
        });
        let line = lines.recv_timeout(PATIENCE);
        let said = line.ok().and_then(|line| Some(line.strip_prefix(begins)?.to_owned()));
        let Some(said) = said else {
            let _ = child.kill();
            panic!("{command:?} did not say `{begins}`: {:?}", child.wait());
        };
        Self { child, said, lines }
    }

    /// Waits for another line of its output that begins with `begins`, and returns the rest.
    pub fn says(&self, begins: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).expect("it says more in time");
            if let Some(rest) = line.strip_prefix(begins) {
                return rest.to_owned();
            }
        }
    }

    /// Kills it as a crash does, and waits until the system has closed all that it had open.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        let status = self.child.wait().expect("it is our child");
        assert!(status.code().is_none(), "a signal ended it: {status}");
    }

    /// Whether it runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id();
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status();
        assert!(sent.expect("a shell").success());
    }

    /// Asks it to end, as a service manager does, and waits until it has.
    pub fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        let (send, ended) = mpsc::sync_channel(1);
        std::thread::scope(|scope| {
            let child = &mut self.child;
            scope.spawn(move || send.send(child.wait()));
            ended.recv_timeout(PATIENCE).expect("it ends in time").expect("it is our child")
        })
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `firmament up` on a free port.
pub struct Up {
    role: Role,
    /// Where it answers.
    pub url: String,
    /// How long it took to be ready.
    pub started: Duration,
}

impl Up {
    /// Starts it on loopback and waits until it says that it is ready.
    pub fn start(data: &Path, arguments: &[&str]) -> Self {
        Self::start_on(data, "127.0.0.1:0", arguments)
    }

    /// Starts it on any address.
    pub fn start_on(data: &Path, listen: &str, arguments: &[&str]) -> Self {
        let began = Instant::now();
        let arguments = [&["up", "--listen", listen][..], arguments].concat();
        let role = Role::start(data, &arguments, "ready ");
        Self { url: role.said.clone(), role, started: began.elapsed() }
    }

    /// Asks it to end, as a service manager does, and waits until it has.
    pub fn stop(self) -> ExitStatus {
        self.role.stop()
    }
}

/// A data directory with testkit's tiny firmware in use.
pub fn tiny() -> tempfile::TempDir {
    let data = tempfile::tempdir().expect("a folder");
    let source = tempfile::tempdir().expect("a folder");
    testkit::tiny_firmware(source.path()).expect("written");
    let from = source.path().display().to_string();
    done(data.path(), &["firmware", "pull", "--from", &from, "--use"]);
    data
}

/// A data directory of its own that shares the fetched firmwares with all other tests; the default
/// firmware is there.
pub fn real() -> tempfile::TempDir {
    real_of("smollm2-135m-instruct")
}

/// The same with another firmware that this build knows.
pub fn real_of(name: &str) -> tempfile::TempDir {
    let cache = std::env::var_os("FIRMAMENT_TEST_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("../firmware-cache"),
        PathBuf::from,
    );
    done(&cache, &["firmware", "pull", name]);
    let data = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::symlink(cache.join("firmwares"), data.path().join("firmwares"))
        .expect("linked");
    data
}

/// Asks again and again; each answer takes a command's time.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what}: not in time");
    }
}
