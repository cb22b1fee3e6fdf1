//! The requests by which content management systems and their plug-ins tell a cache to purge, read into what they mean.
//!
//! There is no standard; each plug-in speaks to the configuration that its own manual has one load into Varnish, nginx or a CDN:
//!
//! | request | meaning | who sends it |
//! |---|---|---|
//! | `PURGE /path` | the URL | Varnish's and Squid's manuals, ngx_cache_purge, FOSHttpCache (`ProxyClient/Varnish`), W3 Total Cache |
//! | … with `Fastly-Soft-Purge: 1` | the same, soft | Fastly's API reference, "Purging" |
//! | … with `X-Purge-Method: regex` and `/path/.*` | all below | Proxy Cache Purge (`varnish-http-purge`), WP Rocket, Hummingbird, Breeze |
//! | … with `xkey`, `xkey-purge`, `X-Xkey-Purge`, or `xkey-softpurge` | tags | vmod_xkey's manual, FOSHttpCache (which also names the method `PURGEKEYS`) |
//! | … with `Surrogate-Key`, `Cache-Tag`, `Cache-Tags`, `X-Cache-Tags` | tags | Drupal's purge modules, Fastly's conventions |
//! | … with `X-Magento-Tags-Pattern` | tags as alternatives; `.*` is all | Magento 2 (`CacheInvalidate/Model/PurgeCache`) |
//! | `BAN /` with `Cache-Tags` or `X-Cache-Tags` | tags as alternatives | Drupal's Varnish purger, FOSHttpCache |
//! | `BAN /` with `X-Url`, `X-Host` | a URL, all below, a host, or all | FOSHttpCache (`banPath`) |
//! | `POST /service/{id}/purge`, `…/purge/{key}`, `…/purge_all` with `Fastly-Key` | tags, a tag, all | Fastly's API reference |
//!
//! Regular expressions are not run. Those that stand for a list of plain tags or for a prefix are understood, all others
//! are refused with a reason: to purge less than was meant would be worse than to say no.

use super::wanted::{BadTag, check_tag};
use super::{Mode, SELECTORS_MAX};
use http::{HeaderMap, Method};

/// Fields that carry tags in a request to purge.
const TAG_FIELDS: [&str; 8] = [
    "surrogate-key",
    "xkey",
    "xkey-purge",
    "x-xkey-purge",
    "xkey-softpurge",
    "cache-tag",
    "cache-tags",
    "x-cache-tags",
];
/// The field of vmod_xkey's users for soft purges.
const SOFT_TAGS: &str = "xkey-softpurge";
/// Characters that mean something in a regular expression.
const SPECIAL: &[char] = &['\\', '^', '$', '|', '(', ')', '[', ']', '{', '}', '*', '+', '?'];

/// What a request tells to purge, within the site that it was sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The URL of the request.
    Url,
    /// This path and query of the request's host.
    Path(String),
    /// All URLs of the request's host whose path begins so.
    Prefix(String),
    /// These tags.
    Tags(Vec<String>),
    /// The request's host.
    Host,
    /// The whole site.
    Site,
}

/// Why a request is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Dialect {
    /// An expression that stands for no list of plain tags.
    #[error("regular expressions are not supported, but for alternatives of plain tags")]
    TagPattern,
    /// An expression that stands for no prefix.
    #[error("regular expressions are not supported, but for a path that ends in `.*`")]
    PathPattern,
    /// `X-Host` names others than the host of the request.
    #[error("only the host of the request can be purged: send it as Host, and leave X-Host out")]
    OtherHost,
    /// Selecting by media type.
    #[error("what is purged cannot be selected by X-Content-Type")]
    ContentType,
    /// A BAN without any field that says what.
    #[error("a BAN needs a field that says what: Cache-Tags, X-Cache-Tags or X-Url")]
    BareBan,
    /// A Fastly call with its keys in the body, or nowhere.
    #[error("the keys are read from the field Surrogate-Key, not from a body")]
    NoKeys,
    /// A field for tags without any.
    #[error("the field has no tag")]
    NoTags,
    /// More tags than [`SELECTORS_MAX`].
    #[error("more than {SELECTORS_MAX} tags")]
    TooMany,
    /// A tag that no response can carry.
    #[error("a tag is {0}")]
    Tag(BadTag),
}

