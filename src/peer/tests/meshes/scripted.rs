//! A mesh towards superpeers that do what a script says, over real connections. The membership is left out: who is live
//! is said by hand.

use super::{Fleet, PATIENCE, Up, met, name, object, query, until};
use crate::clock::Clock;
use crate::peer::Delivery;
use crate::peer::exchange::Exchange;
use crate::peer::link::{LinkEvent, Links};
use crate::peer::mesh::Answer;
use crate::peer::session::{hear, say};
use crate::peer::view::View;
use crate::proto::key::ObjectId;
use crate::proto::purge::{Mode, Selector};
use crate::proto::swarm::{Ending, Finding, Member, NodeId, Token};
use crate::proto::wire::{self, Resolved, ask, code, note};
use crate::task::Spawner;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// A superpeer that hears everything and says only what it is told to.
struct Scripted {
    links: Links,
    events: mpsc::Receiver<LinkEvent>,
    session: Option<Exchange>,
    spawner: Spawner,
}

impl Scripted {
    fn open(fleet: &Fleet, name: &str) -> Self {
        let (start, identity) = fleet.start(name, super::SUPERPEER);
        let me = Member {
            id: identity.certified().id,
            address: ([127, 0, 0, 1], 0).into(),
            name: name.into(),
            zone: "".into(),
            roles: super::SUPERPEER,
            incarnation: 1,
        };
        let (links, events) = Links::open(&start, identity, me).expect("it listens");
        Self { links, events, session: None, spawner: start.spawner }
    }

    fn id(&self) -> NodeId {
        self.links.me().id
    }

