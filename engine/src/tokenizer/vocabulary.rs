//! What each token stands for.
//! Owns: the bytes and the kind of each id. Never: how text is cut into tokens.

use std::collections::HashMap;

/// What a token is for; GGUF's `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// Text.
    Normal,
    /// Stands for what the vocabulary lacks.
    Unknown,
    /// Structure that text can never spell: turn markers, end of text.
    Control,
    /// Text that always becomes this one token.
    UserDefined,
    /// Padding of the vocabulary.
    Unused,
    /// One byte.
    Byte,
}

impl TokenKind {
    pub(super) const fn from_code(code: i32) -> Option<Self> {
        Some(match code {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => return None,
        })
    }
}

/// The bytes and kinds of all tokens, in one allocation each.
#[derive(Debug, Clone, Default)]
pub(super) struct Vocabulary {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    kinds: Vec<TokenKind>,
}

impl Vocabulary {
    pub(super) fn push(&mut self, kind: TokenKind, bytes: impl IntoIterator<Item = u8>) {
        self.bytes.extend(bytes);
        self.ends.push(self.bytes.len() as u32);
        self.kinds.push(kind);
    }

    pub(super) fn len(&self) -> usize {
        self.kinds.len()
    }

    /// The bytes of a token; none for an id outside of the vocabulary.
    pub(super) fn bytes(&self, id: u32) -> &[u8] {
        let Some(&end) = self.ends.get(id as usize) else { return &[] };
        let start = id.checked_sub(1).map_or(0, |before| self.ends[before as usize]);
        &self.bytes[start as usize..end as usize]
    }

    pub(super) fn kind(&self, id: u32) -> Option<TokenKind> {
        self.kinds.get(id as usize).copied()
    }

    /// The ids of a kind, ascending.
    pub(super) fn of_kind(&self, kind: TokenKind) -> impl Iterator<Item = u32> {
        let found = self.kinds.iter().enumerate().filter(move |(_, other)| **other == kind);
        found.map(|(id, _)| id as u32)
    }

    /// The ids that text may become, by their bytes. Never structure: text cannot spell it.
    pub(super) fn text_ids(&self) -> HashMap<Box<[u8]>, u32> {
        let text =
            |id: &u32| matches!(self.kind(*id), Some(TokenKind::Normal | TokenKind::UserDefined));
        let mut ids = HashMap::with_capacity(self.len());
        for id in (0..self.len() as u32).filter(text) {
            ids.entry(Box::from(self.bytes(id))).or_insert(id);
        }
        ids
    }
}
