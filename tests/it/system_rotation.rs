//! The system authority, rotated by the server itself over the wire: gateways and officers follow while they are connected, and go on
//! when nothing of the one before is left.

use std::sync::Arc;
use std::time::Duration;

use countersign::app::store;
use countersign::client::{Gate, GateConfig, GateOptions, Renewal};
use countersign::domain::authority::AuthorityState;
use countersign::domain::certificate::AuthorityKind;
use countersign::domain::command::Command;
use countersign::domain::event::Event;
use countersign::domain::id::{AuthorityId, PrincipalId, Seq};
use countersign::env::Clock as _;
use countersign::pb;
use countersign::pb::attestation_service_client::AttestationServiceClient;
use countersign::pb::audit_service_client::AuditServiceClient;
use countersign::pb::authority_service_client::AuthorityServiceClient;
use tonic::transport::Channel;

use crate::calls::enrolled;
use crate::gate::{self, PATIENCE, STRONG, permits};
use crate::gate_renewal::NoJitter;
use crate::world::World;

const SYSTEM: AuthorityKind = AuthorityKind::System;
const HOUR_MS: u32 = 3_600_000;
const LIMIT: Duration = Duration::from_secs(60);

async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let until_so = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, until_so).await.is_ok(), "not in time: {what}");
}

impl World {
    fn system(&self) -> AuthorityId {
        self.running().app().state().authority(SYSTEM).unwrap().id
    }

    fn of_system(&self, id: AuthorityId) -> AuthorityState {
        self.running().app().state().authorities[&id].state
    }

    /// Asks over an open connection for an officer's next certificate, and connects with it.
    async fn alice_again(&self, channel: &Channel) -> (Channel, AuthorityId) {
        let csr = self.alice.key.request().unwrap().into();
        let mut client = AttestationServiceClient::new(channel.clone());
        let next = client.renew_principal_certificate(pb::RenewPrincipalCertificateRequest { csr }).await;
        let leaf = next.unwrap().into_inner().certificate.to_vec();
        let issuer = self.read(&leaf).issuer;
        (self.connect(Some((&self.alice.key, &leaf))).await, issuer)
    }

    /// What the server did by itself with an authority.
    fn steps_with(&self, id: AuthorityId) -> Vec<&'static str> {
        let records = self.running().app().journal().read(Seq(1), 100_000).unwrap();
        let events = records.iter().map(|record| store::entry_of(record).unwrap().event);
        let steps = events.filter_map(|event| match event {
            Event::RotationStepped { step, .. } if step.authority() == id => Some(step.name()),
            _ => None,
        });
        steps.collect()
    }

    fn held_by(&self, name: &str) -> AuthorityId {
        let state = self.running().app().state();
        let name = name.parse::<PrincipalId>().unwrap();
        state.system_certificates[&name].issuer
    }
}

async fn head(channel: &Channel) {
    let mut client = AuditServiceClient::new(channel.clone());
    client.get_head(pb::GetHeadRequest::default()).await.expect("an officer's call");
}

/// Two officers have one issue that lives two days: its successor is due after one, and is to issue after forty hours.
async fn short_lived(world: &World) -> AuthorityId {
    world.clock.advance_ms(5);
    let mut client = AuthorityServiceClient::new(world.alice());
    let request =
        pb::PrepareAuthorityRequest { kind: SYSTEM.to_string(), life_days: 2, ..Default::default() };
    let mandate = client.prepare_authority(request).await.unwrap().into_inner().mandate.to_vec();
    let approvals = vec![world.alice.approve(&mandate), world.bob.approve(&mandate)];
    world.submit(mandate, approvals).await.unwrap();
    let prepared = world.running().app().state().prepared(SYSTEM).map(|row| row.id).unwrap();
    let activated = tokio::time::timeout(LIMIT, async {
        while world.enact(Command::ActivateAuthority(prepared)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    activated.await.expect("the gate acknowledges it");
    prepared
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_rotates_the_system_authority_and_gateways_and_officers_follow() {
    let world = World::start().await;
    let (entity, _, person) = enrolled(&world).await;
    let caller = world.gateway("gw-1").await;
    let config = gate::config(&world, (&caller, world.running().address()), STRONG, &world.clock);
    let config = GateConfig { entropy: Arc::new(NoJitter), ..config };
    let options = GateOptions { renewal: Some(Renewal::with(|_| Ok(()))), ..GateOptions::default() };
    let gate = Gate::connect_with(config, options).await.unwrap();
    gate.ready(PATIENCE).await.unwrap();
    gate.want(entity);
    gate::until(&gate, &person.certificate, permits).await;
    // The next one ends before the gate's certificate of the first would; the gate takes one of it all the same.
    let old = short_lived(&world).await;
    eventually("the gate has one of it", || {
        world.clock.advance_ms(500);
        world.held_by("gw-1") == old
    })
    .await;
    let (alice, issuer) = world.alice_again(&world.alice()).await;
    assert_eq!(issuer, old);
    let until = world.clock.now().plus_ms(100 * 86_400_000);
    world.enact(Command::PermitRotation { kind: SYSTEM, until, rotations: 1 }).await.unwrap();
    world.clock.advance_ms(24 * HOUR_MS + 60_000);
    let prepared = || world.running().app().state().prepared(SYSTEM).map(|row| row.id);
    eventually("it is prepared", || prepared().is_some()).await;
    let next = prepared().unwrap();
    head(&alice).await;
    gate::until(&gate, &[], |gate, _| gate.system_bundle_pem().matches("BEGIN CERTIFICATE").count() == 3)
        .await;
    world.clock.advance_ms(16 * HOUR_MS);
    eventually("it issues", || world.system() == next).await;
    assert_eq!(world.steps_with(next), ["PREPARE", "ACTIVATE"]);
    // It may have asked a moment too early, when seven tenths of its life were over, and asks again after a minute.
    eventually("the gate has one of the next", || {
        world.clock.advance_ms(500);
        world.held_by("gw-1") == next
    })
    .await;
    gate::until(&gate, &[], |gate, _| gate.status().fault.is_none()).await;
    // Over the connection that was open all the time.
    head(&alice).await;
    let (alice, issuer) = world.alice_again(&alice).await;
    assert_eq!(issuer, next);
    // Nothing of the old one is good any more when it has ended, so it goes; whoever has one of the next goes on.
    world.clock.advance_ms(9 * HOUR_MS);
    eventually("the old one goes", || world.of_system(old) == AuthorityState::Retired).await;
    assert_eq!(world.steps_with(old), ["RETIRE"]);
    head(&alice).await;
    gate::until(&gate, &[], |gate, _| gate.status().fault.is_none()).await;
    gate.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_that_health_trusts_follows_the_record() {
    let mut world = World::start().await;
    let file = world.dir.path().join("trust/system.pem");
    let is_written = |world: &World| {
        let pem = world.running().app().trusted(SYSTEM).unwrap().to_pem();
        std::fs::read_to_string(&file).is_ok_and(|held| held == pem)
    };
    eventually("the first is written", || is_written(&world)).await;
    let first = std::fs::read_to_string(&file).unwrap();
    world.rotate(SYSTEM).await;
    eventually("the next is written", || is_written(&world)).await;
    assert_ne!(std::fs::read_to_string(&file).unwrap(), first);
    // What was altered meanwhile is put right by a start.
    world.close().await;
    std::fs::write(&file, &first).unwrap();
    world.open().await;
    eventually("it is put right", || is_written(&world)).await;
}
