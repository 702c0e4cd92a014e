//! State: a pure fold of the journal, on persistent maps. A clone is constant; every decision reads one clone.

mod announced;
mod apply;
mod authorities;
mod causes;
mod enact;
mod officers;
mod partners;
mod proposals;
mod recovery;
mod remembered;
mod restored;
mod roots;
mod rotations;
mod screening;
mod suppose;
mod tables;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use minicbor::{Decode, Encode};

use super::announcement::AnnouncementRow;
use super::authority::{Authority, AuthorityState};
use super::bundle::Bundle;
use super::certificate::{AuthorityKind, CanaryFacts, Certificate, PrincipalKind, SystemFacts};
use super::codec::{map, rows, set, shared};
use super::command::ObjectRef;
use super::drill::Drills;
use super::enforce::{CardLookup, EnforcementSet, Position, SubjectLookup, View};
use super::entity::Entity;
use super::event::Intent;
use super::id::{
    AnnouncementId, AuthorityId, DeterminationId, Digest, EntityId, LicenseId, LineageId, ModelId, Ordinal,
    PrincipalId, ProposalId, PurposeId, RecordHoldId, RequestId, RootId, Seq, SubjectId, TokenId,
};
use super::license::License;
use super::officer_command::Review;
use super::partner_command::{SafeguardEvidence, SafeguardItem};
use super::policy::Place;
use super::principal::Principal;
use super::proposal::{ClosedProposal, Proposal};
use super::record_command::RecordHold;
use super::recovery::{PendingRecovery, RecoveryKeys};
use super::restore::Restore;
use super::root::{CrossCertificate, Root};
use super::screening::{EntityScreening, ScreeningList};
use super::subject::Subject;
use super::time::{Now, OFFICER_AHEAD_MAX_MS, Timestamp};

pub use announced::AnnouncementFault;
pub use apply::{Admitted, Applied, ApplyFault};
pub use causes::{Causes, RevocationCause, Withdrawal};
pub use partners::{Correction, FiledReport};
pub use remembered::{DroppedRoot, REMEMBERED_MAX, ROOTS_EVER_MAX, Remembered};
pub use rotations::{RotationFault, Rotations};
pub use tables::{Canary, Issued, KeyHolder, Lineage, Settings, Token};

/// How many requests are remembered for idempotent retries. The oldest is forgotten first; a client that retries a
/// request after that many others gets the refusal of its second attempt instead of the answer of its first.
pub const REQUESTS_MAX: usize = 100_000;

