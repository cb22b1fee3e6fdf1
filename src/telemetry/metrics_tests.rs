use super::*;
use crate::telemetry::Label;
use std::collections::HashSet;

const VOCABULARY: Vocabulary = Vocabulary {
    not_stored: &["no_store", "private"],
    origin_fetch: &["miss", "revalidate"],
    origin_failure: &["connect", "timeout"],
    refusal: &["bad_host", "too_large"],
};

fn metrics() -> Arc<Metrics> {
    Metrics::new("edge-1", Some("a"), VOCABULARY, Clock::system())
}

/// The value of the series written as `name{labels}`.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn discriminants_follow_the_order_of_all() {
    for (position, verdict) in Verdict::ALL.into_iter().enumerate() {
        assert_eq!(verdict as usize, position);
    }
    for (position, class) in StatusClass::ALL.into_iter().enumerate() {
        assert_eq!(class as usize, position);
    }
    for (position, ending) in crate::proto::swarm::Ending::ALL.iter().enumerate() {
        assert_eq!(ending.position(), position);
    }
    for (position, source) in Source::ALL.into_iter().enumerate() {
        assert_eq!(source as usize, position);
    }
}

#[test]
fn all_label_sets_are_present_at_zero_from_the_start() {
    let metrics = metrics();
    metrics.site("shop");
    let text = metrics.encode();
    let requests = text.lines().filter(|line| line.starts_with("shoal_requests_total{site=\"shop\"")).count();
    assert_eq!(requests, Verdict::ALL.len() * StatusClass::ALL.len());
    for series in [
        r#"shoal_origin_fetches_total{site="shop",reason="miss"}"#,
        r#"shoal_origin_fetches_total{site="shop",reason="revalidate"}"#,
        r#"shoal_responses_not_stored_total{site="shop",reason="private"}"#,
        r#"shoal_origin_failures_total{site="shop",kind="connect"}"#,
        r#"shoal_response_bytes_total{site="shop",source="disk"}"#,
        r#"shoal_request_duration_seconds_count{site="shop"}"#,
        r#"shoal_response_age_seconds_count{site="shop"}"#,
        r#"shoal_origin_first_byte_seconds_count{site="shop"}"#,
        r#"shoal_requests_refused_total{reason="bad_host"}"#,
        r#"shoal_connections_open{listener="https"}"#,
        r#"shoal_connections_shed_total{limit="address",what="idle"}"#,
        r#"shoal_http2_floods_total{kind="resets"}"#,
        r#"shoal_tls_handshake_failures_total{reason="timeout"}"#,
        r#"shoal_config_reloads_total{result="failure"}"#,
        "shoal_access_log_dropped_total",
        r#"shoal_swarm_lookups_total{answer="unreachable"}"#,
        r#"shoal_swarm_leases_ended_total{ending="not_kept"}"#,
        r#"shoal_swarm_requests_refused_total{reason="busy"}"#,
        "shoal_swarm_lookup_duration_seconds_count",
        r#"shoal_peer_given_bytes_total{kind="relayed"}"#,
        r#"shoal_peer_requests_total{answer="not_stored"}"#,
        r#"shoal_peer_requests_total{answer="refused"}"#,
        r#"shoal_peer_taken_bytes_total{site="shop"}"#,
        r#"shoal_peer_fetches_total{site="shop",kind="fresher"}"#,
        r#"shoal_swarm_origin_fetches_total{site="shop",ground="off"}"#,
        r#"shoal_peer_failures_total{kind="disputed"}"#,
        "shoal_multi_holder_fills_total",
        "shoal_peer_duplicate_bytes_total",
    ] {
        assert_eq!(value(&text, series), Some(0.0), "{series} in\n{text}");
    }
}

#[test]
fn every_metric_has_help_and_type_and_counters_end_in_total() {
    let metrics = metrics();
    metrics.site("shop").request(Verdict::HitMemory, Some(200), Duration::from_millis(1), None);
    metrics.on_scrape(|samples| samples.counter("shoal_disk_errors_total", "Errors of the disk.", &[], 0));
    let text = metrics.encode();
    let (mut helped, mut typed) = (HashSet::new(), HashSet::new());
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').expect("name and text");
            assert!(!help.is_empty() && helped.insert(name), "{line}");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("name and kind");
            assert!(typed.insert(name), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(name.starts_with("shoal_") || name.starts_with("process_"), "{line}");
        } else {
            let name = line.split(['{', ' ']).next().expect("a name");
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            assert!(typed.contains(name) || base.is_some_and(|base| typed.contains(base)), "{line}");
        }
    }
    assert_eq!(helped, typed);
    assert!(typed.contains("process_open_fds") && typed.contains("shoal_build_info"));
}

