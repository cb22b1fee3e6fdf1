//! Lines, and the names at their beginning.

use super::Fault;

/// Reads line after line of a text that is shown again and again as it grows; each byte is searched once.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    /// Where the line begins that is not complete.
    at: usize,
    /// Up to where no end of it was found.
    searched: usize,
}

impl Lines {
    pub(super) const fn new() -> Self {
        Self { at: 0, searched: 0 }
    }

    /// The next line without its end, which must be CRLF: RFC 9112 §2.2 lets a recipient take a bare LF for one, and
    /// some do and some do not. `None` if it is not complete.
    pub(super) fn next<'a>(&mut self, text: &'a [u8]) -> Result<Option<&'a [u8]>, Fault> {
        let Some(found) = memchr::memchr(b'\n', &text[self.searched..]) else {
            self.searched = text.len();
            return Ok(None);
        };
        let end = self.searched + found;
        let line = text[self.at..end].strip_suffix(b"\r").ok_or(Fault::LineEnd)?;
        self.at = end + 1;
        self.searched = end + 1;
        Ok(Some(line))
    }

    /// Bytes of all lines so far.
    pub(super) const fn read(&self) -> usize {
        self.at
    }
}

/// Whether a field line has this name, in any case. With `_` for `-` it is a fault: CGI and its heirs take it for the
/// same name, others do not.
#[inline]
pub(super) fn is_named(line: &[u8], name: &[u8], fault: Fault) -> Result<bool, Fault> {
    if line.get(name.len()) != Some(&b':') {
        return Ok(false);
    }
    let found = &line[..name.len()];
    if found.eq_ignore_ascii_case(name) {
        return Ok(true);
    }
    let dashed = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    if found.iter().map(dashed).eq(name.iter().copied()) { Err(fault) } else { Ok(false) }
}

/// The value of a field line whose name has this length, without the whitespace around it (RFC 9112 §5).
pub(super) fn value(line: &[u8], name: usize) -> &[u8] {
    let mut value = &line[name + 1..];
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}
