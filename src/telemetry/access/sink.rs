//! Where lines go.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Mode of a new log file: requests are personal data.
const FILE_MODE: u32 = 0o640;

/// An open target and what became of the last write to it.
pub(super) struct Sink {
    target: Target,
    /// The last write failed, so the next failure is not logged again.
    failing: bool,
    /// The last write ended within a line.
    torn: bool,
}

enum Target {
    Nowhere,
    Stdout(io::Stdout),
    File(File),
}

impl Sink {
    /// Swallows everything.
    pub(super) const fn nowhere() -> Self {
        Self::new(Target::Nowhere)
    }

    /// Standard output.
    pub(super) fn stdout() -> Self {
        Self::new(Target::Stdout(io::stdout()))
    }

    /// The end of the file at `path`, made if missing.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn append(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path)?;
        Ok(Self::new(Target::File(file)))
    }

    /// Writes whole lines and returns how many of them were lost. A failure is logged once until a
    /// write succeeds again.
    pub(super) fn write(&mut self, lines: &[u8]) -> u64 {
        if self.torn && self.write_counting(b"\n").1.is_ok() {
            self.torn = false;
        }
        let (written, result) = self.write_counting(lines);
        if written > 0 {
            self.torn = lines[written - 1] != b'\n';
        }
        match result {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                self.failing = true;
                tracing::error!(%error, "access log cannot be written; lines are dropped");
            }
            Err(_) => {}
        }
        lines[written..].iter().filter(|byte| **byte == b'\n').count() as u64
    }

    const fn new(target: Target) -> Self {
        Self { target, failing: false, torn: false }
    }

    fn write_counting(&mut self, bytes: &[u8]) -> (usize, io::Result<()>) {
        let out: &mut dyn Write = match &mut self.target {
            Target::Nowhere => return (bytes.len(), Ok(())),
            Target::Stdout(stdout) => stdout,
            Target::File(file) => file,
        };
        let mut written = 0;
        while written < bytes.len() {
            match out.write(&bytes[written..]) {
                Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (written, Err(error)),
            }
        }
        (written, out.flush())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_a_full_disk_refuses_are_counted() {
        let mut sink = Sink::append(Path::new("/dev/full")).expect("the device exists");
        assert_eq!(sink.write(b"a\nb\nc\n"), 3);
        assert!(sink.failing && !sink.torn);
    }

    #[test]
    fn a_torn_line_is_ended_before_the_next() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("access.log");
        let mut sink = Sink::append(&path).expect("opens");
        assert_eq!(sink.write(b"torn"), 0);
        assert_eq!(sink.write(b"whole\n"), 0);
        assert_eq!(std::fs::read(&path).expect("written"), b"torn\nwhole\n");
    }
}