    async fn asked(&mut self) -> (ask::Kind, Exchange) {
        let asked = async {
            loop {
                match self.events.recv().await {
                    // As a version that does not know them.
                    Some(LinkEvent::Asked { ask: ask::Kind::Purges(_), exchange, .. }) => {
                        exchange.reset(code::UNSUPPORTED);
                    }
                    Some(LinkEvent::Asked { ask, exchange, .. }) => return (ask, exchange),
                    _ => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, asked).await.expect("it is asked")
    }

    /// Takes the session that is asked for. Returns its number.
    async fn take_session(&mut self) -> u64 {
        let (ask, mut exchange) = self.asked().await;
        let ask::Kind::Session(wire::Session { number }) = ask else { panic!("{ask:?}") };
        self.beat_on(&mut exchange).await;
        self.session = Some(exchange);
        number
    }

    async fn beat_on(&self, exchange: &mut Exchange) {
        say(exchange, note::Kind::Renew(wire::Renew::default())).await.expect("it is heard");
    }

    /// The next question about an object.
    async fn questioned(&mut self) -> Exchange {
        let (ask, exchange) = self.asked().await;
        assert!(matches!(ask, ask::Kind::Resolve(_)), "{ask:?}");
        exchange
    }

    /// The next note on the session that `pick` takes.
    async fn noted<T>(&mut self, pick: impl Fn(note::Kind) -> Option<T>) -> T {
        let session = self.session.as_mut().expect("a session");
        let noted = async {
            loop {
                if let Some(picked) = hear(session).await.expect("the session stands").and_then(&pick) {
                    return picked;
                }
            }
        };
        tokio::time::timeout(PATIENCE, noted).await.expect("it is said")
    }
}

async fn answer(mut exchange: Exchange, finding: &Finding) {
    exchange.send_message(&Resolved::from(finding)).await.expect("it is heard");
    exchange.finish();
}

/// An edge that takes these superpeers for live, with sessions that stand.
async fn edge_with(superpeers: &mut [&mut Scripted], fleet: &Fleet) -> Up {
    let edge = fleet.edge("edge").await;
    see(&edge, superpeers);
    for superpeer in superpeers.iter_mut() {
        superpeer.take_session().await;
    }
    edge.with_sessions(superpeers.len()).await;
    edge
}

fn see(edge: &Up, superpeers: &[&mut Scripted]) {
    let live = superpeers.iter().map(|superpeer| superpeer.links.me().clone()).collect();
    let view = View::new(edge.mesh.me(), live, VecDeque::new(), |_| None);
    edge.mesh.node.views.send_replace(Arc::new(view));
}

fn took(began: Instant) -> Duration {
    Clock::system().mono().saturating_duration_since(began)
}

const TOKEN: Token = Token { issuer: 1, term: 2, number: 3 };

#[tokio::test]
async fn a_lookup_without_an_answer_ends_with_its_budget() {
    let fleet = Fleet::new();
    let mut silent = Scripted::open(&fleet, "silent");
    let edge = edge_with(&mut [&mut silent], &fleet).await;
    let began = Clock::system().mono();
    assert_eq!(name(&edge.mesh.resolve(query(object(1))).await), "unreachable");
    assert!(
        took(began) >= Duration::from_millis(50) && took(began) < Duration::from_secs(1),
        "{:?}",
        took(began)
    );
    assert_eq!(edge.count("shoal_swarm_lookups_total{answer=\"unreachable\"}"), 1.0);
}

/// Waits of lookups as long as they can be, so that a busy machine changes nothing: 200 and 500 milliseconds.
fn slow_down(edge: &Up) {
    edge.mesh.node.lookups.note_answer(Duration::from_secs(1));
}

#[tokio::test]
async fn when_the_first_superpeer_is_silent_the_second_is_asked_and_its_answer_taken() {
    let fleet = Fleet::new();
    let (mut one, mut two) = (Scripted::open(&fleet, "one"), Scripted::open(&fleet, "two"));
    let edge = edge_with(&mut [&mut one, &mut two], &fleet).await;
    slow_down(&edge);
    let (first, second) = by_rank(&mut one, &mut two, object(1));
    let began = Clock::system().mono();
    let asking = edge.mesh.resolve(query(object(1)));
    let answering = async {
        let unanswered = first.questioned().await;
        answer(second.questioned().await, &Finding::Alone(Duration::from_secs(7))).await;
        assert!(took(began) >= Duration::from_millis(200), "asked after {:?}", took(began));
        unanswered
    };
    match tokio::join!(asking, answering).0 {
        Answer::Alone(rest) => assert_eq!(rest, Duration::from_secs(7)),
        other => panic!("{}", name(&other)),
    }
}

#[tokio::test]
async fn a_superpeer_that_is_warming_makes_the_other_one_be_asked_at_once() {
    let fleet = Fleet::new();
    let (mut one, mut two) = (Scripted::open(&fleet, "one"), Scripted::open(&fleet, "two"));
    let edge = edge_with(&mut [&mut one, &mut two], &fleet).await;
    slow_down(&edge);
    let (first, second) = by_rank(&mut one, &mut two, object(1));
    for (last, expected) in [(Finding::Alone(Duration::ZERO), "alone"), (Finding::Warming, "unreachable")] {
        let began = Clock::system().mono();
        let answering = async {
            answer(first.questioned().await, &Finding::Warming).await;
            answer(second.questioned().await, &last).await;
        };
        let asking = edge.mesh.resolve(query(object(1)));
        assert_eq!(name(&tokio::join!(asking, answering).0), expected);
        assert!(took(began) < Duration::from_millis(200), "{:?}: it waited for silence", took(began));
    }
}

#[tokio::test]
async fn a_lease_that_comes_after_the_budget_is_given_back_at_once() {
    let fleet = Fleet::new();
    let mut late = Scripted::open(&fleet, "late");
    let edge = edge_with(&mut [&mut late], &fleet).await;
    let asking = edge.mesh.resolve(query(object(1)));
    let (unanswered, given_up) = tokio::join!(late.questioned(), asking);
    assert_eq!(name(&given_up), "unreachable");
    answer(unanswered, &Finding::Lease(TOKEN, Duration::from_secs(2))).await;
    let done = late.noted(|note| if let note::Kind::Done(done) = note { Some(done) } else { None }).await;
    assert_eq!((done.token, done.ending), (Some(TOKEN), Ending::NotKept.code()));
    assert_eq!(edge.mesh.node.leases.len(), 0);
}

#[tokio::test]
async fn what_is_no_answer_is_none() {
    let fleet = Fleet::new();
    let mut liar = Scripted::open(&fleet, "liar");
    let edge = edge_with(&mut [&mut liar], &fleet).await;
    slow_down(&edge);
    let me = edge.place();
    let useless = [
        // It names the asker itself.
        (Some(Finding::Holders(vec![me.clone()])), "unreachable"),
        (Some(Finding::Fresher(me.clone())), "unreachable"),
        (Some(Finding::Follow(me, TOKEN)), "alone"),
        // It says nothing that can be read.
        (None, "unreachable"),
    ];
    for (finding, expected) in useless {
        let answering = async {
            let mut exchange = liar.questioned().await;
            match &finding {
                Some(finding) => answer(exchange, finding).await,
                None => exchange.send_frame(wire::Frame::End(1)).await.expect("it is heard"),
            }
        };
        let asking = edge.mesh.resolve(query(object(1)));
        assert_eq!(name(&tokio::join!(asking, answering).0), expected, "{finding:?}");
    }
}

#[tokio::test]
async fn leases_are_renewed_and_presented_again_after_a_reconnect() {
    let fleet = Fleet::new();
    let mut superpeer = Scripted::open(&fleet, "superpeer");
    let edge = edge_with(&mut [&mut superpeer], &fleet).await;
    slow_down(&edge);
    let answering = async {
        answer(superpeer.questioned().await, &Finding::Lease(TOKEN, Duration::from_secs(2))).await;
    };
    let asking = edge.mesh.resolve(query(object(1)));
    let held = super::lease(tokio::join!(asking, answering).0);
    let renewed =
        |note| if let note::Kind::Renew(renew) = note { renew.tokens.first().copied() } else { None };
    assert_eq!(superpeer.noted(renewed).await, TOKEN);
    // The session breaks, and the next one has a greater number.
    drop(superpeer.session.take());
    assert_eq!(superpeer.take_session().await, 2);
    let granted = |note| if let note::Kind::Granted(granted) = note { Some(granted) } else { None };
    let presented = superpeer.noted(granted).await;
    assert_eq!((presented.token, presented.node), (Some(TOKEN), edge.id().0.to_vec()));
    assert_eq!(presented.holding.map(|holding| holding.object), Some(object(1).0.to_vec()));
    held.end(Ending::Failed, None);
    let done = |note| if let note::Kind::Done(done) = note { Some(done) } else { None };
    assert_eq!(superpeer.noted(done).await.token, Some(TOKEN));
}

#[tokio::test]
async fn a_new_session_is_told_everything_and_then_that_it_was_all() {
    let fleet = Fleet::new();
    let mut superpeer = Scripted::open(&fleet, "superpeer");
    let edge = fleet.edge("edge").await;
    (1..=10).for_each(|n| edge.shelf.add(super::holding(n)));
    see(&edge, &[&mut superpeer]);
    superpeer.take_session().await;
    let mut told = std::collections::HashSet::new();
    loop {
        let announced = |note| if let note::Kind::Announce(announce) = note { Some(announce) } else { None };
        let announce = superpeer.noted(announced).await;
        told.extend(announce.added.into_iter().map(|holding| holding.object));
        if announce.complete {
            break;
        }
    }
    assert_eq!(told.len(), 10);
}

#[tokio::test]
async fn of_three_superpeers_the_two_that_keep_an_object_are_told_of_it() {
    let fleet = Fleet::new();
    let mut all = [Scripted::open(&fleet, "a"), Scripted::open(&fleet, "b"), Scripted::open(&fleet, "c")];
    let edge = edge_with(&mut all.each_mut(), &fleet).await;
    (1..=20).for_each(|n| edge.shelf.add(super::holding(n)));
    let view = edge.mesh.node.view();
    for superpeer in &mut all {
        let id = superpeer.id();
        let kept: std::collections::BTreeSet<_> =
            (1..=20).map(object).filter(|object| view.keepers(*object).contains(&Some(id))).collect();
        let mut told = std::collections::BTreeSet::new();
        while told != kept {
            let announced =
                |note| if let note::Kind::Announce(announce) = note { Some(announce) } else { None };
            let added = superpeer.noted(announced).await.added;
            told.extend(
                added.into_iter().map(|holding| ObjectId(holding.object.try_into().expect("16 bytes"))),
            );
            assert!(told.is_subset(&kept), "it was told of what others keep");
        }
    }
}

#[tokio::test]
async fn a_session_that_says_nothing_ends_and_begins_again() {
    let fleet = Fleet::new();
    let mut superpeer = Scripted::open(&fleet, "superpeer");
    let edge = edge_with(&mut [&mut superpeer], &fleet).await;
    // The old stream stays open and silent, so the edge must find it out by itself.
    let silent = superpeer.session.take();
    let began = Clock::system().mono();
    assert_eq!(superpeer.take_session().await, 2);
    assert!(took(began) >= Duration::from_secs(5), "{:?}", took(began));
    drop(silent);
    until("the session stands again", async || met(edge.mesh.node.sessions.len() == 1)).await;
}

#[tokio::test]
async fn no_session_is_kept_with_who_is_not_live() {
    let fleet = Fleet::new();
    let mut superpeer = Scripted::open(&fleet, "superpeer");
    let edge = edge_with(&mut [&mut superpeer], &fleet).await;
    see(&edge, &[]);
    until("the session ends", async || met(edge.mesh.node.sessions.len() == 0)).await;
    assert_eq!(name(&edge.mesh.resolve(query(object(1))).await), "unreachable");
    assert!(superpeer.spawner.stop(PATIENCE).await);
}

/// Both in the order in which they are asked about `object`.
fn by_rank<'a>(
    one: &'a mut Scripted,
    two: &'a mut Scripted,
    object: ObjectId,
) -> (&'a mut Scripted, &'a mut Scripted) {
    let first = crate::proto::swarm::top_two([one.id(), two.id()].into_iter(), object).0;
    if first == Some(one.id()) { (one, two) } else { (two, one) }
}

#[tokio::test]
async fn a_member_of_a_version_that_does_not_know_purges_is_named() {
    let fleet = Fleet::new();
    let mut old = Scripted::open(&fleet, "old");
    let edge = edge_with(&mut [&mut old], &fleet).await;
    let batch = edge.mesh.node.purges.issue(Mode::Hard, &[Selector::All]).await.expect("it is issued");
    let began = Clock::system().mono();
    let receipts = tokio::select! {
        receipts = edge.mesh.spread(&batch, PATIENCE) => receipts,
        _ = old.asked() => panic!("nothing else is asked"),
    };
    assert_eq!(receipts.len(), 1);
    assert_eq!(receipts[0].delivery, Delivery::Missed("does not know purges"));
    assert!(began.elapsed() < PATIENCE / 2, "it is not asked again and again");
    assert!(!edge.mesh.node.purges.in_sync(Clock::system().mono()), "nothing was compared");
}
