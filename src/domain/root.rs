//! Roots as the record holds them: certificates and revocation lists that were signed at ceremonies on other machines.
//!
//! Nothing here reads a certificate: who records one has read it, and verified its signature, before. Gateways of ours need
//! none of it, for to them the issuing authorities are the anchors; proxies and partners get it with the trust bundle.

use minicbor::{Decode, Encode};
use thiserror::Error;

use super::certificate::Serial;
use super::id::{AuthorityId, RootId};
use super::time::Timestamp;

/// The most roots that are trusted at once: an old one, a new one, and room for a careless decade.
pub const ROOTS_MAX: usize = 8;
/// The most cross-certificates: of each root by each other one that is likely, and of some authorities.
pub const CROSS_CERTIFICATES_MAX: usize = 16;
/// The most certificates on a root's list: far more than a root ever certifies.
pub const REVOKED_MAX: usize = 256;

/// A root that is trusted.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Root {
    /// Its name.
    #[n(0)]
    pub id: RootId,
    /// Its certificate (DER).
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub certificate: Vec<u8>,
    /// Its `notAfter`.
    #[n(2)]
    pub not_after: Timestamp,
    /// Its newest revocation list.
    #[n(3)]
    pub list: RootList,
}

/// A revocation list of a root.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RootList {
    /// The list (DER).
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub list: Vec<u8>,
    /// Its number, which rises from ceremony to ceremony.
    #[n(1)]
    pub number: u64,
    /// From when it holds.
    #[n(2)]
    pub this_update: Timestamp,
    /// Until when it may be used.
    #[n(3)]
    pub next_update: Timestamp,
    /// What it revokes, in its order.
    #[n(4)]
    pub revoked: Vec<Serial>,
}

impl RootList {
    /// Does it revoke this certificate?
    pub fn revokes(&self, serial: Serial) -> bool {
        self.revoked.contains(&serial)
    }

    /// Does it follow a list that revoked this? Only narrower: with a higher number, and nothing forgotten.
    ///
    /// # Errors
    /// What it does instead.
    pub fn check_follows(&self, number: u64, revoked: &[Serial]) -> Result<(), ListFault> {
        if self.number <= number {
            return Err(ListFault::Number);
        }
        self.check_keeps(revoked)
    }

    /// Does it revoke all of this?
    ///
    /// # Errors
    /// It forgets some.
    pub fn check_keeps(&self, revoked: &[Serial]) -> Result<(), ListFault> {
        match revoked.iter().all(|serial| self.revokes(*serial)) {
            true => Ok(()),
            false => Err(ListFault::Forgets),
        }
    }
}

/// Why a list does not follow another one of its root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ListFault {
    /// Its number is not high enough.
    #[error("its number is not higher than that of the list on record")]
    Number,
    /// It revokes less.
    #[error("it forgets a revocation that is on record; a root takes none back")]
    Forgets,
}

/// Where in the hierarchy an authority stands that is not self-signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Beneath {
    /// The root that certified it.
    #[n(0)]
    pub root: RootId,
    /// The serial of its certificate, by which the root's list names it.
    #[n(1)]
    pub serial: Serial,
}

/// Whom a cross-certificate certifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum CrossSubject {
    /// A root.
    #[n(0)]
    Root(#[n(0)] RootId),
    /// An authority, which has another certificate beside it.
    #[n(1)]
    Authority(#[n(0)] AuthorityId),
}

/// A certificate by another root than its subject's own, for those who trust only that one.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CrossCertificate {
    /// The certificate (DER).
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub certificate: Vec<u8>,
    /// Whom it certifies.
    #[n(1)]
    pub subject: CrossSubject,
    /// The root that signed it, and its serial.
    #[n(2)]
    pub by: Beneath,
    /// Its `notAfter`.
    #[n(3)]
    pub not_after: Timestamp,
}
