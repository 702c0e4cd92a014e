//! A gate against a server on loopback, over mTLS. The server is the feed and nothing else.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::ca::bootstrap::{NewAuthority, authority};
use crate::ca::signer::{FileSigner, SignatureAlgorithm};
use crate::ca::{Issuer, Order};
use crate::client::{DecidedBy, Gate, GateConfig, Identity, Target, channel};
use crate::domain::algorithm::AlgorithmProfile;
use crate::domain::authority::{AuthorityCard, AuthorityState};
use crate::domain::certificate::*;
use crate::domain::decision::Denial;
use crate::domain::enforce::message::FromGateway;
use crate::domain::enforce::{Contradiction, EnforcementEvent};
use crate::domain::id::{AuthorityId, Ordinal};
use crate::env::{Clock, SeededEntropy};
use crate::feed::tests::world::*;
use crate::feed::{Feed, OpenFault, Session};
use crate::pb;
use crate::x509::{ClientKey, Content, Curve, Profile, RequestedKey, ServerName, TrustBundle};

fn profile() -> Profile {
    let base = "http://crl.example/v1".parse().unwrap();
    Profile::new("example.org".parse().unwrap(), crate::x509::Arc::default(), Some(base))
}

pub(super) fn issuer(kind: AuthorityKind) -> Issuer {
    let dir = tempfile::tempdir().unwrap();
    let signer = FileSigner::create(&dir.path().join("key"), SignatureAlgorithm::Ecdsa(Curve::P256)).unwrap();
    let new = NewAuthority {
        id: AuthorityId::from_bytes([kind as u8 + 1; 16]),
        kind,
        serial: Serial::from_random([7; 16]),
        not_after: NOW.plus_ms(365 * 86_400_000),
    };
    let authority = authority(&signer, &new, AlgorithmProfile::Standard, NOW).unwrap();
    Issuer::new(authority, profile(), Arc::new(signer)).unwrap()
}

pub(super) fn leaf(
    issuer: &Issuer,
    facts: Facts,
    ordinal: u64,
    names: Vec<ServerName>,
) -> (Vec<u8>, ClientKey) {
    let key = ClientKey::generate(Curve::P256).unwrap();
    let content = Content {
        serial: Serial::from_random([9; 16]),
        ordinal: Ordinal(ordinal),
        not_before: NOW,
        not_after: NOW.plus_ms(86_400_000),
        facts,
        names,
    };
    let order = Order { content, key: RequestedKey::from_csr(&key.request().unwrap()).unwrap() };
    (issuer.sign(issuer.prepare(&order, NOW).unwrap()).unwrap().der, key)
}

fn bundle(issuer: &Issuer) -> String {
    TrustBundle::new(vec![issuer.authority().clone()]).unwrap().to_pem()
}

pub(super) fn role(kind: PrincipalKind, name: &str) -> Facts {
    Facts::System(SystemFacts { kind, principal: name.parse().unwrap() })
}

fn identity(issuer: &Issuer) -> Identity {
    let (der, key) = leaf(issuer, role(PrincipalKind::Gateway, "gateway-1"), 2, Vec::new());
    Identity::from_pem(&crate::x509::bundle::certificate_pem(&der), &key.to_pem()).unwrap()
}

/// A TLS stream that tonic takes.
struct Io(TlsStream<TcpStream>);

impl tonic::transport::server::Connected for Io {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// The methods that a gate calls, by hand: the services have more, which are nobody's business here.
#[derive(Clone)]
struct Fake<const ENFORCEMENT: bool> {
    feed: Feed,
    answers: Arc<AtomicBool>,
}

impl<const ENFORCEMENT: bool> tonic::server::NamedService for Fake<ENFORCEMENT> {
    const NAME: &'static str =
        if ENFORCEMENT { "countersign.v1.EnforcementService" } else { "countersign.v1.AttestationService" };
}

async fn pump(
    mut session: Session,
    mut up: Streaming<pb::SubscribeRequest>,
    down: tokio::sync::mpsc::Sender<Result<pb::SubscribeResponse, Status>>,
) {
    loop {
        tokio::select! {
            message = up.next() => {
                let Some(Ok(message)) = message else { return };
                if session.on(message.try_into().unwrap()).is_err() {
                    return;
                }
            }
            message = next(&mut session) => {
                let Ok(message) = message else { return };
                if down.send(Ok(message.into())).await.is_err() {
                    return;
                }
            }
        }
    }
}

impl<const ENFORCEMENT: bool> Fake<ENFORCEMENT> {
    async fn subscribe(
        self,
        request: Request<Streaming<pb::SubscribeRequest>>,
    ) -> Result<Response<ReceiverStream<Result<pb::SubscribeResponse, Status>>>, Status> {
        let mut up = request.into_inner();
        let first = up.message().await?.unwrap();
        let FromGateway::Open(open) = first.try_into().unwrap() else { panic!("not an Open") };
        let refuse = |fault: OpenFault| {
            let reason = if fault == OpenFault::BadClaim { Contradiction::REASON } else { "WRONG_STATE" };
            let details = ErrorDetails::with_error_info(reason, "countersign.v1", HashMap::new());
            Status::with_error_details(Code::FailedPrecondition, fault.to_string(), details)
        };
        let session = self.feed.open(gateway(1), open).map_err(refuse)?;
        let (down, waiting) = tokio::sync::mpsc::channel(8);
        tokio::spawn(pump(session, up, down));
        Ok(Response::new(ReceiverStream::new(waiting)))
    }

