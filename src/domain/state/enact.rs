//! What an enacted command does to State. Whoever changes a fact that certificates state commits a cut-off in the same
//! record for the certificates that carry the old fact (design section 2).

use std::sync::Arc;

use super::apply::Applied;
use super::{AcceptedClock, State};
use crate::domain::bundle::{Bundle, BundleFault};
use crate::domain::certificate::TTL_MAX_S;
use crate::domain::command::{Command, ObjectRef, SubjectDecision};
use crate::domain::decision::Operator;
use crate::domain::enforce::{EnforcementEvent, operators_of};
use crate::domain::entity::{Entity, EntityStatus, Membership};
use crate::domain::id::{DeterminationId, Digest, EntityId, GrantId, PersonId, PrincipalId, Seq, SubjectId};
use crate::domain::person::{PersonStatus, Relation};
use crate::domain::record_command::RecordCommand;
use crate::domain::revocation::{RevocationScope, StopScope, SuspensionTarget};
use crate::domain::subject::{Subject, SubjectBody, SubjectStatus};
use crate::domain::time::{Interval, Now, Timestamp};

impl State {
    pub(super) fn enact(&mut self, seq: Seq, time: Timestamp, command: &Command) -> Result<Applied, String> {
        for object in command.objects() {
            self.touch(object, seq);
        }
        let event = |event| Ok(Applied::event(event));
        match command {
            Command::RegisterPrincipal(new) => self.put_principal(new.clone(), seq),
            Command::RemovePrincipal(id) => self.remove_principal(id, seq)?,
            Command::ActivateEntity(id) => {
                return self.change_entity(*id, seq, |entity| {
                    entity.status = EntityStatus::Active;
                    entity.card.is_active = true;
                });
            }
            Command::RejectEntity(id) => return self.change_entity(*id, seq, reject),
            Command::RemoveEntity { entity, .. } => return self.remove_entity(*entity, seq, time),
            Command::AmendAnnex { determination, revision, add, remove } => {
                return self.amend_annex(seq, time, (determination, *revision), add, remove);
            }
            Command::GrantModel { entity, grant } => {
                return self.change_entity(*entity, seq, |entity| entity.card.grants.push(grant.clone()));
            }
            Command::EndGrant { entity, grant } => {
                let ended = self.ended_at(time);
                return self.change_entity(*entity, seq, |entity| end_grant(entity, *grant, ended));
            }
            Command::RegisterLicense(license) => {
                self.licenses.insert(license.id.clone(), Arc::new(license.clone()));
                return self.change_entity(license.holder, seq, |entity| entity.card.has_licenses = true);
            }
            Command::AdoptPolicy(parts) => return adopted(Bundle::new(self.bundle().adopting(parts, time))),
            Command::Impose(new) => return adopted(self.bundle().with(new)),
            Command::Revoke { scope, .. } => return self.revoke(scope),
            Command::Stop { scope, .. } => return event(EnforcementEvent::Stopped(scope.clone())),
            Command::Drill(scope) => return Ok(self.drill(seq, time, scope)),
            Command::ReleaseStop(scope) => return event(EnforcementEvent::StopReleased(scope.clone())),
            Command::Suspend { target, .. } => return Ok(self.suspend(*target)),
            Command::Unsuspend(target) => return event(EnforcementEvent::Unsuspended(*target)),
            Command::Hold { ordinal, .. } => return event(EnforcementEvent::Held(*ordinal)),
            Command::ReleaseHold(ordinal) => return event(EnforcementEvent::HoldReleased(*ordinal)),
            Command::BlockKey { key, .. } => return event(EnforcementEvent::KeyBlocked(*key)),
            Command::UnblockKey(key) => return event(self.unblock(*key)),
            Command::DecideSubject { subject, decision } => {
                return self.decide_subject(seq, time, *subject, decision);
            }
            Command::RecordScreening { entity, screening, .. } => {
                return self.record_screening(seq, *entity, screening);
            }
            Command::ImportScreeningList { list, .. } => self.screening_list = Some(list.clone()),
            Command::ResolveScreeningMatch { .. } => return self.resolve_match(seq, time, command),
            Command::RecordSafeguards { entity, until, reverify_due } => {
                return self.change_entity(*entity, seq, |entity| {
                    (entity.card.safeguards_until, entity.card.reverify_due) = (Some(*until), *reverify_due);
                });
            }
            Command::AcknowledgeRestore { .. } => self.acknowledge_restore(seq),
            Command::Records(command) => self.order_records(command),
            Command::AcceptClock(at) => self.clock = Some(AcceptedClock { at: *at, recorded: time }),
            Command::AnnounceRevocation { .. }
            | Command::HastenRevocation { .. }
            | Command::PostponeRevocation { .. } => return self.announce(seq, time, command),
            Command::Officers(command) => return self.enact_of_officers(seq, time, command),
            Command::Partners(command) => return self.enact_of_partners(seq, time, command),
            of_authority => return self.enact_rotation(seq, time, of_authority),
        }
        Ok(Applied::default())
    }

