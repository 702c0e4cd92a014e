//! An independent re-read of a certificate against what was intended, before the key is touched.
//!
//! It shares neither the writer (rcgen) nor the strict reader (`cert`): x509-parser reads, and every expected value
//! is derived here again from the intent, so that one mistake in one place cannot pass unseen.

use std::net::IpAddr;

use thiserror::Error;
use x509_parser::prelude::{
    DistributionPointName, FromDer, GeneralName, ParsedExtension, X509Certificate, X509Extension, X509Version,
};

use super::authority::Authority;
use super::key::{Curve, PublicKey};
use super::profile::Profile;
use super::template::{Content, ServerName};
use crate::domain::certificate::{AccessFacts, BLOCK_LEN, Facts, PrincipalKind};
use crate::domain::id::ModelId;

/// The certificate is not the one that was intended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the certificate differs from what was intended: {what}")]
pub struct LintFault {
    /// The part that differs.
    pub what: &'static str,
}

/// What a certificate is meant to be.
#[derive(Debug, Clone, Copy)]
pub struct Intent<'a> {
    /// Who issues it.
    pub authority: &'a Authority,
    /// The profile.
    pub profile: &'a Profile,
    /// The subject's key.
    pub key: &'a PublicKey,
    /// Everything else.
    pub content: &'a Content,
}

/// Reads a certificate and compares every part with the intent; the signature is not looked at.
pub fn lint(der: &[u8], intent: &Intent<'_>) -> Result<(), LintFault> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| LintFault { what: "encoding" })?;
    same("trailing bytes", rest.is_empty())?;
    lint_fields(&certificate, intent)?;
    let extensions = certificate.extensions();
    let count = 5 + attribute_count(&intent.content.facts);
    same("number of extensions", extensions.len() == count)?;
    // x509-parser hands duplicates through.
    for (place, extension) in extensions.iter().enumerate() {
        same(
            "duplicate extension",
            !extensions.iter().skip(place + 1).any(|other| other.oid == extension.oid),
        )?;
        lint_extension(extension, intent)?;
    }
    Ok(())
}

pub(super) const fn same(what: &'static str, holds: bool) -> Result<(), LintFault> {
    if holds { Ok(()) } else { Err(LintFault { what }) }
}

fn lint_fields(certificate: &X509Certificate<'_>, intent: &Intent<'_>) -> Result<(), LintFault> {
    let content = intent.content;
    let subject = match &content.facts {
        Facts::Access(facts) => facts.subject.to_string(),
        Facts::System(facts) => facts.principal.to_string(),
        Facts::Canary(facts) => facts.gateway.to_string(),
    };
    // ecdsa-with-SHA256 and ecdsa-with-SHA384 (RFC 5758 section 3.2).
    let hash = match intent.authority.key().curve() {
        Curve::P256 => [1, 2, 840, 10045, 4, 3, 2],
        Curve::P384 => [1, 2, 840, 10045, 4, 3, 3],
    };
    same("version", certificate.version() == X509Version::V3)?;
    same("serial", certificate.raw_serial() == content.serial.as_bytes())?;
    same("signature algorithms", certificate.signature_algorithm == certificate.signature)?;
    same("signature algorithm", certificate.signature.algorithm.iter().is_some_and(|oid| oid.eq(hash)))?;
    same("issuer", certificate.issuer().as_raw() == intent.authority.name())?;
    let validity = certificate.validity();
    same("notBefore", validity.not_before.timestamp() * 1000 == content.not_before.millis())?;
    same("notAfter", validity.not_after.timestamp() * 1000 == content.not_after.millis())?;
    let mut names = certificate.subject().iter_common_name();
    same("subject", names.next().and_then(|name| name.as_str().ok()) == Some(subject.as_str()))?;
    same("subject", certificate.subject().iter_attributes().count() == 1)?;
    same("public key", certificate.public_key().raw == intent.key.spki())?;
    same("unique identifiers", certificate.issuer_uid.is_none() && certificate.subject_uid.is_none())
}

fn attribute_count(facts: &Facts) -> usize {
    match facts {
        Facts::System(_) | Facts::Canary(_) => 2,
        Facts::Access(facts) => {
            let entity = usize::from(facts.entity.annex_revision.is_some())
                + usize::from(facts.entity.determination.is_some());
            7 + entity + if facts.person.is_some() { 4 } else { 0 }
        }
    }
}

