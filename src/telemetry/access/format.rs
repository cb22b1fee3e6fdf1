//! Lines of the access log. Whatever bytes a client sends, one record is exactly one line.

use super::AccessRecord;
use crate::proto::time::Wall;
use http::Version;
use std::fmt::Display;
use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

/// 9999-12-31T23:59:59.999Z, the last time that is written.
const LAST_MILLIS: i64 = 253_402_300_799_999;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Appends `record` as a JSON object and a newline. Fields without a value are left out; times are
/// in seconds.
pub(super) fn json(out: &mut Vec<u8>, record: &AccessRecord<'_>) {
    put(out, format_args!("{{\"ts\":\"{}\"", rfc3339(record.at)));
    put(out, format_args!(",\"request_id\":\"{}\",\"client_ip\":\"{}\"", record.request_id, record.client));
    put(out, format_args!(",\"proto\":\"{}\"", protocol(record.version)));
    json_text(out, "tls", record.tls.map(str::as_bytes));
    json_text(out, "host", Some(record.host.as_bytes()));
    json_text(out, "method", Some(record.method.as_str().as_bytes()));
    json_text(out, "target", Some(record.target.as_bytes()));
    json_text(out, "site", Some(record.site.as_bytes()));
    json_number(out, "status", record.status);
    put(out, format_args!(",\"verdict\":\"{}\"", record.verdict.as_str()));
    json_text(out, "detail", record.detail.map(str::as_bytes));
    if let Some(object) = record.object {
        put(out, format_args!(",\"object\":\"{object}\""));
    }
    put(out, format_args!(",\"bytes_in\":{},\"bytes_out\":{}", record.bytes_in, record.bytes_out));
    json_number(out, "duration", Some(Seconds(record.duration)));
    json_number(out, "ttfb", record.first_byte.map(Seconds));
    json_number(out, "age", record.age);
    json_number(out, "ttl", record.ttl);
    json_text(out, "upstream", record.upstream.map(str::as_bytes));
    json_text(out, "peer", record.peer.map(str::as_bytes));
    json_number(out, "upstream_status", record.upstream_status);
    json_number(out, "attempts", Some(record.attempts));
    json_text(out, "referer", record.referer);
    json_text(out, "user_agent", record.user_agent);
    put(out, format_args!(",\"termination\":\"{}\"}}\n", record.termination.as_str()));
}

/// Appends `record` in the combined log format and a newline. Times are UTC.
pub(super) fn combined(out: &mut Vec<u8>, record: &AccessRecord<'_>) {
    put(out, format_args!("{} - - [", record.client));
    combined_time(out, record.at);
    out.extend_from_slice(b"] \"");
    combined_text(out, record.method.as_str().as_bytes());
    out.push(b' ');
    combined_text(out, record.target.as_bytes());
    // 499 is what this format's readers know for a client that left before an answer.
    put(out, format_args!(" {}\" {} ", protocol(record.version), record.status.unwrap_or(499)));
    put(out, format_args!("{} \"", record.bytes_out));
    combined_text(out, record.referer.unwrap_or(b"-"));
    out.extend_from_slice(b"\" \"");
    combined_text(out, record.user_agent.unwrap_or(b"-"));
    out.extend_from_slice(b"\"\n");
}

fn json_number(out: &mut Vec<u8>, name: &str, value: Option<impl Display>) {
    if let Some(value) = value {
        put(out, format_args!(",\"{name}\":{value}"));
    }
}

/// Text of any bytes; those that are not UTF-8 become U+FFFD.
fn json_text(out: &mut Vec<u8>, name: &str, text: Option<&[u8]>) {
    let Some(text) = text else { return };
    put(out, format_args!(",\"{name}\":\""));
    for chunk in text.utf8_chunks() {
        json_escape(out, chunk.valid());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.push(b'"');
}

/// Beyond what JSON demands, escapes DEL, the C1 controls and the two separators that some readers
/// take for line ends, so that a terminal shows a line as what it is.
fn json_escape(out: &mut Vec<u8>, text: &str) {
    let mut rest = text;
    let special = |c: char| matches!(c, '"' | '\\' | '\u{2028}' | '\u{2029}') || c.is_control();
    while let Some(at) = rest.find(special) {
        let (plain, tail) = rest.split_at(at);
        out.extend_from_slice(plain.as_bytes());
        let mut tail = tail.chars();
        match tail.next() {
            Some(c @ ('"' | '\\')) => out.extend_from_slice(&[b'\\', c as u8]),
            Some(c) => put(out, format_args!("\\u{:04x}", u32::from(c))),
            None => break,
        }
        rest = tail.as_str();
    }
    out.extend_from_slice(rest.as_bytes());
}

/// As nginx escapes: quotes, backslashes and all but printable ASCII as `\xHH`.
fn combined_text(out: &mut Vec<u8>, text: &[u8]) {
    for &byte in text {
        match byte {
            b'"' | b'\\' | ..0x20 | 0x7f.. => put(out, format_args!("\\x{byte:02X}")),
            _ => out.push(byte),
        }
    }
}

/// `22/Nov/2026:15:16:31 +0000`, from the digits of `2026-11-22T15:16:31.000Z`.
fn combined_time(out: &mut Vec<u8>, at: Wall) {
    let mut digits = [0; 24];
    let written = write!(&mut digits[..], "{}", rfc3339(at));
    debug_assert!(written.is_ok(), "an RFC 3339 time with milliseconds has 24 bytes");
    let month = usize::from(digits[5].wrapping_sub(b'0')) * 10 + usize::from(digits[6].wrapping_sub(b'0'));
    out.extend_from_slice(&digits[8..10]);
    put(out, format_args!("/{}/", MONTHS[(month.max(1) - 1).min(11)]));
    out.extend_from_slice(&digits[..4]);
    out.push(b':');
    out.extend_from_slice(&digits[11..19]);
    out.extend_from_slice(b" +0000");
}

fn rfc3339(at: Wall) -> impl Display {
    let millis = at.as_millis().clamp(0, LAST_MILLIS).unsigned_abs();
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(millis))
}

const fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

/// Seconds with microseconds.
struct Seconds(Duration);

impl Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:06}", self.0.as_secs(), self.0.subsec_micros())
    }
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok(), "writing to a Vec does not fail");
}
