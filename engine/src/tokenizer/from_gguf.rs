//! Building a tokenizer from GGUF metadata.
//! Owns: the reading of `tokenizer.ggml.*`. Never: encoding.

use std::collections::{BTreeSet, HashMap};

use super::bpe::{Bpe, Merge};
use super::pre::PreTokenizer;
use super::spm::{self, Spm};
use super::vocabulary::{TokenKind, Vocabulary};
use super::{Model, Tokenizer, TokenizerError, byte_level, ends};
use crate::weights::{Metadata, Texts};

/// The most tokens that a vocabulary may have.
const TOKENS_MAX: usize = 1 << 21;

/// The tokenizer that `metadata` describes.
pub(super) fn build(metadata: &Metadata) -> Result<Tokenizer, TokenizerError> {
    let tokens = metadata.require_texts("tokenizer.ggml.tokens")?;
    if tokens.is_empty() || tokens.len() > TOKENS_MAX {
        return Err(TokenizerError::inconsistent(format!("{} tokens", tokens.len())));
    }
    let kinds = kinds(metadata, tokens)?;
    let (vocabulary, model) = match metadata.require_text("tokenizer.ggml.model")? {
        "gpt2" => build_bpe(metadata, tokens, &kinds)?,
        "llama" => build_spm(metadata, tokens, &kinds)?,
        model => return Err(TokenizerError::Model { model: model.to_owned() }),
    };
    let bos = id(metadata, "tokenizer.ggml.bos_token_id", &vocabulary)?;
    let eos = id(metadata, "tokenizer.ggml.eos_token_id", &vocabulary)?;
    let mut end_ids: BTreeSet<u32> = eos.into_iter().collect();
    for key in ["tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"] {
        end_ids.extend(id(metadata, key, &vocabulary)?);
    }
    let mut tokenizer = Tokenizer::new(vocabulary, model, bos, eos, end_ids)?;
    let is_spm = matches!(tokenizer.model, Model::Spm(_));
    tokenizer.adds_bos = metadata.bool("tokenizer.ggml.add_bos_token")?.unwrap_or(is_spm);
    Ok(tokenizer)
}

fn kinds(metadata: &Metadata, tokens: &Texts) -> Result<Vec<TokenKind>, TokenizerError> {
    let Some(codes) = metadata.i32s("tokenizer.ggml.token_type")? else {
        return Ok(vec![TokenKind::Normal; tokens.len()]);
    };
    if codes.len() != tokens.len() {
        return Err(TokenizerError::inconsistent("as many token types as tokens are needed"));
    }
    let kind = |(code, text): (i32, &str)| {
        let unknown = || TokenizerError::inconsistent(format!("token type {code} is unknown"));
        let kind = TokenKind::from_code(code).ok_or_else(unknown)?;
        // Converters are known to mark turn ends as plain text; then no template could spell them.
        Ok(if ends::ends_generation(text) { TokenKind::Control } else { kind })
    };
    codes.into_iter().zip(tokens.iter()).map(kind).collect()
}

fn id(
    metadata: &Metadata,
    key: &str,
    vocabulary: &Vocabulary,
) -> Result<Option<u32>, TokenizerError> {
    let id = metadata.u32(key)?;
    match id {
        Some(id) if id as usize >= vocabulary.len() => {
            Err(TokenizerError::inconsistent(format!("`{key}` is outside of the vocabulary")))
        }
        id => Ok(id),
    }
}

