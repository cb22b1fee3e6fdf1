use super::*;
use crate::proto::key::{KeyParts, Scheme};
use crate::proto::object::PurgePosition;
use crate::proto::time::Wall;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use std::collections::HashMap;

const AT: Wall = Wall::from_millis(1_700_000_000_000);

fn log(issuer: u64) -> Log {
    Log::new(Issuer(issuer))
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn tag(tag: &str) -> Selector {
    Selector::Tag { site: None, tag: text(tag) }
}

/// Issues and applies.
fn purge(log: &mut Log, mode: Mode, selectors: &[Selector]) -> Batch {
    let batch = log.issue(selectors.iter().map(|selector| selector.target(mode)));
    apply(log, &batch).expect("own purges follow on one another");
    batch
}

fn apply(log: &mut Log, batch: &Batch) -> Result<Applied, Gap> {
    let applied = log.prepare(batch, AT)?;
    log.apply(&applied);
    Ok(applied)
}

fn key<'a>(host: &'a str, path: &'a str) -> KeyParts<'a> {
    KeyParts { site: "shop", scheme: Scheme::Https, host, path }
}

fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
    let line = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
    };
    lines.iter().map(line).collect()
}

fn judged(log: &Log, key: KeyParts<'_>, lines: &[(&'static str, &str)]) -> Judgement {
    log.judge(&Subject { key, fields: Some(&fields(lines)) }, PurgePosition(0))
}

#[test]
fn each_selector_selects_what_it_says_and_nothing_else() {
    let (site, host) = (text("shop"), text("shop.example"));
    let a = key("shop.example", "/blog/a?x=1");
    let cases = [
        (Selector::Url { site: site.clone(), host: host.clone(), path: text("/blog/a?x=1") }, true),
        (Selector::Url { site: site.clone(), host: host.clone(), path: text("/blog/a") }, false),
        (Selector::Url { site: text("other"), host: host.clone(), path: text("/blog/a?x=1") }, false),
        (Selector::Prefix { site: site.clone(), host: host.clone(), path: text("/blog/") }, true),
        (Selector::Prefix { site: site.clone(), host: host.clone(), path: text("/bl") }, true),
        (Selector::Prefix { site: site.clone(), host: host.clone(), path: String::new() }, true),
        (Selector::Prefix { site: site.clone(), host: host.clone(), path: text("/blog/a?x=1") }, true),
        (Selector::Prefix { site: site.clone(), host: host.clone(), path: text("/blog/a?x=12") }, false),
        (Selector::Prefix { site: site.clone(), host: text("www.shop.example"), path: text("/") }, false),
        (Selector::Host { site: site.clone(), host: host.clone() }, true),
        (Selector::Host { site: site.clone(), host: text("www.shop.example") }, false),
        (Selector::Site { site: site.clone() }, true),
        (Selector::Site { site: text("other") }, false),
        (Selector::Tag { site: Some(site.clone()), tag: text("red") }, true),
        (Selector::Tag { site: Some(text("other")), tag: text("red") }, false),
        (tag("red"), true),
        (tag("re"), false),
        (Selector::All, true),
    ];
    for (selector, selects) in cases {
        for (mode, met) in [(Mode::Hard, Judgement::Hard), (Mode::Soft, Judgement::Soft(AT))] {
            let mut log = log(1);
            purge(&mut log, mode, std::slice::from_ref(&selector));
            let expected = if selects { met } else { Judgement::Clear };
            assert_eq!(judged(&log, a, &[("surrogate-key", "blue red")]), expected, "{selector}");
            // What was fetched after it is clear.
            let subject = Subject { key: a, fields: Some(&HeaderMap::new()) };
            assert_eq!(log.judge(&subject, log.position()), Judgement::Clear);
        }
    }
}

#[test]
fn both_schemes_are_meant() {
    let mut log = log(1);
    purge(&mut log, Mode::Hard, &[Selector::Url { site: text("shop"), host: text("h"), path: text("/") }]);
    for scheme in [Scheme::Http, Scheme::Https] {
        assert_eq!(judged(&log, KeyParts { scheme, ..key("h", "/") }, &[]), Judgement::Hard);
    }
}

