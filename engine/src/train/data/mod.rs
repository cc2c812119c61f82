//! Data to learn from and to be measured on: rows of a file, checked, split, turned into tokens.
//! Owns: which files are accepted, and what is to be said for a row. Never: training, fetching data.

mod examples;
mod file;
mod rows;
mod split;
#[cfg(test)]
mod tests;

pub use examples::Prompting;
pub use file::{DataError, Dataset};
pub use rows::{Row, RowKind};
pub use split::split;
