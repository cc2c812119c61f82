//! Who gets a place in the batch: those that wait, in turns by tenant, while rows and pages last.

use std::sync::atomic::Ordering;

use protocol::{Event, Usage};

use super::{Request, StepLoop};
use crate::backbone::PAGE_TOKENS;
use crate::runtime::pages::Pages;
use crate::runtime::sequence::{Goal, NewRequest, Sequence};
use crate::runtime::turn::next_in_turn;

impl StepLoop {
    pub(super) fn enqueue(&mut self, new: NewRequest) {
        let id = self.arrivals;
        let request = Request {
            events: new.events,
            unfinished: new.sequences.len(),
            usage: Usage { completion_tokens: new.replayed.tokens as u32, ..Usage::default() },
            prompt_cached: false,
            untold: new.replayed.untold,
        };
        self.requests.insert(id, request);
        for sequence in new.sequences {
            self.waiting.push_back(Sequence::new(id, self.arrivals, sequence));
            self.arrivals += 1;
        }
    }

    /// Gives waiting sequences a place while rows and pages last, in turns by tenant.
    pub(super) fn admit(&mut self) {
        while self.running.len() < self.limits.rows_max {
            let Some(index) = self.next_waiting() else { break };
            let mut sequence = self.waiting.remove(index).expect("it waits");
            self.reuse_prefix(&mut sequence);
            let missing = Pages::needed(sequence.tokens.len() + 1) - sequence.pages.len();
            if missing > self.pages.available() && !self.running.is_empty() {
                self.pages.release(&mut sequence.pages);
                sequence.computed = 0;
                // It keeps its turn, so that what is large gets its pages at last.
                self.waiting.insert(index, sequence);
                break;
            }
            self.start(&mut sequence);
            self.running.push(sequence);
        }
    }

    /// Which of the waiting sequences gets the next place; one whose prompt another is still putting into
    /// the cache lets others pass.
    fn next_waiting(&self) -> Option<usize> {
        let may_start = |sequence: &Sequence| {
            sequence.leads() || self.requests[&sequence.request].prompt_cached
        };
        let waiting = self.waiting.iter().enumerate().filter(|(_, sequence)| may_start(sequence));
        let waiting = waiting.map(|(index, sequence)| (index, &sequence.scope.tenant));
        next_in_turn(self.running.iter().map(|sequence| &sequence.scope.tenant), waiting)
    }

    fn reuse_prefix(&mut self, sequence: &mut Sequence) {
        // A position whose keys and values are reused has no logits.
        let reuses = matches!(sequence.goal, Goal::Generate(_)) && !sequence.scores_prompt();
        if reuses {
            // At least one token must run, for its logits.
            let known = &sequence.tokens[..sequence.tokens.len() - 1];
            sequence.pages = self.pages.reuse(&sequence.scope, known);
            sequence.computed = sequence.pages.len() * PAGE_TOKENS;
        }
    }