/// Everything that is so, as of one record.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct State {
    /// As of which record.
    #[n(0)]
    pub position: Position,
    /// When that record was written.
    #[n(1)]
    pub time: Timestamp,
    /// What genesis settled.
    #[n(2)]
    #[cbor(with = "shared")]
    pub settings: Arc<Settings>,
    /// What every gateway enforces.
    #[n(3)]
    #[cbor(with = "shared")]
    pub enforcement: Arc<EnforcementSet>,
    /// The digest of the enforcement events so far.
    #[n(4)]
    pub feed_digest: Digest,
    /// The last record with an enforcement event.
    #[n(5)]
    pub feed_seq: Seq,
    /// Entities.
    #[n(6)]
    #[cbor(with = "rows")]
    pub entities: OrdMap<EntityId, Arc<Entity>>,
    /// Employments and workloads.
    #[n(7)]
    #[cbor(with = "rows")]
    pub subjects: OrdMap<SubjectId, Arc<Subject>>,
    /// Enrollment tokens.
    #[n(8)]
    #[cbor(with = "rows")]
    pub tokens: OrdMap<TokenId, Arc<Token>>,
    /// Lineages of access certificates.
    #[n(9)]
    #[cbor(with = "rows")]
    pub lineages: OrdMap<LineageId, Arc<Lineage>>,
    /// Officers, gateways and partners.
    #[n(10)]
    #[cbor(with = "rows")]
    pub principals: OrdMap<PrincipalId, Arc<Principal>>,
    /// Authorities.
    #[n(11)]
    #[cbor(with = "rows")]
    pub authorities: OrdMap<AuthorityId, Arc<Authority>>,
    /// Commands that wait for signatures.
    #[n(12)]
    #[cbor(with = "rows")]
    pub proposals: OrdMap<ProposalId, Arc<Proposal>>,
    /// Licences.
    #[n(13)]
    #[cbor(with = "rows")]
    pub licenses: OrdMap<LicenseId, Arc<License>>,
    /// The last revision of each annex.
    #[n(14)]
    #[cbor(with = "map")]
    pub annexes: OrdMap<DeterminationId, u32>,
    /// The record that last changed each object.
    #[n(15)]
    #[cbor(with = "map")]
    pub revisions: OrdMap<ObjectRef, Seq>,
    /// Access certificates that were intended and not issued, with the record of the intent.
    #[n(16)]
    #[cbor(with = "rows")]
    pub intents: OrdMap<Ordinal, Arc<(Seq, Intent)>>,
    /// The same of the system authority.
    #[n(17)]
    #[cbor(with = "rows")]
    pub system_intents: OrdMap<Ordinal, Arc<(Seq, Intent)>>,
    /// The highest ordinal of an access certificate that was intended.
    #[n(18)]
    pub last_ordinal: Ordinal,
    /// Ordinals below that were skipped and may still be used by a request under way.
    #[n(19)]
    #[cbor(with = "set")]
    pub gaps: OrdSet<Ordinal>,
    /// The highest ordinal that may be issued.
    #[n(20)]
    pub opened: Ordinal,
    /// The highest ordinal of the system authority that was intended.
    #[n(21)]
    pub last_system_ordinal: Ordinal,
    /// Requests that were carried out, with their record.
    #[n(22)]
    #[cbor(with = "map")]
    pub requests: OrdMap<RequestId, Seq>,
    /// The same in the order in which they are forgotten.
    #[n(23)]
    #[cbor(with = "map")]
    pub request_order: OrdMap<Seq, RequestId>,
    /// The last certificate of each principal of the system authority, with its records.
    #[n(24)]
    #[cbor(with = "map")]
    pub system_certificates: OrdMap<PrincipalId, Issued>,
    /// Public keys in use, by SHA-256 of the SubjectPublicKeyInfo.
    #[n(25)]
    #[cbor(with = "map")]
    pub keys: OrdMap<Digest, KeyHolder>,
    /// The clock that officers accepted last, with the time of its record.
    #[n(26)]
    pub clock: Option<AcceptedClock>,
    /// Why what is taken away was, for revocation lists.
    #[n(27)]
    pub causes: Causes,
    /// The last canaries of each gateway.
    #[n(28)]
    #[cbor(with = "map")]
    pub canaries: OrdMap<CanaryFacts, Canary>,
    /// The last restore from a backup.
    #[n(29)]
    pub restore: Option<Restore>,
    /// Roots that are trusted.
    #[n(30)]
    #[cbor(with = "rows")]
    pub roots: OrdMap<RootId, Arc<Root>>,
    /// Certificates by other roots, by their SHA-256.
    #[n(31)]
    #[cbor(with = "rows")]
    pub cross_certificates: OrdMap<Digest, Arc<CrossCertificate>>,
    /// Rotation by itself.
    #[n(32)]
    pub rotations: Rotations,
    /// Every revocation that was ever announced.
    #[n(33)]
    #[cbor(with = "rows")]
    pub announcements: OrdMap<AnnouncementId, Arc<AnnouncementRow>>,
    /// The proposals that were closed last, by the record that did it.
    #[n(34)]
    #[cbor(with = "rows")]
    pub closed: OrdMap<Seq, Arc<ClosedProposal>>,
    /// The recovery keys of genesis.
    #[n(35)]
    pub recovery: Option<RecoveryKeys>,
    /// Recoveries that wait for their day.
    #[n(36)]
    #[cbor(with = "rows")]
    pub recoveries: OrdMap<ProposalId, Arc<PendingRecovery>>,
    /// Emergencies that nobody has reviewed yet, by their record.
    #[n(37)]
    #[cbor(with = "rows")]
    pub reviews: OrdMap<Seq, Arc<Review>>,
    /// The last drills of a stop.
    #[n(39)]
    pub drills: Drills,
    /// The newest screening list.
    #[n(50)]
    pub screening_list: Option<ScreeningList>,
    /// What is known of the screening of entities.
    #[n(51)]
    #[cbor(with = "rows")]
    pub screenings: OrdMap<EntityId, Arc<EntityScreening>>,
    /// What is over and must not come again.
    #[n(53)]
    pub remembered: Remembered,
    /// Who was nominated by a reference of its entity, by the digest of both.
    #[n(57)]
    #[cbor(with = "map")]
    pub references: OrdMap<Digest, SubjectId>,
    /// Reports that holders of licences filed, by licence and name.
    #[n(58)]
    #[cbor(with = "map")]
    pub filed: OrdMap<(LicenseId, String), FiledReport>,
    /// The safeguards that are asked of entities.
    #[n(59)]
    pub checklist: Vec<SafeguardItem>,
    /// The evidence of each entity's safeguards, as last attested.
    #[n(60)]
    #[cbor(with = "rows")]
    pub safeguards: OrdMap<EntityId, Arc<Vec<SafeguardEvidence>>>,
    /// What was said to be wrong, by the record that is.
    #[n(61)]
    #[cbor(with = "rows")]
    pub corrections: OrdMap<Seq, Arc<Vec<Correction>>>,
    /// Orders to keep records.
    #[n(63)]
    #[cbor(with = "map")]
    pub record_holds: OrdMap<RecordHoldId, RecordHold>,
}

