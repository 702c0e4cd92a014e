//! Provider policy: each rule alone, the order in which they are reported, what a licence and a workload skip.

use crate::domain::bundle::Bundle;
use crate::domain::decision::{Case, Decision, Legal, Operators, Who, judge};
use crate::domain::grant::Grant;
use crate::domain::id::{LicenseId, PurposeId};
use crate::domain::model::AccessForm;
use crate::domain::person::{Assurance, PersonStatus, Relation};
use crate::domain::policy::PolicyRule;
use crate::domain::tests::fixtures::*;
use crate::domain::time::Now;

/// Makes one rule fail; the grant is apart because a case only borrows it.
type Break = (PolicyRule, fn(&mut Case<'_>), fn(&mut Grant));

const UNTOUCHED: fn(&mut Grant) = |_| {};

/// Every rule that depends on the case, in the order of reporting.
const BREAKS: &[Break] = &[
    (PolicyRule::NoGrant, |c| c.grant = None, UNTOUCHED),
    (PolicyRule::NotProvisioned, |c| c.standing.provisioned = false, UNTOUCHED),
    (PolicyRule::Suspended, |c| c.standing.suspended = true, UNTOUCHED),
    (PolicyRule::AccessForm, |c| c.form = AccessForm::Weights, UNTOUCHED),
    (PolicyRule::StatusUnverified, |c| set_status(c, PersonStatus::Undetermined), UNTOUCHED),
    (PolicyRule::NotEmployee, |c| set_relation(c, Relation::Contractor), UNTOUCHED),
    (PolicyRule::PlaceNotAllowed, |c| c.place = place("FR"), UNTOUCHED),
    (PolicyRule::AssuranceTooLow, |c| set_assurance(c, Some(Assurance::Ial1)), UNTOUCHED),
    (PolicyRule::ReverifyOverdue, |c| c.standing.reverify_overdue = true, UNTOUCHED),
    (PolicyRule::Purpose, |_| {}, |g| g.purposes = vec!["cyber-defense".parse().unwrap()]),
    (PolicyRule::SafeguardLapsed, |c| c.standing.safeguard_lapsed = true, UNTOUCHED),
    (PolicyRule::Quota, |c| c.standing.quota_exhausted = true, UNTOUCHED),
];

fn set_status(case: &mut Case<'_>, new: PersonStatus) {
    if let Who::Human { status, .. } = &mut case.who {
        *status = new;
    }
}

fn set_relation(case: &mut Case<'_>, new: Relation) {
    if let Who::Human { relation, .. } = &mut case.who {
        *relation = new;
    }
}

fn set_assurance(case: &mut Case<'_>, new: Option<Assurance>) {
    if let Who::Human { assurance, .. } = &mut case.who {
        *assurance = new;
    }
}

/// Judges Mythos with these rules broken, for a US person so that the law allows as much as it can.
fn judged(when: &str, breaks: &[&Break]) -> Decision {
    let bundle = sample();
    let family = bundle.registry().resolve("mythos-5").unwrap();
    let mut granted = grant(1, "mythos-5");
    breaks.iter().for_each(|(_, _, change)| change(&mut granted));
    let mut case = Case { who: human(PersonStatus::UsPerson, Relation::Employee), ..case(family, &granted) };
    breaks.iter().for_each(|(_, change, _)| change(&mut case));
    judge(&bundle, &case, Now::exactly(at(when)))
}

#[test]
fn each_rule_alone_is_reported_and_denies() {
    assert_eq!(judged(R2, &[]).policy, None);
    for broken in BREAKS {
        let decision = judged(R2, &[broken]);
        assert_eq!((decision.policy, decision.is_permit()), (Some(broken.0), false));
    }
}

#[test]
fn of_two_failing_rules_the_first_in_the_order_is_reported() {
    for (first, earlier) in BREAKS.iter().enumerate() {
        for later in &BREAKS[first + 1..] {
            assert_eq!(
                judged(R2, &[earlier, later]).policy,
                Some(earlier.0),
                "{} and {}",
                earlier.0,
                later.0
            );
        }
    }
}

#[test]
fn the_rules_are_numbered_in_the_order_of_reporting() {
    let words: Vec<_> = PolicyRule::ALL.iter().map(|rule| rule.as_str()).collect();
    let order = "P-SUSPEND_ALL P-NO_GRANT P-NOT_PROVISIONED P-SUSPENDED P-ACCESS_FORM P-STATUS_UNVERIFIED \
                 P-NOT_EMPLOYEE P-PLACE_NOT_ALLOWED P-ASSURANCE_TOO_LOW P-REVERIFY_OVERDUE P-PURPOSE \
                 P-SAFEGUARD_LAPSED P-QUOTA";
    assert_eq!(words.join(" "), order);
}

#[test]
fn a_suspension_of_all_access_is_reported_before_every_other_rule() {
    for broken in BREAKS {
        assert_eq!(judged(R1, &[broken]).policy, Some(PolicyRule::SuspendAll));
    }
}

#[test]
fn before_the_lift_only_the_grant_is_asked_for() {
    for broken in BREAKS {
        let expected = (broken.0 == PolicyRule::NoGrant).then_some(PolicyRule::NoGrant);
        assert_eq!(judged(R0, &[broken]).policy, expected, "{}", broken.0);
    }
}

#[test]
fn the_first_failing_rule_is_reported_also_when_the_law_denies() {
    let bundle = sample();
    let family = bundle.registry().resolve("mythos-5").unwrap();
    let granted = grant(1, "mythos-5");
    let contractor =
        Case { who: human(PersonStatus::ForeignPerson, Relation::Contractor), ..case(family, &granted) };
    let decision = judge(&bundle, &contractor, Now::exactly(at(R2)));
    assert_eq!((decision.legal, decision.policy), (Legal::LicenseRequired, Some(PolicyRule::NotEmployee)));
    // The law's refusal is told as the law's.
    assert_eq!(decision.code(), "DEEMED_EXPORT_LICENSE_REQUIRED");
}

#[test]
fn fable_and_uncovered_models_know_only_the_suspension() {
    let bundle = Bundle::new(rescinded_parts()).unwrap();
    for (name, when) in [("fable-5", R3), ("sonata-4", R2), ("fable-5", R0)] {
        let family = bundle.registry().resolve(name).unwrap();
        let granted = grant(1, name);
        for (rule, change, _) in BREAKS.iter().filter(|(rule, ..)| *rule != PolicyRule::AccessForm) {
            let mut case = case(family, &granted);
            change(&mut case);
            let decision = judge(&bundle, &case, Now::exactly(at(when)));
            assert!(decision.is_permit(), "{name} at {when} with {rule}: {decision:?}");
        }
    }
}

#[test]
fn a_licence_skips_relation_and_place_and_nothing_else() {
    let bundle = sample();
    let family = bundle.registry().resolve("mythos-5").unwrap();
    let number: LicenseId = "d123456".parse().unwrap();
    for (rule, change, change_grant) in BREAKS {
        let mut granted = grant(1, "mythos-5");
        change_grant(&mut granted);
        // A foreign contractor: only the licence allows it, whatever else is broken.
        let mut case = Case {
            who: human(PersonStatus::ForeignPerson, Relation::Contractor),
            license: Some(&number),
            ..case(family, &granted)
        };
        change(&mut case);
        let decision = judge(&bundle, &case, Now::exactly(at(R2)));
        let skipped = matches!(rule, PolicyRule::NotEmployee | PolicyRule::PlaceNotAllowed);
        // Without a status no licence is asked for, so the relation counts again, after the status.
        assert_eq!(decision.policy, (!skipped).then_some(*rule));
        if *rule != PolicyRule::StatusUnverified {
            assert_eq!(decision.legal, Legal::Licensed);
        }
    }
}

#[test]
fn a_workload_has_no_status_relation_or_assurance_to_fail() {
    let bundle = sample();
    let family = bundle.registry().resolve("mythos-5").unwrap();
    let granted = grant(1, "mythos-5");
    let workload = Case { who: Who::Workload(Operators::Eligible), ..case(family, &granted) };
    assert!(judge(&bundle, &workload, Now::exactly(at(R2))).is_permit());
    let abroad = Case { place: place("FR"), ..workload };
    let decision = judge(&bundle, &abroad, Now::exactly(at(R2)));
    assert_eq!(decision.policy, Some(PolicyRule::PlaceNotAllowed));
}

#[test]
fn unknown_assurance_is_too_low() {
    let broken: Break = (PolicyRule::AssuranceTooLow, |c| set_assurance(c, None), UNTOUCHED);
    assert_eq!(judged(R2, &[&broken]).policy, Some(PolicyRule::AssuranceTooLow));
}

#[test]
fn a_grant_opens_the_countries_purposes_and_forms_that_it_lists() {
    let purpose: PurposeId = "cyber-defense".parse().unwrap();
    let open = Grant {
        countries: vec![country("FR")],
        purposes: vec![purpose.clone()],
        forms: vec![AccessForm::Weights],
        ..grant(1, "mythos-5")
    };
    assert!(open.allows_place(place("FR")) && open.allows_place(place("US")));
    assert!(!open.allows_place(place("DE")) && !open.allows_place(place("")));
    assert!(open.allows_purpose(Some(&purpose)) && !open.allows_purpose(None));
    assert!(open.allows_form(AccessForm::Inference) && open.allows_form(AccessForm::Weights));
    assert!(!open.allows_form(AccessForm::Internals));
}

#[test]
fn a_grant_for_a_model_covers_what_descends_from_it() {
    let bundle = sample();
    let covers =
        |granted: &str, asked: &str| grant(1, granted).covers(bundle.registry().resolve(asked).unwrap());
    assert!(covers("mythos-5", "mythos-5-defender"));
    assert!(!covers("mythos-5-defender", "mythos-5"));
    assert!(!covers("mythos-5", "fable-5"));
}

#[test]
fn policy_is_never_told_as_law() {
    let decision = judged(R1, &[]);
    assert_eq!(decision.legal, Legal::NlrDomestic);
    assert_eq!(
        decision.explain(),
        "denied by provider policy, not by law: the provider has suspended all access to this model"
    );
}
