//! `explain`: why the next GET for a URL would hit or miss, with the figures behind it.

use super::fleet::{self, Fleet};
use super::{Client, Gone, Node, sent};
use crate::body::Body;
use crate::proto::key;
use crate::proto::key::Scheme;
use crate::proto::object::Head;
use crate::proto::purge::{Judgement, Subject};
use crate::proto::semantics::{self, RequestFacts, Reuse};
use crate::proto::time::Wall;
use crate::proto::verdict::Verdict;
use crate::route::{PassReason, Routed, Router};
use crate::store::{Inspected, Lookup};
use http::header::HOST;
use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use serde::Serialize;
use std::net::{Ipv4Addr, SocketAddr};

/// What this node knows of a URL.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// The URL as asked.
    pub url: String,
    /// Name of the site.
    pub site: String,
    /// The path rule that applies.
    pub rule: Option<String>,
    /// The parts of the cache key.
    pub key: Key,
    /// Identity of the object, hexadecimal.
    pub object: String,
    /// What the next plain GET would come to.
    pub next: Next,
    /// Whether the key is remembered as not storable.
    pub remembered_uncacheable: bool,
    /// What is stored.
    pub stored: Vec<Variant>,
    /// How many times purges were applied here.
    pub purge_position: u64,
    /// Whether this node knows of all purges of its fleet; if not, all that is stored is validated before use.
    pub in_sync: bool,
    /// Who has it, if the fleet was asked.
    pub fleet: Option<Fleet>,
}

/// The parts of a cache key.
#[derive(Debug, Serialize)]
pub struct Key {
    /// Site name.
    pub site: String,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Authority.
    pub host: String,
    /// Path and query as forwarded.
    pub path: String,
}

/// What a plain GET would come to.
#[derive(Debug, Serialize)]
pub struct Next {
    /// The verdict.
    pub verdict: &'static str,
    /// The reason in words.
    pub why: String,
}

/// A stored variant.
#[derive(Debug, Serialize)]
pub struct Variant {
    /// Identity of the version, hexadecimal, if known without reading the disk.
    pub version: Option<String>,
    /// Names of the fields that the object varies by.
    pub vary: Vec<String>,
    /// Body length in bytes.
    pub length: Option<u64>,
    /// Number of records, and how many are in memory, on disk, and waiting to be written.
    pub records: [usize; 4],
    /// The freshness arithmetic.
    pub freshness: Option<Freshness>,
    /// What purges make of it.
    pub purges: Judged,
}

/// What purges make of a stored version.
#[derive(Debug, Serialize)]
pub struct Judged {
    /// Up to which purge position no purge selects it, as far as was looked; at first that of its fetch.
    pub position: u64,
    /// `clear`, `soft` (stale since a purge), `hard` (as if not stored), or `unread`: its tags are on disk, and a purge may select
    /// one of them.
    pub judgement: &'static str,
    /// For how many seconds a purge has made it stale.
    pub stale_for: Option<u64>,
}

/// `ttl = lifetime − age`, where `age = initial age + time since reception` (RFC 9111 §4.2).
#[derive(Debug, Serialize)]
pub struct Freshness {
    /// Why it was stored.
    pub stored_because: &'static str,
    /// Status of the response.
    pub status: u16,
    /// Lifetime in seconds.
    pub lifetime: u32,
    /// What gave the lifetime.
    pub lifetime_from: &'static str,
    /// Age at reception in seconds.
    pub initial_age: u32,
    /// Seconds since reception.
    pub resident: u64,
    /// Age now in seconds.
    pub age: u32,
    /// Remaining lifetime in seconds, negative when stale.
    pub ttl: i64,
    /// The stored `ETag`.
    pub etag: Option<String>,
}

impl Node {
    /// Explains `url`, as a client without any fields would ask for it.
    ///
    /// # Errors
    /// What is wrong with the URL, or why it would be refused.
    pub async fn explain(&self, url: &str) -> Result<Explanation, String> {
        self.explain_routed(url).await.map(|(explanation, _routed)| explanation)
    }

