//! `shoal explain URL`: asks the admin interface of a running node.

use super::{print_json, print_line};
use crate::net::{Tcp, Transport};
use crate::task::Spawner;
use anyhow::{Context, bail};
use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// How long the node may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The URL to explain, such as `http://example.com/logo.svg`.
    url: String,
    /// Address of the node's admin interface (`admin.listen`).
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9090")]
    admin: SocketAddr,
    /// File with the admin token, if the node has one.
    #[arg(long, value_name = "F")]
    token_file: Option<PathBuf>,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
}

/// Asks and prints.
pub fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(async {
        tokio::time::timeout(ANSWER_TIMEOUT, ask(args)).await.context("the node did not answer in time")?
    })?;
    if args.json {
        print_json(&answer)?;
    } else {
        tell(&answer)?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn ask(args: &Args) -> anyhow::Result<Value> {
    let spawner = Spawner::current();
    let stream = Tcp
        .connect(args.admin)
        .await
        .with_context(|| format!("no admin interface at {}; start the node with --admin", args.admin))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    spawner.spawn(async move {
        let _ = connection.await;
    });
    let target = format!("/explain?url={}", utf8_percent_encode(&args.url, NON_ALPHANUMERIC));
    let mut request = Request::get(target).header(HOST, args.admin.to_string());
    if let Some(path) = &args.token_file {
        let token =
            std::fs::read_to_string(path).with_context(|| format!("token file {}", path.display()))?;
        request = request.header(AUTHORIZATION, format!("Bearer {}", token.trim()));
    }
    let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("answer of the node: {error}"))?.to_bytes();
    let answer: Value =
        serde_json::from_slice(&body).context("the answer is no JSON: is this the admin interface?")?;
    if status != StatusCode::OK {
        bail!(
            "{}",
            answer["detail"].as_str().or_else(|| answer["title"].as_str()).unwrap_or(status.as_str())
        );
    }
    Ok(answer)
}

/// Prints the answer for a reader.
fn tell(answer: &Value) -> anyhow::Result<()> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    print_line(&text(&answer["url"]))?;
    print_line(&format!(
        "  next     {}: {}",
        text(&answer["next"]["verdict"]),
        text(&answer["next"]["why"])
    ))?;
    print_line(&format!("  site     {}  rule {}", text(&answer["site"]), text(&answer["rule"])))?;
    let key = &answer["key"];
    print_line(&format!(
        "  key      {} {}://{}{}",
        text(&key["site"]),
        text(&key["scheme"]),
        text(&key["host"]),
        text(&key["path"])
    ))?;
    print_line(&format!("  object   {}", text(&answer["object"])))?;
    for variant in answer["stored"].as_array().into_iter().flatten() {
        let records = &variant["records"];
        print_line(&format!(
            "  stored   {} bytes in {} record(s): {} in memory, {} on disk, {} being written",
            text(&variant["length"]),
            records[0],
            records[1],
            records[2],
            records[3]
        ))?;
        let fresh = &variant["freshness"];
        if fresh.is_object() {
            print_line(&format!(
                "           age {} = {} at reception + {} since; lifetime {} from {}; ttl {}",
                fresh["age"],
                fresh["initial_age"],
                fresh["resident"],
                fresh["lifetime"],
                text(&fresh["lifetime_from"]),
                fresh["ttl"]
            ))?;
        }
        let vary: Vec<String> = variant["vary"].as_array().into_iter().flatten().map(text).collect();
        if !vary.is_empty() {
            print_line(&format!("           varies by {}", vary.join(", ")))?;
        }
    }
    Ok(())
}
