//! Dates, ages and entity tags.

use super::harness::{field, fields, lines};
use super::model;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use shoal::proto::semantics::{
    Condition, EtagKind, Expires, ResponseFacts, Validators, condition, corrected_initial_age, current_age,
    make_conditional, strong_etag, validates,
};
use shoal::proto::time::Wall;
use std::time::{Duration, UNIX_EPOCH};

pub(crate) const DATE_WORDS: &[&str] = &[
    "Sun, ",
    "Sunday, ",
    "Sun ",
    "06 Nov 1994",
    "06-Nov-94",
    "Nov  6",
    " 08:49:37",
    " GMT",
    " UTC",
    " 1994",
    "29 Feb 2000",
    "29 Feb 1900",
    "31",
    "60",
    "24",
    "69",
    "70",
    "9999",
    "0000",
    "-",
    ":",
    ",",
    " ",
];

/// One date, as each of the fields that hold one.
pub(crate) fn dates(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    let read = |name: &'static str| {
        let head = HeaderMap::from_iter([(http::HeaderName::from_static(name), value.clone())]);
        ResponseFacts::parse(StatusCode::OK, &head)
    };
    let at = read("date").date();
    assert_eq!(read("last-modified").last_modified(), at);
    assert_eq!(read("expires").expires(), at.map_or(Expires::Invalid, Expires::At));

    let text = String::from_utf8_lossy(model::trim(bytes)).into_owned();
    if let Ok(other) = httpdate::parse_http_date(&text) {
        let secs = other.duration_since(UNIX_EPOCH).unwrap().as_secs();
        // That library does not look at each separator.
        let expected = forms(secs).iter().any(|form| is_form(&text, form)).then_some(secs as i64);
        assert_eq!(at, expected, "{text} as another library reads it");
    }
    let Some(at) = at else { return };
    // The years 0000 to 9999, and a leap second behind the last.
    assert!((-62_167_219_200..=253_402_300_800).contains(&at), "{text}");
    // What is a date is written like one: in one of the three forms of RFC 9110 §5.6.7, but for the name of the day.
    if (0..253_402_300_800).contains(&at) && !text.contains(":60") {
        assert!(
            forms(at as u64).iter().any(|form| is_form(&text, form)),
            "{text} is none of {:?}",
            forms(at as u64)
        );
    }
}

/// A time in the three forms, the day of the month of the last with a space and with a zero.
fn forms(at: u64) -> [String; 4] {
    let imf = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(at));
    let (date, month, year, time) = (&imf[5..7], &imf[8..11], &imf[12..16], &imf[17..25]);
    let spaced = date.strip_prefix('0').map_or_else(|| date.to_owned(), |digit| format!(" {digit}"));
    [
        imf.clone(),
        format!("Sunday, {date}-{month}-{} {time} GMT", &year[2..]),
        format!("Sun {month} {spaced} {time} {year}"),
        format!("Sun {month} {date} {time} {year}"),
    ]
}

/// Whether a text is the form, whatever day of the week it names.
fn is_form(text: &str, form: &str) -> bool {
    let behind =
        |text: &str| text.split_once(' ').map(|(day, rest)| (day.ends_with(','), rest.to_ascii_lowercase()));
    let name = text.split(' ').next().unwrap_or_default().trim_end_matches(',').to_ascii_lowercase();
    let days = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
    let long = form.starts_with("Sunday");
    let is_day = days.iter().any(|day| if long { *day == name } else { day[..3] == name });
    behind(text) == behind(form) && is_day
}

/// Lines of `Age`, and what comes of them with some clocks.
pub(crate) fn ages(bytes: &[u8]) {
    let head = fields(lines(bytes));
    let facts = ResponseFacts::parse(StatusCode::OK, &head);
    let first = head.get("age").map(|line| model::split(line.as_bytes(), b',', true)[0].clone());
    let expected = first.and_then(|member| model::digits_of(model::trim(&member)));
    assert_eq!(facts.age().map(u64::from), expected.map(|age| age.min(1 << 31)));
    for (sent, received) in
        [(0, 0), (1_000_000_000, 1_000_000_007), (2_000_000_000, 1_000_000_000), (i64::MIN, i64::MAX)]
    {
        let (sent, received) = (Wall::from_secs(sent), Wall::from_secs(received));
        let initial = corrected_initial_age(&facts, sent, received);
        assert!(initial >= facts.age().unwrap_or(0) && initial <= 1 << 31, "an age only grows on its way");
        let mut before = initial;
        for later in [0, 1, 3600, 1 << 40] {
            let age =
                current_age(initial, received, Wall::from_secs(received.as_secs().saturating_add(later)));
            assert!(age >= before && age <= 1 << 31);
            before = age;
        }
    }
}

