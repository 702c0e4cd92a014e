//! A certificate request (PKCS#10, RFC 2986) gives a public key and the proof that its sender holds the private one.
//!
//! Nothing else in it is used. What it asks for besides is listed by kind, without values, so that the caller can
//! record it without recording names of people. Exactly one signature verification per request.

use thiserror::Error;

use super::der::{self, BIT_STRING, INTEGER, NotDer, OID, Reader, SEQUENCE, SET};
use super::key::{Curve, KeyFault, PublicKey};
use super::oid;
use super::outline::read_extension;

/// The longest request: a P-384 request has 300 bytes; 8 KiB leaves room for what others' tools add.
pub const CSR_LEN_MAX: usize = 8 * 1024;
/// The most wishes that are listed; how many more there were is the last entry.
const IGNORED_MAX: usize = 32;

/// extensionRequest (RFC 2985 section 5.4.2).
const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];
/// An empty Name.
const EMPTY_NAME: &[u8] = &[0x30, 0x00];

/// Why a certificate request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CsrFault {
    /// Longer than 8 KiB.
    #[error("the certificate request is longer than 8192 bytes")]
    TooLarge,
    /// Not the DER of a request, or cut short.
    #[error("the certificate request is not valid DER")]
    Malformed,
    /// Bytes follow the request.
    #[error("bytes follow the certificate request")]
    TrailingBytes,
    /// Not version 1, written 0 (RFC 2986 section 4.1).
    #[error("the certificate request is not version 1")]
    Version,
    /// RSA of any size.
    #[error("RSA keys are not accepted; use ECDSA on P-256 or P-384")]
    RsaKey,
    /// Ed25519 or Ed448.
    #[error("Edwards-curve keys are not accepted; use ECDSA on P-256 or P-384")]
    EdwardsKey,
    /// A kind of key that is not known.
    #[error("the kind of the public key is unknown; use ECDSA on P-256 or P-384")]
    UnknownKey,
    /// A weak or other curve.
    #[error("the curve of the public key is neither P-256 nor P-384")]
    Curve,
    /// A compressed or hybrid point.
    #[error("the point of the public key is not in uncompressed form")]
    PointForm,
    /// A point that is not on its curve.
    #[error("the point of the public key is not on its curve")]
    OffCurve,
    /// A key whose private half is published or can be guessed.
    #[error("the private key of this public key is published or can be guessed; make a new key")]
    WeakKey,
    /// The signature's algorithm is not ECDSA with SHA-256 or SHA-384.
    #[error("the signature algorithm is not ECDSA with SHA-256 or SHA-384")]
    SignatureAlgorithm,
    /// P-384 signed with SHA-256, or P-256 with SHA-384. rcgen would take the curve from the hash and write a
    /// corrupt key.
    #[error("the hash does not fit the curve: P-256 needs SHA-256, P-384 needs SHA-384")]
    HashMismatch,
    /// The signature is not by the key.
    #[error("the signature of the certificate request is not by its key")]
    BadSignature,
}

impl CsrFault {
    /// The stable code of the reason.
    pub const fn code(self) -> &'static str {
        match self {
            Self::TooLarge => "CSR_TOO_LARGE",
            Self::Malformed => "CSR_MALFORMED",
            Self::TrailingBytes => "CSR_TRAILING_BYTES",
            Self::Version => "CSR_UNKNOWN_VERSION",
            Self::RsaKey => "CSR_RSA_KEY",
            Self::EdwardsKey => "CSR_EDWARDS_KEY",
            Self::UnknownKey => "CSR_UNKNOWN_KEY",
            Self::Curve => "CSR_UNSUPPORTED_CURVE",
            Self::PointForm => "CSR_POINT_NOT_UNCOMPRESSED",
            Self::OffCurve => "CSR_POINT_OFF_CURVE",
            Self::WeakKey => "CSR_WEAK_KEY",
            Self::SignatureAlgorithm => "CSR_UNSUPPORTED_SIGNATURE",
            Self::HashMismatch => "CSR_HASH_MISMATCH",
            Self::BadSignature => "CSR_BAD_SIGNATURE",
        }
    }
}

impl From<NotDer> for CsrFault {
    fn from(_: NotDer) -> Self {
        Self::Malformed
    }
}

impl From<KeyFault> for CsrFault {
    fn from(fault: KeyFault) -> Self {
        match fault {
            KeyFault::Malformed => Self::Malformed,
            KeyFault::Rsa => Self::RsaKey,
            KeyFault::Edwards => Self::EdwardsKey,
            KeyFault::Unknown => Self::UnknownKey,
            KeyFault::Curve => Self::Curve,
            KeyFault::PointForm => Self::PointForm,
            KeyFault::OffCurve => Self::OffCurve,
        }
    }
}

/// Something that a request asked for and did not get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ignored {
    /// A subject name.
    Subject,
    /// Subject alternative names: perhaps another entity's.
    AlternativeNames,
    /// Basic constraints: perhaps CA:TRUE.
    BasicConstraints,
    /// A key usage.
    KeyUsage,
    /// An extended key usage.
    ExtendedKeyUsage,
    /// Another extension, by its OID.
    Extension(String),
    /// A request attribute that is not an extension request, by its OID.
    Attribute(String),
    /// Attributes that cannot be read.
    Unreadable,
    /// This many more.
    More(usize),
}

