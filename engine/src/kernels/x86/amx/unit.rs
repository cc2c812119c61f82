//! The unit's instructions, which stable Rust has no names for, and the permission to use it.
//! Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18;
//! Linux's Documentation/arch/x86/xstate.rst.

use std::arch::asm;
use std::cell::Cell;
use std::marker::PhantomData;

use crate::kernels::level::{Level, Set};
use crate::kernels::rounded::Block;
use crate::kernels::simd::LANES;
use crate::kernels::tiles::{LINE, LINES};

/// Rows of input that the unit takes at once.
pub(crate) const ROWS: usize = 16;

/// Dots of each row of input with each output.
#[repr(C, align(64))]
pub(super) struct Dots(pub(super) [[i32; LANES]; ROWS]);

/// Whether the processor has the unit and the system lets this process use it, as it must be asked
/// to: each thread that does has 8 KiB more to save.
#[cfg(target_os = "linux")]
pub(crate) fn permitted() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const XFEATURE_XTILEDATA: u64 = 18;
    const TILES_AND_INT8: u32 = 0b11 << 24;
    if std::arch::x86_64::__cpuid_count(7, 0).edx & TILES_AND_INT8 != TILES_AND_INT8 {
        return false;
    }
    let result: i64;
    // SAFETY: this system call takes two numbers and touches no memory of the process.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result == 0
}

/// Whether this process may use the unit.
#[cfg(not(target_os = "linux"))]
pub(crate) fn permitted() -> bool {
    false
}

/// The unit, configured for this thread as long as one of these lives. Not `Send`.
pub(crate) struct Unit(PhantomData<*const ()>);

thread_local! {
    static HOLDERS: Cell<usize> = const { Cell::new(0) };
}

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    /// Bytes of a row of each register.
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Registers 0: dots; 1: inputs of a step; 2: weights.
static CONFIG: Config = Config {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 32, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// The unit, if `level` has one and it is worth it for so many rows. Configuring it takes 100 ns, so
/// whoever multiplies many tiles holds it meanwhile; it is released in the end because its registers
/// are 8 KiB that the system saves whenever it turns to another thread.
pub(crate) fn hold(level: Level, rows: usize) -> Option<Unit> {
    if level.set() != Set::Amx || rows < ROWS {
        return None;
    }
    let holders = HOLDERS.get();
    if holders == 0 {
        // SAFETY: the level says that the unit is there and permitted; this reads 64 bytes.
        unsafe {
            asm!(
                "ldtilecfg [{}]",
                in(reg) &raw const CONFIG,
                options(nostack, preserves_flags, readonly),
            );
        }
    }
    HOLDERS.set(holders + 1);
    Some(Unit(PhantomData))
}

impl Unit {
    /// The dots of a step.
    ///
    /// # Safety
    /// `x` points to the first of `ROWS` blocks, each `stride` blocks after the one before.
    #[inline(always)]
    #[expect(
        clippy::unused_self,
        reason = "holding it is the proof that the registers have shapes"
    )]
    pub(super) unsafe fn multiply(
        &self,
        x: *const Block,
        stride: usize,
        weights: &[[i8; LINE]; LINES],
        dots: &mut Dots,
    ) {
        // SAFETY: `Self` says that the registers have these shapes; `x` is the caller's.
        unsafe {
            asm!(
                "tileloadd tmm1, [{x} + {stride}*1]",
                "tileloadd tmm2, [{weights} + {line}*1]",
                "tilezero tmm0",
                "tdpbssd tmm0, tmm1, tmm2",
                "tilestored [{dots} + {line}*1], tmm0",
                x = in(reg) x, // a block begins with its integers
                stride = in(reg) stride * size_of::<Block>(),
                weights = in(reg) weights.as_ptr(),
                dots = in(reg) &raw mut *dots,
                line = in(reg) LINE,
                out("tmm0") _,
                out("tmm1") _,
                out("tmm2") _,
                options(nostack, preserves_flags),
            );
        }
    }
}

impl Drop for Unit {
    #[inline]
    fn drop(&mut self) {
        HOLDERS.set(HOLDERS.get() - 1);
        if HOLDERS.get() == 0 {
            // SAFETY: that there is a `Unit` says that this thread may use it.
            unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
        }
    }
}
