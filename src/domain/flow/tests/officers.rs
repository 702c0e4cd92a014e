//! Stopping and removing officers: never fewer than two who can approve what the other proposed; and emergencies.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::approval::MANDATE_FRESH_MS;
use crate::domain::command::Command;
use crate::domain::event::{Entry, Event};
use crate::domain::flow::Reject;
use crate::domain::flow::quorum::{Standing, leaves_too_few};
use crate::domain::id::{GrantId, Seq};
use crate::domain::officer_command::{Emergency, OfficerCommand};
use crate::domain::principal::Role;
use crate::domain::proposal::Lapse;
use crate::domain::revocation::{RevocationReason, StopScope};
use crate::domain::tests::fixtures::*;
use crate::domain::tests::world::*;

const REASON: RevocationReason = RevocationReason::KeyCompromise;

fn suspend(officer: &Officer) -> Command {
    Command::Officers(OfficerCommand::Suspend { principal: officer.id.clone(), reason: REASON })
}

fn release(officer: &Officer) -> Command {
    Command::Officers(OfficerCommand::Release(officer.id.clone()))
}

fn remove(officer: &Officer) -> Command {
    Command::RemovePrincipal(officer.id.clone())
}

fn break_glass(what: Emergency) -> Command {
    Command::Officers(OfficerCommand::BreakGlass { what, reason: "nobody else answers".to_owned() })
}

fn close(review: Seq) -> Command {
    let finding = "it was right".to_owned();
    Command::Officers(OfficerCommand::CloseReview { review, finding })
}

fn stop() -> Emergency {
    Emergency::Stop(StopScope::All, REASON)
}

/// All four officers: alice and bob with every role, carol a vetter, dave an approver.
fn staffed() -> World {
    let mut world = World::new();
    world.go(Command::RegisterPrincipal(carol().principal()));
    world.go(Command::RegisterPrincipal(dave().principal()));
    world
}

/// Can what one proposes still be approved by another one, whichever of them proposes? As the rule says it, pair by pair.
fn is_enough(officers: &[Standing]) -> bool {
    let able: Vec<usize> =
        (0..officers.len()).filter(|n| officers[*n].approves && officers[*n].acts).collect();
    let with_another = |n: &usize| able.iter().any(|other| other != n);
    able.iter().filter(|n| with_another(n)).count() >= 2
}

#[test]
fn of_up_to_five_officers_in_every_standing_none_goes_who_is_needed() {
    let all =
        (0..8_u32).map(|bits| Standing { approves: bits & 1 > 0, acts: bits & 2 > 0, goes: bits & 4 > 0 });
    let all: Vec<Standing> = all.collect();
    let mut seen = BTreeMap::new();
    for count in 0..=5_u32 {
        for world in 0..8_usize.pow(count) {
            let officers: Vec<_> = (0..count).map(|place| all[world / 8_usize.pow(place) % 8]).collect();
            let rest: Vec<_> = officers.iter().filter(|officer| !officer.goes).copied().collect();
            let loses = officers.iter().any(|officer| officer.goes && officer.approves && officer.acts);
            let refused = leaves_too_few(officers.iter().copied()).is_some();
            // Refused exactly when too few would be left, and not for what takes away nobody who counts.
            assert_eq!(refused, loses && !is_enough(&rest), "{officers:?}");
            *seen.entry(refused).or_insert(0) += 1;
        }
    }
    assert!(seen[&true] > 1_000 && seen[&false] > 1_000, "{seen:?}");
}

#[test]
fn whatever_officers_do_to_each_other_two_remain_who_can_approve() {
    let officers = [alice(), bob(), carol(), dave()];
    let mut steps: Vec<Command> = Vec::new();
    for officer in officers {
        let key = officer.principal();
        let key = crate::domain::id::Digest::of(&key.key);
        steps.extend([suspend(officer), remove(officer), release(officer)]);
        steps.extend([Command::BlockKey { key, reason: REASON }, Command::UnblockKey(key)]);
    }
    let acting = |world: &World| {
        let all = officers.iter().filter_map(|officer| world.state.officer(&officer.id));
        all.filter(|officer| officer.has(Role::Approver)).count()
    };
    let mut worlds = vec![staffed()];
    let (mut done, mut refused) = (0, 0);
    for _ in 0..3 {
        let mut next = Vec::new();
        for world in &worlds {
            for step in &steps {
                // Whoever may sign it now does.
                let able = officers.into_iter().filter(|officer| world.state.officer(&officer.id).is_some());
                let able = able.filter(|officer| officer.id != carol().id);
                let signers: Vec<_> = able.take(step.signers().count).collect();
                let mut world = world.clone();
                match world.enact(step.clone(), &signers) {
                    Ok(_) => {
                        done += 1;
                        assert!(acting(&world) >= 2, "{step:?}");
                        next.push(world);
                    }
                    Err(_) => refused += 1,
                }
            }
        }
        worlds = next;
    }
    assert!(done > 500 && refused > 500, "{done} done, {refused} refused");
}

