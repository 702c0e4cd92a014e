//! The profile of algorithms of a service: which keys it certifies, what its TLS offers, and that `cnsa` does everything that
//! `standard` does with P-384 alone.

use countersign::client::{Gate, Identity};
use countersign::domain::algorithm::AlgorithmProfile;
use countersign::domain::authority::AuthorityState;
use countersign::domain::certificate::{AuthorityKind, PrincipalKind};
use countersign::domain::command::{Command, NewPrincipal};
use countersign::domain::decision::Denial;
use countersign::domain::person::EvidenceKind;
use countersign::domain::principal::Role;
use countersign::pb;
use countersign::x509::bundle::certificate_pem;
use countersign::x509::{ClientKey, Curve};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::{NamedGroup, SignatureScheme};
use tonic::Code;

use crate::calls::{openssl, refused};
use crate::gate::{self, STRONG, permits, question};
use crate::world::{BEGIN, Caller, World, tls_stream};

const CNSA_WORDS: &str = "certifies P-384 keys only; make a new key: countersign officer new --profile cnsa";

impl World {
    async fn cnsa() -> Self {
        Self::start_under(AlgorithmProfile::Cnsa, BEGIN.parse().unwrap()).await
    }

    /// Does a client of these algorithms get through the handshake? What it agreed on.
    async fn shakes(&self, provider: CryptoProvider) -> Option<(rustls::CipherSuite, NamedGroup)> {
        let system =
            self.running().app().state().authority(AuthorityKind::System).unwrap().certificate.clone();
        let config = self.tls_by(provider, &[system], None);
        let stream = tls_stream(config, self.running().address()).await.ok()?;
        let connection = stream.get_ref().1;
        let suite = connection.negotiated_cipher_suite().unwrap().suite();
        Some((suite, connection.negotiated_key_exchange_group().unwrap().name()))
    }
}

