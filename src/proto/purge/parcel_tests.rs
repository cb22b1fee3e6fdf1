use super::super::{Log, Mode, Selector};
use super::*;
use crate::proto::time::Wall;
use proptest::prelude::*;
use prost::Message;

fn id(issuer: u64, number: u64) -> PurgeId {
    PurgeId { issuer: Issuer(issuer), number }
}

fn selectors() -> [Selector; 6] {
    let (site, host) = ("shop".to_owned(), "shop.test".to_owned());
    [
        Selector::Url { site: site.clone(), host: host.clone(), path: "/a?b".to_owned() },
        Selector::Prefix { site: site.clone(), host: host.clone(), path: "/a/".repeat(400) },
        Selector::Tag { site: None, tag: "t".to_owned() },
        Selector::Host { site: site.clone(), host },
        Selector::Site { site },
        Selector::All,
    ]
}

/// Sends it, message by message.
fn sent(parcel: &Parcel) -> Result<Parcel, Malformed> {
    let mut unpacking = Unpacking::default();
    for message in parcel.messages() {
        let bytes = message.encode_to_vec();
        assert!(bytes.len() < 250 << 10, "{} bytes: longer than a question may be", bytes.len());
        unpacking.take(&wire::Purges::decode(&bytes[..]).unwrap())?;
    }
    unpacking.finish()
}

fn one() -> Parcel {
    let log = Log::new(Issuer(7));
    let batch = log.issue(selectors().iter().map(|selector| selector.target(Mode::Soft)));
    let coverage = Some([id(3, 4), id(7, 6)].into_iter().collect());
    Parcel { digest: log.digest(), coverage, batch, reception: Reception::Behind }
}

#[test]
fn a_parcel_comes_back_as_it_was_sent() {
    let parcel = one();
    assert_eq!(sent(&parcel), Ok(parcel));
    assert_eq!(sent(&Parcel::default()), Ok(Parcel::default()));
    // That nothing is covered is something else than that nothing is said of it.
    let nothing = Parcel { coverage: Some(Coverage::default()), ..Parcel::default() };
    assert_eq!(sent(&nothing), Ok(nothing));
}

#[test]
fn a_parcel_of_a_whole_log_is_cut_into_messages_of_bounded_length() {
    let mut log = Log::new(Issuer(u64::MAX));
    let tag = |number: u64| Target::tag(Mode::Hard, SiteId(u64::MAX), &number.to_le_bytes());
    let batch = log.issue((0..20_000).map(tag));
    let applied = log.prepare(&batch, Wall::from_secs(0)).unwrap();
    log.apply(&applied);
    let mut parcel = Parcel { batch: log.missing(&Coverage::default()), ..Parcel::default() };
    parcel.coverage =
        Some((1..9000).map(|issuer| id(u64::MAX - 10_000 + issuer, PurgeId::NUMBER_MAX)).collect());
    let count = parcel.messages().count();
    assert_eq!(count, (20_000_usize + 1 + 8999).div_ceil(PURGES_MAX));
    assert_eq!(sent(&parcel), Ok(parcel));
}

#[test]
fn what_is_not_a_parcel_is_refused() {
    type Spoil = fn(&mut wire::Purges);
    let spoils: [(&str, Spoil); 23] = [
        ("digest", |message| message.digest.truncate(15)),
        ("digest", |message| message.digest.clear()),
        ("reception", |message| message.reception = 5),
        ("coverage", |message| message.stated = false),
        ("order of issuers", |message| message.covered.reverse()),
        ("order of issuers", |message| message.covered[1] = message.covered[0]),
        ("order of issuers", |message| message.covered[0].number = 0),
        ("number", |message| message.covered[0].number = PurgeId::NUMBER_MAX + 1),
        ("number", |message| message.steps[0].number = u64::MAX),
        ("number", |message| message.entries[0].number = PurgeId::NUMBER_MAX + 1),
        ("order of issuers", |message| message.steps.push(message.steps[0])),
        ("step", |message| message.steps[0].basis = message.steps[0].number),
        ("kind", |message| message.entries[0].kind = 0),
        ("kind", |message| message.entries[0].kind = 256 + 1),
        ("mode", |message| message.entries[0].mode = 2),
        ("length of a prefix", |message| message.entries[1].length = 1025),
        ("length of a prefix", |message| message.entries[0].length = 1),
        ("target", |message| message.entries[0].site = 0),
        ("target", |message| message.entries[5].site = 1),
        ("target", |message| message.entries[4].hash_low = 1),
        ("entry", |message| message.entries[0].number = 7),
        ("floor", |message| message.floors.push(message.entries[0])),
        ("length", |message| message.entries = vec![message.entries[0]; PURGES_MAX]),
    ];
    for (what, spoil) in spoils {
        let mut message = one().messages().next().unwrap();
        assert!(!message.more);
        spoil(&mut message);
        let mut unpacking = Unpacking::default();
        let refused = unpacking.take(&message).and_then(|_| unpacking.finish());
        assert_eq!(refused, Err(Malformed(what)));
    }
}

#[test]
fn nothing_follows_the_last_message_and_nothing_is_used_before_it() {
    let message = one().messages().next().unwrap();
    let mut unpacking = Unpacking::default();
    assert_eq!(unpacking.take(&message), Ok(true));
    assert_eq!(unpacking.take(&message), Err(Malformed("length")));
    let mut unpacking = Unpacking::default();
    assert_eq!(unpacking.take(&wire::Purges { more: true, ..message.clone() }), Ok(false));
    assert_eq!(unpacking.finish(), Err(Malformed("end")));
    let mut unpacking = Unpacking::default();
    assert_eq!(unpacking.take(&wire::Purges { more: true, ..message.clone() }), Ok(false));
    assert_eq!(unpacking.take(&message), Err(Malformed("continuation")));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(message) = wire::Purges::decode(&bytes[..]) {
            let mut unpacking = Unpacking::default();
            let _ = unpacking.take(&message);
        }
    }

    #[test]
    fn a_coverage_comes_back_as_it_was_sent(covered in prop::collection::btree_map(any::<u64>(), 1..=PurgeId::NUMBER_MAX, 0..20)) {
        let coverage: Coverage = covered.into_iter().map(|(issuer, number)| id(issuer, number)).collect();
        prop_assert_eq!(Coverage::of_wire(&coverage.to_wire()), Ok(coverage));
    }
}
