//! The one place where certificates are written. Everything but the public key comes from our records.
//!
//! A template gives a draft: the certificate, or the revocation list, with a worthless signature. The part to be signed in it is final, so a
//! draft can be linted and journaled before the authority's key is touched. rcgen writes the DER; serial and dates
//! are always set, because its defaults are not ours.

use std::fmt;
use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
    CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyUsagePurpose,
    SanType, SerialNumber,
};
use thiserror::Error;

use super::authority::{AUTHORITY_PATH_LEN, Authority};
use super::der::{self, BIT_STRING, SEQUENCE};
use super::extension::{self, MODELS_MAX};
use super::key::{Curve, PublicKey};
use super::profile::Profile;
use crate::domain::certificate::{AuthorityKind, Facts, PrincipalKind, Serial, SystemFacts};
use crate::domain::id::{AuthorityId, Ordinal};
use crate::domain::time::Timestamp;

/// The longest life of a leaf of the system authority: 90 days, for officers who are not online every week.
pub const SYSTEM_TTL_MAX_S: u32 = 90 * 86_400;
/// The most DNS names and addresses of the server's own leaf: what fits well below 4 KiB.
pub const SERVER_NAMES_MAX: usize = 32;
/// The longest DNS name (RFC 1035 section 2.3.4, without its dot at the end); a label has up to 63.
const DNS_NAME_LEN_MAX: usize = 253;

/// Why a certificate cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TemplateFault {
    /// The facts are not of the kind that this authority issues.
    #[error("the authority does not issue this kind of certificate")]
    AuthorityKind,
    /// The profile has no CRL base.
    #[error("no CRL base is configured")]
    NoCrlBase,
    /// The dates have parts of seconds, are reversed or before 1970.
    #[error("the validity is not in whole seconds, or its end is not after its start")]
    Validity,
    /// The models are none, too many, unsorted or repeated.
    #[error("the models are not 1 to 32 in ascending order without repeats")]
    Models,
    /// A server without names, another with names, or names unsorted or too many.
    #[error("a server's leaf has 1 to 32 names in ascending order, and no other leaf has any")]
    ServerNames,
    /// The encoder refused.
    #[error("the certificate cannot be encoded")]
    Encoding,
}

/// A name beside the SPIFFE ID in the server's leaf. DNS names sort before addresses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServerName {
    /// A DNS name: lower case, no dot at its end, no wildcard.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

impl ServerName {
    /// A DNS name in its one spelling, or `None`.
    pub fn dns(text: &str) -> Option<Self> {
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        (text.len() <= DNS_NAME_LEN_MAX && text.split('.').all(label)).then(|| Self::Dns(text.to_owned()))
    }
}

/// Everything in a leaf but its key and its issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Serial number.
    pub serial: Serial,
    /// Attribute .1.12.
    pub ordinal: Ordinal,
    /// First instant of validity, whole seconds.
    pub not_before: Timestamp,
    /// Last instant of validity, whole seconds.
    pub not_after: Timestamp,
    /// What the certificate states.
    pub facts: Facts,
    /// The names of the server's own leaf, ascending; empty for all others.
    pub names: Vec<ServerName>,
}

/// What an authority's own certificate says beside its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthorityContent {
    /// Its id, the common name.
    pub id: AuthorityId,
    /// Its kind, the organizational unit.
    pub kind: AuthorityKind,
    /// Serial number.
    pub serial: Serial,
    /// First instant of validity, whole seconds.
    pub not_before: Timestamp,
    /// Last instant of validity, whole seconds.
    pub not_after: Timestamp,
}

/// A certificate or a revocation list whose signed part is final and whose signature is worthless.
#[derive(Debug, PartialEq, Eq)]
pub struct Draft {
    der: Vec<u8>,
    tbs: Vec<u8>,
}

impl Draft {
    /// All of it with the worthless signature: parses like a real one, verifies under no key.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The part to be signed.
    pub fn tbs(&self) -> &[u8] {
        &self.tbs
    }

    /// The part to be signed, kept.
    pub fn into_tbs(self) -> Vec<u8> {
        self.tbs
    }

    pub(super) fn from_der(der: Vec<u8>) -> Result<Self, TemplateFault> {
        let certificate = der::only(&der, SEQUENCE).map_err(|_| TemplateFault::Encoding)?;
        let tbs = certificate.inside().expect(SEQUENCE).map_err(|_| TemplateFault::Encoding)?.raw.to_vec();
        Ok(Self { der, tbs })
    }
}

