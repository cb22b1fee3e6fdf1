//! The rules of framing, one by one and at random.

use super::*;
use proptest::prelude::*;

const LIMITS: Limits = Limits { target_bytes: 100, field_bytes: 400, fields: 8 };

/// Messages that a stream has, each as it would be passed on, and why it has no more.
fn read(stream: &[u8], splits: &[usize]) -> (Vec<Vec<u8>>, Option<Fault>) {
    let (mut framing, mut messages, mut held) = (Framing::new(LIMITS), vec![Vec::new()], Vec::new());
    let mut at = 0;
    let ends = splits.iter().copied().chain([stream.len()]);
    for end in ends {
        let end = end.clamp(at, stream.len());
        held.extend_from_slice(&stream[at..end]);
        at = end;
        while !held.is_empty() {
            let taken = match framing.take(&held) {
                Ok(taken) => taken,
                Err(fault) => return (messages, Some(fault)),
            };
            assert!(taken.length > 0 || taken.wants_more, "no way on at {}", held.escape_ascii());
            let last = messages.len() - 1;
            messages[last].extend(held.drain(..taken.length));
            if framing.is_between() && taken.length > 0 {
                messages.push(Vec::new());
            }
            if taken.wants_more {
                break;
            }
        }
    }
    (messages, None)
}

fn fault(stream: impl AsRef<[u8]>) -> Option<Fault> {
    read(stream.as_ref(), &[]).1
}

/// The messages of a stream that has nothing but whole ones.
fn whole(stream: &str) -> Vec<String> {
    let (mut messages, fault) = read(stream.as_bytes(), &[]);
    assert_eq!(fault, None, "{stream:?}");
    assert_eq!(messages.pop().as_deref(), Some(&b""[..]), "{stream:?} does not end with a message");
    messages.into_iter().map(|message| String::from_utf8(message).unwrap()).collect()
}

