//! TLS for a Rust server in front of a model: whoever the gate would refuse whatever they ask does not get through the
//! handshake, and whoever is refused later is cut off.
//!
//! Trust is the gate's own and changes under a running server. No list of revoked certificates is read: the gate's set is.
//! TLS 1.3 only, and nothing is resumed, because a resumed handshake shows no certificate to anybody.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::connections::{Barred, Connection, Connections, code_of};
use super::gate::{Gate, Shared};
use super::index::Signal;
use super::transport::{Identity, TlsTime, TransportFault};
use crate::domain::decision::{CredentialFault, Denial};
use crate::x509::suite;

/// How long a handshake may take. Who opens a connection and says nothing is not waited for.
const HANDSHAKE_TIMEOUT_MS: u64 = 5_000;

impl Gate {
    /// TLS settings of a server with this certificate: client certificates as the gate judges them, TLS 1.3, HTTP/2 and
    /// HTTP/1.1, no resumption.
    ///
    /// # Errors
    /// The identity cannot be used.
    pub fn server_config(&self, identity: &Identity) -> Result<ServerConfig, TransportFault> {
        let provider = Arc::new(suite::provider(self.shared.algorithms));
        let verifier = Verifier { shared: Arc::clone(&self.shared), provider: Arc::clone(&provider) };
        let time = Arc::new(TlsTime(Arc::clone(&self.shared.clock)));
        let tls = |error: rustls::Error| TransportFault::Tls(error.to_string());
        identity.check(self.shared.algorithms)?;
        let (chain, key) = identity.parts();
        let mut config = ServerConfig::builder_with_details(provider, time)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls)?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_single_cert(chain, key)
            .map_err(tls)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// Accepts connections with those settings, and closes each when its holder is denied.
    ///
    /// # Errors
    /// The identity cannot be used.
    pub fn acceptor(&self, identity: &Identity) -> Result<GateAcceptor, TransportFault> {
        let tls = TlsAcceptor::from(Arc::new(self.server_config(identity)?));
        Ok(GateAcceptor { tls, connections: self.connections() })
    }
}

/// The certificate that a client showed in its handshake, for [`GateLayer`](super::GateLayer): an extension of requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerLeaf(pub Bytes);

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum AcceptFault {
    /// The handshake failed; also when the gate refused the certificate.
    #[error("the handshake failed: {0}")]
    Handshake(#[from] io::Error),
    /// It took longer than five seconds.
    #[error("the handshake took longer than five seconds")]
    Late,
    /// The holder was denied since the handshake.
    #[error(transparent)]
    Barred(#[from] Barred),
}

/// Accepts connections for a server in front of a model. Cheap to clone.
#[derive(Clone)]
pub struct GateAcceptor {
    tls: TlsAcceptor,
    connections: Connections,
}

impl GateAcceptor {
    /// Does the handshake and registers the connection.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn accept(&self, tcp: TcpStream) -> Result<GateStream, AcceptFault> {
        let timeout = Duration::from_millis(HANDSHAKE_TIMEOUT_MS);
        tcp.set_nodelay(true)?;
        let stream = tokio::time::timeout(timeout, self.tls.accept(tcp)).await;
        let stream = stream.map_err(|_| AcceptFault::Late)??;
        let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let leaf = leaf.ok_or(Barred(Denial::CredentialInvalid.as_str()))?;
        let leaf = PeerLeaf(Bytes::copy_from_slice(leaf));
        // Judged again: what arrived since the verifier looked is seen here, and what arrives from here on closes it.
        let connection = self.connections.register(&leaf.0)?;
        let [reading, writing] = [connection.signal(), connection.signal()].map(Denied::of);
        Ok(GateStream { stream, leaf, reading, writing, _connection: connection })
    }
}

/// A connection that ends when its holder is denied: reading and writing then fail, and whoever serves it lets it go.
pub struct GateStream {
    // In this order: the connection is closed before it is said to be.
    stream: TlsStream<TcpStream>,
    leaf: PeerLeaf,
    // Two: the halves of a stream that was split are of two tasks, and both are woken.
    reading: Denied,
    writing: Denied,
    _connection: Connection,
}

/// Wakes one task when the connection has to end.
struct Denied(Pin<Box<dyn Future<Output = &'static str> + Send + Sync>>);

impl Denied {
    fn of(signal: Arc<Signal>) -> Self {
        Self(Box::pin(async move { signal.wait().await }))
    }

    /// Has the connection to end? Wakes the task when it must later.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.0.as_mut().poll(context) {
            Poll::Ready(why) => {
                // A future is not polled again once it is ready; this one stays so.
                self.0 = Box::pin(std::future::ready(why));
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, Barred(why)))
            }
            Poll::Pending => Ok(()),
        }
    }
}

impl GateStream {
    /// The certificate of the client.
    pub fn leaf(&self) -> PeerLeaf {
        self.leaf.clone()
    }
}

impl AsyncRead for GateStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.reading.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for GateStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writing.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writing.check(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writing.check(context)?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Verifies client certificates as the gate judges them now.
struct Verifier {
    shared: Arc<Shared>,
    provider: Arc<CryptoProvider>,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier")
    }
}

/// What TLS tells the client: an alert of RFC 8446 section 6.2.
fn alert(code: &str) -> CertificateError {
    let is = |fault: CredentialFault| code == code_of(fault);
    if is(CredentialFault::Expired) {
        CertificateError::Expired
    } else if is(CredentialFault::NotYetValid) {
        CertificateError::NotValidYet
    } else if is(CredentialFault::Revoked) || is(CredentialFault::Held) || is(CredentialFault::LineageLocked)
    {
        CertificateError::Revoked
    } else if is(CredentialFault::Invalid) || is(CredentialFault::NotIssued) {
        CertificateError::UnknownIssuer
    } else {
        // A certificate of another kind, a stop, a suspension, and a gate that may permit nobody now.
        CertificateError::ApplicationVerificationFailure
    }
}

impl ClientCertVerifier for Verifier {
    /// None: authorities change, and a client has one certificate for this.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        match self.shared.barred(leaf) {
            None => Ok(ClientCertVerified::assertion()),
            Some(code) => {
                tracing::debug!(code, "a handshake was refused");
                Err(rustls::Error::InvalidCertificate(alert(code)))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
