//! Words of revocation, suspension and stop: what is taken away, from whom, and why.

use std::fmt;

use minicbor::decode::Error as DecodeError;
use minicbor::{Decode, Decoder, Encode};

use super::id::{AuthorityId, DeterminationId, EntityId, LineageId, ModelId, Ordinal, PersonId, SubjectId};
use super::word::words;

words! {
    /// Why something is revoked, suspended or stopped.
    RevocationReason {
        /// The subject's key is no longer the subject's alone.
        KeyCompromise = 0, "KEY_COMPROMISE";
        /// The issuer's key is.
        CaCompromise = 1, "CA_COMPROMISE";
        /// The person left the entity.
        AffiliationEnded = 2, "AFFILIATION_ENDED";
        /// The entity left the annex.
        AnnexRemoved = 3, "ANNEX_REMOVED";
        /// The determination behind it changed.
        DeterminationChanged = 4, "DETERMINATION_CHANGED";
        /// The person's status changed.
        StatusChanged = 5, "STATUS_CHANGED";
        /// The person's status was misstated.
        StatusMisstated = 6, "STATUS_MISSTATED";
        /// The licence ended.
        LicenseEnded = 7, "LICENSE_ENDED";
        /// A screening list names a party.
        ScreeningHit = 8, "SCREENING_HIT";
        /// A safeguard lapsed.
        SafeguardLapsed = 9, "SAFEGUARD_LAPSED";
        /// Misuse.
        Misuse = 10, "MISUSE";
        /// A re-verification is overdue.
        ReverifyOverdue = 11, "REVERIFY_OVERDUE";
        /// Replaced by another certificate.
        Superseded = 12, "SUPERSEDED";
        /// A government ordered it.
        GovernmentOrder = 13, "GOVERNMENT_ORDER";
        /// It should never have been issued.
        IssuedInError = 14, "ISSUED_IN_ERROR";
        /// A drill.
        Drill = 15, "DRILL";
    }
}

/// What a revocation reaches. Each is one record and one event, however many certificates it cuts.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum RevocationScope {
    /// One access certificate.
    #[n(0)]
    Certificate(#[n(0)] Ordinal),
    /// A chain of renewals; it cannot be renewed any more.
    #[n(1)]
    Lineage(#[n(0)] LineageId),
    /// Every certificate issued so far to one employment or workload.
    #[n(2)]
    Subject(#[n(0)] SubjectId),
    /// The same for every employment of one person.
    #[n(3)]
    Person(#[n(0)] PersonId),
    /// Every certificate issued so far to the people and workloads of an entity.
    #[n(4)]
    Entity(#[n(0)] EntityId),
    /// Every certificate of an issuing authority.
    #[n(5)]
    Issuer(#[n(0)] AuthorityId),
    /// Every certificate issued so far that states a determination (attribute .1.5).
    #[n(6)]
    Determination(#[n(0)] DeterminationId),
    /// Those of them that state one revision of its annex (attribute .1.4).
    #[n(7)]
    AnnexRevision(#[n(0)] DeterminationId, #[n(1)] u32),
}

impl RevocationScope {
    /// What it reaches, as one word.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Certificate(_) => "CERTIFICATE",
            Self::Lineage(_) => "LINEAGE",
            Self::Subject(_) => "SUBJECT",
            Self::Person(_) => "PERSON",
            Self::Entity(_) => "ENTITY",
            Self::Issuer(_) => "ISSUER",
            Self::Determination(_) => "DETERMINATION",
            Self::AnnexRevision(..) => "ANNEX_REVISION",
        }
    }
}

impl fmt::Display for RevocationScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(ordinal) => write!(f, "certificate {ordinal}"),
            Self::Lineage(id) => write!(f, "lineage {id}"),
            Self::Subject(id) => write!(f, "subject {id}"),
            Self::Person(id) => write!(f, "person {id}"),
            Self::Entity(id) => write!(f, "entity {id}"),
            Self::Issuer(id) => write!(f, "issuer {id}"),
            Self::Determination(id) => write!(f, "determination {id}"),
            Self::AnnexRevision(id, revision) => write!(f, "annex revision {revision} of {id}"),
        }
    }
}

/// What an emergency stop reaches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum StopScope {
    /// Everything.
    #[n(0)]
    All,
    /// One model and everything that descends from it, whether covered or not.
    #[n(1)]
    Model(#[n(0)] ModelId),
    /// One entity.
    #[n(2)]
    Entity(#[n(0)] EntityId),
    /// One employment or workload.
    #[n(3)]
    Subject(#[n(0)] SubjectId),
    /// Everybody with a certificate of this authority.
    #[n(4)]
    Issuer(#[n(0)] AuthorityId),
}

impl StopScope {
    /// What it reaches, as one word.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::All => "ALL",
            Self::Model(_) => "MODEL",
            Self::Entity(_) => "ENTITY",
            Self::Subject(_) => "SUBJECT",
            Self::Issuer(_) => "ISSUER",
        }
    }
}

impl fmt::Display for StopScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("everything"),
            Self::Model(id) => write!(f, "model {id}"),
            Self::Entity(id) => write!(f, "entity {id}"),
            Self::Subject(id) => write!(f, "subject {id}"),
            Self::Issuer(id) => write!(f, "issuer {id}"),
        }
    }
}

/// What a suspension reaches: reversible, without a cut-off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum SuspensionTarget {
    /// A partner.
    #[n(0)]
    Entity(#[n(0)] EntityId),
    /// An employment or a workload.
    #[n(1)]
    Subject(#[n(0)] SubjectId),
}

impl fmt::Display for SuspensionTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entity(id) => write!(f, "entity {id}"),
            Self::Subject(id) => write!(f, "subject {id}"),
        }
    }
}

/// Ordinals from one to another, both included: at most 2^21, so that whoever is sent one can hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode)]
pub struct OrdinalRange {
    #[n(0)]
    first: Ordinal,
    #[n(1)]
    last: Ordinal,
}

impl OrdinalRange {
    const LEN_MAX: u64 = 1 << 21;

    /// None: the range is empty or too long.
    pub const fn new(first: Ordinal, last: Ordinal) -> Option<Self> {
        match last.0.checked_sub(first.0) {
            Some(distance) if distance < Self::LEN_MAX => Some(Self { first, last }),
            Some(_) | None => None,
        }
    }

    /// The first.
    pub const fn first(self) -> Ordinal {
        self.first
    }

    /// The last.
    pub const fn last(self) -> Ordinal {
        self.last
    }
}

impl<'b, C> Decode<'b, C> for OrdinalRange {
    fn decode(d: &mut Decoder<'b>, context: &mut C) -> Result<Self, DecodeError> {
        let len = d.array()?;
        let (first, last) = (Ordinal::decode(d, context)?, Ordinal::decode(d, context)?);
        let range = if len == Some(2) { Self::new(first, last) } else { None };
        range.ok_or_else(|| DecodeError::message("not a range of ordinals"))
    }
}
