//! NEON: a vector of sixteen lanes is four registers.

use std::arch::aarch64::{
    float32x4_t, int32x4_t, uint8x16_t, uint16x8_t, vadd_f32, vaddq_f32, vaddq_s32, vandq_u8,
    vbslq_f32, vcgtq_f32, vcombine_s16, vcvt_f32_f16, vcvt_high_f32_f16, vcvtnq_s32_f32,
    vcvtq_f32_s32, vdivq_f32, vdupq_n_f32, vdupq_n_s8, vdupq_n_s32, vdupq_n_u8, veorq_u8,
    vfmaq_f32, vget_high_f32, vget_low_f32, vget_low_s8, vget_low_s16, vget_low_u16, vld1q_f32,
    vld1q_s8, vld1q_u8, vld1q_u16, vmovl_high_s8, vmovl_high_s16, vmovl_s8, vmovl_s16, vmovn_s16,
    vmovn_s32, vmulq_f32, vorrq_u8, vpadds_f32, vreinterpret_f16_u16, vreinterpretq_f16_u16,
    vreinterpretq_f32_s32, vreinterpretq_f32_u8, vreinterpretq_f32_u32, vreinterpretq_s8_s32,
    vreinterpretq_u16_u8, vshll_high_n_u16, vshll_n_u16, vshlq_n_s32, vshlq_u8, vshrq_n_u8,
    vst1_s8, vst1q_f32, vsubq_f32,
};
use std::arch::asm;
use std::marker::PhantomData;

use super::products::Products;
use crate::kernels::simd::{Isa, LANES};

/// Sixteen lanes, whose bytes are multiplied in one of several ways.
pub(crate) struct Lanes<P>(PhantomData<P>);

/// Quarters of a sixteen-lane vector.
type Four<T> = [T; 4];

#[inline(always)]
fn each<T: Copy, U>(a: Four<T>, f: impl Fn(T) -> U) -> Four<U> {
    [f(a[0]), f(a[1]), f(a[2]), f(a[3])]
}

#[inline(always)]
fn pairs<T: Copy, V: Copy, U>(a: Four<T>, b: Four<V>, f: impl Fn(T, V) -> U) -> Four<U> {
    [f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2]), f(a[3], b[3])]
}

impl<P: Products> Isa for Lanes<P> {
    type Floats = Four<float32x4_t>;
    type Ints = Four<int32x4_t>;
    type Bytes = Four<uint8x16_t>;

    const ROWS: usize = 4;
    const MIDDLE: i32 = if P::SIGNED { 128 } else { 0 };

    #[inline(always)]
    fn splat(value: f32) -> Four<float32x4_t> {
        // SAFETY: see the header of `aarch64`.
        [unsafe { vdupq_n_f32(value) }; 4]
    }

    #[inline(always)]
    fn load(values: &[f32; LANES]) -> Four<float32x4_t> {
        // SAFETY: see the header of `aarch64`.
        each([0, 4, 8, 12], |at| unsafe { vld1q_f32(values[at..].as_ptr()) })
    }

    #[inline(always)]
    fn store(values: Four<float32x4_t>, to: &mut [f32; LANES]) {
        for (values, to) in values.into_iter().zip(to.as_chunks_mut::<4>().0) {
            // SAFETY: see the header of `aarch64`.
            unsafe { vst1q_f32(to.as_mut_ptr(), values) };
        }
    }

    #[inline(always)]
    fn add(a: Four<float32x4_t>, b: Four<float32x4_t>) -> Four<float32x4_t> {
        // SAFETY: see the header of `aarch64`.
        pairs(a, b, |a, b| unsafe { vaddq_f32(a, b) })
    }

    #[inline(always)]
    fn sub(a: Four<float32x4_t>, b: Four<float32x4_t>) -> Four<float32x4_t> {
        // SAFETY: see the header of `aarch64`.
        pairs(a, b, |a, b| unsafe { vsubq_f32(a, b) })
    }

    #[inline(always)]
    fn mul(a: Four<float32x4_t>, b: Four<float32x4_t>) -> Four<float32x4_t> {
        // SAFETY: see the header of `aarch64`.
        pairs(a, b, |a, b| unsafe { vmulq_f32(a, b) })
    }

