//! Mandates and approvals: a command as officers sign it, on their own machines, with their registered keys.
//!
//! The signed bytes travel and are stored as they are; what is verified is what is read. The mandate names the trust
//! domain and the revision of every object of the command, so that an approval is good once, here, and only while
//! nothing that it rests on has changed.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, UnparsedPublicKey};
use minicbor::{Decode, Encode};
use thiserror::Error;

use super::codec::from_bytes;
use super::command::{Command, ObjectRef};
use super::id::{PrincipalId, Seq};
use super::principal::{Principal, Role};
use super::time::Timestamp;

/// What the signature of a mandate begins with, so that it is good for nothing else.
pub const MANDATE_PREFIX: &[u8] = b"countersign mandate v1\0";
/// What a signature of genesis begins with.
pub const GENESIS_PREFIX: &[u8] = b"countersign genesis v1\0";
/// How long an approval of a loosening command is good: seven days, so that none waits in a drawer.
pub const MANDATE_FRESH_MS: i64 = 7 * 86_400_000;
/// The largest mandate: a policy bundle is the largest command.
pub const MANDATE_LEN_MAX: usize = 1 << 19;

/// A command with what it rests on.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Mandate {
    /// Where it is good.
    #[n(0)]
    pub trust_domain: String,
    /// What is to be done.
    #[n(1)]
    pub command: Command,
    /// The revision of each object of the command, in its order.
    #[n(2)]
    pub basis: Vec<Basis>,
    /// When it was made.
    #[n(3)]
    pub made_at: Timestamp,
}

/// An object and the revision of it that an officer saw.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Basis {
    /// Which object.
    #[n(0)]
    pub object: ObjectRef,
    /// The record that last changed it; 0 when it does not exist.
    #[n(1)]
    pub revision: Seq,
}

/// Why a mandate does not rest on the state at hand.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BasisFault {
    /// It does not name the objects of its command, each in its place.
    #[error("the basis does not name every object")]
    Incomplete,
    /// An object has changed since.
    #[error(
        "{object} changed since the mandate was made (revision {then} then, {current} now); make it anew"
    )]
    Changed {
        /// Which object.
        object: ObjectRef,
        /// Its revision when the mandate was made.
        then: Seq,
        /// Its revision now.
        current: Seq,
    },
}

impl Mandate {
    /// Checks that nothing that the command reads or writes has changed since the mandate was made; carrying it out
    /// changes each of them, so that it is good once.
    ///
    /// # Errors
    /// The first object that has changed, or a basis that leaves one out.
    pub fn check_basis(&self, revision: impl Fn(&ObjectRef) -> Seq) -> Result<(), BasisFault> {
        let objects = self.command.objects();
        if !self.basis.iter().map(|basis| &basis.object).eq(&objects) {
            return Err(BasisFault::Incomplete);
        }
        for Basis { object, revision: then } in &self.basis {
            let (object, then, current) = (object.clone(), *then, revision(object));
            if then != current {
                return Err(BasisFault::Changed { object, then, current });
            }
        }
        Ok(())
    }
}

/// An officer's signature.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Approval {
    /// Whose.
    #[n(0)]
    pub officer: PrincipalId,
    /// ECDSA over the prefix and the bytes: P-256 with SHA-256 or P-384 with SHA-384, DER.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub signature: Vec<u8>,
}

/// A mandate as signed, with its signatures.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SignedMandate {
    /// The bytes of the mandate.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
    /// Who signed them.
    #[n(1)]
    pub approvals: Vec<Approval>,
}

