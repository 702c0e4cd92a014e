//! "Who by regime", cell by cell: what the table says is what is judged.

use crate::domain::bundle::Bundle;
use crate::domain::decision::{Access, Case, Legal, Operators, Who, judge};
use crate::domain::entity::{EntityClass, Organisation};
use crate::domain::id::LicenseId;
use crate::domain::person::{PersonStatus, Relation};
use crate::domain::policy::Place;
use crate::domain::tests::fixtures::*;
use crate::domain::time::Now;

/// Class, status (or WORKLOAD), relation, organisation, place, grant and licence, then a cell for each regime:
/// R0 Mythos, R0 Fable, R1 both, R2 Mythos, R2 Fable, R3 Mythos.
const TABLE: &[(&str, [&str; 6])] = &[
    (
        "PROVIDER US_PERSON EMPLOYEE US US grant",
        [
            "NC permit",
            "NC permit",
            "NLR deny P-SUSPEND_ALL",
            "NLR permit",
            "NLR deny P-SUSPEND_ALL",
            "NC permit",
        ],
    ),
    (
        "PROVIDER US_PERSON EMPLOYEE US ABROAD grant",
        ["NC permit", "NC permit", "LR deny", "LR deny", "LR deny", "NC deny P-PLACE_NOT_ALLOWED"],
    ),
    (
        "PROVIDER FOREIGN_PERSON EMPLOYEE US US grant",
        ["NC permit", "NC permit", "LR deny", "EX permit", "LR deny", "NC permit"],
    ),
    (
        "PROVIDER FOREIGN_PERSON EMPLOYEE US ABROAD grant",
        [
            "NC permit",
            "NC permit",
            "LR deny",
            "EX deny P-PLACE_NOT_ALLOWED",
            "LR deny",
            "NC deny P-PLACE_NOT_ALLOWED",
        ],
    ),
    (
        "PROVIDER FOREIGN_PERSON CONTRACTOR US US grant",
        ["NC permit", "NC permit", "LR deny", "LR deny", "LR deny", "NC deny P-NOT_EMPLOYEE"],
    ),
    (
        "ANNEX_A US_PERSON EMPLOYEE US US grant",
        [
            "NC permit",
            "NC permit",
            "NLR deny P-SUSPEND_ALL",
            "NLR permit",
            "NLR deny P-SUSPEND_ALL",
            "NC permit",
        ],
    ),
    (
        "ANNEX_A US_PERSON EMPLOYEE US ABROAD grant",
        [
            "NC permit",
            "NC permit",
            "LR deny",
            "EX deny P-PLACE_NOT_ALLOWED",
            "LR deny",
            "NC deny P-PLACE_NOT_ALLOWED",
        ],
    ),
    (
        "ANNEX_A FOREIGN_PERSON EMPLOYEE US US grant",
        ["NC permit", "NC permit", "LR deny", "EX permit", "LR deny", "NC permit"],
    ),
    (
        "ANNEX_A FOREIGN_PERSON EMPLOYEE US ABROAD grant",
        [
            "NC permit",
            "NC permit",
            "LR deny",
            "EX deny P-PLACE_NOT_ALLOWED",
            "LR deny",
            "NC deny P-PLACE_NOT_ALLOWED",
        ],
    ),
    (
        "ANNEX_A UNDETERMINED EMPLOYEE US US grant",
        [
            "NC permit",
            "NC permit",
            "IND deny",
            "EX deny P-STATUS_UNVERIFIED",
            "IND deny",
            "NC deny P-STATUS_UNVERIFIED",
        ],
    ),
    (
        "ANNEX_A US_PERSON CONTRACTOR US US grant",
        [
            "NC permit",
            "NC permit",
            "NLR deny P-SUSPEND_ALL",
            "NLR deny P-NOT_EMPLOYEE",
            "NLR deny P-SUSPEND_ALL",
            "NC deny P-NOT_EMPLOYEE",
        ],
    ),
    (
        "ANNEX_A FOREIGN_PERSON CONTRACTOR US US grant",
        ["NC permit", "NC permit", "LR deny", "LR deny", "LR deny", "NC deny P-NOT_EMPLOYEE"],
    ),
    (
        "ANNEX_A WORKLOAD EMPLOYEE US US grant",
        ["NC permit", "NC permit", "IND deny", "EX permit", "IND deny", "NC permit"],
    ),
    (
        "UNLISTED US_PERSON NONE US US",
        [
            "NC deny P-NO_GRANT",
            "NC permit",
            "NLR deny P-SUSPEND_ALL",
            "NLR deny P-NO_GRANT",
            "NLR deny P-SUSPEND_ALL",
            "NC deny P-NO_GRANT",
        ],
    ),
    (
        "UNLISTED FOREIGN_PERSON EMPLOYEE US US",
        ["NC deny P-NO_GRANT", "NC permit", "LR deny", "LR deny", "LR deny", "NC deny P-NO_GRANT"],
    ),
    (
        "UNLISTED US_PERSON EMPLOYEE FOREIGN US",
        ["NC deny P-NO_GRANT", "NC permit", "LR deny", "LR deny", "LR deny", "NC deny P-NO_GRANT"],
    ),
    (
        "UNLISTED FOREIGN_PERSON EMPLOYEE US US grant licence",
        [
            "NC permit",
            "NC permit",
            "LIC deny P-SUSPEND_ALL",
            "LIC permit",
            "LIC deny P-SUSPEND_ALL",
            "NC permit",
        ],
    ),
];

