//! How the head of a version is found and judged.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_a_holder_has_is_taken_with_its_age_and_stored_here() {
    let rig = Rig::new().await;
    let version = rig.version(body(100)).listed();
    rig.fake.answers([holders([1])]);
    let own = version.clone();
    rig.fake.peer(1, move |read| Ok(own.says(read)));
    let filled = rig.fill().await;
    filled.is_whole(&version.body);
    let Filled::Read { source, age, .. } = filled else { unreachable!() };
    assert_eq!((source, age), (Source::Peer, 10));
    let stored = rig.stored().expect("stored");
    assert!(!stored.head.personal && stored.head.initial_age == 10);
    let (_, read) = &rig.fake.reads()[0];
    assert_eq!((read.from, read.to, read.follow), (0, CHUNK_SIZE, None));
    assert_eq!(rig.metric(r#"shoal_peer_fetches_total{site="shop",kind="holder"}"#), 1.0);
    assert_eq!(rig.metric(r#"shoal_peer_taken_bytes_total{site="shop"}"#), 100.0);
}

/// A holder that gives `version` is of no use; the next one is asked.
async fn is_passed_over(rig: &Rig, version: Had, failure: &str) {
    let good = rig.version(body(50)).listed();
    let whole = good.body.clone();
    rig.fake.answers([holders([1, 2])]);
    rig.fake.peer(1, move |read| Ok(version.says(read)));
    rig.fake.peer(2, move |read| Ok(good.says(read)));
    rig.fill().await.is_whole(&whole);
    assert_eq!(rig.fake.reads().iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(rig.failures(failure), 1.0, "{failure}");
}

#[tokio::test(start_paused = true)]
async fn a_stale_copy_is_gone_and_the_directory_is_told() {
    let rig = Rig::new().await;
    let mut version = rig.version(body(50)).listed();
    version.head.age = 100;
    is_passed_over(&rig, version, "gone").await;
    assert_eq!(*rig.fake.0.gone.lock(), [place(1).node]);
}

#[tokio::test(start_paused = true)]
async fn a_head_of_another_object_is_passed_over() {
    let rig = Rig::new().await;
    let mut version = rig.version(body(50)).listed();
    version.head.key.push(0);
    is_passed_over(&rig, version, "gone").await;
}

#[tokio::test(start_paused = true)]
async fn a_head_with_an_identity_that_is_not_its_own_is_passed_over() {
    let rig = Rig::new().await;
    let mut version = rig.version(body(50)).listed();
    version.head.version = vec![7; 16];
    is_passed_over(&rig, version, "protocol").await;
}

#[tokio::test(start_paused = true)]
async fn a_head_with_the_wrong_number_of_hashes_is_passed_over() {
    let rig = Rig::new().await;
    let mut version = rig.version(body(50)).listed();
    version.head.hashes.extend([0; 32]);
    is_passed_over(&rig, version, "protocol").await;
}

#[tokio::test(start_paused = true)]
async fn a_head_whose_length_is_not_that_of_its_fields_is_passed_over() {
    let rig = Rig::new().await;
    let version = rig.version(body(50)).listed().with_field("content-length", "51");
    is_passed_over(&rig, version, "protocol").await;
}

#[tokio::test(start_paused = true)]
async fn a_body_of_unknown_length_must_not_state_one() {
    let rig = Rig::new().await;
    let mut version = rig.version(body(50)).with_field("content-length", "49");
    version.head.length = None;
    is_passed_over(&rig, version, "protocol").await;
}

#[tokio::test(start_paused = true)]
async fn what_may_be_older_than_an_invalidation_here_is_passed_over() {
    let rig = Rig::new().await;
    let object = rig.asking(&[], Reach::Swarm).object;
    rig.worker.node.known.invalidated(object, rig.worker.node.clock.now().wall);
    tokio::time::advance(Duration::from_secs(5)).await;
    let older = rig.version(body(50)).listed();
    let mut newer = rig.version(body(60)).listed();
    newer.head.age = 3;
    let whole = newer.body.clone();
    rig.fake.answers([holders([1, 2])]);
    rig.fake.peer(1, move |read| Ok(older.says(read)));
    rig.fake.peer(2, move |read| Ok(newer.says(read)));
    rig.fill().await.is_whole(&whole);
    assert_eq!(*rig.fake.0.gone.lock(), [place(1).node], "who has what was before is named no more");
}

#[tokio::test(start_paused = true)]
async fn malformed_fields_are_passed_over() {
    let rig = Rig::new().await;
    let version = rig.version(body(50)).listed().with_field("bad name", "x");
    is_passed_over(&rig, version, "protocol").await;
}

#[tokio::test(start_paused = true)]
async fn a_small_body_that_does_not_match_its_hash_is_never_delivered_and_its_sender_blamed() {
    let rig = Rig::new().await;
    let (good, mut bad) = (rig.version(body(50)).listed(), body(50).to_vec());
    bad[7] ^= 1;
    let whole = good.body.clone();
    rig.fake.answers([holders([1, 2])]);
    let own = good.clone();
    rig.fake.peer(1, move |read| Ok(own.says_of(&bad, read)));
    rig.fake.peer(2, move |read| Ok(good.says(read)));
    rig.fill().await.is_whole(&whole);
    assert_eq!(rig.fake.blamed(), [(place(1).node, Blame::BadChunk)]);
    assert_eq!(rig.metric("shoal_peer_duplicate_bytes_total"), 50.0);
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_stored_here_is_not_taken() {
    let rig = Rig::new().await;
    let version = rig.version(body(50)).listed().with_field("cache-control", "private");
    rig.fake.answers([holders([1])]);
    rig.fake.peer(1, move |read| Ok(version.says(read)));
    assert!(matches!(rig.fill().await, Filled::NotStored(false)));
    assert!(rig.stored().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_word_that_it_may_not_be_stored_sends_those_who_wait_alone_and_is_kept_in_mind() {
    let rig = Rig::new().await;
    rig.fake.answers([follow(1)]);
    let not = wire::NotStored { server_error: true, of_object: true };
    rig.fake.peer(1, move |_| Ok(vec![reply(reply::Kind::NotStored(not.clone()))]));
    assert!(matches!(rig.fill().await, Filled::NotStored(true)));
    let object = rig.asking(&[], Reach::Swarm).object;
    assert!(rig.worker.node.known.is_uncacheable(object, rig.worker.node.clock.now().wall));
}

/// An object that varies by `accept-language`, as the peer gives it to those who speak `language`.
fn varying(rig: &Rig, language: &'static str) -> Had {
    let asking = rig.asking(&[("accept-language", language)], Reach::Swarm);
    let list = head::vary_list(&["accept-language".to_owned()]).unwrap().unwrap();
    let variant = list.variant(asking.object, &asking.selecting);
    let mut version = rig.version(body(60)).listed().with_field("vary", "accept-language");
    version.head.vary = vec!["accept-language".to_owned()];
    version.head.variant = variant.0.to_vec();
    version.head.version = key::version(asking.object, variant, Pin::StrongEtag(b"\"1\"")).0.to_vec();
    version
}

#[tokio::test(start_paused = true)]
async fn an_asker_that_learns_what_the_object_varies_by_asks_for_its_own_variant() {
    let rig = Rig::new().await;
    let (english, german) = (varying(&rig, "en"), varying(&rig, "de"));
    rig.fake.answers([holders([1]), holders([2])]);
    rig.fake.peer(1, move |read| Ok(english.says(read)));
    let own = german.clone();
    rig.fake.peer(2, move |read| Ok(own.says(read)));
    let asking = rig.asking(&[("accept-language", "de")], Reach::Swarm);
    rig.fill_for(asking).await.is_whole(&german.body);
    let queries = rig.fake.0.queries.lock();
    assert!(!queries[0].vary_known && queries[1].vary_known);
    assert_eq!(queries[1].variant.0[..], german.head.variant[..]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_names_the_list_that_was_known_has_nothing() {
    let rig = Rig::new().await;
    let german = varying(&rig, "de");
    let list = wire::Varies { names: vec!["accept-language".to_owned()] };
    let varies = reply(reply::Kind::Varies(list));
    rig.fake.answers([holders([1]), holders([1, 2])]);
    rig.fake.peer(1, move |_| Ok(vec![varies.clone()]));
    let own = german.clone();
    rig.fake.peer(2, move |read| Ok(own.says(read)));
    let asking = rig.asking(&[("accept-language", "de")], Reach::Swarm);
    rig.fill_for(asking).await.is_whole(&german.body);
    assert_eq!(*rig.fake.0.gone.lock(), [place(1).node]);
}

#[tokio::test(start_paused = true)]
async fn without_a_directory_the_home_edge_is_asked_without_what_is_the_clients_own() {
    let rig = Rig::new().await;
    let version = rig.version(body(70));
    *rig.fake.0.home.lock() = Some(place(1));
    let own = version.clone();
    rig.fake.peer(1, move |read| Ok(own.says(read)));
    let asking = rig.asking(&[("accept", "text/html")], Reach::Swarm);
    rig.fill_for(asking).await.is_whole(&version.body);
    let asked = rig.fake.0.asked.lock();
    let (_, ask::Kind::Open(open)) = &asked[0] else { panic!("{asked:?}") };
    assert_eq!(open.hops, 1);
    assert!(open.fields.iter().any(|field| field.name == "accept"));
    assert!(!open.fields.iter().any(|field| ["cookie", "authorization"].contains(&&field.name[..])));
    assert_eq!(rig.metric(r#"shoal_peer_fetches_total{site="shop",kind="home"}"#), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_request_with_cookies_takes_what_is_stored_and_asks_no_home_edge() {
    let rig = Rig::new().await;
    *rig.fake.0.home.lock() = Some(place(1));
    assert!(matches!(rig.fill_for(rig.asking(&[("cookie", "a=1")], Reach::Stored)).await, Filled::Failed));
    assert!(!rig.fake.0.queries.lock()[0].lease_wanted);
    assert!(rig.fake.reads().is_empty());
    assert_eq!(rig.grounds("unreachable"), 1.0);
}

/// A rig that has a stale version of the object.
async fn with_stale() -> (Rig, Asking) {
    let rig = Rig::new().await;
    let version = rig.version(body(80)).listed();
    rig.fake.answers([holders([1])]);
    rig.fake.peer(1, move |read| Ok(version.says(read)));
    drop(rig.fill().await);
    tokio::time::advance(Duration::from_secs(200)).await;
    let stale = rig.stored();
    assert!(stale.is_some());
    rig.fake.0.asked.lock().clear();
    let asking = Asking { stale, ..rig.asking(&[], Reach::Swarm) };
    (rig, asking)
}

#[tokio::test(start_paused = true)]
async fn a_version_that_a_peer_has_validated_is_fresh_again_without_its_body() {
    let (rig, asking) = with_stale().await;
    let held = asking.stale.as_ref().map(|hit| hit.head.version.0.to_vec()).unwrap();
    let mut same = rig.version(body(80)).with_field("x-new", "1");
    same.head.same = true;
    same.head.age = 5;
    rig.fake.answers([Answer::Fresher(place(2))]);
    rig.fake.peer(2, move |_| Ok(vec![same.reply()]));
    let Filled::Refreshed(hit) = rig.fill_for(asking).await else { panic!("not refreshed") };
    assert_eq!(hit.head.initial_age, 5);
    assert_eq!(hit.head.fields()["x-new"], "1");
    assert_eq!(rig.fake.reads()[0].1.held, held);
    assert!(rig.fake.0.queries.lock().last().unwrap().held);
    assert_eq!(rig.stored().unwrap().head.initial_age, 5);
}

#[tokio::test(start_paused = true)]
async fn a_peers_word_that_the_version_held_is_good_does_not_make_it_anothers() {
    for (name, value) in [
        ("vary", "accept-language"),
        ("vary", "*"),
        ("set-cookie", "sess=victim"),
        ("cache-control", "private, max-age=60"),
    ] {
        let (rig, asking) = with_stale().await;
        let before = asking.stale.as_ref().map(|hit| hit.head.fields());
        let mut same = rig.version(body(80)).with_field(name, value);
        same.head.same = true;
        if name == "set-cookie" {
            same = same.with_field("cache-control", "public, max-age=60");
        }
        rig.fake.answers([Answer::Fresher(place(2))]);
        rig.fake.peer(2, move |_| Ok(vec![same.reply()]));
        assert!(matches!(rig.fill_for(asking).await, Filled::Failed), "{name}: the origin is asked");
        assert_eq!(rig.failures("gone"), 1.0, "{name}: {value}");
        assert_eq!(rig.stored().map(|hit| hit.head.fields()), before, "{name}: {value}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_whose_copy_of_the_version_held_is_stale_too_validates_nothing() {
    let (rig, asking) = with_stale().await;
    let mut same = rig.version(body(80));
    (same.head.same, same.head.age) = (true, 100);
    rig.fake.answers([Answer::Fresher(place(2))]);
    rig.fake.peer(2, move |_| Ok(vec![same.reply()]));
    assert!(matches!(rig.fill_for(asking).await, Filled::Failed), "the origin is asked");
    assert_eq!(rig.failures("gone"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_fresher_version_takes_the_place_of_the_stale_one() {
    let (rig, asking) = with_stale().await;
    let version = rig.version(body(90)).listed();
    rig.fake.answers([Answer::Fresher(place(2))]);
    let own = version.clone();
    rig.fake.peer(2, move |read| Ok(own.says(read)));
    rig.fill_for(asking).await.is_whole(&version.body);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_silent_is_left_after_the_stall_and_one_that_only_pulses_in_the_end() {
    let rig = Rig::new().await;
    let version = rig.version(body(50)).listed();
    let pulses = || [Say::Frame(Frame::Pulse), Say::Wait(Duration::from_millis(100))];
    rig.fake.answers([holders([1, 2, 3])]);
    rig.fake.peer(1, |_| Ok(vec![Say::Hang]));
    rig.fake.peer(2, move |_| Ok((0..10_000).flat_map(|_| pulses()).collect()));
    let own = version.clone();
    rig.fake.peer(3, move |read| {
        let mut says: Vec<_> = (0..20).flat_map(|_| pulses()).collect();
        says.extend(own.says(read));
        Ok(says)
    });
    rig.fill().await.is_whole(&version.body);
    assert_eq!(rig.failures("stalled"), 2.0);
    assert!(rig.fake.blamed().is_empty(), "who has not begun to give has not stalled");
}

#[tokio::test(start_paused = true)]
async fn only_what_is_not_worth_sharing_for_long_is_kept_in_mind() {
    for (time, kept) in [(Duration::ZERO, false), (Duration::from_millis(500), false), (ALONE_MIN, true)] {
        let rig = Rig::new().await;
        rig.fake.answers([Answer::Alone(time)]);
        assert!(matches!(rig.fill().await, Filled::Failed));
        let object = rig.asking(&[], Reach::Swarm).object;
        let now = rig.worker.node.clock.now().wall;
        assert_eq!(rig.worker.node.known.is_uncacheable(object, now), kept, "{time:?}");
        assert_eq!(rig.grounds("alone"), 1.0);
    }
}

fn apart(coverage: &Coverage) -> Vec<Say> {
    vec![reply(reply::Kind::Apart(wire::Apart { covered: coverage.to_wire() }))]
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_covers_other_purges_is_asked_again_once_both_cover_the_same() {
    use crate::proto::purge::{Issuer, Mode, PurgeId, Selector};
    let rig = Rig::new().await;
    rig.worker.node.purges.issue(Mode::Hard, &[Selector::All]).await.unwrap();
    let (version, theirs) = (rig.version(body(100)).listed(), [PurgeId { issuer: Issuer(5), number: 3 }]);
    let theirs: Coverage = theirs.into_iter().collect();
    let (whole, said) = (version.body.clone(), theirs.clone());
    rig.fake.answers([holders([1])]);
    rig.fake.peer(1, move |read| Ok(if read.covered.is_empty() { apart(&said) } else { version.says(read) }));
    rig.fill().await.is_whole(&whole);
    assert_eq!(*rig.fake.0.caught_up.lock(), [(place(1).node, theirs)]);
    let purges = &rig.worker.node.purges;
    let reads = rig.fake.reads();
    assert!(reads.iter().all(|(_, read)| read.digest == purges.digest().0));
    let words: Vec<_> = reads.into_iter().map(|(_, read)| read.covered).collect();
    assert_eq!(words, [vec![], purges.coverage().to_wire()]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_stays_apart_is_passed_over_without_blame() {
    let rig = Rig::new().await;
    let version = rig.version(body(100)).listed();
    let whole = version.body.clone();
    rig.fake.answers([holders([1, 2])]);
    rig.fake.peer(1, |_| Ok(apart(&Coverage::default())));
    rig.fake.peer(2, move |read| Ok(version.says(read)));
    rig.fill().await.is_whole(&whole);
    assert_eq!(rig.fake.reads().iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 1, 2]);
    // It may have what it was named for.
    assert_eq!((rig.fake.0.gone.lock().len(), rig.fake.blamed().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn of_holders_of_what_is_purged_two_are_asked_at_most() {
    let rig = Rig::new().await;
    rig.fake.answers([holders(1..=5), holders(2..=5), holders(3..=5)]);
    let gone = |_: &wire::Read| {
        Ok(vec![reply(reply::Kind::Gone(wire::Gone { purged: true, ..wire::Gone::default() }))])
    };
    (1..=5).for_each(|number| rig.fake.peer(number, gone));
    rig.fill().await;
    assert_eq!(rig.fake.reads().iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(*rig.fake.0.gone.lock(), [place(1).node, place(2).node]);
    let purged: Vec<_> = rig.fake.0.queries.lock().iter().map(|query| query.purged).collect();
    assert_eq!(purged, [0, 1, 2]);
    assert_eq!(rig.grounds("peers_failed"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn what_a_peer_gives_carries_the_position_at_which_the_asker_began() {
    use crate::proto::object::PurgePosition;
    use crate::proto::purge::{Judgement, Mode, Selector};
    for (selected, judgement) in [(false, Judgement::Clear), (true, Judgement::Hard)] {
        let rig = Rig::new().await;
        let purges = &rig.worker.node.purges;
        let host = if selected { "shop.test" } else { "other.test" };
        let url = Selector::Url { site: "shop".to_owned(), host: host.to_owned(), path: "/a".to_owned() };
        purges.issue(Mode::Hard, std::slice::from_ref(&url)).await.unwrap();
        let version = rig.version(body(2 * CHUNK_SIZE as usize)).listed();
        let stalls = Duration::from_millis(300);
        // Between head and body, and between the chunks.
        for (at, to) in [(1, CHUNK_SIZE), (0, 0)] {
            let own = version.clone();
            rig.fake.answers([holders([1])]);
            rig.fake.peer(1, move |read| {
                let mut says = own.says(read);
                if read.to == to || to == 0 && read.from > 0 {
                    says.insert(at, Say::Wait(stalls));
                }
                Ok(says)
            });
            let before = purges.position();
            let reader = rig.lead(rig.asking(&[], Reach::Swarm));
            let purge = async {
                tokio::time::sleep(stalls / 2).await;
                purges.issue(Mode::Hard, std::slice::from_ref(&url)).await.unwrap();
            };
            let (filled, ()) = tokio::join!(Filled::of(reader), purge);
            filled.is_whole(&version.body);
            match rig.stored() {
                Some(hit) => {
                    assert_eq!(hit.head.position.get(), before);
                    assert_eq!(purges.judge(&hit.head), judgement);
                }
                None => assert!(selected, "nothing selects it"),
            }
            assert_eq!(purges.position(), PurgePosition(before.0 + 1));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_purged_between_look_up_and_fetch_is_not_validated() {
    use crate::proto::purge::{Mode, Selector};
    for (mode, validated) in [(Mode::Hard, false), (Mode::Soft, true)] {
        let rig = Rig::new().await;
        let version = rig.version(body(100)).listed();
        rig.fake.answers([holders([1])]);
        rig.fake.peer(1, move |read| Ok(version.says(read)));
        drop(rig.fill().await);
        let request = || Request::get("/a").header("host", "shop.test").body(Body::Empty).unwrap();
        let mut cached = Cached::new(rig.exchange(&request()), request());
        cached.lookup().await;
        assert!(cached.found.is_some());
        let purges = &rig.worker.node.purges;
        purges.issue(mode, &[Selector::All]).await.unwrap();
        let asking = cached.asking(
            FetchReason::Revalidate,
            Reach::Swarm,
            (crate::proto::semantics::Wanted::Whole, purges.position()),
        );
        assert_eq!(asking.stale.is_some(), validated, "{mode:?}");
    }
}
