//! Request traces: lines of `time id size`, plain or xz-compressed, in the order of their requests.
//!
//! An object is an id *and* a size: an id that occurs with two sizes is two objects. The time is
//! not used: a trace is replayed as fast as the target answers.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// Requests that one trace may hold: 4 bytes of memory each, and far beyond what one replay does.
const REQUESTS_MAX: usize = 100_000_000;

/// Bytes of one line, its end included.
const LINE_BYTES_MAX: u64 = 256;

/// The first bytes of each xz stream (xz file format §2.1.1.1).
const XZ_MAGIC: &[u8] = b"\xfd7zXZ\0";

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Object {
    /// The name, unique together with the size.
    pub id: u64,
    /// Body bytes.
    pub size: u64,
}

impl Object {
    /// The URL's path at the test origin.
    pub fn path(self) -> String {
        format!("/obj/{}", self.id)
    }
}

/// Requests in order. Objects are numbered by their first occurrence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    objects: Vec<Object>,
    requests: Vec<u32>,
}

/// Why a trace could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file could not be opened, read or decompressed.
    #[error("cannot read the trace: {0}")]
    Read(#[from] io::Error),
    /// A line is not `time id size`.
    #[error("line {line} of the trace is not `time id size`: {text:?}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// Its beginning.
        text: String,
    },
    /// There is no request in it.
    #[error("the trace is empty")]
    Empty,
    /// There are more requests than a trace may hold.
    #[error("the trace has more than {REQUESTS_MAX} requests: limit them")]
    TooLong,
}

impl Trace {
    /// Reads the first `limit` requests of the file at `path`; blocks.
    ///
    /// # Errors
    /// See [`TraceError`].
    pub fn read(path: &Path, limit: usize) -> Result<Self, TraceError> {
        let mut file = BufReader::with_capacity(1 << 16, File::open(path)?);
        if file.fill_buf()?.starts_with(XZ_MAGIC) {
            let decoder = liblzma::bufread::XzDecoder::new_multi_decoder(file);
            Self::parse(BufReader::with_capacity(1 << 16, decoder), limit)
        } else {
            Self::parse(file, limit)
        }
    }

    /// Reads the first `limit` requests of `lines`; empty lines are skipped.
    ///
    /// # Errors
    /// See [`TraceError`].
    pub fn parse(mut lines: impl BufRead, limit: usize) -> Result<Self, TraceError> {
        let mut builder = Builder::default();
        let mut line = Vec::new();
        for number in 1.. {
            if builder.trace.requests.len() >= limit {
                break;
            }
            line.clear();
            if lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            let object = parse_line(&line).ok_or_else(|| TraceError::Line {
                line: number,
                text: String::from_utf8_lossy(&line).trim().to_owned(),
            })?;
            builder.push(object)?;
        }
        builder.finish()
    }

    /// A trace of these requests.
    ///
    /// # Errors
    /// [`TraceError::Empty`] and [`TraceError::TooLong`].
    pub fn from_requests(requests: impl IntoIterator<Item = Object>) -> Result<Self, TraceError> {
        let mut builder = Builder::default();
        requests.into_iter().try_for_each(|object| builder.push(object))?;
        builder.finish()
    }

    /// The distinct objects, in the order of their first request. Never empty.
    pub fn objects(&self) -> &[Object] {
        &self.objects
    }

    /// The requests in order, each as an index into [`objects`](Self::objects). Never empty.
    pub fn requests(&self) -> &[u32] {
        &self.requests
    }
}

/// A trace in the making.
#[derive(Default)]
struct Builder {
    trace: Trace,
    numbers: HashMap<Object, u32>,
}

impl Builder {
    fn push(&mut self, object: Object) -> Result<(), TraceError> {
        if self.trace.requests.len() == REQUESTS_MAX {
            return Err(TraceError::TooLong);
        }
        let objects = &mut self.trace.objects;
        let number = *self.numbers.entry(object).or_insert_with(|| {
            objects.push(object);
            (objects.len() - 1) as u32
        });
        self.trace.requests.push(number);
        Ok(())
    }

    fn finish(self) -> Result<Trace, TraceError> {
        if self.trace.requests.is_empty() { Err(TraceError::Empty) } else { Ok(self.trace) }
    }
}

fn parse_line(line: &[u8]) -> Option<Object> {
    let mut fields = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let (_time, id, size) = (fields.next()?, fields.next()?, fields.next()?);
    let object = Object { id: id.parse().ok()?, size: size.parse().ok()? };
    fields.next().is_none().then_some(object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    const LINES: &str = "1 10 500\n2 11 7\n\n3 10 500\n4 10 501\n";

    #[test]
    fn an_object_is_an_id_and_a_size() {
        let trace = Trace::parse(LINES.as_bytes(), usize::MAX).unwrap();
        let object = |id, size| Object { id, size };
        assert_eq!(trace.objects(), [object(10, 500), object(11, 7), object(10, 501)]);
        assert_eq!(trace.requests(), [0, 1, 0, 2]);
    }

    #[test]
    fn the_limit_cuts_requests() {
        let trace = Trace::parse(LINES.as_bytes(), 3).unwrap();
        assert_eq!(trace.requests(), [0, 1, 0]);
        assert_eq!(trace.objects().len(), 2);
    }

    #[test]
    fn plain_and_compressed_files_read_alike() {
        let folder = tempfile::tempdir().unwrap();
        let (plain, packed) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::write(&plain, LINES).unwrap();
        let mut encoder = liblzma::write::XzEncoder::new(File::create(&packed).unwrap(), 1);
        encoder.write_all(LINES.as_bytes()).unwrap();
        encoder.finish().unwrap();
        let expected = Trace::parse(LINES.as_bytes(), usize::MAX).unwrap();
        assert_eq!(Trace::read(&plain, usize::MAX).unwrap(), expected);
        assert_eq!(Trace::read(&packed, usize::MAX).unwrap(), expected);
    }

    #[test]
    fn a_bad_line_is_named() {
        for bad in ["1 2", "1 2 x", "1 -2 3", "1 2 3 4", "1 2 3.5", &"9".repeat(1000)] {
            let error = Trace::parse(format!("1 1 1\n{bad}\n").as_bytes(), usize::MAX).unwrap_err();
            assert!(matches!(error, TraceError::Line { line: 2, .. }), "{bad}: {error}");
        }
        assert!(matches!(Trace::parse(&b"\n"[..], usize::MAX), Err(TraceError::Empty)));
    }

    #[test]
    fn a_truncated_archive_is_an_error() {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(LINES.repeat(100).as_bytes()).unwrap();
        let mut packed = encoder.finish().unwrap();
        packed.truncate(packed.len() - 20);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), packed).unwrap();
        assert!(matches!(Trace::read(file.path(), usize::MAX), Err(TraceError::Read(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            drop(Trace::parse(&bytes[..], usize::MAX));
        }
    }
}
