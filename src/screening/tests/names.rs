use proptest::prelude::*;

use super::files::entry;
use crate::screening::{EntryKind, Hit, ListEntry, NameIndex, Query};

/// The documented default.
const SCORE_MIN: u8 = 82;

/// A list in which ordinary words are ordinary.
fn list() -> NameIndex {
    let mut index = NameIndex::new();
    for (name, alt, country) in [
        ("Huaxin Quantum Technologies Co., Ltd.", &["HQT", "Hua Xin Quantum"][..], "CN"),
        ("Gazprombor OJSC", &["ГАЗПРОМБОР"][..], "RU"),
        ("Académie Générale d'Électronique", &[][..], "FR"),
        ("Kasperovsky Laboratory", &[][..], "RU"),
        ("Beijing Institute of Structural Engineering", &[][..], "CN"),
        ("Al-Nour Trading FZE", &["Al Noor General Trading"][..], "AE"),
        ("ARIA", &[][..], "IR"),
        ("Microsystem Export", &[][..], "RU"),
    ] {
        index.add(entry(name, alt, country)).unwrap();
    }
    for n in 0..400 {
        let words =
            ["Technology", "Trading", "Institute", "Bank", "International", "Industries", "University"];
        let name = format!("Fictional{n} {} {}", words[n % 7], words[(n / 7) % 7]);
        index.add(entry(&name, &[], "CN")).unwrap();
    }
    index
}

fn find<'a>(index: &'a NameIndex, name: &str) -> Vec<Hit<'a>> {
    index.find(Query { name, country: None, score_min: SCORE_MIN })
}

#[test]
fn names_that_a_person_would_call_the_same_are_hits() {
    let index = list();
    for (ours, theirs) in [
        ("Huaxin Quantum Technologies", "Huaxin Quantum Technologies Co., Ltd."),
        ("HUAXIN QUANTUM TECHNOLOGY LLC", "Huaxin Quantum Technologies Co., Ltd."),
        ("Quantum Huaxin Tech GmbH", "Huaxin Quantum Technologies Co., Ltd."),
        ("Hua Xin Quantum Technologies", "Huaxin Quantum Technologies Co., Ltd."),
        ("Huaxin Quantun Technologies", "Huaxin Quantum Technologies Co., Ltd."),
        ("Huaxin Quantum Technologies (Deutschland) GmbH", "Huaxin Quantum Technologies Co., Ltd."),
        ("H.Q.T. Ltd", "Huaxin Quantum Technologies Co., Ltd."),
        ("Газпромбор", "Gazprombor OJSC"),
        ("Gazprombor", "Gazprombor OJSC"),
        ("Academie Generale d’Electronique SA", "Académie Générale d'Électronique"),
        ("Kasperovski Labs", "Kasperovsky Laboratory"),
        ("Beijing Inst. of Structural Engg.", "Beijing Institute of Structural Engineering"),
        ("Al Nour Trading", "Al-Nour Trading FZE"),
        ("Aria", "ARIA"),
        // Latin letters spelled with Cyrillic and Greek ones, full width, digits for letters.
        ("Ниахin Quаntum Technоlogies".trim(), "Huaxin Quantum Technologies Co., Ltd."),
        ("Ｈｕａｘｉｎ Ｑｕａｎｔｕｍ Technologies", "Huaxin Quantum Technologies Co., Ltd."),
        ("Micr0system Exp0rt", "Microsystem Export"),
        ("Μicrosystem Εxport", "Microsystem Export"),
    ] {
        let found = find(&index, ours);
        let names: Vec<_> = found.iter().map(|hit| (hit.entry.name.as_str(), hit.score)).collect();
        assert!(names.iter().any(|(name, _)| *name == theirs), "{ours:?} finds {names:?}");
        assert!(names.len() <= 2, "{ours:?} finds {names:?}");
    }
}

