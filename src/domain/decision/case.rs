//! The normalised inputs of a decision (domain section 2.2). Everything here came from the record or a verified
//! certificate, except model, form, place, purpose and chain, which the caller supplies.

use super::outcome::CredentialFault;
use crate::domain::entity::{EntityClass, Organisation};
use crate::domain::grant::Grant;
use crate::domain::id::{LicenseId, ModelId, PurposeId};
use crate::domain::model::AccessForm;
use crate::domain::person::{Assurance, PersonStatus, Relation};
use crate::domain::policy::{Country, Place};

/// Why the state cannot be judged on (gate G1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateFault {
    /// The store cannot be read or written, or its revision is too old.
    Unavailable,
    /// The clock is not trusted.
    ClockUntrusted,
    /// A gateway whose lease has run out.
    StaleView,
}

/// A person who operates a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operator {
    /// The operator's status.
    pub status: PersonStatus,
    /// The operator's relation to the entity of the workload.
    pub relation: Relation,
    /// Approved, not suspended, re-verified in time, with an attestation that still holds.
    pub in_good_standing: bool,
}

impl Operator {
    /// May this operator be one of an exempt workload's? Status must be known: a machine has no second factor.
    pub fn is_eligible(&self) -> bool {
        self.in_good_standing
            && self.relation == Relation::Employee
            && self.status != PersonStatus::Undetermined
    }
}

/// What is known about the people who operate a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operators<'a> {
    /// Every one is an eligible employee of the entity, but no row can be asked of each: decision vectors.
    Eligible,
    /// Not known: the worst is assumed.
    Unknown,
    /// These, eligible or not.
    Listed(&'a [Operator]),
    /// A gateway: every one was eligible at issuance and a cut-off says when that ends, but who they are only the
    /// server knows.
    EligibleByIssuance,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who<'a> {
    /// A natural person.
    Human {
        /// Status.
        status: PersonStatus,
        /// Relation to the entity.
        relation: Relation,
        /// Identity assurance, when known.
        assurance: Option<Assurance>,
    },
    /// A machine identity.
    Workload(Operators<'a>),
}

/// Where the parties of the request stand with the screening lists (gate G5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ScreeningState {
    /// Screened against a fresh list, no open hit.
    Clear,
    /// Screened against a list that is too old.
    Stale,
    /// Never screened, or a hit that nobody has resolved.
    Pending,
    /// A confirmed hit.
    Denied,
}

/// The intermediaries between the subject and the model (gate G7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainFacts {
    /// None.
    Direct,
    /// At least one, and the end user is identified.
    Identified,
    /// At least one, and the end user is not identified.
    Unidentified,
}

/// Where entity and subject stand with the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The entity is active and the subject is on its roster.
    pub provisioned: bool,
    /// The entity, the person or the workload is suspended.
    pub suspended: bool,
    /// A re-verification is overdue.
    pub reverify_overdue: bool,
    /// A safeguard attestation has lapsed.
    pub safeguard_lapsed: bool,
    /// The quota of the grant is used up.
    pub quota_exhausted: bool,
}

/// A case to judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case<'a> {
    /// Why the state cannot be judged on, if it cannot.
    pub state: Option<StateFault>,
    /// What is wrong with the credential, if anything.
    pub credential: Option<CredentialFault>,
    /// An emergency stop reaches this access.
    pub stopped: bool,
    /// The model and what it descends from; none: the name resolves to nothing.
    pub family: Option<&'a [ModelId]>,
    /// The certificate does not list the model: an upper bound where a grant is needed.
    pub model_not_listed: bool,
    /// How the model is reached.
    pub form: AccessForm,
    /// Who asks.
    pub who: Who<'a>,
    /// Class of the entity for this model's regime.
    pub class: EntityClass,
    /// Under whose law the entity is organised.
    pub org: Organisation,
    /// Where the subject is.
    pub place: Place,
    /// Where the model is served from.
    pub serving: Place,
    /// Country of the entity's seat.
    pub seat: Option<Country>,
    /// An open military-intelligence red flag.
    pub mi_flag: bool,
    /// A licence that covers the request.
    pub license: Option<&'a LicenseId>,
    /// The active grant of the entity for this model.
    pub grant: Option<&'a Grant>,
    /// Standing with the operator.
    pub standing: Standing,
    /// Screening of every party.
    pub screening: ScreeningState,
    /// Intermediaries.
    pub chain: ChainFacts,
    /// The declared purpose.
    pub purpose: Option<&'a PurposeId>,
}

impl Case<'_> {
    /// Place US, entity organised in the US, served from the US. With a US_PERSON, domestic (domain section 2.6).
    pub fn is_within_us(&self) -> bool {
        self.place.is_us() && self.serving.is_us() && self.org == Organisation::Us
    }
}
