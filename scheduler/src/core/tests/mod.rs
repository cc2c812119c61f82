//! The decisions' promises, on nodes made up by hand and by chance.

mod build;
mod place;
mod properties;
mod sweep;
