//! The bytes of version 1.1, written down. If one of these fails, nodes of two releases no longer understand each
//! other; the rules for a change are in the module above.

use super::frame::{FrameHead, FrameKind, message};
use super::*;
use prost::Message;

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// Holds a message to its bytes, both ways.
#[track_caller]
fn check<M: Message + Default + PartialEq + std::fmt::Debug>(message: M, golden: &str) {
    assert_eq!(hex(&message.encode_to_vec()), golden, "{message:?}");
    let bytes = data_encoding::HEXLOWER.decode(golden.as_bytes()).expect("hexadecimal");
    assert_eq!(M::decode(&*bytes).expect("it reads"), message);
}

fn token() -> Token {
    Token { issuer: 0x0102_0304_0506_0708, term: 9, number: 300 }
}

fn place() -> Place {
    Place { node: vec![7; 16], address: "10.0.0.1:7400".into(), zone: "a".into() }
}

fn holding() -> Holding {
    Holding { object: vec![1; 16], variant: vec![2; 16], fresh_secs: 60 }
}

fn read() -> Read {
    Read {
        object: vec![1; 16],
        variant: vec![2; 16],
        version: vec![3; 16],
        from: 1 << 20,
        to: 2 << 20,
        follow: Some(token()),
        held: vec![4; 16],
        digest: vec![],
        covered: vec![],
    }
}

#[test]
fn names_and_numbers_are_those_of_version_1_1() {
    assert_eq!(
        (ALPN, ENROL_ALPN, VERSION_ALPN),
        (&b"shoal-peer/1"[..], &b"shoal-enrol/1"[..], &b"shoal-version"[..])
    );
    assert_eq!(ALPN, format!("shoal-peer/{MAJOR}").as_bytes());
    assert_eq!(VERSIONS.0, 1, "version 1.1 is spoken");
    let codes = [code::CANCELLED, code::UPSTREAM, code::PROTOCOL, code::FORBIDDEN, code::BUSY, code::LEAVING];
    assert_eq!((codes, code::UNSUPPORTED), ([0, 1, 2, 3, 4, 5], 6));
    let closes =
        [close::LEAVING, close::VERSION, close::HELLO, close::IDENTITY, close::FULL, close::REPLACED];
    assert_eq!((closes, close::CERTIFICATE, close::ITSELF), ([0, 1, 2, 3, 4, 5], 6, 7));
}

#[test]
fn frames_are_those_of_version_1_1() {
    let head = |kind, length| hex(&FrameHead { kind, length }.encode());
    assert_eq!(head(FrameKind::Data, 65_536), "0100000100");
    assert_eq!(head(FrameKind::Chunk, 32), "0220000000");
    assert_eq!(head(FrameKind::End, 8), "0308000000");
    assert_eq!(head(FrameKind::Pulse, 0), "0400000000");
    assert_eq!(hex(&message(&Note { kind: Some(note::Kind::Leaving(Leaving {})) })), "00020000003200");
}

/// What the two ends of a connection must read in each other's hello whatever their major versions are.
#[test]
fn the_hello_is_that_of_version_1_1() {
    let hello = Hello {
        version_min: 1,
        version_max: 1,
        features: 5,
        name: "edge-1".into(),
        zone: "a".into(),
        roles: 3,
        address: "10.0.0.1:7400".into(),
        program: "0.1.0".into(),
        incarnation: 1_800_000_000_000,
        required: 1,
        major: 1,
    };
    check(Ask { kind: Some(ask::Kind::Hello(hello)) }, HELLO);
}

#[test]
fn questions_are_those_of_version_1_1() {
    let resolve = Resolve {
        object: vec![1; 16],
        variant: vec![2; 16],
        vary_known: true,
        held: true,
        lease_wanted: true,
        avoid: vec![vec![7; 16]],
        purged: 0,
        overtaken: None,
    };
    check(Ask { kind: Some(ask::Kind::Resolve(resolve)) }, RESOLVE);
    check(Ask { kind: Some(ask::Kind::Session(Session { number: 2 })) }, SESSION);
    check(Ask { kind: Some(ask::Kind::Read(read())) }, READ);
    let field = Field { name: "accept".into(), value: b"*/*".to_vec() };
    let open = Open { key: b"key".to_vec(), fields: vec![field], read: Some(read()), hops: 1 };
    check(Ask { kind: Some(ask::Kind::Open(open)) }, OPEN);
    check(Enrol { token: "t".into(), csr: vec![1, 2], name: "edge-1".into() }, ENROL);
}

