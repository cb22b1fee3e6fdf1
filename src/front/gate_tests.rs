use super::*;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

const A: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
const B: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 17));

fn gate() -> Arc<Gate> {
    Gate::new(Clock::system())
}

const fn caps(total: usize, per_address: usize) -> Caps {
    Caps { total, per_address: Some(per_address) }
}

fn enter(gate: &Arc<Gate>, address: IpAddr, caps: Caps) -> Result<Admitted, Limit> {
    let admitted = gate.enter(address, caps);
    gate.check();
    admitted
}

/// Let in without anybody's loss.
fn entered(gate: &Arc<Gate>, address: IpAddr, caps: Caps) -> Entered {
    let admitted = enter(gate, address, caps).expect("a place");
    assert_eq!(admitted.instead_of, None);
    admitted.entered
}

/// One with a request in progress.
fn busy(gate: &Arc<Gate>, address: IpAddr, caps: Caps) -> Entered {
    let entered = entered(gate, address, caps);
    entered.seat().begins();
    entered
}

fn now(gate: &Gate) -> Instant {
    gate.clock.mono()
}

fn is_told(entered: &Entered) -> bool {
    tag(entered.0.state.load(Ordering::Relaxed)) == GONE
}

impl Gate {
    /// What must hold whenever no lock is held.
    fn check(&self) {
        let shards = self.shards.iter().map(Mutex::lock).collect::<Vec<_>>();
        let counted: usize = shards.iter().flat_map(|shard| shard.counts.values()).sum();
        assert_eq!(counted, self.open());
        for shard in shards {
            assert_eq!(shard.order.len(), shard.by_network.len());
            for (rank, seat) in &shard.order {
                assert_eq!(seat.filed.load(Ordering::Relaxed), rank.word());
                assert!(shard.by_network.contains(&(seat.network, *rank)));
            }
        }
    }

    fn listed(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().order.len()).sum()
    }
}

#[test]
fn one_address_may_have_more_than_its_share_until_more_than_half_is_taken() {
    let gate = gate();
    let caps = caps(10, 2);
    let mut inside: Vec<_> = (0..6).map(|_| busy(&gate, A, caps)).collect();
    assert_eq!(enter(&gate, A, caps).err(), Some(Limit::Address));
    let _other = [busy(&gate, B, caps), busy(&gate, B, caps)];
    assert_eq!(enter(&gate, B, caps).err(), Some(Limit::Address));
    assert_eq!(gate.open(), 8);
    inside.truncate(3);
    entered(&gate, A, caps);
}

#[test]
fn the_limit_over_all_holds_and_leaving_makes_room() {
    let gate = gate();
    let first = busy(&gate, A, caps(1, 9));
    assert_eq!(enter(&gate, B, caps(1, 9)).err(), Some(Limit::Node));
    drop(first);
    drop(entered(&gate, B, caps(1, 9)));
    gate.check();
    assert_eq!((gate.open(), gate.listed()), (0, 0));
}

#[test]
fn who_waits_between_requests_gives_way_before_who_has_sent_none_and_the_longest_first() {
    let gate = gate();
    let caps = caps(5, 9);
    let heads = [entered(&gate, A, caps), entered(&gate, B, caps)];
    let idle = [busy(&gate, B, caps), busy(&gate, A, caps)];
    let serving = busy(&gate, A, caps);
    for (index, entered) in idle.iter().rev().enumerate() {
        entered.seat().ends(now(&gate) + Duration::from_millis(index as u64));
    }
    let mut newer = Vec::new();
    for (longest, what) in [
        (&idle[1], ShedWhat::Idle),
        (&idle[0], ShedWhat::Idle),
        (&heads[0], ShedWhat::Head),
        (&heads[1], ShedWhat::Head),
    ] {
        assert!(!is_told(longest));
        let admitted = enter(&gate, A, caps).expect("a place");
        assert_eq!(admitted.instead_of, Some((Limit::Node, what)));
        assert!(is_told(longest), "{what:?}");
        admitted.entered.seat().begins();
        newer.push(admitted.entered);
    }
    assert_eq!(enter(&gate, A, caps).err(), Some(Limit::Node), "all have requests in progress");
    assert!(!is_told(&serving) && newer.iter().all(|entered| !is_told(entered)));
    assert_eq!(gate.open(), 5);
    drop((heads, idle));
    gate.check();
    assert_eq!((gate.open(), gate.leaving.load(Ordering::Relaxed)), (5, 0));
}

#[test]
fn an_address_with_its_share_gives_up_one_of_its_own() {
    let gate = gate();
    let caps = caps(10, 2);
    let others: Vec<_> = (0..6).map(|last| entered(&gate, [10, 0, 0, last].into(), caps)).collect();
    let mine = [busy(&gate, A, caps), busy(&gate, A, caps)];
    mine[1].seat().ends(now(&gate));
    let third = enter(&gate, A, caps).expect("a place");
    assert_eq!(third.instead_of, Some((Limit::Address, ShedWhat::Idle)));
    assert!(is_told(&mine[1]) && !is_told(&mine[0]) && others.iter().all(|other| !is_told(other)));
    third.entered.seat().begins();
    assert_eq!(enter(&gate, A, caps).err(), Some(Limit::Address));
    let trusted = Caps { per_address: None, ..caps };
    entered(&gate, A, trusted);
}

