//! Asks the demo's processes for their own figures.

use crate::cli::origin::Counts;
use crate::net::{Tcp, Transport};
use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::time::Duration;

/// How long a process may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Bytes of an answer, at most.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// The origin's counts now.
///
/// # Errors
/// If it cannot be reached, or answers something else, or not in time.
pub(super) async fn of_origin(origin: SocketAddr) -> anyhow::Result<Counts> {
    Ok(serde_json::from_slice(&get(origin, "/-/stats").await?)?)
}

/// Whether the edge with this admin interface knows `others` live nodes and has sessions with its superpeers.
///
/// # Errors
/// As of [`of_origin`].
pub(super) async fn has_met(admin: SocketAddr, others: usize) -> anyhow::Result<bool> {
    let report: serde_json::Value = serde_json::from_slice(&get(admin, "/peers").await?)?;
    let count = |list: &str, key: &str, value: &str| {
        let members = report[list].as_array().into_iter().flatten();
        members.filter(|member| member[key] == value).count()
    };
    let superpeers = report["superpeers"].as_array().map_or(0, Vec::len);
    let standing = count("superpeers", "session", "standing");
    Ok(count("members", "state", "live") >= others && superpeers > 0 && standing == superpeers)
}

/// The metrics of an edge.
///
/// # Errors
/// As of [`of_origin`].
pub(super) async fn metrics(at: SocketAddr) -> anyhow::Result<Metrics> {
    Ok(Metrics(String::from_utf8(get(at, "/metrics").await?.into())?))
}

/// Metrics in Prometheus' text format.
pub(super) struct Metrics(String);

impl Metrics {
    /// The sum of a counter over all its series that have this label, such as `source="memory"`; over all for `""`.
    /// 0 for a counter that there is not.
    pub(super) fn sum(&self, name: &str, label: &str) -> u64 {
        let values = self.0.lines().filter_map(|line| {
            let rest = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']))?;
            let (labels, value) = rest.rsplit_once(' ')?;
            labels.contains(label).then(|| value.parse::<f64>().ok())?
        });
        values.sum::<f64>() as u64
    }
}

async fn get(at: SocketAddr, path: &str) -> anyhow::Result<Bytes> {
    let exchange = async {
        let stream = Tcp.connect(at).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // The connection is driven here until the answer is whole, then dropped.
        tokio::select! {
            answer = answer(sender, at, path) => answer,
            result = connection => {
                result?;
                bail!("the connection ended before the answer")
            }
        }
    };
    tokio::time::timeout(LIMIT, exchange).await.context("no answer in time")?
}

async fn answer(
    mut sender: http1::SendRequest<Empty<Bytes>>,
    at: SocketAddr,
    path: &str,
) -> anyhow::Result<Bytes> {
    let request = Request::get(path).header(HOST, at.to_string()).body(Empty::new())?;
    let response = sender.send_request(request).await?;
    if response.status() != StatusCode::OK {
        bail!("status {}", response.status());
    }
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    Ok(body.map_err(anyhow::Error::from_boxed)?.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_summed_over_its_series() {
        let text = "# HELP a_total A.\na_total{site=\"x\",source=\"disk\"} 3\na_total{source=\"disk\"} 4\n\
                    a_total{source=\"peer\"} 5\na_total_other 7\nb_total 9\n";
        let metrics = Metrics(text.to_owned());
        let sums = [("a_total", "source=\"disk\""), ("a_total", ""), ("b_total", ""), ("c_total", "")]
            .map(|(name, label)| metrics.sum(name, label));
        assert_eq!(sums, [7, 12, 9, 0]);
    }
}
