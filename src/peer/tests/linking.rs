use super::super::AskError;
use super::*;
use crate::proto::swarm::NodeId;
use bytes::Bytes;
use futures_util::future::join_all;

#[tokio::test]
async fn both_sides_know_each_other_once_a_connection_stands() {
    let (first, mut second, link) = pair().await;
    assert_eq!(link.member(), second.links.me());
    let there = second.up().await;
    let Member { id, address, zone, roles, incarnation, .. } = there.member();
    // What it says it is, as far as its certificate lets it.
    assert_eq!((*id, *address), (first.links.me().id, first.at()));
    assert_eq!((&**zone, *roles, *incarnation), ("z", Roles::EDGE, 1));
    assert!(second.links.get(*id).is_some_and(|link| link.is(&there)));
    assert!(link.round_trip() < PATIENCE && link.bytes().0 > 0 && link.bytes().1 > 0);
}

#[tokio::test]
async fn a_connection_that_stands_is_used_and_dials_at_once_are_one() {
    let authority = authority();
    let (first, second) = (Node::of(&authority, BOTH), Node::of(&authority, BOTH));
    let (at, id) = (second.at(), second.links.me().id);
    let dials = join_all((0..8).map(|_| first.links.connect(at, Some(id))));
    let links: Vec<_> = in_time(dials).await.into_iter().map(|link| link.expect("a connection")).collect();
    assert!(links.iter().all(|link| link.is(&links[0])));
    assert!(in_time(first.links.connect(at, None)).await.unwrap().is(&links[0]));
    assert!(in_time(first.links.connect(at, Some(id))).await.unwrap().is(&links[0]));
    assert_eq!(first.count("shoal_peer_dials_total{result=\"success\"}"), 1);
    assert_eq!(first.count("shoal_peer_links"), 1);
}

#[tokio::test]
async fn a_dial_goes_on_when_the_one_who_wanted_it_leaves() {
    let authority = authority();
    let (mut first, second) = (Node::of(&authority, BOTH), Node::of(&authority, BOTH));
    {
        let dial = first.links.connect(second.at(), None);
        assert!(futures_util::FutureExt::now_or_never(dial).is_none());
    }
    assert_eq!(first.up().await.member().id, second.links.me().id);
}

#[tokio::test]
async fn two_that_dial_each_other_at_once_can_both_ask_and_are_down_only_when_all_is_gone() {
    let authority = authority();
    let (mut first, mut second) = (Node::of(&authority, BOTH), Node::of(&authority, BOTH));
    let (one, other) = (first.at(), second.at());
    let dials = async { tokio::join!(first.links.connect(other, None), second.links.connect(one, None)) };
    let (forth, back) = in_time(dials).await;
    let (forth, back) = (forth.expect("dialled"), back.expect("dialled"));
    let links = [first.up().await, first.up().await];
    assert!(links.iter().all(|link| link.member().id == second.links.me().id));
    let newest = first.links.get(second.links.me().id).unwrap();
    assert!(newest.is(&links[1]));
    for (link, node) in [(&forth, &mut second), (&back, &mut first)] {
        let mut asking = link.ask(read()).await.unwrap();
        node.asked().await.1.finish();
        assert_eq!(in_time(asking.frame()).await, Ok(None));
    }
    links[1].connection().close(0_u32.into(), b"");
    in_time(async {
        while first.count("shoal_peer_links") > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(first.links.get(second.links.me().id).unwrap().is(&links[0]));
    assert!(first.events.try_recv().is_err(), "one connection stands yet");
    links[0].connection().close(0_u32.into(), b"");
    assert!(matches!(first.event().await, LinkEvent::Down(node) if node == second.links.me().id));
    assert_eq!(first.count("shoal_peer_links"), 0);
}

#[tokio::test]
async fn a_node_that_starts_anew_takes_the_place_of_its_earlier_life() {
    let authority = authority();
    let mut stable = Node::of(&authority, BOTH);
    let same_key = identity(&authority, Roles::EDGE);
    let before = Node::open(same_key.clone(), 1);
    in_time(before.links.connect(stable.at(), None)).await.unwrap();
    let old = stable.up().await;
    let after = Node::open(same_key, 2);
    in_time(after.links.connect(stable.at(), None)).await.unwrap();
    assert_eq!(stable.up().await.member().incarnation, 2);
    in_time(old.connection().closed()).await;
    assert_eq!(stable.links.get(before.links.me().id).unwrap().member().incarnation, 2);
    assert_eq!(stable.count("shoal_peer_links"), 1);
}

#[tokio::test]
async fn a_datagram_arrives_with_its_sender() {
    let (first, mut second, link) = pair().await;
    let packet = Bytes::from(vec![5; 1100]);
    link.datagram(packet.clone());
    second.up().await;
    let LinkEvent::Datagram { link, bytes } = second.event().await else { panic!("no datagram") };
    assert_eq!((link.member().id, bytes), (first.links.me().id, packet));
}

#[tokio::test]
async fn a_node_that_closes_says_so_and_can_be_stopped() {
    let (first, mut second, link) = pair().await;
    second.up().await;
    in_time(first.links.0.close()).await;
    assert!(matches!(second.event().await, LinkEvent::Down(node) if node == first.links.me().id));
    assert_eq!(link.ask(read()).await.err(), Some(AskError::Unreachable));
    assert_eq!(in_time(first.links.connect(second.at(), None)).await.err(), Some(AskError::Unreachable));
    assert!(first.spawner.stop(PATIENCE).await);
    // One that is stopped without having closed closes then.
    assert!(second.spawner.stop(PATIENCE).await);
}

#[tokio::test]
async fn questions_that_nobody_takes_are_refused_and_do_not_pile_up() {
    let (_first, second, link) = pair().await;
    let Node { links, mut events, .. } = second;
    // The channel is full, which is made so by its other end.
    while links.0.events.try_send(LinkEvent::Down(NodeId::default())).is_ok() {}
    let mut asking = link.ask(read()).await.unwrap();
    assert_eq!(in_time(asking.frame()).await, Err(AskError::Refused));
    let refused = second.metrics.encode();
    assert!(refused.contains("shoal_peer_streams_refused_total{reason=\"busy\"} 1\n"));
    while events.try_recv().is_ok() {}
    let _asking = link.ask(read()).await.unwrap();
    assert!(matches!(in_time(events.recv()).await, Some(LinkEvent::Asked { .. })));
}
