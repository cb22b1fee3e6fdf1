//! Why requests are refused: by their framing before they are read, by what they ask for after.

use crate::proto::authority::BadAuthority;
use crate::proto::framing::Fault;
use http::StatusCode;

impl From<BadAuthority> for Refusal {
    fn from(_: BadAuthority) -> Self {
        Self::BadHost
    }
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No authority: neither `Host` nor an absolute target (RFC 9112 §3.2). 400.
    #[error("no Host")]
    MissingHost,
    /// More than one `Host` field. 400.
    #[error("more than one Host")]
    DuplicateHost,
    /// `Host` and the target's authority differ (RFC 9112 §3.2.2, RFC 9113 §8.3.1). 400.
    #[error("Host differs from the authority of the target")]
    HostMismatch,
    /// Characters, userinfo, empty labels, length or port that no authority has. 400.
    #[error("malformed Host")]
    BadHost,
    /// A target in no form of RFC 9112 §3.2, with control characters or a broken escape. 400.
    #[error("malformed request target")]
    BadTarget,
    /// A target longer than `limits.uri_bytes`. 414.
    #[error("request target too long")]
    UriTooLong,
    /// A query with more parameters than `limits.query_parameters`. 414.
    #[error("too many query parameters")]
    TooManyParameters,
    /// More fields, or longer ones, than `limits.header_count` and `limits.header_bytes`. 431.
    #[error("request fields too large")]
    FieldsTooLarge,
    /// No site has this host (RFC 9110 §7.4). 421.
    #[error("no site has this host")]
    UnknownHost,
    /// The TLS handshake named one site and `Host` another, or the target states a scheme that the
    /// connection has not (RFC 9110 §7.4). 421.
    #[error("request on a connection for another site")]
    Misdirected,
    /// CONNECT or TRACE, which a shared reverse proxy has no use for, or one that is longer than any. 501.
    #[error("method not implemented")]
    Method,
    /// `Via` or `CDN-Loop` says that this node has forwarded the request before (RFC 8586). 508.
    #[error("forwarding loop")]
    Loop,
    /// A request line that is not method, target and version (RFC 9112 §3). 400.
    #[error("malformed request line")]
    RequestLine,
    /// A version of HTTP that is neither 1.1 nor 1.0 on an HTTP/1 connection (RFC 9110 §15.6.6). 505.
    #[error("HTTP version not supported")]
    HttpVersion,
    /// A line that does not end in CRLF (RFC 9112 §2.2). 400.
    #[error("a line does not end in CRLF")]
    LineEnd,
    /// A folded field line (RFC 9112 §5.2). 400.
    #[error("folded field line")]
    FoldedLine,
    /// More than one `Content-Length`, or one that is no plain number (RFC 9112 §6.3). 400.
    #[error("ambiguous Content-Length")]
    ContentLength,
    /// A `Transfer-Encoding` other than one `chunked` in HTTP/1.1 (RFC 9112 §6.1). 400.
    #[error("ambiguous Transfer-Encoding")]
    TransferEncoding,
    /// `Content-Length` and `Transfer-Encoding` (RFC 9112 §6.3). 400.
    #[error("Content-Length and Transfer-Encoding")]
    TwoFramings,
    /// An `Expect` other than `100-continue` (RFC 9110 §10.1.1). 417.
    #[error("unknown expectation")]
    Expectation,
    /// A chunk that is not exact (RFC 9112 §7.1). 400.
    #[error("malformed chunk")]
    Chunk,
    /// Trailers that are too long, folded, or may not be any (RFC 9110 §6.5.1). 400.
    #[error("malformed trailers")]
    Trailer,
    /// A name, value or target of bytes that it may not have. 400.
    #[error("malformed request")]
    Malformed,
    /// A head that was not complete within `limits.header_timeout`. 408.
    #[error("request head too slow")]
    SlowHead,
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::RequestLine => Self::RequestLine,
            Fault::Version => Self::HttpVersion,
            Fault::Method => Self::Method,
            Fault::TargetTooLong => Self::UriTooLong,
            Fault::FieldsTooLarge => Self::FieldsTooLarge,
            Fault::LineEnd => Self::LineEnd,
            Fault::Fold => Self::FoldedLine,
            Fault::ContentLength => Self::ContentLength,
            Fault::TransferEncoding => Self::TransferEncoding,
            Fault::TwoFramings => Self::TwoFramings,
            Fault::Expectation => Self::Expectation,
            Fault::Chunk => Self::Chunk,
            Fault::Trailer => Self::Trailer,
        }
    }
}

impl Refusal {
    /// All refusals.
    pub const ALL: [Self; 24] = [
        Self::MissingHost,
        Self::DuplicateHost,
        Self::HostMismatch,
        Self::BadHost,
        Self::BadTarget,
        Self::UriTooLong,
        Self::TooManyParameters,
        Self::FieldsTooLarge,
        Self::UnknownHost,
        Self::Misdirected,
        Self::Method,
        Self::Loop,
        Self::RequestLine,
        Self::HttpVersion,
        Self::LineEnd,
        Self::FoldedLine,
        Self::ContentLength,
        Self::TransferEncoding,
        Self::TwoFramings,
        Self::Expectation,
        Self::Chunk,
        Self::Trailer,
        Self::Malformed,
        Self::SlowHead,
    ];

    /// Name in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MissingHost => "missing_host",
            Self::DuplicateHost => "duplicate_host",
            Self::HostMismatch => "host_mismatch",
            Self::BadHost => "bad_host",
            Self::BadTarget => "bad_target",
            Self::UriTooLong => "uri_too_long",
            Self::TooManyParameters => "too_many_parameters",
            Self::FieldsTooLarge => "fields_too_large",
            Self::UnknownHost => "unknown_host",
            Self::Misdirected => "misdirected",
            Self::Method => "method",
            Self::Loop => "loop",
            Self::RequestLine => "bad_request_line",
            Self::HttpVersion => "bad_http_version",
            Self::LineEnd => "bad_line_end",
            Self::FoldedLine => "folded_line",
            Self::ContentLength => "bad_content_length",
            Self::TransferEncoding => "bad_transfer_encoding",
            Self::TwoFramings => "two_framings",
            Self::Expectation => "unknown_expectation",
            Self::Chunk => "bad_chunk",
            Self::Trailer => "bad_trailer",
            Self::Malformed => "malformed",
            Self::SlowHead => "slow_head",
        }
    }

    /// Status of the answer.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::MissingHost
            | Self::DuplicateHost
            | Self::HostMismatch
            | Self::BadHost
            | Self::BadTarget
            | Self::RequestLine
            | Self::LineEnd
            | Self::FoldedLine
            | Self::ContentLength
            | Self::TransferEncoding
            | Self::TwoFramings
            | Self::Chunk
            | Self::Trailer
            | Self::Malformed => StatusCode::BAD_REQUEST,
            Self::SlowHead => StatusCode::REQUEST_TIMEOUT,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::HttpVersion => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::UriTooLong | Self::TooManyParameters => StatusCode::URI_TOO_LONG,
            Self::FieldsTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::UnknownHost | Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::Method => StatusCode::NOT_IMPLEMENTED,
            Self::Loop => StatusCode::LOOP_DETECTED,
        }
    }
}
