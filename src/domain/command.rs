//! Commands that officers sign: what they do, who must sign them, and which objects they read or write.
//!
//! Restrict with one, loosen with two (design section 6). A command travels inside a mandate as the exact bytes that
//! were signed, and the journal keeps those bytes.

use minicbor::{Decode, Encode};

use super::authority::NewAuthority;
use super::bundle::BundleParts;
use super::certificate::AuthorityKind;
use super::determination::Determination;
use super::entity::Screening;
use super::grant::Grant;
use super::id::{
    AnnouncementId, AuthorityId, DeterminationId, Digest, EntityId, GrantId, Ordinal, PrincipalId, RootId,
    Seq, SubjectId,
};
use super::license::License;
pub use super::object::ObjectRef;
use super::officer_command::OfficerCommand;
use super::partner_command::PartnerCommand;
pub use super::principal::NewPrincipal;
use super::record_command::RecordCommand;
use super::revocation::{RevocationReason, RevocationScope, StopScope, SuspensionTarget};
use super::root::{CrossCertificate, Root, RootList};
use super::screening::{ALIKE_SCORE, MatchVerdict, SCORE_MIN, ScreeningList};
pub use super::signers::Signers;
use super::signers::VET_BY_TWO;
pub(super) use super::signers::{LOOSEN, RESTRICT, VET};
pub use super::subject::SubjectDecision;
use super::time::Timestamp;

