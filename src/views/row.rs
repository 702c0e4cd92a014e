//! One row of the index: what a list of certificates shows. What a certificate states in full is in the journal.

use minicbor::{Decode, Encode};

use crate::domain::certificate::{AuthorityKind, Facts, LineageStep, Serial};
use crate::domain::event::Intent;
use crate::domain::id::{
    AuthorityId, DeterminationId, Digest, EntityId, Ordinal, PrincipalId, Seq, SubjectId,
};
use crate::domain::time::Timestamp;

/// A certificate that was intended, and perhaps issued.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CertificateRow {
    /// Which authority signs it.
    #[n(0)]
    pub authority: AuthorityKind,
    /// Its number in the sequence of that authority.
    #[n(1)]
    pub ordinal: Ordinal,
    /// Its serial.
    #[n(2)]
    pub serial: Serial,
    /// SHA-256 of the certificate (DER); none until it is issued.
    #[n(3)]
    pub hash: Option<Digest>,
    /// SHA-256 of the SubjectPublicKeyInfo.
    #[n(4)]
    pub key: Digest,
    /// Whose it is; access certificates of people and workloads only.
    #[n(5)]
    pub entity: Option<EntityId>,
    /// Who it names; access certificates only.
    #[n(6)]
    pub subject: Option<SubjectId>,
    /// Who it names; system certificates, and the gateway of a canary.
    #[n(7)]
    pub principal: Option<PrincipalId>,
    /// Its place in a chain of renewals; access certificates only.
    #[n(8)]
    pub step: Option<LineageStep>,
    /// Its `notBefore`.
    #[n(9)]
    pub not_before: Timestamp,
    /// Its `notAfter`.
    #[n(10)]
    pub not_after: Timestamp,
    /// The record of its intent.
    #[n(11)]
    pub intended: Seq,
    /// The record of its issuance; none: it was never signed, or not yet.
    #[n(12)]
    pub issued: Option<Seq>,
    /// The determination that it states.
    #[n(13)]
    pub determination: Option<DeterminationId>,
    /// The revision of its annex that it states.
    #[n(14)]
    pub annex_revision: Option<u32>,
    /// Which authority of that kind; none: the one of genesis, from when there was no other.
    #[n(15)]
    pub issuer: Option<AuthorityId>,
}

impl CertificateRow {
    pub(super) fn intended(seq: Seq, intent: &Intent) -> Self {
        let (access, principal) = match &intent.facts {
            Facts::Access(facts) => (Some(facts), None),
            Facts::System(facts) => (None, Some(facts.principal.clone())),
            Facts::Canary(facts) => (None, Some(facts.gateway.clone())),
        };
        Self {
            authority: intent.authority,
            ordinal: intent.ordinal,
            serial: intent.serial,
            hash: None,
            key: intent.key,
            entity: access.map(|facts| facts.entity.entity),
            subject: access.map(|facts| facts.subject),
            principal,
            step: access.map(|facts| facts.step),
            not_before: intent.not_before,
            not_after: intent.not_after,
            intended: seq,
            issued: None,
            determination: access.and_then(|facts| facts.entity.determination.clone()),
            annex_revision: access.and_then(|facts| facts.entity.annex_revision),
            issuer: intent.issuer,
        }
    }
}
