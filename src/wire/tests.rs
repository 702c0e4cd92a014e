use std::sync::Arc;

use bytes::Bytes;

use crate::domain::enforce::Position;
use crate::domain::enforce::message::*;
use crate::domain::id::{BootId, Digest, EntityId, Epoch, Seq};
use crate::domain::time::Timestamp;
use crate::pb;
use crate::wire::WireError;

fn entity(byte: u8) -> EntityId {
    EntityId::from_bytes([byte; 16])
}

fn open() -> Open {
    Open {
        boot: BootId::from_bytes([1; 16]),
        position: Position { epoch: Epoch(2), seq: Seq(3) },
        digest: Digest([4; 32]),
        signed_head: Bytes::from_static(b"head"),
        versions: vec![1],
        strength: Strength { per_request: true, stream_cut_ms: 5, ..Strength::default() },
        cards: vec![HeldCard { entity: entity(6), revision: Seq(7) }],
        agent: Some("countersign-client/0.1.0".parse().unwrap()),
        adapter: Some("library".parse().unwrap()),
    }
}

#[test]
fn what_a_gateway_says_survives_the_wire() {
    let nack = Nack { applied: Seq(1), code: NackCode::Rollback, detail: "behind".to_owned() };
    for message in [
        FromGateway::Open(open()),
        FromGateway::Ack { applied: Seq(9), barrier: None },
        FromGateway::Ack { applied: Seq(9), barrier: Some(3) },
        FromGateway::Nack(nack),
        FromGateway::Ping { ping_id: 1, applied: Seq(2) },
        FromGateway::Want(entity(1)),
    ] {
        let sent = pb::SubscribeRequest::from(message.clone());
        assert_eq!(FromGateway::try_from(sent), Ok(message));
    }
}

#[test]
fn what_the_server_says_survives_the_wire() {
    let head = Position { epoch: Epoch(1), seq: Seq(8) };
    let signed_head = Bytes::from_static(b"head");
    let events: Arc<[Bytes]> = Arc::from([Bytes::from_static(b"event")]);
    for message in [
        ToGateway::Welcome(Welcome {
            head,
            oldest: Seq(2),
            ping_ms: 3,
            signed_head: signed_head.clone(),
            wants_restrictions: true,
        }),
        ToGateway::Delta(Delta {
            from: Seq(2),
            to: Seq(8),
            records: vec![RecordEvents { seq: Seq(4), events }],
            cards: vec![(entity(1), Bytes::new())],
        }),
        ToGateway::SnapshotBegin(SnapshotBegin { position: head, parts: 2, len: 9 }),
        ToGateway::SnapshotPart(Bytes::from_static(b"part")),
        ToGateway::SnapshotEnd { sha256: Digest([1; 32]), digest: Digest([2; 32]) },
        ToGateway::Pong(Pong {
            ping_id: 1,
            head,
            lease_ms: 10,
            server_time: Timestamp::from_millis(-5),
            signed_head,
        }),
        ToGateway::Barrier { id: 1, at: Seq(8) },
        ToGateway::Drain { reconnect_after_ms: 1, jitter_ms: 2 },
    ] {
        let sent = pb::SubscribeResponse::from(message.clone());
        assert_eq!(ToGateway::try_from(sent), Ok(message));
    }
}

#[test]
fn a_message_out_of_form_names_the_field() {
    let refused = |open: pb::Open| Open::try_from(open).unwrap_err().field;
    let good = || pb::Open::from(open());
    assert_eq!(refused(pb::Open { boot_id: "boo_".to_owned(), ..good() }), "open.boot_id");
    assert_eq!(refused(pb::Open { digest: Bytes::new(), ..good() }), "open.digest");
    assert_eq!(refused(pb::Open { signed_head: Bytes::from(vec![0; 513]), ..good() }), "open.signed_head");
    assert_eq!(refused(pb::Open { versions: vec![1; 17], ..good() }), "open.versions");
    let card = good().cards.remove(0);
    assert_eq!(refused(pb::Open { cards: vec![card; WANTS_MAX + 1], ..good() }), "open.cards");
    for name in ["\u{1b}[2J", "two words", "caf\u{e9}", &"a".repeat(65)] {
        assert_eq!(refused(pb::Open { agent: name.to_owned(), ..good() }), "open.agent");
        assert_eq!(refused(pb::Open { adapter: name.to_owned(), ..good() }), "open.adapter");
    }
    let silent = Open::try_from(pb::Open { agent: String::new(), adapter: String::new(), ..good() }).unwrap();
    assert_eq!((silent.agent, silent.adapter), (None, None), "an older gateway does not say");
    assert_eq!(FromGateway::try_from(pb::SubscribeRequest::default()), Err(WireError::missing("message")));
    let begin = |parts, bytes| {
        let begin = pb::SnapshotBegin { epoch: 1, seq: 1, parts, bytes };
        ToGateway::try_from(pb::SubscribeResponse {
            message: Some(pb::subscribe_response::Message::SnapshotBegin(begin)),
        })
    };
    assert!(begin(1, 0).is_ok());
    assert!(begin(0, 0).is_err());
    assert!(begin(u32::MAX, 0).is_err());
    assert!(begin(1, SNAPSHOT_LEN_MAX as u64 + 1).is_err());
}

#[test]
fn a_gateway_is_weak_unless_it_keeps_every_promise() {
    let strong = Strength { per_request: true, ..Strength::default() };
    assert!(!strong.is_weak());
    assert!(Strength::default().is_weak());
    assert!(Strength { pausable: true, ..strong }.is_weak());
    assert!(Strength { stream_cut_ms: STREAM_CUT_MAX_MS + 1, ..strong }.is_weak());
    let closes = Strength { closes_connections: true, ..Strength::default() };
    assert!(closes.is_weak());
    assert!(!Strength { resumption_off: true, ..closes }.is_weak());
    let worst = Strength { pausable: true, stream_cut_ms: STREAM_CUT_MAX_MS + 1, ..Strength::default() };
    assert_eq!(worst.weaknesses().collect::<Vec<_>>(), Weakness::ALL);
}
