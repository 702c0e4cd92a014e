//! Roots on record: who may bring what, which list follows which, and what an authority is whose root revoked it.

use super::authorities::certify;
use crate::domain::authority::{AuthorityState, NewAuthority};
use crate::domain::certificate::{AuthorityKind, PrincipalKind, Serial};
use crate::domain::command::{Command, NewPrincipal};
use crate::domain::enforce::EnforcementEvent;
use crate::domain::event::Event;
use crate::domain::flow::Reject;
use crate::domain::id::{AuthorityId, Digest, RootId};
use crate::domain::principal::Role;
use crate::domain::revocation::RevocationReason;
use crate::domain::root::{Beneath, CROSS_CERTIFICATES_MAX, CrossCertificate, CrossSubject, ROOTS_MAX};
use crate::domain::tests::fixtures::*;
use crate::domain::tests::world::*;

const OLD: RootId = RootId::from_bytes([0xd0; 16]);
const NEW: RootId = RootId::from_bytes([0xd1; 16]);
const NEXT: AuthorityId = AuthorityId::from_bytes([0xa1; 16]);
const THIRD: AuthorityId = AuthorityId::from_bytes([0xa2; 16]);

fn serial(seed: u8) -> Serial {
    Serial::from_random([seed; 16])
}

fn beneath(root: RootId, id: AuthorityId, kind: AuthorityKind) -> Command {
    let beneath = Some(Beneath { root, serial: serial(7) });
    Command::PrepareAuthority(NewAuthority { beneath, ..new_authority(id, kind) })
}

fn cross(root: RootId, seed: u8, subject: CrossSubject) -> CrossCertificate {
    let by = Beneath { root, serial: serial(seed) };
    CrossCertificate { certificate: vec![seed], subject, by, not_after: at("2030-06-01T00:00:00Z") }
}

fn list(root: RootId, number: u64, revoked: &[u8]) -> Command {
    let revoked: Vec<_> = revoked.iter().copied().map(serial).collect();
    Command::RenewRootList { root, list: root_list(number, &revoked) }
}

fn world() -> World {
    let (mut world, _) = World::with_member();
    world.go(Command::TrustRoot(new_root(OLD, &[])));
    world
}

fn state(world: &World, id: AuthorityId) -> AuthorityState {
    world.state.authorities[&id].state
}

#[test]
fn roots_and_cross_certificates_need_two_and_a_list_one() {
    let mut world = world();
    let two = [
        Command::TrustRoot(new_root(NEW, &[])),
        Command::AddCrossCertificate(cross(OLD, 9, CrossSubject::Authority(ACCESS_CA))),
        Command::DropRoot(OLD),
        beneath(OLD, NEXT, AuthorityKind::Access),
    ];
    for command in two {
        let alone = world.enact(command.clone(), &[alice()]);
        assert!(matches!(alone, Err(Reject::NeedsApproval(_))), "{command:?}");
    }
    world.enact(list(OLD, 2, &[]), &[alice()]).unwrap();
    assert_eq!(world.state.roots[&OLD].list.number, 2);
}

#[test]
fn a_list_follows_only_a_lower_number_and_forgets_nothing() {
    let mut world = world();
    world.go(list(OLD, 5, &[3]));
    for number in [0, 4, 5] {
        assert!(matches!(world.try_go(list(OLD, number, &[3])), Err(Reject::WrongState { .. })), "{number}");
    }
    assert!(matches!(world.try_go(list(OLD, 6, &[])), Err(Reject::Invalid { field: "list", .. })));
    assert_eq!(world.try_go(list(NEW, 6, &[])), Err(Reject::NotFound("root")));
    let mut ended = root_list(6, &[serial(3)]);
    ended.next_update = world.now;
    let refused = world.try_go(Command::RenewRootList { root: OLD, list: ended.clone() });
    assert!(matches!(refused, Err(Reject::Invalid { field: "list", .. })));
    (ended.next_update, ended.this_update) = (world.now.plus_ms(2 * DAY_MS), world.now.plus_ms(DAY_MS));
    let refused = world.try_go(Command::RenewRootList { root: OLD, list: ended });
    assert!(matches!(refused, Err(Reject::Invalid { field: "list", .. })));
    world.go(list(OLD, 6, &[3, 4]));
}

