//! Many ask for one object at once.

use super::fleet::{Plan, simulate, with_seeds};
use super::origin::Object;
use futures_util::future::join_all;
use std::time::Duration;

#[test]
fn a_crowd_at_all_edges_costs_the_origin_one_fetch() {
    with_seeds(2, |seed| {
        simulate(Plan::of_edges(seed, 4), |story| async move {
            let pause = Duration::from_millis(100);
            story.origin().put("/small", Object { pause, ..Object::lasting(10_000) });
            let pace = Duration::from_millis(3);
            story.origin().put("/large", Object { pause, pace, ..Object::lasting(3 << 20) });
            story.formed().await;
            for path in ["/small", "/large"] {
                let mut random = story.random(1);
                let crowd = (0..40).map(|index| {
                    // Some come at once, some within the body, some when it is there.
                    let (wait, story) = (random.word() % 1000, &story);
                    async move {
                        story.sleep(if index < 20 { 0 } else { wait }).await;
                        story.right(index % 4, path).await
                    }
                });
                join_all(crowd).await;
                story.settled().await;
                assert_eq!(story.origin().count(path), 1, "{path}");
            }
        });
    });
}
