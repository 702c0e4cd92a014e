//! `apply`: what a record does to State. Pure, and it refuses a record whose signatures do not carry it, so that
//! neither start-up nor `journal verify` can be fed a loosening nobody signed.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use thiserror::Error;

use super::causes::{Causes, RevocationCause, reason_of};
use super::tables::{Canary, Issued, KeyHolder, Lineage, Settings, Token};
use super::{REQUESTS_MAX, Remembered, Rotations, State};
use crate::domain::algorithm::AlgorithmProfile;
use crate::domain::approval::{Approval, ApprovalFault, GENESIS_PREFIX, Mandate, SignedMandate, verify};
use crate::domain::bundle::Bundle;
use crate::domain::certificate::{AuthorityKind, Facts, PrincipalKind, TTL_MAX_S};
use crate::domain::codec::from_bytes;
use crate::domain::command::{Command, NewPrincipal, ObjectRef};
use crate::domain::drill::Drills;
use crate::domain::enforce::{EnforcementEvent, EnforcementSet, LEASE_MAX_MS, Position};
use crate::domain::entity::{Entity, EntityCard, EntityStatus};
use crate::domain::event::{Cause, Entry, Event, Genesis, Intent, NewEntity};
use crate::domain::id::{Digest, EntityId, Epoch, Ordinal, PrincipalId, Seq, SubjectId};
use crate::domain::person::Relation;
use crate::domain::principal::{Principal, Role};
use crate::domain::root::ROOTS_MAX;
use crate::domain::subject::{Subject, SubjectBody, SubjectStatus};
use crate::domain::time::Timestamp;

/// Why a record cannot be applied: the journal was written by something else, or altered.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("record {seq}: {why}")]
pub struct ApplyFault {
    /// Which record.
    pub seq: Seq,
    /// What is wrong.
    pub why: String,
}

/// What a record changed for gateways.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Applied {
    /// Events for every gateway.
    pub events: Vec<EnforcementEvent>,
    /// Entities whose card changed.
    pub cards: Vec<EntityId>,
}

impl Applied {
    pub(super) fn event(event: EnforcementEvent) -> Self {
        Self { events: vec![event], cards: Vec::new() }
    }

    pub(super) fn card(entity: EntityId) -> Self {
        Self { events: Vec::new(), cards: vec![entity] }
    }
}

/// An entry that may follow a state: the signatures of its mandate are verified, once.
#[derive(Debug)]
pub struct Admitted<'a> {
    entry: &'a Entry,
    mandate: Option<Mandate>,
    after: Seq,
}

impl<'a> Admitted<'a> {
    /// Only for `flow::admit`, which has checked it against this state.
    pub(in crate::domain) const fn new(state: &State, entry: &'a Entry, mandate: Option<Mandate>) -> Self {
        Self { entry, mandate, after: state.position.seq }
    }

    /// The command that its officers signed.
    pub fn command(&self) -> Option<&Command> {
        self.mandate.as_ref().map(|mandate| &mandate.command)
    }
}

