use super::super::fixtures::head;
use super::*;
use proptest::prelude::*;

fn of(place: &'static str, length: u64) -> Option<Held> {
    Held::of(StatusCode::PARTIAL_CONTENT, &head(&[("content-range", place)]), Some(length))
}

fn held(range: Range<u64>, complete: Option<u64>) -> Held {
    Held { range, complete, is_exact: true }
}

fn span(first: u64, end: impl Into<Option<u64>>) -> Span {
    Span { first, end: end.into() }
}

#[test]
fn a_part_is_what_content_range_and_content_say_together() {
    assert_eq!(of("bytes 4-8/10", 5), Some(held(4..9, Some(10))));
    assert_eq!(of("bytes 4-8/*", 5), Some(held(4..9, None)));
    assert_eq!(of("bytes 4-8/10", 6), None, "more than it says");
    assert_eq!(of("bytes 4-8/10", 0), None, "nothing");
    for place in ["bytes */10", "bytes 4-3/10", "bytes 4-10/10", "lines 1-2/3", "4-8/10", "bytes 4-8"] {
        assert_eq!(of(place, 5), None, "{place}");
    }
    let twice = head(&[("content-range", "bytes 0-4/10"), ("content-range", "bytes 0-4/10")]);
    assert_eq!(Held::of(StatusCode::PARTIAL_CONTENT, &twice, Some(5)), None);
    // RFC 9110 §14.4: of another status it means nothing.
    assert_eq!(Held::of(StatusCode::OK, &head(&[("content-range", "bytes 4-8/10")]), Some(5)), None);
}

#[test]
fn what_counts_one_byte_too_many_is_counted_from_its_first_byte_and_never_combined() {
    let part = of("bytes 4-9/10", 5).unwrap();
    assert_eq!((part.range.clone(), part.complete, part.is_exact), (4..9, Some(9), false));
    let bytes = |range| match part.ranges(&head(&[("range", range)]), &HeaderMap::new()) {
        Some(Ranges::One(range)) => Some(range.start - 4..range.end - 4),
        _ => None,
    };
    assert_eq!(bytes("bytes=6-8"), Some(2..5));
    assert_eq!(bytes("bytes=6-"), Some(2..5));
    assert_eq!(bytes("bytes=-1"), Some(4..5));
    assert_eq!(bytes("bytes=20-"), None, "nothing is said of what may be behind it");
    assert_eq!(part.completion(&Wanted::Whole, true), None);
    assert_eq!(of("bytes 4-8/10", 3).unwrap().complete, None, "not at the end of the whole");
}

#[test]
fn only_what_is_held_is_given() {
    let stored = head(&[("etag", "\"a\"")]);
    let given = |held: &Held, lines: &[(&'static str, &'static str)]| held.ranges(&head(lines), &stored);
    let part = held(100..200, Some(1000));
    assert_eq!(given(&part, &[("range", "bytes=100-199")]), Some(Ranges::One(100..200)));
    assert_eq!(given(&part, &[("range", "bytes=150-160")]), Some(Ranges::One(150..161)));
    for range in
        ["bytes=99-150", "bytes=150-200", "bytes=0-", "bytes=100-", "bytes=-900", "bytes=110-120,300-310"]
    {
        assert_eq!(given(&part, &[("range", range)]), None, "{range}");
    }
    assert_eq!(given(&part, &[]), None, "the whole is not here");
    assert_eq!(given(&part, &[("range", "bytes=1000-")]), Some(Ranges::Unsatisfiable));
    let many = Some(Ranges::Many([110..111, 190..191].into_iter().collect()));
    assert_eq!(given(&part, &[("range", "bytes=110-110,190-190")]), many);
    // RFC 9110 §13.1.5: of another version the whole is asked for.
    assert_eq!(given(&part, &[("range", "bytes=150-160"), ("if-range", "\"b\"")]), None);
    assert!(given(&part, &[("range", "bytes=150-160"), ("if-range", "\"a\"")]).is_some());
    let at_end = held(900..1000, Some(1000));
    assert_eq!(given(&at_end, &[("range", "bytes=-50")]), Some(Ranges::One(950..1000)));
    assert_eq!(given(&at_end, &[("range", "bytes=900-")]), Some(Ranges::One(900..1000)));
}

#[test]
fn of_unknown_length_only_ranges_with_both_ends_are_given() {
    let part = held(0..100, None);
    let given = |range| part.ranges(&head(&[("range", range)]), &HeaderMap::new());
    assert_eq!(given("bytes=10-19"), Some(Ranges::One(10..20)));
    for range in ["bytes=10-", "bytes=-5", "bytes=90-100", "bytes=100-110"] {
        assert_eq!(given(range), None, "{range}");
    }
    assert_eq!(given("bytes=0-1,50-51"), Some(Ranges::Many([0..2, 50..52].into_iter().collect())));
}

