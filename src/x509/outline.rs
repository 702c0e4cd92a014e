//! The parts of a certificate (RFC 5280 section 4.1) as slices of its DER, each still to be judged.

use time::{Date, Month, PrimitiveDateTime, Time};

use super::der::{
    self, BIT_STRING, BOOLEAN, Element, GENERALIZED_TIME, INTEGER, OCTET_STRING, OID, Reader, SEQUENCE, SET,
    UTC_TIME, UTF8_STRING,
};
use super::fault::CertificateFault;
use super::key::Curve;
use crate::domain::certificate::{AuthorityKind, Serial};
use crate::domain::id::{AuthorityId, RootId};
use crate::domain::time::Timestamp;

/// The longest certificate that is read: leaf v1 has about 1.2 KiB, with 32 long model names below 4 KiB.
pub(super) const CERTIFICATE_LEN_MAX: usize = 4096;
/// The most extensions that are looked at: leaf v1 has 18, one more tells that there are too many.
const EXTENSIONS_MAX: usize = 24;

/// id-at-organizationalUnitName (RFC 5280 appendix A.1).
pub(super) const OU: &[u8] = &[0x55, 0x04, 0x0b];
/// id-at-commonName.
pub(super) const CN: &[u8] = &[0x55, 0x04, 0x03];

/// The organizational unit of a root.
pub(super) const ROOT_UNIT: &str = "ROOT";

/// One extension.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extension<'a> {
    pub(super) oid: &'a [u8],
    pub(super) critical: bool,
    pub(super) value: &'a [u8],
}

/// The parts of one certificate.
#[derive(Debug)]
pub(super) struct Outline<'a> {
    pub(super) der: &'a [u8],
    pub(super) tbs: &'a [u8],
    pub(super) serial: Serial,
    /// The curve and hash of the signature.
    pub(super) algorithm: Curve,
    pub(super) issuer: &'a [u8],
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    pub(super) subject: &'a [u8],
    pub(super) spki: &'a [u8],
    pub(super) extensions: Vec<Extension<'a>>,
    pub(super) signature: &'a [u8],
}

impl<'a> Outline<'a> {
    /// Takes a certificate apart. Every byte is accounted for; what is optional and unused here is refused.
    pub(super) fn read(der: &'a [u8]) -> Result<Self, CertificateFault> {
        if der.len() > CERTIFICATE_LEN_MAX {
            return Err(CertificateFault::TooLarge);
        }
        let mut file = Reader::new(der);
        let mut certificate = file.expect(SEQUENCE)?.inside();
        file.end().map_err(|_| CertificateFault::TrailingBytes)?;
        let tbs = certificate.expect(SEQUENCE)?;
        let outer_algorithm = certificate.expect(SEQUENCE)?.raw;
        let signature = certificate.expect(BIT_STRING)?.bits()?;
        certificate.end()?;

        let mut fields = tbs.inside();
        read_version(&mut fields)?;
        let serial = Serial::from_bytes(fields.expect(INTEGER)?.value).ok_or(CertificateFault::Serial)?;
        let inner_algorithm = fields.expect(SEQUENCE)?.raw;
        let algorithm =
            Curve::of_signature_algorithm(inner_algorithm).ok_or(CertificateFault::SignatureAlgorithm)?;
        if inner_algorithm != outer_algorithm {
            return Err(CertificateFault::SignatureAlgorithmsDiffer);
        }
        let issuer = fields.expect(SEQUENCE)?.raw;
        let (not_before, not_after) = read_validity(fields.expect(SEQUENCE)?)?;
        let subject = fields.expect(SEQUENCE)?.raw;
        let spki = fields.expect(SEQUENCE)?.raw;
        let extensions = read_extensions(&mut fields)?;
        fields.end()?;
        Ok(Self {
            der,
            tbs: tbs.raw,
            serial,
            algorithm,
            issuer,
            not_before,
            not_after,
            subject,
            spki,
            extensions,
            signature,
        })
    }
}

/// `[0] EXPLICIT INTEGER 2`.
fn read_version(fields: &mut Reader<'_>) -> Result<(), CertificateFault> {
    if !fields.next_is(0xa0) {
        return Err(CertificateFault::NotVersion3);
    }
    match fields.expect(0xa0)?.value {
        [INTEGER, 1, 2] => Ok(()),
        [INTEGER, 1, _] => Err(CertificateFault::NotVersion3),
        _ => Err(CertificateFault::Malformed),
    }
}

