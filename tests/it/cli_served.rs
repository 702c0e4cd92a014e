//! The command line against a served process: what an officer, a person and an auditor do, end to end.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::cli::{Desk, Ended, ended, mode, send};
use crate::world::copy_tree;

/// How often, and how long each time, a line of the log is waited for: half a minute.
const LOG_LOOKS: u32 = 1_500;
const LOG_LOOK: Duration = Duration::from_millis(20);

/// `countersign serve`, ended with the test.
pub(crate) struct Served {
    pub(crate) desk: Desk,
    child: Child,
    pub(crate) url: String,
    log: Arc<Mutex<Vec<Value>>>,
}

/// Serves what is on the desk.
fn serve(desk: &Desk) -> (Child, String, Arc<Mutex<Vec<Value>>>) {
    let mut serve = desk.command(&["serve", "--config", "data/countersign.toml"]);
    let mut child = serve.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = loop {
        let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        if line["message"] == "serving" {
            break line["address"].as_str().unwrap().to_owned();
        }
    };
    let warned = lines.by_ref().take(100).any(|line| line.unwrap().contains("documentation arc"));
    assert!(warned, "a service with the documentation arc says so");
    // A full pipe would stop the server.
    let log = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&log);
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            kept.lock().unwrap().extend(serde_json::from_str(&line).ok());
        }
    });
    (child, format!("https://{address}"), log)
}

impl Served {
    pub(crate) fn start() -> Self {
        Self::of(Desk::made())
    }

