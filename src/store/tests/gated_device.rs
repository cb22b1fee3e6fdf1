//! Real files whose writes wait while a gate is closed.

use crate::store::FileDevice;
use crate::store::disk::{Device, Folder, Storage};
use parking_lot::{Condvar, Mutex};
use std::io::{self, IoSliceMut};
use std::path::Path;
use std::sync::Arc;

#[derive(Clone, Default)]
pub(super) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(super) fn close(&self) {
        *self.0.0.lock() = true;
    }

    pub(super) fn open(&self) {
        *self.0.0.lock() = false;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let mut closed = self.0.0.lock();
        self.0.1.wait_while(&mut closed, |closed| *closed);
    }
}

pub(super) struct GatedDevice(pub(super) Gate);

struct GatedFolder(Box<dyn Folder>, Gate);

struct GatedStorage(Arc<dyn Storage>, Gate);

impl Device for GatedDevice {
    fn open_folder(&self, path: &Path) -> io::Result<Box<dyn Folder>> {
        Ok(Box::new(GatedFolder(FileDevice.open_folder(path)?, self.0.clone())))
    }
}

impl Folder for GatedFolder {
    fn names(&self) -> io::Result<Vec<String>> {
        self.0.names()
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn Storage>> {
        Ok(Arc::new(GatedStorage(self.0.open(name)?, self.1.clone())))
    }

    fn create(&self, name: &str, size: u64) -> io::Result<Arc<dyn Storage>> {
        Ok(Arc::new(GatedStorage(self.0.create(name, size)?, self.1.clone())))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }
}

impl Storage for GatedStorage {
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn read(&self, parts: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<()> {
        self.0.read(parts, offset)
    }

    fn read_now(&self, parts: &mut [IoSliceMut<'_>], offset: u64) -> bool {
        self.0.read_now(parts, offset)
    }

    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.1.pass();
        self.0.write(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}