fn lint_extension(extension: &X509Extension<'_>, intent: &Intent<'_>) -> Result<(), LintFault> {
    let is_key_usage = matches!(extension.parsed_extension(), ParsedExtension::KeyUsage(_));
    same("criticality", extension.critical == is_key_usage)?;
    let server = matches!(&intent.content.facts, Facts::System(facts) if facts.kind == PrincipalKind::Server);
    match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => same(
            "authority key identifier",
            id.key_identifier.as_ref().is_some_and(|id| id.0 == intent.authority.key_id())
                && id.authority_cert_issuer.is_none()
                && id.authority_cert_serial.is_none(),
        ),
        ParsedExtension::KeyUsage(usage) => same("key usage", usage.flags == 1),
        ParsedExtension::ExtendedKeyUsage(usage) => same(
            "extended key usage",
            usage.client_auth != server
                && usage.server_auth == server
                && !(usage.any || usage.code_signing || usage.email_protection)
                && !(usage.time_stamping || usage.ocsp_signing)
                && usage.other.is_empty(),
        ),
        ParsedExtension::SubjectAlternativeName(names) => lint_names(&names.general_names, intent),
        ParsedExtension::CRLDistributionPoints(points) => {
            let [point] = points.points.as_slice() else { return same("CRL address", false) };
            let address = match &point.distribution_point {
                Some(DistributionPointName::FullName(names)) => names.as_slice(),
                Some(DistributionPointName::NameRelativeToCRLIssuer(_)) | None => &[],
            };
            let base = intent.profile.crl_base().map(|base| base.as_str()).unwrap_or_default();
            let shard = intent.content.ordinal.0 / BLOCK_LEN;
            let expected = format!("{base}/{}/{shard}.crl", intent.authority.id());
            let named = matches!(address, [GeneralName::URI(address)] if *address == expected);
            same("CRL address", named && point.reasons.is_none() && point.crl_issuer.is_none())
        }
        _ => lint_attribute(extension, intent),
    }
}

fn lint_names(names: &[GeneralName<'_>], intent: &Intent<'_>) -> Result<(), LintFault> {
    let domain = intent.profile.trust_domain();
    let id = match &intent.content.facts {
        Facts::System(facts) => format!("spiffe://{domain}/role/{}/{}", facts.kind, facts.principal),
        Facts::Canary(facts) => format!("spiffe://{domain}/canary/{}/{}", facts.gateway, facts.side),
        Facts::Access(AccessFacts { entity, subject, person: Some(_), .. }) => {
            format!("spiffe://{domain}/entity/{}/person/{subject}", entity.entity)
        }
        Facts::Access(AccessFacts { entity, subject, person: None, .. }) => {
            format!("spiffe://{domain}/entity/{}/workload/{subject}", entity.entity)
        }
    };
    let Some((GeneralName::URI(first), others)) = names.split_first() else {
        return same("SPIFFE ID", false);
    };
    same("SPIFFE ID", *first == id)?;
    same("server names", others.len() == intent.content.names.len())?;
    for (name, intended) in others.iter().zip(&intent.content.names) {
        let holds = match (name, intended) {
            (GeneralName::DNSName(name), ServerName::Dns(intended)) => name == intended,
            (GeneralName::IPAddress(octets), ServerName::Ip(IpAddr::V4(address))) => {
                *octets == address.octets()
            }
            (GeneralName::IPAddress(octets), ServerName::Ip(IpAddr::V6(address))) => {
                *octets == address.octets()
            }
            _ => false,
        };
        same("server names", holds)?;
    }
    Ok(())
}

fn lint_attribute(extension: &X509Extension<'_>, intent: &Intent<'_>) -> Result<(), LintFault> {
    let unknown = LintFault { what: "unknown extension" };
    let arc = intent.profile.arc().numbers();
    let mut oid = extension.oid.iter().ok_or(unknown)?;
    let ours = oid.by_ref().take(arc.len()).eq(arc.iter().copied()) && oid.next() == Some(1);
    let number = oid.next().filter(|_| ours).ok_or(unknown)?;
    same("unknown extension", oid.next().is_none())?;
    let expected = expected_text(number, intent.content).ok_or(unknown)?;
    let (header, text) = extension
        .value
        .len()
        .checked_sub(expected.len())
        .and_then(|at| extension.value.split_at_checked(at))
        .ok_or(LintFault { what: "attribute" })?;
    // One length byte below 128, then two, then three: a list of models may be long.
    let fits = match (header, expected.len()) {
        ([0x0c, n], len @ 0..=0x7f) => usize::from(*n) == len,
        ([0x0c, 0x81, n], len @ 0x80..=0xff) => usize::from(*n) == len,
        ([0x0c, 0x82, high, low], len @ 0x100..) => usize::from(u16::from_be_bytes([*high, *low])) == len,
        _ => false,
    };
    same("attribute", fits && text == expected.as_bytes())
}

/// What attribute `.1.<number>` must say, written out once more from design section 2.
fn expected_text(number: u64, content: &Content) -> Option<String> {
    let facts = match &content.facts {
        Facts::Access(facts) => Some(facts),
        Facts::System(_) | Facts::Canary(_) => None,
    };
    let person = facts.and_then(|facts| facts.person.as_ref());
    match number {
        1 => Some("1".to_owned()),
        2 => Some(facts?.entity.entity.to_string()),
        3 => Some(facts?.entity.class.to_string()),
        4 => Some(facts?.entity.annex_revision?.to_string()),
        5 => Some(facts?.entity.determination.as_ref()?.to_string()),
        6 => facts.map(|_| if person.is_some() { "HUMAN".to_owned() } else { "WORKLOAD".to_owned() }),
        7 => Some(person?.status.to_string()),
        8 => Some(person?.verified_on.to_string()),
        9 => Some(person?.relation.to_string()),
        10 => Some(person?.assurance.to_string()),
        11 => Some(facts?.models.iter().map(ModelId::as_str).collect::<Vec<_>>().join(",")),
        12 => Some(content.ordinal.to_string()),
        13 => Some(format!("{}/{}", facts?.step.lineage, facts?.step.generation)),
        _ => None,
    }
}
