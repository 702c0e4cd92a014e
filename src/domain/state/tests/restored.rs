//! A restore: what may have happened after the backup counts against everybody, and gateways give back what they hold.

use crate::domain::authority::AuthorityState;
use crate::domain::certificate::PrincipalKind;
use crate::domain::codec::{from_bytes, to_bytes};
use crate::domain::command::{Command, NewPrincipal};
use crate::domain::decision::CredentialFault;
use crate::domain::enforce::{EnforcementEvent, Position, missing};
use crate::domain::event::{Entry, Event};
use crate::domain::flow::Reject;
use crate::domain::flow::tests::authorities::certify;
use crate::domain::id::{AuthorityId, Digest, Epoch, Ordinal, Seq};
use crate::domain::principal::Role;
use crate::domain::recovery::{RecoveryKey, RecoveryKeys};
use crate::domain::revocation::{RevocationReason, RevocationScope, StopScope, SuspensionTarget};
use crate::domain::state::State;
use crate::domain::tests::fixtures::*;
use crate::domain::tests::world::*;

/// The backup is the world's state as it is; it goes on from there.
fn restore(world: &mut World) -> Seq {
    let seq = world.state.position.seq.next();
    world.now = world.now.plus_ms(1_000);
    let applied = world.state.apply(seq, world.now, &entry(Event::Restored)).unwrap();
    world.gate.apply(seq, &applied.events);
    world.gate.position = world.state.position;
    seq
}

fn collected(gateway: &str, upto: u64, events: Vec<EnforcementEvent>) -> Entry {
    let upto = Position { epoch: Epoch(1), seq: Seq(upto) };
    entry(Event::RestrictionsCollected { gateway: gateway.parse().unwrap(), upto, events })
}

#[test]
fn whatever_may_have_been_issued_after_the_backup_is_revoked() {
    let (mut world, member) = World::with_member();
    let person = world.person(member, FOREIGN, EMPLOYEE);
    let known = world.enroll(person).unwrap();
    // Intended when the backup ended, and perhaps issued a moment later.
    let open = world.enrollment(person, "open").unwrap();
    world.intend(&open).unwrap();
    let unredeemed = world.token(person).unwrap();
    let mut lost = world.clone();
    let after = lost.enroll(person).unwrap();
    let restored = restore(&mut world);
    assert_eq!(world.state.position, Position { epoch: Epoch(2), seq: restored });
    let of = |certificate| world.decide(certificate, &inference("mythos-5"));
    let revoked = |certificate| of(certificate).denials.contains(&CredentialFault::Revoked.into());
    assert!(of(&known).is_permit(), "{:?}", of(&known));
    assert!(revoked(&after) && revoked(&certificate_of(&open, Default::default())));
    for certificate in [&known, &after] {
        let request = inference("mythos-5");
        assert_eq!(world.decide(certificate, &request), world.decide_at_gate(certificate, &request));
    }
    assert!(!world.state.tokens.contains_key(&unredeemed), "it may have been redeemed");
    // What is issued from now on lies beyond everything that may exist.
    assert!(world.state.last_ordinal > Ordinal(after.ordinal.0 + (1 << 20) - 1));
    let next = world.enroll(person).unwrap();
    assert!(world.decide(&next, &inference("mythos-5")).is_permit());
}

#[test]
fn no_approval_from_before_a_restore_loosens_anything_after_it() {
    let (mut world, member) = World::with_member();
    world.go(Command::Suspend { target: SuspensionTarget::Entity(member), reason: RevocationReason::Drill });
    let release = world.mandate(Command::Unsuspend(SuspensionTarget::Entity(member)), &[alice(), bob()]);
    restore(&mut world);
    let again = entry(Event::Enacted { signed: release, proposal: None });
    assert!(matches!(world.record(again.clone()), Err(Reject::Conflict(why)) if why.contains("restored")));
    let next = world.state.position.seq.next();
    let fault = world.state.clone().apply(next, world.now, &again).unwrap_err();
    assert!(fault.why.contains("before the record was restored"), "{fault}");
    // Prepared anew it is good.
    world.go(Command::Unsuspend(SuspensionTarget::Entity(member)));
}

