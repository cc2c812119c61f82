//! Frames: how many messages share one link, cut so that a large one never blocks a token.
//! Owns: the header, chunks, the order of sending, the bounds of receiving. Never: what a message says.
//!
//! A frame is a header of 12 bytes and a chunk of one message:
//!
//! | bytes | field |
//! | --- | --- |
//! | 0 | version, 1 |
//! | 1 | flags; bit 0: the message's last chunk; the others are 0 |
//! | 2..4 | length of the chunk, big-endian, at most 16 KiB |
//! | 4..12 | stream, big-endian; 0 carries what belongs to no stream |
//!
//! Messages of one stream follow each other; chunks of different streams may interleave.

mod assembler;
mod outbox;

pub use assembler::{Assembler, Limits, Message};
pub use outbox::Outbox;

use bytes::{BufMut as _, Bytes, BytesMut};

/// The only version of the header.
pub const VERSION: u8 = 1;
/// Length of the header.
pub const HEADER_BYTES: usize = 12;
/// Longest chunk.
pub const CHUNK_BYTES_MAX: usize = 16 * 1024;
/// Longest frame.
pub const FRAME_BYTES_MAX: usize = HEADER_BYTES + CHUNK_BYTES_MAX;
/// Longest message that either side takes.
pub const MESSAGE_BYTES_MAX: usize = 32 * 1024 * 1024;

const LAST: u8 = 0b1;

/// Why a frame or message was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says it, with these fields")]
pub enum FrameError {
    #[error("a frame of {length} bytes has no whole header")]
    Short { length: usize },
    #[error("frame version {0} is not spoken here")]
    Version(u8),
    #[error("frame flags {0:#010b} are not known")]
    Flags(u8),
    #[error("a frame claims {claimed} bytes and has {actual}")]
    Length { claimed: usize, actual: usize },
    #[error("a chunk of {0} bytes is longer than {CHUNK_BYTES_MAX}")]
    LongChunk(usize),
    #[error("a chunk that is not the last is empty")]
    EmptyChunk,
    #[error("a message is longer than {limit_bytes} bytes")]
    LongMessage { limit_bytes: usize },
    #[error("more than {limit} messages are open")]
    ManyOpen { limit: usize },
    #[error("open messages hold more than {limit_bytes} bytes")]
    LargeOpen { limit_bytes: usize },
    #[error("more than {limit_bytes} bytes wait to be sent")]
    OutboxFull { limit_bytes: usize },
}

/// A frame's parts, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Frame {
    stream: u64,
    last: bool,
    chunk: Bytes,
}

impl Frame {
    fn parse(frame: &Bytes) -> Result<Self, FrameError> {
        let header = frame.first_chunk::<HEADER_BYTES>();
        let header = header.ok_or(FrameError::Short { length: frame.len() })?;
        let [version, flags, length_high, length_low, stream @ ..] = *header;
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        if flags & !LAST != 0 {
            return Err(FrameError::Flags(flags));
        }
        let chunk = frame.slice(HEADER_BYTES..);
        let claimed = usize::from(u16::from_be_bytes([length_high, length_low]));
        if claimed > CHUNK_BYTES_MAX {
            return Err(FrameError::LongChunk(claimed));
        }
        if claimed != chunk.len() {
            return Err(FrameError::Length { claimed, actual: chunk.len() });
        }
        let last = flags & LAST != 0;
        if !last && chunk.is_empty() {
            return Err(FrameError::EmptyChunk);
        }
        Ok(Self { stream: u64::from_be_bytes(stream), last, chunk })
    }
}

/// Cuts one message into frames; an empty message is one frame.
pub fn split(stream: u64, message: Bytes) -> impl Iterator<Item = Bytes> {
    Chunks { stream, rest: Some(message) }
}

/// What is still to be sent of one message.
#[derive(Debug)]
struct Chunks {
    stream: u64,
    rest: Option<Bytes>,
}

impl Iterator for Chunks {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut rest = self.rest.take()?;
        let chunk = rest.split_to(rest.len().min(CHUNK_BYTES_MAX));
        let last = rest.is_empty();
        if !last {
            self.rest = Some(rest);
        }
        let mut frame = BytesMut::with_capacity(HEADER_BYTES + chunk.len());
        frame.put_u8(VERSION);
        frame.put_u8(if last { LAST } else { 0 });
        frame.put_u16(u16::try_from(chunk.len()).expect("a chunk is at most 16 KiB"));
        frame.put_u64(self.stream);
        frame.put(chunk);
        Some(frame.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(version: u8, flags: u8, length: u16, body: usize) -> Bytes {
        let mut frame = vec![version, flags];
        frame.extend(length.to_be_bytes());
        frame.extend(7u64.to_be_bytes());
        frame.resize(HEADER_BYTES + body, 0);
        frame.into()
    }

    #[test]
    fn a_frame_that_lies_is_refused_by_name() {
        let refusals = [
            (Bytes::new(), FrameError::Short { length: 0 }),
            (Bytes::from_static(&[1; 11]), FrameError::Short { length: 11 }),
            (header(2, 1, 0, 0), FrameError::Version(2)),
            (header(1, 3, 0, 0), FrameError::Flags(3)),
            (header(1, 1, 5, 4), FrameError::Length { claimed: 5, actual: 4 }),
            (header(1, 1, 4, 5), FrameError::Length { claimed: 4, actual: 5 }),
            (header(1, 1, 16_385, 16_385), FrameError::LongChunk(16_385)),
            (header(1, 0, 0, 0), FrameError::EmptyChunk),
        ];
        for (frame, expected) in refusals {
            assert_eq!(Frame::parse(&frame), Err(expected));
        }
    }

    #[test]
    fn a_message_is_cut_into_chunks_of_16_kib_and_only_the_last_says_so() {
        let frames: Vec<_> = split(9, Bytes::from(vec![5; 2 * CHUNK_BYTES_MAX + 1])).collect();
        let parsed =
            frames.iter().map(|frame| Frame::parse(frame).expect("our own frames are good"));
        let shape: Vec<_> = parsed.map(|f| (f.stream, f.last, f.chunk.len())).collect();
        assert_eq!(shape, [(9, false, 16_384), (9, false, 16_384), (9, true, 1)]);
    }

    #[test]
    fn an_empty_message_is_one_frame() {
        let frames: Vec<_> = split(0, Bytes::new()).collect();
        assert_eq!(
            frames,
            [header(1, 1, 0, 0)].map(|f| {
                let mut f = f.to_vec();
                f[11] = 0;
                Bytes::from(f)
            })
        );
    }
}
