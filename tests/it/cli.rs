//! The command line as a process: exit codes, what it prints, what it leaves on disk. No server runs here.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output};
use std::time::Duration;

use tempfile::TempDir;

/// How often, and how long each time, the end of a process is waited for: a minute.
const END_LOOKS: u32 = 3_000;
const END_LOOK: Duration = Duration::from_millis(20);

/// A folder in which commands run.
pub(crate) struct Desk {
    folder: TempDir,
}

/// How a command ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ended {
    /// The JSON that was printed.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {} {}", self.out, self.err))
    }

    #[track_caller]
    pub(crate) fn done(self) -> Self {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self
    }

    #[track_caller]
    pub(crate) fn fails(self, words: &[&str]) {
        assert_eq!(self.code, 1, "{}{}", self.out, self.err);
        for word in words {
            assert!(self.err.contains(word) || self.out.contains(word), "{word}: {}{}", self.out, self.err);
        }
    }
}

pub(crate) fn root(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).to_str().unwrap().to_owned()
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.args(arguments).current_dir(self.folder.path());
        command.env_remove("COUNTERSIGN_SERVER").env_remove("COUNTERSIGN_IDENTITY");
        self.set_day(&mut command);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        self.command(arguments).output().unwrap().into()
    }

    fn begin(&self) -> Ended {
        self.begin_with(&[])
    }

    /// The first step of `init`, with more arguments.
    pub(crate) fn begin_with(&self, more: &[&str]) -> Ended {
        let policy = root("deploy/policy");
        let begin = ["init", "--data", "data", "--trust-domain", "example.org", "--policy", &policy];
        let whom = ["--provider-name", "Example AI", "--officer", "alice=alice/alice.csr"];
        let last = ["--officer", "bob=bob/bob.csr", "--listen", "127.0.0.1:0"];
        self.run(&[&begin[..], &whom, &last, more].concat())
    }

    fn sign(&self, officer: &str) -> Ended {
        let (key, out) = (format!("{officer}/key.pem"), format!("{officer}.sig"));
        let policy = root("deploy/policy");
        self.run(&[
            "officer",
            "sign-genesis",
            "--key",
            &key,
            "--genesis",
            "data/genesis.cbor",
            "--out",
            &out,
            "--policy",
            &policy,
            "--yes",
        ])
    }

    fn complete(&self, signatures: &[&str]) -> Ended {
        let mut arguments = vec!["init", "--data", "data"];
        signatures.iter().for_each(|signature| arguments.extend(["--signature", *signature]));
        self.run(&arguments)
    }

    /// Two officers.
    pub(crate) fn with_officers() -> Self {
        let desk = Self::new();
        for officer in ["alice", "bob"] {
            desk.run(&["officer", "new", "--name", officer, "--out", officer]).done();
        }
        desk
    }

    /// Two officers, and the first step of `init`.
    fn begun() -> Self {
        let desk = Self::with_officers();
        desk.begin().done();
        desk
    }

    /// A service that is made and not running; both officers hold their identities.
    pub(crate) fn made() -> Self {
        let desk = Self::begun();
        desk.finish();
        desk
    }

    /// The second step of `init`.
    pub(crate) fn finish(&self) {
        self.sign("alice").done();
        self.sign("bob").done();
        self.complete(&["alice=alice.sig", "bob=bob.sig"]).done();
        for officer in ["alice", "bob"] {
            let copy = |from: &str, to: &str| {
                std::fs::copy(self.path(from), self.path(&format!("{officer}/{to}"))).unwrap();
            };
            copy(&format!("data/officers/{officer}.pem"), "certificate.pem");
            copy("data/trust/system.pem", "system-bundle.pem");
        }
    }
}

/// Sends a signal to a process.
pub(crate) fn send(signal: &str, child: &Child) {
    let mut kill = Command::new("kill");
    kill.args(["-s", signal, &child.id().to_string()]);
    assert!(kill.status().unwrap().success());
}

/// Waits until a process ends by itself.
pub(crate) fn ended(child: &mut Child) -> ExitStatus {
    for _ in 0..END_LOOKS {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        std::thread::sleep(END_LOOK);
    }
    panic!("it does not end");
}

pub(crate) fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn wrong_usage_is_64_and_help_is_0() {
    let desk = Desk::new();
    for arguments in [
        &["no-such-verb"][..],
        &["entity", "show", "acme"],
        &["entity", "suspend", "ent_01KW4F6WG00G2081040G208104", "--reason", "BECAUSE"],
        &["stop", "engage", "--reason", "DRILL"],
        &["stop", "engage", "--all", "--model", "mythos-5", "--reason", "DRILL"],
        &["revoke", "certificate", "0", "--reason", "DRILL"],
        &["init", "--data", "data"],
        &[],
    ] {
        let ended = desk.run(arguments);
        assert_eq!((ended.code, ended.out.as_str()), (64, ""), "{arguments:?}: {}", ended.err);
    }
    let help = desk.run(&["revoke", "entity", "--help"]).done();
    assert!(
        help.out.contains("--commit") && help.out.contains("countersign revoke entity ent_"),
        "{}",
        help.out
    );
    assert!(desk.run(&["completions", "bash"]).done().out.contains("countersign"));
}

