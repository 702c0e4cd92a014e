//! Officers at the command line, against a served process: suspended and released, in an emergency without the role, and one of
//! them with two keys or two certificates.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::cli::ended;
use crate::cli_served::Served;

impl Served {
    /// An officer of these roles, whose identity is in the folder of that name.
    pub(crate) fn officer(&self, name: &str, roles: &[&str]) {
        let csr = format!("{name}/{name}.csr");
        self.desk.run(&["officer", "new", "--name", name, "--out", name]).done();
        let mut register = vec!["principal", "register", "--name", name, "--kind", "officer", "--csr", &csr];
        roles.iter().for_each(|role| register.extend(["--role", role]));
        self.both(&register);
        self.certified(name, &csr).done();
        for file in ["system-bundle.pem", "log-key.pem"] {
            let to = self.desk.path(&format!("{name}/{file}"));
            std::fs::copy(self.desk.path(&format!("alice/{file}")), to).unwrap();
        }
    }

    /// Another officer fetches the certificate for a request.
    fn certified(&self, name: &str, csr: &str) -> crate::cli::Ended {
        let out = format!("{name}/certificate.pem");
        self.by("bob", &["principal", "certificate", "--name", name, "--csr", csr, "--out", &out])
    }

    fn reviews(&self) -> Vec<Value> {
        self.by("bob", &["approvals", "list"]).done().json()["reviews"].as_array().unwrap().clone()
    }

    /// What a command printed for people.
    fn told(&self, identity: &str, arguments: &[&str]) -> String {
        let connection = ["--server", &self.url, "--identity", identity];
        self.desk.run(&[arguments, &connection].concat()).done().out
    }

    fn propose(&self, who: &str, arguments: &[&str]) -> String {
        let done = self.by(who, &[arguments, &["--commit"]].concat()).done().json();
        done["proposal"].as_str().unwrap_or_else(|| panic!("{done}")).to_owned()
    }
}

/// The certificate that is there, and its key's file, kept in another folder.
fn keep(served: &Served, from: &str, to: &str) {
    std::fs::create_dir_all(served.desk.path(to)).unwrap();
    for entry in std::fs::read_dir(served.desk.path(from)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), served.desk.path(to).join(entry.file_name())).unwrap();
    }
}

#[test]
fn a_suspension_ends_the_open_connection_of_an_officer_until_two_release() {
    let served = Served::start();
    let suspend = |by: &str, whom: &str, more: &[&str]| {
        let what = ["principal", "suspend", whom, "--reason", "KEY_COMPROMISE"];
        served.by(by, &[&what[..], more].concat())
    };
    // Two approvers are left, always.
    suspend("alice", "bob", &[]).fails(&["WRONG_STATE", "so that two remain", "principal register"]);
    suspend("alice", "carol", &[]).fails(&["NOT_FOUND", "no such principal"]);
    served.officer("carol", &["APPROVER"]);
    served.by("alice", &["stop", "engage", "--all", "--reason", "DRILL"]).done();
    let proposed = served.propose("carol", &["stop", "release", "--all"]);
    let mut watch = served.desk.command(&["gateway", "watch", "--json", "--identity", "carol"]);
    watch.args(["--server", &served.url]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut watch = watch.spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("sessions"), "it is open");
    // Only checked, nothing is signed and she goes on.
    assert_eq!(suspend("alice", "carol", &["--dry-run"]).done().json()["committed"], false);
    served.by("carol", &["stop", "list"]).done();
    let done = suspend("alice", "carol", &["--wait"]).done().json();
    assert_eq!((&done["status"], &done["durable"]), (&"ENFORCED".into(), &true.into()), "{done}");
    // Her stream ends by itself, and says why; so does her next call.
    assert_eq!(ended(&mut watch).code(), Some(1));
    let mut said = String::new();
    std::io::Read::read_to_string(&mut watch.stderr.take().unwrap(), &mut said).unwrap();
    let why = "carol is suspended (KEY_COMPROMISE); two officers release it";
    assert!(said.contains(why) && said.contains("ask another officer"), "{said}");
    assert!(!said.contains("--identity"), "the folder is the right one: {said}");
    served.by("carol", &["stop", "list"]).fails(&[why]);
    served.by("carol", &["principal", "renew"]).fails(&[why]);
    served.certified("carol", "carol/carol.csr").fails(&["WRONG_STATE", why]);
    let listed = served.by("bob", &["stop", "list"]).done().json();
    assert_eq!(listed["suspended_principals"], json!(["carol"]));
    // What she proposed is over, and nobody suspends her twice.
    let shown = served.by("bob", &["approvals", "show", &proposed]).done().json();
    assert_eq!(shown["status"], "LAPSED", "{shown}");
    served.by("bob", &["approvals", "approve", &proposed, "--yes"]).fails(&["waits no more: LAPSED"]);
    suspend("bob", "carol", &[]).fails(&["EXISTS"]);
    // One does not release her, she does not, and two do.
    let release = ["principal", "release", "carol"];
    assert_eq!(served.by("bob", &release).done().json()["committed"], false);
    served.by("carol", &[&release[..], &["--commit"]].concat()).fails(&[why]);
    served.both(&release);
    served.by("carol", &["stop", "list"]).done();
    served.by("bob", &release).fails(&["NOT_FOUND", "no such suspension"]);
}

