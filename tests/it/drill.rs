//! Drills of an emergency stop: they go the way of a stop, deny nobody anything, and leave a report.

use countersign::domain::codec::to_bytes;
use countersign::domain::command::Command;
use countersign::domain::enforce::message::Strength;
use countersign::domain::event::Event;
use countersign::domain::id::{EntityId, ModelId};
use countersign::domain::revocation::{RevocationReason, StopScope};
use countersign::pb;
use countersign::pb::revocation_service_client::RevocationServiceClient;
use tokio::task::JoinHandle;
use tonic::{Code, Status};

use crate::calls::refused;
use crate::gate::{PATIENCE, STRONG, connect, permits, question, until, world_with_employee};
use crate::sds::{ALL, Delta, LEASED};
use crate::world::World;

fn model(name: &str) -> StopScope {
    StopScope::Model(name.parse::<ModelId>().unwrap())
}

impl World {
    async fn drill_request(&self, command: Command, wait: pb::Wait) -> Result<pb::DrillRequest, Status> {
        let mandate = self.mandate(&command).await?;
        let approvals = vec![self.alice.approve(&mandate)];
        let mandate = Some(pb::SignedMandate { mandate: mandate.into(), approvals });
        Ok(pb::DrillRequest { mandate, wait: wait.into(), ..Default::default() })
    }

    async fn drill(&self, scope: StopScope) -> Result<pb::DrillResponse, Status> {
        let request = self.drill_request(Command::Drill(scope), pb::Wait::Enforced).await?;
        Ok(RevocationServiceClient::new(self.alice()).drill(request).await?.into_inner())
    }

    /// A drill beside the test.
    async fn begin_drill(&self, scope: StopScope) -> JoinHandle<pb::DrillResponse> {
        let request = self.drill_request(Command::Drill(scope), pb::Wait::Enforced).await.unwrap();
        let mut client = RevocationServiceClient::new(self.alice());
        tokio::spawn(async move { client.drill(request).await.unwrap().into_inner() })
    }

    async fn drills(&self) -> Vec<pb::DrillRecord> {
        let mut client = RevocationServiceClient::new(self.bob());
        client.list_drills(pb::ListDrillsRequest {}).await.unwrap().into_inner().drills
    }

