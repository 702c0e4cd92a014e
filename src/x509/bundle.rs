//! The trust bundle: the authorities that are trusted now, as one PEM file.
//!
//! The file holds the authorities' own certificates and nothing that matters beside them, so it can be given as it
//! is to `openssl verify -CAfile`, Envoy, nginx and HAProxy. Id and kind come from each certificate's subject
//! (`OU=ACCESS, CN=aut_...`); the comment lines before the blocks are for people.

use std::fmt::Write as _;

use thiserror::Error;

use super::authority::{Authority, AuthorityFault};
use crate::domain::id::{AuthorityId, Digest};

/// The most authorities in a bundle: two of each kind during a rotation, with room for a careless decade.
pub const AUTHORITIES_MAX: usize = 64;
/// The longest bundle that is read: 64 certificates of 4 KiB in PEM, with comments.
pub const BUNDLE_LEN_MAX: usize = 512 * 1024;

/// Why a file is not a trust bundle.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BundleFault {
    /// Longer than any bundle.
    #[error("the trust bundle is longer than 512 KiB")]
    TooLarge,
    /// Not PEM (RFC 7468).
    #[error("the trust bundle is not valid PEM")]
    NotPem,
    /// A block that is not a certificate: perhaps a key.
    #[error("block {index} of the trust bundle is not a CERTIFICATE")]
    WrongBlock {
        /// Which block, from 0.
        index: usize,
    },
    /// A certificate that is not an authority's.
    #[error("certificate {index} of the trust bundle: {fault}")]
    Authority {
        /// Which certificate, from 0.
        index: usize,
        /// What is wrong with it.
        fault: AuthorityFault,
    },
    /// Two certificates of one authority.
    #[error("authority {0} is in the trust bundle twice")]
    Duplicate(AuthorityId),
    /// No authority.
    #[error("the trust bundle is empty")]
    Empty,
    /// Too many authorities.
    #[error("the trust bundle has more than 64 authorities")]
    TooMany,
}

/// The authorities that are trusted now, in the order of their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustBundle {
    authorities: Vec<Authority>,
}

impl TrustBundle {
    /// A bundle of these authorities.
    pub fn new(mut authorities: Vec<Authority>) -> Result<Self, BundleFault> {
        authorities.sort_by_key(Authority::id);
        if authorities.is_empty() {
            return Err(BundleFault::Empty);
        }
        if authorities.len() > AUTHORITIES_MAX {
            return Err(BundleFault::TooMany);
        }
        for pair in authorities.windows(2) {
            if let [first, second] = pair
                && first.id() == second.id()
            {
                return Err(BundleFault::Duplicate(first.id()));
            }
        }
        Ok(Self { authorities })
    }

    /// Reads a bundle; every certificate in it must be an authority of this service.
    pub fn from_pem(text: &str) -> Result<Self, BundleFault> {
        if text.len() > BUNDLE_LEN_MAX {
            return Err(BundleFault::TooLarge);
        }
        let blocks = pem::parse_many(text).map_err(|_| BundleFault::NotPem)?;
        // The parser skips what it cannot read; a certificate that silently vanished would be a silent distrust.
        if blocks.len() != text.matches("-----BEGIN ").count() {
            return Err(BundleFault::NotPem);
        }
        let mut authorities = Vec::with_capacity(blocks.len().min(AUTHORITIES_MAX));
        for (index, block) in blocks.iter().enumerate() {
            if index == AUTHORITIES_MAX {
                return Err(BundleFault::TooMany);
            }
            if block.tag() != "CERTIFICATE" {
                return Err(BundleFault::WrongBlock { index });
            }
            let authority = Authority::from_der(block.contents())
                .map_err(|fault| BundleFault::Authority { index, fault })?;
            authorities.push(authority);
        }
        Self::new(authorities)
    }

    /// Writes the bundle, the same bytes for the same authorities.
    pub fn to_pem(&self) -> String {
        let mut out = String::new();
        for authority in &self.authorities {
            // Writing to a String cannot fail.
            let _ =
                writeln!(out, "# {} {}, until {}", authority.kind(), authority.id(), authority.not_after());
            out.push_str(&certificate_pem(authority.der()));
        }
        out
    }

    /// The authority with this id.
    pub fn find(&self, id: AuthorityId) -> Option<&Authority> {
        let place = self.authorities.binary_search_by_key(&id, Authority::id).ok()?;
        self.authorities.get(place)
    }

    /// All authorities, in the order of their ids.
    pub fn authorities(&self) -> &[Authority] {
        &self.authorities
    }

    /// SHA-256 over the fingerprints: names this state of trust, for caches.
    pub fn digest(&self) -> Digest {
        let fingerprints: Vec<u8> =
            self.authorities.iter().flat_map(|authority| authority.fingerprint().0).collect();
        Digest::of(&fingerprints)
    }
}

/// One certificate as a PEM block (RFC 7468), with line feeds.
pub fn certificate_pem(der: &[u8]) -> String {
    block("CERTIFICATE", der)
}

/// One revocation list, likewise.
pub fn crl_pem(der: &[u8]) -> String {
    block("X509 CRL", der)
}

fn block(tag: &str, der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(tag, der), config)
}
