//! Which purges a node has applied.

use super::{Issuer, PurgeId};
use std::collections::BTreeMap;

/// Issuers that a log keeps count of. A node with a disk is one issuer for as long as it keeps its folder, one without a new one in each
/// life in which it issues a purge. Purges of further issuers are refused.
pub(super) const ISSUERS_MAX: usize = 65_536;

/// For each issuer the number up to which all its purges have been applied; 0 for those that are not named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage(BTreeMap<Issuer, u64>);

/// A hash of a [`Coverage`]: equal for equal ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 16]);

impl Coverage {
    /// The number up to which the purges of `issuer` are covered.
    pub fn number(&self, issuer: Issuer) -> u64 {
        self.0.get(&issuer).copied().unwrap_or(0)
    }

    /// Whether the purge is covered.
    pub fn has(&self, id: PurgeId) -> bool {
        self.number(id.issuer) >= id.number
    }

    /// Whether all that `other` covers is covered.
    pub fn covers(&self, other: &Self) -> bool {
        other.iter().all(|id| self.has(id))
    }

    /// Covers the purge and all before it of its issuer.
    pub fn add(&mut self, id: PurgeId) {
        let number = self.0.entry(id.issuer).or_default();
        *number = id.number.max(*number);
    }

    /// Covers what `other` covers.
    pub fn merge(&mut self, other: &Self) {
        other.iter().for_each(|id| self.add(id));
    }

    /// The last purge of each issuer, by issuer.
    pub fn iter(&self) -> impl Iterator<Item = PurgeId> + '_ {
        self.0.iter().map(|(&issuer, &number)| PurgeId { issuer, number })
    }

    /// How many issuers are named.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its hash.
    pub fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        for PurgeId { issuer, number } in self.iter() {
            hasher.update(&issuer.0.to_le_bytes()).update(&number.to_le_bytes());
        }
        Digest(*hasher.finalize().as_bytes().first_chunk().expect("a hash has 32 bytes"))
    }
}

impl FromIterator<PurgeId> for Coverage {
    fn from_iter<I: IntoIterator<Item = PurgeId>>(ids: I) -> Self {
        let mut coverage = Self::default();
        ids.into_iter().for_each(|id| coverage.add(id));
        coverage
    }
}
