//! A channel to the server: TLS 1.3 only, its certificate verified strictly against the system authorities and for
//! being the server's, its clock the one that everything else here uses.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::domain::algorithm::AlgorithmProfile;
use crate::domain::certificate::AuthorityKind;
use crate::env::Clock;
use crate::wire::CLIENT_TIME;
use crate::x509::{ABOVE_MAX, BundleFault, ClientKey, Passphrase, SealFault, TrustBundle, sealed, suite};

/// How long connecting may take, with the handshake.
const CONNECT_TIMEOUT_MS: u64 = 5_000;
/// How often an idle connection is probed, and how long the answer may take: a half-open one is found within a lease.
const KEEP_ALIVE_MS: u64 = 2_500;
/// The most certificates of a chain: a leaf and what is above it.
const CHAIN_MAX: usize = 1 + ABOVE_MAX;

/// Why there is no channel.
#[derive(Debug, Error)]
pub enum TransportFault {
    /// Not `host:port`.
    #[error("{0:?} is not an address, for example countersign.example:7443")]
    Address(String),
    /// Not a DNS name or an address.
    #[error("{0:?} is not a server name")]
    ServerName(String),
    /// The system bundle is not one.
    #[error("the bundle of system authorities: {0}")]
    Bundle(#[from] BundleFault),
    /// It has no authority of the system kind.
    #[error("the bundle has no system authority")]
    NoSystemAuthority,
    /// Certificate chain or key are not PEM.
    #[error("the identity is not a certificate chain and a private key in PEM")]
    Identity,
    /// The private key cannot be opened.
    #[error("the private key: {0}")]
    Key(SealFault),
    /// The key is not of the profile of the service.
    #[error(
        "the private key cannot be used under the profile {0}: {remedy}; a bundle of P-384 authorities without a line \
         \"# PROFILE\" is taken for one of cnsa: if the service is of profile standard, take its trust/system.pem anew",
        remedy = .0.remedy()
    )]
    Profile(AlgorithmProfile),
    /// TLS cannot be set up so.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// The server cannot be reached, or does not prove who it is.
    #[error("no connection to {address}: {why}")]
    Connect {
        /// Where to.
        address: String,
        /// What went wrong, with its causes.
        why: String,
        /// The same, for whoever can do something about it.
        cause: ConnectCause,
    },
}

/// What stands between a client and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectCause {
    /// Nobody answers there, or nobody who speaks TLS 1.3.
    Unreachable,
    /// The server's certificate is of no trusted system authority, or not that of a server.
    Untrusted,
    /// The server's certificate is for other names.
    WrongName,
    /// The server's certificate is not valid now.
    Expired,
}

/// Says this machine's time with each call: a service refuses who is far off, before anything is signed or asked for by a
/// clock that is wrong. Gates need it not: they compare their clocks with every Pong, to a second.
#[derive(Clone)]
pub struct Stamp(Arc<dyn Clock>);

/// A channel whose calls say the time.
pub type Stamped = InterceptedService<Channel, Stamp>;

impl Stamp {
    /// By this clock.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self(clock)
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stamp")
    }
}

impl Interceptor for Stamp {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let now = MetadataValue::try_from(self.0.now().millis().to_string());
        let now = now.map_err(|_| Status::internal("a number is no header"))?;
        request.metadata_mut().insert(CLIENT_TIME, now);
        Ok(request)
    }
}

