//! Instants: when determinations and rules take effect, half-open intervals, and the margin of live decisions.

use crate::domain::bundle::{Bundle, BundleParts};
use crate::domain::decision::{Case, Legal, judge};
use crate::domain::determination::{Determination, DeterminationKind, DeterminationState, Limb};
use crate::domain::entity::{EntityClass, Membership, Organisation};
use crate::domain::person::{PersonStatus, Relation};
use crate::domain::policy::PolicyRule;
use crate::domain::tests::fixtures::*;
use crate::domain::tests::world::card;
use crate::domain::time::{Interval, Now, Timestamp};

const IMPOSED: &str = "2026-06-12T21:21:00Z";
const SUSPENDED: &str = "2026-06-13T00:50:00Z";
const LIFTED: &str = "2026-06-26T22:00:00Z";
const RESCINDED: &str = "2026-06-30T21:00:00Z";

fn outcome(bundle: &Bundle, name: &str, now: Now) -> (Legal, Option<PolicyRule>) {
    let family = bundle.registry().resolve(name).unwrap();
    let grant = grant(1, name);
    let decision = judge(bundle, &case(family, &grant), now);
    (decision.legal, decision.policy)
}

fn legal_at(bundle: &Bundle, name: &str, at: Timestamp) -> Legal {
    outcome(bundle, name, Now::exactly(at)).0
}

#[test]
fn each_regime_holds_from_its_instant_and_not_before() {
    let bundle = Bundle::new(rescinded_parts()).unwrap();
    for (instant, before, after) in [
        (IMPOSED, Legal::NotControlled, Legal::LicenseRequired),
        (LIFTED, Legal::LicenseRequired, Legal::Exempt),
        (RESCINDED, Legal::Exempt, Legal::NotControlled),
    ] {
        assert_eq!(legal_at(&bundle, "mythos-5", at(instant).plus_ms(-1)), before, "before {instant}");
        assert_eq!(legal_at(&bundle, "mythos-5", at(instant)), after, "at {instant}");
    }
}

#[test]
fn the_lift_of_one_model_leaves_the_other_where_it_was() {
    let bundle = sample();
    assert_eq!(legal_at(&bundle, "fable-5", at(LIFTED)), Legal::LicenseRequired);
}

#[test]
fn the_suspension_holds_from_its_instant_until_the_determination_that_ends_it() {
    let bundle = Bundle::new(rescinded_parts()).unwrap();
    let rule = |name, instant: &str, ms| outcome(&bundle, name, Now::exactly(at(instant).plus_ms(ms))).1;
    assert_eq!(rule("mythos-5", SUSPENDED, -1), None);
    assert_eq!(rule("mythos-5", SUSPENDED, 0), Some(PolicyRule::SuspendAll));
    assert_eq!(rule("mythos-5", LIFTED, -1), Some(PolicyRule::SuspendAll));
    assert_eq!(rule("mythos-5", LIFTED, 0), None);
    assert_eq!(rule("fable-5", RESCINDED, -1), Some(PolicyRule::SuspendAll));
    assert_eq!(rule("fable-5", RESCINDED, 0), None);
}

#[test]
fn while_the_rescission_is_a_draft_the_suspension_has_no_end() {
    let in_a_year = Now::exactly(at("2027-07-01T00:00:00Z"));
    assert_eq!(
        outcome(&sample(), "fable-5", in_a_year),
        (Legal::LicenseRequired, Some(PolicyRule::SuspendAll))
    );
}

#[test]
fn with_the_margin_an_imposition_begins_a_second_early_and_a_lift_a_second_late() {
    let bundle = sample();
    let legal = |instant: &str, ms| outcome(&bundle, "mythos-5", Now::with_margin(at(instant).plus_ms(ms))).0;
    assert_eq!(legal(IMPOSED, -1001), Legal::NotControlled);
    assert_eq!(legal(IMPOSED, -1000), Legal::LicenseRequired);
    assert_eq!(legal(LIFTED, 999), Legal::LicenseRequired);
    assert_eq!(legal(LIFTED, 1000), Legal::Exempt);
}

#[test]
fn with_the_margin_a_rule_begins_a_second_early_and_ends_a_second_late() {
    let bundle = sample();
    let suspended = |instant: &str, ms| {
        let (_, rule) = outcome(&bundle, "mythos-5", Now::with_margin(at(instant).plus_ms(ms)));
        rule == Some(PolicyRule::SuspendAll)
    };
    assert!(!suspended(SUSPENDED, -1001) && suspended(SUSPENDED, -1000));
    assert!(suspended(LIFTED, 999) && !suspended(LIFTED, 1000));
}

