//! The loop itself: take commands, admit, plan, run one step, hand out what came of it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use protocol::{ErrorCode, Event, Usage, WorkError};
use tokio::sync::mpsc;

use super::commands::Command;
use super::pages::Pages;
use super::plan::{Pending, plan};
use super::probe::probe;
use super::sequence::{Goal, NewRequest, Sequence};
use super::stats::{EngineStats, Meter};
use super::stream::EventSender;
use super::turn::next_in_turn;
use crate::backbone::{Batch, PAGE_TOKENS, Runner, Slice, SliceOutput};
use crate::tokenizer::Tokenizer;

/// Owns the runner and everything that runs on it.
pub(crate) struct StepLoop {
    pub(super) tokenizer: Arc<Tokenizer>,
    pub(super) runner: Box<dyn Runner>,
    commands: mpsc::Receiver<Command>,
    limits: Limits,
    pub(super) pages: Pages,
    waiting: VecDeque<Sequence>,
    running: Vec<Sequence>,
    pub(super) requests: HashMap<u64, Request>,
    arrivals: u64,
    shared: Shared,
    meter: Meter,
}

/// How much runs at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Sequences in the batch.
    pub(crate) rows_max: usize,
    /// Prompt tokens per step.
    pub(crate) prefill_tokens: usize,
    /// Rows to which guesses fill a step up.
    pub(crate) lookup_rows: usize,
}

/// What the loop shares with the engine's handles.
#[derive(Clone, Default)]
pub(crate) struct Shared {
    pub(crate) stats: Arc<Mutex<EngineStats>>,
    /// Sequences that were submitted and have no place in the batch yet.
    pub(crate) queued: Arc<AtomicUsize>,
}

/// A request whose sequences are in the loop.
pub(super) struct Request {
    pub(super) events: EventSender,
    pub(super) unfinished: usize,
    pub(super) usage: Usage,
    /// The first answer's prompt is in the cache.
    pub(super) prompt_cached: bool,
    /// What its reader does not have yet of what was drawn elsewhere.
    untold: Vec<Event>,
}

impl StepLoop {
    pub(crate) fn new(
        tokenizer: Arc<Tokenizer>,
        runner: Box<dyn Runner>,
        commands: mpsc::Receiver<Command>,
        limits: Limits,
        shared: Shared,
    ) -> Self {
        let pages = Pages::new(runner.pages());
        Self {
            tokenizer,
            runner,
            commands,
            limits,
            pages,
            waiting: VecDeque::new(),
            running: Vec::new(),
            requests: HashMap::new(),
            arrivals: 0,
            shared,
            meter: Meter::default(),
        }
    }

    /// Runs until it is told to stop or all handles are gone.
    pub(crate) fn run(mut self) {
        while self.take_commands() {
            self.drop_cancelled();
            self.admit();
            self.step();
            self.publish();
        }
        for request in self.requests.values() {
            let message = "the engine is shutting down; send the request again";
            request.events.fail(WorkError::new(ErrorCode::Draining, message));
        }
    }

    /// Takes what has come; waits for something if there is nothing to run. False means stop.
    fn take_commands(&mut self) -> bool {
        let idle = self.running.is_empty() && self.waiting.is_empty();
        let mut next = if idle { self.commands.blocking_recv() } else { self.try_next() };
        while let Some(command) = next {
            if !self.obey(command) {
                return false;
            }
            next = self.try_next();
        }
        !self.commands.is_closed()
    }

    fn try_next(&mut self) -> Option<Command> {
        self.commands.try_recv().ok()
    }

    fn obey(&mut self, command: Command) -> bool {
        match command {
            Command::Submit(request) => self.enqueue(request),
            Command::Probe { adapter, tokens, reply } => {
                let report = probe(&mut *self.runner, &mut self.pages, adapter, &tokens);
                let busy = || WorkError::new(ErrorCode::Busy, "the KV cache is full; try again");
                // Whoever gave up waiting does not need the report.
                let _ = reply.try_send(report.ok_or_else(busy));
            }
            Command::Stop => return false,
        }
        true
    }

