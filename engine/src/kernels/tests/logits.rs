//! The largest logit and weights, against double precision.

use proptest::prelude::*;

use super::{bits, floats};
use crate::kernels::{Level, largest, weigh};

proptest! {
    #[test]
    fn weights_are_powers_of_e_and_the_same_on_every_instruction_set(
        seed in any::<u64>(),
        count in 1usize..700,
        temperature in 0.05f32..3.0,
    ) {
        let logits: Vec<f32> = floats(seed, count).into_iter().map(|logit| 5.0 * logit).collect();
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let expected: Vec<f64> =
            logits.iter().map(|x| (f64::from((x - most) / temperature)).exp()).collect();
        let mut first: Option<Vec<u32>> = None;
        for level in Level::available() {
            prop_assert_eq!(largest(level, &logits).to_bits(), most.to_bits());
            let mut weights = vec![0.0; count];
            weigh(level, &logits, most, temperature, &mut weights);
            for (weight, expected) in weights.iter().zip(&expected) {
                let error = (f64::from(*weight) - expected).abs();
                prop_assert!(error <= 3e-7 * expected + 1e-37, "{} {}", weight, expected);
            }
            let found = bits(&weights);
            prop_assert_eq!(first.get_or_insert_with(|| found.clone()), &found);
        }
    }
}

#[test]
fn impossible_tokens_weigh_nothing_and_the_likeliest_weighs_one() {
    let logits = [f32::NEG_INFINITY, 7.5, f32::NEG_INFINITY, f32::MIN];
    for level in Level::available() {
        let mut weights = [2.0; 4];
        weigh(level, &logits, largest(level, &logits), 1e-30, &mut weights);
        assert_eq!(bits(&weights), bits(&[0.0, 1.0, 0.0, 0.0]));
        assert_eq!(largest(level, &[]).to_bits(), f32::NEG_INFINITY.to_bits());
    }
}
