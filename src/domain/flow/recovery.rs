//! Recoveries: signed by enough recovery keys, announced once, effective a day later, rejected by any officer.

use super::mandate;
use super::reject::Reject;
use crate::domain::approval::Mandate;
use crate::domain::id::{PrincipalId, ProposalId};
use crate::domain::proposal::Lapse;
use crate::domain::recovery::{RECOVERIES_MAX, SignedRecovery};
use crate::domain::state::{REMEMBERED_MAX, State};
use crate::domain::time::Timestamp;

/// May it be announced?
pub(super) fn admit(
    state: &State,
    id: ProposalId,
    signed: &SignedRecovery,
    now: Timestamp,
) -> Result<Mandate, Reject> {
    let (mandate, new) =
        state.check_recovery(signed).map_err(|fault| Reject::NeedsApproval(fault.to_string()))?;
    mandate::check_basis(state, &mandate, now)?;
    if state.is_rejected(signed) {
        let why = "an officer rejected exactly this recovery; whoever still wants it signs another one";
        return Err(Reject::Conflict(why.to_owned()));
    }
    mandate::check_principal(state, &new)?;
    let same = state
        .recoveries
        .values()
        .any(|pending| pending.id == id || pending.new.id == new.id || pending.new.key == new.key);
    if same || state.proposals.contains_key(&id) {
        return Err(Reject::Exists("recovery"));
    }
    if !state.remembered.has_room_for_recovery(now) {
        return Err(Reject::WrongState {
            what: "number of rejected recoveries",
            have: REMEMBERED_MAX.to_string(),
            need: "some of them older than seven days",
        });
    }
    if state.recoveries.len() >= RECOVERIES_MAX {
        return Err(Reject::WrongState {
            what: "number of recoveries that wait",
            have: RECOVERIES_MAX.to_string(),
            need: "one of them effective or rejected",
        });
    }
    Ok(mandate)
}

/// Its day has come, and nobody has its name or its key meanwhile.
pub(super) fn check_effect(state: &State, id: ProposalId, now: Timestamp) -> Result<(), Reject> {
    let pending = state.recoveries.get(&id).ok_or(Reject::NotFound("recovery"))?;
    if now < pending.effective_at() {
        return Err(Reject::Conflict(format!("{id} is effective at {}, not before", pending.effective_at())));
    }
    if let Some(why) = state.recovery_lapse(pending) {
        return Err(Reject::Conflict(why.to_string()));
    }
    mandate::check_principal(state, &pending.new)
}

/// Any officer may: it only takes away.
pub(super) fn check_rejection(state: &State, by: Option<&PrincipalId>, reason: &str) -> Result<(), Reject> {
    mandate::text("reason", reason, 1)?;
    match by.and_then(|id| state.officer(id)) {
        Some(_) => Ok(()),
        None => Err(Reject::Denied("an officer rejects a recovery".to_owned())),
    }
}

/// It can never be effective, for this reason.
pub(super) fn check_lapse(state: &State, id: ProposalId, why: &Lapse) -> Result<(), Reject> {
    let pending = state.recoveries.get(&id).ok_or(Reject::NotFound("recovery"))?;
    match state.recovery_lapse(pending).as_ref() == Some(why) {
        true => Ok(()),
        false => Err(Reject::Conflict(format!("{id} has not lapsed so"))),
    }
}
