//! Purges as operators and sites ask for them, by whatever way: bounded, made of selectors that the sites know, carried out
//! ([`Node::purge`]), kept in mind for `GET /purges`, and told to the audit log.

use super::{Node, Purged};
use crate::peer::Delivery;
use crate::proto::allowance::{Bucket, Rate};
use crate::proto::purge::{Mode, Selector, Shown, Wanted};
use crate::purge::PurgeError;
use crate::route::BadSelector;
use crate::task::Spawner;
use crate::telemetry::{PurgeOutcome, enter};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::fmt::Write;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// For how long live members are waited for unless the call says otherwise.
pub const WAIT_DEFAULT: Duration = Duration::from_secs(5);
/// For how long a call may have them waited for.
pub const WAIT_MAX: Duration = Duration::from_secs(25);
/// Purges in progress on a node; each may wait for members.
const OPEN_MAX: usize = 32;
/// When to come again while so many are in progress.
const BUSY_PAUSE: Duration = Duration::from_secs(1);
/// Invalidations of groups in progress on a node. Clients cause them, so they take no place of an operator's.
const GROUPS_OPEN_MAX: usize = 8;
/// Selectors of a call that count as one call more.
const SELECTORS_PER_COST: usize = 100;
/// Purges that are kept in mind.
const PAST_MAX: usize = 100;
/// Selectors of each that are.
const PAST_SELECTORS_MAX: usize = 3;
/// Lines on purges that were not done, so that nobody can fill the log by asking. Each is counted all the same.
const AUDIT_RATE: Rate = Rate { units: NonZeroU32::new(10).unwrap(), per: Duration::from_secs(1) };
/// Such lines at once.
const AUDIT_BURST: u32 = 100;

/// The way by which a purge is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// The program's own command, over the admin API.
    Cli,
    /// The admin API.
    Admin,
    /// A request to a site: `PURGE` and its like.
    Method,
    /// The origin's answer to an unsafe request (`Cache-Group-Invalidation`, RFC 9875).
    Origin,
}

impl Way {
    /// The one name of this way.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cli => "cli",
            Self::Admin => "admin",
            Self::Method => "method",
            Self::Origin => "origin",
        }
    }
}

/// Who asks.
#[derive(Clone, Debug, Serialize)]
pub struct By {
    /// By which way.
    pub way: Way,
    /// Address of the client.
    pub from: IpAddr,
    /// Name of the token's file, if one had to be shown.
    pub token: Option<String>,
}

/// A purge that is asked for.
#[derive(Clone, Debug)]
pub struct Order {
    /// What is to be purged.
    pub wanted: Vec<Wanted>,
    /// Hard or soft.
    pub mode: Mode,
    /// How long live members are waited for.
    pub wait: Duration,
    /// Who asks.
    pub by: By,
}

