//! Sends what the node has to say, all streams in turn.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, SinkExt as _};
use protocol::frame::{MESSAGE_BYTES_MAX, Outbox, split};
use protocol::link::{FromNode, encode};
use protocol::{ErrorCode, WorkError};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::NodeError;

/// Messages that wait for their turn; who sends more waits.
pub(super) const QUEUE_MAX: usize = 256;
/// No more messages are taken from the queue while this much waits to be sent.
const WAITING_BYTES_MAX: usize = 2 * MESSAGE_BYTES_MAX;
/// A gateway that takes nothing for this long is gone.
const STALL_MAX: Duration = Duration::from_secs(30);

/// Runs until every sender is gone, then says goodbye and closes the socket.
pub(super) async fn write(
    mut sink: impl Sink<Message, Error = tungstenite::Error> + Unpin,
    mut queue: mpsc::Receiver<FromNode>,
) -> Result<(), NodeError> {
    let mut outbox = Outbox::new(WAITING_BYTES_MAX + MESSAGE_BYTES_MAX);
    while let Some(message) = queue.recv().await {
        push(&mut outbox, &message);
        while let Some(frame) = next(&mut outbox, &mut queue) {
            in_time(sink.feed(Message::Binary(frame))).await?;
        }
        in_time(sink.flush()).await?;
    }
    // Streams take turns in the outbox: said through it, goodbye would overtake an answer's last
    // events, and the gateway would count that request as lost.
    let goodbye = FromNode::Goodbye;
    for frame in split(goodbye.stream(), encode(&goodbye)) {
        in_time(sink.feed(Message::Binary(frame))).await?;
    }
    in_time(sink.close()).await
}

/// The next frame, after what waits has joined the round.
fn next(outbox: &mut Outbox, queue: &mut mpsc::Receiver<FromNode>) -> Option<Bytes> {
    while outbox.waiting_bytes() < WAITING_BYTES_MAX {
        let Ok(message) = queue.try_recv() else { break };
        push(outbox, &message);
    }
    outbox.pop()
}

fn push(outbox: &mut Outbox, message: &FromNode) {
    if outbox.push(message.stream(), encode(message)).is_ok() {
        return;
    }
    let error = WorkError::new(ErrorCode::Internal, "an answer is too large to be sent");
    let failed = FromNode::Failed { stream: message.stream(), error };
    outbox.push(failed.stream(), encode(&failed)).expect("a short message fits beside a long one");
}

async fn in_time(
    sent: impl Future<Output = Result<(), tungstenite::Error>>,
) -> Result<(), NodeError> {
    Ok(tokio::time::timeout(STALL_MAX, sent).await.map_err(|_| NodeError::Silent)??)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use protocol::frame::{Assembler, Limits};
    use protocol::{Event, Usage};

    use super::*;

    fn text(stream: u64, length: usize) -> FromNode {
        let event =
            Event::Text { choice: 0, text: "x".repeat(length), tokens: vec![], logprobs: vec![] };
        FromNode::Event { stream, event }
    }

    /// The streams of the messages in the order in which they are whole, with the frame's number.
    fn order(outbox: &mut Outbox, queue: &mut mpsc::Receiver<FromNode>) -> Vec<(u64, usize)> {
        let mut assembler = Assembler::new(Limits::default());
        let frames = std::iter::from_fn(|| next(outbox, queue)).enumerate();
        let whole = frames.filter_map(|(number, frame)| {
            let message = assembler.accept(&frame).expect("our own frames are good")?;
            Some((message.stream, number))
        });
        whole.collect()
    }

    #[test]
    fn a_token_overtakes_five_mebibytes_that_were_said_before_it() {
        let (out, mut queue) = mpsc::channel(8);
        let mut outbox = Outbox::new(WAITING_BYTES_MAX + MESSAGE_BYTES_MAX);
        push(&mut outbox, &text(1, 5 << 20));
        for message in [text(2, 1), text(2, 2)] {
            out.try_send(message).expect("there is room");
        }
        let order = order(&mut outbox, &mut queue);
        let tokens: Vec<_> = order.iter().filter(|(stream, _)| *stream == 2).collect();
        assert_eq!(tokens.len(), 2);
        assert!(tokens.iter().all(|(_, frame)| *frame <= 4), "{order:?}");
    }

    #[tokio::test]
    async fn goodbye_comes_after_the_last_event_of_every_answer() {
        let (out, queue) = mpsc::channel(8);
        let done = |stream| FromNode::Event { stream, event: Event::Done(Usage::default()) };
        for message in [text(1, 9), text(2, 9), done(1), done(2)] {
            out.try_send(message).expect("there is room");
        }
        drop(out);
        let mut sent = Vec::new();
        let sink = (&mut sent).sink_map_err(|never: Infallible| match never {});
        write(sink, queue).await.expect("a vector takes everything");
        let mut assembler = Assembler::new(Limits::default());
        let streams = sent.into_iter().map(|frame| {
            let frame = frame.into_data();
            assembler.accept(&frame).expect("our own frames are good").expect("short").stream
        });
        assert_eq!(streams.collect::<Vec<_>>(), [1, 2, 1, 2, 0]);
    }

    #[test]
    fn an_answer_that_is_too_large_fails_its_stream_and_no_other() {
        let (_out, mut queue) = mpsc::channel(1);
        let mut outbox = Outbox::new(WAITING_BYTES_MAX + MESSAGE_BYTES_MAX);
        push(&mut outbox, &text(1, MESSAGE_BYTES_MAX + 1));
        push(&mut outbox, &FromNode::Event { stream: 2, event: Event::Done(Usage::default()) });
        assert_eq!(order(&mut outbox, &mut queue), [(1, 0), (2, 1)]);
    }
}
