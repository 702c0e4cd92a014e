//! From an unverified leaf to a certificate: one signature by one trusted authority. Time is a check of its own.
//!
//! There is no path building: the issuing authorities themselves are the trust anchors, so first sight of a
//! certificate costs one ECDSA verification and a few microseconds.

use super::bundle::TrustBundle;
use super::cert::{Unverified, parse};
use super::fault::CertificateFault;
use super::profile::Profile;
use crate::domain::certificate::Certificate;
use crate::domain::id::Digest;
use crate::domain::time::Timestamp;

impl Unverified<'_> {
    /// Finds the authority by name, kind and key, and verifies its signature. Says nothing about time.
    ///
    /// An ECDSA signature can be turned into a second valid one without the key (its s negated), so one certificate
    /// may appear under two hashes. Revocation and records therefore go by ordinal and serial, and a cache may go by
    /// hash only because both forms state the same facts.
    pub fn verify(self, bundle: &TrustBundle) -> Result<Certificate, CertificateFault> {
        let authority = bundle.find(self.issuer()).ok_or(CertificateFault::ForeignAuthority)?;
        if authority.key_id() != self.issuer_key_id() {
            return Err(CertificateFault::ForeignAuthority);
        }
        // The name carries the kind; the authority's own certificate, not the leaf, says which is true.
        if authority.kind() != self.issuer_kind() || authority.name() != self.issuer_name() {
            return Err(CertificateFault::AuthorityKind);
        }
        if self.not_after() > authority.not_after() || self.not_before() < authority.not_before() {
            return Err(CertificateFault::OutlivesAuthority);
        }
        if !authority.verifies(self.algorithm(), self.tbs(), self.signature()) {
            return Err(CertificateFault::BadSignature);
        }
        Ok(Certificate {
            hash: Digest::of(self.der()),
            issuer: self.issuer(),
            serial: self.serial(),
            ordinal: self.ordinal(),
            not_before: self.not_before(),
            not_after: self.not_after(),
            key: Digest::of(self.spki()),
            facts: self.into_facts(),
        })
    }
}

/// Parses a leaf and verifies its signature: first sight of a certificate. Time is still to be checked.
pub fn read(der: &[u8], profile: &Profile, bundle: &TrustBundle) -> Result<Certificate, CertificateFault> {
    parse(der, profile)?.verify(bundle)
}

/// Is the certificate within its validity (RFC 5280 section 4.1.2.5, both ends inclusive)? Checked on every call.
pub fn check_validity(certificate: &Certificate, now: Timestamp) -> Result<(), CertificateFault> {
    if now < certificate.not_before {
        return Err(CertificateFault::NotYetValid);
    }
    if now > certificate.not_after {
        return Err(CertificateFault::Expired);
    }
    Ok(())
}
