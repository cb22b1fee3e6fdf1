//! Real files with something in between, for tests that fail, stop or slow what is done with them.

use super::{Device, Folder, Storage};
use crate::store::FileDevice;
use std::io::{self, IoSliceMut};
use std::path::Path;
use std::sync::Arc;

/// What stands in between. By default nothing.
pub(crate) trait Hook: Clone + Send + Sync + 'static {
    /// Instead of a write.
    fn write(&self, file: &dyn Storage, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write(bytes, offset)
    }

    /// Whether reads that would not wait are made at once.
    fn reads_now(&self) -> bool {
        true
    }
}

/// The files of this machine behind `H`; a folder and an opened file are, too.
pub(crate) struct Hooked<T, H>(T, H);

impl<H: Hook> Hooked<FileDevice, H> {
    pub(crate) fn new(hook: H) -> Arc<Self> {
        Arc::new(Self(FileDevice, hook))
    }
}

impl<H: Hook> Device for Hooked<FileDevice, H> {
    fn open_folder(&self, path: &Path) -> io::Result<Box<dyn Folder>> {
        Ok(Box::new(Hooked(self.0.open_folder(path)?, self.1.clone())))
    }
}

impl<H: Hook> Folder for Hooked<Box<dyn Folder>, H> {
    fn names(&self) -> io::Result<Vec<String>> {
        self.0.names()
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn Storage>> {
        Ok(Arc::new(Hooked(self.0.open(name)?, self.1.clone())))
    }

    fn create(&self, name: &str, size: u64) -> io::Result<Arc<dyn Storage>> {
        Ok(Arc::new(Hooked(self.0.create(name, size)?, self.1.clone())))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }
}

impl<H: Hook> Storage for Hooked<Arc<dyn Storage>, H> {
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn read(&self, parts: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<()> {
        self.0.read(parts, offset)
    }

    fn read_now(&self, parts: &mut [IoSliceMut<'_>], offset: u64) -> bool {
        self.1.reads_now() && self.0.read_now(parts, offset)
    }

    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.1.write(&*self.0, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}
