//! What a run leaves behind: no passphrase, PIN or enrollment token is in any of it, however much is logged and however it ends.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::cli::{Desk, Ended, ended, root, send};
use crate::pkcs11::{Token, command, run, softhsm};

/// Long enough to stand nowhere by chance.
const PASSPHRASE: &str = "every good boy deserves favour 8841";
const PIN: &str = "PIN-9d41-of-the-token";
const WRONG_PASSPHRASE: &str = "another passphrase of nobody 5512";
const WRONG_PIN: &str = "PIN-7c08-of-nobody";
/// How often the log is looked at for a line, and how long each time: a minute.
const LOOKS: u32 = 3_000;
const LOOK: std::time::Duration = std::time::Duration::from_millis(20);

/// A service whose keys are in encrypted files and on a token, and the officers' keys too.
struct Scene {
    desk: Desk,
    token: Token,
    /// Where the secrets are: in nothing that is searched.
    _safe: tempfile::TempDir,
    passphrase: PathBuf,
    url: String,
}

fn write(path: &Path, secret: &str) {
    std::fs::write(path, secret).unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

impl Scene {
    fn new() -> Self {
        let safe = tempfile::tempdir().unwrap();
        let token = Token::with_pin(safe.path(), PIN);
        let passphrase = safe.path().join("passphrase");
        write(&passphrase, PASSPHRASE);
        let scene = Self { desk: Desk::new(), token, _safe: safe, passphrase, url: String::new() };
        for officer in ["alice", "bob"] {
            scene.opened(&["officer", "new", "--name", officer, "--out", officer]).done();
        }
        let (policy, module) = (root("deploy/policy"), softhsm().display().to_string());
        let pin = format!("file:{}", scene.token.0.join("pin").display());
        let begin = ["init", "--data", "data", "--trust-domain", "example.org", "--policy", &policy];
        let whom = ["--provider-name", "Example AI", "--officer", "alice=alice/alice.csr"];
        let more = ["--officer", "bob=bob/bob.csr", "--listen", "127.0.0.1:0", "--pkcs11-module", &module];
        let last = ["--pkcs11-token", "pkcs11:token=countersign", "--pkcs11-pin", &pin];
        scene.opened(&[&begin[..], &whom, &more, &last].concat()).done();
        for officer in ["alice", "bob"] {
            let (key, out) = (format!("{officer}/key.pem"), format!("{officer}.sig"));
            let sign = ["officer", "sign-genesis", "--genesis", "data/genesis.cbor", "--yes", "--key", &key];
            scene.opened(&[&sign[..], &["--out", &out]].concat()).done();
        }
        let signatures = ["--signature", "alice=alice.sig", "--signature", "bob=bob.sig"];
        scene.opened(&[&["init", "--data", "data"][..], &signatures].concat()).done();
        let config = scene.desk.path("data/countersign.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, format!("{text}\n[log]\nformat = \"json\"\nlevel = \"trace\"\n")).unwrap();
        for officer in ["alice", "bob"] {
            let certificate = format!("data/officers/{officer}.pem");
            for (from, to) in
                [(certificate.as_str(), "certificate.pem"), ("data/trust/system.pem", "system-bundle.pem")]
            {
                std::fs::copy(scene.desk.path(from), scene.desk.path(&format!("{officer}/{to}"))).unwrap();
            }
        }
        scene
    }

    /// A command with the passphrase; what it says is kept.
    fn opened(&self, words: &[&str]) -> Ended {
        let from = format!("file:{}", self.passphrase.display());
        let ended = run(&self.desk, &self.token, &[words, &["--passphrase", &from]].concat());
        self.keep("commands", &ended);
        ended
    }

    fn keep(&self, name: &str, ended: &Ended) {
        use std::io::Write as _;
        let file = std::fs::OpenOptions::new().create(true).append(true).open(self.desk.path(name));
        write!(file.unwrap(), "{}{}", ended.out, ended.err).unwrap();
    }

    /// Serves, where a crash may leave a dump if the service lets it; everything that it says goes to a file.
    fn serve(&mut self) -> Child {
        let serve = format!(
            "ulimit -c unlimited; exec {} serve --config data/countersign.toml 2>log",
            env!("CARGO_BIN_EXE_countersign")
        );
        let mut shell = Command::new("sh");
        shell.args(["-c", &serve]).current_dir(self.desk.path("")).env("SOFTHSM2_CONF", self.token.conf());
        let child = shell.env("RUST_BACKTRACE", "full").stdout(Stdio::null()).spawn().unwrap();
        let log = self.desk.path("log");
        let address = (0..LOOKS).find_map(|_| {
            std::thread::sleep(LOOK);
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let line = text.lines().find(|line| line.contains("\"serving\""))?;
            Some(serde_json::from_str::<Value>(line).ok()?["address"].as_str()?.to_owned())
        });
        self.url = format!("https://{}", address.expect("it serves"));
        child
    }

    fn by(&self, officer: &str, words: &[&str]) -> Value {
        let connection = ["--server", &self.url, "--identity", officer, "--json"];
        self.opened(&[words, &connection].concat()).done().json()
    }

    fn both(&self, words: &[&str]) {
        let proposed = self.by("alice", &[words, &["--commit"]].concat());
        self.by("bob", &["approvals", "approve", proposed["proposal"].as_str().unwrap(), "--yes"]);
    }

    /// A key on the token, a certificate by it, a token redeemed; gives the token.
    fn works(&self) -> String {
        self.both(&["authority", "prepare", "--kind", "ACCESS"]);
        let entity = self.by("alice", &["entity", "apply", "--name", "Acme Inc.", "--organisation", "US"]);
        let entity = entity["id"].as_str().unwrap().to_owned();
        self.both(&["entity", "activate", &entity]);
        self.both(&["grant", "add", &entity, "--model", "mythos-5", "--from", "2026-01-01T00:00:00Z"]);
        let time = self.by("alice", &["audit", "head"])["time"].as_str().unwrap().to_owned();
        let list = ["--list-version", "csl-1", "--list-date", &time, "--result", "CLEAR", "--commit"];
        self.by("alice", &[&["screening", "record", &entity, "--reason", "no match"][..], &list].concat());
        let person = self.by("alice", &["person", "nominate", "--entity", &entity, "--relation", "EMPLOYEE"]);
        let person = person["id"].as_str().unwrap().to_owned();
        let evidence = ["--evidence", "CITIZEN_OR_NATIONAL", "--assurance", "IAL2"];
        let verified = ["--verified-on", "2026-06-27", "--commit"];
        self.by("bob", &[&["person", "approve", &person][..], &evidence, &verified].concat());
        let from = format!("file:{}", self.passphrase.display());
        let create = ["token", "create", &person, "--server", &self.url, "--identity", "alice", "--json"];
        let made = run(&self.desk, &self.token, &[&create[..], &["--passphrase", &from]].concat());
        let token = made.done().json()["token"].as_str().unwrap().to_owned();
        self.enrolls(&token);
        token
    }

    fn enrolls(&self, token: &str) {
        use std::io::Write as _;
        let enroll = ["enroll", "--token", "-", "--system-bundle", "data/trust/system.pem", "--out", "me"];
        let mut enroll = self.desk.command(&[&enroll[..], &["--server", &self.url]].concat());
        let mut child =
            enroll.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(token.as_bytes()).unwrap();
        let ended = Ended::from(child.wait_with_output().unwrap());
        self.keep("commands", &ended);
        ended.done();
    }

    /// A start that is refused, and what it says.
    fn refused(&self, words: &str) {
        let mut serve = command(&self.desk, &self.token, &["serve", "--config", "data/countersign.toml"]);
        let ended = Ended::from(serve.env("RUST_BACKTRACE", "full").output().unwrap());
        self.keep("refused", &ended);
        ended.fails(&[words]);
    }

    /// Every file that the service, its officers and its users have, with its content.
    fn everything(&self) -> Vec<(PathBuf, String)> {
        let (mut found, mut folders) = (Vec::new(), vec![self.desk.path("")]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => found.push(content(&path)),
                }
            }
        }
        found
    }
}

