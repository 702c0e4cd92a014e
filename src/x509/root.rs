//! The certificate of a root, which is self-signed and certifies authorities at ceremonies, and the one that another root gave
//! it: a cross-certificate, for those who know the other root only.
//!
//! A root is `OU=ROOT, CN=<root id>` with path length 2. A cross-certificate has the name and the key of one root, another
//! root as issuer, and path length 1; an authority that another root certifies as well simply has two certificates. So
//! every path is at most other root, root, authority, leaf.

use thiserror::Error;

use super::authority::Authority;
use super::ca_certificate::{CaCertificate, CaForm, ExtensionsFault, check_extensions};
use super::fault::CertificateFault;
use super::key::KeyFault;
use super::outline::{Outline, root_name};
use crate::domain::id::RootId;

/// The longest life of a root: twenty years. It outlives the authorities beneath it, which live ten at most.
pub const ROOT_LIFE_MAX_S: u64 = 20 * 366 * 86_400;
/// The longest life of a root's revocation list: two years, by when there is another ceremony.
pub const ROOT_LIST_LIFE_MAX_S: i64 = 2 * 366 * 86_400;
/// The path length of a root: below it another root and an authority, when it certifies that root.
pub(super) const ROOT_PATH_LEN: u8 = 2;
/// The path length of a cross-certificate: below it one authority.
pub(super) const CROSS_PATH_LEN: u8 = 1;

/// Why a certificate is not that of a root, or not by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RootFault {
    /// Its outer form is wrong.
    #[error(transparent)]
    Certificate(#[from] CertificateFault),
    /// Its key is not one that a root may have.
    #[error(transparent)]
    Key(#[from] KeyFault),
    /// Its subject does not name a root.
    #[error("the subject is not OU=ROOT with a root id as common name")]
    Name,
    /// It is not self-signed.
    #[error("the certificate is not issued by itself")]
    NotSelfIssued,
    /// A cross-certificate is by another root.
    #[error("the certificate is not issued by another root")]
    NotCross,
    /// Its extensions are not exactly those of a root.
    #[error("the extensions are not exactly those of a root, or the path length is another")]
    Extensions,
    /// Its key identifier is not the one of its key.
    #[error("the subject key identifier is not the one of its key")]
    KeyIdentifier,
    /// Its own signature is wrong: the file was changed.
    #[error("the signature of the root over itself is wrong")]
    Signature,
    /// What it is said to have issued names another issuer, or another key.
    #[error("the certificate is of another root")]
    OtherRoot,
    /// What it is said to have issued it did not sign.
    #[error("the signature of the certificate is not by the root")]
    NotSigned,
    /// What it issued is valid when the root is not.
    #[error("the certificate is valid when its root is not")]
    Outlives,
    /// What it issued has the root's own key.
    #[error("the certificate has the key of its root")]
    OwnKey,
}

impl From<ExtensionsFault> for RootFault {
    fn from(fault: ExtensionsFault) -> Self {
        match fault {
            ExtensionsFault::Set => Self::Extensions,
            ExtensionsFault::KeyIdentifier => Self::KeyIdentifier,
        }
    }
}

/// A root, and its name under another one, are above authorities of both kinds.
const fn form(path_len: u8) -> CaForm {
    CaForm { path_len, usage_beneath: None }
}

/// One root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    id: RootId,
    certificate: CaCertificate,
}

impl Root {
    /// Reads the certificate of a root strictly and verifies its signature over itself.
    pub fn from_der(der: &[u8]) -> Result<Self, RootFault> {
        let outline = Outline::read(der)?;
        let id = root_name(outline.subject).ok_or(RootFault::Name)?;
        if outline.issuer != outline.subject {
            return Err(RootFault::NotSelfIssued);
        }
        let certificate = CaCertificate::of(&outline)?;
        if check_extensions(&outline.extensions, certificate.key_id(), form(ROOT_PATH_LEN))?.is_some() {
            return Err(RootFault::Extensions);
        }
        if !certificate.signed(&outline) {
            return Err(RootFault::Signature);
        }
        Ok(Self { id, certificate })
    }

    /// Its id, the common name of its subject.
    pub const fn id(&self) -> RootId {
        self.id
    }

    /// Its certificate.
    pub const fn certificate(&self) -> &CaCertificate {
        &self.certificate
    }

    /// Checks that it issued an authority: name, key, signature, and a validity within its own.
    pub fn check_issued(&self, authority: &Authority) -> Result<(), RootFault> {
        let named = authority.parent().map(|parent| (parent.root, parent.key_id));
        self.check(named, authority.certificate())
    }

    /// Checks that it issued a cross-certificate.
    pub fn check_cross(&self, cross: &CrossCertificate) -> Result<(), RootFault> {
        self.check(Some((cross.issuer, cross.issuer_key_id)), &cross.certificate)
    }

    fn check(&self, named: Option<(RootId, [u8; 20])>, issued: &CaCertificate) -> Result<(), RootFault> {
        let outline = Outline::read(issued.der())?;
        if named != Some((self.id, *self.certificate.key_id())) || outline.issuer != self.certificate.name() {
            return Err(RootFault::OtherRoot);
        }
        if !self.certificate.signed(&outline) {
            return Err(RootFault::NotSigned);
        }
        if issued.key() == self.certificate.key() {
            return Err(RootFault::OwnKey);
        }
        let own = &self.certificate;
        match issued.not_before() >= own.not_before() && issued.not_after() <= own.not_after() {
            true => Ok(()),
            false => Err(RootFault::Outlives),
        }
    }
}

/// A certificate by one root for the name and the key of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrossCertificate {
    root: RootId,
    issuer: RootId,
    issuer_key_id: [u8; 20],
    certificate: CaCertificate,
}

impl CrossCertificate {
    /// Reads it strictly. Whether the other root signed it, `Root::check_cross` tells.
    pub fn from_der(der: &[u8]) -> Result<Self, RootFault> {
        let outline = Outline::read(der)?;
        let root = root_name(outline.subject).ok_or(RootFault::Name)?;
        let issuer = root_name(outline.issuer).filter(|issuer| *issuer != root).ok_or(RootFault::NotCross)?;
        let certificate = CaCertificate::of(&outline)?;
        let issuer_key_id =
            check_extensions(&outline.extensions, certificate.key_id(), form(CROSS_PATH_LEN))?;
        Ok(Self { root, issuer, issuer_key_id: issuer_key_id.ok_or(RootFault::Extensions)?, certificate })
    }

    /// The root whose name and key it certifies.
    pub const fn root(&self) -> RootId {
        self.root
    }

    /// The root that certifies them.
    pub const fn issuer(&self) -> RootId {
        self.issuer
    }

    /// The certificate.
    pub const fn certificate(&self) -> &CaCertificate {
        &self.certificate
    }
}
