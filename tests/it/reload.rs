//! What changes while the service runs: its own certificate and key, and who may call over connections that are open.

use std::time::Duration;

use countersign::ca::{FileSigner, SignatureAlgorithm};
use countersign::domain::command::Command;
use countersign::domain::person::EvidenceKind;
use countersign::domain::revocation::{RevocationReason, RevocationScope};
use countersign::pb;
use countersign::x509::Curve;
use tonic::Code;

use crate::calls::{key, refused};
use crate::world::{World, tls_stream};

/// The service looks once a second; a busy machine may need many times that.
const LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
const DAY_MS: u32 = 86_400_000;

/// The certificate that the service shows to who connects now.
async fn shown(world: &World) -> Vec<u8> {
    let stream = tls_stream(world.tls(None), world.running().address()).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

async fn shows_another(world: &World, old: &[u8]) -> Vec<u8> {
    let another = async {
        loop {
            let now = shown(world).await;
            if now != old {
                return now;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(LIMIT, another).await.expect("it shows another certificate")
}

async fn head(world: &World) {
    let mut audit = pb::audit_service_client::AuditServiceClient::new(world.alice());
    audit.get_head(pb::GetHeadRequest::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_s_certificate_is_replaced_at_half_of_its_life_without_a_restart() {
    let world = World::start().await;
    head(&world).await;
    let old = shown(&world).await;
    // Thirty days is its life. Day by day: a service that is down for a week asks its officers for the clock.
    for _ in 0..16 {
        world.clock.advance_ms(DAY_MS);
    }
    let new = shows_another(&world, &old).await;
    let (old, new) = (world.read(&old), world.read(&new));
    assert_eq!(old.key, new.key, "the key stays");
    assert!(new.not_after > old.not_after && new.ordinal > old.ordinal);
    // Connections that were open go on.
    head(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_key_that_is_replaced_on_disk_is_certified_and_used_without_a_restart() {
    let world = World::start().await;
    let old = shown(&world).await;
    let keys = world.settings.data.join("keys");
    FileSigner::create(&keys.join("next.pem"), SignatureAlgorithm::Ecdsa(Curve::P256)).unwrap();
    std::fs::rename(keys.join("next.pem"), keys.join("server.pem")).unwrap();
    let new = shows_another(&world, &old).await;
    assert_ne!(world.read(&old).key, world.read(&new).key);
    head(&world).await;
    // Something that is no key changes nothing.
    std::fs::write(keys.join("server.pem"), b"not a key").unwrap();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert_eq!(shown(&world).await, new);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_cut_off_is_refused_at_the_next_call_of_an_open_connection() {
    let world = World::start().await;
    let entity = world.partner().await;
    let person = world.enroll(world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await).await;
    let gateway = world.gateway("gw-1").await;
    let (of_person, of_gateway) = (world.connect_as(&person).await, world.connect_as(&gateway).await);
    world.renew(&of_person, &key()).await.unwrap();
    let bundle = |channel| async move {
        let mut client = pb::attestation_service_client::AttestationServiceClient::new(channel);
        client.get_trust_bundle(pb::GetTrustBundleRequest {}).await
    };
    bundle(of_gateway.clone()).await.unwrap();
    let ordinal = world.read(&person.certificate).ordinal;
    let scope = RevocationScope::Certificate(ordinal);
    let revoke = Command::Revoke { scope, reason: RevocationReason::Misuse };
    world.restrict(revoke, pb::Wait::Committed).await.unwrap();
    refused(world.renew(&of_person, &key()).await, Code::Unauthenticated, "your certificate is refused");
    world.enact(Command::RemovePrincipal("gw-1".parse().unwrap())).await.unwrap();
    refused(bundle(of_gateway).await, Code::Unauthenticated, "no registered principal");
    // One that ended while its connection was open.
    let alice = world.alice();
    for _ in 0..31 {
        world.clock.advance_ms(DAY_MS);
    }
    refused(bundle(alice).await, Code::Unauthenticated, "your certificate is refused");
}
