//! Whole meshes among each other.

use super::{BOTH, Fleet, SUPERPEER, holding, lease, met, name, object, query, until};
use crate::clock::Clock;
use crate::peer::exchange::AskError;
use crate::peer::mesh::{Answer, Blame};
use crate::peer::session::SILENCE_MAX;
use crate::proto::key::ObjectId;
use crate::proto::swarm::{Ending, NodeId, top_two};
use crate::proto::wire::{self, Frame, ask};
use std::time::Duration;

#[tokio::test]
async fn the_first_who_asks_gets_a_lease_the_second_follows_and_later_ones_find_a_holder() {
    let mut fleet = Fleet::new();
    let superpeer = fleet.superpeer("superpeer", SUPERPEER).await;
    let (first, second) = (fleet.edge("first").await, fleet.edge("second").await);
    superpeer.serves(2).await;
    let lease = lease(first.with_sessions(1).await.resolve(object(1)).await);
    match second.with_sessions(1).await.resolve(object(1)).await {
        Answer::Follow(place, token) => assert_eq!((place, token), (first.place(), lease.token)),
        other => panic!("not to follow but {}", name(&other)),
    }
    lease.end(Ending::Stored, Some(holding(1)));
    second.finds(object(1), &[first.id()]).await;
    assert_eq!(first.mesh.node.leases.len(), 0);
    assert_eq!(first.count("shoal_swarm_leases_ended_total{ending=\"stored\"}"), 1.0);
    assert_eq!(second.count("shoal_swarm_lookups_total{answer=\"follow\"}"), 1.0);
}

#[tokio::test]
async fn a_lease_lives_as_long_as_its_guard_and_ends_with_it() {
    let mut fleet = Fleet::new();
    let superpeer = fleet.superpeer("superpeer", SUPERPEER).await;
    let (first, second) = (fleet.edge("first").await, fleet.edge("second").await);
    superpeer.serves(2).await;
    let held = lease(first.with_sessions(1).await.resolve(object(1)).await);
    second.with_sessions(1).await;
    // More than the term of a lease, which is two seconds: what passes here is the subject.
    tokio::time::sleep(Duration::from_millis(3500)).await;
    assert_eq!(name(&second.mesh.resolve(query(object(1))).await), "follow");
    drop(held);
    until("the lease is free", async || match second.mesh.resolve(query(object(1))).await {
        Answer::Lease(lease) => Some(lease),
        _ => None,
    })
    .await;
    assert_eq!(first.count("shoal_swarm_leases_ended_total{ending=\"failed\"}"), 1.0);
    assert_eq!(superpeer.count("shoal_directory_expired_total"), 0.0);
}

#[tokio::test]
async fn a_lease_that_nobody_waits_for_any_more_is_given_back() {
    let mut fleet = Fleet::new();
    let superpeer = fleet.superpeer("superpeer", SUPERPEER).await;
    let (first, second) = (fleet.edge("first").await, fleet.edge("second").await);
    superpeer.serves(2).await;
    first.with_sessions(1).await;
    second.with_sessions(1).await;
    // Begun, and given up at the first wait.
    let given_up = tokio::time::timeout(Duration::ZERO, first.mesh.resolve(query(object(1)))).await;
    assert!(given_up.is_err());
    until("the lease came and went", async || {
        met(first.count("shoal_swarm_leases_ended_total{ending=\"not_kept\"}") == 1.0)
    })
    .await;
    let freed = Clock::system().mono();
    until("the lease is free", async || match second.mesh.resolve(query(object(1))).await {
        Answer::Lease(lease) => Some(lease),
        _ => None,
    })
    .await;
    assert!(freed.elapsed() < Duration::from_secs(1), "it was waited for its expiry");
    assert_eq!(superpeer.count("shoal_directory_expired_total"), 0.0);
}

