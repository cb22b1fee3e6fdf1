use super::super::fixtures::head;
use super::*;
use http::HeaderValue;
use proptest::prelude::*;

type Lines<'a> = &'a [(&'static str, &'static str)];

fn list(vary: &'static str) -> VaryList {
    match Vary::of(&head(&[("vary", vary)])) {
        Vary::Fields(list) => list,
        other => panic!("{vary}: {other:?}"),
    }
}

#[test]
fn names_are_lower_case_sorted_and_unique() {
    let vary = Vary::of(&head(&[("vary", "Foo, bar"), ("vary", ",,FOO , baz")]));
    let Vary::Fields(list) = vary else { panic!("{vary:?}") };
    assert_eq!(list.names(), ["bar", "baz", "foo"]);
    assert_eq!(Vary::of(&head(&[])), Vary::None);
    assert_eq!(Vary::of(&head(&[("vary", " , ")])), Vary::None);
}

#[test]
fn a_star_anywhere_is_a_star() {
    for lines in [
        &[("vary", "*")][..],
        &[("vary", "*, *")],
        &[("vary", "*"), ("vary", "*")],
        &[("vary", ", *")],
        &[("vary", ""), ("vary", "*")],
        &[("vary", "*, Foo")],
        &[("vary", "Foo, *")],
        &[("vary", "not a name")],
        &[("vary", "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q")],
    ] {
        assert_eq!(Vary::of(&head(lines)), Vary::Star, "{lines:?}");
    }
    assert_eq!(list("a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,a").names().len(), VARY_NAMES_MAX);
    assert_eq!(Vary::Star.variant(ObjectId::default(), &head(&[])), None);
}

fn check(rule: &str, vary: &'static str, a: Lines<'_>, b: Lines<'_>, same: bool) {
    let (list, object) = (list(vary), ObjectId::default());
    assert_eq!(list.variant(object, &head(a)) == list.variant(object, &head(b)), same, "{rule}");
    assert_eq!(list.selecting(&head(a)) == list.selecting(&head(b)), same, "{rule}, by values");
}

#[test]
fn requests_are_compared_by_the_named_fields() {
    check("equal", "foo", &[("foo", "1")], &[("foo", "1")], true);
    check("different", "foo", &[("foo", "1")], &[("foo", "2")], false);
    check("case of other fields counts", "foo", &[("foo", "a")], &[("foo", "A")], false);
    check("others are ignored", "foo", &[("foo", "1"), ("bar", "1")], &[("foo", "1"), ("bar", "2")], true);
    check("absent is absent", "foo", &[], &[("bar", "1")], true);
    check("absent is not present", "foo", &[("foo", "1")], &[], false);
    check("absent is not empty", "foo", &[("foo", "")], &[], false);
    check("all must match", "foo, bar", &[("foo", "1"), ("bar", "1")], &[("foo", "1"), ("bar", "2")], false);
    check("values do not move between fields", "a, b", &[("a", "1")], &[("b", "1")], false);
}

#[test]
fn lists_are_normalised() {
    check("lines are joined", "foo", &[("foo", "1, 2")], &[("foo", "1"), ("foo", "2")], true);
    check("space around commas", "foo", &[("foo", "1,2")], &[("foo", " 1 ,\t2 ")], true);
    check("space within members", "foo", &[("foo", "1 2")], &[("foo", "12")], false);
    check("space in quotes", "foo", &[("foo", "\"1, 2\"")], &[("foo", "\"1,2\"")], false);
    check("order counts", "foo", &[("foo", "1, 2")], &[("foo", "2, 1")], false);
}

#[test]
fn accept_encoding_has_neither_case_nor_space() {
    let name = "accept-encoding";
    check("case and space", name, &[(name, "gzip, br;q=0.5")], &[(name, "GZIP,BR ; Q=0.5")], true);
    check("no space within", name, &[(name, "gzip")], &[(name, "gz ip")], false);
    check("codings count", name, &[(name, "gzip")], &[(name, "br")], false);
}

#[test]
fn accept_language_has_neither_case_nor_order_at_equal_weight() {
    let name = "accept-language";
    check("order", name, &[(name, "en, de")], &[(name, "de, en")], true);
    check("case", name, &[(name, "en, de")], &[(name, "eN, De")], true);
    check("space", name, &[(name, "en, de")], &[(name, " en ,   de")], true);
    check("no space within", name, &[(name, "de")], &[(name, "d e")], false);
    check("no space within weights", name, &[(name, "de;q=0.5")], &[(name, "de;q=0 .5")], false);
    check("empty members", name, &[(name, "de")], &[(name, ", de,")], true);
    check("weights are numbers", name, &[(name, "en, de;q=0.5")], &[(name, "de;q=0.50, en;q=1.0")], true);
    check("weights rank", name, &[(name, "en, de;q=0.5")], &[(name, "en;q=0.5, de")], false);
    check("weights count", name, &[(name, "en, de;q=0.5")], &[(name, "en, de;q=0.6")], false);
    check("malformed is as written", name, &[(name, "en;q=x, de")], &[(name, "de, en;q=x")], false);
    check("malformed is not weightless", name, &[(name, "en;q=9")], &[(name, "en")], false);
}

