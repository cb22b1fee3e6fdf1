//! Asks the origin what it was asked for.

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

/// How long the origin may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Bytes of the answer, at most.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The origin's counts now.
///
/// # Errors
/// If it cannot be reached, or answers something else, or not in time.
pub(super) async fn fetch(origin: SocketAddr) -> anyhow::Result<Counts> {
    let exchange = async {
        let stream = Tcp.connect(origin).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // The connection is driven here until the answer is whole, then dropped.
        tokio::select! {
            counts = answer(sender, origin) => counts,
            result = connection => {
                result?;
                bail!("the connection ended before the answer")
            }
        }
    };
    tokio::time::timeout(LIMIT, exchange).await.context("no answer in time")?
}

async fn answer(mut sender: http1::SendRequest<Empty<Bytes>>, origin: SocketAddr) -> anyhow::Result<Counts> {
    let request = Request::get("/-/stats").header(HOST, origin.to_string()).body(Empty::new())?;
    let response = sender.send_request(request).await?;
    if response.status() != StatusCode::OK {
        bail!("status {}", response.status());
    }
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    Ok(serde_json::from_slice(&body.map_err(anyhow::Error::from_boxed)?.to_bytes())?)
}