pub(crate) const TAG_WORDS: &[&str] =
    &["\"a\"", "W/\"a\"", "w/\"a\"", "\"\"", "*", ",", ", ", "\"", "W/", "\\", "\n", "a", " "];

/// The first line is the tag of what is stored, the others are those of a request.
pub(crate) fn entity_tags(bytes: &[u8]) {
    let mut all = lines(bytes);
    let stored = field("etag", all.next().unwrap_or_default());
    let rest = all.collect::<Vec<_>>().join(&b'\n');
    let own = stored.get("etag").and_then(|tag| model_tag(tag.as_bytes()));
    let facts = ResponseFacts::parse(StatusCode::OK, &stored);
    let kind = match &own {
        None => EtagKind::None,
        Some((_, true)) => EtagKind::Weak,
        Some((_, false)) => EtagKind::Strong,
    };
    assert_eq!(facts.etag(), kind);
    let strong = own.as_ref().filter(|(_, weak)| !weak).map(|(opaque, _)| &opaque[..]);
    assert_eq!(strong_etag(&stored), strong);

    let validators = Validators::of(StatusCode::OK, &stored);
    for (name, comparison) in [("if-none-match", false), ("if-match", true)] {
        let request = field(name, &rest);
        if !request.contains_key(name) {
            continue;
        }
        let asked: Vec<_> = request
            .get_all(name)
            .iter()
            .flat_map(|line| model::split(line.as_bytes(), b',', false))
            .filter_map(|tag| model_tag(&tag))
            .collect();
        let any = asked.iter().any(|(opaque, _)| opaque == b"*");
        let same = asked.iter().any(|(opaque, weak)| {
            own.as_ref().is_some_and(|own| own.0 == *opaque && (!comparison || !weak && !own.1))
        });
        let expected = match (comparison, any || same) {
            (false, true) => Condition::NotModified,
            (true, false) => Condition::PreconditionFailed,
            _ => Condition::Proceed,
        };
        assert_eq!(condition(&Method::GET, &request, &validators), expected, "{name}");
    }
    a_validation_asks_for_what_is_stored(&stored, own.is_some());
}

/// RFC 9110 §8.8.3, and what origins send beside it: opaque part, and whether it is weak.
fn model_tag(text: &[u8]) -> Option<(Vec<u8>, bool)> {
    let text = model::trim(text);
    let is_quoted = |text: &[u8]| {
        text.len() > 1 && text[0] == b'"' && text.iter().position(|b| *b == b'"') == Some(0) && {
            let inner = text[1..].iter().position(|byte| *byte == b'"');
            inner == Some(text.len() - 2)
        }
    };
    if text.is_empty() {
        None
    } else if text.starts_with(b"W/") && is_quoted(&text[2..]) {
        Some((text[2..].to_vec(), true))
    } else {
        Some((text.to_vec(), !is_quoted(text)))
    }
}

fn a_validation_asks_for_what_is_stored(stored: &HeaderMap, has_tag: bool) {
    let mut request = field("if-none-match", b"\"other\"");
    request.insert("range", HeaderValue::from_static("bytes=0-1"));
    assert_eq!(make_conditional(&mut request, stored), has_tag);
    assert_eq!(request.get("if-none-match"), stored.get("etag").filter(|_| has_tag));
    assert!(!request.contains_key("range"));
    // The 304 that answers it with the same tag, or none, is about what is stored.
    assert!(!has_tag || validates(stored, stored));
    assert!(validates(stored, &HeaderMap::new()));
    let condition = condition(&Method::GET, &request, &Validators::of(StatusCode::OK, stored));
    // By the grammar of lists a tag without quotes may be several.
    let is_one = stored.get("etag").is_some_and(|tag| !tag.as_bytes().contains(&b','));
    assert!(!has_tag || !is_one || condition == Condition::NotModified);
}
