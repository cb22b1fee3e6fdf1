//! Nodes that end without a word, and come back with nothing.

use super::fleet::{Plan, simulate, with_seeds};
use super::origin::Object;
use super::story::now;
use futures_util::future::{join, join_all};
use std::time::Duration;

#[test]
fn when_the_one_who_fetches_crashes_in_mid_body_the_others_finish() {
    with_seeds(3, |seed| {
        simulate(Plan::of_edges(seed, 4), |story| async move {
            let pace = Duration::from_millis(5);
            story.origin().put("/x", Object { pace, ..Object::lasting(3 << 20) });
            story.formed().await;
            let crash_after = 200 + story.random(0).word() % 600;
            let crowd = join_all((0..12).map(|index| {
                let story = &story;
                async move { (index % 4, story.get(index % 4, "/x", &[]).await) }
            }));
            let crash = async {
                let limit = Duration::from_secs(5);
                story.until("the fetch", limit, || story.origin().count("/x") > 0).await;
                let leader = story.edge_at(story.origin().asked("/x")[0].by);
                story.sleep(crash_after).await;
                story.crash(story.edge(leader)).await;
                leader
            };
            let (replies, leader) = join(crowd, crash).await;
            for (edge, reply) in replies {
                if edge == leader {
                    continue;
                }
                let reply = reply.unwrap_or_else(|trouble| panic!("edge {edge}: {trouble:?}"));
                story.check(edge, "/x", &reply);
            }
            story.settled().await;
            let asked = story.origin().asked("/x");
            assert!(asked.len() <= 2 && asked[1..].iter().all(|asked| asked.is_range), "{asked:?}");
            // It comes back, and takes it from the others.
            story.start(story.edge(leader)).await;
            story.formed().await;
            story.right(leader, "/x").await;
            assert_eq!(story.origin().count("/x"), asked.len());
        });
    });
}

#[test]
fn superpeers_crash_and_come_back_and_the_fleet_shares_on() {
    with_seeds(2, |seed| {
        simulate(Plan::of_edges(seed, 3), |story| async move {
            for index in 0..10 {
                story.origin().has(&format!("/{index}"), 50_000 << (index % 6));
            }
            story.formed().await;
            for index in 0..10 {
                story.right(index % 3, &format!("/{index}")).await;
            }
            story.settled().await;
            // One superpeer is gone: the other knows.
            story.crash(story.superpeer(0)).await;
            for index in 0..5 {
                story.right((index + 1) % 3, &format!("/{index}")).await;
            }
            // It comes back and learns what there is.
            story.start(story.superpeer(0)).await;
            story.formed().await;
            story.crash(story.superpeer(1)).await;
            for index in 5..10 {
                story.right((index + 1) % 3, &format!("/{index}")).await;
            }
            story.start(story.superpeer(1)).await;
            story.formed().await;
            for index in 0..10 {
                story.right((index + 2) % 3, &format!("/{index}")).await;
                let asked = story.origin().asked(&format!("/{index}"));
                assert_eq!(asked.len(), 1, "{asked:?}");
            }
        });
    });
}

/// What only the last edge has.
const LATE: [&str; 8] = ["/0", "/1", "/2", "/3", "/4", "/5", "/6", "/7"];

#[test]
fn a_superpeer_that_has_just_come_back_sends_nobody_to_the_origin_for_what_others_have() {
    with_seeds(2, |seed| {
        simulate(Plan::of_edges(seed, 4), |story| async move {
            LATE.iter().for_each(|path| story.origin().has(path, 5000));
            story.formed().await;
            join_all(LATE.map(|path| story.right(3, path))).await;
            story.settled().await;
            story.crash(story.superpeer(0)).await;
            story.sleep(500).await;
            // One edge cannot tell it what it has, though it is as live as the others.
            let (superpeer, late) = (story.superpeer(0), story.edge(3));
            turmoil::partition(superpeer.name.as_str(), late.name.as_str());
            story.start(superpeer).await;
            // They are asked when all others are there, or when it has not much longer to wait for the last.
            let (began, told) = (now(), || superpeer.metric("shoal_directory_sessions ") >= 4.0);
            while !told() && now() - began < Duration::from_millis(1500) {
                story.sleep(20).await;
            }
            join_all((0..LATE.len()).map(|index| story.right(index % 3, LATE[index]))).await;
            turmoil::repair(superpeer.name.as_str(), late.name.as_str());
            for path in LATE {
                let asked = story.origin().asked(path);
                assert_eq!(asked.len(), 1, "{asked:?}");
            }
        });
    });
}

#[test]
fn without_any_superpeer_all_is_served_and_with_them_shared_again() {
    with_seeds(2, |seed| {
        simulate(Plan::of_edges(seed, 3), |story| async move {
            for index in 0..20 {
                story.origin().has(&format!("/{index}"), 20_000 << (index % 6));
            }
            story.formed().await;
            for index in 0..10 {
                story.right(index % 3, &format!("/{index}")).await;
            }
            story.settled().await;
            for superpeer in story.superpeers() {
                story.crash(superpeer).await;
            }
            for index in 0..20 {
                let path = format!("/{index}");
                join_all((0..3).map(|edge| story.right(edge, &path))).await;
                // Who has it, and the home edge, know nothing of each other.
                let allowed = if index < 10 { 2 } else { 1 };
                let asked = story.origin().asked(&path);
                assert!(asked.len() <= allowed, "{asked:?}");
            }
            for superpeer in story.superpeers() {
                story.start(superpeer).await;
            }
            story.formed().await;
            story.settled().await;
            for index in 0..5 {
                let path = format!("/after/{index}");
                story.origin().has(&path, 100_000);
                story.right(index % 3, &path).await;
                story.settled().await;
                for edge in 0..3 {
                    story.right(edge, &path).await;
                }
                assert_eq!(story.origin().count(&path), 1, "{path}");
            }
        });
    });
}
