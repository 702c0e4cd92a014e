//! Commands about the bundle: two officers adopt one, one alone imposes.

use super::mandate::text;
use super::reject::Reject;
use crate::domain::bundle::{Bundle, BundleParts};
use crate::domain::determination::{Determination, DeterminationState};
use crate::domain::id::ModelId;
use crate::domain::revocation::StopScope;
use crate::domain::state::State;

/// The most citations of one determination: the sample's have up to four.
const LEGAL_BASIS_MAX: usize = 32;

pub(super) fn check(state: &State, parts: &BundleParts) -> Result<(), Reject> {
    let invalid = |why: String| Reject::Invalid { field: "policy", why };
    let bundle = Bundle::new(parts.clone()).map_err(|e| invalid(e.to_string()))?;
    if let Some(inconsistency) = bundle.inconsistencies().first() {
        return Err(invalid(inconsistency.to_string()));
    }
    let is_registered = |id: &ModelId| parts.models.iter().any(|model| model.id == *id);
    let lost = state.enforcement.stops.iter().find_map(|scope| match scope {
        StopScope::Model(id) if !is_registered(id) => Some(id),
        _ => None,
    });
    match lost {
        Some(id) => Err(Reject::Conflict(format!("{id} is stopped, and this policy does not register it"))),
        None => Ok(()),
    }
}

/// One officer imposes what only takes away: a requirement under a name of its own. Nothing that is in force names it, so no
/// lift reaches it and no rule ends with it.
pub(super) fn check_imposition(state: &State, new: &Determination) -> Result<(), Reject> {
    let invalid = |field, why: &str| Err(Reject::Invalid { field, why: why.to_owned() });
    if state.bundle().determination(&new.id).is_some() {
        return Err(Reject::Exists("determination"));
    }
    if !new.imposes() || new.state != DeterminationState::Countersigned || !new.amends.is_empty() {
        return invalid(
            "determination",
            "one officer imposes; what lifts, ends or changes is adopted by two",
        );
    }
    if new.instants.approved_at.is_some() {
        return invalid("approved_at", "nobody approved it; it holds from what was stated or received");
    }
    if new.legal_basis.is_empty() || new.legal_basis.len() > LEGAL_BASIS_MAX {
        return invalid("legal_basis", "1 to 32 citations are needed");
    }
    new.legal_basis.iter().try_for_each(|basis| text("legal_basis", basis, 1))?;
    let bundle = state.bundle().with(new);
    let bundle = bundle.map_err(|e| Reject::Invalid { field: "determination", why: e.to_string() })?;
    match bundle.senseless(new) {
        Some((key, why)) => Err(Reject::Invalid { field: key, why }),
        None => Ok(()),
    }
}