    fn enqueue(&mut self, new: NewRequest) {
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

    /// Frees everything of requests that nobody listens to any more.
    fn drop_cancelled(&mut self) {
        self.requests.retain(|_, request| !request.events.is_cancelled());
        let requests = &self.requests;
        let queued = &self.shared.queued;
        self.waiting.retain(|sequence| {
            let kept = requests.contains_key(&sequence.request);
            if !kept && !sequence.started {
                queued.fetch_sub(1, Ordering::Relaxed);
            }
            kept
        });
        let pages = &mut self.pages;
        self.running.retain_mut(|sequence| {
            let kept = requests.contains_key(&sequence.request);
            if !kept {
                pages.release(&mut sequence.pages);
            }
            kept
        });
    }

    /// Gives waiting sequences a place while rows and pages last, in turns by tenant.
    fn admit(&mut self) {
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

    /// Runs one step over everything that has a place.
    fn step(&mut self) {
        self.running.sort_by_key(|sequence| sequence.arrival);
        let tokens = self.plan();
        self.guess(&tokens);
        let mut order: Vec<usize> = (0..self.running.len()).filter(|&i| tokens[i] > 0).collect();
        if order.is_empty() {
            return;
        }
        // Sequences with equal adapters side by side share one pass of the adapters' matrices.
        order.sort_by(|&a, &b| {
            self.running[a].scope.adapters.cmp(&self.running[b].scope.adapters).then(a.cmp(&b))
        });
        let slices = order.iter().map(|&i| slice(&self.running[i], tokens[i])).collect();
        let before = Instant::now();
        let outputs = self.runner.step(&Batch { slices, effect: None });
        let decodes = order.iter().filter(|&&i| self.running[i].decodes()).count();
        let prompt_tokens = tokens.iter().sum::<usize>() - decodes;
        let took = before.elapsed();
        self.shared.stats.lock().rows_total += order.len() as u64;
        let mut of_sequence: Vec<Option<SliceOutput>> = tokens.iter().map(|_| None).collect();
        for (index, output) in order.into_iter().zip(outputs) {
            of_sequence[index] = Some(output);
        }
        let accepted = self.shared.stats.lock().accepted_tokens_total;
        self.absorb(&tokens, of_sequence);
        let accepted = self.shared.stats.lock().accepted_tokens_total - accepted;
        self.meter.step(prompt_tokens, decodes, accepted, took);
    }

    /// Decides how many tokens of each sequence run, and finds pages for them. Who came last gives
    /// its pages back if there are not enough.
    fn plan(&mut self) -> Vec<usize> {
        let pending = |sequence: &Sequence| Pending {
            tokens: sequence.pending(),
            decodes: sequence.decodes(),
        };
        let pending: Vec<Pending> = self.running.iter().map(pending).collect();
        let mut tokens = plan(&pending, self.limits.prefill_tokens);
        let mut index = 0;
        while index < self.running.len() {
            let sequence = &mut self.running[index];
            if self.pages.grow(&mut sequence.pages, sequence.computed + tokens[index]) {
                index += 1;
            } else {
                self.preempt_last();
            }
        }
        tokens.truncate(self.running.len());
        tokens
    }

    /// Fills the step up with guesses, as long as few rows run: then most of its time goes into reading
    /// weights, and a row more costs little.
    fn guess(&mut self, tokens: &[usize]) {
        let mut left = self.limits.lookup_rows.saturating_sub(tokens.iter().sum());
        let mut sharers = self.running.iter().filter(|sequence| sequence.decodes()).count();
        for sequence in self.running.iter_mut().filter(|sequence| sequence.decodes()) {
            let share = left / sharers;
            sharers -= 1;
            if share == 0 {
                continue;
            }
            let guessed = sequence.guess(share);
            if self.pages.grow(&mut sequence.pages, sequence.tokens.len() + guessed) {
                left -= guessed;
            } else {
                sequence.draft.clear();
            }
        }
    }

    fn preempt_last(&mut self) {
        let mut last = self.running.pop().expect("a sequence lacks pages");
        self.pages.release(&mut last.pages);
        last.computed = 0;
        if let Goal::Embed { sum, .. } = &mut last.goal {
            sum.fill(0.0);
        }
        self.shared.stats.lock().preemptions_total += 1;
        self.waiting.push_front(last);
    }

    fn absorb(&mut self, tokens: &[usize], outputs: Vec<Option<SliceOutput>>) {
        let running = std::mem::take(&mut self.running);
        for ((mut sequence, tokens), output) in running.into_iter().zip(tokens).zip(outputs) {
            let goes_on = match output {
                Some(output) => self.advance(&mut sequence, *tokens, output),
                None => true,
            };
            if goes_on {
                self.running.push(sequence);
            } else {
                self.finish(sequence);
            }
        }
    }

    /// Gives a sequence's pages back and ends its request if it was the last.
    fn finish(&mut self, mut sequence: Sequence) {
        let known = &sequence.tokens[..sequence.computed];
        self.pages.remember(&sequence.scope, known, &sequence.pages);
        self.pages.release(&mut sequence.pages);
        let Some(request) = self.requests.get_mut(&sequence.request) else { return };
        request.unfinished -= 1;
        if request.unfinished == 0 {
            request.events.send(Event::Done(request.usage));
            self.requests.remove(&sequence.request);
        }
    }

    /// Ends a request whose work cannot go on.
    pub(super) fn fail(&mut self, request: u64, error: WorkError) {
        if let Some(request) = self.requests.remove(&request) {
            request.events.fail(error);
        }
    }

    /// Counts what one sequence generated in a step, guesses that ran, and those that were accepted.
    pub(super) fn count_generated(&self, generated: usize, guessed: usize, accepted: usize) {
        let mut stats = self.shared.stats.lock();
        stats.generated_tokens_total += generated as u64;
        stats.draft_tokens_total += guessed as u64;
        stats.accepted_tokens_total += accepted as u64;
    }

    fn publish(&self) {
        let mut stats = self.shared.stats.lock();
        stats.running = self.running.len() as u32;
        stats.waiting = self.waiting.len() as u32;
        let all = self.running.iter().chain(&self.waiting);
        stats.queued_tokens = all.map(|sequence| sequence.tokens_left() as u64).sum();
        stats.kv_used_ratio = self.pages.used_ratio();
        stats.prefill_tokens_per_second = self.meter.prefill_tokens_per_second();
        stats.decode_tokens_per_second = self.meter.decode_tokens_per_second();
        stats.steps_total += 1;
    }
}

fn slice(sequence: &Sequence, tokens: usize) -> Slice<'_> {
    Slice {
        tokens: sequence.next(tokens),
        position: sequence.computed,
        pages: &sequence.pages,
        adapters: &sequence.adapters,
        want: sequence.want(tokens),
    }
}

#[cfg(test)]
mod tests {
    use protocol::TenantId;

    use super::*;
    use crate::backbone::Adapters;
    use crate::runtime::sequence::ReplayedRequest;
    use crate::runtime::stream::{EventStream, channel};
    use crate::runtime::{NewSequence, Scope};

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