#[test]
fn who_has_read_enough_and_gone_makes_no_command_fail() {
    let desk = Desk::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = desk.command(&["officer", "new", "--name", "alice", "--out", "alice"]);
    let ended = Ended::from(command.stdout(writer).stderr(std::process::Stdio::piped()).output().unwrap());
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    assert!(desk.path("alice/alice.csr").exists());
}

#[test]
fn an_officer_without_identity_is_told_what_to_name() {
    let desk = Desk::new();
    desk.run(&["entity", "list"]).fails(&["--identity", "COUNTERSIGN_IDENTITY"]);
    desk.run(&["entity", "list", "--identity", "nowhere"]).fails(&["nowhere/certificate.pem"]);
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let desk = Desk::made();
    let key = desk.path("alice/key.pem");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    desk.run(&["entity", "list", "--identity", "alice"]).fails(&["alice/key.pem", "0640"]);
    desk.sign("alice").fails(&["alice/key.pem", "0640"]);
}

#[test]
fn init_takes_two_officers_and_makes_a_service() {
    let desk = Desk::begun();
    let begun = desk.path("data");
    assert_eq!((mode(&begun), mode(&desk.path("alice/key.pem"))), (0o700, 0o600));
    for key in ["access", "system", "log", "server"] {
        assert_eq!(mode(&begun.join(format!("keys/{key}.pem"))), 0o600, "{key}");
    }
    assert!(!begun.join("journal").exists());
    desk.sign("alice").done();
    desk.sign("bob").done();
    let made = desk.complete(&["alice=alice.sig", "bob=bob.sig"]).done();
    assert!(made.out.contains("countersign serve --config data/countersign.toml"), "{}", made.out);
    desk.complete(&["alice=alice.sig", "bob=bob.sig"]).fails(&["holds a service already"]);
    desk.begin().fails(&["holds a service already"]);
    let verified = desk.run(&["journal", "verify", "--data", "data", "--json"]).done().json();
    assert_eq!((&verified["good"], &verified["records"]), (&true.into(), &8.into()));
}

#[test]
fn init_needs_both_signatures_of_both_officers() {
    let desk = Desk::begun();
    desk.sign("alice").done();
    desk.sign("bob").done();
    desk.complete(&["alice=alice.sig"]).fails(&["bob is missing"]);
    desk.complete(&["alice=alice.sig", "bob=alice.sig"]).fails(&["alice.sig is not a signature of bob"]);
    desk.complete(&["alice=alice.sig", "alice=alice.sig"]).fails(&["given twice"]);
    desk.complete(&["alice=alice.sig", "carol=bob.sig"]).fails(&["carol is not an officer"]);
    let genesis = desk.path("data/genesis.cbor");
    assert!(!desk.path("data/journal").exists());
    // Other bytes than were signed.
    let bytes = std::fs::read(&genesis).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    let at = text.find("Example AI").map(|_| bytes.windows(10).position(|w| w == b"Example AI").unwrap());
    let mut changed = bytes.clone();
    changed[at.unwrap()] = b'X';
    std::fs::write(&genesis, changed).unwrap();
    desk.complete(&["alice=alice.sig", "bob=bob.sig"]).fails(&["is not a signature of alice"]);
    std::fs::write(&genesis, bytes).unwrap();
    desk.complete(&["alice=alice.sig", "bob=bob.sig"]).done();
}

#[test]
fn init_refuses_one_key_twice_one_officer_and_a_foreign_folder() {
    let desk = Desk::new();
    desk.run(&["officer", "new", "--name", "alice", "--out", "alice"]).done();
    std::fs::create_dir(desk.path("bob")).unwrap();
    std::fs::copy(desk.path("alice/alice.csr"), desk.path("bob/bob.csr")).unwrap();
    desk.begin().fails(&["alice and bob have the same key"]);
    assert!(!desk.path("data").exists());
    desk.run(&["officer", "new", "--name", "bob", "--out", "bob"]).done();
    std::fs::create_dir(desk.path("data")).unwrap();
    std::fs::write(desk.path("data/thesis.txt"), "mine").unwrap();
    desk.begin().fails(&["not empty", "thesis.txt"]);
    std::fs::remove_file(desk.path("data/thesis.txt")).unwrap();
    let policy = root("deploy/policy");
    let one = ["init", "--data", "data", "--trust-domain", "example.org", "--policy", &policy];
    desk.run(&[&one[..], &["--provider-name", "X", "--officer", "alice=alice/alice.csr"]].concat())
        .fails(&["exactly two officers"]);
    desk.begin().done();
}

