//! Commands about what partners owe: reports under a licence, safeguards with their evidence, and corrections of the record.

use minicbor::{Decode, Encode};

use super::command::{ObjectRef, Signers};
use super::id::{Digest, EntityId, LicenseId, ModelId, Seq};
use super::signers::{LOOSEN, VET};
use super::time::Timestamp;

/// The most items of a checklist: a letter's conditions are a page.
pub const CHECKLIST_MAX: usize = 64;
/// The most corrections of one record: whoever needs more has misunderstood it.
pub const CORRECTIONS_MAX: usize = 8;

/// A safeguard that entities must have.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SafeguardItem {
    /// Its name: 1 to 64 letters, digits and hyphens.
    #[n(0)]
    pub name: String,
    /// What it asks, in words.
    #[n(1)]
    pub asks: String,
    /// The models for which it is asked; empty: for all.
    #[n(2)]
    pub models: Vec<ModelId>,
}

/// That an entity has a safeguard.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SafeguardEvidence {
    /// Which.
    #[n(0)]
    pub item: String,
    /// SHA-256 of what shows it. The evidence itself is kept elsewhere.
    #[n(1)]
    pub document: Digest,
}

/// A command about what partners owe.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum PartnerCommand {
    /// Record that the holder of a licence filed a report that it owed.
    #[n(0)]
    FileReport {
        /// Under which licence.
        #[n(0)]
        license: LicenseId,
        /// Which report.
        #[n(1)]
        report: String,
        /// SHA-256 of what was filed.
        #[n(2)]
        document: Digest,
    },
    /// Say which safeguards are asked of entities from now on.
    #[n(1)]
    SetChecklist(#[n(0)] Vec<SafeguardItem>),
    /// Record that an entity has the safeguards that are asked of it, with the evidence of each.
    #[n(2)]
    AttestSafeguards {
        /// Which.
        #[n(0)]
        entity: EntityId,
        /// The evidence.
        #[n(1)]
        evidence: Vec<SafeguardEvidence>,
        /// Attested until.
        #[n(2)]
        until: Timestamp,
        /// Next re-verification.
        #[n(3)]
        reverify_due: Option<Timestamp>,
    },
    /// Say that a record is wrong, and which later one says it right. Nothing is edited, and no decision reads it.
    #[n(3)]
    Correct {
        /// The record that is wrong.
        #[n(0)]
        wrong: Seq,
        /// The later record that says it right.
        #[n(1)]
        right: Seq,
        /// What was wrong; no personal data.
        #[n(2)]
        reason: String,
    },
}

impl PartnerCommand {
    /// Who must sign it. A report that was owed denies what its licence covers, so to file it loosens.
    pub const fn signers(&self) -> Signers {
        match self {
            Self::FileReport { .. } | Self::SetChecklist(_) => LOOSEN,
            Self::AttestSafeguards { .. } | Self::Correct { .. } => VET,
        }
    }

    /// The objects that it reads or writes.
    pub fn objects(&self) -> Vec<ObjectRef> {
        match self {
            Self::FileReport { license, .. } => vec![ObjectRef::License(license.clone())],
            Self::SetChecklist(_) => vec![ObjectRef::Checklist],
            Self::AttestSafeguards { entity, .. } => vec![ObjectRef::Entity(*entity), ObjectRef::Checklist],
            Self::Correct { wrong, .. } => vec![ObjectRef::Correction(*wrong)],
        }
    }

    /// Its name, as in the API and the log.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::FileReport { .. } => "FILE_REPORT",
            Self::SetChecklist(_) => "SET_CHECKLIST",
            Self::AttestSafeguards { .. } => "ATTEST_SAFEGUARDS",
            Self::Correct { .. } => "CORRECT",
        }
    }
}
