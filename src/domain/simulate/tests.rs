//! What a change would do to everybody, on a world that is driven through records.

use std::ops::ControlFlow;

use super::*;
use crate::domain::command::Command;
use crate::domain::entity::Organisation;
use crate::domain::id::EntityId;
use crate::domain::tests::fixtures::*;
use crate::domain::tests::world::*;

fn run(world: &World, command: &Command) -> Report {
    let after = world.state.supposing(command, world.now).unwrap();
    simulate(&world.state, &after, world.now, |_, _| ControlFlow::Continue(())).unwrap()
}

fn affected(entities: u64, people: u64, workloads: u64) -> Affected {
    Affected { entities, subjects: Tally { people, workloads } }
}

/// A member with three people and a workload, and a partner that is not listed with one foreign and one US person.
fn populated() -> (World, EntityId, EntityId) {
    let (mut world, member) = World::with_member();
    let foreign = world.person(member, FOREIGN, EMPLOYEE);
    world.person(member, FOREIGN, EMPLOYEE);
    world.person(member, US, EMPLOYEE);
    world.workload(member, &[foreign]);
    let unlisted = world.partner(Organisation::Us);
    world.person(unlisted, FOREIGN, EMPLOYEE);
    world.person(unlisted, US, EMPLOYEE);
    (world, member, unlisted)
}

#[test]
fn a_removal_from_the_annex_says_who_loses_and_who_would_need_a_licence() {
    let (world, member, _) = populated();
    let report = run(&world, &world.amendment(&[], &[member]));
    let [now] = report.forecasts.as_slice() else { panic!("{report:?}") };
    assert_eq!(now.at, world.now);
    assert_eq!(now.asked, Tally { people: 5, workloads: 1 });
    // The member's US person is domestic either way.
    assert_eq!(now.loses, affected(1, 2, 1));
    assert_eq!((now.gains, now.needs_license), (affected(0, 0, 0), affected(1, 2, 1)));
    assert_eq!(now.permitted_before, Tally { people: 4, workloads: 1 });
    let lost: Vec<_> = now.lines.iter().filter(|line| line.effect == Effect::Loses).collect();
    let told = lost.iter().map(|line| (line.model.as_str(), line.before, line.subjects)).collect::<Vec<_>>();
    let (people, workloads) = (Tally { people: 2, workloads: 0 }, Tally { people: 0, workloads: 1 });
    let (person, workload) = ("EXEMPT_ANNEX_A_FN_EMPLOYEE", "EXEMPT_ANNEX_A_WORKLOAD");
    assert_eq!(
        told,
        [
            ("mythos-5", person, people),
            ("mythos-5", workload, workloads),
            ("mythos-5-defender", person, people),
            ("mythos-5-defender", workload, workloads),
        ]
    );
    assert!(lost.iter().all(|line| line.after == "DEEMED_EXPORT_LICENSE_REQUIRED"));
    assert!(lost.iter().all(|line| line.entity == member && line.needs_license));
}

#[test]
fn what_is_foretold_is_what_then_happens() {
    let (mut world, _, unlisted) = populated();
    let command = world.amendment(&[unlisted], &[]);
    let report = run(&world, &command);
    let now = &report.forecasts[0];
    assert_eq!((now.loses, now.gains), (affected(0, 0, 0), affected(1, 1, 0)));
    let before: Vec<_> = decided(&world);
    world.go(command);
    // Nothing that widens takes effect in the second of its record.
    world.now = world.now.plus_ms(2_000);
    let after = decided(&world);
    let gained = before.iter().zip(&after).filter(|(before, after)| !**before && **after).count();
    assert_eq!(gained, 1);
    assert_eq!(run(&world, &world.amendment(&[], &[unlisted])).forecasts[0].loses, affected(1, 1, 0));
}

/// For each approved subject: permitted to use Mythos from the United States, with a certificate issued now?
fn decided(world: &World) -> Vec<bool> {
    let subjects: Vec<_> = world.state.subjects.keys().copied().collect();
    let enrolled = |id| {
        let mut world = world.clone();
        let Ok(certificate) = world.enroll(id) else { return false };
        world.decide(&certificate, &inference("mythos-5")).is_permit()
    };
    subjects.into_iter().map(enrolled).collect()
}

