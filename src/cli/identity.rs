//! Who the caller is: a folder with certificate.pem, key.pem and system-bundle.pem, and for an officer log-key.pem. The
//! private key never leaves it.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::files::{self, Access};
use super::unlock::Unlock;
use super::{Failure, Outcome};
use crate::ca::{FileSigner, SignatureAlgorithm, Signer as _, read_key_file};
use crate::client;
use crate::domain::algorithm::AlgorithmProfile;
use crate::domain::certificate::PrincipalKind;
use crate::domain::id::PrincipalId;
use crate::domain::time::Timestamp;
use crate::x509::bundle::certificate_pem;
use crate::x509::explain::explain;
use crate::x509::{Arc, ClientKey, Curve, Profile, RequestedKey, TrustBundle, chain_pem, sealed};

pub(super) const CERTIFICATE: &str = "certificate.pem";
pub(super) const KEY: &str = "key.pem";
pub(super) const SYSTEM_BUNDLE: &str = "system-bundle.pem";
/// An officer has it from genesis; others go without.
pub(super) const LOG_KEY: &str = "log-key.pem";

/// The folder of an identity.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    folder: PathBuf,
    unlock: Unlock,
}

impl Identity {
    /// In a folder, with what opens its key.
    pub(super) fn at(folder: &Path, unlock: &Unlock) -> Self {
        Self { folder: folder.to_owned(), unlock: unlock.clone() }
    }

    /// A file of the folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Certificate and private key, for TLS.
    pub(super) fn for_tls(&self) -> Result<client::Identity, Failure> {
        client::Identity::from_pem(&self.chain_pem()?, &self.key_pem()?)
            .map_err(|fault| Failure(format!("{}: {fault}", self.folder.display())))
    }

    /// What it shows in handshakes, leaf first: every certificate of the file.
    pub(super) fn chain_pem(&self) -> Result<String, Failure> {
        let path = self.path(CERTIFICATE);
        match files::read(&path)?.as_slice() {
            der @ [0x30, ..] => Ok(certificate_pem(der)),
            _ => files::read_text(&path),
        }
    }

    /// What its certificate says.
    pub(super) fn credential(&self) -> Result<Credential, Failure> {
        let path = self.path(CERTIFICATE);
        Credential::of(&files::read(&path)?)
            .map_err(|Failure(why)| Failure(format!("{}: {why}", path.display())))
    }

    /// A request for another certificate of its key.
    pub(super) fn request(&self) -> Result<Vec<u8>, Failure> {
        Ok(load_key(&self.path(KEY), &self.unlock)?.request()?)
    }

    /// The private key, opened if it is encrypted: PKCS#8 PEM.
    pub(super) fn key_pem(&self) -> Result<Zeroizing<String>, Failure> {
        Ok(Zeroizing::new(load_key(&self.path(KEY), &self.unlock)?.to_pem()))
    }

    /// Refuses a certificate that has ended and that its key may not renew: the server would only break off the handshake.
    pub(super) fn check_validity(&self, now: Timestamp) -> Result<(), Failure> {
        let until = self.credential()?.not_after;
        if now <= until {
            return Ok(());
        }
        Err(Failure(format!(
            "{} ended at {until}\n  enroll again (a person or workload); a gateway's: countersign principal renew; \
             a partner's: an officer makes a new one, countersign principal certificate",
            self.path(CERTIFICATE).display()
        )))
    }

    /// Whom the certificate names, from its SPIFFE ID.
    pub(super) fn name(&self) -> Result<SpiffeName, Failure> {
        self.credential()?.name.ok_or_else(|| {
            Failure(format!(
                "{} does not name an officer, gateway or partner; this needs the certificate of one",
                self.path(CERTIFICATE).display()
            ))
        })
    }

    /// Signs with the identity's key.
    pub(super) fn sign(&self, prefix: &[u8], bytes: &[u8]) -> Result<Vec<u8>, Failure> {
        sign(&self.path(KEY), &self.unlock, prefix, bytes)
    }
}

/// What a certificate says of its holder, by its form only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credential {
    /// None: a person or workload.
    pub(super) name: Option<SpiffeName>,
    /// SHA-256 of the public key.
    pub(super) key: String,
    /// The name of the authority.
    pub(super) issuer: String,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

impl Credential {
    /// Reads the first certificate, PEM or DER. The arc of the attributes does not matter here.
    pub(super) fn of(file: &[u8]) -> Result<Self, Failure> {
        let explained = explain(file, &Profile::new("unknown".parse()?, Arc::default(), None))?;
        let (not_before, not_after) = (explained.not_before, explained.not_after);
        let value = |label: &'static str| {
            explained.lines.iter().filter(move |line| line.label.starts_with(label)).map(|line| &line.value)
        };
        let name = value("name").filter_map(|value| SpiffeName::parse(value)).next();
        let key = value("key sha-256").next().cloned().unwrap_or_default();
        let issuer = value("issuer").next().cloned().unwrap_or_default();
        Ok(Self { name, key, issuer, not_before, not_after })
    }
}

