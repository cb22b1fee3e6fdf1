//! All metrics of a node, as handles that are resolved once.

use super::clients::ClientMetrics;
use super::labels::{HandshakeFailure, HttpVersion, ListenerKind, Outcome, PerLabel, StatusClass};
use super::links::LinkMetrics;
use super::mesh::MeshMetrics;
use super::process::ProcessMetrics;
use super::purges::PurgeMetrics;
use super::registry::{Families, Family, Registry, Samples};
use super::supply::SupplyMetrics;
use super::swarm::{TakerMetrics, TakingFamilies, TakingMetrics};
use crate::clock::Clock;
use crate::proto::verdict::{Source, Verdict};
use parking_lot::Mutex;
use prometheus::{Histogram, IntCounter, IntGauge};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// Upper bounds of the time histograms, in seconds: 50 µs to 60 s.
const TIME_BUCKETS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0, 60.0,
];

/// Upper bounds of the histogram of ages, in seconds: a second to a month.
const AGE_BUCKETS: &[f64] = &[
    1.0,
    10.0,
    60.0,
    300.0,
    900.0,
    3_600.0,
    14_400.0,
    43_200.0,
    86_400.0,
    259_200.0,
    604_800.0,
    2_592_000.0,
];

/// Sites with series of their own; those beyond share [`SITE_OVERFLOW`]. Each has about 220 series in
/// about 100 KB.
const SITES_MAX: usize = 256;
/// The label of sites beyond [`SITES_MAX`]. No host is named like this.
const SITE_OVERFLOW: &str = "(other)";
/// The label of requests that no site takes.
const SITE_NONE: &str = "(none)";

/// The closed label vocabularies that belong to other rooms: the names of their enums in order.
/// [`CounterByReason::inc`] takes a position in the list.
#[derive(Clone, Copy, Debug)]
pub struct Vocabulary {
    /// Why a response was not stored.
    pub not_stored: &'static [&'static str],
    /// Why the origin was asked.
    pub origin_fetch: &'static [&'static str],
    /// How an origin fetch failed.
    pub origin_failure: &'static [&'static str],
    /// Why a request was refused.
    pub refusal: &'static [&'static str],
}

/// All metrics of a node.
pub struct Metrics {
    /// Handles that belong to no site.
    pub node: NodeMetrics,
    /// Handles of the node's part in the swarm.
    pub mesh: MeshMetrics,
    /// Handles of what peers are given.
    pub supply: SupplyMetrics,
    /// Handles of purges.
    pub purges: PurgeMetrics,
    /// Handles for requests that no site takes, so that each request is counted once.
    pub unrouted: Arc<SiteMetrics>,
    registry: Registry,
    families: SiteFamilies,
    vocabulary: Vocabulary,
    sites: Mutex<HashMap<String, Arc<SiteMetrics>>>,
}

impl Metrics {
    /// The metrics of the node `name` in `zone`, all node-wide series at 0.
    pub fn new(name: &str, zone: Option<&str>, vocabulary: Vocabulary, clock: Clock) -> Arc<Self> {
        let registry = Registry::default();
        let build =
            registry.gauges("shoal_build_info", "Version of the running binary; always 1.", ["version"]);
        build.child([env!("CARGO_PKG_VERSION")]).set(1);
        let info =
            registry.gauges("shoal_node_info", "Name and zone of the node; always 1.", ["node", "zone"]);
        info.child([name, zone.unwrap_or_default()]).set(1);
        let process = ProcessMetrics::new(clock);
        registry.collect_from(Arc::new(move |families: &mut Families| process.collect(families)));
        let families = SiteFamilies::new(&registry);
        Arc::new(Self {
            node: NodeMetrics::new(&registry, vocabulary.refusal),
            mesh: MeshMetrics::new(&registry),
            supply: SupplyMetrics::new(&registry),
            purges: PurgeMetrics::new(&registry),
            unrouted: Arc::new(SiteMetrics::new(&families, SITE_NONE, &vocabulary)),
            families,
            registry,
            vocabulary,
            sites: Mutex::default(),
        })
    }

    /// The handles of the site `name`, all at 0 on first use. Resolve them when a configuration is
    /// applied, not per request.
    pub fn site(&self, name: &str) -> Arc<SiteMetrics> {
        let mut sites = self.sites.lock();
        let label = if sites.contains_key(name) || sites.len() < SITES_MAX { name } else { SITE_OVERFLOW };
        let resolve = || Arc::new(SiteMetrics::new(&self.families, label, &self.vocabulary));
        sites.entry(label.to_owned()).or_insert_with(resolve).clone()
    }

