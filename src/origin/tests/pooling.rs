use super::fixture::*;
use crate::origin::{FetchError, Origins};
use std::sync::Arc;
use std::time::Duration;
use tokio::join;

const UNFINISHED: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab";

fn with_connections(server: &Server, connections_max: usize) -> Arc<crate::config::model::OriginGroup> {
    let mut config = group(&[server.server()]);
    config.connections_max = connections_max;
    Arc::new(config)
}

#[tokio::test(start_paused = true)]
async fn connections_are_bounded_and_who_waits_too_long_is_refused() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let config = with_connections(&server, 1);
    let (first, _peer) = join!(rig.get(&config, "/"), server.answer(UNFINISHED));
    let error = rig.get(&config, "/2").await.err().unwrap();
    assert!(matches!(error, FetchError::TooManyConnections) && error.never_processed());
    assert_eq!((rig.stats().connects.read(), rig.stats().waiting.read()), (1, 0));
    assert!(rig.shared.upstreams()[0].available, "it is not the server's fault");
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn who_waits_gets_the_connection_that_becomes_free() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let config = with_connections(&server, 1);
    let (first, mut peer) = join!(rig.get(&config, "/"), server.answer(UNFINISHED));
    let free = async {
        tokio::task::yield_now().await;
        let (text, ()) = join!(text(first.unwrap()), peer.send("cd"));
        assert_eq!(text.unwrap(), "abcd");
        for number in 2..=4 {
            let head = peer.answer(ok("next")).await;
            assert!(head.starts_with(&format!("GET /{number} ")), "in the order of asking: {head}");
        }
    };
    let (two, three, four, ()) =
        join!(rig.read(&config, "/2"), rig.read(&config, "/3"), rig.read(&config, "/4"), free);
    assert_eq!([two, three, four], ["next", "next", "next"]);
    assert_eq!(rig.stats().connects.read(), 1);
}

#[tokio::test]
async fn a_connection_that_dies_makes_room_for_who_waits() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let config = with_connections(&server, 1);
    let (first, _peer) = join!(rig.get(&config, "/"), server.answer(UNFINISHED));
    let (second, _, ()) = join!(rig.read(&config, "/2"), server.answer(ok("two")), async {
        drop(first);
    });
    assert_eq!(second, "two");
}

#[tokio::test]
async fn an_idle_connection_of_another_worker_makes_room() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let other = Origins::new(rig.shared.clone(), rig.spawner.child());
    let config = with_connections(&server, 1);
    let (_, peer) = join!(rig.read(&config, "/"), server.answer(ok("one")));
    let fetch = other.fetch(&config, request("GET", "/2", crate::body::Body::Empty), None);
    let (fetched, _, ()) = join!(fetch, server.answer(ok("two")), peer.closed());
    assert_eq!(text(fetched.unwrap()).await.unwrap(), "two");
    assert_eq!(rig.stats().idle.read(), 1);
}

#[tokio::test]
async fn a_worker_whose_connection_becomes_free_makes_room_for_another() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let other = Origins::new(rig.shared.clone(), rig.spawner.child());
    let config = with_connections(&server, 1);
    let (first, mut peer) = join!(rig.get(&config, "/"), server.answer(UNFINISHED));
    let fetch = other.fetch(&config, request("GET", "/2", crate::body::Body::Empty), None);
    let (fetched, _, ()) = join!(fetch, server.answer(ok("two")), async {
        let (text, ()) = join!(text(first.unwrap()), peer.send("cd"));
        assert_eq!(text.unwrap(), "abcd");
        peer.closed().await;
    });
    assert_eq!(text(fetched.unwrap()).await.unwrap(), "two");
}

#[tokio::test]
async fn who_gives_up_waiting_leaves_no_trace() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let config = with_connections(&server, 1);
    let (first, mut peer) = join!(rig.get(&config, "/"), server.answer(UNFINISHED));
    {
        let waiting = std::pin::pin!(rig.get(&config, "/2"));
        let moment = std::pin::pin!(tokio::task::yield_now());
        drop(futures_util::future::select(waiting, moment).await);
        assert_eq!(rig.stats().waiting.read(), 1);
    }
    assert_eq!(rig.stats().waiting.read(), 0);
    let (text, ()) = join!(text(first.unwrap()), peer.send("cd"));
    assert_eq!(text.unwrap(), "abcd");
    let (third, head) = join!(rig.read(&config, "/3"), peer.answer(ok("three")));
    assert_eq!(third, "three");
    assert!(head.starts_with("GET /3 "), "{head}");
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_closed_after_their_time() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let config = server.group();
    let (_, peer) = join!(rig.read(&config, "/"), server.answer(ok("")));
    peer.closed().await; // in virtual time
    assert_eq!((rig.stats().open.read(), rig.stats().idle.read()), (0, 0));
}

#[tokio::test]
async fn no_more_idle_connections_are_kept_than_asked_for() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let mut config = group(&[server.server()]);
    config.idle_max = 1;
    let config = Arc::new(config);
    let (first, second) = join!(rig.get(&config, "/1"), async {
        let fetch = rig.get(&config, "/2");
        join!(fetch, server.answer(UNFINISHED), server.answer(UNFINISHED))
    });
    let (second, mut a, mut b) = second;
    join!(a.send("cd"), b.send("cd"));
    text(first.unwrap()).await.unwrap();
    text(second.unwrap()).await.unwrap();
    assert_eq!(rig.stats().idle.read(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reload_keeps_connections_and_a_group_that_is_gone_leaves_nothing() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let old = server.group();
    let (_, mut peer) = join!(rig.read(&old, "/"), server.answer(ok("")));
    let new = server.group();
    drop(old);
    let (_, _) = join!(rig.read(&new, "/"), peer.answer(ok("")));
    assert_eq!(rig.stats().connects.read(), 1);
    drop(new);
    tokio::time::sleep(Duration::from_secs(62)).await; // virtual: idle_timeout and two sweeps
    assert!(rig.shared.upstreams().is_empty());
    peer.closed().await;
    assert_eq!((rig.stats().open.read(), rig.stats().idle.read()), (0, 0));
}

#[tokio::test]
async fn a_worker_that_ends_closes_its_connections() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let (_, peer) = join!(rig.read(server.group(), "/"), server.answer(ok("")));
    let Rig { origins, shared, spawner, .. } = rig;
    drop(origins);
    peer.closed().await;
    assert_eq!((shared.stats().open.read(), shared.stats().idle.read()), (0, 0));
    assert!(spawner.stop(Duration::from_secs(5)).await);
}
