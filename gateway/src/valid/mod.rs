//! Requests, parsed once at the door: what is in a `Valid*` type can be carried out.
//! Owns: ranges, combinations, defaults, what is refused and under which name. Never: look-ups, I/O.

mod adapters;
mod chat;
mod completion;
mod embedding;
mod format;
mod generate;
mod messages;
mod sampling;
mod tools;
mod unsupported;

pub use adapters::ModelSpec;
pub use chat::ValidChat;
pub use completion::ValidCompletion;
pub use embedding::ValidEmbedding;
pub use generate::{Generate, Logprobs};
