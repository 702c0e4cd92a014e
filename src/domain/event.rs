//! Events: the words of the journal. A record's body is an [`Entry`]; State is the fold of all of them.
//!
//! Numbers of variants and fields are final: a number is never used again for something else.

use minicbor::{Decode, Encode};

use super::algorithm::AlgorithmProfile;
use super::approval::{Approval, SignedMandate};
use super::authority::Authority;
use super::bundle::BundleParts;
use super::call::SealedCalls;
use super::certificate::{AuthorityKind, Facts, Serial};
use super::command::NewPrincipal;
use super::decided::{RemovedDecisions, SealedDecisions};
use super::drill::DrillTimes;
use super::enforce::{EnforcementEvent, Position};
use super::entity::{EntityKind, Organisation};
use super::id::{
    AnnouncementId, AuthorityId, BootId, Digest, EntityId, LineageId, Ordinal, PrincipalId, ProposalId,
    RequestId, Seq, SubjectId, TokenId,
};
use super::person::Relation;
use super::policy::Country;
use super::proposal::Lapse;
use super::recovery::{RecoveryKeys, SignedRecovery};
use super::root::Root;
use super::rotation::RotationStep;
use super::screening::ScreeningMatch;
use super::subject::SubjectBody;
use super::time::Timestamp;

/// The number of [`Event::SnapshotTaken`], for who looks for these records without decoding all of them.
pub const SNAPSHOT_TAKEN: u16 = 16;

/// The body of a record: what happened, who asked for it, and by which request.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Entry {
    /// What happened.
    #[n(0)]
    pub event: Event,
    /// The principal who asked; none: the server itself, or a person with a token.
    #[n(1)]
    pub by: Option<PrincipalId>,
    /// The caller's request, for idempotent retries.
    #[n(2)]
    pub request: Option<RequestId>,
}

/// What genesis establishes. Both officers sign its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Genesis {
    /// The SPIFFE trust domain.
    #[n(0)]
    pub trust_domain: String,
    /// The private enterprise arc of our attributes, dotted.
    #[n(1)]
    pub arc: String,
    /// The first policy bundle.
    #[n(2)]
    pub bundle: BundleParts,
    /// The first officers: exactly two.
    #[n(3)]
    pub officers: Vec<NewPrincipal>,
    /// The access and the system authority.
    #[n(4)]
    pub authorities: Vec<Authority>,
    /// Ed25519 public key (32 bytes) that signs heads.
    #[n(5)]
    #[cbor(with = "minicbor::bytes")]
    pub log_key: Vec<u8>,
    /// The provider of the models.
    #[n(6)]
    pub provider: NewEntity,
    /// Length of a lease in milliseconds.
    #[n(7)]
    pub lease_ms: u32,
    /// How long access certificates live, in seconds.
    #[n(8)]
    pub ttl_s: u32,
    /// The roots that the authorities stand beneath; none: they are self-signed.
    #[n(9)]
    pub roots: Option<Vec<Root>>,
    /// The keys that register officers when too few have theirs; none: there are none.
    #[n(10)]
    pub recovery: Option<RecoveryKeys>,
    /// Which algorithms are used; none: standard.
    #[n(11)]
    pub algorithms: Option<AlgorithmProfile>,
}

/// An entity to register.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct NewEntity {
    /// Its name.
    #[n(0)]
    pub id: EntityId,
    /// What sort of body it is.
    #[n(1)]
    pub kind: EntityKind,
    /// Its legal name.
    #[n(2)]
    pub name: String,
    /// Under whose law it is organised.
    #[n(3)]
    pub org: Organisation,
    /// Country of its seat, if not the United States.
    #[n(4)]
    pub seat: Option<Country>,
}

