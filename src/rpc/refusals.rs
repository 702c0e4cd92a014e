//! Lines of the log about calls that were refused. The audit has each of them; a flood of them fills no disk.

use std::net::IpAddr;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::buckets::Key;
use super::lines::Lines;
use crate::domain::id::RequestId;

/// A call that was refused, as the log names it.
pub(super) struct Refused<'a> {
    pub(super) method: &'a str,
    pub(super) id: RequestId,
    pub(super) caller: String,
    pub(super) address: Option<IpAddr>,
    pub(super) key: Key,
}

/// What is logged of refusals.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// Apart by whether somebody tried who may not: wrong arguments take no line from that.
    lines: Lines<(Key, bool)>,
}

impl Refusals {
    /// What somebody tries who may not is worth more attention than a wrong argument.
    pub(super) fn log(&self, call: Refused<'_>, status: &Status, now_ms: u64) {
        let is_attempt = matches!(
            status.code(),
            Code::Unauthenticated | Code::PermissionDenied | Code::ResourceExhausted | Code::Internal
        );
        let Some(left_out) = self.lines.take((call.key, is_attempt), now_ms) else { return };
        let (method, id, caller) = (call.method, call.id, call.caller);
        let address = call.address.map(|address| address.to_string());
        let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
        let why = status.message();
        if is_attempt {
            tracing::warn!(rpc.method = method, request.id = %id, caller, peer.address = address, reason, why, left_out, "call refused");
        } else {
            tracing::info!(rpc.method = method, request.id = %id, caller, peer.address = address, reason, why, left_out, "call refused");
        }
    }

    /// Says what was left out of those who have stopped.
    pub(super) fn log_left_out(&self, now_ms: u64) {
        for ((key, is_attempt), left_out) in self.lines.quiet(now_ms) {
            let caller = key.to_string();
            match is_attempt {
                true => tracing::warn!(caller, left_out, "more calls were refused, as the audit says"),
                false => tracing::info!(caller, left_out, "more calls were refused, as the audit says"),
            }
        }
    }
}
