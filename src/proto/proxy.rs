//! The header of the PROXY protocol, versions 1 and 2: what a proxy tells of a connection ahead of its bytes. As HAProxy's
//! specification (`proxy-protocol.txt`, revision of 2020) has it; its sections are cited.
//!
//! Bytes come from the wire one need at a time ([`Read::Needs`]), so that no byte behind the header is ever read.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest header of version 1, line end included (§2.1).
pub const V1_LENGTH_MAX: usize = 107;
/// Longest header of any version: the addresses of version 2 are at most 216 bytes, and what else is told at most as
/// much as a proxy can know of a TLS client, with its certificate.
pub const LENGTH_MAX: usize = V2_HEAD + 216 + 4096;

const V1_BEGINS: &[u8] = b"PROXY ";
/// The shortest header of version 1 is `PROXY UNKNOWN` and its line end; one of version 2 is longer.
const SHORTEST: usize = 15;
const V2_BEGINS: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of version 2 ahead of the addresses.
const V2_HEAD: usize = 16;
/// Type of the vector that has the header's CRC-32C (§2.2.3).
const CHECKSUM: u8 = 0x03;

/// What the bytes so far are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// The header has at least this many bytes more; never 0.
    Needs(usize),
    /// The whole header.
    Whole {
        /// The client's address; `None` if the proxy speaks for itself (`LOCAL`), does not know, or was reached
        /// otherwise than by IP.
        client: Option<SocketAddr>,
    },
}

/// Why the bytes are no header that can be believed. The connection is to be closed (§2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// They begin like no header.
    Missing,
    /// They begin like one and do not go on so.
    Malformed,
    /// Longer than [`V1_LENGTH_MAX`] or [`LENGTH_MAX`].
    TooLong,
    /// The checksum is not that of the header.
    Checksum,
    /// A version, command or transport that is none of a client's byte stream.
    Unsupported,
}

/// Reads the bytes of a connection up to now, of which none may have been read that were not asked for.
///
/// # Errors
/// As soon as it is seen that no header will come of them.
pub fn read(bytes: &[u8]) -> Result<Read, Fault> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(byte, expected)| byte == expected);
    if begins(V1_BEGINS) || begins(V2_BEGINS) {
        if bytes.len() < SHORTEST {
            // An end of line that comes this early is seen with the rest.
            return Ok(Read::Needs(SHORTEST - bytes.len()));
        }
        return if begins(V1_BEGINS) { read_v1(bytes) } else { read_v2(bytes) };
    }
    Err(Fault::Missing)
}

/// §2.1: one line.
fn read_v1(bytes: &[u8]) -> Result<Read, Fault> {
    let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return needs(bytes, 2);
    };
    match &bytes[end..] {
        b"\r\n" => {
            let line = std::str::from_utf8(&bytes[V1_BEGINS.len()..end]).or(Err(Fault::Malformed))?;
            Ok(Read::Whole { client: client_v1(line)? })
        }
        b"\r" => needs(bytes, 1),
        _ => Err(Fault::Malformed),
    }
}

fn needs(bytes: &[u8], more: usize) -> Result<Read, Fault> {
    if bytes.len() + more > V1_LENGTH_MAX { Err(Fault::TooLong) } else { Ok(Read::Needs(more)) }
}

/// What follows `PROXY ` up to the end of the line.
fn client_v1(line: &str) -> Result<Option<SocketAddr>, Fault> {
    let mut words = line.split(' ');
    let family = words.next();
    if family == Some("UNKNOWN") {
        // Whatever follows is to be ignored.
        return Ok(None);
    }
    let (Some(source), Some(destination), Some(from), Some(to), None) =
        (words.next(), words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Fault::Malformed);
    };
    let (from, _) = port(from).zip(port(to)).ok_or(Fault::Malformed)?;
    let client = match family {
        Some("TCP4") => addresses::<Ipv4Addr>(source, destination).map(|address| (address, from).into()),
        Some("TCP6") => addresses::<Ipv6Addr>(source, destination).map(|address| (address, from).into()),
        _ => None,
    };
    client.map(Some).ok_or(Fault::Malformed)
}

