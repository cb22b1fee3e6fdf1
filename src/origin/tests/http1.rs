use super::fixture::*;
use crate::body::{Body, BodyError};
use crate::clock::Clock;
use crate::origin::request::Outbound;
use crate::origin::{FailureKind, FetchError};
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::join;

#[tokio::test]
async fn a_request_goes_out_in_origin_form_and_connections_are_kept() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let group = server.group();
    let absolute = Request::get("http://site.test/a?b=c").header("host", "site.test").body(Body::Empty);
    let (fetched, mut peer) = join!(rig.origins.fetch(&group, absolute.unwrap(), None), async {
        let mut peer = server.accept().await;
        assert_eq!(peer.answer(ok("one")).await, "GET /a?b=c HTTP/1.1\r\nhost: site.test\r\n\r\n");
        peer
    });
    let fetched = fetched.unwrap();
    assert_eq!((fetched.attempts, &fetched.server), (1, &server.server()));
    assert_eq!(text(fetched).await.unwrap(), "one");
    let (second, _) = join!(rig.read(&group, "/2"), peer.answer(ok("two")));
    assert_eq!(second, "two");
    assert_eq!((rig.stats().connects.read(), rig.stats().reuses.read()), (1, 1));
    assert_eq!((rig.stats().open.read(), rig.stats().idle.read()), (1, 1));
}

/// After each of these responses the connection serves the next request.
#[tokio::test]
async fn every_complete_response_keeps_the_connection() {
    for (method, response, body) in [
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", ""),
        ("GET", "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\n\r\n", ""),
        ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", ""),
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", ""),
        ("GET", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx: y\r\n\r\n", "ok"),
        (
            "GET",
            "HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            "ok",
        ),
    ] {
        let (rig, server) = (Rig::new(), Server::new().await);
        let group = server.group();
        let first = rig.origins.fetch(&group, request(method, "/", Body::Empty), None);
        let (fetched, mut peer) = join!(first, server.answer(response));
        assert_eq!(text(fetched.unwrap()).await.unwrap(), body, "{response}");
        let (second, _) = join!(rig.read(&group, "/2"), peer.answer(ok("two")));
        assert_eq!(second, "two", "{response}");
        assert_eq!(rig.stats().connects.read(), 1, "{response}");
    }
}

#[tokio::test]
async fn a_reader_that_stops_after_trailers_has_read_all() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx: y\r\n\r\n";
    let (fetched, _peer) = join!(rig.get(server.group(), "/"), server.answer(chunked));
    let mut body = fetched.unwrap().response.into_body();
    while !body.frame().await.unwrap().unwrap().is_trailers() {}
    drop(body);
    assert_eq!(rig.stats().idle.read(), 1);
}

/// After each of these responses the next request gets a new connection.
#[tokio::test]
async fn a_connection_in_doubt_is_not_used_again() {
    for (method, response, body) in [
        (
            "GET",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
            "ok",
        ),
        ("GET", "HTTP/1.1 304 Not Modified\r\ncontent-length: 4\r\n\r\nevil", ""),
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", ""),
        ("GET", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nevil", "ok"),
        ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok", "ok"),
        ("GET", "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", "ok"),
    ] {
        let (rig, server) = (Rig::new(), Server::new().await);
        let group = server.group();
        let first = rig.origins.fetch(&group, request(method, "/", Body::Empty), None);
        let (fetched, peer) = join!(first, server.answer(response));
        assert_eq!(text(fetched.unwrap()).await.unwrap(), body, "{response}");
        let (second, _) = join!(rig.read(&group, "/2"), server.answer(ok("two")));
        assert_eq!(second, "two", "{response}");
        peer.closed().await;
    }
}

#[tokio::test]
async fn a_response_without_a_single_end_is_none_and_its_connection_is_not_used_again() {
    for framing in [
        "content-length: 7\r\ntransfer-encoding: chunked",
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: chunked, chunked",
        "content-length: 2\r\ncontent-length: 3",
    ] {
        let (rig, server) = (Rig::new(), Server::new().await);
        let group = server.group();
        let response = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n2\r\nok\r\n0\r\n\r\n");
        let (fetched, peer) = join!(rig.get(group.clone(), "/"), server.answer(&response));
        assert!(matches!(fetched, Err(FetchError::Protocol(_))), "{framing}");
        let (second, _) = join!(rig.read(&group, "/2"), server.answer(ok("two")));
        assert_eq!(second, "two", "{framing}");
        peer.closed().await;
    }
}

#[tokio::test]
async fn bytes_on_an_idle_connection_close_it() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let group = server.group();
    let (_, mut peer) = join!(rig.read(&group, "/"), server.answer(ok("one")));
    peer.send(&ok("evil")).await;
    peer.closed().await;
    let (second, _) = join!(rig.read(&group, "/2"), server.answer(ok("two")));
    assert_eq!(second, "two");
}

