//! The gateway of examples/python, generated from proto/ by grpcio-tools, against a served process: it acknowledges, holds its
//! lease, denies, and resumes.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use countersign::env::{Clock as _, SystemClock};
use serde_json::{Value, json};

use crate::cli::root;
use crate::cli_served::Served;

/// How long a gateway may be silent: many times what its decisions are apart, and a start of Python on a busy machine.
const SILENCE: Duration = Duration::from_secs(60);
/// Decisions that are looked at before one is missed.
const LOOKS: usize = 400;
/// The code of a permit: an employee who is a US person, of a US entity, in the United States.
const PERMITTED: &str = "NOT_AN_EXPORT";
/// Decisions after something was enforced: all of them deny.
const AFTER: usize = 4;

/// The interpreter with the packages of examples/python/requirements.txt.
fn python() -> Command {
    let interpreter = root(".venv/bin/python");
    assert!(
        Path::new(&interpreter).is_file(),
        "{interpreter} is missing: run the tests with tests/run, which makes it"
    );
    let mut python = Command::new(interpreter);
    // -B: nothing is written beside the sources.
    python.arg("-B").current_dir(root("examples/python"));
    python
}

#[track_caller]
fn done(command: &mut Command) {
    let ended = command.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{said}: are the packages missing? tests/run installs them");
}

/// Generates the code of the API, as docs/gateways.md says.
fn generate(folder: &Path) {
    let proto = root("proto");
    let files =
        ["attestation", "common", "enforcement"].map(|name| format!("{proto}/countersign/v1/{name}.proto"));
    std::fs::create_dir_all(folder).unwrap();
    let out = folder.to_str().unwrap();
    let options = ["-I", &proto, &format!("--python_out={out}"), &format!("--grpc_python_out={out}")];
    done(python().args(["-m", "grpc_tools.protoc"]).args(options).args(files));
}

/// `gateway.py`, ended with the test.
struct Gateway {
    child: Child,
    decisions: Receiver<Value>,
    log: Receiver<String>,
}

impl Gateway {
    fn start(served: &Served, identity: &str, more: &[&str]) -> Self {
        let generated = served.desk.path("generated");
        generate(&generated);
        let mut gateway = python();
        gateway.env("PYTHONPATH", &generated).args(["gateway.py", "--model", "mythos-5", "--place", "US"]);
        gateway.args(["--serving-region", "US", "--server", served.url.trim_start_matches("https://")]);
        gateway.arg("--identity").arg(served.desk.path(identity));
        gateway.arg("--decide").arg(served.desk.path("me/certificate.pem")).args(more);
        let mut child = gateway.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let decisions = lines(child.stdout.take().unwrap(), |line| serde_json::from_str(&line).unwrap());
        let log = lines(child.stderr.take().unwrap(), |line| line);
        Self { child, decisions, log }
    }

    /// The next decision.
    #[track_caller]
    fn next(&self) -> Value {
        let next = self.decisions.recv_timeout(SILENCE);
        next.unwrap_or_else(|_| panic!("no decision: {:#?}", self.log.try_iter().collect::<Vec<_>>()))
    }

    /// The first decision from now on that is so; the ones before it.
    #[track_caller]
    fn until(&self, permit: bool, code: &str) -> VecDeque<Value> {
        let mut before = VecDeque::new();
        for _ in 0..LOOKS {
            let decision = self.next();
            if decision["permit"] == permit && decision["code"] == code {
                return before;
            }
            before.push_back(decision);
        }
        panic!("never {permit} {code}: {before:#?} {:#?}", self.log.try_iter().collect::<Vec<_>>());
    }

    /// Decisions of after this instant are all denied, and denied so by the gateway itself. Two others are no permits and may come
    /// between on a busy machine: the server's own denial of what was asked before, and a lease that was not renewed in time.
    #[track_caller]
    fn denies_after(&self, boot_ms: u64, code: &str) {
        let mut seen = 0;
        for _ in 0..LOOKS {
            let decision = self.next();
            if decision["boot_ms"].as_u64().unwrap() <= boot_ms {
                continue;
            }
            assert_eq!(decision["permit"], json!(false), "{decision}");
            let (is_so, is_own) = (decision["code"] == code, decision["by"] == "gateway");
            assert!(is_so || decision["code"] == "STALE_VIEW", "{decision}");
            seen += usize::from(is_so && is_own);
            if seen == AFTER {
                return;
            }
        }
        panic!("{code} was seen {seen} times in {LOOKS} decisions");
    }

