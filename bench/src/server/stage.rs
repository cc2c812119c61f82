//! Where servers are measured: a folder that goes with the measurement, and how each is started.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use engine::firmware::FirmwareDir;
use engine::weights::WeightFile;
use engine::{EngineError, LoadedFirmware};
use protocol::FirmwareId;
use reqwest::Client;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use super::ServerBench;
use super::client::{Ask, Dialect, Server, client};
use super::gguf_lora::{Base, write_gguf_lora};
use super::process::Process;
use crate::BenchError;
use crate::llama_cpp::model_of;
use crate::lora::{LoraSpec, write_lora};
use crate::numbers::prompt;

/// llama.cpp's two ways of attention; which is faster depends on what is asked.
pub(super) const FLASH: [&str; 2] = ["on", "off"];
/// Longest wait for a server to take requests.
const READY_MAX: Duration = Duration::from_mins(2);
/// How often a server that says nothing is asked whether it is ready.
const POLL: Duration = Duration::from_millis(2);
/// Tokens of each prompt.
const PROMPT: usize = 32;
/// Prompts are made of as many tokens, or of all that the firmware has.
const VOCABULARY: usize = 5000;
/// More than the requests of one turn.
const PROMPTS_OF_A_TURN: usize = 1000;

#[cfg(unix)]
use std::os::unix::fs::symlink as link;
#[cfg(windows)]
use std::os::windows::fs::symlink_dir as link;

/// The folder, and what all servers of a measurement have in common.
pub(super) struct Stage<'a> {
    bench: &'a ServerBench,
    id: FirmwareId,
    model: PathBuf,
    base: Base,
    client: Client,
    folder: TempDir,
}

impl<'a> Stage<'a> {
    /// Reads what adapters have to fit; nothing runs yet.
    pub(super) fn set(bench: &'a ServerBench) -> Result<Self, BenchError> {
        let firmware = FirmwareDir::open(&bench.firmware).map_err(EngineError::from)?;
        let model = model_of(&firmware);
        let file = WeightFile::open(&model).map_err(EngineError::from)?;
        let architecture = file.metadata().text("general.architecture").ok().flatten();
        let base = Base {
            architecture: architecture.unwrap_or_default().to_owned(),
            shape: LoadedFirmware::load(&firmware)?.shape(),
        };
        if bench.llama_cpp.is_some() && base.architecture.is_empty() {
            return Err(BenchError::NotGguf);
        }
        let folder = tempfile::tempdir().map_err(BenchError::Folder)?;
        let id = firmware.manifest().id();
        Ok(Self { bench, id, model, base, client: client(), folder })
    }

    /// An adapter as PEFT writes it, in a folder that the next one takes. Its number is its seed.
    pub(super) fn peft(&self, adapter: usize) -> Result<PathBuf, BenchError> {
        self.written(&self.spec(adapter))
    }

    /// The same with a small adapter, so that a thousand fit on the disk.
    pub(super) fn small_peft(&self, adapter: usize) -> Result<PathBuf, BenchError> {
        self.written(&LoraSpec::small(&self.base.shape, adapter as u64))
    }

    fn written(&self, spec: &LoraSpec) -> Result<PathBuf, BenchError> {
        let folder = self.folder.path().join("peft");
        write_lora(&folder, spec).map_err(BenchError::Folder)?;
        Ok(folder)
    }

    /// The same adapter as llama.cpp reads it; its file.
    fn gguf(&self, adapter: usize) -> Result<PathBuf, BenchError> {
        let path = self.folder.path().join(format!("lora-{adapter}.gguf"));
        write_gguf_lora(&path, &self.spec(adapter), &self.base).map_err(BenchError::Folder)?;
        Ok(path)
    }

    fn spec(&self, adapter: usize) -> LoraSpec {
        LoraSpec::of_all(&self.base.shape, adapter as u64)
    }

