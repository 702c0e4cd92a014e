//! The words of a decision: legal outcome, access, and why. Law's words, gates' words and policy's words are kept
//! apart, so that a provider's refusal is never shown as the law's.

use crate::domain::id::{DeterminationId, LicenseId};
use crate::domain::policy::PolicyRule;
use crate::domain::word::words;

words! {
    /// What the law says of an access. The first four allow it.
    Legal {
        /// No requirement is in force for this model, or none reaches this access.
        NotControlled = 0, "NOT_CONTROLLED";
        /// No export takes place: no licence required.
        NlrDomestic = 1, "NLR_DOMESTIC";
        /// A determination exempts it. Not a licence.
        Exempt = 2, "EXEMPT";
        /// A licence covers it.
        Licensed = 3, "LICENSED";
        /// A licence is required and there is none.
        LicenseRequired = 4, "LICENSE_REQUIRED";
        /// Not enough is known to say.
        Indeterminate = 5, "INDETERMINATE";
        /// No licence would help.
        Prohibited = 6, "PROHIBITED";
    }
}

impl Legal {
    /// Does the law allow the access?
    pub const fn allows(self) -> bool {
        matches!(self, Self::NotControlled | Self::NlrDomestic | Self::Exempt | Self::Licensed)
    }
}

words! {
    /// Whether the access is permitted.
    Access {
        /// Permitted.
        Permit = 0, "PERMIT";
        /// Denied.
        Deny = 1, "DENY";
    }
}

words! {
    /// Why the law says what it says: one code for each legal row.
    LegalReason {
        /// L-01.
        NoRequirementInForce = 0, "NO_REQUIREMENT_IN_FORCE";
        /// L-02.
        RemoteAccessNotARelease = 1, "REMOTE_ACCESS_NOT_A_RELEASE";
        /// L-20.
        ExemptProviderFnEmployee = 2, "EXEMPT_PROVIDER_FN_EMPLOYEE";
        /// L-24.
        ExemptAnnexAWorkload = 3, "EXEMPT_ANNEX_A_WORKLOAD";
        /// L-21.
        ExemptAnnexAFnEmployee = 4, "EXEMPT_ANNEX_A_FN_EMPLOYEE";
        /// L-21 for a person whose status is not determined.
        ExemptEitherStatus = 5, "EXEMPT_EITHER_STATUS";
        /// L-23.
        ExemptAnnexAEntity = 6, "EXEMPT_ANNEX_A_ENTITY";
        /// L-10 and L-22.
        NotAnExport = 7, "NOT_AN_EXPORT";
        /// L-16.
        StatusUndetermined = 8, "STATUS_UNDETERMINED";
        /// L-40.
        Licensed = 9, "LICENSED";
        /// L-17.
        WorkloadOperatorsUnknown = 10, "WORKLOAD_OPERATORS_UNKNOWN";
        /// L-11.
        DeemedExportLicenseRequired = 11, "DEEMED_EXPORT_LICENSE_REQUIRED";
        /// L-12.
        ExportLicenseRequired = 12, "EXPORT_LICENSE_REQUIRED";
        /// L-13 and L-15.
        ExportDestinationLicenseRequired = 13, "EXPORT_DESTINATION_LICENSE_REQUIRED";
        /// L-14.
        ForeignEntityLicenseRequired = 14, "FOREIGN_ENTITY_LICENSE_REQUIRED";
        /// No row was asked: the model is not known.
        NotJudged = 15, "NOT_JUDGED";
    }
}

words! {
    /// The gates, in the order in which the first failing one decides (domain section 2.5).
    Gate {
        /// State and clock.
        G1 = 1, "G1";
        /// Credential.
        G2 = 2, "G2";
        /// Emergency stop.
        G3 = 3, "G3";
        /// Model.
        G4 = 4, "G4";
        /// Screening.
        G5 = 5, "G5";
        /// Embargo and military-intelligence end use.
        G6 = 6, "G6";
        /// End user behind an intermediary.
        G7 = 7, "G7";
        /// Access form.
        G8 = 8, "G8";
    }
}

words! {
    /// What is wrong with a credential (gate G2).
    CredentialFault {
        /// It is not a certificate of this service, or not in the strict form: the parser says why.
        Invalid = 0, "CREDENTIAL_INVALID";
        /// Its validity has not begun.
        NotYetValid = 1, "CREDENTIAL_NOT_YET_VALID";
        /// Its validity has ended.
        Expired = 2, "CREDENTIAL_EXPIRED";
        /// It is not a certificate for model access.
        WrongKind = 3, "CREDENTIAL_WRONG_KIND";
        /// Its ordinal was never announced: forged, or the store was rolled back.
        NotIssued = 4, "CREDENTIAL_NOT_ISSUED";
        /// Revoked: itself, its subject, its entity or its issuer.
        Revoked = 5, "CREDENTIAL_REVOKED";
        /// On hold until released.
        Held = 6, "CREDENTIAL_HELD";
        /// Its lineage is locked: a copy of it was used.
        LineageLocked = 7, "CREDENTIAL_LINEAGE_LOCKED";
        /// A fact that it states is no longer so, or its subject is not on record.
        Stale = 8, "CREDENTIAL_STALE";
    }
}

