//! The rules of the directory, one by one, and under random events.

use super::resolve::ALONE_SHORT;
use super::sessions::{GRACE, TELLING_MAX, TELLING_PART};
use super::tree::{CHILDREN_MAX, Parent};
use super::*;
use crate::proto::key::VariantId;
use crate::proto::swarm::{Ending, PURGED_MAX, Place, Roles};
use crate::proto::wire::note::Kind;
use crate::proto::wire::{Announce, Done, Gone, Leaving, Renew};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const SECOND: Duration = Duration::from_secs(1);
const ME: u8 = 200;
const OTHER_SUPERPEER: u8 = 201;

pub(super) fn start() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "an arbitrary start for virtual time")]
    Instant::now()
}

/// Identities are as good as random.
fn node(number: u8) -> NodeId {
    NodeId((u128::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes())
}

fn subject(object: u8, variant: u8) -> Subject {
    (ObjectId([object; 16]), VariantId([variant; 16]))
}

fn holding((object, variant): Subject, fresh_secs: u32) -> Holding {
    Holding { object, variant, fresh_secs }
}

/// Nodes below 100 are in zone `a`, the others in zone `b`.
fn party(number: u8) -> Party {
    let zone = if number < 100 { "a" } else { "b" };
    let place =
        Place { node: node(number), address: ([127, 0, 0, 1], number.into()).into(), zone: zone.into() };
    let superpeer = number == OTHER_SUPERPEER;
    Party { place, roles: Roles { edge: !superpeer, superpeer } }
}

fn query((object, variant): Subject) -> Query {
    Query {
        object,
        variant,
        vary_known: true,
        held: false,
        lease_wanted: true,
        avoid: Vec::new(),
        purged: 0,
        overtaken: None,
    }
}

fn announce(added: &[Holding], removed: &[Holding], complete: bool) -> Kind {
    let wire = |holdings: &[Holding]| holdings.iter().map(|holding| (*holding).into()).collect();
    Kind::Announce(Announce { added: wire(added), removed: wire(removed), complete })
}

fn done(token: Token, ending: Ending, holding: Option<Holding>) -> Kind {
    Kind::Done(Done { token: Some(token), ending: ending.code(), holding: holding.map(wire::Holding::from) })
}

fn granted(token: Token, subject: Subject, holder: u8, ended: bool) -> Granted {
    Granted {
        token: Some(token),
        holding: Some(holding(subject, 0).into()),
        node: node(holder).0.to_vec(),
        ended,
    }
}

fn of_other(number: u64) -> Token {
    Token { issuer: issuer(node(OTHER_SUPERPEER)), term: 1, number }
}

/// A directory and its time.
struct Fixture {
    directory: Directory,
    now: Instant,
}

impl Fixture {
    /// A directory that is not warming, with sessions of these nodes.
    fn new(nodes: impl IntoIterator<Item = u8>) -> Self {
        Self::bounded(1000, nodes)
    }

    fn bounded(holdings_max: usize, nodes: impl IntoIterator<Item = u8>) -> Self {
        let now = start();
        let mut fixture = Self { directory: Directory::new(node(ME), 7, holdings_max, now), now };
        nodes.into_iter().for_each(|number| fixture.join(number));
        fixture
    }

    fn open(&mut self, number: u8, session: u64) {
        self.directory.handle_opened(party(number), session, self.now);
    }

    fn join(&mut self, number: u8) {
        self.open(number, 1);
        self.say(number, &announce(&[], &[], true));
    }

    fn close(&mut self, number: u8) {
        self.directory.handle_closed(node(number), 1, self.now);
    }

    fn say(&mut self, number: u8, note: &Kind) {
        self.directory.handle_note(node(number), note, self.now);
    }

    fn hold(&mut self, number: u8, subject: Subject, fresh_secs: u32) {
        self.say(number, &announce(&[holding(subject, fresh_secs)], &[], false));
    }

    fn ask(&mut self, number: u8, query: &Query) -> Finding {
        self.directory.handle_resolve(&party(number), query, self.now)
    }

    fn lease(&mut self, number: u8, subject: Subject) -> Token {
        match self.ask(number, &query(subject)) {
            Finding::Lease(token, _) => token,
            other => panic!("{number} is answered {other:?}"),
        }
    }

    /// Whom a node is told to follow.
    fn parent(&mut self, number: u8, query: &Query) -> NodeId {
        match self.ask(number, query) {
            Finding::Follow(place, _) => place.node,
            other => panic!("{number} is answered {other:?}"),
        }
    }

    fn holders(&mut self, number: u8, query: &Query) -> Vec<NodeId> {
        match self.ask(number, query) {
            Finding::Holders(places) => places.into_iter().map(|place| place.node).collect(),
            other => panic!("{number} is answered {other:?}"),
        }
    }

    /// Time passes, and the driver does what it must.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(deadline) = self.directory.deadline().filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            self.directory.handle_deadline(self.now);
        }
        self.now = end;
    }

    fn actions(&mut self) -> Vec<DirectoryAction> {
        std::iter::from_fn(|| self.directory.poll()).collect()
    }

    fn stored(&self) -> u64 {
        self.directory.stats().holdings
    }
}

const S: fn() -> Subject = || subject(1, 1);

#[test]
fn the_first_gets_the_lease_and_the_next_follow() {
    let mut fixture = Fixture::new(1..=3);
    let Finding::Lease(token, term) = fixture.ask(1, &query(S())) else { panic!("no lease") };
    assert_eq!((token, term), (Token { issuer: issuer(node(ME)), term: 7, number: 1 }, TERM));
    assert_eq!(fixture.ask(2, &query(S())), Finding::Follow(party(1).place, token));
    assert_eq!(fixture.ask(3, &query(S())), Finding::Follow(party(1).place, token));
    assert!(matches!(fixture.ask(2, &query(subject(1, 2))), Finding::Lease(..)), "each variant has its own");
    assert_eq!(fixture.directory.stats().granted, 2);
    assert_eq!(fixture.directory.stats().followed, 2);
}

#[test]
fn holders_are_named_while_fresh() {
    let mut fixture = Fixture::new(1..=3);
    fixture.hold(1, S(), 10);
    fixture.hold(2, S(), 0);
    assert_eq!(fixture.holders(3, &query(S())), [node(1)], "a stale one is no holder");
    fixture.pass(SECOND * 10);
    assert!(matches!(fixture.ask(3, &query(S())), Finding::Lease(..)));
}

