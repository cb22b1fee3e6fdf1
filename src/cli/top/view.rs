//! A report as lines for a terminal.

use super::super::plain::plain;
use super::report::{Report, Tier, Traffic};
use bytesize::ByteSize;
use std::collections::BTreeMap;

/// Characters of a bar.
const BAR: usize = 20;
/// Rows of sites and of peers at most, so that there is room for the rest.
const ROWS_MAX: usize = 8;
/// Characters of a name in a table whose other columns matter more.
const NAME_MAX: usize = 28;

/// The lines, each at most `width` characters and all of them at most `height`.
pub(super) fn lines(report: &Report, (width, height): (usize, usize)) -> Vec<String> {
    let mut lines = head(report);
    for table in [sites(report), hottest(report), peers(report), servers(report)].into_iter().flatten() {
        lines.push(String::new());
        lines.extend(table);
    }
    lines.truncate(height);
    lines.into_iter().map(|line| plain(&line).chars().take(width).collect()).collect()
}

fn head(report: &Report) -> Vec<String> {
    let all = &report.all;
    let mut lines = vec![
        format!(
            "{} · {} · up {} · the last {:.1} s",
            report.node,
            report.phase,
            uptime(report.uptime_secs),
            report.interval_secs
        ),
        format!(
            "requests  {}/s · hits {} · 5xx {}/s · {}/s · p50 {} · p99 {} · head p99 {}",
            rate(all.requests),
            percent(all.hit_ratio),
            rate(all.server_errors),
            bytes(all.bytes),
            millis(all.p50_ms),
            millis(all.p99_ms),
            millis(all.first_byte_p99_ms)
        ),
        format!("verdicts  {}", list(&all.by_verdict, |value| format!("{}/s", rate(value)))),
        format!("sent from {}", list(&report.bytes_by_source, |value| format!("{}/s", bytes(value)))),
        format!("memory    {} · {} objects known", tier(&report.memory), report.objects),
    ];
    if let Some(disk) = &report.disk {
        let fault = if disk.writable { "" } else { " · NOT WRITABLE" };
        lines.push(format!("disk      {}{fault}", tier(disk)));
    }
    let origin = &report.origin;
    lines.push(format!(
        "origin    {}/s · {}/s · failures {}",
        rate(origin.fetches),
        bytes(origin.bytes),
        list(&origin.failures, |value| format!("{}/s", rate(value)))
    ));
    lines.push(format!("open      {} connections · {} fills", report.connections, report.fills));
    if let Some(purges) = &report.purges {
        let sync = purges.in_sync.map_or("", |is| if is { " · in sync" } else { " · NOT IN SYNC" });
        let position = purges.position.map(|at| format!(" · position {at}")).unwrap_or_default();
        lines.push(format!("purges    {} · {}/s{sync}{position}", purges.total, rate(purges.rate)));
    }
    lines
}

fn sites(report: &Report) -> Option<Vec<String>> {
    let mut sites: Vec<_> = report.sites.iter().collect();
    if sites.len() < 2 {
        return None;
    }
    sites.sort_by(|a, b| b.1.requests.total_cmp(&a.1.requests));
    let row = |(name, site): &(&String, &Traffic)| {
        [
            cut(name),
            rate(site.requests),
            percent(site.hit_ratio),
            rate(site.server_errors),
            bytes(site.bytes),
            millis(site.p50_ms),
            millis(site.p99_ms),
        ]
    };
    let head = ["SITE", "REQUESTS/S", "HITS", "5XX/S", "BYTES/S", "P50", "P99"];
    Some(table(head, sites.iter().take(ROWS_MAX).map(row)))
}

fn hottest(report: &Report) -> Option<Vec<String>> {
    let row = |hot: &super::report::Hot| {
        [rate(hot.requests), percent(Some(hot.share)), bytes(hot.bytes), plain(&hot.name).into_owned()]
    };
    let rows = report.hottest.iter().take(2 * ROWS_MAX).map(row);
    (!report.hottest.is_empty()).then(|| table(["REQUESTS/S", "SHARE", "BYTES/S", "HOTTEST"], rows))
}

