use super::*;
use proptest::prelude::*;

fn place(number: u8) -> Place {
    Place { node: NodeId([number; 16]), address: ([127, 0, 0, 1], 1).into(), zone: "".into() }
}

fn facts(lease_wanted: bool) -> Facts {
    Facts {
        me: NodeId([0; 16]),
        object: ObjectId([1; 16]),
        variant: VariantId([1; 16]),
        vary_known: false,
        held: false,
        lease_wanted,
    }
}

fn begun(lease_wanted: bool) -> Seek {
    let mut seek = Seek::new(facts(lease_wanted));
    assert!(matches!(seek.next(Event::Begun), Step::Resolve(_)));
    seek
}

const TOKEN: Token = Token { issuer: 1, term: 1, number: 1 };

#[test]
fn holders_are_read_in_turn_and_those_that_failed_are_avoided() {
    let mut seek = begun(true);
    let mut step = seek.next(Event::Holders((1..=5).map(place).collect()));
    for number in 1..=READS_MAX {
        assert_eq!(step, Step::Read(place(number), By::Holder));
        step = seek.next(Event::Read(Reading::Gone));
    }
    let Step::Resolve(query) = step else { panic!("{step:?}") };
    assert_eq!(query.avoid, (1..=READS_MAX).map(|number| place(number).node).collect::<Vec<_>>());
}

#[test]
fn after_two_holders_of_what_is_purged_no_holder_is_asked() {
    let mut seek = begun(true);
    for number in 1..=2 {
        seek.next(Event::Holders((number..=8).map(place).collect()));
        let Step::Resolve(query) = seek.next(Event::Read(Reading::Purged)) else { panic!() };
        assert_eq!((query.purged, query.avoid.len()), (u32::from(number), usize::from(number)));
    }
    // A directory that knows the count gives a lease; one that does not is not heard.
    assert_eq!(seek.next(Event::Holders((3..=8).map(place).collect())), Step::Origin(Ground::PeersFailed));
}

#[test]
fn a_fetch_that_a_purge_overtook_is_told_by_its_lease_and_not_followed_for_ever() {
    let mut seek = begun(true);
    for number in 1..RESOLVES_MAX {
        assert_eq!(
            seek.next(Event::Follow(place(number), TOKEN)),
            Step::Read(place(number), By::Follow(TOKEN))
        );
        let Step::Resolve(query) = seek.next(Event::Read(Reading::Purged)) else { panic!("{number}") };
        assert_eq!((query.overtaken, query.purged), (Some(TOKEN), 0));
    }
    seek.next(Event::Follow(place(9), TOKEN));
    assert_eq!(seek.next(Event::Read(Reading::Purged)), Step::Origin(Ground::PeersFailed));
}

#[test]
fn the_holders_beside_the_one_that_gave_are_known() {
    let mut seek = begun(true);
    seek.next(Event::Holders((1..=3).map(place).collect()));
    assert_eq!(seek.next(Event::Read(Reading::Taken(VariantId::default()))), Step::Take);
    assert_eq!(seek.others(), [place(2), place(3)]);
}

#[test]
fn a_lease_leads_to_the_origin() {
    assert_eq!(begun(true).next(Event::Lease), Step::Origin(Ground::Lease));
    assert_eq!(begun(true).next(Event::Alone), Step::Origin(Ground::Alone));
    assert_eq!(begun(true).next(Event::Unreachable(None)), Step::Origin(Ground::Unreachable));
}

#[test]
fn a_follow_that_fails_before_the_head_is_resolved_again() {
    let mut seek = begun(true);
    assert_eq!(seek.next(Event::Follow(place(1), TOKEN)), Step::Read(place(1), By::Follow(TOKEN)));
    let Step::Resolve(query) = seek.next(Event::Read(Reading::Unanswered)) else { panic!() };
    assert_eq!(query.avoid, [place(1).node]);
}

#[test]
fn a_request_that_may_not_share_takes_what_is_stored_and_nothing_else() {
    assert_eq!(begun(false).next(Event::Holders(vec![place(1)])), Step::Read(place(1), By::Holder));
    assert_eq!(begun(false).next(Event::Follow(place(1), TOKEN)), Step::Origin(Ground::Alone));
    assert_eq!(begun(false).next(Event::Unreachable(Some(place(1)))), Step::Origin(Ground::Unreachable));
}

