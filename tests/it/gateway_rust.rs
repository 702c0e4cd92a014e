//! `examples/gateway.rs` as a process of its own, over real TLS: permitted, revoked, refused at once, and what was open is
//! closed.

use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::sync::Arc;
use std::time::Duration;

use countersign::domain::command::Command;
use countersign::domain::person::EvidenceKind;
use countersign::domain::revocation::{RevocationReason, RevocationScope};
use countersign::env::{Clock, ManualClock, SystemClock};
use countersign::pb;
use countersign::x509::bundle::certificate_pem;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

use crate::envoy::{Credential, HttpsClient, client_config};
use crate::gate::PATIENCE;
use crate::world::{Caller, World};

const HOST: &str = "gateway.test.example";

/// Builds the example with what the tests themselves are built with, and gives its path.
pub(crate) fn build(name: &str) -> PathBuf {
    let mut cargo = Process::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked", "--offline", "--example", name]);
    if cfg!(feature = "faults") {
        cargo.args(["--features", "faults"]);
    }
    let built = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
    assert!(built.success());
    Path::new(env!("CARGO_BIN_EXE_countersign")).with_file_name("examples").join(name)
}

/// A service whose clock follows the machine's: the example has no other.
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

/// The gateway's folder, and the certificate that it shows.
async fn folder(world: &World) -> (tempfile::TempDir, String) {
    let caller = world.gateway("gw-rust").await;
    let settings = Arc::clone(&world.running().app().state().settings);
    let key = rcgen::KeyPair::generate().unwrap();
    let listener = rcgen::CertificateParams::new(vec![HOST.to_owned()]).unwrap().self_signed(&key).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("server", world.running().address().to_string()),
        ("log-key", hex::encode(&settings.log_key)),
        ("trust-domain", settings.trust_domain.clone()),
        ("arc", settings.arc.clone()),
        ("system.pem", world.system_pem()),
        ("gateway.pem", certificate_pem(&caller.certificate)),
        ("gateway.key", caller.key.to_pem().to_string()),
        ("tls.pem", listener.pem()),
        ("tls.key", key.serialize_pem()),
        ("listen", "127.0.0.1:0".to_owned()),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    (folder, listener.pem())
}

/// Starts the gateway and gives the port that it listens on.
async fn start(example: &Path, folder: &Path) -> (Child, u16) {
    let mut gateway = tokio::process::Command::new(example)
        .arg(folder)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(gateway.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
    let port = line.rsplit(':').next().unwrap().parse().unwrap();
    (gateway, port)
}

async fn client(port: u16, roots: &str, caller: &Caller) -> std::io::Result<HttpsClient> {
    let credential = Credential {
        chain_pem: certificate_pem(&caller.certificate),
        key_pem: caller.key.to_pem().to_string(),
    };
    HttpsClient::connect(port, HOST, Arc::new(client_config(roots, Some(&credential)))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rust_gateway_refuses_the_revoked_and_closes_what_is_open() {
    let world = world().await;
    let entity = world.partner().await;
    let example = tokio::task::spawn_blocking(|| build("gateway")).await.unwrap();
    let mut callers = Vec::new();
    for _ in 0..2 {
        let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
        callers.push(world.enroll(subject).await);
    }
    let [revoked, kept] = callers.as_slice() else { panic!() };
    let (folder, roots) = folder(&world).await;
    let (mut gateway, port) = start(&example, folder.path()).await;

    let mut open = client(port, &roots, revoked).await.unwrap();
    let mut other = client(port, &roots, kept).await.unwrap();
    assert_eq!(open.handshake(), Some(rustls::HandshakeKind::Full));
    for client in [&mut open, &mut other] {
        let answer = client.get("/", &[]).await.unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, "an answer\n"), "{answer:?}");
    }
    let mut streaming = client(port, &roots, revoked).await.unwrap();
    let streaming = tokio::spawn(async move { streaming.get("/stream", &[]).await });

    let ordinal = world.running().app().read_certificate(&revoked.certificate).unwrap().ordinal;
    let scope = RevocationScope::Certificate(ordinal);
    let revoke = Command::Revoke { scope, reason: RevocationReason::KeyCompromise };
    let done = world.restrict(revoke, pb::Wait::Enforced).await.unwrap();
    assert_eq!(done.status(), pb::EnforcementStatus::Enforced, "{done:?}");
    assert!(done.acked.contains(&"gw-rust".to_owned()), "{done:?}");
    // What was open is closed, not only denied.
    let cut = open.get("/", &[]).await.unwrap_err();
    assert_ne!(cut.kind(), std::io::ErrorKind::TimedOut);
    let cut = streaming.await.unwrap().unwrap_err();
    assert_ne!(cut.kind(), std::io::ErrorKind::TimedOut, "the stream goes on");
    // And nobody gets in again: the handshake is refused.
    let refused = match client(port, &roots, revoked).await {
        Ok(mut client) => client.get("/", &[]).await.unwrap_err(),
        Err(refused) => refused,
    };
    assert!(refused.to_string().contains("CertificateRevoked"), "{refused}");
    assert_eq!(other.get("/", &[]).await.unwrap().status, 200);
    gateway.kill().await.unwrap();
}
