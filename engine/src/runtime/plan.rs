//! Which tokens run in the next step. Pure.

/// What the plan knows of a sequence, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pending {
    /// Tokens whose keys and values are not in the cache yet; 1 for a sequence that decodes.
    pub(crate) tokens: usize,
    /// Whether it has generated already.
    pub(crate) decodes: bool,
}

/// Tokens to run per sequence. Sequences that decode always go on by one; prompts share
/// `prefill_tokens` in order of arrival, so that a long prompt delays nobody for long.
pub(crate) fn plan(pending: &[Pending], prefill_tokens: usize) -> Vec<usize> {
    let mut left = prefill_tokens;
    let share = |sequence: &Pending| {
        if sequence.decodes {
            return 1;
        }
        let tokens = sequence.tokens.min(left);
        left -= tokens;
        tokens
    };
    pending.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn prompt(tokens: usize) -> Pending {
        Pending { tokens, decodes: false }
    }

    #[test]
    fn prompts_share_the_budget_in_order_and_never_stop_those_that_decode() {
        let decoding = Pending { tokens: 1, decodes: true };
        let pending = [prompt(100), decoding, prompt(60), prompt(9), decoding];
        assert_eq!(plan(&pending, 128), [100, 1, 28, 0, 1]);
    }
}
