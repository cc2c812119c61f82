//! How resuming goes.

use prometheus::IntCounterVec;
use telemetry::Metrics;

/// What came of a wish to resume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resumed {
    /// It was there.
    Followed,
    /// The same, and its gateway was gone: this one went on with the work. Counted beside the first.
    TakenOver,
    /// It began with another request.
    Mismatch,
    /// The caller has another text.
    Diverged,
    /// Its log is gone, or nobody can go on with it.
    Lost,
    /// There is no such stream of this tenant.
    Unknown,
    /// It could not be looked at.
    Failed,
}

impl Resumed {
    const ALL: [Self; 7] = [
        Self::Followed,
        Self::TakenOver,
        Self::Mismatch,
        Self::Diverged,
        Self::Lost,
        Self::Unknown,
        Self::Failed,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Followed => "followed",
            Self::TakenOver => "taken_over",
            Self::Mismatch => "mismatch",
            Self::Diverged => "diverged",
            Self::Lost => "lost",
            Self::Unknown => "unknown",
            Self::Failed => "failed",
        }
    }
}

/// Wishes to resume, counted.
#[derive(Debug)]
pub struct StreamMetrics {
    resumes: IntCounterVec,
}

impl StreamMetrics {
    /// Registers them, at 0.
    pub fn new(metrics: &Metrics) -> Self {
        let resumes = metrics.counter(
            "stream_resumes_total",
            "Callers who came back to a stream, and what came of it.",
            &["result"],
        );
        for result in Resumed::ALL {
            resumes.with_label_values(&[result.as_str()]);
        }
        Self { resumes }
    }

    pub(super) fn resumed(&self, result: Resumed) {
        self.resumes.with_label_values(&[result.as_str()]).inc();
    }
}
