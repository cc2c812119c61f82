//! The `traceparent` header as a value: parsed once at the door, formatted at each hop.
//! Source: W3C Trace Context Level 1, section 3.2; the random flag is Level 2, section 3.2.2.5.

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};

const SAMPLED: u8 = 0x01;
const RANDOM: u8 = 0x02;

/// Where a request stands in its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// One id from the first caller to the last node.
    pub trace_id: NonZeroU128,
    /// The span that made this hop.
    pub span_id: NonZeroU64,
    flags: u8,
}

impl TraceParent {
    /// Starts a sampled trace from random ids.
    pub fn root(trace_id: NonZeroU128, span_id: NonZeroU64) -> Self {
        Self { trace_id, span_id, flags: SAMPLED | RANDOM }
    }

    /// A place in a trace with these flags; those that are not known are left out.
    pub(crate) fn with_flags(trace_id: NonZeroU128, span_id: NonZeroU64, flags: u8) -> Self {
        Self { trace_id, span_id, flags: flags & (SAMPLED | RANDOM) }
    }

    pub(crate) const fn flags(self) -> u8 {
        self.flags
    }

    /// The same trace, one span further.
    #[must_use]
    pub fn child(self, span_id: NonZeroU64) -> Self {
        Self { span_id, ..self }
    }

    /// Whether the caller keeps this trace.
    pub fn sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Reads a header value; `None` means that the caller sent no usable trace, so start one.
    ///
    /// Versions above 00 are read as 00 reads them, as the standard asks.
    pub fn parse(header: &str) -> Option<Self> {
        let mut parts = header.splitn(5, '-');
        let version = u8::try_from(lower_hex(parts.next()?, 2)?).ok()?;
        let trace_id = NonZeroU128::new(lower_hex(parts.next()?, 32)?)?;
        let span_id = NonZeroU64::new(u64::try_from(lower_hex(parts.next()?, 16)?).ok()?)?;
        let flags = u8::try_from(lower_hex(parts.next()?, 2)?).ok()?;
        let too_long = version == 0 && parts.next().is_some();
        if version == 0xff || too_long {
            return None;
        }
        Some(Self::with_flags(trace_id, span_id, flags))
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

fn lower_hex(text: &str, digits: usize) -> Option<u128> {
    let is_lower_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != digits || !text.bytes().all(is_lower_hex) {
        return None;
    }
    u128::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_standards_example_survives_parse_and_format() {
        let parent = TraceParent::parse(EXAMPLE).expect("the example is valid");
        assert!(parent.sampled());
        assert_eq!(parent.to_string(), EXAMPLE);
    }

    #[test]
    fn a_child_keeps_the_trace_and_its_flags() {
        let parent = TraceParent::parse(EXAMPLE).expect("the example is valid");
        let child = parent.child(NonZeroU64::MIN);
        assert_eq!(child.to_string(), "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000001-01");
    }

    #[test]
    fn a_later_version_is_read_and_unknown_flags_are_dropped() {
        let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-fe-what-comes-next";
        let parent = TraceParent::parse(later).expect("later versions are read");
        assert!(!parent.sampled());
        assert!(parent.to_string().ends_with("-02"));
    }

    #[test]
    fn broken_headers_are_no_trace() {
        let zero_trace = format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32));
        let zero_span = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", "0".repeat(16));
        let upper = EXAMPLE.to_uppercase();
        let (longer, version_ff) = (format!("{EXAMPLE}-00"), EXAMPLE.replacen("00", "ff", 1));
        let plus = EXAMPLE.replacen("4b", "+b", 1);
        for header in ["", "00", "é", &zero_trace, &zero_span, &upper, &longer, &version_ff, &plus]
        {
            assert_eq!(TraceParent::parse(header), None, "{header}");
        }
    }
}
