//! Answers that go on: the live log, and the figures behind `shoal top`.
//!
//! Both are lines of JSON for as long as the client reads. While there is nothing to say an empty line is sent now and
//! then, so that a client that has gone, or takes nothing, is found out. What is gathered for a client is bounded
//! ([`telemetry::access`](crate::telemetry::access)), and so is the number of clients.

use super::api::Api;
use super::problem::Problem;
use crate::task::Spawner;
use crate::telemetry::access::{Batch, Filter, HotWatcher, LogReader, READERS_MAX, SLOTS_MAX};
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long nothing at all is said. Shorter than [`super::listen::CONNECTION_AGE_MAX`] by far.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Between two figures.
const INTERVAL_MS: std::ops::RangeInclusive<u64> = 250..=60_000;
/// Content type of the answers.
const LINES_OF_JSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");

/// Whether the client of a connection has taken a part of a live answer of late; such a connection is not closed for
/// its age.
#[derive(Clone, Debug, Default)]
pub(super) struct Taking(Arc<AtomicBool>);

impl Taking {
    fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it has since this was last asked.
    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// What is asked of `/log`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogQuery {
    #[serde(default)]
    filter: String,
}

/// What is asked of `/top`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TopQuery {
    #[serde(default = "second")]
    interval_ms: u64,
    #[serde(default = "twenty")]
    objects: usize,
}

const fn second() -> u64 {
    1000
}

const fn twenty() -> usize {
    20
}

/// Requests as they end.
pub(super) async fn log(
    State(api): State<Arc<Api>>,
    Extension(taking): Extension<Taking>,
    query: Result<Query<LogQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(LogQuery { filter }) = query.map_err(wrong)?;
    let filter: Filter = filter.parse().map_err(|error: crate::telemetry::access::FilterError| {
        let hint = "a filter is terms such as status=5xx duration>=1s path=/img/*";
        Problem::new(StatusCode::BAD_REQUEST, "filter", error.to_string(), hint)
    })?;
    let reader = api.hooks.access.read(filter).map_err(crowded)?;
    Ok(live(Tailing { reader, spawner: api.spawner.clone(), taking, greeted: false }, Tailing::next))
}

/// Figures of the node, one object at once and one after each interval.
pub(super) async fn top(
    State(api): State<Arc<Api>>,
    Extension(taking): Extension<Taking>,
    query: Result<Query<TopQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(TopQuery { interval_ms, objects }) = query.map_err(wrong)?;
    if !INTERVAL_MS.contains(&interval_ms) || objects > SLOTS_MAX {
        let (low, high) = INTERVAL_MS.into_inner();
        let detail = format!("interval_ms is {low} to {high}, objects at most {SLOTS_MAX}");
        return Err(Problem::new(StatusCode::BAD_REQUEST, "out_of_range", detail, "ask within the bounds"));
    }
    let watcher = api.hooks.access.watch().map_err(crowded)?;
    let interval = tokio::time::interval(Duration::from_millis(interval_ms));
    Ok(live(Watching { watcher, api, taking, interval, objects }, Watching::next))
}

fn wrong(error: QueryRejection) -> Problem {
    let hint = "ask for /log?filter=… or /top?interval_ms=…&objects=…, percent-encoded";
    Problem::new(StatusCode::BAD_REQUEST, "query", error.body_text(), hint)
}

fn crowded(error: crate::telemetry::access::Crowded) -> Problem {
    let hint = "end another `shoal log` or `shoal top` of this node";
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "crowded", format!("{error}, of {READERS_MAX}"), hint)
}

