//! Public keys: which ones certificates may carry, and their one encoding.
//!
//! Only ECDSA on P-256 and P-384. RSA is refused because its proof of possession and handshakes cost ten times as
//! much and its parameters need judging; Ed25519 because the TLS stacks in front of models (BoringSSL in Envoy)
//! do not accept it for clients by default; P-521 and others because nothing here needs them.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use aws_lc_rs::agreement;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, EcdsaVerificationAlgorithm, ParsedPublicKey,
};
use thiserror::Error;
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo, X509Certificate, X509CertificationRequest};

use super::der::{self, BIT_STRING, OID, SEQUENCE};
use crate::domain::algorithm::AlgorithmProfile;
use crate::domain::id::Digest;

/// id-ecPublicKey (RFC 5480 section 2.1.1).
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// All of PKCS#1 (RFC 8017 appendix A): rsaEncryption and RSASSA-PSS among them.
const PKCS1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
/// id-Ed25519 and id-Ed448 (RFC 8410 section 3).
const EDWARDS: [&[u8]; 2] = [&[0x2b, 0x65, 0x70], &[0x2b, 0x65, 0x71]];

/// Everything before the point in the SubjectPublicKeyInfo of a P-256 key (RFC 5480 section 2).
const P256_PREFIX: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// Everything before the point in the SubjectPublicKeyInfo of a P-384 key.
const P384_PREFIX: &[u8] = &[
    0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81,
    0x04, 0x00, 0x22, 0x03, 0x62, 0x00,
];

/// The AlgorithmIdentifier ecdsa-with-SHA256 (RFC 5758 section 3.2: no parameters).
const ECDSA_SHA256: &[u8] = &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
/// The AlgorithmIdentifier ecdsa-with-SHA384.
const ECDSA_SHA384: &[u8] = &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];

/// Private keys up to this number are guessed. Each costs a multiplication when the first key of its curve is judged: 25 us
/// on P-256 and 370 us on P-384, so 24 ms at most.
const GUESSED_MAX: u8 = 64;
/// The first coordinates of keys whose private half is printed in a standard: RFC 6979 appendices A.2.5 and A.2.6, and
/// testECCP256 of RFC 9500. The second coordinate does not matter: a negated private key is as well known.
const PUBLISHED: [&str; 3] = [
    "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6",
    "422548f88fb782ffb5eca3744452c72a1e558fbd6f73be5e48e93232cc45c5b1",
    "ec3a4e415b4e19a4568618029f427fa5da9a8bc4ae92e02e06aae5286b300c64def8f0ea9055866064a254515480bc13",
];

/// The curves that keys of subjects and authorities may be on, each with the one hash it signs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Curve {
    /// NIST P-256 with SHA-256: the default.
    P256,
    /// NIST P-384 with SHA-384: selectable.
    P384,
}

impl Curve {
    /// Both curves.
    pub const ALL: [Self; 2] = [Self::P256, Self::P384];

    /// The curve of a key that is made under this profile of algorithms.
    pub const fn of_profile(algorithms: AlgorithmProfile) -> Self {
        match algorithms {
            AlgorithmProfile::Standard => Self::P256,
            AlgorithmProfile::Cnsa => Self::P384,
        }
    }

    /// The AlgorithmIdentifier of its signatures, DER (RFC 5758 section 3.2).
    pub const fn signature_algorithm(self) -> &'static [u8] {
        match self {
            Self::P256 => ECDSA_SHA256,
            Self::P384 => ECDSA_SHA384,
        }
    }

    /// The curve whose signatures have this AlgorithmIdentifier.
    pub(super) fn of_signature_algorithm(der: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|curve| curve.signature_algorithm() == der)
    }

    /// The curve in the words of openssl and RFC 5480.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
        }
    }

    pub(super) fn rcgen(self) -> &'static rcgen::SignatureAlgorithm {
        match self {
            Self::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Self::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        }
    }

    const fn prefix(self) -> &'static [u8] {
        match self {
            Self::P256 => P256_PREFIX,
            Self::P384 => P384_PREFIX,
        }
    }

    /// An uncompressed point: 0x04 and two coordinates (SEC 1 section 2.3.3).
    const fn point_len(self) -> usize {
        match self {
            Self::P256 => 65,
            Self::P384 => 97,
        }
    }

    fn agreement(self) -> &'static agreement::Algorithm {
        match self {
            Self::P256 => &agreement::ECDH_P256,
            Self::P384 => &agreement::ECDH_P384,
        }
    }

    fn verification(self) -> &'static EcdsaVerificationAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_ASN1,
            Self::P384 => &ECDSA_P384_SHA384_ASN1,
        }
    }
}