    fn order_records(&mut self, command: &RecordCommand) {
        match command {
            RecordCommand::Hold { id, hold } => drop(self.record_holds.insert(id.clone(), hold.clone())),
            RecordCommand::Release(id) => drop(self.record_holds.remove(id)),
        }
    }

    fn remove_principal(&mut self, id: &PrincipalId, seq: Seq) -> Result<(), String> {
        let principal = Arc::make_mut(self.principals.get_mut(id).ok_or("no such principal")?);
        principal.is_removed = true;
        principal.revision = seq;
        Ok(())
    }

    fn remove_entity(&mut self, id: EntityId, seq: Seq, time: Timestamp) -> Result<Applied, String> {
        let ended = self.ended_at(time);
        let mut applied = self.change_entity(id, seq, |entity| {
            entity.status = EntityStatus::Removed;
            entity.card.is_active = false;
            end_memberships(entity, None, ended);
        })?;
        applied.events.push(self.cut_entity(id));
        Ok(applied)
    }

    /// Everybody is told, and nothing is taken away.
    fn drill(&mut self, seq: Seq, time: Timestamp, scope: &StopScope) -> Applied {
        self.drills.begin(seq, scope.clone(), time);
        Applied::event(EnforcementEvent::Drilled(scope.clone()))
    }

    fn suspend(&self, target: SuspensionTarget) -> Applied {
        let mut applied = Applied::event(EnforcementEvent::Suspended(target));
        applied.events.extend(match target {
            SuspensionTarget::Entity(_) => None,
            // The operators of a workload that is exempt are all in good standing, and only a cut-off says to a
            // gateway that one no longer is.
            SuspensionTarget::Subject(id) => self.cut_subjects(self.operated_by(id)),
        });
        applied
    }

    pub(super) fn change_entity(
        &mut self,
        id: EntityId,
        seq: Seq,
        change: impl FnOnce(&mut Entity),
    ) -> Result<Applied, String> {
        let entity = self.entities.get_mut(&id).ok_or("no such entity")?;
        let entity = Arc::make_mut(entity);
        change(entity);
        entity.card.revision = seq;
        self.touch(ObjectRef::Entity(id), seq);
        Ok(Applied::card(id))
    }

    fn cut_entity(&self, entity: EntityId) -> EnforcementEvent {
        EnforcementEvent::EntityCut { entity, cutoff: self.last_ordinal }
    }

    /// What was issued to the key so far stays revoked.
    fn unblock(&self, key: Digest) -> EnforcementEvent {
        EnforcementEvent::KeyUnblocked { key, cutoff: self.last_ordinal }
    }

