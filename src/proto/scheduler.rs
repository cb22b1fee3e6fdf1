//! Stub.
#![expect(missing_docs)]
use std::ops::Range;
use std::time::Instant;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Gone,
    Bad,
    Stalled,
    Unreachable,
    Busy,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    Fetch { chunk: u32, source: usize, hedge: bool },
    Cancel { chunk: u32, source: usize },
    Origin { chunk: u32 },
}
pub struct Scheduler;
impl Scheduler {
    pub fn new(_chunks: Range<u32>, _sources: usize, _window: u32, _now: Instant) -> Self {
        Self
    }
    pub fn handle_bytes(&mut self, _chunk: u32, _source: usize, _bytes: u64, _now: Instant) {}
    pub fn handle_done(&mut self, _chunk: u32, _source: usize, _now: Instant) {}
    pub fn handle_failed(&mut self, _chunk: u32, _source: usize, _fault: Fault, _now: Instant) {}
    pub fn handle_consumed(&mut self, _chunk: u32, _now: Instant) {}
    pub fn handle_deadline(&mut self, _now: Instant) {}
    pub fn poll(&mut self) -> Option<Want> {
        None
    }
    pub fn deadline(&self) -> Option<Instant> {
        None
    }
}
