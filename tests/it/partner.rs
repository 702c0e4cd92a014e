//! `examples/partner.rs` as a process of its own: it redeems tokens, keeps keys to itself, renews, and goes on after a kill.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use countersign::domain::certificate::Certificate;
use countersign::domain::command::Command;
use countersign::domain::id::SubjectId;
use countersign::domain::person::EvidenceKind;
use countersign::domain::revocation::{RevocationReason, RevocationScope};
use countersign::env::{Clock as _, Entropy as _, ManualClock, SystemClock, SystemEntropy};
use countersign::pb;

use crate::gateway_rust::build;
use crate::world::World;

/// How often, and how long each time, what the helper does is looked at: two minutes.
const LOOKS: usize = 2_400;
const LOOK: Duration = Duration::from_millis(50);

/// A service whose clock follows the machine's: the helper has no other.
async fn world() -> World {
    let world = World::start_at(SystemClock.now()).await;
    let clock: Arc<ManualClock> = Arc::clone(&world.clock);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let behind = SystemClock.now().millis() - clock.now().millis();
            clock.advance_ms(u32::try_from(behind).unwrap_or(0));
        }
    });
    world
}

/// What an operator gives a partner, with the tokens of these people.
async fn folder(world: &World, people: &[SubjectId]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut tokens = String::new();
    for subject in people {
        let token = world.token(*subject).await;
        tokens.push_str(&format!("{{\"subject_id\":\"{subject}\",\"token\":\"{token}\"}}\n"));
    }
    for (name, text) in [
        ("server", world.running().address().to_string()),
        ("server-name", "localhost".to_owned()),
        ("system.pem", world.system_pem()),
        ("tokens.jsonl", tokens),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let owner = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(folder.path().join("tokens.jsonl"), owner).unwrap();
    folder
}

fn helper(example: &Path, folder: &Path, more: &[&str]) -> tokio::process::Command {
    let mut helper = tokio::process::Command::new(example);
    helper.arg(folder).args(more).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    helper
}

/// Runs it once, and gives what it said.
async fn once(example: &Path, folder: &Path) -> (bool, String, String) {
    let ended = helper(example, folder, &["--once"]).output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (ended.status.success(), text(ended.stdout), text(ended.stderr))
}

fn person(folder: &Path, subject: SubjectId) -> PathBuf {
    folder.join("people").join(subject.to_string())
}

/// The certificate that a person has now, which belongs to the key beside it.
fn current(world: &World, folder: &Path, subject: SubjectId) -> Arc<Certificate> {
    let current = person(folder, subject).join("current");
    let of = |name: &str| std::fs::read_to_string(current.join(name)).unwrap();
    assert_eq!(std::fs::metadata(current.join("key.pem")).unwrap().mode() & 0o777, 0o600);
    let key = countersign::x509::ClientKey::from_pem(&of("key.pem")).unwrap();
    let leaf = pem::parse_many(of("certificate.pem")).unwrap().remove(0).into_contents();
    let certificate = world.running().app().read_certificate(&leaf).unwrap();
    assert_eq!(certificate.key, key.public_key().digest());
    certificate
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_become_certificates_that_are_renewed_and_a_kill_costs_nothing() {
    let example = tokio::task::spawn_blocking(|| build("partner")).await.unwrap();
    let world = world().await;
    let entity = world.partner().await;
    let mut people = Vec::new();
    for _ in 0..3 {
        people.push(world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await);
    }
    let folder = folder(&world, &people).await;
    // Killed when the first key is there: whatever it did by then, the same command finishes it.
    let mut killed = helper(&example, folder.path(), &[]).spawn().unwrap();
    let first = people.iter().map(|subject| person(folder.path(), *subject).join("1/key.pem"));
    let first: Vec<_> = first.collect();
    for _ in 0..LOOKS {
        if first.iter().any(|key| key.exists()) {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    killed.kill().await.unwrap();
    let (done, said, wrong) = once(&example, folder.path()).await;
    assert!(done, "{said}{wrong}");
    let before: Vec<_> = people.iter().map(|id| current(&world, folder.path(), *id)).collect();
    let state = world.running().app().state();
    assert_eq!(state.lineages.len(), 3, "one certificate for each");
    // Nothing is due, and the tokens are needed no more.
    std::fs::remove_file(folder.path().join("tokens.jsonl")).unwrap();
    let (done, said, wrong) = once(&example, folder.path()).await;
    assert_eq!((done, said.as_str()), (true, ""), "{wrong}");
    // A cut that is announced has everybody renew before it, with a new key.
    let command = Command::AnnounceRevocation {
        id: countersign::domain::id::AnnouncementId::from_parts(world.clock.now(), SystemEntropy.bytes16()),
        scope: RevocationScope::Entity(entity),
        cut_at: world.clock.now().plus_ms(30_000),
        reason: RevocationReason::KeyCompromise,
    };
    world.restrict(command, pb::Wait::Committed).await.unwrap();
    let mut running = helper(&example, folder.path(), &[]).spawn().unwrap();
    let is_new = |(subject, before): (&SubjectId, &Arc<Certificate>)| {
        current(&world, folder.path(), *subject).ordinal > before.ordinal
    };
    for _ in 0..LOOKS {
        if people.iter().zip(&before).all(is_new) {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    running.kill().await.unwrap();
    for (subject, before) in people.iter().zip(before) {
        let after = current(&world, folder.path(), *subject);
        assert!(after.ordinal > before.ordinal && after.key != before.key);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_others_may_read_and_tokens_that_are_spent_are_refused() {
    let example = tokio::task::spawn_blocking(|| build("partner")).await.unwrap();
    let world = world().await;
    let entity = world.partner().await;
    let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let folder = folder(&world, &[subject]).await;
    let path = folder.path().join("tokens.jsonl");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (done, _, wrong) = once(&example, folder.path()).await;
    assert!(!done && wrong.contains("chmod 600"), "{wrong}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let token: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
    let token = token["token"].as_str().unwrap();
    world.redeem(token, &crate::calls::key()).await.unwrap();
    let (done, _, wrong) = once(&example, folder.path()).await;
    assert!(!done && wrong.contains("not enrolled sub_") && !wrong.contains(token), "{wrong}");
    std::fs::write(&path, "nonsense\n").unwrap();
    let (done, _, wrong) = once(&example, folder.path()).await;
    assert!(!done && wrong.contains("line 1 is no token"), "{wrong}");
}