fn peers(report: &Report) -> Option<Vec<String>> {
    let peers = report.peers.as_ref().filter(|peers| !peers.is_empty())?;
    let row = |peer: &super::report::Peer| {
        [
            cut(&peer.name),
            cut(&peer.zone),
            peer.state.clone(),
            format!("{}/s", bytes(peer.given)),
            format!("{}/s", bytes(peer.taken)),
            millis(peer.round_trip_ms),
        ]
    };
    let head = ["PEER", "ZONE", "STATE", "GIVEN", "TAKEN", "ROUND TRIP"];
    Some(table(head, peers.iter().take(ROWS_MAX).map(row)))
}

fn servers(report: &Report) -> Option<Vec<String>> {
    let row = |server: &super::report::Server| {
        [
            cut(&server.server),
            if server.available { "yes" } else { "NO" }.to_owned(),
            server.in_flight.to_string(),
            server.connections.to_string(),
        ]
    };
    let servers = &report.origin.servers;
    let rows = servers.iter().take(ROWS_MAX).map(row);
    (!servers.is_empty()).then(|| table(["ORIGIN SERVER", "AVAILABLE", "IN FLIGHT", "CONNECTIONS"], rows))
}

fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> Vec<String> {
    let rows: Vec<_> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let widths: [usize; N] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn list(values: &BTreeMap<String, f64>, show: impl Fn(f64) -> String) -> String {
    if values.is_empty() {
        return "-".to_owned();
    }
    let mut values: Vec<_> = values.iter().collect();
    values.sort_by(|a, b| b.1.total_cmp(a.1));
    values.iter().map(|(name, value)| format!("{name} {}", show(**value))).collect::<Vec<_>>().join(" · ")
}

fn tier(tier: &Tier) -> String {
    let share = tier.used_bytes as f64 / tier.bound_bytes.max(1) as f64;
    let full = ((share * BAR as f64).round() as usize).min(BAR);
    let bar = format!("{}{}", "#".repeat(full), "-".repeat(BAR - full));
    format!("[{bar}] {} of {}", ByteSize(tier.used_bytes), ByteSize(tier.bound_bytes))
}

fn cut(name: &str) -> String {
    let name = plain(name);
    if name.is_empty() { "-".to_owned() } else { name.chars().take(NAME_MAX).collect() }
}

fn rate(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

fn bytes(value: f64) -> String {
    ByteSize(value.max(0.0) as u64).to_string()
}

fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{:.1} %", value * 100.0))
}

fn millis(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1} ms"))
}

/// The two largest units.
fn uptime(secs: f64) -> String {
    let text = humantime::format_duration(std::time::Duration::from_secs(secs as u64)).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::figures::Change;
    use super::super::figures::tests::figures;
    use super::*;

    fn report() -> Report {
        let (before, now) = (figures(1000, 100, 4), figures(7_203_000, 300, 6));
        Report::of(&Change::new(&before, &now))
    }

    #[test]
    fn all_parts_are_on_the_screen_and_nothing_that_a_terminal_obeys() {
        let lines = lines(&report(), (200, 100));
        let text = lines.join("\n");
        for part in [
            "edge · ready · up 2h 3s",
            "memory    [#####---------------] 64.0 MiB of 256.0 MiB",
            "disk      [##------------------] 1.0 GiB of 10.0 GiB",
            "failures connect",
            "purges    5 · 0.0/s · in sync",
            "SITE ",
            "a.test/\\u001b[2Jx",
            "edge-2",
            "10.0.0.5:8000  NO",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn lines_fit_the_screen() {
        let lines = lines(&report(), (40, 12));
        assert_eq!(lines.len(), 12);
        assert!(lines.iter().all(|line| line.chars().count() <= 40));
    }
}
