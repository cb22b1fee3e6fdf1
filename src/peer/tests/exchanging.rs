use super::super::AskError;
use super::*;
use crate::proto::wire::{Reply, code, frame, reply};
use futures_util::FutureExt;

fn reply() -> Reply {
    Reply { kind: Some(reply::Kind::Busy(wire::Busy {})) }
}

fn message(message: &impl prost::Message) -> Frame {
    Frame::Message(message.encode_to_vec().into())
}

#[tokio::test]
async fn frames_come_as_they_were_sent_and_the_end_after_them() {
    let (mut asking, mut answering, _nodes) = exchange().await;
    let body = body(200_000);
    answering.send_frame(Frame::Pulse).await.unwrap();
    answering.send_message(&reply()).await.unwrap();
    answering.send_data(body.clone()).await.unwrap();
    answering.send_frame(Frame::Chunk([9; 32])).await.unwrap();
    answering.send_frame(Frame::End(200_000)).await.unwrap();
    answering.finish();
    let (frames, data) = all(&mut asking).await.unwrap();
    let expected = [Frame::Pulse, message(&reply()), Frame::Chunk([9; 32]), Frame::End(200_000)];
    assert_eq!(frames, expected);
    assert_eq!(data, body);
}

#[tokio::test]
async fn an_asker_goes_on_speaking_while_it_is_answered() {
    let (mut asking, mut answering, _nodes) = exchange().await;
    for round in 0..3 {
        asking.send_frame(Frame::End(round)).await.unwrap();
        assert_eq!(in_time(answering.frame()).await.unwrap(), Some(Frame::End(round)));
        answering.send_frame(Frame::Pulse).await.unwrap();
        assert_eq!(in_time(asking.frame()).await.unwrap(), Some(Frame::Pulse));
    }
}

#[tokio::test]
async fn a_sender_waits_for_a_slow_reader_who_then_gets_every_byte() {
    let (mut asking, mut answering, [first, mut second]) = exchange().await;
    let body = body(8 << 20);
    let sent = body.clone();
    let mut sending = Box::pin(async move {
        answering.send_data(sent).await.unwrap();
        answering.finish();
    });
    // Other streams go on in the meantime, in both directions and many times over.
    let link = first.links.get(second.links.me().id).unwrap();
    for _ in 0..40 {
        assert_eq!(sending.as_mut().now_or_never(), None, "more was taken than the window allows");
        let other = async {
            let mut asking = link.ask(read()).await.unwrap();
            second.asked().await.1.finish();
            asking.frame().await
        };
        assert_eq!(in_time(other).await.unwrap(), None);
    }
    let reading = async { all(&mut asking).await.unwrap() };
    let ((frames, data), ()) = in_time(async { tokio::join!(reading, sending) }).await;
    assert!(frames.is_empty());
    assert!(data == body, "the bytes differ");
}

