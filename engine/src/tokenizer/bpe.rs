//! Byte-level byte-pair encoding: the lowest-ranked pair of neighbours merges first.
//! Owns: the merges. Never: special tokens.
//! Source: Sennrich et al. 2016, arXiv:1508.07909; ties go to the leftmost pair, as in GPT-2.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::pre::PreTokenizer;

/// A merge of two neighbours: when it happens, and what they become.
#[derive(Debug, Clone, Copy)]
pub(super) struct Merge {
    pub(super) rank: u32,
    pub(super) id: u32,
}

/// A byte-level BPE model.
#[derive(Debug)]
pub(super) struct Bpe {
    pub(super) pre: PreTokenizer,
    /// The token of each single byte; a byte without one is left out of the encoding.
    pub(super) byte_ids: Box<[Option<u32>; 256]>,
    pub(super) merges: HashMap<(u32, u32), Merge>,
    /// Tokens by their bytes, filled only where whole words are looked up first.
    pub(super) whole: HashMap<Box<[u8]>, u32>,
}

/// One token of a word in the making, linked to its neighbours.
struct Symbol {
    id: u32,
    before: usize,
    after: usize,
}

const NONE: usize = usize::MAX;
const MERGED: u32 = u32::MAX;

impl Bpe {
    /// Appends the tokens of `text`, which holds no special token.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        for word in self.pre.words(text) {
            match self.whole.get(word.as_bytes()) {
                Some(&id) => ids.push(id),
                None => self.encode_word(word, ids),
            }
        }
    }

    fn encode_word(&self, word: &str, ids: &mut Vec<u32>) {
        let known = word.bytes().filter_map(|byte| self.byte_ids[usize::from(byte)]);
        let mut symbols: Vec<Symbol> = known
            .enumerate()
            .map(|(at, id)| Symbol { id, before: at.wrapping_sub(1), after: at + 1 })
            .collect();
        if let Some(last) = symbols.last_mut() {
            last.after = NONE;
        }
        let mut queue = BinaryHeap::new();
        (1..symbols.len()).for_each(|right| self.propose(&symbols, right - 1, right, &mut queue));
        while let Some(Reverse((_, left, pair))) = queue.pop() {
            self.merge(&mut symbols, left, pair, &mut queue);
        }
        ids.extend(symbols.iter().map(|symbol| symbol.id).filter(|&id| id != MERGED));
    }

    /// Queues the merge of two neighbours, if there is one, as (rank, position, the pair).
    fn propose(&self, symbols: &[Symbol], left: usize, right: usize, queue: &mut Queue) {
        if left == NONE || right == NONE {
            return;
        }
        let pair = (symbols[left].id, symbols[right].id);
        if let Some(merge) = self.merges.get(&pair) {
            queue.push(Reverse((merge.rank, left, pair)));
        }
    }

    /// Merges the pair at `left`, unless an earlier merge has changed either side.
    fn merge(&self, symbols: &mut [Symbol], left: usize, pair: (u32, u32), queue: &mut Queue) {
        let right = symbols[left].after;
        if right == NONE || (symbols[left].id, symbols[right].id) != pair {
            return;
        }
        let after = symbols[right].after;
        symbols[left].id = self.merges[&pair].id;
        symbols[left].after = after;
        symbols[right].id = MERGED;
        if after != NONE {
            symbols[after].before = left;
        }
        self.propose(symbols, symbols[left].before, left, queue);
        self.propose(symbols, left, after, queue);
    }
}

type Queue = BinaryHeap<Reverse<(u32, usize, (u32, u32))>>;