/// Writes the leaves of one authority.
pub struct Template {
    authority: Authority,
    profile: Profile,
    issuer: rcgen::Issuer<'static, Worthless>,
}

impl Template {
    /// The template of an authority.
    pub fn new(authority: Authority, profile: Profile) -> Self {
        let name = authority_name(authority.kind(), authority.id());
        let issuer = writer(name, authority.key(), *authority.key_id());
        Self { authority, profile, issuer }
    }

    /// The authority.
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The profile.
    pub const fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Writes a leaf for a key.
    pub fn draft(&self, key: &PublicKey, content: &Content) -> Result<Draft, TemplateFault> {
        self.draft_of(key, &self.params(content)?)
    }

    pub(super) fn draft_of(
        &self,
        key: &PublicKey,
        params: &CertificateParams,
    ) -> Result<Draft, TemplateFault> {
        let certificate = params.signed_by(key, &self.issuer).map_err(|_| TemplateFault::Encoding)?;
        Draft::from_der(certificate.der().to_vec())
    }

    pub(super) fn list_of(&self, params: &CertificateRevocationListParams) -> Result<Draft, TemplateFault> {
        let list = params.signed_by(&self.issuer).map_err(|_| TemplateFault::Encoding)?;
        Draft::from_der(list.der().to_vec())
    }

    /// rcgen writes AKI, SAN, keyUsage, EKU, CRLDP and the custom extensions in this order, whatever the order
    /// here; with NoCa it adds nothing else. `cert` insists on that order.
    pub(super) fn params(&self, content: &Content) -> Result<CertificateParams, TemplateFault> {
        self.check(content)?;
        let crl = self.profile.crl_address(&self.authority.id(), content.ordinal);
        let (subject, usage) = match &content.facts {
            Facts::Access(facts) => (facts.subject.to_string(), ExtendedKeyUsagePurpose::ClientAuth),
            Facts::System(facts) => (facts.principal.to_string(), usage_of(facts.kind)),
            Facts::Canary(facts) => (facts.gateway.to_string(), ExtendedKeyUsagePurpose::ClientAuth),
        };
        let mut params = CertificateParams::default();
        params.not_before = content.not_before.to_offset();
        params.not_after = content.not_after.to_offset();
        params.serial_number = Some(SerialNumber::from_slice(content.serial.as_bytes()));
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, subject);
        params.is_ca = IsCa::NoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.subject_alt_names = self.alternative_names(content)?;
        params.crl_distribution_points =
            vec![CrlDistributionPoint { uris: vec![crl.ok_or(TemplateFault::NoCrlBase)?] }];
        params.custom_extensions = extension::values(content.ordinal, &content.facts)
            .into_iter()
            .map(|(attribute, text)| {
                let oid = self.profile.arc().attribute(attribute.number());
                CustomExtension::from_oid_content(&oid, extension::encode(&text))
            })
            .collect();
        Ok(params)
    }

    fn alternative_names(&self, content: &Content) -> Result<Vec<SanType>, TemplateFault> {
        let ia5 = |text: &str| text.to_owned().try_into().map_err(|_| TemplateFault::Encoding);
        let mut names = vec![SanType::URI(ia5(&self.profile.spiffe_id(&content.facts))?)];
        for name in &content.names {
            names.push(match name {
                ServerName::Dns(name) => SanType::DnsName(ia5(name)?),
                ServerName::Ip(address) => SanType::IpAddress(*address),
            });
        }
        Ok(names)
    }

    fn check(&self, content: &Content) -> Result<(), TemplateFault> {
        check_validity(content.not_before, content.not_after)?;
        let ascending_names = content.names.is_sorted_by(|a, b| a < b);
        match (&content.facts, self.authority.kind()) {
            (Facts::Access(facts), AuthorityKind::Access) => {
                if !(1..=MODELS_MAX).contains(&facts.models.len()) || !facts.models.is_sorted_by(|a, b| a < b)
                {
                    return Err(TemplateFault::Models);
                }
                if content.names.is_empty() { Ok(()) } else { Err(TemplateFault::ServerNames) }
            }
            (Facts::System(SystemFacts { kind, .. }), AuthorityKind::System) => {
                let expected = match kind {
                    PrincipalKind::Server => 1..=SERVER_NAMES_MAX,
                    PrincipalKind::Officer | PrincipalKind::Gateway | PrincipalKind::Partner => 0..=0,
                };
                let fits = expected.contains(&content.names.len()) && ascending_names;
                if fits { Ok(()) } else { Err(TemplateFault::ServerNames) }
            }
            (Facts::Canary(_), AuthorityKind::Access) => {
                if content.names.is_empty() {
                    Ok(())
                } else {
                    Err(TemplateFault::ServerNames)
                }
            }
            (Facts::Access(_) | Facts::Canary(_), AuthorityKind::System)
            | (Facts::System(_), AuthorityKind::Access) => Err(TemplateFault::AuthorityKind),
        }
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Template({:?})", self.authority)
    }
}

