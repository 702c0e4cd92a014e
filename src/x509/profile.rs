//! What an operator chooses once: trust domain, arc and the base of the CRL addresses. Verifier and issuer share it.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::extension::Arc;
use crate::domain::algorithm::AlgorithmProfile;
use crate::domain::certificate::{AccessFacts, BLOCK_LEN, CanaryFacts, Facts, SystemFacts};
use crate::domain::id::{AuthorityId, Ordinal};
use crate::domain::person::SubjectKind;

/// The longest trust domain: a host name's limit, and the SPIFFE limit of 255 bytes.
const TRUST_DOMAIN_LEN_MAX: usize = 255;
/// The longest CRL base: with authority and shard it stays far below the 4 KiB of a certificate.
const CRL_BASE_LEN_MAX: usize = 200;

/// A text that is not a trust domain or a CRL base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a valid {what}: {why}")]
pub struct InvalidProfile {
    /// What was expected.
    pub what: &'static str,
    /// What is wrong.
    pub why: &'static str,
}

/// A SPIFFE trust domain (SPIFFE-ID section 2.1): lower-case letters, digits, `.`, `-` and `_`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for TrustDomain {
    type Err = InvalidProfile;
    fn from_str(text: &str) -> Result<Self, InvalidProfile> {
        let invalid = |why| InvalidProfile { what: "trust domain", why };
        if text.is_empty() || text.len() > TRUST_DOMAIN_LEN_MAX {
            return Err(invalid("1 to 255 characters are needed"));
        }
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        if !text.bytes().all(allowed) {
            return Err(invalid("only lower-case letters, digits, '.', '-' and '_' are allowed"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// Where relying parties fetch CRLs: an http or https address without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CrlBase(String);

impl CrlBase {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CrlBase {
    type Err = InvalidProfile;
    fn from_str(text: &str) -> Result<Self, InvalidProfile> {
        let invalid = |why| InvalidProfile { what: "CRL base", why };
        let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        if text.len() > CRL_BASE_LEN_MAX {
            return Err(invalid("it is longer than 200 characters"));
        }
        match host {
            None | Some("") => return Err(invalid("it must begin with http:// or https:// and a host")),
            Some(host) if host.starts_with('/') || host.ends_with('/') => {
                return Err(invalid("it has an empty host or ends with a slash"));
            }
            Some(_) => {}
        }
        if !text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'<' | b'>' | b'\\')) {
            return Err(invalid("only printable ASCII is allowed"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// What verifier and issuer agree on before the first certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    trust_domain: TrustDomain,
    arc: Arc,
    crl_base: Option<CrlBase>,
    attribute_prefix: Vec<u8>,
    algorithms: AlgorithmProfile,
}

impl Profile {
    /// A profile. Without a CRL base certificates can be read but none made; a reader then accepts any base.
    pub fn new(trust_domain: TrustDomain, arc: Arc, crl_base: Option<CrlBase>) -> Self {
        let attribute_prefix = arc.encode_prefix();
        Self { trust_domain, arc, crl_base, attribute_prefix, algorithms: AlgorithmProfile::Standard }
    }

    /// The same under this profile of algorithms; without it: standard.
    #[must_use]
    pub const fn with_algorithms(mut self, algorithms: AlgorithmProfile) -> Self {
        self.algorithms = algorithms;
        self
    }

    /// Which algorithms are used.
    pub const fn algorithms(&self) -> AlgorithmProfile {
        self.algorithms
    }

    /// The trust domain.
    pub const fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The arc of the attributes.
    pub const fn arc(&self) -> &Arc {
        &self.arc
    }

    /// The base of the CRL addresses.
    pub const fn crl_base(&self) -> Option<&CrlBase> {
        self.crl_base.as_ref()
    }

    /// The SPIFFE ID of what a certificate names (design section 2).
    pub fn spiffe_id(&self, facts: &Facts) -> String {
        let path = match facts {
            Facts::Access(facts) => access_path(facts),
            Facts::System(facts) => system_path(facts),
            Facts::Canary(facts) => canary_path(facts),
        };
        format!("spiffe://{}/{path}", self.trust_domain)
    }

    /// The address of the CRL shard that covers an ordinal; `None` without a CRL base.
    pub fn crl_address(&self, authority: &AuthorityId, ordinal: Ordinal) -> Option<String> {
        let base = self.crl_base.as_ref()?;
        Some(format!("{}{}", base.as_str(), crl_path(authority, ordinal)))
    }

    /// The number of an attribute whose encoded OID this is: `<arc>.1.<number>`, one byte after the prefix.
    pub(super) fn attribute_number(&self, encoded: &[u8]) -> Option<u8> {
        match encoded.strip_prefix(self.attribute_prefix.as_slice())? {
            [number @ 0..=0x7f] => Some(*number),
            _ => None,
        }
    }
}

/// The path of an access subject, without a leading slash.
pub(super) fn access_path(facts: &AccessFacts) -> String {
    let kind = match facts.kind() {
        SubjectKind::Human => "person",
        SubjectKind::Workload => "workload",
    };
    format!("entity/{}/{kind}/{}", facts.entity.entity, facts.subject)
}

/// The path of a system principal, without a leading slash.
pub(super) fn system_path(facts: &SystemFacts) -> String {
    format!("role/{}/{}", facts.kind, facts.principal)
}

/// The path of a canary, without a leading slash.
pub(super) fn canary_path(facts: &CanaryFacts) -> String {
    format!("canary/{}/{}", facts.gateway, facts.side)
}

/// What follows the base in a CRL address: one shard is one block of ordinals.
pub(super) fn crl_path(authority: &AuthorityId, ordinal: Ordinal) -> String {
    format!("/{authority}/{}.crl", ordinal.0 / BLOCK_LEN)
}

/// Authority and shard of what follows the base in a CRL address; none: it is not as a certificate spells it.
pub fn read_crl_path(path: &str) -> Option<(AuthorityId, u64)> {
    let (authority, shard) = path.strip_prefix('/')?.strip_suffix(".crl")?.split_once('/')?;
    let number: u64 = shard.parse().ok()?;
    let id: AuthorityId = authority.parse().ok()?;
    (number.to_string() == shard && id.to_string() == authority).then_some((id, number))
}