/// A certificate chain and its private key.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads the chain, leaf first, and the PKCS#8 key.
    ///
    /// # Errors
    /// One of them is not PEM, or the chain is empty or too long.
    pub fn from_pem(chain_pem: &str, key_pem: &str) -> Result<Self, TransportFault> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain_pem.as_bytes())
            .take(CHAIN_MAX + 1)
            .collect::<Result<_, _>>()
            .map_err(|_| TransportFault::Identity)?;
        if chain.is_empty() || chain.len() > CHAIN_MAX {
            return Err(TransportFault::Identity);
        }
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|_| TransportFault::Identity)?;
        Ok(Self { chain, key })
    }

    /// Reads the chain as [`from_pem`](Self::from_pem) does, and a PKCS#8 key that may be encrypted (PBES2).
    ///
    /// # Errors
    /// One of them is not PEM, or the passphrase does not open the key.
    pub fn from_sealed_pem(
        chain_pem: &str,
        key_pem: &str,
        passphrase: &Passphrase,
    ) -> Result<Self, TransportFault> {
        let key = sealed::open(key_pem.as_bytes(), Some(passphrase)).map_err(TransportFault::Key)?;
        let plain = sealed::to_pem(&key, None).map_err(TransportFault::Key)?;
        Self::from_pem(chain_pem, &plain)
    }

    /// Refuses a key that no peer under this profile would take. An encoding that is none is rustls' to refuse.
    pub(super) fn check(&self, algorithms: AlgorithmProfile) -> Result<(), TransportFault> {
        let key = ClientKey::from_pkcs8(self.key.secret_der());
        match key.is_ok_and(|key| !algorithms.accepts(key.public_key().spki())) {
            true => Err(TransportFault::Profile(algorithms)),
            false => Ok(()),
        }
    }

    pub(super) const fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Self {
        Self { chain, key }
    }

    pub(super) fn parts(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (self.chain.clone(), self.key.clone_key())
    }
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({} certificates)", self.chain.len())
    }
}

/// Where the server is, and how it proves itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `host:port`.
    pub address: String,
    /// The DNS name or address in its certificate; none: the host of the address.
    pub server_name: Option<String>,
    /// The authorities of the system kind, PEM; others in it are ignored.
    pub system_bundle_pem: String,
}

impl Target {
    fn host(&self) -> Result<&str, TransportFault> {
        let wrong = || TransportFault::Address(self.address.clone());
        let (host, port) = self.address.rsplit_once(':').ok_or_else(wrong)?;
        port.parse::<u16>().map_err(|_| wrong())?;
        Ok(host.trim_start_matches('[').trim_end_matches(']'))
    }

    fn name(&self) -> Result<ServerName<'static>, TransportFault> {
        let name = match &self.server_name {
            Some(name) => name,
            None => self.host()?,
        };
        ServerName::try_from(name.to_owned()).map_err(|_| TransportFault::ServerName(name.to_owned()))
    }

    /// Checks everything that can be checked without a network.
    pub(super) fn check(
        &self,
        identity: Option<&Identity>,
        clock: &Arc<dyn Clock>,
    ) -> Result<(), TransportFault> {
        self.host()?;
        self.name()?;
        tls_config(&self.system_bundle_pem, identity, clock).map(drop)
    }
}

/// A channel to the server, connected. Without an identity only what answers strangers answers: enrollment, health.
///
/// # Errors
/// Why there is none.
pub async fn channel(
    target: &Target,
    identity: Option<&Identity>,
    clock: &Arc<dyn Clock>,
) -> Result<Channel, TransportFault> {
    let config = tls_config(&target.system_bundle_pem, identity, clock)?;
    let connector = TlsConnector::from(Arc::new(config));
    let (address, name) = (target.address.clone(), target.name()?);
    target.host()?;
    let connect = tower::service_fn(move |_: tonic::transport::Uri| {
        let (connector, address, name) = (connector.clone(), address.clone(), name.clone());
        async move {
            let stream = TcpStream::connect(&address).await?;
            stream.set_nodelay(true)?;
            connector.connect(name, stream).await.map(TokioIo::new)
        }
    });
    // TLS is the connector's business; to tonic this is a plain address.
    let endpoint = Endpoint::from_shared(format!("http://{}", target.address))
        .map_err(|_| TransportFault::Address(target.address.clone()))?
        .http2_keep_alive_interval(Duration::from_millis(KEEP_ALIVE_MS))
        .keep_alive_timeout(Duration::from_millis(KEEP_ALIVE_MS))
        .keep_alive_while_idle(true);
    let failed = |why, cause| TransportFault::Connect { address: target.address.clone(), why, cause };
    let timeout = Duration::from_millis(CONNECT_TIMEOUT_MS);
    let connected = tokio::time::timeout(timeout, endpoint.connect_with_connector(connect)).await;
    let late = |_| failed("it took longer than five seconds".to_owned(), ConnectCause::Unreachable);
    connected.map_err(late)?.map_err(|error| failed(with_causes(&error), cause(&error)))
}

