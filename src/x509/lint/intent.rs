//! Is the certificate the one that was meant? Every expected value is written out here once more, from the record.

use super::super::extension::Attribute;
use super::super::template::Content;
use super::extensions::crl_address;
use super::item::{Subject, utf8_string};
use super::names::server_name;
use super::{Intent, Verdict, must};
use crate::domain::certificate::{AccessFacts, BACKDATE_S, BLOCK_LEN, Facts};
use crate::domain::id::ModelId;

pub(super) fn record_serial(subject: &Subject<'_>, intent: &Intent<'_>) -> Verdict {
    must(
        subject.certificate.raw_serial() == intent.content.serial.as_bytes(),
        "the serial is not the one of the record",
    )
}

pub(super) fn record_validity(subject: &Subject<'_>, intent: &Intent<'_>) -> Verdict {
    let (validity, content) = (subject.certificate.validity(), intent.content);
    let holds = validity.not_before.timestamp() * 1000 == content.not_before.millis()
        && validity.not_after.timestamp() * 1000 == content.not_after.millis();
    must(holds, "the validity is not the one of the record")
}

/// The record keeps whole seconds, so a minute before now may be up to a second more.
pub(super) fn record_backdated(subject: &Subject<'_>, intent: &Intent<'_>) -> Verdict {
    let validity = subject.certificate.validity();
    let now_s = intent.now.seconds();
    let begins = (now_s - i64::from(BACKDATE_S)..=now_s).contains(&validity.not_before.timestamp());
    must(
        begins && validity.not_after.timestamp() > now_s,
        "the validity does not begin in the minute before now, or has passed",
    )
}

pub(super) fn record_subject(subject: &Subject<'_>, intent: &Intent<'_>) -> Verdict {
    let expected = match &intent.content.facts {
        Facts::Access(facts) => facts.subject.to_string(),
        Facts::System(facts) => facts.principal.to_string(),
        Facts::Canary(facts) => facts.gateway.to_string(),
    };
    let mut names = subject.certificate.subject().iter_common_name();
    let holds = names.next().and_then(|name| name.as_str().ok()) == Some(expected.as_str());
    must(holds && names.next().is_none(), "the subject is not the one of the record")
}

pub(super) fn record_key(subject: &Subject<'_>, intent: &Intent<'_>) -> Verdict {
    must(
        subject.certificate.public_key().raw == intent.key.spki(),
        "the key is not the one whose possession was proved",
    )
}

pub(super) fn record_name(subject: &Subject<'_>, intent: &Intent<'_>) -> Verdict {
    let domain = intent.profile.trust_domain();
    let id = match &intent.content.facts {
        Facts::System(facts) => format!("{domain}/role/{}/{}", facts.kind, facts.principal),
        Facts::Canary(facts) => format!("{domain}/canary/{}/{}", facts.gateway, facts.side),
        Facts::Access(AccessFacts { entity, subject, person: Some(_), .. }) => {
            format!("{domain}/entity/{}/person/{subject}", entity.entity)
        }
        Facts::Access(AccessFacts { entity, subject, person: None, .. }) => {
            format!("{domain}/entity/{}/workload/{subject}", entity.entity)
        }
    };
    must(subject.spiffe_id() == Some(id.as_str()), "the SPIFFE ID is not the one of the record")?;
    let others = subject.names().get(1..).unwrap_or_default();
    let holds = others.iter().map(server_name).eq(intent.content.names.iter().cloned().map(Some));
    must(holds, "the server names are not those of the configuration")
}

pub(super) fn record_crl_address(subject: &Subject<'_>, intent: &Intent<'_>) -> Verdict {
    let base = intent.profile.crl_base().map(|base| base.as_str()).unwrap_or_default();
    let shard = intent.content.ordinal.0 / BLOCK_LEN;
    let expected = format!("{base}/{}/{shard}.crl", intent.authority.id());
    must(
        crl_address(subject) == Some(expected.as_str()),
        "the CRL address is not that of the record's ordinal",
    )
}

pub(super) fn record_attributes(subject: &Subject<'_>, intent: &Intent<'_>) -> Verdict {
    for attribute in Attribute::ALL {
        let number = u64::from(attribute.number());
        let mut found =
            subject.attributes.iter().filter(|(read, _)| *read == number).map(|(_, value)| *value);
        let expected = expected(*attribute, intent.content);
        let read = found.next();
        let holds = read.map(utf8_string) == expected.as_deref().map(Some) && found.next().is_none();
        if !holds {
            return Err(format!("attribute {attribute} is not the one of the record"));
        }
    }
    Ok(())
}

/// What an attribute must say, written out once more from design section 2.
fn expected(attribute: Attribute, content: &Content) -> Option<String> {
    let facts = match &content.facts {
        Facts::Access(facts) => Some(facts),
        Facts::System(_) | Facts::Canary(_) => None,
    };
    let person = facts.and_then(|facts| facts.person.as_ref());
    match attribute {
        Attribute::FormatVersion => Some("1".to_owned()),
        Attribute::EntityId => Some(facts?.entity.entity.to_string()),
        Attribute::EntityClass => Some(facts?.entity.class.to_string()),
        Attribute::AnnexRevision => Some(facts?.entity.annex_revision?.to_string()),
        Attribute::Determination => Some(facts?.entity.determination.as_ref()?.to_string()),
        Attribute::SubjectKind => {
            facts.map(|_| if person.is_some() { "HUMAN".to_owned() } else { "WORKLOAD".to_owned() })
        }
        Attribute::PersonStatus => Some(person?.status.to_string()),
        Attribute::VerifiedOn => Some(person?.verified_on.to_string()),
        Attribute::Relation => Some(person?.relation.to_string()),
        Attribute::Assurance => Some(person?.assurance.to_string()),
        Attribute::Models => Some(facts?.models.iter().map(ModelId::as_str).collect::<Vec<_>>().join(",")),
        Attribute::Ordinal => Some(content.ordinal.to_string()),
        Attribute::Lineage => {
            let step = facts?.step;
            Some(format!("{}/{}", step.lineage, step.generation))
        }
    }
}
