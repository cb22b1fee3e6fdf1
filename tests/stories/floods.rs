//! Clients that use what HTTP/2 lets them send to keep a node busy. Each is told to calm down and closed, after a bounded
//! amount of work, and nobody else notices.

use crate::common::frames::{
    CANCEL, COMPRESSION_ERROR, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM,
    FRAME_SIZE_ERROR, Frame, Frames, HEADERS, PING, PREFACE, PROTOCOL_ERROR, REFUSED_STREAM, RST_STREAM,
    SETTINGS, STREAM_CLOSED, WINDOW_UPDATE, cancel, fields, frame, get,
};
use crate::common::origin::Exchange;
use crate::common::{Node, Origin, content, reply, until};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const FRESH: &str = "Cache-Control: max-age=60";
/// A client broke the protocol in a way that concerns the whole connection (RFC 9113 §5.4.1).
const BREACHES: [u32; 4] = [PROTOCOL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR, COMPRESSION_ERROR];
/// The next stream of a client.
const fn stream(nth: u32) -> u32 {
    nth * 2 + 1
}

/// A node with a hit at `/x`, and with `/held`, whose requests are passed to an origin that never answers.
struct Stage {
    origin: Origin,
    node: Node,
    /// Requests for `/held` whose client is gone.
    given_up: Arc<AtomicUsize>,
}

impl Stage {
    async fn new(more: &str) -> Self {
        let origin = Origin::start().await;
        origin.says("/x", reply(200, &[FRESH], "body"));
        let given_up = Arc::new(AtomicUsize::new(0));
        let gone = Arc::clone(&given_up);
        origin.script("/held", move |mut exchange: Exchange| {
            let gone = Arc::clone(&gone);
            async move {
                exchange.read_some().await;
                gone.fetch_add(1, Ordering::Relaxed);
                exchange.close();
                exchange
            }
        });
        let pass = format!("connections_max = 1000\n[[site.rules]]\npath = \"/held\"\npass = true\n{more}");
        let node = Node::with(&origin, &pass).await;
        node.warm("/x").await;
        Self { origin, node, given_up }
    }

    async fn connect(&self) -> Frames {
        Frames::connect(self.node.doors[0]).await
    }

    fn held(&self) -> usize {
        self.origin.count("/held")
    }

    fn floods(&self, kind: &str) -> f64 {
        self.node.metric(&format!("shoal_http2_floods_total{{kind=\"{kind}\"}}"))
    }

    /// Others are served as ever, on connections that are open and on new ones.
    async fn assert_unharmed(&self, other: &mut Frames, nth: u32) {
        other.send(get(stream(nth), "/x")).await;
        other.assert_is_ok(stream(nth)).await;
        self.node.get("/x").await.assert_hit();
    }

    /// The client is told to calm down, and what was begun for it is given up.
    async fn assert_calmed(&self, client: &Frames) {
        assert_eq!(client.goaway().await.0, ENHANCE_YOUR_CALM);
        until("what was begun to be given up", || self.given_up.load(Ordering::Relaxed) == self.held()).await;
    }
}

#[tokio::test]
async fn rapid_reset_in_one_flight_is_cut_before_its_requests_reach_the_origin() {
    let stage = Stage::new("").await;
    let (mut client, mut other) = (stage.connect().await, stage.connect().await);
    let flight: Vec<u8> =
        (0..5000).flat_map(|nth| [get(stream(nth), "/held"), cancel(stream(nth))].concat()).collect();
    client.send(flight).await;
    stage.assert_unharmed(&mut other, 0).await;
    stage.assert_calmed(&client).await;
    assert!(stage.held() <= 200, "{} requests", stage.held());
    assert_eq!(stage.floods("resets") + stage.floods("broken"), 1.0);
    stage.assert_unharmed(&mut other, 1).await;
}

#[tokio::test]
async fn rapid_reset_of_requests_in_progress_is_cut_and_each_is_given_up() {
    let stage = Stage::new("").await;
    let (mut client, mut other) = (stage.connect().await, stage.connect().await);
    let mut sent = 0;
    while !client.is_closed() && sent < 1000 {
        client.send(get(stream(sent), "/held")).await;
        until("the request, or the end", || stage.held() > sent as usize || client.is_closed()).await;
        client.send(cancel(stream(sent))).await;
        sent += 1;
    }
    stage.assert_calmed(&client).await;
    // And a few that came back meanwhile.
    assert!((200..=400).contains(&stage.held()), "{} requests", stage.held());
    assert_eq!(stage.floods("resets"), 1.0);
    stage.assert_unharmed(&mut other, 0).await;
}

