//! The floor of a call: a tonic server over mTLS of its own, with nothing in it but a health service.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tonic::service::Routes;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Server};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::measure::{median, wall_us};

/// Calls measured.
const CALLS: usize = 500;

/// The median of one call, from a client that is connected.
pub(crate) async fn round_trip_us() -> f64 {
    let (_, health) = tonic_health::server::health_reporter();
    let mut health = HealthClient::new(connected(Routes::new(health)).await);
    let mut samples = Vec::new();
    for _ in 0..CALLS {
        let request = HealthCheckRequest { service: String::new() };
        let begin = wall_us();
        health.check(request).await.unwrap();
        samples.push(wall_us() - begin);
    }
    median(samples)
}

/// Serves this, and gives a client with a certificate.
pub(crate) async fn connected(routes: Routes) -> Channel {
    let pki = Pki::new();
    let (server, client) = (pki.server(), pki.client());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        socket.set_nodelay(true).unwrap();
        let stream = TlsAcceptor::from(server).accept(socket).await.unwrap();
        let incoming = tokio_stream::once(Ok::<_, io::Error>(Connection(stream)));
        // It ends with the client.
        drop(Server::builder().add_routes(routes).serve_with_incoming(incoming).await);
    });
    let connector = tower::service_fn(move |_| {
        let client = Arc::clone(&client);
        async move {
            let socket = TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            let name = ServerName::try_from("localhost").unwrap();
            let stream = TlsConnector::from(client).connect(name, socket).await?;
            Ok::<_, io::Error>(hyper_util::rt::TokioIo::new(stream))
        }
    });
    Endpoint::from_static("https://localhost").connect_with_connector(connector).await.unwrap()
}

/// A certificate with its private key (PKCS#8).
pub(crate) type Credential = (Vec<u8>, Vec<u8>);

/// An authority, and certificates of it for both sides.
pub(crate) struct Pki {
    pub(crate) root: Vec<u8>,
    pub(crate) server: Credential,
    pub(crate) client: Credential,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        // Another name than that of the leaves, which OpenSSL would take for self-signed.
        params.distinguished_name.push(DnType::CommonName, "root");
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let leaf = || {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            (params.signed_by(&key, &issuer).unwrap().der().to_vec(), key.serialize_der())
        };
        Self { root: root.der().to_vec(), server: leaf(), client: leaf() }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.root.clone())).unwrap();
        roots
    }

    /// TLS 1.3 with certificates on both sides and without resumption, as the service has it.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let roots = Arc::new(self.roots());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(chain(&self.server), key(&self.server))
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Arc::new(config)
    }

    fn client(&self) -> Arc<ClientConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(self.roots())
            .with_client_auth_cert(chain(&self.client), key(&self.client))
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }
}

fn chain((certificate, _): &Credential) -> Vec<CertificateDer<'static>> {
    vec![CertificateDer::from(certificate.clone())]
}

fn key((_, key): &Credential) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(key.clone().into())
}

/// tonic serves what says who is connected.
pub(crate) struct Connection(pub(crate) tokio_rustls::server::TlsStream<TcpStream>);

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(context)
    }
}