#[tokio::test]
async fn a_read_that_is_cancelled_within_a_frame_goes_on_where_it_was() {
    let (mut asking, mut answering, _nodes) = exchange().await;
    let said = wire::Failed { reason: "x".repeat(100_000) };
    let mut encoded = frame::message(&said);
    while !encoded.is_empty() {
        let part = encoded.split_to(encoded.len().min(30_001));
        answering.send_encoded(part).await.unwrap();
        // Reads begin and are given up, before, while and after the part arrives.
        for _ in 0..if encoded.is_empty() { 0 } else { 200 } {
            assert_eq!(asking.frame().now_or_never(), None);
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(in_time(asking.frame()).await.unwrap(), Some(message(&said)));
}

#[tokio::test]
async fn what_a_cancelled_write_had_not_sent_goes_before_the_next_one() {
    let (mut asking, mut answering, _nodes) = exchange().await;
    let body = body(8 << 20);
    assert_eq!(answering.send_data(body.clone()).now_or_never(), None);
    let sending = async {
        answering.send_frame(Frame::End(8 << 20)).await.unwrap();
        answering.finish();
    };
    let reading = async { all(&mut asking).await.unwrap() };
    let ((frames, data), ()) = in_time(async { tokio::join!(reading, sending) }).await;
    assert_eq!(frames, [Frame::End(8 << 20)]);
    assert!(data == body, "the bytes differ");
}

#[tokio::test]
async fn a_stream_that_ends_with_something_unsent_is_no_whole() {
    let (mut asking, mut answering, _nodes) = exchange().await;
    assert_eq!(answering.send_data(body(8 << 20)).now_or_never(), None);
    answering.finish();
    assert_eq!(all(&mut asking).await.err(), Some(AskError::Refused));
}

#[tokio::test]
async fn a_stream_that_ends_within_a_frame_breaks_the_protocol() {
    let (mut asking, mut answering, _nodes) = exchange().await;
    let encoded = frame::message(&wire::Failed { reason: "upstream".to_owned() });
    answering.send_encoded(encoded.slice(..encoded.len() - 1)).await.unwrap();
    answering.finish();
    assert_eq!(all(&mut asking).await.err(), Some(AskError::Protocol));
}

#[tokio::test]
async fn a_reset_says_why_to_reader_and_writer() {
    let cases = [
        (code::CANCELLED, AskError::Refused),
        (code::UPSTREAM, AskError::Upstream),
        (code::PROTOCOL, AskError::Protocol),
        (code::FORBIDDEN, AskError::Refused),
        (code::BUSY, AskError::Refused),
        (code::LEAVING, AskError::Refused),
        (999, AskError::Refused),
    ];
    for (code, expected) in cases {
        let (mut asking, answering, _nodes) = exchange().await;
        let unwanted = asking.unwanted();
        answering.reset(code);
        assert_eq!(in_time(asking.frame()).await, Err(expected), "code {code}");
        in_time(unwanted).await;
        assert_eq!(asking.send_frame(Frame::Pulse).await, Err(expected), "code {code}");
    }
}

#[tokio::test]
async fn a_stream_that_is_dropped_is_reset_and_one_without_peer_is_unreachable() {
    let (mut asking, answering, _nodes) = exchange().await;
    drop(answering);
    assert_eq!(in_time(asking.frame()).await, Err(AskError::Refused));
    let (mut asking, _answering, [_first, second]) = exchange().await;
    in_time(second.links.0.close()).await;
    assert_eq!(in_time(asking.frame()).await, Err(AskError::Unreachable));
}

/// For the log: `cargo test --release -- --nocapture mebibytes`.
#[tokio::test]
async fn mebibytes_in_a_second_over_one_exchange() {
    let (mut asking, mut answering, _nodes) = exchange().await;
    let length = if cfg!(debug_assertions) { 4 << 20 } else { 1 << 30 };
    let piece = body(1 << 20);
    let sending = async {
        for _ in 0..length / piece.len() {
            answering.send_data(piece.clone()).await.unwrap();
        }
        answering.finish();
    };
    let reading = async {
        let (mut read, mut frames) = (0, 0);
        while let Some(frame) = asking.frame().await.unwrap() {
            let Frame::Data(bytes) = frame else { panic!("{frame:?}") };
            read += bytes.len();
            frames += 1;
        }
        (read, frames)
    };
    let clock = Clock::system();
    let (began, cpu_began) = (clock.mono(), cpu());
    let ((read, frames), ()) = in_time(async { tokio::join!(reading, sending) }).await;
    let (took, cpu) = (clock.mono() - began, cpu() - cpu_began);
    assert_eq!(read, length);
    let mebibytes = length as f64 / f64::from(1 << 20);
    println!(
        "{mebibytes} MiB in {took:?}: {:.0} MiB/s, {:.0} MiB per CPU second, {} bytes a frame",
        mebibytes / took.as_secs_f64(),
        mebibytes / cpu.as_secs_f64(),
        read / frames
    );
}

/// Processor time of this thread, which is that of both nodes.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(stat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}
