//! How members are named in the packets of foca, and how those are written.
//!
//! A member goes by its node id, which the cluster's certificates vouch for. What else is said of it
//! (address, name, zone, roles) belongs to one *life*: of two lives of a node the later counts, so a
//! restarted node takes the place of its former self without waiting until that is found dead. A node
//! that is alive and taken for dead begins a new life by itself ([`Life::renew`]).
//!
//! A seed is known by its address alone. It is named only as the destination of an `Announce`, and
//! whoever receives that takes it as meant for himself: so `Address` is never a member.

use crate::proto::swarm::{Member, NodeId, Roles};
use bytes::{Buf, BufMut};
use foca::{Codec, Header, Message};
use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;

/// Bytes in which later versions may say more of a member. Not read, but kept and passed on.
const MORE_MAX: usize = 64;
/// Bytes of a name or zone that others are told; the rest is cut off. Keeps a packet's header, which
/// names up to three members, to half of a packet.
pub(super) const TEXT_MAX: usize = 63;

/// A member in one of its lives, or a place where one may be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Identity {
    /// A member.
    Life(Life),
    /// Whoever is there.
    Address(SocketAddr),
}

/// A member in one of its lives.
#[derive(Clone, PartialEq, Eq, Debug, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Life {
    id: [u8; 16],
    address: SocketAddr,
    name: Arc<str>,
    zone: Arc<str>,
    roles: u32,
    incarnation: u64,
    /// How often it was taken for dead since it was started.
    renewals: u32,
    /// What later versions say more, in [`MORE_MAX`] bytes: postcard has no fields that can be skipped. It belongs to
    /// the life, so all nodes pass the same on, whatever they can read of it.
    more: Arc<[u8]>,
}

impl Life {
    pub(super) fn new(member: &Member) -> Self {
        Self {
            id: member.id.0,
            address: member.address,
            name: cut(&member.name),
            zone: cut(&member.zone),
            roles: member.roles.bits(),
            incarnation: member.incarnation,
            renewals: 0,
            more: Arc::default(),
        }
    }

    pub(super) fn id(&self) -> NodeId {
        NodeId(self.id)
    }

    pub(super) fn member(&self) -> Member {
        Member {
            id: self.id(),
            address: self.address,
            name: self.name.clone(),
            zone: self.zone.clone(),
            roles: Roles::of_bits(self.roles),
            incarnation: self.incarnation,
        }
    }

    fn renew(&self) -> Option<Self> {
        Some(Self { renewals: self.renewals.checked_add(1)?, ..self.clone() })
    }

    /// Which life is later. Each renewal counts for twice as much as the one before: a node whose clock
    /// went back while it was stopped overtakes its former life after a few.
    fn rank(&self) -> u64 {
        let steps = 1u64.checked_shl(self.renewals).unwrap_or(u64::MAX);
        self.incarnation.saturating_add(steps - 1)
    }

    fn is_later_than(&self, other: &Self) -> bool {
        // The rest decides between lives that cannot be told apart, everywhere alike.
        (self.rank(), self.renewals, self) > (other.rank(), other.renewals, other)
    }

    fn is_sound(&self) -> bool {
        self.name.len() <= TEXT_MAX && self.zone.len() <= TEXT_MAX && self.more.len() <= MORE_MAX
    }
}

fn cut(text: &Arc<str>) -> Arc<str> {
    match text.floor_char_boundary(TEXT_MAX) {
        end if end == text.len() => text.clone(),
        end => text[..end].into(),
    }
}

impl Identity {
    /// Where it is reached.
    pub(super) fn address(&self) -> SocketAddr {
        match self {
            Self::Life(life) => life.address,
            Self::Address(address) => *address,
        }
    }

    /// The member; `None` if only its address is known.
    pub(super) fn life(&self) -> Option<&Life> {
        match self {
            Self::Life(life) => Some(life),
            Self::Address(_) => None,
        }
    }
}

impl foca::Identity for Identity {
    /// `None` for a seed, of which there is no member.
    type Addr = Option<NodeId>;

    fn renew(&self) -> Option<Self> {
        self.life()?.renew().map(Self::Life)
    }

    fn addr(&self) -> Option<NodeId> {
        self.life().map(Life::id)
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        match (self, adversary) {
            (Self::Life(one), Self::Life(other)) => one.is_later_than(other),
            _ => false,
        }
    }
}

/// Why a packet was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PacketError {
    /// It is not a packet; or one that is too long was to be written.
    #[error(transparent)]
    Encoding(#[from] postcard::Error),
    /// A member has a longer name, or more said of it, than any node tells.
    #[error("a name is too long")]
    Text,
    /// A member is named by its address.
    #[error("a member has no identity")]
    Nameless,
}

/// Writes and reads packets, which are postcard's. No member is read that cannot be one.
#[derive(Clone)]
pub(super) struct Packets {
    /// This node, for who does not know it yet.
    pub(super) me: Life,
}

