//! The real, unmodified Envoy in front of a model, asking this service for every request: 200, and after the revocation
//! 403 at the next request on the same open connection.

use std::path::Path;
use std::sync::Arc;

use countersign::domain::algorithm::AlgorithmProfile;
use countersign::domain::command::Command;
use countersign::domain::person::EvidenceKind;
use countersign::domain::revocation::{RevocationReason, RevocationScope, StopScope};
use countersign::env::{Clock, SystemClock};
use countersign::pb;
use countersign::x509::Curve;

use crate::envoy::{Credential, Envoy, HttpsClient, Upstream, client_config};
use crate::world::{Caller, World};

const SAMPLE: &str = include_str!("../../deploy/envoy/envoy.yaml");
const HOST: &str = "gateway.test.example";

fn write(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn pem(der: &[u8]) -> String {
    countersign::x509::bundle::certificate_pem(der)
}

/// The sample configuration in front of a service, and the certificate of its listener.
async fn envoy(world: &World, gateway: &Caller, upstream: &Upstream) -> (Envoy, String) {
    let (sample, algorithm) = match world.curve {
        Curve::P256 => (SAMPLE.to_owned(), &rcgen::PKCS_ECDSA_P256_SHA256),
        // As docs/gateways.md says for a service of the profile cnsa.
        Curve::P384 => {
            let named = SAMPLE.replace("[X25519MLKEM768, X25519, P-256]", "[P-384]");
            assert_eq!(named.matches("ecdh_curves: [P-384]").count(), 2);
            (named, &rcgen::PKCS_ECDSA_P384_SHA384)
        }
    };
    let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
    let listener = rcgen::CertificateParams::new(vec![HOST.to_owned()]).unwrap().self_signed(&key).unwrap();
    let dir = world.dir.path();
    let values = [
        ("BUNDLE", write(dir, "access.pem", &world.access_pem())),
        ("SYSTEM_BUNDLE", write(dir, "system.pem", &world.system_pem())),
        ("SERVER_CERT", write(dir, "listener.pem", &listener.pem())),
        ("SERVER_KEY", write(dir, "listener.key", &key.serialize_pem())),
        ("GATEWAY_CERT", write(dir, "gateway.pem", &pem(&gateway.certificate))),
        ("GATEWAY_KEY", write(dir, "gateway.key", &gateway.key.to_pem())),
        ("CONTROL_HOST", "127.0.0.1".to_owned()),
        ("CONTROL_PORT", world.running().address().port().to_string()),
        ("CONTROL_NAME", "localhost".to_owned()),
        ("UPSTREAM_PORT", upstream.port().to_string()),
    ];
    let values: Vec<(&str, &str)> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
    (Envoy::start(&sample, &values).await, listener.pem())
}

async fn client(envoy: &Envoy, roots: &str, caller: &Caller) -> HttpsClient {
    let credential = Credential { chain_pem: pem(&caller.certificate), key_pem: caller.key.to_pem() };
    let config = client_config(roots, Some(&credential));
    HttpsClient::connect(envoy.port(), HOST, Arc::new(config)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_request_after_a_revocation_is_denied_on_the_same_connection() {
    // Envoy has no clock but the machine's.
    let world = World::start_at(SystemClock.now()).await;
    let entity = world.partner().await;
    let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let caller = world.enroll(subject).await;
    let other = world.enroll(world.person(entity, "EMPLOYEE", EvidenceKind::CitizenOrNational).await).await;
    let gateway = world.gateway("gw-envoy").await;
    let upstream = Upstream::start().await;
    let (envoy, roots) = envoy(&world, &gateway, &upstream).await;
    let mut connection = client(&envoy, &roots, &caller).await;
    let mut bystander = client(&envoy, &roots, &other).await;

    let before = connection.get("/v1/mythos", &[]).await.unwrap();
    assert_eq!((before.status, before.body.as_str()), (200, "model"), "{}", envoy.log());
    assert_eq!(bystander.get("/v1/mythos", &[]).await.unwrap().status, 200);

    let scope = RevocationScope::Subject(subject);
    let command = Command::Revoke { scope, reason: RevocationReason::AffiliationEnded };
    world.restrict(command, pb::Wait::Committed).await.unwrap();
    let after = connection.get("/v1/mythos", &[]).await.unwrap();
    assert_eq!(after.status, 403);
    assert_eq!(after.header("x-countersign-code"), Some("CREDENTIAL_REVOKED"));
    let body: serde_json::Value = serde_json::from_str(&after.body).unwrap();
    assert_eq!(body["code"], "CREDENTIAL_REVOKED");
    assert!(!after.body.contains(&entity.to_string()), "the answer names the entity: {}", after.body);

    // Nobody else is touched, until everything is stopped.
    assert_eq!(bystander.get("/v1/mythos", &[]).await.unwrap().status, 200);
    let command = Command::Stop { scope: StopScope::All, reason: RevocationReason::GovernmentOrder };
    world.restrict(command, pb::Wait::Committed).await.unwrap();
    let stopped = bystander.get("/v1/mythos", &[]).await.unwrap();
    assert_eq!((stopped.status, stopped.header("x-countersign-code")), (403, Some("EMERGENCY_STOP")));
    let permitted = upstream.seen().len();
    assert_eq!(permitted, 3, "only permitted requests reach the model");
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_under_cnsa_asks_and_takes_no_weaker_group() {
    let world = World::start_under(AlgorithmProfile::Cnsa, SystemClock.now()).await;
    let subject = world.person(world.partner().await, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let caller = world.enroll(subject).await;
    let (gateway, upstream) = (world.gateway("gw-envoy").await, Upstream::start().await);
    let (envoy, roots) = envoy(&world, &gateway, &upstream).await;
    let mut connection = client(&envoy, &roots, &caller).await;
    assert_eq!(connection.get("/v1/mythos", &[]).await.unwrap().status, 200, "{}", envoy.log());

    let roots_of = |pem: &str| {
        let mut store = rustls::RootCertStore::empty();
        store.add(pem::parse(pem).unwrap().into_contents().into()).unwrap();
        store
    };
    let provider = rustls::crypto::CryptoProvider {
        kx_groups: vec![
            rustls::crypto::aws_lc_rs::kx_group::X25519,
            rustls::crypto::aws_lc_rs::kx_group::SECP256R1,
        ],
        ..rustls::crypto::aws_lc_rs::default_provider()
    };
    let weak = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots_of(&roots))
        .with_no_client_auth();
    let refused = HttpsClient::connect(envoy.port(), HOST, Arc::new(weak)).await.err().expect("refused");
    assert!(refused.to_string().contains("HandshakeFailure"), "{refused}");

    let command = Command::Revoke {
        scope: RevocationScope::Subject(subject),
        reason: RevocationReason::AffiliationEnded,
    };
    world.restrict(command, pb::Wait::Committed).await.unwrap();
    assert_eq!(connection.get("/v1/mythos", &[]).await.unwrap().status, 403);
}
