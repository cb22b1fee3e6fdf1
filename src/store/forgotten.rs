//! Objects that the index has let go while the disk may still have records of them.
//!
//! At the next start those records would be found again, also after an invalidation in between that
//! saw nothing to invalidate. So each such object gets a `Drop` record, in time. When there are too
//! many to remember, every invalidation writes one, whether or not the object is known.

use crate::proto::key::ObjectId;
use hashbrown::HashMap;
use parking_lot::Mutex;

/// Objects remembered at most.
const FORGOTTEN_MAX: usize = 1 << 16;

/// The set of these objects.
#[derive(Default)]
pub(super) struct Forgotten(Mutex<State>);

#[derive(Default)]
struct State {
    objects: HashMap<ObjectId, Entry>,
    generation: u64,
    overflowed: bool,
}

struct Entry {
    generation: u64,
    writing: bool,
}

/// A `Drop` to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) object: ObjectId,
    generation: u64,
}

impl Forgotten {
    /// The object has left the index.
    pub(super) fn add(&self, object: ObjectId) {
        let mut state = self.0.lock();
        if state.objects.len() >= FORGOTTEN_MAX && !state.objects.contains_key(&object) {
            state.overflowed = true;
            return;
        }
        state.generation += 1;
        let generation = state.generation;
        state.objects.insert(object, Entry { generation, writing: false });
    }

    /// Whether the disk may have records of an object that is not in the index.
    pub(super) fn may_have(&self, object: ObjectId) -> bool {
        let state = self.0.lock();
        state.overflowed || state.objects.contains_key(&object)
    }

    /// The object comes back to the index, which now keeps in mind what this answers: whether the disk
    /// may have older records of it.
    pub(super) fn adopt(&self, object: ObjectId) -> bool {
        let mut state = self.0.lock();
        match state.objects.get(&object) {
            Some(entry) if entry.writing => true,
            Some(_) => state.objects.remove(&object).is_some(),
            None => state.overflowed,
        }
    }

    /// Like [`add`](Self::add), but the caller writes the object's `Drop`, and ends that with
    /// [`end`](Self::end).
    pub(super) fn claim(&self, object: ObjectId) -> Due {
        self.add(object);
        let mut state = self.0.lock();
        // Beyond the bound there is nothing to end.
        let Some(entry) = state.objects.get_mut(&object) else { return Due { object, generation: 0 } };
        entry.writing = true;
        Due { object, generation: entry.generation }
    }

    /// Takes the writing for up to `limit` objects that nobody writes for upon the caller.
    pub(super) fn begin_some(&self, limit: usize) -> Vec<Due> {
        let mut state = self.0.lock();
        let waiting = state.objects.iter_mut().filter(|(_, entry)| !entry.writing).take(limit);
        waiting
            .map(|(&object, entry)| {
                entry.writing = true;
                Due { object, generation: entry.generation }
            })
            .collect()
    }

    /// The `Drop` was written, or could not be.
    pub(super) fn end(&self, due: Due, written: bool) {
        let mut state = self.0.lock();
        let Some(entry) =
            state.objects.get_mut(&due.object).filter(|entry| entry.generation == due.generation)
        else {
            return;
        };
        if written {
            state.objects.remove(&due.object);
        } else {
            entry.writing = false;
        }
    }

    /// Objects remembered.
    pub(super) fn len(&self) -> usize {
        self.0.lock().objects.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(number: u32) -> ObjectId {
        let mut id = ObjectId::default();
        id.0[..4].copy_from_slice(&number.to_le_bytes());
        id
    }

    #[test]
    fn an_object_forgotten_again_while_its_drop_is_written_needs_another() {
        let forgotten = Forgotten::default();
        forgotten.add(object(1));
        let due = forgotten.claim(object(1));
        assert!(forgotten.begin_some(9).is_empty());
        forgotten.add(object(1));
        forgotten.end(due, true);
        assert!(forgotten.may_have(object(1)));
        let due = forgotten.begin_some(9);
        assert_eq!(due.len(), 1);
        forgotten.end(due[0], true);
        assert!(!forgotten.may_have(object(1)));
    }

    #[test]
    fn beyond_the_bound_every_object_may_be_on_disk() {
        let forgotten = Forgotten::default();
        (0..FORGOTTEN_MAX as u32).for_each(|number| forgotten.add(object(number)));
        assert!(!forgotten.may_have(object(u32::MAX)));
        forgotten.add(object(u32::MAX - 1));
        assert_eq!(forgotten.len(), FORGOTTEN_MAX);
        assert!(forgotten.may_have(object(u32::MAX)));
    }
}
