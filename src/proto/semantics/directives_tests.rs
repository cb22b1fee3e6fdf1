use super::super::fixtures::head;
use super::*;
use http::HeaderValue;
use proptest::prelude::*;

fn parse(lines: &[&'static str]) -> ResponseDirectives {
    let lines: Vec<_> = lines.iter().map(|&line| ("cache-control", line)).collect();
    ResponseDirectives::parse(&head(&lines))
}

fn check_max_age(rule: &str, lines: &[&'static str], expected: Option<u32>) {
    assert_eq!(parse(lines).max_age(), expected, "{rule}: {lines:?}");
}

#[test]
fn max_age_is_digits_and_all_else_is_stale() {
    check_max_age("plain", &["max-age=3600"], Some(3600));
    check_max_age("names have no case", &["MaX-aGe=3600"], Some(3600));
    check_max_age("leading zeros", &["max-age=003600"], Some(3600));
    check_max_age("quoted", &["max-age=\"3600\""], Some(3600));
    check_max_age("32 bits", &["max-age=2147483648"], Some(DELTA_MAX));
    check_max_age("beyond 32 bits", &["max-age=99999999999"], Some(DELTA_MAX));
    check_max_age("beyond 64 bits", &["max-age=99999999999999999999999"], Some(DELTA_MAX));
    check_max_age("negative", &["max-age=-1"], Some(0));
    check_max_age("single quotes", &["max-age='3600'"], Some(0));
    check_max_age("decimal", &["max-age=3600.0"], Some(0));
    check_max_age("letters before", &["max-age=a3600"], Some(0));
    check_max_age("letters behind", &["max-age=3600a"], Some(0));
    check_max_age("no argument", &["max-age"], Some(0));
    check_max_age("empty argument", &["max-age="], Some(0));
    check_max_age("space before the equals sign", &["max-age =3600"], Some(0));
    check_max_age("space after the equals sign", &["max-age= 3600"], Some(0));
    check_max_age("surrogate extensions are not for Cache-Control", &["max-age=60+60"], Some(0));
    check_max_age("unclosed quote", &["max-age=\"3600"], Some(0));
    check_max_age("absent", &["public"], None);
}

#[test]
fn lists_are_joined_over_lines_and_split_outside_quotes() {
    check_max_age("first of a line", &["max-age=1800, max-age=1"], Some(1800));
    check_max_age("first of two lines", &["max-age=1", "max-age=1800"], Some(1));
    check_max_age("second line", &["foo", "max-age=5"], Some(5));
    check_max_age("quoted before", &["extension=\"max-age=3600\", max-age=1"], Some(1));
    check_max_age("quoted after", &["max-age=1, extension=\"max-age=3600\""], Some(1));
    check_max_age("comma in quotes", &["extension=\"a, max-age=3600\", max-age=1"], Some(1));
    check_max_age("escaped quote", &["extension=\"a\\\", max-age=3600\", max-age=1"], Some(1));
    check_max_age("empty members", &[",, max-age=5 ,"], Some(5));
    check_max_age("no spaces", &["public,max-age=5,foo"], Some(5));
}

#[test]
fn every_directive_sets_what_it_names() {
    let directives = parse(&[
        "No-Store, no-cache, private, public, must-revalidate, proxy-revalidate, must-understand",
        "immutable, s-maxage=1, stale-while-revalidate=2, stale-if-error=3",
    ]);
    assert!(directives.no_store() && directives.no_cache() && directives.private() && directives.public());
    assert!(directives.must_revalidate() && directives.proxy_revalidate());
    assert!(directives.must_understand() && directives.immutable());
    assert_eq!(directives.s_maxage(), Some(1));
    assert_eq!(directives.stale_while_revalidate(), Some(2));
    assert_eq!(directives.stale_if_error(), Some(3));
    assert_eq!(directives.governing(), Governing::CacheControl);
}

#[test]
fn a_restricting_directive_holds_with_an_argument_or_space() {
    assert!(parse(&["no-store=1"]).no_store());
    assert!(parse(&["no-store =1"]).no_store());
    assert!(parse(&["must-revalidate=\"x\""]).must_revalidate());
}

fn check_qualified(rule: &str, line: &'static str, unqualified: bool, names: &[&str]) {
    let directives = parse(&[line]);
    assert_eq!(directives.private() || directives.no_cache(), unqualified, "{rule}: {line}");
    let withheld = withheld(&head(&[("cache-control", line)]));
    assert_eq!(withheld.iter().map(HeaderName::as_str).collect::<Vec<_>>(), names, "{rule}: {line}");
}

#[test]
fn qualified_forms_withhold_fields_unless_those_decide_reuse() {
    check_qualified("one name", "private=\"X-User\"", false, &["x-user"]);
    check_qualified("several names", "no-cache=\"a, ,b\"", false, &["a", "b"]);
    check_qualified("token form", "private=x-user", false, &["x-user"]);
    check_qualified("unqualified", "private", true, &[]);
    check_qualified("empty list", "private=\"\"", true, &[]);
    check_qualified("no names", "no-cache=\", ,\"", true, &[]);
    check_qualified("not a name", "private=\"a b\"", true, &[]);
    check_qualified("unclosed", "private=\"a", true, &[]);
    check_qualified("a field that selects", "no-cache=\"x, vary\"", true, &[]);
    check_qualified("a field that decides", "private=\"cache-control\"", true, &[]);
    assert!(parse(&["private=\"set-cookie\""]).withholds_set_cookie());
    assert!(!parse(&["private=\"x\""]).withholds_set_cookie());
}

proptest! {
    #[test]
    fn no_bytes_panic_the_parsers(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..4)) {
        let mut fields = HeaderMap::new();
        for line in lines {
            if let Ok(value) = HeaderValue::from_bytes(&line) {
                for name in [header::CACHE_CONTROL, targeted::CDN_CACHE_CONTROL, targeted::SURROGATE_CONTROL] {
                    fields.append(name, value.clone());
                }
            }
        }
        let _ = (ResponseDirectives::parse(&fields), withheld(&fields));
        fields.remove(targeted::CDN_CACHE_CONTROL);
        let _ = (ResponseDirectives::parse(&fields), withheld(&fields));
        fields.remove(targeted::SURROGATE_CONTROL);
        let directives = ResponseDirectives::parse(&fields);
        prop_assert!(directives.max_age().is_none_or(|secs| secs <= DELTA_MAX));
    }

    #[test]
    fn unknown_directives_anywhere_change_nothing(
        unknown in prop::collection::vec("x-[a-z]{1,8}(=([a-z0-9]{1,6}|\"[a-z ,=-]{0,12}\"))?", 0..5),
        at in prop::collection::vec(0usize..6, 5),
    ) {
        let known = "max-age=5, no-cache=\"a, b\", stale-if-error=9, public";
        let expected = ResponseDirectives::parse(&head(&[("cache-control", known)]));
        let mut members = vec!["max-age=5", "no-cache=\"a, b\"", "stale-if-error=9", "public"];
        for (unknown, at) in unknown.iter().zip(at) {
            members.insert(at.min(members.len()), unknown);
        }
        let mut fields = HeaderMap::new();
        fields.insert(header::CACHE_CONTROL, HeaderValue::try_from(members.join(", ")).unwrap());
        prop_assert_eq!(ResponseDirectives::parse(&fields), expected);
    }
}
