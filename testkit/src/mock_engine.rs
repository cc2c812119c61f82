//! A mock of the engine: it computes nothing, its tokens follow from the request alone, and it keeps a
//! pace. Tests of everything around the engine use it; nothing that ships does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use node::{AdapterFiles, EngineStats, Events, Runs};
use parking_lot::Mutex;
use protocol::{
    AdapterManifest, AdapterProof, AdapterUse, Digest, EmbedWork, ErrorCode, Event, FinishReason,
    FirmwareId, FirmwareInfo, GenerateWork, GenerationId, Prompt, Usage, Work, WorkError,
};

const EMBEDDING_LENGTH: usize = 8;
/// Tokens of an answer when the request sets no limit.
const TOKENS_DEFAULT: u32 = 16;

/// How a mock engine behaves.
#[derive(Debug, Clone)]
pub struct MockConfig {
    /// The name of its firmware.
    pub name: String,
    /// Between two tokens of one answer.
    pub token_every: Duration,
}

impl Default for MockConfig {
    fn default() -> Self {
        Self { name: "mock".to_owned(), token_every: Duration::from_millis(1) }
    }
}

/// The mock; clones share its state.
#[derive(Debug, Clone)]
pub struct MockEngine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    info: FirmwareInfo,
    token_every: Duration,
    resident: Mutex<BTreeMap<GenerationId, u64>>,
    running: AtomicU32,
    running_most: AtomicU32,
    generated: AtomicU64,
}

impl MockEngine {
    /// A mock engine that holds no adapter.
    pub fn new(config: MockConfig) -> Self {
        let info = FirmwareInfo {
            id: FirmwareId(Digest::of(config.name.as_bytes())),
            name: config.name,
            version: "0.0.0".to_owned(),
            tokenizer: Digest::of(b"mock tokenizer"),
            context_length: 4096,
            embedding_length: EMBEDDING_LENGTH as u32,
            base_models: Vec::new(),
        };
        Self(Arc::new(Inner {
            info,
            token_every: config.token_every,
            resident: Mutex::default(),
            running: AtomicU32::new(0),
            running_most: AtomicU32::new(0),
            generated: AtomicU64::new(0),
        }))
    }

    /// Requests that run now.
    pub fn running(&self) -> u32 {
        self.0.running.load(Ordering::SeqCst)
    }

    /// The most requests that ever ran at once.
    pub fn running_most(&self) -> u32 {
        self.0.running_most.load(Ordering::SeqCst)
    }

    fn generate(&self, work: &GenerateWork) -> Result<Events, WorkError> {
        if let Some(missing) = work.adapters.iter().find(|used| !self.is_resident(used.generation))
        {
            let message = format!("adapter {} is not resident", missing.generation);
            return Err(WorkError::new(ErrorCode::AdapterUnavailable, message));
        }
        let prompt_tokens = prompt_tokens(&work.prompt);
        let count = work.max_tokens.unwrap_or(TOKENS_DEFAULT);
        let mut events = vec![Event::Started { prompt_tokens, cached_tokens: 0 }];
        for choice in 0..work.choices {
            let tokens = mock_tokens(&self.0.info, work, choice);
            let told = work.replay.as_ref().and_then(|replay| replay.choices.get(choice as usize));
            let told = told.cloned().unwrap_or_default();
            let Some(rest) = tokens.strip_prefix(&told.tokens[..]).filter(|_| !told.finished)
            else {
                if told.finished && told.tokens == tokens {
                    continue;
                }
                let message = "what was generated elsewhere is not what this engine generates";
                return Err(WorkError::new(ErrorCode::InvalidRequest, message));
            };
            events.extend(rest.iter().map(|token| text(choice, *token)));
            events.push(Event::Finished { choice, reason: FinishReason::Length });
        }
        let completion_tokens = count * work.choices;
        events.push(Event::Done(Usage { prompt_tokens, cached_tokens: 0, completion_tokens }));
        Ok(self.paced(events))
    }

    fn embed(&self, work: &EmbedWork) -> Events {
        let prompt_tokens = work.inputs.iter().map(prompt_tokens).sum();
        let vector = |(index, input): (usize, &Prompt)| {
            let values = unit(Digest::of(&json(input)));
            Event::Embedding { index: index as u32, values }
        };
        let mut events: Vec<Event> = work.inputs.iter().enumerate().map(vector).collect();
        events.push(Event::Done(Usage { prompt_tokens, ..Usage::default() }));
        self.paced(events)
    }

    /// The events at this engine's pace. The request counts as running until it is dropped.
    fn paced(&self, events: Vec<Event>) -> Events {
        let running = Running::enter(Arc::clone(&self.0));
        let paced = stream::iter(events).then(move |event| {
            let (inner, is_token) = (Arc::clone(&running.0), matches!(event, Event::Text { .. }));
            async move {
                if is_token {
                    tokio::time::sleep(inner.token_every).await;
                    inner.generated.fetch_add(1, Ordering::Relaxed);
                }
                Ok(event)
            }
        });
        paced.boxed()
    }
}

/// A request that runs.
struct Running(Arc<Inner>);

