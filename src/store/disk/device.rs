//! What the disk tier asks of the operating system, as three small traits, and the real thing.
//!
//! This is the seam for crash tests and for RAM disks in simulations: nothing else in the tier
//! touches a file. No format and no policy lives here. Calls block; the tier makes them on its
//! writer thread or on the blocking pool, but for the reads that promise not to wait.

use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::io::ReadWriteFlags;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Name of the file whose lock says that a folder has a writer.
pub(super) const LOCK_NAME: &str = "lock";

/// A machine with folders.
pub trait Device: Send + Sync {
    /// Makes the folder if it is missing and locks it until the result is dropped.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if it is locked already; else what the system says.
    fn open_folder(&self, path: &Path) -> io::Result<Box<dyn Folder>>;
}

/// A locked folder. Names are plain file names.
pub trait Folder: Send + Sync {
    /// The names in the folder, in no order. Names that are no text are left out.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn Storage>>;

    /// Makes a file of `size` zero bytes whose space is set aside; its name is durable when this
    /// returns. Leaves no file behind on error, as far as the system lets it.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] or `QuotaExceeded` without space, `AlreadyExists`, others.
    fn create(&self, name: &str, size: u64) -> io::Result<Arc<dyn Storage>>;

    /// Removes a file, durably.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// An open file. Several threads may read while one writes.
pub trait Storage: Send + Sync {
    /// The length now.
    fn size(&self) -> io::Result<u64>;

    /// Fills all `parts` from `offset` on.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] if the file ends before; else what the system says.
    fn read(&self, parts: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<()>;

    /// Like [`read`](Self::read) if that needs no wait for the device. `false`: it would have to
    /// wait, failed, or cannot be told; the parts hold anything then.
    fn read_now(&self, parts: &mut [IoSliceMut<'_>], offset: u64) -> bool;

    /// Writes all of `bytes` at `offset`, at least into the system's cache.
    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes all writes so far durable.
    fn sync(&self) -> io::Result<()>;
}

/// The files of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileDevice;

impl Device for FileDevice {
    fn open_folder(&self, path: &Path) -> io::Result<Box<dyn Folder>> {
        std::fs::create_dir_all(path)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join(LOCK_NAME))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(FileFolder { path: path.to_owned(), _lock: lock }))
    }
}

struct FileFolder {
    path: PathBuf,
    /// The lock is the open file's: it ends with it, also when the process is killed.
    _lock: File,
}

impl FileFolder {
    /// Makes the names in the folder durable.
    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

impl Folder for FileFolder {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn Storage>> {
        let file = OpenOptions::new().read(true).write(true).open(self.path.join(name))?;
        Ok(Arc::new(file))
    }

    fn create(&self, name: &str, size: u64) -> io::Result<Arc<dyn Storage>> {
        let path = self.path.join(name);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        match preallocate(&file, size).and_then(|()| self.sync_names()) {
            Ok(()) => Ok(Arc::new(file)),
            Err(error) => {
                // The first error is the one to tell; a file left behind is found at the next start.
                drop(std::fs::remove_file(&path));
                Err(error)
            }
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))?;
        self.sync_names()
    }
}

/// Sets `size` bytes aside. Where the file system cannot do that, the file is only made that long.
fn preallocate(file: &File, size: u64) -> io::Result<()> {
    let set_aside =
        rustix::io::retry_on_intr(|| rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size));
    match set_aside {
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => file.set_len(size)?,
        result => result?,
    }
    // The length is metadata that a later fdatasync need not write if it did not change since.
    file.sync_all()
}

impl Storage for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read(&self, parts: &mut [IoSliceMut<'_>], mut offset: u64) -> io::Result<()> {
        let mut rest = parts;
        while !rest.is_empty() {
            match rustix::io::preadv(self, rest, offset) {
                Ok(0) if rest.iter().all(|part| part.is_empty()) => return Ok(()),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    offset += count as u64;
                    IoSliceMut::advance_slices(&mut rest, count);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn read_now(&self, parts: &mut [IoSliceMut<'_>], offset: u64) -> bool {
        let wanted: usize = parts.iter().map(|part| part.len()).sum();
        rustix::io::preadv2(self, parts, offset, ReadWriteFlags::NOWAIT) == Ok(wanted)
    }

    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
