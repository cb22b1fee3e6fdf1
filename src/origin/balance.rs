//! Which server of a group is asked next: a pure choice over what is known of each.

use crate::config::model::Balance;
use smallvec::SmallVec;
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
/// breaks ties of the others. Turns go over the servers that may be asked, so that the share of one
/// that may not falls on all others alike. When health allows none, the one whose last failure is
/// longest ago is tried: a site whose servers all failed must still come back. `None` when all were
/// tried.
pub(super) fn choose(
    balance: Balance,
    turn: usize,
    count: usize,
    candidate: impl Fn(usize) -> Candidate,
) -> Option<usize> {
    let untried = || (0..count).map(|index| (index, candidate(index))).filter(|(_, server)| !server.tried);
    let available: SmallVec<[(usize, usize); 16]> = untried()
        .filter(|(_, server)| server.available)
        .map(|(index, server)| (index, server.in_progress))
        .collect();
    let (before, from) = available.split_at(turn.checked_rem(available.len()).unwrap_or(0));
    let mut in_turn = from.iter().chain(before);
    let chosen = match balance {
        Balance::RoundRobin => in_turn.next(),
        Balance::LeastConnections => in_turn.min_by_key(|(_, in_progress)| in_progress),
    };
    match chosen {
        Some(&(index, _)) => Some(index),
        None => untried().min_by_key(|(_, server)| server.last_failure).map(|(index, _)| index),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const IDLE: Candidate = Candidate { tried: false, available: true, last_failure: None, in_progress: 0 };

    #[test]
    fn round_robin_shares_the_turns_of_servers_that_may_not_be_asked() {
        let servers = [IDLE, Candidate { available: false, ..IDLE }, Candidate { tried: true, ..IDLE }, IDLE];
        let choices: Vec<_> = (0..5)
            .map(|turn| choose(Balance::RoundRobin, turn, 4, |index| servers[index]).unwrap())
            .collect();
        assert_eq!(choices, [0, 3, 0, 3, 0]);
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
