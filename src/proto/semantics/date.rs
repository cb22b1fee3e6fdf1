//! HTTP dates (RFC 9110 §5.6.7), as seconds since the Unix epoch.
//!
//! Exactly the three formats of the RFC, letter case free. The name of the day is checked to be
//! one, but not to be the right one: it carries no information. A two-digit year is 1970 to 2069.

/// Parses an IMF-fixdate, RFC 850 or asctime date. `None` for anything else, other time zones,
/// two-digit years in IMF-fixdate and doubled spaces included.
pub(super) fn parse(text: &[u8]) -> Option<i64> {
    let text = text.trim_ascii();
    imf_fixdate(text).or_else(|| rfc850(text)).or_else(|| asctime(text))
}

/// Parses the one value of a date field. `None` if the field is absent, repeated or no date.
pub(super) fn of_field(fields: &http::HeaderMap, name: http::HeaderName) -> Option<i64> {
    let mut lines = fields.get_all(name).iter();
    let line = lines.next()?;
    if lines.next().is_some() {
        return None;
    }
    parse(line.as_bytes())
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn imf_fixdate(text: &[u8]) -> Option<i64> {
    let text: &[u8; 29] = text.try_into().ok()?;
    is_day(&text[..3])?;
    separators(text, &[(3, b','), (4, b' '), (7, b' '), (11, b' '), (16, b' ')])?;
    is_gmt(&text[25..])?;
    let year = number(&text[12..16])?;
    seconds(year, month(&text[8..11])?, number(&text[5..7])?, time_of_day(&text[17..25])?)
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
fn rfc850(text: &[u8]) -> Option<i64> {
    let comma = text.iter().position(|&byte| byte == b',')?;
    DAYS.iter().find(|day| day.as_bytes().eq_ignore_ascii_case(&text[..comma]))?;
    let text: &[u8; 24] = text[comma..].try_into().ok()?;
    separators(text, &[(1, b' '), (4, b'-'), (8, b'-'), (11, b' ')])?;
    is_gmt(&text[20..])?;
    let year = number(&text[9..11])?;
    let year = if year < 70 { 2000 + year } else { 1900 + year };
    seconds(year, month(&text[5..8])?, number(&text[2..4])?, time_of_day(&text[12..20])?)
}

/// `Sun Nov  6 08:49:37 1994`
fn asctime(text: &[u8]) -> Option<i64> {
    let text: &[u8; 24] = text.try_into().ok()?;
    is_day(&text[..3])?;
    separators(text, &[(3, b' '), (7, b' '), (10, b' '), (19, b' ')])?;
    let day = if text[8] == b' ' { number(&text[9..10])? } else { number(&text[8..10])? };
    seconds(number(&text[20..])?, month(&text[4..7])?, day, time_of_day(&text[11..19])?)
}

const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

fn is_day(text: &[u8]) -> Option<()> {
    DAYS.iter().any(|day| day.as_bytes()[..3].eq_ignore_ascii_case(text)).then_some(())
}

fn is_gmt(text: &[u8]) -> Option<()> {
    text.eq_ignore_ascii_case(b" GMT").then_some(())
}

fn separators(text: &[u8], expected: &[(usize, u8)]) -> Option<()> {
    expected.iter().all(|&(at, byte)| text[at] == byte).then_some(())
}

fn month(text: &[u8]) -> Option<i64> {
    let index = MONTHS.iter().position(|month| month.as_bytes().eq_ignore_ascii_case(text))?;
    Some(index as i64 + 1)
}

fn number(digits: &[u8]) -> Option<i64> {
    digits
        .iter()
        .try_fold(0, |value, digit| digit.is_ascii_digit().then(|| value * 10 + i64::from(digit - b'0')))
}

/// `08:49:37`; second 60 is a leap second.
fn time_of_day(text: &[u8]) -> Option<i64> {
    let [h1, h2, b':', m1, m2, b':', s1, s2] = *text else { return None };
    let (hour, minute, second) = (number(&[h1, h2])?, number(&[m1, m2])?, number(&[s1, s2])?);
    (hour < 24 && minute < 60 && second <= 60).then_some(hour * 3600 + minute * 60 + second)
}

fn seconds(year: i64, month: i64, day: i64, time_of_day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    // Counting years from March puts the leap day last, so that month starts follow one formula.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days = year * 365 + leap_days + (153 * month + 2) / 5 + day - 1;
    const DAYS_TO_EPOCH: i64 = 719_468;
    Some((days - DAYS_TO_EPOCH) * 86_400 + time_of_day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn check(rule: &str, text: &str, expected: Option<i64>) {
        assert_eq!(parse(text.as_bytes()), expected, "{rule}: {text}");
    }

    #[test]
    fn the_three_formats_of_rfc_9110_are_dates() {
        let at = Some(784_111_777);
        check("IMF-fixdate", "Sun, 06 Nov 1994 08:49:37 GMT", at);
        check("RFC 850", "Sunday, 06-Nov-94 08:49:37 GMT", at);
        check("asctime", "Sun Nov  6 08:49:37 1994", at);
        check("letter case is free", "sUN, 06 nOV 1994 08:49:37 gmt", at);
        check("the name of the day is not verified", "Mon, 06 Nov 1994 08:49:37 GMT", at);
        check("beyond 32 bits", "Sun, 21 Nov 2286 04:46:39 GMT", Some(10_000_039_599));
        check("two digits are this side of 2069", "Thursday, 18-Aug-50 02:01:18 GMT", Some(2_544_400_878));
        check("before the epoch", "Wed, 31 Dec 1969 23:59:59 GMT", Some(-1));
        check("leap day", "Thu, 29 Feb 2024 00:00:00 GMT", Some(1_709_164_800));
    }

    #[test]
    fn anything_else_is_no_date() {
        check("zero", "0", None);
        check("empty", "", None);
        check("other zone", "Thu, 18 Aug 2050 02:01:18 UTC", None);
        check("longer zone", "Thu, 18 Aug 2050 02:01:18 AEST", None);
        check("two-digit year", "Thu, 18 Aug 50 02:01:18 GMT", None);
        check("no comma", "Thu 18 Aug 2050 02:01:18 GMT", None);
        check("double space", "Thu, 18  Aug  2050 02:01:18 GMT", None);
        check("dashes", "Thu, 18-Aug-2050 02:01:18 GMT", None);
        check("dots in the time", "Thu, 18 Aug 2050 02.01.18 GMT", None);
        check("one-digit hour", "Thu, 18 Aug 2050 2:01:18 GMT", None);
        check("no such day", "Thu, 30 Feb 2050 02:01:18 GMT", None);
        check("no leap day in 1900", "Thu, 29 Feb 1900 02:01:18 GMT", None);
        check("hour 24", "Thu, 18 Aug 2050 24:01:18 GMT", None);
    }

    proptest! {
        #[test]
        fn every_formatted_time_parses_to_itself(secs in 0i64..253_402_300_800) {
            let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(secs as u64));
            prop_assert_eq!(parse(text.as_bytes()), Some(secs));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }

        #[test]
        fn no_damaged_date_panics(at in 0usize..32, byte: u8, which in 0usize..3) {
            let mut text = [
                "Sun, 06 Nov 1994 08:49:37 GMT",
                "Sunday, 06-Nov-94 08:49:37 GMT",
                "Sun Nov  6 08:49:37 1994",
            ][which].as_bytes().to_vec();
            let at = at % text.len();
            text[at] = byte;
            let _ = parse(&text);
        }
    }
}
