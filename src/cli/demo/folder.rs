//! The one folder that everything is written to.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Names that are tried before giving up.
const NAMES_MAX: u32 = 64;

/// A folder of this process alone, removed with its content when dropped.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Makes a new folder below `parent` that only this user may enter.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn create(parent: &Path) -> io::Result<Self> {
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        for number in 0..NAMES_MAX {
            let path = parent.join(format!("shoal-demo-{}-{number}", std::process::id()));
            // Making fails if anything has the name, so nothing of another user's is ever used.
            match builder.create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_folders_differ_and_vanish_with_their_content() {
        let parent = tempfile::tempdir().unwrap();
        let folders = [Folder::create(parent.path()).unwrap(), Folder::create(parent.path()).unwrap()];
        assert_ne!(folders[0].path(), folders[1].path());
        std::fs::write(folders[0].path().join("x"), "x").unwrap();
        drop(folders);
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