#[test]
fn an_announcement_replaces_what_was_known_of_freshness() {
    let mut fixture = Fixture::new(1..=2);
    fixture.hold(1, S(), 1);
    fixture.hold(1, S(), 100);
    assert_eq!(fixture.stored(), 1);
    fixture.pass(SECOND * 50);
    assert_eq!(fixture.holders(2, &query(S())), [node(1)]);
    fixture.hold(1, S(), 0);
    assert_eq!(fixture.stored(), 0);
    assert!(matches!(fixture.ask(2, &query(S())), Finding::Lease(..)));
}

#[test]
fn neither_the_asker_nor_those_it_avoids_are_named() {
    let mut fixture = Fixture::new(1..=3);
    (1..=3).for_each(|number| fixture.hold(number, S(), 10));
    let avoiding = Query { avoid: vec![node(2)], ..query(S()) };
    assert_eq!(fixture.holders(1, &avoiding), [node(3)]);
}

#[test]
fn the_askers_zone_comes_first_and_the_load_is_spread() {
    let mut fixture = Fixture::new((1..=40).chain(101..=120));
    (20..=24).chain(101..=120).for_each(|number| fixture.hold(number, S(), 10));
    let near: BTreeSet<_> = (20..=24).map(node).collect();
    let mut firsts = BTreeSet::new();
    for asker in 1..=19 {
        let named = fixture.holders(asker, &query(S()));
        assert_eq!(named.len(), wire::HOLDERS_MAX);
        assert_eq!(named.iter().take(5).copied().collect::<BTreeSet<_>>(), near);
        assert_eq!(fixture.holders(asker, &query(S())), named, "the same again");
        firsts.insert(named[0]);
    }
    assert!(firsts.len() >= 4, "19 askers went to {} of 5 holders first", firsts.len());
}

#[test]
fn who_holds_a_stale_version_is_told_of_a_fresher_one() {
    let mut fixture = Fixture::new(1..=2);
    fixture.hold(1, S(), 10);
    let held = Query { held: true, ..query(S()) };
    assert_eq!(fixture.ask(2, &held), Finding::Fresher(party(1).place));
    assert!(matches!(fixture.ask(1, &held), Finding::Lease(..)));
}

#[test]
fn holders_of_another_variant_tell_what_it_varies_by() {
    let mut fixture = Fixture::new(1..=2);
    fixture.hold(1, subject(1, 9), 10);
    let unknown = Query { vary_known: false, ..query(S()) };
    assert_eq!(fixture.holders(2, &unknown), [node(1)]);
    assert!(matches!(fixture.ask(2, &query(S())), Finding::Lease(..)), "whoever knows wants its own");
}

#[test]
fn without_a_wish_for_a_lease_none_is_granted() {
    let mut fixture = Fixture::new(1..=3);
    let look = Query { lease_wanted: false, ..query(S()) };
    assert_eq!(fixture.ask(1, &look), Finding::Alone(Duration::ZERO));
    let token = fixture.lease(1, S());
    assert_eq!(fixture.ask(2, &look), Finding::Follow(party(1).place, token));
    assert_eq!(fixture.ask(1, &look), Finding::Alone(Duration::ZERO));
    assert_eq!(fixture.lease(1, S()), token);
}

#[test]
fn a_lease_lives_by_renewal() {
    let mut fixture = Fixture::new(1..=2);
    let token = fixture.lease(1, S());
    for _ in 0..5 {
        fixture.pass(SECOND);
        fixture.say(1, &Kind::Renew(Renew { tokens: vec![token] }));
    }
    assert_eq!(fixture.ask(2, &query(S())), Finding::Follow(party(1).place, token));
    fixture.actions();
    fixture.pass(TERM);
    let ended = DirectoryAction::Copy(S().0, granted(token, S(), 1, true));
    assert_eq!(fixture.actions(), [ended, DirectoryAction::Expired(node(1), token)]);
    assert_eq!(fixture.directory.stats().expired, 1);
    assert_ne!(fixture.lease(2, S()), token);
}

#[test]
fn an_expired_lease_blocks_nobody_though_the_driver_is_late() {
    let mut fixture = Fixture::new(1..=2);
    fixture.lease(1, S());
    fixture.now += TERM;
    assert!(matches!(fixture.ask(2, &query(S())), Finding::Lease(..)));
}

#[test]
fn nobody_renews_or_ends_the_lease_of_another() {
    let mut fixture = Fixture::new(1..=3);
    let token = fixture.lease(1, S());
    for ending in [Ending::Failed, Ending::Uncacheable, Ending::NotKept] {
        fixture.say(2, &done(token, ending, None));
        assert!(matches!(fixture.ask(3, &query(S())), Finding::Follow(..)), "{ending:?}");
    }
    fixture.say(2, &Kind::Granted(granted(token, S(), 2, true)));
    fixture.say(2, &Kind::Granted(granted(token, S(), 1, true)));
    assert!(matches!(fixture.ask(3, &query(S())), Finding::Follow(..)));
    fixture.pass(TERM - SECOND / 10);
    fixture.say(2, &Kind::Renew(Renew { tokens: vec![token] }));
    fixture.pass(SECOND / 10);
    assert!(matches!(fixture.ask(3, &query(S())), Finding::Lease(..)));
}

#[test]
fn each_ending_frees_what_it_was_for() {
    let stored = Some(holding(S(), 10));
    let check = |ending, holding, expected: fn(&Finding) -> bool| {
        let mut fixture = Fixture::new(1..=2);
        let token = fixture.lease(1, S());
        fixture.say(1, &done(token, ending, holding));
        assert_eq!(fixture.directory.stats().leases, 0);
        let finding = fixture.ask(2, &query(S()));
        assert!(expected(&finding), "after {ending:?}: {finding:?}");
    };
    check(Ending::Stored, stored, |finding| *finding == Finding::Holders(vec![party(1).place]));
    check(Ending::Stored, None, |finding| matches!(finding, Finding::Lease(..)));
    for ending in [Ending::NotKept, Ending::NotStorable, Ending::Failed] {
        check(ending, stored, |finding| matches!(finding, Finding::Lease(..)));
    }
    check(Ending::Uncacheable, None, |finding| *finding == Finding::Alone(SECOND * 60));
}

#[test]
fn what_is_not_worth_sharing_is_remembered_for_a_minute_or_until_somebody_has_it() {
    let mut fixture = Fixture::new(1..=3);
    let forbid = |fixture: &mut Fixture| {
        let token = fixture.lease(1, S());
        fixture.say(1, &done(token, Ending::Uncacheable, None));
        fixture.pass(SECOND * 59);
        assert_eq!(fixture.ask(2, &query(S())), Finding::Alone(SECOND));
    };
    forbid(&mut fixture);
    fixture.pass(SECOND);
    forbid(&mut fixture);
    fixture.hold(3, S(), 10);
    assert_eq!(fixture.holders(2, &query(S())), [node(3)]);
}

