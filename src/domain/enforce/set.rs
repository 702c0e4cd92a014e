//! The revocation set: everything that has been taken away, in a form that a gateway can probe in a fraction of a
//! microsecond. Cut-offs never go down, so that re-admission never un-revokes an old certificate.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use minicbor::{Decode, Encode};

use super::event::EnforcementEvent;
use super::lease::LEASE_DEFAULT_MS;
use super::ordinals::OrdinalSet;
use crate::domain::announcement::Announcement;
use crate::domain::authority::{AuthorityCard, AuthorityState};
use crate::domain::bundle::Bundle;
use crate::domain::certificate::{AccessFacts, AuthorityKind, Certificate, EntityFacts};
use crate::domain::codec::{map, rows, set, shared};
use crate::domain::decision::CredentialFault;
use crate::domain::id::{
    AnnouncementId, AuthorityId, DeterminationId, Digest, EntityId, LineageId, ModelId, Ordinal, SubjectId,
};
use crate::domain::revocation::{StopScope, SuspensionTarget};
use crate::domain::time::{Now, Timestamp};

/// What every gateway holds, the same at every gateway.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct EnforcementSet {
    /// The policy bundle in force, with all past and future instants.
    #[n(0)]
    #[cbor(with = "shared")]
    pub bundle: Arc<Bundle>,
    /// The highest ordinal that may appear in a certificate.
    #[n(1)]
    pub ceiling: Ordinal,
    /// Revoked certificates.
    #[n(2)]
    pub revoked: OrdinalSet,
    /// Certificates on hold.
    #[n(3)]
    pub held: OrdinalSet,
    /// Locked lineages.
    #[n(4)]
    #[cbor(with = "set")]
    pub locked: OrdSet<LineageId>,
    /// Cut-off by subject.
    #[n(5)]
    #[cbor(with = "map")]
    pub subjects: OrdMap<SubjectId, Ordinal>,
    /// Cut-off by entity.
    #[n(6)]
    #[cbor(with = "map")]
    pub entities: OrdMap<EntityId, Ordinal>,
    /// Authorities whose certificates are all revoked.
    #[n(7)]
    #[cbor(with = "set")]
    pub issuers: OrdSet<AuthorityId>,
    /// Stops engaged.
    #[n(8)]
    #[cbor(with = "set")]
    pub stops: OrdSet<StopScope>,
    /// Suspensions in force.
    #[n(9)]
    #[cbor(with = "set")]
    pub suspended: OrdSet<SuspensionTarget>,
    /// How long a lease is, in milliseconds.
    #[n(10)]
    pub lease_ms: u32,
    /// Cut-offs by determination.
    #[n(11)]
    #[cbor(with = "map")]
    pub determinations: OrdMap<DeterminationId, DeterminationCutoffs>,
    /// Cut-off by public key (SHA-256 of the SubjectPublicKeyInfo), which every certificate is compared with: a key may be
    /// blocked before anybody has seen it. The highest ordinal that there is blocks.
    #[n(12)]
    #[cbor(with = "map")]
    pub keys: OrdMap<Digest, Ordinal>,
    /// The authorities that are known: the trusted ones, and those that are revoked.
    #[n(13)]
    #[cbor(with = "rows")]
    pub authorities: OrdMap<AuthorityId, Arc<AuthorityCard>>,
    /// Announced revocations, whether or not their instant has come.
    #[n(21)]
    #[cbor(with = "rows")]
    pub announced: OrdMap<AnnouncementId, Arc<Announcement>>,
}

/// The cut-off of a blocked key: above every ordinal.
const BLOCKED: Ordinal = Ordinal(u64::MAX);

/// The cut-offs of certificates that state a determination.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct DeterminationCutoffs {
    /// Whatever the revision of its annex; 0: none.
    #[n(0)]
    pub all: Ordinal,
    /// By revision of its annex.
    #[n(1)]
    #[cbor(with = "map")]
    pub revisions: OrdMap<u32, Ordinal>,
}

