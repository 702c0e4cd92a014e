//! A disk that fails under the running service: a restriction that cannot be written stops everything until it is, and
//! nothing that was acknowledged is lost.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::future::Future as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use countersign::app::{Caller as AppCaller, Mode, store};
use countersign::client::Gate;
use countersign::domain::announcement::CUT_AHEAD_MAX_MS;
use countersign::domain::approval::{Approval, SignedMandate};
use countersign::domain::codec::to_bytes;
use countersign::domain::command::Command;
use countersign::domain::decision::Denial;
use countersign::domain::enforce::bound_ms;
use countersign::domain::entity::EntityStatus;
use countersign::domain::id::{AnnouncementId, EntityId, Ordinal};
use countersign::domain::person::EvidenceKind;
use countersign::domain::revocation::{RevocationReason, RevocationScope, StopScope, SuspensionTarget};
use countersign::env::{Clock as _, Entropy as _, SystemEntropy};
use countersign::journal::Condition;
use countersign::journal::faulty::DiskFaults;
use countersign::journal::file::{Options, RESERVE_LEN};
use countersign::pb;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::Peer;
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::health_check_response::ServingStatus;

use crate::calls::{apply, denied, key, question as asked, reason, refused};
use crate::gate::{self, STRONG, permits, until};
use crate::health::{becomes, status};
use crate::logs;
use crate::restart::verified;
use crate::world::{Caller, World};

const REASON: RevocationReason = RevocationReason::Drill;
/// How long an event may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(30);
/// Room in the last segment of a cornered service: some starts and certificates.
const ROOM: u64 = 24 << 10;

fn faults(world: &World) -> Arc<DiskFaults> {
    DiskFaults::at(&world.dir.path().join("journal"))
}

fn segments(world: &World) -> Vec<PathBuf> {
    let names = std::fs::read_dir(world.dir.path().join("journal")).unwrap();
    let mut paths: Vec<_> = names.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    paths.sort();
    paths
}

/// Leaves so much room after the last record. The service must be stopped.
fn shrink(world: &World, room: u64) {
    let last = segments(world).pop().unwrap();
    let end = std::fs::read(&last).unwrap().iter().rposition(|byte| *byte != 0).unwrap();
    File::options().write(true).open(last).unwrap().set_len(end as u64 + 1 + room).unwrap();
}

/// Records ordinary changes, long ones first, until not even the shortest fits.
async fn fill(world: &World) {
    let mut portal = pb::provisioning_service_client::ProvisioningServiceClient::new(world.alice());
    for len in [900, 1] {
        let status = loop {
            if let Err(status) = portal.apply_entity(apply(&"x".repeat(len))).await {
                break status;
            }
        };
        assert_eq!(reason(&status), "READ_ONLY");
    }
}

struct Cornered {
    world: World,
    entity: EntityId,
    caller: Caller,
    gateway: Caller,
}

/// A service whose disk takes nothing more, not even into the reserve.
async fn cornered() -> Cornered {
    let mut world = World::start().await;
    let entity = world.partner().await;
    let caller = world.enroll(world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await).await;
    let gateway = world.gateway("gw-1").await;
    world.close().await;
    shrink(&world, ROOM);
    std::fs::remove_file(world.dir.path().join("journal/reserve")).unwrap();
    faults(&world).leave_free(Some(0));
    world.settings.low_water = 0;
    world.open().await;
    Cornered { world, entity, caller, gateway }
}

fn stop() -> Command {
    Command::Stop { scope: StopScope::Model("mythos-5".parse().unwrap()), reason: REASON }
}

fn hold(ordinal: Ordinal) -> Command {
    Command::Hold { ordinal, reason: REASON }
}

/// What Envoy is answered about this caller.
async fn check(channel: &Channel, caller: &Caller) -> i32 {
    let pem = countersign::x509::bundle::certificate_pem(&caller.certificate);
    let certificate: String = pem.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let context = [("model", "mythos-5"), ("place", "US"), ("serving_region", "US")];
    let attributes = AttributeContext {
        source: Some(Peer { certificate, ..Default::default() }),
        context_extensions: HashMap::from(context.map(|(key, value)| (key.to_owned(), value.to_owned()))),
        ..Default::default()
    };
    let request = CheckRequest { attributes: Some(attributes) };
    AuthorizationClient::new(channel.clone()).check(request).await.unwrap().into_inner().status.unwrap().code
}