/// Why signatures do not carry a command.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ApprovalFault {
    /// The bytes are not a mandate.
    #[error("not a mandate: {0}")]
    Malformed(String),
    /// It is for another trust domain.
    #[error("the mandate is for the trust domain {0:?}")]
    OtherTrustDomain(String),
    /// The signer is not a registered officer.
    #[error("{0} is not a registered officer")]
    UnknownOfficer(PrincipalId),
    /// The signature is not the officer's.
    #[error("the signature of {0} does not verify")]
    BadSignature(PrincipalId),
    /// The officer may not sign this.
    #[error("{officer} holds none of the roles that may sign {command}")]
    WrongRole {
        /// Who signed.
        officer: PrincipalId,
        /// What.
        command: &'static str,
    },
    /// One officer, or one key, signed twice.
    #[error("{0} signed twice; two different officers are needed")]
    SameOfficer(PrincipalId),
    /// Too few signatures.
    #[error("{command} needs the signatures of {need} officers and has {have}")]
    TooFew {
        /// What.
        command: &'static str,
        /// How many it needs.
        need: usize,
        /// How many it has.
        have: usize,
    },
}

impl SignedMandate {
    /// The mandate that the bytes spell.
    ///
    /// # Errors
    /// Bytes that are not the canonical form of a mandate for this trust domain.
    pub fn mandate(&self, trust_domain: &str) -> Result<Mandate, ApprovalFault> {
        if self.bytes.len() > MANDATE_LEN_MAX {
            return Err(ApprovalFault::Malformed("longer than 512 KiB".to_owned()));
        }
        let mandate: Mandate =
            from_bytes(&self.bytes).map_err(|e| ApprovalFault::Malformed(e.to_string()))?;
        if mandate.trust_domain != trust_domain {
            return Err(ApprovalFault::OtherTrustDomain(mandate.trust_domain));
        }
        Ok(mandate)
    }

    /// Checks every signature: registered officers, different ones with different keys, each with a fitting role.
    ///
    /// # Errors
    /// The first signature that does not hold.
    pub fn check_signatures<'a>(
        &self,
        command: &Command,
        officer: impl Fn(&PrincipalId) -> Option<&'a Principal>,
    ) -> Result<(), ApprovalFault> {
        let roles = command.signers().roles;
        let mut signers: Vec<&Principal> = Vec::new();
        for approval in &self.approvals {
            let principal = officer(&approval.officer)
                .ok_or_else(|| ApprovalFault::UnknownOfficer(approval.officer.clone()))?;
            if signers.iter().any(|other| other.id == principal.id || other.key == principal.key) {
                return Err(ApprovalFault::SameOfficer(approval.officer.clone()));
            }
            if !may_sign(principal, roles) {
                return Err(ApprovalFault::WrongRole {
                    officer: approval.officer.clone(),
                    command: command.name(),
                });
            }
            verify(&principal.key, MANDATE_PREFIX, &self.bytes, &approval.signature)
                .map_err(|BadSignature| ApprovalFault::BadSignature(approval.officer.clone()))?;
            signers.push(principal);
        }
        Ok(())
    }

    /// Checks that enough officers signed.
    ///
    /// # Errors
    /// [`ApprovalFault::TooFew`].
    pub fn check_count(&self, command: &Command) -> Result<(), ApprovalFault> {
        let (need, have) = (command.signers().count, self.approvals.len());
        if have < need {
            return Err(ApprovalFault::TooFew { command: command.name(), need, have });
        }
        Ok(())
    }
}

fn may_sign(principal: &Principal, roles: &[Role]) -> bool {
    roles.iter().any(|role| principal.has(*role))
}

/// A signature that does not verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadSignature;

/// Verifies an officer's signature over prefix and bytes with a registered key (SubjectPublicKeyInfo, DER).
///
/// # Errors
/// [`BadSignature`], also for a key of another kind.
pub fn verify(spki: &[u8], prefix: &[u8], bytes: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
    let message = [prefix, bytes].concat();
    // The algorithm follows the key alone: P-256 keys have 91 bytes of SubjectPublicKeyInfo, P-384 keys 120
    // (RFC 5480, uncompressed points).
    let algorithm = match spki.len() {
        91 => &ECDSA_P256_SHA256_ASN1,
        120 => &ECDSA_P384_SHA384_ASN1,
        _ => return Err(BadSignature),
    };
    UnparsedPublicKey::new(algorithm, spki).verify(&message, signature).map_err(|_| BadSignature)
}
