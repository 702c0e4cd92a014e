//! Why and since when a certificate is refused, as revocation lists show it.

use crate::domain::certificate::{Certificate, Facts};
use crate::domain::command::Command;
use crate::domain::enforce::Names;
use crate::domain::id::{AuthorityId, EntityId, LineageId, Ordinal};
use crate::domain::revocation::{RevocationReason, RevocationScope, StopScope, SuspensionTarget};
use crate::domain::state::{RevocationCause, Withdrawal};
use crate::domain::tests::fixtures::*;
use crate::domain::tests::world::*;
use crate::domain::time::Now;

const REASON: RevocationReason = RevocationReason::Misuse;

fn names(certificate: &Certificate) -> Names<'_> {
    let Facts::Access(facts) = &certificate.facts else { panic!("an access certificate") };
    Names::of(certificate, facts)
}

fn withdrawal(world: &World, certificate: &Certificate) -> Option<Withdrawal> {
    world.state.withdrawal(&names(certificate), Now::exactly(world.now))
}

fn cause(world: &World, reason: RevocationReason) -> Option<RevocationCause> {
    Some(RevocationCause { at: world.state.time, reason })
}

#[test]
fn each_scope_is_a_revocation_with_its_reason_and_time() {
    let (mut world, member) = World::with_member();
    let person = world.person(member, FOREIGN, EMPLOYEE);
    let certificate = world.enroll(person).unwrap();
    let Names { ordinal, lineage, determination, annex_revision, .. } = names(&certificate);
    let (determination, annex_revision) = (determination.unwrap(), annex_revision.unwrap());
    let base = world;
    for scope in [
        RevocationScope::Certificate(ordinal),
        RevocationScope::Lineage(lineage),
        RevocationScope::Subject(person),
        RevocationScope::Entity(member),
        RevocationScope::Determination(determination.clone()),
        RevocationScope::AnnexRevision(determination.clone(), annex_revision),
    ] {
        let mut world = base.clone();
        assert_eq!(withdrawal(&world, &certificate), None);
        world.go(Command::Revoke { scope: scope.clone(), reason: REASON });
        let revoked = Some(Withdrawal::Revoked(cause(&world, REASON)));
        assert_eq!(withdrawal(&world, &certificate), revoked, "{scope}");
        // What is revoked is not revoked again.
        world.now = world.now.plus_ms(60_000);
        let again = world.try_go(Command::Revoke { scope: scope.clone(), reason: RevocationReason::Drill });
        assert_eq!(withdrawal(&world, &certificate), revoked, "{scope}: {again:?}");
    }
}

#[test]
fn a_revoked_authority_is_a_revocation_with_its_reason_and_time() {
    let (mut world, member) = World::with_member();
    let person = world.person(member, FOREIGN, EMPLOYEE);
    let certificate = world.enroll(person).unwrap();
    world.go(Command::RevokeAuthority { authority: certificate.issuer, reason: REASON });
    let revoked = Some(Withdrawal::Revoked(cause(&world, REASON)));
    assert_eq!(withdrawal(&world, &certificate), revoked);
    assert_eq!(world.state.authority_revoked(certificate.issuer), cause(&world, REASON));
}

#[test]
fn a_later_cut_does_not_move_the_date_of_an_earlier_one() {
    let (mut world, member) = World::with_member();
    let person = world.person(member, FOREIGN, EMPLOYEE);
    let first = world.enroll(person).unwrap();
    let scope = RevocationScope::Subject(person);
    world.go(Command::Revoke { scope: scope.clone(), reason: REASON });
    let revoked = Some(Withdrawal::Revoked(cause(&world, REASON)));
    let second = world.enroll(person).unwrap();
    assert_eq!(withdrawal(&world, &second), None);
    world.now = world.now.plus_ms(60_000);
    world.go(Command::Revoke { scope, reason: RevocationReason::ScreeningHit });
    assert_eq!(withdrawal(&world, &first), revoked);
    let again = Some(Withdrawal::Revoked(cause(&world, RevocationReason::ScreeningHit)));
    assert_eq!(withdrawal(&world, &second), again);
}

