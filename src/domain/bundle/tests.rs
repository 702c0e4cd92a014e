//! What two bundles differ in, and what makes no sense in one.

use super::*;
use crate::domain::determination::{DeterminationState, Instants};
use crate::domain::policy::PolicyRule;
use crate::domain::tests::fixtures::*;

fn changed(change: impl FnOnce(&mut BundleParts)) -> Bundle {
    let mut parts = sample_parts();
    change(&mut parts);
    Bundle::new(parts).unwrap()
}

#[test]
fn the_same_bundle_in_another_order_does_not_differ() {
    let turned = changed(|parts| {
        parts.determinations.reverse();
        parts.rules.reverse();
        parts.models.rotate_left(2);
    });
    assert_ne!(turned.hash(), sample().hash());
    assert_eq!(diff(&sample(), &turned), []);
}

#[test]
fn a_draft_that_is_signed_shows_with_every_instant_that_it_moves() {
    let changes = diff(&sample(), &Bundle::new(rescinded_parts()).unwrap());
    assert_eq!(
        in_words(&changes),
        [
            "~ determination 2026-06-30-rescission",
            "    state: DRAFT -> COUNTERSIGNED",
            "    takes effect: never -> 2026-06-30T21:00:00Z",
            "~ rule P-SUSPEND_ALL for fable-5",
            "    ends: none -> 2026-06-30T21:00:00Z",
        ]
    );
}

#[test]
fn what_comes_and_what_goes_shows_with_all_that_it_says() {
    let wider = changed(|parts| {
        parts.models.push(Model { id: model("opus-6"), aliases: Vec::new(), descends_from: None });
        parts.rules.retain(|rule| rule.rule != PolicyRule::NotEmployee);
        parts.posture.embargoed.clear();
        parts.posture.remote_access_is_release = false;
    });
    let lines = in_words(&diff(&sample(), &wider));
    for line in [
        "+ model opus-6",
        "- rule P-NOT_EMPLOYEE for mythos-5",
        "    from: when 2026-06-26-lift takes effect",
        "    begins: 2026-06-26T22:00:00Z",
        "~ posture",
        "    embargoed: CU, IR, KP, SY -> ",
        "    remote access is a release: yes -> no",
    ] {
        assert!(lines.iter().any(|have| have == line), "{line:?} is not in {lines:#?}");
    }
    let back = in_words(&diff(&wider, &sample()));
    assert!(
        back.contains(&"- model opus-6".to_owned())
            && back.contains(&"+ rule P-NOT_EMPLOYEE for mythos-5".to_owned())
    );
}

/// What is wrong first, as it is told.
fn wrong(change: impl FnOnce(&mut BundleParts)) -> String {
    changed(change).inconsistencies().first().map(ToString::to_string).unwrap_or_default()
}

#[test]
fn the_sample_makes_sense_and_contradicts_nothing() {
    for bundle in [sample(), Bundle::new(rescinded_parts()).unwrap()] {
        assert_eq!((bundle.inconsistencies(), bundle.contradictions()), (vec![], vec![]));
    }
}

#[test]
fn each_part_that_makes_no_sense_is_named_with_its_key() {
    let lift = |change: fn(&mut Determination)| wrong(move |parts| change(&mut parts.determinations[1]));
    let told = "determination 2026-06-26-lift, ";
    assert_eq!(
        lift(|d| d.beneficiaries.clear()),
        format!("{told}beneficiaries: it lifts a requirement for nobody")
    );
    assert_eq!(lift(|d| d.models.clear()), format!("{told}models: it names no model, so it reaches nothing"));
    assert_eq!(lift(|d| d.amends.push(d.id.clone())), format!("{told}amends: it amends itself"));
    assert_eq!(
        lift(|d| d.models.push(model("sonata-4"))),
        format!("{told}models: it lifts a requirement for sonata-4 that nothing it amends imposes")
    );
    assert_eq!(
        lift(|d| d.amends.push(determination(RESCISSION))),
        format!("{told}amends: it lifts 2026-06-30-rescission, which imposes nothing")
    );
    assert!(
        lift(|d| d.instants = Instants::default()).starts_with(&format!("{told}state: it is signed, and"))
    );
    assert_eq!(
        wrong(|parts| parts.determinations[0].beneficiaries.push(Limb::AnnexEntities)),
        "determination 2026-06-12-imposition, beneficiaries: only a lift has beneficiaries"
    );
    assert_eq!(
        wrong(|parts| parts.rules[0].until = Some(Edge::At(at("2026-06-13T00:50:00Z")))),
        "rule 1 (P-SUSPEND_ALL), until: it ends at 2026-06-13T00:50:00Z, before it begins at 2026-06-13T00:50:00Z"
    );
    assert_eq!(
        wrong(|parts| parts.rules[3].models.clear()),
        "rule 4 (P-NOT_PROVISIONED), models: it names no model, so it reaches nothing"
    );
}

