//! Rotation by itself: only under a standing approval of two officers, only when it is due, and only as the list allows.

use crate::domain::authority::AuthorityState;
use crate::domain::certificate::AuthorityKind;
use crate::domain::codec::{from_bytes, to_bytes};
use crate::domain::command::{Command, ObjectRef};
use crate::domain::enforce::EnforcementEvent;
use crate::domain::event::{Entry, Event};
use crate::domain::flow::Reject;
use crate::domain::id::{AuthorityId, Seq};
use crate::domain::officer_command::OfficerCommand;
use crate::domain::rotation::{APPROVAL_MAX_MS, RotationStep, Schedule};
use crate::domain::state::State;
use crate::domain::tests::fixtures::*;
use crate::domain::tests::world::*;

const NEXT: AuthorityId = AuthorityId::from_bytes([0xa1; 16]);
const THIRD: AuthorityId = AuthorityId::from_bytes([0xa2; 16]);
const KIND: AuthorityKind = AuthorityKind::Access;

fn permit(world: &World, rotations: u32) -> Command {
    Command::PermitRotation { kind: KIND, until: world.now.plus_ms(APPROVAL_MAX_MS), rotations }
}

fn permitted(rotations: u32) -> World {
    let mut world = World::new();
    let command = permit(&world, rotations);
    world.go(command);
    world
}

fn given(world: &World) -> Seq {
    world.state.rotations.approvals[&KIND].given
}

/// A step of the server's own, under the approval at hand.
fn step(world: &World, step: RotationStep) -> Entry {
    Entry {
        event: Event::RotationStepped { kind: KIND, approval: given(world), step },
        by: None,
        request: None,
    }
}

fn next(world: &World, id: AuthorityId) -> RotationStep {
    let not_after = world.now.plus_ms(364 * DAY_MS);
    RotationStep::Prepare(crate::domain::authority::NewAuthority { not_after, ..new_authority(id, KIND) })
}

fn schedule(world: &World) -> Schedule {
    world.state.schedule(KIND).unwrap()
}

/// Refused when it is admitted, and as a record of a journal.
fn refused(world: &World, entry: &Entry) -> Reject {
    let mut copy = world.clone();
    let reject = copy.record(entry.clone()).unwrap_err();
    let seq = world.state.position.seq.next();
    assert!(world.state.clone().apply(seq, world.now, entry).is_err(), "a journal says so: {reject}");
    reject
}

#[test]
fn the_next_one_is_due_at_half_of_a_life_and_issues_at_a_sixth_with_a_cap() {
    let since = at(GENESIS_AT);
    let after = |ms| since.plus_ms(ms);
    let short = Schedule::of(KIND, since, after(12 * DAY_MS));
    assert_eq!((short.prepare_at, short.activate_at), (after(6 * DAY_MS), after(10 * DAY_MS)));
    let long = Schedule::of(KIND, since, after(365 * DAY_MS));
    assert_eq!((long.prepare_at, long.activate_at), (after(335 * DAY_MS), after(358 * DAY_MS)));
    let system = Schedule::of(AuthorityKind::System, since, after(365 * DAY_MS));
    assert_eq!((system.prepare_at, system.activate_at), (after(305 * DAY_MS), after(328 * DAY_MS)));
    let backwards = Schedule::of(KIND, since, after(-1));
    assert_eq!(backwards.prepare_at, after(-1));
}

#[test]
fn a_whole_rotation_happens_under_one_approval_and_each_step_in_its_time() {
    let mut world = permitted(1);
    let Schedule { prepare_at, activate_at } = schedule(&world);
    let prepare = step(&world, next(&world, NEXT));
    assert!(matches!(refused(&world, &prepare), Reject::Conflict(why) if why.contains("not due")));
    world.now = prepare_at;
    let prepare = step(&world, next(&world, NEXT));
    let applied = world.record(prepare.clone()).unwrap();
    assert!(
        matches!(applied.events.as_slice(), [EnforcementEvent::AuthorityListed(card)] if card.id == NEXT)
    );
    assert_eq!(world.state.authorities[&NEXT].prepared, Some(world.state.position.seq));
    assert!(matches!(refused(&world, &prepare), Reject::NeedsApproval(_)), "one was all there was");
    let activate = step(&world, RotationStep::Activate(NEXT));
    assert!(matches!(refused(&world, &activate), Reject::Conflict(_)));
    world.now = activate_at;
    world.record(activate.clone()).unwrap();
    let state = |world: &World, id| world.state.authorities[&id].state;
    assert_eq!(state(&world, ACCESS_CA), AuthorityState::Retiring);
    assert_eq!(state(&world, NEXT), AuthorityState::Active);
    assert!(matches!(refused(&world, &activate), Reject::Conflict(_)), "its successor is not due");
    // Nothing of the first is valid: it issued nothing.
    let retire = step(&world, RotationStep::Retire(ACCESS_CA));
    world.record(retire.clone()).unwrap();
    assert_eq!(state(&world, ACCESS_CA), AuthorityState::Retired);
    refused(&world, &retire);
    assert!(world.gate.enforcement == world.state.enforcement);
    let read: State = from_bytes(&to_bytes(&world.state)).unwrap();
    assert!(read == world.state, "a snapshot is the state");
}

