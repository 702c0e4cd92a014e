//! Objects that commands read or write: a mandate names the revision of each, so that it is good only while none has changed.

use std::fmt;

use minicbor::{Decode, Encode};

use super::certificate::AuthorityKind;
use super::id::{
    AnnouncementId, DeterminationId, Digest, EntityId, LicenseId, Ordinal, PrincipalId, RecordHoldId, RootId,
    Seq, SubjectId,
};
use super::revocation::{StopScope, SuspensionTarget};

/// An object that commands read or write; each has a revision, the record that last changed it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum ObjectRef {
    /// A principal.
    #[n(0)]
    Principal(#[n(0)] PrincipalId),
    /// An entity.
    #[n(1)]
    Entity(#[n(0)] EntityId),
    /// A subject.
    #[n(2)]
    Subject(#[n(0)] SubjectId),
    /// The annex of a determination.
    #[n(3)]
    Annex(#[n(0)] DeterminationId),
    /// A licence.
    #[n(4)]
    License(#[n(0)] LicenseId),
    /// The policy bundle.
    #[n(5)]
    Policy,
    /// A stop.
    #[n(6)]
    Stop(#[n(0)] StopScope),
    /// A suspension.
    #[n(7)]
    Suspension(#[n(0)] SuspensionTarget),
    /// A hold on a certificate.
    #[n(8)]
    Hold(#[n(0)] Ordinal),
    /// The server's clock.
    #[n(9)]
    Clock,
    /// A block of a public key.
    #[n(10)]
    Key(#[n(0)] Digest),
    /// A restore from a backup.
    #[n(11)]
    Restore,
    /// The list of authorities: a step of a rotation reads all of it.
    #[n(12)]
    Authorities,
    /// The standing approval of rotations of a kind.
    #[n(15)]
    Rotation(#[n(0)] AuthorityKind),
    /// An announced revocation.
    #[n(16)]
    Announcement(#[n(0)] AnnouncementId),
    /// The list of roots and their cross-certificates.
    #[n(13)]
    Roots,
    /// The revocation list of a root.
    #[n(14)]
    RootList(#[n(0)] RootId),
    /// The drills of a stop: one that is signed is carried out once.
    #[n(20)]
    Drills,
    /// The review of an emergency.
    #[n(17)]
    Review(#[n(0)] Seq),
    /// The newest screening list.
    #[n(30)]
    ScreeningList,
    /// The checklist of safeguards.
    #[n(34)]
    Checklist,
    /// The corrections of a record.
    #[n(35)]
    Correction(#[n(0)] Seq),
    /// The matches of an entity with the screening list.
    #[n(31)]
    Screening(#[n(0)] EntityId),
    /// An order to keep records.
    #[n(40)]
    RecordHold(#[n(0)] RecordHoldId),
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Principal(id) => write!(f, "principal {id}"),
            Self::Entity(id) => write!(f, "entity {id}"),
            Self::Subject(id) => write!(f, "subject {id}"),
            Self::Annex(id) => write!(f, "annex of {id}"),
            Self::License(id) => write!(f, "licence {id}"),
            Self::Policy => f.write_str("policy"),
            Self::Stop(scope) => write!(f, "stop of {scope}"),
            Self::Suspension(target) => write!(f, "suspension of {target}"),
            Self::Hold(ordinal) => write!(f, "hold on certificate {ordinal}"),
            Self::Clock => f.write_str("clock"),
            Self::Restore => f.write_str("restore"),
            Self::Key(key) => write!(f, "block of key {key}"),
            Self::Authorities => f.write_str("list of authorities"),
            Self::Rotation(kind) => write!(f, "standing approval of {kind} rotations"),
            Self::Announcement(id) => write!(f, "announcement {id}"),
            Self::Roots => f.write_str("list of roots"),
            Self::RootList(root) => write!(f, "revocation list of {root}"),
            Self::Drills => f.write_str("drills"),
            Self::ScreeningList => f.write_str("screening list"),
            Self::Screening(id) => write!(f, "screening of {id}"),
            Self::Checklist => f.write_str("checklist of safeguards"),
            Self::Correction(seq) => write!(f, "corrections of record {seq}"),
            Self::RecordHold(id) => write!(f, "hold {id} on records"),
            Self::Review(seq) => write!(f, "review of record {seq}"),
        }
    }
}