impl DeterminationCutoffs {
    /// How many there are.
    pub fn count(&self) -> u64 {
        u64::from(self.all != Ordinal::default()) + self.revisions.len() as u64
    }

    /// The cut-off of certificates that state this revision.
    pub fn of(&self, annex_revision: Option<u32>) -> Ordinal {
        let revision = annex_revision.and_then(|revision| self.revisions.get(&revision));
        self.all.max(revision.copied().unwrap_or_default())
    }
}

/// What an access certificate is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Names<'a> {
    /// The authority.
    pub issuer: AuthorityId,
    /// Its number.
    pub ordinal: Ordinal,
    /// Whose it is.
    pub entity: EntityId,
    /// Who it names.
    pub subject: SubjectId,
    /// Its chain of renewals.
    pub lineage: LineageId,
    /// The determination that it states.
    pub determination: Option<&'a DeterminationId>,
    /// The revision of its annex that it states.
    pub annex_revision: Option<u32>,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub key: Digest,
}

impl<'a> Names<'a> {
    /// Those of a certificate.
    pub const fn of(certificate: &Certificate, facts: &'a AccessFacts) -> Self {
        Self {
            issuer: certificate.issuer,
            ordinal: certificate.ordinal,
            entity: facts.entity.entity,
            subject: facts.subject,
            lineage: facts.step.lineage,
            determination: facts.entity.determination.as_ref(),
            annex_revision: facts.entity.annex_revision,
            key: certificate.key,
        }
    }
}

impl EnforcementSet {
    /// Nothing revoked yet, under this bundle.
    pub fn new(bundle: Arc<Bundle>) -> Self {
        Self {
            bundle,
            ceiling: Ordinal::default(),
            revoked: OrdinalSet::default(),
            held: OrdinalSet::default(),
            locked: OrdSet::new(),
            subjects: OrdMap::new(),
            entities: OrdMap::new(),
            issuers: OrdSet::new(),
            stops: OrdSet::new(),
            suspended: OrdSet::new(),
            lease_ms: LEASE_DEFAULT_MS,
            determinations: OrdMap::new(),
            keys: OrdMap::new(),
            authorities: OrdMap::new(),
            announced: OrdMap::new(),
        }
    }

    /// Applies one event.
    pub fn apply(&mut self, event: &EnforcementEvent) {
        match event {
            EnforcementEvent::CertificateRevoked(ordinal) => self.revoked.insert(*ordinal),
            EnforcementEvent::RangeRevoked(range) => self.revoked.insert_range(*range),
            EnforcementEvent::LineageLocked(lineage) => drop(self.locked.insert(*lineage)),
            EnforcementEvent::SubjectsCut { subjects, cutoff } => {
                subjects.iter().for_each(|subject| raise(&mut self.subjects, *subject, *cutoff));
            }
            EnforcementEvent::EntityCut { entity, cutoff } => raise(&mut self.entities, *entity, *cutoff),
            EnforcementEvent::DeterminationCut { determination, annex_revision, cutoff } => {
                let cutoffs = self.determinations.entry(determination.clone()).or_default();
                match annex_revision {
                    None => cutoffs.all = cutoffs.all.max(*cutoff),
                    Some(revision) => raise(&mut cutoffs.revisions, *revision, *cutoff),
                }
            }
            EnforcementEvent::KeyBlocked(key) => drop(self.keys.insert(*key, BLOCKED)),
            // The only cut-off that goes down: to what was issued so far, so that none of that comes back.
            EnforcementEvent::KeyUnblocked { key, cutoff } => drop(self.keys.insert(*key, *cutoff)),
            EnforcementEvent::IssuerRevoked(authority) => {
                self.issuers.insert(*authority);
                if let Some(card) = self.authorities.get_mut(authority) {
                    Arc::make_mut(card).state = AuthorityState::Revoked;
                }
            }
            EnforcementEvent::Stopped(scope) => drop(self.stops.insert(scope.clone())),
            EnforcementEvent::StopReleased(scope) => drop(self.stops.remove(scope)),
            EnforcementEvent::Suspended(target) => drop(self.suspended.insert(*target)),
            EnforcementEvent::Unsuspended(target) => drop(self.suspended.remove(target)),
            EnforcementEvent::Held(ordinal) => self.held.insert(*ordinal),
            EnforcementEvent::HoldReleased(ordinal) => self.held.remove(*ordinal),
            EnforcementEvent::CeilingRaised(ordinal) => self.ceiling = self.ceiling.max(*ordinal),
            EnforcementEvent::PolicyAdopted(bundle) => self.bundle = Arc::clone(bundle),
            EnforcementEvent::AuthorityListed(card) => {
                // Whoever revoked it once will not see it come back.
                if !self.issuers.contains(&card.id) {
                    self.authorities.insert(card.id, Arc::clone(card));
                }
            }
            EnforcementEvent::AuthorityDropped(authority) => drop(self.authorities.remove(authority)),
            EnforcementEvent::RevocationAnnounced(announcement) => self.announce(announcement),
            EnforcementEvent::RevocationPostponed { announcement, cut_at } => {
                self.postpone(*announcement, *cut_at);
            }
            // Nobody is denied anything by a drill.
            EnforcementEvent::Drilled(_) => {}
        }
    }

