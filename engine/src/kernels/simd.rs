//! Sixteen lanes at a time: the operations that kernels are written in, and their plain version.
//!
//! Each operation gives the same bits on every instruction set, and a kernel fixes the order of
//! its additions, so results do not depend on the machine.

/// Lanes of a vector.
pub(crate) const LANES: usize = 16;

/// An instruction set.
pub(crate) trait Isa {
    /// Sixteen floats.
    type Floats: Copy;
    /// Sixteen 32-bit integers.
    type Ints: Copy;
    /// Four unsigned bytes for each of sixteen lanes.
    type Bytes: Copy;

    /// Rows of input that are worth computing together: their sums stay in registers.
    const ROWS: usize;
    /// What [`Isa::dot`] takes from each byte before it multiplies: 128 where products of signed
    /// bytes cost less.
    const MIDDLE: i32 = 0;

    fn splat(value: f32) -> Self::Floats;
    fn load(values: &[f32; LANES]) -> Self::Floats;
    fn store(values: Self::Floats, to: &mut [f32; LANES]);
    fn add(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn sub(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn mul(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn div(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// The larger of each two; neither may be NaN.
    fn max(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a * b + c`, rounded once.
    fn fma(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// To the nearest whole number, ties to even; for magnitudes below 2^31.
    fn round(values: Self::Floats) -> Self::Ints;
    fn floats(values: Self::Ints) -> Self::Floats;
    /// `2^n` for `-126 <= n <= 127`, and 0 for -127.
    fn power_of_two(n: Self::Ints) -> Self::Floats;

    fn widen_f16(halves: &[u16; LANES]) -> Self::Floats;
    /// Signed bytes.
    fn widen_i8(bytes: &[u8; LANES]) -> Self::Floats;
    /// Little-endian floats, half floats and bfloat16, as files have them.
    fn read_f32(bytes: &[u8; 4 * LANES]) -> Self::Floats;
    fn read_f16(bytes: &[u8; 2 * LANES]) -> Self::Floats;
    fn read_bf16(bytes: &[u8; 2 * LANES]) -> Self::Floats;
    /// The low eight bits of each lane.
    fn narrow(values: Self::Ints, to: &mut [i8; LANES]);

    fn splat_int(value: i32) -> Self::Ints;
    fn bytes(bytes: &[u8; 4 * LANES]) -> Self::Bytes;
    fn low_nibbles(bytes: Self::Bytes) -> Self::Bytes;
    fn high_nibbles(bytes: Self::Bytes) -> Self::Bytes;
    /// `low | mask & (plane moved so that its bit `from` becomes bit 4)`; `mask` is within bits 4
    /// to 7, and no wider than what `plane` has from that bit on.
    fn add_bits(low: Self::Bytes, plane: Self::Bytes, from: u32, mask: u8) -> Self::Bytes;
    /// Adds to each lane the products of its four bytes, all below 64, with `x`, which is never
    /// -128.
    fn dot_small(sums: Self::Ints, bytes: Self::Bytes, x: [i8; 4]) -> Self::Ints;
    /// The same for any bytes, each less [`Isa::MIDDLE`].
    fn dot(sums: Self::Ints, bytes: Self::Bytes, x: [i8; 4]) -> Self::Ints;

    /// Asks for the cache line at `address`, which may be anywhere.
    #[inline(always)]
    fn prefetch(address: *const u8) {
        let _ = address;
    }

    /// Sum of all lanes, halving: lane `i` with `i + 8`, then `i + 4`, and so on.
    #[inline(always)]
    fn sum(values: Self::Floats) -> f32 {
        let mut lanes = [0.0; LANES];
        Self::store(values, &mut lanes);
        fold(lanes, |a, b| a + b)
    }

    /// Largest of all lanes.
    #[inline(always)]
    fn largest(values: Self::Floats) -> f32 {
        let mut lanes = [0.0; LANES];
        Self::store(values, &mut lanes);
        fold(lanes, f32::max)
    }
}

/// Runs `$body` for each index below `$count`, a constant up to 8, as straight code: values in
/// arrays that only constants index stay in registers.
macro_rules! unrolled {
    ($count:expr, |$index:ident| $body:expr) => {
        unrolled!(@each $count, |$index| $body, 0 1 2 3 4 5 6 7)
    };
    (@each $count:expr, |$index:ident| $body:expr, $($value:literal)*) => {$(
        if $value < $count {
            let $index = $value;
            $body;
        }
    )*};
}
pub(crate) use unrolled;

#[inline(always)]
fn fold(lanes: [f32; LANES], join: impl Fn(f32, f32) -> f32) -> f32 {
    let eight: [f32; 8] = std::array::from_fn(|l| join(lanes[l], lanes[l + 8]));
    let four: [f32; 4] = std::array::from_fn(|l| join(eight[l], eight[l + 4]));
    join(join(four[0], four[2]), join(four[1], four[3]))
}

/// `e^x` to within two units in the last place; 0 below -87.7, and no more than `e^88`.
/// Source: range reduction and polynomial of Cephes' `expf`.
#[inline(always)]
pub(crate) fn exp<I: Isa>(x: I::Floats) -> I::Floats {
    const COEFFICIENTS: [f32; 6] =
        [1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1];
    let zero = I::splat(0.0);
    let x = I::max(x, I::splat(-88.0)); // where the power of two below has become zero
    let x = I::sub(zero, I::max(I::sub(zero, x), I::splat(-88.0)));
    let n = I::round(I::mul(x, I::splat(std::f32::consts::LOG2_E)));
    let whole = I::floats(n);
    let r = I::fma(whole, I::splat(-0.693_359_4), x);
    let r = I::fma(whole, I::splat(2.121_944_4e-4), r);
    let mut sum = I::splat(COEFFICIENTS[0]);
    for coefficient in &COEFFICIENTS[1..] {
        sum = I::fma(sum, r, I::splat(*coefficient));
    }
    let fraction = I::add(I::fma(sum, I::mul(r, r), r), I::splat(1.0));
    I::mul(fraction, I::power_of_two(n))
}

/// Plain Rust; what every other instruction set is tested against.
pub(crate) struct Portable;

#[inline(always)]
fn each<T: Copy, U>(a: [T; LANES], f: impl Fn(T) -> U) -> [U; LANES] {
    a.map(f)
}

#[inline(always)]
fn pairs<T: Copy, U>(a: [T; LANES], b: [T; LANES], f: impl Fn(T, T) -> U) -> [U; LANES] {
    std::array::from_fn(|lane| f(a[lane], b[lane]))
}

impl Isa for Portable {
    type Floats = [f32; LANES];
    type Ints = [i32; LANES];
    type Bytes = [u8; 4 * LANES];

    const ROWS: usize = 1;

    #[inline(always)]
    fn splat(value: f32) -> [f32; LANES] {
        [value; LANES]
    }

    #[inline(always)]
    fn load(values: &[f32; LANES]) -> [f32; LANES] {
        *values
    }

    #[inline(always)]
    fn store(values: [f32; LANES], to: &mut [f32; LANES]) {
        *to = values;
    }

    #[inline(always)]
    fn add(a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        pairs(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        pairs(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        pairs(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        pairs(a, b, |a, b| a / b)
    }

    #[inline(always)]
    fn max(a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        pairs(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn fma(a: [f32; LANES], b: [f32; LANES], c: [f32; LANES]) -> [f32; LANES] {
        std::array::from_fn(|lane| a[lane].mul_add(b[lane], c[lane]))
    }

    #[inline(always)]
    fn round(values: [f32; LANES]) -> [i32; LANES] {
        each(values, |value| value.round_ties_even() as i32)
    }

    #[inline(always)]
    fn floats(values: [i32; LANES]) -> [f32; LANES] {
        each(values, |value| value as f32)
    }

    #[inline(always)]
    fn power_of_two(n: [i32; LANES]) -> [f32; LANES] {
        each(n, |n| f32::from_bits(((n + 127) as u32) << 23))
    }

    #[inline(always)]
    fn widen_f16(halves: &[u16; LANES]) -> [f32; LANES] {
        each(*halves, |bits| half::f16::from_bits(bits).to_f32())
    }

    #[inline(always)]
    fn widen_i8(bytes: &[u8; LANES]) -> [f32; LANES] {
        each(*bytes, |byte| f32::from(byte.cast_signed()))
    }

    #[inline(always)]
    fn read_f32(bytes: &[u8; 4 * LANES]) -> [f32; LANES] {
        let bytes = bytes.as_chunks::<4>().0;
        std::array::from_fn(|lane| f32::from_le_bytes(bytes[lane]))
    }

    #[inline(always)]
    fn read_f16(bytes: &[u8; 2 * LANES]) -> [f32; LANES] {
        let bytes = bytes.as_chunks::<2>().0;
        std::array::from_fn(|lane| half::f16::from_le_bytes(bytes[lane]).to_f32())
    }

    #[inline(always)]
    fn read_bf16(bytes: &[u8; 2 * LANES]) -> [f32; LANES] {
        let bytes = bytes.as_chunks::<2>().0;
        std::array::from_fn(|lane| half::bf16::from_le_bytes(bytes[lane]).to_f32())
    }

    #[inline(always)]
    fn narrow(values: [i32; LANES], to: &mut [i8; LANES]) {
        *to = each(values, |value| value as i8);
    }

    #[inline(always)]
    fn splat_int(value: i32) -> [i32; LANES] {
        [value; LANES]
    }

    #[inline(always)]
    fn bytes(bytes: &[u8; 4 * LANES]) -> [u8; 4 * LANES] {
        *bytes
    }

    #[inline(always)]
    fn low_nibbles(bytes: [u8; 4 * LANES]) -> [u8; 4 * LANES] {
        bytes.map(|byte| byte & 15)
    }

    #[inline(always)]
    fn high_nibbles(bytes: [u8; 4 * LANES]) -> [u8; 4 * LANES] {
        bytes.map(|byte| byte >> 4)
    }

    #[inline(always)]
    fn add_bits(
        low: [u8; 4 * LANES],
        plane: [u8; 4 * LANES],
        from: u32,
        mask: u8,
    ) -> [u8; 4 * LANES] {
        let moved = |byte: u8| if from < 4 { byte << (4 - from) } else { byte >> (from - 4) };
        std::array::from_fn(|i| low[i] | mask & moved(plane[i]))
    }

    #[inline(always)]
    fn dot_small(sums: [i32; LANES], bytes: [u8; 4 * LANES], x: [i8; 4]) -> [i32; LANES] {
        Self::dot(sums, bytes, x)
    }

    /// Not inlined: a copy for each place that calls it takes minutes to compile.
    #[inline(never)]
    fn dot(sums: [i32; LANES], bytes: [u8; 4 * LANES], x: [i8; 4]) -> [i32; LANES] {
        std::array::from_fn(|lane| {
            let products = (0..4).map(|i| i32::from(bytes[4 * lane + i]) * i32::from(x[i]));
            sums[lane] + products.sum::<i32>()
        })
    }
}
