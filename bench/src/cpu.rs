//! Prefill and decode on the CPU, one to eight streams, with and without adapters.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use engine::firmware::FirmwareDir;
use engine::{Engine, EngineConfig, EngineError, EventStream, LoadedFirmware};
use protocol::{AdapterUse, Event, GenerateWork, Prompt, Work};

use crate::bandwidth::read_bytes_per_second;
use crate::chats::Chats;
use crate::llama_cpp::{LlamaCpp, model_of};
use crate::numbers::prompt;
use crate::quiet::Watch;
use crate::report::{Report, Row};
use crate::rounds::Rounds;
use crate::{BenchError, adapters};

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
    /// What to measure, in this order.
    pub parts: Vec<CpuPart>,
}

/// A part of the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum CpuPart {
    /// Prompt tokens per second.
    Prefill,
    /// Generated tokens per second of one to eight streams.
    Decode,
    /// One stream beside the rate at which this machine reads as many bytes.
    Reading,
    /// Eight streams with an adapter each beside eight without.
    Adapters,
    /// Chats with and without guesses at what follows.
    Lookup,
}

const PREFILLS: [usize; 2] = [128, 512];
/// Prompt tokens of one measurement, in prompts of the measured length.
const PREFILL_TOKENS: usize = 1024;
const STREAMS: [usize; 4] = [1, 2, 4, 8];
const DECODE_PROMPT: usize = 128;
/// Prompts are made of as many tokens; every firmware has more.
const VOCABULARY: usize = 5000;
const DECODE_TOKENS: usize = 64;
/// Streams that each have an adapter of their own.
const ADAPTERS: usize = 8;
const PEER: &str = "llama.cpp";
const UNIT: &str = "tokens/s";

impl CpuBench {
    /// Measures, each row beside the peer or bound that it is compared with, in turn.
    ///
    /// # Errors
    /// [`BenchError`] if either side does not run to its end, or if others use the processor.
    pub fn run(&self) -> Result<Report, BenchError> {
        let directory = FirmwareDir::open(&self.firmware).map_err(EngineError::from)?;
        let firmware = Arc::new(LoadedFirmware::load(&directory)?);
        let config = EngineConfig { threads: self.threads, ..EngineConfig::default() };
        let plain = EngineConfig { lookup_rows: 0, ..config.clone() };
        let engine = Engine::start(Arc::clone(&firmware), plain)?;
        let model = model_of(&directory);
        let peer = self.llama_cpp.as_deref();
        let peer = peer.map(|folder| LlamaCpp::new(folder, &model, self.threads));
        let sides = Sides { firmware, config, engine, peer };
        let mut run = Run { rounds: Rounds::new(self.rounds), rows: Vec::new() };
        for part in &self.parts {
            match part {
                CpuPart::Prefill => sides.prefill(&mut run)?,
                CpuPart::Decode => sides.decode(&mut run)?,
                CpuPart::Reading => sides.reading(&mut run)?,
                CpuPart::Adapters => sides.adapters(&mut run)?,
                CpuPart::Lookup => sides.lookup(&mut run)?,
            }
        }
        let (instruction_set, threads) = (engine::instruction_set(), self.threads);
        let Run { rounds: Rounds { wanted: rounds, repeated, .. }, rows } = run;
        Ok(Report { rounds, repeated, threads, instruction_set, rows })
    }
}

/// Who takes turns.
struct Sides {
    firmware: Arc<LoadedFirmware>,
    config: EngineConfig,
    /// Without guesses.
    engine: Engine,
    peer: Option<LlamaCpp>,
}

impl Sides {
    fn prefill(&self, run: &mut Run) -> Result<(), BenchError> {
        for tokens in PREFILLS {
            let beside = |peer: &LlamaCpp| peer.prefill(tokens, PREFILL_TOKENS / tokens);
            run.measure(
                format!("prefill, {tokens} tokens"),
                PEER,
                |turn| prefill(&self.engine, tokens, turn),
                |_| self.peer.as_ref().map(beside).transpose(),
            )?;
        }
        Ok(())
    }

    fn decode(&self, run: &mut Run) -> Result<(), BenchError> {
        for streams in STREAMS {
            let beside = |peer: &LlamaCpp| peer.decode(streams, DECODE_PROMPT, DECODE_TOKENS);
            run.measure(
                format!("decode, {streams} streams, all"),
                PEER,
                |turn| decode(&self.engine, streams, turn, &[]),
                |_| self.peer.as_ref().map(beside).transpose(),
            )?;
        }
        Ok(())
    }

