//! Lookups: the first-ranked superpeer of an object is asked, the second after a short silence, and soon the
//! caller is told that nobody answers. How soon follows from how long answers took lately.
//!
//! A question outlives its caller, so that a lease that comes too late is given back at once.

use super::exchange::AskError;
use super::lease::{Granted, Lease};
use super::mesh::Answer;
use super::node::Node;
use crate::proto::swarm::{Finding, Member, NodeId, Place, Query};
use crate::proto::wire::{AVOID_MAX, Frame, Resolve, Resolved, ask};
use crate::telemetry::LookupAnswer;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use prost::Message;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};

/// Silence of the first superpeer after which the second is asked: at least, and at most.
const RANK_TWO_AFTER: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(200));
/// Time after which a lookup is given up: at least, and at most.
const BUDGET: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));
/// How long an answer is waited for so that its lease can be given back: the usual term of a lease.
const PATIENCE: Duration = Duration::from_secs(2);
/// Questions under way at a time, with those whose callers gave up.
const QUESTIONS_MAX: usize = 4096;
/// Lookups of which the report shows percentiles.
const RECENT_MAX: usize = 1024;

/// What is remembered of lookups.
pub(super) struct Lookups {
    questions: Arc<Semaphore>,
    times: Mutex<Times>,
}

impl Default for Lookups {
    fn default() -> Self {
        Self { questions: Arc::new(Semaphore::new(QUESTIONS_MAX)), times: Mutex::default() }
    }
}

impl Lookups {
    /// Median and 99th percentile of recent lookups.
    pub(super) fn percentiles(&self) -> Option<(Duration, Duration)> {
        let mut recent: Vec<_> = self.times.lock().recent.iter().copied().collect();
        recent.sort_unstable();
        let at = |share: usize| recent.get((recent.len() * share / 100).min(recent.len() - 1)).copied();
        (!recent.is_empty()).then(|| at(50).zip(at(99)))?
    }

    /// A superpeer answered after so long, in time or not.
    pub(super) fn note_answer(&self, took: Duration) {
        self.times.lock().note_answer(took);
    }

    fn limits(&self) -> Limits {
        self.times.lock().limits()
    }
}

/// How long answers took lately.
#[derive(Default)]
struct Times {
    answers: Option<Smoothed>,
    recent: VecDeque<Duration>,
}

/// Mean and mean deviation in seconds, smoothed as round trips are in RFC 6298 §2.
#[derive(Clone, Copy)]
struct Smoothed {
    mean: f64,
    deviation: f64,
}

/// For how long a lookup waits.
#[derive(Debug, PartialEq)]
struct Limits {
    rank_two_after: Duration,
    budget: Duration,
}

impl Times {
    fn note_answer(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        let answers = self.answers.get_or_insert(Smoothed { mean: took, deviation: took / 2.0 });
        answers.deviation += ((answers.mean - took).abs() - answers.deviation) / 4.0;
        answers.mean += (took - answers.mean) / 8.0;
    }

    fn note_lookup(&mut self, took: Duration) {
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(took);
    }

    /// Mean and four deviations stand for the 99th percentile.
    fn limits(&self) -> Limits {
        let Smoothed { mean, deviation } = self.answers.unwrap_or(Smoothed { mean: 0.0, deviation: 0.0 });
        let within = |secs: f64, (least, most)| Duration::from_secs_f64(secs).clamp(least, most);
        Limits {
            rank_two_after: within(4.0 * mean, RANK_TWO_AFTER),
            budget: within(4.0 * (mean + 4.0 * deviation), BUDGET),
        }
    }
}

/// Asks the superpeers of an object who has it.
pub(super) async fn resolve(node: &Arc<Node>, mut query: Query) -> Answer {
    let began = node.clock.mono();
    add_quarantined(node, &mut query);
    let answer = ask_ranked(node, Arc::new(query)).await.unwrap_or(Answer::Unreachable);
    let took = node.clock.mono().saturating_duration_since(began);
    node.metrics.mesh.lookups.of(label(&answer)).inc();
    node.metrics.mesh.lookup_duration.observe(took.as_secs_f64());
    node.lookups.times.lock().note_lookup(took);
    match answer {
        Answer::Lease(lease) => Answer::Lease(lease.taken()),
        other => other,
    }
}

fn add_quarantined(node: &Node, query: &mut Query) {
    let quarantine = node.quarantine.lock();
    for held in quarantine.held(node.clock.mono()) {
        if query.avoid.len() < AVOID_MAX && !query.avoid.contains(&held) {
            query.avoid.push(held);
        }
    }
}

async fn ask_ranked(node: &Arc<Node>, query: Arc<Query>) -> Option<Answer> {
    let [Some(first), mut second] = node.sessions.ranked(query.object) else { return None };
    let limits = node.lookups.limits();
    let (hedge, give_up) = (tokio::time::sleep(limits.rank_two_after), tokio::time::sleep(limits.budget));
    tokio::pin!(hedge, give_up);
    let mut asked: FuturesUnordered<_> = [put(node, first, &query)].into_iter().collect();
    loop {
        tokio::select! {
            biased;
            Some(reply) = asked.next() => match (reply, second.take()) {
                (Ok(Some(answer)), _) => return Some(answer),
                // It failed, or knows too little: the other may know more.
                (_, Some(other)) => asked.push(put(node, other, &query)),
                (_, None) if asked.is_empty() => return None,
                (_, None) => {}
            },
            () = &mut hedge, if second.is_some() => {
                asked.extend(second.take().map(|other| put(node, other, &query)));
            }
            () = &mut give_up => return None,
        }
    }
}

