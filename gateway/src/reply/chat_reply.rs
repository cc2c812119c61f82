//! A whole chat, collected from its events.

use std::collections::BTreeMap;

use protocol::openai::{
    CalledFunction, ChatChoice, ChatCompletion, ReplyMessage, Role, ToolCallItem, ToolKind,
    UsageReport,
};
use protocol::{Event, FinishReason, TokenLogprob, Usage};

use super::call::{CallForm, call_id};
use super::{Head, logprobs};

/// Collects events into one reply.
#[derive(Debug)]
pub struct ChatReply {
    head: Head,
    with_logprobs: bool,
    calls: CallForm,
    answers: Vec<Answer>,
    usage: Usage,
}

#[derive(Debug, Default)]
struct Answer {
    text: String,
    calls: BTreeMap<u32, CalledFunction>,
    logprobs: Vec<TokenLogprob>,
    reason: Option<FinishReason>,
}

impl ChatReply {
    /// For a chat with this many answers.
    pub fn new(head: Head, choices: u32, with_logprobs: bool, calls: CallForm) -> Self {
        let answers = (0..choices).map(|_| Answer::default()).collect();
        Self { head, with_logprobs, calls, answers, usage: Usage::default() }
    }

    /// Takes one event; one of an answer that was not asked for is dropped.
    pub fn push(&mut self, event: Event) {
        match event {
            Event::Text { choice, text, logprobs, .. } => {
                let Some(answer) = self.answers.get_mut(choice as usize) else { return };
                answer.text.push_str(&text);
                answer.logprobs.extend(logprobs);
            }
            Event::ToolCall { call, .. } if !self.calls.tells(call) => {}
            Event::ToolCall { choice, call, name, arguments } => {
                let Some(answer) = self.answers.get_mut(choice as usize) else { return };
                let empty = || CalledFunction { name: String::new(), arguments: String::new() };
                let function = answer.calls.entry(call).or_insert_with(empty);
                function.name.push_str(&name.unwrap_or_default());
                function.arguments.push_str(&arguments);
            }
            Event::Finished { choice, reason } => {
                if let Some(answer) = self.answers.get_mut(choice as usize) {
                    answer.reason = Some(reason);
                }
            }
            Event::Done(usage) => self.usage = usage,
            Event::Started { .. }
            | Event::Prompt { .. }
            | Event::Embedding { .. }
            | Event::Proved(_) => {}
        }
    }

    /// The reply.
    pub fn finish(self) -> ChatCompletion {
        let (id, with_logprobs, form) = (self.head.id, self.with_logprobs, self.calls);
        let answers = (0..).zip(self.answers);
        ChatCompletion {
            choices: answers
                .map(|(index, answer)| answer.choice(&id, index, with_logprobs, form))
                .collect(),
            id,
            object: "chat.completion".to_owned(),
            created: self.head.created,
            model: self.head.model,
            usage: UsageReport::from(self.usage),
            system_fingerprint: self.head.fingerprint,
            adapter_generation: self.head.adapter_generation,
            service_tier: Some("default".to_owned()),
        }
    }
}

impl Answer {
    fn choice(self, reply: &str, index: u32, with_logprobs: bool, form: CallForm) -> ChatChoice {
        let item = |(call, function)| ToolCallItem {
            id: call_id(reply, index, call),
            kind: ToolKind::Function,
            function,
        };
        let only_calls = self.text.is_empty() && !self.calls.is_empty();
        let mut calls = self.calls;
        let legacy = form == CallForm::Function;
        let function_call = if legacy { calls.remove(&0) } else { None };
        let calls: Vec<ToolCallItem> = calls.into_iter().map(item).collect();
        ChatChoice {
            index,
            message: ReplyMessage {
                role: Role::Assistant,
                content: (!only_calls).then_some(self.text),
                refusal: None,
                tool_calls: (!calls.is_empty()).then_some(calls),
                function_call,
                annotations: Vec::new(),
                audio: None,
            },
            logprobs: with_logprobs.then(|| logprobs::chat(self.logprobs)),
            finish_reason: form
                .finish_reason(self.reason.unwrap_or(FinishReason::Length))
                .to_owned(),
        }
    }
}
