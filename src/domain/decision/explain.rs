//! A decision in words, fit to show the caller: it says nothing about anybody else.

use super::outcome::{Decision, Denial, Legal};
use crate::domain::policy::PolicyRule;

impl Decision {
    /// One sentence for the caller. A provider's refusal is never shown as the law's.
    pub fn explain(&self) -> String {
        if self.is_permit() {
            return format!("permitted: {} ({}, {})", self.legal, self.rule, self.reason);
        }
        if let Some(denial) = self.denials.first() {
            return format!("denied: {}", denial.explain());
        }
        match self.policy {
            Some(rule) if self.legal.allows() => {
                format!("denied by provider policy, not by law: {}", rule.explain())
            }
            Some(_) | None => format!("denied: {} ({}, {})", self.legal.explain(), self.reason, self.clause),
        }
    }
}

impl Legal {
    /// The outcome in words.
    pub const fn explain(self) -> &'static str {
        match self {
            Self::NotControlled => "no requirement is in force for this access",
            Self::NlrDomestic => "no export takes place, so no licence is required",
            Self::Exempt => "a determination exempts this access",
            Self::Licensed => "a licence covers this access",
            Self::LicenseRequired => "a licence is required for this access and none covers it",
            Self::Indeterminate => "not enough is known to allow this access",
            Self::Prohibited => "this access is prohibited",
        }
    }
}

impl Denial {
    /// The refusal in words.
    pub const fn explain(self) -> &'static str {
        match self {
            Self::StateUnavailable => "the service cannot record or read its state",
            Self::ClockUntrusted => "the clock is not trusted",
            Self::StaleView => "the gateway's lease has run out and it cannot know what was revoked since",
            Self::CredentialInvalid => "the certificate is not one that this service issued",
            Self::CredentialNotYetValid => "the certificate is not valid yet",
            Self::CredentialExpired => "the certificate has expired",
            Self::CredentialWrongKind => "the certificate is not one for model access",
            Self::CredentialNotIssued => "the certificate has a number that was never announced",
            Self::CredentialRevoked => "the certificate is revoked",
            Self::CredentialHeld => "the certificate is on hold",
            Self::CredentialLineageLocked => "a copy of this certificate was used; enroll again",
            Self::CredentialStale => "a fact in the certificate is no longer so; renew it",
            Self::EmergencyStop => "access is stopped",
            Self::ModelUnknown => "no model has this name",
            Self::PartyDenied => "a party is on a screening list",
            Self::ScreeningPending => "screening of a party is not resolved",
            Self::ScreeningStale => "the screening list is too old",
            Self::Embargo => "the place or the seat of the entity is embargoed",
            Self::MiEndUser => "a military-intelligence flag is open",
            Self::EndUserUnidentified => "the end user behind an intermediary is not identified",
            Self::AccessForm => "no grant names this form of access",
            Self::ModelNotListed => "the certificate does not list this model",
            Self::ServerNotAsked => "only the server can decide this and it did not answer",
        }
    }
}

impl PolicyRule {
    /// The rule in words.
    pub const fn explain(self) -> &'static str {
        match self {
            Self::SuspendAll => "the provider has suspended all access to this model",
            Self::NoGrant => "the entity has no active grant for this model",
            Self::NotProvisioned => "the entity or the subject is not provisioned yet",
            Self::Suspended => "the provider has suspended the entity or the subject",
            Self::AccessForm => "the grant does not name this form of access",
            Self::StatusUnverified => "the person's status is not verified",
            Self::NotEmployee => "the person is not an attested employee",
            Self::PlaceNotAllowed => "the grant does not list this country",
            Self::AssuranceTooLow => "identity assurance is too low",
            Self::ReverifyOverdue => "a re-verification is overdue",
            Self::Purpose => "the purpose is not one that the grant allows",
            Self::SafeguardLapsed => "a safeguard attestation has lapsed",
            Self::Quota => "the quota of the grant is used up",
        }
    }
}
