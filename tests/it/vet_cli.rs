//! `countersign person vet` and `person tokens`: what a second officer does with an imported list, and what the partner gets.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::cli_served::Served;

fn lines(served: &Served, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(served.desk.path(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Imports so many people of a new entity, by alice; their subjects are in `subjects.jsonl`.
fn imported(served: &Served, count: usize) -> Vec<String> {
    let applied = ["entity", "apply", "--name", "Acme Inc.", "--organisation", "US"];
    let entity = served.by("alice", &applied).done().json()["id"].as_str().unwrap().to_owned();
    let mut text = "entity_id,reference,relation\n".to_owned();
    (0..count).for_each(|n| text.push_str(&format!("{entity},E-{n},EMPLOYEE\n")));
    std::fs::write(served.desk.path("people.csv"), text).unwrap();
    let import = ["person", "import", "people.csv", "--commit", "--results", "subjects.jsonl"];
    served.by("alice", &import).done();
    lines(served, "subjects.jsonl").iter().map(|row| row["subject_id"].as_str().unwrap().to_owned()).collect()
}

fn counts(value: &Value, names: &[&str]) -> Vec<u64> {
    names.iter().map(|name| value[name].as_u64().unwrap()).collect()
}

#[test]
fn a_second_officer_decides_on_a_list_and_each_person_gets_one_token() {
    let served = Served::start();
    let people = imported(&served, 3);
    let row = |n: usize, rest: &str| format!("{},{rest}\n", people[n]);
    let header = "subject_id,decision,evidence,verified_on,assurance\n";
    let approved = "APPROVE,CITIZEN_OR_NATIONAL,2026-06-27,IAL2";
    let text = format!("{header}{}{}{}", row(0, approved), row(1, approved), row(2, "REFUSE,,,"));
    std::fs::write(served.desk.path("decisions.csv"), text).unwrap();
    let vet = |by: &str, more: &[&str]| served.by(by, &[&["person", "vet", "decisions.csv"], more].concat());
    let names = ["decided", "unchanged", "refused", "signatures"];
    let own = vet("alice", &["--commit"]);
    assert_eq!((own.code, counts(&own.json(), &names)), (1, vec![1, 0, 2, 1]), "{}", own.err);
    let found = lines(&served, "decisions.csv.errors.jsonl");
    assert_eq!(found.iter().map(|row| row["line"].as_u64().unwrap()).collect::<Vec<_>>(), [2, 3]);
    assert!(found[0]["message"].as_str().unwrap().contains("alice nominated"), "{found:?}");
    let checked = vet("bob", &[]).done();
    assert_eq!(counts(&checked.json(), &names), [2, 1, 0, 0]);
    assert!(checked.err.contains("2 approved: US_PERSON on CITIZEN_OR_NATIONAL, IAL2"), "{}", checked.err);
    assert_eq!(counts(&vet("bob", &["--commit"]).done().json(), &names), [2, 1, 0, 1]);
    assert_eq!(counts(&vet("bob", &["--commit"]).done().json(), &names), [0, 3, 0, 0]);

    let tokens = |more: &[&str]| {
        let tokens = ["person", "tokens", "subjects.jsonl", "--out", "tokens.jsonl"];
        served.by("alice", &[&tokens, more].concat())
    };
    let names = ["created", "unchanged", "refused"];
    let checked = tokens(&[]);
    assert_eq!((checked.code, counts(&checked.json(), &names)), (1, vec![2, 0, 1]));
    assert!(!served.desk.path("tokens.jsonl").exists());
    let made = tokens(&["--commit"]);
    assert_eq!((made.code, counts(&made.json(), &names)), (1, vec![2, 0, 1]));
    let refusal = &lines(&served, "subjects.jsonl.errors.jsonl")[0];
    assert_eq!((&refusal["line"], &refusal["reason"]), (&3.into(), &"WRONG_STATE".into()));
    let path = served.desk.path("tokens.jsonl");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let first = std::fs::read(&path).unwrap();
    assert_eq!(counts(&tokens(&["--commit"]).json(), &names), [0, 2, 1]);
    assert_eq!(std::fs::read(&path).unwrap(), first, "nobody gets a second one");
    // A list of decisions is a list of people, too, and who was refused there is left out.
    let of_decisions = ["person", "tokens", "decisions.csv", "--out", "tokens.jsonl", "--commit"];
    let done = served.by("alice", &of_decisions).done().json();
    assert_eq!((counts(&done, &names), &done["left_out"]), (vec![0, 2, 0], &1.into()));
    // A line that was being written when something ended the command is made anew.
    let rows = lines(&served, "tokens.jsonl");
    let whole: usize = first.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    std::fs::write(&path, &first[..whole + 40]).unwrap();
    assert_eq!(counts(&served.by("alice", &of_decisions).done().json(), &names), [1, 1, 0]);
    let after = lines(&served, "tokens.jsonl");
    assert_eq!((&after[0], after.len()), (&rows[0], 2));
    assert_ne!(after[1]["token"], rows[1]["token"]);
    let subjects: BTreeSet<_> = after.iter().map(|row| row["subject_id"].as_str().unwrap()).collect();
    assert_eq!(subjects, people.iter().take(2).map(String::as_str).collect());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    tokens(&["--commit"]).fails(&["chmod 600"]);
}

#[test]
fn a_row_that_is_wrong_is_refused_alone() {
    let served = Served::start();
    let people = imported(&served, 2);
    let (good, other) = (&people[0], &people[1]);
    let header = "subject_id,decision,evidence,verified_on,assurance,reverify_due\n";
    let rows = [
        format!("{good},APPROVE,NO_US_STATUS,2026-06-27,IAL2,"),
        format!("{good},REFUSE,,,,"),
        format!("{other},MAYBE,,,,"),
        format!("{other},REFUSE,NO_US_STATUS,,,"),
        format!("{other},APPROVE,NO_US_STATUS,,IAL2,"),
        format!("{other},APPROVE,PASSPORT,2026-06-27,IAL2,"),
        "ent_1,REFUSE,,,,".to_owned(),
        "sub_01ARZ3NDEKTSV4RRFFQ69G5FAV,REFUSE,,,,".to_owned(),
        format!("{other},APPROVE,,,,"),
    ];
    std::fs::write(served.desk.path("decisions.csv"), format!("{header}{}\n", rows.join("\n"))).unwrap();
    let vet = served.by("bob", &["person", "vet", "decisions.csv", "--commit", "--errors", "bad.jsonl"]);
    assert_eq!((vet.code, &vet.json()["decided"], &vet.json()["refused"]), (1, &1.into(), &8.into()));
    let found = lines(&served, "bad.jsonl");
    let at = |row: &Value| (row["line"].as_u64().unwrap(), row["column"].as_str().unwrap().to_owned());
    let places: BTreeSet<_> = found.iter().map(at).collect();
    let expected = [
        (3, "subject_id"),
        (4, "decision"),
        (5, "evidence"),
        (6, "verified_on"),
        (7, "evidence"),
        (8, "subject_id"),
        (9, ""),
        (10, ""),
    ];
    assert_eq!(places, expected.map(|(line, column)| (line, column.to_owned())).into());
    // The fields of lines of JSON are the same, and nothing else is one.
    std::fs::write(
        served.desk.path("decisions.jsonl"),
        format!(
            "{{\"subject_id\":\"{other}\",\"decision\":\"REFUSE\",\"line\":1}}\n{{\"subject_id\":\"{good}\"}}\n\
             {{\"subject_id\":\"{good}\",\"decision\":\"REFUSE\",\"name\":\"x\"}}\n\
             {{\"subject_id\":\"{good}\",\"decision\":\"REFUSE\",\"decision\":\"APPROVE\"}}\n[]\n"
        ),
    )
    .unwrap();
    let vet = served.by("bob", &["person", "vet", "decisions.jsonl", "--commit", "--errors", "bad.jsonl"]);
    assert_eq!((vet.code, &vet.json()["decided"], &vet.json()["refused"]), (1, &1.into(), &4.into()));
    let found = lines(&served, "bad.jsonl");
    let says = |n: usize| found[n]["message"].as_str().unwrap();
    assert!(says(0).contains("the field decision is missing"), "{}", says(0));
    assert!(says(1).contains("the field name is unknown"), "{}", says(1));
    assert!(says(2).contains("the field decision is there twice"), "{}", says(2));
    assert!(says(3).contains("expected an object"), "{}", says(3));
}
