//! The gateway's process, and what processes use.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Ticks of the processor's time in a second, as Linux counts for every program.
const TICKS_PER_SECOND: f64 = 100.0;

/// A gateway that runs until this is dropped.
pub struct Gateway {
    child: Child,
    /// Where it answers.
    pub url: String,
}

impl Gateway {
    /// Starts one on `port`, with limits that are not in the way.
    pub async fn start(program: &Path, data: &Path, port: u16) -> Self {
        let address = format!("127.0.0.1:{port}");
        let log = std::fs::File::create(data.join("gateway.log")).expect("a log");
        let child = Command::new(program)
            .args(["gateway", "--listen", &address, "--data"])
            .arg(data)
            .args(["--connections-max", "20000", "--tenant-concurrent-max", "20000"])
            .args(["--tenant-requests-per-minute", "4000000000"])
            .args(["--tenant-tokens-per-minute", "4000000000"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the gateway starts");
        let gateway = Self { child, url: format!("http://{address}") };
        let (began, live) = (Instant::now(), format!("{}/health/live", gateway.url));
        while reqwest::get(&live).await.is_err() {
            assert!(began.elapsed() < Duration::from_secs(30), "the gateway does not answer");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        gateway
    }

    /// Processor time that it has used, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        cpu_seconds(&self.child.id().to_string())
    }

    /// Most memory that it had resident, in MiB.
    pub fn peak_mib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        kib.expect("the system tells") / 1024.0
    }
}

impl Gateway {
    /// Kills it, as a crash does.
    pub fn kill(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Processor time that this process has used, mocks and load together, in seconds.
pub fn own_cpu_seconds() -> f64 {
    cpu_seconds("self")
}

fn cpu_seconds(process: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    // The name stands in brackets and may hold anything; user and system time are fields 14 and 15.
    let fields = stat.rsplit_once(')').expect("a name").1.split_whitespace();
    let ticks: f64 =
        fields.skip(11).take(2).map(|field| field.parse::<f64>().expect("ticks")).sum();
    ticks / TICKS_PER_SECOND
}