    fn announce(&mut self, new: &Arc<Announcement>) {
        let held = self.announced.entry(new.id).or_insert_with(|| Arc::clone(new));
        if new.cut_at < held.cut_at {
            Arc::make_mut(held).cut_at = new.cut_at;
        }
    }

    fn postpone(&mut self, announcement: AnnouncementId, cut_at: Option<Timestamp>) {
        match (self.announced.get_mut(&announcement), cut_at) {
            (Some(held), Some(cut_at)) => Arc::make_mut(held).cut_at = cut_at,
            (Some(_), None) => drop(self.announced.remove(&announcement)),
            (None, _) => {}
        }
    }

    /// The announcements that reach a certificate, whether or not their instant has come.
    pub fn announcements<'a>(&'a self, names: &'a Names<'_>) -> impl Iterator<Item = &'a Arc<Announcement>> {
        self.announced.values().filter(|announced| announced.reaches(names))
    }

    /// Was this certificate revoked by an announcement whose instant has come?
    fn is_cut(&self, names: &Names<'_>, now: Now) -> bool {
        !self.announced.is_empty() && self.announcements(names).any(|announced| announced.is_cut(now))
    }

    /// The next instant after this one at which something that was announced is cut.
    pub fn next_cut_after(&self, at: Timestamp) -> Option<Timestamp> {
        self.announced.values().map(|announced| announced.cut_at).filter(|cut_at| *cut_at > at).min()
    }

    /// The authorities of a kind whose certificates are good, in the order of their ids.
    pub fn trusted(&self, kind: AuthorityKind) -> impl Iterator<Item = &Arc<AuthorityCard>> {
        self.authorities.values().filter(move |card| card.kind == kind && card.state.is_trusted())
    }

    /// Is this authority trusted?
    pub fn is_trusted(&self, authority: &AuthorityId) -> bool {
        self.authorities.get(authority).is_some_and(|card| card.state.is_trusted())
    }

    /// What is wrong with a certificate by this set alone. Probed on every call; nothing of it is cached.
    pub fn credential_fault(
        &self,
        certificate: &Certificate,
        facts: &AccessFacts,
        now: Now,
    ) -> Option<CredentialFault> {
        self.fault_of(&Names::of(certificate, facts), now)
    }

    /// The same for a certificate that is known by its row.
    pub fn fault_of(&self, names: &Names<'_>, now: Now) -> Option<CredentialFault> {
        let Names { issuer, ordinal, entity, subject, lineage, determination, annex_revision, key } = *names;
        let cutoff = self.highest_cutoff(entity, subject, determination.map(|id| (id, annex_revision)));
        let cutoff = cutoff.max(self.key_cutoff(key));
        if !self.authorities.contains_key(&issuer) {
            Some(CredentialFault::Invalid)
        } else if ordinal > self.ceiling || ordinal == Ordinal::default() {
            Some(CredentialFault::NotIssued)
        } else if self.issuers.contains(&issuer)
            || ordinal <= cutoff
            || self.revoked.contains(ordinal)
            || self.is_cut(names, now)
        {
            Some(CredentialFault::Revoked)
        } else if self.locked.contains(&lineage) {
            Some(CredentialFault::LineageLocked)
        } else if self.held.contains(ordinal) {
            Some(CredentialFault::Held)
        } else {
            None
        }
    }

    /// The cut-off of the certificates of a public key.
    pub fn key_cutoff(&self, key: Digest) -> Ordinal {
        self.keys.get(&key).copied().unwrap_or_default()
    }

    /// Is every certificate of this public key refused, whenever it is issued?
    pub fn is_blocked(&self, key: Digest) -> bool {
        self.key_cutoff(key) == BLOCKED
    }

    /// The public keys that are blocked.
    pub fn blocked_keys(&self) -> impl Iterator<Item = Digest> {
        self.keys.iter().filter(|(_, cutoff)| **cutoff == BLOCKED).map(|(key, _)| *key)
    }

    /// Does a stop reach this access?
    pub fn is_stopped(
        &self,
        family: Option<&[ModelId]>,
        certificate: Option<(&Certificate, &AccessFacts)>,
    ) -> bool {
        if self.stops.is_empty() {
            return false;
        }
        self.stops.iter().any(|scope| match scope {
            StopScope::All => true,
            StopScope::Model(model) => family.is_some_and(|family| family.contains(model)),
            StopScope::Entity(entity) => certificate.is_some_and(|(_, facts)| facts.entity.entity == *entity),
            StopScope::Subject(subject) => certificate.is_some_and(|(_, facts)| facts.subject == *subject),
            StopScope::Issuer(authority) => certificate.is_some_and(|(c, _)| c.issuer == *authority),
        })
    }

    /// Does a stop reach every access with this certificate, whatever the model?
    pub fn is_barred(&self, names: &Names<'_>) -> bool {
        let scopes = [
            StopScope::All,
            StopScope::Entity(names.entity),
            StopScope::Subject(names.subject),
            StopScope::Issuer(names.issuer),
        ];
        !self.stops.is_empty() && scopes.iter().any(|scope| self.stops.contains(scope))
    }

    /// Is the entity or the subject suspended?
    pub fn is_suspended(&self, entity: EntityId, subject: SubjectId) -> bool {
        !self.suspended.is_empty()
            && (self.suspended.contains(&SuspensionTarget::Entity(entity))
                || self.suspended.contains(&SuspensionTarget::Subject(subject)))
    }

    /// The cut-off that a new certificate with these facts must lie above.
    pub fn cutoff(&self, facts: &AccessFacts) -> Ordinal {
        let EntityFacts { entity, annex_revision, ref determination, .. } = facts.entity;
        let determination = determination.as_ref().map(|id| (id, annex_revision));
        self.highest_cutoff(entity, facts.subject, determination)
    }

    fn highest_cutoff(
        &self,
        entity: EntityId,
        subject: SubjectId,
        determination: Option<(&DeterminationId, Option<u32>)>,
    ) -> Ordinal {
        let entity = self.entities.get(&entity).copied().unwrap_or_default();
        let subject = self.subjects.get(&subject).copied().unwrap_or_default();
        let cutoffs =
            determination.and_then(|(id, revision)| Some(self.determinations.get(id)?.of(revision)));
        entity.max(subject).max(cutoffs.unwrap_or_default())
    }
}

fn raise<K: Ord + Clone>(cutoffs: &mut OrdMap<K, Ordinal>, key: K, cutoff: Ordinal) {
    let entry = cutoffs.entry(key).or_default();
    *entry = (*entry).max(cutoff);
}