    /// The newest drill, when its report is on record: that is noted after the answer.
    async fn reported(&self) -> pb::DrillRecord {
        let reported = async {
            loop {
                match self.drills().await.into_iter().next() {
                    Some(drill) if drill.report_seq > 0 => return drill,
                    _ => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, reported).await.expect("a report")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_is_acknowledged_by_every_gateway_denies_nobody_and_leaves_a_report() {
    let (mut world, leaf) = world_with_employee().await;
    let (one, two) = (world.gateway("gw-1").await, world.gateway("gw-2").await);
    let address = world.running().address();
    let strong = connect(&world, (&one, address), STRONG, &world.clock).await;
    let other = connect(&world, (&two, address), STRONG, &world.clock).await;
    for gate in [&strong, &other] {
        assert!(gate.decide_or_ask(&leaf, &question("mythos-5")).await.is_permit);
        until(gate, &leaf, permits).await;
    }
    let stops = world.running().app().state().enforcement.clone();
    for scope in [model("mythos-5"), StopScope::All] {
        let done = world.drill(scope.clone()).await.unwrap();
        let at = done.enforcement.unwrap();
        assert_eq!(at.status(), pb::EnforcementStatus::Enforced, "{at:?}");
        assert_eq!(at.acked, ["gw-1", "gw-2", "server"]);
        let named: Vec<_> = done.acknowledgements.iter().map(|one| one.participant.as_str()).collect();
        assert_eq!(named, ["gw-1", "gw-2"], "each with its time");
        // It arrived: both enforce that record, and still permit.
        let seq = at.position.unwrap().seq;
        assert!([&strong, &other].iter().all(|gate| gate.status().position.seq.0 >= seq));
        assert!(permits(&strong, &leaf) && permits(&other, &leaf));
        assert!(world.mythos(&leaf).await.permit);
        let report = world.reported().await;
        assert_eq!((report.seq, report.scope), (seq, scope.to_string()));
        assert_eq!((report.acked, report.weak, report.lease_expired, report.pending), (3, 0, 0, 0));
        let max_ms = done.acknowledgements.iter().map(|one| one.took_ms).max();
        assert_eq!((report.acked_max_ms, report.took_ms), (max_ms, at.took_ms));
        assert!(report.acked_p50_ms <= report.acked_p99_ms && report.acked_p99_ms <= report.acked_max_ms);
    }
    assert_eq!(*world.running().app().state().enforcement, *stops, "nothing that is enforced changed");
    // The record keeps them, with both halves: the drill and who acknowledged.
    let before = world.drills().await;
    strong.shutdown().await;
    other.shutdown().await;
    world.close().await;
    world.open().await;
    assert_eq!(world.drills().await, before);
    let records = world.running().app().journal().read(countersign::domain::id::Seq(before[0].report_seq), 1);
    let entry = countersign::app::store::entry_of(&records.unwrap()[0]).unwrap();
    let Event::BarrierFinished { at, outcome } = entry.event else { panic!("not a report") };
    assert_eq!((at.0, outcome.acked.len()), (before[0].seq, 3));
    assert_eq!(outcome.drill.unwrap().acked_ms.iter().flatten().count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_shows_who_is_weak_and_who_was_only_closed_by_its_lease() {
    let (world, leaf) = world_with_employee().await;
    let weak = Strength { per_request: false, ..STRONG };
    let (first, second) = (world.gateway("gw-weak").await, world.gateway("gw-gone").await);
    let address = world.running().address();
    let there = connect(&world, (&first, address), weak, &world.clock).await;
    assert!(there.decide_or_ask(&leaf, &question("mythos-5")).await.is_permit);
    let gone = connect(&world, (&second, address), STRONG, &world.clock).await;
    world.row("gw-gone", |row| row.lease_left_ms > 0).await;
    gone.shutdown().await;
    world.row("gw-gone", |row| !row.connected).await;
    let waiting = world.begin_drill(model("mythos-5")).await;
    let app = std::sync::Arc::clone(world.running().app());
    world.row("gw-weak", |row| row.lag == 0 && app.state().drills.last().0 > 0).await;
    // Another one meanwhile would be mistaken for this one.
    refused(world.drill(StopScope::All).await, Code::FailedPrecondition, "another drill is under way");
    world.clock.advance_ms(10_100);
    world.running().app().feed().tick();
    let done = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
    let at = done.enforcement.unwrap();
    assert_eq!(at.status(), pb::EnforcementStatus::Partial, "weak is not enforced: {at:?}");
    assert_eq!((at.weak, at.lease_expired), (vec!["gw-weak".to_owned()], vec!["gw-gone".to_owned()]));
    let named: Vec<_> = done.acknowledgements.iter().map(|one| one.participant.as_str()).collect();
    assert_eq!(named, ["gw-weak"], "who is gone acknowledged nothing");
    assert!(at.took_ms >= 10_000, "a stop would have taken a lease: {} ms", at.took_ms);
    let report = world.reported().await;
    assert_eq!((report.acked, report.weak, report.lease_expired, report.pending), (1, 1, 1, 0));
    until(&there, &leaf, permits).await;
    there.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_pushed_sets_sees_a_new_one_for_a_drill() {
    let world = World::start().await;
    world.partner().await;
    let gateway = world.gateway("gw-1").await;
    let mut stream = Delta::open(&world, &gateway, ALL, &[LEASED]).await.unwrap();
    let first = stream.next().await;
    stream.answer(&first, None).await;
    world.row("gw-1", |row| row.applied_seq > 0).await;
    // Of a model too, which no list can name: what is practised is the way.
    let waiting = world.begin_drill(model("fable-5")).await;
    let second = stream.next().await;
    assert!(second.resources[0].version > first.resources[0].version);
    assert!(stream.is_quiet().await && !waiting.is_finished(), "sent is not acknowledged");
    stream.answer(&second, None).await;
    let done = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
    let at = done.enforcement.unwrap();
    assert_eq!((at.status(), at.acked.len()), (pb::EnforcementStatus::Enforced, 2), "{at:?}");
    assert_eq!(done.acknowledgements.len(), 1);
    assert!(stream.is_quiet().await, "one set for one drill");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_drill_and_what_is_carried_out_already_is_refused() {
    let world = World::start().await;
    world.partner().await;
    let mut client = RevocationServiceClient::new(world.alice());
    let scope = model("mythos-5");
    // A stop on this way, and a drill on the way of stops: neither is what it says.
    let stop = Command::Stop { scope: scope.clone(), reason: RevocationReason::Drill };
    let request = world.drill_request(stop, pb::Wait::Committed).await.unwrap();
    refused(client.drill(request).await, Code::InvalidArgument, "STOP is no drill");
    let restricted = world.restrict(Command::Drill(scope.clone()), pb::Wait::Committed).await;
    refused(restricted, Code::InvalidArgument, "DRILL does not only take away");
    // Names that are not on record.
    for unknown in [model("nobody-9"), StopScope::Entity(EntityId::from_bytes([9; 16]))] {
        refused(world.drill(unknown).await, Code::NotFound, "");
    }
    // Without a signature, and one that was carried out.
    let mut unsigned = world.drill_request(Command::Drill(scope.clone()), pb::Wait::Committed).await.unwrap();
    unsigned.mandate.as_mut().unwrap().approvals.clear();
    assert!(client.drill(unsigned).await.is_err());
    let request = world.drill_request(Command::Drill(scope.clone()), pb::Wait::Committed).await.unwrap();
    client.drill(request.clone()).await.unwrap();
    refused(client.drill(request).await, Code::Aborted, "drills");
    assert_eq!(world.drills().await.len(), 1);
    assert_eq!(world.drills().await[0].report_seq, 0, "nobody waited");
    // A check leaves nothing.
    let mut check = world.drill_request(Command::Drill(scope), pb::Wait::Committed).await.unwrap();
    check.validate_only = true;
    check.mandate.as_mut().unwrap().approvals.clear();
    client.drill(check).await.unwrap();
    assert_eq!(world.drills().await.len(), 1);
}

#[test]
fn a_drill_is_no_restriction_and_may_not_use_the_reserve() {
    let drill = Command::Drill(StopScope::All);
    let stop = Command::Stop { scope: StopScope::All, reason: RevocationReason::Drill };
    assert_eq!(drill.signers(), stop.signers(), "who may stop may practise it");
    assert!(stop.is_restricting() && !drill.is_restricting());
    assert_ne!(to_bytes(&drill), to_bytes(&stop));
}