impl State {
    /// The state after genesis, the first record of a journal.
    ///
    /// # Errors
    /// A record that is not genesis, or one that its officers did not sign.
    pub fn genesis(epoch: Epoch, time: Timestamp, entry: &Entry) -> Result<Self, ApplyFault> {
        let seq = Seq(1);
        let fault = |why: String| ApplyFault { seq, why };
        let Event::Genesis { bytes, approvals } = &entry.event else {
            return Err(fault("the first record is not genesis".to_owned()));
        };
        let genesis: Genesis = from_bytes(bytes).map_err(|e| fault(format!("not a genesis: {e}")))?;
        check_signed(&genesis, bytes, approvals).map_err(fault)?;
        check_genesis(&genesis).map_err(fault)?;
        let enforcement = first_enforcement(&genesis).map_err(fault)?;
        let mut state = Self {
            position: Position { epoch, seq },
            time,
            settings: Arc::new(Settings::from(&genesis)),
            enforcement: Arc::new(enforcement),
            feed_digest: Digest::of(bytes),
            feed_seq: seq,
            entities: OrdMap::new(),
            subjects: OrdMap::new(),
            tokens: OrdMap::new(),
            lineages: OrdMap::new(),
            principals: OrdMap::new(),
            authorities: genesis.authorities.iter().map(|a| (a.id, Arc::new(a.clone()))).collect(),
            proposals: OrdMap::new(),
            licenses: OrdMap::new(),
            annexes: OrdMap::new(),
            revisions: OrdMap::new(),
            intents: OrdMap::new(),
            system_intents: OrdMap::new(),
            last_ordinal: Ordinal::default(),
            gaps: OrdSet::new(),
            opened: Ordinal::default(),
            last_system_ordinal: Ordinal::default(),
            requests: OrdMap::new(),
            request_order: OrdMap::new(),
            system_certificates: OrdMap::new(),
            keys: OrdMap::new(),
            clock: None,
            causes: Causes::default(),
            canaries: OrdMap::new(),
            restore: None,
            roots: genesis.roots.iter().flatten().map(|root| (root.id, Arc::new(root.clone()))).collect(),
            cross_certificates: OrdMap::new(),
            rotations: Rotations::since(genesis.authorities.iter().map(|a| a.id), time),
            announcements: OrdMap::new(),
            closed: OrdMap::new(),
            recovery: genesis.recovery.clone(),
            recoveries: OrdMap::new(),
            reviews: OrdMap::new(),
            drills: Drills::default(),
            screening_list: None,
            screenings: OrdMap::new(),
            remembered: Remembered::default(),
            references: OrdMap::new(),
            filed: OrdMap::new(),
            checklist: Vec::new(),
            safeguards: OrdMap::new(),
            corrections: OrdMap::new(),
            nominators: OrdMap::new(),
            record_holds: OrdMap::new(),
        };
        genesis.officers.iter().for_each(|officer| state.put_principal(officer.clone(), seq));
        state.put_entity(&genesis.provider, true, seq);
        Ok(state)
    }

    /// Applies one record.
    ///
    /// # Errors
    /// A record out of order, one that contradicts the state, or one whose signatures do not carry it.
    pub fn apply(&mut self, seq: Seq, time: Timestamp, entry: &Entry) -> Result<Applied, ApplyFault> {
        let fault = |why: String| ApplyFault { seq, why };
        if seq != self.position.seq.next() {
            return Err(fault(format!("it follows record {}", self.position.seq)));
        }
        let mandate = self.mandate_of(&entry.event).map_err(fault)?;
        self.fold(seq, time, entry, mandate)
    }

    /// Applies an entry that was admitted after this state's last record.
    ///
    /// # Errors
    /// The state moved since, or the entry contradicts it.
    pub fn apply_admitted(&mut self, time: Timestamp, admitted: Admitted<'_>) -> Result<Applied, ApplyFault> {
        let seq = self.position.seq.next();
        if admitted.after != self.position.seq {
            return Err(ApplyFault { seq, why: format!("it was admitted after record {}", admitted.after) });
        }
        self.fold(seq, time, admitted.entry, admitted.mandate)
    }

    /// What an entry does whose signatures are verified.
    fn fold(
        &mut self,
        seq: Seq,
        time: Timestamp,
        entry: &Entry,
        mandate: Option<Mandate>,
    ) -> Result<Applied, ApplyFault> {
        let fault = |why: String| ApplyFault { seq, why };
        let applied = self.apply_event(seq, time, entry, mandate.as_ref()).map_err(fault)?;
        if let Some(request) = entry.request {
            self.requests.insert(request, seq);
            self.request_order.insert(seq, request);
            if self.requests.len() > REQUESTS_MAX
                && let Some((oldest, request)) = self.request_order.get_min().cloned()
            {
                self.request_order.remove(&oldest);
                self.requests.remove(&request);
            }
        }
        if !applied.events.is_empty() {
            let command = mandate.as_ref().map(|mandate| &mandate.command);
            let set = Arc::make_mut(&mut self.enforcement);
            for event in &applied.events {
                set.apply(event);
                let reason = reason_of(&entry.event, command, event);
                self.causes.note(event, RevocationCause { at: time, reason });
                self.feed_digest = crate::domain::enforce::chain(self.feed_digest, seq, event);
            }
            self.feed_seq = seq;
        }
        // Behind the events: a key is blocked by one.
        if let Event::Enacted { signed, .. } = &entry.event {
            self.settle_approvals(seq, signed);
        }
        self.position.seq = seq;
        self.time = time;
        Ok(applied)
    }

