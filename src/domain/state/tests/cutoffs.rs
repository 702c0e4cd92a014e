//! Whoever changes a fact that certificates state cuts off, in the same record, those that carry the old fact.

use crate::domain::certificate::Certificate;
use crate::domain::command::{Command, SubjectDecision};
use crate::domain::decision::Denial;
use crate::domain::enforce::EnforcementEvent;
use crate::domain::entity::Organisation;
use crate::domain::id::{EntityId, PersonId, SubjectId};
use crate::domain::person::{PersonStatus, Relation};
use crate::domain::revocation::{RevocationReason, RevocationScope, SuspensionTarget};
use crate::domain::tests::fixtures::*;
use crate::domain::tests::world::*;

const REASON: RevocationReason = RevocationReason::Drill;

struct Scene {
    world: World,
    member: EntityId,
    person: SubjectId,
    job: SubjectId,
    own: Certificate,
    of_job: Certificate,
}

/// A member with an employee and a job that the employee operates, each with a certificate that is good.
fn scene() -> Scene {
    let (mut world, member) = World::with_member();
    let person = world.person(member, FOREIGN, EMPLOYEE);
    let job = world.workload(member, &[person]);
    let own = world.enroll(person).unwrap();
    let of_job = world.enroll(job).unwrap();
    let scene = Scene { world, member, person, job, own, of_job };
    assert_eq!(scene.revoked(), (false, false));
    scene
}

impl Scene {
    fn is_revoked(&self, certificate: &Certificate) -> bool {
        let request = inference("mythos-5");
        let server = self.world.decide(certificate, &request);
        let gate = self.world.decide_at_gate(certificate, &request);
        let revoked = server.denials.contains(&Denial::CredentialRevoked);
        assert_eq!(gate.denials.contains(&Denial::CredentialRevoked), revoked, "server and gateway differ");
        assert_eq!(server.is_permit(), !revoked, "{server:?}");
        revoked
    }

    fn revoked(&self) -> (bool, bool) {
        (self.is_revoked(&self.own), self.is_revoked(&self.of_job))
    }
}

#[test]
fn a_changed_status_cuts_the_person_off_and_a_known_one_leaves_the_job() {
    let mut scene = scene();
    scene.world.decide_person(scene.person, US);
    // Still an eligible employee: the job states nothing of the operator's status.
    assert_eq!(scene.revoked(), (true, false));
}

#[test]
fn a_status_that_is_no_longer_known_cuts_person_and_job_off() {
    let mut scene = scene();
    scene.world.decide_person(scene.person, PersonStatus::Undetermined);
    assert_eq!(scene.revoked(), (true, true));
}

#[test]
fn a_changed_relation_cuts_person_and_job_off() {
    let mut scene = scene();
    scene.world.attest(scene.person, Relation::Contractor, None);
    assert_eq!(scene.revoked(), (true, true));
}

#[test]
fn a_refusal_cuts_person_and_job_off_for_good() {
    let mut scene = scene();
    let refuse = SubjectDecision::Refuse;
    scene.world.go(Command::DecideSubject { subject: scene.person, decision: refuse });
    assert_eq!(scene.revoked(), (true, true));
    scene.world.decide_person(scene.person, FOREIGN);
    assert_eq!(scene.revoked(), (true, true), "approval again revives nothing");
    let again = scene.world.enroll(scene.person).unwrap();
    assert!(!scene.is_revoked(&again));
}

#[test]
fn a_fact_that_did_not_change_cuts_nothing() {
    let mut scene = scene();
    let until = scene.world.now.plus_ms(90 * DAY_MS);
    scene.world.attest(scene.person, EMPLOYEE, None);
    scene.world.decide_person(scene.person, FOREIGN);
    // Re-attested for a time that no certificate outlives.
    scene.world.attest(scene.person, EMPLOYEE, Some(until));
    scene.world.attest(scene.person, EMPLOYEE, Some(until.plus_ms(1)));
    assert_eq!(scene.revoked(), (false, false));
}

