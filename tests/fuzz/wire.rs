//! What peers send: frames, messages of all kinds, and purges.

use prost::Message;
use shoal::proto::purge::{Coverage, Issuer, Log, Mode, Parcel, Selector, Unpacking};
use shoal::proto::swarm::{Finding, Holding, Place, Query};
use shoal::proto::time::Wall;
use shoal::proto::wire::frame::{FRAME_HEAD, FrameHead, FrameKind, SKIPPED_MAX};
use shoal::proto::wire::{
    self, Ask, Enrol, Enrolled, Hello, Looked, MESSAGE_MAX, Note, PURGES_MAX, Purges, Reply, Resolved, ask,
    note, reply, resolved,
};

/// Bytes that an encoding may grow by, where what came was shorter than what is written: a packed list of one.
const GROWTH_MAX: usize = 64;

/// The kinds of messages that stand in a frame of their own, by the first byte of a case.
const KINDS: [fn(&[u8]); 8] = [
    message::<Ask>,
    message::<Resolved>,
    message::<Note>,
    message::<Reply>,
    message::<Purges>,
    message::<Looked>,
    message::<Enrolled>,
    message::<Enrol>,
];

/// A byte for the kind and an encoded message.
pub(crate) fn messages(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    KINDS[usize::from(*kind) % KINDS.len()](bytes);
    if let Ok(Ask { kind: Some(ask::Kind::Resolve(resolve)) }) = Ask::decode(bytes)
        && let Ok(query) = Query::try_from(&resolve)
    {
        assert_eq!(Query::try_from(&wire::Resolve::from(&query)), Ok(query));
    }
    if let Ok(finding) =
        Resolved::decode(bytes).map_err(drop).and_then(|all| Finding::try_from(&all).map_err(drop))
    {
        assert_eq!(Finding::try_from(&Resolved::from(&finding)), Ok(finding));
    }
    if let Ok(Note { kind: Some(note::Kind::Announce(announce)) }) = Note::decode(bytes) {
        for holding in announce.added.iter().chain(&announce.removed) {
            if let Ok(read) = Holding::try_from(holding) {
                assert_eq!(wire::Holding::from(read), *holding);
            }
        }
    }
    if let Ok(Resolved { kind: Some(resolved::Kind::Fresher(place)) }) = Resolved::decode(bytes)
        && let Ok(read) = Place::try_from(&place)
    {
        assert_eq!(Place::try_from(&wire::Place::from(&read)), Ok(read));
    }
}

/// What is read and written is read again alike, and is not much longer than what came.
fn message<M: Message + Default + PartialEq>(bytes: &[u8]) {
    let Ok(read) = M::decode(bytes) else { return };
    let written = read.encode_to_vec();
    assert!(written.len() <= 2 * bytes.len() + GROWTH_MAX);
    assert!(M::decode(&written[..]).unwrap() == read);
    let frame = wire::frame::message(&read);
    let head = FrameHead::decode(*frame.first_chunk().unwrap()).unwrap();
    assert_eq!((head.kind, head.length), (FrameKind::Message, written.len()));
    assert_eq!(&frame[FRAME_HEAD..], &written);
}