/// Why a public key is not one that a certificate may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyFault {
    /// Not the DER of a SubjectPublicKeyInfo.
    #[error("the public key is not valid DER")]
    Malformed,
    /// RSA of any size.
    #[error("RSA keys are not accepted; use ECDSA on P-256 or P-384")]
    Rsa,
    /// Ed25519 or Ed448.
    #[error("Edwards-curve keys are not accepted; use ECDSA on P-256 or P-384")]
    Edwards,
    /// Another kind of key.
    #[error("the kind of the public key is unknown; use ECDSA on P-256 or P-384")]
    Unknown,
    /// ECDSA on another curve, or with a curve described by its parameters.
    #[error("the curve of the public key is neither P-256 nor P-384")]
    Curve,
    /// A compressed or hybrid point, or one of a wrong length.
    #[error("the point of the public key is not in uncompressed form")]
    PointForm,
    /// A point that is not on its curve.
    #[error("the point of the public key is not on its curve")]
    OffCurve,
}

/// An ECDSA public key in its one encoding. Not every value is on its curve: `parse` finds out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PublicKey {
    curve: Curve,
    spki: Vec<u8>,
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo (RFC 5480 section 2). Does not check that the point is on the curve.
    pub fn from_spki(der: &[u8]) -> Result<Self, KeyFault> {
        let curve = curve_of_spki(der)?;
        Ok(Self { curve, spki: der.to_vec() })
    }

    /// The key with this uncompressed point.
    pub fn from_point(curve: Curve, point: &[u8]) -> Result<Self, KeyFault> {
        Self::from_spki(&[curve.prefix(), point].concat())
    }

    /// Its curve.
    pub const fn curve(&self) -> Curve {
        self.curve
    }

    /// The SubjectPublicKeyInfo, DER.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The uncompressed point.
    pub fn point(&self) -> &[u8] {
        self.spki.get(self.curve.prefix().len()..).unwrap_or_default()
    }

    /// SHA-256 of the SubjectPublicKeyInfo, by which keys are compared.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.spki)
    }

    /// The key identifier that authorities use: the first 160 bits of SHA-256 of the point (RFC 7093 section 2,
    /// method 1).
    pub fn identifier(&self) -> [u8; 20] {
        let mut id = [0; 20];
        for (to, from) in id.iter_mut().zip(Digest::of(self.point()).0) {
            *to = from;
        }
        id
    }

    /// Is its private key published, or so small that whoever guesses begins with it? Judged by the first coordinate,
    /// so that the negative of such a key is one too.
    pub fn is_weak(&self) -> bool {
        let x = self.point().get(1..self.curve.point_len().div_ceil(2));
        x.is_none_or(|x| weak_points(self.curve).contains(x))
    }

    /// The key ready to verify signatures; fails when the point is not on the curve.
    pub fn parse(&self) -> Result<ParsedPublicKey, KeyFault> {
        ParsedPublicKey::new(self.curve.verification(), self.point()).map_err(|_| KeyFault::OffCurve)
    }
}

