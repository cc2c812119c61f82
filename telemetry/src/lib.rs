//! What every role needs to be watched and stopped: tasks, shutdown, clock, logs, metrics, trace ids.
//! Owns: task scopes, the process's log output, metric registration, spans on their way to a collector.
//! Never: HTTP, globals of metrics, what a metric means (each role owns its own `metrics.rs`), prompts,
//! outputs or keys in a log.

pub mod buckets;
mod clock;
mod disk;
mod labels;
pub mod logs;
mod metrics;
pub mod names;
mod process;
mod runtime;
mod scope;
mod shutdown;
mod spans;
mod trace;

pub use clock::{Clock, ManualClock, SystemClock};
pub use labels::{LabelCap, OTHER_LABEL};
pub use metrics::Metrics;
pub use scope::Scope;
pub use shutdown::shutdown_signal;
pub use spans::{Span, SpanKind, TraceError, TraceSettings, Tracer, Value, number, texts};
pub use trace::TraceParent;