#[test]
fn tags_are_read_from_each_field_by_its_own_rules() {
    let lines = [
        ("surrogate-key", " one  two\tthree "),
        ("surrogate-key", "four"),
        ("xkey", "five six"),
        ("cache-tag", "seven, eight nine ,,ten"),
        ("cache-groups", "\"eleven\", \"twelve, no\";x=1"),
        ("cache-tags", "13 14"),
        ("x-cache-tags", "15,16"),
        ("x-magento-tags", "17, 18"),
    ];
    let mut found = Vec::new();
    let fields = fields(&lines);
    Tags::each(&fields, |tag| found.push(std::str::from_utf8(tag).unwrap()));
    found.sort_unstable();
    let mut expected =
        ["one", "two", "three", "four", "five", "six", "seven", "eight nine", "ten", "eleven", "twelve, no"]
            .to_vec();
    expected.extend(["13", "14", "15", "16", "17", "18"]);
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn while_its_fields_are_not_known_any_tag_may_be_among_them() {
    let mut log = log(1);
    let subject = Subject { key: key("h", "/"), fields: None };
    purge(&mut log, Mode::Hard, &[Selector::Tag { site: Some(text("other")), tag: text("red") }]);
    assert_eq!(log.judge(&subject, PurgePosition(0)), Judgement::Clear);
    purge(&mut log, Mode::Soft, &[tag("red")]);
    assert_eq!(log.judge(&subject, PurgePosition(1)), Judgement::Hard);
    assert_eq!(log.judge(&subject, PurgePosition(2)), Judgement::Clear);
}

#[test]
fn a_hard_purge_outweighs_a_soft_one_in_any_order() {
    for modes in [[Mode::Hard, Mode::Soft], [Mode::Soft, Mode::Hard]] {
        let mut log = log(1);
        modes.iter().for_each(|&mode| drop(purge(&mut log, mode, &[tag("red")])));
        assert_eq!(judged(&log, key("h", "/"), &[("xkey", "red")]), Judgement::Hard);
    }
}

#[test]
fn a_batch_is_applied_once_and_only_where_it_follows() {
    let (mut one, mut two) = (log(1), log(2));
    let first = purge(&mut one, Mode::Hard, &[tag("a"), tag("b")]);
    let second = purge(&mut one, Mode::Hard, &[tag("c")]);
    assert_eq!(apply(&mut two, &second), Err(Gap::Behind));
    assert!(two.is_empty() && two.coverage().is_empty());
    assert_eq!(apply(&mut two, &first).unwrap().entries.len(), 2);
    assert_eq!(apply(&mut two, &second).unwrap().entries.len(), 1);
    assert_eq!(two.position(), PurgePosition(2));
    assert!(apply(&mut two, &first).unwrap().is_nothing() && apply(&mut two, &second).unwrap().is_nothing());
    assert_eq!((two.position(), two.digest()), (PurgePosition(2), one.digest()));
}

/// The same target was purged by two issuers. Whoever has seen one of them lacks the other, also of a log that saw it first.
#[test]
fn of_a_target_that_two_have_purged_neither_purge_is_lost() {
    let (mut one, mut two, mut late) = (log(1), log(2), log(3));
    let by_two = purge(&mut two, Mode::Hard, &[tag("red")]);
    apply(&mut late, &by_two).unwrap();
    // Something is fetched there, and only then the first purges.
    let fetched = late.position();
    purge(&mut one, Mode::Hard, &[tag("red")]);
    apply(&mut one, &by_two).unwrap();
    let missing = one.missing(late.coverage());
    apply(&mut late, &missing).unwrap();
    let lines = fields(&[("xkey", "red")]);
    assert_eq!(late.judge(&Subject { key: key("h", "/"), fields: Some(&lines) }, fetched), Judgement::Hard);
}

#[test]
fn of_a_target_that_many_have_purged_no_purge_is_lost() {
    let mut one = log(1);
    let mut others: Vec<Log> = (2..40).map(log).collect();
    let first = purge(&mut others[0], Mode::Hard, &[tag("red")]);
    for other in &mut others[1..] {
        let batch = purge(other, Mode::Hard, &[tag("red")]);
        apply(&mut one, &batch).unwrap();
    }
    let mut late = log(99);
    let all_but_first = one.missing(late.coverage());
    apply(&mut late, &all_but_first).unwrap();
    let fetched = late.position();
    // One that has it among the oldest forgets whose it was.
    let mut two = log(100);
    apply(&mut two, &first).unwrap();
    apply(&mut two, &all_but_first).unwrap();
    let missing = two.missing(late.coverage());
    apply(&mut late, &missing).unwrap();
    let lines = fields(&[("xkey", "red")]);
    assert_eq!(late.judge(&Subject { key: key("h", "/"), fields: Some(&lines) }, fetched), Judgement::Hard);
}

#[test]
fn beyond_the_bound_the_oldest_become_a_floor_of_their_site() {
    let mut log = log(1);
    let tagged = |log: &mut Log, number: usize| {
        purge(log, Mode::Hard, &[Selector::Tag { site: Some(text("shop")), tag: number.to_string() }]);
        log.position()
    };
    let positions: Vec<_> = (0..MARKS_MAX).map(|number| tagged(&mut log, number)).collect();
    let other = KeyParts { site: "other", ..key("h", "/") };
    let judge = |log: &Log, key, since| log.judge(&Subject { key, fields: Some(&HeaderMap::new()) }, since);
    assert_eq!((log.len(), log.folded()), (MARKS_MAX, 0));
    assert_eq!(judge(&log, key("h", "/"), PurgePosition(0)), Judgement::Clear);
    tagged(&mut log, MARKS_MAX);
    // One for the new tag, and one for the floor.
    assert_eq!((log.len(), log.folded()), (MARKS_MAX, 2));
    assert_eq!(judge(&log, key("h", "/"), PurgePosition(0)), Judgement::Hard);
    assert_eq!(judge(&log, key("h", "/"), positions[1]), Judgement::Clear);
    assert_eq!(judge(&log, other, PurgePosition(0)), Judgement::Clear);

    // A node that was away for so long keeps nothing of the site; one that knew of all loses nothing.
    let mut away = super::Log::new(Issuer(2));
    let missing = log.missing(away.coverage());
    apply(&mut away, &missing).unwrap();
    assert_eq!(judge(&away, key("h", "/"), PurgePosition(0)), Judgement::Hard);
    assert_eq!(judge(&away, other, PurgePosition(0)), Judgement::Clear);
    assert_eq!(log.missing(away.coverage()), Batch::default());
}

#[test]
fn floors_of_too_many_sites_become_one_of_everything() {
    let mut log = log(1);
    for number in 0..=4096 {
        let subject = Subject { key: key("h", "/"), fields: None };
        assert_eq!(log.judge(&subject, PurgePosition(0)), Judgement::Clear);
        purge(&mut log, Mode::Hard, &[Selector::Site { site: number.to_string() }]);
    }
    let subject = Subject { key: key("h", "/"), fields: None };
    assert_eq!(log.judge(&subject, PurgePosition(0)), Judgement::Hard);
    assert_eq!(log.judge(&subject, PurgePosition(1)), Judgement::Clear);
}

#[test]
fn a_log_that_was_lost_clears_nothing_that_was_fetched_before_and_tells_nobody() {
    let mut log = log(1);
    log.apply(&log.lost(PurgePosition(41), AT));
    let subject = Subject { key: key("h", "/"), fields: Some(&HeaderMap::new()) };
    assert_eq!(log.judge(&subject, PurgePosition(41)), Judgement::Hard);
    assert_eq!(log.judge(&subject, log.position()), Judgement::Clear);
    assert_eq!(log.missing(&Coverage::default()), Batch::default());
    // It outlives the next start.
    let restored = Log::restore(log.snapshot()).unwrap();
    assert_eq!(restored.judge(&subject, PurgePosition(41)), Judgement::Hard);
}

#[test]
fn a_record_with_a_flipped_bit_is_none() {
    let entry = Entry { id: PurgeId { issuer: Issuer(7), number: 9 }, target: tag("red").target(Mode::Soft) };
    let records = [
        Record::Issuer(Issuer(3)),
        Record::Entry { entry, position: PurgePosition(5), at: AT },
        Record::Covered(entry.id),
        Record::Forgotten(entry.id),
        Record::Position(PurgePosition(6)),
        Record::Snapshot,
    ];
    assert_eq!(Record::decode(&[0; RECORD_LENGTH]), None);
    for record in records {
        let bytes = record.encode();
        assert_eq!(Record::decode(&bytes), Some(record));
        for bit in 0..RECORD_LENGTH * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Record::decode(&flipped), None, "bit {bit} of {record:?}");
        }
    }
}

