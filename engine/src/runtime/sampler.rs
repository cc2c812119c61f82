//! Turns logits into a token. Pure: equal logits, settings, history and index give equal tokens.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use protocol::Sampling;

use super::random;
use crate::kernels::{Level, largest, weigh};

/// How often tokens occurred, for the penalties.
#[derive(Debug, Default)]
pub(crate) struct History {
    prompt: HashSet<u32>,
    generated: HashMap<u32, u32>,
}

impl History {
    /// Starts with the prompt, which only the repetition penalty sees.
    pub(crate) fn of_prompt(tokens: &[u32]) -> Self {
        let prompt = tokens.iter().copied().collect();
        Self { prompt, generated: HashMap::new() }
    }

    pub(crate) fn push(&mut self, token: u32) {
        *self.generated.entry(token).or_default() += 1;
    }
}

/// A token with its logit or its weight.
type Candidate = (u32, f32);

/// What one draw works in.
#[derive(Default)]
struct Room {
    /// Every token's weight: its probability over that of the likeliest.
    weights: Vec<f32>,
    kept: Vec<Candidate>,
}

thread_local! {
    /// Kept from draw to draw, so that drawing does not ask for memory.
    static ROOM: RefCell<Room> = RefCell::default();
}

/// Draws the token at `index` of a stream from `logits`, which penalties and bias change.
/// A token whose logit is negative infinity is never drawn while another is left.
pub(crate) fn draw(
    logits: &mut [f32],
    sampling: &Sampling,
    history: &History,
    seed: u64,
    index: u64,
) -> u32 {
    penalise(logits, sampling, history);
    for (token, bias) in &sampling.logit_bias {
        if let Some(logit) = logits.get_mut(*token as usize) {
            *logit += bias;
        }
    }
    let most = largest(Level::best(), logits);
    if sampling.temperature <= 0.0 || !most.is_finite() {
        return first(logits, most);
    }
    let uniform = random::uniform(seed, index);
    ROOM.with_borrow_mut(|room| pick(room.keep(logits, most, sampling), uniform))
}

/// The likeliest token; the lowest id among equals.
pub(crate) fn argmax(logits: &[f32]) -> u32 {
    first(logits, largest(Level::best(), logits))
}

fn first(logits: &[f32], wanted: f32) -> u32 {
    logits.iter().position(|logit| *logit >= wanted).unwrap_or(0) as u32
}

fn penalise(logits: &mut [f32], sampling: &Sampling, history: &History) {
    if sampling.repetition_penalty.to_bits() != 1.0f32.to_bits() {
        let fresh = history.generated.keys().filter(|token| !history.prompt.contains(token));
        for token in history.prompt.iter().chain(fresh) {
            if let Some(logit) = logits.get_mut(*token as usize) {
                let penalty = sampling.repetition_penalty;
                *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
            }
        }
    }
    for (token, count) in &history.generated {
        if let Some(logit) = logits.get_mut(*token as usize) {
            *logit -= sampling.presence_penalty + sampling.frequency_penalty * *count as f32;
        }
    }
}

impl Room {
    /// The tokens that min-p, top-k and top-p leave, one after the other, with their weights; in
    /// order of their ids: who draws one needs no other, so no vocabulary is sorted.
    fn keep(&mut self, logits: &[f32], largest: f32, sampling: &Sampling) -> &[Candidate] {
        let Self { weights, kept } = self;
        let &Sampling { temperature, top_k, top_p, min_p, .. } = sampling;
        weights.resize(logits.len(), 0.0);
        weigh(Level::best(), logits, largest, temperature, weights);
        let least = min_p.clamp(f32::MIN_POSITIVE, 1.0);
        weights.iter_mut().filter(|weight| **weight < least).for_each(|weight| *weight = 0.0);
        let tokens = |least: f32| {
            let tokens = (0..).zip(weights.iter().copied());
            tokens.filter(move |(_, weight)| *weight >= least)
        };
        kept.clear();
        let total = if top_k > 0 {
            likeliest(tokens(least), top_k as usize, kept);
            weight_of(kept)
        } else if top_p < 1.0 {
            // Tokens below the floor weigh no more together than what top-p cuts off.
            let total = sum(weights);
            let floor = (1.0 - f64::from(top_p)) * total / weights.len() as f64;
            kept.extend(tokens(least.max(floor as f32)));
            total
        } else {
            kept.extend(tokens(least));
            return kept;
        };
        if top_p < 1.0 {
            cut_nucleus(kept, f64::from(top_p) * total);
        }
        let Some(last) = kept.iter().copied().max_by(by_likelihood) else { return kept };
        kept.clear();
        kept.extend(tokens(last.1).filter(|token| by_likelihood(token, &last).is_le()));
        kept
    }
}

