//! A fleet of whole nodes, one simulated host each, beside an origin and a host for all clients.

use super::keys::Keys;
use super::network::Network;
use super::origin::{self, Origin};
use super::story::{Command, Party, Story, now};
use shoal::admin::Phase;
use shoal::app::{Assembly, Surroundings};
use shoal::clock::Clock;
use shoal::config::{self, Sources};
use shoal::front;
use shoal::origin::Resolver;
use shoal::proto::swarm::Roles;
use shoal::proto::time::Wall;
use shoal::store::FileDevice;
use shoal::task::Spawner;
use shoal::workload::random::word;
use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Once};
use std::time::Duration;

/// When simulations begin.
pub(crate) const WALL: Wall = Wall::from_secs(1_800_000_000);

const PEER_PORT: u16 = 7400;
pub(crate) const CLIENT_PORT: u16 = 8080;
/// The step of the simulation: what is sent within one arrives in another.
pub(crate) const TICK: Duration = Duration::from_millis(2);
/// No story is longer.
const DURATION_MAX: Duration = Duration::from_secs(600);

/// What is simulated.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) superpeers: usize,
    pub(crate) edges: usize,
    /// Shortest and longest time of a packet between two hosts, in milliseconds.
    pub(crate) latency: (u64, u64),
    /// Part of the datagrams that are lost.
    pub(crate) loss: f64,
    /// How far the wall clocks of nodes differ from that of the origin at most, to either side.
    pub(crate) clocks_apart: Duration,
}

impl Plan {
    /// Two superpeers and `edges` edges, near to one another.
    pub(crate) const fn of_edges(seed: u64, edges: usize) -> Self {
        Self { seed, superpeers: 2, edges, latency: (1, 3), loss: 0.0, clocks_apart: Duration::ZERO }
    }
}

/// Tells a story with each of `count` seeds.
pub(crate) fn with_seeds(count: u64, tell: impl Fn(u64)) {
    let given = std::env::var("SHOAL_SEED").ok().map(|seed| seed.parse().expect("SHOAL_SEED is a number"));
    let seeds = given.map_or(1..=count, |seed| seed..=seed);
    for seed in seeds {
        println!("seed {seed}");
        if let Err(failure) = catch_unwind(AssertUnwindSafe(|| tell(seed))) {
            println!("failed with SHOAL_SEED={seed}");
            resume_unwind(failure);
        }
    }
}

/// Tells a story in a fleet.
///
/// # Panics
/// If the story or any task of any node does.
pub(crate) fn simulate<S: Future<Output = ()> + 'static>(plan: Plan, story: impl FnOnce(Story) -> S) {
    let folder = tempfile::tempdir().unwrap();
    let mut simulation = turmoil::Builder::new()
        .rng_seed(plan.seed)
        .min_message_latency(Duration::from_millis(plan.latency.0))
        .max_message_latency(Duration::from_millis(plan.latency.1))
        .tick_duration(TICK)
        .simulation_duration(DURATION_MAX)
        .tcp_capacity(1 << 10)
        .udp_capacity(1 << 16)
        .build();
    let origin = Origin::default();
    let parties = parties(&plan, &simulation);
    let software = origin.clone();
    simulation.host("origin", move || software.clone().run());
    let address = simulation.lookup("origin");
    configure(&plan, &parties, &format!("http://{address}:{}", origin::PORT), folder.path());
    for party in &parties {
        let (party, file) = (Rc::clone(party), folder.path().join(format!("{}.toml", party.name)));
        simulation.host(party.name.clone(), move || run(plan, Rc::clone(&party), file.clone()));
    }
    let handle = Story::new(plan.seed, origin, parties);
    let told = story(handle.clone());
    simulation.client("clients", async move {
        told.await;
        Ok(())
    });
    count_panics();
    PANICS.set(0);
    while !simulation.step().unwrap_or_else(|error| panic!("{error}")) {
        while let Some(command) = handle.next_command() {
            carry_out(&mut simulation, &command);
        }
    }
    assert_eq!(PANICS.get(), 0, "a task of a node panicked");
}