#[test]
fn one_suspends_two_release_and_meanwhile_no_signature_counts() {
    let mut world = staffed();
    world.go(Command::Stop { scope: StopScope::All, reason: REASON });
    let of_dave = world.mandate(Command::ReleaseStop(StopScope::All), &[dave()]);
    let proposal = world.propose(of_dave).unwrap();
    let both = world.mandate(Command::ReleaseStop(StopScope::All), &[alice(), dave()]);
    world.enact(suspend(dave()), &[bob()]).unwrap();
    assert_eq!(world.enact(suspend(dave()), &[alice()]), Err(Reject::Exists("suspension")));
    // What it proposed lapses, what it signed with others is not carried out, and it signs nothing new.
    let lapse = world.state.lapse_of(&world.state.proposals[&proposal], world.now);
    assert_eq!(lapse, Some(Lapse::SignerGone(dave().id.clone())));
    let enact = |world: &mut World, signed| world.record(entry(Event::Enacted { signed, proposal: None }));
    assert!(matches!(enact(&mut world, both), Err(Reject::NeedsApproval(_))));
    let again = world.mandate(suspend(alice()), &[dave()]);
    assert!(matches!(enact(&mut world, again), Err(Reject::NeedsApproval(_))));
    // Nor do two of the three approvers suspend the third: two remain.
    assert!(matches!(world.enact(suspend(bob()), &[alice()]), Err(Reject::WrongState { .. })));
    let alone = world.mandate(release(dave()), &[alice()]);
    assert!(matches!(enact(&mut world, alone), Err(Reject::NeedsApproval(_))));
    world.enact(release(dave()), &[alice(), bob()]).unwrap();
    assert!(world.state.officer(&dave().id).is_some());
    assert_eq!(world.enact(release(dave()), &[alice(), bob()]), Err(Reject::NotFound("suspension")));
    // Who is suspended can be removed for good, by two.
    world.enact(suspend(dave()), &[bob()]).unwrap();
    world.enact(remove(dave()), &[alice(), bob()]).unwrap();
    assert_eq!(world.enact(release(dave()), &[alice(), bob()]), Err(Reject::NotFound("principal")));
    let nobody =
        Command::Officers(OfficerCommand::Suspend { principal: "nobody".parse().unwrap(), reason: REASON });
    assert_eq!(world.enact(nobody, &[alice()]), Err(Reject::NotFound("principal")));
}

#[test]
fn an_emergency_is_carried_out_without_the_role_and_another_officer_reviews_it() {
    let mut world = staffed();
    let plain = world.enact(stop().command(), &[carol()]);
    assert!(matches!(plain, Err(Reject::NeedsApproval(_))), "a vetter may not stop: {plain:?}");
    world.enact(break_glass(stop()), &[carol()]).unwrap();
    assert!(world.state.enforcement.stops.contains(&StopScope::All));
    let seq = world.state.position.seq;
    let review = &world.state.reviews[&seq];
    let both = vec![carol().id.clone(), alice().id.clone()];
    assert_eq!((&review.officers, &review.what), (&both, &stop()), "who signed it, and who brought it");
    // Who has the role breaks no glass, and nothing is done twice.
    let with_role = world.enact(break_glass(Emergency::Stop(StopScope::Entity(PROVIDER), REASON)), &[dave()]);
    assert!(matches!(with_role, Err(Reject::Denied(_))), "{with_role:?}");
    assert_eq!(world.enact(break_glass(stop()), &[carol()]), Err(Reject::Exists("stop")));
    // Another officer closes the review, once; not who did it, whatever the roles.
    world.enact(close(seq), &[dave()]).unwrap();
    assert!(world.state.reviews.is_empty());
    assert_eq!(world.enact(close(seq), &[dave()]), Err(Reject::NotFound("review")));
    for bad in ["", "two\nlines"] {
        let reason = bad.to_owned();
        let glass = Command::Officers(OfficerCommand::BreakGlass { what: stop(), reason });
        assert!(matches!(world.enact(glass, &[carol()]), Err(Reject::Invalid { field: "reason", .. })));
    }
}

#[test]
fn nobody_reviews_their_own_emergency_not_even_in_a_forged_record() {
    let mut world = staffed();
    // A role that may review and may not stop.
    let row = world.state.principals.get_mut(&carol().id).unwrap();
    Arc::make_mut(row).roles = vec![Role::Auditor];
    let own = |world: &World, command: Command| world.mandate(command, &[carol()]);
    let glass = own(&world, break_glass(stop()));
    world.record(entry(Event::Enacted { signed: glass, proposal: None })).unwrap();
    let seq = world.state.position.seq;
    let signed = own(&world, close(seq));
    let rejected = world.record(entry(Event::Enacted { signed: signed.clone(), proposal: None }));
    assert!(matches!(rejected, Err(Reject::Denied(_))), "{rejected:?}");
    let forged = Entry { event: Event::Enacted { signed, proposal: None }, by: None, request: None };
    let fault = world.state.clone().apply(seq.next(), world.now, &forged).unwrap_err();
    assert!(fault.why.contains("another officer reviews it"), "{fault}");
    world.enact(close(seq), &[bob()]).unwrap();
}