#[test]
fn what_is_stored_may_be_another_variant() {
    let mut fixture = Fixture::new(1..=2);
    let token = fixture.lease(1, S());
    fixture.say(1, &done(token, Ending::Stored, Some(holding(subject(1, 5), 10))));
    assert_eq!(fixture.holders(2, &query(subject(1, 5))), [node(1)]);
    assert!(matches!(fixture.ask(2, &query(S())), Finding::Lease(..)));
}

#[test]
fn a_late_result_is_taken_and_ends_no_newer_lease() {
    let mut fixture = Fixture::new(1..=4);
    let old = fixture.lease(1, S());
    fixture.pass(TERM);
    let new = fixture.lease(2, S());
    fixture.say(1, &done(old, Ending::Failed, None));
    assert_eq!(fixture.ask(3, &query(S())), Finding::Follow(party(2).place, new));
    fixture.say(1, &done(old, Ending::Stored, Some(holding(S(), 10))));
    assert_eq!(fixture.holders(4, &query(S())), [node(1)]);
    assert_eq!(fixture.directory.stats().leases, 1);
}

#[test]
fn the_holder_that_asks_again_gets_the_same_token() {
    let mut fixture = Fixture::new(1..=3);
    let token = fixture.lease(1, S());
    fixture.ask(2, &query(S()));
    fixture.pass(TERM - SECOND);
    assert_eq!(fixture.lease(1, S()), token);
    fixture.pass(TERM - SECOND);
    assert_eq!(fixture.ask(3, &query(S())), Finding::Follow(party(1).place, token), "for a whole term more");
    assert_eq!(fixture.directory.stats().leases, 1);
}

#[test]
fn the_holder_that_asks_the_other_superpeer_too_gets_the_same_token_there() {
    let mut fixture = Fixture::new([1, 2, OTHER_SUPERPEER]);
    fixture.say(OTHER_SUPERPEER, &Kind::Granted(granted(of_other(1), S(), 1, false)));
    assert_eq!(fixture.lease(1, S()), of_other(1));
}

#[test]
fn followers_make_a_tree() {
    let mut fixture = Fixture::new(1..=60);
    fixture.lease(1, S());
    let mut children: BTreeMap<NodeId, u16> = BTreeMap::new();
    let mut depth = BTreeMap::from([(node(1), 0)]);
    for number in 2..=60 {
        let parent = fixture.parent(number, &query(S()));
        *children.entry(parent).or_default() += 1;
        let below = depth[&parent] + 1;
        depth.insert(node(number), below);
    }
    assert!(children.values().all(|count| *count <= CHILDREN_MAX), "{children:?}");
    assert_eq!(depth.values().max(), Some(&3), "1 + 4 + 16 + 39");
}

#[test]
fn a_zone_is_crossed_seldom() {
    let mut fixture = Fixture::new((1..=40).chain(101..=140));
    fixture.lease(1, S());
    let mut crossings = 0;
    // In an order that does not by itself put like below like.
    let order = (2..=40).flat_map(|near| if near % 3 == 0 { [near + 100, near] } else { [near, near + 100] });
    for number in order {
        let parent = fixture.parent(number, &query(S()));
        crossings += u32::from((101..=140).map(node).any(|far| far == parent) != (number > 100));
    }
    assert!((1..=4).contains(&crossings), "{crossings} of 78 follow somebody in the other zone");
}

#[test]
fn who_moves_takes_its_followers_along_and_follows_none_of_them() {
    let mut fixture = Fixture::new(1..=40);
    fixture.lease(1, S());
    let parents: BTreeMap<_, _> =
        (2..=40).map(|number| (number, fixture.parent(number, &query(S())))).collect();
    let below_2 = |number: u8| {
        let mut at = node(number);
        while let Some((_, parent)) = parents.iter().find(|(number, _)| node(**number) == at) {
            if *parent == node(2) {
                return true;
            }
            at = *parent;
        }
        false
    };
    let avoid: Vec<_> = (1..=40).filter(|&number| number != 2 && !below_2(number)).map(node).collect();
    assert!(avoid.len() > wire::AVOID_MAX, "the directory does not rely on that bound");
    let avoiding = Query { avoid, ..query(S()) };
    assert_eq!(fixture.ask(2, &avoiding), Finding::Alone(ALONE_SHORT), "only its own followers are left");
    let moved = fixture.parent(2, &Query { avoid: vec![node(1)], ..query(S()) });
    let number = (3..=40).find(|number| node(*number) == moved).unwrap();
    assert!(!below_2(number));
    check_trees(&fixture.directory);
}

#[test]
fn beyond_four_is_better_than_twice_from_the_origin() {
    let mut fixture = Fixture::new(1..=20);
    fixture.lease(1, S());
    (2..=5).for_each(|number| assert_eq!(fixture.parent(number, &query(S())), node(1)));
    let avoiding = Query { avoid: (2..=5).map(node).collect(), ..query(S()) };
    assert_eq!(fixture.parent(6, &avoiding), node(1));
}

#[test]
fn whose_parent_is_gone_is_followed_by_nobody_until_it_has_another() {
    let mut fixture = Fixture::new(1..=30);
    fixture.lease(1, S());
    for number in 2..=6 {
        fixture.parent(number, &query(S()));
    }
    let parent = fixture.parent(6, &query(S()));
    let gone = (2..=5).find(|number| node(*number) == parent).unwrap();
    fixture.close(gone);
    for number in 7..=20 {
        let parent = fixture.parent(number, &query(S()));
        assert!(parent != node(gone) && parent != node(6), "{number} follows {parent}");
    }
    check_trees(&fixture.directory);
    let avoid = (1..=20).filter(|number| *number != 6).map(node).collect();
    assert_eq!(fixture.ask(21, &Query { avoid, ..query(S()) }), Finding::Alone(ALONE_SHORT));
    fixture.parent(6, &query(S()));
    check_trees(&fixture.directory);
    let followed: BTreeSet<_> = (22..=30).map(|number| fixture.parent(number, &query(S()))).collect();
    assert!(followed.contains(&node(6)));
}