/// `spiffe://TRUST-DOMAIN/role/KIND/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SpiffeName {
    pub(super) trust_domain: String,
    pub(super) kind: PrincipalKind,
    pub(super) principal: PrincipalId,
}

impl SpiffeName {
    fn parse(text: &str) -> Option<Self> {
        let (trust_domain, path) = text.strip_prefix("spiffe://")?.split_once('/')?;
        let (kind, name) = path.strip_prefix("role/")?.split_once('/')?;
        let (kind, principal) = (kind.parse().ok()?, name.parse().ok()?);
        Some(Self { trust_domain: trust_domain.to_owned(), kind, principal })
    }
}

/// The profile of algorithms that a bundle of authorities says; refuses a file that is none.
pub(super) fn profile_of(path: &Path) -> Result<AlgorithmProfile, Failure> {
    let bundle = TrustBundle::from_pem(&files::read_text(path)?);
    let algorithms = bundle.and_then(|bundle| bundle.algorithms());
    algorithms.map_err(|fault| Failure(format!("{}: {fault}", path.display())))
}

/// Loads a holder's key, refusing a file that others may read.
pub(super) fn load_key(path: &Path, unlock: &Unlock) -> Result<ClientKey, Failure> {
    let failed = |e: &dyn std::fmt::Display| Failure(format!("{}: {e}", path.display()));
    let passphrase = unlock.for_key(path)?;
    let text = read_key_file(path).map_err(|e| failed(&e))?;
    let pkcs8 = sealed::open(&text, passphrase.as_deref()).map_err(|e| failed(&e))?;
    ClientKey::from_pkcs8(&pkcs8).map_err(|e| failed(&e))
}

/// The key in a folder: the one that is there, or a new one, durable before anything is asked for with it. A new one is
/// encrypted when a passphrase is named.
pub(super) fn key_in(
    folder: &Path,
    algorithms: AlgorithmProfile,
    unlock: &Unlock,
) -> Result<(ClientKey, bool), Failure> {
    files::make_folder(folder)?;
    let path = folder.join(KEY);
    let is_new = !path.exists();
    if is_new {
        let passphrase = unlock.for_new(&path)?;
        FileSigner::create_with(
            &path,
            SignatureAlgorithm::Ecdsa(Curve::of_profile(algorithms)),
            passphrase.as_deref(),
        )
        .map_err(|e| Failure(format!("{}: {e}", path.display())))?;
    }
    let key = load_key(&path, unlock)?;
    if !algorithms.accepts(key.public_key().spki()) {
        return Err(Failure(format!(
            "{} is {}, and the profile {algorithms} takes P-384 only; name another folder for a new key",
            path.display(),
            key.public_key().curve().as_str()
        )));
    }
    Ok((key, is_new))
}

/// Signs prefix and bytes with the key in a file: DER ECDSA.
pub(super) fn sign(key: &Path, unlock: &Unlock, prefix: &[u8], bytes: &[u8]) -> Result<Vec<u8>, Failure> {
    let failed = |e: &dyn std::fmt::Display| Failure(format!("{}: {e}", key.display()));
    let passphrase = unlock.for_key(key)?;
    let signer = FileSigner::load_with(key, passphrase.as_deref()).map_err(|e| failed(&e))?;
    match signer.algorithm() {
        SignatureAlgorithm::Ecdsa(_) => signer.sign(&[prefix, bytes].concat()).map_err(|e| failed(&e)),
        SignatureAlgorithm::Ed25519 => Err(failed(&"officers sign with ECDSA on P-256 or P-384")),
    }
}

/// The key that a request asks a certificate for, with proof of possession.
pub(super) fn requested_key(path: &Path) -> Result<(RequestedKey, Vec<u8>), Failure> {
    let der = files::read_der(path, "CERTIFICATE REQUEST")?;
    let key = RequestedKey::from_csr(&der).map_err(|e| Failure(format!("{}: {e}", path.display())))?;
    Ok((key, der))
}

/// Keeps a certificate for everybody to read.
pub(super) fn write_certificate(path: &Path, der: &[u8]) -> Result<Outcome, Failure> {
    write_chain::<&[u8]>(path, der, &[])
}

/// Keeps a certificate with what is to be shown with it.
pub(super) fn write_chain<T: AsRef<[u8]>>(path: &Path, leaf: &[u8], above: &[T]) -> Result<Outcome, Failure> {
    files::write(path, chain_pem(leaf, above)?.as_bytes(), Access::Public)?;
    Ok(Outcome::Done)
}
