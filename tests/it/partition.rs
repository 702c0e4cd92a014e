//! A revocation under way while its gateway is cut off and the service restarts: only an acknowledgement or the end of
//! every lease makes it enforced, and the gateway learns of it before it permits anything. The service's own answers are
//! waited for as well, until they are sent.

use std::net::SocketAddr;
use std::time::Duration;

use countersign::client::Gate;
use countersign::domain::decision::Denial;
use countersign::domain::enforce::bound_ms;
use countersign::pb;
use countersign::pb::revocation_service_client::RevocationServiceClient;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

use crate::gate::{self, PATIENCE, STRONG, permits, question, until};
use crate::kill::{Victim, brief};
use crate::world::World;

const LEASE_MS: u32 = 10_000;
/// The one request of all who ask: a retry is told how the first one stands.
pub(crate) const REQUEST: &str = "req_01KW4F6WG0GYFRG660A2NWY2P0";

fn bound() -> u32 {
    u32::try_from(bound_ms(LEASE_MS)).unwrap()
}

/// The network between a gateway and the service.
pub(crate) struct Network {
    pub(crate) address: SocketAddr,
    port: watch::Sender<Option<u16>>,
    task: JoinHandle<()>,
}

impl Network {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (port, leads) = watch::channel(None);
        let task = tokio::spawn(async move {
            let mut wires = tokio::task::JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let mut leads = leads.clone();
                let Some(port) = *leads.borrow_and_update() else { continue };
                wires.spawn(async move {
                    let Ok(mut far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = leads.changed() => {}
                    }
                });
            }
        });
        Self { address, port, task }
    }

    /// Every connection ends; new ones lead to this port.
    pub(crate) fn heal(&self, port: u16) {
        self.port.send_replace(Some(port));
    }

    /// Every connection ends, and there are no new ones.
    pub(crate) fn cut(&self) {
        self.port.send_replace(None);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Asks for this revocation, or for how it stands, as a task.
fn revoking(
    world: &World,
    mandate: &pb::SignedMandate,
    deadline_ms: u32,
) -> JoinHandle<Result<pb::Enforcement, Status>> {
    let request = pb::RevokeRequest {
        mandate: Some(mandate.clone()),
        wait: pb::Wait::Enforced.into(),
        deadline_ms,
        request_id: REQUEST.to_owned(),
        ..Default::default()
    };
    let mut client = RevocationServiceClient::new(world.alice());
    tokio::spawn(async move { Ok(client.revoke(request).await?.into_inner().enforcement.unwrap()) })
}

async fn signed(world: &World, leaf: &[u8]) -> pb::SignedMandate {
    let mandate = world.mandate(&gate::revoke(world, leaf)).await.unwrap();
    let approvals = vec![world.alice.approve(&mandate)];
    pb::SignedMandate { mandate: mandate.into(), approvals }
}

fn is_revoked(world: &World, leaf: &[u8]) -> bool {
    world.running().app().state().enforcement.revoked.contains(world.read(leaf).ordinal)
}

/// Moves the clock in small steps until the answer is there; how far it had to.
async fn answered(
    world: &World,
    mut task: JoinHandle<Result<pb::Enforcement, Status>>,
) -> (pb::Enforcement, u32) {
    let mut moved_ms = 0;
    loop {
        tokio::select! {
            done = &mut task => return (done.unwrap().unwrap(), moved_ms),
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
        assert!(moved_ms < 10 * bound(), "it is never answered");
        world.clock.advance_ms(50);
        moved_ms += 50;
        world.running().app().feed().tick();
    }
}

/// Back in touch, it denies for the revocation and has never permitted.
async fn learns(gate: &Gate, leaf: &[u8]) {
    until(gate, leaf, |gate, leaf| {
        let decided = gate.decide(leaf, &question("mythos-5"));
        assert!(!decided.is_permit(), "it permits before it learns: {decided:?}");
        decided.decision.denials == [Denial::CredentialRevoked]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_of_the_service_makes_no_revocation_enforced() {
    let (mut world, leaf) = gate::world_with_employee().await;
    let gateway = world.gateway("gw-1").await;
    let network = Network::start().await;
    network.heal(world.running().address().port());
    let gate = gate::connect(&world, (&gateway, network.address), STRONG, &world.clock).await;
    assert!(gate.decide_or_ask(&leaf, &question("mythos-5")).await.is_permit);
    until(&gate, &leaf, permits).await;
    network.cut();
    let mandate = signed(&world, &leaf).await;
    let waiting = revoking(&world, &mandate, 0);
    until(&gate, &leaf, |_, leaf| is_revoked(&world, leaf)).await;
    assert!(!waiting.is_finished());
    world.close().await;
    // Who waited is told how it stands.
    let told = waiting.await.unwrap().unwrap();
    assert_eq!((told.status(), told.pending), (pb::EnforcementStatus::Partial, vec!["gw-1".to_owned()]));

    world.open().await;
    assert!(is_revoked(&world, &leaf));
    assert!(permits(&gate, &leaf), "its lease still runs, and it knows of nothing");
    let (asked, asked_ms) = answered(&world, revoking(&world, &mandate, 500)).await;
    assert!(asked.durable);
    assert_eq!(
        (asked.status(), asked.enforced_by()),
        (pb::EnforcementStatus::Partial, pb::EnforcedBy::Unspecified)
    );
    let (enforced, moved_ms) = answered(&world, revoking(&world, &mandate, 0)).await;
    assert_eq!(enforced.status(), pb::EnforcementStatus::Enforced, "{enforced:?}");
    let moved_ms = asked_ms + moved_ms;
    assert!(moved_ms > LEASE_MS, "after {moved_ms} ms somebody could still hold a lease");
    assert!(!permits(&gate, &leaf));
    network.heal(world.running().address().port());
    learns(&gate, &leaf).await;
    gate.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_service_makes_no_revocation_enforced() {
    let (mut world, leaf) = gate::world_with_employee().await;
    let gateway = world.gateway("gw-1").await;
    let network = Network::start().await;
    let config = gate::config(&world, (&gateway, network.address), STRONG, &world.clock);
    let mandate = signed(&world, &leaf).await;
    brief(&world, "mandate", &hex::encode(&mandate.mandate));
    brief(&world, "signature", &hex::encode(&mandate.approvals[0].signature));
    world.close().await;
    let mut victim = Victim::start(&world, "revoke", None);
    network.heal(victim.tells("port ").parse().unwrap());
    let gate = Gate::connect(config).await.unwrap();
    gate.ready(PATIENCE).await.unwrap();
    assert!(gate.decide_or_ask(&leaf, &question("mythos-5")).await.is_permit);
    until(&gate, &leaf, permits).await;
    network.cut();
    brief(&world, "go", "");
    victim.says("revoked");
    victim.process.kill().unwrap();
    assert!(victim.last_words().is_empty());

    world.open().await;
    assert!(is_revoked(&world, &leaf));
    assert!(permits(&gate, &leaf), "its lease still runs, and it knows of nothing");
    network.heal(world.running().address().port());
    let (enforced, moved_ms) = answered(&world, revoking(&world, &mandate, 0)).await;
    assert_eq!(enforced.status(), pb::EnforcementStatus::Enforced, "{enforced:?}");
    assert!(moved_ms > LEASE_MS, "other gateways of the killed run could still hold a lease: {moved_ms} ms");
    learns(&gate, &leaf).await;
    gate.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_sent_yet_keeps_a_revocation_from_being_enforced() {
    let (world, leaf) = gate::world_with_employee().await;
    let gateway = world.gateway("gw-1").await;
    // It takes the headers of an answer and leaves no room for the body.
    let endpoint = Endpoint::from_static("https://localhost").initial_stream_window_size(0);
    let channel = world.connect_with(Some((&gateway.key, &gateway.certificate)), endpoint).await;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let request = tonic::Request::new(crate::calls::question(&leaf, "mythos-5"));
    let path = "/countersign.v1.AttestationService/Evaluate".parse().unwrap();
    let codec = ProstCodec::<pb::EvaluateRequest, pb::EvaluateResponse>::default();
    let answer = client.server_streaming(request, path, codec).await.unwrap();

    let mandate = signed(&world, &leaf).await;
    let (held_up, _) = answered(&world, revoking(&world, &mandate, 500)).await;
    assert_eq!(held_up.status(), pb::EnforcementStatus::Partial, "{held_up:?}");
    assert_eq!(held_up.pending, ["server"]);
    // Given up, it is in nobody's way.
    drop(answer);
    let done = revoking(&world, &mandate, 0);
    let done = tokio::time::timeout(PATIENCE, done).await.expect("no clock is needed").unwrap().unwrap();
    assert_eq!(done.status(), pb::EnforcementStatus::Enforced, "{done:?}");
}
