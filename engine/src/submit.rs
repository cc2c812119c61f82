//! Work at the engine's door: checked against the model, turned into tokens, put in the queue.

use std::sync::Arc;

use protocol::{
    EmbedWork, ErrorCode, GenerateWork, Prompt, ReplayedChoice, Sampling, TenantId, ToolChoice,
    Work, WorkError,
};

use crate::backbone::Adapters;
use crate::constrain::Matcher;
use crate::engine::Engine;
use crate::prompt::invalid;
use crate::runtime::{
    Command, EventStream, Generate, Goal, History, NewRequest, NewSequence, PromptScores,
    ReplayedRequest, Scope, TextOutput, Told, ToolParser, channel, misfit, tool_grammar,
};

/// Answers to one request.
const CHOICES_MAX: u32 = 16;
/// An answer of which nothing was told.
static UNTOUCHED: ReplayedChoice =
    ReplayedChoice { tokens: Vec::new(), text_bytes: 0, calls: 0, finished: false };
/// Inputs of one embedding request.
const INPUTS_MAX: usize = 2048;

impl Engine {
    /// Starts a piece of work. Dropping the stream cancels it.
    ///
    /// # Errors
    /// [`WorkError`] if the work cannot be done as written, needs an adapter that is not resident,
    /// or finds the queue full.
    pub fn submit(&self, work: Work) -> Result<EventStream, WorkError> {
        match work {
            Work::Generate(work) => self.submit_generate(&work),
            Work::Embed(work) => self.submit_embed(&work),
            Work::Prove(_) => {
                Err(WorkError::new(ErrorCode::InvalidRequest, "an adapter is proven by loading it"))
            }
        }
    }

    fn submit_generate(&self, work: &GenerateWork) -> Result<EventStream, WorkError> {
        if work.choices == 0 || work.choices > CHOICES_MAX {
            return Err(invalid("n", format!("n is 1 to {CHOICES_MAX}")));
        }
        let adapters = self.lease(&work.adapters)?;
        let tokens = self.inner.firmware.tokens_of(&work.prompt)?;
        let max_tokens = self.answer_limit(tokens.len(), work.max_tokens)?;
        let scope = Arc::new(scope(&work.tenant, &adapters));
        let matcher = self.matcher(work)?;
        let (mut sequences, mut replayed) = (Vec::new(), ReplayedRequest::default());
        for choice in 0..work.choices {
            let mut generate = self.generate(work, choice, &tokens, max_tokens, matcher.clone());
            if !self.replay(work, &mut generate, &tokens, &mut replayed)? {
                continue;
            }
            let (adapters, scope) = (Arc::clone(&adapters), Arc::clone(&scope));
            let (prompt_tokens, leads) = (tokens.len(), sequences.is_empty());
            let drawn = &answer(work, choice).tokens[..];
            let (tokens, goal) = ([&tokens[..], drawn].concat(), Goal::Generate(generate));
            sequences.push(NewSequence { tokens, prompt_tokens, leads, adapters, scope, goal });
        }
        // The prompt token by token, a text and a call per token, each choice's last words and end.
        let events_max = tokens.len() + work.choices as usize * (2 * max_tokens + 8) + 8;
        if sequences.is_empty() {
            return Ok(EventStream::whole(replayed.over(tokens.len())));
        }
        self.enqueue(sequences, replayed, events_max)
    }

    /// Takes in what was drawn and told of an answer elsewhere. False if that is all of it.
    fn replay(
        &self,
        work: &GenerateWork,
        generate: &mut Generate,
        prompt: &[u32],
        replayed: &mut ReplayedRequest,
    ) -> Result<bool, WorkError> {
        let Some(replay) = &work.replay else { return Ok(true) };
        let answer = answer(work, generate.choice);
        let tokenizer = &self.inner.firmware.tokenizer;
        if let Some(scores) = &mut generate.scores {
            let told = replay.prompt_tokens as usize;
            if told > prompt.len() || (told < prompt.len() && *answer != UNTOUCHED) {
                return Err(misfit());
            }
            scores.replay(tokenizer, prompt, told);
        }
        let after = generate.replay(tokenizer, answer)?;
        replayed.tokens += generate.generated;
        replayed.untold.extend(after.untold);
        Ok(!after.ended)
    }

    fn generate(
        &self,
        work: &GenerateWork,
        choice: u32,
        tokens: &[u32],
        max_tokens: usize,
        matcher: Option<Matcher>,
    ) -> Box<Generate> {
        let tokenizer = Arc::clone(&self.inner.firmware.tokenizer);
        let logprobs = work.logprobs.map(usize::from);
        let scored = logprobs.filter(|_| work.prompt_logprobs);
        let scores = scored.filter(|_| choice == 0);
        let scores = scores.map(|top| PromptScores::new(&tokenizer, &work.prompt, tokens, top));
        Box::new(Generate {
            choice,
            max_tokens,
            ignore_eos: work.ignore_eos,
            logprobs,
            scores,
            tells_end: scored.is_some(),
            matcher,
            text: TextOutput::new(tokenizer, work.stop.clone(), tool_parser(work)),
            history: history(&work.sampling, tokens),
            sampling: work.sampling.clone(),
            generated: 0,
            told: Told::default(),
        })
    }