    /// It goes on permitting: a busy machine may be too late for a decision or a lease, and nothing else denies.
    #[track_caller]
    fn goes_on(&self) {
        let mut seen = 0;
        for _ in 0..LOOKS {
            let decision = self.next();
            match decision["permit"] == json!(true) {
                true => seen += 1,
                false => {
                    let code = decision["code"].as_str().unwrap();
                    assert!(["SERVER_DID_NOT_ANSWER", "STALE_VIEW"].contains(&code), "{decision}");
                }
            }
            if seen == AFTER {
                return;
            }
        }
        panic!("permitted {seen} times in {LOOKS} decisions");
    }

    /// Until its lease has ended, with nobody to ask since this instant; how often it permitted meanwhile.
    #[track_caller]
    fn closes_after(&self, boot_ms: u64) -> usize {
        let mut permits = 0;
        for _ in 0..LOOKS {
            let decision = self.next();
            if decision["boot_ms"].as_u64().unwrap() > boot_ms {
                permits += usize::from(decision["permit"] == json!(true));
                if decision["code"] == "STALE_VIEW" {
                    return permits;
                }
            }
        }
        panic!("its lease did not end in {LOOKS} decisions");
    }

    /// It logs a line with this in it.
    #[track_caller]
    fn logs(&self, text: &str) {
        while !self.log.recv_timeout(SILENCE).expect("it is logged").contains(text) {}
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn lines<T: Send + 'static>(
    out: impl std::io::Read + Send + 'static,
    read: impl Fn(String) -> T + Send + 'static,
) -> Receiver<T> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            // The test has failed already when nobody listens.
            let _ = sender.send(read(line));
        }
    });
    receiver
}

/// An employee of an active partner with a grant, whose identity is in `me`; gives the subject.
fn employee(served: &Served) -> String {
    let id =
        |arguments: &[&str]| served.by("alice", arguments).done().json()["id"].as_str().unwrap().to_owned();
    let entity = id(&["entity", "apply", "--name", "Acme Inc.", "--organisation", "US"]);
    served.both(&["entity", "activate", &entity]);
    served.both(&["grant", "add", &entity, "--model", "mythos-5", "--from", "2026-01-01T00:00:00Z"]);
    let head = served.by("alice", &["audit", "head"]).done().json();
    let list = ["--list-version", "csl-1", "--list-date", head["time"].as_str().unwrap()];
    let screening =
        [&["screening", "record", &entity][..], &list, &["--result", "CLEAR", "--commit"]].concat();
    served.by("alice", &[&screening[..], &["--reason", "no match"]].concat()).done();
    let person = id(&["person", "nominate", "--entity", &entity, "--relation", "EMPLOYEE"]);
    let approve = ["person", "approve", &person, "--evidence", "CITIZEN_OR_NATIONAL", "--assurance", "IAL2"];
    served.by("bob", &[&approve[..], &["--verified-on", "2026-06-27", "--commit"]].concat()).done();
    let token = served.by("alice", &["token", "create", &person]).done().json();
    served.enroll(token["token"].as_str().unwrap(), "me").done();
    person
}

/// Registers a gateway; its identity is in a folder of its name.
pub(crate) fn register(served: &Served, name: &str, how: &[&str]) {
    register_with(served, name, how, &[]);
}

/// The same with a key that is made so.
fn register_with(served: &Served, name: &str, how: &[&str], key: &[&str]) {
    let desk = &served.desk;
    desk.run(&[&["officer", "new", "--name", name, "--out", name], key].concat()).done();
    let csr = format!("{name}/{name}.csr");
    served.both(&[&["gateway", "register", "--name", name, "--csr", &csr], how].concat());
    let certificate = format!("{name}/certificate.pem");
    served
        .by("alice", &["gateway", "certificate", "--name", name, "--csr", &csr, "--out", &certificate])
        .done();
    for (from, to) in [("system.pem", "system-bundle.pem"), ("log.pem", "log-key.pem")] {
        let to: PathBuf = desk.path(name).join(to);
        std::fs::copy(desk.path("data/trust").join(from), to).unwrap();
    }
}