#[test]
fn who_was_passed_over_while_it_was_busy_can_be_shed_when_it_waits() {
    let gate = gate();
    let caps = caps(2, 9);
    let inside = [busy(&gate, A, caps), busy(&gate, B, caps)];
    for round in 0..3 {
        assert_eq!(enter(&gate, A, caps).err(), Some(Limit::Node), "round {round}");
        assert_eq!(gate.listed(), 0, "what has a request is looked at once");
        inside[0].seat().ends(now(&gate));
        assert_eq!(gate.listed(), 1);
        inside[0].seat().begins();
    }
    inside[0].seat().ends(now(&gate));
    assert!(enter(&gate, A, caps).is_ok());
    assert!(is_told(&inside[0]) && !is_told(&inside[1]));
}

#[test]
fn a_request_after_the_first_touches_no_list() {
    let gate = gate();
    let caps = caps(9, 9);
    let entered = busy(&gate, A, caps);
    entered.seat().ends(now(&gate));
    let filed = entered.0.filed.load(Ordering::Relaxed);
    let shards: Vec<_> = gate.shards.iter().map(Mutex::lock).collect();
    // Would wait for ever for a lock.
    for _ in 0..3 {
        entered.seat().begins();
        entered.seat().ends(now(&gate) + Duration::from_secs(1));
    }
    drop(shards);
    assert_eq!(entered.0.filed.load(Ordering::Relaxed), filed);
}

#[test]
fn who_was_told_to_go_stays_so_and_a_tunnel_is_never_told() {
    let gate = gate();
    let caps = caps(2, 9);
    let (tunnel, idle) = (busy(&gate, A, caps), busy(&gate, A, caps));
    tunnel.seat().is_tunnel();
    tunnel.seat().ends(now(&gate));
    idle.seat().ends(now(&gate));
    let third = enter(&gate, B, caps).expect("a place");
    idle.seat().begins();
    idle.seat().ends(now(&gate));
    assert!(is_told(&idle) && !is_told(&tunnel));
    third.entered.seat().begins();
    assert_eq!(enter(&gate, B, caps).err(), Some(Limit::Node));
    assert!(!is_told(&tunnel));
}

#[test]
fn those_that_were_told_and_do_not_go_are_bounded() {
    let gate = gate();
    for (caps, limit) in [(caps(1, usize::MAX), Limit::Node), (caps(3, 1), Limit::Address)] {
        let others = [10, 11].map(|last| [127, 0, 0, last].into());
        let _others: Vec<_> =
            others[..caps.total - 1].iter().map(|other| busy(&gate, *other, caps)).collect();
        let mut inside = vec![entered(&gate, A, caps)];
        for _ in 0..LEAVING_MIN {
            inside.push(enter(&gate, A, caps).expect("a place").entered);
        }
        assert_eq!(enter(&gate, A, caps).err(), Some(limit));
        inside.remove(0);
        assert!(enter(&gate, A, caps).is_ok());
    }
}

#[test]
fn a_64_is_one_address_and_a_mapped_address_is_what_it_maps() {
    let gate = gate();
    let caps = caps(4, 1);
    let v6 = |text: &str| IpAddr::V6(text.parse::<Ipv6Addr>().unwrap());
    let _three: Vec<_> = (1..4).map(|last| busy(&gate, [10, 0, 0, last].into(), caps)).collect();
    let _first = busy(&gate, v6("2001:db8::1"), caps);
    let roomy = Caps { total: 6, ..caps };
    assert_eq!(enter(&gate, v6("2001:db8::ffff:2"), roomy).err(), Some(Limit::Address));
    assert_eq!(enter(&gate, v6("::ffff:10.0.0.1"), roomy).err(), Some(Limit::Address));
    entered(&gate, v6("2001:db8:0:1::1"), roomy);
}

#[test]
fn a_connection_that_turns_out_to_be_of_another_address_counts_there() {
    let gate = gate();
    let caps = caps(4, 1);
    let proxy = Caps { per_address: None, ..caps };
    let mut inside = Vec::new();
    for last in 0..3 {
        let entered = entered(&gate, A, proxy);
        let admitted = entered.of_client([10, 0, 0, last].into(), caps).expect("a place");
        gate.check();
        assert_eq!((admitted.instead_of, gate.open()), (None, inside.len() + 1));
        inside.push(admitted.entered);
    }
    let again = entered(&gate, A, proxy).of_client([10, 0, 0, 1].into(), caps).expect("a place");
    gate.check();
    assert_eq!(again.instead_of, Some((Limit::Address, ShedWhat::Head)));
    assert!(is_told(&inside[1]));
    again.entered.seat().begins();
    let third = entered(&gate, A, proxy).of_client([10, 0, 0, 1].into(), caps);
    assert_eq!(third.err(), Some(Limit::Address));
    let shed = entered(&gate, A, proxy);
    let _others: Vec<_> = (0..3).map(|_| enter(&gate, B, proxy).expect("a place")).collect();
    assert!(is_told(&shed));
    assert_eq!(shed.of_client([10, 0, 0, 9].into(), caps).err(), Some(Limit::Node));
    drop((inside, again.entered, _others));
    gate.check();
    assert_eq!((gate.open(), gate.leaving.load(Ordering::Relaxed), gate.listed()), (0, 0, 0));
}
