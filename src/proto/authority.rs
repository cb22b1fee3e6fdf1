//! The normal form of an authority: lower case, one spelling of an address, no default port, no
//! trailing dot. Everything that is no plain host and port is refused, so that no two programs can
//! read it in two ways ("Host of Troubles").

use super::key::Scheme;
use http::HeaderValue;
use std::borrow::Cow;
use std::net::Ipv6Addr;

/// Longest host name (RFC 1035 §2.3.4, without the root's dot).
const HOST_BYTES_MAX: usize = 253;

/// Characters, userinfo, empty labels, length or port that no authority has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed host or port")]
pub struct BadAuthority;

/// A validated authority in normal form.
#[derive(Clone, Debug)]
pub struct Authority {
    value: HeaderValue,
    /// Length of the host without the port.
    name_len: usize,
}

impl PartialEq for Authority {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Authority {
    /// Reads a `Host` field (RFC 9110 §7.2). Shares the field's bytes when they are in normal form.
    ///
    /// # Errors
    /// If it is none, or empty.
    pub fn from_field(field: &HeaderValue, scheme: Scheme) -> Result<Self, BadAuthority> {
        let text = field.to_str().map_err(|_not_ascii| BadAuthority)?;
        match normal(text, scheme)? {
            Normal::Already { name_len } => Ok(Self { value: field.clone(), name_len }),
            Normal::Changed { text, name_len } => Self::from_normal(&text, name_len),
        }
    }

    /// Reads the authority of a target. `scheme` says which port is the default.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(text: &str, scheme: Scheme) -> Result<Self, BadAuthority> {
        match normal(text, scheme)? {
            Normal::Already { name_len } => Self::from_normal(text, name_len),
            Normal::Changed { text, name_len } => Self::from_normal(&text, name_len),
        }
    }

    /// Host without port.
    pub fn name(&self) -> &str {
        &self.as_str()[..self.name_len]
    }

    /// Host, and port where it is not the scheme's own.
    pub fn as_str(&self) -> &str {
        self.value.to_str().expect("an authority is checked to be visible ASCII")
    }

    /// The same as a field value.
    pub fn into_value(self) -> HeaderValue {
        self.value
    }

    fn from_normal(text: &str, name_len: usize) -> Result<Self, BadAuthority> {
        let value = HeaderValue::from_str(text).map_err(|_invalid| BadAuthority)?;
        Ok(Self { value, name_len })
    }
}

/// The normal form of a host without port.
///
/// # Errors
/// If it is none, or has a port.
pub fn normal_host(host: &str) -> Result<Cow<'_, str>, BadAuthority> {
    match host.strip_prefix('[') {
        Some(rest) => {
            let literal = rest.strip_suffix(']').ok_or(BadAuthority)?;
            let address: Ipv6Addr = literal.parse().map_err(|_invalid| BadAuthority)?;
            Ok(format!("[{address}]").into())
        }
        None => normal_name(host),
    }
}

enum Normal {
    Already { name_len: usize },
    Changed { text: String, name_len: usize },
}

fn normal(text: &str, scheme: Scheme) -> Result<Normal, BadAuthority> {
    let (host, port) = split_port(text)?;
    let port = port.filter(|port| *port != default_port(scheme));
    let host = normal_host(host)?;
    let name_len = host.len();
    let is_same = text.starts_with(&*host)
        && match port {
            None => text.len() == name_len,
            Some(port) => text[name_len..].strip_prefix(':').is_some_and(|written| is_decimal(written, port)),
        };
    if is_same {
        return Ok(Normal::Already { name_len });
    }
    let mut text = host.into_owned();
    if let Some(port) = port {
        text.push(':');
        text.push_str(&port.to_string());
    }
    Ok(Normal::Changed { text, name_len })
}

/// Splits host and port; an empty port is none (RFC 3986 §3.2.3).
fn split_port(text: &str) -> Result<(&str, Option<u16>), BadAuthority> {
    let after_host = match text.strip_prefix('[') {
        Some(rest) => rest.find(']').ok_or(BadAuthority)? + 2,
        None => text.find(':').unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at(after_host);
    let Some(port) = rest.strip_prefix(':') else {
        return if rest.is_empty() { Ok((host, None)) } else { Err(BadAuthority) };
    };
    if port.is_empty() {
        return Ok((host, None));
    }
    if port.len() > 5 || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BadAuthority);
    }
    match port.parse() {
        Ok(0) | Err(_) => Err(BadAuthority),
        Ok(port) => Ok((host, Some(port))),
    }
}

/// A host name or IPv4 address: letters, digits, `-` and `_` (which hosts in the wild have) in
/// labels that are not empty.
fn normal_name(host: &str) -> Result<Cow<'_, str>, BadAuthority> {
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() || host.len() > HOST_BYTES_MAX {
        return Err(BadAuthority);
    }
    let mut previous = b'.';
    let mut has_upper = false;
    for byte in host.bytes() {
        match byte {
            b'.' if previous == b'.' => return Err(BadAuthority),
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {}
            b'A'..=b'Z' => has_upper = true,
            _ => return Err(BadAuthority),
        }
        previous = byte;
    }
    if previous == b'.' {
        return Err(BadAuthority);
    }
    Ok(if has_upper { host.to_ascii_lowercase().into() } else { host.into() })
}

const fn default_port(scheme: Scheme) -> u16 {
    match scheme {
        Scheme::Http => 80,
        Scheme::Https => 443,
    }
}

/// Whether `written` is the usual spelling of `port` (no leading zero).
fn is_decimal(written: &str, port: u16) -> bool {
    !written.starts_with('0') && written.parse() == Ok(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_in_normal_form_is_shared_and_others_are_rewritten() {
        let field = HeaderValue::from_static("example.com:8080");
        let same = Authority::from_field(&field, Scheme::Http).expect("an authority");
        assert_eq!((same.as_str().as_ptr(), same.name()), (field.as_bytes().as_ptr(), "example.com"));
        let changed = Authority::parse("[::0:1]:80", Scheme::Http).expect("an authority");
        assert_eq!((changed.as_str(), changed.name()), ("[::1]", "[::1]"));
    }

    proptest::proptest! {
        #[test]
        fn the_normal_form_of_a_normal_form_is_itself(text in "[a-zA-Z0-9.:_\\-\\[\\]]{0,24}", other: String) {
            for (text, scheme) in [(&text, Scheme::Http), (&text, Scheme::Https), (&other, Scheme::Http)] {
                if let Ok(once) = Authority::parse(text, scheme) {
                    let twice = Authority::parse(once.as_str(), scheme).expect("a normal form is an authority");
                    proptest::prop_assert_eq!(once.as_str(), twice.as_str());
                }
            }
        }
    }
}
