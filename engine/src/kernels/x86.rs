//! The x86-64 instruction sets: AVX2 with FMA and F16C, and AVX-512 VNNI on 256-bit registers.
//!
//! All functions here are reached only through entry points that `simd::dispatch` makes, which run
//! them after `simd::level` has seen the features. That is the safety argument of every block.

use std::arch::x86_64::{
    __m128i, __m256, __m256i, _mm_loadu_si128, _mm_set1_ps, _mm256_castps128_ps256,
    _mm256_cvtepi8_epi16, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi16, _mm256_cvtph_ps,
    _mm256_dpbusd_epi32, _mm256_fmadd_ps, _mm256_hadd_epi32, _mm256_insertf128_ps,
    _mm256_loadu_si256, _mm256_madd_epi16, _mm256_permute4x64_epi64, _mm256_setzero_ps,
    _mm256_setzero_si256, _mm256_storeu_ps, _mm256_sub_epi32,
};

use half::f16;

use super::simd::Isa;

pub(crate) struct Avx2;
pub(crate) struct Avx512Vnni;

macro_rules! isa {
    ($name:ident, $dot:ident) => {
        impl Isa for $name {
            type Sums = __m256;

            #[inline(always)]
            fn zero() -> __m256 {
                // SAFETY: see the header.
                unsafe { _mm256_setzero_ps() }
            }

            #[inline(always)]
            fn add_products(
                sums: __m256,
                q: &[u8; 32],
                x: &[i8; 32],
                zeros: &[i32; 8],
                scale: [f32; 2],
            ) -> __m256 {
                // SAFETY: see the header; loads are unaligned and stay inside the 32-byte arrays.
                unsafe {
                    let zeros = _mm256_loadu_si256(zeros.as_ptr().cast());
                    let whole = _mm256_cvtepi32_ps(_mm256_sub_epi32($dot(q, x), zeros));
                    let low = _mm256_castps128_ps256(_mm_set1_ps(scale[0]));
                    let scale = _mm256_insertf128_ps::<1>(low, _mm_set1_ps(scale[1]));
                    _mm256_fmadd_ps(whole, scale, sums)
                }
            }

            #[inline(always)]
            fn lanes(sums: __m256) -> [f32; 8] {
                let mut lanes = [0.0; 8];
                // SAFETY: see the header; 32 bytes are written to an array of 32.
                unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), sums) };
                lanes
            }

            #[inline(always)]
            #[expect(clippy::cast_ptr_alignment, reason = "the load is unaligned")]
            fn widen_f16(halves: &[f16; 8]) -> [f32; 8] {
                // SAFETY: see the header; 16 bytes are read from an array of 16.
                unsafe {
                    let halves = _mm_loadu_si128(std::ptr::from_ref(halves).cast::<__m128i>());
                    Self::lanes(_mm256_cvtph_ps(halves))
                }
            }
        }
    };
}

isa!(Avx2, dot_avx2);
isa!(Avx512Vnni, dot_vnni);

/// Sums of four neighbouring products: pairs by `madd`, quads by `hadd`.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn dot_avx2(q: &[u8; 32], x: &[i8; 32]) -> __m256i {
    // SAFETY: the caller's; the two halves are 16 bytes inside arrays of 32.
    unsafe {
        let pairs = |at: usize| {
            let q = _mm_loadu_si128(q.as_ptr().add(at).cast());
            let x = _mm_loadu_si128(x.as_ptr().add(at).cast());
            _mm256_madd_epi16(_mm256_cvtepu8_epi16(q), _mm256_cvtepi8_epi16(x))
        };
        // `hadd` interleaves 128-bit halves; the permutation undoes it.
        _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(pairs(0), pairs(16)))
    }
}

/// Sums of four neighbouring products in one instruction.
///
/// # Safety
/// The processor has AVX512-VNNI and AVX512-VL.
#[inline(always)]
unsafe fn dot_vnni(q: &[u8; 32], x: &[i8; 32]) -> __m256i {
    // SAFETY: the caller's; both arrays hold 32 bytes.
    unsafe {
        let q = _mm256_loadu_si256(q.as_ptr().cast());
        let x = _mm256_loadu_si256(x.as_ptr().cast());
        _mm256_dpbusd_epi32(_mm256_setzero_si256(), q, x)
    }
}