/// A file as text: secrets are ASCII, and stand between bytes that are not.
fn content(path: &Path) -> (PathBuf, String) {
    (path.to_owned(), String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned())
}

/// A secret as it may stand somewhere: as it is, in hexadecimal, as Rust shows bytes.
fn forms(secret: &str) -> [String; 5] {
    let bytes: Vec<_> = secret.bytes().map(|byte| byte.to_string()).collect();
    let hex = hex::encode(secret);
    [secret.to_owned(), hex.to_uppercase(), hex, bytes.join(", "), bytes.join(",")]
}

/// Where a secret stands.
fn places(files: &[(PathBuf, String)], secret: &str) -> Vec<PathBuf> {
    let forms = forms(secret);
    let has = |content: &str| forms.iter().any(|form| content.contains(form.as_str()));
    files.iter().filter(|(_, content)| has(content)).map(|(path, _)| path.clone()).collect()
}

#[test]
fn no_passphrase_pin_or_token_is_in_anything_that_a_run_leaves() {
    let mut scene = Scene::new();
    let mut serving = scene.serve();
    let token = scene.works();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", serving.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    // A crash.
    send("ABRT", &serving);
    assert!(!ended(&mut serving).success());
    write(&scene.passphrase, WRONG_PASSPHRASE);
    scene.refused("the passphrase does not open the key");
    write(&scene.passphrase, PASSPHRASE);
    scene.token.pin(WRONG_PIN);
    scene.refused("CKR_PIN_INCORRECT");
    let files = scene.everything();
    let dumps =
        files.iter().filter(|(path, _)| path.file_name().unwrap().to_string_lossy().starts_with("core"));
    assert_eq!(dumps.count(), 0, "a dump has every key in it");
    let secret = token.rsplit('.').next().unwrap();
    for secret in [PASSPHRASE, PIN, WRONG_PASSPHRASE, WRONG_PIN, token.as_str(), secret] {
        assert_eq!(places(&files, secret), Vec::<PathBuf>::new(), "{secret}");
    }
    // What is searched is what there is: the log with all its levels, the record, and what was said on the command line.
    for (path, words) in [
        ("log", "\"level\":\"TRACE\""),
        ("data/journal", "Acme Inc."),
        ("commands", "alice"),
        ("refused", "CKR_PIN_INCORRECT"),
    ] {
        let found = places(&files, words);
        let wanted = scene.desk.path(path);
        assert!(found.iter().any(|path| path.starts_with(&wanted)), "{words} is not in {path}: {found:?}");
    }
    let safe = [content(&scene.passphrase), content(&scene.token.0.join("pin"))];
    assert_eq!(
        (places(&safe, PASSPHRASE).len(), places(&safe, WRONG_PIN).len()),
        (1, 1),
        "they can be found"
    );
}
