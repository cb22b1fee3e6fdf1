//! Which requests a reader of the live log wants to see.
//!
//! ```text
//! filter = term (space term)*              each term must hold; no term admits all
//! term   = field op value ("," value)*     one of the values must hold; with != none of them
//! op     = "=" | "!="                      all fields
//!        | ">" | ">=" | "<" | "<="         numbers and times, one value
//! value  = bare text | "\"" text "\""      \" and \\ within quotes
//! ```
//! In text a `*` stands for any bytes, in a status for any digit (`5**`, also `5xx`). A field that a request has not is
//! different from every value, and neither above nor below any.

use super::record::{AccessRecord, Termination};
use crate::proto::verdict::Verdict;
use ipnet::IpNet;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

/// Bytes of a filter.
pub const FILTER_BYTES_MAX: usize = 2048;
/// Terms of a filter.
pub const TERMS_MAX: usize = 32;
/// Values of a term.
pub const VALUES_MAX: usize = 32;

/// Names of the fields that hold text, and of the others.
const TEXTS: [&str; 9] = ["site", "host", "method", "path", "target", "detail", "node", "id", "object"];
const OTHERS: [&str; 8] =
    ["verdict", "status", "client", "termination", "duration", "ttfb", "bytes", "attempts"];

/// What is wrong with a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("filter, at character {at}: {what}")]
pub struct FilterError {
    /// Position of the fault, in characters from 1.
    pub at: usize,
    /// The fault.
    pub what: String,
}

/// A filter. The empty one admits all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter(Vec<Term>);

#[derive(Clone, Debug, PartialEq)]
struct Term {
    /// Whether none of the values may hold, rather than one must.
    none: bool,
    wanted: Wanted,
}

#[derive(Clone, Debug, PartialEq)]
enum Wanted {
    Text(usize, Vec<String>),
    Verdicts(Vec<Verdict>),
    Status(Vec<[u8; 3]>),
    Clients(Vec<IpNet>),
    Termination(Vec<Termination>),
    Number(Number, Compare, u64),
    Numbers(Number, Vec<u64>),
}

/// A number of a record; times in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    Duration,
    FirstByte,
    Bytes,
    Attempts,
    Status,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Compare {
    Above,
    AtLeast,
    Below,
    AtMost,
}

/// An operator as written.
#[derive(Clone, Copy, PartialEq)]
enum Op {
    Is,
    IsNot,
    Compare(Compare),
}

impl Filter {
    /// Whether the request is one of those wanted.
    pub fn admits(&self, record: &AccessRecord<'_>) -> bool {
        self.0.iter().all(|term| term.wanted.holds(record) != term.none)
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        if text.len() > FILTER_BYTES_MAX {
            return Err(FilterError { at: 1, what: format!("longer than {FILTER_BYTES_MAX} bytes") });
        }
        let mut reader = Reader { text, at: 0 };
        let mut terms = Vec::new();
        while reader.skip_space() {
            if terms.len() == TERMS_MAX {
                return Err(reader.error(format!("more than {TERMS_MAX} terms")));
            }
            terms.push(reader.term()?);
        }
        Ok(Self(terms))
    }
}

impl Wanted {
    fn holds(&self, record: &AccessRecord<'_>) -> bool {
        match self {
            Self::Text(field, globs) => {
                text(record, *field, |text| globs.iter().any(|glob| matches(glob, text)))
            }
            Self::Verdicts(verdicts) => verdicts.contains(&record.verdict),
            Self::Status(patterns) => record.status.is_some_and(|status| has_status(patterns, status)),
            Self::Clients(nets) => {
                let client = record.client.to_canonical();
                nets.iter().any(|net| net.contains(&client))
            }
            Self::Termination(ends) => ends.contains(&record.termination),
            Self::Numbers(number, values) => number.of(record).is_some_and(|number| values.contains(&number)),
            Self::Number(number, compare, bound) => number.of(record).is_some_and(|number| match compare {
                Compare::Above => number > *bound,
                Compare::AtLeast => number >= *bound,
                Compare::Below => number < *bound,
                Compare::AtMost => number <= *bound,
            }),
        }
    }
}