#[tokio::test]
async fn framing_fields_follow_the_body_that_is_there() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let lying = Request::post("/").header("host", "site.test").header("content-length", "9");
    let lying = lying.header("transfer-encoding", "chunked").body(Body::Full(Bytes::from("abc"))).unwrap();
    let group = server.group();
    let (_, mut peer) = join!(rig.origins.fetch(&group, lying, None), async {
        let mut peer = server.accept().await;
        let head = peer.head().await;
        assert!(head.contains("content-length: 3\r\n") && !head.contains("transfer-encoding"), "{head}");
        peer.until("abc").await;
        peer.send(&ok("")).await;
        peer
    });
    let (_, head) = join!(rig.get(&group, "/"), async { peer.answer(ok("")).await });
    assert!(!head.contains("content-length"), "{head}");
}

#[tokio::test]
async fn a_kept_connection_that_is_closed_is_replaced_without_blame() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let group = server.group();
    let (_, mut peer) = join!(rig.read(&group, "/"), server.answer(ok("one")));
    let (fetched, _) = join!(rig.get(&group, "/2"), async {
        peer.head().await; // the request crosses with the server's decision to close
        drop(peer);
        server.answer(ok("two")).await
    });
    let fetched = fetched.unwrap();
    assert_eq!(fetched.attempts, 2);
    assert_eq!(text(fetched).await.unwrap(), "two");
    assert!(FailureKind::ALL.iter().all(|&kind| rig.stats().failures(kind) == 0));
}

#[tokio::test]
async fn a_replaced_connection_is_replaced_only_once() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let group = server.group();
    let (_, mut peer) = join!(rig.read(&group, "/"), server.answer(ok("one")));
    let (fetched, ()) = join!(rig.get(&group, "/2"), async {
        peer.head().await;
        drop(peer);
        server.accept().await.head().await; // and closed again
    });
    assert!(matches!(fetched, Err(FetchError::Closed(_))));
    assert_eq!(rig.stats().failures(FailureKind::Closed), 1);
}

#[tokio::test]
async fn a_post_that_was_sent_is_never_repeated() {
    let (rig, server, other) = (Rig::new(), Server::new().await, Server::new().await);
    let mut config = group(&[server.server(), other.server()]);
    config.retries = 3;
    let config = Arc::new(config);
    let post = |body| rig.origins.fetch(&config, request("POST", "/", body), Some(&config.servers[0]));
    let (first, mut peer) = join!(post(Body::Empty), server.answer(ok("one")));
    text(first.unwrap()).await.unwrap();
    let (second, ()) = join!(post(Body::Empty), async {
        assert!(peer.head().await.contains("content-length: 0"));
        drop(peer);
    });
    assert!(matches!(second, Err(FetchError::Closed(_))));
    assert_eq!((rig.stats().connects.read(), rig.stats().retries.read()), (1, 0));
}

#[tokio::test]
async fn a_get_without_an_answer_is_repeated_on_another_server_but_not_after_a_byte() {
    for (response, repeated) in [("", true), ("HTTP/1.1 200", false)] {
        let (rig, server, other) = (Rig::new(), Server::new().await, Server::new().await);
        let mut config = group(&[server.server(), other.server()]);
        config.retries = 1;
        let config = Arc::new(config);
        let bad = async {
            let peer = server.answer(response).await;
            drop(peer);
        };
        let fetch = rig.get(&config, "/");
        if repeated {
            let (fetched, (), _) = join!(fetch, bad, other.answer(ok("two")));
            let fetched = fetched.unwrap();
            assert_eq!((fetched.attempts, &fetched.server), (2, &other.server()));
        } else {
            let (fetched, ()) = join!(fetch, bad);
            assert!(matches!(fetched, Err(FetchError::Closed(_))));
        }
    }
}

