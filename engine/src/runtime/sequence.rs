//! One sequence of tokens on its way through the loop.

use std::sync::Arc;

use protocol::{Event, Sampling, Usage};

use super::lookup::Lookup;
use super::prefix::Scope;
use super::replay::Told;
use super::sampler::History;
use super::score::PromptScores;
use super::stream::EventSender;
use super::text::TextOutput;
use crate::backbone::{Adapters, Want};
use crate::constrain::Matcher;

/// Work as it enters the loop: checked, in tokens.
pub(crate) struct NewRequest {
    pub(crate) events: EventSender,
    pub(crate) sequences: Vec<NewSequence>,
    pub(crate) replayed: ReplayedRequest,
}

/// What a request brings along that broke off elsewhere.
#[derive(Default)]
pub(crate) struct ReplayedRequest {
    /// What its reader does not have yet of what was drawn.
    pub(crate) untold: Vec<Event>,
    /// Tokens that were drawn.
    pub(crate) tokens: usize,
}

impl ReplayedRequest {
    /// All that is left to tell if every answer was at its end.
    pub(crate) fn over(self, prompt_tokens: usize) -> Vec<Event> {
        let (prompt_tokens, cached_tokens) = (prompt_tokens as u32, 0);
        let completion_tokens = self.tokens as u32;
        let usage = Usage { prompt_tokens, cached_tokens, completion_tokens };
        let started = Event::Started { prompt_tokens, cached_tokens };
        std::iter::once(started).chain(self.untold).chain([Event::Done(usage)]).collect()
    }
}

/// One answer or one input to embed.
pub(crate) struct NewSequence {
    /// The prompt, and what was drawn elsewhere.
    pub(crate) tokens: Vec<u32>,
    pub(crate) prompt_tokens: usize,
    /// Others of the request wait until it has put the prompt into the cache.
    pub(crate) leads: bool,
    pub(crate) adapters: Arc<Adapters>,
    pub(crate) scope: Arc<Scope>,
    pub(crate) goal: Goal,
}

/// What a sequence is for.
pub(crate) enum Goal {
    Generate(Box<Generate>),
    Embed {
        /// Which input of the request.
        index: u32,
        /// Sum of the hidden states so far.
        sum: Vec<f32>,
    },
}

impl Goal {
    /// The prompt on its way back, if the caller wants it.
    pub(super) fn scores(&mut self) -> Option<&mut PromptScores> {
        match self {
            Self::Generate(generate) => generate.scores.as_mut(),
            Self::Embed { .. } => None,
        }
    }
}

/// How one answer is generated.
pub(crate) struct Generate {
    pub(crate) choice: u32,
    pub(crate) sampling: Sampling,
    pub(crate) max_tokens: usize,
    pub(crate) ignore_eos: bool,
    pub(crate) logprobs: Option<usize>,
    /// The prompt is told too; of several answers only the first does so.
    pub(crate) scores: Option<PromptScores>,
    /// The end token is told too.
    pub(crate) tells_end: bool,
    pub(crate) matcher: Option<Matcher>,
    pub(crate) text: TextOutput,
    pub(crate) history: History,
    pub(crate) generated: usize,
    pub(crate) told: Told,
}

/// A sequence in the loop.
pub(super) struct Sequence {
    pub(super) request: u64,
    /// Order of arrival.
    pub(super) arrival: u64,
    pub(super) tokens: Vec<u32>,
    pub(super) prompt_tokens: usize,
    /// Tokens that it came with.
    pub(super) given_tokens: usize,
    leads: bool,
    /// It has had a place in the batch before.
    pub(super) started: bool,
    /// Tokens whose keys and values are in the cache.
    pub(super) computed: usize,
    /// The pending token and guesses at what follows it, if these run together in this step.
    pub(super) draft: Vec<u32>,
    pub(super) lookup: Lookup,
    pub(super) pages: Vec<u32>,
    pub(super) adapters: Arc<Adapters>,
    pub(super) scope: Arc<Scope>,
    pub(super) goal: Goal,
}

impl Sequence {
    pub(super) fn new(request: u64, arrival: u64, new: NewSequence) -> Self {
        let NewSequence { tokens, prompt_tokens, leads, adapters, scope, goal } = new;
        Self {
            request,
            arrival,
            prompt_tokens,
            given_tokens: tokens.len(),
            leads,
            tokens,
            started: false,
            computed: 0,
            draft: Vec::new(),
            lookup: Lookup::default(),
            pages: Vec::new(),
            adapters,
            scope,
            goal,
        }
    }

    /// Tokens that are not in the cache yet.
    pub(super) fn pending(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Whether it goes on by one token a step.
    pub(super) fn decodes(&self) -> bool {
        self.tokens.len() > self.given_tokens && self.pending() == 1
    }

    /// Guesses at most `most` tokens, which run behind the pending one. How many there are.
    pub(super) fn guess(&mut self, most: usize) -> usize {
        let Goal::Generate(generate) = &self.goal else { return 0 };
        // An answer's last token does not run.
        let most = most.min(generate.max_tokens - generate.generated - 1);
        let guesses = self.lookup.guess(&self.tokens, most);
        self.draft = self.tokens.last().copied().into_iter().chain(guesses).collect();
        self.draft.len() - 1
    }

    /// The tokens that run next: `tokens` of those pending, or a pending one with guesses.
    pub(super) fn next(&self, tokens: usize) -> &[u32] {
        let pending = &self.tokens[self.computed..self.computed + tokens];
        if self.draft.is_empty() { pending } else { &self.draft }
    }

    /// Later answers of a request wait until the first has put their prompt into the cache.
    pub(super) const fn leads(&self) -> bool {
        self.leads
    }

    /// What to ask of the backbone when the next `tokens` run.
    pub(super) fn want(&self, tokens: usize) -> Want {
        match self.goal {
            Goal::Embed { .. } => Want::Hidden,
            Goal::Generate(_) if self.scores_prompt() => Want::Hidden,
            Goal::Generate(_) if !self.draft.is_empty() => Want::Logits,
            Goal::Generate(_) if tokens == self.pending() => Want::LastLogits,
            Goal::Generate(_) => Want::Nothing,
        }
    }

    /// Whether log-probabilities of its prompt are still to be told.
    pub(super) fn scores_prompt(&self) -> bool {
        let Goal::Generate(generate) = &self.goal else { return false };
        generate.scores.as_ref().is_some_and(|scores| !scores.is_over(self.prompt_tokens))
    }

    /// Tokens that it may still cost.
    pub(super) fn tokens_left(&self) -> usize {
        match &self.goal {
            Goal::Embed { .. } => self.pending(),
            Goal::Generate(generate) => self.pending() + generate.max_tokens - generate.generated,
        }
    }
}