#[test]
fn a_request_is_counted_under_its_verdict_and_class() {
    let metrics = metrics();
    let site = metrics.site("shop");
    let ttfb = Some(Duration::from_micros(80));
    site.request(Verdict::Error, Some(504), Duration::from_secs(2), ttfb);
    site.request(Verdict::Pass, None, Duration::from_secs(1), None);
    site.sent(Source::Node, 17);
    let text = metrics.encode();
    let series = r#"shoal_requests_total{site="shop",verdict="error",code_class="5xx"}"#;
    assert_eq!(value(&text, series), Some(1.0));
    let series = r#"shoal_requests_total{site="shop",verdict="pass",code_class="none"}"#;
    assert_eq!(value(&text, series), Some(1.0));
    assert_eq!(value(&text, r#"shoal_response_bytes_total{site="shop",source="node"}"#), Some(17.0));
    assert_eq!(value(&text, r#"shoal_request_duration_seconds_count{site="shop"}"#), Some(2.0));
    assert_eq!(
        value(&text, r#"shoal_time_to_first_byte_seconds_bucket{site="shop",le="0.0001"}"#),
        Some(1.0)
    );
}

#[test]
fn reasons_are_counted_by_position() {
    let metrics = metrics();
    metrics.site("shop").origin_fetches.inc(1);
    assert_eq!(metrics.site("shop").origin_fetches.count(1), 1);
    let text = metrics.encode();
    assert_eq!(value(&text, r#"shoal_origin_fetches_total{site="shop",reason="revalidate"}"#), Some(1.0));
}

#[test]
fn series_of_removed_sites_disappear_and_their_handles_stay_usable() {
    let metrics = metrics();
    let (gone, kept) = (metrics.site("gone"), metrics.site("kept"));
    kept.collapsed.inc();
    metrics.retain_sites(&["kept"]);
    gone.collapsed.inc();
    let text = metrics.encode();
    assert!(!text.contains("site=\"gone\""), "{text}");
    assert_eq!(value(&text, r#"shoal_requests_collapsed_total{site="kept"}"#), Some(1.0));
}

#[test]
fn sites_beyond_the_bound_share_one_label() {
    let metrics = metrics();
    for n in 0..SITES_MAX + 2 {
        metrics.site(&format!("site-{n}")).collapsed.inc();
    }
    let text = metrics.encode();
    assert_eq!(value(&text, r#"shoal_requests_collapsed_total{site="(other)"}"#), Some(2.0));
    let series = text.lines().filter(|line| line.starts_with("shoal_requests_collapsed_total{"));
    assert_eq!(series.count(), SITES_MAX + 2, "the sites, those beyond, and none");
}

#[test]
fn nodes_beyond_the_bound_share_one_label() {
    let metrics = metrics();
    for n in 0..200 {
        metrics.node.links.received_from(&format!("node-{n}")).inc();
    }
    metrics.node.links.received_from("node-0").inc();
    let text = metrics.encode();
    assert_eq!(value(&text, r#"shoal_peer_received_bytes_total{peer="node-0"}"#), Some(2.0));
    assert_eq!(value(&text, r#"shoal_peer_received_bytes_total{peer="(other)"}"#), Some(72.0));
    let series = text.lines().filter(|line| line.starts_with("shoal_peer_received_bytes_total{"));
    assert_eq!(series.count(), 129, "those of the bound, and one for all others");
}

#[test]
fn requests_that_no_site_takes_are_counted_across_reloads() {
    let metrics = metrics();
    metrics.unrouted.request(Verdict::Refused, Some(421), Duration::ZERO, None);
    metrics.retain_sites(&[]);
    let series = r#"shoal_requests_total{site="(none)",verdict="refused",code_class="4xx"}"#;
    assert_eq!(value(&metrics.encode(), series), Some(1.0));
}

#[test]
fn an_entered_gauge_goes_back_when_the_guard_drops() {
    let metrics = metrics();
    let site = metrics.site("shop");
    let guard = enter(&site.fills_open);
    assert_eq!(site.fills_open.get(), 1);
    drop(guard);
    assert_eq!(site.fills_open.get(), 0);
}

#[test]
fn the_last_reload_is_told_with_its_time() {
    let metrics = metrics();
    metrics.node.config_loaded(Outcome::Success, 1_700_000_000);
    metrics.node.config_loaded(Outcome::Failure, 1_800_000_000);
    let text = metrics.encode();
    assert_eq!(value(&text, "shoal_config_last_reload_successful"), Some(0.0));
    assert_eq!(value(&text, "shoal_config_last_reload_success_timestamp_seconds"), Some(1_700_000_000.0));
    assert_eq!(value(&text, r#"shoal_config_reloads_total{result="failure"}"#), Some(1.0));
}
