//! Freshening a stored response by a 304 (RFC 9111 §3.2, §4.3.4).

use super::date;
use super::directives;
use super::etag::EntityTag;
use super::fields::replayable_fields;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Whether a 304 to our own validation is about the response with the fields `stored`. If not, it
/// must update nothing: the caller asks again without conditions.
///
/// An entity tag in the 304 must equal the stored one. Weakness is disregarded: the conditional
/// request named one tag, and origins that compress send the tag of the same bytes weak with the
/// 200 and strong with the 304; [`merge_304`] keeps the stored one then. Without a tag, a
/// `Last-Modified` in the 304 must equal the stored one. A 304 with neither can only mean what was
/// asked about.
pub fn validates(stored: &HeaderMap, response_304: &HeaderMap) -> bool {
    if response_304.contains_key(header::ETAG) {
        return match (EntityTag::of(stored), EntityTag::of(response_304)) {
            (Some(stored), Some(update)) => stored.equals_weakly(&update),
            _ => false,
        };
    }
    let modified = |fields| date::of_field(fields, header::LAST_MODIFIED);
    match (modified(stored), modified(response_304)) {
        (Some(stored), Some(update)) => stored == update,
        (None, Some(_)) => EntityTag::of(stored).is_some(),
        (_, None) => true,
    }
}

/// What the answer to a HEAD says of a stored response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// It is what the origin has: the stored fields are updated.
    Same,
    /// It is not: it must not be used without being validated.
    Other,
    /// Nothing: the answer is no 200, or has nothing to compare.
    Unknown,
}

/// RFC 9111 §4.3.5: whether a stored response to a GET, with its status, fields and length of content, is what the
/// answer `response` to a HEAD describes. Validators that both have must be equal; one that only the stored response has is
/// no sign, since the answer may be without. `Content-Length`, if it is there, must be the stored length; that it is proves
/// nothing by itself, though §4.3.5 would let it: two versions may well be of one length, and the fields of the one would be
/// sent with the content of the other.
pub fn likeness(
    (status, stored, length): (StatusCode, &HeaderMap, Option<u64>),
    (answer, response): (StatusCode, &HeaderMap),
) -> Likeness {
    let is_ok = |status: StatusCode| status == StatusCode::OK || status == StatusCode::PARTIAL_CONTENT;
    if answer != StatusCode::OK || !is_ok(status) {
        return Likeness::Unknown;
    }
    let etag = EntityTag::of(response).map(|new| EntityTag::of(stored).is_some_and(|old| old == new));
    let modified = |fields| date::of_field(fields, header::LAST_MODIFIED);
    let modified = modified(response).map(|new| modified(stored) == Some(new));
    let said = response.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let same_length = said.zip(length).map(|(said, length): (u64, u64)| said == length);
    if [etag, modified, same_length].contains(&Some(false)) {
        Likeness::Other
    } else if [etag, modified].contains(&Some(true)) {
        Likeness::Same
    } else {
        Likeness::Unknown
    }
}

/// What a stored response and what validated it are together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// The fields that are stored from now on.
    pub fields: HeaderMap,
    /// Fields of the update that only the client whose request brought it gets
    /// ([`withheld_fields`](super::withheld_fields)).
    pub withheld: HeaderMap,
}

