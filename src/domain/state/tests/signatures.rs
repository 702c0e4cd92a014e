//! What `apply` asks of a record by itself, so that a journal that was altered or forged does not start up.

use crate::domain::approval::{Mandate, SignedMandate};
use crate::domain::codec::{from_bytes, to_bytes};
use crate::domain::command::{Command, NewPrincipal};
use crate::domain::event::{Entry, Event};
use crate::domain::flow::{Reject, mandate_for};
use crate::domain::id::Seq;
use crate::domain::principal::Role;
use crate::domain::revocation::{RevocationReason, StopScope};
use crate::domain::state::{ApplyFault, State};
use crate::domain::tests::fixtures::*;
use crate::domain::tests::world::*;

fn stop() -> Command {
    Command::Stop { scope: StopScope::All, reason: RevocationReason::Drill }
}

/// A world with a stop engaged, so that its release is a loosening command at hand.
fn stopped() -> World {
    let mut world = World::new();
    world.go(stop());
    world
}

fn release() -> Command {
    Command::ReleaseStop(StopScope::All)
}

/// Applies a command without asking `admit`, as start-up and `journal verify` do.
fn apply(state: &State, signed: SignedMandate) -> Result<State, ApplyFault> {
    let mut next = state.clone();
    let entry = Entry { event: Event::Enacted { signed, proposal: None }, by: None, request: None };
    next.apply(state.position.seq.next(), state.time, &entry).map(|_| next)
}

/// Both `admit` and `apply` refuse the mandate; the text of `apply` is returned.
fn refused(world: &mut World, signed: SignedMandate) -> String {
    let fault = apply(&world.state, signed.clone()).unwrap_err().why;
    let rejected = world.record(entry(Event::Enacted { signed, proposal: None }));
    assert!(matches!(rejected, Err(Reject::NeedsApproval(_) | Reject::Invalid { .. })), "{rejected:?}");
    fault
}

#[test]
fn two_officers_loosen_and_one_does_not() {
    let mut world = stopped();
    let one = world.mandate(release(), &[alice()]);
    assert_eq!(refused(&mut world, one), "RELEASE_STOP needs the signatures of 2 officers and has 1");
    let none = world.mandate(release(), &[]);
    assert_eq!(refused(&mut world, none), "RELEASE_STOP needs the signatures of 2 officers and has 0");
    let two = world.mandate(release(), &[alice(), bob()]);
    assert!(apply(&world.state, two).unwrap().enforcement.stops.is_empty());
}

#[test]
fn one_officer_restricts_and_none_does_not() {
    let mut world = World::new();
    let none = world.mandate(stop(), &[]);
    assert_eq!(refused(&mut world, none), "STOP needs the signatures of 1 officers and has 0");
    let one = world.mandate(stop(), &[alice()]);
    assert!(apply(&world.state, one).unwrap().enforcement.stops.contains(&StopScope::All));
}

#[test]
fn one_officer_does_not_count_twice() {
    let mut world = stopped();
    let twice = world.mandate(release(), &[alice(), alice()]);
    assert_eq!(refused(&mut world, twice), "alice signed twice; two different officers are needed");
}

#[test]
fn one_key_under_two_names_does_not_count_twice() {
    let mut world = stopped();
    let mut signed = world.mandate(release(), &[alice(), bob()]);
    // Not through `admit`, which refuses to register a key twice.
    let second = NewPrincipal { id: "alias".parse().unwrap(), ..alice().principal() };
    world.state.put_principal(second, Seq(1));
    signed.approvals[1] = alice().sign(crate::domain::approval::MANDATE_PREFIX, &signed.bytes);
    signed.approvals[1].officer = "alias".parse().unwrap();
    assert_eq!(refused(&mut world, signed), "alias signed twice; two different officers are needed");
}

#[test]
fn an_officer_without_a_fitting_role_does_not_count() {
    let mut world = stopped();
    world.go(Command::RegisterPrincipal(carol().principal()));
    world.go(Command::RegisterPrincipal(dave().principal()));
    let by_vetter = world.mandate(release(), &[alice(), carol()]);
    assert_eq!(refused(&mut world, by_vetter), "carol holds none of the roles that may sign RELEASE_STOP");
    // Approvers may stop, vetters may not, and approvers do not vet.
    world.go(release());
    let stop_by_approver = world.mandate(stop(), &[dave()]);
    assert!(apply(&world.state, stop_by_approver).is_ok());
    let stop_by_vetter = world.mandate(stop(), &[carol()]);
    assert_eq!(refused(&mut world, stop_by_vetter), "carol holds none of the roles that may sign STOP");
    let safeguards = Command::RecordSafeguards { entity: PROVIDER, until: at(R3), reverify_due: None };
    let by_approver = world.mandate(safeguards, &[dave()]);
    assert_eq!(
        refused(&mut world, by_approver),
        "dave holds none of the roles that may sign RECORD_SAFEGUARDS"
    );
}

#[test]
fn strangers_and_removed_officers_do_not_count() {
    let mut world = stopped();
    let by_stranger = world.mandate(release(), &[alice(), dave()]);
    assert_eq!(refused(&mut world, by_stranger), "dave is not a registered officer");
    world.go(Command::RegisterPrincipal(dave().principal()));
    let before = world.mandate(release(), &[alice(), dave()]);
    world.go(Command::RemovePrincipal(dave().id.clone()));
    assert_eq!(refused(&mut world, before), "dave is not a registered officer");
}

