//! A certificate in words, for `countersign cert show FILE`: each part, its value, and what it means here.
//!
//! It reads any certificate, ours or not, and says which it is. Nothing is verified but the form: the first line
//! says so, because people take a page of facts for a proof.

use std::fmt::Write as _;

use thiserror::Error;
use x509_parser::prelude::{
    DistributionPointName, FromDer, GeneralName, ParsedExtension, X509Certificate, X509Extension,
};

use super::authority::Authority;
use super::cert;
use super::der::{self, UTF8_STRING};
use super::extension::Attribute;
use super::fault::CertificateFault;
use super::profile::Profile;
use crate::domain::certificate::{AuthorityKind, Facts};
use crate::domain::id::Digest;
use crate::domain::time::Timestamp;

/// The longest file that is explained: one certificate of anybody, in PEM.
pub const EXPLAIN_LEN_MAX: usize = 64 * 1024;
/// The most lines: a certificate of a stranger may have thousands of names.
const LINES_MAX: usize = 200;
/// The longest value of a line, in characters.
const VALUE_LEN_MAX: usize = 300;

/// The file holds no certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the file is not a certificate in PEM or DER: {why}")]
pub struct NotCertificate {
    /// Why not.
    pub why: &'static str,
}

/// What a certificate is, from its form alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A leaf of this service, in exactly its form.
    Leaf(AuthorityKind),
    /// A canary of a gateway.
    Canary,
    /// The certificate of an authority of this service.
    Authority(AuthorityKind),
    /// Not a certificate of this service; the reason why it is not a leaf.
    Foreign(CertificateFault),
}

/// One part of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The name of the part.
    pub label: String,
    /// Its value.
    pub value: String,
    /// What it means; empty when there is nothing to say.
    pub meaning: String,
}

/// A certificate in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What it is.
    pub standing: Standing,
    /// The first second of its validity.
    pub not_before: Timestamp,
    /// The last second of its validity.
    pub not_after: Timestamp,
    /// Its parts, in the order in which people read them.
    pub lines: Vec<Line>,
}

impl Explanation {
    /// As columns for people.
    pub fn to_text(&self) -> String {
        let width = self.lines.iter().map(|line| line.label.chars().count()).max().unwrap_or(0);
        let mut out = String::new();
        for Line { label, value, meaning } in &self.lines {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{label:<width$}  {value}");
            if !meaning.is_empty() {
                let _ = writeln!(out, "{:width$}    {meaning}", "");
            }
        }
        out
    }

    /// As JSON (RFC 8259): a list of objects with label, value and meaning.
    pub fn to_json(&self) -> String {
        let lines: Vec<String> = self
            .lines
            .iter()
            .map(|line| {
                format!(
                    "{{\"label\":{},\"value\":{},\"meaning\":{}}}",
                    json(&line.label),
                    json(&line.value),
                    json(&line.meaning)
                )
            })
            .collect();
        format!("[{}]", lines.join(","))
    }

    fn push(&mut self, label: &str, value: impl Into<String>, meaning: &str) {
        if self.lines.len() < LINES_MAX {
            let value = printable(&value.into());
            self.lines.push(Line { label: label.to_owned(), value, meaning: meaning.to_owned() });
        }
    }
}

/// Explains the first certificate of a file, PEM or DER.
pub fn explain(file: &[u8], profile: &Profile) -> Result<Explanation, NotCertificate> {
    if file.len() > EXPLAIN_LEN_MAX {
        return Err(NotCertificate { why: "it is longer than 64 KiB" });
    }
    let der = match file {
        [0x30, ..] => file.to_vec(),
        _ => {
            let blocks = pem::parse_many(file).map_err(|_| NotCertificate { why: "it is not valid PEM" })?;
            let block = blocks.into_iter().find(|block| block.tag() == "CERTIFICATE");
            block.ok_or(NotCertificate { why: "it has no CERTIFICATE block" })?.into_contents()
        }
    };
    let (rest, certificate) =
        X509Certificate::from_der(&der).map_err(|_| NotCertificate { why: "it is not valid X.509" })?;
    if !rest.is_empty() {
        return Err(NotCertificate { why: "bytes follow the certificate" });
    }
    let validity = certificate.validity();
    let mut out = Explanation {
        standing: standing(&der, profile),
        not_before: instant(validity.not_before.timestamp()),
        not_after: instant(validity.not_after.timestamp()),
        lines: Vec::new(),
    };
    explain_standing(&mut out);
    explain_fields(&mut out, &der, &certificate);
    for extension in certificate.extensions() {
        explain_extension(&mut out, extension, profile);
    }
    Ok(out)
}

