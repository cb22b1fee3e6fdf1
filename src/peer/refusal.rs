//! Connections that do not come about: why, in a word for the metrics and in a sentence for the operator.

use crate::clock::Clock;
use crate::proto::wire::{self, close};
use crate::telemetry::{Metrics, PeerRefusal};
use crate::tls::cluster::{ClusterError, refusal_of_connection};
use parking_lot::Mutex;
use quinn::{ConnectionError, TransportErrorCode, VarInt};
use rustls::AlertDescription;
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
    pub reason: PeerRefusal,
    /// For the operator.
    pub words: String,
}

impl Refusal {
    pub(super) fn new(reason: PeerRefusal, words: impl Into<String>) -> Self {
        Self { reason, words: words.into() }
    }

    pub(super) fn timeout() -> Self {
        Self::new(PeerRefusal::Timeout, "no answer in time")
    }

    /// The refusal of a connection, which is closed: the other side is told. If that was the first to close, it has
    /// said why, and knows better.
    pub(super) fn concerning(self, connection: &quinn::Connection) -> Self {
        if self.reason == PeerRefusal::Other
            && let Some(closed) = connection.close_reason()
        {
            return closed.into();
        }
        connection.close(VarInt::from_u32(self.code()), self.words.as_bytes());
        self
    }

    fn code(&self) -> u32 {
        match self.reason {
            PeerRefusal::Version => close::VERSION,
            PeerRefusal::Identity => close::IDENTITY,
            PeerRefusal::Itself => close::ITSELF,
            PeerRefusal::Full => close::FULL,
            PeerRefusal::Timeout | PeerRefusal::Protocol | PeerRefusal::Other => close::HELLO,
            PeerRefusal::OtherCluster
            | PeerRefusal::Expired
            | PeerRefusal::NotYetValid
            | PeerRefusal::NoCertificate
            | PeerRefusal::WrongRole
            | PeerRefusal::NotANode => close::CERTIFICATE,
        }
    }
}

impl From<ConnectionError> for Refusal {
    fn from(error: ConnectionError) -> Self {
        let reason = refusal_of_connection(&error);
        if is_about_protocols(&error) {
            return Self::new(reason, no_common_protocol(&error));
        }
        match error {
            ConnectionError::TransportError(error) => {
                Self::new(reason, format!("this node refuses it: {}", error.reason))
            }
            ConnectionError::ConnectionClosed(closed) => {
                let words = printable(&closed.reason);
                Self::new(reason, format!("it refuses this node: {words} ({})", closed.error_code))
            }
            ConnectionError::ApplicationClosed(closed) => {
                let words = format!("it refuses this node: {}", printable(&closed.reason));
                Self::new(of_close(closed.error_code), words)
            }
            ConnectionError::TimedOut => Self::timeout(),
            error => Self::new(reason, error.to_string()),
        }
    }
}

/// Whether the two found no protocol that both speak: the alert of TLS for that (RFC 7301 §3.2).
fn is_about_protocols(error: &ConnectionError) -> bool {
    let code = match error {
        ConnectionError::TransportError(error) => error.code,
        ConnectionError::ConnectionClosed(closed) => closed.error_code,
        _ => return false,
    };
    code == TransportErrorCode::crypto(AlertDescription::NoApplicationProtocol.into())
}

/// Why two could not even tell each other their versions. A superpeer without the authority's key has no word for
/// enrolment either.
fn no_common_protocol(error: &ConnectionError) -> String {
    let who = match error {
        ConnectionError::TransportError(_) => "this node refuses it",
        _ => "it refuses this node",
    };
    let ours = [wire::ALPN, wire::ENROL_ALPN].map(String::from_utf8_lossy).join(" and ");
    format!(
        "{who}: no common protocol. This node speaks {ours}; the other is no shoal, gives certificates by another \
         major version, or has no peer.ca_key to give them"
    )
}

impl From<ClusterError> for Refusal {
    fn from(error: ClusterError) -> Self {
        Self::new(error.refusal(), error.to_string())
    }
}

/// The reason for which the other side closed the connection.
fn of_close(code: VarInt) -> PeerRefusal {
    match u32::try_from(code.into_inner()) {
        Ok(close::VERSION) => PeerRefusal::Version,
        Ok(close::HELLO) => PeerRefusal::Protocol,
        Ok(close::IDENTITY) => PeerRefusal::Identity,
        Ok(close::ITSELF) => PeerRefusal::Itself,
        Ok(close::FULL) => PeerRefusal::Full,
        Ok(close::CERTIFICATE) => PeerRefusal::NotANode,
        _ => PeerRefusal::Other,
    }
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
            PeerRefusal::Timeout | PeerRefusal::Other | PeerRefusal::Itself => {
                tracing::info!(%remote, dialled, reason = what, left_out, "no connection with a node: {why}");
            }
            _ => {
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