    fn apply_event(
        &mut self,
        seq: Seq,
        time: Timestamp,
        entry: &Entry,
        mandate: Option<&Mandate>,
    ) -> Result<Applied, String> {
        let event = |event| Ok(Applied::event(event));
        match &entry.event {
            Event::Genesis { .. } => return Err("genesis is not the first record".to_owned()),
            waiting @ (Event::Proposed { .. }
            | Event::ProposalWithdrawn(_)
            | Event::ProposalRejected { .. }
            | Event::RecoveryAnnounced { .. }
            | Event::RecoveryTookEffect(_)
            | Event::ProposalLapsed { .. }) => {
                self.propose_or_close((seq, time), waiting, mandate, entry.by.as_ref())?
            }
            Event::Enacted { signed, proposal } => {
                let mandate = mandate.ok_or("its signatures were not verified")?;
                self.check_enactment(signed, mandate)?;
                if let Some(id) = proposal {
                    self.close_enacted(*id, signed, (entry.by.as_ref(), seq))?;
                }
                self.open_review((seq, time), signed, (mandate, entry.by.as_ref()));
                return self.enact(seq, time, &mandate.command);
            }
            Event::EntityApplied(new) => {
                self.put_entity(new, false, seq);
                return Ok(Applied::card(new.id));
            }
            nominated @ Event::SubjectNominated { .. } => self.nominate(nominated, entry.by.as_ref(), seq),
            Event::RelationAttested { subject, relation, until } => {
                return self.attest((seq, time), *subject, (*relation, *until));
            }
            created @ Event::TokenCreated { .. } => self.put_token(created),
            Event::IssuanceIntended(intent) => self.intend(seq, intent)?,
            Event::CertificateIssued { authority, ordinal, hash, .. } => {
                self.complete(seq, *authority, *ordinal, *hash)?;
            }
            Event::LineageLocked(lineage) => return event(EnforcementEvent::LineageLocked(*lineage)),
            Event::CeilingAnnounced(ordinal) => return event(EnforcementEvent::CeilingRaised(*ordinal)),
            Event::BlockOpened(ordinal) => self.opened = self.opened.max(*ordinal),
            compared @ Event::EntityScreened { .. } => return self.screen(seq, compared),
            Event::Restored => return self.begin_after_backup(seq, time),
            Event::RestrictionsCollected { gateway, upto, events } => {
                return self.collect((gateway, *upto), (seq, time), events);
            }
            Event::RotationStepped { .. } | Event::RotationFailed { .. } => {
                return self.apply_rotation((seq, time), &entry.event);
            }
            Event::AnnouncementPassed(id) => self.note_passed((seq, time), *id)?,
            Event::BarrierFinished { at, outcome } => self.drills.end(*at, seq, outcome),
            Event::ServerStarted { .. }
            | Event::InstantPassed(_)
            | Event::SnapshotTaken { .. }
            | Event::CallsSealed(_)
            | Event::DecisionsSealed(_)
            | Event::DecisionsRemoved(_) => {}
        }
        Ok(Applied::default())
    }

    fn put_token(&mut self, created: &Event) {
        if let Event::TokenCreated { id, secret, subject, expires_at } = *created {
            let token = Token { id, secret, subject, expires_at, redeemed: None };
            self.tokens.insert(id, Arc::new(token));
        }
    }