#[test]
fn with_the_margin_there_is_no_instant_that_is_freer_than_exactly_there() {
    let bundle = Bundle::new(rescinded_parts()).unwrap();
    for instant in [IMPOSED, SUSPENDED, LIFTED, RESCINDED] {
        for ms in (-2_000..=2_000).step_by(250) {
            for name in ["mythos-5", "fable-5"] {
                let family = bundle.registry().resolve(name).unwrap();
                let grant = grant(1, name);
                let case = case(family, &grant);
                let now = at(instant).plus_ms(ms);
                let live = judge(&bundle, &case, Now::with_margin(now));
                let stated = judge(&bundle, &case, Now::exactly(now));
                assert!(!live.is_permit() || stated.is_permit(), "{name} at {now}");
            }
        }
    }
}

#[test]
fn an_interval_has_its_beginning_and_not_its_end() {
    let interval = Interval { from: at(R1), until: Some(at(R2)) };
    let exactly = |instant: &str, ms| Now::exactly(at(instant).plus_ms(ms));
    for (now, inside) in
        [(exactly(R1, -1), false), (exactly(R1, 0), true), (exactly(R2, -1), true), (exactly(R2, 0), false)]
    {
        assert_eq!((interval.permits(now), interval.restricts(now)), (inside, inside), "{now:?}");
    }
    let with_margin = |instant: &str, ms| Now::with_margin(at(instant).plus_ms(ms));
    assert!(!interval.permits(with_margin(R1, 999)) && interval.permits(with_margin(R1, 1000)));
    assert!(interval.permits(with_margin(R2, -1001)) && !interval.permits(with_margin(R2, -1000)));
    assert!(!interval.restricts(with_margin(R1, -1001)) && interval.restricts(with_margin(R1, -1000)));
    assert!(interval.restricts(with_margin(R2, 999)) && !interval.restricts(with_margin(R2, 1000)));
}

fn change(parts: &mut BundleParts, name: &str, change: impl FnOnce(&mut Determination)) {
    change(parts.determinations.iter_mut().find(|d| d.id.as_str() == name).unwrap());
}

#[test]
fn an_imposition_takes_effect_at_the_earliest_instant_and_a_lift_at_the_latest() {
    let mut parts = sample_parts();
    let (oral, letter, approved) = (at("2026-06-12T20:00:00Z"), at("2026-06-14T00:00:00Z"), at(R1));
    for name in [IMPOSITION, LIFT] {
        change(&mut parts, name, |d| {
            d.instants.stated_at = Some(letter);
            d.instants.received_at = Some(oral);
            d.instants.approved_at = Some(approved);
        });
    }
    let effective = |at: usize| parts.determinations[at].effective_at();
    assert_eq!((effective(0), effective(1)), (Some(oral), Some(approved)));
}

#[test]
fn a_draft_or_an_undated_determination_takes_no_effect() {
    let mut parts = sample_parts();
    change(&mut parts, IMPOSITION, |d| d.state = DeterminationState::Draft);
    let bundle = Bundle::new(parts).unwrap();
    assert_eq!(legal_at(&bundle, "mythos-5", at(R1)), Legal::NotControlled);
    let mut parts = sample_parts();
    change(&mut parts, LIFT, |d| d.instants = Default::default());
    let bundle = Bundle::new(parts).unwrap();
    assert_eq!(legal_at(&bundle, "mythos-5", at(R2)), Legal::LicenseRequired);
}

#[test]
fn a_stay_changes_nothing_until_counsel_says_so() {
    let mut parts = sample_parts();
    let stay = Determination {
        id: determination("2026-06-15-stay"),
        kind: DeterminationKind::Enjoin,
        ..parts.determinations[0].clone()
    };
    parts.determinations.push(Determination { amends: vec![determination(IMPOSITION)], ..stay });
    let bundle = Bundle::new(parts).unwrap();
    assert_eq!(legal_at(&bundle, "mythos-5", at(R1)), Legal::LicenseRequired);
}

