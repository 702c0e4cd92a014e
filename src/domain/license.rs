//! Licences: specific BIS authorisations to a holder. Not the same as an exemption by determination.

use minicbor::{Decode, Encode};

use super::id::{EntityId, LicenseId, ModelId, PurposeId, SubjectId};
use super::policy::{Country, Place};
use super::time::{Interval, Now, Timestamp};

/// The most reports of one licence: a year's monthly ones, for five years.
pub const REPORTS_MAX: usize = 64;

/// A report that the holder of a licence owes. One that is overdue and not on record makes the licence cover nothing.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ReportDuty {
    /// Its name: 1 to 64 letters, digits and hyphens.
    #[n(0)]
    pub name: String,
    /// By when.
    #[n(1)]
    pub due: Timestamp,
}

/// A licence.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct License {
    /// Its number.
    #[n(0)]
    pub id: LicenseId,
    /// The entity that holds it.
    #[n(1)]
    pub holder: EntityId,
    /// The people it names; empty: every person of the holder.
    #[n(2)]
    pub subjects: Vec<SubjectId>,
    /// The model families it covers.
    #[n(3)]
    pub models: Vec<ModelId>,
    /// Countries other than the United States that it covers as destination.
    #[n(4)]
    pub countries: Vec<Country>,
    /// Purposes it is limited to; empty: any.
    #[n(5)]
    pub purposes: Vec<PurposeId>,
    /// When it is valid.
    #[n(6)]
    pub interval: Interval,
    /// Its provisos are met. A licence whose provisos are not met covers nothing.
    #[n(7)]
    pub provisos_met: bool,
    /// The reports that its holder owes; none: none, as in records from before there were any.
    #[n(8)]
    pub reports: Option<Vec<ReportDuty>>,
}

impl License {
    /// Does it cover this use?
    pub fn covers(
        &self,
        subject: SubjectId,
        family: &[ModelId],
        place: Place,
        purpose: Option<&PurposeId>,
        now: Now,
    ) -> bool {
        let destination = match place {
            Place::Us => true,
            Place::Country(country) => self.countries.contains(&country),
            Place::Unknown => false,
        };
        self.provisos_met
            && self.interval.permits(now)
            && destination
            && (self.subjects.is_empty() || self.subjects.contains(&subject))
            && self.models.iter().any(|model| family.contains(model))
            && (self.purposes.is_empty() || purpose.is_some_and(|p| self.purposes.contains(p)))
    }
}
