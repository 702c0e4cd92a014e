//! A world: a State with its journal and a gateway that follows it, driven only through `admit` and `apply`.

use std::sync::Arc;

use super::fixtures::*;
use crate::domain::approval::{GENESIS_PREFIX, SignedMandate};
use crate::domain::certificate::{AuthorityKind, Certificate, Facts, LineageStep, Serial};
use crate::domain::codec::to_bytes;
use crate::domain::command::{Command, SubjectDecision};
use crate::domain::decision::Decision;
use crate::domain::enforce::{Chain, EnforcementEvent, GateView, Request, decide};
use crate::domain::entity::{EntityCard, Organisation, Screening, ScreeningResult};
use crate::domain::event::{Cause, Entry, Event, Intent};
use crate::domain::flow::{Reject, admit, certifiable, mandate_for};
use crate::domain::grant::Grant;
use crate::domain::id::{
    Digest, EntityId, Epoch, GrantId, LineageId, Ordinal, PersonId, ProposalId, Seq, SubjectId, TokenId,
};
use crate::domain::model::AccessForm;
use crate::domain::person::{Assurance, EvidenceKind, PersonStatus, Relation};
use crate::domain::policy::Place;
use crate::domain::state::{Applied, State};
use crate::domain::subject::{Employment, SubjectBody, Vetting, Workload};
use crate::domain::time::{Now, Timestamp};

/// When genesis is made: before every regime.
pub(crate) const GENESIS_AT: &str = "2026-06-01T09:00:00Z";
/// A day in milliseconds.
pub(crate) const DAY_MS: i64 = 86_400_000;
pub(crate) const EMPLOYEE: Relation = Relation::Employee;
pub(crate) const US: PersonStatus = PersonStatus::UsPerson;
pub(crate) const FOREIGN: PersonStatus = PersonStatus::ForeignPerson;

#[derive(Clone)]
pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) gate: GateView,
    pub(crate) log: Vec<(Seq, Timestamp, Entry)>,
    pub(crate) now: Timestamp,
    made: u32,
}

/// What every gateway holds of a state, without a card.
pub(crate) fn project(state: &State) -> GateView {
    GateView {
        position: state.position,
        digest: state.feed_digest,
        enforcement: Arc::clone(&state.enforcement),
        cards: imbl::OrdMap::new(),
    }
}

/// The same with every card.
pub(crate) fn project_all(state: &State) -> GateView {
    let mut view = project(state);
    for (id, entity) in &state.entities {
        view.take_card(*id, Some(Arc::new(entity.card.clone())));
    }
    view
}

/// The card that genesis gives the provider: a card to vary.
pub(crate) fn card(entity: EntityId) -> EntityCard {
    EntityCard { id: entity, ..World::new().state.entities[&PROVIDER].card.clone() }
}

pub(crate) fn genesis_entry(bytes: Vec<u8>, signers: &[&Officer]) -> Entry {
    let approvals = signers.iter().map(|officer| officer.sign(GENESIS_PREFIX, &bytes)).collect();
    Entry { event: Event::Genesis { bytes, approvals }, by: None, request: None }
}

pub(crate) fn entry(event: Event) -> Entry {
    Entry { event, by: Some(alice().id.clone()), request: None }
}

pub(crate) fn inference(model: &str) -> Request<'_> {
    Request {
        model,
        form: AccessForm::Inference,
        place: Place::Us,
        serving: Place::Us,
        purpose: None,
        chain: Chain::default(),
    }
}

impl World {
    /// After genesis, with ten thousand ordinals open.
    pub(crate) fn new() -> Self {
        let now = at(GENESIS_AT);
        let genesis = genesis_entry(to_bytes(&genesis()), &[alice(), bob()]);
        let state = State::genesis(Epoch(1), now, &genesis).unwrap();
        let gate = project_all(&state);
        let mut world = Self { state, gate, log: vec![(Seq(1), now, genesis)], now, made: 10 };
        world.record(entry(Event::CeilingAnnounced(Ordinal(10_000)))).unwrap();
        world.record(entry(Event::BlockOpened(Ordinal(10_000)))).unwrap();
        world.screen(PROVIDER);
        world.go(Command::GrantModel { entity: PROVIDER, grant: grant(9, "mythos-5") });
        world
    }

    /// The same with one active member of the annex, at noon of June 27.
    pub(crate) fn with_member() -> (Self, EntityId) {
        let mut world = Self::new();
        world.now = at("2026-06-26T22:30:00Z");
        let member = world.partner(Organisation::Us);
        world.list(&[member]);
        world.now = at(R2);
        world.screen(PROVIDER);
        (world, member)
    }

    fn fresh(&mut self) -> [u8; 16] {
        self.made += 1;
        let mut bytes = [0x5a; 16];
        bytes[..4].copy_from_slice(&self.made.to_be_bytes());
        bytes
    }

