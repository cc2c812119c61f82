//! Examples that are computed together: their tokens end to end, nothing padded.

use std::ops::Range;
use std::sync::Arc;

/// Token ids with what is to be learned of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Prompt and answers.
    pub tokens: Vec<u32>,
    /// The tokens that the model shall learn to say, in order; never the first.
    pub answers: Vec<Range<usize>>,
}

impl Example {
    /// How many tokens are to be learned.
    pub fn targets(&self) -> usize {
        self.answers.iter().map(Range::len).sum()
    }
}

/// Examples end to end. Each attends to itself alone.
pub(super) struct Batch {
    pub(super) tokens: Vec<u32>,
    pub(super) segments: Arc<[Range<usize>]>,
    /// A row, and the token that should follow it.
    pub(super) targets: Vec<(usize, u32)>,
}

impl Batch {
    pub(super) fn new<'e>(examples: impl IntoIterator<Item = &'e Example>) -> Self {
        let (mut tokens, mut segments, mut targets) = (Vec::new(), Vec::new(), Vec::new());
        for example in examples {
            let start = tokens.len();
            tokens.extend(&example.tokens);
            segments.push(start..tokens.len());
            let answers = example.answers.iter().cloned().flatten();
            targets.extend(answers.map(|at| (start + at - 1, example.tokens[at])));
        }
        Self { tokens, segments: segments.into(), targets }
    }

    /// Where each row stands in its sequence.
    pub(super) fn positions(&self) -> Vec<usize> {
        self.segments.iter().flat_map(|rows| 0..rows.len()).collect()
    }

    /// Cuts a batch into parts of at most `tokens_max` tokens, or of one example where that is longer.
    pub(super) fn cut<'e>(examples: &[&'e Example], tokens_max: usize) -> Vec<Vec<&'e Example>> {
        let mut parts: Vec<Vec<&Example>> = Vec::new();
        let mut room = 0;
        for example in examples {
            let tokens = example.tokens.len();
            if let Some(part) = parts.last_mut().filter(|_| tokens <= room) {
                part.push(example);
            } else {
                parts.push(vec![example]);
                room = tokens_max.max(tokens);
            }
            room -= tokens;
        }
        parts
    }
}
