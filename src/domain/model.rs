//! Models: what a name means, and from what a model descends.
//!
//! A name that resolves to nothing is unknown, which is denied; it never becomes "not covered". A descendant is
//! covered whenever one of its ancestors is (question Q10).

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};
use thiserror::Error;

use super::id::ModelId;
use super::word::words;

words! {
    /// How a subject reaches a model.
    AccessForm {
        /// Prompts and answers over the service's API.
        Inference = 0, "INFERENCE";
        /// The weights themselves.
        Weights = 1, "WEIGHTS";
        /// Source code, training data or other internals.
        Internals = 2, "INTERNALS";
    }
}

/// The longest model name a caller may send: longer than any alias, short enough for a header.
pub const MODEL_NAME_LEN_MAX: usize = 128;
/// The deepest chain of descent; a longer one is a mistake or a circle.
pub const DESCENT_MAX: usize = 16;

/// A registered model.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Model {
    /// Its own name.
    #[n(0)]
    pub id: ModelId,
    /// Other names, compared without ASCII case.
    #[n(1)]
    pub aliases: Vec<String>,
    /// What it was made from: a snapshot, fine-tune or distillate names its parent.
    #[n(2)]
    pub descends_from: Option<ModelId>,
}

/// Why a set of models is not a registry.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RegistryFault {
    /// Two models claim one name.
    #[error("the name {0:?} belongs to two models")]
    NameTaken(String),
    /// An alias is empty, too long, not ASCII or has control characters.
    #[error("the alias {0:?} is not 1 to 128 printable ASCII characters")]
    BadAlias(String),
    /// A parent is not registered.
    #[error("{0} descends from {1}, which is not registered")]
    UnknownParent(ModelId, ModelId),
    /// Descent runs in a circle or is deeper than [`DESCENT_MAX`].
    #[error("the descent of {0} is a circle or deeper than 16")]
    Descent(ModelId),
}

/// Every registered model, by each of its names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registry {
    models: BTreeMap<ModelId, Model>,
    names: BTreeMap<String, ModelId>,
    families: BTreeMap<ModelId, Vec<ModelId>>,
}

impl Registry {
    /// Builds the registry, refusing names that are not unique and descent that does not end.
    pub fn new(models: Vec<Model>) -> Result<Self, RegistryFault> {
        let mut registry = Self::default();
        for model in models {
            for name in std::iter::once(model.id.as_str()).chain(model.aliases.iter().map(String::as_str)) {
                let key = normalise(name)
                    .ok_or_else(|| RegistryFault::BadAlias(name.chars().take(128).collect()))?;
                match registry.names.insert(key, model.id.clone()) {
                    Some(other) if other != model.id => {
                        return Err(RegistryFault::NameTaken(name.to_owned()));
                    }
                    Some(_) | None => {}
                }
            }
            if registry.models.insert(model.id.clone(), model.clone()).is_some() {
                return Err(RegistryFault::NameTaken(model.id.to_string()));
            }
        }
        for id in registry.models.keys() {
            let family = registry.walk(id)?;
            registry.families.insert(id.clone(), family);
        }
        Ok(registry)
    }

    fn walk(&self, id: &ModelId) -> Result<Vec<ModelId>, RegistryFault> {
        let mut family = vec![id.clone()];
        let mut at = id;
        while let Some(parent) = self.models.get(at).and_then(|m| m.descends_from.as_ref()) {
            if !self.models.contains_key(parent) {
                return Err(RegistryFault::UnknownParent(at.clone(), parent.clone()));
            }
            if family.len() >= DESCENT_MAX || family.contains(parent) {
                return Err(RegistryFault::Descent(id.clone()));
            }
            family.push(parent.clone());
            at = parent;
        }
        Ok(family)
    }

    /// The model itself and everything it descends from, nearest first; none when nothing has that name.
    pub fn resolve(&self, name: &str) -> Option<&[ModelId]> {
        // The usual caller sends a name in lower case: no allocation then.
        let id = match self.names.get(name) {
            Some(id) => id,
            None => self.names.get(&normalise(name)?)?,
        };
        self.families.get(id).map(Vec::as_slice)
    }

    /// Every model, in the order of its name.
    pub fn models(&self) -> impl Iterator<Item = &Model> {
        self.models.values()
    }
}

/// The form in which names are compared: ASCII lower case. Anything outside printable ASCII matches nothing, so a
/// look-alike letter can never stand for a registered name.
fn normalise(name: &str) -> Option<String> {
    let fits = !name.is_empty() && name.len() <= MODEL_NAME_LEN_MAX;
    (fits && name.bytes().all(|b| (0x20..0x7f).contains(&b))).then(|| name.to_ascii_lowercase())
}