#[test]
fn a_changed_byte_or_another_prefix_breaks_a_signature() {
    let mut world = stopped();
    let signed = world.mandate(release(), &[alice(), bob()]);
    let mandate: Mandate = from_bytes(&signed.bytes).unwrap();
    let other = Mandate { made_at: mandate.made_at.plus_ms(1), ..mandate };
    let mut swapped = signed.clone();
    swapped.bytes = to_bytes(&other);
    assert_eq!(refused(&mut world, swapped), "the signature of alice does not verify");
    let mut prefixed = signed.clone();
    prefixed.approvals[1] = bob().sign(b"countersign genesis v1\0", &signed.bytes);
    assert_eq!(refused(&mut world, prefixed), "the signature of bob does not verify");
    let mut exchanged = signed;
    exchanged.approvals[0].officer = bob().id.clone();
    exchanged.approvals[1].officer = alice().id.clone();
    assert_eq!(refused(&mut world, exchanged), "the signature of bob does not verify");
}

#[test]
fn another_spelling_of_the_same_mandate_is_no_mandate() {
    let mut world = stopped();
    let mut bytes = world.mandate(release(), &[]).bytes;
    bytes.push(0);
    let approvals = [alice(), bob()];
    let approvals =
        approvals.iter().map(|o| o.sign(crate::domain::approval::MANDATE_PREFIX, &bytes)).collect();
    let padded = SignedMandate { bytes, approvals };
    assert!(refused(&mut world, padded).contains("not in canonical form"));
}

#[test]
fn a_mandate_for_another_trust_domain_is_refused() {
    let mut world = stopped();
    let mandate = mandate_for(&world.state, release(), world.now);
    let elsewhere = Mandate { trust_domain: "other.example".to_owned(), ..mandate };
    let signed = signed(&elsewhere, &[alice(), bob()]);
    assert_eq!(refused(&mut world, signed), "the mandate is for the trust domain \"other.example\"");
}

#[test]
fn an_approval_is_good_once() {
    let mut world = stopped();
    let signed = world.mandate(release(), &[alice(), bob()]);
    world.record(entry(Event::Enacted { signed: signed.clone(), proposal: None })).unwrap();
    world.go(stop());
    // The journal cannot be fed the old release either.
    let fault = apply(&world.state, signed.clone()).unwrap_err().why;
    assert!(fault.starts_with("stop of everything changed since the mandate was made"), "{fault}");
    let rejected = world.record(entry(Event::Enacted { signed, proposal: None }));
    assert!(matches!(rejected, Err(Reject::Conflict(_))), "{rejected:?}");
}

#[test]
fn a_basis_that_leaves_an_object_out_is_no_basis() {
    let mut world = stopped();
    let mandate = Mandate { basis: Vec::new(), ..mandate_for(&world.state, release(), world.now) };
    let signed = signed(&mandate, &[alice(), bob()]);
    assert_eq!(refused(&mut world, signed), "the basis does not name every object");
}

#[test]
fn a_restricting_command_is_admitted_on_a_stale_basis_and_at_any_age() {
    let mut world = World::new();
    let stale = world.mandate(stop(), &[alice()]);
    world.go(stop());
    world.go(release());
    world.now = world.now.plus_ms(30 * DAY_MS);
    world.record(entry(Event::Enacted { signed: stale, proposal: None })).unwrap();
    assert!(world.state.enforcement.stops.contains(&StopScope::All));
}

#[test]
fn a_loosening_mandate_is_good_for_seven_days() {
    let mut world = stopped();
    let signed = world.mandate(release(), &[alice(), bob()]);
    let made_at = world.now;
    let mut at_age = |ms| {
        world.now = made_at.plus_ms(ms);
        world.record(entry(Event::Enacted { signed: signed.clone(), proposal: None }))
    };
    assert!(matches!(at_age(7 * DAY_MS + 1), Err(Reject::Conflict(_))));
    // One made in the future is no better, but for a minute of clock difference.
    assert!(matches!(at_age(-60_001), Err(Reject::Conflict(_))));
    assert!(at_age(7 * DAY_MS).is_ok());
}

#[test]
fn records_follow_one_another() {
    let world = World::new();
    let mut state = world.state.clone();
    let record = entry(Event::InstantPassed(world.now));
    for seq in [world.state.position.seq, Seq(world.state.position.seq.0 + 2)] {
        let fault = state.apply(seq, world.now, &record).unwrap_err();
        assert_eq!((fault.seq, fault.why.starts_with("it follows record")), (seq, true));
    }
    assert!(state == world.state);
}

#[test]
fn replay_of_the_journal_gives_the_same_state() {
    let (mut world, member) = World::with_member();
    let person = world.person(member, FOREIGN, EMPLOYEE);
    let certificate = world.enroll(person).unwrap();
    world.renew(&certificate).unwrap();
    world.go(stop());
    let (_, time, genesis) = &world.log[0];
    let mut replayed = State::genesis(world.state.position.epoch, *time, genesis).unwrap();
    for (seq, time, entry) in &world.log[1..] {
        replayed.apply(*seq, *time, entry).unwrap();
    }
    assert!(replayed == world.state);
    assert_eq!(to_bytes(&replayed), to_bytes(&world.state));
}

#[test]
fn who_signs_what_is_restrict_with_one_and_loosen_with_two() {
    let world = World::new();
    let restricting = [stop(), world.amendment(&[], &[PROVIDER]), Command::RejectEntity(PROVIDER)];
    let loosening = [release(), world.amendment(&[PROVIDER], &[PROVIDER]), Command::AcceptClock(world.now)];
    for command in &restricting {
        assert_eq!((command.signers().count, command.is_restricting()), (1, true), "{}", command.name());
    }
    for command in &loosening {
        assert_eq!((command.signers().count, command.is_restricting()), (2, false), "{}", command.name());
        assert_eq!(command.signers().roles, [Role::Approver]);
    }
}
