use super::fixture::*;
use crate::body::{Body, BodyError};
use crate::config::model::OriginGroup;
use crate::origin::FetchError;
use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use http::{Request, Response};
use http_body_util::BodyExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::join;
use tokio::net::TcpStream;

fn group_of(server: &Server) -> Arc<OriginGroup> {
    let mut config = group(&[server.server()]);
    config.http2 = true;
    Arc::new(config)
}

async fn accept(server: &Server, streams_max: u32) -> Connection<TcpStream, Bytes> {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(streams_max);
    builder.handshake(server.accept_stream().await).await.unwrap()
}

type Asked = (Request<h2::RecvStream>, SendResponse<Bytes>);

async fn next(connection: &mut Connection<TcpStream, Bytes>) -> Asked {
    connection.accept().await.unwrap().unwrap()
}

fn answer(asked: &mut Asked, body: &str) {
    let mut stream = asked.1.send_response(Response::new(()), false).unwrap();
    stream.send_data(Bytes::copy_from_slice(body.as_bytes()), true).unwrap();
}

/// Drives a connection that is to get no more requests.
async fn drive(mut connection: Connection<TcpStream, Bytes>) {
    while let Some(stream) = connection.accept().await {
        assert!(stream.is_err(), "one request too many");
    }
}

/// Runs `client` while `server` goes on serving.
async fn beside<T>(client: impl Future<Output = T>, server: impl Future<Output = ()>) -> T {
    tokio::select! {
        biased;
        result = client => result,
        () = async { server.await; std::future::pending().await } => unreachable!("pending"),
    }
}

#[tokio::test]
async fn requests_share_a_connection_that_is_made_once() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let config = group_of(&server);
    let client = async { join!(rig.read(&config, "/1"), rig.read(&config, "/2"), rig.read(&config, "/3")) };
    let serve = async {
        let mut connection = accept(&server, 100).await;
        let mut asked =
            [next(&mut connection).await, next(&mut connection).await, next(&mut connection).await];
        asked.sort_by_key(|stream| stream.0.uri().to_string());
        for (number, stream) in asked.iter().enumerate() {
            assert_eq!(stream.0.uri(), &*format!("http://site.test/{}", number + 1));
            assert!(!stream.0.headers().contains_key("host"));
        }
        for stream in &mut asked {
            answer(stream, "body");
        }
        drive(connection).await;
    };
    let bodies = beside(client, serve).await;
    assert_eq!(bodies, ("body".into(), "body".into(), "body".into()));
    assert_eq!((rig.stats().connects.read(), rig.stats().idle.read()), (1, 1));
}

#[tokio::test]
async fn a_saturated_connection_gets_a_sibling() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let config = group_of(&server);
    let client = async {
        let first = rig.read(&config, "/1").await; // by now the peer's limit is known
        let both = join!(rig.read(&config, "/2"), rig.read(&config, "/3"));
        (first, both)
    };
    let serve = async {
        let mut one = accept(&server, 1).await;
        answer(&mut next(&mut one).await, "a");
        let mut asked = next(&mut one).await;
        let second = async {
            let mut two = accept(&server, 1).await;
            answer(&mut next(&mut two).await, "c");
            two
        };
        // The first connection must be driven while the second one is made.
        let mut two = tokio::select! {
            two = second => two,
            _ = one.accept() => panic!("beyond the limit"),
        };
        answer(&mut asked, "b");
        join!(drive(one), async { while two.accept().await.is_some() {} });
    };
    let bodies = beside(client, serve).await;
    assert_eq!(bodies, ("a".into(), ("b".into(), "c".into())));
    assert_eq!(rig.stats().connects.read(), 2);
}

#[tokio::test]
async fn a_refused_request_was_not_processed_and_is_sent_again_even_a_post() {
    for goaway in [false, true] {
        let (rig, server) = (Rig::new(), Server::new().await);
        let config = group_of(&server);
        let client = async {
            rig.read(&config, "/1").await;
            let post = request("POST", "/2", Body::Full(Bytes::from("abc")));
            rig.origins.fetch(&config, post, None).await
        };
        let serve = async {
            let mut one = accept(&server, 100).await;
            answer(&mut next(&mut one).await, "a");
            if goaway {
                one.graceful_shutdown();
            } else {
                next(&mut one).await.1.send_reset(h2::Reason::REFUSED_STREAM);
            }
            let again = async {
                let mut two = accept(&server, 100).await;
                answer(&mut next(&mut two).await, "b");
                drive(two).await;
            };
            join!(again, async { while one.accept().await.is_some() {} });
        };
        let fetched = beside(client, serve).await.unwrap();
        assert_eq!(fetched.response.status(), 200, "goaway: {goaway}");
        assert_eq!(rig.stats().connects.read(), 2);
        assert!(rig.shared.upstreams()[0].available);
    }
}

