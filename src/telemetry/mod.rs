//! What the node tells its operators: metrics, the diagnostic log, the access log, request ids.
//!
//! Rooms count through handles that were resolved once ([`Metrics`], [`SiteMetrics`]); a request costs
//! a handful of relaxed atomics. Numbers that a room already keeps are read at scrape time
//! ([`Metrics::on_scrape`]). Nothing here decides anything about a request, and nothing here waits.
//!
//! State: [`Metrics`] owns all series; [`AccessLog`] owns the lines not yet written and its writer.

pub mod access;
mod clients;
mod figures;
mod labels;
mod links;
pub mod logging;
mod mesh;
mod metrics;
mod process;
mod purges;
mod registry;
mod request_id;
mod supply;
mod swarm;

pub use access::{AccessLog, AccessRecord};
pub use clients::ClientMetrics;
pub use labels::{
    AskRefusal, Given, HandshakeFailure, HttpVersion, Label, ListenerKind, LookupAnswer, Outcome, PeerAnswer,
    PeerRefusal, PerLabel, ProxyFailure, Shed, ShedWhat, Slowness, StatusClass, StreamRefusal,
};
pub use links::LinkMetrics;
pub use mesh::MeshMetrics;
pub use metrics::{CounterByReason, Entered, Metrics, NodeMetrics, SiteMetrics, Vocabulary, enter};
pub use prometheus::IntCounter;
pub use purges::{InvalidatedBy, PurgeMetrics, PurgeOutcome, Reconciled};
pub use registry::Samples;
pub use request_id::{RequestId, RequestIds};
pub use supply::SupplyMetrics;
pub use swarm::{FetchKind, PeerFailure, TakerMetrics, TakingMetrics};

/// Content type of [`Metrics::encode`].
pub const METRICS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
