//! Requests hidden in requests, and answers in answers: each known attack on framing, byte for byte. What is expected is
//! always the same: a good request before it is answered, the attack is refused by its name and closes the connection,
//! and what hides in it is neither answered nor sent to the origin.

use crate::common::client::request;
use crate::common::origin::{chunk, head};
use crate::common::{Barrier, Node, Origin, in_time, reply, turns, until};

const FRESH: &str = "Cache-Control: max-age=60";
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: site.test\r\n\r\n";
const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

/// An attack: its name, its bytes, and the status and reason of the refusal.
type Attack<'a> = (&'a str, String, u16, &'a str);

fn post(fields: &str, body: &str) -> String {
    format!("POST /x HTTP/1.1\r\nHost: site.test\r\n{fields}\r\n{body}")
}

fn get(fields: &str) -> String {
    format!("GET /x HTTP/1.1\r\nHost: site.test\r\n{fields}\r\n")
}

fn line(line: &str) -> String {
    format!("{line}\r\nHost: site.test\r\n\r\n")
}

async fn before_an_echo(more: &str) -> (Origin, Node) {
    let origin = Origin::start().await;
    origin.says("/good", reply(200, &[FRESH], "good"));
    origin.says("/hidden", reply(200, &[FRESH], "hidden"));
    origin.script("/x", |mut exchange| async move {
        let body = exchange.body().await;
        exchange.send(reply(200, &["Cache-Control: no-store"], body)).await;
        exchange
    });
    let node = Node::with(&origin, more).await;
    node.warm("/good").await.assert_is(200, "good");
    (origin, node)
}

/// Sends each attack behind a good request and before a hidden one, at once.
async fn are_refused(attacks: impl IntoIterator<Item = Attack<'_>>) {
    let (origin, node) = before_an_echo("").await;
    for (name, bytes, status, reason) in attacks {
        println!("{name}: {bytes:?}");
        let counter = format!("shoal_requests_refused_total{{reason=\"{reason}\"}}");
        let counted = node.metric(&counter);
        let mut client = node.connect().await;
        let good = String::from_utf8(request("GET", "/good", &[])).unwrap();
        client.send_anyway(format!("{good}{bytes}{HIDDEN}")).await;
        client.reply("GET").await.assert_is(200, "good");
        client.refused(status, reason).await;
        assert_eq!(origin.count_all(), 1, "the origin was asked");
        assert_eq!(node.metric(&counter), counted + 1.0);
    }
}

#[tokio::test]
async fn cl_te_and_te_cl_are_refused_in_either_order() {
    let body = "0\r\n\r\n";
    are_refused([
        ("CL.TE", post(&format!("Content-Length: 47\r\n{CHUNKED}"), body), 400, "two_framings"),
        ("TE.CL", post(&format!("{CHUNKED}Content-Length: 4\r\n"), body), 400, "two_framings"),
        ("TE.0", post(&format!("{CHUNKED}Content-Length: 0\r\n"), body), 400, "two_framings"),
        ("CL.TE of GET", get(&format!("Content-Length: 0\r\n{CHUNKED}")), 400, "two_framings"),
        (
            "CL.TE, the length hidden from Connection",
            post(&format!("Connection: Content-Length\r\nContent-Length: 5\r\n{CHUNKED}"), body),
            400,
            "two_framings",
        ),
    ])
    .await;
}