impl Dialect {
    /// Whether it was understood and is wrong, rather than not supported.
    pub const fn is_wrong(self) -> bool {
        matches!(self, Self::NoTags | Self::TooMany | Self::Tag(_))
    }
}

impl Told {
    /// Whether a request is one to purge, if the site takes such.
    pub fn is_order(method: &Method, path: &str, fields: &HeaderMap) -> bool {
        match method.as_str() {
            "PURGE" | "BAN" | "PURGEKEYS" => true,
            // The site's own pages may have such a path; only who means Fastly's API sends this field.
            "POST" => fields.contains_key("fastly-key") && fastly_call(path).is_some(),
            _ => false,
        }
    }

    /// What a request to purge means. `path` is that of the request, with the query; `host` its host in normal form.
    ///
    /// # Errors
    /// Why it is not understood.
    pub fn read(
        method: &Method,
        host: &str,
        path: &str,
        fields: &HeaderMap,
    ) -> Result<(Mode, Self), Dialect> {
        let is_soft = fields.get("fastly-soft-purge").is_some_and(|value| value.as_bytes() != b"0")
            || fields.contains_key(SOFT_TAGS);
        let mode = if is_soft { Mode::Soft } else { Mode::Hard };
        let told = match method.as_str() {
            "POST" => fastly(path, fields),
            "BAN" => ban(host, fields),
            _ => purge(method, path, fields),
        };
        Ok((mode, told?))
    }
}

fn purge(method: &Method, path: &str, fields: &HeaderMap) -> Result<Told, Dialect> {
    if let Some(pattern) = text(fields, "x-magento-tags-pattern")? {
        return if is_anything(pattern) { Ok(Told::Site) } else { plain_tags(pattern).map(Told::Tags) };
    }
    if let Some(tags) = tags(fields, |list| Ok(separated(list)))? {
        return Ok(Told::Tags(tags));
    }
    if method.as_str() == "PURGEKEYS" {
        return Err(Dialect::NoTags);
    }
    if fields.contains_key("x-ban-regex") {
        return Err(Dialect::PathPattern);
    }
    let by_pattern = text(fields, "x-purge-method").map_err(|_not_text| Dialect::PathPattern)?;
    if !by_pattern.is_some_and(|method| method.eq_ignore_ascii_case("regex")) {
        return Ok(Told::Url);
    }
    let prefix = path.strip_suffix(".*").or_else(|| path.strip_suffix("(.*)")).ok_or(Dialect::PathPattern)?;
    plain_path(prefix).map(Told::Prefix)
}

fn ban(host: &str, fields: &HeaderMap) -> Result<Told, Dialect> {
    if !text(fields, "x-content-type")?.is_none_or(is_anything) {
        return Err(Dialect::ContentType);
    }
    let by_host = text(fields, "x-host")?.filter(|pattern| !is_anything(pattern));
    if let Some(pattern) = by_host
        && !matches!(plain_tags(pattern), Ok(hosts) if matches!(&hosts[..], [only] if only.eq_ignore_ascii_case(host)))
    {
        return Err(Dialect::OtherHost);
    }
    if let Some(tags) = tags(fields, plain_tags)? {
        return Ok(Told::Tags(tags));
    }
    let Some(pattern) = text(fields, "x-url")? else {
        return if by_host.is_some() { Ok(Told::Host) } else { Err(Dialect::BareBan) };
    };
    if is_anything(pattern) {
        return Ok(if by_host.is_some() { Told::Host } else { Told::Site });
    }
    let (pattern, is_exact) = match pattern.strip_suffix('$') {
        Some(exact) => (exact, true),
        None => (pattern, false),
    };
    let Some(path) = pattern.strip_prefix('^').filter(|path| path.starts_with('/')) else {
        // Without `^` it would be sought anywhere in a URL; but FOSHttpCache's users write a whole path so.
        let prefix = pattern.strip_suffix(".*").filter(|path| path.starts_with('/') && !is_exact);
        return plain_path(prefix.ok_or(Dialect::PathPattern)?).map(Told::Prefix);
    };
    match (path.strip_suffix(".*"), is_exact) {
        (None, true) => plain_path(path).map(Told::Path),
        (prefix, _) => plain_path(prefix.unwrap_or(path)).map(Told::Prefix),
    }
}

/// A call of Fastly's API.
enum FastlyCall<'a> {
    Keys,
    Key(&'a str),
    All,
}