#[test]
fn an_authority_with_certificates_is_retired_when_the_last_has_ended() {
    let (mut world, member) = World::with_member();
    let command = permit(&world, 2);
    world.go(command);
    let person = world.person(member, FOREIGN, EMPLOYEE);
    let certificate = world.enroll(person).unwrap();
    let prepare = Command::PrepareAuthority(new_authority(NEXT, KIND));
    world.go(prepare);
    world.go(Command::ActivateAuthority(NEXT));
    let retire = step(&world, RotationStep::Retire(ACCESS_CA));
    assert!(matches!(refused(&world, &retire), Reject::WrongState { .. }));
    world.now = certificate.not_after.plus_ms(3_600_001);
    world.record(retire).unwrap();
}

#[test]
fn no_step_is_taken_without_the_approval_that_it_names() {
    let mut world = permitted(3);
    world.now = schedule(&world).prepare_at;
    let prepare = step(&world, next(&world, NEXT));
    let without = {
        let mut world = World::new();
        world.now = schedule(&world).prepare_at;
        world
    };
    assert!(matches!(refused(&without, &prepare), Reject::NeedsApproval(_)));
    let withdrawn = {
        let mut world = world.clone();
        world.enact(Command::WithdrawRotation(KIND), &[bob()]).unwrap();
        world
    };
    assert!(matches!(refused(&withdrawn, &prepare), Reject::NeedsApproval(_)));
    let again = {
        let mut world = withdrawn.clone();
        let command = permit(&world, 3);
        world.go(command);
        world
    };
    assert!(matches!(refused(&again, &prepare), Reject::NeedsApproval(_)), "another approval");
    let expired = {
        let mut world = world.clone();
        world.now = world.state.rotations.approvals[&KIND].until;
        world
    };
    assert!(matches!(refused(&expired, &prepare), Reject::NeedsApproval(why) if why.contains("ended")));
    let system = Event::RotationStepped {
        kind: AuthorityKind::System,
        approval: given(&world),
        step: next(&world, NEXT),
    };
    let system = Entry { event: system, by: None, request: None };
    assert!(matches!(refused(&world, &system), Reject::NeedsApproval(_)));
    // Two are needed to give one, one withdraws it, and it ends.
    let alone = world.enact(permit(&world, 1), &[alice()]);
    assert!(matches!(alone, Err(Reject::NeedsApproval(_))));
    let (now, until) = (world.now, world.now.plus_ms(APPROVAL_MAX_MS + 1));
    for (until, rotations) in [(now, 1), (until, 1), (now.plus_ms(1), 0), (now.plus_ms(1), 101)] {
        let wrong = world.try_go(Command::PermitRotation { kind: KIND, until, rotations });
        assert!(matches!(wrong, Err(Reject::Invalid { .. })), "{until} {rotations}");
    }
}

#[test]
fn a_step_that_the_list_does_not_allow_is_refused_also_as_a_record() {
    let mut world = permitted(3);
    world.now = schedule(&world).prepare_at;
    let first = next(&world, NEXT);
    let wrong = |change: fn(&mut crate::domain::authority::NewAuthority)| {
        let RotationStep::Prepare(mut new) = first.clone() else { panic!() };
        change(&mut new);
        step(&world, RotationStep::Prepare(new))
    };
    for (what, entry) in [
        ("a used id", wrong(|new| new.id = ACCESS_CA)),
        ("another kind", wrong(|new| new.kind = AuthorityKind::System)),
        ("a shorter life", wrong(|new| new.not_after = at(GENESIS_AT))),
        ("a longer life", wrong(|new| new.not_after = new.not_after.plus_ms(DAY_MS))),
        ("an unknown one", step(&world, RotationStep::Activate(NEXT))),
        ("the active one", step(&world, RotationStep::Retire(ACCESS_CA))),
    ] {
        let reject = refused(&world, &entry);
        let is_refused = matches!(reject, Reject::WrongState { .. } | Reject::Conflict(_));
        assert!(is_refused, "{what}: {reject:?}");
    }
    let entry = step(&world, first);
    world.record(entry).unwrap();
    refused(&world, &step(&world, next(&world, THIRD)));
    // Nobody issues: nothing is due, and officers act by hand.
    world.go(Command::TaintAuthority {
        authority: ACCESS_CA,
        reason: crate::domain::revocation::RevocationReason::Drill,
    });
    assert_eq!(world.state.schedule(KIND), None);
    refused(&world, &step(&world, RotationStep::Activate(NEXT)));
}

