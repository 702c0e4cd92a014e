//! Nominations and attestations: a partner acts for its own entity, and to everybody else there is none.

use crate::domain::certificate::PrincipalKind;
use crate::domain::command::{Command, NewPrincipal};
use crate::domain::entity::Organisation;
use crate::domain::event::{Entry, Event};
use crate::domain::flow::Reject;
use crate::domain::id::{Digest, EntityId, PersonId, PrincipalId, SubjectId, TokenId};
use crate::domain::person::Relation;
use crate::domain::principal::Role;
use crate::domain::subject::{Employment, SubjectBody, SubjectStatus, Workload, reference_digest};
use crate::domain::tests::fixtures::*;
use crate::domain::tests::world::*;

fn employment(person: u8) -> SubjectBody {
    let person = PersonId::from_bytes([person; 16]);
    SubjectBody::Human(Employment { person, vetting: None, relation: EMPLOYEE, relation_until: None })
}

/// A world with a partner's administrator, by the name of dave.
fn with_admin() -> (World, EntityId, PrincipalId) {
    let (mut world, member) = World::with_member();
    let admin = NewPrincipal {
        kind: PrincipalKind::Partner,
        roles: vec![Role::PartnerAdmin],
        entity: Some(member),
        ..dave().principal()
    };
    world.go(Command::RegisterPrincipal(admin));
    (world, member, dave().id.clone())
}

fn by(principal: &PrincipalId, event: Event) -> Entry {
    Entry { event, by: Some(principal.clone()), request: None }
}

#[test]
fn a_partner_acts_for_its_own_entity_and_knows_no_other() {
    let (mut world, member, admin) = with_admin();
    let other = world.partner(Organisation::Us);
    let foreign_subject = world.person(other, FOREIGN, EMPLOYEE);
    let id = SubjectId::from_bytes([1; 16]);
    let nominate = |entity| Event::SubjectNominated { id, entity, body: employment(1), reference: None };
    let unknown = EntityId::from_bytes([0xee; 16]);
    // The same refusal whether the entity exists or not: nothing tells a partner who else is one.
    assert_eq!(world.record(by(&admin, nominate(other))), Err(Reject::NotFound("entity")));
    assert_eq!(world.record(by(&admin, nominate(unknown))), Err(Reject::NotFound("entity")));
    let attest = Event::RelationAttested { subject: foreign_subject, relation: EMPLOYEE, until: None };
    assert_eq!(world.record(by(&admin, attest)), Err(Reject::NotFound("subject")));
    let token = Event::TokenCreated {
        id: TokenId::from_bytes([1; 16]),
        secret: Digest([1; 32]),
        subject: foreign_subject,
        expires_at: world.now.plus_ms(1),
    };
    assert_eq!(world.record(by(&admin, token)), Err(Reject::NotFound("subject")));
    world.record(by(&admin, nominate(member))).unwrap();
    assert_eq!(world.record(by(&admin, nominate(member))), Err(Reject::Exists("subject")));
}

#[test]
fn nobody_and_officers_without_the_role_act_for_no_entity() {
    let (mut world, member, _) = with_admin();
    world.go(Command::RegisterPrincipal(carol().principal()));
    let id = SubjectId::from_bytes([1; 16]);
    let event = Event::SubjectNominated { id, entity: member, body: employment(1), reference: None };
    let by_vetter = world.record(by(&carol().id, event.clone()));
    assert_eq!(by_vetter, Err(Reject::NotFound("entity")));
    let nobody = Entry { event: event.clone(), by: None, request: None };
    assert_eq!(world.record(nobody), Err(Reject::NotFound("principal")));
    assert!(world.record(by(&alice().id, event)).is_ok(), "a registrar may");
}

#[test]
fn a_removed_administrator_acts_for_nobody() {
    let (mut world, member, admin) = with_admin();
    world.go(Command::RemovePrincipal(admin.clone()));
    let id = SubjectId::from_bytes([1; 16]);
    let event = Event::SubjectNominated { id, entity: member, body: employment(1), reference: None };
    assert_eq!(world.record(by(&admin, event)), Err(Reject::NotFound("principal")));
}

