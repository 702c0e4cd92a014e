//! What a certificate states: facts as of its issuance (design section 2). Current state decides; these are compared.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};

use super::entity::EntityClass;
use super::id::{
    AuthorityId, DeterminationId, Digest, EntityId, InvalidId, LineageId, ModelId, Ordinal, PrincipalId,
    SubjectId,
};
use super::person::{Assurance, PersonStatus, Relation, SubjectKind};
use super::time::{Day, Timestamp};
use super::word::words;

/// The version of leaf v1, attribute .1.1.
pub const FORMAT_VERSION: u8 = 1;
/// How long an access certificate lives unless the configuration says otherwise: 24 hours.
pub const TTL_DEFAULT_S: u32 = 86_400;
/// The longest life an access certificate may have, whatever the configuration says: 7 days, the CA/B Forum's
/// limit for short-lived certificates.
pub const TTL_MAX_S: u32 = 7 * 86_400;
/// How far `notBefore` lies before issuance, for relying parties with a slow clock.
pub const BACKDATE_S: u32 = 60;
/// How many certificates one CRL shard and one reserved block hold.
pub const BLOCK_LEN: u64 = 10_000;

words! {
    /// Which of the two authorities issues a certificate.
    AuthorityKind {
        /// Certificates of people and workloads: the ones that gateways judge.
        Access = 0, "ACCESS";
        /// Certificates of officers, gateways, portals and the server itself. No model-access scope reaches it.
        System = 1, "SYSTEM";
    }
}

words! {
    /// What a principal of the `system` authority is, as written in its SPIFFE path.
    PrincipalKind {
        /// A person who acts for the operator.
        Officer = 0, "officer";
        /// A gateway in front of a model.
        Gateway = 1, "gateway";
        /// A portal or administrator of one partner.
        Partner = 2, "partner";
        /// The service itself.
        Server = 3, "server";
    }
}

/// A serial number (RFC 5280 section 4.1.2.2): 16 bytes, the first 0x40 to 0x7F, so that DER never shortens it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial([u8; 16]);

impl Serial {
    /// Makes a serial from 16 random bytes; 122 bits of them remain random.
    pub fn from_random(mut bytes: [u8; 16]) -> Self {
        let [first, ..] = &mut bytes;
        *first = (*first & 0x3f) | 0x40;
        Self(bytes)
    }

    /// The serial with exactly these bytes, if they have the form that this service issues.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; 16] = bytes.try_into().ok()?;
        let [first, ..] = bytes;
        (0x40..=0x7f).contains(&first).then_some(Self(bytes))
    }

    /// The bytes of the serial, big-endian.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Serial {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = InvalidId { kind: "serial", why: "32 hexadecimal digits are needed, the first 4 to 7" };
        let bytes = hex::decode(text).map_err(|_| invalid.clone())?;
        Self::from_bytes(&bytes).ok_or(invalid)
    }
}

impl<C> Encode<C> for Serial {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Serial {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Self::from_bytes(d.bytes()?)
            .ok_or_else(|| minicbor::decode::Error::message("not a serial of this service"))
    }
}

/// What an access certificate states about the entity: attributes .1.2 to .1.5.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct EntityFacts {
    /// Attribute .1.2.
    #[n(0)]
    pub entity: EntityId,
    /// Attribute .1.3.
    #[n(1)]
    pub class: EntityClass,
    /// Attribute .1.4, present exactly with ANNEX_A.
    #[n(2)]
    pub annex_revision: Option<u32>,
    /// Attribute .1.5, present with ANNEX_A, and with PROVIDER when a determination names its staff.
    #[n(3)]
    pub determination: Option<DeterminationId>,
}

/// What an access certificate states about a person: attributes .1.7 to .1.10, present exactly with HUMAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct PersonFacts {
    /// Attribute .1.7.
    #[n(0)]
    pub status: PersonStatus,
    /// Attribute .1.8: the day the status was verified.
    #[n(1)]
    pub verified_on: Day,
    /// Attribute .1.9.
    #[n(2)]
    pub relation: Relation,
    /// Attribute .1.10.
    #[n(3)]
    pub assurance: Assurance,
}

/// A chain of renewals and the place of one certificate in it: attribute .1.13, `lin_.../7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct LineageStep {
    /// The chain.
    #[n(0)]
    pub lineage: LineageId,
    /// The place in it; enrollment makes 1, each renewal adds 1.
    #[n(1)]
    pub generation: u32,
}

/// Everything that leaf v1 of the access authority states, beside the public key.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AccessFacts {
    /// The subject of the certificate: CN and last segment of the SPIFFE ID.
    #[n(0)]
    pub subject: SubjectId,
    /// Attributes .1.2 to .1.5.
    #[n(1)]
    pub entity: EntityFacts,
    /// Attributes .1.7 to .1.10; absent means attribute .1.6 is WORKLOAD.
    #[n(2)]
    pub person: Option<PersonFacts>,
    /// Attribute .1.11: an upper bound of the models that the subject may use, sorted, without repeats.
    #[n(3)]
    pub models: Vec<ModelId>,
    /// Attribute .1.13.
    #[n(4)]
    pub step: LineageStep,
}

impl AccessFacts {
    /// Attribute .1.6.
    pub const fn kind(&self) -> SubjectKind {
        if self.person.is_some() { SubjectKind::Human } else { SubjectKind::Workload }
    }
}

/// What a certificate of the system authority states, beside the public key.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SystemFacts {
    /// What the principal is.
    #[n(0)]
    pub kind: PrincipalKind,
    /// Which principal it is: CN and last segment of the SPIFFE ID.
    #[n(1)]
    pub principal: PrincipalId,
}

words! {
    /// Which of the two canaries of a gateway.
    CanarySide {
        /// The one.
        A = 0, "a";
        /// The other.
        B = 1, "b";
    }
}

/// What a canary states: whose it is. A gateway has two, shows them to its proxy and sees by the answers which
/// revocation list the proxy works with. It names no entity, so nothing can be permitted to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct CanaryFacts {
    /// The gateway: CN and, with the side, the end of the SPIFFE ID.
    #[n(0)]
    pub gateway: PrincipalId,
    /// Which of its two.
    #[n(1)]
    pub side: CanarySide,
}

/// What a certificate states, by the authority that issued it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Facts {
    /// Leaf v1 of the access authority.
    #[n(0)]
    Access(#[n(0)] AccessFacts),
    /// A leaf of the system authority.
    #[n(1)]
    System(#[n(0)] SystemFacts),
    /// A canary: a leaf of the access authority that every gateway refuses.
    #[n(2)]
    Canary(#[n(0)] CanaryFacts),
}

/// A certificate that was parsed strictly and whose signature was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// SHA-256 of the DER.
    pub hash: Digest,
    /// The authority whose key verified the signature.
    pub issuer: AuthorityId,
    /// Serial number.
    pub serial: Serial,
    /// Attribute .1.12.
    pub ordinal: Ordinal,
    /// First instant of validity (RFC 5280 `notBefore`).
    pub not_before: Timestamp,
    /// Last instant of validity (RFC 5280 `notAfter`, inclusive).
    pub not_after: Timestamp,
    /// SHA-256 of the SubjectPublicKeyInfo.
    pub key: Digest,
    /// What it states.
    pub facts: Facts,
}