/// One message of each kind, with its fields set.
pub(crate) fn messages_seeds() -> Vec<Vec<u8>> {
    let token = wire::Token { issuer: 1, term: 2, number: 3 };
    let holding = wire::Holding { object: vec![1; 16], variant: vec![2; 16], fresh_secs: 60 };
    let place = wire::Place { node: vec![3; 16], address: "[::1]:7000".into(), zone: "a".into() };
    let field = wire::Field { name: "etag".into(), value: b"\"a\"".to_vec() };
    let head = wire::Head {
        key: vec![0; 13],
        status: 200,
        fields: vec![field.clone()],
        age: 5,
        length: Some(9),
        ..Default::default()
    };
    let resolve = wire::Resolve {
        object: vec![1; 16],
        variant: vec![2; 16],
        avoid: vec![vec![4; 16]],
        overtaken: Some(token),
        ..Default::default()
    };
    let read = wire::Read {
        object: vec![1; 16],
        variant: vec![2; 16],
        from: 7,
        follow: Some(token),
        ..Default::default()
    };
    let hello = Hello {
        version_min: 1,
        version_max: 1,
        name: "edge".into(),
        address: "127.0.0.1:1".into(),
        major: 1,
        ..Default::default()
    };
    let open = wire::Open { key: vec![0; 13], fields: vec![field], read: Some(read.clone()), hops: 1 };
    let asks = [
        ask::Kind::Hello(hello),
        ask::Kind::Resolve(resolve),
        ask::Kind::Session(wire::Session { number: 3 }),
        ask::Kind::Read(read),
        ask::Kind::Open(open),
        ask::Kind::Look(wire::Look { object: vec![1; 16] }),
        ask::Kind::Invalidate(wire::Invalidate { objects: vec![vec![1; 16]] }),
        ask::Kind::Purges(parcel().messages().next().unwrap()),
    ];
    let answers = [
        resolved::Kind::Holders(wire::Holders { places: vec![place.clone()] }),
        resolved::Kind::Lease(wire::Grant { token: Some(token), term_millis: 2000 }),
        resolved::Kind::Follow(wire::Follow { place: Some(place.clone()), token: Some(token) }),
        resolved::Kind::Fresher(place),
        resolved::Kind::Alone(wire::Alone { for_millis: 7 }),
    ];
    let notes = [
        note::Kind::Announce(wire::Announce {
            added: vec![holding.clone()],
            removed: vec![holding.clone()],
            complete: true,
        }),
        note::Kind::Renew(wire::Renew { tokens: vec![token] }),
        note::Kind::Done(wire::Done { token: Some(token), ending: 1, holding: Some(holding.clone()) }),
        note::Kind::Gone(wire::Gone { holding: Some(holding.clone()), node: vec![3; 16], purged: true }),
        note::Kind::Granted(wire::Granted {
            token: Some(token),
            holding: Some(holding),
            node: vec![3; 16],
            ended: false,
        }),
    ];
    let replies = [
        reply::Kind::Head(head.clone()),
        reply::Kind::Gone(wire::Gone::default()),
        reply::Kind::Apart(wire::Apart { covered: vec![wire::Covered { issuer: 1, number: 2 }] }),
    ];
    let with = |kind: u8, message: Vec<u8>| [vec![kind], message].concat();
    let seen = wire::Seen { head: Some(head), records: 1, memory: 1, disk: 0 };
    let mut seeds: Vec<_> = asks.map(|kind| with(0, Ask { kind: Some(kind) }.encode_to_vec())).to_vec();
    seeds.extend(answers.map(|kind| with(1, Resolved { kind: Some(kind) }.encode_to_vec())));
    seeds.extend(notes.map(|kind| with(2, Note { kind: Some(kind) }.encode_to_vec())));
    seeds.extend(replies.map(|kind| with(3, Reply { kind: Some(kind) }.encode_to_vec())));
    seeds.push(with(4, parcel().messages().next().unwrap().encode_to_vec()));
    seeds.push(with(5, Looked { seen: vec![seen], more: true, arriving: false }.encode_to_vec()));
    let chain = wire::enrol::Chain { certificates: vec![vec![0x30, 0]] };
    seeds.push(with(6, Enrolled { kind: Some(wire::enrolled::Kind::Chain(chain)) }.encode_to_vec()));
    seeds.push(with(
        7,
        Enrol { token: "shoal1.".into(), csr: vec![0x30], name: "edge".into() }.encode_to_vec(),
    ));
    seeds
}

/// A stream of frames, heads and payloads, as far as it is one.
pub(crate) fn frames(mut bytes: &[u8]) {
    while let Some((head, rest)) = bytes.split_first_chunk::<FRAME_HEAD>() {
        let Ok(frame) = FrameHead::decode(*head) else { return };
        assert_eq!(frame.encode(), *head);
        let bound = match frame.kind {
            FrameKind::Message => MESSAGE_MAX,
            FrameKind::Data => 1 << 20,
            FrameKind::Chunk => 32,
            FrameKind::End => 8,
            FrameKind::Pulse => 0,
            FrameKind::Skipped(kind) => {
                assert!(kind >= 128);
                SKIPPED_MAX
            }
        };
        assert!(frame.length <= bound);
        bytes = rest.get(frame.length..).unwrap_or_default();
    }
}

/// A stream with a frame of each type.
pub(crate) fn frame_seeds() -> Vec<Vec<u8>> {
    let kinds = [
        (FrameKind::Message, 3),
        (FrameKind::Data, 5),
        (FrameKind::Chunk, 32),
        (FrameKind::End, 8),
        (FrameKind::Pulse, 0),
        (FrameKind::Skipped(200), 2),
    ];
    let frame = |(kind, length)| [FrameHead { kind, length }.encode().to_vec(), vec![7; length]].concat();
    vec![kinds.map(frame).concat()]
}

