//! The legal rows: each one's outcome, reason and clause, the order in which they are asked, and the worst operator.

use std::sync::LazyLock;

use crate::domain::bundle::Bundle;
use crate::domain::decision::{
    Case, Decision, Legal, LegalReason, Operator, Operators, Rule, TransactionKind, Who, judge, kinds,
};
use crate::domain::entity::{EntityClass, Organisation};
use crate::domain::grant::Grant;
use crate::domain::id::{EntityId, LicenseId, PurposeId, SubjectId};
use crate::domain::license::License;
use crate::domain::model::AccessForm;
use crate::domain::person::{PersonStatus, Relation};
use crate::domain::policy::Place;
use crate::domain::tests::fixtures::*;
use crate::domain::time::{Interval, Now};

const US: Who<'static> = human(PersonStatus::UsPerson, Relation::Employee);
const FOREIGN: Who<'static> = human(PersonStatus::ForeignPerson, Relation::Employee);
const UNDETERMINED: Who<'static> = human(PersonStatus::Undetermined, Relation::Employee);
const FOREIGN_CONTRACTOR: Who<'static> = human(PersonStatus::ForeignPerson, Relation::Contractor);
const US_CONTRACTOR: Who<'static> = human(PersonStatus::UsPerson, Relation::Contractor);

fn judge_in<'a>(bundle: &'a Bundle, name: &str, when: &str, change: impl FnOnce(&mut Case<'a>)) -> Decision {
    static GRANT: LazyLock<Grant> = LazyLock::new(|| grant(1, "mythos-5"));
    let family = bundle.registry().resolve(name).unwrap();
    let mut case = case(family, &GRANT);
    change(&mut case);
    judge(bundle, &case, Now::exactly(at(when)))
}

/// A row: its name, the regime's instant and model, what leads to it, and its outcome, reason and clause.
type Row = (&'static str, &'static str, &'static str, fn(&mut Case<'_>), Legal, LegalReason, &'static str);

