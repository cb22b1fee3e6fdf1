//! What is stored.

use super::*;
use crate::proto::wire::code;
use std::time::Duration;

/// Hashes behind the ends of chunks, as a reader from the start sees them.
fn behind(body: &[u8]) -> Vec<(usize, [u8; 32])> {
    let ends = (1..).map(|chunk| (chunk * MIB).min(body.len()));
    ends.zip(hashes(body)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_stored_version_comes_whole_with_all_hashes_in_its_head_and_one_behind_each_chunk() {
    for length in [0, 1, 65_537, MIB - 1, MIB, 2 * MIB + 300_000] {
        let (rig, body) = (Rig::new().await, body(length));
        let hit = rig.store(draft("/a"), &body).await;
        tokio::time::advance(Duration::from_secs(5)).await;
        let mut asked = rig.read(all_of("/a"));
        let head = asked.head().await;
        assert_eq!((head.status, head.age, head.length), (200, AGE + 5, Some(length as u64)));
        assert_eq!(head.key, cache_key("/a").as_bytes());
        assert_eq!((head.variant, head.version), (hit.head.variant.0.to_vec(), hit.head.version.0.to_vec()));
        assert_eq!((head.arriving, head.same, head.vary), (false, false, vec![]));
        assert_eq!(head.hashes, hashes(&body).concat(), "{length}");
        let etag = wire::Field { name: "etag".into(), value: b"\"a\"".to_vec() };
        assert!(head.fields.contains(&etag), "{:?}", head.fields);
        let came = asked.rest().await;
        assert!(came.bytes == body, "{length}");
        assert_eq!(came.hashes, behind(&body));
        assert_eq!((came.end, came.last), (Some(length as u64), Event::Finished));
        assert_eq!(rig.answered("stored"), 1);
        assert_eq!(rig.sample("shoal_peer_given_bytes_total{kind=\"stored\"}"), length as u64);
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_comes_with_the_hashes_of_the_chunks_that_end_in_it_and_says_the_end_only_there() {
    let (rig, body) = (Rig::new().await, body(2 * MIB + 300_000));
    rig.store(draft("/a"), &body).await;
    let hashes = hashes(&body);
    let part = |from: usize, to: usize| wire::Read { from: from as u64, to: to as u64, ..all_of("/a") };
    for (from, to, behind, end) in [
        (MIB, 2 * MIB, vec![(MIB, hashes[1])], None),
        (0, MIB, vec![(MIB, hashes[0])], None),
        (100, MIB, vec![(MIB - 100, hashes[0])], None),
        (10, 70_000, vec![], None),
        (2 * MIB, 3 * MIB, vec![(300_000, hashes[2])], Some(body.len() as u64)),
        (2 * MIB, body.len(), vec![(300_000, hashes[2])], Some(body.len() as u64)),
        (body.len(), 0, vec![], Some(body.len() as u64)),
        (MIB, MIB, vec![], None),
    ] {
        let mut asked = rig.read(part(from, to));
        let listed = if from == 0 { 3 * 32 } else { 0 };
        assert_eq!(asked.head().await.hashes.len(), listed, "all hashes for who begins");
        let came = asked.rest().await;
        let to = if to == 0 { body.len() } else { to.min(body.len()) };
        assert!(came.bytes == body[from..to], "{from}..{to}");
        assert_eq!((came.hashes, came.end, came.last), (behind, end, Event::Finished), "{from}..{to}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_range_that_is_none_and_identities_that_are_none_break_the_protocol() {
    let rig = Rig::new().await;
    rig.store(draft("/a"), &body(1000)).await;
    for wrong in [
        wire::Read { from: 20, to: 10, ..all_of("/a") },
        wire::Read { from: 1001, ..all_of("/a") },
        wire::Read { object: vec![1; 15], ..all_of("/a") },
        wire::Read { variant: vec![], ..all_of("/a") },
        wire::Read { version: vec![1], ..all_of("/a") },
        wire::Read { held: vec![1; 17], ..all_of("/a") },
    ] {
        assert_eq!(rig.read(wrong.clone()).refused().await, code::PROTOCOL, "{wrong:?}");
    }
    assert_eq!(rig.answered("refused"), 6);
    let resolve = ask::Kind::Resolve(wire::Resolve::default());
    assert_eq!(rig.ask(resolve).refused().await, code::PROTOCOL);
}

#[tokio::test(start_paused = true)]
async fn only_edges_are_given_anything() {
    let rig = Rig::new().await;
    rig.store(draft("/a"), b"x").await;
    let superpeer = Roles { edge: false, superpeer: true };
    assert_eq!(rig.ask_as(superpeer, ask::Kind::Read(all_of("/a"))).refused().await, code::FORBIDDEN);
}

#[tokio::test(start_paused = true)]
async fn another_version_than_the_one_wanted_is_not_given() {
    let rig = Rig::new().await;
    let version = rig.store(draft("/a"), b"x").await.head.version.0.to_vec();
    let this = wire::Read { version, ..all_of("/a") };
    rig.read(this).head().await;
    let other = wire::Read { version: vec![1; 16], ..all_of("/a") };
    assert_eq!(rig.read(other).only().await, gone());
    assert_eq!(rig.read(all_of("/nothing")).only().await, gone());
    assert_eq!(rig.answered("gone"), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_personal_never_leaves_the_node() {
    let rig = Rig::new().await;
    let version = rig.store(HeadDraft { personal: true, ..draft("/a") }, b"secret").await.head.version;
    let read = wire::Read { held: version.0.to_vec(), ..all_of("/a") };
    assert_eq!(rig.read(read).only().await, gone());
    assert_eq!(rig.read(all_of("/a")).only().await, gone());
}

#[tokio::test(start_paused = true)]
async fn of_the_version_that_the_peer_holds_only_the_head_comes() {
    let rig = Rig::new().await;
    let version = rig.store(draft("/a"), &body(1000)).await.head.version.0.to_vec();
    let held = wire::Read { held: version.clone(), ..all_of("/a") };
    let reply::Kind::Head(head) = rig.read(held).only().await else { panic!("no head") };
    assert_eq!((head.same, head.version, head.age), (true, version, AGE));
    assert_eq!(rig.answered("same"), 1);
    let held = wire::Read { held: vec![1; 16], ..all_of("/a") };
    let mut asked = rig.read(held);
    assert!(!asked.head().await.same);
    assert_eq!(asked.rest().await.bytes.len(), 1000);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_knows_another_vary_list_is_told_the_names() {
    let rig = Rig::new().await;
    let (draft, _) = varying("/a");
    rig.store(draft.clone(), b"zipped").await;
    let names = wire::Varies { names: vec!["accept-encoding".into()] };
    assert_eq!(rig.read(all_of("/a")).only().await, reply::Kind::Varies(names));
    let read = wire::Read { variant: draft.variant.0.to_vec(), ..all_of("/a") };
    let mut asked = rig.read(read);
    assert_eq!(asked.head().await.vary, ["accept-encoding"]);
    assert_eq!(asked.rest().await.bytes, b"zipped");

    rig.store(super::draft("/b"), b"plain").await;
    let read = wire::Read { variant: vec![3; 16], ..all_of("/b") };
    let none = wire::Varies { names: vec![] };
    assert_eq!(rig.read(read).only().await, reply::Kind::Varies(none), "it does not vary");
    assert_eq!(rig.answered("varies"), 2);
}

#[test]
fn each_peer_and_all_together_have_so_many_places() {
    let uploads = Arc::new(super::super::Uploads::default());
    let fill = |peer| std::iter::from_fn(|| uploads.enter(NodeId([peer; 16]))).collect::<Vec<_>>();
    let first = fill(1);
    assert_eq!(first.len(), super::super::PEER_UPLOADS_MAX);
    let others: Vec<_> = (2..20).flat_map(fill).collect();
    assert_eq!(first.len() + others.len(), super::super::UPLOADS_MAX);
    drop(others);
    assert!(uploads.enter(NodeId([1; 16])).is_none() && uploads.enter(NodeId([2; 16])).is_some());
    drop(first);
    assert!(uploads.0.lock().is_empty(), "what nobody holds takes no room");
}

#[tokio::test(start_paused = true)]
async fn who_has_applied_purges_that_are_not_applied_here_is_given_nothing() {
    use crate::proto::purge::{Coverage, Issuer, Mode, PurgeId, Selector};
    let rig = Rig::new().await;
    rig.store(draft("/a"), &body(10)).await;
    let purges = &rig.node().purges;
    let read =
        |digest: Vec<u8>, theirs: &Coverage| wire::Read { digest, covered: theirs.to_wire(), ..all_of("/a") };
    let nothing = Coverage::default();
    // The same, by hash; an older node, which says nothing.
    assert_eq!(rig.read(read(purges.digest().0.to_vec(), &nothing)).head().await.status, 200);
    assert_eq!(rig.read(all_of("/a")).head().await.status, 200);
    // More than is covered here, by hash and in words.
    let more: Coverage = [PurgeId { issuer: Issuer(1), number: 1 }].into_iter().collect();
    for asked in [read(more.digest().0.to_vec(), &nothing), read(more.digest().0.to_vec(), &more)] {
        let reply::Kind::Apart(apart) = rig.read(asked).reply().await else { panic!("it is given") };
        assert_eq!(apart.covered, vec![]);
    }
    // Less than is covered here: by hash that cannot be told.
    let selector = Selector::Tag { site: None, tag: "t".to_owned() };
    purges.issue(Mode::Hard, std::slice::from_ref(&selector)).await.unwrap();
    let before = purges.coverage();
    purges.issue(Mode::Hard, &[selector]).await.unwrap();
    let reply::Kind::Apart(apart) = rig.read(read(before.digest().0.to_vec(), &nothing)).reply().await else {
        panic!("it is given")
    };
    assert_eq!(Coverage::of_wire(&apart.covered), Ok(purges.coverage()));
    assert_eq!(rig.read(read(before.digest().0.to_vec(), &before)).head().await.status, 200);
    assert_eq!(rig.answered("apart"), 3);
    assert_eq!(rig.sample("shoal_purge_reads_apart_total"), 3);
    for malformed in [
        read(vec![1; 15], &nothing),
        wire::Read { covered: vec![wire::Covered::default()], ..read(vec![1; 16], &more) },
    ] {
        assert_eq!(rig.read(malformed).rest().await.last, Event::Reset(code::PROTOCOL));
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_peer_says_has_changed_is_dropped_if_it_is_known() {
    let rig = Rig::new().await;
    rig.store(draft("/a"), &body(10)).await;
    rig.store(draft("/b"), &body(10)).await;
    let (changed, unknown) = (object("/a"), object("/c"));
    let invalidate = |objects: Vec<Vec<u8>>| ask::Kind::Invalidate(wire::Invalidate { objects });
    let told = invalidate(vec![changed.0.to_vec(), unknown.0.to_vec()]);
    assert_eq!(rig.ask(told).rest().await.last, Event::Finished);
    let stored = |path| !rig.node().store.inspect(object(path)).is_empty();
    assert_eq!((stored("/a"), stored("/b")), (false, true));
    assert!(rig.node().known.invalidated_at(changed).is_some(), "nothing older is taken from peers");
    assert!(rig.node().known.invalidated_at(unknown).is_none(), "what is not known takes no room");
    assert_eq!(rig.sample("shoal_invalidations_total{from=\"peer\"}"), 1);
    for malformed in [vec![vec![0; 15]], vec![vec![0; 16]; wire::INVALIDATED_MAX + 1]] {
        assert_eq!(rig.ask(invalidate(malformed)).rest().await.last, Event::Reset(code::PROTOCOL));
    }
}