/// Why nothing was purged.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NotDone {
    /// More than `purge.rate` allows, or too many in progress.
    #[error("too many purges: again in {} ms", after.as_millis())]
    Limited {
        /// When to ask again.
        after: Duration,
    },
    /// A selector selects nothing here.
    #[error(transparent)]
    Invalid(#[from] BadSelector),
    /// It could not be written.
    #[error(transparent)]
    Failed(#[from] PurgeError),
}

impl NotDone {
    /// What it counts as.
    pub const fn outcome(&self) -> PurgeOutcome {
        match self {
            Self::Limited { .. } => PurgeOutcome::Limited,
            Self::Invalid(_) => PurgeOutcome::Invalid,
            Self::Failed(_) => PurgeOutcome::Failed,
        }
    }
}

/// A purge that is in force on this node, as whoever asked for it is told.
#[derive(Clone, Debug, Serialize)]
pub struct Done {
    /// Its name in the whole fleet.
    pub id: String,
    /// `hard` or `soft`.
    pub mode: &'static str,
    /// How many selectors it had.
    pub selectors: usize,
    /// Live members that have applied it, this node included.
    pub applied: usize,
    /// Live members, this node included.
    pub live: usize,
    /// Whether all of them have.
    pub complete: bool,
    /// Milliseconds from the request to the last acknowledgement, or to giving up.
    pub millis: f64,
    /// What became of it at each; this node first.
    pub nodes: Vec<AtNode>,
}

/// What became of a purge at one node.
#[derive(Clone, Debug, Serialize)]
pub struct AtNode {
    name: String,
    /// Identity in the fleet; none of a single node.
    node: Option<String>,
    applied: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    millis: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'static str>,
}

/// What bounds the purges that are asked for, and what is kept in mind of them.
pub struct Orders {
    buckets: Mutex<Buckets>,
    places: Semaphore,
    group_places: Arc<Semaphore>,
    past: Mutex<VecDeque<Past>>,
}

#[derive(Default)]
struct Buckets {
    orders: Bucket,
    groups: Bucket,
    audit: Bucket,
}

/// A purge of the past.
#[derive(Clone, Debug, Serialize)]
struct Past {
    id: String,
    /// Milliseconds since the epoch.
    at_ms: i64,
    mode: &'static str,
    selectors: usize,
    /// The first of them, abbreviated.
    first: Vec<String>,
    by: By,
    applied: usize,
    live: usize,
    millis: f64,
}

impl Default for Orders {
    fn default() -> Self {
        let places = Semaphore::new(OPEN_MAX);
        let group_places = Arc::new(Semaphore::new(GROUPS_OPEN_MAX));
        Self {
            buckets: Mutex::default(),
            places,
            group_places,
            past: Mutex::new(VecDeque::with_capacity(PAST_MAX)),
        }
    }
}

impl Orders {
    fn remember(&self, past: Past) {
        let mut all = self.past.lock();
        all.truncate(PAST_MAX - 1);
        all.push_front(past);
    }

    /// Whether a purge that is not done has a line in the log.
    fn may_audit(&self, now: Instant) -> bool {
        self.buckets.lock().audit.take(1, AUDIT_RATE, AUDIT_BURST, now).is_ok()
    }
}

impl Node {
    /// Purges what is wanted. To be run to its end in a task of its own: once begun, it should also reach the other members.
    ///
    /// # Errors
    /// If it is too much, or wrong, or cannot be made durable; then nothing is purged anywhere.
    pub async fn order(&self, order: Order) -> Result<Done, NotDone> {
        let _open = enter(&self.metrics.purges.open);
        let done = self.carry_out(&order).await;
        match &done {
            Ok(done) => audit_done(&order, done),
            Err(error) => {
                // A purge that could not be written was counted where that was tried.
                if !matches!(error, NotDone::Failed(_)) {
                    self.metrics.purges.requests.of(error.outcome()).inc();
                }
                self.audit_not(&order.by, error.outcome(), error, order.wanted.len());
            }
        }
        done
    }

    async fn carry_out(&self, order: &Order) -> Result<Done, NotDone> {
        let snapshot = self.snapshot.load_full();
        let limits = snapshot.config.purge;
        let cost =
            u32::try_from(1 + order.wanted.len() / SELECTORS_PER_COST).unwrap_or(u32::MAX).min(limits.burst);
        let taken =
            self.orders.buckets.lock().orders.take(cost, limits.rate, limits.burst, self.clock.mono());
        taken.map_err(|after| NotDone::Limited { after })?;
        let place = self.orders.places.try_acquire();
        let _place = place.map_err(|_full| NotDone::Limited { after: BUSY_PAUSE })?;
        let selectors = snapshot.router.selectors(&order.wanted)?;
        let purged = self.purge(order.mode, &selectors, order.wait.min(WAIT_MAX)).await?;
        Ok(self.remember(order, &purged))
    }

    /// Keeps a purge in mind that was carried out.
    fn remember(&self, order: &Order, purged: &Purged) -> Done {
        let done = self.done(order.mode, purged, &self.snapshot.load().config.node.name);
        let first = order.wanted.iter().take(PAST_SELECTORS_MAX).map(shown).collect();
        let Done { ref id, mode, selectors, applied, live, millis, .. } = done;
        let at_ms = self.clock.now().wall.as_millis();
        let (id, by) = (id.clone(), order.by.clone());
        self.orders.remember(Past { id, at_ms, mode, selectors, first, by, applied, live, millis });
        done
    }

    /// Purges groups of responses because the origin said so in its answer to an unsafe request (RFC 9875 §3). In force here
    /// when this returns; the other members are told behind it, by a task of `spawner`. `selectors` are what `order` wants. They
    /// have the rate of purges, apart from that of operators, as any client can cause them; what is beyond it is left undone, as
    /// the RFC allows, and told to the audit log.
    pub(super) async fn purge_groups(
        self: &Arc<Self>,
        order: Order,
        selectors: Vec<Selector>,
        spawner: &Spawner,
    ) {
        let limits = self.snapshot.load().config.purge;
        let taken = self.orders.buckets.lock().groups.take(1, limits.rate, limits.burst, self.clock.mono());
        let place = Arc::clone(&self.orders.group_places).try_acquire_owned();
        let issued = match (taken, place) {
            (Ok(()), Ok(place)) => {
                self.issue(order.mode, &selectors).await.map(|it| (it, place)).map_err(NotDone::from)
            }
            (Err(after), _) => Err(NotDone::Limited { after }),
            (_, Err(_full)) => Err(NotDone::Limited { after: BUSY_PAUSE }),
        };
        match issued {
            Ok((issued, place)) => {
                let node = Arc::clone(self);
                spawner.spawn_graceful(async move {
                    let _place = place;
                    let purged = node.spread(issued, order.wait).await;
                    audit_done(&order, &node.remember(&order, &purged));
                });
            }
            Err(error) => {
                if !matches!(error, NotDone::Failed(_)) {
                    self.metrics.purges.requests.of(error.outcome()).inc();
                }
                self.audit_not(&order.by, error.outcome(), &error, selectors.len());
            }
        }
    }

    fn done(&self, mode: Mode, purged: &Purged, name: &str) -> Done {
        let me = self.mesh.as_ref().map(|mesh| mesh.me().id.to_string());
        let here = AtNode {
            name: name.to_owned(),
            node: me,
            applied: true,
            millis: Some(millis(purged.here)),
            why: None,
        };
        let others = purged.receipts.iter().map(|receipt| {
            let (took, why) = match receipt.delivery {
                Delivery::Applied(took) => (Some(millis(took)), None),
                Delivery::Missed(why) => (None, Some(why)),
            };
            let (name, node) = (receipt.name.to_string(), Some(receipt.node.to_string()));
            AtNode { name, node, applied: why.is_none(), millis: took, why }
        });
        let (applied, live) = (purged.applied(), purged.live());
        Done {
            id: purged.id.to_string(),
            mode: mode.as_str(),
            selectors: purged.selectors,
            applied,
            live,
            complete: applied == live,
            millis: millis(purged.took),
            nodes: std::iter::once(here).chain(others).collect(),
        }
    }

    /// Counts and tells of a purge that was not even tried: whoever asked may not, or cannot be understood.
    pub(super) fn turn_away(&self, by: &By, outcome: PurgeOutcome, why: &str) {
        self.metrics.purges.requests.of(outcome).inc();
        self.audit_not(by, outcome, &why, 0);
    }

    fn audit_not(&self, by: &By, outcome: PurgeOutcome, why: &dyn std::fmt::Display, selectors: usize) {
        if self.orders.may_audit(self.clock.mono()) {
            let By { way, from, token } = by;
            let (way, outcome, token) = (way.as_str(), outcome.as_str(), token.as_deref().unwrap_or("-"));
            tracing::warn!(target: "shoal::audit", action = "purge", outcome, way, %from, token, selectors, why = %why, "not purged");
        }
    }

    /// The purges of the past, the latest first, and the state of the log.
    pub fn past_orders(&self) -> Value {
        let usage = self.purges.usage();
        let past: Vec<Past> = self.orders.past.lock().iter().cloned().collect();
        json!({
            "purges": past,
            "log": {
                "entries": usage.entries,
                "entries_max": crate::proto::purge::MARKS_MAX,
                "folded": usage.folded,
                "position": usage.position.0,
                "issuers": usage.issuers,
                "in_sync": self.purges.in_sync(self.clock.mono()),
            },
        })
    }
}

fn audit_done(order: &Order, done: &Done) {
    let Order { wanted, by: By { way, from, token }, .. } = order;
    let mut first = String::new();
    for (index, wanted) in wanted.iter().take(PAST_SELECTORS_MAX).enumerate() {
        let separator = if index == 0 { "" } else { "; " };
        write!(first, "{separator}{}", shown(wanted)).expect("writing to a string cannot fail");
    }
    let outcome = if done.complete { PurgeOutcome::Complete } else { PurgeOutcome::Partial };
    let (outcome, way, token) = (outcome.as_str(), way.as_str(), token.as_deref().unwrap_or("-"));
    let Done { id, mode, selectors, applied, live, millis, .. } = done;
    tracing::info!(
        target: "shoal::audit", action = "purge", outcome, id, way, %from, token, mode, selectors, first, applied, live, millis,
        "purged"
    );
}

/// A selector for a reader: escaped and cut.
fn shown(wanted: &Wanted) -> String {
    let kind = wanted.kind().as_str();
    match wanted {
        Wanted::All => kind.to_owned(),
        Wanted::Tag { site: Some(site), tag } => format!("{kind} {} of {}", Shown(tag), Shown(site)),
        other => format!("{kind} {}", Shown(other.text())),
    }
}

/// Milliseconds to a microsecond.
fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