#[tokio::test]
async fn a_browser_that_leaves_a_page_full_of_pictures_is_not_cut() {
    let stage = Stage::new("").await;
    let mut client = stage.connect().await;
    for nth in 0..100 {
        client.send(get(stream(nth), "/held")).await;
    }
    until("all requests", || stage.held() == 100).await;
    client.send((0..100).flat_map(|nth| cancel(stream(nth))).collect::<Vec<_>>()).await;
    until("all to be given up", || stage.given_up.load(Ordering::Relaxed) == 100).await;
    client.send(get(stream(100), "/x")).await;
    client.assert_is_ok(stream(100)).await;
}

#[tokio::test]
async fn made_you_reset_by_windows_that_overflow_is_cut() {
    // The same, but the client has the node reset its streams (CVE-2025-8671).
    let stage = Stage::new("").await;
    let (mut client, mut other) = (stage.connect().await, stage.connect().await);
    let mut sent = 0;
    while !client.is_closed() && sent < 1000 {
        client.send(get(stream(sent), "/held")).await;
        until("the request, or the end", || stage.held() > sent as usize || client.is_closed()).await;
        client.send(frame(WINDOW_UPDATE, 0, stream(sent), &[0x7f, 0xff, 0xff, 0xff])).await;
        sent += 1;
    }
    stage.assert_calmed(&client).await;
    assert!((100..=110).contains(&stage.held()), "{} requests", stage.held());
    assert_eq!(stage.floods("broken"), 1.0);
    stage.assert_unharmed(&mut other, 0).await;
}

#[tokio::test]
async fn made_you_reset_by_other_breaches_ends_the_connection_at_the_first() {
    for breach in [
        frame(WINDOW_UPDATE, 0, 1, &[0; 4]),
        frame(DATA, 0, 1, b"behind the end"),
        frame(HEADERS, END_STREAM | END_HEADERS, 1, &fields("GET", "/held", &[])),
        frame(2, 0, 1, &[0; 4]),
    ] {
        let stage = Stage::new("").await;
        let (mut client, mut other) = (stage.connect().await, stage.connect().await);
        client.send(get(1, "/held")).await;
        until("the request", || stage.held() == 1).await;
        client.send(&breach).await;
        let (code, _) = client.goaway().await;
        assert!(BREACHES.contains(&code), "{code} {breach:?}");
        until("it to be given up", || stage.given_up.load(Ordering::Relaxed) == 1).await;
        stage.assert_unharmed(&mut other, 0).await;
    }
}

/// A client that repeats a frame, behind the beginning of an upload.
async fn repeats(kind: &str, repeated: &[u8]) {
    let stage = Stage::new("").await;
    let (mut client, mut other) = (stage.connect().await, stage.connect().await);
    client.send(frame(HEADERS, END_HEADERS, 1, &fields("POST", "/held", &[]))).await;
    client.send(repeated.repeat(5000)).await;
    stage.assert_unharmed(&mut other, 0).await;
    stage.assert_calmed(&client).await;
    assert_eq!(stage.floods(kind), 1.0);
    assert!(stage.held() <= 1);
    stage.assert_unharmed(&mut other, 1).await;
}

#[tokio::test]
async fn a_flood_of_pings_is_cut() {
    repeats("pings", &frame(PING, 0, 0, b"pingpong")).await;
}

#[tokio::test]
async fn a_flood_of_settings_is_cut() {
    repeats("settings", &frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff])).await;
}

#[tokio::test]
async fn a_flood_of_empty_data_is_cut() {
    repeats("empty_data", &frame(DATA, 0, 1, &[])).await;
}

#[tokio::test]
async fn a_flood_of_priorities_is_cut() {
    repeats("ignored", &frame(2, 0, 7, &[0, 0, 0, 3, 16])).await;
}

#[tokio::test]
async fn a_flood_of_frames_of_no_known_kind_is_cut() {
    repeats("ignored", &frame(0xbe, 0, 0, b"what")).await;
}

#[tokio::test]
async fn a_flood_of_window_updates_is_cut() {
    repeats("window_updates", &frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])).await;
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut() {
    for payload in [&b""[..], &fields("GET", "/held", &[])] {
        let stage = Stage::new("").await;
        let (mut client, mut other) = (stage.connect().await, stage.connect().await);
        client.send(frame(HEADERS, END_STREAM, 1, &fields("GET", "/held", &[]))).await;
        client.send(frame(CONTINUATION, 0, 1, payload).repeat(2000)).await;
        stage.assert_unharmed(&mut other, 0).await;
        stage.assert_calmed(&client).await;
        assert_eq!((stage.held(), stage.floods("continuations") + stage.floods("broken")), (0, 1.0));
    }
}