/// SHA-256 of the SubjectPublicKeyInfo of whatever key a file holds: of a certificate, a request or the key alone, PEM or
/// DER. Any kind of key: what must never be certified need not be one that could be.
pub fn digest_of_file(file: &[u8]) -> Option<Digest> {
    let der = match file {
        [SEQUENCE, ..] => file.to_vec(),
        _ => {
            let blocks = pem::parse_many(file).ok()?.into_iter();
            let is_known = |block: &pem::Pem| {
                matches!(
                    block.tag(),
                    "CERTIFICATE" | "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" | "PUBLIC KEY"
                )
            };
            blocks.into_iter().find(is_known)?.into_contents()
        }
    };
    let certificate = X509Certificate::from_der(&der).ok().map(|(_, read)| read.public_key().raw.to_vec());
    let request = || {
        let (_, read) = X509CertificationRequest::from_der(&der).ok()?;
        Some(read.certification_request_info.subject_pki.raw.to_vec())
    };
    let alone = || SubjectPublicKeyInfo::from_der(&der).ok().map(|(_, read)| read.raw.to_vec());
    certificate.or_else(request).or_else(alone).map(|spki| Digest::of(&spki))
}

/// The first coordinates of weak keys of a curve. Made for each curve when it is first asked for.
fn weak_points(curve: Curve) -> &'static BTreeSet<Vec<u8>> {
    static P256: OnceLock<BTreeSet<Vec<u8>>> = OnceLock::new();
    static P384: OnceLock<BTreeSet<Vec<u8>>> = OnceLock::new();
    let points = match curve {
        Curve::P256 => &P256,
        Curve::P384 => &P384,
    };
    points.get_or_init(|| {
        let published = PUBLISHED.iter().filter_map(|x| hex::decode(x).ok());
        let guessed = (1..=GUESSED_MAX).filter_map(|guess| first_coordinate(curve, guess));
        published.chain(guessed).collect()
    })
}

/// The first coordinate of the point that belongs to this private key.
fn first_coordinate(curve: Curve, private: u8) -> Option<Vec<u8>> {
    let len = curve.point_len() / 2;
    let mut scalar = vec![0; len.checked_sub(1)?];
    scalar.push(private);
    let key = agreement::PrivateKey::from_private_key(curve.agreement(), &scalar).ok()?;
    let point = key.compute_public_key().ok()?;
    Some(point.as_ref().get(1..=len)?.to_vec())
}

impl rcgen::PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        self.point()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.curve.rcgen()
    }
}

/// The curve of a SubjectPublicKeyInfo in our one form; the reason, when it is another.
pub(super) fn curve_of_spki(der: &[u8]) -> Result<Curve, KeyFault> {
    let ours = Curve::ALL.into_iter().find(|curve| der.starts_with(curve.prefix()));
    match ours {
        Some(curve) => match der.get(curve.prefix().len()..) {
            Some([0x04, rest @ ..]) if rest.len() + 1 == curve.point_len() => Ok(curve),
            _ => Err(KeyFault::PointForm),
        },
        None => Err(why_not_ours(der).unwrap_or(KeyFault::Malformed)),
    }
}

fn why_not_ours(der: &[u8]) -> Result<KeyFault, der::NotDer> {
    let mut info = der::only(der, SEQUENCE)?.inside();
    let mut algorithm = info.expect(SEQUENCE)?.inside();
    let kind = algorithm.expect(OID)?.value;
    info.expect(BIT_STRING)?;
    info.end()?;
    Ok(match kind {
        EC_PUBLIC_KEY => curve_fault(algorithm),
        kind if kind.starts_with(PKCS1) => KeyFault::Rsa,
        kind if EDWARDS.contains(&kind) => KeyFault::Edwards,
        _ => KeyFault::Unknown,
    })
}

/// A compressed point of P-256 has another length, so it does not begin with our prefix.
fn curve_fault(mut parameters: der::Reader<'_>) -> KeyFault {
    let Ok(named) = parameters.expect(OID) else { return KeyFault::Curve };
    let known = Curve::ALL.into_iter().any(|curve| {
        let len = named.raw.len();
        curve.prefix().windows(len).any(|window| window == named.raw)
    });
    if known { KeyFault::PointForm } else { KeyFault::Curve }
}