#[test]
fn officers_acknowledge_what_they_saw() {
    let (mut world, member) = World::with_member();
    let restored = restore(&mut world);
    let command = Command::AcknowledgeRestore { restored };
    assert!(world.enact(command.clone(), &[alice()]).is_err(), "one signature is not enough");
    let seen = world.mandate(command.clone(), &[alice(), bob()]);
    world.now = world.now.plus_ms(1_000);
    let cut = EnforcementEvent::EntityCut { entity: member, cutoff: Ordinal(5) };
    world.record(collected("gw-1", restored.0 + 40, vec![cut])).unwrap();
    let stale = world.record(entry(Event::Enacted { signed: seen, proposal: None }));
    assert!(matches!(stale, Err(Reject::Conflict(_))), "a gateway has reported since: {stale:?}");
    let restore = world.state.pending_restore().unwrap();
    assert_eq!((restore.records_lost(), restore.reports.len()), (41, 1));
    assert!(restore.covers(Position { epoch: Epoch(1), seq: Seq(restored.0 + 40) }));
    assert!(!restore.covers(Position { epoch: Epoch(1), seq: Seq(restored.0 + 41) }));
    world.go(command.clone());
    assert_eq!(world.state.pending_restore(), None);
    assert!(matches!(world.try_go(command), Err(Reject::NotFound(_))));
    let late = collected("gw-2", restored.0 + 50, Vec::new());
    assert!(matches!(world.record(late), Err(Reject::NotFound(_))), "it is over");
}

#[test]
fn a_gateway_gives_back_restrictions_and_nothing_else() {
    let mut world = World::new();
    let restored = restore(&mut world);
    let released = EnforcementEvent::StopReleased(StopScope::All);
    let refused = world.record(collected("gw", restored.0 + 1, vec![released.clone()]));
    assert!(matches!(refused, Err(Reject::Denied(_))));
    let next = world.state.position.seq.next();
    let forged = collected("gw", restored.0 + 1, vec![released]);
    assert!(world.state.clone().apply(next, world.now, &forged).is_err(), "nor can the journal say so");
}

#[test]
fn what_is_missing_is_all_that_the_gateway_held() {
    let (mut world, member) = World::with_member();
    let person = world.person(member, FOREIGN, EMPLOYEE);
    let (one, two) = (world.enroll(person).unwrap(), world.enroll(person).unwrap());
    let reason = RevocationReason::Drill;
    world.go(Command::Hold { ordinal: one.ordinal, reason });
    let mut lost = world.clone();
    let scopes = [
        RevocationScope::Certificate(two.ordinal),
        RevocationScope::Subject(person),
        RevocationScope::Entity(member),
        RevocationScope::Determination(LIFT.parse().unwrap()),
        RevocationScope::AnnexRevision(LIFT.parse().unwrap(), 1),
    ];
    for scope in scopes {
        lost.go(Command::Revoke { scope, reason });
    }
    lost.go(Command::Hold { ordinal: two.ordinal, reason });
    lost.go(Command::Stop { scope: StopScope::Entity(member), reason });
    lost.go(Command::Suspend { target: SuspensionTarget::Subject(person), reason });
    lost.go(Command::BlockKey { key: one.key, reason });
    restore(&mut world);
    let last = world.state.last_ordinal;
    let theirs = lost.gate.enforcement.as_ref();
    let events = missing(&world.state.enforcement, theirs, last);
    assert!(events.iter().all(EnforcementEvent::is_restricting));
    world.record(collected("gw", 900, events)).unwrap();
    let ours = world.state.enforcement.as_ref();
    assert_eq!(missing(ours, theirs, last), [], "nothing more is missing");
    assert!(ours.revoked.contains(two.ordinal) && ours.held.contains(two.ordinal));
    assert_eq!((&ours.subjects, &ours.entities), (&theirs.subjects, &theirs.entities));
    assert_eq!((&ours.determinations, &ours.stops), (&theirs.determinations, &theirs.stops));
    assert_eq!((&ours.suspended, &ours.keys), (&theirs.suspended, &theirs.keys));
    // Nobody can cut off what does not exist yet.
    let mut forged = theirs.clone();
    forged.entities.insert(member, Ordinal(u64::MAX));
    let cut = EnforcementEvent::EntityCut { entity: member, cutoff: last };
    assert_eq!(missing(ours, &forged, last), [cut]);
}