/// The likelier first; among equals the lower id.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "selecting and sorting call it so")]
fn by_likelihood(a: &Candidate, b: &Candidate) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// Sum of the weights, in eight parts that are added up at once.
fn sum(weights: &[f32]) -> f64 {
    let (eights, rest) = weights.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for eight in eights {
        for (sum, weight) in sums.iter_mut().zip(eight) {
            *sum += f64::from(*weight);
        }
    }
    sums.into_iter().chain(rest.iter().map(|weight| f64::from(*weight))).sum()
}

/// The `count` likeliest of `all`, in no order.
fn likeliest(all: impl Iterator<Item = Candidate>, count: usize, found: &mut Vec<Candidate>) {
    found.clear();
    if count == 0 {
        return;
    }
    let mut last: Option<Candidate> = None;
    for candidate in all {
        if last.is_some_and(|last| by_likelihood(&last, &candidate).is_lt()) {
            continue;
        }
        found.push(candidate);
        if found.len() >= 2 * count {
            last = Some(cut(found, count));
        }
    }
    if found.len() > count {
        cut(found, count);
    }
}

/// Leaves the `count` likeliest, and gives the last of them.
fn cut(candidates: &mut Vec<Candidate>, count: usize) -> Candidate {
    let (_, last, _) = candidates.select_nth_unstable_by(count - 1, by_likelihood);
    let last = *last;
    candidates.truncate(count);
    last
}

fn weight_of(candidates: &[Candidate]) -> f64 {
    candidates.iter().map(|(_, weight)| f64::from(*weight)).sum()
}

/// Leaves as few of the likeliest as weigh `wanted` together.
fn cut_nucleus(candidates: &mut Vec<Candidate>, wanted: f64) {
    // The last that is needed lies in `start..end`; those before `start` are likelier.
    let (mut start, mut end, mut before) = (0, candidates.len(), 0.0);
    while end - start > 1 {
        let middle = usize::midpoint(start, end);
        candidates[start..end].select_nth_unstable_by(middle - start, by_likelihood);
        let weight = before + weight_of(&candidates[start..middle]);
        if weight >= wanted {
            end = middle;
        } else {
            (start, before) = (middle, weight);
        }
    }
    candidates.truncate(start + 1);
}

fn pick(kept: &[Candidate], uniform: f64) -> u32 {
    let mut left = uniform * weight_of(kept);
    for (token, weight) in kept {
        left -= f64::from(*weight);
        if left < 0.0 {
            return *token;
        }
    }
    kept.last().map_or(0, |(token, _)| *token)
}

