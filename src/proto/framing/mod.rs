//! Where each request on an HTTP/1 connection begins and ends (RFC 9112), told in one way only or not at all.
//!
//! Two programs that read one byte stream in two ways can be made to disagree on what is a request and what is the body
//! of one (request smuggling). [`Framing`] follows the stream message by message and refuses what has been read in two
//! ways anywhere: two framings, lengths that are no plain number, transfer codings but `chunked`, lines that do not end
//! in CRLF, folded lines, chunks that are not exact. It looks closely only at field lines that say something about
//! framing. Whether names, values and targets are made of the right bytes is left to the parser behind it, whose refusal
//! is answered alike (`front::strict`), and what `Host` says to `route`.
//!
//! No I/O and no buffers: bytes in, how many of them may be passed on out. A head, and the trailers of a chunked body,
//! are judged as a whole; until all of it is there none of it is passed on.

mod chunks;
mod fault;
mod lines;
mod response;

pub use fault::Fault;
pub use response::settle;

use chunks::Chunks;
use lines::{Lines, Reader, is_named, value};

/// Longest method. The longest that is registered has 17 letters.
const METHOD_MAX: usize = 32;
/// What an absolute target may have beyond the limit on path and query: scheme and authority.
const AUTHORITY_MAX: usize = 512;
/// Digits of a `Content-Length`, so that it fits into every reader's signed 64-bit number.
const LENGTH_DIGITS_MAX: usize = 18;

/// Bounds of a request head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of path and query.
    pub target_bytes: usize,
    /// Bytes of all field lines.
    pub field_bytes: usize,
    /// Field lines.
    pub fields: usize,
}

/// What was made of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// How many of them belong to the message that is current and may be passed on.
    pub length: usize,
    /// Whether the bytes behind these must be shown again with more behind them. If not, they belong to the next message.
    pub wants_more: bool,
}

/// Follows the requests of one connection.
#[derive(Debug)]
pub struct Framing {
    limits: Limits,
    state: State,
    messages: u64,
}

#[derive(Debug)]
enum State {
    /// Within a head, or before one.
    Head(Head),
    /// Within a body of so many more bytes.
    Length(u64),
    /// Within a chunked body.
    Chunks(Box<Chunks>),
}

impl Framing {
    /// Before the first request of a connection.
    pub const fn new(limits: Limits) -> Self {
        Self { limits, state: State::Head(Head::new()), messages: 0 }
    }

    /// The bounds in force.
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// Heads that were complete.
    pub const fn messages(&self) -> u64 {
        self.messages
    }

    /// Whether no message has begun that has not ended, as far as bytes were passed on.
    pub const fn is_between(&self) -> bool {
        matches!(self.state, State::Head(_))
    }

    /// Judges the bytes that follow those passed on so far, up to the end of the current message. After
    /// [`Taken::wants_more`] they must begin with the same bytes again.
    ///
    /// # Errors
    /// Why what follows has no single meaning. The connection has ended with that: no call may follow.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Taken, Fault> {
        let mut length = 0;
        if let State::Head(head) = &mut self.state {
            let Some(read) = head.read(bytes, &self.limits)? else {
                return Ok(Taken { length: 0, wants_more: true });
            };
            length = read;
            self.state = head.body()?;
            self.messages += 1;
        }
        let wants_more = match &mut self.state {
            State::Head(_) => false,
            State::Length(left) => {
                let more = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len() - length);
                length += more;
                *left -= more as u64;
                if *left == 0 {
                    self.state = State::Head(Head::new());
                }
                false
            }
            State::Chunks(chunks) => {
                let read = chunks.read(&bytes[length..], &self.limits)?;
                length += read.length;
                if read.ended {
                    self.state = State::Head(Head::new());
                }
                !read.ended && length < bytes.len()
            }
        };
        Ok(Taken { length, wants_more })
    }
}

/// A request head that is being read.
#[derive(Clone, Debug)]
struct Head {
    lines: Lines,
    phase: Phase,
    /// Where the field lines begin.
    fields_at: usize,
    fields: usize,
    is_10: bool,
    length: Option<u64>,
    chunked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Start,
    /// An empty line came before the request line.
    Blank,
    Fields,
}

impl Head {
    const fn new() -> Self {
        Self {
            lines: Lines::START,
            phase: Phase::Start,
            fields_at: 0,
            fields: 0,
            is_10: false,
            length: None,
            chunked: false,
        }
    }

