//! What an operator is told of the fleet: who has an object, how old, and who would answer.

use super::cluster::{Fleet, SUPERPEER};
use crate::common::origin::head;
use crate::common::{Barrier, in_time, reply, until};
use serde_json::Value;
use shoal::proto::swarm::Roles;

const FRESH: &str = "Cache-Control: max-age=600";

async fn explain(fleet: &Fleet, edge: usize, path: &str) -> Value {
    let node = &fleet.edge(edge).assembly.node;
    let url = format!("http://site.test{path}");
    serde_json::to_value(in_time("the fleet's answer", node.explain_in_fleet(&url)).await.unwrap()).unwrap()["fleet"].clone()
}

/// Names and states, this node's first.
fn states(fleet: &Value) -> Vec<(&str, &str)> {
    let nodes = fleet["nodes"].as_array().unwrap();
    nodes.iter().map(|node| (node["node"].as_str().unwrap(), node["state"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn each_edge_tells_what_it_has_and_nothing_changes_by_it() {
    let fleet = Fleet::of_edges(3).await;
    fleet.origin.says("/x", reply(200, &[FRESH, "Age: 100"], "0123456789"));
    fleet.edge(1).warm("/x").await;
    until("announcements", || {
        fleet.nodes[..2].iter().all(|node| node.metric("shoal_directory_holdings ") >= 1.0)
    })
    .await;
    let told = explain(&fleet, 0, "/x").await;
    assert_eq!(states(&told), [("node2", "nothing"), ("node3", "memory"), ("node4", "nothing")]);
    let other = &told["nodes"][1];
    let held = &other["versions"][0];
    assert!(held["age"].as_u64().unwrap() >= 100 && held["ttl"].as_i64().unwrap() <= 500, "{held}");
    assert_eq!(
        (&held["length"], &held["status"], &held["vary"]),
        (&10.into(), &200.into(), &Value::Array(vec![]))
    );
    assert_eq!((&told["directory"], &told["holders"][0]), (&"holders".into(), &other["node"]));
    assert_eq!(told["next"], format!("one of {}", other["node"].as_str().unwrap()));

    // Who has it says that it answers itself.
    assert_eq!(explain(&fleet, 1, "/x").await["next"], "this node");
    // Nobody has it: a question is no request, takes no lease and leaves nothing behind.
    for _ in 0..2 {
        let told = explain(&fleet, 2, "/unknown").await;
        assert_eq!((&told["directory"], states(&told).len()), (&"nothing".into(), 3));
        assert_eq!(told["next"], "the origin, which this node would ask under a lease");
    }
    assert_eq!((fleet.origin.count("/x"), fleet.origin.count("/unknown")), (1, 0));
}

#[tokio::test]
async fn what_arrives_is_told_and_what_is_personal_is_not() {
    let roles = [SUPERPEER, Roles::EDGE, Roles::EDGE];
    let fleet = Fleet::of(&roles, "rules = [{ path = \"/own/*\", peers = false }]").await;
    fleet.origin.says("/own/x", reply(200, &[FRESH], "body"));
    fleet.origin.says("/p", reply(200, &["Cache-Control: public, max-age=600"], "body"));
    fleet.edge(1).warm("/own/x").await;
    fleet.edge(1).ask("GET", "/p", &["Authorization: Basic eA=="]).await.assert_is(200, "body");
    fleet.settled().await;
    let told = explain(&fleet, 0, "/own/x").await;
    assert_eq!((&told["shared"], states(&told).len()), (&false.into(), 1), "nobody is asked");
    let told = explain(&fleet, 0, "/p").await;
    assert!(states(&told).iter().all(|(_, state)| *state == "nothing"), "{told}");

    let barrier = Barrier::closed();
    let held = barrier.clone();
    fleet.origin.script("/slow", move |mut exchange| {
        let held = held.clone();
        async move {
            exchange.send(head(200, &[FRESH, "Content-Length: 8"])).await;
            exchange.send("half").await;
            held.pass().await;
            exchange.send("half").await;
            exchange
        }
    });
    let _client = fleet.edge(1).begin("GET", "/slow", &[]).await;
    in_time("the fill", async {
        loop {
            let told = explain(&fleet, 0, "/slow").await;
            if states(&told).iter().any(|(_, state)| *state == "arriving") {
                assert!(told["next"].as_str().unwrap().ends_with("where it arrives"), "{told}");
                return;
            }
        }
    })
    .await;
    barrier.open();
}