fn build_bpe(
    metadata: &Metadata,
    tokens: &Texts,
    kinds: &[TokenKind],
) -> Result<(Vocabulary, Model), TokenizerError> {
    let pre = metadata.text("tokenizer.ggml.pre")?.unwrap_or("default");
    let pre = PreTokenizer::named(pre)?;
    let table = byte_level::table();
    let byte = |c: char| table.get(c as usize).copied().flatten();
    let mut vocabulary = Vocabulary::default();
    for (&kind, token) in kinds.iter().zip(tokens.iter()) {
        match kind {
            TokenKind::Unused => vocabulary.push(kind, []),
            TokenKind::Normal if token.chars().all(|c| byte(c).is_some()) => {
                vocabulary.push(kind, token.chars().filter_map(byte));
            }
            _ => vocabulary.push(kind, token.bytes()),
        }
    }
    let merges = merges(metadata.require_texts("tokenizer.ggml.merges")?, tokens)?;
    let mut byte_ids = Box::new([None; 256]);
    for id in vocabulary.of_kind(TokenKind::Normal) {
        if let &[byte] = vocabulary.bytes(id) {
            byte_ids[usize::from(byte)].get_or_insert(id);
        }
    }
    let whole = if pre.whole_words { vocabulary.text_ids() } else { HashMap::new() };
    Ok((vocabulary, Model::Bpe(Bpe { pre, byte_ids, merges, whole })))
}

/// Merges by the ids of their sides. All three tokens of a merge must exist.
fn merges(merges: &Texts, tokens: &Texts) -> Result<HashMap<(u32, u32), Merge>, TokenizerError> {
    let mut ids = HashMap::with_capacity(tokens.len());
    for (id, token) in tokens.iter().enumerate() {
        ids.entry(token).or_insert(id as u32);
    }
    let mut table = HashMap::with_capacity(merges.len());
    let mut joined = String::new();
    for (rank, line) in merges.iter().enumerate() {
        // A side can itself start with a space in vocabularies that are not byte-level.
        let at = line.char_indices().skip(1).find(|(_, c)| *c == ' ').map(|(at, _)| at);
        let sides = at.map(|at| (&line[..at], &line[at + 1..]));
        let merge = sides.and_then(|(left, right)| {
            joined.clear();
            joined.push_str(left);
            joined.push_str(right);
            Some(((*ids.get(left)?, *ids.get(right)?), *ids.get(joined.as_str())?))
        });
        let bad = || TokenizerError::inconsistent(format!("merge {rank} joins unknown tokens"));
        let (pair, id) = merge.ok_or_else(bad)?;
        table.entry(pair).or_insert(Merge { rank: rank as u32, id });
    }
    Ok(table)
}

fn build_spm(
    metadata: &Metadata,
    tokens: &Texts,
    kinds: &[TokenKind],
) -> Result<(Vocabulary, Model), TokenizerError> {
    let missing = || TokenizerError::inconsistent("`tokenizer.ggml.scores` is missing");
    let scores = metadata.f32s("tokenizer.ggml.scores")?.ok_or_else(missing)?;
    if scores.len() != tokens.len() || scores.iter().any(|score| score.is_nan()) {
        return Err(TokenizerError::inconsistent("a score for each token is needed"));
    }
    let mut vocabulary = Vocabulary::default();
    let mut byte_ids = Box::new([None; 256]);
    for (id, (&kind, token)) in kinds.iter().zip(tokens.iter()).enumerate() {
        match kind {
            TokenKind::Unused => vocabulary.push(kind, []),
            TokenKind::Byte => {
                let byte = parse_byte(token);
                let bad = || TokenizerError::inconsistent("a byte token is not `<0x..>`");
                let byte = byte.ok_or_else(bad)?;
                byte_ids[usize::from(byte)].get_or_insert(id as u32);
                vocabulary.push(kind, [byte]);
            }
            TokenKind::Normal => vocabulary.push(kind, token.replace(spm::SPACE, " ").into_bytes()),
            _ => vocabulary.push(kind, token.bytes()),
        }
    }
    let ids = vocabulary.text_ids();
    let unknown = id(metadata, "tokenizer.ggml.unknown_token_id", &vocabulary)?;
    if unknown.is_none() && byte_ids.iter().any(Option::is_none) {
        return Err(TokenizerError::inconsistent("neither byte tokens nor an unknown token"));
    }
    let longest = ids.keys().map(|bytes| bytes.len()).max().unwrap_or(0);
    let space_prefix = metadata.bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    Ok((vocabulary, Model::Spm(Spm { ids, scores, byte_ids, unknown, longest, space_prefix })))
}

/// The byte of a token such as `<0x0A>`.
pub(super) fn parse_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}
