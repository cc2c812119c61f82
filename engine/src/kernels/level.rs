//! Instruction sets: which ones this machine has, and entry points that are compiled for each.

#[cfg(target_arch = "aarch64")]
use std::arch::is_aarch64_feature_detected;
use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
use super::x86::amx;

/// An instruction set that this machine has. Only [`Level::best`] and [`Level::available`] make
/// one, so holding it is the proof that code compiled for it may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Level(Set);

/// The instruction sets that kernels are compiled for, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Set {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    /// AVX-512 as above, with AMX where many rows meet the same weights.
    #[cfg(target_arch = "x86_64")]
    Amx,
    #[cfg(target_arch = "aarch64")]
    Neon,
    #[cfg(target_arch = "aarch64")]
    NeonDotprod,
    #[cfg(target_arch = "aarch64")]
    NeonI8mm,
}

impl Level {
    /// The best of this machine, found once.
    pub(crate) fn best() -> Self {
        static BEST: OnceLock<Level> = OnceLock::new();
        *BEST.get_or_init(|| *Self::available().last().expect("the portable set is always there"))
    }

    /// All of this machine, worst first.
    pub(crate) fn available() -> Vec<Self> {
        let mut sets = vec![Set::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni");
            sets.extend(avx2.then_some(Set::Avx2));
            sets.extend((avx2 && is_x86_feature_detected!("avxvnni")).then_some(Set::AvxVnni));
            sets.extend((avx2 && avx512).then_some(Set::Avx512Vnni));
            sets.extend((avx2 && avx512 && amx::permitted()).then_some(Set::Amx));
        }
        #[cfg(target_arch = "aarch64")]
        {
            let neon = is_aarch64_feature_detected!("neon");
            let dotprod = neon && is_aarch64_feature_detected!("dotprod");
            sets.extend(neon.then_some(Set::Neon));
            sets.extend(dotprod.then_some(Set::NeonDotprod));
            sets.extend((dotprod && is_aarch64_feature_detected!("i8mm")).then_some(Set::NeonI8mm));
        }
        sets.into_iter().map(Self).collect()
    }

    pub(crate) const fn set(self) -> Set {
        self.0
    }

    /// Rows of input that are worth computing for a tile before the next tile: their input stays in
    /// the first cache.
    pub(crate) const fn rows(self) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Amx => amx::ROWS,
            _ => 8,
        }
    }

    const fn name(self) -> &'static str {
        match self.0 {
            Set::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Set::AvxVnni => "avx-vnni",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512Vnni => "avx512-vnni",
            #[cfg(target_arch = "x86_64")]
            Set::Amx => "amx",
            #[cfg(target_arch = "aarch64")]
            Set::Neon => "neon",
            #[cfg(target_arch = "aarch64")]
            Set::NeonDotprod => "neon-dotprod",
            #[cfg(target_arch = "aarch64")]
            Set::NeonI8mm => "neon-i8mm",
        }
    }
}

/// Name of the instruction set in use: `amx`, `avx512-vnni`, `avx-vnni` or `avx2`, on ARM
/// `neon-i8mm`, `neon-dotprod` or `neon`, elsewhere `portable`.
pub fn instruction_set() -> &'static str {
    Level::best().name()
}

/// Makes a safe function `name(level, arguments..)` that runs a generic `#[inline(always)]` kernel
/// compiled for the level's instruction set.
macro_rules! dispatch {
    ($(#[$meta:meta])* $vis:vis fn $name:ident $(<$format:ident: $bound:path>)? ($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $kernel:ident) => {
        $(#[$meta])*
        $vis fn $name $(<$format: $bound>)? (level: $crate::kernels::Level, $($arg: $ty),*) $(-> $ret)? {
            use $crate::kernels::level::Set;
            use $crate::kernels::simd::Portable;
            #[cfg(target_arch = "x86_64")]
            use $crate::kernels::x86::{Avx2, Avx512Vnni, AvxVnni};
            #[cfg(target_arch = "aarch64")]
            use $crate::kernels::aarch64::{Neon, NeonDotprod, NeonI8mm};

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2 $(<$format: $bound>)? ($($arg: $ty),*) $(-> $ret)? {
                $kernel::<$($format,)? Avx2>($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
            fn avx_vnni $(<$format: $bound>)? ($($arg: $ty),*) $(-> $ret)? {
                $kernel::<$($format,)? AvxVnni>($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
            fn avx512 $(<$format: $bound>)? ($($arg: $ty),*) $(-> $ret)? {
                $kernel::<$($format,)? Avx512Vnni>($($arg),*)
            }

            #[cfg(target_arch = "aarch64")]
            #[target_feature(enable = "neon")]
            fn neon $(<$format: $bound>)? ($($arg: $ty),*) $(-> $ret)? {
                $kernel::<$($format,)? Neon>($($arg),*)
            }

            #[cfg(target_arch = "aarch64")]
            #[target_feature(enable = "neon,dotprod")]
            fn dotprod $(<$format: $bound>)? ($($arg: $ty),*) $(-> $ret)? {
                $kernel::<$($format,)? NeonDotprod>($($arg),*)
            }

            #[cfg(target_arch = "aarch64")]
            #[target_feature(enable = "neon,dotprod,i8mm")]
            fn i8mm $(<$format: $bound>)? ($($arg: $ty),*) $(-> $ret)? {
                $kernel::<$($format,)? NeonI8mm>($($arg),*)
            }

            match level.set() {
                Set::Portable => $kernel::<$($format,)? Portable>($($arg),*),
                // SAFETY: a `Level` exists only where each feature that the function enables does.
                #[cfg(target_arch = "x86_64")]
                Set::Avx2 => unsafe { avx2 $(::<$format>)? ($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Set::AvxVnni => unsafe { avx_vnni $(::<$format>)? ($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Set::Avx512Vnni | Set::Amx => unsafe { avx512 $(::<$format>)? ($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "aarch64")]
                Set::Neon => unsafe { neon $(::<$format>)? ($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "aarch64")]
                Set::NeonDotprod => unsafe { dotprod $(::<$format>)? ($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "aarch64")]
                Set::NeonI8mm => unsafe { i8mm $(::<$format>)? ($($arg),*) },
            }
        }
    };
}
pub(crate) use dispatch;
