//! Whether a request kills the nodes that run it. Pure.

/// So many nodes are lost to a request.
const CRASHES_MAX: u32 = 2;
/// A node that got on by more tokens than this was not lost to what killed the one before it.
const TOKENS_MAX: u64 = 16;

/// The nodes that vanished while they ran a request.
#[derive(Debug, Default)]
pub(super) struct Crashes {
    count: u32,
    /// Tokens that were told when the last one vanished.
    tokens: u64,
}

impl Crashes {
    /// A node vanished after `tokens` of the answer were told. True if the request is not to be tried on
    /// a further one: two have died of it, at about the same place.
    pub(super) fn another(&mut self, tokens: u64) -> bool {
        let elsewhere = tokens > self.tokens + TOKENS_MAX;
        self.count = if self.count > 0 && elsewhere { 1 } else { self.count + 1 };
        self.tokens = tokens;
        self.count >= CRASHES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_nodes_that_die_at_the_same_place_are_enough() {
        let mut prompt = Crashes::default();
        assert!(!prompt.another(0) && prompt.another(0));
        let mut token = Crashes::default();
        assert!(!token.another(500) && token.another(510));
    }

    #[test]
    fn nodes_that_die_at_other_places_die_of_something_else() {
        let mut crashes = Crashes::default();
        assert!(!crashes.another(0) && !crashes.another(100) && !crashes.another(300));
        assert!(crashes.another(301));
    }
}