    /// Forgets the series of all sites but `names`, after a reload. Handles still held by requests in
    /// progress stay usable.
    pub fn retain_sites(&self, names: &[&str]) {
        let names: HashSet<&str> = names.iter().copied().chain([SITE_OVERFLOW, SITE_NONE]).collect();
        let keep = |site: &str| names.contains(site);
        self.sites.lock().retain(|site, _| keep(site));
        self.families.retain(keep);
    }

    /// Adds a source of numbers that a room keeps anyway; asked at each scrape. It must not block. A
    /// source that refers back to these metrics should hold a [`Weak`](std::sync::Weak).
    pub fn on_scrape(&self, source: impl Fn(&mut Samples) + Send + Sync + 'static) {
        self.registry.sample_from(Arc::new(source));
    }

    /// The series of the metrics whose names are `wanted`, as JSON ([`figures`](super::figures)).
    pub fn figures(&self, wanted: impl Fn(&str) -> bool) -> serde_json::Value {
        super::figures::of(self.registry.gather(wanted))
    }

    /// All series in the Prometheus text format ([`METRICS_CONTENT_TYPE`](super::METRICS_CONTENT_TYPE)).
    pub fn encode(&self) -> String {
        self.registry.encode()
    }
}

/// Handles that belong to no site.
pub struct NodeMetrics {
    /// Client connections open, by listener.
    pub connections_open: PerLabel<ListenerKind, IntGauge>,
    /// Client connections whose HTTP version is known, by version.
    pub connections_serving: PerLabel<HttpVersion, IntGauge>,
    /// Client connections accepted.
    pub connections_accepted: IntCounter,
    /// Clients that were given up.
    pub clients: ClientMetrics,
    /// Errors of accept calls.
    pub accept_errors: IntCounter,
    /// TLS handshakes that failed.
    pub tls_handshake_failures: PerLabel<HandshakeFailure, IntCounter>,
    /// Reloads of certificate files.
    pub certificate_reloads: PerLabel<Outcome, IntCounter>,
    /// Requests refused, by reason; also those whose site is unknown.
    pub requests_refused: CounterByReason,
    /// Access log lines dropped because the queue was full or the file could not be written.
    pub access_log_dropped: IntCounter,
    /// Reloads of the configuration.
    pub config_reloads: PerLabel<Outcome, IntCounter>,
    /// Connections with other nodes.
    pub links: LinkMetrics,
    config_reload_successful: IntGauge,
    config_reload_success_time: IntGauge,
    /// What is taken from peers.
    pub taker: TakerMetrics,
}

impl NodeMetrics {
    /// Notes a (re)load of the configuration at `unix_seconds`.
    pub fn config_loaded(&self, outcome: Outcome, unix_seconds: i64) {
        self.config_reloads.of(outcome).inc();
        self.config_reload_successful.set(i64::from(outcome == Outcome::Success));
        if outcome == Outcome::Success {
            self.config_reload_success_time.set(unix_seconds);
        }
    }

    fn new(registry: &Registry, refusals: &'static [&'static str]) -> Self {
        let counter = |name, help| registry.counters(name, help, []).child([]);
        let gauge = |name, help| registry.gauges(name, help, []).child([]);
        let open = registry.gauges("shoal_connections_open", "Client connections open.", ["listener"]);
        let serving = registry.gauges(
            "shoal_connections_serving",
            "Client connections open whose HTTP version is known.",
            ["version"],
        );
        let handshakes = registry.counters(
            "shoal_tls_handshake_failures_total",
            "TLS handshakes that failed.",
            ["reason"],
        );
        let certificates = registry.counters(
            "shoal_tls_certificate_reloads_total",
            "Reloads of certificate files.",
            ["result"],
        );
        let refused = registry.counters(
            "shoal_requests_refused_total",
            "Requests refused by a rule or limit.",
            ["reason"],
        );
        let reloads =
            registry.counters("shoal_config_reloads_total", "Loads of the configuration.", ["result"]);
        Self {
            connections_open: PerLabel::new(|label| open.child([label])),
            connections_serving: PerLabel::new(|label| serving.child([label])),
            connections_accepted: counter("shoal_connections_accepted_total", "Client connections accepted."),
            clients: ClientMetrics::new(registry),
            accept_errors: counter("shoal_accept_errors_total", "Errors of accept calls."),
            tls_handshake_failures: PerLabel::new(|label| handshakes.child([label])),
            certificate_reloads: PerLabel::new(|label| certificates.child([label])),
            requests_refused: CounterByReason::new(refusals, |reason| refused.child([reason])),
            access_log_dropped: counter(
                "shoal_access_log_dropped_total",
                "Access log lines dropped because the queue was full or a write failed.",
            ),
            config_reloads: PerLabel::new(|label| reloads.child([label])),
            links: LinkMetrics::new(registry),
            config_reload_successful: gauge(
                "shoal_config_last_reload_successful",
                "Whether the last load of the configuration was applied.",
            ),
            config_reload_success_time: gauge(
                "shoal_config_last_reload_success_timestamp_seconds",
                "When a configuration was last applied.",
            ),
            taker: TakerMetrics::new(registry),
        }
    }
}

