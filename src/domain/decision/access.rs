//! Provider policy: the first failing rule is reported, also when the law already denies (domain section 2.7).

use super::case::{Case, Who};
use super::outcome::Legal;
use crate::domain::bundle::Bundle;
use crate::domain::entity::EntityClass;
use crate::domain::id::ModelId;
use crate::domain::person::{PersonStatus, Relation};
use crate::domain::policy::PolicyRule;
use crate::domain::time::Now;

/// What policy says of a case.
pub(super) struct Verdict {
    /// The first failing rule.
    pub(super) rule: Option<PolicyRule>,
    /// A rule in force asks for a grant of this model.
    pub(super) grant_needed: bool,
}

/// Judges a case by the rules in force.
pub(super) fn first_failing(
    bundle: &Bundle,
    family: &[ModelId],
    case: &Case<'_>,
    legal: Legal,
    now: Now,
) -> Verdict {
    let mut verdict = Verdict { rule: None, grant_needed: false };
    for rule in bundle.rules(family, now) {
        verdict.grant_needed |= rule == PolicyRule::NoGrant;
        if fails(rule, bundle, case, legal) {
            verdict.rule = Some(verdict.rule.map_or(rule, |first| first.min(rule)));
        }
    }
    verdict
}

fn fails(rule: PolicyRule, bundle: &Bundle, case: &Case<'_>, legal: Legal) -> bool {
    // A licence itself names person and place.
    let licensed = legal == Legal::Licensed;
    match rule {
        PolicyRule::SuspendAll => true,
        PolicyRule::NoGrant => case.grant.is_none(),
        PolicyRule::NotProvisioned => !case.standing.provisioned,
        PolicyRule::Suspended => case.standing.suspended,
        PolicyRule::AccessForm => !case.grant.is_some_and(|grant| grant.allows_form(case.form)),
        PolicyRule::StatusUnverified => {
            matches!(case.who, Who::Human { status: PersonStatus::Undetermined, .. })
        }
        PolicyRule::NotEmployee => match case.who {
            Who::Human { relation, .. } => !licensed && relation != Relation::Employee,
            Who::Workload(_) => false,
        },
        PolicyRule::PlaceNotAllowed => {
            let is_named = licensed && is_place_named(case);
            let is_granted = case.grant.is_some_and(|grant| grant.allows_place(case.place));
            !(is_named || case.place.is_us() || is_granted)
        }
        PolicyRule::AssuranceTooLow => match case.who {
            Who::Human { assurance, .. } => {
                assurance.is_none_or(|level| level < bundle.parts().posture.assurance_min)
            }
            Who::Workload(_) => false,
        },
        PolicyRule::ReverifyOverdue => case.standing.reverify_overdue,
        PolicyRule::Purpose => !case.grant.is_some_and(|grant| grant.allows_purpose(case.purpose)),
        PolicyRule::SafeguardLapsed => case.standing.safeguard_lapsed,
        PolicyRule::Quota => case.standing.quota_exhausted,
    }
}

/// Does a licence of the entity say where this subject may be? Not for a workload of a listed entity: with operators
/// whom the record knows to be eligible it is exempt, and policy asks for the place. To lose them must not open one.
fn is_place_named(case: &Case<'_>) -> bool {
    match case.who {
        Who::Human { .. } => true,
        Who::Workload(_) => case.class != EntityClass::AnnexA,
    }
}