impl Running {
    fn enter(inner: Arc<Inner>) -> Self {
        let now = inner.running.fetch_add(1, Ordering::SeqCst) + 1;
        inner.running_most.fetch_max(now, Ordering::SeqCst);
        Self(inner)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Runs for MockEngine {
    fn firmware(&self) -> &FirmwareInfo {
        &self.0.info
    }

    fn submit(&self, work: Work) -> Result<Events, WorkError> {
        match work {
            Work::Generate(work) => self.generate(&work),
            Work::Embed(work) => Ok(self.embed(&work)),
            Work::Prove(_) => {
                let message = "a node loads adapters itself";
                Err(WorkError::new(ErrorCode::InvalidRequest, message))
            }
        }
    }

    /// Takes any adapter whose files are there; it proves nothing but that they arrived.
    fn load_adapter(
        &self,
        manifest: &AdapterManifest,
        files: AdapterFiles,
    ) -> Result<AdapterProof, WorkError> {
        let weights = std::fs::metadata(&files.weights);
        let missing =
            |_| WorkError::new(ErrorCode::AdapterUnavailable, "the weights are not there");
        let resident_bytes = weights.map_err(missing)?.len();
        let generation = manifest.id();
        self.0.resident.lock().insert(generation, resident_bytes);
        Ok(AdapterProof {
            generation,
            rank: 1,
            sites: 1,
            parameters: 1,
            resident_bytes,
            load_seconds: 0.0,
            effect_ratio: 1.0,
            max_logit_change: 1.0,
            top_token_changed: true,
        })
    }

    fn is_resident(&self, generation: GenerationId) -> bool {
        self.0.resident.lock().contains_key(&generation)
    }

    /// It evicts nothing, so what is resident stays.
    fn pin(&self, generation: GenerationId, _pinned: bool) -> bool {
        self.is_resident(generation)
    }

    fn stats(&self) -> EngineStats {
        let resident = self.0.resident.lock();
        EngineStats {
            running: self.running(),
            resident: resident.keys().copied().collect(),
            resident_bytes: resident.values().sum(),
            generated_tokens_total: self.0.generated.load(Ordering::Relaxed),
            ..EngineStats::default()
        }
    }
}

/// The tokens that a mock engine with this firmware answers with: each follows from the firmware, the
/// adapters, the seed, the prompt and the token before it, and from nothing else.
pub fn mock_tokens(firmware: &FirmwareInfo, work: &GenerateWork, choice: u32) -> Vec<u32> {
    let adapters: Vec<(GenerationId, u32)> = work
        .adapters
        .iter()
        .map(|AdapterUse { generation, scale }| (*generation, scale.to_bits()))
        .collect();
    let seed = work.sampling.seed + u64::from(choice);
    let mut state = Digest::of(&json(&(firmware.id, adapters, seed, &work.prompt)));
    let next = |_| {
        state = Digest::of(state.as_bytes());
        let [a, b, ..] = *state.as_bytes();
        u32::from(u16::from_le_bytes([a, b]))
    };
    (0..work.max_tokens.unwrap_or(TOKENS_DEFAULT)).map(next).collect()
}

/// How a mock engine spells a token.
pub fn mock_text(token: u32) -> String {
    format!(" t{token}")
}

fn text(choice: u32, token: u32) -> Event {
    Event::Text { choice, text: mock_text(token), tokens: vec![token], logprobs: Vec::new() }
}

/// A mock token is four bytes of the prompt.
fn prompt_tokens(prompt: &Prompt) -> u32 {
    (json(prompt).len() / 4) as u32
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("requests serialise")
}

fn unit(digest: Digest) -> Vec<f32> {
    let values = digest.as_bytes()[..EMBEDDING_LENGTH].iter().map(|&byte| f32::from(byte) + 1.0);
    let values: Vec<f32> = values.collect();
    let norm = values.iter().map(|value| value * value).sum::<f32>().sqrt();
    values.into_iter().map(|value| value / norm).collect()
}

#[cfg(test)]
mod tests {
    use protocol::Sampling;

    use super::*;

    fn work(prompt: &str, seed: u64) -> GenerateWork {
        let sampling = Sampling { seed, ..Sampling::greedy() };
        let work = GenerateWork::greedy(Prompt::Text(prompt.to_owned()), "local");
        GenerateWork { sampling, max_tokens: Some(5), ..work }
    }

    #[tokio::test(start_paused = true)]
    async fn a_mock_answers_with_the_tokens_that_were_foretold_and_frees_its_place() {
        let engine = MockEngine::new(MockConfig::default());
        let expected = mock_tokens(engine.firmware(), &work("a", 1), 0);
        let events = engine.submit(Work::Generate(work("a", 1))).expect("it begins");
        assert_eq!(engine.running(), 1);
        let events: Vec<Event> = events.map(|event| event.expect("it goes well")).collect().await;
        let tokens = events.iter().filter_map(|event| match event {
            Event::Text { tokens, .. } => Some(tokens[0]),
            _ => None,
        });
        assert_eq!(tokens.collect::<Vec<_>>(), expected);
        assert!(matches!(events.last(), Some(Event::Done(usage)) if usage.completion_tokens == 5));
        assert_eq!((engine.running(), engine.running_most()), (0, 1));
    }

    #[test]
    fn prompt_and_seed_change_the_tokens() {
        let engine = MockEngine::new(MockConfig::default());
        let tokens = |prompt, seed| mock_tokens(engine.firmware(), &work(prompt, seed), 0);
        assert_eq!(tokens("a", 1), tokens("a", 1));
        assert_ne!(tokens("a", 1), tokens("a", 2));
        assert_ne!(tokens("a", 1), tokens("b", 1));
    }
}