#[test]
fn what_a_node_had_vanishes_with_its_session() {
    let mut fixture = Fixture::new(1..=3);
    fixture.hold(1, S(), 1000);
    let token = fixture.lease(1, subject(2, 2));
    fixture.actions();
    fixture.close(1);
    assert_eq!(
        fixture.actions(),
        [DirectoryAction::Copy(ObjectId([2; 16]), granted(token, subject(2, 2), 1, true))]
    );
    assert!(matches!(fixture.ask(2, &query(S())), Finding::Lease(..)));
    assert!(matches!(fixture.ask(2, &query(subject(2, 2))), Finding::Lease(..)));
    fixture.pass(SECOND);
    assert_eq!(fixture.stored(), 0, "swept");
    assert_eq!(fixture.directory.stats().objects, 0);
}

#[test]
fn an_older_session_that_ends_ends_nothing() {
    let mut fixture = Fixture::new(1..=2);
    let token = fixture.lease(1, subject(2, 2));
    fixture.open(1, 2);
    fixture.say(1, &announce(&[holding(S(), 10)], &[], true));
    fixture.close(1);
    assert_eq!(fixture.holders(2, &query(S())), [node(1)]);
    assert_eq!(fixture.ask(2, &query(subject(2, 2))), Finding::Follow(party(1).place, token));
}

#[test]
fn a_new_session_begins_with_nothing() {
    let mut fixture = Fixture::new(1..=2);
    fixture.hold(1, S(), 1000);
    fixture.open(1, 2);
    fixture.say(1, &announce(&[], &[], true));
    assert!(matches!(fixture.ask(2, &query(S())), Finding::Lease(..)));
}

#[test]
fn who_leaves_is_not_named_and_gets_no_lease() {
    let mut fixture = Fixture::new(1..=3);
    fixture.hold(1, S(), 1000);
    fixture.lease(1, subject(2, 2));
    fixture.say(1, &Kind::Leaving(Leaving {}));
    fixture.hold(1, subject(3, 3), 1000);
    for subject in [S(), subject(2, 2), subject(3, 3)] {
        assert_eq!(fixture.ask(1, &query(subject)), Finding::Alone(ALONE_SHORT));
        assert!(matches!(fixture.ask(2, &query(subject)), Finding::Lease(..)));
        assert_eq!(fixture.parent(1, &query(subject)), node(2), "it may still follow");
        assert_eq!(fixture.parent(3, &query(subject)), node(2), "but is not followed");
    }
    fixture.close(1);
    fixture.join(1);
    fixture.hold(1, S(), 1000);
    assert_eq!(fixture.holders(2, &query(S())), [node(1)], "until it comes back");
}

#[test]
fn a_holder_that_has_it_not_is_not_named_again() {
    let mut fixture = Fixture::new(1..=3);
    (1..=2).for_each(|number| fixture.hold(number, S(), 10));
    let gone = Gone { holding: Some(holding(S(), 0).into()), node: node(1).0.to_vec(), purged: false };
    fixture.say(3, &Kind::Gone(gone));
    assert_eq!(fixture.holders(3, &query(S())), [node(2)]);
    fixture.say(2, &announce(&[], &[holding(S(), 0)], false));
    assert!(matches!(fixture.ask(3, &query(S())), Finding::Lease(..)));
}

fn purged(subject: Subject, number: u8) -> Kind {
    let holding = Some(holding(subject, 0).into());
    Kind::Gone(Gone { holding, node: node(number).0.to_vec(), purged: true })
}

#[test]
fn a_holder_of_what_a_purge_selects_takes_all_along_who_have_had_it_as_long() {
    let mut fixture = Fixture::new(1..=7);
    (1..=3).for_each(|number| fixture.hold(number, S(), 600));
    fixture.hold(4, S(), 602);
    // Fetched after the purge, and another variant.
    fixture.hold(5, S(), 610);
    fixture.hold(1, subject(1, 9), 600);
    fixture.say(6, &purged(S(), 1));
    assert_eq!(fixture.holders(6, &query(S())), [node(5)]);
    assert_eq!(fixture.holders(6, &query(subject(1, 9))), [node(1)]);
    // What is said of one that is not known to hold it says nothing of others.
    fixture.say(7, &purged(S(), 2));
    assert_eq!(fixture.holders(6, &query(S())), [node(5)]);
}

#[test]
fn who_met_two_holders_of_what_is_purged_is_named_no_more_of_them() {
    let mut fixture = Fixture::new(1..=6);
    (1..=5).for_each(|number| fixture.hold(number, S(), 600));
    let after = |purged| Query { purged, avoid: vec![node(1)], ..query(S()) };
    assert_eq!(fixture.holders(6, &after(1)).len(), 4);
    assert!(matches!(fixture.ask(6, &after(PURGED_MAX)), Finding::Lease(..)));
    let held = Query { held: true, ..after(PURGED_MAX) };
    assert!(matches!(fixture.ask(6, &held), Finding::Lease(..)));
}

#[test]
fn a_lease_whose_fetch_a_purge_overtook_is_given_to_the_first_who_says_so() {
    let mut fixture = Fixture::new(1..=5);
    let token = fixture.lease(1, S());
    assert_eq!(fixture.ask(2, &query(S())), Finding::Follow(party(1).place, token));
    let after = Query { overtaken: Some(token), avoid: vec![node(1)], ..query(S()) };
    let Finding::Lease(newer, _) = fixture.ask(2, &after) else { panic!("no lease") };
    assert!(newer != token);
    // The others who were sent to the old one now follow the new one, as whoever comes does.
    assert_eq!(fixture.ask(3, &after), Finding::Follow(party(2).place, newer));
    assert_eq!(fixture.parent(4, &query(S())), node(2));
    // The old holder keeps nothing, and what it says of its lease is of no more interest.
    fixture.say(1, &done(token, Ending::NotKept, None));
    assert_eq!(fixture.parent(5, &query(S())), node(2));
}

#[test]
fn a_directory_that_starts_waits_for_the_first_to_tell_all() {
    let mut fixture = Fixture::new([]);
    assert!(fixture.directory.is_warming(fixture.now));
    fixture.open(1, 1);
    assert_eq!(fixture.ask(1, &query(S())), Finding::Warming);
    fixture.say(1, &announce(&[], &[], true));
    assert!(!fixture.directory.is_warming(fixture.now));
    assert!(matches!(fixture.ask(1, &query(S())), Finding::Lease(..)));

    let mut fixture = Fixture::new([]);
    fixture.pass(GRACE);
    assert!(!fixture.directory.is_warming(fixture.now), "but not for long");
}

