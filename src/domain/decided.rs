//! A decision, as the record keeps it: what was asked, what was answered, and what is needed to judge it again. Nobody is named
//! but by an opaque id, and of a place the country only.

use minicbor::{Decode, Encode};

use super::decision::{Decision, Denial, LOGIC_VERSION, Legal, LegalReason};
use super::enforce::report::DecisionReport;
use super::enforce::{Position, Request};
use super::id::{
    DecisionId, DeterminationId, Digest, EntityId, LicenseId, Ordinal, PrincipalId, PurposeId, SubjectId,
};
use super::model::{AccessForm, MODEL_NAME_LEN_MAX};
use super::policy::{Place, PolicyRule};
use super::time::Timestamp;
use super::word::words;

/// The most decisions that are not on disk yet, and so the most that a kill can lose: a second's at the highest rate that one
/// machine decides, in some 30 MB.
pub const UNWRITTEN_MAX: usize = 65_536;
/// The code of a certificate that was verified and is good.
pub const VALID: &str = "VALID";

words! {
    /// Who decided, and by which way it was asked.
    DecidedBy {
        /// The server, by Evaluate.
        Evaluate = 0, "EVALUATE";
        /// The server, by Verify: of a certificate, whatever it would be used for.
        Verify = 1, "VERIFY";
        /// The server, by Envoy's Check.
        Check = 2, "CHECK";
        /// A gateway, as it reported.
        Gateway = 3, "GATEWAY";
    }
}

/// What the server found, in the words of a decision.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Judged {
    /// The legal outcome.
    #[n(0)]
    pub legal: Legal,
    /// The row or gate that gave it.
    #[n(1)]
    pub rule: String,
    /// The row's reason.
    #[n(2)]
    pub reason: LegalReason,
    /// The clause that the row cites.
    #[n(3)]
    pub clause: String,
    /// The determination that bears on it.
    #[n(4)]
    pub determination: Option<DeterminationId>,
    /// The licence that covers it.
    #[n(5)]
    pub license: Option<LicenseId>,
    /// The gates that failed, in order.
    #[n(6)]
    pub denials: Vec<Denial>,
    /// The first policy rule that fails.
    #[n(7)]
    pub policy: Option<PolicyRule>,
}

impl From<&Decision> for Judged {
    fn from(decision: &Decision) -> Self {
        Self {
            legal: decision.legal,
            rule: decision.rule.to_string(),
            reason: decision.reason,
            clause: decision.clause.to_owned(),
            determination: decision.determination.clone(),
            license: decision.license.clone(),
            denials: decision.denials.clone(),
            policy: decision.policy,
        }
    }
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Question {
    /// The model, as it was asked for; cut to the longest name that there can be.
    #[n(0)]
    pub model: String,
    /// How it is reached.
    #[n(1)]
    pub form: AccessForm,
    /// In which country the subject was.
    #[n(2)]
    pub place: Place,
    /// Where the model is served from; none: a gateway did not say.
    #[n(3)]
    pub serving: Option<Place>,
    /// What for.
    #[n(4)]
    pub purpose: Option<PurposeId>,
    /// Through whom.
    #[n(5)]
    pub chain: Vec<EntityId>,
    /// The end user is the subject of the certificate.
    #[n(6)]
    pub end_user_identified: bool,
}

impl From<&Request<'_>> for Question {
    fn from(request: &Request<'_>) -> Self {
        Self {
            // Longer ones are no model's: cut, they are judged the same.
            model: request.model.chars().take(MODEL_NAME_LEN_MAX + 1).collect(),
            form: request.form,
            place: request.place,
            serving: Some(request.serving),
            purpose: request.purpose.clone(),
            chain: request.chain.hops.clone(),
            end_user_identified: request.chain.end_user_identified,
        }
    }
}

