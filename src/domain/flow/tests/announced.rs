//! "Renew now, cut at T": who may announce, what is cut and when, and what never comes back.

use crate::domain::announcement::{ANNOUNCED_MAX, CUT_AHEAD_MAX_MS, LISTED_AHEAD_MS};
use crate::domain::certificate::{Certificate, Facts};
use crate::domain::codec::{from_bytes, to_bytes};
use crate::domain::command::Command;
use crate::domain::decision::CredentialFault;
use crate::domain::enforce::{EnforcementEvent, Names, missing};
use crate::domain::event::Event;
use crate::domain::flow::Reject;
use crate::domain::id::{AnnouncementId, Ordinal};
use crate::domain::revocation::{RevocationReason, RevocationScope};
use crate::domain::state::{RevocationCause, State, Withdrawal};
use crate::domain::tests::fixtures::*;
use crate::domain::tests::world::*;
use crate::domain::time::{Now, Timestamp};

const REASON: RevocationReason = RevocationReason::CaCompromise;
const HOUR_MS: i64 = 3_600_000;

fn id(number: u8) -> AnnouncementId {
    AnnouncementId::from_bytes([number; 16])
}

fn announce(number: u8, scope: RevocationScope, cut_at: Timestamp) -> Command {
    Command::AnnounceRevocation { id: id(number), scope, cut_at, reason: REASON }
}

fn names(certificate: &Certificate) -> Names<'_> {
    let Facts::Access(facts) = &certificate.facts else { panic!("an access certificate") };
    Names::of(certificate, facts)
}

/// Both answers at an instant: the server's and the gateway's.
fn codes(world: &World, certificate: &Certificate) -> [String; 2] {
    let request = inference("mythos-5");
    [world.decide(certificate, &request), world.decide_at_gate(certificate, &request)]
        .map(|decision| if decision.is_permit() { "permit".to_owned() } else { decision.code().to_owned() })
}

fn scene() -> (World, Certificate, Certificate) {
    let (mut world, member) = World::with_member();
    let one = world.person(member, FOREIGN, EMPLOYEE);
    let two = world.person(member, FOREIGN, EMPLOYEE);
    let certificates = (world.enroll(one).unwrap(), world.enroll(two).unwrap());
    (world, certificates.0, certificates.1)
}

#[test]
fn every_scope_is_cut_at_its_instant_and_not_before_without_any_record() {
    let (base, one, two) = scene();
    let Names { ordinal, lineage, subject, entity, determination, annex_revision, .. } = names(&one);
    let determination = determination.unwrap().clone();
    let person = base.state.subjects[&subject].employment().unwrap().person;
    let scopes = [
        (RevocationScope::Certificate(ordinal), false),
        (RevocationScope::Lineage(lineage), false),
        (RevocationScope::Subject(subject), false),
        (RevocationScope::Person(person), false),
        (RevocationScope::Entity(entity), true),
        (RevocationScope::Issuer(ACCESS_CA), true),
        (RevocationScope::Determination(determination.clone()), true),
        (RevocationScope::AnnexRevision(determination, annex_revision.unwrap()), true),
    ];
    for (scope, both) in scopes {
        let mut world = base.clone();
        let cut_at = world.now.plus_ms(HOUR_MS);
        let events = world.go(announce(1, scope.clone(), cut_at));
        assert!(matches!(events.as_slice(), [EnforcementEvent::RevocationAnnounced(_)]), "one event");
        assert_eq!(codes(&world, &one), ["permit"; 2], "{scope}");
        world.now = cut_at.plus_ms(-1);
        assert_eq!(codes(&world, &one), ["permit"; 2], "{scope}");
        let fault = |now| world.gate.enforcement.fault_of(&names(&one), now);
        assert_eq!(fault(Now::with_margin(cut_at.plus_ms(-1_001))), None);
        assert_eq!(
            fault(Now::with_margin(cut_at.plus_ms(-1_000))),
            Some(CredentialFault::Revoked),
            "a clock may be a second off"
        );
        world.now = cut_at;
        assert_eq!(codes(&world, &one), ["CREDENTIAL_REVOKED"; 2], "{scope}");
        let other = if both { "CREDENTIAL_REVOKED" } else { "permit" };
        assert_eq!(codes(&world, &two), [other; 2], "{scope}");
        let withdrawal = world.state.withdrawal(&names(&one), Now::exactly(cut_at));
        let cause = RevocationCause { at: cut_at, reason: REASON };
        assert_eq!(withdrawal, Some(Withdrawal::Revoked(Some(cause))), "{scope}");
    }
}