#[test]
fn rules_of_one_name_may_follow_each_other_and_not_overlap() {
    let twice = |from: &str| {
        let from = Edge::At(at(from));
        move |parts: &mut BundleParts| {
            let again = DatedRule { from: Some(from), until: None, ..parts.rules[0].clone() };
            parts.rules.push(again);
        }
    };
    assert_eq!(wrong(twice("2026-06-26T22:00:00Z")), "");
    assert_eq!(
        wrong(twice("2026-06-26T21:59:59Z")),
        "rule 15 (P-SUSPEND_ALL), models: it overlaps rule 1 of the same name for mythos-5"
    );
}

#[test]
fn of_contradicting_determinations_the_strict_one_holds_and_both_are_named() {
    let second = |parts: &mut BundleParts| {
        let mut second = parts.determinations[0].clone();
        second.id = determination("2026-06-27-second");
        second.instants.received_at = Some(at(R2));
        parts.determinations.push(second);
    };
    let bundle = changed(second);
    let told: Vec<_> = bundle.contradictions().iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "2026-06-26-lift lifts a requirement for mythos-5, and 2026-06-27-second still imposes one: the strict \
          reading holds until counsel marks one of them"
        ]
    );
    let family = bundle.registry().resolve("mythos-5").unwrap();
    let regime = bundle.regime(family, Now::exactly(at(R2)));
    assert!(regime.imposed_by.is_some() && !regime.limbs.contains(Limb::AnnexEntities));
    // Before counsel signs a draft of it, it neither binds nor contradicts.
    let draft = changed(|parts| {
        second(parts);
        parts.determinations[3].state = DeterminationState::Draft;
    });
    assert_eq!(draft.contradictions(), []);
}

#[test]
fn what_widens_counts_from_the_signature_and_what_is_in_force_keeps_its_own() {
    let (before, now) = (sample(), at("2026-07-02T09:00:00Z"));
    // The same files again change nothing.
    assert_eq!(before.adopting(&sample_parts(), now), sample_parts());
    // A draft that is signed is approved now, not when it says; an approval to come is waited for.
    let signed = before.adopting(&rescinded_parts(), now);
    assert_eq!(signed.determinations[2].instants.approved_at, Some(now));
    assert_eq!(signed.determinations[..2], sample_parts().determinations[..2]);
    let mut later = rescinded_parts();
    later.determinations[2].instants.approved_at = Some(at("2026-07-09T00:00:00Z"));
    assert_eq!(before.adopting(&later, now), later);
    // The files of that draft, adopted once more, keep the instant that is on record.
    let after = Bundle::new(signed.clone()).unwrap();
    assert_eq!(after.adopting(&rescinded_parts(), at("2026-08-01T00:00:00Z")), signed);
    // An imposition counts from its earliest instant, whoever signs when; a lift that is changed is a new one.
    let mut parts = sample_parts();
    parts.determinations[0].models.push(model("sonata-4"));
    parts.determinations[1].models.push(model("fable-5"));
    let changed = before.adopting(&parts, now);
    assert_eq!(changed.determinations[0].instants.approved_at, None);
    assert_eq!(changed.determinations[1].instants.approved_at, Some(now));
}

/// The sample with one determination ended as of this instant.
fn ended(index: usize, state: DeterminationState, when: &str) -> BundleParts {
    let mut parts = sample_parts();
    parts.determinations[index].state = state;
    parts.determinations[index].ended_at = Some(at(when));
    if state == DeterminationState::Superseded {
        parts.determinations[index].superseded_by = Some(determination(LIFT));
    }
    parts
}

