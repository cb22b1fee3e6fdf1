use super::super::directives::ResponseDirectives;
use super::super::fixtures::head;
use super::*;

fn check(
    rule: &str,
    lines: &[(&'static str, &'static str)],
    governing: Governing,
    lifetime: Option<u32>,
) -> ResponseDirectives {
    let directives = ResponseDirectives::parse(&head(lines));
    assert_eq!(directives.governing(), governing, "{rule}");
    assert_eq!(directives.max_age(), lifetime, "{rule}");
    directives
}

const CDN: &str = "cdn-cache-control";
const SURROGATE: &str = "surrogate-control";
const CC: &str = "cache-control";

#[test]
fn a_valid_cdn_cache_control_alone_decides() {
    use Governing::CdnCacheControl as Cdn;
    let no_store = check("over no-store", &[(CDN, "max-age=9"), (CC, "no-store")], Cdn, Some(9));
    assert!(!no_store.no_store());
    assert!(check("no-store over fresh", &[(CDN, "no-store"), (CC, "max-age=9")], Cdn, None).no_store());
    assert!(check("private", &[(CDN, "private"), (CC, "max-age=9")], Cdn, None).private());
    assert!(check("no-cache", &[(CDN, "no-cache"), (CC, "max-age=9")], Cdn, None).no_cache());
    check("unknown members are ignored", &[(CDN, "foobar, max-age=9")], Cdn, Some(9));
    check("several lines", &[(CDN, "foo"), (CDN, ""), (CDN, "max-age=9")], Cdn, Some(9));
    check("parameters are ignored", &[(CDN, "max-age=9;a=b")], Cdn, Some(9));
    check("the last of repeated keys", &[(CDN, "max-age=1, max-age=9")], Cdn, Some(9));
    check("beyond 32 bits", &[(CDN, "max-age=99999999999")], Cdn, Some(1 << 31));
    check("negative is stale", &[(CDN, "max-age=-1")], Cdn, Some(0));
    check("over Surrogate-Control", &[(CDN, "max-age=9"), (SURROGATE, "max-age=1")], Cdn, Some(9));
    assert!(!check("false is unset", &[(CDN, "no-store=?0, max-age=9")], Cdn, Some(9)).no_store());
    assert!(!check("names in a string", &[(CDN, "private=\"set-cookie\"")], Cdn, None).private());
    assert!(check("a number is no list of names", &[(CDN, "private=1")], Cdn, None).private());
}

#[test]
fn an_invalid_cdn_cache_control_is_as_if_absent() {
    use Governing::CacheControl as Plain;
    check("empty", &[(CDN, ""), (CC, "max-age=1")], Plain, Some(1));
    check("unknown type", &[(CDN, "max-age=9, &&&&&"), (CC, "max-age=1")], Plain, Some(1));
    check("string for a number", &[(CDN, "max-age=\"9\""), (CC, "max-age=1")], Plain, Some(1));
    check("decimal", &[(CDN, "max-age=9.0"), (CC, "max-age=1")], Plain, Some(1));
    check("no value", &[(CDN, "max-age"), (CC, "max-age=1")], Plain, Some(1));
    check("false", &[(CDN, "max-age=?0"), (CC, "max-age=1")], Plain, Some(1));
    check("a list", &[(CDN, "s-maxage=(1 2)"), (CC, "max-age=1")], Plain, Some(1));
    check("keys are lower case", &[(CDN, "MaX-aGe=9"), (CC, "max-age=1")], Plain, Some(1));
    check("space before the equals sign", &[(CDN, "max-age =9"), (CC, "max-age=1")], Plain, Some(1));
    check("trailing comma", &[(CDN, "max-age=9,"), (CC, "max-age=1")], Plain, Some(1));
    let surrogate = [(CDN, "&"), (SURROGATE, "max-age=5"), (CC, "max-age=1")];
    check("the next field decides", &surrogate, Governing::SurrogateControl, Some(5));
}

#[test]
fn surrogate_control_decides_if_it_speaks_of_caching() {
    use Governing::{CacheControl as Plain, SurrogateControl as Surrogate};
    assert!(
        !check("over no-store", &[(SURROGATE, "max-age=9"), (CC, "no-store")], Surrogate, Some(9)).no_store()
    );
    assert!(check("no-store", &[(SURROGATE, "no-store"), (CC, "max-age=9")], Surrogate, None).no_store());
    assert!(check("remote", &[(SURROGATE, "no-store-remote, max-age=9")], Surrogate, Some(9)).no_store());
    check("ESI alone", &[(SURROGATE, "content=\"ESI/1.0\""), (CC, "max-age=1")], Plain, Some(1));
    check("for another", &[(SURROGATE, "max-age=9;abc"), (CC, "max-age=1")], Plain, Some(1));
    check("for another too", &[(SURROGATE, "no-store;abc, max-age=9")], Surrogate, Some(9));
    let extended = check("extension", &[(SURROGATE, "max-age=9+60")], Surrogate, Some(9));
    assert_eq!(extended.stale_while_revalidate(), Some(60));
    check("malformed extension", &[(SURROGATE, "max-age=9+x")], Surrogate, Some(0));
}
