//! Subjects: the employments and workloads that certificates are issued to.

use minicbor::{Decode, Encode};

use super::id::{Digest, EntityId, PersonId, Seq, SubjectId};
use super::person::{Assurance, EvidenceKind, PersonStatus, Relation, SubjectKind};
use super::time::{Day, Timestamp};
use super::word::words;

words! {
    /// Where a subject stands: nominated by its entity, decided by a vetter.
    SubjectStatus {
        /// Nominated, not decided yet.
        Nominated = 0, "NOMINATED";
        /// Approved: certificates may be issued.
        Approved = 1, "APPROVED";
        /// Refused or removed.
        Refused = 2, "REFUSED";
    }
}

/// What a vetter established about a person.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Vetting {
    /// Status under 15 CFR 772.1, derived from the evidence.
    #[n(0)]
    pub status: PersonStatus,
    /// What the status rests on. The evidence itself is never stored.
    #[n(1)]
    pub evidence: EvidenceKind,
    /// When it was verified.
    #[n(2)]
    pub verified_on: Day,
    /// How well the person was identified.
    #[n(3)]
    pub assurance: Assurance,
}

/// A person in one employment.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Employment {
    /// The person, across employments. Never leaves the server.
    #[n(0)]
    pub person: PersonId,
    /// What a vetter established; none until then.
    #[n(1)]
    pub vetting: Option<Vetting>,
    /// Relation, as the entity attests it.
    #[n(2)]
    pub relation: Relation,
    /// When the attestation ends.
    #[n(3)]
    pub relation_until: Option<Timestamp>,
}

/// A machine identity of an entity.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Workload {
    /// The employment that answers for it.
    #[n(0)]
    pub owner: SubjectId,
    /// The employments that operate it, the owner included; empty: not known.
    #[n(1)]
    pub operators: Vec<SubjectId>,
}

/// What a subject is.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum SubjectBody {
    /// A natural person in one employment.
    #[n(0)]
    Human(#[n(0)] Employment),
    /// A machine identity.
    #[n(1)]
    Workload(#[n(0)] Workload),
}

/// A subject as the record holds it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Subject {
    /// Its pairwise name.
    #[n(0)]
    pub id: SubjectId,
    /// The entity that it belongs to.
    #[n(1)]
    pub entity: EntityId,
    /// What it is.
    #[n(2)]
    pub body: SubjectBody,
    /// Where it stands.
    #[n(3)]
    pub status: SubjectStatus,
    /// When the next re-verification is due; certificates never outlive it.
    #[n(4)]
    pub reverify_due: Option<Timestamp>,
    /// The record that last changed it.
    #[n(5)]
    pub revision: Seq,
}

impl Subject {
    /// HUMAN or WORKLOAD.
    pub const fn kind(&self) -> SubjectKind {
        match self.body {
            SubjectBody::Human(_) => SubjectKind::Human,
            SubjectBody::Workload(_) => SubjectKind::Workload,
        }
    }

    /// The employment, when it is a person.
    pub const fn employment(&self) -> Option<&Employment> {
        match &self.body {
            SubjectBody::Human(employment) => Some(employment),
            SubjectBody::Workload(_) => None,
        }
    }
}

impl Subject {
    /// Makes it what a vetter decided.
    pub(super) fn decide(&mut self, decision: &SubjectDecision) {
        match decision {
            SubjectDecision::Approve { vetting, reverify_due } => {
                self.status = SubjectStatus::Approved;
                self.reverify_due = *reverify_due;
                if let (SubjectBody::Human(employment), Some(_)) = (&mut self.body, vetting) {
                    employment.vetting.clone_from(vetting);
                }
            }
            SubjectDecision::Refuse => self.status = SubjectStatus::Refused,
        }
    }

    /// Is this what was decided?
    pub fn is_decided(&self, decision: &SubjectDecision) -> bool {
        match decision {
            SubjectDecision::Approve { vetting, reverify_due } => {
                let held = self.employment().and_then(|employment| employment.vetting.as_ref());
                self.status == SubjectStatus::Approved
                    && self.reverify_due == *reverify_due
                    && (vetting.is_none() || vetting.as_ref() == held)
            }
            SubjectDecision::Refuse => self.status == SubjectStatus::Refused,
        }
    }
}

/// A vetter's decision on a subject.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum SubjectDecision {
    /// Approved; a person with what was established, a workload without.
    #[n(0)]
    Approve {
        /// What was established about a person.
        #[n(0)]
        vetting: Option<Vetting>,
        /// When it must be looked at again.
        #[n(1)]
        reverify_due: Option<Timestamp>,
    },
    /// Refused or removed.
    #[n(1)]
    Refuse,
}

/// Subjects that one signature decides on at most: a mandate of some 80 KiB, of the 512 KiB that one may have.
pub const RULINGS_MAX: usize = 1_000;

/// A decision on one of many.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Ruling {
    /// On whom.
    #[n(0)]
    pub subject: SubjectId,
    /// How.
    #[n(1)]
    pub decision: SubjectDecision,
}

/// The longest reference of an entity for one of its people: a number of staff or an id of its directory.
pub const REFERENCE_LEN_MAX: usize = 64;

/// Is this a reference? Printable ASCII without spaces: one spelling, and none that only looks like another.
pub fn is_reference(text: &str) -> bool {
    (1..=REFERENCE_LEN_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// What the record keeps of the reference by which an entity nominated a person. No certificate and no answer shows it.
pub fn reference_digest(entity: EntityId, reference: &str) -> Digest {
    let mut bytes = b"countersign reference of a subject v1\0".to_vec();
    bytes.extend(entity.to_bytes());
    bytes.extend(reference.as_bytes());
    Digest::of(&bytes)
}