/// A clock that officers accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct AcceptedClock {
    /// What they saw.
    #[n(0)]
    pub at: Timestamp,
    /// The time of the record: never before the one of the record before, whatever the clock says.
    #[n(1)]
    pub recorded: Timestamp,
}

impl State {
    /// The bundle in force.
    pub fn bundle(&self) -> &Bundle {
        &self.enforcement.bundle
    }

    /// A clock that shows less than this is not believed at a start: it lies before the last record, or before what
    /// officers accepted after the clock was set back. From then on records stand still until the clock has passed them,
    /// so the last record is no measure.
    pub fn clock_floor(&self) -> Timestamp {
        match self.clock {
            Some(clock) if clock.recorded == self.time => {
                clock.at.plus_ms(-OFFICER_AHEAD_MAX_MS).min(self.time)
            }
            Some(_) | None => self.time,
        }
    }

    /// Since when what a record of this time takes away is taken away. While records stand still because the clock was set
    /// back their time lies ahead of every decision, so it is the earliest instant that can be now.
    pub(super) fn ended_at(&self, time: Timestamp) -> Timestamp {
        if time == self.time { self.clock_floor() } else { time }
    }

    /// The revision of an object; 0 when it never was.
    pub fn revision(&self, object: &ObjectRef) -> Seq {
        self.revisions.get(object).copied().unwrap_or_default()
    }

    /// The earliest instant from which on an order keeps all records.
    pub fn records_held_since(&self) -> Option<Timestamp> {
        self.record_holds.values().map(|hold| hold.since).min()
    }

    /// The active authority of a kind.
    pub fn authority(&self, kind: AuthorityKind) -> Option<&Arc<Authority>> {
        self.authorities.values().find(|a| a.kind == kind && a.state == AuthorityState::Active)
    }

    /// The authority that an intent names.
    pub fn issuer_of(&self, intent: &Intent) -> Option<&Arc<Authority>> {
        self.issuer_named(intent.authority, intent.issuer)
    }

