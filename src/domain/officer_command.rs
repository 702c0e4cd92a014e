//! Commands about the officers themselves and the other principals: suspended by one, released by two; and what an
//! officer without the role does in an emergency, which another one looks at afterwards.

use minicbor::{Decode, Encode};

use super::command::{Command, ObjectRef, Signers};
use super::id::{AuthorityId, Digest, EntityId, GrantId, Ordinal, PrincipalId, Seq};
use super::principal::Role;
use super::record_command::RecordCommand;
use super::revocation::{RevocationReason, RevocationScope, StopScope, SuspensionTarget};
use super::signers::RESTRICT;

/// A command about principals, or of one who lacks the role.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum OfficerCommand {
    /// Suspend an officer, a gateway or a partner's administrator: it may call and sign nothing, and what it signed
    /// before no longer counts.
    #[n(0)]
    Suspend {
        /// Whom.
        #[n(0)]
        principal: PrincipalId,
        /// Why.
        #[n(1)]
        reason: RevocationReason,
    },
    /// End the suspension of a principal.
    #[n(1)]
    Release(#[n(0)] PrincipalId),
    /// Restrict without the role for it. It opens a review, which another officer closes.
    #[n(2)]
    BreakGlass {
        /// What.
        #[n(0)]
        what: Emergency,
        /// Why it could not wait; no personal data.
        #[n(1)]
        reason: String,
    },
    /// Close the review of such an emergency.
    #[n(3)]
    CloseReview {
        /// The record of the emergency.
        #[n(0)]
        review: Seq,
        /// What was found; no personal data.
        #[n(1)]
        finding: String,
    },
}

