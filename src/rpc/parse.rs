//! From messages to values: one function for each shape of field, each error naming the field.

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use tonic::{Request, Status};

use super::caller::Who;
use super::status::status;
use crate::app::{Caller, Error, Mode, Wait};
use crate::domain::approval::{Approval, SignedMandate};
use crate::domain::certificate::Certificate;
use crate::domain::enforce::Position;
use crate::domain::id::{Epoch, PrincipalId, Seq};
use crate::pb;

/// The other end of a connection, as the listener knows it.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where it connects from.
    pub address: IpAddr,
    /// Its certificate (DER), when it showed one that chains to one of our authorities.
    pub certificate: Option<Arc<[u8]>>,
}

/// The most approvals that a mandate may carry.
const APPROVALS_MAX: usize = 16;
/// The most items a page may have.
const PAGE_LEN_MAX: u32 = 1_000;
/// How many a page has when the caller does not say.
const PAGE_LEN_DEFAULT: u32 = 100;

/// A required value.
pub(super) fn required<T: FromStr<Err: std::fmt::Display>>(
    field: &'static str,
    text: &str,
) -> Result<T, Status> {
    text.parse().map_err(|e: T::Err| invalid(field, &e.to_string()))
}

/// A value that may be absent (empty).
pub(super) fn optional<T: FromStr<Err: std::fmt::Display>>(
    field: &'static str,
    text: &str,
) -> Result<Option<T>, Status> {
    if text.is_empty() { Ok(None) } else { required(field, text).map(Some) }
}

/// A value with a default for absent (empty).
pub(super) fn or_default<T: FromStr<Err: std::fmt::Display>>(
    field: &'static str,
    text: &str,
    default: T,
) -> Result<T, Status> {
    Ok(optional(field, text)?.unwrap_or(default))
}

/// The status of a wrong field.
pub(super) fn invalid(field: &'static str, why: &str) -> Status {
    status(Error::Invalid { field, why: why.to_owned() })
}

/// Who calls, with their request id.
pub(super) fn caller<T>(request: &Request<T>, request_id: &str) -> Result<Caller, Status> {
    Ok(Caller { principal: principal(request).ok(), request: optional("request_id", request_id)? })
}

/// The principal that calls.
pub(super) fn principal<T>(request: &Request<T>) -> Result<PrincipalId, Status> {
    match request.extensions().get::<Who>() {
        // Who expired comes as far as the renewal only, and that is for this principal.
        Some(Who::Principal(id) | Who::Expired(id)) => Ok(id.clone()),
        Some(Who::Anonymous | Who::Subject(_)) | None => {
            Err(status(Error::Unauthenticated("a registered principal is needed".to_owned())))
        }
    }
}

/// The subject that calls with its own certificate.
pub(super) fn subject<T>(request: &Request<T>) -> Result<Arc<Certificate>, Status> {
    match request.extensions().get::<Who>() {
        Some(Who::Subject(certificate)) => Ok(Arc::clone(certificate)),
        Some(Who::Anonymous | Who::Principal(_) | Who::Expired(_)) | None => {
            Err(status(Error::Unauthenticated("the certificate to be renewed is needed".to_owned())))
        }
    }
}

/// Commit, or only check.
pub(super) const fn mode(validate_only: bool) -> Mode {
    if validate_only { Mode::ValidateOnly } else { Mode::Commit }
}

/// What to wait for.
pub(super) fn wait(wait: i32, deadline_ms: u32) -> Wait {
    match pb::Wait::try_from(wait) {
        Ok(pb::Wait::Enforced) => Wait::Enforced { deadline_ms: (deadline_ms > 0).then_some(deadline_ms) },
        Ok(pb::Wait::Unspecified | pb::Wait::Committed) | Err(_) => Wait::Committed,
    }
}

/// A signed mandate.
pub(super) fn mandate(message: Option<pb::SignedMandate>) -> Result<SignedMandate, Status> {
    let message = message.ok_or_else(|| invalid("mandate", "it is missing"))?;
    if message.approvals.len() > APPROVALS_MAX {
        return Err(invalid("mandate.approvals", "at most 16 are allowed"));
    }
    let approvals = message.approvals.into_iter().map(approval).collect::<Result<_, _>>()?;
    Ok(SignedMandate { bytes: message.mandate.to_vec(), approvals })
}

/// One signature.
pub(super) fn approval(message: pb::Approval) -> Result<Approval, Status> {
    let officer = required("approval.officer", &message.officer)?;
    Ok(Approval { officer, signature: message.signature.to_vec() })
}

/// A position that may be absent.
pub(super) fn position(message: Option<pb::Position>) -> Option<Position> {
    message.map(|position| Position { epoch: Epoch(position.epoch), seq: Seq(position.seq) })
}

/// How many items a page has.
pub(super) fn page_len(wanted: u32) -> usize {
    let len = if wanted == 0 { PAGE_LEN_DEFAULT } else { wanted.min(PAGE_LEN_MAX) };
    usize::try_from(len).unwrap_or(usize::MAX)
}
