//! Whether a response may be stored (RFC 9111 §3).

use super::directives::Governing;
use super::facts::{Expires, ResponseFacts};
use super::policy::{CachePolicy, Errors, SetCookie};
use super::request::{MethodClass, RequestFacts};
use http::StatusCode;

/// Why a response may be stored: the rule of RFC 9111 §3 that allowed it. Kept in the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreReason {
    /// `max-age` (§5.2.2.1).
    MaxAge,
    /// `s-maxage` (§5.2.2.10).
    SMaxage,
    /// `Expires` (§5.3).
    Expires,
    /// A lifetime in `CDN-Cache-Control` (RFC 9213).
    CdnCacheControl,
    /// A lifetime in `Surrogate-Control`.
    SurrogateControl,
    /// A heuristic lifetime from `Last-Modified` (§4.2.2).
    Heuristic,
    /// No lifetime, but `no-cache` and a validator: stored to be validated each time.
    Validation,
}

impl StoreReason {
    /// All reasons.
    pub const ALL: [Self; 7] = [
        Self::MaxAge,
        Self::SMaxage,
        Self::Expires,
        Self::CdnCacheControl,
        Self::SurrogateControl,
        Self::Heuristic,
        Self::Validation,
    ];

    /// The number of this reason in the head format; never reused.
    pub const fn code(self) -> u8 {
        match self {
            Self::MaxAge => 1,
            Self::SMaxage => 2,
            Self::Expires => 3,
            Self::CdnCacheControl => 4,
            Self::SurrogateControl => 5,
            Self::Heuristic => 6,
            Self::Validation => 7,
        }
    }

    /// The reason with number `code`.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::MaxAge),
            2 => Some(Self::SMaxage),
            3 => Some(Self::Expires),
            4 => Some(Self::CdnCacheControl),
            5 => Some(Self::SurrogateControl),
            6 => Some(Self::Heuristic),
            7 => Some(Self::Validation),
            _ => None,
        }
    }

    /// The one name of this reason.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MaxAge => "max_age",
            Self::SMaxage => "s_maxage",
            Self::Expires => "expires",
            Self::CdnCacheControl => "cdn_cache_control",
            Self::SurrogateControl => "surrogate_control",
            Self::Heuristic => "heuristic",
            Self::Validation => "validation",
        }
    }
}

/// Why a response may not be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotStorable {
    /// The request was no GET.
    Method,
    /// An interim, 304 or 101 status; or one that only answers this request's preconditions.
    Status,
    /// A 416, or a 206 that was not asked for or does not say of which bytes it is (RFC 9111 §3.3).
    Partial,
    /// `no-store` in the response.
    NoStore,
    /// `must-understand` with a status whose caching rules are not known here.
    MustUnderstand,
    /// `no-store` in the request.
    RequestNoStore,
    /// `private`.
    Private,
    /// The request had `Authorization`, and the response does not say that it may be shared (§3.5).
    Authorization,
    /// `Set-Cookie` without an explicit word that the response is shared.
    SetCookie,
    /// `Vary: *`.
    VaryStar,
    /// Neither an explicit lifetime nor what a heuristic one is derived from; or an error that may not have a
    /// heuristic one ([`Errors::Explicit`]).
    NoLifetime,
    /// It could neither be served without asking, nor be validated.
    NoUse,
}

impl NotStorable {
    /// All reasons.
    pub const ALL: [Self; 12] = [
        Self::Method,
        Self::Status,
        Self::Partial,
        Self::NoStore,
        Self::MustUnderstand,
        Self::RequestNoStore,
        Self::Private,
        Self::Authorization,
        Self::SetCookie,
        Self::VaryStar,
        Self::NoLifetime,
        Self::NoUse,
    ];

    /// Whether other requests for the object would hear the same. The reasons that lie in the request
    /// tell nothing of them.
    pub const fn is_of_object(self) -> bool {
        !matches!(
            self,
            Self::Method | Self::Status | Self::Partial | Self::RequestNoStore | Self::Authorization
        )
    }

