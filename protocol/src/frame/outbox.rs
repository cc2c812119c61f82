//! What waits to be sent on one link: each stream in order, all streams in turn.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{Chunks, FrameError, MESSAGE_BYTES_MAX};

/// Messages on their way out. Each stream with something to send gets one frame per round, so a
/// short message waits for at most one frame of each other stream.
#[derive(Debug)]
pub struct Outbox {
    lanes: VecDeque<Lane>,
    waiting_bytes: usize,
    limit_bytes: usize,
}

#[derive(Debug)]
struct Lane {
    stream: u64,
    messages: VecDeque<Chunks>,
}

impl Outbox {
    /// Nothing to send; at most `limit_bytes` may wait.
    pub fn new(limit_bytes: usize) -> Self {
        Self { lanes: VecDeque::new(), waiting_bytes: 0, limit_bytes }
    }

    /// Takes one message.
    ///
    /// # Errors
    /// [`FrameError::LongMessage`] if the peer would refuse it, [`FrameError::OutboxFull`].
    pub fn push(&mut self, stream: u64, message: Bytes) -> Result<(), FrameError> {
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(FrameError::LongMessage { limit_bytes: MESSAGE_BYTES_MAX });
        }
        if self.waiting_bytes + message.len() > self.limit_bytes {
            return Err(FrameError::OutboxFull { limit_bytes: self.limit_bytes });
        }
        self.waiting_bytes += message.len();
        let chunks = Chunks { stream, rest: Some(message) };
        match self.lanes.iter_mut().find(|lane| lane.stream == stream) {
            Some(lane) => lane.messages.push_back(chunks),
            None => self.lanes.push_back(Lane { stream, messages: [chunks].into() }),
        }
        Ok(())
    }

    /// The next frame to send.
    pub fn pop(&mut self) -> Option<Bytes> {
        let mut lane = self.lanes.pop_front()?;
        let chunks = lane.messages.front_mut().expect("a lane holds a message or is gone");
        let frame = chunks.next().expect("a message leaves its lane with its last chunk");
        self.waiting_bytes -= frame.len() - super::HEADER_BYTES;
        if chunks.rest.is_none() {
            lane.messages.pop_front();
        }
        if !lane.messages.is_empty() {
            self.lanes.push_back(lane);
        }
        Some(frame)
    }

    /// Bytes of messages that wait, without headers.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Assembler, Limits};
    use super::*;

    fn messages(outbox: &mut Outbox) -> Vec<(u64, usize)> {
        let mut assembler = Assembler::new(Limits::default());
        let frames = std::iter::from_fn(|| outbox.pop());
        let messages = frames.filter_map(|frame| assembler.accept(&frame).expect("our own frames"));
        messages.map(|message| (message.stream, message.bytes.len())).collect()
    }

    #[test]
    fn a_token_overtakes_five_mebibytes_after_one_frame() {
        let mut outbox = Outbox::new(MESSAGE_BYTES_MAX);
        outbox.push(1, vec![0; 5 << 20].into()).expect("there is room");
        let before: Vec<_> = (0..3).filter_map(|_| outbox.pop()).collect();
        outbox.push(2, Bytes::from_static(b"token")).expect("there is room");
        let after = [outbox.pop(), outbox.pop()].map(|frame| frame.expect("more waits").len());
        assert_eq!(before.len(), 3);
        assert!(after.contains(&(super::super::HEADER_BYTES + 5)), "{after:?}");
    }

    #[test]
    fn messages_of_one_stream_keep_their_order() {
        let mut outbox = Outbox::new(MESSAGE_BYTES_MAX);
        for length in [40_000, 3, 20_000] {
            outbox.push(1, vec![0; length].into()).expect("there is room");
            outbox.push(2, vec![0; 1].into()).expect("there is room");
        }
        let (ones, twos): (Vec<_>, Vec<_>) =
            messages(&mut outbox).into_iter().partition(|&(stream, _)| stream == 1);
        assert_eq!(ones, [(1, 40_000), (1, 3), (1, 20_000)]);
        assert_eq!(twos, [(2, 1); 3]);
        assert_eq!(outbox.waiting_bytes(), 0);
    }

    #[test]
    fn a_full_outbox_says_so_and_has_room_again_when_frames_left() {
        let mut outbox = Outbox::new(20_000);
        outbox.push(1, vec![0; 20_000].into()).expect("there is room");
        let full = Err(FrameError::OutboxFull { limit_bytes: 20_000 });
        assert_eq!(outbox.push(2, vec![0; 1].into()), full);
        outbox.pop().expect("a frame waits");
        assert_eq!(outbox.push(2, vec![0; 1].into()), Ok(()));
    }

    #[test]
    fn a_message_that_the_peer_would_refuse_is_not_taken() {
        let mut outbox = Outbox::new(usize::MAX);
        let refused = outbox.push(1, vec![0; MESSAGE_BYTES_MAX + 1].into());
        assert_eq!(refused, Err(FrameError::LongMessage { limit_bytes: MESSAGE_BYTES_MAX }));
    }
}