#[test]
fn in_an_emergency_an_officer_stops_without_the_role_and_another_one_reviews_it() {
    let served = Served::start();
    served.officer("erin", &["REGISTRAR"]);
    served.officer("vera", &["AUDITOR"]);
    let why = "nobody of security answers since 02:10";
    let stop = ["stop", "engage", "--model", "mythos-5", "--reason", "MISUSE"];
    let glass = |who: &str, more: &[&str]| served.by(who, &[&stop[..], &["--break-glass"], more].concat());
    // Who lacks the role is told of the way that is open; who has it is told to do without.
    served.by("vera", &stop).fails(&["DENIED", "add --break-glass REASON"]);
    glass("alice", &[why]).fails(&[
        "DENIED",
        "alice holds a role that may do this",
        "leave out --break-glass",
    ]);
    assert_eq!(glass("vera", &[]).code, 64, "a reason is needed");
    glass("vera", &[""]).fails(&["INVALID", "reason", "1 to 1000"]);
    assert_eq!(glass("vera", &[why, "--dry-run"]).done().json()["committed"], false);
    assert!(served.reviews().is_empty(), "nothing was done");
    let done = glass("vera", &[why, "--wait"]).done();
    assert!(done.err.contains("EMERGENCY") && done.err.contains(why), "{}", done.err);
    let done = done.json();
    assert_eq!((&done["status"], &done["review"]), (&"ENFORCED".into(), &done["record"]));
    // Stopped, and the review is there by itself: in the list, and in the log as an error.
    assert_eq!(served.by("bob", &["stop", "list"]).done().json()["stops"], json!(["model mythos-5"]));
    let [review] = served.reviews().try_into().unwrap();
    assert_eq!(review["review"], done["record"]);
    assert_eq!(
        (&review["command"], &review["objects"], &review["officers"], &review["reason"]),
        (&"STOP".into(), &json!(["stop of model mythos-5"]), &json!(["vera"]), &why.into())
    );
    served.logged(|line| line["level"] == "ERROR" && line["seq"] == done["record"]);
    let number = done["record"].to_string();
    let line = served.told("bob", &["approvals", "list"]);
    assert!(line.contains(&format!("REVIEW {number}  STOP (stop of model mythos-5) by vera")), "{line}");
    // Not by who did it, not by who may not judge it, and not another one.
    let close = |who: &str, number: &str, more: &[&str]| {
        let what = ["approvals", "close-review", number, "--finding", "the stop was right"];
        served.by(who, &[&what[..], more].concat())
    };
    close("vera", &number, &["--commit"])
        .fails(&["DENIED", "vera broke the glass; another officer reviews it"]);
    close("erin", &number, &["--commit"]).fails(&[
        "NEEDS_APPROVAL",
        "none of the roles",
        "use one with the role",
    ]);
    let ended = close("alice", "first", &["--commit"]);
    assert!(ended.code == 64 && ended.err.contains("approvals list"), "{}", ended.err);
    close("alice", "1", &["--commit"]).fails(&["NOT_FOUND", "no such review"]);
    let blank = ["approvals", "close-review", &number, "--finding", "", "--commit"];
    served.by("alice", &blank).fails(&["INVALID", "finding"]);
    assert_eq!(close("alice", &number, &[]).done().json()["committed"], false);
    assert_eq!(served.reviews().len(), 1, "it was only checked");
    close("alice", &number, &["--commit"]).done();
    assert!(served.reviews().is_empty());
    close("bob", &number, &["--commit"]).fails(&["NOT_FOUND", "no such review"]);
    // The stop stays until two release it.
    served.both(&["stop", "release", "--model", "mythos-5"]);
}