fn fastly_call(path: &str) -> Option<FastlyCall<'_>> {
    let (service, call) = path.strip_prefix("/service/")?.split_once('/')?;
    if service.is_empty() {
        return None;
    }
    match call {
        "purge" => Some(FastlyCall::Keys),
        "purge_all" => Some(FastlyCall::All),
        call => call
            .strip_prefix("purge/")
            .filter(|key| !key.is_empty() && !key.contains(['/', '?']))
            .map(FastlyCall::Key),
    }
}

fn fastly(path: &str, fields: &HeaderMap) -> Result<Told, Dialect> {
    match fastly_call(path) {
        Some(FastlyCall::All) => Ok(Told::Site),
        Some(FastlyCall::Key(key)) => {
            let key = percent_encoding::percent_decode_str(key).decode_utf8_lossy();
            checked(vec![key.into_owned()]).map(Told::Tags)
        }
        _ => tags(fields, |list| Ok(separated(list)))?.map(Told::Tags).ok_or(Dialect::NoKeys),
    }
}

/// The tags of all fields that carry such; `None` without such a field.
fn tags(
    fields: &HeaderMap,
    read: impl Fn(&str) -> Result<Vec<String>, Dialect>,
) -> Result<Option<Vec<String>>, Dialect> {
    let mut found = None;
    for name in TAG_FIELDS {
        for value in fields.get_all(name) {
            let list = std::str::from_utf8(value.as_bytes()).map_err(|_not_text| Dialect::TagPattern)?;
            found.get_or_insert_with(Vec::new).extend(read(list)?);
        }
    }
    found.map(checked).transpose()
}

fn checked(tags: Vec<String>) -> Result<Vec<String>, Dialect> {
    match tags.len() {
        0 => Err(Dialect::NoTags),
        1..=SELECTORS_MAX => {
            tags.iter().try_for_each(|tag| check_tag(tag)).map_err(Dialect::Tag)?;
            Ok(tags)
        }
        _ => Err(Dialect::TooMany),
    }
}

fn separated(list: &str) -> Vec<String> {
    let tags = list.split(|c: char| c == ',' || c.is_whitespace()).filter(|tag| !tag.is_empty());
    tags.map(str::to_owned).collect()
}

/// The tags of an expression of alternatives: `a|b`, `(a|b)(,.+)?$`, `(^|,)(a|b)(,|$)`, `((^|,)a(,|$))|((^|,)b(,|$))`, each
/// character of a tag perhaps behind a `\`.
fn plain_tags(pattern: &str) -> Result<Vec<String>, Dialect> {
    // What stands before and behind a tag in a list. None of it can be part of a tag, which has no comma.
    let mut bare = pattern.to_owned();
    for boundary in ["(^|,)", "(,|$)", "(,.+)?$", "(?:^|,)", "(?:,|$)"] {
        bare = bare.replace(boundary, "");
    }
    let mut tags = Vec::new();
    for alternative in bare.split('|') {
        let alternative = alternative.trim_start_matches('^').trim_end_matches('$');
        let alternative = alternative.trim_start_matches('(').trim_end_matches(')');
        let alternative = alternative.trim_start_matches('^').trim_end_matches('$');
        for word in separated(alternative) {
            tags.push(unescaped(&word).ok_or(Dialect::TagPattern)?);
        }
    }
    checked(tags)
}

/// A literal with its escapes resolved; `None` if it is none.
fn unescaped(word: &str) -> Option<String> {
    let mut literal = String::with_capacity(word.len());
    let mut characters = word.chars();
    while let Some(c) = characters.next() {
        match c {
            // A letter or digit behind it would be a class or a reference.
            '\\' => literal.push(characters.next().filter(|escaped| !escaped.is_ascii_alphanumeric())?),
            c if SPECIAL.contains(&c) => return None,
            c => literal.push(c),
        }
    }
    Some(literal)
}

/// A path without special characters. A `.` stands for itself: nobody means another character by it.
fn plain_path(path: &str) -> Result<String, Dialect> {
    // The first `?` of a path that has no other special character begins its query.
    let special = |path: &str| path.contains(|c: char| SPECIAL.contains(&c));
    let (before, query) = path.split_once('?').unwrap_or((path, ""));
    let literal = unescaped(path);
    match literal {
        Some(literal) if literal.starts_with('/') => Ok(literal),
        _ if path.starts_with('/') && !special(before) && !special(query) => Ok(path.to_owned()),
        _ => Err(Dialect::PathPattern),
    }
}

