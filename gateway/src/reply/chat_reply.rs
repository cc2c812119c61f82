//! A whole chat, collected from its events.

use std::collections::BTreeMap;

use protocol::openai::{
    CalledFunction, ChatChoice, ChatCompletion, ReplyMessage, Role, ToolCallItem, ToolKind,
    UsageReport,
};
use protocol::{Event, FinishReason, TokenLogprob, Usage};

use super::{Head, call::call_id, finish_reason, logprobs};

/// Collects events into one reply.
#[derive(Debug)]
pub struct ChatReply {
    head: Head,
    with_logprobs: bool,
    parallel_tool_calls: bool,
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
    pub fn new(head: Head, choices: u32, with_logprobs: bool, parallel_tool_calls: bool) -> Self {
        let answers = (0..choices).map(|_| Answer::default()).collect();
        Self { head, with_logprobs, parallel_tool_calls, answers, usage: Usage::default() }
    }

    /// Takes one event; one of an answer that was not asked for is dropped.
    pub fn push(&mut self, event: Event) {
        match event {
            Event::Text { choice, text, logprobs, .. } => {
                let Some(answer) = self.answers.get_mut(choice as usize) else { return };
                answer.text.push_str(&text);
                answer.logprobs.extend(logprobs);
            }
            Event::ToolCall { call, .. } if call > 0 && !self.parallel_tool_calls => {}
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
            Event::Started { .. } | Event::Embedding { .. } | Event::Proved(_) => {}
        }
    }

    /// The reply.
    pub fn finish(self) -> ChatCompletion {
        let (id, with_logprobs) = (self.head.id, self.with_logprobs);
        let answers = (0..).zip(self.answers);
        ChatCompletion {
            choices: answers
                .map(|(index, answer)| answer.choice(&id, index, with_logprobs))
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
    fn choice(self, reply: &str, index: u32, with_logprobs: bool) -> ChatChoice {
        let item = |(call, function)| ToolCallItem {
            id: call_id(reply, index, call),
            kind: ToolKind::Function,
            function,
        };
        let calls: Vec<ToolCallItem> = self.calls.into_iter().map(item).collect();
        let only_calls = self.text.is_empty() && !calls.is_empty();
        ChatChoice {
            index,
            message: ReplyMessage {
                role: Role::Assistant,
                content: (!only_calls).then_some(self.text),
                refusal: None,
                tool_calls: (!calls.is_empty()).then_some(calls),
                annotations: Vec::new(),
            },
            logprobs: with_logprobs.then(|| logprobs::chat(self.logprobs)),
            finish_reason: finish_reason(self.reason.unwrap_or(FinishReason::Length)).to_owned(),
        }
    }
}
