//! What a story does: ask as clients do, break nodes and links, and look.

use super::fleet::{CLIENT_PORT, TICK};
use super::origin::Origin;
use super::wire::{Head, Wire};
use shoal::app::Assembly;
use shoal::proto::purge::{Coverage, Mode, Selector};
use shoal::purge::PurgeError;
use shoal::serve::Purged;
use shoal::task::Spawner;
use shoal::workload::random::{Random, word};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use turmoil::net::TcpStream;

/// Longest time that any request may take: beyond it, it hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest time for a fleet to form.
const FORMING: Duration = Duration::from_secs(60);
/// How often a story looks at what it waits for.
const LOOK: Duration = Duration::from_millis(50);

/// Time since the simulation began.
pub(crate) fn now() -> Duration {
    turmoil::sim_elapsed().expect("stories are told in simulations")
}

/// What only the simulation itself can do.
pub(crate) enum Command {
    Crash(Rc<Party>),
    Start(Rc<Party>),
    Latency(Rc<Party>, Vec<Rc<Party>>, Duration),
}

/// A node of the story.
pub(crate) struct Party {
    pub(crate) name: String,
    pub(crate) is_edge: bool,
    pub(crate) address: IpAddr,
    pub(crate) seed: u64,
    starts: Cell<u64>,
    crashes: Cell<u32>,
    is_running: Cell<bool>,
    /// The host owns it, so that a crash ends it.
    assembly: RefCell<Weak<Assembly>>,
    /// The runtime of its host.
    host: RefCell<Option<Handle>>,
}

impl Party {
    pub(crate) fn new(name: String, is_edge: bool, address: IpAddr, seed: u64) -> Self {
        let (starts, crashes, is_running) = (Cell::new(0), Cell::new(0), Cell::new(true));
        Self {
            name,
            is_edge,
            address,
            seed,
            starts,
            crashes,
            is_running,
            assembly: RefCell::default(),
            host: RefCell::default(),
        }
    }

    /// A seed for another start.
    pub(crate) fn begin(&self) -> u64 {
        self.starts.set(self.starts.get() + 1);
        word(self.seed, self.starts.get())
    }

    pub(crate) fn publish(&self, assembly: &Arc<Assembly>) {
        *self.host.borrow_mut() = Some(Handle::current());
        *self.assembly.borrow_mut() = Arc::downgrade(assembly);
    }

    fn assembly(&self) -> Option<Arc<Assembly>> {
        self.assembly.borrow().upgrade().filter(|_| self.is_running.get())
    }

    /// Whether it knows of all purges, as far as it can tell.
    pub(crate) fn is_in_sync(&self) -> bool {
        let host = self.host.borrow();
        // By the time of its own host.
        let _within = host.as_ref().map(Handle::enter);
        let in_sync = |assembly: Arc<Assembly>| assembly.node.purges.in_sync(assembly.node.clock.mono());
        self.assembly().is_some_and(in_sync)
    }

    /// The purges that it has applied.
    pub(crate) fn coverage(&self) -> Coverage {
        self.assembly().expect("it runs").node.purges.coverage()
    }

    pub(crate) fn is_running(&self) -> bool {
        self.is_running.get()
    }

    /// Value of the metrics whose lines begin with `series`.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let Some(assembly) = self.assembly() else { return 0.0 };
        let text = assembly.node.metrics.encode();
        let values = text.lines().filter(|line| line.starts_with(series));
        values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

/// A whole response, or what came of it instead.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    /// From the request to the last byte.
    pub(crate) took: Duration,
}

/// Why there is no whole response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The node that was asked crashed meanwhile, or did not run.
    Crashed,
    /// It does not take the connection.
    Refused,
    /// The connection ended before a head.
    Unanswered,
    /// The connection ended within the body, after so many bytes.
    Cut(usize),
    /// Nothing ended.
    Hangs,
}

/// A fleet in the hands of its story. Clones are the same.
#[derive(Clone)]
pub(crate) struct Story(Rc<Inner>);