#[test]
fn a_nomination_establishes_nothing() {
    let (mut world, member) = World::with_member();
    let person = world.nominate(member, employment(1)).unwrap();
    assert_eq!(world.state.subjects[&person].status, SubjectStatus::Nominated);
    assert!(world.token(person).is_err() && world.enroll(person).is_err());
    let mut vetted = employment(2);
    if let SubjectBody::Human(employment) = &mut vetted {
        employment.vetting = Some(world.vetting(US));
    }
    assert!(matches!(world.nominate(member, vetted), Err(Reject::Denied(_))));
    let unknown = EntityId::from_bytes([0xee; 16]);
    assert_eq!(world.nominate(unknown, employment(1)), Err(Reject::NotFound("entity")));
}

#[test]
fn a_workload_has_an_owner_among_its_operators_of_the_same_entity() {
    let (mut world, member) = World::with_member();
    let other = world.partner(Organisation::Us);
    let [owner, colleague] = [US, FOREIGN].map(|status| world.person(member, status, EMPLOYEE));
    let stranger = world.person(other, US, EMPLOYEE);
    let job = world.workload(member, &[owner]);
    let mut nominate = |owner, operators: &[SubjectId]| {
        let operators = operators.to_vec();
        match world.nominate(member, SubjectBody::Workload(Workload { owner, operators })) {
            Ok(_) => true,
            Err(Reject::Invalid { field: "operators", .. }) => false,
            Err(other) => panic!("{other:?}"),
        }
    };
    assert!(nominate(owner, &[owner, colleague]));
    assert!(nominate(owner, &[]), "operators who are not known are nobody");
    assert!(!nominate(owner, &[colleague]), "the owner operates it too");
    assert!(!nominate(stranger, &[stranger]));
    assert!(!nominate(owner, &[owner, stranger]));
    assert!(!nominate(owner, &[owner, job]), "a workload operates nothing");
    assert!(!nominate(owner, &[owner; 65]));
}

#[test]
fn a_workload_has_no_relation_to_attest() {
    let (mut world, member) = World::with_member();
    let owner = world.person(member, US, EMPLOYEE);
    let job = world.workload(member, &[owner]);
    let event = Event::RelationAttested { subject: job, relation: Relation::Employee, until: None };
    assert!(matches!(world.record(entry(event)), Err(Reject::Invalid { field: "subject", .. })));
    let event =
        Event::RelationAttested { subject: SubjectId::from_bytes([1; 16]), relation: EMPLOYEE, until: None };
    assert_eq!(world.record(entry(event)), Err(Reject::NotFound("subject")));
}

#[test]
fn a_reference_of_an_entity_nominates_one_person_and_one_only() {
    let (mut world, member, admin) = with_admin();
    let other = world.partner(Organisation::Us);
    let nominate = |entity, id: u8, reference: &str| Event::SubjectNominated {
        id: SubjectId::from_bytes([id; 16]),
        entity,
        body: employment(id),
        reference: Some(reference_digest(entity, reference)),
    };
    world.record(by(&admin, nominate(member, 1, "E-1"))).unwrap();
    let again = world.record(by(&admin, nominate(member, 2, "E-1")));
    assert_eq!(again, Err(Reject::Exists("reference")));
    world.record(by(&admin, nominate(member, 3, "E-2"))).unwrap();
    // Another entity has references of its own.
    world.record(by(&alice().id, nominate(other, 4, "E-1"))).unwrap();
    let known = |entity, reference| world.state.references.get(&reference_digest(entity, reference)).copied();
    assert_eq!(known(member, "E-1"), Some(SubjectId::from_bytes([1; 16])));
    assert_eq!(known(other, "E-1"), Some(SubjectId::from_bytes([4; 16])));
    assert_eq!(known(other, "E-2"), None);
}