/// Whoever is named in a list of an enforcement.
fn names(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
}

#[test]
fn a_gateway_in_python_enforces_closes_and_resumes() {
    let mut served = Served::start();
    let subject = employee(&served);
    register(&served, "gw-py", &[]);
    let gateway = Gateway::start(&served, "gw-py", &[]);
    let before = gateway.until(true, PERMITTED);
    assert!(before.iter().all(|decision| decision["permit"] == false), "{before:#?}");
    assert_eq!(before[0]["code"], "STALE_VIEW", "nothing is permitted before the first lease");
    gateway.logs("took a snapshot of record");
    let row = &served.by("bob", &["gateway", "list"]).done().json()[0];
    assert_eq!(
        (&row["gateway"], &row["adapter"], &row["weak"]),
        (&json!("gw-py"), &json!("python"), &json!(false))
    );

    // A drill goes the same way, and this gateway goes on permitting.
    let drill = ["stop", "drill", "--model", "mythos-5", "--wait"];
    let drilled = served.by("alice", &drill).done().json();
    assert_eq!((&drilled["status"], &drilled["pending"]), (&json!("ENFORCED"), &json!([])), "{drilled}");
    assert!(names(&drilled["acked"]).contains(&"gw-py"), "{drilled}");
    assert_eq!(drilled["acknowledgements"][0]["participant"], "gw-py", "{drilled}");
    gateway.goes_on();
    // The report is recorded after the answer.
    let reported = (0..LOOKS).find_map(|_| {
        let drills = served.by("bob", &["stop", "drills"]).done().json();
        drills[0]["reported"].as_bool().unwrap().then(|| drills[0].clone())
    });
    let reported = reported.expect("the record has the report");
    assert_eq!((&reported["record"], &reported["took_ms"]), (&drilled["record"], &drilled["took_ms"]));
    assert_eq!((&reported["acked"], &reported["scope"]), (&json!(2), &json!("model mythos-5")));

    // A stop is enforced by the gateway's own acknowledgement, long before its lease ends.
    let stop = ["stop", "engage", "--model", "mythos-5", "--reason", "DRILL", "--wait"];
    let stopped = served.by("alice", &stop).done().json();
    let enforced_ms = SystemClock.boot_ms();
    assert_eq!((&stopped["status"], &stopped["pending"]), (&json!("ENFORCED"), &json!([])), "{stopped}");
    assert!(names(&stopped["acked"]).contains(&"gw-py"), "{stopped}");
    gateway.denies_after(enforced_ms, "EMERGENCY_STOP");
    served.both(&["stop", "release", "--model", "mythos-5"]);
    gateway.until(true, PERMITTED);

    // Without a server nothing is permitted, and after the lease the view is not even looked at.
    let address = served.url.trim_start_matches("https://").to_owned();
    served.restart_after(|desk| {
        // One answer may have been on its way.
        let permits = gateway.closes_after(SystemClock.boot_ms());
        assert!(permits <= 1, "{permits} permits without a server");
        let config = desk.path("data/countersign.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        // The address of the revocation lists stands in every certificate, so that one stays.
        let (free, again) = ("listen = \"127.0.0.1:0\"", format!("listen = \"{address}\""));
        std::fs::write(&config, text.replace(free, &again)).unwrap();
    });
    gateway.until(true, PERMITTED);
    gateway.logs("resumed after record");

    let revoke = ["revoke", "subject", &subject, "--reason", "DRILL", "--commit", "--wait"];
    let revoked = served.by("alice", &revoke).done().json();
    let enforced_ms = SystemClock.boot_ms();
    assert_eq!((&revoked["status"], &revoked["weak"]), (&json!("ENFORCED"), &json!([])), "{revoked}");
    assert!(names(&revoked["acked"]).contains(&"gw-py"), "{revoked}");
    gateway.denies_after(enforced_ms, "CREDENTIAL_REVOKED");
}

#[test]
fn a_gateway_in_python_that_can_be_paused_is_weak() {
    let served = Served::start();
    employee(&served);
    register(&served, "gw-py", &["--pausable"]);
    let gateway = Gateway::start(&served, "gw-py", &["--pausable"]);
    gateway.until(true, PERMITTED);
    let stop = ["stop", "engage", "--all", "--reason", "DRILL", "--wait"];
    let stopped = served.by("alice", &stop);
    let stopped: Value = serde_json::from_str(&stopped.out).unwrap();
    assert_eq!((&stopped["status"], &stopped["pending"]), (&json!("PARTIAL"), &json!([])), "{stopped}");
    assert_eq!(names(&stopped["weak"]), ["gw-py"], "{stopped}");
    gateway.denies_after(SystemClock.boot_ms(), "EMERGENCY_STOP");
}

#[test]
fn a_gateway_in_python_believes_only_the_log_key() {
    let served = Served::start();
    employee(&served);
    register(&served, "gw-py", &[]);
    let other = crate::cli::Desk::made();
    std::fs::copy(other.path("data/trust/log.pem"), served.desk.path("gw-py/log-key.pem")).unwrap();
    let gateway = Gateway::start(&served, "gw-py", &[]);
    gateway.logs("the signature of the head is wrong");
    for _ in 0..AFTER {
        assert_eq!(gateway.next()["code"], "STALE_VIEW");
    }
    let row = &served.by("bob", &["gateway", "list"]).done().json()[0];
    assert!(
        row["last_nack"].as_str().unwrap_or_default().starts_with("UNDECODABLE") || row["connected"] == false,
        "{row}"
    );
}

#[test]
fn a_gateway_in_python_keeps_to_the_profile_of_its_service() {
    let served = Served::of(crate::cli::Desk::made_under_cnsa());
    let subject = employee(&served);
    register_with(&served, "gw-py", &[], &["--profile", "cnsa"]);
    let file = |name: &str| served.desk.path("gw-py").join(name);
    let bundle = std::fs::read_to_string(file("system-bundle.pem")).unwrap();
    assert!(bundle.starts_with("# PROFILE cnsa\n"), "{bundle}");
    {
        let gateway = Gateway::start(&served, "gw-py", &[]);
        gateway.logs("the service has shown that it takes nothing but the suite of cnsa");
        gateway.until(true, PERMITTED);
        let revoke = ["revoke", "subject", &subject, "--reason", "DRILL", "--commit", "--wait"];
        let revoked = served.by("alice", &revoke).done().json();
        let enforced_ms = SystemClock.boot_ms();
        assert!(names(&revoked["acked"]).contains(&"gw-py"), "{revoked}");
        gateway.denies_after(enforced_ms, "CREDENTIAL_REVOKED");
    }

    // The bundle and the identity of a standard service are refused before anything is connected, and so is one word too many.
    let standard = crate::cli::Desk::made();
    let system = std::fs::read_to_string(standard.path("data/trust/system.pem")).unwrap();
    let weak = system.replace("# PROFILE standard", "# PROFILE cnsa");
    assert_ne!(weak, system);
    for (wrong, why) in [(weak, "not P-384 with SHA-384"), (bundle.clone() + &system, "or two")] {
        std::fs::write(file("system-bundle.pem"), wrong).unwrap();
        Gateway::start(&served, "gw-py", &[]).logs(why);
    }
    std::fs::write(file("system-bundle.pem"), bundle).unwrap();
    for name in ["certificate.pem", "key.pem"] {
        std::fs::copy(standard.path("alice").join(name), file(name)).unwrap();
    }
    Gateway::start(&served, "gw-py", &[]).logs("the profile cnsa takes nothing else");
}

#[test]
fn the_gateway_in_python_passes_its_own_tests() {
    let generated = tempfile::tempdir().unwrap();
    generate(generated.path());
    done(python().env("PYTHONPATH", generated.path()).args(["-m", "unittest"]));
}
