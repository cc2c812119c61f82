//! Sentencepiece's BPE: the neighbours whose union scores highest merge first.
//! Owns: scores and byte fallback. Never: special tokens.
//! Source: `llm_tokenizer_spm` in llama.cpp's `llama-vocab.cpp`.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

/// A sentencepiece model.
#[derive(Debug)]
pub(super) struct Spm {
    /// Tokens that text may become, by their bytes; spaces are spaces here.
    pub(super) ids: HashMap<Box<[u8]>, u32>,
    /// The score of each token.
    pub(super) scores: Vec<f32>,
    /// What a byte becomes that no token covers.
    pub(super) byte_ids: Box<[Option<u32>; 256]>,
    /// What it becomes without byte tokens.
    pub(super) unknown: Option<u32>,
    /// The longest token, in bytes.
    pub(super) longest: usize,
    /// Whether text gets a space in front at the start and after a special token.
    pub(super) space_prefix: bool,
}

/// A stretch of the text, linked to its neighbours; empty once it is part of another.
#[derive(Clone, Copy)]
struct Symbol {
    start: usize,
    length: usize,
    before: usize,
    after: usize,
}

/// Two neighbours that would make a token.
struct Proposal {
    score: f32,
    left: usize,
    right: usize,
    length: usize,
}

const NONE: usize = usize::MAX;

/// How sentencepiece writes a space; in text it therefore means one.
pub(super) const SPACE: char = '\u{2581}';

impl Spm {
    /// Appends the tokens of `text`, which holds no special token and starts the input or
    /// follows a special token.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        let prefix = if self.space_prefix { " " } else { "" };
        if self.space_prefix || text.contains(SPACE) {
            self.encode_exact(&format!("{prefix}{text}").replace(SPACE, " "), ids);
        } else {
            self.encode_exact(text, ids);
        }
    }

    fn encode_exact(&self, text: &str, ids: &mut Vec<u32>) {
        let mut symbols: Vec<Symbol> = text
            .char_indices()
            .enumerate()
            .map(|(at, (start, c))| {
                let before = at.wrapping_sub(1);
                Symbol { start, length: c.len_utf8(), before, after: at + 1 }
            })
            .collect();
        let Some(last) = symbols.last_mut() else { return };
        last.after = NONE;
        let mut queue = BinaryHeap::new();
        for right in 1..symbols.len() {
            self.propose(text, &symbols, right - 1, right, &mut queue);
        }
        while let Some(proposal) = queue.pop() {
            self.merge(text, &mut symbols, &proposal, &mut queue);
        }
        for symbol in symbols.iter().filter(|symbol| symbol.length > 0) {
            self.push(&text.as_bytes()[symbol.start..symbol.start + symbol.length], ids);
        }
    }

    fn propose(
        &self,
        text: &str,
        symbols: &[Symbol],
        left: usize,
        right: usize,
        queue: &mut BinaryHeap<Proposal>,
    ) {
        if left == NONE || right == NONE {
            return;
        }
        let length = symbols[left].length + symbols[right].length;
        if length > self.longest {
            return;
        }
        let start = symbols[left].start;
        if let Some(&id) = self.ids.get(&text.as_bytes()[start..start + length]) {
            queue.push(Proposal { score: self.scores[id as usize], left, right, length });
        }
    }

    fn merge(
        &self,
        text: &str,
        symbols: &mut [Symbol],
        proposal: &Proposal,
        queue: &mut BinaryHeap<Proposal>,
    ) {
        let (left, right) = (symbols[proposal.left], symbols[proposal.right]);
        let stale = left.length == 0 || right.length == 0;
        if stale || left.length + right.length != proposal.length {
            return;
        }
        symbols[proposal.left].length = proposal.length;
        symbols[proposal.left].after = right.after;
        symbols[proposal.right].length = 0;
        if right.after != NONE {
            symbols[right.after].before = proposal.left;
        }
        self.propose(text, symbols, left.before, proposal.left, queue);
        self.propose(text, symbols, proposal.left, right.after, queue);
    }

    /// The token of a stretch, or those of its bytes.
    fn push(&self, bytes: &[u8], ids: &mut Vec<u32>) {
        if let Some(&id) = self.ids.get(bytes) {
            ids.push(id);
            return;
        }
        let byte_ids = bytes.iter().map(|&byte| self.byte_ids[usize::from(byte)]);
        match byte_ids.collect::<Option<Vec<u32>>>() {
            Some(fallback) => ids.extend(fallback),
            None => ids.extend(self.unknown),
        }
    }
}

impl Ord for Proposal {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then_with(|| other.left.cmp(&self.left))
    }
}

impl PartialOrd for Proposal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Proposal {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Proposal {}