words! {
    /// Why access is denied beside law and policy: one code for each way a gate fails.
    Denial {
        /// G1.
        StateUnavailable = 0, "STATE_UNAVAILABLE";
        /// G1.
        ClockUntrusted = 1, "CLOCK_UNTRUSTED";
        /// G1 at a gateway past its lease.
        StaleView = 2, "STALE_VIEW";
        /// G2.
        CredentialInvalid = 3, "CREDENTIAL_INVALID";
        /// G2.
        CredentialNotYetValid = 4, "CREDENTIAL_NOT_YET_VALID";
        /// G2.
        CredentialExpired = 5, "CREDENTIAL_EXPIRED";
        /// G2.
        CredentialWrongKind = 6, "CREDENTIAL_WRONG_KIND";
        /// G2.
        CredentialNotIssued = 7, "CREDENTIAL_NOT_ISSUED";
        /// G2.
        CredentialRevoked = 8, "CREDENTIAL_REVOKED";
        /// G2.
        CredentialHeld = 9, "CREDENTIAL_HELD";
        /// G2.
        CredentialLineageLocked = 10, "CREDENTIAL_LINEAGE_LOCKED";
        /// G2.
        CredentialStale = 11, "CREDENTIAL_STALE";
        /// G3.
        EmergencyStop = 12, "EMERGENCY_STOP";
        /// G4.
        ModelUnknown = 13, "MODEL_UNKNOWN";
        /// G5: a confirmed hit.
        PartyDenied = 14, "PARTY_DENIED";
        /// G5: never screened, or an open hit.
        ScreeningPending = 15, "SCREENING_PENDING";
        /// G5: screened against a list that is too old.
        ScreeningStale = 16, "SCREENING_STALE";
        /// G6.
        Embargo = 17, "EMBARGO";
        /// G6.
        MiEndUser = 18, "MI_END_USER";
        /// G7.
        EndUserUnidentified = 19, "END_USER_UNIDENTIFIED";
        /// G8: weights and internals need a grant that names them.
        AccessForm = 20, "ACCESS_FORM_NOT_GRANTED";
        /// The certificate does not list this model.
        ModelNotListed = 21, "MODEL_NOT_LISTED";
        /// The server must be asked and did not answer.
        ServerNotAsked = 22, "SERVER_DID_NOT_ANSWER";
    }
}

impl Denial {
    /// The legal outcome that this gate puts in place of the row's, with the gate as rule; none when it only denies.
    pub(super) const fn legal(&self) -> Option<(Legal, Gate)> {
        match self {
            Self::StateUnavailable | Self::ClockUntrusted | Self::StaleView => {
                Some((Legal::Indeterminate, Gate::G1))
            }
            Self::CredentialInvalid
            | Self::CredentialNotYetValid
            | Self::CredentialExpired
            | Self::CredentialWrongKind
            | Self::CredentialNotIssued
            | Self::CredentialRevoked
            | Self::CredentialHeld
            | Self::CredentialLineageLocked
            | Self::CredentialStale => Some((Legal::Indeterminate, Gate::G2)),
            Self::ModelUnknown => Some((Legal::Indeterminate, Gate::G4)),
            Self::PartyDenied => Some((Legal::Prohibited, Gate::G5)),
            Self::Embargo | Self::MiEndUser => Some((Legal::Prohibited, Gate::G6)),
            Self::EndUserUnidentified => Some((Legal::Indeterminate, Gate::G7)),
            Self::EmergencyStop
            | Self::ScreeningPending
            | Self::ScreeningStale
            | Self::AccessForm
            | Self::ModelNotListed
            | Self::ServerNotAsked => None,
        }
    }
}

impl From<CredentialFault> for Denial {
    fn from(fault: CredentialFault) -> Self {
        match fault {
            CredentialFault::Invalid => Self::CredentialInvalid,
            CredentialFault::NotYetValid => Self::CredentialNotYetValid,
            CredentialFault::Expired => Self::CredentialExpired,
            CredentialFault::WrongKind => Self::CredentialWrongKind,
            CredentialFault::NotIssued => Self::CredentialNotIssued,
            CredentialFault::Revoked => Self::CredentialRevoked,
            CredentialFault::Held => Self::CredentialHeld,
            CredentialFault::LineageLocked => Self::CredentialLineageLocked,
            CredentialFault::Stale => Self::CredentialStale,
        }
    }
}

/// What produced the legal outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A legal row, by its name (`L-21`).
    Row(&'static str),
    /// A gate.
    Gate(Gate),
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Row(row) => f.pad(row),
            Self::Gate(gate) => f.pad(gate.as_str()),
        }
    }
}

/// A decision. Legal outcome and access are two answers; neither implies the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What the law says.
    pub legal: Legal,
    /// What produced that.
    pub rule: Rule,
    /// The row's reason, also when a gate replaced the outcome.
    pub reason: LegalReason,
    /// The clause that the row cites.
    pub clause: &'static str,
    /// The determination behind it, if one bears on the model.
    pub determination: Option<DeterminationId>,
    /// The licence, when LICENSED.
    pub license: Option<LicenseId>,
    /// Permit or deny.
    pub access: Access,
    /// Every gate that failed, in order.
    pub denials: Vec<Denial>,
    /// The first policy rule that fails, reported also when the law denies.
    pub policy: Option<PolicyRule>,
    /// A gateway cannot judge this by itself.
    pub ask_server: bool,
}

impl Decision {
    /// The code that a caller is told first: a gate's, else the law's when it does not allow, else policy's.
    pub fn code(&self) -> &'static str {
        match (self.denials.first(), self.policy) {
            (Some(denial), _) => denial.as_str(),
            (None, _) if !self.legal.allows() => self.reason.as_str(),
            (None, Some(rule)) => rule.as_str(),
            (None, None) => self.reason.as_str(),
        }
    }

    /// Permitted?
    pub fn is_permit(&self) -> bool {
        self.access == Access::Permit
    }
}
