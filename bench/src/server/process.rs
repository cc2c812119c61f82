//! A server that is measured, as a child process. It ends with its owner, whatever happens.

use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::BenchError;

/// Longest wait for a server to end once it was asked to.
const END_MAX: Duration = Duration::from_secs(20);
/// Lines of a log that a failure repeats.
const LOG_LINES: usize = 3;
const KIB_PER_MIB: f64 = 1024.0;

#[derive(Debug)]
pub(super) struct Process {
    /// What it is called in failures.
    pub(super) name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it; what it writes on standard error goes to the file `log`.
    pub(super) fn spawn(
        name: &'static str,
        command: &mut Command,
        log: PathBuf,
    ) -> Result<Self, BenchError> {
        let said = File::create(&log).map_err(BenchError::Folder)?;
        let command = command.stdin(Stdio::null()).stderr(said).kill_on_drop(true);
        let child = command.spawn();
        let child = child.map_err(|source| BenchError::Program { program: name, source })?;
        Ok(Self { name, child, log })
    }

    /// Its id; `None` once it has ended.
    pub(super) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// What follows `start` in the first line of standard output that begins so; `None` if it ends
    /// without one.
    pub(super) async fn line(&mut self, start: &str) -> Option<String> {
        let mut lines = BufReader::new(self.child.stdout.take()?).lines();
        while let Some(line) = lines.next_line().await.ok()? {
            if let Some(rest) = line.strip_prefix(start) {
                return Some(rest.to_owned());
            }
        }
        None
    }

    /// Most memory that it has had resident, in MiB, where the system tells.
    pub(super) fn peak_mib(&self) -> Option<f64> {
        mib(&self.status()?, "VmHWM:")
    }

    /// Memory that it has resident now, in MiB, where the system tells.
    pub(super) fn resident_mib(&self) -> Option<f64> {
        mib(&self.status()?, "VmRSS:")
    }

    fn status(&self) -> Option<String> {
        std::fs::read_to_string(format!("/proc/{}/status", self.id()?)).ok()
    }

    /// Why it cannot be measured.
    pub(super) fn not_ready(&self) -> BenchError {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let log = lines[lines.len().saturating_sub(LOG_LINES)..].join("; ");
        BenchError::NotReady { server: self.name, log }
    }

    /// Asks it to end, as a service manager does, and waits until it has.
    pub(super) async fn stop(mut self) {
        if let Some(id) = self.id() {
            // Where there is no shell, or where it does not help, it is killed below.
            let asked = ["-c", "kill -TERM \"$0\"", &id.to_string()];
            let _ = Command::new("sh").args(asked).status().await;
        }
        if timeout(END_MAX, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await; // it may have ended just now
        }
    }
}

fn mib(status: &str, field: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / KIB_PER_MIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_the_systems_table() {
        let status = "VmPeak:\t 9 kB\nVmHWM:\t  2560 kB\nVmRSS:\t 512 kB\n";
        assert_eq!((mib(status, "VmHWM:"), mib(status, "VmRSS:")), (Some(2.5), Some(0.5)));
        assert_eq!(mib("VmRSS:\t 1 kB\n", "VmHWM:"), None);
    }
}
