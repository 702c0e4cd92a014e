//! The fire drill: yesterday's backup is restored after a revocation, and no gateway ever permits the revoked one.

use std::sync::Arc;
use std::time::Duration;

use countersign::app::Term;
use countersign::app::backup::restore;
use countersign::client::Gate;
use countersign::domain::command::Command;
use countersign::domain::enforce::bound_ms;
use countersign::domain::id::{AnnouncementId, BootId, Seq, SubjectId};
use countersign::domain::person::EvidenceKind;
use countersign::domain::revocation::{RevocationReason, RevocationScope, StopScope};
use countersign::domain::time::Timestamp;
use countersign::env::{Clock as _, Entropy as _, SystemEntropy};
use countersign::journal::file::Options;
use countersign::pb;
use countersign::pb::audit_service_client::AuditServiceClient;
use tonic::Code;

use crate::calls::refused;
use crate::gate::{PATIENCE, STRONG, config, connect, permits, question, revoke, until, world_with_employee};
use crate::world::World;

/// Everything but the keys, which are no part of a backup.
const RECORD: [&str; 4] = ["journal", "snapshots", "views", "decisions"];

fn begin_from(world: &World, backup: &std::path::Path) {
    for folder in RECORD {
        let path = world.dir.path().join(folder);
        if path.exists() {
            std::fs::remove_dir_all(path).unwrap();
        }
    }
    let options = Options::new(SystemEntropy.bytes16());
    let run = (BootId::from_parts(world.clock.now(), SystemEntropy.bytes16()), world.clock.now());
    let restored = restore((backup, world.dir.path()), &options, run, None, &mut |_| ()).unwrap();
    assert_eq!(restored.head.epoch.0, restored.from.epoch.0 + 1);
}

async fn shown(world: &World) -> pb::Restore {
    let mut client = AuditServiceClient::new(world.alice());
    client.get_restore(pb::GetRestoreRequest {}).await.unwrap().into_inner().restore.unwrap()
}

