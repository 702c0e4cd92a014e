//! Commands about what partners owe: do they fit what is on record?

use std::collections::BTreeSet;

use super::mandate::{check_due, check_model, entity, found, text};
use super::reject::Reject;
use super::screening;
use crate::domain::entity::Entity;
use crate::domain::id::{ModelId, Seq};
use crate::domain::license::{License, REPORTS_MAX};
use crate::domain::partner_command::{
    CHECKLIST_MAX, CORRECTIONS_MAX, PartnerCommand, SafeguardEvidence, SafeguardItem,
};
use crate::domain::state::State;
use crate::domain::time::Timestamp;

/// The longest name of a report or a safeguard.
const NAME_LEN_MAX: usize = 64;

/// Could this command be carried out now?
pub(super) fn check(state: &State, command: &PartnerCommand, now: Timestamp) -> Result<(), Reject> {
    match command {
        PartnerCommand::FileReport { license, report, .. } => {
            let license = state.licenses.get(license).ok_or(Reject::NotFound("licence"))?;
            let is_owed = license.reports.iter().flatten().any(|duty| duty.name == *report);
            found(is_owed, "report of this licence")?;
            match state.reports_owed(license).any(|duty| duty.name == *report) {
                true => Ok(()),
                false => Err(Reject::Exists("report")),
            }
        }
        PartnerCommand::SetChecklist(items) => check_checklist(state, items),
        PartnerCommand::AttestSafeguards { entity: id, evidence, until, reverify_due } => {
            let entity = entity(state, *id)?;
            check_due(entity.card.reverify_due, *reverify_due)?;
            if *until <= now {
                return Err(Reject::Invalid { field: "until", why: "it has passed".to_owned() });
            }
            check_evidence(state, evidence)?;
            let models: Vec<_> = entity.card.grants.iter().map(|grant| &grant.model).collect();
            check_complete(state, evidence, &models)
        }
        PartnerCommand::Correct { wrong, right, reason } => {
            text("reason", reason, 1)?;
            check_correction(state, *wrong, *right)
        }
    }
}

/// A checklist says once what it asks, of models that are registered.
fn check_checklist(state: &State, items: &[SafeguardItem]) -> Result<(), Reject> {
    if items.len() > CHECKLIST_MAX {
        return Err(Reject::Invalid { field: "items", why: format!("at most {CHECKLIST_MAX} are allowed") });
    }
    check_names("items", items.iter().map(|item| item.name.as_str()))?;
    for item in items {
        text("asks", &item.asks, 1)?;
        item.models.iter().try_for_each(|model| check_model(state, model))?;
    }
    Ok(())
}

/// Evidence is of items that are asked, each once.
fn check_evidence(state: &State, evidence: &[SafeguardEvidence]) -> Result<(), Reject> {
    check_names("evidence", evidence.iter().map(|evidence| evidence.item.as_str()))?;
    let is_asked = |name: &str| state.checklist.iter().any(|item| item.name == name);
    match evidence.iter().find(|evidence| !is_asked(&evidence.item)) {
        None => Ok(()),
        Some(evidence) => Err(Reject::Invalid {
            field: "evidence",
            why: format!("{} is not on the checklist", evidence.item),
        }),
    }
}

/// Every item that is asked for any of these models has evidence.
fn check_complete(state: &State, evidence: &[SafeguardEvidence], models: &[&ModelId]) -> Result<(), Reject> {
    let is_asked = |item: &&SafeguardItem| {
        item.models.is_empty() || item.models.iter().any(|model| models.contains(&model))
    };
    let missing = state.checklist.iter().filter(is_asked);
    let mut missing = missing.filter(|item| !evidence.iter().any(|evidence| evidence.item == item.name));
    match missing.next() {
        None => Ok(()),
        Some(item) => Err(Reject::WrongState {
            what: "safeguards",
            have: format!("without evidence of {}", item.name),
            need: "evidence of every item of the checklist (`countersign safeguards attest`)",
        }),
    }
}

