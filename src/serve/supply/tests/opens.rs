//! The home edge.

use super::*;
use crate::proto::wire::code;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// An origin that answers every request alike; the heads of the requests come on the channel.
async fn origin(rig: &Spawner, response: &'static str) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let (heads, seen) = mpsc::channel(16);
    rig.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            heads.send(String::from_utf8(head).unwrap()).await.unwrap();
            stream.write_all(response.as_bytes()).await.unwrap();
        }
    });
    (at, seen)
}

fn open(path: &str, fields: &[(&str, &str)]) -> wire::Open {
    let field = |&(name, value): &(&str, &str)| wire::Field { name: name.into(), value: value.into() };
    wire::Open {
        key: cache_key(path).as_bytes().to_vec(),
        fields: fields.iter().map(field).collect(),
        read: Some(all_of(path)),
        hops: 1,
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 5\r\n\r\nhello";

#[tokio::test]
async fn what_is_not_stored_is_fetched_once_and_then_given_from_the_store() {
    let (at, mut seen) = origin(&Spawner::current(), OK).await;
    let rig = Rig::before(&at, "").await;
    let mut asked = rig.ask(ask::Kind::Open(open("/a?q", &[("accept", "text/css"), ("range", "bytes=3-")])));
    let head = asked.head().await;
    assert_eq!((head.status, head.length), (200, Some(5)));
    assert_eq!(asked.bytes(5).await, b"hello");
    let request = seen.recv().await.unwrap().to_lowercase();
    assert!(request.starts_with("get /a?q http/1.1\r\n"), "{request}");
    assert!(
        request.contains("host: shop.example\r\n") && request.contains("accept: text/css\r\n"),
        "{request}"
    );
    assert!(!request.contains("range:"), "the whole is fetched: {request}");
    while rig.node().fills.open() > 0 {
        tokio::task::yield_now().await;
    }
    let mut again = rig.ask(ask::Kind::Open(open("/a?q", &[])));
    assert!(!again.head().await.arriving);
    assert_eq!(again.rest().await.bytes, b"hello");
    assert!(seen.try_recv().is_err(), "the origin was asked once");
}

#[tokio::test]
async fn a_variant_is_selected_by_the_fields_that_came_along() {
    const VARYING: &str = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\nvary: accept-encoding\r\n\
                           content-length: 5\r\n\r\nhello";
    let (at, _seen) = origin(&Spawner::current(), VARYING).await;
    let rig = Rig::before(&at, "").await;
    let mut asked = rig.ask(ask::Kind::Open(open("/a", &[("accept-encoding", "gzip")])));
    let head = asked.head().await;
    assert_eq!(head.vary, ["accept-encoding"]);
    assert_eq!(head.variant, varying("/a").0.variant.0);
}

#[tokio::test]
async fn nothing_is_fetched_for_what_an_open_may_not_ask() {
    let (at, mut seen) = origin(&Spawner::current(), OK).await;
    let rig = Rig::before(&at, "").await;
    let refused = async |open| rig.ask(ask::Kind::Open(open)).refused().await;
    for name in ["cookie", "authorization", "proxy-authorization"] {
        assert_eq!(refused(open("/a", &[(name, "secret")])).await, code::FORBIDDEN, "{name}");
    }
    assert_eq!(refused(wire::Open { hops: 2, ..open("/a", &[]) }).await, code::PROTOCOL);
    assert_eq!(refused(wire::Open { read: None, ..open("/a", &[]) }).await, code::PROTOCOL);
    assert_eq!(refused(wire::Open { key: vec![7], ..open("/a", &[]) }).await, code::PROTOCOL);
    assert_eq!(refused(wire::Open { read: Some(all_of("/b")), ..open("/a", &[]) }).await, code::PROTOCOL);
    assert_eq!(refused(open("/a", &[("a b", "")])).await, code::PROTOCOL);
    assert_eq!(rig.answered("refused"), 8);

    let only = async |open| rig.ask(ask::Kind::Open(open)).only().await;
    let many = vec![("x-many", "1"); 40_000];
    assert_eq!(only(open("/a", &many)).await, gone(), "more fields than a client may send");
    let key = CacheKey::new(KeyParts { site: "old", scheme: Scheme::Http, host: "shop.example", path: "/a" });
    let read = wire::Read { object: key.object().0.to_vec(), ..all_of("/a") };
    let elsewhere = wire::Open { key: key.as_bytes().to_vec(), read: Some(read), ..open("/a", &[]) };
    assert_eq!(only(elsewhere).await, gone(), "another key than by this node's routes");
    assert_eq!(only(open("/own/x", &[])).await, gone(), "a rule keeps it from peers");
    let not = wire::NotStored { server_error: false, of_object: false };
    assert_eq!(only(open("/private/x", &[])).await, reply::Kind::NotStored(not.clone()), "a rule passes it");
    assert_eq!(only(open("/a", &[("cache-control", "no-store")])).await, reply::Kind::NotStored(not));
    assert!(seen.try_recv().is_err(), "the origin was never asked");
}

#[tokio::test]
async fn what_the_origin_gives_that_may_not_be_stored_is_told_and_not_given() {
    let (at, _seen) = origin(
        &Spawner::current(),
        "HTTP/1.1 200 OK\r\ncache-control: no-store\r\ncontent-length: 1\r\n\r\nx",
    )
    .await;
    let rig = Rig::before(&at, "").await;
    let not = wire::NotStored { server_error: false, of_object: true };
    for _ in 0..2 {
        let only = rig.ask(ask::Kind::Open(open("/a", &[]))).only().await;
        assert_eq!(only, reply::Kind::NotStored(not.clone()));
    }
    assert_eq!(rig.answered("not_stored"), 2);
}

#[tokio::test]
async fn an_origin_that_cannot_be_reached_is_told() {
    let rig = Rig::before("127.0.0.1:1", "").await;
    let only = rig.ask(ask::Kind::Open(open("/a", &[]))).only().await;
    assert!(matches!(&only, reply::Kind::Failed(failed) if failed.reason == "connect"), "{only:?}");
}
