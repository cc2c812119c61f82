//! Numbers that look random and never change: what is measured or tested with them must be the same
//! on every machine.

/// A sequence of numbers that a seed fixes.
/// Source: Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators" (SplitMix64).
#[derive(Debug, Clone)]
pub struct Numbers(u64);

impl Numbers {
    /// The sequence of a seed.
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    #[expect(clippy::should_implement_trait, reason = "it never ends, so there is no `Option`")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `count` values with mean 0 and this standard deviation, uniformly spread.
    pub fn floats(&mut self, count: usize, deviation: f32) -> Vec<f32> {
        let reach = deviation * 3_f32.sqrt();
        let one = |_| ((self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0) * reach;
        (0..count).map(one).collect()
    }
}

/// Token ids below `vocabulary` that no other `salt` begins with, so that no prefix is reused. The
/// first ids, often special ones, are left out.
pub(crate) fn prompt(tokens: usize, salt: usize, vocabulary: usize) -> Vec<u32> {
    const FIRST: u64 = 100;
    let mut numbers = Numbers::seeded(salt as u64);
    let ids = (vocabulary as u64).saturating_sub(FIRST).max(1);
    (0..tokens).map(|_| (FIRST + numbers.next() % ids) as u32).collect()
}
