//! Prefill and decode on the CPU, one to eight streams, with and without adapters' neighbours.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use engine::firmware::{FirmwareDir, PartRole};
use engine::{Engine, EngineConfig, EngineError, EventStream, LoadedFirmware};
use protocol::{Event, GenerateWork, Prompt, Sampling, Work, WorkError};

use crate::llama_cpp::LlamaCpp;
use crate::report::{Report, Row};

/// What to measure, and beside what.
#[derive(Debug, Clone)]
pub struct CpuBench {
    /// A verified firmware's directory.
    pub firmware: PathBuf,
    /// A folder with llama.cpp's programs, to measure it in the same run.
    pub llama_cpp: Option<PathBuf>,
    /// Threads of each side.
    pub threads: usize,
    /// How often each side has its turn.
    pub rounds: usize,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum CpuBenchError {
    /// The engine does not start.
    #[error("the engine does not start")]
    Engine(#[from] EngineError),
    /// The engine refused or failed.
    #[error("the engine failed")]
    Work(#[from] WorkError),
    /// The work ended without its last event.
    #[error("the engine stopped in the middle")]
    Unfinished,
    /// llama.cpp does not run.
    #[error("{program} does not run")]
    Peer {
        /// Which program.
        program: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// llama.cpp printed something else than it used to.
    #[error("{0} printed no result that can be read")]
    PeerOutput(&'static str),
}

const PREFILLS: [usize; 2] = [128, 512];
const STREAMS: [usize; 4] = [1, 2, 4, 8];
const DECODE_PROMPT: usize = 128;
const DECODE_TOKENS: usize = 64;

impl CpuBench {
    /// Measures all rows, ours and the peer's in turn.
    ///
    /// # Errors
    /// [`CpuBenchError`] if either side does not run to its end.
    pub fn run(&self) -> Result<Report, CpuBenchError> {
        let directory = FirmwareDir::open(&self.firmware).map_err(EngineError::from)?;
        let firmware = Arc::new(LoadedFirmware::load(&directory)?);
        let config = EngineConfig { threads: self.threads, ..EngineConfig::default() };
        let engine = Engine::start(Arc::clone(&firmware), config)?;
        let peer = self.llama_cpp.as_deref().map(|folder| self.peer(folder, &directory));
        let mut rows = Vec::new();
        for tokens in PREFILLS {
            rows.push(self.row(
                format!("prefill, {tokens} tokens"),
                |round| prefill(&engine, tokens, round),
                || peer.as_ref().map(|peer| peer.prefill(tokens)).transpose(),
            )?);
        }
        for streams in STREAMS {
            rows.push(self.row(
                format!("decode, {streams} streams, all"),
                |round| decode(&engine, streams, round),
                || {
                    let peer = peer.as_ref();
                    peer.map(|peer| peer.decode(streams, DECODE_PROMPT, DECODE_TOKENS)).transpose()
                },
            )?);
        }
        engine.shutdown();
        let instruction_set = engine::instruction_set();
        Ok(Report { rounds: self.rounds, threads: self.threads, instruction_set, rows })
    }

    fn peer(&self, folder: &Path, directory: &FirmwareDir) -> LlamaCpp {
        let manifest = directory.manifest();
        let backbone = manifest.parts_of(PartRole::Backbone).next();
        let model = backbone.map(|part| directory.part_path(part)).unwrap_or_default();
        LlamaCpp::new(folder, &model, self.threads)
    }

    fn row(
        &self,
        what: String,
        ours: impl Fn(usize) -> Result<f64, CpuBenchError>,
        peer: impl Fn() -> Result<Option<f64>, CpuBenchError>,
    ) -> Result<Row, CpuBenchError> {
        let mut row = Row { what, ours: Vec::new(), peer: Vec::new() };
        ours(self.rounds)?; // warm-up, not counted
        for round in 0..self.rounds {
            row.ours.push(ours(round)?);
            row.peer.extend(peer()?);
        }
        Ok(row)
    }
}

/// Prompt tokens per second.
fn prefill(engine: &Engine, tokens: usize, round: usize) -> Result<f64, CpuBenchError> {
    let before = Instant::now();
    let mut stream = submit(engine, tokens, 1, round)?;
    first_token(&mut stream)?;
    let seconds = before.elapsed().as_secs_f64();
    finish(&mut stream)?;
    Ok(tokens as f64 / seconds)
}

/// Generated tokens per second over all streams, from when each has its first token.
fn decode(engine: &Engine, streams: usize, round: usize) -> Result<f64, CpuBenchError> {
    let start =
        |stream: usize| submit(engine, DECODE_PROMPT, DECODE_TOKENS + 1, 100 * round + stream);
    let mut running = (0..streams).map(start).collect::<Result<Vec<_>, _>>()?;
    for stream in &mut running {
        first_token(stream)?;
    }
    let generated = engine.stats().generated_tokens_total;
    let before = Instant::now();
    running.iter_mut().try_for_each(finish)?;
    let seconds = before.elapsed().as_secs_f64();
    Ok((engine.stats().generated_tokens_total - generated) as f64 / seconds)
}

/// A prompt that no earlier one begins like, so that no prefix is reused.
fn submit(
    engine: &Engine,
    prompt: usize,
    tokens: usize,
    salt: usize,
) -> Result<EventStream, CpuBenchError> {
    let token = |index: usize| 100 + ((index * 7919 + salt * 104_729 + prompt * 31) % 5000) as u32;
    let work = GenerateWork {
        prompt: Prompt::Tokens((0..prompt).map(token).collect()),
        adapters: Vec::new(),
        sampling: Sampling::greedy(),
        max_tokens: Some(tokens as u32),
        stop: Vec::new(),
        choices: 1,
        constraint: None,
        logprobs: None,
        prompt_logprobs: false,
        ignore_eos: true,
        tenant: "bench".into(),
    };
    Ok(engine.submit(Work::Generate(work))?)
}

fn first_token(stream: &mut EventStream) -> Result<(), CpuBenchError> {
    while let Some(event) = stream.blocking_next() {
        if let Event::Text { .. } = event? {
            return Ok(());
        }
    }
    Err(CpuBenchError::Unfinished)
}

fn finish(stream: &mut EventStream) -> Result<(), CpuBenchError> {
    while let Some(event) = stream.blocking_next() {
        if let Event::Done(_) = event? {
            return Ok(());
        }
    }
    Err(CpuBenchError::Unfinished)
}
