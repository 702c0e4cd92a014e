//! Certification authorities as the record holds them: the certificate, never the key.

use minicbor::{Decode, Encode};

use super::certificate::AuthorityKind;
use super::id::AuthorityId;
use super::time::Timestamp;
use super::word::words;

words! {
    /// Where an authority stands.
    AuthorityState {
        /// It issues and is trusted.
        Active = 0, "ACTIVE";
        /// It is trusted by nobody.
        Revoked = 1, "REVOKED";
    }
}

/// An authority.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Authority {
    /// Its name.
    #[n(0)]
    pub id: AuthorityId,
    /// Access or system.
    #[n(1)]
    pub kind: AuthorityKind,
    /// Its certificate (DER).
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub certificate: Vec<u8>,
    /// Its `notAfter`; no leaf outlives it.
    #[n(3)]
    pub not_after: Timestamp,
    /// Where it stands.
    #[n(4)]
    pub state: AuthorityState,
}