#[test]
fn the_end_is_asked_for_behind_the_first_bytes_and_only_one_validator_lets_more_be_put_together() {
    let start = held(0..100, Some(1000));
    let ask =
        |held: &Held, wanted, strong| held.completion(&wanted, strong).map(|it| (it.ask, it.place, it.then));
    for strong in [true, false] {
        assert_eq!(ask(&start, Wanted::Whole, strong), Some((span(100, None), Place::First, None)));
    }
    let range = Wanted::Span(span(50, 150));
    assert_eq!(ask(&start, range, true), Some((span(100, 150), Place::First, None)));
    assert_eq!(ask(&start, range, false), None);
    let middle = held(100..200, Some(1000));
    assert_eq!(ask(&middle, Wanted::Whole, true), Some((span(0, 100), Place::Behind, Some(200..1000))));
    assert_eq!(ask(&middle, Wanted::Whole, false), None);
    assert_eq!(ask(&held(100..200, None), Wanted::Whole, true), None, "its end is not known");
    assert_eq!(ask(&middle, Wanted::Span(span(50, 150)), true), Some((span(50, 100), Place::Behind, None)));
    assert_eq!(ask(&middle, Wanted::Span(span(50, 99)), true), None, "they do not touch");
    assert_eq!(ask(&middle, Wanted::Suffix(850), true), Some((span(200, 1000), Place::First, None)));
}

#[test]
fn a_gap_is_filled_if_it_is_small() {
    let start = held(0..100, None);
    let near = Wanted::Span(span(100 + GAP_MAX, 200 + GAP_MAX));
    let far = Wanted::Span(span(101 + GAP_MAX, 200 + GAP_MAX));
    assert_eq!(start.completion(&near, true).map(|it| it.ask), Some(span(100, 200 + GAP_MAX)));
    assert_eq!(start.completion(&far, true), None);
}

#[test]
fn an_answer_that_does_not_fit_is_not_put_together_with_the_part() {
    let start = held(0..100, Some(1000));
    let completion = start.completion(&Wanted::Whole, true).unwrap();
    assert_eq!(completion.result(&start, &held(100..1000, Some(1000))), Some(held(0..1000, Some(1000))));
    assert_eq!(completion.result(&start, &held(100..500, None)), Some(held(0..500, Some(1000))));
    for (new, why) in [
        (held(101..1000, Some(1000)), "a gap"),
        (held(99..1000, Some(1000)), "another start than was asked for"),
        (held(100..1001, Some(1001)), "another length"),
        (held(100..2000, None), "longer than the whole"),
        (Held { is_exact: false, ..held(100..1000, Some(1000)) }, "miscounted"),
    ] {
        assert_eq!(completion.result(&start, &new), None, "{why}");
    }
    let middle = held(100..200, Some(1000));
    let completion = middle.completion(&Wanted::Whole, true).unwrap();
    assert_eq!(completion.result(&middle, &held(0..100, Some(1000))), Some(held(0..1000, Some(1000))));
    assert_eq!(completion.result(&middle, &held(0..99, Some(1000))), None, "it ends too early");
}

proptest! {
    /// Whatever is held and asked for: what comes of both is one run of bytes that has the part and what was wanted, and the
    /// origin is asked for no byte of the part, nor for more than the gap beyond what was wanted.
    #[test]
    fn a_completion_brings_what_is_wanted_and_asks_for_little_more(
        (length, start, end) in (2u64..4_000_000).prop_flat_map(|l| (Just(l), 0..l, 1..=l)),
        known: bool, whole: bool, from in 0u64..4_000_000, bytes in 1u64..3_000_000,
    ) {
        prop_assume!(start < end && end - start < length);
        let part = held(start..end, known.then_some(length));
        let wanted = if whole { Wanted::Whole } else { Wanted::Span(span(from, from + bytes)) };
        let Some(completion) = part.completion(&wanted, true) else { return Ok(()) };
        let asked = completion.ask.first..completion.ask.end.unwrap_or(length).min(length);
        prop_assume!(!asked.is_empty());
        let result = completion.result(&part, &held(asked.clone(), Some(length))).expect("what was asked for fits");
        let then = completion.then.clone().unwrap_or(0..0);
        prop_assert!(asked.end <= start || asked.start >= end);
        prop_assert!(then.is_empty() || then.start == end && then.end <= length);
        prop_assert!(result.range.start <= start && end <= result.range.end);
        let (first, last) = if whole { (0, length) } else { (from, (from + bytes).min(length)) };
        prop_assert!(result.range.start <= first && last <= result.range.end);
        let fetched = asked.end - asked.start + then.end - then.start;
        prop_assert!(fetched <= last.saturating_sub(first) + GAP_MAX);
    }

    #[test]
    fn no_fields_make_it_panic(place: Vec<u8>, range: Vec<u8>, length: u64) {
        let value = |bytes: &[u8]| http::HeaderValue::from_bytes(bytes).ok();
        let mut fields = HeaderMap::new();
        for (name, bytes) in [(CONTENT_RANGE, place), (http::header::RANGE, range)] {
            if let Some(value) = value(&bytes) {
                fields.insert(name, value);
            }
        }
        if let Some(held) = Held::of(StatusCode::PARTIAL_CONTENT, &fields, Some(length)) {
            let _ = (held.ranges(&fields, &fields), held.completion(&Wanted::of(&fields), true));
        }
    }
}
