//! A real Redis for tests: Debian's `redis-server` on a free port of this machine, with nothing on disk
//! but what a test asks it to save, and with the faults that a Redis can have.

use std::collections::hash_map::RandomState;
use std::ffi::OsString;
use std::hash::BuildHasher as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the server as its child until standard input closes, which it does however the test ends.
const GUARD: &str = r#"trap '' INT TERM HUP
folder=$1; shift
redis-server "$@" >"$folder/log" 2>&1 <&- & server=$!
echo $server
read -r _
kill -KILL $server; wait $server"#;

/// A Redis of its own; dropped, it is gone.
pub struct Redis {
    folder: TempDir,
    port: u16,
    password: Option<&'static str>,
    tls: Option<Tls>,
    running: Option<Running>,
}

/// A second port, which speaks TLS.
struct Tls {
    port: u16,
    arguments: Vec<OsString>,
}

struct Running {
    guard: Child,
    server: String,
}

impl Redis {
    /// Starts one that lets everybody in.
    ///
    /// # Panics
    /// Redis is not installed or does not start.
    pub fn start() -> Self {
        Self::open(None)
    }

    /// Starts one that asks for a password.
    ///
    /// # Panics
    /// Redis is not installed or does not start.
    pub fn with_password(password: &'static str) -> Self {
        Self::open(Some(password))
    }

    /// Starts one that speaks TLS too, with this certificate and key.
    ///
    /// # Panics
    /// Redis is not installed or does not start.
    pub fn with_tls([certificate, key]: &[PathBuf; 2]) -> Self {
        let port = free_port();
        let text = port.to_string();
        let arguments = ["--tls-port", &text, "--tls-auth-clients", "no", "--tls-cert-file"];
        let mut arguments: Vec<OsString> = arguments.map(Into::into).into();
        arguments.extend([certificate.into(), "--tls-key-file".into(), key.into()]);
        Self::open_with(None, Some(Tls { port, arguments }))
    }

    fn open(password: Option<&'static str>) -> Self {
        Self::open_with(password, None)
    }

    fn open_with(password: Option<&'static str>, tls: Option<Tls>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut redis = Self { folder, port: free_port(), password, tls, running: None };
        redis.start_again();
        redis
    }

    /// `redis://...`, with the password if it asks for one.
    pub fn url(&self) -> String {
        let password = self.password.map(|password| format!(":{password}@")).unwrap_or_default();
        format!("redis://{password}127.0.0.1:{}", self.port)
    }

    /// `rediss://127.0.0.1:...`
    ///
    /// # Panics
    /// It does not speak TLS.
    pub fn tls_url(&self) -> String {
        let tls = self.tls.as_ref().expect("it was started so");
        format!("rediss://127.0.0.1:{}", tls.port)
    }

    /// Stops it at once; what it held is lost.
    pub fn stop(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        drop(running.guard.stdin.take());
        running.guard.wait().expect("the guard ends with its server");
    }

    /// Starts it where it was, empty or with what it had [saved](Self::command).
    ///
    /// # Panics
    /// It does not start.
    pub fn start_again(&mut self) {
        assert!(self.running.is_none(), "it runs already");
        let folder = self.folder.path().to_str().expect("a plain path");
        let mut command = Command::new("sh");
        command.args(["-c", GUARD, "sh", folder]);
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--dir", folder]);
        command.args(["--save", "", "--appendonly", "no"]);
        if let Some(tls) = &self.tls {
            command.args(&tls.arguments);
        }
        if let Some(password) = self.password {
            command.args(["--requirepass", password]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut guard = command.spawn().expect("a shell");
        let output = guard.stdout.take().expect("it is piped");
        let mut server = String::new();
        BufReader::new(output).read_line(&mut server).expect("the guard names the server");
        self.running = Some(Running { guard, server: server.trim().to_owned() });
        self.await_answer();
    }

    fn await_answer(&self) {
        let began = Instant::now();
        while self.ask("PING").is_none_or(|answer| !answer.contains("+PONG")) {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            let missing = log.contains("redis-server: not found");
            assert!(!missing, "Redis is not installed: `apt-get install redis-server`");
            assert!(began.elapsed() < PATIENCE, "Redis does not start: {log}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Makes it stand still: connections stay, nothing is answered.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let server = &self.running.as_ref().expect("it runs").server;
        let kill = Command::new("sh").args(["-c", "kill -$1 $2", "sh", name, server]).status();
        assert!(kill.expect("a shell").success(), "no process {server}");
    }

    /// Forgets all keys.
    pub fn flush(&self) {
        self.command("FLUSHALL");
    }

    /// Runs one command, written as in a terminal, and returns the answer as it came.
    ///
    /// # Panics
    /// It does not answer or answers with an error.
    pub fn command(&self, line: &str) -> String {
        let answer = self.ask(line).expect("Redis answers");
        assert!(!answer.starts_with('-'), "`{line}`: {answer}");
        answer
    }

    /// The answer to `line`; nothing if nobody answers. Redis ends the connection after `QUIT`, so the
    /// answer is all that came before.
    fn ask(&self, line: &str) -> Option<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let login = self.password.map(|password| format!("AUTH {password}\r\n"));
        let login = login.unwrap_or_default();
        stream.write_all(format!("{login}{line}\r\nQUIT\r\n").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let answer = answer.strip_suffix("+OK\r\n")?;
        let answer = if login.is_empty() { answer } else { answer.strip_prefix("+OK\r\n")? };
        Some(answer.to_owned())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A free port below those that outgoing connections take, so that it stays free while its server is stopped.
pub(crate) fn free_port() -> u16 {
    let number = |attempt: u32| 10_000 + (RandomState::new().hash_one(attempt) % 20_000) as u16;
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    (0..1000).map(number).find(free).expect("a free port")
}