impl Number {
    fn of(self, record: &AccessRecord<'_>) -> Option<u64> {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        match self {
            Self::Duration => Some(micros(record.duration)),
            Self::FirstByte => record.first_byte.map(micros),
            Self::Bytes => Some(record.bytes_out),
            Self::Attempts => Some(record.attempts.into()),
            Self::Status => record.status.map(u64::from),
        }
    }
}

/// Whether the text of a field, by its place in [`TEXTS`], is as wanted.
fn text(record: &AccessRecord<'_>, field: usize, is_wanted: impl Fn(&str) -> bool) -> bool {
    match TEXTS[field] {
        "site" => is_wanted(record.site),
        "host" => is_wanted(record.host),
        "method" => is_wanted(record.method.as_str()),
        "path" => is_wanted(record.target.split('?').next().unwrap_or_default()),
        "target" => is_wanted(record.target),
        "detail" => record.detail.is_some_and(is_wanted),
        "node" => record.peer.or(record.upstream).is_some_and(is_wanted),
        "id" => is_wanted(&record.request_id.to_string()),
        _ => record.object.is_some_and(|object| is_wanted(&object.to_string())),
    }
}

/// Whether a text is what a pattern says. A pattern with `n` stars looks at each byte of the text once for the part
/// behind the last star that it passed, so the cost is at most the product of both lengths, which are bounded.
fn matches(glob: &str, text: &str) -> bool {
    let (glob, text) = (glob.as_bytes(), text.as_bytes());
    let (mut in_glob, mut in_text) = (0, 0);
    let mut star = None;
    while in_text < text.len() {
        match glob.get(in_glob) {
            Some(b'*') => {
                star = Some((in_glob, in_text));
                in_glob += 1;
            }
            Some(byte) if *byte == text[in_text] => {
                in_glob += 1;
                in_text += 1;
            }
            _ => {
                let Some((at, from)) = star else { return false };
                star = Some((at, from + 1));
                (in_glob, in_text) = (at + 1, from + 1);
            }
        }
    }
    glob[in_glob..].iter().all(|byte| *byte == b'*')
}

fn has_status(patterns: &[[u8; 3]], status: u16) -> bool {
    let digit = |place: u16| b'0' + (status / place % 10) as u8;
    let digits = [digit(100), digit(10), digit(1)];
    patterns
        .iter()
        .any(|pattern| pattern.iter().zip(digits).all(|(want, digit)| *want == b'*' || *want == digit))
}

/// A filter half read.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn error(&self, what: impl Into<String>) -> FilterError {
        FilterError { at: self.text[..self.at].chars().count() + 1, what: what.into() }
    }

    /// Whether anything is left.
    fn skip_space(&mut self) -> bool {
        self.at = self.text.len() - self.rest().trim_start().len();
        !self.rest().is_empty()
    }

    fn term(&mut self) -> Result<Term, FilterError> {
        let begin = Self { text: self.text, at: self.at };
        let length = self
            .rest()
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or_else(|| self.rest().len());
        let field = self.rest()[..length].to_owned();
        let is_known = TEXTS.contains(&&*field) || OTHERS.contains(&&*field);
        if !is_known {
            let what = format!("no field {field:?}; there are {}, {}", TEXTS.join(", "), OTHERS.join(", "));
            return Err(begin.error(what));
        }
        self.at += length;
        let op = self.op()?;
        let values = self.values()?;
        wanted(&field, op, &values).map_err(|what| begin.error(what))
    }

    fn op(&mut self) -> Result<Op, FilterError> {
        let ops = [
            ("!=", Op::IsNot),
            (">=", Op::Compare(Compare::AtLeast)),
            ("<=", Op::Compare(Compare::AtMost)),
            ("=", Op::Is),
            (">", Op::Compare(Compare::Above)),
            ("<", Op::Compare(Compare::Below)),
        ];
        let found = ops.into_iter().find(|(sign, _)| self.rest().starts_with(sign));
        let (sign, op) = found.ok_or_else(|| self.error("expected one of = != > >= < <="))?;
        self.at += sign.len();
        Ok(op)
    }

    fn values(&mut self) -> Result<Vec<String>, FilterError> {
        let mut values = Vec::new();
        loop {
            if values.len() == VALUES_MAX {
                return Err(self.error(format!("more than {VALUES_MAX} values")));
            }
            values.push(self.value()?);
            if !self.rest().starts_with(',') {
                break;
            }
            self.at += 1;
        }
        match self.rest().chars().next() {
            Some(c) if !c.is_whitespace() => Err(self.error("expected a space before the next term")),
            _ => Ok(values),
        }
    }

    fn value(&mut self) -> Result<String, FilterError> {
        if self.rest().starts_with('"') {
            return self.quoted();
        }
        let length = self
            .rest()
            .find(|c: char| c == ',' || c == '"' || c.is_whitespace())
            .unwrap_or_else(|| self.rest().len());
        if length == 0 {
            return Err(self.error("expected a value"));
        }
        let value = self.rest()[..length].to_owned();
        self.at += length;
        Ok(value)
    }

    fn quoted(&mut self) -> Result<String, FilterError> {
        let mut value = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += at + 1;
                    return Ok(value);
                }
                '\\' => value.extend(chars.next().map(|(_, c)| c)),
                c => value.push(c),
            }
        }
        Err(self.error("the quote is not closed"))
    }
}