fn get(fields: &str) -> String {
    format!("GET /x HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

#[test]
fn messages_end_where_their_framing_says() {
    let messages = [
        get(""),
        get("Content-Length: 0\r\n"),
        get("content-LENGTH:  5 \t\r\n") + "a\r\n\rb",
        get("Transfer-Encoding: Chunked\r\n")
            + "5\r\nhello\r\n00aF;x=\"y\"\r\n"
            + &"z".repeat(0xaf)
            + "\r\n0\r\n\r\n",
        get("Transfer-Encoding:chunked\r\nExpect: 100-Continue\r\n") + "0;\r\nX-A: b\r\nEtag: c\r\n\r\n",
        "POST http://a.test:80/x?y HTTP/1.0\r\n\r\n".to_owned(),
        "OPTIONS * HTTP/1.1\r\n\r\n".to_owned(),
        "\r\nGET / HTTP/1.1\r\n\r\n".to_owned(),
    ];
    assert_eq!(whole(&messages.concat()), messages);
}

#[test]
fn request_lines_have_one_form() {
    for (line, expected) in [
        ("GET /x", Fault::RequestLine),
        ("GET", Fault::RequestLine),
        ("GET /x HTTP/1.1 ", Fault::RequestLine),
        ("GET /x http/1.1", Fault::RequestLine),
        ("GET /x HTTP/1.10", Fault::RequestLine),
        ("GET /x\tHTTP/1.1", Fault::RequestLine),
        ("GET\t/x HTTP/1.1", Fault::RequestLine),
        ("GET  /x HTTP/1.1", Fault::RequestLine),
        ("GET /x  HTTP/1.1", Fault::RequestLine),
        (" GET /x HTTP/1.1", Fault::RequestLine),
        ("GET HTTP/1.1", Fault::RequestLine),
        (" HTTP/1.1", Fault::RequestLine),
        ("GET  HTTP/1.1", Fault::RequestLine),
        ("GET /x FTP/1.1", Fault::RequestLine),
        ("\r\n\r\nGET /x HTTP/1.1", Fault::RequestLine),
        ("\nGET /x HTTP/1.1", Fault::LineEnd),
        ("GET /x HTTP/0.9", Fault::Version),
        ("GET /x HTTP/1.2", Fault::Version),
        ("GET /x HTTP/2.0", Fault::Version),
        ("PRI * HTTP/2.0", Fault::Version),
    ] {
        assert_eq!(fault(format!("{line}\r\nHost: a\r\n\r\n")), Some(expected), "{line:?}");
    }
    let method = "M".repeat(METHOD_MAX);
    assert_eq!(fault(format!("{method} /x HTTP/1.1\r\n\r\n")), None);
    assert_eq!(fault(format!("{method}M /x HTTP/1.1\r\n\r\n")), Some(Fault::Method));
    let target = "a".repeat(LIMITS.target_bytes - 1);
    assert_eq!(fault(format!("GET /{target} HTTP/1.1\r\n\r\n")), None);
    assert_eq!(fault(format!("GET /{target}a HTTP/1.1\r\n\r\n")), Some(Fault::TargetTooLong));
    assert_eq!(fault(format!("GET http://a/{target} HTTP/1.1\r\n\r\n")), None);
    assert_eq!(
        fault("G".repeat(1000)),
        Some(Fault::TargetTooLong),
        "a line without an end is not kept for ever"
    );
}

#[test]
fn lengths_are_one_plain_number() {
    for value in [
        "",
        "+5",
        "-5",
        "5,5",
        "5, 5",
        "0x5",
        "5 5",
        "5;",
        "\"5\"",
        "5.0",
        "５",
        "1234567890123456789",
        "\x0b5",
        "5\0",
        "\r5",
    ] {
        assert_eq!(
            fault(get(&format!("Content-Length: {value}\r\n"))),
            Some(Fault::ContentLength),
            "{value:?}"
        );
    }
    for lines in
        ["Content-Length: 5\r\nContent-Length: 5\r\n", "Content-Length: 5\r\nA: b\r\ncontent-length: 6\r\n"]
    {
        assert_eq!(fault(get(lines)), Some(Fault::ContentLength), "{lines:?}");
    }
    assert_eq!(fault(get("Content_Length: 5\r\n")), Some(Fault::ContentLength));
    assert_eq!(fault(get("Content-Length: 999999999999999999\r\n")), None);
    assert_eq!(whole(&(get("Content-Lengthy: 5\r\n") + &get("X-Content-Length: 5\r\n"))).len(), 2);
}

#[test]
fn the_only_transfer_coding_is_one_chunked_of_http_1_1() {
    for value in [
        "",
        "identity",
        "gzip",
        "gzip, chunked",
        "chunked, chunked",
        "chunked,",
        ",chunked",
        "chunked;q=1",
        "\"chunked\"",
        "xchunked",
        "chunkedx",
        "chun ked",
        "chunked\0",
        "\x0bchunked",
        "chunked\x0b",
        "chunked\x7f",
        "\u{a0}chunked",
        "cow",
    ] {
        assert_eq!(
            fault(get(&format!("Transfer-Encoding: {value}\r\n"))),
            Some(Fault::TransferEncoding),
            "{value:?}"
        );
    }
    let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n";
    assert_eq!(fault(get(twice)), Some(Fault::TransferEncoding));
    assert_eq!(fault(get("Transfer_Encoding: chunked\r\n")), Some(Fault::TransferEncoding));
    let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(fault(old), Some(Fault::TransferEncoding));
    for both in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
    ] {
        assert_eq!(fault(get(both)), Some(Fault::TwoFramings), "{both:?}");
    }
}

#[test]
fn lines_end_in_crlf_and_are_not_folded() {
    for stream in [
        "GET /x HTTP/1.1\nHost: a\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: a\n\r\n",
        "GET /x HTTP/1.1\r\nHost: a\r\n\n",
        "GET /x HTTP/1.1\r\nA: b\n\nGET /y HTTP/1.1\r\n\r\n",
        "\n",
    ] {
        assert_eq!(fault(stream), Some(Fault::LineEnd), "{stream:?}");
    }
    for fields in ["A: b\r\n c\r\n", "A: b\r\n\tc\r\n", " A: b\r\n", "A: b\r\n \r\n"] {
        assert_eq!(fault(get(fields)), Some(Fault::Fold), "{fields:?}");
    }
    assert_eq!(fault("GET /x HTTP/1.1\r\n Host: a\r\n\r\n"), Some(Fault::Fold));
}

#[test]
fn the_only_expectation_is_to_be_told_to_go_on() {
    for value in ["", "100-continued", "200-ok", "100-continue, x", "y 100-continue", "100-continue;a"] {
        assert_eq!(fault(get(&format!("Expect: {value}\r\n"))), Some(Fault::Expectation), "{value:?}");
    }
    assert_eq!(fault(get("Expect: 100-continue\r\nExpect: 100-CONTINUE\r\n")), None);
}

#[test]
fn heads_are_bounded_in_bytes_and_lines_also_before_they_end() {
    let most = get(&"A: b\r\n".repeat(LIMITS.fields - 1));
    assert_eq!(fault(&most), None);
    assert_eq!(fault(get(&"A: b\r\n".repeat(LIMITS.fields))), Some(Fault::FieldsTooLarge));
    let field = |length: usize| format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(length - 5));
    assert_eq!(fault(field(LIMITS.field_bytes)), None);
    assert_eq!(fault(field(LIMITS.field_bytes + 1)), Some(Fault::FieldsTooLarge));
    assert_eq!(fault(format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(400))), Some(Fault::FieldsTooLarge));
}

