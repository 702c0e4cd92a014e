//! `entity_revoke_1m`: taking a whole entity away costs the same with a million certificates as with one: the same bytes on
//! the journal and on the feed, and the same time to the acknowledgements of all gateways.
//!
//! All certificates are issued by the service. `--certificates N` issues fewer.

use countersign::domain::codec::from_bytes;
use countersign::domain::event::{Entry, Event};
use countersign::domain::id::EntityId;
use countersign::domain::person::EvidenceKind;
use countersign::domain::revocation::RevocationScope;
use countersign::pb;
use countersign::pb::revocation_service_client::RevocationServiceClient;
use countersign::pb::subscribe_request::Message as Up;
use countersign::pb::subscribe_response::Message as Down;
use prost::Message as _;
use tonic::Streaming;

use crate::fanout::{ANSWER_LEN_MAX, SETTLE, revoke_ms, target};
use crate::fleet::{Conduct, Fleet};
use crate::issue::{prepare, redeem};
use crate::measure::{Row, median};
use crate::revoke::subscribed;
use crate::world::World;

const CERTIFICATES: usize = 1_000_000;
/// Certificates that are prepared at once: their keys are in memory.
const BATCH: usize = 10_000;
/// Gateways that acknowledge.
const GATEWAYS: usize = 100;
/// Revocations of each entity. The first takes everything away; each is a record of its own.
const ROUNDS: usize = 41;

pub(crate) fn entity_revoke_1m() -> Vec<Row> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (large, small) = runtime.block_on(async {
        let mut world = World::start().await;
        let (large, small) = (world.partner().await, world.partner().await);
        let subject = world.person(large, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
        let count = crate::CERTIFICATES.get().copied().unwrap_or(CERTIFICATES);
        for _ in 0..count.div_ceil(BATCH) {
            redeem(&world, prepare(&world, subject, BATCH.min(count)).await).await;
        }
        let one = world.person(small, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
        redeem(&world, prepare(&world, one, 1).await).await;
        let measured = measure(&world, [large, small]).await;
        world.close().await;
        measured
    });
    let row = |name, unit, goal, (measured, floor): (f64, f64), met| Row {
        name,
        measured: (measured, unit),
        floor: (floor, unit),
        goal,
        met,
    };
    let same = |a: f64, b: f64| (a - b).abs() < 0.5;
    vec![
        row(
            "entity_1m_journal",
            "B",
            "as for one certificate",
            (large.journal, small.journal),
            same(large.journal, small.journal),
        ),
        row(
            "entity_1m_feed",
            "B",
            "as for one certificate",
            (large.feed, small.feed),
            same(large.feed, small.feed),
        ),
        row(
            "entity_revoke_1m",
            "ms",
            "as for one certificate (10 %)",
            (large.ms, small.ms),
            large.ms <= 1.1 * small.ms,
        ),
    ]
}

/// What one revocation of an entity costs: the longest record and Delta, the median time.
struct Cost {
    journal: f64,
    feed: f64,
    ms: f64,
}

/// Both entities in turn, so that whatever else the machine does meets both.
async fn measure(world: &World, entities: [EntityId; 2]) -> (Cost, Cost) {
    let target = target(world, Conduct::Enforce, GATEWAYS).await;
    let fleet = Fleet::start(world.dir.path(), &target, Conduct::Enforce, GATEWAYS).await;
    tokio::time::sleep(SETTLE).await;
    let (up, mut down) = subscribed(world, "gw-witness").await;
    let mut client = RevocationServiceClient::new(world.alice()).max_decoding_message_size(ANSWER_LEN_MAX);
    let mut costs = [(); 2].map(|()| (0.0_f64, 0.0_f64, Vec::new()));
    for _ in 0..ROUNDS {
        for (entity, (journal, feed, times)) in entities.iter().zip(&mut costs) {
            let app = world.running().app();
            let next = app.journal().head().seq.next();
            times.push(revoke_ms(world, &mut client, RevocationScope::Entity(*entity), GATEWAYS).await);
            // What ended the barrier of the round before may be recorded first.
            let records = app.journal().read(next, 8).unwrap();
            let mut bodies = records.iter().filter_map(|record| record.body.as_deref());
            let is_enacted =
                |body: &[u8]| matches!(from_bytes(body), Ok(Entry { event: Event::Enacted { .. }, .. }));
            *journal = journal.max(bodies.find(|body| is_enacted(body)).unwrap().len() as f64);
            let (len, applied_seq) = delta(&mut down).await;
            *feed = feed.max(len);
            let ack = Up::Ack(pb::Ack { applied_seq, barrier_id: 0 });
            up.send(pb::SubscribeRequest { message: Some(ack) }).await.unwrap();
        }
    }
    drop(fleet);
    let [large, small] = costs.map(|(journal, feed, times)| Cost { journal, feed, ms: median(times) });
    (large, small)
}

/// The bytes of the next Delta with a record, and up to where it goes.
async fn delta(down: &mut Streaming<pb::SubscribeResponse>) -> (f64, u64) {
    loop {
        let response = down.message().await.unwrap().unwrap();
        if let Some(Down::Delta(delta)) = &response.message
            && !delta.records.is_empty()
        {
            return (response.encoded_len() as f64, delta.to_seq);
        }
    }
}
