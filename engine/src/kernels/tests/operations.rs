//! Every operation of an instruction set against its plain version.

use half::f16;
use proptest::prelude::*;

use crate::kernels::Level;
use crate::kernels::level::dispatch;
use crate::kernels::simd::{Isa, LANES, Portable, exp};

/// All lanes of one operation, as bits.
fn operations_kernel<I: Isa>(a: &[f32; LANES], b: &[f32; LANES], bytes: &[u8; 64]) -> Vec<u32> {
    let (x, y) = (I::load(a), I::load(b));
    let halves = a.map(|value| f16::from_f32(value).to_bits());
    let signed = bytes.first_chunk().unwrap();
    let quiet = bytes.map(|byte| byte & 0x77); // neither infinite nor NaN as any kind of float
    let quiet_halves = quiet.first_chunk().unwrap();
    let floats = [
        I::add(x, y),
        I::sub(x, y),
        I::mul(x, y),
        I::div(x, y),
        I::max(x, y),
        I::fma(x, y, x),
        I::floats(I::round(x)),
        I::widen_f16(&halves),
        I::widen_i8(signed),
        I::read_f32(&quiet),
        I::read_f16(quiet_halves),
        I::read_bf16(quiet_halves),
        exp::<I>(I::mul(x, I::splat(40.0))),
        I::splat(I::sum(x)),
        I::splat(I::largest(x)),
    ];
    let packed = I::bytes(bytes);
    let quad = [127, -127, 3, -1];
    let small = I::low_nibbles(packed);
    let mut ints = vec![
        I::dot(I::splat_int(I::MIDDLE * 2 - 5), packed, quad), // `quad` adds up to 2
        I::dot_small(I::splat_int(7), small, quad),
        I::dot_small(I::splat_int(0), I::high_nibbles(packed), quad),
    ];
    for from in 0..8 {
        ints.push(I::dot_small(I::splat_int(0), I::add_bits(small, packed, from, 0x10), quad));
    }
    for from in [0, 2, 4, 6] {
        ints.push(I::dot_small(I::splat_int(0), I::add_bits(small, packed, from, 0x30), quad));
    }
    let mut narrow = [0i8; LANES];
    I::narrow(I::round(I::mul(x, I::splat(40.0))), &mut narrow);
    let ints = ints.into_iter().map(I::floats);
    let mut all: Vec<u32> = narrow.iter().map(|byte| u32::from(byte.cast_unsigned())).collect();
    for values in floats.into_iter().chain(ints) {
        let mut lanes = [0.0; LANES];
        I::store(values, &mut lanes);
        all.extend(lanes.map(f32::to_bits));
    }
    all
}

dispatch! {
    fn operations(a: &[f32; LANES], b: &[f32; LANES], bytes: &[u8; 64]) -> Vec<u32> =
        operations_kernel
}

proptest! {
    #[test]
    fn every_operation_is_the_same_on_every_instruction_set(
        a in prop::array::uniform16(-3.0f32..3.0),
        b in prop::array::uniform16(0.1f32..3.0),
        bytes in prop::collection::vec(any::<u8>(), 64),
    ) {
        let bytes: [u8; 64] = bytes.try_into().unwrap();
        let plain = operations_kernel::<Portable>(&a, &b, &bytes);
        for level in Level::available() {
            prop_assert_eq!(&operations(level, &a, &b, &bytes), &plain, "{:?}", level);
        }
    }

    #[test]
    fn exp_is_right_to_seven_digits_and_zero_far_below(x in -87.0f32..88.0) {
        let mut lanes = [0.0; LANES];
        Portable::store(exp::<Portable>([x; LANES]), &mut lanes);
        let expected = f64::from(x).exp();
        prop_assert!((f64::from(lanes[0]) / expected - 1.0).abs() < 2.5e-7, "{} {}", x, lanes[0]);
        for x in [f32::NEG_INFINITY, -1e9, -88.5] {
            Portable::store(exp::<Portable>([x; LANES]), &mut lanes);
            prop_assert_eq!(lanes[0].to_bits(), 0);
        }
    }
}