fn carry_out(simulation: &mut turmoil::Sim<'_>, command: &Command) {
    match command {
        Command::Crash(party) => simulation.crash(party.name.clone()),
        Command::Start(party) => simulation.bounce(party.name.clone()),
        Command::Latency(party, others, latency) => {
            for other in others {
                simulation.set_link_latency(party.name.clone(), other.name.clone(), *latency);
            }
        }
    }
}

thread_local! {
    /// Panics of this thread: a simulation has one, and tasks that panic say nothing.
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            usual(info);
        }));
    });
}

/// Superpeers first.
fn parties(plan: &Plan, simulation: &turmoil::Sim<'_>) -> Vec<Rc<Party>> {
    let superpeers = (0..plan.superpeers).map(|index| (format!("superpeer{index}"), false));
    let edges = (0..plan.edges).map(|index| (format!("edge{index}"), true));
    let parties = superpeers.chain(edges).enumerate();
    parties
        .map(|(index, (name, is_edge))| {
            let address = simulation.lookup(name.as_str());
            Rc::new(Party::new(name, is_edge, address, word(plan.seed, index as u64)))
        })
        .collect()
}

fn configure(plan: &Plan, parties: &[Rc<Party>], origin: &str, folder: &Path) {
    let keys = Keys::create(folder);
    let at = |party: &Rc<Party>| format!("{}:{PEER_PORT}", party.address);
    let seeds: Vec<_> = parties[..plan.superpeers].iter().map(at).collect();
    for party in parties {
        let roles = Roles { edge: party.is_edge, superpeer: !party.is_edge };
        let (cert, key) = keys.node(&party.name, roles, party.seed);
        let names: Vec<_> = roles.names().collect();
        let mut toml = format!(
            "[node]\nname = \"{}\"\nroles = {names:?}\nworkers = 1\n[cache]\nmemory = \"64MiB\"\n",
            party.name
        );
        if party.is_edge {
            toml += &format!(
                "[listen]\nhttp = [\"0.0.0.0:{CLIENT_PORT}\"]\n\
                 [[site]]\nname = \"s\"\nhosts = [\"*\"]\norigins = [\"{origin}\"]\n"
            );
        }
        toml += &format!(
            "[peer]\nlisten = \"0.0.0.0:{PEER_PORT}\"\nadvertise = {:?}\nseeds = {seeds:?}\n\
             ca = {:?}\ncert = {cert:?}\nkey = {key:?}\n",
            at(party),
            keys.ca()
        );
        std::fs::write(folder.join(format!("{}.toml", party.name)), toml).unwrap();
    }
}

/// The time of a node: it goes as all others do, from another beginning.
fn wall(plan: &Plan, party: &Party) -> Wall {
    let apart = plan.clocks_apart.as_millis() as u64;
    let drawn = word(party.seed, 1 << 40) % (2 * apart + 1);
    let begun = WALL.as_millis() - plan.clocks_apart.as_millis() as i64 + drawn as i64;
    Wall::from_millis(begun).plus(now())
}

/// The software of a node's host, from a start to a crash.
async fn run(plan: Plan, party: Rc<Party>, file: PathBuf) -> turmoil::Result {
    let sources = Sources { file: Some(file), ..Sources::default() };
    let loaded = config::load(&sources).unwrap_or_else(|error| panic!("{error}"));
    let (spawner, control) = (Spawner::current(), Spawner::current());
    let seed = party.begin();
    let surroundings = Surroundings {
        net: Arc::new(Network { loss: plan.loss, seed }),
        clock: Clock::simulated(wall(&plan, &party)),
        device: Arc::new(FileDevice),
        resolver: Resolver::Fixed(Arc::default()),
        seed: Some(std::array::from_fn(|index| word(seed, index as u64).to_le_bytes()[0])),
    };
    let assembly = Assembly::build(loaded, surroundings, &control, None).await?;
    let front = assembly.front(spawner.clone());
    for door in assembly.listen(&[])? {
        spawner.spawn_graceful(front::accept(Arc::clone(&front), door));
    }
    assembly.readiness.enter(Phase::Ready);
    party.publish(&assembly);
    std::future::pending().await
}
