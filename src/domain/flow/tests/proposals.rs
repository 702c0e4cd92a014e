//! Proposals: a rejection binds, and no officer fills the memory with what waits.

use crate::domain::command::Command;
use crate::domain::event::Event;
use crate::domain::flow::Reject;
use crate::domain::flow::admit::{PROPOSALS_EACH_MAX, PROPOSALS_LEN_MAX};
use crate::domain::id::ProposalId;
use crate::domain::revocation::{RevocationReason, StopScope};
use crate::domain::tests::fixtures::*;
use crate::domain::tests::world::*;

fn stopped() -> World {
    let mut world = World::new();
    world.go(Command::Stop { scope: StopScope::All, reason: RevocationReason::Drill });
    world
}

fn release() -> Command {
    Command::ReleaseStop(StopScope::All)
}

#[test]
fn what_was_rejected_is_not_carried_out_with_signatures_of_then() {
    let mut world = stopped();
    let one = world.mandate(release(), &[alice()]);
    let mut both = one.clone();
    both.approvals.push(bob().sign(crate::domain::approval::MANDATE_PREFIX, &one.bytes));
    let id = world.propose(one.clone()).unwrap();
    world.record(entry(Event::ProposalRejected { id, reason: "not yet".to_owned() })).unwrap();
    let direct = entry(Event::Enacted { signed: both, proposal: None });
    let refused = world.record(direct.clone());
    assert!(matches!(&refused, Err(Reject::Conflict(why)) if why.contains("rejected")), "{refused:?}");
    let seq = world.state.position.seq.next();
    let fault = world.state.clone().apply(seq, world.now, &direct).unwrap_err();
    assert!(fault.why.contains("rejected"), "{fault}");
    assert!(matches!(world.propose(one), Err(Reject::Conflict(_))), "nor does it wait again");
    world.now = world.now.plus_ms(1_000);
    world.go(release());
}

#[test]
fn one_officer_leaves_room_for_the_proposals_of_others() {
    let mut world = stopped();
    for _ in 0..PROPOSALS_EACH_MAX {
        world.now = world.now.plus_ms(1);
        let signed = world.mandate(release(), &[alice()]);
        world.propose(signed).unwrap();
    }
    let more = world.mandate(release(), &[alice()]);
    assert!(matches!(world.propose(more), Err(Reject::WrongState { .. })));
    let of_bob = world.mandate(release(), &[bob()]);
    world.propose(of_bob).unwrap();
}

#[test]
fn what_waits_is_bounded_in_bytes() {
    let mut world = stopped();
    let signed = world.mandate(release(), &[alice()]);
    let id = world.propose(signed).unwrap();
    // As if policy bundles waited: of somebody else, so that it is not their number.
    let mut large = (*world.state.proposals[&id]).clone();
    large.signed.approvals.clear();
    large.signed.bytes = vec![0; PROPOSALS_LEN_MAX / 32];
    for number in 0..32_u8 {
        large.id = ProposalId::from_bytes([number; 16]);
        world.state.proposals.insert(large.id, std::sync::Arc::new(large.clone()));
    }
    world.now = world.now.plus_ms(1);
    let more = world.mandate(release(), &[bob()]);
    let refused = world.propose(more);
    assert!(
        matches!(&refused, Err(Reject::WrongState { what, .. }) if what.contains("length")),
        "{refused:?}"
    );
}