#[test]
fn a_directory_that_starts_waits_for_all_that_are_live() {
    let mut fixture = Fixture::new([]);
    fixture.directory.expect_edges(2);
    fixture.open(1, 1);
    fixture.say(1, &announce(&[], &[], true));
    assert_eq!(fixture.ask(1, &query(S())), Finding::Warming, "the other may have it");
    fixture.open(2, 1);
    fixture.say(2, &announce(&[holding(S(), 10)], &[], true));
    assert_eq!(fixture.holders(1, &query(S())), [node(2)]);
    assert!(matches!(fixture.ask(1, &query(subject(2, 2))), Finding::Lease(..)));

    fixture.directory.expect_edges(9);
    assert!(fixture.directory.is_warming(fixture.now));
    fixture.pass(GRACE);
    assert!(!fixture.directory.is_warming(fixture.now), "but not for long");
}

#[test]
fn while_a_node_has_not_told_all_only_what_is_known_is_answered() {
    let mut fixture = Fixture::new(1..=2);
    let token = fixture.lease(1, S());
    fixture.hold(1, subject(2, 2), 10);
    fixture.open(3, 1);
    assert_eq!(fixture.ask(2, &query(subject(3, 3))), Finding::Warming);
    assert_eq!(fixture.ask(2, &query(S())), Finding::Follow(party(1).place, token));
    assert_eq!(fixture.holders(2, &query(subject(2, 2))), [node(1)]);
    assert!(matches!(fixture.ask(1, &query(S())), Finding::Lease(..)), "a lease that was granted stays");
    fixture.pass(TELLING_MAX - SECOND / 10);
    assert_eq!(fixture.ask(2, &query(subject(3, 3))), Finding::Warming);
    fixture.pass(SECOND / 10);
    assert!(matches!(fixture.ask(2, &query(subject(3, 3))), Finding::Lease(..)), "but not for ever");
}

#[test]
fn who_closes_or_leaves_is_not_waited_for() {
    let mut fixture = Fixture::new(1..=2);
    fixture.open(3, 1);
    fixture.open(4, 1);
    fixture.close(3);
    assert!(fixture.directory.is_warming(fixture.now));
    fixture.say(4, &Kind::Leaving(Leaving {}));
    assert!(!fixture.directory.is_warming(fixture.now));
    fixture.open(OTHER_SUPERPEER, 1);
    assert!(!fixture.directory.is_warming(fixture.now), "nor is who has nothing to tell");
}

#[test]
fn in_a_large_fleet_one_that_comes_back_does_not_hold_up_the_rest() {
    let mut fixture = Fixture::new(1..TELLING_PART as u8);
    fixture.open(100, 1);
    assert!(!fixture.directory.is_warming(fixture.now));
    fixture.open(101, 1);
    assert!(fixture.directory.is_warming(fixture.now));
}

#[test]
fn who_has_no_session_gets_no_lease() {
    let mut fixture = Fixture::new(1..=2);
    assert_eq!(fixture.ask(3, &query(S())), Finding::Warming);
    let token = fixture.lease(1, S());
    assert_eq!(fixture.ask(3, &query(S())), Finding::Follow(party(1).place, token));
    (4..=8).for_each(|number| drop(fixture.ask(number, &query(S()))));
    assert!(fixture.directory.leases.get(S()).unwrap().tree.links().is_empty(), "nor is it followed");
}

#[test]
fn grants_are_copied_and_copies_answered_until_they_end() {
    let mut fixture = Fixture::new([1, 2, OTHER_SUPERPEER]);
    let token = fixture.lease(1, S());
    assert_eq!(fixture.actions(), [DirectoryAction::Copy(S().0, granted(token, S(), 1, false))]);
    let copy = subject(2, 2);
    fixture.say(OTHER_SUPERPEER, &Kind::Granted(granted(of_other(1), copy, 1, false)));
    assert_eq!(fixture.ask(2, &query(copy)), Finding::Follow(party(1).place, of_other(1)));
    fixture.pass(TERM * 2);
    assert_eq!(fixture.ask(2, &query(copy)), Finding::Follow(party(1).place, of_other(1)));
    fixture.actions();
    fixture.say(OTHER_SUPERPEER, &Kind::Granted(granted(of_other(1), copy, 1, true)));
    assert!(fixture.actions().is_empty(), "a copy is not copied back");
    assert!(matches!(fixture.ask(2, &query(copy)), Finding::Lease(..)));
}

#[test]
fn a_lease_that_lasts_is_copied_again_and_a_copy_that_is_not_ends() {
    let mut fixture = Fixture::new([1, 2, OTHER_SUPERPEER]);
    let token = fixture.lease(1, S());
    let mut copies = 0;
    for _ in 0..20 {
        fixture.pass(SECOND);
        fixture.say(1, &Kind::Renew(Renew { tokens: vec![token] }));
        copies += fixture.actions().len();
    }
    assert_eq!(copies, 1 + 20 / COPY_AGAIN.as_secs() as usize);
    assert!(COPY_AGAIN + TERM < COPY_TERM);
    fixture.say(OTHER_SUPERPEER, &Kind::Granted(granted(of_other(1), subject(2, 2), 1, false)));
    fixture.pass(COPY_TERM);
    assert!(
        !fixture.actions().contains(&DirectoryAction::Expired(node(1), of_other(1))),
        "told where it was granted"
    );
    assert!(matches!(fixture.ask(2, &query(subject(2, 2))), Finding::Lease(..)));
}

#[test]
fn a_superpeer_speaks_of_its_own_grants_only() {
    let mut fixture = Fixture::new([1, 2, 3, OTHER_SUPERPEER]);
    let token = fixture.lease(1, S());
    fixture.say(OTHER_SUPERPEER, &Kind::Granted(granted(token, S(), 1, true)));
    fixture.say(OTHER_SUPERPEER, &Kind::Granted(granted(of_other(1), S(), 2, false)));
    assert_eq!(fixture.ask(3, &query(S())), Finding::Follow(party(1).place, token));
    let foreign = Token { issuer: 1, term: 1, number: 1 };
    fixture.say(OTHER_SUPERPEER, &Kind::Granted(granted(foreign, subject(2, 2), 1, false)));
    fixture.say(2, &Kind::Granted(granted(of_other(2), subject(2, 2), 1, false)));
    assert!(matches!(fixture.ask(3, &query(subject(2, 2))), Finding::Lease(..)));
}

