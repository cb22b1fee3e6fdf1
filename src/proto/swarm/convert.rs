//! The typed values of the swarm to and from their messages. To a message always goes; what comes
//! from a peer may be anything, and is refused with a reason.

use super::{Finding, Holding, NodeId, Place, Query};
use crate::proto::key::{ObjectId, VariantId};
use crate::proto::wire::{self, resolved::Kind};
use std::net::SocketAddr;
use std::time::Duration;

/// Longest name of a zone in bytes, as `node.zone` allows it.
const ZONE_MAX: usize = 63;
/// For how long a superpeer can tell an edge not to ask again; more is taken for this.
const ALONE_MAX: Duration = Duration::from_secs(600);
/// Shortest and longest term of a lease; what is outside is taken for the nearer one, so that no
/// superpeer makes an edge renew without pause.
const TERM_BOUNDS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

/// Why a message is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// An identity has not 16 bytes.
    #[error("identity of {0} bytes")]
    Identity(usize),
    /// An address is not `ip:port`.
    #[error("address is not ip:port")]
    Address,
    /// The name of a zone is longer than [`ZONE_MAX`].
    #[error("name of a zone has {0} bytes")]
    Zone(usize),
    /// More nodes to avoid than [`wire::AVOID_MAX`].
    #[error("{0} nodes to avoid")]
    Avoid(usize),
    /// No holders, or more than [`wire::HOLDERS_MAX`].
    #[error("{0} holders")]
    Holders(usize),
    /// A part without which it means nothing is missing, or is of a kind that this version does not know.
    #[error("message without its {0}")]
    Missing(&'static str),
}

impl From<&Query> for wire::Resolve {
    fn from(query: &Query) -> Self {
        Self {
            object: query.object.0.to_vec(),
            variant: query.variant.0.to_vec(),
            vary_known: query.vary_known,
            held: query.held,
            lease_wanted: query.lease_wanted,
            avoid: query.avoid.iter().take(wire::AVOID_MAX).map(|node| node.0.to_vec()).collect(),
            purged: query.purged,
            overtaken: query.overtaken,
        }
    }
}

impl TryFrom<&wire::Resolve> for Query {
    type Error = ConvertError;

    fn try_from(resolve: &wire::Resolve) -> Result<Self, ConvertError> {
        if resolve.avoid.len() > wire::AVOID_MAX {
            return Err(ConvertError::Avoid(resolve.avoid.len()));
        }
        Ok(Self {
            object: ObjectId(identity(&resolve.object)?),
            variant: VariantId(identity(&resolve.variant)?),
            vary_known: resolve.vary_known,
            held: resolve.held,
            lease_wanted: resolve.lease_wanted,
            avoid: resolve.avoid.iter().map(|node| node_id(node)).collect::<Result<_, _>>()?,
            purged: resolve.purged,
            overtaken: resolve.overtaken,
        })
    }
}

