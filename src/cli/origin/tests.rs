//! The origin over real sockets: what `shoal origin` promises.

use super::*;
use crate::workload::Content;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};

fn args(listen: &str) -> Args {
    Args { listen: listen.parse().unwrap(), rate: None, delay: 0, workers: None }
}

struct Client {
    addr: SocketAddr,
    spawner: Spawner,
}

impl Client {
    fn start(args: &Args) -> Self {
        let spawner = Spawner::current();
        let addr = start(args, Clock::system(), &spawner).unwrap();
        Self { addr, spawner }
    }

    async fn send(&self, method: &str, target: &str, fields: &[(&str, &str)]) -> Response<Bytes> {
        let stream = Tcp.connect(self.addr).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        self.spawner.spawn(async { drop(connection.await) });
        let mut request = Request::builder().method(method).uri(target).header("host", "test");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (head, body) =
            sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap().into_parts();
        Response::from_parts(head, body.collect().await.unwrap().to_bytes())
    }

    async fn get(&self, target: &str) -> Response<Bytes> {
        self.send("GET", target, &[]).await
    }

    async fn stats(&self) -> stats::Counts {
        serde_json::from_slice(self.get("/-/stats").await.body()).unwrap()
    }
}

fn text<'a>(fields: &'a HeaderMap, name: &str) -> &'a str {
    fields.get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn an_object_has_its_size_its_bytes_and_its_validators() {
    let origin = Client::start(&args("127.0.0.1:0"));
    let answer = origin.get("/obj/7?size=200001").await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.body().len(), 200_001);
    assert!(Content::of("/obj/7").matches(0, answer.body()));
    let fields = answer.headers();
    assert_eq!(text(fields, "cache-control"), "public, max-age=3600");
    assert_eq!(text(fields, "content-length"), "200001");
    assert!(text(fields, "etag").starts_with('"'));
    assert!(httpdate::parse_http_date(text(fields, "last-modified")).is_ok());
    assert_eq!(origin.get("/obj/7?size=200001").await.headers()["etag"], fields["etag"]);
    assert!(origin.get("/obj/7?size=0").await.body().is_empty());
}

#[tokio::test]
async fn ranges_and_conditions_are_answered() {
    let origin = Client::start(&args("127.0.0.1:0"));
    let target = "/obj/a?size=1000";
    let etag = text(origin.get(target).await.headers(), "etag").to_owned();

    let part = origin.send("GET", target, &[("range", "bytes=100-299"), ("if-range", &etag)]).await;
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(text(part.headers(), "content-range"), "bytes 100-299/1000");
    assert_eq!(part.body().len(), 200);
    assert!(Content::of("/obj/a").matches(100, part.body()));

    let whole = origin.send("GET", target, &[("range", "bytes=100-299"), ("if-range", "\"old\"")]).await;
    assert_eq!((whole.status(), whole.body().len()), (StatusCode::OK, 1000));
    let beyond = origin.send("GET", target, &[("range", "bytes=1000-")]).await;
    assert_eq!(beyond.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(text(beyond.headers(), "content-range"), "bytes */1000");
    let same = origin.send("GET", target, &[("if-none-match", &etag)]).await;
    assert_eq!((same.status(), same.body().len()), (StatusCode::NOT_MODIFIED, 0));
    assert_eq!(text(same.headers(), "etag"), etag);
}

#[tokio::test]
async fn head_says_what_get_would() {
    let origin = Client::start(&args("127.0.0.1:0"));
    for target in ["/obj/7?size=3000", "/", "/video.mp4"] {
        let (head, get) = (origin.send("HEAD", target, &[]).await, origin.get(target).await);
        assert!(head.body().is_empty());
        let fields = |answer: &Response<Bytes>| {
            let mut fields = answer.headers().clone();
            fields.remove("date");
            fields
        };
        assert_eq!(fields(&head), fields(&get), "{target}");
        assert_eq!(text(head.headers(), "content-length"), get.body().len().to_string());
    }
}

#[tokio::test]
async fn stats_count_objects_alone() {
    let origin = Client::start(&args("127.0.0.1:0"));
    for page in ["/", "/css/site.css", "/nothing"] {
        origin.get(page).await;
    }
    origin.get("/obj/1?size=5000").await;
    origin.send("GET", "/obj/1?size=5000", &[("range", "bytes=0-99")]).await;
    origin.send("GET", "/obj/1?size=5000", &[("if-none-match", "*")]).await;
    origin.send("HEAD", "/obj/1?size=5000", &[]).await;
    let expected = stats::Counts {
        requests: 4,
        bytes: 5100,
        in_flight: 0,
        head: 1,
        range: 1,
        conditional: 1,
        not_modified: 1,
    };
    assert_eq!(origin.stats().await, expected);
}

#[tokio::test]
async fn bad_requests_are_refused() {
    let origin = Client::start(&args("127.0.0.1:0"));
    assert_eq!(origin.get("/obj/1?size=x").await.status(), StatusCode::BAD_REQUEST);
    assert_eq!(origin.get("/obj/a/b").await.status(), StatusCode::NOT_FOUND);
    let post = origin.send("POST", "/obj/1", &[]).await;
    assert_eq!((post.status(), text(post.headers(), "allow")), (StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD"));
}

#[tokio::test]
async fn the_rate_holds_over_all_responses_together() {
    let origin = Client::start(&Args { rate: NonZeroU64::new(1_000_000), ..args("127.0.0.1:0") });
    let clock = Clock::system();
    let before = clock.now().mono;
    let answers = tokio::join!(origin.get("/obj/1?size=100000"), origin.get("/obj/2?size=100000"));
    let took = clock.now().mono - before;
    assert_eq!(answers.0.body().len() + answers.1.body().len(), 200_000);
    // 200 kB at 1 MB/s, less the burst and the pieces whose turn begins at once.
    assert!(took >= Duration::from_millis(160), "took {took:?}");
}

#[tokio::test]
async fn the_delay_comes_before_each_answer() {
    let origin = Client::start(&Args { delay: 30, ..args("127.0.0.1:0") });
    let clock = Clock::system();
    let before = clock.now().mono;
    origin.get("/obj/1?size=1").await;
    assert!(clock.now().mono - before >= Duration::from_millis(30));
}

#[tokio::test]
async fn http2_without_tls_is_spoken() {
    let origin = Client::start(&args("127.0.0.1:0"));
    let stream = Tcp.connect(origin.addr).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(OnSpawner(origin.spawner.clone()), TokioIo::new(stream))
            .await
            .unwrap();
    origin.spawner.spawn(async { drop(connection.await) });
    let request = Request::get(format!("http://{}/obj/9?size=100000", origin.addr))
        .body(Empty::<Bytes>::new())
        .unwrap();
    let body = sender.send_request(request).await.unwrap().collect().await.unwrap().to_bytes();
    assert_eq!(body.len(), 100_000);
    assert!(Content::of("/obj/9").matches(0, &body));
}