    /// Admits an entry, applies it, and keeps journal and gateway in step.
    pub(crate) fn record(&mut self, entry: Entry) -> Result<Applied, Reject> {
        let admitted = admit(&self.state, &entry, self.now)?;
        let seq = self.state.position.seq.next();
        let mut live = self.state.clone();
        live.apply_admitted(self.now, admitted).unwrap();
        let applied = self.state.apply(seq, self.now, &entry).unwrap();
        assert_eq!(live, self.state, "what was admitted gives what a replay gives");
        self.gate.apply(seq, &applied.events);
        self.gate.position = self.state.position;
        for id in &applied.cards {
            let card = self.state.entities.get(id).map(|entity| Arc::new(entity.card.clone()));
            self.gate.take_card(*id, card);
        }
        self.log.push((seq, self.now, entry));
        Ok(applied)
    }

    pub(crate) fn mandate(&self, command: Command, signers: &[&Officer]) -> SignedMandate {
        signed(&mandate_for(&self.state, command, self.now), signers)
    }

    pub(crate) fn enact(&mut self, command: Command, signers: &[&Officer]) -> Result<Applied, Reject> {
        let signed = self.mandate(command, signers);
        self.record(entry(Event::Enacted { signed, proposal: None }))
    }

    /// Enacts with as many signatures as the command needs.
    pub(crate) fn try_go(&mut self, command: Command) -> Result<Applied, Reject> {
        let signers = [alice(), bob()];
        let count = command.signers().count;
        self.enact(command, &signers[..count])
    }

    pub(crate) fn go(&mut self, command: Command) -> Vec<EnforcementEvent> {
        self.try_go(command).unwrap().events
    }

    pub(crate) fn propose(&mut self, signed: SignedMandate) -> Result<ProposalId, Reject> {
        let id = ProposalId::from_bytes(self.fresh());
        self.record(entry(Event::Proposed { id, signed })).map(|_| id)
    }

    pub(crate) fn screening(&self, result: ScreeningResult) -> Screening {
        Screening { list_version: "csl-1".to_owned(), list_date: self.now, result }
    }

    pub(crate) fn screen(&mut self, entity: EntityId) {
        let screening = self.screening(ScreeningResult::Clear);
        self.go(Command::RecordScreening { entity, screening, reason: "no match".to_owned() });
    }

    pub(crate) fn applicant(&mut self, org: Organisation) -> EntityId {
        let id = EntityId::from_bytes(self.fresh());
        self.record(entry(Event::EntityApplied(super::fixtures::entity(id, org)))).unwrap();
        id
    }

    /// An active, screened entity with a grant for Mythos, in no annex.
    pub(crate) fn partner(&mut self, org: Organisation) -> EntityId {
        let id = self.applicant(org);
        self.screen(id);
        self.go(Command::ActivateEntity(id));
        let grant = Grant { id: GrantId::from_bytes(self.fresh()), ..grant(0, "mythos-5") };
        self.go(Command::GrantModel { entity: id, grant });
        id
    }

    pub(crate) fn amendment(&self, add: &[EntityId], remove: &[EntityId]) -> Command {
        let determination = determination(LIFT);
        let revision = self.state.annexes.get(&determination).copied().unwrap_or_default() + 1;
        Command::AmendAnnex { determination, revision, add: add.to_vec(), remove: remove.to_vec() }
    }

    pub(crate) fn list(&mut self, add: &[EntityId]) {
        let command = self.amendment(add, &[]);
        self.go(command);
    }

    pub(crate) fn unlist(&mut self, remove: &[EntityId]) {
        let command = self.amendment(&[], remove);
        self.go(command);
    }

    pub(crate) fn nominate(&mut self, entity: EntityId, body: SubjectBody) -> Result<SubjectId, Reject> {
        let id = SubjectId::from_bytes(self.fresh());
        self.record(entry(Event::SubjectNominated { id, entity, body, reference: None })).map(|_| id)
    }

    /// A person who is vetted and approved.
    pub(crate) fn person(&mut self, entity: EntityId, status: PersonStatus, relation: Relation) -> SubjectId {
        let person = PersonId::from_bytes(self.fresh());
        self.employee_of(entity, person, status, relation)
    }

    pub(crate) fn employee_of(
        &mut self,
        entity: EntityId,
        person: PersonId,
        status: PersonStatus,
        relation: Relation,
    ) -> SubjectId {
        let body = SubjectBody::Human(Employment { person, vetting: None, relation, relation_until: None });
        let id = self.nominate(entity, body).unwrap();
        self.decide_person(id, status);
        id
    }

    pub(crate) fn vetting(&self, status: PersonStatus) -> Vetting {
        let evidence = match status {
            PersonStatus::UsPerson => EvidenceKind::CitizenOrNational,
            PersonStatus::ForeignPerson => EvidenceKind::NoUsStatus,
            PersonStatus::Undetermined => EvidenceKind::None,
        };
        Vetting { status, evidence, verified_on: self.now.day(), assurance: Assurance::Ial2 }
    }

    pub(crate) fn decide_person(&mut self, subject: SubjectId, status: PersonStatus) {
        let vetting = Some(self.vetting(status));
        self.go(Command::DecideSubject {
            subject,
            decision: SubjectDecision::Approve { vetting, reverify_due: None },
        });
    }