#[test]
fn when_both_superpeers_grant_to_one_node_the_copy_counts() {
    let mut fixture = Fixture::new([1, 2, OTHER_SUPERPEER]);
    let slow = fixture.lease(1, S());
    fixture.say(OTHER_SUPERPEER, &Kind::Granted(granted(of_other(1), S(), 1, false)));
    fixture.say(1, &done(slow, Ending::Failed, None));
    assert_eq!(fixture.ask(2, &query(S())), Finding::Follow(party(1).place, of_other(1)));
}

#[test]
fn a_lease_presented_again_is_adopted_unless_another_is_open() {
    let mut fixture = Fixture::new(1..=3);
    let token = fixture.lease(1, S());
    fixture.close(1);
    fixture.actions();
    fixture.join(1);
    fixture.say(1, &Kind::Granted(granted(token, S(), 1, false)));
    assert_eq!(fixture.ask(2, &query(S())), Finding::Follow(party(1).place, token));
    assert_eq!(fixture.actions(), [DirectoryAction::Copy(S().0, granted(token, S(), 1, false))]);

    fixture.close(1);
    let newer = fixture.lease(2, S());
    fixture.join(1);
    fixture.say(1, &Kind::Granted(granted(token, S(), 1, false)));
    assert_eq!(fixture.ask(3, &query(S())), Finding::Follow(party(2).place, newer));
}

#[test]
fn a_token_that_was_never_issued_is_not_adopted() {
    let mut fixture = Fixture::new(1..=2);
    let forged = Token { issuer: issuer(node(ME)), term: 7, number: 1 };
    fixture.say(1, &Kind::Granted(granted(forged, S(), 1, false)));
    assert!(matches!(fixture.ask(2, &query(S())), Finding::Lease(..)));
    let earlier_life = Token { term: 6, number: 99, ..forged };
    fixture.say(1, &Kind::Granted(granted(earlier_life, subject(2, 2), 1, false)));
    assert_eq!(fixture.ask(2, &query(subject(2, 2))), Finding::Follow(party(1).place, earlier_life));
}

#[test]
fn one_token_is_one_lease() {
    let mut fixture = Fixture::new(1..=2);
    let token = fixture.lease(1, S());
    fixture.say(1, &Kind::Granted(granted(token, subject(2, 2), 1, false)));
    fixture.say(2, &Kind::Granted(granted(token, subject(2, 2), 2, false)));
    assert_eq!(fixture.directory.stats().leases, 1);
}

#[test]
fn a_node_has_so_many_leases_at_most() {
    let mut fixture = Fixture::new(1..=2);
    let numbered = |number: usize| {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_le_bytes());
        (ObjectId(id), VariantId(id))
    };
    for number in 0..leases::LEASES_OF_NODE_MAX {
        fixture.lease(1, numbered(number));
    }
    let one_more = numbered(leases::LEASES_OF_NODE_MAX);
    assert_eq!(fixture.ask(1, &query(one_more)), Finding::Alone(ALONE_SHORT));
    fixture.lease(1, numbered(0));
    assert!(matches!(fixture.ask(2, &query(one_more)), Finding::Lease(..)), "others have room");
}

#[test]
fn holdings_are_bounded_and_room_that_a_session_leaves_is_used_again() {
    let mut fixture = Fixture::bounded(10, 1..=2);
    (0..15).for_each(|object| fixture.hold(1, subject(object, 1), 1000));
    let stats = fixture.directory.stats();
    assert_eq!((stats.holdings, stats.holdings_max, stats.refused, stats.objects), (10, 10, 5, 10));
    fixture.hold(1, subject(0, 1), 2000);
    assert_eq!(fixture.directory.stats().refused, 5, "what is known needs no room");
    fixture.close(1);
    (0..10).for_each(|object| fixture.hold(2, subject(object, 1), 1000));
    fixture.open(2, 2);
    (10..20).for_each(|object| fixture.hold(2, subject(object, 1), 1000));
    assert_eq!(fixture.directory.stats().refused, 5, "nothing is refused for the sake of the dead");
    assert_eq!(fixture.stored(), 10);
}

#[test]
fn a_variant_has_so_many_holders_at_most_and_those_that_last_longest() {
    let mut fixture = Fixture::new(1..=50);
    (1..=40).for_each(|number| fixture.hold(number, S(), 100 + u32::from(number)));
    assert_eq!(fixture.stored(), holdings::HOLDERS_KEPT_MAX as u64);
    fixture.hold(50, S(), 50);
    let avoid = (1..=40).map(node).collect();
    let others = Query { avoid, lease_wanted: false, ..query(S()) };
    assert_eq!(fixture.ask(49, &others), Finding::Alone(Duration::ZERO), "it would not last");
    fixture.pass(SECOND * 108);
    assert_eq!(fixture.holders(50, &query(S())).len(), wire::HOLDERS_MAX, "those up to 108 s were replaced");
    fixture.close(40);
    fixture.hold(49, S(), 1);
    assert!(fixture.stored() <= holdings::HOLDERS_KEPT_MAX as u64);
    let avoid = (1..=39).map(node).collect();
    assert_eq!(fixture.holders(50, &Query { avoid, ..query(S()) }), [node(49)], "in place of the dead one");
}

#[test]
fn what_goes_stale_is_swept_away() {
    let mut fixture = Fixture::new(1..=2);
    (0..100).for_each(|object| fixture.hold(1, subject(object, 1), 5 + u32::from(object % 2) * 1000));
    fixture.pass(SECOND * 15);
    assert_eq!(fixture.stored(), 50);
    assert_eq!(fixture.directory.stats().objects, 50);
}

#[test]
fn a_sweep_step_is_bounded() {
    const OBJECTS: u32 = 100_000;
    let mut fixture = Fixture::bounded(OBJECTS as usize, 1..=2);
    for object in 0..OBJECTS {
        let id = *blake3::hash(&object.to_le_bytes()).as_bytes().first_chunk().unwrap();
        fixture.directory.holdings.add(
            fixture.directory.sessions.of(node(1)).unwrap().0,
            &holding((ObjectId(id), VariantId(id)), 1000),
            &fixture.directory.sessions,
            fixture.now,
        );
    }
    fixture.close(1);
    let (mut steps, mut before) = (0, fixture.stored());
    assert_eq!(before, u64::from(OBJECTS));
    while fixture.stored() > 0 {
        fixture.now = fixture.directory.deadline().unwrap();
        fixture.directory.handle_deadline(fixture.now);
        let freed = before - fixture.stored();
        assert!(freed < 17_000, "{freed} in one step");
        (steps, before) = (steps + 1, fixture.stored());
    }
    assert!((6..=10).contains(&steps), "{steps} steps");
    assert!(fixture.directory.deadline().is_none());
}

