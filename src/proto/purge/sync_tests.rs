use super::*;

/// A node, its machine, and time in milliseconds since it started.
struct Rig {
    sync: Sync,
    begun: Instant,
    live: Vec<(NodeId, bool)>,
}

fn node(number: u8) -> NodeId {
    NodeId([number; 16])
}

impl Rig {
    fn new(has_seeds: bool) -> Self {
        #[expect(clippy::disallowed_methods, reason = "a machine without a clock is given one")]
        let begun = Instant::now();
        Self { sync: Sync::new(has_seeds, begun), begun, live: Vec::new() }
    }

    /// One that has been in sync with these, all seen and compared with at 0.
    fn with(superpeers: &[u8], edges: &[u8]) -> Self {
        let mut rig = Self::new(true);
        rig.see(0, superpeers, edges);
        superpeers.iter().chain(edges).for_each(|number| rig.compare(0, *number));
        rig
    }

    fn at(&self, millis: u64) -> Instant {
        self.begun + Duration::from_millis(millis)
    }

    fn see(&mut self, millis: u64, superpeers: &[u8], edges: &[u8]) {
        let of = |numbers: &[u8], is| numbers.iter().map(|number| (node(*number), is)).collect::<Vec<_>>();
        self.live = [of(superpeers, true), of(edges, false)].concat();
        self.sync.see(self.live.clone(), self.at(millis));
    }

    fn compare(&mut self, millis: u64, number: u8) {
        self.sync.compared(node(number), self.at(millis));
    }

    fn in_sync(&mut self, millis: u64) -> bool {
        let now = self.at(millis);
        self.sync.look(now).until.is_some_and(|until| now < until)
    }

    /// Looks each second, as the driver does at least.
    fn in_sync_from_to(&mut self, seconds: std::ops::RangeInclusive<u64>) -> Vec<bool> {
        seconds.map(|second| self.in_sync(second * 1000)).collect()
    }

    fn members(&mut self, millis: u64) -> usize {
        let now = self.at(millis);
        self.sync.look(now).members
    }
}

#[test]
fn a_node_without_anybody_to_look_for_is_in_sync_at_once() {
    let mut alone = Rig::new(false);
    assert!(alone.in_sync_from_to(0..=100).iter().all(|is| *is));
}

#[test]
fn a_node_that_starts_looks_for_others_before_it_takes_itself_to_be_alone() {
    let mut alone = Rig::new(true);
    assert!(!alone.in_sync(0) && !alone.in_sync(4999));
    assert!(alone.in_sync(5000) && alone.in_sync(100_000));
    // Seen, and not compared with yet.
    for (superpeers, edges) in [(&[1][..], &[][..]), (&[], &[1])] {
        let mut joins = Rig::new(true);
        joins.see(10, superpeers, edges);
        assert!(!joins.in_sync(20) && !joins.in_sync(30_000), "{superpeers:?} {edges:?}");
        joins.compare(30_000, 1);
        assert!(joins.in_sync(30_010));
    }
}

#[test]
fn one_superpeer_is_enough_for_ten_seconds() {
    let mut rig = Rig::new(true);
    rig.see(0, &[1, 2], &[3, 4, 5]);
    rig.compare(1000, 3);
    assert!(!rig.in_sync(1000), "an edge does not stand for a superpeer that is alive");
    rig.compare(2000, 2);
    assert!(rig.in_sync(2000) && rig.in_sync(11_999) && !rig.in_sync(12_000));
    rig.compare(13_000, 1);
    assert!(rig.in_sync(13_000));
}

#[test]
fn a_comparison_counts_from_when_it_was_begun() {
    let mut rig = Rig::with(&[1], &[]);
    rig.compare(3000, 1);
    rig.compare(2000, 1);
    assert!(rig.in_sync(12_999) && !rig.in_sync(13_000));
}

#[test]
fn without_a_superpeer_half_of_the_members_are_needed() {
    // Five with this node, so two others.
    let mut rig = Rig::with(&[], &[1, 2, 3, 4]);
    rig.compare(9000, 1);
    assert!(rig.in_sync(9000) && !rig.in_sync(10_000), "one other");
    rig.compare(10_000, 2);
    assert!(rig.in_sync(10_000) && rig.in_sync(18_999) && !rig.in_sync(19_000), "until the second oldest");
}

