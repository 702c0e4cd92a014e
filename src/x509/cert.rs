//! From the DER of a leaf to the facts it states, strictly: whatever parses has exactly one encoding.
//!
//! We own the authority, so everything the template does not write is refused, each deviation with its own reason
//! (`fault`). No signature is verified and no time is compared here: `chain` does both, apart, because facts are
//! cached and time is checked on every call.

use std::net::IpAddr;

use super::der::{self, Reader, SEQUENCE};
use super::extension::{Attribute, Texts};
use super::fault::CertificateFault;
use super::key::{self, Curve};
use super::outline::{Extension, Outline, authority_name, common_name};
use super::profile::{CrlBase, Profile, access_path, canary_path, crl_path, system_path};
use super::template::{SERVER_NAMES_MAX, SYSTEM_TTL_MAX_S, ServerName};
use crate::domain::certificate::{
    AuthorityKind, BACKDATE_S, CanaryFacts, Facts, PrincipalKind, Serial, SystemFacts, TTL_MAX_S,
};
use crate::domain::id::{AuthorityId, Ordinal};
use crate::domain::time::Timestamp;

/// The BIT STRING digitalSignature (RFC 5280 section 4.2.1.3).
const DIGITAL_SIGNATURE: &[u8] = &[0x03, 0x02, 0x07, 0x80];
/// The list with id-kp-clientAuth alone (RFC 5280 section 4.2.1.12).
pub(super) const CLIENT_AUTH: &[u8] =
    &[0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
/// The list with id-kp-serverAuth alone.
pub(super) const SERVER_AUTH: &[u8] =
    &[0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
/// GeneralName dNSName (tag 2), uniformResourceIdentifier (6) and iPAddress (7) (RFC 5280 section 4.2.1.6).
const DNS_NAME: u8 = 0x82;
const URI: u8 = 0x86;
const IP_ADDRESS: u8 = 0x87;
/// id-ce-basicConstraints: no leaf has it, and with it a leaf could be an authority.
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];

/// A leaf that was parsed strictly and whose signature nobody has verified. Nothing may be decided on it.
#[derive(Debug)]
pub struct Unverified<'a> {
    outline: Outline<'a>,
    kind: AuthorityKind,
    issuer: AuthorityId,
    issuer_key_id: &'a [u8],
    ordinal: Ordinal,
    facts: Facts,
    names: Vec<ServerName>,
}

impl<'a> Unverified<'a> {
    /// The whole certificate.
    pub const fn der(&self) -> &'a [u8] {
        self.outline.der
    }

    /// The part that is signed.
    pub const fn tbs(&self) -> &'a [u8] {
        self.outline.tbs
    }

    /// The signature, a DER ECDSA-Sig-Value (RFC 3279 section 2.2.3).
    pub const fn signature(&self) -> &'a [u8] {
        self.outline.signature
    }

    /// The curve and hash that the signature claims.
    pub const fn algorithm(&self) -> Curve {
        self.outline.algorithm
    }

    /// The authority that the issuer's name claims.
    pub const fn issuer(&self) -> AuthorityId {
        self.issuer
    }

    /// The kind of authority that the issuer's name claims.
    pub const fn issuer_kind(&self) -> AuthorityKind {
        self.kind
    }

    /// The DER of the issuer's name.
    pub const fn issuer_name(&self) -> &'a [u8] {
        self.outline.issuer
    }

    /// The 20 bytes of the authority key identifier.
    pub const fn issuer_key_id(&self) -> &'a [u8] {
        self.issuer_key_id
    }

    /// The serial number.
    pub const fn serial(&self) -> Serial {
        self.outline.serial
    }

    /// Attribute .1.12.
    pub const fn ordinal(&self) -> Ordinal {
        self.ordinal
    }

    /// The first instant of validity.
    pub const fn not_before(&self) -> Timestamp {
        self.outline.not_before
    }

    /// The last instant of validity.
    pub const fn not_after(&self) -> Timestamp {
        self.outline.not_after
    }

    /// The SubjectPublicKeyInfo, DER.
    pub const fn spki(&self) -> &'a [u8] {
        self.outline.spki
    }

    /// What it claims to state.
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The DNS names and addresses of a server's leaf; empty for all others.
    pub fn names(&self) -> &[ServerName] {
        &self.names
    }

    pub(super) fn into_facts(self) -> Facts {
        self.facts
    }
}