#[tokio::test]
async fn fields_that_unpack_to_megabytes_are_not_kept() {
    // A field of 3000 bytes is remembered, and then said by one byte each: 60 kB and 30 MB.
    for (times, goes_on) in [(20, true), (10_000, false)] {
        let stage = Stage::new("").await;
        let (mut client, mut other) = (stage.connect().await, stage.connect().await);
        let mut bomb = fields("GET", "/held", &[]);
        bomb.extend_from_slice(b"\x40\x01a\x7f\xb9\x16");
        bomb.extend_from_slice(&[b'v'; 3000]);
        bomb.extend_from_slice(&vec![0xbe; times]);
        client.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &bomb)).await;
        if goes_on {
            assert_ne!(client.whole(1).await[0].payload[0], 0x88, "431");
            client.send(get(3, "/x")).await;
            client.assert_is_ok(3).await;
        } else {
            let (code, _) = client.goaway().await;
            assert!([COMPRESSION_ERROR, ENHANCE_YOUR_CALM].contains(&code), "{code}");
        }
        stage.assert_unharmed(&mut other, 0).await;
        assert_eq!(stage.held(), 0);
    }
}

/// Beyond what this node answers itself it is h2 that refuses a head; if it closes the connection, that is counted.
#[tokio::test]
async fn a_head_that_is_far_too_large_and_goes_on_is_cut_and_counted() {
    // More than is looked at, by a field of 3000 bytes that is said again by one byte each; then one of 100,000.
    let unpacks = [&b"\x40\x01a\x7f\xb9\x16"[..], &[b'v'; 3000], &[0xbe; 25]].concat();
    let goes_on = b"\x00\x01b\x7f\xa1\x8c\x06";
    // And many small ones.
    let many = [&b"\x00\x03x-b\x64"[..], &[b'v'; 100]].concat().repeat(110);
    for (more, rest, refused, calmed) in
        [([&unpacks[..], goes_on].concat(), vec![b'v'; 16_384], 1.0, 0.0), (many.clone(), many, 0.0, 1.0)]
    {
        let stage = Stage::new("").await;
        let (mut client, mut other) = (stage.connect().await, stage.connect().await);
        client.send(frame(HEADERS, END_STREAM, 1, &fields("GET", "/held", &[]))).await;
        client.send(frame(CONTINUATION, 0, 1, &more)).await;
        for _ in 0..9 {
            client.send(frame(CONTINUATION, 0, 1, &rest)).await;
        }
        stage.assert_unharmed(&mut other, 0).await;
        let (code, _) = client.goaway().await;
        assert_eq!(code, if refused > 0.0 { COMPRESSION_ERROR } else { ENHANCE_YOUR_CALM });
        let counted = stage.node.metric("shoal_requests_refused_total{reason=\"fields_too_large\"}");
        assert_eq!((stage.held(), counted, stage.floods("broken")), (0, refused, calmed));
    }
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused_and_in_the_end_cut() {
    let stage = Stage::new("[limits]\nhttp2_streams = 10").await;
    let (mut client, mut other) = (stage.connect().await, stage.connect().await);
    for nth in 0..20 {
        client.send(get(stream(nth), "/held")).await;
    }
    until("those that are allowed", || stage.held() == 10).await;
    assert_eq!(client.reset(stream(10)).await, REFUSED_STREAM);
    client.assert_goes_on().await;
    client.send((20..2000).flat_map(|nth| get(stream(nth), "/held")).collect::<Vec<_>>()).await;
    stage.assert_unharmed(&mut other, 0).await;
    stage.assert_calmed(&client).await;
    assert_eq!((stage.held(), stage.floods("broken")), (10, 1.0));
}

#[tokio::test]
async fn streams_whose_connection_window_stays_shut_are_reset_and_the_connection_goes_on() {
    let stage = Stage::new("[limits]\nidle_timeout = \"100ms\"").await;
    let large = content(300_000);
    stage.origin.says("/large", reply(200, &[FRESH], &large));
    stage.node.warm("/large").await;
    // Each stream has room for all; the connection has room for 65,535 bytes.
    let mut client = Frames::with(stage.node.doors[0], &[0, 4, 0, 0x10, 0, 0]).await;
    for nth in 0..3 {
        client.send(get(stream(nth), "/large")).await;
    }
    for nth in 0..3 {
        assert_eq!(client.reset(stream(nth)).await, CANCEL);
    }
    client.assert_goes_on().await;
    // What was not sent to those that were reset is not lost to others.
    client.send(frame(WINDOW_UPDATE, 0, 0, &[0, 0x10, 0, 0])).await;
    client.send(get(stream(3), "/large")).await;
    let whole = client.whole(stream(3)).await;
    let body: Vec<u8> = whole[1..].iter().flat_map(|frame| frame.payload.clone()).collect();
    crate::common::assert_same(&body, &large);
}

#[tokio::test]
async fn a_preface_that_does_not_end_in_time_is_closed() {
    let stage = Stage::new("[limits]\nheader_timeout = \"100ms\"").await;
    for part in [1, 10, 23, 24] {
        let mut client = Frames::silent(stage.node.doors[0]).await;
        client.send(&PREFACE[..part]).await;
        client.closed().await;
    }
}

#[tokio::test]
async fn a_head_that_does_not_end_in_time_is_closed_whatever_else_is_in_progress() {
    let stage = Stage::new("[limits]\nheader_timeout = \"200ms\"").await;
    let mut client = stage.connect().await;
    client.send(get(1, "/held")).await;
    until("the request", || stage.held() == 1).await;
    client.send(frame(HEADERS, END_STREAM, 3, b"\x82")).await;
    client.closed().await;
    until("the request to be given up", || stage.given_up.load(Ordering::Relaxed) == 1).await;
}

#[tokio::test]
async fn malformed_requests_are_reset_and_never_reach_the_origin() {
    let stage = Stage::new("").await;
    let mut client = stage.connect().await;
    let malformed: [&[(&str, &str)]; 7] = [
        &[("connection", "x-a")],
        &[("transfer-encoding", "chunked")],
        &[("keep-alive", "1")],
        &[("proxy-connection", "keep-alive")],
        &[("upgrade", "websocket")],
        &[("te", "gzip")],
        &[(":path", "/twice")],
    ];
    for (nth, more) in malformed.iter().enumerate() {
        let stream = stream(nth as u32);
        client.send(frame(HEADERS, END_STREAM | END_HEADERS, stream, &fields("GET", "/held", more))).await;
        assert_eq!(client.reset(stream).await, PROTOCOL_ERROR, "{more:?}");
    }
    assert_eq!(stage.held(), 0);
    for (nth, body) in [(20, "abc"), (21, "abcde")] {
        let head = fields("POST", "/held", &[("content-length", "4")]);
        client.send(frame(HEADERS, END_HEADERS, stream(nth), &head)).await;
        client.send(frame(DATA, END_STREAM, stream(nth), body.as_bytes())).await;
        assert_eq!(client.reset(stream(nth)).await, PROTOCOL_ERROR, "{body}");
    }
    client.assert_goes_on().await;
    until("all to be given up", || stage.given_up.load(Ordering::Relaxed) == stage.held()).await;
    assert!(stage.held() <= 2, "only those whose heads were in order");
}

#[tokio::test]
async fn a_name_that_is_none_ends_the_connection() {
    let stage = Stage::new("").await;
    let mut client = stage.connect().await;
    let head = fields("GET", "/held", &[("X-Upper", "case")]);
    client.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &head)).await;
    let (code, _) = client.goaway().await;
    assert!(BREACHES.contains(&code), "{code}");
    assert_eq!(stage.held(), 0);
}

