//! Models: names, look-alikes, and descent.

use super::fixtures::{model, sample};
use crate::domain::bundle::{Bundle, BundleFault};
use crate::domain::model::{DESCENT_MAX, MODEL_NAME_LEN_MAX, Model, Registry, RegistryFault};

fn named(id: &str, aliases: &[&str], parent: Option<&str>) -> Model {
    Model {
        id: model(id),
        aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
        descends_from: parent.map(model),
    }
}

#[test]
fn every_name_in_any_ascii_case_is_the_model() {
    let registry = Registry::new(vec![named("mythos-5", &["Claude Mythos 5", "MYTHOS_5"], None)]).unwrap();
    for name in ["mythos-5", "MYTHOS-5", "claude mythos 5", "CLAUDE MYTHOS 5", "mythos_5"] {
        assert_eq!(registry.resolve(name), Some([model("mythos-5")].as_slice()), "{name}");
    }
}

#[test]
fn what_only_looks_like_a_name_is_none() {
    let bundle = sample();
    let long = "m".repeat(MODEL_NAME_LEN_MAX + 1);
    for name in [
        "",
        " ",
        "mythos",
        "mythos-5 ",
        " mythos-5",
        "mythos-5\n",
        "mythos-5\0",
        "mythos\u{2010}5",
        "myth\u{43e}s-5",
        "m\u{443}thos-5",
        "mythos-\u{ff15}",
        "\u{2133}ythos-5",
        "mythos-5\u{200b}",
        "\u{130}mythos-5",
        "MYTHO\u{17f}-5",
        &long,
    ] {
        assert_eq!(bundle.registry().resolve(name), None, "{name:?}");
    }
}

#[test]
fn a_family_is_the_model_and_its_ancestors_nearest_first() {
    let registry =
        Registry::new(vec![named("c", &[], Some("b")), named("a", &[], None), named("b", &[], Some("a"))]);
    let registry = registry.unwrap();
    assert_eq!(registry.resolve("c").unwrap(), [model("c"), model("b"), model("a")]);
    assert_eq!(registry.resolve("a").unwrap(), [model("a")]);
    assert_eq!(registry.models().count(), 3);
}

#[test]
fn two_models_never_share_a_name() {
    let taken = |models: Vec<Model>| match Registry::new(models) {
        Err(RegistryFault::NameTaken(name)) => name,
        other => panic!("{other:?}"),
    };
    assert_eq!(taken(vec![named("a", &["X"], None), named("b", &["x"], None)]), "x");
    assert_eq!(taken(vec![named("a", &["B"], None), named("b", &[], None)]), "b");
    assert_eq!(taken(vec![named("a", &[], None), named("a", &[], None)]), "a");
    assert!(Registry::new(vec![named("a", &["A", "a"], None)]).is_ok(), "its own name twice is one name");
}

#[test]
fn an_alias_is_printable_ascii_and_short() {
    for alias in ["", "caf\u{e9}", "tab\t", &"x".repeat(MODEL_NAME_LEN_MAX + 1)] {
        let fault = Registry::new(vec![named("a", &[alias], None)]);
        assert!(matches!(fault, Err(RegistryFault::BadAlias(_))), "{alias:?}");
    }
    assert!(Registry::new(vec![named("a", &[&"x".repeat(MODEL_NAME_LEN_MAX)], None)]).is_ok());
}

#[test]
fn descent_ends_at_a_registered_model_within_its_bound() {
    let circle = vec![named("a", &[], Some("b")), named("b", &[], Some("a"))];
    assert!(matches!(Registry::new(circle), Err(RegistryFault::Descent(_))));
    let itself = vec![named("a", &[], Some("a"))];
    assert!(matches!(Registry::new(itself), Err(RegistryFault::Descent(_))));
    let orphan = vec![named("a", &[], Some("b"))];
    assert_eq!(Registry::new(orphan), Err(RegistryFault::UnknownParent(model("a"), model("b"))));
    let chain = |len: usize| {
        let ids: Vec<_> = (0..len).map(|n| format!("m{n}")).collect();
        let parent = |n: usize| n.checked_sub(1).map(|n| ids[n].as_str());
        Registry::new((0..len).map(|n| named(&ids[n], &[], parent(n))).collect())
    };
    assert!(chain(DESCENT_MAX).is_ok());
    assert!(matches!(chain(DESCENT_MAX + 1), Err(RegistryFault::Descent(_))));
}

#[test]
fn a_bundle_names_only_what_it_holds() {
    let fault = |change: fn(&mut crate::domain::bundle::BundleParts)| {
        let mut parts = super::fixtures::sample_parts();
        change(&mut parts);
        Bundle::new(parts).unwrap_err()
    };
    assert!(matches!(fault(|p| drop(p.models.remove(0))), BundleFault::Models(_)));
    assert!(matches!(fault(|p| drop(p.models.remove(1))), BundleFault::UnknownModel { .. }));
    assert!(matches!(fault(|p| drop(p.determinations.remove(0))), BundleFault::UnknownDetermination { .. }));
    let twice = fault(|p| p.determinations.push(p.determinations[0].clone()));
    assert!(matches!(twice, BundleFault::Twice(_)));
    let nothing = fault(|p| p.determinations[1].amends.clear());
    assert!(matches!(nothing, BundleFault::AmendsNothing(_)));
    let many = fault(|p| p.rules = vec![p.rules[0].clone(); 1_001]);
    assert_eq!(many, BundleFault::TooMany("rules"));
    // A determination names a model by its own name.
    let alias = fault(|p| p.determinations[0].models = vec![model("mythos-5-latest")]);
    assert!(matches!(alias, BundleFault::UnknownModel { .. }));
}