#[test]
fn no_list_is_one_variant() {
    let object = ObjectId([7; 16]);
    let expected = key::variant(object, std::iter::empty());
    assert_eq!(Vary::None.variant(object, &head(&[("foo", "1")])), Some(expected));
    assert_ne!(Some(list("foo").variant(object, &head(&[]))), Vary::None.variant(object, &head(&[])));
}

proptest! {
    #[test]
    fn the_variant_is_that_of_the_selecting_values(
        value in "[ -~]{0,30}", language in "[a-zA-Z;=q0-9., *-]{0,30}",
    ) {
        let list = list("foo, accept-language, accept-encoding");
        let mut request = HeaderMap::new();
        request.insert("foo", HeaderValue::try_from(&value).unwrap());
        request.insert("accept-language", HeaderValue::try_from(&language).unwrap());
        let selecting = list.selecting(&request);
        let values = selecting.iter().map(|field| (field.name.as_str(), field.value.as_deref()));
        let object = ObjectId::default();
        prop_assert_eq!(list.variant(object, &request), key::variant(object, values));
    }

    #[test]
    fn no_bytes_panic(line in prop::collection::vec(any::<u8>(), 0..60)) {
        let Ok(value) = HeaderValue::from_bytes(&line) else { return Ok(()) };
        let request: HeaderMap =
            ["accept-language", "accept-encoding", "foo"].map(|name| (name.parse().unwrap(), value.clone())).into_iter().collect();
        let _ = list("foo, accept-language, accept-encoding").selecting(&request);
        let _ = Vary::of(&HeaderMap::from_iter([(header::VARY, value)]));
    }

    #[test]
    fn normalising_twice_changes_nothing(line in "[a-zA-Z;=q0-9., *-]{0,30}") {
        for name in [header::ACCEPT_LANGUAGE, header::ACCEPT_ENCODING, header::ACCEPT] {
            let once = HeaderMap::from_iter([(name.clone(), HeaderValue::try_from(&line).unwrap())]);
            let value = normalised(&name, &once).unwrap();
            let twice = HeaderMap::from_iter([(name.clone(), HeaderValue::from_bytes(&value).unwrap())]);
            prop_assert_eq!(normalised(&name, &twice).unwrap(), value);
        }
    }
}

#[test]
fn only_the_one_language_that_is_liked_best_counts() {
    let wanted = |value: &'static str| {
        let request = head(&[("accept-language", value)]);
        Language::wanted(&request).map(|language| String::from_utf8(language.0.to_vec()).unwrap())
    };
    for (value, best) in [
        ("de", Some("de")),
        ("fr;q=0.5, de;q=1.0", Some("de")),
        ("DE-at, en;q=0.9, *;q=0.1", Some("de-at")),
        ("en, de", None),
        ("en;q=0.5, de;q=0.5", None),
        ("*", None),
        ("*, de;q=0.9", None),
        ("de;q=0", None),
        ("de;q=x, en;q=0.1", None),
        ("", None),
    ] {
        assert_eq!(wanted(value).as_deref(), best, "{value}");
    }
    let is = |value: &'static str| Language::of_response(&head(&[("content-language", value)])).is_some();
    assert!(is("de") && !is("de, en") && !is("") && !is("d e"));
}

#[test]
fn a_language_is_listed_apart_for_the_other_selecting_fields() {
    let object = ObjectId::default();
    let german = Language::of_response(&head(&[("content-language", "de")])).unwrap();
    let listed = |vary, lines| list(vary).variant_in(object, &head(lines), &german);
    assert_eq!(listed("accept", &[]), None, "languages do not select");
    let mobile =
        listed("accept-language, x-device", &[("x-device", "mobile"), ("accept-language", "en, de")]);
    assert!(mobile.is_some());
    assert_eq!(
        mobile,
        listed("accept-language, x-device", &[("x-device", "mobile"), ("accept-language", "de")])
    );
    assert_ne!(mobile, listed("accept-language, x-device", &[("accept-language", "de")]));
}
