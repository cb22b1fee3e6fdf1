//! Connections that do not come about: why, in a word for the metrics and in a sentence for the operator.

use crate::clock::Clock;
use crate::proto::wire::close;
use crate::telemetry::{LinkRefusal, Metrics};
use parking_lot::Mutex;
use quinn::{ConnectionError, TransportErrorCode, VarInt};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Lines that are logged in one [`LOG_PERIOD`]; further ones are only counted.
const LOG_LINES_MAX: u32 = 16;
/// See [`LOG_LINES_MAX`].
const LOG_PERIOD: Duration = Duration::from_secs(10);
/// Characters of a peer's words that are taken.
const WORDS_MAX: usize = 240;

/// Why a connection is refused.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    /// For the metrics.
    pub reason: LinkRefusal,
    /// For the operator.
    pub words: String,
}

impl Refusal {
    pub(super) fn new(reason: LinkRefusal, words: impl Into<String>) -> Self {
        Self { reason, words: words.into() }
    }

    pub(super) fn timeout() -> Self {
        Self::new(LinkRefusal::Timeout, "no answer in time")
    }

    /// With what the other side is told about it.
    pub(super) fn close(&self, connection: &quinn::Connection) {
        let code = match self.reason {
            LinkRefusal::Certificate => close::CERTIFICATE,
            LinkRefusal::Version => close::VERSION,
            LinkRefusal::Identity | LinkRefusal::Itself => close::IDENTITY,
            LinkRefusal::Full => close::FULL,
            LinkRefusal::Timeout
            | LinkRefusal::Closed
            | LinkRefusal::RefusedByPeer
            | LinkRefusal::Protocol => close::HELLO,
        };
        connection.close(VarInt::from_u32(code), self.words.as_bytes());
    }
}

impl From<ConnectionError> for Refusal {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::TransportError(error) if is_about_certificates(error.code) => {
                Self::new(LinkRefusal::Certificate, format!("its certificate is refused: {}", error.reason))
            }
            ConnectionError::TransportError(error) => Self::new(LinkRefusal::Protocol, error.to_string()),
            ConnectionError::ConnectionClosed(frame) if is_about_certificates(frame.error_code) => {
                let words = printable(&frame.reason);
                Self::new(LinkRefusal::RefusedByPeer, format!("it refuses this node's certificate: {words}"))
            }
            ConnectionError::ConnectionClosed(frame) => {
                let words = printable(&frame.reason);
                Self::new(LinkRefusal::RefusedByPeer, format!("it closed ({}): {words}", frame.error_code))
            }
            ConnectionError::ApplicationClosed(frame) => {
                let is_version = frame.error_code == VarInt::from_u32(close::VERSION);
                let reason = if is_version { LinkRefusal::Version } else { LinkRefusal::RefusedByPeer };
                Self::new(reason, format!("it refuses this node: {}", printable(&frame.reason)))
            }
            ConnectionError::TimedOut => Self::timeout(),
            ConnectionError::VersionMismatch => {
                Self::new(LinkRefusal::Protocol, "it speaks another version of QUIC")
            }
            ConnectionError::Reset | ConnectionError::LocallyClosed | ConnectionError::CidsExhausted => {
                Self::new(LinkRefusal::Closed, error.to_string())
            }
        }
    }
}

/// Whether a transport error is a TLS alert that a certificate causes (RFC 8446 §6.2; RFC 9001 §4.8).
fn is_about_certificates(code: TransportErrorCode) -> bool {
    let alert = u64::from(code).checked_sub(0x100);
    // bad, unsupported, revoked, expired, unknown certificate; unknown_ca; access_denied; decrypt_error;
    // certificate_required
    alert.is_some_and(|alert| matches!(alert, 42..=46 | 48 | 49 | 51 | 116))
}

/// A peer's words without what could spoil a log.
fn printable(words: &[u8]) -> String {
    let text = String::from_utf8_lossy(words);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WORDS_MAX).collect()
}

/// Counts refusals and tells the operator, without flooding the log.
pub(super) struct Refusals {
    metrics: Arc<Metrics>,
    clock: Clock,
    logged: Mutex<Logged>,
}

#[derive(Default)]
struct Logged {
    since: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl Refusals {
    pub(super) fn new(metrics: Arc<Metrics>, clock: Clock) -> Self {
        Self { metrics, clock, logged: Mutex::default() }
    }

    /// Notes that no connection came about with `remote`, which this node dialled or which dialled it.
    pub(super) fn note(&self, remote: SocketAddr, dialled: bool, refusal: &Refusal) {
        let reason = refusal.reason;
        self.metrics.node.links.refusals.of(reason).inc();
        let Some(left_out) = self.admit_line() else { return };
        let (what, why) = (reason.as_str(), refusal.words.as_str());
        match reason {
            // It happens in a healthy fleet: a node is not there yet, or finds itself among its seeds.
            LinkRefusal::Timeout | LinkRefusal::Closed | LinkRefusal::Itself => {
                tracing::info!(%remote, dialled, reason = what, left_out, "no connection with a node: {why}");
            }
            LinkRefusal::Certificate
            | LinkRefusal::RefusedByPeer
            | LinkRefusal::Protocol
            | LinkRefusal::Version
            | LinkRefusal::Identity
            | LinkRefusal::Full => {
                tracing::warn!(%remote, dialled, reason = what, left_out, "no connection with a node: {why}");
            }
        }
    }

    /// Whether a line may be logged, and how many were not before it.
    fn admit_line(&self) -> Option<u64> {
        let now = self.clock.mono();
        let mut logged = self.logged.lock();
        if logged.since.is_none_or(|since| now.saturating_duration_since(since) >= LOG_PERIOD) {
            logged.since = Some(now);
            logged.lines = 0;
        }
        if logged.lines >= LOG_LINES_MAX {
            logged.left_out += 1;
            return None;
        }
        logged.lines += 1;
        Some(std::mem::take(&mut logged.left_out))
    }
}
