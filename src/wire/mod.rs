//! Between the messages of the API and the words of the domain. Everything that arrives is parsed once, here, with a
//! bound for every text and list; nothing here decides anything or reads a clock. Callers: rpc, app, client.

mod feed;
mod metadata;
mod report;
#[cfg(test)]
mod tests;
mod words;

pub use metadata::{CLIENT_TIME, REQUEST_ID, client_time};
pub use report::decision_batch;
pub use words::{enforcement, evaluate_request, place};

use thiserror::Error;

/// A message that is not in the form of the API.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field}: {why}")]
pub struct WireError {
    /// Which field, by its path from the message.
    pub field: &'static str,
    /// What is wrong with it.
    pub why: String,
}

impl WireError {
    /// Something is wrong with a field.
    pub fn new(field: &'static str, why: impl ToString) -> Self {
        Self { field, why: why.to_string() }
    }

    /// A field or a choice is missing.
    pub fn missing(field: &'static str) -> Self {
        Self::new(field, "is missing")
    }
}

/// Parses a text; what is wrong with it is said of this field.
pub fn parse<T>(field: &'static str, text: &str) -> Result<T, WireError>
where
    T: std::str::FromStr,
    T::Err: ToString,
{
    text.parse().map_err(|error: T::Err| WireError::new(field, error.to_string()))
}

/// Refuses a list or text beyond its bound.
fn bounded(field: &'static str, len: usize, max: usize) -> Result<(), WireError> {
    if len > max {
        Err(WireError::new(field, format!("has {len}, at most {max} are allowed")))
    } else {
        Ok(())
    }
}
