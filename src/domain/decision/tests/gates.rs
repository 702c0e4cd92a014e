//! Gates G1 to G8: each alone, every pair, and what each does to the legal outcome.

use crate::domain::decision::{
    Access, Case, ChainFacts, CredentialFault, Denial, Gate, Legal, LegalReason, Rule, ScreeningState,
    StateFault, judge,
};
use crate::domain::model::AccessForm;
use crate::domain::tests::fixtures::*;
use crate::domain::time::Now;

/// Makes one gate fail.
type Spoil = fn(&mut Case<'_>);

/// A way in which a gate fails, what is recorded, and what replaces the legal outcome of the rows.
const WAYS: &[(Spoil, Denial, Option<(Legal, Gate)>)] = &[
    (
        |c| c.state = Some(StateFault::Unavailable),
        Denial::StateUnavailable,
        Some((Legal::Indeterminate, Gate::G1)),
    ),
    (
        |c| c.state = Some(StateFault::ClockUntrusted),
        Denial::ClockUntrusted,
        Some((Legal::Indeterminate, Gate::G1)),
    ),
    (|c| c.state = Some(StateFault::StaleView), Denial::StaleView, Some((Legal::Indeterminate, Gate::G1))),
    (
        |c| c.credential = Some(CredentialFault::Revoked),
        Denial::CredentialRevoked,
        Some((Legal::Indeterminate, Gate::G2)),
    ),
    (|c| c.stopped = true, Denial::EmergencyStop, None),
    (|c| c.family = None, Denial::ModelUnknown, Some((Legal::Indeterminate, Gate::G4))),
    (|c| c.screening = ScreeningState::Denied, Denial::PartyDenied, Some((Legal::Prohibited, Gate::G5))),
    (|c| c.screening = ScreeningState::Pending, Denial::ScreeningPending, None),
    (|c| c.screening = ScreeningState::Stale, Denial::ScreeningStale, None),
    (|c| c.place = place("CU"), Denial::Embargo, Some((Legal::Prohibited, Gate::G6))),
    (|c| c.seat = Some(country("IR")), Denial::Embargo, Some((Legal::Prohibited, Gate::G6))),
    (|c| c.mi_flag = true, Denial::MiEndUser, Some((Legal::Prohibited, Gate::G6))),
    (
        |c| c.chain = ChainFacts::Unidentified,
        Denial::EndUserUnidentified,
        Some((Legal::Indeterminate, Gate::G7)),
    ),
    (|c| c.form = AccessForm::Weights, Denial::AccessForm, None),
    (|c| c.form = AccessForm::Internals, Denial::AccessForm, None),
    (|c| c.model_not_listed = true, Denial::ModelNotListed, None),
];

#[test]
fn each_gate_alone_denies_and_says_what_it_does_to_the_law() {
    let bundle = sample();
    let family = bundle.registry().resolve("mythos-5").unwrap();
    let grant = grant(1, "mythos-5");
    for (spoil, denial, replaces) in WAYS {
        let mut case = case(family, &grant);
        spoil(&mut case);
        let decision = judge(&bundle, &case, Now::exactly(at(R2)));
        assert_eq!(decision.denials, [*denial]);
        assert_eq!((decision.access, decision.code()), (Access::Deny, denial.as_str()));
        match replaces {
            Some((legal, gate)) => assert_eq!((decision.legal, decision.rule), (*legal, Rule::Gate(*gate))),
            None => assert_eq!((decision.legal, decision.rule), (Legal::Exempt, Rule::Row("L-21"))),
        }
        let row_reason =
            if case.family.is_some() { LegalReason::ExemptAnnexAFnEmployee } else { LegalReason::NotJudged };
        assert_eq!(decision.reason, row_reason, "{denial}: the row's reason stays on record");
    }
}

#[test]
fn of_two_failing_gates_both_are_recorded_in_order_and_the_first_is_told() {
    let bundle = sample();
    let family = bundle.registry().resolve("mythos-5").unwrap();
    let grant = grant(1, "mythos-5");
    for (first, (spoil_first, first_denial, first_replaces)) in WAYS.iter().enumerate() {
        for (spoil_second, second_denial, second_replaces) in &WAYS[first + 1..] {
            // Two ways of one gate share a field, so the later one takes the place of the earlier.
            let exclusive = |a: &Denial, b: &Denial| gate_of(a) == gate_of(b);
            if exclusive(first_denial, second_denial) {
                continue;
            }
            let mut case = case(family, &grant);
            spoil_first(&mut case);
            spoil_second(&mut case);
            let decision = judge(&bundle, &case, Now::exactly(at(R2)));
            // Without a model nothing says whether the certificate had to list it.
            let unlisted_unknown = case.family.is_none() && *second_denial == Denial::ModelNotListed;
            let recorded: &[Denial] =
                if unlisted_unknown { &[*first_denial] } else { &[*first_denial, *second_denial] };
            assert_eq!(decision.denials, recorded);
            assert_eq!(decision.code(), first_denial.as_str());
            // A gate that only denies access leaves the legal answer to the next one.
            let (legal, rule) = match first_replaces.or(*second_replaces) {
                Some((legal, gate)) => (legal, Rule::Gate(gate)),
                None => (Legal::Exempt, Rule::Row("L-21")),
            };
            assert_eq!((decision.legal, decision.rule), (legal, rule), "{first_denial} and {second_denial}");
        }
    }
}

/// Fields of a case that hold one failure at a time.
fn gate_of(denial: &Denial) -> u8 {
    match denial {
        Denial::StateUnavailable | Denial::ClockUntrusted | Denial::StaleView => 1,
        Denial::ScreeningPending | Denial::ScreeningStale | Denial::PartyDenied => 5,
        Denial::Embargo => 6,
        Denial::AccessForm => 8,
        other => 100 + *other as u8,
    }
}

#[test]
fn every_credential_fault_has_its_own_code_and_leaves_nothing_determined() {
    let bundle = sample();
    let family = bundle.registry().resolve("mythos-5").unwrap();
    let grant = grant(1, "mythos-5");
    for fault in CredentialFault::ALL {
        let case = Case { credential: Some(*fault), ..case(family, &grant) };
        let decision = judge(&bundle, &case, Now::exactly(at(R2)));
        assert_eq!(decision.code(), fault.as_str());
        assert_eq!((decision.legal, decision.rule), (Legal::Indeterminate, Rule::Gate(Gate::G2)));
    }
}

#[test]
fn an_unknown_model_is_never_uncovered() {
    let bundle = sample();
    let grant = grant(1, "mythos-5");
    let unknown = Case { family: None, ..case(&[], &grant) };
    for when in [R0, R1, R2, R3] {
        let decision = judge(&bundle, &unknown, Now::exactly(at(when)));
        assert_eq!((decision.legal, decision.access), (Legal::Indeterminate, Access::Deny));
        assert_eq!((decision.code(), decision.policy), ("MODEL_UNKNOWN", None));
    }
}

#[test]
fn an_embargo_holds_where_nothing_is_controlled() {
    let bundle = sample();
    let family = bundle.registry().resolve("sonata-4").unwrap();
    let grant = grant(1, "sonata-4");
    let decision = judge(&bundle, &Case { place: place("KP"), ..case(family, &grant) }, Now::exactly(at(R0)));
    assert_eq!((decision.legal, decision.code()), (Legal::Prohibited, "EMBARGO"));
}

#[test]
fn an_unknown_place_is_no_embargoed_one() {
    let bundle = sample();
    let family = bundle.registry().resolve("mythos-5").unwrap();
    let grant = grant(1, "mythos-5");
    let decision = judge(&bundle, &Case { place: place(""), ..case(family, &grant) }, Now::exactly(at(R2)));
    assert_eq!(decision.denials, []);
}

#[test]
fn weights_need_a_grant_that_names_them_in_every_regime_and_for_every_model() {
    let bundle = sample();
    for name in ["mythos-5", "fable-5", "sonata-4"] {
        let family = bundle.registry().resolve(name).unwrap();
        let mut grant = grant(1, name);
        for when in [R0, R1, R2, R3] {
            let case = Case { form: AccessForm::Weights, ..case(family, &grant) };
            let decision = judge(&bundle, &case, Now::exactly(at(when)));
            assert!(decision.denials.contains(&Denial::AccessForm), "{name} at {when}");
        }
        grant.forms = vec![AccessForm::Weights];
        let case = Case { form: AccessForm::Weights, ..case(family, &grant) };
        assert_eq!(judge(&bundle, &case, Now::exactly(at(R2))).denials, []);
    }
}

#[test]
fn the_certificate_must_list_a_model_that_is_covered_or_needs_a_grant() {
    let bundle = sample();
    let unlisted = |name: &str, when: &str| {
        let family = bundle.registry().resolve(name).unwrap();
        let grant = grant(1, name);
        let case = Case { model_not_listed: true, ..case(family, &grant) };
        judge(&bundle, &case, Now::exactly(at(when))).denials.contains(&Denial::ModelNotListed)
    };
    assert!(unlisted("mythos-5", R0), "a grant is needed in every regime");
    assert!(unlisted("fable-5", R1), "covered");
    assert!(!unlisted("fable-5", R0), "neither");
    assert!(!unlisted("sonata-4", R2), "neither");
}
