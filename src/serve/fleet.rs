//! `explain` over the fleet: who has an object, and who would be asked for it.
//!
//! Each live edge is asked what it has, and none for longer than [`LOOK_LIMIT`]. The directory is asked as well, in such a
//! way that nothing changes by it: no lease is given and nobody is entered as one who follows.

use super::Node;
use super::explain::Explanation;
use crate::clock::Clock;
use crate::peer::{Answer, AskError, Exchange, Mesh};
use crate::proto::key::VariantId;
use crate::proto::semantics::{self, ResponseFacts};
use crate::proto::swarm::{Member, Place, Query};
use crate::proto::time::Wall;
use crate::proto::wire::{self, Frame, Looked, Seen, ask};
use crate::route::Routed;
use futures_util::StreamExt;
use futures_util::stream;
use http::StatusCode;
use prost::Message;
use serde::Serialize;
use std::time::Duration;

/// How long an edge may take to say what it has.
const LOOK_LIMIT: Duration = Duration::from_millis(500);
/// Edges that are asked at all, those named first; more are only counted.
const EDGES_MAX: usize = 256;
/// Edges that are asked at a time.
const ASKED_MAX: usize = 32;
/// No object has this variant, so nothing is known of it but what there is of others.
const NO_VARIANT: VariantId = VariantId([0xff; 16]);

/// Who has an object.
#[derive(Debug, Serialize)]
pub struct Fleet {
    /// Whether responses for this URL are shared at all; if not, nobody was asked.
    pub shared: bool,
    /// What the directory knows: `holders`, `nothing`, `uncacheable`, or `unreachable`.
    pub directory: &'static str,
    /// The names of the holders that it names first.
    pub holders: Vec<String>,
    /// The edge that is asked when no superpeer answers, and asks the origin for all.
    pub home: String,
    /// Who would answer the next request for a client here, in words.
    pub next: String,
    /// Every live edge; this node first.
    pub nodes: Vec<Holder>,
    /// Live edges that were not asked, since there are so many.
    pub not_asked: usize,
}

/// What an edge has.
#[derive(Debug, Serialize)]
pub struct Holder {
    /// Its name.
    pub node: String,
    /// Its identity, as `shoal peers` shows it.
    pub id: String,
    /// Its zone.
    pub zone: String,
    /// `memory`, `disk`, `arriving`, `nothing`, or why that is not known.
    pub state: &'static str,
    /// Its versions.
    pub versions: Vec<Held>,
    /// Whether it has more of them.
    pub more: bool,
}

/// A version that an edge has.
#[derive(Debug, Serialize)]
pub struct Held {
    /// Identity of the version, hexadecimal.
    pub version: String,
    /// The request fields that the object varies by.
    pub vary: Vec<String>,
    /// Age in seconds.
    pub age: u32,
    /// Remaining lifetime in seconds by this node's rules, negative when stale.
    pub ttl: i64,
    /// Body length in bytes.
    pub length: Option<u64>,
    /// Status of the response.
    pub status: u32,
    /// Number of records, and how many are in memory and on disk.
    pub records: [u32; 3],
}

/// Asks the fleet; `None` for a node that is in none.
pub(super) async fn look(node: &Node, routed: &Routed, here: &Explanation) -> Option<Fleet> {
    let mesh = node.mesh.as_ref()?;
    let me = mesh.me();
    let home = mesh.home(routed.object).map_or_else(|| me.name.to_string(), |place| mesh.name_of(place.node));
    let mut fleet = Fleet {
        shared: routed.peers(),
        directory: "not asked",
        holders: Vec::new(),
        home,
        next: String::new(),
        nodes: vec![Holder::here(me, here, node.fills.is_arriving(routed.object))],
        not_asked: 0,
    };
    if fleet.shared {
        let mut edges = mesh.edges();
        edges.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        fleet.not_asked = edges.len().saturating_sub(EDGES_MAX);
        edges.truncate(EDGES_MAX);
        let asked = stream::iter(edges).map(|edge| ask_edge(mesh, node.clock, routed, edge));
        let (directory, holders) =
            tokio::join!(ask_directory(mesh, routed), asked.buffered(ASKED_MAX).collect::<Vec<_>>());
        (fleet.directory, fleet.holders) = directory;
        fleet.nodes.extend(holders);
    }
    fleet.next = fleet.next_answer(here);
    Some(fleet)
}

async fn ask_directory(mesh: &Mesh, routed: &Routed) -> (&'static str, Vec<String>) {
    let query = Query::look(routed.object, NO_VARIANT);
    match mesh.resolve(query).await {
        Answer::Holders(places) => ("holders", places.iter().map(|place| mesh.name_of(place.node)).collect()),
        Answer::Alone(rest) if rest > Duration::ZERO => ("uncacheable", Vec::new()),
        Answer::Unreachable => ("unreachable", Vec::new()),
        _ => ("nothing", Vec::new()),
    }
}

