//! Why the writer did not append, and what its callers are told.

use super::error::Error;

impl From<&AppendFailure> for Error {
    fn from(failure: &AppendFailure) -> Self {
        match failure {
            AppendFailure::NoSpace(free) => Self::ReadOnly(format!(
                "the disk is almost full ({free} bytes free); only restrictions are recorded"
            )),
            AppendFailure::Closed(why) => Self::Unavailable(format!("the record cannot be written: {why}")),
            AppendFailure::TooLarge(why) => Self::Internal(format!("not a batch: {why}")),
        }
    }
}

/// Why nothing was appended.
pub(super) enum AppendFailure {
    /// So many bytes are free.
    NoSpace(u64),
    /// The journal takes nothing any more, and why.
    Closed(String),
    /// It is no batch, and why.
    TooLarge(&'static str),
}

impl AppendFailure {
    /// For the metrics.
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::NoSpace(_) => "NO_SPACE",
            Self::Closed(_) => "CLOSED",
            Self::TooLarge(_) => "TOO_LARGE",
        }
    }
}