#[test]
fn a_node_that_is_cut_off_does_not_become_the_fleet() {
    for (superpeers, edges) in [(&[1, 2][..], &[3, 4][..]), (&[], &[1, 2, 3, 4]), (&[], &[1, 2])] {
        let mut rig = Rig::with(superpeers, edges);
        assert!(rig.in_sync(1000));
        // Nobody answers; in the end everybody is dead to it.
        rig.see(5000, &[], &[]);
        assert_eq!(rig.in_sync_from_to(5..=9), [true; 5]);
        assert!(!rig.in_sync_from_to(10..=600).iter().any(|is| *is), "{superpeers:?} {edges:?}");
        // A newcomer on its side of the cut changes nothing.
        rig.see(601_000, &[], &[9]);
        rig.compare(601_000, 9);
        assert!(!rig.in_sync(601_000) || edges.len() + superpeers.len() < 3);
        // The fleet is back.
        rig.see(700_000, superpeers, edges);
        superpeers.iter().chain(edges).for_each(|number| rig.compare(700_000, *number));
        assert!(rig.in_sync(700_000));
    }
}

#[test]
fn of_two_nodes_each_is_half() {
    let mut rig = Rig::with(&[], &[1]);
    rig.see(5000, &[], &[]);
    assert!(rig.in_sync_from_to(5..=100).iter().all(|is| *is));
    // As long as the other one is alive it is asked.
    let mut rig = Rig::with(&[], &[1]);
    assert!(rig.in_sync(9999) && !rig.in_sync(10_000));
}

#[test]
fn the_dead_leave_the_list_only_while_this_node_is_in_sync() {
    let mut rig = Rig::with(&[], &[1, 2, 3, 4, 5, 6]);
    assert_eq!(rig.members(0), 7);
    // Two die; four are left, of which three are needed with this one at first.
    rig.see(5000, &[], &[1, 2, 3, 4]);
    for second in 5..=16 {
        (1..=4).for_each(|number| rig.compare(second * 1000, number));
        assert!(rig.in_sync(second * 1000));
        assert_eq!(rig.members(second * 1000), if second < 15 { 7 } else { 5 });
    }
    // Out of sync it stays as it is.
    rig.see(30_000, &[], &[1]);
    assert_eq!((rig.members(30_000), rig.members(60_000)), (5, 5));
    // Back in sync, whoever is still dead is waited for once more.
    rig.see(61_000, &[9], &[1]);
    rig.compare(61_000, 9);
    assert!(rig.in_sync(61_000));
    assert_eq!(rig.members(70_000), 6);
    rig.compare(70_000, 9);
    assert_eq!(rig.members(71_000), 3);
}

#[test]
fn who_says_good_bye_does_not_count_any_more() {
    let mut rig = Rig::with(&[], &[1, 2, 3, 4]);
    for number in 1..=4 {
        rig.sync.said_good_bye(node(number));
    }
    assert_eq!(rig.members(100), 5, "they are still there");
    rig.see(200, &[], &[]);
    assert_eq!(rig.members(200), 1);
    assert!(rig.in_sync(100_000));
    // A word from an earlier life says nothing of one that is back.
    let mut rig = Rig::with(&[], &[1, 2, 3, 4]);
    rig.sync.said_good_bye(node(1));
    rig.see(100, &[], &[1, 2, 3, 4]);
    rig.see(200, &[], &[2, 3, 4]);
    assert_eq!(rig.members(200), 5);
}

#[test]
fn being_in_sync_outlasts_the_death_of_the_superpeer_that_it_came_from() {
    let mut rig = Rig::with(&[1], &[2, 3, 4]);
    rig.compare(4000, 1);
    assert!(rig.in_sync(4000));
    rig.see(6000, &[], &[2, 3, 4]);
    assert!(rig.in_sync(6000) && rig.in_sync(13_999));
    rig.compare(13_000, 2);
    rig.compare(13_000, 3);
    assert!(rig.in_sync(14_000));
}

#[test]
fn the_list_is_bounded() {
    let mut rig = Rig::new(true);
    for round in 0..100_u64 {
        let live = (0..500_u16).map(|number| {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&(round * 500 + u64::from(number)).to_le_bytes());
            (NodeId(id), false)
        });
        let now = rig.at(round * 1000);
        rig.sync.see(live, now);
    }
    assert_eq!(rig.members(100_000), LISTED_MAX + 1);
}
