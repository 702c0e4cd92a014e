//! The messages of the feed, both ways.

use std::sync::Arc;

use bytes::Bytes;

use super::words::digest;
use super::{WireError, bounded, parse};
use crate::domain::enforce::Position;
use crate::domain::enforce::message::{
    DELTA_LEN_MAX, Delta, FromGateway, HeldCard, NACK_DETAIL_LEN_MAX, Nack, Open, Pong, RecordEvents,
    SIGNED_HEAD_LEN_MAX, SNAPSHOT_LEN_MAX, SNAPSHOT_PART_LEN, SNAPSHOT_PART_LEN_MAX, SnapshotBegin,
    SoftwareName, Strength, ToGateway, VERSIONS_MAX, WANTS_MAX, Welcome,
};
use crate::domain::id::{Digest, Epoch, Seq};
use crate::domain::time::Timestamp;
use crate::pb;
use crate::pb::subscribe_request::Message as Up;
use crate::pb::subscribe_response::Message as Down;

/// The most parts of a snapshot; compression never makes it much larger.
const PARTS_MAX: u32 = (SNAPSHOT_LEN_MAX / SNAPSHOT_PART_LEN) as u32 + 8;
/// The most records, events or cards in a Delta: each has at least eight bytes with its framing.
const ITEMS_MAX: usize = DELTA_LEN_MAX / 8;

impl TryFrom<pb::SubscribeRequest> for FromGateway {
    type Error = WireError;

    fn try_from(request: pb::SubscribeRequest) -> Result<Self, WireError> {
        Ok(match request.message.ok_or_else(|| WireError::missing("message"))? {
            Up::Open(open) => Self::Open(open.try_into()?),
            Up::Ack(ack) => Self::Ack {
                applied: Seq(ack.applied_seq),
                barrier: (ack.barrier_id != 0).then_some(ack.barrier_id),
            },
            Up::Nack(nack) => Self::Nack(Nack {
                applied: Seq(nack.seq),
                code: parse("nack.code", &nack.code)?,
                detail: nack.detail.chars().take(NACK_DETAIL_LEN_MAX).collect(),
            }),
            Up::Ping(ping) => Self::Ping { ping_id: ping.ping_id, applied: Seq(ping.applied_seq) },
            Up::Want(want) => Self::Want(parse("want.entity_id", &want.entity_id)?),
        })
    }
}

impl TryFrom<pb::Open> for Open {
    type Error = WireError;

    fn try_from(open: pb::Open) -> Result<Self, WireError> {
        bounded("open.versions", open.versions.len(), VERSIONS_MAX)?;
        bounded("open.cards", open.cards.len(), WANTS_MAX)?;
        let held = |card: &pb::HeldCard| {
            let entity = parse("open.cards.entity_id", &card.entity_id)?;
            Ok(HeldCard { entity, revision: Seq(card.revision) })
        };
        Ok(Self {
            boot: parse("open.boot_id", &open.boot_id)?,
            position: Position { epoch: Epoch(open.epoch), seq: Seq(open.applied_seq) },
            digest: match open.digest.is_empty() && open.epoch == 0 {
                true => Digest::default(),
                false => digest("open.digest", &open.digest)?,
            },
            signed_head: signed_head("open.signed_head", open.signed_head)?,
            versions: open.versions,
            strength: open.enforcement.map(Strength::from).unwrap_or_default(),
            cards: open.cards.iter().map(held).collect::<Result<_, _>>()?,
            agent: software("open.agent", &open.agent)?,
            adapter: software("open.adapter", &open.adapter)?,
        })
    }
}

/// The name of a piece of software; empty: it does not say.
fn software(field: &'static str, text: &str) -> Result<Option<SoftwareName>, WireError> {
    if text.is_empty() { Ok(None) } else { parse(field, text).map(Some) }
}

fn signed_head(field: &'static str, bytes: Bytes) -> Result<Bytes, WireError> {
    bounded(field, bytes.len(), SIGNED_HEAD_LEN_MAX)?;
    Ok(bytes)
}

