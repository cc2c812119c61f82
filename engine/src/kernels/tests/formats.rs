//! ggml's formats: against candle's widening, and alike on every instruction set.

use candle_core::quantized::k_quants::{self, GgmlType};
use candle_core::quantized::{QTensor, k_quants as k};
use candle_core::{Device, Tensor};
use proptest::prelude::*;

use super::{bits, dot, floats};
use crate::kernels::format::{self, Format, STEP, dequantize_row};
use crate::kernels::rounded::{Block, round_row};
use crate::kernels::simd::LANES;
use crate::kernels::{Level, tiles};

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

fn pack<F: Format>(rows: &[Vec<u8>], steps: usize) -> Vec<u8> {
    let mut tile = vec![0; tiles::tile_bytes::<F>(steps)];
    tiles::pack_tile::<F>(&mut rows.iter().map(Vec::as_slice), steps, &mut tile);
    tile
}

fn check_format<F: Format, T: GgmlType + Clone>(seed: u64, lanes: usize, rows: usize) {
    let (inner, steps) = (3 * 256, 3 * 256 / STEP);
    let weights: Vec<_> =
        (0..lanes).map(|lane| candle_blocks::<T>(&floats(seed + lane as u64, inner))).collect();
    for (bytes, candle) in &weights {
        let mut wide = vec![0.0; inner];
        dequantize_row::<F>(Level::best(), bytes, &mut wide);
        for (ours, candle) in wide.iter().zip(candle) {
            assert!((ours - candle).abs() <= 1e-5 * candle.abs().max(0.1), "{:?}", T::DTYPE);
        }
    }
    let bytes: Vec<_> = weights.iter().map(|(bytes, _)| bytes.clone()).collect();
    let tile = pack::<F>(&bytes, steps);
    let x = floats(seed + 99, rows * inner);
    let mut blocks = vec![Block::default(); rows * steps];
    round_row(Level::best(), &x, &mut blocks);
    let mut out = vec![[0.0; LANES]; rows];
    tiles::multiply::<F>(Level::best(), &tile, steps, &blocks, &[], &mut out);
    for (row, (x, out)) in x.chunks_exact(inner).zip(&out).enumerate() {
        for (lane, value) in out.iter().enumerate() {
            let Some((_, wide)) = weights.get(lane) else {
                assert_eq!(value.to_bits(), 0, "outputs beyond the matrix are zero");
                continue;
            };
            let size: f64 = wide.iter().zip(x).map(|(w, x)| f64::from((w * x).abs())).sum();
            let error = (f64::from(*value) - dot(wide, x)).abs();
            assert!(error < 0.01 * size, "{:?} is off by {error} of {size}", T::DTYPE);
        }
        let mut alone = vec![[0.0; LANES]];
        let x = &blocks[row * steps..(row + 1) * steps];
        tiles::multiply::<F>(Level::best(), &tile, steps, x, &[], &mut alone);
        assert_eq!(bits(alone.as_flattened()), bits(out), "alone it is the same");
    }
    for level in Level::available() {
        let mut rounded = vec![Block::default(); rows * steps];
        round_row(level, &x, &mut rounded);
        let mut other = vec![[0.0; LANES]; rows];
        tiles::multiply::<F>(level, &tile, steps, &rounded, &[1; 700], &mut other);
        assert_eq!(
            bits(other.as_flattened()),
            bits(out.as_flattened()),
            "{:?} on {level:?}",
            T::DTYPE
        );
    }
}

#[test]
fn every_format_multiplies_exactly_enough_and_alike_on_every_instruction_set() {
    for (seed, lanes, rows) in [(0, 16, 1), (100, 5, 7), (200, 16, 19), (300, 3, 48)] {
        check_format::<format::Q4_0, k::BlockQ4_0>(seed, lanes, rows);
        check_format::<format::Q4_1, k::BlockQ4_1>(seed, lanes, rows);
        check_format::<format::Q5_0, k::BlockQ5_0>(seed, lanes, rows);
        check_format::<format::Q5_1, k::BlockQ5_1>(seed, lanes, rows);
        check_format::<format::Q8_0, k::BlockQ8_0>(seed, lanes, rows);
        check_format::<format::Q2K, k_quants::BlockQ2K>(seed, lanes, rows);
        check_format::<format::Q3K, k_quants::BlockQ3K>(seed, lanes, rows);
        check_format::<format::Q4K, k_quants::BlockQ4K>(seed, lanes, rows);
        check_format::<format::Q5K, k_quants::BlockQ5K>(seed, lanes, rows);
        check_format::<format::Q6K, k_quants::BlockQ6K>(seed, lanes, rows);
    }
}

/// Any bytes are weights: scales of any size, integers at their ends.
fn check_bytes<F: Format>(seed: u64, fill: Option<u8>, inner: usize, inputs: usize) {
    let steps = inner / STEP;
    let mut state = seed | 1;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        fill.unwrap_or((state >> 56) as u8)
    };
    let width = steps / F::STEPS * F::BYTES;
    let mut rows: Vec<Vec<u8>> = (0..LANES).map(|_| (0..width).map(|_| byte()).collect()).collect();
    for row in &mut rows {
        // A half float that is infinite is refused when a file is read by what it does to outputs.
        for block in row.chunks_exact_mut(F::BYTES) {
            if F::halves(block).iter().any(|half| half & 0x7c00 == 0x7c00) {
                block.fill(0x11);
            }
        }
    }
    let tile = pack::<F>(&rows, steps);
    let extremes = [1e30, -1e30, 1.0, 0.0];
    let x: Vec<f32> = (0..inner * inputs).map(|i| extremes[(i * 7 + i / inner) % 4]).collect();
    let mut blocks = vec![Block::default(); inputs * steps];
    round_row(Level::best(), &x, &mut blocks);
    let run = |level| {
        let mut out = vec![[0.0; LANES]; inputs];
        tiles::multiply::<F>(level, &tile, steps, &blocks, &[], &mut out);
        bits(out.as_flattened())
    };
    for level in Level::available() {
        assert_eq!(run(level), run(Level::best()), "{level:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_give_the_same_on_every_instruction_set(
        seed: u64,
        fill in 0usize..4,
        blocks in 1usize..4,
        inputs in 1usize..40,
    ) {
        let fill = [None, None, Some(0xff), Some(0x7b)][fill];
        check_bytes::<format::Q4_0>(seed, fill, 256 * blocks, inputs);
        check_bytes::<format::Q4_1>(seed, fill, 256 * blocks, inputs);
        check_bytes::<format::Q5_0>(seed, fill, 256 * blocks, inputs);
        check_bytes::<format::Q5_1>(seed, fill, 256 * blocks, inputs);
        check_bytes::<format::Q8_0>(seed, fill, 256 * blocks, inputs);
        check_bytes::<format::Q2K>(seed, fill, 256 * blocks, inputs);
        check_bytes::<format::Q3K>(seed, fill, 256 * blocks, inputs);
        check_bytes::<format::Q4K>(seed, fill, 256 * blocks, inputs);
        check_bytes::<format::Q5K>(seed, fill, 256 * blocks, inputs);
        check_bytes::<format::Q6K>(seed, fill, 256 * blocks, inputs);
    }
}