/// Denies each of them, looked at for some time.
async fn denies(gate: &Gate, leaves: &[&[u8]]) {
    for _ in 0..50 {
        assert!(leaves.iter().all(|leaf| !permits(gate, leaf)));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn yesterday_s_backup_un_revokes_nobody() {
    let (mut world, revoked) = world_with_employee().await;
    let entity = world.facts(&revoked).entity.entity;
    let colleague = world.person(entity, "EMPLOYEE", EvidenceKind::CitizenOrNational).await;
    let kept = world.enroll(colleague).await.certificate;
    let clock = Arc::clone(&world.clock);
    let port = world.running().address().port();
    let (first, second) = (world.gateway("gw-1").await, world.gateway("gw-2").await);
    let address = world.running().address();
    let gate = connect(&world, (&first, address), STRONG, &clock).await;
    gate.decide_or_ask(&revoked, &question("mythos-5")).await;
    until(&gate, &revoked, permits).await;
    world.close().await;
    let yesterday = world.copy_data();
    world.open_at(port).await;
    until(&gate, &revoked, |gate, _| gate.status().fault.is_none()).await;
    // Lost: a revocation, a stop, an announcement, and a certificate.
    let lost = world.enroll(colleague).await.certificate;
    let scope = StopScope::Model("fable-5".parse().unwrap());
    let stop = Command::Stop { scope, reason: RevocationReason::Drill };
    world.restrict(stop, pb::Wait::Committed).await.unwrap();
    let announced = announced(&world).await;
    let done = world.restrict(revoke(&world, &revoked), pb::Wait::Committed).await.unwrap();
    let lost_at = done.position.unwrap().seq;
    until(&gate, &revoked, |gate, _| gate.status().position.seq.0 >= lost_at).await;
    assert!(!permits(&gate, &revoked));
    until(&gate, &lost, permits).await;
    let number = world.running().app().trust_set(Term::Leased, None).await.unwrap().number;
    world.close().await;
    world.restore_data(&yesterday);
    begin_from(&world, yesterday.path());
    world.open_at(port).await;
    given_back(&world, &gate, &revoked).await;
    let restore = shown(&world).await;
    assert_eq!((restore.reports.len(), restore.reports[0].gateway.as_str()), (1, "gw-1"), "{restore:?}");
    assert!(restore.reports[0].applied_seq >= lost_at && restore.records_lost > 0, "{restore:?}");
    assert_eq!((restore.silent_gateways.as_slice(), restore.acknowledged_seq), (&["gw-2".to_owned()][..], 0));
    let fresh =
        Gate::connect(config(&world, (&second, world.running().address()), STRONG, &clock)).await.unwrap();
    clock.advance_ms(u32::try_from(bound_ms(10_000)).unwrap());
    for gate in [&gate, &fresh] {
        denies(gate, &[&revoked, &kept, &lost]).await;
    }
    assert!(!gate.decide_or_ask(&kept, &question("mythos-5")).await.is_permit, "nor does the server");
    let refused = world.enact(Command::ActivateEntity(world.provider)).await.unwrap_err();
    assert!(refused.message().contains("only restrictions are recorded"), "{}", refused.message());
    announcement_is_shown(&world, &restore, announced).await;
    // A restart forgets nothing of it.
    world.close().await;
    world.open_at(port).await;
    denies(&fresh, &[&revoked, &kept, &lost]).await;
    let restored = Seq(restore.position.unwrap().seq);
    world.enact(Command::AcknowledgeRestore { restored }).await.unwrap();
    clock.advance_ms(2_000);
    for gate in [&gate, &fresh] {
        gate.want(entity);
        until(gate, &kept, permits).await;
        denies(gate, &[&revoked, &lost]).await;
    }
    goes_on(&world, &fresh, (colleague, &lost)).await;
    let app = world.running().app();
    assert!(app.trust_set(Term::Leased, None).await.unwrap().number > number, "numbers of lists rise");
    let ordinal = app.read_certificate(&lost).unwrap().ordinal;
    assert!(app.state().enforcement.revoked.contains(ordinal), "what may have been issued is revoked");
    assert!((restore.first_ordinal..=restore.last_ordinal).contains(&ordinal.0), "{restore:?}");
    gate.shutdown().await;
    fresh.shutdown().await;
    world.close().await;
}

/// Of nobody here, in an hour.
async fn announced(world: &World) -> (AnnouncementId, Timestamp) {
    let (id, cut_at, announce) = world.announcement(RevocationScope::Entity(world.provider), 3_600_000);
    world.restrict(announce, pb::Wait::Committed).await.unwrap();
    (id, cut_at)
}

/// Its scope and why are lost; that it cuts, and when, is shown to whoever acknowledges, and afterwards.
async fn announcement_is_shown(
    world: &World,
    restore: &pb::Restore,
    (announcement, cut_at): (AnnouncementId, Timestamp),
) {
    let [announced] = restore.announcements.as_slice() else { panic!("{restore:?}") };
    assert_eq!(announced.announcement_id, announcement.to_string());
    assert_eq!(announced.cut_at, cut_at.to_string());
    let campaigns = world.running().app().renewal_campaigns().await.unwrap();
    let said: Vec<_> = campaigns.iter().map(|one| (one.scope.as_str(), one.reason)).collect();
    assert_eq!(said, [("given back by a gateway", None)]);
    let hasten = Command::HastenRevocation { announcement, cut_at: world.clock.now() };
    refused(world.enact(hasten).await, Code::NotFound, "announcement");
}

/// Closed to everybody, and the gateway gives back what it holds.
async fn given_back(world: &World, gate: &Gate, revoked: &[u8]) {
    let app = world.running().app();
    let collected = async {
        while app.state().restore.as_ref().unwrap().reports.is_empty() {
            assert!(!permits(gate, revoked), "un-revoked");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, collected).await.unwrap();
}

/// What was given back holds, and numbers go on beyond whatever may have been issued.
async fn goes_on(world: &World, gate: &Gate, (colleague, lost): (SubjectId, &[u8])) {
    let app = Arc::clone(world.running().app());
    let stop = StopScope::Model("fable-5".parse().unwrap());
    assert!(app.state().enforcement.stops.contains(&stop), "the stop is back");
    let next = world.enroll(colleague).await.certificate;
    let ordinal = |leaf: &[u8]| app.read_certificate(leaf).unwrap().ordinal;
    assert!(ordinal(&next).0 > ordinal(lost).0 + (1 << 20) - 1);
    until(gate, &next, permits).await;
}
