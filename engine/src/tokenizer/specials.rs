//! Finding special tokens in text, and keeping them out of text that is not trusted.
//! Owns: which stretches of a text are tokens by themselves. Never: encoding the rest.

use std::borrow::Cow;

use aho_corasick::{AhoCorasick, MatchKind};

use super::TokenizerError;
use super::vocabulary::{TokenKind, Vocabulary};

/// A noncharacter that never occurs in text; it breaks the spelling of a special token in two.
const GUARD: char = '\u{FDD0}';

/// Most text of all special tokens: automata take many times the size of their patterns.
const SPELLINGS_BYTES_MAX: usize = 4 << 20;

/// A stretch of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'t> {
    /// To be encoded.
    Text(Cow<'t, str>),
    /// One token.
    Token(u32),
}

/// Matches the spellings of special tokens: the leftmost first, of several the longest.
#[derive(Debug)]
pub(super) struct Specials {
    /// User-defined tokens: text that is always one token.
    user: Spellings,
    /// Those and the control tokens.
    all: Spellings,
    /// Control tokens only.
    control: Spellings,
}

#[derive(Debug)]
struct Spellings {
    automaton: AhoCorasick,
    ids: Vec<u32>,
}

impl Spellings {
    fn new(vocabulary: &Vocabulary, kinds: &[TokenKind]) -> Result<Self, TokenizerError> {
        let spelled = |id: &u32| !vocabulary.bytes(*id).is_empty();
        let ids = kinds.iter().flat_map(|&kind| vocabulary.of_kind(kind));
        let ids: Vec<u32> = ids.filter(spelled).collect();
        let bytes: usize = ids.iter().map(|&id| vocabulary.bytes(id).len()).sum();
        if bytes > SPELLINGS_BYTES_MAX {
            return Err(TokenizerError::inconsistent("more than 4 MiB of special tokens"));
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(ids.iter().map(|&id| vocabulary.bytes(id)))
            .map_err(|error| TokenizerError::inconsistent(error.to_string()))?;
        Ok(Self { automaton, ids })
    }
}

impl Specials {
    pub(super) fn new(vocabulary: &Vocabulary) -> Result<Self, TokenizerError> {
        use TokenKind::{Control, Unknown, UserDefined};
        Ok(Self {
            user: Spellings::new(vocabulary, &[UserDefined])?,
            all: Spellings::new(vocabulary, &[UserDefined, Control, Unknown])?,
            control: Spellings::new(vocabulary, &[Control, Unknown])?,
        })
    }

    /// Cuts `text` at its special tokens; control tokens count only if `control` is set.
    pub(super) fn split<'t>(&self, text: &'t str, control: bool) -> Vec<Piece<'t>> {
        let spellings = if control { &self.all } else { &self.user };
        let mut pieces = Vec::new();
        let mut at = 0;
        for found in spellings.automaton.find_iter(text) {
            push_text(&mut pieces, &text[at..found.start()]);
            pieces.push(Piece::Token(spellings.ids[found.pattern().as_usize()]));
            at = found.end();
        }
        push_text(&mut pieces, &text[at..]);
        pieces
    }

    /// Breaks the spelling of each control token in `text`.
    pub(super) fn guard<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if !text.contains(GUARD) && !self.control.automaton.is_match(text) {
            return Cow::Borrowed(text);
        }
        let clean: String = text.chars().filter(|&c| c != GUARD).collect();
        let mut guarded = String::with_capacity(clean.len() + 16);
        let mut at = 0;
        // Overlapping occurrences need a break each, so the search goes on one character later.
        while let Some(found) = self.control.automaton.find(&clean[at..]) {
            let first = clean[at + found.start()..].chars().next().map_or(1, char::len_utf8);
            let cut = at + found.start() + first;
            guarded.push_str(&clean[at..cut]);
            guarded.push(GUARD);
            at = cut;
        }
        guarded.push_str(&clean[at..]);
        Cow::Owned(guarded)
    }
}

/// Adds a stretch of text without its guards.
fn push_text<'t>(pieces: &mut Vec<Piece<'t>>, text: &'t str) {
    if text.is_empty() {
        return;
    }
    pieces.push(Piece::Text(if text.contains(GUARD) {
        Cow::Owned(text.replace(GUARD, ""))
    } else {
        Cow::Borrowed(text)
    }));
}
