//! Every combination of the vectors' columns, 8,640 of them, against a second statement of the table.
//!
//! The statement below was written from the reference (domain sections 2.3 to 2.7) alone, in another shape than the
//! code: nothing in it depends on an order. The code asks its rows one after the other and the first that matches
//! decides; here each row says in full when it holds, so that a combination that two rows claim, or none, is seen.
//! It knows no type of the service: it writes a file of vectors, which `policy test` then runs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::{Mismatch, load, run};
use crate::domain::bundle::Bundle;
use crate::domain::determination::{Determination, DeterminationKind, DeterminationState, Instants};
use crate::domain::time::Timestamp;

/// The values of each column in the samples, with the instant after the rescission.
const COLUMNS: [(&str, &[&str]); 9] = [
    (
        "at",
        &[
            "2026-06-12T21:20:59Z",
            "2026-06-12T22:00:00Z",
            "2026-06-20T12:00:00Z",
            "2026-06-27T12:00:00Z",
            AFTER_RESCISSION,
        ],
    ),
    ("model", &["MYTHOS_5", "FABLE_5", "UNCOVERED"]),
    ("subject", &["US_PERSON", "FOREIGN_PERSON", "UNDETERMINED", "WORKLOAD"]),
    ("relation", &["EMPLOYEE", "CONTRACTOR", "NONE"]),
    ("entity", &["PROVIDER", "ANNEX_A", "UNLISTED"]),
    ("org", &["US", "FOREIGN"]),
    ("place", &["US", "ABROAD"]),
    ("licence", &["NONE", "COVERING"]),
    ("grant", &["ACTIVE", "NONE"]),
];
const COMBINATIONS: usize = 8_640;
/// This instant is asked of the bundle with the rescission countersigned, the others of the bundle as it ships.
const AFTER_RESCISSION: &str = "2026-07-01T12:00:00Z";
const HEADER: &str = "at,model,subject,relation,entity,org,place,licence,grant,legal,rule,policy,access\n";

/// What the law has done to a model by an instant. FREE: no requirement; BOUND: a requirement and no lift; LIFTED: a
/// requirement, lifted for beneficiaries. A model at an instant that is not named here is FREE.
const LAW: &str = "
    2026-06-12T22:00:00Z  MYTHOS_5  BOUND
    2026-06-12T22:00:00Z  FABLE_5   BOUND
    2026-06-20T12:00:00Z  MYTHOS_5  BOUND
    2026-06-20T12:00:00Z  FABLE_5   BOUND
    2026-06-27T12:00:00Z  MYTHOS_5  LIFTED
    2026-06-27T12:00:00Z  FABLE_5   BOUND";

