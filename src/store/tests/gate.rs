//! Real files whose writes wait while a gate is closed.

use crate::store::disk::Storage;
use crate::store::disk::hooked::Hook;
use parking_lot::{Condvar, Mutex};
use std::io;
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

impl Hook for Gate {
    fn write(&self, file: &dyn Storage, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.pass();
        file.write(bytes, offset)
    }
}
