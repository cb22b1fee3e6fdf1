//! Where a request ends, judged before it is parsed.

use crate::fixtures;
use criterion::{Criterion, Throughput};
use http::HeaderMap;
use shoal::proto::framing::{Framing, Limits};
use std::hint::black_box;

const LIMITS: Limits = Limits { target_bytes: 8 << 10, field_bytes: 32 << 10, fields: 100 };

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("framing");
    let small =
        b"GET /x HTTP/1.1\r\nhost: www.example.com\r\nuser-agent: bench\r\naccept: */*\r\n\r\n".to_vec();
    for (name, head) in [("small head", small), ("browser's head", written(&fixtures::browser()))] {
        let mut framing = Framing::new(LIMITS);
        group.throughput(Throughput::Bytes(head.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                let taken = framing.take(black_box(&head)).map(|taken| taken.length);
                assert_eq!(taken, Ok(head.len()));
            });
        });
    }
    group.finish();
}

/// A head as a browser writes it.
fn written(fields: &HeaderMap) -> Vec<u8> {
    let mut head = format!("GET {} HTTP/1.1\r\n", fixtures::TARGET).into_bytes();
    for (name, value) in fields {
        head.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    head.extend_from_slice(b"\r\n");
    head
}