    /// The one name of this reason.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Status => "status",
            Self::Partial => "partial",
            Self::NoStore => "no_store",
            Self::MustUnderstand => "must_understand",
            Self::RequestNoStore => "request_no_store",
            Self::Private => "private",
            Self::Authorization => "authorization",
            Self::SetCookie => "set_cookie",
            Self::VaryStar => "vary_star",
            Self::NoLifetime => "no_lifetime",
            Self::NoUse => "no_use",
        }
    }
}

/// Whether the response may be stored (RFC 9111 §3).
///
/// # Errors
/// The first rule that forbids it.
pub fn storable(
    request: &RequestFacts,
    response: &ResponseFacts,
    policy: &CachePolicy,
) -> Result<StoreReason, NotStorable> {
    let directives = &response.directives;
    // §3: the method is understood. What a HEAD brings updates (§4.3.5) and is not stored.
    if request.method != MethodClass::Get {
        return Err(NotStorable::Method);
    }
    status_allows(request, response)?;
    // §5.2.2.3: `must-understand` overrides `no-store`, for those who understand.
    if directives.must_understand() {
        if !is_understood(response.status) {
            return Err(NotStorable::MustUnderstand);
        }
    } else if directives.no_store() {
        // §5.2.2.5.
        return Err(NotStorable::NoStore);
    }
    // §5.2.1.5.
    if request.no_store && policy.honour_request_directives {
        return Err(NotStorable::RequestNoStore);
    }
    // §5.2.2.7: this cache is shared.
    if directives.private() {
        return Err(NotStorable::Private);
    }
    // §4.1: no later request could select it.
    if response.varies_on_everything() {
        return Err(NotStorable::VaryStar);
    }
    // §3.5.
    if request.has_authorization && !authorization_allows(response) {
        return Err(NotStorable::Authorization);
    }
    // §7.3 leaves it to the operator.
    if response.has_set_cookie() && !set_cookie_allows(response, policy) {
        return Err(NotStorable::SetCookie);
    }
    // §3, the last of its conditions: a lifetime that is stated, or may be guessed (§4.2.2).
    let reason = reason(response).ok_or(NotStorable::NoLifetime)?;
    if reason == StoreReason::Heuristic && !error_allows_heuristic(response, policy) {
        return Err(NotStorable::NoLifetime);
    }
    if is_useless(response) { Err(NotStorable::NoUse) } else { Ok(reason) }
}

/// Whether the response to a POST may be stored to answer later GETs (RFC 9110 §9.3.3): a 200 that
/// states how long it is fresh, and by its `Content-Location` that it is the representation of its
/// own target (RFC 9110 §8.7), which the caller found out as `is_of_target`. The request's `Range`
/// and preconditions have no part in it.
///
/// # Errors
/// The first rule that forbids it.
pub fn storable_post(
    request: &RequestFacts,
    response: &ResponseFacts,
    policy: &CachePolicy,
    is_of_target: bool,
) -> Result<StoreReason, NotStorable> {
    if !is_of_target {
        return Err(NotStorable::Method);
    }
    if response.status != StatusCode::OK {
        return Err(NotStorable::Status);
    }
    match storable(&request.as_get(), response, policy)? {
        StoreReason::Heuristic | StoreReason::Validation => Err(NotStorable::NoLifetime),
        reason => Ok(reason),
    }
}

/// Whether what the response says is for one user: it must never leave this node (design §4).
pub const fn personal(request: &RequestFacts, response: &ResponseFacts) -> bool {
    request.has_authorization || response.has_set_cookie()
}

fn status_allows(request: &RequestFacts, response: &ResponseFacts) -> Result<(), NotStorable> {
    match response.status {
        // §3.3: it has to be known which part it is. Several parts in one response are not taken apart.
        StatusCode::PARTIAL_CONTENT if request.has_range && response.is_part() => Ok(()),
        StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => Err(NotStorable::Partial),
        // §4.3.4: it updates what is stored.
        StatusCode::NOT_MODIFIED => Err(NotStorable::Status),
        // RFC 9110 §13.2.1: the answer to this request's precondition alone.
        StatusCode::PRECONDITION_FAILED if request.conditional => Err(NotStorable::Status),
        // §3: the status is final.
        status if status.is_informational() => Err(NotStorable::Status),
        _ => Ok(()),
    }
}

