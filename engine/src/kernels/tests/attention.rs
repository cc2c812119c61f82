//! Attention against its definition, for any places, windows and groups of rows.

use half::f16;
use proptest::prelude::*;

use super::{bits, dot, floats};
use crate::kernels::{Attention, KvCache, PAGE_TOKENS, Place, Team};

const KV_HEADS: usize = 2;
/// Scores reach a hundred, so as floats they, and with them the weights, are right to about 1e-5;
/// values reach three.
const ERROR_MAX: f64 = 1e-4;

struct Case {
    heads: usize,
    head_dim: usize,
    window: Option<usize>,
}

impl Case {
    fn kv(&self, token: usize) -> (Vec<f32>, Vec<f32>) {
        let width = KV_HEADS * self.head_dim;
        let half = |value: f32| f16::from_f32(value).to_f32();
        let row = |seed: usize| floats(seed as u64, width).into_iter().map(half).collect();
        (row(2 * token + 1), row(2 * token + 2))
    }

    /// Writes tokens `0..until` of a sequence in pieces of `piece` and attends from the last piece.
    fn run(&self, team: &Team, pages: &[u32], until: usize, piece: usize) -> Vec<f32> {
        let mut cache = KvCache::new(16, KV_HEADS, self.head_dim);
        let attention = Attention { heads: self.heads, scale: 0.3, window: self.window };
        let mut out = Vec::new();
        for start in (0..until).step_by(piece) {
            let tokens = start..until.min(start + piece);
            let places: Vec<_> = tokens.clone().map(|position| Place { pages, position }).collect();
            let (mut keys, mut values) = (Vec::new(), Vec::new());
            for token in tokens.clone() {
                let (k, v) = self.kv(token);
                keys.extend(k);
                values.extend(v);
            }
            cache.write(team, &places, &keys, &values);
            let q: Vec<f32> = tokens.clone().flat_map(|token| self.q(token)).collect();
            out = vec![0.0; q.len()];
            cache.attend(team, attention, &places, &q, &mut out);
        }
        out.split_off(out.len() - self.heads * self.head_dim)
    }

    fn q(&self, token: usize) -> Vec<f32> {
        floats(1000 + token as u64, self.heads * self.head_dim)
    }

    /// `softmax(scale * q Kᵀ) V` as it is written down.
    fn expected(&self, last: usize) -> Vec<f64> {
        let first = self.window.map_or(0, |window| (last + 1).saturating_sub(window));
        let (q, mut out) = (self.q(last), Vec::new());
        for (head, q) in q.chunks_exact(self.head_dim).enumerate() {
            let at = head / (self.heads / KV_HEADS) * self.head_dim;
            let part = |row: Vec<f32>| row[at..at + self.head_dim].to_vec();
            let scores: Vec<f64> =
                (first..=last).map(|t| f64::from(0.3f32) * dot(q, &part(self.kv(t).0))).collect();
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
            let total: f64 = weights.iter().sum();
            for dimension in 0..self.head_dim {
                let value = |t: usize| f64::from(part(self.kv(t).1)[dimension]);
                let mixed = weights.iter().zip(first..).map(|(weight, t)| weight * value(t));
                out.push(mixed.sum::<f64>() / total);
            }
        }
        out
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn attention_is_its_definition_and_the_same_in_any_pieces(
        group in 1usize..8,
        head_dim in prop::sample::select(vec![8usize, 16, 64, 80]),
        until in 1usize..70,
        piece in 1usize..40,
        window in prop::option::of(1usize..40),
    ) {
        let case = Case { heads: KV_HEADS * group, head_dim, window };
        let teams = [Team::new(1).unwrap(), Team::new(3).unwrap()];
        let alone = case.run(&teams[0], &[3, 7, 1, 4, 9], until, 1);
        for (ours, exact) in alone.iter().zip(case.expected(until - 1)) {
            prop_assert!((f64::from(*ours) - exact).abs() < ERROR_MAX, "{} {}", ours, exact);
        }
        for team in &teams {
            let pieces = case.run(team, &[0, 2, 4, 6, 8], until, piece);
            prop_assert_eq!(bits(&pieces), bits(&alone));
        }
    }
}

#[test]
fn what_a_page_held_before_is_gone() {
    let (team, case) = (Team::new(1).unwrap(), Case { heads: 2, head_dim: 16, window: None });
    let mut cache = KvCache::new(1, KV_HEADS, 16);
    let row = |value: f32| vec![value; KV_HEADS * 16];
    for position in 0..PAGE_TOKENS {
        let place = [Place { pages: &[0], position }];
        cache.write(&team, &place, &row(f32::INFINITY), &row(f32::INFINITY));
    }
    let place = [Place { pages: &[0], position: 0 }];
    let (keys, values) = case.kv(0);
    cache.write(&team, &place, &keys, &values);
    let mut out = vec![0.0; 32];
    let attention = Attention { heads: 2, scale: 1.0, window: None };
    cache.attend(&team, attention, &place, &case.q(0), &mut out);
    assert_eq!(out, values, "the only token has all the weight");
}
