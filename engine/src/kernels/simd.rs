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
    /// Eight sums of four products each: lane `l` sums `q[i] * x[i]` for `i` in `4l..4l+4`.
    fn dot_u8_i8(q: &[u8; 32], x: &[i8; 32]) -> [i32; 8];
    /// Widens eight half floats.
    fn widen_f16(halves: &[f16; 8]) -> [f32; 8];
}

pub(crate) struct Portable;

impl Isa for Portable {
    #[inline(always)]
    fn dot_u8_i8(q: &[u8; 32], x: &[i8; 32]) -> [i32; 8] {
        std::array::from_fn(|lane| {
            (4 * lane..4 * lane + 4).map(|i| i32::from(q[i]) * i32::from(x[i])).sum()
        })
    }

    #[inline(always)]
    fn widen_f16(halves: &[f16; 8]) -> [f32; 8] {
        halves.map(f16::to_f32)
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512Vnni};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, __m256i, _mm_loadu_si128, _mm256_cvtepi8_epi16,
        _mm256_cvtepu8_epi16, _mm256_cvtph_ps, _mm256_dpbusd_epi32, _mm256_hadd_epi32,
        _mm256_loadu_si256, _mm256_madd_epi16, _mm256_permute4x64_epi64, _mm256_setzero_si256,
        _mm256_storeu_ps, _mm256_storeu_si256,
    };

    use half::f16;

    use super::Isa;

    pub(crate) struct Avx2;
    pub(crate) struct Avx512Vnni;

    impl Isa for Avx2 {
        #[inline(always)]
        fn dot_u8_i8(q: &[u8; 32], x: &[i8; 32]) -> [i32; 8] {
            let mut lanes = [0; 8];
            // SAFETY: only reached through entry points that are called once `level` has seen
            // AVX2; loads and stores are unaligned and stay inside the 32-byte arrays.
            unsafe {
                let half = |at: usize| {
                    let q = _mm_loadu_si128(q.as_ptr().add(at).cast::<__m128i>());
                    let x = _mm_loadu_si128(x.as_ptr().add(at).cast::<__m128i>());
                    _mm256_madd_epi16(_mm256_cvtepu8_epi16(q), _mm256_cvtepi8_epi16(x))
                };
                // Pairs to quads; `hadd` interleaves 128-bit halves, the permutation undoes it.
                let mixed = _mm256_hadd_epi32(half(0), half(16));
                let quads = _mm256_permute4x64_epi64::<0b11_01_10_00>(mixed);
                _mm256_storeu_si256(lanes.as_mut_ptr().cast::<__m256i>(), quads);
            }
            lanes
        }

        #[inline(always)]
        fn widen_f16(halves: &[f16; 8]) -> [f32; 8] {
            widen_f16c(halves)
        }
    }

    impl Isa for Avx512Vnni {
        #[inline(always)]
        fn dot_u8_i8(q: &[u8; 32], x: &[i8; 32]) -> [i32; 8] {
            let mut lanes = [0; 8];
            // SAFETY: only reached through entry points that are called once `level` has seen
            // AVX512-VNNI and VL; loads and stores stay inside the 32-byte arrays.
            unsafe {
                let q = _mm256_loadu_si256(q.as_ptr().cast::<__m256i>());
                let x = _mm256_loadu_si256(x.as_ptr().cast::<__m256i>());
                let sums = _mm256_dpbusd_epi32(_mm256_setzero_si256(), q, x);
                _mm256_storeu_si256(lanes.as_mut_ptr().cast::<__m256i>(), sums);
            }
            lanes
        }

        #[inline(always)]
        fn widen_f16(halves: &[f16; 8]) -> [f32; 8] {
            widen_f16c(halves)
        }
    }

    #[inline(always)]
    fn widen_f16c(halves: &[f16; 8]) -> [f32; 8] {
        let mut wide = [0.0; 8];
        // SAFETY: only reached once `level` has seen F16C; 16 bytes in, 32 bytes out.
        unsafe {
            let halves = _mm_loadu_si128(halves.as_ptr().cast::<__m128i>());
            _mm256_storeu_ps(wide.as_mut_ptr(), _mm256_cvtph_ps(halves));
        }
        wide
    }
}

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

dispatch! {
    /// `out += weight * values`, element by element.
    pub(crate) fn accumulate_f16(out: &mut [f32], weight: f32, values: &[f16]) = accumulate_kernel
}

#[inline(always)]
fn dot_kernel<I: Isa>(a: Lanes<'_>, b: &[f32]) -> f32 {
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

#[inline(always)]
fn accumulate_kernel<I: Isa>(out: &mut [f32], weight: f32, values: &[f16]) {
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
