//! Why a request has no response of its own.

use crate::body::UploadFault;
use crate::origin::FetchError;
use crate::route::Refusal;
use http::header::{CONTENT_LOCATION, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, LAST_MODIFIED, VARY};
use std::sync::Arc;

/// Why there is no response to give. The front turns it into one.
#[derive(Clone, Debug)]
pub enum Failure {
    /// A rule or limit refused the request.
    Refused(Refusal),
    /// The client wants a stored response only, and none can be used.
    OnlyIfCached,
    /// The origin gave none.
    Origin(Arc<FetchError>),
    /// The request body did not arrive as it must.
    Upload(UploadFault),
    /// The task that fetched for this request ended before its time.
    Abandoned,
    /// What would answer the request is there, but not as the request demands it.
    Unmet(Box<Unmet>),
}

/// A demand of a request that what would answer it does not meet.
#[derive(Clone, Debug)]
pub struct Unmet {
    /// Which one.
    pub demand: Demand,
    /// What the answer says of what is there, and of how it was found.
    pub fields: HeaderMap,
}

/// What a request may demand of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// That it is of a certain version (RFC 9110 §13.1). Else 412.
    Precondition,
    /// That it has certain bytes (RFC 9110 §14.2). Else 416.
    Range,
}

impl Demand {
    /// What is said of it if it is not met, in one word.
    pub const fn unmet(self) -> &'static str {
        match self {
            Self::Precondition => "precondition_failed",
            Self::Range => "range_not_satisfiable",
        }
    }
}

impl Unmet {
    /// A response with these fields is not of the version that was demanded. Only what tells versions apart is said: the
    /// rest is of a response that is not given, and what would let others keep it must not get near an error.
    pub(super) fn precondition(of: &HeaderMap) -> Box<Self> {
        let mut fields = HeaderMap::new();
        for name in [ETAG, LAST_MODIFIED, CONTENT_LOCATION, VARY] {
            for value in of.get_all(&name) {
                fields.append(name.clone(), value.clone());
            }
        }
        Box::new(Self { demand: Demand::Precondition, fields })
    }

    /// A response has none of the bytes that were demanded, but those of `content_range`.
    pub(super) fn range(content_range: HeaderValue) -> Box<Self> {
        let fields = HeaderMap::from_iter([(CONTENT_RANGE, content_range)]);
        Box::new(Self { demand: Demand::Range, fields })
    }
}

impl Failure {
    /// The names of all that may refuse a request: refusals, faults of uploads, and the client's own wish.
    pub const REFUSALS: [&'static str; Refusal::ALL.len() + UploadFault::ALL.len() + 1] = {
        let mut names = ["only_if_cached"; Refusal::ALL.len() + UploadFault::ALL.len() + 1];
        let mut index = 0;
        while index < Refusal::ALL.len() {
            names[index] = Refusal::ALL[index].as_str();
            index += 1;
        }
        while index < Refusal::ALL.len() + UploadFault::ALL.len() {
            names[index] = UploadFault::ALL[index - Refusal::ALL.len()].as_str();
            index += 1;
        }
        names
    };

    /// Which of [`REFUSALS`](Self::REFUSALS) it is; `None` if the request was not refused but failed.
    pub const fn refusal(&self) -> Option<usize> {
        match self {
            Self::Refused(refusal) => Some(*refusal as usize),
            Self::Upload(fault) => match fault.index() {
                Some(index) => Some(Refusal::ALL.len() + index),
                // Counted when it was found, since that may be after the answer.
                None => None,
            },
            Self::OnlyIfCached => Some(Self::REFUSALS.len() - 1),
            Self::Origin(_) | Self::Abandoned | Self::Unmet(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::{AGE, CACHE_CONTROL, EXPIRES, SET_COOKIE};

    #[test]
    fn a_failed_precondition_tells_the_version_and_nothing_else() {
        let mut stored = HeaderMap::new();
        for name in [ETAG, CACHE_CONTROL, EXPIRES, AGE, SET_COOKIE, VARY] {
            stored.insert(name, HeaderValue::from_static("x"));
        }
        stored.append(VARY, HeaderValue::from_static("y"));
        let fields = Unmet::precondition(&stored).fields;
        assert_eq!(fields[ETAG], "x");
        assert_eq!((fields.len(), fields.get_all(VARY).iter().count()), (3, 2));
    }
}
