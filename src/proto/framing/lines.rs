//! Lines, and the names at their beginning.

use super::Fault;

/// The lines of a text that is shown again and again as it grows; each byte is searched once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lines {
    /// Where the line begins that is not complete.
    at: usize,
    /// Up to where no end of it was found.
    searched: usize,
}

impl Lines {
    /// Before the first line.
    pub(super) const START: Self = Self { at: 0, searched: 0 };

    /// Goes on with the text, of which there may be more.
    #[inline]
    pub(super) fn of<'a>(&self, text: &'a [u8]) -> Reader<'a> {
        Reader { text, at: self.at, searched: self.searched, found: 0 }
    }
}

/// Bytes that are searched at once.
const BLOCK: usize = 16;

/// Reads the lines of a text.
pub(super) struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    /// Up to where `found` says what there is.
    searched: usize,
    /// A bit for each LF of the last block that was not read yet; the highest bit is its last byte.
    found: u32,
}

impl<'a> Reader<'a> {
    /// The next line without its end, which must be CRLF: RFC 9112 §2.2 lets a recipient take a bare LF for one, and
    /// some do and some do not. `None` if it is not complete.
    #[inline(always)]
    pub(super) fn next(&mut self) -> Option<Result<&'a [u8], Fault>> {
        let end = self.line_feed()?;
        let line = self.text[self.at..end].strip_suffix(b"\r");
        self.at = end + 1;
        Some(line.ok_or(Fault::LineEnd))
    }

    /// Where the next LF is.
    #[inline(always)]
    fn line_feed(&mut self) -> Option<usize> {
        while self.found == 0 {
            let Some(block) = self.text[self.searched..].first_chunk::<BLOCK>() else { return self.last() };
            self.searched += BLOCK;
            // Most blocks have none; this test is made for all bytes at once.
            if block.iter().fold(false, |any, byte| any | (*byte == b'\n')) {
                self.found = line_feeds(block);
            }
        }
        let nth = self.found.trailing_zeros() as usize;
        self.found &= self.found - 1;
        Some(self.searched - BLOCK + nth)
    }

    /// Searches the rest of the text, which is shorter than a block.
    #[inline]
    fn last(&mut self) -> Option<usize> {
        let (length, left) = (self.text.len(), self.text.len() - self.searched);
        if left == 0 {
            return None;
        }
        let Some(block) = self.text.last_chunk::<BLOCK>() else {
            let found = self.text[self.searched..].iter().position(|byte| *byte == b'\n');
            self.searched = found.map_or(length, |found| self.searched + found + 1);
            return found.map(|_| self.searched - 1);
        };
        // What was searched before is in the block once more.
        self.found = line_feeds(block) >> (BLOCK - left) << (BLOCK - left);
        self.searched = length;
        if self.found == 0 { None } else { self.line_feed() }
    }

    /// Bytes of all lines so far.
    #[inline]
    pub(super) const fn read(&self) -> usize {
        self.at
    }

    /// Where to go on when there is more of the text; all lines of it must have been read.
    pub(super) const fn rest(&self) -> Lines {
        Lines { at: self.at, searched: self.searched }
    }
}

/// A bit for each LF of a block.
#[inline]
fn line_feeds(block: &[u8; BLOCK]) -> u32 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let half = |half: u64| {
        let word = half ^ (LOW / 0x7f * b'\n' as u64);
        // The highest bit of each byte that is 0, then those eight bits side by side.
        let found = !((word & LOW).wrapping_add(LOW) | word | LOW);
        (found >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
    };
    let block = u128::from_le_bytes(*block);
    (half(block as u64) | half((block >> 64) as u64) << 8) as u32
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