    async fn evaluate(
        self,
        request: Request<pb::EvaluateRequest>,
    ) -> Result<Response<pb::EvaluateResponse>, Status> {
        if !self.answers.load(Ordering::SeqCst) {
            return Err(Status::unavailable("no"));
        }
        let as_of = request.into_inner().min_position;
        let decision = pb::Decision { permit: true, code: "ASKED".to_owned(), as_of, ..Default::default() };
        Ok(Response::new(pb::EvaluateResponse { decision: Some(decision) }))
    }
}

impl<const ENFORCEMENT: bool> Service<http::Request<tonic::body::Body>> for Fake<ENFORCEMENT> {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let fake = self.clone();
        Box::pin(async move {
            let method = request.uri().path().rsplit('/').next().unwrap().to_owned();
            Ok(match method.as_str() {
                "Subscribe" => {
                    let handle = tower::service_fn(move |request| fake.clone().subscribe(request));
                    tonic::server::Grpc::new(ProstCodec::default()).streaming(handle, request).await
                }
                "Evaluate" => {
                    let handle = tower::service_fn(move |request| fake.clone().evaluate(request));
                    tonic::server::Grpc::new(ProstCodec::default()).unary(handle, request).await
                }
                other => panic!("{other}"),
            })
        })
    }
}

pub(super) struct Server {
    address: String,
    answers: Arc<AtomicBool>,
    pub(super) task: JoinHandle<()>,
}

/// Serves the feed with a leaf of this role and these names.
pub(super) async fn serve(world: &mut World, system: &Issuer, access: &Issuer) -> Server {
    let listed = [access, system].map(|issuer| {
        let (id, kind) = (issuer.authority().id(), issuer.authority().kind());
        let certificate = issuer.authority().der().to_vec();
        let card = AuthorityCard { id, kind, state: AuthorityState::Active, certificate };
        EnforcementEvent::AuthorityListed(Arc::new(card))
    });
    world.commit(listed.to_vec(), &[]);
    let names = vec![ServerName::dns("localhost").unwrap(), ServerName::Ip("127.0.0.1".parse().unwrap())];
    let (der, key) = leaf(system, role(PrincipalKind::Server, "server-1"), 1, names);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(system.authority().der().to_vec())).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(FixedTime))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap())
        .with_single_cert(vec![CertificateDer::from(der)], PrivateKeyDer::try_from(key.to_pkcs8()).unwrap())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener)
        .then(move |stream| {
            let acceptor = acceptor.clone();
            async move { acceptor.accept(stream?).await.map(Io) }
        })
        .filter(Result::is_ok);
    let answers = Arc::new(AtomicBool::new(false));
    let attestation = Fake::<false> { feed: world.feed.clone(), answers: Arc::clone(&answers) };
    let Fake { feed, answers: same } = attestation.clone();
    let enforcement = Fake::<true> { feed, answers: same };
    let server = tonic::transport::Server::builder().add_service(attestation).add_service(enforcement);
    let task = tokio::spawn(async move { server.serve_with_incoming(incoming).await.unwrap() });
    Server { address, answers, task }
}

#[derive(Debug)]
pub(super) struct FixedTime;

impl rustls::time_provider::TimeProvider for FixedTime {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        let seconds = u64::try_from(NOW.seconds()).unwrap();
        Some(rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

pub(super) fn config(world: &World, server: &Server, system: &Issuer) -> GateConfig {
    GateConfig {
        target: Target {
            address: server.address.clone(),
            server_name: Some("localhost".to_owned()),
            system_bundle_pem: bundle(system),
        },
        identity: identity(system),
        profile: profile(),
        log_key: world.heads.public_key(),
        strength: STRONG,
        clock: world.clock.clone(),
        entropy: Arc::new(SeededEntropy::new(1)),
    }
}

/// Until something is so, with a deadline: there is a foreign runtime in between.
pub(super) async fn eventually(mut is_so: impl FnMut() -> bool) {
    let until = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), until).await.expect("in time");
}