/// The columns: instant, models, and whether the rescission is activated.
const COLUMNS: [(&str, &[&str], bool); 6] = [
    (R0, &["mythos-5"], false),
    (R0, &["fable-5"], false),
    (R1, &["mythos-5", "fable-5"], false),
    (R2, &["mythos-5"], false),
    (R2, &["fable-5"], false),
    (R3, &["mythos-5"], true),
];

/// Judges a row for a model at an instant and spells the outcome as a cell: legal, access and policy rule.
fn cell(bundle: &Bundle, row: &str, name: &str, when: &str) -> (Legal, Access, Option<&'static str>) {
    let words: Vec<_> = row.split(' ').collect();
    let now = Now::exactly(at(when));
    let family = bundle.registry().resolve(name).unwrap();
    let license: Option<LicenseId> = words.contains(&"licence").then(|| "d123456".parse().unwrap());
    let granted = words.contains(&"grant").then(|| grant(1, name));
    let class: EntityClass = words[0].parse().unwrap();
    let relation: Relation = words[2].parse().unwrap();
    let lifted = bundle.regime(family, now).lifted_by.is_some();
    let who = match words[1] {
        "WORKLOAD" if lifted => Who::Workload(Operators::Eligible),
        "WORKLOAD" => Who::Workload(Operators::Unknown),
        status => human(status.parse::<PersonStatus>().unwrap(), relation),
    };
    let org: Organisation = words[3].parse().unwrap();
    let place = if words[4] == "US" { Place::Us } else { Place::Unknown };
    let unused = grant(2, name);
    let base = case(family, &unused);
    let license = license.as_ref();
    let decision =
        judge(bundle, &Case { class, who, org, place, license, grant: granted.as_ref(), ..base }, now);
    (decision.legal, decision.access, decision.policy.map(|rule| rule.as_str()))
}

fn expected(cell: &str) -> (Legal, Access, Option<&str>) {
    let mut words = cell.split(' ');
    let legal = match words.next().unwrap() {
        "NC" => Legal::NotControlled,
        "NLR" => Legal::NlrDomestic,
        "EX" => Legal::Exempt,
        "LIC" => Legal::Licensed,
        "LR" => Legal::LicenseRequired,
        "IND" => Legal::Indeterminate,
        other => panic!("{other} is no legal outcome"),
    };
    let access = if words.next() == Some("permit") { Access::Permit } else { Access::Deny };
    (legal, access, words.next())
}

#[test]
fn every_cell_of_the_table_is_judged_as_it_stands() {
    let bundles = [sample(), Bundle::new(rescinded_parts()).unwrap()];
    let mut cells = 0;
    for (row, outcomes) in TABLE {
        for ((when, models, rescinded), outcome) in COLUMNS.iter().zip(outcomes) {
            for name in *models {
                let (legal, access, policy) = expected(outcome);
                let judged = cell(&bundles[usize::from(*rescinded)], row, name, when);
                assert_eq!((judged.0, judged.1), (legal, access), "{row}, {name} at {when}");
                // Where the law denies, the table leaves the policy rule out.
                if legal.allows() {
                    assert_eq!(judged.2, policy, "{row}, {name} at {when}");
                }
                cells += 1;
            }
        }
    }
    assert_eq!(cells, 17 * 7);
}

#[test]
fn after_the_rescission_fable_is_open_to_everybody() {
    let bundle = Bundle::new(rescinded_parts()).unwrap();
    for (row, _) in TABLE {
        let judged = cell(&bundle, row, "fable-5", R3);
        assert_eq!(judged, (Legal::NotControlled, Access::Permit, None), "{row}");
    }
}

#[test]
fn under_the_imposition_both_models_are_judged_alike() {
    let bundle = sample();
    for (row, _) in TABLE {
        assert_eq!(cell(&bundle, row, "fable-5", R1), cell(&bundle, row, "mythos-5", R1), "{row}");
    }
}

#[test]
fn a_model_that_no_determination_names_is_open_in_every_regime() {
    let bundle = sample();
    for when in [R0, R1, R2, R3] {
        for (row, _) in TABLE {
            let judged = cell(&bundle, row, "sonata-4", when);
            assert_eq!(judged, (Legal::NotControlled, Access::Permit, None), "{row} at {when}");
        }
    }
}
