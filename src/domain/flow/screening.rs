//! Screening: may this list be the newest one, may this be said of a match, and does a comparison fit the record?

use super::mandate::{found, status, text};
use super::reject::Reject;
use crate::domain::command::Command;
use crate::domain::entity::{Entity, EntityStatus, ScreeningResult};
use crate::domain::event::Event;
use crate::domain::id::{Digest, EntityId};
use crate::domain::screening::{
    FOUND_MAX, HeldMatch, MATCHES_MAX, MatchVerdict, ScreeningList, ScreeningMatch,
};
use crate::domain::state::State;
use crate::domain::time::Timestamp;

/// How much shorter than the one before a list may be without a second officer: a day takes a few entries away, a
/// truncated file takes many.
const SHRINK_PERCENT_MAX: u64 = 10;
/// The longest explanation that is recorded.
const EXPLANATION_LEN_MAX: usize = 1_000;

/// Checks a command about screening.
pub(super) fn check(state: &State, command: &Command, now: Timestamp) -> Result<(), Reject> {
    match command {
        Command::ImportScreeningList { list, shrinks } => check_import(state, list, *shrinks, now),
        Command::ResolveScreeningMatch { entity, entry, score, verdict, reason } => {
            text("reason", reason, 1)?;
            let held = held(state, *entity, *entry)?;
            if held.found.score != *score {
                return Err(Reject::Conflict(format!("the score of this match is {}", held.found.score)));
            }
            check_verdict(held, *verdict)
        }
        _ => Ok(()),
    }
}

fn check_import(state: &State, list: &ScreeningList, shrinks: bool, now: Timestamp) -> Result<(), Reject> {
    text("version", &list.version, 1)?;
    if list.date > now {
        return Err(Reject::Invalid { field: "date", why: "it lies in the future".to_owned() });
    }
    if list.score_min > 100 || list.entries == 0 {
        let why = "a list has entries, and a score is 0 to 100".to_owned();
        return Err(Reject::Invalid { field: "list", why });
    }
    let Some(last) = &state.screening_list else { return Ok(()) };
    if last.version == list.version {
        return Err(Reject::Exists("list version"));
    }
    if list.date < last.date {
        return Err(Reject::Conflict(format!(
            "the list on record is newer: {} of {}",
            last.version, last.date
        )));
    }
    let kept = u64::from(last.entries) * (100 - SHRINK_PERCENT_MAX);
    if !shrinks && u64::from(list.entries) * 100 < kept {
        return Err(Reject::Conflict(format!(
            "the list has {} entries and the one before {}: more than {SHRINK_PERCENT_MAX} % are missing; if it is \
             not truncated, two officers import it with --shrinks",
            list.entries, last.entries
        )));
    }
    Ok(())
}

fn held(state: &State, entity: EntityId, entry: Digest) -> Result<&HeldMatch, Reject> {
    found(state.entities.contains_key(&entity), "entity")?;
    let screening = state.screenings.get(&entity).ok_or(Reject::NotFound("match"))?;
    screening.find(entry).ok_or(Reject::NotFound("match"))
}

/// From what to what a verdict leads. Nothing is said twice, and what was confirmed is only withdrawn.
fn check_verdict(held: &HeldMatch, verdict: MatchVerdict) -> Result<(), Reject> {
    let need = match (verdict, held.result()) {
        (MatchVerdict::FalsePositive, ScreeningResult::Unresolved)
        | (MatchVerdict::Confirmed, ScreeningResult::Unresolved | ScreeningResult::Clear)
        | (MatchVerdict::Withdrawn, ScreeningResult::Confirmed) => return Ok(()),
        (MatchVerdict::FalsePositive, _) => "an open match; one that was confirmed is WITHDRAWN by two",
        (MatchVerdict::Confirmed, _) => "a match that is not confirmed yet",
        (MatchVerdict::Withdrawn, _) => "a confirmed match",
    };
    Err(Reject::WrongState { what: "match", have: held.result().to_string(), need })
}

/// Checks what a comparison found, which no officer signs: it is of the newest list and of the name on record.
pub(super) fn check_run(state: &State, event: &Event) -> Result<(), Reject> {
    let Event::EntityScreened { entity, list: file, query, found: matches, .. } = event else {
        return Ok(());
    };
    let entity = state.entities.get(entity).ok_or(Reject::NotFound("entity"))?;
    let list = state.screening_list.as_ref().ok_or(Reject::NotFound("list"))?;
    if list.file != *file || entity.query() != *query {
        return Err(Reject::Conflict("the list or the name changed meanwhile".to_owned()));
    }
    let held = state.screenings.get(&entity.card.id).map_or(0, |screening| screening.matches.len());
    let is_long = |found: &ScreeningMatch| {
        found.score > 100
            || [&found.explanation, &found.entry_id, &found.source]
                .into_iter()
                .any(|text| text.len() > EXPLANATION_LEN_MAX)
    };
    if matches.len() > FOUND_MAX || held + matches.len() > MATCHES_MAX || matches.iter().any(is_long) {
        return Err(Reject::Invalid { field: "matches", why: "they are too many or too long".to_owned() });
    }
    Ok(())
}

/// Nobody becomes a partner with a match that is open or confirmed, nor before the list on record was looked at.
pub(super) fn check_activation(state: &State, entity: &Entity) -> Result<(), Reject> {
    status(entity, EntityStatus::Applicant, "APPLICANT")?;
    let have = match (&entity.card.screening, &state.screening_list) {
        (Some(screening), _) if screening.result != ScreeningResult::Clear => screening.result.to_string(),
        (None, Some(_)) => "not compared with the list yet".to_owned(),
        (Some(_) | None, _) => return Ok(()),
    };
    Err(Reject::WrongState {
        what: "screening",
        have,
        need: "CLEAR: SCREENING_PENDING until every match is resolved (`countersign screening show`)",
    })
}