    /// Serves what was made on a desk.
    pub(crate) fn of(desk: Desk) -> Self {
        let config = desk.path("data/countersign.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, format!("{text}[log]\nformat = \"json\"\n")).unwrap();
        let (child, url, log) = serve(&desk);
        Self { desk, child, url, log }
    }

    /// Ends the server, changes what is on the desk, and serves again.
    pub(crate) fn restart_after(&mut self, change: impl FnOnce(&Desk)) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        change(&self.desk);
        (self.child, self.url, self.log) = serve(&self.desk);
    }

    /// The first line of the log that is one.
    pub(crate) fn logged(&self, is: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..LOG_LOOKS {
            if let Some(line) = self.log.lock().unwrap().iter().find(|line| is(line)) {
                return line.clone();
            }
            std::thread::sleep(LOG_LOOK);
        }
        panic!("the log has no such line");
    }

    /// Redeems a token, given on standard input, for an identity in this folder.
    pub(crate) fn enroll(&self, token: &str, out: &str) -> Ended {
        let enroll = ["enroll", "--token", "-", "--system-bundle", "data/trust/system.pem", "--out", out];
        let mut command = self.desk.command(&[&enroll[..], &["--server", &self.url]].concat());
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(token.as_bytes()).unwrap();
        child.wait_with_output().unwrap().into()
    }

    pub(crate) fn by(&self, identity: &str, arguments: &[&str]) -> Ended {
        self.at(&self.url, identity, arguments)
    }

    fn at(&self, url: &str, identity: &str, arguments: &[&str]) -> Ended {
        let connection = ["--server", url, "--identity", identity, "--json"];
        self.desk.run(&[arguments, &connection].concat())
    }

    /// Alice proposes, bob approves.
    pub(crate) fn both(&self, arguments: &[&str]) {
        let done = self.by("alice", &[arguments, &["--commit"]].concat()).done();
        assert!(done.err.contains("needs       2 signature(s) of APPROVER"), "{}", done.err);
        let proposal = done.json()["proposal"].as_str().unwrap().to_owned();
        let refused = self.by("alice", &["approvals", "approve", &proposal, "--yes"]);
        assert!(refused.code == 1 && refused.out.contains("NEEDS_APPROVAL"), "{}", refused.out);
        let unasked = self.by("bob", &["approvals", "approve", &proposal]);
        assert!(unasked.code == 1 && unasked.out.contains("--yes"), "{}", unasked.out);
        let shown = self.by("bob", &["approvals", "show", &proposal]).done().json();
        assert_eq!(shown["signed_by"], serde_json::json!(["alice"]));
        assert_eq!(
            self.by("bob", &["approvals", "approve", &proposal, "--yes"]).done().json()["committed"],
            true
        );
        let shown = self.by("bob", &["approvals", "show", &proposal]).done().json();
        assert_eq!((&shown["status"], &shown["closed_by"]), (&"ENACTED".into(), &"bob".into()), "{shown}");
        self.by("bob", &["approvals", "approve", &proposal, "--yes"]).fails(&["waits no more: ENACTED"]);
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn id(ended: Ended) -> String {
    ended.done().json()["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_person_is_onboarded_permitted_and_cut_off() {
    let served = Served::start();
    let entity = id(served.by("alice", &["entity", "apply", "--name", "Acme Inc.", "--organisation", "US"]));
    // A dry run changes nothing, and nothing is signed.
    let checked = served.by("alice", &["entity", "activate", &entity]).done().json();
    assert_eq!(checked, serde_json::json!({ "checked": true, "committed": false }));
    let waiting = served.by("alice", &["approvals", "list"]).done().json();
    assert_eq!(waiting, serde_json::json!({ "proposals": [], "recoveries": [], "reviews": [] }));
    served.both(&["entity", "activate", &entity]);
    served.both(&["grant", "add", &entity, "--model", "mythos-5", "--from", "2026-01-01T00:00:00Z"]);
    let head = served.by("alice", &["audit", "head"]).done().json();
    let list_date = head["time"].as_str().unwrap();
    let screening = ["screening", "record", &entity, "--list-version", "csl-1", "--list-date", list_date];
    served
        .by("alice", &[&screening[..], &["--result", "CLEAR", "--reason", "no match", "--commit"]].concat())
        .done();
    let person =
        id(served.by("alice", &["person", "nominate", "--entity", &entity, "--relation", "EMPLOYEE"]));
    let approve = ["person", "approve", &person, "--evidence", "CITIZEN_OR_NATIONAL", "--assurance", "IAL2"];
    served.by("bob", &[&approve[..], &["--verified-on", "2026-06-27", "--commit"]].concat()).done();
    let token = served.by("alice", &["token", "create", &person]).done().json();
    let token = token["token"].as_str().unwrap();
    let enroll = |out: &str| served.enroll(token, out);
    enroll("me").done();
    // A lost answer is asked for again with the key that is there; another key gets nothing.
    let certificate = std::fs::read(served.desk.path("me/certificate.pem")).unwrap();
    std::fs::remove_file(served.desk.path("me/certificate.pem")).unwrap();
    enroll("me").done();
    assert_eq!(std::fs::read(served.desk.path("me/certificate.pem")).unwrap(), certificate);
    assert_eq!(enroll("other").code, 1);
    let early = served.by("me", &["renew", "--when-due", "--out", "next"]).done().json();
    assert!(early["renewed"] == false && !served.desk.path("next").exists(), "{early}");
    served.by("me", &["renew", "--out", "next"]).done();
    let evaluate = |whose: &str| {
        let certificate = format!("{whose}/certificate.pem");
        let place = ["--place", "US", "--serving-region", "US"];
        served.by(
            "alice",
            &[&["evaluate", "--certificate", &certificate, "--model", "mythos-5"][..], &place].concat(),
        )
    };
    // The index of certificates follows the record.
    let listed = || served.by("alice", &["cert", "list", "--subject", &person]).done().json();
    let rows = (0..LOG_LOOKS).map(|_| listed()).find(|rows| rows.as_array().unwrap().len() == 2);
    let rows = rows.expect("both certificates are listed");
    assert_eq!((&rows[1]["generation"], &rows[1]["issued"]), (&2.into(), &true.into()));
    let one =
        served.by("alice", &["cert", "list", "--ordinal", &rows[1]["ordinal"].to_string()]).done().json();
    assert_eq!(one[0], rows[1]);
    let bundle = served.by("alice", &["cert", "bundle"]).done().json();
    std::fs::write(served.desk.path("access.pem"), bundle["access_pem"].as_str().unwrap()).unwrap();
    let verify = ["cert", "verify", "next/certificate.pem", "--bundle", "access.pem"];
    assert_eq!(served.desk.run(&verify).code, 0);
    let permitted = evaluate("next").done().json();
    assert_eq!((&permitted["permit"], &permitted["legal"]), (&true.into(), &"NLR_DOMESTIC".into()));
    let revoke = ["revoke", "subject", &person, "--reason", "DRILL"];
    served.by("alice", &revoke).done();
    assert_eq!(evaluate("next").code, 0, "a dry run revokes nothing");
    let revoked = served.by("alice", &[&revoke[..], &["--commit", "--wait"]].concat()).done().json();
    assert_eq!((&revoked["status"], &revoked["durable"]), (&"ENFORCED".into(), &true.into()));
    assert_eq!(revoked["pending"], serde_json::json!([]));
    assert_eq!(evaluate("next").code, 2);
    assert_eq!(evaluate("next").json()["code"], "CREDENTIAL_REVOKED");
}

#[test]
fn every_refusal_is_in_the_log_with_who_and_why() {
    let served = Served::start();
    let logged = |method: &str, reason: &str| {
        served.logged(|line| line["rpc.method"] == method && line["reason"] == reason)
    };
    let token = format!("tok_01J9ZQ4R8W3T5V7X9Y1A2B3C4D.{}", "00".repeat(32));
    served.enroll(&token, "me").fails(&["NOT_FOUND"]);
    let line = logged("/countersign.v1.AttestationService/Enroll", "NOT_FOUND");
    assert_eq!((line["caller"].as_str(), line["peer.address"].as_str()), (Some("-"), Some("127.0.0.1")));
    served.by("alice", &["entity", "show", "ent_01J9ZQ4R8W3T5V7X9Y1A2B3C4D"]).fails(&["NOT_FOUND"]);
    let line = logged("/countersign.v1.ProvisioningService/GetEntity", "NOT_FOUND");
    assert_eq!(line["caller"].as_str(), Some("alice"));
    assert!(!served.log.lock().unwrap().iter().any(|line| line.to_string().contains(&token)));
}

#[test]
fn a_gateway_is_listed_shown_and_watched() {
    let served = Served::start();
    assert_eq!(served.by("alice", &["gateway", "list"]).done().json(), serde_json::json!([]));
    served.desk.run(&["officer", "new", "--name", "gw-1", "--out", "gw-1"]).done();
    let mut watch = served.desk.command(&["gateway", "watch", "--json", "--identity", "alice"]);
    watch.args(["--server", &served.url]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut watch = watch.spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(next(), serde_json::json!({ "sessions": [], "total": 0 }));
    served.both(&["gateway", "register", "--name", "gw-1", "--csr", "gw-1/gw-1.csr"]);
    let news = next();
    assert_eq!((&news["total"], &news["sessions"][0]["gateway"]), (&1.into(), &"gw-1".into()), "{news}");
    watch.kill().unwrap();
    watch.wait().unwrap();
    let listed = served.by("bob", &["gateway", "list"]).done().json();
    assert_eq!((&listed[0]["connected"], &listed[0]["boot_id"]), (&false.into(), &"".into()), "{listed}");
    let shown = served.by("bob", &["gateway", "show", "gw-1"]).done().json();
    assert_eq!((&shown["certificate_not_after"], &shown["sessions"]), (&"".into(), &serde_json::json!([])));
    let certificate = ["gateway", "certificate", "--name", "gw-1", "--csr", "gw-1/gw-1.csr"];
    served.by("alice", &[&certificate[..], &["--out", "gw-1/certificate.pem"]].concat()).done();
    let shown = served.by("bob", &["gateway", "show", "gw-1"]).done().json();
    assert!(shown["certificate_not_after"].as_str().unwrap().starts_with("20"), "{shown}");
    served.by("bob", &["gateway", "show", "gw-2"]).fails(&["NOT_FOUND", "gateway"]);
    // For people: a table without the brackets of JSON.
    let connection = ["--server", &served.url, "--identity", "bob"];
    let table = served.desk.run(&[&["gateway", "list"][..], &connection].concat()).done().out;
    assert!(table.starts_with("GATEWAY") && table.contains("\ngw-1     no"), "{table}");
}

#[test]
fn what_waits_is_listed_watched_shown_in_words_and_rejected() {
    let served = Served::start();
    let none = "prp_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    served.by("bob", &["approvals", "show", none]).fails(&["NOT_FOUND", "countersign audit list"]);
    let mut watch = served.desk.command(&["approvals", "watch", "--json", "--identity", "bob"]);
    watch.args(["--server", &served.url]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut watch = watch.spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    served.by("alice", &["stop", "engage", "--all", "--reason", "DRILL"]).done();
    let release = served.by("alice", &["stop", "release", "--all", "--commit"]).done().json();
    let id = release["proposal"].as_str().unwrap().to_owned();
    let news = next();
    assert_eq!((&news["proposal_id"], &news["status"]), (&id.as_str().into(), &"WAITING".into()), "{news}");
    let listed = served.by("bob", &["approvals", "list"]).done().json();
    assert_eq!(
        (&listed["proposals"][0]["command"], &listed["proposals"][0]["may_approve"][0]),
        (&"RELEASE_STOP".into(), &"bob".into())
    );
    let shown = served.by("bob", &["approvals", "show", &id]).done().json();
    let words = shown["in_words"].as_str().unwrap();
    assert!(words.contains("Release the stop of everything") && words.contains("sha-256"), "{words}");
    assert_eq!(shown["objects"][0]["revision_then"], shown["objects"][0]["revision_now"]);
    let reject = ["approvals", "reject", &id, "--reason", "the order still stands"];
    assert_eq!(served.by("bob", &reject).done().json()["committed"], false);
    served.by("bob", &[&reject[..], &["--commit"]].concat()).done();
    let news = next();
    assert_eq!((&news["status"], &news["closed_by"]), (&"REJECTED".into(), &"bob".into()), "{news}");
    assert_eq!(news["why"], "the order still stands");
    watch.kill().unwrap();
    watch.wait().unwrap();
    served.by("alice", &["approvals", "approve", &id, "--yes"]).fails(&["waits no more: REJECTED"]);
    // For people.
    let connection = ["--server", &served.url, "--identity", "bob"];
    let text = served.desk.run(&[&["approvals", "show", &id][..], &connection].concat()).done().out;
    assert!(
        text.contains("status      REJECTED by bob") && text.contains("the order still stands"),
        "{text}"
    );
    let table = served.desk.run(&[&["approvals", "list"][..], &connection].concat()).done().out;
    assert_eq!(table.trim(), "none");
}

#[test]
fn a_key_is_blocked_by_one_officer_and_unblocked_by_two() {
    let served = Served::start();
    let keys = |who: &str| served.by(who, &["key", "list"]).done().json();
    assert_eq!(keys("alice")["total"], 0);
    // A certificate, a request and a digest name the same key; the folder has a key that no service knows.
    let new = ["officer", "new", "--name", "mallory", "--out", "mallory"];
    served.desk.run(&new).done();
    let block = ["key", "block", "mallory/mallory.csr", "--reason", "KEY_COMPROMISE"];
    assert_eq!(served.by("bob", &block).done().json()["committed"], false);
    served.by("bob", &[&block[..], &["--commit"]].concat()).done();
    let listed = keys("alice");
    let digest = listed["blocked_keys"][0].as_str().unwrap();
    assert_eq!((listed["total"].as_u64(), digest.len()), (Some(1), 64));
    // Again is no mistake.
    served.by("alice", &["key", "block", digest, "--reason", "DRILL", "--commit"]).done();
    assert_eq!(keys("bob"), listed);
    // Nobody shuts out those who could undo it.
    let own = ["key", "block", "bob/certificate.pem", "--reason", "DRILL", "--commit"];
    let refused = served.by("alice", &own);
    assert!(refused.code == 1 && refused.out.contains("approvers"), "{}", refused.out);
    served.both(&["key", "unblock", digest]);
    assert_eq!(keys("alice")["total"], 0);
    let nothing = served.by("alice", &["key", "block", "data/countersign.toml", "--reason", "DRILL"]);
    assert!(nothing.code == 1 && nothing.out.contains("is no digest"), "{}", nothing.out);
}

#[test]
fn a_stop_needs_one_officer_and_its_release_two() {
    let served = Served::start();
    let engage = ["stop", "engage", "--model", "mythos-5", "--reason", "DRILL"];
    assert_eq!(served.by("bob", &[&engage[..], &["--dry-run"]].concat()).done().json()["committed"], false);
    served.by("bob", &engage).done();
    let again = served.by("bob", &engage);
    assert!(again.code == 1 && again.out.contains("EXISTS"), "{}", again.out);
    assert_eq!(
        served.by("alice", &["stop", "list"]).done().json()["stops"],
        serde_json::json!(["model mythos-5"])
    );
    served.both(&["stop", "release", "--model", "mythos-5"]);
    assert_eq!(served.by("alice", &["stop", "list"]).done().json()["stops"], serde_json::json!([]));
}

#[test]
fn who_gets_no_certificate_is_given_a_reference_and_officers_the_reason() {
    let served = Served::start();
    let entity = id(served.by("alice", &["entity", "apply", "--name", "Acme Inc.", "--organisation", "US"]));
    let person =
        id(served.by("alice", &["person", "nominate", "--entity", &entity, "--relation", "EMPLOYEE"]));
    let approve = ["person", "approve", &person, "--evidence", "CITIZEN_OR_NATIONAL", "--assurance", "IAL2"];
    served.by("bob", &[&approve[..], &["--verified-on", "2026-06-27", "--commit"]].concat()).done();
    let token = served.by("alice", &["token", "create", &person]).done().json();
    let refused = served.enroll(token["token"].as_str().unwrap(), "me");
    assert_eq!(refused.code, 1, "{}{}", refused.out, refused.err);
    assert!(refused.err.contains("NOT_ISSUABLE") && refused.err.contains("person show"), "{}", refused.err);
    assert!(!refused.err.contains("APPLICANT"), "{}", refused.err);
    let (_, reference) = refused.err.split_once("(reference ").unwrap();
    let line = served.logged(|line| line["request.id"] == reference.split_once(')').unwrap().0);
    assert_eq!((&line["level"], &line["subject.id"]), (&"WARN".into(), &person.clone().into()), "{line}");
    assert!(line["why"].as_str().unwrap().contains("the entity is APPLICANT"), "{line}");
    let shown = served.by("bob", &["person", "show", &person]).done().json();
    assert!(shown["issuance_refusal"].as_str().unwrap().contains("the entity is APPLICANT"), "{shown}");
}

#[test]
fn a_server_with_another_authority_gets_no_request() {
    let served = Served::start();
    let stranger = Desk::made();
    std::fs::copy(stranger.path("alice/system-bundle.pem"), served.desk.path("alice/system-bundle.pem"))
        .unwrap();
    served.by("alice", &["audit", "head"]).fails(&["cannot reach", "trust/system.pem"]);
    // A bundle of the wrong kind is named as such.
    std::fs::copy(stranger.path("data/trust/access.pem"), served.desk.path("alice/system-bundle.pem"))
        .unwrap();
    served.by("alice", &["audit", "head"]).fails(&["no system authority", "trust/system.pem"]);
    // And an identity of another service is nobody here.
    std::fs::copy(stranger.path("bob/certificate.pem"), served.desk.path("bob/certificate.pem")).unwrap();
    std::fs::copy(stranger.path("bob/key.pem"), served.desk.path("bob/key.pem")).unwrap();
    assert_eq!(served.by("bob", &["audit", "head"]).code, 1);
}

#[test]
fn a_connection_that_fails_says_what_to_do() {
    let served = Served::start();
    let port = served.url.rsplit_once(':').unwrap().1;
    let head = ["audit", "head"];
    // The same server by an address that its certificate does not name.
    let unnamed = format!("https://0.0.0.0:{port}");
    served.at(&unnamed, "alice", &head).fails(&["cannot reach", "not valid for name", "`names`"]);
    served.at("127.0.0.1:1", "alice", &head).fails(&["is not an address like https://"]);
    // Nobody listens on a port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = served.at(&format!("https://{free}"), "alice", &head);
    refused.fails(&["cannot reach", "refused", "countersign serve", "--server"]);
    // A certificate that has ended, and a key that is not the certificate's.
    let mut ended = rcgen::CertificateParams::default();
    ended.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let ended = ended.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
    std::fs::write(served.desk.path("alice/certificate.pem"), ended).unwrap();
    served.by("alice", &head).fails(&["alice/certificate.pem ended at 2020-01-01", "principal certificate"]);
    std::fs::copy(served.desk.path("alice/key.pem"), served.desk.path("bob/key.pem")).unwrap();
    served.by("bob", &head).fails(&["is key.pem the key of certificate.pem"]);
}

#[test]
fn a_served_process_ends_on_a_signal_and_loses_nothing() {
    let mut served = Served::start();
    for signal in ["TERM", "INT"] {
        let entity =
            id(served.by("alice", &["entity", "apply", "--name", "Acme Inc.", "--organisation", "US"]));
        // A terminal that goes away, or a reload, ends nothing.
        send("HUP", &served.child);
        served.by("bob", &["entity", "show", &entity]).done();
        send(signal, &served.child);
        assert_eq!(ended(&mut served.child).code(), Some(0), "SIG{signal}");
        let verified = served.desk.run(&["journal", "verify", "--data", "data", "--json"]).done().json();
        assert_eq!(verified["good"], true, "{verified}");
        // Nothing holds the directory any more, and what was acknowledged is there.
        (served.child, served.url, served.log) = serve(&served.desk);
        let shown = served.by("bob", &["entity", "show", &entity]).done().json();
        assert_eq!(shown["name"], "Acme Inc.", "{shown}");
    }
}

#[test]
fn a_gateway_is_registered_by_two_officers_and_gets_a_certificate_for_its_key() {
    let served = Served::start();
    for name in ["gw-1", "gw-2"] {
        served.desk.run(&["officer", "new", "--name", name, "--out", name]).done();
    }
    let certificate = |csr: &str| {
        let fetch = ["gateway", "certificate", "--name", "gw-1", "--csr", csr];
        served.by("alice", &[&fetch[..], &["--out", "gw-1/certificate.pem"]].concat())
    };
    certificate("gw-1/gw-1.csr").fails(&["NOT_FOUND"]);
    served.both(&["gateway", "register", "--name", "gw-1", "--csr", "gw-1/gw-1.csr"]);
    assert_ne!(certificate("gw-2/gw-2.csr").code, 0, "another key than the registered one");
    assert!(!served.desk.path("gw-1/certificate.pem").exists());
    certificate("gw-1/gw-1.csr").done();
    let shown = served.desk.run(&["cert", "show", "gw-1/certificate.pem"]).done();
    assert!(shown.out.contains("role/gateway/gw-1"), "{}", shown.out);
    // It may ask for decisions, and nothing else.
    std::fs::copy(served.desk.path("data/trust/system.pem"), served.desk.path("gw-1/system-bundle.pem"))
        .unwrap();
    let question = ["--model", "mythos-5", "--place", "US", "--serving-region", "US"];
    let evaluate = ["evaluate", "--certificate", "gw-1/certificate.pem"];
    let decided = served.by("gw-1", &[&evaluate[..], &question].concat());
    assert_eq!((decided.code, &decided.json()["code"]), (2, &"CREDENTIAL_WRONG_KIND".into()));
    let refused = served.by("gw-1", &["entity", "apply", "--name", "Acme Inc.", "--organisation", "US"]);
    refused.fails(&["none of your roles"]);
}

#[test]
fn an_officer_shows_a_server_what_it_lost_however_far_it_went_on() {
    let mut served = Served::start();
    let apply = ["entity", "apply", "--name", "Acme Inc.", "--organisation", "US"];
    let yesterday = tempfile::tempdir().unwrap();
    served.restart_after(|desk| copy_tree(&desk.path("data"), yesterday.path()));
    served.by("alice", &apply).done();
    served.restart_after(|desk| {
        std::fs::remove_dir_all(desk.path("data")).unwrap();
        std::fs::create_dir(desk.path("data")).unwrap();
        copy_tree(yesterday.path(), &desk.path("data"));
    });
    for _ in 0..6 {
        served.by("bob", &apply).done();
    }
    let refused = served.by("alice", &["audit", "head"]);
    refused.fails(&["the server lost history", "it signed another record", "newest copy"]);
}

#[test]
fn an_officer_refuses_a_server_that_runs_on_an_old_copy() {
    let mut served = Served::start();
    let apply = ["entity", "apply", "--name", "Acme Inc.", "--organisation", "US"];
    served.by("alice", &apply).done();
    let yesterday = tempfile::tempdir().unwrap();
    served.restart_after(|desk| copy_tree(&desk.path("data"), yesterday.path()));
    for _ in 0..4 {
        served.by("alice", &apply).done();
    }
    let last = served.desk.path("alice/last-head.cbor");
    assert_eq!(mode(&last), 0o600);
    served.restart_after(|desk| {
        std::fs::remove_dir_all(desk.path("data")).unwrap();
        std::fs::create_dir(desk.path("data")).unwrap();
        copy_tree(yesterday.path(), &desk.path("data"));
    });
    let refused = served.by("alice", &apply);
    refused.fails(&["the server lost history", "newest copy", "alice/last-head.cbor"]);
    // Bob saw nothing of what was lost; and nothing was asked of the server on behalf of alice.
    let listed = served.by("bob", &["entity", "list"]).done().json();
    assert_eq!(listed.as_array().unwrap().len(), 2, "the provider and the first applicant: {listed}");
    // Who agrees to go on, forgets.
    std::fs::remove_file(&last).unwrap();
    served.restart_after(|_| ());
    served.by("alice", &apply).done();
    assert!(last.exists());
}

#[test]
fn an_officer_believes_only_heads_of_the_log_key() {
    let served = Served::start();
    let head = ["audit", "head"];
    served.by("alice", &head).done();
    let other = Desk::made();
    // To bob, who knows another log key, the server is one that has every key but that.
    std::fs::copy(other.path("alice/log-key.pem"), served.desk.path("bob/log-key.pem")).unwrap();
    served.by("bob", &head).fails(&["does not hold the log key", "tell the other officers"]);
    assert!(!served.desk.path("bob/last-head.cbor").exists(), "nothing of it is remembered");
    let last = served.desk.path("alice/last-head.cbor");
    let remembered = std::fs::read(&last).unwrap();
    let mut damaged = remembered;
    damaged[20] ^= 1;
    std::fs::write(&last, damaged).unwrap();
    served.by("alice", &head).fails(&["alice/last-head.cbor is not a head that the log key signed"]);
    // Without the log key nothing is compared, and nothing is remembered.
    for file in ["alice/log-key.pem", "alice/last-head.cbor"] {
        std::fs::remove_file(served.desk.path(file)).unwrap();
    }
    served.by("alice", &head).done();
    assert!(!last.exists());
}

#[test]
fn a_server_with_another_log_key_does_not_start() {
    let (desk, other) = (Desk::made(), Desk::made());
    std::fs::copy(other.path("data/keys/log.pem"), desk.path("data/keys/log.pem")).unwrap();
    let refused = desk.run(&["serve", "--config", "data/countersign.toml"]);
    refused.fails(&["log key", "not the one that genesis names"]);
}

#[test]
fn an_authority_is_rotated_rolled_back_and_revoked() {
    let served = Served::start();
    let list = || served.by("alice", &["authority", "list"]).done().json();
    let states = || {
        let mut states = list().as_array().unwrap().clone();
        states.retain(|row| row["kind"] == "ACCESS");
        states.iter().map(|row| row["state"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // A dry run makes no key.
    let prepare = ["authority", "prepare", "--kind", "ACCESS"];
    assert_eq!(served.by("alice", &prepare).done().json()["committed"], false);
    assert!(!served.desk.path("data/keys/authorities").exists());
    served.both(&prepare);
    assert_eq!(states(), ["ACTIVE", "PREPARED"]);
    let row = list().as_array().unwrap().last().unwrap().clone();
    let next = row["authority_id"].as_str().unwrap().to_owned();
    assert_eq!((&row["has_key"], &row["known_everywhere"]), (&true.into(), &true.into()));
    let shown = served.by("alice", &["authority", "show", &next, "--out", "next.pem"]).done().json();
    assert_eq!(shown["state"], "PREPARED");
    assert!(std::fs::read_to_string(served.desk.path("next.pem")).unwrap().contains("BEGIN CERTIFICATE"));
    let activate = ["authority", "activate", &next];
    assert_eq!(served.by("alice", &activate).done().json()["checked"], true);
    served.both(&activate);
    assert_eq!(states(), ["RETIRING", "ACTIVE"]);
    served.both(&["authority", "rollback", &next]);
    assert_eq!(states(), ["ACTIVE", "PREPARED"]);
    let wrong = served.by("alice", &["authority", "retire", &next, "--commit"]);
    wrong.fails(&["WRONG_STATE", "PREPARED", "RETIRING or TAINTED"]);
    served.by("alice", &["authority", "taint", &next, "--reason", "CA_COMPROMISE"]).done();
    assert_eq!(states(), ["ACTIVE", "TAINTED"]);
    served.both(&["authority", "retire", &next]);
    assert_eq!(states(), ["ACTIVE", "RETIRED"]);
    // One officer stops the one that issues, and the other makes it final.
    let rows = list().as_array().unwrap().clone();
    let active = rows.iter().find(|row| row["kind"] == "ACCESS" && row["state"] == "ACTIVE").unwrap();
    let active = active["authority_id"].as_str().unwrap().to_owned();
    let revoke = ["authority", "revoke", &active, "--reason", "CA_COMPROMISE", "--wait", "--commit"];
    let revoked = served.by("alice", &revoke);
    assert_eq!(revoked.code, 0, "{}", revoked.err);
    let stops = served.by("alice", &["stop", "list"]).done().json();
    assert_eq!(stops["stops"], serde_json::json!([format!("issuer {active}")]));
    let proposals = served.by("bob", &["approvals", "list"]).done().json();
    let proposal = proposals["proposals"][0]["proposal_id"].as_str().unwrap().to_owned();
    served.by("bob", &["approvals", "approve", &proposal, "--yes"]).done();
    assert_eq!(states(), ["REVOKED", "RETIRED"]);
    // The system authority as well: the command's own trust follows, and goes on working.
    let system = std::fs::read_to_string(served.desk.path("alice/system-bundle.pem")).unwrap();
    served.both(&["authority", "prepare", "--kind", "SYSTEM"]);
    served.by("alice", &["stop", "list"]).done();
    let followed = std::fs::read_to_string(served.desk.path("alice/system-bundle.pem")).unwrap();
    assert_eq!(
        followed.matches("BEGIN CERTIFICATE").count(),
        system.matches("BEGIN CERTIFICATE").count() + 1
    );
}