#[test]
fn an_authority_stands_only_beneath_a_root_that_is_trusted_outlives_it_and_has_not_revoked_it() {
    let mut world = world();
    assert_eq!(world.try_go(beneath(NEW, NEXT, AuthorityKind::Access)), Err(Reject::NotFound("root")));
    let mut short = new_root(NEW, &[]);
    short.not_after = at("2027-01-01T00:00:00Z");
    world.go(Command::TrustRoot(short));
    let refused = world.try_go(beneath(NEW, NEXT, AuthorityKind::Access));
    assert!(matches!(refused, Err(Reject::Invalid { field: "certificate", .. })));
    let mut revoked = world.clone();
    revoked.go(list(OLD, 2, &[7]));
    let refused = revoked.try_go(beneath(OLD, NEXT, AuthorityKind::Access));
    assert!(matches!(refused, Err(Reject::Invalid { field: "certificate", .. })));
    world.go(beneath(OLD, NEXT, AuthorityKind::Access));
    assert_eq!(world.state.authorities[&NEXT].beneath.unwrap().root, OLD);
    assert!(matches!(world.try_go(Command::DropRoot(OLD)), Err(Reject::WrongState { .. })), "in use");
    world.go(Command::RollbackAuthority(NEXT));
    world.go(Command::DropRoot(OLD));
    assert!(world.state.roots.get(&OLD).is_none());
}

#[test]
fn an_access_authority_that_its_root_revoked_is_revoked_at_once() {
    let mut world = world();
    world.go(beneath(OLD, NEXT, AuthorityKind::Access));
    world.go(Command::ActivateAuthority(NEXT));
    let events = world.go(list(OLD, 2, &[7]));
    assert_eq!(events, [EnforcementEvent::IssuerRevoked(NEXT)]);
    assert_eq!(state(&world, NEXT), AuthorityState::Revoked);
    assert_eq!(state(&world, ACCESS_CA), AuthorityState::Retiring, "it is not beneath this root");
    // The same list of another root names nothing here.
    world.go(Command::TrustRoot(new_root(NEW, &[])));
    assert_eq!(world.go(list(NEW, 2, &[7])), []);
}

#[test]
fn a_system_authority_that_officers_still_need_is_tainted_and_revoked_when_they_do_not() {
    let mut world = world();
    world.go(beneath(OLD, NEXT, AuthorityKind::System));
    world.go(Command::ActivateAuthority(NEXT));
    for officer in [alice(), bob()] {
        certify(&mut world, officer, PrincipalKind::Officer);
    }
    world.go(list(OLD, 2, &[7]));
    assert_eq!(state(&world, NEXT), AuthorityState::Tainted);
    // They get certificates of another one; the next list, or they themselves, end it.
    let third = AuthorityId::from_bytes([0xa2; 16]);
    world.go(Command::PrepareAuthority(new_authority(third, AuthorityKind::System)));
    world.go(Command::ActivateAuthority(third));
    assert_eq!(world.go(list(OLD, 3, &[7])), [], "bob and alice still have certificates of it");
    for officer in [alice(), bob()] {
        certify(&mut world, officer, PrincipalKind::Officer);
    }
    assert_eq!(world.go(list(OLD, 4, &[7])), [EnforcementEvent::IssuerRevoked(NEXT)]);
    assert_eq!(state(&world, NEXT), AuthorityState::Revoked);
}

#[test]
fn a_proposal_about_authorities_lapses_when_a_list_ended_one() {
    let mut world = world();
    world.go(beneath(OLD, NEXT, AuthorityKind::Access));
    let signed = world.mandate(Command::ActivateAuthority(NEXT), &[alice(), bob()]);
    world.go(list(OLD, 2, &[7]));
    let late = world.record(entry(Event::Enacted { signed, proposal: None }));
    assert!(matches!(late, Err(Reject::Conflict(_))), "{late:?}");
}

#[test]
fn cross_certificates_go_with_their_root_and_with_a_list_that_revokes_them() {
    let mut world = world();
    world.go(Command::TrustRoot(new_root(NEW, &[])));
    let new = cross(OLD, 9, CrossSubject::Root(NEW));
    assert!(matches!(
        world.try_go(Command::AddCrossCertificate(cross(
            OLD,
            8,
            CrossSubject::Root(RootId::from_bytes([1; 16]))
        ))),
        Err(Reject::NotFound("root"))
    ));
    let nobody = CrossSubject::Authority(NEXT);
    let refused = world.try_go(Command::AddCrossCertificate(cross(OLD, 8, nobody)));
    assert!(matches!(refused, Err(Reject::NotFound(_))));
    world.go(Command::AddCrossCertificate(new.clone()));
    assert_eq!(world.try_go(Command::AddCrossCertificate(new)), Err(Reject::Exists("cross-certificate")));
    world.go(Command::AddCrossCertificate(cross(NEW, 10, CrossSubject::Authority(ACCESS_CA))));
    world.go(list(NEW, 2, &[9]));
    assert_eq!(world.state.cross_certificates.len(), 2, "serial 9 is the old root's");
    world.go(list(OLD, 2, &[9]));
    assert_eq!(world.state.cross_certificates.len(), 1);
    world.go(Command::DropRoot(NEW));
    assert_eq!(world.state.cross_certificates.len(), 0);
}