impl std::fmt::Display for Ignored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Subject => f.write_str("subject"),
            Self::AlternativeNames => f.write_str("subjectAltName"),
            Self::BasicConstraints => f.write_str("basicConstraints"),
            Self::KeyUsage => f.write_str("keyUsage"),
            Self::ExtendedKeyUsage => f.write_str("extKeyUsage"),
            Self::Extension(oid) => write!(f, "extension {oid}"),
            Self::Attribute(oid) => write!(f, "attribute {oid}"),
            Self::Unreadable => f.write_str("something unreadable"),
            Self::More(count) => write!(f, "{count} more"),
        }
    }
}

/// A public key that its sender was shown to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestedKey {
    key: PublicKey,
    ignored: Vec<Ignored>,
}

impl RequestedKey {
    /// Reads a request and verifies its signature over itself (proof of possession, RFC 2986 section 3).
    pub fn from_csr(der: &[u8]) -> Result<Self, CsrFault> {
        if der.len() > CSR_LEN_MAX {
            return Err(CsrFault::TooLarge);
        }
        let mut file = Reader::new(der);
        let mut request = file.expect(SEQUENCE)?.inside();
        file.end().map_err(|_| CsrFault::TrailingBytes)?;
        let info = request.expect(SEQUENCE)?;
        let algorithm = request.expect(SEQUENCE)?.raw;
        let signature = request.expect(BIT_STRING)?.bits()?;
        request.end()?;

        let mut fields = info.inside();
        if fields.expect(INTEGER)?.value != [0] {
            return Err(CsrFault::Version);
        }
        let subject = fields.expect(SEQUENCE)?.raw;
        let key = PublicKey::from_spki(fields.expect(SEQUENCE)?.raw)?;
        let attributes = fields;

        let hashed_for = Curve::of_signature_algorithm(algorithm).ok_or(CsrFault::SignatureAlgorithm)?;
        if hashed_for != key.curve() {
            return Err(CsrFault::HashMismatch);
        }
        key.parse()?.verify_sig(info.raw, signature).map_err(|_| CsrFault::BadSignature)?;
        if key.is_weak() {
            return Err(CsrFault::WeakKey);
        }
        Ok(Self { key, ignored: wishes(subject, attributes) })
    }

    /// A key that this process made itself, for the server's own leaf: possession needs no proof.
    pub const fn own(key: PublicKey) -> Self {
        Self { key, ignored: Vec::new() }
    }

    /// The key.
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// What the request asked for besides, by kind. None of it was used.
    pub fn ignored(&self) -> &[Ignored] {
        &self.ignored
    }
}

fn wishes(subject: &[u8], attributes: Reader<'_>) -> Vec<Ignored> {
    let mut wishes = Vec::new();
    if subject != EMPTY_NAME {
        wishes.push(Ignored::Subject);
    }
    let mut more = 0;
    let mut push = |wish| {
        if wishes.len() < IGNORED_MAX {
            wishes.push(wish);
        } else {
            more += 1;
        }
    };
    if read_attributes(attributes, &mut push).is_err() {
        push(Ignored::Unreadable);
    }
    if more > 0 {
        wishes.push(Ignored::More(more));
    }
    wishes
}

/// `[0] IMPLICIT SET OF Attribute` (RFC 2986 section 4.1); some tools leave an empty one out. The loops end with
/// the request, which is bounded.
fn read_attributes(mut fields: Reader<'_>, push: &mut impl FnMut(Ignored)) -> Result<(), NotDer> {
    if fields.is_empty() {
        return Ok(());
    }
    let mut set = fields.expect(0xa0)?.inside();
    fields.end()?;
    while !set.is_empty() {
        let mut attribute = set.expect(SEQUENCE)?.inside();
        let kind = attribute.expect(OID)?.value;
        let values = attribute.expect(SET)?;
        if kind != EXTENSION_REQUEST {
            push(oid::text(kind).map_or(Ignored::Unreadable, Ignored::Attribute));
            continue;
        }
        let mut extensions = der::only(values.value, SEQUENCE)?.inside();
        while !extensions.is_empty() {
            let extension = extensions.expect(SEQUENCE)?;
            let oid = extension.inside().expect(OID)?.value;
            push(wish_of(oid));
            // The rest of it is not used; it is read only to say when it is not an extension at all.
            read_extension(extension).map_err(|_| NotDer)?;
        }
    }
    Ok(())
}

fn wish_of(extension: &[u8]) -> Ignored {
    match extension {
        [0x55, 0x1d, 17] => Ignored::AlternativeNames,
        [0x55, 0x1d, 19] => Ignored::BasicConstraints,
        [0x55, 0x1d, 15] => Ignored::KeyUsage,
        [0x55, 0x1d, 37] => Ignored::ExtendedKeyUsage,
        other => oid::text(other).map_or(Ignored::Unreadable, Ignored::Extension),
    }
}
