//! TLS 1.3 only, with client certificates of our own authorities where the caller has one. No resumption: a resumed
//! session would skip the client's certificate.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{RootCertStore, ServerConfig};
use thiserror::Error;

use super::keys::Credential;
use crate::app::App;
use crate::env::Clock;

/// Why TLS cannot be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    /// An authority or the server's own certificate is not usable.
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
    /// The client verifier cannot be built.
    #[error("TLS: {0}")]
    Verifier(String),
}

/// Our clock, as rustls asks for it.
struct ClockTime(Arc<dyn Clock>);

impl std::fmt::Debug for ClockTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClockTime")
    }
}

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().seconds()).ok()?;
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
    }
}

/// The configuration of the listener.
pub(super) fn server_config(app: &App, credential: Credential) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for authority in app.bundle().authorities() {
        roots.add(CertificateDer::from(authority.der().to_vec()))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        // Enrollment and health have no certificate; every method says what it needs.
        .allow_unauthenticated()
        .build()
        .map_err(|e| TlsError::Verifier(e.to_string()))?;
    let chain = vec![CertificateDer::from(credential.certificate)];
    let key = PrivateKeyDer::Pkcs8(credential.key.into());
    let mut config =
        ServerConfig::builder_with_details(provider, Arc::new(ClockTime(Arc::clone(app.clock()))))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}
