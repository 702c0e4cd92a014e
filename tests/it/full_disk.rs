//! A small disk that is really full: what gives way, and what does not.

use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::time::Duration;

use countersign::app::store::verify_offline;
use countersign::domain::command::Command;
use countersign::domain::person::EvidenceKind;
use countersign::domain::revocation::{RevocationReason, StopScope};
use countersign::pb;
use tonic::Code;

use crate::calls::{apply, reason};
use crate::world::{World, copy_tree};

/// A busy machine may need many times what an event takes.
const LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);
/// The disk, and how much of it is kept for restrictions.
const DISK_MIB: u64 = 24;
const LOW_WATER: u64 = 4 << 20;

/// A file system of its own in memory: where mounting is not allowed, a folder whose journal is told how much is free.
enum Disk {
    Mounted(tempfile::TempDir),
    Told(tempfile::TempDir),
}

impl Disk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={DISK_MIB}m");
        let mounted =
            Process::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Self::Mounted(folder),
            Ok(_) | Err(_) => Self::Told(folder),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Mounted(folder) | Self::Told(folder) => folder.path(),
        }
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    /// Leaves so many bytes free.
    fn leave(&self, bytes: u64) {
        match self {
            Self::Mounted(folder) => {
                drop(std::fs::remove_file(self.filler()));
                let free = rustix_free(folder.path());
                let len = usize::try_from(free.saturating_sub(bytes)).unwrap();
                // A full disk takes what fits.
                drop(std::fs::write(self.filler(), vec![1; len]));
            }
            Self::Told(folder) => {
                countersign::journal::faulty::DiskFaults::at(&folder.path().join("journal"))
                    .leave_free(Some(bytes));
            }
        }
    }

    fn clear(&self) {
        match self {
            Self::Mounted(_) => std::fs::remove_file(self.filler()).unwrap(),
            Self::Told(folder) => {
                countersign::journal::faulty::DiskFaults::at(&folder.path().join("journal")).leave_free(None);
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Self::Mounted(folder) = self {
            drop(Process::new("umount").arg("-l").arg(folder.path()).output());
        }
    }
}

fn rustix_free(path: &Path) -> u64 {
    let output = Process::new("df").args(["--output=avail", "-B1"]).arg(path).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().nth(1).unwrap().trim().parse().unwrap()
}

fn len_of(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries.map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

async fn dropped_calls(world: &World, wanted: impl Fn(&[pb::Call]) -> bool) {
    let seen = async {
        loop {
            let mut audit = pb::audit_service_client::AuditServiceClient::new(world.alice());
            let request = pb::ListCallsRequest { page_size: 1_000, ..Default::default() };
            if wanted(&audit.list_calls(request).await.unwrap().into_inner().calls) {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(LIMIT, seen).await.expect("the audit says so");
}

/// Records until nothing more is: the journal may have room in its last segment, which was taken before.
async fn full(world: &World) -> tonic::Status {
    let mut portal = pb::provisioning_service_client::ProvisioningServiceClient::new(world.alice());
    let read_only = async {
        loop {
            if let Err(status) = portal.apply_entity(apply(&"x".repeat(900))).await {
                return status;
            }
        }
    };
    tokio::time::timeout(LIMIT, read_only).await.expect("it becomes read-only")
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_audit_and_reports_give_way_and_a_stop_is_recorded() {
    let mut world = World::start().await;
    let entity = world.partner().await;
    let mut ordinals = Vec::new();
    for _ in 0..4 {
        let person = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
        ordinals.push(world.read(&world.enroll(person).await.certificate).ordinal);
    }
    let gateway = world.gateway("gw-1").await;
    world.close().await;
    let disk = Disk::new();
    copy_tree(world.dir.path(), disk.path());
    world.settings.data = disk.path().to_owned();
    world.settings.keys = countersign::config::KeyFiles::of(disk.path());
    world.settings.low_water = LOW_WATER;
    world.open().await;
    let mut reporter = crate::reports::client(&world, &gateway).await;
    reporter.report_decisions(crate::reports::good()).await.unwrap();
    // Under the mark: nothing but restrictions is recorded, and neither reports nor calls are written.
    disk.leave(LOW_WATER / 2);
    let mut portal = pb::provisioning_service_client::ProvisioningServiceClient::new(world.alice());
    let status = full(&world).await;
    assert_eq!(reason(&status), "READ_ONLY");
    let again = pb::ReportDecisionsRequest { batch: 2, ..crate::reports::good() };
    assert_eq!(reporter.report_decisions(again.clone()).await.unwrap_err().code(), Code::Unavailable);
    let (calls, decisions) = (disk.path().join("calls"), disk.path().join("decisions"));
    let before = (len_of(&calls), len_of(&decisions));
    for _ in 0..20 {
        portal.apply_entity(apply("refused")).await.unwrap_err();
    }
    // The audit is written every second, and not now.
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!((len_of(&calls), len_of(&decisions)), before);
    }
    let hold = |ordinal| Command::Hold { ordinal, reason: RevocationReason::Drill };
    assert!(world.restrict(hold(ordinals[0]), pb::Wait::Committed).await.unwrap().durable);
    // Not a byte: restrictions go where room was taken for them.
    disk.leave(0);
    for ordinal in &ordinals[1..] {
        assert!(world.restrict(hold(*ordinal), pb::Wait::Committed).await.unwrap().durable, "{ordinal}");
    }
    let stop = Command::Stop { scope: StopScope::All, reason: RevocationReason::Drill };
    assert!(world.restrict(stop, pb::Wait::Committed).await.unwrap().durable);
    assert_eq!((len_of(&calls), len_of(&decisions)), before);
    // With room again everything goes on, and the refusals of meanwhile are in the audit, counted.
    disk.clear();
    dropped_calls(&world, |calls| {
        let refused = calls.iter().filter(|call| call.principal == "alice" && call.code == "UNAVAILABLE");
        refused.map(|call| call.count).sum::<u64>() >= 21
    })
    .await;
    portal.apply_entity(apply("later")).await.unwrap();
    reporter.report_decisions(again).await.unwrap();
    world.close().await;
    let verified = verify_offline(disk.path(), &mut |_| {}).unwrap();
    assert_eq!(verified.state, Some(verified.journal.head.seq));
    assert!(verified.calls.faults.is_empty(), "{:?}", verified.calls);
    world.open().await;
    assert!(world.running().app().state().enforcement.stops.contains(&StopScope::All));
    world.close().await;
    drop(disk);
}
