//! The sample in deploy/envoy, run by a real Envoy against an authorization service that answers as the test says.
//! What Envoy does with an answer, or without one, is shown here; what the answer is, elsewhere.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use envoy_types::ext_authz::v3::CheckResponseExt;
use envoy_types::ext_authz::v3::pb::{Authorization, AuthorizationServer, CheckRequest, CheckResponse};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;

use crate::envoy::{Credential, Envoy, HttpsClient, Upstream, client_config};

const TEMPLATE: &str = include_str!("../../deploy/envoy/envoy.yaml");
const PARTNER: &str = "spiffe://test.example/entity/ent_1/person/sub_1";

/// A throw-away authority.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.as_ref().pem()
    }

    fn issue(&self, name: SanType, usage: ExtendedKeyUsagePurpose) -> Credential {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![name];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let chain_pem = params.signed_by(&key, &self.0).unwrap().pem();
        Credential { chain_pem, key_pem: key.serialize_pem() }
    }

    fn client(&self, uri: &str) -> Credential {
        self.issue(SanType::URI(uri.try_into().unwrap()), ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn server(&self, name: &str) -> Credential {
        self.issue(SanType::DnsName(name.try_into().unwrap()), ExtendedKeyUsagePurpose::ServerAuth)
    }
}

/// Answers every Check as the flag says and remembers what was asked.
#[derive(Clone, Default)]
struct FlagService {
    permit: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<CheckRequest>>>,
}

#[tonic::async_trait]
impl Authorization for FlagService {
    async fn check(
        &self,
        request: tonic::Request<CheckRequest>,
    ) -> Result<tonic::Response<CheckResponse>, tonic::Status> {
        self.asked.lock().unwrap().push(request.into_inner());
        let status = match self.permit.load(Ordering::SeqCst) {
            true => tonic::Status::ok("permitted"),
            false => tonic::Status::permission_denied("denied"),
        };
        Ok(tonic::Response::new(CheckResponse::with_status(status)))
    }
}

/// Serves the flag over mTLS. The tasks end it when they are dropped.
async fn serve(service: FlagService, system: &Authority) -> (SocketAddr, JoinSet<()>) {
    let acceptor = TlsAcceptor::from(Arc::new(control_tls(system)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // One Envoy makes one connection at a time; a second waits for a place.
    let (connections, incoming) = tokio::sync::mpsc::channel::<std::io::Result<DuplexStream>>(1);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut pumps = JoinSet::new();
        while let Ok((socket, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(socket).await else { continue };
            let (near, mut far) = tokio::io::duplex(1 << 16);
            pumps.spawn(async move { drop(tokio::io::copy_bidirectional(&mut stream, &mut far).await) });
            if connections.send(Ok(near)).await.is_err() {
                return;
            }
        }
    });
    let server = tonic::transport::Server::builder().add_service(AuthorizationServer::new(service));
    tasks.spawn(async move { server.serve_with_incoming(ReceiverStream::new(incoming)).await.unwrap() });
    (address, tasks)
}

fn control_tls(system: &Authority) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(system.pem().as_bytes()).unwrap()).unwrap();
    let gateways = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let own = system.server("countersign.test");
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(gateways.build().unwrap())
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(own.chain_pem.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(own.key_pem.as_bytes()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// Everything that one test needs, started.
struct Scene {
    access: Authority,
    public: Authority,
    service: FlagService,
    control: JoinSet<()>,
    upstream: Upstream,
    envoy: Envoy,
    _files: TempDir,
}

impl Scene {
    async fn start() -> Self {
        let (access, system, public) = (Authority::new(), Authority::new(), Authority::new());
        let service = FlagService::default();
        service.permit.store(true, Ordering::SeqCst);
        let (control_address, control) = serve(service.clone(), &system).await;
        let upstream = Upstream::start().await;

        let files = TempDir::new().unwrap();
        let server = public.server("models.test");
        let gateway = system.client("spiffe://test.example/role/gateway/gw_1");
        let put = |name: &str, text: &str| put(files.path(), name, text);
        let values = [
            ("BUNDLE", put("access.pem", &access.pem())),
            ("SYSTEM_BUNDLE", put("system.pem", &system.pem())),
            ("SERVER_CERT", put("server.pem", &server.chain_pem)),
            ("SERVER_KEY", put("server.key", &server.key_pem)),
            ("GATEWAY_CERT", put("gateway.pem", &gateway.chain_pem)),
            ("GATEWAY_KEY", put("gateway.key", &gateway.key_pem)),
            ("CONTROL_HOST", control_address.ip().to_string()),
            ("CONTROL_PORT", control_address.port().to_string()),
            ("CONTROL_NAME", "countersign.test".to_owned()),
            ("UPSTREAM_PORT", upstream.port().to_string()),
        ];
        let envoy =
            Envoy::start(TEMPLATE, &values.each_ref().map(|(name, value)| (*name, value.as_str()))).await;
        Self { access, public, service, control, upstream, envoy, _files: files }
    }

    async fn connect(&self, credential: Option<&Credential>) -> std::io::Result<HttpsClient> {
        let config = client_config(&self.public.pem(), credential);
        HttpsClient::connect(self.envoy.port(), "models.test", Arc::new(config)).await
    }

    /// The status of a first request on a new connection, or how that failed.
    async fn first_status(&self, credential: Option<&Credential>) -> std::io::Result<u16> {
        Ok(self.connect(credential).await?.get("/v1/messages", &[]).await?.status)
    }
}

fn put(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_denial_reaches_the_next_request_of_an_open_connection() {
    let scene = Scene::start().await;
    let partner = scene.access.client(PARTNER);
    let mut client = scene.connect(Some(&partner)).await.unwrap();

    let first = client.get("/v1/messages", &[]).await.unwrap();
    assert_eq!((first.status, first.body.as_str()), (200, "model"));
    scene.service.permit.store(false, Ordering::SeqCst);
    assert_eq!(client.get("/v1/messages", &[]).await.unwrap().status, 403);
    assert_eq!(scene.upstream.seen().len(), 1, "the denied request never reached the model");
    scene.service.permit.store(true, Ordering::SeqCst);
    assert_eq!(client.get("/v1/messages", &[]).await.unwrap().status, 200);
}

#[tokio::test]
async fn the_service_is_asked_with_the_certificate_and_the_routes_own_words() {
    let scene = Scene::start().await;
    let partner = scene.access.client(PARTNER);
    let mut client = scene.connect(Some(&partner)).await.unwrap();
    let lies =
        [("x-forwarded-client-cert", "URI=spiffe://other"), ("model", "fable-5"), ("cookie", "secret")];
    assert_eq!(client.get("/v1/messages?q=1", &lies).await.unwrap().status, 200);

    let asked = scene.service.asked.lock().unwrap().pop().unwrap().attributes.unwrap();
    let source = asked.source.unwrap();
    let leaf = percent_encoding::percent_decode_str(&source.certificate).decode_utf8().unwrap();
    let leaf = CertificateDer::from_pem_slice(leaf.as_bytes()).unwrap();
    assert_eq!(leaf, CertificateDer::from_pem_slice(partner.chain_pem.as_bytes()).unwrap());
    assert_eq!(source.principal, PARTNER);
    let words = ["model", "place", "serving_region"].map(|key| asked.context_extensions[key].clone());
    assert_eq!(words, ["mythos-5", "US", "US"]);
    let http = asked.request.unwrap().http.unwrap();
    assert_eq!((http.method.as_str(), http.path.as_str()), ("GET", "/v1/messages?q=1"));
    let sent: Vec<_> = http.headers.keys().filter(|name| !name.starts_with(':')).collect();
    assert_eq!(sent, ["x-request-id"], "what the client sent stays at the gateway");

    let seen = scene.upstream.seen().pop().unwrap();
    assert_eq!(seen.line, "GET /v1/messages?q=1 HTTP/1.1");
    let proved: Vec<_> = seen.headers.iter().filter(|(name, _)| name == "x-forwarded-client-cert").collect();
    assert!(
        matches!(proved.as_slice(), [(_, value)] if value.ends_with(&format!("URI={PARTNER}"))),
        "{proved:?}"
    );
}

#[tokio::test]
async fn a_path_without_a_route_reaches_no_model() {
    let scene = Scene::start().await;
    let partner = scene.access.client(PARTNER);
    let mut client = scene.connect(Some(&partner)).await.unwrap();
    assert_eq!(client.get("/elsewhere", &[]).await.unwrap().status, 404);
    assert!(scene.service.asked.lock().unwrap().is_empty(), "envoy asks about routes only");
    assert!(scene.upstream.seen().is_empty());
}

#[tokio::test]
async fn a_service_that_is_gone_is_503_and_no_access() {
    let mut scene = Scene::start().await;
    let partner = scene.access.client(PARTNER);
    let mut client = scene.connect(Some(&partner)).await.unwrap();
    assert_eq!(client.get("/v1/messages", &[]).await.unwrap().status, 200);
    scene.control.shutdown().await;
    assert_eq!(client.get("/v1/messages", &[]).await.unwrap().status, 503);
    assert_eq!(scene.upstream.seen().len(), 1);
}

#[tokio::test]
async fn only_a_certificate_of_the_access_authority_gets_past_the_handshake() {
    let scene = Scene::start().await;
    let stranger = Authority::new().client(PARTNER);
    assert!(scene.first_status(None).await.is_err(), "no certificate");
    assert!(scene.first_status(Some(&stranger)).await.is_err(), "another authority's certificate");
    assert!(scene.service.asked.lock().unwrap().is_empty(), "the service was never asked");
    let partner = scene.access.client(PARTNER);
    assert_eq!(scene.first_status(Some(&partner)).await.unwrap(), 200);
}

#[tokio::test]
async fn every_connection_is_a_full_handshake() {
    let scene = Scene::start().await;
    let partner = scene.access.client(PARTNER);
    // One configuration for both: it keeps every ticket that it is given.
    let config = Arc::new(client_config(&scene.public.pem(), Some(&partner)));
    for _ in 0..2 {
        let mut client =
            HttpsClient::connect(scene.envoy.port(), "models.test", Arc::clone(&config)).await.unwrap();
        assert_eq!(client.get("/v1/messages", &[]).await.unwrap().status, 200);
        assert_eq!(client.handshake(), Some(HandshakeKind::Full));
    }
}
