//! Certification authorities as the record holds them: the certificate, never the key.
//!
//! A list, not two places for an old and a new one: each has a state of its own, and commands name one by its id. Of each
//! kind at most one is ACTIVE.

use minicbor::{Decode, Encode};

use super::certificate::AuthorityKind;
use super::id::{AuthorityId, Seq};
use super::root::Beneath;
use super::time::Timestamp;
use super::word::words;

/// The most authorities that gateways know at once, of both kinds and with the revoked ones: a trust bundle holds 64.
pub const AUTHORITIES_MAX: usize = 32;

words! {
    /// Where an authority stands, and what somebody gets who enrolls or renews meanwhile.
    AuthorityState {
        /// It issues and is trusted. Who enrolls or renews gets a certificate of it.
        Active = 0, "ACTIVE";
        /// It is trusted by nobody, and everything that it issued is revoked. Who has a certificate of it cannot renew and
        /// enrolls again; while there is no other ACTIVE one of its kind, nobody gets a certificate.
        Revoked = 1, "REVOKED";
        /// It is trusted and issues nothing yet. Who enrolls or renews gets a certificate of the ACTIVE one.
        Prepared = 2, "PREPARED";
        /// It is trusted and issues nothing any more. Its certificates are good until they end; who renews one gets a
        /// certificate of the ACTIVE one, its successor.
        Retiring = 3, "RETIRING";
        /// It is trusted by nobody, and nothing that it issued was valid any more when it was retired.
        Retired = 4, "RETIRED";
        /// It is known to be bad, trusted until everything that it issued is issued anew, and issues nothing. Who has a
        /// certificate of it should renew now, and gets one of the ACTIVE one; while there is none, nobody gets any.
        Tainted = 5, "TAINTED";
    }
}

impl AuthorityState {
    /// Are its certificates good, if nothing else is against them?
    pub const fn is_trusted(self) -> bool {
        match self {
            Self::Prepared | Self::Active | Self::Retiring | Self::Tainted => true,
            Self::Retired | Self::Revoked => false,
        }
    }

    /// Should who has a certificate of it ask for another before it is time?
    pub const fn is_to_be_replaced(self) -> bool {
        match self {
            Self::Retiring | Self::Tainted => true,
            Self::Prepared | Self::Active | Self::Retired | Self::Revoked => false,
        }
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
    /// The record since which gateways trust it; none: genesis.
    #[n(5)]
    pub prepared: Option<Seq>,
    /// The one that was ACTIVE before it, to which a rollback goes back.
    #[n(6)]
    pub predecessor: Option<AuthorityId>,
    /// The last `notAfter` of a certificate that it was to sign: after that, nothing of it is valid. None: it issued
    /// nothing.
    #[n(7)]
    pub issued_until: Option<Timestamp>,
    /// The root that certified it; none: it is self-signed.
    #[n(8)]
    pub beneath: Option<Beneath>,
}

impl Authority {
    /// One of genesis: nobody has to learn of it before it issues.
    pub fn first(new: NewAuthority) -> Self {
        let NewAuthority { id, kind, certificate, not_after, beneath } = new;
        let state = AuthorityState::Active;
        Self {
            id,
            kind,
            certificate,
            not_after,
            state,
            prepared: None,
            predecessor: None,
            issued_until: None,
            beneath,
        }
    }

    /// What gateways know of it.
    pub fn card(&self) -> AuthorityCard {
        let Self { id, kind, state, certificate, .. } = self;
        AuthorityCard { id: *id, kind: *kind, state: *state, certificate: certificate.clone() }
    }
}

/// An authority that is to be trusted, before it issues anything.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct NewAuthority {
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
    /// Its `notAfter`.
    #[n(3)]
    pub not_after: Timestamp,
    /// The root that certified it; none: it is self-signed.
    #[n(4)]
    pub beneath: Option<Beneath>,
}

/// What gateways know of an authority. One that is retired they know no more; one that is revoked they do, so that they
/// can say so of its certificates.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AuthorityCard {
    /// Its name.
    #[n(0)]
    pub id: AuthorityId,
    /// Access or system.
    #[n(1)]
    pub kind: AuthorityKind,
    /// Where it stands.
    #[n(2)]
    pub state: AuthorityState,
    /// Its certificate (DER).
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    pub certificate: Vec<u8>,
}