/// Handles of one site.
pub struct SiteMetrics {
    requests: Box<[IntCounter]>,
    response_bytes: PerLabel<Source, IntCounter>,
    duration: Histogram,
    first_byte: Histogram,
    age: Histogram,
    /// Responses that were not stored, by reason.
    pub not_stored: CounterByReason,
    /// Requests sent to the origin, by reason.
    pub origin_fetches: CounterByReason,
    /// Requests to the origin that failed, by kind.
    pub origin_failures: CounterByReason,
    /// Body bytes received from the origin.
    pub origin_bytes: IntCounter,
    origin_first_byte: Histogram,
    /// Fills in progress ([`enter`]).
    pub fills_open: IntGauge,
    /// Requests that joined a fill that another began.
    pub collapsed: IntCounter,
    /// What is taken from peers.
    pub taking: TakingMetrics,
}

impl SiteMetrics {
    /// Counts one finished request. `status` is that of the response head, `None` if none was sent;
    /// `first_byte` is the time to the response head.
    pub fn request(
        &self,
        verdict: Verdict,
        status: Option<u16>,
        duration: Duration,
        first_byte: Option<Duration>,
    ) {
        let class = StatusClass::of(status);
        self.requests[verdict as usize * StatusClass::ALL.len() + class as usize].inc();
        self.duration.observe(duration.as_secs_f64());
        if let Some(first_byte) = first_byte {
            self.first_byte.observe(first_byte.as_secs_f64());
        }
    }

    /// Counts a response with an `Age` of this many seconds. Others have none: what was forwarded, refused or failed.
    pub fn aged(&self, seconds: u32) {
        self.age.observe(f64::from(seconds));
    }

    /// Counts an answer of the origin to a request for the cache; `waited` is the time to its head, retries included.
    pub fn origin_answered(&self, waited: Duration) {
        self.origin_first_byte.observe(waited.as_secs_f64());
    }

    /// Counts body bytes sent to a client.
    pub fn sent(&self, source: Source, bytes: u64) {
        self.response_bytes.of(source).inc_by(bytes);
    }

    fn new(families: &SiteFamilies, site: &str, vocabulary: &Vocabulary) -> Self {
        let by_reason = |family: &Family<IntCounter, 2>, names| {
            CounterByReason::new(names, |reason| family.child([site, reason]))
        };
        let requests = Verdict::ALL.iter().flat_map(|verdict| {
            StatusClass::ALL.map(|class| families.requests.child([site, verdict.as_str(), class.as_str()]))
        });
        Self {
            requests: requests.collect(),
            response_bytes: PerLabel::new(|source| families.response_bytes.child([site, source])),
            duration: families.duration.child([site]),
            first_byte: families.first_byte.child([site]),
            age: families.age.child([site]),
            not_stored: by_reason(&families.not_stored, vocabulary.not_stored),
            origin_fetches: by_reason(&families.origin_fetches, vocabulary.origin_fetch),
            origin_failures: by_reason(&families.origin_failures, vocabulary.origin_failure),
            origin_bytes: families.origin_bytes.child([site]),
            origin_first_byte: families.origin_first_byte.child([site]),
            fills_open: families.fills_open.child([site]),
            collapsed: families.collapsed.child([site]),
            taking: families.taking.of_site(site),
        }
    }
}

