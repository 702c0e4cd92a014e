//! Recovery keys at the command line, from `init` to the certificate a day later, against a served process; and everything that
//! announces nothing.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::cli::{Desk, Ended};
use crate::cli_served::Served;

/// How often an announced recovery is asked for once its day has come. Each look is a process; the service looks every second.
const LOOKS: u32 = 500;
/// The module that `Desk::skip_a_day` builds.
const AHEAD: &str = "clock_ahead.so";
/// A day, and an hour in which the test may take its time.
const AHEAD_S: &str = "90000";

impl Desk {
    /// From now on it is a day later for whatever begins on this desk.
    pub(crate) fn skip_a_day(&self) {
        let source = crate::cli::root("tests/data/clock_ahead.c");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(self.path(AHEAD)).arg(source);
        assert!(cc.status().unwrap().success());
    }

    /// Sets the day of this desk for a process.
    pub(crate) fn set_day(&self, command: &mut Command) {
        let ahead: PathBuf = self.path(AHEAD);
        if ahead.exists() {
            command.env("LD_PRELOAD", ahead).env("CLOCK_AHEAD_S", AHEAD_S);
        }
    }

    /// Three recovery keys, the first of them encrypted.
    fn safes(&self) {
        std::fs::write(self.path("secret"), "what the first safe is locked with\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(self.path("secret"), mode).unwrap();
        self.run(&["recovery", "new", "--out", "safe-1", "--passphrase", "file:secret"]).done();
        for safe in ["safe-2", "safe-3"] {
            self.run(&["recovery", "new", "--out", safe]).done();
        }
    }

    /// Somebody's key, and the request to register it.
    fn asks(&self, name: &str, request: &str) {
        self.run(&["officer", "new", "--name", name, "--out", name]).done();
        self.prepare(name, "example.org", request).done();
    }

    fn prepare(&self, name: &str, trust_domain: &str, request: &str) -> Ended {
        let csr = format!("{name}/{name}.csr");
        let roles = ["--role", "APPROVER", "--role", "SECURITY_OPS"];
        let what = ["recovery", "prepare", "--trust-domain", trust_domain, "--name", name, "--csr", &csr];
        self.run(&[&what[..], &roles, &["--out", request]].concat())
    }

    fn signs(&self, key: &str, request: &str, out: &str) -> Ended {
        let key = format!("{key}/key.pem");
        let what = ["recovery", "sign", "--key", &key, "--request", request, "--out", out, "--yes"];
        self.run(&[&what[..], &["--passphrase", "file:secret"]].concat())
    }
}

impl Served {
    /// Asks without a certificate, as who has none.
    fn submit(&self, name: &str, request: &str, signatures: &[&str], more: &[&str]) -> Ended {
        let (csr, out) = (format!("{name}/{name}.csr"), format!("{name}/certificate.pem"));
        let mut what = vec!["recovery", "submit", "--request", request, "--csr", &csr, "--out", &out];
        what.extend(["--system-bundle", "data/trust/system.pem", "--server", &self.url, "--json"]);
        signatures.iter().for_each(|signature| what.extend(["--signature", *signature]));
        self.desk.run(&[&what[..], more].concat())
    }

    fn recoveries(&self, by: &str) -> Vec<Value> {
        self.by(by, &["approvals", "list"]).done().json()["recoveries"].as_array().unwrap().clone()
    }