/// A command of officers.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Command {
    /// Register an officer, a gateway or a partner's administrator.
    #[n(0)]
    RegisterPrincipal(#[n(0)] NewPrincipal),
    /// Remove a principal; it may call nothing any more.
    #[n(1)]
    RemovePrincipal(#[n(0)] PrincipalId),
    /// Make an applicant a partner.
    #[n(2)]
    ActivateEntity(#[n(0)] EntityId),
    /// Reject an applicant.
    #[n(3)]
    RejectEntity(#[n(0)] EntityId),
    /// Remove a partner for good and cut off its certificates.
    #[n(4)]
    RemoveEntity {
        /// Which.
        #[n(0)]
        entity: EntityId,
        /// Why.
        #[n(1)]
        reason: RevocationReason,
    },
    /// Amend the annex of a determination. Removals take effect at once.
    #[n(5)]
    AmendAnnex {
        /// Whose annex.
        #[n(0)]
        determination: DeterminationId,
        /// The number of the revision, one above the last.
        #[n(1)]
        revision: u32,
        /// Entities added.
        #[n(2)]
        add: Vec<EntityId>,
        /// Entities removed.
        #[n(3)]
        remove: Vec<EntityId>,
    },
    /// Grant a model to an entity.
    #[n(6)]
    GrantModel {
        /// To whom.
        #[n(0)]
        entity: EntityId,
        /// What.
        #[n(1)]
        grant: Grant,
    },
    /// End a grant now.
    #[n(7)]
    EndGrant {
        /// Whose.
        #[n(0)]
        entity: EntityId,
        /// Which.
        #[n(1)]
        grant: GrantId,
    },
    /// Register a licence, or replace the one with its number.
    #[n(8)]
    RegisterLicense(#[n(0)] License),
    /// Put a policy bundle in force.
    #[n(9)]
    AdoptPolicy(#[n(0)] Box<BundleParts>),
    /// Revoke.
    #[n(10)]
    Revoke {
        /// What.
        #[n(0)]
        scope: RevocationScope,
        /// Why.
        #[n(1)]
        reason: RevocationReason,
    },
    /// Engage an emergency stop.
    #[n(11)]
    Stop {
        /// What.
        #[n(0)]
        scope: StopScope,
        /// Why.
        #[n(1)]
        reason: RevocationReason,
    },
    /// Release a stop.
    #[n(12)]
    ReleaseStop(#[n(0)] StopScope),
    /// Suspend a partner, a person or a workload.
    #[n(13)]
    Suspend {
        /// Whom.
        #[n(0)]
        target: SuspensionTarget,
        /// Why.
        #[n(1)]
        reason: RevocationReason,
    },
    /// End a suspension.
    #[n(14)]
    Unsuspend(#[n(0)] SuspensionTarget),
    /// Put a certificate on hold.
    #[n(15)]
    Hold {
        /// Which.
        #[n(0)]
        ordinal: Ordinal,
        /// Why.
        #[n(1)]
        reason: RevocationReason,
    },
    /// Release a hold.
    #[n(16)]
    ReleaseHold(#[n(0)] Ordinal),
    /// Decide on a nominated person or workload, or decide again.
    #[n(17)]
    DecideSubject {
        /// Whom.
        #[n(0)]
        subject: SubjectId,
        /// How.
        #[n(1)]
        decision: SubjectDecision,
    },
    /// Enter the result of a screening by hand.
    #[n(18)]
    RecordScreening {
        /// Of whom.
        #[n(0)]
        entity: EntityId,
        /// What came of it.
        #[n(1)]
        screening: Screening,
        /// Why it came out so; no personal data.
        #[n(2)]
        reason: String,
    },
    /// Record until when an entity's safeguards are attested and when it must be looked at again.
    #[n(19)]
    RecordSafeguards {
        /// Of whom.
        #[n(0)]
        entity: EntityId,
        /// Attested until.
        #[n(1)]
        until: Timestamp,
        /// Next re-verification.
        #[n(2)]
        reverify_due: Option<Timestamp>,
    },
    /// Accept that the server's clock is right again.
    #[n(20)]
    AcceptClock(#[n(0)] Timestamp),
    /// Block a public key: everything issued to it is revoked, and it is never certified again.
    #[n(21)]
    BlockKey {
        /// SHA-256 of the SubjectPublicKeyInfo.
        #[n(0)]
        key: Digest,
        /// Why.
        #[n(1)]
        reason: RevocationReason,
    },
    /// Let a public key be certified again. What was issued to it stays revoked.
    #[n(22)]
    UnblockKey(#[n(0)] Digest),
    /// Go on from a restored backup, knowing what may be missing.
    #[n(23)]
    AcknowledgeRestore {
        /// The record of the restore.
        #[n(0)]
        restored: Seq,
    },
    /// Trust an authority that will issue later. Its key is at the server.
    #[n(24)]
    PrepareAuthority(#[n(0)] NewAuthority),
    /// Issue from a prepared authority; the one that was active retires.
    #[n(25)]
    ActivateAuthority(#[n(0)] AuthorityId),
    /// Issue nothing more from an authority, and have everything that it issued issued anew. It stays trusted until then.
    #[n(26)]
    TaintAuthority {
        /// Which.
        #[n(0)]
        authority: AuthorityId,
        /// Why.
        #[n(1)]
        reason: RevocationReason,
    },
    /// Undo the last step of a rotation: a prepared authority goes, an active one gives its place back to the one before.
    #[n(27)]
    RollbackAuthority(#[n(0)] AuthorityId),
    /// Trust an authority no more of which nothing is valid.
    #[n(28)]
    RetireAuthority(#[n(0)] AuthorityId),
    /// Revoke an authority with everything that it issued. For ever; one officer alone stops it.
    #[n(29)]
    RevokeAuthority {
        /// Which.
        #[n(0)]
        authority: AuthorityId,
        /// Why.
        #[n(1)]
        reason: RevocationReason,
    },
    /// Let the server rotate the authorities of a kind by itself.
    #[n(35)]
    PermitRotation {
        /// Which.
        #[n(0)]
        kind: AuthorityKind,
        /// Until when.
        #[n(1)]
        until: Timestamp,
        /// How many authorities it may prepare.
        #[n(2)]
        rotations: u32,
    },
    /// Announce a revocation: renew now, cut at an instant.
    #[n(36)]
    AnnounceRevocation {
        /// Its name.
        #[n(0)]
        id: AnnouncementId,
        /// What.
        #[n(1)]
        scope: RevocationScope,
        /// When.
        #[n(2)]
        cut_at: Timestamp,
        /// Why.
        #[n(3)]
        reason: RevocationReason,
    },
    /// Cut what was announced earlier than was announced.
    #[n(37)]
    HastenRevocation {
        /// Which announcement.
        #[n(0)]
        announcement: AnnouncementId,
        /// When.
        #[n(1)]
        cut_at: Timestamp,
    },
    /// Cut what was announced later than was announced, or not at all.
    #[n(38)]
    PostponeRevocation {
        /// Which announcement.
        #[n(0)]
        announcement: AnnouncementId,
        /// When; none: not at all.
        #[n(1)]
        cut_at: Option<Timestamp>,
    },
    /// Rotate the authorities of a kind by hand again.
    #[n(39)]
    WithdrawRotation(#[n(0)] AuthorityKind),
    /// Practise a stop: it goes the way of a stop to every gateway, and denies nobody anything.
    #[n(50)]
    Drill(#[n(0)] StopScope),
    /// Trust a root, with its newest revocation list.
    #[n(30)]
    TrustRoot(#[n(0)] Root),
    /// Take a newer revocation list of a root. It can only narrow.
    #[n(31)]
    RenewRootList {
        /// Whose.
        #[n(0)]
        root: RootId,
        /// The list.
        #[n(1)]
        list: RootList,
    },
    /// Give out a certificate by another root beside the one that its subject has.
    #[n(32)]
    AddCrossCertificate(#[n(0)] CrossCertificate),
    /// Trust a root no more, beneath which nothing is trusted.
    #[n(33)]
    DropRoot(#[n(0)] RootId),
    /// About officers and other principals, and emergencies.
    #[n(40)]
    Officers(#[n(0)] OfficerCommand),
    /// About what partners owe.
    #[n(70)]
    Partners(#[n(0)] PartnerCommand),
    /// Put one more imposition in force. It reaches what nothing lifts, so it only takes away.
    #[n(51)]
    Impose(#[n(0)] Box<Determination>),
    /// Make a version of the screening list the newest one. Every entity is compared with it. Its file is at the server.
    #[n(60)]
    ImportScreeningList {
        /// The version.
        #[n(0)]
        list: ScreeningList,
        /// It may have far fewer entries than the one before.
        #[n(1)]
        shrinks: bool,
    },
    /// About orders to keep records.
    #[n(85)]
    Records(#[n(0)] RecordCommand),
    /// Say what a match with an entry of the list is.
    #[n(61)]
    ResolveScreeningMatch {
        /// Of whom.
        #[n(0)]
        entity: EntityId,
        /// The entry.
        #[n(1)]
        entry: Digest,
        /// The score of the match, which decides how many must sign.
        #[n(2)]
        score: u8,
        /// What it is.
        #[n(3)]
        verdict: MatchVerdict,
        /// Why; no personal data.
        #[n(4)]
        reason: String,
    },
}

impl Command {
    /// Who must sign it: restrict with one, loosen with two, a vetter for what vetters decide.
    pub fn signers(&self) -> Signers {
        match self {
            Self::RegisterPrincipal(_)
            | Self::RemovePrincipal(_)
            | Self::ActivateEntity(_)
            | Self::GrantModel { .. }
            | Self::RegisterLicense(_)
            | Self::AdoptPolicy(_)
            | Self::ReleaseStop(_)
            | Self::Unsuspend(_)
            | Self::ReleaseHold(_)
            | Self::AcceptClock(_)
            | Self::AcknowledgeRestore { .. }
            | Self::UnblockKey(_)
            | Self::PrepareAuthority(_)
            | Self::ActivateAuthority(_)
            | Self::RollbackAuthority(_)
            | Self::RetireAuthority(_)
            | Self::TrustRoot(_)
            | Self::AddCrossCertificate(_)
            | Self::DropRoot(_)
            | Self::PermitRotation { .. }
            | Self::PostponeRevocation { .. }
            // What cannot be undone is never one person's: one alone stops the authority.
            | Self::RevokeAuthority { .. } => LOOSEN,
            Self::AmendAnnex { add, .. } if !add.is_empty() => LOOSEN,
            Self::AmendAnnex { .. }
            | Self::RejectEntity(_)
            | Self::RemoveEntity { .. }
            | Self::EndGrant { .. }
            | Self::Revoke { .. }
            | Self::Stop { .. }
            | Self::Suspend { .. }
            | Self::Hold { .. }
            | Self::BlockKey { .. }
            | Self::TaintAuthority { .. }
            // The root signed it, and it revokes whatever the last one did.
            | Self::RenewRootList { .. }
            | Self::AnnounceRevocation { .. }
            | Self::HastenRevocation { .. }
            | Self::WithdrawRotation(_)
            | Self::Impose(_)
            // Who may stop may practise it.
            | Self::Drill(_) => RESTRICT,
            Self::ImportScreeningList { list, shrinks } if *shrinks || list.score_min > SCORE_MIN => VET_BY_TWO,
            Self::ResolveScreeningMatch { verdict: MatchVerdict::Withdrawn, .. } => VET_BY_TWO,
            Self::ResolveScreeningMatch { verdict: MatchVerdict::FalsePositive, score, .. }
                if *score >= ALIKE_SCORE =>
            {
                VET_BY_TWO
            }
            Self::DecideSubject { .. }
            | Self::RecordScreening { .. }
            | Self::RecordSafeguards { .. }
            | Self::ImportScreeningList { .. }
            | Self::ResolveScreeningMatch { .. } => VET,
            Self::Officers(command) => command.signers(),
            Self::Partners(command) => command.signers(),
            Self::Records(command) => command.signers(),
        }
    }

    /// Does it only take away? Such a command may use the journal's reserve and never fails on a stale basis.
    pub fn is_restricting(&self) -> bool {
        match self {
            Self::Officers(command) => command.is_restricting(),
            _ => self.signers() == RESTRICT && !self.is_drill(),
        }
    }

    /// Does it only practise? It takes nothing away, so it has no claim on the reserve either.
    pub const fn is_drill(&self) -> bool {
        matches!(self, Self::Drill(_))
    }

    /// The objects that it reads or writes. A mandate names the revision of each.
    pub fn objects(&self) -> Vec<ObjectRef> {
        match self {
            Self::RegisterPrincipal(new) => vec![ObjectRef::Principal(new.id.clone())],
            Self::RemovePrincipal(id) => vec![ObjectRef::Principal(id.clone())],
            Self::ActivateEntity(id) | Self::RejectEntity(id) => vec![ObjectRef::Entity(*id)],
            Self::RemoveEntity { entity, .. }
            | Self::GrantModel { entity, .. }
            | Self::EndGrant { entity, .. }
            | Self::RecordScreening { entity, .. }
            | Self::RecordSafeguards { entity, .. } => vec![ObjectRef::Entity(*entity)],
            Self::AmendAnnex { determination, add, remove, .. } => {
                let entities = add.iter().chain(remove).map(|id| ObjectRef::Entity(*id));
                std::iter::once(ObjectRef::Annex(determination.clone())).chain(entities).collect()
            }
            Self::RegisterLicense(license) => {
                vec![ObjectRef::License(license.id.clone()), ObjectRef::Entity(license.holder)]
            }
            Self::AdoptPolicy(_) | Self::Impose(_) => vec![ObjectRef::Policy],
            Self::Revoke { scope, .. } => match scope {
                RevocationScope::Subject(id) => vec![ObjectRef::Subject(*id)],
                RevocationScope::Entity(id) => vec![ObjectRef::Entity(*id)],
                RevocationScope::Certificate(_)
                | RevocationScope::Lineage(_)
                | RevocationScope::Person(_)
                | RevocationScope::Issuer(_)
                | RevocationScope::Determination(_) => Vec::new(),
                RevocationScope::AnnexRevision(id, _) => vec![ObjectRef::Annex(id.clone())],
            },
            Self::Stop { scope, .. } | Self::ReleaseStop(scope) => vec![ObjectRef::Stop(scope.clone())],
            Self::Suspend { target, .. } | Self::Unsuspend(target) => vec![ObjectRef::Suspension(*target)],
            Self::Hold { ordinal, .. } | Self::ReleaseHold(ordinal) => vec![ObjectRef::Hold(*ordinal)],
            Self::DecideSubject { subject, .. } => vec![ObjectRef::Subject(*subject)],
            Self::AcceptClock(_) => vec![ObjectRef::Clock],
            Self::AcknowledgeRestore { .. } => vec![ObjectRef::Restore],
            Self::BlockKey { key, .. } | Self::UnblockKey(key) => vec![ObjectRef::Key(*key)],
            Self::Drill(_) => vec![ObjectRef::Drills],
            Self::Officers(command) => command.objects(),
            Self::Partners(command) => command.objects(),
            Self::Records(command) => vec![ObjectRef::RecordHold(command.id().clone())],
            Self::ImportScreeningList { .. } => vec![ObjectRef::ScreeningList],
            Self::ResolveScreeningMatch { entity, .. } => vec![ObjectRef::Screening(*entity)],
            Self::PrepareAuthority(_)
            | Self::ActivateAuthority(_)
            | Self::TaintAuthority { .. }
            | Self::RollbackAuthority(_)
            | Self::RetireAuthority(_)
            | Self::RevokeAuthority { .. } => vec![ObjectRef::Authorities],
            Self::TrustRoot(_) | Self::AddCrossCertificate(_) => vec![ObjectRef::Roots],
            Self::DropRoot(_) => vec![ObjectRef::Roots, ObjectRef::Authorities],
            Self::RenewRootList { root, .. } => vec![ObjectRef::RootList(*root)],
            Self::PermitRotation { kind, .. } | Self::WithdrawRotation(kind) => {
                vec![ObjectRef::Rotation(*kind)]
            }
            Self::AnnounceRevocation { id, .. }
            | Self::HastenRevocation { announcement: id, .. }
            | Self::PostponeRevocation { announcement: id, .. } => vec![ObjectRef::Announcement(*id)],
        }
    }

    /// Its name, as in the API and the log.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::RegisterPrincipal(_) => "REGISTER_PRINCIPAL",
            Self::RemovePrincipal(_) => "REMOVE_PRINCIPAL",
            Self::ActivateEntity(_) => "ACTIVATE_ENTITY",
            Self::RejectEntity(_) => "REJECT_ENTITY",
            Self::RemoveEntity { .. } => "REMOVE_ENTITY",
            Self::AmendAnnex { .. } => "AMEND_ANNEX",
            Self::GrantModel { .. } => "GRANT_MODEL",
            Self::EndGrant { .. } => "END_GRANT",
            Self::RegisterLicense(_) => "REGISTER_LICENSE",
            Self::AdoptPolicy(_) => "ADOPT_POLICY",
            Self::Impose(_) => "IMPOSE",
            Self::Revoke { .. } => "REVOKE",
            Self::Stop { .. } => "STOP",
            Self::ReleaseStop(_) => "RELEASE_STOP",
            Self::Suspend { .. } => "SUSPEND",
            Self::Unsuspend(_) => "UNSUSPEND",
            Self::Hold { .. } => "HOLD",
            Self::ReleaseHold(_) => "RELEASE_HOLD",
            Self::DecideSubject { .. } => "DECIDE_SUBJECT",
            Self::RecordScreening { .. } => "RECORD_SCREENING",
            Self::RecordSafeguards { .. } => "RECORD_SAFEGUARDS",
            Self::AcceptClock(_) => "ACCEPT_CLOCK",
            Self::AcknowledgeRestore { .. } => "ACKNOWLEDGE_RESTORE",
            Self::BlockKey { .. } => "BLOCK_KEY",
            Self::UnblockKey(_) => "UNBLOCK_KEY",
            Self::PrepareAuthority(_) => "PREPARE_AUTHORITY",
            Self::ActivateAuthority(_) => "ACTIVATE_AUTHORITY",
            Self::TaintAuthority { .. } => "TAINT_AUTHORITY",
            Self::RollbackAuthority(_) => "ROLLBACK_AUTHORITY",
            Self::RetireAuthority(_) => "RETIRE_AUTHORITY",
            Self::RevokeAuthority { .. } => "REVOKE_AUTHORITY",
            Self::TrustRoot(_) => "TRUST_ROOT",
            Self::RenewRootList { .. } => "RENEW_ROOT_LIST",
            Self::AddCrossCertificate(_) => "ADD_CROSS_CERTIFICATE",
            Self::DropRoot(_) => "DROP_ROOT",
            Self::PermitRotation { .. } => "PERMIT_ROTATION",
            Self::AnnounceRevocation { .. } => "ANNOUNCE_REVOCATION",
            Self::HastenRevocation { .. } => "HASTEN_REVOCATION",
            Self::PostponeRevocation { .. } => "POSTPONE_REVOCATION",
            Self::WithdrawRotation(_) => "WITHDRAW_ROTATION",
            Self::Drill(_) => "DRILL",
            Self::Officers(command) => command.name(),
            Self::Partners(command) => command.name(),
            Self::Records(command) => command.name(),
            Self::ImportScreeningList { .. } => "IMPORT_SCREENING_LIST",
            Self::ResolveScreeningMatch { .. } => "RESOLVE_SCREENING_MATCH",
        }
    }
}
