use super::super::fixtures::head;
use super::*;
use proptest::prelude::*;
use smallvec::smallvec;

type Lines<'a> = &'a [(&'static str, &'static str)];

const LENGTH: u64 = 1000;

fn of(range: &'static str) -> Ranges {
    ranges(&head(&[("range", range)]), &HeaderMap::new(), LENGTH)
}

fn check(rule: &str, range: &'static str, expected: Ranges) {
    assert_eq!(of(range), expected, "{rule}: {range}");
}

#[test]
fn one_range_is_cut_to_the_body() {
    check("first and last", "bytes=0-4", Ranges::One(0..5));
    check("one byte", "bytes=4-4", Ranges::One(4..5));
    check("to the end", "bytes=10-", Ranges::One(10..1000));
    check("beyond the end", "bytes=10-5000", Ranges::One(10..1000));
    check("beyond 64 bits", "bytes=10-99999999999999999999999", Ranges::One(10..1000));
    check("suffix", "bytes=-5", Ranges::One(995..1000));
    check("suffix longer than the body", "bytes=-5000", Ranges::One(0..1000));
    check("units have no case", "Bytes=0-4", Ranges::One(0..5));
    check("empty members", "bytes=, 0-4 ,", Ranges::One(0..5));
    check("unsatisfiable ones are left out", "bytes=0-4, 5000-", Ranges::One(0..5));
}

#[test]
fn what_cannot_be_satisfied_is_said_so() {
    check("behind the end", "bytes=1000-", Ranges::Unsatisfiable);
    check("no suffix", "bytes=-0", Ranges::Unsatisfiable);
    let of_empty = |range| ranges(&head(&[("range", range)]), &HeaderMap::new(), 0);
    assert_eq!(of_empty("bytes=0-"), Ranges::Unsatisfiable);
    assert_eq!(of_empty("bytes=-1"), Ranges::Whole);
    assert_eq!(of_empty("bytes=-0"), Ranges::Unsatisfiable);
}

#[test]
fn what_is_not_understood_is_ignored() {
    for range in [
        "lines=0-4",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=4-0",
        "bytes=a-4",
        "bytes=0-4x",
        "bytes=-",
        "bytes 0-4",
        "bytes=0-4,7",
        "bytes=+1-2",
        "bytes=0 -4",
    ] {
        check("ignored", range, Ranges::Whole);
    }
    let twice = head(&[("range", "bytes=0-1"), ("range", "bytes=0-1")]);
    assert_eq!(ranges(&twice, &HeaderMap::new(), LENGTH), Ranges::Whole);
    assert_eq!(ranges(&HeaderMap::new(), &HeaderMap::new(), LENGTH), Ranges::Whole);
}

#[test]
fn several_ranges_keep_their_order_unless_they_overlap() {
    check("as asked", "bytes=500-509, 0-9", Ranges::Many(smallvec![500..510, 0..10]));
    check("overlap", "bytes=5-14, 0-9", Ranges::One(0..15));
    check("touch", "bytes=10-19, 0-9", Ranges::One(0..20));
    check("within", "bytes=0-99, 10-19, 500-", Ranges::Many(smallvec![0..100, 500..1000]));
}

#[test]
fn ranges_never_cost_more_than_the_body() {
    check("the whole in pieces", "bytes=0-, 0-, 0-, 0-", Ranges::One(0..1000));
    check("dearer than the body", "bytes=0-899, 901-999", Ranges::Whole);
    let ten = of("bytes=0-0,10-10,20-20,30-30,40-40,50-50,60-60,70-70,80-80,90-90");
    assert_eq!(ten, Ranges::Many((0..10).map(|tens| tens * 10..tens * 10 + 1).collect()));
    check("eleven", "bytes=0-0,1-1,2-2,3-3,4-4,5-5,6-6,7-7,8-8,9-9,10-10", Ranges::Whole);
}

#[test]
fn if_range_needs_the_same_strong_validator() {
    const MODIFIED: &str = "Wed, 01 Jan 2020 00:00:00 GMT";
    const LATER: &str = "Wed, 01 Jan 2020 00:00:01 GMT";
    let holds = |if_range: &'static str, stored: Lines<'_>| {
        let request = head(&[("range", "bytes=0-4"), ("if-range", if_range)]);
        ranges(&request, &head(stored), LENGTH) == Ranges::One(0..5)
    };
    assert!(holds("\"a\"", &[("etag", "\"a\"")]));
    assert!(!holds("\"a\"", &[("etag", "\"b\"")]));
    assert!(!holds("W/\"a\"", &[("etag", "W/\"a\"")]));
    assert!(!holds("\"a\"", &[("etag", "W/\"a\"")]));
    assert!(!holds("\"a\"", &[]));
    assert!(!holds("abc", &[("etag", "abc")]));
    assert!(holds(MODIFIED, &[("last-modified", MODIFIED), ("date", LATER)]));
    assert!(!holds(MODIFIED, &[("last-modified", MODIFIED), ("date", MODIFIED)]), "changed in its second");
    assert!(!holds(MODIFIED, &[("last-modified", MODIFIED)]));
    assert!(!holds(LATER, &[("last-modified", MODIFIED), ("date", LATER)]), "dates must be equal, not later");
}