/// The families whose first label is a site.
struct SiteFamilies {
    requests: Family<IntCounter, 3>,
    response_bytes: Family<IntCounter, 2>,
    duration: Family<Histogram, 1>,
    first_byte: Family<Histogram, 1>,
    age: Family<Histogram, 1>,
    not_stored: Family<IntCounter, 2>,
    origin_fetches: Family<IntCounter, 2>,
    origin_failures: Family<IntCounter, 2>,
    origin_bytes: Family<IntCounter, 1>,
    origin_first_byte: Family<Histogram, 1>,
    fills_open: Family<IntGauge, 1>,
    collapsed: Family<IntCounter, 1>,
    taking: TakingFamilies,
}

impl SiteFamilies {
    fn new(registry: &Registry) -> Self {
        let per_site = |name, help| registry.counters(name, help, ["site"]);
        let by = |name, help, label| registry.counters(name, help, ["site", label]);
        Self {
            requests: registry.counters(
                "shoal_requests_total",
                "Requests finished, by verdict and class of the response status.",
                ["site", "verdict", "code_class"],
            ),
            response_bytes: by(
                "shoal_response_bytes_total",
                "Body bytes sent to clients, by where they came from.",
                "source",
            ),
            duration: registry.histograms(
                "shoal_request_duration_seconds",
                "Time from the request head to the end of the response.",
                ["site"],
                TIME_BUCKETS,
            ),
            first_byte: registry.histograms(
                "shoal_time_to_first_byte_seconds",
                "Time from the request head to the response head.",
                ["site"],
                TIME_BUCKETS,
            ),
            age: registry.histograms(
                "shoal_response_age_seconds",
                "Age of the responses that came from the cache or went into it, when their head was sent.",
                ["site"],
                AGE_BUCKETS,
            ),
            not_stored: by("shoal_responses_not_stored_total", "Origin responses not stored.", "reason"),
            origin_fetches: by("shoal_origin_fetches_total", "Requests sent to the origin.", "reason"),
            origin_failures: by("shoal_origin_failures_total", "Requests to the origin that failed.", "kind"),
            origin_bytes: per_site("shoal_origin_bytes_total", "Body bytes received from the origin."),
            origin_first_byte: registry.histograms(
                "shoal_origin_first_byte_seconds",
                "Time from a request for the cache to the origin's response head, retries included.",
                ["site"],
                TIME_BUCKETS,
            ),
            fills_open: registry.gauges(
                "shoal_fills_open",
                "Fetches in progress that feed the cache.",
                ["site"],
            ),
            collapsed: per_site("shoal_requests_collapsed_total", "Requests that joined a fill of another."),
            taking: TakingFamilies::new(registry),
        }
    }

    fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.taking.retain(&keep);
        let (one, two) = (|site: &[String; 1]| keep(&site[0]), |site: &[String; 2]| keep(&site[0]));
        self.requests.retain(|labels| keep(&labels[0]));
        self.response_bytes.retain(two);
        self.duration.retain(one);
        self.first_byte.retain(one);
        self.age.retain(one);
        self.not_stored.retain(two);
        self.origin_fetches.retain(two);
        self.origin_failures.retain(two);
        self.origin_bytes.retain(one);
        self.origin_first_byte.retain(one);
        self.fills_open.retain(one);
        self.collapsed.retain(one);
    }
}

/// Counters of a closed list of reasons, indexed by position.
pub struct CounterByReason(Box<[IntCounter]>);

impl CounterByReason {
    fn new(names: &'static [&'static str], child: impl Fn(&'static str) -> IntCounter) -> Self {
        Self(names.iter().map(|name| child(name)).collect())
    }

    /// Counts the reason at `position` of its list.
    pub fn inc(&self, position: usize) {
        debug_assert!(position < self.0.len(), "reason {position} is not in the vocabulary");
        if let Some(counter) = self.0.get(position) {
            counter.inc();
        }
    }

    /// How often the reason at `position` was counted; 0 beyond the list.
    pub fn count(&self, position: usize) -> u64 {
        self.0.get(position).map_or(0, IntCounter::get)
    }
}

/// Adds one to `gauge` until the returned value is dropped.
#[must_use]
pub fn enter(gauge: &IntGauge) -> Entered {
    gauge.inc();
    Entered(gauge.clone())
}

/// One unit of a gauge, given back on drop, so that a cancelled future cannot leak it.
pub struct Entered(IntGauge);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
