//! The last byte of what a client gets of an unchecked body.

use super::*;
use crate::body::{Body, BodyError};
use crate::serve::body::FillBody;
use crate::serve::fill::LAGGARD_WAIT;
use futures_util::FutureExt;
use http_body_util::BodyExt;
use std::time::Duration;

/// A client's response with the bytes `range` of the fill.
fn response(rig: &Rig, leading: &Leading, (from, to): (u64, Option<u64>)) -> Body {
    let snapshot = rig.node().snapshot.load_full();
    let site = Arc::clone(&snapshot.config.sites[0]);
    let metrics = rig.node().metrics.site("shop");
    let key = &leading.arriving.draft.key;
    let object = key.object();
    let Joined::Follow(reader) = rig.node().fills.join((object, key), plain(object), || false) else {
        panic!("the fill can be joined");
    };
    FillBody::body(
        Arc::clone(&rig.worker),
        site,
        metrics,
        (Arc::clone(&leading.arriving), reader),
        (from, to),
    )
}

/// What can be read now.
async fn ready(body: &mut Body) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Ok(Some(frame)) = tokio::time::timeout(Duration::from_secs(1), body.frame()).await {
        bytes.extend_from_slice(&frame.unwrap().into_data().unwrap());
    }
    bytes
}

fn unchecked(rig: &Rig, length: usize) -> Leading {
    let leading = rig.lead(HeadDraft { length: Some(length as u64), ..draft("/a") }, None);
    leading.leader.distrust();
    leading.stream();
    leading
}

#[tokio::test(start_paused = true)]
async fn the_last_byte_waits_until_all_is_checked() {
    let (rig, body) = (Rig::new().await, body(MIB + 1000));
    let leading = unchecked(&rig, body.len());
    let mut whole = response(&rig, &leading, (0, Some(body.len() as u64)));
    let mut first = response(&rig, &leading, (0, Some(500)));
    let mut one = response(&rig, &leading, (700, Some(701)));
    leading.push(&body).await;
    assert!(ready(&mut whole).await == body[..body.len() - 1]);
    assert!(ready(&mut first).await == body[..499]);
    assert!(ready(&mut one).await.is_empty());

    let hashes = hashes(&body);
    leading.leader.checked(MIB as u64, hashes[0]);
    assert_eq!(ready(&mut first).await, body[499..500], "its own chunk is checked");
    assert_eq!(ready(&mut one).await, body[700..701]);
    assert!(ready(&mut whole).await.is_empty(), "one of its chunks is not");
    leading.leader.checked(body.len() as u64, hashes[1]);
    assert_eq!(ready(&mut whole).await, body[body.len() - 1..]);
    assert!(http_body::Body::is_end_stream(&whole));
    let sent = rig.sample("shoal_response_bytes_total{site=\"shop\",source=\"peer\"}");
    assert_eq!(sent, body.len() as u64 + 501);
}

#[tokio::test(start_paused = true)]
async fn the_last_byte_never_comes_if_the_check_fails() {
    let (rig, body) = (Rig::new().await, body(1000));
    let leading = unchecked(&rig, body.len());
    let mut before = response(&rig, &leading, (0, Some(1000)));
    let mut after = response(&rig, &leading, (0, Some(1000)));
    leading.push(&body).await;
    assert_eq!(ready(&mut before).await.len(), 999);
    leading.leader.broken(leading.arriving, "upstream corrupt");
    for body in [&mut before, &mut after] {
        let error = body.frame().await.expect("no end").expect_err("no bytes");
        assert!(matches!(error, BodyError::Fill("upstream corrupt")), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_of_unknown_length_ends_only_after_the_check() {
    let (rig, body) = (Rig::new().await, body(1000));
    let leading = rig.lead(draft("/a"), None);
    leading.leader.distrust();
    leading.stream();
    let mut whole = response(&rig, &leading, (0, None));
    leading.push(&body).await;
    assert_eq!(ready(&mut whole).await, body);
    leading.leader.checked(1000, hashes(&body)[0]);
    leading.leader.complete(leading.arriving, None);
    assert!(whole.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_comes_from_the_origin_waits_for_nothing() {
    let (rig, body) = (Rig::new().await, body(1000));
    let leading = rig.lead(HeadDraft { length: Some(1000), ..draft("/a") }, None);
    leading.stream();
    let mut whole = response(&rig, &leading, (0, Some(1000)));
    leading.push(&body).await;
    assert_eq!(ready(&mut whole).await, body);
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_is_waited_for_once_and_then_no_more() {
    let (rig, body) = (Rig::new().await, body(40 * MIB));
    let leading = rig.lead(HeadDraft { length: Some(body.len() as u64), ..draft("/a") }, None);
    leading.stream();
    let _stalled = response(&rig, &leading, (0, Some(body.len() as u64)));
    let mut reading = response(&rig, &leading, (0, Some(body.len() as u64)));
    // The task that leads reads too, as it does not in earnest.
    drop(leading.reader);
    let began = rig.node().clock.mono();
    let mut read = 0;
    for piece in body.chunks(MIB) {
        leading.leader.push(Bytes::copy_from_slice(piece), Pace::Slowest).await;
        while read < body.len()
            && let Some(frame) = reading.frame().now_or_never()
        {
            read += frame.unwrap().unwrap().into_data().unwrap().len();
        }
    }
    assert_eq!(read, body.len());
    assert_eq!(rig.node().clock.mono() - began, LAGGARD_WAIT);
}
