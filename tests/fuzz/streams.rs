//! What is read of a connection before HTTP is: PROXY headers, and where requests begin and end.

use shoal::proto::framing::{Fault, Framing, Limits};
use shoal::proto::proxy::{self, LENGTH_MAX, Read};

pub(crate) const PROXY_WORDS: &[&str] =
    &["PROXY ", "TCP4 ", "TCP6 ", "UNKNOWN", "\r\n", "192.0.2.1 ", "::1 ", "65535", "0"];
pub(crate) const FRAMING_WORDS: &[&str] = &[
    "POST / HTTP/1.1\r\n",
    "GET /x HTTP/1.0\r\n",
    "\r\n",
    "\r\n\r\n",
    "\n",
    "Content-Length: 3\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Expect: 100-continue\r\n",
    "3\r\nabc\r\n",
    "0\r\n\r\n",
    ";a=b",
];

/// A header is read need by need, and is the same read at once; a first version is what its words say.
pub(crate) fn proxy_headers(bytes: &[u8]) {
    let mut length = 0;
    let found = loop {
        match proxy::read(&bytes[..length]) {
            Ok(Read::Needs(more)) => {
                assert!(more > 0, "no progress");
                length += more;
                assert!(length <= LENGTH_MAX, "without bound");
                if length > bytes.len() {
                    return;
                }
            }
            found => break found,
        }
    };
    assert_eq!(proxy::read(&bytes[..length]), found);
    let Ok(Read::Whole { client }) = found else { return };
    let Some(line) = bytes[..length].strip_prefix(b"PROXY ") else { return };
    let line = std::str::from_utf8(line).unwrap().strip_suffix("\r\n").unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    match (words[0], client) {
        ("UNKNOWN", None) => {}
        ("TCP4" | "TCP6", Some(client)) => {
            assert_eq!(words.len(), 5);
            assert_eq!((words[1].parse(), words[3].parse()), (Ok(client.ip()), Ok(client.port())));
            assert_eq!(client.is_ipv4(), words[0] == "TCP4");
        }
        other => panic!("{other:?}"),
    }
}

/// What may be passed on, and why no more, are the same however the bytes come.
pub(crate) fn framing(bytes: &[u8]) {
    let whole = follow(bytes, |left| left);
    // Sizes that the bytes themselves say, so that a failure is one file.
    let mut turn = 0;
    let split = follow(bytes, |left| {
        turn += 1;
        left.min(1 + usize::from(bytes[turn % bytes.len().max(1)]) % 7)
    });
    assert_eq!(whole, split);
}

/// Bytes passed on and heads that were complete, or the fault: what comes in one piece with it need not be passed on. `more` says how many of the bytes that are left come next.
fn follow(bytes: &[u8], mut more: impl FnMut(usize) -> usize) -> Result<(usize, u64), Fault> {
    let mut framing = Framing::new(Limits { target_bytes: 100, field_bytes: 1000, fields: 10 });
    let (mut passed, mut come) = (0, 0);
    loop {
        let shown = &bytes[passed..come];
        let wants_more = if shown.is_empty() {
            true
        } else {
            match framing.take(shown) {
                Err(fault) => return Err(fault),
                Ok(taken) => {
                    assert!(taken.length <= shown.len());
                    assert!(taken.length > 0 || taken.wants_more, "no progress");
                    passed += taken.length;
                    taken.wants_more
                }
            }
        };
        if wants_more || passed == come {
            if come == bytes.len() {
                return Ok((passed, framing.messages()));
            }
            come += more(bytes.len() - come);
        }
    }
}
