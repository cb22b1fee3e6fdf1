//! What two nodes say first: which versions they speak, and who they are.

use super::exchange::{AskError, Exchange};
use super::refusal::Refusal;
use crate::proto::swarm::{Member, Roles};
use crate::proto::wire::{self, Frame, Hello};
use crate::telemetry::PeerRefusal;
use crate::tls::cluster::Certified;
use prost::Message;
use std::net::SocketAddr;

/// Bytes of a node's name or zone.
const NAME_MAX: usize = 253;

/// What this node says.
pub(super) fn of(me: &Member) -> Hello {
    let (version_min, version_max) = wire::VERSIONS;
    Hello {
        version_min,
        version_max,
        features: wire::FEATURES,
        name: me.name.to_string(),
        zone: me.zone.to_string(),
        roles: me.roles.bits(),
        address: me.address.to_string(),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        incarnation: me.incarnation,
        required: 0,
        major: wire::MAJOR,
    }
}

/// Who the other is, from its hello, its certificate and the address that its packets come from.
///
/// # Errors
/// If there is no common version, it needs a feature that this build does not know, or it says what cannot be.
pub(super) fn judge(hello: &Hello, certified: &Certified, observed: SocketAddr) -> Result<Member, Refusal> {
    let (low, high) = wire::VERSIONS;
    if hello.version_max < low || high < hello.version_min {
        let theirs = format!("{} to {}", hello.version_min, hello.version_max);
        return Err(apart("minor version", &format!("{low} to {high}"), &theirs, hello));
    }
    let unknown = hello.required & !wire::FEATURES;
    if unknown != 0 {
        return Err(apart(
            "set of features",
            &format!("{:#x}", wire::FEATURES),
            &format!("{unknown:#x}"),
            hello,
        ));
    }
    if hello.name.len() > NAME_MAX || hello.zone.len() > NAME_MAX {
        return Err(Refusal::new(PeerRefusal::Protocol, "its name or zone is too long"));
    }
    let name = if certified.name.is_empty() { hello.name.as_str().into() } else { certified.name.clone() };
    Ok(Member {
        id: certified.id,
        address: reachable_at(&hello.address, observed)?,
        name,
        zone: hello.zone.as_str().into(),
        roles: certified.roles.and(Roles::of_bits(hello.roles)),
        incarnation: hello.incarnation,
    })
}

/// The refusal of one who speaks another major version.
pub(super) fn other_major(hello: &Hello) -> Refusal {
    apart("major version", &wire::MAJOR.to_string(), &hello.major.to_string(), hello)
}

/// A refusal in words that read alike at both ends.
fn apart(what: &str, ours: &str, theirs: &str, hello: &Hello) -> Refusal {
    let (program, other) = (env!("CARGO_PKG_VERSION"), hello.program.escape_debug().to_string());
    let words = format!(
        "no common {what} of the wire: who refuses speaks {ours} (shoal {program}), who is refused {theirs} \
         (shoal {other:.32}); upgrade the older"
    );
    Refusal::new(PeerRefusal::Version, words)
}

/// The address that a node says it is reached at. One that listens on all its addresses does not know which of them
/// others see.
fn reachable_at(said: &str, observed: SocketAddr) -> Result<SocketAddr, Refusal> {
    let unusable = || Refusal::new(PeerRefusal::Protocol, format!("its address {said:.64?} is none"));
    let mut address: SocketAddr = said.parse().ok().ok_or_else(unusable)?;
    if address.ip().is_unspecified() {
        address.set_ip(observed.ip());
    }
    address.set_ip(address.ip().to_canonical());
    if address.port() == 0 || address.ip().is_multicast() { Err(unusable()) } else { Ok(address) }
}

/// Reads the dialler's hello, the first message of its first stream.
pub(super) async fn asked(exchange: &mut Exchange) -> Result<Hello, Refusal> {
    match wire::Ask::decode(message(exchange).await?).map(|ask| ask.kind) {
        Ok(Some(wire::ask::Kind::Hello(hello))) => Ok(hello),
        Ok(_) => Err(Refusal::new(PeerRefusal::Protocol, "its first message is not a hello")),
        Err(error) => Err(Refusal::new(PeerRefusal::Protocol, format!("its hello is unreadable: {error}"))),
    }
}