/// An error with its causes, each once: tonic's own says only that something failed.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let why = error.to_string();
        if !text.contains(&why) {
            text = format!("{text}: {why}");
        }
        cause = error.source();
    }
    text
}

/// What TLS found, if it is TLS that failed.
fn cause(error: &(dyn std::error::Error + 'static)) -> ConnectCause {
    let mut next = Some(error);
    while let Some(error) = next {
        // An io::Error's source is the source of the error that it holds, so that one is looked at here.
        let held = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        match held.and_then(|held| held.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(fault)) => return of_certificate(fault),
            Some(rustls::Error::General(_)) => return ConnectCause::Untrusted,
            Some(_) | None => next = error.source(),
        }
    }
    ConnectCause::Unreachable
}

fn of_certificate(fault: &CertificateError) -> ConnectCause {
    use CertificateError as Fault;
    match fault {
        Fault::NotValidForName | Fault::NotValidForNameContext { .. } => ConnectCause::WrongName,
        Fault::Expired
        | Fault::ExpiredContext { .. }
        | Fault::NotValidYet
        | Fault::NotValidYetContext { .. } => ConnectCause::Expired,
        _ => ConnectCause::Untrusted,
    }
}

/// The TLS settings of every client of this service.
///
/// # Errors
/// The bundle or the identity cannot be used.
pub fn tls_config(
    system_bundle_pem: &str,
    identity: Option<&Identity>,
    clock: &Arc<dyn Clock>,
) -> Result<ClientConfig, TransportFault> {
    let tls = |error: &dyn fmt::Display| TransportFault::Tls(error.to_string());
    let bundle = TrustBundle::from_pem(system_bundle_pem)?;
    let algorithms = bundle.algorithms()?;
    if let Some(identity) = identity {
        identity.check(algorithms)?;
    }
    let mut roots = RootCertStore::empty();
    for authority in bundle.authorities().iter().filter(|a| a.kind() == AuthorityKind::System) {
        roots.add(CertificateDer::from(authority.der().to_vec())).map_err(|e| tls(&e))?;
    }
    if roots.is_empty() {
        return Err(TransportFault::NoSystemAuthority);
    }
    let provider = Arc::new(suite::provider(algorithms));
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let verifier = ServerVerifier { inner: verifier.build().map_err(|e| tls(&e))? };
    let config = builder(provider, clock)?.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        None => config.with_no_client_auth(),
        Some(identity) => config
            .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
            .map_err(|e| tls(&e))?,
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would skip the checks of the certificate.
    config.resumption = Resumption::disabled();
    Ok(config)
}

type Builder = rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>;

fn builder(provider: Arc<CryptoProvider>, clock: &Arc<dyn Clock>) -> Result<Builder, TransportFault> {
    ClientConfig::builder_with_details(provider, Arc::new(TlsTime(Arc::clone(clock))))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| TransportFault::Tls(error.to_string()))
}

/// Our clock, for the validity of the server's certificate.
pub(super) struct TlsTime(pub(super) Arc<dyn Clock>);

impl fmt::Debug for TlsTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsTime")
    }
}

impl TimeProvider for TlsTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().seconds()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

/// The usual checks, and that the certificate is the server's and not any other of the system authority.
#[derive(Debug)]
struct ServerVerifier {
    inner: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.inner.verify_server_cert(leaf, intermediates, name, ocsp, now)?;
        if !is_server(leaf) {
            return Err(rustls::Error::General("the certificate is not that of a server".to_owned()));
        }
        Ok(verified)
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
        self.inner.verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Does the leaf have exactly one URI, and is it that of a server?
pub(super) fn is_server(leaf: &CertificateDer<'_>) -> bool {
    let Ok(certificate) = webpki::EndEntityCert::try_from(leaf) else { return false };
    let mut uris = certificate.valid_uri_names();
    let (Some(uri), None) = (uris.next(), uris.next()) else { return false };
    let path = uri.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/')).map(|(_, path)| path);
    path.is_some_and(|path| path.starts_with("role/server/"))
}
