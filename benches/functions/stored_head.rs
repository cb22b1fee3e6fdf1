//! The stored head: what a fill encodes, what a read from disk decodes, what a hit copies.

use crate::fixtures;
use criterion::{BatchSize, Criterion};
use shoal::proto::object::Head;
use std::hint::black_box;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("head");
    let draft = fixtures::draft();
    let block = draft.encode(b"body", true, &[1; 32]);
    let head = Head::decode(block.clone()).expect("it was encoded here");
    group.bench_function("encode", |b| b.iter(|| black_box(&draft).encode(b"body", true, &[1; 32])));
    group.bench_function("decode", |b| {
        b.iter_batched(|| block.clone(), |block| Head::decode(black_box(block)), BatchSize::SmallInput);
    });
    group.bench_function("fields", |b| b.iter(|| black_box(&head).fields()));
    group.bench_function("to draft", |b| b.iter(|| black_box(&head).to_draft()));
    group.finish();
}
