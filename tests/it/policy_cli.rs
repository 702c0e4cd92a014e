//! A change of law on the command line against a served process: compared, simulated, tested, signed by two, in force.

use crate::cli::root;
use crate::cli_served::Served;
use crate::world::copy_tree;

const HEADER: &str = "at,model,subject,relation,entity,org,place,licence,grant,legal,rule,policy,access\n";

/// The shipped bundle with the rescission signed, in the folder `next`.
fn next(served: &Served) {
    let folder = served.desk.path("next");
    std::fs::create_dir(&folder).unwrap();
    copy_tree(root("deploy/policy").as_ref(), &folder);
    let file = folder.join("determinations/2026-06-30-rescission.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("\"DRAFT\"", "\"COUNTERSIGNED\"")).unwrap();
}

fn state(served: &Served, id: &str) -> (String, String) {
    let listed = served.by("bob", &["policy", "list"]).done().json();
    let row = listed["determinations"].as_array().unwrap().iter().find(|row| row["id"] == id).unwrap();
    let word = |key: &str| row[key].as_str().unwrap().to_owned();
    (word("state"), word("effective_at"))
}

#[test]
fn a_change_of_law_is_compared_simulated_tested_and_signed_by_two() {
    let served = Served::start();
    next(&served);
    let diff = served.by("alice", &["policy", "diff", "--in-force", "next"]).done().json();
    let signed = serde_json::json!({
        "part": "DETERMINATION", "name": "2026-06-30-rescission", "field": "state", "before": "DRAFT",
        "after": "COUNTERSIGNED",
    });
    assert!(diff["changes"].as_array().unwrap().contains(&signed), "{diff}");
    let shipped = root("deploy/policy");
    let local = served.desk.run(&["policy", "diff", &shipped, "next", "--json"]).done().json();
    assert_eq!(local, diff, "two folders need no server");
    let simulated = served.by("bob", &["policy", "simulate", "next"]).done().json();
    assert!(simulated["question"].as_str().unwrap().contains("INFERENCE"), "{simulated}");
    assert_eq!(simulated["forecasts"][0]["loses"]["entities"], 0);

    // One vector that disagrees, and nothing is proposed; nor without any vector.
    let wrong =
        "2026-07-01T12:00:00Z,FABLE_5,US_PERSON,NONE,UNLISTED,US,US,NONE,NONE,LICENSED,L-40,,PERMIT\n";
    std::fs::write(served.desk.path("wrong.csv"), format!("{HEADER}{wrong}")).unwrap();
    std::fs::write(served.desk.path("empty.csv"), HEADER).unwrap();
    for vectors in ["wrong.csv", "empty.csv"] {
        let adopt = ["policy", "adopt", "next", "--vectors", vectors, "--commit"];
        served.by("alice", &adopt).fails(&[vectors, "nothing was proposed"]);
    }
    assert_eq!(served.by("alice", &["approvals", "list"]).done().json()["proposals"], serde_json::json!([]));

    let vectors = root("tests/data/decisions-after-rescission.csv");
    // The second officer runs them too, on exactly the bytes that are signed.
    let adopt = ["policy", "adopt", "next", "--vectors", &vectors, "--commit"];
    let proposed = served.by("alice", &adopt).done().json();
    let proposal = proposed["proposal"].as_str().unwrap();
    let shown = served.by("bob", &["approvals", "show", proposal, "--vectors", &vectors]).done().json();
    assert!(shown["vectors"][0].as_str().unwrap().ends_with("40 vectors, 0 mismatches"), "{shown}");
    assert!(
        shown["changes"].as_array().unwrap().contains(&"    state: DRAFT -> COUNTERSIGNED".into()),
        "{shown}"
    );
    let approve = ["approvals", "approve", proposal, "--yes", "--vectors"];
    let refused = served.by("bob", &[&approve[..], &["wrong.csv"]].concat());
    refused.fails(&["a vector disagrees with this bundle; nothing was signed"]);
    let reject = ["approvals", "reject", proposal, "--reason", "again", "--commit"];
    served.by("bob", &reject).done();
    served.both(&["policy", "adopt", "next", "--vectors", &vectors]);
    let (word, effective) = state(&served, "2026-06-30-rescission");
    assert_eq!(word, "IN_FORCE");
    assert!(
        effective.as_str() > "2026-11",
        "it holds from its second approval, not from its date: {effective}"
    );
    // The same files change nothing any more but what the record wrote.
    let again = served.by("alice", &["policy", "diff", "--in-force", "next"]).done().json();
    let fields: Vec<_> = again["changes"].as_array().unwrap().iter().map(|c| c["field"].clone()).collect();
    assert!(fields.contains(&"approved at".into()) && !fields.contains(&"state".into()), "{again}");
}

