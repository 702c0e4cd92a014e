//! The certificate of an authority: a self-signed trust anchor that issues leaves and CRLs and nothing below it.
//!
//! Its form is as fixed as that of leaves: subject and issuer `OU=<ACCESS|SYSTEM>, CN=<authority id>`, keyUsage
//! keyCertSign and cRLSign (critical), a subject key identifier, basicConstraints CA with pathLen 0 (critical). No
//! name constraints: webpki refuses URI names under them. The OU carries the kind, so that a PEM file of such
//! certificates is a whole trust bundle and any TLS stack can tell the two authorities apart.

use std::fmt;

use aws_lc_rs::signature::ParsedPublicKey;
use thiserror::Error;

use super::der::OCTET_STRING;
use super::fault::CertificateFault;
use super::key::{Curve, KeyFault, PublicKey};
use super::outline::{Extension, Outline, authority_name};
use crate::domain::certificate::{AuthorityKind, Serial};
use crate::domain::id::{AuthorityId, Digest};
use crate::domain::time::Timestamp;

/// The longest life of an authority: ten years. Rotation is to be practised, not avoided.
pub const AUTHORITY_LIFE_MAX_S: u64 = 10 * 366 * 86_400;
/// id-ce-keyUsage (RFC 5280 section 4.2.1.3), with the BIT STRING keyCertSign and cRLSign.
const KEY_USAGE: (&[u8], &[u8]) = (&[0x55, 0x1d, 0x0f], &[0x03, 0x02, 0x01, 0x06]);
/// id-ce-subjectKeyIdentifier (RFC 5280 section 4.2.1.2).
const SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1d, 0x0e];
/// id-ce-basicConstraints (RFC 5280 section 4.2.1.9), with cA TRUE and pathLenConstraint 0.
const BASIC_CONSTRAINTS: (&[u8], &[u8]) =
    (&[0x55, 0x1d, 0x13], &[0x30, 0x06, 0x01, 0x01, 0xff, 0x02, 0x01, 0x00]);

/// Why a certificate is not that of an authority of this service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AuthorityFault {
    /// Its outer form is wrong.
    #[error(transparent)]
    Certificate(#[from] CertificateFault),
    /// Its key is not one that an authority may have.
    #[error(transparent)]
    Key(#[from] KeyFault),
    /// Its subject does not name an authority.
    #[error("the subject is not OU=ACCESS or OU=SYSTEM with an authority id as common name")]
    Name,
    /// It is not self-signed.
    #[error("the certificate is not issued by itself")]
    NotSelfIssued,
    /// Its extensions are not exactly those of an authority.
    #[error(
        "the extensions are not exactly keyUsage, subjectKeyIdentifier and basicConstraints of an authority"
    )]
    Extensions,
    /// Its key identifier is not the one of its key.
    #[error("the subject key identifier is not the one of its key")]
    KeyIdentifier,
    /// Its own signature is wrong: the file was changed.
    #[error("the signature of the certificate over itself is wrong")]
    Signature,
}

impl AuthorityFault {
    /// The stable code of the reason.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Certificate(fault) => fault.code(),
            Self::Key(_) => "AUTHORITY_UNSUPPORTED_KEY",
            Self::Name => "AUTHORITY_BAD_NAME",
            Self::NotSelfIssued => "AUTHORITY_NOT_SELF_ISSUED",
            Self::Extensions => "AUTHORITY_BAD_EXTENSIONS",
            Self::KeyIdentifier => "AUTHORITY_BAD_KEY_ID",
            Self::Signature => "AUTHORITY_BAD_SIGNATURE",
        }
    }
}

/// One authority: its certificate, read once, and its key, ready to verify.
#[derive(Clone)]
pub struct Authority {
    id: AuthorityId,
    kind: AuthorityKind,
    der: Vec<u8>,
    name: Vec<u8>,
    serial: Serial,
    key: PublicKey,
    key_id: [u8; 20],
    not_before: Timestamp,
    not_after: Timestamp,
    verifier: ParsedPublicKey,
}

impl Authority {
    /// Reads the certificate of an authority strictly and verifies its signature over itself.
    pub fn from_der(der: &[u8]) -> Result<Self, AuthorityFault> {
        let outline = Outline::read(der)?;
        let (kind, id) = authority_name(outline.subject).ok_or(AuthorityFault::Name)?;
        if outline.issuer != outline.subject {
            return Err(AuthorityFault::NotSelfIssued);
        }
        let key = PublicKey::from_spki(outline.spki)?;
        let key_id = key.identifier();
        check_extensions(&outline.extensions, &key_id)?;
        let verifier = key.parse()?;
        if outline.algorithm != key.curve() || verifier.verify_sig(outline.tbs, outline.signature).is_err() {
            return Err(AuthorityFault::Signature);
        }
        Ok(Self {
            id,
            kind,
            der: der.to_vec(),
            name: outline.subject.to_vec(),
            serial: outline.serial,
            key,
            key_id,
            not_before: outline.not_before,
            not_after: outline.not_after,
            verifier,
        })
    }

    /// Its id, the common name of its subject.
    pub const fn id(&self) -> AuthorityId {
        self.id
    }

    /// Which certificates it issues.
    pub const fn kind(&self) -> AuthorityKind {
        self.kind
    }

    /// Its certificate, DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The DER of its name, the issuer of its leaves.
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

    /// Its key identifier, by which leaves name its key.
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

    /// True when the signature over the message is by this authority, with the hash of its curve.
    pub fn verifies(&self, algorithm: Curve, message: &[u8], signature: &[u8]) -> bool {
        algorithm == self.key.curve() && self.verifier.verify_sig(message, signature).is_ok()
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({} {} until {})", self.kind, self.id, self.not_after)
    }
}

impl PartialEq for Authority {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for Authority {}

fn check_extensions(extensions: &[Extension<'_>], key_id: &[u8; 20]) -> Result<(), AuthorityFault> {
    let [usage, subject_key_id, constraints] = extensions else { return Err(AuthorityFault::Extensions) };
    let exactly = |extension: &Extension<'_>, (oid, value): (&[u8], &[u8])| {
        extension.critical && extension.oid == oid && extension.value == value
    };
    if !exactly(usage, KEY_USAGE) || !exactly(constraints, BASIC_CONSTRAINTS) {
        return Err(AuthorityFault::Extensions);
    }
    if subject_key_id.critical || subject_key_id.oid != SUBJECT_KEY_ID {
        return Err(AuthorityFault::Extensions);
    }
    match subject_key_id.value {
        [OCTET_STRING, 20, id @ ..] if id == key_id => Ok(()),
        _ => Err(AuthorityFault::KeyIdentifier),
    }
}