/// Why a certificate is issued.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Cause {
    /// A one-time token was redeemed.
    #[n(0)]
    Enroll(#[n(0)] TokenId),
    /// The certificate with this ordinal is renewed. Never named by hash: whoever has a certificate can make a second
    /// encoding of its ECDSA signature.
    #[n(1)]
    Renew(#[n(0)] Ordinal),
    /// A principal was registered, the server needs one for itself, or a gateway its canaries.
    #[n(2)]
    Register(#[n(0)] PrincipalId),
}

/// A certificate that is about to be signed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Intent {
    /// Which authority will sign.
    #[n(0)]
    pub authority: AuthorityKind,
    /// Its number.
    #[n(1)]
    pub ordinal: Ordinal,
    /// Its serial.
    #[n(2)]
    pub serial: Serial,
    /// What it will state.
    #[n(3)]
    pub facts: Facts,
    /// SHA-256 of the SubjectPublicKeyInfo.
    #[n(4)]
    pub key: Digest,
    /// Its `notBefore`.
    #[n(5)]
    pub not_before: Timestamp,
    /// Its `notAfter`.
    #[n(6)]
    pub not_after: Timestamp,
    /// Why.
    #[n(7)]
    pub cause: Cause,
    /// The bytes to be signed (TBSCertificate, DER).
    #[n(8)]
    #[cbor(with = "minicbor::bytes")]
    pub tbs: Vec<u8>,
    /// Which authority of that kind; none: the one of genesis, from when there was no other.
    #[n(9)]
    pub issuer: Option<AuthorityId>,
}

impl Intent {
    /// Does the authority issue certificates with facts of this kind?
    pub const fn is_coherent(&self) -> bool {
        matches!(
            (self.authority, &self.facts),
            (AuthorityKind::Access, Facts::Access(_) | Facts::Canary(_))
                | (AuthorityKind::System, Facts::System(_))
        )
    }
}

/// Who is in which list of a finished barrier, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct BarrierOutcome {
    /// Enforced, as acknowledged.
    #[n(0)]
    pub acked: Vec<String>,
    /// Cannot promise all of it.
    #[n(1)]
    pub weak: Vec<String>,
    /// Closed by the end of their leases.
    #[n(2)]
    pub lease_expired: Vec<String>,
    /// Neither, when the caller's deadline came.
    #[n(3)]
    pub pending: Vec<String>,
    /// How long it took from commit, in milliseconds.
    #[n(4)]
    pub took_ms: u64,
    /// What was measured of a drill.
    #[n(5)]
    pub drill: Option<DrillTimes>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum Event {
    /// The journal begins.
    #[n(0)]
    Genesis {
        /// The bytes of a [`Genesis`], as signed.
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        bytes: Vec<u8>,
        /// Both officers' signatures.
        #[n(1)]
        approvals: Vec<Approval>,
    },
    /// A process began to write. Until this is durable it grants no lease and no permit.
    #[n(1)]
    ServerStarted {
        /// The run.
        #[n(0)]
        boot: BootId,
        /// The version of the decision logic.
        #[n(1)]
        logic_version: u32,
    },
    /// A command waits for more signatures.
    #[n(2)]
    Proposed {
        /// Its name.
        #[n(0)]
        id: ProposalId,
        /// What, with the signatures so far.
        #[n(1)]
        signed: SignedMandate,
    },
    /// A proposal was withdrawn, in records from before a rejection had a reason.
    #[n(3)]
    ProposalWithdrawn(#[n(0)] ProposalId),
    /// A command took effect. What it does is in the signed bytes and nowhere else.
    #[n(4)]
    Enacted {
        /// What, with enough signatures.
        #[n(0)]
        signed: SignedMandate,
        /// The proposal that it was.
        #[n(1)]
        proposal: Option<ProposalId>,
    },
    /// An entity applied, or was nominated.
    #[n(5)]
    EntityApplied(#[n(0)] NewEntity),
    /// An entity nominated a person or a workload.
    #[n(6)]
    SubjectNominated {
        /// Its pairwise name.
        #[n(0)]
        id: SubjectId,
        /// Whose.
        #[n(1)]
        entity: EntityId,
        /// What.
        #[n(2)]
        body: SubjectBody,
        /// What its entity calls it, as [`reference_digest`](super::subject::reference_digest) of it; none: nothing.
        #[n(3)]
        reference: Option<Digest>,
    },
    /// An entity attested its relation to a person anew.
    #[n(7)]
    RelationAttested {
        /// Whom.
        #[n(0)]
        subject: SubjectId,
        /// What.
        #[n(1)]
        relation: Relation,
        /// Until when.
        #[n(2)]
        until: Option<Timestamp>,
    },
    /// A one-time enrollment token was made.
    #[n(8)]
    TokenCreated {
        /// Its public half.
        #[n(0)]
        id: TokenId,
        /// SHA-256 of its secret half.
        #[n(1)]
        secret: Digest,
        /// For whom.
        #[n(2)]
        subject: SubjectId,
        /// Until when.
        #[n(3)]
        expires_at: Timestamp,
    },
    /// A certificate is about to be signed.
    #[n(9)]
    IssuanceIntended(#[n(0)] Box<Intent>),
    /// It was signed.
    #[n(10)]
    CertificateIssued {
        /// By which authority.
        #[n(0)]
        authority: AuthorityKind,
        /// Its number.
        #[n(1)]
        ordinal: Ordinal,
        /// The issuer's signature.
        #[n(2)]
        #[cbor(with = "minicbor::bytes")]
        signature: Vec<u8>,
        /// SHA-256 of the certificate (DER).
        #[n(3)]
        hash: Digest,
    },
    /// A generation was renewed twice with different keys: somebody has a copy.
    #[n(11)]
    LineageLocked(#[n(0)] LineageId),
    /// Ordinals up to this one will be issued.
    #[n(12)]
    CeilingAnnounced(#[n(0)] Ordinal),
    /// Every gateway that can hold a lease knows of them: ordinals up to this one may be issued.
    #[n(13)]
    BlockOpened(#[n(0)] Ordinal),
    /// A barrier finished.
    #[n(14)]
    BarrierFinished {
        /// The record that it stood at.
        #[n(0)]
        at: Seq,
        /// Who was in which list.
        #[n(1)]
        outcome: BarrierOutcome,
    },
    /// An instant passed at which policy changed. A marker for auditors; no decision reads it.
    #[n(15)]
    InstantPassed(#[n(0)] Timestamp),
    /// A snapshot of the state was stored.
    #[n(16)]
    SnapshotTaken {
        /// Of which record.
        #[n(0)]
        at: Seq,
        /// SHA-256 of its bytes.
        #[n(1)]
        hash: Digest,
        /// The log key's signature over both, without which a start would have to believe whoever can write files.
        #[n(2)]
        #[cbor(with = "minicbor::bytes")]
        signature: Vec<u8>,
    },
    /// The record goes on from a backup, in a new epoch.
    #[n(17)]
    Restored,
    /// A gateway gave back restrictions that it holds and the backup does not have.
    #[n(18)]
    RestrictionsCollected {
        /// Which.
        #[n(0)]
        gateway: PrincipalId,
        /// Up to which record it had applied the part that was lost.
        #[n(1)]
        upto: Position,
        /// What the record lacked.
        #[n(2)]
        events: Vec<EnforcementEvent>,
    },
    /// The server took a step of a rotation by itself.
    #[n(21)]
    RotationStepped {
        /// Of the authorities of this kind.
        #[n(0)]
        kind: AuthorityKind,
        /// The record of the standing approval.
        #[n(1)]
        approval: Seq,
        /// What it did.
        #[n(2)]
        step: RotationStep,
    },
    /// It could not, and rotates by itself no more until officers permit it anew.
    #[n(22)]
    RotationFailed {
        /// Of the authorities of this kind.
        #[n(0)]
        kind: AuthorityKind,
        /// The record of the standing approval.
        #[n(1)]
        approval: Seq,
        /// What went wrong.
        #[n(2)]
        why: String,
    },
    /// The instant of an announced revocation passed. A marker for auditors; no decision reads it.
    #[n(23)]
    AnnouncementPassed(#[n(0)] AnnouncementId),
    /// An officer rejected what waits for others.
    #[n(24)]
    ProposalRejected {
        /// What.
        #[n(0)]
        id: ProposalId,
        /// Why; no personal data.
        #[n(1)]
        reason: String,
    },
    /// A proposal can never be carried out any more, and waits no longer.
    #[n(25)]
    ProposalLapsed {
        /// Which.
        #[n(0)]
        id: ProposalId,
        /// Why.
        #[n(1)]
        why: Lapse,
    },
    /// Recovery keys register an officer: announced to everybody, and effective a day later.
    #[n(26)]
    RecoveryAnnounced {
        /// Its name, by which an officer rejects it.
        #[n(0)]
        id: ProposalId,
        /// What was signed.
        #[n(1)]
        signed: SignedRecovery,
    },
    /// A day has passed and no officer rejected it: the officer is registered.
    #[n(27)]
    RecoveryTookEffect(#[n(0)] ProposalId),
    /// A segment of the audit of calls is complete.
    #[n(28)]
    CallsSealed(#[n(0)] Box<SealedCalls>),
    /// An entity's name was compared with the newest screening list.
    #[n(40)]
    EntityScreened {
        /// Whose.
        #[n(0)]
        entity: EntityId,
        /// SHA-256 of the list's file.
        #[n(1)]
        list: Digest,
        /// SHA-256 of what was looked up.
        #[n(2)]
        query: Digest,
        /// Entries that it came close to and that nobody knew of.
        #[n(3)]
        found: Vec<ScreeningMatch>,
        /// How many more there are.
        #[n(4)]
        more: u32,
    },
    /// A segment of the record of decisions is complete.
    #[n(51)]
    DecisionsSealed(#[n(0)] Box<SealedDecisions>),
    /// Segments of the record of decisions are removed after their time.
    #[n(52)]
    DecisionsRemoved(#[n(0)] RemovedDecisions),
}

impl Event {
    /// Its number, as a record's header shows it.
    pub const fn number(&self) -> u16 {
        match self {
            Self::Genesis { .. } => 0,
            Self::ServerStarted { .. } => 1,
            Self::Proposed { .. } => 2,
            Self::ProposalWithdrawn(_) => 3,
            Self::Enacted { .. } => 4,
            Self::EntityApplied(_) => 5,
            Self::SubjectNominated { .. } => 6,
            Self::RelationAttested { .. } => 7,
            Self::TokenCreated { .. } => 8,
            Self::IssuanceIntended(_) => 9,
            Self::CertificateIssued { .. } => 10,
            Self::LineageLocked(_) => 11,
            Self::CeilingAnnounced(_) => 12,
            Self::BlockOpened(_) => 13,
            Self::BarrierFinished { .. } => 14,
            Self::InstantPassed(_) => 15,
            Self::SnapshotTaken { .. } => SNAPSHOT_TAKEN,
            Self::Restored => 17,
            Self::RestrictionsCollected { .. } => 18,
            Self::RotationStepped { .. } => 21,
            Self::RotationFailed { .. } => 22,
            Self::AnnouncementPassed(_) => 23,
            Self::ProposalRejected { .. } => 24,
            Self::ProposalLapsed { .. } => 25,
            Self::RecoveryAnnounced { .. } => 26,
            Self::RecoveryTookEffect(_) => 27,
            Self::CallsSealed(_) => 28,
            Self::EntityScreened { .. } => 40,
            Self::DecisionsSealed(_) => 51,
            Self::DecisionsRemoved(_) => 52,
        }
    }

    /// Its name, as in the log and the audit.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Genesis { .. } => "genesis",
            Self::ServerStarted { .. } => "server.started",
            Self::Proposed { .. } => "proposal.made",
            Self::ProposalWithdrawn(_) => "proposal.withdrawn",
            Self::Enacted { .. } => "command.enacted",
            Self::EntityApplied(_) => "partner.applied",
            Self::SubjectNominated { .. } => "vet.opened",
            Self::RelationAttested { .. } => "vet.employment_attested",
            Self::TokenCreated { .. } => "token.created",
            Self::IssuanceIntended(_) => "cert.intended",
            Self::CertificateIssued { .. } => "cert.issued",
            Self::LineageLocked(_) => "lineage.locked",
            Self::CeilingAnnounced(_) => "ordinals.announced",
            Self::BlockOpened(_) => "ordinals.opened",
            Self::BarrierFinished { .. } => "barrier.finished",
            Self::InstantPassed(_) => "instant.passed",
            Self::SnapshotTaken { .. } => "snapshot.taken",
            Self::Restored => "record.restored",
            Self::RestrictionsCollected { .. } => "restrictions.collected",
            Self::RotationStepped { .. } => "rotation.stepped",
            Self::RotationFailed { .. } => "rotation.failed",
            Self::AnnouncementPassed(_) => "announcement.passed",
            Self::ProposalRejected { .. } => "proposal.rejected",
            Self::ProposalLapsed { .. } => "proposal.lapsed",
            Self::RecoveryAnnounced { .. } => "recovery.announced",
            Self::RecoveryTookEffect(_) => "recovery.effective",
            Self::CallsSealed(_) => "calls.sealed",
            Self::EntityScreened { .. } => "partner.screened",
            Self::DecisionsSealed(_) => "decisions.sealed",
            Self::DecisionsRemoved(_) => "decisions.removed",
        }
    }
}
