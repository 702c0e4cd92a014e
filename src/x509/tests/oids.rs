//! docs/oids.md is a promise to others; these tests hold it to the code.

use super::*;
use crate::x509::extension;

const TABLE: &str = include_str!("../../../docs/oids.md");

/// The cells of the rows of the attribute table, in order.
fn rows() -> Vec<Vec<String>> {
    TABLE
        .lines()
        .filter(|line| line.starts_with("| 1.3.6.1.4.1.32473.1."))
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

#[test]
fn every_attribute_has_its_row() {
    let rows = rows();
    assert_eq!(rows.len(), Attribute::ALL.len());
    for (row, attribute) in rows.iter().zip(Attribute::ALL) {
        let [oid, name, kind, meaning, _mutability, since, _example, _bytes] = row.as_slice() else {
            panic!("{row:?} must have eight cells");
        };
        assert_eq!(*oid, attribute.oid(&Arc::default()));
        assert_eq!(name, attribute.name());
        assert!(kind.starts_with("UTF8String"));
        assert_eq!(meaning, attribute.meaning());
        assert_eq!(since, "1");
    }
}

#[test]
fn the_example_bytes_are_the_ones_in_a_certificate() {
    let shop = Workshop::access();
    let facts = Facts::Access(human());
    let der = shop.leaf(&content(facts.clone()));
    for (row, (attribute, text)) in rows().iter().zip(extension::values(Ordinal(40_812), &facts)) {
        let (example, bytes) = (row[6].trim_matches('`'), row[7].trim_matches('`'));
        assert_eq!(example, text, "{attribute}");
        let value = hex::decode(bytes.replace(' ', "")).unwrap();
        assert_eq!(value, extension::encode(&text), "{attribute}");
        assert!(der.windows(value.len()).any(|window| window == value), "{attribute}");
    }
}

#[test]
fn the_encoded_oids_of_the_example_are_right() {
    let prefix = hex::encode(Arc::default().encode_prefix());
    let prefix = prefix.strip_suffix("01").unwrap();
    let row = TABLE.lines().find(|line| line.contains(&format!("`{prefix}`"))).unwrap();
    assert!(row.contains(&format!("`{prefix}0101`")));
}

#[test]
fn the_words_are_those_of_the_vocabularies() {
    let words = |name: &str| {
        let row = TABLE.lines().find(|line| line.starts_with(&format!("| {name} | `"))).unwrap();
        row.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()
    };
    let all = |words: &[&'static str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    assert_eq!(words("entity class"), all(&EntityClass::ALL.iter().map(|w| w.as_str()).collect::<Vec<_>>()));
    assert_eq!(words("subject kind"), all(&SubjectKind::ALL.iter().map(|w| w.as_str()).collect::<Vec<_>>()));
    assert_eq!(
        words("person status"),
        all(&PersonStatus::ALL.iter().map(|w| w.as_str()).collect::<Vec<_>>())
    );
    assert_eq!(words("relation"), all(&Relation::ALL.iter().map(|w| w.as_str()).collect::<Vec<_>>()));
    assert_eq!(
        words("identity assurance"),
        all(&Assurance::ALL.iter().map(|w| w.as_str()).collect::<Vec<_>>())
    );
}
