//! Lists, matches and what officers make of them.

use crate::domain::command::{Command, ObjectRef};
use crate::domain::decision::ScreeningState;
use crate::domain::entity::{EntityStatus, Organisation, Screening, ScreeningResult};
use crate::domain::event::Event;
use crate::domain::flow::Reject;
use crate::domain::id::{Digest, EntityId};
use crate::domain::screening::{MATCHES_MAX, MatchVerdict, SCORE_MIN, ScreeningList, ScreeningMatch};
use crate::domain::tests::fixtures::*;
use crate::domain::tests::world::{World, entry};
use crate::domain::time::Now;

const DAY_MS: i64 = 86_400_000;

fn list(world: &World, version: &str, entries: u32) -> ScreeningList {
    ScreeningList {
        version: version.to_owned(),
        date: world.now,
        file: Digest::of(version.as_bytes()),
        entries,
        score_min: SCORE_MIN,
    }
}

fn import(world: &mut World, version: &str) {
    let list = list(world, version, 1_000);
    world.go(Command::ImportScreeningList { list, shrinks: false });
}

fn found(entry: u8, score: u8) -> ScreeningMatch {
    ScreeningMatch {
        entry: Digest([entry; 32]),
        entry_id: "1".to_owned(),
        source: "EL".to_owned(),
        score,
        explanation: "its name: example is the same".to_owned(),
    }
}

fn run(world: &World, id: EntityId, found: Vec<ScreeningMatch>, more: u32) -> Event {
    let list = world.state.screening_list.as_ref().unwrap().file;
    Event::EntityScreened { entity: id, list, query: world.state.entities[&id].query(), found, more }
}

fn compare(world: &mut World, id: EntityId, found: Vec<ScreeningMatch>) {
    let event = run(world, id, found, 0);
    world.record(entry(event)).unwrap();
}

fn resolve(entity: EntityId, match_: &ScreeningMatch, verdict: MatchVerdict) -> Command {
    let (entry, score) = (match_.entry, match_.score);
    Command::ResolveScreeningMatch { entity, entry, score, verdict, reason: "another seat".to_owned() }
}

fn stands(world: &World, id: EntityId) -> ScreeningState {
    world.state.entities[&id].card.screening_state(3 * DAY_MS, Now::exactly(world.now))
}

#[test]
fn scenario_36_a_hit_keeps_an_applicant_out_until_it_is_resolved_and_does_not_come_back() {
    let mut world = World::new();
    let applicant = world.applicant(Organisation::Us);
    import(&mut world, "csl-1");
    // Not before it was looked at, either.
    let refused = world.try_go(Command::ActivateEntity(applicant));
    assert!(matches!(refused, Err(Reject::WrongState { what: "screening", .. })), "{refused:?}");
    let hit = found(1, 90);
    compare(&mut world, applicant, vec![hit.clone()]);
    assert_eq!(stands(&world, applicant), ScreeningState::Pending);
    let refused = world.try_go(Command::ActivateEntity(applicant));
    let Err(Reject::WrongState { what: "screening", have, need }) = refused else { panic!("{refused:?}") };
    assert!(have == "UNRESOLVED" && need.contains("SCREENING_PENDING"), "{have} {need}");
    // Nobody clears it by entering a result by hand.
    world.screen(applicant);
    assert_eq!(stands(&world, applicant), ScreeningState::Pending);
    world.go(resolve(applicant, &hit, MatchVerdict::FalsePositive));
    assert_eq!(stands(&world, applicant), ScreeningState::Clear);
    world.go(Command::ActivateEntity(applicant));
    assert_eq!(world.state.entities[&applicant].status, EntityStatus::Active);
    // The same list, and the same entry of the next one.
    let query = world.state.entities[&applicant].query();
    let held = world.state.screening_of(applicant);
    assert!(!held.is_due(world.state.screening_list.as_ref().unwrap(), query));
    assert!(held.knows(hit.entry, query), "an entry that says the same is not asked about again");
    assert!(!held.knows(hit.entry, Digest([9; 32])), "but for another name of ours it is");
    world.now = world.now.plus_ms(DAY_MS);
    import(&mut world, "csl-2");
    assert!(world.state.screening_of(applicant).is_due(world.state.screening_list.as_ref().unwrap(), query));
    compare(&mut world, applicant, vec![]);
    assert_eq!(stands(&world, applicant), ScreeningState::Clear);
    let card = &world.state.entities[&applicant].card;
    assert_eq!(card.screening.as_ref().unwrap().list_version, "csl-2");
    // An entry that says something else is another one.
    compare(&mut world, applicant, vec![found(2, 90)]);
    assert_eq!(stands(&world, applicant), ScreeningState::Pending);
}

