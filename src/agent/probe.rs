//! Showing a canary to the proxy as a client shows its certificate, and what comes of it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::canary::Canary;
use crate::config::agent::ProbeConfig;
use crate::domain::algorithm::AlgorithmProfile;
use crate::env::Entropy;
use crate::envoy::asked::CODE_HEADER;
use crate::x509::suite;

/// The request header that names a probe. Only the agent itself knows the names that are on their way.
pub(super) const PROBE_HEADER: &str = "x-countersign-probe";
/// One exchange with a proxy on this machine takes milliseconds.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest answer that is read: an error page has a tenth.
const ANSWER_LEN_MAX: u64 = 64 * 1024;
/// What nginx writes to a client whose certificate it refuses; it finishes the handshake to say so.
const REFUSED_BY_NGINX: &str = "The SSL certificate error";
/// Sessions that one canary may resume with one version of TLS.
const SESSIONS_MAX: usize = 4;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The proxy refused the certificate.
    Refused,
    /// The agent was asked, and the proxy passed its denial on.
    Denied,
    /// The proxy denied by itself, with this code.
    Held(String),
    /// Something answered without the agent being asked.
    Passed(u16),
    /// Nobody answered, or not the proxy that is meant.
    Unreachable(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("by refusing its certificate"),
            Self::Denied => f.write_str("by asking, and denying it"),
            Self::Held(code) => write!(f, "by denying it ({code}) without asking"),
            Self::Passed(status) => write!(f, "with {status} without asking"),
            Self::Unreachable(why) => write!(f, "not at all ({why})"),
        }
    }
}

/// Probes that are on their way.
#[derive(Debug, Default)]
pub(super) struct Flights {
    away: Mutex<BTreeSet<String>>,
}

/// One probe. It is on its way no more when this value is dropped.
struct Flight<'a> {
    flights: &'a Flights,
    name: String,
}

impl Flight<'_> {
    fn has_arrived(&self) -> bool {
        !self.flights.away.lock().unwrap_or_else(PoisonError::into_inner).contains(&self.name)
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.flights.arrived(&self.name);
    }
}

impl Flights {
    fn begin(&self, name: String) -> Flight<'_> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone());
        Flight { flights: self, name }
    }

    /// The endpoint was asked about this probe.
    pub(super) fn arrived(&self, name: &str) {
        self.away.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

/// Reaches the proxy as its clients do.
pub(super) struct Prober {
    config: ProbeConfig,
    name: ServerName<'static>,
    roots: Arc<RootCertStore>,
    flights: Arc<Flights>,
    entropy: Arc<dyn Entropy>,
    algorithms: AlgorithmProfile,
}

/// The TLS of one canary: a new session each time, or sessions of one version that can be resumed.
#[derive(Debug, Clone)]
pub(super) struct Dress(Arc<ClientConfig>);

/// The versions of TLS that a proxy may speak, TLS 1.3 alone under cnsa.
static VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

impl Prober {
    pub(super) fn new(
        config: ProbeConfig,
        flights: Arc<Flights>,
        entropy: Arc<dyn Entropy>,
        algorithms: AlgorithmProfile,
    ) -> Result<Self, String> {
        let name = ServerName::try_from(config.server_name.clone())
            .map_err(|_| format!("[probe] server_name: {:?} is not a server name", config.server_name))?;
        let wrong = |why: String| format!("[probe] ca: {}: {why}", config.ca.display());
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_file_iter(&config.ca).map_err(|e| wrong(e.to_string()))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|e| wrong(e.to_string()))?;
            roots.add(certificate).map_err(|e| wrong(e.to_string()))?;
        }
        if roots.is_empty() {
            return Err(wrong("it has no certificate".to_owned()));
        }
        Ok(Self { name, config, roots: Arc::new(roots), flights, entropy, algorithms })
    }

    /// TLS that begins anew at each connection.
    pub(super) fn fresh(&self, canary: &Canary) -> Result<Dress, String> {
        self.dress(canary, self.versions(), Resumption::disabled())
    }

    /// The versions of TLS that the proxy may speak.
    pub(super) fn versions(&self) -> &'static [&'static SupportedProtocolVersion] {
        match self.algorithms {
            AlgorithmProfile::Standard => &VERSIONS,
            AlgorithmProfile::Cnsa => VERSIONS.split_at(1).0,
        }
    }

    /// TLS that resumes what it can, of one version.
    pub(super) fn resuming(
        &self,
        canary: &Canary,
        version: &'static SupportedProtocolVersion,
    ) -> Result<Dress, String> {
        self.dress(canary, &[version], Resumption::in_memory_sessions(SESSIONS_MAX))
    }

    fn dress(
        &self,
        canary: &Canary,
        versions: &[&'static SupportedProtocolVersion],
        resumption: Resumption,
    ) -> Result<Dress, String> {
        let provider = Arc::new(suite::provider(self.algorithms));
        let chain = std::iter::once(&canary.certificate).chain(&canary.above);
        let chain = chain.map(|der| CertificateDer::from(der.clone())).collect();
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .and_then(|builder| {
                let builder = builder.with_root_certificates(Arc::clone(&self.roots));
                builder.with_client_auth_cert(chain, PrivateKeyDer::Pkcs8(canary.key.clone().into()))
            })
            .map_err(|error| error.to_string())?;
        config.resumption = resumption;
        Ok(Dress(Arc::new(config)))
    }

    /// Asks for the protected path. Says also whether a session was resumed.
    pub(super) async fn show(&self, dress: &Dress) -> (Outcome, bool) {
        let probe = self.flights.begin(hex::encode(self.entropy.bytes16()));
        let exchanged = timeout(EXCHANGE_TIMEOUT, self.exchange(dress, &probe.name)).await;
        let arrived = probe.has_arrived();
        match exchanged {
            Err(_) => (Outcome::Unreachable("no answer in three seconds".to_owned()), false),
            Ok(Err(error)) => (of_error(&error), false),
            Ok(Ok((answer, resumed))) => (of_answer(&answer, arrived), resumed),
        }
    }

    async fn exchange(&self, dress: &Dress, probe: &str) -> std::io::Result<(String, bool)> {
        let socket = TcpStream::connect(&self.config.address).await?;
        socket.set_nodelay(true)?;
        let connector = TlsConnector::from(Arc::clone(&dress.0));
        let mut stream = connector.connect(self.name.clone(), socket).await?;
        let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\n{PROBE_HEADER}: {probe}\r\nConnection: close\r\n\r\n",
            self.config.path, self.config.server_name
        );
        let sent = stream.write_all(request.as_bytes()).await;
        // With TLS 1.3 a client has its handshake behind it when the proxy refuses its certificate: the alert is read,
        // even if nothing could be written any more.
        let answer = read(&mut stream).await?;
        if answer.is_empty() {
            sent?;
        }
        Ok((answer, resumed))
    }
}

