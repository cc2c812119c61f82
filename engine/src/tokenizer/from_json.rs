//! Building a tokenizer from a `tokenizer.json`, encoded by the `tokenizers` library.
//! Owns: the bytes of each token, from the file's decoder. Never: GGUF.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::from_gguf::parse_byte;
use super::vocabulary::{TokenKind, Vocabulary};
use super::{Model, Tokenizer, TokenizerError, byte_level, spm};

const FILE_BYTES_MAX: usize = 64 << 20;

/// How a file spells bytes in its tokens.
enum Spelling {
    ByteLevel,
    Sentencepiece,
    WordPiece { prefix: String },
    Plain,
}

/// The parts of a file that say how tokens become text.
#[derive(Deserialize)]
struct Parts {
    decoder: Option<serde_json::Value>,
}

/// The tokenizer that the file describes. It names no begin or end of text.
pub(super) fn build(file: &[u8]) -> Result<Tokenizer, TokenizerError> {
    let bad = |reason: String| TokenizerError::Json { reason };
    if file.len() > FILE_BYTES_MAX {
        return Err(bad(format!("{} bytes, above the limit of {FILE_BYTES_MAX}", file.len())));
    }
    let parts: Parts = serde_json::from_slice(file).map_err(|error| bad(error.to_string()))?;
    let mut inner =
        tokenizers::Tokenizer::from_bytes(file).map_err(|error| bad(error.to_string()))?;
    // Special tokens are cut out here, before the library sees the text.
    inner.set_encode_special_tokens(true);
    inner.with_truncation(None).map_err(|error| bad(error.to_string()))?;
    inner.with_padding(None);
    let vocabulary = vocabulary(&inner, &spelling(parts.decoder.as_ref()))?;
    Tokenizer::new(vocabulary, Model::Json(Box::new(inner)), None, None, BTreeSet::new())
}

fn spelling(decoder: Option<&serde_json::Value>) -> Spelling {
    let mut kinds = Vec::new();
    let nested = decoder.and_then(|all| all.get("decoders")).and_then(|list| list.as_array());
    for part in decoder.into_iter().chain(nested.into_iter().flatten()) {
        match part.get("type").and_then(serde_json::Value::as_str) {
            Some("ByteLevel") => return Spelling::ByteLevel,
            Some("WordPiece") => {
                let prefix = part.get("prefix").and_then(|prefix| prefix.as_str());
                return Spelling::WordPiece { prefix: prefix.unwrap_or("##").to_owned() };
            }
            kind => kinds.extend(kind),
        }
    }
    if kinds.iter().any(|kind| matches!(*kind, "Metaspace" | "ByteFallback" | "Replace")) {
        Spelling::Sentencepiece
    } else {
        Spelling::Plain
    }
}

fn vocabulary(
    inner: &tokenizers::Tokenizer,
    spelling: &Spelling,
) -> Result<Vocabulary, TokenizerError> {
    let mut tokens: Vec<(u32, String)> =
        inner.get_vocab(true).into_iter().map(|(token, id)| (id, token)).collect();
    tokens.sort_unstable();
    let added = inner.get_added_tokens_decoder();
    let largest = tokens.last().map_or(0, |(id, _)| *id as usize);
    if tokens.is_empty() || largest >= tokens.len() + (1 << 16) {
        return Err(TokenizerError::inconsistent("the ids have large gaps"));
    }
    let mut vocabulary = Vocabulary::default();
    for (id, token) in tokens {
        while vocabulary.len() < id as usize {
            vocabulary.push(TokenKind::Unused, []);
        }
        if vocabulary.len() > id as usize {
            return Err(TokenizerError::inconsistent(format!("id {id} has two tokens")));
        }
        match added.get(&id) {
            Some(token) if token.special => {
                vocabulary.push(TokenKind::Control, token.content.bytes());
            }
            Some(token) => vocabulary.push(TokenKind::UserDefined, token.content.bytes()),
            None => vocabulary.push(TokenKind::Normal, bytes(&token, spelling)),
        }
    }
    Ok(vocabulary)
}

/// The bytes that a token stands for.
fn bytes(token: &str, spelling: &Spelling) -> Vec<u8> {
    match spelling {
        Spelling::ByteLevel => {
            let bytes: Option<Vec<u8>> = token.chars().map(byte_level::byte).collect();
            bytes.unwrap_or_else(|| token.as_bytes().to_vec())
        }
        Spelling::Sentencepiece => match parse_byte(token) {
            Some(byte) => vec![byte],
            None => token.replace(spm::SPACE, " ").into_bytes(),
        },
        Spelling::WordPiece { prefix } => match token.strip_prefix(prefix.as_str()) {
            Some(rest) => rest.as_bytes().to_vec(),
            None => format!(" {token}").into_bytes(),
        },
        Spelling::Plain => token.as_bytes().to_vec(),
    }
}