#[test]
fn content_ranges_are_written_and_read() {
    assert_eq!(content_range(&(0..5), Some(10)), "bytes 0-4/10");
    assert_eq!(unsatisfied_range(10), "bytes */10");
    let read = |text| parse_content_range(&HeaderValue::from_static(text));
    let satisfied = |range, length| Some(ContentRange::Satisfied { range, length });
    assert_eq!(read("bytes 0-4/10"), satisfied(0..5, Some(10)));
    assert_eq!(read("Bytes 0-4/*"), satisfied(0..5, None));
    assert_eq!(read("bytes */10"), Some(ContentRange::Unsatisfied { length: 10 }));
    for text in [
        "bytes 4-0/10",
        "bytes 0-10/10",
        "bytes */*",
        "bytes 0-4",
        "bytes=0-4/10",
        "lines 0-4/10",
        "bytes -4/10",
        "",
    ] {
        assert_eq!(read(text), None, "{text}");
    }
}

/// Mostly well-formed range sets.
fn range_set() -> impl Strategy<Value = String> {
    let spec = prop_oneof![
        (0u64..2000, 0u64..2000).prop_map(|(first, length)| format!("{first}-{}", first + length)),
        (0u64..2000).prop_map(|first| format!("{first}-")),
        (0u64..2000).prop_map(|suffix| format!("-{suffix}")),
    ];
    prop::collection::vec(spec, 1..14).prop_map(|specs| format!("bytes={}", specs.join(",")))
}

proptest! {
    #[test]
    fn ranges_lie_within_the_body_and_never_exceed_it(set in range_set(), length in 0u64..3000) {
        let request = HeaderMap::from_iter([(header::RANGE, HeaderValue::try_from(set).unwrap())]);
        let parts = match ranges(&request, &HeaderMap::new(), length) {
            Ranges::Whole | Ranges::Unsatisfiable => return Ok(()),
            Ranges::One(range) => smallvec![range],
            Ranges::Many(parts) => {
                prop_assert!(parts.len() >= 2 && parts.len() <= RANGES_MAX);
                parts
            }
        };
        prop_assert!(parts.iter().all(|part| part.start < part.end && part.end <= length));
        prop_assert!(parts.iter().map(|part| part.end - part.start).sum::<u64>() <= length);
        let mut sorted = parts.clone();
        sorted.sort_by_key(|part| part.start);
        prop_assert!(sorted.windows(2).all(|pair| pair[0].end <= pair[1].start));
    }

    #[test]
    fn every_satisfiable_byte_that_was_asked_for_is_given(first in 0u64..100, last in 0u64..200, length in 1u64..100) {
        prop_assume!(first <= last);
        let request = HeaderMap::from_iter([(header::RANGE, HeaderValue::try_from(format!("bytes={first}-{last}")).unwrap())]);
        let expected = if first < length { Ranges::One(first..length.min(last + 1)) } else { Ranges::Unsatisfiable };
        prop_assert_eq!(ranges(&request, &HeaderMap::new(), length), expected);
    }

    #[test]
    fn no_bytes_panic(line in prop::collection::vec(any::<u8>(), 0..40), length: u64) {
        for line in [line.clone(), [b"bytes=", &line[..]].concat(), [b"bytes ", &line[..]].concat()] {
            let Ok(value) = HeaderValue::from_bytes(&line) else { continue };
            let request = HeaderMap::from_iter([(header::RANGE, value.clone()), (header::IF_RANGE, value.clone())]);
            let _ = ranges(&request, &request, length);
            let _ = parse_content_range(&value);
        }
    }

    #[test]
    fn what_is_written_is_read_back(start in 0u64..u64::MAX / 2, bytes in 1u64..1000, more in 0u64..1000) {
        let (range, length) = (start..start + bytes, start + bytes + more);
        let read = parse_content_range(&content_range(&range, Some(length)));
        prop_assert_eq!(read, Some(ContentRange::Satisfied { range, length: Some(length) }));
    }
}