#[test]
fn an_interrupted_init_goes_on() {
    let desk = Desk::begun();
    // Before genesis was written: the keys stay.
    let key = std::fs::read(desk.path("data/keys/system.pem")).unwrap();
    std::fs::remove_file(desk.path("data/genesis.cbor")).unwrap();
    std::fs::remove_file(desk.path("data/keys/server.pem")).unwrap();
    desk.begin().done();
    assert_eq!(std::fs::read(desk.path("data/keys/system.pem")).unwrap(), key);
    desk.begin().fails(&["is made already"]);
    desk.sign("alice").done();
    desk.sign("bob").done();
    desk.complete(&["alice=alice.sig", "bob=bob.sig"]).done();
    // After genesis was recorded, before the last certificate was written: the same certificate again.
    let certificate = std::fs::read(desk.path("data/officers/bob.pem")).unwrap();
    std::fs::remove_file(desk.path("data/officers/bob.pem")).unwrap();
    desk.complete(&["alice=alice.sig", "bob=bob.sig"]).done();
    assert_eq!(std::fs::read(desk.path("data/officers/bob.pem")).unwrap(), certificate);
}

#[test]
fn genesis_is_signed_only_with_an_officers_key_and_the_policy_that_was_meant() {
    let desk = Desk::begun();
    desk.run(&["officer", "new", "--name", "carol", "--out", "carol"]).done();
    desk.sign("carol").fails(&["not the key of an officer"]);
    let sign = ["officer", "sign-genesis", "--key", "alice/key.pem", "--genesis", "data/genesis.cbor"];
    desk.run(&[&sign[..], &["--out", "alice.sig"]].concat()).fails(&["--yes"]);
    let other = desk.path("policy");
    std::fs::create_dir_all(other.join("determinations")).unwrap();
    std::fs::write(other.join("models.toml"), "[[model]]\nid = \"other-1\"\n").unwrap();
    std::fs::copy(root("deploy/policy/posture.toml"), other.join("posture.toml")).unwrap();
    std::fs::write(other.join("provider-policy.toml"), "rule = []\n").unwrap();
    desk.run(&[&sign[..], &["--out", "alice.sig", "--policy", "policy", "--yes"]].concat())
        .fails(&["the policy of genesis has the hash"]);
    assert!(!desk.path("alice.sig").exists());
}

