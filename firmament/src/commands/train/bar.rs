//! How far a run is: a bar on a terminal, else a line now and then.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use engine::train::StepReport;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::note;

/// Time between lines where there is no bar.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Weight of the newest loss in the one that is shown.
const NEWEST: f64 = 0.1;

/// A run's progress on standard error.
pub(super) struct TrainBar {
    bar: ProgressBar,
    begun: Instant,
    told: Instant,
    tokens: usize,
    loss: Option<f64>,
    steps: u64,
}

impl TrainBar {
    pub(super) fn new(step: u64, steps: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::hidden());
        let style = "{pos}/{len} {wide_bar} {msg} {eta}";
        bar.set_style(ProgressStyle::with_template(style).expect("a literal of this file"));
        bar.set_position(step);
        bar.reset_eta();
        if std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        let now = Instant::now();
        Self { bar, begun: now, told: now, tokens: 0, loss: None, steps }
    }

    /// Tokens per second so far.
    pub(super) fn speed(&self) -> f64 {
        self.tokens as f64 / self.begun.elapsed().as_secs_f64()
    }

    pub(super) fn report(&mut self, report: &StepReport) {
        self.tokens += report.tokens;
        let before = self.loss.unwrap_or(report.loss);
        let loss = before + NEWEST * (report.loss - before);
        self.loss = Some(loss);
        let said = format!("loss {loss:.3}, {:.0} tokens/s", self.speed());
        self.bar.set_message(said.clone());
        self.bar.set_position(report.step);
        let step = format!("update {} of {}", report.step, self.steps);
        if let Some(valid) = report.valid_loss {
            self.say(&format!("{step}: {said}, held-out loss {valid:.4}"));
        } else if self.bar.is_hidden() && self.told.elapsed() >= LINE_EVERY {
            self.say(&format!("{step}: {said}"));
        }
    }

    fn say(&mut self, line: &str) {
        self.told = Instant::now();
        self.bar.suspend(|| note(line));
    }
}

impl Drop for TrainBar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
