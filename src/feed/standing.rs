//! How a record stands, with who is missing and for how long at most: for who looks on while somebody else waits.

use super::Feed;
use crate::domain::enforce::{BarrierReport, Outlook, ParticipantId, Position};

/// How a record stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Who enforces it and who does not yet.
    pub report: BarrierReport,
    /// Who is pending, with the milliseconds until they are provably closed. For the server itself there is no such time.
    pub missing: Vec<(ParticipantId, Option<u64>)>,
    /// Milliseconds until every gateway is closed, known or not.
    pub bound_left_ms: u64,
}

impl Feed {
    /// When each of these acknowledged a drill, in milliseconds of the boot clock.
    pub fn drilled_at_ms(&self, drill: Position, ids: &[ParticipantId]) -> Vec<Option<u64>> {
        let inner = self.shared.lock();
        ids.iter().map(|id| inner.roster.drilled_at_ms(id, drill.seq)).collect()
    }

    /// How a record that was committed at `committed_boot_ms` stands now.
    pub fn standing(&self, at: Position, committed_boot_ms: u64) -> Standing {
        let now_ms = self.shared.clock.boot_ms();
        let Outlook { report, bound_at_ms, .. } = self.shared.report(at, committed_boot_ms, now_ms);
        let bound_left_ms = bound_at_ms.saturating_sub(now_ms);
        let missing = report.pending.iter();
        // The bound closes everybody, whatever lease they were granted since.
        let inner = self.shared.lock();
        let left_ms = |id| inner.roster.lease_left_ms(id, now_ms).map(|left| left.min(bound_left_ms));
        let missing = missing.map(|id| (id.clone(), left_ms(id))).collect();
        Standing { report, missing, bound_left_ms }
    }
}
