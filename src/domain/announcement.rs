//! Announced revocations: "renew now, cut at T". Until T nothing is denied, so that whoever holds a certificate in scope can
//! renew it; from T on every certificate in scope that was issued up to the announcement is revoked.
//!
//! An announcement is data with an instant, like a policy: whoever holds it denies from that instant on, whether or not the
//! service is up then. No gateway needs a record at T.

use minicbor::{Decode, Encode};

use super::certificate::TTL_MAX_S;
use super::enforce::Names;
use super::id::{AnnouncementId, AuthorityId, DeterminationId, EntityId, LineageId, Ordinal, Seq, SubjectId};
use super::revocation::{RevocationReason, RevocationScope};
use super::time::{Now, Timestamp};

/// The most that gateways hold at once: every decision looks at each, and officers announce a few a year.
pub const ANNOUNCED_MAX: usize = 64;
/// The most employments of one person that an announcement names: it is one message of the feed.
pub const ANNOUNCED_SUBJECTS_MAX: usize = 1_000;
/// How far ahead a cut may lie: no access certificate lives longer, so later there would be nothing to cut.
pub const CUT_AHEAD_MAX_MS: i64 = 1_000 * TTL_MAX_S as i64;
/// How long before T lists name what will be cut, and from when on nothing can be postponed any more: consumers of lists have
/// wall clocks that are a second off and count whole seconds, and a list must live for a second.
pub const LISTED_AHEAD_MS: i64 = 3_000;
/// How long after the announcement it is held: a certificate's longest life, and a day for clocks.
const HELD_MS: i64 = CUT_AHEAD_MAX_MS + 86_400_000;

/// What is cut, as gateways know certificates by.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Cut {
    /// One certificate.
    #[n(0)]
    Certificate(#[n(0)] Ordinal),
    /// A chain of renewals, up to now: it goes on.
    #[n(1)]
    Lineage(#[n(0)] LineageId),
    /// These employments or workloads.
    #[n(2)]
    Subjects(#[n(0)] Vec<SubjectId>),
    /// The people and workloads of an entity.
    #[n(3)]
    Entity(#[n(0)] EntityId),
    /// What an authority issued.
    #[n(4)]
    Issuer(#[n(0)] AuthorityId),
    /// What states a determination, or one revision of its annex.
    #[n(5)]
    Determination(#[n(0)] DeterminationId, #[n(1)] Option<u32>),
}

/// An announced revocation, as every gateway holds it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Announcement {
    /// Its name.
    #[n(0)]
    pub id: AnnouncementId,
    /// What is cut.
    #[n(1)]
    pub cut: Cut,
    /// Only certificates up to this ordinal: what was issued before the announcement.
    #[n(2)]
    pub cutoff: Ordinal,
    /// When it was announced.
    #[n(3)]
    pub announced_at: Timestamp,
    /// From when on they are revoked.
    #[n(4)]
    pub cut_at: Timestamp,
}

impl Announcement {
    /// Is this certificate to be renewed, or cut already?
    pub fn reaches(&self, names: &Names<'_>) -> bool {
        let is_named = match &self.cut {
            Cut::Certificate(ordinal) => names.ordinal == *ordinal,
            Cut::Lineage(lineage) => names.lineage == *lineage,
            Cut::Subjects(subjects) => subjects.contains(&names.subject),
            Cut::Entity(entity) => names.entity == *entity,
            Cut::Issuer(issuer) => names.issuer == *issuer,
            Cut::Determination(determination, revision) => {
                names.determination == Some(determination)
                    && (revision.is_none() || names.annex_revision == *revision)
            }
        };
        is_named && names.ordinal <= self.cutoff
    }

    /// Has its instant come?
    pub fn is_cut(&self, now: Now) -> bool {
        now.narrowed_since(self.cut_at)
    }

    /// Has everything expired that it can reach?
    pub fn is_spent(&self, at: Timestamp) -> bool {
        self.announced_at.plus_ms(HELD_MS) < at
    }
}

/// An announcement as the record holds it; its name is never used again.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AnnouncementRow {
    /// What officers announced.
    #[n(0)]
    pub scope: RevocationScope,
    /// Why.
    #[n(1)]
    pub reason: RevocationReason,
    /// The record.
    #[n(2)]
    pub announced: Seq,
    /// What gateways were told last.
    #[n(3)]
    pub told: Announcement,
    /// The record that withdrew it.
    #[n(4)]
    pub withdrawn: Option<Seq>,
    /// The record that notes that its instant passed.
    #[n(5)]
    pub passed: Option<Seq>,
}