impl From<pb::Strength> for Strength {
    fn from(strength: pb::Strength) -> Self {
        Self {
            per_request: strength.per_request,
            closes_connections: strength.closes_connections,
            resumption_off: strength.resumption_off,
            stream_cut_ms: strength.stream_cut_ms,
            pausable: strength.pausable,
        }
    }
}

impl From<Strength> for pb::Strength {
    fn from(strength: Strength) -> Self {
        Self {
            per_request: strength.per_request,
            closes_connections: strength.closes_connections,
            resumption_off: strength.resumption_off,
            stream_cut_ms: strength.stream_cut_ms,
            pausable: strength.pausable,
        }
    }
}

impl From<FromGateway> for pb::SubscribeRequest {
    fn from(message: FromGateway) -> Self {
        let message = match message {
            FromGateway::Open(open) => Up::Open(open.into()),
            FromGateway::Ack { applied, barrier } => {
                Up::Ack(pb::Ack { applied_seq: applied.0, barrier_id: barrier.unwrap_or_default() })
            }
            FromGateway::Nack(nack) => {
                Up::Nack(pb::Nack { seq: nack.applied.0, code: nack.code.to_string(), detail: nack.detail })
            }
            FromGateway::Ping { ping_id, applied } => Up::Ping(pb::Ping { ping_id, applied_seq: applied.0 }),
            FromGateway::Want(entity) => Up::Want(pb::Want { entity_id: entity.to_string() }),
        };
        Self { message: Some(message) }
    }
}

impl From<Open> for pb::Open {
    fn from(open: Open) -> Self {
        let held =
            |card: &HeldCard| pb::HeldCard { entity_id: card.entity.to_string(), revision: card.revision.0 };
        Self {
            boot_id: open.boot.to_string(),
            epoch: open.position.epoch.0,
            applied_seq: open.position.seq.0,
            digest: Bytes::copy_from_slice(&open.digest.0),
            signed_head: open.signed_head,
            versions: open.versions,
            enforcement: Some(open.strength.into()),
            cards: open.cards.iter().map(held).collect(),
            agent: open.agent.map(|name| name.to_string()).unwrap_or_default(),
            adapter: open.adapter.map(|name| name.to_string()).unwrap_or_default(),
        }
    }
}

impl From<ToGateway> for pb::SubscribeResponse {
    fn from(message: ToGateway) -> Self {
        let message = match message {
            ToGateway::Welcome(welcome) => Down::Welcome(pb::Welcome {
                epoch: welcome.head.epoch.0,
                head_seq: welcome.head.seq.0,
                oldest_seq: welcome.oldest.0,
                ping_ms: welcome.ping_ms,
                signed_head: welcome.signed_head,
                wants_restrictions: welcome.wants_restrictions,
            }),
            ToGateway::Delta(delta) => Down::Delta(delta.into()),
            ToGateway::SnapshotBegin(begin) => Down::SnapshotBegin(pb::SnapshotBegin {
                epoch: begin.position.epoch.0,
                seq: begin.position.seq.0,
                parts: begin.parts,
                bytes: begin.len,
            }),
            ToGateway::SnapshotPart(data) => Down::SnapshotPart(pb::SnapshotPart { data }),
            ToGateway::SnapshotEnd { sha256, digest } => Down::SnapshotEnd(pb::SnapshotEnd {
                sha256: Bytes::copy_from_slice(&sha256.0),
                digest: Bytes::copy_from_slice(&digest.0),
            }),
            ToGateway::Pong(pong) => Down::Pong(pb::Pong {
                ping_id: pong.ping_id,
                head_seq: pong.head.seq.0,
                lease_ms: pong.lease_ms,
                server_time_ms: pong.server_time.millis(),
                signed_head: pong.signed_head,
                epoch: pong.head.epoch.0,
            }),
            ToGateway::Barrier { id, at } => Down::Barrier(pb::Barrier { barrier_id: id, seq: at.0 }),
            ToGateway::Drain { reconnect_after_ms, jitter_ms } => {
                Down::Drain(pb::Drain { reconnect_after_ms, jitter_ms })
            }
        };
        Self { message: Some(message) }
    }
}

