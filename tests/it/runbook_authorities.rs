//! The sections of docs/operations.md about authorities that rotate by themselves, announced revocations and roots, typed as they
//! stand. What is carried on a medium between the root's machine and the server is copied.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::cli::{Desk, Ended, root};
use crate::cli_served::Served;
use crate::runbook::{Book, authority_of, commands, mentioned, shell};

#[test]
fn authorities_rotate_by_themselves_as_it_is_written() {
    let book = Book::open();
    let heading = "Let it rotate by itself";
    let left = || {
        let listed = book.types("countersign authority list --identity alice").done().json();
        let rows = listed.as_array().unwrap().clone();
        let active = rows.into_iter().find(|row| row["authority_id"] == book.old.as_str()).unwrap();
        active["rotation"]["rotations_left"].as_u64().unwrap()
    };
    book.follows(&commands(heading));
    book.has("PERMIT_ROTATION", 2);
    assert_eq!(left(), 4);
    book.follows(&[format!("{} --identity alice", mentioned(heading, "countersign authority by-hand"))]);
    book.has("WITHDRAW_ROTATION", 1);
    assert_eq!(left(), 0);
    book.verifies();
}

/// A person with an identity in the folder `me`.
fn enroll(served: &Served) {
    let id =
        |arguments: &[&str]| served.by("alice", arguments).done().json()["id"].as_str().unwrap().to_owned();
    let entity = id(&["entity", "apply", "--name", "Acme Inc.", "--organisation", "US"]);
    served.both(&["entity", "activate", &entity]);
    served.both(&["grant", "add", &entity, "--model", "mythos-5", "--from", "2026-01-01T00:00:00Z"]);
    let head = served.by("alice", &["audit", "head"]).done().json();
    let list_date = head["time"].as_str().unwrap();
    let screening = ["screening", "record", &entity, "--list-version", "csl-1", "--list-date", list_date];
    let clear = ["--result", "CLEAR", "--reason", "no match", "--commit"];
    served.by("alice", &[&screening[..], &clear].concat()).done();
    let person = id(&["person", "nominate", "--entity", &entity, "--relation", "EMPLOYEE"]);
    let approve = ["person", "approve", &person, "--evidence", "CITIZEN_OR_NATIONAL", "--assurance", "IAL2"];
    served.by("bob", &[&approve[..], &["--verified-on", "2026-06-27", "--commit"]].concat()).done();
    let token = served.by("alice", &["token", "create", &person]).done().json();
    served.enroll(token["token"].as_str().unwrap(), "me").done();
}

#[test]
fn a_revocation_is_announced_and_cut_as_it_is_written() {
    let book = Book::open();
    enroll(&book.served);
    let heading = "Renew now, cut at T";
    let lines = commands(heading);
    let [announce, hasten, postpone, approve] = lines.as_slice() else { panic!("{lines:#?}") };
    let campaign = || -> Value {
        let listed = book.types("countersign revoke announced --identity alice").done().json();
        let [campaign] = listed.as_array().unwrap().as_slice() else { panic!("{listed}") };
        campaign.clone()
    };
    book.follows(std::slice::from_ref(announce));
    book.has("ANNOUNCE_REVOCATION", 1);
    let announced = campaign();
    assert_eq!((&announced["affected"], &announced["left"]), (&1.into(), &1.into()), "{announced}");
    book.follows(&[mentioned(heading, "countersign renew")]);
    // The index follows the record.
    let renewed = (0..500).map(|_| campaign()).find(|campaign| campaign["left"] == 0);
    assert!(renewed.is_some(), "{:#}", campaign());
    let named = |line: &str| line.replace("ann_...", announced["cause"].as_str().unwrap());
    book.follows(&[named(hasten), named(postpone), approve.clone()]);
    book.has("HASTEN_REVOCATION", 1);
    book.has("POSTPONE_REVOCATION", 2);
    // Now: nobody waits a day here.
    book.follows(&[named(hasten).replace("--in-hours 1", "--in-hours 0")]);
    book.has_event("announcement.passed");
    let verdict = |folder: &str| {
        let certificate = format!("{folder}/certificate.pem");
        let what = ["evaluate", "--certificate", &certificate, "--model", "mythos-5"];
        let place = ["--place", "US", "--serving-region", "US"];
        book.served.by("alice", &[&what[..], &place].concat()).json()["code"].clone()
    };
    assert_eq!(verdict("me"), "CREDENTIAL_REVOKED");
    assert_ne!(verdict("me-next"), "CREDENTIAL_REVOKED");
    book.verifies();
}

