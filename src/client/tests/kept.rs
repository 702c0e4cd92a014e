//! What a gate keeps across restarts: it begins where it was, permits nothing before the first Pong, and refuses a server
//! that lost history meanwhile.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use super::served::{Server, config, eventually, issuer, leaf, serve};
use crate::ca::Issuer;
use crate::client::{Gate, GateConfig, GateOptions, SnapshotFile};
use crate::domain::certificate::AuthorityKind;
use crate::domain::decision::Denial;
use crate::feed::tests::world::*;

struct Scene {
    world: World,
    system: Issuer,
    access: Issuer,
    server: Server,
    folder: tempfile::TempDir,
}

impl Scene {
    async fn new() -> Self {
        let mut world = World::new();
        world.commit(Vec::new(), &[entity(1)]);
        world.lock(1);
        world.clock.advance_ms(20_000);
        let (system, access) = (issuer(AuthorityKind::System), issuer(AuthorityKind::Access));
        let server = serve(&mut world, &system, &access).await;
        Self { world, system, access, server, folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("view")
    }

    fn config(&self) -> GateConfig {
        config(&self.world, &self.server, &self.system)
    }

    async fn gate(&self, config: GateConfig) -> Gate {
        let snapshot = Some(SnapshotFile::at(self.path()));
        Gate::connect_with(config, GateOptions { snapshot, ..GateOptions::default() }).await.unwrap()
    }

    /// A gate that was ready, held a card and was shut down.
    async fn keep(&self) {
        let gate = self.gate(self.config()).await;
        gate.want(entity(1));
        gate.ready(Duration::from_secs(20)).await.unwrap();
        let (der, _) = leaf(&self.access, certificate(entity(1), 2).facts, 2, Vec::new());
        eventually(|| gate.decide(&der, &request()).is_permit()).await;
        gate.shutdown().await;
    }
}

fn nowhere(mut config: GateConfig) -> GateConfig {
    config.target.address = "127.0.0.1:1".to_owned();
    config
}

#[tokio::test]
async fn a_gate_begins_where_it_was_and_permits_nothing_before_the_first_pong() {
    let mut scene = Scene::new().await;
    scene.keep().await;
    let mode = std::fs::metadata(scene.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (der, _) = leaf(&scene.access, certificate(entity(1), 2).facts, 2, Vec::new());
    // Without a server it knows where it was, and denies.
    let alone = scene.gate(nowhere(scene.config())).await;
    assert_eq!(alone.status().position, scene.world.state.position);
    assert_eq!(alone.decide(&der, &request()).decision.denials[0], Denial::StaleView);
    assert!(alone.connections().register(&der).is_err());
    alone.shutdown().await;
    // With one it resumes: no snapshot is sent, and the card comes without being asked for again.
    let snapshots = scene.world.feed.counts().snapshots;
    let at = scene.world.lock(9);
    let gate = scene.gate(scene.config()).await;
    gate.ready(Duration::from_secs(20)).await.unwrap();
    eventually(|| gate.decide(&der, &request()).is_permit()).await;
    assert_eq!(gate.status().position, at);
    assert_eq!(scene.world.feed.counts().snapshots, snapshots);
    gate.shutdown().await;
}

#[tokio::test]
async fn a_file_that_is_broken_or_of_another_service_is_passed_over() {
    let scene = Scene::new().await;
    scene.keep().await;
    let whole = std::fs::read(scene.path()).unwrap();
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    let broken = [
        Vec::new(),
        b"garbage".to_vec(),
        whole[..whole.len() / 2].to_vec(),
        [whole.as_slice(), b"more"].concat(),
        flipped(7),
        flipped(20),
        flipped(45),
        flipped(whole.len() - 1),
    ];
    let begins_empty = async |config: GateConfig| {
        let gate = scene.gate(nowhere(config)).await;
        let position = gate.status().position;
        gate.shutdown().await;
        position == crate::domain::enforce::Position::default()
    };
    for bytes in broken {
        std::fs::write(scene.path(), &bytes).unwrap();
        assert!(begins_empty(scene.config()).await, "{} bytes", bytes.len());
    }
    std::fs::write(scene.path(), &whole).unwrap();
    assert!(!begins_empty(scene.config()).await);
    let foreign = GateConfig { log_key: [9; 32], ..scene.config() };
    assert!(begins_empty(foreign).await);
    // A folder where the file should be, and then the file again: it goes on without.
    std::fs::remove_file(scene.path()).unwrap();
    std::fs::create_dir(scene.path()).unwrap();
    let gate = scene.gate(scene.config()).await;
    gate.ready(Duration::from_secs(20)).await.unwrap();
    gate.shutdown().await;
    assert!(Path::new(&scene.path()).is_dir());
}

#[tokio::test]
async fn a_server_that_lost_history_while_the_gate_was_down_is_refused() {
    let scene = Scene::new().await;
    scene.keep().await;
    let held = scene.world.state.position;
    // The same number of records, and another history.
    *scene.world.heads.branch.lock().unwrap() = 1;
    let gate = scene.gate(scene.config()).await;
    eventually(|| !gate.status().last_fault.is_empty()).await;
    assert!(gate.ready(Duration::from_millis(500)).await.is_err());
    assert!(gate.status().fault.is_some());
    assert!(scene.world.feed.rollback().is_some(), "the server was shown its own signature");
    gate.shutdown().await;
    // What it keeps stays as it was, so the next run refuses as well.
    let gate = scene.gate(nowhere(scene.config())).await;
    assert_eq!(gate.status().position, held);
    gate.shutdown().await;
}

#[tokio::test]
async fn the_kept_view_is_dropped_when_its_claim_is_refused_and_for_nothing_else() {
    let scene = Scene::new().await;
    scene.keep().await;
    let held = scene.world.state.position;
    // It is not registered as one that can be paused.
    let mut config = scene.config();
    config.strength.pausable = true;
    let gate = scene.gate(config).await;
    eventually(|| gate.status().last_fault.contains("--pausable")).await;
    assert_eq!(gate.status().position, held);
    gate.shutdown().await;
    // A server that never recorded this, and signed no head that would show that it lost it.
    let mut other = World::new();
    other.commit(Vec::new(), &[entity(1)]);
    other.lock(2);
    other.clock.advance_ms(20_000);
    let server = serve(&mut other, &scene.system, &scene.access).await;
    let gate = scene.gate(super::served::config(&other, &server, &scene.system)).await;
    gate.ready(Duration::from_secs(20)).await.unwrap();
    assert!(other.feed.counts().snapshots > 0);
    gate.shutdown().await;
}
