//! The x86-64 instruction sets.
//!
//! All functions here are reached only through entry points that `level::dispatch` makes, or through
//! `amx::multiply`, which enable the features and run where a `Level` says that they exist. That, and that loads and
//! stores are unaligned and stay inside the arrays whose references they are given, is the safety
//! argument of every block.

pub(crate) mod amx;
mod avx2;
mod avx512;

pub(crate) use avx2::{Avx2, AvxVnni};
pub(crate) use avx512::Avx512Vnni;
