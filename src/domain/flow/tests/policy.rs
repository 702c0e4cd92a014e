//! The bundle in force: two officers adopt one, one alone imposes.

use crate::domain::approval::MANDATE_PREFIX;
use crate::domain::bundle::{Bundle, BundleParts};
use crate::domain::command::Command;
use crate::domain::determination::{Determination, DeterminationKind, DeterminationState, Instants, Limb};
use crate::domain::enforce::EnforcementEvent;
use crate::domain::event::Event;
use crate::domain::flow::Reject;
use crate::domain::person::{PersonStatus, Relation};
use crate::domain::tests::fixtures::*;
use crate::domain::tests::world::*;
use crate::domain::time::Timestamp;

fn imposition(id: &str, models: &[&str], received_at: Timestamp) -> Determination {
    Determination {
        id: determination(id),
        kind: DeterminationKind::Impose,
        state: DeterminationState::Countersigned,
        instants: Instants { received_at: Some(received_at), ..Instants::default() },
        models: models.iter().map(|name| model(name)).collect(),
        beneficiaries: Vec::new(),
        amends: Vec::new(),
        legal_basis: vec!["15 CFR 744.23".to_owned()],
        document: None,
        ended_at: None,
        superseded_by: None,
        document_sha384: None,
    }
}

fn impose(new: Determination) -> Command {
    Command::Impose(Box::new(new))
}

#[test]
fn one_officer_imposes_and_gates_deny_at_once_until_two_end_it() {
    let (mut world, entity) = World::with_member();
    let subject = world.person(entity, PersonStatus::ForeignPerson, Relation::Employee);
    let certificate = world.enroll(subject).unwrap();
    assert!(world.decide(&certificate, &inference("mythos-5")).is_permit());
    let new = imposition("2026-12-01-second", &["mythos-5"], world.now);
    let events = world.enact(impose(new.clone()), &[bob()]).unwrap().events;
    assert!(matches!(events[..], [EnforcementEvent::PolicyAdopted(_)]), "{events:?}");
    for denied in [
        world.decide(&certificate, &inference("mythos-5")),
        world.decide_at_gate(&certificate, &inference("mythos-5")),
    ] {
        assert!(!denied.is_permit(), "{denied:?}");
    }
    // As it was signed, beside all that was there.
    let mut expected = sample_parts();
    expected.determinations.push(new.clone());
    assert_eq!(*world.state.bundle().parts(), expected);
    // Signed once more it does nothing, nor after it has ended: nobody alone imposes it again.
    assert_eq!(world.try_go(impose(new.clone())), Err(Reject::Exists("determination")));
    let ended = |parts: &mut BundleParts, at| {
        let last = parts.determinations.last_mut().unwrap();
        (last.state, last.ended_at) = (DeterminationState::Rescinded, Some(at));
    };
    ended(&mut expected, world.now);
    let half = world.enact(Command::AdoptPolicy(Box::new(expected.clone())), &[alice()]);
    assert!(matches!(half, Err(Reject::NeedsApproval(_))), "{half:?}");
    world.go(Command::AdoptPolicy(Box::new(expected)));
    world.now = world.now.plus_ms(2_000);
    assert!(world.decide(&certificate, &inference("mythos-5")).is_permit());
    assert_eq!(world.try_go(impose(new)), Err(Reject::Exists("determination")));
}

#[test]
fn an_imposition_covers_a_model_that_no_letter_named_and_waits_for_its_instant() {
    let (mut world, entity) = World::with_member();
    let subject = world.person(entity, PersonStatus::ForeignPerson, Relation::Employee);
    let certificate = world.enroll(subject).unwrap();
    let asked = inference("sonata-4");
    assert!(world.decide(&certificate, &asked).is_permit());
    let later = world.now.plus_ms(60_000);
    world.enact(impose(imposition("2026-12-01-third", &["sonata-4"], later)), &[bob()]).unwrap();
    assert!(world.decide(&certificate, &asked).is_permit(), "not yet");
    world.now = later;
    assert!(!world.decide(&certificate, &asked).is_permit());
}

#[test]
fn an_imposition_lapses_what_two_officers_were_about_to_adopt() {
    let mut world = World::new();
    let half = world.mandate(Command::AdoptPolicy(Box::new(rescinded_parts())), &[alice()]);
    let id = world.propose(half.clone()).unwrap();
    world.enact(impose(imposition("2026-12-01-second", &["mythos-5"], world.now)), &[bob()]).unwrap();
    let mut whole = half;
    whole.approvals.push(bob().sign(MANDATE_PREFIX, &whole.bytes));
    let enacted = Event::Enacted { signed: whole, proposal: Some(id) };
    let rejected = world.record(entry(enacted));
    assert!(matches!(rejected, Err(Reject::Conflict(_))), "{rejected:?}");
}

#[test]
fn what_one_officer_may_not_impose_is_refused() {
    let mut world = World::new();
    let good = || imposition("2026-12-01-second", &["mythos-5"], at(GENESIS_AT));
    let lift = Determination {
        kind: DeterminationKind::LiftForBeneficiaries,
        beneficiaries: vec![Limb::AnnexEntities],
        amends: vec![determination(IMPOSITION)],
        ..good()
    };
    let rescission =
        Determination { kind: DeterminationKind::Rescind, amends: vec![determination(IMPOSITION)], ..good() };
    let approved = Instants { approved_at: Some(at(GENESIS_AT)), ..good().instants };
    for (wrong, field) in [
        (lift, "determination"),
        (rescission, "determination"),
        (Determination { amends: vec![determination(IMPOSITION)], ..good() }, "determination"),
        (Determination { state: DeterminationState::Draft, ..good() }, "determination"),
        (Determination { models: vec![model("no-such-model")], ..good() }, "determination"),
        (Determination { instants: approved, ..good() }, "approved_at"),
        (Determination { instants: Instants::default(), ..good() }, "state"),
        (Determination { models: Vec::new(), ..good() }, "models"),
        (Determination { beneficiaries: vec![Limb::AnnexEntities], ..good() }, "beneficiaries"),
        (Determination { ended_at: Some(at(GENESIS_AT)), ..good() }, "ended_at"),
        (Determination { superseded_by: Some(determination(IMPOSITION)), ..good() }, "superseded_by"),
        (Determination { legal_basis: Vec::new(), ..good() }, "legal_basis"),
        (Determination { legal_basis: vec!["a".to_owned(); 33], ..good() }, "legal_basis"),
        (Determination { legal_basis: vec!["a\u{1b}[2J".to_owned()], ..good() }, "legal_basis"),
    ] {
        let rejected = world.try_go(impose(wrong.clone()));
        assert!(
            matches!(&rejected, Err(Reject::Invalid { field: of, .. }) if *of == field),
            "{wrong:?}: {rejected:?}"
        );
    }
    assert_eq!(
        world.try_go(impose(Determination { id: determination(IMPOSITION), ..good() })),
        Err(Reject::Exists("determination"))
    );
    assert_eq!(world.state.bundle().hash(), Bundle::new(sample_parts()).unwrap().hash());
}
