//! Gates G1 to G8: what must hold before the legal rows are worth asking. All failing ones are recorded, in order.

use super::case::{Case, ChainFacts, ScreeningState, StateFault};
use super::outcome::Denial;
use crate::domain::bundle::Bundle;
use crate::domain::model::AccessForm;
use crate::domain::policy::Place;

/// Every gate that fails, in order. Allocates nothing when none does.
pub(super) fn failing(bundle: &Bundle, case: &Case<'_>) -> Vec<Denial> {
    let mut denials = Vec::new();
    denials.extend(case.state.map(|fault| match fault {
        StateFault::Unavailable => Denial::StateUnavailable,
        StateFault::ClockUntrusted => Denial::ClockUntrusted,
        StateFault::StaleView => Denial::StaleView,
    }));
    denials.extend(case.credential.map(Denial::from));
    denials.extend(case.stopped.then_some(Denial::EmergencyStop));
    denials.extend(case.family.is_none().then_some(Denial::ModelUnknown));
    denials.extend(match case.screening {
        ScreeningState::Clear => None,
        ScreeningState::Stale => Some(Denial::ScreeningStale),
        ScreeningState::Pending => Some(Denial::ScreeningPending),
        ScreeningState::Denied => Some(Denial::PartyDenied),
    });
    denials.extend(is_embargoed(bundle, case).then_some(Denial::Embargo));
    denials.extend(case.mi_flag.then_some(Denial::MiEndUser));
    denials.extend((case.chain == ChainFacts::Unidentified).then_some(Denial::EndUserUnidentified));
    denials.extend(is_form_ungranted(case).then_some(Denial::AccessForm));
    denials
}

fn is_embargoed(bundle: &Bundle, case: &Case<'_>) -> bool {
    let embargoed = &bundle.parts().posture.embargoed;
    let place = match case.place {
        Place::Country(country) => Some(country),
        Place::Us | Place::Unknown => None,
    };
    [place, case.seat].into_iter().flatten().any(|country| embargoed.contains(&country))
}

/// Weights and internals need a grant that names them, whatever the model and the regime.
fn is_form_ungranted(case: &Case<'_>) -> bool {
    case.form != AccessForm::Inference && !case.grant.is_some_and(|grant| grant.allows_form(case.form))
}