/// Polls until the service permits again, as far as its record goes.
async fn opened(world: &World) {
    let app = world.running().app();
    let opened = async {
        while app.state_fault().is_some() || app.feed().closed().is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, opened).await.expect("the service opens again by itself");
}

fn denies(gate: &Gate, leaf: &[u8], why: Denial) -> bool {
    gate.decide(leaf, &gate::question("mythos-5")).decision.denials.first() == Some(&why)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_cannot_be_written_closes_everything_until_it_is() {
    let Cornered { mut world, caller, gateway, .. } = cornered().await;
    let channel = world.connect_as(&gateway).await;
    let gate = gate::connect(&world, (&gateway, world.running().address()), STRONG, &world.clock).await;
    assert!(gate.decide_or_ask(&caller.certificate, &gate::question("mythos-5")).await.is_permit);
    until(&gate, &caller.certificate, permits).await;
    fill(&world).await;
    assert!(world.ask(&channel, asked(&caller.certificate, "mythos-5")).await.permit, "decisions go on");
    assert_eq!(check(&channel, &caller).await, Code::Ok as i32);

    let done = world.restrict(stop(), pb::Wait::Enforced).await.unwrap();
    assert!(!done.durable);
    assert_eq!(done.status(), pb::EnforcementStatus::Unspecified, "{done:?}");
    denied(&world.ask(&channel, asked(&caller.certificate, "mythos-5")).await, "STATE_UNAVAILABLE");
    assert_eq!(check(&channel, &caller).await, Code::PermissionDenied as i32);
    assert_eq!(world.verify(&caller.certificate).await.code, "STATE_UNAVAILABLE");
    // No Ping is answered: the gateway's lease is the stop.
    let feed = world.running().app().feed().clone();
    let granted = feed.counts().pongs;
    world.clock.advance_ms(u32::try_from(bound_ms(10_000)).unwrap());
    assert!(denies(&gate, &caller.certificate, Denial::StaleView));
    let pinged = feed.counts().refused_pings;
    until(&gate, &caller.certificate, |_, _| {
        world.clock.advance_ms(100);
        feed.counts().refused_pings > pinged
    })
    .await;
    assert_eq!(feed.counts().pongs, granted);
    assert!(denies(&gate, &caller.certificate, Denial::StaleView));

    // Room again: it is written by itself, and only then anything is granted.
    faults(&world).leave_free(None);
    opened(&world).await;
    denied(&world.ask(&channel, asked(&caller.certificate, "mythos-5")).await, "EMERGENCY_STOP");
    until(&gate, &caller.certificate, |gate, leaf| {
        world.clock.advance_ms(100);
        denies(gate, leaf, Denial::EmergencyStop)
    })
    .await;
    assert!(feed.counts().pongs > granted);
    // It holds the record, which holds the directory.
    drop(feed);
    gate.shutdown().await;
    world.close().await;
    store::verify_offline(world.dir.path(), &mut |_| ()).unwrap();
    world.open().await;
    denied(&world.mythos(&caller.certificate).await, "EMERGENCY_STOP");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_opens_before_every_restriction_that_is_held_is_written() {
    let Cornered { world, entity, caller, .. } = cornered().await;
    fill(&world).await;
    let ordinal = world.read(&caller.certificate).ordinal;
    let suspend = Command::Suspend { target: SuspensionTarget::Entity(entity), reason: REASON };
    let remove = Command::RemoveEntity { entity, reason: REASON };
    // What is repeated because it was not durable is held once; a second removal could never be recorded.
    for command in [stop(), hold(ordinal), suspend] {
        assert!(!world.restrict(command, pb::Wait::Committed).await.unwrap().durable);
    }
    let mandate = world.mandate(&remove).await.unwrap();
    for _ in 0..2 {
        let approvals = vec![world.alice.approve(&mandate)];
        assert!(!world.submit(mandate.clone(), approvals).await.unwrap().durable);
    }
    refused(world.enact(Command::ReleaseHold(ordinal)).await, Code::Unavailable, "cannot be written");
    let before = world.running().app().state().position.seq.0;
    let faults = faults(&world);
    faults.let_syncs(Some(0));
    // Room for the records, not for a new reserve, whose syncs would be counted as well.
    faults.leave_free(Some(2 << 20));
    for written in 1..=4 {
        denied(&world.mythos(&caller.certificate).await, "STATE_UNAVAILABLE");
        assert!(world.running().app().feed().closed().is_some());
        faults.let_syncs(Some(1));
        let app = world.running().app();
        let next = async {
            while app.state().position.seq.0 < before + written {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("the next one is written");
        assert_eq!(app.state().position.seq.0, before + written);
    }
    faults.let_syncs(None);
    opened(&world).await;
    let state = world.running().app().state();
    assert!(state.enforcement.held.contains(ordinal) && state.enforcement.stops.len() == 1);
    assert!(state.enforcement.suspended.contains(&SuspensionTarget::Entity(entity)));
    assert!(!world.mythos(&caller.certificate).await.permit);
    assert_eq!(world.mythos(&caller.certificate).await.code, "CREDENTIAL_REVOKED");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_contradicts_a_held_restriction_is_refused_and_not_held_for_ever() {
    let Cornered { world, entity, .. } = cornered().await;
    fill(&world).await;
    let removal = |reason| Command::RemoveEntity { entity, reason };
    assert!(!world.enact(removal(REASON)).await.unwrap().durable);
    // Another one of the same entity could not be written after it.
    refused(
        world.enact(removal(RevocationReason::Misuse)).await,
        Code::FailedPrecondition,
        "the entity is REMOVED",
    );
    faults(&world).leave_free(None);
    // Whoever repeats it before the next try finds it on record.
    refused(world.enact(removal(REASON)).await, Code::FailedPrecondition, "the entity is REMOVED");
    opened(&world).await;
    assert_eq!(world.running().app().state().entities[&entity].status, EntityStatus::Removed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_restriction_is_written_whatever_the_clock_became_meanwhile() {
    let Cornered { world, entity, caller, .. } = cornered().await;
    world.clock.advance_ms(3_600_000);
    fill(&world).await;
    // As far ahead as may be, by the clock of now.
    let id = AnnouncementId::from_parts(world.clock.now(), SystemEntropy.bytes16());
    let cut_at = world.clock.now().plus_ms(CUT_AHEAD_MAX_MS);
    let scope = RevocationScope::Entity(entity);
    let announce = Command::AnnounceRevocation { id, scope, cut_at, reason: REASON };
    assert!(!world.restrict(announce, pb::Wait::Committed).await.unwrap().durable);
    // By the clock that comes after, it would lie too far ahead.
    world.clock.set_wall(world.clock.now().plus_ms(-1_800_000));
    refused(world.enact(Command::AcceptClock(world.clock.now())).await, Code::Unavailable, "Make room");
    faults(&world).leave_free(None);
    let app = world.running().app();
    let written = async {
        while !app.state().announcements.contains_key(&id) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, written).await.expect("it is written");
    // Then officers can say that the clock is right, and the service opens.
    world.enact(Command::AcceptClock(world.clock.now())).await.unwrap();
    opened(&world).await;
    assert!(world.mythos(&caller.certificate).await.permit);
    assert_eq!(app.state().enforcement.announced[&id].cut_at, cut_at);
    // The record says the same when it is read again.
    let before = app.state().announcements.clone();
    let mut world = world;
    world.close().await;
    store::verify_offline(world.dir.path(), &mut |_| ()).unwrap();
    world.open().await;
    assert_eq!(world.running().app().state().announcements, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_cannot_be_recorded_does_not_push_out_one_that_is() {
    let Cornered { mut world, .. } = cornered().await;
    faults(&world).leave_free(None);
    let names = |world: &World| -> Vec<_> {
        let dir = std::fs::read_dir(world.dir.path().join("snapshots")).unwrap();
        dir.map(|entry| entry.unwrap().file_name()).collect()
    };
    world.running().app().take_snapshot().await;
    let recorded = names(&world);
    assert_eq!(recorded.len(), 1);
    faults(&world).leave_free(Some(0));
    fill(&world).await;
    world.running().app().take_snapshot().await;
    assert_eq!(names(&world), recorded);
    faults(&world).leave_free(None);
    world.close().await;
    let options = Options::new(SystemEntropy.bytes16());
    let (total, replayed) = (verified(&world), store::open(world.dir.path(), &options).unwrap().replayed);
    assert!(replayed < total, "the one that is recorded is used");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_lineage_that_is_to_be_locked_is_held_by_itself() {
    let Cornered { world, entity, caller, .. } = cornered().await;
    let other = world.enroll(world.person(entity, "EMPLOYEE", EvidenceKind::CitizenOrNational).await).await;
    let mut lineages = Vec::new();
    for caller in [&caller, &other] {
        let channel = world.connect_as(caller).await;
        world.renew(&channel, &key()).await.unwrap();
        lineages.push((channel, world.facts(&caller.certificate).step.lineage));
    }
    fill(&world).await;
    // Renewed again with another key, and again.
    for (channel, _) in [&lineages[0], &lineages[1], &lineages[0]] {
        refused(world.renew(channel, &key()).await, Code::PermissionDenied, "its lineage is locked");
    }
    let locked = |id| world.running().app().state().enforcement.locked.contains(id);
    assert!(!lineages.iter().any(|(_, id)| locked(id)));
    faults(&world).leave_free(None);
    opened(&world).await;
    assert!(lineages.iter().all(|(_, id)| locked(id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_when_the_service_ends_is_named_as_lost_and_not_claimed_later() {
    logs::keep();
    let Cornered { mut world, entity, caller, .. } = cornered().await;
    fill(&world).await;
    let suspend = Command::Suspend { target: SuspensionTarget::Entity(entity), reason: REASON };
    assert!(!world.restrict(suspend, pb::Wait::Committed).await.unwrap().durable);
    world.close().await;
    let line = logs::line_with(&["LOST", &entity.to_string()]);
    assert!(line.contains("Suspend") && line.contains("alice"), "{line}");
    faults(&world).leave_free(None);
    world.open().await;
    assert!(world.running().app().state().enforcement.suspended.is_empty());
    assert!(world.mythos(&caller.certificate).await.permit, "it must be entered again");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_sync_that_failed_nothing_is_permitted_or_recorded_until_a_restart() {
    let mut world = World::start().await;
    let entity = world.partner().await;
    let caller = world.enroll(world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await).await;
    let acknowledged = (*world.running().app().state()).clone();
    faults(&world).fail_sync();
    let mut portal = pb::provisioning_service_client::ProvisioningServiceClient::new(world.alice());
    let answer = portal.apply_entity(apply("Unknown Inc.")).await;
    refused(answer, Code::Unavailable, "the record cannot be written: a sync failed");
    denied(&world.mythos(&caller.certificate).await, "STATE_UNAVAILABLE");
    assert!(world.running().app().feed().closed().is_some());
    // The disk works again, but nobody knows what it holds: nothing is tried again.
    assert!(!world.restrict(stop(), pb::Wait::Committed).await.unwrap().durable);
    refused(portal.apply_entity(apply("Later Inc.")).await, Code::Unavailable, "cannot be written");
    denied(&world.mythos(&caller.certificate).await, "STATE_UNAVAILABLE");
    assert_eq!(*world.running().app().state(), acknowledged);

    world.close().await;
    let verified = store::verify_offline(world.dir.path(), &mut |_| ()).unwrap();
    assert!(verified.journal.torn.is_some(), "half of the frame is lost");
    assert_eq!(verified.state, Some(acknowledged.position.seq));
    world.open().await;
    let state = world.running().app().state();
    assert_eq!(state.entities, acknowledged.entities);
    assert!(state.enforcement.stops.is_empty());
    assert!(world.mythos(&caller.certificate).await.permit);
    portal = pb::provisioning_service_client::ProvisioningServiceClient::new(world.alice());
    portal.apply_entity(apply("Later Inc.")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_not_serving_while_a_restriction_is_held() {
    let Cornered { world, .. } = cornered().await;
    let stranger = world.connect(None).await;
    fill(&world).await;
    assert!(world.running().app().state_fault().is_none(), "decisions go on");
    becomes(&stranger, ServingStatus::Serving).await;
    assert!(!world.restrict(stop(), pb::Wait::Committed).await.unwrap().durable);
    becomes(&stranger, ServingStatus::NotServing).await;
    faults(&world).leave_free(None);
    opened(&world).await;
    becomes(&stranger, ServingStatus::Serving).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_not_serving_after_a_failed_sync_until_a_restart() {
    let mut world = World::start().await;
    let stranger = world.connect(None).await;
    becomes(&stranger, ServingStatus::Serving).await;
    faults(&world).fail_sync();
    let mut portal = pb::provisioning_service_client::ProvisioningServiceClient::new(world.alice());
    refused(portal.apply_entity(apply("Unknown Inc.")).await, Code::Unavailable, "a sync failed");
    becomes(&stranger, ServingStatus::NotServing).await;
    // The disk works again, but nobody knows what it holds.
    refused(portal.apply_entity(apply("Unknown Inc.")).await, Code::Unavailable, "a sync failed");
    assert!(matches!(world.running().app().journal().condition(), Condition::Closed(_)));
    assert_eq!(status(&stranger).await, ServingStatus::NotServing);
    world.close().await;
    world.open().await;
    becomes(&world.connect(None).await, ServingStatus::Serving).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_certificates_and_what_was_asked_for_is_issued_when_there_is_room() {
    let Cornered { world, entity, caller, .. } = cornered().await;
    let subject = world.person(entity, "EMPLOYEE", EvidenceKind::CitizenOrNational).await;
    let (token, first, next) = (world.token(subject).await, key(), key());
    let channel = world.connect_as(&caller).await;
    fill(&world).await;
    let before = world.running().app().state();
    for _ in 0..2 {
        let enrolled = world.redeem(&token, &first).await.unwrap_err();
        assert_eq!((enrolled.code(), reason(&enrolled).as_str()), (Code::Unavailable, "READ_ONLY"));
        let renewed = world.renew(&channel, &next).await.unwrap_err();
        assert_eq!((renewed.code(), reason(&renewed).as_str()), (Code::Unavailable, "READ_ONLY"));
    }
    assert_eq!(*world.running().app().state(), *before, "nothing is on record");
    faults(&world).leave_free(None);
    let certificate = world.redeem(&token, &first).await.unwrap();
    assert!(world.mythos(&certificate).await.permit);
    assert_eq!(world.redeem(&token, &first).await.unwrap(), certificate);
    refused(world.redeem(&token, &key()).await, Code::NotFound, "token");
    let renewed = world.renew(&channel, &next).await.unwrap();
    assert_eq!(world.facts(&renewed).step.generation, 2);
    assert!(world.mythos(&renewed).await.permit, "its lineage is not locked");
}

/// What a call is answered when the disk fills up after its first record.
async fn full_after_one<T>(world: &World, call: impl Future<Output = Result<T, Status>>) -> Status {
    let before = world.running().app().state().position.seq.0;
    let faults = faults(world);
    faults.let_syncs(Some(0));
    let fills = async {
        while !faults.waits() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        faults.leave_free(Some(0));
        faults.let_syncs(None);
    };
    let (answer, ()) = tokio::time::timeout(PATIENCE, async { tokio::join!(call, fills) }).await.unwrap();
    let Err(status) = answer else { panic!("it was done without room") };
    assert_eq!(world.running().app().state().position.seq.0, before + 1, "the intent alone is on record");
    faults.leave_free(None);
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_between_the_two_records_of_a_certificate_costs_nobody_theirs() {
    let world = World::start().await;
    let entity = world.partner().await;
    let subject = world.person(entity, "EMPLOYEE", EvidenceKind::CitizenOrNational).await;
    let (token, first, next) = (world.token(subject).await, key(), key());
    let status = full_after_one(&world, world.redeem(&token, &first)).await;
    assert_eq!(reason(&status), "READ_ONLY", "{status:?}");
    let certificate = world.redeem(&token, &first).await.unwrap();
    assert!(world.mythos(&certificate).await.permit);
    let caller = Caller { key: first, certificate };
    let channel = world.connect_as(&caller).await;
    let status = full_after_one(&world, world.renew(&channel, &next)).await;
    assert_eq!(reason(&status), "READ_ONLY", "{status:?}");
    let renewed = world.renew(&channel, &next).await.unwrap();
    assert_eq!(world.facts(&renewed).step.generation, 2);
    assert!(world.mythos(&renewed).await.permit, "its lineage is not locked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_commit_is_closed_after_four_mebibytes() {
    const GROUP_BYTES: usize = 4 << 20;
    let world = World::start().await;
    let app = world.running().app();
    let mut parts = app.state().bundle().parts().clone();
    parts.models[0].aliases.extend((0..4_000).map(|n| format!("{n:0128}")));
    let bytes = to_bytes(&app.prepare(Command::AdoptPolicy(Box::new(parts))));
    let signature = world.alice.approve(&bytes).signature.to_vec();
    let signed =
        SignedMandate { bytes, approvals: vec![Approval { officer: "alice".parse().unwrap(), signature }] };
    let caller = AppCaller { principal: Some("alice".parse().unwrap()), request: None };
    let before = app.state().position.seq;
    let faults = faults(&world);
    faults.let_syncs(Some(0));
    // The first is written alone; meanwhile the others queue up, more than the journal takes at once.
    let mut proposals: Vec<_> =
        (0..24).map(|_| Box::pin(app.submit(&caller, signed.clone(), Mode::Commit))).collect();
    let mut context = Context::from_waker(Waker::noop());
    assert!(proposals[0].as_mut().poll(&mut context).is_pending());
    let first = async {
        while !faults.waits() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, first).await.expect("the first is being written");
    for proposal in &mut proposals[1..] {
        assert!(proposal.as_mut().poll(&mut context).is_pending());
    }
    faults.let_syncs(None);
    for proposal in proposals {
        assert!(proposal.await.unwrap().durable);
    }
    let mut groups: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for record in app.journal().read(before.next(), 24).unwrap() {
        groups.entry(record.header.nonce).or_default().push(record.body.unwrap().len());
    }
    let lens: Vec<usize> = groups.values().map(Vec::len).collect();
    assert_eq!(lens.iter().sum::<usize>(), 24, "{lens:?}");
    assert!(lens.len() > 2 && lens[1] > 1, "they are grouped: {lens:?}");
    for group in groups.values() {
        let before_last = group[..group.len() - 1].iter().sum::<usize>();
        assert!(before_last < GROUP_BYTES, "it should have been closed before: {group:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_leaves_half_of_the_reserve_to_restrictions() {
    let mut world = World::start().await;
    let entity = world.partner().await;
    let caller = world.enroll(world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await).await;
    world.close().await;
    shrink(&world, 0);
    faults(&world).leave_free(Some(0));
    for _ in 0..3 {
        world.open().await;
        assert!(world.mythos(&caller.certificate).await.permit, "the start is on record, in the reserve");
        world.close().await;
    }
    world.open().await;
    let app = Arc::clone(world.running().app());
    let bytes = to_bytes(&app.prepare(hold(world.read(&caller.certificate).ordinal)));
    let signature = world.alice.approve(&bytes).signature.to_vec();
    let signed =
        SignedMandate { bytes, approvals: vec![Approval { officer: "alice".parse().unwrap(), signature }] };
    let mut holds = tokio::task::JoinSet::new();
    let left = || match app.journal().condition() {
        Condition::Open(space) => space.reserve,
        Condition::Closed(why) => panic!("{why}"),
    };
    while left() >= RESERVE_LEN / 2 {
        for _ in 0..100 {
            let (app, signed) = (Arc::clone(&app), signed.clone());
            let caller = AppCaller { principal: Some("alice".parse().unwrap()), request: None };
            holds.spawn(async move { app.submit(&caller, signed, Mode::Commit).await });
        }
        while let Some(done) = holds.join_next().await {
            assert!(done.unwrap().unwrap().durable);
        }
    }
    drop((app, holds));
    world.close().await;
    world.open().await;
    denied(&world.mythos(&caller.certificate).await, "STATE_UNAVAILABLE");
    assert!(world.restrict(stop(), pb::Wait::Committed).await.unwrap().durable, "the rest is for stops");
    denied(&world.mythos(&caller.certificate).await, "STATE_UNAVAILABLE");
    faults(&world).leave_free(None);
    opened(&world).await;
    assert_ne!(world.mythos(&caller.certificate).await.code, "STATE_UNAVAILABLE");
    world.close().await;
    store::verify_offline(world.dir.path(), &mut |_| ()).unwrap();
}
