//! The one table that turns an error into a gRPC status, with `google.rpc` details.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::app::Error;

/// The domain of `ErrorInfo`.
pub(super) const DOMAIN: &str = "countersign.v1";

/// The word of a code, as gRPC spells it.
pub(super) const fn word(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// A status with a reason that no error has: what a program at the other end tells apart.
pub(super) fn reasoned(code: Code, text: String, reason: &'static str) -> Status {
    Status::with_error_details(code, text, ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new()))
}

/// The status of an error. Faults of ours are logged here, once, and show a fixed text.
pub fn status(error: Error) -> Status {
    let reason = error.code();
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    let text = error.to_string();
    let (code, text) = match error {
        Error::Invalid { field, why } => {
            details.add_bad_request_violation(field, why);
            (Code::InvalidArgument, text)
        }
        Error::Unauthenticated(_) | Error::Expired { .. } => (Code::Unauthenticated, text),
        Error::Denied(_) => (Code::PermissionDenied, text),
        Error::NotIssuable { reference } => {
            let reference = HashMap::from([("reference".to_owned(), reference.to_string())]);
            details.set_error_info(reason, DOMAIN, reference);
            (Code::PermissionDenied, text)
        }
        Error::NotFound(_) => (Code::NotFound, text),
        Error::Exists(_) => (Code::AlreadyExists, text),
        Error::WrongState(_) | Error::NeedsApproval(_) => (Code::FailedPrecondition, text),
        Error::Conflict(_) => (Code::Aborted, text),
        Error::Repeated(_) => (Code::AlreadyExists, text),
        Error::Limit { retry_after_ms } => {
            details.set_retry_info(Some(Duration::from_millis(u64::from(retry_after_ms))));
            (Code::ResourceExhausted, text)
        }
        Error::Unavailable(_) | Error::AuthorityLocked(_) | Error::ReadOnly(_) => (Code::Unavailable, text),
        Error::Deadline => (Code::DeadlineExceeded, text),
        Error::Internal(cause) => {
            tracing::error!(cause, "internal error");
            (Code::Internal, "internal error; the server's log says more".to_owned())
        }
    };
    Status::with_error_details(code, text, details)
}