#[test]
fn an_attestation_that_ends_sooner_cuts_off_what_would_outlive_it() {
    let mut scene = scene();
    let tonight = scene.world.now.plus_ms(DAY_MS / 4);
    scene.world.attest(scene.person, EMPLOYEE, Some(tonight));
    assert_eq!(scene.revoked(), (true, true));
    let (own, of_job) = (scene.world.enroll(scene.person).unwrap(), scene.world.enroll(scene.job).unwrap());
    assert!(own.not_after < tonight && of_job.not_after < tonight);
    // At its end the person is no longer attested, so neither is the operator.
    scene.world.now = tonight;
    for certificate in [&own, &of_job] {
        let request = inference("mythos-5");
        assert_eq!(scene.world.decide(certificate, &request).code(), "CREDENTIAL_EXPIRED");
        assert_eq!(scene.world.decide_at_gate(certificate, &request).code(), "CREDENTIAL_EXPIRED");
    }
}

#[test]
fn a_reverification_that_is_due_sooner_cuts_off_what_would_outlive_it() {
    let mut scene = scene();
    let due = scene.world.now.plus_ms(DAY_MS / 4);
    let vetting = Some(scene.world.vetting(FOREIGN));
    let decision = SubjectDecision::Approve { vetting, reverify_due: Some(due) };
    scene.world.go(Command::DecideSubject { subject: scene.person, decision });
    assert_eq!(scene.revoked(), (true, true));
    assert!(scene.world.enroll(scene.job).unwrap().not_after < due);
}

#[test]
fn a_suspended_operator_cuts_the_job_off_and_not_the_person() {
    let mut scene = scene();
    let target = SuspensionTarget::Subject(scene.person);
    scene.world.go(Command::Suspend { target, reason: REASON });
    let request = inference("mythos-5");
    assert_eq!(scene.world.decide(&scene.own, &request).code(), "P-SUSPENDED");
    assert!(scene.is_revoked(&scene.of_job));
    scene.world.go(Command::Unsuspend(target));
    // A suspension is reversible: the person's own certificate is good again. The job enrolls anew.
    assert_eq!(scene.revoked(), (false, true));
    let again = scene.world.enroll(scene.job).unwrap();
    assert!(!scene.is_revoked(&again));
}

#[test]
fn a_suspended_entity_is_denied_by_policy_and_keeps_its_certificates() {
    let mut scene = scene();
    let target = SuspensionTarget::Entity(scene.member);
    scene.world.go(Command::Suspend { target, reason: REASON });
    for certificate in [&scene.own, &scene.of_job] {
        let decision = scene.world.decide(certificate, &inference("mythos-5"));
        assert!(decision.legal.allows(), "the law is not asked: {decision:?}");
        assert_eq!(decision.code(), "P-SUSPENDED");
        assert_eq!(scene.world.decide_at_gate(certificate, &inference("mythos-5")), decision);
    }
    scene.world.go(Command::Unsuspend(target));
    assert_eq!(scene.revoked(), (false, false));
}

#[test]
fn a_change_of_class_cuts_the_entity_off() {
    let mut scene = scene();
    scene.world.unlist(&[scene.member]);
    assert_eq!(scene.world.decide(&scene.own, &inference("mythos-5")).code(), "CREDENTIAL_REVOKED");
    let (mut world, other) = (World::new(), ());
    let _: () = other;
    world.now = at(R2);
    let later = world.partner(Organisation::Us);
    let events = {
        let command = world.amendment(&[later], &[]);
        world.go(command)
    };
    assert!(matches!(events.as_slice(), [EnforcementEvent::EntityCut { entity, .. }] if *entity == later));
}

#[test]
fn readmission_never_revives_a_certificate() {
    let mut scene = scene();
    scene.world.unlist(&[scene.member]);
    scene.world.list(&[scene.member]);
    let request = inference("mythos-5");
    for certificate in [&scene.own, &scene.of_job] {
        assert_eq!(scene.world.decide(certificate, &request).code(), "CREDENTIAL_REVOKED");
        assert_eq!(scene.world.decide_at_gate(certificate, &request).code(), "CREDENTIAL_REVOKED");
    }
    scene.world.now = scene.world.now.plus_ms(2_000);
    let again = scene.world.enroll(scene.person).unwrap();
    assert!(!scene.is_revoked(&again));
}

