//! What outlives the process: the record, whatever the clock, the disk or a bit of it did meanwhile.

use countersign::app::store;
use countersign::domain::codec::{from_bytes, to_bytes};
use countersign::domain::command::Command;
use countersign::domain::decision::StateFault;
use countersign::domain::person::EvidenceKind;
use countersign::domain::revocation::{RevocationReason, StopScope};
use countersign::domain::state::State;
use countersign::domain::time::Now;
use countersign::env::{Clock as _, Entropy as _, SystemEntropy};
use countersign::journal::file::Options;
use countersign::journal::snapshot::{SnapshotId, SnapshotStore};
use countersign::pb;
use tonic::Code;

use crate::calls::{denied, key, refused};
use crate::world::{Caller, World};

const REASON: RevocationReason = RevocationReason::Drill;
const DAY_MS: u32 = 86_400_000;

async fn enrolled(world: &World) -> Caller {
    let entity = world.partner().await;
    world.enroll(world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await).await
}

fn stop() -> Command {
    Command::Stop { scope: StopScope::All, reason: REASON }
}

/// The record holds, whole, and the state of the running service is what it says.
pub(crate) fn verified(world: &World) -> u64 {
    let verified = store::verify_offline(world.dir.path(), &mut |_| ()).unwrap();
    verified.state.unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_changes_nothing() {
    let mut world = World::start().await;
    let caller = enrolled(&world).await;
    let mut before = (*world.running().app().state()).clone();
    for _ in 0..3 {
        world.close().await;
        // What a run completes of its logs is on record a moment after it began.
        assert!(verified(&world) >= before.position.seq.0);
        world.open().await;
        let mut after = (*world.running().app().state()).clone();
        assert!(after.position.seq > before.position.seq, "each run is on record");
        let position = after.position;
        (after.position, after.time) = (before.position, before.time);
        assert_eq!(after, before);
        before.position = position;
        assert!(world.mythos(&caller.certificate).await.permit);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_do_not_share_a_directory() {
    let world = World::start().await;
    let Err(error) = world.launch().await else { panic!("two servers on one directory") };
    assert!(error.to_string().contains("in use by another process"), "{error}");
    // The first is not disturbed.
    world.applicant().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_48_an_altered_record_is_located_and_stops_the_start() {
    let mut world = World::start().await;
    enrolled(&world).await;
    world.close().await;
    let segment = std::fs::read_dir(world.dir.path().join("journal"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"CSJRNSEG")))
        .min()
        .unwrap();
    let whole = std::fs::read(&segment).unwrap();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap();
    let altered = [4_096 + 60, (4_096 + end) / 2, end - 2_000].map(|at| {
        let mut bent = whole.clone();
        bent[at] ^= 0x10;
        bent
    });
    let mut removed = whole.clone();
    drop(removed.drain((4_096 + end) / 2..(4_096 + end) / 2 + 300));
    for bytes in altered.into_iter().chain([removed]) {
        std::fs::write(&segment, bytes).unwrap();
        let Err(error) = world.launch().await else { panic!("a damaged record was served") };
        let text = error.to_string();
        let name = segment.file_name().unwrap().to_str().unwrap();
        assert!(text.contains(&format!("segment {name} is damaged at byte ")), "{text}");
        assert!(text.contains(", record "), "{text}");
        assert!(store::verify_offline(world.dir.path(), &mut |_| ()).is_err());
    }
    std::fs::write(&segment, whole).unwrap();
    world.open().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_shortens_the_start_and_a_damaged_one_is_passed_over() {
    let mut world = World::start().await;
    let caller = enrolled(&world).await;
    let at = world.running().app().state().position.seq;
    world.running().app().take_snapshot().await;
    world.close().await;
    let replayed = |world: &World| {
        let options = Options::new(SystemEntropy.bytes16());
        store::open(world.dir.path(), &options).unwrap().replayed
    };
    let total = verified(&world);
    assert_eq!(replayed(&world), total - at.0);
    let snapshots: Vec<_> = std::fs::read_dir(world.dir.path().join("snapshots"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(snapshots.len(), 1);
    let mut bytes = std::fs::read(&snapshots[0]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&snapshots[0], bytes).unwrap();
    assert_eq!(replayed(&world), total);
    world.open().await;
    assert!(world.mythos(&caller.certificate).await.permit);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_snapshot_is_not_used() {
    crate::logs::keep();
    let mut world = World::start().await;
    let caller = enrolled(&world).await;
    let older = world.running().app().state().position.seq;
    world.running().app().take_snapshot().await;
    world.restrict(stop(), pb::Wait::Committed).await.unwrap();
    let newer = world.running().app().state().position.seq;
    world.running().app().take_snapshot().await;
    world.close().await;
    let total = verified(&world);
    let recovered = || {
        let store = store::open(world.dir.path(), &Options::new(SystemEntropy.bytes16())).unwrap();
        assert!(store.state.enforcement.stops.contains(&StopScope::All));
        store.replayed
    };
    assert_eq!(recovered(), total - newer.0);
    let snapshots = SnapshotStore::open(&world.dir.path().join("snapshots")).unwrap();
    let ids = snapshots.list().unwrap();
    assert_eq!(ids.iter().map(|id| id.seq).collect::<Vec<_>>(), [newer, older]);
    // Whole, with good checksums, of the right place, and without the stop.
    let forge = |id: &SnapshotId, mut state: State| {
        std::sync::Arc::make_mut(&mut state.enforcement).stops.clear();
        state.time = state.time.plus_ms(1);
        snapshots.store(id, &to_bytes(&state)).unwrap();
    };
    let stored = |id: &SnapshotId| from_bytes(&snapshots.load(id).unwrap().0).unwrap();
    forge(&ids[0], stored(&ids[0]));
    assert_eq!(recovered(), total - older.0, "the older one");
    crate::logs::line_with(&[&format!("seq={newer}"), "it is not the one that the record names"]);
    forge(&ids[1], stored(&ids[1]));
    assert_eq!(recovered(), total, "every record");
    let store = store::open(world.dir.path(), &Options::new(SystemEntropy.bytes16())).unwrap();
    let head = store.report.head;
    forge(&SnapshotId { epoch: head.epoch, seq: head.seq, root: head.root }, store.state.clone());
    drop(store);
    assert_eq!(recovered(), total, "every record");
    crate::logs::line_with(&[&format!("seq={}", head.seq), "the record does not say that it was stored"]);
    world.open().await;
    denied(&world.mythos(&caller.certificate).await, "EMERGENCY_STOP");
}

/// Has officers accept the clock as they see it.
async fn accept(world: &World) {
    world.enact(Command::AcceptClock(world.clock.now())).await.unwrap();
}

async fn closed_for_its_clock(world: &World, caller: &Caller) {
    denied(&world.mythos(&caller.certificate).await, "CLOCK_UNTRUSTED");
    let verified = world.verify(&caller.certificate).await;
    assert_eq!((verified.valid, verified.code.as_str()), (false, "CLOCK_UNTRUSTED"));
    let apply = crate::calls::apply("Late Inc.");
    let mut portal = pb::provisioning_service_client::ProvisioningServiceClient::new(world.alice());
    refused(portal.apply_entity(apply).await, Code::Unavailable, "the clock is not trusted");
    let channel = world.connect_as(caller).await;
    refused(world.renew(&channel, &key()).await, Code::Unavailable, "the clock is not trusted");
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_29_a_clock_that_went_back_closes_the_service_until_two_officers_accept_it() {
    let world = World::start().await;
    let caller = enrolled(&world).await;
    let back = world.clock.now().plus_ms(-6_000);
    world.clock.set_wall(back);
    closed_for_its_clock(&world, &caller).await;
    // Right again by itself is not enough: nobody knows what it did meanwhile.
    world.clock.set_wall(back.plus_ms(6_000));
    closed_for_its_clock(&world, &caller).await;
    world.clock.set_wall(back);
    // A stop needs no clock.
    let done = world.restrict(stop(), pb::Wait::Committed).await.unwrap();
    assert!(done.durable);
    // One officer's word is not enough.
    let mandate = world.mandate(&Command::AcceptClock(back)).await.unwrap();
    let proposed = world.submit(mandate.clone(), vec![world.alice.approve(&mandate)]).await.unwrap();
    assert_eq!(proposed.signatures_missing, 1);
    closed_for_its_clock(&world, &caller).await;
    // Nor are two for another time than the one that the server shows.
    let wrong = Command::AcceptClock(back.plus_ms(-86_400_000));
    refused(world.enact(wrong).await, Code::Aborted, "which is not the");
    closed_for_its_clock(&world, &caller).await;
    let request = pb::ApproveProposalRequest {
        proposal_id: proposed.proposal_id,
        approval: Some(world.bob.approve(&mandate)),
        ..Default::default()
    };
    let mut bob = pb::mandate_service_client::MandateServiceClient::new(world.bob());
    bob.approve_proposal(request).await.unwrap();
    world.enact(Command::ReleaseStop(StopScope::All)).await.unwrap();
    // By this clock, the entity is not listed yet.
    denied(&world.mythos(&caller.certificate).await, "CREDENTIAL_STALE");
    world.clock.advance_ms(6_000);
    assert!(world.mythos(&caller.certificate).await.permit);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_leapt_ahead_closes_the_service_too() {
    let world = World::start().await;
    let caller = enrolled(&world).await;
    world.clock.set_wall(world.clock.now().plus_ms(5_001));
    closed_for_its_clock(&world, &caller).await;
    accept(&world).await;
    assert!(world.mythos(&caller.certificate).await.permit);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_clock_is_accepted_after_a_restart_too() {
    const MINUTE_MS: i64 = 60_000;
    let mut world = World::start().await;
    world.clock.advance_ms(600_000);
    world.applicant().await;
    let last = world.clock.now();
    let fault = |world: &World| world.running().app().state_fault();
    // Nine minutes back, and some records under the accepted clock: their time stands still.
    world.clock.set_wall(last.plus_ms(-9 * MINUTE_MS));
    assert_eq!(fault(&world), Some(StateFault::ClockUntrusted));
    accept(&world).await;
    let accepted = world.clock.now();
    for _ in 0..3 {
        world.applicant().await;
        assert_eq!(world.running().app().state().time, last);
        world.close().await;
        world.clock.advance_ms(60_000);
        world.open().await;
        assert_eq!(fault(&world), None, "nobody is asked again");
    }
    // Back behind what was accepted is another matter.
    world.close().await;
    world.clock.set_wall(accepted.plus_ms(-MINUTE_MS - 1));
    world.open().await;
    assert_eq!(fault(&world), Some(StateFault::Unavailable));
    accept(&world).await;
    // Once the clock has passed the last record, that counts again.
    world.clock.advance_ms(900_000);
    world.applicant().await;
    assert!(world.running().app().state().time > last);
    world.close().await;
    world.clock.set_wall(last);
    world.open().await;
    assert!(fault(&world).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_a_day_ahead_does_not_take_the_record_with_it() {
    let world = World::start().await;
    let entity = world.partner().await;
    let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let caller = world.enroll(subject).await;
    let grant = world.running().app().state().entities[&entity].card.grants[0].id;
    let believed = world.clock.now().plus_ms(3_000);
    world.clock.advance_ms(3_000);
    world.clock.set_wall(believed.plus_ms(DAY_MS.into()));
    denied(&world.mythos(&caller.certificate).await, "CLOCK_UNTRUSTED");
    for command in [Command::EndGrant { entity, grant }, stop()] {
        let seq = world.restrict(command, pb::Wait::Committed).await.unwrap().position.unwrap().seq;
        let journal = world.running().app().journal();
        let record = journal.read(countersign::domain::id::Seq(seq), 1).unwrap().remove(0);
        assert_eq!(record.header.time, believed, "the time of record {seq}");
    }
    refused(
        world.enact(Command::ReleaseStop(StopScope::All)).await,
        Code::Unavailable,
        "the clock is not trusted",
    );
    denied(&world.mythos(&caller.certificate).await, "CLOCK_UNTRUSTED");
    accept(&world).await;
    world.enact(Command::ReleaseStop(StopScope::All)).await.unwrap();
    world.screen(entity).await;
    assert!(
        !world.running().app().state().entities[&entity].card.grants[0]
            .is_active(Now::exactly(world.clock.now()))
    );
    world.grant(entity).await;
    world.clock.advance_ms(2_000);
    let fresh = world.enroll(subject).await;
    assert!(world.mythos(&fresh.certificate).await.permit);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_after_eight_days_is_closed_until_the_clock_is_accepted() {
    let mut world = World::start().await;
    let entity = world.partner().await;
    let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let old = world.enroll(subject).await;
    world.close().await;
    world.clock.advance_ms(8 * DAY_MS);
    world.open().await;
    let code = world.mythos(&old.certificate).await.code;
    assert!(matches!(code.as_str(), "STATE_UNAVAILABLE" | "CLOCK_UNTRUSTED"), "{code}");
    let grant = world.running().app().state().entities[&entity].card.grants[0].clone();
    let grant = countersign::domain::grant::Grant {
        id: countersign::domain::id::GrantId::from_parts(world.clock.now(), SystemEntropy.bytes16()),
        ..grant
    };
    let answer = world.enact(Command::GrantModel { entity, grant }).await;
    refused(answer, Code::Unavailable, "the clock is not trusted");
    world.restrict(stop(), pb::Wait::Committed).await.unwrap();
    accept(&world).await;
    // The start itself is tried again every second; until it is on record nothing is permitted.
    let opened = async {
        while world.running().app().state_fault().is_some() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), opened).await.unwrap();
    world.enact(Command::ReleaseStop(StopScope::All)).await.unwrap();
    world.screen(entity).await;
    let fresh = world.enroll(subject).await;
    assert!(world.mythos(&fresh.certificate).await.permit);
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_28_a_start_on_a_full_disk_is_read_only_and_still_takes_a_stop() {
    let mut world = World::start().await;
    let caller = enrolled(&world).await;
    world.close().await;
    world.settings.low_water = u64::MAX;
    world.open().await;
    assert!(world.verify(&caller.certificate).await.valid, "what is known is still answered");
    assert!(world.mythos(&caller.certificate).await.permit);
    let apply = crate::calls::apply("No Room Inc.");
    let mut portal = pb::provisioning_service_client::ProvisioningServiceClient::new(world.alice());
    let status = portal.apply_entity(apply.clone()).await.unwrap_err();
    assert_eq!(crate::calls::reason(&status), "READ_ONLY");
    refused(Err::<(), _>(status), Code::Unavailable, "almost full");
    assert!(world.restrict(stop(), pb::Wait::Committed).await.unwrap().durable);
    world.close().await;
    world.open().await;
    denied(&world.mythos(&caller.certificate).await, "EMERGENCY_STOP");
    world.close().await;
    world.settings.low_water = 0;
    world.open().await;
    denied(&world.mythos(&caller.certificate).await, "EMERGENCY_STOP");
    portal = pb::provisioning_service_client::ProvisioningServiceClient::new(world.alice());
    portal.apply_entity(apply).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_on_a_full_disk_serves_with_the_certificate_that_it_has() {
    let mut world = World::start().await;
    let certificate = |world: &World| std::fs::read(world.dir.path().join("server-certificate.pem")).unwrap();
    let first = certificate(&world);
    // Past half of its life, in steps that need no officer to accept the clock.
    for _ in 0..2 {
        world.close().await;
        world.clock.advance_ms(6 * DAY_MS);
        world.open().await;
    }
    world.close().await;
    world.clock.advance_ms(6 * DAY_MS);
    world.settings.low_water = u64::MAX;
    let running = world.launch().await.unwrap();
    assert_eq!(running.app().state_fault(), None);
    running.stop().await;
    assert_eq!(certificate(&world), first);
    world.settings.low_water = 0;
    world.open().await;
    assert_ne!(certificate(&world), first, "renewed as soon as there is room");
}

/// Free bytes where the data directory is.
fn free(world: &World) -> u64 {
    let stat = rustix::fs::statvfs(world.dir.path()).unwrap();
    stat.f_bavail * stat.f_frsize
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_stops_changes_and_neither_decisions_nor_restrictions() {
    /// More than whatever else runs on this machine frees during the test.
    const MARGIN: u64 = 1 << 30;
    let mut world = World::start().await;
    let caller = enrolled(&world).await;
    world.close().await;
    world.settings.low_water = free(&world).saturating_sub(MARGIN);
    world.open().await;
    assert!(world.mythos(&caller.certificate).await.permit);
    let filler = std::fs::File::create(world.dir.path().join("filler")).unwrap();
    rustix::fs::fallocate(&filler, rustix::fs::FallocateFlags::empty(), 0, 2 * MARGIN).unwrap();
    let apply = crate::calls::apply("No Room Inc.");
    let mut portal = pb::provisioning_service_client::ProvisioningServiceClient::new(world.alice());
    let status = portal.apply_entity(apply.clone()).await.unwrap_err();
    assert_eq!(crate::calls::reason(&status), "READ_ONLY");
    assert!(world.mythos(&caller.certificate).await.permit, "decisions go on");
    assert!(world.verify(&caller.certificate).await.valid);
    let ordinal = world.read(&caller.certificate).ordinal;
    let hold = Command::Hold { ordinal, reason: REASON };
    assert!(world.restrict(hold, pb::Wait::Committed).await.unwrap().durable);
    denied(&world.mythos(&caller.certificate).await, "CREDENTIAL_HELD");
    let release = Command::ReleaseHold(ordinal);
    refused(world.enact(release.clone()).await, Code::Unavailable, "almost full");
    // Room again: everything goes on without a restart.
    filler.set_len(0).unwrap();
    portal.apply_entity(apply).await.unwrap();
    world.enact(release).await.unwrap();
    assert!(world.mythos(&caller.certificate).await.permit);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_as_fresh_as_asked_or_none() {
    let world = World::start().await;
    let caller = enrolled(&world).await;
    let position = world.running().app().state().position;
    let mut asked = crate::calls::question(&caller.certificate, "mythos-5");
    asked.min_position = Some(pb::Position { epoch: position.epoch.0, seq: position.seq.0 });
    assert!(world.ask_alice(asked.clone()).await.permit);
    asked.min_position = Some(pb::Position { epoch: position.epoch.0, seq: position.seq.0 + 1_000 });
    let mut client = pb::attestation_service_client::AttestationServiceClient::new(world.alice());
    refused(client.evaluate(asked).await, Code::Unavailable, "not at");
}
