//! Prefill and decode on the CPU, one to eight streams, with and without adapters.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use engine::firmware::{FirmwareDir, PartRole};
use engine::{Engine, EngineConfig, EngineError, EventStream, LoadedFirmware};
use protocol::{AdapterUse, Event, GenerateWork, Prompt, Sampling, Work, WorkError};

use crate::adapters;
use crate::bandwidth::read_bytes_per_second;
use crate::chats::Chats;
use crate::llama_cpp::LlamaCpp;
use crate::quiet::Watch;
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
    /// The adapters to measure with cannot be written.
    #[error("an adapter to measure with cannot be written")]
    Adapter(#[source] std::io::Error),
    /// Whatever is measured would be the others' work.
    #[error(
        "other programs use {percent:.0} % of the processor, time and again: measure when it is idle"
    )]
    Busy {
        /// Their share of all cores.
        percent: f64,
    },
    /// llama.cpp printed something else than it used to.
    #[error("{0} printed no result that can be read")]
    PeerOutput(&'static str),
}

const PREFILLS: [usize; 2] = [128, 512];
/// Prompt tokens of one measurement, in prompts of the measured length.
const PREFILL_TOKENS: usize = 1024;
const STREAMS: [usize; 4] = [1, 2, 4, 8];
const DECODE_PROMPT: usize = 128;
const DECODE_TOKENS: usize = 64;
/// Streams that each have an adapter of their own.
const ADAPTERS: usize = 8;
/// Share of the processor that others may use while a round counts.
const FOREIGN_MAX: f64 = 0.04;
/// How often a round is measured before the machine is found too busy.
const TRIES: usize = 12;

const PEER: &str = "llama.cpp";

impl CpuBench {
    /// Measures all rows, each beside the peer or bound that it is compared with, in turn.
    ///
    /// # Errors
    /// [`CpuBenchError`] if either side does not run to its end, or if others use the processor.
    pub fn run(&self) -> Result<Report, CpuBenchError> {
        let directory = FirmwareDir::open(&self.firmware).map_err(EngineError::from)?;
        let firmware = Arc::new(LoadedFirmware::load(&directory)?);
        let config = EngineConfig { threads: self.threads, ..EngineConfig::default() };
        let plain = EngineConfig { lookup_rows: 0, ..config.clone() };
        let engine = Engine::start(Arc::clone(&firmware), plain)?;
        let peer = self.llama_cpp.as_deref().map(|folder| self.peer(folder, &directory));
        let peer = peer.as_ref();
        let mut run = Run { rounds: self.rounds, repeated: 0, rows: Vec::new() };
        for tokens in PREFILLS {
            run.measure(
                format!("prefill, {tokens} tokens"),
                PEER,
                |round| prefill(&engine, tokens, round),
                |_| peer.map(|peer| peer.prefill(tokens, PREFILL_TOKENS / tokens)).transpose(),
            )?;
        }
        for streams in STREAMS {
            run.measure(
                format!("decode, {streams} streams, all"),
                PEER,
                |round| decode(&engine, streams, round, &[]),
                |_| {
                    let decode =
                        |peer: &LlamaCpp| peer.decode(streams, DECODE_PROMPT, DECODE_TOKENS);
                    peer.map(decode).transpose()
                },
            )?;
        }
        let bytes = firmware.weight_bytes();
        run.measure(
            "decode, 1 stream".to_owned(),
            "reading weights",
            |round| decode(&engine, 1, round, &[]),
            |_| Ok(Some(read_bytes_per_second(bytes, self.threads) / bytes as f64)),
        )?;
        let uses = adapters::load(&engine, &firmware.shape(), ADAPTERS)?;
        run.measure(
            format!("decode, {ADAPTERS} adapters"),
            "without adapters",
            |round| decode(&engine, ADAPTERS, round, &uses),
            |round| decode(&engine, ADAPTERS, round, &[]).map(Some),
        )?;
        let guessing = Engine::start(Arc::clone(&firmware), config)?;
        for chats in [Chats::REPEATING, Chats::OPEN] {
            run.measure(
                chats.name.to_owned(),
                "without lookup",
                |_| chats.decode(&guessing),
                |_| chats.decode(&engine).map(Some),
            )?;
        }
        let (instruction_set, threads) = (engine::instruction_set(), self.threads);
        let Run { rounds, repeated, rows } = run;
        Ok(Report { rounds, repeated, threads, instruction_set, rows })
    }

