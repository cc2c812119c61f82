//! Chat templates, rendered in a sandbox.
//! Owns: Jinja with the functions that published templates use, under fuel, depth and size caps.
//! Never: files, other templates, a clock, tokens.

mod date;
mod error;
#[cfg(test)]
mod tests;
mod value;

use std::io;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value};
use time::OffsetDateTime;

pub use error::TemplateError;

/// Largest template source, in bytes. Published ones have up to about 20 KiB.
pub const SOURCE_BYTES_MAX: usize = 128 << 10;
/// Largest rendered conversation, in bytes.
pub const OUTPUT_BYTES_MAX: usize = 4 << 20;
/// Steps of one render; it also bounds what the render may allocate, to about 64 bytes a step.
pub const FUEL: u64 = 2_000_000;

const RECURSION_MAX: usize = 64;
const NAME: &str = "chat";

/// A model's chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
    supports_tools: bool,
}

/// What one render puts into the template.
#[derive(Debug, Clone, Copy)]
pub struct Conversation<'a> {
    /// A list of messages in OpenAI's shape.
    pub messages: &'a serde_json::Value,
    /// The tools that the model may call, in OpenAI's shape.
    pub tools: Option<&'a serde_json::Value>,
    /// Whether to end with the start of the assistant's turn.
    pub add_generation_prompt: bool,
    /// The moment that `strftime_now` tells; without it the template has no such function.
    pub now: Option<OffsetDateTime>,
    /// More variables, such as `enable_thinking`; they cannot replace those above.
    pub extra: Option<&'a serde_json::Map<String, serde_json::Value>>,
}

impl<'a> Conversation<'a> {
    /// A conversation that asks for the assistant's next turn.
    pub fn new(messages: &'a serde_json::Value) -> Self {
        Self { messages, tools: None, add_generation_prompt: true, now: None, extra: None }
    }
}

impl ChatTemplate {
    /// Parses a template; `bos` and `eos` are the spellings of the tokens that it may refer to.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self, TemplateError> {
        if source.len() > SOURCE_BYTES_MAX {
            let (bytes, limit) = (source.len(), SOURCE_BYTES_MAX);
            return Err(TemplateError::SourceTooLarge { bytes, limit });
        }
        let mut environment = sandbox();
        let syntax = |error: Error| TemplateError::Syntax { reason: error.to_string() };
        environment.add_template_owned(NAME, source.to_owned()).map_err(syntax)?;
        let template = environment.get_template(NAME).map_err(syntax)?;
        let supports_tools = template.undeclared_variables(false).contains("tools");
        let (bos, eos) = (bos.to_owned(), eos.to_owned());
        Ok(Self { environment, bos, eos, supports_tools })
    }

    /// Renders a conversation into the text that the model was trained on.
    ///
    /// The text spells control tokens. Strings from outside must have gone through
    /// [`guard_json`](crate::tokenizer::Tokenizer::guard_json) before.
    pub fn render(&self, conversation: Conversation<'_>) -> Result<String, TemplateError> {
        let template = self.environment.get_template(NAME).map_err(|error| failure(&error))?;
        let mut output = Capped(Vec::new());
        let rendered = template.render_captured_to(self.context(conversation), &mut output);
        match rendered {
            Ok(_) => Ok(String::from_utf8(output.0).expect("templates write UTF-8")),
            Err(error) => Err(failure(&error)),
        }
    }

    fn context(&self, conversation: Conversation<'_>) -> Value {
        let mut context: Vec<(&str, Value)> = Vec::new();
        let extra = conversation.extra.into_iter().flatten();
        context.extend(extra.map(|(name, json)| (name.as_str(), value::from_json(json))));
        context.push(("messages", value::from_json(conversation.messages)));
        context.push(("tools", conversation.tools.map_or(Value::from(()), value::from_json)));
        context.push(("add_generation_prompt", conversation.add_generation_prompt.into()));
        context.push(("bos_token", self.bos.as_str().into()));
        context.push(("eos_token", self.eos.as_str().into()));
        if let Some(now) = conversation.now {
            let strftime = move |format: String| date::strftime(now, &format);
            context.push(("strftime_now", Value::from_function(strftime)));
        }
        Value::from_pairs(context)
    }

    /// Whether the template puts tool definitions into the prompt.
    pub fn supports_tools(&self) -> bool {
        self.supports_tools
    }
}

/// Jinja as Hugging Face configures it, without anything that reaches outside.
fn sandbox() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_debug(false);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(RECURSION_MAX);
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("the default delimiters do not clash"));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_filter("tojson", value::tojson);
    environment.add_function("raise_exception", raise_exception);
    environment
}

/// The text that a template raised; carried as the source of the engine's error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

fn raise_exception(message: String) -> Result<String, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, "raised").with_source(Raised(message)))
}

fn failure(error: &Error) -> TemplateError {
    let mut causes =
        std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |cause| {
            cause.source()
        });
    if let Some(raised) = causes.find_map(|cause| cause.downcast_ref::<Raised>()) {
        return TemplateError::Raised { message: raised.0.clone() };
    }
    match error.kind() {
        ErrorKind::OutOfFuel => TemplateError::OutOfFuel,
        ErrorKind::WriteFailure => TemplateError::OutputTooLarge { limit: OUTPUT_BYTES_MAX },
        _ => TemplateError::Render { reason: error.to_string() },
    }
}

/// Collects output up to the cap.
struct Capped(Vec<u8>);

impl io::Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > OUTPUT_BYTES_MAX {
            return Err(io::Error::other("above the output cap"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