impl Desk {
    /// Where the passphrase of a root's key is, in the place of a person who is asked.
    fn secret(&self) {
        std::fs::write(self.path("secret"), "what the root's key is encrypted with\n").unwrap();
        std::fs::set_permissions(self.path("secret"), std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Types a command where no server is.
    fn types(&self, line: &str) {
        Ended::from(shell(self, line).output().unwrap()).done();
    }

    fn carry(&self, from: &str, to: &str) {
        std::fs::copy(self.path(from), self.path(to)).unwrap();
    }
}

/// A command at a ceremony: nobody is there to be asked.
fn at_the_root(line: &str) -> String {
    format!("{} --passphrase file:secret --yes", line.replace(" --passphrase ask", ""))
}

/// The steps that a root's log says.
fn ceremonies(desk: &Desk, folder: &str) -> Vec<String> {
    let log = desk.read(&format!("{folder}/ceremony.log"));
    log.lines().map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect()
}

#[test]
fn authorities_stand_beneath_an_offline_root_as_it_is_written() {
    let lines = commands("Authorities beneath an offline root");
    let [new, init, access, system, list, certified, ask, sign, take, approve, again, bring] =
        lines.as_slice()
    else {
        panic!("{lines:#?}")
    };
    let desk = Desk::with_officers();
    desk.secret();
    let others = format!(
        "--trust-domain example.org --policy {} --provider-name 'Example AI' --officer alice=alice/alice.csr --officer \
         bob=bob/bob.csr --listen 127.0.0.1:0",
        root("deploy/policy")
    );
    desk.types(&at_the_root(new));
    desk.types(&init.replace("...", &others));
    desk.carry("data/access.csr", "access.csr");
    desk.carry("data/system.csr", "system.csr");
    for line in [access, system, list] {
        desk.types(&at_the_root(line));
    }
    desk.carry("root/root.pem", "root.pem");
    desk.types(&certified.replace("...", &others));
    desk.finish();
    let book = Book::of(Served::of(desk));
    book.follows(&[ask.clone(), at_the_root(sign), take.clone(), approve.clone()]);
    book.follows(&[at_the_root(again), bring.clone()]);
    book.has("PREPARE_AUTHORITY", 2);
    book.has("RENEW_ROOT_LIST", 1);
    let desk = &book.served.desk;
    let steps = ["new-root", "certify-authority", "certify-authority", "crl", "certify-authority", "crl"];
    assert_eq!(ceremonies(desk, "root"), steps);
    let next = authority_of(&book.served, "ACCESS", "PREPARED");
    let shown = book.types(&format!("countersign authority show {next} --identity bob")).done().json();
    assert!(shown["root_id"].as_str().unwrap().starts_with("root_"), "{shown}");
    book.verifies();
}

/// Waits until the server shows a certificate of this authority: whoever trusts nothing else gets through. It looks every second.
fn shows_a_certificate_of(book: &Book, authority: &str) {
    let desk = &book.served.desk;
    std::fs::create_dir(desk.path("only")).unwrap();
    for file in ["key.pem", "certificate.pem"] {
        desk.carry(&format!("alice/{file}"), &format!("only/{file}"));
    }
    book.served.by("bob", &["authority", "show", authority, "--out", "only.pem"]).done();
    let bundle = desk.read("only.pem") + &desk.read("new/root.pem");
    std::fs::write(desk.path("only/system-bundle.pem"), bundle).unwrap();
    let shows = (0..500).any(|_| book.served.by("only", &["stop", "list"]).code == 0);
    assert!(shows, "{}", book.served.by("only", &["stop", "list"]).err);
}

/// Prepares, activates and puts an end to an authority of this kind, beneath the new root.
fn beneath_the_new_root(book: &Book, kind: &str) {
    let lines = commands("Authorities beneath an offline root");
    let [.., ask, sign, take, approve, _, _] = lines.as_slice() else { panic!("{lines:#?}") };
    let of_kind = |line: &str| line.replace("ACCESS", kind).replace("--root root ", "--root new ");
    let old = authority_of(&book.served, kind, "ACTIVE");
    book.follows(&[of_kind(ask), at_the_root(&of_kind(sign)), of_kind(take), approve.clone()]);
    let next = authority_of(&book.served, kind, "PREPARED");
    let step = |step: &str| format!("countersign authority {step} --identity alice");
    book.follows(&[step(&format!("activate {next} --commit")), approve.clone()]);
    if kind == "ACCESS" {
        book.follows(&[step(&format!("retire {old} --commit")), approve.clone()]);
        return;
    }
    book.follows(&[step(&format!("taint {old} --reason SUPERSEDED"))]);
    let renew = |who: &str| format!("countersign principal renew --identity {who}");
    book.follows(&[renew("alice"), renew("bob")]);
    shows_a_certificate_of(book, &next);
    book.follows(&[step(&format!("revoke {old} --reason SUPERSEDED --commit")), approve.clone()]);
}

#[test]
fn a_root_is_rotated_as_it_is_written() {
    let lines = commands("Rotate a root");
    let [new, list, cross, online @ .., drop, approve] = lines.as_slice() else { panic!("{lines:#?}") };
    let desk = Desk::beneath_root();
    desk.secret();
    std::fs::rename(desk.path("root"), desk.path("old")).unwrap();
    let book = Book::of(Served::of(desk));
    let desk = &book.served.desk;
    let root_of = |kind: &str| {
        let listed = book.types("countersign authority list --identity alice").done().json();
        let rows = listed.as_array().unwrap();
        let row = rows.iter().find(|row| row["kind"] == kind && row["state"] == "ACTIVE").unwrap();
        row["root_id"].as_str().unwrap().to_owned()
    };
    let old = root_of("ACCESS");
    desk.types(&at_the_root(new));
    desk.types(&at_the_root(list));
    // The old root of this test has no passphrase.
    desk.types(&format!("{cross} --yes"));
    book.follows(online);
    book.has("TRUST_ROOT", 2);
    book.has("ADD_CROSS_CERTIFICATE", 2);
    let drop = drop.replace("root_...", &old);
    let early = book.types(&drop);
    assert_eq!(early.code, 1, "its authorities are trusted: {}", early.out);
    for kind in ["ACCESS", "SYSTEM"] {
        beneath_the_new_root(&book, kind);
        assert_ne!(root_of(kind), old);
    }
    book.follows(&[drop, approve.clone()]);
    book.has("DROP_ROOT", 2);
    assert_eq!(ceremonies(desk, "new"), ["new-root", "crl", "certify-authority", "certify-authority"]);
    assert_eq!(ceremonies(desk, "old").last().unwrap(), "cross-certify-root");
    book.verifies();
}
