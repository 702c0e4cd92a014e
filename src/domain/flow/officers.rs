//! Commands about principals, and emergencies: are they sensible, and is who signed who may?

use super::mandate::{found, text};
use super::quorum::{self, Gone};
use super::reject::Reject;
use crate::domain::approval::{MANDATE_FRESH_MS, Mandate};
use crate::domain::command::Command;
use crate::domain::id::PrincipalId;
use crate::domain::officer_command::{OfficerCommand, REVIEWS_MAX};
use crate::domain::state::{REMEMBERED_MAX, State};
use crate::domain::time::Timestamp;

/// A command about principals, with what an emergency does.
pub(super) fn check(state: &State, command: &OfficerCommand, now: Timestamp) -> Result<(), Reject> {
    match command {
        OfficerCommand::Suspend { principal, .. } => check_suspension(state, principal),
        OfficerCommand::Release(id) => {
            let principal = state.principal(id).ok_or(Reject::NotFound("principal"))?;
            found(principal.suspended.is_some(), "suspension")
        }
        OfficerCommand::BreakGlass { what, reason } => {
            text("reason", reason, 1)?;
            match state.reviews.len() < REVIEWS_MAX {
                true => super::mandate::check(state, &what.command(), now),
                false => Err(Reject::WrongState {
                    what: "number of open reviews",
                    have: REVIEWS_MAX.to_string(),
                    need: "some of them closed; who has the role restricts without one",
                }),
            }
        }
        OfficerCommand::CloseReview { review, finding } => {
            text("finding", finding, 1)?;
            found(state.reviews.contains_key(review), "review")
        }
    }
}

/// Restrictions never expire, but this one is by whoever was there when nobody else was: it is good once, and not later.
pub(super) fn check_emergency(state: &State, mandate: &Mandate, now: Timestamp) -> Result<(), Reject> {
    if !matches!(mandate.command, Command::Officers(OfficerCommand::BreakGlass { .. })) {
        return Ok(());
    }
    let now = now.max(state.time);
    if now > mandate.made_at.plus_ms(MANDATE_FRESH_MS) {
        let why =
            format!("the emergency of {} is over: its mandate is older than seven days", mandate.made_at);
        return Err(Reject::Conflict(why));
    }
    match state.remembered.has_room_for_emergency(now) {
        true => Ok(()),
        false => Err(Reject::WrongState {
            what: "number of emergencies in seven days",
            have: REMEMBERED_MAX.to_string(),
            need: "fewer; who has the role restricts without one",
        }),
    }
}

/// A suspended one may be suspended by nobody again: two officers release it, or remove it.
fn check_suspension(state: &State, id: &PrincipalId) -> Result<(), Reject> {
    let principal = state.principal(id).ok_or(Reject::NotFound("principal"))?;
    if principal.suspended.is_some() {
        return Err(Reject::Exists("suspension"));
    }
    quorum::check(state, Gone::Principal(id))
}

/// Who signed is who may, beyond the role: nobody reviews what they did themselves, and who has the role for a restriction
/// breaks no glass for it.
pub(super) fn check_parties(
    state: &State,
    command: &Command,
    signers: &[&PrincipalId],
) -> Result<(), Reject> {
    if let Some(why) = state.party_fault(command, signers.iter().copied()) {
        return Err(Reject::Denied(why));
    }
    let Command::Officers(OfficerCommand::BreakGlass { what, .. }) = command else { return Ok(()) };
    let roles = what.command().signers().roles;
    let fitting = signers
        .iter()
        .find(|id| state.officer(id).is_some_and(|officer| roles.iter().any(|role| officer.has(*role))));
    match fitting {
        None => Ok(()),
        Some(id) => Err(Reject::Denied(format!("{id} holds a role that may do this; break no glass for it"))),
    }
}