#[test]
fn a_damaged_record_is_named_by_segment_byte_and_number() {
    let desk = Desk::made();
    let segment = desk.path("data/journal/00000000000000000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(10).position(|window| window == b"Example AI").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let ended = desk.run(&["journal", "verify", "--data", "data"]);
    assert_eq!(ended.code, 1);
    for word in ["00000000000000000001.seg", "byte ", "record 1"] {
        assert!(ended.out.contains(word), "{word}: {}", ended.out);
    }
    let value = desk.run(&["journal", "verify", "--data", "data", "--json"]).json();
    assert_eq!((&value["good"], &value["record"]), (&false.into(), &1.into()));
    assert!(value["offset"].is_u64() && value["why"].is_string());
    desk.run(&["journal", "verify", "--data", "nowhere"]).fails(&["nowhere"]);
}

#[test]
fn certificates_are_shown_and_verified_without_a_server() {
    let desk = Desk::made();
    let shown = desk.run(&["cert", "show", "alice/certificate.pem"]).done();
    assert!(shown.out.contains("leaf v1 of a system authority") && shown.out.contains("role/officer/alice"));
    let lines = desk.run(&["cert", "show", "data/trust/access.pem", "--json"]).done().json();
    assert_eq!(lines[0]["value"], "an access authority");
    let verify = |bundle: &str, more: &[&str]| {
        desk.run(&[&["cert", "verify", "alice/certificate.pem", "--bundle", bundle], more].concat())
    };
    verify("data/trust/system.pem", &["--trust-domain", "example.org"]).done();
    for (bundle, more) in [
        ("data/trust/access.pem", &[][..]),
        ("data/trust/system.pem", &["--trust-domain", "other.example"]),
        ("data/trust/system.pem", &["--at", "2020-01-01T00:00:00Z"]),
        ("data/trust/system.pem", &["--arc", "1.3.6.1.4.1.1"]),
    ] {
        let ended = verify(bundle, more);
        assert_eq!(ended.code, 2, "{bundle} {more:?}: {}{}", ended.out, ended.err);
        assert!(ended.out.contains("NOT good: "), "{}", ended.out);
    }
    let value = verify("data/trust/access.pem", &["--json"]).json();
    assert_eq!((&value["valid"], value["code"].is_string()), (&false.into(), true));
    desk.run(&["cert", "show", "alice/key.pem"]).fails(&["alice/key.pem", "CERTIFICATE"]);
}

#[test]
fn certificates_are_linted_without_a_server() {
    let desk = Desk::made();
    let lint = |more: &[&str]| desk.run(&[&["cert", "lint"], more].concat());
    let good =
        lint(&["alice/certificate.pem", "data/trust/access.pem", "--issuer", "data/trust/system.pem"]).done();
    assert!(good.out.contains("judged as system, 0 found"), "{}", good.out);
    assert!(good.out.contains("judged as authority, 0 found"), "{}", good.out);
    assert!(lint(&["alice/certificate.pem"]).done().out.contains("rules need --issuer"));
    lint(&["alice/certificate.pem", "--issuer", "data/trust/access.pem"])
        .fails(&["issuer_name", "issuer_key_id"]);
    lint(&["alice/certificate.pem", "--trust-domain", "other.example"])
        .fails(&["name_trust_domain", "clause 2.11"]);

    let pem = std::fs::read_to_string(desk.path("alice/certificate.pem")).unwrap();
    let mut der = pem::parse(&pem).unwrap().into_contents();
    std::fs::write(desk.path("alice.der"), &der).unwrap();
    let report = lint(&["alice.der", "--issuer", "data/trust/system.pem", "--json"]).done().json();
    assert_eq!(
        (report[0]["kind"].as_str(), report[0]["findings"].as_array().map(Vec::len)),
        (Some("system"), Some(0))
    );
    der.push(0);
    std::fs::write(desk.path("alice.der"), &der).unwrap();
    let ended = lint(&["alice.der", "--json"]);
    let report = ended.json();
    assert_eq!((ended.code, report[0]["findings"][0]["rule"].as_str()), (1, Some("der_encoding")));
    assert_eq!(report[0]["findings"][0]["source"], "RFC 5280 section 4.1");

    let input = std::fs::File::open(desk.path("alice/certificate.pem")).unwrap();
    let ended: Ended = desk.command(&["cert", "lint", "-"]).stdin(input).output().unwrap().into();
    assert!(ended.done().out.starts_with("-: judged as system, 0 found"));
    lint(&["alice/key.pem"]).fails(&["CERTIFICATE"]);
    assert_eq!(lint(&[]).code, 64);
    assert_eq!(lint(&["alice.der", "--rules"]).code, 64);
    let rules = lint(&["--rules", "--json"]).done().json();
    assert!(
        rules.as_array().unwrap().iter().any(|rule| rule["rule"] == "key_weak" && rule["clause"] == "1.16")
    );
    assert!(lint(&["--rules"]).done().out.contains("RFC 5280 section 4.1.2.2"));
}

#[test]
fn an_unknown_key_of_the_configuration_is_named_with_file_and_line() {
    let desk = Desk::made();
    let path = desk.path("data/countersign.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}lissten = 1\n")).unwrap();
    let line = format!("line {}", text.lines().count() + 1);
    desk.run(&["serve", "--config", "data/countersign.toml"]).fails(&[
        "data/countersign.toml",
        &line,
        "lissten",
    ]);
    desk.run(&["serve", "--config", "nowhere.toml"]).fails(&["cannot read nowhere.toml"]);
}

#[test]
fn the_policy_bundle_is_checked_and_tested() {
    let desk = Desk::new();
    let (policy, vectors) = (root("deploy/policy"), root("tests/data/decisions.csv"));
    assert!(desk.run(&["policy", "check", &policy]).done().out.contains("hash "));
    let report = desk.run(&["policy", "test", &policy, "--vectors", &vectors, "--json"]).done().json();
    assert_eq!(report["mismatches"], 0);
    let after = root("tests/data/decisions-after-rescission.csv");
    let rescinded = ["policy", "test", &policy, "--vectors", &after, "--json"];
    let draft = desk.run(&rescinded);
    assert_eq!(draft.code, 1);
    assert_ne!(draft.json()["mismatches"], 0, "the rescission is a draft");
    // With the rescission in force the other file is right.
    let activate = ["--activate", "2026-06-30-rescission"];
    let signed = desk.run(&[&rescinded[..], &activate].concat()).done().json();
    assert_eq!(signed["mismatches"], 0, "{signed}");
    assert_eq!(signed["vectors"], draft.json()["vectors"]);
    let unknown = [&rescinded[..], &["--activate", "2026-06-31-nothing"]].concat();
    desk.run(&unknown).fails(&["2026-06-31-nothing"]);
    desk.run(&["policy", "check", "nowhere", "--json"]).fails(&["nowhere"]);
}
