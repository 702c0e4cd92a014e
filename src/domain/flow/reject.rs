//! Why an input is rejected. Each variant has one place in the table that turns it into an RPC status.

use thiserror::Error;

use crate::domain::id::Seq;

/// A rejected input: nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Reject {
    /// A value is not allowed.
    #[error("{field}: {why}")]
    Invalid {
        /// Which field.
        field: &'static str,
        /// What is wrong.
        why: String,
    },
    /// Something is not on record.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// Something is on record already.
    #[error("this {0} exists already")]
    Exists(&'static str),
    /// Something is not in the state that this needs.
    #[error("the {what} is {have}; this needs {need}")]
    WrongState {
        /// What.
        what: &'static str,
        /// Its state.
        have: String,
        /// The state needed.
        need: &'static str,
    },
    /// More signatures are needed, or the ones there do not hold.
    #[error("{0}")]
    NeedsApproval(String),
    /// The caller may not do this.
    #[error("{0}")]
    Denied(String),
    /// Something changed meanwhile; read again and retry.
    #[error("{0}")]
    Conflict(String),
    /// This request was carried out before, in this record.
    #[error("this request was carried out before, in record {0}")]
    Repeated(Seq),
}