/// Reads to the end of the connection, with the tickets that come before it.
async fn read(stream: &mut TlsStream<TcpStream>) -> std::io::Result<String> {
    let mut answer = Vec::new();
    match stream.take(ANSWER_LEN_MAX).read_to_end(&mut answer).await {
        Ok(_) => {}
        // Many a proxy ends without a close_notify.
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof && !answer.is_empty() => {}
        Err(error) => return Err(error),
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn of_answer(answer: &str, arrived: bool) -> Outcome {
    let status = answer.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse::<u16>().ok());
    let Some(status) = status else {
        return Outcome::Unreachable("what answered is not HTTP/1.1".to_owned());
    };
    let head = answer.split("\r\n\r\n").next().unwrap_or_default();
    let code = head.lines().filter_map(|line| line.split_once(':'));
    let mut code =
        code.filter(|(name, _)| name.eq_ignore_ascii_case(CODE_HEADER)).map(|(_, value)| value.trim());
    match (status, code.next()) {
        (400, _) if !arrived && answer.contains(REFUSED_BY_NGINX) => Outcome::Refused,
        (401 | 403 | 500..=599, _) if arrived => Outcome::Denied,
        (401 | 403 | 503, Some(code)) if !arrived => Outcome::Held(code.chars().take(64).collect()),
        _ => Outcome::Passed(status),
    }
}

/// Only an alert about the certificate is a refusal: a proxy that is gone has refused nobody.
fn of_error(error: &std::io::Error) -> Outcome {
    let tls = error.get_ref().and_then(|held| held.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::AlertReceived(
            AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::BadCertificate,
        )) => Outcome::Refused,
        Some(_) | None => Outcome::Unreachable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_denial_only_when_somebody_denied() {
        let answer = |status: u16, head: &str, body: &str| {
            format!("HTTP/1.1 {status} Word\r\nserver: x\r\n{head}\r\n\r\n{body}")
        };
        let code = "X-Countersign-Code: CREDENTIAL_REVOKED";
        let held = || Outcome::Held("CREDENTIAL_REVOKED".to_owned());
        for (text, arrived, outcome) in [
            (answer(400, "", "<title>400 The SSL certificate error</title>"), false, Outcome::Refused),
            (answer(400, "", "bad request"), false, Outcome::Passed(400)),
            (answer(403, code, ""), true, Outcome::Denied),
            (answer(500, "", ""), true, Outcome::Denied),
            (answer(403, code, ""), false, held()),
            (answer(503, code, ""), false, held()),
            (answer(403, "", ""), false, Outcome::Passed(403)),
            (answer(200, code, ""), true, Outcome::Passed(200)),
            (answer(200, "", ""), false, Outcome::Passed(200)),
            (answer(404, "", code), false, Outcome::Passed(404)),
        ] {
            assert_eq!(of_answer(&text, arrived), outcome, "{text}");
        }
        assert!(matches!(of_answer("SSH-2.0", false), Outcome::Unreachable(_)));
        let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert!(matches!(of_error(&reset), Outcome::Unreachable(_)));
    }

    proptest::proptest! {
        #[test]
        fn no_answer_is_a_proof_that_the_endpoint_does_not_confirm(
            status in "[0-9]{0,4}", head in "\\PC{0,40}", body in "\\PC{0,40}", whole in "\\PC{0,60}", arrived: bool,
        ) {
            let answer = format!("HTTP/1.1 {status} Word\r\n{CODE_HEADER}: {head}\r\n\r\n{body}{REFUSED_BY_NGINX}");
            for text in [answer, format!("HTTP/1.{whole}"), whole] {
                match of_answer(&text, arrived) {
                    Outcome::Denied => assert!(arrived, "{text}"),
                    Outcome::Refused | Outcome::Held(_) => assert!(!arrived, "{text}"),
                    Outcome::Passed(_) | Outcome::Unreachable(_) => {}
                }
            }
        }
    }

    #[test]
    fn only_a_probe_on_its_way_arrives() {
        let flights = Flights::default();
        let (a, c) = (flights.begin("a".to_owned()), flights.begin("c".to_owned()));
        flights.arrived("b");
        flights.arrived("c");
        assert!(!a.has_arrived() && c.has_arrived());
        drop(a);
        assert!(flights.away.lock().unwrap().is_empty());
    }
}
