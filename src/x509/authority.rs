//! The certificate of an authority: it issues leaves and CRLs and nothing below it. It is self-signed, or a root signed it.
//!
//! Its form is as fixed as that of leaves: subject `OU=<ACCESS|SYSTEM>, CN=<authority id>`, issuer the same or
//! `OU=ROOT, CN=<root id>`, path length 0. The OU carries the kind, so that a PEM file of such
//! certificates is a whole trust bundle and any TLS stack can tell the two authorities apart. To verifiers of ours the
//! authority itself is the anchor, also beneath a root: one signature a leaf, and no path that others could lengthen.

use std::fmt;

use thiserror::Error;

use super::ca_certificate::{CaCertificate, CaForm, ExtensionsFault, check_extensions};
use super::cert::{CLIENT_AUTH, SERVER_AUTH};
use super::fault::CertificateFault;
use super::key::{Curve, KeyFault, PublicKey};
use super::outline::{Outline, authority_name, root_name};
use crate::domain::certificate::{AuthorityKind, Serial};
use crate::domain::id::{AuthorityId, Digest, RootId};
use crate::domain::time::Timestamp;

/// The longest life of an authority: ten years. Rotation is to be practised, not avoided.
pub const AUTHORITY_LIFE_MAX_S: u64 = 10 * 366 * 86_400;
/// The path length of an authority: nothing but leaves below it.
pub(super) const AUTHORITY_PATH_LEN: u8 = 0;

/// Why a certificate is not that of an authority of this service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AuthorityFault {
    /// Its outer form is wrong.
    #[error(transparent)]
    Certificate(#[from] CertificateFault),
    /// Its key is not one that an authority may have.
    #[error(transparent)]
    Key(#[from] KeyFault),
    /// Its subject does not name an authority.
    #[error("the subject is not OU=ACCESS or OU=SYSTEM with an authority id as common name")]
    Name,
    /// It is neither self-signed nor by a root.
    #[error("the certificate is issued neither by itself nor by a root")]
    NotSelfIssued,
    /// Its extensions are not exactly those of an authority.
    #[error(
        "the extensions are not exactly keyUsage, subjectKeyIdentifier and basicConstraints of an authority, beneath a \
         root after its authorityKeyIdentifier"
    )]
    Extensions,
    /// Its key identifier is not the one of its key.
    #[error("the subject key identifier is not the one of its key")]
    KeyIdentifier,
    /// Its own signature is wrong: the file was changed.
    #[error("the signature of the certificate over itself is wrong")]
    Signature,
}

impl AuthorityFault {
    /// The stable code of the reason.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Certificate(fault) => fault.code(),
            Self::Key(_) => "AUTHORITY_UNSUPPORTED_KEY",
            Self::Name => "AUTHORITY_BAD_NAME",
            Self::NotSelfIssued => "AUTHORITY_NOT_SELF_ISSUED",
            Self::Extensions => "AUTHORITY_BAD_EXTENSIONS",
            Self::KeyIdentifier => "AUTHORITY_BAD_KEY_ID",
            Self::Signature => "AUTHORITY_BAD_SIGNATURE",
        }
    }
}

/// What an authority beneath a root is for, to whoever believes the root: TLS stacks let nothing below it be used for anything
/// else. People and workloads are clients, and of what the system authority issued only the service itself, a server, is
/// anybody's business: that of gateways and officers the service checks, to whom the authority itself is the anchor.
const fn usage_beneath(kind: AuthorityKind) -> &'static [u8] {
    match kind {
        AuthorityKind::Access => CLIENT_AUTH,
        AuthorityKind::System => SERVER_AUTH,
    }
}

/// Which root issued an authority, as its certificate says. Whether that is true, the root tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// The root.
    pub root: RootId,
    /// The identifier of its key.
    pub key_id: [u8; 20],
}

/// One authority: its certificate, read once, and its key, ready to verify.
#[derive(Clone)]
pub struct Authority {
    id: AuthorityId,
    kind: AuthorityKind,
    parent: Option<Parent>,
    certificate: CaCertificate,
}

impl Authority {
    /// Reads the certificate of an authority strictly. Of one that is self-signed the signature is verified; of one beneath a
    /// root, `Root::check_issued` does.
    pub fn from_der(der: &[u8]) -> Result<Self, AuthorityFault> {
        let outline = Outline::read(der)?;
        let (kind, id) = authority_name(outline.subject).ok_or(AuthorityFault::Name)?;
        let root = match outline.issuer == outline.subject {
            true => None,
            false => Some(root_name(outline.issuer).ok_or(AuthorityFault::NotSelfIssued)?),
        };
        let certificate = CaCertificate::of(&outline)?;
        let form = CaForm { path_len: AUTHORITY_PATH_LEN, usage_beneath: Some(usage_beneath(kind)) };
        let issuer_key_id = check_extensions(&outline.extensions, certificate.key_id(), form);
        let parent = match (root, issuer_key_id.map_err(AuthorityFault::from)?) {
            (Some(root), Some(key_id)) => Some(Parent { root, key_id }),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err(AuthorityFault::Extensions),
        };
        if parent.is_none() && !certificate.signed(&outline) {
            return Err(AuthorityFault::Signature);
        }
        Ok(Self { id, kind, parent, certificate })
    }

    /// Its id, the common name of its subject.
    pub const fn id(&self) -> AuthorityId {
        self.id
    }

    /// Which certificates it issues.
    pub const fn kind(&self) -> AuthorityKind {
        self.kind
    }

    /// The root that it says it is beneath; none: it is self-signed.
    pub const fn parent(&self) -> Option<&Parent> {
        self.parent.as_ref()
    }

    /// Its certificate, as what it issues is judged by it.
    pub const fn certificate(&self) -> &CaCertificate {
        &self.certificate
    }

    /// Its certificate, DER.
    pub fn der(&self) -> &[u8] {
        self.certificate.der()
    }

    /// The DER of its name, the issuer of its leaves.
    pub fn name(&self) -> &[u8] {
        self.certificate.name()
    }

    /// The serial number of its certificate.
    pub const fn serial(&self) -> Serial {
        self.certificate.serial()
    }

    /// Its public key.
    pub const fn key(&self) -> &PublicKey {
        self.certificate.key()
    }

    /// Its key identifier, by which leaves name its key.
    pub const fn key_id(&self) -> &[u8; 20] {
        self.certificate.key_id()
    }

    /// The first instant of its validity.
    pub const fn not_before(&self) -> Timestamp {
        self.certificate.not_before()
    }

    /// The last instant of its validity.
    pub const fn not_after(&self) -> Timestamp {
        self.certificate.not_after()
    }

    /// SHA-256 of its certificate.
    pub fn fingerprint(&self) -> Digest {
        self.certificate.fingerprint()
    }

    /// True when the signature over the message is by this authority, with the hash of its curve.
    pub fn verifies(&self, algorithm: Curve, message: &[u8], signature: &[u8]) -> bool {
        self.certificate.verifies(algorithm, message, signature)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({} {} until {})", self.kind, self.id, self.not_after())
    }
}

impl PartialEq for Authority {
    fn eq(&self, other: &Self) -> bool {
        self.certificate == other.certificate
    }
}

impl Eq for Authority {}

impl From<ExtensionsFault> for AuthorityFault {
    fn from(fault: ExtensionsFault) -> Self {
        match fault {
            ExtensionsFault::Set => Self::Extensions,
            ExtensionsFault::KeyIdentifier => Self::KeyIdentifier,
        }
    }
}