fn standing(der: &[u8], profile: &Profile) -> Standing {
    match cert::parse(der, profile) {
        Ok(leaf) => match leaf.facts() {
            Facts::Access(_) => Standing::Leaf(AuthorityKind::Access),
            Facts::System(_) => Standing::Leaf(AuthorityKind::System),
            Facts::Canary(_) => Standing::Canary,
        },
        Err(fault) => Authority::from_der(der)
            .map_or(Standing::Foreign(fault), |authority| Standing::Authority(authority.kind())),
    }
}

fn explain_standing(out: &mut Explanation) {
    const UNPROVED: &str = "by its form only: no signature of an authority, revocation or date was checked";
    match out.standing {
        Standing::Leaf(AuthorityKind::Access) => {
            out.push("certificate", "leaf v1 of an access authority: a person or workload", UNPROVED);
        }
        Standing::Leaf(AuthorityKind::System) => {
            out.push("certificate", "leaf v1 of a system authority: no access to any model", UNPROVED);
        }
        Standing::Canary => {
            out.push(
                "certificate",
                "a gateway's canary: it shows which revocation list a proxy has",
                UNPROVED,
            );
        }
        Standing::Authority(AuthorityKind::Access) => {
            let meaning = "a trust anchor: gateways judge the leaves it signs";
            out.push("certificate", "an access authority", meaning);
        }
        Standing::Authority(AuthorityKind::System) => {
            let meaning = "a trust anchor for officers, gateways, portals and the service itself";
            out.push("certificate", "a system authority", meaning);
        }
        Standing::Foreign(fault) => {
            out.push(
                "certificate",
                "NOT a certificate of this service",
                "everything below is a stranger's claim",
            );
            out.push("why not ours", fault.code(), &fault.to_string());
        }
    }
}

fn explain_fields(out: &mut Explanation, der: &[u8], certificate: &X509Certificate<'_>) {
    out.push("sha-256", Digest::of(der).to_string(), "names these bytes; revocation goes by ordinal");
    out.push("version", (u64::from(certificate.version().0) + 1).to_string(), "");
    out.push(
        "serial",
        hex::encode(certificate.raw_serial()),
        "unique per authority (RFC 5280 section 4.1.2.2)",
    );
    out.push(
        "subject",
        certificate.subject().to_string(),
        "an opaque id in ours: no name, no e-mail, no country",
    );
    out.push(
        "issuer",
        certificate.issuer().to_string(),
        "in ours OU is the kind and CN the id of the authority",
    );
    let at = |seconds: i64| instant(seconds).to_string();
    let validity = certificate.validity();
    out.push(
        "not before",
        at(validity.not_before.timestamp()),
        "60 s before issuance in ours, for slow clocks",
    );
    out.push("not after", at(validity.not_after.timestamp()), "the last second of validity");
    let spki = certificate.public_key().raw;
    let key = super::key::curve_of_spki(spki);
    let kind = key.map_or_else(|fault| fault.to_string(), |curve| format!("ECDSA on {}", curve.as_str()));
    out.push("public key", kind, "");
    out.push("key sha-256", Digest::of(spki).to_string(), "of the SubjectPublicKeyInfo");
    out.push("signature algorithm", certificate.signature_algorithm.algorithm.to_id_string(), "");
}

const fn instant(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds.saturating_mul(1000))
}

