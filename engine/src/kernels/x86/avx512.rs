//! AVX-512 with VNNI: a vector of sixteen lanes is one register.

use std::arch::x86_64::{
    __m256, __m512, __m512i, _MM_HINT_T0, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_loadu_si128,
    _mm_max_ps, _mm_max_ss, _mm_movehl_ps, _mm_prefetch, _mm_shuffle_ps, _mm_storeu_si128,
    _mm256_add_ps, _mm256_castps256_ps128, _mm256_extractf128_ps, _mm256_loadu_si256,
    _mm256_max_ps, _mm512_add_epi32, _mm512_add_ps, _mm512_and_si512, _mm512_castpd_ps,
    _mm512_castps_pd, _mm512_castps512_ps256, _mm512_castsi512_ps, _mm512_cvtepi8_epi32,
    _mm512_cvtepi32_epi8, _mm512_cvtepi32_ps, _mm512_cvtepu16_epi32, _mm512_cvtph_ps,
    _mm512_cvtps_epi32, _mm512_div_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_max_ps, _mm512_mul_ps, _mm512_set1_epi8, _mm512_set1_epi32,
    _mm512_set1_ps, _mm512_shuffle_f64x2, _mm512_slli_epi32, _mm512_sllv_epi32, _mm512_srli_epi32,
    _mm512_srlv_epi32, _mm512_storeu_ps, _mm512_sub_ps, _mm512_ternarylogic_epi32,
};

use crate::kernels::simd::{Isa, LANES};

pub(crate) struct Avx512Vnni;

impl Isa for Avx512Vnni {
    type Floats = __m512;
    type Ints = __m512i;
    type Bytes = __m512i;

    const ROWS: usize = 8;

    #[inline(always)]
    fn splat(value: f32) -> __m512 {
        // SAFETY: see the header of `x86`.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    fn load(values: &[f32; LANES]) -> __m512 {
        // SAFETY: see the header of `x86`.
        unsafe { _mm512_loadu_ps(values.as_ptr()) }
    }

    #[inline(always)]
    fn store(values: __m512, to: &mut [f32; LANES]) {
        // SAFETY: see the header of `x86`.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), values) }
    }

    #[inline(always)]
    fn add(a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the header of `x86`.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the header of `x86`.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the header of `x86`.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the header of `x86`.
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn max(a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the header of `x86`.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: see the header of `x86`.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn round(values: __m512) -> __m512i {
        // SAFETY: see the header of `x86`.
        unsafe { _mm512_cvtps_epi32(values) }
    }

    #[inline(always)]
    fn floats(values: __m512i) -> __m512 {
        // SAFETY: see the header of `x86`.
        unsafe { _mm512_cvtepi32_ps(values) }
    }

    #[inline(always)]
    fn power_of_two(n: __m512i) -> __m512 {
        // SAFETY: see the header of `x86`.
        unsafe {
            let biased = _mm512_add_epi32(n, _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
        }
    }

    #[inline(always)]
    fn widen_f16(halves: &[u16; LANES]) -> __m512 {
        // SAFETY: see the header of `x86`.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(halves.as_ptr().cast())) }
    }

    #[inline(always)]
    fn read_f32(bytes: &[u8; 4 * LANES]) -> __m512 {
        // SAFETY: see the header of `x86`.
        unsafe { _mm512_castsi512_ps(_mm512_loadu_si512(bytes.as_ptr().cast())) }
    }

    #[inline(always)]
    fn read_f16(bytes: &[u8; 2 * LANES]) -> __m512 {
        // SAFETY: see the header of `x86`.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(bytes.as_ptr().cast())) }
    }

    #[inline(always)]
    fn read_bf16(bytes: &[u8; 2 * LANES]) -> __m512 {
        // SAFETY: see the header of `x86`.
        unsafe {
            let halves = _mm256_loadu_si256(bytes.as_ptr().cast());
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
        }
    }

    #[inline(always)]
    fn widen_i8(bytes: &[u8; LANES]) -> __m512 {
        // SAFETY: see the header of `x86`.
        unsafe {
            let bytes = _mm_loadu_si128(bytes.as_ptr().cast());
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))
        }
    }

    #[inline(always)]
    fn narrow(values: __m512i, to: &mut [i8; LANES]) {
        // SAFETY: see the header of `x86`.
        unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(values)) }
    }

    #[inline(always)]
    fn splat_int(value: i32) -> __m512i {
        // SAFETY: see the header of `x86`.
        unsafe { _mm512_set1_epi32(value) }
    }

    #[inline(always)]
    fn bytes(bytes: &[u8; 4 * LANES]) -> __m512i {
        // SAFETY: see the header of `x86`.
        unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
    }

    #[inline(always)]
    fn low_nibbles(bytes: __m512i) -> __m512i {
        // SAFETY: see the header of `x86`.
        unsafe { _mm512_and_si512(bytes, _mm512_set1_epi8(15)) }
    }

    #[inline(always)]
    fn high_nibbles(bytes: __m512i) -> __m512i {
        // SAFETY: see the header of `x86`.
        unsafe { _mm512_and_si512(_mm512_srli_epi32::<4>(bytes), _mm512_set1_epi8(15)) }
    }

    #[inline(always)]
    fn add_bits(low: __m512i, plane: __m512i, from: u32, mask: u8) -> __m512i {
        /// `a | b & c`, bit by bit.
        const OR_AND: i32 = 0xf8;
        // SAFETY: see the header of `x86`.
        unsafe {
            let moved = if from < 4 {
                _mm512_sllv_epi32(plane, _mm512_set1_epi32(4 - from.cast_signed()))
            } else {
                _mm512_srlv_epi32(plane, _mm512_set1_epi32(from.cast_signed() - 4))
            };
            _mm512_ternarylogic_epi32::<OR_AND>(low, moved, _mm512_set1_epi8(mask.cast_signed()))
        }
    }

    #[inline(always)]
    fn dot_small(sums: __m512i, bytes: __m512i, x: [i8; 4]) -> __m512i {
        Self::dot(sums, bytes, x)
    }

    #[inline(always)]
    fn dot(sums: __m512i, bytes: __m512i, x: [i8; 4]) -> __m512i {
        let x = i32::from_ne_bytes(x.map(i8::cast_unsigned));
        // SAFETY: see the header of `x86`.
        unsafe { _mm512_dpbusd_epi32(sums, bytes, _mm512_set1_epi32(x)) }
    }

    #[inline(always)]
    fn prefetch(address: *const u8) {
        // SAFETY: see the header of `x86`; prefetching never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }

    #[inline(always)]
    fn sum(values: __m512) -> f32 {
        // SAFETY: see the header of `x86`.
        unsafe {
            let [low, high] = halves(values);
            let eight = _mm256_add_ps(low, high);
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }

    #[inline(always)]
    fn largest(values: __m512) -> f32 {
        // SAFETY: see the header of `x86`.
        unsafe {
            let [low, high] = halves(values);
            let eight = _mm256_max_ps(low, high);
            let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }
}

/// The low and the high eight lanes.
///
/// # Safety
/// The processor has AVX-512.
#[inline(always)]
unsafe fn halves(values: __m512) -> [__m256; 2] {
    // SAFETY: the caller's.
    unsafe {
        let doubles = _mm512_castps_pd(values);
        let high = _mm512_castpd_ps(_mm512_shuffle_f64x2::<0b1110>(doubles, doubles));
        [_mm512_castps512_ps256(values), _mm512_castps512_ps256(high)]
    }
}