#[tokio::test]
async fn any_other_reset_is_not_repeated_for_a_post() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let config = group_of(&server);
    let post = request("POST", "/", Body::Full(Bytes::from("abc")));
    let serve = async {
        let mut connection = accept(&server, 100).await;
        next(&mut connection).await.1.send_reset(h2::Reason::INTERNAL_ERROR);
        drive(connection).await;
    };
    let result = beside(rig.origins.fetch(&config, post, None), serve).await;
    assert!(matches!(result, Err(FetchError::Protocol(_))));
}

#[tokio::test]
async fn a_body_dropped_unread_resets_its_stream_only() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let config = group_of(&server);
    let (dropped, noticed) = tokio::sync::oneshot::channel();
    let client = async {
        let first = rig.get(&config, "/1").await.unwrap();
        drop(first);
        noticed.await.unwrap();
        rig.read(&config, "/2").await
    };
    let serve = async {
        let mut connection = accept(&server, 100).await;
        let mut asked = next(&mut connection).await;
        let mut stream = asked.1.send_response(Response::new(()), false).unwrap();
        let reset = std::future::poll_fn(|cx| stream.poll_reset(cx));
        tokio::select! {
            reason = reset => assert_eq!(reason.unwrap(), h2::Reason::CANCEL),
            _ = connection.accept() => panic!("no request yet"),
        }
        dropped.send(()).unwrap();
        answer(&mut next(&mut connection).await, "two");
        drive(connection).await;
    };
    assert_eq!(beside(client, serve).await, "two");
    assert_eq!(rig.stats().connects.read(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_on_which_a_request_timed_out_takes_no_more() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let config = group_of(&server);
    let client = async {
        assert!(matches!(rig.get(&config, "/1").await, Err(FetchError::FirstByteTimeout)));
        rig.read(&config, "/2").await
    };
    let serve = async {
        let mut one = accept(&server, 100).await;
        let _asked = next(&mut one).await;
        let second = async {
            let mut two = accept(&server, 100).await;
            answer(&mut next(&mut two).await, "two");
            drive(two).await;
        };
        join!(second, drive(one));
    };
    assert_eq!(beside(client, serve).await, "two");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_is_given_up() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let config = group_of(&server);
    let serve = async {
        let mut connection = accept(&server, 100).await;
        let mut asked = next(&mut connection).await;
        let _open = asked.1.send_response(Response::new(()), false).unwrap();
        drive(connection).await;
    };
    let client = async { rig.get(&config, "/").await.unwrap().response.into_body().collect().await };
    assert!(matches!(beside(client, serve).await, Err(BodyError::Stalled)));
}

#[tokio::test]
async fn an_upgrade_goes_over_http1() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let upgrade = Request::get("/ws").header("host", "site.test").header("connection", "upgrade");
    let upgrade = upgrade.header("upgrade", "websocket").body(Body::Empty).unwrap();
    let config = group_of(&server);
    let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let (fetched, _) = join!(rig.origins.fetch(&config, upgrade, None), server.answer(switch));
    assert_eq!(fetched.unwrap().response.status(), 101);
}

#[tokio::test(start_paused = true)]
async fn an_unused_connection_is_closed_after_its_time() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let config = group_of(&server);
    let serve = async {
        let mut connection = accept(&server, 100).await;
        answer(&mut next(&mut connection).await, "one");
        drive(connection).await; // ends when the client closes
    };
    let (body, ()) = join!(rig.read(&config, "/"), serve);
    assert_eq!(body, "one");
    tokio::time::sleep(Duration::from_secs(2)).await; // virtual
    assert_eq!((rig.stats().open.read(), rig.stats().idle.read()), (0, 0));
}
