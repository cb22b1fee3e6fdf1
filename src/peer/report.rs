//! What `shoal peers` and the metrics show of the swarm.

use super::node::Node;
use crate::proto::swarm::{DirectoryStats, Member, Roles};
use crate::telemetry::{Label, LookupAnswer, Samples};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// All of it, for people and `shoal peers`.
pub(super) fn report(node: &Node) -> Value {
    let (now, view) = (node.clock.mono(), node.view());
    let live = view.others().map(|member| with_link(node, described(node, member, "live", now), member));
    let departed = view.departed().iter().map(|gone| {
        let mut shown = described(node, &gone.member, "dead", now);
        shown.insert("gone_secs".to_owned(), now.saturating_duration_since(gone.at).as_secs().into());
        shown
    });
    let mut members: Vec<_> = live.chain(departed).collect();
    members.sort_by_key(|member| (member["name"].to_string(), member["id"].to_string()));
    json!({
        "me": described(node, &node.me, "live", now),
        "members": members,
        "superpeers": superpeers(node),
        "directory": node.directory.as_ref().map(|service| directory(service.stats(now))),
        "in_sync": node.purges.in_sync(now),
        "leases_open": node.leases.len(),
        "lookups": lookups(node),
    })
}

fn described(node: &Node, member: &Member, state: &str, now: Instant) -> Map<String, Value> {
    let record = node.quarantine.lock().record(member.id).copied();
    let shown = json!({
        "name": &*member.name,
        "id": member.id.to_string(),
        "address": member.address.to_string(),
        "zone": &*member.zone,
        "roles": member.roles.names().collect::<Vec<_>>(),
        "state": state,
        "quarantined": record.is_some_and(|record| record.is_quarantined(now)),
        "stalls": record.map_or(0, |record| record.stalls),
        "bad_chunks": record.map_or(0, |record| record.bad_chunks),
    });
    let Value::Object(shown) = shown else { return Map::new() };
    shown
}

fn with_link(node: &Node, mut shown: Map<String, Value>, member: &Member) -> Map<String, Value> {
    if let Some(link) = node.links.get(member.id) {
        let (sent, received) = link.bytes();
        shown.insert("round_trip_ms".to_owned(), millis(link.round_trip()).into());
        shown.insert("bytes_sent".to_owned(), sent.into());
        shown.insert("bytes_received".to_owned(), received.into());
    }
    shown
}

fn superpeers(node: &Node) -> Vec<Value> {
    let state = |id| if node.sessions.get(id).is_some() { "standing" } else { "opening" };
    let view = node.view();
    let shown = wanted(node).map(|id| {
        let name = view.member(id).map_or(&node.me.name, |member| &member.name);
        json!({ "id": id.to_string(), "name": &**name, "session": state(id) })
    });
    shown.collect()
}

/// The superpeers with which this node should have a session.
pub(super) fn wanted(node: &Node) -> impl Iterator<Item = crate::proto::swarm::NodeId> {
    let superpeers = node.view().superpeers().to_vec();
    let (me, edge) = (node.me.id, node.me.roles.edge);
    superpeers.into_iter().filter(move |id| *id != me || edge)
}

fn directory((stats, warming): (DirectoryStats, bool)) -> Value {
    json!({
        "warming": warming,
        "objects": stats.objects,
        "holdings": stats.holdings,
        "holdings_max": stats.holdings_max,
        "refused": stats.refused,
        "leases": stats.leases,
        "sessions": stats.sessions,
        "granted": stats.granted,
        "followed": stats.followed,
        "expired": stats.expired,
    })
}

fn lookups(node: &Node) -> Value {
    let counts =
        LookupAnswer::ALL.iter().map(|answer| (*answer, node.metrics.mesh.lookups.of(*answer).get()));
    let counts: Vec<_> = counts.collect();
    let answers: Map<_, _> =
        counts.iter().map(|(answer, count)| (answer.as_str().to_owned(), Value::from(*count))).collect();
    let percentiles = node.lookups.percentiles();
    json!({
        "count": counts.iter().map(|(_, count)| count).sum::<u64>(),
        "answers": answers,
        "p50_ms": percentiles.map(|(median, _)| millis(median)),
        "p99_ms": percentiles.map(|(_, high)| millis(high)),
    })
}

/// Milliseconds with two places.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 100_000.0).round() / 100.0
}

/// Shows the mesh at each scrape for as long as it is there.
pub(super) fn sample_into_metrics(node: &Arc<Node>) {
    let weak = Arc::downgrade(node);
    node.metrics.on_scrape(move |samples| {
        if let Some(node) = weak.upgrade() {
            sample(&node, samples);
        }
    });
}

fn sample(node: &Node, samples: &mut Samples) {
    let (now, view) = (node.clock.mono(), node.view());
    let mut gauge = |name, help, labels: &[_], value: usize| samples.gauge(name, help, labels, value as f64);
    let open = "Leases under which this node works.";
    gauge("shoal_swarm_leases_open", open, &[], node.leases.len());
    let (wanted, standing) = (wanted(node).count(), node.sessions.len());
    let sessions = "Sessions with superpeers, by state.";
    gauge("shoal_swarm_sessions", sessions, &[("state", "standing")], standing);
    gauge("shoal_swarm_sessions", sessions, &[("state", "opening")], wanted.saturating_sub(standing));
    let with =
        |has: fn(Roles) -> bool| view.others().chain([&node.me]).filter(|member| has(member.roles)).count();
    let members = "Live nodes with this one, by role; one with both roles counts in both.";
    gauge("shoal_swarm_members", members, &[("role", "edge")], with(|roles| roles.edge));
    gauge("shoal_swarm_members", members, &[("role", "superpeer")], with(|roles| roles.superpeer));
    let quarantined = node.quarantine.lock().held(now).count();
    gauge("shoal_swarm_quarantined", "Nodes in quarantine here.", &[], quarantined);
    if let Some(service) = &node.directory {
        sample_directory(service.stats(now), samples);
    }
}

fn sample_directory((stats, warming): (DirectoryStats, bool), samples: &mut Samples) {
    let gauges = [
        ("shoal_directory_objects", "Objects that the directory knows.", stats.objects),
        ("shoal_directory_holdings", "Variants in the directory, each for each holder.", stats.holdings),
        ("shoal_directory_holdings_bound", "Bound of shoal_directory_holdings.", stats.holdings_max),
        ("shoal_directory_leases", "Leases granted and not ended.", stats.leases),
        ("shoal_directory_sessions", "Sessions that feed the directory.", stats.sessions),
        ("shoal_directory_warming", "Whether some have not announced all they have.", warming.into()),
    ];
    for (name, help, value) in gauges {
        samples.gauge(name, help, &[], value as f64);
    }
    let counters = [
        ("shoal_directory_granted_total", "Leases granted.", stats.granted),
        ("shoal_directory_followed_total", "Askers told to follow another.", stats.followed),
        ("shoal_directory_expired_total", "Leases that expired for lack of renewal.", stats.expired),
        ("shoal_directory_refused_total", "Holdings not taken because of the bound.", stats.refused),
    ];
    for (name, help, value) in counters {
        samples.counter(name, help, &[], value);
    }
}
