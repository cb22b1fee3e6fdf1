//! Purges over a fleet: whoever was counted when a purge was acknowledged serves nothing old after it, and whoever was cut off serves
//! nothing unasked after ten seconds, whatever the network, the nodes and their clocks do.

use super::fleet::{Plan, simulate, with_seeds};
use super::origin::Object;
use super::story::{Party, Reply, Story, Trouble, now};
use futures_util::future::{join, join_all};
use shoal::peer::Delivery;
use shoal::proto::purge::{Mode, Selector};
use shoal::serve::Purged;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// A purge waits so long for members that do not answer.
const LIMIT: Duration = Duration::from_secs(3);
/// For so long a node that is cut off may serve what it has.
const HORIZON: Duration = Duration::from_secs(10);

fn url(path: &str) -> Selector {
    Selector::Url { site: "s".to_owned(), host: "site.test".to_owned(), path: path.to_owned() }
}

/// Every object of the origin has it.
fn tag() -> Selector {
    Selector::Tag { site: Some("s".to_owned()), tag: "all".to_owned() }
}

fn missed(purged: &Purged) -> Vec<&str> {
    let missed = purged.receipts.iter().filter(|receipt| matches!(receipt.delivery, Delivery::Missed(_)));
    missed.map(|receipt| &*receipt.name).collect()
}

/// The origin has another version from now on.
fn change(story: &Story, path: &str) {
    story.origin().change(path, |object| object.version += 1);
}

#[track_caller]
fn is_new(story: &Story, edge: usize, path: &str, reply: &Reply) {
    let version = story.origin().object(path).version;
    assert!(story.origin().is(path, version, &reply.body), "{path} at edge {edge}: old after {:?}", now());
}

async fn all_have_the_new(story: &Story, edges: &[usize], path: &str) {
    let asked = edges.iter().map(|edge| async move { (*edge, story.right(*edge, path).await) });
    for (edge, reply) in join_all(asked).await {
        is_new(story, edge, path, &reply);
    }
}

async fn in_sync(story: &Story) {
    let running = |party: &&Rc<Party>| party.is_running();
    story
        .until("all to be in sync", Duration::from_secs(30), || {
            story.parties().iter().filter(running).all(|party| party.is_in_sync())
        })
        .await;
}

#[test]
fn what_was_purged_is_nowhere_after_the_acknowledgement_and_costs_one_fetch() {
    with_seeds(3, |seed| {
        let plan = Plan { loss: 0.03, clocks_apart: Duration::from_secs(3600), ..Plan::of_edges(seed, 4) };
        simulate(plan, |story| async move {
            let paths = ["/a", "/b", "/c"];
            paths.iter().for_each(|path| story.origin().has(path, 100_000));
            story.formed().await;
            in_sync(&story).await;
            for path in paths {
                for edge in 0..4 {
                    story.right(edge, path).await;
                }
                assert_eq!(story.origin().count(path), 1);
            }
            story.settled().await;
            let all = [0, 1, 2, 3];
            for (round, selector) in [url("/a"), tag(), Selector::All].into_iter().enumerate() {
                let purged: &[&str] = if round == 0 { &paths[..1] } else { &paths };
                purged.iter().for_each(|path| change(&story, path));
                let before: Vec<_> = paths.iter().map(|path| story.origin().count(path)).collect();
                let issuer = (round + seed as usize) % 4;
                let done = story.purge(story.edge(issuer), Mode::Hard, &selector, LIMIT).await.unwrap();
                assert_eq!((done.live(), done.applied()), (6, 6), "{done:?}");
                for path in paths {
                    // One asks, so that what the others cost is what sharing costs.
                    story.right(issuer, path).await;
                    all_have_the_new(&story, &all, path).await;
                }
                story.settled().await;
                for (path, before) in paths.iter().zip(before) {
                    let fetches = story.origin().count(path) - before;
                    assert_eq!(fetches, usize::from(purged.contains(path)), "{path} in round {round}");
                }
            }
        });
    });
}

#[test]
fn an_edge_that_is_cut_off_serves_nothing_unasked_after_ten_seconds_and_brings_nothing_back() {
    with_seeds(3, |seed| {
        let plan = Plan { clocks_apart: Duration::from_secs(3600), ..Plan::of_edges(seed, 4) };
        simulate(plan, |story| async move {
            let paths: Vec<_> = (0..6).map(|index| format!("/{index}")).collect();
            paths.iter().for_each(|path| story.origin().has(path, 200_000));
            story.formed().await;
            in_sync(&story).await;
            for path in &paths {
                for edge in 0..4 {
                    story.right(edge, path).await;
                }
            }
            story.settled().await;
            let (cut, others) = (3, [0, 1, 2]);
            story.cut_off(story.edge(cut));
            let since = now();
            story.sleep(500).await;
            paths.iter().for_each(|path| change(&story, path));
            let done = story.purge(story.edge(0), Mode::Hard, &tag(), LIMIT).await.unwrap();
            assert_eq!(missed(&done), ["edge3"], "{done:?}");
            all_have_the_new(&story, &others, &paths[0]).await;
            // It may serve what it has for as long as it can think that it knows all.
            tokio::time::sleep(HORIZON.saturating_sub(now() - since)).await;
            assert!(!story.edge(cut).is_in_sync());
            all_have_the_new(&story, &[cut], &paths[1]).await;
            story.sleep(20_000).await;
            assert!(!story.edge(cut).is_in_sync(), "it takes itself for the fleet");
            all_have_the_new(&story, &[cut], &paths[2]).await;
            // Back with the others, from the first moment nobody gets anything old, from itself or from them.
            story.repair(story.edge(cut));
            let until = now() + Duration::from_secs(8);
            while now() < until {
                for path in &paths {
                    all_have_the_new(&story, &[0, 1, 2, 3], path).await;
                }
                story.sleep(300).await;
            }
            story.formed().await;
            in_sync(&story).await;
            assert_eq!(story.edge(cut).coverage(), story.edge(0).coverage());
            for path in &paths {
                all_have_the_new(&story, &[0, 1, 2, 3], path).await;
            }
        });
    });
}