    /// An approved workload that its first operator owns.
    pub(crate) fn workload(&mut self, entity: EntityId, operators: &[SubjectId]) -> SubjectId {
        let body = SubjectBody::Workload(Workload { owner: operators[0], operators: operators.to_vec() });
        let id = self.nominate(entity, body).unwrap();
        let decision = SubjectDecision::Approve { vetting: None, reverify_due: None };
        self.go(Command::DecideSubject { subject: id, decision });
        id
    }

    pub(crate) fn attest(&mut self, subject: SubjectId, relation: Relation, until: Option<Timestamp>) {
        self.record(entry(Event::RelationAttested { subject, relation, until })).unwrap();
    }

    pub(crate) fn token(&mut self, subject: SubjectId) -> Result<TokenId, Reject> {
        let id = TokenId::from_bytes(self.fresh());
        let expires_at = self.now.plus_ms(DAY_MS);
        let secret = Digest::of(&id.to_bytes());
        self.record(entry(Event::TokenCreated { id, secret, subject, expires_at }))?;
        Ok(id)
    }

    /// The intent of an access certificate with the facts as they are now.
    pub(crate) fn intent(
        &mut self,
        subject: SubjectId,
        cause: Cause,
        step: LineageStep,
        key: &str,
    ) -> Result<Intent, Reject> {
        let (facts, limits) = certifiable(&self.state, subject, step, self.now)?;
        let end = limits.0.into_iter().map(|(_, limit)| limit.plus_ms(-1)).min();
        let not_after = self.now.plus_ms(DAY_MS).min(end.unwrap_or(self.now.plus_ms(DAY_MS)));
        Ok(Intent {
            authority: AuthorityKind::Access,
            ordinal: Ordinal(self.state.last_ordinal.0 + 1),
            serial: Serial::from_random(self.fresh()),
            facts: Facts::Access(facts),
            key: Digest::of(key.as_bytes()),
            not_before: self.now.plus_ms(-60_000),
            not_after,
            cause,
            tbs: vec![0x30],
            issuer: self.state.authority(AuthorityKind::Access).map(|active| active.id),
        })
    }

    pub(crate) fn intend(&mut self, intent: &Intent) -> Result<Applied, Reject> {
        self.record(entry(Event::IssuanceIntended(Box::new(intent.clone()))))
    }

    pub(crate) fn complete(&mut self, intent: &Intent) -> Result<Certificate, Reject> {
        let hash = Digest::of(&to_bytes(intent));
        self.record(entry(Event::CertificateIssued {
            authority: intent.authority,
            ordinal: intent.ordinal,
            signature: vec![1],
            hash,
        }))?;
        Ok(certificate_of(intent, hash))
    }

    /// The intent of a first certificate: a token for this subject is made and redeemed with this key.
    pub(crate) fn enrollment(&mut self, subject: SubjectId, key: &str) -> Result<Intent, Reject> {
        let token = self.token(subject)?;
        let step = LineageStep { lineage: LineageId::from_bytes(self.fresh()), generation: 1 };
        self.intent(subject, Cause::Enroll(token), step, key)
    }

    pub(crate) fn enroll(&mut self, subject: SubjectId) -> Result<Certificate, Reject> {
        let key = format!("key of {subject} {}", self.state.position.seq);
        let intent = self.enrollment(subject, &key)?;
        self.intend(&intent)?;
        self.complete(&intent)
    }

    /// The intent of the certificate after this one.
    pub(crate) fn renewal(&mut self, before: &Certificate, key: &str) -> Result<Intent, Reject> {
        let Facts::Access(facts) = before.facts.clone() else { panic!("not an access certificate") };
        let step = LineageStep { lineage: facts.step.lineage, generation: facts.step.generation + 1 };
        self.intent(facts.subject, Cause::Renew(before.ordinal), step, key)
    }

    pub(crate) fn renew(&mut self, before: &Certificate) -> Result<Certificate, Reject> {
        let key = format!("next key of {} {}", before.ordinal, self.state.position.seq);
        let intent = self.renewal(before, &key)?;
        self.intend(&intent)?;
        self.complete(&intent)
    }

    /// Decides on the server at exactly this instant.
    pub(crate) fn decide(&self, certificate: &Certificate, request: &Request<'_>) -> Decision {
        decide(&self.state, None, Ok(certificate), request, Now::exactly(self.now))
    }

    /// The same at the gateway that follows.
    pub(crate) fn decide_at_gate(&self, certificate: &Certificate, request: &Request<'_>) -> Decision {
        decide(&self.gate, None, Ok(certificate), request, Now::exactly(self.now))
    }
}

pub(crate) fn certificate_of(intent: &Intent, hash: Digest) -> Certificate {
    let first = match intent.authority {
        AuthorityKind::Access => ACCESS_CA,
        AuthorityKind::System => SYSTEM_CA,
    };
    let issuer = intent.issuer.unwrap_or(first);
    Certificate {
        hash,
        issuer,
        serial: intent.serial,
        ordinal: intent.ordinal,
        not_before: intent.not_before,
        not_after: intent.not_after,
        key: intent.key,
        facts: intent.facts.clone(),
    }
}