const ROWS: &[Row] = &[
    ("L-01", R0, "mythos-5", |_| {}, Legal::NotControlled, LegalReason::NoRequirementInForce, "none"),
    ("L-01", R2, "sonata-4", |_| {}, Legal::NotControlled, LegalReason::NoRequirementInForce, "none"),
    (
        "L-20",
        R2,
        "mythos-5",
        |c| c.class = EntityClass::Provider,
        Legal::Exempt,
        LegalReason::ExemptProviderFnEmployee,
        "third limb",
    ),
    (
        "L-24",
        R2,
        "mythos-5",
        |c| c.who = Who::Workload(Operators::Eligible),
        Legal::Exempt,
        LegalReason::ExemptAnnexAWorkload,
        "first limb",
    ),
    ("L-21", R2, "mythos-5", |_| {}, Legal::Exempt, LegalReason::ExemptAnnexAFnEmployee, "second limb"),
    (
        "L-21",
        R2,
        "mythos-5",
        |c| c.who = UNDETERMINED,
        Legal::Exempt,
        LegalReason::ExemptEitherStatus,
        "second limb",
    ),
    ("L-22", R2, "mythos-5", |c| c.who = US, Legal::NlrDomestic, LegalReason::NotAnExport, "15 CFR 734.13"),
    (
        "L-23",
        R2,
        "mythos-5",
        |c| (c.who, c.place) = (US, place("FR")),
        Legal::Exempt,
        LegalReason::ExemptAnnexAEntity,
        "first limb",
    ),
    (
        "L-23",
        R2,
        "mythos-5",
        |c| (c.who, c.org) = (US, Organisation::Foreign),
        Legal::Exempt,
        LegalReason::ExemptAnnexAEntity,
        "first limb",
    ),
    (
        "L-23",
        R2,
        "mythos-5",
        |c| (c.who, c.serving) = (US, place("IE")),
        Legal::Exempt,
        LegalReason::ExemptAnnexAEntity,
        "first limb",
    ),
    ("L-10", R1, "mythos-5", |c| c.who = US, Legal::NlrDomestic, LegalReason::NotAnExport, "15 CFR 734.13"),
    (
        "L-10",
        R2,
        "mythos-5",
        |c| c.who = US_CONTRACTOR,
        Legal::NlrDomestic,
        LegalReason::NotAnExport,
        "15 CFR 734.13",
    ),
    (
        "L-16",
        R1,
        "mythos-5",
        |c| c.who = UNDETERMINED,
        Legal::Indeterminate,
        LegalReason::StatusUndetermined,
        "fail closed",
    ),
    (
        "L-16",
        R2,
        "mythos-5",
        |c| (c.who, c.class) = (UNDETERMINED, EntityClass::Provider),
        Legal::Indeterminate,
        LegalReason::StatusUndetermined,
        "fail closed",
    ),
    (
        "L-17",
        R1,
        "mythos-5",
        |c| c.who = Who::Workload(Operators::Unknown),
        Legal::Indeterminate,
        LegalReason::WorkloadOperatorsUnknown,
        "fail closed",
    ),
    (
        "L-11",
        R1,
        "mythos-5",
        |_| {},
        Legal::LicenseRequired,
        LegalReason::DeemedExportLicenseRequired,
        "15 CFR 734.13(a)(2)",
    ),
    (
        "L-11",
        R2,
        "mythos-5",
        |c| c.who = FOREIGN_CONTRACTOR,
        Legal::LicenseRequired,
        LegalReason::DeemedExportLicenseRequired,
        "15 CFR 734.13(a)(2)",
    ),
    (
        "L-11",
        R2,
        "fable-5",
        |_| {},
        Legal::LicenseRequired,
        LegalReason::DeemedExportLicenseRequired,
        "15 CFR 734.13(a)(2)",
    ),
    (
        "L-12",
        R1,
        "mythos-5",
        |c| c.place = place(""),
        Legal::LicenseRequired,
        LegalReason::ExportLicenseRequired,
        "15 CFR 734.13(a)(1), 734.14",
    ),
    (
        "L-13",
        R2,
        "mythos-5",
        |c| (c.who, c.class, c.place) = (US, EntityClass::Provider, place("GB")),
        Legal::LicenseRequired,
        LegalReason::ExportDestinationLicenseRequired,
        "15 CFR 734.13(a)(1)",
    ),
    (
        "L-14",
        R2,
        "mythos-5",
        |c| (c.who, c.class, c.org) = (US, EntityClass::Unlisted, Organisation::Foreign),
        Legal::LicenseRequired,
        LegalReason::ForeignEntityLicenseRequired,
        "15 CFR 772.1",
    ),
    (
        "L-14",
        R1,
        "mythos-5",
        |c| (c.who, c.org) = (US, Organisation::Foreign),
        Legal::LicenseRequired,
        LegalReason::ForeignEntityLicenseRequired,
        "15 CFR 772.1",
    ),
    (
        "L-15",
        R1,
        "mythos-5",
        |c| (c.who, c.serving) = (US, place("IE")),
        Legal::LicenseRequired,
        LegalReason::ExportDestinationLicenseRequired,
        "15 CFR 734.13(a)(1)",
    ),
];

#[test]
fn each_row_gives_its_outcome_reason_and_clause() {
    let bundle = sample();
    for (row, when, name, change, legal, reason, clause) in ROWS {
        let decision = judge_in(&bundle, name, when, change);
        assert_eq!(
            (decision.rule, decision.legal, decision.reason, decision.clause),
            (Rule::Row(row), *legal, *reason, *clause),
            "{row} at {when}"
        );
        assert_eq!(decision.denials, []);
    }
}

