//! TLS 1.3 only, with client certificates of our own authorities where the caller has one. No resumption: a resumed
//! session would skip the client's certificate.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
};
use thiserror::Error;

use super::keys::Credential;
use crate::app::App;
use crate::domain::time::Timestamp;
use crate::env::Clock;
use crate::x509::{TrustBundle, suite};

/// Why TLS cannot be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    /// An authority or the server's own certificate is not usable.
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
    /// The client verifier cannot be built.
    #[error("TLS: {0}")]
    Verifier(String),
    /// The FIPS build would serve what is not approved.
    #[error("TLS: this build has the FIPS module, and its TLS is not FIPS-approved; nothing is served")]
    NotFips,
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
        unix_time(self.0.now())
    }
}

fn unix_time(at: Timestamp) -> Option<UnixTime> {
    let seconds = u64::try_from(at.seconds()).ok()?;
    Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
}

/// Verifies client certificates by the authorities that are on record now: who is certified by a new one can connect at
/// once. Enrollment and health have no certificate; every method says what it needs.
struct Verifier {
    app: Arc<App>,
    provider: Arc<CryptoProvider>,
    last: ArcSwap<(Arc<TrustBundle>, Arc<dyn ClientCertVerifier>)>,
}

impl Verifier {
    fn new(app: &Arc<App>, provider: &Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let known = app.known_authorities();
        let last = ArcSwap::from_pointee((Arc::clone(&known), verifier_of(&known, provider)?));
        Ok(Self { app: Arc::clone(app), provider: Arc::clone(provider), last })
    }

    fn now(&self) -> Result<Arc<dyn ClientCertVerifier>, rustls::Error> {
        let known = self.app.known_authorities();
        let last = self.last.load();
        if Arc::ptr_eq(&known, &last.0) {
            return Ok(Arc::clone(&last.1));
        }
        let made = verifier_of(&known, &self.provider).map_err(|e| rustls::Error::General(e.to_string()))?;
        self.last.store(Arc::new((known, Arc::clone(&made))));
        Ok(made)
    }
}

fn verifier_of(
    known: &TrustBundle,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in known.authorities() {
        roots.add(CertificateDer::from(authority.der().to_vec()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|e| TlsError::Verifier(e.to_string()))
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier")
    }
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None: authorities change, and a client has one certificate for this.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verifier = self.now()?;
        let verified = verifier.verify_client_cert(leaf, intermediates, now);
        // By a clock that is not trusted, the certificates of officers who could set it right may not have begun or have ended.
        if verified.is_err()
            && let Some(then) = self.app.doubted_now().and_then(unix_time)
            && let Ok(good) = verifier.verify_client_cert(leaf, intermediates, then)
        {
            return Ok(good);
        }
        match &verified {
            // Everything else is verified as of an instant at which it was valid; the gatekeeper lets it renew and no more.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            )) => match self.app.last_valid(leaf).and_then(unix_time) {
                Some(at) => verifier.verify_client_cert(leaf, intermediates, at),
                None => verified,
            },
            _ => verified,
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

/// The configuration of the listener.
pub(super) fn server_config(
    app: &Arc<App>,
    credential: Credential,
    above: &[Vec<u8>],
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(suite::provider(app.algorithms()));
    let verifier = Arc::new(Verifier::new(app, &provider)?);
    // Who trusts only the root, or only an older one, finds the way up from the leaf.
    let chain = std::iter::once(credential.certificate).chain(above.iter().cloned());
    let chain = chain.map(CertificateDer::from).collect();
    let key = PrivateKeyDer::Pkcs8(credential.key.into());
    let mut config =
        ServerConfig::builder_with_details(provider, Arc::new(ClockTime(Arc::clone(app.clock()))))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    if cfg!(feature = "fips") {
        check_fips(&config)?;
    }
    Ok(Arc::new(config))
}

/// Nothing but what is approved is served by the FIPS build.
fn check_fips(config: &ServerConfig) -> Result<(), TlsError> {
    if config.fips() { Ok(()) } else { Err(TlsError::NotFips) }
}

#[cfg(test)]
mod tests {
    use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256;
    use rustls::server::ResolvesServerCertUsingSni;

    use super::*;
    use crate::domain::algorithm::AlgorithmProfile;

    fn config(provider: CryptoProvider) -> ServerConfig {
        let config = ServerConfig::builder_with_provider(Arc::new(provider));
        let config = config.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
        config.with_no_client_auth().with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()))
    }

    #[test]
    fn what_is_not_approved_is_refused_by_the_check_of_the_fips_build() {
        for profile in [AlgorithmProfile::Standard, AlgorithmProfile::Cnsa] {
            let own = check_fips(&config(suite::provider(profile)));
            // With the FIPS module our own are approved; without it nothing is.
            assert_eq!(own.is_ok(), cfg!(feature = "fips"), "{profile:?}");
            let mut other = suite::provider(profile);
            other.cipher_suites.push(TLS13_CHACHA20_POLY1305_SHA256);
            let refused = check_fips(&config(other));
            assert!(matches!(refused, Err(TlsError::NotFips)), "{profile:?}: {refused:?}");
        }
    }
}
