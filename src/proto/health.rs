//! Passive health of one upstream server, as a machine: what happened goes in, whether the server
//! should be asked comes out.
//!
//! ```text
//!            failure × fail_max                 until has passed, a request starts
//! Healthy ───────────────────────▶ Avoided{until} ─────────────────────────▶ Probing
//!    ▲                                   ▲                                      │
//!    └───────────── success ─────────────┼────────────── success ◀──────────────┤
//!                                        └──── failure (avoided twice as long) ◀┘
//! ```
//!
//! What counts as a failure is the caller's to say: in this project a failed connect, a timeout, a
//! closed connection or a broken protocol. A status does not count, 5xx included: an application
//! that answers 503 for one path would take the whole site away, and the client can judge a status
//! where it cannot judge a dead server.

use std::time::{Duration, Instant};

/// A server is avoided at most this many times as long as at first.
pub const BACKOFF_MAX: u32 = 30;

/// A probe that has not reported within this many first avoidance periods is taken for lost.
const PROBE_PERIODS_MAX: u32 = BACKOFF_MAX;

/// When a server is avoided, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HealthPolicy {
    /// Consecutive failures after which the server is avoided; 0 never avoids it.
    pub fail_max: u32,
    /// How long it is avoided at first; doubles with each failed probe up to [`BACKOFF_MAX`] times.
    pub fail_timeout: Duration,
}

/// The health of one server.
#[derive(Clone, Debug)]
pub struct Health {
    policy: HealthPolicy,
    state: State,
    last_failure: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Healthy { failures: u32 },
    Avoided { until: Instant, periods: u32 },
    Probing { since: Instant, periods: u32 },
}

impl Health {
    /// A server of which nothing bad is known.
    pub const fn new(policy: HealthPolicy) -> Self {
        Self { policy, state: State::Healthy { failures: 0 }, last_failure: None }
    }

    /// Whether a request may start now. While a probe is in progress, none may.
    pub fn available(&self, now: Instant) -> bool {
        match self.state {
            State::Healthy { .. } => true,
            State::Avoided { until, .. } => now >= until,
            State::Probing { since, .. } => {
                now.saturating_duration_since(since) >= self.policy.fail_timeout * PROBE_PERIODS_MAX
            }
        }
    }

    /// Whether there is no failure to remember, so that a success would change nothing.
    pub const fn is_clean(&self) -> bool {
        matches!(self.state, State::Healthy { failures: 0 })
    }

    /// When the server last failed.
    pub const fn last_failure(&self) -> Option<Instant> {
        self.last_failure
    }

    /// A request starts. Returns whether it is the probe of an avoided server; a probe must end in
    /// [`handle_success`](Self::handle_success), [`handle_failure`](Self::handle_failure) or
    /// [`handle_abandoned`](Self::handle_abandoned).
    pub fn handle_start(&mut self, now: Instant) -> bool {
        let periods = match self.state {
            State::Healthy { .. } => return false,
            State::Avoided { periods, .. } | State::Probing { periods, .. } => periods,
        };
        if !self.available(now) {
            return false; // tried although avoided, since no other server is left
        }
        self.state = State::Probing { since: now, periods };
        true
    }

    /// The server answered: all failures are forgotten.
    pub const fn handle_success(&mut self, _now: Instant) {
        self.state = State::Healthy { failures: 0 };
    }

    /// The server failed. While it is avoided, failures of requests that had begun earlier do not
    /// prolong it: a hundred requests that fail together are one outage.
    pub fn handle_failure(&mut self, now: Instant) {
        self.last_failure = Some(now);
        self.state = match self.state {
            State::Healthy { failures } if failures + 1 == self.policy.fail_max => self.avoid(now, 1),
            State::Healthy { failures } => State::Healthy { failures: failures.saturating_add(1) },
            State::Probing { periods, .. } => self.avoid(now, (periods * 2).min(BACKOFF_MAX)),
            avoided @ State::Avoided { .. } => avoided,
        };
    }

    /// A probe was given up by its client before it told anything: the next request is the probe.
    pub const fn handle_abandoned(&mut self, now: Instant) {
        if let State::Probing { periods, .. } = self.state {
            self.state = State::Avoided { until: now, periods };
        }
    }

    fn avoid(&self, now: Instant, periods: u32) -> State {
        State::Avoided { until: now + self.policy.fail_timeout * periods, periods }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PERIOD: Duration = Duration::from_secs(10);

    fn health(fail_max: u32) -> (Health, Instant) {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary start for virtual time")]
        let now = Instant::now();
        (Health::new(HealthPolicy { fail_max, fail_timeout: PERIOD }), now)
    }

    #[test]
    fn consecutive_failures_make_a_server_avoided() {
        let (mut health, now) = health(3);
        health.handle_failure(now);
        health.handle_failure(now);
        health.handle_success(now);
        health.handle_failure(now);
        health.handle_failure(now);
        assert!(health.available(now), "a success between breaks the row");
        health.handle_failure(now);
        assert!(!health.available(now));
        assert!(!health.available(now + PERIOD - Duration::from_millis(1)));
        assert!(health.available(now + PERIOD));
    }

    #[test]
    fn one_probe_at_a_time() {
        let (mut health, now) = health(1);
        health.handle_failure(now);
        let later = now + PERIOD;
        assert!(health.handle_start(later));
        assert!(!health.available(later));
        assert!(!health.handle_start(later));
        health.handle_success(later);
        assert!(health.available(later) && health.is_clean());
        assert!(!health.handle_start(later), "a healthy server needs no probe");
    }

    #[test]
    fn failed_probes_double_the_time_up_to_a_bound() {
        let (mut health, mut now) = health(1);
        health.handle_failure(now);
        for periods in [1, 2, 4, 8, 16, 30, 30] {
            assert!(!health.available(now + PERIOD * periods - Duration::from_millis(1)));
            now += PERIOD * periods;
            assert!(health.handle_start(now));
            health.handle_failure(now);
        }
    }

    #[test]
    fn failures_that_come_late_do_not_prolong() {
        let (mut health, now) = health(1);
        for _ in 0..100 {
            health.handle_failure(now);
        }
        assert!(health.available(now + PERIOD));
    }

    #[test]
    fn an_abandoned_probe_is_followed_by_another() {
        let (mut health, now) = health(1);
        health.handle_failure(now);
        let later = now + PERIOD;
        assert!(health.handle_start(later));
        health.handle_abandoned(later);
        assert!(health.handle_start(later));
    }

    #[test]
    fn a_lost_probe_does_not_take_the_server_away_for_ever() {
        let (mut health, now) = health(1);
        health.handle_failure(now);
        assert!(health.handle_start(now + PERIOD));
        assert!(health.available(now + PERIOD + PERIOD * PROBE_PERIODS_MAX));
    }

    #[test]
    fn zero_never_avoids() {
        let (mut health, now) = health(0);
        for _ in 0..1000 {
            health.handle_failure(now);
        }
        assert!(health.available(now));
    }

    proptest! {
        /// Whatever happens, a server is tried again within the longest avoidance.
        #[test]
        fn a_server_always_comes_back(events in prop::collection::vec((0_u8..4, 0_u64..100), 0..50)) {
            let (mut health, mut now) = health(2);
            for (event, seconds) in events {
                now += Duration::from_secs(seconds);
                match event {
                    0 => drop(health.handle_start(now)),
                    1 => health.handle_success(now),
                    2 => health.handle_failure(now),
                    _ => health.handle_abandoned(now),
                }
            }
            prop_assert!(health.available(now + PERIOD * BACKOFF_MAX));
        }
    }
}