#[test]
fn what_cannot_be_read_is_ignored() {
    let mut fixture = Fixture::new(1..=2);
    let bad = wire::Holding { object: vec![1; 15], variant: vec![1; 16], fresh_secs: 10 };
    let token = fixture.lease(1, S());
    for note in [
        Kind::Announce(Announce { added: vec![bad.clone()], removed: vec![bad.clone()], complete: false }),
        Kind::Done(Done { token: None, ending: 0, holding: Some(bad.clone()) }),
        Kind::Gone(Gone { holding: Some(bad.clone()), node: vec![], purged: true }),
        Kind::Granted(Granted { token: Some(token), holding: Some(bad), node: vec![1], ended: true }),
        Kind::Renew(Renew { tokens: vec![Token::default()] }),
    ] {
        fixture.say(1, &note);
    }
    assert_eq!(fixture.stored(), 0);
    assert_eq!(fixture.directory.stats().leases, 1);
}

// Random events in random order.

#[derive(Clone, Debug)]
enum Event {
    Open(u8, bool),
    Close(u8, bool),
    Complete(u8),
    Leave(u8),
    Hold(u8, Subject, u32),
    Drop(u8, Subject),
    Gone(u8, u8, Subject),
    Ask(u8, Query),
    Done(u8, usize, u32, Subject),
    Renew(u8, usize),
    Present(u8, u8, usize, Subject, bool),
    Pass(u64),
    PassWithoutDriver(u64),
}

const NODES: u8 = 12;
const HOLDINGS_BOUND: usize = 20;

fn any_node() -> impl Strategy<Value = u8> {
    1..=NODES
}

fn any_subject() -> impl Strategy<Value = Subject> {
    (1_u8..=3, 1_u8..=2).prop_map(|(object, variant)| subject(object, variant))
}

