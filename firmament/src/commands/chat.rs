//! `firmament chat`: a conversation in the terminal, or one question from an argument or a pipe.

use std::io::{IsTerminal, Read, Write};

use anyhow::anyhow;
use clap::Args;
use protocol::openai::ErrorBody;
use protocol::sse::{Message, Parser};
use reqwest::Method;
use serde_json::{Value, json};

use super::api::Api;
use super::lines::Lines;
use crate::cli::Server;
use crate::failure::Failure;
use crate::output::{Output, note, print};

const EVENT_BYTES_MAX: usize = 1 << 20;
const INPUT_BYTES_MAX: u64 = 1 << 20;

/// How to talk.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The question; what a pipe brings comes after it. Without either, lines of the keyboard are read.
    prompt: Option<String>,
    /// A firmware, an adapter, or `<firmware>::<adapter>`.
    #[arg(long, default_value = "default")]
    model: String,
    /// An adapter on the model.
    #[arg(long)]
    adapter: Option<String>,
    /// Instructions before the conversation.
    #[arg(long)]
    system: Option<String>,
    /// Most tokens of an answer.
    #[arg(long, default_value_t = 512)]
    max_tokens: u32,
    /// 0 takes the likeliest words, higher is freer; small models ramble when it is high.
    #[arg(long, default_value_t = 0.2)]
    temperature: f64,
    /// Draw only among the likeliest words that together have this share.
    #[arg(long, default_value_t = 0.9)]
    top_p: f64,
    /// The same seed gives the same answer.
    #[arg(long)]
    seed: Option<u64>,
    #[command(flatten)]
    server: Server,
}

struct Chat {
    api: Api,
    request: Value,
    messages: Vec<Value>,
}

/// Talks until there is nothing more to say.
pub async fn run(arguments: Arguments, output: Output) -> Result<(), Failure> {
    let piped = if std::io::stdin().is_terminal() { None } else { piped()? };
    let question = match (&arguments.prompt, piped) {
        (Some(prompt), Some(text)) => Some(format!("{prompt}\n\n{text}")),
        (Some(prompt), None) => Some(prompt.clone()),
        (None, Some(text)) => Some(text),
        (None, None) if std::io::stdin().is_terminal() => None,
        (None, None) => return Err(Failure::usage(anyhow!("there is no prompt"))),
    };
    let mut chat = Chat::new(&arguments)?;
    match question {
        Some(question) if output.is_json() => chat.whole(&question).await,
        Some(question) => chat.turn(&question).await,
        None if output.is_json() => {
            Err(Failure::usage(anyhow!("--json needs a prompt, as argument or from a pipe")))
        }
        None => chat.converse().await,
    }
}

/// What a pipe or file brings; none if that is blank.
fn piped() -> Result<Option<String>, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().take(INPUT_BYTES_MAX + 1).read_to_string(&mut text);
    read.map_err(|error| Failure::new(error, "pipe UTF-8 text"))?;
    if text.len() as u64 > INPUT_BYTES_MAX {
        return Err(Failure::usage(anyhow!("the prompt is longer than {INPUT_BYTES_MAX} bytes")));
    }
    Ok(Some(text).filter(|text| !text.trim().is_empty()))
}

impl Chat {
    fn new(arguments: &Arguments) -> Result<Self, Failure> {
        let model = match (&arguments.adapter, arguments.model.as_str()) {
            (None, model) => model.to_owned(),
            (Some(adapter), "default") => adapter.clone(),
            (Some(adapter), model) => format!("{model}::{adapter}"),
        };
        let request = json!({
            "model": model,
            "max_completion_tokens": arguments.max_tokens,
            "temperature": arguments.temperature,
            "top_p": arguments.top_p,
            "seed": arguments.seed,
        });
        let system =
            arguments.system.iter().map(|text| json!({ "role": "system", "content": text }));
        Ok(Self { api: Api::new(&arguments.server)?, request, messages: system.collect() })
    }

    /// Lines of the keyboard until it says no more. Ctrl-C ends an answer, and at the prompt the talk.
    async fn converse(&mut self) -> Result<(), Failure> {
        note("say something; /new begins anew, Ctrl-D ends");
        let mut lines = Lines::new()?;
        while let Some(line) = lines.next().await? {
            match line.trim() {
                "" => {}
                "/new" => self.messages.retain(|message| message["role"] == "system"),
                line => self.turn(line).await?,
            }
        }
        Ok(())
    }

    /// One question and its answer, written as it comes.
    async fn turn(&mut self, question: &str) -> Result<(), Failure> {
        self.messages.push(json!({ "role": "user", "content": question }));
        let mut answer = String::new();
        tokio::select! {
            outcome = self.stream(&mut answer) => outcome?,
            _ = tokio::signal::ctrl_c() => {}
        }
        print(""); // the end of the answer's last line
        self.messages.push(json!({ "role": "assistant", "content": answer }));
        Ok(())
    }

    async fn stream(&self, answer: &mut String) -> Result<(), Failure> {
        let mut body = self.body();
        body["stream"] = true.into();
        let path = ["v1", "chat", "completions"];
        let request = self.api.request(Method::POST, &path).json(&body);
        let mut response = self.api.send(request).await?;
        let mut parser = Parser::new(EVENT_BYTES_MAX);
        let mut cut = false;
        loop {
            let chunk = response.chunk().await.map_err(|error| self.api.unreachable(error))?;
            let Some(chunk) = chunk else { return Err(broken("the answer broke off")) };
            for message in parser.push(&chunk).map_err(|error| broken(&error.to_string()))? {
                if message.data == "[DONE]" {
                    if cut {
                        note("\n(cut off here: --max-tokens allows more)");
                    }
                    return Ok(());
                }
                let choice = choice_of(&message)?;
                let text = choice["delta"]["content"].as_str().unwrap_or_default();
                write(text);
                answer.push_str(text);
                cut |= choice["finish_reason"] == "length";
            }
        }
    }

    /// One question and the server's answer as it is.
    async fn whole(&mut self, question: &str) -> Result<(), Failure> {
        self.messages.push(json!({ "role": "user", "content": question }));
        let reply: Value = self.api.post(&["v1", "chat", "completions"], &self.body()).await?;
        Output::new(true).show(&reply, String::new);
        Ok(())
    }

    fn body(&self) -> Value {
        let mut body = self.request.clone();
        body["messages"] = self.messages.clone().into();
        body
    }
}

/// What a chunk of a streamed answer adds.
fn choice_of(message: &Message) -> Result<Value, Failure> {
    let mut chunk: Value =
        serde_json::from_str(&message.data).map_err(|_| broken("no JSON came"))?;
    if chunk.get("error").is_some() {
        let error = serde_json::from_value::<ErrorBody>(chunk).map(|body| body.error.message);
        return Err(broken(&error.unwrap_or_else(|_| "the server failed".to_owned())));
    }
    Ok(chunk["choices"][0].take())
}

fn broken(problem: &str) -> Failure {
    Failure::new(anyhow!("{problem}"), "ask again, or look at the server's log")
}

fn write(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