    fn reading(&self, run: &mut Run) -> Result<(), BenchError> {
        let bytes = self.firmware.weight_bytes();
        let threads = self.config.threads;
        run.measure(
            "decode, 1 stream".to_owned(),
            "reading weights",
            |turn| decode(&self.engine, 1, turn, &[]),
            |_| Ok(Some(read_bytes_per_second(bytes, threads) / bytes as f64)),
        )
    }

    fn adapters(&self, run: &mut Run) -> Result<(), BenchError> {
        let uses = adapters::load(&self.engine, &self.firmware.shape(), ADAPTERS)?;
        run.measure(
            format!("decode, {ADAPTERS} adapters"),
            "without adapters",
            |turn| decode(&self.engine, ADAPTERS, turn, &uses),
            |turn| decode(&self.engine, ADAPTERS, turn, &[]).map(Some),
        )
    }

    fn lookup(&self, run: &mut Run) -> Result<(), BenchError> {
        let guessing = Engine::start(Arc::clone(&self.firmware), self.config.clone())?;
        for chats in [Chats::REPEATING, Chats::OPEN] {
            run.measure(
                chats.name.to_owned(),
                "without lookup",
                |_| chats.decode(&guessing),
                |_| chats.decode(&self.engine).map(Some),
            )?;
        }
        Ok(())
    }
}

/// What was measured so far.
struct Run {
    rounds: Rounds,
    rows: Vec<Row>,
}

impl Run {
    /// Each side is told a number that makes its prompts new.
    fn measure(
        &mut self,
        what: String,
        beside: &'static str,
        ours: impl Fn(usize) -> Result<f64, BenchError>,
        other: impl Fn(usize) -> Result<Option<f64>, BenchError>,
    ) -> Result<(), BenchError> {
        let mut row = Row::new(what, beside, UNIT);
        ours(self.rounds.turn())?; // warm-up, not counted
        while row.ours.len() < self.rounds.wanted {
            let watch = Watch::start(&[]);
            let values = (ours(self.rounds.turn())?, other(self.rounds.turn())?);
            if self.rounds.counts(watch.as_ref())? {
                row.ours.push(values.0);
                row.others.extend(values.1);
            }
        }
        self.rows.push(row);
        Ok(())
    }
}

/// Prompt tokens per second.
fn prefill(engine: &Engine, tokens: usize, turn: usize) -> Result<f64, BenchError> {
    let mut seconds = 0.0;
    let prompts = PREFILL_TOKENS / tokens;
    for prompt in 0..prompts {
        let before = Instant::now();
        let mut stream = submit(engine, tokens, 1, 100 * turn + prompt, None)?;
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
    turn: usize,
    adapters: &[AdapterUse],
) -> Result<f64, BenchError> {
    let start = |stream: usize| {
        let adapter = adapters.get(stream).copied();
        submit(engine, DECODE_PROMPT, DECODE_TOKENS + 1, 100 * turn + stream, adapter)
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

/// `salt` makes the prompt one that no other begins like.
fn submit(
    engine: &Engine,
    prompt_tokens: usize,
    tokens: usize,
    salt: usize,
    adapter: Option<AdapterUse>,
) -> Result<EventStream, BenchError> {
    let prompt = Prompt::Tokens(prompt(prompt_tokens, salt, VOCABULARY));
    let adapters = adapter.into_iter().collect();
    start(engine, GenerateWork { adapters, ..work(prompt, tokens) })
}

/// One greedy answer of exactly `tokens`.
pub(crate) fn work(prompt: Prompt, tokens: usize) -> GenerateWork {
    let max_tokens = Some(tokens as u32);
    GenerateWork { max_tokens, ignore_eos: true, ..GenerateWork::greedy(prompt, "bench") }
}

pub(crate) fn start(engine: &Engine, work: GenerateWork) -> Result<EventStream, BenchError> {
    Ok(engine.submit(Work::Generate(work))?)
}

pub(crate) fn first_token(stream: &mut EventStream) -> Result<(), BenchError> {
    while let Some(event) = stream.blocking_next() {
        if let Event::Text { .. } = event? {
            return Ok(());
        }
    }
    Err(BenchError::Unfinished)
}

pub(crate) fn finish(stream: &mut EventStream) -> Result<(), BenchError> {
    while let Some(event) = stream.blocking_next() {
        if let Event::Done(_) = event? {
            return Ok(());
        }
    }
    Err(BenchError::Unfinished)
}