#[test]
fn what_can_be_released_is_a_hold_and_leaves_nothing() {
    let (mut world, member) = World::with_member();
    let person = world.person(member, FOREIGN, EMPLOYEE);
    let certificate = world.enroll(person).unwrap();
    let Names { issuer, ordinal, .. } = names(&certificate);
    let suspend = |target| Command::Suspend { target, reason: REASON };
    let stop = |scope| Command::Stop { scope, reason: REASON };
    let (of_entity, of_person) = (SuspensionTarget::Entity(member), SuspensionTarget::Subject(person));
    for (take, release) in [
        (Command::Hold { ordinal, reason: REASON }, Command::ReleaseHold(ordinal)),
        (suspend(of_entity), Command::Unsuspend(of_entity)),
        (suspend(of_person), Command::Unsuspend(of_person)),
        (stop(StopScope::All), Command::ReleaseStop(StopScope::All)),
        (stop(StopScope::Entity(member)), Command::ReleaseStop(StopScope::Entity(member))),
        (stop(StopScope::Subject(person)), Command::ReleaseStop(StopScope::Subject(person))),
        (stop(StopScope::Issuer(issuer)), Command::ReleaseStop(StopScope::Issuer(issuer))),
    ] {
        let before = world.state.causes.clone();
        world.go(take.clone());
        let held = Some(Withdrawal::Held(cause(&world, REASON)));
        assert_eq!(withdrawal(&world, &certificate), held, "{take:?}");
        world.go(release);
        assert_eq!(withdrawal(&world, &certificate), None, "{take:?}");
        assert_eq!(world.state.causes, before, "{take:?}");
    }
    // A stop of one model refuses no certificate.
    world.go(stop(StopScope::Model(model("fable-5"))));
    assert_eq!(withdrawal(&world, &certificate), None);
}

#[test]
fn a_changed_fact_says_which() {
    let (mut world, member) = World::with_member();
    let person = world.person(member, FOREIGN, EMPLOYEE);
    let first = world.enroll(person).unwrap();
    world.decide_person(person, US);
    let changed = Some(Withdrawal::Revoked(cause(&world, RevocationReason::StatusChanged)));
    assert_eq!(withdrawal(&world, &first), changed);
    let second = world.enroll(person).unwrap();
    world.unlist(&[member]);
    let removed = Some(Withdrawal::Revoked(cause(&world, RevocationReason::AnnexRemoved)));
    assert_eq!(withdrawal(&world, &second), removed);
}

#[test]
fn old_causes_are_forgotten_and_what_can_be_released_is_not() {
    let mut causes = super::super::Causes::default();
    let at = |ms| RevocationCause { at: crate::domain::time::Timestamp::from_millis(ms), reason: REASON };
    let event = crate::domain::enforce::EnforcementEvent::CertificateRevoked;
    let target = SuspensionTarget::Entity(EntityId::from_bytes([1; 16]));
    causes.note(&crate::domain::enforce::EnforcementEvent::Suspended(target), at(0));
    for ordinal in 0..100_000 {
        // One a minute: 15 days are 21,600.
        causes.note(&event(Ordinal(ordinal)), at(i64::try_from(ordinal).unwrap() * 60_000));
        assert!(causes.len() <= 2 * 2 * 10_080 + 2 + 1_024, "{ordinal}: {}", causes.len());
    }
    let names = |ordinal| Names {
        issuer: AuthorityId::from_bytes([2; 16]),
        ordinal: Ordinal(ordinal),
        entity: EntityId::from_bytes([1; 16]),
        subject: crate::domain::id::SubjectId::from_bytes([3; 16]),
        lineage: LineageId::from_bytes([4; 16]),
        determination: None,
        annex_revision: None,
        key: crate::domain::id::Digest([9; 32]),
    };
    assert_eq!(causes.held(&names(1)), Some(at(0)));
    assert_eq!(causes.revoked(&names(1)), None);
    // Seven days back, as long as a certificate can live.
    assert_eq!(causes.revoked(&names(99_999 - 10_080)), Some(at((99_999 - 10_080) * 60_000)));
}
