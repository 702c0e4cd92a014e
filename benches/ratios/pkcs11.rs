//! `issue_pkcs11`: wall time per certificate, durable, at 64 concurrent requests, with the access authority's key in SoftHSM;
//! the floor is the same with the key in a file, in the same process.
//!
//! SoftHSM finds its tokens by the environment, so a process of its own measures.

use std::path::{Path, PathBuf};
use std::process::Command as Process;

use countersign::config::{NewKeys, PassphraseSource, Pkcs11Config};
use countersign::domain::certificate::AuthorityKind;
use countersign::domain::command::Command;
use countersign::domain::id::SubjectId;
use countersign::domain::person::EvidenceKind;
use countersign::pb;
use countersign::pb::authority_service_client::AuthorityServiceClient;

use crate::issue::{prepare, redeem};
use crate::measure::{Row, wall_us};
use crate::world::World;

/// Certificates measured with each signer, after a quarter as many to warm up.
const CERTIFICATES: usize = 2_000;
const LIBRARIES: &[&str] = &[
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
];
const INSTALL: &str = "install SoftHSM (Debian: apt-get install softhsm2); tests/run does it";

fn library() -> PathBuf {
    let found = LIBRARIES.iter().map(PathBuf::from).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("none of {LIBRARIES:?} is there: {INSTALL}"))
}

pub(crate) fn issue_pkcs11() -> Row {
    let dir = tempfile::tempdir().unwrap();
    let (tokens, conf) = (dir.path().join("tokens"), dir.path().join("softhsm2.conf"));
    std::fs::create_dir(&tokens).unwrap();
    std::fs::write(
        &conf,
        format!("directories.tokendir = {}\nobjectstore.backend = file\n", tokens.display()),
    )
    .unwrap();
    drop(library());
    let made = Process::new("softhsm2-util")
        .args(["--init-token", "--free", "--label", "bench", "--so-pin", "12345678", "--pin", "482915"])
        .env("SOFTHSM2_CONF", &conf)
        .output()
        .unwrap_or_else(|e| panic!("softhsm2-util: {e}: {INSTALL}"));
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let measured = Process::new(std::env::current_exe().unwrap())
        .arg("--token")
        .arg(dir.path())
        .env("SOFTHSM2_CONF", &conf)
        .output()
        .unwrap();
    assert!(measured.status.success(), "{}", String::from_utf8_lossy(&measured.stderr));
    let said: serde_json::Value = serde_json::from_slice(&measured.stdout).unwrap();
    let (token, file) = (said["token_us"].as_f64().unwrap(), said["file_us"].as_f64().unwrap());
    let met = token <= 10.0 * file;
    Row {
        name: "issue_pkcs11",
        measured: (token, "us"),
        floor: (file, "us"),
        goal: "<= 10 x the key in a file",
        met,
    }
}

/// The process that measures: prints both figures.
pub(crate) fn run_token(folder: &Path) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (file_us, token_us) = runtime.block_on(async {
        let mut world = World::start().await;
        let entity = world.partner().await;
        let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
        let file = per_certificate(&world, subject).await;
        world.close().await;
        use_token(&mut world, folder);
        world.open().await;
        rotate(&world).await;
        let token = per_certificate(&world, subject).await;
        world.close().await;
        (file, token)
    });
    println!("{}", serde_json::json!({ "file_us": file_us, "token_us": token_us }));
}

fn use_token(world: &mut World, folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let pin = folder.join("pin");
    std::fs::write(&pin, "482915").unwrap();
    std::fs::set_permissions(&pin, std::fs::Permissions::from_mode(0o600)).unwrap();
    world.settings.keys.pkcs11 = Some(Pkcs11Config {
        module: library(),
        token: "pkcs11:token=bench".parse().unwrap(),
        pin: PassphraseSource::File(pin),
        sessions: 4,
        timeout_ms: 5_000,
        new_keys: NewKeys::Token,
        access: None,
        system: None,
        log: None,
    });
}

/// The next access authority, whose key is made on the token.
async fn rotate(world: &World) {
    let request =
        pb::PrepareAuthorityRequest { kind: AuthorityKind::Access.to_string(), ..Default::default() };
    let made =
        AuthorityServiceClient::new(world.alice()).prepare_authority(request).await.unwrap().into_inner();
    let mandate = made.mandate.to_vec();
    let approvals = vec![world.alice.approve(&mandate), world.bob.approve(&mandate)];
    world.submit(mandate, approvals).await.unwrap();
    world.enact(Command::ActivateAuthority(made.authority_id.parse().unwrap())).await.unwrap();
}

async fn per_certificate(world: &World, subject: SubjectId) -> f64 {
    redeem(world, prepare(world, subject, CERTIFICATES / 4).await).await;
    let ready = prepare(world, subject, CERTIFICATES).await;
    let begin = wall_us();
    redeem(world, ready).await;
    (wall_us() - begin) / CERTIFICATES as f64
}
