//! Writes what a root signs: its own certificate, those of authorities and of other roots, and its revocation lists.
//!
//! As with leaves, each is a draft first: judged before the root's key is touched.

use rcgen::{DistinguishedName, DnType, ExtendedKeyUsagePurpose};

use super::authority::AUTHORITY_PATH_LEN;
use super::crl::{self, CrlContent};
use super::key::PublicKey;
use super::outline::ROOT_UNIT;
use super::root::{CROSS_PATH_LEN, ROOT_PATH_LEN, Root};
use super::template::{
    AuthorityContent, CaContent, Draft, TemplateFault, Worthless, authority_name, ca_params, self_signed,
    writer,
};
use crate::domain::certificate::{AuthorityKind, Serial};
use crate::domain::id::RootId;
use crate::domain::time::Timestamp;

/// What a root's own certificate, or one that another root gives it, says beside its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootContent {
    /// Its id, the common name.
    pub id: RootId,
    /// Serial number.
    pub serial: Serial,
    /// First instant of validity, whole seconds.
    pub not_before: Timestamp,
    /// Last instant of validity, whole seconds.
    pub not_after: Timestamp,
}

/// Writes a root's own certificate.
pub fn root_draft(key: &PublicKey, content: &RootContent) -> Result<Draft, TemplateFault> {
    let form = CaContent { name: root_name(content.id), path_len: ROOT_PATH_LEN, usage: None };
    self_signed(key, &form, content.serial, (content.not_before, content.not_after))
}

/// Writes what one root signs.
pub struct RootTemplate {
    root: Root,
    issuer: rcgen::Issuer<'static, Worthless>,
}

impl RootTemplate {
    /// The template of a root.
    pub fn new(root: Root) -> Self {
        let certificate = root.certificate();
        let issuer = writer(root_name(root.id()), certificate.key(), *certificate.key_id());
        Self { root, issuer }
    }

    /// The root.
    pub const fn root(&self) -> &Root {
        &self.root
    }

    /// Writes the certificate of an authority beneath the root.
    pub fn authority(&self, key: &PublicKey, content: &AuthorityContent) -> Result<Draft, TemplateFault> {
        let (name, usage) = (authority_name(content.kind, content.id), Some(usage_beneath(content.kind)));
        let form = CaContent { name, path_len: AUTHORITY_PATH_LEN, usage };
        self.certify(key, &form, content.serial, (content.not_before, content.not_after))
    }

    /// Writes a certificate for the name and the key of another root.
    pub fn cross(&self, key: &PublicKey, content: &RootContent) -> Result<Draft, TemplateFault> {
        let form = CaContent { name: root_name(content.id), path_len: CROSS_PATH_LEN, usage: None };
        self.certify(key, &form, content.serial, (content.not_before, content.not_after))
    }

    fn certify(
        &self,
        key: &PublicKey,
        form: &CaContent,
        serial: Serial,
        dates: (Timestamp, Timestamp),
    ) -> Result<Draft, TemplateFault> {
        let mut params = ca_params(key, form, serial, dates)?;
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(key, &self.issuer).map_err(|_| TemplateFault::Encoding)?;
        Draft::from_der(certificate.der().to_vec())
    }

    /// Writes a revocation list of what the root certified.
    pub fn list(&self, content: &CrlContent) -> Result<Draft, TemplateFault> {
        let params = crl::params(content, self.root.certificate().key_id())?;
        let list = params.signed_by(&self.issuer).map_err(|_| TemplateFault::Encoding)?;
        Draft::from_der(list.der().to_vec())
    }
}

/// As the reader of authorities wants it.
const fn usage_beneath(kind: AuthorityKind) -> ExtendedKeyUsagePurpose {
    match kind {
        AuthorityKind::Access => ExtendedKeyUsagePurpose::ClientAuth,
        AuthorityKind::System => ExtendedKeyUsagePurpose::ServerAuth,
    }
}

fn root_name(id: RootId) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationalUnitName, ROOT_UNIT);
    name.push(DnType::CommonName, id.to_string());
    name
}
