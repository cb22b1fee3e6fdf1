//! Asking the admin interface of a running node.

use crate::net::{Tcp, Transport};
use crate::task::Spawner;
use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, HOST, RETRY_AFTER, USER_AGENT};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How long the node may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of an answer, or of a line of one that goes on.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// How long an answer that goes on may be silent: the node says something each few seconds.
const SILENCE_MAX: Duration = Duration::from_secs(30);

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

/// An answer that goes on, line by line.
pub(super) struct Lines {
    body: Incoming,
    buffer: BytesMut,
    /// Bytes of the buffer that hold no line end.
    searched: usize,
}

/// What the node says to a write.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) value: Value,
    /// When to ask again.
    pub(super) retry_after: Option<Duration>,
}

impl Answer {
    /// Why it is none.
    pub(super) fn problem(&self) -> String {
        problem(self.status, &self.value)
    }
}

impl AdminArgs {
    /// The answer to `GET target`. Makes a runtime of its own.
    ///
    /// # Errors
    /// If the node cannot be reached, is too slow, or answers with a problem.
    pub(super) fn get(&self, target: String) -> anyhow::Result<Value> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let asking = tokio::time::timeout(ANSWER_TIMEOUT, self.ask(target));
            asking.await.context("the node did not answer in time")?
        })
    }

    /// The answer to `POST target` with this JSON, whatever its status. Makes a runtime of its own.
    ///
    /// # Errors
    /// If the node cannot be reached, is too slow, or gives no JSON.
    pub(super) fn post(&self, target: String, body: &Value) -> anyhow::Result<Answer> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let asking = async {
                let response = self.send(Method::POST, target, body.to_string().into()).await?;
                let (head, body) = response.into_parts();
                let seconds =
                    head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
                let value = json(body).await?;
                Ok(Answer { status: head.status, value, retry_after: seconds.map(Duration::from_secs) })
            };
            tokio::time::timeout(ANSWER_TIMEOUT, asking).await.context("the node did not answer in time")?
        })
    }

    async fn ask(&self, target: String) -> anyhow::Result<Value> {
        let response = self.send(Method::GET, target, Bytes::new()).await?;
        let status = response.status();
        let answer = json(response.into_body()).await?;
        if status != StatusCode::OK {
            bail!("{}", problem(status, &answer));
        }
        Ok(answer)
    }

    /// The lines that the node answers to `GET target`, within a runtime.
    ///
    /// # Errors
    /// If the node cannot be reached, is too slow, or answers with a problem.
    pub(super) async fn lines(&self, target: String) -> anyhow::Result<Lines> {
        let asking = async {
            let response = self.send(Method::GET, target, Bytes::new()).await?;
            let status = response.status();
            if status != StatusCode::OK {
                bail!("{}", problem(status, &json(response.into_body()).await?));
            }
            Ok(Lines { body: response.into_body(), buffer: BytesMut::new(), searched: 0 })
        };
        tokio::time::timeout(ANSWER_TIMEOUT, asking).await.context("the node did not answer in time")?
    }

    async fn send(&self, method: Method, target: String, body: Bytes) -> anyhow::Result<Response<Incoming>> {
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
        Ok(sender.send_request(request.body(Full::new(body))?).await?)
    }
}

async fn json(body: Incoming) -> anyhow::Result<Value> {
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("answer of the node: {error}"))?.to_bytes();
    serde_json::from_slice(&body).context("the answer is no JSON: is this the admin interface?")
}

/// What a problem says of itself.
fn problem(status: StatusCode, answer: &Value) -> String {
    let detail = answer["detail"].as_str().or_else(|| answer["title"].as_str());
    detail.unwrap_or(status.as_str()).to_owned()
}

impl Lines {
    /// The next line that is not empty, without its end; `None` if the node has ended the answer. Nothing is lost when
    /// it is dropped.
    ///
    /// # Errors
    /// If the node falls silent, breaks off, or sends a line that is far too long.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        loop {
            if let Some(at) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let mut line = self.buffer.split_to(self.searched + at + 1);
                line.truncate(line.len() - 1);
                self.searched = 0;
                if line.is_empty() {
                    continue;
                }
                return Ok(Some(line.freeze()));
            }
            self.searched = self.buffer.len();
            if self.searched > ANSWER_BYTES_MAX {
                bail!("the node sends a line of more than {ANSWER_BYTES_MAX} bytes");
            }
            let frame = tokio::time::timeout(SILENCE_MAX, self.body.frame()).await;
            match frame.context("the node is silent")? {
                None => return Ok(None),
                Some(frame) => {
                    let frame = frame.context("the node broke off")?;
                    self.buffer.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
                }
            }
        }
    }
}
