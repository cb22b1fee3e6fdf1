//! Records of the disk format, as the writer makes them and as a read checks them.

use crate::fixtures;
use criterion::{BenchmarkId, Criterion, Throughput};
use shoal::proto::object::PurgePosition;
use shoal::proto::segment::{
    Draft, Fill, RECORD_HEADER, RecordHeader, RecordId, RecordKind, SegmentKey, StoreId, Unknown,
};
use std::hint::black_box;

/// Payloads: a small object with its head, a full record 0, a slice.
const PAYLOADS: [usize; 3] = [2 << 10, 64 << 10, 256 << 10];
/// Bytes of the segments that are filled.
const SEGMENT_SIZE: u32 = 64 << 20;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("record");
    let key = SegmentKey::new(StoreId([5; 16]), 1);
    for length in PAYLOADS {
        let payload = vec![0x5a; length];
        let (encoded, offset) = record(key, &payload);
        let header = decode(&encoded, key, offset);
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_with_input(BenchmarkId::new("write", length), &payload, |b, payload| {
            let mut fill = Fill::new(1, key, 1, SEGMENT_SIZE);
            let mut out = Vec::with_capacity(SEGMENT_SIZE as usize);
            b.iter(|| {
                if !fill.fits(RecordKind::Head, payload.len()) {
                    fill = Fill::new(1, key, 1, SEGMENT_SIZE);
                    out.clear();
                }
                fill.push(&mut out, draft(payload), 1)
            });
        });
        group.bench_with_input(BenchmarkId::new("check", length), &payload, |b, payload| {
            b.iter(|| black_box(&header).matches(black_box(payload)));
        });
    }
    let (encoded, offset) = record(key, b"payload");
    let header = decode(&encoded, key, offset);
    group.bench_function("header encode", |b| b.iter(|| black_box(&header).encode(key, offset)));
    group.bench_function("header decode", |b| b.iter(|| decode(black_box(&encoded), key, offset)));
    group.finish();
}

/// The draft of a record; the sum is made anew each time, as for each record that is written.
fn draft(payload: &[u8]) -> Draft<'_> {
    let object = fixtures::key().object();
    Draft {
        shared: true,
        kind: RecordKind::Head,
        rewritten: false,
        id: RecordId { object, ..RecordId::default() },
        position: PurgePosition(9),
        expiry: 0,
        sum: crc32c::crc32c(payload),
        payload,
        unknown: Unknown::default(),
    }
}

/// A record's bytes, and where they are in their segment.
fn record(key: SegmentKey, payload: &[u8]) -> (Vec<u8>, u32) {
    let mut fill = Fill::new(1, key, 1, SEGMENT_SIZE);
    let mut out = Vec::new();
    let place = fill.push(&mut out, draft(payload), 1);
    (out, place.offset)
}

fn decode(encoded: &[u8], key: SegmentKey, offset: u32) -> RecordHeader {
    let header: &[u8; RECORD_HEADER] = encoded.first_chunk().expect("a record begins with its header");
    RecordHeader::decode(header, key, offset).expect("it was encoded here")
}