#[tokio::test]
async fn te_te_is_refused_however_the_second_coding_is_disguised() {
    let reason = "bad_transfer_encoding";
    let coding = |coding: &str| post(&format!("Transfer-Encoding:{coding}\r\n"), "0\r\n\r\n");
    are_refused([
        ("identity", coding(" identity"), 400, reason),
        ("a coding before", coding(" gzip, chunked"), 400, reason),
        ("a coding behind", coding(" chunked, identity"), 400, reason),
        ("twice in a line", coding(" chunked, chunked"), 400, reason),
        ("twice", post(&format!("{CHUNKED}{CHUNKED}"), "0\r\n\r\n"), 400, reason),
        (
            "twice, one unknown",
            post(&format!("{CHUNKED}Transfer-Encoding: cow\r\n"), "0\r\n\r\n"),
            400,
            reason,
        ),
        ("xchunked", coding(" xchunked"), 400, reason),
        ("quoted", coding(" \"chunked\""), 400, reason),
        ("with a parameter", coding(" chunked;q=1"), 400, reason),
        ("an empty member", coding(" ,chunked"), 400, reason),
        ("vertical tab", coding(" \x0bchunked"), 400, reason),
        ("form feed", coding(" chunked\x0c"), 400, reason),
        ("NUL", coding(" chunked\0"), 400, reason),
        ("empty", coding(""), 400, reason),
        ("underscore", post("Transfer_Encoding: chunked\r\n", ""), 400, reason),
        (
            "HTTP/1.0",
            "POST /x HTTP/1.0\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\n\r\n".into(),
            400,
            reason,
        ),
        ("folded", coding("\r\n chunked"), 400, reason),
        ("folded behind", coding(" chunked\r\n , identity"), 400, "folded_line"),
        ("space before the colon", post("Transfer-Encoding : chunked\r\n", ""), 400, "malformed"),
        ("tab before the colon", post("Transfer-Encoding\t: chunked\r\n", ""), 400, "malformed"),
        ("NUL before the colon", post("Transfer-Encoding\0: chunked\r\n", ""), 400, "malformed"),
        ("in a value behind a bare CR", post("X: y\rTransfer-Encoding: chunked\r\n", ""), 400, "malformed"),
        (
            "in a value behind a bare LF",
            post("X: y\nTransfer-Encoding: chunked\r\n", ""),
            400,
            "bad_line_end",
        ),
    ])
    .await;
}

#[tokio::test]
async fn lengths_that_are_no_single_number_are_refused() {
    let reason = "bad_content_length";
    let stated = |value: &str| post(&format!("Content-Length:{value}\r\n"), "");
    let mut attacks = vec![
        ("two", post("Content-Length: 4\r\nContent-Length: 5\r\n", ""), 400, reason),
        ("two alike", post("Content-Length: 4\r\nContent-Length: 4\r\n", ""), 400, reason),
        ("underscore", post("Content_Length: 4\r\n", ""), 400, reason),
        ("space before the colon", post("Content-Length : 4\r\n", ""), 400, "malformed"),
    ];
    for value in
        [" 4, 4", " +4", " -4", " 0x4", " 4a", " 4 4", " \"4\"", "", " 4;", " 99999999999999999999", " \x0b4"]
    {
        attacks.push(("a value", stated(value), 400, reason));
    }
    are_refused(attacks).await;
}

#[tokio::test]
async fn heads_that_readers_cut_in_different_places_are_refused() {
    are_refused([
        (
            "bare LF after the request line",
            "GET /x HTTP/1.1\nHost: site.test\r\n\r\n".into(),
            400,
            "bad_line_end",
        ),
        ("bare LF after a field", get("A: b\n"), 400, "bad_line_end"),
        ("an end in bare LF", "GET /x HTTP/1.1\r\nHost: site.test\r\n\n".into(), 400, "bad_line_end"),
        (
            "bare LF LF",
            format!("GET /x HTTP/1.1\r\nHost: site.test\r\nA: b\n\n{HIDDEN}\r\n"),
            400,
            "bad_line_end",
        ),
        ("bare CR in a value", get("A: b\rc\r\n"), 400, "malformed"),
        ("CR CR LF", get("A: b\r\r\n"), 400, "malformed"),
        ("NUL in a value", get("A: b\0c\r\n"), 400, "malformed"),
        ("another control byte", get("A: b\x01c\r\n"), 400, "malformed"),
        ("DEL", get("A: b\x7fc\r\n"), 400, "malformed"),
        ("a folded line", get("A: b\r\n c\r\n"), 400, "folded_line"),
        ("a line folded by a tab", get("A: b\r\n\tc\r\n"), 400, "folded_line"),
        (
            "whitespace before the first field",
            "GET /x HTTP/1.1\r\n Host: site.test\r\n\r\n".into(),
            400,
            "folded_line",
        ),
        ("space before the colon", get("A : b\r\n"), 400, "malformed"),
        ("no name", get(": b\r\n"), 400, "malformed"),
        ("no colon", get("Ab\r\n"), 400, "malformed"),
        ("a name that is no token", get("A(b: c\r\n"), 400, "malformed"),
        ("a name beyond ASCII", get("A\u{e9}: c\r\n"), 400, "malformed"),
        ("no Host", "GET /x HTTP/1.1\r\n\r\n".into(), 400, "missing_host"),
        ("two Hosts", get("Host: site.test\r\n"), 400, "duplicate_host"),
        ("a Host that is a list", "GET /x HTTP/1.1\r\nHost: site.test, b\r\n\r\n".into(), 400, "bad_host"),
    ])
    .await;
}

