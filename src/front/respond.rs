//! The one place where failures become responses.

use crate::body::{Body, UploadFault};
use crate::proto::semantics::CacheStatus;
use crate::serve::{CACHE_STATUS, Demand, Failure, Refusal};
use crate::telemetry::RequestId;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode, Version};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Seconds after which a client may come again whom a server's connections had no room for, or whose fetch
/// was ended (RFC 9110 §10.2.3): both are over when the requests before it are.
const RETRY_SECONDS: u16 = 1;

/// The status of a failure, and its reason in one word for logs, header and body.
pub(super) fn status(failure: &Failure) -> (StatusCode, &'static str) {
    match failure {
        Failure::Refused(refusal) => (refusal.status(), refusal.as_str()),
        Failure::OnlyIfCached => (StatusCode::GATEWAY_TIMEOUT, "only_if_cached"),
        Failure::Origin(error) if error.is_overload() => (StatusCode::SERVICE_UNAVAILABLE, error.as_str()),
        Failure::Origin(error) if error.is_timeout() => (StatusCode::GATEWAY_TIMEOUT, error.as_str()),
        Failure::Origin(error) => (StatusCode::BAD_GATEWAY, error.as_str()),
        Failure::Upload(UploadFault::Ambiguous(fault)) => {
            let refusal = Refusal::from(*fault);
            (refusal.status(), refusal.as_str())
        }
        Failure::Upload(fault) => (upload_status(*fault), fault.as_str()),
        Failure::Abandoned => (StatusCode::SERVICE_UNAVAILABLE, "abandoned"),
        Failure::Unmet(unmet) => (demand_status(unmet.demand), unmet.demand.unmet()),
    }
}

const fn upload_status(fault: UploadFault) -> StatusCode {
    match fault {
        UploadFault::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        UploadFault::Stalled | UploadFault::Slow => StatusCode::REQUEST_TIMEOUT,
        UploadFault::Broken | UploadFault::Ambiguous(_) => StatusCode::BAD_REQUEST,
    }
}

const fn demand_status(demand: Demand) -> StatusCode {
    match demand {
        Demand::Precondition => StatusCode::PRECONDITION_FAILED,
        Demand::Range => StatusCode::RANGE_NOT_SATISFIABLE,
    }
}

/// The response to a request that failed: short, typed, never stored by anybody, and without a word
/// about the origin. After a broken upload the connection cannot be used again.
pub(super) fn failure(failure: &Failure, node: &str, id: RequestId, version: Version) -> Response<Body> {
    let (status, reason) = status(failure);
    let text = format!(
        "{} {}: {reason}\nrequest {id}\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or("Error")
    );
    let mut response = Response::new(Body::Full(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if let Failure::Unmet(unmet) = failure {
        headers.clone_from(&unmet.fields);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.entry(CACHE_STATUS).or_insert_with(|| CacheStatus::own(node).detail(reason).to_value());
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        headers.insert(X_REQUEST_ID, id);
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_SECONDS));
    }
    let unread = matches!(failure, Failure::Upload(_) | Failure::Refused(_));
    if unread && version < Version::HTTP_2 {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