#[test]
fn every_command_that_takes_away_can_be_an_emergency_and_none_that_gives() {
    let served = Served::start();
    served.officer("vera", &["VETTER"]);
    served.officer("erin", &["REGISTRAR"]);
    let id =
        |arguments: &[&str]| served.by("alice", arguments).done().json()["id"].as_str().unwrap().to_owned();
    let entity = id(&["entity", "apply", "--name", "Acme Inc.", "--organisation", "US"]);
    let person = id(&["person", "nominate", "--entity", &entity, "--relation", "EMPLOYEE"]);
    let authorities = served.by("alice", &["authority", "list"]).done().json();
    let access = authorities.as_array().unwrap().iter().find(|row| row["kind"] == "ACCESS").unwrap();
    let access = access["authority_id"].as_str().unwrap().to_owned();
    served.desk.run(&["officer", "new", "--name", "mallory", "--out", "mallory"]).done();
    let reason = ["--reason", "MISUSE"];
    let glass = ["--break-glass", "nobody answers"];
    let commands: [(&[&str], &[&str]); 8] = [
        (&["revoke", "entity", &entity], &["--commit"]),
        (&["revoke", "subject", &person], &["--commit"]),
        (&["entity", "suspend", &entity], &[]),
        (&["person", "suspend", &person], &[]),
        (&["key", "block", "mallory/mallory.csr"], &["--commit"]),
        (&["principal", "suspend", "erin"], &[]),
        (&["authority", "taint", &access], &[]),
        (&["stop", "engage", "--all"], &[]),
    ];
    for (open, (what, how)) in commands.iter().enumerate() {
        let plain = [what, &reason[..], how].concat();
        served.by("vera", &plain).fails(&["DENIED", "--break-glass"]);
        assert_eq!(served.reviews().len(), open, "{what:?}");
        let done = served.by("vera", &[&plain[..], &glass].concat()).done().json();
        let last = served.reviews().pop().unwrap();
        assert_eq!((&last["review"], served.reviews().len()), (&done["record"], open + 1), "{what:?}");
    }
    // What takes effect later, can be planned or gives back is no emergency; nothing is sent.
    let before = served.seq();
    let later = ["revoke", "announce", "--issuer", &access, "--in-hours", "1", "--commit"];
    let revoke = ["authority", "revoke", &access, "--commit"];
    let drill = ["stop", "drill", "--all"];
    let release = ["stop", "release", "--all", "--commit"];
    for what in
        [[&later[..], &reason].concat(), [&revoke[..], &reason].concat(), drill.to_vec(), release.to_vec()]
    {
        let ended = served.by("vera", &[&what[..], &glass].concat());
        assert!(ended.code == 64 && ended.err.contains("--break-glass"), "{what:?}: {}", ended.err);
    }
    assert_eq!(served.seq(), before);
}

#[test]
fn one_officer_with_two_certificates_or_two_keys_counts_once() {
    let served = Served::start();
    served.officer("carol", &["APPROVER"]);
    served.by("alice", &["stop", "engage", "--all", "--reason", "DRILL"]).done();
    // Her certificate of before, and another one for the same key: one signature, whichever she shows.
    keep(&served, "carol", "carol-before");
    served.both(&["authority", "prepare", "--kind", "SYSTEM"]);
    let authorities = served.by("alice", &["authority", "list"]).done().json();
    let next = authorities.as_array().unwrap().iter().find(|row| row["state"] == "PREPARED").unwrap();
    served.both(&["authority", "activate", next["authority_id"].as_str().unwrap()]);
    served.certified("carol", "carol/carol.csr").done();
    let read = |folder: &str| std::fs::read(served.desk.path(&format!("{folder}/certificate.pem"))).unwrap();
    assert_ne!(read("carol"), read("carol-before"), "two certificates");
    let proposal = served.propose("carol-before", &["stop", "release", "--all"]);
    let approve = ["approvals", "approve", &proposal, "--yes"];
    for folder in ["carol", "carol-before"] {
        served.by(folder, &approve).fails(&["NEEDS_APPROVAL", "carol signed twice"]);
    }
    let shown = served.by("bob", &["approvals", "show", &proposal]).done().json();
    assert_eq!((&shown["signed_by"], &shown["signatures_missing"]), (&json!(["carol"]), &1.into()));
    assert_eq!(shown["may_approve"], json!(["alice", "bob"]));
    // Another key of hers gets no certificate of hers, and with hers it signs nothing.
    served.desk.run(&["officer", "new", "--name", "carol", "--out", "carol-key"]).done();
    served.certified("carol", "carol-key/carol.csr").fails(&["key"]);
    keep(&served, "carol", "carol-mixed");
    let (from, to) = (served.desk.path("carol-key/key.pem"), served.desk.path("carol-mixed/key.pem"));
    std::fs::copy(from, to).unwrap();
    served.by("carol-mixed", &approve).fails(&["is key.pem the key of certificate.pem"]);
    // Her key is no second officer's, and her name takes no second key.
    let register = |name: &str, kind: &str, role: &str, csr: &str| {
        let what = ["principal", "register", "--name", name, "--kind", kind, "--role", role, "--csr", csr];
        served.by("alice", &[&what[..], &["--commit"]].concat())
    };
    register("carol-2", "officer", "APPROVER", "carol/carol.csr").fails(&["EXISTS", "key"]);
    register("carol", "officer", "APPROVER", "carol-key/carol.csr").fails(&["EXISTS", "principal"]);
    // Somebody else's is the second.
    served.by("bob", &approve).done();
    assert_eq!(served.by("bob", &["stop", "list"]).done().json()["stops"], json!([]));
}