#[test]
fn a_determination_ends_and_its_document_goes_on_record() {
    let served = Served::start();
    std::fs::write(served.desk.path("letter.pdf"), "a letter").unwrap();
    served.both(&["determination", "attach", "2026-06-26-lift", "letter.pdf"]);
    served
        .by("alice", &["determination", "attach", "2026-06-26-lift", "letter.pdf"])
        .fails(&["has this document on record already"]);
    let vectors = root("tests/data/decisions.csv");
    let enjoin = ["determination", "enjoin", "2026-06-12-imposition", "--vectors", &vectors];
    served.both(&enjoin);
    assert_eq!(state(&served, "2026-06-12-imposition").0, "ENJOINED");
    served.by("alice", &enjoin).fails(&["only what is COUNTERSIGNED can end"]);
    let unknown = ["determination", "rescind", "2026-01-01-nothing", "--vectors", &vectors];
    served.by("alice", &unknown).fails(&["is not in the bundle in force"]);
    // What explains ends nothing.
    let draft = ["determination", "rescind", "2026-06-30-rescission", "--vectors", &vectors];
    served.by("alice", &draft).fails(&["is DRAFT"]);
}

#[test]
fn one_officer_imposes_from_the_command_line_and_two_end_it() {
    let served = Served::start();
    std::fs::write(served.desk.path("letter.pdf"), "a second letter").unwrap();
    let impose = |rest: &[&str]| {
        let words = ["determination", "impose", "2026-12-01-second", "--model", "mythos-5"];
        served.by("alice", &[&words[..], rest].concat())
    };
    let basis = ["--basis", "15 CFR 744.23", "--document", "letter.pdf"];
    let with = |rest: &[&'static str]| [&basis[..], rest].concat();
    let simulated = impose(&with(&["--simulate"])).done().json();
    assert!(simulated["forecasts"][0]["loses"]["entities"].is_number(), "{simulated}");
    impose(&with(&["--dry-run"])).done();
    impose(&with(&["--kind", "LIFT_FOR_BENEFICIARIES"])).fails(&["one officer imposes", "by two"]);
    let unknown = ["determination", "impose", "2026-12-01-third", "--model", "nothing-1", "--basis", "x"];
    served.by("alice", &unknown).fails(&["nothing-1, which is not registered"]);
    let listed = served.by("bob", &["policy", "list"]).done().json();
    assert!(!listed.to_string().contains("2026-12-01-second"), "nothing changed: {listed}");

    impose(&with(&["--wait"])).done();
    assert_eq!(state(&served, "2026-12-01-second").0, "IN_FORCE");
    impose(&with(&[])).fails(&["this determination exists already"]);
    let listed = served.by("bob", &["policy", "list"]).done().json();
    let told = listed["contradictions"].to_string();
    assert!(told.contains("2026-06-26-lift") && told.contains("2026-12-01-second"), "{listed}");
    let vectors = root("tests/data/decisions.csv");
    served.both(&["determination", "rescind", "2026-12-01-second", "--vectors", &vectors]);
    assert_eq!(state(&served, "2026-12-01-second").0, "RESCINDED");
}