    /// As [`explain`](Self::explain), and asks the fleet who has it; bounded in time.
    ///
    /// # Errors
    /// As there.
    pub async fn explain_in_fleet(&self, url: &str) -> Result<Explanation, String> {
        let (mut explanation, routed) = self.explain_routed(url).await?;
        explanation.fleet = fleet::look(self, &routed, &explanation).await;
        Ok(explanation)
    }

    async fn explain_routed(&self, url: &str) -> Result<(Explanation, Routed), String> {
        let snapshot = self.snapshot.load_full();
        let (request, client) = request_for(url)?;
        let routed = snapshot
            .router
            .resolve(&client.head_of(&request))
            .map_err(|refusal| format!("refused: {refusal} ({})", refusal.status()))?;
        let fields = request.into_parts().0.headers;
        let (mono, now) = (self.clock.mono(), self.clock.now().wall);
        let in_sync = self.purges.in_sync(mono);
        let uncacheable = self.known.is_uncacheable(routed.object, now);
        let next = self.next((&snapshot.router, &routed), &fields, (now, in_sync), uncacheable).await;
        let variants = self.store.inspect(routed.object);
        let explanation = Explanation {
            url: url.to_owned(),
            site: routed.site.name.clone(),
            rule: routed.applied().map(|rule| rule.path.clone()),
            key: Key {
                site: routed.site.name.clone(),
                scheme: routed.scheme.as_str(),
                host: routed.host_str().to_owned(),
                path: routed.target.to_string(),
            },
            object: routed.object.to_string(),
            next,
            remembered_uncacheable: uncacheable,
            stored: variants.iter().map(|variant| self.describe(variant, &routed, now)).collect(),
            purge_position: self.purges.position().0,
            in_sync,
            fleet: None,
        };
        Ok((explanation, routed))
    }

    async fn next(
        &self,
        (router, routed): (&Router, &Routed),
        fields: &HeaderMap,
        (now, in_sync): (Wall, bool),
        uncacheable: bool,
    ) -> Next {
        if let Some(reason) = routed.pass {
            return passed(reason);
        }
        let variant = |vary: &semantics::VaryList| {
            vary.variant(routed.object, &sent::selecting((router, routed), vary, fields))
        };
        let found = match self.store.lookup(routed.object, routed.key.as_bytes(), variant) {
            Lookup::Memory(hit) => Some((hit, Verdict::HitMemory)),
            Lookup::OnDisk(on_disk) => self.store.load(on_disk).await.ok().map(|hit| (hit, Verdict::HitDisk)),
            Lookup::Miss(_) => None,
        };
        let Some((hit, verdict)) = found else {
            let why = if uncacheable {
                "nothing stored; the last response was not storable"
            } else {
                "nothing stored that such a request selects"
            };
            let verdict = if uncacheable { Verdict::Pass } else { Verdict::Origin };
            return Next { verdict: verdict.as_str(), why: why.to_owned() };
        };
        let stored = match self.standing(&hit, in_sync) {
            Ok(stored) => stored,
            Err(Gone) => {
                return Next {
                    verdict: Verdict::Origin.as_str(),
                    why: "what is stored was purged".to_owned(),
                };
            }
        };
        if hit.head.is_part() {
            let why = "a part is stored; the rest is fetched".to_owned();
            return Next { verdict: Verdict::Origin.as_str(), why };
        }
        let facts = RequestFacts::parse(&Method::GET, fields);
        match semantics::reuse(&facts, &stored, now, routed.policy()) {
            Reuse::Fresh { ttl, .. } => {
                Next { verdict: verdict.as_str(), why: format!("fresh for another {ttl} s") }
            }
            Reuse::StaleWhileRevalidate { ttl, .. } => Next {
                verdict: Verdict::StaleWhileRevalidate.as_str(),
                why: format!("stale for {} s, within stale-while-revalidate", -ttl),
            },
            Reuse::Validate { ttl, why, if_error, .. } => {
                let error = if if_error { "may" } else { "must not" };
                let why = format!(
                    "must be validated ({}), ttl {ttl} s; {error} be served stale if the origin fails",
                    why.as_str()
                );
                Next { verdict: Verdict::Revalidated.as_str(), why }
            }
        }
    }

