//! What makes a message ambiguous.

/// Why a request is refused before anybody reads what it asks for, or a response before anybody gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No method, target and version with one space between them (RFC 9112 §3), or empty lines before it.
    #[error("malformed request line")]
    RequestLine,
    /// A version of HTTP that is neither 1.1 nor 1.0 (RFC 9110 §2.5).
    #[error("HTTP version not supported")]
    Version,
    /// A method longer than any.
    #[error("method too long")]
    Method,
    /// A target longer than any that is answered.
    #[error("request target too long")]
    TargetTooLong,
    /// More field lines, or longer ones, than may be.
    #[error("request fields too large")]
    FieldsTooLarge,
    /// A line that ends in LF without CR (RFC 9112 §2.2).
    #[error("a line does not end in CRLF")]
    LineEnd,
    /// A field line that begins with whitespace (RFC 9112 §5.2).
    #[error("folded field line")]
    Fold,
    /// More than one `Content-Length`, or one that is no plain number (RFC 9110 §8.6).
    #[error("ambiguous Content-Length")]
    ContentLength,
    /// A `Transfer-Encoding` other than one `chunked` in HTTP/1.1 (RFC 9112 §6.1).
    #[error("ambiguous Transfer-Encoding")]
    TransferEncoding,
    /// `Content-Length` and `Transfer-Encoding` (RFC 9112 §6.3).
    #[error("Content-Length and Transfer-Encoding")]
    TwoFramings,
    /// An `Expect` other than `100-continue` (RFC 9110 §10.1.1).
    #[error("unknown expectation")]
    Expectation,
    /// A chunk that is not exact (RFC 9112 §7.1).
    #[error("malformed chunk")]
    Chunk,
    /// Trailers that are too long, folded, or have no business there (RFC 9110 §6.5.1).
    #[error("malformed trailers")]
    Trailer,
}