    fn submit_embed(&self, work: &EmbedWork) -> Result<EventStream, WorkError> {
        if work.inputs.is_empty() || work.inputs.len() > INPUTS_MAX {
            return Err(invalid("input", format!("1 to {INPUTS_MAX} inputs are possible")));
        }
        let adapters = self.lease(&work.adapters)?;
        let scope = Arc::new(scope(&work.tenant, &adapters));
        let hidden = self.inner.firmware.backbone.shape().hidden;
        let sequences: Result<Vec<_>, WorkError> = (0..)
            .zip(&work.inputs)
            .map(|(index, input)| {
                let tokens = self.inner.firmware.tokens_of(input)?;
                self.answer_limit(tokens.len(), Some(0))?;
                let goal = Goal::Embed { index, sum: vec![0.0; hidden] };
                let (adapters, scope) = (Arc::clone(&adapters), Arc::clone(&scope));
                let (prompt_tokens, leads) = (tokens.len(), true);
                Ok(NewSequence { tokens, prompt_tokens, leads, adapters, scope, goal })
            })
            .collect();
        let events_max = work.inputs.len() + 8;
        self.enqueue(sequences?, ReplayedRequest::default(), events_max)
    }

    fn enqueue(
        &self,
        sequences: Vec<NewSequence>,
        replayed: ReplayedRequest,
        events_max: usize,
    ) -> Result<EventStream, WorkError> {
        let count = sequences.len();
        self.reserve(count)?;
        let (events, stream) = channel(events_max);
        self.send(Command::Submit(NewRequest { events, sequences, replayed }))
            .inspect_err(|_| self.release(count))?;
        Ok(stream)
    }

    /// How many tokens may follow a prompt.
    fn answer_limit(&self, prompt: usize, asked: Option<u32>) -> Result<usize, WorkError> {
        let most = self.inner.tokens_max;
        let left = most.saturating_sub(prompt);
        let asked = asked.map(|asked| asked as usize);
        if prompt > most || (left == 0 && asked != Some(0)) {
            let message = format!(
                "the prompt has {prompt} tokens; prompt and answer together have room for {most}"
            );
            return Err(WorkError::new(ErrorCode::ContextLengthExceeded, message));
        }
        Ok(asked.unwrap_or(left).min(left))
    }

    /// What holds the answer to the caller's form and its calls to their tools' schemas.
    fn matcher(&self, work: &GenerateWork) -> Result<Option<Matcher>, WorkError> {
        let answer = work.constraint.as_ref();
        let called = match &work.prompt {
            Prompt::Chat { tools, tool_choice, .. } => tool_grammar(tools, tool_choice, answer),
            Prompt::Text(_) | Prompt::Tokens(_) => None,
        };
        let firmware = &self.inner.firmware;
        Ok(match (called, answer) {
            (Some(called), _) => {
                Some(firmware.grammars()?.compile_parts(&called.rules, &called.parts)?)
            }
            (None, Some(answer)) => Some(firmware.grammars()?.compile(answer)?),
            (None, None) => None,
        })
    }
}

/// What was drawn and told of an answer elsewhere.
fn answer(work: &GenerateWork, choice: u32) -> &ReplayedChoice {
    let known = work.replay.as_ref().and_then(|replay| replay.choices.get(choice as usize));
    known.unwrap_or(&UNTOUCHED)
}

/// Finds calls in the answer, if there may be any. An answer whose form the caller gave is a call only
/// between tags.
fn tool_parser(work: &GenerateWork) -> Option<ToolParser> {
    let Prompt::Chat { tools, tool_choice, calls_max, .. } = &work.prompt else { return None };
    if tools.is_empty() || *tool_choice == ToolChoice::None {
        return None;
    }
    let free = *tool_choice == ToolChoice::Auto && work.constraint.is_none();
    let names = tools.iter().map(|tool| tool.name.as_str());
    let parser = ToolParser::new(*calls_max);
    Some(if free { parser.with_bare(names) } else { parser })
}

/// Only the repetition penalty looks at the prompt.
fn history(sampling: &Sampling, tokens: &[u32]) -> History {
    let looks = sampling.repetition_penalty.to_bits() != 1.0f32.to_bits();
    if looks { History::of_prompt(tokens) } else { History::default() }
}

fn scope(tenant: &TenantId, adapters: &Adapters) -> Scope {
    let shaping = adapters.iter().filter(|(adapter, _)| adapter.shapes_cache);
    let adapters = shaping.map(|(adapter, scale)| (adapter.generation, scale.to_bits())).collect();
    Scope { tenant: tenant.clone(), adapters }
}