/// The part that is signed and the signature, of a certificate whose signed part was parsed before.
pub fn halves(der: &[u8]) -> Result<(&[u8], &[u8]), CertificateFault> {
    let outline = Outline::read(der)?;
    Ok((outline.tbs, outline.signature))
}

/// Parses a leaf of either authority. Never panics, whatever the bytes.
pub fn parse<'a>(der: &'a [u8], profile: &Profile) -> Result<Unverified<'a>, CertificateFault> {
    let outline = Outline::read(der)?;
    let (kind, issuer) = authority_name(outline.issuer).ok_or(CertificateFault::IssuerName)?;
    check_version(&outline.extensions, profile)?;
    if outline.extensions.iter().any(|extension| extension.oid == BASIC_CONSTRAINTS) {
        return Err(CertificateFault::Authority);
    }
    check_lifetime(&outline, kind)?;
    let subject = common_name(outline.subject).ok_or(CertificateFault::Subject)?;
    key::curve_of_spki(outline.spki).map_err(|_| CertificateFault::PublicKey)?;
    if !profile.algorithms().accepts(outline.spki) {
        return Err(CertificateFault::PublicKey);
    }

    let (standard, texts) = sort(&outline.extensions, profile)?;
    texts.check_version()?;
    let ordinal = texts.ordinal()?;
    let issuer_key_id = read_key_id(standard.authority_key_id)?;
    if standard.key_usage != DIGITAL_SIGNATURE {
        return Err(CertificateFault::KeyUsage);
    }
    let mut names = Reader::new(der::only(standard.alternative_name, SEQUENCE)?.value);
    let path = read_spiffe_path(&mut names, profile)?;
    let facts = match kind {
        AuthorityKind::Access if path.starts_with("canary/") => canary_facts(&texts, subject, path)?,
        AuthorityKind::Access => access_facts(&texts, subject, path)?,
        AuthorityKind::System => system_facts(&texts, subject, path)?,
    };
    let names = read_server_names(names, &facts)?;
    if standard.extended_key_usage != extended_key_usage(&facts) {
        return Err(CertificateFault::ExtendedKeyUsage);
    }
    check_distribution_point(standard.distribution_point, profile, &issuer, ordinal)?;
    Ok(Unverified { outline, kind, issuer, issuer_key_id, ordinal, facts, names })
}

/// The values of the five standard extensions.
struct Standard<'a> {
    authority_key_id: &'a [u8],
    alternative_name: &'a [u8],
    key_usage: &'a [u8],
    extended_key_usage: &'a [u8],
    distribution_point: &'a [u8],
}

/// The standard extensions of a leaf, in the order of the format: the last byte of id-ce, and criticality.
/// AKI 35, SAN 17, keyUsage 15, EKU 37, CRLDP 31 (RFC 5280 section 4.2.1).
const STANDARD: [(u8, bool); 5] = [(35, false), (17, false), (15, true), (37, false), (31, false)];