    /// The authority of a kind with this name; without one, that of genesis: there was no other then.
    pub fn issuer_named(&self, kind: AuthorityKind, id: Option<AuthorityId>) -> Option<&Arc<Authority>> {
        match id {
            Some(id) => self.authorities.get(&id).filter(|authority| authority.kind == kind),
            None => self.authorities.values().find(|a| a.kind == kind && a.prepared.is_none()),
        }
    }

    /// The principal of this name, unless removed.
    pub fn principal(&self, id: &PrincipalId) -> Option<&Arc<Principal>> {
        self.principals.get(id).filter(|principal| !principal.is_removed)
    }

    /// The principal of this name, unless removed, suspended or its key blocked: who may call and sign.
    pub fn acting(&self, id: &PrincipalId) -> Option<&Arc<Principal>> {
        let set = &self.enforcement;
        // Sessions ask often, and a digest costs more than to see that no key is blocked.
        let acting = self.principal(id).filter(|p| p.suspended.is_none());
        acting.filter(|p| set.keys.is_empty() || !set.is_blocked(p.key_digest()))
    }

    /// The officer of this name, if acting.
    pub fn officer(&self, id: &PrincipalId) -> Option<&Principal> {
        self.acting(id).map(AsRef::as_ref).filter(|principal| principal.kind == PrincipalKind::Officer)
    }

    /// Is this the certificate of a registered principal, with the key that is registered for it? The server's own is
    /// the last one that was issued.
    pub fn is_current(&self, certificate: &Certificate, facts: &SystemFacts) -> bool {
        let current = match facts.kind {
            PrincipalKind::Server => self
                .system_certificates
                .get(&facts.principal)
                .is_some_and(|issued| issued.hash == certificate.hash),
            PrincipalKind::Officer | PrincipalKind::Gateway | PrincipalKind::Partner => self
                .acting(&facts.principal)
                .is_some_and(|p| p.kind == facts.kind && p.key_digest() == certificate.key),
        };
        current
            && self.enforcement.is_trusted(&certificate.issuer)
            && !self.enforcement.is_blocked(certificate.key)
    }

    /// Was this certificate of a person or workload issued? An ordinal that nobody took, or that was only intended,
    /// shows that somebody else holds the key.
    pub fn is_issued(&self, certificate: &Certificate) -> bool {
        let ordinal = certificate.ordinal;
        ordinal <= self.last_ordinal && !self.gaps.contains(&ordinal) && !self.intents.contains_key(&ordinal)
    }

    /// Licences of an entity.
    pub fn licenses_of(&self, entity: EntityId) -> impl Iterator<Item = &Arc<License>> {
        self.licenses.values().filter(move |license| license.holder == entity)
    }

    /// The intents of an authority.
    pub fn intents(&self, authority: AuthorityKind) -> &OrdMap<Ordinal, Arc<(Seq, Intent)>> {
        match authority {
            AuthorityKind::Access => &self.intents,
            AuthorityKind::System => &self.system_intents,
        }
    }
}

impl View for State {
    fn position(&self) -> Position {
        self.position
    }

    fn enforcement(&self) -> &EnforcementSet {
        &self.enforcement
    }

    fn card(&self, entity: EntityId) -> CardLookup<'_> {
        self.entities.get(&entity).map_or(CardLookup::Absent, |entity| CardLookup::Known(&entity.card))
    }

    fn subject(&self, subject: SubjectId) -> SubjectLookup<'_> {
        self.subjects.get(&subject).map_or(SubjectLookup::Absent, |subject| SubjectLookup::Known(subject))
    }

    fn license(
        &self,
        entity: EntityId,
        subject: SubjectId,
        family: &[ModelId],
        place: Place,
        purpose: Option<&PurposeId>,
        now: Now,
    ) -> Option<&LicenseId> {
        self.licenses_of(entity)
            .find(|license| {
                license.covers(subject, family, place, purpose, now) && !self.owes_report(license, now)
            })
            .map(|license| &license.id)
    }
}
