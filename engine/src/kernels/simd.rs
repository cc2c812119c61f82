//! Instruction sets: which one this machine has, and the few operations that differ between them.

use std::sync::OnceLock;

use half::{bf16, f16};

/// A slice of floats in one of the stored types.
#[derive(Clone, Copy)]
pub(crate) enum Lanes<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
    Bf16(&'a [bf16]),
}

/// What the processor can do, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
}

/// The best level of this machine, found once.
pub(crate) fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(detect)
}

/// Name of the instruction set in use: `avx512-vnni`, `avx2` or `portable`.
pub fn instruction_set() -> &'static str {
    match level() {
        Level::Portable => "portable",
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => "avx2",
        #[cfg(target_arch = "x86_64")]
        Level::Avx512Vnni => "avx512-vnni",
    }
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Level {
    let avx2 = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c");
    let vnni = is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512vl");
    match (avx2, vnni) {
        (true, true) => Level::Avx512Vnni,
        (true, false) => Level::Avx2,
        _ => Level::Portable,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Level {
    Level::Portable
}

/// The operations that the instruction sets do differently, with equal results.
pub(crate) trait Isa {
    /// Eight running sums.
    type Sums: Copy;

    /// Eight zeros.
    fn zero() -> Self::Sums;

    /// Adds `scale[l / 4] * (sum of q[i] * x[i] for i in 4l..4l+4, less zeros[l])` to each lane.
    fn add_products(
        sums: Self::Sums,
        q: &[u8; 32],
        x: &[i8; 32],
        zeros: &[i32; 8],
        scale: [f32; 2],
    ) -> Self::Sums;

    /// The eight sums.
    fn lanes(sums: Self::Sums) -> [f32; 8];

    /// Widens eight half floats.
    fn widen_f16(halves: &[f16; 8]) -> [f32; 8];
}

pub(crate) struct Portable;

impl Isa for Portable {
    type Sums = [f32; 8];

    #[inline(always)]
    fn zero() -> [f32; 8] {
        [0.0; 8]
    }

    #[inline(always)]
    fn add_products(
        sums: [f32; 8],
        q: &[u8; 32],
        x: &[i8; 32],
        zeros: &[i32; 8],
        scale: [f32; 2],
    ) -> [f32; 8] {
        std::array::from_fn(|lane| {
            let products = (4 * lane..4 * lane + 4).map(|i| i32::from(q[i]) * i32::from(x[i]));
            let whole = products.sum::<i32>() - zeros[lane];
            (whole as f32).mul_add(scale[lane / 4], sums[lane])
        })
    }

    #[inline(always)]
    fn lanes(sums: [f32; 8]) -> [f32; 8] {
        sums
    }

    #[inline(always)]
    fn widen_f16(halves: &[f16; 8]) -> [f32; 8] {
        halves.map(f16::to_f32)
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use super::x86::{Avx2, Avx512Vnni};

/// Makes a safe function that runs a generic `#[inline(always)]` kernel compiled for this machine.
macro_rules! dispatch {
    ($(#[$meta:meta])* $vis:vis fn $name:ident $(<$format:ident: $bound:path>)? ($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $kernel:ident) => {
        $(#[$meta])*
        $vis fn $name $(<$format: $bound>)? ($($arg: $ty),*) $(-> $ret)? {
            use $crate::kernels::simd::{self, Level};

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2 $(<$format: $bound>)? ($($arg: $ty),*) $(-> $ret)? {
                $kernel::<$($format,)? simd::Avx2>($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512vnni")]
            fn avx512 $(<$format: $bound>)? ($($arg: $ty),*) $(-> $ret)? {
                $kernel::<$($format,)? simd::Avx512Vnni>($($arg),*)
            }

            match simd::level() {
                Level::Portable => $kernel::<$($format,)? simd::Portable>($($arg),*),
                // SAFETY: `level` has found each feature that the function enables.
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => unsafe { avx2 $(::<$format>)? ($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Level::Avx512Vnni => unsafe { avx512 $(::<$format>)? ($($arg),*) },
            }
        }
    };
}
pub(crate) use dispatch;

dispatch! {
    /// Dot product of two vectors of equal length.
    pub(crate) fn dot(a: Lanes<'_>, b: &[f32]) -> f32 = dot_kernel
}

#[inline(always)]
pub(super) fn dot_kernel<I: Isa>(a: Lanes<'_>, b: &[f32]) -> f32 {
    match a {
        Lanes::F32(a) => dot_widened(a, b, |eight| *eight, |one| one),
        Lanes::F16(a) => dot_widened(a, b, I::widen_f16, f16::to_f32),
        Lanes::Bf16(a) => dot_widened(a, b, |eight| eight.map(bf16::to_f32), bf16::to_f32),
    }
}

/// Four accumulators of eight lanes hide the latency of the fused multiply-add.
#[inline(always)]
fn dot_widened<T: Copy>(
    a: &[T],
    b: &[f32],
    widen: impl Fn(&[T; 8]) -> [f32; 8],
    widen_one: impl Fn(T) -> f32,
) -> f32 {
    let (a_eights, a_rest) = a.as_chunks::<8>();
    let (b_eights, b_rest) = b.as_chunks::<8>();
    let mut sums = [[0.0f32; 8]; 4];
    for (a, b) in a_eights.chunks(4).zip(b_eights.chunks(4)) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            let wide = widen(a);
            for lane in 0..8 {
                sum[lane] = wide[lane].mul_add(b[lane], sum[lane]);
            }
        }
    }
    let lanes = std::array::from_fn(|l| (sums[0][l] + sums[1][l]) + (sums[2][l] + sums[3][l]));
    let rest = a_rest.iter().zip(b_rest).fold(0.0, |sum, (a, b)| widen_one(*a).mul_add(*b, sum));
    sum_lanes(&lanes) + rest
}

/// Sums eight lanes in a fixed tree.
#[inline(always)]
pub(crate) fn sum_lanes(lanes: &[f32; 8]) -> f32 {
    let four: [f32; 4] = std::array::from_fn(|l| lanes[l] + lanes[l + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

/// `out += weight * values`, element by element.
#[inline(always)]
pub(super) fn accumulate_kernel<I: Isa>(out: &mut [f32], weight: f32, values: &[f16]) {
    let (out_eights, out_rest) = out.as_chunks_mut::<8>();
    let (eights, rest) = values.as_chunks::<8>();
    for (out, eight) in out_eights.iter_mut().zip(eights) {
        let wide = I::widen_f16(eight);
        for lane in 0..8 {
            out[lane] = weight.mul_add(wide[lane], out[lane]);
        }
    }
    for (out, value) in out_rest.iter_mut().zip(rest) {
        *out = weight.mul_add(value.to_f32(), *out);
    }
}