/// Sorts the extensions into the standard five and our attributes; whatever is neither is refused, whether it is
/// critical or not. x509-parser hands duplicates through, webpki unknown ones; so this is ours.
fn sort<'a>(
    extensions: &[Extension<'a>],
    profile: &Profile,
) -> Result<(Standard<'a>, Texts<'a>), CertificateFault> {
    let mut standard: [Option<&'a [u8]>; 5] = [None; 5];
    let mut texts = Texts::default();
    let mut last_place = 0;
    let mut ordered = true;
    for extension in extensions {
        let (place, critical) = match *extension.oid {
            [0x55, 0x1d, number] => {
                let place = STANDARD.iter().position(|(known, _)| *known == number);
                let place = place.ok_or(CertificateFault::UnknownExtension)?;
                let slot = standard.get_mut(place).ok_or(CertificateFault::UnknownExtension)?;
                if slot.replace(extension.value).is_some() {
                    return Err(CertificateFault::DuplicateExtension);
                }
                (place + 1, STANDARD.get(place).is_some_and(|(_, critical)| *critical))
            }
            _ => {
                let number =
                    profile.attribute_number(extension.oid).ok_or(CertificateFault::UnknownExtension)?;
                let attribute =
                    Attribute::from_number(number).ok_or(CertificateFault::UnknownAttribute(number))?;
                texts.insert(attribute, extension.value)?;
                (STANDARD.len() + usize::from(number), false)
            }
        };
        if extension.critical != critical {
            return Err(CertificateFault::Criticality);
        }
        ordered &= last_place < place;
        last_place = place;
    }
    let [Some(authority_key_id), Some(alternative_name), Some(key_usage), Some(eku), Some(crl)] = standard
    else {
        return Err(CertificateFault::MissingExtension);
    };
    if !ordered {
        return Err(CertificateFault::ExtensionOrder);
    }
    let standard = Standard {
        authority_key_id,
        alternative_name,
        key_usage,
        extended_key_usage: eku,
        distribution_point: crl,
    };
    Ok((standard, texts))
}

/// A later version may have other attributes, so its number is looked at before all that this version would refuse.
/// Whether the attribute is there, once, and well formed is judged with the others.
fn check_version(extensions: &[Extension<'_>], profile: &Profile) -> Result<(), CertificateFault> {
    let number = Attribute::FormatVersion.number();
    let version = extensions.iter().find(|extension| profile.attribute_number(extension.oid) == Some(number));
    let mut texts = Texts::default();
    match version {
        Some(version) if texts.insert(Attribute::FormatVersion, version.value).is_ok() => {
            texts.check_version()
        }
        Some(_) | None => Ok(()),
    }
}

/// No leaf lives longer than its kind may, whoever signed it.
fn check_lifetime(outline: &Outline<'_>, kind: AuthorityKind) -> Result<(), CertificateFault> {
    let ttl_s = match kind {
        AuthorityKind::Access => TTL_MAX_S,
        AuthorityKind::System => SYSTEM_TTL_MAX_S,
    };
    let life_s = outline.not_after.seconds() - outline.not_before.seconds();
    if life_s > i64::from(ttl_s) + i64::from(BACKDATE_S) {
        return Err(CertificateFault::Lifetime);
    }
    Ok(())
}

/// `SEQUENCE { [0] keyIdentifier }` (RFC 5280 section 4.2.1.1), 20 bytes.
fn read_key_id(value: &[u8]) -> Result<&[u8], CertificateFault> {
    match value {
        [SEQUENCE, 22, 0x80, 20, id @ ..] if id.len() == 20 => Ok(id),
        _ => Err(CertificateFault::AuthorityKeyIdentifier),
    }
}

/// The first name must be a SPIFFE ID of the trust domain; its path is compared with what the attributes say.
fn read_spiffe_path<'a>(names: &mut Reader<'a>, profile: &Profile) -> Result<&'a str, CertificateFault> {
    let name = names.expect(URI).map_err(|_| CertificateFault::AlternativeName)?;
    let uri = std::str::from_utf8(name.value).map_err(|_| CertificateFault::AlternativeName)?;
    let id = uri.strip_prefix("spiffe://").ok_or(CertificateFault::AlternativeName)?;
    let (trust_domain, path) = id.split_once('/').ok_or(CertificateFault::AlternativeName)?;
    if trust_domain == profile.trust_domain().as_str() {
        Ok(path)
    } else {
        Err(CertificateFault::TrustDomain)
    }
}

fn access_facts(texts: &Texts<'_>, subject: &str, path: &str) -> Result<Facts, CertificateFault> {
    let facts = texts.access_facts(subject.parse().map_err(|_| CertificateFault::Subject)?)?;
    if path != access_path(&facts) {
        return Err(CertificateFault::SubjectMismatch);
    }
    Ok(Facts::Access(facts))
}