/// A second imposition on Mythos from June 20, and a lift of it with these limbs, if any.
fn imposed_twice(limbs: Option<&[Limb]>) -> Bundle {
    let mut parts = sample_parts();
    let mut second = Determination { id: determination("second"), ..parts.determinations[0].clone() };
    second.instants.received_at = Some(at(R1));
    parts.determinations.push(second);
    if let Some(limbs) = limbs {
        let lift = Determination {
            id: determination("second-lift"),
            amends: vec![determination("second")],
            beneficiaries: limbs.to_vec(),
            ..parts.determinations[1].clone()
        };
        parts.determinations.push(lift);
    }
    Bundle::new(parts).unwrap()
}

#[test]
fn of_two_impositions_the_one_that_is_not_lifted_decides() {
    assert_eq!(legal_at(&imposed_twice(None), "mythos-5", at(R2)), Legal::LicenseRequired);
}

#[test]
fn a_place_in_one_annex_lifts_no_imposition_that_another_annex_lifts() {
    let bundle = imposed_twice(Some(Limb::ALL));
    let family = bundle.registry().resolve("mythos-5").unwrap();
    let now = Now::exactly(at(R2));
    let grant = grant(1, "mythos-5");
    for annex in [LIFT, "second-lift"] {
        let mut card = card(PROVIDER);
        card.is_provider = false;
        card.memberships = vec![Membership {
            determination: determination(annex),
            revision: 1,
            interval: Interval { from: at(R1), until: None },
        }];
        let class = card.class_under(bundle.regime(family, now).lifted_by, now);
        let decision = judge(&bundle, &Case { class, ..case(family, &grant) }, now);
        assert_eq!(decision.legal, Legal::LicenseRequired, "listed in the annex of {annex} alone");
    }
    // The provider's own staff need no annex: both lifts name them.
    let own = Case { class: EntityClass::Provider, ..case(family, &grant) };
    assert_eq!(judge(&bundle, &own, now).legal, Legal::Exempt);
}

#[test]
fn a_limb_counts_only_from_the_lift_whose_annex_lists_the_entity() {
    // A later lift of the same imposition names the provider's staff alone and lists nobody.
    let mut parts = sample_parts();
    let later = Determination {
        id: determination("later-lift"),
        beneficiaries: vec![Limb::ProviderForeignEmployees],
        ..parts.determinations[1].clone()
    };
    parts.determinations.push(later);
    let bundle = Bundle::new(parts).unwrap();
    let family = bundle.registry().resolve("mythos-5").unwrap();
    let regime = bundle.regime(family, Now::exactly(at(R2)));
    assert_eq!(regime.lifted_by, Some(&determination(LIFT)), "the annex that lists entities");
    assert!(Limb::ALL.iter().all(|limb| regime.limbs.contains(*limb)));
}

#[test]
fn membership_of_another_determinations_annex_is_no_membership() {
    let now = Now::exactly(at(R2));
    let mut card = card(PROVIDER);
    card.is_provider = false;
    card.memberships = vec![Membership {
        determination: determination("another"),
        revision: 1,
        interval: Interval { from: at(R1), until: Some(at(R3)) },
    }];
    assert_eq!(card.class_under(Some(&determination(LIFT)), now), EntityClass::Unlisted);
    assert_eq!(card.class_under(None, now), EntityClass::Unlisted);
    assert_eq!(card.class(now), EntityClass::AnnexA);
    assert_eq!(card.class(Now::exactly(at(R3))), EntityClass::Unlisted, "its end is outside");
}

#[test]
fn the_next_instant_is_the_next_edge_of_anything() {
    let bundle = Bundle::new(rescinded_parts()).unwrap();
    let mut instants = vec![at("2026-01-01T00:00:00Z")];
    while let Some(next) = bundle.next_instant_after(instants[instants.len() - 1]) {
        instants.push(next);
    }
    assert_eq!(instants[1..], [at(IMPOSED), at(SUSPENDED), at(LIFTED), at(RESCINDED)]);
}

#[test]
fn domestic_asks_for_place_organisation_and_region() {
    let bundle = sample();
    let family = bundle.registry().resolve("mythos-5").unwrap();
    let grant = grant(1, "mythos-5");
    let us = Case { who: human(PersonStatus::UsPerson, Relation::Employee), ..case(family, &grant) };
    assert!(us.is_within_us());
    assert!(!Case { place: place("CA"), ..us }.is_within_us());
    assert!(!Case { serving: place("CA"), ..us }.is_within_us());
    assert!(!Case { org: Organisation::Foreign, ..us }.is_within_us());
}
