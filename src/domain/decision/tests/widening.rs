//! Nothing widens by accident: taking away something that a decision rests on never turns a denial into a permit. Where
//! it can, through the licence row, the pairs are listed and nothing else may join them.

use std::collections::BTreeSet;

use crate::domain::bundle::Bundle;
use crate::domain::decision::{Case, Decision, Operator, Operators, Rule, ScreeningState, Who, judge};
use crate::domain::entity::{EntityClass, Organisation};
use crate::domain::grant::Grant;
use crate::domain::id::{LicenseId, ModelId};
use crate::domain::model::AccessForm;
use crate::domain::person::{Assurance, PersonStatus, Relation};
use crate::domain::policy::Place;
use crate::domain::tests::fixtures::*;
use crate::domain::time::Now;

/// Takes something away; none where there is nothing to take.
type Removal = for<'a> fn(Case<'a>) -> Option<Case<'a>>;

const fn operator(status: PersonStatus, relation: Relation, in_good_standing: bool) -> Operator {
    Operator { status, relation, in_good_standing }
}

const GOOD: Operator = operator(PersonStatus::ForeignPerson, Relation::Employee, true);
const US_CONTRACTOR: Operator = operator(PersonStatus::UsPerson, Relation::Contractor, true);
const US_EMPLOYEE: Operator = operator(PersonStatus::UsPerson, Relation::Employee, true);
const UNKNOWN_STATUS: Operator = operator(PersonStatus::Undetermined, Relation::Employee, true);

/// Lists of operators to vary, each with what is left when nobody on it is in good standing any more. An empty list is
/// never `Listed` in a decision.
static OPERATORS: [[&[Operator]; 2]; 5] = [
    [&[GOOD], &[operator(PersonStatus::ForeignPerson, Relation::Employee, false)]],
    [&[US_EMPLOYEE], &[operator(PersonStatus::UsPerson, Relation::Employee, false)]],
    [
        &[GOOD, US_CONTRACTOR],
        &[
            operator(PersonStatus::ForeignPerson, Relation::Employee, false),
            operator(PersonStatus::UsPerson, Relation::Contractor, false),
        ],
    ],
    [&[US_CONTRACTOR], &[operator(PersonStatus::UsPerson, Relation::Contractor, false)]],
    [&[UNKNOWN_STATUS], &[operator(PersonStatus::Undetermined, Relation::Employee, false)]],
];

/// What never widens.
const NEVER: [(&str, Removal); 11] = [
    ("grant", |case| case.grant.is_some().then_some(Case { grant: None, ..case })),
    ("licence", |case| case.license.is_some().then_some(Case { license: None, ..case })),
    ("status", |case| match case.who {
        Who::Human { status, relation, assurance } if status != PersonStatus::Undetermined => {
            Some(Case { who: Who::Human { status: PersonStatus::Undetermined, relation, assurance }, ..case })
        }
        Who::Human { .. } | Who::Workload(_) => None,
    }),
    ("assurance", |case| match case.who {
        Who::Human { status, relation, assurance: Some(_) } => {
            Some(Case { who: Who::Human { status, relation, assurance: None }, ..case })
        }
        Who::Human { .. } | Who::Workload(_) => None,
    }),
    ("clearance", |case| less_clear(case, ScreeningState::Pending)),
    ("freshness of the clearance", |case| less_clear(case, ScreeningState::Stale)),
    ("provisioning", |mut case| std::mem::replace(&mut case.standing.provisioned, false).then_some(case)),
    ("safeguards in time", |mut case| {
        (!std::mem::replace(&mut case.standing.safeguard_lapsed, true)).then_some(case)
    }),
    ("re-verification in time", |mut case| {
        (!std::mem::replace(&mut case.standing.reverify_overdue, true)).then_some(case)
    }),
    ("operator list", |case| match case.who {
        Who::Workload(Operators::Listed(_) | Operators::Eligible | Operators::EligibleByIssuance) => {
            Some(Case { who: Who::Workload(Operators::Unknown), ..case })
        }
        Who::Workload(Operators::Unknown) | Who::Human { .. } => None,
    }),
    ("good standing of the operators", |case| match case.who {
        Who::Workload(Operators::Listed(list)) => {
            let [_, lapsed] = OPERATORS.iter().find(|[good, _]| *good == list)?;
            Some(Case { who: Who::Workload(Operators::Listed(lapsed)), ..case })
        }
        Who::Workload(_) | Who::Human { .. } => None,
    }),
];