fn any_query() -> impl Strategy<Value = Query> {
    let avoid = prop::collection::vec(any_node().prop_map(node), 0..3);
    (any_subject(), any::<bool>(), prop::bool::weighted(0.1), prop::bool::weighted(0.9), avoid).prop_map(
        |((object, variant), vary_known, held, lease_wanted, avoid)| Query {
            object,
            variant,
            vary_known,
            held,
            lease_wanted,
            avoid,
            purged: 0,
            overtaken: None,
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    let talker = prop_oneof![9 => any_node(), 1 => Just(OTHER_SUPERPEER)];
    prop_oneof![
        2 => (talker.clone(), any::<bool>()).prop_map(|(node, complete)| Event::Open(node, complete)),
        1 => (talker.clone(), prop::bool::weighted(0.8)).prop_map(|(node, newest)| Event::Close(node, newest)),
        1 => any_node().prop_map(Event::Complete),
        1 => any_node().prop_map(Event::Leave),
        3 => (any_node(), any_subject(), 0_u32..9).prop_map(|(node, subject, fresh)| Event::Hold(node, subject, fresh)),
        1 => (any_node(), any_subject()).prop_map(|(node, subject)| Event::Drop(node, subject)),
        1 => (any_node(), any_node(), any_subject()).prop_map(|(by, node, subject)| Event::Gone(by, node, subject)),
        12 => (any_node(), any_query()).prop_map(|(node, query)| Event::Ask(node, query)),
        2 => (any_node(), 0_usize..4, 0_u32..6, any_subject())
            .prop_map(|(node, token, ending, subject)| Event::Done(node, token, ending, subject)),
        2 => (any_node(), 0_usize..4).prop_map(|(node, token)| Event::Renew(node, token)),
        2 => (talker, any_node(), 0_usize..4, any_subject(), prop::bool::weighted(0.3)).prop_map(
            |(by, node, token, subject, ended)| Event::Present(by, node, token, subject, ended)
        ),
        1 => (0_u64..3000).prop_map(Event::Pass),
        1 => (0_u64..3000).prop_map(Event::PassWithoutDriver),
    ]
}

/// What must be true of the answers, kept the simple way.
struct Model {
    fixture: Fixture,
    /// Open sessions that are not leaving, with their numbers; those that leave keep theirs.
    live: BTreeMap<u8, u64>,
    numbers: BTreeMap<u8, u64>,
    /// What they have, until when.
    held: BTreeMap<(u8, Subject), Instant>,
    /// The latest tokens.
    tokens: Vec<Token>,
}

impl Model {
    fn new() -> Self {
        let fixture = Fixture::bounded(HOLDINGS_BOUND, []);
        let tokens = vec![of_other(1), of_other(2)];
        Self { fixture, live: BTreeMap::new(), numbers: BTreeMap::new(), held: BTreeMap::new(), tokens }
    }

    fn token(&self, back: usize) -> Token {
        self.tokens[self.tokens.len().saturating_sub(1 + back)]
    }

    fn forget(&mut self, number: u8) {
        self.live.remove(&number);
        self.held.retain(|(holder, _), _| *holder != number);
    }

    fn hold(&mut self, number: u8, subject: Subject, fresh_secs: u32) {
        self.held.remove(&(number, subject));
        if self.live.contains_key(&number) {
            self.held.insert((number, subject), self.fixture.now + SECOND * fresh_secs);
        }
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Open(number, complete) => {
                self.forget(*number);
                let session = self.numbers.entry(*number).or_default();
                *session += 1;
                let session = *session;
                self.live.insert(*number, session);
                self.fixture.open(*number, session);
                self.fixture.say(*number, &announce(&[], &[], *complete));
            }
            Event::Close(number, newest) => {
                let session = self.numbers.get(number).copied().unwrap_or(0);
                let session = if *newest { session } else { session.wrapping_sub(1) };
                self.fixture.directory.handle_closed(node(*number), session, self.fixture.now);
                if *newest {
                    self.forget(*number);
                }
            }
            Event::Complete(number) => self.fixture.say(*number, &announce(&[], &[], true)),
            Event::Leave(number) => {
                self.fixture.say(*number, &Kind::Leaving(Leaving {}));
                self.forget(*number);
            }
            Event::Hold(number, subject, fresh_secs) => {
                self.fixture.hold(*number, *subject, *fresh_secs);
                self.hold(*number, *subject, *fresh_secs);
            }
            Event::Drop(number, subject) => {
                self.fixture.say(*number, &announce(&[], &[holding(*subject, 0)], false));
                self.held.remove(&(*number, *subject));
            }
            Event::Gone(by, number, subject) => {
                let gone = Gone {
                    holding: Some(holding(*subject, 0).into()),
                    node: node(*number).0.to_vec(),
                    purged: false,
                };
                self.fixture.say(*by, &Kind::Gone(gone));
                if self.live.contains_key(by) {
                    self.held.remove(&(*number, *subject));
                }
            }
            Event::Done(number, back, ending, subject) => {
                let token = self.token(*back);
                self.fixture.say(*number, &done(token, Ending::of_code(*ending), Some(holding(*subject, 5))));
                if *ending == 0 {
                    self.hold(*number, *subject, 5);
                }
            }
            Event::Renew(number, back) => {
                let tokens = vec![self.token(*back)];
                self.fixture.say(*number, &Kind::Renew(Renew { tokens }));
            }
            Event::Present(by, number, back, subject, ended) => {
                let token = self.token(*back);
                self.fixture.say(*by, &Kind::Granted(granted(token, *subject, *number, *ended)));
            }
            Event::Pass(millis) => self.fixture.pass(Duration::from_millis(*millis)),
            Event::PassWithoutDriver(millis) => self.fixture.now += Duration::from_millis(*millis),
            Event::Ask(number, query) => self.ask(*number, query),
        }
    }

    fn ask(&mut self, number: u8, query: &Query) {
        let subject = (query.object, query.variant);
        let now = self.fixture.now;
        let before = self.fixture.directory.leases.get(subject);
        let before = before.filter(|lease| lease.until > now).map(|lease| (lease.holder, lease.token));
        let finding = self.fixture.ask(number, query);
        let has = |place: &Place, is_wanted: &dyn Fn(Subject) -> bool| {
            self.held.iter().any(|((holder, subject), until)| {
                node(*holder) == place.node && is_wanted(*subject) && *until > now
            })
        };
        match &finding {
            Finding::Holders(places) => {
                assert!((1..=wire::HOLDERS_MAX).contains(&places.len()));
                assert_eq!(
                    places.iter().map(|place| place.node).collect::<BTreeSet<_>>().len(),
                    places.len()
                );
                for place in places {
                    self.check_named(number, query, place);
                    assert!(has(place, &|held| held == subject || (!query.vary_known && held.0 == subject.0)));
                }
            }
            Finding::Fresher(place) => {
                self.check_named(number, query, place);
                assert!(query.held && has(place, &|held| held == subject));
            }
            Finding::Follow(place, token) => {
                self.check_named(number, query, place);
                let (holder, open) = before.expect("a lease was open");
                assert_eq!(open, *token);
                assert_ne!(holder, node(number));
            }
            Finding::Lease(token, _) => {
                assert!(before.is_none_or(|(holder, _)| holder == node(number)), "a second lease");
                assert!(query.lease_wanted && self.live.contains_key(&number));
                match before {
                    Some((_, open)) => assert_eq!(open, *token, "the lease that the asker has"),
                    None => {
                        assert!(!self.tokens.contains(token), "{token:?} was there before");
                        self.tokens.push(*token);
                    }
                }
            }
            Finding::Alone(_) => {}
            Finding::Warming => {
                assert!(self.fixture.directory.is_warming(now) || !self.live.contains_key(&number));
            }
        }
    }

    fn check_named(&self, asker: u8, query: &Query, place: &Place) {
        let named = (1..=NODES).find(|number| node(*number) == place.node).expect("a node");
        assert!(self.live.contains_key(&named), "{named} is gone");
        assert!(named != asker && !query.avoid.contains(&place.node));
    }

    fn check(&self) {
        let directory = &self.fixture.directory;
        assert!(directory.holdings.stored() <= HOLDINGS_BOUND);
        check_leases(directory, &self.live.keys().map(|number| node(*number)).collect());
        check_trees(directory);
    }
}

/// All tables of the leases say the same, and only live nodes hold any.
fn check_leases(directory: &Directory, live: &BTreeSet<NodeId>) {
    let leases = &directory.leases;
    for (subject, lease) in leases.open() {
        assert!(live.contains(&lease.holder), "a lease of a node that is gone");
        assert!(leases.held_by(lease.holder).contains(subject));
        assert_eq!(leases.find(lease.token).unwrap().0, *subject);
        assert!(leases.next_end().unwrap().0 <= lease.until);
    }
    let held: usize = live.iter().map(|node| leases.held_by(*node).len()).sum();
    assert_eq!(held, leases.len());
}

/// Nobody follows itself over others, and depths are what they are said to be.
fn check_trees(directory: &Directory) {
    for lease in directory.leases.open().values() {
        let links = lease.tree.links();
        let parents: BTreeMap<_, _> = links.iter().map(|(one, parent, _)| (*one, *parent)).collect();
        for (start, _, depth) in &links {
            let (mut at, mut steps) = (*start, 1);
            while let Some(Parent::Follower(parent)) = parents[&at] {
                (at, steps) = (parent, steps + 1);
                assert!(usize::from(steps) <= links.len(), "a cycle: {links:?}");
            }
            assert_eq!(*depth, parents[&at].map(|_| steps), "{start:?} in {links:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn rules_hold_whatever_happens(events in prop::collection::vec(event(), 1..150)) {
        let mut model = Model::new();
        for event in &events {
            model.apply(event);
            model.check();
        }
        // Whatever was granted, after all have gone somebody who comes is let to the origin.
        for number in (1..=NODES).chain([OTHER_SUPERPEER]) {
            model.apply(&Event::Close(number, true));
        }
        model.fixture.pass(SECOND * 61);
        prop_assert_eq!(model.fixture.stored(), 0);
        prop_assert_eq!(model.fixture.directory.stats().leases, 0);
        prop_assert_eq!(model.fixture.directory.deadline(), None);
        model.apply(&Event::Open(1, true));
        for object in 1..=3 {
            prop_assert!(matches!(model.fixture.ask(1, &query(subject(object, 1))), Finding::Lease(..)));
        }
    }

    /// Without renewals nobody is told to follow for longer than a copy lasts.
    #[test]
    fn nobody_waits_for_a_lease_that_is_not_renewed(events in prop::collection::vec(event(), 1..100), late: bool) {
        let mut model = Model::new();
        events.iter().for_each(|event| model.apply(event));
        model.apply(&if late { Event::PassWithoutDriver(60_000) } else { Event::Pass(60_000) });
        model.apply(&Event::Open(1, true));
        for object in 1..=3 {
            let asked = query(subject(object, 1));
            prop_assert!(matches!(model.fixture.ask(1, &asked), Finding::Lease(..)));
        }
    }
}