#[test]
fn an_exemption_cites_the_lift_and_a_requirement_the_imposition() {
    let bundle = sample();
    let cited = |when, who| judge_in(&bundle, "mythos-5", when, |c| c.who = who).determination;
    assert_eq!(cited(R2, FOREIGN), Some(determination(LIFT)));
    assert_eq!(cited(R2, FOREIGN_CONTRACTOR), Some(determination(IMPOSITION)));
    assert_eq!(cited(R1, FOREIGN), Some(determination(IMPOSITION)));
    assert_eq!(cited(R0, FOREIGN), None);
    let rescinded = Bundle::new(rescinded_parts()).unwrap();
    let after = judge_in(&rescinded, "mythos-5", R3, |_| {});
    assert_eq!((after.legal, after.determination), (Legal::NotControlled, Some(determination(RESCISSION))));
}

#[test]
fn a_licence_makes_licensed_what_no_earlier_row_answers() {
    let number: LicenseId = "d123456".parse().unwrap();
    let bundle = sample();
    let with = |when, who, class| {
        let decision = judge_in(&bundle, "mythos-5", when, |c| {
            (c.who, c.class, c.license, c.place) = (who, class, Some(&number), place("GB"));
        });
        (decision.legal, decision.rule, decision.license)
    };
    let licensed = (Legal::Licensed, Rule::Row("L-40"), Some(number.clone()));
    assert_eq!(with(R1, FOREIGN, EntityClass::AnnexA), licensed);
    assert_eq!(with(R2, FOREIGN_CONTRACTOR, EntityClass::AnnexA), licensed);
    assert_eq!(with(R2, US, EntityClass::Provider), licensed);
    assert_eq!(with(R2, Who::Workload(Operators::Unknown), EntityClass::Unlisted), licensed);
    // Exempt comes first, an unknown status before the licence, and nothing is licensed that is not controlled.
    assert_eq!(with(R2, FOREIGN, EntityClass::AnnexA), (Legal::Exempt, Rule::Row("L-21"), None));
    assert_eq!(with(R2, UNDETERMINED, EntityClass::Provider).0, Legal::Indeterminate);
    assert_eq!(with(R0, FOREIGN, EntityClass::AnnexA), (Legal::NotControlled, Rule::Row("L-01"), None));
}

#[test]
fn a_licence_covers_only_what_it_names() {
    let family = [model("mythos-5-defender"), model("mythos-5")];
    let (subject, other) = (SubjectId::from_bytes([1; 16]), SubjectId::from_bytes([2; 16]));
    let purpose: PurposeId = "cyber-defense".parse().unwrap();
    let license = License {
        id: "d123456".parse().unwrap(),
        holder: EntityId::from_bytes([1; 16]),
        subjects: vec![subject],
        models: vec![model("mythos-5")],
        countries: vec![country("GB")],
        purposes: vec![purpose.clone()],
        interval: Interval { from: at(R1), until: Some(at(R2)) },
        provisos_met: true,
        reports: None,
    };
    let now = |text: &str| Now::exactly(at(text));
    let covers = |license: &License, place, purpose, when: &str| {
        license.covers(subject, &family, place, purpose, now(when))
    };
    let purpose = Some(&purpose);
    assert!(covers(&license, Place::Us, purpose, R1));
    assert!(covers(&license, place("GB"), purpose, R1));
    assert!(!covers(&license, place("FR"), purpose, R1), "another destination");
    assert!(!covers(&license, Place::Unknown, purpose, R1), "an unknown destination");
    assert!(!covers(&license, Place::Us, None, R1), "no purpose");
    assert!(!covers(&license, Place::Us, purpose, R0), "before it");
    assert!(!covers(&license, Place::Us, purpose, R2), "its end is outside");
    assert!(!license.covers(other, &family, Place::Us, purpose, now(R1)), "another person");
    assert!(!license.covers(subject, &[model("fable-5")], Place::Us, purpose, now(R1)), "another model");
    let unmet = License { provisos_met: false, ..license.clone() };
    assert!(!covers(&unmet, Place::Us, purpose, R1), "provisos not met");
    let everybody = License { subjects: Vec::new(), purposes: Vec::new(), ..license };
    assert!(everybody.covers(other, &family, Place::Us, None, now(R1)));
}

