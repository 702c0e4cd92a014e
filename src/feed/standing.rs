//! How a record stands, with who is missing and for how long at most: for who looks on while somebody else waits.

use super::{Feed, Shared};
use crate::domain::enforce::{BarrierReport, ParticipantId, Position};

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
    /// How a record that was committed at `committed_boot_ms` stands now.
    pub fn standing(&self, at: Position, committed_boot_ms: u64) -> Standing {
        let now_ms = self.shared.clock.boot_ms();
        let (report, bound_at_ms, _) = self.shared.report(at, committed_boot_ms, now_ms);
        let bound_left_ms = bound_at_ms.saturating_sub(now_ms);
        let missing = report.pending.iter();
        let missing =
            missing.map(|id| (id.clone(), self.shared.left_ms(id, now_ms, bound_left_ms))).collect();
        Standing { report, missing, bound_left_ms }
    }
}

impl Shared {
    fn left_ms(&self, id: &ParticipantId, now_ms: u64, bound_left_ms: u64) -> Option<u64> {
        let inner = self.lock();
        let bound_ms = inner.bound_ms();
        let left_ms = match id {
            ParticipantId::Server => return None,
            ParticipantId::Gateway(gateway, boot) => {
                inner.table.lease_left_ms(&(gateway.clone(), *boot), now_ms, bound_ms)
            }
            ParticipantId::EarlierRun => inner.started_ms.saturating_add(bound_ms).saturating_sub(now_ms),
        };
        // The bound closes everybody, whatever lease they were granted since.
        Some(left_ms.min(bound_left_ms))
    }
}