fn groups(groups: &[&'static dyn SupportedKxGroup]) -> CryptoProvider {
    CryptoProvider { kx_groups: groups.to_vec(), ..default_provider() }
}

fn suites(suites: &[rustls::SupportedCipherSuite]) -> CryptoProvider {
    CryptoProvider { cipher_suites: suites.to_vec(), ..default_provider() }
}

/// What openssl says of a certificate.
fn shown(der: &[u8]) -> String {
    let arguments = ["x509", "-noout", "-text", "-certopt", "no_sigdump"];
    let (ok, text, log) = openssl(&arguments, certificate_pem(der).as_bytes());
    assert!(ok, "{log}");
    String::from_utf8(text).unwrap()
}

fn is_p384(der: &[u8]) {
    let text = shown(der);
    for said in ["ASN1 OID: secp384r1", "Signature Algorithm: ecdsa-with-SHA384"] {
        assert!(text.contains(said), "{said}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_cnsa_a_weaker_client_is_refused_at_the_handshake() {
    let (standard, cnsa) = (World::start().await, World::cnsa().await);
    let weak = [
        ("AES-128", suites(&[cipher_suite::TLS13_AES_128_GCM_SHA256])),
        ("ChaCha20", suites(&[cipher_suite::TLS13_CHACHA20_POLY1305_SHA256])),
        ("P-256 and X25519", groups(&[kx_group::SECP256R1, kx_group::X25519])),
        ("hybrid", groups(&[kx_group::X25519MLKEM768])),
    ];
    for (what, provider) in weak {
        assert_eq!(cnsa.shakes(provider.clone()).await, None, "{what}");
        assert!(standard.shakes(provider).await.is_some(), "{what}");
    }
    // The server's certificate is signed with P-384 and so is its handshake: who does not verify that gets no further.
    let mut p256_only = default_provider();
    let p256 = |schemes: &SignatureScheme| *schemes == SignatureScheme::ECDSA_NISTP256_SHA256;
    let mapping = p256_only.signature_verification_algorithms.mapping;
    let place = mapping.iter().position(|(scheme, _)| p256(scheme)).unwrap();
    p256_only.signature_verification_algorithms.mapping = &mapping[place..=place];
    assert_eq!(cnsa.shakes(p256_only).await, None);
    let agreed = (rustls::CipherSuite::TLS13_AES_256_GCM_SHA384, NamedGroup::secp384r1);
    assert_eq!(cnsa.shakes(default_provider()).await, Some(agreed));
    let strong = CryptoProvider {
        cipher_suites: vec![cipher_suite::TLS13_AES_256_GCM_SHA384],
        ..groups(&[kx_group::SECP384R1])
    };
    for world in [&standard, &cnsa] {
        assert_eq!(world.shakes(strong.clone()).await, Some(agreed));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_cnsa_only_p384_is_certified_and_the_refusal_says_what_to_do() {
    let world = World::cnsa().await;
    let entity = world.partner().await;
    let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let token = world.token(subject).await;
    let p256 = ClientKey::generate(Curve::P256).unwrap();
    refused(world.redeem(&token, &p256).await, Code::InvalidArgument, CNSA_WORDS);
    refused(world.redeem(&token, &p256).await, Code::InvalidArgument, "the key is P-256");
    // The refusal used nothing up.
    let key = ClientKey::generate(Curve::P384).unwrap();
    let certificate = world.redeem(&token, &key).await.unwrap();
    is_p384(&certificate);
    // Renewal is no way round it.
    let caller = Caller { key, certificate };
    let channel = world.connect_as(&caller).await;
    refused(world.renew(&channel, &p256).await, Code::InvalidArgument, CNSA_WORDS);
    is_p384(&world.renew(&channel, &ClientKey::generate(Curve::P384).unwrap()).await.unwrap());
    // Nor is the key of a gateway or of an officer, which the record itself refuses.
    for (kind, role) in [(PrincipalKind::Gateway, Role::Gateway), (PrincipalKind::Officer, Role::Approver)] {
        let key = ClientKey::generate(Curve::P256).unwrap().public_key().spki().to_vec();
        let id = "carol".parse().unwrap();
        let new = NewPrincipal { id, kind, roles: vec![role], entity: None, key, is_pausable: false };
        refused(world.enact(Command::RegisterPrincipal(new)).await, Code::InvalidArgument, CNSA_WORDS);
    }
    // Canaries of an agent.
    let gateway = world.gateway("gw-1").await;
    let mut client =
        pb::attestation_service_client::AttestationServiceClient::new(world.connect_as(&gateway).await);
    let csr = |curve| ClientKey::generate(curve).unwrap().request().unwrap().into();
    let request = pb::IssueCanariesRequest { csr_a: csr(Curve::P256), csr_b: csr(Curve::P384) };
    refused(client.issue_canaries(request).await, Code::InvalidArgument, CNSA_WORDS);
    let request = pb::IssueCanariesRequest { csr_a: csr(Curve::P384), csr_b: csr(Curve::P384) };
    is_p384(&client.issue_canaries(request).await.unwrap().into_inner().certificate_a);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_path_under_cnsa() {
    let world = World::cnsa().await;
    for row in world.running().app().state().authorities.values() {
        is_p384(&row.certificate);
    }
    let subject = world.person(world.partner().await, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let holder = world.enroll(subject).await;
    let gate = gate::gate(&world, "gw-1", STRONG, &world.clock).await;
    assert!(gate.decide_or_ask(&holder.certificate, &question("mythos-5")).await.is_permit);
    gate::until(&gate, &holder.certificate, permits).await;

    // Both authorities are replaced while the gate is there, by authorities of the same kind of key.
    for kind in [AuthorityKind::Access, AuthorityKind::System] {
        let next = world.rotate(kind).await;
        let state = world.running().app().state();
        assert_eq!(state.authorities[&next].state, AuthorityState::Active);
        is_p384(&state.authorities[&next].certificate);
    }
    let key = ClientKey::generate(Curve::P384).unwrap();
    let renewed = world.renew(&world.connect_as(&holder).await, &key).await.unwrap();
    is_p384(&renewed);
    gate::until(&gate, &renewed, permits).await;

    let answer = world.restrict(gate::revoke(&world, &renewed), pb::Wait::Enforced).await.unwrap();
    assert_eq!(answer.status(), pb::EnforcementStatus::Enforced, "{answer:?}");
    let decided = gate.decide(&renewed, &question("mythos-5"));
    assert_eq!(decided.decision.denials, [Denial::CredentialRevoked]);
    gate.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_in_front_of_a_model_offers_what_its_service_does() {
    for (algorithms, refuses) in [(AlgorithmProfile::Standard, false), (AlgorithmProfile::Cnsa, true)] {
        let world = World::start_under(algorithms, BEGIN.parse().unwrap()).await;
        let subject = world.person(world.partner().await, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
        let holder = world.enroll(subject).await;
        let gate = gate::gate(&world, "gw-1", STRONG, &world.clock).await;
        assert!(gate.decide_or_ask(&holder.certificate, &question("mythos-5")).await.is_permit);
        let own = |rcgen: &'static rcgen::SignatureAlgorithm| {
            let key = rcgen::KeyPair::generate_for(rcgen).unwrap();
            let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            let own = params.self_signed(&key).unwrap();
            (own.der().to_vec(), Identity::from_pem(&own.pem(), &key.serialize_pem()).unwrap())
        };
        // Its own certificate has to fit too, and whoever starts it is told.
        let (_, p256) = own(&rcgen::PKCS_ECDSA_P256_SHA256);
        assert_eq!(gate.server_config(&p256).is_err(), refuses);
        let (root, p384) = own(&rcgen::PKCS_ECDSA_P384_SHA384);
        let acceptor = gate.acceptor(&p384).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shake = async |provider| {
            let holder = Some((&holder.key, holder.certificate.as_slice()));
            let config = world.tls_by(provider, std::slice::from_ref(&root), holder);
            let accepting = async { acceptor.accept(listener.accept().await.unwrap().0).await.is_ok() };
            tokio::join!(tls_stream(config, address), accepting).1
        };
        assert_eq!(shake(suites(&[cipher_suite::TLS13_AES_128_GCM_SHA256])).await, !refuses);
        assert_eq!(shake(groups(&[kx_group::X25519, kx_group::SECP256R1])).await, !refuses);
        assert!(shake(default_provider()).await);
        gate.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_refuses_a_key_and_a_bundle_that_do_not_fit() {
    let (standard, cnsa) = (World::start().await, World::cnsa().await);
    let (weak, strong) = (standard.gateway("gw-1").await, cnsa.gateway("gw-1").await);
    let connect = async |world: &World, caller: &Caller, pem: String| {
        let mut config = gate::config(world, (caller, world.running().address()), STRONG, &world.clock);
        config.target.system_bundle_pem = pem;
        Gate::connect(config).await.map(drop).map_err(|fault| fault.to_string())
    };
    assert_eq!(connect(&cnsa, &strong, cnsa.system_pem()).await, Ok(()));
    let fault = connect(&cnsa, &weak, cnsa.system_pem()).await.unwrap_err();
    assert!(fault.contains("cannot be used under the profile cnsa"), "{fault}");
    // Authorities of both kinds are no service's, in whatever order they stand.
    for pem in [standard.system_pem() + &cnsa.system_pem(), cnsa.system_pem() + &standard.system_pem()] {
        let fault = connect(&cnsa, &strong, pem).await.unwrap_err();
        assert!(fault.contains("P-256 and with P-384"), "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standard_service_with_p384_authorities_is_not_taken_for_one_of_cnsa() {
    let world = World::start_on(AlgorithmProfile::Standard, Curve::P384, BEGIN.parse().unwrap()).await;
    let bundle = || world.running().app().trusted(AuthorityKind::System).unwrap().to_pem();
    let said = bundle();
    assert!(said.starts_with("# PROFILE standard\n"), "{said}");
    is_p384(&world.running().app().state().authority(AuthorityKind::System).unwrap().certificate);
    let subject = world.person(world.partner().await, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let (holder, gateway) = (world.enroll(subject).await, world.gateway("gw-1").await);
    assert_eq!(gateway.key.public_key().curve(), Curve::P256);
    let connect = async |pem: &str| {
        let mut config = gate::config(&world, (&gateway, world.running().address()), STRONG, &world.clock);
        config.target.system_bundle_pem = pem.to_owned();
        Gate::connect(config).await
    };
    // What a service of before wrote says nothing: it is taken strictly, and whoever reads that is told what to do.
    let (_, silent) = said.split_once('\n').unwrap();
    let fault = connect(silent).await.map(drop).unwrap_err().to_string();
    assert!(fault.contains("take its trust/system.pem anew"), "{fault}");
    // What is said is held against the keys, and said once.
    let other = silent.to_owned() + "# PROFILE cnsa-2\n";
    for (pem, expected) in
        [(other, "neither standard nor cnsa"), (said.clone() + "# PROFILE cnsa\n", "or two")]
    {
        let fault = connect(&pem).await.map(drop).unwrap_err().to_string();
        assert!(fault.contains(expected), "{fault}");
    }
    let gate = connect(&said).await.unwrap();
    gate.ready(gate::PATIENCE).await.unwrap();
    assert!(gate.decide_or_ask(&holder.certificate, &question("mythos-5")).await.is_permit);
    gate::until(&gate, &holder.certificate, permits).await;
    // The next authority has a key of the same kind, and a gate of this service goes with it, as does one that begins then.
    let next = world.rotate(AuthorityKind::System).await;
    is_p384(&world.running().app().state().authorities[&next].certificate);
    gate::until(&gate, &holder.certificate, permits).await;
    gate.shutdown().await;
    assert!(bundle().starts_with("# PROFILE standard\n") && bundle().matches("BEGIN").count() == 2);
    let gate = connect(&bundle()).await.unwrap();
    gate.ready(gate::PATIENCE).await.unwrap();
    assert!(gate.decide_or_ask(&holder.certificate, &question("mythos-5")).await.is_permit);
    gate.shutdown().await;
    // Of a cnsa service it says so, and no key of another kind passes for one of it.
    let cnsa = World::cnsa().await.running().app().trusted(AuthorityKind::System).unwrap().to_pem();
    assert!(cnsa.starts_with("# PROFILE cnsa\n"), "{cnsa}");
    let weak = World::start().await.running().app().trusted(AuthorityKind::System).unwrap().to_pem();
    let weak = weak.replace("# PROFILE standard", "# PROFILE cnsa");
    let fault = connect(&weak).await.map(drop).unwrap_err().to_string();
    assert!(fault.contains("whose key is not P-384"), "{fault}");
}
