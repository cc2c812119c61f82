//! The process's log output: one line an event, on standard error.
//! Owns: format, filter, escaping, the panic hook. Never: files, rotation, shipping.

use std::fmt::{self, Write as _};
use std::io::IsTerminal as _;
use std::panic::PanicHookInfo;
use std::str::FromStr;

use tracing::Subscriber;
use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::util::SubscriberInitExt as _;

/// How a line looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The format's name is unknown.
    #[error("log format `{0}` is none of auto, text, json")]
    Format(String),
    /// The filter does not parse.
    #[error("log filter `{filter}` is not valid")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Logging is set up once a process.
    #[error("logging is already set up")]
    AlreadySet,
}

impl FromStr for LogFormat {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, LogError> {
        match text {
            "auto" => Ok(Self::Auto),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(LogError::Format(other.to_owned())),
        }
    }
}

/// Sends this process's events to standard error and reports panics there, once each.
///
/// `filter` is `level` or `target=level`, comma-separated. `ansi` colours text, never JSON.
///
/// # Errors
/// [`LogError::Filter`], or [`LogError::AlreadySet`] on a second call.
pub fn init(format: LogFormat, filter: &str, ansi: bool) -> Result<(), LogError> {
    let json = match format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    let subscriber = subscriber(json, filter, ansi, std::io::stderr)?;
    subscriber.try_init().map_err(|_| LogError::AlreadySet)?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

fn subscriber<W>(
    json: bool,
    filter: &str,
    ansi: bool,
    writer: W,
) -> Result<Box<dyn Subscriber + Send + Sync>, LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(filter)
        .map_err(|source| LogError::Filter { filter: filter.to_owned(), source })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    Ok(if json {
        Box::new(builder.json().flatten_event(true).with_current_span(true).finish())
    } else {
        Box::new(builder.with_ansi(ansi).fmt_fields(debug_fn(write_field)).finish())
    })
}

/// Writes ` name=value` with every control character escaped: a value that came from outside can
/// neither start a line of its own nor reach the terminal.
fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    if field.name() != "message" {
        write!(writer, " {}=", field.name())?;
    }
    write!(Escaping(writer), "{value:?}")
}

struct Escaping<'a, 'w>(&'a mut Writer<'w>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if c.is_control() {
                write!(self.0, "{}", c.escape_default())?;
            } else {
                self.0.write_char(c)?;
            }
        }
        Ok(())
    }
}

fn log_panic(info: &PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("no message");
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(
        panic.message = message,
        panic.location = location,
        "panicked at {location}: {message}"
    );
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(json: bool, filter: &str, log: impl FnOnce()) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = subscriber(json, filter, false, move || writer.clone());
        tracing::subscriber::with_default(subscriber.expect("the filter is valid"), log);
        let bytes = buffer.0.lock().clone();
        String::from_utf8(bytes).expect("logs are UTF-8")
    }

    #[test]
    fn control_characters_from_outside_stay_on_their_line_and_off_the_terminal() {
        let evil = "x\nERROR forged\r\u{1b}[2J\u{9b}31m\u{7f}";
        for json in [false, true] {
            let text = logged(json, "info", || tracing::info!(adapter.name = %evil, "got {evil}"));
            assert_eq!(text.matches('\n').count(), 1, "{text:?}");
            assert!(!text.contains(['\r', '\u{1b}']), "{text:?}");
        }
    }

    #[test]
    fn text_reads_message_first_then_fields() {
        let text =
            logged(false, "info", || tracing::info!(node.id = "n1", load = 3, "node joined"));
        assert!(text.ends_with("node joined node.id=\"n1\" load=3\n"), "{text}");
    }

    #[test]
    fn the_filter_holds_back_lower_levels() {
        assert_eq!(logged(false, "warn", || tracing::info!("hidden")), "");
    }

    #[test]
    fn a_bad_filter_or_format_is_named() {
        let refused = init(LogFormat::Text, "info,=x=y", false).expect_err("not a filter");
        assert_eq!(refused.to_string(), "log filter `info,=x=y` is not valid");
        let refused = "xml".parse::<LogFormat>().expect_err("not a format");
        assert_eq!(refused.to_string(), "log format `xml` is none of auto, text, json");
    }
}