    fn check_enactment(&self, signed: &SignedMandate, mandate: &Mandate) -> Result<(), String> {
        signed.check_count(&mandate.command).map_err(|e| e.to_string())?;
        let signers = signed.approvals.iter().map(|approval| &approval.officer);
        if let Some(why) = self.party_fault(&mandate.command, signers) {
            return Err(why);
        }
        if let Some(why) = self.spent_fault(signed, mandate) {
            return Err(why.to_owned());
        }
        if mandate.command.is_restricting() {
            return Ok(());
        }
        // Without this an old approval could be carried out again by whoever can write to the journal.
        mandate.check_basis(|object| self.revision(object)).map_err(|e| e.to_string())?;
        match self.predates_restore(mandate) {
            true => Err("it was prepared before the record was restored".to_owned()),
            false => Ok(()),
        }
    }

    fn mandate_of(&self, event: &Event) -> Result<Option<Mandate>, String> {
        match event {
            Event::Proposed { signed, .. } | Event::Enacted { signed, .. } => {
                self.check_signatures(signed).map(Some).map_err(|e| e.to_string())
            }
            Event::RecoveryAnnounced { signed, .. } if self.is_rejected(signed) => {
                Err("an officer rejected exactly this recovery".to_owned())
            }
            Event::RecoveryAnnounced { signed, .. } => {
                self.check_recovery(signed).map(|(mandate, _)| Some(mandate)).map_err(|e| e.to_string())
            }
            _ => Ok(None),
        }
    }

    fn check_signatures(&self, signed: &SignedMandate) -> Result<Mandate, ApprovalFault> {
        let mandate = signed.mandate(&self.settings.trust_domain)?;
        signed.check_signatures(&mandate.command, |id| self.officer(id))?;
        Ok(mandate)
    }

    pub(super) fn put_principal(&mut self, new: NewPrincipal, seq: Seq) {
        self.touch(ObjectRef::Principal(new.id.clone()), seq);
        let principal = Principal {
            id: new.id.clone(),
            kind: new.kind,
            roles: new.roles,
            entity: new.entity,
            key: new.key,
            is_pausable: new.is_pausable,
            is_removed: false,
            suspended: None,
            revision: seq,
        };
        self.keys.insert(principal.key_digest(), KeyHolder::Principal(new.id.clone()));
        self.principals.insert(new.id, Arc::new(principal));
    }

    fn put_entity(&mut self, new: &NewEntity, is_provider: bool, seq: Seq) {
        let card = EntityCard {
            id: new.id,
            revision: seq,
            is_provider,
            memberships: Vec::new(),
            org: new.org,
            seat: new.seat,
            is_active: is_provider,
            grants: Vec::new(),
            screening: None,
            safeguards_until: None,
            reverify_due: None,
            mi_flag: false,
            has_licenses: false,
        };
        let status = if is_provider { EntityStatus::Active } else { EntityStatus::Applicant };
        let entity = Entity { card, kind: new.kind, name: new.name.clone(), status };
        self.entities.insert(new.id, Arc::new(entity));
        self.touch(ObjectRef::Entity(new.id), seq);
    }

    fn nominate(&mut self, event: &Event, by: Option<&PrincipalId>, seq: Seq) {
        let Event::SubjectNominated { id, entity, body, reference } = event else { return };
        let (id, entity) = (*id, *entity);
        self.nominators.extend(by.filter(|by| self.officer(by).is_some()).map(|by| (id, by.clone())));
        self.references.extend(reference.map(|reference| (reference, id)));
        let subject = Subject {
            id,
            entity,
            body: body.clone(),
            status: SubjectStatus::Nominated,
            reverify_due: None,
            revision: seq,
        };
        self.subjects.insert(id, Arc::new(subject));
        self.touch(ObjectRef::Subject(id), seq);
    }

    fn attest(
        &mut self,
        (seq, time): (Seq, Timestamp),
        subject: SubjectId,
        (relation, until): (Relation, Option<Timestamp>),
    ) -> Result<Applied, String> {
        self.change_subject(subject, seq, time, |subject| {
            if let SubjectBody::Human(employment) = &mut subject.body {
                employment.relation = relation;
                employment.relation_until = until;
            }
        })
    }

    pub(super) fn touch(&mut self, object: ObjectRef, seq: Seq) {
        self.revisions.insert(object, seq);
    }

