//! What adapters must be, shown on small ones made here.

mod build;
mod config;
mod files;
mod patterns;
mod residency;
