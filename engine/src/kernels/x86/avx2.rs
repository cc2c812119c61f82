//! AVX2 with FMA and F16C, with and without VNNI: a vector of sixteen lanes is two registers.

use std::arch::x86_64::{
    __m256, __m256i, _MM_HINT_T0, _mm_loadl_epi64, _mm_loadu_si128, _mm_prefetch, _mm256_abs_epi8,
    _mm256_add_epi32, _mm256_add_ps, _mm256_and_si256, _mm256_castsi256_ps, _mm256_cvtepi8_epi32,
    _mm256_cvtepi32_ps, _mm256_cvtepu16_epi32, _mm256_cvtph_ps, _mm256_cvtps_epi32, _mm256_div_ps,
    _mm256_dpbusd_avx_epi32, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256,
    _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_max_ps, _mm256_mul_ps, _mm256_or_si256,
    _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_sign_epi8,
    _mm256_slli_epi32, _mm256_sllv_epi32, _mm256_srli_epi32, _mm256_srlv_epi32, _mm256_storeu_ps,
    _mm256_storeu_si256, _mm256_sub_ps, _mm256_xor_si256,
};

use crate::kernels::simd::{Isa, LANES};

pub(crate) struct Avx2;
pub(crate) struct AvxVnni;

/// Halves of a sixteen-lane vector.
type Two<T> = [T; 2];

#[inline(always)]
fn each<T: Copy, U>(a: Two<T>, f: impl Fn(T) -> U) -> Two<U> {
    [f(a[0]), f(a[1])]
}

#[inline(always)]
fn pairs<T: Copy, V: Copy, U>(a: Two<T>, b: Two<V>, f: impl Fn(T, V) -> U) -> Two<U> {
    [f(a[0], b[0]), f(a[1], b[1])]
}

