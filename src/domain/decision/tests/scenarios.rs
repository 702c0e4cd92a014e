//! The scenarios that one case expresses; those that need a record stand with the state, the flows and the gateway.

use crate::domain::bundle::Bundle;
use crate::domain::decision::{Case, Decision, Legal, Operator, Operators, Rule, StateFault, Who, judge};
use crate::domain::entity::{EntityClass, Organisation};
use crate::domain::grant::Grant;
use crate::domain::id::LicenseId;
use crate::domain::person::{EvidenceKind, PersonStatus, Relation};
use crate::domain::policy::PolicyRule;
use crate::domain::tests::fixtures::*;
use crate::domain::time::Now;

/// Who asks, for whom: class, organisation and grant follow.
#[derive(Clone, Copy)]
struct Asker(EntityClass, PersonStatus, Relation);

const NOBODY: Asker = Asker(EntityClass::Unlisted, PersonStatus::ForeignPerson, Relation::None);
const PROVIDER_US: Asker = Asker(EntityClass::Provider, PersonStatus::UsPerson, Relation::Employee);
const PROVIDER_FOREIGN: Asker = Asker(EntityClass::Provider, PersonStatus::ForeignPerson, Relation::Employee);
const MEMBER_FOREIGN: Asker = Asker(EntityClass::AnnexA, PersonStatus::ForeignPerson, Relation::Employee);
const MEMBER_US: Asker = Asker(EntityClass::AnnexA, PersonStatus::UsPerson, Relation::Employee);