    /// Reads on. The length of the head, if it is complete.
    fn read(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, Fault> {
        let mut lines = self.lines.of(bytes);
        while self.phase != Phase::Fields {
            let Some(line) = lines.next() else { return self.incomplete(&lines, bytes, limits) };
            let line = line?;
            match (self.phase, line.is_empty()) {
                (_, false) => {
                    self.is_10 = request_line(line, limits)?;
                    self.phase = Phase::Fields;
                    self.fields_at = lines.read();
                }
                // RFC 9112 §2.2: at least one empty line is to be ignored; more than one nobody sends.
                (Phase::Start, true) => self.phase = Phase::Blank,
                (_, true) => return Err(Fault::RequestLine),
            }
        }
        let mut fields = self.fields;
        while let Some(line) = lines.next() {
            let line = line?;
            match line.first() {
                None => {
                    self.fields = fields;
                    self.check_size(lines.read() - 2, limits)?;
                    return Ok(Some(lines.read()));
                }
                // The names that matter begin so, and what is no name.
                Some(b'c' | b'C' | b't' | b'T' | b'e' | b'E' | b' ' | b'\t') => self.field(line)?,
                Some(_) => {}
            }
            fields += 1;
        }
        self.fields = fields;
        self.incomplete(&lines, bytes, limits)
    }

    #[cold]
    fn incomplete(
        &mut self,
        lines: &Reader<'_>,
        bytes: &[u8],
        limits: &Limits,
    ) -> Result<Option<usize>, Fault> {
        self.lines = lines.rest();
        self.check_size(bytes.len(), limits)?;
        Ok(None)
    }

    /// `length` is that of the head so far, without the empty line at its end.
    fn check_size(&self, length: usize, limits: &Limits) -> Result<(), Fault> {
        if self.phase != Phase::Fields {
            let longest = METHOD_MAX + limits.target_bytes + AUTHORITY_MAX;
            return if length > longest { Err(Fault::TargetTooLong) } else { Ok(()) };
        }
        if length - self.fields_at > limits.field_bytes || self.fields > limits.fields {
            return Err(Fault::FieldsTooLarge);
        }
        Ok(())
    }

    /// Notes what a field line says about framing.
    #[expect(clippy::collapsible_match, reason = "a guard that changes what it looks at would hide it")]
    #[inline]
    fn field(&mut self, line: &[u8]) -> Result<(), Fault> {
        match line[0] {
            // RFC 9112 §5.2: a server rejects a folded line, or makes one of it; and §2.2: whitespace before the first.
            b' ' | b'\t' => return Err(Fault::Fold),
            b'c' | b'C' if is_named(line, b"content-length", Fault::ContentLength)? => {
                // RFC 9112 §6.3: a list of equal numbers may be taken for one; nobody who means well sends it.
                if self.length.replace(length(value(line, 14))?).is_some() {
                    return Err(Fault::ContentLength);
                }
            }
            b't' | b'T' if is_named(line, b"transfer-encoding", Fault::TransferEncoding)? => {
                // RFC 9112 §6.1: a server need not know more codings than `chunked`, which may be applied once only.
                if self.chunked || !value(line, 17).eq_ignore_ascii_case(b"chunked") {
                    return Err(Fault::TransferEncoding);
                }
                self.chunked = true;
            }
            // RFC 9110 §10.1.1: there is no other expectation.
            b'e' | b'E' if is_named(line, b"expect", Fault::Expectation)? => {
                if !value(line, 6).eq_ignore_ascii_case(b"100-continue") {
                    return Err(Fault::Expectation);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What follows the head (RFC 9112 §6.3).
    fn body(&self) -> Result<State, Fault> {
        Ok(match (self.chunked, self.length) {
            (true, Some(_)) => return Err(Fault::TwoFramings),
            // RFC 9112 §6.1: framing that an HTTP/1.0 recipient on the way has not seen.
            (true, None) if self.is_10 => return Err(Fault::TransferEncoding),
            (true, None) => State::Chunks(Box::default()),
            (false, Some(length)) if length > 0 => State::Length(length),
            (false, _) => State::Head(Self::new()),
        })
    }
}

/// Checks the form of a request line (RFC 9112 §3). Whether it is one of HTTP/1.0.
fn request_line(line: &[u8], limits: &Limits) -> Result<bool, Fault> {
    let (rest, version) = line.split_last_chunk::<9>().ok_or(Fault::RequestLine)?;
    let is_10 = match version {
        b" HTTP/1.1" => false,
        b" HTTP/1.0" => true,
        [b' ', b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => return Err(Fault::Version),
        _ => return Err(Fault::RequestLine),
    };
    let target = match rest.iter().take(METHOD_MAX + 1).position(|byte| *byte == b' ') {
        Some(method @ 1..) => &rest[method + 1..],
        None if rest.len() > METHOD_MAX => return Err(Fault::Method),
        Some(0) | None => return Err(Fault::RequestLine),
    };
    if target.is_empty() || target.starts_with(b" ") || target.ends_with(b" ") {
        return Err(Fault::RequestLine);
    }
    let beyond = if target[0] == b'/' { 0 } else { AUTHORITY_MAX };
    if target.len() > limits.target_bytes + beyond {
        return Err(Fault::TargetTooLong);
    }
    Ok(is_10)
}

/// The number that a `Content-Length` states (RFC 9110 §8.6).
fn length(digits: &[u8]) -> Result<u64, Fault> {
    if digits.is_empty() || digits.len() > LENGTH_DIGITS_MAX {
        return Err(Fault::ContentLength);
    }
    digits.iter().try_fold(0, |number: u64, digit| match digit {
        b'0'..=b'9' => Ok(number * 10 + u64::from(digit - b'0')),
        _ => Err(Fault::ContentLength),
    })
}

#[cfg(test)]
mod tests;