/// A canary states nothing but whose it is.
fn canary_facts(texts: &Texts<'_>, subject: &str, path: &str) -> Result<Facts, CertificateFault> {
    texts.check_system()?;
    let gateway = subject.parse().map_err(|_| CertificateFault::Subject)?;
    let side = path.rsplit('/').next().and_then(|word| word.parse().ok());
    let facts = CanaryFacts { gateway, side: side.ok_or(CertificateFault::AlternativeName)? };
    if path != canary_path(&facts) {
        return Err(CertificateFault::SubjectMismatch);
    }
    Ok(Facts::Canary(facts))
}

fn system_facts(texts: &Texts<'_>, subject: &str, path: &str) -> Result<Facts, CertificateFault> {
    texts.check_system()?;
    let principal = subject.parse().map_err(|_| CertificateFault::Subject)?;
    let role = path.strip_prefix("role/").and_then(|rest| rest.split('/').next());
    let kind =
        role.and_then(|word| word.parse::<PrincipalKind>().ok()).ok_or(CertificateFault::AlternativeName)?;
    let facts = SystemFacts { kind, principal };
    if path != system_path(&facts) {
        return Err(CertificateFault::SubjectMismatch);
    }
    Ok(Facts::System(facts))
}

/// Only the server's own leaf has names beside its SPIFFE ID: DNS names first, then addresses.
fn read_server_names(mut list: Reader<'_>, facts: &Facts) -> Result<Vec<ServerName>, CertificateFault> {
    let wrong = CertificateFault::AlternativeName;
    let mut names: Vec<ServerName> = Vec::new();
    while !list.is_empty() {
        let element = list.any()?;
        let name = match (element.tag, element.value) {
            (DNS_NAME, text) => ServerName::dns(std::str::from_utf8(text).map_err(|_| wrong)?),
            (IP_ADDRESS, octets) => read_address(octets).map(ServerName::Ip),
            _ => None,
        };
        names.push(name.ok_or(wrong)?);
        if names.len() > SERVER_NAMES_MAX {
            return Err(wrong);
        }
    }
    let is_server = matches!(facts, Facts::System(SystemFacts { kind: PrincipalKind::Server, .. }));
    if is_server == names.is_empty() || !names.is_sorted_by(|a, b| a < b) {
        return Err(wrong);
    }
    Ok(names)
}

fn read_address(octets: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(octets)
        .map(IpAddr::from)
        .ok()
        .or_else(|| <[u8; 16]>::try_from(octets).map(IpAddr::from).ok())
}

/// The server authenticates as a server and nobody else does.
const fn extended_key_usage(facts: &Facts) -> &'static [u8] {
    match facts {
        Facts::System(SystemFacts { kind: PrincipalKind::Server, .. }) => SERVER_AUTH,
        Facts::System(_) | Facts::Access(_) | Facts::Canary(_) => CLIENT_AUTH,
    }
}

/// One distribution point with one URI (RFC 5280 section 4.2.1.13), the shard of the ordinal.
fn check_distribution_point(
    value: &[u8],
    profile: &Profile,
    issuer: &AuthorityId,
    ordinal: Ordinal,
) -> Result<(), CertificateFault> {
    let address = distribution_address(value).map_err(|_| CertificateFault::DistributionPoint)?;
    let base = address.strip_suffix(crl_path(issuer, ordinal).as_str());
    let ours = match (base, profile.crl_base()) {
        (Some(base), Some(expected)) => base == expected.as_str(),
        (Some(base), None) => base.parse::<CrlBase>().is_ok(),
        (None, _) => false,
    };
    if ours { Ok(()) } else { Err(CertificateFault::DistributionPoint) }
}

fn distribution_address(value: &[u8]) -> Result<&str, der::NotDer> {
    let point = der::only(der::only(value, SEQUENCE)?.value, SEQUENCE)?;
    let full_name = der::only(der::only(point.value, 0xa0)?.value, 0xa0)?;
    std::str::from_utf8(der::only(full_name.value, URI)?.value).map_err(|_| der::NotDer)
}
