//! Pages of the audit of calls.

use tonic::Status;

use super::parse::{invalid, optional, page_len};
use crate::app::CallCursor;
use crate::domain::call::{CallLine, CallerName};
use crate::domain::id::{PrincipalId, RequestId};
use crate::domain::time::Timestamp;
use crate::pb;

/// The longest part of a method's path, and the longest code.
const WORD_LEN_MAX: usize = 128;

/// What a caller wants to see.
pub(super) struct Filter {
    principal: Option<PrincipalId>,
    method: String,
    code: String,
    refused: bool,
    request: Option<RequestId>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    pub(super) from: CallCursor,
    pub(super) len: usize,
}

impl TryFrom<pb::ListCallsRequest> for Filter {
    type Error = Status;
    fn try_from(message: pb::ListCallsRequest) -> Result<Self, Status> {
        for (field, text) in [("method", &message.method), ("code", &message.code)] {
            if text.len() > WORD_LEN_MAX {
                return Err(invalid(field, "at most 128 characters are allowed"));
            }
        }
        Ok(Self {
            principal: optional("principal", &message.principal)?,
            request: optional("request_id", &message.request_id)?,
            since: optional("since", &message.since)?,
            until: optional("until", &message.until)?,
            from: cursor(&message.page_token)?,
            len: page_len(message.page_size),
            method: message.method,
            code: message.code,
            refused: message.refused,
        })
    }
}

impl Filter {
    pub(super) fn wants(&self, line: &CallLine) -> bool {
        let of = |wanted: &PrincipalId| matches!(&line.caller, CallerName::Principal(id) if id == wanted);
        self.principal.as_ref().is_none_or(of)
            && line.method.contains(&self.method)
            && (self.code.is_empty() || line.code == self.code)
            && (!self.refused || line.is_refusal())
            && self.request.is_none_or(|request| line.request == Some(request))
            && self.since.is_none_or(|since| line.last >= since)
            && self.until.is_none_or(|until| line.at < until)
    }
}

/// Where a page begins: a segment and a line of it.
fn cursor(token: &str) -> Result<CallCursor, Status> {
    if token.is_empty() {
        return Ok(CallCursor::default());
    }
    let parts = token.split_once('.').and_then(|(segment, line)| {
        Some(CallCursor { segment: segment.parse().ok()?, line: line.parse().ok()? })
    });
    parts.ok_or_else(|| invalid("page_token", "it is not one of this service"))
}

/// The token of the page that begins there.
pub(super) fn token(cursor: Option<CallCursor>) -> String {
    cursor.map(|at| format!("{}.{}", at.segment, at.line)).unwrap_or_default()
}

/// A line as the API shows it.
pub(super) fn call(line: CallLine) -> pb::Call {
    let (principal, ordinal, refused_authority) = match line.caller {
        CallerName::Nobody => (String::new(), 0, ""),
        CallerName::Principal(id) => (id.to_string(), 0, ""),
        CallerName::Subject(ordinal) => (String::new(), ordinal.0, ""),
        CallerName::Refused(authority, ordinal) => (String::new(), ordinal.0, authority.as_str()),
    };
    pb::Call {
        time: line.at.to_string(),
        last_time: line.last.to_string(),
        count: line.count,
        request_id: line.request.map(|id| id.to_string()).unwrap_or_default(),
        method: line.method,
        principal,
        ordinal,
        refused_authority: refused_authority.to_owned(),
        address: line.address.unwrap_or_default(),
        code: line.code,
        reason: line.reason,
        duration_us: line.took_us,
        record_seq: line.seq.map_or(0, |seq| seq.0),
        detail: line.detail.unwrap_or_default(),
    }
}