fn asks(asker: Asker, name: &str, when: &str, change: impl Fn(&mut Case<'_>)) -> Decision {
    asks_of(&sample(), asker, name, when, change)
}

fn asks_of(
    bundle: &Bundle,
    Asker(class, status, relation): Asker,
    name: &str,
    when: &str,
    change: impl Fn(&mut Case<'_>),
) -> Decision {
    let family = bundle.registry().resolve(name);
    let grant: Grant = grant(1, family.map_or("none", |family| family[0].as_str()));
    let mut case = Case { family, class, who: human(status, relation), ..case(&[], &grant) };
    change(&mut case);
    judge(bundle, &case, Now::exactly(at(when)))
}

fn as_it_is(_: &mut Case<'_>) {}

#[test]
fn scenario_01_a_foreign_person_uses_fable_until_the_last_second() {
    let decision = asks(NOBODY, "fable-5", "2026-06-12T21:20:59Z", |c| c.grant = None);
    assert_eq!((decision.legal, decision.is_permit()), (Legal::NotControlled, true));
}

#[test]
fn scenario_02_one_second_later_a_licence_is_required() {
    let decision = asks(NOBODY, "fable-5", "2026-06-12T21:21:00Z", |c| c.grant = None);
    assert_eq!((decision.legal, decision.rule), (Legal::LicenseRequired, Rule::Row("L-11")));
    assert!(!decision.is_permit());
}

#[test]
fn scenario_03_before_the_suspension_only_the_law_protects() {
    let when = "2026-06-12T22:00:00Z";
    let us = Asker(EntityClass::Unlisted, PersonStatus::UsPerson, Relation::None);
    let decision = asks(us, "fable-5", when, |c| c.grant = None);
    assert_eq!((decision.legal, decision.is_permit()), (Legal::NlrDomestic, true));
    assert!(!asks(NOBODY, "fable-5", when, |c| c.grant = None).is_permit());
}

#[test]
fn scenario_04_under_the_suspension_the_message_says_provider_policy() {
    for name in ["mythos-5", "fable-5"] {
        let decision = asks(PROVIDER_US, name, R1, as_it_is);
        assert_eq!((decision.legal, decision.policy), (Legal::NlrDomestic, Some(PolicyRule::SuspendAll)));
        assert!(!decision.is_permit() && decision.explain().contains("provider policy, not by law"));
    }
}

#[test]
fn scenario_05_the_providers_own_engineer_needs_a_licence() {
    let decision = asks(PROVIDER_FOREIGN, "mythos-5", R1, as_it_is);
    assert_eq!((decision.legal, decision.clause), (Legal::LicenseRequired, "15 CFR 734.13(a)(2)"));
}

#[test]
fn scenario_06_the_lift_names_the_providers_staff_for_mythos_only() {
    let mythos = asks(PROVIDER_FOREIGN, "mythos-5", R2, as_it_is);
    assert_eq!((mythos.legal, mythos.rule, mythos.is_permit()), (Legal::Exempt, Rule::Row("L-20"), true));
    let fable = asks(PROVIDER_FOREIGN, "fable-5", R2, as_it_is);
    assert_eq!((fable.legal, fable.policy), (Legal::LicenseRequired, Some(PolicyRule::SuspendAll)));
}

#[test]
fn scenario_07_a_members_foreign_employee_is_exempt() {
    let decision = asks(MEMBER_FOREIGN, "mythos-5", R2, as_it_is);
    assert_eq!(
        (decision.legal, decision.rule, decision.is_permit()),
        (Legal::Exempt, Rule::Row("L-21"), true)
    );
}

#[test]
fn scenario_09_a_member_without_provisioning_is_exempt_and_denied() {
    let decision = asks(MEMBER_FOREIGN, "mythos-5", R2, |c| c.standing.provisioned = false);
    assert_eq!((decision.legal, decision.code()), (Legal::Exempt, "P-NOT_PROVISIONED"));
}

#[test]
fn scenario_10_a_members_citizen_in_paris_is_exempt_and_denied() {
    let decision = asks(MEMBER_US, "mythos-5", R2, |c| c.place = place("FR"));
    assert_eq!(
        (decision.legal, decision.rule, decision.code()),
        (Legal::Exempt, Rule::Row("L-23"), "P-PLACE_NOT_ALLOWED")
    );
}

#[test]
fn scenario_11_the_letter_is_silent_on_the_providers_citizens_abroad() {
    let decision = asks(PROVIDER_US, "mythos-5", R2, |c| c.place = place("GB"));
    assert_eq!((decision.legal, decision.rule), (Legal::LicenseRequired, Rule::Row("L-13")));
}

#[test]
fn scenario_12_contractors_are_no_employees() {
    let contractor = |status| Asker(EntityClass::AnnexA, status, Relation::Contractor);
    let foreign = asks(contractor(PersonStatus::ForeignPerson), "mythos-5", R2, as_it_is);
    assert_eq!((foreign.legal, foreign.rule), (Legal::LicenseRequired, Rule::Row("L-11")));
    let us = asks(contractor(PersonStatus::UsPerson), "mythos-5", R2, as_it_is);
    assert_eq!((us.legal, us.code()), (Legal::NlrDomestic, "P-NOT_EMPLOYEE"));
}

#[test]
fn scenario_13_a_members_subsidiary_is_unlisted() {
    let subsidiary = Asker(EntityClass::Unlisted, PersonStatus::ForeignPerson, Relation::Employee);
    assert_eq!(asks(subsidiary, "mythos-5", R2, as_it_is).legal, Legal::LicenseRequired);
}

#[test]
fn scenario_14_an_unlisted_firms_citizen_is_denied_by_policy_alone() {
    let us = Asker(EntityClass::Unlisted, PersonStatus::UsPerson, Relation::Employee);
    let decision = asks(us, "mythos-5", R2, |c| c.grant = None);
    assert_eq!((decision.legal, decision.code()), (Legal::NlrDomestic, "P-NO_GRANT"));
}

#[test]
fn scenario_15_a_citizen_at_a_foreign_firm_acts_for_a_foreign_person() {
    let us = Asker(EntityClass::Unlisted, PersonStatus::UsPerson, Relation::Employee);
    let decision = asks(us, "mythos-5", R2, |c| c.org = Organisation::Foreign);
    assert_eq!((decision.legal, decision.rule), (Legal::LicenseRequired, Rule::Row("L-14")));
}

#[test]
fn scenario_16_a_permanent_resident_is_a_us_person_naturalised_or_not() {
    assert_eq!(EvidenceKind::LawfulPermanentResident.status(), PersonStatus::UsPerson);
}

#[test]
fn scenario_18_a_granted_asylee_is_a_us_person_and_a_pending_one_is_not() {
    assert_eq!(EvidenceKind::ProtectedIndividual.status(), PersonStatus::UsPerson);
    assert_eq!(EvidenceKind::NoUsStatus.status(), PersonStatus::ForeignPerson);
    assert_eq!(EvidenceKind::None.status(), PersonStatus::Undetermined);
}

#[test]
fn scenario_19_a_dual_citizen_is_a_us_person() {
    // There is no field for a country beside the evidence: nothing of the second citizenship can be stored.
    assert_eq!(EvidenceKind::CitizenOrNational.status(), PersonStatus::UsPerson);
}

#[test]
fn scenario_20_an_undetermined_employee_is_exempt_either_way_and_denied() {
    let asker = Asker(EntityClass::AnnexA, PersonStatus::Undetermined, Relation::Employee);
    let decision = asks(asker, "mythos-5", R2, as_it_is);
    assert_eq!(
        (decision.legal, decision.reason.as_str(), decision.code()),
        (Legal::Exempt, "EXEMPT_EITHER_STATUS", "P-STATUS_UNVERIFIED")
    );
}

#[test]
fn scenario_21_a_licence_does_not_lift_the_suspension() {
    let number: LicenseId = "d123456".parse().unwrap();
    let bundle = sample();
    let family = bundle.registry().resolve("mythos-5").unwrap();
    let granted = grant(1, "mythos-5");
    let licensed = Case { class: EntityClass::Unlisted, license: Some(&number), ..case(family, &granted) };
    let decision = judge(&bundle, &licensed, Now::exactly(at(R1)));
    assert_eq!((decision.legal, decision.code()), (Legal::Licensed, "P-SUSPEND_ALL"));
    let unmet = Case { license: None, ..licensed };
    assert_eq!(judge(&bundle, &unmet, Now::exactly(at(R1))).legal, Legal::LicenseRequired);
}

#[test]
fn scenario_29_a_clock_that_moved_back_is_a_fault_and_not_the_past() {
    let decision = asks(NOBODY, "fable-5", "2026-06-12T21:00:00Z", |c| {
        c.state = Some(StateFault::ClockUntrusted);
    });
    assert_eq!((decision.legal, decision.code()), (Legal::Indeterminate, "CLOCK_UNTRUSTED"));
    assert!(!decision.is_permit());
}

#[test]
fn scenario_31_aliases_are_covered_and_look_alikes_are_unknown() {
    for name in ["mythos-5-latest", "Claude Mythos 5", "mythos-5-defender", "MyThOs-5-LATEST"] {
        assert_eq!(asks(NOBODY, name, R1, |c| c.grant = None).legal, Legal::LicenseRequired, "{name}");
    }
    // A Cyrillic o, a full-width 5, a trailing space, a zero-width joiner.
    for name in ["myth\u{43e}s-5", "mythos-\u{ff15}", "mythos-5 ", "mythos\u{200d}-5", "", "mythos"] {
        let bundle = sample();
        assert_eq!(bundle.registry().resolve(name), None, "{name:?}");
        let decision =
            judge(&bundle, &Case { family: None, ..case(&[], &grant(1, "mythos-5")) }, Now::exactly(at(R0)));
        assert_eq!(decision.code(), "MODEL_UNKNOWN");
    }
}

#[test]
fn scenario_33_one_contractor_among_the_operators_decides() {
    let operator =
        |relation| Operator { status: PersonStatus::ForeignPerson, relation, in_good_standing: true };
    let mixed = [operator(Relation::Employee), operator(Relation::Contractor)];
    let bundle = sample();
    let family = bundle.registry().resolve("mythos-5").unwrap();
    let granted = grant(1, "mythos-5");
    let job = Case { who: Who::Workload(Operators::Listed(&mixed)), ..case(family, &granted) };
    let decision = judge(&bundle, &job, Now::exactly(at(R2)));
    assert_eq!((decision.legal, decision.rule), (Legal::LicenseRequired, Rule::Row("L-11")));
}

#[test]
fn scenario_50_after_the_rescission_mythos_needs_a_grant_and_fable_nothing() {
    let bundle = Bundle::new(rescinded_parts()).unwrap();
    let unlisted = Asker(EntityClass::Unlisted, PersonStatus::ForeignPerson, Relation::Employee);
    for name in ["mythos-5", "fable-5"] {
        assert_eq!(asks_of(&bundle, unlisted, name, R3, as_it_is).legal, Legal::NotControlled);
    }
    assert_eq!(asks_of(&bundle, unlisted, "mythos-5", R3, |c| c.grant = None).code(), "P-NO_GRANT");
    assert!(asks_of(&bundle, NOBODY, "fable-5", R3, |c| c.grant = None).is_permit());
    // Exemption statistics stop there: nothing is EXEMPT any more.
    assert_eq!(asks_of(&bundle, MEMBER_FOREIGN, "mythos-5", R3, as_it_is).legal, Legal::NotControlled);
}