/// Row, legal outcome, then when it holds: law, subject, relation, entity, organisation, place, licence. A dot is any
/// value, a bar an alternative. A row that needs several lines has several. DOMESTIC needs no column of its own: every
/// vector is served from the US.
const ROWS: &str = "
    L-01 NOT_CONTROLLED   FREE   .                           .               .                 .       .      .

    L-20 EXEMPT           LIFTED FOREIGN_PERSON              EMPLOYEE        PROVIDER          .       .      .
    L-21 EXEMPT           LIFTED FOREIGN_PERSON|UNDETERMINED EMPLOYEE        ANNEX_A           .       .      .
    L-22 NLR_DOMESTIC     LIFTED US_PERSON                   EMPLOYEE        ANNEX_A           US      US     .
    L-23 EXEMPT           LIFTED US_PERSON                   EMPLOYEE        ANNEX_A           US      ABROAD .
    L-23 EXEMPT           LIFTED US_PERSON                   EMPLOYEE        ANNEX_A           FOREIGN .      .
    L-24 EXEMPT           LIFTED WORKLOAD                    .               ANNEX_A           .       .      .

    L-10 NLR_DOMESTIC     BOUND  US_PERSON                   .               .                 US      US     .
    L-10 NLR_DOMESTIC     LIFTED US_PERSON                   EMPLOYEE        PROVIDER|UNLISTED US      US     .
    L-10 NLR_DOMESTIC     LIFTED US_PERSON                   CONTRACTOR|NONE .                 US      US     .

    L-16 INDETERMINATE    BOUND  UNDETERMINED                .               .                 .       .      .
    L-16 INDETERMINATE    LIFTED UNDETERMINED                EMPLOYEE        PROVIDER|UNLISTED .       .      .
    L-16 INDETERMINATE    LIFTED UNDETERMINED                CONTRACTOR|NONE .                 .       .      .

    L-40 LICENSED         BOUND  FOREIGN_PERSON|WORKLOAD     .               .                 .       .      COVERING
    L-40 LICENSED         BOUND  US_PERSON                   .               .                 US      ABROAD COVERING
    L-40 LICENSED         BOUND  US_PERSON                   .               .                 FOREIGN .      COVERING
    L-40 LICENSED         LIFTED FOREIGN_PERSON              EMPLOYEE        UNLISTED          .       .      COVERING
    L-40 LICENSED         LIFTED FOREIGN_PERSON              CONTRACTOR|NONE .                 .       .      COVERING
    L-40 LICENSED         LIFTED WORKLOAD                    .               PROVIDER|UNLISTED .       .      COVERING
    L-40 LICENSED         LIFTED US_PERSON                   EMPLOYEE        PROVIDER|UNLISTED US      ABROAD COVERING
    L-40 LICENSED         LIFTED US_PERSON                   EMPLOYEE        PROVIDER|UNLISTED FOREIGN .      COVERING
    L-40 LICENSED         LIFTED US_PERSON                   CONTRACTOR|NONE .                 US      ABROAD COVERING
    L-40 LICENSED         LIFTED US_PERSON                   CONTRACTOR|NONE .                 FOREIGN .      COVERING

    L-17 INDETERMINATE    BOUND  WORKLOAD                    .               .                 .       .      NONE
    L-17 INDETERMINATE    LIFTED WORKLOAD                    .               PROVIDER|UNLISTED .       .      NONE

    L-11 LICENSE_REQUIRED BOUND  FOREIGN_PERSON              .               .                 .       US     NONE
    L-11 LICENSE_REQUIRED LIFTED FOREIGN_PERSON              EMPLOYEE        UNLISTED          .       US     NONE
    L-11 LICENSE_REQUIRED LIFTED FOREIGN_PERSON              CONTRACTOR|NONE .                 .       US     NONE
    L-12 LICENSE_REQUIRED BOUND  FOREIGN_PERSON              .               .                 .       ABROAD NONE
    L-12 LICENSE_REQUIRED LIFTED FOREIGN_PERSON              EMPLOYEE        UNLISTED          .       ABROAD NONE
    L-12 LICENSE_REQUIRED LIFTED FOREIGN_PERSON              CONTRACTOR|NONE .                 .       ABROAD NONE

    L-13 LICENSE_REQUIRED BOUND  US_PERSON                   .               .                 .       ABROAD NONE
    L-13 LICENSE_REQUIRED LIFTED US_PERSON                   EMPLOYEE        PROVIDER|UNLISTED .       ABROAD NONE
    L-13 LICENSE_REQUIRED LIFTED US_PERSON                   CONTRACTOR|NONE .                 .       ABROAD NONE
    L-14 LICENSE_REQUIRED BOUND  US_PERSON                   .               .                 FOREIGN US     NONE
    L-14 LICENSE_REQUIRED LIFTED US_PERSON                   EMPLOYEE        PROVIDER|UNLISTED FOREIGN US     NONE
    L-14 LICENSE_REQUIRED LIFTED US_PERSON                   CONTRACTOR|NONE .                 FOREIGN US     NONE";

