//! Purges among whole meshes.

use super::{BOTH, Fleet, SUPERPEER, Up, met, until};
use crate::clock::Clock;
use crate::peer::{Delivery, LEFT, Receipt};
use crate::proto::key::{CacheKey, KeyParts, Scheme};
use crate::proto::object::PurgePosition;
use crate::proto::purge::{Coverage, Mode, PurgeId, SELECTORS_MAX, Selector, Subject};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(10);

fn tag(number: usize) -> Selector {
    Selector::Tag { site: Some("shop".to_owned()), tag: number.to_string() }
}

impl Up {
    /// Issues a purge and tells everybody.
    async fn purge(&self, number: usize, limit: Duration) -> (PurgeId, Vec<Receipt>) {
        let purges = &self.mesh.node.purges;
        let batch = purges.issue(Mode::Hard, &[tag(number)]).await.expect("it is issued");
        let id = PurgeId { issuer: purges.issuer(), number: batch.coverage.number(purges.issuer()) };
        (id, self.mesh.spread(&batch, limit).await)
    }

    fn covers(&self, coverage: &Coverage) -> bool {
        self.mesh.node.purges.covers(coverage)
    }

    fn coverage(&self) -> Coverage {
        self.mesh.node.purges.coverage()
    }

    fn is_in_sync(&self) -> bool {
        self.mesh.node.purges.in_sync(Clock::system().mono())
    }

    /// Waits until so many others are live to it.
    async fn knows(&self, others: usize) -> &Self {
        until("the others are known", async || met(self.mesh.node.view().others().count() == others)).await;
        self
    }
}

fn names(receipts: &[Receipt]) -> Vec<&str> {
    receipts.iter().map(|receipt| &*receipt.name).collect()
}

fn all_applied(receipts: &[Receipt]) -> bool {
    receipts.iter().all(|receipt| matches!(receipt.delivery, Delivery::Applied(took) if took < LIMIT))
}

#[tokio::test]
async fn whoever_issues_a_purge_hears_from_every_live_member_that_it_is_applied() {
    let mut fleet = Fleet::new();
    let superpeer = fleet.superpeer("superpeer", SUPERPEER).await;
    let edges = [fleet.edge("a").await, fleet.edge("b").await, fleet.edge("c").await];
    let all = [&superpeer, &edges[0], &edges[1], &edges[2]];
    for up in all {
        up.knows(3).await;
    }
    for (number, issuer) in all.iter().enumerate() {
        let (id, receipts) = issuer.purge(number, LIMIT).await;
        assert!(all_applied(&receipts), "{receipts:?}");
        let others: Vec<_> = ["a", "b", "c", "superpeer"]
            .into_iter()
            .filter(|name| *name != &*issuer.mesh.me().name)
            .collect();
        assert_eq!(names(&receipts), others);
        for up in all {
            assert!(up.mesh.node.purges.has(id), "{id} at {}", up.mesh.me().name);
        }
    }
    let digest = superpeer.mesh.node.purges.digest();
    assert!(edges.iter().all(|edge| edge.mesh.node.purges.digest() == digest));
}

#[tokio::test]
async fn a_member_that_is_behind_is_sent_what_it_lacks() {
    let mut fleet = Fleet::new();
    let superpeer = fleet.superpeer("superpeer", SUPERPEER).await;
    let edge = fleet.edge("edge").await;
    edge.knows(1).await;
    superpeer.knows(1).await;
    // Nobody is told of these.
    for number in 0..3 {
        edge.mesh.node.purges.issue(Mode::Hard, &[tag(number)]).await.expect("it is issued");
    }
    let (_, receipts) = edge.purge(3, LIMIT).await;
    assert!(all_applied(&receipts) && receipts.len() == 1, "{receipts:?}");
    assert!(superpeer.covers(&edge.coverage()));
}

#[tokio::test]
async fn a_member_that_is_dead_is_named_and_does_not_count_when_it_has_left() {
    let mut fleet = Fleet::new();
    let superpeer = fleet.superpeer("superpeer", SUPERPEER).await;
    let (edge, dies) = (fleet.edge("edge").await, fleet.edge("dies").await);
    for up in [&superpeer, &edge, &dies] {
        up.knows(2).await;
    }
    dies.stop().await;
    let (_, receipts) = edge.purge(0, Duration::from_millis(500)).await;
    assert_eq!(names(&receipts), ["dies", "superpeer"]);
    let Delivery::Missed(reason) = receipts[0].delivery else { panic!("{receipts:?}") };
    assert!(reason != LEFT && receipts[0].is_live(), "{reason}");
    assert!(all_applied(&receipts[1..]));
    // It is waited for until it is known to be dead, and no longer.
    let (_, receipts) = edge.purge(1, Duration::from_secs(25)).await;
    assert_eq!(receipts[0].delivery, Delivery::Missed(LEFT));
    assert!(!receipts[0].is_live() && all_applied(&receipts[1..]), "{receipts:?}");
}