fn operator(status: PersonStatus, relation: Relation) -> Operator {
    Operator { status, relation, in_good_standing: true }
}

fn by_operators(operators: &[Operator], class: EntityClass, when: &str) -> (Legal, Rule) {
    let bundle = sample();
    let decision = judge_in(&bundle, "mythos-5", when, |c| {
        (c.who, c.class) = (Who::Workload(Operators::Listed(operators)), class);
    });
    (decision.legal, decision.rule)
}

#[test]
fn a_workload_is_judged_by_its_worst_operator() {
    let foreign = operator(PersonStatus::ForeignPerson, Relation::Employee);
    let us_contractor = operator(PersonStatus::UsPerson, Relation::Contractor);
    let foreign_contractor = operator(PersonStatus::ForeignPerson, Relation::Contractor);
    let unknown = operator(PersonStatus::Undetermined, Relation::Contractor);
    let of = |operators: &[Operator]| by_operators(operators, EntityClass::AnnexA, R2);
    assert_eq!(of(&[foreign, us_contractor]), (Legal::Exempt, Rule::Row("L-21")));
    assert_eq!(of(&[us_contractor]), (Legal::NlrDomestic, Rule::Row("L-10")));
    assert_eq!(
        of(&[foreign, foreign_contractor, us_contractor]),
        (Legal::LicenseRequired, Rule::Row("L-11"))
    );
    assert_eq!(of(&[foreign_contractor, unknown]), (Legal::Indeterminate, Rule::Row("L-16")));
    assert_eq!(of(&[]), (Legal::Indeterminate, Rule::Row("L-17")));
}

#[test]
fn operators_who_are_all_eligible_are_judged_like_any_other_known_ones() {
    let foreign = [operator(PersonStatus::ForeignPerson, Relation::Employee)];
    let us = [operator(PersonStatus::UsPerson, Relation::Employee)];
    let of = by_operators;
    assert_eq!(of(&foreign, EntityClass::AnnexA, R2), (Legal::Exempt, Rule::Row("L-24")));
    assert_eq!(of(&foreign, EntityClass::Provider, R2), (Legal::Exempt, Rule::Row("L-20")));
    assert_eq!(of(&foreign, EntityClass::Unlisted, R2), (Legal::LicenseRequired, Rule::Row("L-11")));
    assert_eq!(of(&us, EntityClass::Unlisted, R2), (Legal::NlrDomestic, Rule::Row("L-10")));
    assert_eq!(of(&foreign, EntityClass::AnnexA, R1), (Legal::LicenseRequired, Rule::Row("L-11")));
}

#[test]
fn an_operator_who_is_not_in_good_standing_has_no_relation() {
    let gone =
        Operator { in_good_standing: false, ..operator(PersonStatus::ForeignPerson, Relation::Employee) };
    assert!(!gone.is_eligible());
    assert_eq!(by_operators(&[gone], EntityClass::AnnexA, R2).1, Rule::Row("L-11"));
}

#[test]
fn only_an_employee_with_a_known_status_is_an_eligible_operator() {
    for status in PersonStatus::ALL {
        for relation in Relation::ALL {
            let eligible = *relation == Relation::Employee && *status != PersonStatus::Undetermined;
            assert_eq!(operator(*status, *relation).is_eligible(), eligible, "{status} {relation}");
        }
    }
}

#[test]
fn at_a_gateway_a_workload_that_no_row_exempts_is_for_the_server() {
    let bundle = sample();
    let of = |class, when| {
        judge_in(&bundle, "mythos-5", when, |c| {
            (c.who, c.class) = (Who::Workload(Operators::EligibleByIssuance), class);
        })
    };
    let member = of(EntityClass::AnnexA, R2);
    assert_eq!((member.rule, member.ask_server), (Rule::Row("L-24"), false));
    for (class, when) in [(EntityClass::AnnexA, R1), (EntityClass::Provider, R2), (EntityClass::Unlisted, R2)]
    {
        let decision = of(class, when);
        assert_eq!((decision.rule, decision.ask_server), (Rule::Row("L-17"), true));
        assert!(!decision.is_permit());
    }
}

