//! Our attributes: their OIDs, and the one spelling of each value. The public table is docs/oids.md.
//!
//! Each attribute is a non-critical extension `<arc>.1.N` whose value is one DER UTF8String. Integers have no sign
//! and no leading zero; days are YYYY-MM-DD; words and ids have the spelling of the domain; the model list is its
//! ids in ascending order, without repeats, joined by commas; the lineage is `lin_.../7`.

use std::fmt;
use std::str::FromStr;

use super::der::{self, UTF8_STRING};
use super::fault::CertificateFault;
pub use super::oid::{Arc, InvalidArc};
use crate::domain::certificate::{AccessFacts, EntityFacts, FORMAT_VERSION, Facts, LineageStep, PersonFacts};
use crate::domain::entity::EntityClass;
use crate::domain::id::{ModelId, Ordinal, SubjectId};
use crate::domain::person::SubjectKind;

/// The most models one certificate may name: 32 of 64 characters fill half of its 4 KiB.
pub const MODELS_MAX: usize = 32;

macro_rules! attributes {
    ($($(#[$meta:meta])* $variant:ident = $number:literal, $name:literal, $meaning:literal;)+) => {
        /// One attribute of leaf v1, named by the last number of its OID.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Attribute { $($(#[$meta])* $variant,)+ }

        impl Attribute {
            /// Every attribute, in the order in which a certificate has them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The last number of its OID.
            pub const fn number(self) -> u8 {
                match self { $(Self::$variant => $number,)+ }
            }

            /// The attribute with this number.
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)+ _ => None }
            }

            /// What it is called.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What it says.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)+ }
            }
        }
    };
}

attributes! {
    /// `.1.1`
    FormatVersion = 1, "format version", "the version of this certificate format; a reader that does not know it refuses";
    /// `.1.2`
    EntityId = 2, "entity id", "the legal entity for which the subject acts";
    /// `.1.3`
    EntityClass = 3, "entity class", "how the law classed the entity when this was issued";
    /// `.1.4`
    AnnexRevision = 4, "annex revision", "the revision of the annex that listed the entity";
    /// `.1.5`
    Determination = 5, "determination id", "the determination under which the entity is classed";
    /// `.1.6`
    SubjectKind = 6, "subject kind", "whether the subject is a person or a machine identity";
    /// `.1.7`
    PersonStatus = 7, "person status", "US person, foreign person, or undetermined (15 CFR 772.1)";
    /// `.1.8`
    VerifiedOn = 8, "status verified on", "the UTC day on which the status was verified";
    /// `.1.9`
    Relation = 9, "relation", "relation of the person to the entity, as the entity attests it";
    /// `.1.10`
    Assurance = 10, "identity assurance", "identity assurance level (NIST SP 800-63A-4); identity, not citizenship";
    /// `.1.11`
    Models = 11, "models", "the models the subject may at most use: an upper bound, not a permission";
    /// `.1.12`
    Ordinal = 12, "ordinal", "dense number of this certificate in its sequence, by which it is revoked";
    /// `.1.13`
    Lineage = 13, "lineage and generation", "the chain of renewals and the place of this certificate in it";
}

impl Attribute {
    /// Its OID under an arc, as dotted numbers.
    pub fn oid(self, arc: &Arc) -> String {
        format!("{arc}.1.{}", self.number())
    }

    /// The place of this attribute in an array of all.
    const fn slot(self) -> usize {
        self.number() as usize - 1
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ".1.{} ({})", self.number(), self.name())
    }
}

/// The DER of an attribute's value: one UTF8String.
pub fn encode(text: &str) -> Vec<u8> {
    der::element(UTF8_STRING, &[text.as_bytes()])
}

/// The attributes of a certificate with their texts, in the order of the format.
pub fn values(ordinal: Ordinal, facts: &Facts) -> Vec<(Attribute, String)> {
    let mut out = vec![(Attribute::FormatVersion, FORMAT_VERSION.to_string())];
    let Facts::Access(facts) = facts else {
        out.push((Attribute::Ordinal, ordinal.to_string()));
        return out;
    };
    out.push((Attribute::EntityId, facts.entity.entity.to_string()));
    out.push((Attribute::EntityClass, facts.entity.class.to_string()));
    out.extend(facts.entity.annex_revision.map(|n| (Attribute::AnnexRevision, n.to_string())));
    out.extend(facts.entity.determination.as_ref().map(|id| (Attribute::Determination, id.to_string())));
    out.push((Attribute::SubjectKind, facts.kind().to_string()));
    if let Some(person) = &facts.person {
        out.push((Attribute::PersonStatus, person.status.to_string()));
        out.push((Attribute::VerifiedOn, person.verified_on.to_string()));
        out.push((Attribute::Relation, person.relation.to_string()));
        out.push((Attribute::Assurance, person.assurance.to_string()));
    }
    let models: Vec<&str> = facts.models.iter().map(ModelId::as_str).collect();
    out.push((Attribute::Models, models.join(",")));
    out.push((Attribute::Ordinal, ordinal.to_string()));
    out.push((Attribute::Lineage, format!("{}/{}", facts.step.lineage, facts.step.generation)));
    out
}

/// The texts of the attributes of one certificate, each decoded from strict DER but not yet understood.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Texts<'a>([Option<&'a str>; 13]);