#[tokio::test]
async fn who_comes_late_or_comes_back_has_all_purges_as_soon_as_it_is_there() {
    let mut fleet = Fleet::new();
    let superpeer = fleet.superpeer("superpeer", SUPERPEER).await;
    let edge = fleet.edge("edge").await;
    edge.knows(1).await;
    for number in 0..5 {
        edge.purge(number, LIMIT).await;
    }
    let late = fleet.edge("late").await;
    until("the late one is in sync", async || met(late.is_in_sync())).await;
    assert!(late.covers(&edge.coverage()), "in sync, and something is lacking");
    // It has a log in memory only, so that it comes back with nothing.
    let gone = late.stop().await;
    let (_, _) = edge.purge(5, Duration::from_millis(100)).await;
    let back = fleet.again(gone).await;
    assert!(!back.is_in_sync());
    until("it is in sync again", async || met(back.is_in_sync())).await;
    assert!(back.covers(&edge.coverage()));
    assert!(back.count("shoal_purge_reconciliations_total{direction=\"taken\"}") >= 1.0);
    let _ = superpeer;
}

#[tokio::test]
async fn what_a_node_brings_from_elsewhere_comes_to_all() {
    let mut fleet = Fleet::new();
    let superpeer = fleet.superpeer("superpeer", SUPERPEER).await;
    let edge = fleet.edge("edge").await;
    superpeer.knows(1).await;
    // Issued while it was with nobody, as far as others can see.
    let (start, identity) = fleet.start("joins", crate::proto::swarm::Roles::EDGE);
    let purges = start.purges.clone();
    purges.issue(Mode::Hard, &[tag(1), tag(2)]).await.expect("it is issued");
    let (mesh, _requests) = super::Mesh::of(super::start_as(start, identity).await.expect("it starts"));
    until("all have it", async || {
        met(superpeer.covers(&purges.coverage()) && edge.covers(&purges.coverage()))
    })
    .await;
    drop(mesh);
}

#[tokio::test]
async fn without_a_superpeer_members_compare_with_one_another() {
    let mut fleet = Fleet::new();
    let first = fleet.edge("first").await;
    fleet.seeds.push(first.mesh.me().address.to_string());
    until("alone, it is in sync", async || met(first.is_in_sync())).await;
    let others = [fleet.edge("a").await, fleet.edge("b").await];
    for up in &others {
        up.knows(2).await;
    }
    // Told to nobody: found by comparing.
    first.mesh.node.purges.issue(Mode::Hard, &[tag(1)]).await.expect("it is issued");
    for up in &others {
        until("it has come", async || met(up.covers(&first.coverage()) && up.is_in_sync())).await;
    }
}

#[tokio::test]
async fn of_more_purges_than_a_log_keeps_apart_the_others_get_what_stands_for_them() {
    const PURGES: usize = 70_000;
    let mut fleet = Fleet::new();
    let superpeer = fleet.superpeer("superpeer", BOTH).await;
    let purges = &superpeer.mesh.node.purges;
    for from in (0..PURGES).step_by(SELECTORS_MAX) {
        let some: Vec<_> = (from..from + SELECTORS_MAX).map(tag).collect();
        purges.issue(Mode::Hard, &some).await.expect("it is issued");
    }
    assert!(purges.usage().folded > 0);
    let late = fleet.edge("late").await;
    until("the late one is in sync", async || met(late.is_in_sync())).await;
    assert!(late.covers(&superpeer.coverage()));
    // The tags of this one were forgotten, so all of its site counts as purged.
    let parts = KeyParts { site: "shop", scheme: Scheme::Http, host: "shop.test", path: "/a" };
    let (fields, key) = (http::HeaderMap::new(), CacheKey::new(parts));
    let parts = crate::proto::key::decode(key.as_bytes()).expect("a key");
    let subject = Subject { key: parts, fields: Some(&fields) };
    assert!(late.mesh.node.purges.overtakes(&subject, PurgePosition::default()));
    let parts = KeyParts { site: "other", scheme: Scheme::Http, host: "shop.test", path: "/a" };
    assert!(!late.mesh.node.purges.overtakes(&Subject { key: parts, ..subject }, PurgePosition::default()));
}