#[tokio::test]
async fn a_tunnel_is_refused_with_a_typed_answer() {
    let stage = Stage::new("").await;
    let mut client = stage.connect().await;
    let head = b"\x00\x07:method\x07CONNECT\x00\x0a:authority\x0csite.test:80";
    client.send(frame(HEADERS, END_HEADERS, 1, head)).await;
    let answer = client.whole(1).await;
    assert_ne!(answer[0].payload[0], 0x88);
    assert!(String::from_utf8_lossy(&answer[1].payload).contains("request "), "{answer:?}");
    client.assert_goes_on().await;
}

#[tokio::test]
async fn a_reset_of_ours_for_a_broken_origin_is_not_held_against_the_client() {
    let stage = Stage::new("").await;
    stage.origin.script("/broken", |mut exchange| async move {
        exchange
            .send(crate::common::origin::head(200, &["Cache-Control: no-store", "Content-Length: 9"]))
            .await;
        exchange.send("cut").await;
        exchange.close();
        exchange
    });
    let mut client = stage.connect().await;
    for nth in 0..120 {
        client.send(get(stream(nth), "/broken")).await;
        client.reset(stream(nth)).await;
    }
    client.assert_goes_on().await;
    let resets =
        client.find("resets", |frames| Some(frames.iter().filter(|f| f.kind == RST_STREAM).count())).await;
    assert_eq!(resets, 120);
}

