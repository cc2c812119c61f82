//! Turns logits into a token. Pure: equal logits, settings, history and index give equal tokens.

use std::collections::{HashMap, HashSet};

use protocol::Sampling;

use super::random;

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

/// A token with its logit, or later its probability.
type Candidate = (u32, f32);

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
    if sampling.temperature <= 0.0 {
        return argmax(logits);
    }
    let kept = keep(logits, sampling);
    pick(&kept, random::uniform(seed, index))
}

/// The likeliest token; the lowest id among equals.
pub(crate) fn argmax(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (token, logit)| {
        if *logit > best.1 { (token, *logit) } else { best }
    });
    best.0 as u32
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

/// The tokens that top-k, top-p and min-p leave, likeliest first, with their weights.
fn keep(logits: &[f32], sampling: &Sampling) -> Vec<Candidate> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |logit: f32| ((logit - largest) / sampling.temperature).exp();
    let least = sampling.min_p.max(f32::MIN_POSITIVE);
    let mut all: Vec<Candidate> =
        (0..).zip(logits).map(|(token, logit)| (token, weight(*logit))).collect();
    all.retain(|(_, weight)| *weight >= least);
    if sampling.top_k > 0 {
        sort_first(&mut all, sampling.top_k as usize);
        all.truncate(sampling.top_k as usize);
    }
    let total: f32 = all.iter().map(|(_, weight)| weight).sum();
    let mut sorted = 64;
    loop {
        sort_first(&mut all, sorted);
        let mut sum = 0.0;
        let reaches = all[..sorted.min(all.len())].iter().position(|(_, weight)| {
            sum += weight;
            sum >= sampling.top_p * total
        });
        match reaches {
            Some(last) if sampling.top_p < 1.0 => {
                all.truncate(last + 1);
                return all;
            }
            _ if sorted >= all.len() => return all,
            _ => sorted *= 8,
        }
    }
}

/// Brings the `count` likeliest to the front, sorted; ties by id.
fn sort_first(candidates: &mut [Candidate], count: usize) {
    let likelier = |a: &Candidate, b: &Candidate| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if count < candidates.len() {
        candidates.select_nth_unstable_by(count, likelier);
    }
    let count = count.min(candidates.len());
    candidates[..count].sort_unstable_by(likelier);
}

fn pick(kept: &[Candidate], uniform: f64) -> u32 {
    let total: f64 = kept.iter().map(|(_, weight)| f64::from(*weight)).sum();
    let mut left = uniform * total;
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
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
    let norm = f64::from(largest) + total.ln();
    let logprob = |logit: f32| (f64::from(logit) - norm) as f32;
    let mut all: Vec<Candidate> = (0..).zip(logits.iter().copied()).collect();
    sort_first(&mut all, count);
    let top = all[..count.min(all.len())].iter().map(|(token, logit)| (*token, logprob(*logit)));
    (logprob(logits[token as usize]), top.collect())
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn a_wide_vocabulary_is_cut_where_a_full_sort_would_cut_it() {
        let logits: Vec<f32> = (0..5000u32).map(|i| (i * 7919 % 5000) as f32 / 700.0).collect();
        let settings = Sampling { top_p: 0.9, ..sampling(1.0) };
        let kept = keep(&logits, &settings);
        let mut all: Vec<f32> = logits.iter().map(|l| (l - 4999.0 / 700.0).exp()).collect();
        all.sort_by(|a, b| b.total_cmp(a));
        let total: f32 = all.iter().sum();
        let mut sum = 0.0;
        let expected = all.iter().take_while(|w| {
            let before = sum;
            sum += **w;
            before < 0.9 * total
        });
        let expected = expected.count();
        assert!(kept.len().abs_diff(expected) <= 1, "{} {expected}", kept.len());
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
