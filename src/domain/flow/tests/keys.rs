//! Blocks of public keys: what was issued to one is revoked for good, and nothing is issued to it until two unblock it.

use crate::domain::certificate::{AuthorityKind, CanaryFacts, CanarySide, Facts, PrincipalKind, SystemFacts};
use crate::domain::codec::{from_bytes, to_bytes};
use crate::domain::command::Command;
use crate::domain::enforce::{EnforcementEvent, Names};
use crate::domain::event::{Cause, Intent};
use crate::domain::flow::Reject;
use crate::domain::id::{Digest, Ordinal};
use crate::domain::principal::Role;
use crate::domain::revocation::RevocationReason;
use crate::domain::state::{RevocationCause, State, Withdrawal};
use crate::domain::tests::fixtures::*;
use crate::domain::tests::world::*;
use crate::domain::time::Now;

const REASON: RevocationReason = RevocationReason::KeyCompromise;

fn block(key: Digest) -> Command {
    Command::BlockKey { key, reason: REASON }
}

#[track_caller]
fn is_blocked<T: std::fmt::Debug>(result: Result<T, Reject>, expected: &'static str) {
    match result {
        Err(Reject::Invalid { field, why }) if why.contains("KEY_BLOCKED") => assert_eq!(field, expected),
        other => panic!("{other:?}"),
    }
}

#[test]
fn everything_issued_to_a_blocked_key_is_revoked_by_one_record_and_one_event() {
    let (mut world, member) = World::with_member();
    let person = world.person(member, FOREIGN, EMPLOYEE);
    let (first, other) = (world.enroll(person).unwrap(), world.enroll(person).unwrap());
    let request = inference("mythos-5");
    assert!(world.decide(&first, &request).is_permit() && world.decide(&other, &request).is_permit());
    assert_eq!(world.go(block(first.key)), [EnforcementEvent::KeyBlocked(first.key)]);
    assert_eq!(world.decide(&first, &request).code(), "CREDENTIAL_REVOKED");
    assert_eq!(world.decide_at_gate(&first, &request).code(), "CREDENTIAL_REVOKED");
    assert!(world.decide(&other, &request).is_permit());
    let Facts::Access(facts) = &first.facts else { panic!() };
    let cause = Some(RevocationCause { at: world.state.time, reason: REASON });
    let names = Names::of(&first, facts);
    assert_eq!(world.state.withdrawal(&names, Now::exactly(world.now)), Some(Withdrawal::Revoked(cause)));
    assert_eq!(
        world.state.canary_withdrawal(ACCESS_CA, first.ordinal, first.key),
        Some(Withdrawal::Revoked(cause))
    );
    // Again: nothing changes, and the first cause stays.
    let (set, causes) = (world.state.enforcement.clone(), world.state.causes.clone());
    world.now = world.now.plus_ms(60_000);
    world.go(Command::BlockKey { key: first.key, reason: RevocationReason::Drill });
    assert!(world.state.enforcement == set && world.state.causes == causes);
    let read: State = from_bytes(&to_bytes(&world.state)).unwrap();
    assert!(read == world.state && read.enforcement.is_blocked(first.key));
    assert_eq!(read.enforcement.blocked_keys().collect::<Vec<_>>(), [first.key]);
}