#[tokio::test]
async fn a_gate_over_mutual_tls_permits_asks_and_denies_after_a_barrier() {
    let mut world = World::new();
    world.commit(Vec::new(), &[entity(1)]);
    world.clock.advance_ms(20_000);
    let (system, access) = (issuer(AuthorityKind::System), issuer(AuthorityKind::Access));
    let server = serve(&mut world, &system, &access).await;
    let gate = Gate::connect(config(&world, &server, &system)).await.unwrap();
    let (der, _) = leaf(&access, certificate(entity(1), 1).facts, 2, Vec::new());
    gate.ready(Duration::from_secs(20)).await.unwrap();
    // The card is not here: the server is asked, and does not answer at first.
    let answer = gate.decide_or_ask(&der, &request()).await;
    assert_eq!((answer.is_permit, answer.code.as_str()), (false, Denial::ServerNotAsked.as_str()));
    server.answers.store(true, Ordering::SeqCst);
    let answer = gate.decide_or_ask(&der, &request()).await;
    assert!(answer.is_permit && (answer.by == DecidedBy::Gate || answer.code == "ASKED"), "{answer:?}");
    eventually(|| gate.decide(&der, &request()).is_permit()).await;
    let permit = gate.decide(&der, &request());
    assert_eq!(permit.good_until_boot_ms, Some(world.clock.boot_ms() + 10_000));
    assert_eq!(gate.decide(b"junk", &request()).decision.denials[0], Denial::CredentialInvalid);
    let at = world.lock(1);
    let report = world.feed.wait_enforced(at, world.clock.boot_ms(), None).await;
    assert!(report.is_enforced(), "{report:?}");
    let denied = gate.decide(&der, &request());
    assert_eq!(denied.decision.denials, [Denial::CredentialLineageLocked]);
    assert_eq!(denied.as_of, at);
    gate.shutdown().await;
    eventually(|| !world.feed.sessions()[0].is_connected).await;
    server.task.abort();
}

#[tokio::test]
async fn a_gate_without_a_server_denies_and_says_why() {
    let mut world = World::new();
    let (system, access) = (issuer(AuthorityKind::System), issuer(AuthorityKind::Access));
    let server = serve(&mut world, &system, &access).await;
    server.task.abort();
    let mut nowhere = config(&world, &server, &system);
    nowhere.target.address = "127.0.0.1:1".to_owned();
    let gate = Gate::connect(nowhere).await.unwrap();
    eventually(|| !gate.status().last_fault.is_empty()).await;
    assert_eq!(gate.decide(b"", &request()).decision.denials, [Denial::StaleView]);
    assert!(gate.ready(Duration::from_millis(1)).await.is_err());
    gate.shutdown().await;
}

#[tokio::test]
async fn only_the_server_is_believed_to_be_the_server() {
    let mut world = World::new();
    let (system, access) = (issuer(AuthorityKind::System), issuer(AuthorityKind::Access));
    let server = serve(&mut world, &system, &access).await;
    let good = config(&world, &server, &system).target;
    let clock: Arc<dyn Clock> = world.clock.clone();
    assert!(channel(&good, None, &clock).await.is_ok(), "a stranger may connect, to enroll");
    let other = issuer(AuthorityKind::System);
    for (wrong, why) in [
        (Target { system_bundle_pem: bundle(&other), ..good.clone() }, "invalid peer certificate"),
        (Target { server_name: Some("elsewhere".to_owned()), ..good.clone() }, "not valid for name"),
        (Target { system_bundle_pem: bundle(&access), ..good.clone() }, "no system authority"),
        (Target { system_bundle_pem: "nothing".to_owned(), ..good.clone() }, "bundle"),
        (Target { address: "nowhere".to_owned(), ..good.clone() }, "not an address"),
    ] {
        let fault = channel(&wrong, None, &clock).await.err().unwrap().to_string();
        assert!(fault.contains(why), "{fault}");
    }
    // The same after its certificate's last instant.
    world.clock.advance_ms(86_400_000 + 1_000);
    let fault = channel(&good, None, &clock).await.err().unwrap().to_string();
    assert!(fault.contains("expired"), "{fault}");
    server.task.abort();
    assert!(Identity::from_pem("", "").is_err());
    for kind in [PrincipalKind::Gateway, PrincipalKind::Officer] {
        let (der, _) = leaf(&system, role(kind, "server"), 3, Vec::new());
        assert!(!crate::client::transport::is_server(&CertificateDer::from(der)), "{kind}");
    }
}

#[test]
fn an_identity_with_an_encrypted_key_opens_with_its_passphrase_only() {
    use crate::x509::{ClientKey, Passphrase, sealed};
    let passphrase = |text: &str| Passphrase::new(text.as_bytes().to_vec().into()).unwrap();
    let key = ClientKey::generate(Curve::P256).unwrap().to_pkcs8();
    let chain = crate::x509::bundle::certificate_pem(b"read when it is used");
    let sealed = sealed::to_pem(&key, Some(&passphrase("what opens it"))).unwrap();
    assert!(Identity::from_pem(&chain, &sealed).is_err());
    assert!(Identity::from_sealed_pem(&chain, &sealed, &passphrase("something else")).is_err());
    let opened = Identity::from_sealed_pem(&chain, &sealed, &passphrase("what opens it")).unwrap();
    assert_eq!(opened.parts().1.secret_der(), key);
}
