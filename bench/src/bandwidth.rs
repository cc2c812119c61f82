//! How fast this machine reads memory: the bound of decoding one stream.

use std::time::Instant;

/// Bytes per second at which `threads` read `bytes` together; the best of a few passes.
pub(crate) fn read_bytes_per_second(bytes: u64, threads: usize) -> f64 {
    const PASSES: usize = 8;
    let words = vec![1u64; bytes as usize / size_of::<u64>()];
    let share = words.len().div_ceil(threads.max(1)).max(1);
    let pass = |_| {
        let before = Instant::now();
        std::thread::scope(|scope| {
            for part in words.chunks(share) {
                scope.spawn(|| std::hint::black_box(sum(part)));
            }
        });
        bytes as f64 / before.elapsed().as_secs_f64()
    };
    (0..PASSES).map(pass).fold(0.0, f64::max)
}

/// Reads from four places at once, since a processor looks only so far ahead of each; eight sums, so that
/// reading is what takes the time.
fn sum(words: &[u64]) -> u64 {
    const PLACES: usize = 4;
    let (lines, _) = words.as_chunks::<8>();
    let quarter = lines.len() / PLACES;
    let mut sums = [0u64; 8];
    for index in 0..quarter {
        for place in 0..PLACES {
            for (sum, word) in sums.iter_mut().zip(&lines[place * quarter + index]) {
                *sum = sum.wrapping_add(*word);
            }
        }
    }
    sums.into_iter().fold(0, u64::wrapping_add)
}
