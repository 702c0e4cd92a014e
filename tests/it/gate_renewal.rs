//! A gate renews its own certificate at seven tenths of its life, for the same key, and goes on with its lease.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use countersign::client::{Gate, GateConfig, GateOptions, Renewal};
use countersign::domain::certificate::AuthorityKind;
use countersign::domain::command::Command;
use countersign::domain::time::Timestamp;
use countersign::env::{Clock, Entropy, SystemEntropy};
use countersign::pb;
use countersign::pb::attestation_service_client::AttestationServiceClient;
use countersign::pb::enforcement_service_client::EnforcementServiceClient;
use countersign::x509::bundle::certificate_pem;
use countersign::x509::parse;
use tokio::time::timeout;
use tonic::Code;

use crate::calls::{enrolled, key};
use crate::gate::{PATIENCE, STRONG, config, permits, question, until};
use crate::world::World;

const DAY_MS: u32 = 86_400_000;

async fn registered(world: &World) -> pb::Gateway {
    let mut client = EnforcementServiceClient::new(world.alice());
    let request = pb::GetGatewayRequest { gateway: "gw-1".to_owned() };
    client.get_gateway(request).await.unwrap().into_inner().gateway.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_renews_its_certificate_and_keeps_its_lease() {
    let mut world = World::start().await;
    let caller = world.gateway("gw-1").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.pem");
    std::fs::write(&path, certificate_pem(&caller.certificate)).unwrap();
    let before = std::fs::read_to_string(&path).unwrap();
    let config = config(&world, (&caller, world.running().address()), STRONG, &world.clock);
    let options = GateOptions { renewal: Some(Renewal::to_file(&path)), ..GateOptions::default() };
    let gate = Gate::connect_with(config, options).await.unwrap();
    gate.ready(PATIENCE).await.unwrap();
    assert_eq!(gate.metrics().certificate_left_s, Some(30 * 86_400));
    let first = registered(&world).await;
    // Twenty days are two thirds of its life.
    world.clock.advance_ms(20 * DAY_MS);
    until(&gate, &[], |gate, _| gate.status().fault.is_none()).await;
    assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
    world.clock.advance_ms(3 * DAY_MS);
    until(&gate, &[], |gate, _| gate.metrics().certificate_left_s > Some(29 * 86_400)).await;
    until(&gate, &[], |gate, _| gate.status().fault.is_none()).await;
    let after = std::fs::read_to_string(&path).unwrap();
    assert_ne!(after, before);
    // One session: the same run of the gateway, with the same registered key and a later certificate.
    let second = registered(&world).await;
    let end = |gateway: &pb::Gateway| gateway.certificate_not_after.parse::<Timestamp>().unwrap();
    assert!(end(&second) > world.clock.now().plus_ms(29 * i64::from(DAY_MS)));
    assert_eq!(second.key_sha256, first.key_sha256);
    let boots =
        |gateway: &pb::Gateway| gateway.sessions.iter().map(|s| s.boot_id.clone()).collect::<Vec<_>>();
    assert_eq!(boots(&second), boots(&first));
    // After the end of the first one it is still there. The server renews its own certificate at a start.
    let port = world.running().address().port();
    world.close().await;
    world.open_at(port).await;
    world.clock.advance_ms(10 * DAY_MS);
    until(&gate, &[], |gate, _| gate.status().fault.is_none()).await;
    gate.shutdown().await;
}

/// Nothing is spread: what is due is due at once.
pub(crate) struct NoJitter;

impl Entropy for NoJitter {
    fn fill(&self, bytes: &mut [u8]) {
        SystemEntropy.fill(bytes);
        bytes[..8].fill(0);
    }
}

/// As the machine's clock does, while a gate may not stand still.
async fn run_clock(world: &World, until: impl Fn() -> bool) {
    let step = async {
        while !until() {
            tokio::time::sleep(Duration::from_millis(100)).await;
            world.clock.advance_ms(100);
        }
    };
    timeout(Duration::from_secs(60), step).await.expect("it happens");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_denied_while_a_gate_renews_its_certificate() {
    let world = World::start().await;
    let caller = world.gateway("gw-1").await;
    let config = GateConfig {
        entropy: Arc::new(NoJitter),
        ..config(&world, (&caller, world.running().address()), STRONG, &world.clock)
    };
    let first = parse(&caller.certificate, &config.profile).unwrap();
    let (begin, end) = (first.not_before().millis(), first.not_after().millis());
    let due = Timestamp::from_millis(begin + (end - begin) / 10 * 7);
    let left = due.millis() - world.clock.now().millis() - 5_000;
    world.clock.advance_ms(u32::try_from(left).unwrap());
    let (entity, _, person) = enrolled(&world).await;
    let options = GateOptions { renewal: Some(Renewal::with(|_| Ok(()))), ..GateOptions::default() };
    let gate = Arc::new(Gate::connect_with(config, options).await.unwrap());
    gate.ready(PATIENCE).await.unwrap();
    gate.want(entity);
    let leaf = person.certificate;
    run_clock(&world, || permits(&gate, &leaf)).await;
    assert!(world.clock.now() < due, "it is not renewed yet");
    let before = registered(&world).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let (asker, stop) = (Arc::clone(&gate), Arc::clone(&is_over));
    let asking = std::thread::spawn(move || {
        let mut asked = 0_u64;
        while !stop.load(Ordering::Relaxed) {
            let decided = asker.decide(&leaf, &question("mythos-5"));
            assert!(decided.is_permit(), "after {asked} permits: {decided:?} {:?}", asker.status());
            asked += 1;
        }
        asked
    });
    let life_s = (end - begin) / 1_000;
    run_clock(&world, || gate.metrics().certificate_left_s > Some(life_s * 9 / 10)).await;
    // A lease that was granted over the new connection, and the old one's is over.
    let renewed_at = world.clock.now();
    run_clock(&world, || world.clock.now() > renewed_at.plus_ms(12_000) || asking.is_finished()).await;
    is_over.store(true, Ordering::Relaxed);
    assert!(asking.join().expect("no request was denied") > 1_000);
    let after = registered(&world).await;
    assert!(after.certificate_not_after > before.certificate_not_after, "{after:?}");
    let [old, new] = [&before, &after].map(|gateway| &gateway.sessions[0]);
    assert_eq!((&new.boot_id, new.connected, after.sessions.len()), (&old.boot_id, true, 1));
    assert!(new.connected_since > old.connected_since, "another connection, with the new certificate");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_renews_its_certificate_when_its_authority_retires() {
    let world = World::start().await;
    let caller = world.gateway("gw-1").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.pem");
    let config = config(&world, (&caller, world.running().address()), STRONG, &world.clock);
    let options = GateOptions { renewal: Some(Renewal::to_file(&path)), ..GateOptions::default() };
    let gate = Gate::connect_with(config, options).await.unwrap();
    gate.ready(PATIENCE).await.unwrap();
    let next = world.prepare(AuthorityKind::System).await;
    until(&gate, &[], |gate, _| gate.system_bundle_pem().matches("BEGIN CERTIFICATE").count() == 2).await;
    world.enact(Command::ActivateAuthority(next)).await.unwrap();
    let told = || world.running().app().state().feed_seq;
    until(&gate, &[], |gate, _| gate.status().position.seq >= told()).await;
    // Within a minute of when it looked, not all gateways at once.
    let is_renewed = |_: &Gate, _: &[u8]| {
        world.clock.advance_ms(1_000);
        path.exists()
    };
    until(&gate, &[], is_renewed).await;
    let renewed = pem::parse(std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(world.read(renewed.contents()).issuer, next);
    until(&gate, &[], |gate, _| gate.status().fault.is_none()).await;
    gate.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_cannot_be_kept_is_not_used() {
    let world = World::start().await;
    let caller = world.gateway("gw-1").await;
    let config = config(&world, (&caller, world.running().address()), STRONG, &world.clock);
    let renewal = Some(Renewal::with(|_| Err(std::io::Error::other("the disk is full"))));
    let gate = Gate::connect_with(config, GateOptions { renewal, ..GateOptions::default() }).await.unwrap();
    gate.ready(PATIENCE).await.unwrap();
    world.clock.advance_ms(23 * DAY_MS);
    until(&gate, &[], |gate, _| gate.status().last_fault.contains("the disk is full")).await;
    until(&gate, &[], |gate, _| gate.status().fault.is_none()).await;
    assert!(gate.metrics().certificate_left_s < Some(8 * 86_400));
    gate.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_registered_key_is_renewed() {
    let world = World::start().await;
    let caller = world.gateway("gw-1").await;
    let mut client = AttestationServiceClient::new(world.connect_as(&caller).await);
    let mut renew = async |csr: Vec<u8>| {
        let request = pb::RenewPrincipalCertificateRequest { csr: csr.into() };
        client.renew_principal_certificate(request).await
    };
    let own = caller.key.request().unwrap();
    let head = world.running().app().journal().head().seq;
    let same = renew(own.clone()).await.unwrap().into_inner();
    assert_eq!(same.certificate, caller.certificate, "half of its life is not over");
    assert_eq!(world.running().app().journal().head().seq, head, "and nothing is recorded");
    for csr in [key().request().unwrap(), Vec::new(), b"junk".to_vec()] {
        let refused = renew(csr).await.unwrap_err();
        assert!(matches!(refused.code(), Code::InvalidArgument | Code::FailedPrecondition), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_lives_as_long_as_its_authority_is_not_issued_again() {
    let world = World::start().await;
    let caller = world.gateway("gw-1").await;
    let app = world.running().app();
    let csr = caller.key.request().unwrap();
    let id = "gw-1".parse().unwrap();
    // The authority of the tests lives 365 days.
    for _ in 0..355 {
        world.clock.advance_ms(DAY_MS);
    }
    let last = app.issue_principal(&id, &csr).await.unwrap();
    assert_ne!(last.certificate, caller.certificate);
    let head = app.journal().head().seq;
    world.clock.advance_ms(DAY_MS);
    assert_eq!(app.issue_principal(&id, &csr).await.unwrap().certificate, last.certificate);
    assert_eq!(app.journal().head().seq, head, "nothing is signed or recorded");
}