    fn describe(&self, variant: &Inspected, routed: &Routed, now: Wall) -> Variant {
        let count =
            |is: fn(&crate::store::Whereabouts) -> bool| variant.records.iter().filter(|at| is(at)).count();
        Variant {
            version: variant.version.map(|version| version.to_string()),
            vary: variant
                .vary
                .iter()
                .flat_map(|vary| vary.names().iter().map(ToString::to_string).collect::<Vec<_>>())
                .collect(),
            length: variant.length,
            records: [
                variant.records.len(),
                count(|at| at.memory),
                count(|at| at.disk),
                count(|at| at.queued),
            ],
            freshness: variant.head.as_ref().map(|head| freshness(head, routed, now)),
            purges: self.judged(variant, routed, now),
        }
    }

    /// What purges make of a stored version, also of one whose fields are on disk alone.
    fn judged(&self, variant: &Inspected, routed: &Routed, now: Wall) -> Judged {
        let (position, judgement) = match &variant.head {
            Some(head) => (head.position.get(), Some(self.purges.judge(head))),
            None => {
                let since = variant.position;
                let of = |key| self.purges.judge_since(&Subject { key, fields: None }, since);
                let judgement = key::decode(routed.key.as_bytes()).map(of);
                (since, judgement.filter(|judgement| *judgement == Judgement::Clear))
            }
        };
        let (judgement, stale_for) = match judgement {
            Some(Judgement::Clear) => ("clear", None),
            Some(Judgement::Soft(at)) => ("soft", Some(now.seconds_since(at))),
            Some(Judgement::Hard) => ("hard", None),
            None => ("unread", None),
        };
        Judged { position: position.0, judgement, stale_for }
    }
}

impl Next {
    /// Whether what is stored here answers, without asking anybody.
    pub(super) fn is_stored(&self) -> bool {
        [Verdict::HitMemory, Verdict::HitDisk, Verdict::StaleWhileRevalidate]
            .iter()
            .any(|verdict| verdict.as_str() == self.verdict)
    }
}

fn passed(reason: PassReason) -> Next {
    Next { verdict: Verdict::Pass.as_str(), why: format!("not for the cache: {}", reason.as_str()) }
}

fn request_for(url: &str) -> Result<(Request<Body>, Client), String> {
    let uri: Uri = url.parse().map_err(|error| format!("not a URL: {error}"))?;
    let scheme = match uri.scheme_str() {
        Some("http") => Scheme::Http,
        Some("https") => Scheme::Https,
        _ => return Err("the URL must begin with http:// or https://".to_owned()),
    };
    let authority = uri.authority().ok_or("the URL has no host")?.as_str().to_owned();
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let mut request = Request::get(target).body(Body::Empty).map_err(|error| error.to_string())?;
    let host = HeaderValue::from_str(&authority).map_err(|error| format!("host: {error}"))?;
    request.headers_mut().insert(HOST, host);
    let client = Client { from: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), scheme, tls_name: None };
    Ok((request, client))
}

fn freshness(head: &Head, routed: &Routed, now: Wall) -> Freshness {
    let lifetime = semantics::lifetime(&head.facts, head.received, routed.policy());
    let age = semantics::current_age(head.initial_age, head.received, now);
    let etag = head
        .fields()
        .get(http::header::ETAG)
        .map(|etag| String::from_utf8_lossy(etag.as_bytes()).into_owned());
    Freshness {
        stored_because: head.reason.as_str(),
        status: head.status.as_u16(),
        lifetime: lifetime.secs,
        lifetime_from: lifetime.source.as_str(),
        initial_age: head.initial_age,
        resident: now.seconds_since(head.received),
        age,
        ttl: i64::from(lifetime.secs) - i64::from(age),
        etag,
    }
}