/// §3.5.
const fn authorization_allows(response: &ResponseFacts) -> bool {
    let directives = &response.directives;
    directives.public() || directives.must_revalidate() || directives.s_maxage().is_some()
}

fn set_cookie_allows(response: &ResponseFacts, policy: &CachePolicy) -> bool {
    let directives = &response.directives;
    if policy.set_cookie == SetCookie::Rfc || directives.withholds_set_cookie() {
        return true;
    }
    let targeted = directives.governing() != Governing::CacheControl && directives.max_age().is_some();
    directives.public() || directives.s_maxage().is_some() || targeted
}

/// Whether a lifetime may be guessed for an error too.
fn error_allows_heuristic(response: &ResponseFacts, policy: &CachePolicy) -> bool {
    let is_error = response.status.is_client_error() || response.status.is_server_error();
    !is_error || policy.errors == Errors::Rfc || response.directives.public()
}

fn reason(response: &ResponseFacts) -> Option<StoreReason> {
    let directives = &response.directives;
    let governing = directives.governing();
    let has_lifetime = directives.s_maxage().is_some() || directives.max_age().is_some();
    match governing {
        Governing::CdnCacheControl if has_lifetime => return Some(StoreReason::CdnCacheControl),
        Governing::SurrogateControl if has_lifetime => return Some(StoreReason::SurrogateControl),
        Governing::CacheControl if directives.s_maxage().is_some() => return Some(StoreReason::SMaxage),
        Governing::CacheControl if has_lifetime => return Some(StoreReason::MaxAge),
        Governing::CacheControl if response.expires() != Expires::Absent => {
            return Some(StoreReason::Expires);
        }
        _ => {}
    }
    if !allows_heuristic(response) {
        return None;
    }
    if directives.no_cache() {
        return response.has_validator().then_some(StoreReason::Validation);
    }
    response.last_modified().map(|_| StoreReason::Heuristic)
}

/// Whether a lifetime may be guessed (RFC 9111 §4.2.2): the status is defined as heuristically
/// cacheable, or the response is marked `public`.
pub(super) fn allows_heuristic(response: &ResponseFacts) -> bool {
    const HEURISTICALLY_CACHEABLE: [u16; 12] = [200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501];
    response.directives.public() || HEURISTICALLY_CACHEABLE.contains(&response.status.as_u16())
}

/// Whether every use would need the whole response again: never fresh, nothing to validate with,
/// and no explicit leave to serve it stale.
fn is_useless(response: &ResponseFacts) -> bool {
    let directives = &response.directives;
    let never_fresh = match directives.s_maxage().or_else(|| directives.max_age()) {
        Some(secs) => secs == 0,
        None => match (directives.governing(), response.expires()) {
            (Governing::CacheControl, Expires::Invalid) => true,
            (Governing::CacheControl, Expires::At(at)) => response.date().is_some_and(|date| at <= date),
            _ => false,
        },
    };
    let stale_is_allowed =
        directives.stale_while_revalidate().is_some() || directives.stale_if_error().is_some();
    !response.has_validator() && (directives.no_cache() || never_fresh && !stale_is_allowed)
}

/// The statuses whose caching rules are known here: the final ones of RFC 9110 §15, and those that
/// RFC 4918, 5842, 6585, 7725 and 8470 add without rules of their own.
const fn is_understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200..=206 | 300..=303 | 305 | 307 | 308 | 400..=415 | 417 | 421..=426 | 428 | 429 | 431 | 451
            | 500..=505 | 508 | 511
    )
}

#[cfg(test)]
#[path = "storable_tests.rs"]
mod tests;