/// Reads the acceptor's hello, the answer to this node's.
pub(super) async fn answered(exchange: &mut Exchange) -> Result<Hello, Refusal> {
    let unreadable = |error| Refusal::new(PeerRefusal::Protocol, format!("its hello is unreadable: {error}"));
    Hello::decode(message(exchange).await?).map_err(unreadable)
}

async fn message(exchange: &mut Exchange) -> Result<bytes::Bytes, Refusal> {
    match exchange.frame().await {
        Ok(Some(Frame::Message(bytes))) => Ok(bytes),
        Ok(_) => Err(Refusal::new(PeerRefusal::Protocol, "it said no hello")),
        Err(error) => Err(error.into()),
    }
}

impl From<AskError> for Refusal {
    fn from(error: AskError) -> Self {
        let reason = match error {
            AskError::Protocol => PeerRefusal::Protocol,
            AskError::Silent => PeerRefusal::Timeout,
            AskError::Unreachable
            | AskError::Refused
            | AskError::Upstream
            | AskError::Unsupported
            | AskError::Quarantined => PeerRefusal::Other,
        };
        Self::new(reason, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::swarm::NodeId;

    fn certified(roles: Roles) -> Certified {
        Certified { id: NodeId([7; 16]), name: "edge-1".into(), roles }
    }

    fn hello() -> Hello {
        of(&Member {
            id: NodeId([7; 16]),
            address: "10.0.0.1:7000".parse().unwrap(),
            name: "says-another-name".into(),
            zone: "a".into(),
            roles: Roles { edge: true, superpeer: true },
            incarnation: 3,
        })
    }

    fn observed() -> SocketAddr {
        "[::ffff:192.0.2.9]:50000".parse().unwrap()
    }

    #[test]
    fn a_node_is_what_its_certificate_and_its_hello_both_say() {
        let member = judge(&hello(), &certified(Roles::EDGE), observed()).unwrap();
        assert_eq!(member.roles, Roles::EDGE);
        assert_eq!((&*member.name, &*member.zone, member.incarnation), ("edge-1", "a", 3));
        assert_eq!(member.address, "10.0.0.1:7000".parse().unwrap());
    }

    #[test]
    fn a_node_that_listens_everywhere_is_reached_where_it_was_seen() {
        for said in ["0.0.0.0:7000", "[::]:7000"] {
            let hello = Hello { address: said.to_owned(), ..hello() };
            let member = judge(&hello, &certified(Roles::EDGE), observed()).unwrap();
            assert_eq!(member.address, "192.0.2.9:7000".parse().unwrap(), "{said}");
        }
    }

    #[test]
    fn an_address_at_which_nothing_can_be_reached_is_refused() {
        for said in ["", "edge-1:7000", "10.0.0.1", "10.0.0.1:0", "224.0.0.1:7000", "10.0.0.1:70000"] {
            let hello = Hello { address: said.to_owned(), ..hello() };
            let refusal = judge(&hello, &certified(Roles::EDGE), observed()).unwrap_err();
            assert_eq!(refusal.reason, PeerRefusal::Protocol, "{said}");
        }
    }

    #[test]
    fn versions_must_overlap_and_features_need_not_be_known() {
        let later = Hello { version_min: 1, version_max: 9, features: u64::MAX, ..hello() };
        assert!(judge(&later, &certified(Roles::EDGE), observed()).is_ok());
        let too_new = Hello { version_min: 2, version_max: 9, ..hello() };
        let refusal = judge(&too_new, &certified(Roles::EDGE), observed()).unwrap_err();
        assert_eq!(refusal.reason, PeerRefusal::Version);
        assert!(refusal.words.contains("1 to 1") && refusal.words.contains("2 to 9"), "{}", refusal.words);
        let demanding = Hello { required: 1 << 63, ..later };
        let refusal = judge(&demanding, &certified(Roles::EDGE), observed()).unwrap_err();
        assert_eq!(refusal.reason, PeerRefusal::Version);
        assert!(refusal.words.contains("0x8000000000000000"), "{}", refusal.words);
    }
}