#[test]
fn findings_are_those_of_version_1_1() {
    let resolved = |kind| Resolved { kind: Some(kind) };
    check(resolved(resolved::Kind::Holders(Holders { places: vec![place()] })), HOLDERS);
    check(resolved(resolved::Kind::Lease(Grant { token: Some(token()), term_millis: 2000 })), LEASE);
    check(resolved(resolved::Kind::Follow(Follow { place: Some(place()), token: Some(token()) })), FOLLOW);
    check(resolved(resolved::Kind::Fresher(place())), FRESHER);
    check(resolved(resolved::Kind::Alone(Alone { for_millis: 1000 })), ALONE);
    check(resolved(resolved::Kind::Warming(Warming {})), WARMING);
}

#[test]
fn notes_are_those_of_version_1_1() {
    let note = |kind| Note { kind: Some(kind) };
    let announce = Announce { added: vec![holding()], removed: vec![holding()], complete: true };
    check(note(note::Kind::Announce(announce)), ANNOUNCE);
    check(note(note::Kind::Renew(Renew { tokens: vec![token()] })), RENEW);
    check(note(note::Kind::Done(Done { token: Some(token()), ending: 2, holding: Some(holding()) })), DONE);
    check(note(note::Kind::Gone(Gone { holding: Some(holding()), node: vec![7; 16], purged: false })), GONE);
    let granted = Granted { token: Some(token()), holding: Some(holding()), node: vec![7; 16], ended: true };
    check(note(note::Kind::Granted(granted)), GRANTED);
    check(note(note::Kind::Leaving(Leaving {})), LEAVING);
}

#[test]
fn replies_are_those_of_version_1_1() {
    let reply = |kind| Reply { kind: Some(kind) };
    let head = Head {
        key: b"key".to_vec(),
        status: 200,
        fields: vec![Field { name: "etag".into(), value: b"\"x\"".to_vec() }],
        age: 3,
        length: Some(5),
        variant: vec![2; 16],
        version: vec![3; 16],
        vary: vec!["accept".into()],
        arriving: true,
        hashes: vec![8; 32],
        same: true,
    };
    check(reply(reply::Kind::Head(head)), HEAD);
    check(reply(reply::Kind::Varies(Varies { names: vec!["accept".into()] })), VARIES);
    check(reply(reply::Kind::Gone(Gone::default())), NOT_HERE);
    check(reply(reply::Kind::Busy(Busy {})), BUSY);
    check(reply(reply::Kind::NotStored(NotStored { server_error: true, of_object: true })), NOT_STORED);
    check(reply(reply::Kind::Failed(Failed { reason: "refused".into() })), FAILED);
    let chain = enrol::Chain { certificates: vec![vec![1, 2], vec![3]] };
    check(Enrolled { kind: Some(enrolled::Kind::Chain(chain)) }, CHAIN);
    check(Enrolled { kind: Some(enrolled::Kind::Refused("no".into())) }, NOT_ENROLLED);
}

/// Kinds that came to version 1.1 later; who does not know them goes on without.
#[test]
fn purges_are_those_of_version_1_1() {
    let covered = vec![Covered { issuer: 5, number: 300 }];
    let entry = PurgeEntry {
        issuer: 5,
        number: 300,
        kind: 2,
        mode: 1,
        site: 6,
        length: 7,
        hash_low: 8,
        hash_high: 9,
    };
    let purges = Purges {
        digest: vec![1; 16],
        stated: true,
        covered: covered.clone(),
        steps: vec![PurgeStep { issuer: 5, basis: 299, number: 300 }],
        entries: vec![entry],
        floors: vec![PurgeEntry { issuer: 5, number: 300, kind: 6, ..PurgeEntry::default() }],
        reception: 1,
        more: true,
    };
    check(Ask { kind: Some(ask::Kind::Purges(purges)) }, PURGES);
    let invalidate = Invalidate { objects: vec![vec![1; 16]] };
    check(Ask { kind: Some(ask::Kind::Invalidate(invalidate)) }, INVALIDATE);
    check(Reply { kind: Some(reply::Kind::Apart(Apart { covered })) }, APART);
}

