//! Interim responses of origins (RFC 9110 §15.2, RFC 8297), on their way before the response itself.

use crate::body::{INTERIMS_MAX, Interim};
use crate::proto::semantics;
use http::header::{CONTENT_LENGTH, SET_COOKIE};
use http::{HeaderMap, Request, StatusCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of names and values in one interim response; one with more is dropped. Enough for some hundred links.
const FIELD_BYTES_MAX: usize = 8 << 10;

/// Has `give` called with each interim response that comes before the response to `request`, as soon as it comes, on
/// whichever attempt; at most [`INTERIMS_MAX`] times. Never with 100, which answers this node's own expectation, nor
/// with 101, which is final. Those of origins that speak HTTP/2 are not seen: hyper drops them.
pub fn on_interim<B>(request: &mut Request<B>, give: impl Fn(Interim) + Send + Sync + 'static) {
    let seen = AtomicUsize::new(0);
    let listener: Listener = Arc::new(move |status, fields| {
        let forwarded = !matches!(status, StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS);
        if forwarded
            && seen.load(Ordering::Relaxed) < INTERIMS_MAX
            && let Some(fields) = end_to_end(fields)
        {
            seen.fetch_add(1, Ordering::Relaxed);
            give(Interim { status, fields });
        }
    });
    request.extensions_mut().insert(Told(listener));
}

type Listener = Arc<dyn Fn(StatusCode, &HeaderMap) + Send + Sync>;

/// Who hears of interim responses to a request; goes with it to each attempt.
#[derive(Clone)]
struct Told(Listener);

/// Has an attempt over HTTP/1.1 heard: 100 by whoever holds the body back, all others by whom [`on_interim`] named.
pub(super) fn listen<B>(request: &mut Request<B>, proceed: Option<impl Fn() + Send + Sync + 'static>) {
    let told = request.extensions_mut().remove::<Told>();
    if told.is_none() && proceed.is_none() {
        return;
    }
    hyper::ext::on_informational(request, move |response| match (&proceed, &told) {
        (Some(proceed), _) if response.status() == StatusCode::CONTINUE => proceed(),
        (_, Some(Told(listener))) => listener(response.status(), response.headers()),
        _ => {}
    });
}

/// The fields that are for clients; `None` if they are too large. A cookie is not among them: an interim response goes to
/// all who wait for the same, and is no place for what one of them is to keep.
fn end_to_end(fields: &HeaderMap) -> Option<HeaderMap> {
    let bytes: usize = fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if bytes > FIELD_BYTES_MAX {
        return None;
    }
    let mut fields = fields.clone();
    semantics::strip_hop_by_hop(&mut fields);
    fields.remove(CONTENT_LENGTH);
    fields.remove(SET_COOKIE);
    Some(fields)
}