    fn intend(&mut self, seq: Seq, intent: &Intent) -> Result<(), String> {
        if !intent.is_coherent() {
            return Err("it states what the other authority states".to_owned());
        }
        let issuer = self.issuer_of(intent).ok_or("it is of an authority that is not on record")?.id;
        if let Some(issuer) = self.authorities.get_mut(&issuer) {
            let issuer = Arc::make_mut(issuer);
            issuer.issued_until = issuer.issued_until.max(Some(intent.not_after));
        }
        let row = Arc::new((seq, intent.clone()));
        match intent.authority {
            AuthorityKind::Access => {
                self.take_ordinal(intent.ordinal)?;
                self.intents.insert(intent.ordinal, row);
                if let (Cause::Enroll(id), Facts::Access(facts)) = (&intent.cause, &intent.facts) {
                    let token = self.tokens.get_mut(id).ok_or("it redeems a token that is not on record")?;
                    Arc::make_mut(token).redeemed = Some((intent.key, facts.step.lineage));
                }
            }
            AuthorityKind::System => {
                if intent.ordinal != Ordinal(self.last_system_ordinal.0 + 1) {
                    return Err("its ordinal is not the next one of the system authority".to_owned());
                }
                self.last_system_ordinal = intent.ordinal;
                self.system_intents.insert(intent.ordinal, row);
            }
        }
        Ok(())
    }

    /// Requests take ordinals before they reach the writer, so records arrive slightly out of order; none is used twice.
    fn take_ordinal(&mut self, ordinal: Ordinal) -> Result<(), String> {
        if ordinal > self.last_ordinal {
            self.gaps.extend((self.last_ordinal.0 + 1..ordinal.0).map(Ordinal));
            self.last_ordinal = ordinal;
            Ok(())
        } else if self.gaps.remove(&ordinal).is_some() {
            Ok(())
        } else {
            Err(format!("ordinal {ordinal} was used before"))
        }
    }

    fn complete(
        &mut self,
        seq: Seq,
        authority: AuthorityKind,
        ordinal: Ordinal,
        hash: Digest,
    ) -> Result<(), String> {
        let intents = match authority {
            AuthorityKind::Access => &mut self.intents,
            AuthorityKind::System => &mut self.system_intents,
        };
        let row = intents.remove(&ordinal).ok_or("it issues a certificate that was not intended")?;
        let (intended, intent) = row.as_ref();
        let issuer = self.issuer_of(intent).ok_or("it is of an authority that is not on record")?.id;
        let issued = |generation| Issued {
            generation,
            ordinal,
            key: intent.key,
            hash,
            intended: *intended,
            issued: seq,
            not_after: intent.not_after,
            issuer,
        };
        match &intent.facts {
            Facts::Access(facts) => {
                let lineage = Lineage { subject: facts.subject, last: issued(facts.step.generation) };
                self.keys.insert(lineage.last.key, KeyHolder::Lineage(facts.step.lineage));
                if let Some(before) = self.lineages.insert(facts.step.lineage, Arc::new(lineage)) {
                    self.keys.remove(&before.last.key);
                }
            }
            Facts::System(facts) => {
                let generation =
                    self.system_certificates.get(&facts.principal).map_or(1, |last| last.generation + 1);
                self.system_certificates.insert(facts.principal.clone(), issued(generation));
            }
            Facts::Canary(facts) => {
                let generation = self.canaries.get(facts).map_or(1, |last| last.issued.generation + 1);
                let canary = Canary { serial: intent.serial, issued: issued(generation) };
                self.keys.insert(intent.key, KeyHolder::Canary(facts.gateway.clone()));
                if let Some(before) = self.canaries.insert(facts.clone(), canary) {
                    self.keys.remove(&before.issued.key);
                }
            }
        }
        Ok(())
    }
}

/// Both officers signed these bytes.
fn check_signed(genesis: &Genesis, bytes: &[u8], approvals: &[Approval]) -> Result<(), String> {
    let is_signed = |officer: &&NewPrincipal| {
        let mut own = approvals.iter().filter(|approval| approval.officer == officer.id);
        own.any(|approval| verify(&officer.key, GENESIS_PREFIX, bytes, &approval.signature).is_ok())
    };
    match genesis.officers.iter().find(|officer| !is_signed(officer)) {
        None => Ok(()),
        Some(officer) => Err(format!("genesis is not signed by {}", officer.id)),
    }
}

