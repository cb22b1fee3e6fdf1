use super::*;
use proptest::prelude::*;

/// Reads as from a wire that gives at most `piece` bytes at a time. The answer, and how many bytes were taken.
fn read_from(wire: &[u8], piece: usize) -> (Result<Read, Fault>, usize) {
    let mut taken = 0;
    loop {
        match read(&wire[..taken]) {
            Ok(Read::Needs(more)) => {
                assert!(more > 0 && taken + more <= LENGTH_MAX, "{more} after {taken}");
                let given = more.min(piece).min(wire.len() - taken);
                if given == 0 {
                    return (Ok(Read::Needs(more)), taken);
                }
                taken += given;
            }
            other => return (other, taken),
        }
    }
}

#[track_caller]
fn check(header: &[u8], expected: Result<Option<&str>, Fault>) {
    let expected = expected
        .map(|client| Read::Whole { client: client.map(|client| client.parse().expect("an address")) });
    let wire = [header, b"GET / HTTP/1.1\r\n\r\n"].concat();
    for piece in [1, 3, usize::MAX] {
        let (answer, taken) = read_from(&wire, piece);
        assert_eq!(answer, expected, "{}", header.escape_ascii());
        if answer.is_ok() {
            assert_eq!(taken, header.len(), "exactly the header: {}", header.escape_ascii());
        }
    }
}

/// A header of version 2.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).expect("short").to_be_bytes();
    [V2_BEGINS, &[command, family], &length, rest].concat()
}

const IPV4: [u8; 12] = [192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 0, 80];

fn ipv6() -> Vec<u8> {
    let source: Ipv6Addr = "2001:db8::7".parse().expect("an address");
    [&source.octets()[..], &[0; 16], &[0x12, 0x34, 0, 80]].concat()
}

fn vector(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind], &u16::try_from(value.len()).expect("short").to_be_bytes()[..], value].concat()
}

/// An IPv4 header with these vectors around a checksum, which is right or not.
fn summed(before: &[u8], after: &[u8], is_right: bool) -> Vec<u8> {
    let mut header = v2(0x21, 0x11, &[&IPV4, before, &vector(CHECKSUM, &[0; 4]), after].concat());
    let at = V2_HEAD + IPV4.len() + before.len() + 3;
    let sum = crc32c::crc32c(&header) ^ u32::from(!is_right);
    header[at..at + 4].copy_from_slice(&sum.to_be_bytes());
    header
}

