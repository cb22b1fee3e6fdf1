//! Asking the admin interface of a running node.

use crate::net::{Tcp, Transport};
use crate::task::Spawner;
use anyhow::{Context, bail};
use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST, RETRY_AFTER, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How long the node may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Which node is asked, and by what right.
#[derive(Debug, clap::Args)]
pub(super) struct AdminArgs {
    /// Address of the node's admin interface (`admin.listen`).
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9090")]
    admin: SocketAddr,
    /// File with the admin token, if the node has one.
    #[arg(long, value_name = "F")]
    token_file: Option<PathBuf>,
}

impl AdminArgs {
    /// The answer to `GET target`. Makes a runtime of its own.
    ///
    /// # Errors
    /// If the node cannot be reached, is too slow, or answers with a problem.
    pub(super) fn get(&self, target: String) -> anyhow::Result<Value> {
        let answer = self.call(Method::GET, &target, Bytes::new())?;
        if answer.status != StatusCode::OK {
            bail!("{}", answer.problem());
        }
        Ok(answer.value)
    }

    /// The answer to `POST target` with this JSON, whatever its status. As [`get`](Self::get).
    ///
    /// # Errors
    /// If the node cannot be reached, or is too slow.
    pub(super) fn post(&self, target: &str, body: &Value) -> anyhow::Result<Answer> {
        self.call(Method::POST, target, body.to_string().into())
    }

    fn call(&self, method: Method, target: &str, body: Bytes) -> anyhow::Result<Answer> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let asking = tokio::time::timeout(ANSWER_TIMEOUT, self.ask(method, target, body));
            asking.await.context("the node did not answer in time")?
        })
    }

    async fn ask(&self, method: Method, target: &str, body: Bytes) -> anyhow::Result<Answer> {
        let spawner = Spawner::current();
        let stream = Tcp
            .connect(self.admin)
            .await
            .with_context(|| format!("no admin interface at {}; start the node with --admin", self.admin))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        spawner.spawn(async move {
            let _ = connection.await;
        });
        let mut request = Request::builder().method(method).uri(target).header(HOST, self.admin.to_string());
        request = request.header(USER_AGENT, concat!("shoal/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &self.token_file {
            let token =
                std::fs::read_to_string(path).with_context(|| format!("token file {}", path.display()))?;
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.trim()));
        }
        let response = sender.send_request(request.body(Full::new(body))?).await?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("answer of the node: {error}"))?.to_bytes();
        let value: Value =
            serde_json::from_slice(&body).context("the answer is no JSON: is this the admin interface?")?;
        let seconds = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(Answer { status: head.status, value, retry_after: seconds.map(Duration::from_secs) })
    }
}

/// What the node says.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) value: Value,
    /// When to ask again.
    pub(super) retry_after: Option<Duration>,
}

impl Answer {
    /// Why it is none.
    pub(super) fn problem(&self) -> &str {
        let detail = self.value["detail"].as_str().or_else(|| self.value["title"].as_str());
        detail.unwrap_or(self.status.as_str())
    }
}
