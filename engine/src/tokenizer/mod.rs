//! Text to tokens and back.
//! Owns: vocabularies, merges, special tokens. Never: chat templates, sampling, files.
//!
//! GGUF tokenizers are encoded here, exactly as llama.cpp does; `tokenizer.json` files are encoded
//! by the `tokenizers` library. Text never spells a control token unless the caller says so:
//! [`Tokenizer::encode`] with `special = false` is safe for any text, and [`Tokenizer::guard`]
//! makes a caller's text safe before it goes into a chat template.

mod bpe;
mod byte_level;
mod ends;
mod error;
mod from_gguf;
mod from_json;
mod pre;
mod specials;
mod spm;
mod stream;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::borrow::Cow;
use std::collections::BTreeSet;

use protocol::Digest;
use sha2::{Digest as _, Sha256};

pub use error::TokenizerError;
pub use stream::Utf8Stream;
pub use vocabulary::TokenKind;

use crate::weights::Metadata;
use specials::{Piece, Specials};
use vocabulary::Vocabulary;

/// How a stretch of text without special tokens is encoded.
#[derive(Debug)]
enum Model {
    Bpe(bpe::Bpe),
    Spm(spm::Spm),
    Json(Box<tokenizers::Tokenizer>),
}

/// A firmware's tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    vocabulary: Vocabulary,
    model: Model,
    specials: Specials,
    bos: Option<u32>,
    eos: Option<u32>,
    ends: BTreeSet<u32>,
    adds_bos: bool,
    digest: Digest,
}

impl Tokenizer {
    /// The tokenizer inside a GGUF file: byte-level BPE (`gpt2`) or sentencepiece (`llama`).
    pub fn from_gguf(metadata: &Metadata) -> Result<Self, TokenizerError> {
        from_gguf::build(metadata)
    }

    /// The tokenizer of a `tokenizer.json`. That file does not say where text begins and ends:
    /// see [`Tokenizer::with_ends`].
    pub fn from_json(file: &[u8]) -> Result<Self, TokenizerError> {
        from_json::build(file)
    }

    fn new(
        vocabulary: Vocabulary,
        model: Model,
        bos: Option<u32>,
        eos: Option<u32>,
        mut ends: BTreeSet<u32>,
    ) -> Result<Self, TokenizerError> {
        let control = vocabulary.of_kind(TokenKind::Control);
        ends.extend(control.filter(|&id| {
            std::str::from_utf8(vocabulary.bytes(id)).is_ok_and(ends::ends_generation)
        }));
        let specials = Specials::new(&vocabulary)?;
        let digest = digest(&vocabulary, &model);
        Ok(Self { vocabulary, model, specials, bos, eos, ends, adds_bos: false, digest })
    }

    /// Sets where text begins and ends, for files that do not say so.
    #[must_use]
    pub fn with_ends(mut self, bos: Option<u32>, eos: &[u32]) -> Self {
        self.bos = bos.or(self.bos);
        self.eos = eos.first().copied().or(self.eos);
        self.ends.extend(eos);
        self
    }