#[test]
fn each_scope_of_revocation_reaches_its_own_and_nobody_else() {
    let (mut world, member) = World::with_member();
    let person = PersonId::from_bytes([77; 16]);
    let other = {
        let other = world.partner(Organisation::Us);
        world.list(&[other]);
        world.now = world.now.plus_ms(2_000);
        other
    };
    let here = world.employee_of(member, person, FOREIGN, EMPLOYEE);
    let there = world.employee_of(other, person, FOREIGN, EMPLOYEE);
    let colleague = world.person(member, US, EMPLOYEE);
    let all = [here, here, there, colleague].map(|subject| world.enroll(subject).unwrap());
    let lineage = match &all[0].facts {
        crate::domain::certificate::Facts::Access(facts) => facts.step.lineage,
        crate::domain::certificate::Facts::System(_) | crate::domain::certificate::Facts::Canary(_) => {
            panic!("not an access certificate")
        }
    };
    let reached = |scope| {
        let mut state = world.state.clone();
        let signed = world.mandate(Command::Revoke { scope, reason: REASON }, &[alice()]);
        let record = entry(crate::domain::event::Event::Enacted { signed, proposal: None });
        let applied = state.apply(state.position.seq.next(), world.now, &record).unwrap();
        assert_eq!(applied.events.len(), 1, "one event however many certificates");
        all.clone().map(|certificate| {
            let now = crate::domain::time::Now::exactly(world.now);
            let request = inference("mythos-5");
            !crate::domain::enforce::decide(&state, None, Ok(&certificate), &request, now).is_permit()
        })
    };
    assert_eq!(reached(RevocationScope::Certificate(all[0].ordinal)), [true, false, false, false]);
    assert_eq!(reached(RevocationScope::Lineage(lineage)), [true, false, false, false]);
    assert_eq!(reached(RevocationScope::Subject(here)), [true, true, false, false]);
    assert_eq!(reached(RevocationScope::Person(person)), [true, true, true, false]);
    assert_eq!(reached(RevocationScope::Entity(member)), [true, true, false, true]);
    assert_eq!(reached(RevocationScope::Issuer(ACCESS_CA)), [true, true, true, true]);
    let lift = || LIFT.parse().unwrap();
    assert_eq!(reached(RevocationScope::Determination(lift())), [true, true, true, true]);
    assert_eq!(reached(RevocationScope::AnnexRevision(lift(), 1)), [true, true, false, true]);
    assert_eq!(reached(RevocationScope::AnnexRevision(lift(), 2)), [false, false, true, false]);
}

#[test]
fn a_removed_entity_is_cut_off_and_unlisted() {
    let mut scene = scene();
    let reason = RevocationReason::GovernmentOrder;
    scene.world.go(Command::RemoveEntity { entity: scene.member, reason });
    assert_eq!(scene.world.decide(&scene.own, &inference("mythos-5")).code(), "CREDENTIAL_REVOKED");
    let card = &scene.world.state.entities[&scene.member].card;
    assert!(!card.is_active && card.memberships[0].interval.until == Some(scene.world.now));
    assert!(scene.world.enroll(scene.person).is_err());
}

#[test]
fn an_ended_grant_keeps_an_end_that_came_before() {
    let (mut world, member) = World::with_member();
    let past = world.now.plus_ms(-DAY_MS);
    let mut ended = grant(70, "mythos-5");
    ended.interval.until = Some(past);
    let id = ended.id;
    world.go(Command::GrantModel { entity: member, grant: ended });
    world.go(Command::EndGrant { entity: member, grant: id });
    let held = world.state.entities[&member].card.grants.iter().find(|g| g.id == id).unwrap();
    assert_eq!(held.interval.until, Some(past));
}