#[test]
fn a_blocked_key_is_certified_for_nobody_though_nobody_has_seen_it() {
    let (mut world, member) = World::with_member();
    let person = world.person(member, FOREIGN, EMPLOYEE);
    let unseen = world.enrollment(person, "unseen").unwrap();
    let begun = world.enrollment(person, "begun").unwrap();
    world.go(block(unseen.key));
    is_blocked(world.intend(&unseen), "csr");
    // Between intent and signature as well.
    let begun = Intent { ordinal: Ordinal(world.state.last_ordinal.0 + 1), ..begun };
    world.intend(&begun).unwrap();
    world.go(block(begun.key));
    is_blocked(world.complete(&begun), "csr");

    let certificate = world.enroll(person).unwrap();
    let renewal = world.renewal(&certificate, "unseen").unwrap();
    is_blocked(world.intend(&renewal), "csr");
    let mut principal = dave().principal();
    principal.id = "gw-9".parse().unwrap();
    (principal.kind, principal.roles) = (PrincipalKind::Gateway, vec![Role::Gateway]);
    let (name, key) = (principal.id.clone(), Digest::of(&principal.key));
    world.go(block(key));
    is_blocked(world.try_go(Command::RegisterPrincipal(principal.clone())), "key");
    world.go(Command::UnblockKey(key));
    world.go(Command::RegisterPrincipal(principal));
    world.go(block(key));
    let system = Intent {
        authority: AuthorityKind::System,
        issuer: world.state.authority(AuthorityKind::System).map(|active| active.id),
        ordinal: Ordinal(world.state.last_system_ordinal.0 + 1),
        facts: Facts::System(SystemFacts { kind: PrincipalKind::Gateway, principal: name.clone() }),
        key,
        cause: Cause::Register(name.clone()),
        ..unseen.clone()
    };
    is_blocked(world.intend(&system), "csr");
    let canary = Intent {
        ordinal: Ordinal(world.state.last_ordinal.0 + 1),
        facts: Facts::Canary(CanaryFacts { gateway: name, side: CanarySide::A }),
        ..unseen
    };
    is_blocked(world.intend(&canary), "csr");
}

#[test]
fn two_officers_unblock_and_nothing_comes_back() {
    let (mut world, member) = World::with_member();
    let person = world.person(member, FOREIGN, EMPLOYEE);
    let old = world.enroll(person).unwrap();
    world.go(block(old.key));
    let blocked_at = world.state.time;
    let one = world.enact(Command::UnblockKey(old.key), &[alice()]);
    assert!(matches!(one, Err(Reject::NeedsApproval(_))));
    world.now = world.now.plus_ms(60_000);
    world.go(Command::UnblockKey(old.key));
    assert_eq!(world.try_go(Command::UnblockKey(old.key)), Err(Reject::NotFound("key block")));
    let request = inference("mythos-5");
    assert_eq!(world.decide(&old, &request).code(), "CREDENTIAL_REVOKED");
    let Facts::Access(facts) = &old.facts else { panic!() };
    let cause = Some(RevocationCause { at: blocked_at, reason: REASON });
    assert_eq!(
        world.state.withdrawal(&Names::of(&old, facts), Now::exactly(world.now)),
        Some(Withdrawal::Revoked(cause))
    );
    assert_eq!(world.state.enforcement.blocked_keys().count(), 0);

    // A key that was blocked before anybody used it may be used now.
    let fresh = Digest::of(b"fresh");
    world.go(block(fresh));
    world.go(Command::UnblockKey(fresh));
    let intent = world.enrollment(person, "fresh").unwrap();
    world.intend(&intent).unwrap();
    let certificate = world.complete(&intent).unwrap();
    assert!(world.decide(&certificate, &request).is_permit());
    world.go(block(fresh));
    assert_eq!(world.decide(&certificate, &request).code(), "CREDENTIAL_REVOKED");
}

#[test]
fn a_blocked_officer_signs_nothing_and_two_approvers_always_remain() {
    let mut world = World::new();
    let key = |officer: &Officer| Digest::of(&officer.spki());
    let refused = world.try_go(block(key(bob())));
    assert!(matches!(refused, Err(Reject::WrongState { what: "number of approvers", .. })), "{refused:?}");
    world.go(Command::RegisterPrincipal(dave().principal()));
    world.go(block(key(bob())));
    let signed = world.enact(Command::UnblockKey(key(bob())), &[alice(), bob()]);
    assert!(matches!(signed, Err(Reject::NeedsApproval(_))), "{signed:?}");
    assert!(world.state.officer(&bob().principal().id).is_none());
    let next = world.try_go(block(key(dave())));
    assert!(matches!(next, Err(Reject::WrongState { .. })), "{next:?}");
    let removal = Command::RemovePrincipal(dave().principal().id);
    let removal = world.enact(removal, &[alice(), dave()]);
    assert!(matches!(removal, Err(Reject::WrongState { .. })), "{removal:?}");
    world.enact(Command::UnblockKey(key(bob())), &[alice(), dave()]).unwrap();
    assert!(world.state.officer(&bob().principal().id).is_some());
}
