//! Gates report what they decide: on disk at the server before it is acknowledged, once, and never lost silently.

use countersign::client::{Gate, GateOptions, Reports};
use countersign::decisions::DecisionLog;
use countersign::domain::decision::Denial;
use countersign::domain::enforce::report::DecisionReport;
use countersign::domain::id::BootId;
use countersign::pb;
use countersign::pb::enforcement_service_client::EnforcementServiceClient;
use tonic::Code;
use tonic::transport::Channel;

use crate::gate::{PATIENCE, STRONG, config, permits, question, revoke, until, world_with_employee};
use crate::world::{Caller, World};

pub(crate) async fn reporting(world: &World, caller: &Caller, queue_max: usize) -> Gate {
    let config = config(world, (caller, world.running().address()), STRONG, &world.clock);
    let options = GateOptions { reports: Some(Reports { queue_max }), ..GateOptions::default() };
    let gate = Gate::connect_with(config, options).await.unwrap();
    gate.ready(PATIENCE).await.unwrap();
    gate
}

fn stored(world: &World) -> Vec<DecisionReport> {
    let batches = DecisionLog::open(&world.dir.path().join("decisions")).read_all().unwrap();
    batches.into_iter().flat_map(|batch| batch.decisions).collect()
}

pub(crate) async fn client(world: &World, caller: &Caller) -> EnforcementServiceClient<Channel> {
    EnforcementServiceClient::new(world.connect_as(caller).await)
}

