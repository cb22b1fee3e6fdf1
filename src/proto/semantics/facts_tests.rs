use super::super::fixtures::head;
use super::*;
use http::HeaderValue;
use proptest::prelude::*;

/// One lives in memory for each object that is there.
const _: () = assert!(size_of::<ResponseFacts>() <= 64);

fn facts(lines: &[(&'static str, &'static str)]) -> ResponseFacts {
    ResponseFacts::parse(StatusCode::OK, &head(lines))
}

const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const SECS: i64 = 784_111_777;

fn check_age(rule: &str, lines: &[&'static str], expected: Option<u32>) {
    let lines: Vec<_> = lines.iter().map(|&line| ("age", line)).collect();
    assert_eq!(facts(&lines).age(), expected, "{rule}");
}

#[test]
fn age_is_the_first_member_if_it_is_a_number() {
    check_age("plain", &["7200"], Some(7200));
    check_age("no number", &["abc"], None);
    check_age("negative", &["-7200"], None);
    check_age("decimal", &["7200.0"], None);
    check_age("almost the largest", &["2147483647"], Some(2_147_483_647));
    check_age("saturates", &["99999999999999999999"], Some(1 << 31));
    check_age("first of a line", &["7200, 0"], Some(7200));
    check_age("first of a line, young", &["0, 7200"], Some(0));
    check_age("first of two lines", &["7200", "0"], Some(7200));
    check_age("parameters", &["7200;foo=bar"], None);
    check_age("empty", &[""], None);
    check_age("absent", &[], None);
}

#[test]
fn dates_are_single_and_valid_or_nothing() {
    let all = facts(&[("date", DATE), ("expires", DATE), ("last-modified", DATE)]);
    assert_eq!((all.date(), all.expires(), all.last_modified()), (Some(SECS), Expires::At(SECS), Some(SECS)));
    let none = facts(&[]);
    assert_eq!((none.date(), none.expires(), none.last_modified()), (None, Expires::Absent, None));
    let invalid = facts(&[("date", "x"), ("expires", "0"), ("last-modified", "x")]);
    assert_eq!((invalid.date(), invalid.expires(), invalid.last_modified()), (None, Expires::Invalid, None));
    assert_eq!(facts(&[("expires", DATE), ("expires", DATE)]).expires(), Expires::Invalid);
    assert_eq!(facts(&[("expires", "")]).expires(), Expires::Invalid);
}

#[test]
fn validators_vary_and_cookies_are_seen() {
    assert_eq!(facts(&[("etag", "\"a\"")]).etag(), EtagKind::Strong);
    assert_eq!(facts(&[("etag", "W/\"a\"")]).etag(), EtagKind::Weak);
    assert_eq!(facts(&[("etag", "a")]).etag(), EtagKind::Weak);
    assert_eq!(facts(&[]).etag(), EtagKind::None);
    assert!(facts(&[("etag", "W/\"a\"")]).has_validator());
    assert!(facts(&[("last-modified", DATE)]).has_validator());
    assert!(!facts(&[("last-modified", "x")]).has_validator());
    assert!(facts(&[("vary", "accept")]).varies() && !facts(&[("vary", "accept")]).varies_on_everything());
    assert!(facts(&[("vary", "accept, *")]).varies_on_everything());
    assert!(!facts(&[("vary", ", ")]).varies());
    assert!(facts(&[("set-cookie", "a=b")]).has_set_cookie() && !facts(&[]).has_set_cookie());
}

proptest! {
    #[test]
    fn no_bytes_panic(line in prop::collection::vec(any::<u8>(), 0..80)) {
        let Ok(value) = HeaderValue::from_bytes(&line) else { return Ok(()) };
        let names = [header::AGE, header::DATE, header::EXPIRES, header::LAST_MODIFIED, header::ETAG, header::VARY];
        let fields: HeaderMap = names.into_iter().map(|name| (name, value.clone())).collect();
        let _ = ResponseFacts::parse(StatusCode::OK, &fields);
    }
}
