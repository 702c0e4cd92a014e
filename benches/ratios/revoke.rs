//! `revoke_ack`: from the call to the acknowledgement of a gateway. `entity_revoke`: an entity with many certificates.

use std::io::{Seek, SeekFrom, Write};

use countersign::domain::command::Command;
use countersign::domain::id::{EntityId, Ordinal};
use countersign::domain::person::EvidenceKind;
use countersign::domain::revocation::{RevocationReason, RevocationScope};
use countersign::pb;
use prost::Message as _;

use crate::bare::round_trip_us;
use crate::gate::connect;
use crate::issue::{prepare, redeem, redeem_all};
use crate::measure::{Row, median, wall_us};
use crate::world::World;

/// Revocations measured.
const REVOCATIONS: usize = 300;
/// Certificates of the large entity.
const CERTIFICATES: usize = 100_000;

pub(crate) fn revoke_ack() -> Row {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (measured, floor) = runtime.block_on(async {
        let mut world = World::start().await;
        let entity = world.partner().await;
        let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
        let leaves = redeem_all(&world, prepare(&world, subject, REVOCATIONS).await).await;
        let gate = connect(&world, "gw-ack").await;
        let mut client = pb::revocation_service_client::RevocationServiceClient::new(world.alice());
        let mut samples = Vec::new();
        for leaf in &leaves {
            let ordinal: Ordinal = world.running().app().read_certificate(leaf).unwrap().ordinal;
            let scope = RevocationScope::Certificate(ordinal);
            let command = Command::Revoke { scope, reason: RevocationReason::Drill };
            let mandate = world.mandate(&command).await.unwrap();
            let approvals = vec![world.alice.approve(&mandate)];
            let request = pb::RevokeRequest {
                mandate: Some(pb::SignedMandate { mandate: mandate.into(), approvals }),
                wait: pb::Wait::Enforced.into(),
                ..Default::default()
            };
            let begin = wall_us();
            let done = client.revoke(request).await.unwrap().into_inner().enforcement.unwrap();
            samples.push(wall_us() - begin);
            assert_eq!(done.status, i32::from(pb::EnforcementStatus::Enforced), "{done:?}");
            assert!(done.acked.contains(&"gw-ack".to_owned()), "{done:?}");
        }
        let floor = sync_us(world.dir.path()) + 2.0 * round_trip_us().await;
        gate.shutdown().await;
        world.close().await;
        (median(samples), floor)
    });
    Row {
        name: "revoke_ack",
        measured: (measured, "us"),
        floor: (floor, "us"),
        goal: "<= 2 x (fdatasync + 2 mTLS RPC)",
        met: measured <= 2.0 * floor,
    }
}

/// One fdatasync of 512 bytes over bytes that are there already.
fn sync_us(folder: &std::path::Path) -> f64 {
    let mut file = std::fs::File::create(folder.join("floor")).unwrap();
    file.write_all(&[0; 512]).unwrap();
    file.sync_all().unwrap();
    let samples = (0..500).map(|round: u32| {
        let begin = wall_us();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.write_all(&[u8::try_from(round % 256).unwrap(); 512]).unwrap();
        file.sync_data().unwrap();
        wall_us() - begin
    });
    median(samples.collect())
}

pub(crate) fn entity_revoke() -> Row {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (large, small) = runtime.block_on(async {
        let mut world = World::start().await;
        let (large, small) = (world.partner().await, world.partner().await);
        let subject = world.person(large, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
        for _ in 0..CERTIFICATES / 10_000 {
            redeem(&world, prepare(&world, subject, 10_000).await).await;
        }
        let one = world.person(small, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
        redeem(&world, prepare(&world, one, 1).await).await;
        let measured = (bytes_of(&world, large).await, bytes_of(&world, small).await);
        world.close().await;
        measured
    });
    Row {
        name: "entity_revoke",
        measured: (large, "B"),
        floor: (small, "B"),
        goal: "1 record, same bytes, <= 150",
        met: large <= 150.0 && (large - small).abs() < 0.5,
    }
}

/// What a gateway says and is sent, after its snapshot. Without a Ping it has no lease that somebody would wait for.
pub(crate) type Line =
    (tokio::sync::mpsc::Sender<pb::SubscribeRequest>, tonic::Streaming<pb::SubscribeResponse>);

pub(crate) async fn subscribed(world: &World, name: &str) -> Line {
    let caller = world.gateway(name).await;
    let channel = world.connect(Some((&caller.key, &caller.certificate))).await;
    let mut client = pb::enforcement_service_client::EnforcementServiceClient::new(channel);
    let open = pb::Open {
        boot_id: "boo_01JZZZZZZZZZZZZZZZZZZZZZZZ".to_owned(),
        versions: vec![1],
        enforcement: Some(pb::Strength { per_request: true, resumption_off: true, ..Default::default() }),
        digest: vec![0; 32].into(),
        ..Default::default()
    };
    let (up, messages) = tokio::sync::mpsc::channel(8);
    up.send(pb::SubscribeRequest { message: Some(pb::subscribe_request::Message::Open(open)) })
        .await
        .unwrap();
    let stream = tokio_stream::wrappers::ReceiverStream::new(messages);
    let mut down = client.subscribe(stream).await.unwrap().into_inner();
    loop {
        let message = down.message().await.unwrap().unwrap().message.unwrap();
        if let pb::subscribe_response::Message::SnapshotEnd(_) = message {
            return (up, down);
        }
    }
}

/// What a subscriber receives when an entity is revoked.
async fn bytes_of(world: &World, entity: EntityId) -> f64 {
    let name = format!("gw-{}", entity.to_string().to_lowercase().trim_start_matches("ent_"));
    let (_up, mut down) = subscribed(world, &name).await;
    let before = world.running().app().journal().head().seq.0;
    let scope = RevocationScope::Entity(entity);
    let command = Command::Revoke { scope, reason: RevocationReason::Drill };
    let done = world.restrict(command, pb::Wait::Committed).await.unwrap();
    assert_eq!(done.position.unwrap().seq, before + 1, "a revocation is one record");
    loop {
        let response = down.message().await.unwrap().unwrap();
        if let Some(pb::subscribe_response::Message::Delta(delta)) = &response.message
            && !delta.records.is_empty()
        {
            return response.encoded_len() as f64;
        }
    }
}