fn is_anything(pattern: &str) -> bool {
    matches!(pattern.trim(), ".*" | "^.*$" | "^.*" | ".*$" | ".+")
}

fn text<'a>(fields: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Dialect> {
    let value = fields.get(name).map(|value| std::str::from_utf8(value.as_bytes()));
    value.transpose().map_err(|_not_text| Dialect::TagPattern)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(line: &str, fields: &[(&'static str, &str)]) -> Result<(Mode, Told), Dialect> {
        let (method, path) = line.split_once(' ').expect("a method and a path");
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, value.parse().expect("a value"));
        }
        let method = method.parse().expect("a method");
        assert!(Told::is_order(&method, path, &map), "{line} {fields:?}");
        Told::read(&method, "shop.example", path, &map)
    }

    #[track_caller]
    fn check(line: &str, fields: &[(&'static str, &str)], expected: Told) {
        assert_eq!(read(line, fields), Ok((Mode::Hard, expected)), "{line} {fields:?}");
    }

    #[track_caller]
    fn check_not(line: &str, fields: &[(&'static str, &str)], expected: Dialect) {
        assert_eq!(read(line, fields), Err(expected), "{line} {fields:?}");
    }

    fn tagged(tags: &[&str]) -> Told {
        Told::Tags(tags.iter().map(|tag| (*tag).to_owned()).collect())
    }

    #[test]
    fn a_plain_purge_is_of_its_url() {
        check("PURGE /a?b=c", &[], Told::Url);
        check("PURGE /a", &[("x-purge-method", "default")], Told::Url);
        assert_eq!(read("PURGE /a", &[("fastly-soft-purge", "1")]), Ok((Mode::Soft, Told::Url)));
        check("PURGE /a", &[("fastly-soft-purge", "0")], Told::Url);
    }

    #[test]
    fn a_pattern_that_ends_in_anything_is_a_prefix_and_no_other_is_run() {
        let regex = ("x-purge-method", "regex");
        for (path, prefix) in [
            ("/.*", "/"),
            ("/blog/.*", "/blog/"),
            ("/blog(.*)", "/blog"),
            ("/a.html.*", "/a.html"),
            ("/a?b=.*", "/a?b="),
        ] {
            check(&format!("PURGE {path}"), &[regex], Told::Prefix(prefix.to_owned()));
        }
        for path in
            ["/blog/", "/(a|b)/.*", "/[0-9]/.*", "/.*/x", "/a$", "/a|b.*", "/a+.*", "/\\d.*", "/a?b=c?.*"]
        {
            check_not(&format!("PURGE {path}"), &[regex], Dialect::PathPattern);
        }
        check_not("PURGE /a", &[("x-ban-regex", "x")], Dialect::PathPattern);
    }

    #[test]
    fn tags_come_in_the_fields_of_all_plug_ins() {
        for name in TAG_FIELDS {
            let mode = if name == SOFT_TAGS { Mode::Soft } else { Mode::Hard };
            assert_eq!(
                read("PURGE /", &[(name, "a b,c , d")]),
                Ok((mode, tagged(&["a", "b", "c", "d"]))),
                "{name}"
            );
        }
        check("PURGE /", &[("xkey", "a"), ("xkey", "b")], tagged(&["a", "b"]));
        check("PURGEKEYS /", &[("xkey-purge", "a")], tagged(&["a"]));
        check_not("PURGEKEYS /", &[], Dialect::NoTags);
        check_not("PURGE /", &[("xkey", " , ")], Dialect::NoTags);
        check_not("PURGE /", &[("xkey", &"a ".repeat(SELECTORS_MAX + 1))], Dialect::TooMany);
        check_not("PURGE /", &[("xkey", &"a".repeat(1025))], Dialect::Tag(BadTag::TooLong));
    }

    #[test]
    fn magentos_pattern_is_a_list_of_tags_or_all() {
        let pattern = |pattern| [("x-magento-tags-pattern", pattern)];
        check("PURGE /", &pattern("((^|,)cat_p_1(,|$))"), tagged(&["cat_p_1"]));
        check("PURGE /", &pattern("((^|,)cat_p_1(,|$))|((^|,)cat_p(,|$))"), tagged(&["cat_p_1", "cat_p"]));
        check("PURGE /", &pattern("cms_b_84"), tagged(&["cms_b_84"]));
        check("PURGE /", &pattern(".*"), Told::Site);
        for other in ["cat_p_[0-9]+", "cat_p_\\d", "((^|,)cat_.*(,|$))", "a(b|c)d"] {
            check_not("PURGE /", &pattern(other), Dialect::TagPattern);
        }
    }

    #[test]
    fn bans_are_read_as_drupal_and_foshttpcache_write_them() {
        check("BAN /", &[("cache-tags", "node:1|node_list")], tagged(&["node:1", "node_list"]));
        let all = [("x-host", ".*"), ("x-url", ".*"), ("x-content-type", ".*")];
        let with = |field| [&all[..], &[field]].concat();
        check("BAN /", &with(("x-cache-tags", "(post\\-1|a\\.b)(,.+)?$")), tagged(&["post-1", "a.b"]));
        check("BAN /", &with(("x-cache-tags", "(^|,)(a|b)(,|$)")), tagged(&["a", "b"]));
        check_not("BAN /", &with(("x-cache-tags", "a.*")), Dialect::TagPattern);
        check("BAN /", &all, Told::Site);
        check("BAN /", &[("x-url", "^/blog/.*")], Told::Prefix("/blog/".to_owned()));
        check("BAN /", &[("x-url", "/blog/.*")], Told::Prefix("/blog/".to_owned()));
        check("BAN /", &[("x-url", "^/blog")], Told::Prefix("/blog".to_owned()));
        check("BAN /", &[("x-url", "^/a\\.html$")], Told::Path("/a.html".to_owned()));
        check("BAN /", &[("x-host", "^(shop\\.example)$"), ("x-url", ".*")], Told::Host);
        check("BAN /", &[("x-host", "shop.example")], Told::Host);
        check_not("BAN /", &[("x-host", "^(a.example|shop.example)$")], Dialect::OtherHost);
        check_not("BAN /", &[("x-host", "other.example"), ("cache-tags", "a")], Dialect::OtherHost);
        check_not("BAN /", &[("x-url", "\\.png$")], Dialect::PathPattern);
        check_not("BAN /", &[("x-url", "/blog")], Dialect::PathPattern);
        check_not("BAN /", &[("x-url", ".*"), ("x-content-type", "text/html")], Dialect::ContentType);
        check_not("BAN /x", &[], Dialect::BareBan);
    }

    #[test]
    fn fastlys_calls_are_read_if_they_bear_its_field() {
        let key = ("fastly-key", "secret");
        check("POST /service/abc/purge", &[key, ("surrogate-key", "a b")], tagged(&["a", "b"]));
        check("POST /service/abc/purge/a%3A1", &[key], tagged(&["a:1"]));
        check("POST /service/abc/purge_all", &[key], Told::Site);
        check_not("POST /service/abc/purge", &[key], Dialect::NoKeys);
        check_not("POST /service/abc/purge/a%20b", &[key], Dialect::Tag(BadTag::Separator));
        let (post, mut fields) = (Method::POST, HeaderMap::new());
        assert!(!Told::is_order(&post, "/service/abc/purge", &fields), "a page of the site");
        fields.insert("fastly-key", "secret".parse().expect("a value"));
        for path in
            ["/service/abc", "/service//purge", "/service/abc/purge/a/b", "/purge", "/service/abc/purge?x"]
        {
            assert!(!Told::is_order(&post, path, &fields), "{path}");
        }
        assert!(!Told::is_order(&Method::GET, "/service/abc/purge", &fields));
    }

    proptest! {
        #[test]
        fn no_pattern_makes_reading_panic_or_gives_a_tag_that_is_none(pattern in "[a-c,| ()^$.*\\\\\\[+?]{0,24}") {
            for (line, name) in [("PURGE /", "x-magento-tags-pattern"), ("BAN /", "cache-tags"), ("PURGE /", "xkey")] {
                if let Ok((_, Told::Tags(tags))) = read(line, &[(name, &pattern)]) {
                    prop_assert!(!tags.is_empty() && tags.iter().all(|tag| check_tag(tag).is_ok()), "{tags:?}");
                }
            }
            let path = format!("/{}", pattern.replace(' ', ""));
            let _ = read(&format!("PURGE {path}"), &[("x-purge-method", "regex")]);
            let _ = read("BAN /", &[("x-url", &pattern), ("x-host", &pattern)]);
        }
    }
}