#[test]
fn there_are_no_more_roots_and_cross_certificates_than_a_bundle_holds() {
    let mut world = world();
    assert_eq!(world.try_go(Command::TrustRoot(new_root(OLD, &[]))), Err(Reject::Exists("root")));
    for number in 1..u8::try_from(ROOTS_MAX).unwrap() {
        world.go(Command::TrustRoot(new_root(RootId::from_bytes([number; 16]), &[])));
    }
    let refused = world.try_go(Command::TrustRoot(new_root(NEW, &[])));
    assert!(matches!(refused, Err(Reject::WrongState { .. })));
    for number in 0..u8::try_from(CROSS_CERTIFICATES_MAX).unwrap() {
        world.go(Command::AddCrossCertificate(cross(OLD, number, CrossSubject::Authority(ACCESS_CA))));
    }
    let refused =
        world.try_go(Command::AddCrossCertificate(cross(OLD, 99, CrossSubject::Authority(ACCESS_CA))));
    assert!(matches!(refused, Err(Reject::WrongState { .. })));
}

/// Alice and bob have certificates of one system authority beneath the root, carol and dave of another one.
fn two_system_authorities() -> World {
    let mut world = world();
    let all = [Role::Approver].to_vec();
    for officer in [carol(), dave()] {
        let new = NewPrincipal { roles: all.clone(), ..officer.principal() };
        world.go(Command::RegisterPrincipal(new));
    }
    for (id, officers) in [(NEXT, [alice(), bob()]), (THIRD, [carol(), dave()])] {
        world.go(beneath(OLD, id, AuthorityKind::System));
        world.go(Command::ActivateAuthority(id));
        officers.into_iter().for_each(|officer| certify(&mut world, officer, PrincipalKind::Officer));
    }
    world
}

#[test]
fn one_list_that_names_every_system_authority_leaves_officers_one() {
    let mut world = two_system_authorities();
    // Both have the serial 7.
    world.go(list(OLD, 2, &[7]));
    assert_eq!(state(&world, NEXT), AuthorityState::Revoked);
    assert_eq!(state(&world, THIRD), AuthorityState::Tainted, "carol and dave can still be reached");
    let in_force = &world.state.enforcement;
    assert!(!in_force.is_trusted(&NEXT) && in_force.is_trusted(&THIRD));
}

#[test]
fn an_approver_whose_key_is_blocked_is_none_who_remains() {
    let mut world = two_system_authorities();
    let key = Digest::of(&dave().spki());
    world.go(Command::BlockKey { key, reason: RevocationReason::KeyCompromise });
    world.go(list(OLD, 2, &[7]));
    assert_eq!(state(&world, NEXT), AuthorityState::Tainted, "of the other one only carol can act");
}

#[test]
fn a_record_cannot_say_that_a_list_forgot_or_went_back() {
    let mut world = world();
    world.go(list(OLD, 5, &[3]));
    for wrong in [list(OLD, 5, &[3]), list(OLD, 4, &[3]), list(OLD, 6, &[])] {
        let signed = world.mandate(wrong.clone(), &[alice()]);
        let forged = entry(Event::Enacted { signed, proposal: None });
        let seq = world.state.position.seq.next();
        assert!(world.state.clone().apply(seq, world.now, &forged).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_root_that_comes_back_has_forgotten_nothing() {
    let mut world = world();
    world.go(list(OLD, 5, &[3]));
    world.go(Command::DropRoot(OLD));
    let again = |number, revoked: &[u8]| {
        let revoked: Vec<_> = revoked.iter().copied().map(serial).collect();
        let mut root = new_root(OLD, &[]);
        root.list = root_list(number, &revoked);
        Command::TrustRoot(root)
    };
    for wrong in [again(4, &[3]), again(5, &[]), again(6, &[4])] {
        let signed = world.mandate(wrong.clone(), &[alice(), bob()]);
        let forged = entry(Event::Enacted { signed, proposal: None });
        let seq = world.state.position.seq.next();
        assert!(world.state.clone().apply(seq, world.now, &forged).is_err(), "{wrong:?}");
        let refused = world.try_go(wrong.clone());
        assert!(matches!(refused, Err(Reject::WrongState { .. } | Reject::Invalid { .. })), "{wrong:?}");
    }
    world.go(again(5, &[3]));
    assert!(world.state.remembered.roots.is_empty());
    world.go(Command::DropRoot(OLD));
    assert_eq!(world.state.remembered.roots.len(), 1);
}
