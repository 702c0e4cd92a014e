//! A model grant: the operator's permission for an entity to use one model, with its conditions.

use minicbor::{Decode, Encode};

use super::id::{GrantId, ModelId, PurposeId};
use super::model::AccessForm;
use super::policy::{Country, Place};
use super::time::{Interval, Now};

/// A permission to use one model family. It narrows, never widens, what the law allows.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Grant {
    /// Its name.
    #[n(0)]
    pub id: GrantId,
    /// The model family.
    #[n(1)]
    pub model: ModelId,
    /// When it holds.
    #[n(2)]
    pub interval: Interval,
    /// Access forms beside INFERENCE, which every grant includes. Sorted.
    #[n(3)]
    pub forms: Vec<AccessForm>,
    /// Countries other than the United States from which the model may be used. Sorted.
    #[n(4)]
    pub countries: Vec<Country>,
    /// Purposes that it is for; empty: any. Sorted.
    #[n(5)]
    pub purposes: Vec<PurposeId>,
}

impl Grant {
    /// Does it hold now?
    pub fn is_active(&self, now: Now) -> bool {
        self.interval.permits(now)
    }

    /// Does it cover a model with this family?
    pub fn covers(&self, family: &[ModelId]) -> bool {
        family.contains(&self.model)
    }

    /// Does it allow this form of access?
    pub fn allows_form(&self, form: AccessForm) -> bool {
        form == AccessForm::Inference || self.forms.contains(&form)
    }

    /// Does it allow use from this place?
    pub fn allows_place(&self, place: Place) -> bool {
        match place {
            Place::Us => true,
            Place::Country(country) => self.countries.contains(&country),
            Place::Unknown => false,
        }
    }

    /// Does it allow this purpose? A grant with purposes needs one to be declared.
    pub fn allows_purpose(&self, purpose: Option<&PurposeId>) -> bool {
        self.purposes.is_empty() || purpose.is_some_and(|purpose| self.purposes.contains(purpose))
    }
}
