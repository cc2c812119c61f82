//! Constrained decoding: answers that a JSON schema, a regular expression or a grammar accepts.
//! Owns: compiling constraints and saying which tokens may come next. Never: drawing tokens,
//! deciding when to stop, requests.
//!
//! A constraint comes from outside. Its text is bounded before it is parsed, its parts by what the
//! parser may spend on building and on each token, so it costs milliseconds or is refused.
//! Source: the llguidance crate, <https://github.com/guidance-ai/llguidance>.

mod bounds;
mod error;
mod factory;
mod matcher;
#[cfg(test)]
mod tests;

pub use error::ConstrainError;
pub use factory::GrammarFactory;
pub use matcher::Matcher;