#[test]
fn names_that_only_share_ordinary_words_are_none() {
    let index = list();
    for ours in [
        "Northwind Technologies",
        "Institute of Baking",
        "Aria Bank of Montana Holdings",
        "International Trading University",
        "Hamburg Structural Steel",
        "",
        "GmbH & Co. KG",
        "...",
        "日本",
    ] {
        let found = find(&index, ours);
        assert!(found.is_empty(), "{ours:?} finds {:?} {}", found[0].name, found[0].explanation);
    }
}

#[test]
fn the_score_says_why() {
    let index = list();
    let query = |country| Query { name: "Huaxin Quantun GmbH", country, score_min: 60 };
    let hit = |country| index.find(query(country)).into_iter().next().unwrap();
    let (none, same, other) = (hit(None), hit(Some("CN")), hit(Some("FR")));
    assert!(
        other.score < none.score && none.score < same.score,
        "{} {} {}",
        other.score,
        none.score,
        same.score
    );
    assert!(same.explanation.ends_with("country the same, +2"), "{}", same.explanation);
    assert!(other.explanation.ends_with("country another, -3"), "{}", other.explanation);
    for part in ["its alternative name 2", "quantun is close to quantum (9", "legal forms are not compared"] {
        assert!(none.explanation.contains(part), "{part}: {}", none.explanation);
    }
    let exact = index.find(Query { name: "Huaxin Quantum Technologies", country: Some("FR"), score_min: 82 });
    assert_eq!((exact[0].score, exact.len()), (100, 1), "another country takes nothing from an exact name");
}

#[test]
fn the_name_of_a_person_is_in_no_explanation() {
    let mut index = NameIndex::new();
    for kind in [EntryKind::Individual, EntryKind::Unknown] {
        index.add(ListEntry { kind, ..entry("Johannsen Petrowitz Example", &[], "RU") }).unwrap();
    }
    let found = index.find(Query { name: "Johansen Petrovitz Gmbh", country: None, score_min: 50 });
    assert_eq!(found.len(), 2);
    for hit in found {
        for word in ["johannsen", "petrowitz", "example"] {
            assert!(!hit.explanation.contains(word), "{}", hit.explanation);
        }
    }
}

#[test]
fn ships_and_aircraft_are_no_parties() {
    let mut index = NameIndex::new();
    for kind in [EntryKind::Vessel, EntryKind::Aircraft] {
        index.add(ListEntry { kind, ..entry("Sea Star", &[], "PA") }).unwrap();
    }
    assert!(index.is_empty() && find(&index, "Sea Star").is_empty());
}

proptest! {
    // No word is a legal form by chance: a name of nothing else is kept as it is, and one of more loses it.
    #[test]
    fn every_name_finds_itself_in_any_order_and_case(words in proptest::collection::vec("z[a-z]{3,11}", 1..6), turn in 0usize..6) {
        let mut index = list();
        let name = words.join(" ");
        index.add(entry(&name, &[], "CN")).unwrap();
        let mut turned = words.clone();
        let len = turned.len();
        turned.rotate_left(turn % len);
        let turned = format!("The {}, Inc.", turned.join("-").to_uppercase());
        let found = find(&index, &turned);
        let hit = found.iter().find(|hit| hit.entry.name == name);
        prop_assert!(hit.is_some_and(|hit| hit.score == 100), "{turned} finds {:?}", found.first().map(|hit| hit.name));
    }

    #[test]
    fn no_name_panics_and_scores_stay_within_bounds(name in any::<String>(), other in "\\PC{0,40}") {
        let mut index = list();
        index.add(entry(&other, &[&name], "CN")).unwrap();
        for name in [&name, &other] {
            let found = index.find(Query { name, country: Some("CN"), score_min: 0 });
            prop_assert!(found.iter().all(|hit| hit.score <= 100 && hit.explanation.len() <= 900));
        }
    }

    #[test]
    fn one_letter_changed_in_a_long_name_is_still_a_hit(at in 0usize..12, letter in "[a-z]") {
        let index = list();
        let mut name: Vec<char> = "beijing institute structural engineering".chars().collect();
        name[at] = letter.chars().next().unwrap();
        let name: String = name.into_iter().collect();
        prop_assert!(!find(&index, &name).is_empty(), "{name}");
    }
}