macro_rules! isa {
    ($name:ident, $dot_small:ident, $dot:ident) => {
        impl Isa for $name {
            type Floats = Two<__m256>;
            type Ints = Two<__m256i>;
            type Bytes = Two<__m256i>;

            const ROWS: usize = 4;

            #[inline(always)]
            fn splat(value: f32) -> Two<__m256> {
                // SAFETY: see the header of `x86`.
                [unsafe { _mm256_set1_ps(value) }; 2]
            }

            #[inline(always)]
            fn load(values: &[f32; LANES]) -> Two<__m256> {
                // SAFETY: see the header of `x86`.
                each([0, 8], |at| unsafe { _mm256_loadu_ps(values[at..].as_ptr()) })
            }

            #[inline(always)]
            fn store(values: Two<__m256>, to: &mut [f32; LANES]) {
                let (low, high) = to.split_at_mut(8);
                // SAFETY: see the header of `x86`.
                unsafe {
                    _mm256_storeu_ps(low.as_mut_ptr(), values[0]);
                    _mm256_storeu_ps(high.as_mut_ptr(), values[1]);
                }
            }

            #[inline(always)]
            fn add(a: Two<__m256>, b: Two<__m256>) -> Two<__m256> {
                // SAFETY: see the header of `x86`.
                pairs(a, b, |a, b| unsafe { _mm256_add_ps(a, b) })
            }

            #[inline(always)]
            fn sub(a: Two<__m256>, b: Two<__m256>) -> Two<__m256> {
                // SAFETY: see the header of `x86`.
                pairs(a, b, |a, b| unsafe { _mm256_sub_ps(a, b) })
            }

            #[inline(always)]
            fn mul(a: Two<__m256>, b: Two<__m256>) -> Two<__m256> {
                // SAFETY: see the header of `x86`.
                pairs(a, b, |a, b| unsafe { _mm256_mul_ps(a, b) })
            }

            #[inline(always)]
            fn div(a: Two<__m256>, b: Two<__m256>) -> Two<__m256> {
                // SAFETY: see the header of `x86`.
                pairs(a, b, |a, b| unsafe { _mm256_div_ps(a, b) })
            }

            #[inline(always)]
            fn max(a: Two<__m256>, b: Two<__m256>) -> Two<__m256> {
                // SAFETY: see the header of `x86`.
                pairs(a, b, |a, b| unsafe { _mm256_max_ps(a, b) })
            }

            #[inline(always)]
            fn fma(a: Two<__m256>, b: Two<__m256>, c: Two<__m256>) -> Two<__m256> {
                // SAFETY: see the header of `x86`.
                unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
            }

            #[inline(always)]
            fn round(values: Two<__m256>) -> Two<__m256i> {
                // SAFETY: see the header of `x86`.
                each(values, |v| unsafe { _mm256_cvtps_epi32(v) })
            }

            #[inline(always)]
            fn floats(values: Two<__m256i>) -> Two<__m256> {
                // SAFETY: see the header of `x86`.
                each(values, |v| unsafe { _mm256_cvtepi32_ps(v) })
            }

            #[inline(always)]
            fn power_of_two(n: Two<__m256i>) -> Two<__m256> {
                // SAFETY: see the header of `x86`.
                each(n, |n| unsafe {
                    let biased = _mm256_add_epi32(n, _mm256_set1_epi32(127));
                    _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
                })
            }

            #[inline(always)]
            fn widen_f16(halves: &[u16; LANES]) -> Two<__m256> {
                // SAFETY: see the header of `x86`.
                each([0, 8], |at| unsafe {
                    _mm256_cvtph_ps(_mm_loadu_si128(halves[at..].as_ptr().cast()))
                })
            }

            #[inline(always)]
            fn read_f32(bytes: &[u8; 4 * LANES]) -> Two<__m256> {
                // SAFETY: see the header of `x86`.
                each([0, 32], |at| unsafe {
                    _mm256_castsi256_ps(_mm256_loadu_si256(bytes[at..].as_ptr().cast()))
                })
            }

            #[inline(always)]
            fn read_f16(bytes: &[u8; 2 * LANES]) -> Two<__m256> {
                // SAFETY: see the header of `x86`.
                each([0, 16], |at| unsafe {
                    _mm256_cvtph_ps(_mm_loadu_si128(bytes[at..].as_ptr().cast()))
                })
            }

            #[inline(always)]
            fn read_bf16(bytes: &[u8; 2 * LANES]) -> Two<__m256> {
                // SAFETY: see the header of `x86`.
                each([0, 16], |at| unsafe {
                    let halves = _mm_loadu_si128(bytes[at..].as_ptr().cast());
                    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)))
                })
            }

            #[inline(always)]
            fn widen_i8(bytes: &[u8; LANES]) -> Two<__m256> {
                // SAFETY: see the header of `x86`; `loadl` reads the eight bytes of each half.
                each([0, 8], |at| unsafe {
                    let bytes = _mm_loadl_epi64(bytes[at..].as_ptr().cast());
                    _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes))
                })
            }

            #[inline(always)]
            fn narrow(values: Two<__m256i>, to: &mut [i8; LANES]) {
                let mut lanes = [0i32; LANES];
                // SAFETY: see the header of `x86`.
                unsafe {
                    _mm256_storeu_si256(lanes.as_mut_ptr().cast(), values[0]);
                    _mm256_storeu_si256(lanes[8..].as_mut_ptr().cast(), values[1]);
                }
                *to = lanes.map(|lane| lane as i8);
            }

            #[inline(always)]
            fn splat_int(value: i32) -> Two<__m256i> {
                // SAFETY: see the header of `x86`.
                [unsafe { _mm256_set1_epi32(value) }; 2]
            }

            #[inline(always)]
            fn bytes(bytes: &[u8; 4 * LANES]) -> Two<__m256i> {
                // SAFETY: see the header of `x86`.
                each([0, 32], |at| unsafe { _mm256_loadu_si256(bytes[at..].as_ptr().cast()) })
            }

            #[inline(always)]
            fn low_nibbles(bytes: Two<__m256i>) -> Two<__m256i> {
                // SAFETY: see the header of `x86`.
                each(bytes, |b| unsafe { _mm256_and_si256(b, _mm256_set1_epi8(15)) })
            }

            #[inline(always)]
            fn high_nibbles(bytes: Two<__m256i>) -> Two<__m256i> {
                // SAFETY: see the header of `x86`.
                each(bytes, |b| unsafe {
                    _mm256_and_si256(_mm256_srli_epi32::<4>(b), _mm256_set1_epi8(15))
                })
            }

            #[inline(always)]
            fn add_bits(
                low: Two<__m256i>,
                plane: Two<__m256i>,
                from: u32,
                mask: u8,
            ) -> Two<__m256i> {
                // SAFETY: see the header of `x86`.
                pairs(low, plane, |low, plane| unsafe {
                    let moved = if from < 4 {
                        _mm256_sllv_epi32(plane, _mm256_set1_epi32(4 - from.cast_signed()))
                    } else {
                        _mm256_srlv_epi32(plane, _mm256_set1_epi32(from.cast_signed() - 4))
                    };
                    let mask = _mm256_set1_epi8(mask.cast_signed());
                    _mm256_or_si256(low, _mm256_and_si256(moved, mask))
                })
            }

            #[inline(always)]
            fn prefetch(address: *const u8) {
                // SAFETY: see the header of `x86`; prefetching never faults.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
            }

            #[inline(always)]
            fn dot_small(sums: Two<__m256i>, bytes: Two<__m256i>, x: [i8; 4]) -> Two<__m256i> {
                let x = i32::from_ne_bytes(x.map(i8::cast_unsigned));
                // SAFETY: see the header of `x86`.
                pairs(sums, bytes, |sums, bytes| unsafe {
                    $dot_small(sums, bytes, _mm256_set1_epi32(x))
                })
            }

            #[inline(always)]
            fn dot(sums: Two<__m256i>, bytes: Two<__m256i>, x: [i8; 4]) -> Two<__m256i> {
                let x = i32::from_ne_bytes(x.map(i8::cast_unsigned));
                // SAFETY: see the header of `x86`.
                pairs(sums, bytes, |sums, bytes| unsafe { $dot(sums, bytes, _mm256_set1_epi32(x)) })
            }
        }
    };
}

isa!(Avx2, small_avx2, any_avx2);
isa!(AvxVnni, _mm256_dpbusd_avx_epi32, _mm256_dpbusd_avx_epi32);

/// `maddubs` adds pairs in 16 bits: with weights below 64 they fit.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn small_avx2(sums: __m256i, bytes: __m256i, x: __m256i) -> __m256i {
    // SAFETY: the caller's.
    unsafe {
        let pairs = _mm256_maddubs_epi16(bytes, x);
        _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }
}

/// Bytes up to 255 would overflow those 16 bits: as `(byte - 128) + 128`, each part fits.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn any_avx2(sums: __m256i, bytes: __m256i, x: __m256i) -> __m256i {
    // SAFETY: the caller's.
    unsafe {
        let middle = _mm256_set1_epi8(-128);
        let signed = _mm256_xor_si256(bytes, middle);
        let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(signed), _mm256_sign_epi8(x, signed));
        let constant = _mm256_maddubs_epi16(middle, x);
        let ones = _mm256_set1_epi16(1);
        let sums = _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, ones));
        _mm256_add_epi32(sums, _mm256_madd_epi16(constant, ones))
    }
}
