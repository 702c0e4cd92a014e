//! A restore: the record goes on from a backup, in a new epoch. What was recorded after the backup is lost, so whatever
//! could have been issued then is revoked, whatever could have been signed then is void, and nothing is permitted until
//! two officers have seen what may be missing (design section 4, restore).

use minicbor::{Decode, Encode};

use super::enforce::Position;
use super::id::{Digest, PrincipalId, Seq};
use super::revocation::OrdinalRange;
use super::time::Timestamp;

/// Ordinals that a restore passes over: more than were issued since any backup worth the name, and they never run out.
pub const ORDINALS_SKIPPED: u64 = 1 << 20;
/// The most reports that are named; further ones still count.
pub const REPORTS_MAX: usize = 1_000;

/// The last restore of a record.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Restore {
    /// The last record of the backup.
    #[n(0)]
    pub from: Position,
    /// The record of the restore.
    #[n(1)]
    pub seq: Seq,
    /// When. No loosening that was prepared before is carried out any more.
    #[n(2)]
    pub at: Timestamp,
    /// Access certificates that may have been issued after the backup: revoked.
    #[n(3)]
    pub gap: OrdinalRange,
    /// What gateways reported that they hold and the backup does not.
    #[n(4)]
    pub reports: Vec<RestoreReport>,
    /// The record with which officers acknowledged it; none: nothing is permitted yet.
    #[n(5)]
    pub acknowledged: Option<Seq>,
}

impl Restore {
    /// Does it wait for officers?
    pub const fn is_pending(&self) -> bool {
        self.acknowledged.is_none()
    }

    /// How many records are known to be lost: the last one that a reporting gateway had applied, beyond the backup.
    pub fn records_lost(&self) -> u64 {
        let last = self.reports.iter().map(|report| report.upto.seq.0).max();
        last.map_or(0, |last| last.saturating_sub(self.from.seq.0))
    }

    /// Has a gateway reported all that one up to this record can hold?
    pub fn covers(&self, held: Position) -> bool {
        held.epoch != self.from.epoch
            || held.seq <= self.from.seq
            || self.reports.iter().any(|report| report.upto >= held)
    }
}

/// What one gateway reported.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RestoreReport {
    /// Which.
    #[n(0)]
    pub gateway: PrincipalId,
    /// Up to which record it had applied the lost part.
    #[n(1)]
    pub upto: Position,
    /// When it said so.
    #[n(2)]
    pub at: Timestamp,
    /// Restrictions that were new.
    #[n(3)]
    pub restrictions: u64,
    /// Keys that it says were blocked and that are not: without them nobody could acknowledge the restore, or undo the block.
    #[n(4)]
    pub spared: Option<Vec<Digest>>,
}
