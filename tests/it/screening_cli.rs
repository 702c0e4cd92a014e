//! `countersign screening` as officers use it.

use std::time::Duration;

use serde_json::Value;

use crate::cli_served::Served;
use crate::screening::csv;

/// The service looks once a second; a busy machine may need many times that.
const LOOKS: u32 = 600;
const LOOK: Duration = Duration::from_millis(50);

fn applicant(served: &Served, name: &str) -> String {
    let applied = served.by("alice", &["entity", "apply", "--name", name, "--organisation", "US"]).done();
    applied.json()["id"].as_str().unwrap().to_owned()
}

/// The standing of screening once everybody is compared.
fn compared(served: &Served) -> Value {
    for _ in 0..LOOKS {
        let listed = served.by("alice", &["screening", "list"]).done().json();
        if listed["waiting"] == 0 && listed["list_version"] != "" {
            return listed;
        }
        std::thread::sleep(LOOK);
    }
    panic!("entities are never compared");
}

#[test]
fn a_list_is_imported_and_a_match_resolved_with_a_reason() {
    let served = Served::start();
    let entity = applicant(&served, "Northwind Quantum Inc.");
    let date = served.by("alice", &["audit", "head"]).done().json()["time"].as_str().unwrap().to_owned();
    let text = csv(&[("a1", "Northwynd Quantum Ltd.", "NQ"), ("a2", "Far Away Shipping", "")]);
    std::fs::write(served.desk.path("consolidated.csv"), &text).unwrap();
    std::fs::write(served.desk.path("cut.csv"), &text[..text.len() - 40]).unwrap();
    let import = |file: &str, more: &[&str]| {
        let version = ["screening", "import", file, "--list-version", "csl-1", "--list-date", &date];
        served.by("alice", &[&version[..], more].concat())
    };
    import("cut.csv", &["--commit"]).fails(&["cut.csv: the file is truncated"]);
    import("data/countersign.toml", &["--commit"]).fails(&["expected is consolidated.csv"]);
    let checked = import("consolidated.csv", &[]).done();
    assert!(checked.err.contains("CSV with 2 entries (EL 2)"), "{}", checked.err);
    assert_eq!(checked.json()["committed"], false);
    let unchanged = served.by("alice", &["screening", "list"]).done().json();
    assert_eq!(unchanged["list_version"], "");
    assert_eq!(import("consolidated.csv", &["--commit"]).done().json()["committed"], true);
    let listed = compared(&served);
    assert_eq!((&listed["entries"], &listed["open_matches"]), (&2.into(), &1.into()), "{listed}");
    let shown = served.by("alice", &["screening", "show", &entity]).done().json();
    let hit = &shown[0];
    assert_eq!(
        (&hit["listed_name"], &hit["result"]),
        (&"Northwynd Quantum Ltd.".into(), &"UNRESOLVED".into())
    );
    assert!(hit["explanation"].as_str().unwrap().contains("northwind is close to northwynd"), "{hit}");
    served.by("alice", &["entity", "activate", &entity]).fails(&["SCREENING_PENDING"]);
    let entry = &hit["entry"].as_str().unwrap()[..12];
    let resolve = ["screening", "resolve", &entity, entry, "--reason", "another registry number"];
    let undecided = served.by("alice", &resolve);
    assert!(undecided.code == 64 && undecided.err.contains("--false-positive"), "{}", undecided.err);
    let unknown = ["screening", "resolve", &entity, "ffffffffffff", "--confirm", "--reason", "x"];
    served.by("alice", &unknown).fails(&["has no match"]);
    let resolved = served.by("alice", &[&resolve[..], &["--false-positive", "--commit"]].concat()).done();
    assert!(resolved.err.contains("FALSE_POSITIVE"), "{}", resolved.err);
    // Names this close are cleared by two.
    assert_eq!((&hit["score"], &resolved.json()["committed"]), (&96.into(), &false.into()));
    served.by("alice", &["entity", "activate", &entity]).fails(&["SCREENING_PENDING"]);
    let proposal = resolved.json()["proposal"].as_str().unwrap().to_owned();
    served.by("bob", &["approvals", "approve", &proposal, "--yes"]).done();
    served.by("alice", &["entity", "activate", &entity]).done();
    let again = served.by("alice", &["screening", "show", &entity]).done().json();
    assert_eq!(again[0]["reason"], "another registry number");
    assert_eq!(served.by("alice", &["screening", "list"]).done().json()["matches"], serde_json::json!([]));
}

#[test]
fn scenario_41_near_identical_names_are_shown_and_never_matched() {
    let served = Served::start();
    let one = applicant(&served, "Harborview Systems Inc.");
    let other = applicant(&served, "Harbourview Systems LLC");
    applicant(&served, "Unrelated Bakery");
    std::fs::write(served.desk.path("annex.txt"), "Harborview Systems, Inc.\nNobody Known\n\n").unwrap();
    let found = served.by("alice", &["screening", "candidates", "annex.txt"]).done().json();
    let [harborview, nobody] = found.as_array().unwrap().as_slice() else { panic!("{found}") };
    let candidates = harborview["candidates"].as_array().unwrap();
    let ids: Vec<_> = candidates.iter().map(|c| c["entity_id"].as_str().unwrap()).collect();
    assert_eq!(ids, [one.as_str(), other.as_str()], "the exact one first, and the other one too");
    assert!(candidates.iter().all(|c| c["score"].as_u64().unwrap() >= 85), "{harborview}");
    // Even an exact name is nobody's until a person says so: nothing was matched, and nothing is on record.
    assert_eq!((&harborview["matched"], &nobody["candidates"]), (&Value::Null, &serde_json::json!([])));
    for entity in [&one, &other] {
        let shown = served.by("alice", &["entity", "show", entity]).done().json();
        assert_eq!(shown["entity_class"], "UNLISTED");
    }
    std::fs::write(served.desk.path("latin.txt"), b"Caf\xe9 Systems\n").unwrap();
    served.by("alice", &["screening", "candidates", "latin.txt"]).fails(&["line 1 is not UTF-8"]);
    std::fs::write(served.desk.path("empty.txt"), "\n").unwrap();
    served.by("alice", &["screening", "candidates", "empty.txt"]).fails(&["no names"]);
}