#[tokio::test]
async fn the_answer_to_a_head_has_no_body_even_if_it_failed() {
    let stage = Stage::new("").await;
    let mut client = stage.connect().await;
    for (nth, target) in [(0, "/x"), (1, "/%zz")] {
        let head = fields("HEAD", target, &[]);
        client.send(frame(HEADERS, END_STREAM | END_HEADERS, stream(nth), &head)).await;
        assert_eq!(client.whole(stream(nth)).await.len(), 1, "{target}");
    }
}

#[tokio::test]
async fn a_client_that_waits_with_its_body_is_told_to_go_on() {
    let stage = Stage::new("").await;
    stage.origin.script("/echo", |mut exchange| async move {
        let body = exchange.body().await;
        exchange.send(reply(200, &[], body)).await;
        exchange
    });
    let mut client = stage.connect().await;
    let head = fields("POST", "/echo", &[("expect", "100-continue"), ("content-length", "4")]);
    client.send(frame(HEADERS, END_HEADERS, 1, &head)).await;
    let told = |frames: &[Frame]| frames.iter().find(|frame| frame.stream == 1).cloned();
    assert_eq!(client.find("100", told).await.flags & END_STREAM, 0);
    client.send(frame(DATA, END_STREAM, 1, b"body")).await;
    let whole = client.whole(1).await;
    assert_eq!((whole.len(), &whole[2].payload[..]), (3, &b"body"[..]));
}

#[tokio::test]
async fn uploads_that_are_refused_end_alone_whatever_of_them_is_still_on_its_way() {
    let stage = Stage::new("[limits]\nbody_bytes = \"1KiB\"").await;
    let mut client = stage.connect().await;
    client.send(get(stream(0), "/held")).await;
    until("the request", || stage.held() == 1).await;
    // Twice as many as may be open at once, refused for their announced length, and data or trailers behind all of them.
    for round in 0..2 {
        let uploads = || (1..100).map(|nth| stream(round * 99 + nth));
        for id in uploads() {
            let head = fields("POST", "/x", &[("content-length", "5000")]);
            client.send(frame(HEADERS, END_HEADERS, id, &head)).await;
        }
        for id in uploads() {
            client.whole(id).await;
        }
        let late = |id| match id % 4 {
            1 => frame(DATA, 0, id, &[b'x'; 100]).repeat(3),
            _ => frame(HEADERS, END_STREAM | END_HEADERS, id, b"\0\x03x-t\x01v"),
        };
        client.send(uploads().flat_map(late).collect::<Vec<_>>()).await;
        client.assert_goes_on().await;
    }
    client.send(get(stream(200), "/x")).await;
    client.assert_is_ok(stream(200)).await;
    assert_eq!((stage.given_up.load(Ordering::Relaxed), stage.floods("broken")), (0, 0.0));
}

#[tokio::test]
async fn a_connection_that_is_closed_for_waiting_is_told_which_requests_were_served() {
    const NO_ERROR: u32 = 0;
    let stage = Stage::new("[limits]\nkeepalive_timeout = \"150ms\"").await;
    let mut client = stage.connect().await;
    client.send(get(1, "/x")).await;
    client.assert_is_ok(1).await;
    assert_eq!(client.goaway().await, (NO_ERROR, 1), "idle");

    let stage = Stage::new("[limits]\nheader_timeout = \"150ms\"").await;
    assert_eq!(stage.connect().await.goaway().await, (NO_ERROR, 0), "no first request");

    let stage = Stage::new("[limits]\nconnections = 1").await;
    let mut client = stage.connect().await;
    client.send(get(1, "/x")).await;
    client.assert_is_ok(1).await;
    stage.node.get("/x").await.assert_hit();
    assert_eq!(client.goaway().await, (NO_ERROR, 1), "shed");
}

#[tokio::test]
async fn a_get_whose_end_comes_in_a_frame_of_its_own_has_no_body() {
    let stage = Stage::new("").await;
    let asked = stage.origin.count("/x");
    let mut client = stage.connect().await;
    let head = frame(HEADERS, END_HEADERS, 1, &fields("GET", "/x", &[]));
    client.send([head, frame(DATA, END_STREAM, 1, b"")].concat()).await;
    client.assert_is_ok(1).await;
    assert_eq!(stage.origin.count("/x"), asked, "from the store");
}