/// The fields of a stored response after a 304 that [`validates`] it: each field that the 304
/// carries replaces the stored lines of that name, `Content-*` included, but not `Content-Length`;
/// all others stay (RFC 9111 §3.2). The entity tag stays, since the bytes did.
///
/// What `private` or `no-cache` withhold by name is not among them, whether it is the 304 that says so or
/// the stored response, whose directives go on to count if the 304 has none; nor whether it is the 304 that
/// has the field or, from when nobody withheld it, the stored response. Nor is a `Set-Cookie` that comes without
/// directives: the leave to store was not given for it, and servers renew sessions with any answer.
///
/// The caller first gives the 304 a `Date` ([`ensure_date`](super::ensure_date)), takes the new
/// initial age from the facts of the 304, and judges the result by
/// [`storable`](super::storable()) again: its directives count from now on.
pub fn merge_304(stored: &HeaderMap, update: &HeaderMap) -> Merged {
    let by_update = directives::withheld(update);
    let mut update = replayable_fields(update);
    update.remove(header::CONTENT_LENGTH);
    if stored.contains_key(header::ETAG) {
        update.remove(header::ETAG);
    }
    let mut fields = stored.clone();
    for name in update.keys() {
        fields.remove(name);
    }
    for (name, value) in &update {
        fields.append(name, value.clone());
    }
    let mut names = directives::withheld(&fields);
    names.extend(by_update);
    if update.contains_key(header::SET_COOKIE) && !directives::are_stated(&update) {
        names.push(header::SET_COOKIE);
    }
    for name in &names {
        fields.remove(name);
    }
    let is_withheld = |(name, _): &(&HeaderName, &HeaderValue)| names.contains(name);
    let withheld = update.iter().filter(is_withheld);
    let withheld = withheld.map(|(name, value)| (name.clone(), value.clone())).collect();
    Merged { fields, withheld }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::head;
    use super::*;

    #[test]
    fn a_304_replaces_what_it_carries_and_keeps_the_rest() {
        let stored = head(&[
            ("cache-control", "max-age=1"),
            ("etag", "\"a\""),
            ("content-length", "36"),
            ("content-foo", "old"),
            ("test", "kept"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=1"),
        ]);
        let update = head(&[
            ("cache-control", "max-age=3600"),
            ("etag", "\"a\""),
            ("content-length", "10"),
            ("content-foo", "new"),
            ("set-cookie", "c=2"),
            ("set-cookie", "d=2"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("age", "5"),
        ]);
        let Merged { fields: merged, withheld } = merge_304(&stored, &update);
        assert!(withheld.is_empty());
        assert_eq!(
            merged,
            head(&[
                ("cache-control", "max-age=3600"),
                ("etag", "\"a\""),
                ("content-length", "36"),
                ("content-foo", "new"),
                ("test", "kept"),
                ("set-cookie", "c=2"),
                ("set-cookie", "d=2"),
            ])
        );
    }

    #[test]
    fn a_head_is_compared_by_all_that_it_carries() {
        let stored = head(&[("etag", "\"a\""), ("last-modified", "Wed, 01 Jan 2020 00:00:00 GMT")]);
        let of = |lines| likeness((StatusCode::OK, &stored, Some(9)), (StatusCode::OK, &head(lines)));
        assert_eq!(of(&[("etag", "\"a\"")]), Likeness::Same);
        assert_eq!(of(&[("etag", "\"a\""), ("content-length", "9")]), Likeness::Same);
        assert_eq!(of(&[("content-length", "9")]), Likeness::Unknown);
        assert_eq!(of(&[("content-length", "8")]), Likeness::Other);
        assert_eq!(of(&[("etag", "\"a\""), ("content-length", "8")]), Likeness::Other);
        assert_eq!(of(&[("etag", "\"b\"")]), Likeness::Other);
        assert_eq!(of(&[("etag", "W/\"a\"")]), Likeness::Other);
        assert_eq!(of(&[("last-modified", "Thu, 02 Jan 2020 00:00:00 GMT")]), Likeness::Other);
        assert_eq!(of(&[("cache-control", "max-age=9")]), Likeness::Unknown);
        let gone = likeness((StatusCode::OK, &stored, Some(9)), (StatusCode::GONE, &stored));
        assert_eq!(gone, Likeness::Unknown);
    }

    #[test]
    fn a_strong_tag_of_the_304_does_not_make_a_weak_one_strong() {
        let stored = head(&[("etag", "W/\"a\"")]);
        assert_eq!(merge_304(&stored, &head(&[("etag", "\"a\"")])).fields, stored);
    }

    type Lines = [(&'static str, &'static str)];

    fn check_withheld(rule: &str, (stored, update): (&Lines, &Lines), kept: &Lines, withheld: &Lines) {
        let merged = merge_304(&head(stored), &head(update));
        assert_eq!(merged, Merged { fields: head(kept), withheld: head(withheld) }, "{rule}");
    }

    #[test]
    fn what_is_withheld_by_name_is_not_merged() {
        const CONTROL: &str = "cache-control";
        for control in ["max-age=60, private=\"x-own\"", "max-age=60, no-cache=\"x-own\""] {
            let says = (CONTROL, control);
            check_withheld(
                "the stored directives count on",
                (&[says], &[("x-own", "1"), ("x-own", "2"), ("x-all", "3")]),
                &[says, ("x-all", "3")],
                &[("x-own", "1"), ("x-own", "2")],
            );
            check_withheld(
                "what was stored before goes",
                (&[(CONTROL, "max-age=1"), ("x-own", "0")], &[says]),
                &[says],
                &[],
            );
            check_withheld(
                "what was stored before goes, and the new is withheld",
                (&[(CONTROL, "max-age=1"), ("x-own", "0")], &[says, ("x-own", "1")]),
                &[says],
                &[("x-own", "1")],
            );
            check_withheld(
                "the 304 says that it is so no more",
                (&[says], &[(CONTROL, "max-age=60"), ("x-own", "1")]),
                &[(CONTROL, "max-age=60"), ("x-own", "1")],
                &[],
            );
            let targeted = ("cdn-cache-control", "max-age=60");
            check_withheld(
                "the 304 lacks the field that governs",
                (&[targeted], &[says, ("x-own", "1")]),
                &[targeted, says],
                &[("x-own", "1")],
            );
            check_withheld(
                "a cookie without directives is of one client",
                (&[(CONTROL, "public, max-age=60"), ("set-cookie", "a=0")], &[("set-cookie", "a=1")]),
                &[(CONTROL, "public, max-age=60")],
                &[("set-cookie", "a=1")],
            );
            check_withheld(
                "a cookie with the leave to store it is for all",
                (
                    &[(CONTROL, "public, max-age=1")],
                    &[(CONTROL, "public, max-age=60"), ("set-cookie", "a=1")],
                ),
                &[(CONTROL, "public, max-age=60"), ("set-cookie", "a=1")],
                &[],
            );
            check_withheld(
                "what is for one connection reaches nobody",
                (&[says], &[("connection", "x-own"), ("x-own", "1")]),
                &[says],
                &[],
            );
        }
    }

    fn check(
        rule: &str,
        stored: &[(&'static str, &'static str)],
        update: &[(&'static str, &'static str)],
        is: bool,
    ) {
        assert_eq!(validates(&head(stored), &head(update)), is, "{rule}");
    }

    #[test]
    fn a_304_updates_only_what_it_names() {
        const EARLY: &str = "Wed, 01 Jan 2020 00:00:00 GMT";
        const LATE: &str = "Thu, 02 Jan 2020 00:00:00 GMT";
        check("same strong tag", &[("etag", "\"a\"")], &[("etag", "\"a\"")], true);
        check("other strong tag", &[("etag", "\"a\"")], &[("etag", "\"b\"")], false);
        check("other weak tag", &[("etag", "\"a\"")], &[("etag", "W/\"b\"")], false);
        check("weakened by compression", &[("etag", "\"a\"")], &[("etag", "W/\"a\"")], true);
        check("200 was weakened", &[("etag", "W/\"a\"")], &[("etag", "\"a\"")], true);
        check("a tag where none is stored", &[("last-modified", EARLY)], &[("etag", "\"a\"")], false);
        check("same date", &[("last-modified", EARLY)], &[("last-modified", EARLY)], true);
        check("other date", &[("last-modified", EARLY)], &[("last-modified", LATE)], false);
        check("a date where only a tag is stored", &[("etag", "\"a\"")], &[("last-modified", LATE)], true);
        check("a date where nothing is stored", &[], &[("last-modified", LATE)], false);
        check("no validator in the 304", &[("etag", "\"a\"")], &[], true);
        check(
            "the tag decides over the date",
            &[("etag", "\"a\""), ("last-modified", EARLY)],
            &[("etag", "\"a\""), ("last-modified", LATE)],
            true,
        );
    }
}
