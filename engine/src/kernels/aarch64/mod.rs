//! The ARM instruction sets, of 64 bits.
//!
//! All functions here are reached only through entry points that `level::dispatch` makes, which
//! enable the features and run where a `Level` says that they exist. That, and that loads and
//! stores are unaligned and stay inside the arrays whose references they are given, is the safety
//! argument of every block.

mod neon;
mod products;

use neon::Lanes;
use products::{Dotprod, I8mm, Long};

/// What every such processor has.
pub(crate) type Neon = Lanes<Long>;
/// With dot products of signed bytes.
pub(crate) type NeonDotprod = Lanes<Dotprod>;
/// With products of unsigned and signed bytes.
pub(crate) type NeonI8mm = Lanes<I8mm>;
