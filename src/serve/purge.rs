//! Purges as operators ask for them: issued here, and spread over the fleet.

use super::Node;
use crate::peer::{Delivery, Receipt};
use crate::proto::purge::{Batch, Mode, PurgeId, Selector};
use crate::purge::PurgeError;
use crate::telemetry::PurgeOutcome;
use std::time::{Duration, Instant};

/// What became of a purge.
#[derive(Clone, Debug)]
pub struct Purged {
    /// Its name; of several selectors that of the last.
    pub id: PurgeId,
    /// How many selectors it had.
    pub selectors: usize,
    /// What became of the other live members; empty for a single node.
    pub receipts: Vec<Receipt>,
    /// From the request to when it was in force on this node.
    pub here: Duration,
    /// From the request to the last acknowledgement, or to giving up.
    pub took: Duration,
}

impl Purged {
    /// Members that were live at the end, this node included.
    pub fn live(&self) -> usize {
        self.receipts.iter().filter(|receipt| receipt.is_live()).count() + 1
    }

    /// Those of them that have applied it.
    pub fn applied(&self) -> usize {
        let applied = |receipt: &&Receipt| matches!(receipt.delivery, Delivery::Applied(_));
        self.receipts.iter().filter(applied).count() + 1
    }
}

/// A purge that is in force here, and not told to others yet.
pub(super) struct Issued {
    batch: Batch,
    selectors: usize,
    begun: Instant,
    here: Duration,
}

impl Node {
    /// Purges what `selectors` select: durably on this node, then on all live members, for which it waits at most `limit`. Members
    /// that did not acknowledge until then hear of it when they ask next, and serve nothing unasked before.
    ///
    /// # Errors
    /// If it cannot be issued; then nothing is purged anywhere.
    pub async fn purge(
        &self,
        mode: Mode,
        selectors: &[Selector],
        limit: Duration,
    ) -> Result<Purged, PurgeError> {
        let issued = self.issue(mode, selectors).await?;
        Ok(self.spread(issued, limit).await)
    }

    /// The first half of [`purge`](Self::purge): durably on this node.
    ///
    /// # Errors
    /// If it cannot be issued; then nothing is purged anywhere.
    pub(super) async fn issue(&self, mode: Mode, selectors: &[Selector]) -> Result<Issued, PurgeError> {
        let begun = self.clock.mono();
        let issued = self.purges.issue(mode, selectors).await;
        let batch = issued.inspect_err(|_| self.metrics.purges.requests.of(PurgeOutcome::Failed).inc())?;
        let here = self.clock.mono().saturating_duration_since(begun);
        Ok(Issued { batch, selectors: selectors.len(), begun, here })
    }

    /// The second half: on all live members.
    pub(super) async fn spread(&self, issued: Issued, limit: Duration) -> Purged {
        let Issued { batch, selectors, begun, here } = issued;
        let metrics = &self.metrics.purges;
        let issuer = self.purges.issuer();
        let id = PurgeId { issuer, number: batch.coverage.number(issuer) };
        let receipts = match &self.mesh {
            Some(mesh) => mesh.spread(&batch, limit).await,
            None => Vec::new(),
        };
        let took = self.clock.mono().saturating_duration_since(begun);
        let purged = Purged { id, selectors, receipts, here, took };
        let missed = purged.live() - purged.applied();
        metrics.spread.observe(took.as_secs_f64());
        metrics.missed.inc_by(missed as u64);
        let outcome = if missed == 0 { PurgeOutcome::Complete } else { PurgeOutcome::Partial };
        metrics.requests.of(outcome).inc();
        purged
    }
}
