//! Reading a revocation list that was received: whose it is, until when it may be used, and which serials it names.

use thiserror::Error;
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use super::bundle::TrustBundle;
use super::crl::halves;
use crate::domain::certificate::Serial;
use crate::domain::id::AuthorityId;
use crate::domain::time::Timestamp;

/// Why bytes are not a list of one of the authorities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CrlFault {
    /// Not a list (RFC 5280 section 5.1), or one without a nextUpdate.
    #[error("it is not a revocation list")]
    Encoding,
    /// Its issuer is none of the authorities.
    #[error("it is of an authority that is not in the bundle")]
    ForeignAuthority,
    /// Its signature does not verify.
    #[error("its signature does not verify")]
    BadSignature,
    /// A serial that this service does not give.
    #[error("it names a serial that is not of this service")]
    Serial,
}

/// What a list says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadCrl {
    /// Whose.
    pub issuer: AuthorityId,
    /// Until when it may be used.
    pub next_update: Timestamp,
    /// Which certificates it names, in its order.
    pub serials: Vec<Serial>,
}

/// Reads a list (DER) and verifies its signature. Says nothing about time.
///
/// # Errors
/// Why it is not a list of one of these authorities.
pub fn read(der: &[u8], bundle: &TrustBundle) -> Result<ReadCrl, CrlFault> {
    let (rest, list) = CertificateRevocationList::from_der(der).map_err(|_| CrlFault::Encoding)?;
    let (tbs, signature) = halves(der).filter(|_| rest.is_empty()).ok_or(CrlFault::Encoding)?;
    let next_update = list.next_update().ok_or(CrlFault::Encoding)?;
    let issuer = bundle.authorities().iter().find(|authority| authority.name() == list.issuer().as_raw());
    let issuer = issuer.ok_or(CrlFault::ForeignAuthority)?;
    if !issuer.verifies(issuer.key().curve(), tbs, signature) {
        return Err(CrlFault::BadSignature);
    }
    let serials = list.iter_revoked_certificates().map(|entry| Serial::from_bytes(entry.raw_serial()));
    Ok(ReadCrl {
        issuer: issuer.id(),
        next_update: Timestamp::from_millis(next_update.timestamp().saturating_mul(1_000)),
        serials: serials.collect::<Option<_>>().ok_or(CrlFault::Serial)?,
    })
}
