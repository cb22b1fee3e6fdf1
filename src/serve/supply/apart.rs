//! A peer is served only if all purges that it covers are covered here.
//!
//! Why that is enough: what the asker stores carries its purge position at the moment its fill began, so that it judges by itself,
//! at each use, all purges that it applies from then on. What must not happen is that it is given something which a purge selects that
//! it had applied *before*, since it would never look for that. So the asker states what it covers *after* it has read that
//! position, and it covers no less later; and here that is compared *before* the stored version, or the fill, is judged by the log of
//! this node, which also only grows. All purges of the asker up to its position are thereby among those by which the version was
//! judged here. No clock has a part in it.
//!
//! A digest is compared, since usually both cover the same. If it differs, the asker is told what is covered here, makes both
//! equal, and asks once more with what it covers in words. Who reads on in a version of which it was given the head was checked then:
//! the bytes of a version never change.

use crate::proto::purge::{Coverage, Digest};
use crate::proto::wire::{self, reply};
use crate::serve::Node;

/// The question is not what it must be.
pub(super) struct Malformed;

/// What is answered if not all that the asker covers is covered here.
pub(super) fn apart(node: &Node, read: &wire::Read) -> Result<Option<reply::Kind>, Malformed> {
    if read.digest.is_empty() {
        return Ok(None);
    }
    let digest = <[u8; 16]>::try_from(&read.digest[..]).map(Digest).or(Err(Malformed))?;
    let theirs = Coverage::of_wire(&read.covered).or(Err(Malformed))?;
    let is_covered = node.purges.digest() == digest || (!theirs.is_empty() && node.purges.covers(&theirs));
    if is_covered {
        return Ok(None);
    }
    node.metrics.purges.apart.inc();
    Ok(Some(reply::Kind::Apart(wire::Apart { covered: node.purges.coverage().to_wire() })))
}