    fn peer(&self, folder: &Path, directory: &FirmwareDir) -> LlamaCpp {
        let manifest = directory.manifest();
        let backbone = manifest.parts_of(PartRole::Backbone).next();
        let model = backbone.map(|part| directory.part_path(part)).unwrap_or_default();
        LlamaCpp::new(folder, &model, self.threads)
    }
}

/// What was measured so far.
struct Run {
    rounds: usize,
    repeated: usize,
    rows: Vec<Row>,
}

impl Run {
    fn measure(
        &mut self,
        what: String,
        beside: &'static str,
        ours: impl Fn(usize) -> Result<f64, CpuBenchError>,
        other: impl Fn(usize) -> Result<Option<f64>, CpuBenchError>,
    ) -> Result<(), CpuBenchError> {
        let mut row = Row { what, beside, ours: Vec::new(), others: Vec::new() };
        ours(self.rounds)?; // warm-up, not counted
        for round in 0..self.rounds {
            let mut tries = 0;
            let (mine, others) = loop {
                let watch = Watch::start();
                let values = (ours(round)?, other(round)?);
                let share = watch.and_then(|watch| watch.foreign_share()).unwrap_or(0.0);
                if share <= FOREIGN_MAX {
                    break values;
                }
                tries += 1;
                self.repeated += 1;
                if tries == TRIES {
                    return Err(CpuBenchError::Busy { percent: 100.0 * share });
                }
            };
            row.ours.push(mine);
            row.others.extend(others);
        }
        self.rows.push(row);
        Ok(())
    }
}

/// Prompt tokens per second.
fn prefill(engine: &Engine, tokens: usize, round: usize) -> Result<f64, CpuBenchError> {
    let mut seconds = 0.0;
    let prompts = PREFILL_TOKENS / tokens;
    for prompt in 0..prompts {
        let before = Instant::now();
        let mut stream = submit(engine, tokens, 1, 100 * round + prompt, None)?;
        first_token(&mut stream)?;
        seconds += before.elapsed().as_secs_f64();
        finish(&mut stream)?;
    }
    Ok((prompts * tokens) as f64 / seconds)
}

/// Generated tokens per second over all streams, from when each has its first token. Stream `i`
/// uses adapter `i`, if there is one.
fn decode(
    engine: &Engine,
    streams: usize,
    round: usize,
    adapters: &[AdapterUse],
) -> Result<f64, CpuBenchError> {
    let start = |stream: usize| {
        let adapter = adapters.get(stream).copied();
        submit(engine, DECODE_PROMPT, DECODE_TOKENS + 1, 100 * round + stream, adapter)
    };
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
    adapter: Option<AdapterUse>,
) -> Result<EventStream, CpuBenchError> {
    let token = |index: usize| 100 + ((index * 7919 + salt * 104_729 + prompt * 31) % 5000) as u32;
    let prompt = Prompt::Tokens((0..prompt).map(token).collect());
    let adapters = adapter.into_iter().collect();
    start(engine, GenerateWork { adapters, ..work(prompt, tokens) })
}

/// One greedy answer of exactly `tokens`.
pub(crate) fn work(prompt: Prompt, tokens: usize) -> GenerateWork {
    GenerateWork {
        prompt,
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
    }
}

pub(crate) fn start(engine: &Engine, work: GenerateWork) -> Result<EventStream, CpuBenchError> {
    Ok(engine.submit(Work::Generate(work))?)
}

pub(crate) fn first_token(stream: &mut EventStream) -> Result<(), CpuBenchError> {
    while let Some(event) = stream.blocking_next() {
        if let Event::Text { .. } = event? {
            return Ok(());
        }
    }
    Err(CpuBenchError::Unfinished)
}

pub(crate) fn finish(stream: &mut EventStream) -> Result<(), CpuBenchError> {
    while let Some(event) = stream.blocking_next() {
        if let Event::Done(_) = event? {
            return Ok(());
        }
    }
    Err(CpuBenchError::Unfinished)
}
