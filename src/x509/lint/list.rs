//! Certificate revocation lists (RFC 5280 section 5).

use std::collections::BTreeSet;

use x509_parser::prelude::{
    ASN1Time, DistributionPointName, GeneralName, IssuingDistributionPoint, ParsedExtension, X509Extension,
    X509Version,
};

use super::super::ca_certificate::CaCertificate;
use super::super::crl::CrlContent;
use super::super::der::{INTEGER, Reader, SEQUENCE};
use super::super::root::ROOT_LIST_LIFE_MAX_S;
use super::fields::{curve_of, is_serial};
use super::item::{List, id_ce};
use super::{Verdict, must, names};
use crate::domain::certificate::BACKDATE_S;

/// AKI, CRL number, issuing distribution point (RFC 5280 sections 5.2.1, 5.2.3 and 5.2.5).
const AUTHORITY_KEY_ID: u8 = 35;
const NUMBER: u8 = 20;
const DISTRIBUTION_POINT: u8 = 28;
/// The most octets of a number (RFC 5280 section 5.2.3).
const NUMBER_LEN_MAX: usize = 20;

fn extension<'a>(list: &'a List<'_>, number: u8) -> Option<&'a X509Extension<'a>> {
    list.list.extensions().iter().find(|extension| id_ce(extension) == Some(number))
}

pub(super) fn version(list: &List<'_>) -> Verdict {
    must(list.list.version() == Some(X509Version::V2), "it is not version 2")
}

pub(super) fn signature_algorithm(list: &List<'_>) -> Verdict {
    let is_same = algorithms(list).is_some_and(|[signed, outer]| signed == outer);
    must(
        is_same && curve_of(&list.list.tbs_cert_list.signature).is_some(),
        "the signature algorithms differ, or are not ECDSA with SHA-256 or SHA-384 without parameters",
    )
}

/// The signed signature algorithm and the outer one, as they are encoded: x509-parser reads an OID under other tags, too.
fn algorithms<'a>(list: &List<'a>) -> Option<[&'a [u8]; 2]> {
    let mut parts = Reader::new(list.der).expect(SEQUENCE).ok()?.inside();
    let mut fields = parts.expect(SEQUENCE).ok()?.inside();
    if fields.next_is(INTEGER) {
        fields.any().ok()?;
    }
    Some([fields.expect(SEQUENCE).ok()?.raw, parts.expect(SEQUENCE).ok()?.raw])
}

pub(super) fn issuer_form(list: &List<'_>) -> Verdict {
    let name = &list.list.tbs_cert_list.issuer;
    must(names::authority(name).is_some(), "the issuer is not named like an authority of this service")
}

pub(super) fn validity(list: &List<'_>) -> Verdict {
    let next = list.list.next_update();
    must(
        next.is_some_and(|next| list.list.last_update() < next),
        "there is no nextUpdate, or it is not after thisUpdate",
    )
}

pub(super) fn extensions(list: &List<'_>) -> Verdict {
    let found: Vec<_> =
        list.list.extensions().iter().map(|extension| (id_ce(extension), extension.critical)).collect();
    let ours = [(Some(AUTHORITY_KEY_ID), false), (Some(NUMBER), false), (Some(DISTRIBUTION_POINT), true)];
    let once: BTreeSet<_> = found.iter().collect();
    let fits = once.len() == found.len()
        && found.iter().all(|extension| ours.contains(extension))
        && ours.iter().take(2).all(|needed| found.contains(needed));
    must(
        fits,
        "the extensions are not authority key identifier, CRL number and perhaps a critical issuing distribution point",
    )
}

/// A list of a root covers everything that it certified: a consumer that sees another scope would not believe it for this.
pub(super) fn root_extensions(list: &List<'_>) -> Verdict {
    let mut found: Vec<_> =
        list.list.extensions().iter().map(|extension| (id_ce(extension), extension.critical)).collect();
    found.sort_unstable();
    must(
        found == [(Some(NUMBER), false), (Some(AUTHORITY_KEY_ID), false)],
        "the extensions are not authority key identifier and CRL number",
    )
}

pub(super) fn root_life(list: &List<'_>) -> Verdict {
    let life_s = list.list.next_update().map(|next| next.timestamp() - list.list.last_update().timestamp());
    must(
        life_s.is_none_or(|life_s| life_s <= ROOT_LIST_LIFE_MAX_S + i64::from(BACKDATE_S)),
        "it is valid for more than two years",
    )
}

/// The octets of the number, without leading zeros.
fn number(list: &List<'_>) -> Option<Vec<u8>> {
    match extension(list, NUMBER)?.parsed_extension() {
        ParsedExtension::CRLNumber(number) => Some(number.to_bytes_be()),
        _ => None,
    }
}

pub(super) fn number_form(list: &List<'_>) -> Verdict {
    // The sign would be the first bit of a value of 20 octets.
    let value_len = extension(list, NUMBER).map(|extension| extension.value.len());
    let fits = value_len.is_none_or(|len| (3..=2 + NUMBER_LEN_MAX).contains(&len)) && !is_negative(list);
    must(
        fits && (value_len.is_none() || number(list).is_some()),
        "the CRL number is not 0 or more in 20 octets",
    )
}

