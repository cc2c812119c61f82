//! Kernels against plain arithmetic in double precision, and instruction sets against each other.

mod attention;
mod formats;
mod logits;
mod maps;
mod operations;

use super::{Level, instruction_set};

#[test]
fn the_best_instruction_set_is_chosen() {
    let sets: Vec<_> = Level::available().into_iter().map(Level::set).collect();
    assert!(sets.is_sorted_by(|worse, better| worse < better), "worst first: {sets:?}");
    assert_eq!(Some(&Level::best().set()), sets.last());
    // `deploy/arm-tests.sh` knows what the processors have that it runs this on.
    if let Ok(expected) = std::env::var("FIRMAMENT_TEST_INSTRUCTION_SET") {
        assert_eq!(instruction_set(), expected);
    }
}

/// Floats of very different sizes from a seed.
fn floats(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * 3.0
        })
        .collect()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}
