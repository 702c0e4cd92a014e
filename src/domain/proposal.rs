//! Commands that wait for another officer: what they rest on, why one lapses, and what became of those that are closed.

use std::fmt;

use minicbor::{Decode, Encode};

use super::approval::{Basis, SignedMandate};
use super::command::ObjectRef;
use super::id::{PrincipalId, ProposalId, Seq};
use super::time::Timestamp;

/// How many closed proposals are remembered, to be shown to who asks what became of one. Each may carry a mandate of
/// 512 KiB; the record has all of them.
pub const CLOSED_MAX: usize = 32;

/// A command that waits for signatures.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Proposal {
    /// Its name.
    #[n(0)]
    pub id: ProposalId,
    /// What, with the signatures so far.
    #[n(1)]
    pub signed: SignedMandate,
    /// When it was recorded.
    #[n(2)]
    pub made_at: Timestamp,
    /// What the mandate rests on.
    #[n(3)]
    pub basis: Vec<Basis>,
    /// When the mandate was made.
    #[n(4)]
    pub mandated_at: Timestamp,
}

/// Why a proposal can never be carried out.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Lapse {
    /// Something that it rests on changed.
    #[n(0)]
    Changed(#[n(0)] ObjectRef),
    /// It waited for too long.
    #[n(1)]
    TooOld,
    /// Who signed it may no longer sign.
    #[n(2)]
    SignerGone(#[n(0)] PrincipalId),
}

impl fmt::Display for Lapse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed(object) => write!(f, "{object} changed since the mandate was made; make it anew"),
            Self::TooOld => f.write_str("the mandate is older than seven days; make it anew"),
            Self::SignerGone(id) => {
                write!(f, "{id}, who signed it, is no longer an acting officer; another one proposes it anew")
            }
        }
    }
}

/// What became of a proposal.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Outcome {
    /// It was carried out.
    #[n(0)]
    Enacted,
    /// An officer rejected it.
    #[n(1)]
    Rejected {
        /// Why.
        #[n(0)]
        reason: String,
    },
    /// It can never be carried out.
    #[n(2)]
    Lapsed(#[n(0)] Lapse),
    /// It was withdrawn, when that needed no reason.
    #[n(3)]
    Withdrawn,
}

impl Outcome {
    /// Its word, as in the API.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Enacted => "ENACTED",
            Self::Rejected { .. } => "REJECTED",
            Self::Lapsed(_) => "LAPSED",
            Self::Withdrawn => "WITHDRAWN",
        }
    }

    /// The reason, if there is one.
    pub fn why(&self) -> Option<String> {
        match self {
            Self::Rejected { reason } => Some(reason.clone()),
            Self::Lapsed(lapse) => Some(lapse.to_string()),
            Self::Enacted | Self::Withdrawn => None,
        }
    }
}

/// A proposal that waits no more.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ClosedProposal {
    /// The proposal as it waited; when it was carried out, with the last signature.
    #[n(0)]
    pub proposal: Proposal,
    /// What became of it.
    #[n(1)]
    pub outcome: Outcome,
    /// Who closed it; none: the service, because it lapsed.
    #[n(2)]
    pub by: Option<PrincipalId>,
    /// In which record.
    #[n(3)]
    pub seq: Seq,
}
