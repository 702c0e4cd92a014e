//! What a subscription sends is what prost would, and what is long is not copied.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;

use super::frames::pieces;
use crate::domain::enforce::Position;
use crate::domain::enforce::message::*;
use crate::domain::id::{Digest, EntityId, Epoch, Seq};
use crate::domain::time::Timestamp;
use crate::pb;

fn delta(events: &[usize], cards: &[usize]) -> ToGateway {
    let bytes = |len: &usize| Bytes::from(vec![7; *len]);
    let record = |seq| RecordEvents { seq: Seq(seq), events: events.iter().map(bytes).collect::<Arc<_>>() };
    let card = |len| (EntityId::from_bytes([9; 16]), bytes(len));
    let records = if events.is_empty() { vec![] } else { vec![record(0), record(300), record(1 << 40)] };
    ToGateway::Delta(Delta { from: Seq(0), to: Seq(500), records, cards: cards.iter().map(card).collect() })
}

#[test]
fn a_message_is_framed_as_grpc_and_prost_do() {
    let head = Position { epoch: Epoch(1), seq: Seq(8) };
    let signed_head = Bytes::from_static(b"head");
    let (lease_ms, server_time) = (10_000, Timestamp::from_millis(5));
    for message in [
        ToGateway::Welcome(Welcome {
            head,
            oldest: Seq(2),
            ping_ms: 3,
            signed_head: signed_head.clone(),
            wants_restrictions: true,
        }),
        delta(&[], &[]),
        delta(&[0, 1, 127, 128, 20_000, 3], &[0, 4, 5_000]),
        delta(&[4_096], &[]),
        delta(&[], &[3_000, 3_000]),
        ToGateway::SnapshotBegin(SnapshotBegin { position: head, parts: 2, len: 9 }),
        ToGateway::SnapshotPart(Bytes::from_static(b"x")),
        ToGateway::SnapshotPart(Bytes::from(vec![3; 200])),
        ToGateway::SnapshotPart(Bytes::from(vec![3; SNAPSHOT_PART_LEN_MAX])),
        ToGateway::SnapshotEnd { sha256: Digest([1; 32]), digest: Digest([2; 32]) },
        ToGateway::Pong(Pong { ping_id: 1, head, lease_ms, server_time, signed_head }),
        ToGateway::Barrier { id: 1, at: Seq(2) },
        ToGateway::Drain { reconnect_after_ms: 1, jitter_ms: 2 },
    ] {
        let encoded = pb::SubscribeResponse::from(message.clone()).encode_to_vec();
        let prefix = [&[0], u32::try_from(encoded.len()).unwrap().to_be_bytes().as_slice()].concat();
        assert!(pieces(message.clone()).concat() == [prefix, encoded].concat(), "{message:?}");
    }
}

#[test]
fn long_bytes_are_shared_by_all_streams() {
    let part = Bytes::from(vec![3; SNAPSHOT_PART_LEN]);
    let sent = pieces(ToGateway::SnapshotPart(part.clone()));
    assert!(sent.iter().any(|piece| piece.as_ptr() == part.as_ptr()));
    let small: usize = sent.iter().map(Bytes::len).sum::<usize>() - part.len();
    assert!(small < 32, "{small} bytes of framing");
}