/// One decision, or several of a gateway with one code that it had no room to tell apart.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Decided {
    /// Its name, which its answer carried.
    #[n(0)]
    pub id: DecisionId,
    /// When.
    #[n(1)]
    pub at: Timestamp,
    /// Who decided.
    #[n(2)]
    pub by: DecidedBy,
    /// Who asked; of a gateway's own decision, the gateway.
    #[n(3)]
    pub gateway: Option<PrincipalId>,
    /// SHA-256 of the certificate that was shown; none: a gateway did not say.
    #[n(4)]
    pub certificate: Option<Digest>,
    /// Its number, if it is one of this service.
    #[n(5)]
    pub ordinal: Option<Ordinal>,
    /// Whose it is.
    #[n(6)]
    pub entity: Option<EntityId>,
    /// Of which person or workload.
    #[n(7)]
    pub subject: Option<SubjectId>,
    /// What was asked; none: of a certificate only.
    #[n(8)]
    pub question: Option<Question>,
    /// The state that was judged.
    #[n(9)]
    pub as_of: Position,
    /// The version of the rules; none: a gateway did not say.
    #[n(10)]
    pub logic: Option<u32>,
    /// The policy that was judged by.
    #[n(11)]
    pub bundle: Option<Digest>,
    /// Permitted; of a certificate, good.
    #[n(12)]
    pub is_permit: bool,
    /// The code that was answered.
    #[n(13)]
    pub code: String,
    /// What the server found.
    #[n(14)]
    pub judged: Option<Judged>,
    /// Until when a permit could be used.
    #[n(15)]
    pub good_until: Option<Timestamp>,
    /// How many.
    #[n(16)]
    pub count: u64,
}

impl Decided {
    /// A decision that a gateway reported.
    pub fn reported(id: DecisionId, gateway: PrincipalId, report: &DecisionReport) -> Self {
        Self {
            id,
            at: report.at,
            by: DecidedBy::Gateway,
            gateway: Some(gateway),
            certificate: None,
            ordinal: report.ordinal,
            entity: report.entity,
            subject: report.subject,
            question: Some(Question {
                model: report.model.clone(),
                form: report.form,
                place: report.place,
                serving: report.asked.as_ref().map(|asked| asked.serving),
                purpose: report.asked.as_ref().and_then(|asked| asked.purpose.clone()),
                chain: report.asked.as_ref().map(|asked| asked.chain.clone()).unwrap_or_default(),
                end_user_identified: report.asked.as_ref().is_some_and(|asked| asked.end_user_identified),
            }),
            as_of: report.as_of,
            logic: report.asked.as_ref().map(|asked| asked.logic),
            bundle: None,
            is_permit: report.is_permit,
            code: report.code.clone(),
            judged: None,
            good_until: None,
            count: report.count.into(),
        }
    }

    /// Denials that were answered because there was no room to record them: one line for all.
    pub fn unrecorded(id: DecisionId, at: Timestamp, count: u64) -> Self {
        Self {
            id,
            at,
            by: DecidedBy::Evaluate,
            gateway: None,
            certificate: None,
            ordinal: None,
            entity: None,
            subject: None,
            question: None,
            as_of: Position::default(),
            logic: Some(LOGIC_VERSION),
            bundle: None,
            is_permit: false,
            code: Denial::StateUnavailable.as_str().to_owned(),
            judged: None,
            good_until: None,
            count,
        }
    }
}

/// What is written at once.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DecidedBatch {
    /// Dense within a segment, from 0 on: one that was taken out shows.
    #[n(0)]
    pub number: u64,
    /// The decisions.
    #[n(1)]
    pub lines: Vec<Decided>,
}

/// A segment of decisions that is complete. The journal keeps this, so that none can be altered or taken out afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SealedDecisions {
    /// The number of its file: 1, 2, 3...
    #[n(0)]
    pub number: u64,
    /// When it was begun.
    #[n(1)]
    pub begun: Timestamp,
    /// Its length in bytes.
    #[n(2)]
    pub len: u64,
    /// Its batches.
    #[n(3)]
    pub batches: u64,
    /// SHA-256 of each 64 KiB.
    #[n(4)]
    pub parts: Vec<Digest>,
}

/// Segments of decisions that are removed, because they need not be kept any more.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RemovedDecisions {
    /// The number of the first.
    #[n(0)]
    pub first: u64,
    /// And of the last.
    #[n(1)]
    pub last: u64,
    /// When the first was begun.
    #[n(2)]
    pub since: Timestamp,
    /// When the last was complete.
    #[n(3)]
    pub until: Timestamp,
    /// How long they are together.
    #[n(4)]
    pub len: u64,
    /// There was no room for them as long as they should have been kept.
    #[n(5)]
    pub is_early: bool,
}

/// How many decisions are kept: what is older, or more, may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// For so long.
    pub age_ms: i64,
    /// So many bytes; none: as many as there are.
    pub len: Option<u64>,
}
