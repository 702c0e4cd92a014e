//! State in bytes and back: a snapshot is the state.

use crate::domain::codec::{from_bytes, to_bytes};
use crate::domain::command::Command;
use crate::domain::enforce::OrdinalSet;
use crate::domain::event::{Event, NewEntity};
use crate::domain::id::{Ordinal, RequestId};
use crate::domain::revocation::{RevocationReason, RevocationScope, StopScope, SuspensionTarget};
use crate::domain::state::State;
use crate::domain::tests::fixtures::*;
use crate::domain::tests::world::*;

const REASON: RevocationReason = RevocationReason::Drill;

/// A state in which no table is empty.
fn full() -> World {
    let (mut world, member) = World::with_member();
    let person = world.person(member, FOREIGN, EMPLOYEE);
    let job = world.workload(member, &[person]);
    let certificate = world.enroll(person).unwrap();
    let second = world.enroll(job).unwrap();
    world.renew(&certificate).unwrap();
    let pending = world.enrollment(person, "pending").unwrap();
    world.intend(&pending).unwrap();
    world.go(Command::Hold { ordinal: second.ordinal, reason: REASON });
    world.go(Command::Revoke { scope: RevocationScope::Certificate(certificate.ordinal), reason: REASON });
    world.go(Command::RevokeAuthority { authority: ACCESS_CA, reason: REASON });
    world.go(Command::Stop { scope: StopScope::Model(model("fable-5")), reason: REASON });
    world.go(Command::Suspend { target: SuspensionTarget::Entity(member), reason: REASON });
    let half_signed = world.mandate(Command::ReleaseStop(StopScope::Model(model("fable-5"))), &[alice()]);
    world.propose(half_signed).unwrap();
    world
}

fn round_trip(state: &State) -> State {
    from_bytes(&to_bytes(state)).unwrap()
}

#[test]
fn a_state_survives_its_encoding() {
    let world = full();
    assert!(round_trip(&world.state) == world.state);
}

#[test]
fn a_released_hold_leaves_no_trace_that_bytes_would_lose() {
    let mut world = full();
    let held: Vec<_> = world.state.enforcement.held.iter().collect();
    world.go(Command::ReleaseHold(held[0]));
    assert!(world.state.enforcement.held.is_empty());
    assert!(round_trip(&world.state) == world.state);
    let mut set = OrdinalSet::default();
    set.insert(Ordinal(70_000));
    set.remove(Ordinal(70_000));
    assert_eq!(set, OrdinalSet::default());
}

#[test]
fn bytes_after_the_state_or_in_another_spelling_are_refused() {
    let mut bytes = to_bytes(&World::new().state);
    bytes.push(0xf6);
    assert!(from_bytes::<State>(&bytes).is_err());
    bytes.pop();
    bytes.pop();
    assert!(from_bytes::<State>(&bytes).is_err());
}

#[test]
fn a_request_is_carried_out_once() {
    let mut world = World::new();
    let request = Some(RequestId::from_bytes([9; 16]));
    let apply = |id: u8| NewEntity { ..entity(crate::domain::id::EntityId::from_bytes([id; 16]), ORG) };
    let mut once = entry_of(Event::EntityApplied(apply(40)));
    once.request = request;
    world.record(once.clone()).unwrap();
    let first = world.state.position.seq;
    let mut other = entry_of(Event::EntityApplied(apply(41)));
    other.request = request;
    for again in [once, other] {
        assert_eq!(world.record(again), Err(crate::domain::flow::Reject::Repeated(first)));
    }
    assert_eq!(world.state.position.seq, first);
}

const ORG: crate::domain::entity::Organisation = crate::domain::entity::Organisation::Us;

fn entry_of(event: Event) -> crate::domain::event::Entry {
    crate::domain::tests::world::entry(event)
}
