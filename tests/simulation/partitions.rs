//! A part of the fleet that cannot reach the rest, but clients and the origin.

use super::fleet::{Plan, simulate, with_seeds};
use super::origin::Object;
use futures_util::future::{join, join_all};
use std::cell::RefCell;
use std::collections::HashSet;
use std::time::Duration;

const OBJECTS: u64 = 12;
const PARTITION: Duration = Duration::from_secs(10);

fn path(index: u64) -> String {
    format!("/{index}")
}

#[test]
fn an_edge_that_is_cut_off_serves_on_and_shares_again_afterwards() {
    with_seeds(2, |seed| {
        simulate(Plan::of_edges(seed, 3), |story| async move {
            for index in 0..OBJECTS {
                let pace = Duration::from_millis(index % 3);
                story.origin().put(&path(index), Object { pace, ..Object::lasting(2000 << index) });
            }
            story.formed().await;
            // Objects that the edge was asked for while it was cut off.
            let behind = RefCell::new(HashSet::new());
            let is_cut_off = RefCell::new(false);
            let traffic = join_all((0..6).map(|client| {
                let (story, behind, is_cut_off) = (&story, &behind, &is_cut_off);
                let mut random = story.random(client);
                async move {
                    for _ in 0..50 {
                        // Edge 2 is asked as often as both others.
                        let edge = [0, 1, 2, 2][(random.word() % 4) as usize];
                        let path = path(random.word() % OBJECTS);
                        if edge == 2 && *is_cut_off.borrow() {
                            behind.borrow_mut().insert(path.clone());
                        }
                        story.right(edge, &path).await;
                        story.sleep(random.word() % 600).await;
                    }
                }
            }));
            let trouble = async {
                story.sleep(1000).await;
                story.cut_off(story.edge(2));
                *is_cut_off.borrow_mut() = true;
                tokio::time::sleep(PARTITION).await;
                story.repair(story.edge(2));
                // Until it has found the others again, it is as good as cut off.
                story.sleep(10_000).await;
                *is_cut_off.borrow_mut() = false;
            };
            join(traffic, trouble).await;
            story.formed().await;
            story.settled().await;
            for index in 0..OBJECTS {
                // One more for what was under way when it was cut off, and stands for both sides.
                let allowed = if behind.borrow().contains(&path(index)) { 2 } else { 1 };
                // Whoever may have missed purges asks whether what it has is still good.
                let mut asked = story.origin().asked(&path(index));
                asked.retain(|asked| !asked.is_validation);
                assert!(asked.len() <= allowed, "{allowed} {asked:?}");
            }
            shares_again(&story).await;
        });
    });
}

/// What one has, all take from it.
async fn shares_again(story: &super::story::Story) {
    for edge in 0..3 {
        let path = format!("/after/{edge}");
        story.origin().has(&path, 300_000);
        story.right(edge, &path).await;
        story.settled().await;
        for other in 0..3 {
            story.right(other, &path).await;
        }
        assert_eq!(story.origin().count(&path), 1, "{path}");
    }
}