impl From<Delta> for pb::Delta {
    fn from(delta: Delta) -> Self {
        let record =
            |record: RecordEvents| pb::RecordEvents { seq: record.seq.0, events: record.events.to_vec() };
        Self {
            from_seq: delta.from.0,
            to_seq: delta.to.0,
            records: delta.records.into_iter().map(record).collect(),
            cards: delta
                .cards
                .into_iter()
                .map(|(entity, card)| pb::Card { entity_id: entity.to_string(), card })
                .collect(),
        }
    }
}

impl TryFrom<pb::SubscribeResponse> for ToGateway {
    type Error = WireError;

    fn try_from(response: pb::SubscribeResponse) -> Result<Self, WireError> {
        Ok(match response.message.ok_or_else(|| WireError::missing("message"))? {
            Down::Welcome(welcome) => Self::Welcome(Welcome {
                head: Position { epoch: Epoch(welcome.epoch), seq: Seq(welcome.head_seq) },
                oldest: Seq(welcome.oldest_seq),
                ping_ms: welcome.ping_ms,
                signed_head: signed_head("welcome.signed_head", welcome.signed_head)?,
                wants_restrictions: welcome.wants_restrictions,
            }),
            Down::Delta(delta) => Self::Delta(delta.try_into()?),
            Down::SnapshotBegin(begin) => Self::SnapshotBegin(snapshot_begin(&begin)?),
            Down::SnapshotPart(part) => {
                bounded("snapshot_part.data", part.data.len(), SNAPSHOT_PART_LEN_MAX)?;
                Self::SnapshotPart(part.data)
            }
            Down::SnapshotEnd(end) => Self::SnapshotEnd {
                sha256: digest("snapshot_end.sha256", &end.sha256)?,
                digest: digest("snapshot_end.digest", &end.digest)?,
            },
            Down::Pong(pong) => Self::Pong(Pong {
                ping_id: pong.ping_id,
                head: Position { epoch: Epoch(pong.epoch), seq: Seq(pong.head_seq) },
                lease_ms: pong.lease_ms,
                server_time: Timestamp::from_millis(pong.server_time_ms),
                signed_head: signed_head("pong.signed_head", pong.signed_head)?,
            }),
            Down::Barrier(barrier) => Self::Barrier { id: barrier.barrier_id, at: Seq(barrier.seq) },
            Down::Drain(drain) => {
                Self::Drain { reconnect_after_ms: drain.reconnect_after_ms, jitter_ms: drain.jitter_ms }
            }
        })
    }
}

fn snapshot_begin(begin: &pb::SnapshotBegin) -> Result<SnapshotBegin, WireError> {
    if begin.parts == 0 || begin.parts > PARTS_MAX {
        return Err(WireError::new("snapshot_begin.parts", "is out of range"));
    }
    if begin.bytes > SNAPSHOT_LEN_MAX as u64 {
        return Err(WireError::new("snapshot_begin.bytes", "is more than 64 MiB"));
    }
    let position = Position { epoch: Epoch(begin.epoch), seq: Seq(begin.seq) };
    Ok(SnapshotBegin { position, parts: begin.parts, len: begin.bytes })
}

impl TryFrom<pb::Delta> for Delta {
    type Error = WireError;

    fn try_from(delta: pb::Delta) -> Result<Self, WireError> {
        let items =
            delta.cards.len() + delta.records.iter().map(|record| 1 + record.events.len()).sum::<usize>();
        bounded("delta", items, ITEMS_MAX)?;
        let record = |record: pb::RecordEvents| RecordEvents {
            seq: Seq(record.seq),
            events: Arc::from(record.events),
        };
        let card = |card: pb::Card| Ok((parse("delta.cards.entity_id", &card.entity_id)?, card.card));
        Ok(Self {
            from: Seq(delta.from_seq),
            to: Seq(delta.to_seq),
            records: delta.records.into_iter().map(record).collect(),
            cards: delta.cards.into_iter().map(card).collect::<Result<_, WireError>>()?,
        })
    }
}