#[tokio::test]
async fn what_is_on_the_shelf_is_found_and_what_is_gone_is_not() {
    let mut fleet = Fleet::new();
    let superpeer = fleet.superpeer("superpeer", SUPERPEER).await;
    let holder = fleet.edge("holder").await;
    (1..=10).for_each(|n| holder.shelf.add(holding(n)));
    let seeker = fleet.edge("seeker").await;
    superpeer.serves(2).await;
    seeker.with_sessions(1).await;
    for n in 1..=10 {
        seeker.finds(object(n), &[holder.id()]).await;
    }
    holder.shelf.remove(holding(3));
    seeker.finds(object(3), &[]).await;
    holder.shelf.add_unnoticed(holding(11));
    seeker.finds(object(11), &[holder.id()]).await;
    seeker.mesh.gone(holding(4), holder.id(), false);
    seeker.finds(object(4), &[]).await;
    seeker.finds(object(5), &[holder.id()]).await;
}

/// Whichever of two superpeers is asked first about an object, in the order of `nodes`.
fn ranked_first(object: ObjectId, nodes: [NodeId; 2]) -> usize {
    usize::from(top_two(nodes.into_iter(), object).0 != Some(nodes[0]))
}

#[tokio::test]
async fn lookups_outlive_one_superpeer_and_are_given_up_soon_without_any() {
    let mut fleet = Fleet::new();
    let superpeers = [fleet.superpeer("one", SUPERPEER).await, fleet.superpeer("two", SUPERPEER).await];
    let (first, second) = (fleet.edge("first").await, fleet.edge("second").await);
    for superpeer in &superpeers {
        superpeer.serves(3).await; // two edges and the other superpeer
    }
    first.with_sessions(2).await;
    second.with_sessions(2).await;
    first.shelf.add(holding(1));
    second.finds(object(1), &[first.id()]).await;
    let gone = ranked_first(object(1), [superpeers[0].id(), superpeers[1].id()]);
    let held = lease(first.resolve(object(2)).await);
    let [one, two] = superpeers;
    let (dying, staying) = if gone == 0 { (one, two) } else { (two, one) };
    let dead = dying.stop().await;
    // The one that is left knows what the other knew, at once.
    assert_eq!(name(&second.resolve(object(1)).await), "holders");
    match second.resolve(object(2)).await {
        Answer::Follow(place, _) => assert_eq!(place, first.place()),
        other => panic!("not to follow but {}", name(&other)),
    }
    drop(held);
    let dead_too = staying.stop().await;
    second.with_sessions(0).await;
    let began = Clock::system().mono();
    assert_eq!(name(&second.mesh.resolve(query(object(1))).await), "unreachable");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    // They come back, one in a new life of the same identity each, and are told everything again.
    let back = [fleet.again(dead).await, fleet.again(dead_too).await];
    second.with_sessions(2).await;
    first.with_sessions(2).await;
    for superpeer in &back {
        superpeer.serves(3).await;
    }
    second.finds(object(1), &[first.id()]).await;
}

#[tokio::test]
async fn who_leaves_is_gone_at_once_for_all() {
    let mut fleet = Fleet::new();
    let superpeer = fleet.superpeer("superpeer", SUPERPEER).await;
    let (leaver, stayer) = (fleet.edge("leaver").await, fleet.edge("stayer").await);
    superpeer.serves(2).await;
    stayer.with_sessions(1).await;
    leaver.shelf.add(holding(1));
    stayer.finds(object(1), &[leaver.id()]).await;
    until("they know each other", async || met(stayer.mesh.node.view().member(leaver.id()).is_some())).await;
    let began = Clock::system().mono();
    leaver.mesh.leave().await;
    assert!(began.elapsed() < Duration::from_millis(1500), "leaving takes {:?}", began.elapsed());
    stayer.finds(object(1), &[]).await;
    until("it is gone", async || met(stayer.mesh.node.view().member(leaver.id()).is_none())).await;
    assert!(began.elapsed() < SILENCE_MAX / 2, "it was found out by its silence");
    assert_eq!(name(&leaver.mesh.resolve(query(object(1))).await), "unreachable");
    assert_eq!(leaver.mesh.node.sessions.len(), 0);
}

