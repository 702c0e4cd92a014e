//! Recovery keys: for when too few officers are left who have their keys. They are kept offline, named in genesis, and can do
//! one thing: register an officer, announced to everybody and effective a day later, if no officer rejects it.

use minicbor::{Decode, Encode};
use thiserror::Error;

use super::approval::{MANDATE_LEN_MAX, Mandate, verify};
use super::certificate::PrincipalKind;
use super::codec::from_bytes;
use super::command::{Command, NewPrincipal};
use super::id::{Digest, ProposalId, Seq};
use super::time::Timestamp;

/// What a signature of a recovery begins with, so that it is good for nothing else.
pub const RECOVERY_PREFIX: &[u8] = b"countersign recovery v1\0";
/// How long officers have to reject one: 24 hours, so that each of them has been at a desk.
pub const RECOVERY_DELAY_MS: i64 = 86_400_000;
/// The most recovery keys: the safes of a large company.
pub const RECOVERY_KEYS_MAX: usize = 16;
/// The most recoveries that wait at once: a whole new staff.
pub const RECOVERIES_MAX: usize = 8;

/// A recovery key.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RecoveryKey(
    /// SubjectPublicKeyInfo (DER).
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub Vec<u8>,
);

/// The recovery keys of a trust domain.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RecoveryKeys {
    /// How many of them must sign: at least two.
    #[n(0)]
    pub threshold: u32,
    /// The keys, of different people.
    #[n(1)]
    pub keys: Vec<RecoveryKey>,
}

impl RecoveryKeys {
    /// Different keys, none an officer's, and more than one of them needed: nobody widens access alone.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self, officers: &[NewPrincipal]) -> Result<(), String> {
        let threshold = usize::try_from(self.threshold).unwrap_or(usize::MAX);
        if threshold < 2 || threshold > self.keys.len() || self.keys.len() > RECOVERY_KEYS_MAX {
            return Err(format!(
                "2 to {RECOVERY_KEYS_MAX} recovery keys are needed, and a threshold from 2 to their number"
            ));
        }
        for (at, RecoveryKey(key)) in self.keys.iter().enumerate() {
            if !matches!(key.len(), 91 | 120) {
                return Err("a recovery key is no P-256 or P-384 key".to_owned());
            }
            let again = self.keys.iter().skip(at + 1).any(|other| other.0 == *key);
            if again || officers.iter().any(|officer| officer.key == *key) {
                return Err("a recovery key is named twice, or is an officer's".to_owned());
            }
        }
        Ok(())
    }
}

/// The signature of one recovery key.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RecoverySignature {
    /// SHA-256 of the key.
    #[n(0)]
    pub key: Digest,
    /// ECDSA over the prefix and the bytes, DER.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub signature: Vec<u8>,
}

/// A mandate signed with recovery keys.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SignedRecovery {
    /// The bytes of the mandate.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
    /// Who signed them.
    #[n(1)]
    pub signatures: Vec<RecoverySignature>,
}

/// Why signatures do not carry a recovery.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RecoveryFault {
    /// Genesis names no recovery keys.
    #[error("genesis names no recovery keys")]
    NoKeys,
    /// The bytes are no mandate.
    #[error("not a mandate: {0}")]
    Malformed(String),
    /// It is for another trust domain.
    #[error("the mandate is for the trust domain {0:?}")]
    OtherTrustDomain(String),
    /// It does something else.
    #[error("recovery keys register officers and nothing else, and {0} is something else")]
    OtherCommand(&'static str),
    /// Somebody else's key, or one that is blocked.
    #[error("{0} is not one of the recovery keys of genesis, or it is blocked")]
    UnknownKey(Digest),
    /// One key signed twice.
    #[error("the recovery key {0} signed twice; different keys are needed")]
    SameKey(Digest),
    /// The signature is not that key's.
    #[error("the signature of the recovery key {0} does not verify")]
    BadSignature(Digest),
    /// Too few.
    #[error("a recovery needs the signatures of {need} recovery keys and has {have}")]
    TooFew {
        /// How many it needs.
        need: u32,
        /// How many it has.
        have: usize,
    },
}

impl SignedRecovery {
    /// The mandate and the officer that it registers, if enough recovery keys signed exactly these bytes.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn check(
        &self,
        keys: Option<&RecoveryKeys>,
        trust_domain: &str,
        is_blocked: impl Fn(Digest) -> bool,
    ) -> Result<(Mandate, NewPrincipal), RecoveryFault> {
        let keys = keys.ok_or(RecoveryFault::NoKeys)?;
        let (mandate, new) = self.read(trust_domain)?;
        let mut seen: Vec<Digest> = Vec::new();
        for RecoverySignature { key: digest, signature } in &self.signatures {
            if seen.contains(digest) {
                return Err(RecoveryFault::SameKey(*digest));
            }
            let named = keys.keys.iter().find(|RecoveryKey(key)| Digest::of(key) == *digest);
            let RecoveryKey(key) =
                named.filter(|_| !is_blocked(*digest)).ok_or(RecoveryFault::UnknownKey(*digest))?;
            verify(key, RECOVERY_PREFIX, &self.bytes, signature)
                .map_err(|_| RecoveryFault::BadSignature(*digest))?;
            seen.push(*digest);
        }
        match usize::try_from(keys.threshold).is_ok_and(|need| seen.len() >= need) {
            true => Ok((mandate, new)),
            false => Err(RecoveryFault::TooFew { need: keys.threshold, have: seen.len() }),
        }
    }

    /// What the bytes say, whoever signed them.
    ///
    /// # Errors
    /// They are no mandate that registers an officer here.
    pub fn read(&self, trust_domain: &str) -> Result<(Mandate, NewPrincipal), RecoveryFault> {
        if self.bytes.len() > MANDATE_LEN_MAX {
            return Err(RecoveryFault::Malformed("longer than 512 KiB".to_owned()));
        }
        let mandate: Mandate =
            from_bytes(&self.bytes).map_err(|e| RecoveryFault::Malformed(e.to_string()))?;
        if mandate.trust_domain != trust_domain {
            return Err(RecoveryFault::OtherTrustDomain(mandate.trust_domain));
        }
        let new = match &mandate.command {
            Command::RegisterPrincipal(new) if new.kind == PrincipalKind::Officer => new.clone(),
            other => return Err(RecoveryFault::OtherCommand(other.name())),
        };
        Ok((mandate, new))
    }
}

/// A recovery that waits for its day.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct PendingRecovery {
    /// Its name.
    #[n(0)]
    pub id: ProposalId,
    /// As it was signed.
    #[n(1)]
    pub signed: SignedRecovery,
    /// Whom it registers.
    #[n(2)]
    pub new: NewPrincipal,
    /// The record that announced it.
    #[n(3)]
    pub seq: Seq,
    /// When that was.
    #[n(4)]
    pub announced_at: Timestamp,
}

impl PendingRecovery {
    /// From when it is effective, if nobody rejects it.
    pub const fn effective_at(&self) -> Timestamp {
        self.announced_at.plus_ms(RECOVERY_DELAY_MS)
    }
}