#[tokio::test]
async fn a_broken_head_is_a_protocol_error() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let (fetched, _) = join!(rig.get(server.group(), "/"), server.answer("SMTP ready\r\n\r\n"));
    let error = fetched.err().unwrap();
    assert!(matches!(error, FetchError::Protocol(_)) && !error.is_timeout(), "{error}");
}

#[tokio::test]
async fn a_truncated_body_is_an_error_and_its_connection_is_gone() {
    for head in ["content-length: 10", "transfer-encoding: chunked"] {
        let (rig, server) = (Rig::new(), Server::new().await);
        let group = server.group();
        let (fetched, ()) = join!(rig.get(&group, "/"), async {
            drop(server.answer(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\nhalf!")).await);
        });
        assert!(matches!(text(fetched.unwrap()).await, Err(BodyError::Upstream(_))), "{head}");
        assert_eq!(rig.stats().failures(FailureKind::BodyBroken), 1);
        let (second, _) = join!(rig.read(&group, "/2"), server.answer(ok("two")));
        assert_eq!(second, "two");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_slow_to_answer_is_given_up() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let (fetched, peer) = join!(rig.get(server.group(), "/"), async {
        let mut peer = server.accept().await;
        peer.head().await;
        peer
    });
    let error = fetched.err().unwrap();
    assert!(matches!(error, FetchError::FirstByteTimeout) && error.is_timeout());
    peer.closed().await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_is_given_up_however_slowly_it_came_before() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let (fetched, mut peer) =
        join!(rig.get(server.group(), "/"), server.answer("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n"));
    let mut body = fetched.unwrap().response.into_body();
    let sender = async {
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(15)).await; // virtual: below the limit of 20 s
            peer.send("x").await;
        }
        peer
    };
    let reader = async {
        let mut frames = 0;
        loop {
            match body.frame().await.unwrap() {
                Ok(_) => frames += 1,
                Err(error) => return (frames, error),
            }
        }
    };
    let ((frames, error), peer) = join!(reader, sender);
    assert_eq!(frames, 5);
    assert!(matches!(error, BodyError::Stalled));
    assert_eq!(rig.stats().failures(FailureKind::BodyStalled), 1);
    peer.closed().await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_not_a_stalled_server() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let (fetched, mut peer) =
        join!(rig.get(server.group(), "/"), server.answer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\na"));
    let mut body = fetched.unwrap().response.into_body();
    body.frame().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await; // virtual
    let (frame, ()) = join!(body.frame(), peer.send("b"));
    assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), "b");
}

#[tokio::test]
async fn a_body_dropped_unread_closes_its_connection() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let group = server.group();
    let (fetched, peer) =
        join!(rig.get(&group, "/"), server.answer("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc"));
    drop(fetched);
    peer.closed().await;
    assert_eq!((rig.stats().open.read(), rig.shared.upstreams()[0].in_progress), (0, 0));
}

#[tokio::test]
async fn a_fetch_dropped_in_progress_closes_its_connection() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let group = server.group();
    let peer = {
        let fetch = std::pin::pin!(rig.get(&group, "/"));
        let peer = std::pin::pin!(async {
            let mut peer = server.accept().await;
            peer.head().await;
            peer
        });
        match futures_util::future::select(fetch, peer).await {
            futures_util::future::Either::Right((peer, _)) => peer,
            futures_util::future::Either::Left(_) => panic!("nothing was answered"),
        }
    };
    peer.closed().await;
    let upstream = &rig.shared.upstreams()[0];
    assert_eq!((upstream.open, upstream.in_progress), (0, 0));
}

#[tokio::test]
async fn an_upgrade_carries_bytes_both_ways_and_counts_as_open() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let upgrade = Request::get("/ws").header("host", "site.test").header("connection", "upgrade");
    let upgrade = upgrade.header("upgrade", "websocket").body(Body::Empty).unwrap();
    let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nfirst";
    let group = server.group();
    let (fetched, mut peer) = join!(rig.origins.fetch(&group, upgrade, None), server.answer(switch));
    let mut fetched = fetched.unwrap();
    assert_eq!(fetched.response.status(), 101);
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut fetched.response).await.unwrap());
    let mut bytes = [0; 5];
    stream.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"first", "bytes behind the head belong to the stream");
    stream.write_all(b"ping.").await.unwrap();
    stream.flush().await.unwrap();
    peer.until("ping.").await;
    peer.send("pong.").await;
    stream.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"pong.");
    assert_eq!(rig.shared.upstreams()[0].open, 1);
    drop(stream);
    peer.closed().await;
    assert_eq!(rig.shared.upstreams()[0].open, 0);
}