#[tokio::test]
async fn a_superpeer_that_leaves_hands_over_at_once() {
    let mut fleet = Fleet::new();
    let leaver = fleet.superpeer("leaver", SUPERPEER).await;
    let stayer = fleet.superpeer("stayer", SUPERPEER).await;
    let edge = fleet.edge("edge").await;
    leaver.serves(2).await;
    stayer.serves(2).await;
    edge.with_sessions(2).await;
    leaver.mesh.leave().await;
    edge.with_sessions(1).await;
    assert!(edge.mesh.node.sessions.get(stayer.id()).is_some());
    for n in 0..10 {
        drop(lease(edge.resolve(object(n)).await));
    }
}

#[tokio::test]
async fn a_node_may_be_edge_and_superpeer_and_asks_itself() {
    let mut fleet = Fleet::new();
    let both = fleet.superpeer("both", BOTH).await;
    both.with_sessions(1).await.serves(1).await;
    let held = lease(both.resolve(object(1)).await);
    both.shelf.add(holding(2));
    let other = fleet.edge("other").await;
    both.serves(2).await;
    other.with_sessions(1).await;
    match other.resolve(object(1)).await {
        Answer::Follow(place, token) => assert_eq!((place, token), (both.place(), held.token)),
        answer => panic!("not to follow but {}", name(&answer)),
    }
    other.finds(object(2), &[both.id()]).await;
    held.end(Ending::Stored, Some(holding(1)));
    other.finds(object(1), &[both.id()]).await;
    other.shelf.add(holding(3));
    both.finds(object(3), &[other.id()]).await;
}

#[tokio::test]
async fn everyone_finds_the_same_home_and_it_is_asked_over_a_stream() {
    let mut fleet = Fleet::new();
    let superpeer = fleet.superpeer("superpeer", SUPERPEER).await;
    let mut edges = [fleet.edge("a").await, fleet.edge("b").await, fleet.edge("c").await];
    for edge in &edges {
        until("all are live", async || met(edge.mesh.node.view().edges().len() == 3)).await;
        assert!(edge.mesh.node.view().superpeers() == [superpeer.id()]);
    }
    for n in 0..20 {
        let homes = edges
            .each_ref()
            .map(|edge| edge.mesh.home(object(n)).map_or_else(|| edge.id(), |home| home.node));
        assert_eq!(homes[0], homes[1]);
        assert_eq!(homes[0], homes[2]);
    }
    let home = (0..20).find_map(|n| edges[0].mesh.home(object(n))).expect("not always the asker");
    let read = ask::Kind::Read(wire::Read { object: vec![1; 16], ..wire::Read::default() });
    let mut asking = edges[0].mesh.ask(&home, read.clone()).await.expect("a stream");
    let from = edges[0].id();
    let asked = edges.iter_mut().find(|edge| edge.id() == home.node).expect("the home is an edge");
    let mut request = asked.requests.recv().await.expect("a request");
    assert_eq!((request.from.id, &request.ask), (from, &read));
    request.exchange.send_frame(Frame::End(7)).await.expect("it is read");
    assert_eq!(asking.frame().await, Ok(Some(Frame::End(7))));
}

#[tokio::test]
async fn who_has_not_the_role_is_refused() {
    let mut fleet = Fleet::new();
    let superpeer = fleet.superpeer("superpeer", SUPERPEER).await;
    let (edge, other) = (fleet.edge("edge").await, fleet.edge("other").await);
    let wrong = [
        // An edge keeps no directory, and a superpeer alone has nothing to read.
        (&edge, &other, ask::Kind::Resolve((&query(object(1))).into())),
        (&edge, &other, ask::Kind::Session(wire::Session { number: 1 })),
        (&edge, &superpeer, ask::Kind::Read(wire::Read::default())),
        // A superpeer alone wants nothing.
        (&superpeer, &edge, ask::Kind::Read(wire::Read::default())),
        (&superpeer, &edge, ask::Kind::Open(wire::Open::default())),
    ];
    for (from, to, ask) in wrong {
        let mut exchange = from.mesh.ask(&to.place(), ask.clone()).await.expect("a stream");
        let answer = tokio::time::timeout(super::PATIENCE, exchange.frame()).await.expect("an answer");
        assert_eq!(answer, Err(AskError::Refused), "{ask:?}");
    }
    assert_eq!(edge.count("shoal_swarm_requests_refused_total{reason=\"forbidden\"}"), 2.0);
}

