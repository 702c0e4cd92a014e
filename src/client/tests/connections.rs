//! Open connections over a real subscription: closed before the record is acknowledged that denies their holders.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use super::served::{config, eventually, issuer, leaf, serve};
use crate::ca::Issuer;
use crate::client::{Barred, Connection, Gate, Question};
use crate::domain::certificate::AuthorityKind;
use crate::domain::decision::Denial;
use crate::domain::enforce::{Chain, EnforcementEvent};
use crate::domain::id::{EntityId, Ordinal};
use crate::domain::revocation::{StopScope, SuspensionTarget};
use crate::env::Clock;
use crate::feed::tests::world::*;

const CONNECTIONS: usize = 10_000;
const RACES: u64 = 200;

struct Scene {
    world: World,
    access: Issuer,
    gate: Gate,
}

impl Scene {
    async fn new() -> Self {
        let mut world = World::new();
        world.commit(Vec::new(), &[entity(1), entity(2)]);
        world.clock.advance_ms(20_000);
        let (system, access) = (issuer(AuthorityKind::System), issuer(AuthorityKind::Access));
        let server = serve(&mut world, &system, &access).await;
        let gate = Gate::connect(config(&world, &server, &system)).await.unwrap();
        gate.ready(Duration::from_secs(20)).await.unwrap();
        Self { world, access, gate }
    }

    fn leaf(&self, of: EntityId, n: u8, ordinal: u64) -> Vec<u8> {
        leaf(&self.access, certificate(of, n).facts, ordinal, Vec::new()).0
    }

    /// Commits and waits until every participant acknowledged.
    async fn enforce(&mut self, event: EnforcementEvent) {
        let at = self.world.commit(vec![event], &[]);
        let report = self.world.feed.wait_enforced(at, self.world.clock.boot_ms(), None).await;
        assert!(report.is_enforced(), "{report:?}");
    }
}

