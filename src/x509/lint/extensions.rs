//! The extensions: exactly those of the kind, each with its criticality and its one value.

use x509_parser::prelude::{DistributionPointName, GeneralName, ParsedExtension, X509Extension};

use super::super::ca_certificate::CaCertificate;
use super::super::extension::Attribute;
use super::super::key::PublicKey;
use super::super::profile::CrlBase;
use super::item::{Kind, Subject, id_ce};
use super::{Verdict, must, names};
use crate::domain::certificate::{AuthorityKind, BLOCK_LEN};

/// The standard extensions of a leaf in their order: AKI, SAN, keyUsage, EKU, CRLDP (RFC 5280 section 4.2.1).
const LEAF: &[u8] = &[35, 17, 15, 37, 31];
/// Those of an authority: keyUsage, SKI, basicConstraints.
const AUTHORITY: &[u8] = &[15, 14, 19];
/// Those of a root that another root certified: AKI before them.
const CROSS: &[u8] = &[35, 15, 14, 19];
/// Those of an authority that a root certified: an extended key usage as well.
const SUBORDINATE: &[u8] = &[35, 15, 37, 14, 19];
/// Those that are critical: keyUsage and basicConstraints.
const CRITICAL: &[u8] = &[15, 19];

fn standard(subject: &Subject<'_>) -> &'static [u8] {
    match subject.kind {
        Kind::Authority | Kind::Root => AUTHORITY,
        Kind::Subordinate => SUBORDINATE,
        Kind::Cross => CROSS,
        Kind::Person
        | Kind::Workload
        | Kind::Canary
        | Kind::System
        | Kind::Server
        | Kind::List
        | Kind::RootList => LEAF,
    }
}

pub(super) fn extension_set(subject: &Subject<'_>) -> Verdict {
    let standard = standard(subject);
    if let Some(missing) = standard.iter().find(|number| subject.extension(**number).is_none()) {
        return Err(format!("extension 2.5.29.{missing} is missing"));
    }
    let is_known = |extension: &X509Extension<'_>| match id_ce(extension) {
        Some(number) => standard.contains(&number),
        None => {
            let number = subject.attribute_number(extension).and_then(|number| u8::try_from(number).ok());
            !subject.kind.is_authority() && number.and_then(Attribute::from_number).is_some()
        }
    };
    match subject.certificate.extensions().iter().find(|extension| !is_known(extension)) {
        Some(extension) => Err(format!("extension {} does not belong there", extension.oid)),
        None => Ok(()),
    }
}

pub(super) fn extension_duplicate(subject: &Subject<'_>) -> Verdict {
    // x509-parser hands duplicates through.
    let extensions = subject.certificate.extensions();
    let twice = extensions
        .iter()
        .enumerate()
        .find(|(place, extension)| extensions.iter().skip(place + 1).any(|other| other.oid == extension.oid));
    match twice {
        Some((_, extension)) => Err(format!("extension {} occurs twice", extension.oid)),
        None => Ok(()),
    }
}

pub(super) fn extension_order(subject: &Subject<'_>) -> Verdict {
    let place = |extension: &X509Extension<'_>| match id_ce(extension) {
        Some(number) => standard(subject).iter().position(|known| *known == number).map(|at| at as u64),
        None => subject.attribute_number(extension).map(|number| LEAF.len() as u64 + number),
    };
    let places: Vec<u64> = subject.certificate.extensions().iter().filter_map(place).collect();
    must(places.is_sorted(), "the extensions are not in the order of the format")
}

pub(super) fn extension_critical(subject: &Subject<'_>) -> Verdict {
    for extension in subject.certificate.extensions() {
        let critical = id_ce(extension).is_some_and(|number| CRITICAL.contains(&number));
        if extension.critical != critical {
            let must_be = if critical { "must" } else { "must not" };
            return Err(format!("extension {} {must_be} be critical", extension.oid));
        }
    }
    Ok(())
}

pub(super) fn key_usage(subject: &Subject<'_>) -> Verdict {
    let Some(extension) = subject.extension(15) else { return Ok(()) };
    let (bits, what): (&[u8], _) = if subject.kind.is_authority() {
        (&[0x03, 0x02, 0x01, 0x06], "the key usage is not exactly keyCertSign and cRLSign")
    } else {
        (&[0x03, 0x02, 0x07, 0x80], "the key usage is not exactly digitalSignature")
    };
    must(extension.value == bits, what)
}

pub(super) fn extended_key_usage(subject: &Subject<'_>) -> Verdict {
    exact_usage(subject, subject.kind == Kind::Server)
}

pub(super) fn subordinate_usage(subject: &Subject<'_>) -> Verdict {
    let Some((kind, _)) = names::authority(subject.certificate.subject()) else { return Ok(()) };
    exact_usage(subject, kind == AuthorityKind::System)
}