#[test]
fn a_bundle_is_asked_about_now_and_at_each_of_its_instants() {
    let (world, ..) = populated();
    let mut parts = rescinded_parts();
    // It was received, and says itself from when.
    parts.determinations[2].instants.stated_at = Some(at("2026-06-30T21:00:00Z"));
    let report = run(&world, &Command::AdoptPolicy(Box::new(parts)));
    let instants: Vec<_> = report.forecasts.iter().map(|forecast| forecast.at).collect();
    assert_eq!(instants, [world.now, at("2026-06-30T21:00:00Z")]);
    assert_eq!(report.forecasts[0].gains, affected(0, 0, 0), "a lift widens nothing before its instant");
    // Fable opens to all, the provider's own aside, who has nobody here.
    let later = &report.forecasts[1];
    assert_eq!(later.gains, affected(2, 5, 1));
    assert!(later.lines.iter().any(|line| line.model.as_str() == "fable-5" && line.effect == Effect::Gains));
    assert_eq!(later.loses, affected(0, 0, 0));
}

#[test]
fn what_does_not_change_is_decided_once_and_has_no_line() {
    let (mut world, ..) = populated();
    let other = world.partner(Organisation::Us);
    let report = run(&world, &world.amendment(&[other], &[]));
    let now = &report.forecasts[0];
    assert_eq!((now.lines.len(), now.left_out), (0, 0));
    assert_eq!(now.permitted_before, now.permitted_after);
    // Six subjects and three models.
    assert_eq!(report.decisions, 6 * 3);
}

#[test]
fn a_country_that_a_grant_lists_is_asked_about_too() {
    let (mut world, member, _) = populated();
    let id = crate::domain::id::GrantId::from_bytes([0x77; 16]);
    let wide = crate::domain::grant::Grant { id, countries: vec![country("FR")], ..grant(0, "mythos-5") };
    let grants = world.state.entities[&member].card.grants.clone();
    for held in grants {
        world.go(Command::EndGrant { entity: member, grant: held.id });
    }
    world.go(Command::GrantModel { entity: member, grant: wide });
    let report = run(&world, &world.amendment(&[], &[member]));
    let lost: Vec<_> = report.forecasts[0].lines.iter().filter(|line| line.effect == Effect::Loses).collect();
    let abroad = lost.iter().filter(|line| line.place == place("FR")).map(|line| (line.after, line.subjects));
    let of = |people, workloads| Tally { people, workloads };
    assert_eq!(
        abroad.collect::<Vec<_>>(),
        [
            ("EXPORT_DESTINATION_LICENSE_REQUIRED", of(1, 0)),
            ("EXPORT_LICENSE_REQUIRED", of(2, 0)),
            ("EXPORT_LICENSE_REQUIRED", of(0, 1)),
        ]
    );
}

#[test]
fn lines_are_bounded_and_what_has_none_is_counted() {
    let (mut world, _) = World::with_member();
    let mut draft = Draft::new(world.now);
    let subject = {
        let partner = world.partner(Organisation::Us);
        world.person(partner, US, EMPLOYEE)
    };
    let subject = world.state.subjects[&subject].clone();
    for n in 0..=LINES_MAX {
        let entity = EntityId::from_bytes(u128::try_from(n).unwrap().to_be_bytes());
        let key = (entity, model("mythos-5"), Place::Us, Effect::Loses, "A", "B", false);
        draft.line(key, subject.kind());
    }
    let mut report = Report::new(&[], world.state.position);
    report.add(draft);
    assert_eq!((report.forecasts[0].lines.len(), report.forecasts[0].left_out), (LINES_MAX, 1));
}

#[test]
fn nobody_waits_for_a_simulation_that_was_broken_off() {
    let (world, member, _) = populated();
    let after = world.state.supposing(&world.amendment(&[], &[member]), world.now).unwrap();
    assert_eq!(simulate(&world.state, &after, world.now, |_, _| ControlFlow::Break(())), None);
}
