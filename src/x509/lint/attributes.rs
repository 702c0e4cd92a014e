//! Our attributes: each one strict UTF8String in its one spelling, and exactly those of class and kind (docs/oids.md).

use super::super::extension::{Attribute, MODELS_MAX};
use super::item::{Kind, Subject, utf8_string};
use super::names::spells;
use super::{Verdict, must};
use crate::domain::entity::EntityClass;
use crate::domain::id::{DeterminationId, EntityId, LineageId, ModelId};
use crate::domain::person::{Assurance, PersonStatus, Relation, SubjectKind};
use crate::domain::time::Day;

pub(super) fn attribute_encoding(subject: &Subject<'_>) -> Verdict {
    for (number, value) in &subject.attributes {
        if utf8_string(value).is_none() {
            return Err(format!("attribute .1.{number} is not one DER UTF8String"));
        }
    }
    Ok(())
}

pub(super) fn format_version(subject: &Subject<'_>) -> Verdict {
    let holds = subject.text(Attribute::FormatVersion).is_none_or(|text| text == "1");
    must(holds, "attribute .1.1 is not 1")
}

pub(super) fn attribute_value(subject: &Subject<'_>) -> Verdict {
    for attribute in Attribute::ALL {
        let Some(text) = subject.text(*attribute) else { continue };
        let fits = match attribute {
            Attribute::FormatVersion => spells::<u32>(text),
            Attribute::EntityId => spells::<EntityId>(text),
            Attribute::EntityClass => spells::<EntityClass>(text),
            Attribute::AnnexRevision => spells::<u32>(text),
            Attribute::Determination => spells::<DeterminationId>(text),
            Attribute::SubjectKind => spells::<SubjectKind>(text),
            Attribute::PersonStatus => spells::<PersonStatus>(text),
            Attribute::VerifiedOn => spells::<Day>(text),
            Attribute::Relation => spells::<Relation>(text),
            Attribute::Assurance => spells::<Assurance>(text),
            Attribute::Models => {
                let names: Vec<&str> = text.split(',').collect();
                names.len() <= MODELS_MAX
                    && names.is_sorted_by(|a, b| a < b)
                    && names.into_iter().all(spells::<ModelId>)
            }
            Attribute::Ordinal => spells::<u64>(text) && text != "0",
            Attribute::Lineage => text.split_once('/').is_some_and(|(lineage, generation)| {
                spells::<LineageId>(lineage) && spells::<u32>(generation) && generation != "0"
            }),
        };
        if !fits {
            return Err(format!("attribute {attribute} is not the one spelling of a value"));
        }
    }
    Ok(())
}

/// Must this certificate have it, may it, or must it not?
enum Presence {
    Required,
    Optional,
    Forbidden,
}

fn presence(subject: &Subject<'_>, attribute: Attribute) -> Presence {
    let is_access = matches!(subject.kind, Kind::Person | Kind::Workload);
    let class = subject.text(Attribute::EntityClass).and_then(|text| text.parse::<EntityClass>().ok());
    match attribute {
        Attribute::FormatVersion | Attribute::Ordinal => Presence::Required,
        _ if !is_access => Presence::Forbidden,
        Attribute::EntityId
        | Attribute::EntityClass
        | Attribute::SubjectKind
        | Attribute::Models
        | Attribute::Lineage => Presence::Required,
        Attribute::AnnexRevision | Attribute::Determination => match (class, attribute) {
            (Some(EntityClass::AnnexA), _) => Presence::Required,
            (Some(EntityClass::Provider), Attribute::Determination) => Presence::Optional,
            (Some(EntityClass::Provider | EntityClass::Unlisted), _) => Presence::Forbidden,
            // Without a class nothing can be said; that it has none is said already.
            (None, _) => Presence::Optional,
        },
        Attribute::PersonStatus | Attribute::VerifiedOn | Attribute::Relation | Attribute::Assurance => {
            if subject.kind == Kind::Person {
                Presence::Required
            } else {
                Presence::Forbidden
            }
        }
    }
}

fn is_there(subject: &Subject<'_>, attribute: Attribute) -> bool {
    subject.attributes.iter().any(|(number, _)| *number == u64::from(attribute.number()))
}

pub(super) fn attribute_required(subject: &Subject<'_>) -> Verdict {
    for attribute in Attribute::ALL {
        if matches!(presence(subject, *attribute), Presence::Required) && !is_there(subject, *attribute) {
            return Err(format!("attribute {attribute} is missing"));
        }
    }
    Ok(())
}

pub(super) fn attribute_forbidden(subject: &Subject<'_>) -> Verdict {
    for attribute in Attribute::ALL {
        if matches!(presence(subject, *attribute), Presence::Forbidden) && is_there(subject, *attribute) {
            return Err(format!("attribute {attribute} must not be there"));
        }
    }
    Ok(())
}
