//! What the certificate of every certification authority has, whoever issued it: a name, a key that signs, a validity.
//!
//! Its extensions are as fixed as those of leaves: an authority key identifier unless it is self-signed, keyUsage keyCertSign
//! and cRLSign (critical), an extended key usage if it is an authority beneath a root, a subject key identifier,
//! basicConstraints CA with one path length (critical). No name constraints: webpki refuses URI names under them. Read only by
//! `authority` and `root`, which say what it is.

use std::fmt;

use aws_lc_rs::signature::ParsedPublicKey;

use super::der::OCTET_STRING;
use super::key::{Curve, KeyFault, PublicKey};
use super::outline::{Extension, Outline};
use crate::domain::certificate::Serial;
use crate::domain::id::Digest;
use crate::domain::time::Timestamp;

/// id-ce-keyUsage (RFC 5280 section 4.2.1.3), with the BIT STRING keyCertSign and cRLSign.
const KEY_USAGE: (&[u8], &[u8]) = (&[0x55, 0x1d, 0x0f], &[0x03, 0x02, 0x01, 0x06]);
/// id-ce-extKeyUsage (RFC 5280 section 4.2.1.12).
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
/// id-ce-subjectKeyIdentifier (RFC 5280 section 4.2.1.2).
const SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1d, 0x0e];
/// id-ce-authorityKeyIdentifier (RFC 5280 section 4.2.1.1).
const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 0x23];
/// id-ce-basicConstraints (RFC 5280 section 4.2.1.9).
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];

/// What is wrong with the extensions of an authority's certificate.
pub(super) enum ExtensionsFault {
    /// They are not exactly those of the form.
    Set,
    /// The subject key identifier is not the one of the key.
    KeyIdentifier,
}

/// The certificate of a certification authority, and its key, ready to verify.
#[derive(Clone)]
pub struct CaCertificate {
    der: Vec<u8>,
    name: Vec<u8>,
    serial: Serial,
    key: PublicKey,
    key_id: [u8; 20],
    not_before: Timestamp,
    not_after: Timestamp,
    verifier: ParsedPublicKey,
}

impl CaCertificate {
    /// Whose name, extensions and signature are still to be judged.
    pub(super) fn of(outline: &Outline<'_>) -> Result<Self, KeyFault> {
        let key = PublicKey::from_spki(outline.spki)?;
        Ok(Self {
            der: outline.der.to_vec(),
            name: outline.subject.to_vec(),
            serial: outline.serial,
            key_id: key.identifier(),
            verifier: key.parse()?,
            key,
            not_before: outline.not_before,
            not_after: outline.not_after,
        })
    }

    /// Its certificate, DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The DER of its name, the issuer of what it issues.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The serial number of its certificate.
    pub const fn serial(&self) -> Serial {
        self.serial
    }

    /// Its public key.
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Its key identifier, by which what it issues names its key.
    pub const fn key_id(&self) -> &[u8; 20] {
        &self.key_id
    }

    /// The first instant of its validity.
    pub const fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// The last instant of its validity.
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// SHA-256 of its certificate.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.der)
    }

    /// True when the signature over the message is by this key, with the hash of its curve.
    pub fn verifies(&self, algorithm: Curve, message: &[u8], signature: &[u8]) -> bool {
        algorithm == self.key.curve() && self.verifier.verify_sig(message, signature).is_ok()
    }

    /// Is this certificate signed by this key?
    pub(super) fn signed(&self, outline: &Outline<'_>) -> bool {
        self.verifies(outline.algorithm, outline.tbs, outline.signature)
    }
}

impl fmt::Debug for CaCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CaCertificate({} until {})", self.fingerprint(), self.not_after)
    }
}

impl PartialEq for CaCertificate {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for CaCertificate {}

/// What the extensions of an authority say.
#[derive(Debug, Clone, Copy)]
pub(super) struct CaForm {
    /// How many authorities may be below it.
    pub(super) path_len: u8,
    /// The extended key usage that it has when another issued it.
    pub(super) usage_beneath: Option<&'static [u8]>,
}

/// Checks that the extensions are exactly those of this form, and gives the key identifier of who issued it; none: it has
/// none, as what is self-signed.
pub(super) fn check_extensions(
    extensions: &[Extension<'_>],
    key_id: &[u8; 20],
    form: CaForm,
) -> Result<Option<[u8; 20]>, ExtensionsFault> {
    let (issuer_key_id, own) = match extensions {
        [issuer, own @ ..] if issuer.oid == AUTHORITY_KEY_ID => (Some(issuer_key_id(issuer)?), own),
        own => (None, own),
    };
    let (usage, purpose, subject_key_id, constraints) = match own {
        [usage, subject_key_id, constraints] => (usage, None, subject_key_id, constraints),
        [usage, purpose, subject_key_id, constraints] => (usage, Some(purpose), subject_key_id, constraints),
        _ => return Err(ExtensionsFault::Set),
    };
    let purpose = match purpose {
        Some(purpose) if purpose.critical || purpose.oid != EXTENDED_KEY_USAGE => {
            return Err(ExtensionsFault::Set);
        }
        purpose => purpose.map(|purpose| purpose.value),
    };
    if purpose != form.usage_beneath.filter(|_| issuer_key_id.is_some()) {
        return Err(ExtensionsFault::Set);
    }
    let exactly = |extension: &Extension<'_>, (oid, value): (&[u8], &[u8])| {
        extension.critical && extension.oid == oid && extension.value == value
    };
    // cA TRUE and pathLenConstraint.
    let constrained: &[u8] = &[0x30, 0x06, 0x01, 0x01, 0xff, 0x02, 0x01, form.path_len];
    if !exactly(usage, KEY_USAGE) || !exactly(constraints, (BASIC_CONSTRAINTS, constrained)) {
        return Err(ExtensionsFault::Set);
    }
    if subject_key_id.critical || subject_key_id.oid != SUBJECT_KEY_ID {
        return Err(ExtensionsFault::Set);
    }
    match subject_key_id.value {
        [OCTET_STRING, 20, id @ ..] if id == key_id => Ok(issuer_key_id),
        _ => Err(ExtensionsFault::KeyIdentifier),
    }
}

/// `[0] keyIdentifier` of 20 octets, and nothing else.
fn issuer_key_id(extension: &Extension<'_>) -> Result<[u8; 20], ExtensionsFault> {
    match extension.value {
        [0x30, 22, 0x80, 20, id @ ..] if !extension.critical => {
            id.try_into().map_err(|_| ExtensionsFault::Set)
        }
        _ => Err(ExtensionsFault::Set),
    }
}