#[tokio::test]
async fn request_lines_of_any_other_form_are_refused() {
    let reason = "bad_request_line";
    are_refused([
        ("HTTP/0.9", line("GET /x"), 400, reason),
        ("no target", line("GET HTTP/1.1"), 400, reason),
        ("two spaces", line("GET  /x HTTP/1.1"), 400, reason),
        ("two spaces before the version", line("GET /x  HTTP/1.1"), 400, reason),
        ("a space in the target", line("GET /x y HTTP/1.1"), 400, "malformed"),
        ("a tab", line("GET\t/x\tHTTP/1.1"), 400, reason),
        ("a space behind", line("GET /x HTTP/1.1 "), 400, reason),
        ("a space before", line(" GET /x HTTP/1.1"), 400, reason),
        ("lower case", line("GET /x http/1.1"), 400, reason),
        ("another protocol", line("GET /x FTP/1.1"), 400, reason),
        ("a method that is no token", line("GE(T /x HTTP/1.1"), 400, "malformed"),
        ("an empty method", line(" /x HTTP/1.1"), 400, reason),
        ("two empty lines", format!("\r\n\r\n{}", get("")), 400, reason),
        ("an empty line in bare LF", format!("\n{}", get("")), 400, "bad_line_end"),
        ("NUL in the target", line("GET /x\0y HTTP/1.1"), 400, "malformed"),
        ("HTTP/1.2", line("GET /x HTTP/1.2"), 505, "bad_http_version"),
        ("HTTP/2.0", line("GET /x HTTP/2.0"), 505, "bad_http_version"),
        ("a preface that comes late", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 505, "bad_http_version"),
        ("a method longer than any", line(&format!("{} /x HTTP/1.1", "M".repeat(60))), 501, "method"),
        ("CONNECT", line("CONNECT site.test:443 HTTP/1.1"), 501, "method"),
    ])
    .await;
}

#[tokio::test]
async fn an_empty_line_before_a_request_is_stepped_over() {
    let (_origin, node) = before_an_echo("").await;
    let mut client = node.connect().await;
    let good = String::from_utf8(request("GET", "/good", &[])).unwrap();
    client.send(format!("\r\n{good}\r\n{good}")).await;
    for _ in 0..2 {
        client.reply("GET").await.assert_hit();
    }
}