/// Puts the question to one superpeer. What comes when nobody waits any more is dropped, and with it
/// a lease, which is given back so.
fn put(node: &Arc<Node>, superpeer: NodeId, query: &Arc<Query>) -> oneshot::Receiver<Option<Answer>> {
    let (answer_tx, answer_rx) = oneshot::channel();
    if superpeer == node.me.id {
        let finding = super::directory::resolve(node, &node.me, query);
        drop(answer_tx.send(finding.and_then(|finding| answer(node, superpeer, query, finding))));
        return answer_rx;
    }
    let member = node.live_superpeer(superpeer);
    let place = node.lookups.questions.clone().try_acquire_owned();
    // Without either the sender is dropped here, which the caller takes for a failure.
    if let (Some(member), Ok(place)) = (member, place) {
        let (owner, query) = (node.clone(), query.clone());
        node.spawner.spawn(async move {
            let began = owner.clock.mono();
            let asked = tokio::time::timeout(PATIENCE, ask(&owner, &member, &query)).await;
            let found = asked.unwrap_or(Err(AskError::Silent));
            if found.is_ok() {
                let took = owner.clock.mono().saturating_duration_since(began);
                owner.lookups.note_answer(took);
            }
            let found = found.ok().and_then(|finding| answer(&owner, superpeer, &query, finding));
            drop(answer_tx.send(found));
            drop(place);
        });
    }
    answer_rx
}

async fn ask(node: &Node, superpeer: &Member, query: &Query) -> Result<Finding, AskError> {
    let link = node.link(superpeer.id, superpeer.address).await?;
    let mut exchange = link.ask(ask::Kind::Resolve(Resolve::from(query))).await?;
    let frame = exchange.frame().await?;
    let Some(Frame::Message(bytes)) = frame else { return Err(AskError::Protocol) };
    exchange.finish();
    let resolved = Resolved::decode(bytes).ok().ok_or(AskError::Protocol)?;
    Finding::try_from(&resolved).ok().ok_or(AskError::Protocol)
}

/// What a finding means to this node; `None` if it is of no use.
fn answer(node: &Arc<Node>, superpeer: NodeId, query: &Query, finding: Finding) -> Option<Answer> {
    let now = node.clock.mono();
    let is_useful =
        |place: &Place| place.node != node.me.id && !node.quarantine.lock().holds(place.node, now);
    Some(match finding {
        Finding::Holders(mut places) => {
            places.retain(is_useful);
            node.quarantine.lock().prefer(&mut places, now);
            if places.is_empty() {
                return None;
            }
            Answer::Holders(places)
        }
        Finding::Lease(token, _) => {
            let granted = Granted { by: superpeer, object: query.object, variant: query.variant };
            Lease::open(node, token, granted).map_or(Answer::Alone(Duration::ZERO), Answer::Lease)
        }
        Finding::Follow(place, token) if is_useful(&place) => Answer::Follow(place, token),
        // It arrives here, in another fill, or at one that is shunned.
        Finding::Follow(..) => Answer::Alone(Duration::ZERO),
        Finding::Fresher(place) if is_useful(&place) => Answer::Fresher(place),
        Finding::Fresher(_) | Finding::Warming => return None,
        Finding::Alone(rest) => Answer::Alone(rest),
    })
}

fn label(answer: &Answer) -> LookupAnswer {
    match answer {
        Answer::Holders(_) => LookupAnswer::Holders,
        Answer::Lease(_) => LookupAnswer::Lease,
        Answer::Follow(..) => LookupAnswer::Follow,
        Answer::Fresher(_) => LookupAnswer::Fresher,
        Answer::Alone(_) => LookupAnswer::Alone,
        Answer::Unreachable => LookupAnswer::Unreachable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits_after(answers: &[u64]) -> (u128, u128) {
        let mut times = Times::default();
        answers.iter().for_each(|millis| times.note_answer(Duration::from_millis(*millis)));
        let limits = times.limits();
        (limits.rank_two_after.as_millis(), limits.budget.as_millis())
    }

    #[test]
    fn a_lookup_waits_as_long_as_answers_take_within_bounds() {
        assert_eq!(limits_after(&[]), (20, 50), "nothing is known");
        assert_eq!(limits_after(&[1; 100]), (20, 50), "answers are fast");
        let (hedge, budget) = limits_after(&[15; 100]);
        assert!((55..=65).contains(&hedge) && (55..=100).contains(&budget), "{hedge} {budget}");
        assert_eq!(limits_after(&[900; 100]), (200, 500), "answers are slow");
        let mut mixed = [900_u64; 150];
        mixed[50..].fill(1);
        assert_eq!(limits_after(&mixed), (20, 50), "answers were slow once");
    }

    #[test]
    fn percentiles_are_of_recent_lookups_only() {
        let lookups = Lookups::default();
        assert_eq!(lookups.percentiles(), None);
        let note = |millis| lookups.times.lock().note_lookup(Duration::from_millis(millis));
        (0..5000).for_each(|_| note(1000));
        (0..RECENT_MAX as u64).for_each(|millis| note(millis % 100));
        let (median, high) = lookups.percentiles().unwrap();
        assert!((45..=55).contains(&median.as_millis()) && high.as_millis() >= 98, "{median:?} {high:?}");
    }
}
