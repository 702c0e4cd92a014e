//! The sections of docs/operations.md about officers, typed as they stand: one who leaves, an emergency, and everybody's keys lost.

use std::os::unix::fs::PermissionsExt as _;

use crate::cli::{Desk, Ended};
use crate::cli_served::Served;
use crate::runbook::{Book, commands, mentioned, shell};

/// How often a recovery is asked for once its day has come. Each look is a process; the service looks every second.
const LOOKS: u32 = 500;

#[test]
fn an_officer_leaves_as_it_is_written() {
    let book = Book::open();
    book.served.officer("carol", &["APPROVER"]);
    let heading = "An officer leaves or is compromised";
    let lines = commands(heading);
    let [suspend, remove, approve] = lines.as_slice() else { panic!("{lines:#?}") };
    let said = |begins: &str| {
        // She brought her request in a folder of her own.
        let line = mentioned(heading, begins).replace(" carol.csr", " carol/carol.csr");
        if line.contains("--identity") { line } else { format!("{line} --identity alice") }
    };
    book.follows(std::slice::from_ref(suspend));
    book.has("SUSPEND_PRINCIPAL", 1);
    let stopped = book.types(&said("countersign stop list")).done().json();
    assert_eq!(stopped["suspended_principals"], serde_json::json!(["carol"]));
    assert_eq!(book.types("countersign stop list --identity carol").code, 1);
    book.follows(&[said("countersign principal release"), approve.clone()]);
    book.has("RELEASE_PRINCIPAL", 2);
    book.follows(&["countersign stop list --identity carol".to_owned()]);
    // Certificates, as the section goes on.
    book.follows(&[said("countersign principal certificate"), said("countersign principal renew")]);
    // The key was stolen: she goes for good.
    book.follows(&[suspend.clone(), said("countersign key block"), remove.clone(), approve.clone()]);
    book.has("BLOCK_KEY", 1);
    book.has("REMOVE_PRINCIPAL", 2);
    book.verifies();
}

#[test]
fn the_glass_is_broken_as_it_is_written() {
    let book = Book::open();
    book.served.officer("erin", &["REGISTRAR"]);
    let lines = commands("Break-glass");
    let [stop, close] = lines.as_slice() else { panic!("{lines:#?}") };
    let done = book.types(stop).done().json();
    assert_eq!(done["status"], "ENFORCED", "{done}");
    let listed = book.served.by("alice", &["approvals", "list"]).done().json();
    let [review] = listed["reviews"].as_array().unwrap().as_slice() else { panic!("{listed}") };
    assert_eq!(review["review"], done["review"]);
    book.has("BREAK_GLASS", 1);
    assert!(close.contains(" 412 "), "{close}");
    book.follows(&[close.replace(" 412 ", &format!(" {} ", review["review"]))]);
    book.has("CLOSE_REVIEW", 1);
    book.verifies();
}

/// A service whose recovery keys were made as the section says.
fn with_recovery_keys(heading: &str) -> Book {
    let desk = Desk::with_officers();
    std::fs::write(desk.path("secret"), "what the safes are locked with\n").unwrap();
    std::fs::set_permissions(desk.path("secret"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let new = mentioned(heading, "countersign recovery new").replace("ask", "file:secret");
    for safe in ["safe-1", "safe-2", "safe-3"] {
        Ended::from(shell(&desk, &new.replace("safe-1", safe)).output().unwrap()).done();
    }
    let init = mentioned(heading, "countersign init");
    let (_, keys) = init.split_once(" ... ").unwrap();
    desk.begin_with(&keys.split_whitespace().collect::<Vec<_>>()).done();
    desk.finish();
    std::fs::copy(desk.path("data/trust/system.pem"), desk.path("system.pem")).unwrap();
    Book::of(Served::of(desk))
}

#[test]
fn everybody_lost_their_keys_as_it_is_written() {
    let heading = "Everybody lost their keys";
    let mut book = with_recovery_keys(heading);
    let new_officer = mentioned(heading, "countersign officer new");
    let lines = commands(heading);
    let [prepare, sign, submit] = lines.as_slice() else { panic!("{lines:#?}") };
    // The key of the first safe, and of another; nobody is there to be asked.
    let by_first = format!("{sign} --yes --passphrase file:secret");
    let by_second = by_first.replace("safe-1", "safe-2").replace("1.sig", "2.sig");
    let all = [new_officer, prepare.clone(), by_first, by_second, submit.clone()];
    // Somebody whom nobody knows first, with signatures of his own.
    let of_dave = |line: &str| line.replace("carol", "dave").replace(".sig", ".dave");
    book.follows(&all.each_ref().map(|line| of_dave(line)));
    let listed = book.served.by("alice", &["approvals", "list"]).done().json();
    let id = listed["recoveries"][0]["recovery_id"].as_str().unwrap().to_owned();
    let reject = mentioned(heading, "countersign approvals reject").replace("prp_...", &id);
    book.follows(&[format!("{reject} --identity alice")]);
    book.follows(&all);
    book.has_event("recovery.announced");
    assert_eq!(book.types(submit).done().json()["effective"], false);
    book.served.restart_after(Desk::skip_a_day);
    let answers = (0..LOOKS).map(|_| book.types(submit).done().json());
    answers.into_iter().find(|answer| answer["effective"] == true).expect("it is effective");
    std::fs::copy(book.served.desk.path("system.pem"), book.served.desk.path("carol/system-bundle.pem"))
        .unwrap();
    book.follows(&["countersign approvals list --identity carol".to_owned()]);
    // He is rejected for good, a day later too.
    assert_eq!(book.types(&of_dave(submit)).code, 1);
    book.has_event("proposal.rejected");
    book.has_event("recovery.effective");
    book.verifies();
}