#[test]
fn chunks_are_exact() {
    let body = |chunks: &str| get("Transfer-Encoding: chunked\r\n") + chunks;
    for chunks in [
        "\r\n",
        ";\r\n",
        " 5\r\n",
        "5 \r\n",
        "5\t;a\r\n",
        "+5\r\n",
        "-1\r\n",
        "0x5\r\n",
        "5h\r\n",
        "g\r\n",
        "5\n",
        "5\rX",
        "5\r\r\n",
        "5;a\n",
        "5;a\rb\r\n",
        "5;\0\r\n",
        "5;\x7f\r\n",
        "5;\u{e9}\r\n",
        "00000000000000005\r\n",
        "10000000000000000\r\n",
        "5\r\nhelloX",
        "5\r\nhello\n",
        "5\r\nhello\rX",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhell\r\n0\r\n",
        "0\n\r\n",
    ] {
        assert_eq!(fault(body(chunks)), Some(Fault::Chunk), "{chunks:?}");
    }
    let extension = |length: usize| format!("5;{}\r\nhello\r\n", "a".repeat(length));
    assert_eq!(fault(body(&extension(256))), None);
    assert_eq!(fault(body(&extension(257))), Some(Fault::Chunk));
    assert_eq!(fault(body(&extension(256).repeat(16))), None);
    assert_eq!(fault(body(&extension(256).repeat(17))), Some(Fault::Chunk));
    assert_eq!(fault(body("ffffffffffffffff\r\nmuch")), None);
}

#[test]
fn trailers_are_bounded_and_change_nothing_that_the_head_decided() {
    let body = |trailers: &str| get("Transfer-Encoding: chunked\r\n") + "0\r\n" + trailers;
    for trailers in [
        "Content-Length: 5\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n",
        "Content_Length: 5\r\n\r\n",
        "Host: b\r\n\r\n",
        " A: b\r\n\r\n",
        "A: b\r\n c\r\n\r\n",
    ] {
        assert_eq!(fault(body(trailers)), Some(Fault::Trailer), "{trailers:?}");
    }
    assert_eq!(fault(body("A: b\n\r\n")), Some(Fault::LineEnd));
    assert_eq!(fault(body("\n")), Some(Fault::LineEnd));
    assert_eq!(fault(body(&"A: b\r\n".repeat(LIMITS.fields + 1))), None);
    assert_eq!(fault(body(&"A: b\r\n".repeat(LIMITS.fields + 2))), Some(Fault::Trailer));
    assert_eq!(fault(body(&"a".repeat(LIMITS.field_bytes + 1))), Some(Fault::Trailer));
    // None of them is passed on before all are known.
    let (messages, _) = read(body("A: b\r\n").as_bytes(), &[]);
    assert!(messages[0].ends_with(b"\r\n0\r\n"));
}

#[test]
fn nothing_of_a_head_is_passed_on_before_its_end() {
    let mut framing = Framing::new(LIMITS);
    let head = get("Content-Length: 3\r\n");
    let incomplete = framing.take(&head.as_bytes()[..head.len() - 1]).unwrap();
    assert_eq!(incomplete, Taken { length: 0, wants_more: true });
    let complete = framing.take((head + "ab").as_bytes()).unwrap();
    assert!(!complete.wants_more && !framing.is_between());
    let rest = framing.take(b"cGET ").unwrap();
    assert_eq!((rest, framing.is_between()), (Taken { length: 1, wants_more: false }, true));
    assert_eq!(framing.messages(), 1);
}