#[test]
fn who_renews_meanwhile_is_outside_and_who_does_not_is_cut() {
    let (mut world, one, two) = scene();
    let cut_at = world.now.plus_ms(HOUR_MS);
    world.go(announce(1, RevocationScope::Issuer(ACCESS_CA), cut_at));
    // However young it is: it may be renewed at once.
    let renewed = world.renew(&one).unwrap();
    let enrolled = world.enroll(names(&one).subject).unwrap();
    world.now = cut_at.plus_ms(5_000);
    assert_eq!(codes(&world, &renewed), ["permit"; 2]);
    assert_eq!(codes(&world, &enrolled), ["permit"; 2]);
    assert_eq!(codes(&world, &two), ["CREDENTIAL_REVOKED"; 2]);
    let set = &world.state.enforcement;
    assert_eq!(
        (set.announcements(&names(&two)).count(), set.announcements(&names(&renewed)).count()),
        (1, 0)
    );
}

#[test]
fn nothing_is_issued_below_what_was_announced_meanwhile() {
    let (mut world, one, _) = scene();
    let intent = world.renewal(&one, "next").unwrap();
    world.intend(&intent).unwrap();
    let late = world.renewal(&one, "another").unwrap();
    world.go(announce(1, RevocationScope::Entity(names(&one).entity), world.now.plus_ms(HOUR_MS)));
    // It would be one that is cut: the issuance begins anew.
    assert!(matches!(world.complete(&intent), Err(Reject::Conflict(_))));
    let late = crate::domain::event::Intent { ordinal: intent.ordinal, ..late };
    assert!(matches!(world.intend(&late), Err(Reject::Conflict(_))));
    world.renew(&one).unwrap();
}

#[test]
fn one_announces_and_hastens_and_two_postpone_and_withdraw() {
    let (mut world, one, _) = scene();
    let entity = RevocationScope::Entity(names(&one).entity);
    let cut_at = world.now.plus_ms(HOUR_MS);
    world.enact(announce(1, entity.clone(), cut_at), &[alice()]).unwrap();
    assert_eq!(world.try_go(announce(1, entity.clone(), cut_at)), Err(Reject::Exists("announcement")));
    let hasten = |cut_at| Command::HastenRevocation { announcement: id(1), cut_at };
    let postpone = |cut_at| Command::PostponeRevocation { announcement: id(1), cut_at };
    for wrong in [hasten(cut_at), hasten(cut_at.plus_ms(1)), postpone(Some(cut_at))] {
        assert!(matches!(world.try_go(wrong), Err(Reject::Invalid { field: "cut_at", .. })));
    }
    let later = Some(cut_at.plus_ms(HOUR_MS));
    for loosening in [postpone(later), postpone(None)] {
        let alone = world.enact(loosening, &[alice()]);
        assert!(matches!(alone, Err(Reject::NeedsApproval(_))), "{alone:?}");
    }
    world.enact(hasten(cut_at.plus_ms(-60_000)), &[bob()]).unwrap();
    world.now = cut_at.plus_ms(-60_000 - LISTED_AHEAD_MS - 1);
    world.go(postpone(later));
    world.now = cut_at.plus_ms(60_000);
    assert_eq!(codes(&world, &one), ["permit"; 2], "postponed");
    world.go(postpone(None));
    world.now = cut_at.plus_ms(4 * HOUR_MS);
    assert_eq!(codes(&world, &one), ["permit"; 2], "withdrawn");
    assert!(world.state.enforcement.announced.is_empty());
    // Its name is not used again, and nothing more is done to it.
    assert_eq!(world.try_go(announce(1, entity, cut_at)), Err(Reject::Exists("announcement")));
    for late in [hasten(world.now), postpone(Some(world.now.plus_ms(1)))] {
        assert!(matches!(world.try_go(late), Err(Reject::WrongState { .. })));
    }
    let unknown = Command::HastenRevocation { announcement: id(9), cut_at };
    assert_eq!(world.try_go(unknown), Err(Reject::NotFound("announcement")));
}

#[test]
fn what_was_cut_never_comes_back_not_even_by_a_forged_record() {
    let (mut world, one, _) = scene();
    let cut_at = world.now.plus_ms(HOUR_MS);
    world.go(announce(1, RevocationScope::Entity(names(&one).entity), cut_at));
    let withdraw = Command::PostponeRevocation { announcement: id(1), cut_at: None };
    let signed = world.mandate(withdraw, &[alice(), bob()]);
    // Lists name it already, and an entry for good is never taken off a list.
    world.now = cut_at.plus_ms(-LISTED_AHEAD_MS);
    let late = entry(Event::Enacted { signed, proposal: None });
    assert!(matches!(world.record(late.clone()), Err(Reject::WrongState { .. })));
    let next = world.state.position.seq.next();
    let fault = world.state.clone().apply(next, world.now, &late).unwrap_err();
    assert!(fault.why.contains("its instant has come"), "{fault}");
}