async fn ask_edge(mesh: &Mesh, clock: Clock, routed: &Routed, edge: Member) -> Holder {
    let place = Place { node: edge.id, address: edge.address, zone: edge.zone.clone() };
    let look = ask::Kind::Look(wire::Look { object: routed.object.0.to_vec() });
    let asked = async { looked(mesh.ask(&place, look).await?).await };
    let answer = tokio::time::timeout(LOOK_LIMIT, asked).await.unwrap_or(Err(AskError::Silent));
    let now = clock.now().wall;
    let mut holder = Holder {
        node: edge.name.to_string(),
        id: edge.id.to_string(),
        zone: edge.zone.to_string(),
        state: "nothing",
        versions: Vec::new(),
        more: false,
    };
    match answer {
        Ok(looked) => holder.tell(&looked, routed, now),
        Err(error) => holder.state = unknown(error),
    }
    holder
}

async fn looked(mut exchange: Exchange) -> Result<Looked, AskError> {
    let Some(Frame::Message(message)) = exchange.frame().await? else { return Err(AskError::Protocol) };
    Looked::decode(message).or(Err(AskError::Protocol))
}

const fn unknown(error: AskError) -> &'static str {
    match error {
        AskError::Silent => "no answer within 500 ms",
        AskError::Unreachable => "unreachable",
        AskError::Quarantined => "in quarantine here",
        AskError::Refused => "refuses",
        AskError::Unsupported | AskError::Protocol | AskError::Upstream => {
            "does not know the question: an older version"
        }
    }
}

impl Fleet {
    fn next_answer(&self, here: &Explanation) -> String {
        let others = self.nodes.iter().skip(1);
        let arriving: Vec<_> =
            others.filter(|holder| holder.state == "arriving").map(|holder| holder.node.as_str()).collect();
        if here.next.is_stored() {
            "this node".to_owned()
        } else if !self.shared {
            "the origin: responses for this URL are not shared".to_owned()
        } else if !self.holders.is_empty() {
            format!("one of {}", self.holders.join(", "))
        } else if !arriving.is_empty() {
            format!("{}, where it arrives", arriving.join(" or "))
        } else if self.directory == "unreachable" {
            format!("its home edge {}, since no superpeer answers", self.home)
        } else if self.directory == "uncacheable" || here.remembered_uncacheable {
            "the origin, for this request alone: it was found not to be storable".to_owned()
        } else {
            "the origin, which this node would ask under a lease".to_owned()
        }
    }
}

impl Holder {
    fn here(me: &Member, here: &Explanation, arriving: bool) -> Self {
        let held = |variant: &super::explain::Variant| {
            let fresh = variant.freshness.as_ref();
            let [records, memory, disk, _queued] = variant.records.map(|count| count as u32);
            Held {
                version: variant.version.clone().unwrap_or_default(),
                vary: variant.vary.clone(),
                age: fresh.map_or(0, |fresh| fresh.age),
                ttl: fresh.map_or(0, |fresh| fresh.ttl),
                length: variant.length,
                status: fresh.map_or(0, |fresh| fresh.status.into()),
                records: [records, memory, disk],
            }
        };
        let mut holder = Self {
            node: me.name.to_string(),
            id: me.id.to_string(),
            zone: me.zone.to_string(),
            state: "nothing",
            versions: here.stored.iter().map(held).collect(),
            more: false,
        };
        holder.settle(arriving);
        holder
    }

    fn tell(&mut self, looked: &Looked, routed: &Routed, now: Wall) {
        self.versions = looked.seen.iter().filter_map(|seen| held(seen, routed, now)).collect();
        self.more = looked.more;
        self.settle(looked.arriving);
    }

    fn settle(&mut self, arriving: bool) {
        let in_memory = self.versions.iter().any(|held| held.records[1] == held.records[0]);
        self.state = match (self.versions.is_empty(), arriving) {
            (true, true) => "arriving",
            (true, false) => "nothing",
            (false, _) if in_memory => "memory",
            (false, _) => "disk",
        };
    }
}

/// A version that a peer has, judged by the rules of this node; `None` if it is of another object or no version.
fn held(seen: &Seen, routed: &Routed, now: Wall) -> Option<Held> {
    let head = seen.head.as_ref().filter(|head| head.key == routed.key.as_bytes())?;
    let status = StatusCode::from_u16(head.status.try_into().ok()?).ok()?;
    let fields = super::seek::fields(&head.fields)?;
    let facts = ResponseFacts::parse(status, &fields);
    let lifetime = semantics::lifetime(&facts, now, routed.policy());
    Some(Held {
        version: head.version.iter().map(|byte| format!("{byte:02x}")).collect(),
        vary: head.vary.clone(),
        age: head.age,
        ttl: i64::from(lifetime.secs) - i64::from(head.age),
        length: head.length,
        status: head.status,
        records: [seen.records, seen.memory, seen.disk],
    })
}
