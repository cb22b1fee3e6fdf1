//! What is arriving.

use super::*;
use crate::proto::wire::code;
use crate::serve::Failure;
use crate::serve::fill::{Refreshed, Under};
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn a_follower_that_waits_for_a_head_gets_a_pulse_every_100_ms() {
    let rig = Rig::new().await;
    let leading = rig.lead(draft("/a"), None);
    leading.leader.under(Under::Lease(token(1)));
    let begun = rig.node().clock.mono();
    let mut asked = rig.read(under(token(1), all_of("/a")));
    for pulse in 1..=20 {
        assert_eq!(asked.next().await, Event::Pulse);
        assert_eq!(rig.node().clock.mono() - begun, Duration::from_millis(100 * pulse));
    }
    leading.stream();
    let Event::Reply(reply::Kind::Head(head)) = asked.next().await else { panic!("no head") };
    assert!(head.arriving && head.hashes.is_empty());
    assert_eq!((head.length, head.age), (None, AGE + 2));
    assert_eq!(rig.answered("relayed"), 1);
    assert_eq!(asked.next().await, Event::Pulse, "also within the body");
}

#[tokio::test(start_paused = true)]
async fn bytes_are_relayed_at_once_and_hashes_only_when_the_fill_has_checked_them() {
    let (rig, body) = (Rig::new().await, body(MIB + 500));
    let leading = rig.lead(HeadDraft { length: Some(body.len() as u64), ..draft("/a") }, None);
    leading.leader.under(Under::Lease(token(1)));
    leading.leader.distrust();
    leading.stream();
    let mut asked = rig.read(under(token(1), all_of("/a")));
    assert_eq!(asked.head().await.length, Some(body.len() as u64));
    leading.push(&body[..700_000]).await;
    assert!(asked.bytes(700_000).await == body[..700_000]);
    leading.push(&body[700_000..]).await;
    asked.bytes(MIB - 700_000).await;
    assert_eq!(asked.next().await, Event::Pulse, "no bytes of the next chunk, and no hash yet");
    let hashes = hashes(&body);
    leading.leader.checked(MIB as u64, hashes[0]);
    assert_eq!(asked.sign().await, Event::Chunk(hashes[0]));
    assert!(asked.bytes(500).await == body[MIB..]);
    assert_eq!(asked.next().await, Event::Pulse, "no end yet");
    leading.leader.checked(body.len() as u64, hashes[1]);
    leading.leader.complete(leading.arriving, None);
    assert_eq!(asked.sign().await, Event::Chunk(hashes[1]));
    assert_eq!(asked.sign().await, Event::End(body.len() as u64));
    assert_eq!(asked.next().await, Event::Finished);
    assert_eq!(rig.sample("shoal_peer_given_bytes_total{kind=\"relayed\"}"), body.len() as u64);
    drop(leading.reader);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_is_broken_off_and_never_ended() {
    let (rig, body) = (Rig::new().await, body(1000));
    let leading = rig.lead(draft("/a"), None);
    leading.stream();
    let mut asked = rig.read(all_of("/a"));
    asked.head().await;
    leading.push(&body).await;
    asked.bytes(1000).await;
    leading.leader.broken(leading.arriving, "upstream corrupt");
    assert_eq!(asked.sign().await, Event::Reset(code::UPSTREAM));
}

#[tokio::test(start_paused = true)]
async fn a_body_whose_last_chunk_was_never_checked_is_not_ended() {
    let (rig, body) = (Rig::new().await, body(1000));
    let leading = rig.lead(draft("/a"), None);
    leading.stream();
    let mut asked = rig.read(all_of("/a"));
    asked.head().await;
    leading.push(&body).await;
    leading.leader.complete(leading.arriving, None);
    assert_eq!(asked.rest().await.last, Event::Reset(code::UPSTREAM));
}

#[tokio::test(start_paused = true)]
async fn a_part_of_an_arriving_body_begins_and_ends_where_it_was_asked_to() {
    let (rig, body) = (Rig::new().await, body(2 * MIB + 10));
    let leading = rig.lead(draft("/a"), None);
    leading.stream();
    let version = leading.arriving.draft.version.0.to_vec();
    let part = wire::Read { version, from: MIB as u64, to: 2 * MIB as u64, ..all_of("/a") };
    let mut part = rig.read(part);
    let mut whole = rig.read(wire::Read { to: MIB as u64, ..all_of("/a") });
    let beyond = rig.read(wire::Read { from: 9 * MIB as u64, ..all_of("/a") });
    part.head().await;
    let hashes = hashes(&body);
    for (piece, end) in [(&body[..MIB], MIB), (&body[MIB..2 * MIB], 2 * MIB), (&body[2 * MIB..], body.len())]
    {
        leading.push(piece).await;
        leading.leader.checked(end as u64, hashes[(end - 1) / MIB]);
    }
    let came = part.rest().await;
    assert!(came.bytes == body[MIB..2 * MIB]);
    assert_eq!((came.hashes, came.end, came.last), (vec![(MIB, hashes[1])], None, Event::Finished));
    leading.leader.complete(leading.arriving, None);
    whole.head().await;
    let came = whole.rest().await;
    assert!(
        came.bytes == body && came.end == Some(body.len() as u64),
        "whoever names no version gets all of it"
    );
    let mut beyond = beyond;
    beyond.head().await;
    assert_eq!(beyond.rest().await.last, Event::Reset(code::PROTOCOL));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_ends_before_the_end_of_the_range_is_ended_there() {
    for length in [None, Some(1000)] {
        let (rig, body) = (Rig::new().await, body(1000));
        let leading = rig.lead(HeadDraft { length, ..draft("/a") }, None);
        leading.stream();
        let mut first = rig.read(wire::Read { to: MIB as u64, ..all_of("/a") });
        first.head().await;
        leading.push(&body).await;
        leading.leader.checked(1000, hashes(&body)[0]);
        leading.leader.complete(leading.arriving, None);
        let came = first.rest().await;
        assert_eq!((came.end, came.last, came.hashes.len()), (Some(1000), Event::Finished, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn who_comes_late_reads_the_start_from_the_store_and_is_cut_if_it_is_not_there() {
    let (rig, body) = (Rig::new().await, body(10 * MIB));
    let leading = rig.lead(draft("/a"), None);
    leading.stream();
    let mut early = rig.read(all_of("/a"));
    early.head().await;
    // Faster than the follower can take it, and nothing of it is stored.
    for piece in body.chunks(MIB) {
        leading.leader.push(Bytes::copy_from_slice(piece), Pace::Free).await;
    }
    leading.leader.wake();
    assert_eq!(early.rest().await.last, Event::Reset(code::UPSTREAM));
    assert_eq!(rig.read(all_of("/a")).only().await, gone(), "its start is nowhere");
    let mut later = rig.read(wire::Read { from: 9 * MIB as u64, ..all_of("/a") });
    later.head().await;
    assert!(later.bytes(MIB).await == body[9 * MIB..], "its end is in the window");
}

#[tokio::test(start_paused = true)]
async fn a_fill_without_a_head_is_waited_for_under_its_own_lease_or_if_it_asks_the_origin() {
    let ways = [
        (Under::Lease(token(1)), Some(token(1)), true),
        (Under::Lease(token(1)), Some(token(2)), false),
        (Under::Lease(token(1)), None, false),
        (Under::Origin, None, true),
        (Under::Origin, Some(token(1)), true),
        (Under::Peer, None, false),
        (Under::Peer, Some(token(1)), false),
    ];
    for (ground, follow, may) in ways {
        let rig = Rig::new().await;
        let leading = rig.lead(draft("/a"), None);
        let mut asked = rig.read(wire::Read { follow, ..all_of("/a") });
        assert_eq!(asked.next().await, Event::Pulse, "nothing is decided yet");
        leading.leader.under(ground);
        if may {
            assert_eq!(asked.next().await, Event::Pulse, "{ground:?} {follow:?}");
            leading.stream();
            asked.head().await;
        } else {
            assert_eq!(asked.only().await, gone(), "{ground:?} {follow:?}");
            leading.stream();
            rig.read(wire::Read { follow, ..all_of("/a") }).head().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_fill_that_turns_to_another_ground_is_waited_for_no_longer() {
    let rig = Rig::new().await;
    let leading = rig.lead(draft("/a"), None);
    leading.leader.under(Under::Lease(token(1)));
    let mut asked = rig.read(under(token(1), all_of("/a")));
    assert_eq!(asked.next().await, Event::Pulse);
    leading.leader.under(Under::Peer);
    assert_eq!(asked.only().await, gone());
}

#[tokio::test(start_paused = true)]
async fn who_follows_a_lease_gets_what_arrives_and_others_what_is_stored() {
    let rig = Rig::new().await;
    let old = HeadDraft {
        version: key::version(object("/a"), plain(object("/a")), Pin::Nonce([1; 16])),
        ..draft("/a")
    };
    rig.store(old, b"old").await;
    let leading = rig.lead(draft("/a"), None);
    leading.leader.under(Under::Lease(token(1)));
    let mut stored = rig.read(all_of("/a"));
    assert!(!stored.head().await.arriving);
    assert_eq!(stored.rest().await.bytes, b"old");
    let mut other = rig.read(under(token(2), all_of("/a")));
    assert!(!other.head().await.arriving, "another lease's");
    let mut live = rig.read(under(token(1), all_of("/a")));
    assert_eq!(live.next().await, Event::Pulse);
    leading.stream();
    assert!(live.head().await.arriving);
}

#[tokio::test(start_paused = true)]
async fn a_fifth_follower_is_told_that_it_is_too_crowded() {
    let rig = Rig::new().await;
    let leading = rig.lead(draft("/a"), None);
    leading.stream();
    let mut four: Vec<_> = (0..4).map(|_| rig.read(all_of("/a"))).collect();
    for asked in &mut four {
        asked.head().await;
    }
    assert!(matches!(rig.read(all_of("/a")).only().await, reply::Kind::Busy(_)));
    assert_eq!(rig.answered("busy"), 1);
    // One leaves, as the next sign of life finds out.
    drop(four.pop());
    tokio::time::sleep(Duration::from_millis(150)).await;
    rig.read(all_of("/a")).head().await;
}

#[tokio::test(start_paused = true)]
async fn a_follower_of_another_variant_is_told_what_the_object_varies_by() {
    let rig = Rig::new().await;
    let (draft, list) = varying("/a");
    let leading = rig.lead(draft.clone(), Some(list.clone()));
    leading.leader.under(Under::Lease(token(1)));
    let mut asked = rig.read(under(token(1), all_of("/a")));
    assert_eq!(asked.next().await, Event::Pulse);
    rig.node().known.storable(object("/a"), Some(list));
    leading.stream();
    let names = reply::Kind::Varies(wire::Varies { names: vec!["accept-encoding".into()] });
    assert_eq!(asked.only().await, names);
    assert_eq!(rig.read(under(token(1), all_of("/a"))).only().await, names, "also who comes later");
    let read = wire::Read { variant: draft.variant.0.to_vec(), ..all_of("/a") };
    assert_eq!(rig.read(under(token(1), read)).head().await.vary, ["accept-encoding"]);
}

#[tokio::test(start_paused = true)]
async fn what_arrives_is_not_given_if_it_is_personal_or_another_version() {
    let rig = Rig::new().await;
    let leading = rig.lead(HeadDraft { personal: true, ..draft("/mine") }, None);
    leading.stream();
    assert_eq!(rig.read(all_of("/mine")).only().await, gone());
    let leading = rig.lead(draft("/a"), None);
    leading.stream();
    assert_eq!(rig.read(wire::Read { version: vec![1; 16], ..all_of("/a") }).only().await, gone());
    let held = wire::Read { held: draft("/a").version.0.to_vec(), ..all_of("/a") };
    assert!(matches!(rig.read(held).only().await, reply::Kind::Head(head) if head.same && head.arriving));
}

#[tokio::test(start_paused = true)]
async fn a_fill_without_a_body_is_answered_by_what_it_came_to() {
    let end = async |end: fn(Leader, Hit)| {
        let rig = Rig::new().await;
        let hit = rig.store(draft("/stored"), b"validated").await;
        let leading = rig.lead(draft("/a"), None);
        leading.leader.under(Under::Lease(token(1)));
        let mut asked = rig.read(under(token(1), all_of("/a")));
        assert_eq!(asked.next().await, Event::Pulse);
        end(leading.leader, hit);
        asked.reply().await
    };
    let not = end(|leader, _| leader.not_stored_elsewhere(true)).await;
    assert_eq!(not, reply::Kind::NotStored(wire::NotStored { server_error: true, of_object: false }));
    let failed = end(|leader, _| leader.failed(Failure::Abandoned)).await;
    assert_eq!(failed, reply::Kind::Failed(wire::Failed { reason: "abandoned".into() }));
    assert_eq!(end(|leader, _| leader.unfit()).await, gone());
    assert_eq!(end(|leader, _| drop(leader)).await, failed, "a leader that is gone");
}

#[tokio::test(start_paused = true)]
async fn a_validated_version_comes_as_what_is_stored() {
    let rig = Rig::new().await;
    let hit = rig.store(draft("/a"), b"validated").await;
    let leading = rig.lead(draft("/a"), None);
    leading.leader.under(Under::Lease(token(1)));
    let mut asked = rig.read(under(token(1), all_of("/a")));
    assert_eq!(asked.next().await, Event::Pulse);
    leading.leader.refreshed(Refreshed::kept(hit));
    assert!(!asked.head().await.arriving);
    assert_eq!(asked.rest().await.bytes, b"validated");
}
