//! Sums of products of bytes, by what a processor has for them.

use std::arch::aarch64::{
    int8x16_t, int32x4_t, uint8x16_t, vget_low_s8, vmull_high_s8, vmull_s8, vpadalq_s16,
    vpaddq_s16, vreinterpretq_s8_u8,
};
use std::arch::asm;

/// How four bytes a lane are multiplied.
pub(crate) trait Products {
    /// Whether it takes weights as signed.
    const SIGNED: bool;

    /// Adds to each lane the products of its four bytes with those of `x`.
    ///
    /// # Safety
    /// The processor has the instructions. No byte of `x` is -128.
    unsafe fn add(sums: int32x4_t, bytes: uint8x16_t, x: int8x16_t) -> int32x4_t;
}

/// In 16 bits: two products of signed bytes fit, since none of `x` is -128.
pub(crate) struct Long;

impl Products for Long {
    const SIGNED: bool = true;

    #[inline(always)]
    unsafe fn add(sums: int32x4_t, bytes: uint8x16_t, x: int8x16_t) -> int32x4_t {
        // SAFETY: the caller's.
        unsafe {
            let bytes = vreinterpretq_s8_u8(bytes);
            let low = vmull_s8(vget_low_s8(bytes), vget_low_s8(x));
            vpadalq_s16(sums, vpaddq_s16(low, vmull_high_s8(bytes, x)))
        }
    }
}

/// `sdot` of ARMv8.2.
pub(crate) struct Dotprod;

impl Products for Dotprod {
    const SIGNED: bool = true;

    #[inline(always)]
    unsafe fn add(sums: int32x4_t, bytes: uint8x16_t, x: int8x16_t) -> int32x4_t {
        // SAFETY: the caller's.
        unsafe { sdot(sums, bytes, x) }
    }
}

/// `usdot` of ARMv8.6.
pub(crate) struct I8mm;

impl Products for I8mm {
    const SIGNED: bool = false;

    #[inline(always)]
    unsafe fn add(sums: int32x4_t, bytes: uint8x16_t, x: int8x16_t) -> int32x4_t {
        // SAFETY: the caller's.
        unsafe { usdot(sums, bytes, x) }
    }
}

/// Makes a function of one instruction: the standard library's are not stable in Rust 1.95.
macro_rules! instruction {
    ($name:ident, $features:literal) => {
        #[inline]
        #[target_feature(enable = $features)]
        fn $name(mut sums: int32x4_t, bytes: uint8x16_t, x: int8x16_t) -> int32x4_t {
            // SAFETY: it changes nothing but `sums`, and the features are enabled.
            unsafe {
                asm!(
                    concat!(stringify!($name), " {sums:v}.4s, {bytes:v}.16b, {x:v}.16b"),
                    sums = inout(vreg) sums,
                    bytes = in(vreg) bytes,
                    x = in(vreg) x,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
            sums
        }
    };
}

instruction!(sdot, "neon,dotprod");
instruction!(usdot, "neon,i8mm");