    /// A request whose prompt no other turn or index has.
    pub(super) fn ask(
        &self,
        (turn, index): (usize, usize),
        tokens: usize,
        adapter: Option<usize>,
    ) -> Ask {
        let vocabulary = VOCABULARY.min(self.base.shape.vocab);
        let prompt = prompt(PROMPT, PROMPTS_OF_A_TURN * turn + index, vocabulary);
        Ask { prompt, tokens, adapter }
    }

    /// Starts our server on a data directory of that name, which it keeps for its next start.
    pub(super) async fn ours(&self, data: &str, flags: &[String]) -> Result<Server, BenchError> {
        let mut command = Command::new(&self.bench.program);
        command.env_clear().args(["up", "--listen", "127.0.0.1:0", "--firmware"]);
        command.arg(self.id.to_string()).arg("--data").arg(self.data(data)?);
        command.args(["--threads", &self.bench.threads.to_string()]).args(flags);
        let log = self.folder.path().join("firmament.log");
        let began = Instant::now();
        let mut process = Process::spawn("firmament up", command.stdout(Stdio::piped()), log)?;
        let url = timeout(READY_MAX, process.line("ready ")).await.ok().flatten();
        let ready = began.elapsed();
        let url = url.ok_or_else(|| process.not_ready())?;
        let (client, dialect) = (self.client.clone(), Dialect::Ours);
        Ok(Server { process, client, url, dialect, began, ready })
    }

    /// Starts llama.cpp's server in both ways of attention, if it is to be measured, with the
    /// adapters whose numbers are below `adapters`.
    pub(super) async fn peers(&self, adapters: usize) -> Result<Vec<Server>, BenchError> {
        let mut peers = Vec::new();
        if self.bench.llama_cpp.is_some() {
            let files: Vec<PathBuf> =
                (0..adapters).map(|at| self.gguf(at)).collect::<Result<_, _>>()?;
            for flash in FLASH {
                peers.extend(self.peer(flash, &files).await?);
            }
        }
        Ok(peers)
    }

    /// Starts llama.cpp's server with one way of attention, if it is to be measured.
    pub(super) async fn peer(
        &self,
        flash: &str,
        adapters: &[PathBuf],
    ) -> Result<Option<Server>, BenchError> {
        let Some(programs) = &self.bench.llama_cpp else { return Ok(None) };
        let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let address = free.map_err(BenchError::Port)?;
        let mut command = Command::new(programs.join("llama-server"));
        command.arg("-m").arg(&self.model).args(["-t", &self.bench.threads.to_string()]);
        command.args(["-c", "4096", "-np", "4", "-fa", flash]);
        command.args(["--host", "127.0.0.1", "--port", &address.port().to_string()]);
        if !adapters.is_empty() {
            let paths = adapters.iter().map(|path| path.as_os_str()).collect::<Vec<_>>();
            command.arg("--lora").arg(paths.join(",".as_ref()));
        }
        let log = self.folder.path().join(format!("llama-server-{flash}.log"));
        let (url, client) = (format!("http://{address}"), self.client.clone());
        let began = Instant::now();
        let mut process = Process::spawn("llama-server", command.stdout(Stdio::null()), log)?;
        loop {
            let health = client.get(format!("{url}/health")).send().await;
            if health.is_ok_and(|health| health.status().is_success()) {
                break;
            }
            if began.elapsed() > READY_MAX || process.has_ended() {
                return Err(process.not_ready());
            }
            sleep(POLL).await;
        }
        let (ready, dialect) = (began.elapsed(), Dialect::LlamaCpp { adapters: adapters.len() });
        Ok(Some(Server { process, client, url, dialect, began, ready }))
    }

    /// A data directory with the firmwares that are there already.
    fn data(&self, name: &str) -> Result<PathBuf, BenchError> {
        let data = self.folder.path().join(name);
        let firmwares = data.join("firmwares");
        if !firmwares.exists() {
            let made =
                std::fs::create_dir(&data).and_then(|()| link(&self.bench.firmwares, firmwares));
            made.map_err(BenchError::Folder)?;
        }
        Ok(data)
    }
}
