//! Orders to keep records: one places, two release, and nothing that is on hold is recorded as removed.

use crate::domain::command::Command;
use crate::domain::decided::RemovedDecisions;
use crate::domain::event::Event;
use crate::domain::flow::Reject;
use crate::domain::record_command::{RECORD_HOLDS_MAX, RecordCommand, RecordHold};
use crate::domain::tests::fixtures::alice;
use crate::domain::tests::world::*;
use crate::domain::time::Timestamp;

const SINCE: Timestamp = Timestamp::from_millis(1_782_000_000_000);

fn hold(name: &str, since: Timestamp) -> Command {
    let hold = RecordHold { since, reason: "a request".to_owned() };
    Command::Records(RecordCommand::Hold { id: name.parse().unwrap(), hold })
}

fn removed(until: Timestamp) -> Event {
    let since = until.plus_ms(-1_000);
    Event::DecisionsRemoved(RemovedDecisions { first: 1, last: 1, since, until, len: 1, is_early: false })
}

#[test]
fn what_is_on_hold_is_not_removed_until_two_release_it() {
    let mut world = World::new();
    world.record(entry(removed(SINCE))).unwrap();
    world.go(hold("doj-1", SINCE));
    world.go(hold("doj-2", SINCE.plus_ms(60_000)));
    world.record(entry(removed(SINCE.plus_ms(-1)))).unwrap();
    let refused = world.record(entry(removed(SINCE)));
    assert!(matches!(&refused, Err(Reject::Denied(why)) if why.contains("on hold")), "{refused:?}");
    let release = || Command::Records(RecordCommand::Release("doj-1".parse().unwrap()));
    let alone = world.enact(release(), &[alice()]);
    assert!(matches!(alone, Err(Reject::NeedsApproval(_))), "{alone:?}");
    world.go(release());
    world.record(entry(removed(SINCE))).unwrap();
    assert!(world.record(entry(removed(SINCE.plus_ms(60_000)))).is_err(), "the other one stands");
}

#[test]
fn an_order_can_only_hold_more_and_there_are_not_any_number() {
    let mut world = World::new();
    world.go(hold("doj-1", SINCE));
    let less = world.enact(hold("doj-1", SINCE.plus_ms(1)), &[alice()]);
    assert!(matches!(less, Err(Reject::Invalid { field: "since", .. })), "{less:?}");
    world.go(hold("doj-1", SINCE.plus_ms(-1)));
    for n in 1..RECORD_HOLDS_MAX {
        world.go(hold(&format!("more-{n}"), SINCE));
    }
    let more = world.enact(hold("one-more", SINCE), &[alice()]);
    assert!(matches!(more, Err(Reject::Conflict(_))), "{more:?}");
    world.go(hold("doj-1", SINCE.plus_ms(-2)));
}
