//! The router against the real registry, blobs and live state, with mock nodes behind it.

mod access;
mod adapters;
mod caps;
mod chat;
mod completions;
mod dispatch;
mod documents;
mod jobs;
mod listener;
mod migration;
mod mock;
mod operators;
mod pins;
mod queue;
mod rig;
mod streams;
mod tenants;
