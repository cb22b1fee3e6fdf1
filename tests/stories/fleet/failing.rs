//! What is lost when a part of the fleet is, and what is not.

use super::cluster::Fleet;
use crate::common::{content, reply, until};

const FRESH: &str = "Cache-Control: max-age=60";

#[tokio::test]
async fn when_a_superpeer_dies_the_other_answers() {
    let mut fleet = Fleet::of_edges(3).await;
    let body = content(100_000);
    for name in 0..20 {
        fleet.origin.says(&format!("/{name}"), reply(200, &[FRESH], &body));
        fleet.edge(0).warm(&format!("/{name}")).await;
    }
    until("announcements", || {
        fleet.nodes[..2].iter().all(|node| node.metric("shoal_directory_holdings ") >= 20.0)
    })
    .await;
    fleet.nodes.remove(0).crash().await;
    for name in 0..20 {
        fleet.edge(1).get(&format!("/{name}")).await.assert_is(200, &body);
        assert_eq!(fleet.origin.count(&format!("/{name}")), 1);
    }
}

#[tokio::test]
async fn without_superpeers_the_home_edge_fetches_for_all() {
    let mut fleet = Fleet::of_edges(3).await;
    fleet.nodes.remove(0).crash().await;
    fleet.nodes.remove(0).crash().await;
    let body = content(100_000);
    for name in 0..20 {
        let path = format!("/{name}");
        fleet.origin.says(&path, reply(200, &[FRESH], &body));
        for index in 0..3 {
            fleet.edge(index).get(&path).await.assert_is(200, &body);
        }
        fleet.settled().await;
        assert_eq!(fleet.origin.count(&path), 1, "{path}");
    }
}

#[tokio::test]
async fn a_holder_that_is_gone_costs_one_fetch_more() {
    let mut fleet = Fleet::of_edges(3).await;
    let body = content(100_000);
    fleet.origin.says("/x", reply(200, &[FRESH], &body));
    fleet.edge(0).warm("/x").await;
    until("announcements", || fleet.nodes[0].metric("shoal_directory_holdings ") >= 1.0).await;
    fleet.nodes.remove(2).crash().await;
    for index in 0..2 {
        fleet.edge(index).get("/x").await.assert_is(200, &body);
    }
    assert_eq!(fleet.origin.count("/x"), 2);
}

#[tokio::test]
async fn a_leave_in_order_is_known_at_once() {
    let mut fleet = Fleet::of_edges(3).await;
    let leaving = fleet.nodes.remove(4);
    leaving.leave().await;
    until("the others to know", || fleet.nodes.iter().all(|node| node.metric("shoal_swarm_members") <= 4.0))
        .await;
    fleet.origin.says("/x", reply(200, &[FRESH], "x"));
    for index in 0..2 {
        fleet.edge(index).get("/x").await.assert_is(200, "x");
    }
    assert_eq!(fleet.origin.count("/x"), 1);
}
