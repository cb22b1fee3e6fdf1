//! Which server of a group is asked next: a pure choice over what is known of each.

use crate::config::model::Balance;
use std::time::Instant;

/// What the choice depends on, for one server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// Whether this fetch has asked it already.
    pub tried: bool,
    /// Whether its health allows requests.
    pub available: bool,
    /// When it last failed.
    pub last_failure: Option<Instant>,
    /// Requests in progress there, over all workers.
    pub in_progress: usize,
}

/// Chooses among `count` servers. `turn` advances by one with each fetch; it orders round robin and
/// breaks ties of the others, so that equals share evenly. When health allows none, the one whose
/// last failure is longest ago is tried: a site whose servers all failed must still come back.
/// `None` when all were tried.
pub(super) fn choose(
    balance: Balance,
    turn: usize,
    count: usize,
    candidate: impl Fn(usize) -> Candidate,
) -> Option<usize> {
    let in_turn = || {
        (0..count)
            .map(|step| turn.wrapping_add(step) % count)
            .map(|index| (index, candidate(index)))
            .filter(|(_, candidate)| !candidate.tried)
    };
    let mut available = in_turn().filter(|(_, candidate)| candidate.available);
    let chosen = match balance {
        Balance::RoundRobin => available.next(),
        Balance::LeastConnections => available.min_by_key(|(_, candidate)| candidate.in_progress),
    };
    chosen.or_else(|| in_turn().min_by_key(|(_, candidate)| candidate.last_failure)).map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const IDLE: Candidate = Candidate { tried: false, available: true, last_failure: None, in_progress: 0 };

    #[test]
    fn round_robin_takes_turns_and_skips_the_unavailable_and_the_tried() {
        let servers = [IDLE, Candidate { available: false, ..IDLE }, Candidate { tried: true, ..IDLE }, IDLE];
        let choices: Vec<_> = (0..5)
            .map(|turn| choose(Balance::RoundRobin, turn, 4, |index| servers[index]).unwrap())
            .collect();
        assert_eq!(choices, [0, 3, 3, 3, 0]);
    }

    #[test]
    fn least_connections_takes_the_least_loaded_and_shares_ties() {
        let servers = [Candidate { in_progress: 2, ..IDLE }, IDLE, IDLE];
        let choose = |turn| choose(Balance::LeastConnections, turn, 3, |index| servers[index]);
        assert_eq!((choose(0), choose(1), choose(2)), (Some(1), Some(1), Some(2)));
    }

    #[test]
    fn when_all_are_down_the_least_recently_failed_is_tried() {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary start for virtual time")]
        let now = Instant::now();
        let failed = |ago| Candidate {
            available: false,
            last_failure: now.checked_sub(Duration::from_secs(ago)),
            ..IDLE
        };
        let servers = [failed(1), failed(3), failed(2)];
        assert_eq!(choose(Balance::RoundRobin, 0, 3, |index| servers[index]), Some(1));
        let tried = [failed(1), Candidate { tried: true, ..failed(3) }, failed(2)];
        assert_eq!(choose(Balance::RoundRobin, 0, 3, |index| tried[index]), Some(2));
    }

    #[test]
    fn none_is_left_when_all_were_tried() {
        let tried = Candidate { tried: true, ..IDLE };
        assert_eq!(choose(Balance::LeastConnections, 7, 2, |_| tried), None);
    }
}
