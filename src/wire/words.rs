//! Words that several services share: positions, digests, and how enforcement stands.

use bytes::Bytes;

use super::WireError;
use crate::domain::enforce::{BarrierReport, Chain, EnforcedBy, ParticipantId, Position, Request};
use crate::domain::id::{Digest, Epoch, Seq};
use crate::domain::policy::Place;
use crate::pb;

impl From<Position> for pb::Position {
    fn from(position: Position) -> Self {
        Self { epoch: position.epoch.0, seq: position.seq.0 }
    }
}

impl From<pb::Position> for Position {
    fn from(position: pb::Position) -> Self {
        Self { epoch: Epoch(position.epoch), seq: Seq(position.seq) }
    }
}

/// A digest of exactly 32 bytes.
pub(super) fn digest(field: &'static str, bytes: &[u8]) -> Result<Digest, WireError> {
    let bytes = bytes.try_into().map_err(|_| WireError::new(field, "must have 32 bytes"))?;
    Ok(Digest(bytes))
}

/// How enforcement of a durable record stands, for an answer.
pub fn enforcement(at: Position, report: &BarrierReport, took_ms: u64) -> pb::Enforcement {
    let names = |list: &[ParticipantId]| list.iter().map(ToString::to_string).collect();
    let status =
        if report.is_enforced() { pb::EnforcementStatus::Enforced } else { pb::EnforcementStatus::Partial };
    let enforced_by = match report.enforced_by {
        None => pb::EnforcedBy::Unspecified,
        Some(EnforcedBy::Acks) => pb::EnforcedBy::Acks,
        Some(EnforcedBy::Bound) => pb::EnforcedBy::Bound,
    };
    pb::Enforcement {
        position: Some(at.into()),
        acked: names(&report.acked),
        weak: names(&report.weak),
        lease_expired: names(&report.lease_expired),
        pending: names(&report.pending),
        enforced_by: enforced_by.into(),
        status: status.into(),
        durable: true,
        took_ms,
    }
}

/// The question of a gateway that cannot decide by itself.
pub fn evaluate_request(
    certificate: Bytes,
    request: &Request<'_>,
    min_position: Position,
) -> pb::EvaluateRequest {
    let Chain { hops, end_user_identified } = &request.chain;
    pb::EvaluateRequest {
        certificate,
        model: request.model.to_owned(),
        access_form: request.form.to_string(),
        place: place(request.place),
        serving_region: place(request.serving),
        purpose: request.purpose.as_ref().map(ToString::to_string).unwrap_or_default(),
        chain: hops.iter().map(ToString::to_string).collect(),
        end_user_identified: *end_user_identified,
        min_position: Some(min_position.into()),
    }
}

/// A place as the API spells it: empty when it is not known.
pub fn place(place: Place) -> String {
    match place {
        Place::Us => "US".to_owned(),
        Place::Country(country) => country.to_string(),
        Place::Unknown => String::new(),
    }
}