#[test]
fn no_gateway_takes_the_system_authority_from_officers() {
    let mut world = World::new();
    for officer in [alice(), bob()] {
        certify(&mut world, officer, PrincipalKind::Officer);
    }
    let restored = restore(&mut world);
    let unknown = AuthorityId::from_bytes([0xee; 16]);
    let revoked = [SYSTEM_CA, unknown].map(EnforcementEvent::IssuerRevoked).to_vec();
    world.record(collected("gw", restored.0 + 1, revoked)).unwrap();
    // Held for officers to see and decide, and what nobody knows is nothing.
    assert_eq!(world.state.authorities[&SYSTEM_CA].state, AuthorityState::Tainted);
    assert!(world.state.enforcement.is_trusted(&SYSTEM_CA));
    assert!(world.state.enforcement.issuers.is_empty());
    // One that nobody needs to reach this service is revoked, in its row as well.
    let access = vec![EnforcementEvent::IssuerRevoked(ACCESS_CA)];
    world.record(collected("gw", restored.0 + 2, access)).unwrap();
    assert_eq!(world.state.authorities[&ACCESS_CA].state, AuthorityState::Revoked);
    assert!(world.state.enforcement.issuers.contains(&ACCESS_CA));
}

#[test]
fn no_gateway_blocks_so_many_keys_that_nobody_could_undo_it() {
    let mut world = World::new();
    let roles = vec![Role::Approver];
    world.go(Command::RegisterPrincipal(NewPrincipal { roles, ..dave().principal() }));
    let recovery = ["one", "two", "three"].map(|name| Officer::new(name, &[]));
    let named = recovery.iter().map(|key| RecoveryKey(key.spki())).collect();
    world.state.recovery = Some(RecoveryKeys { threshold: 2, keys: named });
    let server = Officer::new("server", &[]);
    certify(&mut world, &server, PrincipalKind::Server);
    let restored = restore(&mut world);
    let key = |officer: &Officer| Digest::of(&officer.spki());
    let stranger = Digest::of(b"somebody else's");
    let said = [alice(), bob(), dave(), &recovery[0], &recovery[1], &server].map(key);
    let blocks = said.into_iter().chain([stranger]).map(EnforcementEvent::KeyBlocked);
    world.record(collected("gw-1", restored.0 + 1, blocks.collect())).unwrap();
    // What it says is taken as far as one officer could have said it, and the rest is left to officers.
    let spared = [bob(), dave(), &recovery[1], &server].map(key);
    let is_blocked = |world: &World, key| world.state.enforcement.is_blocked(key);
    for taken in [key(alice()), key(&recovery[0]), stranger] {
        assert!(is_blocked(&world, taken));
    }
    assert!(!spared.iter().any(|key| is_blocked(&world, *key)));
    // Nor can another one take the next step, and what is said again is named once.
    for (gateway, at) in [("gw-2", 2), ("gw-1", 3)] {
        let again = vec![EnforcementEvent::KeyBlocked(key(bob()))];
        world.record(collected(gateway, restored.0 + at, again)).unwrap();
        assert!(!is_blocked(&world, key(bob())));
    }
    let reports = &world.state.pending_restore().unwrap().reports;
    let shown: Vec<_> = reports.iter().map(|report| report.spared.clone().unwrap_or_default()).collect();
    assert_eq!(shown, [spared.to_vec(), vec![key(bob())]]);
    // The two who are left acknowledge it, and undo what was said of the third.
    world.enact(Command::AcknowledgeRestore { restored }, &[bob(), dave()]).unwrap();
    world.enact(Command::UnblockKey(key(alice())), &[bob(), dave()]).unwrap();
    assert!(!is_blocked(&world, key(alice())));
    let bytes = to_bytes(&world.state);
    assert_eq!(from_bytes::<State>(&bytes).unwrap().restore, world.state.restore);
}
