//! Whole projections: tiles, biases, adapters, threads.

use candle_core::quantized::GgmlDType;
use proptest::prelude::*;

use super::{bits, dot, floats};
use crate::kernels::{
    Block, Delta, DenseMatrix, Finish, Level, Linear, LowRank, Map, Matrix, Packer, Precision,
    Rows, Team, project, round_row,
};
use crate::weights::TensorRef;

fn packed(seed: u64, d_out: usize, d_in: usize) -> (Box<dyn Linear>, Vec<f32>) {
    let weights = floats(seed, d_out * d_in);
    let bytes: Vec<u8> = weights.iter().flat_map(|value| value.to_le_bytes()).collect();
    let tensor = TensorRef::new(GgmlDType::F32, vec![d_out, d_in], bytes.into());
    let mut packer = Packer::default();
    let map = Matrix { tensor: &tensor, d_in, d_out, order: None }.pack(&mut packer).unwrap();
    packer.pack(&Team::new(2).unwrap()).unwrap();
    (map, weights)
}

fn dense(seed: u64, rows: usize, cols: usize) -> DenseMatrix {
    DenseMatrix { rows, cols, values: floats(seed, rows * cols) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_projection_is_base_plus_bias_plus_the_rows_own_adapters(
        rows in 1usize..20,
        d_in in prop::sample::select(vec![24usize, 32, 96]),
        d_out in 1usize..150,
        ranks in prop::collection::vec(1usize..40, 0..3),
        precision in prop::sample::select(vec![Precision::Bytes, Precision::Halves]),
        threads in 1usize..4,
    ) {
        let (base, weights) = packed(1, d_out, d_in);
        let (x, bias) = (floats(2, rows * d_in), floats(3, d_out));
        let pairs: Vec<_> = ranks.iter().map(|&rank| (dense(4, rank, d_in), dense(5, d_out, rank))).collect();
        let mut packer = Packer::default();
        let low_rank: Vec<_> = pairs
            .iter()
            .map(|(a, b)| LowRank::new(a.clone(), b.clone(), precision, &mut packer))
            .collect();
        packer.pack(&Team::new(1).unwrap()).unwrap();
        // The first adapter is used by the first half of the rows, the second by all, and so on.
        let reach = |index: usize| 0..(rows * (index + 1)).div_ceil(2).min(rows);
        let run = |threads: usize, only: Option<usize>| {
            let shift = only.unwrap_or(0);
            let kept = only.map_or(0..rows, |row| row..row + 1);
            let deltas = low_rank.iter().enumerate().filter_map(|(index, pair)| {
                let start = reach(index).start.max(kept.start);
                let end = reach(index).end.min(kept.end);
                let rows = start.saturating_sub(shift)..end.saturating_sub(shift);
                (start < end).then(|| Delta::new(rows, pair, 0.5))
            });
            let map = Map { base: &*base, bias: Some(&bias), deltas: deltas.collect(), norms: None };
            let x = &x[kept.start * d_in..kept.end * d_in];
            let per_row = if d_in % 32 == 0 { d_in / 32 } else { 0 };
            let mut blocks = vec![Block::default(); kept.len() * per_row];
            round_row(Level::best(), x, &mut blocks);
            let input = Rows { values: x, blocks: &blocks, width: d_in };
            let mut out = vec![0.0; kept.len() * d_out];
            let team = Team::new(threads).unwrap();
            project(&team, &mut [map], input, &mut [&mut out], Finish::Store);
            out
        };
        let out = run(threads, None);
        for row in 0..rows {
            let x = &x[row * d_in..(row + 1) * d_in];
            for column in 0..d_out {
                let mut bound = 0.3;
                let mut exact = dot(x, &weights[column * d_in..(column + 1) * d_in]);
                exact += f64::from(bias[column]);
                for (index, (a, b)) in pairs.iter().enumerate() {
                    if reach(index).contains(&row) {
                        let b = &b.values[column * b.cols..(column + 1) * b.cols];
                        let (sum, size) = delta(x, a, b);
                        exact += 0.5 * sum;
                        bound += rounding(precision) * 0.5 * size;
                    }
                }
                let error = (f64::from(out[row * d_out + column]) - exact).abs();
                prop_assert!(error < bound, "row {} column {}: {} > {}", row, column, error, bound);
            }
            prop_assert_eq!(bits(&run(1, Some(row))), bits(&out[row * d_out..(row + 1) * d_out]));
        }
    }
}

#[test]
fn a_delta_keeps_small_and_large_elements() {
    const WIDTH: usize = 64;
    let x = floats(3, WIDTH);
    for rank in [3, 12, 16, 40] {
        for precision in [Precision::Bytes, Precision::Halves] {
            for size in (-18..18).map(|power| 10f32.powi(power)) {
                let scaled = |mut matrix: DenseMatrix| {
                    matrix.values.iter_mut().for_each(|value| *value *= size);
                    matrix
                };
                let (mut a, b) = (scaled(dense(1, rank, WIDTH)), scaled(dense(2, 20, rank)));
                // One rank's row is far smaller, as training may leave it.
                a.values[..WIDTH].iter_mut().for_each(|value| *value *= 1e-3);
                let mut packer = Packer::default();
                let pair = LowRank::new(a.clone(), b.clone(), precision, &mut packer);
                packer.pack(&Team::new(1).unwrap()).unwrap();
                for (row, out) in b.values.chunks_exact(rank).zip(pair.delta(&x)) {
                    let (exact, terms) = delta(&x, &a, row);
                    let error = (f64::from(out) - exact).abs();
                    let bound = rounding(precision) * terms;
                    assert!(error < bound, "{rank} {precision:?} {size}: {error} > {bound}");
                }
            }
        }
    }
}

/// What a pair adds to one output, whose row of `B` is `b`, and the root of the sum of the squares of
/// all that is added up on the way and rounded.
fn delta(x: &[f32], a: &DenseMatrix, b: &[f32]) -> (f64, f64) {
    let (mut sum, mut squares) = (0.0, 0.0);
    for (a, b) in a.values.chunks_exact(a.cols).zip(b) {
        let (low, b) = (dot(x, a), f64::from(*b));
        let products = x.iter().zip(a).map(|(x, a)| f64::from(*x) * f64::from(*a));
        sum += low * b;
        squares += (low * low + products.map(|product| product * product).sum::<f64>()) * b * b;
    }
    (sum, squares.sqrt())
}

/// By how much of that a delta may be off.
fn rounding(precision: Precision) -> f64 {
    match precision {
        Precision::Bytes => 0.05,
        Precision::Halves => 0.002,
    }
}
