//! What a command takes away, and why: what metrics and the log say of a restriction.

use super::command::Command;
use super::revocation::{RevocationReason, SuspensionTarget};

impl Command {
    /// What a restriction that its officers gave a reason for reaches, as one word, and that reason.
    pub fn restriction(&self) -> Option<(&'static str, RevocationReason)> {
        match self {
            Self::RemoveEntity { reason, .. } => Some(("ENTITY", *reason)),
            Self::Revoke { scope, reason } | Self::AnnounceRevocation { scope, reason, .. } => {
                Some((scope.word(), *reason))
            }
            Self::Stop { scope, reason } => Some((scope.word(), *reason)),
            Self::Suspend { target: SuspensionTarget::Entity(_), reason } => Some(("ENTITY", *reason)),
            Self::Suspend { target: SuspensionTarget::Subject(_), reason } => Some(("SUBJECT", *reason)),
            Self::Hold { reason, .. } => Some(("CERTIFICATE", *reason)),
            Self::BlockKey { reason, .. } => Some(("KEY", *reason)),
            Self::RevokeAuthority { reason, .. } => Some(("ISSUER", *reason)),
            // Whatever it revokes, the root says that it is not to be trusted.
            Self::RenewRootList { .. } => Some(("ISSUER", RevocationReason::CaCompromise)),
            Self::Officers(command) => command.restriction(),
            Self::RegisterPrincipal(_)
            | Self::RemovePrincipal(_)
            | Self::ActivateEntity(_)
            | Self::RejectEntity(_)
            | Self::AmendAnnex { .. }
            | Self::GrantModel { .. }
            | Self::EndGrant { .. }
            | Self::RegisterLicense(_)
            | Self::AdoptPolicy(_)
            | Self::Impose(_)
            | Self::ReleaseStop(_)
            | Self::Unsuspend(_)
            | Self::ReleaseHold(_)
            | Self::DecideSubject { .. }
            | Self::DecideSubjects(_)
            | Self::RecordScreening { .. }
            | Self::RecordSafeguards { .. }
            | Self::AcceptClock(_)
            | Self::AcknowledgeRestore { .. }
            | Self::UnblockKey(_)
            | Self::PrepareAuthority(_)
            | Self::ActivateAuthority(_)
            // They deny nobody anything.
            | Self::Drill(_)
            | Self::Records(_)
            | Self::ImportScreeningList { .. }
            | Self::ResolveScreeningMatch { .. }
            | Self::TaintAuthority { .. }
            | Self::RollbackAuthority(_)
            | Self::RetireAuthority(_)
            | Self::TrustRoot(_)
            | Self::AddCrossCertificate(_)
            | Self::DropRoot(_)
            | Self::Partners(_)
            | Self::PermitRotation { .. }
            | Self::HastenRevocation { .. }
            | Self::PostponeRevocation { .. }
            | Self::WithdrawRotation(_) => None,
        }
    }
}
