//! Kernels against plain arithmetic, and instruction sets against each other.

use candle_core::quantized::k_quants::GgmlType;
use candle_core::quantized::{QTensor, k_quants};
use candle_core::{Device, Tensor};
use half::{bf16, f16};
use proptest::prelude::*;

use super::quant::{self, Format, STEP, dequantize_row, quantize_row};
use super::simd::{self, Isa, Lanes, Portable};

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

/// Blocks of a ggml type as candle quantises them, and candle's own widening.
fn candle_blocks<T: GgmlType + Clone>(values: &[f32]) -> (Vec<u8>, Vec<f32>) {
    let mut blocks = vec![T::zeros(); values.len() / T::BLCK_SIZE];
    T::from_float(values, &mut blocks);
    let mut wide = vec![0.0; values.len()];
    T::to_float(&blocks, &mut wide);
    let tensor = Tensor::from_slice(values, values.len(), &Device::Cpu).unwrap();
    let quantised = QTensor::quantize(&tensor, T::DTYPE).unwrap();
    (quantised.data().unwrap().into_owned(), wide)
}

fn check_format<F: Format, T: GgmlType + Clone>(seed: u64) {
    let inner = 3 * 256;
    let (bytes, expected) = candle_blocks::<T>(&floats(seed, inner));
    let mut wide = vec![0.0; inner];
    dequantize_row::<F>(&bytes, &mut wide);
    for (ours, candle) in wide.iter().zip(&expected) {
        assert!((ours - candle).abs() <= 1e-5 * candle.abs().max(0.1), "{:?}", T::DTYPE);
    }
    let x = floats(seed + 1, 7 * inner);
    let mut blocks = Vec::new();
    x.chunks_exact(inner).for_each(|row| quantize_row(row, &mut blocks));
    let mut out = [0.0; 7];
    quant::dot_rows::<F>(&bytes, &blocks, &mut out);
    let mut portable = [0.0; 7];
    quant::dot_rows_kernel::<F, Portable>(&bytes, &blocks, &mut portable);
    assert_eq!(out.map(f32::to_bits), portable.map(f32::to_bits), "{:?}", T::DTYPE);
    for (row, (x, out)) in x.chunks_exact(inner).zip(out).enumerate() {
        let exact: f64 = wide.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
        let size: f64 = wide.iter().zip(x).map(|(w, x)| f64::from((w * x).abs())).sum();
        assert!((f64::from(out) - exact).abs() < 0.01 * size, "{:?} {out} {exact}", T::DTYPE);
        let mut alone = [0.0];
        let steps = inner / STEP;
        quant::dot_rows::<F>(&bytes, &blocks[row * steps..(row + 1) * steps], &mut alone);
        assert_eq!(alone[0].to_bits(), out.to_bits(), "a row alone is the same to the bit");
    }
}

#[test]
fn every_format_widens_as_candle_does_and_multiplies_exactly_enough() {
    for seed in 0..4 {
        check_format::<quant::Q4_0, k_quants::BlockQ4_0>(seed);
        check_format::<quant::Q4_1, k_quants::BlockQ4_1>(seed);
        check_format::<quant::Q5_0, k_quants::BlockQ5_0>(seed);
        check_format::<quant::Q5_1, k_quants::BlockQ5_1>(seed);
        check_format::<quant::Q8_0, k_quants::BlockQ8_0>(seed);
        check_format::<quant::Q2K, k_quants::BlockQ2K>(seed);
        check_format::<quant::Q3K, k_quants::BlockQ3K>(seed);
        check_format::<quant::Q4K, k_quants::BlockQ4K>(seed);
        check_format::<quant::Q5K, k_quants::BlockQ5K>(seed);
        check_format::<quant::Q6K, k_quants::BlockQ6K>(seed);
    }
}

fn plain_dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

proptest! {
    #[test]
    fn dots_of_any_length_and_type_are_right_and_equal_on_every_instruction_set(
        seed in 0u64..1000, length in 0usize..200,
    ) {
        let (a, b) = (floats(seed, length), floats(seed + 7, length));
        let halves: Vec<f16> = a.iter().copied().map(f16::from_f32).collect();
        let brains: Vec<bf16> = a.iter().copied().map(bf16::from_f32).collect();
        for lanes in [Lanes::F32(&a), Lanes::F16(&halves), Lanes::Bf16(&brains)] {
            let wide: Vec<f32> = match lanes {
                Lanes::F32(values) => values.to_vec(),
                Lanes::F16(values) => values.iter().map(|v| v.to_f32()).collect(),
                Lanes::Bf16(values) => values.iter().map(|v| v.to_f32()).collect(),
            };
            let dot = simd::dot(lanes, &b);
            let expected = plain_dot(&wide, &b);
            prop_assert!((f64::from(dot) - expected).abs() < 1e-3, "{} {}", dot, expected);
            prop_assert_eq!(dot.to_bits(), simd::dot_kernel::<Portable>(lanes, &b).to_bits());
        }
    }
}

#[test]
fn extreme_integers_do_not_overflow() {
    let sums = Portable::add_products([0.0; 8], &[255; 32], &[-128; 32], &[0; 8], [1.0; 2]);
    assert_eq!(sums.map(f32::to_bits), [(-130_560.0f32).to_bits(); 8]);
}
