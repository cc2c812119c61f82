//! Frames back into messages, within bounds that a hostile peer cannot pass.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};

use super::{Frame, FrameError, MESSAGE_BYTES_MAX};

/// What a peer may make us hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest message.
    pub message_bytes: usize,
    /// Most messages of which only a part has come.
    pub open: usize,
    /// Most bytes of all those parts together.
    pub open_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message_bytes: MESSAGE_BYTES_MAX, open: 1024, open_bytes: 2 * MESSAGE_BYTES_MAX }
    }
}

/// One whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The stream that it came on.
    pub stream: u64,
    /// Its bytes.
    pub bytes: Bytes,
}

/// Puts the chunks of one link's messages together.
#[derive(Debug)]
pub struct Assembler {
    limits: Limits,
    open: HashMap<u64, BytesMut>,
    open_bytes: usize,
}

impl Assembler {
    /// Nothing received yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, open: HashMap::new(), open_bytes: 0 }
    }

    /// Takes one frame and gives the message that it completes, if it does.
    ///
    /// # Errors
    /// Any [`FrameError`] but `OutboxFull`. The link is then out of step: close it.
    pub fn accept(&mut self, frame: &Bytes) -> Result<Option<Message>, FrameError> {
        let Frame { stream, last, chunk } = Frame::parse(frame)?;
        let so_far = self.open.get(&stream).map_or(0, BytesMut::len);
        self.check(stream, so_far, &chunk, last)?;
        if last {
            return Ok(Some(self.complete(stream, chunk)));
        }
        self.open_bytes += chunk.len();
        self.open.entry(stream).or_default().extend_from_slice(&chunk);
        Ok(None)
    }

    /// Bytes held for messages that are not complete.
    pub fn open_bytes(&self) -> usize {
        self.open_bytes
    }

    fn check(
        &self,
        stream: u64,
        so_far: usize,
        chunk: &Bytes,
        last: bool,
    ) -> Result<(), FrameError> {
        let Limits { message_bytes, open, open_bytes } = self.limits;
        if so_far + chunk.len() > message_bytes {
            return Err(FrameError::LongMessage { limit_bytes: message_bytes });
        }
        if last {
            return Ok(());
        }
        if self.open.len() >= open && !self.open.contains_key(&stream) {
            return Err(FrameError::ManyOpen { limit: open });
        }
        if self.open_bytes + chunk.len() > open_bytes {
            return Err(FrameError::LargeOpen { limit_bytes: open_bytes });
        }
        Ok(())
    }

    fn complete(&mut self, stream: u64, chunk: Bytes) -> Message {
        let Some(mut bytes) = self.open.remove(&stream) else {
            return Message { stream, bytes: chunk };
        };
        self.open_bytes -= bytes.len();
        bytes.extend_from_slice(&chunk);
        Message { stream, bytes: bytes.freeze() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{CHUNK_BYTES_MAX, HEADER_BYTES, LAST, VERSION, split};
    use super::*;

    const SMALL: Limits = Limits { message_bytes: 50_000, open: 2, open_bytes: 80_000 };

    fn first_chunk(stream: u64, length: usize) -> Bytes {
        split(stream, vec![0; length].into()).next().expect("every message has a frame")
    }

    #[test]
    fn a_message_longer_than_the_limit_is_refused_before_it_is_held() {
        let mut assembler = Assembler::new(SMALL);
        let refused =
            split(1, vec![0; 50_001].into()).find_map(|frame| assembler.accept(&frame).err());
        assert_eq!(refused, Some(FrameError::LongMessage { limit_bytes: 50_000 }));
        assert!(assembler.open_bytes() <= 50_000);
    }

    #[test]
    fn more_open_messages_than_the_limit_are_refused_but_short_ones_still_pass() {
        let mut assembler = Assembler::new(SMALL);
        for stream in [1, 2] {
            assert_eq!(assembler.accept(&first_chunk(stream, 20_000)), Ok(None));
        }
        let refused = assembler.accept(&first_chunk(3, 20_000));
        assert_eq!(refused, Err(FrameError::ManyOpen { limit: 2 }));
        let short = Bytes::from_static(b"token");
        let frame = split(3, short.clone()).next().expect("every message has a frame");
        assert_eq!(assembler.accept(&frame), Ok(Some(Message { stream: 3, bytes: short })));
    }

    #[test]
    fn open_messages_together_hold_no_more_than_the_limit() {
        let limits = Limits { open_bytes: 3 * CHUNK_BYTES_MAX, ..SMALL };
        let mut assembler = Assembler::new(limits);
        let frames = (1..=2).flat_map(|stream| split(stream, vec![0; 50_000].into()).take(2));
        let refused: Vec<_> = frames.map(|frame| assembler.accept(&frame)).collect();
        let full = Err(FrameError::LargeOpen { limit_bytes: limits.open_bytes });
        assert_eq!(refused, [Ok(None), Ok(None), Ok(None), full]);
    }

    proptest! {
        #[test]
        fn messages_come_back_whole_however_their_frames_interleave(
            lengths in prop::collection::vec(0usize..60_000, 1..5),
            picks in prop::collection::vec(0usize..5, 0..64),
        ) {
            let sent: Vec<_> = lengths.iter().zip(0u64..).map(|(&length, stream)| Message {
                stream,
                bytes: (0..length).map(|at| (at * 31 + stream as usize) as u8).collect(),
            }).collect();
            let mut frames: Vec<_> =
                sent.iter().map(|m| split(m.stream, m.bytes.clone()).collect::<Vec<_>>().into_iter()).collect();
            let mut assembler = Assembler::new(Limits::default());
            let mut got = Vec::new();
            let in_order = 0..frames.len();
            for pick in picks.into_iter().chain(in_order.flat_map(|at| [at; 8])) {
                let Some(lane) = frames.get_mut(pick) else { continue };
                let Some(frame) = lane.next() else { continue };
                got.extend(assembler.accept(&frame).expect("these frames are within the limits"));
            }
            got.sort_by_key(|message| message.stream);
            prop_assert_eq!(got, sent);
            prop_assert_eq!(assembler.open_bytes(), 0);
        }

        #[test]
        fn hostile_frames_never_panic_and_never_pass_the_bounds(
            frames in prop::collection::vec(hostile_frame(), 0..40),
        ) {
            let mut assembler = Assembler::new(SMALL);
            for frame in frames {
                if let Ok(Some(message)) = assembler.accept(&frame) {
                    prop_assert!(message.bytes.len() <= SMALL.message_bytes);
                }
                let held: usize = assembler.open.values().map(BytesMut::len).sum();
                prop_assert_eq!(held, assembler.open_bytes());
                prop_assert!(held <= SMALL.open_bytes);
                prop_assert!(assembler.open.len() <= SMALL.open);
            }
        }
    }

    /// Random bytes, and headers that are nearly right.
    fn hostile_frame() -> impl Strategy<Value = Bytes> {
        let noise = prop::collection::vec(any::<u8>(), 0..64);
        let near = (0u8..3, 0u8..3, any::<bool>(), 0usize..20_000, 0u64..4);
        let near = near.prop_map(|(version, flags, lies, length, stream)| {
            let claimed =
                length.saturating_sub(usize::from(lies)).min(usize::from(u16::MAX)) as u16;
            let mut frame = vec![version.max(VERSION), flags & (LAST | 2)];
            frame.extend(claimed.to_be_bytes());
            frame.extend(stream.to_be_bytes());
            frame.resize(HEADER_BYTES + length, 0xa5);
            frame
        });
        prop_oneof![noise, near].prop_map(Bytes::from)
    }
}
