//! What is judged, as x509-parser reads it.

use x509_parser::prelude::{
    CertificateRevocationList, FromDer, GeneralName, ParsedExtension, X509Certificate, X509Extension,
};

use super::super::der::{Element, INTEGER, Reader, SEQUENCE};
use super::super::extension::Attribute;
use super::super::profile::Profile;
use super::names;
use crate::domain::algorithm::AlgorithmProfile;
use crate::domain::certificate::{Facts, PrincipalKind};

/// What is judged: a rule names the kinds that it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The leaf of a person, by the access authority.
    Person,
    /// The leaf of a workload, by the access authority.
    Workload,
    /// A canary of a gateway, by the access authority.
    Canary,
    /// The leaf of an officer, a gateway or a partner's portal, by the system authority.
    System,
    /// The service's own leaf, by the system authority.
    Server,
    /// The self-signed certificate of an issuing authority.
    Authority,
    /// The certificate of an issuing authority that a root signed.
    Subordinate,
    /// The certificate of a root.
    Root,
    /// The certificate that another root gave a root.
    Cross,
    /// A certificate revocation list of an issuing authority.
    List,
    /// That of a root.
    RootList,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::Person,
        Self::Workload,
        Self::Canary,
        Self::System,
        Self::Server,
        Self::Authority,
        Self::Subordinate,
        Self::Root,
        Self::Cross,
        Self::List,
        Self::RootList,
    ];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Workload => "workload",
            Self::Canary => "canary",
            Self::System => "system",
            Self::Server => "server",
            Self::Authority => "authority",
            Self::Subordinate => "subordinate",
            Self::Root => "root",
            Self::Cross => "cross",
            Self::List => "crl",
            Self::RootList => "root-crl",
        }
    }

    pub(super) fn of_facts(facts: &Facts) -> Self {
        match facts {
            Facts::Access(facts) if facts.person.is_some() => Self::Person,
            Facts::Access(_) => Self::Workload,
            Facts::Canary(_) => Self::Canary,
            Facts::System(facts) => match facts.kind {
                PrincipalKind::Server => Self::Server,
                PrincipalKind::Officer | PrincipalKind::Gateway | PrincipalKind::Partner => Self::System,
            },
        }
    }

    /// What these bytes most look like. Whatever cannot be told is judged as the leaf of a person, the strictest.
    pub(super) fn guess(der: &[u8], profile: &Profile) -> Self {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else {
            return match CertificateRevocationList::from_der(der) {
                Ok((_, list)) if names::is_root(&list.tbs_cert_list.issuer) => Self::RootList,
                Ok(_) => Self::List,
                Err(_) => Self::Person,
            };
        };
        let subject =
            Subject::new(der, certificate, Self::Person, (Some(profile), profile.algorithms(), true));
        let name = subject.spiffe_id().unwrap_or_default();
        let is_in = |path: &str| name.contains(path);
        if is_in("/role/server/") {
            Self::Server
        } else if is_in("/role/") {
            Self::System
        } else if is_in("/canary/") {
            Self::Canary
        } else if is_in("/workload/") {
            Self::Workload
        } else if name.is_empty() {
            Self::of_authority(der).unwrap_or(Self::Person)
        } else {
            Self::Person
        }
    }

    /// What these bytes most look like, when they are the certificate of a certification authority.
    pub(super) fn of_authority(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        if !certificate.is_ca() {
            return None;
        }
        let is_self_issued = certificate.subject().as_raw() == certificate.issuer().as_raw();
        Some(match names::is_root(certificate.subject()) {
            true if is_self_issued => Self::Root,
            true => Self::Cross,
            false if names::is_root(certificate.issuer()) => Self::Subordinate,
            false => Self::Authority,
        })
    }

    /// Is it the certificate of a certification authority?
    pub(super) const fn is_authority(self) -> bool {
        match self {
            Self::Authority | Self::Subordinate | Self::Root | Self::Cross => true,
            Self::Person
            | Self::Workload
            | Self::Canary
            | Self::System
            | Self::Server
            | Self::List
            | Self::RootList => false,
        }
    }
}

/// Profile, algorithms, and whether the signature counts.
type About<'a> = (Option<&'a Profile>, AlgorithmProfile, bool);

/// A certificate that is judged.
pub(super) struct Subject<'a> {
    pub(super) der: &'a [u8],
    pub(super) certificate: X509Certificate<'a>,
    pub(super) kind: Kind,
    /// Unknown for an authority, which has none of what it is about.
    pub(super) profile: Option<&'a Profile>,
    /// Which algorithms its service uses.
    pub(super) profiled: AlgorithmProfile,
    /// Does its signature count?
    pub(super) is_signed: bool,
    /// The attributes of ours, in their order, with their values as they stand.
    pub(super) attributes: Vec<(u64, &'a [u8])>,
}

impl<'a> Subject<'a> {
    fn new(
        der: &'a [u8],
        certificate: X509Certificate<'a>,
        kind: Kind,
        (profile, profiled, is_signed): About<'a>,
    ) -> Self {
        let mut subject =
            Self { der, certificate, kind, profile, profiled, is_signed, attributes: Vec::new() };
        let numbered =
            |extension: &X509Extension<'a>| Some((subject.attribute_number(extension)?, extension.value));
        subject.attributes = subject.certificate.extensions().iter().filter_map(numbered).collect();
        subject
    }

