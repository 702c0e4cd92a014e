//! Rotations: which step each state allows, what somebody gets who enrolls or renews meanwhile, and what gateways know.

use crate::domain::authority::{AUTHORITIES_MAX, AuthorityState};
use crate::domain::certificate::{AuthorityKind, Facts, PrincipalKind, Serial, SystemFacts};
use crate::domain::command::Command;
use crate::domain::enforce::EnforcementEvent;
use crate::domain::event::{Cause, Entry, Event, Intent};
use crate::domain::flow::Reject;
use crate::domain::id::{AuthorityId, Digest, Ordinal, Seq, SubjectId};
use crate::domain::revocation::{RevocationReason, RevocationScope, StopScope};
use crate::domain::tests::fixtures::*;
use crate::domain::tests::world::*;

const REASON: RevocationReason = RevocationReason::CaCompromise;
const NEXT: AuthorityId = AuthorityId::from_bytes([0xa1; 16]);
const THIRD: AuthorityId = AuthorityId::from_bytes([0xa2; 16]);

fn prepare(id: AuthorityId) -> Command {
    Command::PrepareAuthority(new_authority(id, AuthorityKind::Access))
}

fn taint(authority: AuthorityId) -> Command {
    Command::TaintAuthority { authority, reason: REASON }
}

fn revoke(authority: AuthorityId) -> Command {
    Command::RevokeAuthority { authority, reason: REASON }
}

