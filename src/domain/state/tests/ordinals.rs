//! Ordinals: dense, used once, in blocks that are announced before they are opened.

use crate::domain::certificate::{AuthorityKind, Facts, Serial, SystemFacts};
use crate::domain::enforce::EnforcementEvent;
use crate::domain::event::{Cause, Event, Intent};
use crate::domain::flow::Reject;
use crate::domain::id::{Digest, Ordinal};
use crate::domain::tests::fixtures::*;
use crate::domain::tests::world::*;

fn conflict<T: std::fmt::Debug>(result: Result<T, Reject>) -> String {
    match result {
        Err(Reject::Conflict(why)) => why,
        other => panic!("no conflict: {other:?}"),
    }
}

#[test]
fn a_block_is_announced_once_and_opened_after() {
    let mut world = World::new();
    let announce = |ordinal| entry(Event::CeilingAnnounced(Ordinal(ordinal)));
    let open = |ordinal| entry(Event::BlockOpened(Ordinal(ordinal)));
    conflict(world.record(open(20_000)));
    let applied = world.record(announce(20_000)).unwrap();
    assert_eq!(applied.events, [EnforcementEvent::CeilingRaised(Ordinal(20_000))]);
    conflict(world.record(announce(20_000)));
    conflict(world.record(open(20_001)));
    assert_eq!(world.record(open(20_000)).unwrap().events, [], "gateways know the ceiling already");
    conflict(world.record(open(20_000)));
    assert_eq!(world.state.opened, Ordinal(20_000));
}

#[test]
fn an_ordinal_is_used_once_whatever_the_order_of_arrival() {
    let (mut world, member) = World::with_member();
    let person = world.person(member, FOREIGN, EMPLOYEE);
    let mut take = |ordinal| {
        let mut intent = world.enrollment(person, &format!("key {ordinal}")).unwrap();
        intent.ordinal = Ordinal(ordinal);
        world.intend(&intent).map(|_| world.state.gaps.iter().map(|gap| gap.0).collect::<Vec<_>>())
    };
    assert_eq!(take(3).unwrap(), [1, 2]);
    assert_eq!(take(1).unwrap(), [2]);
    assert_eq!(conflict(take(1)), "this ordinal was overtaken");
    assert_eq!(conflict(take(3)), "this ordinal was overtaken");
    assert_eq!(take(2).unwrap(), [0; 0]);
    assert_eq!(conflict(take(2)), "this ordinal was overtaken");
    assert_eq!(conflict(take(0)), "this ordinal was overtaken");
    assert_eq!(conflict(take(10_001)), "this ordinal is not open for issuance yet");
    assert!(take(10_000).is_ok());
}

#[test]
fn apply_refuses_a_used_ordinal_by_itself() {
    let (mut world, member) = World::with_member();
    let person = world.person(member, FOREIGN, EMPLOYEE);
    let intent = world.enrollment(person, "key").unwrap();
    world.intend(&intent).unwrap();
    let again = entry(Event::IssuanceIntended(Box::new(intent)));
    let fault = world.state.clone().apply(world.state.position.seq.next(), world.now, &again).unwrap_err();
    assert_eq!(fault.why, "ordinal 1 was used before");
}

#[test]
fn an_ordinal_below_a_cutoff_is_not_issued_any_more() {
    let (mut world, member) = World::with_member();
    let person = world.person(member, FOREIGN, EMPLOYEE);
    let mut late = world.enrollment(person, "late").unwrap();
    let mut early = world.enrollment(person, "early").unwrap();
    (late.ordinal, early.ordinal) = (Ordinal(1), Ordinal(2));
    world.intend(&early).unwrap();
    let scope = crate::domain::revocation::RevocationScope::Entity(member);
    let reason = crate::domain::revocation::RevocationReason::Drill;
    world.go(crate::domain::command::Command::Revoke { scope, reason });
    assert_eq!(conflict(world.intend(&late)), "this ordinal was overtaken");
    assert_eq!(conflict(world.complete(&early)), "it was revoked before it was issued");
}

#[test]
fn a_certificate_without_an_intent_is_not_recorded() {
    let world = World::new();
    let record = entry(Event::CertificateIssued {
        authority: AuthorityKind::Access,
        ordinal: Ordinal(1),
        signature: vec![1],
        hash: Digest([0; 32]),
    });
    let mut world = world;
    assert_eq!(world.record(record.clone()), Err(Reject::NotFound("intent")));
    let fault = world.state.clone().apply(world.state.position.seq.next(), world.now, &record).unwrap_err();
    assert_eq!(fault.why, "it issues a certificate that was not intended");
}

#[test]
fn the_system_authority_counts_for_itself() {
    let mut world = World::new();
    let intent = |ordinal, officer: &Officer| Intent {
        authority: AuthorityKind::System,
        ordinal: Ordinal(ordinal),
        serial: Serial::from_random([1; 16]),
        facts: Facts::System(SystemFacts {
            kind: crate::domain::certificate::PrincipalKind::Officer,
            principal: officer.id.clone(),
        }),
        key: Digest::of(&officer.spki()),
        not_before: at(GENESIS_AT),
        not_after: at(R3),
        cause: Cause::Register(officer.id.clone()),
        tbs: vec![0x30],
        issuer: None,
    };
    assert_eq!(conflict(world.intend(&intent(2, alice()))), "this ordinal was overtaken");
    world.intend(&intent(1, alice())).unwrap();
    world.complete(&intent(1, alice())).unwrap();
    world.intend(&intent(2, bob())).unwrap();
    assert_eq!((world.state.last_system_ordinal, world.state.last_ordinal), (Ordinal(2), Ordinal(0)));
    assert_eq!(world.state.system_certificates[&alice().id].generation, 1);
    // Another key than the registered one, and nobody's.
    let other = Intent { key: Digest([1; 32]), ..intent(3, bob()) };
    assert!(matches!(world.intend(&other), Err(Reject::Invalid { field: "csr", .. })));
    assert_eq!(world.intend(&intent(3, dave())), Err(Reject::NotFound("principal")));
}

#[test]
fn an_intent_belongs_to_the_authority_of_its_facts() {
    let (mut world, member) = World::with_member();
    let person = world.person(member, FOREIGN, EMPLOYEE);
    let mut intent = world.enrollment(person, "key").unwrap();
    intent.authority = AuthorityKind::System;
    assert!(matches!(world.intend(&intent), Err(Reject::Invalid { field: "authority", .. })));
    let record = entry(Event::IssuanceIntended(Box::new(intent)));
    let fault = world.state.clone().apply(world.state.position.seq.next(), world.now, &record).unwrap_err();
    assert_eq!(fault.why, "it states what the other authority states");
}
