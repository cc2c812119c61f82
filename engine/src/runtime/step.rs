//! The loop itself: take commands, admit, plan, run one step, hand out what came of it.

mod admit;

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
use super::sequence::{Goal, Sequence};
use super::stats::{EngineStats, Meter};
use super::stream::EventSender;
use crate::backbone::{Batch, Runner, Slice, SliceOutput};
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