fn verbs(id: AuthorityId) -> [(&'static str, Command); 5] {
    [
        ("activate", Command::ActivateAuthority(id)),
        ("taint", taint(id)),
        ("rollback", Command::RollbackAuthority(id)),
        ("retire", Command::RetireAuthority(id)),
        ("revoke", revoke(id)),
    ]
}

fn state(world: &World, id: AuthorityId) -> AuthorityState {
    world.state.authorities[&id].state
}

/// A world with a person of a member.
fn scene() -> (World, SubjectId) {
    let (mut world, member) = World::with_member();
    let person = world.person(member, FOREIGN, EMPLOYEE);
    (world, person)
}

/// The same with the next authority in this state, and the first in the one that goes with it.
fn scene_with(next: AuthorityState) -> (World, SubjectId) {
    let (mut world, person) = scene();
    world.go(prepare(NEXT));
    match next {
        AuthorityState::Prepared => {}
        AuthorityState::Active => drop(world.go(Command::ActivateAuthority(NEXT))),
        AuthorityState::Retiring => {
            world.go(Command::ActivateAuthority(NEXT));
            world.go(prepare(THIRD));
            world.go(Command::ActivateAuthority(THIRD));
        }
        AuthorityState::Retired => drop(world.go(Command::RollbackAuthority(NEXT))),
        AuthorityState::Tainted => drop(world.go(taint(NEXT))),
        AuthorityState::Revoked => drop(world.go(revoke(NEXT))),
    }
    assert_eq!(state(&world, NEXT), next);
    (world, person)
}

#[test]
fn every_step_is_taken_from_its_states_and_no_other() {
    for from in AuthorityState::ALL {
        let (world, _) = scene_with(*from);
        let taken = verbs(NEXT).map(|(verb, command)| {
            let mut world = world.clone();
            match world.try_go(command) {
                Ok(_) => format!("{verb} {}", state(&world, NEXT)),
                Err(Reject::WrongState { .. }) => String::new(),
                Err(other) => panic!("{verb} from {from}: {other}"),
            }
        });
        let taken = taken.into_iter().filter(|step| !step.is_empty()).collect::<Vec<_>>().join(", ");
        let expected = match from {
            AuthorityState::Prepared => "activate ACTIVE, taint TAINTED, rollback RETIRED, revoke REVOKED",
            AuthorityState::Active => "taint TAINTED, rollback PREPARED, revoke REVOKED",
            AuthorityState::Retiring | AuthorityState::Tainted if *from == AuthorityState::Retiring => {
                "taint TAINTED, retire RETIRED, revoke REVOKED"
            }
            AuthorityState::Retiring | AuthorityState::Tainted => "retire RETIRED, revoke REVOKED",
            AuthorityState::Retired | AuthorityState::Revoked => "",
        };
        assert_eq!(taken, expected, "{from}");
    }
    let (mut world, _) = scene();
    for (verb, command) in verbs(NEXT) {
        assert_eq!(world.try_go(command), Err(Reject::NotFound("authority")), "{verb}");
    }
}

#[test]
fn trust_needs_two_officers_and_a_taint_one() {
    let (mut world, _) = scene_with(AuthorityState::Active);
    let two = [
        prepare(THIRD),
        Command::ActivateAuthority(ACCESS_CA),
        Command::RollbackAuthority(NEXT),
        Command::RetireAuthority(ACCESS_CA),
        revoke(ACCESS_CA),
    ];
    for command in two {
        let alone = world.enact(command.clone(), &[alice()]);
        assert!(matches!(alone, Err(Reject::NeedsApproval(_) | Reject::WrongState { .. })), "{command:?}");
    }
    world.enact(taint(ACCESS_CA), &[alice()]).unwrap();
}

#[test]
fn in_each_phase_enrollment_and_renewal_give_what_is_written() {
    for next in AuthorityState::ALL {
        let (mut world, person) = scene();
        let first = world.enroll(person).unwrap();
        assert_eq!(first.issuer, ACCESS_CA);
        world = {
            let (mut again, _) = (world, ());
            again.go(prepare(NEXT));
            match next {
                AuthorityState::Prepared => {}
                AuthorityState::Active => drop(again.go(Command::ActivateAuthority(NEXT))),
                AuthorityState::Retiring => {
                    again.go(Command::ActivateAuthority(NEXT));
                    again.go(Command::RollbackAuthority(NEXT));
                    again.go(prepare(THIRD));
                    again.go(Command::ActivateAuthority(THIRD));
                }
                AuthorityState::Retired => drop(again.go(Command::RollbackAuthority(NEXT))),
                AuthorityState::Tainted => {
                    again.go(Command::ActivateAuthority(NEXT));
                    again.go(taint(NEXT));
                }
                AuthorityState::Revoked => {
                    again.go(Command::ActivateAuthority(NEXT));
                    again.go(revoke(NEXT));
                }
            }
            again
        };
        // Whoever has a certificate of the first goes on in all of them.
        assert!(world.decide(&first, &inference("mythos-5")).is_permit(), "{next}");
        let expected = match next {
            AuthorityState::Prepared | AuthorityState::Retired => Some(ACCESS_CA),
            AuthorityState::Active => Some(NEXT),
            AuthorityState::Retiring => Some(THIRD),
            AuthorityState::Tainted | AuthorityState::Revoked => None,
        };
        let enrolled = world.enroll(person).map(|certificate| certificate.issuer).ok();
        let renewed = world.renew(&first).map(|certificate| certificate.issuer).ok();
        assert_eq!((enrolled, renewed), (expected, expected), "{next}");
    }
}

#[test]
fn a_prepared_authority_is_known_before_it_issues_and_a_dropped_one_no_more() {
    let (mut world, person) = scene();
    let events = world.go(prepare(NEXT));
    assert!(matches!(events.as_slice(), [EnforcementEvent::AuthorityListed(card)] if card.id == NEXT));
    assert!(world.gate.enforcement.is_trusted(&NEXT) && world.gate.digest == world.state.feed_digest);
    world.go(Command::ActivateAuthority(NEXT));
    let certificate = world.enroll(person).unwrap();
    assert!(world.decide_at_gate(&certificate, &inference("mythos-5")).is_permit());
    world.go(revoke(NEXT));
    for decision in [
        world.decide(&certificate, &inference("mythos-5")),
        world.decide_at_gate(&certificate, &inference("mythos-5")),
    ] {
        assert_eq!(decision.code(), "CREDENTIAL_REVOKED");
    }
    // A certificate in the name of one that is not on record, or was dropped, is nobody's.
    let forged = crate::domain::certificate::Certificate { issuer: THIRD, ..certificate };
    assert_eq!(world.decide_at_gate(&forged, &inference("mythos-5")).code(), "CREDENTIAL_INVALID");
    world.go(prepare(THIRD));
    world.go(Command::RollbackAuthority(THIRD));
    assert_eq!(world.decide_at_gate(&forged, &inference("mythos-5")).code(), "CREDENTIAL_INVALID");
    assert_eq!(world.try_go(prepare(THIRD)), Err(Reject::Exists("authority")), "its id is not used again");
}

#[test]
fn a_rollback_goes_back_one_step_at_a_time() {
    let (mut world, person) = scene_with(AuthorityState::Retiring);
    let certificate = world.enroll(person).unwrap();
    world.go(Command::RollbackAuthority(THIRD));
    let states = |world: &World| [ACCESS_CA, NEXT, THIRD].map(|id| state(world, id).as_str());
    assert_eq!(states(&world), ["RETIRING", "ACTIVE", "PREPARED"]);
    assert!(world.decide(&certificate, &inference("mythos-5")).is_permit(), "what it issued stays good");
    world.go(Command::RollbackAuthority(NEXT));
    assert_eq!(states(&world), ["ACTIVE", "PREPARED", "PREPARED"]);
    // With certificates out it cannot just go; without, it can.
    assert!(matches!(world.try_go(Command::RollbackAuthority(THIRD)), Err(Reject::WrongState { .. })));
    world.go(Command::RollbackAuthority(NEXT));
    world.go(Command::ActivateAuthority(THIRD));
    assert_eq!(states(&world), ["RETIRING", "RETIRED", "ACTIVE"]);
    // Nothing to go back to: the one before is known to be bad.
    world.go(taint(ACCESS_CA));
    assert!(matches!(world.try_go(Command::RollbackAuthority(THIRD)), Err(Reject::WrongState { .. })));
    let first = world.try_go(Command::RollbackAuthority(ACCESS_CA));
    assert!(matches!(first, Err(Reject::WrongState { .. })));
}

#[test]
fn an_issuance_that_a_rotation_overtakes_begins_anew() {
    for meanwhile in [
        vec![prepare(NEXT), Command::ActivateAuthority(NEXT)],
        vec![taint(ACCESS_CA)],
        vec![revoke(ACCESS_CA)],
    ] {
        let (mut world, person) = scene();
        let before = world.enrollment(person, "before").unwrap();
        let under_way = world.enrollment(person, "under way").unwrap();
        let under_way = Intent { ordinal: Ordinal(before.ordinal.0 + 1), ..under_way };
        world.intend(&before).unwrap();
        let last = meanwhile.last().cloned().unwrap();
        meanwhile.into_iter().for_each(|command| drop(world.go(command)));
        for refused in [world.intend(&under_way).map(drop), world.complete(&before).map(drop)] {
            assert!(matches!(refused, Err(Reject::Conflict(_))), "{last:?}: {refused:?}");
        }
    }
}

#[test]
fn an_authority_whose_predecessor_was_replaced_can_be_revoked() {
    let (mut world, person) = scene();
    let old = world.enroll(person).unwrap();
    world.go(prepare(NEXT));
    world.go(Command::ActivateAuthority(NEXT));
    let new = world.enroll(person).unwrap();
    world.go(Command::RetireAuthority(ACCESS_CA));
    assert_eq!(world.decide(&old, &inference("mythos-5")).code(), "CREDENTIAL_INVALID", "trusted by nobody");
    world.go(revoke(NEXT));
    assert_eq!(world.decide(&new, &inference("mythos-5")).code(), "CREDENTIAL_REVOKED");
    // The way out is always open: another is prepared and issues.
    world.go(prepare(THIRD));
    world.go(Command::ActivateAuthority(THIRD));
    assert_eq!(world.enroll(person).unwrap().issuer, THIRD);
}

#[test]
fn one_officer_stops_an_authority_and_two_revoke_it() {
    let (mut world, person) = scene();
    let certificate = world.enroll(person).unwrap();
    let stop = Command::Stop { scope: StopScope::Issuer(ACCESS_CA), reason: REASON };
    world.enact(stop, &[alice()]).unwrap();
    assert_eq!(world.decide_at_gate(&certificate, &inference("mythos-5")).code(), "EMERGENCY_STOP");
    assert!(world.enroll(person).is_err(), "nothing is issued");
    world.enact(revoke(ACCESS_CA), &[alice(), bob()]).unwrap();
    let release = Command::ReleaseStop(StopScope::Issuer(ACCESS_CA));
    world.go(release);
    assert_eq!(world.decide_at_gate(&certificate, &inference("mythos-5")).code(), "CREDENTIAL_REVOKED");
}

#[test]
fn a_mandate_rests_on_the_whole_list() {
    let (mut world, _) = scene();
    world.go(prepare(NEXT));
    let signed = world.mandate(Command::ActivateAuthority(NEXT), &[alice(), bob()]);
    world.go(prepare(THIRD));
    let stale = world.record(entry(Event::Enacted { signed, proposal: None }));
    assert!(matches!(stale, Err(Reject::Conflict(_))), "{stale:?}");
}

#[test]
fn no_more_authorities_than_a_bundle_holds_and_none_that_has_ended() {
    let (mut world, _) = scene();
    for number in 0..AUTHORITIES_MAX - 2 {
        world.go(prepare(AuthorityId::from_bytes([0xb0 + u8::try_from(number).unwrap(); 16])));
    }
    assert!(matches!(world.try_go(prepare(NEXT)), Err(Reject::WrongState { .. })));
    let (mut world, _) = scene();
    let mut ended = new_authority(NEXT, AuthorityKind::Access);
    ended.not_after = world.now;
    let refused = world.try_go(Command::PrepareAuthority(ended));
    assert!(matches!(refused, Err(Reject::Invalid { field: "not_after", .. })));
    for certificate in [vec![], vec![0; 4_097]] {
        let new = crate::domain::authority::NewAuthority {
            certificate,
            ..new_authority(NEXT, AuthorityKind::Access)
        };
        let refused = world.try_go(Command::PrepareAuthority(new));
        assert!(matches!(refused, Err(Reject::Invalid { field: "certificate", .. })));
    }
    world.go(prepare(NEXT));
    world.now = at("2027-06-01T00:00:01Z");
    assert!(matches!(world.try_go(Command::ActivateAuthority(NEXT)), Err(Reject::WrongState { .. })));
}

/// Issues a certificate to an officer.
pub(in crate::domain) fn certify(world: &mut World, officer: &Officer, kind: PrincipalKind) {
    let ordinal = Ordinal(world.state.last_system_ordinal.0 + 1);
    let intent = Intent {
        authority: AuthorityKind::System,
        ordinal,
        serial: Serial::from_random([u8::try_from(ordinal.0).unwrap(); 16]),
        facts: Facts::System(SystemFacts { kind, principal: officer.id.clone() }),
        key: Digest::of(&officer.spki()),
        not_before: world.now,
        not_after: world.now.plus_ms(30 * DAY_MS),
        cause: Cause::Register(officer.id.clone()),
        tbs: vec![0x30],
        issuer: world.state.authority(AuthorityKind::System).map(|active| active.id),
    };
    world.intend(&intent).unwrap();
    world.complete(&intent).unwrap();
}

#[test]
fn a_system_authority_is_revoked_when_two_approvers_do_not_need_it() {
    let (mut world, _) = scene();
    for officer in [alice(), bob()] {
        certify(&mut world, officer, PrincipalKind::Officer);
    }
    let next = Command::PrepareAuthority(new_authority(NEXT, AuthorityKind::System));
    world.go(next);
    assert!(matches!(world.try_go(revoke(SYSTEM_CA)), Err(Reject::WrongState { .. })), "the only one");
    world.go(Command::ActivateAuthority(NEXT));
    certify(&mut world, alice(), PrincipalKind::Officer);
    assert!(matches!(world.try_go(revoke(SYSTEM_CA)), Err(Reject::WrongState { .. })), "bob's is of it");
    certify(&mut world, bob(), PrincipalKind::Officer);
    world.go(revoke(SYSTEM_CA));
    assert!(!world.state.enforcement.is_trusted(&SYSTEM_CA));
    assert_eq!(state(&world, ACCESS_CA), AuthorityState::Active, "of the other kind");
}

#[test]
fn an_old_record_with_one_signature_still_revokes_and_an_old_intent_is_of_the_first_authority() {
    let (mut world, person) = scene();
    let intent = Intent { issuer: None, ..world.enrollment(person, "old").unwrap() };
    world.intend(&intent).unwrap();
    let certificate = world.complete(&intent).unwrap();
    assert_eq!(world.state.lineages.values().next().unwrap().last.issuer, ACCESS_CA);
    assert_eq!(world.state.authorities[&ACCESS_CA].issued_until, Some(intent.not_after));
    let scope = RevocationScope::Issuer(ACCESS_CA);
    let signed = world.mandate(Command::Revoke { scope, reason: REASON }, &[alice()]);
    let old = Entry { by: None, request: None, event: Event::Enacted { signed, proposal: None } };
    let seq = Seq(world.state.position.seq.0 + 1);
    world.state.apply(seq, world.now, &old).unwrap();
    assert_eq!(world.decide(&certificate, &inference("mythos-5")).code(), "CREDENTIAL_REVOKED");
}

#[test]
fn a_certificate_of_the_system_does_not_outlive_its_authority() {
    let (world, _) = scene();
    let intent = |not_after| Intent {
        authority: AuthorityKind::System,
        ordinal: Ordinal(world.state.last_system_ordinal.0 + 1),
        serial: Serial::from_random([9; 16]),
        facts: Facts::System(SystemFacts { kind: PrincipalKind::Officer, principal: alice().id.clone() }),
        key: Digest::of(&alice().spki()),
        not_before: world.now,
        not_after,
        cause: Cause::Register(alice().id.clone()),
        tbs: vec![0x30],
        issuer: Some(SYSTEM_CA),
    };
    let end = world.state.authorities[&SYSTEM_CA].not_after;
    world.clone().intend(&intent(end)).unwrap();
    let refused = world.clone().intend(&intent(end.plus_ms(1_000)));
    assert!(matches!(&refused, Err(Reject::Conflict(why)) if why.contains("outlives")), "{refused:?}");
}