#[test]
fn version_1_tells_the_client() {
    check(b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\r\n", Ok(Some("192.0.2.1:4660")));
    check(b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", Ok(Some("255.255.255.255:65535")));
    check(b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", Ok(Some("0.0.0.0:0")));
    check(b"PROXY TCP6 2001:db8::7 ::1 4660 80\r\n", Ok(Some("[2001:db8::7]:4660")));
    check(b"PROXY UNKNOWN\r\n", Ok(None));
    let longest = format!("PROXY UNKNOWN {} {0} 65535 65535\r\n", ["ffff"; 8].join(":"));
    assert_eq!(longest.len(), V1_LENGTH_MAX, "the longest that the specification names");
    check(longest.as_bytes(), Ok(None));
}

#[test]
fn version_1_is_read_strictly() {
    for line in [
        "PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\r\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 4660 80 \r\n",
        "PROXY  TCP4 192.0.2.1 10.0.0.1 4660 80\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 4660\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 04660 80\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 +4660 80\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 65536 80\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 4660 \r\n",
        "PROXY TCP4 192.0.2.01 10.0.0.1 4660 80\r\n",
        "PROXY TCP4 192.0.2 10.0.0.1 4660 80\r\n",
        "PROXY TCP4 2001:db8::7 ::1 4660 80\r\n",
        "PROXY TCP4 192.0.2.1 ::1 4660 80\r\n",
        "PROXY TCP6 192.0.2.1 10.0.0.1 4660 80\r\n",
        "PROXY TCP6 [2001:db8::7] ::1 4660 80\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 4660 80\r\n",
        "PROXY UDP4 192.0.2.1 10.0.0.1 4660 80\r\n",
        "PROXY tcp4 192.0.2.1 10.0.0.1 4660 80\r\n",
        "PROXY UNKNOWNS and more\r\n",
        "PROXY \r\nGET / HTTP/1.1\r\n",
    ] {
        check(line.as_bytes(), Err(Fault::Malformed));
    }
    check(b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 \xff\r\n", Err(Fault::Malformed));
    check(format!("PROXY UNKNOWN {}\r\n", "x".repeat(92)).as_bytes(), Err(Fault::TooLong));
    check("PROXY TCP4 ".repeat(20).as_bytes(), Err(Fault::TooLong));
}

#[test]
fn version_2_tells_the_client() {
    check(&v2(0x21, 0x11, &IPV4), Ok(Some("192.0.2.1:4660")));
    check(&v2(0x21, 0x21, &ipv6()), Ok(Some("[2001:db8::7]:4660")));
    check(&v2(0x21, 0x31, &[7; 216]), Ok(None));
    check(&v2(0x21, 0x00, b"whatever"), Ok(None));
    // A proxy's own checks, whatever family they state.
    for family in [0x00, 0x11, 0x12, 0xff] {
        check(&v2(0x20, family, &[]), Ok(None));
        check(&v2(0x20, family, &[0xff; 40]), Ok(None));
    }
}

#[test]
fn what_else_version_2_tells_is_stepped_over() {
    let vectors =
        [vector(0x01, b"h2"), vector(0x04, &[0; 90]), vector(0x20, &[0xff; 300]), vector(0xea, b"")];
    check(&v2(0x21, 0x11, &[&IPV4[..], &vectors.concat()].concat()), Ok(Some("192.0.2.1:4660")));
    check(&v2(0x21, 0x21, &[ipv6(), vectors.concat()].concat()), Ok(Some("[2001:db8::7]:4660")));
    check(&v2(0x21, 0x31, &[&[0; 216][..], &vectors.concat()].concat()), Ok(None));
    for broken in [&[0x01][..], &[0x01, 0], &[0x01, 0, 2, b'h'], &[0x01, 0xff, 0xff, 0]] {
        check(&v2(0x21, 0x11, &[&IPV4, broken].concat()), Err(Fault::Malformed));
    }
}

#[test]
fn a_checksum_is_compared() {
    let more = vector(0x02, b"site.test");
    for (before, after) in [(&[][..], &[][..]), (&more, &[]), (&[], &more), (&more, &more)] {
        check(&summed(before, after, true), Ok(Some("192.0.2.1:4660")));
        check(&summed(before, after, false), Err(Fault::Checksum));
        let mut changed = summed(before, after, true);
        changed[V2_HEAD] ^= 1;
        check(&changed, Err(Fault::Checksum));
    }
    check(&v2(0x21, 0x11, &[&IPV4[..], &vector(CHECKSUM, &[0; 3])].concat()), Err(Fault::Malformed));
}

#[test]
fn version_2_is_read_strictly() {
    for (command, fault) in
        [(0x11, Fault::Unsupported), (0x31, Fault::Unsupported), (0x22, Fault::Unsupported)]
    {
        check(&v2(command, 0x11, &IPV4), Err(fault));
    }
    for family in [0x12, 0x22, 0x32] {
        check(&v2(0x21, family, &[0; 216]), Err(Fault::Unsupported));
    }
    for family in [0x01, 0x10, 0x13, 0x41, 0xff] {
        check(&v2(0x21, family, &[0; 216]), Err(Fault::Malformed));
    }
    check(&v2(0x21, 0x11, &IPV4[..11]), Err(Fault::Malformed));
    check(&v2(0x21, 0x21, &ipv6()[..35]), Err(Fault::Malformed));
    check(&v2(0x21, 0x31, &[0; 215]), Err(Fault::Malformed));
    check(&v2(0x20, 0x11, &vec![0; LENGTH_MAX - V2_HEAD]), Ok(None));
    check(&v2(0x20, 0x11, &vec![0; LENGTH_MAX - V2_HEAD + 1]), Err(Fault::TooLong));
}

#[test]
fn what_is_no_header_is_seen_with_its_first_byte_that_is_wrong() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"PROXZ",
        b"proxy TCP4",
        b"\r\n\r\n\0\r\nQUIT\r",
        b"\x16\x03\x01",
        b"\0",
    ] {
        let (answer, _) = read_from(bytes, 1);
        assert_eq!(answer, Err(Fault::Missing), "{}", bytes.escape_ascii());
    }
    let (answer, taken) = read_from(b"PRI * HTTP/2.0", 1);
    assert_eq!((answer, taken), (Err(Fault::Missing), 3));
}

/// Bytes that are often near to a header.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let v1 = "PROXY (TCP4|TCP6|UNKNOWN|TCP) ?[0-9a-f:. ]{0,60}(\r\n|\n|\r|)";
    let v2 = (any::<u8>(), any::<u8>(), prop::collection::vec(any::<u8>(), 0..300));
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        v1.prop_map(String::into_bytes),
        v2.clone().prop_map(|(command, family, rest)| super::tests::v2(command, family, &rest)),
        v2.prop_map(|(command, family, rest)| {
            super::tests::v2(0x20 | command & 1, [0, 0x11, 0x21, 0x31][usize::from(family) % 4], &rest)
        }),
    ]
}

proptest! {
    /// However the bytes are cut, the answer is one, and nothing behind a header is taken.
    #[test]
    fn no_bytes_make_it_panic_or_read_on(bytes in nearly(), piece in 1_usize..20) {
        let (at_once, _) = read_from(&bytes, usize::MAX);
        let (pieces, taken) = read_from(&bytes, piece);
        match (at_once, pieces) {
            // A wrong byte may be seen before or after what else is wrong.
            (Err(_), Err(_)) => {}
            (at_once, pieces) => prop_assert_eq!(at_once, pieces),
        }
        if let Ok(Read::Whole { .. }) = pieces {
            prop_assert!(read_from(&bytes[..taken - 1], piece).0.is_ok_and(|read| matches!(read, Read::Needs(_))));
        }
        let _ = read(&bytes);
    }

    #[test]
    fn what_a_proxy_tells_comes_out(source: SocketAddr, to: SocketAddr, value in prop::collection::vec(any::<u8>(), 0..100)) {
        let (family, octets, destination) = match (source.ip(), to.port()) {
            (std::net::IpAddr::V4(ip), _) => (4, ip.octets().to_vec(), "192.0.2.9"),
            (std::net::IpAddr::V6(ip), _) => (6, ip.octets().to_vec(), "2001:db8::9"),
        };
        // A scope or flow is no part of an address on the wire.
        let client = SocketAddr::new(source.ip(), source.port());
        let line = format!("PROXY TCP{family} {} {destination} {} {}\r\n", source.ip(), source.port(), to.port());
        prop_assert_eq!(read_from(line.as_bytes(), 7).0, Ok(Read::Whole { client: Some(client) }));
        let ports = [source.port().to_be_bytes(), to.port().to_be_bytes()].concat();
        let block = [&octets[..], &vec![9; octets.len()], &ports, &vector(0x05, &value)].concat();
        let header = v2(0x21, if family == 4 { 0x11 } else { 0x21 }, &block);
        prop_assert_eq!(read_from(&header, 7).0, Ok(Read::Whole { client: Some(client) }));
    }
}