#[tokio::test]
async fn a_refused_upgrade_is_a_response_like_any() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let upgrade = Request::get("/ws").header("host", "site.test").header("connection", "upgrade");
    let upgrade = upgrade.header("upgrade", "websocket").body(Body::Empty).unwrap();
    let group = server.group();
    let (fetched, _) = join!(rig.origins.fetch(&group, upgrade, None), server.answer(ok("no")));
    assert_eq!(text(fetched.unwrap()).await.unwrap(), "no");
    assert_eq!(rig.stats().idle.read(), 1);
}

#[tokio::test]
async fn an_upgrade_that_nobody_asked_for_is_a_protocol_error() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
    let group = server.group();
    let (fetched, peer) = join!(rig.get(&group, "/"), server.answer(switch));
    assert!(matches!(fetched, Err(FetchError::Protocol(_))));
    peer.closed().await;
}

/// A fetch is part of every miss, so what it carries through its callers' futures is kept small:
/// the rare way over a new connection is boxed.
#[tokio::test]
async fn the_future_of_a_fetch_is_small() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let group = server.group();
    let size = size_of_val(&rig.origins.fetch(&group, request("GET", "/", Body::Empty), None));
    assert!(size <= 2560, "{size} bytes");
}

#[tokio::test]
async fn connect_is_never_forwarded() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let connect = Request::connect("site.test:443").body(Body::Empty).unwrap();
    let result = rig.origins.fetch(&server.group(), connect, None).await;
    assert!(matches!(result, Err(FetchError::Request(_))));
}

#[tokio::test]
async fn a_streaming_body_of_which_nothing_was_taken_may_go_to_another_server() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let mut config = group(&[Server::down().await, server.server()]);
    config.retries = 1;
    let (sender, body) = streaming();
    sender.send(Ok(Bytes::from("abc"))).await.unwrap();
    drop(sender);
    let config = Arc::new(config);
    let (fetched, ()) = join!(rig.origins.fetch(&config, request("POST", "/", body), None), async {
        let mut peer = server.accept().await;
        peer.until("abc").await;
        peer.send(&ok("done")).await;
    });
    assert_eq!(fetched.unwrap().attempts, 2);
}

#[tokio::test]
async fn a_streaming_body_that_was_begun_is_not_sent_again() {
    let (rig, server, other) = (Rig::new(), Server::new().await, Server::new().await);
    let mut config = group(&[server.server(), other.server()]);
    config.retries = 1;
    let config = Arc::new(config);
    let (sender, body) = streaming();
    sender.send(Ok(Bytes::from("abc"))).await.unwrap();
    // PUT is idempotent: it is only the body that forbids it.
    let (result, ()) = join!(rig.origins.fetch(&config, request("PUT", "/", body), None), async {
        let mut peer = server.accept().await;
        peer.until("abc").await;
        drop(peer);
    });
    assert!(matches!(result, Err(FetchError::Closed(_))));
    assert_eq!(rig.stats().retries.read(), 0);
}

/// RFC 10008: QUERY is safe, and so idempotent.
#[test]
fn a_query_may_be_sent_again_and_an_unknown_method_may_not() {
    for (method, may) in [("QUERY", true), ("PUT", true), ("POST", false), ("X-UNKNOWN", false)] {
        let outbound = Outbound::new(request(method, "/", Body::Empty), Clock::system()).unwrap();
        assert_eq!(outbound.is_idempotent(), may, "{method}");
    }
}

#[tokio::test]
async fn a_request_body_that_fails_is_not_the_servers_fault() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let mut config = group(&[server.server()]);
    config.fail_max = 1;
    let config = Arc::new(config);
    let (sender, body) = streaming();
    let (result, ()) = join!(rig.origins.fetch(&config, request("POST", "/", body), None), async {
        let mut peer = server.accept().await;
        peer.head().await;
        sender.send(Err(BodyError::Stalled)).await.unwrap();
        peer.closed().await;
    });
    assert!(matches!(result, Err(FetchError::RequestBody)));
    assert!(rig.shared.upstreams()[0].available);
}