/// Before an entity is activated or granted a model, the safeguards that are asked for it are attested. Without a checklist
/// none is.
pub(super) fn check_safeguards(
    state: &State,
    entity: &Entity,
    model: Option<&ModelId>,
    now: Timestamp,
) -> Result<(), Reject> {
    let granted = entity.card.grants.iter().map(|grant| &grant.model);
    let models: Vec<_> = granted.chain(model).collect();
    let evidence = state.safeguards.get(&entity.card.id).map(AsRef::as_ref);
    check_complete(state, evidence.map_or(&[], Vec::as_slice), &models)?;
    let is_lapsed =
        !state.checklist.is_empty() && entity.card.safeguards_until.is_none_or(|until| until <= now);
    match is_lapsed {
        false => Ok(()),
        true => Err(Reject::WrongState {
            what: "safeguards",
            have: "not attested, or lapsed".to_owned(),
            need: "attested (`countersign safeguards attest`)",
        }),
    }
}

/// An applicant is screened, and has the safeguards that are asked of everybody.
pub(super) fn check_activation(state: &State, entity: &Entity, now: Timestamp) -> Result<(), Reject> {
    screening::check_activation(state, entity)?;
    check_safeguards(state, entity, None, now)
}

/// With a checklist nobody says that safeguards are there without saying what shows it.
pub(super) fn check_by_hand(
    state: &State,
    entity: &Entity,
    reverify_due: Option<Timestamp>,
) -> Result<(), Reject> {
    match state.checklist.is_empty() {
        true => check_due(entity.card.reverify_due, reverify_due),
        false => Err(Reject::WrongState {
            what: "checklist of safeguards",
            have: format!("{} items", state.checklist.len()),
            need: "the evidence of each (`countersign safeguards attest`)",
        }),
    }
}

/// A licence names its holder, registered models, and reports with a name each.
pub(super) fn check_license(state: &State, license: &License) -> Result<(), Reject> {
    entity(state, license.holder)?;
    license.models.iter().try_for_each(|model| check_model(state, model))?;
    let duties = license.reports.as_deref().unwrap_or_default();
    if duties.len() > REPORTS_MAX {
        return Err(Reject::Invalid { field: "reports", why: format!("at most {REPORTS_MAX} are allowed") });
    }
    check_names("reports", duties.iter().map(|duty| duty.name.as_str()))
}

/// Names are short, plain and different.
fn check_names<'a>(field: &'static str, names: impl Iterator<Item = &'a str>) -> Result<(), Reject> {
    let mut seen = BTreeSet::new();
    for name in names {
        let is_plain = name.bytes().all(|letter| letter.is_ascii_alphanumeric() || letter == b'-');
        if name.is_empty() || name.len() > NAME_LEN_MAX || !is_plain {
            let why = format!("a name is 1 to {NAME_LEN_MAX} letters, digits and hyphens");
            return Err(Reject::Invalid { field, why });
        }
        if !seen.insert(name) {
            return Err(Reject::Invalid { field, why: format!("{name} is there twice") });
        }
    }
    Ok(())
}

/// A later record corrects an earlier one, and each pair is said once.
fn check_correction(state: &State, wrong: Seq, right: Seq) -> Result<(), Reject> {
    if wrong < Seq(1) || right <= wrong || right > state.position.seq {
        let why = format!("it must be later than record {wrong}, and on record");
        return Err(Reject::Invalid { field: "right", why });
    }
    let before = state.corrections.get(&wrong).map_or(&[][..], |list| list.as_slice());
    if before.iter().any(|correction| correction.right == right) {
        return Err(Reject::Exists("correction"));
    }
    match before.len() < CORRECTIONS_MAX {
        true => Ok(()),
        false => Err(Reject::WrongState {
            what: "number of corrections of this record",
            have: CORRECTIONS_MAX.to_string(),
            need: "a correction of the last one of them",
        }),
    }
}
