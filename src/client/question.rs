//! What a request asks, in a form that can be kept: what a gateway derives from an HTTP request, and what a stream was
//! permitted for.

use crate::domain::enforce::{Chain, Request};
use crate::domain::id::PurposeId;
use crate::domain::model::AccessForm;
use crate::domain::policy::Place;

/// A [`Request`] that owns its model's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The model, by any of its names. From the route or a header that only a trusted edge can set.
    pub model: String,
    /// How it is reached.
    pub form: AccessForm,
    /// Where the subject is, as a trusted edge says; never as the client says.
    pub place: Place,
    /// Where the model is served from.
    pub serving: Place,
    /// What for.
    pub purpose: Option<PurposeId>,
    /// Through whom.
    pub chain: Chain,
}

impl Question {
    /// Inference by the subject itself, served from the United States. Where the subject is is not known until a trusted
    /// edge says so.
    pub fn inference(model: impl Into<String>) -> Self {
        Self {
            model: model.into(),
            form: AccessForm::Inference,
            place: Place::Unknown,
            serving: Place::Us,
            purpose: None,
            chain: Chain::default(),
        }
    }

    /// The same question from this place.
    #[must_use]
    pub fn from_place(self, place: Place) -> Self {
        Self { place, ..self }
    }

    /// What is decided.
    pub fn request(&self) -> Request<'_> {
        Request {
            model: &self.model,
            form: self.form,
            place: self.place,
            serving: self.serving,
            purpose: self.purpose.clone(),
            chain: self.chain.clone(),
        }
    }
}