/// Writes the self-signed certificate of an authority.
pub fn authority_draft(key: &PublicKey, content: &AuthorityContent) -> Result<Draft, TemplateFault> {
    let name = authority_name(content.kind, content.id);
    let form = CaContent { name, path_len: AUTHORITY_PATH_LEN, usage: None };
    let dates = (content.not_before, content.not_after);
    self_signed(key, &form, content.serial, dates)
}

/// Who a certification authority is, how far it reaches, and for what, if that is said.
pub(super) struct CaContent {
    pub(super) name: DistinguishedName,
    pub(super) path_len: u8,
    pub(super) usage: Option<ExtendedKeyUsagePurpose>,
}

pub(super) fn self_signed(
    key: &PublicKey,
    form: &CaContent,
    serial: Serial,
    dates: (Timestamp, Timestamp),
) -> Result<Draft, TemplateFault> {
    let params = ca_params(key, form, serial, dates)?;
    let certificate = params.self_signed(&Worthless(key.clone())).map_err(|_| TemplateFault::Encoding)?;
    Draft::from_der(certificate.der().to_vec())
}

pub(super) fn ca_params(
    key: &PublicKey,
    form: &CaContent,
    serial: Serial,
    (not_before, not_after): (Timestamp, Timestamp),
) -> Result<CertificateParams, TemplateFault> {
    check_validity(not_before, not_after)?;
    let mut params = CertificateParams::default();
    params.not_before = not_before.to_offset();
    params.not_after = not_after.to_offset();
    params.serial_number = Some(SerialNumber::from_slice(serial.as_bytes()));
    params.distinguished_name = form.name.clone();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(form.path_len));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.extended_key_usages = form.usage.iter().cloned().collect();
    params.key_identifier_method = KeyIdMethod::PreSpecified(key.identifier().to_vec());
    Ok(params)
}

/// The issuer with this name and key, as the writer knows it.
pub(super) fn writer(
    name: DistinguishedName,
    key: &PublicKey,
    key_id: [u8; 20],
) -> rcgen::Issuer<'static, Worthless> {
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.key_identifier_method = KeyIdMethod::PreSpecified(key_id.to_vec());
    rcgen::Issuer::new(params, Worthless(key.clone()))
}

/// A certificate from its two stored halves (RFC 5280 section 4.1), or a list (section 5.1). The curve is that of the authority's key.
pub fn assemble(tbs: &[u8], curve: Curve, signature: &[u8]) -> Vec<u8> {
    let signature = der::element(BIT_STRING, &[&[0], signature]);
    der::element(SEQUENCE, &[tbs, curve.signature_algorithm(), &signature])
}

const fn usage_of(kind: PrincipalKind) -> ExtendedKeyUsagePurpose {
    match kind {
        PrincipalKind::Server => ExtendedKeyUsagePurpose::ServerAuth,
        PrincipalKind::Officer | PrincipalKind::Gateway | PrincipalKind::Partner => {
            ExtendedKeyUsagePurpose::ClientAuth
        }
    }
}

pub(super) fn authority_name(kind: AuthorityKind, id: AuthorityId) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationalUnitName, kind.as_str());
    name.push(DnType::CommonName, id.to_string());
    name
}

pub(super) fn check_validity(not_before: Timestamp, not_after: Timestamp) -> Result<(), TemplateFault> {
    let whole = |at: Timestamp| at.millis() >= 0 && at.millis() % 1000 == 0;
    if whole(not_before) && whole(not_after) && not_before < not_after {
        Ok(())
    } else {
        Err(TemplateFault::Validity)
    }
}

/// Signs with a number that verifies under no key: ECDSA-Sig-Value r = 1, s = 1 (RFC 3279 section 2.2.3).
pub(super) struct Worthless(PublicKey);

impl rcgen::PublicKeyData for Worthless {
    fn der_bytes(&self) -> &[u8] {
        self.0.point()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.0.curve().rcgen()
    }
}

impl rcgen::SigningKey for Worthless {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(vec![0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01])
    }
}