fn read_extensions<'a>(fields: &mut Reader<'a>) -> Result<Vec<Extension<'a>>, CertificateFault> {
    if fields.is_empty() {
        return Ok(Vec::new());
    }
    let mut list = der::only(fields.expect(0xa3)?.value, SEQUENCE)?.inside();
    let mut extensions = Vec::with_capacity(18);
    while !list.is_empty() {
        if extensions.len() == EXTENSIONS_MAX {
            return Err(CertificateFault::UnknownExtension);
        }
        extensions.push(read_extension(list.expect(SEQUENCE)?)?);
    }
    Ok(extensions)
}

/// One extension. FALSE is the default of `critical`, so DER never writes it (X.690 section 11.5), and TRUE is 0xFF.
pub(super) fn read_extension(element: Element<'_>) -> Result<Extension<'_>, CertificateFault> {
    let mut parts = element.inside();
    let oid = parts.expect(OID)?.value;
    let critical = parts.next_is(BOOLEAN);
    if critical && parts.expect(BOOLEAN)?.value != [0xff] {
        return Err(CertificateFault::Malformed);
    }
    let value = parts.expect(OCTET_STRING)?.value;
    parts.end()?;
    Ok(Extension { oid, critical, value })
}

fn read_validity(element: Element<'_>) -> Result<(Timestamp, Timestamp), CertificateFault> {
    let mut dates = element.inside();
    let not_before = read_time(dates.any()?).ok_or(CertificateFault::Validity)?;
    let not_after = read_time(dates.any()?).ok_or(CertificateFault::Validity)?;
    dates.end()?;
    if not_before < not_after { Ok((not_before, not_after)) } else { Err(CertificateFault::Validity) }
}

/// UTCTime through 2049, GeneralizedTime from 2050, seconds and Z always (RFC 5280 section 4.1.2.5).
fn read_time(element: Element<'_>) -> Option<Timestamp> {
    let (digits, zone) = element.value.split_last_chunk::<1>()?;
    let fields: Vec<u8> = digits.chunks(2).map(two_digits).collect::<Option<_>>()?;
    let (year, rest) = match (element.tag, fields.as_slice()) {
        (UTC_TIME, [year @ 0..=49, rest @ ..]) => (2000 + i32::from(*year), rest),
        (UTC_TIME, [year, rest @ ..]) => (1900 + i32::from(*year), rest),
        (GENERALIZED_TIME, [century, year, rest @ ..]) => {
            (i32::from(*century) * 100 + i32::from(*year), rest)
        }
        _ => return None,
    };
    if element.tag == GENERALIZED_TIME && year < 2050 {
        return None;
    }
    let [month, day, hour, minute, second] = rest else { return None };
    let date = Date::from_calendar_date(year, Month::try_from(*month).ok()?, *day).ok()?;
    let time = Time::from_hms(*hour, *minute, *second).ok()?;
    (zone == b"Z").then(|| PrimitiveDateTime::new(date, time).assume_utc().into())
}

fn two_digits(pair: &[u8]) -> Option<u8> {
    match pair {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => Some((tens - b'0') * 10 + (ones - b'0')),
        _ => None,
    }
}

/// The only common name of a name that has nothing else.
pub(super) fn common_name(name: &[u8]) -> Option<&str> {
    let mut parts = der::only(name, SEQUENCE).ok()?.inside();
    let text = read_name_part(&mut parts, CN)?;
    parts.end().ok()?;
    Some(text)
}

/// The name of an authority: `OU=<kind>, CN=<authority id>`, so that a leaf tells the kind of its issuer.
pub(super) fn authority_name(name: &[u8]) -> Option<(AuthorityKind, AuthorityId)> {
    let mut parts = der::only(name, SEQUENCE).ok()?.inside();
    let kind = read_name_part(&mut parts, OU)?.parse().ok()?;
    let id = read_name_part(&mut parts, CN)?.parse().ok()?;
    parts.end().ok()?;
    Some((kind, id))
}

/// The name of a root: `OU=ROOT, CN=<root id>`.
pub(super) fn root_name(name: &[u8]) -> Option<RootId> {
    let mut parts = der::only(name, SEQUENCE).ok()?.inside();
    let unit = read_name_part(&mut parts, OU)?;
    let id = read_name_part(&mut parts, CN)?.parse().ok()?;
    parts.end().ok().filter(|()| unit == ROOT_UNIT)?;
    Some(id)
}

fn read_name_part<'a>(parts: &mut Reader<'a>, kind: &[u8]) -> Option<&'a str> {
    let set = parts.expect(SET).ok()?;
    let mut pair = der::only(set.value, SEQUENCE).ok()?.inside();
    if pair.expect(OID).ok()?.value != kind {
        return None;
    }
    let text = pair.expect(UTF8_STRING).ok()?.value;
    pair.end().ok()?;
    std::str::from_utf8(text).ok()
}