#[test]
fn one_vetter_confirms_and_two_officers_let_a_close_name_pass() {
    let (mut world, member) = World::with_member();
    import(&mut world, "csl-1");
    let close = found(1, 97);
    compare(&mut world, member, vec![close.clone()]);
    let alone = world.enact(resolve(member, &close, MatchVerdict::FalsePositive), &[alice()]);
    assert!(matches!(alone, Err(Reject::NeedsApproval(_))), "{alone:?}");
    // A lower score than the record's would need one only.
    let lower = ScreeningMatch { score: 90, ..close.clone() };
    let lied = world.enact(resolve(member, &lower, MatchVerdict::FalsePositive), &[alice()]);
    assert!(matches!(lied, Err(Reject::Conflict(_))), "{lied:?}");
    world.enact(resolve(member, &close, MatchVerdict::Confirmed), &[alice()]).unwrap();
    assert_eq!(stands(&world, member), ScreeningState::Denied);
    let again = world.try_go(resolve(member, &close, MatchVerdict::FalsePositive));
    assert!(matches!(again, Err(Reject::WrongState { what: "match", .. })), "{again:?}");
    let alone = world.enact(resolve(member, &close, MatchVerdict::Withdrawn), &[alice()]);
    assert!(matches!(alone, Err(Reject::NeedsApproval(_))), "{alone:?}");
    // Neither a list that has it no more nor one that finds it anew changes what was confirmed.
    world.now = world.now.plus_ms(DAY_MS);
    import(&mut world, "csl-2");
    compare(&mut world, member, vec![]);
    assert_eq!(stands(&world, member), ScreeningState::Denied);
    compare(&mut world, member, vec![close.clone()]);
    assert_eq!(stands(&world, member), ScreeningState::Denied);
    world.go(resolve(member, &close, MatchVerdict::Withdrawn));
    assert_eq!(stands(&world, member), ScreeningState::Clear);
    world.go(resolve(member, &close, MatchVerdict::Confirmed));
    let unknown = world.try_go(resolve(member, &found(7, 90), MatchVerdict::Confirmed));
    assert!(matches!(unknown, Err(Reject::NotFound("match"))), "{unknown:?}");
}

#[test]
fn what_was_entered_by_hand_stays_until_it_is_entered_again() {
    let (mut world, member) = World::with_member();
    let unresolved = world.screening(ScreeningResult::Unresolved);
    let by_hand = |screening: Screening| Command::RecordScreening {
        entity: member,
        screening,
        reason: "an owner's name".to_owned(),
    };
    world.go(by_hand(unresolved));
    import(&mut world, "csl-1");
    compare(&mut world, member, vec![]);
    assert_eq!(stands(&world, member), ScreeningState::Pending, "the list knows nothing of the owner");
    let clear = world.screening(ScreeningResult::Clear);
    world.go(by_hand(clear));
    assert_eq!(stands(&world, member), ScreeningState::Clear);
    // The newest list that anybody looked at counts: the comparison's goes stale, a later one by hand is fresh.
    world.now = world.now.plus_ms(3 * DAY_MS + 1);
    assert_eq!(stands(&world, member), ScreeningState::Stale);
    world.screen(member);
    assert_eq!(stands(&world, member), ScreeningState::Clear);
}

