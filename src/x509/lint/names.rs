//! Names: issuer, subject and subject alternative name. Nothing in them may come from a request, and nothing in them
//! tells who somebody is.

use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;

use x509_parser::asn1_rs::Tag;
use x509_parser::prelude::{GeneralName, X509Name};

use super::super::ca_certificate::CaCertificate;
use super::super::extension::Attribute;
use super::super::outline::ROOT_UNIT;
use super::super::template::{SERVER_NAMES_MAX, ServerName};
use super::item::{Kind, List, Subject};
use super::{Verdict, must};
use crate::domain::certificate::{AuthorityKind, CanarySide, PrincipalKind};
use crate::domain::id::{AuthorityId, EntityId, PrincipalId, RootId, SubjectId};

/// id-at-commonName and id-at-organizationalUnitName (RFC 5280 appendix A.1).
const CN: u8 = 0x03;
const OU: u8 = 0x0b;
/// ub-common-name and ub-organizational-unit-name (RFC 5280 appendix A.1).
const NAME_LEN_MAX: usize = 64;

/// Is this the one spelling of such a value?
pub(super) fn spells<T: FromStr + Display>(text: &str) -> bool {
    text.parse::<T>().is_ok_and(|value| value.to_string() == text)
}

/// The parts of a name, each the only one of its set: the last octet of its type under id-at, and its UTF8String.
fn parts<'a>(name: &'a X509Name<'_>) -> Option<Vec<(u8, &'a str)>> {
    let mut parts = Vec::new();
    for set in name.iter_rdn() {
        let mut pairs = set.iter();
        let pair = pairs.next()?;
        let [0x55, 0x04, kind] = *pair.attr_type().as_bytes() else { return None };
        let text = pair.as_str().ok().filter(|text| (1..=NAME_LEN_MAX).contains(&text.len()))?;
        if pairs.next().is_some() || pair.attr_value().tag() != Tag::Utf8String {
            return None;
        }
        parts.push((kind, text));
    }
    Some(parts)
}

/// The kind and the id of the authority with this name.
pub(super) fn authority(name: &X509Name<'_>) -> Option<(AuthorityKind, String)> {
    match parts(name)?.as_slice() {
        [(OU, kind), (CN, id)] if spells::<AuthorityId>(id) => Some((kind.parse().ok()?, (*id).to_owned())),
        _ => None,
    }
}

/// The id of the root with this name.
fn root(name: &X509Name<'_>) -> Option<String> {
    match parts(name)?.as_slice() {
        [(OU, unit), (CN, id)] if *unit == ROOT_UNIT && spells::<RootId>(id) => Some((*id).to_owned()),
        _ => None,
    }
}

/// Does it say that it is the name of a root, whether or not it is?
pub(super) fn is_root(name: &X509Name<'_>) -> bool {
    let says = |(kind, text): &(u8, &str)| *kind == OU && *text == ROOT_UNIT;
    parts(name).is_some_and(|parts| parts.iter().any(says))
}

pub(super) fn root_name(subject: &Subject<'_>) -> Verdict {
    must(
        root(subject.certificate.subject()).is_some(),
        "the subject is not OU=ROOT with a root id as common name",
    )
}

pub(super) fn root_self_issued(subject: &Subject<'_>) -> Verdict {
    must(
        subject.certificate.issuer().as_raw() == subject.certificate.subject().as_raw(),
        "the issuer is not the subject",
    )
}

pub(super) fn root_issuer(subject: &Subject<'_>) -> Verdict {
    let issuer = subject.certificate.issuer();
    must(root(issuer).is_some(), "the issuer is not OU=ROOT with a root id as common name")?;
    must(issuer.as_raw() != subject.certificate.subject().as_raw(), "the issuer is the subject")
}

pub(super) fn root_list_issuer_form(list: &List<'_>) -> Verdict {
    must(
        root(&list.list.tbs_cert_list.issuer).is_some(),
        "the issuer is not named like a root of this service",
    )
}

pub(super) fn issuer_name_form(subject: &Subject<'_>) -> Verdict {
    let expected = match subject.kind {
        Kind::System | Kind::Server => AuthorityKind::System,
        Kind::Person
        | Kind::Workload
        | Kind::Canary
        | Kind::Authority
        | Kind::Subordinate
        | Kind::Root
        | Kind::Cross
        | Kind::List
        | Kind::RootList => AuthorityKind::Access,
    };
    match authority(subject.certificate.issuer()) {
        Some((kind, _)) if kind == expected => Ok(()),
        Some((kind, _)) => {
            Err(format!("the issuer is an authority of kind {kind}, which does not issue this"))
        }
        None => {
            Err("the issuer is not OU=ACCESS or OU=SYSTEM with an authority id as common name".to_owned())
        }
    }
}

pub(super) fn issuer_name(subject: &Subject<'_>, issuer: &CaCertificate) -> Verdict {
    must(
        subject.certificate.issuer().as_raw() == issuer.name(),
        "the issuer is not, byte for byte, the name of the authority",
    )
}

