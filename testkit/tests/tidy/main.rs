//! What the compiler cannot check of the house's rules: arrows between crates, where `unsafe`, clocks
//! and HTTP may appear, the size of files, links that lead somewhere.

mod arrows;
mod source;
mod tree;
