//! One stream: its request is answered, unless its client resets it first, and its response sent.

use super::received::Received;
use super::sending::Sending;
use crate::body::{Interim, Interims};
use crate::front::conn::Connection;
use crate::front::record::ClientBody;
use crate::proto::semantics;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Answers `request` at once, if all that it needs is at hand, else as a task of the worker.
pub(super) fn begin(
    connection: &Arc<Connection>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    cx: &mut Context<'_>,
) {
    let mut stream = Box::pin(run(Arc::clone(connection), request, respond));
    if stream.as_mut().poll(cx).is_pending() {
        connection.front.worker.spawner.spawn(stream);
    }
}

async fn run(connection: Arc<Connection>, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let (head, stream) = request.into_parts();
    let body = Received::new(&head, stream, &connection.untaken).await;
    let is_head = head.method == Method::HEAD;
    let Some(response) = answer(&connection, Request::from_parts(head, body), &mut respond).await else {
        tracing::debug!(from = %connection.client.from, "stream reset by the client");
        return;
    };
    if let Err(error) = send(&connection, response, is_head, respond).await {
        tracing::debug!(from = %connection.client.from, %error, "stream ended");
    }
}

/// The response, and before it what is to be told at once. `None` if the client has reset the stream; all that was
/// done for it is dropped then.
async fn answer(
    connection: &Connection,
    request: Request<Received>,
    respond: &mut SendResponse<Bytes>,
) -> Option<Response<ClientBody>> {
    let interims = Interims::default();
    let mut expects = expects_continue(&request);
    let mut answer = pin!(connection.answer(request, &interims));
    poll_fn(|cx| {
        let answered = answer.as_mut().poll(cx);
        interims.take().iter().for_each(|interim| tell(respond, interim));
        match answered {
            Poll::Ready(response) => Poll::Ready(Some(response)),
            Poll::Pending => {
                if std::mem::take(&mut expects) {
                    tell(respond, &Interim { status: StatusCode::CONTINUE, fields: HeaderMap::new() });
                }
                respond.poll_reset(cx).map(|_reset| None)
            }
        }
    })
    .await
}

/// Whether the client waits to be told that its body is wanted, as it is unless the answer is there at once.
fn expects_continue(request: &Request<Received>) -> bool {
    !request.body().is_end_stream() && semantics::expects_continue(request.headers())
}

/// One that cannot be sent belongs to a stream that is ending.
fn tell(respond: &mut SendResponse<Bytes>, interim: &Interim) {
    let mut head = Response::new(());
    *head.status_mut() = interim.status;
    *head.headers_mut() = interim.fields.clone();
    let _ = respond.send_informational(head);
}

async fn send(
    connection: &Connection,
    response: Response<ClientBody>,
    is_head: bool,
    mut respond: SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let (mut head, body) = response.into_parts();
    semantics::ensure_date(&mut head.headers, connection.front.worker.node.clock.now().wall);
    let is_empty = body.is_end_stream();
    if let Some(length) = body.size_hint().exact().filter(|_| !is_empty) {
        head.headers.entry(CONTENT_LENGTH).or_insert_with(|| length.into());
    }
    let ends = is_empty || is_head;
    let sent = respond.send_response(Response::from_parts(head, ()), ends);
    let stream = sent.inspect_err(|_| respond.send_reset(Reason::INTERNAL_ERROR))?;
    if ends {
        return Ok(());
    }
    Sending::new(connection, stream, body).await
}