/// A batch as a gate sends it.
pub(crate) fn good() -> pb::ReportDecisionsRequest {
    let report = pb::DecisionReport {
        code: "CREDENTIAL_REVOKED".to_owned(),
        as_of: Some(pb::Position { epoch: 1, seq: 1 }),
        count: 1,
        ..Default::default()
    };
    let boot_id = BootId::from_bytes([7; 16]).to_string();
    pb::ReportDecisionsRequest { boot_id, batch: 1, decisions: vec![report] }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gate_decides_is_on_disk_at_the_server() {
    let (mut world, leaf) = world_with_employee().await;
    let caller = world.gateway("gw-1").await;
    let gate = reporting(&world, &caller, 1_000).await;
    gate.want(world.facts(&leaf).entity.entity);
    until(&gate, &leaf, permits).await;
    world.restrict(revoke(&world, &leaf), pb::Wait::Enforced).await.unwrap();
    for _ in 0..3 {
        assert!(!permits(&gate, &leaf));
    }
    let made = gate.metrics().permits + gate.metrics().denials;
    gate.shutdown().await;
    let page = world.running().app().metrics().render(&world.running().app().readings()).unwrap();
    let row = "countersign_gateway_decisions_total{gateway=\"gw-1\",outcome=\"DENY\",code=\"CREDENTIAL_REVOKED\"} 3";
    assert!(page.contains(row), "{page}");
    let facts = world.facts(&leaf);
    world.close().await;
    let reports = stored(&world);
    assert_eq!(reports.len() as u64, made);
    let last = reports.last().unwrap();
    assert_eq!((last.is_permit, last.code.as_str(), last.count), (false, "CREDENTIAL_REVOKED", 1));
    assert_eq!((last.subject, last.entity), (Some(facts.subject), Some(facts.entity.entity)));
    assert_eq!(last.model, "mythos-5");
    assert!(reports.iter().any(|report| report.is_permit));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_permits_end_when_the_queue_is_full_and_denials_are_counted() {
    let (mut world, leaf) = world_with_employee().await;
    let caller = world.gateway("gw-1").await;
    let port = world.running().address().port();
    let gate = reporting(&world, &caller, 100).await;
    gate.want(world.facts(&leaf).entity.entity);
    until(&gate, &leaf, permits).await;
    // What was decided until here is on its way; nothing that follows is.
    world.close().await;
    // One batch is under way; when the queue behind it is full, it stays so.
    until(&gate, &leaf, |gate, leaf| {
        let decided = gate.decide(leaf, &question("mythos-5"));
        // The lease still holds.
        assert!(decided.is_permit() || decided.decision.denials == [Denial::StateUnavailable], "{decided:?}");
        gate.metrics().reports_queued == 100
    })
    .await;
    assert!(!permits(&gate, &leaf));
    for _ in 0..500 {
        assert!(!gate.decide(&leaf, &question("no-such-model")).is_permit());
    }
    let metrics = gate.metrics();
    assert!(metrics.reports_refused > 0, "{metrics:?}");
    world.open_at(port).await;
    until(&gate, &leaf, permits).await;
    gate.shutdown().await;
    world.close().await;
    let reports = stored(&world);
    let of = |code: &str| reports.iter().filter(|r| r.code == code).map(|r| r.count).sum::<u32>();
    let codes: std::collections::BTreeSet<_> =
        reports.iter().map(|r| (r.code.clone(), r.count, r.is_permit)).collect();
    assert_eq!(of("MODEL_UNKNOWN"), 500, "{codes:?} {metrics:?}");
    assert!(reports.iter().any(|report| report.count > 1), "the queue had no room for all of them");
    assert!(u64::from(of("STATE_UNAVAILABLE")) >= metrics.reports_refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_takes_only_some_threads_while_its_reports_are_not_written() {
    let (mut world, _) = world_with_employee().await;
    let caller = world.gateway("gw-1").await;
    let mut gateway = client(&world, &caller).await;
    gateway.report_decisions(good()).await.unwrap();
    // A disk that does not answer: opening it to write waits until somebody reads.
    let segment = world.dir.path().join("decisions").join("00000000000000000001.gw-1.log");
    std::fs::remove_file(&segment).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&segment).status().unwrap().success());
    let mut calls = tokio::task::JoinSet::new();
    for number in 2..7 {
        let mut gateway = gateway.clone();
        let request = pb::ReportDecisionsRequest { batch: number, ..good() };
        calls.spawn(async move { gateway.report_decisions(request).await });
    }
    let first = tokio::time::timeout(PATIENCE, calls.join_next()).await.expect("one is too many");
    let refused = first.unwrap().unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert_eq!(calls.len(), 4);
    let path = segment.clone();
    tokio::task::spawn_blocking(move || std::fs::File::open(path).unwrap()).await.unwrap();
    // What is no file cannot be synced, so the log is closed; all places are free again.
    while let Some(answer) = calls.join_next().await {
        assert_eq!(answer.unwrap().unwrap_err().code(), Code::Unavailable);
    }
    assert_eq!(gateway.report_decisions(good()).await.unwrap_err().code(), Code::Unavailable);
    drop(gateway);
    std::fs::remove_file(&segment).unwrap();
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_comes_again_is_stored_once_and_bad_ones_are_refused() {
    let (mut world, _) = world_with_employee().await;
    let caller = world.gateway("gw-1").await;
    let mut client = client(&world, &caller).await;
    let good = good();
    let report = good.decisions[0].clone();
    for _ in 0..3 {
        assert_eq!(client.report_decisions(good.clone()).await.unwrap().into_inner().batch, 1);
    }
    let with = |report: pb::DecisionReport| pb::ReportDecisionsRequest {
        batch: 2,
        decisions: vec![report],
        ..good.clone()
    };
    for bad in [
        pb::ReportDecisionsRequest { boot_id: "nobody".to_owned(), ..good.clone() },
        pb::ReportDecisionsRequest { batch: 0, ..good.clone() },
        pb::ReportDecisionsRequest { decisions: vec![], ..good.clone() },
        pb::ReportDecisionsRequest { decisions: vec![report.clone(); 1_001], ..good.clone() },
        with(pb::DecisionReport { count: 0, ..report.clone() }),
        with(pb::DecisionReport { as_of: None, ..report.clone() }),
        with(pb::DecisionReport { code: "X".repeat(65), ..report.clone() }),
        with(pb::DecisionReport { model: "x".repeat(129), ..report.clone() }),
        with(pb::DecisionReport { subject_id: "someone".to_owned(), ..report.clone() }),
        with(pb::DecisionReport { access_form: "LOOKING".to_owned(), ..report.clone() }),
        with(pb::DecisionReport { place: "nowhere".to_owned(), ..report.clone() }),
    ] {
        let refused = client.report_decisions(bad.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{bad:?}");
    }
    drop(client);
    world.close().await;
    assert_eq!(stored(&world).len(), 1);
}