impl From<&Finding> for wire::Resolved {
    fn from(finding: &Finding) -> Self {
        let kind = match finding {
            Finding::Holders(places) => {
                Kind::Holders(wire::Holders { places: places.iter().map(wire::Place::from).collect() })
            }
            Finding::Lease(token, term) => {
                Kind::Lease(wire::Grant { token: Some(*token), term_millis: millis(*term) })
            }
            Finding::Follow(place, token) => {
                Kind::Follow(wire::Follow { place: Some(place.into()), token: Some(*token) })
            }
            Finding::Fresher(place) => Kind::Fresher(place.into()),
            Finding::Alone(rest) => Kind::Alone(wire::Alone { for_millis: millis(*rest) }),
            Finding::Warming => Kind::Warming(wire::Warming {}),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<&wire::Resolved> for Finding {
    type Error = ConvertError;

    fn try_from(resolved: &wire::Resolved) -> Result<Self, ConvertError> {
        let kind = resolved.kind.as_ref().ok_or(ConvertError::Missing("answer"))?;
        Ok(match kind {
            Kind::Holders(holders) => Self::Holders(places(&holders.places)?),
            Kind::Lease(grant) => {
                let token = grant.token.ok_or(ConvertError::Missing("token"))?;
                let (shortest, longest) = TERM_BOUNDS;
                Self::Lease(token, Duration::from_millis(grant.term_millis.into()).clamp(shortest, longest))
            }
            Kind::Follow(follow) => {
                let place = follow.place.as_ref().ok_or(ConvertError::Missing("place"))?;
                Self::Follow(place.try_into()?, follow.token.ok_or(ConvertError::Missing("token"))?)
            }
            Kind::Fresher(place) => Self::Fresher(place.try_into()?),
            Kind::Alone(alone) => Self::Alone(Duration::from_millis(alone.for_millis.into()).min(ALONE_MAX)),
            Kind::Warming(wire::Warming {}) => Self::Warming,
        })
    }
}

impl From<&Place> for wire::Place {
    fn from(place: &Place) -> Self {
        Self {
            node: place.node.0.to_vec(),
            address: place.address.to_string(),
            zone: place.zone.as_ref().to_owned(),
        }
    }
}

impl TryFrom<&wire::Place> for Place {
    type Error = ConvertError;

    fn try_from(place: &wire::Place) -> Result<Self, ConvertError> {
        if place.zone.len() > ZONE_MAX {
            return Err(ConvertError::Zone(place.zone.len()));
        }
        Ok(Self {
            node: node_id(&place.node)?,
            address: address(&place.address)?,
            zone: place.zone.as_str().into(),
        })
    }
}

impl From<Holding> for wire::Holding {
    fn from(holding: Holding) -> Self {
        Self {
            object: holding.object.0.to_vec(),
            variant: holding.variant.0.to_vec(),
            fresh_secs: holding.fresh_secs,
        }
    }
}

impl TryFrom<&wire::Holding> for Holding {
    type Error = ConvertError;

    fn try_from(holding: &wire::Holding) -> Result<Self, ConvertError> {
        Ok(Self {
            object: ObjectId(identity(&holding.object)?),
            variant: VariantId(identity(&holding.variant)?),
            fresh_secs: holding.fresh_secs,
        })
    }
}

fn places(places: &[wire::Place]) -> Result<Vec<Place>, ConvertError> {
    if places.is_empty() || places.len() > wire::HOLDERS_MAX {
        return Err(ConvertError::Holders(places.len()));
    }
    places.iter().map(Place::try_from).collect()
}

fn identity(bytes: &[u8]) -> Result<[u8; 16], ConvertError> {
    bytes.try_into().ok().ok_or(ConvertError::Identity(bytes.len()))
}

fn node_id(bytes: &[u8]) -> Result<NodeId, ConvertError> {
    identity(bytes).map(NodeId)
}

fn address(text: &str) -> Result<SocketAddr, ConvertError> {
    text.parse().ok().ok_or(ConvertError::Address)
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::swarm::Token;
    use proptest::prelude::*;
    use prost::Message;

    fn place() -> impl Strategy<Value = Place> {
        (any::<[u8; 16]>(), any::<std::net::IpAddr>(), any::<u16>(), "[a-z0-9-]{0,20}").prop_map(
            |(node, ip, port, zone)| Place {
                node: NodeId(node),
                address: (ip, port).into(),
                zone: zone.into(),
            },
        )
    }

    fn token() -> impl Strategy<Value = Token> {
        any::<(u64, u64, u64)>().prop_map(|(issuer, term, number)| Token { issuer, term, number })
    }

    fn finding() -> impl Strategy<Value = Finding> {
        prop_oneof![
            prop::collection::vec(place(), 1..=wire::HOLDERS_MAX).prop_map(Finding::Holders),
            (token(), 100_u64..=60_000)
                .prop_map(|(token, term)| Finding::Lease(token, Duration::from_millis(term))),
            (place(), token()).prop_map(|(place, token)| Finding::Follow(place, token)),
            place().prop_map(Finding::Fresher),
            (0_u64..=600_000).prop_map(|rest| Finding::Alone(Duration::from_millis(rest))),
            Just(Finding::Warming),
        ]
    }

    prop_compose! {
        fn query()(
            object: [u8; 16],
            variant: [u8; 16],
            flags: (bool, bool, bool),
            avoid in prop::collection::vec(any::<[u8; 16]>(), 0..=wire::AVOID_MAX),
            purged: u32,
            overtaken in prop::option::of(token()),
        ) -> Query {
            Query {
                object: ObjectId(object),
                variant: VariantId(variant),
                vary_known: flags.0,
                held: flags.1,
                lease_wanted: flags.2,
                avoid: avoid.into_iter().map(NodeId).collect(),
                purged,
                overtaken,
            }
        }
    }

    proptest! {
        #[test]
        fn a_query_comes_back_as_it_was_sent(query in query()) {
            let sent = wire::Resolve::from(&query).encode_to_vec();
            let came = wire::Resolve::decode(&*sent).unwrap();
            prop_assert_eq!(Query::try_from(&came), Ok(query));
        }

        #[test]
        fn a_finding_comes_back_as_it_was_sent(finding in finding()) {
            let sent = wire::Resolved::from(&finding).encode_to_vec();
            let came = wire::Resolved::decode(&*sent).unwrap();
            prop_assert_eq!(Finding::try_from(&came), Ok(finding));
        }

        #[test]
        fn a_holding_comes_back_as_it_was_sent(object: [u8; 16], variant: [u8; 16], fresh_secs: u32) {
            let holding = Holding { object: ObjectId(object), variant: VariantId(variant), fresh_secs };
            prop_assert_eq!(Holding::try_from(&wire::Holding::from(holding)), Ok(holding));
        }

        #[test]
        fn any_bytes_convert_or_are_refused(bytes: Vec<u8>) {
            if let Ok(resolve) = wire::Resolve::decode(&*bytes) {
                let _ = Query::try_from(&resolve);
            }
            if let Ok(resolved) = wire::Resolved::decode(&*bytes) {
                let _ = Finding::try_from(&resolved);
            }
        }
    }

    fn resolve() -> wire::Resolve {
        wire::Resolve { object: vec![1; 16], variant: vec![2; 16], ..Default::default() }
    }

    fn sent_place() -> wire::Place {
        wire::Place { node: vec![1; 16], address: "127.0.0.1:1".into(), zone: String::new() }
    }

    #[test]
    fn identities_have_their_length() {
        for length in [0, 15, 17] {
            let short = vec![1; length];
            let refused = Err(ConvertError::Identity(length));
            assert_eq!(Query::try_from(&wire::Resolve { object: short.clone(), ..resolve() }), refused);
            assert_eq!(Query::try_from(&wire::Resolve { variant: short.clone(), ..resolve() }), refused);
            assert_eq!(Query::try_from(&wire::Resolve { avoid: vec![short.clone()], ..resolve() }), refused);
            let place = wire::Place { node: short, ..sent_place() };
            assert_eq!(Place::try_from(&place), Err(ConvertError::Identity(length)));
        }
    }

    #[test]
    fn too_many_of_anything_is_refused() {
        let avoid = vec![vec![0; 16]; wire::AVOID_MAX + 1];
        assert_eq!(Query::try_from(&wire::Resolve { avoid, ..resolve() }), Err(ConvertError::Avoid(17)));
        for count in [0, wire::HOLDERS_MAX + 1] {
            let places = vec![sent_place(); count];
            let resolved = wire::Resolved { kind: Some(Kind::Holders(wire::Holders { places })) };
            assert_eq!(Finding::try_from(&resolved), Err(ConvertError::Holders(count)));
        }
        let place = wire::Place { zone: "z".repeat(ZONE_MAX + 1), ..sent_place() };
        assert_eq!(Place::try_from(&place), Err(ConvertError::Zone(ZONE_MAX + 1)));
    }

    #[test]
    fn an_address_has_a_port() {
        for text in ["", "127.0.0.1", "example.com:80", "127.0.0.1:99999"] {
            let place = wire::Place { address: text.into(), ..sent_place() };
            assert_eq!(Place::try_from(&place), Err(ConvertError::Address), "{text}");
        }
    }

    #[test]
    fn an_answer_without_its_parts_is_refused() {
        let follow =
            |place, token| wire::Resolved { kind: Some(Kind::Follow(wire::Follow { place, token })) };
        let lease = wire::Resolved { kind: Some(Kind::Lease(wire::Grant { token: None, term_millis: 1 })) };
        for (resolved, part) in [
            (wire::Resolved { kind: None }, "answer"),
            (follow(None, Some(Token::default())), "place"),
            (follow(Some(sent_place()), None), "token"),
            (lease, "token"),
        ] {
            assert_eq!(Finding::try_from(&resolved), Err(ConvertError::Missing(part)));
        }
    }

    #[test]
    fn times_are_brought_within_their_bounds() {
        for (sent, taken) in [(0, 100), (2_000, 2_000), (u32::MAX, 60_000)] {
            let grant = wire::Grant { token: Some(Token::default()), term_millis: sent };
            let resolved = wire::Resolved { kind: Some(Kind::Lease(grant)) };
            let expected = Finding::Lease(Token::default(), Duration::from_millis(taken));
            assert_eq!(Finding::try_from(&resolved), Ok(expected));
        }
        let alone = wire::Resolved { kind: Some(Kind::Alone(wire::Alone { for_millis: u32::MAX })) };
        assert_eq!(Finding::try_from(&alone), Ok(Finding::Alone(ALONE_MAX)));
    }
}
