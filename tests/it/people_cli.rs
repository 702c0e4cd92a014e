//! `countersign person import` as a partner's administrator or a registrar uses it, and killed half way.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::cli::{Ended, ended};
use crate::cli_served::Served;
use crate::relay::Relay;

/// How often, and how long each time, a running import is looked at: two minutes.
const LOOKS: u32 = 2_400;
const LOOK: Duration = Duration::from_millis(50);

fn applicant(served: &Served) -> String {
    let applied =
        served.by("alice", &["entity", "apply", "--name", "Acme Inc.", "--organisation", "US"]).done();
    applied.json()["id"].as_str().unwrap().to_owned()
}

fn write(served: &Served, name: &str, text: impl AsRef<[u8]>) {
    std::fs::write(served.desk.path(name), text).unwrap();
}

fn people(served: &Served, entity: &str) -> Vec<Value> {
    served.by("alice", &["person", "list", "--entity", entity]).done().json().as_array().unwrap().clone()
}

fn errors(served: &Served, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(served.desk.path(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_follows_a_carriage_return_on_a_line_is_not_left_away() {
    let served = Served::start();
    let entity = applicant(&served);
    let header = "entity_id,reference,relation\n";
    write(&served, "one.csv", format!("{header}{entity},E-1,EMPLOYEE\r{entity},E-2,EMPLOYEE\r\n"));
    let one = served.by("alice", &["person", "import", "one.csv", "--commit"]);
    assert_eq!(one.code, 1, "{}", one.err);
    let found = errors(&served, "one.csv.errors.jsonl");
    let [fault] = found.as_slice() else { panic!("{found:?}") };
    assert!(fault["message"].as_str().unwrap().contains("carriage return"), "{fault}");
    // A file with no other ends of lines is one long header.
    write(&served, "old.csv", format!("{}{entity},E-1,EMPLOYEE\r", header.replace('\n', "\r")));
    served.by("alice", &["person", "import", "old.csv", "--commit"]).fails(&["carriage return"]);
    assert_eq!(people(&served, &entity).len(), 0);
}

#[test]
fn a_file_is_checked_then_imported_and_then_again_without_effect() {
    let served = Served::start();
    let entity = applicant(&served);
    let header = "entity_id,reference,relation,relation_until\n";
    let rows = format!(
        "{entity},E-1,EMPLOYEE,2027-03-31T00:00:00Z\n{entity},E-2,CONTRACTOR,\n{entity},E-1,EMPLOYEE,\n\
         {entity},\u{415}-3,EMPLOYEE,\n{entity},E-l,EMPLOYEE,\n{entity},{},EMPLOYEE,\n{entity},E-4,BOSS,\n{entity},E-5\n",
        "x".repeat(10 << 20)
    );
    write(&served, "people.csv", format!("{header}{rows}"));
    let import = |more: &[&str]| served.by("alice", &[&["person", "import", "people.csv"], more].concat());
    let checked = import(&[]);
    assert_eq!((checked.code, &checked.json()["committed"]), (1, &false.into()), "{}", checked.err);
    assert_eq!(people(&served, &entity).len(), 0);
    let found = errors(&served, "people.csv.errors.jsonl");
    let at = |n: usize| (found[n]["line"].as_u64().unwrap(), found[n]["column"].as_str().unwrap());
    let says = |n: usize| found[n]["message"].as_str().unwrap();
    assert_eq!(
        (0..found.len()).map(at).collect::<Vec<_>>(),
        [(4, "reference"), (5, "reference"), (6, "reference"), (7, "1"), (8, "relation"), (9, "3")]
    );
    assert!(says(0).contains("the same person is in line 2"), "{}", says(0));
    assert!(says(1).contains("U+0415, which looks like E"), "{}", says(1));
    assert!(says(2).contains("looks like the one in line 4"), "{}", says(2));
    assert!(says(3).contains("longer than 4096 bytes"), "{}", says(3));
    assert!(says(5).contains("2 fields, the header 4"), "{}", says(5));
    let done = import(&["--commit", "--results", "subjects.jsonl", "--errors", "bad.jsonl"]);
    assert_eq!((done.code, &done.json()["nominated"], &done.json()["refused"]), (1, &2.into(), &6.into()));
    assert_eq!(errors(&served, "bad.jsonl"), found);
    let listed: BTreeSet<_> =
        people(&served, &entity).iter().map(|row| row["subject_id"].clone().to_string()).collect();
    let results = errors(&served, "subjects.jsonl");
    assert_eq!(results.iter().map(|row| row["subject_id"].to_string()).collect::<BTreeSet<_>>(), listed);
    // As lines of JSON it is the same list, and the second one is without effect.
    let line = |reference: &str, relation: &str| {
        format!("{{\"entity_id\":\"{entity}\",\"reference\":\"{reference}\",\"relation\":\"{relation}\"}}\n")
    };
    write(&served, "people.jsonl", line("E-2", "CONTRACTOR") + &line("E-7", "EMPLOYEE"));
    let import = ["person", "import", "people.jsonl", "--commit"];
    let done = served.by("alice", &import).done().json();
    assert_eq!((&done["nominated"], &done["unchanged"]), (&1.into(), &1.into()));
    let again = served.by("alice", &import).done().json();
    assert_eq!(
        (&again["nominated"], &again["unchanged"], &again["seq"]),
        (&0.into(), &2.into(), &done["seq"])
    );
}

#[test]
fn a_file_that_is_no_list_is_refused_with_the_place() {
    let served = Served::start();
    let entity = applicant(&served);
    let row = format!("{entity},E-1,EMPLOYEE\n");
    let cases: &[(&str, Vec<u8>, &str)] = &[
        (
            "bom.csv",
            format!("\u{feff}entity_id,reference,relation\n{row}").into(),
            "column 1: it begins with a byte order mark",
        ),
        ("utf16.csv", vec![0xff, 0xfe, b'e', 0], "it is UTF-16"),
        (
            "latin.csv",
            [b"entity_id,reference,relation\n".as_slice(), row.as_bytes(), b"x\xe9\n"].concat(),
            "line 3, column byte 2: it is not UTF-8",
        ),
        ("missing.csv", format!("entity_id,reference\n{row}").into(), "the column relation is missing"),
        (
            "more.csv",
            format!("entity_id,reference,relation,passport\n{row}").into(),
            "line 1, column 4: the column passport is unknown",
        ),
        (
            "twice.csv",
            format!("entity_id,reference,relation,relation\n{row}").into(),
            "column 4: the column relation is there twice",
        ),
        (
            "alike.csv",
            format!("entity_id,r\u{435}ference,relation\n{row}").into(),
            "only looks like reference",
        ),
        ("empty.csv", Vec::new(), "it is empty"),
        ("people.xlsx", row.clone().into(), "must end with .csv or .jsonl"),
    ];
    for (name, bytes, says) in cases {
        write(&served, name, bytes);
        served.by("alice", &["person", "import", name, "--commit"]).fails(&[says]);
    }
    assert_eq!(people(&served, &entity).len(), 0);
}

#[test]
fn an_import_that_is_killed_half_way_ends_like_one_that_was_not() {
    const PEOPLE: usize = 40_000;
    let mut served = Served::start();
    let entity = applicant(&served);
    let mut text = "entity_id,reference,relation\n".to_owned();
    (0..PEOPLE).for_each(|n| text.push_str(&format!("{entity},E-{n},EMPLOYEE\n")));
    write(&served, "people.csv", text);
    let seq =
        |served: &Served| served.by("alice", &["audit", "head"]).done().json()["record"].as_u64().unwrap();
    let before = seq(&served);
    let import = ["person", "import", "people.csv", "--commit", "--results", "subjects.jsonl"];
    let spawn = |url: &str| {
        let connection = ["--server", url, "--identity", "alice", "--json"];
        let mut command = served.desk.command(&[&import[..], &connection].concat());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut client = spawn(&served.url);
    let reached = (0..LOOKS).any(|_| {
        std::thread::sleep(LOOK);
        seq(&served) > before + 3_000
    });
    assert!(reached, "nobody is imported");
    client.kill().unwrap();
    assert!(!ended(&mut client).success(), "it was killed half way");
    let recorded = seq(&served) - before;
    assert!(recorded < PEOPLE as u64, "{recorded}");
    // The connection breaks, and the service is another process when it is back: the command itself goes on.
    let relay = Relay::until(&served.url, 1 << 20);
    let client = spawn(&relay.url);
    assert!((0..LOOKS).any(|_| {
        std::thread::sleep(LOOK);
        relay.is_cut()
    }));
    served.restart_after(|_| ());
    relay.mend(&served.url);
    let done: Ended = client.wait_with_output().unwrap().into();
    assert!(done.err.contains("trying again in"), "{}", done.err);
    let done = done.done().json();
    let count = |field: &str| done[field].as_u64().unwrap();
    assert_eq!((count("nominated") + count("unchanged"), count("refused")), (PEOPLE as u64, 0));
    assert!(count("unchanged") > 3_000 && count("nominated") > 0, "{done}");
    let subjects =
        |rows: Vec<Value>| rows.iter().map(|row| row["subject_id"].to_string()).collect::<BTreeSet<_>>();
    let taken = subjects(errors(&served, "subjects.jsonl"));
    assert_eq!(taken.len(), PEOPLE, "one subject for each");
    // Nobody is on record beside them: what else there is are starts and blocks of ordinals.
    assert!(seq(&served) - before < PEOPLE as u64 + 100);
    let again = served.by("alice", &import).done().json();
    assert_eq!(again["unchanged"].as_u64(), Some(PEOPLE as u64));
    assert_eq!(subjects(errors(&served, "subjects.jsonl")), taken);
}