    /// The employments of a person.
    pub fn employments(&self, person: PersonId) -> Vec<SubjectId> {
        let of_person = |subject: &&Arc<Subject>| subject.employment().is_some_and(|e| e.person == person);
        self.subjects.values().filter(of_person).map(|subject| subject.id).collect()
    }

    fn revoke(&mut self, scope: &RevocationScope) -> Result<Applied, String> {
        let cutoff = self.last_ordinal;
        let event = match scope {
            RevocationScope::Certificate(ordinal) => EnforcementEvent::CertificateRevoked(*ordinal),
            RevocationScope::Lineage(lineage) => EnforcementEvent::LineageLocked(*lineage),
            RevocationScope::Subject(subject) => {
                EnforcementEvent::SubjectsCut { subjects: vec![*subject], cutoff }
            }
            RevocationScope::Person(person) => {
                EnforcementEvent::SubjectsCut { subjects: self.employments(*person), cutoff }
            }
            RevocationScope::Entity(entity) => self.cut_entity(*entity),
            RevocationScope::Determination(determination) => EnforcementEvent::DeterminationCut {
                determination: determination.clone(),
                annex_revision: None,
                cutoff,
            },
            RevocationScope::AnnexRevision(determination, revision) => EnforcementEvent::DeterminationCut {
                determination: determination.clone(),
                annex_revision: Some(*revision),
                cutoff,
            },
            RevocationScope::Issuer(authority) => return self.revoke_authority(*authority),
        };
        Ok(Applied::event(event))
    }

    fn amend_annex(
        &mut self,
        seq: Seq,
        time: Timestamp,
        (determination, revision): (&DeterminationId, u32),
        add: &[EntityId],
        remove: &[EntityId],
    ) -> Result<Applied, String> {
        let mut applied = Applied::default();
        for id in add {
            applied.cards.extend(
                self.change_entity(*id, seq, |entity| {
                    entity.card.memberships.push(Membership {
                        determination: determination.clone(),
                        revision,
                        interval: Interval { from: time, until: None },
                    });
                })?
                .cards,
            );
            applied.events.push(self.cut_entity(*id));
        }
        let ended = self.ended_at(time);
        for id in remove {
            let changed =
                self.change_entity(*id, seq, |entity| end_memberships(entity, Some(determination), ended))?;
            applied.cards.extend(changed.cards);
            applied.events.push(self.cut_entity(*id));
        }
        self.annexes.insert(determination.clone(), revision);
        Ok(applied)
    }

    fn decide_subject(
        &mut self,
        seq: Seq,
        time: Timestamp,
        id: SubjectId,
        decision: &SubjectDecision,
    ) -> Result<Applied, String> {
        self.change_subject(id, seq, time, |subject| match decision {
            SubjectDecision::Approve { vetting, reverify_due } => {
                subject.status = SubjectStatus::Approved;
                subject.reverify_due = *reverify_due;
                if let (SubjectBody::Human(employment), Some(_)) = (&mut subject.body, vetting) {
                    employment.vetting.clone_from(vetting);
                }
            }
            SubjectDecision::Refuse => subject.status = SubjectStatus::Refused,
        })
    }

    /// Changes a subject and cuts off what the change makes untrue: its own certificates when a compared fact or its
    /// approval changed, and those of the workloads whose operators are no longer all eligible. And what would outlive
    /// a limit that now comes sooner: certificates never outlive an attestation or a re-verification.
    pub(super) fn change_subject(
        &mut self,
        id: SubjectId,
        seq: Seq,
        time: Timestamp,
        change: impl FnOnce(&mut Subject),
    ) -> Result<Applied, String> {
        let row = self.subjects.get_mut(&id).ok_or("no such subject")?;
        let before = Arc::clone(row);
        let subject = Arc::make_mut(row);
        change(subject);
        subject.revision = seq;
        let after = Arc::clone(row);
        self.touch(ObjectRef::Subject(id), seq);
        // Before its approval a subject has no certificate, and no workload that it operates has one.
        if before.status != SubjectStatus::Approved {
            return Ok(Applied::default());
        }
        let is_shortened = is_shortened(&before, &after, time);
        let mut subjects = Vec::new();
        if is_shortened || compared(&before) != compared(&after) {
            subjects.push(id);
            let ineligible = |workload: &SubjectId| !self.is_operated_by_eligible(*workload, time);
            subjects.extend(self.operated_by(id).into_iter().filter(|id| is_shortened || ineligible(id)));
        }
        Ok(Applied { events: self.cut_subjects(subjects).into_iter().collect(), cards: Vec::new() })
    }

