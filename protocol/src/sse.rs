//! Server-sent events as a client reads them: bytes in, messages out, however they were cut.
//! Owns: the parsing rules and their bounds. Never: sockets, reconnecting, what a message means.
//! Source: WHATWG HTML, section 9.2.6 "Interpreting an event stream".

use std::time::Duration;

const BYTE_ORDER_MARK: &str = "\u{feff}";

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The `event` field; `message` if there was none.
    pub event: String,
    /// The `data` lines, joined by line feeds.
    pub data: String,
    /// The newest `id` so far, to resume from; empty if none was sent.
    pub id: String,
}

/// The stream cannot be read further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    /// One line, or the data of one message, is longer than the bound.
    #[error("a server-sent event is longer than {limit_bytes} bytes")]
    TooLong {
        /// The bound.
        limit_bytes: usize,
    },
}

/// Reads one stream; make a new one for each connection.
#[derive(Debug)]
pub struct Parser {
    limit_bytes: usize,
    line: Vec<u8>,
    first_line: bool,
    after_carriage_return: bool,
    event: String,
    data: Option<String>,
    id: String,
    retry: Option<Duration>,
}

impl Parser {
    /// A parser that holds at most `limit_bytes` of one line and of one message's data.
    pub fn new(limit_bytes: usize) -> Self {
        Self {
            limit_bytes,
            line: Vec::new(),
            first_line: true,
            after_carriage_return: false,
            event: String::new(),
            data: None,
            id: String::new(),
            retry: None,
        }
    }

    /// How long the server asks to wait before reconnecting.
    pub fn retry(&self) -> Option<Duration> {
        self.retry
    }

    /// The messages that `chunk` completes. What a stream leaves unfinished at its end is no message.
    ///
    /// # Errors
    /// [`SseError::TooLong`]; the stream is of no more use then.
    pub fn push(&mut self, chunk: &[u8]) -> Result<Vec<Message>, SseError> {
        let mut messages = Vec::new();
        for &byte in chunk {
            let second_half = byte == b'\n' && self.after_carriage_return;
            self.after_carriage_return = byte == b'\r';
            match byte {
                b'\n' if second_half => {}
                b'\n' | b'\r' => messages.extend(self.end_line()?),
                _ if self.line.len() == self.limit_bytes => return Err(self.too_long()),
                _ => self.line.push(byte),
            }
        }
        Ok(messages)
    }

    fn end_line(&mut self) -> Result<Option<Message>, SseError> {
        let bytes = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&bytes);
        let first = std::mem::take(&mut self.first_line);
        let line = text.strip_prefix(BYTE_ORDER_MARK).filter(|_| first).unwrap_or(&text);
        if line.is_empty() {
            return Ok(self.dispatch());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        self.field(field, value.strip_prefix(' ').unwrap_or(value))?;
        Ok(None)
    }

    /// A comment is a field without a name and, like any unknown field, means nothing.
    fn field(&mut self, field: &str, value: &str) -> Result<(), SseError> {
        match field {
            "data" => self.append(value)?,
            "event" => value.clone_into(&mut self.event),
            "id" if !value.contains('\0') => value.clone_into(&mut self.id),
            "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.retry = value.parse().ok().map(Duration::from_millis).or(self.retry);
            }
            _ => {}
        }
        Ok(())
    }

    fn append(&mut self, value: &str) -> Result<(), SseError> {
        let held = self.data.as_ref().map_or(0, |data| data.len() + 1);
        if held + value.len() > self.limit_bytes {
            return Err(self.too_long());
        }
        match &mut self.data {
            Some(data) => {
                data.push('\n');
                data.push_str(value);
            }
            None => self.data = Some(value.to_owned()),
        }
        Ok(())
    }

    fn dispatch(&mut self) -> Option<Message> {
        let event = std::mem::take(&mut self.event);
        let data = self.data.take()?;
        let event = if event.is_empty() { "message".to_owned() } else { event };
        Some(Message { event, data, id: self.id.clone() })
    }

    fn too_long(&self) -> SseError {
        SseError::TooLong { limit_bytes: self.limit_bytes }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Vec<Message> {
        Parser::new(1024).push(text.as_bytes()).expect("the text is short")
    }

    fn message(event: &str, data: &str, id: &str) -> Message {
        Message { event: event.into(), data: data.into(), id: id.into() }
    }

    #[test]
    fn the_examples_of_the_standard_give_their_messages() {
        let stocks = "data: YHOO\ndata: +2\ndata: 10\n\n";
        assert_eq!(parse(stocks), [message("message", "YHOO\n+2\n10", "")]);
        let blocks = ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\n\
                      data:  third event\n";
        let expected =
            [message("message", "first event", "1"), message("message", "second event", "")];
        assert_eq!(parse(blocks), expected, "the third is not complete");
        let empty = "data\n\ndata\ndata\n\ndata:";
        assert_eq!(parse(empty), [message("message", "", ""), message("message", "\n", "")]);
    }

    #[test]
    fn carriage_returns_line_feeds_and_both_end_lines() {
        let expected = [message("a", "1\n2", "")];
        for end in ["\n", "\r", "\r\n"] {
            let text = ["event: a", "data: 1", "data: 2", "", ""].join(end);
            assert_eq!(parse(&text), expected, "{end:?}");
        }
    }

    #[test]
    fn a_byte_order_mark_counts_only_at_the_start() {
        assert_eq!(parse("\u{feff}data: x\n\n"), [message("message", "x", "")]);
        assert_eq!(parse("data: y\n\n\u{feff}data: x\n\n"), [message("message", "y", "")]);
    }

    #[test]
    fn an_event_without_data_is_no_message_and_an_id_outlives_its_message() {
        let text = "event: lonely\nid: 7\n\ndata: x\n\nid: a\0b\ndata: y\n\n";
        assert_eq!(parse(text), [message("message", "x", "7"), message("message", "y", "7")]);
    }

    #[test]
    fn retry_takes_digits_only() {
        let mut parser = Parser::new(1024);
        parser.push(b"retry: 250\nretry: 1s\nretry:\nretry: -3\n").expect("short");
        assert_eq!(parser.retry(), Some(Duration::from_millis(250)));
    }

    #[test]
    fn long_lines_and_long_messages_are_refused() {
        let limit_bytes = 16;
        let refused = Err(SseError::TooLong { limit_bytes });
        assert_eq!(Parser::new(limit_bytes).push(&[b'x'; 17]), refused);
        assert_eq!(Parser::new(limit_bytes).push(b"data: 12345678\ndata: 12345678\n"), refused);
        assert!(Parser::new(limit_bytes).push(b"data: 1234567\ndata: 12345678\n").is_ok());
    }

    proptest! {
        #[test]
        fn any_cutting_gives_the_same_messages(
            lines in prop::collection::vec("(data|event|id|retry|)(:| |: |x)[aé\u{feff}0 :]{0,4}|", 0..12),
            ends in prop::collection::vec("\n|\r|\r\n", 12),
            cuts in prop::collection::vec(0_usize..200, 0..12),
        ) {
            let text: String = lines.iter().zip(&ends).flat_map(|(line, end)| [line.as_str(), end]).collect();
            let whole = parse(&text);
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut parser = Parser::new(1024);
            let mut pieces = Vec::new();
            for pair in cuts.windows(2) {
                let piece = &text.as_bytes()[pair[0]..pair[1]];
                pieces.extend(parser.push(piece).expect("the text is short"));
            }
            prop_assert_eq!(whole, pieces);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Parser::new(64).push(&bytes);
        }
    }
}