fn is_negative(list: &List<'_>) -> bool {
    matches!(extension(list, NUMBER).map(|extension| extension.value), Some([_, _, 0x80..=0xff, ..]))
}

/// The issuing distribution point, when there is one: its only address.
fn point<'a>(list: &'a List<'_>) -> Option<(&'a IssuingDistributionPoint<'a>, Option<&'a str>)> {
    let ParsedExtension::IssuingDistributionPoint(point) =
        extension(list, DISTRIBUTION_POINT)?.parsed_extension()
    else {
        return None;
    };
    let address = match &point.distribution_point {
        Some(DistributionPointName::FullName(names)) => match names.as_slice() {
            [GeneralName::URI(address)] => Some(*address),
            _ => None,
        },
        Some(DistributionPointName::NameRelativeToCRLIssuer(_)) | None => None,
    };
    Some((point, address))
}

pub(super) fn distribution_point(list: &List<'_>) -> Verdict {
    if extension(list, DISTRIBUTION_POINT).is_none() {
        return Ok(());
    }
    let fits = point(list).is_some_and(|(point, address)| {
        address.is_some()
            && point.only_contains_user_certs
            && !point.only_contains_ca_certs
            && !point.only_contains_attribute_certs
            && !point.indirect_crl
            && point.only_some_reasons.is_none()
    });
    must(fits, "the issuing distribution point is not one address for user certificates and all reasons")
}

pub(super) fn entries(list: &List<'_>) -> Verdict {
    let mut seen = BTreeSet::new();
    for entry in list.list.iter_revoked_certificates() {
        must(is_serial(entry.raw_serial()), "it names a serial that this service does not give")?;
        must(seen.insert(entry.raw_serial()), "it names a serial twice")?;
        let known = |extension: &X509Extension<'_>| id_ce(extension) == Some(21) && !extension.critical;
        must(entry.extensions().iter().all(known), "an entry has an extension beside its reason")?;
        // RFC 5280 section 5.3.1: 7 is not used, 8 removes and is for delta lists, 10 is for attribute certificates.
        let reason = entry.reason_code().map(|(_, code)| code.0);
        must(
            reason.is_none_or(|code| matches!(code, 0..=6 | 9)),
            "an entry has a reason that is not one of ours",
        )?;
    }
    Ok(())
}

pub(super) fn reason(list: &List<'_>) -> Verdict {
    let is_unspecified = |code: u8| code == 0;
    let said = list.list.iter_revoked_certificates().filter_map(|entry| entry.reason_code());
    must(
        !said.into_iter().any(|(_, code)| is_unspecified(code.0)),
        "the reason unspecified is written out, and should be absent",
    )
}

pub(super) fn issuer(list: &List<'_>, authority: &CaCertificate) -> Verdict {
    must(list.list.issuer().as_raw() == authority.name(), "the issuer is not the authority")?;
    must(
        curve_of(&list.list.signature_algorithm) == Some(authority.key().curve()),
        "the signature algorithm is not that of the authority's key",
    )?;
    let fits = match extension(list, AUTHORITY_KEY_ID).map(X509Extension::parsed_extension) {
        Some(ParsedExtension::AuthorityKeyIdentifier(id)) => {
            id.key_identifier.as_ref().is_some_and(|id| id.0 == authority.key_id())
        }
        _ => false,
    };
    must(fits, "the authority key identifier is not the subject key identifier of the authority")
}

pub(super) fn signature(list: &List<'_>, authority: &CaCertificate) -> Verdict {
    let verifies = curve_of(&list.list.signature_algorithm).is_some_and(|curve| {
        authority.verifies(curve, list.list.tbs_cert_list.as_ref(), &list.list.signature_value.data)
    });
    must(verifies, "the signature is not the authority's")
}

pub(super) fn record(list: &List<'_>, content: &CrlContent) -> Verdict {
    let millis = |at: ASN1Time| at.timestamp().saturating_mul(1_000);
    let dates = millis(list.list.last_update()) == content.this_update.millis()
        && list.list.next_update().map(millis) == Some(content.next_update.millis());
    must(dates, "the dates are not those that were meant")?;
    let meant = content.number.as_bytes();
    let digits = meant.iter().position(|octet| *octet != 0).and_then(|at| meant.get(at..)).unwrap_or(&[0]);
    must(number(list).as_deref() == Some(digits), "the number is not the one that was meant")?;
    let address = point(list).and_then(|(_, address)| address);
    must(address == content.address.as_deref(), "the address is not the one that was meant")?;
    let read = list.list.iter_revoked_certificates();
    must(read.count() == content.entries.len(), "the entries are not as many as were meant")?;
    for (read, entry) in list.list.iter_revoked_certificates().zip(&content.entries) {
        let same = read.raw_serial() == entry.serial.as_bytes()
            && read.revocation_date.timestamp() == entry.at.seconds()
            && read.reason_code().map(|(_, code)| code.0) == entry.reason.number();
        must(same, "an entry is not the one that was meant")?;
    }
    Ok(())
}
