//! A cap on the distinct values of one metric label, so that callers cannot grow memory by naming things.

use std::collections::HashSet;

use parking_lot::Mutex;

/// What every value past the cap is called.
pub const OTHER_LABEL: &str = "other";

/// The first `cap` distinct values keep their own label; all later ones share [`OTHER_LABEL`].
///
/// Values never leave: a series that vanished and came back would read as a counter reset.
#[derive(Debug)]
pub struct LabelCap {
    cap: usize,
    seen: Mutex<HashSet<String>>,
}

impl LabelCap {
    /// At most `cap` values besides [`OTHER_LABEL`].
    pub fn new(cap: usize) -> Self {
        Self { cap, seen: Mutex::default() }
    }

    /// The label under which `value` is counted.
    pub fn label<'a>(&self, value: &'a str) -> &'a str {
        let mut seen = self.seen.lock();
        if seen.contains(value) {
            return value;
        }
        if seen.len() >= self.cap {
            return OTHER_LABEL;
        }
        seen.insert(value.to_owned());
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_past_the_cap_share_one_label_and_early_ones_keep_theirs() {
        let cap = LabelCap::new(2);
        assert_eq!(
            ["a", "b", "c", "a", "d"].map(|v| cap.label(v)),
            ["a", "b", "other", "a", "other"]
        );
    }
}
