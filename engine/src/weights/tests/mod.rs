//! Hostile and valid weight files.

mod build;
mod gguf;
mod properties;
mod safetensors;

use super::*;

/// The code of the error that opening `bytes` gives; panics if it opens.
fn refusal(bytes: Vec<u8>, profile: Profile) -> &'static str {
    WeightFile::from_bytes(bytes, profile).expect_err("the file must be refused").code()
}
