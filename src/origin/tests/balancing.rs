use super::fixture::*;
use crate::body::Body;
use crate::config::model::Balance;
use crate::origin::FetchError;
use std::sync::Arc;
use std::time::Duration;
use tokio::join;

#[tokio::test]
async fn round_robin_asks_in_turn() {
    let (rig, a, b) = (Rig::new(), Server::new().await, Server::new().await);
    let config = Arc::new(group(&[a.server(), b.server()]));
    let serve = |server: Server| async move {
        let mut peer = server.answer(ok("")).await;
        peer.answer(ok("")).await;
        peer
    };
    let fetches = async {
        let mut asked = Vec::new();
        for _ in 0..4 {
            let fetched = rig.get(&config, "/").await.unwrap();
            asked.push(config.servers.iter().position(|server| *server == fetched.server).unwrap());
        }
        asked
    };
    let (asked, _a, _b) = join!(fetches, serve(a), serve(b));
    assert_eq!(asked, [0, 1, 0, 1]);
}

#[tokio::test]
async fn least_connections_avoids_the_busy_server() {
    let (rig, a, b) = (Rig::new(), Server::new().await, Server::new().await);
    let mut config = group(&[a.server(), b.server()]);
    config.balance = Balance::LeastConnections;
    let config = Arc::new(config);
    let unfinished = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n";
    let (busy, _peer) = join!(rig.get(&config, "/"), a.answer(unfinished));
    let mut peer = {
        let (fetched, peer) = join!(rig.get(&config, "/"), b.answer(ok("")));
        assert_eq!(fetched.unwrap().server, b.server());
        peer
    };
    let (fetched, _) = join!(rig.get(&config, "/"), peer.answer(ok("")));
    assert_eq!(fetched.unwrap().server, b.server(), "its turn would be the busy one's");
    drop(busy);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_down_is_passed_over_avoided_and_tried_again() {
    let (rig, up) = (Rig::new(), Server::new().await);
    let down = Server::new().await;
    let mut config = group(&[down.server(), up.server()]);
    (config.retries, config.fail_max) = (1, 1);
    let config = Arc::new(config);
    let down_server = down.server();
    drop(down);

    let (fetched, mut peer) = join!(rig.get(&config, "/"), up.answer(ok("")));
    assert_eq!(fetched.unwrap().attempts, 2);
    for _ in 0..3 {
        let (fetched, _) = join!(rig.get(&config, "/"), peer.answer(ok("")));
        assert_eq!(fetched.unwrap().attempts, 1, "the server that is down is avoided");
    }
    let view =
        |rig: &Rig| rig.shared.upstreams().into_iter().find(|view| view.server == down_server).unwrap();
    assert!(!view(&rig).available);
    tokio::time::sleep(config.fail_timeout).await; // virtual
    assert!(view(&rig).available);
    let mut attempts = Vec::new();
    for _ in 0..4 {
        let (fetched, _) = join!(rig.get(&config, "/"), peer.answer(ok("")));
        attempts.push(fetched.unwrap().attempts);
    }
    assert_eq!(attempts.iter().sum::<u32>(), 5, "one probe, then avoided for twice as long");
}

#[tokio::test]
async fn when_all_are_down_all_are_tried_each_time() {
    let rig = Rig::new();
    let mut config = group(&[Server::down().await, Server::down().await]);
    (config.retries, config.fail_max) = (5, 1);
    let config = Arc::new(config);
    for round in 1..=2 {
        assert!(matches!(rig.get(&config, "/").await, Err(FetchError::Connect(_))));
        assert_eq!(rig.stats().failures(crate::origin::FailureKind::Connect), round * 2);
    }
}

#[tokio::test]
async fn retries_are_bounded_by_the_group() {
    let rig = Rig::new();
    let mut config =
        group(&[Server::down().await, Server::down().await, Server::down().await, Server::down().await]);
    config.retries = 2;
    assert!(rig.get(Arc::new(config), "/").await.is_err());
    assert_eq!(rig.stats().retries.read(), 2);
}

#[tokio::test]
async fn a_pin_keeps_to_its_server() {
    let (rig, up, down) = (Rig::new(), Server::new().await, Server::down().await);
    let mut config = group(&[up.server(), down.clone()]);
    config.retries = 3;
    let config = Arc::new(config);
    let pinned = |pin| rig.origins.fetch(&config, request("GET", "/", Body::Empty), Some(pin));
    assert!(matches!(pinned(&down).await, Err(FetchError::Connect(_))));
    let server = up.server();
    let (fetched, _) = join!(pinned(&server), up.answer(ok("")));
    assert_eq!(fetched.unwrap().server, server);
    let gone = crate::config::model::OriginServer { port: 1, ..down.clone() };
    assert!(matches!(pinned(&gone).await, Err(FetchError::NoServer)));
}

#[tokio::test]
async fn a_server_that_dies_in_every_body_is_found_out() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let mut config = group(&[server.server()]);
    (config.fail_max, config.fail_timeout) = (2, Duration::from_secs(1000));
    let config = Arc::new(config);
    for _ in 0..2 {
        assert!(rig.shared.upstreams().iter().all(|view| view.available));
        let (fetched, ()) = join!(rig.get(&config, "/"), async {
            drop(server.answer("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc").await);
        });
        assert!(text(fetched.unwrap()).await.is_err());
    }
    assert!(!rig.shared.upstreams()[0].available);
}