/// A log with purges of every kind, told to one who knows nothing.
fn parcel() -> Parcel {
    let mut log = Log::new(Issuer(7));
    let (site, host) = ("shop".to_owned(), "shop.example".to_owned());
    let selectors = [
        Selector::Url { site: site.clone(), host: host.clone(), path: "/a".to_owned() },
        Selector::Prefix { site: site.clone(), host: host.clone(), path: "/b/".to_owned() },
        Selector::Tag { site: None, tag: "t".to_owned() },
        Selector::Host { site: site.clone(), host },
        Selector::Site { site },
        Selector::All,
    ];
    let batch = log.issue(selectors.iter().map(|selector| selector.target(Mode::Soft)));
    let applied = log.prepare(&batch, Wall::from_secs(5)).unwrap();
    log.apply(&applied);
    let batch = log.missing(&Coverage::default());
    Parcel { digest: log.digest(), coverage: Some(log.coverage().clone()), batch, ..Parcel::default() }
}

/// The messages of a parcel, each behind its length in two bytes.
pub(crate) fn purge_seeds() -> Vec<Vec<u8>> {
    let framed = |message: &Purges| {
        let encoded = message.encode_to_vec();
        [&(encoded.len() as u16).to_le_bytes()[..], &encoded].concat()
    };
    let whole = parcel().messages().next().unwrap();
    let first = Purges { entries: Vec::new(), more: true, ..whole.clone() };
    let second = Purges { entries: whole.entries.clone(), ..Purges::default() };
    vec![
        framed(&whole),
        [framed(&first), framed(&second)].concat(),
        framed(&Parcel::default().messages().next().unwrap()),
    ]
}

/// Messages of a parcel: put together, applied, and told again.
pub(crate) fn purges(mut bytes: &[u8]) {
    let mut unpacking = Unpacking::default();
    let mut items = 0;
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let (encoded, rest) = rest.split_at(rest.len().min(u16::from_le_bytes(*length).into()));
        bytes = rest;
        let Ok(message) = Purges::decode(encoded) else { return };
        if let Ok(coverage) = Coverage::of_wire(&message.covered) {
            assert_eq!(coverage.to_wire(), message.covered);
            assert_eq!(coverage.digest(), coverage.iter().collect::<Coverage>().digest());
        }
        items += message.covered.len() + message.steps.len() + message.entries.len() + message.floors.len();
        if unpacking.take(&message).is_err() {
            return;
        }
        assert!(items <= PURGES_MAX * 1024);
    }
    let Ok(parcel) = unpacking.finish() else { return };
    let mut again = Unpacking::default();
    for message in parcel.messages() {
        again.take(&message).unwrap();
    }
    assert_eq!(again.finish(), Ok(parcel.clone()));
    applied(&parcel);
}

/// Whoever applies a parcel covers it, loses nothing, has nothing to gain by it again, and can go on to issue purges: also the node
/// whose own purges it tells of.
fn applied(parcel: &Parcel) {
    for issuer in [1, 7] {
        let mut log = Log::new(Issuer(issuer));
        let before = log.position();
        let Ok(applied) = log.prepare(&parcel.batch, Wall::from_secs(5)) else { return };
        log.apply(&applied);
        assert!(log.position() >= before && log.coverage().covers(&parcel.batch.coverage));
        let twice = log.prepare(&parcel.batch, Wall::from_secs(6)).unwrap();
        assert!(twice.coverage.is_empty());
        let missing = log.missing(&parcel.batch.coverage);
        assert!(missing.entries.iter().all(|entry| !parcel.batch.coverage.has(entry.id)));
        let restored = Log::restore(log.snapshot()).unwrap();
        assert_eq!(restored.coverage(), log.coverage());
        assert_eq!((restored.position(), restored.len()), (log.position(), log.len()));
        let batch = log.issue([Selector::All.target(Mode::Hard)]);
        let applied = log.prepare(&batch, Wall::from_secs(7)).unwrap();
        assert!(!applied.is_nothing(), "a purge that is issued is applied");
        log.apply(&applied);
        assert!(log.position() > restored.position());
    }
}