#[test]
fn an_instant_that_has_passed_cuts_at_once_and_one_beyond_every_certificate_is_refused() {
    let (mut world, one, _) = scene();
    let entity = names(&one).entity;
    world.go(announce(1, RevocationScope::Entity(entity), world.now.plus_ms(-60_000)));
    assert_eq!(codes(&world, &one), ["CREDENTIAL_REVOKED"; 2]);
    let far = announce(2, RevocationScope::Entity(entity), world.now.plus_ms(CUT_AHEAD_MAX_MS + 1));
    assert!(matches!(world.try_go(far), Err(Reject::Invalid { field: "cut_at", .. })));
    let system = announce(2, RevocationScope::Issuer(SYSTEM_CA), world.now);
    assert!(matches!(world.try_go(system), Err(Reject::Denied(_))));
}

#[test]
fn gateways_hold_a_bounded_number_and_forget_what_reaches_nothing_any_more() {
    let (mut world, one, _) = scene();
    let entity = names(&one).entity;
    for number in 0..u8::try_from(ANNOUNCED_MAX).unwrap() {
        world.go(announce(number, RevocationScope::Entity(entity), world.now.plus_ms(HOUR_MS)));
    }
    let more = |world: &World| announce(200, RevocationScope::Entity(entity), world.now.plus_ms(HOUR_MS));
    assert!(matches!(world.try_go(more(&world)), Err(Reject::WrongState { .. })));
    world.now = world.now.plus_ms(CUT_AHEAD_MAX_MS + DAY_MS + 1);
    let events = world.go(more(&world));
    assert_eq!(events.len(), ANNOUNCED_MAX + 1, "the old ones go with the new one");
    assert_eq!(world.gate.enforcement.announced.len(), 1);
    assert_eq!(world.gate.enforcement, world.state.enforcement);
    let read: State = from_bytes(&to_bytes(&world.state)).unwrap();
    assert!(read == world.state, "a snapshot is the state");
}

#[test]
fn a_marker_is_recorded_once_and_only_when_the_instant_has_come() {
    let (mut world, one, _) = scene();
    let cut_at = world.now.plus_ms(HOUR_MS);
    world.go(announce(1, RevocationScope::Entity(names(&one).entity), cut_at));
    let passed = || entry(Event::AnnouncementPassed(id(1)));
    assert_eq!(world.state.unnoted(world.now).count(), 0);
    assert!(matches!(world.record(passed()), Err(Reject::WrongState { .. })));
    let next = world.state.position.seq.next();
    assert!(world.state.clone().apply(next, world.now, &passed()).is_err(), "nor by a forged record");
    world.now = cut_at;
    assert_eq!(world.state.unnoted(world.now).collect::<Vec<_>>(), [id(1)]);
    let applied = world.record(passed()).unwrap();
    assert_eq!(applied.events, [], "gateways need no record");
    assert_eq!(world.state.unnoted(world.now).count(), 0);
    assert!(matches!(world.record(passed()), Err(Reject::Conflict(_))));
}

#[test]
fn a_gateway_gives_back_what_was_announced_and_lost() {
    let (mut world, one, _) = scene();
    let cut_at = world.now.plus_ms(HOUR_MS);
    world.go(announce(1, RevocationScope::Entity(names(&one).entity), cut_at));
    let mut lost = world.clone();
    lost.go(announce(2, RevocationScope::Issuer(ACCESS_CA), cut_at));
    lost.go(Command::HastenRevocation { announcement: id(1), cut_at: cut_at.plus_ms(-HOUR_MS / 2) });
    let (ours, theirs) = (world.state.enforcement.as_ref(), lost.gate.enforcement.as_ref());
    let events = missing(ours, theirs, Ordinal(u64::MAX));
    assert!(events.len() == 2 && events.iter().all(EnforcementEvent::is_restricting));
    let mut collected = ours.clone();
    events.iter().for_each(|event| collected.apply(event));
    assert_eq!(missing(&collected, theirs, Ordinal(u64::MAX)), [], "nothing more is missing");
    assert_eq!(collected.announced, theirs.announced);
    assert_eq!(missing(theirs, ours, Ordinal(u64::MAX)), [], "nobody makes an instant later");
    let cutoff = |events: &[EnforcementEvent]| match events {
        [.., EnforcementEvent::RevocationAnnounced(last)] => last.cutoff,
        other => panic!("{other:?}"),
    };
    assert_eq!(cutoff(&missing(ours, theirs, Ordinal(1))), Ordinal(1), "nor cuts what does not exist yet");
}
