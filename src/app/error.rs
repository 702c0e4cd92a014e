//! The one error that callers of `app` see. Each variant has a stable code; `rpc::status` maps it without a default arm.

use thiserror::Error;

use crate::ca::lifetime::TooShort;
use crate::ca::{IssueFault, ListFault, PrepareFault, SignFault};
use crate::domain::flow::Reject;
use crate::domain::id::{RequestId, Seq};
use crate::journal::JournalError;
use crate::x509::{CertificateFault, CsrFault};

/// Why something was not done. Nothing was changed, unless the variant says otherwise.
#[derive(Debug, Error)]
pub enum Error {
    /// A value is not allowed.
    #[error("{field}: {why}")]
    Invalid {
        /// Which field of the request.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The caller did not show who they are.
    #[error("{0}")]
    Unauthenticated(String),
    /// The caller's certificate has ended.
    #[error("your certificate is refused: it has ended{}", if *.renewable { "; its holder may renew it and do nothing else" } else { "" })]
    Expired {
        /// Its registered key may still renew it.
        renewable: bool,
    },
    /// The caller may not do this. Never a decision about a model.
    #[error("{0}")]
    Denied(String),
    /// The record gives no reason to issue a certificate to this subject. Who asks for one is not told why; the log is,
    /// under the same reference.
    #[error(
        "no certificate can be issued to this subject now; the provider's officers can see why (reference {reference})"
    )]
    NotIssuable {
        /// Names the line of the log.
        reference: RequestId,
    },
    /// Something is not on record, or the caller may not know that it is.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// Something is on record already.
    #[error("this {0} exists already")]
    Exists(&'static str),
    /// Something is not in the state that this needs.
    #[error("{0}")]
    WrongState(String),
    /// More signatures are needed, or the ones there do not hold.
    #[error("{0}")]
    NeedsApproval(String),
    /// Something changed meanwhile; read again and retry.
    #[error("{0}")]
    Conflict(String),
    /// Too much at once.
    #[error("too many requests at once; retry after {retry_after_ms} ms")]
    Limit {
        /// How long to wait.
        retry_after_ms: u32,
    },
    /// The request was carried out before, in this record.
    #[error("this request was carried out before, in record {0}")]
    Repeated(Seq),
    /// The record cannot be written, or the answer would not be fresh enough.
    #[error("{0}")]
    Unavailable(String),
    /// The key of an authority cannot be used now: its token is away or locked. Nothing was issued.
    #[error("{0}")]
    AuthorityLocked(String),
    /// A change that the record has no room for; restrictions go on.
    #[error("{0}")]
    ReadOnly(String),
    /// The caller's deadline came first.
    #[error("the deadline passed")]
    Deadline,
    /// A fault of ours. Callers get a fixed text; the cause is logged once.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Error {
    /// Its stable code, as in `ErrorInfo.reason`.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "INVALID",
            Self::Unauthenticated(_) => "UNAUTHENTICATED",
            Self::Expired { .. } => "CREDENTIAL_EXPIRED",
            Self::Denied(_) => "DENIED",
            Self::NotIssuable { .. } => "NOT_ISSUABLE",
            Self::NotFound(_) => "NOT_FOUND",
            Self::Exists(_) => "EXISTS",
            Self::WrongState(_) => "WRONG_STATE",
            Self::NeedsApproval(_) => "NEEDS_APPROVAL",
            Self::Conflict(_) => "CONFLICT",
            Self::Limit { .. } => "LIMIT",
            Self::Repeated(_) => "REPEATED",
            Self::Unavailable(_) => "UNAVAILABLE",
            Self::AuthorityLocked(_) => "AUTHORITY_LOCKED",
            Self::ReadOnly(_) => "READ_ONLY",
            Self::Deadline => "DEADLINE",
            Self::Internal(_) => "INTERNAL",
        }
    }
}

impl From<Reject> for Error {
    fn from(reject: Reject) -> Self {
        match reject {
            Reject::Invalid { field, why } => Self::Invalid { field, why },
            Reject::NotFound(what) => Self::NotFound(what),
            Reject::Exists(what) => Self::Exists(what),
            Reject::WrongState { .. } => Self::WrongState(reject.to_string()),
            Reject::NeedsApproval(why) => Self::NeedsApproval(why),
            Reject::Denied(why) => Self::Denied(why),
            Reject::Conflict(why) => Self::Conflict(why),
            Reject::Repeated(seq) => Self::Repeated(seq),
        }
    }
}

impl From<CsrFault> for Error {
    fn from(fault: CsrFault) -> Self {
        Self::Invalid { field: "csr", why: fault.to_string() }
    }
}

impl From<CertificateFault> for Error {
    fn from(fault: CertificateFault) -> Self {
        Self::Invalid { field: "certificate", why: format!("{} ({fault})", fault.code()) }
    }
}

impl From<TooShort> for Error {
    fn from(short: TooShort) -> Self {
        Self::WrongState(short.to_string())
    }
}

impl From<PrepareFault> for Error {
    fn from(fault: PrepareFault) -> Self {
        Self::Internal(format!("a certificate was not prepared: {fault}"))
    }
}

impl From<SignFault> for Error {
    fn from(fault: SignFault) -> Self {
        match fault {
            SignFault::Failed => Self::Internal(fault.to_string()),
            SignFault::Away | SignFault::Locked => Self::AuthorityLocked(fault.to_string()),
        }
    }
}

impl From<IssueFault> for Error {
    fn from(fault: IssueFault) -> Self {
        match fault {
            IssueFault::Sign(fault @ (SignFault::Away | SignFault::Locked)) => fault.into(),
            fault => Self::Internal(format!("a certificate was not signed: {fault}")),
        }
    }
}

impl From<ListFault> for Error {
    fn from(fault: ListFault) -> Self {
        match fault {
            ListFault::Sign(fault @ (SignFault::Away | SignFault::Locked)) => fault.into(),
            fault => Self::Internal(format!("a revocation list was not signed: {fault}")),
        }
    }
}

impl From<JournalError> for Error {
    fn from(error: JournalError) -> Self {
        Self::Internal(format!("the journal cannot be read: {error}"))
    }
}
