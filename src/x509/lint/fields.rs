//! The fields of a certificate outside its extensions (RFC 5280 section 4.1).

use x509_parser::oid_registry::Oid;
use x509_parser::prelude::{AlgorithmIdentifier, X509Version};
use x509_parser::public_key;

use super::super::authority::AUTHORITY_LIFE_MAX_S;
use super::super::ca_certificate::CaCertificate;
use super::super::der::{GENERALIZED_TIME, UTC_TIME};
use super::super::key::{Curve, PublicKey};
use super::super::outline::CERTIFICATE_LEN_MAX;
use super::super::root::ROOT_LIFE_MAX_S;
use super::super::template::SYSTEM_TTL_MAX_S;
use super::item::{Kind, Subject};
use super::{Verdict, must};
use crate::domain::algorithm::AlgorithmProfile;
use crate::domain::certificate::{BACKDATE_S, TTL_MAX_S};

/// id-ecPublicKey (RFC 5480 section 2.1.1).
const EC_PUBLIC_KEY: [u64; 6] = [1, 2, 840, 10045, 2, 1];
/// secp256r1 and secp384r1 (RFC 5480 section 2.1.1.1), each with the length of an uncompressed point.
const CURVES: [(&[u64], usize); 2] = [(&[1, 2, 840, 10045, 3, 1, 7], 65), (&[1, 3, 132, 0, 34], 97)];

pub(super) fn size(subject: &Subject<'_>) -> Verdict {
    must(subject.der.len() <= CERTIFICATE_LEN_MAX, "it is longer than 4096 bytes")
}

pub(super) fn version(subject: &Subject<'_>) -> Verdict {
    must(subject.certificate.version() == X509Version::V3, "it is not version 3")
}

/// The octets of a serial number.
pub(super) fn is_serial(octets: &[u8]) -> bool {
    matches!(octets, [0x40..=0x7f, rest @ ..] if rest.len() == 15)
}

pub(super) fn serial_form(subject: &Subject<'_>) -> Verdict {
    must(
        is_serial(subject.certificate.raw_serial()),
        "the serial does not have 16 octets, the first 0x40 to 0x7F",
    )
}

/// The curve of an authority whose signatures this names: ecdsa-with-SHA256 and ecdsa-with-SHA384, without
/// parameters (RFC 5758 section 3.2).
pub(super) fn curve_of(algorithm: &AlgorithmIdentifier<'_>) -> Option<Curve> {
    let is = |last: u64| is_oid(&algorithm.algorithm, &[1, 2, 840, 10045, 4, 3, last]);
    match algorithm.parameters {
        None if is(2) => Some(Curve::P256),
        None if is(3) => Some(Curve::P384),
        None | Some(_) => None,
    }
}

pub(super) fn is_oid(oid: &Oid<'_>, numbers: &[u64]) -> bool {
    oid.iter().is_some_and(|read| read.eq(numbers.iter().copied()))
}

pub(super) fn signature_algorithm(subject: &Subject<'_>) -> Verdict {
    must(
        curve_of(&subject.certificate.signature).is_some(),
        "it is not ECDSA with SHA-256 or SHA-384 without parameters",
    )
}

pub(super) fn signature_algorithms_equal(subject: &Subject<'_>) -> Verdict {
    must(
        subject.algorithms().is_some_and(|[signed, outer]| signed == outer),
        "the signed and the outer signature algorithm differ",
    )
}

pub(super) fn validity_encoding(subject: &Subject<'_>) -> Verdict {
    let validity = subject.certificate.validity();
    let years = [validity.not_before.to_datetime().year(), validity.not_after.to_datetime().year()];
    let Some(dates) = subject.dates() else { return Err("the dates cannot be read".to_owned()) };
    for (date, year) in dates.iter().zip(years) {
        let (digits, len) = match date.tag {
            UTC_TIME if (1950..2050).contains(&year) => (date.value.strip_suffix(b"Z"), 12),
            GENERALIZED_TIME if year >= 2050 => (date.value.strip_suffix(b"Z"), 14),
            _ => (None, 0),
        };
        let fits = digits.is_some_and(|digits| digits.len() == len && digits.iter().all(u8::is_ascii_digit));
        must(fits, "a date is not UTCTime through 2049, GeneralizedTime from 2050, with seconds and Z")?;
    }
    Ok(())
}

pub(super) fn validity_order(subject: &Subject<'_>) -> Verdict {
    let validity = subject.certificate.validity();
    must(validity.not_before < validity.not_after, "notAfter is not after notBefore")
}

pub(super) fn validity_ceiling(subject: &Subject<'_>) -> Verdict {
    let validity = subject.certificate.validity();
    let life_s = validity.not_after.timestamp() - validity.not_before.timestamp();
    let life_max_s = match subject.kind {
        Kind::Person | Kind::Workload | Kind::Canary => u64::from(TTL_MAX_S),
        Kind::System | Kind::Server => u64::from(SYSTEM_TTL_MAX_S),
        Kind::Authority | Kind::Subordinate | Kind::List | Kind::RootList => AUTHORITY_LIFE_MAX_S,
        Kind::Root | Kind::Cross => ROOT_LIFE_MAX_S,
    } + u64::from(BACKDATE_S);
    if u64::try_from(life_s).is_ok_and(|life_s| life_s > life_max_s) {
        return Err(format!("it is valid for {life_s} s, and {life_max_s} s is the most"));
    }
    Ok(())
}

