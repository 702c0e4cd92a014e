//! The real HAProxy and nginx, with the lines of their samples for the profile cnsa, and the real agent beside them; and the
//! real Envoy, pushed what its handshakes are checked with.

use std::sync::Arc;

use countersign::app::Term;
use countersign::domain::algorithm::AlgorithmProfile;
use countersign::domain::person::EvidenceKind;
use countersign::env::{Clock as _, SystemClock};
use countersign::pb;
use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};

use crate::agent_proxy::{BEHIND_MS, Proxy, Scene};
use crate::envoy::{HttpsClient, client_config_by};
use crate::envoy_sds::{self, HOST, SAMPLE};
use crate::world::{Caller, World};

/// The sample as its comments say for a service of the profile cnsa.
fn cnsa(sample: &str) -> String {
    let lines = sample.lines().filter(|line| line.contains("#cnsa ") || !line.contains("TLSv1.2"));
    let text: Vec<_> = lines.map(|line| line.replace("#cnsa ", "")).collect();
    assert_ne!(text.join("\n"), sample.trim_end(), "the sample has no lines for cnsa");
    text.join("\n") + "\n"
}

impl Scene {
    /// Why a client of these algorithms gets no connection; none: it gets one.
    async fn refuses(&self, provider: CryptoProvider) -> Option<String> {
        let config = self.tls(&self.other);
        let resolver = Arc::clone(&config.client_auth_cert_resolver);
        let mut roots = rustls::RootCertStore::empty();
        use rustls::pki_types::pem::PemObject as _;
        roots.add(rustls::pki_types::CertificateDer::from_pem_slice(self.roots.as_bytes()).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.client_auth_cert_resolver = resolver;
        let asked = match self.connect(Arc::new(config)).await {
            Ok(mut client) => client.get("/v1/mythos", &[]).await,
            Err(error) => Err(error),
        };
        match asked {
            Ok(answer) => {
                assert_eq!(answer.status, 200, "{answer:?}");
                None
            }
            Err(error) => Some(error.to_string()),
        }
    }
}

async fn a_proxy_under_cnsa(kind: Proxy) {
    let begin = SystemClock.now().plus_ms(-BEHIND_MS);
    let world = World::start_under(AlgorithmProfile::Cnsa, begin).await;
    let mut scene = Scene::set_on(kind, world).await;
    scene.configure(&cnsa(kind.sample()));
    scene.start_all().await;
    let weak = [
        CryptoProvider { cipher_suites: vec![cipher_suite::TLS13_AES_128_GCM_SHA256], ..default_provider() },
        CryptoProvider { kx_groups: vec![kx_group::X25519, kx_group::SECP256R1], ..default_provider() },
    ];
    for provider in weak {
        let why = scene.refuses(provider).await.expect("refused");
        assert!(why.contains("HandshakeFailure"), "{why}");
    }
    let strong = CryptoProvider {
        cipher_suites: vec![cipher_suite::TLS13_AES_256_GCM_SHA384],
        kx_groups: vec![kx_group::SECP384R1],
        ..default_provider()
    };
    assert_eq!(scene.refuses(strong).await, None);
    // The agent proves each set with canaries, which are P-384 and go through the same TLS.
    scene.until_strong().await;
    let done = scene.revoke().await;
    assert_eq!(done.status(), pb::EnforcementStatus::Enforced, "{done:?}");
    scene.until_refused().await;
    assert_eq!(scene.ask_anew(&scene.other).await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_under_cnsa_takes_no_weaker_client_and_holds_the_revoked() {
    a_proxy_under_cnsa(Proxy::Haproxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_under_cnsa_takes_no_weaker_client_and_holds_the_revoked() {
    a_proxy_under_cnsa(Proxy::Nginx).await;
}

impl envoy_sds::Scene {
    /// What a client of these algorithms gets, or why it gets no connection.
    async fn status_by(&self, provider: CryptoProvider, caller: &Caller) -> std::io::Result<u16> {
        let config = client_config_by(provider, &self.roots, Some(&envoy_sds::credential(caller)));
        let mut client = HttpsClient::connect(self.envoy.port(), HOST, Arc::new(config)).await?;
        client.get("/v1/mythos", &[]).await.map(|response| response.status)
    }
}

/// Is this certificate, or revocation list, of a key on P-384 and signed by one?
fn is_p384(kind: &'static str, pem: &str) {
    let (ok, text, log) = crate::calls::openssl(&[kind, "-noout", "-text"], pem.as_bytes());
    let text = String::from_utf8(text).unwrap();
    assert!(ok && text.contains("Signature Algorithm: ecdsa-with-SHA384"), "{kind}: {log}{text}");
    assert!(kind == "crl" || text.contains("ASN1 OID: secp384r1"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_is_pushed_a_set_of_cnsa_and_holds_the_revoked() {
    // As docs/gateways.md says for a service of the profile cnsa.
    let sample = SAMPLE.replace("[X25519MLKEM768, X25519, P-256]", "[P-384]");
    assert_eq!(sample.matches("ecdh_curves: [P-384]").count(), 2);
    let scene = envoy_sds::Scene::start_under(AlgorithmProfile::Cnsa, &sample).await;
    // What is pushed is P-384 throughout: authority and list.
    let set = scene.world.running().app().trust_set(Term::Unleased, None).await.unwrap();
    is_p384("x509", std::str::from_utf8(&set.bundle).unwrap());
    is_p384("crl", std::str::from_utf8(&set.crl).unwrap());

    let (_, caller) = scene.employee().await;
    let by = |kx_groups, suite| {
        let provider = CryptoProvider { kx_groups, cipher_suites: vec![suite], ..default_provider() };
        scene.status_by(provider, &caller)
    };
    let (strong, weak) = (cipher_suite::TLS13_AES_256_GCM_SHA384, cipher_suite::TLS13_AES_128_GCM_SHA256);
    assert_eq!(by(vec![kx_group::SECP384R1], strong).await.unwrap(), 200, "{}", scene.envoy.log());
    for group in [kx_group::X25519, kx_group::SECP256R1, kx_group::X25519MLKEM768] {
        let refused = by(vec![group], strong).await.expect_err("refused").to_string();
        assert!(refused.contains("HandshakeFailure"), "{refused}");
    }
    // What docs/gateways.md says that Envoy cannot refuse; when it can, the docs are to say so.
    assert_eq!(by(vec![kx_group::SECP384R1], weak).await.unwrap(), 200);
    // A certificate of a standard service is no client's here.
    let (standard, entity) = envoy_sds::Scene::world().await;
    let subject = standard.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    assert_eq!(scene.status(&standard.enroll(subject).await).await, None);

    envoy_sds::a_revoked_client_is_refused(&scene).await;
}