    #[inline(always)]
    fn div(a: Four<float32x4_t>, b: Four<float32x4_t>) -> Four<float32x4_t> {
        // SAFETY: see the header of `aarch64`.
        pairs(a, b, |a, b| unsafe { vdivq_f32(a, b) })
    }

    /// `fmax` would choose otherwise between zeros of both signs.
    #[inline(always)]
    fn max(a: Four<float32x4_t>, b: Four<float32x4_t>) -> Four<float32x4_t> {
        // SAFETY: see the header of `aarch64`.
        pairs(a, b, |a, b| unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) })
    }

    #[inline(always)]
    fn fma(a: Four<float32x4_t>, b: Four<float32x4_t>, c: Four<float32x4_t>) -> Four<float32x4_t> {
        let product = |i: usize| {
            // SAFETY: see the header of `aarch64`.
            unsafe { vfmaq_f32(c[i], a[i], b[i]) }
        };
        each([0, 1, 2, 3], product)
    }

    #[inline(always)]
    fn round(values: Four<float32x4_t>) -> Four<int32x4_t> {
        // SAFETY: see the header of `aarch64`.
        each(values, |v| unsafe { vcvtnq_s32_f32(v) })
    }

    #[inline(always)]
    fn floats(values: Four<int32x4_t>) -> Four<float32x4_t> {
        // SAFETY: see the header of `aarch64`.
        each(values, |v| unsafe { vcvtq_f32_s32(v) })
    }

    #[inline(always)]
    fn power_of_two(n: Four<int32x4_t>) -> Four<float32x4_t> {
        // SAFETY: see the header of `aarch64`.
        each(n, |n| unsafe {
            let biased = vaddq_s32(n, vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased))
        })
    }

    #[inline(always)]
    fn widen_f16(halves: &[u16; LANES]) -> Four<float32x4_t> {
        // SAFETY: see the header of `aarch64`.
        widen([0, 8].map(|at| unsafe { vld1q_u16(halves[at..].as_ptr()) }))
    }

    #[inline(always)]
    fn widen_i8(bytes: &[u8; LANES]) -> Four<float32x4_t> {
        // SAFETY: see the header of `aarch64`.
        unsafe {
            let bytes = vld1q_s8(bytes.as_ptr().cast());
            let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes));
            Self::floats([
                vmovl_s16(vget_low_s16(low)),
                vmovl_high_s16(low),
                vmovl_s16(vget_low_s16(high)),
                vmovl_high_s16(high),
            ])
        }
    }

    #[inline(always)]
    fn read_f32(bytes: &[u8; 4 * LANES]) -> Four<float32x4_t> {
        // SAFETY: see the header of `aarch64`.
        each(Self::bytes(bytes), |b| unsafe { vreinterpretq_f32_u8(b) })
    }

    #[inline(always)]
    fn read_f16(bytes: &[u8; 2 * LANES]) -> Four<float32x4_t> {
        widen(halves(bytes))
    }

    #[inline(always)]
    fn read_bf16(bytes: &[u8; 2 * LANES]) -> Four<float32x4_t> {
        let [low, high] = halves(bytes);
        // SAFETY: see the header of `aarch64`.
        unsafe {
            let wide = [
                vshll_n_u16::<16>(vget_low_u16(low)),
                vshll_high_n_u16::<16>(low),
                vshll_n_u16::<16>(vget_low_u16(high)),
                vshll_high_n_u16::<16>(high),
            ];
            each(wide, |w| vreinterpretq_f32_u32(w))
        }
    }

    #[inline(always)]
    fn narrow(values: Four<int32x4_t>, to: &mut [i8; LANES]) {
        // SAFETY: see the header of `aarch64`.
        unsafe {
            let [a, b, c, d] = each(values, |v| vmovn_s32(v));
            vst1_s8(to.as_mut_ptr(), vmovn_s16(vcombine_s16(a, b)));
            vst1_s8(to[8..].as_mut_ptr(), vmovn_s16(vcombine_s16(c, d)));
        }
    }

    #[inline(always)]
    fn splat_int(value: i32) -> Four<int32x4_t> {
        // SAFETY: see the header of `aarch64`.
        [unsafe { vdupq_n_s32(value) }; 4]
    }

    #[inline(always)]
    fn bytes(bytes: &[u8; 4 * LANES]) -> Four<uint8x16_t> {
        // SAFETY: see the header of `aarch64`.
        each([0, 16, 32, 48], |at| unsafe { vld1q_u8(bytes[at..].as_ptr()) })
    }

    #[inline(always)]
    fn low_nibbles(bytes: Four<uint8x16_t>) -> Four<uint8x16_t> {
        // SAFETY: see the header of `aarch64`.
        each(bytes, |b| unsafe { vandq_u8(b, vdupq_n_u8(15)) })
    }

    #[inline(always)]
    fn high_nibbles(bytes: Four<uint8x16_t>) -> Four<uint8x16_t> {
        // SAFETY: see the header of `aarch64`.
        each(bytes, |b| unsafe { vshrq_n_u8::<4>(b) })
    }

    #[inline(always)]
    fn add_bits(
        low: Four<uint8x16_t>,
        plane: Four<uint8x16_t>,
        from: u32,
        mask: u8,
    ) -> Four<uint8x16_t> {
        // SAFETY: see the header of `aarch64`.
        pairs(low, plane, |low, plane| unsafe {
            let moved = vshlq_u8(plane, vdupq_n_s8(4 - from as i8)); // to the right if negative
            vorrq_u8(low, vandq_u8(moved, vdupq_n_u8(mask)))
        })
    }

    #[inline(always)]
    fn dot_small(sums: Four<int32x4_t>, bytes: Four<uint8x16_t>, x: [i8; 4]) -> Four<int32x4_t> {
        let x = i32::from_ne_bytes(x.map(i8::cast_unsigned));
        // SAFETY: see the header of `aarch64`; no byte of `x` is -128, as `Isa` says.
        pairs(sums, bytes, |sums, bytes| unsafe {
            P::add(sums, bytes, vreinterpretq_s8_s32(vdupq_n_s32(x)))
        })
    }

    #[inline(always)]
    fn dot(sums: Four<int32x4_t>, bytes: Four<uint8x16_t>, x: [i8; 4]) -> Four<int32x4_t> {
        if !P::SIGNED {
            return Self::dot_small(sums, bytes, x);
        }
        // SAFETY: see the header of `aarch64`.
        let signed = each(bytes, |b| unsafe { veorq_u8(b, vdupq_n_u8(128)) });
        Self::dot_small(sums, signed, x)
    }

    #[inline(always)]
    fn prefetch(address: *const u8) {
        // SAFETY: see the header of `aarch64`; prefetching never faults.
        unsafe {
            asm!("prfm pldl1keep, [{}]", in(reg) address, options(readonly, nostack, preserves_flags));
        }
    }

    #[inline(always)]
    fn sum(values: Four<float32x4_t>) -> f32 {
        let [a, b, c, d] = values;
        // SAFETY: see the header of `aarch64`.
        unsafe {
            let four = vaddq_f32(vaddq_f32(a, c), vaddq_f32(b, d));
            vpadds_f32(vadd_f32(vget_low_f32(four), vget_high_f32(four)))
        }
    }
}

/// Sixteen half floats.
#[inline(always)]
fn halves(bytes: &[u8; 2 * LANES]) -> [uint16x8_t; 2] {
    // SAFETY: see the header of `aarch64`.
    [0, 16].map(|at| unsafe { vreinterpretq_u16_u8(vld1q_u8(bytes[at..].as_ptr())) })
}

#[inline(always)]
fn widen([low, high]: [uint16x8_t; 2]) -> Four<float32x4_t> {
    // SAFETY: see the header of `aarch64`.
    unsafe {
        [
            vcvt_f32_f16(vreinterpret_f16_u16(vget_low_u16(low))),
            vcvt_high_f32_f16(vreinterpretq_f16_u16(low)),
            vcvt_f32_f16(vreinterpret_f16_u16(vget_low_u16(high))),
            vcvt_high_f32_f16(vreinterpretq_f16_u16(high)),
        ]
    }
}