/// The first of two addresses of one family.
fn addresses<A: std::str::FromStr>(source: &str, destination: &str) -> Option<A> {
    let _: A = destination.parse().ok()?;
    source.parse().ok()
}

/// A decimal number without zeros in front, as the protocol has them.
fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

/// §2.2: a head, addresses, and vectors of type, length and value.
fn read_v2(bytes: &[u8]) -> Result<Read, Fault> {
    let Some(head) = bytes.first_chunk::<V2_HEAD>() else {
        return Ok(Read::Needs(V2_HEAD - bytes.len()));
    };
    let (version, command) = (head[12] >> 4, head[12] & 0x0f);
    if version != 2 || command > 1 {
        return Err(Fault::Unsupported);
    }
    let length = V2_HEAD + usize::from(u16::from_be_bytes([head[14], head[15]]));
    if length > LENGTH_MAX {
        return Err(Fault::TooLong);
    }
    if bytes.len() < length {
        return Ok(Read::Needs(length - bytes.len()));
    }
    if bytes.len() > length {
        return Err(Fault::Malformed);
    }
    if command == 0 {
        // LOCAL: all that follows is to be ignored, also the family.
        return Ok(Read::Whole { client: None });
    }
    let rest = &bytes[V2_HEAD..];
    let (client, vectors) = match head[13] {
        // Of an address family that the proxy cannot tell.
        0x00 => return Ok(Read::Whole { client: None }),
        0x11 => in_ipv4(rest)?,
        0x21 => in_ipv6(rest)?,
        // A socket of the proxy's machine.
        0x31 => (None, rest.get(216..).ok_or(Fault::Malformed)?),
        0x12 | 0x22 | 0x32 => return Err(Fault::Unsupported),
        _ => return Err(Fault::Malformed),
    };
    check_vectors(bytes, bytes.len() - vectors.len())?;
    Ok(Read::Whole { client })
}

type Addressed<'a> = (Option<SocketAddr>, &'a [u8]);

fn in_ipv4(rest: &[u8]) -> Result<Addressed<'_>, Fault> {
    let (block, vectors) = rest.split_first_chunk::<12>().ok_or(Fault::Malformed)?;
    let [a, b, c, d, _, _, _, _, high, low, _, _] = *block;
    Ok((Some((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])).into()), vectors))
}

fn in_ipv6(rest: &[u8]) -> Result<Addressed<'_>, Fault> {
    let (block, vectors) = rest.split_first_chunk::<36>().ok_or(Fault::Malformed)?;
    let source: [u8; 16] = *block.first_chunk().ok_or(Fault::Malformed)?;
    Ok((Some((Ipv6Addr::from(source), u16::from_be_bytes([block[32], block[33]])).into()), vectors))
}

/// Steps over the vectors from `at` on, and compares the checksum if there is one.
fn check_vectors(header: &[u8], mut at: usize) -> Result<(), Fault> {
    while at < header.len() {
        let [kind, high, low] = *header[at..].first_chunk::<3>().ok_or(Fault::Malformed)?;
        let value = at + 3;
        let end = value + usize::from(u16::from_be_bytes([high, low]));
        if end > header.len() {
            return Err(Fault::Malformed);
        }
        if kind == CHECKSUM {
            let told: [u8; 4] = header[value..end].try_into().or(Err(Fault::Malformed))?;
            // Made with zeros in the place of the checksum.
            let sum = crc32c::crc32c_append(crc32c::crc32c(&header[..value]), &[0; 4]);
            if crc32c::crc32c_append(sum, &header[end..]) != u32::from_be_bytes(told) {
                return Err(Fault::Checksum);
            }
        }
        at = end;
    }
    Ok(())
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