    /// The tokens of `text`, with nothing added in front or behind.
    ///
    /// With `special` false no text becomes a control token: use it for text from outside. With
    /// `special` true the spellings of control tokens become those tokens: use it for rendered
    /// templates whose inserted text went through [`Tokenizer::guard`].
    pub fn encode(&self, text: &str, special: bool) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 1);
        for piece in self.specials.split(text, special) {
            match piece {
                Piece::Token(id) => ids.push(id),
                Piece::Text(text) => self.encode_text(&text, &mut ids),
            }
        }
        ids
    }

    /// The tokens of a rendered template; [`Tokenizer::encode`] with `special` true.
    pub fn encode_with_specials(&self, text: &str) -> Vec<u32> {
        self.encode(text, true)
    }

    fn encode_text(&self, text: &str, ids: &mut Vec<u32>) {
        match &self.model {
            Model::Bpe(model) => model.encode(text, ids),
            Model::Spm(model) => model.encode(text, ids),
            Model::Json(model) => {
                let encoding = model.encode_fast(text, false);
                // Only a model without a token for unknown text can fail; such text has no tokens.
                ids.extend(encoding.iter().flat_map(tokenizers::Encoding::get_ids));
            }
        }
    }

    /// The same text, in which no control token is spelled even when it is encoded with `special`:
    /// a noncharacter, which encoding drops again, breaks each spelling.
    pub fn guard<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.specials.guard(text)
    }

    /// Guards every string inside `json`, keys included; see [`Tokenizer::guard`].
    pub fn guard_json(&self, json: &serde_json::Value) -> serde_json::Value {
        use serde_json::Value as Json;
        match json {
            Json::String(text) => Json::String(self.guard(text).into_owned()),
            Json::Array(items) => items.iter().map(|item| self.guard_json(item)).collect(),
            Json::Object(pairs) => pairs
                .iter()
                .map(|(key, value)| (self.guard(key).into_owned(), self.guard_json(value)))
                .collect(),
            plain => plain.clone(),
        }
    }

    /// The bytes that a token stands for: often not whole characters. A control token gives its
    /// spelling, an id outside of the vocabulary nothing.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.vocabulary.bytes(id)
    }

    /// The text of `ids` without control tokens; invalid UTF-8 becomes U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let text = ids.iter().filter(|&&id| !self.is_special(id));
        let bytes: Vec<u8> = text.flat_map(|&id| self.token_bytes(id)).copied().collect();
        String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    /// Whether a token is structure, never part of the text: control, unknown or unused.
    pub fn is_special(&self, id: u32) -> bool {
        use TokenKind::{Control, Unknown, Unused};
        self.kind(id).is_none_or(|kind| matches!(kind, Control | Unknown | Unused))
    }

    /// What a token is for; `None` outside of the vocabulary.
    pub fn kind(&self, id: u32) -> Option<TokenKind> {
        self.vocabulary.kind(id)
    }

    /// The control or user-defined token that is spelled `text`.
    pub fn special_id(&self, text: &str) -> Option<u32> {
        match self.specials.split(text, true)[..] {
            [Piece::Token(id)] => Some(id),
            _ => None,
        }
    }

    /// The token in front of every text, if the model has one.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// Whether plain text (not a rendered template) must start with [`Tokenizer::bos`].
    pub fn adds_bos(&self) -> bool {
        self.adds_bos && self.bos.is_some()
    }

    /// The end of text that the file names.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// All tokens that end a generation: end of text, end of turn, end of message.
    pub fn ends(&self) -> &BTreeSet<u32> {
        &self.ends
    }

    /// How many ids there are, unused ones included.
    pub fn vocab_size(&self) -> usize {
        self.vocabulary.len()
    }

    /// The digest of all that decides how text is encoded: two tokenizers from files of the same
    /// kind have equal digests only if they encode alike.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

/// Covers each token's kind and bytes, and the model's merges, scores and rules.
fn digest(vocabulary: &Vocabulary, model: &Model) -> Digest {
    let mut hash = Sha256::new();
    hash.update(b"firmament tokenizer 1\n");
    for id in 0..vocabulary.len() as u32 {
        let bytes = vocabulary.bytes(id);
        hash.update([vocabulary.kind(id).map_or(0, |kind| kind as u8)]);
        hash.update((bytes.len() as u32).to_le_bytes());
        hash.update(bytes);
    }
    match model {
        Model::Bpe(bpe) => {
            hash.update(format!("bpe {:?}\n", bpe.pre));
            let mut merges: Vec<_> = bpe.merges.iter().collect();
            merges.sort_unstable_by_key(|(_, merge)| merge.rank);
            for ((left, right), merge) in merges {
                for id in [left, right, &merge.id] {
                    hash.update(id.to_le_bytes());
                }
            }
        }
        Model::Spm(spm) => {
            hash.update(format!("spm {} {:?}\n", spm.space_prefix, spm.unknown));
            spm.scores.iter().for_each(|score| hash.update(score.to_le_bytes()));
        }
        Model::Json(json) => {
            hash.update(b"json\n");
            // The library writes its own canonical form.
            hash.update(json.to_string(false).unwrap_or_default());
        }
    }
    Digest::from_bytes(hash.finalize().into())
}
