//! Who is asked: targets in turn, those that refuse left out and tried again each second.

use anyhow::{Context as _, bail};
use http::{HeaderValue, Uri};
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How often a target that refused is tried again.
pub(crate) const RETRY_EVERY: Duration = Duration::from_secs(1);

/// How long all targets may refuse before there is no point in going on.
pub(crate) const ALL_DOWN_LIMIT: Duration = Duration::from_secs(10);

/// How long a target's name may take to resolve.
const RESOLVE_LIMIT: Duration = Duration::from_secs(5);

/// One proxy.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) addr: SocketAddr,
    /// What the `Host` field says.
    pub(crate) host: HeaderValue,
}

impl Target {
    /// Parses `http://host[:port]` and resolves the host.
    ///
    /// # Errors
    /// Another scheme or form, and names that do not resolve within five seconds.
    pub(crate) async fn resolve(url: &str) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("target {url:?} is not a URL"))?;
        if uri.scheme_str() != Some("http") || uri.path() != "/" || uri.query().is_some() {
            bail!("target {url:?} must be http://host[:port]");
        }
        let authority = uri.authority().with_context(|| format!("target {url:?} names no host"))?;
        let host = HeaderValue::from_str(authority.as_str())?;
        let name = authority.host().trim_start_matches('[').trim_end_matches(']');
        let lookup = tokio::net::lookup_host((name, authority.port_u16().unwrap_or(80)));
        let mut found = tokio::time::timeout(RESOLVE_LIMIT, lookup)
            .await
            .with_context(|| format!("{name} does not resolve in time"))?
            .with_context(|| format!("{name} does not resolve"))?;
        let addr = found.next().with_context(|| format!("{name} has no address"))?;
        Ok(Self { addr, host })
    }

    /// The same target, asked for another host.
    pub(crate) fn called(self, host: HeaderValue) -> Self {
        Self { host, ..self }
    }
}

/// Who may be asked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The target of this index.
    Ask(usize),
    /// All refuse; one may be tried after this time.
    Wait(Duration),
    /// All have refused for too long.
    GiveUp,
}

/// All targets and which of them refuse.
#[derive(Debug)]
pub(crate) struct Targets {
    list: Vec<Target>,
    /// For each target that refuses: since when, and when it is tried again.
    down: Mutex<Vec<Option<Down>>>,
    /// How many refuse, so that the usual case takes no lock.
    down_count: AtomicUsize,
}

#[derive(Clone, Copy, Debug)]
struct Down {
    since: Instant,
    retry_at: Instant,
}

impl Targets {
    /// `list` must not be empty.
    pub(crate) fn new(list: Vec<Target>) -> Self {
        let down = Mutex::new(vec![None; list.len()]);
        Self { list, down, down_count: AtomicUsize::new(0) }
    }

    pub(crate) fn list(&self) -> &[Target] {
        &self.list
    }

    /// The target whose turn it is for request `number`, or the next one that does not refuse. One
    /// that refuses is given to one caller each second.
    pub(crate) fn turn(&self, number: u64, now: Instant) -> Turn {
        let count = self.list.len();
        let first = (number % count as u64) as usize;
        if self.down_count.load(Relaxed) == 0 {
            return Turn::Ask(first);
        }
        let mut down = self.down.lock();
        for at in (first..count).chain(0..first) {
            match &mut down[at] {
                None => return Turn::Ask(at),
                Some(state) if state.retry_at <= now => {
                    state.retry_at = now + RETRY_EVERY;
                    return Turn::Ask(at);
                }
                Some(_) => {}
            }
        }
        let states = || down.iter().flatten();
        if states().all(|state| now.saturating_duration_since(state.since) >= ALL_DOWN_LIMIT) {
            return Turn::GiveUp;
        }
        let next = states().map(|state| state.retry_at).min().unwrap_or(now);
        Turn::Wait(next.saturating_duration_since(now))
    }

    /// The target refused a connection.
    pub(crate) fn refused(&self, target: usize, now: Instant) {
        let mut down = self.down.lock();
        let since = down[target].map_or(now, |state| state.since);
        down[target] = Some(Down { since, retry_at: now + RETRY_EVERY });
        self.down_count.store(down.iter().flatten().count(), Relaxed);
    }

    /// The target accepted a connection.
    pub(crate) fn accepted(&self, target: usize) {
        if self.down_count.load(Relaxed) > 0 {
            let mut down = self.down.lock();
            down[target] = None;
            self.down_count.store(down.iter().flatten().count(), Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn targets(count: u16) -> Targets {
        let target = |port| Target {
            addr: SocketAddr::from(([127, 0, 0, 1], port)),
            host: HeaderValue::from_static("test"),
        };
        Targets::new((0..count).map(target).collect())
    }

    #[test]
    fn requests_go_in_turn_past_those_that_refuse() {
        let (targets, now) = (targets(3), Clock::system().now().mono);
        let turns = |now| [0, 1, 2, 3].map(|number| targets.turn(number, now));
        assert_eq!(turns(now), [0, 1, 2, 0].map(Turn::Ask));
        targets.refused(1, now);
        assert_eq!(turns(now), [0, 2, 2, 0].map(Turn::Ask));
        // A second later one request tries it, and only one.
        let later = now + RETRY_EVERY;
        assert_eq!(targets.turn(1, later), Turn::Ask(1));
        assert_eq!(targets.turn(1, later), Turn::Ask(2));
        targets.accepted(1);
        assert_eq!(turns(later), [0, 1, 2, 0].map(Turn::Ask));
    }

    #[test]
    fn all_refusing_is_waited_for_within_a_limit() {
        let (targets, now) = (targets(2), Clock::system().now().mono);
        let half = RETRY_EVERY / 2;
        targets.refused(0, now);
        targets.refused(1, now + half);
        assert_eq!(targets.turn(0, now + half), Turn::Wait(half));
        let late = now + half + ALL_DOWN_LIMIT;
        targets.refused(0, late);
        targets.refused(1, late);
        assert_eq!(targets.turn(0, late), Turn::GiveUp);
    }

    #[tokio::test]
    async fn a_target_is_a_plain_http_authority() {
        let target = Target::resolve("http://127.0.0.1:81").await.unwrap();
        assert_eq!((target.addr.port(), target.host.to_str().unwrap()), (81, "127.0.0.1:81"));
        assert_eq!(Target::resolve("http://[::1]").await.unwrap().addr, "[::1]:80".parse().unwrap());
        for bad in ["https://127.0.0.1", "http://127.0.0.1/x", "http://127.0.0.1?x", "127.0.0.1", "http://"] {
            assert!(Target::resolve(bad).await.is_err(), "{bad}");
        }
    }
}
