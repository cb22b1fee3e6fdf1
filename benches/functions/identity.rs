//! Keys and the hashes derived from them.

use crate::fixtures;
use criterion::Criterion;
use shoal::proto::key::{CacheKey, Pin, variant, version};
use std::hint::black_box;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("key");
    let key = fixtures::key();
    let object = key.object();
    let plain = variant(object, std::iter::empty());
    group.bench_function("encode", |b| b.iter(|| CacheKey::new(black_box(fixtures::PARTS))));
    group.bench_function("object", |b| b.iter(|| black_box(&key).object()));
    group.bench_function("variant of one field", |b| {
        b.iter(|| {
            variant(black_box(object), [("accept-encoding", Some(&b"gzip,deflate,br,zstd"[..]))].into_iter())
        });
    });
    group.bench_function("version", |b| {
        b.iter(|| version(black_box(object), plain, Pin::StrongEtag(b"\"3f9a1c-5e2b\"")));
    });
    group.finish();
}