fn explain_extension(out: &mut Explanation, extension: &X509Extension<'_>, profile: &Profile) {
    let label = |name: &str| if extension.critical { format!("{name} (critical)") } else { name.to_owned() };
    match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => {
            let value = id.key_identifier.as_ref().map(|id| hex::encode(id.0)).unwrap_or_default();
            out.push(&label("authority key id"), value, "names the key that signed this");
        }
        ParsedExtension::SubjectKeyIdentifier(id) => {
            out.push(&label("subject key id"), hex::encode(id.0), "names the key in this");
        }
        ParsedExtension::KeyUsage(usage) => {
            out.push(
                &label("key usage"),
                usage.to_string(),
                "what the key may do (RFC 5280 section 4.2.1.3)",
            );
        }
        ParsedExtension::ExtendedKeyUsage(usage) => {
            let mut uses = Vec::new();
            uses.extend(usage.client_auth.then_some("TLS client"));
            uses.extend(usage.server_auth.then_some("TLS server"));
            uses.extend(usage.any.then_some("any"));
            let rest = usage.code_signing || usage.email_protection || usage.time_stamping;
            uses.extend((rest || usage.ocsp_signing || !usage.other.is_empty()).then_some("others"));
            out.push(&label("extended key usage"), uses.join(", "), "in which role TLS accepts it");
        }
        ParsedExtension::BasicConstraints(constraints) => {
            let path =
                constraints.path_len_constraint.map(|n| format!(", path length {n}")).unwrap_or_default();
            let meaning = "whether it may sign certificates, and how deep below it";
            out.push(&label("basic constraints"), format!("CA {}{path}", constraints.ca), meaning);
        }
        ParsedExtension::SubjectAlternativeName(names) => {
            for name in &names.general_names {
                let meaning = "in ours one SPIFFE ID; the server has its addresses besides";
                out.push(&label("name"), general_name(name), meaning);
            }
        }
        ParsedExtension::CRLDistributionPoints(points) => {
            for point in points.iter() {
                if let Some(DistributionPointName::FullName(names)) = &point.distribution_point {
                    for name in names {
                        let meaning = "where consumers without the feed fetch revocations";
                        out.push(&label("CRL"), general_name(name), meaning);
                    }
                }
            }
        }
        _ => explain_other(out, extension, profile),
    }
}

fn explain_other(out: &mut Explanation, extension: &X509Extension<'_>, profile: &Profile) {
    let number = profile.attribute_number(extension.oid.as_bytes());
    let oid = extension.oid.to_id_string();
    let text = der::only(extension.value, UTF8_STRING).ok().and_then(|s| std::str::from_utf8(s.value).ok());
    match (number.and_then(Attribute::from_number), text) {
        (Some(attribute), Some(text)) => {
            out.push(&format!(".1.{} {}", attribute.number(), attribute.name()), text, attribute.meaning());
        }
        (Some(attribute), None) => {
            out.push(
                &format!(".1.{} {}", attribute.number(), attribute.name()),
                hex::encode(extension.value),
                "MALFORMED",
            );
        }
        (None, _) => {
            let criticality = if extension.critical {
                "unknown to this service, critical"
            } else {
                "unknown to this service"
            };
            out.push(&format!("extension {oid}"), hex::encode(extension.value), criticality);
        }
    }
}

fn general_name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::URI(text) => (*text).to_owned(),
        GeneralName::DNSName(text) => format!("DNS {text}"),
        GeneralName::RFC822Name(text) => format!("e-mail {text}"),
        GeneralName::IPAddress(octets) => {
            let v4 = <[u8; 4]>::try_from(*octets).map(std::net::IpAddr::from);
            let address = v4.or_else(|_| <[u8; 16]>::try_from(*octets).map(std::net::IpAddr::from));
            address.map_or_else(|_| hex::encode(octets), |address| format!("IP {address}"))
        }
        other => format!("{other:?}"),
    }
}

/// A stranger's text must not move the terminal's cursor, and must end.
fn printable(text: &str) -> String {
    let cut: String = text
        .chars()
        .take(VALUE_LEN_MAX)
        .flat_map(|c| {
            // Escapes control and format characters, keeps letters of all languages.
            let keep = !c.is_control()
                && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            let escaped: Vec<char> = if keep { vec![c] } else { c.escape_unicode().collect() };
            escaped
        })
        .collect();
    if text.chars().count() > VALUE_LEN_MAX { format!("{cut}...") } else { cut }
}

fn json(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if u32::from(c) < 0x20 => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
