//! What is shown with a leaf: the certificate of its authority, when a root signed that, and cross-certificates for those who
//! trust an older root. Never a root: who trusts one has it.
//!
//! Verifiers of ours need none of it, for to them the authority is the anchor. Whoever is given such a chain looks at it
//! before it is kept: one certificate that does not belong there could make every handshake fail.

use thiserror::Error;

use super::authority::Authority;
use super::bundle::certificate_pem;
use super::outline::Outline;
use super::root::CrossCertificate;
use crate::domain::root::CROSS_CERTIFICATES_MAX;

/// The most certificates above a leaf: its authority, and every cross-certificate that there may be.
pub const ABOVE_MAX: usize = 1 + CROSS_CERTIFICATES_MAX;

/// Why certificates are not what is shown with a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AboveFault {
    /// More than there can be.
    #[error("more than 17 certificates are above the leaf")]
    TooMany,
    /// The leaf cannot be read.
    #[error("the leaf is not a certificate")]
    Leaf,
    /// Neither an authority nor a cross-certificate.
    #[error("a certificate above the leaf is neither of an authority beneath a root nor a cross-certificate")]
    Other,
    /// An authority that did not issue the leaf.
    #[error("an authority above the leaf is not the one that issued it")]
    OtherIssuer,
}

/// The chain as a PEM file, leaf first.
///
/// # Errors
/// What is above does not belong to this leaf.
pub fn chain_pem<T: AsRef<[u8]>>(leaf: &[u8], above: &[T]) -> Result<String, AboveFault> {
    if above.len() > ABOVE_MAX {
        return Err(AboveFault::TooMany);
    }
    let issuer = Outline::read(leaf).map_err(|_| AboveFault::Leaf)?.issuer;
    let mut pem = certificate_pem(leaf);
    for der in above.iter().map(AsRef::as_ref) {
        match Authority::from_der(der) {
            Ok(authority) if authority.parent().is_none() => return Err(AboveFault::Other),
            Ok(authority) if authority.name() != issuer => return Err(AboveFault::OtherIssuer),
            Ok(_) => {}
            Err(_) => drop(CrossCertificate::from_der(der).map_err(|_| AboveFault::Other)?),
        }
        pem.push_str(&certificate_pem(der));
    }
    Ok(pem)
}
