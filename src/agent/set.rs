//! A trust set: the authorities that a proxy shall trust and their revocation lists, as the service sends them.

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::core::v3::DataSource;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret;

use crate::domain::certificate::{AuthorityKind, Serial};
use crate::domain::id::AuthorityId;
use crate::domain::time::Timestamp;
use crate::x509::{Authority, TrustBundle, crl_read};

/// The longest set: some lists of ten thousand entries.
const LISTS_LEN_MAX: usize = 8 << 20;

/// A set that was checked: every list in it is of an authority in it, and every authority has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TrustSet {
    /// The authorities, PEM.
    pub(super) authorities_pem: String,
    /// Their lists, PEM.
    pub(super) lists_pem: String,
    /// Whose certificates the set lets in.
    pub(super) issuers: BTreeSet<AuthorityId>,
    /// Every certificate that one of the lists names.
    pub(super) listed: BTreeSet<Serial>,
    /// Until when all of the lists may be used.
    pub(super) until: Timestamp,
}

impl TrustSet {
    /// Checks what was sent before a proxy gets it: one bad list would shut out everybody.
    pub(super) fn read(secret: &Secret) -> Result<Self, String> {
        let Some(secret::Type::ValidationContext(context)) = &secret.r#type else {
            return Err("the secret has no validation context".to_owned());
        };
        let authorities_pem = text(context.trusted_ca.as_ref()).ok_or("the secret has no authorities")?;
        let lists_pem = text(context.crl.as_ref()).ok_or("the secret has no revocation lists")?;
        Self::new(authorities_pem, lists_pem)
    }

    fn new(authorities_pem: String, lists_pem: String) -> Result<Self, String> {
        let bundle = TrustBundle::from_pem(&authorities_pem).map_err(|fault| fault.to_string())?;
        if bundle.authorities().iter().any(|authority| authority.kind() != AuthorityKind::Access) {
            return Err("an authority is not one of people and workloads".to_owned());
        }
        let lists = crl_read::read_all(&lists_pem, &bundle).map_err(|fault| fault.to_string())?;
        // Each has a list of its own: a proxy refuses everybody whose issuer has none.
        let issuers = bundle.authorities().iter().map(Authority::id).collect();
        let (listed, until) = (lists.serials, lists.until);
        Ok(Self { authorities_pem, lists_pem, issuers, listed, until })
    }
}

fn text(source: Option<&DataSource>) -> Option<String> {
    let bytes = match source?.specifier.as_ref()? {
        Specifier::InlineBytes(bytes) => bytes.as_slice(),
        Specifier::InlineString(text) => text.as_bytes(),
        Specifier::Filename(_) | Specifier::EnvironmentVariable(_) => return None,
    };
    let text = std::str::from_utf8(bytes).ok()?;
    (text.len() <= LISTS_LEN_MAX).then(|| text.to_owned())
}
