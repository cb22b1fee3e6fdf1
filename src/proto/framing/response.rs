//! What the framing of a response may be that a server sends.

use super::{Fault, LENGTH_DIGITS_MAX};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, StatusCode, Version};

/// Makes `fields` state the length of a response once, or not at all: so they are given to clients and stored. What a
/// response of this status cannot state is removed (RFC 9110 §8.6).
///
/// # Errors
/// If the response has no single end. Two framings are taken for the attempt to split responses that they may be
/// (RFC 9112 §6.3), and of the codings none was asked for but one `chunked` (§7). A body under a name that is no coding ends
/// with its connection.
pub fn settle(version: Version, status: StatusCode, fields: &mut HeaderMap) -> Result<(), Fault> {
    if fields.contains_key(TRANSFER_ENCODING) {
        if version < Version::HTTP_11 || is_coded(fields) {
            return Err(Fault::TransferEncoding);
        }
        if fields.contains_key(CONTENT_LENGTH) {
            return Err(Fault::TwoFramings);
        }
    }
    if let Some(length) = stated(fields)? {
        fields.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    if status == StatusCode::NO_CONTENT {
        fields.remove(CONTENT_LENGTH);
    }
    Ok(())
}

/// Whether `Transfer-Encoding` names a coding, but not `chunked` alone.
fn is_coded(fields: &HeaderMap) -> bool {
    const CODINGS: [&str; 6] = ["chunked", "compress", "deflate", "gzip", "x-compress", "x-gzip"];
    let mut values = fields.get_all(TRANSFER_ENCODING).iter();
    let first = values.next().map_or(&[][..], |value| value.as_bytes());
    if values.next().is_none() && first.eq_ignore_ascii_case(b"chunked") {
        return false;
    }
    let members = fields
        .get_all(TRANSFER_ENCODING)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    members
        .map(|member| member.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii())
        .any(|name| CODINGS.iter().any(|coding| name.eq_ignore_ascii_case(coding.as_bytes())))
}

/// The length that all members of all `Content-Length` fields state (RFC 9110 §8.6).
fn stated(fields: &HeaderMap) -> Result<Option<u64>, Fault> {
    let mut stated = None;
    for value in fields.get_all(CONTENT_LENGTH) {
        for member in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let is_number = member.len() <= LENGTH_DIGITS_MAX && member.iter().all(u8::is_ascii_digit);
            let number =
                std::str::from_utf8(member).ok().filter(|_| is_number).and_then(|text| text.parse().ok());
            match (number, stated) {
                (Some(number), None) => stated = Some(number),
                (Some(number), Some(before)) if number == before => {}
                _ => return Err(Fault::ContentLength),
            }
        }
    }
    Ok(stated)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(
        version: Version,
        status: u16,
        lines: &[(&'static str, &'static str)],
    ) -> Result<Vec<String>, Fault> {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(*name, HeaderValue::from_static(value));
        }
        settle(version, StatusCode::from_u16(status).unwrap(), &mut fields)?;
        Ok(fields.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect())
    }

    #[test]
    fn a_length_is_stated_once_and_only_where_it_may_be() {
        const LENGTH: &str = "content-length";
        for (status, lines, kept) in [
            (200, &[(LENGTH, "5")][..], &["content-length: 5"][..]),
            (200, &[(LENGTH, "5, 5")], &["content-length: 5"]),
            (200, &[(LENGTH, "5"), (LENGTH, "05")], &["content-length: 5"]),
            (304, &[(LENGTH, "5")], &["content-length: 5"]),
            (204, &[(LENGTH, "5")], &[]),
            (204, &[(LENGTH, "0")], &[]),
            (200, &[], &[]),
        ] {
            assert_eq!(settled(Version::HTTP_11, status, lines).unwrap(), kept, "{status} {lines:?}");
        }
        for wrong in ["", "5, 6", "5,", "-1", "+5", "0x5", "5 5", "99999999999999999999"] {
            let found = settled(Version::HTTP_11, 200, &[(LENGTH, wrong)]);
            assert_eq!(found, Err(Fault::ContentLength), "{wrong:?}");
        }
    }

    #[test]
    fn a_response_with_two_framings_or_an_unknown_coding_has_no_single_end() {
        let (chunked, length) = (("transfer-encoding", "chunked"), ("content-length", "5"));
        let coded = |coding| settled(Version::HTTP_11, 200, &[("transfer-encoding", coding)]);
        for right in ["chunked", "Chunked", "identity", "none-of-any-registry", ""] {
            assert!(coded(right).is_ok(), "{right:?}");
        }
        for wrong in [
            "gzip",
            "gzip, chunked",
            "chunked, chunked",
            "chunked, x",
            "x, Chunked",
            "chunked;a=b",
            "chunked ,",
        ] {
            assert_eq!(coded(wrong), Err(Fault::TransferEncoding), "{wrong:?}");
        }
        assert_eq!(settled(Version::HTTP_11, 200, &[chunked, chunked]), Err(Fault::TransferEncoding));
        assert_eq!(settled(Version::HTTP_10, 200, &[chunked]), Err(Fault::TransferEncoding));
        assert_eq!(settled(Version::HTTP_11, 200, &[chunked, length]), Err(Fault::TwoFramings));
    }
}