/// Rule, the models and instants at which it is in force, then when it fails: grant, subject, relation, place, legal
/// outcome. The first failing one of this list is reported. What no column says (standing, assurance, purpose) holds.
const POLICY: &str = "
    P-SUSPEND_ALL       MYTHOS_5 2026-06-20T12:00:00Z                      .    .            .               .      .
    P-SUSPEND_ALL       FABLE_5  2026-06-20T12:00:00Z|2026-06-27T12:00:00Z .    .            .               .      .
    P-NO_GRANT          MYTHOS_5 .                                         NONE .            .               .      .
    P-STATUS_UNVERIFIED MYTHOS_5 2026-06-27T12:00:00Z|2026-07-01T12:00:00Z .    UNDETERMINED .               .      .
    P-NOT_EMPLOYEE      MYTHOS_5 2026-06-27T12:00:00Z|2026-07-01T12:00:00Z .    US_PERSON|FOREIGN_PERSON|UNDETERMINED CONTRACTOR|NONE . NOT_CONTROLLED|NLR_DOMESTIC|EXEMPT|LICENSE_REQUIRED|INDETERMINATE|PROHIBITED
    P-PLACE_NOT_ALLOWED MYTHOS_5 2026-06-27T12:00:00Z|2026-07-01T12:00:00Z .    .            .               ABROAD NOT_CONTROLLED|NLR_DOMESTIC|EXEMPT|LICENSE_REQUIRED|INDETERMINATE|PROHIBITED";

/// The legal outcomes under which access may be permitted.
const ALLOWING: [&str; 4] = ["NOT_CONTROLLED", "NLR_DOMESTIC", "EXEMPT", "LICENSED"];

fn lines(table: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).filter(|words| !words.is_empty())
}

fn fits(pattern: &str, value: &str) -> bool {
    pattern == "." || pattern.split('|').any(|word| word == value)
}

/// What the statement says of one combination: legal outcome, row, policy rule, access.
fn stated(values: &[&'static str]) -> [&'static str; 4] {
    let [at, model, subject, relation, entity, org, place, licence, grant] = values else { panic!("nine") };
    let law = lines(LAW).find(|line| line[..2] == [*at, *model]).map_or("FREE", |line| line[2]);
    let of_row = [law, subject, relation, entity, org, place, licence];
    let rows: Vec<_> = lines(ROWS)
        .inspect(|row| assert_eq!(row.len(), 9, "{row:?}"))
        .filter(|row| row[2..].iter().zip(of_row).all(|(pattern, value)| fits(pattern, value)))
        .collect();
    assert_eq!(rows.len(), 1, "{values:?} has exactly one row, not {rows:?}");
    let (row, legal) = (rows[0][0], rows[0][1]);
    let of_rule = [model, at, grant, subject, relation, place, legal];
    let rule = lines(POLICY)
        .inspect(|rule| assert_eq!(rule.len(), 8, "{rule:?}"))
        .find(|rule| rule[1..].iter().zip(of_rule).all(|(pattern, value)| fits(pattern, value)))
        .map_or("", |rule| rule[0]);
    let access = if ALLOWING.contains(&legal) && rule.is_empty() { "PERMIT" } else { "DENY" };
    [legal, row, rule, access]
}

/// Every combination of the columns.
fn combinations() -> Vec<Vec<&'static str>> {
    COLUMNS.iter().fold(vec![Vec::new()], |prefixes, (_, values)| {
        let extend = |prefix: &Vec<&'static str>, value: &&'static str| {
            prefix.iter().copied().chain([*value]).collect::<Vec<_>>()
        };
        prefixes.iter().flat_map(|prefix| values.iter().map(move |value| extend(prefix, value))).collect()
    })
}

/// The bundle as it ships and the one with the rescission, each with its vectors and what the statement expects of them.
fn bundles() -> [(Bundle, String); 2] {
    let all = combinations();
    assert_eq!(all.len(), COMBINATIONS);
    let mut files = [HEADER.to_owned(), HEADER.to_owned()];
    for values in &all {
        let file = &mut files[usize::from(values[0] == AFTER_RESCISSION)];
        writeln!(file, "{},{}", values.join(","), stated(values).join(",")).unwrap();
    }
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/policy"));
    let [shipped, rescinded] = files;
    let rescission = "2026-06-30-rescission".parse().unwrap();
    [(load(folder, &[]).unwrap(), shipped), (load(folder, &[rescission]).unwrap(), rescinded)]
}