#[test]
fn a_failure_ends_it_until_officers_permit_it_anew_and_so_does_a_rollback() {
    let mut world = permitted(3);
    world.now = schedule(&world).prepare_at;
    let failed = |world: &World| Entry {
        event: Event::RotationFailed { kind: KIND, approval: given(world), why: "no key".to_owned() },
        by: None,
        request: None,
    };
    let entry = failed(&world);
    world.record(entry.clone()).unwrap();
    assert!(matches!(refused_once(&world, &entry), Reject::NotFound(_)), "it is on record");
    let prepare = step(&world, next(&world, NEXT));
    assert!(matches!(refused(&world, &prepare), Reject::NeedsApproval(why) if why.contains("by hand")));
    let command = permit(&world, 3);
    world.go(command);
    let prepare = step(&world, next(&world, NEXT));
    world.record(prepare).unwrap();
    world.now = schedule(&world).activate_at;
    let activate = step(&world, RotationStep::Activate(NEXT));
    world.record(activate.clone()).unwrap();
    // Whoever goes back has decided otherwise.
    world.go(Command::RollbackAuthority(NEXT));
    assert!(world.state.rotations.approvals.is_empty());
    assert!(matches!(refused(&world, &activate), Reject::NeedsApproval(_)));
}

#[test]
fn it_lapses_for_good_when_one_of_its_two_officers_may_not_act_any_more() {
    let reason = crate::domain::revocation::RevocationReason::KeyCompromise;
    let suspend = |who: &Officer| OfficerCommand::Suspend { principal: who.id.clone(), reason };
    let key_of = |who: &Officer| crate::domain::id::Digest::of(&who.principal().key);
    for stop in [
        Command::Officers(suspend(bob())),
        Command::RemovePrincipal(bob().id.clone()),
        Command::BlockKey { key: key_of(bob()), reason },
    ] {
        let mut world = permitted(3);
        world.go(Command::RegisterPrincipal(dave().principal()));
        world.go(Command::RegisterPrincipal(carol().principal()));
        world.now = schedule(&world).prepare_at;
        let prepare = step(&world, next(&world, NEXT));
        // One who did not sign it may go.
        world.enact(Command::Officers(suspend(carol())), &[alice()]).unwrap();
        world.clone().record(prepare.clone()).unwrap();
        let signers: &[&Officer] = if stop.signers().count == 1 { &[alice()] } else { &[alice(), dave()] };
        world.enact(stop.clone(), signers).unwrap();
        let lapsed_at = world.state.position.seq;
        let says = |reject: &Reject| matches!(reject, Reject::NeedsApproval(why) if why.contains("bob ceased to act"));
        assert!(says(&refused(&world, &prepare)), "{stop:?}");
        let held = &world.state.rotations.approvals[&KIND];
        assert_eq!(held.lapsed.as_ref().map(|lost| (lost.at, &lost.officer)), Some((lapsed_at, &bob().id)));
        assert_eq!(world.state.revision(&ObjectRef::Rotation(KIND)), lapsed_at);
        let read: State = from_bytes(&to_bytes(&world.state)).unwrap();
        assert!(read == world.state, "a snapshot is the state");
        // A release gives nothing back; two officers do.
        if let Command::Officers(_) = stop {
            world
                .enact(Command::Officers(OfficerCommand::Release(bob().id.clone())), &[alice(), dave()])
                .unwrap();
            assert!(says(&refused(&world, &prepare)));
        }
        let again = permit(&world, 1);
        world.enact(again, &[alice(), dave()]).unwrap();
        let prepare = step(&world, next(&world, NEXT));
        world.record(prepare).unwrap();
    }
}

fn refused_once(world: &World, entry: &Entry) -> Reject {
    world.clone().record(entry.clone()).unwrap_err()
}

#[test]
fn a_restore_leaves_no_standing_approval() {
    let mut world = permitted(1);
    let seq = world.state.position.seq.next();
    let restored = Entry { event: Event::Restored, by: None, request: None };
    world.state.apply(seq, world.now, &restored).unwrap();
    assert!(
        world.state.rotations.approvals.is_empty(),
        "it may have been withdrawn in the part that was lost"
    );
    assert_eq!(world.state.rotations.since.get(&ACCESS_CA), Some(&at(GENESIS_AT)));
}

#[test]
fn nothing_is_prepared_by_itself_above_which_a_root_stands() {
    let mut world = permitted(2);
    world.now = schedule(&world).prepare_at;
    let prepare = step(&world, next(&world, NEXT));
    world.clone().record(prepare.clone()).unwrap();
    let root = crate::domain::id::RootId::from_bytes([0xd0; 16]);
    let serial = crate::domain::certificate::Serial::from_random([7; 16]);
    let row = world.state.authorities.get_mut(&ACCESS_CA).unwrap();
    std::sync::Arc::make_mut(row).beneath = Some(crate::domain::root::Beneath { root, serial });
    let reject = refused(&world, &prepare);
    assert!(matches!(&reject, Reject::WrongState { need, .. } if need.contains("offline root")), "{reject}");
}