/// Bodies whose chunks readers take differently, with the rest of the attack behind.
fn chunk_attacks() -> Vec<(&'static str, String, &'static str)> {
    vec![
        ("TERM.EXT: bare LF in an extension (CVE-2025-55315)", "1;a\nb\r\n".to_owned(), "bad_chunk"),
        ("EXT.TERM: bare LF behind a size", format!("1\nx\r\n0\r\n\r\n{HIDDEN}"), "bad_chunk"),
        ("TERM.SPILL: bare LF behind the data", format!("1\r\nx\n0\r\n\r\n{HIDDEN}"), "bad_chunk"),
        ("SPILL.TERM: two bytes for CRLF behind the data", format!("1\r\nxyy0\r\n\r\n{HIDDEN}"), "bad_chunk"),
        ("ONE.TWO: nothing behind the data", "1\r\nx0\r\n\r\n".to_owned(), "bad_chunk"),
        ("a bare CR in an extension", "1;a\rb\r\nx\r\n".to_owned(), "bad_chunk"),
        ("NUL in an extension", "1;\0\r\nx\r\n".to_owned(), "bad_chunk"),
        ("an extension without end", format!("1;{}", "a".repeat(300)), "bad_chunk"),
        ("extensions on and on", format!("1;{}\r\nx\r\n", "a".repeat(250)).repeat(17), "bad_chunk"),
        ("a size beyond 64 bits", "10000000000000001\r\nx\r\n".to_owned(), "bad_chunk"),
        ("a prefix", "0x1\r\nx\r\n".to_owned(), "bad_chunk"),
        ("a sign", "+1\r\nx\r\n".to_owned(), "bad_chunk"),
        ("a negative size", "-1\r\nx\r\n".to_owned(), "bad_chunk"),
        ("a space before the size", " 1\r\nx\r\n".to_owned(), "bad_chunk"),
        ("a space behind the size", "1 \r\nx\r\n".to_owned(), "bad_chunk"),
        ("an underscore", "1_0\r\nx\r\n".to_owned(), "bad_chunk"),
        ("no size", "\r\nx\r\n".to_owned(), "bad_chunk"),
        ("a size in bare CR", "1\rx\r\n".to_owned(), "bad_chunk"),
        ("an end in bare LF", "0\r\n\n".to_owned(), "bad_line_end"),
        ("a length in the trailers", "0\r\nContent-Length: 5\r\n\r\n".to_owned(), "bad_trailer"),
        ("a coding in the trailers", "0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), "bad_trailer"),
        ("a folded trailer", "0\r\nA: b\r\n c\r\n\r\n".to_owned(), "bad_trailer"),
        ("trailers without end", format!("0\r\nA: {}", "b".repeat(9000)), "bad_trailer"),
    ]
}

#[tokio::test]
async fn chunks_that_are_not_exact_are_refused() {
    let attacks = chunk_attacks();
    are_refused(attacks.iter().map(|(name, body, reason)| (*name, post(CHUNKED, body), 400, *reason))).await;
}

#[tokio::test]
async fn a_body_that_turns_out_ambiguous_fails_and_never_looks_whole_to_the_origin() {
    let (origin, node) = before_an_echo("fail_max = 1000").await;
    for (nth, (name, body, reason)) in chunk_attacks().into_iter().enumerate() {
        println!("{name}: {body:?}");
        let cut = Barrier::closed();
        let seen = cut.clone();
        origin.script("/x", move |mut exchange| {
            let seen = seen.clone();
            async move {
                let body = exchange.framed_body().await;
                assert!(!body.is_whole, "the origin took {} for a body", body.bytes.escape_ascii());
                seen.open();
                exchange
            }
        });
        let counter = format!("shoal_requests_refused_total{{reason=\"{reason}\"}}");
        let counted = node.metric(&counter);
        let mut client = node.connect().await;
        client.send(post(CHUNKED, "4\r\nbody\r\n")).await;
        origin.asked_times("/x", nth + 1).await;
        client.send_anyway(format!("{body}{HIDDEN}")).await;
        client.refused(400, reason).await;
        in_time("the origin to see the cut", cut.pass()).await;
        assert_eq!((origin.count("/hidden"), node.metric(&counter)), (0, counted + 1.0));
    }
}

#[tokio::test]
async fn splits_make_no_difference() {
    let (origin, node) = before_an_echo("").await;
    for (bytes, reason) in [
        (post(&format!("Content-Length: 5\r\n{CHUNKED}"), ""), "two_framings"),
        ("GET /x HTTP/1.1\r\nHost: site.test\r\nA: b\n\n".into(), "bad_line_end"),
        (get("A : b\r\n"), "malformed"),
    ] {
        let mut client = node.connect().await;
        client.send(request("GET", "/good", &[])).await;
        for byte in bytes.bytes() {
            client.send_anyway([byte]).await;
            turns().await;
        }
        client.reply("GET").await.assert_is(200, "good");
        client.refused(400, reason).await;
    }
    assert_eq!(origin.count_all(), 1);
    // And a good one arrives whole, however it comes.
    let mut client = node.connect().await;
    let trailed = "4;a=b\r\nbody\r\n0\r\nA: b\r\n\r\n";
    for byte in (post(CHUNKED, trailed) + &post("Content-Length: 5\r\n", "again")).bytes() {
        client.send([byte]).await;
        turns().await;
    }
    client.reply("POST").await.assert_is(200, "body");
    client.reply("POST").await.assert_is(200, "again");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let (origin, node) = before_an_echo("").await;
    let mut client = node.connect().await;
    let all = [
        post("Content-Length: 3\r\n", "one"),
        get(""),
        post(CHUNKED, "3\r\ntwo\r\n0\r\n\r\n"),
        String::from_utf8(request("GET", "/good", &[])).unwrap(),
        post("Content-Length: 5\r\n", "three"),
    ];
    client.send(all.concat()).await;
    for body in ["one", "", "two", "good", "three"] {
        client.reply("GET").await.assert_is(200, body);
    }
    assert_eq!((origin.count("/x"), origin.count_all()), (4, 5));
}

/// Also when it is left unread (CVE-2025-4366), and when a browser is made to send it (client-side desync).
#[tokio::test]
async fn cl_0_a_body_is_never_read_as_a_request_whoever_answers() {
    let (origin, node) = before_an_echo("[limits]\nbody_bytes = \"1KiB\"").await;
    origin.script("/nowhere", |mut exchange| async move {
        exchange.body().await;
        exchange.send(reply(404, &["Cache-Control: no-store"], "no")).await;
        exchange
    });
    let length = HIDDEN.len();
    let with = |head: &str| format!("{head}\r\nHost: site.test\r\nContent-Length: {length}\r\n\r\n{HIDDEN}");
    for (name, bytes, status) in [
        ("no such method", with("TRACE /good HTTP/1.1"), 501),
        ("a loop", with("POST /good HTTP/1.1\r\nVia: 1.1 edge"), 508),
        ("a bad target", with("POST /%zz HTTP/1.1"), 400),
        ("a body on GET", with("GET /x HTTP/1.1"), 200),
        ("a body on HEAD", with("HEAD /x HTTP/1.1"), 200),
        ("a body that nobody wants", with("POST /nowhere HTTP/1.1"), 404),
    ] {
        println!("{name}");
        let mut client = node.connect().await;
        client.send_anyway(&bytes).await;
        let method = bytes.split(' ').next().unwrap();
        assert_eq!(client.reply(method).await.status, status);
        // Either it was read as a body, and the connection goes on, or it is closed.
        client.send_anyway(request("GET", "/good", &["Connection: close"])).await;
        let rest = client.read_to_end().await;
        assert!(rest.is_empty() || rest.ends_with(b"good"), "{}", rest.escape_ascii());
        assert!(!rest.windows(6).any(|word| word == b"hidden"), "{}", rest.escape_ascii());
    }
    assert_eq!(origin.count("/hidden"), 0);
}

#[tokio::test]
async fn zero_cl_a_request_with_less_body_than_stated_takes_no_other_for_its_body() {
    let (origin, node) = before_an_echo("").await;
    let mut first = node.connect().await;
    // Its length is of a body that does not come; the origin is not to wait in the place of another's request.
    first.send("GET /x HTTP/1.1\r\nHost: site.test\r\nContent-Length: 40\r\n\r\nGET /hidden").await;
    origin.asked_times("/x", 1).await;
    node.get("/good").await.assert_is(200, "good");
    node.ask("POST", "/x", &["Content-Length: 0"]).await.assert_is(200, "");
    drop(first);
    turns().await;
    node.ask("POST", "/x", &["Content-Length: 0"]).await.assert_is(200, "");
    assert_eq!(origin.count("/hidden"), 0);
}

#[tokio::test]
async fn an_origin_that_takes_a_body_for_a_request_poisons_no_other() {
    let origin = Origin::start().await;
    origin.says("/hidden", reply(200, &[], "poison"));
    origin.says("/good", reply(200, &["Cache-Control: no-store"], "good"));
    // CL.0: it answers without a look at the body, which its reader then takes for the next request.
    origin.script("/x", |mut exchange| async move {
        exchange.send(reply(200, &["Cache-Control: no-store"], "early")).await;
        exchange
    });
    let node = Node::before(&origin).await;
    for _ in 0..3 {
        let mut client = node.begin("POST", "/x", &[&format!("Content-Length: {}", HIDDEN.len())]).await;
        client.send_anyway(HIDDEN).await;
        client.reply("POST").await.assert_is(200, "early");
        turns().await;
        for _ in 0..2 {
            node.get("/good").await.assert_is(200, "good");
        }
    }
}

#[tokio::test]
async fn a_pause_within_a_body_makes_no_request_of_its_rest() {
    let origin = Origin::start().await;
    origin.says("/hidden", reply(200, &[], "poison"));
    origin.says("/good", reply(200, &["Cache-Control: no-store"], "good"));
    // It gives up waiting, answers, and would read on.
    origin.script("/x", |mut exchange| async move {
        exchange.send(reply(200, &["Cache-Control: no-store"], "given up")).await;
        exchange
    });
    let node = Node::before(&origin).await;
    let mut client = node.begin("POST", "/x", &[&format!("Content-Length: {}", HIDDEN.len())]).await;
    client.reply("POST").await.assert_is(200, "given up");
    client.send_anyway(HIDDEN).await;
    assert_eq!(client.read_to_end().await, b"");
    node.get("/good").await.assert_is(200, "good");
    assert_eq!(origin.count("/hidden"), 0);
}

#[tokio::test]
async fn expectations_other_than_to_go_on_are_417() {
    let with = |value: &str| post(&format!("Content-Length: 4\r\nExpect: {value}\r\n"), "body");
    are_refused(
        ["100-continue, x", "y 100-continue", "x", "", "100-continue;a", "200-ok"]
            .map(|value| ("an expectation", with(value), 417, "unknown_expectation")),
    )
    .await;
}

#[tokio::test]
async fn who_is_refused_is_not_told_to_go_on() {
    let (origin, node) = before_an_echo("[limits]\nbody_bytes = \"1KiB\"").await;
    let expecting = |head: &str, length: usize| {
        format!("{head}\r\nHost: site.test\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n")
    };
    for (name, bytes, status) in [
        ("too large", expecting("PUT /x HTTP/1.1", 4000), 413),
        ("a loop", expecting("PUT /x HTTP/1.1\r\nVia: 1.1 edge", 42), 508),
        ("no such method", expecting("TRACE /x HTTP/1.1", 42), 501),
        ("two framings", expecting("PUT /x HTTP/1.1\r\nTransfer-Encoding: chunked", 42), 400),
    ] {
        println!("{name}");
        let mut client = node.connect().await;
        client.send(bytes).await;
        assert_eq!(client.reply("PUT").await.status, status);
        // It may send its body all the same, or a request instead of one; neither is read.
        client.send_anyway(HIDDEN).await;
        assert_eq!(client.read_to_end().await, b"");
    }
    assert_eq!(origin.count_all(), 1);
}

#[tokio::test]
async fn an_expectation_is_passed_on_and_of_no_other_request() {
    let (origin, node) = before_an_echo("").await;
    let mut client = node.begin("PUT", "/x", &["Content-Length: 4", "Expect: 100-continue"]).await;
    assert_eq!(client.head().await.unwrap().line, "HTTP/1.1 100 Continue");
    client.send("body").await;
    client.reply("PUT").await.assert_is(200, "body");
    assert_eq!(origin.asked("/x")[0].field("expect"), Some("100-continue"));
    // Of a request without a body it means nothing, and a hit stays one.
    client.ask("GET", "/good", &["Expect: 100-continue"]).await.assert_hit();
    client.get("/good").await.assert_hit();
    assert!(origin.asked("/good").iter().all(|asked| asked.field("expect").is_none()));
}

/// CVE-2026-2833.
#[tokio::test]
async fn what_follows_an_upgrade_request_reaches_the_origin_after_101_alone() {
    let (asked, switch) = (Barrier::closed(), Barrier::closed());
    let origin = Origin::start().await;
    let (told, may) = (asked.clone(), switch.clone());
    origin.script("/chat", move |mut exchange| {
        let (told, may) = (told.clone(), may.clone());
        async move {
            told.open();
            may.pass().await;
            turns().await;
            let early = futures_util::FutureExt::now_or_never(exchange.read_some());
            assert!(early.is_none(), "before 101: {early:?}");
            exchange.send(head(101, &["Connection: Upgrade", "Upgrade: x"])).await;
            let bytes = exchange.read_some().await;
            exchange.send(bytes).await;
            exchange.close();
            exchange
        }
    });
    let node = Node::before(&origin).await;
    let mut client = node.connect().await;
    let raw = b"\0no\nrequest\r\n\r\n";
    let upgrade = request("GET", "/chat", &["Connection: Upgrade", "Upgrade: x"]);
    client.send([&upgrade[..], raw].concat()).await;
    in_time("the origin to be asked", asked.pass()).await;
    switch.open();
    assert!(client.head().await.unwrap().line.starts_with("HTTP/1.1 101 "));
    assert_eq!(client.read_to_end().await, raw);
}

#[tokio::test]
async fn what_follows_an_upgrade_that_was_not_made_is_judged_as_requests() {
    let (origin, node) = before_an_echo("").await;
    origin.says("/chat", reply(200, &["Cache-Control: no-store"], "no"));
    let upgrade = request("GET", "/chat", &["Connection: Upgrade", "Upgrade: x"]);
    for (next, expected) in [
        (get(""), None),
        (get("A: b\n"), Some("bad_line_end")),
        ("\0\r\n\r\n".into(), Some("bad_request_line")),
    ] {
        let mut client = node.connect().await;
        client.send([&upgrade[..], next.as_bytes()].concat()).await;
        client.reply("GET").await.assert_is(200, "no");
        match expected {
            None => client.reply("GET").await.assert_is(200, ""),
            Some(reason) => drop(client.refused(400, reason).await),
        }
    }
    assert_eq!(origin.count("/x"), 1);
}

#[tokio::test]
async fn an_answer_that_is_on_its_way_is_whole_before_a_refusal_follows() {
    let (origin, held) = (Origin::start().await, Barrier::closed());
    let gate = held.clone();
    origin.script("/slow", move |mut exchange| {
        let gate = gate.clone();
        async move {
            exchange.send(head(200, &["Cache-Control: no-store", "Transfer-Encoding: chunked"])).await;
            exchange.send(chunk(b"first ")).await;
            gate.pass().await;
            exchange.send(chunk(b"last")).await;
            exchange.send(chunk(b"")).await;
            exchange
        }
    });
    let node = Node::before(&origin).await;
    let mut client = node.begin("GET", "/slow", &[]).await;
    client.send(get("A: b\n")).await;
    let begun = client.head().await.unwrap();
    assert_eq!(client.chunk().await.unwrap(), b"first ");
    turns().await;
    held.open();
    assert_eq!(client.body(&begun).await.bytes, b"last");
    client.refused(400, "bad_line_end").await;
}

#[tokio::test]
async fn a_refusal_is_in_the_access_log_with_what_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let (_origin, node) = before_an_echo(&format!("[log]\naccess = \"{}\"", log.display())).await;
    let mut client = node.connect().await;
    client.send("POST /x\x07\"y HTTP/1.1\r\nHost: site.test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let id = client.refused(400, "two_framings").await.field("x-request-id").unwrap().to_owned();
    let line = || {
        std::fs::read_to_string(&log)
            .unwrap_or_default()
            .lines()
            .find(|line| line.contains(&id))
            .map(str::to_owned)
    };
    until("the line to be written", || line().is_some()).await;
    let line: serde_json::Value = serde_json::from_str(&line().unwrap()).unwrap();
    for (key, value) in [
        ("method", "POST"),
        ("target", "/x%07%22y"),
        ("host", "site.test"),
        ("verdict", "refused"),
        ("detail", "two_framings"),
    ] {
        assert_eq!(line[key], value, "{key} in {line}");
    }
    assert_eq!(line["status"], 400);
}

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// A field section as HPACK writes it without any table.
fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

#[tokio::test]
async fn h2_cl_and_h2_te_downgrades_reach_no_origin_as_they_are() {
    let base = [(":method", "POST"), (":scheme", "http"), (":authority", "site.test"), (":path", "/x")];
    for (name, more, data) in [
        ("H2.TE", vec![("transfer-encoding", "chunked")], format!("0\r\n\r\n{HIDDEN}")),
        ("H2.CL, too short", vec![("content-length", "0")], HIDDEN.to_owned()),
        ("H2.CL, shorter than the body", vec![("content-length", "4")], format!("body{HIDDEN}")),
        ("H2.CL, longer than the body", vec![("content-length", "400")], "body".to_owned()),
        ("H2.CL, two", vec![("content-length", "4"), ("content-length", "5")], "body".to_owned()),
        ("H2.CL, no number", vec![("content-length", "+4")], "body".to_owned()),
        ("CRLF in a value", vec![("x", "y\r\nTransfer-Encoding: chunked")], "0\r\n\r\n".to_owned()),
        ("CRLF in a name", vec![("x: y\r\ntransfer-encoding", "chunked")], "0\r\n\r\n".to_owned()),
        ("a colon in a name", vec![("transfer-encoding:chunked\r\nx", "y")], "0\r\n\r\n".to_owned()),
        ("Connection", vec![("connection", "transfer-encoding")], "body".to_owned()),
        ("a method with a line", vec![(":method", "GET / HTTP/1.1\r\nX: y")], "body".to_owned()),
        ("a path with a line", vec![(":path", "/x HTTP/1.1\r\nX: y\r\n\r\nGET /hidden")], "body".to_owned()),
    ] {
        println!("{name}");
        let origin = Origin::start().await;
        origin.script("/x", |mut exchange| async move {
            let body = exchange.framed_body().await;
            assert!(!body.is_whole, "a body that is whole: {}", body.bytes.escape_ascii());
            exchange
        });
        let node = Node::before(&origin).await;
        let mut client = node.connect().await;
        client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        client.send(frame(4, 0, 0, &[])).await;
        let base = base.iter().filter(|(name, _)| more.iter().all(|(other, _)| other != name));
        let head: Vec<_> = base.copied().chain(more.iter().copied()).collect();
        client.send_anyway(frame(1, END_HEADERS, 1, &fields(&head))).await;
        client.send_anyway(frame(0, END_STREAM, 1, data.as_bytes())).await;
        // Answered with an error, reset, or the whole connection closed.
        loop {
            let head = client.read_some(9).await;
            let [_, high, low, kind, _, _, _, _, stream] = head[..] else { break };
            let payload = client.read_some(usize::from(high) << 8 | usize::from(low)).await;
            match (kind, stream) {
                // `:status: 400` of the static table.
                (1, 1) => assert_eq!(payload.first(), Some(&0x8c), "{name}: {}", payload.escape_ascii()),
                (3, 1) | (7, _) => {}
                _ => continue,
            }
            break;
        }
        assert_eq!(origin.count("/hidden"), 0);
        for asked in origin.asked("/x") {
            assert_eq!(
                asked.head.fields_named("transfer-encoding").len()
                    + asked.head.fields_named("content-length").len(),
                1
            );
        }
    }
}

#[tokio::test]
async fn an_answer_whose_end_is_in_doubt_ends_its_connection() {
    let chunked = "Transfer-Encoding: chunked\r\n";
    let poison = String::from_utf8(reply(200, &[FRESH], "poison")).unwrap();
    for (name, bytes, statuses) in [
        (
            "CL+TE",
            format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n{chunked}\r\n4\r\nbody\r\n0\r\n\r\n{poison}"),
            [200, 502],
        ),
        (
            "TE+CL",
            format!("HTTP/1.1 200 OK\r\n{chunked}Content-Length: 4\r\n\r\n4\r\nbody\r\n0\r\n\r\n{poison}"),
            [200, 502],
        ),
        (
            "two lengths",
            format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nbody{poison}"),
            [502; 2],
        ),
        (
            "a list of lengths",
            format!("HTTP/1.1 200 OK\r\nContent-Length: 4, 5\r\n\r\nbody{poison}"),
            [502; 2],
        ),
        ("a signed length", format!("HTTP/1.1 200 OK\r\nContent-Length: +4\r\n\r\nbody{poison}"), [502; 2]),
        ("a negative length", format!("HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\nbody{poison}"), [502; 2]),
        (
            "a folded line",
            format!("HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 4\r\n\r\nbody{poison}"),
            [502; 2],
        ),
        (
            "a space before the colon",
            format!("HTTP/1.1 200 OK\r\nContent-Length : 4\r\n\r\nbody{poison}"),
            [502; 2],
        ),
        ("bare LF", format!("HTTP/1.1 200 OK\nContent-Length: 4\n\nbody{poison}"), [200, 502]),
        ("NUL", format!("HTTP/1.1 200 OK\r\nA: b\0\r\nContent-Length: 4\r\n\r\nbody{poison}"), [502; 2]),
        ("HTTP/0.9", "body".to_owned(), [502; 2]),
        ("HTTP/2.0", format!("HTTP/2.0 200 OK\r\nContent-Length: 4\r\n\r\nbody{poison}"), [502; 2]),
        (
            "204 with a body",
            format!("HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nbody{poison}"),
            [204; 2],
        ),
        (
            "304 with a body",
            format!("HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nbody{poison}"),
            [304, 502],
        ),
        (
            "an answer behind an answer",
            format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody{poison}"),
            [200; 2],
        ),
        (
            "1xx behind an answer",
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbodyHTTP/1.1 100 Continue\r\n\r\n".to_owned(),
            [200; 2],
        ),
    ] {
        println!("{name}: {bytes:?}");
        let origin = Origin::start().await;
        origin.script("/x", move |mut exchange| {
            let bytes = bytes.clone();
            async move {
                exchange.send(bytes).await;
                if exchange.asked.field("x-last").is_some() {
                    exchange.close();
                }
                exchange
            }
        });
        origin.says("/good", reply(200, &["Cache-Control: no-store"], "good"));
        let node = Node::with(&origin, "fail_max = 1000\nfirst_byte_timeout = \"2s\"\nretries = 0").await;
        for _ in 0..2 {
            let fields: &[&str] = if name == "HTTP/0.9" { &["X-Last: yes"] } else { &[] };
            let reply = node.ask("POST", "/x", &[&["Content-Length: 0"], fields].concat()).await;
            assert!(statuses.contains(&reply.status), "{} {}", reply.status, reply.text());
            assert!(!reply.text().contains("poison"), "{}", reply.text());
            turns().await;
            node.get("/good").await.assert_is(200, "good");
        }
    }
}

#[tokio::test]
async fn interim_answers_without_end_are_given_up() {
    let origin = Origin::start().await;
    origin.script("/x", |mut exchange| async move {
        for _ in 0..100_000 {
            exchange.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").await;
            if exchange.is_closed() {
                break;
            }
        }
        exchange.close();
        exchange
    });
    origin.says("/good", reply(200, &[FRESH], "good"));
    let node = Node::with(&origin, "fail_max = 1000\nfirst_byte_timeout = \"500ms\"\nretries = 0").await;
    let mut client = node.begin("GET", "/x", &[]).await;
    let mut status = 103;
    // No more than a few are told.
    for _ in 0..=8 {
        if status == 103 {
            status = client.reply("GET").await.status;
        }
    }
    assert!(matches!(status, 502 | 504), "{status}");
    node.get("/good").await.assert_is(200, "good");
}