const PURGES: &str = "\
    32760a100101010101010101010101010101010110011a0c09050000000000000010ac02220f09050000000000000010\
    ab0218ac022a2d09050000000000000010ac021802200129060000000000000030073908000000000000004109000000\
    00000000320e09050000000000000010ac02180638014001";
const INVALIDATE: &str = "42120a1001010101010101010101010101010101";
const APART: &str = "3a0e0a0c09050000000000000010ac02";
const HELLO: &str = "\
    0a340801100118052206656467652d312a016130033a0d31302e302e302e313a373430304205302e312e304880a0f1c2\
    b13450015801";
const RESOLVE: &str = "\
    123c0a100101010101010101010101010101010112100202020202020202020202020202020218012001280132100707\
    0707070707070707070707070707";
const SESSION: &str = "1a020802";
const READ: &str = "\
    22680a10010101010101010101010101010101011210020202020202020202020202020202021a100303030303030303\
    0303030303030303208080402880808001321509080706050403020111090000000000000018ac023a10040404040404\
    04040404040404040404";
const OPEN: &str = "\
    2a80010a036b6579120d0a0661636365707412032a2f2a1a680a10010101010101010101010101010101011210020202\
    020202020202020202020202021a10030303030303030303030303030303032080804028808080013215090807060504\
    03020111090000000000000018ac023a10040404040404040404040404040404042001";
const ENROL: &str = "0a0174120201021a06656467652d31";
const HOLDERS: &str = "0a260a240a1007070707070707070707070707070707120d31302e302e302e313a373430301a0161";
const LEASE: &str = "121a0a1509080706050403020111090000000000000018ac0210d00f";
const FOLLOW: &str = "\
    1a3d0a240a1007070707070707070707070707070707120d31302e302e302e313a373430301a01611215090807060504\
    03020111090000000000000018ac02";
const FRESHER: &str = "22240a1007070707070707070707070707070707120d31302e302e302e313a373430301a0161";
const ALONE: &str = "2a0308e807";
const WARMING: &str = "3200";
const ANNOUNCE: &str = "\
    0a520a260a1001010101010101010101010101010101121002020202020202020202020202020202183c12260a100101\
    0101010101010101010101010101121002020202020202020202020202020202183c1801";
const RENEW: &str = "12170a1509080706050403020111090000000000000018ac02";
const DONE: &str = "\
    1a410a1509080706050403020111090000000000000018ac0210021a260a100101010101010101010101010101010112\
    1002020202020202020202020202020202183c";
const GONE: &str = "\
    223a0a260a1001010101010101010101010101010101121002020202020202020202020202020202183c121007070707\
    070707070707070707070707";
const GRANTED: &str = "\
    2a530a1509080706050403020111090000000000000018ac0212260a1001010101010101010101010101010101121002\
    020202020202020202020202020202183c1a10070707070707070707070707070707072001";
const LEAVING: &str = "3200";
const HEAD: &str = "\
    0a6b0a036b657910c8011a0b0a04657461671203227822200328053210020202020202020202020202020202023a1003\
    030303030303030303030303030303420661636365707448015220080808080808080808080808080808080808080808\
    08080808080808080808085801";
const VARIES: &str = "12080a06616363657074";
const NOT_HERE: &str = "1a00";
const BUSY: &str = "2200";
const NOT_STORED: &str = "2a0408011001";
const FAILED: &str = "32090a0772656675736564";
const CHAIN: &str = "0a070a0201020a0103";
const NOT_ENROLLED: &str = "12026e6f";
