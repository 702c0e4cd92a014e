//! Orders to keep records, and what may be removed of them.

use super::mandate::{found, text};
use super::reject::Reject;
use crate::domain::decided::RemovedDecisions;
use crate::domain::record_command::{RECORD_HOLDS_MAX, RecordCommand};
use crate::domain::state::State;

/// Could this order be carried out now?
pub(super) fn check(state: &State, command: &RecordCommand) -> Result<(), Reject> {
    let (id, hold) = match command {
        RecordCommand::Hold { id, hold } => (id, hold),
        RecordCommand::Release(id) => return found(state.record_holds.contains_key(id), "hold on records"),
    };
    text("reason", &hold.reason, 1)?;
    match state.record_holds.get(id) {
        // Said again, it can only hold more: two let go.
        Some(held) if hold.since > held.since => {
            let why = format!("it holds records since {} already, which two officers release", held.since);
            Err(Reject::Invalid { field: "since", why })
        }
        None if state.record_holds.len() >= RECORD_HOLDS_MAX => {
            Err(Reject::Conflict(format!("there are {RECORD_HOLDS_MAX} holds on records already")))
        }
        Some(_) | None => Ok(()),
    }
}

/// What is on hold is not removed, whoever asks.
pub(super) fn check_removed(state: &State, removed: &RemovedDecisions) -> Result<(), Reject> {
    match state.records_held_since() {
        Some(since) if removed.until >= since => {
            Err(Reject::Denied(format!("records since {since} are on hold")))
        }
        Some(_) | None => Ok(()),
    }
}