#[test]
fn only_what_takes_away_at_once_has_an_emergency_form() {
    let member = PROVIDER;
    for command in [
        Command::ReleaseStop(StopScope::All),
        Command::RemovePrincipal(carol().id.clone()),
        Command::RegisterPrincipal(carol().principal()),
        Command::ActivateEntity(member),
        release(carol()),
        break_glass(stop()),
        Command::Drill(StopScope::All),
    ] {
        assert_eq!(Emergency::of(&command), None, "{command:?}");
    }
    let end = Emergency::EndGrant(member, GrantId::from_bytes([9; 16]));
    for what in [stop(), Emergency::SuspendPrincipal(carol().id.clone(), REASON), end] {
        let command = what.command();
        assert!(command.is_restricting());
        assert_eq!(Emergency::of(&command), Some(what));
    }
    assert!(break_glass(stop()).is_restricting() && !close(Seq(1)).is_restricting());
}

#[test]
fn an_emergency_ends_one_grant_and_two_officers_give_it_back() {
    let (mut world, member) = World::with_member();
    world.go(Command::RegisterPrincipal(carol().principal()));
    let held = world.state.entities[&member].card.grants[0].clone();
    let end = Command::EndGrant { entity: member, grant: held.id };
    let plain = world.enact(end, &[carol()]);
    assert!(matches!(plain, Err(Reject::NeedsApproval(_))), "a vetter may not: {plain:?}");
    let what = Emergency::EndGrant(member, held.id);
    let with_role = world.enact(break_glass(what.clone()), &[alice()]);
    assert!(matches!(with_role, Err(Reject::Denied(_))), "{with_role:?}");
    world.enact(break_glass(what.clone()), &[carol()]).unwrap();
    assert_eq!(world.state.entities[&member].card.grants[0].interval.until, Some(world.now));
    assert_eq!(world.state.reviews[&world.state.position.seq].what, what);
    let none = Emergency::EndGrant(member, GrantId::from_bytes([61; 16]));
    assert_eq!(world.enact(break_glass(none), &[carol()]), Err(Reject::NotFound("grant")));
    // The partner is one still, and two give it the model anew, under another number.
    let again = grant(71, held.model.as_str());
    let one = world.enact(Command::GrantModel { entity: member, grant: again.clone() }, &[alice()]);
    assert!(matches!(one, Err(Reject::NeedsApproval(_))), "{one:?}");
    world.go(Command::GrantModel { entity: member, grant: again.clone() });
    assert!(world.state.entities[&member].card.grants.contains(&again));
}

#[test]
fn the_mandate_of_an_emergency_is_good_once_and_for_seven_days() {
    let mut world = staffed();
    let signed = world.mandate(break_glass(stop()), &[carol()]);
    let late = world.mandate(break_glass(Emergency::Stop(StopScope::Entity(PROVIDER), REASON)), &[carol()]);
    let glass = entry(Event::Enacted { signed, proposal: None });
    world.record(glass.clone()).unwrap();
    world.go(Command::ReleaseStop(StopScope::All));
    // Two released it, and whoever still has the bytes stops nothing with them.
    let again = world.record(glass.clone());
    assert!(matches!(&again, Err(Reject::Conflict(why)) if why.contains("good once")), "{again:?}");
    let seq = world.state.position.seq.next();
    let fault = world.state.clone().apply(seq, world.now, &glass).unwrap_err();
    assert!(fault.why.contains("good once"), "{fault}");
    world.now = world.now.plus_ms(MANDATE_FRESH_MS + 1);
    for old in [glass, entry(Event::Enacted { signed: late, proposal: None })] {
        assert!(matches!(world.record(old), Err(Reject::Conflict(_))));
    }
    world.enact(break_glass(stop()), &[carol()]).unwrap();
}

#[test]
fn who_submits_an_emergency_does_not_review_it() {
    let mut world = staffed();
    let signed = world.mandate(break_glass(stop()), &[carol()]);
    let by = Some(dave().id.clone());
    world.record(Entry { event: Event::Enacted { signed, proposal: None }, by, request: None }).unwrap();
    let seq = world.state.position.seq;
    assert_eq!(world.state.reviews[&seq].officers, [carol().id.clone(), dave().id.clone()]);
    assert!(matches!(world.enact(close(seq), &[dave()]), Err(Reject::Denied(_))));
    world.enact(close(seq), &[bob()]).unwrap();
}
