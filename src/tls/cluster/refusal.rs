//! Why peers did not come together, in named reasons.

use super::error::{ClusterError, TokenError};
use crate::telemetry::PeerRefusal;
use rustls::{AlertDescription, CertificateError, Error};

/// The reason in an error of a handshake, whichever end refused.
pub fn refusal_of(error: &Error) -> PeerRefusal {
    match error {
        Error::InvalidCertificate(error) => of_certificate(error),
        Error::AlertReceived(alert) => of_alert(*alert),
        Error::NoCertificatesPresented => PeerRefusal::NoCertificate,
        Error::NoApplicationProtocol
        | Error::PeerIncompatible(_)
        | Error::PeerMisbehaved(_)
        | Error::InvalidMessage(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. } => PeerRefusal::Protocol,
        _ => PeerRefusal::Other,
    }
}

/// The reason for which a QUIC connection was refused. One that was lost for no reason of trust is `Other`.
pub fn refusal_of_connection(error: &quinn::ConnectionError) -> PeerRefusal {
    match error {
        quinn::ConnectionError::VersionMismatch => PeerRefusal::Protocol,
        quinn::ConnectionError::TransportError(error) => of_transport(error.code, &error.reason),
        quinn::ConnectionError::ConnectionClosed(close) => {
            of_transport(close.error_code, &String::from_utf8_lossy(&close.reason))
        }
        _ => PeerRefusal::Other,
    }
}

impl ClusterError {
    /// The reason, for refusals after a handshake that was good.
    pub fn refusal(&self) -> PeerRefusal {
        match self {
            Self::Unverified(error) => refusal_of(error),
            Self::NotANode(_) => PeerRefusal::NotANode,
            Self::NoCertificate => PeerRefusal::NoCertificate,
            Self::Protocol => PeerRefusal::Protocol,
            Self::Roles { .. } => PeerRefusal::WrongRole,
            Self::Token(TokenError::OtherCluster) => PeerRefusal::OtherCluster,
            Self::Token(TokenError::Expired) => PeerRefusal::Expired,
            _ => PeerRefusal::Other,
        }
    }
}

/// Codes of QUIC for TLS alerts are 0x100 and the alert (RFC 9001 §4.8).
fn of_transport(code: quinn::TransportErrorCode, reason: &str) -> PeerRefusal {
    let code = u64::from(code);
    let Ok(alert) = u8::try_from(code.wrapping_sub(0x100)) else {
        return PeerRefusal::Other;
    };
    match of_alert(AlertDescription::from(alert)) {
        // One alert says both, and the text which; a test holds it to what is really said.
        PeerRefusal::Expired if reason.contains("not valid yet") => PeerRefusal::NotYetValid,
        refusal => refusal,
    }
}

fn of_certificate(error: &CertificateError) -> PeerRefusal {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => PeerRefusal::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            PeerRefusal::NotYetValid
        }
        // A signature that does not fit is that of another authority with the same name.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => PeerRefusal::OtherCluster,
        CertificateError::BadEncoding
        | CertificateError::NotValidForName
        | CertificateError::NotValidForNameContext { .. }
        | CertificateError::InvalidPurpose
        | CertificateError::InvalidPurposeContext { .. } => PeerRefusal::NotANode,
        _ => PeerRefusal::Other,
    }
}

fn of_alert(alert: AlertDescription) -> PeerRefusal {
    match alert {
        AlertDescription::UnknownCA | AlertDescription::DecryptError => PeerRefusal::OtherCluster,
        AlertDescription::CertificateExpired => PeerRefusal::Expired,
        // A node that enrols and has no certificate yet answers with access_denied when it is dialled.
        AlertDescription::CertificateRequired
        | AlertDescription::NoCertificate
        | AlertDescription::AccessDenied => PeerRefusal::NoCertificate,
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown => PeerRefusal::NotANode,
        AlertDescription::NoApplicationProtocol
        | AlertDescription::ProtocolVersion
        | AlertDescription::HandshakeFailure
        | AlertDescription::MissingExtension
        | AlertDescription::UnexpectedMessage
        | AlertDescription::DecodeError
        | AlertDescription::IllegalParameter => PeerRefusal::Protocol,
        _ => PeerRefusal::Other,
    }
}