/// The term that field, operator and values make, or what is wrong with them.
fn wanted(field: &str, op: Op, values: &[String]) -> Result<Term, String> {
    if let Op::Compare(compare) = op {
        let number =
            number(field).ok_or_else(|| format!("{field} is no number: only = and != are for it"))?;
        let [value] = values else { return Err(format!("{field} is compared with one value")) };
        return Ok(Term {
            none: false,
            wanted: Wanted::Number(number, compare, parse_number(number, value)?),
        });
    }
    let wanted = match field {
        "verdict" => {
            Wanted::Verdicts(each(values, |value| named(value, &Verdict::ALL, Verdict::as_str, "verdict"))?)
        }
        "termination" => Wanted::Termination(each(values, |value| {
            named(value, &Termination::ALL, Termination::as_str, "termination")
        })?),
        "status" => Wanted::Status(each(values, status)?),
        "client" => Wanted::Clients(each(values, network)?),
        _ => match (number(field), TEXTS.iter().position(|name| *name == field)) {
            (Some(number), _) => Wanted::Numbers(number, each(values, |value| parse_number(number, value))?),
            (None, field) => Wanted::Text(field.unwrap_or_default(), values.to_vec()),
        },
    };
    Ok(Term { none: op == Op::IsNot, wanted })
}

fn each<T>(values: &[String], parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    values.iter().map(|value| parse(value)).collect()
}

fn named<T: Copy>(value: &str, all: &[T], name: fn(T) -> &'static str, what: &str) -> Result<T, String> {
    all.iter().copied().find(|known| name(*known) == value).ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|known| name(*known)).collect();
        format!("no {what} {value:?}; there are {}", names.join(", "))
    })
}

fn number(field: &str) -> Option<Number> {
    Some(match field {
        "duration" => Number::Duration,
        "ttfb" => Number::FirstByte,
        "bytes" => Number::Bytes,
        "attempts" => Number::Attempts,
        "status" => Number::Status,
        _ => return None,
    })
}

fn parse_number(number: Number, value: &str) -> Result<u64, String> {
    match number {
        Number::Duration | Number::FirstByte => {
            let time = humantime::parse_duration(value)
                .map_err(|_none| format!("{value:?} is no time such as 250ms or 2s"))?;
            Ok(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
        }
        Number::Bytes => value
            .parse()
            .map(|bytes: bytesize::ByteSize| bytes.0)
            .map_err(|_none| format!("{value:?} is no size such as 64KiB")),
        Number::Attempts | Number::Status => value.parse().map_err(|_none| format!("{value:?} is no number")),
    }
}

fn status(value: &str) -> Result<[u8; 3], String> {
    let wrong = || format!("{value:?} is no status such as 404, 5xx or 40*");
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte),
        b'x' | b'X' | b'*' => Some(b'*'),
        _ => None,
    };
    let [a, b, c] = value.as_bytes() else { return Err(wrong()) };
    match (digit(*a), digit(*b), digit(*c)) {
        (Some(a), Some(b), Some(c)) => Ok([a, b, c]),
        _ => Err(wrong()),
    }
}