fn law_of<'a>(bundle: &'a Bundle, name: &str, when: &str) -> Regime<'a> {
    bundle.regime(bundle.registry().resolve(name).unwrap(), Now::exactly(at(when)))
}

fn is_suspended(bundle: &Bundle, when: &str) -> bool {
    let family = bundle.registry().resolve("fable-5").unwrap();
    bundle.rules(family, Now::exactly(at(when))).any(|rule| rule == PolicyRule::SuspendAll)
}

#[test]
fn a_requirement_that_ended_binds_nobody_from_then_and_policy_ends_only_with_a_rescission() {
    const END: &str = "2026-07-02T00:00:00Z";
    for (state, goes_on) in [
        (DeterminationState::Enjoined, true),
        (DeterminationState::Superseded, true),
        (DeterminationState::Rescinded, false),
    ] {
        let bundle = Bundle::new(ended(0, state, END)).unwrap();
        assert_eq!(bundle.inconsistencies(), []);
        assert!(law_of(&bundle, "fable-5", "2026-07-01T23:59:59Z").imposed_by.is_some());
        assert!(law_of(&bundle, "fable-5", END).imposed_by.is_none(), "{state}");
        assert!(is_suspended(&bundle, "2026-07-01T23:59:59Z"));
        assert_eq!(is_suspended(&bundle, END), goes_on, "{state}: question Q20");
        assert_eq!(bundle.next_instant_after(at(R3)), Some(at(END)));
    }
}

#[test]
fn a_lift_that_ended_lifts_nothing_from_then() {
    let bundle = Bundle::new(ended(1, DeterminationState::Enjoined, R2)).unwrap();
    let limbs = |when| law_of(&bundle, "mythos-5", when).limbs;
    assert!(limbs("2026-06-27T11:59:59Z").contains(Limb::AnnexEntities));
    assert!(!limbs(R2).contains(Limb::AnnexEntities));
    assert_eq!(bundle.contradictions(), []);
}

#[test]
fn the_end_of_a_requirement_waits_for_the_signature_and_that_of_a_lift_does_not() {
    let (before, signed_at) = (sample(), at("2026-07-02T09:00:00Z"));
    let end = |parts: BundleParts| {
        let adopted = before.adopting(&parts, signed_at);
        (adopted.determinations[0].ended_at, adopted.determinations[1].ended_at)
    };
    let (early, late) = ("2026-07-01T00:00:00Z", "2026-07-09T00:00:00Z");
    assert_eq!(end(ended(0, DeterminationState::Rescinded, early)).0, Some(signed_at));
    assert_eq!(end(ended(0, DeterminationState::Rescinded, late)).0, Some(at(late)));
    assert_eq!(end(ended(1, DeterminationState::Enjoined, early)).1, Some(at(early)));
    assert_eq!(end(ended(1, DeterminationState::Enjoined, late)).1, Some(signed_at));
    // What is on record stays, and so does the instant from which the lift held.
    let adopted = before.adopting(&ended(1, DeterminationState::Enjoined, late), signed_at);
    assert_eq!(adopted.determinations[1].instants, sample_parts().determinations[1].instants);
    let again = Bundle::new(adopted.clone()).unwrap().adopting(&adopted, at("2026-08-01T00:00:00Z"));
    assert_eq!(again, adopted);
}

#[test]
fn a_state_without_its_end_and_an_end_without_its_state_are_named() {
    let told = "determination 2026-06-12-imposition, ";
    assert_eq!(
        wrong(|parts| parts.determinations[0].state = DeterminationState::Enjoined),
        format!("{told}state: it is ENJOINED, and ended_at does not say from when")
    );
    assert_eq!(
        wrong(|parts| parts.determinations[0].ended_at = Some(at(R2))),
        format!("{told}ended_at: it is COUNTERSIGNED, which has no end")
    );
    assert!(
        wrong(|parts| {
            *parts = ended(0, DeterminationState::Superseded, R2);
            parts.determinations[0].superseded_by = None;
        })
        .starts_with(&format!("{told}superseded_by: what is SUPERSEDED names"))
    );
    let unknown = {
        let mut parts = ended(0, DeterminationState::Superseded, R2);
        parts.determinations[0].superseded_by = Some(determination("nobody"));
        Bundle::new(parts).unwrap_err()
    };
    assert!(matches!(unknown, BundleFault::UnknownDetermination { .. }));
}
