//! The keys of a data directory, and the server's own certificate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use super::reload::Source;
use crate::app::{App, Error as AppError, SERVER_NAME};
use crate::ca::KeyFileFault;
use crate::ca::pkcs11::TokenFault;
use crate::config::{KeyFiles, PassphraseFault};
use crate::domain::authority::AuthorityState;
use crate::domain::certificate::{Facts, PrincipalKind};
use crate::domain::id::PrincipalId;
use crate::x509::bundle::certificate_pem;
use crate::x509::{ClientKey, Passphrase, SealFault, ServerName, parse};

/// The file of the server's own certificate in the data directory.
pub const CERTIFICATE_FILE: &str = "server-certificate.pem";

/// Why the keys of a data directory cannot be used.
#[derive(Debug, Error)]
pub enum KeyError {
    /// A key file.
    #[error("{}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyFileFault,
    },
    /// A file that cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The passphrase cannot be read.
    #[error("[keys] {0}")]
    Passphrase(#[from] PassphraseFault),
    /// The passphrase is none.
    #[error("[keys] passphrase: {0}")]
    NoPassphrase(#[from] SealFault),
    /// The token cannot be used.
    #[error("[keys.pkcs11] {0}")]
    Token(#[from] TokenFault),
    /// The PIN of the token cannot be read.
    #[error("[keys.pkcs11] pin: {0}")]
    Pin(PassphraseFault),
    /// The server's own key is not usable.
    #[error("{}: it is not a PKCS#8 key of a curve that this service uses", .0.display())]
    ServerKey(PathBuf),
    /// There is no certificate for the server, and none can be issued now.
    #[error("the server has no certificate and cannot issue one: {0}")]
    NoCertificate(AppError),
}

/// A key with its certificate.
pub(super) struct Credential {
    /// DER.
    pub(super) certificate: Vec<u8>,
    /// PKCS#8, DER.
    pub(super) key: Vec<u8>,
}

/// The passphrase of the configuration, if it names one. Some sources can be read once.
///
/// # Errors
/// It cannot be read.
pub fn passphrase(files: &KeyFiles) -> Result<Option<Arc<Passphrase>>, KeyError> {
    let Some(source) = &files.passphrase else { return Ok(None) };
    Ok(Some(Arc::new(Passphrase::new(source.read()?)?)))
}

/// The server's own credential: the stored certificate while it is good for half of its life more, else a new one
/// if one can be issued.
pub(super) async fn server_credential(
    app: &App,
    source: &Source,
    may_issue: bool,
) -> Result<Credential, KeyError> {
    let (names, key_path) = (source.names.as_slice(), source.key.path().to_owned());
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| KeyError::Io { path, source }
    };
    let key = source.key.read()?;
    let path = source.data.join(CERTIFICATE_FILE);
    let stored = std::fs::read_to_string(&path).ok().and_then(|pem| pem::parse(pem).ok());
    if let Some(stored) = &stored
        && (is_current(app, stored.contents(), &key, names) || !may_issue)
    {
        return Ok(Credential { certificate: stored.contents().to_vec(), key: key.to_pkcs8() });
    }
    let Ok(name) = SERVER_NAME.parse::<PrincipalId>() else { return Err(KeyError::ServerKey(key_path)) };
    let issued = match (app.issue_server(&name, key.public_key().clone(), names.to_vec()).await, stored) {
        (Ok(issued), _) => issued,
        (Err(error), Some(stored)) if is_of_key(app, stored.contents(), &key) => {
            tracing::warn!(%error, "the server's certificate cannot be renewed now; the one it has is used");
            return Ok(Credential { certificate: stored.into_contents(), key: key.to_pkcs8() });
        }
        (Err(error), _) => return Err(KeyError::NoCertificate(error)),
    };
    std::fs::write(&path, certificate_pem(&issued.certificate)).map_err(io(&path))?;
    Ok(Credential { certificate: issued.certificate, key: key.to_pkcs8() })
}

/// Is it time for another certificate? Not while the key cannot be read: then none can be had either.
pub(super) fn is_due(app: &App, source: &Source) -> bool {
    let key = source.key.read().ok();
    let stored = std::fs::read_to_string(source.data.join(CERTIFICATE_FILE)).ok();
    let stored = stored.and_then(|pem| pem::parse(pem).ok());
    let (Some(key), Some(stored)) = (key, stored) else { return false };
    !is_current(app, stored.contents(), &key, &source.names)
}

fn is_of_key(app: &App, der: &[u8], key: &ClientKey) -> bool {
    app.read_certificate(der).is_ok_and(|certificate| certificate.key == key.public_key().digest())
}

fn is_current(app: &App, der: &[u8], key: &ClientKey, names: &[ServerName]) -> bool {
    let Ok(certificate) = app.read_certificate(der) else { return false };
    let is_server = match &certificate.facts {
        Facts::System(facts) => facts.kind == PrincipalKind::Server,
        Facts::Access(_) | Facts::Canary(_) => false,
    };
    // Of one that retires it is still shown; of one that is known to be bad it is not.
    let state = app.state();
    let issuer = state.authorities.get(&certificate.issuer).map(|authority| authority.state);
    let is_of_good = issuer.is_some_and(|state| state.is_trusted() && state != AuthorityState::Tainted);
    let life_ms = certificate.not_after.millis() - certificate.not_before.millis();
    let same_names = parse(der, app.profile()).is_ok_and(|unverified| unverified.names() == names);
    is_server
        && is_of_good
        && same_names
        && certificate.key == key.public_key().digest()
        && app.now().millis() < certificate.not_before.millis() + life_ms / 2
}
