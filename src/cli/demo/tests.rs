//! The demo's workload against an origin in place of an edge: its figures must agree with the
//! origin's own.

use super::*;
use crate::cli::origin;

#[tokio::test]
async fn the_figures_agree_with_the_origins() {
    let spawner = Spawner::current();
    let args = origin::Args { listen: "127.0.0.1:0".parse().unwrap(), rate: None, delay: 0, workers: None };
    let origin = origin::start(&args, Clock::system(), &spawner).unwrap();
    let place = Place { origin, edge: origin, metrics: None };
    let mut children = Children::new("/bin/sh".into(), spawner);
    children.start("edge", &["-c", "echo ready; exec sleep 1000"]).await.unwrap();
    let trace = Arc::new(generate(3, 50));
    let mut ending = Ending::listen().unwrap();
    let summary =
        ask(Duration::from_millis(300), trace.clone(), &place, &mut children, &mut ending).await.unwrap();
    children.end().await;

    assert!(summary.passed(), "{summary}");
    let json = serde_json::to_value(&summary).unwrap();
    let number = |pointer: &str| json.pointer(pointer).and_then(serde_json::Value::as_u64).unwrap();
    assert_eq!(number("/origin/requests"), number("/requests"));
    assert_eq!(number("/origin/bytes"), number("/served_bytes/origin"));
    assert!(number("/requests") > 50);
    assert_eq!(number("/unique_bytes"), trace.objects().iter().map(|object| object.size).sum::<u64>());
    assert_eq!((number("/errors"), number("/mismatches")), (0, 0));
    for source in ["memory", "disk", "peer"] {
        assert_eq!(number(&format!("/served_bytes/{source}")), 0);
    }
    // Nothing is cached, so the origin sent all that the client got.
    assert_eq!(json["offload"], 0.0);
    assert!(json["origin_ratio"].as_f64().unwrap() > 1.0);
}

#[tokio::test]
async fn an_edge_that_ends_ends_the_demo() {
    let spawner = Spawner::current();
    let args = origin::Args { listen: "127.0.0.1:0".parse().unwrap(), rate: None, delay: 0, workers: None };
    let origin = origin::start(&args, Clock::system(), &spawner).unwrap();
    let place = Place { origin, edge: origin, metrics: None };
    let mut children = Children::new("/bin/sh".into(), spawner);
    children.start("edge", &["-c", "echo ready; exit 1"]).await.unwrap();
    let mut ending = Ending::listen().unwrap();
    let trace = Arc::new(generate(3, 50));
    let error = ask(Duration::from_secs(600), trace, &place, &mut children, &mut ending).await.unwrap_err();
    assert!(error.to_string().contains("the edge ended by itself"), "{error}");
}
