use std::path::Path;

use super::{load, run};
use crate::domain::id::DeterminationId;

fn shipped() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/policy"))
}

fn vectors(name: &str) -> std::fs::File {
    std::fs::File::open(format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// A copy of the shipped bundle in which one file's text is changed.
fn edited(file: &str, from: &str, to: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("determinations")).unwrap();
    for name in [
        "models.toml",
        "posture.toml",
        "provider-policy.toml",
        "determinations/2026-06-12-imposition.toml",
        "determinations/2026-06-26-lift.toml",
        "determinations/2026-06-30-rescission.toml",
    ] {
        let mut text = std::fs::read_to_string(shipped().join(name)).unwrap();
        if name == file {
            assert!(text.contains(from), "{name} has no {from:?}");
            text = text.replacen(from, to, 1);
        }
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

#[test]
fn every_vector_of_the_sample_agrees() {
    let report = run(&load(shipped(), &[]).unwrap(), vectors("decisions.csv")).unwrap();
    assert_eq!((report.vectors, report.mismatches), (524, vec![]));
}

#[test]
fn every_vector_after_the_rescission_agrees_once_the_draft_is_activated() {
    let draft: DeterminationId = "2026-06-30-rescission".parse().unwrap();
    let report = run(&load(shipped(), &[draft]).unwrap(), vectors("decisions-after-rescission.csv")).unwrap();
    assert_eq!((report.vectors, report.mismatches), (40, vec![]));
}

#[test]
fn a_draft_changes_no_decision() {
    let report = run(&load(shipped(), &[]).unwrap(), vectors("decisions-after-rescission.csv")).unwrap();
    assert!(!report.mismatches.is_empty());
}

#[test]
fn a_vector_that_disagrees_is_reported_with_its_line() {
    let csv = "at,model,subject,relation,entity,org,place,licence,grant,legal,rule,policy,access\n\
               2026-06-27T12:00:00Z,MYTHOS_5,FOREIGN_PERSON,EMPLOYEE,PROVIDER,US,US,NONE,ACTIVE,EXEMPT,L-21,,PERMIT\n";
    let report = run(&load(shipped(), &[]).unwrap(), csv.as_bytes()).unwrap();
    let mismatch = &report.mismatches[0];
    assert_eq!((mismatch.line, mismatch.decided.as_str()), (2, "EXEMPT,L-20,,PERMIT"));
}

#[test]
fn a_word_that_is_not_in_the_vocabulary_names_line_and_column() {
    let csv = "at,model,subject,relation,entity,org,place,licence,grant,legal,rule,policy,access\n\
               2026-06-27T12:00:00Z,MYTHOS_5,ALIEN,EMPLOYEE,PROVIDER,US,US,NONE,ACTIVE,EXEMPT,L-20,,PERMIT\n";
    let error = run(&load(shipped(), &[]).unwrap(), csv.as_bytes()).unwrap_err().to_string();
    assert!(error.starts_with("line 2, column subject: \"ALIEN\" is not one of"), "{error}");
}

#[test]
fn an_unknown_key_is_refused_with_file_line_and_key() {
    let folder = edited("posture.toml", "assurance_min", "assurance_minimum");
    let error = load(folder.path(), &[]).unwrap_err().to_string();
    assert!(error.contains("posture.toml"), "{error}");
    assert!(error.contains("line 7") && error.contains("assurance_minimum"), "{error}");
}

#[test]
fn a_rule_with_two_beginnings_is_refused() {
    let folder = edited(
        "provider-policy.toml",
        "{ at = \"2026-06-13T00:50:00Z\" }",
        "{ at = \"2026-06-13T00:50:00Z\", effective = \"2026-06-26-lift\" }",
    );
    let error = load(folder.path(), &[]).unwrap_err().to_string();
    assert!(error.contains("exactly one of"), "{error}");
}

#[test]
fn a_lift_that_lifts_nothing_is_refused() {
    let folder = edited("determinations/2026-06-26-lift.toml", "amends = [\"2026-06-12-imposition\"]", "");
    let error = load(folder.path(), &[]).unwrap_err().to_string();
    assert!(error.contains("names no determination that it amends"), "{error}");
}

/// The fault of the shipped bundle with one edit, after the folder's path.
fn fault(file: &str, from: &str, to: &str) -> String {
    let folder = edited(file, from, to);
    let error = load(folder.path(), &[]).unwrap_err().to_string();
    error.replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn what_does_not_fit_is_told_with_file_line_and_key() {
    let lift = "determinations/2026-06-26-lift.toml";
    let all = "[\"PROVIDER_FOREIGN_EMPLOYEES\", \"ANNEX_ENTITIES\", \"ANNEX_FOREIGN_EMPLOYEES\"]";
    let rules = "provider-policy.toml";
    let suspension =
        "[[rule]]\nrule = \"P-SUSPEND_ALL\"\nmodels = [\"mythos-5\"]\n\n[[rule]]\nrule = \"P-NO_GRANT\"";
    for (file, from, to, told) in [
        (
            lift,
            all,
            "[]",
            "determinations/2026-06-26-lift.toml, line 10, key beneficiaries: it lifts a requirement for nobody",
        ),
        (
            lift,
            "[\"2026-06-12-imposition\"]",
            "[\n  \"2026-06-12-imposition\",\n  \"2026-07-01-unknown\",\n]",
            "determinations/2026-06-26-lift.toml, line 13, key amends: 2026-06-26-lift names the determination \
             2026-07-01-unknown, which is not in the bundle",
        ),
        (
            lift,
            "amends = [\"2026-06-12-imposition\"]",
            "amends = [\"2026-06-30-rescission\"]",
            "determinations/2026-06-26-lift.toml, line 11, key amends: it lifts 2026-06-30-rescission, which imposes \
             nothing",
        ),
        (
            "determinations/2026-06-30-rescission.toml",
            "id = \"2026-06-30-rescission\"",
            "id = \"2026-06-26-lift\"",
            "determinations/2026-06-30-rescission.toml, line 2, key id: the determination 2026-06-26-lift appears twice",
        ),
        (
            rules,
            "models = [\"fable-5\"]",
            "models = [\"fable-6\"]",
            "provider-policy.toml, line 13, key models: P-SUSPEND_ALL names the model fable-6, which is not registered",
        ),
        (
            rules,
            "until = { effective = \"2026-06-26-lift\" }",
            "until = { at = \"2026-06-12T00:00:00Z\" }",
            "provider-policy.toml, line 9, key until: it ends at 2026-06-12T00:00:00Z, before it begins at \
             2026-06-13T00:50:00Z",
        ),
        (
            rules,
            "[[rule]]\nrule = \"P-NO_GRANT\"",
            suspension,
            "provider-policy.toml, line 19, key models: it overlaps rule 1 of the same name for mythos-5",
        ),
        (
            "models.toml",
            "descends_from = \"mythos-5\"",
            "descends_from = \"mythos-4\"",
            "models.toml, line 15, key descends_from: mythos-5-defender descends from mythos-4, which is not registered",
        ),
        (
            "models.toml",
            "[\"Claude Sonata 4\"]",
            "[\"Claude Sonata 4\", \"mythos 5\"]",
            "models.toml, line 20, key aliases: the name \"mythos 5\" belongs to two models",
        ),
    ] {
        assert_eq!(fault(file, from, to), told);
    }
}

#[test]
fn only_a_draft_can_be_activated() {
    let lift: DeterminationId = "2026-06-26-lift".parse().unwrap();
    let error = load(shipped(), &[lift]).unwrap_err().to_string();
    assert_eq!(error, "2026-06-26-lift is not a draft determination of this bundle");
}

#[test]
fn the_fixture_that_the_domain_tests_use_is_the_shipped_bundle() {
    assert_eq!(load(shipped(), &[]).unwrap(), crate::domain::tests::fixtures::sample());
}
