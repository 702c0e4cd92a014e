//! `audit decisions|hold|exposure`, `explain` and `replay` as officers type them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cli_served::Served;

/// A decision is on disk within a tenth of a second; a busy machine may need many times that.
const LOOKS: u32 = 600;
const LOOK: Duration = Duration::from_millis(50);

/// The decision with this name, once it is on disk.
fn recorded(served: &Served, id: &str) -> Value {
    for _ in 0..LOOKS {
        let found = served.by("alice", &["audit", "decisions", "--id", id]).done().json();
        if let [decision] = found.as_array().unwrap().as_slice() {
            return decision.clone();
        }
        std::thread::sleep(LOOK);
    }
    panic!("{id} is never on record");
}

#[test]
fn a_decision_is_found_exported_and_replayed() {
    let served = Served::start();
    let asked =
        ["evaluate", "--certificate", "alice/certificate.pem", "--model", "mythos-5", "--place", "US"];
    let denied = served.by("alice", &asked);
    assert_eq!(denied.code, 2, "{}{}", denied.out, denied.err);
    let id = denied.json()["decision"].as_str().unwrap().to_owned();
    let found = recorded(&served, &id);
    assert_eq!((&found["code"], &found["place"]), (&json!("CREDENTIAL_WRONG_KIND"), &json!("US")));
    let none = ["audit", "decisions", "--outcome", "permit"];
    assert_eq!(served.by("alice", &none).done().json(), json!([]));
    let lines = served.by("alice", &["audit", "decisions", "--id", &id, "--ocsf"]).done().out;
    let event: Value = serde_json::from_str(lines.trim_end()).unwrap();
    assert_eq!((&event["class_uid"], &event["metadata"]["uid"]), (&json!(6_003), &json!(id)));
    let replayed = served.by("alice", &["replay", &id]).done().json();
    assert_eq!((&replayed["same"], &replayed["recorded"]), (&json!(true), &replayed["again"]));
    served.by("alice", &["replay", "dec_01ARZ3NDEKTSV4RRFFQ69G5FAV"]).fails(&["no such decision"]);
    assert_eq!(served.by("alice", &["replay", "x"]).code, 64);
    assert_eq!(served.by("alice", &["audit", "exposure"]).done().json(), json!([]));
}

#[test]
fn an_access_is_explained_step_by_step() {
    let served = Served::start();
    let applied =
        served.by("alice", &["entity", "apply", "--name", "Northwind Inc.", "--organisation", "US"]);
    let entity = applied.done().json()["id"].as_str().unwrap().to_owned();
    let nominated =
        served.by("alice", &["person", "nominate", "--entity", &entity, "--relation", "EMPLOYEE"]);
    let person = nominated.done().json()["id"].as_str().unwrap().to_owned();
    let explained = served.by("alice", &["explain", &entity, &person, "mythos-5", "--place", "US"]);
    assert_eq!(explained.code, 2, "{}{}", explained.out, explained.err);
    let explained = explained.json();
    let step = |rule: &str| {
        let steps = explained["steps"].as_array().unwrap();
        steps
            .iter()
            .find(|step| step["rule"] == rule)
            .unwrap_or_else(|| panic!("{rule}: {explained}"))
            .clone()
    };
    assert_eq!((&step("G5")["finding"], &step("G1")["finding"]), (&json!("FAILS"), &json!("HOLDS")));
    assert_eq!(step("P-NO_GRANT")["stage"], "POLICY");
    assert!(
        explained["facts"]
            .as_array()
            .unwrap()
            .iter()
            .any(|fact| fact["object"] == format!("entity {entity}"))
    );
    let nobody = ["explain", &entity, "sub_01ARZ3NDEKTSV4RRFFQ69G5FAV", "mythos-5"];
    served.by("alice", &nobody).fails(&["no such subject"]);
    let early = ["explain", &entity, &person, "mythos-5", "--at", "2020-01-01T00:00:00Z"];
    served.by("alice", &early).fails(&["the record begins at"]);
}

#[test]
fn one_officer_holds_records_and_two_release_them() {
    let served = Served::start();
    let place = |since: &str, more: &[&str]| {
        let what = ["audit", "hold", "place", "doj-1", "--since", since, "--reason", "a request"];
        served.by("alice", &[&what[..], more].concat())
    };
    let list = || served.by("alice", &["audit", "hold", "list"]).done().json();
    assert_eq!(place("2026-06-12T00:00:00Z", &[]).done().json()["committed"], false);
    assert_eq!(list(), json!([]));
    place("2026-06-12T00:00:00Z", &["--commit"]).done();
    assert_eq!((&list()[0]["id"], &list()[0]["since"]), (&json!("doj-1"), &json!("2026-06-12T00:00:00Z")));
    // It can only hold more.
    place("2026-06-13T00:00:00Z", &["--commit"]).fails(&["which two officers release"]);
    place("2026-06-11T00:00:00Z", &["--commit"]).done();
    let release = served.by("alice", &["audit", "hold", "release", "doj-1", "--commit"]).done().json();
    assert_eq!(release["committed"], false);
    assert_eq!(list()[0]["since"], "2026-06-11T00:00:00Z");
    served.by("bob", &["approvals", "approve", release["proposal"].as_str().unwrap(), "--yes"]).done();
    assert_eq!(list(), json!([]));
    served
        .by("alice", &["audit", "hold", "release", "doj-1", "--commit"])
        .fails(&["no such hold on records"]);
}