fn network(value: &str) -> Result<IpNet, String> {
    let whole = value.parse::<IpAddr>().map(IpNet::from);
    value.parse().or(whole).map_err(|_none| format!("{value:?} is no address or network such as 10.0.0.0/8"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::*;
    use proptest::prelude::*;

    fn filter(text: &str) -> Filter {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn each_term_must_hold_and_one_value_of_it() {
        let record = record("/img/a.png?x=1", b"curl");
        let admits = |text: &str| filter(text).admits(&record);
        for text in [
            "",
            "  ",
            "site=shop",
            "site=other,shop status=200",
            "status=2xx",
            "status=404,2** verdict=hit_memory",
            "status>=200 status<300",
            "path=/img/*",
            "path=/img/a.png",
            "target=*x=1",
            "method!=POST,PUT",
            "client=192.0.2.0/24",
            "client!=10.0.0.0/8,::1",
            "duration>1s duration<=1001ms",
            "ttfb<1ms",
            "bytes=1234 bytes>1KiB",
            "detail!=loop",
            "node!=edge-2",
            "id=0000000000000007*",
            "host=\"example.com\"",
            "termination=complete",
        ] {
            assert!(admits(text), "{text}");
        }
        for text in [
            "site=other",
            "site=shop status=404",
            "status=5xx",
            "path=/img",
            "path=*/b.png",
            "verdict!=hit_memory",
            "client=10.0.0.0/8",
            "duration<1s",
            "detail=loop",
            "node=*",
            "attempts>0",
            "host=\"example,com\"",
        ] {
            assert!(!admits(text), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, at, what) in [
            ("sight=a", 1, "no field \"sight\""),
            ("site=a verdict=hit", 8, "no verdict \"hit\"; there are hit_memory"),
            ("site", 5, "expected one of"),
            ("site=", 6, "expected a value"),
            ("site=a,,b", 8, "expected a value"),
            ("site=\"a", 6, "not closed"),
            ("site=\"a\"b", 9, "a space"),
            ("site>a", 1, "only = and !="),
            ("duration>5", 1, "no time"),
            ("bytes>a", 1, "no size"),
            ("bytes>1,2", 1, "one value"),
            ("status=20", 1, "no status"),
            ("client=example", 1, "no address"),
        ] {
            let error = text.parse::<Filter>().expect_err(text);
            assert!(error.at == at && error.what.contains(what), "{text}: {error}");
        }
        let long = "site=a ".repeat(TERMS_MAX + 1);
        assert!(long.parse::<Filter>().expect_err("too many").what.contains("terms"));
        let many = format!("site={}", "a,".repeat(VALUES_MAX));
        assert!(many.parse::<Filter>().expect_err("too many").what.contains("values"));
        assert!(" ".repeat(FILTER_BYTES_MAX + 1).parse::<Filter>().is_err());
    }

    /// What a pattern means, said slowly.
    fn meant(glob: &[u8], text: &[u8]) -> bool {
        match glob {
            [] => text.is_empty(),
            [b'*', rest @ ..] => (0..=text.len()).any(|from| meant(rest, &text[from..])),
            [byte, rest @ ..] => text.first() == Some(byte) && meant(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange_for_a_filter(text in any::<String>()) {
            if let Ok(filter) = text.parse::<Filter>() {
                filter.admits(&record("/", b""));
            }
        }

        #[test]
        fn almost_filters_are_judged_without_a_panic(text in "[a-z]{0,6}(=|!=|<|>=)[a-z0-9*\",\\\\ .:/-]{0,24}") {
            let _ = text.parse::<Filter>();
        }

        #[test]
        fn a_quoted_value_is_the_text_itself(site in "[^*]{0,20}") {
            let quoted = site.replace('\\', "\\\\").replace('"', "\\\"");
            let mut record = record("/", b"");
            record.site = &site;
            let (is, is_not) = (format!("site=\"{quoted}\""), format!("site!=\"{quoted}\""));
            prop_assert!(filter(&is).admits(&record));
            prop_assert!(!filter(&is_not).admits(&record));
        }

        #[test]
        fn a_star_stands_for_any_bytes(glob in "[ab*]{0,7}", text in "[ab]{0,9}") {
            prop_assert_eq!(matches(&glob, &text), meant(glob.as_bytes(), text.as_bytes()));
        }
    }
}