#[tokio::test]
async fn a_response_before_the_end_of_the_request_is_passed_on_and_ends_the_connection() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let group = server.group();
    let (sender, body) = streaming();
    sender.send(Ok(Bytes::from("abc"))).await.unwrap();
    let (fetched, peer) = join!(rig.origins.fetch(&group, request("POST", "/", body), None), async {
        let mut peer = server.accept().await;
        peer.until("abc").await;
        peer.send(&ok("enough")).await;
        peer
    });
    assert_eq!(text(fetched.unwrap()).await.unwrap(), "enough");
    peer.closed().await;
    sender.closed().await; // who sends the body learns that nobody reads on
    assert_eq!(rig.stats().idle.read(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_time_that_a_client_takes_to_send_is_not_the_servers() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let group = server.group();
    let (sender, body) = streaming();
    let (fetched, ()) = join!(rig.origins.fetch(&group, request("POST", "/", body), None), async {
        let mut peer = server.accept().await;
        tokio::time::sleep(Duration::from_secs(100)).await; // virtual: beyond the limit of 30 s
        sender.send(Ok(Bytes::from("abc"))).await.unwrap();
        drop(sender);
        peer.until("abc").await;
        peer.send(&ok("done")).await;
    });
    assert_eq!(text(fetched.unwrap()).await.unwrap(), "done");
}

#[tokio::test(start_paused = true)]
async fn a_server_has_the_limit_once_from_the_last_of_the_body_on() {
    for (first, rest) in [(0, 0), (0, 10), (29, 0), (29, 1), (45, 10)] {
        let (rig, server) = (Rig::new(), Server::new().await);
        let (group, clock) = (server.group(), rig.shared.clock);
        let (sender, body) = streaming();
        let fetch = async {
            let fetched = rig.origins.fetch(&group, request("POST", "/", body), None).await;
            (fetched.err().unwrap(), clock.mono())
        };
        let ((error, ended), last) = join!(fetch, async {
            let mut peer = server.accept().await;
            peer.head().await;
            tokio::time::sleep(Duration::from_secs(first)).await; // virtual
            sender.send(Ok(Bytes::from("abc"))).await.unwrap();
            peer.until("abc").await;
            tokio::time::sleep(Duration::from_secs(rest)).await;
            let last = clock.mono();
            drop(sender);
            peer.until("0\r\n\r\n").await;
            peer.closed().await;
            last
        });
        assert!(matches!(error, FetchError::FirstByteTimeout), "{error}");
        let waited = ended.duration_since(last).as_secs_f64();
        assert!((29.9..30.1).contains(&waited), "{first} s, {rest} s: given up after {waited} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_while_a_client_still_sends_is_not_blamed_for_its_pauses() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let (group, clock) = (server.group(), rig.shared.clock);
    let (sender, body) = streaming();
    let (fetched, mut peer) = join!(
        rig.origins.fetch(&group, request("POST", "/", body), None),
        server.answer("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")
    );
    let mut response = fetched.unwrap().response.into_body();
    let client = async {
        for pause in [15, 50, 15] {
            tokio::time::sleep(Duration::from_secs(pause)).await; // virtual: the limit is 20 s
            sender.send(Ok(Bytes::from("abc"))).await.unwrap();
            peer.until("abc").await;
        }
        drop(sender);
        peer.until("0\r\n\r\n").await;
        let last = clock.mono();
        peer.closed().await;
        last
    };
    let reader = async { (response.frame().await.unwrap().err().unwrap(), clock.mono()) };
    let ((error, ended), last) = join!(reader, client);
    assert!(matches!(error, BodyError::Stalled), "{error}");
    let waited = ended.duration_since(last).as_secs_f64();
    assert!((19.9..20.1).contains(&waited), "it has the limit from the end of the upload on: {waited} s");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_has_the_whole_body_has_to_answer_in_time() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let group = server.group();
    let (sender, body) = streaming();
    sender.send(Ok(Bytes::from("abc"))).await.unwrap();
    drop(sender);
    let (fetched, ()) = join!(rig.origins.fetch(&group, request("POST", "/", body), None), async {
        let mut peer = server.accept().await;
        peer.until("0\r\n\r\n").await;
        peer.closed().await;
    });
    assert!(matches!(fetched, Err(FetchError::FirstByteTimeout)));
}