pub(super) fn unique_ids(subject: &Subject<'_>) -> Verdict {
    let certificate = &subject.certificate;
    must(
        certificate.issuer_uid.is_none() && certificate.subject_uid.is_none(),
        "it has an issuerUniqueID or a subjectUniqueID",
    )
}

/// The uncompressed point of an elliptic-curve key on one of our curves, when it has that form.
fn point_len(subject: &Subject<'_>) -> Option<usize> {
    let parameters = subject.certificate.public_key().algorithm.parameters.as_ref()?;
    let curve = parameters.as_oid().ok()?;
    CURVES.iter().find(|(numbers, _)| is_oid(&curve, numbers)).map(|(_, len)| *len)
}

fn is_elliptic(subject: &Subject<'_>) -> bool {
    is_oid(&subject.certificate.public_key().algorithm.algorithm, &EC_PUBLIC_KEY)
}

pub(super) fn key_algorithm(subject: &Subject<'_>) -> Verdict {
    if is_elliptic(subject) {
        return Ok(());
    }
    let key = subject.certificate.public_key();
    Err(match key.parsed() {
        Ok(public_key::PublicKey::RSA(key)) => format!("an RSA key of {} bits", key.key_size()),
        _ => format!("a key of algorithm {}", key.algorithm.algorithm),
    })
}

pub(super) fn key_curve(subject: &Subject<'_>) -> Verdict {
    must(
        !is_elliptic(subject) || point_len(subject).is_some(),
        "the curve is not P-256 or P-384, named by its OID",
    )
}

/// Is the curve that was found the one of the profile? What is on no curve of ours breaks rules of its own.
fn fits(profiled: AlgorithmProfile, curve: Option<Curve>) -> bool {
    match profiled {
        AlgorithmProfile::Standard => true,
        AlgorithmProfile::Cnsa => curve == Some(Curve::P384),
    }
}

pub(super) fn profile_key(subject: &Subject<'_>) -> Verdict {
    let curve = point_len(subject).map(|len| if len == 97 { Curve::P384 } else { Curve::P256 });
    must(fits(subject.profiled, curve), "the key is not P-384, which the profile cnsa demands")
}

pub(super) fn profile_signature(subject: &Subject<'_>) -> Verdict {
    let curve = curve_of(&subject.certificate.signature);
    must(
        fits(subject.profiled, curve),
        "the signature is not by P-384 with SHA-384, which the profile cnsa demands",
    )
}

pub(super) fn key_point_form(subject: &Subject<'_>) -> Verdict {
    let Some(len) = point_len(subject) else { return Ok(()) };
    let key = subject.certificate.public_key();
    let fits = matches!(&*key.subject_public_key.data, [0x04, rest @ ..] if rest.len() + 1 == len);
    must(fits, "the point is not uncompressed, or not of the length of its curve")
}

pub(super) fn key_on_curve(subject: &Subject<'_>) -> Verdict {
    match PublicKey::from_spki(subject.certificate.public_key().raw) {
        Ok(key) => must(key.parse().is_ok(), "the point is not on its curve"),
        // Another rule says what it is.
        Err(_) => Ok(()),
    }
}

pub(super) fn key_weak(subject: &Subject<'_>) -> Verdict {
    match PublicKey::from_spki(subject.certificate.public_key().raw) {
        Ok(key) => must(!key.is_weak(), "its private key is published or can be guessed"),
        Err(_) => Ok(()),
    }
}

pub(super) fn issuer_other_key(subject: &Subject<'_>, issuer: &CaCertificate) -> Verdict {
    must(
        subject.certificate.public_key().raw != issuer.key().spki(),
        "it certifies the key of its own authority",
    )
}

pub(super) fn issuer_signature_algorithm(subject: &Subject<'_>, issuer: &CaCertificate) -> Verdict {
    let curve = issuer.key().curve();
    if curve_of(&subject.certificate.signature) == Some(curve) {
        return Ok(());
    }
    Err(format!("the authority's key is on {}, and the signature algorithm is of another", curve.as_str()))
}

pub(super) fn issuer_validity(subject: &Subject<'_>, issuer: &CaCertificate) -> Verdict {
    let validity = subject.certificate.validity();
    let within = validity.not_before.timestamp() >= issuer.not_before().seconds()
        && validity.not_after.timestamp() <= issuer.not_after().seconds();
    must(within, "it is valid when its authority is not")
}

pub(super) fn issuer_signature(subject: &Subject<'_>, issuer: &CaCertificate) -> Verdict {
    must(is_signed_by(subject, issuer), "the signature is not the authority's")
}

/// Whoever changes the file of an authority changes what its signature over itself covers.
pub(super) fn authority_signature(subject: &Subject<'_>) -> Verdict {
    let Ok(key) = PublicKey::from_spki(subject.certificate.public_key().raw) else { return Ok(()) };
    let certificate = &subject.certificate;
    let verifies = || {
        let (tbs, signature) = (certificate.tbs_certificate.as_ref(), &certificate.signature_value.data);
        let is_its = curve_of(&certificate.signature_algorithm) == Some(key.curve());
        is_its && key.parse().is_ok_and(|key| key.verify_sig(tbs, signature).is_ok())
    };
    must(!subject.is_signed || verifies(), "the signature is not by its own key")
}

fn is_signed_by(subject: &Subject<'_>, authority: &CaCertificate) -> bool {
    let certificate = &subject.certificate;
    curve_of(&certificate.signature_algorithm).is_some_and(|curve| {
        authority.verifies(curve, certificate.tbs_certificate.as_ref(), &certificate.signature_value.data)
    })
}