/// Lets go of a connection when it is told to.
async fn hold(connection: Connection, closed: Arc<AtomicUsize>) {
    connection.denied().await;
    // Counted while it still holds the acknowledgement back.
    closed.fetch_add(1, Ordering::SeqCst);
    drop(connection);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_10_000_connections_those_of_one_entity_are_closed_before_the_barrier_ends() {
    let mut scene = Scene::new().await;
    let leaves: Vec<_> = (0..100).map(|n| scene.leaf(entity(1 + n % 2), n, u64::from(n) + 1)).collect();
    let closed = Arc::new(AtomicUsize::new(0));
    let mut held = JoinSet::new();
    for n in 0..CONNECTIONS {
        let connection = scene.gate.connections().register(&leaves[n % leaves.len()]).unwrap();
        held.spawn(hold(connection, Arc::clone(&closed)));
    }
    let cut = EnforcementEvent::EntityCut { entity: entity(1), cutoff: Ordinal(10_000) };
    scene.enforce(cut).await;
    assert_eq!(closed.load(Ordering::SeqCst), CONNECTIONS / 2);
    let metrics = scene.gate.metrics();
    assert_eq!((metrics.connections_open, metrics.connections_closed), (5_000, 5_000));
    assert_eq!(metrics.lag, 0);
    assert!(
        metrics.to_text().contains("\ncountersign_gate_connections_open 5000\n"),
        "{}",
        metrics.to_text()
    );
    let refused = scene.gate.connections().register(&leaves[0]).err().unwrap();
    assert_eq!(refused, Barred(Denial::CredentialRevoked.as_str()));
    drop(scene.gate.connections().register(&leaves[1]).unwrap());
    scene.gate.shutdown().await;
    while held.join_next().await.is_some() {}
    assert_eq!(closed.load(Ordering::SeqCst), CONNECTIONS, "a gate that ends closes what is open");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_and_a_cut_at_once_leave_no_connection_open() {
    let mut scene = Scene::new().await;
    for ordinal in 1..=RACES {
        let leaf = scene.leaf(entity(1), 1, ordinal);
        let (connections, closed) = (scene.gate.connections(), Arc::new(AtomicUsize::new(0)));
        let (begun, beginning) = tokio::sync::oneshot::channel();
        let handshakes = tokio::spawn(async move {
            let _ = begun.send(());
            let mut held = JoinSet::new();
            while let Ok(connection) = connections.register(&leaf) {
                held.spawn(hold(connection, Arc::clone(&closed)));
                tokio::task::yield_now().await;
            }
            while held.join_next().await.is_some() {}
        });
        beginning.await.unwrap();
        scene.enforce(EnforcementEvent::CertificateRevoked(Ordinal(ordinal))).await;
        // Enforced: what is entered now is refused, and what was entered before is closed.
        assert!(scene.gate.connections().count() <= 1, "at most the one that is just being refused");
        handshakes.await.unwrap();
        assert_eq!(scene.gate.connections().count(), 0);
    }
}

#[tokio::test]
async fn a_record_is_acknowledged_when_the_last_connection_is_closed() {
    let mut scene = Scene::new().await;
    let (first, second) = (scene.leaf(entity(1), 1, 1), scene.leaf(entity(1), 2, 2));
    let [stuck, other] = [&first, &second].map(|leaf| scene.gate.connections().register(leaf).unwrap());
    let before = scene.world.state.position.seq;
    let at = scene.world.commit(vec![EnforcementEvent::Held(Ordinal(1))], &[]);
    assert_eq!(stuck.denied().await, Denial::CredentialHeld.as_str());
    assert_eq!(other.why_denied(), None);
    // A later record of others is not acknowledged either: an acknowledgement is cumulative.
    scene.world.lock(9);
    eventually(|| scene.gate.status().position.seq > at.seq).await;
    assert_eq!(scene.world.feed.sessions()[0].acked, before);
    drop(stuck);
    eventually(|| scene.world.feed.sessions()[0].acked > at.seq).await;
    assert_eq!(other.why_denied(), None);
    scene.gate.shutdown().await;
}

#[tokio::test]
async fn suspensions_stops_and_the_end_of_a_certificate_close_connections() {
    let events = [
        EnforcementEvent::Suspended(SuspensionTarget::Entity(entity(1))),
        EnforcementEvent::Stopped(StopScope::All),
        EnforcementEvent::LineageLocked(lineage(1)),
    ];
    for (event, why) in
        events.into_iter().zip(["P-SUSPENDED", "EMERGENCY_STOP", Denial::CredentialLineageLocked.as_str()])
    {
        let mut scene = Scene::new().await;
        let leaf = scene.leaf(entity(1), 1, 1);
        let connection = scene.gate.connections().register(&leaf).unwrap();
        scene.world.commit(vec![event], &[]);
        assert_eq!(connection.denied().await, why);
        assert_eq!(scene.gate.connections().register(&leaf).err().unwrap().0, why);
        drop(connection);
        scene.gate.shutdown().await;
    }
}

#[tokio::test]
async fn a_stream_is_closed_by_what_denies_its_question() {
    let mut scene = Scene::new().await;
    let leaf = scene.leaf(entity(1), 1, 1);
    scene.gate.want(entity(1));
    eventually(|| scene.gate.decide(&leaf, &request()).is_permit()).await;
    let question = Question::inference(MODEL).from_place(request().place);
    let connection = scene.gate.connections().register(&leaf).unwrap();
    let stream = scene.gate.connections().register_stream(&leaf, question).unwrap();
    scene.world.commit(vec![EnforcementEvent::Stopped(StopScope::Model(MODEL.parse().unwrap()))], &[]);
    assert_eq!(stream.denied().await, Denial::EmergencyStop.as_str());
    assert_eq!(connection.why_denied(), None, "it may ask for other models");
    drop(stream);
    scene.gate.shutdown().await;
}

/// Why it is closed, in time.
async fn closed(stream: &Connection) -> &'static str {
    tokio::time::timeout(Duration::from_secs(20), stream.denied()).await.expect("in time")
}

#[tokio::test]
async fn a_stop_and_a_new_policy_close_streams_that_only_the_server_can_decide() {
    let mut scene = Scene::new().await;
    let leaf = scene.leaf(entity(1), 1, 1);
    let question = || Question::inference(MODEL).from_place(request().place);
    let connections = scene.gate.connections();
    // Its card is not here: the server permitted it.
    let stream = connections.register_stream(&leaf, question()).unwrap();
    let at = scene.world.lock(9);
    eventually(|| scene.gate.status().position >= at).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(stream.why_denied(), None, "neither others nor the upkeep close it");
    let bundle = Arc::clone(&scene.world.state.enforcement.bundle);
    scene.world.commit(vec![EnforcementEvent::PolicyAdopted(bundle)], &[]);
    assert_eq!(closed(&stream).await, Denial::ServerNotAsked.as_str());
    drop(stream);
    let stream = connections.register_stream(&leaf, question()).unwrap();
    scene.world.commit(vec![EnforcementEvent::Stopped(StopScope::Model(MODEL.parse().unwrap()))], &[]);
    assert_eq!(closed(&stream).await, Denial::EmergencyStop.as_str());
    drop(stream);
    assert_eq!(connections.register_stream(&leaf, question()).err().unwrap().0, "EMERGENCY_STOP");
    scene.gate.shutdown().await;
}

#[tokio::test]
async fn what_takes_an_intermediary_away_closes_the_streams_that_pass_through_it() {
    let mut scene = Scene::new().await;
    let leaf = scene.leaf(entity(1), 1, 1);
    let mut question = Question::inference(MODEL).from_place(request().place);
    question.chain = Chain { hops: vec![entity(2)], end_user_identified: true };
    scene.gate.want(entity(1));
    eventually(|| scene.gate.decide(&leaf, &request()).is_permit()).await;
    for event in [
        EnforcementEvent::EntityCut { entity: entity(2), cutoff: Ordinal(10) },
        EnforcementEvent::Stopped(StopScope::Entity(entity(2))),
        EnforcementEvent::Suspended(SuspensionTarget::Entity(entity(2))),
    ] {
        let stream = scene.gate.connections().register_stream(&leaf, question.clone()).unwrap();
        scene.world.commit(vec![event], &[]);
        assert_eq!(closed(&stream).await, Denial::ServerNotAsked.as_str());
        drop(stream);
    }
    assert_eq!(scene.gate.connections().count(), 0);
    scene.gate.shutdown().await;
}

#[tokio::test]
async fn an_answer_that_a_record_overtook_is_not_begun() {
    let mut scene = Scene::new().await;
    let leaf = scene.leaf(entity(1), 1, 1);
    let question = || Question::inference(MODEL).from_place(request().place);
    let before = scene.gate.status().position;
    drop(scene.gate.connections().register_answer(&leaf, question(), before).unwrap());
    let at = scene.world.lock(9);
    eventually(|| scene.gate.status().position >= at).await;
    let barred = scene.gate.connections().register_answer(&leaf, question(), before).err();
    assert_eq!(barred, Some(Barred(Denial::ServerNotAsked.as_str())));
    scene.gate.shutdown().await;
}

#[tokio::test]
async fn without_a_lease_connections_end_with_the_streams_promise() {
    let scene = Scene::new().await;
    let leaf = scene.leaf(entity(1), 1, 1);
    let connection = scene.gate.connections().register(&leaf).unwrap();
    // The process stood still: the lease is gone, and comes back only with a Pong. Streams are promised to end in 100 ms.
    scene.world.clock.advance_ms(3_000);
    let ended = tokio::spawn(async move { connection.denied().await });
    eventually(|| {
        scene.world.clock.advance_ms(3_000);
        ended.is_finished()
    })
    .await;
    assert_eq!(ended.await.unwrap(), Denial::StaleView.as_str());
    scene.gate.shutdown().await;
}