/// Genesis has two officers with different names and keys, who can each approve what the other proposed, one authority
/// of each kind, and settings under the ceilings of the code.
fn check_genesis(genesis: &Genesis) -> Result<(), String> {
    let [a, b] = genesis.officers.as_slice() else {
        return Err("genesis needs two officers with different names and keys".to_owned());
    };
    if a.id == b.id || a.key == b.key {
        return Err("genesis needs two officers with different names and keys".to_owned());
    }
    for officer in [a, b] {
        if officer.kind != PrincipalKind::Officer {
            return Err("a principal of genesis is not an officer".to_owned());
        }
        if !officer.roles.contains(&Role::Approver) {
            return Err("an officer of genesis cannot approve".to_owned());
        }
    }
    let count = |kind| genesis.authorities.iter().filter(|authority| authority.kind == kind).count();
    if (count(AuthorityKind::Access), count(AuthorityKind::System)) != (1, 1) {
        return Err("genesis needs one access and one system authority".to_owned());
    }
    check_hierarchy(genesis)?;
    check_keys(genesis)?;
    if !(1..=LEASE_MAX_MS).contains(&genesis.lease_ms) {
        return Err(format!("a lease lasts 1 to {LEASE_MAX_MS} ms"));
    }
    if !(1..=TTL_MAX_S).contains(&genesis.ttl_s) {
        return Err(format!("certificates live 1 to {TTL_MAX_S} s"));
    }
    if let Some(recovery) = &genesis.recovery {
        recovery.check(&genesis.officers)?;
    }
    if genesis.log_key.len() != 32 {
        return Err("the log key is no Ed25519 key of 32 bytes".to_owned());
    }
    Ok(())
}

/// The keys of genesis are of its profile. Those of authorities are in certificates, which whoever starts a service reads.
fn check_keys(genesis: &Genesis) -> Result<(), String> {
    let algorithms = genesis.algorithms.unwrap_or(AlgorithmProfile::Standard);
    if let Some(officer) = genesis.officers.iter().find(|officer| !algorithms.accepts(&officer.key)) {
        return Err(format!("the key of {}: {}", officer.id, algorithms.remedy()));
    }
    let mut recovery = genesis.recovery.iter().flat_map(|recovery| &recovery.keys);
    match recovery.find(|key| !algorithms.accepts(&key.0)) {
        Some(_) => Err(format!("a recovery key: {}", algorithms.remedy())),
        None => Ok(()),
    }
}

/// Authorities of genesis are self-signed, or stand beneath a root of genesis that has not revoked them and outlives them.
fn check_hierarchy(genesis: &Genesis) -> Result<(), String> {
    let roots = genesis.roots.as_deref().unwrap_or_default();
    if roots.len() > ROOTS_MAX {
        return Err(format!("genesis has at most {ROOTS_MAX} roots"));
    }
    for authority in &genesis.authorities {
        let Some(beneath) = authority.beneath else { continue };
        let root = roots.iter().find(|root| root.id == beneath.root);
        let root = root.ok_or_else(|| format!("the root of authority {} is not in genesis", authority.id))?;
        if root.list.revokes(beneath.serial) || authority.not_after > root.not_after {
            return Err(format!("authority {} is revoked by its root, or outlives it", authority.id));
        }
    }
    Ok(())
}

/// What is enforced from genesis on.
fn first_enforcement(genesis: &Genesis) -> Result<EnforcementSet, String> {
    let bundle = Bundle::new(genesis.bundle.clone()).map_err(|e| e.to_string())?;
    let mut enforcement = EnforcementSet::new(Arc::new(bundle));
    enforcement.lease_ms = genesis.lease_ms;
    enforcement.authorities = genesis.authorities.iter().map(|a| (a.id, Arc::new(a.card()))).collect();
    Ok(enforcement)
}