fn exact_usage(subject: &Subject<'_>, is_server: bool) -> Verdict {
    let Some(extension) = subject.extension(37) else { return Ok(()) };
    let ParsedExtension::ExtendedKeyUsage(usage) = extension.parsed_extension() else {
        return Err("the extended key usage cannot be read".to_owned());
    };
    let others = usage.any
        || usage.code_signing
        || usage.email_protection
        || usage.time_stamping
        || usage.ocsp_signing
        || !usage.other.is_empty();
    let what = if is_server {
        "the extended key usage is not exactly serverAuth"
    } else {
        "the extended key usage is not exactly clientAuth"
    };
    must(usage.client_auth != is_server && usage.server_auth == is_server && !others, what)
}

/// The key identifier of the authority key identifier, when there is nothing else in it.
fn authority_key_id<'a>(subject: &'a Subject<'_>) -> Option<&'a [u8]> {
    match subject.extension(35)?.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id)
            if id.authority_cert_issuer.is_none() && id.authority_cert_serial.is_none() =>
        {
            id.key_identifier.as_ref().map(|id| id.0).filter(|id| id.len() == 20)
        }
        _ => None,
    }
}

pub(super) fn issuer_key_id_form(subject: &Subject<'_>) -> Verdict {
    must(
        subject.extension(35).is_none() || authority_key_id(subject).is_some(),
        "the authority key identifier is not one key identifier of 20 octets",
    )
}

pub(super) fn issuer_key_id(subject: &Subject<'_>, issuer: &CaCertificate) -> Verdict {
    let holds = authority_key_id(subject).is_none_or(|id| id == issuer.key_id());
    must(holds, "the authority key identifier is not the subject key identifier of the authority")
}

/// The only address of the only distribution point.
pub(super) fn crl_address<'a>(subject: &'a Subject<'_>) -> Option<&'a str> {
    let ParsedExtension::CRLDistributionPoints(points) = subject.extension(31)?.parsed_extension() else {
        return None;
    };
    let [point] = points.points.as_slice() else { return None };
    match &point.distribution_point {
        Some(DistributionPointName::FullName(names))
            if point.reasons.is_none() && point.crl_issuer.is_none() =>
        {
            match names.as_slice() {
                [GeneralName::URI(address)] => Some(*address),
                _ => None,
            }
        }
        Some(_) | None => None,
    }
}

pub(super) fn crl_address_form(subject: &Subject<'_>) -> Verdict {
    let base = || crl_address(subject)?.rsplitn(3, '/').last()?.parse::<CrlBase>().ok();
    must(
        subject.extension(31).is_none() || base().is_some(),
        "there is not one distribution point with one http or https address",
    )
}

pub(super) fn crl_address_shard(subject: &Subject<'_>) -> Verdict {
    let (Some(address), Some(ordinal), Some((_, issuer))) = (
        crl_address(subject),
        subject.text(Attribute::Ordinal).and_then(|text| text.parse::<u64>().ok()),
        names::authority(subject.certificate.issuer()),
    ) else {
        return Ok(());
    };
    let path = format!("/{issuer}/{}.crl", ordinal / BLOCK_LEN);
    let base = subject.profile.and_then(|profile| profile.crl_base());
    let holds = match (address.strip_suffix(path.as_str()), base) {
        (Some(found), Some(base)) => found == base.as_str(),
        (found, None) => found.is_some(),
        (None, Some(_)) => false,
    };
    must(holds, "the CRL address is not that of the shard of the ordinal")
}

pub(super) fn authority_constraints(subject: &Subject<'_>) -> Verdict {
    let Some(extension) = subject.extension(19) else { return Ok(()) };
    must(is_constrained(extension, 0), "the basic constraints are not cA TRUE with path length 0")
}

pub(super) fn root_constraints(subject: &Subject<'_>) -> Verdict {
    let Some(extension) = subject.extension(19) else { return Ok(()) };
    must(is_constrained(extension, 2), "the basic constraints are not cA TRUE with path length 2")
}

pub(super) fn cross_constraints(subject: &Subject<'_>) -> Verdict {
    let Some(extension) = subject.extension(19) else { return Ok(()) };
    must(is_constrained(extension, 1), "the basic constraints are not cA TRUE with path length 1")
}

fn is_constrained(extension: &X509Extension<'_>, path_len: u32) -> bool {
    match extension.parsed_extension() {
        ParsedExtension::BasicConstraints(constraints) => {
            constraints.ca && constraints.path_len_constraint == Some(path_len)
        }
        _ => false,
    }
}

pub(super) fn authority_key_identifier(subject: &Subject<'_>) -> Verdict {
    let (Some(extension), Ok(key)) =
        (subject.extension(14), PublicKey::from_spki(subject.certificate.public_key().raw))
    else {
        return Ok(());
    };
    let fits = match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => id.0 == key.identifier(),
        _ => false,
    };
    must(fits, "the subject key identifier is not the first 160 bits of SHA-256 of the point")
}