    /// The standard extension with this number under id-ce (RFC 5280 section 4.2.1), the first of its kind.
    pub(super) fn extension(&self, number: u8) -> Option<&X509Extension<'a>> {
        self.certificate.extensions().iter().find(|extension| id_ce(extension) == Some(number))
    }

    /// The number of an attribute of ours, `<arc>.1.<number>`.
    pub(super) fn attribute_number(&self, extension: &X509Extension<'_>) -> Option<u64> {
        let arc = self.profile?.arc().numbers();
        let mut oid = extension.oid.iter()?;
        let is_ours = oid.by_ref().take(arc.len()).eq(arc.iter().copied()) && oid.next() == Some(1);
        let number = oid.next().filter(|_| is_ours)?;
        if oid.next().is_none() { Some(number) } else { None }
    }

    /// The text of an attribute, if it is there and one UTF8String.
    pub(super) fn text(&self, attribute: Attribute) -> Option<&'a str> {
        let number = u64::from(attribute.number());
        let (_, value) = self.attributes.iter().find(|(found, _)| *found == number)?;
        utf8_string(value)
    }

    /// The names of the subject alternative name.
    pub(super) fn names(&self) -> &[GeneralName<'a>] {
        match self.extension(17).map(X509Extension::parsed_extension) {
            Some(ParsedExtension::SubjectAlternativeName(names)) => &names.general_names,
            Some(_) | None => &[],
        }
    }

    /// The first name, when it is a SPIFFE ID.
    pub(super) fn spiffe_id(&self) -> Option<&'a str> {
        match self.names().first() {
            Some(GeneralName::URI(uri)) => uri.strip_prefix("spiffe://"),
            Some(_) | None => None,
        }
    }

    /// The segments of the SPIFFE ID's path.
    pub(super) fn path(&self) -> Vec<&'a str> {
        self.spiffe_id().unwrap_or_default().split('/').skip(1).collect()
    }

    /// The signed signature algorithm and the outer one, as they are encoded.
    pub(super) fn algorithms(&self) -> Option<[&'a [u8]; 2]> {
        let mut parts = Reader::new(self.der).expect(SEQUENCE).ok()?.inside();
        let signed = after_serial(&mut parts)?.expect(SEQUENCE).ok()?.raw;
        Some([signed, parts.expect(SEQUENCE).ok()?.raw])
    }

    /// The two dates as they are encoded.
    pub(super) fn dates(&self) -> Option<[Element<'a>; 2]> {
        let mut parts = Reader::new(self.der).expect(SEQUENCE).ok()?.inside();
        let mut fields = after_serial(&mut parts)?;
        fields.expect(SEQUENCE).ok()?;
        fields.expect(SEQUENCE).ok()?;
        let mut dates = fields.expect(SEQUENCE).ok()?.inside();
        let both = [dates.any().ok()?, dates.any().ok()?];
        dates.end().ok()?;
        Some(both)
    }
}

/// What follows the serial in the signed part, which is the first of the parts.
fn after_serial<'a>(parts: &mut Reader<'a>) -> Option<Reader<'a>> {
    let mut fields = parts.expect(SEQUENCE).ok()?.inside();
    if fields.next_is(0xa0) {
        fields.any().ok()?;
    }
    fields.expect(INTEGER).ok()?;
    Some(fields)
}

/// The last number of a standard extension's OID.
pub(super) fn id_ce(extension: &X509Extension<'_>) -> Option<u8> {
    match extension.oid.as_bytes() {
        [0x55, 0x1d, number] => Some(*number),
        _ => None,
    }
}

/// The text of one UTF8String with the shortest length. One length byte below 128, then two, then three: a list of
/// models may be long.
pub(super) fn utf8_string(value: &[u8]) -> Option<&str> {
    let (len, text) = match value {
        [0x0c, len @ 0..=0x7f, text @ ..] => (usize::from(*len), text),
        [0x0c, 0x81, len @ 0x80..=0xff, text @ ..] => (usize::from(*len), text),
        [0x0c, 0x82, high @ 1..=0xff, low, text @ ..] => {
            (usize::from(u16::from_be_bytes([*high, *low])), text)
        }
        _ => return None,
    };
    std::str::from_utf8(text).ok().filter(|text| text.len() == len)
}

/// A revocation list that is judged.
pub(super) struct List<'a> {
    pub(super) der: &'a [u8],
    pub(super) list: CertificateRevocationList<'a>,
}

/// What is judged.
pub(super) enum Item<'a> {
    Certificate(Box<Subject<'a>>),
    List(Box<List<'a>>),
}

impl<'a> Item<'a> {
    /// Reads it; the error says why it cannot be judged.
    pub(super) fn read(kind: Kind, der: &'a [u8], about: About<'a>) -> Result<Self, String> {
        let (rest, item) = if matches!(kind, Kind::List | Kind::RootList) {
            let (rest, list) =
                CertificateRevocationList::from_der(der).map_err(|_| "it is not a DER CertificateList")?;
            (rest, Self::List(Box::new(List { der, list })))
        } else {
            let (rest, certificate) =
                X509Certificate::from_der(der).map_err(|_| "it is not a DER Certificate")?;
            (rest, Self::Certificate(Box::new(Subject::new(der, certificate, kind, about))))
        };
        if rest.is_empty() { Ok(item) } else { Err("bytes follow it".to_owned()) }
    }
}
