//! Everything at once, by seed: requests for objects of all kinds at all edges, while nodes crash and come back, links
//! are cut and repaired, and the origin breaks off and changes.

use super::fleet::{Plan, simulate, with_seeds};
use super::origin::{Kind, Object};
use super::story::{Story, Trouble, now};
use futures_util::future::{join, join_all};
use shoal::workload::random::Random;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

const EDGES: usize = 4;
const CLIENTS: u64 = 8;
const OBJECTS: u64 = 30;
/// The first so many are fresh for longer than the story, and never change.
const LASTING: u64 = 22;
/// How long requests come, while failures do.
const STORM: Duration = Duration::from_secs(20);
/// Longest pause of a client between requests, and between failures, in milliseconds.
const CLIENT_PAUSE: u64 = 400;
const FAILURE_PAUSE: u64 = 2500;
/// Longest time until a failure is repaired, in milliseconds.
const REPAIR: u64 = 4000;

/// What the failures of a story may cost: requests for any one object, beyond the first.
#[derive(Default)]
struct Cost(Cell<usize>);

impl Cost {
    fn add(&self, requests: usize) {
        self.0.set(self.0.get() + requests);
    }
}

fn path(index: u64) -> String {
    format!("/{index}")
}

fn object(index: u64, random: &mut Random) -> Object {
    let kind = match index {
        0..LASTING => Kind::Lasting,
        LASTING..25 => Kind::Brief,
        25..27 => Kind::Cookie,
        27..29 => Kind::Private,
        _ => Kind::Credentials,
    };
    let longest = if kind == Kind::Lasting { 3 << 20 } else { 200 << 10 };
    // As many small ones as large ones: a size is a random power, and something more.
    let shift = random.word() % 12;
    let length = ((1024 + random.word() % 1024) << shift).min(longest) as usize;
    let pause = Duration::from_millis([0, 0, 50, 500][(random.word() % 4) as usize]);
    let pace = Duration::from_millis([0, 0, 2, 10][(random.word() % 4) as usize]);
    Object { kind, pause, pace, length, ..Object::lasting(length) }
}

#[test]
fn whatever_fails_each_response_is_right_and_each_request_ends() {
    with_seeds(3, |seed| {
        simulate(Plan::of_edges(seed, EDGES), |story| async move {
            let mut random = story.random(0);
            for index in 0..OBJECTS {
                story.origin().put(&path(index), object(index, &mut random));
            }
            story.formed().await;
            let cost = Cost::default();
            let until = now() + STORM;
            let clients = join_all((1..=CLIENTS).map(|client| ask_until(&story, client, until)));
            join(clients, fail_until(&story, &cost, until)).await;
            story.formed().await;
            story.settled().await;
            // Whoever comes now gets everything, and the fleet is one again.
            for index in 0..OBJECTS {
                join_all((0..EDGES).map(|edge| ask(&story, edge, index))).await;
            }
            story.settled().await;
            report(&story, &cost);
        });
    });
}

async fn ask_until(story: &Story, client: u64, until: Duration) {
    let mut random = story.random(client);
    while now() < until {
        let edge = (random.word() % EDGES as u64) as usize;
        // Some objects are asked for more than others.
        let index = (random.word() % OBJECTS).min(random.word() % OBJECTS * 2);
        ask(story, edge, index.min(OBJECTS - 1)).await;
        story.sleep(random.word() % CLIENT_PAUSE).await;
    }
}

async fn ask(story: &Story, edge: usize, index: u64) {
    let path = path(index);
    let began = now();
    let fields: &[&str] = match story.origin().object(&path).kind {
        Kind::Credentials => &["Authorization: Bearer me"],
        _ => &[],
    };
    match story.get(edge, &path, fields).await {
        Ok(reply) => story.check(edge, &path, &reply),
        Err(Trouble::Crashed) => {}
        Err(Trouble::Cut(_)) if may_be_cut(story, &path, began) => {}
        Err(trouble) => {
            panic!("{path} at edge {edge}: {trouble:?} at {:?}, {:?}", now(), story.origin().asked(&path))
        }
    }
}

/// A fill that the origin itself breaks off ends there, and no other version goes on where one broke off.
fn may_be_cut(story: &Story, path: &str, began: Duration) -> bool {
    story.origin().broke_off(path, began) || story.origin().object(path).version > 1
}

async fn fail_until(story: &Story, cost: &Cost, until: Duration) {
    let mut random = story.random(1 << 16);
    let mut repairs = Vec::new();
    while now() < until {
        let repair = random.word() % REPAIR;
        let party = &story.parties()[(random.word() % story.parties().len() as u64) as usize];
        let index = random.word() % OBJECTS;
        match random.word() % 4 {
            0 if party.is_running() => repairs.push(crash(story, cost, Rc::clone(party), repair).await),
            1 => repairs.push(cut_off(story, cost, Rc::clone(party), repair)),
            2 => {
                println!("{:?}: the origin is to break off {}", now(), path(index));
                story.origin().change(&path(index), |object| object.breaks += 1);
            }
            _ => {
                // What lasts is what it is.
                let brief = path(LASTING + index % 3);
                story.origin().change(&brief, |object| object.version += 1);
            }
        }
        story.sleep(random.word() % FAILURE_PAUSE).await;
        repairs = mend(story, repairs, now()).await;
    }
    mend(story, repairs, Duration::MAX).await;
}

/// What is to be put in order, and when.
struct Repair {
    at: Duration,
    party: Rc<super::story::Party>,
    is_crash: bool,
}

async fn crash(story: &Story, cost: &Cost, party: Rc<super::story::Party>, after: u64) -> Repair {
    println!("{:?}: {} crashes", now(), party.name);
    // An edge may have had the only copy, or have fetched one; without directory, the home edge may fetch another.
    cost.add(1);
    story.crash(&party).await;
    Repair { at: now() + Duration::from_millis(after), party, is_crash: true }
}

fn cut_off(story: &Story, cost: &Cost, party: Rc<super::story::Party>, after: u64) -> Repair {
    println!("{:?}: {} is cut off", now(), party.name);
    // Both sides may fetch what only the other has.
    cost.add(2);
    story.cut_off(&party);
    Repair { at: now() + Duration::from_millis(after), party, is_crash: false }
}

/// Does what is due, and returns the rest.
async fn mend(story: &Story, repairs: Vec<Repair>, due: Duration) -> Vec<Repair> {
    let (now_due, later) = repairs.into_iter().partition(|repair| repair.at <= due);
    for repair in now_due {
        let Repair { party, is_crash, .. } = repair;
        println!("{:?}: {} is repaired", now(), party.name);
        if is_crash {
            story.start(&party).await;
        } else {
            story.repair(&party);
        }
    }
    later
}

fn report(story: &Story, cost: &Cost) {
    let origin = story.origin();
    let paths: Vec<_> = (0..LASTING).map(path).collect();
    let counts: Vec<_> = paths.iter().map(|path| origin.count(path)).collect();
    println!("the origin was asked {counts:?} times");
    for path in &paths {
        let allowed = 1 + cost.0.get() + origin.breaks(path);
        let asked = origin.asked(path);
        assert!(asked.len() <= allowed, "{path} at most {allowed} times: {asked:?}");
    }
    // Not every failure costs a fetch of every object.
    let all: usize = counts.iter().sum();
    assert!(all <= 3 * paths.len(), "the origin was asked {all} times");
    let taken: f64 = story.edges().map(|edge| edge.metric("shoal_peer_taken_bytes_total")).sum();
    assert!(taken > 0.0, "peers gave nothing");
}
