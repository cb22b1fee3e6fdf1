//! Why a request has no response of its own.

use crate::body::UploadFault;
use crate::origin::FetchError;
use crate::route::Refusal;
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
            Self::Origin(_) | Self::Abandoned => None,
        }
    }
}