    /// The cut-off of these subjects, if there are any.
    fn cut_subjects(&self, subjects: Vec<SubjectId>) -> Option<EnforcementEvent> {
        let cutoff = self.last_ordinal;
        (!subjects.is_empty()).then_some(EnforcementEvent::SubjectsCut { subjects, cutoff })
    }

    /// The workloads that a person operates.
    fn operated_by(&self, operator: SubjectId) -> Vec<SubjectId> {
        let operated = self.subjects.values().filter(|subject| match &subject.body {
            SubjectBody::Human(_) => false,
            SubjectBody::Workload(workload) => workload.operators.contains(&operator),
        });
        operated.map(|subject| subject.id).collect()
    }

    fn is_operated_by_eligible(&self, workload: SubjectId, time: Timestamp) -> bool {
        let Some(subject) = self.subjects.get(&workload) else { return false };
        match &subject.body {
            SubjectBody::Human(_) => false,
            SubjectBody::Workload(workload) => {
                let now = Now::exactly(time);
                let operators = operators_of(self, subject.entity, &workload.operators, now);
                !operators.is_empty() && operators.iter().all(Operator::is_eligible)
            }
        }
    }
}

/// Does a limit of the subject's certificates come sooner than before, and so soon that one could outlive it?
fn is_shortened(before: &Subject, after: &Subject, time: Timestamp) -> bool {
    let longest = time.plus_ms(i64::from(TTL_MAX_S) * 1_000);
    let limits =
        |subject: &Subject| [subject.reverify_due, subject.employment().and_then(|e| e.relation_until)];
    limits(before).into_iter().zip(limits(after)).any(|(before, after)| {
        after.is_some_and(|after| after <= longest && before.is_none_or(|before| after < before))
    })
}

/// What certificates state of a subject, and whether they may be issued at all.
type Compared = (bool, Option<Relation>, Option<PersonStatus>);

fn compared(subject: &Subject) -> Compared {
    let approved = subject.status == SubjectStatus::Approved;
    match &subject.body {
        SubjectBody::Human(employment) => {
            (approved, Some(employment.relation), employment.vetting.as_ref().map(|vetting| vetting.status))
        }
        SubjectBody::Workload(_) => (approved, None, None),
    }
}

fn adopted(bundle: Result<Bundle, BundleFault>) -> Result<Applied, String> {
    let bundle = bundle.map_err(|e| e.to_string())?;
    Ok(Applied::event(EnforcementEvent::PolicyAdopted(Arc::new(bundle))))
}

fn reject(entity: &mut Entity) {
    entity.status = EntityStatus::Rejected;
    entity.card.is_active = false;
}

/// Ends a grant; one that ended before keeps its end.
fn end_grant(entity: &mut Entity, id: GrantId, now: Timestamp) {
    for held in entity.card.grants.iter_mut().filter(|held| held.id == id) {
        held.interval.until = Some(held.interval.until.map_or(now, |until| until.min(now)));
    }
}

/// Ends the memberships in one annex, or in all.
fn end_memberships(entity: &mut Entity, of: Option<&DeterminationId>, now: Timestamp) {
    for membership in &mut entity.card.memberships {
        let held = membership.interval.until.is_none_or(|until| until > now);
        if held && of.is_none_or(|id| *id == membership.determination) {
            membership.interval.until = Some(now);
        }
    }
}