#[tokio::test]
async fn a_peer_in_quarantine_is_neither_named_nor_asked_nor_home() {
    let mut fleet = Fleet::new();
    let superpeer = fleet.superpeer("superpeer", SUPERPEER).await;
    let (liar, edge) = (fleet.edge("liar").await, fleet.edge("edge").await);
    superpeer.serves(2).await;
    edge.with_sessions(1).await;
    until("they know each other", async || met(edge.mesh.node.view().member(liar.id()).is_some())).await;
    liar.shelf.add(holding(1));
    edge.finds(object(1), &[liar.id()]).await;
    edge.mesh.blame(liar.id(), Blame::BadChunk);
    assert!(!edge.mesh.is_quarantined(liar.id()));
    edge.mesh.blame(liar.id(), Blame::BadChunk);
    assert!(edge.mesh.is_quarantined(liar.id()));
    assert_eq!(name(&edge.resolve(object(1)).await), "lease");
    let asked = edge.mesh.ask(&liar.place(), ask::Kind::Read(wire::Read::default())).await;
    assert_eq!(asked.err(), Some(AskError::Quarantined));
    assert!((0..20).all(|n| edge.mesh.home(object(n)).is_none()));
    assert_eq!(edge.count("shoal_swarm_quarantined"), 1.0);
    assert_eq!(edge.count("shoal_swarm_quarantines_total"), 1.0);
}

#[tokio::test]
async fn the_report_names_members_sessions_and_lookups() {
    let mut fleet = Fleet::new();
    let superpeer = fleet.superpeer("superpeer", SUPERPEER).await;
    let edge = fleet.edge("edge").await;
    superpeer.serves(1).await;
    let held = lease(edge.with_sessions(1).await.resolve(object(1)).await);
    let report = edge.mesh.report();
    assert_eq!(report["me"]["name"], "edge");
    assert_eq!(report["members"][0]["name"], "superpeer");
    assert_eq!(report["members"][0]["state"], "live");
    assert_eq!(report["members"][0]["roles"], serde_json::json!(["superpeer"]));
    assert!(report["members"][0]["bytes_sent"].as_u64() > Some(0));
    assert!(report["members"][0]["round_trip_ms"].as_f64() > Some(0.0));
    assert_eq!(report["superpeers"][0]["session"], "standing");
    assert_eq!(report["directory"], serde_json::Value::Null);
    assert_eq!((&report["leases_open"], &report["lookups"]["answers"]["lease"]), (&1.into(), &1.into()));
    assert!(report["lookups"]["p99_ms"].as_f64() > Some(0.0));
    assert_eq!(superpeer.mesh.report()["directory"]["leases"], 1);
    assert_eq!(edge.count("shoal_swarm_leases_open"), 1.0);
    assert_eq!(edge.count("shoal_swarm_sessions{state=\"standing\"}"), 1.0);
    assert_eq!(superpeer.count("shoal_swarm_members{role=\"edge\"}"), 1.0);
    assert_eq!(superpeer.count("shoal_directory_granted_total"), 1.0);
    held.end(Ending::NotKept, None);
    let gone = edge.id();
    edge.stop().await;
    until("it is known to be dead", async || met(superpeer.mesh.report()["members"][0]["state"] == "dead"))
        .await;
    assert_eq!(superpeer.mesh.report()["members"][0]["id"], gone.to_string());
}
