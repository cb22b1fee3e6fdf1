//! The objects asked for most, counted in bounded memory.
//!
//! Space-Saving (Metwally, Agrawal, El Abbadi 2005): a new object takes the place of the one counted least and
//! inherits its count as what may be wrong with its own. Whatever was asked for in more than one of [`SLOTS_MAX`]
//! requests is certain to be among those kept.

use super::AccessRecord;
use crate::proto::key::ObjectId;
use hashbrown::HashMap;

/// Objects that are counted at a time.
pub const SLOTS_MAX: usize = 512;
/// Bytes of a name that are kept.
const NAME_BYTES_MAX: usize = 512;

/// An object and how often it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HotObject {
    /// Host, path and query as a client asked; cut if it is very long. Any characters.
    pub name: String,
    /// Its identity.
    pub object: ObjectId,
    /// Requests that were certainly for it.
    pub requests: u64,
    /// Requests that may have been for it, at most.
    pub requests_max: u64,
    /// Bytes sent for the requests that were certainly for it.
    pub bytes: u64,
}

/// Counts since it was last taken.
#[derive(Debug, Default)]
pub(super) struct Hottest {
    places: HashMap<ObjectId, usize>,
    /// Apart from the rest, since the least is sought often.
    counts: Vec<u64>,
    slots: Vec<Slot>,
    counted: u64,
}

#[derive(Debug, Default)]
struct Slot {
    object: ObjectId,
    name: String,
    /// What of the count may be of others.
    inherited: u64,
    bytes: u64,
}

impl Hottest {
    /// Counts a request, if it is for an object.
    pub(super) fn count(&mut self, record: &AccessRecord<'_>) {
        let Some(object) = record.object else { return };
        self.counted += 1;
        let place = match self.places.get(&object) {
            Some(place) => *place,
            None => self.place(object, record),
        };
        self.counts[place] += 1;
        self.slots[place].bytes += record.bytes_out;
    }

    /// Makes a place for an object that has none.
    fn place(&mut self, object: ObjectId, record: &AccessRecord<'_>) -> usize {
        let place = if self.slots.len() < SLOTS_MAX {
            self.slots.push(Slot::default());
            self.counts.push(0);
            self.slots.len() - 1
        } else {
            let least = self.counts.iter().enumerate().min_by_key(|(_, count)| **count);
            let (place, least) = least.map_or((0, 0), |(place, count)| (place, *count));
            self.places.remove(&self.slots[place].object);
            self.slots[place].inherited = least;
            place
        };
        let slot = &mut self.slots[place];
        (slot.object, slot.bytes) = (object, 0);
        slot.name.clear();
        push_some(&mut slot.name, record.host);
        push_some(&mut slot.name, record.target);
        self.places.insert(object, place);
        place
    }

    /// The requests counted, and the `count` objects asked for most; begins anew.
    pub(super) fn take(&mut self, count: usize) -> (u64, Vec<HotObject>) {
        self.places.clear();
        let slots = self.slots.drain(..).zip(self.counts.drain(..));
        let mut objects: Vec<_> = slots
            .map(|(slot, requests_max)| HotObject {
                requests: requests_max - slot.inherited,
                requests_max,
                name: slot.name,
                object: slot.object,
                bytes: slot.bytes,
            })
            .collect();
        objects.sort_unstable_by(|a, b| (b.requests, &a.name).cmp(&(a.requests, &b.name)));
        objects.truncate(count);
        (std::mem::take(&mut self.counted), objects)
    }
}

/// Appends as much of `text` as there is room for.
fn push_some(name: &mut String, text: &str) {
    name.push_str(&text[..text.floor_char_boundary(NAME_BYTES_MAX.saturating_sub(name.len()))]);
}

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::*;
    use proptest::prelude::*;

    fn count(hottest: &mut Hottest, number: u64) {
        let mut record = record("/x", b"");
        let mut object = ObjectId::default();
        object.0[..8].copy_from_slice(&number.to_le_bytes());
        record.object = Some(object);
        hottest.count(&record);
    }

    #[test]
    fn the_count_of_few_objects_is_exact_and_begins_anew() {
        let mut hottest = Hottest::default();
        for number in [1, 2, 1, 3, 1, 2] {
            count(&mut hottest, number);
        }
        let (counted, objects) = hottest.take(2);
        let counts: Vec<_> = objects.iter().map(|hot| (hot.requests, hot.requests_max, hot.bytes)).collect();
        assert_eq!((counted, counts), (6, vec![(3, 3, 3 * 1234), (2, 2, 2 * 1234)]));
        assert_eq!(objects[0].name, "example.com/x");
        assert_eq!(hottest.take(2), (0, Vec::new()));
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let mut hottest = Hottest::default();
        let target = format!("/{}", "ä".repeat(NAME_BYTES_MAX));
        let mut record = record(&target, b"");
        record.object = Some(ObjectId::default());
        hottest.count(&record);
        let name = &hottest.take(1).1[0].name;
        assert!(name.len() <= NAME_BYTES_MAX && name.starts_with("example.com/ä"));
    }

    proptest! {
        /// However many others there are, no object is told to be hotter than it is, none that is hot is missed, and
        /// the memory is bounded.
        #[test]
        fn counts_are_bounds(hot in 2_u64..6, cold in 600_u64..3000, seed in any::<u64>()) {
            let mut hottest = Hottest::default();
            let mut asked = vec![0_u64; (hot + cold) as usize];
            let mut state = seed | 1;
            for number in hot..hot + cold {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                for number in [number, (state >> 33) % hot] {
                    count(&mut hottest, number);
                    asked[number as usize] += 1;
                }
            }
            prop_assert!(hottest.slots.len() <= SLOTS_MAX);
            let (counted, objects) = hottest.take(SLOTS_MAX);
            prop_assert_eq!(counted, asked.iter().sum::<u64>());
            for object in &objects {
                let number = u64::from_le_bytes(*object.object.0.first_chunk().expect("16 bytes"));
                let true_count = asked[number as usize];
                prop_assert!(object.requests <= true_count && true_count <= object.requests_max);
            }
            for number in (0..hot).filter(|number| asked[*number as usize] > counted / SLOTS_MAX as u64) {
                let found = objects.iter().any(|hot| hot.object.0.starts_with(&number.to_le_bytes()));
                prop_assert!(found, "object {}", number);
            }
        }
    }
}