/// A response whose body is what `next` gives, until it gives nothing.
fn live<S, F>(state: S, next: impl Fn(S) -> F + Send + 'static) -> Response
where
    S: Send + 'static,
    F: Future<Output = Option<(Bytes, S)>> + Send + 'static,
{
    let parts = stream::unfold((state, next), |(state, next)| async move {
        let (bytes, state) = next(state).await?;
        Some((Ok::<_, Infallible>(bytes), (state, next)))
    });
    ([(header::CONTENT_TYPE, LINES_OF_JSON)], Body::from_stream(parts)).into_response()
}

/// A live log on its way.
struct Tailing {
    reader: LogReader,
    spawner: Spawner,
    taking: Taking,
    greeted: bool,
}

impl Tailing {
    /// The next lines; the first is empty, so that the client knows from when on it sees everything.
    async fn next(mut self) -> Option<(Bytes, Self)> {
        self.taking.note();
        if !self.greeted {
            self.greeted = true;
            return Some((Bytes::from_static(b"\n"), self));
        }
        let bytes = tokio::select! {
            biased;
            () = self.spawner.cancelled() => return None,
            batch = self.reader.next() => joined(batch),
            () = tokio::time::sleep(SILENCE_MAX) => Bytes::from_static(b"\n"),
        };
        Some((bytes, self))
    }
}

fn joined(batch: Batch) -> Bytes {
    let mut bytes = BytesMut::with_capacity(batch.lines.iter().map(Bytes::len).sum::<usize>() + 32);
    if batch.dropped > 0 {
        bytes.extend_from_slice(format!("{{\"dropped\":{}}}\n", batch.dropped).as_bytes());
    }
    batch.lines.iter().for_each(|line| bytes.extend_from_slice(line));
    bytes.freeze()
}

/// Figures on their way.
struct Watching {
    watcher: HotWatcher,
    api: Arc<Api>,
    taking: Taking,
    interval: tokio::time::Interval,
    objects: usize,
}

impl Watching {
    async fn next(mut self) -> Option<(Bytes, Self)> {
        self.taking.note();
        let bytes = tokio::select! {
            biased;
            () = self.api.spawner.cancelled() => return None,
            _tick = self.interval.tick() => self.figures(),
            () = tokio::time::sleep(SILENCE_MAX) => Bytes::from_static(b"\n"),
        };
        Some((bytes, self))
    }

    fn figures(&self) -> Bytes {
        let mut figures = (self.api.hooks.top)();
        let hot = self.watcher.take(self.objects);
        let object = |hot: &crate::telemetry::access::HotObject| {
            json!({
                "name": hot.name,
                "object": hot.object.to_string(),
                "requests": hot.requests,
                "requests_max": hot.requests_max,
                "bytes": hot.bytes,
            })
        };
        if let Value::Object(figures) = &mut figures {
            let objects: Vec<_> = hot.objects.iter().map(object).collect();
            let hottest = json!({ "counted": hot.counted, "skipped": hot.skipped, "objects": objects });
            figures.insert("hottest".to_owned(), hottest);
        }
        format!("{figures}\n").into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Uri;
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;
    use serde::de::DeserializeOwned;

    fn read<T: DeserializeOwned>(query: &str) -> Option<T> {
        let uri: Uri = format!("/?{query}").parse().ok()?;
        Query::try_from_uri(&uri).ok().map(|Query(read)| read)
    }

    proptest! {
        #[test]
        fn a_filter_comes_through_a_query_as_it_was_meant(filter: String) {
            let query = format!("filter={}", utf8_percent_encode(&filter, NON_ALPHANUMERIC));
            prop_assert_eq!(read::<LogQuery>(&query).map(|read| read.filter), Some(filter));
        }

        #[test]
        fn a_query_is_read_whole_or_refused(
            any in "[!-~]{0,40}",
            near in "((filter|interval_ms|objects)(=|%3[dD])[0-9a-c%+&-]{0,6}&?){0,3}",
        ) {
            for query in [any, near] {
                let _ = read::<LogQuery>(&query);
                if let Some(TopQuery { interval_ms, objects }) = read(&query) {
                    let again = read::<TopQuery>(&format!("interval_ms={interval_ms}&objects={objects}"));
                    prop_assert_eq!(again.map(|again| (again.interval_ms, again.objects)), Some((interval_ms, objects)));
                }
            }
        }
    }
}
