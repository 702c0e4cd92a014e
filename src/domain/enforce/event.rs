//! The events of the feed: what changes at every gateway. Derived from journal records, one encoding for disk, digest
//! and wire. No event says why: reasons are nobody else's business.

use std::sync::Arc;

use minicbor::{Decode, Encode};

use crate::domain::announcement::Announcement;
use crate::domain::authority::AuthorityCard;
use crate::domain::bundle::Bundle;
use crate::domain::codec::shared;
use crate::domain::id::{
    AnnouncementId, AuthorityId, DeterminationId, Digest, EntityId, LineageId, Ordinal, SubjectId,
};
use crate::domain::revocation::{OrdinalRange, StopScope, SuspensionTarget};
use crate::domain::time::Timestamp;

/// One change of what gateways enforce.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum EnforcementEvent {
    /// A certificate is revoked.
    #[n(0)]
    CertificateRevoked(#[n(0)] Ordinal),
    /// A lineage is locked.
    #[n(1)]
    LineageLocked(#[n(0)] LineageId),
    /// Certificates of these subjects up to an ordinal are revoked.
    #[n(2)]
    SubjectsCut {
        /// Whose.
        #[n(0)]
        subjects: Vec<SubjectId>,
        /// Up to and including.
        #[n(1)]
        cutoff: Ordinal,
    },
    /// Certificates of an entity's people and workloads up to an ordinal are revoked.
    #[n(3)]
    EntityCut {
        /// Whose.
        #[n(0)]
        entity: EntityId,
        /// Up to and including.
        #[n(1)]
        cutoff: Ordinal,
    },
    /// Every certificate of an authority is revoked.
    #[n(4)]
    IssuerRevoked(#[n(0)] AuthorityId),
    /// A stop is engaged.
    #[n(5)]
    Stopped(#[n(0)] StopScope),
    /// A stop is released.
    #[n(6)]
    StopReleased(#[n(0)] StopScope),
    /// Suspended.
    #[n(7)]
    Suspended(#[n(0)] SuspensionTarget),
    /// No longer suspended.
    #[n(8)]
    Unsuspended(#[n(0)] SuspensionTarget),
    /// A certificate is on hold.
    #[n(9)]
    Held(#[n(0)] Ordinal),
    /// A certificate is no longer on hold.
    #[n(10)]
    HoldReleased(#[n(0)] Ordinal),
    /// Ordinals up to this one may appear in certificates.
    #[n(11)]
    CeilingRaised(#[n(0)] Ordinal),
    /// A policy bundle takes the place of the one before.
    #[n(12)]
    PolicyAdopted(
        #[n(0)]
        #[cbor(with = "shared")]
        Arc<Bundle>,
    ),
    /// Certificates that state a determination up to an ordinal are revoked.
    #[n(13)]
    DeterminationCut {
        /// Which.
        #[n(0)]
        determination: DeterminationId,
        /// Only those that state this revision of its annex.
        #[n(1)]
        annex_revision: Option<u32>,
        /// Up to and including.
        #[n(2)]
        cutoff: Ordinal,
    },
    /// Every certificate of a public key is revoked, those that are not issued yet too.
    #[n(14)]
    KeyBlocked(#[n(0)] Digest),
    /// A public key may be certified again; what was issued to it before stays revoked.
    #[n(15)]
    KeyUnblocked {
        /// SHA-256 of the SubjectPublicKeyInfo.
        #[n(0)]
        key: Digest,
        /// Up to and including.
        #[n(1)]
        cutoff: Ordinal,
    },
    /// Every certificate with one of these ordinals is revoked, whether it exists or not.
    #[n(16)]
    RangeRevoked(#[n(0)] OrdinalRange),
    /// An authority is trusted from now on, or stands elsewhere. What acknowledges this verifies its certificates.
    #[n(17)]
    AuthorityListed(
        #[n(0)]
        #[cbor(with = "shared")]
        Arc<AuthorityCard>,
    ),
    /// An authority is not trusted any more, and nothing of it is valid.
    #[n(18)]
    AuthorityDropped(#[n(0)] AuthorityId),
    /// Certificates up to an ordinal are revoked from an instant on. Of one that is held already, the earlier instant counts.
    #[n(21)]
    RevocationAnnounced(
        #[n(0)]
        #[cbor(with = "shared")]
        Arc<Announcement>,
    ),
    /// What was announced is cut later, or not at all.
    #[n(22)]
    RevocationPostponed {
        /// Which announcement.
        #[n(0)]
        announcement: AnnouncementId,
        /// From when on; none: not at all.
        #[n(1)]
        cut_at: Option<Timestamp>,
    },
    /// A stop is practised: it is acknowledged like one, and changes nothing.
    #[n(24)]
    Drilled(#[n(0)] StopScope),
}

impl EnforcementEvent {
    /// Does it only take away?
    pub const fn is_restricting(&self) -> bool {
        match self {
            Self::CertificateRevoked(_)
            | Self::LineageLocked(_)
            | Self::SubjectsCut { .. }
            | Self::EntityCut { .. }
            | Self::IssuerRevoked(_)
            | Self::Stopped(_)
            | Self::Suspended(_)
            | Self::Held(_)
            | Self::DeterminationCut { .. }
            | Self::KeyBlocked(_)
            | Self::RangeRevoked(_)
            | Self::AuthorityDropped(_)
            | Self::RevocationAnnounced(_) => true,
            Self::StopReleased(_)
            | Self::KeyUnblocked { .. }
            | Self::Unsuspended(_)
            | Self::HoldReleased(_)
            | Self::CeilingRaised(_)
            | Self::PolicyAdopted(_)
            | Self::AuthorityListed(_)
            | Self::RevocationPostponed { .. }
            | Self::Drilled(_) => false,
        }
    }
}
