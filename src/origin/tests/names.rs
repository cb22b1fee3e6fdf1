use super::fixture::*;
use crate::clock::Clock;
use crate::config::model::OriginServer;
use crate::origin::FetchError;
use crate::origin::resolve::{Names, Resolver, TTL_MIN};
use crate::origin::{FixedNames, OriginStats};
use crate::proto::time::Wall;
use crate::task::Spawner;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::join;

const LOOPBACK: [u8; 4] = [127, 0, 0, 1];

fn address(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn names() -> (Arc<FixedNames>, Names, Arc<OriginStats>) {
    let (fixed, stats) = (Arc::new(FixedNames::default()), Arc::new(OriginStats::default()));
    let clock = Clock::simulated(Wall::from_secs(0));
    let names = Names::new(Resolver::Fixed(fixed.clone()), clock, Spawner::current(), stats.clone());
    (fixed, names, stats)
}

async fn wait(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await; // virtual
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_used_for_its_ttl_then_refreshed_behind_the_request() {
    let (fixed, names, _) = names();
    fixed.set("origin.test", vec![address(1)], Duration::from_secs(10));
    assert_eq!(names.resolve("origin.test").await.unwrap()[..], [address(1)]);
    fixed.set("origin.test", vec![address(2)], Duration::from_secs(10));
    wait(9).await;
    assert_eq!(names.resolve("origin.test").await.unwrap()[..], [address(1)]);
    assert_eq!(fixed.asked(), 1);
    wait(2).await;
    assert_eq!(names.resolve("origin.test").await.unwrap()[..], [address(1)], "without waiting");
    wait(1).await;
    assert_eq!(names.resolve("origin.test").await.unwrap()[..], [address(2)]);
    assert_eq!(fixed.asked(), 2);
    wait(1000).await;
    fixed.set("origin.test", vec![address(3)], Duration::from_secs(10));
    assert_eq!(names.resolve("origin.test").await.unwrap()[..], [address(3)], "too old: waits");
}

#[tokio::test(start_paused = true)]
async fn ttls_have_a_floor_and_one_question_serves_all() {
    let (fixed, names, _) = names();
    fixed.set("origin.test", vec![address(1)], Duration::ZERO);
    let (a, b) = join!(names.resolve("origin.test"), names.resolve("origin.test"));
    assert!(a.is_ok() && b.is_ok());
    names.resolve("origin.test").await.unwrap();
    assert_eq!(fixed.asked(), 1);
    tokio::time::sleep(TTL_MIN).await; // virtual
    names.resolve("origin.test").await.unwrap();
    tokio::task::yield_now().await; // the refresh runs behind
    assert_eq!(fixed.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn when_the_resolver_fails_the_last_answer_is_used_on() {
    let (fixed, names, stats) = names();
    fixed.set("origin.test", vec![address(1)], Duration::from_secs(10));
    names.resolve("origin.test").await.unwrap();
    fixed.fail("origin.test");
    wait(5000).await;
    assert_eq!(names.resolve("origin.test").await.unwrap()[..], [address(1)]);
    assert_eq!(stats.resolve_stale.read(), 1);
    fixed.set("origin.test", vec![address(2)], Duration::from_secs(10));
    wait(100).await;
    assert_eq!(names.resolve("origin.test").await.unwrap()[..], [address(2)]);
}

#[tokio::test(start_paused = true)]
async fn a_name_without_an_answer_fails_at_once_for_a_moment_and_is_asked_again() {
    let (fixed, names, _) = names();
    for _ in 0..10 {
        assert!(names.resolve("origin.test").await.is_err());
    }
    assert_eq!(fixed.asked(), 1);
    fixed.set("origin.test", vec![address(1)], Duration::from_secs(10));
    wait(2).await;
    assert!(names.resolve("origin.test").await.is_ok());
}

#[tokio::test]
async fn literals_need_no_resolver_and_addresses_alternate_by_family() {
    let (fixed, names, _) = names();
    assert_eq!(names.resolve("192.0.2.9").await.unwrap()[..], [address(9)]);
    assert_eq!(names.resolve("::1").await.unwrap()[..], ["::1".parse::<IpAddr>().unwrap()]);
    assert_eq!(fixed.asked(), 0);
}

#[tokio::test]
async fn families_alternate_and_connections_spread_over_addresses() {
    let (fixed, names, _) = names();
    let six = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]);
    fixed.set("origin.test", vec![address(1), address(2), address(1), six(1)], Duration::from_secs(9));
    let one = names.resolve("origin.test").await.unwrap();
    let two = names.resolve("origin.test").await.unwrap();
    let mut orders = [one.to_vec(), two.to_vec()];
    orders.sort();
    orders.iter().for_each(|order| assert_eq!(order[0], six(1)));
    assert_eq!([&orders[0][1..], &orders[1][1..]], [[address(1), address(2)], [address(2), address(1)]]);
}

#[tokio::test]
async fn localhost_resolves_by_the_system() {
    let stats = Arc::new(OriginStats::default());
    let names = Names::new(Resolver::system(), Clock::system(), Spawner::current(), stats);
    let addresses = names.resolve("localhost").await.unwrap();
    assert!(!addresses.is_empty() && addresses.iter().all(IpAddr::is_loopback), "{addresses:?}");
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_fails() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let dead = IpAddr::from([127, 0, 0, 2]); // loopback, but nobody listens there
    rig.names.set("origin.test", vec![dead, LOOPBACK.into()], Duration::from_secs(60));
    let named = OriginServer { host: "origin.test".into(), ..server.server() };
    let config = Arc::new(group(&[named]));
    let (body, _) = join!(rig.read(&config, "/"), server.answer(ok("here")));
    assert_eq!(body, "here");
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_an_error_that_allows_another_server() {
    let (rig, server) = (Rig::new(), Server::new().await);
    let unknown = OriginServer { tls: false, host: "unknown.test".into(), port: 80 };
    let alone = rig.get(&Arc::new(group(std::slice::from_ref(&unknown))), "/").await.err().unwrap();
    assert!(matches!(alone, FetchError::Resolve { .. }) && alone.never_processed());
    let mut config = group(&[unknown, server.server()]);
    config.retries = 1;
    let (body, _) = join!(rig.read(Arc::new(config), "/"), server.answer(ok("here")));
    assert_eq!(body, "here");
}