#[test]
fn a_list_must_be_newer_and_whole() {
    let mut world = World::new();
    import(&mut world, "csl-1");
    let good = list(&world, "csl-2", 950);
    let with = |list: ScreeningList, shrinks| Command::ImportScreeningList { list, shrinks };
    let refused = |world: &mut World, list: ScreeningList, says: &str| {
        let refused = world.try_go(with(list, false)).unwrap_err().to_string();
        assert!(refused.contains(says), "{refused}");
    };
    refused(&mut world, ScreeningList { version: "csl-1".to_owned(), ..good.clone() }, "exists");
    refused(&mut world, ScreeningList { version: String::new(), ..good.clone() }, "version");
    let (late, early) = (world.now.plus_ms(1), world.now.plus_ms(-1));
    refused(&mut world, ScreeningList { date: late, ..good.clone() }, "future");
    refused(&mut world, ScreeningList { date: early, ..good.clone() }, "csl-1 of");
    refused(&mut world, ScreeningList { entries: 0, ..good.clone() }, "entries");
    refused(&mut world, ScreeningList { score_min: 101, ..good.clone() }, "score");
    let short = ScreeningList { entries: 899, ..good.clone() };
    refused(&mut world, short.clone(), "more than 10 %");
    let alone = world.enact(with(short.clone(), true), &[alice()]);
    assert!(matches!(alone, Err(Reject::NeedsApproval(_))), "{alone:?}");
    // A higher threshold lets more pass.
    let deaf = with(ScreeningList { score_min: 83, ..good.clone() }, false);
    assert!(matches!(world.enact(deaf, &[alice()]), Err(Reject::NeedsApproval(_))));
    world.enact(with(ScreeningList { entries: 900, ..good }, false), &[alice()]).unwrap();
    world.go(with(ScreeningList { version: "csl-3".to_owned(), ..short }, true));
}

#[test]
fn a_comparison_is_of_the_newest_list_and_the_name_on_record() {
    let (mut world, member) = World::with_member();
    let query = world.state.entities[&member].query();
    let event = |list, query, found| Event::EntityScreened { entity: member, list, query, found, more: 0 };
    let file = Digest::of(b"csl-1");
    let refused = |world: &mut World, event| world.record(entry(event)).unwrap_err();
    assert!(matches!(refused(&mut world, event(file, query, vec![])), Reject::NotFound("list")));
    import(&mut world, "csl-1");
    assert!(matches!(refused(&mut world, event(Digest([1; 32]), query, vec![])), Reject::Conflict(_)));
    assert!(matches!(refused(&mut world, event(file, Digest([1; 32]), vec![])), Reject::Conflict(_)));
    let many = (0..65).map(|n| found(n, 90)).collect();
    assert!(matches!(refused(&mut world, event(file, query, many)), Reject::Invalid { .. }));
    let loud = vec![found(1, 101)];
    assert!(matches!(refused(&mut world, event(file, query, loud)), Reject::Invalid { .. }));
}

#[test]
fn matches_that_had_no_room_keep_it_open_and_come_later() {
    let (mut world, member) = World::with_member();
    import(&mut world, "csl-1");
    let hit = found(1, 90);
    let first = run(&world, member, vec![hit.clone()], 3);
    world.record(entry(first)).unwrap();
    let newest = world.state.screening_list.clone().unwrap();
    let query = world.state.entities[&member].query();
    assert!(!world.state.screening_of(member).is_due(&newest, query), "these first");
    world.go(resolve(member, &hit, MatchVerdict::FalsePositive));
    assert_eq!(stands(&world, member), ScreeningState::Pending, "three are hidden");
    let held = world.state.screening_of(member);
    assert!(held.is_due(&newest, query) && held.matches.len() < MATCHES_MAX);
    compare(&mut world, member, vec![]);
    assert_eq!(stands(&world, member), ScreeningState::Clear);
}

#[test]
fn a_daily_list_that_brings_nothing_new_lapses_no_proposal() {
    let (mut world, member) = World::with_member();
    import(&mut world, "csl-1");
    compare(&mut world, member, vec![]);
    let before = world.state.revision(&ObjectRef::Entity(member));
    let card = world.state.entities[&member].card.revision;
    world.now = world.now.plus_ms(DAY_MS);
    import(&mut world, "csl-2");
    compare(&mut world, member, vec![]);
    assert_eq!(world.state.revision(&ObjectRef::Entity(member)), before);
    assert!(world.state.entities[&member].card.revision > card, "gateways get the newer date");
    compare(&mut world, member, vec![found(1, 90)]);
    assert!(world.state.revision(&ObjectRef::Entity(member)) > before, "a hit is a change");
}