/// What happens to a few logs that exchange their purges in any order.
#[derive(Clone, Debug)]
enum Happens {
    /// A log issues a purge of a tag.
    Issue(usize, u8, bool),
    /// A log fetches something with a tag.
    Fetch(usize, u8),
    /// One log gives another what that lacks.
    Tell(usize, usize),
    /// A log is read from its records.
    Restart(usize),
}

fn happens() -> impl Strategy<Value = Happens> {
    let log = 0..4_usize;
    prop_oneof![
        (log.clone(), 0..5_u8, any::<bool>()).prop_map(|(log, tag, hard)| Happens::Issue(log, tag, hard)),
        (log.clone(), 0..5_u8).prop_map(|(log, tag)| Happens::Fetch(log, tag)),
        (log.clone(), log.clone()).prop_map(|(from, to)| Happens::Tell(from, to)),
        log.prop_map(Happens::Restart),
    ]
}

proptest! {
    /// A model that knows, of everything fetched, which purges of its tag its log applied later.
    #[test]
    fn what_was_fetched_before_a_purge_reached_its_log_is_never_clear(history in prop::collection::vec(happens(), 1..60)) {
        let mut logs: Vec<Log> = (0..4).map(log).collect();
        let mut issued: Vec<(PurgeId, u8, bool)> = Vec::new();
        // Of each log: what was fetched, at which position, and which purges it covered then.
        let mut fetched: HashMap<usize, Vec<(u8, PurgePosition, Coverage)>> = HashMap::new();
        for event in history {
            match event {
                Happens::Issue(at, tag_number, hard) => {
                    let mode = if hard { Mode::Hard } else { Mode::Soft };
                    let batch = purge(&mut logs[at], mode, &[tag(&tag_number.to_string())]);
                    issued.push((batch.entries[0].id, tag_number, hard));
                }
                Happens::Fetch(at, tag) => {
                    let what = (tag, logs[at].position(), logs[at].coverage().clone());
                    fetched.entry(at).or_default().push(what);
                }
                Happens::Tell(from, to) => {
                    let batch = logs[from].missing(logs[to].coverage());
                    prop_assert!(apply(&mut logs[to], &batch).is_ok());
                    prop_assert!(logs[to].coverage().covers(logs[from].coverage()));
                }
                Happens::Restart(at) => logs[at] = Log::restore(logs[at].snapshot()).unwrap(),
            }
            for (at, what) in &fetched {
                for (tag, position, covered) in what {
                    let log = &logs[*at];
                    let later = |hard: bool| issued.iter().any(|(id, purged, is_hard)| {
                        purged == tag && *is_hard == hard && log.coverage().has(*id) && !covered.has(*id)
                    });
                    let tags = fields(&[("cache-tag", &tag.to_string())]);
                    let judgement = log.judge(&Subject { key: key("h", "/"), fields: Some(&tags) }, *position);
                    let expected = match (later(true), later(false)) {
                        (true, _) => Judgement::Hard,
                        (false, true) => Judgement::Soft(AT),
                        (false, false) => Judgement::Clear,
                    };
                    prop_assert_eq!(judgement, expected);
                }
            }
        }
        // All tell all: then all know the same.
        for _ in 0..2 {
            for from in 0..4 {
                for to in 0..4 {
                    let batch = logs[from].missing(logs[to].coverage());
                    apply(&mut logs[to], &batch).unwrap();
                }
            }
        }
        prop_assert!(logs.iter().all(|log| log.digest() == logs[0].digest()));
    }
}