impl Packets {
    /// The members that a packet would make known.
    ///
    /// # Errors
    /// If it is not a packet.
    pub(super) fn named(&mut self, mut packet: &[u8]) -> Result<Vec<NodeId>, PacketError> {
        let header = self.decode_header(&mut packet)?;
        let mut named: Vec<_> = header.src.life().map(Life::id).into_iter().collect();
        let count = packet.try_get_u16().unwrap_or(0);
        for _ in 0..count {
            let member = self.decode_member(&mut packet)?;
            named.extend(member.id().life().map(Life::id));
        }
        Ok(named)
    }
}

fn check(identity: &Identity) -> Result<(), PacketError> {
    match identity.life() {
        Some(life) if life.is_sound() => Ok(()),
        Some(_) => Err(PacketError::Text),
        None => Err(PacketError::Nameless),
    }
}

impl Codec<Identity> for Packets {
    type Error = PacketError;

    fn encode_header(&mut self, header: &Header<Identity>, buf: impl BufMut) -> Result<(), PacketError> {
        Ok(postcard::serialize_with_flavor(header, Room(buf))?)
    }

    fn decode_header(&mut self, buf: impl Buf) -> Result<Header<Identity>, PacketError> {
        let mut header: Header<Identity> = take(buf)?;
        if header.message == Message::Announce && header.dst.life().is_none() {
            header.dst = Identity::Life(self.me.clone());
        }
        check(&header.src)?;
        check(&header.dst)?;
        match &header.message {
            Message::PingReq { target: other, .. }
            | Message::IndirectPing { origin: other, .. }
            | Message::IndirectAck { target: other, .. }
            | Message::ForwardedAck { origin: other, .. } => check(other)?,
            _ => {}
        }
        Ok(header)
    }

    fn encode_member(
        &mut self,
        member: &foca::Member<Identity>,
        buf: impl BufMut,
    ) -> Result<(), PacketError> {
        Ok(postcard::serialize_with_flavor(member, Room(buf))?)
    }

    fn decode_member(&mut self, buf: impl Buf) -> Result<foca::Member<Identity>, PacketError> {
        let member: foca::Member<Identity> = take(buf)?;
        check(member.id())?;
        Ok(member)
    }
}

/// Reads one value from the front of a buffer, which foca keeps in one piece.
fn take<T: for<'de> Deserialize<'de>>(mut buf: impl Buf) -> Result<T, PacketError> {
    let whole = buf.chunk();
    let (value, rest) = postcard::take_from_bytes(whole)?;
    let taken = whole.len() - rest.len();
    buf.advance(taken);
    Ok(value)
}

/// The room that is left in a packet.
struct Room<B>(B);