struct Inner {
    origin: Origin,
    parties: Vec<Rc<Party>>,
    commands: RefCell<VecDeque<Command>>,
    seed: u64,
}

impl Story {
    pub(crate) fn new(seed: u64, origin: Origin, parties: Vec<Rc<Party>>) -> Self {
        Self(Rc::new(Inner { origin, parties, commands: RefCell::default(), seed }))
    }

    pub(crate) fn next_command(&self) -> Option<Command> {
        self.0.commands.borrow_mut().pop_front()
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.0.origin
    }

    /// Numbers for one purpose of the story.
    pub(crate) fn random(&self, purpose: u64) -> Random {
        Random::new(word(self.0.seed, 1 << 32 | purpose))
    }

    pub(crate) fn parties(&self) -> &[Rc<Party>] {
        &self.0.parties
    }

    pub(crate) fn edges(&self) -> impl Iterator<Item = &Rc<Party>> {
        self.0.parties.iter().filter(|party| party.is_edge)
    }

    pub(crate) fn superpeers(&self) -> impl Iterator<Item = &Rc<Party>> {
        self.0.parties.iter().filter(|party| !party.is_edge)
    }

    pub(crate) fn edge(&self, index: usize) -> &Rc<Party> {
        self.edges().nth(index).unwrap()
    }

    pub(crate) fn superpeer(&self, index: usize) -> &Rc<Party> {
        self.superpeers().nth(index).unwrap()
    }

    /// The edge at an address.
    pub(crate) fn edge_at(&self, address: IpAddr) -> usize {
        self.edges().position(|edge| edge.address == address).expect("only edges ask the origin")
    }

