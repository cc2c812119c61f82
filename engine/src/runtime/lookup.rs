//! Guesses how a sequence goes on: as it went on where it last read alike.
//! Owns: where each pair of tokens stands in a sequence, how far its guesses are to be trusted. Never:
//! whether a guess is right; the model draws each token itself.
//! Source: Saxena 2023, "Prompt lookup decoding"; pairs are chained as in RFC 1951, section 4.

use std::collections::HashMap;

/// Earlier places of a pair that are compared.
const PLACES_MAX: usize = 16;
/// Most tokens that are compared; more alike say nothing more.
const ALIKE_MAX: usize = 16;
/// Steps without a guess after which doubt falls by one.
const PATIENCE: u32 = 32;

/// What one sequence repeats.
#[derive(Debug)]
pub(super) struct Lookup {
    /// The newest place behind each pair of tokens.
    newest: HashMap<[u32; 2], u32>,
    /// For each place the next older one behind the same pair; 0 if there is none.
    older: Vec<u32>,
    /// Tokens alike that prove nothing: one, and one for each guess since the last wholly right one
    /// that was wholly wrong.
    doubt: usize,
    /// Steps without a guess since doubt last changed.
    waited: u32,
}

impl Default for Lookup {
    fn default() -> Self {
        Self { newest: HashMap::new(), older: Vec::new(), doubt: 1, waited: 0 }
    }
}

impl Lookup {
    /// Guesses at most `most` tokens that follow `tokens`, the whole sequence so far: the more of its
    /// end was read before, the more.
    pub(super) fn guess<'a>(
        &mut self,
        tokens: &'a [u32],
        most: usize,
    ) -> impl Iterator<Item = u32> + use<'a> {
        self.index(tokens);
        let (place, alike) = self.find(tokens);
        let count = alike.saturating_sub(self.doubt).min(most);
        if count == 0 {
            self.wait();
        }
        // What follows the place runs into the end of the sequence, and from there into the guesses.
        tokens[place..].iter().copied().cycle().take(count)
    }

    /// Takes in how many of the `guessed` tokens, in order, were `right`.
    pub(super) fn judge(&mut self, guessed: usize, right: usize) {
        if right == guessed {
            self.doubt = 1;
        } else if right == 0 {
            self.doubt = (self.doubt + 1).min(ALIKE_MAX);
        }
        self.waited = 0;
    }

    fn wait(&mut self) {
        self.waited += 1;
        if self.waited == PATIENCE {
            self.doubt = (self.doubt - 1).max(1);
            self.waited = 0;
        }
    }

    /// Notes the places between tokens that are new.
    fn index(&mut self, tokens: &[u32]) {
        for place in self.older.len()..tokens.len() {
            let before = tokens[..place].last_chunk::<2>();
            let older = before.and_then(|pair| self.newest.insert(*pair, place as u32));
            self.older.push(older.unwrap_or(0));
        }
    }

    /// The place before which most reads like the end of `tokens`, the newest of several, and how much
    /// does.
    fn find(&self, tokens: &[u32]) -> (usize, usize) {
        let newest = tokens.last_chunk::<2>().and_then(|pair| self.newest.get(pair)).copied();
        let older = |place: &u32| Some(self.older[*place as usize]).filter(|older| *older > 0);
        let mut best = (0, 0);
        for place in std::iter::successors(newest, older).take(PLACES_MAX) {
            let place = place as usize;
            let pairs = tokens[..place].iter().rev().zip(tokens.iter().rev());
            let alike = pairs.take(ALIKE_MAX).take_while(|(a, b)| a == b).count();
            if alike > best.1 {
                best = (place, alike);
            }
            if alike == ALIKE_MAX {
                break;
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn guess(lookup: &mut Lookup, tokens: &[u32], most: usize) -> Vec<u32> {
        lookup.guess(tokens, most).collect()
    }

    /// The longest match by comparing every place.
    fn longest(tokens: &[u32]) -> usize {
        let alike = |place: usize| {
            let pairs = tokens[..place].iter().rev().zip(tokens.iter().rev());
            pairs.take_while(|(a, b)| a == b).count()
        };
        (2..tokens.len()).map(alike).max().filter(|alike| *alike > 1).unwrap_or(0)
    }

    proptest! {
        #[test]
        fn a_growing_sequence_is_searched_as_if_all_of_it_were_compared(
            tokens in prop::collection::vec(0..6u32, 0..120),
        ) {
            let mut lookup = Lookup::default();
            for end in 0..=tokens.len() {
                let known = &tokens[..end];
                lookup.index(known);
                let (place, alike) = lookup.find(known);
                prop_assert_eq!(&known[place - alike..place], &known[end - alike..]);
                // Only the newest places are compared, and so many alike are enough.
                let seen = (2..end).filter(|&at| known[at - 2..at] == known[end - 2..]).count();
                if seen <= PLACES_MAX {
                    prop_assert_eq!(alike, longest(known).min(ALIKE_MAX));
                } else {
                    prop_assert!(alike >= 2);
                }
            }
        }
    }

    #[test]
    fn the_longer_the_match_the_longer_the_guess() {
        let text = [1, 2, 3, 4, 5, 6, 7, 8];
        let after = |again: usize| {
            let tokens = [&text[..], &text[..again]].concat();
            guess(&mut Lookup::default(), &tokens, 5)
        };
        assert_eq!(after(1), [0; 0], "one token alike says nothing");
        assert_eq!(after(2), [3]);
        assert_eq!(after(3), [4, 5]);
        assert_eq!(after(7), [8, 1, 2, 3, 4], "on into what was repeated, and no more than asked");
    }

    #[test]
    fn a_loop_is_guessed_on_and_on() {
        assert_eq!(guess(&mut Lookup::default(), &[7, 7, 7, 7, 7], 9), [7, 7, 7]);
        assert_eq!(guess(&mut Lookup::default(), &[7, 8, 7, 8, 7, 8], 9), [7, 8, 7]);
    }

    #[test]
    fn wrong_guesses_take_longer_matches_until_one_is_right_or_time_has_passed() {
        let tokens = [1, 2, 3, 4, 1, 2, 3];
        let mut lookup = Lookup::default();
        assert_eq!(guess(&mut lookup, &tokens, 5), [4, 1]);
        lookup.judge(2, 0);
        assert_eq!(guess(&mut lookup, &tokens, 5), [4]);
        lookup.judge(1, 0);
        for _ in 0..PATIENCE {
            assert_eq!(guess(&mut lookup, &tokens, 5), [0; 0]);
        }
        assert_eq!(guess(&mut lookup, &tokens, 5), [4]);
        lookup.judge(1, 1);
        assert_eq!(guess(&mut lookup, &tokens, 5), [4, 1]);
    }
}
