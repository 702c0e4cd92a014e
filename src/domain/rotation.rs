//! Rotation by itself, under a standing approval of two officers: when the next authority is prepared, when it is
//! activated, and what may be done under the approval.

use minicbor::{Decode, Encode};

use super::authority::NewAuthority;
use super::certificate::AuthorityKind;
use super::id::{AuthorityId, PrincipalId, Seq};
use super::time::Timestamp;

const DAY_MS: i64 = 86_400_000;

/// How long a standing approval may last: two years, so that officers look at it again.
pub const APPROVAL_MAX_MS: i64 = 2 * 366 * DAY_MS;
/// The most rotations under one approval.
pub const ROTATIONS_MAX: u32 = 100;
/// The life of the next authority may be this much longer than that of the one before: what the making takes.
pub const LIFE_SLACK_MS: i64 = 3_600_000;
/// Nothing of an authority is valid any more this long after the last of its certificates ended, whatever the clock.
pub const SPENT_MS: i64 = 3_600_000;

/// When a standing approval lost one of its officers.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SignerLost {
    /// The record that suspended or removed them, or blocked their key.
    #[n(0)]
    pub at: Seq,
    /// The first of those who signed and may not act any more.
    #[n(1)]
    pub officer: PrincipalId,
}

/// A standing approval.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct StandingApproval {
    /// The record with both signatures.
    #[n(0)]
    pub given: Seq,
    /// Nothing is done under it from then on.
    #[n(1)]
    pub until: Timestamp,
    /// How many authorities may still be prepared under it.
    #[n(2)]
    pub left: u32,
    /// The record of a step that failed: everything is done by hand from then on.
    #[n(3)]
    pub failed: Option<Seq>,
    /// The officers who signed it.
    #[n(4)]
    pub signers: Vec<PrincipalId>,
    /// Since one of them may not act it carries nothing, also when they are released: two sign anew.
    #[n(5)]
    pub lapsed: Option<SignerLost>,
}

/// A step that the server takes by itself.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum RotationStep {
    /// Trust an authority that will issue later.
    #[n(0)]
    Prepare(#[n(0)] NewAuthority),
    /// Issue from it; the one that was active retires.
    #[n(1)]
    Activate(#[n(0)] AuthorityId),
    /// Trust one no more of which nothing is valid.
    #[n(2)]
    Retire(#[n(0)] AuthorityId),
}

impl RotationStep {
    /// Its name, as in the log.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Prepare(_) => "PREPARE",
            Self::Activate(_) => "ACTIVATE",
            Self::Retire(_) => "RETIRE",
        }
    }

    /// The authority.
    pub const fn authority(&self) -> AuthorityId {
        match self {
            Self::Prepare(new) => new.id,
            Self::Activate(id) | Self::Retire(id) => *id,
        }
    }
}

/// When the successor of an authority is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// From when on the successor is prepared.
    pub prepare_at: Timestamp,
    /// From when on it is activated.
    pub activate_at: Timestamp,
}

impl Schedule {
    /// Half of its life before the end, and a sixth; but no more than 30 and 7 days. Certificates of the system authority
    /// live 30 days and must not be shortened by its end, so it is 60 and 37 there.
    pub fn of(kind: AuthorityKind, since: Timestamp, not_after: Timestamp) -> Self {
        let (prepare_max, activate_max) = match kind {
            AuthorityKind::Access => (30 * DAY_MS, 7 * DAY_MS),
            AuthorityKind::System => (60 * DAY_MS, 37 * DAY_MS),
        };
        let life_ms = not_after.millis().saturating_sub(since.millis()).max(0);
        Self {
            prepare_at: not_after.plus_ms(-(life_ms / 2).min(prepare_max)),
            activate_at: not_after.plus_ms(-(life_ms / 6).min(activate_max)),
        }
    }
}