    pub(crate) async fn sleep(&self, millis: u64) {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    async fn command(&self, command: Command) {
        self.0.commands.borrow_mut().push_back(command);
        // It is carried out before the next step.
        tokio::time::sleep(2 * TICK).await;
    }

    /// Ends a node without a word to anybody.
    pub(crate) async fn crash(&self, party: &Rc<Party>) {
        party.is_running.set(false);
        party.crashes.set(party.crashes.get() + 1);
        self.command(Command::Crash(Rc::clone(party))).await;
    }

    /// Starts it again, with nothing but its configuration.
    pub(crate) async fn start(&self, party: &Rc<Party>) {
        self.command(Command::Start(Rc::clone(party))).await;
        party.is_running.set(true);
    }

    /// Sets the time of packets between a node and all others.
    pub(crate) async fn slow_down(&self, party: &Rc<Party>, latency: Duration) {
        self.command(Command::Latency(Rc::clone(party), self.others(party), latency)).await;
    }

    fn others(&self, party: &Rc<Party>) -> Vec<Rc<Party>> {
        self.parties().iter().filter(|other| other.name != party.name).cloned().collect()
    }

    /// Cuts a node off from all others; not from clients and origin.
    pub(crate) fn cut_off(&self, party: &Rc<Party>) {
        for other in self.others(party) {
            turmoil::partition(party.name.as_str(), other.name.as_str());
        }
    }

    pub(crate) fn repair(&self, party: &Rc<Party>) {
        for other in self.others(party) {
            turmoil::repair(party.name.as_str(), other.name.as_str());
        }
    }

    /// Purges at a node, which tells the others and waits for them.
    pub(crate) async fn purge(
        &self,
        party: &Party,
        mode: Mode,
        selector: &Selector,
        limit: Duration,
    ) -> Result<Purged, PurgeError> {
        let (assembly, selector) = (party.assembly().expect("it runs"), selector.clone());
        let (told, done) = tokio::sync::oneshot::channel();
        // On its own host, whose time and network it has.
        let spawner = party.host.borrow().clone().map(Spawner::new).expect("it runs");
        spawner.spawn(async move {
            let _ = told.send(assembly.node.purge(mode, &[selector], limit).await);
        });
        done.await.expect("it ends")
    }

    /// Waits until `is_so`, at most `limit`.
    pub(crate) async fn until(&self, what: &str, limit: Duration, is_so: impl Fn() -> bool) {
        let began = now();
        while !is_so() {
            assert!(now() - began < limit, "still waiting for: {what}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until every running node knows every other, every edge has a session with every superpeer, and these have
    /// heard what the edges have.
    pub(crate) async fn formed(&self) {
        let running = |party: &&Rc<Party>| party.is_running();
        self.until("the fleet to form", FORMING, || {
            let all = self.parties().iter().filter(running).count() as f64;
            let superpeers = self.superpeers().filter(running).count() as f64;
            let edges = self.edges().filter(running).count() as f64;
            let known = |party: &Rc<Party>| party.metric("shoal_swarm_members") >= all;
            let told = |party: &Rc<Party>| match party.is_edge {
                true => party.metric("shoal_swarm_sessions{state=\"standing\"}") >= superpeers,
                false => {
                    party.metric("shoal_directory_sessions ") >= edges + superpeers - 1.0
                        && party.metric("shoal_directory_warming ") == 0.0
                }
            };
            self.parties().iter().filter(running).all(|party| known(party) && told(party))
        })
        .await;
    }

    /// Waits until no node fetches anything, and what they have is announced.
    pub(crate) async fn settled(&self) {
        self.until("fetches to end", PATIENCE, || {
            let open = |party: &Rc<Party>| party.assembly().map_or(0, |assembly| assembly.node.fills.open());
            self.parties().iter().all(|party| open(party) == 0)
        })
        .await;
        self.sleep(300).await;
    }

    /// Asks an edge on a connection of its own.
    pub(crate) async fn get(&self, edge: usize, path: &str, fields: &[&str]) -> Result<Reply, Trouble> {
        let edge = self.edge(edge);
        let crashes = edge.crashes.get();
        let crashed = async {
            while edge.is_running() && edge.crashes.get() == crashes {
                self.sleep(5).await;
            }
        };
        let ends = tokio::time::timeout(PATIENCE, exchange(edge.address, path, fields));
        let result = tokio::select! {
            result = ends => result.unwrap_or(Err(Trouble::Hangs)),
            () = crashed => Err(Trouble::Crashed),
        };
        let has_crashed = !edge.is_running() || edge.crashes.get() != crashes;
        result.map_err(|trouble| if has_crashed { Trouble::Crashed } else { trouble })
    }

    /// Asks an edge and checks the answer.
    pub(crate) async fn right(&self, edge: usize, path: &str) -> Reply {
        let reply = self.get(edge, path, &[]).await;
        let reply = reply.unwrap_or_else(|trouble| panic!("{path} at edge {edge}: {trouble:?}, {:?}", now()));
        self.check(edge, path, &reply);
        reply
    }

    #[track_caller]
    pub(crate) fn check(&self, edge: usize, path: &str, reply: &Reply) {
        assert_eq!(reply.status, 200, "{path} at edge {edge}: {:?}", reply.head);
        let (length, status) = (reply.body.len(), reply.head.fields_named("cache-status"));
        let is_right = self.origin().knows(path, &reply.body, self.edge(edge).address);
        assert!(is_right, "{path} at edge {edge}: {length} bytes that it may not give, {status:?}");
    }
}

async fn exchange(node: IpAddr, path: &str, fields: &[&str]) -> Result<Reply, Trouble> {
    let began = now();
    let to = SocketAddr::new(node, CLIENT_PORT);
    let mut wire = Wire::new(TcpStream::connect(to).await.map_err(|_refused| Trouble::Refused)?);
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    let request = format!("GET {path} HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n{fields}\r\n");
    wire.write(request.as_bytes()).await.map_err(|_gone| Trouble::Unanswered)?;
    let head = wire.head().await.ok_or(Trouble::Unanswered)?;
    let status = head.line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
    let framed = wire.body(&head, true).await;
    if !framed.is_whole {
        return Err(Trouble::Cut(framed.bytes.len()));
    }
    Ok(Reply { status, head, body: framed.bytes, took: now() - began })
}
