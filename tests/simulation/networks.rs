//! Networks that lose, delay and reorder.

use super::fleet::{Plan, simulate, with_seeds};
use super::origin::Object;
use futures_util::future::join_all;
use std::time::Duration;

#[test]
fn with_loss_and_reordering_all_bodies_are_right_and_come_in_time() {
    with_seeds(2, |seed| {
        let plan = Plan { latency: (1, 20), loss: 0.05, ..Plan::of_edges(seed, 3) };
        simulate(plan, |story| async move {
            for index in 0..15 {
                story.origin().has(&format!("/{index}"), (1000 << (index % 12)) + index);
            }
            story.formed().await;
            join_all((0..6).map(|client| {
                let story = &story;
                let mut random = story.random(client);
                async move {
                    for _ in 0..12 {
                        let edge = (random.word() % 3) as usize;
                        let reply = story.right(edge, &format!("/{}", random.word() % 15)).await;
                        assert!(reply.took < Duration::from_secs(15), "{:?}", reply.took);
                        story.sleep(random.word() % 200).await;
                    }
                }
            }))
            .await;
            // Lost questions may cost a fetch, yet peers give most.
            let asked: usize = (0..15).map(|index| story.origin().count(&format!("/{index}"))).sum();
            let taken: f64 = story.edges().map(|edge| edge.metric("shoal_peer_taken_bytes_total")).sum();
            println!("the origin was asked {asked} times, peers gave {taken} bytes");
            assert!(asked <= 30 && taken > 0.0, "asked {asked} times, peers gave {taken} bytes");
        });
    });
}

#[test]
fn a_peer_behind_a_slow_link_slows_nobody_else() {
    with_seeds(2, |seed| {
        simulate(Plan::of_edges(seed, 4), |story| async move {
            story.formed().await;
            for index in 0..10 {
                story.origin().put(
                    &format!("/{index}"),
                    Object { pace: Duration::from_millis(1), ..Object::lasting(300_000) },
                );
            }
            // The slow one has half of it when it becomes slow, and fetches the rest at the same time as the others ask.
            for index in 0..5 {
                story.right(0, &format!("/{index}")).await;
            }
            story.settled().await;
            story.slow_down(story.edge(0), Duration::from_millis(700)).await;
            for index in 0..10 {
                let path = format!("/{index}");
                let replies = join_all((0..4).map(|edge| story.right(edge, &path))).await;
                for (edge, reply) in replies.iter().enumerate().skip(1) {
                    assert!(reply.took < Duration::from_secs(4), "{path} at {edge} took {:?}", reply.took);
                }
                let asked = story.origin().asked(&path);
                assert!(asked.len() <= 3, "{asked:?}");
            }
        });
    });
}