#[test]
fn a_purge_while_a_superpeer_crashes_and_one_whose_issuer_crashes_right_after_it() {
    with_seeds(3, |seed| {
        simulate(Plan::of_edges(seed, 3), |story| async move {
            let paths = ["/a", "/b"];
            paths.iter().for_each(|path| story.origin().has(path, 300_000));
            story.formed().await;
            in_sync(&story).await;
            for path in paths {
                for edge in 0..3 {
                    story.right(edge, path).await;
                }
            }
            story.settled().await;
            story.crash(story.superpeer(0)).await;
            change(&story, "/a");
            let done = story.purge(story.edge(1), Mode::Hard, &url("/a"), LIMIT).await.unwrap();
            assert!(missed(&done).iter().all(|name| *name == "superpeer0"), "{done:?}");
            all_have_the_new(&story, &[0, 1, 2], "/a").await;
            // The other superpeer and the edges go on.
            story.sleep(12_000).await;
            assert!(story.edges().all(|edge| edge.is_in_sync()));
            change(&story, "/b");
            let done = story.purge(story.edge(2), Mode::Hard, &tag(), LIMIT).await.unwrap();
            assert_eq!(done.applied(), 4, "{done:?}");
            story.crash(story.edge(2)).await;
            all_have_the_new(&story, &[0, 1], "/b").await;
            // Whoever comes back has lost its log and what it stored, and takes nothing old from anybody.
            story.start(story.edge(2)).await;
            story.start(story.superpeer(0)).await;
            story.formed().await;
            in_sync(&story).await;
            for path in paths {
                all_have_the_new(&story, &[0, 1, 2], path).await;
            }
            assert_eq!(story.superpeer(0).coverage(), story.edge(0).coverage());
            assert_eq!(story.edge(2).coverage(), story.edge(0).coverage());
        });
    });
}

#[test]
fn purges_race_live_relays_and_fetches_from_peers() {
    with_seeds(4, |seed| {
        let plan = Plan { latency: (1, 15), loss: 0.01, ..Plan::of_edges(seed, 4) };
        simulate(plan, |story| async move {
            const OBJECTS: u64 = 4;
            let path = |index: u64| format!("/{index}");
            for index in 0..OBJECTS {
                let pace = Duration::from_millis(index * 4);
                story.origin().put(&path(index), Object { pace, ..Object::lasting(150_000 << index) });
            }
            story.formed().await;
            in_sync(&story).await;
            // The version from which on each path must be served by whoever is asked anew.
            let floors: Vec<_> = (0..OBJECTS).map(|_| Cell::new(1_u64)).collect();
            let is_over = Cell::new(false);
            let traffic = join_all((0..8).map(|client| {
                let (story, floors, is_over) = (&story, &floors, &is_over);
                let mut random = story.random(client);
                async move {
                    while !is_over.get() {
                        let (edge, index) = ((random.word() % 4) as usize, random.word() % OBJECTS);
                        let (path, floor) = (path(index), floors[index as usize].get());
                        match story.get(edge, &path, &[]).await {
                            Ok(reply) => {
                                story.check(edge, &path, &reply);
                                let newest = story.origin().object(&path).version;
                                let version = (1..=newest)
                                    .find(|version| story.origin().is(&path, *version, &reply.body));
                                assert!(
                                    version >= Some(floor),
                                    "{path} at edge {edge}: {version:?} < {floor}"
                                );
                            }
                            // A body whose version the origin has no more may break off.
                            Err(trouble) => assert!(
                                matches!(trouble, Trouble::Cut(_)),
                                "{path} at edge {edge}: {trouble:?}"
                            ),
                        }
                        story.sleep(random.word() % 200).await;
                    }
                }
            }));
            let purging = async {
                let mut random = story.random(100);
                for _ in 0..25 {
                    story.sleep(random.word() % 700).await;
                    let (issuer, index) = ((random.word() % 4) as usize, random.word() % OBJECTS);
                    change(&story, &path(index));
                    let version = story.origin().object(&path(index)).version;
                    let selector = if random.word().is_multiple_of(2) { url(&path(index)) } else { tag() };
                    let done = story.purge(story.edge(issuer), Mode::Hard, &selector, LIMIT).await.unwrap();
                    assert_eq!(done.applied(), 6, "{done:?}");
                    floors[index as usize].set(version);
                }
                is_over.set(true);
            };
            join(traffic, purging).await;
            story.settled().await;
            for index in 0..OBJECTS {
                all_have_the_new(&story, &[0, 1, 2, 3], &path(index)).await;
            }
        });
    });
}