#[test]
fn every_combination_of_the_columns_has_one_row_and_is_decided_as_the_second_statement_says() {
    let mut rows = BTreeMap::new();
    for values in &combinations() {
        *rows.entry(stated(values)[1]).or_insert(0) += 1;
    }
    let mut vectors = 0;
    for (bundle, file) in bundles() {
        let report = run(&bundle, file.as_bytes()).unwrap();
        let first: Vec<_> = report.mismatches.iter().take(20).collect();
        assert_eq!(report.mismatches.len(), 0, "the first: {first:#?}");
        vectors += report.vectors;
    }
    assert_eq!(vectors, u64::try_from(COMBINATIONS).unwrap());
    // Served from the US, so L-15 is out of reach; every other row is some combination's.
    let named: Vec<_> = rows.keys().copied().collect();
    let all = [
        "L-01", "L-10", "L-11", "L-12", "L-13", "L-14", "L-16", "L-17", "L-20", "L-21", "L-22", "L-23",
        "L-24", "L-40",
    ];
    assert_eq!(named, all);
}

/// A licence covers what a requirement reaches; so where policy denies what the law lets be, one that is covered is permitted
/// under its licence once a requirement reaches it (as it is when a membership ends). Nothing else is widened.
#[test]
fn one_more_imposition_turns_a_denial_into_a_permit_under_a_licence_only() {
    let imposed = |models: &[&str]| Determination {
        id: "2026-12-01-imposition".parse().unwrap(),
        kind: DeterminationKind::Impose,
        state: DeterminationState::Countersigned,
        instants: Instants { received_at: Some(Timestamp::default()), ..Instants::default() },
        models: models.iter().map(|model| model.parse().unwrap()).collect(),
        beneficiaries: Vec::new(),
        amends: Vec::new(),
        legal_basis: Vec::new(),
        document: None,
        ended_at: None,
        superseded_by: None,
        document_sha384: None,
    };
    for (bundle, file) in bundles() {
        for models in [&["mythos-5"][..], &["fable-5"], &["mythos-5", "fable-5"]] {
            let after = bundle.with(&imposed(models)).unwrap();
            let report = run(&after, file.as_bytes()).unwrap();
            let narrowed = |m: &Mismatch| m.expected.ends_with("PERMIT") && m.decided.ends_with("DENY");
            let widened = |m: &&Mismatch| {
                let is_licensed = m.decided == "LICENSED,L-40,,PERMIT" && m.inputs.contains(",COVERING,");
                m.expected.ends_with("DENY") && m.decided.ends_with("PERMIT") && !is_licensed
            };
            assert_eq!(report.mismatches.iter().find(widened), None, "{models:?}");
            assert!(report.mismatches.iter().any(narrowed), "{models:?} takes something away");
        }
    }
}

#[test]
fn the_second_statement_agrees_with_the_samples() {
    for name in ["decisions.csv", "decisions-after-rescission.csv"] {
        let path = format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        for line in text.lines().skip(1) {
            let words: Vec<_> = line.split(',').collect();
            let values: Vec<_> = COLUMNS
                .iter()
                .zip(&words)
                .map(|((name, values), word)| {
                    *values.iter().find(|value| *value == word).unwrap_or_else(|| panic!("{name}: {word}"))
                })
                .collect();
            assert_eq!(stated(&values).as_slice(), &words[9..], "{line}");
        }
    }
}

#[test]
fn a_statement_that_is_wrong_in_one_cell_is_seen() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/policy"));
    let bundle = load(folder, &[]).unwrap();
    let values = &combinations()[0];
    let [_, row, rule, _] = stated(values);
    let wrong = format!("{HEADER}{},LICENSED,{row},{rule},PERMIT\n", values.join(","));
    assert_eq!(run(&bundle, wrong.as_bytes()).unwrap().mismatches.len(), 1);
}