    /// Counts a sequence's prompt when it gets its first place.
    fn start(&mut self, sequence: &mut Sequence) {
        if std::mem::replace(&mut sequence.started, true) {
            return;
        }
        self.shared.queued.fetch_sub(1, Ordering::Relaxed);
        let prompt = sequence.prompt_tokens;
        let cached = sequence.computed.min(prompt);
        let mut stats = self.shared.stats.lock();
        stats.prompt_tokens_total += prompt as u64;
        stats.cached_tokens_total += cached as u64;
        let request = self.requests.get_mut(&sequence.request).expect("sequences have requests");
        if let Goal::Embed { .. } = sequence.goal {
            request.usage.prompt_tokens += prompt as u32;
        } else if sequence.leads() {
            let (prompt_tokens, cached_tokens) = (prompt as u32, cached as u32);
            request.usage = Usage { prompt_tokens, cached_tokens, ..request.usage };
            request.events.send(Event::Started { prompt_tokens, cached_tokens });
            for event in std::mem::take(&mut request.untold) {
                request.events.send(event);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use protocol::TenantId;
    use tokio::sync::mpsc;

    use super::*;
    use crate::backbone::{Adapters, Batch, Runner, SliceOutput};
    use crate::runtime::sequence::ReplayedRequest;
    use crate::runtime::step::{Limits, Shared};
    use crate::runtime::stream::{EventStream, channel};
    use crate::runtime::{NewSequence, Scope};
    use crate::tokenizer::Tokenizer;

    const TOKENIZER: &str = r#"{"version":"1.0","added_tokens":[],"model":{"type":"BPE","vocab":{"a":0},
        "merges":[]}}"#;

    /// A backbone of no weights: hidden states of one zero.
    struct Blank;

    impl Runner for Blank {
        fn pages(&self) -> usize {
            16
        }

        fn step(&mut self, batch: &Batch<'_>) -> Vec<SliceOutput> {
            batch.slices.iter().map(|slice| vec![0.0; slice.tokens.len()]).collect()
        }

        fn logits(&self, _: &[f32], _: &Adapters) -> Vec<f32> {
            vec![0.0]
        }

        fn each(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
            (0..tasks).for_each(task);
        }
    }

    /// A loop that computes 16 tokens of prompts a step.
    fn step_loop(rows_max: usize) -> StepLoop {
        let limits = Limits { rows_max, prefill_tokens: 16, lookup_rows: 0 };
        let tokenizer = Tokenizer::from_json(TOKENIZER.as_bytes()).unwrap();
        let (_, commands) = mpsc::channel(1);
        StepLoop::new(Arc::new(tokenizer), Box::new(Blank), commands, limits, Shared::default())
    }

    /// Asks for an embedding of each of so many tokens.
    fn ask(step_loop: &mut StepLoop, tenant: &str, lengths: &[usize]) -> EventStream {
        let (events, stream) = channel(16);
        let scope = Arc::new(Scope { tenant: TenantId::from(tenant), adapters: Vec::new() });
        let sequences = lengths.iter().map(|length| NewSequence {
            tokens: vec![0; *length],
            prompt_tokens: *length,
            leads: true,
            adapters: Arc::default(),
            scope: Arc::clone(&scope),
            goal: Goal::Embed { index: 0, sum: vec![0.0] },
        });
        step_loop.shared.queued.fetch_add(lengths.len(), Ordering::Relaxed);
        step_loop.enqueue(NewRequest {
            events,
            sequences: sequences.collect(),
            replayed: ReplayedRequest::default(),
        });
        stream
    }

    /// Who has a place, in order of arrival, after places were given out.
    fn placed(step_loop: &mut StepLoop) -> Vec<(String, u64)> {
        step_loop.admit();
        step_loop.running.sort_by_key(|sequence| sequence.arrival);
        let running = step_loop.running.iter();
        running.map(|each| (each.scope.tenant.as_str().to_owned(), each.arrival)).collect()
    }

    fn places(of: &[(&str, u64)]) -> Vec<(String, u64)> {
        of.iter().map(|(tenant, arrival)| ((*tenant).to_owned(), *arrival)).collect()
    }

    #[test]
    fn a_newcomer_passes_the_queue_of_a_tenant_who_has_places() {
        let mut step_loop = step_loop(2);
        let _many = ask(&mut step_loop, "many", &[8, 40, 8, 8]);
        assert_eq!(placed(&mut step_loop), places(&[("many", 0), ("many", 1)]));
        let _few = ask(&mut step_loop, "few", &[8, 8]);
        assert_eq!(
            placed(&mut step_loop),
            places(&[("many", 0), ("many", 1)]),
            "nobody is put out"
        );
        step_loop.step();
        assert_eq!(placed(&mut step_loop), places(&[("many", 1), ("few", 4)]));
        step_loop.step();
        step_loop.step();
        assert_eq!(placed(&mut step_loop), places(&[("many", 2), ("few", 4)]));
        step_loop.step();
        assert_eq!(placed(&mut step_loop), places(&[("many", 3), ("few", 5)]));
    }

    #[test]
    fn one_tenant_alone_is_served_in_order_of_arrival() {
        let mut step_loop = step_loop(2);
        let _all = ask(&mut step_loop, "one", &[8; 5]);
        for arrivals in [&[0, 1][..], &[2, 3], &[4], &[]] {
            let expected: Vec<_> = arrivals.iter().map(|arrival| ("one", *arrival)).collect();
            assert_eq!(placed(&mut step_loop), places(&expected));
            step_loop.step();
        }
    }

    #[test]
    fn what_is_too_large_for_the_pages_left_keeps_its_turn() {
        let mut step_loop = step_loop(4);
        let _first = ask(&mut step_loop, "a", &[100]);
        assert_eq!(placed(&mut step_loop), places(&[("a", 0)]));
        step_loop.step();
        let _large = ask(&mut step_loop, "b", &[240]);
        let _small = ask(&mut step_loop, "c", &[8]);
        for _ in 0..6 {
            assert_eq!(placed(&mut step_loop), places(&[("a", 0)]), "pages are kept for the large");
            step_loop.step();
        }
        assert_eq!(placed(&mut step_loop), places(&[("b", 1), ("c", 2)]));
    }
}
