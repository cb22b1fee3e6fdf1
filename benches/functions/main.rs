//! The functions that a request runs through, each alone, on heads as browsers and origins send them.
//!
//! `cargo bench --bench functions -- semantics` runs one group. A change that claims speed shows its
//! figures from before and after on one machine, with their spread.

mod access_log;
mod config;
mod fixtures;
mod framing;
mod identity;
mod route;
mod segment;
mod semantics;
mod stored_head;

use criterion::Criterion;
use std::time::Duration;

/// The program's own, so that what allocates costs here what it costs there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Short, since there are many: the spread tells whether it was long enough.
const WARM_UP: Duration = Duration::from_millis(200);
const MEASUREMENT: Duration = Duration::from_millis(600);

fn main() {
    let mut criterion =
        Criterion::default().warm_up_time(WARM_UP).measurement_time(MEASUREMENT).configure_from_args();
    for group in [
        framing::bench,
        identity::bench,
        route::bench,
        semantics::bench_requests,
        semantics::bench_responses,
        semantics::bench_reuse,
        semantics::bench_replies,
        stored_head::bench,
        segment::bench,
        access_log::bench,
    ] {
        group(&mut criterion);
    }
    criterion.final_summary();
}