/// Pieces of which streams are made that are now and then right.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "GET /x HTTP/1.1\r\n", "POST /y HTTP/1.1\r\n", "Host: a\r\n", "\r\n", "\r\n", "Content-Length: 5\r\n",
            "Content-Length: 0\r\n", "Transfer-Encoding: chunked\r\n", "hello", "5\r\nhello\r\n", "0\r\n\r\n", "5\r\n", "0\r\n",
            "a;b=c\r\n0123456789\r\n", "A: b\r\n", "Expect: 100-continue\r\n", "Connection: Upgrade\r\nUpgrade: x\r\n",
        ]).prop_map(str::to_owned),
        1 => prop::sample::select(vec![
            "\n", "\r", " ", "\t", "\0", ":", ";", ",", "HTTP/1.0", "chunked", "Content-Length: 5, 5\r\n", " folded\r\n",
            "Content-Length : 5\r\n", "Transfer-Encoding: xchunked\r\n", "GET /z\r\n", "Transfer-Encoding:\r\n chunked\r\n",
        ]).prop_map(str::to_owned),
    ];
    let valid = prop::sample::select(vec![
        get(""),
        get("Content-Length: 5\r\n") + "hello",
        get("Content-Length: 40\r\n") + "GET /smuggled HTTP/1.1\r\nHost: b\r\n\r\n12345",
        get("Transfer-Encoding: chunked\r\n") + "5\r\nhello\r\n0\r\n\r\n",
        get("Transfer-Encoding: chunked\r\n") + "1a;x\r\nGET /smuggled HTTP/1.1\r\n\r\n\r\n0\r\nA: b\r\n\r\n",
    ]);
    let message = prop_oneof![
        3 => valid,
        1 => prop::collection::vec(piece, 1..12).prop_map(|pieces| pieces.concat()),
    ];
    let messages = prop::collection::vec(message, 1..5).prop_map(|messages| messages.concat().into_bytes());
    let byte = prop::sample::select(b"\r\n \t\0:;,0159afGH/.-_c\x0b\x7f\xff".to_vec());
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0..3_u8, byte), 0..3);
    (messages, edits).prop_map(|(mut stream, edits)| {
        for (at, edit, byte) in edits {
            let at = if stream.is_empty() { continue } else { at.index(stream.len()) };
            match edit {
                0 => stream[at] = byte,
                1 => stream.insert(at, byte),
                _ => drop(stream.remove(at)),
            }
        }
        stream
    })
}

/// The messages that are whole, and why there are no more.
fn messages(stream: &[u8], splits: &[usize]) -> (Vec<Vec<u8>>, Option<Fault>) {
    let (mut messages, fault) = read(stream, splits);
    // Of one that is refused, what came before may have been passed on.
    messages.pop();
    (messages, fault)
}

/// Whether a fault may be found before or after another, by where the stream is split.
fn is_of_size(fault: Option<Fault>) -> bool {
    matches!(fault, Some(Fault::FieldsTooLarge | Fault::TargetTooLong | Fault::Trailer))
}

/// The length of the body behind `head` by a reader that knows nothing of [`Framing`]: what hyper would read.
fn body_length(head: &httparse::Request<'_, '_>, body: &[u8]) -> usize {
    let field = |name: &str| head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
    if field("transfer-encoding").is_none() {
        let stated = field("content-length").map(|field| std::str::from_utf8(field.value).unwrap());
        return stated.map_or(0, |stated| stated.parse().unwrap());
    }
    let mut at = 0;
    loop {
        let httparse::Status::Complete((line, size)) = httparse::parse_chunk_size(&body[at..]).unwrap()
        else {
            panic!("an incomplete chunk in {}", body.escape_ascii());
        };
        at += line;
        if size == 0 {
            break;
        }
        at += usize::try_from(size).unwrap();
        assert_eq!(&body[at..at + 2], b"\r\n");
        at += 2;
    }
    let mut fields = [httparse::EMPTY_HEADER; 16];
    match httparse::parse_headers(&body[at..], &mut fields) {
        Ok(httparse::Status::Complete((trailers, _))) => at + trailers,
        // hyper fails such a body.
        Err(_) => body.len(),
        Ok(httparse::Status::Partial) => panic!("incomplete trailers in {}", body.escape_ascii()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn splits_make_no_difference(stream in stream(), mut splits in prop::collection::vec(0..300_usize, 0..20)) {
        splits.sort_unstable();
        let (at_once, why) = messages(&stream, &[]);
        for splits in [splits, (0..stream.len()).collect()] {
            let (split, why_split) = messages(&stream, &splits);
            prop_assert_eq!(&split, &at_once);
            prop_assert_eq!(why_split.is_some(), why.is_some());
            prop_assert!(why_split == why || is_of_size(why_split) || is_of_size(why));
        }
    }

    #[test]
    fn what_is_one_message_here_is_one_to_another_reader(stream in stream()) {
        for message in messages(&stream, &[]).0 {
            let mut fields = [httparse::EMPTY_HEADER; 16];
            let mut head = httparse::Request::new(&mut fields);
            // What it refuses is answered as `Malformed`, with nothing read behind it.
            let Ok(parsed) = head.parse(&message) else { continue };
            let httparse::Status::Complete(length) = parsed else {
                panic!("an incomplete head was passed on: {}", message.escape_ascii());
            };
            let body = body_length(&head, &message[length..]);
            prop_assert_eq!(length + body, message.len(), "{}", message.escape_ascii());
        }
    }
}