impl<B: BufMut> Flavor for Room<B> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        if self.0.remaining_mut() < bytes.len() {
            return Err(postcard::Error::SerializeBufferFull);
        }
        self.0.put_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foca::Identity as _;
    use proptest::prelude::*;

    fn life(id: u8, incarnation: u64) -> Life {
        Life::new(&Member {
            id: NodeId([id; 16]),
            address: ([10, 0, 0, id], 7000).into(),
            name: "edge-1".into(),
            zone: "a".into(),
            roles: Roles::EDGE,
            incarnation,
        })
    }

    fn ping(to: Identity) -> Header<Identity> {
        Header { src: Identity::Life(life(1, 1)), src_incarnation: 3, dst: to, message: Message::Ping(9) }
    }

    #[test]
    fn a_packet_reads_as_it_was_written() {
        let mut packets = Packets { me: life(2, 1) };
        let mut packet = Vec::new();
        let header = ping(Identity::Life(life(2, 1)));
        let member = foca::Member::down(Identity::Life(life(3, 5)));
        packets.encode_header(&header, &mut packet).unwrap();
        packet.put_u16(1);
        packets.encode_member(&member, &mut packet).unwrap();
        let mut rest = &packet[..];
        assert_eq!(packets.decode_header(&mut rest), Ok(header));
        rest.advance(2);
        assert_eq!(packets.decode_member(&mut rest), Ok(member));
        assert!(rest.is_empty());
        assert_eq!(packets.named(&packet), Ok(vec![NodeId([1; 16]), NodeId([3; 16])]));
    }

    /// The packet of version 1.1, written down: if this fails, nodes of two releases do not see each other alive.
    #[test]
    fn a_packet_is_written_as_version_1_1_writes_it() {
        let mut packets = Packets { me: life(2, 1) };
        let mut packet = Vec::new();
        packets.encode_header(&ping(Identity::Life(life(2, 1))), &mut packet).unwrap();
        packet.put_u16(1);
        packets.encode_member(&foca::Member::down(Identity::Life(life(3, 5))), &mut packet).unwrap();
        assert_eq!(data_encoding::HEXLOWER.encode(&packet), GOLDEN);
    }

    const GOLDEN: &str = "\
        0001010101010101010101010101010101000a000001d83606656467652d310161010100000300020202020202020202\
        02020202020202000a000002d83606656467652d31016101010000000900010003030303030303030303030303030303\
        000a000003d83606656467652d310161010500000002";

    #[test]
    fn what_a_later_version_says_more_of_a_member_is_kept_and_passed_on() {
        let later = Life { more: [1, 2, 3].into(), ..life(3, 5) };
        let mut packets = Packets { me: life(2, 1) };
        let mut packet = Vec::new();
        packets.encode_member(&foca::Member::alive(Identity::Life(later.clone())), &mut packet).unwrap();
        let read = packets.decode_member(&packet[..]).unwrap();
        assert_eq!(read.id().life(), Some(&later));
        let mut again = Vec::new();
        packets.encode_member(&read, &mut again).unwrap();
        assert_eq!(again, packet);
        let verbose = Life { more: [0; MORE_MAX + 1].into(), ..later };
        packet.clear();
        packets.encode_member(&foca::Member::alive(Identity::Life(verbose)), &mut packet).unwrap();
        assert_eq!(packets.decode_member(&packet[..]), Err(PacketError::Text));
    }

    #[test]
    fn only_who_is_asked_to_let_somebody_in_need_not_be_known() {
        let mut packets = Packets { me: life(2, 1) };
        let seed = Identity::Address(([10, 0, 0, 2], 7000).into());
        let mut read = |header: Header<Identity>| {
            let mut packet = Vec::new();
            packets.encode_header(&header, &mut packet).unwrap();
            packets.decode_header(&packet[..])
        };
        let announce = Header { message: Message::Announce, ..ping(seed.clone()) };
        assert_eq!(read(announce.clone()).unwrap().dst.addr(), Some(NodeId([2; 16])));
        assert_eq!(read(Header { src: seed.clone(), ..announce }), Err(PacketError::Nameless));
        assert_eq!(read(ping(seed.clone())), Err(PacketError::Nameless));
        let message = Message::PingReq { target: seed, probe_number: 1 };
        let request = Header { message, ..ping(Identity::Life(life(2, 1))) };
        assert_eq!(read(request), Err(PacketError::Nameless));
        let talkative = Life { name: "n".repeat(TEXT_MAX + 1).into(), ..life(1, 1) };
        let header = Header { src: Identity::Life(talkative), ..ping(Identity::Life(life(2, 1))) };
        assert_eq!(read(header), Err(PacketError::Text));
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        let name = format!("{}\u{e9}", "n".repeat(TEXT_MAX - 1));
        let member = Member { name: name.into(), ..life(1, 1).member() };
        assert_eq!(&*Life::new(&member).name, "n".repeat(TEXT_MAX - 1));
    }

    #[test]
    fn a_packet_has_room_for_members_beside_the_longest_header() {
        let longest = |id| Life {
            address: "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap(),
            name: "n".repeat(TEXT_MAX).into(),
            zone: "z".repeat(TEXT_MAX).into(),
            roles: u32::MAX,
            renewals: u32::MAX,
            more: [255; MORE_MAX].into(),
            ..life(id, u64::MAX)
        };
        let mut packets = Packets { me: longest(1) };
        let target = Identity::Life(longest(3));
        let header = Header {
            src: Identity::Life(longest(1)),
            src_incarnation: u16::MAX,
            dst: Identity::Life(longest(2)),
            message: Message::PingReq { target: target.clone(), probe_number: 255 },
        };
        let mut packet = Vec::new();
        packets.encode_header(&header, &mut packet).unwrap();
        packets.encode_member(&foca::Member::new(target, u16::MAX, foca::State::Down), &mut packet).unwrap();
        assert!(packet.len() + 2 <= super::super::members::PACKET_MAX, "{} bytes", packet.len());
    }

    proptest! {
        #[test]
        fn of_two_lives_exactly_one_is_later(one: (u64, u32), other: (u64, u32)) {
            let life = |(incarnation, renewals)| Life { renewals, ..life(1, incarnation) };
            let (one, other) = (life(one), life(other));
            prop_assert_eq!(one.is_later_than(&other), !other.is_later_than(&one) && one != other);
        }

        #[test]
        fn a_renewed_life_is_later_and_overtakes_any_other(old: (u64, u32), new: u64) {
            let old = Life { renewals: old.1 % 64, ..life(1, old.0) };
            let mut new = life(1, new);
            for _ in 0..130 {
                let renewed = new.renew().unwrap();
                prop_assert!(renewed.is_later_than(&new));
                new = renewed;
            }
            prop_assert!(new.is_later_than(&old));
        }

        #[test]
        fn damaged_packets_never_panic(bytes: Vec<u8>, at in 0usize..100, byte: u8) {
            let mut packets = Packets { me: life(2, 1) };
            let _ = packets.named(&bytes);
            let mut packet = Vec::new();
            packets.encode_header(&ping(Identity::Life(life(2, 1))), &mut packet).unwrap();
            packet.put_u16(2);
            packets.encode_member(&foca::Member::alive(Identity::Life(life(3, 5))), &mut packet).unwrap();
            let at = at % packet.len();
            packet[at] = byte;
            let _ = packets.named(&packet);
        }
    }
}