/// The one common name of the subject.
fn common_name<'a>(subject: &'a Subject<'_>) -> Option<&'a str> {
    match parts(subject.certificate.subject())?.as_slice() {
        [(CN, text)] => Some(*text),
        _ => None,
    }
}

pub(super) fn subject_form(subject: &Subject<'_>) -> Verdict {
    let fits = common_name(subject).is_some_and(|text| match subject.kind {
        Kind::Person | Kind::Workload => spells::<SubjectId>(text),
        Kind::Canary
        | Kind::System
        | Kind::Server
        | Kind::Authority
        | Kind::Subordinate
        | Kind::Root
        | Kind::Cross
        | Kind::List
        | Kind::RootList => spells::<PrincipalId>(text),
    });
    must(fits, "the subject is not one common name with an id of its kind")
}

pub(super) fn authority_name(subject: &Subject<'_>) -> Verdict {
    must(
        authority(subject.certificate.subject()).is_some(),
        "the subject is not OU=ACCESS or OU=SYSTEM with an authority id as common name",
    )
}

pub(super) fn authority_self_issued(subject: &Subject<'_>) -> Verdict {
    must(
        subject.certificate.subject().as_raw() == subject.certificate.issuer().as_raw(),
        "subject and issuer differ",
    )
}

pub(super) fn name_form(subject: &Subject<'_>) -> Verdict {
    if subject.extension(17).is_none() {
        return Ok(());
    }
    let fits = match (subject.kind, subject.path().as_slice()) {
        (Kind::Person, ["entity", entity, "person", id])
        | (Kind::Workload, ["entity", entity, "workload", id]) => {
            spells::<EntityId>(entity) && spells::<SubjectId>(id)
        }
        (Kind::Canary, ["canary", gateway, side]) => {
            spells::<PrincipalId>(gateway) && spells::<CanarySide>(side)
        }
        (Kind::System, ["role", role, id]) => {
            spells::<PrincipalKind>(role) && *role != "server" && spells::<PrincipalId>(id)
        }
        (Kind::Server, ["role", "server", id]) => spells::<PrincipalId>(id),
        _ => false,
    };
    must(fits, "the first name is not a SPIFFE ID of its kind")
}

pub(super) fn name_trust_domain(subject: &Subject<'_>) -> Verdict {
    let (Some(id), Some(profile)) = (subject.spiffe_id(), subject.profile) else { return Ok(()) };
    let expected = profile.trust_domain().as_str();
    if id.split('/').next() == Some(expected) {
        Ok(())
    } else {
        Err(format!("the trust domain is not {expected}"))
    }
}

pub(super) fn name_subject(subject: &Subject<'_>) -> Verdict {
    let path = subject.path();
    let named = match (subject.kind, path.as_slice()) {
        (Kind::Canary, [_, gateway, ..]) => Some(*gateway),
        (_, [.., last]) => Some(*last),
        (_, []) => None,
    };
    let holds = named.is_none_or(|named| common_name(subject) == Some(named));
    must(holds, "SPIFFE ID and common name do not name the same subject")
}

pub(super) fn name_entity(subject: &Subject<'_>) -> Verdict {
    let path = subject.path();
    let (Some(stated), ["entity", named, ..]) = (subject.text(Attribute::EntityId), path.as_slice()) else {
        return Ok(());
    };
    must(stated == *named, "SPIFFE ID and attribute .1.2 do not name the same entity")
}

pub(super) fn name_kind(subject: &Subject<'_>) -> Verdict {
    let expected = if subject.kind == Kind::Workload { "WORKLOAD" } else { "HUMAN" };
    let holds = subject.text(Attribute::SubjectKind).is_none_or(|stated| stated == expected);
    must(holds, "SPIFFE ID and attribute .1.6 do not name the same kind of subject")
}

pub(super) fn server_names(subject: &Subject<'_>) -> Verdict {
    let others = subject.names().get(1..).unwrap_or_default();
    if subject.kind != Kind::Server {
        return must(others.is_empty(), "it has names beside its SPIFFE ID");
    }
    let names: Option<Vec<ServerName>> = others.iter().map(server_name).collect();
    let fits = names.is_some_and(|names| {
        (1..=SERVER_NAMES_MAX).contains(&names.len()) && names.is_sorted_by(|a, b| a < b)
    });
    must(fits, "the names are not 1 to 32 DNS names and addresses in ascending order")
}

/// A name of a server in the words of the template.
pub(super) fn server_name(name: &GeneralName<'_>) -> Option<ServerName> {
    match name {
        GeneralName::DNSName(text) => ServerName::dns(text),
        GeneralName::IPAddress(octets) => {
            let four = <[u8; 4]>::try_from(*octets).map(IpAddr::from);
            four.or_else(|_| <[u8; 16]>::try_from(*octets).map(IpAddr::from)).ok().map(ServerName::Ip)
        }
        _ => None,
    }
}