/// Natural logarithms of the probabilities of `token` and of the `count` likeliest tokens.
pub(crate) fn logprobs(logits: &[f32], token: u32, count: usize) -> (f32, Vec<Candidate>) {
    let most = largest(Level::best(), logits);
    let total = ROOM.with_borrow_mut(|room| {
        room.weights.resize(logits.len(), 0.0);
        weigh(Level::best(), logits, most, 1.0, &mut room.weights);
        sum(&room.weights)
    });
    let norm = f64::from(most) + total.ln();
    let logprob = |logit: f32| (f64::from(logit) - norm) as f32;
    let mut top = Vec::new();
    likeliest((0..).zip(logits.iter().copied()), count, &mut top);
    top.sort_unstable_by(by_likelihood);
    let top = top.into_iter().map(|(token, logit)| (token, logprob(logit)));
    (logprob(logits[token as usize]), top.collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sampling(temperature: f32) -> Sampling {
        Sampling { temperature, ..Sampling::greedy() }
    }

    fn counts(settings: &Sampling, logits: &[f32], draws: u64) -> Vec<u64> {
        let mut counts = vec![0; logits.len()];
        for index in 0..draws {
            let token =
                draw(&mut logits.to_vec(), settings, &History::default(), settings.seed, index);
            counts[token as usize] += 1;
        }
        counts
    }

    #[test]
    fn temperature_zero_takes_the_likeliest_and_the_first_among_equals() {
        let mut logits = [1.0, 3.0, 3.0, 2.0];
        assert_eq!(draw(&mut logits, &sampling(0.0), &History::default(), 1, 0), 1);
    }

    #[test]
    fn draws_follow_the_softmax() {
        let logits = [1.0f32.ln(), 2.0f32.ln(), 5.0f32.ln(), f32::NEG_INFINITY];
        let counts = counts(&sampling(1.0), &logits, 8000);
        for (count, share) in counts.iter().zip([1000.0, 2000.0, 5000.0, 0.0]) {
            assert!((*count as f64 - share).abs() < 150.0, "{counts:?}");
        }
    }

    #[test]
    fn top_k_top_p_and_min_p_cut_the_tail() {
        let logits: Vec<f32> = [50.0f32, 30.0, 15.0, 5.0].map(f32::ln).to_vec();
        let left = |settings: Sampling| {
            counts(&settings, &logits, 2000).iter().filter(|count| **count > 0).count()
        };
        assert_eq!(left(sampling(1.0)), 4);
        assert_eq!(left(Sampling { top_k: 2, ..sampling(1.0) }), 2);
        assert_eq!(left(Sampling { top_p: 0.79, ..sampling(1.0) }), 2);
        assert_eq!(left(Sampling { top_p: 0.81, ..sampling(1.0) }), 3);
        assert_eq!(left(Sampling { min_p: 0.2, ..sampling(1.0) }), 3);
    }

    /// What sorting all tokens leaves, in order of their ids.
    fn sorted(logits: &[f32], settings: &Sampling) -> Vec<Candidate> {
        let mut weights = vec![0.0; logits.len()];
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        weigh(Level::best(), logits, most, settings.temperature, &mut weights);
        let mut all: Vec<Candidate> = (0..).zip(weights).collect();
        all.retain(|(_, weight)| *weight >= settings.min_p.max(f32::MIN_POSITIVE));
        all.sort_by(|a, b| b.1.total_cmp(&a.1)); // stable: equals stay in order of their ids
        if settings.top_k > 0 {
            all.truncate(settings.top_k as usize);
        }
        if settings.top_p < 1.0 {
            let weights = || all.iter().map(|(_, weight)| f64::from(*weight));
            let (total, mut sum): (f64, f64) = (weights().sum(), 0.0);
            let before = weights().take_while(|weight| {
                sum += weight;
                sum < f64::from(settings.top_p) * total
            });
            let count = before.count() + 1;
            all.truncate(count);
        }
        all.sort_by_key(|(token, _)| *token);
        all
    }

    proptest! {
        #[test]
        fn selecting_leaves_what_sorting_leaves(
            mut logits in prop::collection::vec(-9.0f32..9.0, 1..3000),
            equals in prop::collection::vec(any::<prop::sample::Index>(), 0..200),
            temperature in 0.2f32..2.0,
            top_k in prop_oneof![Just(0), 1u32..10, 1u32..4000],
            top_p in prop_oneof![Just(1.0f32), 0.0f32..1.0, 0.99f32..1.0],
            min_p in prop_oneof![Just(0.0f32), 0.0f32..1.0],
        ) {
            let count = logits.len();
            for pair in equals.chunks_exact(2) {
                logits[pair[0].index(count)] = logits[pair[1].index(count)];
            }
            logits[equals.len() % count] = f32::NEG_INFINITY;
            logits.push(0.0); // at least one token is possible
            let settings = Sampling { top_k, top_p, min_p, ..sampling(temperature) };
            let mut room = Room::default();
            let kept = room.keep(&logits, largest(Level::best(), &logits), &settings);
            let bits = |kept: &[Candidate]| -> Vec<(u32, u32)> {
                kept.iter().map(|(token, weight)| (*token, weight.to_bits())).collect()
            };
            prop_assert_eq!(bits(kept), bits(&sorted(&logits, &settings)));
        }
    }

    #[test]
    fn an_infinite_logit_is_drawn_and_no_possible_token_gives_the_first() {
        let drawn =
            |mut logits: [f32; 3]| draw(&mut logits, &sampling(1.0), &History::default(), 1, 0);
        assert_eq!(drawn([0.0, f32::INFINITY, 1.0]), 1);
        assert_eq!(drawn([f32::NEG_INFINITY; 3]), 0);
    }

    #[test]
    fn penalties_see_what_they_should() {
        let mut history = History::of_prompt(&[0]);
        history.push(1);
        history.push(1);
        let settings = Sampling {
            presence_penalty: 0.5,
            frequency_penalty: 0.25,
            repetition_penalty: 2.0,
            ..sampling(0.0)
        };
        let mut logits = [4.0, 4.0, -4.0];
        penalise(&mut logits, &settings, &history);
        assert_eq!(logits.map(f32::to_bits), [2.0f32, 1.0, -4.0].map(f32::to_bits));
    }

    #[test]
    fn logprobs_sum_to_one_and_are_sorted() {
        let (drawn, top) = logprobs(&[0.0, 2.0, 1.0], 0, 3);
        let total: f32 = top.iter().map(|(_, logprob)| logprob.exp()).sum();
        assert!((total - 1.0).abs() < 1e-6);
        assert_eq!(top.iter().map(|(token, _)| *token).collect::<Vec<_>>(), [1, 2, 0]);
        assert!((drawn - top[2].1).abs() < 1e-6);
    }
}