#[test]
fn without_a_directory_the_home_edge_is_asked_once() {
    let mut seek = begun(true);
    assert_eq!(seek.next(Event::Unreachable(Some(place(1)))), Step::Read(place(1), By::Home));
    assert_eq!(seek.next(Event::Read(Reading::Unanswered)), Step::Origin(Ground::Unreachable));
}

#[test]
fn another_list_of_fields_leads_to_a_search_for_the_right_variant_and_in_the_end_to_a_new_plan() {
    let mut seek = begun(true);
    for number in 0..VARIES_MAX {
        seek.next(Event::Holders(vec![place(1)]));
        let variant = VariantId([number; 16]);
        let Step::Resolve(query) = seek.next(Event::Read(Reading::Varies(variant))) else { panic!() };
        assert!(query.vary_known && query.variant == variant && query.avoid.is_empty());
    }
    seek.next(Event::Holders(vec![place(1)]));
    assert_eq!(seek.next(Event::Read(Reading::Varies(VariantId::default()))), Step::Unfit);
}

#[test]
fn what_is_left_of_a_version_is_sought_with_what_was_taken_in_mind() {
    let mut seek = Seek::new(Facts { held: true, ..facts(true) });
    seek.next(Event::Begun);
    seek.next(Event::Fresher(place(1)));
    seek.next(Event::Read(Reading::Taken(VariantId([7; 16]))));
    let Step::Resolve(query) = seek.next(Event::Lost) else { panic!() };
    assert!(!query.held && query.vary_known && query.variant == VariantId([7; 16]));
    assert_eq!(query.avoid, [place(1).node]);
    // A word on the object as a whole says nothing of the rest of this version.
    seek.next(Event::Follow(place(2), TOKEN));
    assert!(matches!(seek.next(Event::Read(Reading::NotStored)), Step::Resolve(_)));
}

#[test]
fn grounds_are_in_the_order_of_their_metrics() {
    for (position, ground) in Ground::ALL.into_iter().enumerate() {
        assert_eq!(ground as usize, position);
    }
}

fn answer() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => proptest::collection::vec(0u8..40, 0..8).prop_map(|numbers| Event::Holders(numbers.into_iter().map(place).collect())),
        1 => Just(Event::Lease),
        4 => (0u8..40).prop_map(|number| Event::Follow(place(number), TOKEN)),
        4 => (0u8..40).prop_map(|number| Event::Fresher(place(number))),
        1 => Just(Event::Alone),
        1 => proptest::option::of((0u8..40).prop_map(place)).prop_map(Event::Unreachable),
    ]
}

fn reading() -> impl Strategy<Value = Reading> {
    prop_oneof![
        2 => any::<[u8; 16]>().prop_map(|variant| Reading::Taken(VariantId(variant))),
        6 => Just(Reading::Gone),
        6 => Just(Reading::Unanswered),
        1 => any::<[u8; 16]>().prop_map(|variant| Reading::Varies(VariantId(variant))),
        1 => Just(Reading::NotStored),
        1 => Just(Reading::OriginFailed),
    ]
}

proptest! {
    /// Whatever the directory and the peers say: the search ends within bounds, and only its end is the origin.
    #[test]
    fn every_search_ends(
        lease_wanted: bool,
        answers in proptest::collection::vec(answer(), 16),
        readings in proptest::collection::vec(reading(), 64),
    ) {
        let mut seek = Seek::new(facts(lease_wanted));
        let (mut answers, mut readings) = (answers.into_iter(), readings.into_iter());
        let (mut steps, mut resolves, mut avoided) = (0, 0, Vec::new());
        let mut step = seek.next(Event::Begun);
        loop {
            steps += 1;
            prop_assert!(steps <= 200);
            step = match step {
                Step::Resolve(query) => {
                    resolves += 1;
                    prop_assert!(resolves <= RESOLVES_MAX + RESUMES_MAX);
                    prop_assert!(query.avoid.len() <= AVOID_MAX);
                    avoided.clone_from(&query.avoid);
                    seek.next(answers.next().expect("as many as there are questions"))
                }
                Step::Read(place, _) => {
                    prop_assert_ne!(place.node, NodeId([0; 16]));
                    prop_assert!(!avoided.contains(&place.node));
                    seek.next(Event::Read(readings.next().expect("as many as there are reads")))
                }
                Step::Take => seek.next(Event::Lost),
                Step::Origin(_) | Step::Unfit | Step::NotStored => break,
            };
        }
    }
}
