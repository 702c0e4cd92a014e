//! Private keys at rest: encrypted files from `init` to a restart, where passphrases come from, and what is refused.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use countersign::domain::certificate::{AuthorityKind, PrincipalKind};
use countersign::domain::command::{Command as Order, NewPrincipal};
use countersign::domain::person::EvidenceKind;
use countersign::x509::ClientKey;
use tonic::Code;

use crate::cli::{Desk, Ended, root};
use crate::cli_served::Served;
use crate::world::World;

const SECRET: &str = "correct horse battery staple";

fn write_secret(desk: &Desk, name: &str, text: &str) {
    std::fs::write(desk.path(name), format!("{text}\n")).unwrap();
    std::fs::set_permissions(desk.path(name), std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Runs a command of the desk with a shell, for its redirections.
fn shell(desk: &Desk, line: &str) -> Ended {
    let bin = Path::new(env!("CARGO_BIN_EXE_countersign")).parent().unwrap();
    let mut command = Command::new("bash");
    let line = format!("PATH={}:$PATH; {line}", bin.display());
    command.args(["-c", &line]).current_dir(desk.path("")).stdin(Stdio::null());
    command.env_remove("COUNTERSIGN_SERVER").env_remove("COUNTERSIGN_IDENTITY");
    command.output().unwrap().into()
}

fn is_sealed(path: &Path) -> bool {
    std::fs::read_to_string(path).unwrap().starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
}

/// A service whose keys, and whose officers' keys, are encrypted.
fn made() -> Desk {
    let desk = Desk::new();
    write_secret(&desk, "secret", SECRET);
    for officer in ["alice", "bob"] {
        let new = ["officer", "new", "--name", officer, "--out", officer, "--passphrase", "file:secret"];
        let done = desk.run(&new).done();
        assert!(done.out.contains("encrypted") && !done.out.contains("not encrypted"), "{}", done.out);
    }
    let policy = root("deploy/policy");
    let begin = ["init", "--data", "data", "--trust-domain", "example.org", "--policy", &policy];
    let whom = ["--provider-name", "Example AI", "--officer", "alice=alice/alice.csr"];
    let more = ["--officer", "bob=bob/bob.csr", "--listen", "127.0.0.1:0", "--passphrase", "file:secret"];
    let done = desk.run(&[&begin[..], &whom, &more].concat()).done();
    assert!(done.out.contains("are encrypted"), "{}", done.out);
    for officer in ["alice", "bob"] {
        let sign = "countersign officer sign-genesis --genesis data/genesis.cbor --yes --passphrase-fd 3";
        shell(&desk, &format!("{sign} --key {officer}/key.pem --out {officer}.sig 3< secret")).done();
    }
    desk.run(&["init", "--data", "data", "--signature", "alice=alice.sig", "--signature", "bob=bob.sig"])
        .done();
    for officer in ["alice", "bob"] {
        std::fs::copy(
            desk.path(&format!("data/officers/{officer}.pem")),
            desk.path(&format!("{officer}/certificate.pem")),
        )
        .unwrap();
        std::fs::copy(desk.path("data/trust/system.pem"), desk.path(&format!("{officer}/system-bundle.pem")))
            .unwrap();
    }
    desk
}

#[test]
fn a_service_with_encrypted_keys_serves_rotates_and_starts_again() {
    let mut served = Served::of(made());
    for key in ["access", "system", "log", "server"] {
        assert!(is_sealed(&served.desk.path(&format!("data/keys/{key}.pem"))), "{key}");
    }
    // Bob's officer command has no passphrase and no terminal.
    served.by("bob", &["authority", "list"]).fails(&["bob/key.pem", "passphrase", "--passphrase"]);
    write_secret(&served.desk, "wrong", "another passphrase");
    served
        .by("bob", &["authority", "list", "--passphrase", "file:wrong"])
        .fails(&["the passphrase does not open the key"]);
    let secret = ["--passphrase", "file:secret"];
    let prepare = ["authority", "prepare", "--kind", "ACCESS", "--commit"];
    let proposed = served.by("alice", &[&prepare[..], &secret].concat()).done().json();
    let proposal = proposed["proposal"].as_str().unwrap().to_owned();
    let approve = ["approvals", "approve", &proposal, "--yes"];
    served.by("bob", &[&approve[..], &secret].concat()).done();
    let folder = served.desk.path("data/keys/authorities");
    let made: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(made.len() == 1 && is_sealed(&made[0]), "{made:?}");
    served.restart_after(|_| ());
    let list = [&["authority", "list"][..], &secret].concat();
    assert!(served.by("alice", &list).done().out.contains("PREPARED"));
}

#[test]
fn a_service_without_the_passphrase_of_its_keys_does_not_start_and_says_why() {
    let desk = made();
    let serve = |more: &[&str]| desk.run(&[&["serve", "--config", "data/countersign.toml"], more].concat());
    write_secret(&desk, "wrong", "another passphrase");
    let wrong = serve(&["--passphrase", "file:wrong"]);
    assert!(!wrong.err.contains("another passphrase"));
    wrong.fails(&["keys/access.pem", "the passphrase does not open the key"]);
    serve(&["--passphrase", "ask"]).fails(&["a service asks nobody"]);
    serve(&["--passphrase", "env:COUNTERSIGN_TEST_UNSET"]).fails(&["env:COUNTERSIGN_TEST_UNSET", "not set"]);
    serve(&["--passphrase", "credential:keys"]).fails(&["CREDENTIALS_DIRECTORY", "LoadCredential=keys"]);
    std::fs::set_permissions(desk.path("secret"), std::fs::Permissions::from_mode(0o644)).unwrap();
    serve(&[]).fails(&["secret", "0600", "0644"]);
    std::fs::set_permissions(desk.path("secret"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let config = std::fs::read_to_string(desk.path("data/countersign.toml")).unwrap();
    let without = config.replace("passphrase = ", "#passphrase = ");
    std::fs::write(desk.path("data/countersign.toml"), without).unwrap();
    serve(&[]).fails(&["keys/access.pem", "encrypted and no passphrase is given"]);
    std::fs::set_permissions(desk.path("data/keys"), std::fs::Permissions::from_mode(0o777)).unwrap();
    serve(&[]).fails(&["data/keys", "0777", "others could put another key there"]);
}

#[test]
fn every_source_opens_a_key() {
    let desk = Desk::new();
    write_secret(&desk, "secret", SECRET);
    desk.run(&["officer", "new", "--name", "alice", "--out", "alice", "--passphrase", "file:secret"]).done();
    // What opens the key gives it the passphrase that it has.
    let again = "countersign key encrypt alice/key.pem --new-passphrase file:secret";
    for line in [
        format!("{again} --passphrase file:secret"),
        format!("{again} --passphrase-fd 3 3< secret"),
        format!("{again} --passphrase fd:0 < secret"),
        format!("cat secret | {again} --passphrase fd:0"),
        format!("KEYS='{SECRET}' {again} --passphrase env:KEYS"),
        format!("CREDENTIALS_DIRECTORY=$PWD {again} --passphrase credential:secret"),
    ] {
        shell(&desk, &line).done();
    }
    shell(&desk, &format!("{again} --passphrase-fd 9")).fails(&["fd:9"]);
    let said = shell(&desk, &format!("{again} --passphrase hunter2"));
    assert!(said.code == 64 && said.err.contains("never the secret itself"), "{}", said.err);
}

#[test]
fn a_key_gets_a_passphrase_another_and_never_gets_lost() {
    let desk = Desk::new();
    let new = desk.run(&["officer", "new", "--name", "alice", "--out", "alice"]).done();
    assert!(new.out.contains("not encrypted: countersign key encrypt"), "{}", new.out);
    write_secret(&desk, "one", "the first passphrase");
    write_secret(&desk, "two", "the second passphrase");
    write_secret(&desk, "short", "hunter2");
    let encrypt = |words: &[&str]| desk.run(&[&["key", "encrypt", "alice/key.pem"], words].concat());
    encrypt(&["--new-passphrase", "file:short"]).fails(&["12 bytes or more"]);
    encrypt(&[]).fails(&["no terminal to ask on"]);
    encrypt(&["--new-passphrase", "file:one"]).done();
    assert!(is_sealed(&desk.path("alice/key.pem")));
    encrypt(&["--new-passphrase", "file:two"]).fails(&["no terminal to ask on"]);
    encrypt(&["--new-passphrase", "file:two", "--passphrase", "file:two"]).fails(&["does not open the key"]);
    encrypt(&["--new-passphrase", "file:two", "--passphrase", "file:one"]).done();
    let again = ["officer", "new", "--name", "alice", "--out", "alice", "--passphrase"];
    desk.run(&[&again[..], &["file:one"]].concat()).fails(&["does not open the key"]);
    let kept = desk.run(&[&again[..], &["file:two", "--json"]].concat()).done().json();
    assert_eq!(kept["encrypted"], true);
    let named: Vec<_> = new.out.split_whitespace().collect();
    assert!(named.contains(&kept["key_sha256"].as_str().unwrap()), "it is the same key");
}

#[test]
fn a_passphrase_is_asked_for_on_the_terminal_and_not_shown() {
    let desk = Desk::new();
    // Python gives the command a terminal of its own and types.
    let script = r#"
import os, pty, sys
def run(answers, words):
    pid, tty = pty.fork()
    if pid == 0:
        os.execv(words[0], words)
    seen = b""
    while True:
        try:
            piece = os.read(tty, 1024)
        except OSError:
            break
        if not piece:
            break
        seen += piece
        # After the question, so after the echo is off: what is typed before that would be thrown away.
        if answers and seen.endswith(b": "):
            os.write(tty, answers.pop(0) + b"\n")
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert not answers, (answers, seen)
    assert b"correct horse" not in seen, seen
    return code, seen
new = [sys.argv[1], "officer", "new", "--name", "alice", "--out", "alice", "--passphrase", "ask"]
code, seen = run([b"correct horse battery", b"correct horse batteri"], new)
assert code == 1 and b"differ" in seen, (code, seen)
code, seen = run([b"correct horse\x03"], new)
assert code == 1 and b"interrupted" in seen, (code, seen)
code, seen = run([b"correct horse battery", b"correct horse battery"], new)
assert code == 0, (code, seen)
code, seen = run([b"correct horse battery"], new[:-2])
assert code == 0 and b"kept, encrypted" in seen, (code, seen)
"#;
    let python = Command::new("python3")
        .args(["-c", script, env!("CARGO_BIN_EXE_countersign")])
        .current_dir(desk.path(""))
        .output()
        .unwrap();
    assert!(python.status.success(), "{}", String::from_utf8_lossy(&python.stderr));
    assert!(is_sealed(&desk.path("alice/key.pem")));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_in_the_place_of_an_authoritys_stops_the_start_and_is_not_used_before() {
    let mut world = World::start().await;
    let keys = world.dir.path().join("keys");
    let swap = |one: &str, other: &str| {
        let [one, other, aside] = [one, other, "aside"].map(|name| keys.join(name));
        std::fs::rename(&one, &aside).unwrap();
        std::fs::rename(&other, &one).unwrap();
        std::fs::rename(&aside, &other).unwrap();
    };
    let entity = world.partner().await;
    swap("access.pem", "system.pem");
    // While it runs the key signs that was loaded.
    let person = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let issued = world.enroll(person).await.certificate;
    let issuer = world.running().app().read_certificate(&issued).unwrap().issuer;
    let state = world.running().app().state();
    assert_eq!(state.authority(AuthorityKind::Access).map(|row| row.id), Some(issuer));
    world.close().await;
    let refused = world.launch().await.err().unwrap().to_string();
    for word in ["keys/access.pem", &format!("ACCESS authority {issuer}"), "does not hold the key"] {
        assert!(refused.contains(word), "{word}: {refused}");
    }
    swap("access.pem", "system.pem");
    swap("log.pem", "server.pem");
    let refused = world.launch().await.err().unwrap().to_string();
    assert!(refused.contains("log key in") && refused.contains("keys/log.pem"), "{refused}");
    swap("log.pem", "server.pem");
    world.open().await;
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_an_authority_is_nobody_elses() {
    let mut world = World::start().await;
    let keys = world.dir.path().join("keys");
    let read = |name: &str| ClientKey::from_pem(&std::fs::read_to_string(keys.join(name)).unwrap()).unwrap();
    let entity = world.partner().await;
    let person = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let token = world.token(person).await;
    for name in ["access.pem", "system.pem"] {
        let refused = world.redeem(&token, &read(name)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains("this is the key of authority aut_"), "{refused}");
        let new = NewPrincipal {
            id: "carol".parse().unwrap(),
            kind: PrincipalKind::Officer,
            roles: PrincipalKind::Officer.roles().to_vec(),
            entity: None,
            key: read(name).public_key().spki().to_vec(),
            is_pausable: false,
        };
        let refused = world.enact(Order::RegisterPrincipal(new)).await.unwrap_err();
        assert!(refused.message().contains("this is the key of authority aut_"), "{refused}");
    }
    world.redeem(&token, &crate::calls::key()).await.unwrap();
    world.close().await;
    // Nor is the server's own: it would be in the memory of what faces the network.
    let own = std::fs::read(keys.join("server.pem")).unwrap();
    std::fs::copy(keys.join("system.pem"), keys.join("server.pem")).unwrap();
    let refused = world.launch().await.err().unwrap().to_string();
    assert!(refused.contains("this is the key of authority aut_"), "{refused}");
    std::fs::write(keys.join("server.pem"), own).unwrap();
    world.open().await;
    world.close().await;
}
