//! Announced revocations: may this one be announced, or its instant moved?

use super::reject::Reject;
use crate::domain::announcement::{ANNOUNCED_MAX, ANNOUNCED_SUBJECTS_MAX, CUT_AHEAD_MAX_MS};
use crate::domain::command::Command;
use crate::domain::id::AnnouncementId;
use crate::domain::revocation::RevocationScope;
use crate::domain::state::{AnnouncementFault, State};
use crate::domain::time::Timestamp;

/// May it be announced, or its instant moved? Its scope is checked before, as that of a revocation.
pub(super) fn check(state: &State, command: &Command, now: Timestamp) -> Result<(), Reject> {
    match command {
        Command::AnnounceRevocation { id, scope, cut_at, .. } => check_new(state, *id, scope, *cut_at, now),
        Command::HastenRevocation { announcement, cut_at } => {
            check_hasten(state, *announcement, *cut_at, now)
        }
        Command::PostponeRevocation { announcement, cut_at } => {
            check_postpone(state, *announcement, *cut_at, now)
        }
        other => Err(Reject::Denied(format!("{} announces nothing", other.name()))),
    }
}

/// An instant that has passed cuts at once: a restriction never fails because it came late.
fn check_new(
    state: &State,
    id: AnnouncementId,
    scope: &RevocationScope,
    cut_at: Timestamp,
    now: Timestamp,
) -> Result<(), Reject> {
    if state.announcements.contains_key(&id) {
        return Err(Reject::Exists("announcement"));
    }
    if cut_at > now.plus_ms(CUT_AHEAD_MAX_MS) {
        let why = "it lies more than 7 days ahead, when what is announced has expired anyway".to_owned();
        return Err(Reject::Invalid { field: "cut_at", why });
    }
    if let RevocationScope::Person(person) = scope
        && state.employments(*person).len() > ANNOUNCED_SUBJECTS_MAX
    {
        let why = "this person has more than 1000 employments; announce for entities".to_owned();
        return Err(Reject::Invalid { field: "scope", why });
    }
    let held = state.enforcement.announced.values().filter(|held| !held.is_spent(now));
    if held.count() >= ANNOUNCED_MAX {
        return Err(Reject::WrongState {
            what: "number of announced revocations",
            have: ANNOUNCED_MAX.to_string(),
            need: "some of them past by a week, or a revocation at once",
        });
    }
    Ok(())
}

fn check_hasten(state: &State, id: AnnouncementId, cut_at: Timestamp, now: Timestamp) -> Result<(), Reject> {
    state.check_hasten(id, cut_at).map_err(|fault| reject(state, id, fault, now))
}

fn check_postpone(
    state: &State,
    id: AnnouncementId,
    cut_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), Reject> {
    let at = now.max(state.time);
    state.check_postpone(id, cut_at, at).map_err(|fault| reject(state, id, fault, now))?;
    match cut_at.is_some_and(|cut_at| cut_at > now.plus_ms(CUT_AHEAD_MAX_MS)) {
        true => {
            let why = "it lies more than 7 days ahead; withdraw the announcement".to_owned();
            Err(Reject::Invalid { field: "cut_at", why })
        }
        false => Ok(()),
    }
}

pub(super) fn check_passed(state: &State, id: AnnouncementId, now: Timestamp) -> Result<(), Reject> {
    state.check_passed(id, now.max(state.time)).map_err(|fault| reject(state, id, fault, now))
}

fn reject(state: &State, id: AnnouncementId, fault: AnnouncementFault, now: Timestamp) -> Reject {
    let wrong = |need| Reject::WrongState { what: "announcement", have: have(state, id, now), need };
    match fault {
        AnnouncementFault::Unknown => Reject::NotFound("announcement"),
        AnnouncementFault::Withdrawn | AnnouncementFault::Cut => wrong("one that is still to come"),
        AnnouncementFault::NotCut => wrong("one whose instant has come"),
        AnnouncementFault::Noted => Reject::Conflict(fault.to_string()),
        AnnouncementFault::Direction => Reject::Invalid {
            field: "cut_at",
            why: "hasten needs an earlier instant than was announced, postpone a later one".to_owned(),
        },
    }
}

fn have(state: &State, id: AnnouncementId, now: Timestamp) -> String {
    match state.announcements.get(&id) {
        Some(row) if row.withdrawn.is_some() => "withdrawn".to_owned(),
        Some(row) if row.told.cut_at <= now => format!("cut at {}", row.told.cut_at),
        Some(row) => format!("to be cut at {}", row.told.cut_at),
        None => "not on record".to_owned(),
    }
}