impl<'a> Texts<'a> {
    /// Takes one attribute in; refuses a second of its kind and what is not one UTF8String.
    pub(super) fn insert(&mut self, attribute: Attribute, value: &'a [u8]) -> Result<(), CertificateFault> {
        let Some(slot) = self.0.get_mut(attribute.slot()) else { return Err(CertificateFault::Malformed) };
        if slot.is_some() {
            return Err(CertificateFault::DuplicateAttribute(attribute));
        }
        let encoding = CertificateFault::AttributeEncoding(attribute);
        let string = der::only(value, UTF8_STRING).map_err(|_| encoding)?;
        *slot = Some(std::str::from_utf8(string.value).map_err(|_| encoding)?);
        Ok(())
    }

    /// The version comes first: what a later version means is not for this reader to say.
    pub(super) fn check_version(&self) -> Result<(), CertificateFault> {
        let version: u32 = self.value(Attribute::FormatVersion)?;
        if version == u32::from(FORMAT_VERSION) { Ok(()) } else { Err(CertificateFault::UnknownVersion) }
    }

    /// Attribute .1.12, which every leaf has; ordinals begin at 1.
    pub(super) fn ordinal(&self) -> Result<Ordinal, CertificateFault> {
        match self.value(Attribute::Ordinal)? {
            0 => Err(CertificateFault::AttributeValue(Attribute::Ordinal)),
            ordinal => Ok(Ordinal(ordinal)),
        }
    }

    /// A system leaf and a canary have .1.1 and .1.12 only.
    pub(super) fn check_system(&self) -> Result<(), CertificateFault> {
        for attribute in Attribute::ALL {
            match attribute {
                Attribute::FormatVersion | Attribute::Ordinal => {}
                other => self.absent(*other)?,
            }
        }
        Ok(())
    }

    /// The facts of an access leaf, with the presence rules of design section 2.
    pub(super) fn access_facts(&self, subject: SubjectId) -> Result<AccessFacts, CertificateFault> {
        Ok(AccessFacts {
            subject,
            entity: self.entity()?,
            person: self.person()?,
            models: self.models()?,
            step: self.step()?,
        })
    }

    fn entity(&self) -> Result<EntityFacts, CertificateFault> {
        let entity = self.value(Attribute::EntityId)?;
        let class = self.value(Attribute::EntityClass)?;
        let (annex_revision, determination) = match class {
            EntityClass::AnnexA => {
                (Some(self.value(Attribute::AnnexRevision)?), Some(self.value(Attribute::Determination)?))
            }
            EntityClass::Provider => {
                self.absent(Attribute::AnnexRevision)?;
                (None, self.optional(Attribute::Determination)?)
            }
            EntityClass::Unlisted => {
                self.absent(Attribute::AnnexRevision)?;
                self.absent(Attribute::Determination)?;
                (None, None)
            }
        };
        Ok(EntityFacts { entity, class, annex_revision, determination })
    }

    fn person(&self) -> Result<Option<PersonFacts>, CertificateFault> {
        match self.value(Attribute::SubjectKind)? {
            SubjectKind::Human => Ok(Some(PersonFacts {
                status: self.value(Attribute::PersonStatus)?,
                verified_on: self.value(Attribute::VerifiedOn)?,
                relation: self.value(Attribute::Relation)?,
                assurance: self.value(Attribute::Assurance)?,
            })),
            SubjectKind::Workload => {
                self.absent(Attribute::PersonStatus)?;
                self.absent(Attribute::VerifiedOn)?;
                self.absent(Attribute::Relation)?;
                self.absent(Attribute::Assurance)?;
                Ok(None)
            }
        }
    }

    fn models(&self) -> Result<Vec<ModelId>, CertificateFault> {
        let wrong = CertificateFault::AttributeValue(Attribute::Models);
        let mut models: Vec<ModelId> = Vec::new();
        for name in self.text(Attribute::Models)?.split(',') {
            let model: ModelId = name.parse().map_err(|_| wrong)?;
            if models.len() == MODELS_MAX || models.last().is_some_and(|last| *last >= model) {
                return Err(wrong);
            }
            models.push(model);
        }
        Ok(models)
    }

    fn step(&self) -> Result<LineageStep, CertificateFault> {
        let wrong = CertificateFault::AttributeValue(Attribute::Lineage);
        let (lineage, generation) = self.text(Attribute::Lineage)?.split_once('/').ok_or(wrong)?;
        let step = LineageStep {
            lineage: lineage.parse().map_err(|_| wrong)?,
            generation: canonical(generation).ok_or(wrong)?,
        };
        if step.generation == 0 { Err(wrong) } else { Ok(step) }
    }

    fn get(&self, attribute: Attribute) -> Option<&'a str> {
        self.0.get(attribute.slot()).copied().flatten()
    }

    fn text(&self, attribute: Attribute) -> Result<&'a str, CertificateFault> {
        self.get(attribute).ok_or(CertificateFault::MissingAttribute(attribute))
    }

    fn absent(&self, attribute: Attribute) -> Result<(), CertificateFault> {
        match self.get(attribute) {
            None => Ok(()),
            Some(_) => Err(CertificateFault::UnexpectedAttribute(attribute)),
        }
    }

    fn optional<T: FromStr + fmt::Display>(
        &self,
        attribute: Attribute,
    ) -> Result<Option<T>, CertificateFault> {
        self.get(attribute)
            .map(|text| canonical(text).ok_or(CertificateFault::AttributeValue(attribute)))
            .transpose()
    }

    fn value<T: FromStr + fmt::Display>(&self, attribute: Attribute) -> Result<T, CertificateFault> {
        canonical(self.text(attribute)?).ok_or(CertificateFault::AttributeValue(attribute))
    }
}

/// The value that this text spells, if it spells it in the one way in which the value is written.
fn canonical<T: FromStr + fmt::Display>(text: &str) -> Option<T> {
    let value: T = text.parse().ok()?;
    (value.to_string() == text).then_some(value)
}
