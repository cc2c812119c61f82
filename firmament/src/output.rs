//! What the user sees: results on standard output, everything else on standard error.
//! Owns: tables, JSON, colours, progress bars. Never: what is shown.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use comfy_table::{Cell, ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use node::fetch::Progress;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::json;

use crate::failure::Failure;

const TICK: Duration = Duration::from_millis(120);

/// How results are written.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
}

impl Output {
    /// JSON for programs, or text for people.
    pub const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether programs read this.
    pub const fn is_json(self) -> bool {
        self.json
    }

    /// One thing: JSON, or the lines for people.
    pub fn show<T: Serialize>(self, value: &T, text: impl FnOnce() -> String) {
        if self.json {
            return print_json(value);
        }
        print(&text());
    }

    /// A listing: `{"object":"list","data":[…]}`, or a table with a word for an empty one.
    pub fn list<T: Serialize>(
        self,
        items: &[T],
        head: &[&str],
        row: impl Fn(&T) -> Vec<String>,
        none: &str,
    ) {
        if self.json {
            return print_json(&json!({ "object": "list", "data": items }));
        }
        if items.is_empty() {
            return note(none);
        }
        print(&table(head, items.iter().map(row)));
    }
}

/// Tells why a command failed.
pub fn failed(failure: &Failure) -> ExitCode {
    let (error, hint) = if colours(&std::io::stderr()) {
        ("\x1b[1;31merror\x1b[0m", "\x1b[1;36mhint\x1b[0m")
    } else {
        ("error", "hint")
    };
    let advice = failure.advice();
    // Nobody is left to tell if this fails.
    let _ = writeln!(std::io::stderr(), "{error}: {failure}\n{hint}: {advice}");
    failure.exit_code()
}

/// A line beside the results.
pub fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Writes results; a reader that went away (`| head`) is no failure.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush());
}

fn print_json(value: &impl Serialize) {
    print(&serde_json::to_string_pretty(value).expect("results are plain data"));
}

/// A table without lines, so that `awk` and people read it alike.
pub fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head.iter().map(Cell::new));
    rows.for_each(|row| {
        table.add_row(row);
    });
    let lines = table.to_string();
    lines.lines().map(str::trim).collect::<Vec<_>>().join("\n")
}

/// Whether a stream takes colours: it is a terminal and `NO_COLOR` is not set.
pub fn colours(stream: &impl IsTerminal) -> bool {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    wanted && stream.is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Bytes for people.
pub fn bytes(count: u64) -> String {
    indicatif::HumanBytes(count).to_string()
}

/// The bar of a fetch; silent where standard error is no terminal, but for one line a file.
pub struct FetchBar {
    bar: Mutex<ProgressBar>,
    /// What the bar says, and whether it knows the size.
    shown: Mutex<(String, bool)>,
}

impl FetchBar {
    /// A bar that appears with the first news.
    pub fn new() -> Self {
        Self { bar: Mutex::new(ProgressBar::hidden()), shown: Mutex::default() }
    }

    /// Shows one step.
    pub fn report(&self, progress: Progress<'_>) {
        let (name, words) = match progress {
            Progress::Waiting => ("", "waiting for another process that fetches this firmware"),
            Progress::Downloading { name, .. } => (name, "downloading"),
            Progress::Unpacking { name } => (name, "unpacking"),
            Progress::Verifying { name } => (name, "verifying"),
            Progress::Placed { name } => (name, "placed"),
        };
        let title = format!("{words} {name}").trim().to_owned();
        let sized = matches!(progress, Progress::Downloading { total_bytes: Some(_), .. });
        let now = (title, sized);
        let mut shown = self.shown.lock();
        if *shown != now {
            if std::io::stderr().is_terminal() {
                self.begin(&now.0, progress);
            } else if shown.0 != now.0 {
                note(&now.0);
            }
            *shown = now;
        }
        if let Progress::Downloading { done_bytes, .. } = progress {
            self.bar.lock().set_position(done_bytes);
        }
    }

    fn begin(&self, title: &str, progress: Progress<'_>) {
        let mut bar = self.bar.lock();
        bar.finish_and_clear();
        *bar = match progress {
            Progress::Downloading { done_bytes, total_bytes: Some(total), .. } => resumed(
                done_bytes, total,
            )
            .with_style(style("{msg:28!} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")),
            Progress::Downloading { .. } => {
                ProgressBar::new_spinner().with_style(style("{msg:40!} {spinner} {bytes}"))
            }
            _ => ProgressBar::new_spinner().with_style(style("{msg:60!} {spinner}")),
        };
        bar.set_draw_target(ProgressDrawTarget::stderr());
        bar.set_message(title.to_owned());
        bar.enable_steady_tick(TICK);
    }
}

/// A bar that begins at what an earlier attempt fetched, without counting that as speed.
fn resumed(done_bytes: u64, total_bytes: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total_bytes), ProgressDrawTarget::hidden());
    bar.set_position(done_bytes);
    bar.tick();
    bar.reset_eta();
    bar
}

impl Drop for FetchBar {
    fn drop(&mut self) {
        self.bar.lock().finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates are literals of this file")
}