#[test]
fn if_remote_access_is_no_release_inference_in_the_us_is_not_controlled() {
    let mut parts = sample_parts();
    parts.posture.remote_access_is_release = false;
    let lax = Bundle::new(parts).unwrap();
    let of = |bundle: &Bundle, form, who, place| {
        let decision = judge_in(bundle, "mythos-5", R1, |c| (c.form, c.who, c.place) = (form, who, place));
        (decision.legal, decision.rule, decision.reason)
    };
    let inference = AccessForm::Inference;
    let not_a_release = (Legal::NotControlled, Rule::Row("L-02"), LegalReason::RemoteAccessNotARelease);
    assert_eq!(of(&lax, inference, FOREIGN, Place::Us), not_a_release);
    let required = (Legal::LicenseRequired, Rule::Row("L-11"), LegalReason::DeemedExportLicenseRequired);
    assert_eq!(of(&sample(), inference, FOREIGN, Place::Us), required);
    assert_eq!(of(&lax, AccessForm::Weights, FOREIGN, Place::Us), required);
    assert_eq!(of(&lax, inference, FOREIGN, place("GB")).1, Rule::Row("L-12"));
    assert_eq!(of(&lax, inference, UNDETERMINED, Place::Us).1, Rule::Row("L-16"));
    // Law and policy stay two answers: the suspension denies what the law then allows.
    let decision = judge_in(&lax, "mythos-5", R1, |_| {});
    assert_eq!(decision.code(), "P-SUSPEND_ALL");
}

#[test]
fn a_descendant_is_covered_as_its_parent_is() {
    let bundle = sample();
    let decision = judge_in(&bundle, "mythos-5-defender", R1, |_| {});
    assert_eq!(decision.legal, Legal::LicenseRequired);
    assert_eq!(judge_in(&bundle, "mythos-5-defender", R2, |_| {}).legal, Legal::Exempt);
}

#[test]
fn transaction_kinds_follow_place_person_organisation_and_region() {
    use TransactionKind::{
        DeemedExport, DeemedReexport, DomesticNonExport, Export, Reexport, TransferInCountry,
    };
    let family = [model("mythos-5")];
    let grant = grant(1, "mythos-5");
    let base = Case { who: US, ..case(&family, &grant) };
    let strict = |case: Case<'_>| kinds(&case, true);
    assert_eq!(strict(base), [DomesticNonExport]);
    assert_eq!(strict(Case { who: FOREIGN, ..base }), [DeemedExport]);
    assert_eq!(strict(Case { who: UNDETERMINED, ..base }), [DeemedExport]);
    assert_eq!(strict(Case { org: Organisation::Foreign, ..base }), [DeemedExport]);
    assert_eq!(strict(Case { place: place("GB"), ..base }), [Export]);
    assert_eq!(strict(Case { place: place("GB"), who: FOREIGN, ..base }), [Export, DeemedReexport]);
    assert_eq!(strict(Case { place: Place::Unknown, who: FOREIGN, ..base }), [Export, DeemedReexport]);
    assert_eq!(strict(Case { serving: place("IE"), ..base }), [Reexport]);
    let same = Case { serving: place("IE"), place: place("IE"), ..base };
    assert_eq!(strict(same), [TransferInCountry, Export]);
    // The pre-June-12 reading: inference adds no deemed kind, weights still do.
    assert_eq!(kinds(&Case { who: FOREIGN, ..base }, false), [DomesticNonExport]);
    let weights = Case { who: FOREIGN, form: AccessForm::Weights, ..base };
    assert_eq!(kinds(&weights, false), [DeemedExport]);
}
