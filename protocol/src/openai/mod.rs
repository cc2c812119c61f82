//! OpenAI shapes.
