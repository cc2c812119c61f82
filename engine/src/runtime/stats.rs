//! How the loop is doing, for heartbeats and metrics.

use std::time::Duration;

use protocol::GenerationId;

/// A snapshot of an engine's state.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EngineStats {
    /// Sequences in the batch.
    pub running: u32,
    /// Sequences that wait for a place in it.
    pub waiting: u32,
    /// Tokens still to be read or generated for all of them, at most.
    pub queued_tokens: u64,
    /// Share of the KV cache that sequences use, 0 to 1.
    pub kv_used_ratio: f32,
    /// Adapters in memory, most recently used first.
    pub resident: Vec<GenerationId>,
    /// Memory that they take.
    pub resident_bytes: u64,
    /// Prompt tokens read per second of prefill lately; 0 before the first.
    pub prefill_tokens_per_second: f32,
    /// Tokens per second and sequence lately; 0 before the first.
    pub decode_tokens_per_second: f32,
    /// Prompt tokens read or found in the cache, since the start.
    pub prompt_tokens_total: u64,
    /// Of these, found in the cache.
    pub cached_tokens_total: u64,
    /// Tokens generated since the start.
    pub generated_tokens_total: u64,
    /// Tokens guessed by lookup and run behind another token, since the start.
    pub draft_tokens_total: u64,
    /// Of these, what the model drew too, so that it took no step of its own.
    pub accepted_tokens_total: u64,
    /// Steps since the start.
    pub steps_total: u64,
    /// Sequences that took part in them, summed over steps: divided by the steps it is the batch's size.
    pub rows_total: u64,
    /// Sequences that had to give their pages back and start over, since the start.
    pub preemptions_total: u64,
    /// Adapters that had to go since the start.
    pub adapter_evictions_total: u64,
}

/// Rates as moving averages over recent steps.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    prefill: f32,
    decode: f32,
}

const WEIGHT_OF_NEWEST: f32 = 0.1;

impl Meter {
    /// Counts a step that read `prompt_tokens` and advanced `decodes` sequences by a token each and by
    /// those that were `accepted`. Only steps of one kind tell how fast that kind is.
    pub(crate) fn step(
        &mut self,
        prompt_tokens: usize,
        decodes: usize,
        accepted: u64,
        took: Duration,
    ) {
        let seconds = took.as_secs_f32().max(1e-6);
        if decodes == 0 && prompt_tokens > 0 {
            blend(&mut self.prefill, prompt_tokens as f32 / seconds);
        }
        if decodes > 0 && prompt_tokens == 0 {
            let tokens = 1.0 + accepted as f32 / decodes as f32;
            blend(&mut self.decode, tokens / seconds);
        }
    }

    pub(crate) fn prefill_tokens_per_second(&self) -> f32 {
        self.prefill
    }

    pub(crate) fn decode_tokens_per_second(&self) -> f32 {
        self.decode
    }
}

fn blend(average: &mut f32, newest: f32) {
    let first = *average == 0.0;
    *average = if first { newest } else { *average + WEIGHT_OF_NEWEST * (newest - *average) };
}
