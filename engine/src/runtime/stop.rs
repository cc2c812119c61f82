//! Stop texts: found even when they come in pieces, and never shown.

/// Holds text back while it may be the beginning of a stop text.
#[derive(Debug)]
pub(crate) struct StopFilter {
    stops: Vec<String>,
    held: String,
}

/// What became certain.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// This text is part of the answer; more may come.
    No(String),
    /// This text is the end of the answer.
    Yes(String),
}

impl StopFilter {
    pub(crate) fn new(stops: Vec<String>) -> Self {
        Self { stops, held: String::new() }
    }

    /// Takes more text.
    pub(crate) fn push(&mut self, text: &str) -> Stopped {
        self.held.push_str(text);
        let first = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(at) = first {
            self.held.truncate(at);
            return Stopped::Yes(std::mem::take(&mut self.held));
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let held = self.held.split_off(self.held.len() - keep);
        Stopped::No(std::mem::replace(&mut self.held, held))
    }

    /// The text that was held back, once no more comes.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Length of the longest end of `text` that `stop` begins with, short of all of `stop`.
pub(super) fn overlap(text: &str, stop: &str) -> usize {
    let longest = text.len().min(stop.len() - 1);
    (1..=longest)
        .rev()
        .find(|&length| {
            text.is_char_boundary(text.len() - length)
                && stop.as_bytes().starts_with(&text.as_bytes()[text.len() - length..])
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut filter = StopFilter::new(stops.iter().map(ToString::to_string).collect());
        let mut out = String::new();
        for piece in pieces {
            match filter.push(piece) {
                Stopped::No(text) => out.push_str(&text),
                Stopped::Yes(text) => return (out + &text, true),
            }
        }
        (out + &filter.finish(), false)
    }

    #[test]
    fn a_stop_text_in_pieces_is_found_and_not_shown() {
        assert_eq!(run(&["END"], &["one E", "N", "D two"]), ("one ".into(), true));
        assert_eq!(run(&["\n\n", "x"], &["a\n", "b\n", "\nc"]), ("a\nb".into(), true));
    }

    #[test]
    fn a_beginning_that_comes_to_nothing_is_shown() {
        assert_eq!(run(&["END"], &["E", "N", "ding"]), ("ENding".into(), false));
        assert_eq!(run(&["END"], &["the EN"]), ("the EN".into(), false));
    }

    #[test]
    fn the_first_of_several_stops_wins_and_characters_stay_whole() {
        assert_eq!(run(&["b", "ab"], &["xab"]), ("x".into(), true));
        assert_eq!(run(&["é!"], &["caf", "é", "?"]), ("café?".into(), false));
    }

    #[test]
    fn cutting_the_text_anywhere_gives_the_same_answer() {
        let text = "aaab aab ab";
        for at in 0..text.len() {
            let whole = run(&["aab a"], &[text]);
            assert_eq!(run(&["aab a"], &[&text[..at], &text[at..]]), whole);
        }
    }
}