/// What any officer may do in an emergency: it only takes away, at once, and two officers can give it anew. A type of its own, so
/// that nothing else can be said.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Emergency {
    /// Revoke.
    #[n(0)]
    Revoke(#[n(0)] RevocationScope, #[n(1)] RevocationReason),
    /// Stop.
    #[n(1)]
    Stop(#[n(0)] StopScope, #[n(1)] RevocationReason),
    /// Suspend a partner, a person or a workload.
    #[n(2)]
    Suspend(#[n(0)] SuspensionTarget, #[n(1)] RevocationReason),
    /// Put a certificate on hold.
    #[n(3)]
    Hold(#[n(0)] Ordinal, #[n(1)] RevocationReason),
    /// Block a public key.
    #[n(4)]
    BlockKey(#[n(0)] Digest, #[n(1)] RevocationReason),
    /// Taint an authority.
    #[n(5)]
    Taint(#[n(0)] AuthorityId, #[n(1)] RevocationReason),
    /// Suspend a principal.
    #[n(6)]
    SuspendPrincipal(#[n(0)] PrincipalId, #[n(1)] RevocationReason),
    /// End a grant: one model of one partner, which nothing else here cuts as narrowly.
    #[n(7)]
    EndGrant(#[n(0)] EntityId, #[n(1)] GrantId),
}

impl Emergency {
    /// The emergency form of a command, if it has one.
    pub fn of(command: &Command) -> Option<Self> {
        Some(match command {
            Command::Revoke { scope, reason } => Self::Revoke(scope.clone(), *reason),
            Command::Stop { scope, reason } => Self::Stop(scope.clone(), *reason),
            Command::Suspend { target, reason } => Self::Suspend(*target, *reason),
            Command::Hold { ordinal, reason } => Self::Hold(*ordinal, *reason),
            Command::BlockKey { key, reason } => Self::BlockKey(*key, *reason),
            Command::TaintAuthority { authority, reason } => Self::Taint(*authority, *reason),
            Command::Officers(OfficerCommand::Suspend { principal, reason }) => {
                Self::SuspendPrincipal(principal.clone(), *reason)
            }
            Command::EndGrant { entity, grant } => Self::EndGrant(*entity, *grant),
            _ => return None,
        })
    }

    /// What an officer without the role does at once instead of a restriction that has no emergency form, because it is for
    /// good or takes away nothing yet. None: it has one, or is no restriction.
    pub const fn instead_of(command: &Command) -> Option<&'static str> {
        match command {
            Command::RemoveEntity { .. } => {
                Some("suspend the partner: it is as shut out, and two can release it")
            }
            Command::AmendAnnex { add, .. } if add.is_empty() => {
                Some("suspend the partners that are to be removed")
            }
            Command::RejectEntity(_) => Some("nothing is needed: an applicant may use nothing"),
            Command::AnnounceRevocation { .. } => Some(
                "it cuts nothing yet: revoke what is misused, or taint the authority, which has everybody renew",
            ),
            Command::HastenRevocation { .. } => Some("revoke what was announced: that is at once"),
            Command::WithdrawRotation(_) => Some("taint the authority that must not issue"),
            Command::Impose(_) => Some("stop the models that it would restrict"),
            Command::Records(RecordCommand::Hold { .. }) => {
                Some("nothing is needed: nobody loses what is kept")
            }
            Command::RenewRootList { .. } => Some("taint the authority that the list revokes"),
            _ => None,
        }
    }

    /// The command that is carried out.
    pub fn command(&self) -> Command {
        match self.clone() {
            Self::Revoke(scope, reason) => Command::Revoke { scope, reason },
            Self::Stop(scope, reason) => Command::Stop { scope, reason },
            Self::Suspend(target, reason) => Command::Suspend { target, reason },
            Self::Hold(ordinal, reason) => Command::Hold { ordinal, reason },
            Self::BlockKey(key, reason) => Command::BlockKey { key, reason },
            Self::Taint(authority, reason) => Command::TaintAuthority { authority, reason },
            Self::SuspendPrincipal(principal, reason) => {
                Command::Officers(OfficerCommand::Suspend { principal, reason })
            }
            Self::EndGrant(entity, grant) => Command::EndGrant { entity, grant },
        }
    }
}

/// Every role of officers: who holds any of them may break the glass.
const ANY: &[Role] = &[Role::Registrar, Role::Vetter, Role::Approver, Role::SecurityOps, Role::Auditor];
/// Who may close a review: who may restrict, and auditors.
const REVIEWERS: &[Role] = &[Role::Approver, Role::SecurityOps, Role::Auditor];

impl OfficerCommand {
    /// Who must sign it.
    pub const fn signers(&self) -> Signers {
        match self {
            Self::Suspend { .. } => RESTRICT,
            Self::Release(_) => super::signers::LOOSEN,
            Self::BreakGlass { .. } => Signers { count: 1, roles: ANY },
            Self::CloseReview { .. } => Signers { count: 1, roles: REVIEWERS },
        }
    }

    /// Does it only take away?
    pub const fn is_restricting(&self) -> bool {
        match self {
            Self::Suspend { .. } | Self::BreakGlass { .. } => true,
            Self::Release(_) | Self::CloseReview { .. } => false,
        }
    }

    /// The objects that it reads or writes.
    pub fn objects(&self) -> Vec<ObjectRef> {
        match self {
            Self::Suspend { principal, .. } | Self::Release(principal) => {
                vec![ObjectRef::Principal(principal.clone())]
            }
            Self::BreakGlass { what, .. } => what.command().objects(),
            Self::CloseReview { review, .. } => vec![ObjectRef::Review(*review)],
        }
    }

    /// What it reaches, as one word, and why, if it is a restriction.
    pub fn restriction(&self) -> Option<(&'static str, RevocationReason)> {
        match self {
            Self::Suspend { reason, .. } => Some(("PRINCIPAL", *reason)),
            Self::BreakGlass { what, .. } => what.command().restriction(),
            Self::Release(_) | Self::CloseReview { .. } => None,
        }
    }

    /// Its name, as in the API and the log.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Suspend { .. } => "SUSPEND_PRINCIPAL",
            Self::Release(_) => "RELEASE_PRINCIPAL",
            Self::BreakGlass { .. } => "BREAK_GLASS",
            Self::CloseReview { .. } => "CLOSE_REVIEW",
        }
    }
}

/// The most reviews that may be open: far more emergencies than officers can look at.
pub const REVIEWS_MAX: usize = 1_000;

/// An emergency that nobody has looked at yet.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Review {
    /// The record of the emergency; names the review.
    #[n(0)]
    pub seq: Seq,
    /// Who broke the glass.
    #[n(1)]
    pub officers: Vec<PrincipalId>,
    /// What they did.
    #[n(2)]
    pub what: Emergency,
    /// Why.
    #[n(3)]
    pub reason: String,
    /// When.
    #[n(4)]
    pub at: super::time::Timestamp,
}
