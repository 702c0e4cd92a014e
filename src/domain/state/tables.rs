//! Rows of State that no other module has words for.

use minicbor::{Decode, Encode};

use crate::domain::algorithm::AlgorithmProfile;
use crate::domain::certificate::Serial;
use crate::domain::event::Genesis;
use crate::domain::id::{AuthorityId, Digest, LineageId, Ordinal, PrincipalId, Seq, SubjectId, TokenId};
use crate::domain::time::Timestamp;

/// What genesis settled for good.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Settings {
    /// The SPIFFE trust domain.
    #[n(0)]
    pub trust_domain: String,
    /// The private enterprise arc of our attributes, dotted.
    #[n(1)]
    pub arc: String,
    /// Ed25519 public key that signs heads.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub log_key: Vec<u8>,
    /// How long access certificates live, in seconds.
    #[n(3)]
    pub ttl_s: u32,
    /// Which algorithms are used; none: standard.
    #[n(4)]
    pub algorithms: Option<AlgorithmProfile>,
}

impl Settings {
    /// Which algorithms are used.
    pub fn algorithms(&self) -> AlgorithmProfile {
        self.algorithms.unwrap_or(AlgorithmProfile::Standard)
    }
}

impl From<&Genesis> for Settings {
    fn from(genesis: &Genesis) -> Self {
        Self {
            trust_domain: genesis.trust_domain.clone(),
            arc: genesis.arc.clone(),
            log_key: genesis.log_key.clone(),
            ttl_s: genesis.ttl_s,
            algorithms: genesis.algorithms,
        }
    }
}

/// Who a public key belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum KeyHolder {
    /// The last certificate of a lineage carries it.
    #[n(0)]
    Lineage(#[n(0)] LineageId),
    /// It is registered for a principal, who may have been removed since.
    #[n(1)]
    Principal(#[n(0)] PrincipalId),
    /// A canary of this gateway carries it.
    #[n(2)]
    Canary(#[n(0)] PrincipalId),
}

/// A one-time enrollment token.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Token {
    /// Its public half.
    #[n(0)]
    pub id: TokenId,
    /// SHA-256 of its secret half.
    #[n(1)]
    pub secret: Digest,
    /// For whom.
    #[n(2)]
    pub subject: SubjectId,
    /// Until when.
    #[n(3)]
    pub expires_at: Timestamp,
    /// The key that redeemed it and the lineage that began; nobody else's key can any more.
    #[n(4)]
    pub redeemed: Option<(Digest, LineageId)>,
}

/// A certificate as its records show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Issued {
    /// Its place in the lineage.
    #[n(0)]
    pub generation: u32,
    /// Its number.
    #[n(1)]
    pub ordinal: Ordinal,
    /// SHA-256 of its SubjectPublicKeyInfo.
    #[n(2)]
    pub key: Digest,
    /// SHA-256 of it.
    #[n(3)]
    pub hash: Digest,
    /// The record with its TBS.
    #[n(4)]
    pub intended: Seq,
    /// The record with its signature.
    #[n(5)]
    pub issued: Seq,
    /// Its `notAfter`.
    #[n(6)]
    pub not_after: Timestamp,
    /// The authority that signed it.
    #[n(7)]
    pub issuer: AuthorityId,
}

/// The last canary of one side of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Canary {
    /// Its serial, for the lists that name it.
    #[n(0)]
    pub serial: Serial,
    /// The certificate.
    #[n(1)]
    pub issued: Issued,
}

/// A chain of renewals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Lineage {
    /// Whose.
    #[n(0)]
    pub subject: SubjectId,
    /// Its last certificate.
    #[n(1)]
    pub last: Issued,
}
