//! Chunked bodies (RFC 9112 §7.1).

use super::lines::{Lines, is_named};
use super::{Fault, Limits};

/// Hexadecimal digits of a chunk size: more do not fit into 64 bits.
const SIZE_DIGITS_MAX: u8 = 16;
/// Bytes of the extensions of one chunk (RFC 9112 §7.1.1 asks for a limit).
const EXTENSION_MAX: u16 = 256;
/// Bytes of the extensions of all chunks of a message.
const EXTENSIONS_MAX: u32 = 4096;
/// Bytes of all trailer lines. The parser behind has a limit of twice this.
const TRAILER_BYTES_MAX: usize = 8 << 10;

/// A chunked body that is being read.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    at: Place,
    /// Of the chunk: its size, then what is left of its data.
    size: u64,
    digits: u8,
    extension: u16,
    extensions: u32,
}

#[derive(Debug, Default)]
enum Place {
    #[default]
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailers(Lines, usize),
}

/// What was read of a body.
pub(super) struct Read {
    pub(super) length: usize,
    pub(super) ended: bool,
}

impl Chunks {
    /// Reads on, to the end of the body, of the bytes, or of what can be judged.
    pub(super) fn read(&mut self, bytes: &[u8], limits: &Limits) -> Result<Read, Fault> {
        let mut length = 0;
        while let Some(&byte) = bytes.get(length) {
            match &mut self.at {
                Place::Data => {
                    let left = usize::try_from(self.size).unwrap_or(usize::MAX);
                    let more = left.min(bytes.len() - length);
                    length += more;
                    self.size -= more as u64;
                    if self.size == 0 {
                        self.at = Place::DataCr;
                    }
                    continue;
                }
                Place::Trailers(lines, fields) => {
                    let ended = trailers(lines, fields, &bytes[length..], limits)?;
                    length += ended.unwrap_or(0);
                    return Ok(Read { length, ended: ended.is_some() });
                }
                _ => self.framing_byte(byte)?,
            }
            length += 1;
        }
        Ok(Read { length, ended: false })
    }

    /// Reads a byte of what is around the data.
    fn framing_byte(&mut self, byte: u8) -> Result<(), Fault> {
        self.at = match (&self.at, byte) {
            (Place::Size, b'\r') if self.digits > 0 => Place::SizeLf,
            (Place::Size, b';') if self.digits > 0 => Place::Extension,
            (Place::Size, byte) => {
                // Other readers stop at what is no digit, skip a prefix, or lose what overflows.
                let digit = char::from(byte).to_digit(16).filter(|_| self.digits < SIZE_DIGITS_MAX);
                self.size = self.size << 4 | u64::from(digit.ok_or(Fault::Chunk)?);
                self.digits += 1;
                Place::Size
            }
            (Place::Extension, b'\r') => Place::SizeLf,
            // Extensions mean nothing to anybody and are not passed on, but an end of line within one is where readers
            // come to differ (CVE-2025-55315).
            (Place::Extension, b'\t' | b' '..=b'~') => {
                self.extension += 1;
                self.extensions += 1;
                if self.extension > EXTENSION_MAX || self.extensions > EXTENSIONS_MAX {
                    return Err(Fault::Chunk);
                }
                Place::Extension
            }
            (Place::SizeLf, b'\n') => {
                (self.digits, self.extension) = (0, 0);
                if self.size == 0 { Place::Trailers(Lines::START, 0) } else { Place::Data }
            }
            (Place::DataCr, b'\r') => Place::DataLf,
            (Place::DataLf, b'\n') => Place::Size,
            _ => return Err(Fault::Chunk),
        };
        Ok(())
    }
}

/// Reads the trailers and the empty line behind them (RFC 9112 §7.1.2). Their length, if they are complete.
fn trailers(
    so_far: &mut Lines,
    fields: &mut usize,
    bytes: &[u8],
    limits: &Limits,
) -> Result<Option<usize>, Fault> {
    let most = TRAILER_BYTES_MAX.min(limits.field_bytes);
    let mut lines = so_far.of(bytes);
    while let Some(line) = lines.next() {
        let line = line?;
        *fields += 1;
        if lines.read() > most + 2 || *fields > limits.fields + 1 {
            return Err(Fault::Trailer);
        }
        if line.is_empty() {
            return Ok(Some(lines.read()));
        }
        trailer(line)?;
    }
    *so_far = lines.rest();
    if bytes.len() > most { Err(Fault::Trailer) } else { Ok(None) }
}

/// Refuses a trailer that would change what was decided by the head, if it were merged into it (RFC 9110 §6.5.1).
fn trailer(line: &[u8]) -> Result<(), Fault> {
    let named = |name: &[u8]| is_named(line, name, Fault::Trailer);
    let is_folded = matches!(line[0], b' ' | b'\t');
    if is_folded || named(b"content-length")? || named(b"transfer-encoding")? || named(b"host")? {
        return Err(Fault::Trailer);
    }
    Ok(())
}