fn less_clear(case: Case<'_>, screening: ScreeningState) -> Option<Case<'_>> {
    (case.screening < screening).then_some(Case { screening, ..case })
}

/// What can widen: under the licence row neither relation nor place is policy's to ask.
const CAN: [(&str, Removal); 4] = [
    ("membership", |case| {
        (case.class == EntityClass::AnnexA).then_some(Case { class: EntityClass::Unlisted, ..case })
    }),
    ("relation", |case| match case.who {
        Who::Human { status, relation: Relation::Employee, assurance } => {
            Some(Case { who: Who::Human { status, relation: Relation::None, assurance }, ..case })
        }
        Who::Human { .. } | Who::Workload(_) => None,
    }),
    ("organisation", |case| {
        (case.org == Organisation::Us).then_some(Case { org: Organisation::Foreign, ..case })
    }),
    ("place", |case| case.place.is_us().then_some(Case { place: Place::Unknown, ..case })),
];

/// The pairs: what is taken away, the row and rule that denied, the row that permits then. Law's rows as in domain
/// section 2.6; all of them end at the licence.
const PAIRS: [(&str, &str, &str, &str); 9] = [
    ("membership", "L-21", "P-PLACE_NOT_ALLOWED", "L-40"),
    ("membership", "L-23", "P-PLACE_NOT_ALLOWED", "L-40"),
    ("membership", "L-24", "P-PLACE_NOT_ALLOWED", "L-40"),
    // A workload whose operators are not eligible, so that a licence is all it has.
    ("membership", "L-40", "P-PLACE_NOT_ALLOWED", "L-40"),
    ("relation", "L-20", "P-PLACE_NOT_ALLOWED", "L-40"),
    ("relation", "L-21", "P-PLACE_NOT_ALLOWED", "L-40"),
    ("relation", "L-23", "P-PLACE_NOT_ALLOWED", "L-40"),
    ("organisation", "L-10", "P-NOT_EMPLOYEE", "L-40"),
    ("place", "L-10", "P-NOT_EMPLOYEE", "L-40"),
];

fn row(decision: &Decision) -> &'static str {
    match decision.rule {
        Rule::Row(row) => row,
        Rule::Gate(gate) => gate.as_str(),
    }
}

/// Everybody who may ask.
fn everybody() -> Vec<Who<'static>> {
    let statuses = PersonStatus::ALL.iter();
    let humans = statuses.flat_map(|status| {
        Relation::ALL.iter().flat_map(|relation| {
            [None, Some(Assurance::Ial1), Some(Assurance::Ial2)].map(|assurance| Who::Human {
                status: *status,
                relation: *relation,
                assurance,
            })
        })
    });
    let workloads = [Operators::Unknown, Operators::Eligible, Operators::EligibleByIssuance]
        .into_iter()
        .chain(OPERATORS.iter().map(|[list, _]| Operators::Listed(list)));
    humans.chain(workloads.map(Who::Workload)).collect()
}

/// Judges every case that the columns span, and hands each with its decision to `visit`.
fn every_case(bundle: &Bundle, when: &str, name: &str, mut visit: impl FnMut(Case<'_>, &Decision)) {
    let family: &[ModelId] = bundle.registry().resolve(name).unwrap();
    let now = Now::exactly(at(when));
    let license: LicenseId = "d123456".parse().unwrap();
    let plain = grant(1, name);
    let wide = Grant { forms: vec![AccessForm::Weights], countries: vec![country("FR")], ..grant(2, name) };
    let base = case(family, &plain);
    let grants = [None, Some(&plain), Some(&wide)];
    let places = [Place::Us, place("FR"), Place::Unknown];
    for who in everybody() {
        for class in EntityClass::ALL.iter().copied() {
            for org in Organisation::ALL.iter().copied() {
                for place in places {
                    for license in [None, Some(&license)] {
                        for grant in grants {
                            for form in [AccessForm::Inference, AccessForm::Weights] {
                                let case = Case { who, class, org, place, license, grant, form, ..base };
                                visit(case, &judge(bundle, &case, now));
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The shipped bundle at each of its regimes, after the rescission, and with the looser reading of question Q11.
fn worlds() -> Vec<(Bundle, Vec<&'static str>)> {
    let mut loose = sample_parts();
    loose.posture.remote_access_is_release = false;
    vec![
        (sample(), vec![R0, "2026-06-12T22:00:00Z", R1, R2]),
        (Bundle::new(rescinded_parts()).unwrap(), vec![R3]),
        (Bundle::new(loose).unwrap(), vec![R1, R2]),
    ]
}

/// Takes something away from every denied case: every pair of decisions in which that permits.
fn widened(removals: &[(&'static str, Removal)]) -> (usize, BTreeSet<(&'static str, String, String)>) {
    let (mut asked, mut found) = (0, BTreeSet::new());
    for (bundle, instants) in worlds() {
        for when in instants {
            for name in ["mythos-5", "fable-5", "sonata-4"] {
                let now = Now::exactly(at(when));
                every_case(&bundle, when, name, |case, before| {
                    if before.is_permit() {
                        return;
                    }
                    for (what, remove) in removals {
                        let Some(less) = remove(case) else { continue };
                        let after = judge(&bundle, &less, now);
                        asked += 1;
                        if after.is_permit() {
                            let policy = before.policy.map_or("", |rule| rule.as_str());
                            let before = format!("{} {policy}", row(before));
                            found.insert((*what, before, row(&after).to_owned()));
                        }
                    }
                });
            }
        }
    }
    (asked, found)
}

#[test]
fn what_is_taken_away_never_turns_a_denial_into_a_permit() {
    let (asked, found) = widened(&NEVER);
    assert_eq!(found, BTreeSet::new());
    assert!(asked > 100_000, "{asked} removals were asked");
}

#[test]
fn membership_relation_organisation_and_place_widen_only_through_the_licence_row() {
    let (_, found) = widened(&CAN);
    let listed: BTreeSet<_> = PAIRS
        .iter()
        .map(|(what, row, rule, then)| (*what, format!("{row} {rule}"), (*then).to_owned()))
        .collect();
    assert_eq!(found, listed);
    assert!(PAIRS.iter().all(|(.., then)| *then == "L-40"));
}