    /// How far the record is.
    pub(crate) fn seq(&self) -> u64 {
        self.by("bob", &["audit", "head"]).done().json()["record"].as_u64().unwrap()
    }
}

/// A service with two of three recovery keys.
fn with_recovery() -> Served {
    let desk = Desk::with_officers();
    desk.safes();
    let begun = desk.begin_with(&KEYS).done();
    assert!(begun.out.contains("recovery       2 of 3 keys"), "both officers see them: {}", begun.out);
    desk.finish();
    Served::of(desk)
}

const KEYS: [&str; 8] = [
    "--recovery-key",
    "safe-1/recovery.csr",
    "--recovery-key",
    "safe-2/recovery.csr",
    "--recovery-key",
    "safe-3/recovery.csr",
    "--recovery-threshold",
    "2",
];

#[test]
fn two_of_three_recovery_keys_bring_back_a_service_whose_officers_are_gone() {
    let mut served = with_recovery();
    // Both officers lost everything.
    for officer in ["alice", "bob"] {
        std::fs::remove_dir_all(served.desk.path(officer)).unwrap();
    }
    for name in ["carol", "dave"] {
        let request = format!("{name}.recovery");
        served.desk.asks(name, &request);
        for (safe, out) in [("safe-1", "1"), ("safe-3", "3")] {
            let signed = served.desk.signs(safe, &request, &format!("{name}.{out}")).done();
            let read = ["Register the officer", "as many recovery keys as genesis says", "24 hours later"];
            read.iter().for_each(|words| assert!(signed.err.contains(words), "{words}: {}", signed.err));
        }
    }
    let signatures = |name: &str| [format!("{name}.1"), format!("{name}.3")];
    let submit = |served: &Served, name: &str, more: &[&str]| {
        let [a, b] = signatures(name);
        served.submit(name, &format!("{name}.recovery"), &[&a, &b], more)
    };
    let checked = submit(&served, "carol", &[]).done().json();
    assert_eq!(checked, json!({ "checked": true, "committed": false }));
    for name in ["carol", "dave"] {
        let announced = submit(&served, name, &["--commit"]).done().json();
        assert_eq!(announced["effective"], false, "{announced}");
        assert!(announced["recovery_id"].as_str().unwrap().starts_with("prp_"), "{announced}");
        // Once, however often it is sent.
        assert_eq!(submit(&served, name, &["--commit"]).done().json(), announced);
        assert!(!served.desk.path(&format!("{name}/certificate.pem")).exists());
    }
    let is_told = |line: &Value| {
        line["level"] == "ERROR" && line["message"].as_str().unwrap_or_default().contains("recovery keys")
    };
    served.logged(|line| is_told(line) && line["principal"] == "carol");
    // A day later, at a start that says it again.
    served.restart_after(Desk::skip_a_day);
    for name in ["carol", "dave"] {
        let answers = (0..LOOKS).map(|_| submit(&served, name, &["--commit"]).done().json());
        answers.into_iter().find(|answer| answer["effective"] == true).expect("it is effective");
        let bundle = served.desk.path(&format!("{name}/system-bundle.pem"));
        std::fs::copy(served.desk.path("data/trust/system.pem"), bundle).unwrap();
    }
    // They are officers like others: they remove those whose keys are lost.
    let remove = served.by("carol", &["principal", "remove", "alice", "--commit"]).done().json();
    let proposal = remove["proposal"].as_str().unwrap().to_owned();
    served.by("dave", &["approvals", "approve", &proposal, "--yes"]).done();
    let records = served.by("dave", &["audit", "list", "--limit", "1000"]).done().json();
    let events: Vec<_> = records.as_array().unwrap().iter().map(|row| row["event"].clone()).collect();
    for event in ["recovery.announced", "recovery.effective"] {
        assert_eq!(events.iter().filter(|name| **name == *event).count(), 2, "{event}: {events:?}");
    }
    // What was signed once gives nothing more: not to who is suspended, and not for a name that is on record.
    let suspend = ["principal", "suspend", "carol", "--reason", "KEY_COMPROMISE"];
    served.by("dave", &suspend).done();
    submit(&served, "carol", &["--commit"]).fails(&["WRONG_STATE", "carol is suspended"]);
    served.desk.run(&["officer", "new", "--name", "alice", "--out", "alice"]).done();
    served.desk.prepare("alice", "example.org", "alice.recovery").done();
    for safe in ["safe-1", "safe-2"] {
        served.desk.signs(safe, "alice.recovery", &format!("alice.{safe}")).done();
    }
    let again = served.submit("alice", "alice.recovery", &["alice.safe-1", "alice.safe-2"], &["--commit"]);
    again.fails(&["CONFLICT", "principal alice changed since"]);
    served.restart_after(|desk| {
        let verified = desk.run(&["journal", "verify", "--data", "data", "--json"]).done().json();
        assert_eq!(verified["good"], true, "{verified}");
    });
}

#[test]
fn nothing_less_than_enough_recovery_keys_announces_anything() {
    let served = with_recovery();
    let desk = &served.desk;
    desk.asks("carol", "carol.recovery");
    desk.asks("dave", "dave.recovery");
    desk.prepare("carol", "other.org", "other.recovery").done();
    for (key, request, out) in [
        ("safe-1", "carol.recovery", "1"),
        ("safe-1", "carol.recovery", "1-again"),
        ("safe-2", "carol.recovery", "2"),
        ("alice", "carol.recovery", "of-alice"),
        ("safe-1", "dave.recovery", "of-dave"),
        ("safe-1", "other.recovery", "other-1"),
        ("safe-2", "other.recovery", "other-2"),
    ] {
        desk.signs(key, request, out).done();
    }
    let before = served.seq();
    let carol = |signatures: &[&str]| served.submit("carol", "carol.recovery", signatures, &["--commit"]);
    let others = ["recovery sign"];
    carol(&["1"]).fails(&["NEEDS_APPROVAL", "needs the signatures of 2 recovery keys and has 1", others[0]]);
    // One key is one key, also with another signature.
    carol(&["1", "1"]).fails(&["NEEDS_APPROVAL", "signed twice; different keys are needed"]);
    carol(&["1", "1-again"]).fails(&["NEEDS_APPROVAL", "signed twice"]);
    carol(&["1", "of-alice"]).fails(&["NEEDS_APPROVAL", "not one of the recovery keys of genesis"]);
    carol(&["2", "of-dave"]).fails(&["NEEDS_APPROVAL", "does not verify"]);
    carol(&["1", "carol/carol.csr"])
        .fails(&["carol/carol.csr is no signature of `countersign recovery sign`"]);
    // For another deployment, by its name and by its keys.
    let other = served.submit("carol", "other.recovery", &["other-1", "other-2"], &["--commit"]);
    other.fails(&["NEEDS_APPROVAL", "for the trust domain \"other.org\""]);
    let stranger = Desk::new();
    stranger.safes();
    for (safe, out) in [("safe-1", "s1"), ("safe-2", "s2")] {
        std::fs::copy(desk.path("carol.recovery"), stranger.path("carol.recovery")).unwrap();
        stranger.signs(safe, "carol.recovery", out).done();
        std::fs::copy(stranger.path(out), desk.path(out)).unwrap();
    }
    carol(&["s1", "s2"]).fails(&["NEEDS_APPROVAL", "not one of the recovery keys of genesis"]);
    // What would be refused a day later is refused now, and nobody fetches a key from a safe for nothing.
    let wrong_key = ["--csr", "dave/dave.csr", "--out", "x.pem", "--system-bundle", "data/trust/system.pem"];
    let what = ["recovery", "submit", "--request", "carol.recovery", "--signature", "1", "--signature", "2"];
    let connection = ["--server", &served.url, "--commit"];
    desk.run(&[&what[..], &wrong_key, &connection].concat()).fails(&["dave/dave.csr is not for the key"]);
    let gateway =
        ["recovery", "prepare", "--trust-domain", "example.org", "--name", "gw", "--role", "GATEWAY"];
    let refused = desk.run(&[&gateway[..], &["--csr", "carol/carol.csr", "--out", "gw.recovery"]].concat());
    refused.fails(&["GATEWAY is no role of an officer", "APPROVER"]);
    assert!(!desk.path("gw.recovery").exists());
    desk.signs("safe-2", "carol/carol.csr", "x").fails(&["carol/carol.csr is no request of a recovery"]);
    let unasked =
        ["recovery", "sign", "--key", "safe-2/key.pem", "--request", "carol.recovery", "--out", "x"];
    desk.run(&unasked).fails(&["nobody is there to ask", "--yes"]);
    assert!(!desk.path("x").exists() && served.recoveries("bob").is_empty());
    assert_eq!(served.seq(), before);
}

#[test]
fn any_one_officer_ends_a_recovery_and_what_was_ended_is_not_announced_again() {
    let served = with_recovery();
    served.officer("vera", &["AUDITOR"]);
    for name in ["carol", "dave"] {
        let request = format!("{name}.recovery");
        served.desk.asks(name, &request);
        for (safe, out) in [("safe-1", "1"), ("safe-2", "2")] {
            served.desk.signs(safe, &request, &format!("{name}.{out}")).done();
        }
    }
    let carol = || served.submit("carol", "carol.recovery", &["carol.1", "carol.2"], &["--commit"]);
    let announced = carol().done().json();
    let id = announced["recovery_id"].as_str().unwrap();
    let [shown] = served.recoveries("vera").try_into().unwrap();
    assert_eq!((&shown["principal"], &shown["recovery_id"]), (&"carol".into(), &announced["recovery_id"]));
    assert_eq!(shown["signed_by"].as_array().unwrap().len(), 2, "{shown}");
    // In words, with the command that ends it. Nobody approves it: it takes effect by itself.
    let connection = ["--server", &served.url, "--identity", "bob"];
    let list = served.desk.run(&[&["approvals", "list"][..], &connection].concat()).done().out;
    assert!(list.contains(&format!("countersign approvals reject {id} --reason")), "{list}");
    served
        .by("bob", &["approvals", "approve", id, "--yes"])
        .fails(&["NOT_FOUND", "any one officer rejects it"]);
    let reject = ["approvals", "reject", id, "--reason", "nobody of us asked for it"];
    assert_eq!(served.by("vera", &reject).done().json()["committed"], false);
    assert_eq!(served.recoveries("bob").len(), 1, "it was only checked");
    let blank = ["approvals", "reject", id, "--reason", "", "--commit"];
    served.by("vera", &blank).fails(&["INVALID", "reason"]);
    served.by("vera", &[&reject[..], &["--commit"]].concat()).done();
    assert!(served.recoveries("bob").is_empty());
    carol().fails(&["CONFLICT", "an officer rejected exactly this recovery", "signs another one"]);
    served.by("vera", &[&reject[..], &["--commit"]].concat()).fails(&["NOT_FOUND"]);
    // A block of a recovery key ends what it signed, and it counts no more; so many that too few are left are not blocked.
    let dave = || served.submit("dave", "dave.recovery", &["dave.1", "dave.2"], &["--commit"]);
    dave().done();
    let block = |safe: &str| {
        let file = format!("{safe}/recovery.csr");
        served.by("alice", &["key", "block", &file, "--reason", "KEY_COMPROMISE", "--commit"])
    };
    block("safe-1").done();
    let is_over = (0..LOOKS).any(|_| served.recoveries("bob").is_empty());
    assert!(is_over, "a recovery whose key is blocked is over");
    dave().fails(&["NEEDS_APPROVAL", "or it is blocked"]);
    block("safe-2").fails(&["recovery keys"]);
}

#[test]
fn init_takes_only_recovery_keys_that_need_more_than_one_person() {
    let desk = Desk::with_officers();
    desk.safes();
    let [a, b] = [["--recovery-key", "safe-1/recovery.csr"], ["--recovery-key", "safe-2/recovery.csr"]];
    let of_alice = ["--recovery-key", "alice/alice.csr"];
    let needs = |threshold: &'static str| ["--recovery-threshold", threshold];
    let how_many = "2 to 16 recovery keys are needed, and a threshold from 2 to their number";
    for (arguments, says) in [
        ([&a[..], &needs("2")].concat(), how_many),
        ([&a[..], &b, &needs("1")].concat(), how_many),
        ([&a[..], &b, &needs("0")].concat(), how_many),
        ([&a[..], &b, &needs("3")].concat(), how_many),
        ([&a[..], &a, &needs("2")].concat(), "named twice, or is an officer's"),
        ([&a[..], &of_alice, &needs("2")].concat(), "named twice, or is an officer's"),
        ([&a[..], &["--recovery-key", "secret"], &needs("2")].concat(), "secret"),
    ] {
        desk.begin_with(&arguments).fails(&[says]);
        assert!(!desk.path("data").exists(), "nothing is written: {arguments:?}");
    }
    assert_eq!(desk.begin_with(&[&a[..], &b].concat()).code, 64, "how many of them?");
    assert_eq!(desk.begin_with(&needs("2")).code, 64, "of which?");
    // A service that was made without them has none, whoever signs.
    let served = Served::of({
        desk.begin_with(&[]).done();
        desk.finish();
        desk
    });
    served.desk.asks("carol", "carol.recovery");
    for (safe, out) in [("safe-1", "1"), ("safe-2", "2")] {
        served.desk.signs(safe, "carol.recovery", out).done();
    }
    let refused = served.submit("carol", "carol.recovery", &["1", "2"], &["--commit"]);
    refused.fails(&["NEEDS_APPROVAL", "genesis names no recovery keys"]);
}
